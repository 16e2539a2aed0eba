#include "conv_bands.h"

void pk_conv_pack_winograd(const conv_job *j, const char *x, const void *norm, idx count,
                           char *packed, char *out, idx step, idx plane) {
  const conv_plan *p = j->p;
  const idx size = pk_size(j->type), row = p->packed_pixels * p->in,
            rows_at_a_time = MAX(1, CONV_PACKED_ROWS / row);
  for (idx r = 0, n; r < count; r += n) {
    n = MIN(rows_at_a_time, count - r);
    j->conv->pack_rows(p->in, n, p->source_pixels, pk_at(x, j->type, r * p->source_pixels),
                       p->source_frames * p->source_rows * p->source_pixels, norm, j->silu, packed,
                       row, p->before, p->gap, p->packed_pixels, !p->backward && !p->zeros);
    for (idx i = 0; i < n; i++)
      j->kernels->winograd_transform_w(p->component_pixels, p->in, packed + i * row * size,
                                       out + (r + i) * step * size, plane);
  }
}

/* A band: its source rows and the layout of a frame in the ring, whose rows lie one after another,
 * each whole, or component by component. */
typedef struct {
  const conv_job *j;
  const conv_thread *t;
  const char *source;
  const void *norm, *add;
  char *result;
  idx low, rows;    /* first source row of the band, and how many */
  idx row_elements; /* of a row, or of one component of it */
  idx plane;        /* from one component to the next */
} conv_band;

/* Packs the source frames [first, last] that are not yet in the ring. */
static void fill_ring(const conv_band *band, idx first, idx last) {
  const conv_job *j = band->j;
  const conv_plan *p = j->p;
  const idx size = pk_size(j->type);
  for (idx f = first; f <= last; f++) {
    const char *x =
        pk_at(band->source, j->type, (f * p->source_rows + band->low) * p->source_pixels);
    const void *norm = conv_frame_norm(j, band->norm, f);
    char *out = band->t->ring + f % p->ring_frames * band->rows * j->row_elements * size;
    if (p->winograd_w)
      pk_conv_pack_winograd(j, x, norm, band->rows, band->t->packed_rows, out, band->row_elements,
                            band->plane);
    else
      j->conv->pack_rows(p->in, band->rows, p->source_pixels, x,
                         p->source_frames * p->source_rows * p->source_pixels, norm, j->silu, out,
                         j->row_elements, p->before, p->gap, p->packed_pixels,
                         !p->backward && !p->zeros);
  }
}

/* How many rows from h on, at most `most`, have the lines of row h, each a row further: they are
 * one product. */
static idx rows_with_same_lines(const conv_plan *p, idx h, idx most) {
  axis_read lines[axis_most(&p->h, p->backward)], others[axis_most(&p->h, p->backward)];
  const idx n = axis_reads(&p->h, p->backward, h, lines);
  for (idx g = 1; g < most; g++) {
    if (axis_reads(&p->h, p->backward, h + g, others) != n) return g;
    for (idx l = 0; l < n; l++)
      if (others[l].range != lines[l].range || others[l].row != lines[l].row + g) return g;
  }
  return most;
}

/* Where the lines of row h begin, in the ring and among the panels; returns how many there are. */
static idx find_lines(const conv_band *band, const axis_read *frames, idx frame_count, idx h) {
  const conv_job *j = band->j;
  const conv_plan *p = j->p;
  const idx size = pk_size(j->type);
  axis_read rows[axis_most(&p->h, p->backward)];
  const idx row_count = axis_reads(&p->h, p->backward, h, rows);
  idx n = 0;
  for (idx f = 0; f < frame_count; f++)
    for (idx r = 0; r < row_count; r++, n++) {
      const idx frame = frames[f].row % p->ring_frames * band->rows * j->row_elements;
      const idx line = frames[f].range * p->h.ranges + rows[r].range;
      band->t->sources[n] =
          band->t->ring + (frame + (rows[r].row - band->low) * band->row_elements) * size;
      band->t->panels[n] = j->panels + line * j->line_elements * size;
    }
  return n;
}

/* All components of `lines` lines, for `rows` rows: to `products` (Winograd), or pixel by pixel
 * into `out`, where the components are phases of the row. */
