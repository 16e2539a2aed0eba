/* Products of f64, and of f32 whose rows of C are not contiguous: packed as f64, sums in f64.
 *
 * C is cut into blocks of at most ANY_NC columns, k into K blocks of ANY_KC values (Goto and van de
 * Geijn 2008). The team packs a block of B as panels; an item of work is a few micro-tiles of rows,
 * which a thread packs for itself and multiplies with all panels or, where there are few rows, with
 * a part of them. K blocks are added to C in order: the order of a sum depends on k alone. */
#include "../isa/omp_declarations.h"
#include "gemm_algorithms.h"

typedef struct {
  const pk_f64_product_kernel *kernel;
  const pk_gemm_shape *s;
  pk_type type;
  const void *a, *b;
  void *c;
} any_product;

static idx packed_b_count(const pk_gemm_shape *s) {
  return MIN(ROUND_UP(s->n, PK_F64_NR_MAX), ANY_NC) * MIN(s->k, ANY_KC);
}

static idx packed_a_count(const pk_gemm_shape *s) { return ANY_MC * MIN(s->k, ANY_KC); }

/* In f32 elements; eight of them align the packed operands. */
idx pk_gemm_any_scratch(const pk_gemm_shape *s) {
  return 2 * (packed_b_count(s) + pk_threads() * packed_a_count(s)) + 8;
}

/* packed [k][width] = `lines` lines of x, `line` apart, along k with stride `step`, read in the
 * order in which memory lies; missing lines are zero. */
static inline __attribute__((always_inline)) void pack_as(pk_type type, idx width, idx lines, idx k,
                                                          const void *x, idx line, idx step,
                                                          double *restrict packed) {
  if (line == 1) {
    for (idx p = 0; p < k; p++)
      for (idx i = 0; i < lines; i++) packed[p * width + i] = pk_read(x, type, i + p * step);
  } else {
    idx p = 0;
    for (; p + 8 <= k; p += 8) /* a cache line of each */
      for (idx i = 0; i < lines; i++)
        for (idx q = p; q < p + 8; q++)
          packed[q * width + i] = pk_read(x, type, i * line + q * step);
    for (; p < k; p++)
      for (idx i = 0; i < lines; i++) packed[p * width + i] = pk_read(x, type, i * line + p * step);
  }
  for (idx p = 0; p < k && lines < width; p++)
    for (idx i = lines; i < width; i++) packed[p * width + i] = 0;
}

/* The operand's lines [line0, line1) as packed elements [line / width][k][width]. Where lines lie
 * beside each other, a few values of k at a time, so that a page serves all of them. */
static void pack(pk_type type, idx width, idx line0, idx line1, idx k, const void *x, idx line,
                 idx step, double *packed) {
  const idx chunk = line == 1 ? PACK_K_AT_A_TIME : MAX(k, 1);
  for (idx q = 0; q < k; q += chunk)
    for (idx l = line0; l < line1; l += width) {
      const void *from = pk_at(x, type, l * line + q * step);
      double *to = packed + (l - line0) * k + q * width;
      const idx n = MIN(k - q, chunk), lines = MIN(line1 - l, width);
      if (type == PK_F32)
        pack_as(PK_F32, width, lines, n, from, line, step, to);
      else if (lines == 8 && width == 8)
        pack_as(PK_F64, 8, 8, n, from, line, step, to);
      else if (lines == 16 && width == 16)
        pack_as(PK_F64, 16, 16, n, from, line, step, to);
      else if (lines == 6 && width == 6)
        pack_as(PK_F64, 6, 6, n, from, line, step, to);
      else if (lines == 12 && width == 12)
        pack_as(PK_F64, 12, 12, n, from, line, step, to);
      else
        pack_as(PK_F64, width, lines, n, from, line, step, to);
    }
}

/* C [rows, columns] = alpha sums + beta C; sums [rows][nr]. */
static inline __attribute__((always_inline)) void write_as(pk_type type, idx rows, idx columns,
                                                           double alpha, const double *sums, idx nr,
                                                           double beta, void *c, idx rsc, idx csc) {
  for (idx i = 0; i < rows; i++, sums += nr)
    if (beta == 0)
      for (idx j = 0; j < columns; j++) pk_write(c, type, i * rsc + j * csc, alpha * sums[j]);
    else
      for (idx j = 0; j < columns; j++)
        pk_write(c, type, i * rsc + j * csc,
                 alpha * sums[j] + beta * pk_read(c, type, i * rsc + j * csc));
}

