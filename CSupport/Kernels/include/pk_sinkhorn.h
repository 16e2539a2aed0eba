/* Entropic optimal transport between two finite measures, in double precision, and the linear system behind its derivative.
 *
 *   P_ij = exp(a_i + b_j + z - C_ij / eps);   each side one of
 *     hard      P1 = mu                                  a = log mu - LSE
 *     relaxed   + rho KL(P1 | mu), kappa = eps / rho     a = phi (log mu - LSE), phi = 1 / (1 + kappa)
 *     capped    P1 <= mu, with sum P = mass              a = min(0, log mu - LSE - z),  z = log mass - LSE  (else z = 0)
 *   Iteration: block ascent of the dual over rows, columns and z. It runs on a stored kernel K = exp(a0 + b0 + z0 - C / eps) and
 *   scalings of it, one pass over K an iteration; whenever a scaling leaves [e^-50, e^50] it is absorbed into a0, b0 (Schmitzer
 *   2019), and a sum that is not positive and finite sends that iteration through the log domain. When progress is slow, a
 *   Newton step on the dual, damped after Levenberg and Marquardt, its system solved by conjugate gradients (one pass over P
 *   each), with backtracking. A regularisation
 *   that is small against the range of C is approached through a falling sequence of larger ones (eps scaling).
 * Source: Cuturi 2013; Chizat et al. 2018 (arXiv:1607.05816) for the relaxed and capped updates; Benamou et al. 2015 for exact mass.
 *
 * Shapes    cost, plan [n, ld], ld = m rounded up to 8, padding of cost >= 1e300; mu, a [n]; nu, b [m] in arrays of ld elements.
 * Memory    16 B alignment is not needed. A zero weight has potential PK_LOG_ZERO and an exactly zero row or column.
 * Writes    plan (padding 0), a, b, result.
 * Scratch   pk_sinkhorn_scratch doubles.
 * Numerics  the residual is the change of the row sums or of the column sums (L1, the larger) over an iteration / sum P; no fused multiply-add: the same bits on every instruction set.
 * Threads   passes run over fixed blocks of rows, folded in block order.
 * Errors    bad sizes, eps <= 0; the mathematics' answer is in result.status.
 */
#ifndef PK_SINKHORN_H
#define PK_SINKHORN_H
#define PK_LOG_ZERO (-1e300)
typedef enum { PK_SIDE_HARD = 0, PK_SIDE_RELAXED = 1, PK_SIDE_CAPPED = 2 } pk_side;
typedef enum { PK_CONVERGED = 0, PK_MAX_ITERATIONS = 1, PK_STALLED = 2, PK_NON_FINITE = 3 } pk_outcome;
typedef struct {
  ptrdiff_t n, m, ld;
  pk_side side_a, side_b;
  double epsilon, rho_a, rho_b, mass, tolerance;
  ptrdiff_t max_iterations; /* passes over the matrix: scaling iterations and conjugate-gradient steps */
} pk_sinkhorn_problem;
typedef struct {
  pk_outcome outcome;
  ptrdiff_t iterations;
  double z, residual, mass, cost, entropy, dual; /* entropy = sum P (log P - 1); dual in units of cost */
  double error_l1, error_linf;                   /* of the marginal conditions, recomputed from the plan */
  double penalty_a, penalty_b;                   /* rho KL of a relaxed side, else 0 */
} pk_sinkhorn_result;

ptrdiff_t pk_sinkhorn_scratch(const pk_sinkhorn_problem *p);
pk_status pk_sinkhorn_solve(const pk_sinkhorn_problem *p, const double *cost, const double *mu, const double *nu, double *plan, double *a,
                            double *b, pk_sinkhorn_result *result, double *scratch);

/* Gradient of a function of the converged solution with respect to the cost: dC = (P (x_i + y_j + z) - P G) / eps + scale P, where
 *   [diag(r)/phi_a  P] [x]   [rows of P G summed   ]
 *   [P'  diag(c)/phi_b] [y] = [columns of P G summed]   (algorithm.md 4.8; capped: active rows, columns and the total)
 * G [n, ld] the upstream on the plan (total, with the cost's share already added). Returns the relative residual in *residual. */
pk_status pk_sinkhorn_gradient(const pk_sinkhorn_problem *p, const double *plan, const double *a, const double *b, const double *g,
                               double scale, double *dcost, double *residual, double *scratch);
#endif
