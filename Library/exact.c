/* Exact transport: the network simplex of CSupport/Exact behind the library's checks. */
#include <math.h>
#include <stdlib.h>
#include "exact.h"
#include "library.h"

/* The weights of one side, uniform where there are none, divided by `divisor`; their sum. */
static double side(ptrdiff_t n, const double *given, double *w) {
  double sum = 0;
  for (ptrdiff_t i = 0; i < n; i++) sum += w[i] = given ? given[i] : 1 / (double)n;
  return sum;
}

static pisces_ot_status check_weights(pisces_ot_context *c, const char *name, ptrdiff_t n,
                                      const double *w) {
  for (ptrdiff_t i = 0; w && i < n; i++)
    if (!(w[i] >= 0) || !isfinite(w[i]))
      return library_fail(c, PISCES_OT_BAD_DATA,
                          "%s weights hold %g: element %td: give weights that are not negative",
                          name, w[i], i);
  return PISCES_OT_OK;
}

static pisces_ot_status check_cost(pisces_ot_context *c, ptrdiff_t count, const double *cost) {
  double low = INFINITY, high = -INFINITY;
  for (ptrdiff_t k = 0; k < count; k++) {
    if (cost[k] == INFINITY) continue;
    if (!isfinite(cost[k]))
      return library_fail(c, PISCES_OT_BAD_DATA, "the cost holds %g: element %td: replace it",
                          cost[k], k);
    low = fmin(low, cost[k]), high = fmax(high, cost[k]);
  }
  if (high - low > 1e308)
    return library_fail(c, PISCES_OT_BAD_DATA, "the cost's range is %g: exact: scale it down",
                        high - low);
  return PISCES_OT_OK;
}

pisces_ot_status pisces_ot_exact(pisces_ot_context *c, ptrdiff_t n, ptrdiff_t m, const double *cost,
                                 const double *source, const double *target, double mass,
                                 double *plan, double *source_price, double *target_price,
                                 double *mass_price, pisces_ot_certificate *certificate) {
  if (!c) return PISCES_OT_BAD_ARGUMENT;
  c->message[0] = 0;
  const int partial = mass >= 0;
  if (n < 1 || m < 1 || (double)n * (double)m > 2e9)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT,
                        "sizes are n = %td, m = %td: exact: give 1 to 2e9 pairs", n, m);
  if (!cost || !plan)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT, "cost or plan is missing: exact: pass [n, m]");
  if (isnan(mass))
    return library_fail(c, PISCES_OT_BAD_ARGUMENT,
                        "mass is nan: exact: give a number, negative for hard marginals");
  pisces_ot_status status = check_weights(c, "source", n, source);
  if (!status) status = check_weights(c, "target", m, target);
  if (!status) status = check_cost(c, n * m, cost);
  if (status) return status;
  double *a = library_copies(c, 2 * (n + m));
  if (!a) return PISCES_OT_NO_MEMORY;
  double *b = a + n, *f = b + m, *g = f + n;
  const double sums[2] = {side(n, source, a), side(m, target, b)}, limit = fmin(sums[0], sums[1]);
  if (!(limit > 0) || !isfinite(sums[0] + sums[1]))
    return library_fail(c, PISCES_OT_BAD_DATA,
                        "the weights sum to %g and %g: exact: give positive sums", sums[0],
                        sums[1]);
  if (partial && mass > limit * (1 + 1e-12))
    return library_fail(c, PISCES_OT_BAD_DATA,
                        "mass is %g: exact: give at most %g, the smaller sum of weights", mass,
                        limit);
  if (!partial) {
    for (ptrdiff_t i = 0; i < n; i++) a[i] /= sums[0];
    for (ptrdiff_t j = 0; j < m; j++) b[j] /= sums[1];
    if (fabs(sums[0] - sums[1]) > 1e-6 * limit)
      library_fail(c, PISCES_OT_OK,
                   "the weights sum to %g and %g: exact: each side is divided by its sum", sums[0],
                   sums[1]);
  }
  pisces_exact_result r;
  switch (pisces_exact_transport(n, m, cost, a, b, partial, partial ? fmin(mass, limit) : 1, plan,
                                 f, g, &r)) {
  case 0:
    break;
  case 2:
    return library_fail(c, PISCES_OT_NO_MEMORY,
                        "no memory for %td pairs: exact: take a smaller problem", n * m);
  default:
    return library_fail(c, PISCES_OT_BAD_DATA,
                        "the problem is infeasible: exact: allow more pairs, or take less mass");
  }
  double top[2] = {0, 0};
  if (partial) {
    top[0] = top[1] = -INFINITY;
    for (ptrdiff_t i = 0; i < n; i++) top[0] = fmax(top[0], f[i]);
    for (ptrdiff_t j = 0; j < m; j++) top[1] = fmax(top[1], g[j]);
  }
  for (ptrdiff_t i = 0; source_price && i < n; i++) source_price[i] = f[i] - top[0];
  for (ptrdiff_t j = 0; target_price && j < m; j++) target_price[j] = g[j] - top[1];
  if (mass_price) *mass_price = partial ? r.mass_price : 0;
  if (certificate)
    *certificate =
        (pisces_ot_certificate){.outcome = r.is_optimal ? PISCES_OT_CONVERGED : PISCES_OT_STALLED,
                                .iterations = 1,
                                .error_l1 = r.error_l1,
                                .error_linf = r.error_linf,
                                .cost = r.cost,
                                .primal = r.cost,
                                .dual = r.cost - r.gap,
                                .gap = r.gap,
                                .mass = r.mass};
  return PISCES_OT_OK;
}
