#include "solver.h"

static double log_weight(double w) { return w > 0 ? log(w) : PK_LOG_ZERO; }

/* Scalings beyond exp(+-reach) are absorbed; entries of the kernel that underflowed still count for
 * nothing then. */
static double reach(const solver *s) { return s->size == 8 ? 50 : 30; }

/* The largest C / eps whose exponential a first kernel without potentials may hold. */
static double start_range(const solver *s) { return s->size == 8 ? 700 : 150; }

/* Constants of the update rules around the potentials a, b (vector_kernels.h). */
void solver_rules(solver *s) {
  for (int side = 0; side < 2; side++) {
    const idx count = side ? s->m : s->n, padded = side ? s->ld : s->rows;
    const double *w = side ? s->nu : s->mu, *t = side ? s->b : s->a,
                 phi = side ? s->phi_b : s->phi_a;
    const pk_side kind = side ? s->p->side_b : s->p->side_a;
    double *scaling = side ? s->beta : s->alpha, *p = side ? s->pb : s->pa,
           *q = side ? s->qb : s->qa;
    for (idx i = 0; i < padded; i++) {
      const int on = i < count && w[i] > 0;
      scaling[i] = on, q[i] = 0;
      p[i] = kind == PK_SIDE_RELAXED ? (on ? phi * log(w[i]) - (1 - phi) * t[i] : PK_LOG_ZERO)
             : on                    ? w[i]
                                     : 0;
      if (kind == PK_SIDE_CAPPED && on) q[i] = exp(-t[i]);
    }
  }
  s->w->convert(s->ld, s->beta, s->beta_r);
  s->zeta = 1;
}

/* Moves the scalings into the potentials. */
static void collect(solver *s) {
  for (int side = 0; side < 2; side++) {
    const idx count = side ? s->m : s->n;
    const double *w = side ? s->nu : s->mu;
    double *t = side ? s->b : s->a, *scaling = side ? s->beta : s->alpha;
    for (idx i = 0; i < count; i++) {
      if (w[i] > 0) t[i] += log(scaling[i]);
      /* at its cap log(exp(-a)) + a is 0 but for rounding, and exactly 0 means an inactive
       * constraint */
      if (solver_capped(s)) t[i] = w[i] > 0 ? (t[i] > -1e-12 ? 0 : t[i]) : PK_LOG_ZERO;
      scaling[i] = w[i] > 0;
    }
  }
  if (solver_capped(s)) {
    s->z += log(s->zeta);
    /* Where every cap of a side is reached, (a + t, z - t) leaves P alone and the dual rises with t
     * until the largest a is 0. */
    for (int side = 0; side < 2; side++) {
      double *t = side ? s->b : s->a, top = PK_LOG_ZERO;
      const idx count = side ? s->m : s->n;
      for (idx i = 0; i < count; i++) top = fmax(top, t[i]);
      if (!(top < 0) || !(top > PK_LOG_ZERO / 2)) continue;
      for (idx i = 0; i < count; i++) t[i] = t[i] > PK_LOG_ZERO / 2 ? t[i] - top : PK_LOG_ZERO;
      s->z += top;
    }
  }
  s->zeta = 1;
}

double solver_absorb(solver *s, int total) {
  collect(s);
  const double sum = solver_build(s, s->a, s->b, s->z, total);
  solver_rules(s);
  return sum;
}

static double dual_update(pk_side side, double phi, double log_w, double lse) {
  if (!(log_w > PK_LOG_ZERO / 2)) return PK_LOG_ZERO;
  /* nothing reaches it */
  if (!(lse > PK_LOG_ZERO / 2)) return side == PK_SIDE_CAPPED ? 0 : PK_LOG_ZERO;
  return side == PK_SIDE_RELAXED ? phi * (log_w - lse)
         : side == PK_SIDE_HARD  ? log_w - lse
                                 : fmin(0, log_w - lse);
}

