/* Words of two bf16 values: attention_body.inc. Exponentials, sums and everything that is kept stay in f32. */
#define ATT_STEP 2
#define ATT_PACK pack_b
typedef uint32_t att_word;
#define ATT_W __m512i
static inline __m512i att_load(const att_word *p) { return _mm512_loadu_si512(p); }
static inline __m512i att_set(att_word a) { return _mm512_set1_epi32((int)a); }
static inline V att_dot(__m512i a, __m512i b, V c) { return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b); }
/* Rows 2r and 2r + 1 become row r of pairs; out may be x. */
static const att_word *att_pairs_of_rows(int nv, idx n, const real *x, att_word *out) {
  for (idx r = 0; r < (n + 1) / 2; r++)
    for (int j = 0; j < nv; j++)
      _mm512_storeu_si512(out + r * PRODUCT_COLUMNS + j * VL, pairs(v_load(x + 2 * r * PRODUCT_COLUMNS + j * VL), v_load(x + (2 * r + 1) * PRODUCT_COLUMNS + j * VL)));
  return out;
}
/* Neighbouring lanes become pairs, in place, rows half as long. */
static void att_pairs_of_lanes(idx rows, real *x) {
  for (idx r = 0; r < rows; r++) _mm512_storeu_si512((att_word *)x + r * PRODUCT_COLUMNS / 2, run(x + r * PRODUCT_COLUMNS, PRODUCT_COLUMNS));
}
