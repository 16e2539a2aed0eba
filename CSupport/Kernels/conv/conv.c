#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"
#include "geometry.h"

/* Forward and backward data are one computation, row by row and channels last (conv_rows_body.inc). The source is laid out once with the padding of W
 * in place; padding in T and H is a choice of rows. A result row is a sum over lines: a source row with the weights of one (kt, kh).
 *   forward        y row (t, h): for each (kt, kh) the row of x that padding leads to
 *   backward data  dx row (t, h): for each padded row copied from it, and each (kt, kh) that reads that row, the row of dy; along W the padded
 *                  row is computed and folded; a stride in W is dy spread with zeros between */
#define ROUND(n) (((n) + 15) / 16 * 16)
#define LEAST(a, b) ((a) < (b) ? (a) : (b))
#define ITEM_PIXELS 64

typedef struct {
  int back;
  idx in, out;                     /* channels of the source and of the result */
  idx t, h, w;                     /* planes of the source */
  idx before, gap, pixels;         /* of a laid row */
  idx step, row;                   /* source pixels between two results, pixels computed a row */
  idx to, ho, wo;                  /* planes of the result */
  idx lines;                       /* at most, for one row */
} pass;
static pass pass_of(const pk_conv3d_shape *s, const extents *e, int back) {
  if (!back) return (pass){0, s->in, s->out, s->t, s->h, s->w, s->side, 1, e->wp, s->sw, e->wo, e->to, e->ho, e->wo, s->kt * s->kh};
  return (pass){1, s->out, s->in, e->to, e->ho, e->wo, s->kw - 1, s->sw, e->wp + s->kw - 1, 1, e->wp, s->t, s->h, s->w,
                (s->front + 1) * s->kt * (2 * s->side + 1) * s->kh};
}
typedef struct { idx across, panel, taps, group, source, weights, tile, member; } sizes; /* elements; `across`: whole panels of result channels */
static sizes sizes_of(const pk_conv3d_shape *s, const pass *p) {
  sizes z;
  z.across = (p->out + 31) / 32 * 32, z.taps = s->kt * s->kh;
  z.panel = s->kw * p->in; /* words a column, one (kt, kh) */
  z.group = p->wo >= ITEM_PIXELS ? 1 : LEAST(ITEM_PIXELS / p->wo, p->ho);
  z.source = ROUND(s->batch * p->t * p->h * p->pixels * p->in + 32);
  z.weights = ROUND(z.taps * z.panel * z.across) + z.across; /* and the bias */
  z.tile = ROUND((z.group * p->wo + p->row) * z.across);
  z.member = z.tile + ROUND(4 * p->lines); /* and two pointers a line */
  return z;
}
ptrdiff_t pk_conv3d_scratch(const pk_conv3d_shape *s, int which) {
  extents e;
  if (conv_bad(s, &e)) return 0;
  if (pointwise(s)) {
    const pk_gemm_shape g = pointwise_product(s, which);
    return pk_gemm_scratch(&g);
  }
  if (which == 2) return pk_conv_weights_scratch(s, &e);
  const pass p = pass_of(s, &e, which);
  const sizes z = sizes_of(s, &p);
  return z.source + z.weights + pk_threads() * z.member;
}

/* The lines of result row (t, h): source frame * H + row, and (kt, kh). */
static idx lines_of(const pk_conv3d_shape *s, const extents *e, int back, idx t, idx h, idx *row, idx *tap) {
  idx n = 0;
  if (!back) {
    for (idx kt = 0; kt < s->kt; kt++)
      for (idx kh = 0; kh < s->kh; kh++, n++) {
        const idx f = t * s->st + kt - s->front, y = h * s->sh + kh - s->side;
        row[n] = (f < 0 ? 0 : f) * s->h + (y < 0 ? 0 : y >= s->h ? s->h - 1 : y), tap[n] = kt * s->kh + kh;
      }
    return n;
  }
  for (idx qt = t ? t + s->front : 0; qt <= t + s->front; qt++)
    for (idx qh = h ? h + s->side : 0, end = h == s->h - 1 ? e->hp : h + s->side + 1; qh < end; qh++)
      for (idx kt = 0; kt < s->kt; kt++)
        for (idx kh = 0; kh < s->kh; kh++) {
          const idx f = qt - kt, y = qh - kh;
          if (f < 0 || y < 0) continue;
          const idx at = s->st == 1 ? f : f % s->st ? e->to : f / s->st, line = s->sh == 1 ? y : y % s->sh ? e->ho : y / s->sh; /* a division takes as long as a row of a tile */
          if (at >= e->to || line >= e->ho) continue;
          row[n] = at * e->ho + line, tap[n++] = kt * s->kh + kh;
        }
  return n;
}

