#include "../isa/kernels.h"

#define UPSAMPLE(T) \
  static void up_##T(idx t, idx h, idx w, idx ft, idx fh, idx fw, const T *x, T *y) { \
    for (idx f = 0; f < 1 + (t - 1) * ft; f++) \
      for (idx i = 0; i < h * fh; i++) { \
        const T *src = x + ((f == 0 ? 0 : 1 + (f - 1) / ft) * h + i / fh) * w; \
        T *dst = y + (f * h * fh + i) * w * fw; \
        for (idx j = 0; j < w; j++) \
          for (idx q = 0; q < fw; q++) dst[j * fw + q] = src[j]; \
      } \
  } \
  static void down_##T(idx t, idx h, idx w, idx ft, idx fh, idx fw, const T *dy, T *dx) { \
    memset(dx, 0, (size_t)(t * h * w) * sizeof(T)); \
    for (idx f = 0; f < 1 + (t - 1) * ft; f++) \
      for (idx i = 0; i < h * fh; i++) { \
        T *dst = dx + ((f == 0 ? 0 : 1 + (f - 1) / ft) * h + i / fh) * w; \
        const T *src = dy + (f * h * fh + i) * w * fw; \
        for (idx j = 0; j < w; j++) \
          for (idx q = 0; q < fw; q++) dst[j] += src[j * fw + q]; \
      } \
  }
UPSAMPLE(float)
UPSAMPLE(double)

static int upsample_bad(idx planes, idx t, idx h, idx w, idx ft, idx fh, idx fw) {
  return planes < 0 || t < 1 || h < 1 || w < 1 || ft < 1 || fh < 1 || fw < 1;
}

pk_status pk_upsample_forward(pk_type type, idx planes, idx t, idx h, idx w, idx ft, idx fh, idx fw,
                              const void *x, void *y) {
  if (upsample_bad(planes, t, h, w, ft, fh, fw)) return PK_BAD_SHAPE;
  const idx from = t * h * w, to = (1 + (t - 1) * ft) * h * fh * w * fw;
#pragma omp parallel for schedule(static)
  for (idx p = 0; p < planes; p++) {
    if (type == PK_F64)
      up_double(t, h, w, ft, fh, fw, pk_at(x, type, p * from), pk_at(y, type, p * to));
    else
      up_float(t, h, w, ft, fh, fw, pk_at(x, type, p * from), pk_at(y, type, p * to));
  }
  return PK_OK;
}

pk_status pk_upsample_backward(pk_type type, idx planes, idx t, idx h, idx w, idx ft, idx fh,
                               idx fw, const void *dy, void *dx) {
  if (upsample_bad(planes, t, h, w, ft, fh, fw)) return PK_BAD_SHAPE;
  const idx from = t * h * w, to = (1 + (t - 1) * ft) * h * fh * w * fw;
#pragma omp parallel for schedule(static)
  for (idx p = 0; p < planes; p++) {
    if (type == PK_F64)
      down_double(t, h, w, ft, fh, fw, pk_at(dy, type, p * to), pk_at(dx, type, p * from));
    else
      down_float(t, h, w, ft, fh, fw, pk_at(dy, type, p * to), pk_at(dx, type, p * from));
  }
  return PK_OK;
}
