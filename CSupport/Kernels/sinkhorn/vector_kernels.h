/* What a solver of entropic transport does to rows of a kernel, per element type and instruction
 * set. Vectors are the compiler's own, 64 bytes. f64 is without fused multiply-add: the same bits
 * on every instruction set. f32 fuses where the processor can. */
#ifndef PK_VECTOR_KERNELS_H
#define PK_VECTOR_KERNELS_H
#include "../isa/kernels.h"

typedef enum { UPDATE_HARD, UPDATE_RELAXED, UPDATE_CAPPED, UPDATE_LINEAR } update_rule;

/* How a side's scaling follows from its sums s_i (rows: zeta <K_i, beta>; columns: zeta <K^j,
 * alpha>):
 *   hard     p_i / s;   relaxed  exp(p_i - phi log s);   capped  min(q_i, p_i / s);   linear  (s +
 *   p_i) q_i and, over-relaxed, old (that / old)^(1 + omega). p_i <= 0 (hard, capped) or
 *   PK_LOG_ZERO (relaxed): weight 0, scaling 0. */
typedef struct {
  update_rule rule;
  double exponent, zeta, omega; /* exponent: 1 / (1 + kappa) of a relaxed side */
  const double *p, *q;
  double *scaling;
} side_update;

/* Over the sums of a side: change = sum s |rule - old|, before = sum s old, after = sum s new, bad
 * = how many sums are useless, and the extreme scalings. */
typedef struct {
  double change, before, after, bad, low, high;
} update_sums;

#define NO_SUMS ((update_sums){0, 0, 0, 0, INFINITY, 0})

/* Costs of points: row_i + column_j + factor v, v = <x_i, y_j>, or |x_i - y_j|^2, or its root. x in
 * groups of 8 rows [group][d][8], y in panels of two vectors of columns [panel][d][2 lanes]. As a
 * kernel: the exponential of that (f32: to base 2), 0 below its range.
 * `fused`: f64 with fused multiply-add where the processor has it. */
typedef struct {
  idx d, ld;
  const void *x, *y;
  int difference, root, fused;
} packed_points;

/* Two blocks whose column sums are added. */
typedef struct {
  idx q, r;
} block_pair;

typedef struct {
  idx lanes;
  /* rows i0 ..< i0 + rows, k [rows, ld]: sums against beta, the rule, part += scaling K. */
  void (*pass)(const side_update *w, idx i0, idx rows, idx ld, const void *k, const void *beta,
               void *part, update_sums *sums);
  /* acc += part, the first time acc = part; part = 0. */
  void (*accumulate)(idx ld, int first, void *part, double *acc);
  /* acc[q] += acc[r], each [ld], columns j0 ..< j1. */
  void (*add_blocks)(idx j0, idx j1, idx ld, block_pair pair, double *acc);
  /* columns j0 ..< j1: out = zeta (acc[q] + acc[r]) (r 0: acc[q] alone); with a scaling also the
   * new one, and its copy beta. */
  void (*update_columns)(const side_update *w, idx j0, idx j1, idx ld, block_pair pair,
                         const double *acc, double *out, void *beta, update_sums *sums);
  /* exp(f + g - s c) of m entries, padding 0 to ld; returns the sum. */
  double (*kernel_row)(idx m, idx ld, const void *c, double s, double f, const double *g,
                       void *out);
  /* The same as an entry of the plan, to out unless NULL; sums[0] += it, sums[1] += it c, acc[j] +=
   * it. */
  void (*plan_row)(idx m, const void *c, double s, double f, const double *g, void *out,
                   double *acc, double *sums);
  /* The same without a plan, its exponentials to 1e-7; c [ld]. */
  void (*approximate_plan_row)(idx ld, const void *c, double s, double f, const double *g,
                               double *acc, double *sums);
  /* p = f k g as an entry of the plan, to out unless NULL; sums[0] += p, sums[1] += p c, part[j] +=
   * p. */
  void (*scaled_plan_row)(idx m, const void *k, const void *c, double f, const void *g, void *out,
                          void *part, double *sums);
  double (*row_lse)(idx m, const void *c, double s, const double *g);
  /* Running column-wise log-sum-exp of f - s c: top and sum. */
  void (*column_lse)(idx m, const void *c, double s, double f, double *top, double *sum);
  /* least and largest of m entries, infinite ones apart, into range[2] */
  void (*cost_range)(idx m, const void *c, double *range);
  void (*convert)(idx n, const double *x, void *y);
  void (*point_tile)(const packed_points *t, idx i0, idx rows, int kernel, double factor,
                     const double *row, const void *column, void *out);
  /* w = p ((f + t_j - g c) s + on), over |x - y| where `root` (0 there); returns sum w. p, c [ld]
   */
  double (*point_gradient_row)(idx m, idx ld, const void *p, const void *c, double f,
                               const double *t, double g, double s, double on, int root, void *w);
  /* out[r, k] += sum_j w[r, j] y_jk */
  void (*project_points)(const packed_points *t, idx rows, const void *w, double *out);
  /* row and column sums of p g (g NULL: of p): rows returned, columns added to acc. p [ld], g [m]
   */
  double (*weighted_sums_row)(idx m, const void *p, const void *g, const void *c, double on_cost,
                              double *acc);
  /* out = p ((f + t_j - g - on_cost c) s + on) */
  void (*cost_gradient_row)(idx m, const void *p, const void *g, const void *c, double on_cost,
                            double f, const double *t, double s, double on, void *out);
  /* out[j] = |x - y_j|, x [d], y [m, d]; f64 in both tables */
  void (*distances)(idx m, idx d, const double *x, const double *y, double *out);
} vector_kernels;

extern const vector_kernels vector_kernels_scalar_f32, vector_kernels_scalar_f64,
    vector_kernels_avx2_f32, vector_kernels_avx2_f64, vector_kernels_avx512_f32,
    vector_kernels_avx512_f64;

/* The table for the instruction set in use; the only place where transport chooses one. */
static inline const vector_kernels *select_vector_kernels(pk_type type) {
  const int is_f64 = type == PK_F64;
#if defined(__x86_64__)
  switch (pk_isa_current()) {
  case PK_ISA_AVX512:
    return is_f64 ? &vector_kernels_avx512_f64 : &vector_kernels_avx512_f32;
  case PK_ISA_AVX2:
    return is_f64 ? &vector_kernels_avx2_f64 : &vector_kernels_avx2_f32;
  default:
    break;
  }
#endif
  return is_f64 ? &vector_kernels_scalar_f64 : &vector_kernels_scalar_f32;
}
#endif
