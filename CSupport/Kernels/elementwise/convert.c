#include "../isa/kernels.h"
#include "stored_float.h"

static uint16_t to_bf16(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40); /* keep NaN a NaN */
  return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

static uint16_t to_f16(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  const uint32_t sign = (u >> 16) & 0x8000, a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00);
  if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* rounds to 65536 or more */
  /* subnormal: adding 1/2 aligns the digits of 2^-24 */
  if (a < 0x38800000u) {
    float x;
    memcpy(&x, &a, 4);
    x += 0.5f;
    uint32_t r;
    memcpy(&r, &x, 4);
    return (uint16_t)(sign | (r - 0x3f000000u));
  }
  return (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + ((a >> 13) & 1)) >> 13));
}

pk_status pk_convert(idx n, pk_type from, const void *x, pk_type to, void *y) {
  if (from == to) {
    memcpy(y, x, (size_t)(n * pk_size(from)));
    return PK_OK;
  }
#pragma omp parallel for schedule(static) if (n > 4 * PK_SERIAL)
  for (idx b = 0; b < PK_BLOCKS; b++) {
    const idx lo = PK_LO(b, n), hi = PK_HI(b, n);
#define EACH(READ) \
  switch (to) { \
  case PK_F32: \
    for (idx i = lo; i < hi; i++) ((float *)y)[i] = (float)(READ); \
    break; \
  case PK_F64: \
    for (idx i = lo; i < hi; i++) ((double *)y)[i] = (double)(READ); \
    break; \
  case PK_BF16: \
    for (idx i = lo; i < hi; i++) ((uint16_t *)y)[i] = to_bf16((float)(READ)); \
    break; \
  case PK_F16: \
    for (idx i = lo; i < hi; i++) ((uint16_t *)y)[i] = to_f16((float)(READ)); \
    break; \
  }
    switch (from) {
    case PK_F32:
      EACH(((const float *)x)[i]) break;
    case PK_F64:
      EACH(((const double *)x)[i]) break;
    case PK_BF16:
      EACH(pk_from_bf16(((const uint16_t *)x)[i])) break;
    case PK_F16:
      EACH(pk_from_f16(((const uint16_t *)x)[i])) break;
    }
  }
  return PK_OK;
}
