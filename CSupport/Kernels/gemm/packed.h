/* C = beta C + alpha A B for f32, rows of C contiguous (csc == 1), k > 0. */
#ifndef PK_PACKED_H
#define PK_PACKED_H
/* `ready`: B from pk_gemm_pack, or NULL. `e` may be NULL. */
void pk_packed_product(const pk_gemm_shape *s, const float *a, const float *b, const float *ready, const pk_epilogue *e, float *c, float *scratch);
/* B's columns of one panel, all pieces of k, into their places in what pk_gemm_pack makes. */
void pk_pack_panel(const pk_gemm_shape *s, const float *b, idx panel, float *packed);
/* The same with all of B packed at once (rows.c), whether it is for this shape, and its scratch. */
int pk_rows_suit(const pk_gemm_shape *s);
ptrdiff_t pk_rows_scratch(const pk_gemm_shape *s);
/* Values of k that are summed before they are added to C. */
ptrdiff_t pk_product_depth(ptrdiff_t k);
void pk_rows_product(const pk_gemm_shape *s, const float *a, const float *b, const float *ready, const pk_epilogue *e, float *c, float *scratch);
/* The same with at most four rows and a large B, which is read where it lies (vectors.c). */
int pk_vectors_suit(const pk_gemm_shape *s);
ptrdiff_t pk_vectors_scratch(const pk_gemm_shape *s);
void pk_vectors_product(const pk_gemm_shape *s, const float *a, const float *b, const pk_epilogue *e, float *c, float *scratch);
/* Applies the epilogue to a rectangle of C. */
void pk_finish_rows(pk_type type, const pk_epilogue *e, idx row, idx rows, idx column, idx columns, void *c, idx ldc);
/* The same without packing, where B is small; 0 when it is not for this. */
int pk_small_product(const pk_gemm_shape *s, const float *a, const float *b, float *c);
#endif
