#include "vector_kernels.h"
#if defined(__x86_64__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#define VECTOR_ISA(name) name##_avx512
#define VECTOR_TABLE_(bits) vector_kernels_avx512_f##bits
#define VECTOR_TABLE(bits) VECTOR_TABLE_(bits)
#define VECTOR_FUSED 1
#define TILE_ROWS 8
#define TILE_VECTORS 2
#include "vector_kernels.inc"
#pragma clang attribute pop
#endif
