/* Packed elements of two bf16 values, for bodies that are written once for f32, f64 and bf16
 * (micro-kernels, attention, convolution). Exponentials, sums and everything that is kept stay in
 * f32. packed_real.h has the contract of these words. */
#define K_GROUP 2
#define PACK_B pack_b_bf16
#define PACK_A pack_a_bf16
typedef uint32_t packed_element;
#define packed_vector __m512i

static inline __m512i p_load(const packed_element *p) { return _mm512_loadu_si512(p); }

static inline __m512i p_broadcast(packed_element a) { return _mm512_set1_epi32((int)a); }

static inline V p_dot(__m512i a, __m512i b, V c) {
  return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}

static inline V p_dot_broadcast(const packed_element *a, __m512i b, V c) {
  __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(b), "m"(*a));
  return c;
}

/* Rows 2 r and 2 r + 1 of x become row r of pairs; out may be x. */
static const packed_element *att_group_rows(int nv, idx n, const real *x, packed_element *out) {
  for (idx r = 0; r < (n + 1) / 2; r++)
    for (int j = 0; j < nv; j++)
      _mm512_storeu_si512(out + r * NR + j * VL, bf16_pairs(v_load(x + 2 * r * NR + j * VL),
                                                            v_load(x + (2 * r + 1) * NR + j * VL)));
  return out;
}

/* Neighbouring lanes become pairs, in place; rows are then half as long. */
static void att_group_lanes(idx rows, real *x) {
  for (idx r = 0; r < rows; r++)
    _mm512_storeu_si512((packed_element *)x + r * NR / 2, bf16_pairs_of_run(x + r * NR, NR));
}

static inline void p_pack_rows(idx n, const real *x, idx ld, packed_element *out) {
  _mm512_storeu_si512(out,
                      bf16_pairs(v_loadn(x, n), ld ? v_loadn(x + ld, n) : _mm512_setzero_ps()));
}

/* Of an odd n, the second value of the last pair is zero. */
static inline void p_pack(idx n, const real *x, packed_element *out) {
  _mm256_mask_storeu_epi32(out, (__mmask8)((1u << (n + 1) / 2) - 1u),
                           (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(v_mask(n), x)));
}
