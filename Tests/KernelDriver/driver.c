/* Calls every kernel on every instruction set with buffers of exactly the contract's size, for
 * tools/sanitize.
 * Values are checked only for being finite: correctness is the business of the golden cases. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pk.h"

typedef ptrdiff_t idx;
static int failures;
static pk_type T;
static uint64_t counter;
static void *blocks[256];
static int block_count;

/* n elements, uniform in [-1, 1); freed by `done`. */
static void *array(idx n) {
  const size_t size = T == PK_F64 ? 8 : 4;
  void *p = malloc((size_t)(n > 0 ? n : 0) * size);
  pk_random_uniform(T, 7, ++counter, n, p);
  if (n > 0) pk_affine_clamp_forward(T, n, 2, -1, -1, 1, p, p);
  blocks[block_count++] = p;
  return p;
}

static void done(void) {
  while (block_count > 0) free(blocks[--block_count]);
}

static void expect(const char *what, pk_status status) {
  if (status != PK_OK) {
    printf("%s: status %d\n", what, (int)status);
    failures++;
  }
}

static void all_finite(const char *what, idx n, const void *x) {
  if (!pk_all_finite(T, n, x)) {
    printf("%s: not finite\n", what);
    failures++;
  }
}

static void products(void) {
  const idx sizes[][3] = {{1, 1, 1},     {3, 5, 7},        {8, 48, 16},    {9, 49, 17},
                          {40, 31, 88},  {200, 150, 70},   {600, 800, 40}, {1, 700, 400},
                          {3, 300, 900}, {200, 300, 1000}, {300, 1, 260},  {2400, 1, 400}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    const idx m = sizes[i][0], n = sizes[i][1], k = sizes[i][2];
    void *a = array(m * k), *b = array(k * n), *c = array(m * n), *bias = array(n);
    pk_gemm_shape s = {m, n, k, k, 1, n, 1, n, 1, 1, 0};
    void *scratch = array(pk_gemm_scratch(&s));
    expect("gemm", pk_gemm(T, &s, a, b, c, scratch));
    all_finite("gemm", m * n, c);
    s.rsa = 1, s.csa = m, s.rsb = 1, s.csb = k, s.beta = 1;
    expect("gemm transposed", pk_gemm(T, &s, a, b, c, scratch));
    pk_gemm_shape columns = s;
    columns.rsc = 1, columns.csc = m;
    expect("gemm into columns", pk_gemm(T, &columns, a, b, c, scratch));
    all_finite("gemm into columns", m * n, c);
    void *active = array(m * n);
    const pk_epilogue forward = {bias, PK_SILU, NULL, active, 0, n},
                      backward = {NULL, PK_GELU_TANH, active, NULL, n, 0};
    expect("linear", pk_linear(T, &s, a, b, NULL, &forward, c, scratch));
    all_finite("linear", m * n, active);
    if (T == PK_F32) {
      void *packed = array(pk_gemm_packed_count(n, k));
      const pk_weight weight = {PK_F32, b, NULL};
      expect("pack", pk_gemm_pack(&s, &weight, packed));
      expect("linear packed", pk_linear(T, &s, a, NULL, packed, &backward, c, scratch));
      const pk_type stored[] = {PK_BF16, PK_F16, PK_I8};
      for (int t = 0; t < 3; t++)
        for (int transposed = 0; transposed < 2; transposed++) {
          const size_t size = stored[t] == PK_I8 ? 1 : 2;
          void *elements = malloc((size_t)(n * k) * size);
          const idx rows = transposed ? n : k;
          const pk_weight w = {stored[t], elements, stored[t] == PK_I8 ? array(rows) : NULL};
          memset(elements, 1, (size_t)(n * k) * size);
          pk_gemm_shape p = s;
          p.rsb = transposed ? 1 : n, p.csb = transposed ? k : 1;
          expect("pack stored", pk_gemm_pack(&p, &w, packed));
          expect("widen", pk_widen(rows, transposed ? k : n, &w, array(n * k)));
          free(elements);
        }
    }
    all_finite("gemm", m * n, c);
    for (idx batch = 3; batch <= 70 && m * n * k < 1 << 18; batch += 67) {
      void *ba = array(batch * m * k), *bb = array(batch * k * n), *bc = array(batch * m * n);
      pk_gemm_shape t = {m, n, k, k, 1, n, 1, n, 1, 0.5, 0};
      expect("batched", pk_gemm_batched(T, &t, batch, m * k, k * n, m * n, ba, bb, bc));
      t.rsa = 1, t.csa = m, t.beta = 1;
      expect("batched transposed", pk_gemm_batched(T, &t, batch, m * k, k * n, m * n, ba, bb, bc));
      all_finite("batched", batch * m * n, bc);
    }
    done();
  }
}

