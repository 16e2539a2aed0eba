#include "solver.h"

/* One plan: of histogram k with the barycenter, or (debiased, the last) of the barycenter with
 * itself, whose weights are NULL and whose g is l. */
typedef struct {
  idx n;
  const double *cost, *weights;
  double share;         /* w_k */
  double *kernel, *own; /* exp(phi + gamma - C / eps) [n, ld]: a shared one or its own */
  double *phi, *alpha;  /* [n] */
  /* [ld]; h: LSE_i(f - C / eps), of the last plan LSE_j(l - D / eps) */
  double *gamma, *beta, *g, *h, *out;
  double *acc;       /* [blocks, ld] */
  update_sums *sums; /* [blocks] */
  /* [chunks]: low, high and bad of the sums behind h; change: |P' 1 - a| */
  update_sums *chunks;
} plan;

typedef struct {
  const pk_barycenter_problem *p;
  const vector_kernels *w;
  idx m, ld, blocks, chunks, plans;
  plan *plan;
  double *a, *zeros, *ones, *top; /* [ld], [rows], [rows], [blocks, ld] */
  double *shared;                 /* the kernel of a shared cost */
} state;

/* Scalings of a kernel of one's own are absorbed beyond exp(+-50). A shared kernel without
 * potentials holds C / eps up to 708: with scalings below exp(320) what it lost counts for less
 * than exp(640 - 708) of the mass. */
static const double own_range = 50, shared_range = 320;

static void *take(char *base, idx *at, idx bytes) {
  char *p = base ? base + *at : NULL;
  *at += (bytes + 63) / 64 * 64;
  return p;
}

static idx layout(state *s, const pk_barycenter_problem *p, char *scratch) {
  solver form; /* for its table of kernels and its row length */
  const idx rows = p->debiased && p->m > p->n ? p->m : p->n;
  const pk_sinkhorn_problem square = {.n = rows, .m = p->m, .type = PK_F64};
  solver_layout(&form, &square, PK_F64, 1, NULL);
  *s = (state){.p = p,
               .w = form.w,
               .m = p->m,
               .ld = form.ld,
               .blocks = form.blocks,
               .chunks = form.chunks,
               .plans = p->count + (p->debiased != 0)};
  idx at = 0;
  char *base = scratch ? (char *)(((uintptr_t)scratch + 63) / 64 * 64) : NULL;
  s->plan = take(base, &at, s->plans * (idx)sizeof(plan));
  s->a = take(base, &at, s->ld * 8), s->zeros = take(base, &at, (rows + 8) * 8),
  s->ones = take(base, &at, (rows + 8) * 8);
  s->top = take(base, &at, s->blocks * s->ld * 8),
  s->shared = take(base, &at, p->cost_stride ? 0 : p->n * s->ld * 8);
  for (idx k = 0; k < s->plans; k++) {
    plan t = {.n = k < p->count ? p->n : p->m};
    t.phi = take(base, &at, (t.n + 8) * 8), t.alpha = take(base, &at, (t.n + 8) * 8);
    double **columns[] = {&t.gamma, &t.beta, &t.g, &t.h, &t.out};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
      *columns[i] = take(base, &at, s->ld * 8);
    t.acc = take(base, &at, s->blocks * s->ld * 8);
    t.sums = take(base, &at, s->blocks * (idx)sizeof(update_sums)),
    t.chunks = take(base, &at, s->chunks * (idx)sizeof(update_sums));
    t.own = take(base, &at, t.n * s->ld * 8);
    if (base) s->plan[k] = t;
  }
  return at + 64;
}

static idx block(const state *s, const plan *t, idx q) {
  const idx at = (t->n + 7) / 8 * q / s->blocks * 8;
  return at < t->n ? at : t->n;
}

static int on(const plan *t, idx i) { return !t->weights || t->weights[i] > 0; }

static int parallel(const state *s, idx rows) {
  return !omp_in_parallel() && rows * s->ld > PK_SERIAL;
}

