#include "solver.h"

/* A solver whose kernel is the plan of given potentials. */
static idx bind_plan(solver *s, const pk_sinkhorn_problem *p, const void *x, const void *y,
                     const double *mu, const double *nu, const double *a, const double *b, double z,
                     char *scratch) {
  const idx bytes = solver_open(s, p, 2, scratch, x, y, mu, nu);
  solver_level(s, p->epsilon);
  solver_potentials(s, a, b, z);
  solver_build(s, s->a, s->b, z, 0);
  return bytes;
}

static pk_sinkhorn_problem swapped(const pk_sinkhorn_problem *p) {
  pk_sinkhorn_problem t = *p;
  t.n = p->m, t.m = p->n, t.side_a = p->side_b, t.side_b = p->side_a, t.rho_a = p->rho_b,
  t.rho_b = p->rho_a;
  return t;
}

ptrdiff_t pk_sinkhorn_gradient_scratch(const pk_sinkhorn_problem *p) {
  const pk_sinkhorn_problem t = swapped(p);
  return solver_bytes(p, 2) +
         (p->cost != PK_COST_MATRIX ? solver_bytes(&t, 2) + 8 * (p->n + p->m) * (p->d + 1) : 0) +
         512;
}

/* Row sums of P G to ra, column sums to rb, with G = g + on_cost C. */
static void weigh(solver *s, const void *g, double on_cost) {
  const idx blocks = s->blocks, ld = s->ld, size = s->size;
  if (s->points) s->w->convert(ld, s->constant_b, s->vector_r);
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx q = 0; q < blocks; q++) {
    double *acc = s->acc + q * ld;
    memset(acc, 0, (size_t)ld * 8);
    const idx end = solver_block(s, q + 1);
    for (idx i0 = solver_block(s, q); i0 < end; i0 += SOLVER_ROWS) {
      const idx count = end - i0 < SOLVER_ROWS ? end - i0 : SOLVER_ROWS;
      idx stride;
      const char *k = solver_kernel_rows(s, i0, count, s->points ? solver_tile(s, 0) : NULL),
                 *c = solver_cost_rows(s, i0, count, s->points ? solver_tile(s, 1) : NULL, &stride);
      for (idx i = i0; i < i0 + count; i++, k += ld * size, c += stride * size)
        s->ra[i] = s->w->weighted_sums_row(s->m, k, g ? (const char *)g + i * s->m * size : NULL, c,
                                           on_cost, acc);
    }
  }
  for (idx j = 0; j < ld; j++) {
    s->rb[j] = 0;
    for (idx q = 0; q < blocks; q++) s->rb[j] += s->acc[q * ld + j];
  }
  for (idx j = s->m; j < ld + 8; j++) s->rb[j] = 0;
}

/* out[i] = the derivative with respect to point i of the sum of W C, W = P ((f_i + t_j - on_cost C)
 * / eps + on). */
static void chain_points(solver *s, const double *f, const double *t, double on_cost, double on,
                         double *sums, double *projected) {
  const idx blocks = s->blocks, d = s->p->d;
  if (s->points) s->w->convert(s->ld, s->constant_b, s->vector_r);
  memset(projected, 0, (size_t)(s->n * d) * 8);
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx q = 0; q < blocks; q++) {
    const idx end = solver_block(s, q + 1);
    for (idx i0 = solver_block(s, q); i0 < end; i0 += SOLVER_ROWS) {
      const idx count = end - i0 < SOLVER_ROWS ? end - i0 : SOLVER_ROWS;
      char *k = solver_tile(s, 0), *c = solver_tile(s, 1);
      idx stride;
      solver_kernel_rows(s, i0, count, k), solver_cost_rows(s, i0, count, c, &stride);
      for (idx i = 0; i < count; i++)
        sums[i0 + i] = s->w->point_gradient_row(
            s->m, s->ld, k + i * s->ld * s->size, c + i * s->ld * s->size, f ? f[i0 + i] : 0, t,
            on_cost, 1 / s->eps, on, s->shape.root, k + i * s->ld * s->size);
      s->w->project_points(&s->shape, count, k, projected + i0 * d);
    }
  }
}

