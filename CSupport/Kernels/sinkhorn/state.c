/* Memory of a solver, its potentials and scalings. */
#include "solver.h"

/* Blocks of rows: of 64 rows up to 16 blocks, then of 128 rows, so that a large machine has a block
 * for each processor, while the column sums of all blocks stay within MAX_BLOCK_SUMS. */
static idx count_blocks(idx rows, idx stride) {
  const idx few = MAX_BLOCKS / 4, groups = rows / 8;
  idx wanted = groups / 8, most = MAX_BLOCK_SUMS / stride;
  if (wanted >= few) wanted = groups / 16 < few ? few : groups / 16;
  most = most < few ? few : least_of(most, MAX_BLOCKS);
  return wanted < 1 ? 1 : least_of(wanted, most);
}

static void lay_out_vectors(solver *s, char *base, idx *at) {
  const idx element = s->kernel.element, stride = s->kernel.stride, blocks = s->kernel.blocks,
            rows = s->problem.side[ROWS].padded;
  solver_dual *dual = &s->dual;
  solver_scratch *scratch = &s->scratch;
  double **of_rows[] = {&dual->potential[ROWS], &dual->scaling[ROWS],     &dual->p[ROWS],
                        &dual->q[ROWS],         &scratch->right[ROWS],    &scratch->diagonal[ROWS],
                        &scratch->step[ROWS],   &scratch->marginal[ROWS], &s->kernel.row};
  double **of_columns[] = {
      &dual->potential[COLUMNS], &dual->scaling[COLUMNS],    &dual->p[COLUMNS],
      &dual->q[COLUMNS],         &scratch->right[COLUMNS],   &scratch->diagonal[COLUMNS],
      &scratch->step[COLUMNS],   &scratch->residual,         &scratch->direction,
      &scratch->column_sums,     &scratch->marginal[COLUMNS]};
  for (size_t i = 0; i < sizeof of_rows / sizeof *of_rows; i++)
    *of_rows[i] = carve(base, at, 8 * (rows + 8));
  for (size_t i = 0; i < sizeof of_columns / sizeof *of_columns; i++)
    *of_columns[i] = carve(base, at, 8 * (stride + 8));
  dual->beta = carve(base, at, stride * element);
  scratch->vector = carve(base, at, stride * element);
  s->kernel.column = carve(base, at, stride * element);
  scratch->block_sums = carve(base, at, blocks * stride * 8);
  scratch->block_tops = carve(base, at, blocks * stride * 8);
  scratch->block_parts = carve(base, at, blocks * stride * element);
  scratch->sums[ROWS] = carve(base, at, blocks * (idx)sizeof(update_sums));
  scratch->sums[COLUMNS] = carve(base, at, s->kernel.chunks * (idx)sizeof(update_sums));
  scratch->component =
      carve(base, at,
            2 * (s->problem.side[ROWS].count + s->problem.side[COLUMNS].count) * (idx)sizeof(idx));
}

static void lay_out_kernel(solver *s, idx tiles, char *base, idx *at) {
  const pk_sinkhorn_problem *p = s->problem.options;
  solver_kernel *k = &s->kernel;
  const idx rows = s->problem.side[ROWS].padded;
  k->stored = NULL;
  k->points = (packed_points){.d = p->d,
                              .ld = k->stride,
                              .root = p->cost == PK_COST_EUCLIDEAN,
                              .fused = p->type == PK_F32 && k->element == 8};
  if (k->is_points) {
    k->constant[ROWS] = carve(base, at, 8 * (rows + 8));
    k->constant[COLUMNS] = carve(base, at, 8 * k->stride);
    k->centre = carve(base, at, 8 * p->d);
    k->points.x = carve(base, at, rows * p->d * k->element);
    k->points.y = carve(base, at, k->stride * p->d * k->element);
  } else {
    k->stored = carve(base, at, p->n * k->stride * k->element);
  }
  k->tile_bytes = POINT_TILE_ROWS * k->stride * k->element;
  k->tiles_each = tiles;
  const idx threads =
      least_of(pk_threads(), k->blocks); /* no more threads than blocks have tiles */
  k->tiles = carve(base, at, k->is_points ? tiles * threads * k->tile_bytes : 0);
}

