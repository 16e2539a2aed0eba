#include "conv_bands.h"

/* A band of pairs of rows: Winograd F(2, 3) along H on top of F(4, 3) along W. A pair has 24
 * components; a frame in the ring has its pairs component by component. Row 2 u of the padded
 * result reads four source rows from 2 u - padding on. Backward, padded rows 0 and rows + 1 are
 * added to rows 0 and rows - 1. */
typedef struct {
  const conv_job *j;
  const conv_thread *t;
  const char *source;
  const void *norm, *add;
  char *result;
  idx u0, u1, padding;
  idx low, high;     /* source rows of the band */
  idx pair_elements; /* of one component of a pair */
  idx plane;         /* from one component to the next */
} pair_band;

/* Where frame f of the ring begins, and pair u in it. */
static char *ring_pair(const pair_band *band, idx f, idx u) {
  const idx at =
      f % band->j->p->ring_frames * 24 * band->plane + (u - band->u0) * band->pair_elements;
  return band->t->ring + at * pk_size(band->j->type);
}

/* Packs source frame f and transforms it along W and along H. Rows outside the source repeat its
 * edge, or are zero (backward, or where the padding is). */
static void fill_frame(const pair_band *band, idx f) {
  const conv_job *j = band->j;
  const conv_plan *p = j->p;
  const idx size = pk_size(j->type), n = band->pair_elements;
  const char *x = pk_at(band->source, j->type, (f * p->source_rows + band->low) * p->source_pixels);
  pk_conv_pack_winograd(j, x, conv_frame_norm(j, band->norm, f), band->high - band->low + 1,
                        band->t->packed_rows, band->t->row_components, 6 * n, n);
  for (idx u = band->u0; u < band->u1; u++) {
    const void *rows[4];
    for (idx i = 0; i < 4; i++) {
      const idx r = 2 * u + i - band->padding, inside = MAX(0, MIN(r, p->source_rows - 1));
      rows[i] = (p->backward || p->zeros) && r != inside
                    ? NULL
                    : band->t->row_components + (inside - band->low) * 6 * n * size;
    }
    j->kernels->winograd_transform_h(n, rows, ring_pair(band, f, u), band->plane);
  }
}

/* The 24 products of `pairs` pairs from u on. */
static void multiply_pairs(const pair_band *band, const axis_read *frames, idx lines, idx u,
                           idx pairs) {
  const conv_job *j = band->j;
  const conv_plan *p = j->p;
  const conv_thread *t = band->t;
  const idx size = pk_size(j->type), padded = j->z->padded_out,
            pixels = pairs * p->component_pixels;
  for (idx l = 0; l < lines; l++) {
    t->sources[l] = ring_pair(band, frames[l].row, u);
    t->panels[l] = j->panels + frames[l].range * j->line_elements * size;
  }
  for (idx c = 0; c < 24; c++) {
    for (idx l = 0; l < lines; l++) {
      t->a[l] = (const char *)t->sources[l] + c * band->plane * size;
      t->b[l] = (const char *)t->panels[l] + c * j->line_elements / 24 * size;
    }
    /* the bias of a result is that of component (1, 1) */
    j->gemm->unpacked_a(pixels, p->out, lines, t->a, j->pixel_elements, j->k, t->b,
                        j->k * j->gemm->nr, c == 7 ? j->bias : NULL, 0,
                        t->products + c * pixels * padded * size, padded);
  }
}

/* Pair v, forward, from its products into rows `out` and `below` of the tile. */
static void invert_forward(const pair_band *band, idx v, const char *products, idx plane,
                           char *out) {
  const conv_job *j = band->j;
  const conv_plan *p = j->p;
  const idx size = pk_size(j->type), padded = j->z->padded_out;
  char *below = out + p->pixels * padded * size,
       *unused = band->t->bordered_rows + 8 * p->component_pixels * padded * size;
  j->kernels->winograd_inverse(p->component_pixels, p->out, products, plane, padded, out,
                               2 * v + 1 < p->rows ? below : unused, p->pixels);
}

