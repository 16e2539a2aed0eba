#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"

pk_status pk_layernorm_forward(pk_type type, idx rows, idx columns, double eps, const void *x,
                               const void *gamma, const void *beta, void *y, void *mean,
                               void *rstd) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (rows < 0 || columns < 1) return PK_BAD_SHAPE;
#pragma omp parallel for schedule(static) if (rows * columns > PK_SERIAL)
  for (idx b = 0; b < PK_BLOCKS; b++)
    k->layernorm_forward(PK_LO(b, rows), PK_HI(b, rows), columns, eps, x, gamma, 0, beta, y, mean,
                         rstd);
  return PK_OK;
}

/* Adds the sums of `blocks` blocks [columns] to add_total (NULL: nothing), in order. */
static void add_blocks(const pk_kernels *k, pk_type type, idx blocks, idx columns,
                       const void *partial, void *add_total) {
  for (idx b = 0; b < blocks && add_total; b++)
    k->axpby(columns, 1, pk_at(partial, type, b * columns), 1, add_total);
}

/* Block `block` of partial sums, set to zero. */
static void *zero_block(void *partial, pk_type type, idx block, idx columns) {
  return memset(pk_at(partial, type, block * columns), 0, (size_t)(columns * pk_size(type)));
}

ptrdiff_t pk_norm_backward_scratch(idx groups, idx rows, idx columns) {
  return groups < 1 || rows < 1 ? 0 : 2 * groups * pk_row_blocks(groups, rows) * columns;
}

/* gamma and beta, and their gradients, of group g of `rows` rows are ld elements from those of the
 * next; the factor is gamma + plus. */
static void layernorm_backward(const pk_kernels *k, pk_type type, idx groups, idx rows, idx columns,
                               idx ld, const void *dy, const void *x, int relu, const void *gamma,
                               double plus, const void *mean, const void *rstd, const void *add,
                               void *dx, void *add_dgamma, void *add_dbeta, void *scratch) {
  if (groups < 1 || rows < 1) return;
  const idx blocks = pk_row_blocks(groups, rows);
  void *pg = scratch, *pb = pk_at(scratch, type, groups * blocks * columns);
#pragma omp parallel for schedule(static) if (groups * rows * columns > PK_SERIAL)
  for (idx w = 0; w < groups * blocks; w++) {
    const idx g = w / blocks, b = w % blocks;
    k->layernorm_backward(g * rows + rows * b / blocks, g * rows + rows * (b + 1) / blocks, columns,
                          dy, x, relu, gamma ? pk_at(gamma, type, g * ld) : NULL, plus, mean, rstd,
                          add, dx, add_dgamma ? zero_block(pg, type, w, columns) : NULL,
                          add_dbeta ? zero_block(pb, type, w, columns) : NULL);
  }
  for (idx g = 0; g < groups; g++) {
    add_blocks(k, type, blocks, columns, pk_at(pg, type, g * blocks * columns),
               add_dgamma ? pk_at(add_dgamma, type, g * ld) : NULL);
    add_blocks(k, type, blocks, columns, pk_at(pb, type, g * blocks * columns),
               add_dbeta ? pk_at(add_dbeta, type, g * ld) : NULL);
  }
}

pk_status pk_layernorm_backward(pk_type type, idx rows, idx columns, const void *dy, const void *x,
                                int relu, const void *gamma, const void *mean, const void *rstd,
                                const void *add, void *dx, void *add_dgamma, void *add_dbeta,
                                void *scratch) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (rows < 0 || columns < 1) return PK_BAD_SHAPE;
  layernorm_backward(k, type, 1, rows, columns, 0, dy, x, relu, gamma, 0, mean, rstd, add, dx,
                     add_dgamma, add_dbeta, scratch);
  return PK_OK;
}

pk_status pk_adaln_forward(pk_type type, idx groups, idx tokens, idx columns, idx ld, double eps,
                           const void *x, const void *scale, const void *shift, void *y, void *mean,
                           void *rstd) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (groups < 0 || tokens < 0 || columns < 1) return PK_BAD_SHAPE;
