/* What a plan amounts to when everything is computed in f64. */
#include "solver.h"

pk_outcome pk_sinkhorn_judged(const pk_sinkhorn_problem *p, const pk_sinkhorn_result *r) {
  if (r->outcome == PK_INTERRUPTED) return r->outcome;
  if (!isfinite(r->mass) || !isfinite(r->cost)) return PK_NON_FINITE;
  if (r->outcome != PK_CONVERGED) return r->outcome;
  /* sums of f32 products carry about 3e-7; those of points are taken in f64 */
  const double least = p->type == PK_F64 || p->cost != PK_COST_MATRIX ? 1e-14 : 3e-7;
  if (!(r->error_l1 <= fmax(p->tolerance, least) * r->mass)) return PK_STALLED;
  /* Marginals that are off where potentials are large, clusters far apart, leave a cost that is off
   * by the gap. */
  const double gap =
                   fabs(r->cost + p->epsilon * r->entropy + r->penalty_a + r->penalty_b - r->dual),
               size = fmax(fabs(r->cost), 0.05 * p->epsilon * r->mass);
  return gap <= fmax(5e-4, 5 * p->tolerance) * size ? PK_CONVERGED : PK_STALLED;
}

void solver_potentials(solver *s, const double *a, const double *b, double z) {
  for (idx i = s->rows - 1; i >= 0; i--) s->a[i] = i < s->n ? a[i] : PK_LOG_ZERO;
  for (idx j = s->ld - 1; j >= 0; j--) s->b[j] = j < s->m ? b[j] : PK_LOG_ZERO;
  s->z = z;
}

ptrdiff_t pk_sinkhorn_certify_scratch(const pk_sinkhorn_problem *p) {
  solver s;
  return solver_layout(&s, p, PK_F64, 1, NULL) +
         (p->cost == PK_COST_MATRIX && p->type == PK_F32 ? 8 * p->n * p->m : 0) + 128;
}

/* The sums of a plan that is given, as solver_plan leaves them, and sum P log P. */
static double given_plan(solver *s, const void *plan, const double *cost) {
  const idx blocks = s->blocks, ld = s->ld, m = s->m;
  const pk_type type = s->p->type;
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx q = 0; q < blocks; q++) {
    double *acc = s->acc + q * ld;
    memset(acc, 0, (size_t)ld * 8);
    for (idx i = solver_block(s, q); i < solver_block(s, q + 1); i++) {
      double mass = 0, moved = 0, entropy = 0;
      for (idx j = 0; j < m; j++) {
        const double t = pk_read(plan, type, i * m + j);
        if (t == 0) continue; /* of a forbidden pair, too */
        mass += t, moved += t * cost[i * m + j], entropy += t * log(t), acc[j] += t;
      }
      s->ta[i] = mass, s->u[i] = moved, s->alpha[i] = entropy;
    }
  }
  double entropy = 0;
  for (idx i = 0; i < s->n; i++) entropy += s->alpha[i];
  for (idx j = 0; j < m; j++) {
    s->tb[j] = 0;
    for (idx q = 0; q < blocks; q++) s->tb[j] += s->acc[q * ld + j];
  }
  return entropy;
}

pk_status pk_sinkhorn_certify(const pk_sinkhorn_problem *p, const void *x, const void *y,
                              const double *mu, const double *nu, const void *plan, const double *a,
                              const double *b, double z, pk_sinkhorn_result *result,
                              void *scratch) {
  if (p->n < 1 || p->m < 1 || !(p->epsilon > 0) || (plan && p->cost != PK_COST_MATRIX))
    return PK_BAD_SHAPE;
  solver s;
  double *wide =
      (double *)(((uintptr_t)scratch + (uintptr_t)solver_layout(&s, p, PK_F64, 1, scratch) + 63) /
                 64 * 64);
  if (p->cost == PK_COST_MATRIX && p->type == PK_F32) {
    for (idx i = 0; i < p->n * p->m; i++) wide[i] = ((const float *)x)[i];
    x = wide;
  }
  solver_bind(&s, x, y, mu, nu);
  solver_level(&s, p->epsilon);
  solver_potentials(&s, a, b, z);
  const double entropy = plan ? given_plan(&s, plan, x) : (solver_plan(&s, 1, 0, NULL), 0);
  solver_certificate(&s, result);
  if (plan) result->entropy = entropy - result->mass;
  result->outcome = pk_sinkhorn_judged(p, result);
  return PK_OK;
}