/* Pair v of padded rows, backward. The first and the last padded row belong to an edge row, or to
 * zeros. */
static void invert_backward(const pair_band *band, idx v, const char *products, idx plane,
                            char *out) {
  const conv_job *j = band->j;
  const conv_plan *p = j->p;
  const idx size = pk_size(j->type), padded = j->z->padded_out,
            row = 4 * p->component_pixels * padded * size;
  char *below = out + p->pixels * padded * size, *bordered = band->t->bordered_rows,
       *other = bordered + row, *edge = other + row;
  j->kernels->winograd_inverse(p->component_pixels, p->out, products, plane, padded, bordered,
                               other, 4 * p->component_pixels);
  const int is_top = v == 0, is_bottom = 2 * v == p->rows;
  j->conv->accumulate_edges(p->pixels, p->edge, p->out, bordered, is_top ? edge : out, padded);
  j->conv->accumulate_edges(p->pixels, p->edge, p->out, other, is_bottom ? edge : below, padded);
  if (!p->zeros && (is_top || is_bottom))
    j->kernels->axpby(p->pixels * padded, 1, edge, 1, is_top ? below : out);
}

/* `pairs` pairs from u on of frame f, into the result. */
static void compute_pairs(const pair_band *band, const axis_read *frames, idx lines, idx f, idx u,
                          idx pairs) {
  const conv_job *j = band->j;
  const conv_plan *p = j->p;
  const idx size = pk_size(j->type), padded = j->z->padded_out,
            row_products = p->component_pixels * padded;
  const idx row0 = p->backward ? MAX(2 * u - 1, 0) : 2 * u,
            row1 = MIN(2 * (u + pairs) - p->backward, p->rows);
  multiply_pairs(band, frames, lines, u, pairs);
  for (idx v = u; v < u + pairs; v++) {
    const char *products = band->t->products + (v - u) * row_products * size;
    char *out = band->t->tile + (2 * v - p->backward - row0) * p->pixels * padded * size;
    (p->backward ? invert_backward : invert_forward)(band, v, products, pairs * row_products, out);
  }
  const idx at = (f * p->rows + row0) * p->pixels;
  j->conv->transpose((row1 - row0) * p->pixels, p->out, band->t->tile, padded,
                     band->add ? pk_at(band->add, j->type, at) : NULL,
                     pk_at(band->result, j->type, at), p->frames * p->rows * p->pixels);
}

void pk_conv_winograd_band(const conv_job *j, idx b, idx u0, idx u1, idx t0, idx t1,
                           char *scratch) {
  const conv_plan *p = j->p;
  const conv_thread t = conv_thread_of(j, scratch);
  const idx source_plane = p->source_frames * p->source_rows * p->source_pixels,
            plane = p->frames * p->rows * p->pixels;
  pair_band band = {.j = j,
                    .t = &t,
                    .source = conv_sample(j, j->source, b, p->in, source_plane),
                    .norm = conv_sample(j, j->norm, b, 3 * j->norm_frames, p->in),
                    .add = conv_sample(j, j->add, b, p->out, plane),
                    .result = conv_sample(j, j->result, b, p->out, plane),
                    .u0 = u0,
                    .u1 = u1,
                    .padding = p->backward ? 2 : p->side,
                    .pair_elements = p->component_pixels * p->in};
  band.low = MAX(2 * u0 - band.padding, 0);
  band.high = MIN(2 * u1 + 1 - band.padding, p->source_rows - 1);
  band.plane = (u1 - u0) * band.pair_elements;
  axis_read frames[axis_most(&p->t, p->backward)];
  for (idx f = t0, next = -1; f < t1; f++) {
    idx first, last;
    axis_reach(&p->t, p->backward, f, &first, &last);
    for (next = MAX(next, first); next <= last; next++) fill_frame(&band, next);
    const idx lines = axis_reads(&p->t, p->backward, f, frames), group = MIN(p->group, p->band);
    for (idx u = u0; u < u1; u += group)
      compute_pairs(&band, frames, lines, f, u, MIN(group, u1 - u));
  }
}
