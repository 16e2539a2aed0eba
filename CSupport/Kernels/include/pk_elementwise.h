/* Element-wise arithmetic, broadcasts, copies and sums. */
#ifndef PK_ELEMENTWISE_H
#define PK_ELEMENTWISE_H
/* y = alpha x + beta y (beta 0 ignores y; in place allowed). */
pk_status pk_axpby(pk_type type, ptrdiff_t n, double alpha, const void *x, double beta, void *y);
/* z = x y, or z += x y. */
pk_status pk_multiply(pk_type type, ptrdiff_t n, const void *x, const void *y, void *z,
                      int accumulate);
pk_status pk_fill(pk_type type, ptrdiff_t n, double value, void *y);
/* y = min(max(alpha x + beta, lo), hi);  dx = alpha dy where lo <= alpha x + beta <= hi, else 0. */
pk_status pk_affine_clamp_forward(pk_type type, ptrdiff_t n, double alpha, double beta, double lo,
                                  double hi, const void *x, void *y);
pk_status pk_affine_clamp_backward(pk_type type, ptrdiff_t n, double alpha, double beta, double lo,
                                   double hi, const void *x, const void *dy, void *dx);

/* Modulation (Peebles, Xie 2023): y[g,t,c] = x[g,t,c] (1 + scale[g,c]) + shift[g,c], g < groups, t
 * < tokens. scale and shift have row stride ld (they are chunks of one matrix). */
pk_status pk_modulate_forward(pk_type type, ptrdiff_t groups, ptrdiff_t tokens, ptrdiff_t columns,
                              ptrdiff_t ld, const void *x, const void *scale, const void *shift,
                              void *y);
/* Gate: y[g,t,c] = x[g,t,c] + gate[g,c] h[g,t,c];  dh = gate dy;  add_dgate[g,c] += sum_t dy h
 * (NULL when frozen).
 * gate and its gradient have row stride ld. Scratch is for that sum. */
pk_status pk_gate_forward(pk_type type, ptrdiff_t groups, ptrdiff_t tokens, ptrdiff_t columns,
                          ptrdiff_t ld, const void *x, const void *gate, const void *h, void *y);
ptrdiff_t pk_gate_backward_scratch(ptrdiff_t groups, ptrdiff_t tokens, ptrdiff_t columns);
pk_status pk_gate_backward(pk_type type, ptrdiff_t groups, ptrdiff_t tokens, ptrdiff_t columns,
                           ptrdiff_t ld, const void *dy, const void *gate, const void *h, void *dh,
                           void *add_dgate, void *scratch);

/* add_sums[c] += sum over rows of x[r,c]. */
ptrdiff_t pk_column_sums_scratch(ptrdiff_t rows, ptrdiff_t columns);
pk_status pk_column_sums(pk_type type, ptrdiff_t rows, ptrdiff_t columns, const void *x,
                         void *add_sums, void *scratch);

/* y[r,:] += v[r]; y[r] = sum of x[r,:], added in double. */
pk_status pk_add_to_rows(pk_type type, ptrdiff_t rows, ptrdiff_t columns, const void *v, void *y);
pk_status pk_row_sums(pk_type type, ptrdiff_t rows, ptrdiff_t columns, const void *x, void *y);

/* Strided copy of rank <= 8: dst[sum i_k dst_strides[k]] = src[sum i_k src_strides[k]] (or += with
 * accumulate).
 * Distinct indices must address distinct elements of dst. */
pk_status pk_copy_strided(pk_type type, int rank, const ptrdiff_t *sizes,
                          const ptrdiff_t *src_strides, const void *src,
                          const ptrdiff_t *dst_strides, void *dst, int accumulate);

/* Sums, added in double over fixed blocks; the result is returned. */
double pk_sum(pk_type type, ptrdiff_t n, const void *x);
double pk_dot(pk_type type, ptrdiff_t n, const void *x, const void *y);
double pk_sum_abs_difference(pk_type type, ptrdiff_t n, const void *x, const void *y);
/* 1 when every element is finite. */
int pk_all_finite(pk_type type, ptrdiff_t n, const void *x);

/* Rotary embedding (Su et al. 2021) of adjacent pairs: tokens x heads x dim, cos and sin [tokens,
 * dim/2];
 * direction +1 rotates by theta (forward), -1 by -theta (backward). In place. Row stride ld, batch
 * stride bs. */
pk_status pk_rope(pk_type type, ptrdiff_t batch, ptrdiff_t tokens, ptrdiff_t heads, ptrdiff_t dim,
                  ptrdiff_t ld, ptrdiff_t bs, const void *cosines, const void *sines, int direction,
                  void *x);

/* y[i,:] = table[ids[i],:];  add_dtable[ids[i],:] += dy[i,:] (serial over i, so the order is
 * fixed). */
pk_status pk_gather_rows(pk_type type, ptrdiff_t count, ptrdiff_t columns, const int32_t *ids,
                         const void *table, void *y);
pk_status pk_scatter_add_rows(pk_type type, ptrdiff_t count, ptrdiff_t columns, const int32_t *ids,
                              const void *dy, void *add_dtable);

/* Conversion between any two of f32, f64, bf16, f16; f32 -> bf16 and f16 round to nearest even. */
pk_status pk_convert(ptrdiff_t n, pk_type from, const void *x, pk_type to, void *y);
#endif
