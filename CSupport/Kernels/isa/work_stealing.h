/* Independent items of work, partitioned among a thread team with work stealing.
 *
 * Every thread has an equal range of the items and takes them from its front. A thread whose range
 * is empty steals items from the backs of its neighbours' ranges. Equal shares alone wait for the
 * slowest processor, and processors of one machine are not equally fast from one moment to the next
 * where their other hardware threads run other processes (measured: 8 to 18 % between two of them).
 * The thread that computes an item changes nothing in it, so the bits do not depend on the
 * order. */
#ifndef PK_WORK_STEALING_H
#define PK_WORK_STEALING_H
#include <stddef.h>
#include <stdint.h>

/* Ranges at most; further threads begin with another thread's range. */
#define PK_WORK_RANGES 128
/* Ranges in which a thread looks for work, its own among them: looking at those of a large team
 * would take longer than the work. */
#define PK_STEAL_FROM 8

/* Items that nobody has taken, first << 32 | end, alone in its cache line. */
typedef struct {
  uint64_t range;
  char padding[56];
} pk_work_range;

/* Sets the range of one thread. Every thread of the team calls it, then a barrier, then pk_steal;
 * or one thread calls it for all before the parallel region. */
static inline void pk_partition(pk_work_range *ranges, ptrdiff_t items, ptrdiff_t threads,
                                ptrdiff_t thread) {
  const ptrdiff_t n = threads < PK_WORK_RANGES ? threads : PK_WORK_RANGES;
  if (thread < n)
    __atomic_store_n(&ranges[thread].range,
                     (uint64_t)(items * thread / n) << 32 | (uint64_t)(items * (thread + 1) / n),
                     __ATOMIC_RELAXED);
}

/* The next item of this thread: its own first, then a stolen one; -1 when there is none. */
static inline ptrdiff_t pk_steal(pk_work_range *ranges, ptrdiff_t threads, ptrdiff_t thread) {
  const ptrdiff_t n = threads < PK_WORK_RANGES ? threads : PK_WORK_RANGES;
  for (ptrdiff_t v = 0; v < n && v < PK_STEAL_FROM; v++) {
    uint64_t *range = &ranges[(thread + v) % n].range;
    uint64_t old = __atomic_load_n(range, __ATOMIC_RELAXED);
    while (old >> 32 < (old & 0xffffffff))
      if (__atomic_compare_exchange_n(range, &old, v ? old - 1 : old + ((uint64_t)1 << 32), 1,
                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return v ? (ptrdiff_t)(old & 0xffffffff) - 1 : (ptrdiff_t)(old >> 32);
  }
  return -1;
}
#endif
