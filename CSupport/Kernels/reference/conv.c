#include "../include/pk.h"

typedef ptrdiff_t idx;

/* The extents of the result. */
static idx result_extent(idx n, idx pad, idx k, idx stride) { return (n + pad - k) / stride + 1; }

static idx frames_of(const pk_conv3d_shape *s) {
  return result_extent(1 + (s->t - 1) * s->ft, s->front + s->back, s->kt, s->st);
}

static idx rows_of(const pk_conv3d_shape *s) {
  return result_extent(s->h * s->fh, 2 * s->side, s->kh, s->sh);
}

static idx columns_of(const pk_conv3d_shape *s) {
  return result_extent(s->w * s->fw, 2 * s->side, s->kw, s->sw);
}

static int is_outside(idx i, idx n) { return i < 0 || i >= n; }

static idx clamp(idx i, idx n) { return i < 0 ? 0 : i >= n ? n - 1 : i; }

/* The element of x [channels, T, H, W] that tap (kt, kh, kw) of result (t, h, w) reads: padding
 * repeats the edge, or is zero (-1); upsampling repeats pixels and every frame but the first. */
static idx element(const pk_conv3d_shape *s, idx c, idx t, idx h, idx w, idx kt, idx kh, idx kw) {
  if (s->zeros && (is_outside(t * s->st + kt - s->front, 1 + (s->t - 1) * s->ft) ||
                   is_outside(h * s->sh + kh - s->side, s->h * s->fh) ||
                   is_outside(w * s->sw + kw - s->side, s->w * s->fw)))
    return -1;
  const idx ft = clamp(t * s->st + kt - s->front, 1 + (s->t - 1) * s->ft),
            fh = clamp(h * s->sh + kh - s->side, s->h * s->fh),
            fw = clamp(w * s->sw + kw - s->side, s->w * s->fw);
  const idx frame = ft == 0 ? 0 : 1 + (ft - 1) / s->ft;
  return ((c * s->t + frame) * s->h + fh / s->fh) * s->w + fw / s->fw;
}

/* Runs `body` for every product of the convolution: y[at_y] is a sum of weight[at_w] x[at_x]. */
#define FOR_EACH_PRODUCT(body) \
  const idx frames = frames_of(s), rows = rows_of(s), columns = columns_of(s); \
  const idx size_x = s->in * s->t * s->h * s->w; \
  for (idx b = 0; b < s->batch; b++) \
    for (idx o = 0; o < s->out; o++) \
      for (idx t = 0; t < frames; t++) \
        for (idx h = 0; h < rows; h++) \
          for (idx w = 0; w < columns; w++) { \
            const idx at_y = (((b * s->out + o) * frames + t) * rows + h) * columns + w; \
            idx at_w = o * s->in * s->kt * s->kh * s->kw; \
            for (idx c = 0; c < s->in; c++) \
              for (idx kt = 0; kt < s->kt; kt++) \
                for (idx kh = 0; kh < s->kh; kh++) \
                  for (idx kw = 0; kw < s->kw; kw++, at_w++) { \
                    const idx in_sample = element(s, c, t, h, w, kt, kh, kw); \
                    const idx at_x = b * size_x + in_sample; \
                    if (in_sample >= 0) { \
                      body; \
                    } \
                  } \
          }

void pk_reference_conv3d_forward(const pk_conv3d_shape *s, const double *x, const double *weight,
                                 const double *bias, double *y) {
  const idx plane = frames_of(s) * rows_of(s) * columns_of(s);
  for (idx i = 0; i < s->batch * s->out * plane; i++) y[i] = bias ? bias[i / plane % s->out] : 0;
  FOR_EACH_PRODUCT(y[at_y] += weight[at_w] * x[at_x])
}

void pk_reference_conv3d_backward(const pk_conv3d_shape *s, const double *dy, const double *x,
                                  const double *weight, double *dx, double *add_dweight,
                                  double *add_dbias) {
  const idx plane = frames_of(s) * rows_of(s) * columns_of(s);
  for (idx i = 0; dx && i < s->batch * s->in * s->t * s->h * s->w; i++) dx[i] = 0;
  for (idx i = 0; add_dbias && i < s->batch * s->out * plane; i++)
    add_dbias[i / plane % s->out] += dy[i];
  FOR_EACH_PRODUCT(if (dx) dx[at_x] += weight[at_w] * dy[at_y];
                   if (add_dweight) add_dweight[at_w] += dy[at_y] * x[at_x])
}
