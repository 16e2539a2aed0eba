/* Matrix products.
 *
 * pk_gemm:  C[m,n] = beta C + alpha A[m,k] B[k,n], any strides (rs = row stride, cs = column
 * stride); beta 0 ignores C.
 *   f32 with contiguous rows of C: own kernels (blocked.c, shared_packed.c, unpacked_a.c, gemv.c, unpacked.c),
 *   inputs rounded to bf16 first when pk_compute_type() says so.
 *   Anything else: BLIS computes fixed tiles of C (the tile grid depends on the shape alone) under
 *   our team.
 *   Scratch: pk_gemm_scratch elements.
 * pk_linear: the same (csc == 1), followed by what the epilogue says, a few rows at a time while
 * they are near. With `packed`, B was packed before by pk_gemm_pack, for f32 weights that stay:
 * pk_gemm_packed_count(n, k) elements, in a layout named by pk_gemm_layout() (it changes with the
 * instruction set and pk_compute_type()); b is not read then. The bits are those without it, but where
 * pk_gemm would not pack: a small B, at most four rows, or one column. pk_gemm_batched: the same
 * for `batch` independent small products, own kernels, parallel over the batch and row blocks;
 *   B needs csb == 1 and C needs csc == 1. Batch strides may be 0 to share an operand (not C).
 * Source: BLIS (Van Zee, van de Geijn 2015) for the tiles. */
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
pk_status pk_gemm_pack(const pk_gemm_shape *s, const void *b, void *packed);

/* C += bias (a row; may be NULL). Then, with `active`, active = f(C); with `before`, C *=
 * f'(before), where `before` is what f was applied to. */
typedef struct {
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
