/* Element-wise losses: each returns its sum (added in double over fixed blocks) and writes the
 * gradient of that sum; dx may be NULL.
 *
 * pk_loss_weighted_l1l2   w (|e| + e^2/2), e = x - t;  dx = w (sign e + e); w NULL: 1
 * pk_loss_huber           sqrt(e^2 + c^2) - c;  dx = e / sqrt(e^2 + c^2)
 *                         (Charbonnier; Song, Dhariwal 2023, eq. 7)
 * pk_loss_squared         e^2;  dx = 2 e */
#ifndef PK_LOSS_H
#define PK_LOSS_H
double pk_loss_weighted_l1l2(pk_type type, ptrdiff_t n, const void *x, const void *target,
                             const void *weight, void *dx);
double pk_loss_huber(pk_type type, ptrdiff_t n, double c, const void *x, const void *target,
                     void *dx);
double pk_loss_squared(pk_type type, ptrdiff_t n, const void *x, const void *target, void *dx);

/* Diagonal normal (Kingma, Welling 2014): z = mean + exp(logvar/2) noise, kl = sum of (mean^2 +
 * exp(logvar) - 1 - logvar)/2.
 * backward: dmean = dz + k mean, dlogvar = dz noise exp(logvar/2)/2 + k (exp(logvar) - 1)/2, k the
 * weight of kl. */
double pk_normal_sample(pk_type type, ptrdiff_t n, const void *mean, const void *logvar,
                        const void *noise, void *z);
pk_status pk_normal_backward(pk_type type, ptrdiff_t n, double k, const void *dz, const void *mean,
                             const void *logvar, const void *noise, void *dmean, void *dlogvar);
#endif
