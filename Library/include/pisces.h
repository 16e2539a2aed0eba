/* libpisces: the quality and semantic reward of a video and a prompt (PISCES, arXiv:2602.01624),
 * with their gradient with respect to the frames.
 *
 *   quality   cosine of the video feature and the text feature that the OT map carries to the space
 *             of real videos, in [-1, 1]
 *   semantic  probability of a match, from fusion layers whose cross-attention is multiplied by
 *             plans of token-level partial transport, in (0, 1)
 *
 * Conventions  Arrays are dense, row-major and the caller's. Frames are f32 [T, 3, H, W] in [0, 1],
 *              channels R, G, B, of any size: the shorter side is resized to the model's and the
 *              centre is cut out; numbers beyond -1 and 2 are refused. T is a multiple of
 *              `tubelet_size`. Captions are UTF-8, ended by a zero; words beyond the model's
 *              `tokens` are not read (`truncated`).
 * Threads      A handle may be used from any host thread. One call computes at a time in a process;
 *              others wait. The bits of a result do not depend on the number of threads, and are
 *              those of the program `pisces score` with the same `compute`. The library has OpenMP
 *              threads of its own, which sleep a millisecond after the last call, so that those of
 *              another library (torch) find the processors free.
 * Errors       A status other than PISCES_OK means that nothing was written to the outputs; the
 *              message (the caller's; may be NULL) has one line: what, where, how to mend.
 * Memory       Weights stay in the mapped files: leave these alone while a handle is open. A handle
 *              keeps scratch memory until it is closed. Using a handle after closing it is not
 *              defined, as for memory after free().
 * Stability    While PISCES_ABI and with it the soname stay, structures keep their layout (one with
 *              `size` may grow at its end) and enumerations only gain members. */
#ifndef PISCES_H
#define PISCES_H
#include <stddef.h>
#include <stdint.h>

/* The version of PISCES that the library belongs to (Documentation/releasing.md). */
#define PISCES_VERSION_MAJOR 0
#define PISCES_VERSION_MINOR 2
#define PISCES_VERSION_PATCH 0
/* The number in the soname: it grows when a client has to be compiled again. */
#define PISCES_ABI 1
#define PISCES_VERSION \
  (PISCES_VERSION_MAJOR * 10000 + PISCES_VERSION_MINOR * 100 + PISCES_VERSION_PATCH)

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  PISCES_OK = 0,
  PISCES_BAD_ARGUMENT = 1, /* a size, an option, a missing pointer, text that is not UTF-8 */
  PISCES_BAD_DATA = 2,     /* frames that are not finite or far from [0, 1]; a damaged model */
  PISCES_NO_MEMORY = 3,    /* more than is free */
  PISCES_NOT_FOUND = 4,    /* no such model or file */
  PISCES_INTERNAL = 5      /* a bug of the library */
} pisces_status;

/* One line for people, ended by a zero. */
typedef struct {
  char text[512];
} pisces_message;

/* PISCES_VERSION of the library that is loaded. */
int pisces_version(void);

typedef enum {
  PISCES_F32 = 0,
  PISCES_BF16 = 1, /* operands of products rounded to bf16: scores within 0.02 of f32's */
  PISCES_AUTO = 2  /* bf16 where this processor multiplies it faster */
} pisces_compute;

/* Set up by pisces_reward_options_init. */
typedef struct {
  size_t size;            /* of this structure */
  const char *ot_map;     /* another OT map than the model's own; NULL */
  int threads;            /* 0: as the environment says (affinity, cgroup, OMP_NUM_THREADS) */
  pisces_compute compute; /* PISCES_F32 */
} pisces_reward_options;

void pisces_reward_options_init(pisces_reward_options *options);

/* A reward model that is open. */
typedef struct pisces_reward pisces_reward;

/* Opens a reward-model directory, or "embedded:reward". options may be NULL. *reward is NULL after
 * an error. */
pisces_status pisces_reward_open(const char *path, const pisces_reward_options *options,
                                 pisces_reward **reward, pisces_message *message);
/* NULL is allowed. */
void pisces_reward_close(pisces_reward *reward);

