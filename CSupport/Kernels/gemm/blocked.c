#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"
#include "../isa/work_stealing.h"
#include "gemm_algorithms.h"

/* C is cut into blocks of at most BLOCK_ROWS x BLOCK_COLUMNS, k into equal pieces of at most
 * PK_KC_MAX words. For a piece of k the rows of A are packed once, a tile high each; then, block
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

static idx piece(idx n, idx most, idx unit) {
  const idx parts = (n + most - 1) / most, p = (n + parts - 1) / parts;
  return (p + unit - 1) / unit * unit;
}

idx pk_gemm_kc(idx k) { return piece(k, PK_KC_MAX * pk_gemm_kernel_f32()->k_group, 2); }

static idx part(idx n, idx i, idx of) { return n * i / of; }

/* Whether members have columns of their own: at least 256 each, and no more rows than repay packing
 * A in each of them. In f32 shared_packed.c does these. */
static int alone(const pk_gemm_shape *s, idx threads) {
  return pk_compute_type() == PK_BF16 && threads > 1 && s->m <= 1024 && s->n >= 256 * threads;
}

/* Panels have at most 32 columns, in every variant. */
static idx block_size(const pk_gemm_shape *s) {
  return MIN((s->n + 31) / 32 * 32, BLOCK_COLUMNS) * MIN(s->k, PK_KC_MAX);
}

#define PANEL ROUND_UP(pk_gemm_kernel_f32()->mr *PK_ROW_MAJOR_LD, 16)

static idx panels_size(const pk_gemm_shape *s) {
  return (MIN(s->m, BLOCK_ROWS) + pk_gemm_kernel_f32()->mr - 1) / pk_gemm_kernel_f32()->mr * PANEL;
}

idx pk_gemm_blocked_scratch(const pk_gemm_shape *s) {
  const idx threads = pk_threads();
  return alone(s, threads) ? threads * (block_size(s) + panels_size(s))
                           : 2 * block_size(s) + panels_size(s);
}

/* B whole, packed: pieces of k in order, each as panels over all columns. */
idx pk_gemm_packed_count(idx n, idx k) { return k < 1 ? 0 : (n + 31) / 32 * 32 * k; }

int pk_gemm_layout(void) {
  return (int)(pk_gemm_kernel_f32()->nr * 4 + pk_gemm_kernel_f32()->k_group);
}

void pk_pack_b_panel(const pk_gemm_shape *s, const float *b, idx panel, float *packed) {
  const pk_gemm_kernel *k = pk_gemm_kernel_f32();
  const idx depth = pk_gemm_kc(s->k), across = (s->n + 31) / 32 * 32;
  for (idx p0 = 0; p0 < s->k; p0 += depth) {
    const idx d = MIN(s->k - p0, depth), words = (d + k->k_group - 1) / k->k_group;
    k->pack_b(MIN(s->n - panel * k->nr, k->nr), d, b + p0 * s->rsb + panel * k->nr * s->csb, s->rsb,
              s->csb, packed + panel * words * k->nr);
    packed += across * words;
  }
}

pk_status pk_gemm_pack(const pk_gemm_shape *s, const void *b, void *packed) {
  if (s->n < 1 || s->k < 1) return PK_BAD_SHAPE;
  const idx columns = pk_gemm_kernel_f32()->nr;
#pragma omp parallel for schedule(static)
  for (idx t = 0; t < (s->n + columns - 1) / columns; t++) pk_pack_b_panel(s, b, t, packed);
  return PK_OK;
}

