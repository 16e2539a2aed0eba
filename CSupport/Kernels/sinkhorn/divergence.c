/* The Sinkhorn divergence: three solves, their values and gradients (pk_divergence.h). */
#include "solver.h"

/* One of the two measures: its weights as given and as solved with, what they add to an objective,
 * and where its gradients go. */
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
} workspace;

static idx most_of(idx a, idx b) { return a > b ? a : b; }

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

static idx bytes_of_term(const pk_sinkhorn_problem *p, idx n, idx m) {
  const pk_sinkhorn_problem q = between(p, n, m);
  const idx bytes = most_of(pk_sinkhorn_scratch(&q), pk_sinkhorn_gradient_scratch(&q));
  return certified(p) ? most_of(bytes, pk_sinkhorn_certify_scratch(&q)) : bytes;
}

static void add(pk_type type, idx count, const void *from, void *to) {
  for (idx i = 0; i < count; i++)
    pk_write(to, type, i, pk_read(to, type, i) + pk_read(from, type, i));
}

/* Potentials a = b of OT(mu, mu) by a = (a + phi (log mu - LSE(a - C / epsilon))) / 2, on
 * scalings of exp(-C / epsilon). Where that kernel is positive definite the error halves in each
 * iteration, whatever epsilon is (Feydy et al. 2019, section 3.1); alternating updates slow down
 * with epsilon. Row sums contain the diagonal, and so are never 0. */
static void start_symmetric(solver *s, const double *mu) {
  const idx n = s->problem.side[ROWS].count;
  double *a = s->dual.potential[ROWS], *b = s->dual.potential[COLUMNS],
         *scaling = s->dual.scaling[COLUMNS];
  for (idx i = 0; i < s->problem.side[ROWS].padded; i++) {
    a[i] = i < n && mu[i] > 0 ? 0 : PK_LOG_ZERO;
    s->dual.p[ROWS][i] = 0, s->dual.q[ROWS][i] = 1;
  }
  for (idx j = 0; j < s->kernel.stride; j++) {
    b[j] = j < n ? a[j] : PK_LOG_ZERO;
    scaling[j] = j < n && mu[j] > 0 ? sqrt(mu[j]) : 0;
  }
  solver_build_kernel(s, a, b, 0, 0);
}

/* One averaged update. Returns the L1 error of the sums before, relative to *mass; -1 when a sum is
 * not a positive finite number. */
static double update_symmetric(solver *s, const double *mu, double *mass) {
  const double phi = s->problem.side[ROWS].exponent, *sums = s->scratch.marginal[ROWS];
  double *scaling = s->dual.scaling[COLUMNS], error = 0;
  *mass = 0;
  solver_product(s, s->dual.p[ROWS], s->dual.q[ROWS], scaling, s->scratch.marginal[ROWS]);
  for (idx i = 0; i < s->problem.side[ROWS].count; i++) {
    if (!(mu[i] > 0)) continue;
    if (!(sums[i] > 0 && isfinite(sums[i]))) return -1;
    const double next = phi == 1 ? mu[i] / sums[i] : exp(phi * log(mu[i] / sums[i]));
    error += sums[i] * fabs(next - scaling[i]), *mass += sums[i] * scaling[i];
    scaling[i] = sqrt(scaling[i] * next);
  }
  return error;
}

/* Returns the passes made; a and b are set if there were any. *stop: the caller's progress function
 * asked for an end. */
static idx solve_symmetric(const pk_sinkhorn_problem *q, const void *x, const void *y,
                           const double *mu, double *a, double *b, char *scratch, int *stop) {
  solver s;
  idx count = 0, since = 0;
  double best = INFINITY;
  solver_open(&s, q, 1, scratch, x, y, mu, mu);
  solver_set_epsilon(&s, q->epsilon);
  start_symmetric(&s, mu);
  while (count < q->max_iterations &&
         since < 8) { /* 8 iterations without a tenth less: no halving */
    double mass;
    const double error = update_symmetric(&s, mu, &mass);
    if (error < 0) return 0;
    count++;
    if (error <= q->tolerance * mass) break;
    if (q->progress && (*stop = q->progress(q->context, count, error / mass))) break;
    since = error < 0.9 * best ? 0 : since + 1, best = fmin(best, error);
  }
  for (idx i = 0; i < q->n; i++)
    a[i] = b[i] = mu[i] > 0 ? log(s.dual.scaling[COLUMNS][i]) : PK_LOG_ZERO;
  return count;
}

/* The two clouds, or the cost, between two measures. */
typedef struct {
  pk_sinkhorn_problem q;
  const measure *u, *v;
  const void *x, *y;
} pairing;

/* Adds factor times the gradients of OT(u, v). */
static pk_status add_gradients(const workspace *r, const pairing *w, double factor) {
  const pk_sinkhorn_problem *q = &w->q;
  const measure *u = w->u, *v = w->v;
  double residual;
  const pk_status status = pk_sinkhorn_gradient(
      q, w->x, w->y, u->solved, v->solved, r->a, r->b, 0, NULL, 0, factor, u->dx ? r->gx : NULL,
      v->dx ? r->gy : NULL, u->dw ? r->ga : NULL, v->dw ? r->gb : NULL, &residual, r->solver);
  for (int k = 0; !status && k < 2; k++) {
    const measure *to = k ? v : u, *other = k ? u : v;
    double *g = k ? r->gb : r->ga;
    if (to->dx) add(q->type, to->n * q->d, k ? r->gy : r->gx, to->dx);
    if (!to->dw) continue;
    pk_product_gradient(k ? q->side_target : q->side_source, q->epsilon,
                        k ? q->rho_target : q->rho_source, to->n, to->given, to->solved,
                        other->mass, factor, g);
    add(PK_F64, to->n, g, to->dw);
  }
  return status;
}

