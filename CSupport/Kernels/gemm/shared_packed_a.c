#include "../isa/omp_declarations.h"
#include "../isa/work_stealing.h"
#include "panel_product.h"

/* A is clearly smaller than B: the team packs A once, and every thread reads all of it. An item of
 * work is a group of panels of B, which the thread packs for itself, one K block after another. A
 * long k is cut into K superblocks, whole K blocks for which packed A stays in L2, one after the
 * other.
 *
 * In a training step the weights come from beyond L2, where reading to pack takes longer than
 * packing: what the next group of panels needs is prefetched while this one is multiplied. */

int pk_gemm_shared_packed_a_supports(const pk_gemm_shape *s, idx threads) {
  return pk_compute_type() != PK_BF16 && s->csc == 1 &&
         s->m * MIN(s->k, PK_KC_MAX) <= SHARED_A_L3_BUDGET && SHARED_A_IS_SMALLER(s->m, s->n) &&
         s->n >= SHARED_A_COLUMNS_PER_THREAD * threads;
}

/* Values of k in a K superblock. */
static idx superblock(const pk_gemm_shape *s) {
  const idx kc = pk_gemm_kc(s->k), k_blocks = CEIL_DIV(s->k, kc),
            superblocks = CEIL_DIV(k_blocks, MAX(1, SHARED_A_L2_BUDGET / (s->m * kc)));
  return MIN(CEIL_DIV(k_blocks, superblocks) * kc, s->k);
}

/* Elements of A packed, one superblock; there are two where k has several, so that one barrier a
 * superblock is enough. */
static idx packed_a_size(const pk_gemm_shape *s, const pk_gemm_kernel *kernel) {
  const idx k = superblock(s);
  return CEIL_DIV(s->m, kernel->mr) *
         (kernel->mr * k + PK_PACK_SLACK * CEIL_DIV(k, pk_gemm_kc(s->k)));
}

static idx packed_a_count(const pk_gemm_shape *s) { return superblock(s) < s->k ? 2 : 1; }

/* Elements of a thread's packed panels. */
static idx packed_b_size(const pk_gemm_shape *s) {
  return MIN(PANELS_AT_A_TIME * PK_PANEL_COLUMNS * s->k, SHARED_A_B_L2_BUDGET);
}

/* For any number of threads: small products run on one. */
idx pk_gemm_shared_packed_a_scratch(const pk_gemm_shape *s) {
  if (!pk_gemm_shared_packed_a_supports(s, 1)) return 0;
  return packed_a_count(s) * packed_a_size(s, &pk_select(PK_F32)->gemm) +
         pk_threads() * packed_b_size(s);
}

/* Panels in an item of work: several for every thread, and not more than a thread has room for. */
static idx group_size(const panel_product *product, idx threads) {
  idx group = PANELS_AT_A_TIME;
  while (group > 1 && (CEIL_DIV(product->panels, group) < 6 * threads ||
                       group * PK_PANEL_COLUMNS * superblock(product->s) > SHARED_A_B_L2_BUDGET))
    group /= 2;
  return group;
}

/* Panels [panel0, panel1) times packed A, k in [k0, k1). `b`: room for the packed panels. */
static void multiply_group(const panel_product *product, idx panel0, idx panel1, idx k0, idx k1,
                           const float *a, float *b, pk_prefetch_stream *prefetch) {
  const pk_gemm_kernel *kernel = product->kernel;
  for (idx p = k0, kc; p < k1; p += kc) {
    kc = MIN(k1 - p, product->kc);
    const float *panels = b;
    if (product->packed_b)
      panels = product->packed_b + p * product->columns + panel0 * kc * kernel->nr;
    else
      pk_pack_b_panels(kernel, product->s, product->b, panel0, panel1, p, kc, b);
    pk_multiply_panels(product, 0, product->tiles, panel0, panel1, p, kc, a, panels, prefetch);
    a += product->tiles * pk_tile_size(kernel, kc);
  }
}

static void run_thread(const panel_product *product, pk_work_range (*ranges)[PK_WORK_RANGES],
                       idx threads, idx thread) {
  const pk_gemm_kernel *kernel = product->kernel;
  const idx k = product->s->k, superblock_k = superblock(product->s);
  const idx a_size = packed_a_size(product->s, kernel), group = group_size(product, threads);
  float *b =
      product->scratch + packed_a_count(product->s) * a_size + thread * packed_b_size(product->s);
  const idx tile0 = product->tiles * thread / threads,
            tile1 = product->tiles * (thread + 1) / threads;
  for (idx k0 = 0, k1, slot = 0; k0 < k; k0 = k1, slot ^= 1) {
    k1 = MIN(k0 + superblock_k, k);
    float *a = product->scratch + slot * a_size, *block = a;
    for (idx p = k0, kc; p < k1; p += kc) {
      kc = MIN(k1 - p, product->kc);
      const idx tile_size = pk_tile_size(kernel, kc);
      pk_pack_a_tiles(kernel, product->s, product->a, tile0, tile1, p, kc,
                      block + tile0 * tile_size, tile_size);
      block += product->tiles * tile_size;
    }
    pk_partition(ranges[slot], CEIL_DIV(product->panels, group), threads, thread);
#pragma omp barrier
    for (idx item; (item = pk_steal(ranges[slot], threads, thread)) >= 0;) {
      const idx panel0 = item * group, panel1 = MIN(panel0 + group, product->panels);
      pk_prefetch_stream next =
          pk_prefetch_panels(product, panel1, MIN(panel1 + group, product->panels), k0, k1);
      multiply_group(product, panel0, panel1, k0, k1, a, b, &next);
    }
  }
}

void pk_gemm_shared_packed_a(const pk_gemm_shape *s, const float *a, const float *b,
                             const float *packed_b, const pk_epilogue *e, float *c,
                             float *scratch) {
  const panel_product product = pk_panel_product(s, a, b, packed_b, e, c, scratch);
  pk_work_range ranges[2][PK_WORK_RANGES];
#pragma omp parallel if (pk_gemm_is_parallel(s))
  run_thread(&product, ranges, omp_get_num_threads(), omp_get_thread_num());
}
