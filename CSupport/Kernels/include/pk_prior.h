/* Fusion of a transport prior into attention rows, and its gradient (algorithm.md 4.5, 4.6; the
 * prior is a constant).
 *
 *   fused row:  y = max(A, eps) max(P, eps) / sum of the same;   other rows: y = A logit gradient,
 *   G = dL/dy, F = y (G - <G, y>), a = [A >= eps]:
 *     fused row:  dS = a F - A sum(a F);      other rows: dS = A (G - <G, A>)
 * Source: PISCES (arXiv:2602.01624), algorithm 3, with the released code's clamps (D-4).
 *
 * Shapes   A, P, y, G, dS [batch, heads, rows, columns]; fused [batch, rows], nonzero = fused. P is
 * read on fused rows only. */
#ifndef PK_PRIOR_H
#define PK_PRIOR_H

typedef struct {
  ptrdiff_t batch, heads, rows, columns;
  double eps;
  const uint8_t *fused;
} pk_prior_shape;

pk_status pk_prior_fusion_forward(pk_type type, const pk_prior_shape *s, const void *attention,
                                  const void *prior, void *y);
pk_status pk_prior_fusion_backward(pk_type type, const pk_prior_shape *s, const void *attention,
                                   const void *y, const void *g, void *ds);
#endif
