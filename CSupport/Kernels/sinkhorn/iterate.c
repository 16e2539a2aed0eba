/* One iteration on the kernel: rows, columns, and what belongs to both, the mass (capped sides) or
 * the translation (relaxed sides). */
#include "solver.h"

static side_update update_of(solver *s, int k, double omega) {
  static const update_rule rules[] = {UPDATE_HARD, UPDATE_RELAXED, UPDATE_CAPPED};
  const solver_side *side = &s->problem.side[k];
  return (side_update){.rule = rules[side->rule],
                       .exponent = side->exponent,
                       .zeta = s->dual.zeta,
                       .omega = omega - 1,
                       .p = s->dual.p[k],
                       .q = s->dual.q[k],
                       .scaling = s->dual.scaling[k]};
}

static int is_usable(const update_sums *rows, const update_sums *columns) {
  const double low = fmin(rows->low, columns->low), high = fmax(rows->high, columns->high);
  return !(rows->bad > 0) && !(columns->bad > 0) && isfinite(rows->change) &&
         isfinite(columns->change) && rows->before > 0 && low > 0 && isfinite(high) &&
         isfinite(columns->after) && columns->after > 0;
}

/* (a + t, b - t), in the scalings or, where t is beyond their range, in the potentials. */
static void translate(solver *s, double t) {
  double *a = s->dual.potential[ROWS], *b = s->dual.potential[COLUMNS];
  if (fabs(t) > solver_scaling_bound(s)) {
    solver_fold_scalings(s);
    for (idx i = 0; i < s->problem.side[ROWS].count; i++) a[i] += has_potential(a[i]) ? t : 0;
    for (idx j = 0; j < s->problem.side[COLUMNS].count; j++) b[j] -= has_potential(b[j]) ? t : 0;
    solver_build_kernel(s, a, b, s->dual.z, 0);
    solver_reset_scalings(s);
    return;
  }
  const double up = exp(t), down = exp(-t);
  double *alpha = s->dual.scaling[ROWS], *beta = s->dual.scaling[COLUMNS];
  for (idx i = 0; i < s->problem.side[ROWS].padded; i++) alpha[i] *= up;
  for (idx j = 0; j < s->kernel.stride; j++) beta[j] *= down;
  s->kernel.vectors->convert(s->kernel.stride, beta, s->dual.beta);
}

/* Relaxed sides: the translation (a + t, b - t) that maximises the dual (Sejourne et al. 2022). By
 * optimality of the updates sum mu exp(-kappa_a a) = sum alpha s is the mass after the rows'
 * update. */
static double best_translation(const solver *s, double mass_of_rows, double mass_of_columns) {
  const double kappa = s->problem.side[ROWS].kappa + s->problem.side[COLUMNS].kappa,
               t = log(mass_of_rows / mass_of_columns) / kappa;
  return isfinite(t) ? t : 0;
}

static int translates(const solver *s) {
  const pk_sinkhorn_problem *p = s->problem.options;
  return s->problem.side[ROWS].kappa + s->problem.side[COLUMNS].kappa > 0 && !p->plain &&
         p->tolerance > 0;
}

double solver_iterate(solver *s, double omega) {
  const side_update row_update = update_of(s, ROWS, omega),
                    column_update = update_of(s, COLUMNS, omega);
  update_sums rows, columns;
  solver_pass(s, &row_update, &column_update, s->dual.beta, &rows, &columns);
  if (!is_usable(&rows, &columns)) return NAN;
  double error = fmax(rows.change, columns.change);
  if (solver_is_capped(s)) {
    const double mass = s->problem.options->mass;
    s->dual.zeta *= mass / columns.after;
    error = fmax(rows.change + fabs(mass - columns.after), columns.change);
  }
  const double bound = solver_scaling_bound(s), most = exp(bound);
  if (translates(s)) {
    const double t = best_translation(s, rows.after, columns.after);
    translate(s, t);
    if (fabs(t) > bound) return error / rows.before;
  }
  if (fmin(rows.low, columns.low) < 1 / most || fmax(rows.high, columns.high) > most ||
      s->dual.zeta > most || s->dual.zeta < 1 / most)
    solver_absorb(s, 0);
  return error / rows.before;
}