#pragma omp parallel for schedule(static) if (groups * tokens * columns > PK_SERIAL)
  for (idx r = 0; r < groups * tokens; r++)
    k->layernorm_forward(r, r + 1, columns, eps, x, pk_at(scale, type, r / tokens * ld), 1,
                         pk_at(shift, type, r / tokens * ld), y, mean, rstd);
  return PK_OK;
}

pk_status pk_adaln_backward(pk_type type, idx groups, idx tokens, idx columns, idx ld,
                            const void *dy, const void *x, const void *scale, const void *mean,
                            const void *rstd, const void *add, void *dx, void *add_dscale,
                            void *add_dshift, void *scratch) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (groups < 0 || tokens < 0 || columns < 1) return PK_BAD_SHAPE;
  layernorm_backward(k, type, groups, tokens, columns, ld, dy, x, 0, scale, 1, mean, rstd, add, dx,
                     add_dscale, add_dshift, scratch);
  return PK_OK;
}

pk_status pk_rmsnorm_forward(pk_type type, idx rows, idx columns, double eps, const void *x,
                             const void *gamma, void *y, void *rstd) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (rows < 0 || columns < 1) return PK_BAD_SHAPE;
#pragma omp parallel for schedule(static) if (rows * columns > PK_SERIAL)
  for (idx b = 0; b < PK_BLOCKS; b++)
    k->rmsnorm_forward(PK_LO(b, rows), PK_HI(b, rows), columns, eps, x, columns, gamma, y, columns,
                       rstd);
  return PK_OK;
}

pk_status pk_rmsnorm_backward(pk_type type, idx rows, idx columns, const void *dy, const void *x,
                              const void *gamma, const void *rstd, const void *add, void *dx,
                              void *add_dgamma, void *scratch) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (rows < 0 || columns < 1) return PK_BAD_SHAPE;
  if (rows == 0) return PK_OK;
  const idx blocks = pk_row_blocks(1, rows);
#pragma omp parallel for schedule(static) if (rows * columns > PK_SERIAL)
  for (idx b = 0; b < blocks; b++)
    k->rmsnorm_backward(rows * b / blocks, rows * (b + 1) / blocks, columns, dy, columns, x,
                        columns, gamma, rstd, add, dx,
                        add_dgamma ? zero_block(scratch, type, b, columns) : NULL);
  add_blocks(k, type, blocks, columns, scratch, add_dgamma);
  return PK_OK;
}

static int head_norm_bad(const pk_head_norm_shape *s) {
  return s->batch < 0 || s->tokens < 0 || s->heads < 1 || s->dim < 1 || s->rotated < 0 ||
         s->rotated > s->tokens || (s->rotated && s->dim % 2);
}

pk_status pk_head_norm_forward(pk_type type, const pk_head_norm_shape *s, const void *x,
                               const void *gamma, const void *cosines, const void *sines, void *y,
                               void *rstd) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (head_norm_bad(s)) return PK_BAD_SHAPE;
#pragma omp parallel for schedule(static) if (s->batch * s->tokens * s->heads * s->dim > PK_SERIAL)
  for (idx r = 0; r < s->batch * s->tokens; r++) {
    const idx b = r / s->tokens, t = r % s->tokens, angles = t * (s->dim / 2);
    void *row = pk_at(y, type, b * s->bsy + t * s->ldy);
    k->rmsnorm_forward(0, s->heads, s->dim, s->eps, pk_at(x, type, b * s->bsx + t * s->ldx), s->ldx,
                       gamma, row, s->ldy, pk_at(rstd, type, r * s->heads));
    if (t < s->rotated)
      k->rope_row(s->heads, s->dim, pk_at(cosines, type, angles), pk_at(sines, type, angles), 1,
                  row, row, 0);
  }
  return PK_OK;
}