/* The kernel of phi and gamma, with scalings 1 of the rows. */
static void build(state *s, plan *t, double *kernel) {
#pragma omp parallel for schedule(static) if (parallel(s, t->n))
  for (idx q = 0; q < s->blocks; q++)
    for (idx i = block(s, t, q); i < block(s, t, q + 1); i++) {
      s->w->kernel_row(s->m, s->ld, t->cost + i * s->m, 1 / s->p->epsilon, t->phi[i], t->gamma,
                       kernel + i * s->ld);
      t->alpha[i] = on(t, i);
    }
  t->kernel = kernel;
}

/* A kernel of its own around phi and h: its columns' sums are 1; of the plan of a with itself the
 * rows' sums. */
static void absorb(state *s, plan *t) {
  for (idx j = 0; j < s->ld; j++)
    t->gamma[j] = j < s->m ? (t->weights ? -t->h[j] : t->g[j]) : PK_LOG_ZERO;
  for (idx i = 0; i < t->n; i++)
    t->phi[i] = !t->weights ? -t->h[i] : on(t, i) ? t->phi[i] + log(t->alpha[i]) : PK_LOG_ZERO;
  build(s, t, t->own);
}

/* phi = f and h from g by logarithms. */
static void by_logarithms(state *s, plan *t) {
  const idx ld = s->ld;
  const double inv = 1 / s->p->epsilon;
#pragma omp parallel for schedule(static) if (parallel(s, t->n))
  for (idx q = 0; q < s->blocks; q++) {
    double *sum = t->acc + q * ld, *top = s->top + q * ld;
    for (idx j = 0; j < ld; j++) sum[j] = 0, top[j] = PK_LOG_ZERO;
    for (idx i = block(s, t, q); i < block(s, t, q + 1); i++) {
      const double *c = t->cost + i * s->m;
      if (!t->weights) {
        t->h[i] = s->w->row_lse(s->m, c, inv, t->g);
      } else if (on(t, i)) {
        t->phi[i] = log(t->weights[i]) - s->w->row_lse(s->m, c, inv, t->g);
        t->alpha[i] = 1;
        s->w->column_lse(s->m, c, inv, t->phi[i], top, sum);
      }
    }
  }
  for (idx j = 0; j < s->m && t->weights; j++) {
    double top = PK_LOG_ZERO, sum = 0;
    for (idx q = 0; q < s->blocks; q++) {
      const double x = s->top[q * ld + j], high = fmax(top, x);
      sum = sum * exp(top - high) + t->acc[q * ld + j] * exp(x - high), top = high;
    }
    t->h[j] = top + log(sum);
  }
}

/* Row scalings and the blocks' column sums of all plans, those that share a kernel on one piece of
 * it after the other. */
static void pass(state *s, double omega) {
  const idx ld = s->ld, step = 32768 / ld < 8 ? 8 : 32768 / ld > 64 ? 64 : 32768 / ld / 8 * 8;
#pragma omp parallel for schedule(static) if (parallel(s, s->plans * s->plan->n))
  for (idx q = 0; q < s->blocks; q++)
    for (idx first = 0, end; first < s->plans; first = end) {
      for (end = first; end < s->plans && s->plan[end].kernel == s->plan[first].kernel; end++) {
        memset(s->plan[end].acc + q * ld, 0, (size_t)ld * 8);
        s->plan[end].sums[q] = NO_SUMS;
      }
      const idx last = block(s, &s->plan[first], q + 1);
      for (idx i = block(s, &s->plan[first], q); i < last; i += step)
        for (idx k = first; k < end; k++) {
          plan *t = &s->plan[k];
          const side_update rows = {.rule = t->weights ? UPDATE_HARD : UPDATE_LINEAR,
                                    .zeta = 1,
                                    .omega = omega - 1,
                                    .p = t->weights ? t->weights : s->zeros,
                                    .q = s->ones,
                                    .scaling = t->alpha};
          s->w->pass(&rows, i, last - i < step ? last - i : step, ld, t->kernel + i * ld, t->beta,
                     t->acc + q * ld, &t->sums[q]);
        }
    }
}

