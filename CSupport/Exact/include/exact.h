/* Exact optimal transport: the network simplex of LEMON (liblemon-dev, coin-or; Boost licence) on
 * integers.
 *
 *   min <P, C>,  P >= 0,  P1 = a, P'1 = b;  partial: P1 <= a, P'1 <= b, sum P = mass (a source and
 *   a sink take the rest at no cost;
 *   Chapel et al. 2020, arXiv:2002.08276).
 *
 * Shapes    cost, plan [n, m]; a, source [n]; b, target [m]. cost: finite, or infinite: a pair that
 * takes nothing. a, b >= 0; balanced of sum 1.
 * Numerics  weights are rounded to 2^-60 of their sum, costs to about 2^-47 of their range, or,
 * where the gap then does not bear the plan out
 *           (masks of 1e12 beside costs in [0, 1]), to 2^-96. Rounded weights need not have a plan
 *           that a mask allows, so that balanced each node may leave aside or lack
 *           1024 units and half as many as there are nodes on the other side.
 * Writes    plan; source, target: dual potentials in units of the cost, source_i + target_j <=
 * cost_ij up to rounding. Partial: an atom's cap
 *           has the price source_i - max source (target alike). And *out.
 * Memory    about 80 bytes an entry (2^-96: 100). Serial.
 * Errors    1: no solution (sums differ, mass beyond them, too many forbidden pairs); 2: out of
 * memory. */
#ifndef PISCES_EXACT_H
#define PISCES_EXACT_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
typedef struct {
  double cost, mass;           /* <P, C>, sum P */
  double gap;                  /* cost - the bound of the potentials, from the costs as given */
  double error_l1, error_linf; /* of the marginals (partial: beyond the caps) and of the mass */
  double mass_price;           /* partial: derivative of the cost with respect to the mass */
  /* the gap is below 1e-9 of the cost, and the marginals hold to 1e-9 */
  int is_optimal;
} pisces_exact_result;

int pisces_exact_transport(ptrdiff_t n, ptrdiff_t m, const double *cost, const double *a,
                           const double *b, int partial, double mass, double *plan, double *source,
                           double *target, pisces_exact_result *out);
#ifdef __cplusplus
}
#endif
#endif
