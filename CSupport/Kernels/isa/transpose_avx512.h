/* 16 x 16 four-byte elements transposed: out[p * step + j] = x[j * ld + p] for j < rows, the other
 * lanes repeat the first row. Stored in order of p: of a step below 16 the first `step` lanes of
 * each line stay. Of f32 values and of pairs of bf16. */
static inline void transpose_16(ptrdiff_t rows, const float *x, ptrdiff_t ld, float *out,
                                ptrdiff_t step) {
  __m512 a[16], b[16];
#pragma clang loop unroll(full)
  for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_ps(x + (i < rows ? i : 0) * ld);
    /* Pairs of rows, then fours, then the four 128-bit quarters. */
#pragma clang loop unroll(full)
  for (int i = 0; i < 16; i += 2)
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]), b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
#pragma clang loop unroll(full)
  for (int i = 0; i < 16; i += 4) {
    const __m512d e = _mm512_castps_pd(b[i]), f = _mm512_castps_pd(b[i + 1]),
                  g = _mm512_castps_pd(b[i + 2]), h = _mm512_castps_pd(b[i + 3]);
    a[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(e, g)),
    a[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(e, g));
    a[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(f, h)),
          a[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(f, h));
  }
#pragma clang loop unroll(full)
  for (int c = 0; c < 4; c++) {
    const __m512 p = _mm512_shuffle_f32x4(a[c], a[c + 4], 0x88),
                 q = _mm512_shuffle_f32x4(a[c], a[c + 4], 0xdd);
    const __m512 r = _mm512_shuffle_f32x4(a[c + 8], a[c + 12], 0x88),
                 s = _mm512_shuffle_f32x4(a[c + 8], a[c + 12], 0xdd);
    b[c] = _mm512_shuffle_f32x4(p, r, 0x88), b[c + 4] = _mm512_shuffle_f32x4(q, s, 0x88);
    b[c + 8] = _mm512_shuffle_f32x4(p, r, 0xdd), b[c + 12] = _mm512_shuffle_f32x4(q, s, 0xdd);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 16; i++) _mm512_storeu_ps(out + i * step, b[i]);
}
