/* The linear system of a Newton step and of a gradient,
 *
 *   [D_r  P ] [x]   [right_r]
 *   [P'  D_c] [y] = [right_c]     and, with a total mass, r' x + c' y + total z = right_z,
 *
 * P the plan with row sums r and column sums c. x is eliminated; conjugate gradients with the
 * diagonal as preconditioner solve for y and z. One pass over the kernel a step. Entry [stride] of
 * a vector of columns is the one of z. */
#include "solver.h"

typedef struct {
  int use_z;
  double total;
  int is_singular; /* a constant between x and y is free */
} system_shape;

/* Active columns. */
static int on(const solver *s, idx j) { return s->scratch.diagonal[COLUMNS][j] > 0; }

/* scratch.column_sums = S y, S the system without x: x = -(P y + r z) / D_r, then D_c y + c z +
 * P' x, and for z: total z + c' y + r' x. */
static void apply(solver *s, const system_shape *f, double *y) {
  const idx n = s->problem.side[ROWS].count, m = s->problem.side[COLUMNS].count,
            last = s->kernel.stride;
  const double z = f->use_z ? y[last] : 0, *r = s->scratch.marginal[ROWS],
               *c = s->scratch.marginal[COLUMNS], *d = s->scratch.diagonal[COLUMNS];
  double *p = s->dual.p[ROWS], *x = s->scratch.step[ROWS], *out = s->scratch.column_sums;
  for (idx i = 0; i < n; i++) p[i] = f->use_z ? r[i] * z : 0;
  solver_product(s, p, s->dual.q[ROWS], y, x);
  double sum = f->total * z;
  for (idx j = 0; j < m; j++) {
    const double active = on(s, j);
    out[j] = active * (d[j] * y[j] + (f->use_z ? c[j] * z : 0) + out[j]);
    sum += active * c[j] * y[j];
  }
  for (idx i = 0; i < n; i++) sum += r[i] * x[i];
  out[last] = f->use_z ? sum : 0;
}

/* Takes the constant out of y on the active columns: the null vector of a singular system. */
static void centre(const solver *s, double *y) {
  const idx m = s->problem.side[COLUMNS].count;
  double sum = 0, count = 0;
  for (idx j = 0; j < m; j++)
    if (on(s, j)) sum += y[j], count += 1;
  for (idx j = 0; count > 0 && j < m; j++)
    if (on(s, j)) y[j] -= sum / count;
}

/* The inner product with the inverse diagonal. */
static double inner(const solver *s, const double *u, const double *v, double total) {
  const idx last = s->kernel.stride;
  const double *d = s->scratch.diagonal[COLUMNS];
  double sum = total > 0 ? u[last] * v[last] / total : 0;
  for (idx j = 0; j < s->problem.side[COLUMNS].count; j++)
    if (on(s, j)) sum += u[j] * v[j] / d[j];
  return sum;
}

/* Whether every row and column with mass is an active hard constraint, up to rounding. */
static int all_hard(const solver *s, int side) {
  const double *sums = s->scratch.marginal[side], *d = s->scratch.diagonal[side];
  for (idx i = 0; i < s->problem.side[side].count; i++)
    if (sums[i] > 0 && !(d[i] <= sums[i] * (1 + 1e-13) && d[i] > 0)) return 0;
  return 1;
}

/* The right-hand side without x to `residual`: right_c - P' (right_r / D_r), right_z - r'
 * (right_r / D_r). The product with y = 0 and p = -right_r gives x = right_r / D_r. */
static void reduce_right_side(solver *s, const system_shape *f, double right_z) {
  const idx n = s->problem.side[ROWS].count, last = s->kernel.stride;
  double *p = s->dual.p[ROWS], *residual = s->scratch.residual, sum = right_z;
  for (idx i = 0; i < n; i++) p[i] = -s->scratch.right[ROWS][i];
  solver_product(s, p, s->dual.q[ROWS], s->scratch.step[COLUMNS], s->scratch.step[ROWS]);
  for (idx j = 0; j < s->problem.side[COLUMNS].count; j++)
    residual[j] = on(s, j) ? s->scratch.right[COLUMNS][j] - s->scratch.column_sums[j] : 0;
  for (idx i = 0; i < n; i++) sum -= s->scratch.marginal[ROWS][i] * s->scratch.step[ROWS][i];
  residual[last] = f->use_z ? sum : 0;
  if (f->is_singular) centre(s, residual);
}

