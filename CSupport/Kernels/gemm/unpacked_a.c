#include "../isa/omp_declarations.h"
#include "../isa/work_stealing.h"
#include "epilogue.h"
#include "pack.h"

/* Few columns: packing A would not be repaid by so few panels of B, so A is read in place. Chosen
 * by the shape alone, since sums begin with C or the bias. */
#define MAX_K_BLOCKS (UNPACKED_A_MAX_K / PK_KC_MAX + 1)

/* k must divide into equal K blocks, columns into whole vectors. */
int pk_gemm_unpacked_a_supports(const pk_gemm_shape *s) {
  const idx k_blocks = CEIL_DIV(s->k, PK_KC_MAX);
  return pk_compute_type() != PK_BF16 && s->n <= UNPACKED_A_MAX_N &&
         s->n % pk_select(PK_F32)->lanes == 0 && s->n % 16 == 0 && s->k <= UNPACKED_A_MAX_K &&
         s->k % (2 * k_blocks) == 0 && s->csc == 1 && s->csa == 1 &&
         s->rsa % UNPACKED_A_BAD_STRIDE && s->alpha == 1 && (s->beta == 0 || s->beta == 1);
}

idx pk_gemm_unpacked_a_scratch(const pk_gemm_shape *s) {
  return s->n <= UNPACKED_A_MAX_N && s->k <= UNPACKED_A_MAX_K ? pk_gemm_packed_count(s->n, s->k)
                                                              : 0;
}

/* Rows [i, i + m) of C. The K blocks are the terms of unpacked_a. */
static void multiply_rows(const pk_gemm_shape *s, idx i, idx m, const float *a, const float *packed,
                          const split_epilogue *e, float *c) {
  const pk_gemm_kernel *kernel = &pk_select(PK_F32)->gemm;
  const idx kc = pk_gemm_kc(s->k), k_blocks = s->k / kc, columns = ROUND_UP(s->n, PK_PANEL_COLUMNS);
  const void *rows[MAX_K_BLOCKS], *panels[MAX_K_BLOCKS];
  for (idx t = 0; t < k_blocks; t++) {
    rows[t] = a + i * s->rsa + t * kc;
    panels[t] = packed + t * columns * kc;
  }
  const int accumulates = s->beta != 0;
  float *out = c + i * s->rsc;
  kernel->unpacked_a(m, s->n, k_blocks, rows, s->rsa, kc, panels, kc * kernel->nr,
                     accumulates ? out : e->bias, accumulates ? s->rsc : 0, out, s->rsc);
  const pk_epilogue bias = {.bias = e->bias};
  if (e->bias && accumulates) pk_apply_epilogue(PK_F32, &bias, i, m, 0, s->n, c, s->rsc);
  if (e->has_rest) pk_apply_epilogue(PK_F32, &e->rest, i, m, 0, s->n, c, s->rsc);
}

void pk_gemm_unpacked_a(const pk_gemm_shape *s, const float *a, const float *b,
                        const float *packed_b, const pk_epilogue *e, float *c, float *scratch) {
  const idx panels = CEIL_DIV(s->n, pk_select(PK_F32)->gemm.nr);
  const float *packed = packed_b ? packed_b : scratch;
  const split_epilogue split = pk_split_epilogue(e);
  pk_work_range ranges[PK_WORK_RANGES];
#pragma omp parallel if (pk_gemm_is_parallel(s))
  {
    const idx threads = omp_get_num_threads(), thread = omp_get_thread_num();
    for (idx t = panels * thread / threads; t < panels * (thread + 1) / threads && !packed_b; t++)
      pk_pack_b_panel(s, b, t, scratch);
    pk_partition(ranges, CEIL_DIV(s->m, UNPACKED_A_ITEM_ROWS), threads, thread);
#pragma omp barrier
    for (idx item; (item = pk_steal(ranges, threads, thread)) >= 0;) {
      const idx i = item * UNPACKED_A_ITEM_ROWS;
      multiply_rows(s, i, MIN(s->m - i, UNPACKED_A_ITEM_ROWS), a, packed, &split, c);
    }
  }
}
