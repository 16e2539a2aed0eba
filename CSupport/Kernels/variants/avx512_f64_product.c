#include "tables.h"
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#define F64_MR 12
#define F64_VECTORS 2
#define F64_FMA __builtin_elementwise_fma
#define F64_NAME pk_avx512_f64_product
#include "../gemm/f64_sums_body.inc"
#pragma clang attribute pop
#endif