idx solver_layout(solver *s, const pk_sinkhorn_problem *p, pk_type type, idx tiles, char *scratch) {
  const idx element = pk_size(type), panel = 2 * 64 / element;
  solver_kernel *k = &s->kernel;
  k->vectors = select_vector_kernels(type);
  k->element = element, k->given = pk_size(p->type);
  k->is_points = p->cost != PK_COST_MATRIX;
  k->stride = (p->m + panel - 1) / panel * panel;
  /* rows a power of two apart would share cache sets */
  if (!k->is_points && k->stride * element % 1024 == 0) k->stride += panel;
  s->problem.options = p;
  s->problem.side[ROWS] = (solver_side){
      .rule = p->side_source, .count = p->n, .padded = (p->n + 7) / 8 * 8, .rho = p->rho_source};
  s->problem.side[COLUMNS] = (solver_side){
      .rule = p->side_target, .count = p->m, .padded = k->stride, .rho = p->rho_target};
  k->blocks = count_blocks(s->problem.side[ROWS].padded, k->stride);
  k->chunks = (k->stride + COLUMN_CHUNK - 1) / COLUMN_CHUNK;
  k->digit_loss[0] = -1;
  s->rounding = element == 8 ? 1e-15 : 3e-7;
  s->passes = 0, s->interrupted = 0, s->damping = 0;
  s->dual.zeta = 1, s->dual.z = 0;
  idx at = 0;
  char *base = scratch ? align_to_line(scratch) : NULL;
  lay_out_vectors(s, base, &at);
  lay_out_kernel(s, tiles, base, &at);
  return at + 64;
}

/* Least and largest finite cost of a matrix. */
static void find_cost_range(solver *s) {
  const idx blocks = s->kernel.blocks, m = s->problem.side[COLUMNS].count;
  double range[2] = {INFINITY, -INFINITY}, *ranges = s->scratch.block_sums; /* [blocks, 2] */
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx q = 0; q < blocks; q++) {
    ranges[2 * q] = INFINITY, ranges[2 * q + 1] = -INFINITY;
    for (idx i = solver_block(s, q); i < solver_block(s, q + 1); i++)
      s->kernel.vectors->cost_range(m, (const char *)s->problem.x + i * m * s->kernel.element,
                                    ranges + 2 * q);
  }
  for (idx q = 0; q < blocks; q++) {
    range[0] = fmin(range[0], ranges[2 * q]);
    range[1] = fmax(range[1], ranges[2 * q + 1]);
  }
  s->problem.cost_range = range[1] - range[0];
  s->kernel.least = range[0];
}

int solver_bind(solver *s, const void *x, const void *y, const double *mu, const double *nu) {
  s->problem.x = x, s->problem.y = y;
  s->problem.side[ROWS].weights = mu, s->problem.side[COLUMNS].weights = nu;
  memset(s->scratch.block_parts, 0,
         (size_t)(s->kernel.blocks * s->kernel.stride * s->kernel.element));
  if (s->kernel.is_points) return solver_bind_points(s);
  find_cost_range(s);
  return 1;
}

idx solver_reopen_in_f64(solver *s, idx tiles, char *scratch) {
  double loss[3];
  const solver_problem before = s->problem;
  memcpy(loss, s->kernel.digit_loss, sizeof loss);
  const idx bytes = solver_layout(s, before.options, PK_F64, tiles, scratch);
  memcpy(s->kernel.digit_loss, loss, sizeof loss);
  solver_bind(s, before.x, before.y, before.side[ROWS].weights, before.side[COLUMNS].weights);
  return bytes;
}

idx solver_open(solver *s, const pk_sinkhorn_problem *p, idx tiles, char *scratch, const void *x,
                const void *y, const double *mu, const double *nu) {
  const idx bytes = solver_layout(s, p, p->type, tiles, scratch);
  return solver_bind(s, x, y, mu, nu) ? bytes : solver_reopen_in_f64(s, tiles, scratch);
}

