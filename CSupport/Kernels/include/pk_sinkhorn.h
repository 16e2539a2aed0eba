/* Entropic optimal transport between two finite measures, and the derivative of its solution.
 *
 *   P_ij = exp(a_i + b_j + z - C_ij / epsilon), with one condition for each side:
 *     hard      P1 = mu                       a = log mu - LSE
 *     relaxed   + rho KL(P1 | mu)             a = phi (log mu - LSE), phi = 1 / (1 + epsilon / rho)
 *     capped    P1 <= mu, with sum P = mass   a = min(0, log mu - LSE - z), z = log mass - LSE
 *   z = 0 unless the sides are capped. LSE is the log-sum-exp of a row without its own potential.
 *   C is a matrix, of which an infinite element forbids its pair, or is computed from points and
 *   never stored: squared |x - y|^2, Euclidean |x - y|, cosine 1 - <x, y> / (|x| |y|), each over
 *   `scale`.
 *
 *   Algorithm. Block ascent of the dual over rows, columns and z, by scalings of a kernel
 *   K = exp(a0 + b0 + z0 - C / epsilon), which is stored or, of points, computed tile by tile in
 *   every pass. An iteration is one pass over K. Scalings that leave their range are folded into
 *   a0, b0 (Schmitzer 2019). An iteration whose sums are not positive finite numbers is done by
 *   logarithms. A small epsilon is approached through a falling sequence. Relaxed sides: after
 *   each iteration the best translation (a + t, b - t), which leaves P alone. Hard sides:
 *   over-relaxation with the factor 2 / (1 + sqrt(1 - rate)) (Lehmann et al. 2022) when the
 *   rate is known. Where that does not help: a damped Newton step of the dual, whose system
 *   is solved by conjugate gradients, one pass a step.
 * Source: Cuturi 2013; Chizat et al. 2018 (arXiv:1607.05816) for relaxed and capped sides; Benamou
 * et al. 2015 (arXiv:1412.5154) for exact mass; Sejourne et al. 2022 (arXiv:2201.00730) for the
 * translation.
 *
 * Types     x, y, plan, g, dx, dy of `type`, f32 or f64; weights, potentials and sums over rows and
 *           columns always double.
 * Shapes    matrix: x = C [n, m], y unused; points: x [n, d], y [m, d]. plan, g [n, m]; mu, a [n];
 *           nu, b [m].
 * Memory    matrix: O(n m) scratch; points: O((n + m) d) and a tile for each thread. A zero weight
 *           has potential PK_LOG_ZERO and a row or column of exact zeros.
 * Writes    plan (NULL: not wanted), a, b, result.
 * Scratch   pk_sinkhorn_scratch bytes, of any alignment.
 * Numerics  `converged` is only reported when the error of the plan, recomputed, is within the
 *           tolerance too (pk_sinkhorn_judged). At max_iterations an iteration by logarithms, two
 *           passes, may still be finished. The residual is the L1 error of the row or of the column
 *           sums before their update, the larger, over sum P.
 *           f64: no fused multiply-add, so the bits are the same on every instruction set. f32:
 *           kernel entries and products in f32, their sums in f64. A stored K is computed from
 *           arguments in f64, one of points from arguments in f32. Distances of points are good
 *           to 1e-5 of the entry or of the 10 % quantile of the distances; where f32 would lose
 *           more, the problem is solved in f64 (point_cloud.c). Unless the tolerance is 0, a
 *           result of f32 points is judged with distances, exponentials and sums in f64, and
 *           continued in f64 where it does not meet the tolerance.
 * Threads   passes run over fixed blocks of rows, whose column sums are added along a fixed tree.
 *           May be called inside a parallel region (then serial) and from several threads.
 * Errors    bad sizes, epsilon <= 0. Whether the solve succeeded is in result.outcome. */
#ifndef PK_SINKHORN_H
#define PK_SINKHORN_H
#define PK_LOG_ZERO (-1e300)

typedef enum { PK_SIDE_HARD = 0, PK_SIDE_RELAXED = 1, PK_SIDE_CAPPED = 2 } pk_side;

typedef enum {
  PK_COST_MATRIX = 0,
  PK_COST_SQUARED = 1,
  PK_COST_EUCLIDEAN = 2,
  PK_COST_COSINE = 3
} pk_cost;

typedef enum {
  PK_CONVERGED = 0,
  PK_MAX_ITERATIONS = 1,
  PK_STALLED = 2,
  PK_NON_FINITE = 3,
  PK_INTERRUPTED = 4
} pk_outcome;

typedef struct PK_SAFE {
  ptrdiff_t n, m, d;
  pk_type type;
  pk_cost cost;
  double scale;
  pk_side side_source, side_target;
  double epsilon, rho_source, rho_target, mass;
  /* 0: exactly max_iterations plain iterations, without epsilon scaling, acceleration or a test */
  double tolerance;
  ptrdiff_t max_iterations; /* passes over the matrix: iterations and conjugate-gradient steps */
  int plain;                /* no translation, over-relaxation or Newton steps */
  int warm;                 /* a, b hold potentials to start from; no epsilon scaling then */
  /* may be NULL; called after each iteration and every 16 steps of a system; a value other than
   * 0 interrupts */
  int (*progress)(void *context, ptrdiff_t iterations, double residual);
  void *context;
} pk_sinkhorn_problem;

