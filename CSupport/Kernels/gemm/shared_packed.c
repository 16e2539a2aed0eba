#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"
#include "../isa/work_stealing.h"
#include "gemm_algorithms.h"

/* Products of f32, shared out as items (isa/work_stealing.h). Two ways: what is smaller, A or B, is packed
 * together and read by every item. An element's sum is the same in both, and in pk_gemm_blocked.
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

typedef struct {
  const pk_gemm_shape *s;
  const pk_gemm_kernel *kernel;
  const float *a, *b, *ready, *bias;
  pk_epilogue rest;
  int finish;
  float *c, *scratch;
  /* tiles of rows; panels of columns; columns in whole panels of 32; values of k in a piece */
  idx units, panels, across, depth;
} job;

/* Few: A is clearly smaller than B (measured from 128 to 1408 rows: level at 3 to 4), and there is
 * something to share out. */
static int few(const pk_gemm_shape *s, idx threads) {
  return s->m * MIN(s->k, PK_KC_MAX) <= FEW_A && 4 * s->m <= 3 * s->n && s->n >= 64 * threads;
}

/* Where rows are few: values of k, in whole pieces, for which A stays near; the place of that much
 * of A, packed, and how many; the place of a member's B. */
static idx span(const pk_gemm_shape *s) {
  const idx depth = pk_gemm_kc(s->k), pieces = CEIL_DIV(s->k, depth),
            spans = CEIL_DIV(pieces, MAX(1, NEAR_A / (s->m * depth)));
  return MIN(CEIL_DIV(pieces, spans) * depth, s->k);
}

static idx place(const pk_gemm_shape *s, const pk_gemm_kernel *p) {
  return CEIL_DIV(s->m, p->mr) * (p->mr * span(s) + GAP * CEIL_DIV(span(s), pk_gemm_kc(s->k)));
}

static idx places(const pk_gemm_shape *s) { return span(s) < s->k ? 2 : 1; }

static idx near_b(const pk_gemm_shape *s) { return MIN(WIDE * 32 * s->k, NEAR_B); }

static idx chunk_size(const pk_gemm_shape *s, const pk_gemm_kernel *p) {
  return TILES * (p->mr * MIN(s->k, PK_KC_MAX) + GAP);
}

int pk_gemm_shared_packed_supports(const pk_gemm_shape *s) {
  return pk_compute_type() != PK_BF16 && s->csc == 1 &&
         (s->k * s->n <= MOST_B || few(s, pk_threads()));
}

idx pk_gemm_shared_packed_scratch(const pk_gemm_shape *s) {
  const idx threads = pk_threads();
  const pk_gemm_kernel *p = &pk_select(PK_F32)->gemm;
  const idx many =
      s->k * s->n <= MOST_B ? pk_gemm_packed_count(s->n, s->k) + threads * chunk_size(s, p) : 0;
  /* Work too small to fork is done by one. */
  const idx those = few(s, 1) ? places(s) * place(s, p) + threads * near_b(s) : 0;
  return MAX(many, those);
}

/* Rows of A packed as tiles [k][rows], a piece of k. */
static void pack_rows(const job *j, idx unit0, idx unit1, idx p, idx d, float *to) {
  const pk_gemm_shape *s = j->s;
  const idx rows = j->kernel->mr, group = s->csa == 1 ? 1 : TOGETHER,
            steps = s->csa == 1 ? d : STEPS;
  for (idx u = unit0; u < unit1; u += group)
    for (idx q = 0; q < d; q += steps)
      for (idx v = u; v < MIN(u + group, unit1); v++)
        j->kernel->pack_a(MIN(s->m - v * rows, rows), MIN(d - q, steps),
                          j->a + v * rows * s->rsa + (p + q) * s->csa, s->rsa, s->csa,
                          to + (v - unit0) * (rows * d + GAP) + q * rows);
}

/* Panels t0 to t1 of B, a piece of k. */
static void pack_panels(const job *j, idx t0, idx t1, idx p, idx d, float *to) {
  const pk_gemm_shape *s = j->s;
  const idx columns = j->kernel->nr, steps = s->csb == 1 ? STEPS : d;
  for (idx q = 0; q < d; q += steps)
    for (idx t = t0; t < t1; t++)
      j->kernel->pack_b(MIN(s->n - t * columns, columns), MIN(d - q, steps),
                        j->b + (p + q) * s->rsb + t * columns * s->csb, s->rsb, s->csb,
                        to + ((t - t0) * d + q) * columns);
}

