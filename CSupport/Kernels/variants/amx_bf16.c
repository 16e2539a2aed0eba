/* Products of bf16 pairs on AMX tiles: 16 x 16 sums in f32 from 16 rows of 16 pairs and 16 pairs of
 * 16 columns at once (TDPBF16PS), four such tiles together. */
#include "../isa/kernels.h"
#if defined(__x86_64__)
#include "../isa/vec_avx512.h"
#include "../isa/vec_end.h"
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16"))), \
    apply_to = function)
#include "../gemm/pack_bf16_body.inc"
#include "../gemm/amx_body.inc"
const pk_product pk_amx_bf16 = {AMX_ROWS, COLUMNS,  2, amx_pack_a, pack_b,
                                NULL,     amx_tile, 1, amx_begin,  amx_end};

double pk_amx_probe(idx rounds) { return amx_probe(rounds); }

#pragma clang attribute pop
#endif
