#include "../isa/kernels.h"

/* Elements of a body's call, whose sum is made in the lanes of the type. */
#define RUN 4096

/* The arrays of a loss, and which one: 0 weighted l1 + l2 / 2, 1 Huber, 2 squared (the body's);
 * NORMAL: the sample of a diagonal normal and its KL divergence. NULL arrays stay NULL. */
enum { NORMAL = 3 };

typedef struct {
  int kind;
  double c;
  const void *x, *target, *weight;
  void *out;
} loss_arrays;

static const void *at(const void *p, pk_type type, idx j) { return p ? pk_at(p, type, j) : NULL; }

/* The sum over elements [j, j + m). */
static double run_sum(const pk_kernels *k, pk_type type, const loss_arrays *a, idx j, idx m) {
  const void *x = at(a->x, type, j), *target = at(a->target, type, j),
             *weight = at(a->weight, type, j);
  void *out = (void *)at(a->out, type, j);
  return a->kind == NORMAL ? k->normal_sample(m, x, target, weight, out)
                           : k->loss(a->kind, m, a->c, x, target, weight, out);
}

/* The sum over fixed blocks, added in order. */
static double sum_of_blocks(pk_type type, idx n, loss_arrays a) {
  const pk_kernels *k = pk_select(type);
  if (!k || n <= 0) return 0;
  double part[PK_BLOCKS];
#pragma omp parallel for schedule(static) if (n > PK_SERIAL)
  for (idx b = 0; b < PK_BLOCKS; b++) {
    part[b] = 0;
    for (idx j = PK_LO(b, n); j < PK_HI(b, n); j += RUN)
      part[b] += run_sum(k, type, &a, j, MIN(PK_HI(b, n) - j, RUN));
  }
  double total = 0;
  for (int b = 0; b < PK_BLOCKS; b++) total += part[b];
  return total;
}

double pk_loss_weighted_l1l2(pk_type type, idx n, const void *x, const void *target,
                             const void *weight, void *dx) {
  return sum_of_blocks(type, n, (loss_arrays){0, 0, x, target, weight, dx});
}

double pk_loss_huber(pk_type type, idx n, double c, const void *x, const void *target, void *dx) {
  return sum_of_blocks(type, n, (loss_arrays){1, c, x, target, NULL, dx});
}

double pk_loss_squared(pk_type type, idx n, const void *x, const void *target, void *dx) {
  return sum_of_blocks(type, n, (loss_arrays){2, 0, x, target, NULL, dx});
}

double pk_normal_sample(pk_type type, idx n, const void *mean, const void *logvar,
                        const void *noise, void *z) {
  return sum_of_blocks(type, n, (loss_arrays){NORMAL, 0, mean, logvar, noise, z});
}

pk_status pk_normal_backward(pk_type type, idx n, double weight, const void *dz, const void *mean,
                             const void *logvar, const void *noise, void *dmean, void *dlogvar) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
#pragma omp parallel for schedule(static) if (n > PK_SERIAL)
  for (idx j = 0; j < n; j += RUN)
    k->normal_backward(MIN(n - j, RUN), weight, pk_at(dz, type, j), pk_at(mean, type, j),
                       pk_at(logvar, type, j), pk_at(noise, type, j), pk_at(dmean, type, j),
                       pk_at(dlogvar, type, j));
  return PK_OK;
}
