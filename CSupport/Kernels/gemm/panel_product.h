/* What the two algorithms with one shared packed operand have in common: the product, its sizes in
 * micro-tiles, and the innermost loops. */
#ifndef PK_PANEL_PRODUCT_H
#define PK_PANEL_PRODUCT_H
#include "epilogue.h"
#include "pack.h"

typedef struct {
  const pk_gemm_kernel *kernel;
  const pk_gemm_shape *s;
  const float *a, *b, *packed_b; /* packed_b: of pk_gemm_pack, or NULL */
  float *c, *scratch;
  split_epilogue epilogue;
  idx tiles;   /* micro-tiles along C's rows */
  idx panels;  /* panels along C's columns */
  idx columns; /* C's columns, rounded up to PK_PANEL_COLUMNS */
  idx kc;      /* values of k in a K block */
} panel_product;

panel_product pk_panel_product(const pk_gemm_shape *s, const float *a, const float *b,
                               const float *packed_b, const pk_epilogue *e, float *c,
                               float *scratch);

/* Packed elements of a micro-tile of A, kc values of k. pack_a may write past its end. */
static inline idx pk_tile_size(const pk_gemm_kernel *kernel, idx kc) {
  return kernel->mr * kc + PK_PACK_SLACK;
}

/* C [tiles tile0 .. tile1, panels panel0 .. panel1] += packed A times packed B, kc values of k from
 * p on. A's tiles lie pk_tile_size apart. Tile after tile: a tile of A stays in L1 while panels
 * come from L2, and so does its row of C until the epilogue, which follows the last K block.
 * `prefetch` (or NULL) follows the epilogue's operands. */
void pk_multiply_panels(const panel_product *product, idx tile0, idx tile1, idx panel0, idx panel1,
                        idx p, idx kc, const float *a, const float *b,
                        pk_prefetch_stream *prefetch);

/* What packing micro-tiles [tile0, tile1) of A will read. */
pk_prefetch_stream pk_prefetch_tiles(const panel_product *product, idx tile0, idx tile1);

/* What packing panels [panel0, panel1) of B will read, k in [k0, k1); or the packed panels
 * themselves. */
pk_prefetch_stream pk_prefetch_panels(const panel_product *product, idx panel0, idx panel1, idx k0,
                                      idx k1);
#endif
