#include "conv_panels.h"

/* Source channels that are packed together: taps are transposed 16 at a time. */
#define CHANNELS_AT_A_TIME 16

void pk_conv_pack_taps(const conv_job *j, const pk_conv3d_shape *s, const void *weight,
                       void *packed) {
  const conv_plan *p = j->p;
  const idx nr = j->gemm->nr, panels = CEIL_DIV(p->out, nr), panel = p->in * nr,
            chunks = CEIL_DIV(p->in, CHANNELS_AT_A_TIME);
  const idx taps = s->kt * s->kh * s->kw;
  const idx per_out = p->backward ? taps : s->in * taps, per_in = p->backward ? s->in * taps : taps;
#pragma omp for schedule(static)
  for (idx i = 0; i < panels * chunks; i++) {
    const idx out = i / chunks * nr, in = i % chunks * CHANNELS_AT_A_TIME;
    j->kernels->conv_pack_taps(MIN(p->out - out, nr), MIN(p->in - in, CHANNELS_AT_A_TIME), taps,
                               pk_at(weight, j->type, out * per_out + in * per_in), per_out, per_in,
                               pk_at(packed, j->type, i / chunks * panel + in * nr),
                               panels * panel);
  }
}

void pk_conv_pack_lines(const conv_job *j, const pk_conv3d_shape *s, const void *packed,
                        char *panels_out, void *scratch) {
  const conv_plan *p = j->p;
  const idx size = pk_size(j->type), nr = j->gemm->nr, panels = CEIL_DIV(p->out, nr),
            panel = p->in * nr, lines = p->t.ranges * p->h.ranges;
  const int is_rounded = j->gemm->k_group > 1;
#pragma omp for schedule(static)
  for (idx i = 0; i < lines * p->components * p->taps * panels; i++) {
    const idx line = i / panels / p->taps / p->components, c = i / panels / p->taps % p->components,
              tap = i / panels % p->taps, tile = i % panels;
    const axis_range t = p->t.taps[line / p->h.ranges], h = p->h.taps[line % p->h.ranges];
    char *out = panels_out + (line * j->line_elements +
                              ((c * panels + tile) * j->k + tap * j->pixel_elements) * nr) *
                                 size;
    void *sum = is_rounded ? scratch : out;
    const void *terms[s->kt * s->kh * s->kw];
    double factors[s->kt * s->kh * s->kw];
    idx n = 0;
    for (idx kw = 0; kw < s->kw; kw++)
      for (idx kt = t.first; kt <= t.last; kt++)
        for (idx kh = h.first; kh <= h.last; kh++) {
          factors[n] = pk_conv_tap_factor(p, c, tap, kh, kw);
          terms[n] =
              pk_at(packed, j->type, (((kt * s->kh + kh) * s->kw + kw) * panels + tile) * panel);
          n += factors[n] != 0;
        }
    j->kernels->conv_combine_taps(panel, n, terms, factors, sum);
    if (is_rounded) j->gemm->pack_b(nr, p->in, sum, nr, 1, out);
  }
}
