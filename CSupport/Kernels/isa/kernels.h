/* The kernel table: what an instruction set provides, and the contract of every entry.
 *
 * One table per instruction set and element type is made by variants/variant.inc from the bodies
 * (`*_body.inc`), which are written once in the vector words of vec_scalar.h, vec_avx2.h and
 * vec_avx512.h. Drivers (`*.c` in the families' folders) hold loops, blocking and OpenMP regions,
 * and reach the table through pk_select, never by the name of an instruction set.
 *
 * What holds for every entry unless it says otherwise
 *   Elements    `const void *` and `void *` are arrays of the table's element type, contiguous
 *               where no stride is given; strides and sizes are in elements.
 *   Alignment   that of an element. Faster where rows begin at a multiple of 64 bytes.
 *   Extents     nothing outside the stated sizes is read or written. The last vector of a row is
 *               loaded and stored under a mask (v_loadn, v_storen). Prefetches may go anywhere.
 *   Aliasing    none.
 *   Sizes       0 is allowed and does nothing.
 *   Order       a sum has one order, which follows from the sizes alone.
 *   State       none: no allocation, no threads, no environment.
 *
 * "Packed element": what a packed operand of a matrix product is made of. In f32 and f64 it is one
 * value; in bf16 it is a pair of values of neighbouring k. A table says how many values of k share
 * a packed element (`k_group`). packed_real.h and packed_bf16.h define its type and arithmetic. */
#ifndef PK_KERNELS_H
#define PK_KERNELS_H
#include "arrays.h"
#include "prefetch_stream.h"

/* Most packed elements along k that are multiplied before the sum is added to C (KC of Goto and van
 * de Geijn 2008). 384 values of 12 rows and of 32 columns are 18 and 48 KiB: a panel of B lies in
 * L1 or L2 while the tiles of A pass it. Sums depend on it. */
#define PK_KC_MAX 384
/* Packed elements from row to row of a row-major packed A (`row_major_a`): a whole number of cache
 * lines, and not a power of two, so that rows do not evict each other from L1. */
#define PK_ROW_MAJOR_LD (PK_KC_MAX + 16)
/* Columns of C to which packed B is padded, a multiple of every table's nr. */
#define PK_PANEL_COLUMNS 32
/* Packed elements that pack_a may write past the end of a tile: one vector. */
#define PK_PACK_SLACK 16

/* Matrix products whose right operand is packed. C [mr, nr] is a micro-tile, held in registers. */
typedef struct {
  idx mr, nr;  /* rows and columns of a micro-tile; nr divides PK_PANEL_COLUMNS */
  idx k_group; /* values of k in a packed element */
  /* Packs A [rows, k], rows <= mr, with strides rsa and csa, as [k / k_group][mr]. Lanes of missing
   * rows hold anything. Writes at most PK_PACK_SLACK elements past the end. With `row_major_a`:
   * packed as [mr][PK_ROW_MAJOR_LD], missing rows and the rest of 16 elements of k zero. */
  void (*pack_a)(idx rows, idx k, const void *a, idx rsa, idx csa, void *packed);
  /* Packs B [k, columns], columns <= nr, with strides rsb and csb, as [k / k_group][nr]. Missing
   * columns and the second value of an odd last pair are zero. */
  void (*pack_b)(idx columns, idx k, const void *b, idx rsb, idx csb, void *packed);
  /* The same from B in bf16, contiguous along k (rsb == 1) or along columns (csb == 1); NULL where
   * packed elements are not pairs of bf16. */
  void (*pack_b_from_bf16)(idx columns, idx k, const uint16_t *b, idx rsb, idx csb, void *packed);
  /* C = start + sum over t < terms of A[t] B[t], where A is read in place: C [m, columns], rows ldc
   * apart; row i of A[t] is the k packed elements from rows[t] + i * lda; B[t] is panels[t]
   * [panel][k][nr], panels `panel` packed elements apart. `start` has rows lds apart (0: one row
   * for all, a bias; C itself to add to it), or is NULL for zero. C and start are accessed in whole
   * vectors: up to one vector less one element past `columns`. Terms in order, then k in order,
   * into one accumulator per element. NULL where the table has none. */
  void (*unpacked_a)(idx m, idx columns, idx terms, const void *const *rows, idx lda, idx k,
                     const void *const *panels, idx panel, const void *start, idx lds, void *c,
                     idx ldc);
  /* C [rows, columns] = alpha A B + bias + beta C, with `k` values of k in order; A and B as pack_a
   * and pack_b make them; rows <= mr, columns <= nr, rows of C ldc apart. beta == 0 does not read
   * C. bias [columns] or NULL. `prefetch` or NULL is advanced by up to k / 4 lines. */
  void (*microkernel)(idx k, const void *a, const void *b, double alpha, double beta,
                      const void *bias, void *c, idx ldc, idx rows, idx columns,
                      pk_prefetch_stream *prefetch);
  /* pack_a makes [mr][PK_ROW_MAJOR_LD] instead of [k / k_group][mr]; the chunks of k that it is
   * given are then multiples of 16 packed elements, but for the last. */
  int row_major_a;
  /* What a thread does before its first micro-tile and after its last; NULL: nothing. */
  void (*begin)(void);
  void (*end)(void);
  /* Micro-kernel operations in registers alone; returns the floating-point operations done. NULL:
   * probe_fma of the table. */
  double (*probe)(idx rounds);
} pk_gemm_kernel;

