/* What a caller gives becomes a problem of the solver. What a problem means and when it is refused
 * stands in pk_problem.h; here are sizes, missing arrays, batches and the reference. */
#include <math.h>
#include <string.h>
#include "library.h"

static const ptrdiff_t largest = (ptrdiff_t)1 << 48; /* elements of an array */

#define REFUSE(...) return library_fail(c, PISCES_OT_BAD_ARGUMENT, __VA_ARGS__)

pisces_ot_status library_refuse(pisces_ot_context *c, const pk_fault *fault, const char *where) {
  char what[160], remedy[120];
  if (fault->kind == PK_FAULT_NONE) return PISCES_OT_OK;
  pk_fault_text(fault, what, remedy, sizeof remedy);
  return library_fail(c,
                      pk_fault_is_option(fault->kind) ? PISCES_OT_BAD_ARGUMENT : PISCES_OT_BAD_DATA,
                      "%s: %s: %s", what, where, remedy);
}

static pisces_ot_status refuse_item(pisces_ot_context *c, const pk_fault *fault, ptrdiff_t item) {
  char where[32];
  snprintf(where, sizeof where, "item %td", item);
  return library_refuse(c, fault, where);
}

pisces_ot_status library_options(pisces_ot_context *c, const pisces_ot_problem *problem,
                                 pisces_ot_problem *out) {
  if (!problem) REFUSE("no problem: pass one");
  /* The size of the structure in version 1.0: what a caller has at least. */
  if (problem->size < sizeof *out || problem->size > 4096)
    REFUSE("problem.size is %zu: problem: set it up with pisces_ot_problem_init", problem->size);
  *out = *problem;
  return PISCES_OT_OK;
}

static pk_type type_of(pisces_ot_type type) { return type == PISCES_OT_F64 ? PK_F64 : PK_F32; }

static pisces_ot_status check_present(pisces_ot_context *c, const char *name, ptrdiff_t count,
                                      const void *x) {
  if (!x) REFUSE("%s is missing: pass an array of %td elements", name, count);
  return PISCES_OT_OK;
}

pisces_ot_status library_check_array(pisces_ot_context *c, const char *name, pisces_ot_type type,
                                     ptrdiff_t count, const void *x) {
  const pisces_ot_status status = check_present(c, name, count, x);
  if (status) return status;
  const pk_fault fault = pk_check_finite(name, type_of(type), count, x);
  return library_refuse(c, &fault, "array");
}

pisces_ot_status library_check_symmetric(pisces_ot_context *c, const char *name,
                                         pisces_ot_type type, ptrdiff_t n, const void *x) {
  const pk_fault fault = pk_check_symmetric(name, type_of(type), n, x);
  return library_refuse(c, &fault, "array");
}

static pisces_ot_status check_points(pisces_ot_context *c, const char *name,
                                     const pisces_ot_problem *p, ptrdiff_t n, const void *x) {
  const pisces_ot_status status = library_check_array(c, name, p->type, n * p->d, x);
  if (status || p->cost != PISCES_OT_COSINE) return status;
  const pk_fault fault = pk_check_directions(name, type_of(p->type), n, p->d, x);
  return library_refuse(c, &fault, "array");
}

/* The costs or points of all items. *forbids: a cost has infinite elements. */
static pisces_ot_status check_inputs(pisces_ot_context *c, const pisces_ot_problem *p,
                                     ptrdiff_t count, const pisces_ot_strides *s, int *forbids) {
  const int is_points = p->cost != PISCES_OT_MATRIX;
  const pk_type type = type_of(p->type);
  const ptrdiff_t size = type == PK_F64 ? 8 : 4;
  pisces_ot_status status = PISCES_OT_OK;
  if (!is_points) status = check_present(c, "the cost", p->n * p->m, p->x);
  for (ptrdiff_t k = 0; !status && k < (s->x ? count : 1); k++) {
    const char *x = p->x ? (const char *)p->x + k * s->x * size : NULL;
    if (is_points) {
      status = check_points(c, "x", p, p->n, x);
    } else {
      const pk_fault fault = pk_check_costs("cost", type, p->n * p->m, x, forbids);
      status = refuse_item(c, &fault, k);
    }
  }
  for (ptrdiff_t k = 0; !status && is_points && k < (s->y ? count : 1); k++)
    status = check_points(c, "y", p, p->m, p->y ? (const char *)p->y + k * s->y * size : NULL);
  return status;
}

