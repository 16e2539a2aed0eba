/* Operands of products, attention and convolutions rounded to bf16, sums in f32: AVX512-BF16, whose
 * vdpbf16ps adds two products to each f32 lane. */
#include "tables.h"
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

/* As probe_fma_body, with pairs of bf16: 0x3c00 is 2^-7, 0x3c80 is 2^-6. */
static double probe_fma_bf16(idx rounds) {
  V a[12];
  const __m512i x = _mm512_set1_epi32(0x3c003c00), y = _mm512_set1_epi32(0x3c803c80);
  for (int i = 0; i < 12; i++) a[i] = v_set((float)i);
  for (idx r = 0; r < rounds; r++)
    for (int i = 0; i < 12; i++) a[i] = p_dot(x, y, a[i]);
  V s = a[0];
  for (int i = 1; i < 12; i++) s = v_add(s, a[i]);
  return (double)v_sum(s);
}

const pk_bf16_kernels pk_avx512_bf16 = {
    .gemm = {.mr = MR,
             .nr = NR,
             .k_group = K_GROUP,
             .pack_a = pack_a_bf16,
             .pack_b = pack_b_bf16,
             .pack_b_from_bf16 = pack_b_from_bf16,
             .unpacked_a = gemm_unpacked_a_body,
             .microkernel = microkernel_body},
    .attention = {attention_forward_body, attention_delta_body, attention_backward_body, NR},
    .conv = {conv_pack_rows_body, conv_accumulate_edges_body, conv_transpose_body},
    .conv_dots = conv_dots_bf16,
    .convert = bf16_convert,
    .probe_fma = probe_fma_bf16,
};
#pragma clang attribute pop
#endif
