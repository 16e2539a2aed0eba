#include "solver.h"

/* f32 tiles are exponentials to base 2. */
static double unit(const solver *s) { return s->size == 8 ? 1 : 1.44269504088896340736; }

static void *take(char *base, idx *at, idx bytes) {
  char *p = base ? base + *at : NULL;
  *at += (bytes + 63) / 64 * 64;
  return p;
}

idx solver_layout(solver *s, const pk_sinkhorn_problem *p, pk_type type, idx tiles, char *scratch) {
  const idx size = pk_size(type), panel = 2 * 64 / size;
  s->p = p, s->w = select_vector_kernels(type), s->n = p->n, s->m = p->m, s->size = size,
  s->given = pk_size(p->type), s->points = p->cost != PK_COST_MATRIX;
  s->rows = (p->n + 7) / 8 * 8, s->ld = (p->m + panel - 1) / panel * panel;
  /* rows a power of two apart would share cache sets */
  if (!s->points && s->ld * size % 1024 == 0) s->ld += panel;
  const idx groups = s->rows / 8;
  /* 64 rows a block up to 16 blocks, then 128: as many blocks as a large machine has processors,
   * while their column sums stay small */
  const idx wanted = groups / 8 < SOLVER_BLOCKS / 4    ? groups / 8
                     : groups / 16 < SOLVER_BLOCKS / 4 ? SOLVER_BLOCKS / 4
                                                       : groups / 16;
  const idx room = SOLVER_SUMS / s->ld, most = room < SOLVER_BLOCKS / 4 ? SOLVER_BLOCKS / 4
                                               : room < SOLVER_BLOCKS   ? room
                                                                        : SOLVER_BLOCKS;
  s->blocks = wanted < 1 ? 1 : wanted < most ? wanted : most;
  s->chunks = (s->ld + SOLVER_CHUNK - 1) / SOLVER_CHUNK;
  s->floor = size == 8 ? 1e-15 : 3e-7;
  s->loss[0] = -1, s->passes = 0, s->stop = 0, s->damping = 0, s->zeta = 1, s->z = 0;
  idx at = 0;
  char *base = scratch ? (char *)(((uintptr_t)scratch + 63) / 64 * 64) : NULL;
  double **of_rows[] = {&s->a, &s->alpha, &s->pa, &s->qa, &s->ra, &s->da, &s->u, &s->ta, &s->row};
  double **of_columns[] = {&s->b,  &s->beta, &s->pb,  &s->qb,  &s->rb, &s->db,
                           &s->y_, &s->res,  &s->dir, &s->out, &s->tb};
  for (size_t i = 0; i < sizeof of_rows / sizeof *of_rows; i++)
    *of_rows[i] = take(base, &at, 8 * (s->rows + 8));
  for (size_t i = 0; i < sizeof of_columns / sizeof *of_columns; i++)
    *of_columns[i] = take(base, &at, 8 * (s->ld + 8));
  s->beta_r = take(base, &at, s->ld * size), s->vector_r = take(base, &at, s->ld * size),
  s->column = take(base, &at, s->ld * size);
  s->acc = take(base, &at, s->blocks * s->ld * 8), s->top = take(base, &at, s->blocks * s->ld * 8),
  s->part = take(base, &at, s->blocks * s->ld * size);
  s->row_sums = take(base, &at, s->blocks * (idx)sizeof(update_sums)),
  s->column_sums = take(base, &at, s->chunks * (idx)sizeof(update_sums));
  s->groups = take(base, &at, 2 * (p->n + p->m) * (idx)sizeof(idx));
  s->k = NULL, s->shape = (packed_points){.d = p->d,
                                          .ld = s->ld,
                                          .root = p->cost == PK_COST_EUCLIDEAN,
                                          .fused = p->type == PK_F32 && size == 8};
  if (s->points) {
    s->constant_a = take(base, &at, 8 * (s->rows + 8)), s->constant_b = take(base, &at, 8 * s->ld),
    s->centre = take(base, &at, 8 * p->d);
    s->shape.x = take(base, &at, s->rows * p->d * size),
    s->shape.y = take(base, &at, s->ld * p->d * size);
  } else {
    s->k = take(base, &at, s->n * s->ld * size);
  }
  s->tile_bytes = SOLVER_ROWS * s->ld * size;
  /* no more threads than blocks make tiles */
  s->tile_count = tiles;
  s->tiles =
      take(base, &at,
           s->points ? tiles * (pk_threads() < s->blocks ? pk_threads() : s->blocks) * s->tile_bytes
                     : 0);
  return at + 64;
}

