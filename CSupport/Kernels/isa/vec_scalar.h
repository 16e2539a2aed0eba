/* One lane: the vocabulary in plain C. Define PK_REAL_DOUBLE before including for f64. */
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
typedef int VM; /* comparison result */
#define VL 1
#define UNPACKED_MR 4
#define UNPACKED_VECTORS 4
#define MR 4
#define NR_VECTORS 4
#define NR (NR_VECTORS * VL)

static inline V v_load(const real *p) { return *p; }

static inline V v_loadn(const real *p, ptrdiff_t n) { return n > 0 ? *p : 0; }

static inline void v_store(real *p, V a) { *p = a; }

static inline void v_storen(real *p, V a, ptrdiff_t n) {
  if (n > 0) *p = a;
}

static inline V v_set(real a) { return a; }

static inline V v_zero(void) { return 0; }

static inline V v_add(V a, V b) { return a + b; }

static inline V v_sub(V a, V b) { return a - b; }

static inline V v_mul(V a, V b) { return a * b; }

static inline V v_div(V a, V b) { return a / b; }

static inline V v_fma(V a, V b, V c) { return a * b + c; } /* a b + c, two roundings here */

static inline V v_fma_at(const real *p, V b, V c) { return *p * b + c; }

static inline V v_max(V a, V b) { return a > b ? a : b; }

static inline V v_min(V a, V b) { return a < b ? a : b; }

static inline V v_abs(V a) { return a < 0 ? -a : a; }

static inline V v_sqrt(V a) { return (real)sqrt((double)a); }

static inline VM v_lt(V a, V b) { return a < b; }

static inline VM v_le(V a, V b) { return a <= b; }

static inline V v_select(VM m, V a, V b) { return m ? a : b; } /* m ? a : b */

static inline real v_sum(V a) { return a; }

static inline real v_maxall(V a) { return a; }
#ifndef PK_REAL_DOUBLE
/* 2^n for integral n in [-126, 127], and the split x = m 2^e, m in [sqrt(1/2), sqrt 2) of a
 * positive normal x. */
static inline V v_pow2(V n) {
  int32_t i = ((int32_t)n + 127) << 23;
  float f;
  memcpy(&f, &i, 4);
  return f;
}

static inline V v_round(V a) { return rintf(a); }

/* a 2^n for integral n <= 129, 0 from -126 on */
static inline V v_scale(V a, V n) { return a * v_pow2((n > -126 ? n : -126) - 1) * 2; }

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
/* out[p * step + j] = x[j * ld + p] for j < rows, p < VL */
static inline void v_transpose(ptrdiff_t rows, const real *x, ptrdiff_t ld, real *out,
                               ptrdiff_t step) {
  (void)rows, (void)ld, (void)step;
  out[0] = x[0];
}
