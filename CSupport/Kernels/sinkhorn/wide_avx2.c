#include "wide.h"
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define WIDE_ISA(name) name##_avx2
#define WIDE_TABLE_(bits) wide_avx2_f##bits
#define WIDE_TABLE(bits) WIDE_TABLE_(bits)
#define WIDE_FUSED 1
#define WIDE_TILE_ROWS 4
#define WIDE_TILE_VECTORS 1
#include "wide_body.inc"
#pragma clang attribute pop
#endif
