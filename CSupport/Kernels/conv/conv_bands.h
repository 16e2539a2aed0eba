/* One item of work of a convolution: a band of result rows of one sample, over some frames. */
#ifndef PK_CONV_BANDS_H
#define PK_CONV_BANDS_H
#include "conv_plan.h"

/* What all items share. Arrays of `type`; packed rows and panels hold packed elements. */
typedef struct {
  const conv_plan *p;
  const conv_scratch *z;
  pk_type type;
  const pk_kernels *kernels;
  const pk_conv_kernels *conv;
  const pk_gemm_kernel *gemm;
  idx pixel_elements; /* packed elements of a source pixel: its channels */
  idx row_elements;   /* of a packed row, or of its six components */
  idx k;              /* of a component's taps: what a product runs over */
  idx line_elements;  /* of the panels of one line, all components */
  const char *panels; /* [line][component][panel][k][nr] */
  const void *bias;   /* [padded_out], or NULL */
  const void *source, *norm, *add;
  idx norm_frames;
  int silu;
  void *result;
} conv_job;

/* The scratch of one thread, and the pointers to the lines of a row. */
typedef struct {
  char *ring, *packed_rows, *row_components, *tile, *products, *bordered_rows;
  const void **sources, **panels; /* [max_lines]: where lines begin */
  const void **a, **b;            /* [max_lines]: where one component of them begins */
} conv_thread;

/* Sample b of an array of `planes` planes of `plane` elements; NULL stays NULL. */
static inline void *conv_sample(const conv_job *j, const void *array, idx b, idx planes,
                                idx plane) {
  return array ? pk_at(array, j->type, b * planes * plane) : NULL;
}

/* What normalises frame f of a sample. */
static inline const void *conv_frame_norm(const conv_job *j, const void *norm, idx f) {
  return norm && j->norm_frames > 1 ? pk_at(norm, j->type, 3 * f * j->p->in) : norm;
}

static inline conv_thread conv_thread_of(const conv_job *j, char *scratch) {
  const conv_scratch *z = j->z;
  const idx size = pk_size(j->type), lines = j->p->max_lines;
  conv_thread t = {.ring = scratch};
  t.packed_rows = t.ring + z->ring * size;
  t.row_components = t.packed_rows + z->packed_rows * size;
  t.tile = t.row_components + z->row_components * size;
  t.products = t.tile + z->tile * size;
  t.bordered_rows = t.products + z->products * size;
  t.sources = (const void **)(t.bordered_rows + z->bordered_rows * size);
  t.panels = t.sources + lines;
  t.a = t.panels + lines;
  t.b = t.a + lines;
  return t;
}

/* `count` source rows from x on are packed, normalised by `norm`, and transformed along W: row r at
 * out + r * step, its six components `plane` apart. */
void pk_conv_pack_winograd(const conv_job *j, const char *x, const void *norm, idx count,
                           char *packed, char *out, idx step, idx plane);

/* Rows [h0, h1) of frames [t0, t1) of sample b. */
void pk_conv_band(const conv_job *j, idx b, idx h0, idx h1, idx t0, idx t1, char *scratch);

/* The same with Winograd F(2, 3) along H: pairs of rows [u0, u1). */
void pk_conv_winograd_band(const conv_job *j, idx b, idx u0, idx u1, idx t0, idx t1, char *scratch);
#endif