/* h from the sums of a pass, and what to think of them. */
static void logarithms(state *s) {
  const side_update sums = {.rule = UPDATE_LINEAR, .zeta = 1};
  block_pair pairs[SOLVER_BLOCKS];
  const idx left = solver_pairs(s->blocks, s->blocks, -1, pairs); /* all: a block a thread */
#pragma omp parallel for schedule(static) if (parallel(s, s->plans * 8))
  for (idx c = 0; c < s->chunks; c++)
    for (idx k = 0; k < s->plans; k++) {
      plan *t = &s->plan[k];
      const idx j0 = c * SOLVER_CHUNK, j1 = j0 + SOLVER_CHUNK < s->ld ? j0 + SOLVER_CHUNK : s->ld;
      update_sums none = NO_SUMS, *w = &t->chunks[c];
      *w = NO_SUMS;
      if (t->weights)
        solver_columns(s->w, &sums, j0, j1, s->ld, pairs, left, t->acc, t->out, NULL, &none);
      for (idx j = j0; j < j1 && j < s->m; j++) {
        const double x = t->weights ? t->out[j] : t->alpha[j];
        t->h[j] = log(x) - (t->weights ? t->gamma[j] : t->phi[j]);
        w->low = fmin(w->low, x), w->high = fmax(w->high, x), w->bad += !(x > 1e-290 && x < 1e300);
      }
    }
}

/* Whether a plan's sums are useless (2), or its scalings have left the range of its kernel (1). */
static int judge(const state *s, const plan *t) {
  double bad = 0, low = INFINITY, high = 0, least = INFINITY, most = 0;
  for (idx q = 0; q < s->blocks; q++)
    bad += t->sums[q].bad, low = fmin(low, t->sums[q].low), high = fmax(high, t->sums[q].high);
  for (idx c = 0; c < s->chunks; c++)
    bad += t->chunks[c].bad, least = fmin(least, t->chunks[c].low),
                             most = fmax(most, t->chunks[c].high);
  if (bad > 0) return 2;
  if (t->kernel != t->own) {
    for (idx j = 0; j < s->m; j++) high = fmax(high, t->beta[j]);
    return high > exp(shared_range);
  }
  const double range = exp(own_range);
  return high > range || (t->weights && low < 1 / range) || most > range || least < 1 / range;
}

/* a and the potentials g from h. Returns the largest error of a plan's column sums before,
 * relative. */
static double combine(state *s, double omega) {
  plan *self = s->p->debiased ? &s->plan[s->p->count] : NULL;
#pragma omp parallel for schedule(static) if (parallel(s, s->plans * 8))
  for (idx c = 0; c < s->chunks; c++) {
    for (idx k = 0; k < s->plans; k++) s->plan[k].chunks[c].change = 0;
    for (idx j = c * SOLVER_CHUNK; j < (c + 1) * SOLVER_CHUNK && j < s->m; j++) {
      double log_a = self ? self->g[j] : 0;
      for (idx k = 0; k < s->p->count; k++) log_a += s->plan[k].share * s->plan[k].h[j];
      s->a[j] = exp(log_a);
      for (idx k = 0; k < s->plans; k++) {
        plan *t = &s->plan[k];
        const double next = log_a - t->h[j];
        t->chunks[c].change += fabs(exp(t->g[j] + t->h[j]) - s->a[j]);
        t->g[j] = t == self    ? 0.5 * (t->g[j] + next)
                  : omega == 1 ? next
                               : t->g[j] + omega * (next - t->g[j]);
        t->beta[j] = exp(t->g[j] - t->gamma[j]);
      }
    }
  }
  double mass = 0, worst = 0;
  for (idx j = 0; j < s->m; j++) mass += s->a[j];
  for (idx k = 0; k < s->plans; k++) {
    double change = 0;
    for (idx c = 0; c < s->chunks; c++) change += s->plan[k].chunks[c].change;
    worst = change >= worst ? change : isnan(change) ? change : worst;
  }
  return worst / mass;
}

static double iterate(state *s, int first, double omega) {
  if (!first || s->plan->kernel) pass(s, omega), logarithms(s);
  for (idx k = 0; k < s->plans; k++) {
    plan *t = &s->plan[k];
    const int verdict = t->kernel ? judge(s, t) : 2;
    if (verdict == 2) by_logarithms(s, t);
    if (verdict) absorb(s, t);
  }
  return combine(s, omega);
}

