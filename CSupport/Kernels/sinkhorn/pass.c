/* One pass over the kernel: every thread updates the rows of its blocks and adds their column sums,
 * then the blocks' sums are added along a tree and the columns are updated. */
#include "solver.h"

idx solver_pairs(idx blocks, idx team, idx thread, block_pair *pairs) {
  idx count = 0;
  for (idx span = 1; span < blocks; span *= 2)
    for (idx q = 0; q + span < blocks; q += 2 * span) {
      const idx end = least_of(q + 2 * span, blocks), owner = ((q + 1) * team - 1) / blocks,
                alone = owner == (end * team - 1) / blocks;
      if (thread < 0 ? !alone : alone && owner == thread)
        pairs[count++] = (block_pair){q, q + span};
    }
  return count;
}

void solver_add_columns(const vector_kernels *vectors, const side_update *columns, idx j0, idx j1,
                        idx stride, const block_pair *pairs, idx count, double *block_sums,
                        double *out, void *beta, update_sums *sums) {
  for (idx k = 0; k < count - 1; k++) vectors->add_blocks(j0, j1, stride, pairs[k], block_sums);
  vectors->update_columns(columns, j0, j1, stride, count ? pairs[count - 1] : (block_pair){0, 0},
                          block_sums, out, beta, sums);
}

static void pass_block(solver *s, const side_update *rows, const char *beta, idx q) {
  const solver_kernel *k = &s->kernel;
  const idx stride = k->stride, step = solver_row_step(s), start = solver_block(s, q),
            end = solver_block(s, q + 1);
  double *block_sums = s->scratch.block_sums + q * stride;
  char *part = s->scratch.block_parts + q * stride * k->element;
  update_sums sums = NO_SUMS;
  for (idx i = start; i < end; i += step) {
    const idx count = least_of(step, end - i);
    k->vectors->pass(rows, i, count, stride, solver_kernel_rows(s, i, count, solver_tile(s, 0)),
                     beta, part, &sums);
    k->vectors->accumulate(stride, i == start, part, block_sums);
  }
  s->scratch.sums[ROWS][q] = sums;
}

static update_sums add_sums(const update_sums *f, idx count) {
  update_sums t = NO_SUMS;
  for (idx q = 0; q < count; q++, f++) {
    t.change += f->change, t.before += f->before, t.after += f->after, t.bad += f->bad;
    t.low = fmin(t.low, f->low), t.high = fmax(t.high, f->high);
  }
  return t;
}

void solver_pass(solver *s, const side_update *rows, const side_update *columns, const char *beta,
                 update_sums *row_sums, update_sums *column_sums) {
  const vector_kernels *vectors = s->kernel.vectors;
  const idx blocks = s->kernel.blocks, stride = s->kernel.stride, chunks = s->kernel.chunks;
  double *block_sums = s->scratch.block_sums;
#pragma omp parallel if (solver_parallel(s))
  {
    const idx threads = omp_get_num_threads(), team = least_of(threads, blocks),
              thread = omp_get_thread_num();
    for (idx q = blocks * thread / team; thread < team && q < blocks * (thread + 1) / team; q++)
      pass_block(s, rows, beta, q);
    block_pair pairs[MAX_BLOCKS];
    const idx own = solver_pairs(blocks, team, thread, pairs);
    for (idx k = 0; k < own; k++) vectors->add_blocks(0, stride, stride, pairs[k], block_sums);
    const idx left = solver_pairs(blocks, team, -1, pairs);
#pragma omp barrier
#pragma omp for schedule(static) nowait
    for (idx h = 0; h < chunks; h++) {
      update_sums sums = NO_SUMS;
      const idx j0 = h * COLUMN_CHUNK, j1 = least_of(j0 + COLUMN_CHUNK, stride);
      solver_add_columns(vectors, columns, j0, j1, stride, pairs, left, block_sums,
                         s->scratch.column_sums, s->dual.beta, &sums);
      s->scratch.sums[COLUMNS][h] = sums;
    }
  }
  *row_sums = add_sums(s->scratch.sums[ROWS], blocks);
  *column_sums = add_sums(s->scratch.sums[COLUMNS], chunks);
  s->passes++;
}

void solver_product(solver *s, const double *p, const double *q, const double *y, double *out) {
  const side_update rows = {.rule = UPDATE_LINEAR, .zeta = 1, .p = p, .q = q, .scaling = out},
                    columns = {.rule = UPDATE_LINEAR, .zeta = 1};
  update_sums row_sums, column_sums;
  s->kernel.vectors->convert(s->kernel.stride, y, s->scratch.vector);
  solver_pass(s, &rows, &columns, s->scratch.vector, &row_sums, &column_sums);
}

/* Rows: K 1. Columns: K' x with x = 0 y + 1. */
void solver_sums(solver *s, double *rows, double *columns) {
  const idx n = s->problem.side[ROWS].padded, stride = s->kernel.stride;
  double *p = s->dual.p[ROWS], *q = s->dual.q[ROWS], *y = s->scratch.residual;
  for (idx i = 0; i < n; i++) p[i] = 0, q[i] = 1;
  for (idx j = 0; j < stride; j++) y[j] = 1;
  solver_product(s, p, q, y, rows);
  s->passes--;
  if (!columns) return;
  for (idx i = 0; i < n; i++) p[i] = 1;
  for (idx j = 0; j < stride; j++) y[j] = 0;
  solver_product(s, p, q, y, s->scratch.step[ROWS]);
  s->passes--;
  memcpy(columns, s->scratch.column_sums, (size_t)stride * 8);
}