static void multiply_lines(const conv_band *band, idx lines, idx rows, char *out) {
  const conv_job *j = band->j;
  const conv_plan *p = j->p;
  const conv_thread *t = band->t;
  const idx size = pk_size(j->type), nr = j->gemm->nr, padded = j->z->padded_out,
            pixels = rows * p->component_pixels;
  for (idx c = 0; c < p->components; c++) {
    const idx shift =
        p->winograd_w ? c * band->plane : pk_conv_phase_shift(p, c) * j->pixel_elements;
    for (idx l = 0; l < lines; l++) {
      t->a[l] = (const char *)t->sources[l] + shift * size;
      t->b[l] = (const char *)t->panels[l] + c * j->line_elements / p->components * size;
    }
    if (p->winograd_w) /* the bias of a result is that of its component 1 */
      j->gemm->unpacked_a(pixels, p->out, lines, t->a, j->pixel_elements, j->k, t->b, j->k * nr,
                          c == 1 ? j->bias : NULL, 0, t->products + c * pixels * padded * size,
                          padded);
    else
      j->gemm->unpacked_a(pixels, p->out, lines, t->a, p->step * j->pixel_elements, j->k, t->b,
                          j->k * nr, j->bias, 0, out + c * padded * size, p->components * padded);
  }
}

/* Rows from h on that have the same lines, at most `most`, into the tile at `out`; returns how
 * many.
 */
static idx compute_rows(const conv_band *band, const axis_read *frames, idx frame_count, idx h,
                        idx most, char *out) {
  const conv_job *j = band->j;
  const conv_plan *p = j->p;
  const conv_thread *t = band->t;
  const idx size = pk_size(j->type), padded = j->z->padded_out;
  const idx rows = p->winograd_w ? rows_with_same_lines(p, h, most) : 1,
            row_products = p->component_pixels * padded * size;
  const idx lines = find_lines(band, frames, frame_count, h);
  multiply_lines(band, lines, rows, p->backward ? t->bordered_rows : out);
  for (idx i = 0; i < rows; i++, out += p->pixels * padded * size) {
    if (p->winograd_w)
      j->kernels->winograd_inverse(p->component_pixels, p->out, t->products + i * row_products,
                                   rows * p->component_pixels * padded, padded,
                                   p->backward ? t->bordered_rows : out, NULL,
                                   p->backward ? 4 * p->component_pixels : p->pixels);
    if (p->backward)
      j->conv->accumulate_edges(p->pixels, p->edge, p->out, t->bordered_rows, out, padded);
  }
  return rows;
}

/* Rows [h0, h1) of frame f, in groups that are transposed into the result together. */
static void compute_frame(const conv_band *band, idx h0, idx h1, idx f) {
  const conv_job *j = band->j;
  const conv_plan *p = j->p;
  const idx size = pk_size(j->type), padded = j->z->padded_out, group = MIN(p->group, p->band),
            plane = p->frames * p->rows * p->pixels;
  axis_read frames[axis_most(&p->t, p->backward)];
  const idx frame_count = axis_reads(&p->t, p->backward, f, frames);
  for (idx h = h0, held = 0; h < h1;) {
    char *out = band->t->tile + held * p->pixels * padded * size;
    const idx rows = compute_rows(band, frames, frame_count, h, MIN(group - held, h1 - h), out);
    h += rows;
    held += rows;
    if (held < group && h < h1) continue;
    const idx at = (f * p->rows + h - held) * p->pixels;
    j->conv->transpose(held * p->pixels, p->out, band->t->tile, padded,
                       band->add ? pk_at(band->add, j->type, at) : NULL,
                       pk_at(band->result, j->type, at), plane);
    held = 0;
  }
}

void pk_conv_band(const conv_job *j, idx b, idx h0, idx h1, idx t0, idx t1, char *scratch) {
  const conv_plan *p = j->p;
  const conv_thread t = conv_thread_of(j, scratch);
  const idx source_plane = p->source_frames * p->source_rows * p->source_pixels,
            plane = p->frames * p->rows * p->pixels;
  idx low, high, unused;
  axis_reach(&p->h, p->backward, h0, &low, &unused);
  axis_reach(&p->h, p->backward, h1 - 1, &unused, &high);
  conv_band band = {.j = j,
                    .t = &t,
                    .source = conv_sample(j, j->source, b, p->in, source_plane),
                    .norm = conv_sample(j, j->norm, b, 3 * j->norm_frames, p->in),
                    .add = conv_sample(j, j->add, b, p->out, plane),
                    .result = conv_sample(j, j->result, b, p->out, plane),
                    .low = low,
                    .rows = high - low + 1};
  band.row_elements = p->winograd_w ? p->component_pixels * j->pixel_elements : j->row_elements;
  band.plane = band.rows * band.row_elements;
  for (idx f = t0, next = -1; f < t1; f++) {
    idx first, last;
    axis_reach(&p->t, p->backward, f, &first, &last);
    fill_ring(&band, MAX(next, first), last);
    next = MAX(MAX(next, first), last + 1);
    compute_frame(&band, h0, h1, f);
  }
}