idx solver_open_plan(solver *s, const pk_sinkhorn_problem *p, const void *x, const void *y,
                     const double *mu, const double *nu, const double *a, const double *b, double z,
                     char *scratch) {
  const idx bytes = solver_open(s, p, 2, scratch, x, y, mu, nu);
  solver_set_epsilon(s, p->epsilon);
  solver_set_potentials(s, a, b, z);
  solver_build_kernel(s, s->dual.potential[ROWS], s->dual.potential[COLUMNS], z, 0);
  return bytes;
}

void solver_set_epsilon(solver *s, double epsilon) {
  s->problem.epsilon = epsilon;
  for (int k = 0; k < 2; k++) {
    solver_side *side = &s->problem.side[k];
    side->kappa = side->rule == PK_SIDE_RELAXED ? epsilon / side->rho : 0;
    side->exponent = 1 / (1 + side->kappa);
  }
}

void solver_set_potentials(solver *s, const double *a, const double *b, double z) {
  for (int k = 0; k < 2; k++) {
    const solver_side *side = &s->problem.side[k];
    const double *from = k == ROWS ? a : b;
    double *to = s->dual.potential[k];
    for (idx i = side->padded - 1; i >= 0; i--) to[i] = i < side->count ? from[i] : PK_LOG_ZERO;
  }
  s->dual.z = z;
}

void solver_reset_scalings(solver *s) {
  for (int k = 0; k < 2; k++) {
    const solver_side *side = &s->problem.side[k];
    const double *w = side->weights, *t = s->dual.potential[k], phi = side->exponent;
    double *scaling = s->dual.scaling[k], *p = s->dual.p[k], *q = s->dual.q[k];
    for (idx i = 0; i < side->padded; i++) {
      const int on = i < side->count && w[i] > 0;
      scaling[i] = on;
      q[i] = 0;
      if (side->rule == PK_SIDE_RELAXED)
        p[i] = on ? phi * log(w[i]) - (1 - phi) * t[i] : PK_LOG_ZERO;
      else
        p[i] = on ? w[i] : 0;
      if (side->rule == PK_SIDE_CAPPED && on) q[i] = exp(-t[i]);
    }
  }
  s->kernel.vectors->convert(s->kernel.stride, s->dual.scaling[COLUMNS], s->dual.beta);
  s->dual.zeta = 1;
}

/* Where every cap of a side is reached, (a + t, z - t) leaves the plan alone and the dual rises
 * with t until the largest a is 0. */
static void lift_caps(solver *s) {
  for (int k = 0; k < 2; k++) {
    const idx count = s->problem.side[k].count;
    double *t = s->dual.potential[k], top = PK_LOG_ZERO;
    for (idx i = 0; i < count; i++) top = fmax(top, t[i]);
    if (!(top < 0) || !has_potential(top)) continue;
    for (idx i = 0; i < count; i++) t[i] = has_potential(t[i]) ? t[i] - top : PK_LOG_ZERO;
    s->dual.z += top;
  }
}

void solver_fold_scalings(solver *s) {
  for (int k = 0; k < 2; k++) {
    const solver_side *side = &s->problem.side[k];
    const double *w = side->weights;
    double *t = s->dual.potential[k], *scaling = s->dual.scaling[k];
    for (idx i = 0; i < side->count; i++) {
      if (w[i] > 0) t[i] += log(scaling[i]);
      /* At a cap that is not reached log(exp(-a)) + a is 0 but for rounding; exactly 0 means that
       * the constraint is inactive. */
      if (side->rule == PK_SIDE_CAPPED) t[i] = w[i] > 0 ? (t[i] > -1e-12 ? 0 : t[i]) : PK_LOG_ZERO;
      scaling[i] = w[i] > 0;
    }
  }
  if (solver_is_capped(s)) {
    s->dual.z += log(s->dual.zeta);
    lift_caps(s);
  }
  s->dual.zeta = 1;
}

double solver_absorb(solver *s, int total) {
  solver_fold_scalings(s);
  const double sum =
      solver_build_kernel(s, s->dual.potential[ROWS], s->dual.potential[COLUMNS], s->dual.z, total);
  solver_reset_scalings(s);
  return sum;
}

/* Entries of the kernel that underflowed count for nothing within this bound: exp(100) of what is
 * below 1e-290 in f64, exp(60) of what is below 1e-38 in f32. */
double solver_scaling_bound(const solver *s) { return s->kernel.element == 8 ? 50 : 30; }
