/* Checks of the arrays of a transport problem (pk_problem.h). */
#include "../isa/kernels.h"

/* The bits of an exponent that is all ones mean infinity or NaN. Found block by block, then
 * looked for in the block. */
#define FIRST_NOT_FINITE(name, real, bits, mask) \
  static ptrdiff_t name(ptrdiff_t count, const real *x) { \
    const ptrdiff_t block = 4096, blocks = (count + block - 1) / block; \
    ptrdiff_t first = count; \
    _Pragma("omp parallel for schedule(static) reduction(min : first) if (blocks > 64)") for ( \
        ptrdiff_t k = 0; k < blocks; k++) { \
      const ptrdiff_t end = (k + 1) * block < count ? (k + 1) * block : count; \
      bits bad = 0; \
      for (ptrdiff_t i = k * block; i < end; i++) { \
        bits b; \
        memcpy(&b, x + i, sizeof b); \
        bad |= (bits)((b & mask) == mask); \
      } \
      for (ptrdiff_t i = k * block; bad && i < end; i++) \
        if (!isfinite(x[i]) && i < first) first = i; \
    } \
    return first; \
  }
FIRST_NOT_FINITE(first_not_finite_f64, double, uint64_t, 0x7ff0000000000000ull)
FIRST_NOT_FINITE(first_not_finite_f32, float, uint32_t, 0x7f800000u)

static const pk_fault none = {.kind = PK_FAULT_NONE};

ptrdiff_t pk_first_not_finite(pk_type type, ptrdiff_t count, const void *x) {
  return type == PK_F64 ? first_not_finite_f64(count, x) : first_not_finite_f32(count, x);
}

pk_fault pk_check_finite(const char *name, pk_type type, ptrdiff_t count, const void *x) {
  const idx i = pk_first_not_finite(type, count, x);
  if (i == count) return none;
  return (pk_fault){
      .kind = PK_FAULT_NOT_FINITE, .name = name, .index = i, .value = pk_read(x, type, i)};
}

pk_fault pk_check_costs(const char *name, pk_type type, ptrdiff_t count, const void *x,
                        int *forbids) {
  for (idx i = pk_first_not_finite(type, count, x); i < count; i++) {
    const double value = pk_read(x, type, i);
    *forbids |= value == INFINITY;
    if (isnan(value) || value == -INFINITY)
      return (pk_fault){.kind = PK_FAULT_COST, .name = name, .index = i, .value = value};
  }
  return none;
}

pk_fault pk_check_directions(const char *name, pk_type type, ptrdiff_t n, ptrdiff_t d,
                             const void *x) {
  for (idx i = 0; i < n; i++) {
    int is_zero = 1;
    for (idx k = i * d; is_zero && k < (i + 1) * d; k++) is_zero = pk_read(x, type, k) == 0;
    if (is_zero) return (pk_fault){.kind = PK_FAULT_ZERO_VECTOR, .name = name, .index = i};
  }
  return none;
}

pk_fault pk_check_symmetric(const char *name, pk_type type, ptrdiff_t n, const void *x) {
  double most = 0;
  for (idx k = 0; k < n * n; k++) most = fmax(most, fabs(pk_read(x, type, k)));
  for (idx i = 0; i < n; i++)
    for (idx j = 0; j < i; j++)
      if (fabs(pk_read(x, type, i * n + j) - pk_read(x, type, j * n + i)) > 1e-6 * most)
        return (pk_fault){.kind = PK_FAULT_ASYMMETRIC, .name = name, .index = j, .other = i};
  return none;
}

pk_fault pk_check_pairs(const pk_sinkhorn_problem *p, const void *cost, const double *mu,
                        const double *nu, void *scratch) {
  const int is_capped = p->side_source == PK_SIDE_CAPPED,
            is_hard = p->side_source == PK_SIDE_HARD && p->side_target == PK_SIDE_HARD;
  const idx at = is_capped ? p->n + p->m : pk_sinkhorn_partner(p, cost, mu, nu);
  if (at < p->n + p->m)
    return (pk_fault){.kind = PK_FAULT_NO_PARTNER,
                      .name = at < p->n ? "source" : "target",
                      .index = at < p->n ? at : at - p->n};
  if (!is_hard && !is_capped) return none;
  double asked = is_capped ? p->mass : 0;
  for (idx i = 0; is_hard && i < p->n; i++) asked += mu[i];
  /* 1e-9: the flow leaves out what is below 1e-13 of the mass in each element */
  if (pk_sinkhorn_feasible(p, cost, mu, nu, scratch) < asked * (1 - 1e-9))
    return (pk_fault){.kind = PK_FAULT_INFEASIBLE};
  return none;
}
