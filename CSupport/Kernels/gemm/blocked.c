#include "../isa/omp_declarations.h"
#include "../isa/work_stealing.h"
#include "epilogue.h"
#include "pack.h"

/* A and B packed block by block (Goto and van de Geijn 2008): C is cut into blocks of at most
 * BLOCKED_MC x BLOCKED_NC, k into K blocks. For a block of rows and a K block, A is packed once, as
 * micro-tiles; then, block of columns after block of columns, B is packed as panels and multiplied
 * with every micro-tile.
 *
 * The team packs together and shares the items of work (isa/work_stealing.h). Packed B has two
 * slots, so that one barrier a block of columns is enough. Or, for few rows and many columns in
 * bf16, each thread works on columns of its own, packs both operands for itself and waits for
 * nobody. K blocks are added to C in order: an element's sum depends neither on the number of
 * threads nor on how they share. */

typedef struct {
  const pk_gemm_kernel *kernel;
  const pk_gemm_shape *s;
  const float *a, *b, *packed_b; /* packed_b: of pk_gemm_pack, or NULL */
  float *c, *scratch;
  split_epilogue epilogue;
  idx mc, kc;      /* rows of a block, values of k in a K block */
  idx tile_stride; /* packed elements from one micro-tile of A to the next */
  pk_work_range (*ranges)[PK_WORK_RANGES]; /* one for each slot of packed B */
} blocked_product;

/* The part of one thread: columns [column0, column1) of C in blocks of nc, and its packed
 * operands. */
typedef struct {
  idx threads, thread;
  int has_own_columns;
  idx column0, column1, nc;
  float *packed_a, *packed_b;
} thread_part;

/* One block of A: micro-tiles [tile0, tile1) of C's rows, kc values of k from p on. Groups of
 * micro-tiles are packed and multiplied together. With few groups, `parts` items multiply the same
 * rows with different panels, so that the work divides well among many threads. */
typedef struct {
  idx tile0, tile1, p, kc;
  idx group_tiles, groups, parts;
  int is_last; /* the last K block: bias and epilogue follow */
} a_block;

/* One block of B: columns [column0, column1), which `slot` of packed_b holds. */
typedef struct {
  idx column0, column1, slot;
} b_block;

static idx share(idx n, idx i, idx of) { return n * i / of; }

/* Whether threads have columns of their own. In f32 shared_packed_a.c does such products. */
static int has_own_columns(const pk_gemm_shape *s, idx threads) {
  return pk_compute_type() == PK_BF16 && threads > 1 && s->m <= BLOCKED_OWN_COLUMNS_MAX_M &&
         s->n >= BLOCKED_OWN_COLUMNS * threads;
}

static idx packed_b_size(const pk_gemm_shape *s) {
  return MIN(ROUND_UP(s->n, PK_PANEL_COLUMNS), BLOCKED_NC) * MIN(s->k, PK_KC_MAX);
}

static idx tile_stride(void) { return ROUND_UP(pk_gemm_kernel_f32()->mr * PK_ROW_MAJOR_LD, 16); }

static idx packed_a_size(const pk_gemm_shape *s) {
  return CEIL_DIV(MIN(s->m, BLOCKED_MC), pk_gemm_kernel_f32()->mr) * tile_stride();
}

idx pk_gemm_blocked_scratch(const pk_gemm_shape *s) {
  const idx threads = pk_threads();
  return has_own_columns(s, threads) ? threads * (packed_b_size(s) + packed_a_size(s))
                                     : 2 * packed_b_size(s) + packed_a_size(s);
}

static thread_part part_of(const blocked_product *z, idx threads, idx thread) {
  const pk_gemm_shape *s = z->s;
  thread_part t = {.threads = threads,
                   .thread = thread,
                   .has_own_columns = has_own_columns(s, threads),
                   .column1 = s->n,
                   .packed_b = z->scratch};
  idx slots = 2;
  if (t.has_own_columns) {
    const idx units = CEIL_DIV(s->n, PK_PANEL_COLUMNS);
    t.column0 = share(units, thread, threads) * PK_PANEL_COLUMNS;
    t.column1 = MIN(share(units, thread + 1, threads) * PK_PANEL_COLUMNS, s->n);
    t.packed_b += thread * (packed_b_size(s) + packed_a_size(s));
    slots = 1;
  }
  t.nc = pk_equal_parts(t.column1 - t.column0, BLOCKED_NC, PK_PANEL_COLUMNS);
  t.packed_a = t.packed_b + slots * packed_b_size(s);
  return t;
}

