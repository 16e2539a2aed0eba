#include "solver.h"

ptrdiff_t pk_product_refer(pk_side side, double epsilon, double rho, ptrdiff_t n, double *w,
                           double *shift) {
  *shift = 0;
  for (idx i = 0; i < n; i++) {
    if (!(w[i] > 0)) continue;
    if (side == PK_SIDE_HARD) {
      *shift -= epsilon * w[i] * log(w[i]);
    } else {
      const double given = w[i], next = exp((1 + epsilon / rho) * log(given));
      if (!(next > 1e-300 && next < 1e300)) return i;
      w[i] = next, *shift += rho * (given - next);
    }
  }
  return n;
}

void pk_product_gradient(pk_side side, double epsilon, double rho, ptrdiff_t n, const double *given,
                         const double *solved, double other_mass, double on_objective, double *dw) {
  for (idx i = 0; dw && i < n; i++) {
    const double w = given ? given[i] : 1 / (double)n;
    if (!(w > 0)) continue;
    const double slope = side == PK_SIDE_HARD ? 1 : (1 + epsilon / rho) * solved[i] / w;
    dw[i] = dw[i] * slope +
            on_objective * (epsilon * other_mass +
                            (side == PK_SIDE_HARD ? -epsilon * (log(w) + 1) : rho * (1 - slope)));
  }
}

void pk_centre_gradients(ptrdiff_t n, ptrdiff_t m, const double *mu, const double *nu, double *dmu,
                         double *dnu) {
  double a = 0, b = 0, mass = 0;
  for (idx i = 0; i < n; i++) a += mu[i] * dmu[i], mass += mu[i];
  for (idx j = 0; j < m; j++) b += nu[j] * dnu[j], mass += nu[j];
  const double shift = (b - a) / mass;
  for (idx i = 0; i < n; i++) dmu[i] += mu[i] > 0 ? shift : 0;
  for (idx j = 0; j < m; j++) dnu[j] -= nu[j] > 0 ? shift : 0;
}

/* A measure of the three problems: its weights as given and as solved with, what they add to an
 * objective, and where its gradients go. */
typedef struct {
  idx n;
  const void *x;
  const double *given, *solved;
  double mass, shift;
  void *dx;
  double *dw;
} measure;

typedef struct {
  const pk_sinkhorn_problem *p;
  /* potentials and weight gradients of the problem at hand, [larger of n and m] */
  double *a, *b, *ga, *gb;
  char *gx, *gy; /* points' gradients */
  char *solver;  /* its scratch */
} room;

static idx most(idx a, idx b) { return a > b ? a : b; }

static pk_sinkhorn_problem between(const pk_sinkhorn_problem *p, idx n, idx m) {
  pk_sinkhorn_problem q = *p;
  q.n = n, q.m = m, q.warm = 0;
  return q;
}

/* Whether values are recomputed with every exponential in f64: differences of duals need more
 * digits than a status. */
static int certified(const pk_sinkhorn_problem *p) {
  return p->type == PK_F32 && p->cost != PK_COST_MATRIX;
}

static idx term_bytes(const pk_sinkhorn_problem *p, idx n, idx m) {
  const pk_sinkhorn_problem q = between(p, n, m);
  const idx bytes = most(pk_sinkhorn_scratch(&q), pk_sinkhorn_gradient_scratch(&q));
  return certified(p) ? most(bytes, pk_sinkhorn_certify_scratch(&q)) : bytes;
}

static void add(pk_type type, idx count, const void *from, void *to) {
  for (idx i = 0; i < count; i++)
    pk_write(to, type, i, pk_read(to, type, i) + pk_read(from, type, i));
}

/* Potentials a = b of OT(mu, mu) by a = (a + phi (log mu - LSE(a - C / eps))) / 2, on scalings of
 * exp(-C / eps): where that kernel is positive definite the error halves each time, whatever eps
 * (Feydy et al. 2019, section 3.1; alternating updates slow down with it). Row sums contain the
 * diagonal, and so never vanish. Returns the passes made; a and b are set if there were any. *stop:
 * whether the caller's progress function said so. */
