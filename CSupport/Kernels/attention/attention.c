#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"

#define ATT_ROWS 32
/* Pieces a (sample, head) is cut into, so that there are about 64 work items whatever the thread count. */
static idx att_splits(const pk_attention_shape *s, idx extent) {
  idx items = s->batch * s->heads, wanted = items > 0 ? (64 + items - 1) / items : 1, most = (extent + 63) / 64;
  return wanted < 1 ? 1 : wanted > most ? most : wanted;
}
/* With at least 16 (sample, head) pairs one pass computes dq, dk and dv together; otherwise dq over query pieces, then
 * dk, dv over key pieces, the probabilities computed twice. */
static int att_one_pass(const pk_attention_shape *s) { return s->batch * s->heads >= 16; }

static idx att_thread_scratch(const pk_attention_shape *s, int backward) {
  return backward ? s->keys * (3 * s->head_dim + 2 * ATT_ROWS) + 32 : s->keys * (2 * s->head_dim + ATT_ROWS) + 32;
}
ptrdiff_t pk_attention_scratch(const pk_attention_shape *s, int backward) {
  return pk_threads() * att_thread_scratch(s, backward) + (backward ? s->batch * s->heads * s->queries : 0);
}
static int att_bad(const pk_attention_shape *s) {
  if (s->batch < 0 || s->heads < 1 || s->queries < 0 || s->keys < 1 || s->head_dim < 1) return 1;
  for (idx b = 0; s->key_counts && b < s->batch; b++)
    if (s->key_counts[b] < 1 || s->key_counts[b] > s->keys) return 1;
  return 0;
}

pk_status pk_attention_forward(pk_type type, const pk_attention_shape *s, const void *q, const void *k, const void *v,
                               void *o, void *lse, void *scratch) {
  const pk_kernels *kernels = pk_select(type);
  if (!kernels) return PK_BAD_TYPE;
  if (att_bad(s)) return PK_BAD_SHAPE;
  if (s->queries == 0) return PK_OK;
  const idx splits = att_splits(s, s->queries), step = (s->queries + splits - 1) / splits;
#pragma omp parallel for schedule(static)
  for (idx t = 0; t < s->batch * s->heads * splits; t++) {
    const idx q0 = t % splits * step, q1 = q0 + step < s->queries ? q0 + step : s->queries;
    if (q0 >= q1) continue;
    kernels->attention_forward(s, t / splits / s->heads, t / splits % s->heads, q0, q1, q, k, v, o, lse,
                               pk_at(scratch, type, omp_get_thread_num() * att_thread_scratch(s, 0)));
  }
  return PK_OK;
}

pk_status pk_attention_backward(pk_type type, const pk_attention_shape *s, const void *q, const void *k, const void *v,
                                const void *o, const void *dout, const void *lse, void *dq, void *dk, void *dv,
                                void *scratch) {
  const pk_kernels *kernels = pk_select(type);
  if (!kernels) return PK_BAD_TYPE;
  if (att_bad(s)) return PK_BAD_SHAPE;
  const idx one = att_thread_scratch(s, 1), pairs = s->batch * s->heads;
  void *delta = pk_at(scratch, type, pk_threads() * one);
  const int one_pass = att_one_pass(s);
#pragma omp parallel
  {
    void *mine = pk_at(scratch, type, omp_get_thread_num() * one);
#pragma omp for schedule(static)
    for (idx t = 0; t < pairs; t++) kernels->attention_delta(s, t / s->heads, t % s->heads, o, dout, delta);
    if (one_pass) {
#pragma omp for schedule(static)
      for (idx t = 0; t < pairs; t++)
        kernels->attention_backward(s, t / s->heads, t % s->heads, 0, s->queries, 0, s->keys, 3, q, k, v, dout, lse,
                                    delta, dq, dk, dv, mine);
    } else {
      const idx nq = att_splits(s, s->queries), sq = (s->queries + nq - 1) / (nq ? nq : 1);
      const idx nk = att_splits(s, s->keys), sk = (s->keys + nk - 1) / nk;
#pragma omp for schedule(static)
      for (idx t = 0; t < pairs * nq; t++) {
        const idx q0 = t % nq * sq, q1 = q0 + sq < s->queries ? q0 + sq : s->queries;
        if (q0 < q1)
          kernels->attention_backward(s, t / nq / s->heads, t / nq % s->heads, q0, q1, 0, s->keys, 1, q, k, v, dout, lse,
                                      delta, dq, dk, dv, mine);
      }
#pragma omp for schedule(static)
      for (idx t = 0; t < pairs * nk; t++) {
        const idx k0 = t % nk * sk, k1 = k0 + sk < s->keys ? k0 + sk : s->keys;
        if (k0 < k1)
          kernels->attention_backward(s, t / nk / s->heads, t / nk % s->heads, 0, s->queries, k0, k1, 2, q, k, v, dout,
                                      lse, delta, dq, dk, dv, mine);
      }
    }
  }
  return PK_OK;
}