/* Adds factor OT(u, v) to the value and the gradients. */
static pk_status add_term(const workspace *r, double factor, const measure *u, const measure *v,
                          const void *cost, pk_divergence_term *t, double *value) {
  pairing w = {.q = between(r->p, u->n, v->n), .u = u, .v = v};
  pk_sinkhorn_problem *q = &w.q;
  const int is_points = q->cost != PK_COST_MATRIX;
  w.x = is_points ? u->x : cost, w.y = is_points ? v->x : NULL;
  int stop = 0;
  idx before = 0;
  if (u == v && q->tolerance > 0 && !q->plain)
    before = solve_symmetric(q, w.x, w.y, u->solved, r->a, r->b, r->solver, &stop);
  if (stop) return *value = NAN, PK_OK;
  q->warm = before > 0;
  q->max_iterations -= before < q->max_iterations ? before : q->max_iterations - 1;
  pk_status status =
      pk_sinkhorn_solve(q, w.x, w.y, u->solved, v->solved, NULL, r->a, r->b, &t->solve, r->solver);
  t->solve.iterations += before;
  if (!status && certified(q))
    status = pk_sinkhorn_certify(q, w.x, w.y, u->solved, v->solved, NULL, r->a, r->b, t->solve.z,
                                 &t->solve, r->solver);
  t->shift = q->epsilon * u->mass * v->mass + u->shift + v->shift;
  *value += factor * (t->solve.dual + t->shift);
  if (status || t->solve.outcome == PK_INTERRUPTED || t->solve.outcome == PK_NON_FINITE)
    return *value = NAN, status;
  const int wants_gradients = u->dx || v->dx || u->dw || v->dw;
  return wants_gradients ? add_gradients(r, &w, factor) : status;
}

static idx layout(workspace *r, const pk_sinkhorn_problem *p, double **solved, char *base) {
  const idx larger = most_of(p->n, p->m),
            bytes =
                p->cost != PK_COST_MATRIX ? (larger * p->d * pk_size(p->type) + 63) / 64 * 64 : 0;
  const idx total = 8 * (p->n + p->m + 4 * larger) + 2 * bytes + 64;
  if (!base) return total;
  double *at = align_to_line(base);
  solved[0] = at, solved[1] = solved[0] + p->n;
  r->p = p, r->a = solved[1] + p->m, r->b = r->a + larger, r->ga = r->b + larger,
  r->gb = r->ga + larger;
  r->gx = (char *)(r->gb + larger), r->gy = r->gx + bytes, r->solver = r->gy + bytes;
  return total;
}

static int valid(const pk_sinkhorn_problem *p, const void *dx, const void *dy) {
  if (p->n < 1 || p->m < 1 || !(p->epsilon > 0) || (p->cost == PK_COST_MATRIX && (dx || dy)))
    return 0;
  return p->side_source == p->side_target && p->side_source != PK_SIDE_CAPPED &&
         (p->side_source == PK_SIDE_HARD || p->rho_source == p->rho_target);
}

ptrdiff_t pk_divergence_scratch(const pk_sinkhorn_problem *p) {
  workspace r;
  double *solved[2];
  return layout(&r, p, solved, NULL) +
         most_of(bytes_of_term(p, p->n, p->m),
                 most_of(bytes_of_term(p, p->n, p->n), bytes_of_term(p, p->m, p->m)));
}

pk_status pk_divergence(const pk_sinkhorn_problem *p, const void *x, const void *y, const void *xx,
                        const void *yy, const double *mu, const double *nu,
                        pk_divergence_result *result, void *dx, void *dy, double *dmu, double *dnu,
                        void *scratch) {
  if (!valid(p, dx, dy)) return PK_BAD_SHAPE;
  workspace r;
  double *solved[2];
  layout(&r, p, solved, scratch);
  measure of[2] = {{p->n, x, mu, solved[0], 0, 0, dx, dmu},
                   {p->m, y, nu, solved[1], 0, 0, dy, dnu}};
  for (int k = 0; k < 2; k++) {
    measure *w = &of[k];
    memcpy(solved[k], w->given, (size_t)w->n * 8);
    if (pk_product_refer(p->side_source, p->epsilon, p->rho_source, w->n, solved[k], &w->shift) <
        w->n)
      return PK_BAD_SHAPE;
    for (idx i = 0; i < w->n; i++) w->mass += w->given[i];
    if (w->dx) memset(w->dx, 0, (size_t)(w->n * p->d * pk_size(p->type)));
    if (w->dw) memset(w->dw, 0, (size_t)w->n * 8);
  }
  const int hard = p->side_source == PK_SIDE_HARD;
  const double apart = hard ? 0 : of[0].mass - of[1].mass;
  memset(result, 0, sizeof *result);
  for (int k = 0; k < 3; k++) result->terms[k].solve.outcome = PK_INTERRUPTED;
  result->value = p->epsilon / 2 * apart * apart;
  pk_status status = add_term(&r, 1, &of[0], &of[1], x, &result->terms[0], &result->value);
  if (!status && isfinite(result->value))
    status = add_term(&r, -0.5, &of[0], &of[0], xx, &result->terms[1], &result->value);
  if (!status && isfinite(result->value))
    status = add_term(&r, -0.5, &of[1], &of[1], yy, &result->terms[2], &result->value);
  for (int k = 0; k < 2; k++)
    for (idx i = 0; of[k].dw && i < of[k].n; i++)
      if (of[k].given[i] > 0) of[k].dw[i] += (k ? -1 : 1) * p->epsilon * apart;
  if (hard && dmu && dnu) pk_centre_gradients(p->n, p->m, mu, nu, dmu, dnu);
  return status;
}