int solver_bind(solver *s, const void *x, const void *y, const double *mu, const double *nu) {
  s->x = x, s->y = y, s->mu = mu, s->nu = nu;
  memset(s->part, 0, (size_t)(s->blocks * s->ld * s->size)); /* and zero again after every fold */
  const idx blocks = s->blocks;
  if (!s->points) {
    double range[2] = {INFINITY, -INFINITY}, *ranges = s->acc; /* [blocks, 2] */
#pragma omp parallel for schedule(static) if (solver_parallel(s))
    for (idx q = 0; q < blocks; q++) {
      ranges[2 * q] = INFINITY, ranges[2 * q + 1] = -INFINITY;
      for (idx i = solver_block(s, q); i < solver_block(s, q + 1); i++)
        s->w->cost_range(s->m, (const char *)x + i * s->m * s->size, ranges + 2 * q);
    }
    for (idx q = 0; q < blocks; q++)
      range[0] = fmin(range[0], ranges[2 * q]), range[1] = fmax(range[1], ranges[2 * q + 1]);
    s->range = range[1] - range[0], s->constant_a = NULL, s->factor = range[0]; /* the least cost */
    return 1;
  }
  return solver_bind_points(s);
}

idx solver_widen(solver *s, idx tiles, char *scratch) {
  double loss[3];
  memcpy(loss, s->loss, sizeof loss);
  const idx bytes = solver_layout(s, s->p, PK_F64, tiles, scratch);
  memcpy(s->loss, loss, sizeof loss);
  solver_bind(s, s->x, s->y, s->mu, s->nu);
  return bytes;
}

idx solver_open(solver *s, const pk_sinkhorn_problem *p, idx tiles, char *scratch, const void *x,
                const void *y, const double *mu, const double *nu) {
  const idx bytes = solver_layout(s, p, p->type, tiles, scratch);
  return solver_bind(s, x, y, mu, nu) ? bytes : solver_widen(s, tiles, scratch);
}

void solver_level(solver *s, double eps) {
  const pk_sinkhorn_problem *p = s->p;
  s->eps = eps;
  s->kappa_a = p->side_a == PK_SIDE_RELAXED ? eps / p->rho_a : 0,
  s->kappa_b = p->side_b == PK_SIDE_RELAXED ? eps / p->rho_b : 0;
  s->phi_a = 1 / (1 + s->kappa_a), s->phi_b = 1 / (1 + s->kappa_b);
}

double solver_build(solver *s, const double *a, const double *b, double z, int total) {
  const double inv = 1 / s->eps;
  const idx blocks = s->blocks;
  double *sums = s->u;
  if (!s->points) {
#pragma omp parallel for schedule(static) if (solver_parallel(s))
    for (idx q = 0; q < blocks; q++)
      for (idx i = solver_block(s, q); i < solver_block(s, q + 1); i++)
        sums[i] = s->w->kernel_row(s->m, s->ld, (const char *)s->x + i * s->m * s->size, inv,
                                   fmax(a[i] + z, PK_LOG_ZERO), b, s->k + i * s->ld * s->size);
  } else {
    /* -1e30 stands for a weight of 0: finite in f32, and far below what exp keeps */
    for (idx i = 0; i < s->rows; i++)
      s->row[i] = i < s->n ? unit(s) * fmax(a[i] + z - s->constant_a[i] * inv, -1e30) : -1e30;
    for (idx j = 0; j < s->ld; j++)
      s->res[j] = j < s->m ? unit(s) * fmax(b[j] - s->constant_b[j] * inv, -1e30) : -1e30;
    s->w->convert(s->ld, s->res, s->column);
    if (!total) return 0;
    solver_sums(s, sums, NULL);
  }
  double sum = 0;
  for (idx i = 0; i < s->n; i++) sum += sums[i];
  return sum;
}

const void *solver_kernel_rows(const solver *s, idx i, idx count, char *tile) {
  if (!s->points) return s->k + i * s->ld * s->size;
  s->w->point_tile(&s->shape, i, count, 1, -s->factor / s->eps * unit(s), s->row + i, s->column,
                   tile);
  return tile;
}

const void *solver_cost_rows(const solver *s, idx i, idx count, char *tile, idx *stride) {
  *stride = s->points ? s->ld : s->m;
  if (!s->points) return (const char *)s->x + i * s->m * s->size;
  /* the columns' constant parts in the element type lie in vector_r (solver_cost_columns) */
  s->w->point_tile(&s->shape, i, count, 0, s->factor, s->constant_a + i, s->vector_r, tile);
  return tile;
}

idx solver_pairs(idx blocks, idx team, idx thread, block_pair *pairs) {
  idx count = 0;
  for (idx span = 1; span < blocks; span *= 2)
    for (idx q = 0; q + span < blocks; q += 2 * span) {
      const idx end = q + 2 * span < blocks ? q + 2 * span : blocks,
                owner = ((q + 1) * team - 1) / blocks, alone = owner == (end * team - 1) / blocks;
      if (thread < 0 ? !alone : alone && owner == thread)
        pairs[count++] = (block_pair){q, q + span};
    }
  return count;
}

