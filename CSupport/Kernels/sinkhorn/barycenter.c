/* Barycenters: memory, start, stopping and certificate (pk_barycenter.h). */
#include "barycenter_state.h"

static idx layout(barycenter_state *s, const pk_barycenter_problem *p, char *scratch) {
  solver form; /* for its table of kernels and its row length */
  const idx rows = p->debiased && p->m > p->n ? p->m : p->n;
  const pk_sinkhorn_problem square = {.n = rows, .m = p->m, .type = PK_F64};
  solver_layout(&form, &square, PK_F64, 1, NULL);
  *s = (barycenter_state){.p = p,
                          .vectors = form.kernel.vectors,
                          .m = p->m,
                          .ld = form.kernel.stride,
                          .blocks = form.kernel.blocks,
                          .chunks = form.kernel.chunks,
                          .plans = p->count + (p->debiased != 0)};
  idx at = 0;
  char *base = scratch ? align_to_line(scratch) : NULL;
  s->plan = carve(base, &at, s->plans * (idx)sizeof(barycenter_plan));
  s->a = carve(base, &at, s->ld * 8), s->zeros = carve(base, &at, (rows + 8) * 8),
  s->ones = carve(base, &at, (rows + 8) * 8);
  s->top = carve(base, &at, s->blocks * s->ld * 8),
  s->shared = carve(base, &at, p->cost_stride ? 0 : p->n * s->ld * 8);
  for (idx k = 0; k < s->plans; k++) {
    barycenter_plan t = {.n = k < p->count ? p->n : p->m};
    t.phi = carve(base, &at, (t.n + 8) * 8), t.alpha = carve(base, &at, (t.n + 8) * 8);
    double **columns[] = {&t.gamma, &t.beta, &t.g, &t.h, &t.out};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
      *columns[i] = carve(base, &at, s->ld * 8);
    t.acc = carve(base, &at, s->blocks * s->ld * 8);
    t.sums = carve(base, &at, s->blocks * (idx)sizeof(update_sums)),
    t.chunks = carve(base, &at, s->chunks * (idx)sizeof(update_sums));
    t.own = carve(base, &at, t.n * s->ld * 8);
    if (base) s->plan[k] = t;
  }
  return at + 64;
}

static void start(barycenter_state *s, const double *cost, const double *own, const double *b,
                  const double *w) {
  const pk_barycenter_problem *p = s->p;
  const idx rows = p->debiased && p->m > p->n ? p->m : p->n;
  for (idx i = 0; i < rows + 8; i++) s->zeros[i] = 0, s->ones[i] = 1;
  double range[2] = {INFINITY, -INFINITY};
  for (idx i = 0; i < p->n && !p->cost_stride; i++)
    s->vectors->cost_range(s->m, cost + i * s->m, range);
  for (idx k = 0; k < s->plans; k++) {
    barycenter_plan *t = &s->plan[k];
    t->weights = k < p->count ? b + k * p->n : NULL, t->share = k < p->count ? w[k] : 0;
    t->cost = k < p->count ? cost + k * p->cost_stride : own ? own : cost;
    for (idx j = 0; j < s->ld; j++)
      t->gamma[j] = t->g[j] = j < s->m ? 0 : PK_LOG_ZERO, t->beta[j] = j < s->m,
      t->out[j] = t->h[j] = 0;
    for (idx i = 0; i < t->n + 8; i++)
      t->phi[i] = range[0] / p->epsilon, t->alpha[i] = i < t->n && barycenter_on(t, i);
    t->kernel = NULL;
    if (p->cost_stride || t->cost != cost) continue;
    if (k)
      t->kernel = s->shared;
    else
      barycenter_build(s, t, s->shared);
  }
  if (!p->cost_stride)
    for (idx k = 0; k < s->plans; k++) /* a cost of its own beside a shared one */
      if (!s->plan[k].kernel)
        barycenter_by_logarithms(s, &s->plan[k]), barycenter_absorb(s, &s->plan[k]);
}

/* Iterations after which the factor of over-relaxation is changed, at least; and iterations
 * without a new least residual that count as a stall. */
