#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"

/* Everything is computed on the padded grid: a filter tap is then a constant offset, so a row of the implicit matrix is
 * the padded input itself, shifted. Strided convolutions gather COLUMN_PIXELS pixels at a time into columns instead.
 * Derivation: ../README.md. */
#define COLUMN_PIXELS 512
#define SLACK 128 /* elements readable past the end of a padded array: whole vectors, and the largest tap of the last row */
#define DOT_RUN 4096 /* elements summed in one type's lanes before they are folded into doubles */
#define ROUND(n) (((n) + 15) / 16 * 16)

typedef struct { idx to, ho, wo, tp, hp, wp, k; } extents;
static int conv_bad(const pk_conv3d_shape *s, extents *e) {
  if (s->batch < 0 || s->in < 1 || s->out < 1 || s->t < 1 || s->h < 1 || s->w < 1 || s->kt < 1 || s->kh < 1 || s->kw < 1) return 1;
  if (s->st < 1 || s->sh < 1 || s->sw < 1 || s->front < 0 || s->side < 0) return 1;
  e->tp = s->t + s->front, e->hp = s->h + 2 * s->side, e->wp = s->w + 2 * s->side;
  if (e->tp < s->kt || e->hp < s->kh || e->wp < s->kw) return 1;
  e->to = (e->tp - s->kt) / s->st + 1, e->ho = (e->hp - s->kh) / s->sh + 1, e->wo = (e->wp - s->kw) / s->sw + 1;
  e->k = s->in * s->kt * s->kh * s->kw;
  return 0;
}
static int pointwise(const pk_conv3d_shape *s) {
  return s->kt * s->kh * s->kw == 1 && s->st * s->sh * s->sw == 1 && s->front == 0 && s->side == 0;
}
/* A 1x1x1 convolution of one sample as a product: pass 0 forward, 1 backward data, 2 backward weights. */
static pk_gemm_shape pointwise_product(const pk_conv3d_shape *s, int pass) {
  const idx n = s->t * s->h * s->w;
  if (pass == 0) return (pk_gemm_shape){s->out, n, s->in, s->in, 1, n, 1, n, 1, 1, 0};
  if (pass == 1) return (pk_gemm_shape){s->in, n, s->out, 1, s->in, n, 1, n, 1, 1, 0};
  return (pk_gemm_shape){s->out, s->in, n, n, 1, 1, n, s->in, 1, 1, 1};
}
static idx slack(const extents *e) { return SLACK + 3 * e->hp * e->wp; }

/* The inner product over a padded source: out[b, o, t, h, w] for the grid (to, ho, wo) with strides (st, sh, sw). */
typedef struct {
  idx batch, in, out, to, ho, wo, st, sh, sw;
  idx tp, hp, wp;         /* extents of the padded source */
  idx kt, kh, kw;
  idx out_t, out_h, out_w; /* extents of the destination planes; the grid fills their corner */
  idx first, end;          /* padded source frames outside [first, end) are zero: their taps are skipped */
} grid;
static idx packed_size(const pk_kernels *k, idx out, idx rows) { return (out + k->conv_rows - 1) / k->conv_rows * k->conv_rows * rows; }
static idx source_size(const grid *g) { return ROUND(g->batch * g->in * g->tp * g->hp * g->wp + SLACK + 3 * g->hp * g->wp); }
static idx grid_scratch(pk_type type, const pk_kernels *k, const grid *g) {
  const idx pairs = pk_bf16(type) ? source_size(g) : 0; /* half of it when the channels are even */
  const idx rows = g->in * g->kt * g->kh * g->kw, columns = g->st * g->sh * g->sw > 1 ? rows * (COLUMN_PIXELS + SLACK) : 0;
  return pairs + ROUND(2 * rows) + ROUND(packed_size(k, g->out, rows)) + pk_threads() * (ROUND(k->conv_rows * k->conv_pixels) + ROUND(columns));
}

/* Rows of the implicit matrix are ordered (kt, c, kh, kw), so that the taps of a few frames are a contiguous run.
 * packed[(o / MR), row, o % MR]; flip reads W[in, out, taps reversed] instead of W[out, in, taps] (for backward data). */
