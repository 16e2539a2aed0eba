#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"

static idx longest(const pk_token_shape *s) {
  idx n = 0;
  for (idx p = 0; p < s->pairs; p++)
    n = s->starts[p + 1] - s->starts[p] > n ? s->starts[p + 1] - s->starts[p] : n;
  return n;
}

static idx area(const pk_token_shape *s) {
  const idx n = longest(s), mp = (s->columns + 63) / 64 * 64, np = (n + 15) / 16 * 16;
  return (n + 8) * mp + 4 * np + 16 * n;
}

ptrdiff_t pk_token_plan_scratch(const pk_token_shape *s) { return area(s) * pk_threads(); }

pk_status pk_token_plan(pk_type type, const pk_token_shape *s, const void *attention,
                        const void *semantic, void *plan, void *cost, void *raw,
                        int32_t *iterations, double *delta, double *total, void *scratch) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (s->side < 1 || (s->columns - 1) % (s->side * s->side) || !(s->epsilon > 0) ||
      !((s->exact_mass ? s->mass : s->marginal_exponent) > 0) || s->max_iterations < 1)
    return PK_BAD_SHAPE;
  const idx tasks = s->pairs * s->heads, each = area(s);
#pragma omp parallel for schedule( \
        static) if (tasks > 1 && (idx)s->starts[s->pairs] * s->heads * s->columns > PK_SERIAL)
  for (idx q = 0; q < tasks; q++)
    k->token_plan(s, q / s->heads, q % s->heads, attention, semantic, plan, cost, raw,
                  iterations + q, delta + q, total + q,
                  pk_at(scratch, type, each * omp_get_thread_num()));
  return PK_OK;
}

/* Keys in blocks of fixed size, so that which two share a step does not depend on the threads. */
#define COSINE_BLOCK 32

pk_status pk_cosine_cost(pk_type type, ptrdiff_t n, ptrdiff_t m, ptrdiff_t d, const void *q,
                         const void *k, void *y, void *scratch) {
  const pk_kernels *t = pk_select(type);
  if (!t) return PK_BAD_TYPE;
  for (idx i = 0; i < n; i++) t->unit_row(d, pk_at(q, type, i * d), pk_at(scratch, type, i * d));
#pragma omp parallel for schedule(static) if (n * m * d > PK_SERIAL)
  for (idx j = 0; j < m; j += COSINE_BLOCK)
    t->cosine_cost(n, m, d, j, j + COSINE_BLOCK < m ? j + COSINE_BLOCK : m, scratch, k, y);
  return PK_OK;
}
