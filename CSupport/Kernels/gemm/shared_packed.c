#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"
#include "../isa/work_stealing.h"
#include "gemm_algorithms.h"

/* Products of f32, shared out as items (isa/work_stealing.h). Two ways: what is smaller, A or B, is packed
 * together and read by every item. An element's sum is the same in both, and in pk_packed_product.
 * Few rows: an item is a group of panels of B, which whoever takes it packs for himself. A long k
 * is cut into spans for which A stays near, one after the other.
 * Many rows: an item is a chunk of rows, which whoever takes it packs, with all panels, or a group
 * of them where chunks are few. Rows of C stay near for the pieces of k.
 * In a training step weights and activations come from beyond the second level of cache, where
 * reading to pack takes longer than packing: what the next item reads is asked for while this one
 * is multiplied. */
#define FEW_A (1 << 19) /* elements of A with few rows in a piece of k, at most */
/* elements of A with few rows, at a time: they stay in the second level of cache, beside B and C */
#define NEAR_A (3 << 16)
/* elements of B with many rows, which stay in a cache that members share: beyond, blocked.c reads
 * less of it */
#define MOST_B (1 << 20)
#define TILES 8 /* tiles of rows in a chunk, at most */
#define WIDE 8  /* panels at a time, at most: they stay in the second level of cache */
/* elements of B with few rows that a member packs and multiplies before the next: as much is asked
 * for meanwhile */
#define NEAR_B (1 << 15)
#define TOGETHER 4 /* tiles of transposed A that are packed together, */
/* so many values of k at a time: a line of memory serves them all. So are panels of B */
#define STEPS 32
#define GAP 16 /* words after a packed tile, which its last store may pass */
#define LEAST(a, b) ((a) < (b) ? (a) : (b))
#define MOST(a, b) ((a) > (b) ? (a) : (b))
#define CEIL(a, b) (((a) + (b) - 1) / (b))

typedef struct {
  const pk_gemm_shape *s;
  const pk_product *product;
  const float *a, *b, *ready, *bias;
  pk_epilogue rest;
  int finish;
  float *c, *scratch;
  /* tiles of rows; panels of columns; columns in whole panels of 32; values of k in a piece */
  idx units, panels, across, depth;
} job;

/* Few: A is clearly smaller than B (measured from 128 to 1408 rows: level at 3 to 4), and there is
 * something to share out. */
static int few(const pk_gemm_shape *s, idx team) {
  return s->m * LEAST(s->k, PK_PRODUCT_K) <= FEW_A && 4 * s->m <= 3 * s->n && s->n >= 64 * team;
}

/* Where rows are few: values of k, in whole pieces, for which A stays near; the place of that much
 * of A, packed, and how many; the place of a member's B. */
static idx span(const pk_gemm_shape *s) {
  const idx depth = pk_product_depth(s->k), pieces = CEIL(s->k, depth),
            spans = CEIL(pieces, MOST(1, NEAR_A / (s->m * depth)));
  return LEAST(CEIL(pieces, spans) * depth, s->k);
}

static idx place(const pk_gemm_shape *s, const pk_product *p) {
  return CEIL(s->m, p->rows) * (p->rows * span(s) + GAP * CEIL(span(s), pk_product_depth(s->k)));
}

static idx places(const pk_gemm_shape *s) { return span(s) < s->k ? 2 : 1; }

static idx near_b(const pk_gemm_shape *s) { return LEAST(WIDE * 32 * s->k, NEAR_B); }

static idx chunk_size(const pk_gemm_shape *s, const pk_product *p) {
  return TILES * (p->rows * LEAST(s->k, PK_PRODUCT_K) + GAP);
}

int pk_rows_suit(const pk_gemm_shape *s) {
  return pk_products() != PK_BF16 && s->csc == 1 && (s->k * s->n <= MOST_B || few(s, pk_threads()));
}

idx pk_rows_scratch(const pk_gemm_shape *s) {
  const idx team = pk_threads();
  const pk_product *p = &pk_select(PK_F32)->product;
  const idx many =
      s->k * s->n <= MOST_B ? pk_gemm_packed_count(s->n, s->k) + team * chunk_size(s, p) : 0;
  /* Work too small to fork is done by one. */
  const idx those = few(s, 1) ? places(s) * place(s, p) + team * near_b(s) : 0;
  return MOST(many, those);
}

