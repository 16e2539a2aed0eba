/* The tables that this folder defines. Drivers do not include this: they call pk_select. */
#ifndef PK_TABLES_H
#define PK_TABLES_H
#include "../isa/instruction_sets.h"
#include "../isa/kernels.h"

#define PK_DECLARE_TABLE(ENUM, symbol) \
  extern const pk_kernels pk_##symbol##_f32; \
  extern const pk_f64_product_kernel pk_##symbol##_f64_product;
PK_EACH_ISA(PK_DECLARE_TABLE)
#undef PK_DECLARE_TABLE
/* The bodies in double, one lane wide: finite differences and f64 tensors run on it. */
extern const pk_kernels pk_scalar_f64;
extern const pk_bf16_kernels pk_avx512_bf16;
/* Products on the tiles of AMX-BF16; B is packed as pk_avx512_bf16 does. */
extern const pk_gemm_kernel pk_amx_bf16;
#endif
