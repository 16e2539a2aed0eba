#include "conv_plan.h"

/* Result pixels that are transposed at once, at least. */
#define GROUP_PIXELS 64
/* The same for Winograd F(4, 3), where rows have the same lines. */
#define GROUP_WINOGRAD_PIXELS 96
/* Winograd F(2, 3): tiles of a group; weights of a tap up to which it is used, since 24 components
 * of them are read again for each group; and tiles of a plane that repay the padded rows of
 * backward data. */
#define PAIRS_GROUP_TILES 44
#define PAIRS_MAX_WEIGHTS 8192
#define PAIRS_MIN_BACKWARD_TILES 32
/* Packed elements of a thread's ring, which is read again for every tap: 512 KiB stay in L2. */
#define RING_L2_BUDGET 131072
/* Items of work for each thread. */
#define ITEMS_PER_THREAD 4

/* Source rows that a band of units reaches, at most. */
static idx reached_rows(const conv_plan *p, idx units) {
  return p->winograd_h ? MIN(2 * units + 2, p->source_rows) : axis_span(&p->h, p->backward, units);
}

/* Packed elements (values) of a frame of a band's ring. */
static idx frame_elements(const conv_plan *p, idx units) {
  if (p->winograd_h) return 24 * units * p->component_pixels * p->in;
  const idx row = p->winograd_w ? 6 * p->component_pixels : p->packed_pixels;
  return reached_rows(p, units) * row * p->in;
}

/* Components, taps and packed rows along W, without Winograd. */
static void plan_width(conv_plan *p, const pk_conv3d_shape *s, idx edge) {
  if (p->backward) {
    p->taps = s->fw + s->kw - 1;
    p->before = s->fw * edge + s->kw - 1 - s->side;
    p->packed_pixels = s->fw * (p->component_pixels - 1) + p->taps;
    return;
  }
  p->before = edge;
  p->taps = 1;
  for (idx q = 0; q < s->fw; q++)
    p->taps =
        MAX(p->taps, floor_div(q + s->kw - 1 - s->side, s->fw) - floor_div(q - s->side, s->fw) + 1);
  const idx reach = (p->component_pixels - 1) * p->step + p->taps +
                    floor_div(s->fw - 1 - s->side, s->fw) - floor_div(-s->side, s->fw);
  p->packed_pixels = MAX(s->w + 2 * edge, reach);
}

/* Winograd F(4, 3) along W replaces rows of three taps without stride or upsampling, and F(2, 3)
 * along H is put on top. */
static void plan_winograd(conv_plan *p, const pk_conv3d_shape *s) {
  p->taps = 1;
  p->component_pixels = CEIL_DIV(p->component_pixels, 4);
  p->packed_pixels = MAX(p->packed_pixels, 4 * p->component_pixels + 2);
  p->winograd_h =
      s->kh == 3 && s->sh == 1 && s->fh == 1 && p->rows >= 4 &&
      p->in * p->out <= PAIRS_MAX_WEIGHTS &&
      (!p->backward || (s->side == 1 && s->h % 2 == 0 &&
                        (s->h / 2 + 1) * p->component_pixels >= PAIRS_MIN_BACKWARD_TILES));
  if (!p->winograd_h) return;
  p->components = 24;
  p->units = (p->rows + (p->backward ? 2 * s->side : 0) + 1) / 2;
  p->h.ranges = 1;
  p->h.taps[0] = (axis_range){0, 2};
}

/* As many units in a band as the ring has room for. Where there are too few items for the team,
 * frames are divided, and then bands. */
static void plan_bands(conv_plan *p) {
  const idx wanted = ITEMS_PER_THREAD * pk_threads();
  p->band = p->units;
  while (p->band > p->group && p->ring_frames * frame_elements(p, p->band) > RING_L2_BUDGET)
    p->band -= p->group;
  p->bands = CEIL_DIV(p->units, p->band);
  p->parts = 1;
  if (p->batch * p->bands < wanted) {
    const idx parts = CEIL_DIV(wanted, MAX(1, p->batch * p->bands));
    p->parts = MAX(1, MIN(parts, p->frames / (2 * p->ring_frames)));
  }
  if (p->batch * p->parts * p->bands < wanted) {
    const idx bands = CEIL_DIV(wanted, MAX(1, p->batch * p->parts));
    p->bands = MIN(bands, CEIL_DIV(p->units, p->group));
  }
  p->band = CEIL_DIV(p->units, p->bands);
  p->bands = CEIL_DIV(p->units, p->band);
}