/* log sum_j exp(b_j - C_ij / eps) to out[i]; columns: log sum_i exp(a_i - C_ij / eps) to out[j]. */
static void lse(solver *s, int columns, double *out) {
  const idx blocks = s->blocks, ld = s->ld;
  const double inv = 1 / s->eps;
  if (s->points) s->w->convert(ld, s->constant_b, s->vector_r);
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx q = 0; q < blocks; q++) {
    double *sum = s->acc + q * ld, *top = s->top + q * ld;
    for (idx j = 0; j < ld && columns; j++) sum[j] = 0, top[j] = PK_LOG_ZERO;
    const idx end = solver_block(s, q + 1);
    for (idx i0 = solver_block(s, q); i0 < end; i0 += SOLVER_ROWS) {
      const idx count = end - i0 < SOLVER_ROWS ? end - i0 : SOLVER_ROWS;
      idx stride;
      const char *c = solver_cost_rows(s, i0, count, s->points ? solver_tile(s, 0) : NULL, &stride);
      for (idx i = i0; i < i0 + count; i++, c += stride * s->size) {
        if (!columns)
          out[i] = s->w->row_lse(s->m, c, inv, s->b);
        else if (s->a[i] > PK_LOG_ZERO / 2)
          s->w->column_lse(s->m, c, inv, s->a[i], top, sum);
      }
    }
  }
  s->passes++;
  for (idx j = 0; j < s->m && columns; j++) {
    double top = PK_LOG_ZERO, sum = 0;
    for (idx q = 0; q < blocks; q++) {
      const double x = s->top[q * ld + j], high = fmax(top, x);
      sum = sum * exp(top - high) + s->acc[q * ld + j] * exp(x - high), top = high;
    }
    out[j] = sum > 0 && top > PK_LOG_ZERO / 2 ? top + log(sum) : PK_LOG_ZERO;
  }
}

/* One iteration by logarithms from a, b, z; the kernel is rebuilt. Returns the residual relative to
 * the mass. */
static double log_iteration(solver *s) {
  double *rows = s->ta, *columns = s->tb, change = 0;
  lse(s, 0, rows);
  for (idx i = 0; i < s->n; i++) {
    const double x = rows[i] > PK_LOG_ZERO / 2 ? rows[i] + s->z : rows[i],
                 next = dual_update(s->p->side_a, s->phi_a, log_weight(s->mu[i]), x);
    if (next > PK_LOG_ZERO / 2)
      change += fabs(exp(fmin(next + x, 700)) - exp(fmin(s->a[i] + x, 700)));
    s->a[i] = next;
  }
  lse(s, 1, columns);
  for (idx j = 0; j < s->m; j++) {
    const double x = columns[j] > PK_LOG_ZERO / 2 ? columns[j] + s->z : columns[j];
    s->b[j] = dual_update(s->p->side_b, s->phi_b, log_weight(s->nu[j]), x);
  }
  double total = 0;
  for (idx j = 0; j < s->m; j++)
    if (s->b[j] > PK_LOG_ZERO / 2) total += exp(fmin(s->b[j] + columns[j] + s->z, 700));
  if (solver_capped(s) && total > 0 && isfinite(total)) {
    change += fabs(s->p->mass - total);
    s->z += log(s->p->mass / total);
    total = s->p->mass;
  }
  solver_build(s, s->a, s->b, s->z, 0);
  solver_rules(s);
  return change / total;
}