void solver_columns(const vector_kernels *w, const side_update *columns, idx j0, idx j1, idx ld,
                    const block_pair *left, idx count, double *acc, double *out, void *beta,
                    update_sums *sums) {
  for (idx k = 0; k < count - 1; k++) w->add_blocks(j0, j1, ld, left[k], acc);
  w->update_columns(columns, j0, j1, ld, count ? left[count - 1] : (block_pair){0, 0}, acc, out,
                    beta, sums);
}

void solver_pass(solver *s, const side_update *rows, const side_update *columns, const char *beta,
                 update_sums *r, update_sums *c) {
  const idx blocks = s->blocks, ld = s->ld, chunks = s->chunks, step = solver_step(s);
#pragma omp parallel if (solver_parallel(s))
  {
    /* of which `team` have blocks */
    const idx threads = omp_get_num_threads(), team = threads < blocks ? threads : blocks,
              thread = omp_get_thread_num();
    for (idx q = blocks * thread / team; thread < team && q < blocks * (thread + 1) / team; q++) {
      double *acc = s->acc + q * ld;
      char *part = s->part + q * ld * s->size;
      update_sums sums = NO_SUMS;
      const idx start = solver_block(s, q), end = solver_block(s, q + 1);
      for (idx i = start; i < end; i += step) {
        const idx count = end - i < step ? end - i : step;
        s->w->pass(rows, i, count, ld,
                   solver_kernel_rows(s, i, count, s->points ? solver_tile(s, 0) : NULL), beta,
                   part, &sums);
        s->w->accumulate(ld, i == start, part, acc);
      }
      s->row_sums[q] = sums;
    }
    block_pair pairs[SOLVER_BLOCKS];
    const idx own = solver_pairs(blocks, team, thread, pairs);
    for (idx k = 0; k < own; k++) s->w->add_blocks(0, ld, ld, pairs[k], s->acc);
    const idx left = solver_pairs(blocks, team, -1, pairs);
#pragma omp barrier
#pragma omp for schedule(static) nowait
    for (idx h = 0; h < chunks; h++) {
      update_sums sums = NO_SUMS;
      const idx j0 = h * SOLVER_CHUNK, j1 = j0 + SOLVER_CHUNK < ld ? j0 + SOLVER_CHUNK : ld;
      solver_columns(s->w, columns, j0, j1, ld, pairs, left, s->acc, s->out, s->beta_r, &sums);
      s->column_sums[h] = sums;
    }
  }
  *r = *c = NO_SUMS;
  for (int side = 0; side < 2; side++) {
    update_sums *t = side ? c : r;
    for (idx q = 0; q < (side ? chunks : blocks); q++) {
      const update_sums *f = (side ? s->column_sums : s->row_sums) + q;
      t->change += f->change, t->before += f->before, t->after += f->after, t->bad += f->bad,
          t->low = fmin(t->low, f->low), t->high = fmax(t->high, f->high);
    }
  }
  s->passes++;
}

void solver_product(solver *s, const double *p, const double *q, const double *y, double *scaling) {
  const side_update rows = {.rule = UPDATE_LINEAR, .zeta = 1, .p = p, .q = q, .scaling = scaling},
                    columns = {.rule = UPDATE_LINEAR, .zeta = 1};
  update_sums r, c;
  s->w->convert(s->ld, y, s->vector_r);
  solver_pass(s, &rows, &columns, s->vector_r, &r, &c);
}

void solver_sums(solver *s, double *rows, double *columns) {
  /* rows: K 1; columns: K' 1 as the product with x = 0 y + 1 */
  for (idx i = 0; i < s->rows; i++) s->pa[i] = 0, s->qa[i] = 1;
  for (idx j = 0; j < s->ld; j++) s->res[j] = 1;
  solver_product(s, s->pa, s->qa, s->res, rows);
  s->passes--;
  if (!columns) return;
  for (idx i = 0; i < s->rows; i++) s->pa[i] = 1;
  for (idx j = 0; j < s->ld; j++) s->res[j] = 0;
  solver_product(s, s->pa, s->qa, s->res, s->u);
  s->passes--;
  memcpy(columns, s->out, (size_t)s->ld * 8);
}

double solver_dual(const solver *s, const double *a, const double *b, double z, double total) {
  double d = -total + (solver_capped(s) ? s->p->mass * z : 0);
  for (int side = 0; side < 2; side++) {
    const double kappa = side ? s->kappa_b : s->kappa_a, *w = side ? s->nu : s->mu,
                 *t = side ? b : a;
    for (idx i = 0; i < (side ? s->m : s->n); i++)
      if (w[i] > 0) d += kappa > 0 ? w[i] * -expm1(-kappa * t[i]) / kappa : w[i] * t[i];
  }
  return d;
}