static idx symmetric(const pk_sinkhorn_problem *q, const void *x, const void *y, const double *mu,
                     double *a, double *b, char *scratch, int *stop) {
  solver s;
  idx count = 0, since = 0;
  double best = INFINITY;
  solver_open(&s, q, 1, scratch, x, y, mu, mu);
  solver_level(&s, q->epsilon);
  for (idx i = 0; i < s.rows; i++)
    s.a[i] = i < s.n && mu[i] > 0 ? 0 : PK_LOG_ZERO, s.pa[i] = 0, s.qa[i] = 1;
  for (idx j = 0; j < s.ld; j++)
    s.b[j] = s.a[j < s.n ? j : 0], s.beta[j] = j < s.n && mu[j] > 0 ? sqrt(mu[j]) : 0;
  for (idx j = s.n; j < s.ld; j++) s.b[j] = PK_LOG_ZERO;
  solver_build(&s, s.a, s.b, 0, 0);
  while (count < q->max_iterations && since < 8) {
    double error = 0, mass = 0;
    solver_product(&s, s.pa, s.qa, s.beta, s.ta);
    for (idx i = 0; i < s.n; i++) {
      if (!(mu[i] > 0)) continue;
      if (!(s.ta[i] > 0 && isfinite(s.ta[i]))) return 0;
      const double next = s.phi_a == 1 ? mu[i] / s.ta[i] : exp(s.phi_a * log(mu[i] / s.ta[i]));
      error += s.ta[i] * fabs(next - s.beta[i]), mass += s.ta[i] * s.beta[i];
      s.beta[i] = sqrt(s.beta[i] * next);
    }
    count++;
    if (error <= q->tolerance * mass) break;
    if (q->progress && (*stop = q->progress(q->context, count, error / mass))) break;
    since = error < 0.9 * best ? 0 : since + 1, best = fmin(best, error);
  }
  for (idx i = 0; i < s.n; i++) a[i] = b[i] = mu[i] > 0 ? log(s.beta[i]) : PK_LOG_ZERO;
  return count;
}

/* factor OT(u, v) to the value and the gradients. */
static pk_status term(const room *r, double factor, const measure *u, const measure *v,
                      const void *cost, pk_divergence_term *t, double *value) {
  pk_sinkhorn_problem q = between(r->p, u->n, v->n);
  const int points = q.cost != PK_COST_MATRIX;
  const void *x = points ? u->x : cost, *y = points ? v->x : NULL;
  int stop = 0;
  const idx before = u == v && q.tolerance > 0 && !q.plain
                         ? symmetric(&q, x, y, u->solved, r->a, r->b, r->solver, &stop)
                         : 0;
  if (stop) return *value = NAN, PK_OK;
  q.warm = before > 0,
  q.max_iterations -= before < q.max_iterations ? before : q.max_iterations - 1;
  pk_status status =
      pk_sinkhorn_solve(&q, x, y, u->solved, v->solved, NULL, r->a, r->b, &t->solve, r->solver);
  t->solve.iterations += before;
  if (!status && certified(&q))
    status = pk_sinkhorn_certify(&q, x, y, u->solved, v->solved, NULL, r->a, r->b, t->solve.z,
                                 &t->solve, r->solver);
  t->shift = q.epsilon * u->mass * v->mass + u->shift + v->shift;
  *value += factor * (t->solve.dual + t->shift);
  if (status || t->solve.outcome == PK_INTERRUPTED || t->solve.outcome == PK_NON_FINITE)
    return *value = NAN, status;
  if (!u->dx && !v->dx && !u->dw && !v->dw) return status;
  double residual;
  status = pk_sinkhorn_gradient(&q, x, y, u->solved, v->solved, r->a, r->b, 0, NULL, 0, factor,
                                u->dx ? r->gx : NULL, v->dx ? r->gy : NULL, u->dw ? r->ga : NULL,
                                v->dw ? r->gb : NULL, &residual, r->solver);
  for (int side = 0; !status && side < 2; side++) {
    const measure *w = side ? v : u;
    if (w->dx) add(q.type, w->n * q.d, side ? r->gy : r->gx, w->dx);
    if (!w->dw) continue;
    double *g = side ? r->gb : r->ga;
    pk_product_gradient(side ? q.side_b : q.side_a, q.epsilon, side ? q.rho_b : q.rho_a, w->n,
                        w->given, w->solved, (side ? u : v)->mass, factor, g);
    add(PK_F64, w->n, g, w->dw);
  }
  return status;
}

