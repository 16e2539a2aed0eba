#include <math.h>
#include "../include/pk.h"

typedef ptrdiff_t idx;

void pk_reference_softmax_forward(idx rows, idx columns, double scale, const double *x, double *y) {
  for (idx r = 0; r < rows; r++) {
    const double *row = x + r * columns;
    double top = -INFINITY, sum = 0;
    for (idx c = 0; c < columns; c++) top = fmax(top, scale * row[c]);
    for (idx c = 0; c < columns; c++) sum += exp(scale * row[c] - top);
    for (idx c = 0; c < columns; c++) y[r * columns + c] = exp(scale * row[c] - top) / sum;
  }
}

/* ds_i = sum over j of dy_j dy_j / ds_i, with y_j ([i = j] - y_i). */
void pk_reference_softmax_backward(idx rows, idx columns, const double *dy, const double *y,
                                   double *ds) {
  for (idx r = 0; r < rows; r++)
    for (idx i = 0; i < columns; i++) {
      const double *p = y + r * columns, *g = dy + r * columns;
      double sum = 0;
      for (idx j = 0; j < columns; j++) sum += g[j] * p[j] * ((i == j ? 1 : 0) - p[i]);
      ds[r * columns + i] = sum;
    }
}

/* The pair (a, b) rotated by theta: (a cos - b sin, a sin + b cos). */
void pk_reference_rope(idx rows, idx tokens, idx positions, idx heads, idx dim,
                       const double *cosines, const double *sines, int direction, double *x) {
  for (idx r = 0; r < rows; r++)
    for (idx i = 0; i < heads * dim && r % tokens < positions; i += 2) {
      const idx angle = r % tokens * (dim / 2) + i % dim / 2;
      double *pair = x + r * heads * dim + i;
      const double a = pair[0], b = pair[1], c = cosines[angle], s = direction * sines[angle];
      pair[0] = a * c - b * s;
      pair[1] = a * s + b * c;
    }
}
