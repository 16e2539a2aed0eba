/* The vector words in plain C, one lane. This header is their definition: what a word of another
 * instruction set computes in each lane is what it computes here. Define PK_REAL_DOUBLE before
 * including it for f64.
 *
 * An instruction set provides, all of it `static inline`:
 *   real, V, VM      an element; a vector of VL elements; the result of a comparison
 *   VL               lanes: 1, 8 or 16; at most 16
 *   MR, NR_VECTORS   the micro-tile of packed products: rows, and vectors of columns; NR = columns
 *   UNPACKED_MR, UNPACKED_VECTORS   the same for products that are not packed
 *   v_...            the words below
 * Loads and stores take any address. Nothing is accessed under a masked lane. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef PK_REAL_DOUBLE
typedef double real;
#else
typedef float real;
#endif
typedef real V;
typedef int VM;
#define VL 1
#define UNPACKED_MR 4
#define UNPACKED_VECTORS 4
#define MR 4
#define NR_VECTORS 4
#define NR (NR_VECTORS * VL)

/* VL elements; the first n of them, for any n: lanes from n on are 0 (all of them if n <= 0). */
static inline V v_load(const real *p) { return *p; }

static inline V v_loadn(const real *p, ptrdiff_t n) { return n > 0 ? *p : 0; }

/* The same for stores: lanes from n on are not written. */
static inline void v_store(real *p, V a) { *p = a; }

static inline void v_storen(real *p, V a, ptrdiff_t n) {
  if (n > 0) *p = a;
}

/* a in every lane; 0 in every lane. */
static inline V v_set(real a) { return a; }

static inline V v_zero(void) { return 0; }

static inline V v_add(V a, V b) { return a + b; }

static inline V v_sub(V a, V b) { return a - b; }

static inline V v_mul(V a, V b) { return a * b; }

static inline V v_div(V a, V b) { return a / b; }

/* a b + c: one rounding where the processor fuses, two here. */
static inline V v_fma(V a, V b, V c) { return a * b + c; }

/* The same with *p in every lane of a; the multiply-add may read memory itself. */
static inline V v_fma_at(const real *p, V b, V c) { return *p * b + c; }

/* The larger and the smaller; b where one of them is NaN. */
static inline V v_max(V a, V b) { return a > b ? a : b; }

static inline V v_min(V a, V b) { return a < b ? a : b; }

static inline V v_abs(V a) { return a < 0 ? -a : a; }

static inline V v_sqrt(V a) { return (real)sqrt((double)a); }

/* Comparisons, false for NaN, and the choice by one: m ? a : b in each lane. */
static inline VM v_lt(V a, V b) { return a < b; }

static inline VM v_le(V a, V b) { return a <= b; }

static inline V v_select(VM m, V a, V b) { return m ? a : b; }

/* Sum and maximum over the lanes. The order of the sum is the instruction set's, but fixed. */
static inline real v_sum(V a) { return a; }

static inline real v_maxall(V a) { return a; }

/* v_swap(a), where VL > 1: lanes 2 i and 2 i + 1 exchanged. */

/* What the polynomials of math_body.inc stand on, in f32 alone. */
#ifndef PK_REAL_DOUBLE
/* 2^n for integral n in [-126, 127]. */
static inline V v_pow2(V n) {
  int32_t i = ((int32_t)n + 127) << 23;
  float f;
  memcpy(&f, &i, 4);
  return f;
}

/* To the nearest integer, ties to even. */
static inline V v_round(V a) { return rintf(a); }

/* a 2^n for integral n <= 129; 0, or subnormal, below -126. */
static inline V v_scale(V a, V n) { return a * v_pow2((n > -126 ? n : -126) - 1) * 2; }

/* A positive normal x is m 2^e with m in [sqrt(1/2), sqrt(2)): returns m. 0x3f3504f3 is the f32
 * nearest to sqrt(1/2). */
static inline V v_split(V x, V *e) {
  int32_t i;
  memcpy(&i, &x, 4);
  int32_t k = (i - 0x3f3504f3) >> 23;
  i -= k << 23;
  float m;
  memcpy(&m, &i, 4);
  *e = (float)k;
  return m;
}
#endif

/* VL x VL elements transposed in registers: out[p * step + j] = x[j * ld + p] for j < rows and p <
 * VL. All VL lanes of each line of `out` are written, in order of p, those from `rows` on with
 * anything: a step below VL lets the next line correct the last. Packing, attention and convolution
 * rest on it. */
static inline void v_transpose(ptrdiff_t rows, const real *x, ptrdiff_t ld, real *out,
                               ptrdiff_t step) {
  (void)rows, (void)ld, (void)step;
  out[0] = x[0];
}