static pisces_ot_status check_sizes(pisces_ot_context *c, const pisces_ot_problem *p,
                                    ptrdiff_t count) {
  const ptrdiff_t width = p->cost == PISCES_OT_MATRIX ? 1 : p->d;
  if (p->n < 1 || p->m < 1 || width < 1)
    REFUSE("sizes are n = %td, m = %td, d = %td: problem: all must be at least 1", p->n, p->m,
           width);
  if (count < 1) REFUSE("count is %td: batch: give at least 1", count);
  const ptrdiff_t rows = p->n > p->m ? p->n : p->m,
                  columns = p->cost == PISCES_OT_MATRIX ? (p->n < p->m ? p->n : p->m) : width;
  if (rows > largest / columns || count > largest / rows)
    REFUSE("sizes are n = %td, m = %td, d = %td, count = %td: problem: too large for memory", p->n,
           p->m, width, count);
  return PISCES_OT_OK;
}

static pisces_ot_status check_choices(pisces_ot_context *c, const pisces_ot_problem *p) {
  if (p->type != PISCES_OT_F64 && p->type != PISCES_OT_F32)
    REFUSE("type is %d: problem: give PISCES_OT_F64 or PISCES_OT_F32", (int)p->type);
  if ((unsigned)p->cost > PISCES_OT_COSINE)
    REFUSE("cost is %d: problem: give a pisces_ot_cost", (int)p->cost);
  if ((unsigned)p->rule > PISCES_OT_EXACT_MASS)
    REFUSE("rule is %d: problem: give a pisces_ot_rule", (int)p->rule);
  if ((unsigned)p->reference > PISCES_OT_PRODUCT)
    REFUSE("reference is %d: problem: give a pisces_ot_reference", (int)p->reference);
  if (p->reference == PISCES_OT_PRODUCT && p->rule == PISCES_OT_EXACT_MASS)
    REFUSE("the product reference is not offered with exact mass: problem: take PISCES_OT_ENTROPY");
  return PISCES_OT_OK;
}

static pk_sinkhorn_problem solver_problem_of(const pisces_ot_problem *p) {
  const int is_points = p->cost != PISCES_OT_MATRIX;
  return (pk_sinkhorn_problem){.n = p->n,
                               .m = p->m,
                               .d = is_points ? p->d : 0,
                               .type = type_of(p->type),
                               .cost = (pk_cost)p->cost,
                               .scale = is_points ? p->scale : 1,
                               .epsilon = p->epsilon,
                               .tolerance = p->tolerance,
                               .max_iterations = p->max_iterations,
                               .plain = p->plain != 0,
                               .warm = p->warm != 0,
                               .progress = p->progress,
                               .context = p->context};
}

static pk_marginals marginals_of(const pisces_ot_problem *p) {
  return (pk_marginals){.rule = (pk_rule)p->rule,
                        .rho_source = p->rho_source,
                        .rho_target = p->rho_target,
                        .marginal_exponent = p->mass,
                        .mass = p->mass};
}

/* Copies `items` times `n` weights, uniform where none are given; their sums go to `sums`. */
static pisces_ot_status copy_weights(pisces_ot_context *c, const char *name, ptrdiff_t items,
                                     ptrdiff_t stride, ptrdiff_t n, const double *weights,
                                     double *out, double *sums) {
  pisces_ot_status status = PISCES_OT_OK;
  for (ptrdiff_t k = 0; !status && k < items; k++) {
    for (ptrdiff_t i = 0; i < n; i++)
      out[k * n + i] = weights ? weights[k * stride + i] : 1 / (double)n;
    const pk_fault fault = pk_check_weights(name, n, out + k * n, sums + k);
    status = refuse_item(c, &fault, k);
  }
  return status;
}

pisces_ot_status library_refer(pisces_ot_context *c, const char *name, pk_side side, double epsilon,
                               double rho, ptrdiff_t n, double *w, double *shift) {
  const ptrdiff_t i = pk_product_refer(side, epsilon, rho, n, w, shift);
  if (i == n) return PISCES_OT_OK;
  const pk_fault fault = {.kind = PK_FAULT_WEIGHT_RANGE, .name = name, .index = i, .value = w[i]};
  return library_refuse(c, &fault, "problem");
}