static void pack_weights(pk_type type, const pk_kernels *k, const grid *g, const void *w, int flip, void *packed) {
  const idx taps = g->kt * g->kh * g->kw, plane = g->kh * g->kw, rows = g->in * taps, mr = k->conv_rows;
  for (idx o = 0; o < (g->out + mr - 1) / mr * mr; o++)
    for (idx c = 0; c < g->in; c++)
      for (idx q = 0; q < taps; q++) {
        const double v = o >= g->out ? 0 : flip ? pk_read(w, type, (c * g->out + o) * taps + taps - 1 - q) : pk_read(w, type, (o * g->in + c) * taps + q);
        pk_write(packed, type, (o / mr * rows + (q / plane * g->in + c) * plane + q % plane) * mr + o % mr, v);
      }
}

/* The same for bf16 pairs of channels: packed[(o / MR), (kt, c / 2, kh, kw), o % MR], one word for channels c and c + 1. */
static void pack_weight_pairs(const pk_bf16_kernels *narrow, idx mr, const grid *g, const float *w, int flip, uint32_t *packed) {
  const idx taps = g->kt * g->kh * g->kw, plane = g->kh * g->kw, half = (g->in + 1) / 2, rows = half * taps;
  float even[16], odd[16];
  for (idx o = 0; o < (g->out + mr - 1) / mr * mr; o += mr)
    for (idx c = 0; c < half; c++)
      for (idx q = 0; q < taps; q++) {
        for (idx i = 0; i < mr; i++) {
          const idx from = flip ? (2 * c * g->out + o + i) * taps + taps - 1 - q : ((o + i) * g->in + 2 * c) * taps + q, next = flip ? g->out * taps : taps;
          even[i] = o + i < g->out ? w[from] : 0;
          odd[i] = o + i < g->out && 2 * c + 1 < g->in ? w[from + next] : 0;
        }
        narrow->pair_rows(mr, even, odd, packed + (o / mr * rows + (q / plane * half + c) * plane + q % plane) * mr);
      }
}
/* Channels two and two: words [batch, in / 2, tp, hp, wp], and slack of zeros. */
static void pair_channels(const pk_bf16_kernels *narrow, const grid *g, const float *x, uint32_t *words) {
  const idx half = (g->in + 1) / 2, plane = g->tp * g->hp * g->wp;
#pragma omp parallel for schedule(static)
  for (idx r = 0; r < g->batch * half; r++) {
    const idx b = r / half, c = 2 * (r % half);
    narrow->pair_rows(plane, x + (b * g->in + c) * plane, c + 1 < g->in ? x + (b * g->in + c + 1) * plane : NULL, words + r * plane);
  }
  memset(words + g->batch * half * plane, 0, (size_t)(SLACK + 3 * g->hp * g->wp) * 4);
}

static void store_tile(pk_type type, idx count, const void *tile, idx p0, idx row_stride, const grid *g, double bias, void *plane) {
  for (idx p = 0; p < count;) {
    const idx h = (p0 + p) / row_stride, w = (p0 + p) % row_stride;
    if (h >= g->ho) return;
    idx run = row_stride - w < count - p ? row_stride - w : count - p;
    const idx valid = w >= g->wo ? 0 : g->wo - w < run ? g->wo - w : run;
    if (type == PK_F64) {
      const double *t = (const double *)tile + p; double *y = (double *)plane + h * g->out_w + w;
      for (idx i = 0; i < valid; i++) y[i] = t[i] + bias;
    } else {
      const float *t = (const float *)tile + p, fb = (float)bias; float *y = (float *)plane + h * g->out_w + w;
      for (idx i = 0; i < valid; i++) y[i] = t[i] + fb;
    }
    p += run;
  }
}

static void gather_columns(pk_type type, const grid *g, const void *frame, idx p0, idx count, void *columns, idx ld) {
  idx row = 0;
  for (idx kt = 0; kt < g->kt; kt++)
    for (idx c = 0; c < g->in; c++)
      for (idx kh = 0; kh < g->kh; kh++)
        for (idx kw = 0; kw < g->kw; kw++, row++) {
          const idx base = ((c * g->tp + kt) * g->hp + kh) * g->wp + kw;
          for (idx p = 0; p < count; p++) {
            const idx at = base + (p0 + p) / g->wo * g->sh * g->wp + (p0 + p) % g->wo * g->sw;
            if (type == PK_F64) ((double *)columns)[row * ld + p] = ((const double *)frame)[at];
            else ((float *)columns)[row * ld + p] = ((const float *)frame)[at];
          }
        }
}

