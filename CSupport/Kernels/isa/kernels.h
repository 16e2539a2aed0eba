/* The table that binds each serial kernel body to an instruction set and element type, and the
 * drivers' shared words.
 * One translation unit per variant includes every body, so that everything but the table has
 * internal linkage. */
#ifndef PK_KERNELS_H
#define PK_KERNELS_H
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../include/pk.h"

typedef ptrdiff_t idx;

/* Memory that will be read or written soon: runs of `width` lines, `skip` bytes between them. Tiles
 * ask for it while they multiply (microkernel_body.inc), then for what follows it, and leave here what
 * they came to. */
typedef struct pk_ahead {
  const char *at;
  idx run, width, skip, left; /* lines: of this run still, of a run, and in all */
  struct pk_ahead *then;
} pk_ahead;

static inline pk_ahead pk_ahead_of(const float *rows, idx count, idx columns, idx ld) {
  const idx lines = (columns + 15) / 16;
  return (pk_ahead){(const char *)rows, lines, lines, (ld - 16 * lines) * 4, count * lines, NULL};
}

/* The pieces of a packed product: pack a block of A's rows or a panel of B's columns over at most
 * PK_PRODUCT_K words of k, and multiply a tile. `step` is how many k share one packed word (bf16
 * pairs: 2). bias (a row, or NULL) is added; `ahead` may be NULL. rows_in_place: unpacked_a_body.inc. */
#define PK_PRODUCT_K 384
#define PK_PRODUCT_LD (PK_PRODUCT_K + 16)

typedef struct {
  idx rows, columns, step;
  void (*pack_a)(idx rows, idx k, const void *a, idx rsa, idx csa, void *packed);
  void (*pack_b)(idx columns, idx k, const void *b, idx rsb, idx csb, void *packed);
  void (*rows_in_place)(idx m, idx columns, idx terms, const void *const *rows, idx lda, idx k,
                        const void *const *panels, idx panel, const void *start, idx lds, void *c,
                        idx ldc);
  void (*tile)(idx k, const void *a, const void *b, double alpha, double beta, const void *bias,
               void *c, idx ldc, idx rows, idx columns, pk_ahead *ahead);
  /* A is packed [row][PK_PRODUCT_LD] instead of [word][rows]; columns then come as chunks of 16
   * words */
  int whole_rows;
  /* what a thread does before its first tile and after its last; NULL: nothing */
  void (*begin)(void);
  void (*end)(void);
} pk_product;

/* Attention works on blocks of ATT_KEYS keys and groups of ATT_GROUP panels of `lanes` queries. */
#define ATT_KEYS 96
#define ATT_GROUP 4

typedef struct {
  void (*forward)(const pk_attention_shape *s, idx b, idx h, idx q0, idx q1, int packed,
                  const void *q, const void *k, const void *v, void *o, void *lse, void *scratch);
  void (*delta)(const pk_attention_shape *s, idx b, idx h, const void *o, const void *dout,
                void *delta);
  void (*backward)(const pk_attention_shape *s, idx b, idx h, idx q0, idx q1, idx k0, idx k1,
                   int parts, const void *q, const void *k, const void *v, const void *dout,
                   const void *lse, const void *delta, void *dq, void *dk, void *dv, void *scratch);
  idx lanes;
} pk_attention_kernels;

/* Convolution row by row: conv_pack_body.inc; its products are pk_product's rows_in_place. */
typedef struct {
  void (*lay)(idx channels, idx rows, idx w, const void *x, idx plane, const void *norm, int silu,
              void *out, idx row_words, idx before, idx gap, idx pixels, int replicate);
  void (*fold_row)(idx w, idx side, idx channels, const void *row, void *out, idx ld);
  void (*turn)(idx pixels, idx channels, const void *tile, idx ld, const void *add, void *planes,
               idx plane);
} pk_conv_kernels;

