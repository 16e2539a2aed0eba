#include "epilogue.h"

/* At most four rows and a large B: the product is as fast as B comes from memory, so that B is read
 * once, where it lies and in order. Where columns of B are contiguous, an element of C is one dot
 * product. Where rows are, fixed blocks of k have sums of their own, added in order. Nothing
 * depends on the number of threads. */
#define COLUMNS_AT_A_TIME 32      /* of contiguous columns */
#define SUM_COLUMNS_AT_A_TIME 256 /* when the blocks' sums are added */

int pk_gemv_supports(const pk_gemm_shape *s) {
  return s->m <= GEMV_MAX_M && s->csc == 1 && s->k * s->n >= GEMV_MIN_B && s->k >= GEMV_K_BLOCKS &&
         (s->csb == 1 || (s->rsb == 1 && s->csa == 1));
}

idx pk_gemv_scratch(const pk_gemm_shape *s) {
  return s->m <= GEMV_MAX_M ? GEMV_K_BLOCKS * s->m * s->n : 0;
}

/* c = beta c + alpha sums, n columns of one row. */
static void store_sums(const pk_gemm_shape *s, const float *sums, float *c, idx n) {
  const float alpha = (float)s->alpha, beta = (float)s->beta;
  for (idx j = 0; j < n; j++) c[j] = s->beta == 0 ? alpha * sums[j] : beta * c[j] + alpha * sums[j];
}

static void gemv_columns(const pk_gemm_shape *s, const float *a, const float *b,
                         const pk_epilogue *e, float *c) {
  const pk_kernels *k = pk_select(PK_F32);
#pragma omp parallel for schedule(static)
  for (idx j = 0; j < s->n; j += COLUMNS_AT_A_TIME) {
    const idx n = MIN(s->n - j, COLUMNS_AT_A_TIME);
    float sums[GEMV_MAX_M * COLUMNS_AT_A_TIME];
    k->gemv_dots(s->m, n, s->k, a, s->rsa, b + j * s->csb, s->csb, sums);
    for (idx i = 0; i < s->m; i++) store_sums(s, sums + i * n, c + i * s->rsc + j, n);
    if (e) pk_apply_epilogue(PK_F32, e, 0, s->m, j, n, c, s->rsc);
  }
}

static void gemv_rows(const pk_gemm_shape *s, const float *a, const float *b, const pk_epilogue *e,
                      float *c, float *scratch) {
  const pk_kernels *k = pk_select(PK_F32);
  const idx block_sums = s->m * s->n;
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (idx t = 0; t < GEMV_K_BLOCKS; t++) {
      const idx p0 = s->k * t / GEMV_K_BLOCKS, p1 = s->k * (t + 1) / GEMV_K_BLOCKS;
      k->gemv_sums(s->m, s->n, p1 - p0, a + p0 * s->csa, s->rsa, s->csa, b + p0 * s->rsb, s->rsb,
                   scratch + t * block_sums);
    }
#pragma omp for schedule(static)
    for (idx j = 0; j < s->n; j += SUM_COLUMNS_AT_A_TIME) {
      const idx n = MIN(s->n - j, SUM_COLUMNS_AT_A_TIME);
      for (idx i = 0; i < s->m; i++) {
        float *sums = scratch + i * s->n + j;
        for (idx t = 1; t < GEMV_K_BLOCKS; t++) k->axpby(n, 1, sums + t * block_sums, 1, sums);
        store_sums(s, sums, c + i * s->rsc + j, n);
      }
      if (e) pk_apply_epilogue(PK_F32, e, 0, s->m, j, n, c, s->rsc);
    }
  }
}

void pk_gemv(const pk_gemm_shape *s, const float *a, const float *b, const pk_epilogue *e, float *c,
             float *scratch) {
  if (s->csb == 1)
    gemv_rows(s, a, b, e, c, scratch);
  else
    gemv_columns(s, a, b, e, c);
}
