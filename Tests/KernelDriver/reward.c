/* A client of libpisces: every function, hostile arguments, many threads on one handle and on
 * several. Prints what is wrong; the exit status is the number of faults (tools/sanitize reward).
 * */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pisces.h"

enum { T = 9, SIDE = 32, FRAME = 3 * SIDE * SIDE, CLIP = T * FRAME, THREADS = 4, ROUNDS = 3 };

static int faults;

static void check(int ok, const char *what, const char *message) {
  if (ok) return;
  printf("%s: %s\n", what, message);
  faults++;
}

/* Numbers in [0.1, 0.9] that differ from seed to seed. */
static void fill(float *x, int n, unsigned seed) {
  for (int i = 0; i < n; i++) {
    seed = seed * 1664525u + 1013904223u;
    x[i] = 0.1f + 0.8f * (float)(seed >> 8) / (float)(1 << 24);
  }
}

static void refuses(const char *what, pisces_status status, pisces_status expected,
                    const pisces_message *message) {
  check(status == expected && message->text[0] && strlen(message->text) < sizeof message->text,
        what, message->text);
}

static void hostile(pisces_reward *r) {
  pisces_message m;
  pisces_reward *none = (pisces_reward *)&m;
  float *x = malloc(CLIP * sizeof *x), features[512];
  double one = 1, quality, semantic;
  pisces_scores scores[2];
  ptrdiff_t count;
  fill(x, CLIP, 1);
  pisces_frames f = {x, 1, T, SIDE, SIDE}, g;
  const char *const captions[] = {"a red circle", "a \xff"}, *const no_captions[] = {NULL};

  refuses("no path", pisces_reward_open(NULL, NULL, &none, &m), PISCES_BAD_ARGUMENT, &m);
  check(none == NULL, "a handle after an error", "not NULL");
  refuses("no model", pisces_reward_open("/nowhere", NULL, &none, &m), PISCES_NOT_FOUND, &m);
  refuses("no place for the handle", pisces_reward_open("x", NULL, NULL, &m), PISCES_BAD_ARGUMENT,
          &m);
  pisces_reward_options o;
  memset(&o, 0, sizeof o);
  refuses("options not set up", pisces_reward_open("embedded:reward", &o, &none, &m),
          PISCES_BAD_ARGUMENT, &m);
  pisces_reward_options_init(&o);
  o.threads = -1;
  refuses("threads", pisces_reward_open("embedded:reward", &o, &none, &m), PISCES_BAD_ARGUMENT, &m);
  pisces_reward_options_init(&o);
  o.compute = (pisces_compute)77;
  refuses("compute", pisces_reward_open("embedded:reward", &o, &none, &m), PISCES_BAD_ARGUMENT, &m);
  pisces_reward_options_init(&o);
  o.ot_map = "/nowhere.safetensors";
  refuses("map", pisces_reward_open("embedded:reward", &o, &none, &m), PISCES_NOT_FOUND, &m);
  pisces_reward_options_init(NULL);

#define SCORE(frames, texts, n) pisces_reward_score(r, frames, texts, n, scores, &m)
  refuses("no handle", pisces_reward_score(NULL, &f, captions, 1, scores, &m), PISCES_BAD_ARGUMENT,
          &m);
  refuses("no frames", SCORE(NULL, captions, 1), PISCES_BAD_ARGUMENT, &m);
  g = f, g.pixels = NULL;
  refuses("no pixels", SCORE(&g, captions, 1), PISCES_BAD_ARGUMENT, &m);
  refuses("no captions", SCORE(&f, NULL, 1), PISCES_BAD_ARGUMENT, &m);
  refuses("zero captions", SCORE(&f, captions, 0), PISCES_BAD_ARGUMENT, &m);
  refuses("a NULL caption", SCORE(&f, no_captions, 1), PISCES_BAD_ARGUMENT, &m);
  refuses("not UTF-8", SCORE(&f, captions, 2), PISCES_BAD_ARGUMENT, &m);
  refuses("no scores", pisces_reward_score(r, &f, captions, 1, NULL, &m), PISCES_BAD_ARGUMENT, &m);
  const ptrdiff_t sizes[][4] = {{1, 0, SIDE, SIDE},
                                {1, T, -1, SIDE},
                                {0, T, SIDE, SIDE},
                                {2, T, SIDE, SIDE},
                                {1, T - 1, SIDE, SIDE},
                                {1, PTRDIFF_MAX / 4, SIDE, SIDE},
                                {1, T, PTRDIFF_MAX, PTRDIFF_MAX}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    g = (pisces_frames){x, sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3]};
    refuses("sizes", SCORE(&g, captions, 1), PISCES_BAD_ARGUMENT, &m);
  }
  const float bad[] = {NAN, INFINITY, 255, -7};
  for (int i = 0; i < 4; i++) {
    x[CLIP - 1] = bad[i];
    refuses("pixels", SCORE(&f, captions, 1), PISCES_BAD_DATA, &m);
    check(strstr(m.text, "27647") != NULL, "the place of a bad pixel", m.text);
  }
  x[CLIP - 1] = 0.5f;
  refuses("features of no place", pisces_reward_video_features(r, &f, NULL, &m),
          PISCES_BAD_ARGUMENT, &m);
  refuses("text of no place", pisces_reward_text_features(r, captions, 1, NULL, NULL, &m),
          PISCES_BAD_ARGUMENT, &m);
  refuses("no plan", pisces_reward_explain(r, &f, "a", NULL, &m), PISCES_BAD_ARGUMENT, &m);
  int32_t ids[1];
  float shares[1024], unmatched[1];
  pisces_plan plan = {ids, shares, unmatched, 1, 0, 0};
  refuses("no room", pisces_reward_explain(r, &f, "a red circle", &plan, &m), PISCES_BAD_ARGUMENT,
          &m);
  refuses("no ids", pisces_reward_tokenize(r, "a", NULL, 1, &count, &m), PISCES_BAD_ARGUMENT, &m);
  refuses("no count", pisces_reward_tokenize(r, "a", ids, 1, NULL, &m), PISCES_BAD_ARGUMENT, &m);
  refuses("capacity", pisces_reward_tokenize(r, "a", ids, -1, &count, &m), PISCES_BAD_ARGUMENT, &m);
  const double nan_weight = NAN;
  refuses("a weight",
          pisces_reward_gradient(r, &f, captions, &nan_weight, NULL, &quality, &semantic, x, &m),
          PISCES_BAD_DATA, &m);
  refuses("no place for a reward",
          pisces_reward_gradient(r, &f, captions, &one, &one, NULL, &semantic, x, &m),
          PISCES_BAD_ARGUMENT, &m);
  refuses("no sizes", pisces_reward_describe(r, NULL, &m), PISCES_BAD_ARGUMENT, &m);
  /* A message is not needed. */
  check(pisces_reward_score(r, NULL, captions, 1, scores, NULL) == PISCES_BAD_ARGUMENT, "NULL",
        "message");
  pisces_reward_close(NULL);

  /* Ten megabytes of caption are read as far as the model reads. */
  char *large = malloc(10 << 20);
  for (int i = 0; i < 10 << 20; i++) large[i] = "red "[i % 4];
  large[(10 << 20) - 1] = 0;
  const char *const large_captions[] = {large};
  check(SCORE(&f, large_captions, 1) == PISCES_OK && scores[0].truncated == 1, "10 MB", m.text);
  check(pisces_reward_text_features(r, large_captions, 1, features, NULL, &m) == PISCES_OK, "10 MB",
        m.text);
  free(large);
  free(x);
}