static void attention(void) {
  const idx sizes[][4] = {
      {1, 1, 1, 8}, {2, 3, 5, 16}, {2, 33, 65, 24}, {1, 70, 70, 88}, {1, 100, 40, 7}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int heads = 1; heads <= 17; heads += 8) {
      const idx b = sizes[i][0], q = sizes[i][1], k = sizes[i][2], d = sizes[i][3], w = heads * d;
      int32_t *counts = malloc((size_t)b * 4);
      for (idx j = 0; j < b; j++) counts[j] = (int32_t)(k - j > 0 ? k - j : 1);
      for (int masked = 0; masked < 2; masked++) {
        pk_attention_shape s = {b,
                                heads,
                                q,
                                k,
                                d,
                                w,
                                w,
                                w,
                                w,
                                q * w,
                                k * w,
                                k * w,
                                q * w,
                                0.3,
                                masked && q == k ? 10 : 0,
                                10,
                                masked ? counts : NULL};
        void *Q = array(b * q * w), *K = array(b * k * w), *V = array(b * k * w),
             *O = array(b * q * w), *L = array(b * heads * q);
        void *dO = array(b * q * w), *dQ = array(b * q * w), *dK = array(b * k * w),
             *dV = array(b * k * w);
        expect("attention",
               pk_attention_forward(T, &s, Q, K, V, O, L, array(pk_attention_scratch(&s, 0))));
        expect("attention backward", pk_attention_backward(T, &s, Q, K, V, O, dO, L, dQ, dK, dV,
                                                           array(pk_attention_scratch(&s, 1))));
        all_finite("attention o", b * q * w, O), all_finite("attention dq", b * q * w, dQ),
            all_finite("attention dk", b * k * w, dK);
        all_finite("attention dv", b * k * w, dV);
        done();
      }
      free(counts);
    }
}

