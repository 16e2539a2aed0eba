#include "vector_kernels.h"
#define VECTOR_ISA(name) name##_scalar
#define VECTOR_TABLE_(bits) vector_kernels_scalar_f##bits
#define VECTOR_TABLE(bits) VECTOR_TABLE_(bits)
#define VECTOR_FUSED 0
#define TILE_ROWS 2
#define TILE_VECTORS 1
#include "vector_kernels.inc"
