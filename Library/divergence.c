/* The Sinkhorn divergence, from three solves (Feydy et al. 2019, arXiv:1810.08278, eq. 3; Sejourne et al. 2019, arXiv:1910.12958, def. 6).
 *
 * Its values are the duals: at potentials with an error of d they are off by d^2, the primal value by d. The gradient with respect to the points is
 * that of the three optimal values (envelope theorem); OT(a, a) depends on its points twice, so that half of it counts each half. */
#include <stdlib.h>
#include "library.h"

/* One of the three: its value, and its gradients on x and y, scaled by `factor`, added to dx and dy. */
static pisces_ot_status term(pisces_ot_context *c, const pisces_ot_problem *p, double factor, double *value, pisces_ot_certificate *certificate, void *dx,
                             void *dy, double *potentials, void *gradient_x, void *gradient_y) {
  pisces_ot_solution s = {.log_u = potentials, .log_v = potentials + p->n};
  pisces_ot_status status = pisces_ot_solve(c, p, &s, certificate);
  if (status) return status;
  *value += factor * certificate->dual;
  if (!dx && !dy) return PISCES_OT_OK;
  const pisces_ot_upstream u = {.objective = factor};
  pisces_ot_gradients g = {.x = gradient_x, .y = gradient_y};
  status = pisces_ot_gradient(c, p, &s, &u, &g);
  for (int side = 0; !status && side < 2; side++) {
    void *to = side ? dy : dx, *from = side ? gradient_y : gradient_x;
    const ptrdiff_t count = to ? (side ? p->m : p->n) * p->d : 0;
    for (ptrdiff_t i = 0; i < count; i++)
      if (p->type == PISCES_OT_F64) ((double *)to)[i] += ((double *)from)[i];
      else ((float *)to)[i] += ((float *)from)[i];
  }
  return status;
}
static void clear(pisces_ot_type type, ptrdiff_t count, void *x) {
  for (ptrdiff_t i = 0; x && i < count; i++)
    if (type == PISCES_OT_F64) ((double *)x)[i] = 0;
    else ((float *)x)[i] = 0;
}

pisces_ot_status pisces_ot_divergence(pisces_ot_context *c, const pisces_ot_problem *problem, const void *source_cost, const void *target_cost, double *value,
                                      void *dx, void *dy, pisces_ot_certificate *certificates) {
  pisces_ot_problem p;
  if (!c) return PISCES_OT_BAD_ARGUMENT;
  c->message[0] = 0;
  pisces_ot_status status = library_options(c, problem, &p);
  if (status) return status;
  const int points = p.cost != PISCES_OT_MATRIX;
  if (!value) return library_fail(c, PISCES_OT_BAD_ARGUMENT, "value is missing: divergence: pass a pointer");
  if (p.rule != PISCES_OT_BALANCED && p.rule != PISCES_OT_UNBALANCED)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT, "the rule is neither balanced nor unbalanced: divergence: take one of them");
  if (p.rule == PISCES_OT_UNBALANCED && p.rho_source != p.rho_target)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT, "rho is %g and %g: divergence: give the same for both sides", p.rho_source, p.rho_target);
  if (points && (source_cost || target_cost)) return library_fail(c, PISCES_OT_BAD_ARGUMENT, "costs beside points: divergence: pass NULL");
  if (!points && (!source_cost || !target_cost))
    return library_fail(c, PISCES_OT_BAD_ARGUMENT, "source_cost or target_cost is missing: divergence: pass [n, n] and [m, m]");
  if (!points && (dx || dy))
    return library_fail(c, PISCES_OT_BAD_ARGUMENT, "gradients for a matrix: divergence: pass NULL; the gradient on a cost is the plan of its solve");
  p.reference = PISCES_OT_PRODUCT, p.warm = 0;
  prepared q;
  if ((status = library_prepare(c, &p, 1, NULL, 0, &q, NULL))) return status;
  const double apart = q.source_sums[0] - q.target_sums[0];

  const ptrdiff_t largest = p.n > p.m ? p.n : p.m, size = p.type == PISCES_OT_F64 ? 8 : 4;
  char *memory = malloc((size_t)(2 * largest * 8 + (dx || dy ? 2 * largest * p.d * size : 0)));
  if (!memory) return library_fail(c, PISCES_OT_NO_MEMORY, "out of memory: divergence of %td and %td points", p.n, p.m);
  double *potentials = (double *)memory;
  char *gx = memory + 2 * largest * 8, *gy = gx + (dx || dy ? largest * p.d * size : 0);
  clear(p.type, p.n * p.d, dx);
  clear(p.type, p.m * p.d, dy);

  pisces_ot_certificate own[3];
  pisces_ot_certificate *out = certificates ? certificates : own;
  pisces_ot_problem source = p, target = p;
  source.m = p.n, source.y = p.x, source.target = p.source;
  target.n = p.m, target.x = p.y, target.source = p.target;
  if (!points) source.x = source_cost, source.y = NULL, target.x = target_cost, target.y = NULL;
  *value = p.epsilon / 2 * apart * apart;
  status = term(c, &p, 1, value, out, dx, dy, potentials, gx, gy);
  /* Both halves of the gradient of OT(a, a) fall on the same points. */
  if (!status) status = term(c, &source, -0.5, value, out + 1, dx, dx, potentials, gx, gy);
  if (!status) status = term(c, &target, -0.5, value, out + 2, dy, dy, potentials, gx, gy);
  free(memory);
  return status;
}
