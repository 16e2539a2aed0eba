/* Products of bf16 pairs with f32 sums: AVX512-BF16 (vdpbf16ps adds two products to each f32 lane).
 */
#include "../isa/kernels.h"
#if defined(__x86_64__)
#include "../isa/vec_avx512.h"
#include "../isa/math_body.inc"
#include "../isa/vec_end.h"
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"))), apply_to = function)
#include "../gemm/pack_a_bf16_body.inc"
#include "../conv/conv_weights_bf16_body.inc"
#include "../isa/packed_bf16.h"
#include "../gemm/microkernel_body.inc"
#include "../gemm/unpacked_a_body.inc"
#include "../attention/attention_body.inc"
#include "../conv/conv_pack_body.inc"

/* As probe_fma_body, with pairs. */
static double probe_fma_words(idx rounds) {
  V a[12];
  const __m512i x = _mm512_set1_epi32(0x3c003c00), y = _mm512_set1_epi32(0x3c803c80);
  for (int i = 0; i < 12; i++) a[i] = v_set((float)i);
  for (idx r = 0; r < rounds; r++)
    for (int i = 0; i < 12; i++) a[i] = w_dot(x, y, a[i]);
  V s = a[0];
  for (int i = 1; i < 12; i++) s = v_add(s, a[i]);
  return (double)v_sum(s);
}

const pk_bf16_kernels pk_avx512_bf16 = {
    {ROWS, COLUMNS, STEP, pack_a, pack_b, row_body, product_tile_body, 0, NULL, NULL},
    {attention_forward_body, attention_delta_body, attention_backward_body, PRODUCT_COLUMNS},
    {conv_lay_body, conv_fold_row_body, conv_turn_body},
    conv_dots,
    narrow,
    probe_fma_words};
#pragma clang attribute pop
#endif