static void run_grid(pk_type type, const pk_kernels *k, const grid *of, const void *source, const void *w, int flip,
                     const void *bias, void *out, void *scratch) {
  grid words = *of;
  const grid *g = &words;
  const pk_bf16_kernels *narrow = pk_bf16(type);
  if (narrow) {
    pair_channels(narrow, of, source, scratch);
    source = scratch, scratch = pk_at(scratch, type, source_size(of));
    words.in = (of->in + 1) / 2;
  }
  const idx rows = g->in * g->kt * g->kh * g->kw, mr = k->conv_rows, strided = g->st * g->sh * g->sw > 1;
  idx *offsets = scratch;
  void *packed = pk_at(scratch, type, ROUND(2 * rows)), *threads = pk_at(packed, type, ROUND(packed_size(k, g->out, rows)));
  const idx ld_columns = COLUMN_PIXELS + SLACK;
  const idx per_thread = ROUND(mr * k->conv_pixels) + ROUND(strided ? rows * ld_columns : 0);
  if (narrow) pack_weight_pairs(narrow, mr, of, w, flip, packed);
  else pack_weights(type, k, g, w, flip, packed);
  void (*conv_block)(idx, idx, idx, const void *, const void *, const idx *, void *, idx) = narrow ? narrow->conv_block : k->conv_block;
  for (idx kt = 0, r = 0; kt < g->kt; kt++)
    for (idx c = 0; c < g->in; c++)
      for (idx kh = 0; kh < g->kh; kh++)
        for (idx kw = 0; kw < g->kw; kw++, r++) offsets[r] = strided ? r * ld_columns : ((c * g->tp + kt) * g->hp + kh) * g->wp + kw;
  const idx row_stride = strided ? g->wo : g->wp, pixels = (g->ho - 1) * row_stride + g->wo;
  const idx block = strided ? COLUMN_PIXELS : k->conv_pixels, blocks = (pixels + block - 1) / block;
  const idx frame = g->hp * g->wp, sample = g->in * g->tp * frame, plane = g->out_h * g->out_w;
#pragma omp parallel for schedule(static)
  for (idx item = 0; item < g->batch * g->to * blocks; item++) {
    const idx b = item / blocks / g->to, t = item / blocks % g->to, p0 = item % blocks * block;
    const idx count = pixels - p0 < block ? pixels - p0 : block;
    void *tile = pk_at(threads, type, omp_get_thread_num() * per_thread), *columns = pk_at(tile, type, ROUND(mr * k->conv_pixels));
    const void *x = pk_at(source, type, b * sample + t * g->st * frame + (strided ? 0 : p0));
    const idx t0 = t * g->st, lo = g->first > t0 ? g->first - t0 : 0, hi = g->end - t0 < g->kt ? g->end - t0 : g->kt;
    const idx skip = lo * (rows / g->kt), used = hi > lo ? (hi - lo) * (rows / g->kt) : 0;
    if (strided) gather_columns(type, g, x, p0, count, columns, ld_columns);
    for (idx q = 0; q < count; q += k->conv_pixels) {
      const idx n = count - q < k->conv_pixels ? count - q : k->conv_pixels;
      for (idx o = 0; o < g->out; o += mr) {
        conv_block(mr, n, used, pk_at(packed, type, o * rows + skip * mr), strided ? pk_at(columns, type, q) : x, offsets + skip, tile, k->conv_pixels);
        for (idx i = 0; i < mr && o + i < g->out; i++)
          store_tile(type, n, pk_at(tile, type, i * k->conv_pixels), p0 + q, row_stride, g, bias ? pk_read(bias, type, o + i) : 0,
                     pk_at(out, type, ((b * g->out + o + i) * g->out_t + t) * plane));
      }
    }
  }
}

