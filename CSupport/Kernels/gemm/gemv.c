#include "../isa/kernels.h"
#include "gemm_algorithms.h"

/* Products of f32 with at most four rows and a large B: as fast as B comes from memory, so that B
 * is read once, where it lies and in order. What is packed first comes at half that rate. Columns
 * of B contiguous: an element is one sum. Rows contiguous: fixed blocks of k have sums of their
 * own, folded in order. Nothing depends on the size of the team. */
#define MOST_ROWS 4
#define LARGE (1 << 16) /* elements of B */
#define COLUMNS 32      /* at a time, of contiguous columns */
#define BLOCKS 16
#define STRIP 256 /* columns folded at a time */

int pk_gemv_supports(const pk_gemm_shape *s) {
  return s->m <= MOST_ROWS && s->csc == 1 && s->k * s->n >= LARGE && s->k >= BLOCKS &&
         (s->csb == 1 || (s->rsb == 1 && s->csa == 1));
}

ptrdiff_t pk_gemv_scratch(const pk_gemm_shape *s) {
  return s->m <= MOST_ROWS ? BLOCKS * s->m * s->n : 0;
}

/* C = beta C + alpha sums, a row's part. */
static void put(const pk_gemm_shape *s, const float *sums, float *c, idx n) {
  const float alpha = (float)s->alpha, beta = (float)s->beta;
  for (idx j = 0; j < n; j++) c[j] = s->beta == 0 ? alpha * sums[j] : beta * c[j] + alpha * sums[j];
}

void pk_gemv(const pk_gemm_shape *s, const float *a, const float *b, const pk_epilogue *e, float *c,
             float *scratch) {
  const pk_kernels *k = pk_select(PK_F32);
  if (s->csb != 1) {
#pragma omp parallel for schedule(static)
    for (idx j = 0; j < s->n; j += COLUMNS) {
      const idx n = MIN(s->n - j, COLUMNS);
      float sums[MOST_ROWS * COLUMNS];
      k->gemv_dots(s->m, n, s->k, a, s->rsa, b + j * s->csb, s->csb, sums);
      for (idx i = 0; i < s->m; i++) put(s, sums + i * n, c + i * s->rsc + j, n);
      if (e) pk_apply_epilogue(PK_F32, e, 0, s->m, j, n, c, s->rsc);
    }
    return;
  }
  const idx each = s->m * s->n;
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (idx t = 0; t < BLOCKS; t++) {
      const idx p = s->k * t / BLOCKS, q = s->k * (t + 1) / BLOCKS;
      k->gemv_sums(s->m, s->n, q - p, a + p * s->csa, s->rsa, s->csa, b + p * s->rsb, s->rsb,
                   scratch + t * each);
    }
#pragma omp for schedule(static)
    for (idx j = 0; j < s->n; j += STRIP) {
      const idx n = MIN(s->n - j, STRIP);
      for (idx i = 0; i < s->m; i++) {
        float *sums = scratch + i * s->n + j;
        for (idx t = 1; t < BLOCKS; t++) k->axpby(n, 1, sums + t * each, 1, sums);
        put(s, sums, c + i * s->rsc + j, n);
      }
      if (e) pk_apply_epilogue(PK_F32, e, 0, s->m, j, n, c, s->rsc);
    }
  }
}