static void rows(void) {
  const idx sizes[][2] = {{1, 1}, {3, 7}, {5, 16}, {17, 33}, {130, 129}, {300, 88}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    const idx r = sizes[i][0], c = sizes[i][1], n = r * c;
    void *x = array(n), *dy = array(n), *dx = array(n), *y = array(n), *g = array(c),
         *be = array(c), *dg = array(c), *db = array(c);
    void *mean = array(r), *rstd = array(r), *scratch = array(pk_norm_backward_scratch(1, r, c));
    expect("layernorm", pk_layernorm_forward(T, r, c, 1e-5, x, g, be, y, mean, rstd));
    expect("layernorm backward",
           pk_layernorm_backward(T, r, c, dy, x, 1, g, mean, rstd, dy, dx, dg, db, scratch));
    expect("layernorm plain", pk_layernorm_forward(T, r, c, 1e-5, x, NULL, NULL, y, mean, rstd));
    expect("layernorm plain backward", pk_layernorm_backward(T, r, c, dy, x, 0, NULL, mean, rstd,
                                                             NULL, dx, NULL, NULL, scratch));
    expect("rmsnorm", pk_rmsnorm_forward(T, r, c, 1e-6, x, g, y, rstd));
    expect("rmsnorm backward", pk_rmsnorm_backward(T, r, c, dy, x, g, rstd, dy, dx, dg, scratch));
    all_finite("norm dx", n, dx), all_finite("norm dgamma", c, dg);
    expect("softmax", pk_softmax_forward(T, r, c, 0.5, x, g, 1, 2, y));
    expect("softmax backward", pk_softmax_backward(T, r, c, dy, y, dx));
    all_finite("softmax", n, y);
    expect("column sums", pk_column_sums(T, r, c, x, dg, array(pk_column_sums_scratch(r, c))));
    void *scale = array(2 * c), *grad = array(2 * c);
    expect("modulate", pk_modulate_forward(T, 1, r, c, 2 * c, x, scale, scale, y));
    expect("adaln", pk_adaln_forward(T, 1, r, c, 2 * c, 1e-5, x, scale, scale, y, mean, rstd));
    expect("adaln backward", pk_adaln_backward(T, 1, r, c, 2 * c, dy, x, scale, mean, rstd, NULL,
                                               dx, grad, grad, scratch));
    expect("adaln of groups",
           pk_adaln_forward(T, r, 1, c, 0, 1e-5, x, scale, scale, y, mean, rstd));
    expect("adaln of groups backward",
           pk_adaln_backward(T, r, 1, c, 0, dy, x, scale, mean, rstd, dy, dx, grad, grad,
                             array(pk_norm_backward_scratch(r, 1, c))));
    expect("gate", pk_gate_forward(T, 1, r, c, 2 * c, x, scale, dy, y));
    expect("gate backward", pk_gate_backward(T, 1, r, c, 2 * c, dy, scale, x, dx, grad,
                                             array(pk_gate_backward_scratch(1, r, c))));
    int32_t *ids = malloc((size_t)r * 4);
    for (idx j = 0; j < r; j++) ids[j] = (int32_t)((j * 7) % r);
    expect("gather", pk_gather_rows(T, r, c, ids, x, y));
    expect("scatter", pk_scatter_add_rows(T, r, c, ids, dy, dx));
    free(ids);
    uint8_t *fused = malloc((size_t)r);
    for (idx j = 0; j < r; j++) fused[j] = (uint8_t)(j & 1);
    pk_prior_shape p = {1, 1, r, c, 1e-6, fused};
    expect("softmax", pk_softmax_forward(T, r, c, 1, x, NULL, 0, 1, y));
    expect("prior", pk_prior_fusion_forward(T, &p, y, y, dx));
    expect("prior backward", pk_prior_fusion_backward(T, &p, y, dx, dy, x));
    all_finite("prior", n, x);
    free(fused);
    done();
  }
  for (int silu = 0; silu < 2; silu++) {
    pk_groupnorm_shape s = {2, 12, 4, 5, 7, 1e-6, silu};
    const idx n = 2 * 12 * 35;
    void *x = array(n), *y = array(n), *dy = array(n), *dx = array(n), *g = array(12),
         *b = array(12), *dg = array(12), *db = array(12);
    void *mean = array(40), *rstd = array(40), *scratch = array(pk_groupnorm_scratch(&s));
    expect("groupnorm", pk_groupnorm_forward(T, &s, x, g, b, y, mean, rstd, scratch));
    expect("groupnorm backward",
           pk_groupnorm_backward(T, &s, dy, x, g, b, mean, rstd, y, dx, dg, db, scratch));
    void *parts = array(n), *table = array(2 * 5 * 3 * 12);
    double *sums = malloc(2 * 12 * 5 * 2 * sizeof *sums);
    expect("groupnorm table", pk_groupnorm_table(T, &s, g, b, mean, rstd, table));
    expect("groupnorm sums",
           pk_groupnorm_backward_sums(T, &s, dy, x, g, b, mean, rstd, parts, sums));
    expect("groupnorm finish",
           pk_groupnorm_backward_finish(T, &s, x, g, mean, rstd, sums, s.spatial, y, parts));
    all_finite("groupnorm table", 2 * 5 * 3 * 12, table);
    if (memcmp(parts, dx, (size_t)n * (T == PK_F64 ? 8 : 4))) failures++, puts("groupnorm parts");
    free(sums);
    all_finite("groupnorm", n, y), all_finite("groupnorm dx", n, dx);
    done();
  }
}

