#include "pack.h"

idx pk_equal_parts(idx n, idx most, idx unit) {
  const idx parts = CEIL_DIV(n, most);
  return ROUND_UP(CEIL_DIV(n, parts), unit);
}

/* An even number of values, so that a K block holds whole pairs of bf16. */
idx pk_gemm_kc(idx k) { return pk_equal_parts(k, PK_KC_MAX * pk_gemm_kernel_f32()->k_group, 2); }

void pk_pack_a_tiles(const pk_gemm_kernel *kernel, const pk_gemm_shape *s, const float *a,
                     idx tile0, idx tile1, idx p, idx kc, float *packed, idx stride) {
  const idx mr = kernel->mr, along_k = s->csa == 1;
  const idx together = along_k ? 1 : PACK_TILES_TOGETHER, chunk = along_k ? kc : PACK_K_AT_A_TIME;
  const idx element_size = kernel->row_major_a ? 1 : mr;
  for (idx group = tile0; group < tile1; group += together)
    for (idx q = 0; q < kc; q += chunk)
      for (idx t = group; t < MIN(group + together, tile1); t++)
        kernel->pack_a(MIN(s->m - t * mr, mr), MIN(kc - q, chunk),
                       a + t * mr * s->rsa + (p + q) * s->csa, s->rsa, s->csa,
                       packed + (t - tile0) * stride + q / kernel->k_group * element_size);
}

void pk_pack_b_panels(const pk_gemm_kernel *kernel, const pk_gemm_shape *s, const float *b,
                      idx panel0, idx panel1, idx p, idx kc, float *packed) {
  const idx nr = kernel->nr, elements = CEIL_DIV(kc, kernel->k_group);
  const idx chunk = s->csb == 1 ? PACK_K_AT_A_TIME : kc;
  for (idx q = 0; q < kc; q += chunk)
    for (idx t = panel0; t < panel1; t++)
      kernel->pack_b(MIN(s->n - t * nr, nr), MIN(kc - q, chunk),
                     b + (p + q) * s->rsb + t * nr * s->csb, s->rsb, s->csb,
                     packed + ((t - panel0) * elements + q / kernel->k_group) * nr);
}

/* The layout of packed B: K blocks in order, each [panel][elements of k][nr], over columns rounded
 * up to PK_PANEL_COLUMNS. In bf16 half of it is used. */
idx pk_gemm_packed_count(idx n, idx k) { return k < 1 ? 0 : ROUND_UP(n, PK_PANEL_COLUMNS) * k; }

int pk_gemm_layout(void) {
  return (int)(pk_gemm_kernel_f32()->nr * 4 + pk_gemm_kernel_f32()->k_group);
}

void pk_pack_b_panel(const pk_gemm_shape *s, const float *b, idx panel, float *packed) {
  const pk_gemm_kernel *kernel = pk_gemm_kernel_f32();
  const idx kc_max = pk_gemm_kc(s->k), nr = kernel->nr, columns = ROUND_UP(s->n, PK_PANEL_COLUMNS);
  for (idx p = 0, kc; p < s->k; p += kc) {
    kc = MIN(s->k - p, kc_max);
    const idx elements = CEIL_DIV(kc, kernel->k_group);
    kernel->pack_b(MIN(s->n - panel * nr, nr), kc, b + p * s->rsb + panel * nr * s->csb, s->rsb,
                   s->csb, packed + panel * elements * nr);
    packed += columns * elements;
  }
}

/* f32 values of the part of B that a K block of a panel packs: read along rows of W. Rows are one
 * cache line longer than a K block of 768 values, so that they do not evict each other from L1. */
#define WIDE_LD (2 * PK_KC_MAX + 16)

/* Row `row` of W, `n` elements from `column` on, as f32. */
static void widen_run(const pk_weight *w, idx row, idx ld, idx column, idx n, float *y) {
  pk_select(PK_F32)->widen(w->type, n, pk_at(w->elements, w->type, row * ld + column),
                           w->scale ? w->scale[row] : 1, y);
}

/* As pk_pack_b_panel, from any type of weight. */
static void pack_stored_panel(const pk_gemm_shape *s, const pk_weight *w, idx panel,
                              float *packed) {
  const pk_gemm_kernel *kernel = pk_gemm_kernel_f32();
  const idx kc_max = pk_gemm_kc(s->k), nr = kernel->nr, columns = ROUND_UP(s->n, PK_PANEL_COLUMNS);
  const idx column0 = panel * nr, count = MIN(s->n - column0, nr);
  float wide[PK_PANEL_COLUMNS * WIDE_LD];
  for (idx p = 0, kc; p < s->k; p += kc) {
    kc = MIN(s->k - p, kc_max);
    const idx elements = CEIL_DIV(kc, kernel->k_group);
    float *out = packed + panel * elements * nr;
    if (w->type == PK_BF16 && kernel->pack_b_from_bf16) {
      const uint16_t *b = w->elements;
      kernel->pack_b_from_bf16(count, kc, b + p * s->rsb + column0 * s->csb, s->rsb, s->csb, out);
    } else if (s->rsb == 1) {
      for (idx j = 0; j < count; j++) widen_run(w, column0 + j, s->csb, p, kc, wide + j * WIDE_LD);
      kernel->pack_b(count, kc, wide, 1, WIDE_LD, out);
    } else {
      for (idx i = 0; i < kc; i++) widen_run(w, p + i, s->rsb, column0, count, wide + i * nr);
      kernel->pack_b(count, kc, wide, nr, 1, out);
    }
    packed += columns * elements;
  }
}

pk_status pk_gemm_pack(const pk_gemm_shape *s, const pk_weight *b, void *packed) {
  if (s->n < 1 || s->k < 1) return PK_BAD_SHAPE;
  if (b->type == PK_F64 || (b->type == PK_I8 && !b->scale)) return PK_BAD_TYPE;
  if (b->type != PK_F32 && s->rsb != 1 && s->csb != 1) return PK_BAD_SHAPE;
  const idx panels = CEIL_DIV(s->n, pk_gemm_kernel_f32()->nr);
#pragma omp parallel for schedule(static)
  for (idx t = 0; t < panels; t++) {
    if (b->type == PK_F32)
      pk_pack_b_panel(s, b->elements, t, packed);
    else
      pack_stored_panel(s, b, t, packed);
  }
  return PK_OK;
}

pk_status pk_widen(idx rows, idx columns, const pk_weight *w, float *y) {
  if (w->type == PK_F64 || (w->type == PK_I8 && !w->scale)) return PK_BAD_TYPE;
  if (w->type == PK_I8) {
#pragma omp parallel for schedule(static) if (rows * columns > PK_SERIAL)
    for (idx r = 0; r < rows; r++) widen_run(w, r, columns, 0, columns, y + r * columns);
    return PK_OK;
  }
  /* Without scales rows do not matter, which may be as short as a kernel of a convolution. */
  const idx n = rows * columns;
#pragma omp parallel for schedule(static) if (n > PK_SERIAL)
  for (idx b = 0; b < PK_BLOCKS; b++)
    widen_run(w, 0, n, PK_LO(b, n), PK_HI(b, n) - PK_LO(b, n), y + PK_LO(b, n));
  return PK_OK;
}
