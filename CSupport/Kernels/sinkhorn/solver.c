#include "solver.h"

/* Scalings beyond exp(+-50) are absorbed: entries of the kernel that underflowed (below e^-708) still count for nothing then. */
static const double solver_reach = 50;
static int capped(const solver *s) { return s->p->side_a == PK_SIDE_CAPPED; }
static double log_weight(double w) { return w > 0 ? log(w) : PK_LOG_ZERO; }

static void set_level(solver *s, double eps) {
  const pk_sinkhorn_problem *p = s->p;
  s->eps = eps;
  s->kappa_a = p->side_a == PK_SIDE_RELAXED ? eps / p->rho_a : 0, s->kappa_b = p->side_b == PK_SIDE_RELAXED ? eps / p->rho_b : 0;
  s->phi_a = 1 / (1 + s->kappa_a), s->phi_b = 1 / (1 + s->kappa_b);
}
/* Constants of the update rules around the potentials a, b (wide.h). */
static void set_rules(solver *s) {
  for (idx i = 0; i < s->n; i++) {
    s->alpha[i] = s->mu[i] > 0 ? 1 : 0;
    s->pa[i] = s->p->side_a != PK_SIDE_RELAXED ? s->mu[i] : s->mu[i] > 0 ? s->phi_a * log(s->mu[i]) - (1 - s->phi_a) * s->a[i] : PK_LOG_ZERO;
    s->qa[i] = s->mu[i] > 0 ? exp(-s->a[i]) : 0;
  }
  for (idx j = 0; j < s->ld; j++) {
    const int on = j < s->m && s->nu[j] > 0;
    s->beta[j] = on ? 1 : 0;
    s->pb[j] = s->p->side_b != PK_SIDE_RELAXED ? (on ? s->nu[j] : 0) : on ? s->phi_b * log(s->nu[j]) - (1 - s->phi_b) * s->b[j] : PK_LOG_ZERO;
    s->qb[j] = on ? exp(-s->b[j]) : 0;
  }
  s->zeta = 1;
}
/* K = exp(a + b + z - C / eps); returns its sum. */
static double build(solver *s, const double *a, const double *b, double z) {
  const double inv = 1 / s->eps;
  double *sums = s->x;
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx i = 0; i < s->n; i++)
    sums[i] = s->w->build_row(s->ld, s->cost + i * s->ld, inv, fmax(a[i] + z, PK_LOG_ZERO), b, s->k + i * s->ld);
  double total = 0;
  for (idx i = 0; i < s->n; i++) total += sums[i];
  return total;
}
/* Moves the scalings into the potentials. */
static void collect(solver *s) {
  for (idx i = 0; i < s->n; i++)
    if (s->mu[i] > 0) s->a[i] += log(s->alpha[i]);
  for (idx j = 0; j < s->m; j++)
    if (s->nu[j] > 0) s->b[j] += log(s->beta[j]);
  if (capped(s)) {
    s->z += log(s->zeta);
    /* at its cap log(exp(-a)) + a is 0 but for rounding, and exactly 0 means an inactive constraint */
    for (idx i = 0; i < s->n; i++) s->a[i] = s->mu[i] > 0 ? (s->a[i] > -1e-12 ? 0 : s->a[i]) : PK_LOG_ZERO;
    for (idx j = 0; j < s->m; j++) s->b[j] = s->nu[j] > 0 ? (s->b[j] > -1e-12 ? 0 : s->b[j]) : PK_LOG_ZERO;
  }
  for (idx i = 0; i < s->n; i++) s->alpha[i] = s->mu[i] > 0;
  for (idx j = 0; j < s->m; j++) s->beta[j] = s->nu[j] > 0;
  s->zeta = 1;
}
static double absorb(solver *s) {
  collect(s);
  const double total = build(s, s->a, s->b, s->z);
  set_rules(s);
  return total;
}
static double dual_update(pk_side side, double phi, double log_w, double lse) {
  if (!(log_w > PK_LOG_ZERO / 2) || !(lse > PK_LOG_ZERO / 2)) return PK_LOG_ZERO;
  return side == PK_SIDE_RELAXED ? phi * (log_w - lse) : side == PK_SIDE_HARD ? log_w - lse : fmin(0, log_w - lse);
}
/* One iteration by logarithms from a, b, z; the kernel is rebuilt. Returns the residual relative to the mass. */
static double log_iteration(solver *s) {
  const double inv = 1 / s->eps;
  double *next = s->ta, *columns = s->tb;
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx i = 0; i < s->n; i++) {
    const double lse = s->w->row_lse(s->ld, s->cost + i * s->ld, inv, s->b);
    next[i] = dual_update(s->p->side_a, s->phi_a, log_weight(s->mu[i]), lse > PK_LOG_ZERO / 2 ? lse + s->z : lse);
    s->x[i] = next[i] > PK_LOG_ZERO / 2 ? fabs(exp(fmin(next[i] + lse + s->z, 700)) - exp(fmin(s->a[i] + lse + s->z, 700))) : 0;
  }
  double change = 0;
  for (idx i = 0; i < s->n; i++) change += s->x[i];
  memcpy(s->a, next, (size_t)s->n * sizeof(double));
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx j = 0; j < s->ld; j += 8) s->w->column_lse(s->n, s->ld, s->cost, inv, s->a, j, j + 8, columns);
  for (idx j = 0; j < s->m; j++) {
    const double lse = columns[j] > PK_LOG_ZERO / 2 ? columns[j] + s->z : columns[j];
    s->b[j] = dual_update(s->p->side_b, s->phi_b, log_weight(s->nu[j]), lse);
  }
  s->passes += 3;
  double total = build(s, s->a, s->b, s->z);
  if (capped(s) && total > 0 && isfinite(total)) {
    change += fabs(s->p->mass - total);
    s->z += log(s->p->mass / total);
    total = build(s, s->a, s->b, s->z);
  }
  set_rules(s);
  return change / total;
}
static void start(solver *s) {
  for (idx i = 0; i < s->n; i++) s->a[i] = s->mu[i] > 0 ? 0 : PK_LOG_ZERO;
  for (idx j = 0; j < s->ld; j++) s->b[j] = j < s->m && s->nu[j] > 0 ? 0 : PK_LOG_ZERO;
  s->z = 0;
  if (!capped(s)) return;
  double top = PK_LOG_ZERO, sum = 0;
  for (idx i = 0; i < s->n; i++)
    if (s->mu[i] > 0) {
      const double x = s->w->row_lse(s->ld, s->cost + i * s->ld, 1 / s->eps, s->b), high = fmax(top, x);
      sum = sum * exp(top - high) + exp(x - high), top = high;
    }
  s->z = log(s->p->mass) - top - log(sum);
}
/* One iteration on the stored kernel; NaN when a sum or scaling is not a positive finite number. */
static double iterate(solver *s) {
  const wide_rule rules[] = {WIDE_HARD, WIDE_RELAXED, WIDE_CAPPED};
  wide_pass w = {.rule = rules[s->p->side_a], .ld = s->ld, .phi = s->phi_a, .zeta = s->zeta, .p = s->pa, .q = s->qa, .beta = s->beta, .alpha = s->alpha};
  double change, mass, total = 0, moved = 0, low = INFINITY, high = 0;
  solver_pass(s, &w, &change, &mass);
  if (!isfinite(change) || !isfinite(mass) || !(mass > 0)) return NAN;
  const pk_side side = s->p->side_b;
  for (idx j = 0; j < s->m; j++) {
    if (!(s->nu[j] > 0)) continue;
    const double c = s->out[j];
    double x = side == PK_SIDE_RELAXED ? exp(s->pb[j] - s->phi_b * log(c)) : s->pb[j] / c;
    if (side == PK_SIDE_CAPPED && !(x < s->qb[j])) x = s->qb[j];
    moved += c * fabs(x - s->beta[j]);
    s->beta[j] = x, total += x * c;
    low = x < low ? x : low, high = x > high ? x : high;
  }
  for (idx i = 0; i < s->n; i++)
    if (s->mu[i] > 0) low = s->alpha[i] < low ? s->alpha[i] : low, high = s->alpha[i] > high ? s->alpha[i] : high;
  if (!(low > 0) || !isfinite(high) || !isfinite(total) || !(total > 0)) return NAN;
  if (capped(s)) s->zeta *= s->p->mass / total, change += fabs(s->p->mass - total);
  change = fmax(change, moved);
  const double reach = exp(solver_reach);
  if (low < 1 / reach || high > reach || s->zeta > reach || s->zeta < 1 / reach) absorb(s);
  return change / mass;
}
static double penalty(double kappa, double w, double t) { return kappa > 0 ? w * -expm1(-kappa * t) / kappa : w * t; }
/* Dual value / eps at potentials with plan sum `total`. */
static double dual(const solver *s, const double *a, const double *b, double z, double total) {
  double d = -total + (capped(s) ? s->p->mass * z : 0);
  for (idx i = 0; i < s->n; i++)
    if (s->mu[i] > 0) d += penalty(s->kappa_a, s->mu[i], a[i]);
  for (idx j = 0; j < s->m; j++)
    if (s->nu[j] > 0) d += penalty(s->kappa_b, s->nu[j], b[j]);
  return d;
}
/* A Newton step of the dual with backtracking; 1 when it rose. Afterwards the kernel is the plan. */
static int newton(solver *s, double forcing, idx limit) {
  double total = absorb(s), change, mass;
  const double before = dual(s, s->a, s->b, s->z, total);
  if (!isfinite(before)) return 0;
  /* row sums to ta, column sums to tb: a linear pass with x = P 1 */
  for (idx i = 0; i < s->n; i++) s->pa[i] = 0, s->qa[i] = 1, s->x[i] = 0;
  for (idx j = 0; j < s->ld; j++) s->y[j] = 1;
  wide_pass w = {.rule = WIDE_LINEAR, .ld = s->ld, .zeta = 1, .p = s->pa, .q = s->qa, .beta = s->y, .alpha = s->x};
  solver_pass(s, &w, &change, &mass);
  memcpy(s->ta, s->x, (size_t)s->n * sizeof(double));
  for (idx i = 0; i < s->n; i++) s->pa[i] = 1, s->qa[i] = 1;
  for (idx j = 0; j < s->ld; j++) s->y[j] = 0;
  solver_pass(s, &w, &change, &mass);
  memcpy(s->tb, s->out, (size_t)s->ld * sizeof(double));
  int all_a = 1, all_b = 1;
  for (idx i = 0; i < s->n; i++) {
    const double t = s->mu[i] > 0 ? s->mu[i] * exp(-s->kappa_a * s->a[i]) : 0;
    const int on = s->mu[i] > 0 && s->ta[i] > 0 && (!capped(s) || s->a[i] < 0);
    s->da[i] = on ? s->ta[i] + s->kappa_a * t : 0, s->ra[i] = on ? t - s->ta[i] : 0;
    if (s->mu[i] > 0 && !on) all_a = 0;
  }
  for (idx j = 0; j < s->m; j++) {
    const double t = s->nu[j] > 0 ? s->nu[j] * exp(-s->kappa_b * s->b[j]) : 0;
    const int on = s->nu[j] > 0 && s->tb[j] > 0 && (!capped(s) || s->b[j] < 0);
    s->db[j] = on ? s->tb[j] + s->kappa_b * t : 0, s->rb[j] = on ? t - s->tb[j] : 0;
    if (s->nu[j] > 0 && !on) all_b = 0;
  }
  const int use_z = capped(s) && !all_a && !all_b;
  for (idx i = 0; i < s->n; i++) s->da[i] *= 1 + s->damping;
  for (idx j = 0; j < s->m; j++) s->db[j] *= 1 + s->damping;
  const double z = solver_linear(s, use_z, total * (1 + s->damping), capped(s) ? s->p->mass - total : 0, forcing, limit, NULL);
  double *x = s->pa; /* the step in a: x is overwritten by build() */
  memcpy(x, s->x, (size_t)s->n * sizeof(double));
  double largest = fabs(z);
  for (idx i = 0; i < s->n; i++) largest = fmax(largest, fabs(x[i]));
  for (idx j = 0; j < s->m; j++) largest = fmax(largest, fabs(s->y[j]));
  if (!isfinite(largest) || largest == 0) { set_rules(s); return 0; }
  /* Along a direction of almost no curvature the quadratic model is no guide: no potential moves by more than the costs differ. */
  const double bound = s->range / s->eps + 10;
  double t = largest > bound ? bound / largest : 1;
  const double full = t;
  for (int tries = 0; tries < 40; tries++, t *= 0.5) {
    for (idx i = 0; i < s->n; i++) s->ta[i] = s->mu[i] > 0 ? s->a[i] + t * x[i] : PK_LOG_ZERO;
    for (idx j = 0; j < s->ld; j++) s->tb[j] = j < s->m && s->nu[j] > 0 ? s->b[j] + t * s->y[j] : PK_LOG_ZERO;
    if (capped(s)) {
      for (idx i = 0; i < s->n; i++) s->ta[i] = fmin(s->ta[i], 0);
      for (idx j = 0; j < s->m; j++) s->tb[j] = fmin(s->tb[j], 0);
    }
    total = build(s, s->ta, s->tb, s->z + t * z);
    s->passes++;
    const double after = dual(s, s->ta, s->tb, s->z + t * z, total);
    /* near the optimum the rise drowns in rounding: an equal value is accepted there */
    if (isfinite(after) && after >= before - 1e-15 * (fabs(before) + total)) {
      memcpy(s->a, s->ta, (size_t)s->n * sizeof(double)), memcpy(s->b, s->tb, (size_t)s->ld * sizeof(double));
      s->z += t * z;
      set_rules(s);
      /* Levenberg-Marquardt: damp when the quadratic model was far off, trust it more when it was good */
      s->damping = t > 0.9 ? (s->damping > 1e-12 ? s->damping / 10 : 0) : t < 0.2 ? fmax(4 * s->damping, 1e-6) : s->damping;
      return t > 1e-6 * full;
    }
  }
  s->damping = fmax(10 * s->damping, 1e-6);
  build(s, s->a, s->b, s->z);
  set_rules(s);
  return 0;
}

