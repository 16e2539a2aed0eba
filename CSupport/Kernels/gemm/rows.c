#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"
#include "packed.h"

/* Products that read A where it lies, f32: B is packed whole, and stays in a cache that all members share or in their own; each member has rows of its own, or columns where rows are few,
 * packs nothing of A and meets the others at most once, and pieces of k do not pass over C again.
 * Not for A whose rows are a multiple of 4096 bytes apart (they evict each other from L1), nor for B beyond PK_ROWS_B elements, nor for long k, where a panel of B no longer stays near. */
#define FEW 1024
#define MOST_K 2048
#define NEAR_B (1 << 17) /* elements of B that stay in the second level of cache beside A's rows */
#define TILE_ROWS 11
#define FINISHED 256 /* columns of a chunk that an epilogue finds near */
#define LEAST(a, b) ((a) < (b) ? (a) : (b))

static idx pieces(const pk_gemm_shape *s) { return (s->k + PK_PRODUCT_K - 1) / PK_PRODUCT_K; }
/* Whether members have rows of their own, or columns. What another member has packed must be fetched from its cache, which few rows do not repay. */
static int by_rows(const pk_gemm_shape *s, idx team, int ready) {
  return s->n < 64 * team || (s->m >= 4 * TILE_ROWS * team && (ready || s->m > FEW));
}
/* By shape alone: the other routes add in another order, and the bits must not depend on the team. */
int pk_rows_suit(const pk_gemm_shape *s) {
  if (pk_products() == PK_BF16 || s->csa != 1 || s->csc != 1 || s->alpha != 1 || (s->beta != 0 && s->beta != 1)) return 0;
  const pk_kernels *k = pk_select(PK_F32);
  const idx past = s->n % k->product.columns;
  if ((past && past != k->lanes) || s->k > MOST_K || s->k * s->n > PK_ROWS_B || s->rsa % 1024 == 0) return 0;
  return s->k % pieces(s) == 0 && s->k / pieces(s) % 2 == 0;
}
void pk_rows_product(const pk_gemm_shape *s, const float *a, const float *b, const float *ready, const pk_epilogue *e, float *c, float *scratch) {
  const pk_product *product = &pk_select(PK_F32)->product;
  const idx across = (s->n + 31) / 32 * 32, columns = product->columns, panels = (s->n + columns - 1) / columns, terms = pieces(s), depth = s->k / terms;
  const idx chunk = s->k * s->n > NEAR_B ? 8 * TILE_ROWS : 4 * TILE_ROWS;
  const double flops = 2.0 * (double)s->m * (double)s->n * (double)s->k;
  const int adds = s->beta != 0;
  pk_epilogue rest = e ? *e : (pk_epilogue){0};
  const float *bias = adds ? NULL : rest.bias, *packed = ready ? ready : scratch;
  if (bias) rest.bias = NULL;
  const int finish = rest.bias || rest.active || rest.before;
#pragma omp parallel if (flops > 5e5)
  {
    const idx team = omp_get_num_threads(), me = omp_get_thread_num();
    const int rows = by_rows(s, team, ready != NULL);
    const idx units = (s->m + TILE_ROWS - 1) / TILE_ROWS;
    const idx i0 = rows ? units * me / team * TILE_ROWS : 0, i1 = rows ? LEAST(units * (me + 1) / team * TILE_ROWS, s->m) : s->m;
    const idx t0 = rows ? 0 : panels * me / team, t1 = rows ? panels : panels * (me + 1) / team, j0 = t0 * columns, j1 = LEAST(t1 * columns, s->n);
    if (!ready) {
      for (idx t = panels * me / team; t < panels * (me + 1) / team; t++) pk_pack_panel(s, b, t, scratch);
      if (rows) {
#pragma omp barrier
      }
    }
    for (idx i = i0; i < i1 && j0 < j1; i += chunk) {
      const idx m = LEAST(i1 - i, chunk);
      const void *from[MOST_K / PK_PRODUCT_K + 1], *with[MOST_K / PK_PRODUCT_K + 1];
      for (idx t = 0; t < terms; t++) from[t] = a + i * s->rsa + t * depth;
      for (idx j = j0, n; j < j1; j += n) {
        n = finish ? LEAST(j1 - j, FINISHED) : j1 - j;
        for (idx t = 0; t < terms; t++) with[t] = packed + t * across * depth + j * depth;
        float *to = c + i * s->rsc + j;
        product->rows_in_place(m, n, terms, from, s->rsa, depth, with, depth * columns, adds ? to : bias ? bias + j : NULL, adds ? s->rsc : 0, to, s->rsc);
        if (finish) pk_finish_rows(PK_F32, &rest, i, m, j, n, c, s->rsc);
      }
    }
  }
}