/* Edge replication of every plane: out [planes, tp, hp, wp]. */
static void pad_replicate(pk_type type, idx planes, idx t, idx h, idx w, idx front, idx side, const void *x, void *out, idx spare) {
  const idx tp = t + front, hp = h + 2 * side, wp = w + 2 * side;
#pragma omp parallel for schedule(static)
  for (idx r = 0; r < planes * tp; r++) {
    const idx p = r / tp, f = r % tp - front < 0 ? 0 : r % tp - front;
    for (idx i = 0; i < hp; i++) {
      const idx y = i - side < 0 ? 0 : i - side >= h ? h - 1 : i - side;
      const char *src = pk_at(x, type, ((p * t + f) * h + y) * w);
      char *dst = pk_at(out, type, (r * hp + i) * wp);
      const size_t z = (size_t)pk_size(type);
      for (idx j = 0; j < side; j++) memcpy(dst + (size_t)j * z, src, z), memcpy(dst + (size_t)(side + w + j) * z, src + (size_t)(w - 1) * z, z);
      memcpy(dst + (size_t)side * z, src, (size_t)w * z);
    }
  }
  memset(pk_at(out, type, planes * tp * hp * wp), 0, (size_t)(spare * pk_size(type)));
}

/* dy placed on a zero grid [planes, tt, hh, ww] with steps (st, sh, sw) from origin (ot, oh, ow). */
static void place(pk_type type, idx planes, idx t, idx h, idx w, const void *dy, idx tt, idx hh, idx ww, idx st, idx sh, idx sw,
                  idx ot, idx oh, idx ow, void *out, idx spare) {
#pragma omp parallel for schedule(static)
  for (idx p = 0; p < planes; p++) {
    memset(pk_at(out, type, p * tt * hh * ww), 0, (size_t)(tt * hh * ww * pk_size(type)));
    for (idx f = 0; f < t; f++)
      for (idx i = 0; i < h; i++) {
        const void *src = pk_at(dy, type, ((p * t + f) * h + i) * w);
        void *dst = pk_at(out, type, ((p * tt + ot + f * st) * hh + oh + i * sh) * ww + ow);
        if (sw == 1) memcpy(dst, src, (size_t)(w * pk_size(type)));
        else if (type == PK_F64) for (idx j = 0; j < w; j++) ((double *)dst)[j * sw] = ((const double *)src)[j];
        else for (idx j = 0; j < w; j++) ((float *)dst)[j * sw] = ((const float *)src)[j];
      }
  }
  memset(pk_at(out, type, planes * tt * hh * ww), 0, (size_t)(spare * pk_size(type)));
}

#define FOLD(T)                                                                                                     \
  static void fold_##T(idx t, idx h, idx w, idx front, idx side, const T *dxp, T *dx) {                              \
    const idx tp = t + front, hp = h + 2 * side, wp = w + 2 * side;                                                  \
    memset(dx, 0, (size_t)(t * h * w) * sizeof(T));                                                                  \
    for (idx f = 0; f < tp; f++)                                                                                     \
      for (idx i = 0; i < hp; i++) {                                                                                 \
        const idx ft = f < front ? 0 : f - front, y = i < side ? 0 : i - side >= h ? h - 1 : i - side;               \
        const T *src = dxp + (f * hp + i) * wp;                                                                      \
        T *dst = dx + (ft * h + y) * w;                                                                              \
        for (idx j = 0; j < side; j++) dst[0] += src[j], dst[w - 1] += src[side + w + j];                            \
        for (idx j = 0; j < w; j++) dst[j] += src[side + j];                                                         \
      }                                                                                                              \
  }
FOLD(float)
FOLD(double)

