/* Softmax attention, forward and backward, without storing the probabilities.
 *
 *   S = scale q k^T,  A = softmax over visible keys,  o = A v,  lse = log sum exp S
 *   delta_i = <do_i, o_i>,  dS_ij = A_ij (<do_i, v_j> - delta_i)
 *   dq = scale dS k,  dk = scale dS^T q,  dv = A^T do
 * Source: Vaswani et al. 2017 (arXiv:1706.03762) eq. 1; recomputation from lse: Dao et al. 2022
 * (arXiv:2205.14135).
 *
 * Shapes   q o dq do [batch, queries, heads, head_dim], k v dk dv [batch, keys, heads, head_dim],
 *          lse [batch, heads, queries]. Row strides ld*, batch strides b*; head h occupies columns
 *          h * head_dim onwards.
 * Visible  key j of sample b to query i if j < key_counts[b] (all when NULL) and, with causal_block
 *          > 0, j / causal_block <= i / query_block: a frame has so many keys, and so many of its
 *          queries are there. Every query must see at least one key; scale > 0.
 * Writes   dq, dk, dv are overwritten, with the strides of q, k, v; rows of unseen keys become 0.
 * bf16     operands of f32 are rounded to bf16 when pk_compute_type() says so (not beside AMX,
 *          where bf16 vector instructions are slow), the probabilities and dS too; exponentials and
 *          sums are f32.
 * Threads  parallel over (sample, head) and blocks of queries, or of keys; sums over queries and
 *          keys have one order. */
#ifndef PK_ATTENTION_H
#define PK_ATTENTION_H

typedef struct PK_SAFE {
  ptrdiff_t batch, heads, queries, keys, head_dim;
  ptrdiff_t ldq, ldk, ldv, ldo, bq, bk, bv, bo;
  double scale;
  ptrdiff_t causal_block, query_block;
  const int32_t *key_counts;
} pk_attention_shape;

ptrdiff_t pk_attention_scratch(const pk_attention_shape *s, int backward);
pk_status pk_attention_forward(pk_type type, const pk_attention_shape *s, const void *q,
                               const void *k, const void *v, void *o, void *lse, void *scratch);
pk_status pk_attention_backward(pk_type type, const pk_attention_shape *s, const void *q,
                                const void *k, const void *v, const void *o, const void *dout,
                                const void *lse, void *dq, void *dk, void *dv, void *scratch);
#endif
