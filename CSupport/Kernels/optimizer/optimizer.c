#include "../isa/kernels.h"
#define RUN 4096

pk_status pk_adamw_step(pk_type type, idx n, const pk_adamw *o, const void *g, void *p, void *m,
                        void *v, void *average) {
  const pk_kernels *k = pk_select(type);
  if (!k || (o->bf16_moments && type != PK_F32)) return PK_BAD_TYPE;
#pragma omp parallel for schedule(static) if (n > PK_SERIAL)
  for (idx j = 0; j < n; j += RUN) {
    const idx count = n - j < RUN ? n - j : RUN;
    void *mean = average ? pk_at(average, type, j) : NULL;
    if (!o->bf16_moments) {
      k->adamw(count, o, pk_at(g, type, j), pk_at(p, type, j), pk_at(m, type, j), pk_at(v, type, j),
               mean);
      continue;
    }
    float first[RUN], second[RUN];
    uint16_t *m16 = (uint16_t *)m + j, *v16 = (uint16_t *)v + j;
    k->widen(PK_BF16, count, m16, 1, first), k->widen(PK_BF16, count, v16, 1, second);
    k->adamw(count, o, pk_at(g, type, j), pk_at(p, type, j), first, second, mean);
    const uint32_t element = o->first + (uint32_t)j;
    k->bf16_round_stochastic(count, element, o->salt, first, m16);
    k->bf16_round_stochastic(count, element, ~o->salt, second, v16);
  }
  return PK_OK;
}
