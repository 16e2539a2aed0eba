/* Fusion of a transport prior P into attention rows A, and its gradient (algorithm.md 4.5, 4.6).
 * The prior is a constant.
 *
 *   fused row:   y = max(A, eps) max(P, eps) / sum of the same;     other rows: y = A
 *   gradient with respect to the logits, with g = dL/dy, F = y (g - <g, y>), a = [A >= eps]:
 *   fused row:   ds = a F - A sum(a F);     other rows: ds = A (g - <g, A>)
 * Source: PISCES (arXiv:2602.01624), algorithm 3, with the released code's lower bounds (D-4).
 *
 * Shapes    A, P, y, g, ds [batch, heads, rows, columns]; fused [batch, rows], other than 0: fused.
 *           P is read on fused rows only.
 * Threads   over rows; each is computed by one thread. */
#ifndef PK_PRIOR_H
#define PK_PRIOR_H

typedef struct PK_SAFE {
  ptrdiff_t batch, heads, rows, columns;
  double eps;
  const uint8_t *fused;
} pk_prior_shape;

pk_status pk_prior_fusion_forward(pk_type type, const pk_prior_shape *s, const void *attention,
                                  const void *prior, void *y);
pk_status pk_prior_fusion_backward(pk_type type, const pk_prior_shape *s, const void *attention,
                                   const void *y, const void *g, void *ds);
#endif
