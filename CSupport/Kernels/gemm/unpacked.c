#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"
#include "gemm_algorithms.h"

#define FEW_ROWS 48            /* rows of C that repay no packing, whatever B's size */
#define MAX_B 65536            /* elements of B, with more rows than that */
#define MAX_TRANSPOSED_A 32768 /* elements of transposed A, with more rows than that */
#define NEAR_ROWS 96           /* rows of C at a time: a multiple of every tile's rows */

/* Products whose B stays near the processor gain nothing from packing: rows or columns of C are cut
 * among the team. */
int pk_gemm_unpacked_supports(const pk_gemm_shape *s) {
  const int near = s->k * s->n <= MAX_B && (s->csa == 1 || s->m * s->k <= MAX_TRANSPOSED_A);
  return pk_compute_type() != PK_BF16 && s->csb == 1 && s->csc == 1 && s->k <= PK_KC_MAX &&
         (s->m <= FEW_ROWS || near) && (s->beta == 0 || s->beta == 1);
}

void pk_gemm_unpacked(const pk_gemm_shape *s, const float *a, const float *b, float *c) {
  const pk_kernels *kernels = pk_select(PK_F32);
  const int by_rows = s->m >= s->n / 4;
  const idx extent = by_rows ? s->m : s->n,
            unit = by_rows ? kernels->unpacked_mr : kernels->unpacked_nr,
            units = (extent + unit - 1) / unit;
  const double flops = 2.0 * (double)s->m * (double)s->n * (double)s->k;
  /* Worth a fork by its arithmetic, or by the writing of C. */
#pragma omp parallel if (flops > 5e5 || s->m * s->n > 2 * PK_SERIAL)
  {
    const idx threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const idx first = units * thread / threads * unit,
              last = MIN(units * (thread + 1) / threads * unit, extent);
    for (idx from = first, step = by_rows ? NEAR_ROWS : last - first; from < last; from += step)
      kernels->gemm_unpacked(by_rows ? MIN(last - from, step) : s->m, by_rows ? s->n : step, s->k,
                             s->alpha, a + (by_rows ? from : 0) * s->rsa, s->rsa, s->csa,
                             b + (by_rows ? 0 : from), s->rsb, s->beta != 0,
                             c + (by_rows ? from * s->rsc : from), s->rsc, NULL);
  }
}