/* Rows of A packed as tiles [k][rows], a piece of k. */
static void pack_rows(const job *j, idx unit0, idx unit1, idx p, idx d, float *to) {
  const pk_gemm_shape *s = j->s;
  const idx rows = j->product->rows, group = s->csa == 1 ? 1 : TOGETHER,
            steps = s->csa == 1 ? d : STEPS;
  for (idx u = unit0; u < unit1; u += group)
    for (idx q = 0; q < d; q += steps)
      for (idx v = u; v < LEAST(u + group, unit1); v++)
        j->product->pack_a(LEAST(s->m - v * rows, rows), LEAST(d - q, steps),
                           j->a + v * rows * s->rsa + (p + q) * s->csa, s->rsa, s->csa,
                           to + (v - unit0) * (rows * d + GAP) + q * rows);
}

/* Panels t0 to t1 of B, a piece of k. */
static void pack_panels(const job *j, idx t0, idx t1, idx p, idx d, float *to) {
  const pk_gemm_shape *s = j->s;
  const idx columns = j->product->columns, steps = s->csb == 1 ? STEPS : d;
  for (idx q = 0; q < d; q += steps)
    for (idx t = t0; t < t1; t++)
      j->product->pack_b(LEAST(s->n - t * columns, columns), LEAST(d - q, steps),
                         j->b + (p + q) * s->rsb + t * columns * s->csb, s->rsb, s->csb,
                         to + ((t - t0) * d + q) * columns);
}

/* Panels [t0, t1) against tiles of rows, a piece of k: a and b are packed. A tile stays in the
 * first level of cache while panels come from the second; so does its row of C until the epilogue,
 * after the last piece. */
static void multiply(const job *j, idx unit0, idx unit1, idx t0, idx t1, idx p, idx d,
                     const float *a, const float *b, pk_ahead *ahead) {
  const pk_gemm_shape *s = j->s;
  const idx rows = j->product->rows, columns = j->product->columns, left = t0 * columns,
            right = LEAST(t1 * columns, s->n);
  const int last = p + d == s->k;
  for (idx u = unit0; u < unit1; u++, a += rows * d + GAP) {
    const idx i0 = u * rows, m = LEAST(s->m - i0, rows);
    for (idx at = left; at < right; at += columns) {
      const idx n = LEAST(right - at, columns);
      pk_ahead beside = last ? pk_beside(&j->rest, i0, m, at, n) : (pk_ahead){0};
      beside.then = ahead;
      j->product->tile(d, a, b + (at - left) * d, s->alpha, p ? 1 : s->beta,
                       j->bias && last ? j->bias + at : NULL, j->c + i0 * s->rsc + at, s->rsc, m, n,
                       &beside);
    }
    if (last && j->finish)
      pk_finish_rows(PK_F32, &j->rest, i0, m, left, right - left, j->c, s->rsc);
  }
}

/* What packing tiles of rows [unit0, unit1) reads, or panels [t0, t1). */
static pk_ahead rows_ahead(const job *j, idx unit0, idx unit1) {
  const pk_gemm_shape *s = j->s;
  const idx i0 = unit0 * j->product->rows, m = LEAST(unit1 * j->product->rows, s->m) - i0;
  if (m <= 0) return (pk_ahead){0};
  return s->csa == 1   ? pk_ahead_of(j->a + i0 * s->rsa, m, s->k, s->rsa)
         : s->rsa == 1 ? pk_ahead_of(j->a + i0, s->k, m, s->csa)
                       : (pk_ahead){0};
}

static pk_ahead panels_ahead(const job *j, idx t0, idx t1, idx k0, idx k1) {
  const pk_gemm_shape *s = j->s;
  const idx at = t0 * j->product->columns, n = LEAST(t1 * j->product->columns, s->n) - at,
            k = k1 - k0;
  if (n <= 0) return (pk_ahead){0};
  if (j->ready)
    return pk_ahead_of(j->ready + k0 * j->across + at * j->depth, CEIL(k, j->depth), n * j->depth,
                       j->across * j->depth);
  return s->csb == 1   ? pk_ahead_of(j->b + k0 * s->rsb + at, k, n, s->rsb)
         : s->rsb == 1 ? pk_ahead_of(j->b + at * s->csb + k0, n, k, s->csb)
                       : (pk_ahead){0};
}