static void write_tile(const any_product *z, double beta, idx rows, idx columns, const double *sums,
                       idx i, idx j) {
  const pk_gemm_shape *s = z->s;
  const idx nr = z->kernel->nr;
  void *c = pk_at(z->c, z->type, i * s->rsc + j * s->csc);
  if (z->type == PK_F32)
    write_as(PK_F32, rows, columns, s->alpha, sums, nr, beta, c, s->rsc, s->csc);
  else if (s->csc == 1 && columns == 8)
    write_as(PK_F64, rows, 8, s->alpha, sums, nr, beta, c, s->rsc, 1);
  else if (s->csc == 1 && columns == 16)
    write_as(PK_F64, rows, 16, s->alpha, sums, nr, beta, c, s->rsc, 1);
  else
    write_as(PK_F64, rows, columns, s->alpha, sums, nr, beta, c, s->rsc, s->csc);
}

/* Rows [i0, i1) of C against panels [panel0, panel1) of the block of B that begins at column j0. */
static void multiply_rows(const any_product *z, idx p, idx kc, idx i0, idx i1, idx j0, idx j1,
                          idx panel0, idx panel1, double *packed_a, const double *packed_b) {
  const idx mr = z->kernel->mr, nr = z->kernel->nr;
  const double beta = p ? 1 : z->s->beta;
  double sums[PK_F64_MR_MAX * PK_F64_NR_MAX];
  pack(z->type, mr, i0, i1, kc, pk_at(z->a, z->type, p * z->s->csa), z->s->rsa, z->s->csa,
       packed_a);
  for (idx panel = panel0; panel < panel1; panel++)
    for (idx i = i0; i < i1; i += mr) {
      const idx j = j0 + panel * nr;
      z->kernel->sums(kc, packed_a + (i - i0) * kc, packed_b + panel * nr * kc, sums);
      write_tile(z, beta, MIN(i1 - i, mr), MIN(j1 - j, nr), sums, i, j);
    }
}

static void run_thread(const any_product *z, idx threads, idx thread, double *packed_b,
                       double *packed_a) {
  const pk_gemm_shape *s = z->s;
  const idx mr = z->kernel->mr, nr = z->kernel->nr;
  const idx rows = MIN(ROUND_UP(CEIL_DIV(s->m, 4 * threads), mr), ANY_MC / mr * mr);
  const idx blocks = CEIL_DIV(s->m, rows), parts = CEIL_DIV(threads, blocks);
  for (idx j0 = 0; j0 < s->n; j0 += ANY_NC)
    for (idx p = 0; p == 0 || p < s->k; p += ANY_KC) {
      const idx j1 = MIN(j0 + ANY_NC, s->n), kc = MIN(s->k - p, ANY_KC);
      const idx panels = CEIL_DIV(j1 - j0, nr);
      const idx first = panels * thread / threads * nr, last = panels * (thread + 1) / threads * nr;
      pack(z->type, nr, j0 + first, MIN(j0 + last, j1), kc, pk_at(z->b, z->type, p * s->rsb),
           s->csb, s->rsb, packed_b + first * kc);
#pragma omp barrier
      for (idx item = thread; item < blocks * parts; item += threads) {
        const idx i0 = item / parts * rows, part = item % parts;
        multiply_rows(z, p, kc, i0, MIN(i0 + rows, s->m), j0, j1, panels * part / parts,
                      panels * (part + 1) / parts, packed_a, packed_b);
      }
#pragma omp barrier
    }
}

void pk_gemm_any(pk_type type, const pk_gemm_shape *s, const void *a, const void *b, void *c,
                 void *scratch) {
  const any_product z = {pk_f64_product(), s, type, a, b, c};
  double *packed_b = (double *)ROUND_UP((intptr_t)scratch, 8);
#pragma omp parallel if (pk_gemm_is_parallel(s))
  run_thread(&z, omp_get_num_threads(), omp_get_thread_num(), packed_b,
             packed_b + packed_b_count(s) + omp_get_thread_num() * packed_a_count(s));
}