/* Sizes of a model. */
typedef struct {
  ptrdiff_t frames;       /* the number of frames it was trained on */
  ptrdiff_t tubelet_size; /* T must be a multiple of it */
  ptrdiff_t image_size;   /* side of the input after cropping */
  ptrdiff_t grid;         /* patches along a side */
  ptrdiff_t features;     /* E, width of video and text features */
  ptrdiff_t tokens;       /* tokens of a caption that are read, [CLS] included */
  ptrdiff_t plain_tokens; /* the same for the rewards without transport */
  int has_map;            /* whether there is an OT map */
} pisces_reward_sizes;

pisces_status pisces_reward_describe(pisces_reward *reward, pisces_reward_sizes *sizes,
                                     pisces_message *message);

/* The ids of a caption's tokens, [CLS] first. Writes at most `capacity`; *count is their number. */
pisces_status pisces_reward_tokenize(pisces_reward *reward, const char *caption, int32_t *ids,
                                     ptrdiff_t capacity, ptrdiff_t *count, pisces_message *message);

/* The text of a token id (a piece begins with ##), ended by a zero; at most `capacity` bytes
 * are written. */
pisces_status pisces_reward_token(pisces_reward *reward, int32_t id, char *text, size_t capacity,
                                  pisces_message *message);

/* Clips of one shape. */
typedef struct {
  const float *pixels; /* [clips, T, 3, H, W] */
  ptrdiff_t clips, t, h, w;
} pisces_frames;

/* The rewards of one pair, with transport and without ("vanilla"). */
typedef struct {
  double quality; /* NAN without an OT map */
  double semantic, vanilla_quality, vanilla_semantic;
  int truncated; /* whether words of the caption were not read */
} pisces_scores;

/* scores[i] of the one clip in `frames` and captions[i], i < count. */
pisces_status pisces_reward_score(pisces_reward *reward, const pisces_frames *frames,
                                  const char *const *captions, ptrdiff_t count,
                                  pisces_scores *scores, pisces_message *message);

/* Unit features of the clips [clips, E]. */
pisces_status pisces_reward_video_features(pisces_reward *reward, const pisces_frames *frames,
                                           float *features, pisces_message *message);
/* Unit features of captions [count, E], and the same carried by the OT map (NULL: not wanted). */
pisces_status pisces_reward_text_features(pisces_reward *reward, const char *const *captions,
                                          ptrdiff_t count, float *features, float *mapped,
                                          pisces_message *message);

/* Where the words of a caption were transported to: means over layers and heads. */
typedef struct {
  int32_t *ids;       /* [capacity]: the tokens that have a plan */
  float *shares;      /* [capacity, 1 + times * grid * grid]: of each word, on [CLS] and on every
                          patch of every time position (T / tubelet_size); rows sum to 1 */
  float *unmatched;   /* [capacity]: of each word's mass, what was not transported */
  ptrdiff_t capacity; /* words there is room for */
  ptrdiff_t count;    /* set: the number of words; a larger number than capacity is an error */
  double mass;        /* set: total mass of the plans */
} pisces_plan;

pisces_status pisces_reward_explain(pisces_reward *reward, const pisces_frames *frames,
                                    const char *caption, pisces_plan *plan,
                                    pisces_message *message);

/* Both rewards of clip i and captions[i], i < frames->clips, and
 *
 *   gradient = d (sum_i weights_quality[i] quality_i + weights_semantic[i] semantic_i) / d pixels
 *
 * [clips, T, 3, H, W]. A NULL array of weights stands for zeros; `gradient` may be NULL, then only
 * the rewards are computed. Plans of transport are constants of the differentiation
 * (arXiv:2602.01624, section 3.3). Memory grows with clips x T; activations are recomputed. */
pisces_status pisces_reward_gradient(pisces_reward *reward, const pisces_frames *frames,
                                     const char *const *captions, const double *weights_quality,
                                     const double *weights_semantic, double *quality,
                                     double *semantic, float *gradient, pisces_message *message);

#ifdef __cplusplus
}
#endif
#endif