/* Below this the residual is rounding, and the dual cannot tell one step from another. */
static const double solver_floor = 1e-13;
/* An intermediate level needs a start for the next one, not a solution. */
static const double solver_level_tolerance = 1e-2;
static const idx solver_level_passes = 400;
static pk_outcome run_level(solver *s, double tolerance, idx last_pass, int final, double *residual) {
  double best = INFINITY, mark = INFINITY;
  idx count = 0, since = 0, newton_from = final ? 30 : 20;
  *residual = log_iteration(s);
  if (isfinite(*residual)) *residual = 1; /* the start had no column update: an unchanged row proves nothing */
  while (isfinite(*residual)) {
    if (*residual <= tolerance) return PK_CONVERGED;
    if (s->passes >= last_pass) return PK_MAX_ITERATIONS;
    if (*residual < 0.99 * best) best = *residual, since = 0;
    else if (++since > 300) return PK_STALLED;
    if (++count >= newton_from) {
      /* passes that plain iteration still needs at the rate of the last ten */
      const double rate = log(mark / *residual) / 10, needed = rate > 0 ? log(*residual / tolerance) / rate : INFINITY;
      newton_from = count + 10;
      if (needed > 40 && *residual > solver_floor && !newton(s, fmin(0.1, sqrt(fmin(*residual, 1))), 400)) newton_from = count + 50;
      mark = INFINITY;
    }
    if (count == newton_from - 10) mark = *residual;
    const double next = iterate(s);
    if (isfinite(next)) { *residual = next; continue; }
    /* from the potentials of the last absorption */
    *residual = log_iteration(s);
    if (!final && s->passes >= last_pass) return PK_MAX_ITERATIONS;
  }
  return PK_NON_FINITE;
}

