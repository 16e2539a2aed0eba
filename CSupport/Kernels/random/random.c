#include "../isa/kernels.h"

/* Philox4x32-10 (Salmon et al. 2011, table 2 and figure 4): multipliers, Weyl key increments. */
void pk_philox(uint64_t key, uint64_t high, uint64_t low, uint32_t out[4]) {
  uint32_t c0 = (uint32_t)low, c1 = (uint32_t)(low >> 32), c2 = (uint32_t)high,
           c3 = (uint32_t)(high >> 32);
  uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
  for (int r = 0; r < 10; r++) {
    const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
    const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)p1, c3 = (uint32_t)p0, c0 = n0, c2 = n2;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

double pk_log(double x) { return log(x); }

double pk_cos(double x) { return cos(x); }

static void put(pk_type type, void *y, idx i, double v) {
  if (type == PK_F64)
    ((double *)y)[i] = v;
  else
    ((float *)y)[i] = (float)v;
}

pk_status pk_random_uniform(pk_type type, uint64_t key, uint64_t counter, idx n, void *y) {
  if (type != PK_F32 && type != PK_F64) return PK_BAD_TYPE;
#pragma omp parallel for schedule(static) if (n > PK_SERIAL)
  for (idx q = 0; q < (n + 3) / 4; q++) {
    uint32_t r[4];
    pk_philox(key, counter, (uint64_t)q, r);
    for (idx i = 4 * q; i < n && i < 4 * q + 4; i++)
      put(type, y, i, (double)(r[i - 4 * q] >> 8) * 0x1p-24);
  }
  return PK_OK;
}

pk_status pk_random_normal(pk_type type, uint64_t key, uint64_t counter, idx n, void *y) {
  if (type != PK_F32 && type != PK_F64) return PK_BAD_TYPE;
#pragma omp parallel for schedule(static) if (n > PK_SERIAL / 8)
  for (idx q = 0; q < (n + 3) / 4; q++) {
    uint32_t r[4];
    double z[4];
    pk_philox(key, counter, (uint64_t)q, r);
    for (int h = 0; h < 2; h++) { /* u1 in (0, 1], u2 in [0, 1) */
      const double u1 = ((double)r[2 * h] + 1) * 0x1p-32, u2 = (double)r[2 * h + 1] * 0x1p-32;
      const double radius = sqrt(-2 * log(u1)), angle = 6.28318530717958647692 * u2;
      z[2 * h] = radius * cos(angle), z[2 * h + 1] = radius * sin(angle);
    }
    for (idx i = 4 * q; i < n && i < 4 * q + 4; i++) put(type, y, i, z[i - 4 * q]);
  }
  return PK_OK;
}