pk_status pk_head_norm_backward(pk_type type, const pk_head_norm_shape *s, const void *dy,
                                const void *x, const void *gamma, const void *cosines,
                                const void *sines, const void *rstd, void *dx, void *add_dgamma,
                                void *scratch) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (head_norm_bad(s)) return PK_BAD_SHAPE;
  const idx rows = s->batch * s->tokens, blocks = rows ? pk_row_blocks(1, rows) : 0,
            width = s->heads * s->dim;
#pragma omp parallel for schedule(static) if (rows * width > PK_SERIAL)
  for (idx i = 0; i < blocks; i++) {
    void *sums = add_dgamma ? zero_block(scratch, type, i, s->dim) : NULL;
    for (idx r = rows * i / blocks; r < rows * (i + 1) / blocks; r++) {
      const idx b = r / s->tokens, t = r % s->tokens, angles = t * (s->dim / 2);
      const void *g = pk_at(dy, type, b * s->bsy + t * s->ldy);
      void *row = pk_at(dx, type, b * s->bsx + t * s->ldx);
      if (t < s->rotated) {
        k->rope_row(s->heads, s->dim, pk_at(cosines, type, angles), pk_at(sines, type, angles), -1,
                    g, row, s->ldy);
        g = row;
      }
      k->rmsnorm_backward(0, s->heads, s->dim, g, g == row ? 0 : s->ldy,
                          pk_at(x, type, b * s->bsx + t * s->ldx), s->ldx, gamma,
                          pk_at(rstd, type, r * s->heads), NULL, row, sums);
    }
  }
  add_blocks(k, type, blocks, s->dim, scratch, add_dgamma);
  return PK_OK;
}

static double affine(const void *p, pk_type type, idx i, double absent) {
  return p ? pk_read(p, type, i) : absent;
}

/* Scratch holds, per (sample, channel), two doubles. */
/* Group norm: a row is a channel of one frame, [batch, channels, frames]; its group is a number in
 * [batch, groups, frames]. */
static idx gn_rows(const pk_groupnorm_shape *s) { return s->batch * s->channels * s->frames; }

static idx gn_groups(const pk_groupnorm_shape *s) { return s->batch * s->groups * s->frames; }

static idx gn_channel(const pk_groupnorm_shape *s, idx row) {
  return row / s->frames % s->channels;
}

static idx gn_group(const pk_groupnorm_shape *s, idx row) {
  return row / s->frames / (s->channels / s->groups) * s->frames + row % s->frames;
}

/* Row of channel i of a group. */
static idx gn_row(const pk_groupnorm_shape *s, idx group, idx i) {
  const idx per = s->channels / s->groups;
  return (group / s->frames * per + i) * s->frames + group % s->frames;
}

ptrdiff_t pk_groupnorm_scratch(const pk_groupnorm_shape *s) { return 4 * gn_rows(s); }

static int gn_bad(const pk_groupnorm_shape *s) {
  return s->batch < 0 || s->channels < 1 || s->groups < 1 || s->channels % s->groups ||
         s->frames < 1 || s->spatial < 1;
}

pk_status pk_groupnorm_statistics(pk_type type, const pk_groupnorm_shape *s, const void *x,
                                  void *mean, void *rstd, void *scratch) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (gn_bad(s)) return PK_BAD_SHAPE;
  const idx rows = gn_rows(s), per = s->channels / s->groups;
  double *sums = scratch;
#pragma omp parallel for schedule(static) if (rows * s->spatial > PK_SERIAL)
  /* shifted by the group's first value: no cancellation when the mean is large */
  for (idx r = 0; r < rows; r++) {
    sums[2 * r] = sums[2 * r + 1] = 0;
    k->moments(s->spatial, pk_at(x, type, r * s->spatial),
               pk_read(x, type, gn_row(s, gn_group(s, r), 0) * s->spatial), sums + 2 * r,
               sums + 2 * r + 1);
  }
  for (idx g = 0; g < gn_groups(s); g++) {
    double a = 0, q = 0, n = (double)(per * s->spatial),
           shift = pk_read(x, type, gn_row(s, g, 0) * s->spatial);
    if (type == PK_F32) shift = (double)(float)shift;
    for (idx c = 0; c < per; c++)
      a += sums[2 * gn_row(s, g, c)], q += sums[2 * gn_row(s, g, c) + 1];
    double var = q / n - a / n * (a / n);
    pk_write(mean, type, g, shift + a / n);
    pk_write(rstd, type, g, 1 / sqrt((var > 0 ? var : 0) + s->eps));
  }
  return PK_OK;
}

