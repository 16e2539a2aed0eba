#include "wide.h"
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#define WIDE_TABLE wide_avx2
#include "wide_body.inc"
#pragma clang attribute pop
#endif
