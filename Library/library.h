/* What the files of the library share. */
#ifndef LIBRARY_H
#define LIBRARY_H
#include "include/pisces_ot.h"
#include <stdio.h>
#include "pk.h"

struct pisces_ot_context {
  int threads;
  char message[320];
  void *scratch, *copies; /* of the solver; of weights and potentials */
  size_t scratch_bytes, copies_bytes;
};

/* A checked problem as the solver wants it. */
typedef struct {
  pk_sinkhorn_problem p;
  /* weights of the problem that is solved, [count or 1, n], [count or 1, m] */
  double *source, *target;
  double *source_sums, *target_sums; /* of the weights given; 1 where they were divided */
  /* of item 0's weights where balanced sums differ, else 1 */
  double divisors[2];
  double *source_shifts, *target_shifts; /* see library_value_shift */
  pk_sinkhorn_strides strides;
} prepared;

/* Sets the context's message and returns the status; with PISCES_OT_OK the message is a warning. */
pisces_ot_status library_fail(pisces_ot_context *c, pisces_ot_status status, const char *format,
                              ...) __attribute__((format(printf, 3, 4)));
/* The same for a fault of the checks (PK_FAULT_NONE: PISCES_OT_OK), at `where`. */
pisces_ot_status library_refuse(pisces_ot_context *c, const pk_fault *fault, const char *where);
/* Derivatives with respect to weights as they were given, of those with respect to the divided ones
 * `w`. */
void library_undivide(ptrdiff_t n, const double *w, double divisor, double *dw);
/* That a square cost is symmetric to 1e-6 of its largest element. */
pisces_ot_status library_check_symmetric(pisces_ot_context *c, const char *name,
                                         pisces_ot_type type, ptrdiff_t n, const void *x);
/* At least `bytes` of memory that the context keeps; NULL, with the message set, when there is
 * none. */
void *library_scratch(pisces_ot_context *c, ptrdiff_t bytes);
double *library_copies(pisces_ot_context *c, ptrdiff_t doubles);
/* Checks everything a call is given and copies the weights, `extra` doubles left behind them.
 * `strides`: of a batch, or NULL. */
pisces_ot_status library_prepare(pisces_ot_context *c, const pisces_ot_problem *problem,
                                 ptrdiff_t count, const pisces_ot_strides *strides, ptrdiff_t extra,
                                 prepared *out, double **behind);
/* Checks points alone. */
pisces_ot_status library_points(pisces_ot_context *c, const pisces_ot_problem *problem,
                                pk_sinkhorn_problem *out);
pisces_ot_status library_check_array(pisces_ot_context *c, const char *name, pisces_ot_type type,
                                     ptrdiff_t count, const void *x);
/* The caller's options within a structure that may be an older, shorter one. */
pisces_ot_status library_options(pisces_ot_context *c, const pisces_ot_problem *problem,
                                 pisces_ot_problem *out);
/* The weights of one side as solved with for the product reference; *shift as in pk_product_refer.
 */
pisces_ot_status library_refer(pisces_ot_context *c, const char *name, pk_side side, double epsilon,
                               double rho, ptrdiff_t n, double *w, double *shift);
/* The objective of item k is the solver's plus this (the product reference). */
double library_value_shift(const pisces_ot_problem *problem, const prepared *q, ptrdiff_t k);
/* A result of the solver as a certificate, all but outcome, iterations and residual; `shift`: what
 * the reference adds to its values. */
void library_certificate(double epsilon, double shift, const pk_sinkhorn_result *r,
                         pisces_ot_certificate *out);
/* PISCES_OT_OK, or that the kernels refused what was checked. */
pisces_ot_status library_answer(pisces_ot_context *c, pk_status status);

/* Runs one call with the context's number of threads; the calling thread's own setting is put back.
 */
int library_enter(const pisces_ot_context *c);
void library_leave(int before);
#endif
