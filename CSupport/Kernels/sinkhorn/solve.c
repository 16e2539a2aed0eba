/* Solves, and goes on until the certificate agrees with what the iteration calls converged. */
#include "solver.h"

/* A solver of f32 points becomes one in f64, which judges the result by distances in f64 and
 * goes on where f32 could not reach the tolerance. a and b hold the potentials meanwhile. */
static void continue_in_f64(solver *s, double *a, double *b, char *scratch, pk_sinkhorn_result *r) {
  const pk_sinkhorn_problem *p = s->problem.options;
  solver_fold_scalings(s);
  const double z = s->dual.z;
  const idx passes = s->passes;
  memcpy(a, s->dual.potential[ROWS], (size_t)p->n * sizeof(double));
  memcpy(b, s->dual.potential[COLUMNS], (size_t)p->m * sizeof(double));
  solver_reopen_in_f64(s, 1, scratch);
  s->passes = passes;
  if (r->outcome == PK_NON_FINITE) {
    r->outcome = solver_descend(s, &r->residual);
    return;
  }
  solver_set_epsilon(s, p->epsilon);
  solver_set_potentials(s, a, b, z);
  if (r->outcome == PK_STALLED)
    r->outcome = solver_run_level(s, p->tolerance, p->max_iterations, 0, 1, &r->residual);
  else
    solver_reset_scalings(s);
}

/* The plan and its certificate. */
static void finish(solver *s, void *plan, pk_sinkhorn_result *r) {
  if (s->kernel.is_points) solver_fold_scalings(s);
  /* where no more digits are asked for than exponentials to 1e-7 give */
  const int approximate = s->kernel.points.fused && !plan && s->problem.options->tolerance >= 5e-7;
  solver_plan(s, 0, approximate, plan);
  if (!s->kernel.is_points) solver_fold_scalings(s);
  solver_certificate(s, r);
  if (!isfinite(r->mass) || !isfinite(r->cost)) r->outcome = PK_NON_FINITE;
}

/* Whether the potentials are so large that their last digits miss the tolerance, or leave the plan
 * fewer than six digits. */
static int are_potentials_coarse(const solver *s) {
  const solver_side *side = &s->problem.side[ROWS];
  const double tolerance = s->problem.options->tolerance;
  double top = 0;
  if (!solver_is_hard(s) || !(tolerance > 0)) return 0;
  for (idx i = 0; i < side->count; i++)
    top = fmax(top, side->weights[i] > 0 ? fabs(s->dual.potential[ROWS][i]) : 0);
  return 1e-16 * top > fmin(0.1 * tolerance, 1e-6);
}

/* Judges the result by the certificate, and goes on to a smaller residual where it does not confirm
 * that the solve has converged. */
static void settle(solver *s, void *plan, pk_sinkhorn_result *r) {
  const pk_sinkhorn_problem *p = s->problem.options;
  double tolerance = p->tolerance;
  finish(s, plan, r);
  for (int tries = 0; tries < 4 && s->passes < p->max_iterations; tries++, tolerance *= 0.25) {
    const int has_ended = r->outcome == PK_CONVERGED || r->outcome == PK_STALLED,
              is_shifted =
                  tries < 3 && has_ended && are_potentials_coarse(s) && solver_shift_components(s);
    if (!is_shifted && (r->outcome != PK_CONVERGED || pk_sinkhorn_judged(p, r) == PK_CONVERGED))
      break;
    const pk_outcome end =
        solver_run_level(s, fmax(tolerance, s->rounding), p->max_iterations, 0, 1, &r->residual);
    /* it may be short of a smaller residual than the caller asked for */
    const int is_short = end == PK_STALLED || end == PK_MAX_ITERATIONS;
    r->outcome = is_short ? PK_CONVERGED : end;
    finish(s, plan, r);
    if (is_short && pk_sinkhorn_judged(p, r) != PK_CONVERGED) r->outcome = end;
  }
  r->outcome = pk_sinkhorn_judged(p, r);
  r->iterations = s->passes;
}

static int is_valid(const pk_sinkhorn_problem *p) {
  if (p->n < 1 || p->m < 1 || !(p->epsilon > 0)) return 0;
  if (p->type != PK_F32 && p->type != PK_F64) return 0;
  if (p->cost != PK_COST_MATRIX && (p->d < 1 || !(p->scale > 0))) return 0;
  return (p->side_source == PK_SIDE_CAPPED) == (p->side_target == PK_SIDE_CAPPED);
}

static void take_start(solver *s, int k, const double *given) {
  const solver_side *side = &s->problem.side[k];
  for (idx i = 0; i < side->count; i++)
    s->dual.potential[k][i] =
        side->weights[i] > 0 ? (has_potential(given[i]) ? given[i] : 0) : PK_LOG_ZERO;
}

ptrdiff_t pk_sinkhorn_scratch(const pk_sinkhorn_problem *p) { return solver_bytes(p, 1); }

pk_status pk_sinkhorn_solve(const pk_sinkhorn_problem *p, const void *x, const void *y,
                            const double *mu, const double *nu, void *plan, double *a, double *b,
                            pk_sinkhorn_result *result, void *scratch) {
  if (!is_valid(p)) return PK_BAD_SHAPE;
  solver s;
  solver_open(&s, p, 1, scratch, x, y, mu, nu);
  if (p->warm) take_start(&s, ROWS, a), take_start(&s, COLUMNS, b);
  result->outcome = solver_descend(&s, &result->residual);
  if (s.kernel.is_points && s.kernel.element == 4 && p->tolerance > 0)
    continue_in_f64(&s, a, b, scratch, result);
  settle(&s, plan, result);
  memcpy(a, s.dual.potential[ROWS], (size_t)p->n * sizeof(double));
  memcpy(b, s.dual.potential[COLUMNS], (size_t)p->m * sizeof(double));
  return PK_OK;
}
