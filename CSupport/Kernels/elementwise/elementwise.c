#include "../isa/kernels.h"

#define CHUNK 4096
#define CHUNKS(n) \
  _Pragma("omp parallel for schedule(static) if (n > 2 * PK_SERIAL)") for (idx j = 0; j < n; \
                                                                           j += CHUNK)
#define PART(n) (n - j < CHUNK ? n - j : CHUNK)
#define SELECT(type) \
  const pk_kernels *k = pk_select(type); \
  if (!k) return PK_BAD_TYPE

pk_status pk_axpby(pk_type type, idx n, double alpha, const void *x, double beta, void *y) {
  SELECT(type);
  CHUNKS(n) k->axpby(PART(n), alpha, pk_at(x, type, j), beta, pk_at(y, type, j));
  return PK_OK;
}

pk_status pk_multiply(pk_type type, idx n, const void *x, const void *y, void *z, int accumulate) {
  SELECT(type);
  CHUNKS(n)
  k->multiply(PART(n), pk_at(x, type, j), pk_at(y, type, j), pk_at(z, type, j), accumulate);
  return PK_OK;
}

pk_status pk_fill(pk_type type, idx n, double value, void *y) {
  if (type != PK_F32 && type != PK_F64) return PK_BAD_TYPE;
  CHUNKS(n) {
    const idx e = j + PART(n);
    if (type == PK_F32)
      for (idx i = j; i < e; i++) ((float *)y)[i] = (float)value;
    else
      for (idx i = j; i < e; i++) ((double *)y)[i] = value;
  }
  return PK_OK;
}

pk_status pk_affine_clamp_forward(pk_type type, idx n, double alpha, double beta, double lo,
                                  double hi, const void *x, void *y) {
  SELECT(type);
  CHUNKS(n)
  k->affine_clamp_forward(PART(n), alpha, beta, lo, hi, pk_at(x, type, j), pk_at(y, type, j));
  return PK_OK;
}

pk_status pk_affine_clamp_backward(pk_type type, idx n, double alpha, double beta, double lo,
                                   double hi, const void *x, const void *dy, void *dx) {
  SELECT(type);
  CHUNKS(n)
  k->affine_clamp_backward(PART(n), alpha, beta, lo, hi, pk_at(x, type, j), pk_at(dy, type, j),
                           pk_at(dx, type, j));
  return PK_OK;
}

#define TOKENS \
  _Pragma("omp parallel for schedule(static) if (groups * tokens * columns > PK_SERIAL)") for ( \
      idx r = 0; r < groups * tokens; r++)

pk_status pk_modulate_forward(pk_type type, idx groups, idx tokens, idx columns, idx ld,
                              const void *x, const void *scale, const void *shift, void *y) {
  SELECT(type);
  TOKENS k->modulate(columns, pk_at(x, type, r * columns), pk_at(scale, type, r / tokens * ld),
                     pk_at(shift, type, r / tokens * ld), pk_at(y, type, r * columns));
  return PK_OK;
}

pk_status pk_gate_forward(pk_type type, idx groups, idx tokens, idx columns, idx ld, const void *x,
                          const void *gate, const void *h, void *y) {
  SELECT(type);
  TOKENS k->gate_forward(columns, pk_at(x, type, r * columns), pk_at(gate, type, r / tokens * ld),
                         pk_at(h, type, r * columns), pk_at(y, type, r * columns));
  return PK_OK;
}

ptrdiff_t pk_gate_backward_scratch(idx groups, idx tokens, idx columns) {
  return groups < 1 || tokens < 1 ? 0 : groups * pk_row_blocks(groups, tokens) * columns;
}

pk_status pk_gate_backward(pk_type type, idx groups, idx tokens, idx columns, idx ld,
                           const void *dy, const void *gate, const void *h, void *dh,
                           void *add_dgate, void *scratch) {
  SELECT(type);
  if (groups < 1 || tokens < 1) return PK_OK;
  const idx blocks = pk_row_blocks(groups, tokens);
#pragma omp parallel for schedule(static) if (groups * tokens * columns > PK_SERIAL)
  for (idx w = 0; w < groups * blocks; w++) {
    const idx g = w / blocks, b = w % blocks;
    void *sums = add_dgate ? pk_at(scratch, type, w * columns) : NULL;
    if (sums) memset(sums, 0, (size_t)(columns * pk_size(type)));
    k->gate_backward(g * tokens + tokens * b / blocks, g * tokens + tokens * (b + 1) / blocks,
                     columns, dy, pk_at(gate, type, g * ld), h, dh, sums);
  }
  for (idx w = 0; w < groups * blocks && add_dgate; w++)
    k->axpby(columns, 1, pk_at(scratch, type, w * columns), 1,
             pk_at(add_dgate, type, w / blocks * ld));
  return PK_OK;
}

