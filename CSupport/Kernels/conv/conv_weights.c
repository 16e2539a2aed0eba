#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"
#include "conv_geometry.h"

/* The weight gradient takes dot products of shifted rows of the padded input with rows of dy on the
 * same grid: a tap is then a constant offset. */
/* elements readable past the end of a padded array: whole vectors, and the largest tap of the last
 * row */
#define SLACK 128
#define DOT_RUN 4096 /* elements summed in one type's lanes before they are folded into doubles */

static idx slack(const extents *e) { return SLACK + 3 * e->hp * e->wp; }

static idx padded_size(const pk_conv3d_shape *s, const extents *e) {
  return ROUND_UP(s->batch * s->in * e->tp * e->hp * e->wp + slack(e), 16);
}

idx pk_conv_weights_scratch(const pk_conv3d_shape *s, const extents *e) {
  return (pk_bf16(PK_F32) ? 2 : 1) *
         (padded_size(s, e) + ROUND_UP(s->batch * s->out * e->tp * e->hp * e->wp + slack(e), 16));
}

/* x [planes, frames, rows, pixels] upsampled, and its edges replicated: out [planes, tp, hp, wp].
 */
static void pad_replicate(pk_type type, const pk_conv3d_shape *s, const extents *e, const void *x,
                          void *out) {
  const idx planes = s->batch * s->in;
  const size_t z = (size_t)pk_size(type);
#pragma omp parallel for schedule(static)
  for (idx r = 0; r < planes * e->tp; r++) {
    const idx p = r / e->tp, f = r % e->tp - s->front < 0 ? 0 : r % e->tp - s->front;
    for (idx i = 0; i < e->hp; i++) {
      const idx y = i - s->side < 0 ? 0 : i - s->side >= e->h ? e->h - 1 : i - s->side;
      const char *src =
          pk_at(x, type, ((p * s->t + (f + s->ft - 1) / s->ft) * s->h + y / s->fh) * s->w);
      char *dst = pk_at(out, type, (r * e->hp + i) * e->wp);
      for (idx j = 0; j < s->side; j++)
        memcpy(dst + (size_t)j * z, src, z),
            memcpy(dst + (size_t)(s->side + e->w + j) * z, src + (size_t)(s->w - 1) * z, z);
      if (s->fw == 1)
        memcpy(dst + (size_t)s->side * z, src, (size_t)s->w * z);
      else
        for (idx j = 0; j < e->w; j++)
          memcpy(dst + (size_t)(s->side + j) * z, src + (size_t)(j / s->fw) * z, z);
    }
  }
  memset(pk_at(out, type, planes * e->tp * e->hp * e->wp), 0, (size_t)slack(e) * z);
}

/* dy placed on a zero grid [planes, tt, hh, ww] with steps (st, sh, sw) from origin (ot, oh, ow).
 */
static void place(pk_type type, idx planes, idx t, idx h, idx w, const void *dy, idx tt, idx hh,
                  idx ww, idx st, idx sh, idx sw, idx ot, idx oh, idx ow, void *out, idx spare) {
#pragma omp parallel for schedule(static)
  for (idx p = 0; p < planes; p++) {
    memset(pk_at(out, type, p * tt * hh * ww), 0, (size_t)(tt * hh * ww * pk_size(type)));
    for (idx f = 0; f < t; f++)
      for (idx i = 0; i < h; i++) {
        const void *src = pk_at(dy, type, ((p * t + f) * h + i) * w);
        void *dst = pk_at(out, type, ((p * tt + ot + f * st) * hh + oh + i * sh) * ww + ow);
        if (sw == 1)
          memcpy(dst, src, (size_t)(w * pk_size(type)));
        else if (type == PK_F64)
          for (idx j = 0; j < w; j++) ((double *)dst)[j * sw] = ((const double *)src)[j];
        else
          for (idx j = 0; j < w; j++) ((float *)dst)[j * sw] = ((const float *)src)[j];
      }
  }
  memset(pk_at(out, type, planes * tt * hh * ww), 0, (size_t)(spare * pk_size(type)));
}