static void run(pk_type type, const pk_conv3d_shape *s, const extents *e, int back, const void *source, const void *weight, const void *bias, void *result, void *scratch) {
  const pk_kernels *k = pk_select(type);
  const pk_bf16_kernels *narrow = pk_bf16(type);
  const pk_product *product = narrow ? &narrow->product : &k->product;
  const pk_conv_kernels *conv = narrow ? &narrow->conv : &k->conv;
  const pass p = pass_of(s, e, back);
  const sizes z = sizes_of(s, &p);
  const idx wide = (p.in + product->step - 1) / product->step, row_words = p.pixels * wide, columns = product->columns, deep = s->kw * wide;
  const idx tiles = (p.out + columns - 1) / columns, taps = s->kt * s->kh * s->kw, planes = p.t * p.h * p.w, results = p.to * p.ho * p.wo;
  const idx groups = (p.ho + z.group - 1) / z.group, laid = p.h < 32 ? p.h : 32, bands = (p.h + laid - 1) / laid;
  char *rows = scratch, *panels = pk_at(scratch, type, z.source), *members = pk_at(panels, type, z.weights);
  const idx size = pk_size(type);
  void *biases = bias ? pk_at(panels, type, z.weights - z.across) : NULL;
  for (idx o = 0; bias && o < z.across; o++) pk_write(biases, type, o, o < p.out ? pk_read(bias, type, o) : 0);
#pragma omp parallel
  {
#pragma omp for schedule(static) nowait
    for (idx i = 0; i < s->batch * p.t * bands; i++) {
      const idx b = i / bands / p.t, t = i / bands % p.t, h = i % bands * laid, count = LEAST(p.h - h, laid);
      conv->lay(p.in, count, p.w, pk_at(source, type, b * p.in * planes + (t * p.h + h) * p.w), planes, rows + (((b * p.t + t) * p.h + h) * row_words) * size, row_words,
                p.before, p.gap, p.pixels, !back);
    }
    /* Weights of (kt, kh): panels of result channels, in each the words of (kw, source channel); backward reads the taps of W from the other end. */
#pragma omp for schedule(static)
    for (idx i = 0; i < z.taps * tiles * s->kw; i++) {
      const idx tap = i / s->kw / tiles, tile = i / s->kw % tiles, kw = i % s->kw, left = LEAST(p.out - tile * columns, columns);
      const idx at = tap * s->kw + (back ? s->kw - 1 - kw : kw), per_out = back ? taps : s->in * taps, per_in = back ? s->in * taps : taps;
      product->pack_b(left, p.in, pk_at(weight, type, at + tile * columns * per_out), per_in, per_out, panels + ((tap * tiles + tile) * deep + kw * wide) * columns * size);
    }
    const idx me = omp_get_thread_num();
    char *tile = members + me * z.member * size, *row = tile + z.group * p.wo * z.across * size;
    const void **from = (const void **)(tile + z.tile * size), **with = from + p.lines;
    /* One by one in turn: the first frames have more lines than the last. */
#pragma omp for schedule(static, 1)
    for (idx i = 0; i < s->batch * p.to * groups; i++) {
      const idx b = i / groups / p.to, t = i / groups % p.to, h0 = i % groups * z.group, count = LEAST(p.ho - h0, z.group);
      for (idx h = h0; h < h0 + count; h++) {
        idx line[p.lines], tap[p.lines];
        const idx n = lines_of(s, e, back, t, h, line, tap);
        for (idx j = 0; j < n; j++) from[j] = rows + (b * p.t * p.h + line[j]) * row_words * size, with[j] = panels + tap[j] * tiles * deep * columns * size;
        char *out = tile + (h - h0) * p.wo * z.across * size;
        conv->row(p.row, p.out, n, from, p.step * wide, deep, with, deep * columns, biases, back ? row : out, z.across);
        if (back) conv->fold_row(p.wo, s->side, p.out, row, out, z.across);
      }
      conv->turn(count * p.wo, p.out, tile, z.across, pk_at(result, type, b * p.out * results + (t * p.ho + h0) * p.wo), results);
    }
  }
}

pk_status pk_conv3d_forward(pk_type type, const pk_conv3d_shape *s, const void *x, const void *weight, const void *bias,
                            void *y, void *scratch) {
  const pk_kernels *k = pk_select(type);
  extents e;
  if (!k) return PK_BAD_TYPE;
  if (conv_bad(s, &e)) return PK_BAD_SHAPE;
  if (!pointwise(s)) {
    run(type, s, &e, 0, x, weight, bias, y, scratch);
    return PK_OK;
  }
  const idx pixels = s->t * s->h * s->w;
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

pk_status pk_conv3d_backward_data(pk_type type, const pk_conv3d_shape *s, const void *dy, const void *weight, void *dx, void *scratch) {
  extents e;
  if (!pk_select(type)) return PK_BAD_TYPE;
  if (conv_bad(s, &e)) return PK_BAD_SHAPE;
  if (!pointwise(s)) {
    run(type, s, &e, 1, dy, weight, NULL, dx, scratch);
    return PK_OK;
  }
  const idx pixels = s->t * s->h * s->w;
  for (idx b = 0; b < s->batch; b++) {
    const pk_gemm_shape g = pointwise_product(s, 1);
    pk_gemm(type, &g, weight, pk_at(dy, type, b * s->out * pixels), pk_at(dx, type, b * s->in * pixels), scratch);
  }
  return PK_OK;
}
