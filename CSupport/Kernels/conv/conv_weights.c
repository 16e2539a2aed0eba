#include "../isa/kernels.h"
#include "conv_geometry.h"

/* The weight gradient: dot products of shifted rows of the padded input with rows of dy on the same
 * grid, where a tap is a constant offset. Both grids are [planes, tp, hp, wp], padded input and dy
 * spread by its stride. */

/* Elements readable past the end of a grid: whole vectors, and the largest tap of the last row. */
#define GRID_SLACK 128
/* Elements that are summed in the lanes of one type before they are added in double. */
#define RUN 4096

static idx slack(const extents *e) { return GRID_SLACK + 3 * e->hp * e->wp; }

static idx grid_size(const extents *e, idx planes) {
  return ROUND_UP(planes * e->tp * e->hp * e->wp + slack(e), 16);
}

/* In bf16 both grids are kept in f32 and rounded. */
idx pk_conv_weights_scratch(const pk_conv3d_shape *s, const extents *e) {
  return (pk_bf16(PK_F32) ? 2 : 1) *
         (grid_size(e, s->batch * s->in) + grid_size(e, s->batch * s->out));
}

/* Row y of the source as a row of the grid: upsampled along W, and padded. */
static void pad_row(const pk_conv3d_shape *s, const extents *e, size_t z, const char *source,
                    char *grid) {
  if (s->zeros) {
    memset(grid, 0, (size_t)s->side * z);
    memset(grid + (size_t)(s->side + e->w) * z, 0, (size_t)s->side * z);
  }
  for (idx j = 0; j < s->side && !s->zeros; j++) {
    memcpy(grid + (size_t)j * z, source, z);
    memcpy(grid + (size_t)(s->side + e->w + j) * z, source + (size_t)(s->w - 1) * z, z);
  }
  if (s->fw == 1)
    memcpy(grid + (size_t)s->side * z, source, (size_t)s->w * z);
  else
    for (idx j = 0; j < e->w; j++)
      memcpy(grid + (size_t)(s->side + j) * z, source + (size_t)(j / s->fw) * z, z);
}

/* x [batch * in, T, H, W], upsampled and padded. */
static void pad_input(pk_type type, const pk_conv3d_shape *s, const extents *e, const void *x,
                      void *grid) {
  const idx planes = s->batch * s->in;
  const size_t z = (size_t)pk_size(type);
#pragma omp parallel for schedule(static)
  for (idx r = 0; r < planes * e->tp; r++) {
    const idx p = r / e->tp, frame = r % e->tp - s->front, f = MIN(MAX(frame, 0), e->t - 1);
    for (idx i = 0; i < e->hp; i++) {
      const idx row = i - s->side, y = MIN(MAX(row, 0), e->h - 1);
      void *to = pk_at(grid, type, (r * e->hp + i) * e->wp);
      if (s->zeros && (f != frame || y != row)) {
        memset(to, 0, (size_t)e->wp * z);
        continue;
      }
      pad_row(s, e, z,
              pk_at(x, type, ((p * s->t + (f + s->ft - 1) / s->ft) * s->h + y / s->fh) * s->w), to);
    }
  }
  memset(pk_at(grid, type, planes * e->tp * e->hp * e->wp), 0, (size_t)slack(e) * z);
}

/* dy [batch * out, To, Ho, Wo] on a grid of zeros, spread by the strides. */
static void spread_gradient(pk_type type, const pk_conv3d_shape *s, const extents *e,
                            const void *dy, void *grid) {
  const idx planes = s->batch * s->out, plane = e->tp * e->hp * e->wp, size = pk_size(type);
#pragma omp parallel for schedule(static)
  for (idx p = 0; p < planes; p++) {
    memset(pk_at(grid, type, p * plane), 0, (size_t)(plane * size));
    for (idx f = 0; f < e->to; f++)
      for (idx i = 0; i < e->ho; i++) {
        const void *from = pk_at(dy, type, ((p * e->to + f) * e->ho + i) * e->wo);
        void *to = pk_at(grid, type, ((p * e->tp + f * s->st) * e->hp + i * s->sh) * e->wp);
        if (s->sw == 1)
          memcpy(to, from, (size_t)(e->wo * size));
        else
          for (idx j = 0; j < e->wo; j++) pk_write(to, type, j * s->sw, pk_read(from, type, j));
      }
  }
  memset(pk_at(grid, type, planes * plane), 0, (size_t)(slack(e) * size));
}

static void add_bias_gradient(pk_type type, const pk_conv3d_shape *s, idx pixels, const void *dy,
                              void *add_dbias) {
  const pk_kernels *k = pk_select(type);
#pragma omp parallel for schedule(static)
  for (idx o = 0; o < s->out; o++) {
    double sum = 0;
    for (idx b = 0; b < s->batch; b++)
      sum += k->dot(pixels, pk_at(dy, type, (b * s->out + o) * pixels), NULL);
    pk_write(add_dbias, type, o, pk_read(add_dbias, type, o) + sum);
  }
}

/* The two grids, in the type in which they are multiplied. */
typedef struct {
  const pk_conv3d_shape *s;
  const extents *e;
  pk_type type;
  const void *x, *dy;
  void (*dots)(idx rows_o, idx rows_k, idx n, const void *const *dy, const void *const *x,
               void *lanes);
  void (*accumulate_lanes)(void *lanes, double *sums);
} grids;

