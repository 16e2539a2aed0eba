#include "panel_product.h"

panel_product pk_panel_product(const pk_gemm_shape *s, const float *a, const float *b,
                               const float *packed_b, const pk_epilogue *e, float *c,
                               float *scratch) {
  const pk_gemm_kernel *kernel = &pk_select(PK_F32)->gemm;
  return (panel_product){.kernel = kernel,
                         .s = s,
                         .a = a,
                         .b = b,
                         .packed_b = packed_b,
                         .c = c,
                         .scratch = scratch,
                         .epilogue = pk_split_epilogue(e),
                         .tiles = CEIL_DIV(s->m, kernel->mr),
                         .panels = CEIL_DIV(s->n, kernel->nr),
                         .columns = ROUND_UP(s->n, PK_PANEL_COLUMNS),
                         .kc = pk_gemm_kc(s->k)};
}

void pk_multiply_panels(const panel_product *product, idx tile0, idx tile1, idx panel0, idx panel1,
                        idx p, idx kc, const float *a, const float *b,
                        pk_prefetch_stream *prefetch) {
  const pk_gemm_shape *s = product->s;
  const split_epilogue *e = &product->epilogue;
  const idx mr = product->kernel->mr, nr = product->kernel->nr;
  const idx left = panel0 * nr, right = MIN(panel1 * nr, s->n);
  const int is_last = p + kc == s->k;
  for (idx t = tile0; t < tile1; t++, a += pk_tile_size(product->kernel, kc)) {
    const idx i = t * mr, m = MIN(s->m - i, mr);
    for (idx j = left; j < right; j += nr) {
      const idx n = MIN(right - j, nr);
      pk_prefetch_stream operands =
          is_last ? pk_prefetch_epilogue(&e->rest, i, m, j, n) : (pk_prefetch_stream){0};
      operands.then = prefetch;
      product->kernel->microkernel(kc, a, b + (j - left) * kc, s->alpha, p ? 1 : s->beta,
                                   e->bias && is_last ? e->bias + j : NULL,
                                   product->c + i * s->rsc + j, s->rsc, m, n, &operands);
    }
    if (is_last && e->has_rest)
      pk_apply_epilogue(PK_F32, &e->rest, i, m, left, right - left, product->c, s->rsc);
  }
}

pk_prefetch_stream pk_prefetch_tiles(const panel_product *product, idx tile0, idx tile1) {
  const pk_gemm_shape *s = product->s;
  const idx i = tile0 * product->kernel->mr, m = MIN(tile1 * product->kernel->mr, s->m) - i;
  if (m <= 0) return (pk_prefetch_stream){0};
  if (s->csa == 1) return pk_prefetch_rows(product->a + i * s->rsa, m, s->k, s->rsa);
  if (s->rsa == 1) return pk_prefetch_rows(product->a + i, s->k, m, s->csa);
  return (pk_prefetch_stream){0};
}

pk_prefetch_stream pk_prefetch_panels(const panel_product *product, idx panel0, idx panel1, idx k0,
                                      idx k1) {
  const pk_gemm_shape *s = product->s;
  const idx j = panel0 * product->kernel->nr, n = MIN(panel1 * product->kernel->nr, s->n) - j,
            k = k1 - k0, kc = product->kc;
  if (n <= 0) return (pk_prefetch_stream){0};
  if (product->packed_b)
    return pk_prefetch_rows(product->packed_b + k0 * product->columns + j * kc, CEIL_DIV(k, kc),
                            n * kc, product->columns * kc);
  if (s->csb == 1) return pk_prefetch_rows(product->b + k0 * s->rsb + j, k, n, s->rsb);
  if (s->rsb == 1) return pk_prefetch_rows(product->b + j * s->csb + k0, n, k, s->csb);
  return (pk_prefetch_stream){0};
}
