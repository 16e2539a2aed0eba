/* The numbers of bf16 and f16 codes: exact, with NaN and infinities. */
#ifndef PK_STORED_FLOAT_H
#define PK_STORED_FLOAT_H
#include <stdint.h>
#include <string.h>

static inline float pk_from_bf16(uint16_t h) {
  const uint32_t u = (uint32_t)h << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}

/* Without a branch, so that loops become vectors. A subnormal's digits are those of an integer
 * times 2^-24. */
static inline float pk_from_f16(uint16_t h) {
  const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h & 0x7c00, digits = h & 0x3ff;
  const float small = (float)(int32_t)digits * 0x1p-24f;
  uint32_t small_bits;
  memcpy(&small_bits, &small, 4);
  const uint32_t wide =
      ((uint32_t)(h & 0x7fff) << 13) + (exponent == 0x7c00 ? 0x70000000u : 0x38000000u);
  const uint32_t bits = sign | (exponent == 0 ? small_bits : wide);
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
#endif
