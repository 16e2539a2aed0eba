#include "tables.h"

/* The tables of f32, by instruction set. */
#define PK_F32_TABLE(ENUM, symbol) [PK_ISA_##ENUM] = &pk_##symbol##_f32,
static const pk_kernels *const f32_tables[] = {PK_EACH_ISA(PK_F32_TABLE)};

#define PK_F64_PRODUCT(ENUM, symbol) [PK_ISA_##ENUM] = &pk_##symbol##_f64_product,
static const pk_f64_product_kernel *const f64_products[] = {PK_EACH_ISA(PK_F64_PRODUCT)};

const pk_kernels *pk_select(pk_type type) {
  if (type == PK_F64) return &pk_scalar_f64;
  return type == PK_F32 ? f32_tables[pk_isa_current()] : NULL;
}

const pk_f64_product_kernel *pk_f64_product(void) { return f64_products[pk_isa_current()]; }

static pk_type compute_type = PK_F32;

void pk_compute_type_set(pk_type type) { compute_type = type == PK_BF16 ? PK_BF16 : PK_F32; }

/* bf16 needs AVX512-BF16: where the limit is lower, products are f32. */
pk_type pk_compute_type(void) {
  return compute_type == PK_BF16 && pk_isa_current() == PK_ISA_AVX512 && pk_isa_has_bf16() ? PK_BF16
                                                                                           : PK_F32;
}

const pk_bf16_kernels *pk_bf16(pk_type type) {
#if defined(__x86_64__)
  if (type == PK_F32 && pk_compute_type() == PK_BF16 && !pk_isa_has_amx()) return &pk_avx512_bf16;
#endif
  (void)type;
  return NULL;
}

const pk_gemm_kernel *pk_gemm_kernel_f32(void) {
#if defined(__x86_64__)
  if (pk_compute_type() == PK_BF16) return pk_isa_has_amx() ? &pk_amx_bf16 : &pk_avx512_bf16.gemm;
#endif
  return &pk_select(PK_F32)->gemm;
}
