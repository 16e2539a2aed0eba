/* The entropic problem with the product of the weights as reference, by the solver's with
 * reference 1 (pk_divergence.h). */
#include "../isa/kernels.h"

ptrdiff_t pk_product_refer(pk_side side, double epsilon, double rho, ptrdiff_t n, double *w,
                           double *shift) {
  *shift = 0;
  for (idx i = 0; i < n; i++) {
    if (!(w[i] > 0)) continue;
    if (side == PK_SIDE_HARD) {
      *shift -= epsilon * w[i] * log(w[i]);
    } else {
      const double given = w[i], next = exp((1 + epsilon / rho) * log(given));
      if (!(next > 1e-300 && next < 1e300)) return i;
      w[i] = next, *shift += rho * (given - next);
    }
  }
  return n;
}

void pk_product_gradient(pk_side side, double epsilon, double rho, ptrdiff_t n, const double *given,
                         const double *solved, double other_mass, double on_objective, double *dw) {
  for (idx i = 0; dw && i < n; i++) {
    const double w = given ? given[i] : 1 / (double)n;
    if (!(w > 0)) continue;
    const double slope = side == PK_SIDE_HARD ? 1 : (1 + epsilon / rho) * solved[i] / w;
    dw[i] = dw[i] * slope +
            on_objective * (epsilon * other_mass +
                            (side == PK_SIDE_HARD ? -epsilon * (log(w) + 1) : rho * (1 - slope)));
  }
}

void pk_centre_gradients(ptrdiff_t n, ptrdiff_t m, const double *mu, const double *nu, double *dmu,
                         double *dnu) {
  double a = 0, b = 0, mass = 0;
  for (idx i = 0; i < n; i++) a += mu[i] * dmu[i], mass += mu[i];
  for (idx j = 0; j < m; j++) b += nu[j] * dnu[j], mass += nu[j];
  const double shift = (b - a) / mass;
  for (idx i = 0; i < n; i++) dmu[i] += mu[i] > 0 ? shift : 0;
  for (idx j = 0; j < m; j++) dnu[j] -= nu[j] > 0 ? shift : 0;
}
