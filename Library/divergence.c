/* The Sinkhorn divergence: pk_divergence.h behind the library's checks. */
#include <string.h>
#include "library.h"

#define REFUSE(...) return library_fail(c, PISCES_OT_BAD_ARGUMENT, __VA_ARGS__)

/* What a divergence asks for beyond a solve. */
static pisces_ot_status check_rule(pisces_ot_context *c, const pisces_ot_problem *p) {
  if (p->rule != PISCES_OT_BALANCED && p->rule != PISCES_OT_UNBALANCED)
    REFUSE("the rule is neither balanced nor unbalanced: divergence: take one of them");
  if (p->rule == PISCES_OT_UNBALANCED && p->rho_source != p->rho_target)
    REFUSE("rho is %g and %g: divergence: give the same for both sides", p->rho_source,
           p->rho_target);
  return PISCES_OT_OK;
}

/* The costs within both measures, symmetric, which only a matrix has. */
static pisces_ot_status check_costs(pisces_ot_context *c, const pisces_ot_problem *p,
                                    const void *source_cost, const void *target_cost) {
  if (p->cost != PISCES_OT_MATRIX) {
    if (source_cost || target_cost) REFUSE("costs beside points: divergence: pass NULL");
    return PISCES_OT_OK;
  }
  if (!source_cost || !target_cost)
    REFUSE("source_cost or target_cost is missing: divergence: pass [n, n] and [m, m]");
  pisces_ot_status status = library_check_array(c, "cost", p->type, p->n * p->m, p->x);
  if (!status) status = library_check_array(c, "source_cost", p->type, p->n * p->n, source_cost);
  if (!status) status = library_check_array(c, "target_cost", p->type, p->m * p->m, target_cost);
  if (!status) status = library_check_symmetric(c, "source_cost", p->type, p->n, source_cost);
  if (!status) status = library_check_symmetric(c, "target_cost", p->type, p->m, target_cost);
  return status;
}

/* Whether the weights can be solved with in place of the product reference. */
static pisces_ot_status check_weights(pisces_ot_context *c, const pisces_ot_problem *p,
                                      const prepared *q, double *copies) {
  double shift;
  memcpy(copies, q->source, (size_t)p->n * sizeof(double));
  memcpy(copies + p->n, q->target, (size_t)p->m * sizeof(double));
  const pisces_ot_status status = library_refer(c, "source weights", q->p.side_source, p->epsilon,
                                                q->p.rho_source, p->n, copies, &shift);
  return status ? status
                : library_refer(c, "target weights", q->p.side_target, p->epsilon, q->p.rho_target,
                                p->m, copies + p->n, &shift);
}

pisces_ot_status pisces_ot_divergence(pisces_ot_context *c, const pisces_ot_problem *problem,
                                      const void *source_cost, const void *target_cost,
                                      double *value, void *dx, void *dy,
                                      pisces_ot_certificate *certificates) {
  pisces_ot_problem p;
  if (!c) return PISCES_OT_BAD_ARGUMENT;
  c->message[0] = 0;
  pisces_ot_status status = library_options(c, problem, &p);
  if (status) return status;
  if (!value) REFUSE("value is missing: divergence: pass a pointer");
  if (p.cost == PISCES_OT_MATRIX && (dx || dy))
    REFUSE("gradients for a matrix: divergence: pass NULL; the gradient on a cost is the plan of "
           "its solve");
  status = check_rule(c, &p);
  if (!status) status = check_costs(c, &p, source_cost, target_cost);
  if (status) return status;

  p.reference = PISCES_OT_ENTROPY, p.warm = 0; /* the reference is the kernel's own */
  prepared q;
  double *copies;
  status = library_prepare(c, &p, 1, NULL, p.n + p.m, &q, &copies);
  if (!status) status = check_weights(c, &p, &q, copies);
  if (status) return status;

  pk_divergence_result r;
  const int before = library_enter(c);
  void *scratch = library_scratch(c, pk_divergence_scratch(&q.p));
  const pk_status done = !scratch
                             ? PK_OK
                             : pk_divergence(&q.p, p.x, p.y, source_cost, target_cost, q.source,
                                             q.target, &r, dx, dy, NULL, NULL, scratch);
  library_leave(before);
  if (!scratch) return PISCES_OT_NO_MEMORY;
  *value = r.value;
  for (int k = 0; certificates && k < 3; k++) {
    const pk_sinkhorn_result *s = &r.terms[k].solve;
    certificates[k] = (pisces_ot_certificate){.outcome = (pisces_ot_outcome)s->outcome,
                                              .iterations = s->iterations,
                                              .residual = s->residual};
    library_certificate(p.epsilon, r.terms[k].shift, s, certificates + k);
  }
  return library_answer(c, done);
}
