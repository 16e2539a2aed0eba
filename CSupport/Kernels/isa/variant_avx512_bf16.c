/* Products of bf16 pairs with f32 sums: AVX512-BF16 (vdpbf16ps adds two products to each f32 lane). */
#include "kernels.h"
#if defined(__x86_64__)
#include "vec_avx512.h"
#include "math_body.inc"
#include "vec_end.h"
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"))), apply_to = function)
#include "../gemm/product_bf16_body.inc"
#include "../conv/conv_weights_bf16_body.inc"
#include "words_bf16.h"
#include "../attention/attention_body.inc"
#include "../conv/conv_rows_body.inc"
const pk_bf16_kernels pk_avx512_bf16 = {
    {ROWS, COLUMNS, 2, pack_a, pack_b, tile}, {attention_forward_body, attention_delta_body, attention_backward_body, PRODUCT_COLUMNS},
    {conv_lay_body, conv_row_body, conv_fold_row_body, conv_turn_body}, conv_dots, narrow};
#pragma clang attribute pop
#endif
