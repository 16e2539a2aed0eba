#include "solver.h"

pk_status pk_distances(ptrdiff_t n, ptrdiff_t m, ptrdiff_t d, const double *x, const double *y, double *out) {
  wide_distances *row = wide_distances_scalar;
#if defined(__x86_64__)
  if (pk_isa_current() != PK_ISA_SCALAR) row = pk_isa_current() == PK_ISA_AVX512 ? wide_distances_avx512 : wide_distances_avx2;
#endif
#pragma omp parallel for schedule(static) if (n * m * d > PK_SERIAL)
  for (idx i = 0; i < n; i++) row(m, d, x + i * d, y, out + i * m);
  return PK_OK;
}

ptrdiff_t pk_average_ranks_scratch(ptrdiff_t count) { return count * 24 + 65536 * 8; }
pk_status pk_average_ranks(ptrdiff_t count, ptrdiff_t n, double *x, double *diagonal, void *scratch) {
  if (count > (ptrdiff_t)UINT32_MAX) return PK_BAD_SHAPE;
  uint64_t *starts = scratch, *keys = starts + 65536, *other = keys + count;
  uint32_t *order = (uint32_t *)(other + count), *next = order + count;
  memcpy(keys, x, (size_t)count * 8); /* the bits of non-negative doubles sort as integers */
  for (idx i = 0; i < count; i++) order[i] = (uint32_t)i;
  for (int shift = 0; shift < 64; shift += 16) {
    memset(starts, 0, 65536 * 8);
    for (idx i = 0; i < count; i++) starts[keys[i] >> shift & 65535]++;
    uint64_t at = 0;
    for (int v = 0; v < 65536; v++) { const uint64_t c = starts[v]; starts[v] = at, at += c; }
    for (idx i = 0; i < count; i++) {
      const uint64_t to = starts[keys[i] >> shift & 65535]++;
      other[to] = keys[i], next[to] = order[i];
    }
    uint64_t *k = keys; keys = other, other = k;
    uint32_t *o = order; order = next, next = o;
  }
  *diagonal = ((double)n + 1) / 2;
  for (idx lo = 0, hi; lo < count; lo = hi) {
    for (hi = lo + 1; hi < count && keys[hi] == keys[lo];) hi++;
    const int zero = keys[lo] << 1 == 0;
    const double rank = zero ? ((double)n + 2 * (double)hi + 1) / 2 : (double)n + (double)lo + (double)hi + 0.5;
    if (zero) *diagonal = rank;
    for (idx i = lo; i < hi; i++) x[order[i]] = rank;
  }
  return PK_OK;
}
