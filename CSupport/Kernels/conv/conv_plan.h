/* How a convolution, or its gradient with respect to the input ("backward data"), is computed row
 * by row: sizes, lines and components, scratch.
 *
 * Both are one computation. A result row (t, h) is a sum over lines; a line is a source row with
 * the weights of some of the taps (kt, kh):
 *   forward          the rows of x that y(t, h) reads
 *   backward data    the rows of dy that read x(t, h)
 * Upsampling and padding only choose rows; taps that lead to the same row are one line with the sum
 * of their weights (conv_geometry.h). Along W a line is one or more components, each a product over
 * `taps` neighbouring pixels of a packed source row:
 *   forward          one, or one for each phase of the upsampled pixels
 *   backward data    one, over dy spread by its stride; a padded row is computed, and its borders
 *                    are accumulated onto its edges
 *   Winograd         F(4, 3) along W: six, for four neighbouring results of three taps; where
 *                    weights are small, F(2, 3) along H on top: 24, for two rows of them
 *                    (conv_winograd_body.inc)
 * A thread packs the source rows that a band of result rows reads, frame by frame, into a ring of
 * the few frames that a result reads, and so waits for nobody. */
#ifndef PK_CONV_PLAN_H
#define PK_CONV_PLAN_H
#include "../isa/kernels.h"
#include "conv_geometry.h"

typedef struct {
  int backward;
  int winograd_w, winograd_h; /* F(4, 3) along W; F(2, 3) along H on top */
  idx batch, in, out;         /* channels of the source and of the result */
  axis t, h;
  idx source_frames, source_rows, source_pixels; /* extents of the source */
  idx frames, rows, pixels;                      /* extents of the result */
  /* Along W: components of a line, taps of a component, source pixels from one result to the next.
   */
  idx components, taps, step;
  /* A packed source row: pixels of padding before it, source pixels every `gap`, pixels in all. */
  idx before, gap, packed_pixels;
  idx component_pixels; /* results of a component in a row (Winograd: its tiles) */
  idx edge;             /* pixels that are accumulated onto each edge */
  idx phases, side, kw;
  int zeros;
  idx max_lines;   /* lines of a row, at most */
  idx ring_frames; /* frames that the ring holds */
  /* Units along H: rows of the result, or pairs of rows (backward: of padded rows). A band is an
   * item of work: `band` units; `bands` of them along H, each cut into `parts` along T. */
  idx units, band, bands, parts;
  idx group; /* units that are transposed into the result at once */
} conv_plan;

/* Elements of scratch. */
typedef struct {
  idx padded_out; /* result channels in whole panels */
  idx taps;       /* the weights of each tap as panels */
  idx line;       /* the panels of one line: all its components */
  /* A thread's: the ring; rows packed before they are transformed; rows transformed along W before
   * they are transformed along H; results [pixel][channel]; Winograd's products; rows with borders
   * that are not yet accumulated, and one to add. */
  idx ring, packed_rows, row_components, tile, products, bordered_rows;
  idx thread; /* all of these, and four pointers a line */
} conv_scratch;

/* Winograd is used where `winograd` allows it and the shape suits it. */
conv_plan pk_conv_plan(const pk_conv3d_shape *s, const extents *e, int backward, int winograd);
conv_scratch pk_conv_scratch(const pk_conv3d_shape *s, const conv_plan *p);

/* The factor of tap (kh, kw) in tap `tap` of a component: 0, 1 or one of Winograd's. */
double pk_conv_tap_factor(const conv_plan *p, idx component, idx tap, idx kh, idx kw);

/* Rows packed before they are transformed (packed elements, at least one row). */
#define CONV_PACKED_ROWS 16384

static inline idx floor_div(idx a, idx b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

/* Source pixels by which component c of a line is shifted: the phases of upsampled pixels. */
static inline idx pk_conv_phase_shift(const conv_plan *p, idx c) {
  return p->backward ? 0 : floor_div(c - p->side, p->phases) - floor_div(-p->side, p->phases);
}
#endif