static double get(const void *x, idx i, idx size) {
  return size == 8 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

static void put(void *x, idx i, idx size, double v) {
  if (size == 8)
    ((double *)x)[i] = v;
  else
    ((float *)x)[i] = (float)v;
}

static void points_gradient(solver *s, const double *f, const double *t, double on_cost, double on,
                            void *out, double *work) {
  const idx d = s->p->d;
  double *sums = work, *projected = work + s->n;
  chain_points(s, f, t, on_cost, on, sums, projected);
  const double scale = s->p->scale;
  for (idx i = 0; i < s->n; i++) {
    double *row = projected + i * d;
    if (s->p->cost == PK_COST_COSINE) {
      /* C = (1 - <x, y> / |x| |y|) / scale: -(I - u u') sum_j W v_j / (|x| scale), u and v of unit
       * length */
      double norm = 0, along = 0;
      for (idx c = 0; c < d; c++)
        norm += get(s->x, i * d + c, s->given) * get(s->x, i * d + c, s->given);
      norm = sqrt(norm);
      for (idx c = 0; c < d; c++)
        along += norm > 0 ? row[c] * get(s->x, i * d + c, s->given) / norm : 0;
      for (idx c = 0; c < d; c++)
        put(out, i * d + c, s->given,
            norm > 0 ? -(row[c] - along * get(s->x, i * d + c, s->given) / norm) / (norm * scale)
                     : 0);
    } else {
      /* the packed points stand around the centre; Euclidean: W is already over |x - y| = C scale
       */
      const double factor = s->p->cost == PK_COST_SQUARED ? 2 / scale : 1 / (scale * scale);
      for (idx c = 0; c < d; c++)
        put(out, i * d + c, s->given,
            factor * (sums[i] * (get(s->x, i * d + c, s->given) - s->centre[c]) - row[c]));
    }
  }
}

pk_status pk_sinkhorn_gradient(const pk_sinkhorn_problem *p, const void *x, const void *y,
                               const double *mu, const double *nu, const double *a, const double *b,
                               double z_potential, const void *g, double on_cost,
                               double on_objective, void *dx, void *dy, double *dmu, double *dnu,
                               double *residual, void *scratch) {
  pk_sinkhorn_problem quiet = *p; /* its system is solved to the end */
  quiet.progress = NULL, p = &quiet;
  const int points = p->cost != PK_COST_MATRIX;
  if (p->n < 1 || p->m < 1 || !(p->epsilon > 0) || (points && g)) return PK_BAD_SHAPE;
  solver s;
  const idx bytes = bind_plan(&s, p, x, y, mu, nu, a, b, z_potential, scratch), n = s.n, m = s.m;
  const int cap = solver_capped(&s), hard = p->side_a == PK_SIDE_HARD && p->side_b == PK_SIDE_HARD;
  double z = 0;
  *residual = 0;
  memset(s.u, 0, (size_t)(s.rows + 8) * 8), memset(s.y_, 0, (size_t)(s.ld + 8) * 8);
  if (g || on_cost != 0) {
    solver_sums(&s, s.ta, s.tb);
    weigh(&s, g, on_cost);
    double total = 0, pg = 0;
    int all[2] = {1, 1};
    for (int side = 0; side < 2; side++) {
      const double *sums = side ? s.tb : s.ta, *t = side ? b : a, phi = side ? s.phi_b : s.phi_a;
      double *diagonal = side ? s.db : s.da, *right = side ? s.rb : s.ra;
      for (idx i = 0; i < (side ? m : n); i++) {
        const int on = sums[i] > 0 && (!cap || t[i] < 0);
        if (!side) total += sums[i], pg += right[i];
        if (sums[i] > 0 && !on) all[side] = 0;
        diagonal[i] = on ? sums[i] / phi : 0;
        if (!on) right[i] = 0;
      }
    }
    for (idx j = m; j < s.ld + 8; j++) s.db[j] = 0;
    z = solver_linear(&s, cap && !all[0] && !all[1], total, pg, s.size == 8 ? 1e-13 : 1e-7,
                      2 * (n + m) + 100, residual);
  }
  const double inv = 1 / p->epsilon, on = on_cost + on_objective;
  double *f = s.ra; /* u + z */
  for (idx i = 0; i < n; i++) f[i] = s.u[i] + z;
  /* d <g, P> / d mu = u (hard), u exp(-kappa a) (relaxed); of the objective eps a, rho (1 -
   * exp(-kappa a)) */
  if (dmu || dnu) {
    for (int side = 0; side < 2; side++) {
      double *out = side ? dnu : dmu;
      const double *w = side ? nu : mu, *t = side ? b : a, *step = side ? s.y_ : s.u,
                   kappa = side ? s.kappa_b : s.kappa_a, rho = side ? p->rho_b : p->rho_a;
      for (idx i = 0; out && i < (side ? m : n); i++) {
        const double e = exp(-kappa * t[i]),
                     value = (side ? p->side_b : p->side_a) == PK_SIDE_RELAXED ? rho * (1 - e)
                                                                               : p->epsilon * t[i];
        out[i] = w[i] > 0 ? step[i] * e + on_objective * value : 0;
      }
    }
    if (hard && dmu && dnu) {
      double shift = 0, sum = 0;
      for (idx i = 0; i < n; i++) shift -= mu[i] * dmu[i], sum += mu[i];
      for (idx j = 0; j < m; j++) shift += nu[j] * dnu[j], sum += nu[j];
      shift /= sum;
      for (idx i = 0; i < n; i++) dmu[i] += mu[i] > 0 ? shift : 0;
      for (idx j = 0; j < m; j++) dnu[j] -= nu[j] > 0 ? shift : 0;
    }
  }
  if (points) {
    if (!dx && !dy) return PK_OK;
    double *work = (double *)((char *)scratch + (bytes + 63) / 64 * 64);
    work = (double *)(((uintptr_t)work + 63) / 64 * 64);
    if (dx) points_gradient(&s, f, s.y_, on_cost, on, dx, work);
    if (dy) {
      solver t;
      const pk_sinkhorn_problem q = swapped(p);
      bind_plan(&t, &q, y, x, nu, mu, b, a, z_potential, (char *)(work + (n + m) * (p->d + 1)));
      double *rows = t.dir; /* s's vectors in the other's roles */
      memset(rows, 0, (size_t)(t.ld + 8) * 8);
      memcpy(rows, f, (size_t)n * 8);
      points_gradient(&t, s.y_, rows, on_cost, on, dy, work);
    }
    return PK_OK;
  }
  if (!dx) return PK_OK;
#pragma omp parallel for schedule(static) if (solver_parallel(&s))
  for (idx i = 0; i < n; i++) {
    const idx at = i * m * s.size;
    s.w->cost_gradient_row(m, s.k + i * s.ld * s.size, g ? (const char *)g + at : NULL,
                           (const char *)x + at, on_cost, f[i], s.y_, inv, on, (char *)dx + at);
  }
  return PK_OK;
}

pk_status pk_sinkhorn_project(const pk_sinkhorn_problem *p, const void *x, const void *y,
                              const double *a, const double *b, double z, void *out,
                              void *scratch) {
  if (p->n < 1 || p->m < 1 || !(p->epsilon > 0) || p->cost == PK_COST_MATRIX) return PK_BAD_SHAPE;
  solver s;
  const idx bytes = bind_plan(&s, p, x, y, NULL, NULL, a, b, z, scratch), d = p->d;
  double *sums = (double *)(((uintptr_t)scratch + (uintptr_t)bytes + 63) / 64 * 64),
         *projected = sums + s.n;
  const idx blocks = s.blocks;
  memset(projected, 0, (size_t)(s.n * d) * 8);
  memset(s.dir, 0, (size_t)(s.ld + 8) * 8);
  s.w->convert(s.ld, s.constant_b, s.vector_r);
#pragma omp parallel for schedule(static) if (solver_parallel(&s))
  for (idx q = 0; q < blocks; q++) {
    const idx end = solver_block(&s, q + 1);
    for (idx i0 = solver_block(&s, q); i0 < end; i0 += SOLVER_ROWS) {
      const idx count = end - i0 < SOLVER_ROWS ? end - i0 : SOLVER_ROWS;
      char *k = solver_tile(&s, 0);
      solver_kernel_rows(&s, i0, count, k);
      for (idx i = 0; i < count; i++)
        sums[i0 + i] =
            s.w->point_gradient_row(s.m, s.ld, k + i * s.ld * s.size, k + i * s.ld * s.size, 0,
                                    s.dir, 0, 0, 1, 0, k + i * s.ld * s.size);
      s.w->project_points(&s.shape, count, k, projected + i0 * d);
    }
  }
  for (idx i = 0; i < s.n; i++) {
    /* the packed points: around the centre, or of unit length (cosine: a mean direction) */
    for (idx c = 0; c < d; c++)
      put(out, i * d + c, s.given,
          sums[i] > 0
              ? projected[i * d + c] / sums[i] + (p->cost == PK_COST_COSINE ? 0 : s.centre[c])
              : 0);
  }
  return PK_OK;
}