static void few_rows(const job *j, pk_run (*runs)[PK_RUNS], idx group, idx team, idx me) {
  const pk_gemm_shape *s = j->s;
  const idx rows = j->product->rows, columns = j->product->columns, tile = rows * j->depth + GAP,
            most = span(s);
  float *block = j->scratch + places(s) * place(s, j->product) + me * near_b(s);
  const idx u0 = j->units * me / team, u1 = j->units * (me + 1) / team;
  /* A has two places, so that one barrier a span is enough. */
  for (idx q = 0, turn = 0, upto; q < s->k; q = upto, turn ^= 1) {
    upto = LEAST(q + most, s->k);
    float *a = j->scratch + turn * place(s, j->product);
    for (idx p = q, d; p < upto; p += d) {
      d = LEAST(upto - p, j->depth);
      pack_rows(j, u0, u1, p, d, a + (p - q) / j->depth * j->units * tile + u0 * (rows * d + GAP));
    }
    pk_share_out(runs[turn], CEIL(j->panels, group), team, me);
#pragma omp barrier
    for (idx item; (item = pk_take(runs[turn], team, me)) >= 0;) {
      const idx t0 = item * group, t1 = LEAST(t0 + group, j->panels);
      pk_ahead ahead = panels_ahead(j, t1, LEAST(t1 + group, j->panels), q, upto);
      for (idx p = q, d; p < upto; p += d) {
        d = LEAST(upto - p, j->depth);
        if (!j->ready) pack_panels(j, t0, t1, p, d, block);
        multiply(j, 0, j->units, t0, t1, p, d, a + (p - q) / j->depth * j->units * tile,
                 j->ready ? j->ready + p * j->across + t0 * d * columns : block, &ahead);
      }
    }
  }
}

static void many_rows(const job *j, pk_run *runs, idx team, idx me) {
  const pk_gemm_shape *s = j->s;
  const idx columns = j->product->columns;
  /* Some items for every member, as many for each; a chunk's packing must still be repaid by its
   * panels, a panel's reading by the rows of a chunk. */
  idx chunks = MOST(CEIL(j->units, TILES), LEAST(CEIL(j->units, TILES / 2), 4 * team));
  chunks = LEAST(CEIL(chunks, team) * team, j->units);
  const idx groups = chunks >= 3 * team ? 1 : MOST(1, LEAST(CEIL(3 * team, chunks), j->panels / 4));
  const float *packed = j->ready ? j->ready : j->scratch;
  float *chunk = j->scratch + (j->ready ? 0 : j->across * s->k) + me * chunk_size(s, j->product);
  for (idx p = 0, d; p < s->k && !j->ready; p += d) {
    d = LEAST(s->k - p, j->depth);
    const idx t0 = j->panels * me / team, t1 = j->panels * (me + 1) / team;
    pack_panels(j, t0, t1, p, d, j->scratch + p * j->across + t0 * d * columns);
  }
  pk_share_out(runs, chunks * groups, team, me);
#pragma omp barrier
  for (idx item; (item = pk_take(runs, team, me)) >= 0;) {
    const idx u0 = j->units * (item / groups) / chunks,
              u1 = j->units * (item / groups + 1) / chunks;
    const idx t0 = j->panels * (item % groups) / groups,
              t1 = j->panels * (item % groups + 1) / groups;
    pk_ahead ahead = item % groups + 1 < groups
                         ? (pk_ahead){0}
                         : rows_ahead(j, u1, j->units * (item / groups + 2) / chunks);
    for (idx p = 0, d; p < s->k && t0 < t1; p += d) {
      d = LEAST(s->k - p, j->depth);
      pack_rows(j, u0, u1, p, d, chunk);
      for (idx t = t0, end; t < t1; t = end) {
        end = LEAST(t + WIDE, t1);
        multiply(j, u0, u1, t, end, p, d, chunk, packed + p * j->across + t * d * columns,
                 end == t1 ? &ahead : NULL);
      }
    }
  }
}

void pk_rows_product(const pk_gemm_shape *s, const float *a, const float *b, const float *ready,
                     const pk_epilogue *e, float *c, float *scratch) {
  const pk_product *product = &pk_select(PK_F32)->product;
  job j = {.s = s,
           .product = product,
           .a = a,
           .b = b,
           .ready = ready,
           .c = c,
           .scratch = scratch,
           .units = CEIL(s->m, product->rows),
           .panels = CEIL(s->n, product->columns),
           .across = CEIL(s->n, 32) * 32,
           .depth = pk_product_depth(s->k)};
  if (e) j.rest = *e;
  j.bias = j.rest.bias;
  j.rest.bias = NULL;
  j.finish = j.rest.active || j.rest.before;
  pk_run runs[2][PK_RUNS];
  const int forks = 2.0 * (double)s->m * (double)s->n * (double)s->k > 5e5;
#pragma omp parallel if (forks)
  {
    const idx team = omp_get_num_threads(), me = omp_get_thread_num();
    if (few(s, team)) {
      idx group = WIDE;
      while (group > 1 && (CEIL(j.panels, group) < 6 * team || group * 32 * span(s) > NEAR_B))
        group /= 2;
      few_rows(&j, runs, group, team, me);
    } else {
      many_rows(&j, runs[0], team, me);
    }
  }
}
