/* Exact transport: the network simplex of CSupport/Exact behind the library's checks. */
#include <math.h>
#include <stdlib.h>
#include "exact.h"
#include "library.h"

/* Copies the weights of one side, uniform where there are none; returns their sum. */
static double copy_side(ptrdiff_t n, const double *given, double *w) {
  double sum = 0;
  for (ptrdiff_t i = 0; i < n; i++) sum += w[i] = given ? given[i] : 1 / (double)n;
  return sum;
}

/* Absent weights are uniform. The sum is checked with that of the other side. */
static pisces_ot_status check_weights(pisces_ot_context *c, const char *name, ptrdiff_t n,
                                      const double *w) {
  double sum;
  if (!w) return PISCES_OT_OK;
  const pk_fault fault = pk_check_weights(name, n, w, &sum);
  return library_refuse(c, &fault, "exact");
}

static pisces_ot_status check_cost(pisces_ot_context *c, ptrdiff_t count, const double *cost) {
  double low = INFINITY, high = -INFINITY;
  int forbids = 0;
  const pk_fault fault = pk_check_costs("cost", PK_F64, count, cost, &forbids);
  if (fault.kind) return library_refuse(c, &fault, "exact");
  for (ptrdiff_t k = 0; k < count; k++)
    if (cost[k] != INFINITY) low = fmin(low, cost[k]), high = fmax(high, cost[k]);
  if (high - low > 1e308)
    return library_fail(c, PISCES_OT_BAD_DATA, "the cost's range is %g: exact: scale it down",
                        high - low);
  return PISCES_OT_OK;
}

/* Copies the weights, divided by their sums for hard marginals (mass < 0); *limit: the smaller sum.
 * */
static pisces_ot_status pose(pisces_ot_context *c, ptrdiff_t n, ptrdiff_t m, const double *source,
                             const double *target, double mass, double *a, double *b,
                             double *limit) {
  const double sums[2] = {copy_side(n, source, a), copy_side(m, target, b)};
  *limit = fmin(sums[0], sums[1]);
  if (mass >= 0) {
    const pk_fault fault = {.kind = PK_FAULT_MASS, .value = mass, .limit = *limit};
    return mass > *limit * (1 + 1e-12) ? library_refuse(c, &fault, "exact") : PISCES_OT_OK;
  }
  for (ptrdiff_t i = 0; i < n; i++) a[i] /= sums[0];
  for (ptrdiff_t j = 0; j < m; j++) b[j] /= sums[1];
  if (fabs(sums[0] - sums[1]) > PK_SUM_TOLERANCE * *limit)
    library_fail(c, PISCES_OT_OK,
                 "the weights sum to %g and %g: exact: each side is divided by its sum", sums[0],
                 sums[1]);
  return PISCES_OT_OK;
}

/* Potentials as derivatives of the cost: with caps the largest is 0. */
static void write_prices(ptrdiff_t count, const double *potentials, int has_caps, double *prices) {
  double top = has_caps ? -INFINITY : 0;
  for (ptrdiff_t i = 0; has_caps && i < count; i++) top = fmax(top, potentials[i]);
  for (ptrdiff_t i = 0; prices && i < count; i++) prices[i] = potentials[i] - top;
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
  pisces_ot_status status = check_weights(c, "source weights", n, source);
  if (!status) status = check_weights(c, "target weights", m, target);
  if (!status) status = check_cost(c, n * m, cost);
  if (status) return status;
  double *a = library_copies(c, 2 * (n + m));
  if (!a) return PISCES_OT_NO_MEMORY;
  double *b = a + n, *f = b + m, *g = f + n;
  double limit;
  if ((status = pose(c, n, m, source, target, mass, a, b, &limit))) return status;
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
  write_prices(n, f, partial, source_price);
  write_prices(m, g, partial, target_price);
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
