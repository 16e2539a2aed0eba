/* Barycenters with fixed support: pk_barycenter.h behind the library's checks. */
#include <math.h>
#include <string.h>
#include "library.h"

#define REFUSE(...) return library_fail(c, PISCES_OT_BAD_ARGUMENT, __VA_ARGS__)

static pisces_ot_status check(pisces_ot_context *c, const pisces_ot_barycenter_problem *p) {
  const ptrdiff_t largest = (ptrdiff_t)1 << 48; /* elements of an array */
  if (p->count < 1 || p->n < 1 || p->m < 1)
    REFUSE("sizes are count = %td, n = %td, m = %td: barycenter: all must be at least 1", p->count,
           p->n, p->m);
  if (p->n > largest / p->m || p->m > largest / p->m ||
      p->count > largest / (p->n > p->m ? p->n : p->m) / p->m)
    REFUSE("sizes are count = %td, n = %td, m = %td: barycenter: too large for memory", p->count,
           p->n, p->m);
  const pk_sinkhorn_problem options = {
      .epsilon = p->epsilon, .tolerance = p->tolerance, .max_iterations = p->max_iterations};
  const pk_fault fault = pk_check_options(&options);
  if (fault.kind) return library_refuse(c, &fault, "barycenter");
  if (p->cost_stride < 0)
    REFUSE("cost_stride is %td: barycenter: give a distance between costs, 0 to share one",
           p->cost_stride);
  if (p->debiased && !p->own_cost && (p->cost_stride || p->n != p->m))
    REFUSE("own_cost is missing: barycenter: without one square cost for all, debiasing needs the "
           "cost between the barycenter's atoms");
  for (ptrdiff_t k = 0; k < (p->cost_stride ? p->count : 1); k++) {
    const pisces_ot_status status = library_check_array(
        c, "cost", PISCES_OT_F64, p->n * p->m, p->cost ? p->cost + k * p->cost_stride : NULL);
    if (status) return status;
  }
  if (!p->debiased) return PISCES_OT_OK;
  const pisces_ot_status status =
      p->own_cost ? library_check_array(c, "own_cost", PISCES_OT_F64, p->m * p->m, p->own_cost)
                  : PISCES_OT_OK;
  return status ? status
                : library_check_symmetric(c, p->own_cost ? "own_cost" : "cost", PISCES_OT_F64, p->m,
                                          p->own_cost ? p->own_cost : p->cost);
}

/* `rows` times `n` weights, scaled to `sum`; 0: to the first row's or, when sums differ, each to
 * 1. */
static pisces_ot_status copy(pisces_ot_context *c, const char *name, ptrdiff_t rows, ptrdiff_t n,
                             const double *from, double sum, double *to) {
  double first = 0;
  for (ptrdiff_t k = 0; k < rows; k++) {
    double own;
    pk_fault fault = pk_check_weights(name, n, from + k * n, &own);
    fault.index += k * n;
    if (fault.kind) return library_refuse(c, &fault, "barycenter");
    if (!k) first = own;
    if (sum == 0 && fabs(own - first) > PK_SUM_TOLERANCE * first) {
      library_fail(c, PISCES_OT_OK, "%s sum to %.9g and %.9g: row %td: each is divided by its sum",
                   name, first, own, k);
      return copy(c, name, rows, n, from, 1, to);
    }
    for (ptrdiff_t i = k * n; i < (k + 1) * n; i++)
      to[i] = from[i] * ((sum == 0 ? first : sum) / own);
  }
  return PISCES_OT_OK;
}

pisces_ot_status pisces_ot_barycenter(pisces_ot_context *c,
                                      const pisces_ot_barycenter_problem *problem,
                                      double *barycenter, double *log_u, double *log_v,
                                      double *errors, pisces_ot_certificate *certificate) {
  if (!c) return PISCES_OT_BAD_ARGUMENT;
  c->message[0] = 0;
  if (!problem || !barycenter)
    REFUSE("no problem or no array for its answer: barycenter: pass both");
  if (problem->size < sizeof *problem || problem->size > 4096)
    REFUSE("problem.size is %zu: barycenter: set it up with pisces_ot_barycenter_init",
           problem->size);
  const pisces_ot_barycenter_problem p = *problem;
  pisces_ot_status status = check(c, &p);
  if (status) return status;
  if (!p.histograms)
    REFUSE("histograms is missing: barycenter: pass an array of %td elements", p.count * p.n);
  double *b = library_copies(c, p.count * (2 * p.n + p.m + 1));
  if (!b) return PISCES_OT_NO_MEMORY;
  double *w = b + p.count * p.n, *f = w + p.count, *g = f + p.count * p.n;
  for (ptrdiff_t k = 0; k < p.count; k++) w[k] = 1 / (double)p.count;
  status = copy(c, "histograms", p.count, p.n, p.histograms, 0, b);
  if (!status && p.weights) status = copy(c, "weights", 1, p.count, p.weights, 1, w);
  if (status) return status;

  const pk_barycenter_problem q = {.count = p.count,
                                   .n = p.n,
                                   .m = p.m,
                                   .cost_stride = p.cost_stride,
                                   .debiased = p.debiased,
                                   .epsilon = p.epsilon,
                                   .tolerance = p.tolerance,
                                   .max_iterations = p.max_iterations,
                                   .plain = p.plain,
                                   .progress = p.progress,
                                   .context = p.context};
  pk_barycenter_result r;
  if (log_u) f = log_u;
  if (log_v) g = log_v;
  const int before = library_enter(c);
  void *scratch = library_scratch(c, pk_barycenter_scratch(&q));
  const pk_status done =
      !scratch ? PK_OK
               : pk_barycenter(&q, p.cost, p.own_cost, b, w, barycenter, f, g, errors, &r, scratch);
  library_leave(before);
  if (!scratch) return PISCES_OT_NO_MEMORY;
  if (done != PK_OK) return library_answer(c, done);
  for (ptrdiff_t i = 0; i < p.count * p.n; i++)
    if (!(f[i] > PK_LOG_ZERO / 2)) f[i] = isnan(f[i]) ? f[i] : -INFINITY;
  if (certificate)
    *certificate = (pisces_ot_certificate){.outcome = (pisces_ot_outcome)r.outcome,
                                           .iterations = r.iterations,
                                           .residual = r.residual,
                                           .error_l1 = r.error_l1,
                                           .error_linf = r.error_linf,
                                           .cost = r.cost,
                                           .primal = r.objective,
                                           .dual = r.dual,
                                           .gap = r.objective - r.dual,
                                           .mass = r.mass,
                                           .epsilon = p.epsilon};
  return PISCES_OT_OK;
}
