/* Softmax over the last axis, rows x columns, with the row maximum subtracted; y == x allowed.
 * An optional additive term `bias` with row r using bias row (r / bias_repeat) % bias_rows (NULL:
 * none), and `scale` on x:
 *   y = softmax(scale x + bias);  backward returns dS = y (dy - <dy, y>), the gradient of the
 *   scaled, biased logits. */
#ifndef PK_SOFTMAX_H
#define PK_SOFTMAX_H
pk_status pk_softmax_forward(pk_type type, ptrdiff_t rows, ptrdiff_t columns, double scale,
                             const void *x, const void *bias, ptrdiff_t bias_rows,
                             ptrdiff_t bias_repeat, void *y);
pk_status pk_softmax_backward(pk_type type, ptrdiff_t rows, ptrdiff_t columns, const void *dy,
                              const void *y, void *ds);
#endif