/* direction = residual / D + ratio direction. */
static void turn_direction(solver *s, const system_shape *f, double ratio) {
  const idx last = s->kernel.stride;
  const double *residual = s->scratch.residual, *d = s->scratch.diagonal[COLUMNS];
  double *direction = s->scratch.direction;
  for (idx j = 0; j < s->problem.side[COLUMNS].count; j++)
    direction[j] = on(s, j) ? residual[j] / d[j] + ratio * direction[j] : 0;
  direction[last] = f->use_z ? residual[last] / f->total + ratio * direction[last] : 0;
}

/* Every 16 steps, since a step is as long as an iteration. */
static int is_interrupted(solver *s, idx step, double relative) {
  const pk_sinkhorn_problem *p = s->problem.options;
  if (step % 16 == 15 && p->progress && p->progress(p->context, s->passes, relative))
    s->interrupted = 1;
  return s->interrupted;
}

/* Returns the relative residual. */
static double iterate(solver *s, const system_shape *f, double tolerance, idx limit) {
  const idx m = s->problem.side[COLUMNS].count, last = s->kernel.stride;
  double *y = s->scratch.step[COLUMNS], *residual = s->scratch.residual,
         *direction = s->scratch.direction, *out = s->scratch.column_sums;
  const double zt = f->use_z ? f->total : 0, first = inner(s, residual, residual, zt);
  double rr = first;
  turn_direction(s, f, 0);
  for (idx it = 0; it < limit && rr > tolerance * tolerance * first && rr > 0; it++) {
    if (is_interrupted(s, it, sqrt(rr / first))) break;
    if (f->is_singular) centre(s, direction);
    apply(s, f, direction);
    double curvature = direction[last] * out[last];
    for (idx j = 0; j < m; j++) curvature += direction[j] * out[j];
    if (!(curvature > 0)) break;
    const double length = rr / curvature;
    for (idx j = 0; j < m; j++) y[j] += length * direction[j], residual[j] -= length * out[j];
    y[last] += length * direction[last], residual[last] -= length * out[last];
    if (f->is_singular) centre(s, residual);
    const double next = inner(s, residual, residual, zt);
    if (!isfinite(next)) break;
    turn_direction(s, f, next / rr);
    rr = next;
  }
  return first > 0 ? sqrt(rr / first) : 0;
}

double solver_solve_system(solver *s, int use_z, double total, double right_z, double tolerance,
                           idx limit, double *residual) {
  const idx n = s->problem.side[ROWS].count, padded = s->problem.side[ROWS].padded,
            stride = s->kernel.stride;
  const system_shape f = {use_z, total, !use_z && all_hard(s, ROWS) && all_hard(s, COLUMNS)};
  const double *d = s->scratch.diagonal[ROWS], *r = s->scratch.marginal[ROWS];
  double *p = s->dual.p[ROWS], *q = s->dual.q[ROWS], *y = s->scratch.step[COLUMNS];
  for (idx i = 0; i < n; i++) q[i] = d[i] > 0 ? -1 / d[i] : 0;
  for (idx i = n; i < padded; i++) p[i] = q[i] = 0;
  for (idx j = 0; j < stride + 8; j++) y[j] = s->scratch.residual[j] = s->scratch.direction[j] = 0;
  reduce_right_side(s, &f, right_z);
  const double relative = iterate(s, &f, tolerance, limit);
  if (residual) *residual = relative;
  /* x = (right_r - P y - r z) / D_r */
  const double z = use_z ? y[stride] : 0;
  for (idx i = 0; i < n; i++) p[i] = r[i] * z - s->scratch.right[ROWS][i];
  solver_product(s, p, q, y, s->scratch.step[ROWS]);
  return z;
}
