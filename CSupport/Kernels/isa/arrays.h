/* What every driver and every body needs: the index type, sizes rounded up, elements of arrays
 * whose type is known at run time, and the fixed blocks over which sums are made. */
#ifndef PK_ARRAYS_H
#define PK_ARRAYS_H
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../include/pk.h"

typedef ptrdiff_t idx;

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define CEIL_DIV(a, b) (((a) + (b) - 1) / (b))
#define ROUND_UP(n, unit) (((n) + (unit) - 1) / (unit) * (unit))

/* Bytes of an element. */
static inline idx pk_size(pk_type t) {
  return t == PK_F64 ? 8 : t == PK_F32 ? 4 : t == PK_I8 ? 1 : 2;
}

/* Address of element i. */
static inline void *pk_at(const void *p, pk_type t, idx i) { return (char *)p + i * pk_size(t); }

/* Element i of an array of a compute type (f32 or f64). */
static inline double pk_read(const void *p, pk_type t, idx i) {
  return t == PK_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

static inline void pk_write(void *p, pk_type t, idx i, double v) {
  if (t == PK_F64)
    ((double *)p)[i] = v;
  else
    ((float *)p)[i] = (float)v;
}

/* A fixed partition of n items into PK_BLOCKS blocks: block b is [PK_LO, PK_HI). Sums are made
 * block by block and added in order of the blocks, so that they do not depend on the number of
 * threads. */
#define PK_BLOCKS 64
#define PK_LO(b, n) ((n) * (b) / PK_BLOCKS)
#define PK_HI(b, n) ((n) * ((b) + 1) / PK_BLOCKS)

/* Sums over the rows of each of `groups` groups: the number of fixed blocks of rows in a group. At
 * most PK_BLOCKS in all groups together, and at least sixteen rows a block. */
static inline idx pk_row_blocks(idx groups, idx rows) {
  const idx by_rows = (rows + 15) / 16, by_groups = PK_BLOCKS / groups;
  return by_groups < 1 ? 1 : MIN(by_groups, by_rows);
}

/* Element operations below which a parallel region costs more than it saves: starting the thread
 * team takes about 5 microseconds of one core. */
#define PK_SERIAL 16384
#endif
