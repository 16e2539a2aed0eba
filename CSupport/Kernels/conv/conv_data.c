#include "../isa/omp_declarations.h"
#include "../isa/work_stealing.h"
#include "conv_bands.h"
#include "conv_panels.h"

/* Forward and backward data: the weights are packed by the team, then bands of result rows are the
 * items of work (conv_plan.h). Scratch holds the taps, the panels of all lines, the bias, and then
 * what each thread needs. */

ptrdiff_t pk_conv3d_scratch(const pk_conv3d_shape *s, int which) {
  extents e;
  if (conv_bad(s, &e)) return 0;
  if (pointwise(s)) {
    const pk_gemm_shape g = pointwise_product(s, which);
    return pk_gemm_scratch(&g);
  }
  if (which == 2) return pk_conv_weights_scratch(s, &e);
  idx most = 0;
  for (int winograd = 0; winograd < 2; winograd++) {
    const conv_plan p = pk_conv_plan(s, &e, which, winograd);
    const conv_scratch z = pk_conv_scratch(s, &p);
    const idx shared = z.taps + p.t.ranges * p.h.ranges * z.line + z.padded_out + 16;
    most = MAX(most, shared + pk_threads() * z.thread);
  }
  return most;
}

static conv_job job_of(pk_type type, const conv_plan *p, const conv_scratch *z) {
  const pk_kernels *kernels = pk_select(type);
  const pk_bf16_kernels *bf16 = pk_bf16(type);
  conv_job j = {.p = p,
                .z = z,
                .type = type,
                .kernels = kernels,
                .conv = bf16 ? &bf16->conv : &kernels->conv,
                .gemm = bf16 ? &bf16->gemm : &kernels->gemm};
  j.pixel_elements = CEIL_DIV(p->in, j.gemm->k_group);
  j.row_elements = (p->winograd_w ? 6 * p->component_pixels : p->packed_pixels) * j.pixel_elements;
  j.k = p->taps * j.pixel_elements;
  j.line_elements = p->components * CEIL_DIV(p->out, j.gemm->nr) * j.k * j.gemm->nr;
  return j;
}

/* The items of work are bands of one sample over a part of its frames. They differ (the first
 * frames have fewer lines than the last), and so do processors: they are stolen. */
static void run_bands(const conv_job *j, pk_work_range *ranges, char *scratch) {
  const conv_plan *p = j->p;
  const idx threads = omp_get_num_threads(), thread = omp_get_thread_num();
  for (idx i; (i = pk_steal(ranges, threads, thread)) >= 0;) {
    const idx b = i / (p->bands * p->parts), first = i / p->parts % p->bands * p->band,
              part = i % p->parts;
    (p->winograd_h ? pk_conv_winograd_band : pk_conv_band)(
        j, b, first, MIN(first + p->band, p->units), p->frames * part / p->parts,
        p->frames * (part + 1) / p->parts, scratch);
  }
}

/* The bias in whole panels. */
static void pad_bias(const conv_job *j, const void *bias, void *padded) {
  for (idx o = 0; o < j->z->padded_out; o++)
    pk_write(padded, j->type, o, o < j->p->out ? pk_read(bias, j->type, o) : 0);
}

static void run(pk_type type, const pk_conv3d_shape *s, const conv_plan *p, const void *source,
                const void *weight, const void *bias, const pk_conv_fusion *fusion, void *result,
                void *scratch) {
  const conv_scratch z = pk_conv_scratch(s, p);
  conv_job j = job_of(type, p, &z);
  char *taps = scratch, *panels = pk_at(taps, type, z.taps);
  char *threads_scratch =
      pk_at(panels, type, ROUND_UP(p->t.ranges * p->h.ranges * z.line, 16) + z.padded_out);
  void *padded_bias = pk_at(threads_scratch, type, -z.padded_out);
  if (bias) pad_bias(&j, bias, padded_bias);
  j.bias = bias ? padded_bias : NULL;
  j.panels = panels;
  j.source = source;
  j.result = result;
  if (fusion) {
    j.norm = fusion->norm;
    j.norm_frames = fusion->norm_frames;
    j.add = fusion->add;
    j.silu = fusion->silu;
  }
  pk_work_range ranges[PK_WORK_RANGES];
#pragma omp parallel
  {
    char *mine = threads_scratch + omp_get_thread_num() * z.thread * pk_size(type);
    pk_partition(ranges, p->batch * p->bands * p->parts, omp_get_num_threads(),
                 omp_get_thread_num());
    pk_conv_pack_taps(&j, s, weight, taps);
    pk_conv_pack_lines(&j, s, taps, panels, mine);
    run_bands(&j, ranges, mine);
  }
}

/* 1 x 1 x 1 without stride: a matrix product for each sample. which: 0 forward, 1 backward data. */
static void multiply_samples(pk_type type, const pk_conv3d_shape *s, int which, const void *weight,
                             const void *source, void *result, void *scratch) {
  const pk_gemm_shape g = pointwise_product(s, which);
  const idx pixels = s->t * s->h * s->w, from = which ? s->out : s->in, to = which ? s->in : s->out;
  for (idx b = 0; b < s->batch; b++)
    pk_gemm(type, &g, weight, pk_at(source, type, b * from * pixels),
            pk_at(result, type, b * to * pixels), scratch);
}

pk_status pk_conv3d_forward(pk_type type, const pk_conv3d_shape *s, const void *x,
                            const void *weight, const void *bias, const pk_conv_fusion *fusion,
                            void *y, void *scratch) {
  const pk_kernels *k = pk_select(type);
  extents e;
  if (!k) return PK_BAD_TYPE;
  if (conv_bad(s, &e)) return PK_BAD_SHAPE;
  if (fusion && fusion->norm && fusion->norm_frames != 1 && fusion->norm_frames != s->t)
    return PK_BAD_SHAPE;
  if (!pointwise(s)) {
    const conv_plan p = pk_conv_plan(s, &e, 0, type == PK_F32 && !pk_bf16(type));
    run(type, s, &p, x, weight, bias, fusion, y, scratch);
    return PK_OK;
  }
  if (fusion) return PK_BAD_SHAPE;
  multiply_samples(type, s, 0, weight, x, y, scratch);
  const idx pixels = s->t * s->h * s->w;
  if (bias)
#pragma omp parallel for schedule(static)
    for (idx r = 0; r < s->batch * s->out; r++)
      k->affine_clamp_forward(pixels, 1, pk_read(bias, type, r % s->out), -INFINITY, INFINITY,
                              pk_at(y, type, r * pixels), pk_at(y, type, r * pixels));
  return PK_OK;
}

pk_status pk_conv3d_backward_data(pk_type type, const pk_conv3d_shape *s, const void *dy,
                                  const void *weight, void *dx, void *scratch) {
  extents e;
  if (!pk_select(type)) return PK_BAD_TYPE;
  if (conv_bad(s, &e)) return PK_BAD_SHAPE;
  if (pointwise(s)) {
    multiply_samples(type, s, 1, weight, dy, dx, scratch);
    return PK_OK;
  }
  const conv_plan p = pk_conv_plan(s, &e, 1, type == PK_F32 && !pk_bf16(type));
  run(type, s, &p, dy, weight, NULL, NULL, dx, scratch);
  return PK_OK;
}
