/* State shared by the scaling solver, its Newton step and the gradient. */
#ifndef PK_SOLVER_H
#define PK_SOLVER_H
#include "wide.h"
#define SOLVER_BLOCKS 16
typedef struct {
  const pk_sinkhorn_problem *p;
  const wide_kernels *w;
  const double *cost, *mu, *nu;
  idx n, m, ld, blocks;
  double eps, kappa_a, kappa_b, phi_a, phi_b; /* of the current level */
  double *k;                                  /* stored kernel, or the plan itself */
  double *a, *b, z;                           /* potentials behind the kernel */
  double *alpha, *beta, zeta;                 /* scalings since */
  double *pa, *qa, *pb, *qb;                  /* the update rules' constants */
  double *acc;                                /* [blocks, ld] */
  double *block_change, *block_mass;          /* [blocks] */
  double *ra, *rb, *da, *db;                  /* gradients and diagonals of the linear system */
  double *x, *y, *res, *dir, *out;            /* its vectors; of y's size + 8, the last for z */
  double *ta, *tb;                            /* trial potentials */
  double range; /* of the costs */
  double damping; /* of Newton steps, relative to the diagonal */
  idx passes;
} solver;

double *solver_layout(solver *s, const pk_sinkhorn_problem *p, double *scratch); /* returns the end */
/* One pass with a row rule; column sums times zeta go to s->out. */
void solver_pass(solver *s, const wide_pass *w, double *change, double *mass);
/* Solves the system with right-hand sides ra, rb, rz and diagonals da, db (0: inactive) over the plan in s->k whose row sums are
 * alpha and column sums beta; use_z adds the total. x and y hold the solution, the return value is z's. */
double solver_linear(solver *s, int use_z, double total, double rz, double tolerance, idx limit, double *residual);
static inline const wide_kernels *wide_select(void) {
#if defined(__x86_64__)
  switch (pk_isa_current()) {
    case PK_ISA_AVX512: return &wide_avx512;
    case PK_ISA_AVX2: return &wide_avx2;
    default: break;
  }
#endif
  return &wide_scalar;
}
static inline int solver_parallel(const solver *s) { return s->n * s->ld > PK_SERIAL; }
#endif