static void report(solver *s, pk_sinkhorn_result *r) {
  double *rows = s->ta, *columns = s->tb, change, mass;
  for (idx i = 0; i < s->n; i++) s->pa[i] = 0, s->qa[i] = 1, s->x[i] = 0;
  for (idx j = 0; j < s->ld; j++) s->y[j] = 1;
  wide_pass w = {.rule = WIDE_LINEAR, .ld = s->ld, .zeta = 1, .p = s->pa, .q = s->qa, .beta = s->y, .alpha = s->x};
  solver_pass(s, &w, &change, &mass);
  memcpy(rows, s->x, (size_t)s->n * sizeof(double));
  for (idx i = 0; i < s->n; i++) s->pa[i] = 1;
  for (idx j = 0; j < s->ld; j++) s->y[j] = 0;
  solver_pass(s, &w, &change, &mass);
  memcpy(columns, s->out, (size_t)s->ld * sizeof(double));
  s->passes -= 2;
  /* sum P (log P - 1) = sum P (a + b + z - C / eps) - sum P */
  r->mass = r->cost = r->entropy = 0;
  for (idx i = 0; i < s->n; i++) {
    double sums[2];
    s->w->dots(s->ld, s->k + i * s->ld, s->cost + i * s->ld, sums);
    r->mass += sums[0], r->cost += sums[1];
    if (s->mu[i] > 0) r->entropy += rows[i] * (s->a[i] + s->z);
  }
  for (idx j = 0; j < s->m; j++)
    if (s->nu[j] > 0) r->entropy += columns[j] * s->b[j];
  r->entropy -= r->cost / s->eps + r->mass;
  r->dual = s->eps * dual(s, s->a, s->b, s->z, r->mass);
  r->penalty_a = r->penalty_b = r->error_linf = 0;
  double l1[2] = {0, 0};
  for (int side = 0; side < 2; side++) {
    const idx count = side ? s->m : s->n;
    const double *sums = side ? columns : rows, *weights = side ? s->nu : s->mu, *t = side ? s->b : s->a;
    const double kappa = side ? s->kappa_b : s->kappa_a, rho = side ? s->p->rho_b : s->p->rho_a;
    const pk_side kind = side ? s->p->side_b : s->p->side_a;
    double kl = 0;
    for (idx i = 0; i < count; i++) {
      const double q = weights[i], p = sums[i];
      double e = kind == PK_SIDE_CAPPED ? fmax(p - q, 0) : fabs(p - (q > 0 && kind == PK_SIDE_RELAXED ? q * exp(-kappa * t[i]) : q));
      l1[side] += e, r->error_linf = fmax(r->error_linf, e);
      kl += q - p + (p > 0 ? p * log(p / q) : 0);
    }
    if (kind == PK_SIDE_RELAXED) *(side ? &r->penalty_b : &r->penalty_a) = rho * kl;
  }
  r->error_l1 = fmax(l1[0], l1[1]);
  if (capped(s)) {
    const double e = fabs(r->mass - s->p->mass);
    r->error_l1 = fmax(r->error_l1, e), r->error_linf = fmax(r->error_linf, e);
  }
  r->z = s->z, r->iterations = s->passes;
}

