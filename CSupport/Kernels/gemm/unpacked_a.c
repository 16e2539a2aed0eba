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
#define LEAST(a, b) ((a) < (b) ? (a) : (b))
#define CEIL(a, b) (((a) + (b) - 1) / (b))

int pk_columns_suit(const pk_gemm_shape *s) {
  const idx pieces = CEIL(s->k, PK_PRODUCT_K);
  return pk_products() != PK_BF16 && s->n <= MOST_COLUMNS && s->n % pk_select(PK_F32)->lanes == 0 &&
         s->n % 16 == 0 && s->k <= MOST_K && s->k % (2 * pieces) == 0 && s->csc == 1 &&
         s->csa == 1 && s->rsa % 1024 && s->alpha == 1 && (s->beta == 0 || s->beta == 1);
}

idx pk_columns_scratch(const pk_gemm_shape *s) {
  return s->n <= MOST_COLUMNS && s->k <= MOST_K ? pk_gemm_packed_count(s->n, s->k) : 0;
}

void pk_columns_product(const pk_gemm_shape *s, const float *a, const float *b, const float *ready,
                        const pk_epilogue *e, float *c, float *scratch) {
  const pk_product *product = &pk_select(PK_F32)->product;
  const idx depth = pk_product_depth(s->k), terms = s->k / depth, columns = product->columns,
            panels = CEIL(s->n, columns), across = CEIL(s->n, 32) * 32;
  const float *packed = ready ? ready : scratch;
  pk_epilogue rest = e ? *e : (pk_epilogue){0};
  const pk_epilogue added = {rest.bias, 0, NULL, NULL, 0, 0};
  rest.bias = NULL;
  pk_run runs[PK_RUNS];
  const int forks = 2.0 * (double)s->m * (double)s->n * (double)s->k > 5e5;
#pragma omp parallel if (forks)
  {
    const idx team = omp_get_num_threads(), me = omp_get_thread_num();
    for (idx t = panels * me / team; t < panels * (me + 1) / team && !ready; t++)
      pk_pack_panel(s, b, t, scratch);
    pk_share_out(runs, CEIL(s->m, ROWS), team, me);
#pragma omp barrier
    for (idx item; (item = pk_take(runs, team, me)) >= 0;) {
      const idx i = item * ROWS, m = LEAST(s->m - i, ROWS);
      const void *from[MOST_K / PK_PRODUCT_K + 1], *with[MOST_K / PK_PRODUCT_K + 1];
      for (idx t = 0; t < terms; t++)
        from[t] = a + i * s->rsa + t * depth, with[t] = packed + t * across * depth;
      float *to = c + i * s->rsc;
      const int adds = s->beta != 0;
      product->rows_in_place(m, s->n, terms, from, s->rsa, depth, with, depth * columns,
                             adds ? to : added.bias, adds ? s->rsc : 0, to, s->rsc);
      if (added.bias && adds) pk_finish_rows(PK_F32, &added, i, m, 0, s->n, c, s->rsc);
      if (rest.active || rest.before) pk_finish_rows(PK_F32, &rest, i, m, 0, s->n, c, s->rsc);
    }
  }
}