/* Panels [t0, t1) against tiles of rows, a piece of k: a and b are packed. A tile stays in the
 * first level of cache while panels come from the second; so does its row of C until the epilogue,
 * after the last piece. */
static void multiply(const job *j, idx unit0, idx unit1, idx t0, idx t1, idx p, idx d,
                     const float *a, const float *b, pk_prefetch_stream *ahead) {
  const pk_gemm_shape *s = j->s;
  const idx rows = j->kernel->mr, columns = j->kernel->nr, left = t0 * columns,
            right = MIN(t1 * columns, s->n);
  const int last = p + d == s->k;
  for (idx u = unit0; u < unit1; u++, a += rows * d + GAP) {
    const idx i0 = u * rows, m = MIN(s->m - i0, rows);
    for (idx at = left; at < right; at += columns) {
      const idx n = MIN(right - at, columns);
      pk_prefetch_stream beside =
          last ? pk_prefetch_epilogue(&j->rest, i0, m, at, n) : (pk_prefetch_stream){0};
      beside.then = ahead;
      j->kernel->microkernel(d, a, b + (at - left) * d, s->alpha, p ? 1 : s->beta,
                             j->bias && last ? j->bias + at : NULL, j->c + i0 * s->rsc + at, s->rsc,
                             m, n, &beside);
    }
    if (last && j->finish)
      pk_apply_epilogue(PK_F32, &j->rest, i0, m, left, right - left, j->c, s->rsc);
  }
}

/* What packing tiles of rows [unit0, unit1) reads, or panels [t0, t1). */
static pk_prefetch_stream rows_ahead(const job *j, idx unit0, idx unit1) {
  const pk_gemm_shape *s = j->s;
  const idx i0 = unit0 * j->kernel->mr, m = MIN(unit1 * j->kernel->mr, s->m) - i0;
  if (m <= 0) return (pk_prefetch_stream){0};
  return s->csa == 1   ? pk_prefetch_rows(j->a + i0 * s->rsa, m, s->k, s->rsa)
         : s->rsa == 1 ? pk_prefetch_rows(j->a + i0, s->k, m, s->csa)
                       : (pk_prefetch_stream){0};
}

static pk_prefetch_stream panels_ahead(const job *j, idx t0, idx t1, idx k0, idx k1) {
  const pk_gemm_shape *s = j->s;
  const idx at = t0 * j->kernel->nr, n = MIN(t1 * j->kernel->nr, s->n) - at, k = k1 - k0;
  if (n <= 0) return (pk_prefetch_stream){0};
  if (j->ready)
    return pk_prefetch_rows(j->ready + k0 * j->across + at * j->depth, CEIL_DIV(k, j->depth),
                            n * j->depth, j->across * j->depth);
  return s->csb == 1   ? pk_prefetch_rows(j->b + k0 * s->rsb + at, k, n, s->rsb)
         : s->rsb == 1 ? pk_prefetch_rows(j->b + at * s->csb + k0, n, k, s->csb)
                       : (pk_prefetch_stream){0};
}

static void few_rows(const job *j, pk_work_range (*runs)[PK_WORK_RANGES], idx group, idx threads,
                     idx thread) {
  const pk_gemm_shape *s = j->s;
  const idx rows = j->kernel->mr, columns = j->kernel->nr, tile = rows * j->depth + GAP,
            most = span(s);
  float *block = j->scratch + places(s) * place(s, j->kernel) + thread * near_b(s);
  const idx u0 = j->units * thread / threads, u1 = j->units * (thread + 1) / threads;
  /* A has two places, so that one barrier a span is enough. */
  for (idx q = 0, turn = 0, upto; q < s->k; q = upto, turn ^= 1) {
    upto = MIN(q + most, s->k);
    float *a = j->scratch + turn * place(s, j->kernel);
    for (idx p = q, d; p < upto; p += d) {
      d = MIN(upto - p, j->depth);
      pack_rows(j, u0, u1, p, d, a + (p - q) / j->depth * j->units * tile + u0 * (rows * d + GAP));
    }
    pk_partition(runs[turn], CEIL_DIV(j->panels, group), threads, thread);
#pragma omp barrier
    for (idx item; (item = pk_steal(runs[turn], threads, thread)) >= 0;) {
      const idx t0 = item * group, t1 = MIN(t0 + group, j->panels);
      pk_prefetch_stream ahead = panels_ahead(j, t1, MIN(t1 + group, j->panels), q, upto);
      for (idx p = q, d; p < upto; p += d) {
        d = MIN(upto - p, j->depth);
        if (!j->ready) pack_panels(j, t0, t1, p, d, block);
        multiply(j, 0, j->units, t0, t1, p, d, a + (p - q) / j->depth * j->units * tile,
                 j->ready ? j->ready + p * j->across + t0 * d * columns : block, &ahead);
      }
    }
  }
}