static void start(solver *s) {
  /* the least cost of a matrix is taken out at once; points' least cost is 0 or near it */
  const double least = s->points || solver_capped(s) ? 0 : s->factor / s->eps;
  if (!s->p->warm || s->p->tolerance == 0) {
    for (idx i = 0; i < s->n; i++) s->a[i] = s->mu[i] > 0 ? least : PK_LOG_ZERO;
    for (idx j = 0; j < s->m; j++) s->b[j] = s->nu[j] > 0 ? 0 : PK_LOG_ZERO;
  }
  for (idx i = s->n; i < s->rows; i++) s->a[i] = PK_LOG_ZERO;
  for (idx j = s->m; j < s->ld; j++) s->b[j] = PK_LOG_ZERO;
  s->z = 0;
  if (!solver_capped(s)) return;
  if (s->range / s->eps <= start_range(s)) {
    const double total = solver_build(s, s->a, s->b, 0, 1);
    s->z = log(s->p->mass / total);
    if (isfinite(s->z)) return;
  }
  double top = PK_LOG_ZERO, sum = 0;
  lse(s, 0, s->ta);
  for (idx i = 0; i < s->n; i++)
    if (s->mu[i] > 0) {
      const double x = s->a[i] + s->ta[i], high = fmax(top, x);
      sum = sum * exp(top - high) + exp(x - high), top = high;
    }
  s->z = log(s->p->mass) - top - log(sum);
}

/* One iteration on the kernel; NaN when a sum or scaling is not a positive finite number. */
static double iterate(solver *s, double omega) {
  static const update_rule rules[] = {UPDATE_HARD, UPDATE_RELAXED, UPDATE_CAPPED};
  const side_update rows = {.rule = rules[s->p->side_a],
                            .phi = s->phi_a,
                            .zeta = s->zeta,
                            .omega = omega - 1,
                            .p = s->pa,
                            .q = s->qa,
                            .scaling = s->alpha};
  const side_update columns = {.rule = rules[s->p->side_b],
                               .phi = s->phi_b,
                               .zeta = s->zeta,
                               .omega = omega - 1,
                               .p = s->pb,
                               .q = s->qb,
                               .scaling = s->beta};
  update_sums a, b;
  solver_pass(s, &rows, &columns, s->beta_r, &a, &b);
  const double change = a.change, total = b.after, low = fmin(a.low, b.low),
               high = fmax(a.high, b.high), kappa = s->kappa_a + s->kappa_b;
  if (a.bad > 0 || b.bad > 0 || !isfinite(change) || !isfinite(b.change) || !(a.before > 0) ||
      !(low > 0) || !isfinite(high) || !isfinite(total) || !(total > 0))
    return NAN;
  double error = fmax(change, b.change), t = 0;
  if (solver_capped(s))
    s->zeta *= s->p->mass / total, error = fmax(change + fabs(s->p->mass - total), b.change);
  /* The dual's best translation (a + t, b - t): by optimality of the updates sum mu exp(-kappa_a a)
   * = sum alpha s is the mass after the rows' update. */
  if (kappa > 0 && !s->p->plain && s->p->tolerance > 0) {
    t = log(a.after / total) / kappa;
    if (!isfinite(t)) t = 0;
    if (fabs(t) > reach(s)) { /* beyond the scalings' range: into the potentials themselves */
      collect(s);
      for (idx i = 0; i < s->n; i++) s->a[i] += s->a[i] > PK_LOG_ZERO / 2 ? t : 0;
      for (idx j = 0; j < s->m; j++) s->b[j] -= s->b[j] > PK_LOG_ZERO / 2 ? t : 0;
      solver_build(s, s->a, s->b, s->z, 0);
      solver_rules(s);
      return error / a.before;
    }
    const double up = exp(t), down = exp(-t);
    for (idx i = 0; i < s->rows; i++) s->alpha[i] *= up;
    for (idx j = 0; j < s->ld; j++) s->beta[j] *= down;
    s->w->convert(s->ld, s->beta, s->beta_r);
  }
  const double most = exp(reach(s));
  if (low < 1 / most || high > most || s->zeta > most || s->zeta < 1 / most) solver_absorb(s, 0);
  return error / a.before;
}

/* An intermediate level needs a start for the next one, not a solution. */
static const double level_tolerance = 1e-4;
static const idx level_passes = 400;
/* Iterations after which omega is looked at, at least; the rate is that of the second half, when
 * what the last change stirred up has faded. */