ptrdiff_t pk_column_sums_scratch(idx rows, idx columns) { return pk_row_blocks(1, rows) * columns; }

pk_status pk_column_sums(pk_type type, idx rows, idx columns, const void *x, void *add_sums,
                         void *scratch) {
  SELECT(type);
  const idx blocks = pk_row_blocks(1, rows);
#pragma omp parallel for schedule(static) if (rows * columns > PK_SERIAL)
  for (idx b = 0; b < blocks; b++) {
    void *mine = pk_at(scratch, type, b * columns);
    const idx r = rows * b / blocks;
    k->column_sums(rows * (b + 1) / blocks - r, columns, pk_at(x, type, r * columns), mine);
  }
  for (idx b = 0; b < blocks; b++)
    k->axpby(columns, 1, pk_at(scratch, type, b * columns), 1, add_sums);
  return PK_OK;
}

static inline void copy_run(pk_type type, idx n, idx ss, const void *src, idx ds, void *dst,
                            int accumulate) {
  if (type == PK_F64) {
    const double *s = src;
    double *d = dst;
    if (accumulate)
      for (idx i = 0; i < n; i++) d[i * ds] += s[i * ss];
    else
      for (idx i = 0; i < n; i++) d[i * ds] = s[i * ss];
  } else {
    const float *s = src;
    float *d = dst;
    if (accumulate)
      for (idx i = 0; i < n; i++) d[i * ds] += s[i * ss];
    else if (ss == 1 && ds == 1 && n == 4)
      memcpy(d, s, 16); /* rows of a patch */
    else if (ss == 1 && ds == 1)
      memcpy(d, s, (size_t)n * 4);
    else
      for (idx i = 0; i < n; i++) d[i * ds] = s[i * ss];
  }
}

/* An index of all axes but the last: `at` along each axis, s and d its offsets in source and
 * destination. */
typedef struct {
  idx at[8], s, d;
} place;

static place place_of(idx o, int axes, const idx *sizes, const idx *ss, const idx *ds) {
  place p = {.s = 0};
  for (int a = axes - 1; a >= 0; a--)
    p.at[a] = o % sizes[a], o /= sizes[a], p.s += p.at[a] * ss[a], p.d += p.at[a] * ds[a];
  return p;
}

static inline void next_place(place *p, int axes, const idx *sizes, const idx *ss, const idx *ds) {
  for (int a = axes - 1; a >= 0; a--) {
    p->s += ss[a], p->d += ds[a];
    if (++p->at[a] < sizes[a]) return;
    p->s -= sizes[a] * ss[a], p->d -= sizes[a] * ds[a], p->at[a] = 0;
  }
}

#define STRIP 64 /* rows of a transposed matrix at a time */

pk_status pk_copy_strided(pk_type type, int rank, const idx *sizes, const idx *src_strides,
                          const void *src, const idx *dst_strides, void *dst, int accumulate) {
  if (type != PK_F32 && type != PK_F64) return PK_BAD_TYPE;
  if (rank < 1 || rank > 8) return PK_BAD_SHAPE;
  idx outer = 1;
  for (int d = 0; d < rank; d++) {
    if (sizes[d] < 0) return PK_BAD_SHAPE;
    if (d < rank - 1) outer *= sizes[d];
  }
  const idx n = sizes[rank - 1], ss = src_strides[rank - 1], ds = dst_strides[rank - 1];
  if (outer * n == 0) return PK_OK;
  if (rank > 1 && !accumulate && ds == 1 && src_strides[rank - 2] == 1 && ss > 1 && n >= 8 &&
      sizes[rank - 2] >= 16) {
    const pk_kernels *k = pk_select(type);
    const idx rows = sizes[rank - 2], strips = (rows + STRIP - 1) / STRIP,
              items = outer / rows * strips;
#pragma omp parallel for schedule(static) if (outer * n > 2 * PK_SERIAL)
    for (idx i = 0; i < items; i++) {
      const place p = place_of(i / strips, rank - 2, sizes, src_strides, dst_strides);
      /* 16: a whole number of lanes of any variant */
      const idx r = i % strips * STRIP, many = rows - r < STRIP ? rows - r : STRIP,
                whole = many / 16 * 16, ld = dst_strides[rank - 2];
      k->conv.transpose(n, whole, pk_at(src, type, p.s + r), ss, NULL,
                        pk_at(dst, type, p.d + r * ld), ld);
      for (idx e = r + whole; e < r + many; e++)
        copy_run(type, n, ss, pk_at(src, type, p.s + e), 1, pk_at(dst, type, p.d + e * ld), 0);
    }
    return PK_OK;
  }
#pragma omp parallel for schedule(static) if (outer * n > 2 * PK_SERIAL)
  for (idx b = 0; b < PK_BLOCKS; b++) {
    place p = place_of(PK_LO(b, outer), rank - 1, sizes, src_strides, dst_strides);
    for (idx o = PK_LO(b, outer); o < PK_HI(b, outer);
         o++, next_place(&p, rank - 1, sizes, src_strides, dst_strides))
      copy_run(type, n, ss, pk_at(src, type, p.s), ds, pk_at(dst, type, p.d), accumulate);
  }
  return PK_OK;
}

