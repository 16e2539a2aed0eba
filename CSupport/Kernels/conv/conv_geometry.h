/* Extents of a convolution, shared by its passes. */
#ifndef PK_CONV_GEOMETRY_H
#define PK_CONV_GEOMETRY_H

/* upsampled, of the result, of the padded input; rows of the implicit matrix */
typedef struct {
  idx t, h, w, to, ho, wo, tp, hp, wp, k;
} extents;

static inline int conv_bad(const pk_conv3d_shape *s, extents *e) {
  if (s->batch < 0 || s->in < 1 || s->out < 1 || s->t < 1 || s->h < 1 || s->w < 1 || s->kt < 1 ||
      s->kh < 1 || s->kw < 1)
    return 1;
  if (s->kt > PK_CONV_TAPS || s->kh > PK_CONV_TAPS || s->kw > PK_CONV_TAPS) return 1;
  if (s->st < 1 || s->sh < 1 || s->sw < 1 || s->front < 0 || s->back < 0 || s->side < 0 ||
      s->ft < 1 || s->fh < 1 || s->fw < 1)
    return 1;
  /* every result reads something */
  if (s->zeros && (s->front >= s->kt || s->back >= s->kt || s->side >= s->kh || s->side >= s->kw))
    return 1;
  if (s->ft * s->fh * s->fw > 1 && (s->st * s->sh * s->sw > 1 || s->front + s->back != s->kt - 1 ||
                                    s->kh != 2 * s->side + 1 || s->kw != s->kh))
    return 1;
  e->t = 1 + (s->t - 1) * s->ft, e->h = s->h * s->fh, e->w = s->w * s->fw;
  e->tp = e->t + s->front + s->back, e->hp = e->h + 2 * s->side, e->wp = e->w + 2 * s->side;
  if (e->tp < s->kt || e->hp < s->kh || e->wp < s->kw) return 1;
  e->to = (e->tp - s->kt) / s->st + 1, e->ho = (e->hp - s->kh) / s->sh + 1,
  e->wo = (e->wp - s->kw) / s->sw + 1;
  e->k = s->in * s->kt * s->kh * s->kw;
  return 0;
}

static inline int upsampled(const pk_conv3d_shape *s) { return s->ft * s->fh * s->fw > 1; }

static inline int pointwise(const pk_conv3d_shape *s) {
  return s->kt * s->kh * s->kw == 1 && s->st * s->sh * s->sw == 1 && s->front == 0 &&
         s->back == 0 && s->side == 0 && !upsampled(s);
}

/* A 1x1x1 convolution of one sample as a product: pass 0 forward, 1 backward data, 2 backward
 * weights. */
static inline pk_gemm_shape pointwise_product(const pk_conv3d_shape *s, int pass) {
  const idx n = s->t * s->h * s->w;
  if (pass == 0) return (pk_gemm_shape){s->out, n, s->in, s->in, 1, n, 1, n, 1, 1, 0};
  if (pass == 1) return (pk_gemm_shape){s->in, n, s->out, 1, s->in, n, 1, n, 1, 1, 0};
  return (pk_gemm_shape){s->out, s->in, n, n, 1, 1, n, s->in, 1, 1, 1};
}

idx pk_conv_weights_scratch(const pk_conv3d_shape *s, const extents *e);

typedef struct {
  idx first, last;
} axis_range;

/* T or H. A result reads k neighbours of the source, repeated `factor` times (but for the first of
 * T) and padded by its edges, or by zeros, which are not read. Neighbours that are copies of one
 * source row are one read, with the sum of their weights: a range of taps. */
typedef struct {
  idx n, factor, first, k, stride, pad, results; /* first: 1 where the first is not repeated */
  int merge, zeros;                              /* merge: or else a range for each tap */
  /* how many are used; first * k + last -> its number, -1 if unused */
  idx ranges, id[PK_CONV_TAPS * PK_CONV_TAPS];
  axis_range taps[PK_CONV_TAPS * (PK_CONV_TAPS + 1) / 2];
} axis;

typedef struct {
  idx row, range;
} axis_read;

/* The position that a tap of a result reads, in the repeated source before it is padded. */
static inline idx axis_position(const axis *a, idx result, idx tap) {
  return result * a->stride + tap - a->pad;
}