static void elements(void) {
  const idx sizes[] = {0, 1, 7, 16, 17, 4097, 40001};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    const idx n = sizes[i];
    void *x = array(n), *y = array(n), *z = array(n), *w = array(n);
    for (int f = 0; f < 4; f++) {
      expect("activation", pk_activation_forward(T, (pk_activation)f, n, x, y));
      expect("activation backward", pk_activation_backward(T, (pk_activation)f, n, x, y, z));
    }
    expect("axpby", pk_axpby(T, n, 2, x, 0.5, y));
    expect("multiply", pk_multiply(T, n, x, y, z, 1));
    expect("fill", pk_fill(T, n, 3, w));
    expect("clamp", pk_affine_clamp_forward(T, n, 2, 0, -1, 1, x, y));
    expect("clamp backward", pk_affine_clamp_backward(T, n, 2, 0, -1, 1, x, y, z));
    (void)(pk_sum(T, n, x) + pk_dot(T, n, x, y) + pk_sum_abs_difference(T, n, x, y));
    (void)(pk_loss_weighted_l1l2(T, n, x, y, w, z) + pk_loss_huber(T, n, 0.1, x, y, z) +
           pk_loss_squared(T, n, x, y, NULL));
    (void)pk_normal_sample(T, n, x, y, z, w);
    expect("normal backward", pk_normal_backward(T, n, 0.1, x, y, z, w, array(n), array(n)));
    pk_adamw o = {1e-3, 0.9, 0.999, 1e-8, 0.01, 0.1, 0.1, 0.001, 0.5, 0.9, 0, 0};
    void *m = array(n), *v = array(n);
    pk_fill(T, n, 0.25, v);
    expect("adamw", pk_adamw_step(T, n, &o, x, y, m, v, array(n)));
    all_finite("adamw", n, y);
    if (T == PK_F32) {
      uint16_t *narrow = calloc((size_t)(2 * n), sizeof *narrow);
      o.bf16_moments = 1, o.salt = 7;
      expect("adamw, bf16 moments", pk_adamw_step(T, n, &o, x, y, narrow, narrow + n, NULL));
      all_finite("adamw, bf16 moments", n, y);
      free(narrow);
    }
    expect("normal", pk_random_normal(T, 1, 2, n, y));
    all_finite("normal", n, y);
    const pk_type types[] = {PK_F32, PK_F64, PK_BF16, PK_F16};
    const size_t bytes[] = {4, 8, 2, 2};
    for (int from = 0; from < 4; from++)
      for (int to = 0; to < 4; to++) {
        void *a = calloc((size_t)n, bytes[from]), *b = malloc((size_t)n * bytes[to]);
        expect("convert", pk_convert(n, types[from], a, types[to], b));
        free(a), free(b);
      }
    done();
  }
  for (idx dim = 2; dim <= 88; dim += 43) {
    const idx d = dim / 2 * 2;
    void *x = array(2 * 5 * 3 * d), *c = array(5 * d / 2), *s = array(5 * d / 2);
    expect("rope", pk_rope(T, 2, 5, 3, d, 3 * d, 15 * d, c, s, 1, x));
    expect("rope inverse", pk_rope(T, 2, 5, 3, d, 3 * d, 15 * d, c, s, -1, x));
    const pk_head_norm_shape heads = {2, 5, 3, d, 4, 3 * d, 15 * d, 7 * d, 36 * d, 1e-6};
    void *joint = array(2 * 36 * d), *dx = array(2 * 5 * 3 * d), *g = array(d), *dg = array(d),
         *rstd = array(2 * 5 * 3);
    expect("head norm", pk_head_norm_forward(T, &heads, x, g, c, s, joint, rstd));
    expect("head norm backward", pk_head_norm_backward(T, &heads, joint, x, g, c, s, rstd, dx, dg,
                                                       array(pk_norm_backward_scratch(1, 10, d))));
    all_finite("head norm dx", 2 * 5 * 3 * d, dx), all_finite("head norm dgamma", d, dg);
    done();
  }
  const idx size[3] = {5, 3, 7}, from[3] = {21, 7, 1}, to[3] = {1, 35, 5};
  void *x = array(105), *y = array(105);
  expect("copy", pk_copy_strided(T, 3, size, from, x, to, y, 0));
  expect("copy", pk_copy_strided(T, 3, size, from, x, to, y, 1));
  const idx wide[3] = {2, 70, 19}, turned[3] = {1330, 1, 70}, straight[3] = {1330, 19, 1};
  expect("transposed copy",
         pk_copy_strided(T, 3, wide, turned, array(2660), straight, array(2660), 0));
  const idx even[3] = {2, 70, 32}, even_turned[3] = {2240, 1, 70}, even_straight[3] = {2240, 32, 1};
  expect("transposed copy",
         pk_copy_strided(T, 3, even, even_turned, array(4480), even_straight, array(4480), 0));
  done();
}

