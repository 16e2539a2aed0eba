/* Clouds of points as the solver sees them: packed around their mean, in a type and a form of their
 * distances that keep the digits.
 *
 *   Errors of a distance |x - y|^2, u the rounding unit, S = the largest |x|^2 + the largest |y|^2
 *   around the mean, q a distance of near pairs in a sample:
 *     product     |x|^2 + |y|^2 - 2 <x, y>: about u S (4 + 1.3 sqrt d), the last term from d
 *     roundings of partial sums, at four deviations
 *     difference  sum (x - y)^2: about 2 u sqrt(S) |x - y|, from the roundings of the points
 *     themselves
 *   f32 takes the product while that is below 1e-5 q, q such that 2 % of the pairs are nearer; then
 *   the difference, and where that loses as much of the q of 10 %, f64 (solver_bind says no). f64
 *   takes the difference where the product could lose 1e-10 of the nearest pair, and the points as
 *   they are where even the mean's rounding would count. Pairs that coincide are left out. */
#include "solver.h"
#define SAMPLE 24
#define LEAST (SAMPLE * SAMPLE / 10)

static double element(const void *x, idx i, idx size) {
  return size == 8 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

/* Points around `centre`, cosine: of unit length, into groups of `lanes`; the part of the cost that
 * each has alone. */
static void pack(const solver *s, const void *x, idx count, idx padded, idx lanes,
                 const double *centre, void *packed, double *constant) {
  const idx d = s->p->d, size = s->size;
  const int cosine = s->p->cost == PK_COST_COSINE;
#pragma omp parallel for schedule(static) if (count * d > PK_SERIAL)
  for (idx i = 0; i < padded; i++) {
    double sum = 0;
    for (idx c = 0; c < d && i < count; c++) {
      const double v = element(x, i * d + c, s->given) - (cosine ? 0 : centre[c]);
      sum += v * v;
    }
    const double f = cosine ? (sum > 0 ? 1 / sqrt(sum) : 0) : 1;
    for (idx c = 0; c < d; c++) {
      const double v =
          i < count ? f * (element(x, i * d + c, s->given) - (cosine ? 0 : centre[c])) : 0;
      const idx at = (i / lanes * d + c) * lanes + i % lanes;
      if (size == 8)
        ((double *)packed)[at] = v;
      else
        ((float *)packed)[at] = (float)v;
    }
    constant[i] = i < count && !s->shape.difference ? (cosine ? 0.5 : sum) / s->p->scale : 0;
  }
}

/* 1 / |row i|, 1 unless cosine. */
static double unit(const solver *s, const void *x, idx i) {
  const idx d = s->p->d;
  double sum = 0;
  if (s->p->cost != PK_COST_COSINE) return 1;
  for (idx c = 0; c < d; c++)
    sum += element(x, i * d + c, s->given) * element(x, i * d + c, s->given);
  return sum > 0 ? 1 / sqrt(sum) : 0;
}

/* S / q: of the nearest pair in the sample, of 2 % and of 10 %; 0 when all coincide. */
static void near_pairs(solver *s, double spread) {
  const idx d = s->p->d, rows = s->n < SAMPLE ? s->n : SAMPLE,
            columns = s->m < SAMPLE ? s->m : SAMPLE;
  double least[LEAST + 1]; /* in ascending order */
  idx held = 0, count = 0;
  for (idx r = 0; r < rows; r++)
    for (idx k = 0; k < columns; k++) {
      const idx i = (2 * r + 1) * s->n / (2 * rows), j = (2 * k + 1) * s->m / (2 * columns);
      const double f = unit(s, s->x, i), g = unit(s, s->y, j);
      double sum = 0;
      for (idx c = 0; c < d; c++) {
        const double e =
            f * element(s->x, i * d + c, s->given) - g * element(s->y, j * d + c, s->given);
        sum += e * e;
      }
      if (!(sum > 1e-28 * spread)) continue;
      idx at = held < LEAST ? held++ : LEAST;
      for (; at > 0 && least[at - 1] > sum; at--) least[at] = least[at - 1];
      least[at] = sum, count++;
    }
  const idx at[3] = {0, count / 50, count / 10};
  for (int k = 0; k < 3; k++)
    s->loss[k] = count ? spread / least[at[k] < held ? at[k] : held - 1] : 0;
}

static int is_large(const solver *s, idx count) {
  return !omp_in_parallel() && count * s->p->d > PK_SERIAL;
}

/* Adds coordinates c0 ..< c1 of all rows. */
static void add_rows(const solver *s, const void *x, idx count, idx c0, idx c1, double *sums) {
  const idx d = s->p->d;
  for (idx i = 0; i < count; i++) {
    if (s->given == 8)
      for (idx c = c0; c < c1; c++) sums[c] += ((const double *)x)[i * d + c];
    else
      for (idx c = c0; c < c1; c++) sums[c] += (double)((const float *)x)[i * d + c];
  }
}

/* The mean of both clouds, each coordinate summed in the order of the points. */
static void take_mean(const solver *s, double *centre) {
  const idx d = s->p->d, step = 16;
  memset(centre, 0, (size_t)d * sizeof(double));
#pragma omp parallel for schedule(static) if (is_large(s, s->n + s->m))
  for (idx c0 = 0; c0 < d; c0 += step) {
    const idx c1 = c0 + step < d ? c0 + step : d;
    add_rows(s, s->x, s->n, c0, c1, centre), add_rows(s, s->y, s->m, c0, c1, centre);
    for (idx c = c0; c < c1; c++) centre[c] /= (double)(s->n + s->m);
  }
}

static double farthest(const solver *s, const void *x, idx count) {
  const idx d = s->p->d;
  double far = 0;
#pragma omp parallel for schedule(static) reduction(max : far) if (is_large(s, count))
  for (idx i = 0; i < count; i++) {
    double sum = 0;
    for (idx c = 0; c < d; c++) {
      const double v = element(x, i * d + c, s->given) - s->centre[c];
      sum += v * v;
    }
    const double root = sqrt(sum);
    far = root > far ? root : far;
  }
  return far;
}

/* Which form the distances take; 0 when none in this type is good enough. */
static int choose_form(solver *s) {
  const pk_sinkhorn_problem *p = s->p;
  const double product = 1 / (4 + 1.3 * sqrt((double)p->d));
  s->shape.difference = p->cost == PK_COST_EUCLIDEAN || (p->cost == PK_COST_SQUARED && p->d <= 8);
  if (s->size == 4) {
    s->shape.difference |= !(s->loss[1] <= 168 * product);
    return s->loss[2] <= 2048;
  }
  s->shape.difference |= !(s->loss[0] <= 9e5 * product);
  if (!(s->loss[0] <= 1e12)) memset(s->centre, 0, (size_t)p->d * sizeof(double));
  return 1;
}

int solver_bind_points(solver *s) {
  const pk_sinkhorn_problem *p = s->p;
  const int cosine = p->cost == PK_COST_COSINE;
  take_mean(s, s->centre);
  if (s->loss[0] < 0) {
    const double far_a = farthest(s, s->x, s->n), far_b = farthest(s, s->y, s->m),
                 reach = far_a + far_b;
    near_pairs(s, cosine ? 2 : far_a * far_a + far_b * far_b);
    s->range = (cosine ? 2 : s->shape.root ? reach : reach * reach) / p->scale;
  }
  if (!choose_form(s)) return 0;
  pack(s, s->x, s->n, s->rows, 8, s->centre, (void *)s->shape.x, s->constant_a);
  pack(s, s->y, s->m, s->ld, 2 * s->w->lanes, s->centre, (void *)s->shape.y, s->constant_b);
  s->factor = s->shape.difference ? (cosine ? 0.5 : 1) / p->scale : (cosine ? -1 : -2) / p->scale;
  return 1;
}
