/* Products on AMX's tiles against sums in double, for tools/sanitize: with -DPK_AMX_EMULATED the
 * tiles are plain C, so that packing, ragged tiles and last steps are tested on any processor with
 * AVX512-BF16. Operands are bf16 numbers, so that only the order of f32 sums is left; scratch
 * starts as NaN. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pk.h"

static float number(void) { /* a bf16 number in [-1, 1] */
  float x = (float)(rand() % 2001) / 1000 - 1;
  uint32_t bits;
  memcpy(&bits, &x, 4);
  bits &= 0xffff0000u;
  memcpy(&x, &bits, 4);
  return x;
}

static float *numbers(ptrdiff_t n) {
  float *x = malloc((size_t)n * sizeof *x);
  for (ptrdiff_t i = 0; i < n; i++) x[i] = number();
  return x;
}

/* A's rows along k, transposed, or with gaps both ways; B's along n or along k; alone or added with
 * a factor. */
static int product(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, int a_way, int b_way, int adds) {
  const pk_gemm_shape s = {m,
                           n,
                           k,
                           a_way == 1   ? 1
                           : a_way == 2 ? 2 * k + 1
                                        : k,
                           a_way == 1   ? m
                           : a_way == 2 ? 2
                                        : 1,
                           b_way ? 1 : n,
                           b_way ? k : 1,
                           n,
                           1,
                           adds ? -0.5 : 1,
                           adds};
  float *a = numbers((m - 1) * s.rsa + (k - 1) * s.csa + 1), *b = numbers(n * k),
        *c = numbers(m * n), *before = malloc((size_t)(m * n) * sizeof *before);
  const ptrdiff_t area = pk_gemm_scratch(&s);
  float *scratch = malloc((size_t)area * sizeof *scratch);
  memcpy(before, c, (size_t)(m * n) * sizeof *c),
      memset(scratch, 0xff, (size_t)area * sizeof *scratch);
  int bad = pk_gemm(PK_F32, &s, a, b, c, scratch) != PK_OK;
  for (int t = 0; t < 300 && !bad; t++) {
    const ptrdiff_t i = t ? rand() % m : m - 1, j = t ? rand() % n : n - 1;
    double sum = 0;
    for (ptrdiff_t p = 0; p < k; p++)
      sum += (double)a[i * s.rsa + p * s.csa] * (double)b[p * s.rsb + j * s.csb];
    sum = s.alpha * sum + s.beta * (double)before[i * n + j];
    bad = !(fabs(sum - (double)c[i * n + j]) <= 2e-6 * sqrt((double)k));
  }
  if (bad)
    fprintf(stderr, "amx: %td x %td x %td, A %d, B %d, adding %d: wrong\n", m, n, k, a_way, b_way,
            adds);
  free(a), free(b), free(c), free(before), free(scratch);
  return bad;
}

int main(void) {
  pk_compute_type_set(PK_BF16);
  if (pk_compute_type() != PK_BF16 || !pk_isa_has_amx()) {
    fprintf(stderr, "amx: this processor has no AVX512-BF16, skipped\n");
    return 0;
  }
  static const ptrdiff_t sizes[][3] = {{1, 1, 1},      {5, 70, 33},    {13, 33, 385},
                                       {16, 16, 31},   {17, 16, 32},   {33, 17, 769},
                                       {40, 300, 88},  {97, 130, 401}, {300, 140, 30},
                                       {50, 64, 2048}, {2500, 20, 40}, {600, 800, 20}};
  int bad = 0;
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int way = 0; way < 12; way++)
      bad |= product(sizes[i][0], sizes[i][1], sizes[i][2], way % 3, way / 3 % 2, way / 6);
  return bad;
}