static void convolution(void) {
  const pk_conv3d_shape shapes[] = {
      {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0},
      {2, 3, 5, 3, 5, 7, 3, 3, 3, 1, 1, 1, 2, 0, 1, 1, 1, 1, 0},
      {1, 8, 9, 2, 17, 16, 3, 3, 3, 1, 1, 1, 2, 0, 1, 1, 1, 1, 0},
      {1, 4, 4, 5, 8, 8, 3, 3, 3, 2, 2, 2, 2, 0, 1, 1, 1, 1, 0},
      {1, 4, 6, 5, 9, 9, 3, 3, 3, 1, 2, 2, 2, 0, 1, 1, 1, 1, 0},
      {1, 16, 33, 3, 6, 50, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0},
      {2, 5, 6, 3, 7, 9, 3, 3, 3, 1, 1, 1, 2, 0, 1, 2, 2, 2, 0},
      {1, 5, 17, 1, 1, 1, 3, 3, 3, 1, 1, 1, 2, 0, 1, 1, 2, 2, 0},
      {1, 3, 4, 4, 3, 5, 5, 5, 5, 1, 1, 1, 4, 0, 2, 2, 3, 4, 0},
      {2, 5, 9, 3, 7, 18, 1, 3, 3, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1},
      {1, 6, 5, 2, 7, 9, 1, 3, 3, 1, 2, 2, 0, 0, 1, 1, 1, 1, 1},
      {1, 6, 5, 2, 5, 4, 1, 3, 3, 1, 1, 1, 0, 0, 1, 1, 2, 2, 1},
      {1, 6, 5, 4, 5, 4, 3, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1},
      {1, 6, 5, 1, 1, 1, 3, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1},
  };
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    const pk_conv3d_shape *s = &shapes[i];
    const idx to = (1 + (s->t - 1) * s->ft + s->front + s->back - s->kt) / s->st + 1,
              ho = (s->h * s->fh + 2 * s->side - s->kh) / s->sh + 1,
              wo = (s->w * s->fw + 2 * s->side - s->kw) / s->sw + 1;
    const idx nx = s->batch * s->in * s->t * s->h * s->w, ny = s->batch * s->out * to * ho * wo,
              nw = s->out * s->in * s->kt * s->kh * s->kw;
    void *x = array(nx), *w = array(nw), *b = array(s->out), *y = array(ny), *dy = array(ny),
         *dx = array(nx), *dw = array(nw), *db = array(s->out);
    expect("conv", pk_conv3d_forward(T, s, x, w, b, NULL, y, array(pk_conv3d_scratch(s, 0))));
    expect("conv backward data",
           pk_conv3d_backward_data(T, s, dy, w, dx, array(pk_conv3d_scratch(s, 1))));
    expect("conv backward weights",
           pk_conv3d_backward_weights(T, s, dy, x, dw, db, array(pk_conv3d_scratch(s, 2))));
    all_finite("conv", ny, y), all_finite("conv dx", nx, dx), all_finite("conv dw", nw, dw);
    done();
  }
  const idx planes = 3, t = 3, h = 4, w = 5;
  for (int ft = 1; ft <= 2; ft++) {
    const idx n = planes * t * h * w, m = planes * (1 + (t - 1) * ft) * h * 2 * w * 2;
    void *x = array(n), *y = array(m);
    expect("upsample", pk_upsample_forward(T, planes, t, h, w, ft, 2, 2, x, y));
    expect("upsample backward", pk_upsample_backward(T, planes, t, h, w, ft, 2, 2, y, x));
    done();
  }
}

