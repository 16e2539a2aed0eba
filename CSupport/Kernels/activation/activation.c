#include "../isa/kernels.h"

#define ACT_CHUNK 2048

pk_status pk_activation_forward(pk_type type, pk_activation f, idx n, const void *x, void *y) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
#pragma omp parallel for schedule(static) if (n > PK_SERIAL / 2)
  for (idx j = 0; j < n; j += ACT_CHUNK)
    k->activation_forward((int)f, n - j < ACT_CHUNK ? n - j : ACT_CHUNK, pk_at(x, type, j),
                          pk_at(y, type, j));
  return PK_OK;
}

pk_status pk_activation_backward(pk_type type, pk_activation f, idx n, const void *x,
                                 const void *dy, void *dx) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
#pragma omp parallel for schedule(static) if (n > PK_SERIAL / 2)
  for (idx j = 0; j < n; j += ACT_CHUNK)
    k->activation_backward((int)f, n - j < ACT_CHUNK ? n - j : ACT_CHUNK, pk_at(x, type, j),
                           pk_at(dy, type, j), pk_at(dx, type, j));
  return PK_OK;
}

pk_status pk_gated_forward(pk_type type, pk_activation f, idx rows, idx columns, const void *x,
                           void *y) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
#pragma omp parallel for schedule(static) if (rows * columns > PK_SERIAL / 2)
  for (idx r = 0; r < rows; r++)
    k->gated_forward((int)f, columns, pk_at(x, type, 2 * r * columns),
                     pk_at(x, type, (2 * r + 1) * columns), pk_at(y, type, r * columns));
  return PK_OK;
}

pk_status pk_gated_backward(pk_type type, pk_activation f, idx rows, idx columns, const void *x,
                            const void *dy, void *dx) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
#pragma omp parallel for schedule(static) if (rows * columns > PK_SERIAL / 2)
  for (idx r = 0; r < rows; r++)
    k->gated_backward((int)f, columns, pk_at(x, type, 2 * r * columns),
                      pk_at(x, type, (2 * r + 1) * columns), pk_at(dy, type, r * columns),
                      pk_at(dx, type, 2 * r * columns), pk_at(dx, type, (2 * r + 1) * columns));
  return PK_OK;
}