static void start(state *s, const double *cost, const double *own, const double *b,
                  const double *w) {
  const pk_barycenter_problem *p = s->p;
  const idx rows = p->debiased && p->m > p->n ? p->m : p->n;
  for (idx i = 0; i < rows + 8; i++) s->zeros[i] = 0, s->ones[i] = 1;
  double range[2] = {INFINITY, -INFINITY};
  for (idx i = 0; i < p->n && !p->cost_stride; i++) s->w->cost_range(s->m, cost + i * s->m, range);
  for (idx k = 0; k < s->plans; k++) {
    plan *t = &s->plan[k];
    t->weights = k < p->count ? b + k * p->n : NULL, t->share = k < p->count ? w[k] : 0;
    t->cost = k < p->count ? cost + k * p->cost_stride : own ? own : cost;
    for (idx j = 0; j < s->ld; j++)
      t->gamma[j] = t->g[j] = j < s->m ? 0 : PK_LOG_ZERO, t->beta[j] = j < s->m,
      t->out[j] = t->h[j] = 0;
    for (idx i = 0; i < t->n + 8; i++)
      t->phi[i] = range[0] / p->epsilon, t->alpha[i] = i < t->n && on(t, i);
    t->kernel = NULL;
    if (p->cost_stride || t->cost != cost) continue;
    if (k)
      t->kernel = s->shared;
    else
      build(s, t, s->shared);
  }
  if (!p->cost_stride)
    for (idx k = 0; k < s->plans; k++) /* a cost of its own beside a shared one */
      if (!s->plan[k].kernel) by_logarithms(s, &s->plan[k]), absorb(s, &s->plan[k]);
}

static const idx rate_span = 8, stall_after = 300;

static pk_outcome run(state *s, pk_barycenter_result *r) {
  const pk_barycenter_problem *p = s->p;
  double best = INFINITY, mark = INFINITY, omega = 1, used = 1;
  idx since = 0, marked = 0, span = rate_span, failures = 0, wait = 0, probe = 0, look = 0;
  for (r->iterations = 0;;) {
    const idx count = ++r->iterations;
    r->residual = iterate(s, count == 1, used);
    if (!isfinite(r->residual)) return PK_NON_FINITE;
    if (p->tolerance > 0 && r->residual <= p->tolerance && used == 1) return PK_CONVERGED;
    if (count >= p->max_iterations) return PK_MAX_ITERATIONS;
    if (p->progress && p->progress(p->context, count, r->residual)) return PK_INTERRUPTED;
    if (r->residual < 0.99 * best) best = r->residual, since = 0;
    /* debiased, convergence may be like 1 / count */
    else if (p->tolerance > 0 && ++since > (p->debiased ? stall_after + count / 2 : stall_after))
      return PK_STALLED;
    if (p->plain || p->debiased || !(p->tolerance > 0)) continue;
    if (!isfinite(mark) || count >= marked + span) {
      const double rate = pow(r->residual / mark, 1.0 / (double)(count - marked));
      if (isfinite(mark) && count >= wait && r->residual < 0.5) {
        if (rate >= 1) {
          if (omega != 1) omega = 1, wait = count + 50 * ++failures;
        } else if (log(p->tolerance / r->residual) / log(rate) > 15 &&
                   (omega == 1 || rate > pow(omega - 1, 0.75))) {
          /* the plain iteration's rate behind the one seen at this omega (Young 1954) */
          const double plain =
              omega == 1 ? rate : (rate + omega - 1) * (rate + omega - 1) / (rate * omega * omega);
          omega = plain < 1 ? fmin(2 / (1 + sqrt(1 - plain)), 1.98) : omega;
        }
        span = (idx)fmax((double)rate_span, 1.0 / (2 - omega));
      }
      mark = r->residual, marked = count;
    }
    /* Over-relaxed, the residual is several times what a plain iteration leaves: near the tolerance
     * two of those look. */
    if (omega != 1 && probe == 0 && r->residual <= 8 * p->tolerance && count >= look)
      probe = 2, look = count + rate_span;
    used = probe > 0 ? 1 : omega, probe -= probe > 0;
  }
}

/* What plan t amounts to: its sums against the marginals, its cost and sum P log P. Returns sum P.
 */
