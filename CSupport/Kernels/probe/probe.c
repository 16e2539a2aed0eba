#define _GNU_SOURCE /* sched_getaffinity */
#include <sched.h>
#include "../isa/kernels.h"
#include "../isa/omp_declarations.h"

double pk_probe_fma(idx rounds) {
  const pk_kernels *k = pk_select(PK_F32);
  const pk_bf16_kernels *narrow = pk_bf16(PK_F32);
  double kept = 0, threads = 0;
  const pk_gemm_kernel *gemm = pk_gemm_kernel_f32();
  if (gemm->probe) {
#pragma omp parallel reduction(+ : kept)
    kept += gemm->probe(rounds / 8);
    return kept;
  }
#pragma omp parallel reduction(+ : kept, threads)
  { kept += narrow ? narrow->probe_fma(rounds) : k->probe_fma(rounds), threads += 1; }
  /* The sum is used, so that the loops cannot be left out. */
  return threads * (double)rounds * 12 * (narrow ? 4 : 2) * (double)k->lanes +
         (kept == 0.123 ? 1 : 0);
}

double pk_probe_exp(idx rounds) {
  const pk_kernels *k = pk_select(PK_F32);
  double kept = 0, threads = 0;
#pragma omp parallel reduction(+ : kept, threads)
  { kept += k->probe_exp(rounds), threads += 1; }
  return threads * (double)rounds * 1024 + (kept == 0.123 ? 1 : 0);
}

void pk_probe_triad(idx n, const float *a, const float *b, float *y) {
  const pk_kernels *k = pk_select(PK_F32);
#pragma omp parallel for schedule(static)
  for (idx p = 0; p < PK_BLOCKS; p++)
    k->probe_triad(PK_HI(p, n) - PK_LO(p, n), a + PK_LO(p, n), b + PK_LO(p, n), y + PK_LO(p, n));
}

void pk_probe_barrier(idx rounds) {
#pragma omp parallel
  for (idx r = 0; r < rounds; r++) {
#pragma omp barrier
  }
}

int pk_probe_team(int *processors) {
  cpu_set_t all;
  CPU_ZERO(&all);
  int team = 0;
#pragma omp parallel
  {
    cpu_set_t mine;
    CPU_ZERO(&mine);
    sched_getaffinity(0, sizeof mine, &mine);
#pragma omp critical
    {
      CPU_OR(&all, &all, &mine);
      team++;
    }
  }
  *processors = CPU_COUNT(&all);
  return team;
}
