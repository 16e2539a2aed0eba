/* Entry points of matrix products, and the only place that chooses an algorithm. */
#include "../isa/omp_declarations.h"
#include "epilogue.h"

typedef enum { GEMV, UNPACKED, UNPACKED_A, SHARED_PACKED_A, SHARED_PACKED_B, BLOCKED } algorithm;

/* The order of the questions is part of the results: the first three sum in another order than the
 * last three. With B packed already, algorithms that read it in place are out of the question. */
static algorithm choose(const pk_gemm_shape *s, int is_b_packed) {
  const idx threads = pk_gemm_is_parallel(s) ? pk_threads() : 1;
  if (!is_b_packed && pk_gemv_supports(s)) return GEMV;
  if (!is_b_packed && pk_gemm_unpacked_supports(s)) return UNPACKED;
  if (pk_gemm_unpacked_a_supports(s)) return UNPACKED_A;
  if (pk_gemm_shared_packed_a_supports(s, threads)) return SHARED_PACKED_A;
  if (pk_gemm_shared_packed_b_supports(s)) return SHARED_PACKED_B;
  return BLOCKED;
}

/* One contiguous column: it is computed as the row of the transposed product. */
static int is_column(const pk_gemm_shape *s) { return s->n == 1 && s->rsc == 1 && s->m > 1; }

/* C^T = B^T A^T. */
static pk_gemm_shape transposed(const pk_gemm_shape *s) {
  return (pk_gemm_shape){.m = s->n,
                         .n = s->m,
                         .k = s->k,
                         .rsa = s->csb,
                         .csa = s->rsb,
                         .rsb = s->csa,
                         .csb = s->rsa,
                         .rsc = s->csc,
                         .csc = s->rsc,
                         .alpha = s->alpha,
                         .beta = s->beta};
}

/* The largest of all algorithms: which one runs may depend on type, alpha, beta and strides. */
static idx largest_scratch(const pk_gemm_shape *s) {
  const idx needs[] = {pk_gemv_scratch(s),
                       pk_gemm_unpacked_a_scratch(s),
                       pk_gemm_shared_packed_a_scratch(s),
                       pk_gemm_shared_packed_b_scratch(s),
                       pk_gemm_blocked_scratch(s),
                       pk_gemm_any_scratch(s)};
  idx most = 0;
  for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) most = MAX(most, needs[i]);
  return most;
}

idx pk_gemm_scratch(const pk_gemm_shape *s) {
  if (s->m < 1 || s->n < 1 || s->k < 1) return 0;
  /* One column is not transposed where B was packed before: either may come. */
  const pk_gemm_shape t = transposed(s);
  return is_column(s) ? MAX(largest_scratch(s), largest_scratch(&t)) : largest_scratch(s);
}

/* Products of f32 with contiguous rows of C and k > 0. Returns whether the epilogue is done. */
static int gemm_f32(const pk_gemm_shape *s, const float *a, const float *b, const float *packed_b,
                    const pk_epilogue *e, float *c, float *scratch) {
  if (!packed_b && is_column(s)) {
    const pk_gemm_shape t = transposed(s);
    gemm_f32(&t, b, a, NULL, NULL, c, scratch);
    return 0;
  }
  switch (choose(s, packed_b != NULL)) {
  case GEMV:
    pk_gemv(s, a, b, e, c, scratch);
    return 1;
  case UNPACKED:
    pk_gemm_unpacked(s, a, b, c);
    return 0;
  case UNPACKED_A:
    pk_gemm_unpacked_a(s, a, b, packed_b, e, c, scratch);
    return 1;
  case SHARED_PACKED_A:
    pk_gemm_shared_packed_a(s, a, b, packed_b, e, c, scratch);
    return 1;
  case SHARED_PACKED_B:
    pk_gemm_shared_packed_b(s, a, b, packed_b, e, c, scratch);
    return 1;
  default:
    pk_gemm_blocked(s, a, b, packed_b, e, c, scratch);
    return 1;
  }
}

pk_status pk_gemm(pk_type type, const pk_gemm_shape *s, const void *a, const void *b, void *c,
                  void *scratch) {
  if (type != PK_F32 && type != PK_F64) return PK_BAD_TYPE;
  if (s->m < 0 || s->n < 0 || s->k < 0) return PK_BAD_SHAPE;
  if (s->m == 0 || s->n == 0) return PK_OK;
  if (type == PK_F32 && s->csc == 1 && s->k > 0)
    gemm_f32(s, a, b, NULL, NULL, c, scratch);
  else
    pk_gemm_any(type, s, a, b, c, scratch);
  return PK_OK;
}

pk_status pk_linear(pk_type type, const pk_gemm_shape *s, const void *a, const void *b,
                    const void *packed, const pk_epilogue *e, void *c, void *scratch) {
  if (type != PK_F32 && type != PK_F64) return PK_BAD_TYPE;
  if (s->m < 0 || s->n < 0 || s->k < 0 || s->csc != 1 ||
      (packed && (type != PK_F32 || s->n < 1 || s->k < 1)))
    return PK_BAD_SHAPE;
  if (s->m == 0 || s->n == 0) return PK_OK;
  if (type == PK_F32 && s->k > 0) {
    if (gemm_f32(s, a, b, packed, e, c, scratch)) return PK_OK;
  } else {
    pk_gemm_any(type, s, a, b, c, scratch);
  }
#pragma omp parallel for schedule(static) if (s->m * s->n > PK_SERIAL)
  for (idx r = 0; r < s->m; r++) pk_apply_epilogue(type, e, r, 1, 0, s->n, c, s->rsc);
  return PK_OK;
}
