#include "vector_kernels.h"
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define VECTOR_ISA(name) name##_avx2
#define VECTOR_TABLE_(bits) vector_kernels_avx2_f##bits
#define VECTOR_TABLE(bits) VECTOR_TABLE_(bits)
#define VECTOR_FUSED 1
#define TILE_ROWS 4
#define TILE_VECTORS 1
#include "vector_kernels.inc"
#pragma clang attribute pop
#endif