pk_status pk_groupnorm_table(pk_type type, const pk_groupnorm_shape *s, const void *gamma,
                             const void *beta, const void *mean, const void *rstd, void *norm) {
  if (!pk_select(type)) return PK_BAD_TYPE;
  if (gn_bad(s)) return PK_BAD_SHAPE;
  for (idx r = 0; r < gn_rows(s); r++) {
    const idx b = r / (s->channels * s->frames), c = gn_channel(s, r), g = gn_group(s, r),
              to = 3 * (b * s->frames + r % s->frames) * s->channels + c;
    pk_write(norm, type, to, pk_read(mean, type, g));
    pk_write(norm, type, to + s->channels, pk_read(rstd, type, g) * affine(gamma, type, c, 1));
    pk_write(norm, type, to + 2 * s->channels, affine(beta, type, c, 0));
  }
  return PK_OK;
}

pk_status pk_groupnorm_apply(pk_type type, const pk_groupnorm_shape *s, const void *x,
                             const void *gamma, const void *beta, const void *mean,
                             const void *rstd, void *y) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (gn_bad(s)) return PK_BAD_SHAPE;
  const idx rows = gn_rows(s);
#pragma omp parallel for schedule(static) if (rows * s->spatial > PK_SERIAL)
  for (idx r = 0; r < rows; r++) {
    const idx c = gn_channel(s, r), g = gn_group(s, r);
    k->groupnorm_channel(s->spatial, s->silu, pk_read(mean, type, g), pk_read(rstd, type, g),
                         affine(gamma, type, c, 1), affine(beta, type, c, 0),
                         pk_at(x, type, r * s->spatial), pk_at(y, type, r * s->spatial));
  }
  return PK_OK;
}

pk_status pk_groupnorm_forward(pk_type type, const pk_groupnorm_shape *s, const void *x,
                               const void *gamma, const void *beta, void *y, void *mean, void *rstd,
                               void *scratch) {
  const pk_status status = pk_groupnorm_statistics(type, s, x, mean, rstd, scratch);
  return status != PK_OK ? status : pk_groupnorm_apply(type, s, x, gamma, beta, mean, rstd, y);
}

/* What backward knows of a row of x and of its group. */
typedef struct {
  const pk_kernels *k;
  pk_type type;
  const pk_groupnorm_shape *s;
  const void *dy, *x, *gamma, *beta, *mean, *rstd, *add;
  void *dx;
  const double *sums; /* of each row: of the gradient of the norm's own output g, and of g n */
  idx spatial;        /* over how many values of a row these sums go */
} gn_backward;

/* The sums of a row; its g goes to dx. */
static void gn_row_sums(const gn_backward *w, idx r, double *sums) {
  const idx c = gn_channel(w->s, r), g = gn_group(w->s, r), at = r * w->s->spatial;
  sums[2 * r] = sums[2 * r + 1] = 0;
  w->k->groupnorm_channel_sums(
      w->s->spatial, w->s->silu, pk_read(w->mean, w->type, g), pk_read(w->rstd, w->type, g),
      affine(w->gamma, w->type, c, 1), affine(w->beta, w->type, c, 0), pk_at(w->dy, w->type, at),
      pk_at(w->x, w->type, at), pk_at(w->dx, w->type, at), sums + 2 * r, sums + 2 * r + 1);
}

