/* A damped Newton step of the dual. Its system is the one of conjugate_gradients.c. */
#include "solver.h"

double solver_dual_value(const solver *s, const double *a, const double *b, double z,
                         double total) {
  double d = -total + (solver_is_capped(s) ? s->problem.options->mass * z : 0);
  for (int k = 0; k < 2; k++) {
    const solver_side *side = &s->problem.side[k];
    const double kappa = side->kappa, *w = side->weights, *t = k == ROWS ? a : b;
    for (idx i = 0; i < side->count; i++)
      if (w[i] > 0) d += kappa > 0 ? w[i] * -expm1(-kappa * t[i]) / kappa : w[i] * t[i];
  }
  return d;
}

/* Gradient and diagonal of the Hessian of a side. Returns whether all its constraints are active: a
 * cap without a multiplier takes no part. */
static int fill_side(solver *s, int k) {
  const solver_side *side = &s->problem.side[k];
  const double kappa = side->kappa, *w = side->weights, *t = s->dual.potential[k],
               *sums = s->scratch.marginal[k];
  double *diagonal = s->scratch.diagonal[k], *right = s->scratch.right[k];
  int all = 1;
  for (idx i = 0; i < side->count; i++) {
    const double target = w[i] > 0 ? w[i] * exp(-kappa * t[i]) : 0;
    const int on = w[i] > 0 && sums[i] > 0 && (side->rule != PK_SIDE_CAPPED || t[i] < 0);
    diagonal[i] = on ? (sums[i] + kappa * target) * (1 + s->damping) : 0;
    right[i] = on ? target - sums[i] : 0;
    if (w[i] > 0 && !on) all = 0;
  }
  return all;
}

/* The step in rows, columns and z; returns the largest change of a potential. */
static double find_step(solver *s, double total, double forcing, idx limit, double *x, double *z) {
  solver_sums(s, s->scratch.marginal[ROWS], s->scratch.marginal[COLUMNS]);
  const int all_rows = fill_side(s, ROWS), all_columns = fill_side(s, COLUMNS),
            is_capped = solver_is_capped(s), use_z = is_capped && !all_rows && !all_columns;
  *z = solver_solve_system(s, use_z, total * (1 + s->damping),
                           is_capped ? s->problem.options->mass - total : 0, forcing, limit, NULL);
  const idx n = s->problem.side[ROWS].count, m = s->problem.side[COLUMNS].count;
  memcpy(x, s->scratch.step[ROWS], (size_t)n * sizeof(double));
  double largest = fabs(*z);
  for (idx i = 0; i < n; i++) largest = fmax(largest, fabs(x[i]));
  for (idx j = 0; j < m; j++) largest = fmax(largest, fabs(s->scratch.step[COLUMNS][j]));
  return largest;
}

/* Potentials + t step to scratch.marginal. */
static void move(solver *s, int k, double t, const double *step) {
  const solver_side *side = &s->problem.side[k];
  const double *from = s->dual.potential[k];
  double *to = s->scratch.marginal[k];
  for (idx i = 0; i < side->count; i++)
    to[i] = side->weights[i] > 0 ? from[i] + t * step[i] : PK_LOG_ZERO;
  if (k == COLUMNS)
    for (idx i = side->count; i < side->padded; i++) to[i] = PK_LOG_ZERO;
  for (idx i = 0; side->rule == PK_SIDE_CAPPED && i < side->count; i++) to[i] = fmin(to[i], 0);
}

static void accept(solver *s, double dz) {
  const idx n = s->problem.side[ROWS].count;
  memcpy(s->dual.potential[ROWS], s->scratch.marginal[ROWS], (size_t)n * sizeof(double));
  memcpy(s->dual.potential[COLUMNS], s->scratch.marginal[COLUMNS],
         (size_t)s->kernel.stride * sizeof(double));
  s->dual.z += dz;
  solver_reset_scalings(s);
}

/* Levenberg-Marquardt: more damping where the quadratic model was far off, less where it was
 * good. */
static double next_damping(double damping, double t) {
  if (t > 0.9) return damping > 1e-12 ? damping / 10 : 0;
  return t < 0.2 ? fmax(4 * damping, 1e-6) : damping;
}

int solver_newton(solver *s, double forcing, idx limit, idx last_pass) {
  /* three passes beside the system: its right-hand side, a trial, and the iteration that follows */
  limit = least_of(limit, last_pass - s->passes - 3);
  if (limit < 1) return 0;
  double *a = s->dual.potential[ROWS], *b = s->dual.potential[COLUMNS], total = solver_absorb(s, 1);
  const double before = solver_dual_value(s, a, b, s->dual.z, total);
  if (!isfinite(before)) return 0;
  double z, *x = s->scratch.right[ROWS]; /* building a kernel overwrites scratch.step[ROWS] */
  const double largest = find_step(s, total, forcing, limit, x, &z);
  if (!isfinite(largest) || largest == 0) {
    solver_reset_scalings(s);
    return 0;
  }
  /* Along a direction of almost no curvature the quadratic model is no guide: no potential moves by
   * more than the range of the costs. */
  const double bound = s->problem.cost_range / s->problem.epsilon + 10,
               full = largest > bound ? bound / largest : 1;
  double t = full;
  for (int tries = 0; tries < 40 && s->passes < last_pass - 1; tries++, t *= 0.5) {
    double *trial_a = s->scratch.marginal[ROWS], *trial_b = s->scratch.marginal[COLUMNS];
    move(s, ROWS, t, x);
    move(s, COLUMNS, t, s->scratch.step[COLUMNS]);
    total = solver_build_kernel(s, trial_a, trial_b, s->dual.z + t * z, 1);
    s->passes++;
    const double after = solver_dual_value(s, trial_a, trial_b, s->dual.z + t * z, total);
    /* near the optimum the rise is less than rounding: an equal value is accepted there */
    if (!(isfinite(after) && after >= before - s->rounding * (fabs(before) + total))) continue;
    accept(s, t * z);
    s->damping = next_damping(s->damping, t);
    return t > 1e-6 * full;
  }
  s->damping = fmax(10 * s->damping, 1e-6);
  solver_build_kernel(s, a, b, s->dual.z, 0);
  solver_reset_scalings(s);
  return 0;
}
