/* Matrix products of bf16 pairs on AMX tiles (TDPBF16PS): 16 x 16 sums in f32 from 16 rows of 16
 * pairs and 16 pairs of 16 columns at once, four such tiles together. */
#include "tables.h"
#if defined(__x86_64__)
#include "../isa/vec_avx512.h"
#include "../isa/vec_end.h"
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16"))), \
    apply_to = function)
#include "../gemm/pack_bf16_body.inc"
#include "../gemm/amx_body.inc"

const pk_gemm_kernel pk_amx_bf16 = {
    .mr = AMX_ROWS,
    .nr = NR,
    .k_group = 2,
    .pack_a = amx_pack_a,
    .pack_b = pack_b_bf16,
    .pack_b_from_bf16 = pack_b_from_bf16,
    .microkernel = amx_microkernel,
    .row_major_a = 1,
    .begin = amx_begin,
    .end = amx_end,
    .probe = amx_probe,
};
#pragma clang attribute pop
#endif
