/* The iterations of one epsilon: plain ones at first. Where the rate of convergence says that many
 * are left, two hard sides are over-relaxed (Lehmann et al. 2022), and where that does not help, or
 * does not apply, Newton steps are taken. Stopping and stalling are decided here too. */
#include "solver.h"

/* Iterations after which the factor of over-relaxation is changed, at least. The rate is that of
 * the second half, when the effect of the last change has faded. */
#define RATE_SPAN 6
/* Iterations without a new least residual (1 % less) that count as a stall. */
static const idx stall_after = 300;

/* Factors that left the rate no better than 1, after which Newton steps are taken instead. */
enum { MAX_FAILURES = 3 };

typedef struct {
  double tolerance;
  idx last_pass, count;
  double best; /* least residual so far ... */
  idx since;   /* ... and iterations since then */
  /* over-relaxation: the factor chosen, and the one of the last iteration */
  double omega, used;
  idx failures;
  /* the rate: residual at the middle of a span of iterations that began at `marked` */
  double middle;
  idx marked, span;
  idx probe, probe_from;   /* plain iterations to come, to see the residual that they leave */
  idx newton_from, budget; /* next Newton step not before; passes for its system */
} level;

double over_relaxation(double rate, double omega) {
  /* the plain iteration's rate behind the one seen at this omega (Young 1954) */
  const double plain =
      omega == 1 ? rate : (rate + omega - 1) * (rate + omega - 1) / (rate * omega * omega);
  return plain < 1 ? fmin(2 / (1 + sqrt(1 - plain)), 1.98) : omega;
}

int solver_report(solver *s, double residual) {
  const pk_sinkhorn_problem *p = s->problem.options;
  return p->progress && p->progress(p->context, s->passes, residual);
}

/* exp(-700) in f64; in f32 the square root of the range, so that scalings can make up for it. */
int solver_starts_on_kernel(const solver *s) {
  const double most = s->kernel.element == 8 ? 700 : 150;
  return s->problem.cost_range / s->problem.epsilon <= most;
}

/* The first iteration. Its residual counts as 1: the start had no column update, so that an
 * unchanged row proves nothing. */
static double first_residual(solver *s, int is_first) {
  double residual = NAN;
  if (!is_first || solver_starts_on_kernel(s) || s->problem.options->warm) {
    solver_build_kernel(s, s->dual.potential[ROWS], s->dual.potential[COLUMNS], s->dual.z, 0);
    solver_reset_scalings(s);
    residual = solver_iterate(s, 1);
  }
  if (!isfinite(residual)) residual = solver_log_iteration(s);
  return isfinite(residual) ? 1 : residual;
}

static void over_relax(level *l, double rate) {
  if (rate >= 1) {
    l->omega = 1;
    l->failures++;
  } else if (l->omega == 1 || rate > pow(l->omega - 1, 0.75)) {
    l->omega = over_relaxation(rate, l->omega);
  }
  l->span = (idx)fmax(RATE_SPAN, 1.0 / (2 - l->omega));
}

static void take_newton_step(solver *s, level *l, double residual) {
  const idx before = s->passes;
  l->omega = 1;
  if (!solver_newton(s, fmin(0.1, sqrt(fmin(residual, 1))), l->budget, l->last_pass))
    l->newton_from = l->count + 50;
  /* its system was left unsolved: give the next one more passes */
  if (s->passes - before >= l->budget && l->budget < 10000) l->budget *= 4;
}

/* At the end of a span: what to do about the rate seen in its second half. */
static void react_to_rate(solver *s, level *l, double residual) {
  const double rate = pow(residual / l->middle, 1.0 / (double)(l->span - l->span / 2));
  if (isfinite(l->middle) && residual > 100 * s->rounding) {
    const double needed = rate < 1 ? log(l->tolerance / residual) / log(rate) : INFINITY;
    if (l->count > 500 && needed > 200) l->failures = MAX_FAILURES;
    if (solver_is_hard(s) && l->failures < MAX_FAILURES && needed > 6)
      over_relax(l, rate);
    else if (needed > 40 && l->count >= l->newton_from)
      take_newton_step(s, l, residual);
  }
  l->middle = INFINITY;
  l->marked = l->count;
}

static void watch_rate(solver *s, level *l, double residual) {
  if (!s->problem.options->plain && residual > l->tolerance && l->count >= l->marked + l->span)
    react_to_rate(s, l, residual);
  else if (l->count == l->marked + l->span / 2)
    l->middle = residual;
}

/* The factor of the next iteration. Over-relaxed, the residual is several times the one that plain
 * iterations leave: near the tolerance two of those are made to see it. */
static double next_factor(level *l, double residual) {
  if (l->omega != 1 && l->probe == 0 && residual <= 8 * l->tolerance && l->count >= l->probe_from) {
    l->probe = 2;
    l->probe_from = l->count + RATE_SPAN;
  }
  l->used = l->probe > 0 ? 1 : l->omega;
  l->probe -= l->probe > 0;
  return l->used;
}

static int has_stalled(level *l, double residual) {
  if (residual < 0.99 * l->best) {
    l->best = residual;
    l->since = 0;
    return 0;
  }
  return ++l->since > stall_after;
}

pk_outcome solver_run_level(solver *s, double tolerance, idx last_pass, int is_first, int is_final,
                            double *residual) {
  level l = {.tolerance = tolerance,
             .last_pass = last_pass,
             .best = INFINITY,
             .omega = 1,
             .used = 1,
             .middle = INFINITY,
             .span = RATE_SPAN,
             .budget = 400};
  *residual = first_residual(s, is_first);
  while (isfinite(*residual)) {
    if (*residual <= tolerance && l.used == 1) return PK_CONVERGED;
    if (s->passes >= last_pass) return PK_MAX_ITERATIONS;
    if (solver_report(s, *residual)) return PK_INTERRUPTED;
    if (has_stalled(&l, *residual)) return PK_STALLED;
    l.count++;
    watch_rate(s, &l, *residual);
    if (s->interrupted) return PK_INTERRUPTED;
    const double next = solver_iterate(s, next_factor(&l, *residual));
    if (isfinite(next)) {
      *residual = next;
      continue;
    }
    /* by logarithms, from the potentials of the last absorption, and without over-relaxation */
    l.omega = 1, l.failures = MAX_FAILURES, l.middle = INFINITY;
    *residual = solver_log_iteration(s);
    if (!is_final && s->passes >= last_pass) return PK_MAX_ITERATIONS;
  }
  return PK_NON_FINITE;
}
