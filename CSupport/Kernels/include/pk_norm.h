/* Normalisation, forward and backward.
 *
 * Layer norm over the last axis (Ba, Kiros, Hinton 2016, eq. 4):
 *   n = (x - mean) rstd, y = gamma n + beta, rstd = 1/sqrt(var + eps)
 *   dx = rstd (g - <g> - n <g n>), g = gamma dy, < > = mean over the row
 * Adaptive layer norm (Peebles, Xie 2023): rows are groups x tokens, gamma = 1 + scale[g], beta =
 *   shift[g].
 * RMS norm (Zhang, Sennrich 2019):
 *   n = x rstd, y = gamma n, rstd = 1/sqrt(<x^2> + eps); dx = rstd (g - n <g n>)
 * Group norm of x [batch, channels, spatial] (Wu, He 2018): as layer norm over channels / groups *
 *   spatial, gamma and beta per channel.
 *
 * Shapes   rows x columns; gamma, beta [columns] (NULL: 1, 0); scale, shift rows of `columns`, ld
 *          apart; mean, rstd [rows] (group norm: [batch, groups]; heads: [batch, tokens, heads]).
 * Writes   dx is overwritten; `add` (shaped as x; NULL: nothing), the gradient that passes the norm
 *          by, is part of it. add_dgamma, add_dbeta are added to, NULL when frozen.
 * Scratch  of backward passes: pk_norm_backward_scratch(groups or 1, rows of a group, columns or
 *          dim) elements, for those sums. */
#ifndef PK_NORM_H
#define PK_NORM_H
pk_status pk_layernorm_forward(pk_type type, ptrdiff_t rows, ptrdiff_t columns, double eps,
                               const void *x, const void *gamma, const void *beta, void *y,
                               void *mean, void *rstd);
ptrdiff_t pk_norm_backward_scratch(ptrdiff_t groups, ptrdiff_t rows, ptrdiff_t columns);
/* relu: x was max(h, 0), and dx is the gradient of h. */
pk_status pk_layernorm_backward(pk_type type, ptrdiff_t rows, ptrdiff_t columns, const void *dy,
                                const void *x, int relu, const void *gamma, const void *mean,
                                const void *rstd, const void *add, void *dx, void *add_dgamma,
                                void *add_dbeta, void *scratch);
pk_status pk_adaln_forward(pk_type type, ptrdiff_t groups, ptrdiff_t tokens, ptrdiff_t columns,
                           ptrdiff_t ld, double eps, const void *x, const void *scale,
                           const void *shift, void *y, void *mean, void *rstd);
pk_status pk_adaln_backward(pk_type type, ptrdiff_t groups, ptrdiff_t tokens, ptrdiff_t columns,
                            ptrdiff_t ld, const void *dy, const void *x, const void *scale,
                            const void *mean, const void *rstd, const void *add, void *dx,
                            void *add_dscale, void *add_dshift, void *scratch);
pk_status pk_rmsnorm_forward(pk_type type, ptrdiff_t rows, ptrdiff_t columns, double eps,
                             const void *x, const void *gamma, void *y, void *rstd);
pk_status pk_rmsnorm_backward(pk_type type, ptrdiff_t rows, ptrdiff_t columns, const void *dy,
                              const void *x, const void *gamma, const void *rstd, const void *add,
                              void *dx, void *add_dgamma, void *scratch);

/* RMS norm of every head of queries or keys, one gamma [dim] for all, and then the rotation
 * (pk_rope) of the first `rotated` tokens of each sample (0: none; cosines, sines [rotated, dim /
 * 2]). A token's heads * dim values lie together; tokens are ld, samples bs elements apart, in x
 * and dx (x), and in y and dy (y). */
typedef struct {
  ptrdiff_t batch, tokens, heads, dim, rotated, ldx, bsx, ldy, bsy;
  double eps;
} pk_head_norm_shape;

pk_status pk_head_norm_forward(pk_type type, const pk_head_norm_shape *s, const void *x,
                               const void *gamma, const void *cosines, const void *sines, void *y,
                               void *rstd);
pk_status pk_head_norm_backward(pk_type type, const pk_head_norm_shape *s, const void *dy,
                                const void *x, const void *gamma, const void *cosines,
                                const void *sines, const void *rstd, void *dx, void *add_dgamma,
                                void *scratch);

/* x [batch, channels, frames, spatial]: each frame is normalised by itself. frames = 1: a sample
 * as a whole. mean, rstd [batch, groups, frames]. */
typedef struct {
  ptrdiff_t batch, channels, groups, frames, spatial;
  double eps;
  int silu;
} pk_groupnorm_shape;

/* With silu != 0 the output is SiLU(y), fused; backward then takes the gradient of the fused
 * output. */
ptrdiff_t pk_groupnorm_scratch(const pk_groupnorm_shape *s);
pk_status pk_groupnorm_forward(pk_type type, const pk_groupnorm_shape *s, const void *x,
                               const void *gamma, const void *beta, void *y, void *mean, void *rstd,
                               void *scratch);
/* The two parts of forward: mean and rstd, and y from them. */
pk_status pk_groupnorm_statistics(pk_type type, const pk_groupnorm_shape *s, const void *x,
                                  void *mean, void *rstd, void *scratch);
pk_status pk_groupnorm_apply(pk_type type, const pk_groupnorm_shape *s, const void *x,
                             const void *gamma, const void *beta, const void *mean,
                             const void *rstd, void *y);
/* What a convolution needs to normalise as it reads (pk_conv_fusion): norm [batch, frames, 3,
 * channels], a channel's mean, rstd gamma and beta. */
pk_status pk_groupnorm_table(pk_type type, const pk_groupnorm_shape *s, const void *gamma,
                             const void *beta, const void *mean, const void *rstd, void *norm);
/* dx plus `add` (shaped as x; NULL: nothing), the gradient that passes the norm by. dx may be dy,
 * but not add. */
pk_status pk_groupnorm_backward(pk_type type, const pk_groupnorm_shape *s, const void *dy,
                                const void *x, const void *gamma, const void *beta,
                                const void *mean, const void *rstd, const void *add, void *dx,
                                void *add_dgamma, void *add_dbeta, void *scratch);
/* Its two parts, for an x that is a piece of a larger one, without the gradients of gamma and beta.
 * The first makes g, the gradient of the norm's own output, which may be dy, and the sums of g and
 * of g n over each channel, [batch, channels, frames, 2] in double. The second needs these sums of
 * all pieces, and the `spatial` of all together; dx may be g. */
pk_status pk_groupnorm_backward_sums(pk_type type, const pk_groupnorm_shape *s, const void *dy,
                                     const void *x, const void *gamma, const void *beta,
                                     const void *mean, const void *rstd, void *g, double *sums);
pk_status pk_groupnorm_backward_finish(pk_type type, const pk_groupnorm_shape *s, const void *x,
                                       const void *gamma, const void *mean, const void *rstd,
                                       const double *sums, ptrdiff_t spatial, const void *add,
                                       void *dx);
#endif
