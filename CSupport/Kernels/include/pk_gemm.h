/* Matrix products.
 *
 * pk_gemm:  C[m,n] = beta C + alpha A[m,k] B[k,n], any strides (rs = row stride, cs = column stride); beta 0 ignores C.
 *   f32 with contiguous rows of C: own packed kernels (packed.c), inputs rounded to bf16 first when pk_products() says so.
 *   Anything else: BLIS computes fixed tiles of C (the tile grid depends on the shape alone) under our team.
 *   Scratch: pk_gemm_scratch elements.
 * pk_gemm_pack, pk_gemm_packed: the same in f32 (csc == 1) with a B that was packed before, for weights that stay: pk_gemm_packed_count(n, k)
 *   elements, in a layout named by pk_gemm_layout() (it changes with the instruction set and pk_products()). The bits are those of pk_gemm
 *   where that packs.
 * pk_gemm_batched: the same for `batch` independent small products, own kernels, parallel over the batch and row blocks;
 *   B needs csb == 1 and C needs csc == 1. Batch strides may be 0 to share an operand (not C).
 * pk_bias_add: y[r,c] += bias[c], in place.
 * Source: BLIS (Van Zee, van de Geijn 2015) for the tiles.
 */
#ifndef PK_GEMM_H
#define PK_GEMM_H
typedef struct {
  ptrdiff_t m, n, k;
  ptrdiff_t rsa, csa, rsb, csb, rsc, csc;
  double alpha, beta;
} pk_gemm_shape;

ptrdiff_t pk_gemm_scratch(const pk_gemm_shape *s);
pk_status pk_gemm(pk_type type, const pk_gemm_shape *s, const void *a, const void *b, void *c, void *scratch);
ptrdiff_t pk_gemm_packed_count(ptrdiff_t n, ptrdiff_t k);
int pk_gemm_layout(void);
pk_status pk_gemm_pack(const pk_gemm_shape *s, const void *b, void *packed);
pk_status pk_gemm_packed(const pk_gemm_shape *s, const void *a, const void *packed, void *c, void *scratch);
pk_status pk_gemm_batched(pk_type type, const pk_gemm_shape *s, ptrdiff_t batch, ptrdiff_t stride_a, ptrdiff_t stride_b,
                          ptrdiff_t stride_c, const void *a, const void *b, void *c);
pk_status pk_bias_add(pk_type type, ptrdiff_t rows, ptrdiff_t columns, const void *bias, void *y);
#endif
