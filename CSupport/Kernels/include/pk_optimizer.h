/* Optimiser updates, in place.
 *
 * AdamW (Loshchilov, Hutter 2019): p *= 1 - lr wd; m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2;
 *   p -= lr (m / c1) / (sqrt(v / c2) + eps), with c1 = 1 - b1^k, c2 = 1 - b2^k given by the caller.
 * g is first multiplied by `grad_scale` (clipping); with l2 != 0, l2 p is then added to it (Adam's
 *   weight decay).
 * With `average` (NULL: none) the new p goes into an exponential moving average in the same pass:
 *   average = ema average + (1 - ema) p.
 * With `bf16_moments` (f32 alone) m and v are stored as bf16 with stochastic rounding, so that they
 *   are right on average and small changes are not lost: rounded to nearest, v would stop where
 *   (1-b2) g^2 is below 1/256 of it. The random number is a hash of the element's index, which begins at
 *   `first`, and `salt`, which the caller changes from step to step and from parameter to
 *   parameter. */
#ifndef PK_OPTIMIZER_H
#define PK_OPTIMIZER_H

typedef struct {
  double lr, beta1, beta2, eps, weight_decay, l2, c1, c2, grad_scale, ema;
  int bf16_moments;
  uint32_t salt, first;
} pk_adamw;

pk_status pk_adamw_step(pk_type type, ptrdiff_t n, const pk_adamw *o, const void *g, void *p,
                        void *m, void *v, void *average);
#endif
