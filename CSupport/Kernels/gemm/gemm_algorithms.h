/* The ways of C = beta C + alpha A B for f32, rows of C contiguous (csc == 1), k > 0. `suit`:
 * whether a way is for this shape; dispatch.c says in which order they are asked. `scratch`: whatever
 * alpha, beta and strides. `ready`: B from pk_gemm_pack, or NULL. `e` may be NULL. */
#ifndef PK_GEMM_ALGORITHMS_H
#define PK_GEMM_ALGORITHMS_H
/* A and B packed, block by block (blocked.c): any shape. */
ptrdiff_t pk_gemm_blocked_scratch(const pk_gemm_shape *s);
void pk_gemm_blocked(const pk_gemm_shape *s, const float *a, const float *b, const float *ready,
                     const pk_epilogue *e, float *c, float *scratch);
/* Less to pack: A or B is not large (shared_packed.c). */
int pk_gemm_shared_packed_supports(const pk_gemm_shape *s);
ptrdiff_t pk_gemm_shared_packed_scratch(const pk_gemm_shape *s);
void pk_gemm_shared_packed(const pk_gemm_shape *s, const float *a, const float *b,
                           const float *ready, const pk_epilogue *e, float *c, float *scratch);
/* Few columns: A is read where it lies (unpacked_a.c). */
int pk_gemm_unpacked_a_supports(const pk_gemm_shape *s);
ptrdiff_t pk_gemm_unpacked_a_scratch(const pk_gemm_shape *s);
void pk_gemm_unpacked_a(const pk_gemm_shape *s, const float *a, const float *b, const float *ready,
                        const pk_epilogue *e, float *c, float *scratch);
/* At most four rows and a large B, which is read where it lies (gemv.c). */
int pk_gemv_supports(const pk_gemm_shape *s);
ptrdiff_t pk_gemv_scratch(const pk_gemm_shape *s);
void pk_gemv(const pk_gemm_shape *s, const float *a, const float *b, const pk_epilogue *e, float *c,
             float *scratch);
/* Nothing packed (unpacked.c). Without the epilogue. */
int pk_gemm_unpacked_supports(const pk_gemm_shape *s);
void pk_gemm_unpacked(const pk_gemm_shape *s, const float *a, const float *b, float *c);

/* B's columns of one panel, all pieces of k, into their places in what pk_gemm_pack makes. */
void pk_pack_b_panel(const pk_gemm_shape *s, const float *b, idx panel, float *packed);
/* Values of k that are summed before they are added to C. */
ptrdiff_t pk_gemm_kc(ptrdiff_t k);
/* Applies the epilogue to a rectangle of C. */
void pk_apply_epilogue(pk_type type, const pk_epilogue *e, idx row, idx rows, idx column,
                       idx columns, void *c, idx ldc);

/* What that needs beside C, in f32. */
static inline pk_prefetch_stream pk_prefetch_epilogue(const pk_epilogue *e, idx row, idx rows,
                                                      idx column, idx columns) {
  if (e->before)
    return pk_prefetch_rows((const float *)e->before + row * e->ldbefore + column, rows, columns,
                            e->ldbefore);
  if (e->active)
    return pk_prefetch_rows((const float *)e->active + row * e->ldactive + column, rows, columns,
                            e->ldactive);
  return (pk_prefetch_stream){0};
}
#endif
