/* Gradients by implicit differentiation (algorithm.md 4.8): one linear system for the
 * derivatives of the potentials, then the chain rule to weights, to a cost matrix, or to points. */
#include "solver.h"

/* The upstream: G = g + on_cost C on the plan, on_objective on the objective. */
typedef struct {
  const void *g; /* [n, m] or NULL */
  double on_cost, on_objective;
} upstream;

static pk_sinkhorn_problem transposed(const pk_sinkhorn_problem *p) {
  pk_sinkhorn_problem t = *p;
  t.n = p->m, t.m = p->n;
  t.side_source = p->side_target, t.side_target = p->side_source;
  t.rho_source = p->rho_target, t.rho_target = p->rho_source;
  return t;
}

ptrdiff_t pk_sinkhorn_gradient_scratch(const pk_sinkhorn_problem *p) {
  const pk_sinkhorn_problem t = transposed(p);
  const idx points = solver_bytes(&t, 2) + 8 * (p->n + p->m) * (p->d + 1);
  return solver_bytes(p, 2) + (p->cost != PK_COST_MATRIX ? points : 0) + 512;
}

/* Row sums of P G to right[ROWS], column sums to right[COLUMNS]. */
static void sum_plan_times_upstream(solver *s, const upstream *u) {
  const solver_kernel *k = &s->kernel;
  const idx blocks = k->blocks, stride = k->stride, element = k->element,
            m = s->problem.side[COLUMNS].count;
  double *rows = s->scratch.right[ROWS], *columns = s->scratch.right[COLUMNS];
  solver_prepare_costs(s);
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx q = 0; q < blocks; q++) {
    double *block_sums = s->scratch.block_sums + q * stride;
    memset(block_sums, 0, (size_t)stride * 8);
    const idx end = solver_block(s, q + 1);
    for (idx i0 = solver_block(s, q); i0 < end; i0 += POINT_TILE_ROWS) {
      const idx count = least_of(POINT_TILE_ROWS, end - i0);
      idx cost_stride;
      const char *p = solver_kernel_rows(s, i0, count, solver_tile(s, 0)),
                 *c = solver_cost_rows(s, i0, count, solver_tile(s, 1), &cost_stride);
      for (idx i = i0; i < i0 + count; i++, p += stride * element, c += cost_stride * element)
        rows[i] = k->vectors->weighted_sums_row(
            m, p, u->g ? (const char *)u->g + i * m * element : NULL, c, u->on_cost, block_sums);
    }
  }
  for (idx j = 0; j < stride + 8; j++) {
    columns[j] = 0;
    for (idx q = 0; j < stride && q < blocks; q++)
      columns[j] += s->scratch.block_sums[q * stride + j];
  }
  for (idx j = m; j < stride + 8; j++) columns[j] = 0;
}

/* Diagonal of a side, and 0 on the right where its constraint is inactive. Returns whether all are
 * active. */
static int fill_side(solver *s, int k) {
  const solver_side *side = &s->problem.side[k];
  const double *sums = s->scratch.marginal[k], *t = s->dual.potential[k];
  double *diagonal = s->scratch.diagonal[k], *right = s->scratch.right[k];
  int all = 1;
  for (idx i = 0; i < side->count; i++) {
    const int on = sums[i] > 0 && (side->rule != PK_SIDE_CAPPED || t[i] < 0);
    if (sums[i] > 0 && !on) all = 0;
    diagonal[i] = on ? sums[i] / side->exponent : 0;
    if (!on) right[i] = 0;
  }
  return all;
}

/* Derivatives of the potentials to scratch.step; returns that of z. */
static double solve_adjoint(solver *s, const upstream *u, double *residual) {
  const solver_side *side = s->problem.side;
  const idx n = side[ROWS].count, m = side[COLUMNS].count, stride = s->kernel.stride;
  *residual = 0;
  memset(s->scratch.step[ROWS], 0, (size_t)(side[ROWS].padded + 8) * 8);
  memset(s->scratch.step[COLUMNS], 0, (size_t)(stride + 8) * 8);
  if (!u->g && u->on_cost == 0) return 0;
  solver_sums(s, s->scratch.marginal[ROWS], s->scratch.marginal[COLUMNS]);
  sum_plan_times_upstream(s, u);
  double total = 0, total_upstream = 0;
  for (idx i = 0; i < n; i++) {
    total += s->scratch.marginal[ROWS][i];
    total_upstream += s->scratch.right[ROWS][i];
  }
  const int all_rows = fill_side(s, ROWS), all_columns = fill_side(s, COLUMNS);
  for (idx j = m; j < stride + 8; j++) s->scratch.diagonal[COLUMNS][j] = 0;
  return solver_solve_system(s, solver_is_capped(s) && !all_rows && !all_columns, total,
                             total_upstream, s->kernel.element == 8 ? 1e-13 : 1e-7,
                             2 * (n + m) + 100, residual);
}