pk_status pk_sinkhorn_solve(const pk_sinkhorn_problem *p, const double *cost, const double *mu, const double *nu, double *plan, double *a,
                            double *b, pk_sinkhorn_result *result, double *scratch) {
  if (p->n < 1 || p->m < 1 || p->ld < p->m || p->ld % 8 || !(p->epsilon > 0)) return PK_BAD_SHAPE;
  if ((p->side_a == PK_SIDE_CAPPED) != (p->side_b == PK_SIDE_CAPPED)) return PK_BAD_SHAPE;
  solver s = {.cost = cost, .mu = mu, .nu = nu, .k = plan, .a = a, .b = b};
  solver_layout(&s, p, scratch);
  double low = INFINITY, high = -INFINITY;
  for (idx i = 0; i < p->n; i++)
    for (idx j = 0; j < p->m; j++) {
      const double c = cost[i * p->ld + j];
      low = c < low ? c : low, high = c > high ? c : high;
    }
  s.range = high - low;
  /* levels eps 4^k: none while the range is within 100 eps */
  int levels = 0;
  for (double e = p->epsilon * 100; e < s.range && levels < 40; e *= 4) levels++;
  double eps = p->epsilon * pow(4, levels);
  set_level(&s, eps);
  start(&s);
  for (; levels > 0; levels--) {
    const idx until = s.passes + solver_level_passes;
    run_level(&s, solver_level_tolerance, until < p->max_iterations ? until : p->max_iterations, 0, &result->residual);
    collect(&s);
    const double next = p->epsilon * pow(4, levels - 1);
    for (idx i = 0; i < s.n; i++)
      if (mu[i] > 0) a[i] *= eps / next;
    for (idx j = 0; j < s.m; j++)
      if (nu[j] > 0) b[j] *= eps / next;
    s.z *= eps / next, eps = next;
    set_level(&s, eps);
  }
  result->outcome = run_level(&s, p->tolerance, p->max_iterations, 1, &result->residual);
  absorb(&s);
  report(&s, result);
  if (!isfinite(result->mass) || !isfinite(result->cost)) result->outcome = PK_NON_FINITE;
  return PK_OK;
}

