#include "solver.h"

/* out = S y: x = -(P y + r z) / da on active rows, then out = db y + c z + P' x, and for z: total z
 * + c y + r x. */
static void apply(solver *s, int use_z, double total, double *y) {
  const idx m = s->m;
  const double z = use_z ? y[s->ld] : 0;
  for (idx i = 0; i < s->n; i++) s->pa[i] = use_z ? s->ta[i] * z : 0;
  solver_product(s, s->pa, s->qa, y, s->u);
  double last = total * z;
  for (idx j = 0; j < m; j++) {
    const double on = s->db[j] > 0;
    s->out[j] = on * (s->db[j] * y[j] + (use_z ? s->tb[j] * z : 0) + s->out[j]);
    last += on * s->tb[j] * y[j];
  }
  for (idx i = 0; i < s->n; i++) last += s->ta[i] * s->u[i];
  s->out[s->ld] = use_z ? last : 0;
}

/* Takes the constant out of y on the active columns: the null vector of the balanced system. */
static void centre(solver *s, double *y) {
  double sum = 0, count = 0;
  for (idx j = 0; j < s->m; j++)
    if (s->db[j] > 0) sum += y[j], count += 1;
  if (count > 0)
    for (idx j = 0; j < s->m; j++)
      if (s->db[j] > 0) y[j] -= sum / count;
}

static double weighted(const solver *s, const double *u, const double *v, double total) {
  double t = total > 0 ? u[s->ld] * v[s->ld] / total : 0;
  for (idx j = 0; j < s->m; j++)
    if (s->db[j] > 0) t += u[j] * v[j] / s->db[j];
  return t;
}

double solver_linear(solver *s, int use_z, double total, double rz, double tolerance, idx limit,
                     double *residual) {
  const idx n = s->n, m = s->m, ld = s->ld;
  /* row sums in ta, column sums in tb (set by the caller); x_i = 0 on inactive rows through q = 0
   */
  /* every row and column is a hard constraint: a constant between x and y is free */
  int null = !use_z;
  for (idx i = 0; i < n; i++) {
    s->qa[i] = s->da[i] > 0 ? -1 / s->da[i] : 0;
    if (s->ta[i] > 0 && !(s->da[i] <= s->ta[i] * (1 + 1e-13) && s->da[i] > 0)) null = 0;
  }
  for (idx j = 0; j < m; j++) {
    if (s->tb[j] > 0 && !(s->db[j] <= s->tb[j] * (1 + 1e-13) && s->db[j] > 0)) null = 0;
  }
  for (idx j = 0; j < ld + 8; j++) s->y_[j] = s->res[j] = s->dir[j] = 0;
  for (idx i = n; i < s->rows; i++) s->pa[i] = s->qa[i] = 0;
  /* right-hand side: rb - P' (ra / da), rz - r (ra / da): apply() with y = 0 and p = -ra gives x =
   * ra / da */
  for (idx i = 0; i < n; i++) s->pa[i] = -s->ra[i];
  double last = rz;
  solver_product(s, s->pa, s->qa, s->y_, s->u);
  for (idx j = 0; j < m; j++) s->res[j] = s->db[j] > 0 ? s->rb[j] - s->out[j] : 0;
  for (idx i = 0; i < n; i++) last -= s->ta[i] * s->u[i];
  s->res[ld] = use_z ? last : 0;
  if (null) centre(s, s->res);
  const double zt = use_z ? total : 0;
  double rr = weighted(s, s->res, s->res, zt), first = rr;
  for (idx j = 0; j < m; j++)
    if (s->db[j] > 0) s->dir[j] = s->res[j] / s->db[j];
  s->dir[ld] = use_z ? s->res[ld] / total : 0;
  for (idx it = 0; it < limit && rr > tolerance * tolerance * first && rr > 0; it++) {
    if (it % 16 == 15 && s->p->progress &&
        s->p->progress(s->p->context, s->passes, sqrt(rr / first))) {
      s->stop = 1;
      break;
    }
    if (null) centre(s, s->dir);
    apply(s, use_z, total, s->dir);
    double curve = s->dir[ld] * s->out[ld];
    for (idx j = 0; j < m; j++) curve += s->dir[j] * s->out[j];
    if (!(curve > 0)) break;
    const double step = rr / curve;
    for (idx j = 0; j < m; j++) s->y_[j] += step * s->dir[j], s->res[j] -= step * s->out[j];
    s->y_[ld] += step * s->dir[ld], s->res[ld] -= step * s->out[ld];
    if (null) centre(s, s->res);
    const double next = weighted(s, s->res, s->res, zt), ratio = next / rr;
    if (!isfinite(next)) break;
    for (idx j = 0; j < m; j++)
      s->dir[j] = s->db[j] > 0 ? s->res[j] / s->db[j] + ratio * s->dir[j] : 0;
    s->dir[ld] = use_z ? s->res[ld] / total + ratio * s->dir[ld] : 0;
    rr = next;
  }
  if (residual) *residual = first > 0 ? sqrt(rr / first) : 0;
  /* x = (ra - P y - r z) / da */
  const double z = use_z ? s->y_[ld] : 0;
  for (idx i = 0; i < n; i++) s->pa[i] = s->ta[i] * z - s->ra[i];
  solver_product(s, s->pa, s->qa, s->y_, s->u);
  return z;
}