static grid forward_grid(const pk_conv3d_shape *s, const extents *e) {
  return (grid){s->batch, s->in, s->out, e->to, e->ho, e->wo, s->st, s->sh, s->sw, e->tp, e->hp, e->wp, s->kt, s->kh, s->kw, e->to, e->ho, e->wo, 0, e->tp};
}
/* Backward data as a stride-1 convolution of the zero-padded, dilated dy with flipped weights. */
static grid backward_grid(const pk_conv3d_shape *s, const extents *e) {
  const idx dt = (e->to - 1) * s->st + 1, dh = (e->ho - 1) * s->sh + 1, dw = (e->wo - 1) * s->sw + 1;
  return (grid){s->batch, s->out, s->in, dt + s->kt - 1, dh + s->kh - 1, dw + s->kw - 1, 1, 1, 1,
                dt + 2 * (s->kt - 1), dh + 2 * (s->kh - 1), dw + 2 * (s->kw - 1), s->kt, s->kh, s->kw, e->tp, e->hp, e->wp, s->kt - 1, s->kt - 1 + dt};
}
static idx padded_size(const pk_conv3d_shape *s, const extents *e) { return ROUND(s->batch * s->in * e->tp * e->hp * e->wp + slack(e)); }
static idx dilated_size(const grid *g) { return ROUND(g->batch * g->in * g->tp * g->hp * g->wp + SLACK + 3 * g->hp * g->wp); }

ptrdiff_t pk_conv3d_scratch(const pk_conv3d_shape *s, int pass) {
  extents e;
  if (conv_bad(s, &e)) return 0;
  if (pointwise(s)) {
    const pk_gemm_shape g = pointwise_product(s, pass);
    return pk_gemm_scratch(&g);
  }
  idx most = 0;
  const pk_type types[2] = {PK_F32, PK_F64};
  const pk_kernels *variants[2] = {pk_select(PK_F32), pk_select(PK_F64)};
  for (int v = 0; v < 2; v++) {
    grid f = forward_grid(s, &e), b = backward_grid(s, &e);
    const idx n = pass == 0   ? padded_size(s, &e) + grid_scratch(types[v], variants[v], &f)
                  : pass == 1 ? dilated_size(&b) + padded_size(s, &e) + grid_scratch(types[v], variants[v], &b)
                              : (pk_bf16(types[v]) ? 2 : 1) * (padded_size(s, &e) + ROUND(s->batch * s->out * e.tp * e.hp * e.wp + slack(&e)));
    if (n > most) most = n;
  }
  return most;
}

pk_status pk_conv3d_forward(pk_type type, const pk_conv3d_shape *s, const void *x, const void *weight, const void *bias,
                            void *y, void *scratch) {
  const pk_kernels *k = pk_select(type);
  extents e;
  if (!k) return PK_BAD_TYPE;
  if (conv_bad(s, &e)) return PK_BAD_SHAPE;
  const idx pixels = s->t * s->h * s->w;
  if (pointwise(s)) {
    for (idx b = 0; b < s->batch; b++) {
      const pk_gemm_shape g = pointwise_product(s, 0);
      pk_gemm(type, &g, weight, pk_at(x, type, b * s->in * pixels), pk_at(y, type, b * s->out * pixels), scratch);
    }
    if (bias)
#pragma omp parallel for schedule(static)
      for (idx r = 0; r < s->batch * s->out; r++)
        k->affine_clamp_forward(pixels, 1, pk_read(bias, type, r % s->out), -INFINITY, INFINITY, pk_at(y, type, r * pixels), pk_at(y, type, r * pixels));
    return PK_OK;
  }
  grid g = forward_grid(s, &e);
  pad_replicate(type, s->batch * s->in, s->t, s->h, s->w, s->front, s->side, x, scratch, slack(&e));
  run_grid(type, k, &g, scratch, weight, 0, bias, y, pk_at(scratch, type, padded_size(s, &e)));
  return PK_OK;
}

