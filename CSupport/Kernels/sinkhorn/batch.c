/* Batches: many small problems are given to threads whole. */
#include "solver.h"

static ptrdiff_t bytes_each(const pk_sinkhorn_problem *p) {
  return (pk_sinkhorn_scratch(p) + 63) / 64 * 64;
}

/* Whether each item is solved by one thread: when there are many, or they are too small to
 * share. */
static int solves_whole(const pk_sinkhorn_problem *p, idx count) {
  return !omp_in_parallel() && pk_threads() > 1 && count > 1 &&
         (count >= 2 * pk_threads() || p->n * p->m < 65536);
}

ptrdiff_t pk_sinkhorn_batch_scratch(const pk_sinkhorn_problem *p, ptrdiff_t count) {
  return bytes_each(p) * (solves_whole(p, count) ? pk_threads() : 1);
}

pk_status pk_sinkhorn_solve_batch(const pk_sinkhorn_problem *p, ptrdiff_t count,
                                  const pk_sinkhorn_strides *strides, const void *x, const void *y,
                                  const double *mu, const double *nu, void *plan, double *a,
                                  double *b, pk_sinkhorn_result *results, void *scratch) {
  const idx bytes = bytes_each(p);
  int bad = 0;
#pragma omp parallel for schedule(static) if (solves_whole(p, count)) reduction(| : bad)
  for (idx k = 0; k < count; k++)
    bad |= pk_sinkhorn_solve(p, pk_at(x, p->type, k * strides->x),
                             y ? pk_at(y, p->type, k * strides->y) : NULL, mu + k * strides->mu,
                             nu + k * strides->nu,
                             plan ? pk_at(plan, p->type, k * strides->plan) : NULL,
                             a + k * strides->a, b + k * strides->b, results + k,
                             (char *)scratch + omp_get_thread_num() * bytes) != PK_OK;
  return bad ? PK_BAD_SHAPE : PK_OK;
}