/* A directional derivative of both rewards against a central difference. */
static void gradient(pisces_reward *r) {
  enum { B = 2 };

  const double weights[2][B] = {{1, -0.5}, {0.3, 2}};
  const char *const captions[B] = {"a red circle moving left", "a large blue star"};
  float *x = malloc(B * CLIP * sizeof *x), *d = malloc(B * CLIP * sizeof *d),
        *y = malloc(B * CLIP * sizeof *y), *g = malloc(B * CLIP * sizeof *g);
  double quality[B], semantic[B], sums[2], along = 0;
  pisces_message m;
  fill(x, B * CLIP, 3), fill(d, B * CLIP, 4);
  pisces_frames f = {x, B, T, SIDE, SIDE};
  check(pisces_reward_gradient(r, &f, captions, weights[0], weights[1], quality, semantic, g, &m) ==
            PISCES_OK,
        "gradient", m.text);
  for (int i = 0; i < B * CLIP; i++) along += (double)g[i] * (d[i] - 0.5);
  const float h = 1e-2f;
  f.pixels = y;
  for (int side = 0; side < 2; side++) {
    for (int i = 0; i < B * CLIP; i++) y[i] = x[i] + (side ? h : -h) * (d[i] - 0.5f);
    check(pisces_reward_gradient(r, &f, captions, NULL, NULL, quality, semantic, NULL, &m) ==
              PISCES_OK,
          "rewards alone", m.text);
    sums[side] = 0;
    for (int b = 0; b < B; b++)
      sums[side] += weights[0][b] * quality[b] + weights[1][b] * semantic[b];
  }
  const double difference = (sums[1] - sums[0]) / (2 * (double)h);
  /* Plans are constants of the gradient and not of the difference, which allows little more. */
  if (!(fabs(difference - along) <= 0.05 * fabs(along) + 1e-3)) {
    printf("gradient %g, difference %g\n", along, difference);
    faults++;
  }
  free(x), free(d), free(y), free(g);
}