pk_status pk_conv3d_backward_weights(pk_type type, const pk_conv3d_shape *s, const void *dy,
                                     const void *x, void *add_dweight, void *add_dbias,
                                     void *scratch) {
  const pk_kernels *k = pk_select(type);
  extents e;
  if (!k) return PK_BAD_TYPE;
  if (conv_bad(s, &e)) return PK_BAD_SHAPE;
  const idx out_pixels = e.to * e.ho * e.wo;
  if (add_dbias)
#pragma omp parallel for schedule(static)
    for (idx o = 0; o < s->out; o++) {
      double sum = 0;
      for (idx b = 0; b < s->batch; b++)
        sum += k->dot(out_pixels, pk_at(dy, type, (b * s->out + o) * out_pixels), NULL);
      pk_write(add_dbias, type, o, pk_read(add_dbias, type, o) + sum);
    }
  if (!add_dweight) return PK_OK;
  if (pointwise(s)) {
    for (idx b = 0; b < s->batch; b++) {
      const pk_gemm_shape g = pointwise_product(s, 2);
      pk_gemm(type, &g, pk_at(dy, type, b * s->out * out_pixels),
              pk_at(x, type, b * s->in * out_pixels), add_dweight, scratch);
    }
    return PK_OK;
  }
  void *xp = scratch, *dyp = pk_at(scratch, type, padded_size(s, &e));
  pad_replicate(type, s, &e, x, xp);
  place(type, s->batch * s->out, e.to, e.ho, e.wo, dy, e.tp, e.hp, e.wp, s->st, s->sh, s->sw, 0, 0,
        0, dyp, slack(&e));
  const idx taps = s->kt * s->kh * s->kw, plane = e.tp * e.hp * e.wp,
            n = ((e.to - 1) * s->st + 1) * e.hp * e.wp;
  const pk_bf16_kernels *narrow = pk_bf16(type);
  if (narrow) {
    const idx nx = padded_size(s, &e), ny = ROUND_UP(s->batch * s->out * plane + slack(&e), 16);
    uint16_t *x16 = pk_at(dyp, type, ny), *dy16 = x16 + nx;
#pragma omp parallel for schedule(static)
    for (idx i = 0; i < PK_BLOCKS; i++) {
      narrow->convert(PK_HI(i, nx) - PK_LO(i, nx), (float *)xp + PK_LO(i, nx), x16 + PK_LO(i, nx));
      narrow->convert(PK_HI(i, ny) - PK_LO(i, ny), (float *)dyp + PK_LO(i, ny),
                      dy16 + PK_LO(i, ny));
    }
    xp = x16, dyp = dy16;
  }
  const pk_type stored = narrow ? PK_BF16 : type;
  void (*conv_dots)(idx, idx, idx, const void *const *, const void *const *, void *) =
      narrow ? narrow->conv_dots : k->conv_dots;
  const idx ob = (s->out + PK_DOT_O - 1) / PK_DOT_O, kb = (e.k + PK_DOT_K - 1) / PK_DOT_K;
#pragma omp parallel for schedule(static)
  for (idx item = 0; item < ob * kb; item++) {
    const idx o0 = item / kb * PK_DOT_O, r0 = item % kb * PK_DOT_K;
    const idx ro = s->out - o0 < PK_DOT_O ? s->out - o0 : PK_DOT_O,
              rk = e.k - r0 < PK_DOT_K ? e.k - r0 : PK_DOT_K;
    double acc[PK_DOT_O * PK_DOT_K] = {0};
    _Alignas(64) double lanes[PK_DOT_O * PK_DOT_K * 16] = {0}; /* at most 16 lanes of either type */
    idx from[PK_DOT_K], summed = 0;
    for (idx j = 0; j < rk; j++) {
      const idx c = (r0 + j) / taps, q = (r0 + j) % taps;
      from[j] = c * plane + (q / (s->kh * s->kw) * e.hp + q / s->kw % s->kh) * e.wp + q % s->kw;
    }
    for (idx b = 0; b < s->batch; b++)
      for (idx p = 0; p < n; p += DOT_RUN) {
        const idx count = n - p < DOT_RUN ? n - p : DOT_RUN;
        const void *g[PK_DOT_O], *r[PK_DOT_K];
        for (idx i = 0; i < ro; i++) g[i] = pk_at(dyp, stored, (b * s->out + o0 + i) * plane + p);
        for (idx j = 0; j < rk; j++) r[j] = pk_at(xp, stored, b * s->in * plane + from[j] + p);
        conv_dots(ro, rk, count, g, r, lanes);
        if ((summed += count) >= DOT_RUN) k->conv_accumulate_lanes(lanes, acc), summed = 0;
      }
    k->conv_accumulate_lanes(lanes, acc);
    for (idx i = 0; i < ro; i++)
      for (idx j = 0; j < rk; j++) {
        const idx at = (o0 + i) * e.k + r0 + j;
        pk_write(add_dweight, type, at, pk_read(add_dweight, type, at) + acc[i * PK_DOT_K + j]);
      }
  }
  return PK_OK;
}
