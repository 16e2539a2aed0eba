/* C = beta C + alpha A B for f32, rows of C contiguous (csc == 1), k > 0. */
#ifndef PK_PACKED_H
#define PK_PACKED_H
/* `ready`: B from pk_gemm_pack, or NULL. */
void pk_packed_product(const pk_gemm_shape *s, const float *a, const float *b, const float *ready, float *c, float *scratch);
/* The same without packing, where B is small; 0 when it is not for this. */
int pk_small_product(const pk_gemm_shape *s, const float *a, const float *b, float *c);
#endif
