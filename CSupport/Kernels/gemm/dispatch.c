#include "../isa/kernels.h"
#include <blis.h>
#include "gemm_algorithms.h"

/* BLIS reads BLIS_ARCH_TYPE once, at its first call; Debian's 0.9.0 takes numbers and does not know
 * newer CPUs (it would pick `generic`, five times slower). The widest set the current variant
 * allows is named here; a number the user exported wins. */
static const char *chosen;

static void blis_start(void) {
  if (chosen) return;
  const char *number = "25", *name = "generic";
#if defined(__x86_64__)
  switch (pk_isa_current()) {
  case PK_ISA_AVX512:
    number = "0", name = "skx";
    break;
  case PK_ISA_AVX2:
    number = "3", name = "haswell";
    break;
  default:
    break;
  }
  setenv("BLIS_ARCH_TYPE", number, 0);
#endif
  bli_init();
  (void)name;
  chosen = bli_arch_string(bli_arch_query_id());
}

const char *pk_blis_version(void) { return bli_info_get_version_str(); }

const char *pk_blis_kernels(void) {
  blis_start();
  return chosen;
}

/* Tile extents: about 16 tiles for mid-sized products, at most 512 x 768 (packing then costs a few
 * per cent). */
static idx tile_extent(idx n, idx parts, idx unit, idx most) {
  idx t = (n + parts - 1) / parts;
  t = (t + unit - 1) / unit * unit;
  return t < unit ? unit : t > most ? most : t;
}

/* One column, contiguous: the row of the transposed product. */
static int column(const pk_gemm_shape *s) { return s->n == 1 && s->rsc == 1 && s->m > 1; }

static pk_gemm_shape turned(const pk_gemm_shape *s) {
  return (pk_gemm_shape){s->n,   s->m,   s->k,   s->csb,   s->rsb, s->csa,
                         s->rsa, s->csc, s->rsc, s->alpha, s->beta};
}

static idx ways_scratch(const pk_gemm_shape *s) {
  return MAX(MAX(pk_gemm_shared_packed_scratch(s), pk_gemm_blocked_scratch(s)),
             MAX(pk_gemm_unpacked_a_scratch(s), pk_gemv_scratch(s)));
}

idx pk_gemm_scratch(const pk_gemm_shape *s) {
  if (s->m < 1 || s->n < 1 || s->k < 1) return 0;
  /* One column is not turned where B was packed before: either may come. */
  const pk_gemm_shape t = turned(s);
  return column(s) ? MAX(ways_scratch(s), ways_scratch(&t)) : ways_scratch(s);
}

static int small(const pk_gemm_shape *s) {
  return !pk_gemv_supports(s) && pk_gemm_unpacked_supports(s);
}

static void product(const pk_gemm_shape *s, const float *a, const float *b, const float *ready,
                    const pk_epilogue *e, float *c, float *scratch) {
  if (!ready && pk_gemv_supports(s))
    pk_gemv(s, a, b, e, c, scratch);
  else if (pk_gemm_unpacked_a_supports(s))
    pk_gemm_unpacked_a(s, a, b, ready, e, c, scratch);
  else if (pk_gemm_shared_packed_supports(s))
    pk_gemm_shared_packed(s, a, b, ready, e, c, scratch);
  else
    pk_gemm_blocked(s, a, b, ready, e, c, scratch);
}

pk_status pk_gemm(pk_type type, const pk_gemm_shape *s, const void *a, const void *b, void *c,
                  void *scratch) {
  if (type != PK_F32 && type != PK_F64) return PK_BAD_TYPE;
  if (s->m < 0 || s->n < 0 || s->k < 0) return PK_BAD_SHAPE;
  if (s->m == 0 || s->n == 0) return PK_OK;
  if (type == PK_F32 && s->csc == 1 && s->k > 0) {
    const pk_gemm_shape t = turned(s);
    if (column(s)) return pk_gemm(type, &t, b, a, c, scratch);
    if (small(s))
      pk_gemm_unpacked(s, a, b, c);
    else
      product(s, a, b, NULL, NULL, c, scratch);
    return PK_OK;
  }
  blis_start();
  const double flops = 2.0 * (double)s->m * (double)s->n * (double)s->k;
  idx tm = s->m, tn = s->n;
  if (flops > 4e6) {
    idx parts_m = s->m >= 4 * s->n ? 16 : s->n >= 4 * s->m ? 1 : 4, parts_n = 16 / parts_m;
    tm = tile_extent(s->m, parts_m, 32, 512);
    tn = tile_extent(s->n, parts_n, 64, 768);
  }
  const idx nm = (s->m + tm - 1) / tm, nn = (s->n + tn - 1) / tn;
#pragma omp parallel for schedule(static) if (nm * nn > 1)
  for (idx t = 0; t < nm * nn; t++) {
    const idx i = t / nn * tm, j = t % nn * tn;
    const idx m = s->m - i < tm ? s->m - i : tm, n = s->n - j < tn ? s->n - j : tn;
    if (type == PK_F32) {
      float alpha = (float)s->alpha, beta = (float)s->beta;
      bli_sgemm(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, m, n, s->k, &alpha, (float *)a + i * s->rsa,
                s->rsa, s->csa, (float *)b + j * s->csb, s->rsb, s->csb, &beta,
                (float *)c + i * s->rsc + j * s->csc, s->rsc, s->csc);
    } else {
      double alpha = s->alpha, beta = s->beta;
      bli_dgemm(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, m, n, s->k, &alpha, (double *)a + i * s->rsa,
                s->rsa, s->csa, (double *)b + j * s->csb, s->rsb, s->csb, &beta,
                (double *)c + i * s->rsc + j * s->csc, s->rsc, s->csc);
    }
  }
  return PK_OK;
}

