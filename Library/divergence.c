/* The Sinkhorn divergence: pk_divergence.h behind the library's checks. */
#include <string.h>
#include "library.h"

pisces_ot_status pisces_ot_divergence(pisces_ot_context *c, const pisces_ot_problem *problem,
                                      const void *source_cost, const void *target_cost,
                                      double *value, void *dx, void *dy,
                                      pisces_ot_certificate *certificates) {
  pisces_ot_problem p;
  if (!c) return PISCES_OT_BAD_ARGUMENT;
  c->message[0] = 0;
  pisces_ot_status status = library_options(c, problem, &p);
  if (status) return status;
  const int points = p.cost != PISCES_OT_MATRIX;
  if (!value)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT, "value is missing: divergence: pass a pointer");
  if (p.rule != PISCES_OT_BALANCED && p.rule != PISCES_OT_UNBALANCED)
    return library_fail(
        c, PISCES_OT_BAD_ARGUMENT,
        "the rule is neither balanced nor unbalanced: divergence: take one of them");
  if (p.rule == PISCES_OT_UNBALANCED && p.rho_source != p.rho_target)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT,
                        "rho is %g and %g: divergence: give the same for both sides", p.rho_source,
                        p.rho_target);
  if (points && (source_cost || target_cost))
    return library_fail(c, PISCES_OT_BAD_ARGUMENT, "costs beside points: divergence: pass NULL");
  if (!points && (!source_cost || !target_cost))
    return library_fail(
        c, PISCES_OT_BAD_ARGUMENT,
        "source_cost or target_cost is missing: divergence: pass [n, n] and [m, m]");
  if (!points && (dx || dy))
    return library_fail(c, PISCES_OT_BAD_ARGUMENT,
                        "gradients for a matrix: divergence: pass NULL; the gradient on a cost is "
                        "the plan of its solve");
  if (!points) {
    if ((status = library_check_array(c, "the cost", p.type, p.n * p.m, p.x))) return status;
    if ((status = library_check_array(c, "source_cost", p.type, p.n * p.n, source_cost)))
      return status;
    if ((status = library_check_array(c, "target_cost", p.type, p.m * p.m, target_cost)))
      return status;
    if ((status = library_check_symmetric(c, "source_cost", p.type, p.n, source_cost)))
      return status;
    if ((status = library_check_symmetric(c, "target_cost", p.type, p.m, target_cost)))
      return status;
  }

  p.reference = PISCES_OT_ENTROPY, p.warm = 0; /* the reference is the kernel's own */
  prepared q;
  double *copies, shift;
  if ((status = library_prepare(c, &p, 1, NULL, p.n + p.m, &q, &copies))) return status;
  memcpy(copies, q.source, (size_t)p.n * sizeof(double)),
      memcpy(copies + p.n, q.target, (size_t)p.m * sizeof(double));
  status = library_refer(c, "source", q.p.side_a, p.epsilon, q.p.rho_a, p.n, copies, &shift);
  if (!status)
    status =
        library_refer(c, "target", q.p.side_b, p.epsilon, q.p.rho_b, p.m, copies + p.n, &shift);
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
