/* Normalisation, forward and backward.
 *
 * layer norm over the last axis: n = (x - mean) rstd, y = gamma n + beta, rstd = 1/sqrt(var + eps)
 *   dx = rstd (g - <g> - n <g n>), g = gamma dy, < > = mean over the row          (Ba, Kiros, Hinton 2016, eq. 4)
 * RMS norm: n = x rstd, y = gamma n, rstd = 1/sqrt(<x^2> + eps); dx = rstd (g - n <g n>)   (Zhang, Sennrich 2019)
 * group norm of x [batch, channels, spatial]: as layer norm over channels/groups * spatial, gamma and beta per channel
 *                                                                                        (Wu, He 2018)
 * Shapes   rows x columns; gamma, beta [columns] (NULL = 1, 0); mean, rstd [rows] (group norm: [batch, groups]).
 * Writes   dx overwritten; add_dgamma, add_dbeta are added to, NULL when frozen.
 */
#ifndef PK_NORM_H
#define PK_NORM_H
pk_status pk_layernorm_forward(pk_type type, ptrdiff_t rows, ptrdiff_t columns, double eps, const void *x,
                               const void *gamma, const void *beta, void *y, void *mean, void *rstd);
ptrdiff_t pk_norm_backward_scratch(ptrdiff_t rows, ptrdiff_t columns);
pk_status pk_layernorm_backward(pk_type type, ptrdiff_t rows, ptrdiff_t columns, const void *dy, const void *x,
                                const void *gamma, const void *mean, const void *rstd, void *dx, void *add_dgamma,
                                void *add_dbeta, void *scratch);
pk_status pk_rmsnorm_forward(pk_type type, ptrdiff_t rows, ptrdiff_t columns, double eps, const void *x,
                             const void *gamma, void *y, void *rstd);
pk_status pk_rmsnorm_backward(pk_type type, ptrdiff_t rows, ptrdiff_t columns, const void *dy, const void *x,
                              const void *gamma, const void *rstd, void *dx, void *add_dgamma, void *scratch);

typedef struct { ptrdiff_t batch, channels, groups, spatial; double eps; int silu; } pk_groupnorm_shape;
/* With silu != 0 the output is SiLU(y), fused; backward then takes the gradient of the fused output. */
ptrdiff_t pk_groupnorm_scratch(const pk_groupnorm_shape *s);
pk_status pk_groupnorm_forward(pk_type type, const pk_groupnorm_shape *s, const void *x, const void *gamma,
                               const void *beta, void *y, void *mean, void *rstd, void *scratch);
/* mean and rstd alone, and what a convolution needs to normalise as it reads (pk_conv_fusion): norm [batch, 3, channels], a channel's mean, rstd gamma and beta. */
pk_status pk_groupnorm_statistics(pk_type type, const pk_groupnorm_shape *s, const void *x, const void *gamma,
                                  const void *beta, void *mean, void *rstd, void *norm, void *scratch);
/* dx plus `add` (shaped as x; NULL: nothing), the gradient that passes the norm by. dx may be dy. */
pk_status pk_groupnorm_backward(pk_type type, const pk_groupnorm_shape *s, const void *dy, const void *x,
                                const void *gamma, const void *beta, const void *mean, const void *rstd, const void *add,
                                void *dx, void *add_dgamma, void *add_dbeta, void *scratch);
#endif