/* `count` bytes that start one off any alignment. */
static char *bytes(idx count) {
  char *p = malloc((size_t)count + 1);
  blocks[block_count++] = p;
  return p + 1;
}

static double *positive(idx n, double sum) {
  double *p = malloc((size_t)n * sizeof(double));
  pk_random_uniform(PK_F64, 7, ++counter, n, p);
  double s = 0;
  for (idx i = 0; i < n; i++) p[i] += 0.1, s += p[i];
  for (idx i = 0; i < n; i++) p[i] *= sum / s;
  blocks[block_count++] = p;
  return p;
}

static double *doubles(idx n) {
  double *p = malloc((size_t)n * sizeof(double));
  blocks[block_count++] = p;
  return p;
}

static void sums_are_finite(const char *what, idx n, const double *x) {
  if (!pk_all_finite(PK_F64, n, x)) {
    printf("%s: not finite\n", what);
    failures++;
  }
}

static void transport(void) {
  const idx sizes[][3] = {{1, 1, 1}, {1, 5, 2}, {7, 1, 3}, {9, 17, 8}, {33, 30, 9}, {130, 141, 40}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int cost = PK_COST_MATRIX; cost <= PK_COST_COSINE; cost++)
      for (int side = PK_SIDE_HARD; side <= PK_SIDE_CAPPED; side++) {
        const idx n = sizes[i][0], m = sizes[i][1], d = sizes[i][2];
        const int points = cost != PK_COST_MATRIX;
        pk_sinkhorn_problem p = {.n = n,
                                 .m = m,
                                 .d = points ? d : 0,
                                 .type = T,
                                 .cost = (pk_cost)cost,
                                 .scale = 1.5,
                                 .side_source = (pk_side)side,
                                 .side_target = (pk_side)side,
                                 .epsilon = 0.05,
                                 .rho_source = 0.5,
                                 .rho_target = 0.5,
                                 .mass = 0.6,
                                 .tolerance = T == PK_F64 ? 1e-10 : 1e-5,
                                 .max_iterations = 500};
        void *x = array(points ? n * d : n * m), *y = array(points ? m * d : 1),
             *plan = array(n * m);
        double *mu = positive(n, 1), *nu = positive(m, 1), *a = doubles(n), *b = doubles(m),
               *da = doubles(n), *db = doubles(m);
        pk_sinkhorn_result r;
        expect("solve",
               pk_sinkhorn_solve(&p, x, y, mu, nu, plan, a, b, &r, bytes(pk_sinkhorn_scratch(&p))));
        all_finite("plan", n * m, plan);
        expect("certify", pk_sinkhorn_certify(&p, x, y, mu, nu, points ? NULL : plan, a, b, r.z, &r,
                                              bytes(pk_sinkhorn_certify_scratch(&p))));
        double residual;
        void *dx = array(points ? n * d : n * m), *dy = array(points ? m * d : 1);
        expect("gradient", pk_sinkhorn_gradient(&p, x, y, mu, nu, a, b, r.z, points ? NULL : plan,
                                                1, 1, dx, points ? dy : NULL, da, db, &residual,
                                                bytes(pk_sinkhorn_gradient_scratch(&p))));
        all_finite("gradient", points ? n * d : n * m, dx), sums_are_finite("gradient", n, da),
            sums_are_finite("gradient", m, db);
        if (points)
          expect("project", pk_sinkhorn_project(&p, x, y, a, b, r.z, dx,
                                                bytes(pk_sinkhorn_gradient_scratch(&p))));
        if (side != PK_SIDE_CAPPED) {
          pk_divergence_result s;
          void *xx = points ? NULL : array(n * n), *yy = points ? NULL : array(m * m);
          expect("divergence",
                 pk_divergence(&p, x, points ? y : NULL, xx, yy, mu, nu, &s, points ? dx : NULL,
                               points ? dy : NULL, da, db, bytes(pk_divergence_scratch(&p))));
          sums_are_finite("divergence", 1, &s.value), sums_are_finite("divergence", n, da);
        }
        done();
      }
}

