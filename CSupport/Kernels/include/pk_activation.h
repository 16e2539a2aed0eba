/* Activations y = f(x) and dx = f'(x) dy, element by element; y == x and dx == dy are allowed.
 *
 * GELU_erf   x/2 (1 + erf(x/sqrt 2))                         (Hendrycks, Gimpel 2016)
 * GELU_tanh  x/2 (1 + tanh(sqrt(2/pi)(x + 0.044715 x^3)))
 * SiLU       x sigmoid(x)
 * ReLU       max(x, 0), derivative 0 at 0
 * Gated      y = a f(b) for rows [a, b] of x: value first, gate second (GEGLU with GELU_erf;
 *            Shazeer 2020, arXiv:2002.05202, eq. 6). x, dx [rows, 2 columns],
 *            y, dy [rows, columns].
 * Numerics   f32: absolute error of erf and tanh at most 4e-7 (asserted in the kernel tests). */
#ifndef PK_ACTIVATION_H
#define PK_ACTIVATION_H

typedef enum { PK_GELU_ERF = 0, PK_GELU_TANH = 1, PK_SILU = 2, PK_RELU = 3 } pk_activation;

pk_status pk_activation_forward(pk_type type, pk_activation f, ptrdiff_t n, const void *x, void *y);
pk_status pk_activation_backward(pk_type type, pk_activation f, ptrdiff_t n, const void *x,
                                 const void *dy, void *dx);
pk_status pk_gated_forward(pk_type type, pk_activation f, ptrdiff_t rows, ptrdiff_t columns,
                           const void *x, void *y);
/* dx may be x. */
pk_status pk_gated_backward(pk_type type, pk_activation f, ptrdiff_t rows, ptrdiff_t columns,
                            const void *x, const void *dy, void *dx);
#endif
