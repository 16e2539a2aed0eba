/* C = beta C + alpha A B for f32, rows of C contiguous (csc == 1), k > 0. */
#ifndef PK_PACKED_H
#define PK_PACKED_H
void pk_packed_product(const pk_gemm_shape *s, const float *a, const float *b, float *c, float *scratch);
#endif