double library_value_shift(const pisces_ot_problem *p, const prepared *q, ptrdiff_t k) {
  if (p->reference == PISCES_OT_ENTROPY) return 0;
  const ptrdiff_t i = q->strides.mu ? k : 0, j = q->strides.nu ? k : 0;
  return p->epsilon * q->source_sums[i] * q->target_sums[j] + q->source_shifts[i] +
         q->target_shifts[j];
}

void library_undivide(ptrdiff_t n, const double *w, double divisor, double *dw) {
  if (dw && divisor != 1) pk_undivide_gradient(n, w, divisor, dw);
}

/* Whether an exact mass is all the mass of both sides, which makes the problem a balanced one. */
static int takes_all_mass(const pisces_ot_problem *p, const prepared *out, ptrdiff_t items) {
  for (ptrdiff_t k = 0; k < items; k++)
    if (fmax(out->source_sums[out->strides.mu ? k : 0], out->target_sums[out->strides.nu ? k : 0]) >
        p->mass * (1 + 1e-12))
      return 0;
  return 1;
}

/* Balanced sides whose sums differ are divided, with a warning, as `pisces ot solve` does. */
static pisces_ot_status pose_item(pisces_ot_context *c, const pk_marginals *marginals,
                                  prepared *out, ptrdiff_t k) {
  double *a = &out->source_sums[out->strides.mu ? k : 0],
         *b = &out->target_sums[out->strides.nu ? k : 0];
  const double sums[2] = {*a, *b};
  pk_weights w = {.source = out->source + k * out->strides.mu,
                  .target = out->target + k * out->strides.nu,
                  .sums = {*a, *b}};
  const pk_fault fault = pk_pose_weights(marginals, &out->p, &w);
  const pisces_ot_status status = refuse_item(c, &fault, k);
  if (status) return status;
  *a = w.sums[0], *b = w.sums[1];
  if (!k) memcpy(out->divisors, w.divisors, sizeof out->divisors);
  if (w.is_divided)
    library_fail(c, PISCES_OT_OK,
                 "the weights sum to %.9g and %.9g: item %td: each side is divided by its sum",
                 sums[0], sums[1], k);
  return PISCES_OT_OK;
}

/* Whether the items' weights have plans that avoid infinite costs. */
static pisces_ot_status check_pairs(pisces_ot_context *c, const pisces_ot_problem *p,
                                    const prepared *q, ptrdiff_t count) {
  void *scratch = library_scratch(c, pk_sinkhorn_feasible_scratch(&q->p));
  if (!scratch) return PISCES_OT_NO_MEMORY;
  pisces_ot_status status = PISCES_OT_OK;
  for (ptrdiff_t k = 0; !status && k < count; k++) {
    const char *cost = (const char *)p->x + k * q->strides.x * (p->type == PISCES_OT_F64 ? 8 : 4);
    const pk_fault fault = pk_check_pairs(&q->p, cost, q->source + k * q->strides.mu,
                                          q->target + k * q->strides.nu, scratch);
    status = refuse_item(c, &fault, k);
  }
  return status;
}

pisces_ot_status library_points(pisces_ot_context *c, const pisces_ot_problem *p,
                                pk_sinkhorn_problem *out) {
  const pisces_ot_strides none = {0};
  pisces_ot_problem q = *p;
  q.epsilon = 1, q.tolerance = 0, q.max_iterations = 1;
  q.rule = PISCES_OT_BALANCED, q.reference = PISCES_OT_ENTROPY;
  *out = solver_problem_of(&q);
  out->progress = NULL;
  pisces_ot_status status = check_choices(c, &q);
  if (!status && p->cost == PISCES_OT_MATRIX) REFUSE("the costs of a matrix: costs: give points");
  if (!status) status = check_sizes(c, &q, 1);
  const pk_fault fault = pk_check_options(out);
  if (!status) status = library_refuse(c, &fault, "problem");
  int forbids = 0;
  return status ? status : check_inputs(c, &q, 1, &none, &forbids);
}