/* d <G, P> / d mu = s (hard) or s exp(-kappa a) (relaxed); of the objective epsilon a (hard) or
 * rho (1 - exp(-kappa a)). */
static void weight_gradient(const solver *s, int k, double on_objective, double *out) {
  const solver_side *side = &s->problem.side[k];
  const double *t = s->dual.potential[k], *step = s->scratch.step[k];
  for (idx i = 0; out && i < side->count; i++) {
    const double e = exp(-side->kappa * t[i]), value = side->rule == PK_SIDE_RELAXED
                                                           ? side->rho * (1 - e)
                                                           : s->problem.epsilon * t[i];
    out[i] = side->weights[i] > 0 ? step[i] * e + on_objective * value : 0;
  }
}

/* What the chain rule to costs reads: dC_ij = P_ij ((f_i + t_j - G_ij) / epsilon + on). */
typedef struct {
  const double *f, *t; /* [n], [stride] */
  double on_cost, on;
} cost_chain;

/* sums[i] = sum_j W_ij and projected[i] = sum_j W_ij y_j, W = dC (Euclidean: over |x - y|). */
static void chain_to_points(solver *s, const cost_chain *w, double *sums, double *projected) {
  const solver_kernel *k = &s->kernel;
  const idx blocks = k->blocks, d = s->problem.options->d, row = k->stride * k->element,
            m = s->problem.side[COLUMNS].count;
  solver_prepare_costs(s);
  memset(projected, 0, (size_t)(s->problem.side[ROWS].count * d) * 8);
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx q = 0; q < blocks; q++) {
    const idx end = solver_block(s, q + 1);
    for (idx i0 = solver_block(s, q); i0 < end; i0 += POINT_TILE_ROWS) {
      const idx count = least_of(POINT_TILE_ROWS, end - i0);
      char *p = solver_tile(s, 0), *c = solver_tile(s, 1);
      idx stride;
      solver_kernel_rows(s, i0, count, p);
      solver_cost_rows(s, i0, count, c, &stride);
      for (idx i = 0; i < count; i++)
        sums[i0 + i] = k->vectors->point_gradient_row(
            m, k->stride, p + i * row, c + i * row, w->f[i0 + i], w->t, w->on_cost,
            1 / s->problem.epsilon, w->on, k->points.root, p + i * row);
      k->vectors->project_points(&k->points, count, p, projected + i0 * d);
    }
  }
}

/* C = (1 - <u, v>) / scale with u, v of unit length: dx = -(I - u u') sum_j W v_j / (|x| scale). */
static void cosine_row(const pk_sinkhorn_problem *p, const void *x, idx i, const double *projected,
                       void *out) {
  double norm = 0, along = 0;
  for (idx c = 0; c < p->d; c++)
    norm += pk_read(x, p->type, i * p->d + c) * pk_read(x, p->type, i * p->d + c);
  norm = sqrt(norm);
  for (idx c = 0; c < p->d; c++)
    along += norm > 0 ? projected[c] * pk_read(x, p->type, i * p->d + c) / norm : 0;
  for (idx c = 0; c < p->d; c++) {
    const double v = pk_read(x, p->type, i * p->d + c);
    pk_write(out, p->type, i * p->d + c,
             norm > 0 ? -(projected[c] - along * v / norm) / (norm * p->scale) : 0);
  }
}

static void points_gradient(solver *s, const cost_chain *w, void *out, double *work) {
  const pk_sinkhorn_problem *p = s->problem.options;
  double *sums = work, *projected = work + p->n;
  chain_to_points(s, w, sums, projected);
  /* Euclidean: W is already over |x - y| = C scale */
  const double scale = p->scale,
               factor = p->cost == PK_COST_SQUARED ? 2 / scale : 1 / (scale * scale);
  for (idx i = 0; i < p->n; i++) {
    const double *row = projected + i * p->d;
    if (p->cost == PK_COST_COSINE) {
      cosine_row(p, s->problem.x, i, row, out);
      continue;
    }
    for (idx c = 0; c < p->d; c++) /* the packed points are around the centre */
      pk_write(out, p->type, i * p->d + c,
               factor *
                   (sums[i] * (pk_read(s->problem.x, p->type, i * p->d + c) - s->kernel.centre[c]) -
                    row[c]));
  }
}

