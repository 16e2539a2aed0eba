#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"
#include "../isa/work_stealing.h"
#include "conv_geometry.h"

/* Forward and backward data are one computation, row by row and channels last (conv_pack_body.inc).
 * A result row (t, h) is a sum over lines, each a source row with the weights of some of the taps
 * (kt, kh):
 *   forward        the rows of x that y(t, h) reads backward data  the rows of dy that read x(t, h)
 *   Upsampling and padding are choices of rows; taps that lead to the same row are one line with
 *   the sum of their weights (conv_geometry.h). Along W a line is one or more components, each a gemm
 *   over `taps` neighbouring pixels of a laid row:
 *   forward        one, or one for each phase of the upsampled pixels backward data  one, over dy
 *   spread by its stride; a padded row is computed and folded onto its edges minimal        six,
 *   for four neighbouring results of three taps: F(4, 3) of Winograd's minimal filtering
 *   (conv_winograd_body.inc);
 *                  where weights are small, rows go in pairs, and a pair has 24: F(2, 3) along H on
 *                  top
 * A member of the team lays the rows it reads for a band of rows, frame by frame into a ring, and
 * so waits for nobody. */
#define ITEM_PIXELS 64 /* result pixels turned at once, at least */
/* and computed at once by minimal filtering, where their rows have the same lines */
#define ITEM_MINIMAL 96
#define PAIR_TILES 44 /* tiles of pairs computed at once */
#define PAIR_LEAST 32 /* backward, of small planes too much is border */
/* weights of a tap up to which rows go in pairs: 24 components of them are read again for each tile
 */
#define PAIR_WEIGHTS 8192
/* words of laid rows a member should not exceed: they are read again from the second level of cache
 */
#define RING 131072
#define LAID 16384 /* words laid before they are transformed */

typedef struct {
  int back, minimal, pairs;
  idx batch, in, out;
  axis t, h;
  idx sources, sh, sw;        /* planes of the source: frames, rows, pixels */
  idx to, ho, wo;             /* planes of the result */
  idx components, taps, step; /* along W; source pixels from one result to the next */
  idx before, gap, pixels;    /* of a laid row */
  idx row, edge;              /* results of a component, pixels folded onto each edge */
  idx phases, side, kw;
  idx lines, frames; /* at most, for one row; frames of the ring */
  /* along H: rows of the result, or pairs of them (backward: of padded rows) */
  idx units;
  idx band, bands, parts; /* units of an item; items along H and T */
  idx group;              /* units turned at once */
} pass;

