/* Plain implementations, the oracle of the kernel tests and of `pisces doctor`.
 *
 * One for each family, in double: the textbook formula in a few loops, without blocking, packing,
 * threads or vector words. Nothing dispatches to them. They share no code with the bodies, so that
 * a wrong sign in a body does not agree with itself, as the same body compiled in f64 would.
 * Arguments, shapes and strides are those of the operation's own header; arrays are contiguous
 * where no stride is given. Outputs are overwritten; names with add_ are added to, NULL is skipped.
 * Backward passes recompute what they need from the inputs instead of taking it from a forward
 * pass. */
#ifndef PK_REFERENCE_H
#define PK_REFERENCE_H

/* C = beta C + alpha A B, element by element. */
void pk_reference_gemm(const pk_gemm_shape *s, const double *a, const double *b, double *c);

/* y = f(x) and its derivative. */
double pk_reference_activation(pk_activation f, double x);
double pk_reference_activation_slope(pk_activation f, double x);

void pk_reference_attention_forward(const pk_attention_shape *s, const double *q, const double *k,
                                    const double *v, double *o, double *lse);
void pk_reference_attention_backward(const pk_attention_shape *s, const double *q, const double *k,
                                     const double *v, const double *dout, double *dq, double *dk,
                                     double *dv);

/* With upsampling and padding: every element of the padded input is looked up in x. */
void pk_reference_conv3d_forward(const pk_conv3d_shape *s, const double *x, const double *weight,
                                 const double *bias, double *y);
void pk_reference_conv3d_backward(const pk_conv3d_shape *s, const double *dy, const double *x,
                                  const double *weight, double *dx, double *add_dweight,
                                  double *add_dbias);

/* gamma, beta of row r at (r / rows_per_group) * ld; the factor is gamma + plus (NULL: 1). Layer
 * norm has one group, adaptive layer norm one for each sample and plus = 1. */
typedef struct {
  ptrdiff_t rows, columns, rows_per_group, ld;
  double eps, plus;
} pk_reference_rows;

void pk_reference_layernorm_forward(const pk_reference_rows *s, const double *x,
                                    const double *gamma, const double *beta, double *y);
void pk_reference_layernorm_backward(const pk_reference_rows *s, const double *dy, const double *x,
                                     const double *gamma, double *dx, double *add_dgamma,
                                     double *add_dbeta);
void pk_reference_rmsnorm_forward(const pk_reference_rows *s, const double *x, const double *gamma,
                                  double *y);
void pk_reference_rmsnorm_backward(const pk_reference_rows *s, const double *dy, const double *x,
                                   const double *gamma, double *dx, double *add_dgamma);
void pk_reference_groupnorm_forward(const pk_groupnorm_shape *s, const double *x,
                                    const double *gamma, const double *beta, double *y);
void pk_reference_groupnorm_backward(const pk_groupnorm_shape *s, const double *dy, const double *x,
                                     const double *gamma, const double *beta, double *dx,
                                     double *add_dgamma, double *add_dbeta);

void pk_reference_softmax_forward(ptrdiff_t rows, ptrdiff_t columns, double scale, const double *x,
                                  double *y);
void pk_reference_softmax_backward(ptrdiff_t rows, ptrdiff_t columns, const double *dy,
                                   const double *y, double *ds);

/* x [rows, heads, dim]; row r is rotated by the angles of cosines, sines [positions, dim / 2] at
 * r % tokens, if that is below `positions`. */
void pk_reference_rope(ptrdiff_t rows, ptrdiff_t tokens, ptrdiff_t positions, ptrdiff_t heads,
                       ptrdiff_t dim, const double *cosines, const double *sines, int direction,
                       double *x);

/* kind 0 weighted l1 + l2 / 2 (weights 1), 1 Huber with c, 2 squared: the sum, and its gradient. */
double pk_reference_loss(int kind, ptrdiff_t n, double c, const double *x, const double *target,
                         double *dx);

void pk_reference_adamw(ptrdiff_t n, const pk_adamw *o, const double *g, double *p, double *m,
                        double *v);
#endif