pk_status pk_conv3d_backward_data(pk_type type, const pk_conv3d_shape *s, const void *dy, const void *weight, void *dx, void *scratch) {
  const pk_kernels *k = pk_select(type);
  extents e;
  if (!k) return PK_BAD_TYPE;
  if (conv_bad(s, &e)) return PK_BAD_SHAPE;
  const idx pixels = s->t * s->h * s->w;
  if (pointwise(s)) {
    for (idx b = 0; b < s->batch; b++) {
      const pk_gemm_shape g = pointwise_product(s, 1);
      pk_gemm(type, &g, weight, pk_at(dy, type, b * s->out * pixels), pk_at(dx, type, b * s->in * pixels), scratch);
    }
    return PK_OK;
  }
  grid g = backward_grid(s, &e);
  void *dxp = pk_at(scratch, type, dilated_size(&g)), *rest = pk_at(dxp, type, padded_size(s, &e));
  place(type, s->batch * s->out, e.to, e.ho, e.wo, dy, g.tp, g.hp, g.wp, s->st, s->sh, s->sw, s->kt - 1, s->kh - 1, s->kw - 1, scratch,
        SLACK + 3 * g.hp * g.wp);
  if (g.to < e.tp || g.ho < e.hp || g.wo < e.wp) memset(dxp, 0, (size_t)(padded_size(s, &e) * pk_size(type)));
  run_grid(type, k, &g, scratch, weight, 1, NULL, dxp, rest);
#pragma omp parallel for schedule(static)
  for (idx p = 0; p < s->batch * s->in; p++) {
    void *from = pk_at(dxp, type, p * e.tp * e.hp * e.wp), *to = pk_at(dx, type, p * pixels);
    if (type == PK_F64) fold_double(s->t, s->h, s->w, s->front, s->side, from, to);
    else fold_float(s->t, s->h, s->w, s->front, s->side, from, to);
  }
  return PK_OK;
}

pk_status pk_conv3d_backward_weights(pk_type type, const pk_conv3d_shape *s, const void *dy, const void *x, void *add_dweight,
                                     void *add_dbias, void *scratch) {
  const pk_kernels *k = pk_select(type);
  extents e;
  if (!k) return PK_BAD_TYPE;
  if (conv_bad(s, &e)) return PK_BAD_SHAPE;
  const idx out_pixels = e.to * e.ho * e.wo;
  if (add_dbias)
#pragma omp parallel for schedule(static)
    for (idx o = 0; o < s->out; o++) {
      double sum = 0;
      for (idx b = 0; b < s->batch; b++) sum += k->dot(out_pixels, pk_at(dy, type, (b * s->out + o) * out_pixels), NULL);
      pk_write(add_dbias, type, o, pk_read(add_dbias, type, o) + sum);
    }
  if (!add_dweight) return PK_OK;
  if (pointwise(s)) {
    for (idx b = 0; b < s->batch; b++) {
      const pk_gemm_shape g = pointwise_product(s, 2);
      pk_gemm(type, &g, pk_at(dy, type, b * s->out * out_pixels), pk_at(x, type, b * s->in * out_pixels), add_dweight, scratch);
    }
    return PK_OK;
  }
  void *xp = scratch, *dyp = pk_at(scratch, type, padded_size(s, &e));
  pad_replicate(type, s->batch * s->in, s->t, s->h, s->w, s->front, s->side, x, xp, slack(&e));
  place(type, s->batch * s->out, e.to, e.ho, e.wo, dy, e.tp, e.hp, e.wp, s->st, s->sh, s->sw, 0, 0, 0, dyp, slack(&e));
  const idx taps = s->kt * s->kh * s->kw, plane = e.tp * e.hp * e.wp, n = ((e.to - 1) * s->st + 1) * e.hp * e.wp;
  const pk_bf16_kernels *narrow = pk_bf16(type);
  if (narrow) {
    const idx nx = padded_size(s, &e), ny = ROUND(s->batch * s->out * plane + slack(&e));
    uint16_t *x16 = pk_at(dyp, type, ny), *dy16 = x16 + nx;
#pragma omp parallel for schedule(static)
    for (idx i = 0; i < PK_BLOCKS; i++) {
      narrow->narrow(PK_HI(i, nx) - PK_LO(i, nx), (float *)xp + PK_LO(i, nx), x16 + PK_LO(i, nx));
      narrow->narrow(PK_HI(i, ny) - PK_LO(i, ny), (float *)dyp + PK_LO(i, ny), dy16 + PK_LO(i, ny));
    }
    xp = x16, dyp = dy16;
  }
  const pk_type stored = narrow ? PK_BF16 : type;
  void (*conv_dots)(idx, idx, idx, const void *const *, const void *const *, void *) = narrow ? narrow->conv_dots : k->conv_dots;
  const idx ob = (s->out + PK_DOT_O - 1) / PK_DOT_O, kb = (e.k + PK_DOT_K - 1) / PK_DOT_K;
#pragma omp parallel for schedule(static)
  for (idx item = 0; item < ob * kb; item++) {
    const idx o0 = item / kb * PK_DOT_O, r0 = item % kb * PK_DOT_K;
    const idx ro = s->out - o0 < PK_DOT_O ? s->out - o0 : PK_DOT_O, rk = e.k - r0 < PK_DOT_K ? e.k - r0 : PK_DOT_K;
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
        if ((summed += count) >= DOT_RUN) k->conv_fold(lanes, acc), summed = 0;
      }
    k->conv_fold(lanes, acc);
    for (idx i = 0; i < ro; i++)
      for (idx j = 0; j < rk; j++) {
        const idx at = (o0 + i) * e.k + r0 + j;
        pk_write(add_dweight, type, at, pk_read(add_dweight, type, at) + acc[i * PK_DOT_K + j]);
      }
  }
  return PK_OK;
}

