/* Extents of a convolution, shared by its passes. */
#ifndef PK_CONV_GEOMETRY_H
#define PK_CONV_GEOMETRY_H
typedef struct { idx to, ho, wo, tp, hp, wp, k; } extents; /* of the result, of the padded input; rows of the implicit matrix */
static inline int conv_bad(const pk_conv3d_shape *s, extents *e) {
  if (s->batch < 0 || s->in < 1 || s->out < 1 || s->t < 1 || s->h < 1 || s->w < 1 || s->kt < 1 || s->kh < 1 || s->kw < 1) return 1;
  if (s->st < 1 || s->sh < 1 || s->sw < 1 || s->front < 0 || s->side < 0) return 1;
  e->tp = s->t + s->front, e->hp = s->h + 2 * s->side, e->wp = s->w + 2 * s->side;
  if (e->tp < s->kt || e->hp < s->kh || e->wp < s->kw) return 1;
  e->to = (e->tp - s->kt) / s->st + 1, e->ho = (e->hp - s->kh) / s->sh + 1, e->wo = (e->wp - s->kw) / s->sw + 1;
  e->k = s->in * s->kt * s->kh * s->kw;
  return 0;
}
static inline int pointwise(const pk_conv3d_shape *s) {
  return s->kt * s->kh * s->kw == 1 && s->st * s->sh * s->sw == 1 && s->front == 0 && s->side == 0;
}
/* A 1x1x1 convolution of one sample as a product: pass 0 forward, 1 backward data, 2 backward weights. */
static inline pk_gemm_shape pointwise_product(const pk_conv3d_shape *s, int pass) {
  const idx n = s->t * s->h * s->w;
  if (pass == 0) return (pk_gemm_shape){s->out, n, s->in, s->in, 1, n, 1, n, 1, 1, 0};
  if (pass == 1) return (pk_gemm_shape){s->in, n, s->out, 1, s->in, n, 1, n, 1, 1, 0};
  return (pk_gemm_shape){s->out, s->in, n, n, 1, 1, n, s->in, 1, 1, 1};
}
idx pk_conv_weights_scratch(const pk_conv3d_shape *s, const extents *e);
#endif
