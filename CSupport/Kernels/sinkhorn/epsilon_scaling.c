/* A small epsilon is approached through a falling sequence, each level starting from the potentials
 * of the one before. */
#include "solver.h"

/* An intermediate level needs a start for the next one, not a solution. */
static const double level_tolerance = 1e-4;
static const idx level_passes = 400;
/* No levels while the range of the costs is within so many epsilon; each level is FACTOR times the
 * next. */
static const double plain_range = 100;
#define FACTOR 4
#define MAX_LEVELS 40

/* z of capped sides without potentials: the plan has the mass asked for. */
static double first_z(solver *s) {
  const double mass = s->problem.options->mass;
  if (solver_starts_on_kernel(s)) {
    const double total =
        solver_build_kernel(s, s->dual.potential[ROWS], s->dual.potential[COLUMNS], 0, 1);
    const double z = log(mass / total);
    if (isfinite(z)) return z;
  }
  const double *a = s->dual.potential[ROWS], *lse = s->scratch.marginal[ROWS];
  double top = PK_LOG_ZERO, sum = 0;
  solver_log_sums(s, ROWS, s->scratch.marginal[ROWS]);
  for (idx i = 0; i < s->problem.side[ROWS].count; i++)
    if (s->problem.side[ROWS].weights[i] > 0) {
      const double x = a[i] + lse[i], high = fmax(top, x);
      sum = sum * exp(top - high) + exp(x - high), top = high;
    }
  return log(mass) - top - log(sum);
}

/* Potentials to start from, unless the caller gave some: 0, but the least cost of a matrix is taken
 * out at once; the least cost of points is 0 or near it. */
static void start(solver *s) {
  const pk_sinkhorn_problem *p = s->problem.options;
  const int is_capped = solver_is_capped(s);
  const double least = s->kernel.is_points || is_capped ? 0 : s->kernel.least / s->problem.epsilon;
  for (int k = 0; k < 2; k++) {
    const solver_side *side = &s->problem.side[k];
    double *t = s->dual.potential[k];
    for (idx i = 0; (!p->warm || p->tolerance == 0) && i < side->count; i++)
      t[i] = side->weights[i] > 0 ? (k == ROWS ? least : 0) : PK_LOG_ZERO;
    for (idx i = side->count; i < side->padded; i++) t[i] = PK_LOG_ZERO;
  }
  s->dual.z = 0;
  if (is_capped) s->dual.z = first_z(s);
}

/* A given number of plain iterations. */
static pk_outcome run_fixed(solver *s, double *residual) {
  const pk_sinkhorn_problem *p = s->problem.options;
  const int on_kernel = solver_starts_on_kernel(s) || p->warm;
  *residual = NAN;
  if (on_kernel) {
    solver_build_kernel(s, s->dual.potential[ROWS], s->dual.potential[COLUMNS], s->dual.z, 0);
    solver_reset_scalings(s);
  }
  for (idx k = 0; k < p->max_iterations; k++) {
    *residual = k || on_kernel ? solver_iterate(s, 1) : NAN;
    if (!isfinite(*residual)) *residual = solver_log_iteration(s);
    if (!isfinite(*residual)) return PK_NON_FINITE;
    if (solver_report(s, *residual)) return PK_INTERRUPTED;
  }
  s->passes = p->max_iterations;
  return PK_MAX_ITERATIONS;
}

/* Folded potentials of `epsilon` become those of the next epsilon: costs stay, a epsilon =
 * const. */
static void change_epsilon(solver *s, double epsilon, double next) {
  const double factor = epsilon / next;
  for (int k = 0; k < 2; k++) {
    const solver_side *side = &s->problem.side[k];
    for (idx i = 0; i < side->count; i++)
      if (side->weights[i] > 0) s->dual.potential[k][i] *= factor;
  }
  s->dual.z *= factor;
  solver_set_epsilon(s, next);
}

static int count_levels(const solver *s) {
  const pk_sinkhorn_problem *p = s->problem.options;
  int levels = 0;
  if (p->warm || !(p->tolerance > 0)) return 0;
  for (double e = p->epsilon * plain_range; e < s->problem.cost_range && levels < MAX_LEVELS;
       e *= FACTOR)
    levels++;
  return levels;
}

pk_outcome solver_descend(solver *s, double *residual) {
  const pk_sinkhorn_problem *p = s->problem.options;
  int levels = count_levels(s), is_first = 1, interrupted = 0;
  double epsilon = p->epsilon * pow(FACTOR, levels);
  solver_set_epsilon(s, epsilon);
  start(s);
  for (; levels > 0; levels--) {
    const idx until = least_of(s->passes + level_passes, p->max_iterations);
    interrupted =
        solver_run_level(s, level_tolerance, until, is_first, 0, residual) == PK_INTERRUPTED;
    if (interrupted || s->passes >= p->max_iterations) break;
    is_first = 0;
    solver_fold_scalings(s);
    const double next = p->epsilon * pow(FACTOR, levels - 1);
    change_epsilon(s, epsilon, next);
    epsilon = next;
  }
  if (levels == 0)
    return p->tolerance > 0
               ? solver_run_level(s, p->tolerance, p->max_iterations, is_first, 1, residual)
               : run_fixed(s, residual);
  solver_fold_scalings(s);
  change_epsilon(s, epsilon, p->epsilon);
  solver_log_iteration(s); /* rows and columns once in the problem's epsilon */
  return interrupted ? PK_INTERRUPTED : PK_MAX_ITERATIONS;
}