#define RATE_SPAN 6
static const idx stall_after = 300;

static int report_progress(solver *s, double residual) {
  return s->p->progress && s->p->progress(s->p->context, s->passes, residual);
}

/* Plain iterations, then, where the rate says that many are left, over-relaxed ones or Newton
 * steps. */
static pk_outcome run_level(solver *s, double tolerance, idx last_pass, int first, int final,
                            double *residual) {
  const int hard = s->p->side_a == PK_SIDE_HARD && s->p->side_b == PK_SIDE_HARD;
  double best = INFINITY, mark = INFINITY, omega = 1, used = 1;
  idx since = 0, count = 0, marked = 0, span = RATE_SPAN, failures = 0, newton_from = 0, probe = 0,
      look = 0, steps = 400;
  if (!first || s->range / s->eps <= start_range(s) || s->p->warm) {
    solver_build(s, s->a, s->b, s->z, 0);
    solver_rules(s);
    *residual = iterate(s, 1);
    if (isfinite(*residual)) *residual = 1;
  } else {
    *residual = NAN;
  }
  if (!isfinite(*residual)) *residual = log_iteration(s);
  /* the start had no column update: an unchanged row proves nothing */
  if (isfinite(*residual)) *residual = 1;
  while (isfinite(*residual)) {
    if (*residual <= tolerance && used == 1) return PK_CONVERGED;
    if (s->passes >= last_pass) return PK_MAX_ITERATIONS;
    if (report_progress(s, *residual)) return PK_INTERRUPTED;
    if (*residual < 0.99 * best)
      best = *residual, since = 0;
    else if (++since > stall_after)
      return PK_STALLED;
    count++;
    if (!s->p->plain && *residual > tolerance && count >= marked + span) {
      const double rate = pow(*residual / mark, 1.0 / (double)(span - span / 2));
      if (isfinite(mark) && *residual > 100 * s->floor) {
        const double needed = rate < 1 ? log(tolerance / *residual) / log(rate) : INFINITY;
        if (count > 500 && needed > 200) failures = 3;
        if (hard && failures < 3 && needed > 6) {
          if (rate >= 1)
            omega = 1, failures++;
          else if (omega == 1 || rate > pow(omega - 1, 0.75)) {
            /* the plain iteration's rate behind the one seen at this omega (Young 1954) */
            const double plain =
                omega == 1 ? rate
                           : (rate + omega - 1) * (rate + omega - 1) / (rate * omega * omega);
            omega = plain < 1 ? fmin(2 / (1 + sqrt(1 - plain)), 1.98) : omega;
          }
          span = (idx)fmax(RATE_SPAN, 1.0 / (2 - omega));
        } else if (needed > 40 && count >= newton_from) {
          omega = 1;
          const idx before = s->passes;
          if (!solver_newton(s, fmin(0.1, sqrt(fmin(*residual, 1))), steps, last_pass))
            newton_from = count + 50;
          if (s->stop) return PK_INTERRUPTED;
          /* its system was left unsolved */
          if (s->passes - before >= steps && steps < 10000) steps *= 4;
        }
      }
      mark = INFINITY, marked = count;
    } else if (count == marked + span / 2) {
      mark = *residual;
    }
    /* Over-relaxed, the residual is several times what a plain iteration leaves: near the tolerance
     * two of those look. */
    if (omega != 1 && probe == 0 && *residual <= 8 * tolerance && count >= look)
      probe = 2, look = count + RATE_SPAN;
    used = probe > 0 ? 1 : omega, probe -= probe > 0;
    const double next = iterate(s, used);
    if (isfinite(next)) {
      *residual = next;
      continue;
    }
    /* from the potentials of the last absorption */
    omega = 1, failures = 3;
    *residual = log_iteration(s);
    mark = INFINITY;
    if (!final && s->passes >= last_pass) return PK_MAX_ITERATIONS;
  }
  return PK_NON_FINITE;
}