conv_plan pk_conv_plan(const pk_conv3d_shape *s, const extents *e, int backward, int winograd) {
  const idx edge = backward && s->zeros ? 0 : CEIL_DIV(s->side, s->fw);
  conv_plan p = {.backward = backward,
                 .batch = s->batch,
                 .in = backward ? s->out : s->in,
                 .out = backward ? s->in : s->out,
                 .source_frames = backward ? e->to : s->t,
                 .source_rows = backward ? e->ho : s->h,
                 .source_pixels = backward ? e->wo : s->w,
                 .frames = backward ? s->t : e->to,
                 .rows = backward ? s->h : e->ho,
                 .pixels = backward ? s->w : e->wo,
                 .gap = backward ? s->sw : 1,
                 .edge = backward ? edge : 0,
                 .phases = s->fw,
                 .side = s->side,
                 .kw = s->kw,
                 .zeros = s->zeros};
  p.t = axis_of(s->t, s->ft, 1, s->kt, s->st, s->front, e->to, 1, s->zeros);
  p.h = axis_of(s->h, s->fh, 0, s->kh, s->sh, s->side, e->ho, s->fh > 1, s->zeros);
  p.component_pixels = backward ? s->w + 2 * edge : s->fw > 1 ? s->w : e->wo;
  p.winograd_w = winograd && s->kw == 3 && s->sw == 1 && s->fw == 1 && p.component_pixels >= 4;
  p.components = p.winograd_w ? 6 : backward ? 1 : s->fw;
  p.step = p.winograd_w ? 1 : backward ? s->fw : s->sw;
  p.units = p.rows;
  plan_width(&p, s, edge);
  if (p.winograd_w) plan_winograd(&p, s);
  p.max_lines = axis_most(&p.t, backward) * (p.winograd_h ? 1 : axis_most(&p.h, backward));
  p.ring_frames = axis_span(&p.t, backward, 1);
  if (p.winograd_h) {
    p.group = MAX(1, MIN(PAIRS_GROUP_TILES / p.component_pixels, p.units));
  } else {
    const idx pixels = p.winograd_w ? GROUP_WINOGRAD_PIXELS : GROUP_PIXELS;
    p.group = MIN(CEIL_DIV(pixels, p.pixels), p.rows);
  }
  plan_bands(&p);
  return p;
}

/* Weights of Winograd's components, F(4, 3) with the points 0, 1, -1, 2, -2 and F(2, 3) with 0, 1,
 * -1 (Lavin and Gray 2016, arXiv:1509.09308). Backward data reads the taps in reverse. */
static double winograd_factor(const conv_plan *p, idx component, idx kh, idx kw) {
  static const double f43[6][3] = {{1. / 4, 0, 0},
                                   {-1. / 6, -1. / 6, -1. / 6},
                                   {-1. / 6, 1. / 6, -1. / 6},
                                   {1. / 24, 1. / 12, 1. / 6},
                                   {1. / 24, -1. / 12, 1. / 6},
                                   {0, 0, 1}};
  static const double f23[4][3] = {
      {1, 0, 0}, {1. / 2, 1. / 2, 1. / 2}, {1. / 2, -1. / 2, 1. / 2}, {0, 0, 1}};
  const double along_w = f43[component % 6][p->backward ? 2 - kw : kw];
  return p->winograd_h ? along_w * f23[component / 6][p->backward ? 2 - kh : kh] : along_w;
}

double pk_conv_tap_factor(const conv_plan *p, idx component, idx tap, idx kh, idx kw) {
  if (p->winograd_w) return winograd_factor(p, component, kh, kw);
  if (p->backward) return floor_div(tap + kw - (p->kw - 1), p->phases) == 0;
  return floor_div(component + kw - p->side, p->phases) ==
         floor_div(component - p->side, p->phases) + tap;
}

conv_scratch pk_conv_scratch(const pk_conv3d_shape *s, const conv_plan *p) {
  conv_scratch z;
  const idx held = MIN(p->group, p->band), row_tiles = p->component_pixels;
  z.padded_out = ROUND_UP(p->out, PK_PANEL_COLUMNS);
  z.taps = ROUND_UP(s->kt * s->kh * s->kw * p->in * z.padded_out, 16);
  z.line = p->components * p->taps * p->in * z.padded_out;
  z.packed_rows = 0;
  if (p->winograd_w) {
    const idx row = p->packed_pixels * p->in;
    z.packed_rows =
        ROUND_UP(MAX(1, MIN(CONV_PACKED_ROWS / row, reached_rows(p, p->band))) * row, 16);
  }
  z.row_components =
      p->winograd_h ? ROUND_UP(reached_rows(p, p->band) * 6 * row_tiles * p->in, 16) : 0;
  z.ring = ROUND_UP(p->ring_frames * frame_elements(p, p->band) + 32, 16);
  z.tile = ROUND_UP(((p->winograd_h ? 2 : 1) * held * p->pixels + 4) * z.padded_out, 16);
  z.products = p->winograd_w ? ROUND_UP(p->components * held * row_tiles * z.padded_out, 16) : 0;
  const idx bordered = p->winograd_w ? (p->winograd_h ? 8 : 4) * row_tiles + p->pixels : row_tiles;
  z.bordered_rows = ROUND_UP(bordered * z.padded_out, 16);
  /* A thread also combines the weights of one panel here before it is packed. */
  z.thread = MAX(z.ring + z.packed_rows + z.row_components + z.tile + z.products + z.bordered_rows +
                     ROUND_UP(8 * p->max_lines, 16),
                 PK_PANEL_COLUMNS * p->in);
  return z;
}
