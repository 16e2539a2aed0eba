#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"
#include "../isa/work_stealing.h"
#include "gemm_algorithms.h"

/* Products of f32 with few columns: packing A would not be repaid, so it is read where it lies
 * (unpacked_a_body.inc). By shape alone, since sums begin with C or the bias. Not where A's rows are a
 * multiple of 4096 bytes apart: they evict each other from L1. */
#define MOST_COLUMNS 256
#define MOST_K 2048
#define ROWS 88 /* rows of C in an item */

int pk_gemm_unpacked_a_supports(const pk_gemm_shape *s) {
  const idx pieces = CEIL_DIV(s->k, PK_KC_MAX);
  return pk_compute_type() != PK_BF16 && s->n <= MOST_COLUMNS &&
         s->n % pk_select(PK_F32)->lanes == 0 && s->n % 16 == 0 && s->k <= MOST_K &&
         s->k % (2 * pieces) == 0 && s->csc == 1 && s->csa == 1 && s->rsa % 1024 && s->alpha == 1 &&
         (s->beta == 0 || s->beta == 1);
}

idx pk_gemm_unpacked_a_scratch(const pk_gemm_shape *s) {
  return s->n <= MOST_COLUMNS && s->k <= MOST_K ? pk_gemm_packed_count(s->n, s->k) : 0;
}

void pk_gemm_unpacked_a(const pk_gemm_shape *s, const float *a, const float *b, const float *ready,
                        const pk_epilogue *e, float *c, float *scratch) {
  const pk_gemm_kernel *kernel = &pk_select(PK_F32)->gemm;
  const idx depth = pk_gemm_kc(s->k), terms = s->k / depth, columns = kernel->nr,
            panels = CEIL_DIV(s->n, columns), across = CEIL_DIV(s->n, 32) * 32;
  const float *packed = ready ? ready : scratch;
  pk_epilogue rest = e ? *e : (pk_epilogue){0};
  const pk_epilogue added = {rest.bias, 0, NULL, NULL, 0, 0};
  rest.bias = NULL;
  pk_work_range runs[PK_WORK_RANGES];
  const int forks = 2.0 * (double)s->m * (double)s->n * (double)s->k > 5e5;
#pragma omp parallel if (forks)
  {
    const idx threads = omp_get_num_threads(), thread = omp_get_thread_num();
    for (idx t = panels * thread / threads; t < panels * (thread + 1) / threads && !ready; t++)
      pk_pack_b_panel(s, b, t, scratch);
    pk_partition(runs, CEIL_DIV(s->m, ROWS), threads, thread);
#pragma omp barrier
    for (idx item; (item = pk_steal(runs, threads, thread)) >= 0;) {
      const idx i = item * ROWS, m = MIN(s->m - i, ROWS);
      const void *from[MOST_K / PK_KC_MAX + 1], *with[MOST_K / PK_KC_MAX + 1];
      for (idx t = 0; t < terms; t++)
        from[t] = a + i * s->rsa + t * depth, with[t] = packed + t * across * depth;
      float *to = c + i * s->rsc;
      const int adds = s->beta != 0;
      kernel->unpacked_a(m, s->n, terms, from, s->rsa, depth, with, depth * columns,
                         adds ? to : added.bias, adds ? s->rsc : 0, to, s->rsc);
      if (added.bias && adds) pk_apply_epilogue(PK_F32, &added, i, m, 0, s->n, c, s->rsc);
      if (rest.active || rest.before) pk_apply_epilogue(PK_F32, &rest, i, m, 0, s->n, c, s->rsc);
    }
  }
}
