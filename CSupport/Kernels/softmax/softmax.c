#include "../isa/kernels.h"

pk_status pk_softmax_forward(pk_type type, idx rows, idx columns, double scale, const void *x,
                             const void *bias, idx bias_rows, idx bias_repeat, void *y) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (bias && (bias_rows < 1 || bias_repeat < 1)) return PK_BAD_SHAPE;
#pragma omp parallel for schedule(static) if (rows * columns > PK_SERIAL)
  for (idx r = 0; r < rows; r++)
    k->softmax_row(columns, scale, pk_at(x, type, r * columns),
                   bias ? pk_at(bias, type, r / bias_repeat % bias_rows * columns) : NULL,
                   pk_at(y, type, r * columns));
  return PK_OK;
}

pk_status pk_softmax_backward(pk_type type, idx rows, idx columns, const void *dy, const void *y,
                              void *ds) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
#pragma omp parallel for schedule(static) if (rows * columns > PK_SERIAL)
  for (idx r = 0; r < rows; r++)
    k->softmax_backward_row(columns, pk_at(dy, type, r * columns), pk_at(y, type, r * columns),
                            pk_at(ds, type, r * columns));
  return PK_OK;
}
