#include "tables.h"
#if defined(__x86_64__)
#include "../isa/vec_avx2.h"
#define PK_TABLE pk_avx2_f32
#include "variant.inc"
#include "../isa/vec_end.h"
#endif