static double finish(state *s, const plan *t, double *f, double *error_l1, double *error_linf,
                     double *cost, double *entropy) {
  const idx ld = s->ld;
  double *rows = t->alpha, *costs = t->phi;
#pragma omp parallel for schedule(static) if (parallel(s, t->n))
  for (idx q = 0; q < s->blocks; q++) {
    memset(t->acc + q * ld, 0, (size_t)ld * 8);
    for (idx i = block(s, t, q); i < block(s, t, q + 1); i++) {
      double sums[2] = {0, 0};
      s->w->plan_row(s->m, t->cost + i * s->m, 1 / s->p->epsilon, fmax(f[i], PK_LOG_ZERO), t->g,
                     NULL, t->acc + q * ld, sums);
      rows[i] = sums[0], costs[i] = sums[1];
    }
  }
  double mass = 0, l1[2] = {0, 0};
  *cost = *entropy = *error_linf = 0;
  for (idx i = 0; i < t->n; i++) {
    const double e = fabs(rows[i] - (t->weights ? t->weights[i] : s->a[i]));
    l1[0] += e, *error_linf = fmax(*error_linf, e), mass += rows[i], *cost += costs[i];
    if (rows[i] > 0) *entropy += rows[i] * f[i];
  }
  for (idx j = 0; j < s->m; j++) {
    double sum = 0;
    for (idx q = 0; q < s->blocks; q++) sum += t->acc[q * ld + j];
    const double e = fabs(sum - s->a[j]);
    l1[1] += e, *error_linf = fmax(*error_linf, e);
    if (sum > 0) *entropy += sum * t->g[j];
  }
  *entropy -= *cost / s->p->epsilon;
  *error_l1 = fmax(l1[0], l1[1]);
  return mass;
}

static int valid(const pk_barycenter_problem *p, const double *own) {
  if (p->count < 1 || p->n < 1 || p->m < 1 || !(p->epsilon > 0)) return 0;
  return !p->debiased || own || (!p->cost_stride && p->n == p->m);
}

ptrdiff_t pk_barycenter_scratch(const pk_barycenter_problem *p) {
  state s;
  return layout(&s, p, NULL);
}

pk_status pk_barycenter(const pk_barycenter_problem *p, const double *cost, const double *own,
                        const double *b, const double *w, double *a, double *f, double *g,
                        double *errors, pk_barycenter_result *r, void *scratch) {
  if (!valid(p, own)) return PK_BAD_SHAPE;
  state s;
  layout(&s, p, scratch);
  start(&s, cost, own, b, w);
  memset(r, 0, sizeof *r);
  r->outcome = run(&s, r);
  memcpy(a, s.a, (size_t)s.m * 8);
  for (idx j = 0; j < s.m; j++) r->mass += a[j];
  for (idx k = 0; k < s.plans; k++) {
    plan *t = &s.plan[k];
    double *potential = t->weights ? f + k * p->n : t->g, l1, linf, c, entropy;
    for (idx i = 0; i < t->n && t->weights; i++)
      potential[i] = on(t, i) ? t->phi[i] + log(t->alpha[i]) : PK_LOG_ZERO;
    const double mass = finish(&s, t, potential, &l1, &linf, &c, &entropy);
    r->error_l1 = fmax(r->error_l1, l1), r->error_linf = fmax(r->error_linf, linf);
    if (!isfinite(mass) || !isfinite(c)) r->outcome = PK_NON_FINITE;
    const double value = c + p->epsilon * (entropy - mass);
    if (!t->weights) {
      r->objective -= 0.5 * value, r->dual = NAN;
      continue;
    }
    double gain = -mass;
    for (idx i = 0; i < p->n; i++)
      if (on(t, i)) gain += t->weights[i] * potential[i];
    r->cost += t->share * c, r->objective += t->share * value,
        r->dual += t->share * p->epsilon * gain;
    memcpy(g + k * p->m, t->g, (size_t)p->m * 8);
    if (errors) errors[k] = l1;
  }
  if (!isfinite(r->mass)) r->outcome = PK_NON_FINITE;
  if (r->outcome == PK_CONVERGED && !(r->error_l1 <= fmax(p->tolerance, 1e-14) * r->mass))
    r->outcome = PK_STALLED;
  return PK_OK;
}
