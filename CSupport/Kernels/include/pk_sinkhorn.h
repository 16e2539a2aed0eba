/* Entropic optimal transport between two finite measures, and the derivative of its solution.
 *
 *   P_ij = exp(a_i + b_j + z - C_ij / eps);   each side one of
 *     hard      P1 = mu                                  a = log mu - LSE
 *     relaxed   + rho KL(P1 | mu), kappa = eps / rho     a = phi (log mu - LSE), phi = 1 / (1 +
 *     kappa)
 *     capped    P1 <= mu, with sum P = mass              a = min(0, log mu - LSE - z),  z = log
 *     mass - LSE  (else z = 0)
 *   C is a matrix (an infinite element forbids its pair), or given by points and never stored:
 *   squared |x - y|^2, Euclidean |x - y|, cosine 1 - <x, y> / (|x| |y|), each over `scale`.
 *
 *   Iteration: block ascent of the dual over rows, columns and z, on a kernel K = exp(a0 + b0 + z0
 *   - C / eps) (stored; points: made anew, tile by tile) and scalings of it, one pass over K an
 *   iteration. A scaling that leaves its range is absorbed into a0, b0 (Schmitzer 2019); a sum that
 *   is not positive and finite sends that iteration through the log domain. A small eps is
 *   approached through a falling sequence (eps scaling). Relaxed sides: after each iteration the
 *   best translation (a + t, b - t), which leaves P alone. Hard sides: over-relaxation with the
 *   factor 2 / (1 + sqrt(1 - rate)) (Lehmann et al. 2022) once the rate shows; where that does not
 *   help, a Newton step on the dual, damped, its system solved by conjugate gradients (one pass
 *   each).
 * Source: Cuturi 2013; Chizat et al. 2018 (arXiv:1607.05816) for the relaxed and capped updates;
 * Benamou et al. 2015 for exact mass;
 *   Sejourne et al. 2022 (arXiv:2201.00730) for the translation.
 *
 * Types     x, y, plan, g, dx, dy of `type`, f32 or f64; weights, potentials, sums over rows and
 * columns always double.
 * Shapes    matrix: x = C [n, m], y unused; points: x [n, d], y [m, d]. plan, g [n, m]; mu, a [n];
 * nu, b [m].
 * Memory    matrix: O(n m) scratch; points: O((n + m) d + a tile a thread). A zero weight has
 * potential PK_LOG_ZERO and an exactly zero row or column.
 * Writes    plan (NULL: not wanted), a, b, result.
 * Scratch   pk_sinkhorn_scratch bytes, of any alignment.
 * Numerics  `converged` is only said when the error of the plan, recomputed, is within the
 * tolerance too (pk_sinkhorn_judged). At max_iterations
 *           an iteration by logarithms, two passes, may still be finished. The residual is the
 *           error of the row or of the column sums before their update (L1, the larger) / sum P.
 *           f64: no fused multiply-add,
 *           the same bits on every instruction set. f32: kernel entries and products in f32, folded
 *           in f64; a stored K is built from arguments in f64, one of points
 *           from arguments in f32. Distances of points are good to 1e-5 of the entry or of the
 *           tenth part of nearest pairs: where f32 would lose more, the
 *           problem is solved in f64 (point_cloud.c). Unless the tolerance is 0, what f32 points reached
 *           is judged with distances, exponentials and sums in f64, and
 *           goes on in f64 where it does not meet the tolerance.
 * Threads   passes run over fixed blocks of rows, whose column sums are added along a fixed tree.
 * May be called inside a parallel region (then serial) and from several threads.
 * Errors    bad sizes, eps <= 0; the mathematics' answer is in result.outcome. */
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

typedef struct {
  ptrdiff_t n, m, d;
  pk_type type;
  pk_cost cost;
  double scale;
  pk_side side_a, side_b;
  double epsilon, rho_a, rho_b, mass;
  /* 0: exactly max_iterations plain iterations at eps, without scaling, acceleration or a test */
  double tolerance;
  ptrdiff_t max_iterations; /* passes over the matrix: iterations and conjugate-gradient steps */
  int plain;                /* no translation, over-relaxation or Newton steps */
  int warm;                 /* a, b hold potentials to start from; no eps scaling then */
  /* may be NULL; called after each iteration and every 16 steps of a system; non-zero interrupts */
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
  double penalty_a, penalty_b; /* rho KL of a relaxed side, else 0 */
} pk_sinkhorn_result;

ptrdiff_t pk_sinkhorn_scratch(const pk_sinkhorn_problem *p);
pk_status pk_sinkhorn_solve(const pk_sinkhorn_problem *p, const void *x, const void *y,
                            const double *mu, const double *nu, void *plan, double *a, double *b,
                            pk_sinkhorn_result *result, void *scratch);

