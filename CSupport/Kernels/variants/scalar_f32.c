#include "tables.h"
#include "../isa/vec_scalar.h"
#define PK_TABLE pk_scalar_f32
#include "variant.inc"
