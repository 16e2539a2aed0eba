/* Exact optimal transport: the network simplex of LEMON (liblemon-dev, coin-or; Boost licence) on integers.
 *
 *   min sum c_ij f_ij,  f >= 0,  sum_j f_ij = supply_i, sum_i f_ij = demand_j;
 *   partial: <= instead of =, and sum f = mass (a source and a sink take the rest at no cost; Chapel et al. 2020).
 *
 * Shapes    cost, flow [n, m]; supply, u [n]; demand, v [m]. Integers; |cost| <= 2^40, sums of supply below 2^60.
 * Writes    flow; u, v with u_i + v_j <= c_ij and equality where f_ij > 0 (partial: the shadow prices, not above the mass's own `price`).
 * Memory    about 70 bytes an entry. Serial.
 * Errors    1: no solution (sums differ, mass beyond them); 2: out of memory.
 */
#ifndef PISCES_EXACT_H
#define PISCES_EXACT_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
int pisces_exact_transport(ptrdiff_t n, ptrdiff_t m, const int64_t *cost, const int64_t *supply, const int64_t *demand, int partial, int64_t mass,
                           int64_t *flow, int64_t *u, int64_t *v);
#ifdef __cplusplus
}
#endif
#endif
