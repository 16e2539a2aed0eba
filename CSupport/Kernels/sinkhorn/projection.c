/* The barycentric projection of the source points. */
#include "solver.h"

pk_status pk_sinkhorn_project(const pk_sinkhorn_problem *p, const void *x, const void *y,
                              const double *a, const double *b, double z, void *out,
                              void *scratch) {
  if (p->n < 1 || p->m < 1 || !(p->epsilon > 0) || p->cost == PK_COST_MATRIX) return PK_BAD_SHAPE;
  solver s;
  const idx bytes = solver_open_plan(&s, p, x, y, NULL, NULL, a, b, z, scratch), d = p->d;
  const solver_kernel *k = &s.kernel;
  double *sums = align_to_line((char *)scratch + bytes), *projected = sums + p->n;
  const double *none = s.scratch.direction;
  const idx blocks = k->blocks, row = k->stride * k->element;
  memset(projected, 0, (size_t)(p->n * d) * 8);
  memset(s.scratch.direction, 0, (size_t)(k->stride + 8) * 8);
  solver_prepare_costs(&s);
#pragma omp parallel for schedule(static) if (solver_parallel(&s))
  for (idx q = 0; q < blocks; q++) {
    const idx end = solver_block(&s, q + 1);
    for (idx i0 = solver_block(&s, q); i0 < end; i0 += POINT_TILE_ROWS) {
      const idx count = least_of(POINT_TILE_ROWS, end - i0);
      char *tile = solver_tile(&s, 0);
      solver_kernel_rows(&s, i0, count, tile);
      for (idx i = 0; i < count; i++) /* the plan itself: w = p (0 + 1) */
        sums[i0 + i] = k->vectors->point_gradient_row(
            p->m, k->stride, tile + i * row, tile + i * row, 0, none, 0, 0, 1, 0, tile + i * row);
      k->vectors->project_points(&k->points, count, tile, projected + i0 * d);
    }
  }
  /* the packed points are around the centre or, for cosine, of unit length: a mean direction */
  const int cosine = p->cost == PK_COST_COSINE;
  for (idx i = 0; i < p->n; i++)
    for (idx c = 0; c < d; c++)
      pk_write(out, p->type, i * d + c,
               sums[i] > 0 ? projected[i * d + c] / sums[i] + (cosine ? 0 : k->centre[c]) : 0);
  return PK_OK;
}