typedef struct {
  void (*gemm)(idx m, idx n, idx k, double alpha, const void *a, idx rsa, idx csa, const void *b,
               idx ldb, int accumulate, void *c, idx ldc, const void *ahead);
  void (*vectors_dots)(idx m, idx rows, idx k, const void *x, idx ldx, const void *w, idx ldw,
                       void *out);
  void (*vectors_sums)(idx m, idx n, idx k, const void *x, idx rsx, idx csx, const void *w, idx ldw,
                       void *sums);
  pk_attention_kernels attention;
  void (*layernorm_forward)(idx r0, idx r1, idx columns, double eps, const void *x,
                            const void *gamma, double plus, const void *beta, void *y, void *mean,
                            void *rstd);
  void (*layernorm_backward)(idx r0, idx r1, idx columns, const void *dy, const void *x, int relu,
                             const void *gamma, double plus, const void *mean, const void *rstd,
                             const void *add, void *dx, void *dgamma, void *dbeta);
  void (*rmsnorm_forward)(idx r0, idx r1, idx columns, double eps, const void *x, idx next_x,
                          const void *gamma, void *y, idx next_y, void *rstd);
  void (*rmsnorm_backward)(idx r0, idx r1, idx columns, const void *dy, idx next_dy, const void *x,
                           idx next_x, const void *gamma, const void *rstd, const void *add,
                           void *dx, void *dgamma);
  void (*moments)(idx n, const void *x, double shift, double *sum, double *sum_squares);
  void (*groupnorm_channel)(idx n, int silu, double mean, double rstd, double gamma, double beta,
                            const void *x, void *y);
  void (*groupnorm_channel_sums)(idx n, int silu, double mean, double rstd, double gamma,
                                 double beta, const void *dy, const void *x, void *g,
                                 double *sum_dy, double *sum_dyn);
  void (*groupnorm_channel_backward)(idx n, double mean, double rstd, double gamma, double m1,
                                     double m2, const void *x, const void *add, void *dx);
  void (*activation_forward)(int f, idx n, const void *x, void *y);
  void (*activation_backward)(int f, idx n, const void *x, const void *dy, void *dx);
  void (*axpby)(idx n, double alpha, const void *x, double beta, void *y);
  void (*multiply)(idx n, const void *x, const void *y, void *z, int accumulate);
  void (*affine_clamp_forward)(idx n, double alpha, double beta, double lo, double hi,
                               const void *x, void *y);
  void (*affine_clamp_backward)(idx n, double alpha, double beta, double lo, double hi,
                                const void *x, const void *dy, void *dx);
  void (*modulate)(idx n, const void *x, const void *scale, const void *shift, void *y);
  void (*gate_forward)(idx n, const void *x, const void *gate, const void *h, void *y);
  void (*gate_backward)(idx r0, idx r1, idx columns, const void *dy, const void *gate,
                        const void *h, void *dh, void *dgate);
  void (*column_sums)(idx rows, idx columns, const void *x, void *sums);
  double (*dot)(idx n, const void *x, const void *y);
  double (*sum_abs_difference)(idx n, const void *x, const void *y);
  void (*rope_row)(idx heads, idx dim, const void *c, const void *s, int direction, const void *x,
                   void *y, idx next);
  void (*softmax_row)(idx n, double scale, const void *x, const void *bias, void *y);
  void (*softmax_backward_row)(idx n, const void *dy, const void *y, void *ds);
  void (*prior_row)(idx n, double eps, const void *a, const void *p, void *y);
  void (*prior_backward_row)(idx n, double eps, const void *a, const void *y, const void *g,
                             void *ds);
  void (*token_plan)(const pk_token_shape *s, idx pair, idx head, const void *attention,
                     const void *semantic, void *plan, void *cost, void *raw, int32_t *iterations,
                     double *delta, double *mass, void *scratch);
  void (*unit_row)(idx d, const void *x, void *y);
  void (*cosine_cost)(idx n, idx m, idx d, idx j0, idx j1, const void *q, const void *k, void *y);
  pk_conv_kernels conv;
  void (*conv_taps)(idx columns, idx depth, idx taps, const void *weight, idx per_column,
                    idx per_source, void *out, idx ld);
  void (*conv_combine)(idx n, idx terms, const void *const *term, const double *factors, void *out);
  void (*conv_transform)(idx tiles, idx channels, const void *row, void *out, idx plane);
  void (*conv_transform_rows)(idx n, const void *const *rows, void *out, idx plane);
  void (*conv_untransform)(idx tiles, idx channels, const void *components, idx plane, idx ld,
                           void *out, void *next, idx pixels);
  void (*conv_dots)(idx rows_o, idx rows_k, idx n, const void *const *dy, const void *const *x,
                    void *lanes);
  void (*conv_fold)(void *lanes, double *sums);
  double (*loss)(int kind, idx n, double c, const void *x, const void *t, const void *w, void *dx);
  double (*normal_sample)(idx n, const void *m, const void *l, const void *e, void *z);
  void (*normal_backward)(idx n, double k, const void *dz, const void *m, const void *l,
                          const void *e, void *dm, void *dl);
  void (*adamw)(idx n, const pk_adamw *o, const void *g, void *p, void *m, void *v, void *average);
  void (*bf16_widen)(idx n, const uint16_t *x, float *y);
  void (*bf16_draw)(idx n, uint32_t first, uint32_t salt, const float *x, uint16_t *y);
  double (*probe_fma)(idx rounds);
  double (*probe_exp)(idx rounds);
  void (*probe_triad)(idx n, const void *a, const void *b, void *y);
  pk_product product;
  idx lanes, tile_rows, tile_columns; /* vector length; extents of a tile of `gemm` */
} pk_kernels;

