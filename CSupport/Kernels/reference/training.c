#include <math.h>
#include "../include/pk.h"

typedef ptrdiff_t idx;

double pk_reference_loss(int kind, idx n, double c, const double *x, const double *target,
                         double *dx) {
  double sum = 0;
  for (idx i = 0; i < n; i++) {
    const double e = x[i] - target[i];
    if (kind == 0) {
      sum += fabs(e) + e * e / 2;
      dx[i] = (e > 0) - (e < 0) + e;
    } else if (kind == 1) {
      sum += sqrt(e * e + c * c) - c;
      dx[i] = e / sqrt(e * e + c * c);
    } else {
      sum += e * e;
      dx[i] = 2 * e;
    }
  }
  return sum;
}

/* Loshchilov and Hutter 2019, algorithm 2; c1, c2 are 1 - beta^k. */
void pk_reference_adamw(idx n, const pk_adamw *o, const double *g, double *p, double *m,
                        double *v) {
  for (idx i = 0; i < n; i++) {
    const double gradient = o->grad_scale * g[i] + o->l2 * p[i];
    m[i] = o->beta1 * m[i] + (1 - o->beta1) * gradient;
    v[i] = o->beta2 * v[i] + (1 - o->beta2) * gradient * gradient;
    p[i] -= o->lr * o->weight_decay * p[i] + o->lr * (m[i] / o->c1) / (sqrt(v[i] / o->c2) + o->eps);
  }
}
