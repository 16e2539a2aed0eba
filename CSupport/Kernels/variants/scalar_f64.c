#include "tables.h"
#define PK_REAL_DOUBLE
#include "../isa/vec_scalar.h"
#define PK_TABLE pk_scalar_f64
#include "variant.inc"
