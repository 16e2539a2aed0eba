#include "../include/pk.h"

void pk_reference_gemm(const pk_gemm_shape *s, const double *a, const double *b, double *c) {
  for (ptrdiff_t i = 0; i < s->m; i++)
    for (ptrdiff_t j = 0; j < s->n; j++) {
      double sum = 0;
      for (ptrdiff_t p = 0; p < s->k; p++)
        sum += a[i * s->rsa + p * s->csa] * b[p * s->rsb + j * s->csb];
      double *out = c + i * s->rsc + j * s->csc;
      *out = s->alpha * sum + (s->beta == 0 ? 0 : s->beta * *out);
    }
}
