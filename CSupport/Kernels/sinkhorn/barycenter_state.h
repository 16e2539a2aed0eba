/* State of a barycenter solve (pk_barycenter.h), shared by barycenter.c and
 * barycenter_iterate.c. */
#ifndef PK_BARYCENTER_STATE_H
#define PK_BARYCENTER_STATE_H
#include "solver.h"

/* One plan: of histogram k with the barycenter, or (debiased, the last) of the barycenter with
 * itself, whose weights are NULL and whose g is l. */
typedef struct {
  idx n;
  const double *cost, *weights;
  double share;         /* w_k */
  double *kernel, *own; /* exp(phi + gamma - C / eps) [n, ld]: a shared one or its own */
  double *phi, *alpha;  /* [n] */
  /* [ld]; h: LSE_i(f - C / eps), of the last plan LSE_j(l - D / eps) */
  double *gamma, *beta, *g, *h, *out;
  double *acc;       /* [blocks, ld] */
  update_sums *sums; /* [blocks] */
  /* [chunks]: low, high and bad of the sums behind h; change: |P' 1 - a| */
  update_sums *chunks;
} barycenter_plan;

typedef struct {
  const pk_barycenter_problem *p;
  const vector_kernels *vectors;
  idx m, ld, blocks, chunks, plans;
  barycenter_plan *plan;
  double *a, *zeros, *ones, *top; /* [ld], [rows], [rows], [blocks, ld] */
  double *shared;                 /* the kernel of a shared cost */
} barycenter_state;

/* First row of block q of a plan. */
static inline idx barycenter_block(const barycenter_state *s, const barycenter_plan *t, idx q) {
  const idx at = (t->n + 7) / 8 * q / s->blocks * 8;
  return at < t->n ? at : t->n;
}

static inline int barycenter_on(const barycenter_plan *t, idx i) {
  return !t->weights || t->weights[i] > 0;
}

static inline int barycenter_parallel(const barycenter_state *s, idx rows) {
  return !omp_in_parallel() && rows * s->ld > PK_SERIAL;
}

/* The kernel of phi and gamma, with scalings 1 of the rows. */
void barycenter_build(barycenter_state *s, barycenter_plan *t, double *kernel);
/* phi = f and h from g by logarithms, then a kernel of the plan's own around them. */
void barycenter_by_logarithms(barycenter_state *s, barycenter_plan *t);
void barycenter_absorb(barycenter_state *s, barycenter_plan *t);
/* One iteration, over-relaxed by omega. Returns the residual. */
double barycenter_iterate(barycenter_state *s, int is_first, double omega);
#endif
