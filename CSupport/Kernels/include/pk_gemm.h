/* Matrix products.
 *
 *   pk_gemm          C[m,n] = beta C + alpha A[m,k] B[k,n]; beta 0 does not read C.
 *   pk_linear        the same with contiguous rows of C (csc == 1), followed by the epilogue, a few
 *                    rows at a time while they are in L1.
 *   pk_gemm_pack     packs a B for pk_linear, in the type it is stored in.
 *   pk_gemm_batched  `batch` independent small products.
 * Source: Goto and van de Geijn 2008 (blocking), Van Zee and van de Geijn 2015 (BLIS).
 *
 * Shapes   A [m, k], B [k, n], C [m, n] with any strides: rs from row to row, cs from column to
 *          column. Batched: B needs csb == 1 and C csc == 1; batch strides may be 0 to share an
 *          operand (not C), and beta is 0 or 1.
 * Packed   pk_gemm_packed_count(n, k) elements, in a layout named by pk_gemm_layout(), which
 *          changes with the instruction set and pk_compute_type(). pk_linear with `packed` does not
 *          read b. Its bits are those without it, except where B would not be packed: a small B, at
 *          most four rows, or one column.
 * Numerics f32 with csc == 1: kernels of our own (gemm/), operands rounded to bf16 first where
 *          pk_compute_type() says so; sums of up to PK_KC_MAX products in f32. Anything else: products
 *          and sums in f64, in blocks of 256.
 * Threads  the order of a sum depends on the shape alone.
 * Scratch  pk_gemm_scratch elements; batched: none. */
#ifndef PK_GEMM_H
#define PK_GEMM_H

typedef struct {
  ptrdiff_t m, n, k;
  ptrdiff_t rsa, csa, rsb, csb, rsc, csc;
  double alpha, beta;
} pk_gemm_shape;

ptrdiff_t pk_gemm_scratch(const pk_gemm_shape *s);
pk_status pk_gemm(pk_type type, const pk_gemm_shape *s, const void *a, const void *b, void *c,
                  void *scratch);
ptrdiff_t pk_gemm_packed_count(ptrdiff_t n, ptrdiff_t k);
int pk_gemm_layout(void);

/* A matrix of weights [rows, columns] as it is stored: f32, bf16, f16, or bytes of which row r
 * stands for scale[r] times its values (scale is NULL for the other types). */
typedef struct PK_SAFE {
  pk_type type;
  const void *elements;
  const float *scale;
} pk_weight;

/* B is W (csb == 1) or its transpose (rsb == 1). Bytes are rounded once, when they are scaled. */
pk_status pk_gemm_pack(const pk_gemm_shape *s, const pk_weight *b, void *packed);
/* W as f32, y [rows, columns]. */
pk_status pk_widen(ptrdiff_t rows, ptrdiff_t columns, const pk_weight *w, float *y);

/* C += bias (a row; may be NULL). Then, with `active`, active = f(C); with `before`, C *=
 * f'(before), where `before` is what f was applied to. */
typedef struct PK_SAFE {
  const void *bias;
  pk_activation f;
  const void *before;
  void *active;
  ptrdiff_t ldbefore, ldactive;
} pk_epilogue;

pk_status pk_linear(pk_type type, const pk_gemm_shape *s, const void *a, const void *b,
                    const void *packed, const pk_epilogue *e, void *c, void *scratch);
pk_status pk_gemm_batched(pk_type type, const pk_gemm_shape *s, ptrdiff_t batch, ptrdiff_t stride_a,
                          ptrdiff_t stride_b, ptrdiff_t stride_c, const void *a, const void *b,
                          void *c);
#endif
