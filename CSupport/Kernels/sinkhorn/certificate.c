/* Values recomputed from a plan or from potentials, and the judgement that rests on them. */
#include "solver.h"

pk_outcome pk_sinkhorn_judged(const pk_sinkhorn_problem *p, const pk_sinkhorn_result *r) {
  if (r->outcome == PK_INTERRUPTED) return r->outcome;
  if (!isfinite(r->mass) || !isfinite(r->cost)) return PK_NON_FINITE;
  if (r->outcome != PK_CONVERGED) return r->outcome;
  /* sums of f32 products are good to about 3e-7; those of points are taken in f64 */
  const double least = p->type == PK_F64 || p->cost != PK_COST_MATRIX ? 1e-14 : 3e-7;
  if (!(r->error_l1 <= fmax(p->tolerance, least) * r->mass)) return PK_STALLED;
  /* Errors of marginals are weighted by potentials in the objective. Where potentials are large
   * (clusters far apart) the cost may be off by the gap although the marginals are good. */
  const double primal = r->cost + p->epsilon * r->entropy + r->penalty_source + r->penalty_target,
               gap = fabs(primal - r->dual),
               size = fmax(fabs(r->cost), 0.05 * p->epsilon * r->mass);
  return gap <= fmax(5e-4, 5 * p->tolerance) * size ? PK_CONVERGED : PK_STALLED;
}

/* The error of a side's condition, L1 returned and the largest element folded into *largest; the
 * penalty of a relaxed side to *penalty. */
static double side_error(const solver *s, int k, double *largest, double *penalty) {
  const solver_side *side = &s->problem.side[k];
  const double *sums = s->scratch.marginal[k], *w = side->weights, *t = s->dual.potential[k];
  double l1 = 0, kl = 0;
  for (idx i = 0; i < side->count; i++) {
    const double q = w[i], p = sums[i],
                 target = q > 0 && side->rule == PK_SIDE_RELAXED ? q * exp(-side->kappa * t[i]) : q,
                 e = side->rule == PK_SIDE_CAPPED ? fmax(p - q, 0) : fabs(p - target);
    l1 += e, *largest = fmax(*largest, e);
    kl += q - p + (p > 0 ? p * log(p / q) : 0);
  }
  *penalty = side->rule == PK_SIDE_RELAXED ? side->rho * kl : 0;
  return l1;
}

void solver_certificate(const solver *s, pk_sinkhorn_result *r) {
  const solver_side *side = s->problem.side;
  const double *costs = s->scratch.step[ROWS], *rows = s->scratch.marginal[ROWS],
               *columns = s->scratch.marginal[COLUMNS], *a = s->dual.potential[ROWS],
               *b = s->dual.potential[COLUMNS], z = s->dual.z;
  /* sum P (log P - 1) = sum P (a + b + z - C / epsilon) - sum P */
  r->mass = r->cost = r->entropy = 0;
  for (idx i = 0; i < side[ROWS].count; i++) {
    r->mass += rows[i], r->cost += costs[i];
    if (side[ROWS].weights[i] > 0) r->entropy += rows[i] * (a[i] + z);
  }
  for (idx j = 0; j < side[COLUMNS].count; j++)
    if (side[COLUMNS].weights[j] > 0) r->entropy += columns[j] * b[j];
  r->entropy -= r->cost / s->problem.epsilon + r->mass;
  r->dual = s->problem.epsilon * solver_dual_value(s, a, b, z, r->mass);
  r->error_linf = 0;
  const double error_a = side_error(s, ROWS, &r->error_linf, &r->penalty_source),
               error_b = side_error(s, COLUMNS, &r->error_linf, &r->penalty_target);
  r->error_l1 = fmax(error_a, error_b);
  if (solver_is_capped(s)) {
    const double e = fabs(r->mass - s->problem.options->mass);
    r->error_l1 = fmax(r->error_l1, e), r->error_linf = fmax(r->error_linf, e);
  }
  r->z = z;
}

static int converts_cost(const pk_sinkhorn_problem *p) {
  return p->cost == PK_COST_MATRIX && p->type == PK_F32;
}

ptrdiff_t pk_sinkhorn_certify_scratch(const pk_sinkhorn_problem *p) {
  solver s;
  return solver_layout(&s, p, PK_F64, 1, NULL) + (converts_cost(p) ? 8 * p->n * p->m : 0) + 128;
}

/* The sums of a plan that is given, as solver_plan leaves them; returns sum P log P. */
static double sums_of_given_plan(solver *s, const void *plan, const double *cost) {
  const idx blocks = s->kernel.blocks, stride = s->kernel.stride, n = s->problem.side[ROWS].count,
            m = s->problem.side[COLUMNS].count;
  const pk_type type = s->problem.options->type;
  double *entropies = s->dual.scaling[ROWS], *rows = s->scratch.marginal[ROWS],
         *columns = s->scratch.marginal[COLUMNS], *costs = s->scratch.step[ROWS];
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx q = 0; q < blocks; q++) {
    double *block_sums = s->scratch.block_sums + q * stride;
    memset(block_sums, 0, (size_t)stride * 8);
    for (idx i = solver_block(s, q); i < solver_block(s, q + 1); i++) {
      double mass = 0, moved = 0, entropy = 0;
      for (idx j = 0; j < m; j++) {
        const double t = pk_read(plan, type, i * m + j);
        if (t == 0) continue; /* of a forbidden pair, too */
        mass += t, moved += t * cost[i * m + j], entropy += t * log(t), block_sums[j] += t;
      }
      rows[i] = mass, costs[i] = moved, entropies[i] = entropy;
    }
  }
  double entropy = 0;
  for (idx i = 0; i < n; i++) entropy += entropies[i];
  for (idx j = 0; j < m; j++) {
    columns[j] = 0;
    for (idx q = 0; q < blocks; q++) columns[j] += s->scratch.block_sums[q * stride + j];
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
  const idx bytes = solver_layout(&s, p, PK_F64, 1, scratch);
  if (converts_cost(p)) {
    double *cost = align_to_line((char *)scratch + bytes);
    for (idx i = 0; i < p->n * p->m; i++) cost[i] = ((const float *)x)[i];
    x = cost;
  }
  solver_bind(&s, x, y, mu, nu);
  solver_set_epsilon(&s, p->epsilon);
  solver_set_potentials(&s, a, b, z);
  double entropy = 0;
  if (plan)
    entropy = sums_of_given_plan(&s, plan, x);
  else
    solver_plan(&s, 1, 0, NULL);
  solver_certificate(&s, result);
  if (plan) result->entropy = entropy - result->mass;
  result->outcome = pk_sinkhorn_judged(p, result);
  return PK_OK;
}
