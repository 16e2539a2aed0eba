/* Three-dimensional convolution of a padded input, and the padding itself.
 *
 *   y[b,o,t,h,w] = bias[o] + sum_{c,kt,kh,kw} W[o,c,kt,kh,kw] xp[b,c,t st+kt,h sh+kh,w sw+kw]        (cross-correlation)
 * xp is x padded by edge replication: `front` frames before the first, none after, `side` cells on each side of H and W
 * (HunyuanVideo: front = kt-1, side = k/2). dx folds the gradient of every replicated cell onto the edge it copied.
 * Source: Kong et al. 2024 (arXiv:2412.03603), CausalConv3d.
 *
 * Shapes   x [batch, in, T, H, W], W [out, in, kt, kh, kw], y [batch, out, To, Ho, Wo], To = (T+front-kt)/st + 1 and
 *          Ho = (H+2 side-kh)/sh + 1. Kernel extents at most 3... any; strides 1 or 2.
 * Writes   y and dx overwritten; add_dweight, add_dbias added to. bias, add_dbias may be NULL.
 */
#ifndef PK_CONV_H
#define PK_CONV_H
typedef struct {
  ptrdiff_t batch, in, out, t, h, w;
  ptrdiff_t kt, kh, kw, st, sh, sw, front, side;
} pk_conv3d_shape;
ptrdiff_t pk_conv3d_scratch(const pk_conv3d_shape *s, int pass); /* pass 0 forward, 1 backward data, 2 backward weights */
pk_status pk_conv3d_forward(pk_type type, const pk_conv3d_shape *s, const void *x, const void *weight, const void *bias,
                            void *y, void *scratch);
pk_status pk_conv3d_backward_data(pk_type type, const pk_conv3d_shape *s, const void *dy, const void *weight, void *dx,
                                  void *scratch);
pk_status pk_conv3d_backward_weights(pk_type type, const pk_conv3d_shape *s, const void *dy, const void *x,
                                     void *add_dweight, void *add_dbias, void *scratch);

/* Nearest upsampling by (ft, fh, fw); the first frame is repeated in space only: T -> 1 + (T-1) ft.
 * Backward sums the gradients of the copies. planes = batch * channels. */
pk_status pk_upsample_forward(pk_type type, ptrdiff_t planes, ptrdiff_t t, ptrdiff_t h, ptrdiff_t w, ptrdiff_t ft,
                              ptrdiff_t fh, ptrdiff_t fw, const void *x, void *y);
pk_status pk_upsample_backward(pk_type type, ptrdiff_t planes, ptrdiff_t t, ptrdiff_t h, ptrdiff_t w, ptrdiff_t ft,
                               ptrdiff_t fh, ptrdiff_t fw, const void *dy, void *dx);
#endif
