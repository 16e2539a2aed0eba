#include "../isa/kernels.h"

/* Rows of one matrix of a batch that is too small to keep the team busy by itself. */
#define BATCHED_ROWS 32

/* One product, or the rows [i, i + m) of it. The next matrices of the batch arrive meanwhile: B
 * with the first half of the rows, A with the second. */
static void multiply(const pk_kernels *kernels, const pk_gemm_shape *s, idx m, const void *a,
                     const void *b, void *c, pk_type type, const void *next_a, const void *next_b) {
  const idx half = (m / kernels->unpacked_mr + 2) / 2 * kernels->unpacked_mr;
  for (idx r = 0, rows; r < m; r += rows) {
    rows = next_a && !r && half < m ? half : m - r;
    kernels->gemm_unpacked(rows, s->n, s->k, s->alpha, pk_at(a, type, r * s->rsa), s->rsa, s->csa,
                           b, s->rsb, s->beta != 0, pk_at(c, type, r * s->rsc), s->rsc,
                           r ? next_a : next_b);
  }
}

pk_status pk_gemm_batched(pk_type type, const pk_gemm_shape *s, idx batch, idx stride_a,
                          idx stride_b, idx stride_c, const void *a, const void *b, void *c) {
  const pk_kernels *kernels = pk_select(type);
  if (!kernels) return PK_BAD_TYPE;
  if (s->m < 0 || s->n < 0 || s->k < 0 || batch < 0 || s->csb != 1 || s->csc != 1)
    return PK_BAD_SHAPE;
  if (s->beta != 0 && s->beta != 1) return PK_BAD_SHAPE;
  const idx row_blocks = batch >= PK_BLOCKS ? 1 : CEIL_DIV(s->m, BATCHED_ROWS),
            block_rows = row_blocks ? CEIL_DIV(s->m, row_blocks) : 0;
  const double work = (double)batch * (double)s->m * (double)s->n * (double)s->k;
#pragma omp parallel for schedule(static) if (work > PK_SERIAL)
  for (idx t = 0; t < batch * row_blocks; t++) {
    const idx g = t / row_blocks, i = t % row_blocks * block_rows, m = MIN(s->m - i, block_rows);
    const int is_followed = row_blocks == 1 && g + 1 < batch;
    if (m > 0)
      multiply(kernels, s, m, pk_at(a, type, g * stride_a + i * s->rsa),
               pk_at(b, type, g * stride_b), pk_at(c, type, g * stride_c + i * s->rsc), type,
               is_followed ? pk_at(a, type, (g + 1) * stride_a) : NULL,
               is_followed ? pk_at(b, type, (g + 1) * stride_b) : NULL);
  }
  return PK_OK;
}