/* `count` problems of one form: item k has x, y, mu, nu, plan, a, b at k times these strides in
 * elements (0: shared, inputs only) and results[k].
 * Small items are spread over the threads, each solved by one, and p->progress is then called by
 * all of them; the bits are those of single calls. pk_sinkhorn_batch_scratch bytes. */
typedef struct {
  ptrdiff_t x, y, mu, nu, plan, a, b;
} pk_sinkhorn_strides;

ptrdiff_t pk_sinkhorn_batch_scratch(const pk_sinkhorn_problem *p, ptrdiff_t count);
pk_status pk_sinkhorn_solve_batch(const pk_sinkhorn_problem *p, ptrdiff_t count,
                                  const pk_sinkhorn_strides *strides, const void *x, const void *y,
                                  const double *mu, const double *nu, void *plan, double *a,
                                  double *b, pk_sinkhorn_result *results, void *scratch);

/* The certificate of given potentials a, b, z as a solve left them: everything in `result` but
 * iterations and residual, with exponentials and sums in f64 whatever the type; outcome: judged
 * again. Of a matrix whose plan [n, m] is given (else NULL), marginals, mass, cost and entropy are
 * that plan's: at C / eps = 1e11 potentials in f64 are too coarse to repeat it.
 * pk_sinkhorn_certify_scratch bytes. */
ptrdiff_t pk_sinkhorn_certify_scratch(const pk_sinkhorn_problem *p);
pk_status pk_sinkhorn_certify(const pk_sinkhorn_problem *p, const void *x, const void *y,
                              const double *mu, const double *nu, const void *plan, const double *a,
                              const double *b, double z, pk_sinkhorn_result *result, void *scratch);
/* result->outcome, but `stalled` where it is `converged` and the errors in `result` are above the
 * tolerance, or the gap above 5e-4 (or five tolerances) of the cost. */
pk_outcome pk_sinkhorn_judged(const pk_sinkhorn_problem *p, const pk_sinkhorn_result *result);

/* Of a matrix with infinite elements. feasible: the most mass that a plan within both weights can
 * move, which two hard sides must have whole, and two capped ones as their mass;
 * pk_sinkhorn_feasible_scratch bytes. partner: the first row i, or column n + j, with a weight but
 * without an allowed pair with one, which only capped sides can have; n + m: none. */
ptrdiff_t pk_sinkhorn_feasible_scratch(const pk_sinkhorn_problem *p);
double pk_sinkhorn_feasible(const pk_sinkhorn_problem *p, const void *cost, const double *mu,
                            const double *nu, void *scratch);
ptrdiff_t pk_sinkhorn_partner(const pk_sinkhorn_problem *p, const void *cost, const double *mu,
                              const double *nu);
/* Gradient of  <g, P> + on_cost <P, C> + on_objective (<P,C> + eps sum P (log P - 1) + penalties)
 * at the solution: with G = g + on_cost C, dC = (P (s_i + t_j + z) - P G) / eps + (on_cost +
 * on_objective) P,   where [diag(r)/phi_a  P] [s]   [rows of P G summed   ] [P'  diag(c)/phi_b] [t]
 * = [columns of P G summed]   (algorithm.md 4.8; capped: active rows, columns and the total) g [n,
 * m] or NULL (with points: must be NULL). Matrix: dx = dC [n, m], dy unused. Points: dx [n, d], dy
 * [m, d], through C.
 * dmu [n], dnu [m]: derivatives with respect to the weights of the problem (NULL: not wanted); for
 * hard marginals on both sides they are fixed up to a constant, the one with sum mu dmu = sum nu
 * dnu; 0 where the weight is 0. *residual: relative, of the linear system (f64: 1e-13; f32: about
 * 1e-6). pk_sinkhorn_gradient_scratch bytes, here and for the projection. */
ptrdiff_t pk_sinkhorn_gradient_scratch(const pk_sinkhorn_problem *p);
pk_status pk_sinkhorn_gradient(const pk_sinkhorn_problem *p, const void *x, const void *y,
                               const double *mu, const double *nu, const double *a, const double *b,
                               double z, const void *g, double on_cost, double on_objective,
                               void *dx, void *dy, double *dmu, double *dnu, double *residual,
                               void *scratch);
/* Barycentric projection of the sources, sum_j P_ij y_j / sum_j P_ij [n, d], 0 in rows without
 * mass. Points only. */
pk_status pk_sinkhorn_project(const pk_sinkhorn_problem *p, const void *x, const void *y,
                              const double *a, const double *b, double z, void *out, void *scratch);
#endif