static idx layout(room *r, const pk_sinkhorn_problem *p, double **solved, char *base) {
  const idx larger = most(p->n, p->m),
            bytes =
                p->cost != PK_COST_MATRIX ? (larger * p->d * pk_size(p->type) + 63) / 64 * 64 : 0;
  const idx total = 8 * (p->n + p->m + 4 * larger) + 2 * bytes + 64;
  if (!base) return total;
  double *at = (double *)(((uintptr_t)base + 63) / 64 * 64);
  solved[0] = at, solved[1] = solved[0] + p->n;
  r->p = p, r->a = solved[1] + p->m, r->b = r->a + larger, r->ga = r->b + larger,
  r->gb = r->ga + larger;
  r->gx = (char *)(r->gb + larger), r->gy = r->gx + bytes, r->solver = r->gy + bytes;
  return total;
}

static int valid(const pk_sinkhorn_problem *p, const void *dx, const void *dy) {
  if (p->n < 1 || p->m < 1 || !(p->epsilon > 0) || (p->cost == PK_COST_MATRIX && (dx || dy)))
    return 0;
  return p->side_a == p->side_b && p->side_a != PK_SIDE_CAPPED &&
         (p->side_a == PK_SIDE_HARD || p->rho_a == p->rho_b);
}

ptrdiff_t pk_divergence_scratch(const pk_sinkhorn_problem *p) {
  room r;
  double *solved[2];
  return layout(&r, p, solved, NULL) +
         most(term_bytes(p, p->n, p->m),
              most(term_bytes(p, p->n, p->n), term_bytes(p, p->m, p->m)));
}

pk_status pk_divergence(const pk_sinkhorn_problem *p, const void *x, const void *y, const void *xx,
                        const void *yy, const double *mu, const double *nu,
                        pk_divergence_result *result, void *dx, void *dy, double *dmu, double *dnu,
                        void *scratch) {
  if (!valid(p, dx, dy)) return PK_BAD_SHAPE;
  room r;
  double *solved[2];
  layout(&r, p, solved, scratch);
  measure of[2] = {{p->n, x, mu, solved[0], 0, 0, dx, dmu},
                   {p->m, y, nu, solved[1], 0, 0, dy, dnu}};
  for (int k = 0; k < 2; k++) {
    measure *w = &of[k];
    memcpy(solved[k], w->given, (size_t)w->n * 8);
    if (pk_product_refer(p->side_a, p->epsilon, p->rho_a, w->n, solved[k], &w->shift) < w->n)
      return PK_BAD_SHAPE;
    for (idx i = 0; i < w->n; i++) w->mass += w->given[i];
    if (w->dx) memset(w->dx, 0, (size_t)(w->n * p->d * pk_size(p->type)));
    if (w->dw) memset(w->dw, 0, (size_t)w->n * 8);
  }
  const int hard = p->side_a == PK_SIDE_HARD;
  const double apart = hard ? 0 : of[0].mass - of[1].mass;
  memset(result, 0, sizeof *result);
  for (int k = 0; k < 3; k++) result->terms[k].solve.outcome = PK_INTERRUPTED;
  result->value = p->epsilon / 2 * apart * apart;
  pk_status status = term(&r, 1, &of[0], &of[1], x, &result->terms[0], &result->value);
  if (!status && isfinite(result->value))
    status = term(&r, -0.5, &of[0], &of[0], xx, &result->terms[1], &result->value);
  if (!status && isfinite(result->value))
    status = term(&r, -0.5, &of[1], &of[1], yy, &result->terms[2], &result->value);
  for (int k = 0; k < 2; k++)
    for (idx i = 0; of[k].dw && i < of[k].n; i++)
      if (of[k].given[i] > 0) of[k].dw[i] += (k ? -1 : 1) * p->epsilon * apart;
  if (hard && dmu && dnu) pk_centre_gradients(p->n, p->m, mu, nu, dmu, dnu);
  return status;
}