#define UPSAMPLE(T)                                                                                                      \
  static void up_##T(idx t, idx h, idx w, idx ft, idx fh, idx fw, const T *x, T *y) {                                    \
    for (idx f = 0; f < 1 + (t - 1) * ft; f++)                                                                           \
      for (idx i = 0; i < h * fh; i++) {                                                                                 \
        const T *src = x + ((f == 0 ? 0 : 1 + (f - 1) / ft) * h + i / fh) * w;                                           \
        T *dst = y + (f * h * fh + i) * w * fw;                                                                          \
        for (idx j = 0; j < w; j++)                                                                                      \
          for (idx q = 0; q < fw; q++) dst[j * fw + q] = src[j];                                                         \
      }                                                                                                                  \
  }                                                                                                                      \
  static void down_##T(idx t, idx h, idx w, idx ft, idx fh, idx fw, const T *dy, T *dx) {                                \
    memset(dx, 0, (size_t)(t * h * w) * sizeof(T));                                                                      \
    for (idx f = 0; f < 1 + (t - 1) * ft; f++)                                                                           \
      for (idx i = 0; i < h * fh; i++) {                                                                                 \
        T *dst = dx + ((f == 0 ? 0 : 1 + (f - 1) / ft) * h + i / fh) * w;                                                \
        const T *src = dy + (f * h * fh + i) * w * fw;                                                                   \
        for (idx j = 0; j < w; j++)                                                                                      \
          for (idx q = 0; q < fw; q++) dst[j] += src[j * fw + q];                                                        \
      }                                                                                                                  \
  }
UPSAMPLE(float)
UPSAMPLE(double)
static int upsample_bad(idx planes, idx t, idx h, idx w, idx ft, idx fh, idx fw) {
  return planes < 0 || t < 1 || h < 1 || w < 1 || ft < 1 || fh < 1 || fw < 1;
}
pk_status pk_upsample_forward(pk_type type, idx planes, idx t, idx h, idx w, idx ft, idx fh, idx fw, const void *x, void *y) {
  if (upsample_bad(planes, t, h, w, ft, fh, fw)) return PK_BAD_SHAPE;
  const idx from = t * h * w, to = (1 + (t - 1) * ft) * h * fh * w * fw;
#pragma omp parallel for schedule(static)
  for (idx p = 0; p < planes; p++) {
    if (type == PK_F64) up_double(t, h, w, ft, fh, fw, pk_at(x, type, p * from), pk_at(y, type, p * to));
    else up_float(t, h, w, ft, fh, fw, pk_at(x, type, p * from), pk_at(y, type, p * to));
  }
  return PK_OK;
}
pk_status pk_upsample_backward(pk_type type, idx planes, idx t, idx h, idx w, idx ft, idx fh, idx fw, const void *dy, void *dx) {
  if (upsample_bad(planes, t, h, w, ft, fh, fw)) return PK_BAD_SHAPE;
  const idx from = t * h * w, to = (1 + (t - 1) * ft) * h * fh * w * fw;
#pragma omp parallel for schedule(static)
  for (idx p = 0; p < planes; p++) {
    if (type == PK_F64) down_double(t, h, w, ft, fh, fw, pk_at(dy, type, p * to), pk_at(dx, type, p * from));
    else down_float(t, h, w, ft, fh, fw, pk_at(dy, type, p * to), pk_at(dx, type, p * from));
  }
  return PK_OK;
}
