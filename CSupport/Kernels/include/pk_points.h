/* Points: distances and ranks in f64, and costs as the solvers take them.
 *
 * pk_distances: out[i, j] = |x_i - y_j|_2, x [n, d], y [m, d], out [n, m]. Differences are taken,
 * so
 *   that near points keep their digits.
 * pk_average_ranks: replaces the `count` values x >= 0, the distances of n points taken once for
 * each
 *   pair, by their ranks in the full list of n^2 distances, in which each stands twice beside n
 *   zeros. Ranks start at 1; ties share the mean. *diagonal: the rank of the zeros. Scratch:
 *   pk_average_ranks_scratch(count) bytes. Stable radix sort, four passes of 16 bits; serial.
 * pk_point_costs: the costs [n, m] between the points of a problem (pk_sinkhorn.h; n, m, d, type,
 * cost
 *   and scale are read), of its type. Good to 1e-5 of the entry or of the nearest pairs in f32,
 *   1e-10 in f64. Scratch: pk_point_costs_scratch bytes. */
#ifndef PK_POINTS_H
#define PK_POINTS_H
pk_status pk_distances(ptrdiff_t n, ptrdiff_t m, ptrdiff_t d, const double *x, const double *y,
                       double *out);
ptrdiff_t pk_point_costs_scratch(const pk_sinkhorn_problem *p);
pk_status pk_point_costs(const pk_sinkhorn_problem *p, const void *x, const void *y, void *out,
                         void *scratch);
ptrdiff_t pk_average_ranks_scratch(ptrdiff_t count);
pk_status pk_average_ranks(ptrdiff_t count, ptrdiff_t n, double *x, double *diagonal,
                           void *scratch);
#endif
