/* An iteration by logarithms: for kernels whose sums leave the range of numbers, and for starts
 * without potentials. Two passes over the costs. */
#include "solver.h"

static double log_weight(double w) { return w > 0 ? log(w) : PK_LOG_ZERO; }

/* The potential that meets a side's condition, given the logarithm of its sum without it. */
static double updated_potential(const solver_side *side, double log_w, double lse) {
  if (!has_potential(log_w)) return PK_LOG_ZERO;
  if (!has_potential(lse)) /* no mass reaches it */
    return side->rule == PK_SIDE_CAPPED ? 0 : PK_LOG_ZERO;
  switch (side->rule) {
  case PK_SIDE_RELAXED:
    return side->exponent * (log_w - lse);
  case PK_SIDE_HARD:
    return log_w - lse;
  default:
    return fmin(0, log_w - lse);
  }
}

/* Log-sum-exp over the rows of block q: of each row to out, or into the block's running ones of the
 * columns. */
static void log_sums_of_block(solver *s, int side, idx q, double *out) {
  const solver_kernel *k = &s->kernel;
  const idx stride = k->stride, m = s->problem.side[COLUMNS].count, end = solver_block(s, q + 1);
  const double inv = 1 / s->problem.epsilon, *a = s->dual.potential[ROWS];
  double *sum = s->scratch.block_sums + q * stride, *top = s->scratch.block_tops + q * stride;
  for (idx j = 0; side == COLUMNS && j < stride; j++) sum[j] = 0, top[j] = PK_LOG_ZERO;
  for (idx i0 = solver_block(s, q); i0 < end; i0 += POINT_TILE_ROWS) {
    const idx count = least_of(POINT_TILE_ROWS, end - i0);
    idx cost_stride;
    const char *c = solver_cost_rows(s, i0, count, solver_tile(s, 0), &cost_stride);
    for (idx i = i0; i < i0 + count; i++, c += cost_stride * k->element) {
      if (side == ROWS)
        out[i] = k->vectors->row_lse(m, c, inv, s->dual.potential[COLUMNS]);
      else if (has_potential(a[i]))
        k->vectors->column_lse(m, c, inv, a[i], top, sum);
    }
  }
}

void solver_log_sums(solver *s, int side, double *out) {
  const idx blocks = s->kernel.blocks, stride = s->kernel.stride;
  solver_prepare_costs(s);
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx q = 0; q < blocks; q++) log_sums_of_block(s, side, q, out);
  s->passes++;
  if (side == ROWS) return;
  for (idx j = 0; j < s->problem.side[COLUMNS].count; j++) {
    double top = PK_LOG_ZERO, sum = 0;
    for (idx q = 0; q < blocks; q++) {
      const double x = s->scratch.block_tops[q * stride + j], high = fmax(top, x);
      sum = sum * exp(top - high) + s->scratch.block_sums[q * stride + j] * exp(x - high);
      top = high;
    }
    out[j] = sum > 0 && has_potential(top) ? top + log(sum) : PK_LOG_ZERO;
  }
}

static double with_z(double lse, double z) { return has_potential(lse) ? lse + z : lse; }

/* New potentials of the rows; returns the L1 change of their sums. */
static double update_rows(solver *s, double *lse) {
  const solver_side *side = &s->problem.side[ROWS];
  double *a = s->dual.potential[ROWS], change = 0;
  solver_log_sums(s, ROWS, lse);
  for (idx i = 0; i < side->count; i++) {
    const double x = with_z(lse[i], s->dual.z),
                 next = updated_potential(side, log_weight(side->weights[i]), x);
    /* 700: within the range of exp */
    if (has_potential(next)) change += fabs(exp(fmin(next + x, 700)) - exp(fmin(a[i] + x, 700)));
    a[i] = next;
  }
  return change;
}

/* New potentials of the columns; returns the mass of the plan. */
static double update_columns(solver *s, double *lse) {
  const solver_side *side = &s->problem.side[COLUMNS];
  double *b = s->dual.potential[COLUMNS], total = 0;
  solver_log_sums(s, COLUMNS, lse);
  for (idx j = 0; j < side->count; j++)
    b[j] = updated_potential(side, log_weight(side->weights[j]), with_z(lse[j], s->dual.z));
  for (idx j = 0; j < side->count; j++)
    if (has_potential(b[j])) total += exp(fmin(b[j] + lse[j] + s->dual.z, 700));
  return total;
}

double solver_log_iteration(solver *s) {
  double change = update_rows(s, s->scratch.marginal[ROWS]),
         total = update_columns(s, s->scratch.marginal[COLUMNS]);
  if (solver_is_capped(s) && total > 0 && isfinite(total)) {
    const double mass = s->problem.options->mass;
    change += fabs(mass - total);
    s->dual.z += log(mass / total);
    total = mass;
  }
  solver_build_kernel(s, s->dual.potential[ROWS], s->dual.potential[COLUMNS], s->dual.z, 0);
  solver_reset_scalings(s);
  return change / total;
}
