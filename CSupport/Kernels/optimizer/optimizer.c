#include "../isa/kernels.h"
pk_status pk_adamw_step(pk_type type, idx n, const pk_adamw *o, const void *g, void *p, void *m, void *v, void *average) {
  const pk_kernels *k = pk_select(type);
  if (!k) return PK_BAD_TYPE;
#pragma omp parallel for schedule(static) if (n > PK_SERIAL)
  for (idx j = 0; j < n; j += 4096)
    k->adamw(n - j < 4096 ? n - j : 4096, o, pk_at(g, type, j), pk_at(p, type, j), pk_at(m, type, j), pk_at(v, type, j), average ? pk_at(average, type, j) : NULL);
  return PK_OK;
}
