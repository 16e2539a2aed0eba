#include "../isa/kernels.h"

const pk_kernels *pk_select(pk_type type) {
  if (type == PK_F64) return &pk_scalar_f64;
  if (type != PK_F32) return NULL;
#if defined(__x86_64__)
  switch (pk_isa_current()) {
  case PK_ISA_AVX512:
    return &pk_avx512_f32;
  case PK_ISA_AVX2:
    return &pk_avx2_f32;
  default:
    break;
  }
#endif
  return &pk_scalar_f32;
}

static pk_type products = PK_F32;

void pk_products_set(pk_type type) { products = type == PK_BF16 ? PK_BF16 : PK_F32; }

pk_type pk_products(void) {
  return products == PK_BF16 && pk_isa_current() == PK_ISA_AVX512 && pk_isa_has_bf16() ? PK_BF16
                                                                                       : PK_F32;
}

const pk_bf16_kernels *pk_bf16(pk_type type) {
#if defined(__x86_64__)
  if (type == PK_F32 && pk_products() == PK_BF16 && !pk_isa_has_amx()) return &pk_avx512_bf16;
#endif
  (void)type;
  return NULL;
}

const pk_product *pk_product_f32(void) {
#if defined(__x86_64__)
  if (pk_products() == PK_BF16) return pk_isa_has_amx() ? &pk_amx_bf16 : &pk_avx512_bf16.product;
#endif
  return &pk_select(PK_F32)->product;
}
