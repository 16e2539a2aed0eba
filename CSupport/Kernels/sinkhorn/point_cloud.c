/* Points in packed form: around their mean, in a type and a form of their distances that keep the
 * digits.
 *
 *   Errors of a distance |x - y|^2, u the rounding unit, S = the largest |x|^2 + the largest |y|^2
 *   around the mean, q a distance of near pairs in a sample:
 *     product     |x|^2 + |y|^2 - 2 <x, y>: about u S (4 + 1.3 sqrt d), the last term from d
 *                 roundings of partial sums, at four deviations
 *     difference  sum (x - y)^2: about 2 u sqrt(S) |x - y|, from the roundings of the points
 *   f32 takes the product while that is below 1e-5 q, with q such that 2 % of the pairs are nearer;
 *   then the difference; and where that loses as much of the q of 10 %, f64 (solver_bind returns
 *   0). f64 takes the difference where the product could lose 1e-10 of the nearest pair, and the
 *   points without subtracting the mean where even its rounding would count. Pairs that coincide
 *   are left out. */
#include "solver.h"
#define SAMPLE 24 /* points of each cloud */
#define NEAREST (SAMPLE * SAMPLE / 10)

/* The points of one side as the caller gave them. */
typedef struct {
  const void *x;
  idx count, d, element;
} cloud;

static cloud cloud_of(const solver *s, int k) {
  return (cloud){k == ROWS ? s->problem.x : s->problem.y, s->problem.side[k].count,
                 s->problem.options->d, s->kernel.given};
}

static double coordinate(const cloud *f, idx i, idx c) {
  const idx at = i * f->d + c;
  return f->element == 8 ? ((const double *)f->x)[at] : (double)((const float *)f->x)[at];
}

static int is_cosine(const solver *s) { return s->problem.options->cost == PK_COST_COSINE; }

static int is_large(const solver *s, idx count) {
  return !omp_in_parallel() && count * s->problem.options->d > PK_SERIAL;
}

/* Points around the centre or, for cosine, of unit length, in groups of `lanes`; and the part of
 * the cost that each has by itself. */
static void pack(const solver *s, int k, idx lanes, void *packed) {
  const solver_kernel *kernel = &s->kernel;
  const cloud f = cloud_of(s, k);
  const idx d = f.d, padded = s->problem.side[k].padded;
  const int cosine = is_cosine(s);
  double *constant = kernel->constant[k];
#pragma omp parallel for schedule(static) if (f.count * d > PK_SERIAL)
  for (idx i = 0; i < padded; i++) {
    double sum = 0;
    for (idx c = 0; c < d && i < f.count; c++) {
      const double v = coordinate(&f, i, c) - (cosine ? 0 : kernel->centre[c]);
      sum += v * v;
    }
    const double scale = cosine ? (sum > 0 ? 1 / sqrt(sum) : 0) : 1;
    for (idx c = 0; c < d; c++) {
      const double v =
          i < f.count ? scale * (coordinate(&f, i, c) - (cosine ? 0 : kernel->centre[c])) : 0;
      const idx at = (i / lanes * d + c) * lanes + i % lanes;
      if (kernel->element == 8)
        ((double *)packed)[at] = v;
      else
        ((float *)packed)[at] = (float)v;
    }
    const int has_part = i < f.count && !kernel->points.difference;
    constant[i] = has_part ? (cosine ? 0.5 : sum) / s->problem.options->scale : 0;
  }
}

/* 1 / |x_i| for cosine, else 1. */
static double inverse_length(const solver *s, const cloud *f, idx i) {
  double sum = 0;
  if (!is_cosine(s)) return 1;
  for (idx c = 0; c < f->d; c++) sum += coordinate(f, i, c) * coordinate(f, i, c);
  return sum > 0 ? 1 / sqrt(sum) : 0;
}

static double squared_distance(const solver *s, const cloud *x, idx i, const cloud *y, idx j) {
  const double f = inverse_length(s, x, i), g = inverse_length(s, y, j);
  double sum = 0;
  for (idx c = 0; c < x->d; c++) {
    const double e = f * coordinate(x, i, c) - g * coordinate(y, j, c);
    sum += e * e;
  }
  return sum;
}

/* S / q for the nearest pair in the sample, for 2 % and for 10 % of its pairs; 0 when all
 * coincide. */