static void barycenters(void) {
  const idx sizes[][3] = {{1, 1, 1}, {2, 1, 5}, {3, 7, 1}, {2, 9, 17}, {3, 40, 33}, {4, 130, 130}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int form = 0; form < 8; form++) {
      const idx count = sizes[i][0], n = sizes[i][1], m = sizes[i][2];
      const int each = form & 1, debiased = form >> 1 & 1;
      /* the small epsilon sends kernels out of their range */
      pk_barycenter_problem p = {.count = count,
                                 .n = n,
                                 .m = m,
                                 .cost_stride = each ? n * m : 0,
                                 .debiased = debiased,
                                 .epsilon = form & 4 ? 1e-3 : 0.1,
                                 .tolerance = 1e-9,
                                 .max_iterations = 200};
      double *cost = positive((each ? count : 1) * n * m, (double)(n * m)),
             *own = debiased && (each || n != m) ? positive(m * m, (double)(m * m)) : NULL;
      double *b = doubles(count * n), *w = positive(count, 1), *a = doubles(m),
             *f = doubles(count * n), *g = doubles(count * m), *errors = doubles(count);
      for (idx k = 0; k < count; k++) memcpy(b + k * n, positive(n, 1), (size_t)n * sizeof(double));
      pk_barycenter_result r;
      expect("barycenter", pk_barycenter(&p, cost, own, b, w, a, f, g, errors, &r,
                                         bytes(pk_barycenter_scratch(&p))));
      sums_are_finite("barycenter", m, a), sums_are_finite("barycenter", count * m, g),
          sums_are_finite("barycenter", count, errors);
      done();
    }
}

int main(void) {
  for (int isa = PK_ISA_SCALAR; isa <= (int)pk_isa_detected(); isa++) {
    pk_isa_limit((pk_isa)isa);
    for (int wide = 0; wide < 2; wide++) {
      T = wide ? PK_F64 : PK_F32;
      transport();
      if (wide) barycenters();
      if (wide && isa > 0) continue; /* the others have one variant of f64 */
      products(), attention(), rows(), elements(), convolution();
      printf("%s %s: done\n", pk_isa_name((pk_isa)isa), wide ? "f64" : "f32");
    }
    if (isa == PK_ISA_AVX512 && pk_isa_has_bf16()) {
      pk_compute_type_set(PK_BF16);
      products(), convolution();
      pk_compute_type_set(PK_F32);
      printf("avx512 bf16 products: done\n");
    }
  }
  return failures != 0;
}
