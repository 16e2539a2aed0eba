/* Entropic barycenter of histograms on a fixed support, f64.
 *
 *   min over a of  sum_k w_k OT(b_k, a),   OT(b, a) = min <P, C> + epsilon sum P (log P - 1),
 *                                          P1 = b, P'1 = a
 *   debiased:      sum_k w_k S(b_k, a),    S = OT(b, a) - OT(b, b) / 2 - OT(a, a) / 2, which has no
 *                                          blur: of one histogram it is the histogram
 *   P_k,ij = exp(f_ki + g_kj - C_k,ij / epsilon); the plan of a with itself: exp(l_i + l_j - D_ij /
 *   epsilon)
 *
 *   Iteration: f_k = log b_k - LSE_j(g_k - C / epsilon);  h_k = LSE_i(f_k - C / epsilon);
 *              log a = l + sum_k w_k h_k;  g_k = log a - h_k;
 *              debiased l = (l + log a - LSE(l - D / epsilon)) / 2, else l = 0.
 *   It runs on scalings of a kernel exp(phi + gamma - C / epsilon), one pass for each plan. One
 *   kernel serves all plans of a shared cost while scalings stay within exp(+-320); then each plan
 *   has its own, with scalings beyond exp(+-50) folded into phi and gamma. A plan whose sums are
 *   not positive finite numbers does that iteration by logarithms. Over-relaxation (not
 *   debiased) with the factor 2 / (1 + sqrt(1 - rate)): with it the two blocks f and g of the
 *   dual (sum w_k g_k = 0) converge as in a problem of two marginals.
 * Source: Benamou et al. 2015 (arXiv:1412.5154), section 3; Janati et al. 2020 (arXiv:2006.02575),
 * algorithm 1, debiased; Lehmann et al. 2022 for the factor.
 *
 * Shapes    cost [n, m], item k at k cost_stride elements (0: one for all); own [m, m], debiased
 *           only: D, symmetric, NULL: the shared cost (n = m); b [count, n] >= 0, all of one sum;
 *           w [count] >= 0 of sum 1; a [m]; f [count, n]; g [count, m]; errors [count] (NULL: not
 *           wanted).
 * Memory    (count + debiased + 1) n m doubles of scratch, of which a shared cost uses n m while
 *           one kernel serves all plans.
 * Writes    a, f (PK_LOG_ZERO where b_k is 0), g, errors: the larger L1 error of the marginals b_k
 *           and a of each plan; result.
 * Scratch   pk_barycenter_scratch bytes, of any alignment.
 * Numerics  the residual is max_k |P_k' 1 - a|_1 / sum a before g's update (debiased: the plan of a
 *           with itself too). No fused multiply-add: the same bits on every instruction set.
 * Threads   fixed blocks of rows and columns, added in order: the bits do not depend on the number
 *           of threads. May be called inside a parallel region.
 * Errors    sizes < 1, epsilon <= 0, debiased without a square shared cost or `own`. Whether the
 *           solve succeeded is in result.outcome. */
#ifndef PK_BARYCENTER_H
#define PK_BARYCENTER_H

typedef struct PK_SAFE {
  ptrdiff_t count, n, m; /* histograms; atoms of each; atoms of the barycenter */
  ptrdiff_t cost_stride;
  int debiased;
  double epsilon;
  double tolerance; /* 0: exactly max_iterations plain iterations */
  ptrdiff_t max_iterations;
  int plain; /* no over-relaxation */
  /* may be NULL; non-zero interrupts */
  int (*progress)(void *context, ptrdiff_t iterations, double residual);
  void *context;
} pk_barycenter_problem;

typedef struct {
  pk_outcome outcome;
  ptrdiff_t iterations;
  double residual, mass; /* sum a */
  double cost;           /* sum w_k <P_k, C_k> */
  /* sum w_k (<P_k, C_k> + eps sum P_k (log P_k - 1)); debiased: less half that of the plan of a
   * with itself */
  double objective;
  /* eps sum w_k (<b_k, f_k> - sum P_k) <= the optimum; debiased: NaN */
  double dual;
  double error_l1, error_linf; /* of the marginals of all plans, the largest */
} pk_barycenter_result;

ptrdiff_t pk_barycenter_scratch(const pk_barycenter_problem *p);
pk_status pk_barycenter(const pk_barycenter_problem *p, const double *cost, const double *own,
                        const double *b, const double *w, double *a, double *f, double *g,
                        double *errors, pk_barycenter_result *result, void *scratch);
#endif