static void find_digit_loss(solver *s, double spread) {
  const cloud x = cloud_of(s, ROWS), y = cloud_of(s, COLUMNS);
  const idx rows = least_of(x.count, SAMPLE), columns = least_of(y.count, SAMPLE);
  double least[NEAREST + 1]; /* in ascending order */
  idx held = 0, count = 0;
  for (idx r = 0; r < rows; r++)
    for (idx k = 0; k < columns; k++) {
      const double q = squared_distance(s, &x, (2 * r + 1) * x.count / (2 * rows), &y,
                                        (2 * k + 1) * y.count / (2 * columns));
      if (!(q > 1e-28 * spread)) continue;
      idx at = held < NEAREST ? held++ : NEAREST;
      for (; at > 0 && least[at - 1] > q; at--) least[at] = least[at - 1];
      least[at] = q, count++;
    }
  const idx at[3] = {0, count / 50, count / 10};
  for (int k = 0; k < 3; k++)
    s->kernel.digit_loss[k] = count ? spread / least[at[k] < held ? at[k] : held - 1] : 0;
}

/* Adds coordinates c0 ..< c1 of all points, in the order of the points. */
static void add_points(const cloud *f, idx c0, idx c1, double *sums) {
  for (idx i = 0; i < f->count; i++) {
    if (f->element == 8)
      for (idx c = c0; c < c1; c++) sums[c] += ((const double *)f->x)[i * f->d + c];
    else
      for (idx c = c0; c < c1; c++) sums[c] += (double)((const float *)f->x)[i * f->d + c];
  }
}

/* The mean of both clouds. */
static void find_centre(solver *s) {
  const cloud x = cloud_of(s, ROWS), y = cloud_of(s, COLUMNS);
  const idx d = x.d, step = 16;
  double *centre = s->kernel.centre;
  memset(centre, 0, (size_t)d * sizeof(double));
#pragma omp parallel for schedule(static) if (is_large(s, x.count + y.count))
  for (idx c0 = 0; c0 < d; c0 += step) {
    const idx c1 = least_of(c0 + step, d);
    add_points(&x, c0, c1, centre);
    add_points(&y, c0, c1, centre);
    for (idx c = c0; c < c1; c++) centre[c] /= (double)(x.count + y.count);
  }
}

/* The largest distance from the centre. */
static double find_radius(const solver *s, int k) {
  const cloud f = cloud_of(s, k);
  double far = 0;
#pragma omp parallel for schedule(static) reduction(max : far) if (is_large(s, f.count))
  for (idx i = 0; i < f.count; i++) {
    double sum = 0;
    for (idx c = 0; c < f.d; c++) {
      const double v = coordinate(&f, i, c) - s->kernel.centre[c];
      sum += v * v;
    }
    const double root = sqrt(sum);
    far = root > far ? root : far;
  }
  return far;
}

/* Which form the distances take; 0 when none in this type is good enough. The product's bounds
 * are 1e-5 / 2^-24 = 168 and 1e-10 / 2^-53 = 9e5; the difference's, (1e-5 / 2^-23)^2 = 7000, is
 * taken as 2048. */
static int choose_form(solver *s) {
  const pk_sinkhorn_problem *p = s->problem.options;
  const double product = 1 / (4 + 1.3 * sqrt((double)p->d)), *loss = s->kernel.digit_loss;
  int *difference = &s->kernel.points.difference;
  *difference = p->cost == PK_COST_EUCLIDEAN || (p->cost == PK_COST_SQUARED && p->d <= 8);
  if (s->kernel.element == 4) {
    *difference |= !(loss[1] <= 168 * product);
    return loss[2] <= 2048;
  }
  *difference |= !(loss[0] <= 9e5 * product);
  if (!(loss[0] <= 1e12)) memset(s->kernel.centre, 0, (size_t)p->d * sizeof(double));
  return 1;
}

int solver_bind_points(solver *s) {
  const pk_sinkhorn_problem *p = s->problem.options;
  solver_kernel *k = &s->kernel;
  const int cosine = is_cosine(s);
  find_centre(s);
  if (k->digit_loss[0] < 0) {
    const double x = find_radius(s, ROWS), y = find_radius(s, COLUMNS), far = x + y;
    find_digit_loss(s, cosine ? 2 : x * x + y * y);
    s->problem.cost_range = (cosine ? 2 : k->points.root ? far : far * far) / p->scale;
  }
  if (!choose_form(s)) return 0;
  pack(s, ROWS, 8, (void *)k->points.x);
  pack(s, COLUMNS, 2 * k->vectors->lanes, (void *)k->points.y);
  const double unit = cosine ? 0.5 : 1;
  k->factor = (k->points.difference ? unit : -2 * unit) / p->scale;
  return 1;
}
