#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"
#include "packed.h"

/* C is cut into blocks of at most BLOCK_COLUMNS columns, k into equal pieces of at most PK_PRODUCT_K; the team packs one
 * block of B together, then each member packs its rows of A, a tile at a time, and multiplies. The pieces of k are added to
 * C in order, so an element's sum does not depend on the number of threads. */
#define BLOCK_COLUMNS 384
/* Transposed A is read across its rows: GROUP tiles are packed together, CHUNK values of k at a time, so that a line of memory
 * serves them all while it is near. */
#define GROUP 4
#define CHUNK 32
#define ROUND(n) (((n) + 15) / 16 * 16)

static idx piece(idx n, idx most, idx unit) {
  const idx parts = (n + most - 1) / most, p = (n + parts - 1) / parts;
  return (p + unit - 1) / unit * unit;
}
/* The largest any variant needs: tiles have at most 12 rows and 32 columns. */
static idx block_size(const pk_gemm_shape *s) {
  const idx width = piece(s->n, BLOCK_COLUMNS, 32), depth = piece(s->k, PK_PRODUCT_K, 2);
  return ROUND(width * (depth < 1 ? 1 : depth));
}
#define PANEL ROUND(12 * PK_PRODUCT_LD)
#define AREA (GROUP * PANEL)
idx pk_gemm_scratch(const pk_gemm_shape *s) {
  if (s->m < 1 || s->n < 1 || s->k < 1) return 0;
  return block_size(s) + pk_threads() * AREA;
}

static idx rows_of(const pk_gemm_shape *s, const pk_product *k, idx tile) {
  const idx left = s->m - tile * k->rows;
  return left < k->rows ? left : k->rows;
}

void pk_packed_product(const pk_gemm_shape *s, const float *a, const float *b, float *c, float *scratch) {
  const pk_bf16_kernels *narrow = pk_bf16(PK_F32);
  const pk_product *k = narrow ? &narrow->product : &pk_select(PK_F32)->product;
  const int by_rows = s->csa == 1;
  const idx width = piece(s->n, BLOCK_COLUMNS, 32), depth = piece(s->k, PK_PRODUCT_K, 2);
  const idx row_tiles = (s->m + k->rows - 1) / k->rows, together = by_rows ? 1 : GROUP, row_groups = (row_tiles + together - 1) / together;
  float *block = scratch, *panels = scratch + block_size(s);
  const double flops = 2.0 * (double)s->m * (double)s->n * (double)s->k;
#pragma omp parallel if (flops > 5e5)
  {
    float *panel = panels + omp_get_thread_num() * AREA;
    for (idx j0 = 0; j0 < s->n; j0 += width) {
      const idx n = s->n - j0 < width ? s->n - j0 : width, tiles = (n + k->columns - 1) / k->columns;
      const idx groups = row_groups >= 8 ? 1 : tiles < 8 / row_groups ? tiles : 8 / row_groups;
      for (idx p0 = 0; p0 < s->k; p0 += depth) {
        const idx d = s->k - p0 < depth ? s->k - p0 : depth, words = (d + k->step - 1) / k->step;
#pragma omp for schedule(static)
        for (idx t = 0; t < tiles; t++) {
          const idx left = n - t * k->columns;
          k->pack_b(left < k->columns ? left : k->columns, d, b + p0 * s->rsb + (j0 + t * k->columns) * s->csb, s->rsb, s->csb, block + t * words * k->columns);
        }
#pragma omp for schedule(static)
        for (idx item = 0; item < row_groups * groups; item++) {
          const idx first = item / groups * together, last = first + together < row_tiles ? first + together : row_tiles, g = item % groups;
          const idx chunk = by_rows ? d : CHUNK;
          for (idx p = 0; p < d; p += chunk)
            for (idx r = first; r < last; r++)
              k->pack_a(rows_of(s, k, r), d - p < chunk ? d - p : chunk, a + r * k->rows * s->rsa + (p0 + p) * s->csa, s->rsa, s->csa,
                        panel + (r - first) * PANEL + p / k->step * k->rows);
          for (idx r = first; r < last; r++)
            for (idx t = tiles * g / groups; t < tiles * (g + 1) / groups; t++) {
              const idx left = n - t * k->columns;
              k->tile(by_rows, d, panel + (r - first) * PANEL, block + t * words * k->columns, s->alpha, p0 ? 1 : s->beta,
                      c + r * k->rows * s->rsc + j0 + t * k->columns, s->rsc, rows_of(s, k, r), left < k->columns ? left : k->columns);
            }
        }
      }
    }
  }
}
