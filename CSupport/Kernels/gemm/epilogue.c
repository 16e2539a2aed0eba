#include "epilogue.h"

void pk_apply_epilogue(pk_type type, const pk_epilogue *e, idx row, idx rows, idx column,
                       idx columns, void *c, idx ldc) {
  const pk_kernels *k = pk_select(type);
  for (idx r = row; r < row + rows; r++) {
    void *y = pk_at(c, type, r * ldc + column);
    if (e->bias) k->axpby(columns, 1, pk_at(e->bias, type, column), 1, y);
    if (e->active)
      k->activation_forward((int)e->f, columns, y,
                            pk_at(e->active, type, r * e->ldactive + column));
    if (e->before)
      k->activation_backward((int)e->f, columns, pk_at(e->before, type, r * e->ldbefore + column),
                             y, y);
  }
}