static void cost_gradient(solver *s, const cost_chain *w, const void *g, void *out) {
  const solver_kernel *k = &s->kernel;
  const idx n = s->problem.side[ROWS].count, m = s->problem.side[COLUMNS].count;
  const double inv = 1 / s->problem.epsilon;
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx i = 0; i < n; i++) {
    const idx at = i * m * k->element;
    k->vectors->cost_gradient_row(m, k->stored + i * k->stride * k->element,
                                  g ? (const char *)g + at : NULL, (const char *)s->problem.x + at,
                                  w->on_cost, w->f[i], w->t, inv, w->on, (char *)out + at);
  }
}

/* The gradient for the target points: that of the sources of the transposed problem, whose solver
 * goes to `scratch`. */
static void target_gradient(const solver *s, const cost_chain *w, void *out, double *work,
                            char *scratch) {
  const pk_sinkhorn_problem *p = s->problem.options, q = transposed(p);
  const solver_side *side = s->problem.side;
  solver t;
  solver_open_plan(&t, &q, s->problem.y, s->problem.x, side[COLUMNS].weights, side[ROWS].weights,
                   s->dual.potential[COLUMNS], s->dual.potential[ROWS], s->dual.z, scratch);
  double *columns = t.scratch.direction; /* f with the padding of a column vector */
  memset(columns, 0, (size_t)(t.kernel.stride + 8) * 8);
  memcpy(columns, w->f, (size_t)p->n * 8);
  points_gradient(&t, &(cost_chain){w->t, columns, w->on_cost, w->on}, out, work);
}

/* Two hard sides leave a constant free: the one with sum mu dmu = sum nu dnu is taken. */
static void centre_weight_gradients(const solver *s, double *dmu, double *dnu) {
  const solver_side *side = s->problem.side;
  const double *mu = side[ROWS].weights, *nu = side[COLUMNS].weights;
  double shift = 0, sum = 0;
  for (idx i = 0; i < side[ROWS].count; i++) shift -= mu[i] * dmu[i], sum += mu[i];
  for (idx j = 0; j < side[COLUMNS].count; j++) shift += nu[j] * dnu[j], sum += nu[j];
  shift /= sum;
  for (idx i = 0; i < side[ROWS].count; i++) dmu[i] += mu[i] > 0 ? shift : 0;
  for (idx j = 0; j < side[COLUMNS].count; j++) dnu[j] -= nu[j] > 0 ? shift : 0;
}

pk_status pk_sinkhorn_gradient(const pk_sinkhorn_problem *p, const void *x, const void *y,
                               const double *mu, const double *nu, const double *a, const double *b,
                               double z_potential, const void *g, double on_cost,
                               double on_objective, void *dx, void *dy, double *dmu, double *dnu,
                               double *residual, void *scratch) {
  pk_sinkhorn_problem quiet = *p; /* its system is not interrupted */
  quiet.progress = NULL, p = &quiet;
  const int is_points = p->cost != PK_COST_MATRIX;
  if (p->n < 1 || p->m < 1 || !(p->epsilon > 0) || (is_points && g)) return PK_BAD_SHAPE;
  solver s;
  const idx bytes = solver_open_plan(&s, p, x, y, mu, nu, a, b, z_potential, scratch);
  const upstream u = {g, on_cost, on_objective};
  const double z = solve_adjoint(&s, &u, residual);
  double *f = s.scratch.right[ROWS];
  for (idx i = 0; i < p->n; i++) f[i] = s.scratch.step[ROWS][i] + z;
  weight_gradient(&s, ROWS, on_objective, dmu);
  weight_gradient(&s, COLUMNS, on_objective, dnu);
  if (solver_is_hard(&s) && dmu && dnu) centre_weight_gradients(&s, dmu, dnu);
  const cost_chain w = {f, s.scratch.step[COLUMNS], on_cost, on_cost + on_objective};
  if (!is_points) {
    if (dx) cost_gradient(&s, &w, g, dx);
    return PK_OK;
  }
  double *work = align_to_line((char *)scratch + bytes);
  if (dx) points_gradient(&s, &w, dx, work);
  if (dy) target_gradient(&s, &w, dy, work, (char *)(work + (p->n + p->m) * (p->d + 1)));
  return PK_OK;
}
