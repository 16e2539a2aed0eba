/* Contexts: memory, threads, the last error; and the words for statuses. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../CSupport/Kernels/isa/omp_declarations.h"
#include "library.h"

int pisces_ot_version(void) { return PISCES_OT_VERSION; }

const char *pisces_ot_status_text(pisces_ot_status status) {
  switch (status) {
  case PISCES_OT_OK:
    return "ok";
  case PISCES_OT_BAD_ARGUMENT:
    return "bad argument";
  case PISCES_OT_BAD_DATA:
    return "bad data";
  case PISCES_OT_NO_MEMORY:
    return "out of memory";
  case PISCES_OT_INTERNAL:
    return "internal error";
  }
  return "unknown status";
}

const char *pisces_ot_outcome_text(pisces_ot_outcome outcome) {
  switch (outcome) {
  case PISCES_OT_CONVERGED:
    return "converged";
  case PISCES_OT_MAX_ITERATIONS:
    return "max_iterations";
  case PISCES_OT_STALLED:
    return "stalled";
  case PISCES_OT_NON_FINITE:
    return "non_finite";
  case PISCES_OT_INTERRUPTED:
    return "interrupted";
  }
  return "unknown outcome";
}

pisces_ot_status pisces_ot_create(pisces_ot_context **context) {
  if (!context) return PISCES_OT_BAD_ARGUMENT;
  *context = calloc(1, sizeof **context);
  if (!*context) return PISCES_OT_NO_MEMORY;
  (*context)->threads = omp_get_max_threads();
  pk_isa_detected();
  return PISCES_OT_OK;
}

void pisces_ot_destroy(pisces_ot_context *c) {
  if (!c) return;
  free(c->scratch);
  free(c->copies);
  free(c);
}

pisces_ot_status pisces_ot_set_threads(pisces_ot_context *c, int threads) {
  if (!c) return PISCES_OT_BAD_ARGUMENT;
  if (threads < 1 || threads > 4096)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT,
                        "%d threads: set_threads: give a number from 1 to 4096", threads);
  c->message[0] = 0;
  c->threads = threads;
  return PISCES_OT_OK;
}

int pisces_ot_threads(const pisces_ot_context *c) { return c ? c->threads : 0; }

const char *pisces_ot_message(const pisces_ot_context *c) {
  return c ? c->message : "no context: create one with pisces_ot_create";
}

void pisces_ot_problem_init_size(pisces_ot_problem *problem, size_t size) {
  const pisces_ot_problem defaults = {.size = size,
                                      .scale = 1,
                                      .rho_source = INFINITY,
                                      .rho_target = INFINITY,
                                      .mass = 1,
                                      .tolerance = PK_TOLERANCE_LIBRARY,
                                      .max_iterations = PK_MAX_ITERATIONS_LIBRARY};
  if (problem) memcpy(problem, &defaults, size < sizeof defaults ? size : sizeof defaults);
}

void pisces_ot_barycenter_init_size(pisces_ot_barycenter_problem *problem, size_t size) {
  const pisces_ot_barycenter_problem defaults = {.size = size,
                                                 .tolerance = PK_TOLERANCE_BARYCENTER,
                                                 .max_iterations = PK_MAX_ITERATIONS_LIBRARY};
  if (problem) memcpy(problem, &defaults, size < sizeof defaults ? size : sizeof defaults);
}

pisces_ot_status library_fail(pisces_ot_context *c, pisces_ot_status status, const char *format,
                              ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(c->message, sizeof c->message, format, arguments);
  va_end(arguments);
  return status;
}

/* The old contents are not wanted, so that nothing is copied. A cache line more for aligned
 * addresses. */
static void *room(pisces_ot_context *c, void **memory, size_t *held, size_t bytes) {
  if (bytes > *held) {
    free(*memory);
    *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    *held = *memory ? bytes : 0;
    if (!*memory)
      library_fail(c, PISCES_OT_NO_MEMORY,
                   "out of memory: %zu bytes of scratch: give points instead of a matrix, f32, or "
                   "a smaller problem",
                   bytes);
  }
  return *memory;
}

void *library_scratch(pisces_ot_context *c, ptrdiff_t bytes) {
  return room(c, &c->scratch, &c->scratch_bytes, bytes > 0 ? (size_t)bytes : 1);
}

double *library_copies(pisces_ot_context *c, ptrdiff_t doubles) {
  return room(c, &c->copies, &c->copies_bytes, (size_t)doubles * sizeof(double));
}

int library_enter(const pisces_ot_context *c) {
  const int before = omp_get_max_threads();
  if (before != c->threads) omp_set_num_threads(c->threads);
  return before;
}

void library_leave(int before) {
  if (omp_get_max_threads() != before) omp_set_num_threads(before);
}