static const idx rate_span = 8, stall_after = 300;

/* What the residuals have shown. */
typedef struct {
  double best; /* least residual, and iterations since then */
  idx since;
  double omega, used; /* the factor chosen, and the one of the last iteration */
  double mark;        /* residual at the beginning of a span of iterations */
  idx marked, span;
  idx failures, wait; /* rates of 1 or more; plain iterations until then */
  idx probe, probe_from;
} monitor;

/* Debiased, convergence may be as slow as 1 / count. */
static int has_stalled(const pk_barycenter_problem *p, monitor *w, idx count, double residual) {
  if (residual < 0.99 * w->best) {
    w->best = residual;
    w->since = 0;
    return 0;
  }
  return p->tolerance > 0 && ++w->since > (p->debiased ? stall_after + count / 2 : stall_after);
}

static void react_to_rate(const pk_barycenter_problem *p, monitor *w, idx count, double residual) {
  const double rate = pow(residual / w->mark, 1.0 / (double)(count - w->marked));
  if (isfinite(w->mark) && count >= w->wait && residual < 0.5) {
    if (rate >= 1) {
      if (w->omega != 1) w->omega = 1, w->wait = count + 50 * ++w->failures;
    } else if (log(p->tolerance / residual) / log(rate) > 15 &&
               (w->omega == 1 || rate > pow(w->omega - 1, 0.75))) {
      w->omega = over_relaxation(rate, w->omega);
    }
    w->span = (idx)fmax((double)rate_span, 1.0 / (2 - w->omega));
  }
  w->mark = residual, w->marked = count;
}

/* The factor of the next iteration. Over-relaxed, the residual is several times the one that plain
 * iterations leave: near the tolerance two of those are made to see it. */
static double next_factor(const pk_barycenter_problem *p, monitor *w, idx count, double residual) {
  if (p->plain || p->debiased || !(p->tolerance > 0)) return w->used;
  if (!isfinite(w->mark) || count >= w->marked + w->span) react_to_rate(p, w, count, residual);
  if (w->omega != 1 && w->probe == 0 && residual <= 8 * p->tolerance && count >= w->probe_from)
    w->probe = 2, w->probe_from = count + rate_span;
  w->used = w->probe > 0 ? 1 : w->omega;
  w->probe -= w->probe > 0;
  return w->used;
}

static pk_outcome run(barycenter_state *s, pk_barycenter_result *r) {
  const pk_barycenter_problem *p = s->p;
  monitor w = {.best = INFINITY, .omega = 1, .used = 1, .mark = INFINITY, .span = rate_span};
  for (r->iterations = 0;;) {
    const idx count = ++r->iterations;
    r->residual = barycenter_iterate(s, count == 1, w.used);
    if (!isfinite(r->residual)) return PK_NON_FINITE;
    if (p->tolerance > 0 && r->residual <= p->tolerance && w.used == 1) return PK_CONVERGED;
    if (count >= p->max_iterations) return PK_MAX_ITERATIONS;
    if (p->progress && p->progress(p->context, count, r->residual)) return PK_INTERRUPTED;
    if (has_stalled(p, &w, count, r->residual)) return PK_STALLED;
    next_factor(p, &w, count, r->residual);
  }
}

/* Values of one plan. entropy: sum P log P. */
typedef struct {
  double mass, cost, entropy, error_l1, error_linf;
} plan_values;

/* Sums of the rows and columns of plan t with potentials f and t->g, its cost and entropy, against
 * the marginals. */