typedef struct {
  pisces_reward *reward;
  unsigned seed;
  pisces_scores found[ROUNDS][2];
  float feature[128];
  int ok;
} job;

static void *work(void *context) {
  job *j = context;
  float *x = malloc(CLIP * sizeof *x);
  const char *const captions[] = {"a red circle moving left", "a large blue star"};
  pisces_message m;
  j->ok = 1;
  for (int k = 0; k < ROUNDS; k++) {
    fill(x, CLIP, j->seed + (unsigned)k);
    pisces_frames f = {x, 1, T, SIDE, SIDE};
    j->ok &= pisces_reward_score(j->reward, &f, captions, 2, j->found[k], &m) == PISCES_OK;
    j->ok &= pisces_reward_score(j->reward, NULL, captions, 2, j->found[k], &m) != PISCES_OK;
  }
  free(x);
  return NULL;
}

/* The same jobs by themselves and together, on a handle each and on one for all. */
static void threads(pisces_reward *r) {
  job alone[THREADS], together[THREADS];
  memset(alone, 0, sizeof alone), memset(together, 0, sizeof together);
  for (int i = 0; i < THREADS; i++) {
    alone[i].reward = r, alone[i].seed = together[i].seed = 10 * (unsigned)i;
    work(&alone[i]);
    together[i].reward = r;
    if (i % 2)
      check(pisces_reward_open("embedded:reward", NULL, &together[i].reward, NULL) == 0, "open",
            "another handle");
  }
  pthread_t ids[THREADS];
  for (int i = 0; i < THREADS; i++) pthread_create(&ids[i], NULL, work, &together[i]);
  for (int i = 0; i < THREADS; i++) pthread_join(ids[i], NULL);
  for (int i = 0; i < THREADS; i++) {
    check(alone[i].ok && together[i].ok, "threads", "a call failed");
    check(memcmp(alone[i].found, together[i].found, sizeof alone[i].found) == 0, "threads",
          "other bits");
    if (i % 2) pisces_reward_close(together[i].reward);
  }
}

int main(int argc, char **argv) {
  pisces_reward *r = NULL;
  pisces_message m;
  pisces_reward_sizes s;
  check(pisces_version() == PISCES_VERSION, "version", "not that of the header");
  check(pisces_reward_open(argc > 1 ? argv[1] : "embedded:reward", NULL, &r, &m) == PISCES_OK,
        "open", m.text);
  if (faults) return faults;
  check(pisces_reward_describe(r, &s, &m) == PISCES_OK && s.grid == 8 && s.has_map == 1, "describe",
        m.text);
  int32_t ids[8];
  ptrdiff_t count = 0;
  check(pisces_reward_tokenize(r, "a red circle", ids, 2, &count, &m) == PISCES_OK && count == 4,
        "tokenize", m.text);
  hostile(r);
  gradient(r);
  threads(r);
  pisces_reward_close(r);
  printf("reward client: %d faults\n", faults);
  return faults;
}
