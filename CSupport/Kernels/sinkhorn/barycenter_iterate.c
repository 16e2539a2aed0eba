/* Iterations of a barycenter: one pass over each plan's kernel, then the barycenter and the
 * potentials of its side from the column sums. */
#include "barycenter_state.h"

/* Scalings of a kernel of one's own are absorbed beyond exp(+-50). A shared kernel without
 * potentials holds C / eps up to 708: with scalings below exp(320) what it lost counts for less
 * than exp(640 - 708) of the mass. */
static const double own_range = 50, shared_range = 320;

/* The kernel of phi and gamma, with scalings 1 of the rows. */
void barycenter_build(barycenter_state *s, barycenter_plan *t, double *kernel) {
#pragma omp parallel for schedule(static) if (barycenter_parallel(s, t->n))
  for (idx q = 0; q < s->blocks; q++)
    for (idx i = barycenter_block(s, t, q); i < barycenter_block(s, t, q + 1); i++) {
      s->vectors->kernel_row(s->m, s->ld, t->cost + i * s->m, 1 / s->p->epsilon, t->phi[i],
                             t->gamma, kernel + i * s->ld);
      t->alpha[i] = barycenter_on(t, i);
    }
  t->kernel = kernel;
}

/* A kernel of its own around phi and h: its columns' sums are 1; of the plan of a with itself the
 * rows' sums. */
void barycenter_absorb(barycenter_state *s, barycenter_plan *t) {
  for (idx j = 0; j < s->ld; j++)
    t->gamma[j] = j < s->m ? (t->weights ? -t->h[j] : t->g[j]) : PK_LOG_ZERO;
  for (idx i = 0; i < t->n; i++)
    t->phi[i] = !t->weights           ? -t->h[i]
                : barycenter_on(t, i) ? t->phi[i] + log(t->alpha[i])
                                      : PK_LOG_ZERO;
  barycenter_build(s, t, t->own);
}

/* phi = f and h from g by logarithms. */
void barycenter_by_logarithms(barycenter_state *s, barycenter_plan *t) {
  const idx ld = s->ld;
  const double inv = 1 / s->p->epsilon;
#pragma omp parallel for schedule(static) if (barycenter_parallel(s, t->n))
  for (idx q = 0; q < s->blocks; q++) {
    double *sum = t->acc + q * ld, *top = s->top + q * ld;
    for (idx j = 0; j < ld; j++) sum[j] = 0, top[j] = PK_LOG_ZERO;
    for (idx i = barycenter_block(s, t, q); i < barycenter_block(s, t, q + 1); i++) {
      const double *c = t->cost + i * s->m;
      if (!t->weights) {
        t->h[i] = s->vectors->row_lse(s->m, c, inv, t->g);
      } else if (barycenter_on(t, i)) {
        t->phi[i] = log(t->weights[i]) - s->vectors->row_lse(s->m, c, inv, t->g);
        t->alpha[i] = 1;
        s->vectors->column_lse(s->m, c, inv, t->phi[i], top, sum);
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
static void pass(barycenter_state *s, double omega) {
  const idx ld = s->ld, step = 32768 / ld < 8 ? 8 : 32768 / ld > 64 ? 64 : 32768 / ld / 8 * 8;
#pragma omp parallel for schedule(static) if (barycenter_parallel(s, s->plans * s->plan->n))
  for (idx q = 0; q < s->blocks; q++)
    for (idx first = 0, end; first < s->plans; first = end) {
      for (end = first; end < s->plans && s->plan[end].kernel == s->plan[first].kernel; end++) {
        memset(s->plan[end].acc + q * ld, 0, (size_t)ld * 8);
        s->plan[end].sums[q] = NO_SUMS;
      }
      const idx last = barycenter_block(s, &s->plan[first], q + 1);
      for (idx i = barycenter_block(s, &s->plan[first], q); i < last; i += step)
        for (idx k = first; k < end; k++) {
          barycenter_plan *t = &s->plan[k];
          const side_update rows = {.rule = t->weights ? UPDATE_HARD : UPDATE_LINEAR,
                                    .zeta = 1,
                                    .omega = omega - 1,
                                    .p = t->weights ? t->weights : s->zeros,
                                    .q = s->ones,
                                    .scaling = t->alpha};
          s->vectors->pass(&rows, i, last - i < step ? last - i : step, ld, t->kernel + i * ld,
                           t->beta, t->acc + q * ld, &t->sums[q]);
        }
    }
}

/* h from the sums of a pass, and what to think of them. */
static void logarithms(barycenter_state *s) {
  const side_update sums = {.rule = UPDATE_LINEAR, .zeta = 1};
  block_pair pairs[MAX_BLOCKS];
  const idx left = solver_pairs(s->blocks, s->blocks, -1, pairs); /* all: a block a thread */
#pragma omp parallel for schedule(static) if (barycenter_parallel(s, s->plans * 8))
  for (idx c = 0; c < s->chunks; c++)
    for (idx k = 0; k < s->plans; k++) {
      barycenter_plan *t = &s->plan[k];
      const idx j0 = c * COLUMN_CHUNK, j1 = j0 + COLUMN_CHUNK < s->ld ? j0 + COLUMN_CHUNK : s->ld;
      update_sums none = NO_SUMS, *w = &t->chunks[c];
      *w = NO_SUMS;
      if (t->weights)
        solver_add_columns(s->vectors, &sums, j0, j1, s->ld, pairs, left, t->acc, t->out, NULL,
                           &none);
      for (idx j = j0; j < j1 && j < s->m; j++) {
        const double x = t->weights ? t->out[j] : t->alpha[j];
        t->h[j] = log(x) - (t->weights ? t->gamma[j] : t->phi[j]);
        w->low = fmin(w->low, x), w->high = fmax(w->high, x), w->bad += !(x > 1e-290 && x < 1e300);
      }
    }
}

/* Whether a plan's sums are useless (2), or its scalings have left the range of its kernel (1). */
static int judge(const barycenter_state *s, const barycenter_plan *t) {
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
static double combine(barycenter_state *s, double omega) {
  barycenter_plan *self = s->p->debiased ? &s->plan[s->p->count] : NULL;
#pragma omp parallel for schedule(static) if (barycenter_parallel(s, s->plans * 8))
  for (idx c = 0; c < s->chunks; c++) {
    for (idx k = 0; k < s->plans; k++) s->plan[k].chunks[c].change = 0;
    for (idx j = c * COLUMN_CHUNK; j < (c + 1) * COLUMN_CHUNK && j < s->m; j++) {
      double log_a = self ? self->g[j] : 0;
      for (idx k = 0; k < s->p->count; k++) log_a += s->plan[k].share * s->plan[k].h[j];
      s->a[j] = exp(log_a);
      for (idx k = 0; k < s->plans; k++) {
        barycenter_plan *t = &s->plan[k];
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

double barycenter_iterate(barycenter_state *s, int first, double omega) {
  if (!first || s->plan->kernel) pass(s, omega), logarithms(s);
  for (idx k = 0; k < s->plans; k++) {
    barycenter_plan *t = &s->plan[k];
    const int verdict = t->kernel ? judge(s, t) : 2;
    if (verdict == 2) barycenter_by_logarithms(s, t);
    if (verdict) barycenter_absorb(s, t);
  }
  return combine(s, omega);
}