/* sums [mr][nr] over k values, in order, of A packed [k][mr] and B packed [k][nr], in f64. */
typedef struct {
  idx mr, nr;
  void (*sums)(idx k, const double *a, const double *b, double *sums);
} pk_f64_product_kernel;

#define PK_F64_MR_MAX 12
#define PK_F64_NR_MAX 16

/* Keys in a block of attention, and panels of `lanes` queries that share a block: a panel of
 * probabilities [96][32] is 12 KiB and stays in L1; sums over queries then run 128 at a time. Sums
 * depend on both. */
#define ATT_KEYS 96
#define ATT_GROUP 4

/* Softmax attention of head h of sample b (pk_attention.h). `scratch` is a thread's part of
 * pk_attention_scratch. */
typedef struct {
  /* Queries [q0, q1), q0 a multiple of `lanes`. `packed`: scratch still holds the packed keys and
   * values of this head from the call before. */
  void (*forward)(const pk_attention_shape *s, idx b, idx h, idx q0, idx q1, int packed,
                  const void *q, const void *k, const void *v, void *o, void *lse, void *scratch);
  /* delta[query] = <dout, o>, all queries of the head; delta [batch, heads, queries]. */
  void (*delta)(const pk_attention_shape *s, idx b, idx h, const void *o, const void *dout,
                void *delta);
  /* parts & 1: dq of queries [q0, q1), from all keys in [k0, k1). parts & 2: dk and dv of keys [k0,
   * k1), from the queries in [q0, q1). q0 is a multiple of ATT_GROUP * lanes and k0 of ATT_KEYS, so
   * that sums have one order however the work is cut. */
  void (*backward)(const pk_attention_shape *s, idx b, idx h, idx q0, idx q1, idx k0, idx k1,
                   int parts, const void *q, const void *k, const void *v, const void *dout,
                   const void *lse, const void *delta, void *dq, void *dk, void *dv, void *scratch);
  idx lanes; /* queries of a panel */
} pk_attention_kernels;

/* Convolution beside its products, which are `unpacked_a` of the gemm kernel. Source rows are
 * packed channels last: [pixel][channels / k_group packed elements]. */
typedef struct {
  /* Packs `rows` rows of w pixels, x [channels][plane] with the rows one after another, as rows of
   * `pixels` pixels `row_elements` packed elements apart: `before` pixels of padding, then a source
   * pixel every `gap` pixels. Padding repeats the edge (`replicate`) or is zero; what lies in gaps
   * is zero. With norm [3, channels] (mean, factor, shift): (x - mean) factor + shift, and SiLU of
   * that with `silu`. Writes at most one vector past the last pixel. */
  void (*pack_rows)(idx channels, idx rows, idx w, const void *x, idx plane, const void *norm,
                    int silu, void *out, idx row_elements, idx before, idx gap, idx pixels,
                    int replicate);
  /* out [w, ld] = row [w + 2 side, ld] without its borders, each border pixel added to the edge
   * pixel it was copied from. `channels` <= ld of a pixel count. */
  void (*accumulate_edges)(idx w, idx side, idx channels, const void *row, void *out, idx ld);
  /* planes[channel * plane + pixel] = tile[pixel * ld + channel] (+ add, shaped as planes, or
   * NULL). tile is read in whole vectors of channels: ld is at least `channels` rounded up. */
  void (*transpose)(idx pixels, idx channels, const void *tile, idx ld, const void *add,
                    void *planes, idx plane);
} pk_conv_kernels;

