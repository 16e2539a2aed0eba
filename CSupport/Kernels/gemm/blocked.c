#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"
#include "../isa/work_stealing.h"
#include "gemm_algorithms.h"

/* C is cut into blocks of at most BLOCK_ROWS x BLOCK_COLUMNS, k into equal pieces of at most
 * PK_PRODUCT_K words. For a piece of k the rows of A are packed once, a tile high each; then, block
 * of columns after block of columns, B is packed and multiplied with every tile.
 * The team packs together and shares the tiles out (isa/work_stealing.h); B has two places, so that one
 * barrier a block is enough. Or, in bf16, for few rows and many columns, each member has columns of
 * its own, packs what it needs and waits for nobody. The pieces of k are added to C in order: an
 * element's sum depends neither on the number of threads nor on how they share. */
#define BLOCK_ROWS 2400
#define BLOCK_COLUMNS 384
/* Transposed A is read across its rows: GROUP tiles are packed together, CHUNK values of k at a
 * time, so that a line of memory serves them all while it is near. So are the rows of B. */
#define GROUP 4
#define CHUNK 32
#define ROUND(n) (((n) + 15) / 16 * 16)
#define LEAST(a, b) ((a) < (b) ? (a) : (b))

static idx piece(idx n, idx most, idx unit) {
  const idx parts = (n + most - 1) / most, p = (n + parts - 1) / parts;
  return (p + unit - 1) / unit * unit;
}

idx pk_product_depth(idx k) { return piece(k, PK_PRODUCT_K * pk_product_f32()->step, 2); }

static idx part(idx n, idx i, idx of) { return n * i / of; }

/* Whether members have columns of their own: at least 256 each, and no more rows than repay packing
 * A in each of them. In f32 shared_packed.c does these. */
static int alone(const pk_gemm_shape *s, idx team) {
  return pk_products() == PK_BF16 && team > 1 && s->m <= 1024 && s->n >= 256 * team;
}

/* Panels have at most 32 columns, in every variant. */
static idx block_size(const pk_gemm_shape *s) {
  return LEAST((s->n + 31) / 32 * 32, BLOCK_COLUMNS) * LEAST(s->k, PK_PRODUCT_K);
}

#define PANEL ROUND(pk_product_f32()->rows *PK_PRODUCT_LD)

static idx panels_size(const pk_gemm_shape *s) {
  return (LEAST(s->m, BLOCK_ROWS) + pk_product_f32()->rows - 1) / pk_product_f32()->rows * PANEL;
}

idx pk_packed_scratch(const pk_gemm_shape *s) {
  const idx team = pk_threads();
  return alone(s, team) ? team * (block_size(s) + panels_size(s))
                        : 2 * block_size(s) + panels_size(s);
}

/* B whole, packed: pieces of k in order, each as panels over all columns. */
idx pk_gemm_packed_count(idx n, idx k) { return k < 1 ? 0 : (n + 31) / 32 * 32 * k; }

int pk_gemm_layout(void) { return (int)(pk_product_f32()->columns * 4 + pk_product_f32()->step); }

void pk_pack_panel(const pk_gemm_shape *s, const float *b, idx panel, float *packed) {
  const pk_product *k = pk_product_f32();
  const idx depth = pk_product_depth(s->k), across = (s->n + 31) / 32 * 32;
  for (idx p0 = 0; p0 < s->k; p0 += depth) {
    const idx d = LEAST(s->k - p0, depth), words = (d + k->step - 1) / k->step;
    k->pack_b(LEAST(s->n - panel * k->columns, k->columns), d,
              b + p0 * s->rsb + panel * k->columns * s->csb, s->rsb, s->csb,
              packed + panel * words * k->columns);
    packed += across * words;
  }
}

pk_status pk_gemm_pack(const pk_gemm_shape *s, const void *b, void *packed) {
  if (s->n < 1 || s->k < 1) return PK_BAD_SHAPE;
  const idx columns = pk_product_f32()->columns;
#pragma omp parallel for schedule(static)
  for (idx t = 0; t < (s->n + columns - 1) / columns; t++) pk_pack_panel(s, b, t, packed);
  return PK_OK;
}

