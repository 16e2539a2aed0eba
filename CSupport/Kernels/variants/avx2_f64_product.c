#include "tables.h"
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define F64_MR 6
#define F64_VECTORS 1
#define F64_FMA __builtin_elementwise_fma
#define F64_NAME pk_avx2_f64_product
#include "../gemm/f64_sums_body.inc"
#pragma clang attribute pop
#endif
