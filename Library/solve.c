/* Solves, certificates, gradients, projections. */
#include <math.h>
#include <string.h>
#include "library.h"

/* Potentials as callers see them (-INFINITY: no weight) and as the solver does. A start of
 * -INFINITY for a positive weight says nothing. */
static void potentials_out(ptrdiff_t n, double *a) {
  for (ptrdiff_t i = 0; i < n; i++)
    if (!(a[i] > PK_LOG_ZERO / 2)) a[i] = isnan(a[i]) ? a[i] : -INFINITY;
}

static void potentials_in(ptrdiff_t n, const double *weights, const double *given, double *a) {
  for (ptrdiff_t i = 0; i < n; i++)
    a[i] = !(weights[i] > 0) ? PK_LOG_ZERO : given[i] == -INFINITY ? 0 : given[i];
}

static pisces_ot_status check_potentials(pisces_ot_context *c, const char *name, ptrdiff_t n,
                                         const double *given) {
  for (ptrdiff_t i = 0; i < n; i++)
    if (isnan(given[i]) || given[i] == INFINITY)
      return library_fail(c, PISCES_OT_BAD_DATA,
                          "%s holds %g: element %td: give potentials of a solve", name, given[i],
                          i);
  return PISCES_OT_OK;
}

void library_certificate(double epsilon, double shift, const pk_sinkhorn_result *r,
                         pisces_ot_certificate *out) {
  out->error_l1 = r->error_l1, out->error_linf = r->error_linf, out->cost = r->cost,
  out->mass = r->mass;
  out->primal = r->cost + epsilon * r->entropy + r->penalty_source + r->penalty_target + shift,
  out->dual = r->dual + shift;
  out->gap = out->primal - out->dual, out->epsilon = epsilon, out->log_z = r->z;
}

pisces_ot_status library_answer(pisces_ot_context *c, pk_status status) {
  return status == PK_OK
             ? PISCES_OT_OK
             : library_fail(c, PISCES_OT_INTERNAL,
                            "the solver refused a checked problem (%d): report this as a bug",
                            (int)status);
}

static pisces_ot_status begin(pisces_ot_context *c, const void *problem,
                              const pisces_ot_solution *s) {
  if (!c) return PISCES_OT_BAD_ARGUMENT;
  c->message[0] = 0;
  if (!problem) return library_fail(c, PISCES_OT_BAD_ARGUMENT, "no problem: pass one");
  if (!s || !s->log_u || !s->log_v)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT,
                        "log_u or log_v is missing: solution: pass arrays of n and m elements");
  return PISCES_OT_OK;
}

pisces_ot_status pisces_ot_solve_batch(pisces_ot_context *c, const pisces_ot_problem *problem,
                                       ptrdiff_t count, const pisces_ot_strides *strides,
                                       const pisces_ot_solution *s,
                                       pisces_ot_certificate *certificates) {
  pisces_ot_problem p;
  prepared q;
  double *behind;
  pisces_ot_status status = begin(c, problem, s);
  if (!status) status = library_options(c, problem, &p);
  if (!status && !certificates)
    status = library_fail(c, PISCES_OT_BAD_ARGUMENT,
                          "certificates is missing: batch: pass an array of count elements");
  if (!status && count > 1 &&
      (!strides || strides->log_u < p.n || strides->log_v < p.m ||
       (s->plan && strides->plan < p.n * p.m)))
    status = library_fail(c, PISCES_OT_BAD_ARGUMENT,
                          "outputs overlap: batch: give strides of at least n for log_u, m for "
                          "log_v, n m for the plan");
  const ptrdiff_t room = (ptrdiff_t)((sizeof(pk_sinkhorn_result) + 7) / 8);
  if (!status && (count < 1 || count > (ptrdiff_t)1 << 40))
    status = library_fail(c, PISCES_OT_BAD_ARGUMENT, "count is %td: batch: give at least 1", count);
  if (!status) status = library_prepare(c, &p, count, strides, count * room, &q, &behind);
  for (ptrdiff_t k = 0; !status && p.warm && k < count; k++) {
    status = check_potentials(c, "log_u", p.n, s->log_u + k * q.strides.a);
    if (!status) status = check_potentials(c, "log_v", p.m, s->log_v + k * q.strides.b);
  }
  if (status) return status;
  for (ptrdiff_t k = 0; p.warm && k < count; k++) {
    double *a = s->log_u + k * q.strides.a, *b = s->log_v + k * q.strides.b;
    potentials_in(p.n, q.source + k * q.strides.mu, a, a),
        potentials_in(p.m, q.target + k * q.strides.nu, b, b);
  }

  pk_sinkhorn_result *results = (pk_sinkhorn_result *)behind;
  memset(results, 0, (size_t)count * sizeof *results);
  if (count > 1) q.p.progress = NULL;
  const int before = library_enter(c);
  void *scratch = library_scratch(c, count > 1 ? pk_sinkhorn_batch_scratch(&q.p, count)
                                               : pk_sinkhorn_scratch(&q.p));
  pk_status solved = PK_OK;
  if (scratch && count == 1)
    solved = pk_sinkhorn_solve(&q.p, p.x, p.y, q.source, q.target, s->plan, s->log_u, s->log_v,
                               results, scratch);
  if (scratch && count > 1)
    solved = pk_sinkhorn_solve_batch(&q.p, count, &q.strides, p.x, p.y, q.source, q.target, s->plan,
                                     s->log_u, s->log_v, results, scratch);
  library_leave(before);
  if (!scratch) return PISCES_OT_NO_MEMORY;
  for (ptrdiff_t k = 0; k < count; k++) {
    potentials_out(p.n, s->log_u + k * q.strides.a);
    potentials_out(p.m, s->log_v + k * q.strides.b);
    certificates[k] = (pisces_ot_certificate){.outcome = (pisces_ot_outcome)results[k].outcome,
                                              .iterations = results[k].iterations,
                                              .residual = results[k].residual};
    library_certificate(p.epsilon, library_value_shift(&p, &q, k), results + k, certificates + k);
  }
  return library_answer(c, solved);
}

