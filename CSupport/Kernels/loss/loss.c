#include "../isa/kernels.h"

#define RUN 4096
/* The sum over fixed runs of RUN elements, folded in order. */
#define FOLD(CALL) \
  const pk_kernels *k = pk_select(type); \
  if (!k || n <= 0) return 0; \
  double part[PK_BLOCKS]; \
  _Pragma("omp parallel for schedule(static) if (n > PK_SERIAL)") for (idx b = 0; b < PK_BLOCKS; \
                                                                       b++) { \
    part[b] = 0; \
    for (idx j = PK_LO(b, n); j < PK_HI(b, n); j += RUN) { \
      const idx m = PK_HI(b, n) - j < RUN ? PK_HI(b, n) - j : RUN; \
      part[b] += CALL; \
    } \
  } \
  double total = 0; \
  for (int b = 0; b < PK_BLOCKS; b++) total += part[b]; \
  return total;
#define AT(p) ((p) ? pk_at(p, type, j) : NULL)

double pk_loss_weighted_l1l2(pk_type type, idx n, const void *x, const void *target,
                             const void *weight, void *dx) {
  FOLD(k->loss(0, m, 0, AT(x), AT(target), AT(weight), AT(dx)))
}

double pk_loss_huber(pk_type type, idx n, double c, const void *x, const void *target, void *dx) {
  FOLD(k->loss(1, m, c, AT(x), AT(target), NULL, AT(dx)))
}

double pk_loss_squared(pk_type type, idx n, const void *x, const void *target, void *dx) {
  FOLD(k->loss(2, m, 0, AT(x), AT(target), NULL, AT(dx)))
}

double pk_normal_sample(pk_type type, idx n, const void *mean, const void *logvar,
                        const void *noise, void *z){
    FOLD(k -> normal_sample(m, AT(mean), AT(logvar), AT(noise), AT(z)))} pk_status
    pk_normal_backward(pk_type type, idx n, double weight, const void *dz, const void *mean,
                       const void *logvar, const void *noise, void *dmean, void *dlogvar) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
#pragma omp parallel for schedule(static) if (n > PK_SERIAL)
  for (idx j = 0; j < n; j += RUN)
    k->normal_backward(n - j < RUN ? n - j : RUN, weight, AT(dz), AT(mean), AT(logvar), AT(noise),
                       AT(dmean), AT(dlogvar));
  return PK_OK;
}
