#include "../isa/omp_declarations.h"
#include "gemm_algorithms.h"

/* Neither operand is packed: a product whose B stays in the caches near a core gains nothing from
 * it. Rows or columns of C are divided among the threads. */

int pk_gemm_unpacked_supports(const pk_gemm_shape *s) {
  const int is_small =
      s->k * s->n <= UNPACKED_MAX_B && (s->csa == 1 || s->m * s->k <= UNPACKED_MAX_TRANSPOSED_A);
  return pk_compute_type() != PK_BF16 && s->csb == 1 && s->csc == 1 && s->k <= PK_KC_MAX &&
         (s->m <= UNPACKED_MAX_ROWS || is_small) && (s->beta == 0 || s->beta == 1);
}

void pk_gemm_unpacked(const pk_gemm_shape *s, const float *a, const float *b, float *c) {
  const pk_kernels *kernels = pk_select(PK_F32);
  const int by_rows = s->m >= s->n / 4;
  const idx extent = by_rows ? s->m : s->n,
            unit = by_rows ? kernels->unpacked_mr : kernels->unpacked_nr,
            units = CEIL_DIV(extent, unit);
  /* The team is worth its start by the arithmetic, or by the writing of C. */
#pragma omp parallel if (pk_gemm_is_parallel(s) || s->m * s->n > 2 * PK_SERIAL)
  {
    const idx threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const idx first = units * thread / threads * unit,
              last = MIN(units * (thread + 1) / threads * unit, extent);
    const idx step = by_rows ? UNPACKED_ROWS_AT_A_TIME : last - first;
    for (idx i = first; i < last; i += step)
      if (by_rows)
        kernels->gemm_unpacked(MIN(last - i, step), s->n, s->k, s->alpha, a + i * s->rsa, s->rsa,
                               s->csa, b, s->rsb, s->beta != 0, c + i * s->rsc, s->rsc, NULL);
      else
        kernels->gemm_unpacked(s->m, step, s->k, s->alpha, a, s->rsa, s->csa, b + i, s->rsb,
                               s->beta != 0, c + i, s->rsc, NULL);
  }
}