pisces_ot_status pisces_ot_solve(pisces_ot_context *c, const pisces_ot_problem *problem,
                                 pisces_ot_solution *s, pisces_ot_certificate *certificate) {
  pisces_ot_certificate own;
  pisces_ot_certificate *out = certificate ? certificate : &own;
  const pisces_ot_status status = pisces_ot_solve_batch(c, problem, 1, NULL, s, out);
  if (!status) s->log_z = out->log_z;
  return status;
}

/* What certify, gradient and project start with: a problem and its potentials, checked and copied
 * to *a, *b. */
static pisces_ot_status reopen(pisces_ot_context *c, const pisces_ot_problem *problem,
                               const pisces_ot_solution *s, pisces_ot_problem *p, prepared *q,
                               double **a, double **b) {
  pisces_ot_status status = begin(c, problem, s);
  if (!status) status = library_options(c, problem, p);
  if (!status && !isfinite(s->log_z))
    status = library_fail(c, PISCES_OT_BAD_DATA, "log_z is %g: solution: give that of a solve",
                          s->log_z);
  if (!status) status = library_prepare(c, p, 1, NULL, p->n + p->m, q, a);
  if (status) return status;
  *b = *a + p->n;
  status = check_potentials(c, "log_u", p->n, s->log_u);
  if (!status) status = check_potentials(c, "log_v", p->m, s->log_v);
  if (status) return status;
  potentials_in(p->n, q->source, s->log_u, *a), potentials_in(p->m, q->target, s->log_v, *b);
  return PISCES_OT_OK;
}

pisces_ot_status pisces_ot_certify(pisces_ot_context *c, const pisces_ot_problem *problem,
                                   const pisces_ot_solution *s,
                                   pisces_ot_certificate *certificate) {
  pisces_ot_problem p;
  prepared q;
  double *a, *b;
  pisces_ot_status status = reopen(c, problem, s, &p, &q, &a, &b);
  if (!status && !certificate)
    status = library_fail(c, PISCES_OT_BAD_ARGUMENT, "certificate is missing: certify: pass one");
  if (status) return status;
  if (s->plan && p.cost == PISCES_OT_MATRIX &&
      (status = library_check_array(c, "the plan", p.type, p.n * p.m, s->plan)))
    return status;
  pk_sinkhorn_result r = {.outcome = (pk_outcome)certificate->outcome};
  const int before = library_enter(c);
  void *scratch = library_scratch(c, pk_sinkhorn_certify_scratch(&q.p));
  const void *plan = p.cost == PISCES_OT_MATRIX ? s->plan : NULL;
  const pk_status done = !scratch ? PK_OK
                                  : pk_sinkhorn_certify(&q.p, p.x, p.y, q.source, q.target, plan, a,
                                                        b, s->log_z, &r, scratch);
  library_leave(before);
  if (!scratch) return PISCES_OT_NO_MEMORY;
  r.z = s->log_z;
  library_certificate(p.epsilon, library_value_shift(&p, &q, 0), &r, certificate);
  certificate->outcome = (pisces_ot_outcome)r.outcome;
  return library_answer(c, done);
}

