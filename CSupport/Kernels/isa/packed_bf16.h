/* Words of two bf16 values, for the bodies that are written once for both (attention, convolution).
 * Exponentials, sums and everything that is kept stay in f32. */
#define STEP 2
#define PACK_PANEL pack_b
#define PACK_ROWS pack_a
typedef uint32_t word;
#define WORDS __m512i

static inline __m512i w_load(const word *p) { return _mm512_loadu_si512(p); }

static inline __m512i w_set(word a) { return _mm512_set1_epi32((int)a); }

static inline V w_dot(__m512i a, __m512i b, V c) {
  return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}

static inline V w_dot_at(const word *a, __m512i b, V c) {
  __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(b), "m"(*a));
  return c;
}

/* Rows 2r and 2r + 1 become row r of pairs; out may be x. */
static const word *att_pairs_of_rows(int nv, idx n, const real *x, word *out) {
  for (idx r = 0; r < (n + 1) / 2; r++)
    for (int j = 0; j < nv; j++)
      _mm512_storeu_si512(out + r * PRODUCT_COLUMNS + j * VL,
                          pairs(v_load(x + 2 * r * PRODUCT_COLUMNS + j * VL),
                                v_load(x + (2 * r + 1) * PRODUCT_COLUMNS + j * VL)));
  return out;
}

/* Neighbouring lanes become pairs, in place, rows half as long. */
static void att_pairs_of_lanes(idx rows, real *x) {
  for (idx r = 0; r < rows; r++)
    _mm512_storeu_si512((word *)x + r * PRODUCT_COLUMNS / 2,
                        run(x + r * PRODUCT_COLUMNS, PRODUCT_COLUMNS));
}

/* A vector of words from n values of a row and of the next row (none: ld 0). */
static inline void w_rows(idx n, const real *x, idx ld, word *out) {
  _mm512_storeu_si512(out, pairs(some(x, n), ld ? some(x + ld, n) : _mm512_setzero_ps()));
}

/* n <= VL values become half as many words; those past n are zero. */
static inline void w_narrow(idx n, const real *x, word *out) {
  _mm256_mask_storeu_epi32(out, (__mmask8)((1u << (n + 1) / 2) - 1u),
                           (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(lanes(n), x)));
}
