/* AMX's tiles in plain C, for tests on processors without it: -DPK_AMX_EMULATED. TDPBF16PS adds the
 * products of a pair one after the other. */
#ifndef PK_AMX_EMULATED_H
#define PK_AMX_EMULATED_H
static _Thread_local uint32_t emulated[8][16][16];
static _Thread_local int emulated_ready;

static void emulated_move(int tile, void *p, idx stride, int store) {
  if (!emulated_ready) abort();
  for (int r = 0; r < 16; r++)
    if (store)
      memcpy((char *)p + r * stride, emulated[tile][r], 64);
    else
      memcpy(emulated[tile][r], (char *)p + r * stride, 64);
}

static float emulated_value(uint32_t pair, int odd) {
  const uint32_t bits = odd ? pair & 0xffff0000u : pair << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

static void emulated_dot(int c, int a, int b) {
  if (!emulated_ready) abort();
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 16; j++) {
      float sum;
      memcpy(&sum, &emulated[c][i][j], 4);
      for (int p = 0; p < 16; p++)
        for (int odd = 0; odd < 2; odd++)
          sum += emulated_value(emulated[a][i][p], odd) * emulated_value(emulated[b][p][j], odd);
      memcpy(&emulated[c][i][j], &sum, 4);
    }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(p) ((void)(p), emulated_ready = 1)
#define _tile_release() (emulated_ready = 0)
#define _tile_zero(t) memset(emulated[t], 0, sizeof emulated[t])
#define _tile_loadd(t, p, stride) emulated_move(t, (void *)(p), stride, 0)
#define _tile_stored(t, p, stride) emulated_move(t, p, stride, 1)
#define _tile_dpbf16ps(c, a, b) emulated_dot(c, a, b)
#endif
