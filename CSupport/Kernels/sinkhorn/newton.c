#include "solver.h"

/* A Newton step of the dual with backtracking; 1 when it rose. Afterwards the kernel is the plan.
 */
int solver_newton(solver *s, double forcing, idx limit, idx last_pass) {
  /* beside the system's right-hand side, one trial, and the iteration that follows */
  const idx room = last_pass - s->passes - 3;
  limit = limit < room ? limit : room;
  if (limit < 1) return 0;
  double total = solver_absorb(s, 1);
  const double before = solver_dual(s, s->a, s->b, s->z, total);
  if (!isfinite(before)) return 0;
  solver_sums(s, s->ta, s->tb);
  int all_a = 1, all_b = 1;
  for (int side = 0; side < 2; side++) {
    const idx count = side ? s->m : s->n;
    const double kappa = side ? s->kappa_b : s->kappa_a, *w = side ? s->nu : s->mu,
                 *t = side ? s->b : s->a, *sums = side ? s->tb : s->ta;
    double *diagonal = side ? s->db : s->da, *right = side ? s->rb : s->ra;
    for (idx i = 0; i < count; i++) {
      const double x = w[i] > 0 ? w[i] * exp(-kappa * t[i]) : 0;
      const int on = w[i] > 0 && sums[i] > 0 && (!solver_capped(s) || t[i] < 0);
      diagonal[i] = on ? (sums[i] + kappa * x) * (1 + s->damping) : 0,
      right[i] = on ? x - sums[i] : 0;
      if (w[i] > 0 && !on) *(side ? &all_b : &all_a) = 0;
    }
  }
  const int use_z = solver_capped(s) && !all_a && !all_b;
  const double z = solver_linear(s, use_z, total * (1 + s->damping),
                                 solver_capped(s) ? s->p->mass - total : 0, forcing, limit, NULL);
  double *x = s->ra; /* the step in a: u is overwritten by the build */
  memcpy(x, s->u, (size_t)s->n * sizeof(double));
  double largest = fabs(z);
  for (idx i = 0; i < s->n; i++) largest = fmax(largest, fabs(x[i]));
  for (idx j = 0; j < s->m; j++) largest = fmax(largest, fabs(s->y_[j]));
  if (!isfinite(largest) || largest == 0) {
    solver_rules(s);
    return 0;
  }
  /* Along a direction of almost no curvature the quadratic model is no guide: no potential moves by
   * more than the costs differ. */
  const double bound = s->range / s->eps + 10;
  double t = largest > bound ? bound / largest : 1;
  const double full = t;
  for (int tries = 0; tries < 40 && s->passes < last_pass - 1; tries++, t *= 0.5) {
    for (idx i = 0; i < s->n; i++) s->ta[i] = s->mu[i] > 0 ? s->a[i] + t * x[i] : PK_LOG_ZERO;
    for (idx j = 0; j < s->ld; j++)
      s->tb[j] = j < s->m && s->nu[j] > 0 ? s->b[j] + t * s->y_[j] : PK_LOG_ZERO;
    if (solver_capped(s)) {
      for (idx i = 0; i < s->n; i++) s->ta[i] = fmin(s->ta[i], 0);
      for (idx j = 0; j < s->m; j++) s->tb[j] = fmin(s->tb[j], 0);
    }
    total = solver_build(s, s->ta, s->tb, s->z + t * z, 1);
    s->passes++;
    const double after = solver_dual(s, s->ta, s->tb, s->z + t * z, total);
    /* near the optimum the rise drowns in rounding: an equal value is accepted there */
    if (isfinite(after) && after >= before - s->floor * (fabs(before) + total)) {
      memcpy(s->a, s->ta, (size_t)s->n * sizeof(double)),
          memcpy(s->b, s->tb, (size_t)s->ld * sizeof(double));
      s->z += t * z;
      solver_rules(s);
      /* Levenberg-Marquardt: damp when the quadratic model was far off, trust it more when it was
       * good */
      s->damping = t > 0.9   ? (s->damping > 1e-12 ? s->damping / 10 : 0)
                   : t < 0.2 ? fmax(4 * s->damping, 1e-6)
                             : s->damping;
      return t > 1e-6 * full;
    }
  }
  s->damping = fmax(10 * s->damping, 1e-6);
  solver_build(s, s->a, s->b, s->z, 0);
  solver_rules(s);
  return 0;
}
