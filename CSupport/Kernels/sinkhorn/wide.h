/* Eight doubles at a time, in the compiler's own vectors and without fused multiply-add: the same bits on every instruction set. */
#ifndef PK_WIDE_H
#define PK_WIDE_H
#include "../isa/kernels.h"
typedef enum { WIDE_HARD, WIDE_RELAXED, WIDE_CAPPED, WIDE_LINEAR } wide_rule;
/* What a pass does with the sum s_i = zeta <K_i, beta> of row i:
 *   hard     alpha = p_i / s;   relaxed  alpha = exp(p_i - phi log s);   capped  alpha = min(q_i, p_i / s)
 *   linear   alpha = (s + p_i) q_i
 * then acc += alpha K_i. change gathers s |new - old alpha|, mass s old alpha. q_i < 0 in the first two marks a row of weight 0. */
typedef struct {
  wide_rule rule;
  idx ld;
  double phi, zeta;
  const double *p, *q, *beta;
  double *alpha;
} wide_pass;
typedef struct {
  void (*pass)(const wide_pass *w, idx r0, idx r1, const double *k, double *acc, double *change, double *mass);
  double (*row_lse)(idx ld, const double *c, double s, const double *g);
  void (*column_lse)(idx n, idx ld, const double *c, double s, const double *f, idx j0, idx j1, double *out);
  double (*build_row)(idx ld, const double *c, double s, double f, const double *g, double *out);
  /* sums of one row p, and of p c. */
  void (*dots)(idx ld, const double *p, const double *c, double *sums);
  /* out[j] = |x - y_j|, y [m, d]. */
  void (*distances)(idx m, idx d, const double *x, const double *y, double *out);
} wide_kernels;
extern const wide_kernels wide_scalar, wide_avx2, wide_avx512;
#endif