pk_status pk_sinkhorn_gradient(const pk_sinkhorn_problem *p, const double *plan, const double *a, const double *b, const double *g,
                               double scale, double *dcost, double *residual, double *scratch) {
  if (p->n < 1 || p->m < 1 || p->ld < p->m || p->ld % 8 || !(p->epsilon > 0)) return PK_BAD_SHAPE;
  solver s = {.k = (double *)plan, .a = (double *)a, .b = (double *)b};
  solver_layout(&s, p, scratch);
  set_level(&s, p->epsilon);
  const idx n = s.n, m = s.m, ld = s.ld, blocks = s.blocks;
  const int cap = p->side_a == PK_SIDE_CAPPED;
  /* sums of P and of P G along both axes, over fixed row blocks */
  for (int which = 0; which < 2; which++) {
    double *rows = which ? s.ra : s.ta, *columns = which ? s.rb : s.tb;
#pragma omp parallel for schedule(static) if (solver_parallel(&s))
    for (idx q = 0; q < blocks; q++) {
      double *acc = s.acc + q * ld;
      memset(acc, 0, (size_t)ld * sizeof(double));
      for (idx i = n * q / blocks; i < n * (q + 1) / blocks; i++) {
        double sum = 0;
        for (idx j = 0; j < m; j++) {
          const double v = plan[i * ld + j] * (which ? g[i * ld + j] : 1);
          sum += v, acc[j] += v;
        }
        rows[i] = sum;
      }
    }
    for (idx j = 0; j < ld; j++) {
      columns[j] = 0;
      for (idx q = 0; q < blocks; q++) columns[j] += s.acc[q * ld + j];
    }
  }
  double total = 0, pg = 0;
  int all_a = 1, all_b = 1;
  for (idx i = 0; i < n; i++) {
    const int on = s.ta[i] > 0 && (!cap || a[i] < 0);
    total += s.ta[i], pg += s.ra[i];
    if (s.ta[i] > 0 && !on) all_a = 0;
    s.da[i] = on ? s.ta[i] / s.phi_a : 0;
    if (!on) s.ra[i] = 0;
  }
  for (idx j = 0; j < m; j++) {
    const int on = s.tb[j] > 0 && (!cap || b[j] < 0);
    if (s.tb[j] > 0 && !on) all_b = 0;
    s.db[j] = on ? s.tb[j] / s.phi_b : 0;
    if (!on) s.rb[j] = 0;
  }
  for (idx j = m; j < ld + 8; j++) s.db[j] = s.rb[j] = 0;
  const double z = solver_linear(&s, cap && !all_a && !all_b, total, pg, 1e-13, 2 * (n + m) + 100, residual);
  const double inv = 1 / p->epsilon;
#pragma omp parallel for schedule(static) if (solver_parallel(&s))
  for (idx i = 0; i < n; i++)
    for (idx j = 0; j < ld; j++) {
      const double v = plan[i * ld + j];
      dcost[i * ld + j] = j < m ? v * ((s.x[i] + s.y[j] + z) - g[i * ld + j]) * inv + scale * v : 0;
    }
  return PK_OK;
}