/* Memory for the weights of `sources` and `targets` items and what is known of each. */
static pisces_ot_status allocate(pisces_ot_context *c, const pisces_ot_problem *p,
                                 ptrdiff_t sources, ptrdiff_t targets, ptrdiff_t extra,
                                 prepared *out, double **behind) {
  double *memory = library_copies(c, sources * (p->n + 2) + targets * (p->m + 2) + extra);
  if (!memory) return PISCES_OT_NO_MEMORY;
  out->source = memory;
  out->source_sums = out->source + sources * p->n;
  out->source_shifts = out->source_sums + sources;
  out->target = out->source_shifts + sources;
  out->target_sums = out->target + targets * p->m;
  out->target_shifts = out->target_sums + targets;
  if (behind) *behind = out->target_shifts + targets;
  return PISCES_OT_OK;
}

static pisces_ot_status refer_all(pisces_ot_context *c, const pisces_ot_problem *p, prepared *out,
                                  ptrdiff_t sources, ptrdiff_t targets) {
  const pk_sinkhorn_problem *q = &out->p;
  pisces_ot_status status = PISCES_OT_OK;
  for (ptrdiff_t k = 0; !status && k < sources; k++)
    status = library_refer(c, "source weights", q->side_source, p->epsilon, q->rho_source, p->n,
                           out->source + k * p->n, out->source_shifts + k);
  for (ptrdiff_t k = 0; !status && k < targets; k++)
    status = library_refer(c, "target weights", q->side_target, p->epsilon, q->rho_target, p->m,
                           out->target + k * p->m, out->target_shifts + k);
  return status;
}

/* Everything but the weights. */
static pisces_ot_status check_problem(pisces_ot_context *c, const pisces_ot_problem *p,
                                      ptrdiff_t count, const pisces_ot_strides *s, int *forbids,
                                      prepared *out) {
  *out = (prepared){.p = solver_problem_of(p), .divisors = {1, 1}};
  pisces_ot_status status = check_choices(c, p);
  if (!status) status = check_sizes(c, p, count);
  if (status) return status;
  const pk_marginals marginals = marginals_of(p);
  pk_fault fault = pk_check_options(&out->p);
  if (!fault.kind) fault = pk_set_marginals(&marginals, &out->p);
  if (fault.kind) return library_refuse(c, &fault, "problem");
  if (s->x < 0 || s->y < 0 || s->source < 0 || s->target < 0 || s->plan < 0 || s->log_u < 0 ||
      s->log_v < 0)
    REFUSE("a stride is negative: batch: give distances between items, 0 to share an input");
  return check_inputs(c, p, count, s, forbids);
}

pisces_ot_status library_prepare(pisces_ot_context *c, const pisces_ot_problem *p, ptrdiff_t count,
                                 const pisces_ot_strides *given, ptrdiff_t extra, prepared *out,
                                 double **behind) {
  const pisces_ot_strides none = {0}, *s = given ? given : &none;
  int forbids = 0;
  pisces_ot_status status = check_problem(c, p, count, s, &forbids, out);
  if (status) return status;
  /* Two hard sides may change each other's weights, so both then have as many as there are
   * items. */
  const int hard = out->p.side_source == PK_SIDE_HARD && out->p.side_target == PK_SIDE_HARD;
  const ptrdiff_t sources =
                      (p->source && s->source) || (hard && p->target && s->target) ? count : 1,
                  targets = (p->target && s->target) || (hard && sources > 1) ? count : 1,
                  items = sources > targets ? sources : targets;
  out->strides = (pk_sinkhorn_strides){.x = s->x,
                                       .y = s->y,
                                       .mu = sources > 1 ? p->n : 0,
                                       .nu = targets > 1 ? p->m : 0,
                                       .plan = s->plan,
                                       .a = s->log_u,
                                       .b = s->log_v};
  status = allocate(c, p, sources, targets, extra, out, behind);
  if (!status)
    status = copy_weights(c, "source weights", sources, s->source, p->n, p->source, out->source,
                          out->source_sums);
  if (!status)
    status = copy_weights(c, "target weights", targets, s->target, p->m, p->target, out->target,
                          out->target_sums);
  if (status) return status;
  const pk_marginals marginals = marginals_of(p);
  if (p->rule == PISCES_OT_EXACT_MASS && takes_all_mass(p, out, items))
    out->p.side_source = out->p.side_target = PK_SIDE_HARD;
  for (ptrdiff_t k = 0; !status && k < items; k++) status = pose_item(c, &marginals, out, k);
  if (!status && forbids) status = check_pairs(c, p, out, s->x ? count : items);
  if (status || p->reference == PISCES_OT_ENTROPY) return status;
  return refer_all(c, p, out, sources, targets);
}