static plan_values evaluate(barycenter_state *s, const barycenter_plan *t, const double *f) {
  const idx ld = s->ld;
  double *rows = t->alpha, *costs = t->phi;
#pragma omp parallel for schedule(static) if (barycenter_parallel(s, t->n))
  for (idx q = 0; q < s->blocks; q++) {
    memset(t->acc + q * ld, 0, (size_t)ld * 8);
    for (idx i = barycenter_block(s, t, q); i < barycenter_block(s, t, q + 1); i++) {
      double sums[2] = {0, 0};
      s->vectors->plan_row(s->m, t->cost + i * s->m, 1 / s->p->epsilon, fmax(f[i], PK_LOG_ZERO),
                           t->g, NULL, t->acc + q * ld, sums);
      rows[i] = sums[0], costs[i] = sums[1];
    }
  }
  plan_values v = {0};
  double l1[2] = {0, 0};
  for (idx i = 0; i < t->n; i++) {
    const double e = fabs(rows[i] - (t->weights ? t->weights[i] : s->a[i]));
    l1[ROWS] += e, v.error_linf = fmax(v.error_linf, e);
    v.mass += rows[i], v.cost += costs[i];
    if (rows[i] > 0) v.entropy += rows[i] * f[i];
  }
  for (idx j = 0; j < s->m; j++) {
    double sum = 0;
    for (idx q = 0; q < s->blocks; q++) sum += t->acc[q * ld + j];
    const double e = fabs(sum - s->a[j]);
    l1[COLUMNS] += e, v.error_linf = fmax(v.error_linf, e);
    if (sum > 0) v.entropy += sum * t->g[j];
  }
  v.entropy -= v.cost / s->p->epsilon;
  v.error_l1 = fmax(l1[ROWS], l1[COLUMNS]);
  return v;
}

/* Adds plan k to the result. */
static plan_values add_plan(barycenter_state *s, idx k, double *f, double *g,
                            pk_barycenter_result *r) {
  const pk_barycenter_problem *p = s->p;
  barycenter_plan *t = &s->plan[k];
  double *potential = t->weights ? f + k * p->n : t->g;
  for (idx i = 0; i < t->n && t->weights; i++)
    potential[i] = barycenter_on(t, i) ? t->phi[i] + log(t->alpha[i]) : PK_LOG_ZERO;
  const plan_values v = evaluate(s, t, potential);
  r->error_l1 = fmax(r->error_l1, v.error_l1), r->error_linf = fmax(r->error_linf, v.error_linf);
  if (!isfinite(v.mass) || !isfinite(v.cost)) r->outcome = PK_NON_FINITE;
  const double value = v.cost + p->epsilon * (v.entropy - v.mass);
  if (!t->weights) {
    r->objective -= 0.5 * value, r->dual = NAN;
    return v;
  }
  double gain = -v.mass;
  for (idx i = 0; i < p->n; i++)
    if (barycenter_on(t, i)) gain += t->weights[i] * potential[i];
  r->cost += t->share * v.cost;
  r->objective += t->share * value;
  r->dual += t->share * p->epsilon * gain;
  memcpy(g + k * p->m, t->g, (size_t)p->m * 8);
  return v;
}

static int valid(const pk_barycenter_problem *p, const double *own) {
  if (p->count < 1 || p->n < 1 || p->m < 1 || !(p->epsilon > 0)) return 0;
  return !p->debiased || own || (!p->cost_stride && p->n == p->m);
}

ptrdiff_t pk_barycenter_scratch(const pk_barycenter_problem *p) {
  barycenter_state s;
  return layout(&s, p, NULL);
}

pk_status pk_barycenter(const pk_barycenter_problem *p, const double *cost, const double *own,
                        const double *b, const double *w, double *a, double *f, double *g,
                        double *errors, pk_barycenter_result *r, void *scratch) {
  if (!valid(p, own)) return PK_BAD_SHAPE;
  barycenter_state s;
  layout(&s, p, scratch);
  start(&s, cost, own, b, w);
  memset(r, 0, sizeof *r);
  r->outcome = run(&s, r);
  memcpy(a, s.a, (size_t)s.m * 8);
  for (idx j = 0; j < s.m; j++) r->mass += a[j];
  for (idx k = 0; k < s.plans; k++) {
    const plan_values v = add_plan(&s, k, f, g, r);
    if (errors && k < p->count) errors[k] = v.error_l1;
  }
  if (!isfinite(r->mass)) r->outcome = PK_NON_FINITE;
  if (r->outcome == PK_CONVERGED && !(r->error_l1 <= fmax(p->tolerance, 1e-14) * r->mass))
    r->outcome = PK_STALLED;
  return PK_OK;
}