extern const pk_kernels pk_scalar_f32, pk_avx2_f32, pk_avx512_f32, pk_scalar_f64;

/* What is different when operands are rounded to bf16 (pk_products); a word is two of them. Tiles
 * and lanes are those of avx512_f32. */
typedef struct {
  pk_product product;
  pk_attention_kernels attention;
  pk_conv_kernels conv;
  void (*conv_dots)(idx rows_o, idx rows_k, idx n, const void *const *dy, const void *const *x,
                    void *lanes);
  void (*narrow)(idx n, const float *x, uint16_t *y);
  double (*probe_fma)(idx rounds);
} pk_bf16_kernels;

extern const pk_bf16_kernels pk_avx512_bf16;
/* Those kernels, or NULL when products are f32, the processor has no bf16 arithmetic, or has AMX,
 * beside which its bf16 pairs are slow. */
const pk_bf16_kernels *pk_bf16(pk_type type);
/* Products on the tiles of AMX-BF16, with the packed B of pk_avx512_bf16. */
extern const pk_product pk_amx_bf16;
double pk_amx_probe(idx rounds);
/* The pieces of f32 products as they are asked for: of AMX, of bf16 pairs, or f32's own. */
const pk_product *pk_product_f32(void);

/* The variant for a type, or NULL when the type is not a compute type. */
const pk_kernels *pk_select(pk_type type);

static inline idx pk_size(pk_type t) { return t == PK_F64 ? 8 : t == PK_F32 ? 4 : 2; }

static inline void *pk_at(const void *p, pk_type t, idx i) { return (char *)p + i * pk_size(t); }

/* Element i of an array of either compute type. */
static inline double pk_read(const void *p, pk_type t, idx i) {
  return t == PK_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

static inline void pk_write(void *p, pk_type t, idx i, double v) {
  if (t == PK_F64)
    ((double *)p)[i] = v;
  else
    ((float *)p)[i] = (float)v;
}

/* Fixed partition of n items into PK_BLOCKS pieces: piece b is [lo, hi). */
#define PK_BLOCKS 64
#define PK_LO(b, n) ((n) * (b) / PK_BLOCKS)
#define PK_HI(b, n) ((n) * ((b) + 1) / PK_BLOCKS)

/* Sums over the rows of a group: so many fixed blocks of them sum their own and are folded in
 * order, no more than one for every sixteen rows begun. */
static inline idx pk_row_blocks(idx groups, idx rows) {
  const idx most = (rows + 15) / 16, each = PK_BLOCKS / groups;
  return each < 1 ? 1 : each < most ? each : most;
}

/* Below this many element operations a region costs more than it saves (about 5 us of one core). */
#define PK_SERIAL 16384
/* Rows of the weight-gradient tile of conv: output channels x (input channel, tap). */
#define PK_DOT_O 4
#define PK_DOT_K 6
#endif