void pk_packed_product(const pk_gemm_shape *s, const float *a, const float *b, const float *ready,
                       const pk_epilogue *e, float *c, float *scratch) {
  const pk_product *k = pk_product_f32();
  const int in_rows = s->csa == 1;
  const idx height = piece(s->m, BLOCK_ROWS, 96), depth = pk_product_depth(s->k);
  const idx across = (s->n + 31) / 32 * 32, panel = PANEL;
  const double flops = 2.0 * (double)s->m * (double)s->n * (double)s->k;
  pk_epilogue rest = e ? *e : (pk_epilogue){0};
  const float *bias = rest.bias;
  rest.bias = NULL;
  const int finish = rest.active || rest.before;
  pk_run runs[2][PK_RUNS];
#pragma omp parallel if (flops > 5e5)
  {
    const idx team = omp_get_num_threads(), me = omp_get_thread_num();
    const int own = alone(s, team);
    const idx units = (s->n + 31) / 32;
    const idx first = own ? part(units, me, team) * 32 : 0,
              last = own ? LEAST(part(units, me + 1, team) * 32, s->n) : s->n;
    const idx width = piece(last - first, BLOCK_COLUMNS, 32), span = ready ? last - first : width;
    int turn = 0;
    if (k->begin) k->begin();
    float *blocks = scratch + (own ? me * (block_size(s) + panels_size(s)) : 0),
          *panels = blocks + (own ? 1 : 2) * block_size(s);
    for (idx i0 = 0; i0 < s->m; i0 += height) {
      const idx m = LEAST(s->m - i0, height), row_tiles = (m + k->rows - 1) / k->rows;
      const idx together = in_rows ? 1 : GROUP, groups = (row_tiles + together - 1) / together;
      /* With few groups several members multiply the same rows with different columns, so that they
       * divide well; they all read what one has packed. */
      const idx parts = own || groups >= 32 ? 1 : 32 / groups;
      const idx g0 = own ? 0 : part(groups, me, team),
                g1 = own ? groups : part(groups, me + 1, team);
      for (idx p0 = 0; p0 < s->k; p0 += depth) {
        const idx d = LEAST(s->k - p0, depth), words = (d + k->step - 1) / k->step;
        if (!own && (p0 || i0)) { /* others may still be reading these panels */
#pragma omp barrier
        }
        const float *ap = a + i0 * s->rsa + p0 * s->csa;
        for (idx g = g0; g < g1; g++)
          for (idx p = 0, chunk = in_rows ? d : CHUNK; p < d; p += chunk)
            for (idx r = g * together; r < LEAST((g + 1) * together, row_tiles); r++)
              k->pack_a(LEAST(m - r * k->rows, k->rows), LEAST(d - p, chunk),
                        ap + r * k->rows * s->rsa + p * s->csa, s->rsa, s->csa,
                        panels + r * panel + p / k->step * (k->whole_rows ? 1 : k->rows));
        for (idx from = first; from < last; from += span) {
          const idx upto = LEAST(from + span, last),
                    all = (upto - from + k->columns - 1) / k->columns;
          const idx t0 = own ? 0 : part(all, me, team), t1 = own ? all : part(all, me + 1, team);
          for (idx p = 0, chunk = s->csb == 1 ? CHUNK : d; p < d && !ready; p += chunk)
            for (idx t = t0; t < t1; t++)
              k->pack_b(LEAST(upto - from - t * k->columns, k->columns), LEAST(d - p, chunk),
                        b + (p0 + p) * s->rsb + (from + t * k->columns) * s->csb, s->rsb, s->csb,
                        blocks + turn * block_size(s) + (t * words + p / k->step) * k->columns);
          const idx items = (upto - from + width - 1) / width * groups * parts;
          if (!own) {
            pk_share_out(runs[turn], items, team, me);
#pragma omp barrier
          }
          for (idx next = 0, item;
               (item = own ? (next < items ? next++ : -1) : pk_take(runs[turn], team, me)) >= 0;) {
            const idx j0 = from + item / (groups * parts) * width, n = LEAST(upto - j0, width),
                      tiles = (n + k->columns - 1) / k->columns;
            const idx g = item / parts % groups, left = part(tiles, item % parts, parts),
                      right = part(tiles, item % parts + 1, parts);
            const float *block = ready ? ready + (p0 + k->step - 1) / k->step * across + j0 * words
                                       : blocks + turn * block_size(s);
            for (idx r = g * together; r < LEAST((g + 1) * together, row_tiles); r++) {
              const idx i = i0 + r * k->rows, rows = LEAST(m - r * k->rows, k->rows);
              for (idx t = left; t < right; t++) {
                pk_ahead beside = p0 + d == s->k ? pk_beside(&rest, i, rows, j0 + t * k->columns,
                                                             LEAST(n - t * k->columns, k->columns))
                                                 : (pk_ahead){0};
                k->tile(d, panels + r * panel, block + t * words * k->columns, s->alpha,
                        p0 ? 1 : s->beta,
                        bias && p0 + d == s->k ? bias + j0 + t * k->columns : NULL,
                        c + i * s->rsc + j0 + t * k->columns, s->rsc, rows,
                        LEAST(n - t * k->columns, k->columns), &beside);
              }
              if (finish && p0 + d == s->k)
                pk_finish_rows(PK_F32, &rest, i, rows, j0 + left * k->columns,
                               LEAST(n, right * k->columns) - left * k->columns, c, s->rsc);
            }
          }
          if (!own) turn ^= 1;
        }
      }
    }
    if (k->end) k->end();
  }
}
