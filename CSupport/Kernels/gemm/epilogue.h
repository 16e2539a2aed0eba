/* What follows a product while C is still in L1: bias, activation, derivative of an activation
 * (pk_epilogue of pk_gemm.h). */
#ifndef PK_GEMM_EPILOGUE_H
#define PK_GEMM_EPILOGUE_H
#include "gemm_algorithms.h"

/* Applies the epilogue to C [row .. row + rows, column .. column + columns]. */
void pk_apply_epilogue(pk_type type, const pk_epilogue *e, idx row, idx rows, idx column,
                       idx columns, void *c, idx ldc);

/* The epilogue cut in two: the micro-kernels add the bias, the rest follows. */
typedef struct {
  const float *bias; /* NULL: none */
  pk_epilogue rest;
  int has_rest;
} split_epilogue;

static inline split_epilogue pk_split_epilogue(const pk_epilogue *e) {
  split_epilogue split = {0};
  if (!e) return split;
  split.bias = e->bias;
  split.rest = *e;
  split.rest.bias = NULL;
  split.has_rest = e->active || e->before;
  return split;
}

/* The operands of the epilogue beside C, in f32: a stream for a part of C. */
static inline pk_prefetch_stream pk_prefetch_epilogue(const pk_epilogue *e, idx row, idx rows,
                                                      idx column, idx columns) {
  if (e->before)
    return pk_prefetch_rows((const float *)e->before + row * e->ldbefore + column, rows, columns,
                            e->ldbefore);
  if (e->active)
    return pk_prefetch_rows((const float *)e->active + row * e->ldactive + column, rows, columns,
                            e->ldactive);
  return (pk_prefetch_stream){0};
}
#endif
