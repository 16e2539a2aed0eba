/* The vector words of vec_scalar.h: sixteen f32 lanes, AVX-512 F, BW, DQ and VL. vec_end.h pops the
 * target. */
#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
typedef float real;
typedef __m512 V;
typedef __mmask16 VM;
#define VL 16
#define UNPACKED_MR 6
#define UNPACKED_VECTORS 4
#define MR 12
#define NR_VECTORS 2
#define NR (NR_VECTORS * VL)

static inline __mmask16 v_mask(ptrdiff_t n) {
  return n >= VL ? (__mmask16)0xffff : n <= 0 ? (__mmask16)0 : (__mmask16)((1u << n) - 1u);
}

static inline V v_load(const real *p) { return _mm512_loadu_ps(p); }

static inline V v_loadn(const real *p, ptrdiff_t n) { return _mm512_maskz_loadu_ps(v_mask(n), p); }

static inline void v_store(real *p, V a) { _mm512_storeu_ps(p, a); }

static inline void v_storen(real *p, V a, ptrdiff_t n) { _mm512_mask_storeu_ps(p, v_mask(n), a); }

static inline V v_set(real a) { return _mm512_set1_ps(a); }

static inline V v_zero(void) { return _mm512_setzero_ps(); }

static inline V v_add(V a, V b) { return _mm512_add_ps(a, b); }

static inline V v_sub(V a, V b) { return _mm512_sub_ps(a, b); }

static inline V v_mul(V a, V b) { return _mm512_mul_ps(a, b); }

static inline V v_div(V a, V b) { return _mm512_div_ps(a, b); }

static inline V v_fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }

/* The broadcast is part of the instruction: one less to issue, one more load. */
static inline V v_fma_at(const real *p, V b, V c) {
  __asm__("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(b), "m"(*p));
  return c;
}

static inline V v_max(V a, V b) { return _mm512_max_ps(a, b); }

static inline V v_min(V a, V b) { return _mm512_min_ps(a, b); }

static inline V v_abs(V a) { return _mm512_abs_ps(a); }

static inline V v_sqrt(V a) { return _mm512_sqrt_ps(a); }

static inline VM v_lt(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }

static inline VM v_le(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }

static inline V v_select(VM m, V a, V b) { return _mm512_mask_blend_ps(m, b, a); }

static inline real v_sum(V a) {
  __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

/* Lanes 2 i and 2 i + 1 exchanged. */
static inline V v_swap(V a) { return _mm512_permute_ps(a, 0xb1); }

static inline real v_maxall(V a) { return _mm512_reduce_max_ps(a); }

static inline V v_pow2(V n) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}

static inline V v_round(V a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline V v_scale(V a, V n) { return _mm512_scalef_ps(a, n); }

static inline V v_split(V x, V *e) {
  __m512i i = _mm512_castps_si512(x);
  __m512i k = _mm512_srai_epi32(_mm512_sub_epi32(i, _mm512_set1_epi32(0x3f3504f3)), 23);
  *e = _mm512_cvtepi32_ps(k);
  return _mm512_castsi512_ps(_mm512_sub_epi32(i, _mm512_slli_epi32(k, 23)));
}

#include "transpose_avx512.h"

static inline void v_transpose(ptrdiff_t rows, const real *x, ptrdiff_t ld, real *out,
                               ptrdiff_t step) {
  transpose_16(rows, x, ld, out, step);
}
