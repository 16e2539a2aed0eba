/* Packing of the operands of a product: what is read along k by every micro-tile is copied once
 * into the order in which it is read. */
#ifndef PK_GEMM_PACK_H
#define PK_GEMM_PACK_H
#include "gemm_algorithms.h"

/* KC: values of k in a K block, whose sum is made in registers before it is added to C. k is cut
 * into equal blocks of at most PK_KC_MAX packed elements. The order of every sum follows from
 * it. */
idx pk_gemm_kc(idx k);

/* n cut into equal parts of at most `most`, rounded up to a multiple of `unit`. */
idx pk_equal_parts(idx n, idx most, idx unit);

/* Micro-tiles [tile0, tile1) of A's rows, kc values of k from p on: each as pack_a makes it,
 * `stride` packed elements apart. */
void pk_pack_a_tiles(const pk_gemm_kernel *kernel, const pk_gemm_shape *s, const float *a,
                     idx tile0, idx tile1, idx p, idx kc, float *packed, idx stride);

/* Panels [panel0, panel1) of B's columns, kc values of k from p on: each as pack_b makes it, one
 * after another. */
void pk_pack_b_panels(const pk_gemm_kernel *kernel, const pk_gemm_shape *s, const float *b,
                      idx panel0, idx panel1, idx p, idx kc, float *packed);

/* One panel of B, all K blocks, at its places in what pk_gemm_pack makes. */
void pk_pack_b_panel(const pk_gemm_shape *s, const float *b, idx panel, float *packed);
#endif