static a_block a_block_of(const blocked_product *z, const thread_part *t, idx i0, idx p) {
  const pk_gemm_shape *s = z->s;
  const idx mr = z->kernel->mr, tiles = CEIL_DIV(MIN(s->m - i0, z->mc), mr);
  a_block block = {.tile0 = i0 / mr,
                   .tile1 = i0 / mr + tiles,
                   .p = p,
                   .kc = MIN(s->k - p, z->kc),
                   .group_tiles = s->csa == 1 ? 1 : PACK_TILES_TOGETHER};
  block.groups = CEIL_DIV(tiles, block.group_tiles);
  block.parts = t->has_own_columns || block.groups >= 32 ? 1 : 32 / block.groups;
  block.is_last = p + block.kc == s->k;
  return block;
}

/* This thread's share of a block of A. */
static void pack_a(const blocked_product *z, const thread_part *t, const a_block *block) {
  const idx group0 = t->has_own_columns ? 0 : share(block->groups, t->thread, t->threads),
            group1 = t->has_own_columns ? block->groups
                                        : share(block->groups, t->thread + 1, t->threads);
  const idx first = group0 * block->group_tiles,
            last = MIN(group1 * block->group_tiles, block->tile1 - block->tile0);
  pk_pack_a_tiles(z->kernel, z->s, z->a, block->tile0 + first, block->tile0 + last, block->p,
                  block->kc, t->packed_a + first * z->tile_stride, z->tile_stride);
}

/* This thread's share of a block of B. */
static void pack_b(const blocked_product *z, const thread_part *t, const a_block *block,
                   const b_block *columns) {
  const idx nr = z->kernel->nr, panels = CEIL_DIV(columns->column1 - columns->column0, nr),
            panel0 = columns->column0 / nr;
  const idx first = t->has_own_columns ? 0 : share(panels, t->thread, t->threads),
            last = t->has_own_columns ? panels : share(panels, t->thread + 1, t->threads);
  pk_pack_b_panels(z->kernel, z->s, z->b, panel0 + first, panel0 + last, block->p, block->kc,
                   t->packed_b + columns->slot * packed_b_size(z->s) +
                       first * CEIL_DIV(block->kc, z->kernel->k_group) * nr);
}

/* Micro-tile `tile` of C's rows and columns [left, right). `b`: the panel that begins at `left`. */
static void multiply_tile(const blocked_product *z, const a_block *block, idx tile, idx left,
                          idx right, const float *a, const float *b) {
  const pk_gemm_kernel *kernel = z->kernel;
  const pk_gemm_shape *s = z->s;
  const split_epilogue *e = &z->epilogue;
  const idx nr = kernel->nr, i = tile * kernel->mr, m = MIN(s->m - i, kernel->mr);
  const idx panel_size = CEIL_DIV(block->kc, kernel->k_group) * nr;
  for (idx j = left; j < right; j += nr, b += panel_size) {
    const idx n = MIN(right - j, nr);
    pk_prefetch_stream operands =
        block->is_last ? pk_prefetch_epilogue(&e->rest, i, m, j, n) : (pk_prefetch_stream){0};
    kernel->microkernel(block->kc, a, b, s->alpha, block->p ? 1 : s->beta,
                        e->bias && block->is_last ? e->bias + j : NULL, z->c + i * s->rsc + j,
                        s->rsc, m, n, &operands);
  }
  if (e->has_rest && block->is_last)
    pk_apply_epilogue(PK_F32, &e->rest, i, m, left, right - left, z->c, s->rsc);
}