static void many_rows(const job *j, pk_work_range *runs, idx threads, idx thread) {
  const pk_gemm_shape *s = j->s;
  const idx columns = j->kernel->nr;
  /* Some items for every member, as many for each; a chunk's packing must still be repaid by its
   * panels, a panel's reading by the rows of a chunk. */
  idx chunks = MAX(CEIL_DIV(j->units, TILES), MIN(CEIL_DIV(j->units, TILES / 2), 4 * threads));
  chunks = MIN(CEIL_DIV(chunks, threads) * threads, j->units);
  const idx groups =
      chunks >= 3 * threads ? 1 : MAX(1, MIN(CEIL_DIV(3 * threads, chunks), j->panels / 4));
  const float *packed = j->ready ? j->ready : j->scratch;
  float *chunk = j->scratch + (j->ready ? 0 : j->across * s->k) + thread * chunk_size(s, j->kernel);
  for (idx p = 0, d; p < s->k && !j->ready; p += d) {
    d = MIN(s->k - p, j->depth);
    const idx t0 = j->panels * thread / threads, t1 = j->panels * (thread + 1) / threads;
    pack_panels(j, t0, t1, p, d, j->scratch + p * j->across + t0 * d * columns);
  }
  pk_partition(runs, chunks * groups, threads, thread);
#pragma omp barrier
  for (idx item; (item = pk_steal(runs, threads, thread)) >= 0;) {
    const idx u0 = j->units * (item / groups) / chunks,
              u1 = j->units * (item / groups + 1) / chunks;
    const idx t0 = j->panels * (item % groups) / groups,
              t1 = j->panels * (item % groups + 1) / groups;
    pk_prefetch_stream ahead = item % groups + 1 < groups
                                   ? (pk_prefetch_stream){0}
                                   : rows_ahead(j, u1, j->units * (item / groups + 2) / chunks);
    for (idx p = 0, d; p < s->k && t0 < t1; p += d) {
      d = MIN(s->k - p, j->depth);
      pack_rows(j, u0, u1, p, d, chunk);
      for (idx t = t0, end; t < t1; t = end) {
        end = MIN(t + WIDE, t1);
        multiply(j, u0, u1, t, end, p, d, chunk, packed + p * j->across + t * d * columns,
                 end == t1 ? &ahead : NULL);
      }
    }
  }
}

void pk_gemm_shared_packed(const pk_gemm_shape *s, const float *a, const float *b,
                           const float *ready, const pk_epilogue *e, float *c, float *scratch) {
  const pk_gemm_kernel *kernel = &pk_select(PK_F32)->gemm;
  job j = {.s = s,
           .kernel = kernel,
           .a = a,
           .b = b,
           .ready = ready,
           .c = c,
           .scratch = scratch,
           .units = CEIL_DIV(s->m, kernel->mr),
           .panels = CEIL_DIV(s->n, kernel->nr),
           .across = CEIL_DIV(s->n, 32) * 32,
           .depth = pk_gemm_kc(s->k)};
  if (e) j.rest = *e;
  j.bias = j.rest.bias;
  j.rest.bias = NULL;
  j.finish = j.rest.active || j.rest.before;
  pk_work_range runs[2][PK_WORK_RANGES];
  const int forks = 2.0 * (double)s->m * (double)s->n * (double)s->k > 5e5;
#pragma omp parallel if (forks)
  {
    const idx threads = omp_get_num_threads(), thread = omp_get_thread_num();
    if (few(s, threads)) {
      idx group = WIDE;
      while (group > 1 &&
             (CEIL_DIV(j.panels, group) < 6 * threads || group * 32 * span(s) > NEAR_B))
        group /= 2;
      few_rows(&j, runs, group, threads, thread);
    } else {
      many_rows(&j, runs[0], threads, thread);
    }
  }
}
