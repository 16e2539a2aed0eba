/* Without fused multiply-add, which not every processor has. */
#include "tables.h"
#define F64_MR 3
#define F64_VECTORS 1
#define F64_FMA(a, b, c) ((a) * (b) + (c))
#define F64_NAME pk_scalar_f64_product
#include "../gemm/f64_sums_body.inc"