/* A given number of plain iterations. */
static pk_outcome run_fixed(solver *s, double *residual) {
  *residual = NAN;
  const int direct = s->range / s->eps <= start_range(s) || s->p->warm;
  if (direct) solver_build(s, s->a, s->b, s->z, 0), solver_rules(s);
  for (idx k = 0; k < s->p->max_iterations; k++) {
    *residual = k || direct ? iterate(s, 1) : NAN;
    if (!isfinite(*residual)) *residual = log_iteration(s);
    if (!isfinite(*residual)) return PK_NON_FINITE;
    if (report_progress(s, *residual)) return PK_INTERRUPTED;
  }
  s->passes = s->p->max_iterations;
  return PK_MAX_ITERATIONS;
}

/* Potentials of another epsilon. */
static void rescale(solver *s, double factor) {
  for (idx i = 0; i < s->n; i++)
    if (s->mu[i] > 0) s->a[i] *= factor;
  for (idx j = 0; j < s->m; j++)
    if (s->nu[j] > 0) s->b[j] *= factor;
  s->z *= factor;
}

/* From the start, or a warm one, through levels eps 4^k (none while the range is within 100 eps) to
 * the problem's. */
static pk_outcome descend(solver *s, double *residual) {
  const pk_sinkhorn_problem *p = s->p;
  int levels = 0, first = 1, stopped = 0;
  for (double e = p->epsilon * 100; e < s->range && levels < 40 && !p->warm && p->tolerance > 0;
       e *= 4)
    levels++;
  double eps = p->epsilon * pow(4, levels);
  solver_level(s, eps);
  start(s);
  for (; levels > 0; levels--) {
    const idx until = s->passes + level_passes;
    stopped = run_level(s, level_tolerance, until < p->max_iterations ? until : p->max_iterations,
                        first, 0, residual) == PK_INTERRUPTED;
    if (stopped || s->passes >= p->max_iterations) break;
    first = 0;
    collect(s);
    const double next = p->epsilon * pow(4, levels - 1);
    rescale(s, eps / next);
    eps = next;
    solver_level(s, eps);
  }
  if (levels == 0)
    return p->tolerance > 0 ? run_level(s, p->tolerance, p->max_iterations, first, 1, residual)
                            : run_fixed(s, residual);
  collect(s);
  solver_level(s, p->epsilon);
  rescale(s, eps / p->epsilon);
  log_iteration(s); /* rows and columns once in this epsilon */
  return stopped ? PK_INTERRUPTED : PK_MAX_ITERATIONS;
}

/* A solver of f32 points becomes one of f64, where the other is: what that reached is judged by
 * distances in f64, and what f32 could not reach is gone on with. a and b hold the potentials
 * meanwhile. */
static void widen(solver *s, double *a, double *b, char *scratch, pk_sinkhorn_result *r) {
  const double z = (collect(s), s->z);
  const idx passes = s->passes;
  memcpy(a, s->a, (size_t)s->n * sizeof(double)), memcpy(b, s->b, (size_t)s->m * sizeof(double));
  solver_widen(s, 1, scratch);
  s->passes = passes;
  if (r->outcome == PK_NON_FINITE) {
    r->outcome = descend(s, &r->residual);
    return;
  }
  solver_level(s, s->p->epsilon);
  solver_potentials(s, a, b, z);
  if (r->outcome == PK_STALLED)
    r->outcome = run_level(s, s->p->tolerance, s->p->max_iterations, 0, 1, &r->residual);
  else
    solver_rules(s);
}

/* The plan and its certificate. */
static void finish(solver *s, void *plan, pk_sinkhorn_result *r) {
  if (s->points) collect(s);
  /* quick: its errors are 1e-7 */
  solver_plan(s, 0, s->shape.fused && !plan && s->p->tolerance >= 5e-7, plan);
  if (!s->points) collect(s);
  solver_certificate(s, r);
  if (!isfinite(r->mass) || !isfinite(r->cost)) r->outcome = PK_NON_FINITE;
}