/* Micro-tile of the weight gradient: output channels x (input channel, tap). 24 accumulators, four
 * vectors of dy and one of x fit the 32 vector registers of AVX-512. */
#define PK_DOT_O 4
#define PK_DOT_K 6

typedef struct {
  /* -- Matrix products (gemm/) -- */
  /* C [m, n] = alpha A B (+ C with `accumulate`), nothing packed: A with strides rsa and csa, rows
   * of B (ldb apart) and C (ldc apart) contiguous. k in order. `prefetch` or NULL is memory wanted
   * next, of which one line is prefetched at every value of k of every tile. */
  void (*gemm_unpacked)(idx m, idx n, idx k, double alpha, const void *a, idx rsa, idx csa,
                        const void *b, idx ldb, int accumulate, void *c, idx ldc,
                        const void *prefetch);
  /* out[i * rows + r] = <x_i, w_r>: x [m <= 4, k] with rows ldx apart, w [rows, k] with rows ldw
   * apart. */
  void (*gemv_dots)(idx m, idx rows, idx k, const void *x, idx ldx, const void *w, idx ldw,
                    void *out);
  /* sums [m, n] = X W: x [m <= 4, k] with strides rsx and csx, w [k, n] with rows ldw apart. Rows
   * of w in order. */
  void (*gemv_sums)(idx m, idx n, idx k, const void *x, idx rsx, idx csx, const void *w, idx ldw,
                    void *sums);
  pk_gemm_kernel gemm;

  /* -- Attention (attention/) -- */
  pk_attention_kernels attention;

  /* -- Norms (norm/): pk_norm.h has the formulas. Rows [r0, r1) of arrays [rows, columns] -- */
  /* The factor is gamma + plus (gamma NULL: 1), the shift beta (NULL: 0). y may be x. */
  void (*layernorm_forward)(idx r0, idx r1, idx columns, double eps, const void *x,
                            const void *gamma, double plus, const void *beta, void *y, void *mean,
                            void *rstd);
  /* dx = gradient + add (NULL: 0); dgamma, dbeta [columns] are added to (NULL: skipped). relu: x is
   * max(h, 0), and dx becomes the gradient of h. dx may be dy. */
  void (*layernorm_backward)(idx r0, idx r1, idx columns, const void *dy, const void *x, int relu,
                             const void *gamma, double plus, const void *mean, const void *rstd,
                             const void *add, void *dx, void *dgamma, void *dbeta);
  /* next_x, next_y: elements from what is read and written now to what will be next, for
   * prefetching. */
  void (*rmsnorm_forward)(idx r0, idx r1, idx columns, double eps, const void *x, idx next_x,
                          const void *gamma, void *y, idx next_y, void *rstd);
  /* As layernorm_backward; next_x is also dx's. dx may be dy. */
  void (*rmsnorm_backward)(idx r0, idx r1, idx columns, const void *dy, idx next_dy, const void *x,
                           idx next_x, const void *gamma, const void *rstd, const void *add,
                           void *dx, void *dgamma);
  /* *sum += sum of x - shift, *sum_squares += sum of (x - shift)^2; runs of 4096 elements are added
   * in double. */
  void (*moments)(idx n, const void *x, double shift, double *sum, double *sum_squares);
  /* One channel of group norm, n contiguous values: y = (x - mean) rstd gamma + beta, and SiLU of
   * that with `silu`. y may be x. */
  void (*groupnorm_channel)(idx n, int silu, double mean, double rstd, double gamma, double beta,
                            const void *x, void *y);
  /* g = gradient of the norm's own output (dy, taken back through SiLU); *sum_dy += sum of g,
   * *sum_dyn += sum of g (x - mean) rstd. g may be dy. */
  void (*groupnorm_channel_sums)(idx n, int silu, double mean, double rstd, double gamma,
                                 double beta, const void *dy, const void *x, void *g,
                                 double *sum_dy, double *sum_dyn);
  /* dx, which holds g, becomes rstd (gamma g - m1 - n m2) + add, n = (x - mean) rstd. */
  void (*groupnorm_channel_backward)(idx n, double mean, double rstd, double gamma, double m1,
                                     double m2, const void *x, const void *add, void *dx);

  /* -- Element by element (activation/, elementwise/); in place is allowed. f is a pk_activation
   * -- */
  void (*activation_forward)(int f, idx n, const void *x, void *y);
  void (*activation_backward)(int f, idx n, const void *x, const void *dy, void *dx);
  /* y = value f(gate) */
  void (*gated_forward)(int f, idx n, const void *value, const void *gate, void *y);
  void (*gated_backward)(int f, idx n, const void *value, const void *gate, const void *dy,
                         void *dvalue, void *dgate);
  /* y = scale x, x of a type that weights are stored in (pk_weight). */
  void (*widen)(pk_type from, idx n, const void *x, float scale, float *y);
  /* y = alpha x + beta y; beta 0 does not read y. */
  void (*axpby)(idx n, double alpha, const void *x, double beta, void *y);
  /* z = x y (+ z with `accumulate`). */
  void (*multiply)(idx n, const void *x, const void *y, void *z, int accumulate);
  /* y = min(max(alpha x + beta, lo), hi); backward dx = alpha dy where lo <= alpha x + beta <= hi,
   * else 0. */
  void (*affine_clamp_forward)(idx n, double alpha, double beta, double lo, double hi,
                               const void *x, void *y);
  void (*affine_clamp_backward)(idx n, double alpha, double beta, double lo, double hi,
                                const void *x, const void *dy, void *dx);
  /* y = x (1 + scale) + shift. */
  void (*modulate)(idx n, const void *x, const void *scale, const void *shift, void *y);
  /* y = x + gate h. */
  void (*gate_forward)(idx n, const void *x, const void *gate, const void *h, void *y);
  /* Rows [r0, r1) of [rows, columns]: dh = gate dy; dgate [columns] += dy h (NULL: skipped). */
  void (*gate_backward)(idx r0, idx r1, idx columns, const void *dy, const void *gate,
                        const void *h, void *dh, void *dgate);
  /* sums [columns] = sum over the rows of x, in order. */
  void (*column_sums)(idx rows, idx columns, const void *x, void *sums);
  /* <x, y>, or the sum of x where y is NULL; runs of 4096 elements are added in double. */
  double (*dot)(idx n, const void *x, const void *y);
  /* Sum of |x - y|, in the same way. */
  double (*sum_abs_difference)(idx n, const void *x, const void *y);
  /* One token's heads x dim values, dim even, adjacent pairs rotated by the angles of cosines c and
   * sines s [dim / 2]; direction 1 forward, -1 back. y may be x. next: elements to the token that
   * is read next. */
  void (*rope_row)(idx heads, idx dim, const void *c, const void *s, int direction, const void *x,
                   void *y, idx next);

  /* -- Rows of softmax and of the prior's fusion (softmax/) -- */
  /* y = softmax(scale x + bias); bias [n] or NULL. y may be x. */
  void (*softmax_row)(idx n, double scale, const void *x, const void *bias, void *y);
  /* ds = y (dy - <dy, y>). */
  void (*softmax_backward_row)(idx n, const void *dy, const void *y, void *ds);
  /* pk_prior.h: y = max(a, eps) max(p, eps) / its sum; and the gradient of the logits of a. */
  void (*prior_row)(idx n, double eps, const void *a, const void *p, void *y);
  void (*prior_backward_row)(idx n, double eps, const void *a, const void *y, const void *g,
                             void *ds);

  /* -- Transport of tokens (sinkhorn/): pk_token_plan.h -- */
  void (*token_plan)(const pk_token_shape *s, idx pair, idx head, const void *attention,
                     const void *semantic, void *plan, void *cost, void *raw, int32_t *iterations,
                     double *delta, double *mass, void *scratch);
  void (*unit_row)(idx d, const void *x, void *y);
  void (*cosine_cost)(idx n, idx m, idx d, idx j0, idx j1, const void *q, const void *k, void *y);

  /* -- Convolution (conv/): its own packing, and Winograd's transforms -- */
  pk_conv_kernels conv;
  /* The taps of `columns` <= nr result channels and `depth` source channels, weight[column *
   * per_column + source * per_source + tap], as one panel a tap: out[tap * ld][source][nr], zero
   * past the last column. */
  void (*conv_pack_taps)(idx columns, idx depth, idx taps, const void *weight, idx per_column,
                         idx per_source, void *out, idx ld);
  /* out [n] = sum over t < terms of factors[t] term[t]; n a multiple of nr. */
  void (*conv_combine_taps)(idx n, idx terms, const void *const *term, const double *factors,
                            void *out);
  /* Winograd F(4, 3) along W: pixels 4 i .. 4 i + 5 of row [pixel][channels] become the six
   * components of tile i, out[c * plane][tile][channels]. */
  void (*winograd_transform_w)(idx tiles, idx channels, const void *row, void *out, idx plane);
  /* Winograd F(2, 3) along H: four neighbouring rows of components, each [6][n] (NULL: zeros),
   * become 24: component (h, w) at out + (6 h + w) * plane. */
  void (*winograd_transform_h)(idx n, const void *const *rows, void *out, idx plane);
  /* The inverse of both: components[c * plane][tile * ld + channel] become at most `pixels` results
   * out[pixel * ld + channel] of one row, or of two rows from 24 components where `next` is not
   * NULL. Read and written in whole vectors of channels. */
  void (*winograd_inverse)(idx tiles, idx channels, const void *components, idx plane, idx ld,
                           void *out, void *next, idx pixels);
  /* lanes[(i * PK_DOT_K + j)][lane] += dy_i x_j over n contiguous elements, i < rows_o <= PK_DOT_O,
   * j < rows_k <= PK_DOT_K. Sums stay in their lanes between calls. */
  void (*conv_dots)(idx rows_o, idx rows_k, idx n, const void *const *dy, const void *const *x,
                    void *lanes);
  /* sums[i] += all lanes of lanes[i], which become zero; PK_DOT_O * PK_DOT_K of them. */
  void (*conv_accumulate_lanes)(void *lanes, double *sums);

  /* -- Losses (loss/): each returns its sum over at most 4096 elements; pk_loss.h -- */
  /* kind 0 weighted l1 + l2 / 2, 1 Huber with c, 2 squared; w and dx may be NULL. */
  double (*loss)(int kind, idx n, double c, const void *x, const void *t, const void *w, void *dx);
  /* z = m + exp(l / 2) e; returns the sum of (m^2 + exp(l) - 1 - l) / 2. */
  double (*normal_sample)(idx n, const void *m, const void *l, const void *e, void *z);
  void (*normal_backward)(idx n, double k, const void *dz, const void *m, const void *l,
                          const void *e, void *dm, void *dl);

  /* -- Optimiser (optimizer/): pk_optimizer.h -- */
  void (*adamw)(idx n, const pk_adamw *o, const void *g, void *p, void *m, void *v, void *average);
  /* Stochastic rounding of elements first .. first + n - 1. */
  void (*bf16_round_stochastic)(idx n, uint32_t first, uint32_t salt, const float *x, uint16_t *y);

  /* -- What the machine can do (probe/): pk_probe.h -- */
  double (*probe_fma)(idx rounds);
  double (*probe_exp)(idx rounds);
  void (*probe_triad)(idx n, const void *a, const void *b, void *y);

  idx lanes;                    /* elements of a vector */
  idx unpacked_mr, unpacked_nr; /* rows and columns of a tile of gemm_unpacked */
} pk_kernels;

