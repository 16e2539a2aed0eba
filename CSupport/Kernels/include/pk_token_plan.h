/* Token-level transport plans between the lexical rows of a text and the tokens of a video, one for
 * each pair and head.
 *
 *   A' = A / max(row sum, 1e-6);   tau_i = sum_j A'_ij t_j;   pi_i = sum_j A'_ij s_j
 *   C_ij = S_ij + gamma |tau_i - t_j| / max(max t - min t, 1) + eta |pi_i - s_j|_2 / sqrt 2,
 *          scaled to [0, 1] in each head
 *   a = m (log mu_i - LSE_j(-C_ij / epsilon + b_j)),
 *   b = m (log nu_j - LSE_i(-C_ij / epsilon + a_i)),
 *          mu = 1 / N, nu = 1 / M, m the marginal exponent (1 from 0.999), until the largest change
 *          of a or b is below the tolerance
 *   P = exp(a + b - C / epsilon);   plan = P / max(row sum, 1e-8)
 *
 *   Token 0 of the video is the class token, at t = -1, s = (-1, -1); then frames of side x side
 *   patches, s in [0, 1]^2.
 *   translation (relaxed marginals, m < 0.999): after each iteration the translation (a + t, b - t)
 *   that maximises the dual (Sejourne et al. 2022, arXiv:2201.00730). It leaves P alone and
 *   removes the slowest mode: fewer iterations to the same rule, but not the published iteration.
 *   legacy: integer grid coordinates, |tau - t| and sqrt(|d row| + |d column|) without division,
 *   and C is not scaled.
 *   exact_mass: P has total mass `mass` and the marginals are upper bounds (Dykstra; Benamou et al.
 *   2015, algorithm 1). The tolerance is on the Frobenius norm of P's change, which is computed in
 *   iterations 1, 11, 21 ...
 *   semantic NULL: attention holds the costs C themselves (finite), which are taken as they are.
 * Source: PISCES (arXiv:2602.01624) section 3.2, algorithm 3, as released; algorithm.md 4.2-4.4,
 * 4.7, 4.8.
 *
 * Shapes    attention, plan, cost, raw [pairs, heads, rows, columns]; semantic [tokens, columns],
 *           the rows of pair p being starts[p] ..< starts[p+1], of text row row_of[k]; iterations,
 *           delta, total [pairs, heads]. columns = 1 + frames * side^2.
 * Writes    plan, cost and raw on lexical rows only; cost and raw (P) may be NULL. A pair without
 *           rows: iterations 0, delta 0, total 0.
 * Scratch   pk_token_plan_scratch elements: an area for each thread of the team.
 * Numerics  exponentials once, then one pass an iteration over the stored kernel, while max C /
 *           epsilon <= 60; otherwise, or if a sum leaves the normal range, the head is solved from
 *           the start in the log domain. A cost that is not finite counts as 1.
 * Threads   over pairs x heads; each is computed by one thread.
 * Errors    PK_BAD_SHAPE unless columns - 1 is a multiple of side^2 and options are positive. */
#ifndef PK_TOKEN_PLAN_H
#define PK_TOKEN_PLAN_H

typedef struct PK_SAFE {
  ptrdiff_t pairs, heads, rows, columns, side; /* side: of a frame's grid of patches */
  const int32_t *starts, *row_of;              /* [pairs + 1], [tokens] */
  double gamma, eta, epsilon, marginal_exponent, mass, tolerance;
  ptrdiff_t max_iterations;
  int legacy, exact_mass, translation;
} pk_token_shape;

ptrdiff_t pk_token_plan_scratch(const pk_token_shape *s);
pk_status pk_token_plan(pk_type type, const pk_token_shape *s, const void *attention,
                        const void *semantic, void *plan, void *cost, void *raw,
                        int32_t *iterations, double *delta, double *total, void *scratch);

/* The semantic cost: y[i, j] = min(max(1 - <q_i, k_j> / (|q_i| |k_j|), 0), 2), norms at least
 * 1e-12; q [n, d], k [m, d], y [n, m]; scratch n d elements. */
pk_status pk_cosine_cost(pk_type type, ptrdiff_t n, ptrdiff_t m, ptrdiff_t d, const void *q,
                         const void *k, void *y, void *scratch);
#endif
