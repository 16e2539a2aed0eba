/* Exact optimal transport: the network simplex of LEMON (liblemon-dev, coin-or; Boost licence) on integers.
 *
 *   min sum c_ij f_ij,  f >= 0,  sum_j f_ij = supply_i, sum_i f_ij = demand_j;
 *   partial: <= instead of =, and sum f = mass (a source and a sink take the rest at no cost; Chapel et al. 2020).
 *
 * Shapes    cost, flow [n, m]; supply, source [n]; demand, target [m]. cost: finite, or infinite: a pair that takes nothing. supply, demand: integers, sums below 2^61.
 * Numerics  costs are rounded to about 2^-47 of their range, or, where the plan costs little of it (masks of 1e12 beside costs in [0, 1]), to 2^-96. Weights that were
 *           rounded to integers need not have a plan that a mask allows, so that balanced each node may leave aside or lack 1024 units and half as many
 *           as there are nodes on the other side.
 * Writes    flow; source, target: dual potentials in units of the cost; *violation: the most by which source_i + target_j exceeds c_ij, and *excess =
 *           sum f_ij (c_ij - source_i - target_j), both from the costs as given and potentials as integers (in f64 they need not hold so many digits).
 * Memory    about 70 bytes an entry (2^-96: 90). Serial.
 * Errors    1: no solution (sums differ, mass beyond them, too many forbidden pairs); 2: out of memory.
 */
#ifndef PISCES_EXACT_H
#define PISCES_EXACT_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
int pisces_exact_transport(ptrdiff_t n, ptrdiff_t m, const double *cost, const int64_t *supply, const int64_t *demand, int partial, int64_t mass, int64_t *flow,
                           double *source, double *target, double *violation, double *excess);
#ifdef __cplusplus
}
#endif
#endif