void pk_gemm_blocked(const pk_gemm_shape *s, const float *a, const float *b, const float *ready,
                     const pk_epilogue *e, float *c, float *scratch) {
  const pk_gemm_kernel *k = pk_gemm_kernel_f32();
  const int in_rows = s->csa == 1;
  const idx height = piece(s->m, BLOCK_ROWS, 96), depth = pk_gemm_kc(s->k);
  const idx across = (s->n + 31) / 32 * 32, panel = PANEL;
  const double flops = 2.0 * (double)s->m * (double)s->n * (double)s->k;
  pk_epilogue rest = e ? *e : (pk_epilogue){0};
  const float *bias = rest.bias;
  rest.bias = NULL;
  const int finish = rest.active || rest.before;
  pk_work_range runs[2][PK_WORK_RANGES];
#pragma omp parallel if (flops > 5e5)
  {
    const idx threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const int own = alone(s, threads);
    const idx units = (s->n + 31) / 32;
    const idx first = own ? part(units, thread, threads) * 32 : 0,
              last = own ? MIN(part(units, thread + 1, threads) * 32, s->n) : s->n;
    const idx width = piece(last - first, BLOCK_COLUMNS, 32), span = ready ? last - first : width;
    int turn = 0;
    if (k->begin) k->begin();
    float *blocks = scratch + (own ? thread * (block_size(s) + panels_size(s)) : 0),
          *panels = blocks + (own ? 1 : 2) * block_size(s);
    for (idx i0 = 0; i0 < s->m; i0 += height) {
      const idx m = MIN(s->m - i0, height), row_tiles = (m + k->mr - 1) / k->mr;
      const idx together = in_rows ? 1 : GROUP, groups = (row_tiles + together - 1) / together;
      /* With few groups several members multiply the same rows with different columns, so that they
       * divide well; they all read what one has packed. */
      const idx parts = own || groups >= 32 ? 1 : 32 / groups;
      const idx g0 = own ? 0 : part(groups, thread, threads),
                g1 = own ? groups : part(groups, thread + 1, threads);
      for (idx p0 = 0; p0 < s->k; p0 += depth) {
        const idx d = MIN(s->k - p0, depth), words = (d + k->k_group - 1) / k->k_group;
        if (!own && (p0 || i0)) { /* others may still be reading these panels */
#pragma omp barrier
        }
        const float *ap = a + i0 * s->rsa + p0 * s->csa;
        for (idx g = g0; g < g1; g++)
          for (idx p = 0, chunk = in_rows ? d : CHUNK; p < d; p += chunk)
            for (idx r = g * together; r < MIN((g + 1) * together, row_tiles); r++)
              k->pack_a(MIN(m - r * k->mr, k->mr), MIN(d - p, chunk),
                        ap + r * k->mr * s->rsa + p * s->csa, s->rsa, s->csa,
                        panels + r * panel + p / k->k_group * (k->row_major_a ? 1 : k->mr));
        for (idx from = first; from < last; from += span) {
          const idx upto = MIN(from + span, last), all = (upto - from + k->nr - 1) / k->nr;
          const idx t0 = own ? 0 : part(all, thread, threads),
                    t1 = own ? all : part(all, thread + 1, threads);
          for (idx p = 0, chunk = s->csb == 1 ? CHUNK : d; p < d && !ready; p += chunk)
            for (idx t = t0; t < t1; t++)
              k->pack_b(MIN(upto - from - t * k->nr, k->nr), MIN(d - p, chunk),
                        b + (p0 + p) * s->rsb + (from + t * k->nr) * s->csb, s->rsb, s->csb,
                        blocks + turn * block_size(s) + (t * words + p / k->k_group) * k->nr);
          const idx items = (upto - from + width - 1) / width * groups * parts;
          if (!own) {
            pk_partition(runs[turn], items, threads, thread);
#pragma omp barrier
          }
          for (idx next = 0, item; (item = own ? (next < items ? next++ : -1)
                                               : pk_steal(runs[turn], threads, thread)) >= 0;) {
            const idx j0 = from + item / (groups * parts) * width, n = MIN(upto - j0, width),
                      tiles = (n + k->nr - 1) / k->nr;
            const idx g = item / parts % groups, left = part(tiles, item % parts, parts),
                      right = part(tiles, item % parts + 1, parts);
            const float *block =
                ready ? ready + (p0 + k->k_group - 1) / k->k_group * across + j0 * words
                      : blocks + turn * block_size(s);
            for (idx r = g * together; r < MIN((g + 1) * together, row_tiles); r++) {
              const idx i = i0 + r * k->mr, rows = MIN(m - r * k->mr, k->mr);
              for (idx t = left; t < right; t++) {
                pk_prefetch_stream beside =
                    p0 + d == s->k ? pk_prefetch_epilogue(&rest, i, rows, j0 + t * k->nr,
                                                          MIN(n - t * k->nr, k->nr))
                                   : (pk_prefetch_stream){0};
                k->microkernel(d, panels + r * panel, block + t * words * k->nr, s->alpha,
                               p0 ? 1 : s->beta,
                               bias && p0 + d == s->k ? bias + j0 + t * k->nr : NULL,
                               c + i * s->rsc + j0 + t * k->nr, s->rsc, rows,
                               MIN(n - t * k->nr, k->nr), &beside);
              }
              if (finish && p0 + d == s->k)
                pk_apply_epilogue(PK_F32, &rest, i, rows, j0 + left * k->nr,
                                  MIN(n, right * k->nr) - left * k->nr, c, s->rsc);
            }
          }
          if (!own) turn ^= 1;
        }
      }
    }
    if (k->end) k->end();
  }
}
