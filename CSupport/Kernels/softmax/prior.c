#include "../isa/kernels.h"
#define ROWS \
  const pk_kernels *k = pk_select(type); \
  if (!k) return PK_BAD_TYPE; \
  const idx n = s->columns, total = s->batch * s->heads * s->rows; \
  _Pragma("omp parallel for schedule(static) if (total * n > PK_SERIAL)") for (idx r = 0; \
                                                                               r < total; r++)
#define FUSED (s->fused[r / (s->heads * s->rows) * s->rows + r % s->rows])

pk_status pk_prior_fusion_forward(pk_type type, const pk_prior_shape *s, const void *attention,
                                  const void *prior, void *y) {
  ROWS {
    if (FUSED)
      k->prior_row(n, s->eps, pk_at(attention, type, r * n), pk_at(prior, type, r * n),
                   pk_at(y, type, r * n));
    else
      memcpy(pk_at(y, type, r * n), pk_at(attention, type, r * n), (size_t)(n * pk_size(type)));
  }
  return PK_OK;
}

pk_status pk_prior_fusion_backward(pk_type type, const pk_prior_shape *s, const void *attention,
                                   const void *y, const void *g, void *ds) {
  ROWS {
    if (FUSED)
      k->prior_backward_row(n, s->eps, pk_at(attention, type, r * n), pk_at(y, type, r * n),
                            pk_at(g, type, r * n), pk_at(ds, type, r * n));
    else
      k->softmax_backward_row(n, pk_at(g, type, r * n), pk_at(attention, type, r * n),
                              pk_at(ds, type, r * n));
  }
  return PK_OK;
}