typedef struct {
  pk_outcome outcome;
  ptrdiff_t iterations;
  /* entropy = sum P (log P - 1); dual in units of cost */
  double z, residual, mass, cost, entropy, dual;
  /* of the marginal conditions, recomputed from the plan */
  double error_l1, error_linf;
  double penalty_source, penalty_target; /* rho KL of a relaxed side, else 0 */
} pk_sinkhorn_result;

ptrdiff_t pk_sinkhorn_scratch(const pk_sinkhorn_problem *p);
pk_status pk_sinkhorn_solve(const pk_sinkhorn_problem *p, const void *x, const void *y,
                            const double *mu, const double *nu, void *plan, double *a, double *b,
                            pk_sinkhorn_result *result, void *scratch);

/* `count` problems of one form. Item k has its arrays at k times these strides in elements (0:
 * shared, for inputs only) and results[k]. Small items are each solved by one thread, and then
 * all threads call p->progress. The bits are those of single calls. pk_sinkhorn_batch_scratch
 * bytes. */
typedef struct {
  ptrdiff_t x, y, mu, nu, plan, a, b;
} pk_sinkhorn_strides;

ptrdiff_t pk_sinkhorn_batch_scratch(const pk_sinkhorn_problem *p, ptrdiff_t count);
pk_status pk_sinkhorn_solve_batch(const pk_sinkhorn_problem *p, ptrdiff_t count,
                                  const pk_sinkhorn_strides *strides, const void *x, const void *y,
                                  const double *mu, const double *nu, void *plan, double *a,
                                  double *b, pk_sinkhorn_result *results, void *scratch);

/* The certificate of given potentials a, b, z of a solve: everything in `result` but iterations and
 * residual, with exponentials and sums in f64 whatever the type; the outcome is judged again. Of a
 * matrix whose plan [n, m] is given (else NULL), marginals, mass, cost and entropy are those of the
 * plan: at C / epsilon = 1e11 potentials in f64 are too coarse to repeat it.
 * pk_sinkhorn_certify_scratch bytes. */
ptrdiff_t pk_sinkhorn_certify_scratch(const pk_sinkhorn_problem *p);
pk_status pk_sinkhorn_certify(const pk_sinkhorn_problem *p, const void *x, const void *y,
                              const double *mu, const double *nu, const void *plan, const double *a,
                              const double *b, double z, pk_sinkhorn_result *result, void *scratch);
/* result->outcome, but `stalled` instead of `converged` where the errors in `result` are above the
 * tolerance, or the gap is above 5e-4 (or five tolerances) of the cost. */
pk_outcome pk_sinkhorn_judged(const pk_sinkhorn_problem *p, const pk_sinkhorn_result *result);

/* Of a matrix with infinite elements. feasible: the largest mass that a plan within both weights
 * can move; two hard sides need all of their mass, two capped ones their `mass`.
 * pk_sinkhorn_feasible_scratch bytes. partner: the first row i, or column n + j, that has a
 * weight but no allowed pair with one, which only capped sides can have; n + m: there is none. */
ptrdiff_t pk_sinkhorn_feasible_scratch(const pk_sinkhorn_problem *p);
double pk_sinkhorn_feasible(const pk_sinkhorn_problem *p, const void *cost, const double *mu,
                            const double *nu, void *scratch);
ptrdiff_t pk_sinkhorn_partner(const pk_sinkhorn_problem *p, const void *cost, const double *mu,
                              const double *nu);

/* Gradient of  <g, P> + on_cost <P, C> + on_objective (<P, C> + epsilon sum P (log P - 1) +
 * penalties) at the solution (algorithm.md 4.8). With G = g + on_cost C,
 *
 *   dC = (P (s_i + t_j + z) - P G) / epsilon + (on_cost + on_objective) P,
 *   [diag(r) / phi_a   P] [s]   [rows of P G summed   ]
 *   [P'   diag(c) / phi_b] [t] = [columns of P G summed];   capped: the active ones and z.
 *
 * g [n, m] or NULL (points: must be NULL). Matrix: dx = dC [n, m], dy unused. Points: dx [n, d], dy
 * [m, d], through C. dmu [n], dnu [m] (NULL: not wanted): derivatives with respect to the weights;
 * 0 where the weight is 0. For two hard sides a constant is free: the one with sum mu dmu = sum nu
 * dnu is taken. *residual: of the linear system, relative (f64: 1e-13; f32: about 1e-6).
 * pk_sinkhorn_gradient_scratch bytes, here and for the projection. */
ptrdiff_t pk_sinkhorn_gradient_scratch(const pk_sinkhorn_problem *p);
pk_status pk_sinkhorn_gradient(const pk_sinkhorn_problem *p, const void *x, const void *y,
                               const double *mu, const double *nu, const double *a, const double *b,
                               double z, const void *g, double on_cost, double on_objective,
                               void *dx, void *dy, double *dmu, double *dnu, double *residual,
                               void *scratch);
/* Barycentric projection of the sources, sum_j P_ij y_j / sum_j P_ij [n, d]; 0 in rows without
 * mass; cosine: of the targets scaled to length 1. Points only. */
pk_status pk_sinkhorn_project(const pk_sinkhorn_problem *p, const void *x, const void *y,
                              const double *a, const double *b, double z, void *out, void *scratch);
#endif
