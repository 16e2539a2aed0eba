/* The kernel exp(a + b + z - C / epsilon) and the cost, row by row; and the plan. */
#include "solver.h"

/* f32 tiles of points are exponentials to base 2. */
static double exponent_unit(const solver *s) {
  return s->kernel.element == 8 ? 1 : 1.44269504088896340736;
}

/* Sums of the rows of the kernel that is built go to `sums` [n]. */
static void build_stored(solver *s, const double *a, const double *b, double z, double *sums) {
  const solver_kernel *k = &s->kernel;
  const idx m = s->problem.side[COLUMNS].count, blocks = k->blocks;
  const double inv = 1 / s->problem.epsilon;
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx q = 0; q < blocks; q++)
    for (idx i = solver_block(s, q); i < solver_block(s, q + 1); i++)
      sums[i] = k->vectors->kernel_row(
          m, k->stride, (const char *)s->problem.x + i * m * k->element, inv,
          fmax(a[i] + z, PK_LOG_ZERO), b, k->stored + i * k->stride * k->element);
}

/* The constants of rows and columns from which tiles are made. -1e30 stands for a weight of 0:
 * it is finite in f32, and far below the range of the exponential. */
static void build_from_points(solver *s, const double *a, const double *b, double z) {
  solver_kernel *k = &s->kernel;
  const solver_side *rows = &s->problem.side[ROWS], *columns = &s->problem.side[COLUMNS];
  const double inv = 1 / s->problem.epsilon, unit = exponent_unit(s);
  double *column = s->scratch.residual;
  for (idx i = 0; i < rows->padded; i++)
    k->row[i] = i < rows->count ? unit * fmax(a[i] + z - k->constant[ROWS][i] * inv, -1e30) : -1e30;
  for (idx j = 0; j < k->stride; j++)
    column[j] =
        j < columns->count ? unit * fmax(b[j] - k->constant[COLUMNS][j] * inv, -1e30) : -1e30;
  k->vectors->convert(k->stride, column, k->column);
}

double solver_build_kernel(solver *s, const double *a, const double *b, double z, int total) {
  double *sums = s->scratch.step[ROWS], sum = 0;
  if (s->kernel.is_points) {
    build_from_points(s, a, b, z);
    if (!total) return 0;
    solver_sums(s, sums, NULL);
  } else {
    build_stored(s, a, b, z, sums);
  }
  for (idx i = 0; i < s->problem.side[ROWS].count; i++) sum += sums[i];
  return sum;
}

const void *solver_kernel_rows(const solver *s, idx i, idx count, char *tile) {
  const solver_kernel *k = &s->kernel;
  if (!k->is_points) return k->stored + i * k->stride * k->element;
  k->vectors->point_tile(&k->points, i, count, 1,
                         -k->factor / s->problem.epsilon * exponent_unit(s), k->row + i, k->column,
                         tile);
  return tile;
}

void solver_prepare_costs(solver *s) {
  const solver_kernel *k = &s->kernel;
  if (k->is_points) k->vectors->convert(k->stride, k->constant[COLUMNS], s->scratch.vector);
}

const void *solver_cost_rows(const solver *s, idx i, idx count, char *tile, idx *stride) {
  const solver_kernel *k = &s->kernel;
  const idx m = s->problem.side[COLUMNS].count;
  *stride = k->is_points ? k->stride : m;
  if (!k->is_points) return (const char *)s->problem.x + i * m * k->element;
  k->vectors->point_tile(&k->points, i, count, 0, k->factor, k->constant[ROWS] + i,
                         s->scratch.vector, tile);
  return tile;
}

typedef struct {
  int from_potentials, approximate;
  void *plan;
} plan_request;

/* Rows i0 ..< i0 + count of the plan, of block q. */
static void plan_rows(solver *s, const plan_request *w, idx q, idx i0, idx count) {
  const solver_kernel *k = &s->kernel;
  const vector_kernels *vectors = k->vectors;
  const idx m = s->problem.side[COLUMNS].count;
  const double inv = 1 / s->problem.epsilon;
  double *block_sums = s->scratch.block_sums + q * k->stride;
  char *part = s->scratch.block_parts + q * k->stride * k->element;
  /* a row in f64 of a plan in f32 goes through the memory of the part sums */
  const int converts = w->plan && k->element != k->given;
  idx stride;
  const char *c = solver_cost_rows(s, i0, count, solver_tile(s, 0), &stride);
  for (idx i = i0; i < i0 + count; i++, c += stride * k->element) {
    double sums[2] = {0, 0};
    const double f = fmax(s->dual.potential[ROWS][i] + s->dual.z, PK_LOG_ZERO);
    const double *g = s->dual.potential[COLUMNS];
    char *out = converts ? part : w->plan ? (char *)w->plan + i * m * k->element : NULL;
    if (w->from_potentials && w->approximate)
      vectors->approximate_plan_row(k->stride, c, inv, f, g, block_sums, sums);
    else if (w->from_potentials)
      vectors->plan_row(m, c, inv, f, g, out, block_sums, sums);
    else
      vectors->scaled_plan_row(m, k->stored + i * k->stride * k->element, c,
                               s->dual.scaling[ROWS][i] * s->dual.zeta, s->dual.beta, out, part,
                               sums);
    for (idx j = 0; converts && j < m; j++)
      ((float *)w->plan)[i * m + j] = (float)((double *)part)[j];
    s->scratch.marginal[ROWS][i] = sums[0];
    s->scratch.step[ROWS][i] = sums[1];
  }
}

void solver_plan(solver *s, int from_potentials, int approximate, void *plan) {
  const solver_kernel *k = &s->kernel;
  const idx blocks = k->blocks, m = s->problem.side[COLUMNS].count, step = solver_row_step(s);
  const plan_request w = {from_potentials | k->is_points, approximate, plan};
  solver_prepare_costs(s);
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx q = 0; q < blocks; q++) {
    double *block_sums = s->scratch.block_sums + q * k->stride;
    char *part = s->scratch.block_parts + q * k->stride * k->element;
    if (w.from_potentials) memset(block_sums, 0, (size_t)k->stride * 8);
    const idx start = solver_block(s, q), end = solver_block(s, q + 1);
    for (idx i = start; i < end; i += step) {
      plan_rows(s, &w, q, i, least_of(step, end - i));
      if (!w.from_potentials) k->vectors->accumulate(k->stride, i == start, part, block_sums);
    }
    if (plan && k->element != k->given) memset(part, 0, (size_t)(k->stride * k->element));
  }
  for (idx j = 0; j < m; j++) {
    double sum = 0;
    for (idx q = 0; q < blocks; q++) sum += s->scratch.block_sums[q * k->stride + j];
    s->scratch.marginal[COLUMNS][j] = sum;
  }
}
