#include <blis.h>
#include "gemm_algorithms.h"

/* BLIS (Van Zee and van de Geijn 2015) computes tiles of C on one thread each, under our team. It
 * serves f64 and the products of f32 whose rows of C are not contiguous. */

/* The kernel set in use, once BLIS is initialised. */
static const char *kernel_set;

/* BLIS reads BLIS_ARCH_TYPE once, at its first call. Debian's 0.9.0 takes numbers and does not know
 * newer processors: by itself it would choose `generic`, five times slower. A number that the user
 * exported wins. */
static void initialise(void) {
  if (kernel_set) return;
  setenv("BLIS_ARCH_TYPE", pk_blis_arch(), 0);
  bli_init();
  kernel_set = bli_arch_string(bli_arch_query_id());
}

const char *pk_blis_version(void) { return bli_info_get_version_str(); }

const char *pk_blis_kernels(void) {
  initialise();
  return kernel_set;
}

/* n in `parts` equal parts, a multiple of `unit`, at most `most`. */
static idx tile_extent(idx n, idx parts, idx unit, idx most) {
  const idx t = ROUND_UP(CEIL_DIV(n, parts), unit);
  return MIN(MAX(t, unit), most);
}

static void multiply_tile(pk_type type, const pk_gemm_shape *s, idx m, idx n, const void *a,
                          const void *b, void *c) {
  if (type == PK_F32) {
    float alpha = (float)s->alpha, beta = (float)s->beta;
    bli_sgemm(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, m, n, s->k, &alpha, (float *)a, s->rsa, s->csa,
              (float *)b, s->rsb, s->csb, &beta, c, s->rsc, s->csc);
  } else {
    double alpha = s->alpha, beta = s->beta;
    bli_dgemm(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, m, n, s->k, &alpha, (double *)a, s->rsa, s->csa,
              (double *)b, s->rsb, s->csb, &beta, c, s->rsc, s->csc);
  }
}

/* The tiles follow from the shape alone: about 16 of them, at most 512 x 768, whose packing costs a
 * few per cent of the product. Below 4e6 operations there is one. */
void pk_gemm_blis(pk_type type, const pk_gemm_shape *s, const void *a, const void *b, void *c) {
  initialise();
  idx tm = s->m, tn = s->n;
  if (pk_gemm_flops(s) > 4e6) {
    const idx parts_m = s->m >= 4 * s->n ? 16 : s->n >= 4 * s->m ? 1 : 4, parts_n = 16 / parts_m;
    tm = tile_extent(s->m, parts_m, 32, 512);
    tn = tile_extent(s->n, parts_n, 64, 768);
  }
  const idx rows = CEIL_DIV(s->m, tm), columns = CEIL_DIV(s->n, tn);
#pragma omp parallel for schedule(static) if (rows * columns > 1)
  for (idx t = 0; t < rows * columns; t++) {
    const idx i = t / columns * tm, j = t % columns * tn;
    multiply_tile(type, s, MIN(s->m - i, tm), MIN(s->n - j, tn), pk_at(a, type, i * s->rsa),
                  pk_at(b, type, j * s->csb), pk_at(c, type, i * s->rsc + j * s->csc));
  }
}
