/* The vector words of vec_scalar.h: eight f32 lanes, AVX2 and FMA. vec_end.h pops the target. */
#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
typedef float real;
typedef __m256 V;
typedef __m256 VM;
#define VL 8
#define UNPACKED_MR 4
#define UNPACKED_VECTORS 3
#define MR 6
#define NR_VECTORS 2
#define NR (NR_VECTORS * VL)
static const int32_t pk_mask_table[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

static inline __m256i v_mask(ptrdiff_t n) {
  if (n > VL) n = VL;
  if (n < 0) n = 0;
  return _mm256_loadu_si256((const __m256i *)(pk_mask_table + VL - n));
}

static inline V v_load(const real *p) { return _mm256_loadu_ps(p); }

static inline V v_loadn(const real *p, ptrdiff_t n) { return _mm256_maskload_ps(p, v_mask(n)); }

static inline void v_store(real *p, V a) { _mm256_storeu_ps(p, a); }

static inline void v_storen(real *p, V a, ptrdiff_t n) { _mm256_maskstore_ps(p, v_mask(n), a); }

static inline V v_set(real a) { return _mm256_set1_ps(a); }

static inline V v_zero(void) { return _mm256_setzero_ps(); }

static inline V v_add(V a, V b) { return _mm256_add_ps(a, b); }

static inline V v_sub(V a, V b) { return _mm256_sub_ps(a, b); }

static inline V v_mul(V a, V b) { return _mm256_mul_ps(a, b); }

static inline V v_div(V a, V b) { return _mm256_div_ps(a, b); }

static inline V v_fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }

static inline V v_fma_at(const real *p, V b, V c) {
  return _mm256_fmadd_ps(_mm256_broadcast_ss(p), b, c);
}

static inline V v_max(V a, V b) { return _mm256_max_ps(a, b); }

static inline V v_min(V a, V b) { return _mm256_min_ps(a, b); }

static inline V v_abs(V a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }

static inline V v_sqrt(V a) { return _mm256_sqrt_ps(a); }

static inline VM v_lt(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }

static inline VM v_le(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }

static inline V v_select(VM m, V a, V b) { return _mm256_blendv_ps(b, a, m); }

static inline real v_sum(V a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

/* Lanes 2 i and 2 i + 1 exchanged. */
static inline V v_swap(V a) { return _mm256_permute_ps(a, 0xb1); }

static inline real v_maxall(V a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}

static inline V v_pow2(V n) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}

static inline V v_round(V a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline V v_scale(V a, V n) {
  const __m256 one = _mm256_set1_ps(1);
  return _mm256_mul_ps(
      _mm256_mul_ps(a, v_pow2(_mm256_sub_ps(_mm256_max_ps(_mm256_set1_ps(-126), n), one))),
      _mm256_set1_ps(2));
}

static inline V v_split(V x, V *e) {
  __m256i i = _mm256_castps_si256(x);
  __m256i k = _mm256_srai_epi32(_mm256_sub_epi32(i, _mm256_set1_epi32(0x3f3504f3)), 23);
  *e = _mm256_cvtepi32_ps(k);
  return _mm256_castsi256_ps(_mm256_sub_epi32(i, _mm256_slli_epi32(k, 23)));
}

static inline void v_transpose(ptrdiff_t rows, const real *x, ptrdiff_t ld, real *out,
                               ptrdiff_t step) {
  __m256 a[8], b[8];
  for (int i = 0; i < 8; i++) a[i] = _mm256_loadu_ps(x + (i < rows ? i : 0) * ld);
  for (int i = 0; i < 8; i += 2)
    b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]), b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  for (int i = 0; i < 8; i += 4)
    for (int h = 0; h < 2; h++)
      a[i + 2 * h] = _mm256_shuffle_ps(b[i + h], b[i + h + 2], 0x44),
                a[i + 2 * h + 1] = _mm256_shuffle_ps(b[i + h], b[i + h + 2], 0xee);
  for (int c = 0; c < 4; c++)
    b[c] = _mm256_permute2f128_ps(a[c], a[c + 4], 0x20),
    b[c + 4] = _mm256_permute2f128_ps(a[c], a[c + 4], 0x31);
  for (int i = 0; i < 8; i++) _mm256_storeu_ps(out + i * step, b[i]);
}