/* Rounds n elements of f32 to bf16. */
static void round_to_bf16(const pk_bf16_kernels *bf16, idx n, const float *x, uint16_t *y) {
#pragma omp parallel for schedule(static)
  for (idx i = 0; i < PK_BLOCKS; i++)
    bf16->convert(PK_HI(i, n) - PK_LO(i, n), x + PK_LO(i, n), y + PK_LO(i, n));
}

static grids make_grids(pk_type type, const pk_conv3d_shape *s, const extents *e, const void *dy,
                        const void *x, void *scratch) {
  const pk_kernels *k = pk_select(type);
  const pk_bf16_kernels *bf16 = pk_bf16(type);
  const idx size_x = grid_size(e, s->batch * s->in), size_dy = grid_size(e, s->batch * s->out);
  void *grid_x = scratch, *grid_dy = pk_at(scratch, type, size_x);
  pad_input(type, s, e, x, grid_x);
  spread_gradient(type, s, e, dy, grid_dy);
  grids g = {s, e, type, grid_x, grid_dy, k->conv_dots, k->conv_accumulate_lanes};
  if (bf16) {
    uint16_t *x16 = pk_at(grid_dy, type, size_dy), *dy16 = x16 + size_x;
    round_to_bf16(bf16, size_x, grid_x, x16);
    round_to_bf16(bf16, size_dy, grid_dy, dy16);
    g.type = PK_BF16;
    g.x = x16;
    g.dy = dy16;
    g.dots = bf16->conv_dots;
  }
  return g;
}

/* sums[i][j] = the gradient of the weight of output channel o0 + i, column k0 + j of [in * taps].
 */
static void weight_tile(const grids *g, idx o0, idx k0, idx rows_o, idx rows_k, double *sums) {
  const pk_conv3d_shape *s = g->s;
  const extents *e = g->e;
  const idx taps = s->kt * s->kh * s->kw, plane = e->tp * e->hp * e->wp,
            n = ((e->to - 1) * s->st + 1) * e->hp * e->wp;
  _Alignas(64) double lanes[PK_DOT_O * PK_DOT_K * 16] = {0}; /* at most 16 lanes of either type */
  idx offset[PK_DOT_K], summed = 0;
  for (idx j = 0; j < rows_k; j++) {
    const idx c = (k0 + j) / taps, tap = (k0 + j) % taps;
    const idx kt = tap / (s->kh * s->kw), kh = tap / s->kw % s->kh, kw = tap % s->kw;
    offset[j] = c * plane + (kt * e->hp + kh) * e->wp + kw;
  }
  for (idx b = 0; b < s->batch; b++)
    for (idx p = 0; p < n; p += RUN) {
      const idx count = MIN(n - p, RUN);
      const void *dy[PK_DOT_O], *x[PK_DOT_K];
      for (idx i = 0; i < rows_o; i++)
        dy[i] = pk_at(g->dy, g->type, (b * s->out + o0 + i) * plane + p);
      for (idx j = 0; j < rows_k; j++)
        x[j] = pk_at(g->x, g->type, b * s->in * plane + offset[j] + p);
      g->dots(rows_o, rows_k, count, dy, x, lanes);
      summed += count;
      if (summed < RUN) continue;
      g->accumulate_lanes(lanes, sums);
      summed = 0;
    }
  g->accumulate_lanes(lanes, sums);
}

static void add_weight_gradient(pk_type type, const grids *g, void *add_dweight) {
  const pk_conv3d_shape *s = g->s;
  const idx columns = g->e->k, tiles_o = CEIL_DIV(s->out, PK_DOT_O),
            tiles_k = CEIL_DIV(columns, PK_DOT_K);
#pragma omp parallel for schedule(static)
  for (idx item = 0; item < tiles_o * tiles_k; item++) {
    const idx o0 = item / tiles_k * PK_DOT_O, k0 = item % tiles_k * PK_DOT_K;
    const idx rows_o = MIN(s->out - o0, PK_DOT_O), rows_k = MIN(columns - k0, PK_DOT_K);
    double sums[PK_DOT_O * PK_DOT_K] = {0};
    weight_tile(g, o0, k0, rows_o, rows_k, sums);
    for (idx i = 0; i < rows_o; i++)
      for (idx j = 0; j < rows_k; j++) {
        const idx at = (o0 + i) * columns + k0 + j;
        pk_write(add_dweight, type, at, pk_read(add_dweight, type, at) + sums[i * PK_DOT_K + j]);
      }
  }
}

pk_status pk_conv3d_backward_weights(pk_type type, const pk_conv3d_shape *s, const void *dy,
                                     const void *x, void *add_dweight, void *add_dbias,
                                     void *scratch) {
  extents e;
  if (!pk_select(type)) return PK_BAD_TYPE;
  if (conv_bad(s, &e)) return PK_BAD_SHAPE;
  const idx pixels = e.to * e.ho * e.wo;
  if (add_dbias) add_bias_gradient(type, s, pixels, dy, add_dbias);
  if (!add_dweight) return PK_OK;
  if (pointwise(s)) {
    const pk_gemm_shape g = pointwise_product(s, 2);
    for (idx b = 0; b < s->batch; b++)
      pk_gemm(type, &g, pk_at(dy, type, b * s->out * pixels), pk_at(x, type, b * s->in * pixels),
              add_dweight, scratch);
    return PK_OK;
  }
  const grids g = make_grids(type, s, &e, dy, x, scratch);
  add_weight_gradient(type, &g, add_dweight);
  return PK_OK;
}