static void gn_row_backward(const gn_backward *w, idx r) {
  const idx per = w->s->channels / w->s->groups, g = gn_group(w->s, r), at = r * w->s->spatial;
  double m1 = 0, m2 = 0, n = (double)(per * w->spatial);
  for (idx i = 0; i < per; i++) {
    const idx o = gn_row(w->s, g, i);
    const double factor = affine(w->gamma, w->type, gn_channel(w->s, o), 1);
    m1 += factor * w->sums[2 * o], m2 += factor * w->sums[2 * o + 1];
  }
  w->k->groupnorm_channel_backward(
      w->s->spatial, pk_read(w->mean, w->type, g), pk_read(w->rstd, w->type, g),
      affine(w->gamma, w->type, gn_channel(w->s, r), 1), m1 / n, m2 / n, pk_at(w->x, w->type, at),
      w->add ? pk_at(w->add, w->type, at) : NULL, pk_at(w->dx, w->type, at));
}

pk_status pk_groupnorm_backward(pk_type type, const pk_groupnorm_shape *s, const void *dy,
                                const void *x, const void *gamma, const void *beta,
                                const void *mean, const void *rstd, const void *add, void *dx,
                                void *add_dgamma, void *add_dbeta, void *scratch) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (gn_bad(s)) return PK_BAD_SHAPE;
  const idx rows = gn_rows(s), groups = gn_groups(s), per = s->channels / s->groups;
  double *sums = scratch;
  const gn_backward w = {k, type, s, dy, x, gamma, beta, mean, rstd, add, dx, sums, s->spatial};
#pragma omp parallel if (rows * s->spatial > PK_SERIAL)
  {
    /* a group at a time stays near between its two passes */
    if (groups >= 2 * omp_get_num_threads()) {
#pragma omp for schedule(static)
      for (idx g = 0; g < groups; g++) {
        for (idx i = 0; i < per; i++) gn_row_sums(&w, gn_row(s, g, i), sums);
        for (idx i = 0; i < per; i++) gn_row_backward(&w, gn_row(s, g, i));
      }
    } else {
#pragma omp for schedule(static)
      for (idx r = 0; r < rows; r++) gn_row_sums(&w, r, sums);
#pragma omp for schedule(static)
      for (idx r = 0; r < rows; r++) gn_row_backward(&w, r);
    }
  }
  for (idx c = 0; c < s->channels; c++) {
    double a = 0, b = 0;
    for (idx i = 0; i < s->batch * s->frames; i++) {
      const idx r = (i / s->frames * s->channels + c) * s->frames + i % s->frames;
      b += sums[2 * r], a += sums[2 * r + 1];
    }
    if (add_dgamma) pk_write(add_dgamma, type, c, pk_read(add_dgamma, type, c) + a);
    if (add_dbeta) pk_write(add_dbeta, type, c, pk_read(add_dbeta, type, c) + b);
  }
  return PK_OK;
}

pk_status pk_groupnorm_backward_sums(pk_type type, const pk_groupnorm_shape *s, const void *dy,
                                     const void *x, const void *gamma, const void *beta,
                                     const void *mean, const void *rstd, void *g, double *sums) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (gn_bad(s)) return PK_BAD_SHAPE;
  const idx rows = gn_rows(s);
  const gn_backward w = {k, type, s, dy, x, gamma, beta, mean, rstd, NULL, g, sums, s->spatial};
#pragma omp parallel for schedule(static) if (rows * s->spatial > PK_SERIAL)
  for (idx r = 0; r < rows; r++) gn_row_sums(&w, r, sums);
  return PK_OK;
}

pk_status pk_groupnorm_backward_finish(pk_type type, const pk_groupnorm_shape *s, const void *x,
                                       const void *gamma, const void *mean, const void *rstd,
                                       const double *sums, ptrdiff_t spatial, const void *add,
                                       void *dx) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (gn_bad(s) || spatial < s->spatial) return PK_BAD_SHAPE;
  const idx rows = gn_rows(s);
  const gn_backward w = {k, type, s, NULL, x, gamma, NULL, mean, rstd, add, dx, sums, spatial};
#pragma omp parallel for schedule(static) if (rows * s->spatial > PK_SERIAL)
  for (idx r = 0; r < rows; r++) gn_row_backward(&w, r);
  return PK_OK;
}
