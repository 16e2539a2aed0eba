/* Distances, costs between points, ranks (pk_points.h). */
#include "solver.h"

pk_status pk_distances(ptrdiff_t n, ptrdiff_t m, ptrdiff_t d, const double *x, const double *y,
                       double *out) {
  const vector_kernels *vectors = select_vector_kernels(PK_F64);
#pragma omp parallel for schedule(static) if (n * m * d > PK_SERIAL)
  for (idx i = 0; i < n; i++) vectors->distances(m, d, x + i * d, y, out + i * m);
  return PK_OK;
}

ptrdiff_t pk_point_costs_scratch(const pk_sinkhorn_problem *p) { return solver_bytes(p, 1); }

pk_status pk_point_costs(const pk_sinkhorn_problem *p, const void *x, const void *y, void *out,
                         void *scratch) {
  if (p->n < 1 || p->m < 1 || p->d < 1 || p->cost == PK_COST_MATRIX || !(p->scale > 0))
    return PK_BAD_SHAPE;
  solver s;
  solver_open(&s, p, 1, scratch, x, y, NULL, NULL);
  solver_prepare_costs(&s);
  const idx blocks = s.kernel.blocks, m = p->m, element = s.kernel.element;
#pragma omp parallel for schedule(static) if (solver_parallel(&s))
  for (idx q = 0; q < blocks; q++) {
    const idx end = solver_block(&s, q + 1);
    for (idx i0 = solver_block(&s, q); i0 < end; i0 += POINT_TILE_ROWS) {
      const idx count = least_of(POINT_TILE_ROWS, end - i0);
      idx stride;
      const char *c = solver_cost_rows(&s, i0, count, solver_tile(&s, 0), &stride);
      for (idx i = i0; i < i0 + count; i++, c += stride * element) {
        if (element == s.kernel.given)
          memcpy((char *)out + i * m * element, c, (size_t)(m * element));
        else
          for (idx j = 0; j < m; j++) ((float *)out)[i * m + j] = (float)((const double *)c)[j];
      }
    }
  }
  return PK_OK;
}

ptrdiff_t pk_average_ranks_scratch(ptrdiff_t count) { return count * 24 + 65536 * 8; }

pk_status pk_average_ranks(ptrdiff_t count, ptrdiff_t n, double *x, double *diagonal,
                           void *scratch) {
  if (count > (ptrdiff_t)UINT32_MAX) return PK_BAD_SHAPE;
  uint64_t *starts = scratch, *keys = starts + 65536, *other = keys + count;
  uint32_t *order = (uint32_t *)(other + count), *next = order + count;
  memcpy(keys, x, (size_t)count * 8); /* the bits of non-negative doubles sort as integers */
  for (idx i = 0; i < count; i++) order[i] = (uint32_t)i;
  for (int shift = 0; shift < 64; shift += 16) {
    memset(starts, 0, 65536 * 8);
    for (idx i = 0; i < count; i++) starts[keys[i] >> shift & 65535]++;
    uint64_t at = 0;
    for (int v = 0; v < 65536; v++) {
      const uint64_t c = starts[v];
      starts[v] = at, at += c;
    }
    for (idx i = 0; i < count; i++) {
      const uint64_t to = starts[keys[i] >> shift & 65535]++;
      other[to] = keys[i], next[to] = order[i];
    }
    uint64_t *k = keys;
    keys = other, other = k;
    uint32_t *o = order;
    order = next, next = o;
  }
  *diagonal = ((double)n + 1) / 2;
  for (idx lo = 0, hi; lo < count; lo = hi) {
    for (hi = lo + 1; hi < count && keys[hi] == keys[lo];) hi++;
    const int zero = keys[lo] << 1 == 0;
    const double rank =
        zero ? ((double)n + 2 * (double)hi + 1) / 2 : (double)n + (double)lo + (double)hi + 0.5;
    if (zero) *diagonal = rank;
    for (idx i = lo; i < hi; i++) x[order[i]] = rank;
  }
  return PK_OK;
}
