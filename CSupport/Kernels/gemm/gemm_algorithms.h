/* The algorithms of C = beta C + alpha A B in f32, with contiguous rows of C (csc == 1) and k > 0,
 * and what they share. dispatch.c alone chooses among them, by `supports` and in a fixed order.
 *
 * `scratch`    elements that the algorithm needs, whatever alpha, beta and strides
 * `packed_b`   B as pk_gemm_pack makes it, or NULL
 * `e`          the epilogue of pk_linear, or NULL
 *
 *                      A                        B                         supports
 *   gemv               read in place            read in place, once       at most four rows
 *   unpacked           read in place            read in place             small B
 *   unpacked A         read in place            packed by the team        few columns
 *   shared packed A    packed by the team       packed by each thread     A smaller than B
 *   shared packed B    packed by each thread    packed by the team        B fits L3
 *   blocked            packed block by block    packed block by block     everything
 */
#ifndef PK_GEMM_ALGORITHMS_H
#define PK_GEMM_ALGORITHMS_H
#include "../isa/kernels.h"
#include "gemm_thresholds.h"

int pk_gemv_supports(const pk_gemm_shape *s);
idx pk_gemv_scratch(const pk_gemm_shape *s);
void pk_gemv(const pk_gemm_shape *s, const float *a, const float *b, const pk_epilogue *e, float *c,
             float *scratch);

/* Without the epilogue. */
int pk_gemm_unpacked_supports(const pk_gemm_shape *s);
void pk_gemm_unpacked(const pk_gemm_shape *s, const float *a, const float *b, float *c);

int pk_gemm_unpacked_a_supports(const pk_gemm_shape *s);
idx pk_gemm_unpacked_a_scratch(const pk_gemm_shape *s);
void pk_gemm_unpacked_a(const pk_gemm_shape *s, const float *a, const float *b,
                        const float *packed_b, const pk_epilogue *e, float *c, float *scratch);

/* Sums of the three that follow are the same, bit by bit. */
int pk_gemm_shared_packed_a_supports(const pk_gemm_shape *s, idx threads);
idx pk_gemm_shared_packed_a_scratch(const pk_gemm_shape *s);
void pk_gemm_shared_packed_a(const pk_gemm_shape *s, const float *a, const float *b,
                             const float *packed_b, const pk_epilogue *e, float *c, float *scratch);

int pk_gemm_shared_packed_b_supports(const pk_gemm_shape *s);
idx pk_gemm_shared_packed_b_scratch(const pk_gemm_shape *s);
void pk_gemm_shared_packed_b(const pk_gemm_shape *s, const float *a, const float *b,
                             const float *packed_b, const pk_epilogue *e, float *c, float *scratch);

idx pk_gemm_blocked_scratch(const pk_gemm_shape *s);
void pk_gemm_blocked(const pk_gemm_shape *s, const float *a, const float *b, const float *packed_b,
                     const pk_epilogue *e, float *c, float *scratch);

/* Any strides and any k, f32 and f64, with sums in f64. */
idx pk_gemm_any_scratch(const pk_gemm_shape *s);
void pk_gemm_any(pk_type type, const pk_gemm_shape *s, const void *a, const void *b, void *c,
                 void *scratch);

static inline double pk_gemm_flops(const pk_gemm_shape *s) {
  return 2.0 * (double)s->m * (double)s->n * (double)s->k;
}

/* Whether a product is worth the thread team. */
static inline int pk_gemm_is_parallel(const pk_gemm_shape *s) {
  return pk_gemm_flops(s) > GEMM_SERIAL_FLOPS;
}
#endif
