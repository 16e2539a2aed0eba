#include "../isa/kernels.h"

pk_status pk_rope(pk_type type, idx batch, idx tokens, idx heads, idx dim, idx ld, idx bs,
                  const void *cosines, const void *sines, int direction, void *x) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
  if (dim % 2) return PK_BAD_SHAPE;
#pragma omp parallel for schedule(static) if (batch * tokens * heads * dim > PK_SERIAL)
  for (idx r = 0; r < batch * tokens; r++) {
    void *row = pk_at(x, type, r / tokens * bs + r % tokens * ld);
    k->rope_row(heads, dim, pk_at(cosines, type, r % tokens * (dim / 2)),
                pk_at(sines, type, r % tokens * (dim / 2)), direction, row, row, ld);
  }
  return PK_OK;
}
