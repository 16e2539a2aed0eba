/* The ways of C = beta C + alpha A B for f32, rows of C contiguous (csc == 1), k > 0. `suit`:
 * whether a way is for this shape; dispatch.c says in which order they are asked. `scratch`: whatever
 * alpha, beta and strides. `ready`: B from pk_gemm_pack, or NULL. `e` may be NULL. */
#ifndef PK_WAYS_H
#define PK_WAYS_H
/* A and B packed, block by block (blocked.c): any shape. */
ptrdiff_t pk_packed_scratch(const pk_gemm_shape *s);
void pk_packed_product(const pk_gemm_shape *s, const float *a, const float *b, const float *ready,
                       const pk_epilogue *e, float *c, float *scratch);
/* Less to pack: A or B is not large (shared_packed.c). */
int pk_rows_suit(const pk_gemm_shape *s);
ptrdiff_t pk_rows_scratch(const pk_gemm_shape *s);
void pk_rows_product(const pk_gemm_shape *s, const float *a, const float *b, const float *ready,
                     const pk_epilogue *e, float *c, float *scratch);
/* Few columns: A is read where it lies (unpacked_a.c). */
int pk_columns_suit(const pk_gemm_shape *s);
ptrdiff_t pk_columns_scratch(const pk_gemm_shape *s);
void pk_columns_product(const pk_gemm_shape *s, const float *a, const float *b, const float *ready,
                        const pk_epilogue *e, float *c, float *scratch);
/* At most four rows and a large B, which is read where it lies (gemv.c). */
int pk_vectors_suit(const pk_gemm_shape *s);
ptrdiff_t pk_vectors_scratch(const pk_gemm_shape *s);
void pk_vectors_product(const pk_gemm_shape *s, const float *a, const float *b,
                        const pk_epilogue *e, float *c, float *scratch);
/* Nothing packed (unpacked.c). Without the epilogue. */
int pk_small_suit(const pk_gemm_shape *s);
void pk_small_product(const pk_gemm_shape *s, const float *a, const float *b, float *c);

/* B's columns of one panel, all pieces of k, into their places in what pk_gemm_pack makes. */
void pk_pack_panel(const pk_gemm_shape *s, const float *b, idx panel, float *packed);
/* Values of k that are summed before they are added to C. */
ptrdiff_t pk_product_depth(ptrdiff_t k);
/* Applies the epilogue to a rectangle of C. */
void pk_finish_rows(pk_type type, const pk_epilogue *e, idx row, idx rows, idx column, idx columns,
                    void *c, idx ldc);

/* What that needs beside C, in f32. */
static inline pk_ahead pk_beside(const pk_epilogue *e, idx row, idx rows, idx column, idx columns) {
  if (e->before)
    return pk_ahead_of((const float *)e->before + row * e->ldbefore + column, rows, columns,
                       e->ldbefore);
  if (e->active)
    return pk_ahead_of((const float *)e->active + row * e->ldactive + column, rows, columns,
                       e->ldactive);
  return (pk_ahead){0};
}
#endif
