#include "../isa/omp_declarations.h"
#include "../isa/work_stealing.h"
#include "panel_product.h"

/* B is not large: the team packs B once, and every thread reads all of it. An item of work is a
 * chunk of rows of A, which the thread packs for itself, one K block after another, with all panels
 * of B, or with a part of them where chunks are few. Rows of C stay in L2 from one K block to the
 * next. Rows of the next chunk are prefetched while this one is multiplied. */

int pk_gemm_shared_packed_b_supports(const pk_gemm_shape *s) {
  return pk_compute_type() != PK_BF16 && s->csc == 1 && s->k * s->n <= SHARED_B_L3_BUDGET;
}

/* Elements of a thread's packed chunk of A. */
static idx chunk_size(const pk_gemm_shape *s, const pk_gemm_kernel *kernel) {
  return SHARED_B_CHUNK_TILES * pk_tile_size(kernel, MIN(s->k, PK_KC_MAX));
}

idx pk_gemm_shared_packed_b_scratch(const pk_gemm_shape *s) {
  if (s->k * s->n > SHARED_B_L3_BUDGET) return 0;
  return pk_gemm_packed_count(s->n, s->k) + pk_threads() * chunk_size(s, &pk_select(PK_F32)->gemm);
}

/* The items of work: `chunks` chunks of rows, each with `parts` parts of the panels. */
typedef struct {
  idx chunks, parts;
} cut;

/* Some items for every thread, equally many for each. A chunk's packing must still be repaid by its
 * panels, and reading a panel by the rows of a chunk. */
static cut cut_of(const panel_product *product, idx threads) {
  const idx tiles = product->tiles;
  idx chunks = MAX(CEIL_DIV(tiles, SHARED_B_CHUNK_TILES),
                   MIN(CEIL_DIV(tiles, SHARED_B_CHUNK_TILES / 2), 4 * threads));
  chunks = MIN(ROUND_UP(chunks, threads), tiles);
  const idx parts =
      chunks >= 3 * threads ? 1 : MAX(1, MIN(CEIL_DIV(3 * threads, chunks), product->panels / 4));
  return (cut){chunks, parts};
}

/* This thread's share of the panels of B, all K blocks. */
static void pack_b(const panel_product *product, idx threads, idx thread) {
  const idx panel0 = product->panels * thread / threads,
            panel1 = product->panels * (thread + 1) / threads;
  for (idx p = 0, kc; p < product->s->k; p += kc) {
    kc = MIN(product->s->k - p, product->kc);
    pk_pack_b_panels(product->kernel, product->s, product->b, panel0, panel1, p, kc,
                     product->scratch + p * product->columns + panel0 * kc * product->kernel->nr);
  }
}

/* One chunk of rows times panels [panel0, panel1). */
static void multiply_chunk(const panel_product *product, idx tile0, idx tile1, idx panel0,
                           idx panel1, float *chunk, pk_prefetch_stream *prefetch) {
  const pk_gemm_kernel *kernel = product->kernel;
  const float *b = product->packed_b ? product->packed_b : product->scratch;
  for (idx p = 0, kc; p < product->s->k && panel0 < panel1; p += kc) {
    kc = MIN(product->s->k - p, product->kc);
    pk_pack_a_tiles(kernel, product->s, product->a, tile0, tile1, p, kc, chunk,
                    pk_tile_size(kernel, kc));
    for (idx t = panel0, end; t < panel1; t = end) {
      end = MIN(t + PANELS_AT_A_TIME, panel1);
      pk_multiply_panels(product, tile0, tile1, t, end, p, kc, chunk,
                         b + p * product->columns + t * kc * kernel->nr,
                         end == panel1 ? prefetch : NULL);
    }
  }
}

static void run_thread(const panel_product *product, pk_work_range *ranges, idx threads,
                       idx thread) {
  const cut work = cut_of(product, threads);
  const idx tiles = product->tiles, panels = product->panels;
  float *chunk = product->scratch + (product->packed_b ? 0 : product->columns * product->s->k) +
                 thread * chunk_size(product->s, product->kernel);
  if (!product->packed_b) pack_b(product, threads, thread);
  pk_partition(ranges, work.chunks * work.parts, threads, thread);
#pragma omp barrier
  for (idx item; (item = pk_steal(ranges, threads, thread)) >= 0;) {
    const idx i = item / work.parts, part = item % work.parts;
    const idx tile1 = tiles * (i + 1) / work.chunks;
    pk_prefetch_stream next =
        part + 1 < work.parts ? (pk_prefetch_stream){0}
                              : pk_prefetch_tiles(product, tile1, tiles * (i + 2) / work.chunks);
    multiply_chunk(product, tiles * i / work.chunks, tile1, panels * part / work.parts,
                   panels * (part + 1) / work.parts, chunk, &next);
  }
}

void pk_gemm_shared_packed_b(const pk_gemm_shape *s, const float *a, const float *b,
                             const float *packed_b, const pk_epilogue *e, float *c,
                             float *scratch) {
  const panel_product product = pk_panel_product(s, a, b, packed_b, e, c, scratch);
  pk_work_range ranges[PK_WORK_RANGES];
#pragma omp parallel if (pk_gemm_is_parallel(s))
  run_thread(&product, ranges, omp_get_num_threads(), omp_get_thread_num());
}
