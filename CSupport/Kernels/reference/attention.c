#include <math.h>
#include "../include/pk.h"

typedef ptrdiff_t idx;

static int is_visible(const pk_attention_shape *s, idx b, idx query, idx key) {
  if (s->key_counts && key >= s->key_counts[b]) return 0;
  return s->causal_block <= 0 || key / s->causal_block <= query / s->query_block;
}

static double inner(idx n, const double *x, const double *y) {
  double sum = 0;
  for (idx i = 0; i < n; i++) sum += x[i] * y[i];
  return sum;
}

/* The row of head h of token i of sample b, in an array with strides ld and bs. */
#define ROW(x, i, ld, bs) ((x) + b * (bs) + (i) * (ld) + h * s->head_dim)

/* log of the sum of exp(scale <q, k>) over the visible keys. */
static double log_sum_exp(const pk_attention_shape *s, idx b, idx h, idx query, const double *q,
                          const double *k) {
  const double *row = ROW(q, query, s->ldq, s->bq);
  double top = -INFINITY, sum = 0;
  for (idx j = 0; j < s->keys; j++)
    if (is_visible(s, b, query, j))
      top = fmax(top, s->scale * inner(s->head_dim, row, ROW(k, j, s->ldk, s->bk)));
  for (idx j = 0; j < s->keys; j++)
    if (is_visible(s, b, query, j))
      sum += exp(s->scale * inner(s->head_dim, row, ROW(k, j, s->ldk, s->bk)) - top);
  return top + log(sum);
}

void pk_reference_attention_forward(const pk_attention_shape *s, const double *q, const double *k,
                                    const double *v, double *o, double *lse) {
  for (idx b = 0; b < s->batch; b++)
    for (idx h = 0; h < s->heads; h++)
      for (idx i = 0; i < s->queries; i++) {
        const double l = log_sum_exp(s, b, h, i, q, k);
        double *out = ROW(o, i, s->ldo, s->bo);
        lse[(b * s->heads + h) * s->queries + i] = l;
        for (idx d = 0; d < s->head_dim; d++) out[d] = 0;
        for (idx j = 0; j < s->keys; j++) {
          if (!is_visible(s, b, i, j)) continue;
          const double *key = ROW(k, j, s->ldk, s->bk), *value = ROW(v, j, s->ldv, s->bv);
          const double p = exp(s->scale * inner(s->head_dim, ROW(q, i, s->ldq, s->bq), key) - l);
          for (idx d = 0; d < s->head_dim; d++) out[d] += p * value[d];
        }
      }
}

/* With A = softmax(S), S = scale q k^T, o = A v: dA = do v^T, dS = A (dA - sum_j A dA), dq = scale
 * dS k, dk = scale dS^T q, dv = A^T do. */
void pk_reference_attention_backward(const pk_attention_shape *s, const double *q, const double *k,
                                     const double *v, const double *dout, double *dq, double *dk,
                                     double *dv) {
  const idx n = s->head_dim;
  for (idx b = 0; b < s->batch; b++)
    for (idx h = 0; h < s->heads; h++) {
      for (idx i = 0; i < s->queries; i++)
        for (idx d = 0; d < n; d++) ROW(dq, i, s->ldq, s->bq)[d] = 0;
      for (idx j = 0; j < s->keys; j++)
        for (idx d = 0; d < n; d++) ROW(dk, j, s->ldk, s->bk)[d] = ROW(dv, j, s->ldv, s->bv)[d] = 0;
      for (idx i = 0; i < s->queries; i++) {
        const double *query = ROW(q, i, s->ldq, s->bq), *g = ROW(dout, i, s->ldo, s->bo);
        const double l = log_sum_exp(s, b, h, i, q, k);
        double mean = 0;
        for (int pass = 0; pass < 2; pass++)
          for (idx j = 0; j < s->keys; j++) {
            if (!is_visible(s, b, i, j)) continue;
            const double *key = ROW(k, j, s->ldk, s->bk);
            const double a = exp(s->scale * inner(n, query, key) - l),
                         da = inner(n, g, ROW(v, j, s->ldv, s->bv));
            if (pass == 0) {
              mean += a * da;
              continue;
            }
            const double ds = a * (da - mean);
            for (idx d = 0; d < n; d++) {
              ROW(dq, i, s->ldq, s->bq)[d] += s->scale * ds * key[d];
              ROW(dk, j, s->ldk, s->bk)[d] += s->scale * ds * query[d];
              ROW(dv, j, s->ldv, s->bv)[d] += a * g[d];
            }
          }
      }
    }
}
