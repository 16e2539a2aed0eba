#include <math.h>
#include "../include/pk.h"

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* GELU's tanh form is x / 2 (1 + tanh u), u = sqrt(2 / pi) (x + 0.044715 x^3). */
static double gelu_u(double x) { return sqrt(2 / M_PI) * (x + 0.044715 * x * x * x); }

double pk_reference_activation(pk_activation f, double x) {
  switch (f) {
  case PK_GELU_ERF:
    return x / 2 * (1 + erf(x / sqrt(2)));
  case PK_GELU_TANH:
    return x / 2 * (1 + tanh(gelu_u(x)));
  case PK_SILU:
    return x * sigmoid(x);
  default:
    return x > 0 ? x : 0;
  }
}

double pk_reference_activation_slope(pk_activation f, double x) {
  switch (f) {
  case PK_GELU_ERF: /* Phi(x) + x phi(x) */
    return (1 + erf(x / sqrt(2))) / 2 + x * exp(-x * x / 2) / sqrt(2 * M_PI);
  case PK_GELU_TANH: {
    const double t = tanh(gelu_u(x)), du = sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
    return (1 + t) / 2 + x / 2 * (1 - t * t) * du;
  }
  case PK_SILU:
    return sigmoid(x) + x * sigmoid(x) * (1 - sigmoid(x));
  default:
    return x > 0 ? 1 : 0;
  }
}