/* Item `item` of a block of B: nc columns, a group of micro-tiles, and one of its parts. */
static void multiply_item(const blocked_product *z, const thread_part *t, const a_block *block,
                          const b_block *columns, idx item) {
  const pk_gemm_kernel *kernel = z->kernel;
  const idx nr = kernel->nr, elements = CEIL_DIV(block->kc, kernel->k_group);
  const idx j0 = columns->column0 + item / (block->groups * block->parts) * t->nc,
            n = MIN(columns->column1 - j0, t->nc), panels = CEIL_DIV(n, nr);
  const idx group = item / block->parts % block->groups, part = item % block->parts;
  const idx panel0 = share(panels, part, block->parts),
            panel1 = share(panels, part + 1, block->parts);
  const float *b = t->packed_b + columns->slot * packed_b_size(z->s);
  if (z->packed_b)
    b = z->packed_b + CEIL_DIV(block->p, kernel->k_group) * ROUND_UP(z->s->n, PK_PANEL_COLUMNS) +
        j0 * elements;
  const idx tile0 = group * block->group_tiles,
            tile1 = MIN(tile0 + block->group_tiles, block->tile1 - block->tile0);
  for (idx r = tile0; r < tile1; r++)
    multiply_tile(z, block, block->tile0 + r, j0 + panel0 * nr, j0 + MIN(n, panel1 * nr),
                  t->packed_a + r * z->tile_stride, b + panel0 * elements * nr);
}

/* One block of A against all columns. With B packed before, all columns are one block of B. */
static void multiply_block(const blocked_product *z, const thread_part *t, const a_block *block,
                           idx *slot) {
  const idx step = z->packed_b ? t->column1 - t->column0 : t->nc;
  for (idx j = t->column0; j < t->column1; j += step) {
    const b_block columns = {j, MIN(j + step, t->column1), *slot};
    const idx items =
        CEIL_DIV(columns.column1 - columns.column0, t->nc) * block->groups * block->parts;
    if (!z->packed_b) pack_b(z, t, block, &columns);
    if (t->has_own_columns) {
      for (idx item = 0; item < items; item++) multiply_item(z, t, block, &columns, item);
      continue;
    }
    pk_partition(z->ranges[*slot], items, t->threads, t->thread);
#pragma omp barrier
    for (idx item; (item = pk_steal(z->ranges[*slot], t->threads, t->thread)) >= 0;)
      multiply_item(z, t, block, &columns, item);
    *slot ^= 1;
  }
}

static void run_thread(const blocked_product *z, idx threads, idx thread) {
  const thread_part t = part_of(z, threads, thread);
  idx slot = 0;
  if (z->kernel->begin) z->kernel->begin();
  for (idx i0 = 0; i0 < z->s->m; i0 += z->mc)
    for (idx p = 0; p < z->s->k; p += z->kc) {
      const a_block block = a_block_of(z, &t, i0, p);
      if (!t.has_own_columns && (p || i0)) { /* others may still be reading packed A */
#pragma omp barrier
      }
      pack_a(z, &t, &block);
      multiply_block(z, &t, &block, &slot);
    }
  if (z->kernel->end) z->kernel->end();
}

void pk_gemm_blocked(const pk_gemm_shape *s, const float *a, const float *b, const float *packed_b,
                     const pk_epilogue *e, float *c, float *scratch) {
  pk_work_range ranges[2][PK_WORK_RANGES];
  const blocked_product z = {.kernel = pk_gemm_kernel_f32(),
                             .s = s,
                             .a = a,
                             .b = b,
                             .packed_b = packed_b,
                             .c = c,
                             .scratch = scratch,
                             .epilogue = pk_split_epilogue(e),
                             /* 96: a multiple of every table's mr */
                             .mc = pk_equal_parts(s->m, BLOCKED_MC, 96),
                             .kc = pk_gemm_kc(s->k),
                             .tile_stride = tile_stride(),
                             .ranges = ranges};
#pragma omp parallel if (pk_gemm_is_parallel(s))
  run_thread(&z, omp_get_num_threads(), omp_get_thread_num());
}