static inline idx axis_end(const axis *a) {
  return a->first ? (a->n - 1) * a->factor : a->n * a->factor - 1;
}

/* Whether a tap reads a zero of the padding. */
static inline int axis_is_zero(const axis *a, idx result, idx tap) {
  const idx q = axis_position(a, result, tap);
  return a->zeros && (q < 0 || q > axis_end(a));
}

/* The row of the source that a tap reads, or the nearest one. */
static inline idx axis_source(const axis *a, idx result, idx tap) {
  const idx end = axis_end(a), q = axis_position(a, result, tap), p = q < 0 ? 0 : q > end ? end : q;
  return a->factor == 1 ? p : a->first ? (p + a->factor - 1) / a->factor : p / a->factor;
}

/* The ranges of taps of a result, in order: returns how many, at most k; row is the source. Numbers
 * are those of `id`, or first * k + last before they are known. */
static inline idx axis_ranges(const axis *a, idx result, axis_read *out) {
  idx n = 0;
  for (idx from = 0, to; from < a->k; from = to) {
    const idx source = axis_source(a, result, from);
    to = from + 1;
    if (axis_is_zero(a, result, from)) continue;
    while (a->merge && to < a->k && axis_source(a, result, to) == source &&
           !axis_is_zero(a, result, to))
      to++;
    const idx code = from * a->k + to - 1;
    out[n++] = (axis_read){source, a->ranges ? a->id[code] : code};
  }
  return n;
}

static inline axis axis_of(idx n, idx factor, idx first, idx k, idx stride, idx pad, idx results,
                           int merge, int zeros) {
  axis a = {n, factor, first, k, stride, pad, results, merge, zeros, 0, {0}, {{0, 0}}};
  idx used = 0;
  axis_read reads[PK_CONV_TAPS];
  for (idx i = 0; i < k * k; i++) a.id[i] = -1;
  for (idx r = 0; r < results; r++)
    for (idx j = 0, m = axis_ranges(&a, r, reads); j < m; j++) {
      const idx code = reads[j].range;
      if (a.id[code] >= 0) continue;
      a.taps[used] = (axis_range){code / k, code % k}, a.id[code] = used++;
    }
  a.ranges = used;
  return a;
}

/* Rows of the other side that row reads (forward: a result reads sources; back: a source is read by
 * results): none outside [first, last], and both rise with row. */
static inline void axis_reach(const axis *a, int back, idx row, idx *first, idx *last) {
  if (!back) {
    *first = axis_source(a, row, 0), *last = axis_source(a, row, a->k - 1);
    return;
  }
  const idx from = a->first && row ? 1 + (row - 1) * a->factor : row * a->factor,
            to = a->first ? row * a->factor : from + a->factor - 1;
  const idx low = from + a->pad - a->k + 1, high = (to + a->pad) / a->stride;
  *first = row == 0 || low < 0 ? 0 : (low + a->stride - 1) / a->stride,
  *last = row == a->n - 1 || high >= a->results ? a->results - 1 : high;
}

/* What row reads: returns how many, at most axis_most. */
static inline idx axis_reads(const axis *a, int back, idx row, axis_read *out) {
  if (!back) return axis_ranges(a, row, out);
  axis_read reads[PK_CONV_TAPS];
  idx first, last, n = 0;
  axis_reach(a, 1, row, &first, &last);
  for (idx r = first; r <= last; r++)
    for (idx j = 0, m = axis_ranges(a, r, reads); j < m; j++)
      if (reads[j].row == row) out[n++] = (axis_read){r, reads[j].range};
  return n;
}

/* Most rows that `count` neighbouring rows, starting at a multiple of it, reach together. */
static inline idx axis_span(const axis *a, int back, idx count) {
  idx most = 0;
  for (idx row = 0, rows = back ? a->n : a->results; row < rows; row += count) {
    idx first, last, skip;
    axis_reach(a, back, row, &first, &skip),
        axis_reach(a, back, row + count < rows ? row + count - 1 : rows - 1, &skip, &last);
    if (last - first + 1 > most) most = last - first + 1;
  }
  return most;
}

static inline idx axis_most(const axis *a, int back) {
  return back ? axis_span(a, 1, 1) * (a->merge ? 1 : a->k) : a->k;
}
#endif
