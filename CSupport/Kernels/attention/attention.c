#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"
#include "../isa/work_stealing.h"

#define MAX_LANES 32
#define MAX_MR 12

/* Elements of scratch for one thread, whatever the table. */
static idx thread_scratch(const pk_attention_shape *s, int backward) {
  const idx dim = s->head_dim, deep = dim + MAX_MR, wide = ROUND_UP(dim, MAX_LANES),
            span = ROUND_UP(s->keys, ATT_KEYS), group = ATT_GROUP * MAX_LANES;
  if (!backward)
    return span * (dim + deep) + group * (dim + deep + 2) + (ATT_KEYS + 1) * MAX_LANES + 64;
  return span * (2 * dim + deep) + group * (2 * dim + 2 * wide + deep) +
         (1 + 2 * ATT_GROUP) * ATT_KEYS * MAX_LANES + 64;
}

ptrdiff_t pk_attention_scratch(const pk_attention_shape *s, int backward) {
  return pk_threads() * ROUND_UP(thread_scratch(s, backward), 16) +
         (backward ? s->batch * s->heads * s->queries : 0);
}

static int att_bad(const pk_attention_shape *s) {
  if (s->batch < 0 || s->heads < 1 || s->queries < 0 || s->keys < 1 || s->head_dim < 1 ||
      !(s->scale > 0) || (s->causal_block > 0 && s->query_block < 1))
    return 1;
  for (idx b = 0; s->key_counts && b < s->batch; b++)
    if (s->key_counts[b] < 1 || s->key_counts[b] > s->keys) return 1;
  return 0;
}

static double work_of(const pk_attention_shape *s) {
  return (double)(s->batch * s->heads * s->queries) * (double)(s->keys * s->head_dim);
}

pk_status pk_attention_forward(pk_type type, const pk_attention_shape *s, const void *q,
                               const void *k, const void *v, void *o, void *lse, void *scratch) {
  const pk_kernels *kernels = pk_select(type);
  if (!kernels) return PK_BAD_TYPE;
  if (att_bad(s)) return PK_BAD_SHAPE;
  if (s->queries == 0) return PK_OK;
  const pk_bf16_kernels *bf16 = pk_bf16(type);
  const pk_attention_kernels *body = bf16 ? &bf16->attention : &kernels->attention;
  pk_work_range ranges[PK_WORK_RANGES];
#pragma omp parallel if (work_of(s) > PK_SERIAL)
  {
    const idx threads = omp_get_num_threads(), thread = omp_get_thread_num(),
              pairs = s->batch * s->heads;
    /* Panels of queries do not know of each other: where whole groups are too few_groups for the
     * team, single panels are handed out. */
    const idx group = body->lanes * ATT_GROUP,
              few_groups = pairs * ((s->queries + group - 1) / group) < 4 * threads,
              step = few_groups ? body->lanes : group;
    const idx pieces = (s->queries + step - 1) / step;
    void *mine = pk_at(scratch, type, thread * ROUND_UP(thread_scratch(s, 0), 16));
    pk_partition(ranges, pairs * pieces, threads, thread);
#pragma omp barrier
    for (idx t, last = -1; (t = pk_steal(ranges, threads, thread)) >= 0; last = t / pieces) {
      const idx pair = t / pieces, q0 = t % pieces * step;
      body->forward(s, pair / s->heads, pair % s->heads, q0, MIN(q0 + step, s->queries),
                    pair == last, q, k, v, o, lse, mine);
    }
  }
  return PK_OK;
}

pk_status pk_attention_backward(pk_type type, const pk_attention_shape *s, const void *q,
                                const void *k, const void *v, const void *o, const void *dout,
                                const void *lse, void *dq, void *dk, void *dv, void *scratch) {
  const pk_kernels *kernels = pk_select(type);
  if (!kernels) return PK_BAD_TYPE;
  if (att_bad(s)) return PK_BAD_SHAPE;
  const pk_bf16_kernels *bf16 = pk_bf16(type);
  const pk_attention_kernels *body = bf16 ? &bf16->attention : &kernels->attention;
  const idx one = ROUND_UP(thread_scratch(s, 1), 16), pairs = s->batch * s->heads;
  void *delta = pk_at(scratch, type, pk_threads() * one);
  pk_work_range ranges[PK_WORK_RANGES];
#pragma omp parallel if (work_of(s) > PK_SERIAL)
  {
    const idx threads = omp_get_num_threads(), thread = omp_get_thread_num();
    void *mine = pk_at(scratch, type, thread * one);
    pk_partition(ranges, pairs, threads, thread);
#pragma omp for schedule(static)
    for (idx t = 0; t < pairs; t++) body->delta(s, t / s->heads, t % s->heads, o, dout, delta);
    /* dq, dk and dv are made together, five products a pair (sample, head), where that divides well
     * enough among the team; otherwise dq over groups of queries, then dk and dv over blocks of
     * keys, the probabilities computed twice: seven products, shared evenly. The bits are the same.
     */
    if (5 * ROUND_UP(pairs, threads) <= 7 * pairs) {
      for (idx t; (t = pk_steal(ranges, threads, thread)) >= 0;)
        body->backward(s, t / s->heads, t % s->heads, 0, s->queries, 0, s->keys, 3, q, k, v, dout,
                       lse, delta, dq, dk, dv, mine);
    } else {
      const idx group = body->lanes * ATT_GROUP, nq = (s->queries + group - 1) / group,
                nk = (s->keys + ATT_KEYS - 1) / ATT_KEYS;
      for (idx t = pairs * nq * thread / threads, end = pairs * nq * (thread + 1) / threads;
           t < end;) {
        const idx pair = t / nq, upto = MIN(end, (pair + 1) * nq);
        body->backward(s, pair / s->heads, pair % s->heads, t % nq * group,
                       MIN((t % nq + upto - t) * group, s->queries), 0, s->keys, 1, q, k, v, dout,
                       lse, delta, dq, dk, dv, mine);
        t = upto;
      }
      for (idx t = pairs * nk * thread / threads, end = pairs * nk * (thread + 1) / threads;
           t < end;) {
        const idx pair = t / nk, upto = MIN(end, (pair + 1) * nk);
        body->backward(s, pair / s->heads, pair % s->heads, 0, s->queries, t % nk * ATT_KEYS,
                       MIN((t % nk + upto - t) * ATT_KEYS, s->keys), 2, q, k, v, dout, lse, delta,
                       dq, dk, dv, mine);
        t = upto;
      }
    }
  }
  return PK_OK;
}
