#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"
#include "packed.h"

/* Products whose B stays in a cache that all members share or in their own, f32: B is packed whole; each member has rows of its own, or columns where rows are few, packs a chunk of them at a
 * time, which stays near with the rows of C, and meets the others at most once. Not for B beyond PK_ROWS_B elements. An element's sum is that of pk_packed_product. */
#define FEW 1024
#define CHUNK 96     /* rows of A packed at a time */
#define FINISHED 256 /* columns after which an epilogue still finds C near */
#define LEAST(a, b) ((a) < (b) ? (a) : (b))

/* Into how many parts the rows are cut. A member takes whole panels of some parts. Members have rows of their own where these are many: what another member has packed must be fetched from its
 * cache, which few rows do not repay. Few rows are cut only as far as panels alone do not divide well among the team. */
static idx parts_of(const pk_gemm_shape *s, idx panels, idx team, int ready) {
  if (s->n < 64 * team || (s->m >= 48 * team && (ready || s->m > FEW))) return team;
  idx best = 1;
  for (idx q = 2; q <= 4 && s->m >= 48 * q; q++)
    if ((panels * q + team - 1) / team * best * 10 < (panels * best + team - 1) / team * q * 9) best = q;
  return best;
}
int pk_rows_suit(const pk_gemm_shape *s) { return pk_products() != PK_BF16 && s->csc == 1 && s->k * s->n <= PK_ROWS_B; }
/* Elements of a member's chunk of A. */
static idx chunk_size(const pk_gemm_shape *s) { return (CHUNK + pk_select(PK_F32)->product.rows) * LEAST(s->k, PK_PRODUCT_K) + 16; }
idx pk_rows_scratch(const pk_gemm_shape *s) { return pk_gemm_packed_count(s->n, s->k) + pk_threads() * chunk_size(s); }
void pk_rows_product(const pk_gemm_shape *s, const float *a, const float *b, const float *ready, const pk_epilogue *e, float *c, float *scratch) {
  const pk_product *product = &pk_select(PK_F32)->product;
  const idx across = (s->n + 31) / 32 * 32, columns = product->columns, panels = (s->n + columns - 1) / columns, depth = pk_product_depth(s->k), unit = product->rows;
  const double flops = 2.0 * (double)s->m * (double)s->n * (double)s->k;
  pk_epilogue rest = e ? *e : (pk_epilogue){0};
  const float *bias = rest.bias, *packed = ready ? ready : scratch;
  rest.bias = NULL;
  const int finish = rest.active || rest.before;
#pragma omp parallel if (flops > 5e5)
  {
    const idx team = omp_get_num_threads(), me = omp_get_thread_num();
    const idx parts = parts_of(s, panels, team, ready != NULL), units = (s->m + unit - 1) / unit, first = parts * panels * me / team, end = parts * panels * (me + 1) / team;
    float *mine = scratch + (ready ? 0 : pk_gemm_packed_count(s->n, s->k)) + me * chunk_size(s);
    if (!ready) {
      for (idx t = panels * me / team; t < panels * (me + 1) / team; t++) pk_pack_panel(s, b, t, scratch);
      if (parts > 1) {
#pragma omp barrier
      }
    }
    for (idx item = first, part = first / panels; item < end; item = ++part * panels) {
      const idx t0 = item % panels, t1 = LEAST(end - part * panels, panels);
      const idx i0 = units * part / parts * unit, i1 = LEAST(units * (part + 1) / parts * unit, s->m);
      const idx chunks = (i1 - i0 + CHUNK - 1) / CHUNK, height = ((i1 - i0 + unit - 1) / unit + chunks - 1) / (chunks ? chunks : 1) * unit;
      for (idx i = i0; i < i1; i += height) {
        const idx m = LEAST(i1 - i, height);
        for (idx p = 0; p < s->k; p += depth) {
          const idx d = LEAST(s->k - p, depth);
          const int last = p + d == s->k;
          for (idx r = 0; r < m; r += unit) product->pack_a(LEAST(m - r, unit), d, a + (i + r) * s->rsa + p * s->csa, s->rsa, s->csa, mine + r * d);
          for (idx t = t0; t < t1; t++) {
            const idx j = t * columns, n = LEAST(s->n - j, columns);
            for (idx r = 0; r < m; r += unit)
              product->tile(d, mine + r * d, packed + p * across + j * d, s->alpha, p ? 1 : s->beta, last && bias ? bias + j : NULL, c + (i + r) * s->rsc + j, s->rsc, LEAST(m - r, unit), n);
            const idx done = (t + 1 - t0) % (FINISHED / columns);
            if (finish && last && (done == 0 || t + 1 == t1)) {
              const idx from = (t + 1 - (done ? done : FINISHED / columns)) * columns;
              pk_finish_rows(PK_F32, &rest, i, m, from, j + n - from, c, s->rsc);
            }
          }
        }
      }
    }
  }
}
