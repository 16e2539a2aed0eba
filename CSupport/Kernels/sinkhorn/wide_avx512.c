#include "wide.h"
#if defined(__x86_64__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#define WIDE_ISA(name) name##_avx512
#define WIDE_TABLE_(bits) wide_avx512_f##bits
#define WIDE_TABLE(bits) WIDE_TABLE_(bits)
#define WIDE_FUSED 1
#define WIDE_TILE_ROWS 8
#define WIDE_TILE_VECTORS 2
#include "wide_body.inc"
#pragma clang attribute pop
#endif