void solver_plan(solver *s, int anew, int quick, void *plan) {
  const idx blocks = s->blocks, ld = s->ld, m = s->m, size = s->size, step = solver_step(s);
  const double inv = 1 / s->eps;
  anew |= s->points;
  if (s->points) s->w->convert(ld, s->constant_b, s->vector_r);
#pragma omp parallel for schedule(static) if (solver_parallel(s))
  for (idx q = 0; q < blocks; q++) {
    double *acc = s->acc + q * ld;
    char *part = s->part + q * ld * size;
    if (anew) memset(acc, 0, (size_t)ld * 8);
    const idx start = solver_block(s, q), end = solver_block(s, q + 1);
    for (idx i0 = start; i0 < end; i0 += step) {
      const idx count = end - i0 < step ? end - i0 : step;
      idx stride;
      const char *c = solver_cost_rows(s, i0, count, s->points ? solver_tile(s, 0) : NULL, &stride);
      for (idx i = i0; i < i0 + count; i++, c += stride * size) {
        double sums[2] = {0, 0};
        /* a row of the plan in f64, in place of part sums */
        const int narrowed = plan && size != s->given;
        char *out = narrowed ? part : plan ? (char *)plan + i * m * size : NULL;
        const double f = fmax(s->a[i] + s->z, PK_LOG_ZERO);
        if (anew && quick)
          s->w->approximate_plan_row(ld, c, inv, f, s->b, acc, sums);
        else if (anew)
          s->w->plan_row(m, c, inv, f, s->b, out, acc, sums);
        else
          s->w->scaled_plan_row(m, s->k + i * ld * size, c, s->alpha[i] * s->zeta, s->beta_r, out,
                                part, sums);
        for (idx j = 0; narrowed && j < m; j++)
          ((float *)plan)[i * m + j] = (float)((double *)part)[j];
        s->ta[i] = sums[0], s->u[i] = sums[1];
      }
      if (!anew) s->w->accumulate(ld, i0 == start, part, acc);
    }
    if (plan && size != s->given) memset(part, 0, (size_t)(ld * size));
  }
  for (idx j = 0; j < m; j++) {
    s->tb[j] = 0;
    for (idx q = 0; q < blocks; q++) s->tb[j] += s->acc[q * ld + j];
  }
}

void solver_certificate(solver *s, pk_sinkhorn_result *r) {
  const double *costs = s->u, *rows = s->ta, *columns = s->tb;
  /* sum P (log P - 1) = sum P (a + b + z - C / eps) - sum P */
  r->mass = r->cost = r->entropy = 0;
  for (idx i = 0; i < s->n; i++) {
    r->mass += rows[i], r->cost += costs[i];
    if (s->mu[i] > 0) r->entropy += rows[i] * (s->a[i] + s->z);
  }
  for (idx j = 0; j < s->m; j++)
    if (s->nu[j] > 0) r->entropy += columns[j] * s->b[j];
  r->entropy -= r->cost / s->eps + r->mass;
  r->dual = s->eps * solver_dual(s, s->a, s->b, s->z, r->mass);
  r->penalty_a = r->penalty_b = r->error_linf = 0;
  double l1[2] = {0, 0};
  for (int side = 0; side < 2; side++) {
    const idx count = side ? s->m : s->n;
    const double *sums = side ? columns : rows, *weights = side ? s->nu : s->mu,
                 *t = side ? s->b : s->a;
    const double kappa = side ? s->kappa_b : s->kappa_a, rho = side ? s->p->rho_b : s->p->rho_a;
    const pk_side kind = side ? s->p->side_b : s->p->side_a;
    double kl = 0;
    for (idx i = 0; i < count; i++) {
      const double q = weights[i], p = sums[i];
      double e = kind == PK_SIDE_CAPPED
                     ? fmax(p - q, 0)
                     : fabs(p - (q > 0 && kind == PK_SIDE_RELAXED ? q * exp(-kappa * t[i]) : q));
      l1[side] += e, r->error_linf = fmax(r->error_linf, e);
      kl += q - p + (p > 0 ? p * log(p / q) : 0);
    }
    if (kind == PK_SIDE_RELAXED) *(side ? &r->penalty_b : &r->penalty_a) = rho * kl;
  }
  r->error_l1 = fmax(l1[0], l1[1]);
  if (solver_capped(s)) {
    const double e = fabs(r->mass - s->p->mass);
    r->error_l1 = fmax(r->error_l1, e), r->error_linf = fmax(r->error_linf, e);
  }
  r->z = s->z;
}