void pk_apply_epilogue(pk_type type, const pk_epilogue *e, idx row, idx rows, idx column,
                       idx columns, void *c, idx ldc) {
  const pk_kernels *k = pk_select(type);
  for (idx r = row; r < row + rows; r++) {
    void *y = pk_at(c, type, r * ldc + column);
    if (e->bias) k->axpby(columns, 1, pk_at(e->bias, type, column), 1, y);
    if (e->active)
      k->activation_forward((int)e->f, columns, y,
                            pk_at(e->active, type, r * e->ldactive + column));
    if (e->before)
      k->activation_backward((int)e->f, columns, pk_at(e->before, type, r * e->ldbefore + column),
                             y, y);
  }
}

pk_status pk_linear(pk_type type, const pk_gemm_shape *s, const void *a, const void *b,
                    const void *packed, const pk_epilogue *e, void *c, void *scratch) {
  if (type != PK_F32 && type != PK_F64) return PK_BAD_TYPE;
  if (s->m < 0 || s->n < 0 || s->k < 0 || s->csc != 1 ||
      (packed && (type != PK_F32 || s->n < 1 || s->k < 1)))
    return PK_BAD_SHAPE;
  if (s->m == 0 || s->n == 0) return PK_OK;
  if (type == PK_F32 && s->k > 0 && (packed || !(small(s) || column(s)))) {
    product(s, a, b, packed, e, c, scratch);
    return PK_OK;
  }
  const pk_status status = pk_gemm(type, s, a, b, c, scratch);
  if (status != PK_OK) return status;
#pragma omp parallel for schedule(static) if (s->m * s->n > PK_SERIAL)
  for (idx r = 0; r < s->m; r++) pk_apply_epilogue(type, e, r, 1, 0, s->n, c, s->rsc);
  return PK_OK;
}

pk_status pk_gemm_batched(pk_type type, const pk_gemm_shape *s, idx batch, idx stride_a,
                          idx stride_b, idx stride_c, const void *a, const void *b, void *c) {
  const pk_kernels *kernels = pk_select(type);
  if (!kernels) return PK_BAD_TYPE;
  if (s->m < 0 || s->n < 0 || s->k < 0 || batch < 0 || s->csb != 1 || s->csc != 1)
    return PK_BAD_SHAPE;
  if (s->beta != 0 && s->beta != 1) return PK_BAD_SHAPE;
  const idx row_blocks = batch >= PK_BLOCKS ? 1 : (s->m + 31) / 32,
            step = (s->m + row_blocks - 1) / (row_blocks ? row_blocks : 1);
  const double work = (double)batch * (double)s->m * (double)s->n * (double)s->k;
#pragma omp parallel for schedule(static) if (work > PK_SERIAL)
  for (idx t = 0; t < batch * row_blocks; t++) {
    const idx g = t / row_blocks, i = t % row_blocks * step, m = s->m - i < step ? s->m - i : step;
    if (m <= 0) continue;
    /* The next matrices arrive while these are multiplied: B with the first half of the rows, A
     * with the second. */
    const int more = row_blocks == 1 && g + 1 < batch;
    const idx half = (m / kernels->unpacked_mr + 2) / 2 * kernels->unpacked_mr;
    for (idx r = 0, rows; r < m; r += rows) {
      rows = more && !r && half < m ? half : m - r;
      const void *ahead = !more ? NULL
                          : r   ? pk_at(a, type, (g + 1) * stride_a)
                                : pk_at(b, type, (g + 1) * stride_b);
      kernels->gemm_unpacked(rows, s->n, s->k, s->alpha,
                             pk_at(a, type, g * stride_a + (i + r) * s->rsa), s->rsa, s->csa,
                             pk_at(b, type, g * stride_b), s->rsb, s->beta != 0,
                             pk_at(c, type, g * stride_c + (i + r) * s->rsc), s->rsc, ahead);
    }
  }
  return PK_OK;
}