static idx floor_of(idx a, idx b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

/* Source rows that a band of units reaches, at most, and words of a frame of its ring. */
static idx reached(const pass *p, idx units) {
  return p->pairs ? MIN(2 * units + 2, p->sh) : axis_span(&p->h, p->back, units);
}

static idx frame_words(const pass *p, idx units) {
  return (p->pairs ? 24 * units * p->row
                   : reached(p, units) * (p->minimal ? 6 * p->row : p->pixels)) *
         p->in;
}

static pass pass_of(const pk_conv3d_shape *s, const extents *e, int back, int minimal) {
  pass p = {.back = back,
            .batch = s->batch,
            .in = back ? s->out : s->in,
            .out = back ? s->in : s->out,
            .side = s->side,
            .kw = s->kw,
            .phases = s->fw};
  p.t = axis_of(s->t, s->ft, 1, s->kt, s->st, s->front, e->to, 1);
  p.h = axis_of(s->h, s->fh, 0, s->kh, s->sh, s->side, e->ho, s->fh > 1);
  p.sources = back ? e->to : s->t, p.sh = back ? e->ho : s->h, p.sw = back ? e->wo : s->w;
  p.to = back ? s->t : e->to, p.ho = back ? s->h : e->ho, p.wo = back ? s->w : e->wo;
  const idx edge = (s->side + s->fw - 1) / s->fw;
  p.edge = back ? edge : 0, p.gap = back ? s->sw : 1,
  p.row = back        ? s->w + 2 * edge
          : s->fw > 1 ? s->w
                      : e->wo;
  p.minimal = minimal && s->kw == 3 && s->sw == 1 && s->fw == 1 && p.row >= 4;
  p.components = p.minimal ? 6 : back ? 1 : s->fw, p.step = p.minimal ? 1 : back ? s->fw : s->sw;
  if (back)
    p.taps = s->fw + s->kw - 1, p.before = s->fw * edge + s->kw - 1 - s->side,
    p.pixels = s->fw * (p.row - 1) + p.taps;
  else {
    p.before = edge, p.taps = 1;
    for (idx q = 0; q < s->fw; q++)
      p.taps =
          MAX(p.taps, floor_of(q + s->kw - 1 - s->side, s->fw) - floor_of(q - s->side, s->fw) + 1);
    p.pixels =
        MAX(s->w + 2 * edge, (p.row - 1) * p.step + p.taps + floor_of(s->fw - 1 - s->side, s->fw) -
                                 floor_of(-s->side, s->fw));
  }
  p.units = p.ho;
  if (p.minimal) p.taps = 1, p.row = (p.row + 3) / 4, p.pixels = MAX(p.pixels, 4 * p.row + 2);
  p.pairs = p.minimal && s->kh == 3 && s->sh == 1 && s->fh == 1 && p.ho >= 4 &&
            p.in * p.out <= PAIR_WEIGHTS &&
            (!back || (s->side == 1 && s->h % 2 == 0 && (s->h / 2 + 1) * p.row >= PAIR_LEAST));
  if (p.pairs)
    p.components = 24, p.units = (p.ho + (back ? 2 * s->side : 0) + 1) / 2, p.h.ranges = 1,
    p.h.taps[0] = (axis_range){0, 2};
  p.lines = axis_most(&p.t, back) * (p.pairs ? 1 : axis_most(&p.h, back)),
  p.frames = axis_span(&p.t, back, 1);
  p.group = p.pairs ? MAX(1, MIN(PAIR_TILES / p.row, p.units))
                    : MIN(((p.minimal ? ITEM_MINIMAL : ITEM_PIXELS) + p.wo - 1) / p.wo, p.ho);
  /* As many units a band as the ring holds; frames are split, and then bands, where there are too
   * few for the team. */
  const idx wanted = 4 * pk_threads();
  p.band = p.units;
  while (p.band > p.group && p.frames * frame_words(&p, p.band) > RING) p.band -= p.group;
  p.bands = (p.units + p.band - 1) / p.band, p.parts = 1;
  if (p.batch * p.bands < wanted)
    p.parts = MAX(1, MIN((wanted + p.batch * p.bands - 1) / MAX(1, p.batch * p.bands),
                         p.to / (2 * p.frames)));
  if (p.batch * p.parts * p.bands < wanted)
    p.bands = MIN((wanted + p.batch * p.parts - 1) / MAX(1, p.batch * p.parts),
                  (p.units + p.group - 1) / p.group);
  p.band = (p.units + p.bands - 1) / p.bands, p.bands = (p.units + p.band - 1) / p.band;
  return p;
}

/* Weight of tap (kh, kw) in tap `tap` of a component. */
static double weight_of(const pass *p, idx component, idx tap, idx kh, idx kw) {
  static const double minimal[6][3] = {{1. / 4, 0, 0},
                                       {-1. / 6, -1. / 6, -1. / 6},
                                       {-1. / 6, 1. / 6, -1. / 6},
                                       {1. / 24, 1. / 12, 1. / 6},
                                       {1. / 24, -1. / 12, 1. / 6},
                                       {0, 0, 1}};
  static const double rows[4][3] = {
      {1, 0, 0}, {1. / 2, 1. / 2, 1. / 2}, {1. / 2, -1. / 2, 1. / 2}, {0, 0, 1}};
  if (p->minimal)
    return minimal[component % 6][p->back ? 2 - kw : kw] *
           (p->pairs ? rows[component / 6][p->back ? 2 - kh : kh] : 1);
  if (p->back) return floor_of(tap + kw - (p->kw - 1), p->phases) == 0;
  return floor_of(component + kw - p->side, p->phases) ==
         floor_of(component - p->side, p->phases) + tap;
}

/* elements; `across`: whole panels of result channels */
typedef struct {
  idx across, base, set, laid, rows, ring, tile, middle, folded, member;
} sizes;

static sizes sizes_of(const pk_conv3d_shape *s, const pass *p) {
  sizes z;
  const idx held = MIN(p->group, p->band);
  z.across = (p->out + 31) / 32 * 32;
  z.base = ROUND_UP(s->kt * s->kh * s->kw * p->in * z.across, 16),
  z.set = p->components * p->taps * p->in * z.across;
  z.laid = p->minimal ? ROUND_UP(MAX(1, MIN(LAID / (p->pixels * p->in), reached(p, p->band))) *
                                     p->pixels * p->in,
                                 16)
                      : 0;
  z.rows = p->pairs ? ROUND_UP(reached(p, p->band) * 6 * p->row * p->in, 16) : 0;
  z.ring = ROUND_UP(p->frames * frame_words(p, p->band) + 32, 16);
  z.tile = ROUND_UP(((p->pairs ? 2 : 1) * held * p->wo + 4) * z.across, 16);
  z.middle = p->minimal ? ROUND_UP(p->components * held * p->row * z.across, 16) : 0;
  /* rows to fold, and one to add */
  z.folded = ROUND_UP((p->minimal ? (p->pairs ? 8 : 4) * p->row + p->wo : p->row) * z.across, 16);
  /* with four pointers a line; first a panel of weights */
  z.member =
      MAX(z.ring + z.laid + z.rows + z.tile + z.middle + z.folded + ROUND_UP(8 * p->lines, 16),
          32 * p->in);
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
  idx most = 0;
  for (int minimal = 0; minimal < 2; minimal++) {
    const pass p = pass_of(s, &e, which, minimal);
    const sizes z = sizes_of(s, &p);
    most = MAX(most,
               z.base + p.t.ranges * p.h.ranges * z.set + z.across + 16 + pk_threads() * z.member);
  }
  return most;
}

typedef struct {
  const pass *p;
  const sizes *z;
  pk_type type;
  const pk_kernels *kernels;
  const pk_conv_kernels *conv;
  const pk_gemm_kernel *gemm;
  /* words of a pixel, of a laid row, of a component's taps; of the weights of one set of taps */
  idx wide, row_words, deep, columns, set_words;
  const char *panels;
  const void *biases;
  const void *source, *norm, *add;
  int silu;
  void *result;
} job;

/* A sample's part of an array of `planes` planes of `each`. */
static void *sample(const job *j, const void *array, idx b, idx planes, idx each) {
  return array ? pk_at(array, j->type, b * planes * each) : NULL;
}

/* `count` source rows from x on, normalised by `norm`, become components: row r at out + r * step,
 * its planes `plane` apart. */
static void lay_minimal(const job *j, const char *x, const void *norm, idx count, char *laid,
                        char *out, idx step, idx plane) {
  const pass *p = j->p;
  const idx size = pk_size(j->type), words = p->pixels * p->in, many = MAX(1, LAID / words);
  for (idx r = 0, n; r < count; r += n) {
    n = MIN(many, count - r);
    j->conv->pack_rows(p->in, n, p->sw, pk_at(x, j->type, r * p->sw), p->sources * p->sh * p->sw,
                       norm, j->silu, laid, words, p->before, p->gap, p->pixels, !p->back);
    for (idx i = 0; i < n; i++)
      j->kernels->winograd_transform_w(p->row, p->in, laid + i * words * size,
                                       out + (r + i) * step * size, plane);
  }
}

/* How many rows from h on, at most `most`, have the lines of row h, each a row further. */
static idx alike(const pass *p, idx h, idx most) {
  axis_read lines[axis_most(&p->h, p->back)], others[axis_most(&p->h, p->back)];
  const idx n = axis_reads(&p->h, p->back, h, lines);
  for (idx g = 1; g < most; g++) {
    if (axis_reads(&p->h, p->back, h + g, others) != n) return g;
    for (idx l = 0; l < n; l++)
      if (others[l].range != lines[l].range || others[l].row != lines[l].row + g) return g;
  }
  return most;
}

/* Rows [h0, h1) of frames [t0, t1) of sample b's result. A laid frame has its rows one after
 * another, each whole or component by component. */
static void band(const job *j, idx b, idx h0, idx h1, idx t0, idx t1, char *area) {
  const pass *p = j->p;
  const sizes *z = j->z;
  const idx size = pk_size(j->type), across = z->across, planes = p->sources * p->sh * p->sw,
            results = p->to * p->ho * p->wo, group = MIN(p->group, p->band);
  const void *source = sample(j, j->source, b, p->in, planes),
             *norm = sample(j, j->norm, b, 3, p->in), *add = sample(j, j->add, b, p->out, results);
  void *result = sample(j, j->result, b, p->out, results);
  char *ring = area, *laid = ring + z->ring * size, *tile = laid + z->laid * size,
       *middle = tile + z->tile * size, *folded = middle + z->middle * size;
  const void **from = (const void **)(folded + z->folded * size), **with = from + p->lines,
             **rows = with + p->lines, **weights = rows + p->lines;
  idx low, high, skip, next = -1;
  axis_reach(&p->h, p->back, h0, &low, &skip), axis_reach(&p->h, p->back, h1 - 1, &skip, &high);
  /* of a component */
  const idx count = high - low + 1, row_words = p->minimal ? p->row * j->wide : j->row_words,
            plane = count * row_words;
  for (idx t = t0; t < t1; t++) {
    idx first, last;
    axis_reach(&p->t, p->back, t, &first, &last);
    for (next = MAX(next, first); next <= last; next++) {
      const char *x = pk_at(source, j->type, (next * p->sh + low) * p->sw);
      char *out = ring + next % p->frames * count * j->row_words * size;
      if (p->minimal)
        lay_minimal(j, x, norm, count, laid, out, row_words, plane);
      else
        j->conv->pack_rows(p->in, count, p->sw, x, planes, norm, j->silu, out, row_words, p->before,
                           p->gap, p->pixels, !p->back);
    }
    axis_read frames[axis_most(&p->t, p->back)], lines[axis_most(&p->h, p->back)];
    const idx many = axis_reads(&p->t, p->back, t, frames);
    for (idx h = h0, held = 0, together; h < h1; h += together) {
      idx n = 0;
      together = p->minimal ? alike(p, h, MIN(group - held, h1 - h)) : 1;
      for (idx reads = axis_reads(&p->h, p->back, h, lines), i = 0; i < many; i++)
        for (idx l = 0; l < reads; l++, n++) {
          from[n] = ring + (frames[i].row % p->frames * count * j->row_words +
                            (lines[l].row - low) * row_words) *
                               size;
          with[n] =
              j->panels + (frames[i].range * p->h.ranges + lines[l].range) * j->set_words * size;
        }
      char *out = tile + held * p->wo * across * size;
      const idx pixels = together * p->row;
      for (idx c = 0; c < p->components; c++) {
        const idx ahead =
            p->minimal
                ? c * plane
                : (p->back ? 0 : floor_of(c - p->side, p->phases) - floor_of(-p->side, p->phases)) *
                      j->wide;
        for (idx l = 0; l < n; l++)
          rows[l] = (const char *)from[l] + ahead * size,
          weights[l] = (const char *)with[l] + c * j->set_words / p->components * size;
        if (p->minimal)
          j->gemm->unpacked_a(pixels, p->out, n, rows, j->wide, j->deep, weights,
                              j->deep * j->columns, c == 1 ? j->biases : NULL, 0,
                              middle + c * pixels * across * size, across);
        else
          j->gemm->unpacked_a(pixels, p->out, n, rows, p->step * j->wide, j->deep, weights,
                              j->deep * j->columns, j->biases, 0,
                              (p->back ? folded : out) + c * across * size, p->components * across);
      }
      for (idx i = 0; i < together; i++, held++, out += p->wo * across * size) {
        if (p->minimal)
          j->kernels->winograd_inverse(p->row, p->out, middle + i * p->row * across * size,
                                       pixels * across, across, p->back ? folded : out, NULL,
                                       p->back ? 4 * p->row : p->wo);
        if (p->back) j->conv->accumulate_edges(p->wo, p->edge, p->out, folded, out, across);
      }
      if (held == group || h + together == h1) {
        const idx at = (t * p->ho + h + together - held) * p->wo;
        j->conv->transpose(held * p->wo, p->out, tile, across, add ? pk_at(add, j->type, at) : NULL,
                           pk_at(result, j->type, at), results);
        held = 0;
      }
    }
  }
}

/* Pairs [u0, u1) of frames [t0, t1) of sample b's result. Row 2 u of the padded result reads four
 * source rows from 2 u - ahead on; a laid frame has its pairs component by component. Backward,
 * padded rows 0 and ho + 1 are added to rows 0 and ho - 1. */
static void band_of_pairs(const job *j, idx b, idx u0, idx u1, idx t0, idx t1, char *area) {
  const pass *p = j->p;
  const sizes *z = j->z;
  const idx size = pk_size(j->type), across = z->across, planes = p->sources * p->sh * p->sw,
            results = p->to * p->ho * p->wo, n = p->row * p->in, plane = (u1 - u0) * n,
            ahead = p->back ? 2 : p->side;
  char *ring = area, *laid = ring + z->ring * size, *components = laid + z->laid * size,
       *tile = components + z->rows * size, *middle = tile + z->tile * size,
       *folded = middle + z->middle * size;
  char *other = folded + 4 * p->row * across * size, *spare = other + 4 * p->row * across * size;
  const void **from = (const void **)(folded + z->folded * size), **with = from + p->lines,
             **rows = with + p->lines, **weights = rows + p->lines;
  const void *source = sample(j, j->source, b, p->in, planes),
             *norm = sample(j, j->norm, b, 3, p->in), *add = sample(j, j->add, b, p->out, results);
  void *result = sample(j, j->result, b, p->out, results);
  const idx low = MAX(2 * u0 - ahead, 0), high = MIN(2 * u1 + 1 - ahead, p->sh - 1);
  idx next = -1;
  for (idx t = t0; t < t1; t++) {
    idx first, last;
    axis_reach(&p->t, p->back, t, &first, &last);
    for (next = MAX(next, first); next <= last; next++) {
      lay_minimal(j, pk_at(source, j->type, (next * p->sh + low) * p->sw), norm, high - low + 1,
                  laid, components, 6 * n, n);
      for (idx u = u0; u < u1; u++) {
        const void *four[4];
        for (idx i = 0; i < 4; i++) {
          const idx r = 2 * u + i - ahead, inside = r < 0 ? 0 : r >= p->sh ? p->sh - 1 : r;
          four[i] = p->back && r != inside ? NULL : components + (inside - low) * 6 * n * size;
        }
        j->kernels->winograd_transform_h(
            n, four, ring + (next % p->frames * 24 * plane + (u - u0) * n) * size, plane);
      }
    }
    axis_read frames[axis_most(&p->t, p->back)];
    const idx many = axis_reads(&p->t, p->back, t, frames);
    for (idx u = u0, together; u < u1; u += together) {
      together = MIN(MIN(p->group, p->band), u1 - u);
      const idx pixels = together * p->row, r0 = p->back ? MAX(2 * u - 1, 0) : 2 * u,
                r1 = MIN(2 * (u + together) - p->back, p->ho);
      for (idx l = 0; l < many; l++)
        from[l] = ring + (frames[l].row % p->frames * 24 * plane + (u - u0) * n) * size,
        with[l] = j->panels + frames[l].range * j->set_words * size;
      for (idx c = 0; c < 24; c++) {
        for (idx l = 0; l < many; l++)
          rows[l] = (const char *)from[l] + c * plane * size,
          weights[l] = (const char *)with[l] + c * j->set_words / 24 * size;
        j->gemm->unpacked_a(pixels, p->out, many, rows, j->wide, j->deep, weights,
                            j->deep * j->columns, c == 7 ? j->biases : NULL, 0,
                            middle + c * pixels * across * size, across);
      }
      for (idx v = u; v < u + together; v++) {
        const char *m = middle + (v - u) * p->row * across * size;
        char *out = tile + (2 * v - p->back - r0) * p->wo * across * size,
             *below = out + p->wo * across * size;
        if (!p->back) {
          j->kernels->winograd_inverse(p->row, p->out, m, pixels * across, across, out,
                                       2 * v + 1 < p->ho ? below : spare, p->wo);
          continue;
        }
        j->kernels->winograd_inverse(p->row, p->out, m, pixels * across, across, folded, other,
                                     4 * p->row);
        const int top = v == 0, bottom = 2 * v == p->ho;
        j->conv->accumulate_edges(p->wo, p->edge, p->out, folded, top ? spare : out, across);
        j->conv->accumulate_edges(p->wo, p->edge, p->out, other, bottom ? spare : below, across);
        if (top || bottom) j->kernels->axpby(p->wo * across, 1, spare, 1, top ? below : out);
      }
      const idx at = (t * p->ho + r0) * p->wo;
      j->conv->transpose((r1 - r0) * p->wo, p->out, tile, across,
                         add ? pk_at(add, j->type, at) : NULL, pk_at(result, j->type, at), results);
    }
  }
}

static void run(pk_type type, const pk_conv3d_shape *s, const extents *e, int back,
                const void *source, const void *weight, const void *bias,
                const pk_conv_fusion *fusion, void *result, void *scratch) {
  const pk_kernels *k = pk_select(type);
  const pk_bf16_kernels *narrow = pk_bf16(type);
  const pk_gemm_kernel *gemm = narrow ? &narrow->gemm : &k->gemm;
  const pass p = pass_of(s, e, back, type == PK_F32 && !narrow);
  const sizes z = sizes_of(s, &p);
  const idx size = pk_size(type), columns = gemm->nr, tiles = (p.out + columns - 1) / columns,
            taps = s->kt * s->kh * s->kw, wide = (p.in + gemm->k_group - 1) / gemm->k_group;
  const idx sets = p.t.ranges * p.h.ranges, chunks = (p.in + 15) / 16, deep = p.taps * wide,
            panel = p.in * columns;
  char *base = scratch, *panels = pk_at(base, type, z.base),
       *members = pk_at(panels, type, ROUND_UP(sets * z.set, 16) + z.across);
  void *biases = bias ? pk_at(members, type, -z.across) : NULL;
  for (idx o = 0; bias && o < z.across; o++)
    pk_write(biases, type, o, o < p.out ? pk_read(bias, type, o) : 0);
  const job j = {&p,
                 &z,
                 type,
                 k,
                 narrow ? &narrow->conv : &k->conv,
                 gemm,
                 wide,
                 (p.minimal ? 6 * p.row : p.pixels) * wide,
                 deep,
                 columns,
                 p.components * tiles * deep * columns,
                 panels,
                 biases,
                 source,
                 fusion ? fusion->norm : NULL,
                 fusion ? fusion->add : NULL,
                 fusion ? fusion->silu : 0,
                 result};
  pk_work_range runs[PK_WORK_RANGES];
#pragma omp parallel
  {
    const idx threads = omp_get_num_threads(), thread = omp_get_thread_num();
    char *mine = members + thread * z.member * size;
    pk_partition(runs, p.batch * p.bands * p.parts, threads, thread);
    /* Each tap's weights as panels [source channel][result channels]; then their sums, for each set
     * of taps, component and tap of the component. */
#pragma omp for schedule(static)
    for (idx i = 0; i < tiles * chunks; i++) {
      const idx tile = i / chunks, from = i % chunks * 16, per_out = back ? taps : s->in * taps,
                per_in = back ? s->in * taps : taps;
      k->conv_pack_taps(MIN(p.out - tile * columns, columns), MIN(p.in - from, 16), taps,
                        pk_at(weight, type, tile * columns * per_out + from * per_in), per_out,
                        per_in, base + (tile * panel + from * columns) * size, tiles * panel);
    }
#pragma omp for schedule(static)
    for (idx i = 0; i < sets * p.components * p.taps * tiles; i++) {
      const idx set = i / tiles / p.taps / p.components, c = i / tiles / p.taps % p.components,
                tap = i / tiles % p.taps, tile = i % tiles;
      const axis_range t = p.t.taps[set / p.h.ranges], h = p.h.taps[set % p.h.ranges];
      char *to = panels +
                 (set * j.set_words + ((c * tiles + tile) * deep + tap * wide) * columns) * size,
           *sum = narrow ? mine : to;
      const void *terms[taps];
      double factors[taps];
      idx n = 0;
      for (idx w = 0; w < s->kw; w++)
        for (idx a = t.first; a <= t.last; a++)
          for (idx b = h.first; b <= h.last; b++) {
            factors[n] = weight_of(&p, c, tap, b, w),
            terms[n] = base + (((a * s->kh + b) * s->kw + w) * tiles + tile) * panel * size;
            n += factors[n] != 0;
          }
      k->conv_combine_taps(panel, n, terms, factors, sum);
      if (narrow) gemm->pack_b(columns, p.in, sum, columns, 1, to);
    }
    /* Items differ (the first frames have fewer lines than the last), and so do members. */
    for (idx i; (i = pk_steal(runs, threads, thread)) >= 0;) {
      const idx b = i / (p.bands * p.parts), h = i / p.parts % p.bands * p.band, part = i % p.parts;
      (p.pairs ? band_of_pairs : band)(&j, b, h, MIN(h + p.band, p.units), p.to * part / p.parts,
                                       p.to * (part + 1) / p.parts, mine);
    }
  }
}

pk_status pk_conv3d_forward(pk_type type, const pk_conv3d_shape *s, const void *x,
                            const void *weight, const void *bias, const pk_conv_fusion *fusion,
                            void *y, void *scratch) {
  const pk_kernels *k = pk_select(type);
  extents e;
  if (!k) return PK_BAD_TYPE;
  if (conv_bad(s, &e)) return PK_BAD_SHAPE;
  if (!pointwise(s)) {
    run(type, s, &e, 0, x, weight, bias, fusion, y, scratch);
    return PK_OK;
  }
  if (fusion) return PK_BAD_SHAPE;
  const idx pixels = s->t * s->h * s->w;
  for (idx b = 0; b < s->batch; b++) {
    const pk_gemm_shape g = pointwise_product(s, 0);
    pk_gemm(type, &g, weight, pk_at(x, type, b * s->in * pixels),
            pk_at(y, type, b * s->out * pixels), scratch);
  }
  if (bias)
#pragma omp parallel for schedule(static)
    for (idx r = 0; r < s->batch * s->out; r++)
      k->affine_clamp_forward(pixels, 1, pk_read(bias, type, r % s->out), -INFINITY, INFINITY,
                              pk_at(y, type, r * pixels), pk_at(y, type, r * pixels));
  return PK_OK;
}

pk_status pk_conv3d_backward_data(pk_type type, const pk_conv3d_shape *s, const void *dy,
                                  const void *weight, void *dx, void *scratch) {
  extents e;
  if (!pk_select(type)) return PK_BAD_TYPE;
  if (conv_bad(s, &e)) return PK_BAD_SHAPE;
  if (!pointwise(s)) {
    run(type, s, &e, 1, dy, weight, NULL, NULL, dx, scratch);
    return PK_OK;
  }
  const idx pixels = s->t * s->h * s->w;
  for (idx b = 0; b < s->batch; b++) {
    const pk_gemm_shape g = pointwise_product(s, 1);
    pk_gemm(type, &g, weight, pk_at(dy, type, b * s->out * pixels),
            pk_at(dx, type, b * s->in * pixels), scratch);
  }
  return PK_OK;
}
