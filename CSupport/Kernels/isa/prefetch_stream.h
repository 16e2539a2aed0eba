/* Memory that a thread will read or write soon, prefetched a cache line at a time by the
 * micro-kernels while they multiply. A core has about sixteen places for lines on their way: a
 * burst of prefetches stops the loads that follow it, one line every few values of k does not
 * (notes/kernels.md, "Prefetching"). */
#ifndef PK_PREFETCH_STREAM_H
#define PK_PREFETCH_STREAM_H
#include "arrays.h"

/* `left` lines of 64 bytes from `next` on, in runs of `width` neighbouring lines with `skip` bytes
 * between two runs; `run` lines of the current run are left. A micro-kernel advances the stream as
 * far as it comes, and then goes on to the stream `then` (NULL: none). */
typedef struct pk_prefetch_stream {
  const char *next;
  idx run, width, skip, left;
  struct pk_prefetch_stream *then;
} pk_prefetch_stream;

/* The stream of f32 [count, columns] with rows `ld` elements apart. */
static inline pk_prefetch_stream pk_prefetch_rows(const float *rows, idx count, idx columns,
                                                  idx ld) {
  const idx lines = CEIL_DIV(columns, 16);
  return (pk_prefetch_stream){.next = (const char *)rows,
                              .run = lines,
                              .width = lines,
                              .skip = (ld - 16 * lines) * 4,
                              .left = count * lines};
}
#endif