static double fold_dot(pk_type type, idx n, const void *x, const void *y, int difference) {
  const pk_kernels *k = pk_select(type);
  if (!k || n <= 0) return 0;
  double part[PK_BLOCKS];
#pragma omp parallel for schedule(static) if (n > 2 * PK_SERIAL)
  for (idx b = 0; b < PK_BLOCKS; b++) {
    const idx lo = PK_LO(b, n), count = PK_HI(b, n) - lo;
    part[b] = difference ? k->sum_abs_difference(count, pk_at(x, type, lo), pk_at(y, type, lo))
                         : k->dot(count, pk_at(x, type, lo), y ? pk_at(y, type, lo) : NULL);
  }
  double total = 0;
  for (int b = 0; b < PK_BLOCKS; b++) total += part[b];
  return total;
}

pk_status pk_add_to_rows(pk_type type, idx rows, idx columns, const void *v, void *y) {
  SELECT(type);
#pragma omp parallel for schedule(static) if (rows * columns > PK_SERIAL)
  for (idx r = 0; r < rows; r++) {
    void *row = pk_at(y, type, r * columns);
    k->affine_clamp_forward(columns, 1, pk_read(v, type, r), -INFINITY, INFINITY, row, row);
  }
  return PK_OK;
}

pk_status pk_row_sums(pk_type type, idx rows, idx columns, const void *x, void *y) {
  SELECT(type);
#pragma omp parallel for schedule(static) if (rows * columns > PK_SERIAL)
  for (idx r = 0; r < rows; r++)
    pk_write(y, type, r, k->dot(columns, pk_at(x, type, r * columns), NULL));
  return PK_OK;
}

double pk_sum(pk_type type, idx n, const void *x) { return fold_dot(type, n, x, NULL, 0); }

double pk_dot(pk_type type, idx n, const void *x, const void *y) {
  return fold_dot(type, n, x, y, 0);
}

double pk_sum_abs_difference(pk_type type, idx n, const void *x, const void *y) {
  return fold_dot(type, n, x, y, 1);
}

int pk_all_finite(pk_type type, idx n, const void *x) {
  int bad = 0;
#pragma omp parallel for schedule(static) reduction(| : bad) if (n > 4 * PK_SERIAL)
  for (idx b = 0; b < PK_BLOCKS; b++) {
    int mine = 0; /* all exponent bits set: Inf or NaN */
    if (type == PK_F64) {
      const uint64_t *p = x;
      for (idx i = PK_LO(b, n); i < PK_HI(b, n); i++)
        mine |= (p[i] & 0x7ff0000000000000u) == 0x7ff0000000000000u;
    } else if (type == PK_F32) {
      const uint32_t *p = x;
      for (idx i = PK_LO(b, n); i < PK_HI(b, n); i++) mine |= (p[i] & 0x7f800000u) == 0x7f800000u;
    } else {
      const uint16_t *p = x, mask = type == PK_BF16 ? 0x7f80 : 0x7c00;
      for (idx i = PK_LO(b, n); i < PK_HI(b, n); i++) mine |= (p[i] & mask) == mask;
    }
    bad |= mine;
  }
  return !bad;
}

pk_status pk_gather_rows(pk_type type, idx count, idx columns, const int32_t *ids,
                         const void *table, void *y) {
  const size_t bytes = (size_t)(columns * pk_size(type));
#pragma omp parallel for schedule(static) if (count * columns > 2 * PK_SERIAL)
  for (idx i = 0; i < count; i++)
    memcpy(pk_at(y, type, i * columns), pk_at(table, type, ids[i] * columns), bytes);
  return PK_OK;
}

pk_status pk_scatter_add_rows(pk_type type, idx count, idx columns, const int32_t *ids,
                              const void *dy, void *add_dtable) {
  SELECT(type);
  for (idx i = 0; i < count; i++)
    k->axpby(columns, 1, pk_at(dy, type, i * columns), 1,
             pk_at(add_dtable, type, ids[i] * columns));
  return PK_OK;
}