pisces_ot_status pisces_ot_gradient(pisces_ot_context *c, const pisces_ot_problem *problem,
                                    const pisces_ot_solution *s, const pisces_ot_upstream *u,
                                    pisces_ot_gradients *g) {
  pisces_ot_problem p;
  prepared q;
  double *a, *b;
  pisces_ot_status status = reopen(c, problem, s, &p, &q, &a, &b);
  if (status) return status;
  if (!u || !g)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT,
                        "upstream or gradients is missing: gradient: pass both");
  if (!isfinite(u->cost) || !isfinite(u->objective))
    return library_fail(c, PISCES_OT_BAD_DATA,
                        "the upstream is %g and %g: gradient: give finite numbers", u->cost,
                        u->objective);
  if (p.cost != PISCES_OT_MATRIX && u->plan)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT,
                        "an upstream on the plan of points: gradient: give it on the cost or the "
                        "objective, or solve for a matrix");
  if (p.cost == PISCES_OT_MATRIX && g->y)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT,
                        "a gradient for y of a matrix: gradient: pass NULL");
  if (u->plan &&
      (status = library_check_array(c, "the upstream on the plan", p.type, p.n * p.m, u->plan)))
    return status;
  const int before = library_enter(c);
  void *scratch = library_scratch(c, pk_sinkhorn_gradient_scratch(&q.p));
  const pk_status done =
      !scratch ? PK_OK
               : pk_sinkhorn_gradient(&q.p, p.x, p.y, q.source, q.target, a, b, s->log_z, u->plan,
                                      u->cost, u->objective, g->x, g->y, g->source, g->target,
                                      &g->residual, scratch);
  library_leave(before);
  if (!scratch) return PISCES_OT_NO_MEMORY;
  if (p.reference == PISCES_OT_PRODUCT && (g->source || g->target)) {
    /* then the weights solved with are those of the reference */
    const int hard = q.p.side_source == PK_SIDE_HARD && q.p.side_target == PK_SIDE_HARD;
    pk_product_gradient(q.p.side_source, p.epsilon, q.p.rho_source, p.n, hard ? q.source : p.source,
                        q.source, q.target_sums[0], u->objective, g->source);
    pk_product_gradient(q.p.side_target, p.epsilon, q.p.rho_target, p.m, hard ? q.target : p.target,
                        q.target, q.source_sums[0], u->objective, g->target);
    if (hard && g->source && g->target)
      pk_centre_gradients(p.n, p.m, q.source, q.target, g->source, g->target);
  }
  library_undivide(p.n, q.source, q.divisors[0], g->source);
  library_undivide(p.m, q.target, q.divisors[1], g->target);
  return library_answer(c, done);
}

pisces_ot_status pisces_ot_project(pisces_ot_context *c, const pisces_ot_problem *problem,
                                   const pisces_ot_solution *s, void *projection) {
  pisces_ot_problem p;
  prepared q;
  double *a, *b;
  pisces_ot_status status = reopen(c, problem, s, &p, &q, &a, &b);
  if (status) return status;
  if (p.cost == PISCES_OT_MATRIX)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT,
                        "a projection of a matrix: project: give points");
  if (!projection)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT,
                        "projection is missing: project: pass an array of n d elements");
  const int before = library_enter(c);
  void *scratch = library_scratch(c, pk_sinkhorn_gradient_scratch(&q.p));
  const pk_status done =
      !scratch ? PK_OK : pk_sinkhorn_project(&q.p, p.x, p.y, a, b, s->log_z, projection, scratch);
  library_leave(before);
  if (!scratch) return PISCES_OT_NO_MEMORY;
  return library_answer(c, done);
}

pisces_ot_status pisces_ot_costs(pisces_ot_context *c, const pisces_ot_problem *problem,
                                 void *costs) {
  pisces_ot_problem p;
  pk_sinkhorn_problem q;
  if (!c) return PISCES_OT_BAD_ARGUMENT;
  c->message[0] = 0;
  pisces_ot_status status = library_options(c, problem, &p);
  if (!status) status = library_points(c, &p, &q);
  if (!status && !costs)
    status = library_fail(c, PISCES_OT_BAD_ARGUMENT,
                          "costs is missing: costs: pass an array of n m elements");
  if (status) return status;
  const int before = library_enter(c);
  void *scratch = library_scratch(c, pk_point_costs_scratch(&q));
  const pk_status done = !scratch ? PK_OK : pk_point_costs(&q, p.x, p.y, costs, scratch);
  library_leave(before);
  return scratch ? library_answer(c, done) : PISCES_OT_NO_MEMORY;
}
