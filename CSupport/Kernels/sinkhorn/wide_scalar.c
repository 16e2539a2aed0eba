#include "wide.h"
#define WIDE_ISA(name) name##_scalar
#define WIDE_TABLE_(bits) wide_scalar_f##bits
#define WIDE_TABLE(bits) WIDE_TABLE_(bits)
#define WIDE_FUSED 0
#define WIDE_TILE_ROWS 2
#define WIDE_TILE_VECTORS 1
#include "wide_body.inc"
