/* The Sinkhorn divergence between two finite measures, and the entropic problem with the product of
 * the weights as reference.
 *
 *   S(mu, nu) = OT(mu, nu) - OT(mu, mu) / 2 - OT(nu, nu) / 2 + epsilon / 2 (sum mu - sum nu)^2
 *   OT(mu, nu) = min <P, C> + epsilon KL(P | mu x nu) + the sides' conditions of pk_sinkhorn.h
 *   KL(p | q) = sum p log(p / q) - p + q
 *
 *   The solver's reference is 1. For a hard side the difference is a constant. For a relaxed side
 *   the optimality condition log r_i = log mu_i - kappa a_i, kappa = epsilon / rho, in terms of
 *   the potential a_i + log mu_i is that of the weight mu_i^(1 + kappa) and the reference 1, and
 *   that problem is solved.
 *   The terms of a measure with itself start from a = (a + phi (log mu - LSE(a - C / epsilon))) /
 *   2, whose error halves in each iteration where exp(-C / epsilon) is positive definite: about 25
 *   passes for any epsilon. They are then solved like the mixed term. (Not with p->plain or
 *   tolerance 0.) Values are dual values: an error d of the potentials gives an error d^2.
 *   Gradients are those of the optimal values (envelope theorem); OT(mu, mu) depends on its
 *   points and weights twice.
 * Source: Feydy et al. 2019 (arXiv:1810.08278), eq. 3, and section 3.1 for the averaged update;
 * Sejourne et al. 2019 (arXiv:1910.12958), def. 6, for relaxed sides.
 *
 * Types, Memory, Numerics, Threads: as in pk_sinkhorn.h. f32 points: values and certificates are
 * recomputed in f64 (pk_sinkhorn_certify).
 * Shapes    x, y as in pk_sinkhorn.h. Matrix: also the costs within each measure, xx [n, n] and yy
 *           [m, m], symmetric (points: NULL). dx [n, d], dy [m, d] (NULL: not wanted; matrix: must
 *           be NULL); dmu [n], dnu [m] (NULL: not wanted).
 * Writes    result, dx, dy, dmu, dnu. terms: of (mu, nu), (mu, mu), (nu, nu); their objective is
 *           cost + epsilon entropy + penalties + shift, their dual value dual + shift. A progress
 *           function that interrupts ends all three terms; the value is then NaN, as it is when a
 *           term is not finite. Two hard sides leave a constant of dmu and dnu free: the one
 *           with sum mu dmu = sum nu dnu is taken. 0 where a weight is 0.
 * Scratch   pk_divergence_scratch bytes, of any alignment.
 * Errors    bad sizes; epsilon <= 0; sides that are neither both hard nor both relaxed with one
 *           rho; a weight whose power leaves the range of double. Two hard sides must have the
 *           same sum. */
#ifndef PK_DIVERGENCE_H
#define PK_DIVERGENCE_H

typedef struct {
  pk_sinkhorn_result solve;
  double shift;
} pk_divergence_term;

typedef struct {
  double value;
  pk_divergence_term terms[3];
} pk_divergence_result;

ptrdiff_t pk_divergence_scratch(const pk_sinkhorn_problem *p);
pk_status pk_divergence(const pk_sinkhorn_problem *p, const void *x, const void *y, const void *xx,
                        const void *yy, const double *mu, const double *nu,
                        pk_divergence_result *result, void *dx, void *dy, double *dmu, double *dnu,
                        void *scratch);

/* The product reference for one side. refer: replaces the weights w [n] by those to solve with;
 * *shift: what the side adds to the objective, beside epsilon (sum mu) (sum nu). Returns n, or
 * the element whose power leaves (1e-300, 1e300), where it stops. gradient: turns dw, the
 * derivative of a function plus on_objective times the objective with respect to the weights
 * solved with, into that with respect to the weights given (NULL: 1 / n each). */
ptrdiff_t pk_product_refer(pk_side side, double epsilon, double rho, ptrdiff_t n, double *w,
                           double *shift);
void pk_product_gradient(pk_side side, double epsilon, double rho, ptrdiff_t n, const double *given,
                         const double *solved, double other_mass, double on_objective, double *dw);
/* Adds the free constant of the gradients of two hard sides, so that sum mu dmu = sum nu dnu. */
void pk_centre_gradients(ptrdiff_t n, ptrdiff_t m, const double *mu, const double *nu, double *dmu,
                         double *dnu);
#endif