/* What is different where operands are rounded to bf16 (pk_compute_type): a packed element is a
 * pair. Lanes and micro-tiles are those of the f32 table of the same instruction set. */
typedef struct {
  pk_gemm_kernel gemm;
  pk_attention_kernels attention;
  pk_conv_kernels conv;
  /* As pk_kernels' conv_dots, x and dy in bf16; lanes in f32. */
  void (*conv_dots)(idx rows_o, idx rows_k, idx n, const void *const *dy, const void *const *x,
                    void *lanes);
  void (*convert)(idx n, const float *x, uint16_t *y); /* f32 to bf16, nearest even */
  double (*probe_fma)(idx rounds);
} pk_bf16_kernels;

/* The table for an element type on the instruction set in use; NULL where the type is not a compute
 * type. */
const pk_kernels *pk_select(pk_type type);
/* The table of bf16 operands, or NULL: when products are f32, when the processor has no bf16
 * arithmetic, or when it has AMX, beside which its bf16 vector instructions are slow. */
const pk_bf16_kernels *pk_bf16(pk_type type);
/* The gemm kernel of f32 products for pk_compute_type(): AMX's, that of bf16 pairs, or f32's
 * own. */
const pk_gemm_kernel *pk_gemm_kernel_f32(void);
/* The f64 product kernel of the instruction set in use. */
const pk_f64_product_kernel *pk_f64_product(void);
#endif