/* Whether the potentials are too large for their own last digits to meet the tolerance, or to leave
 * the plan six. */
static int coarse(const solver *s) {
  double top = 0;
  if (s->p->side_a != PK_SIDE_HARD || s->p->side_b != PK_SIDE_HARD || !(s->p->tolerance > 0))
    return 0;
  for (idx i = 0; i < s->n; i++) top = fmax(top, s->mu[i] > 0 ? fabs(s->a[i]) : 0);
  return 1e-16 * top > fmin(0.1 * s->p->tolerance, 1e-6);
}

/* Judges what the iteration calls converged by the certificate, and goes on, to a smaller residual,
 * where that does not bear it out. */
static void settle(solver *s, void *plan, pk_sinkhorn_result *r) {
  const pk_sinkhorn_problem *p = s->p;
  double tolerance = p->tolerance;
  finish(s, plan, r);
  for (int tries = 0; tries < 4 && s->passes < p->max_iterations; tries++, tolerance *= 0.25) {
    const int is_regrouped = tries < 3 &&
                             (r->outcome == PK_CONVERGED || r->outcome == PK_STALLED) &&
                             coarse(s) && solver_regroup(s);
    if (!is_regrouped && (r->outcome != PK_CONVERGED || pk_sinkhorn_judged(p, r) == PK_CONVERGED))
      break;
    const pk_outcome end =
        run_level(s, fmax(tolerance, s->floor), p->max_iterations, 0, 1, &r->residual);
    /* of a smaller residual than was asked for */
    const int is_short = end == PK_STALLED || end == PK_MAX_ITERATIONS;
    r->outcome = is_short ? PK_CONVERGED : end;
    finish(s, plan, r);
    if (is_short && pk_sinkhorn_judged(p, r) != PK_CONVERGED) r->outcome = end;
  }
  r->outcome = pk_sinkhorn_judged(p, r);
  r->iterations = s->passes;
}

static int valid(const pk_sinkhorn_problem *p) {
  if (p->n < 1 || p->m < 1 || !(p->epsilon > 0) || (p->type != PK_F32 && p->type != PK_F64))
    return 0;
  if (p->cost != PK_COST_MATRIX && (p->d < 1 || !(p->scale > 0))) return 0;
  return (p->side_a == PK_SIDE_CAPPED) == (p->side_b == PK_SIDE_CAPPED);
}

ptrdiff_t pk_sinkhorn_scratch(const pk_sinkhorn_problem *p) { return solver_bytes(p, 1); }

pk_status pk_sinkhorn_solve(const pk_sinkhorn_problem *p, const void *x, const void *y,
                            const double *mu, const double *nu, void *plan, double *a, double *b,
                            pk_sinkhorn_result *result, void *scratch) {
  if (!valid(p)) return PK_BAD_SHAPE;
  solver s;
  solver_open(&s, p, 1, scratch, x, y, mu, nu);
  if (p->warm) {
    for (idx i = 0; i < s.n; i++)
      s.a[i] = mu[i] > 0 ? (a[i] > PK_LOG_ZERO / 2 ? a[i] : 0) : PK_LOG_ZERO;
    for (idx j = 0; j < s.m; j++)
      s.b[j] = nu[j] > 0 ? (b[j] > PK_LOG_ZERO / 2 ? b[j] : 0) : PK_LOG_ZERO;
  }
  result->outcome = descend(&s, &result->residual);
  if (s.points && s.size == 4 && p->tolerance > 0) widen(&s, a, b, scratch, result);
  settle(&s, plan, result);
  memcpy(a, s.a, (size_t)s.n * sizeof(double)), memcpy(b, s.b, (size_t)s.m * sizeof(double));
  return PK_OK;
}
