/* Items of work that know nothing of each other, shared out among a team: every member has an equal
 * run of them, takes them from its front, and when none are left takes some from the backs of its
 * neighbours' runs. Processors of one machine are not equally fast from one moment to the next
 * where their other hardware threads belong to others (measured: 8 to 18 % between two of them),
 * and equal shares wait for the slowest. Who computes an item changes nothing in it, so the bits
 * are the same. */
#ifndef PK_SHARE_H
#define PK_SHARE_H
#include <stddef.h>
#include <stdint.h>
#define PK_RUNS 128 /* members beyond that begin with the run of another */
/* runs a member looks into, its own among them: all of a large team's would take longer than the
 * work */
#define PK_NEIGHBOURS 8

typedef struct {
  uint64_t range; /* first << 32 | end, of the items that nobody has taken */
  char apart[56];
} pk_run;

/* The run of member i; with a barrier between this and the first taking, or outside the parallel
 * region. */
static inline void pk_share_out(pk_run *runs, ptrdiff_t items, ptrdiff_t team, ptrdiff_t i) {
  const ptrdiff_t n = team < PK_RUNS ? team : PK_RUNS;
  if (i < n)
    __atomic_store_n(&runs[i].range,
                     (uint64_t)(items * i / n) << 32 | (uint64_t)(items * (i + 1) / n),
                     __ATOMIC_RELAXED);
}

/* An item for member `me`, or -1. */
static inline ptrdiff_t pk_take(pk_run *runs, ptrdiff_t team, ptrdiff_t me) {
  const ptrdiff_t n = team < PK_RUNS ? team : PK_RUNS;
  for (ptrdiff_t v = 0; v < n && v < PK_NEIGHBOURS; v++) {
    uint64_t *range = &runs[(me + v) % n].range, old = __atomic_load_n(range, __ATOMIC_RELAXED);
    while (old >> 32 < (old & 0xffffffff))
      if (__atomic_compare_exchange_n(range, &old, v ? old - 1 : old + ((uint64_t)1 << 32), 1,
                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return v ? (ptrdiff_t)(old & 0xffffffff) - 1 : (ptrdiff_t)(old >> 32);
  }
  return -1;
}
#endif
