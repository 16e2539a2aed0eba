/* Three-dimensional convolution of an input that is upsampled and padded.
 *
 *   y[b,o,t,h,w] = bias[o] + sum over c, kt, kh, kw of
 *                  W[o,c,kt,kh,kw] xp[b,c,t st+kt,h sh+kh,w sw+kw]      (cross-correlation)
 *   xp is x, upsampled as pk_upsample_forward does by (ft, fh, fw), and padded by `front` frames
 *   before the first, `back` after the last, `side` cells on each side of H and W: copies of the
 *   edge (HunyuanVideo: front = kt-1, back = 0, side = k/2; dx sums the gradients of every copy) or
 *   zeros (`zeros`; image networks). Neither copies nor padding are stored or multiplied: taps that
 *   read copies of one cell become one, so that upsampling by 2 in every direction takes 8 products
 *   a result instead of 27.
 * Source: Kong et al. 2024 (arXiv:2412.03603), CausalConv3d.
 *
 * Shapes   x [batch, in, T, H, W], W [out, in, kt, kh, kw], y [batch, out, To, Ho, Wo] with T' = 1
 *          + (T-1) ft, To = (T'+front+back-kt)/st + 1, H' = H fh, Ho = (H'+2 side-kh)/sh + 1.
 *          Kernel extents at most PK_CONV_TAPS; with upsampling strides are 1, front + back = kt-1
 *          and kh = kw = 2 side + 1; zeros are fewer than the kernel's extent on each side.
 * Numerics f32 without bf16 products, kw = 3 and no stride or upsampling along W: Winograd's
 *          F(4, 3), about 2.5 times the rounding errors of a plain sum.
 * Fusion   what a forward pass does with x as it reads it and with y as it writes it
 *          (pk_conv_fusion; NULL: nothing), to the bits of the operations it stands for; not for
 *          1x1x1 without stride (PK_BAD_SHAPE).
 * Writes   y and dx overwritten; add_dweight, add_dbias added to. bias, add_dbias may be NULL. */
#ifndef PK_CONV_H
#define PK_CONV_H
#define PK_CONV_TAPS 16

typedef struct {
  ptrdiff_t batch, in, out, t, h, w;
  ptrdiff_t kt, kh, kw, st, sh, sw, front, back, side;
  ptrdiff_t ft, fh, fw; /* upsampling before it: 1 for none */
  int zeros;            /* padding by zeros instead of copies of the edge */
} pk_conv3d_shape;

typedef struct PK_SAFE {
  /* [batch, frames, 3, in], of pk_groupnorm_table: the convolution reads n = (x - mean)
   * factor + shift; NULL: x. norm_frames: T, or 1 for one table a sample. */
  const void *norm;
  ptrdiff_t norm_frames;
  int silu;        /* SiLU(n) instead */
  const void *add; /* [batch, out, To, Ho, Wo]: y is the convolution plus this; NULL: nothing */
} pk_conv_fusion;

/* pass 0 forward, 1 backward data, 2 backward weights */
ptrdiff_t pk_conv3d_scratch(const pk_conv3d_shape *s, int pass);
pk_status pk_conv3d_forward(pk_type type, const pk_conv3d_shape *s, const void *x,
                            const void *weight, const void *bias, const pk_conv_fusion *fusion,
                            void *y, void *scratch);
pk_status pk_conv3d_backward_data(pk_type type, const pk_conv3d_shape *s, const void *dy,
                                  const void *weight, void *dx, void *scratch);
pk_status pk_conv3d_backward_weights(pk_type type, const pk_conv3d_shape *s, const void *dy,
                                     const void *x, void *add_dweight, void *add_dbias,
                                     void *scratch);

/* Nearest upsampling by (ft, fh, fw); the first frame is repeated in space only: T -> 1 + (T-1) ft.
 * Backward sums the gradients of the copies. planes = batch * channels. */
pk_status pk_upsample_forward(pk_type type, ptrdiff_t planes, ptrdiff_t t, ptrdiff_t h, ptrdiff_t w,
                              ptrdiff_t ft, ptrdiff_t fh, ptrdiff_t fw, const void *x, void *y);
pk_status pk_upsample_backward(pk_type type, ptrdiff_t planes, ptrdiff_t t, ptrdiff_t h,
                               ptrdiff_t w, ptrdiff_t ft, ptrdiff_t fh, ptrdiff_t fw,
                               const void *dy, void *dx);
#endif
