/* Validation of what a caller gives, and its translation for the solver (pk_sinkhorn.h). */
#include <math.h>
#include <string.h>
#include "library.h"

static const ptrdiff_t largest = (ptrdiff_t)1 << 48; /* elements of an array */

pisces_ot_status library_options(pisces_ot_context *c, const pisces_ot_problem *problem,
                                 pisces_ot_problem *out) {
  if (!problem) return library_fail(c, PISCES_OT_BAD_ARGUMENT, "no problem: pass one");
  /* The size of the structure in version 1.0: what a caller has at least. */
  if (problem->size < sizeof *out || problem->size > 4096)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT,
                        "problem.size is %zu: problem: set it up with pisces_ot_problem_init",
                        problem->size);
  *out = *problem;
  return PISCES_OT_OK;
}

/* The bits of an exponent that is all ones mean infinity or NaN. Found block by block, then looked
 * for. */
#define FIRST_BAD(name, real, word, mask) \
  static ptrdiff_t name(ptrdiff_t count, const real *x) { \
    const ptrdiff_t block = 4096, blocks = (count + block - 1) / block; \
    ptrdiff_t first = count; \
    _Pragma("omp parallel for schedule(static) reduction(min : first) if (blocks > 64)") for ( \
        ptrdiff_t k = 0; k < blocks; k++) { \
      const ptrdiff_t end = (k + 1) * block < count ? (k + 1) * block : count; \
      word bad = 0; \
      for (ptrdiff_t i = k * block; i < end; i++) { \
        word bits; \
        memcpy(&bits, x + i, sizeof bits); \
        bad |= (word)((bits & mask) == mask); \
      } \
      for (ptrdiff_t i = k * block; bad && i < end; i++) \
        if (!isfinite(x[i]) && i < first) first = i; \
    } \
    return first; \
  }
FIRST_BAD(first_bad_f64, double, uint64_t, 0x7ff0000000000000ull)
FIRST_BAD(first_bad_f32, float, uint32_t, 0x7f800000u)

pisces_ot_status library_check_array(pisces_ot_context *c, const char *name, pisces_ot_type type,
                                     ptrdiff_t count, const void *x) {
  if (!x)
    return library_fail(c, PISCES_OT_BAD_ARGUMENT, "%s is missing: pass an array of %td elements",
                        name, count);
  const ptrdiff_t i = type == PISCES_OT_F64 ? first_bad_f64(count, x) : first_bad_f32(count, x);
  if (i == count) return PISCES_OT_OK;
  const double value =
      type == PISCES_OT_F64 ? ((const double *)x)[i] : (double)((const float *)x)[i];
  return library_fail(c, PISCES_OT_BAD_DATA, "%s holds %g: element %td: give finite numbers", name,
                      value, i);
}

static double element(const void *x, pk_type type, ptrdiff_t i) {
  return type == PK_F64 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

pisces_ot_status library_check_symmetric(pisces_ot_context *c, const char *name,
                                         pisces_ot_type type, ptrdiff_t n, const void *x) {
  const pk_type t = type == PISCES_OT_F64 ? PK_F64 : PK_F32;
  double most = 0;
  for (ptrdiff_t k = 0; k < n * n; k++) most = fmax(most, fabs(element(x, t, k)));
  for (ptrdiff_t i = 0; i < n; i++)
    for (ptrdiff_t j = 0; j < i; j++)
      if (fabs(element(x, t, i * n + j) - element(x, t, j * n + i)) > 1e-6 * most)
        return library_fail(c, PISCES_OT_BAD_DATA,
                            "%s is not symmetric: elements [%td, %td] and [%td, %td] differ: give "
                            "a cost that is symmetric",
                            name, j, i, i, j);
  return PISCES_OT_OK;
}

/* Costs are finite numbers, or infinite: a pair that takes nothing. *forbids: whether there is one.
 */
static pisces_ot_status check_costs(pisces_ot_context *c, pisces_ot_type type, ptrdiff_t count,
                                    const void *x, int *forbids) {
  if (!x) return library_check_array(c, "the cost", type, count, x);
  for (ptrdiff_t i = type == PISCES_OT_F64 ? first_bad_f64(count, x) : first_bad_f32(count, x);
       i < count; i++) {
    const double value =
        type == PISCES_OT_F64 ? ((const double *)x)[i] : (double)((const float *)x)[i];
    *forbids |= value == INFINITY;
    if (isnan(value) || value == -INFINITY)
      return library_fail(c, PISCES_OT_BAD_DATA,
                          "the cost holds %g: element %td: give finite numbers, or INFINITY for "
                          "pairs that are forbidden",
                          value, i);
  }
  return PISCES_OT_OK;
}

/* Whether the items' weights have plans that avoid forbidden pairs. */
static pisces_ot_status check_pairs(pisces_ot_context *c, const pisces_ot_problem *p, prepared *q,
                                    ptrdiff_t count) {
  const int hard = q->p.side_a == PK_SIDE_HARD && q->p.side_b == PK_SIDE_HARD,
            capped = q->p.side_a == PK_SIDE_CAPPED;
  for (ptrdiff_t k = 0; k < count; k++) {
    const char *cost = (const char *)p->x + k * q->strides.x * (p->type == PISCES_OT_F64 ? 8 : 4);
    const double *mu = q->source + k * q->strides.mu, *nu = q->target + k * q->strides.nu,
                 asked = capped ? q->p.mass : q->source_sums[q->strides.mu ? k : 0];
    const ptrdiff_t at = capped ? p->n + p->m : pk_sinkhorn_partner(&q->p, cost, mu, nu);
    if (at < p->n + p->m)
      return library_fail(c, PISCES_OT_BAD_DATA,
                          "%s %td has weight, but only forbidden pairs: the cost: item %td: allow "
                          "a pair, or set that weight to 0",
                          at < p->n ? "source" : "target", at < p->n ? at : at - p->n, k);
    if (!hard && !capped) continue;
    void *scratch = library_scratch(c, pk_sinkhorn_feasible_scratch(&q->p));
    if (!scratch) return PISCES_OT_NO_MEMORY;
    if (pk_sinkhorn_feasible(&q->p, cost, mu, nu, scratch) < asked * (1 - 1e-9))
      return library_fail(c, PISCES_OT_BAD_DATA,
                          "infeasible: no plan with these weights avoids the infinite costs: item "
                          "%td: allow more pairs, or take an unbalanced rule",
                          k);
  }
  return PISCES_OT_OK;
}

/* A row of zeros has no direction. */
static pisces_ot_status check_directions(pisces_ot_context *c, const char *name,
                                         pisces_ot_type type, ptrdiff_t n, ptrdiff_t d,
                                         const void *x) {
  for (ptrdiff_t i = 0; i < n; i++) {
    int zero = 1;
    for (ptrdiff_t k = i * d; zero && k < (i + 1) * d; k++)
      zero = type == PISCES_OT_F64 ? ((const double *)x)[k] == 0 : ((const float *)x)[k] == 0;
    if (zero)
      return library_fail(
          c, PISCES_OT_BAD_DATA,
          "%s is the zero vector: row %td: the cosine is not defined there; leave it out", name, i);
  }
  return PISCES_OT_OK;
}

static pisces_ot_status check_inputs(pisces_ot_context *c, const pisces_ot_problem *p,
                                     ptrdiff_t count, const pisces_ot_strides *s, int *forbids) {
  const int points = p->cost != PISCES_OT_MATRIX;
  for (ptrdiff_t k = 0; k < (s->x ? count : 1); k++) {
    const char *x = (const char *)p->x + k * s->x * (p->type == PISCES_OT_F64 ? 8 : 4);
    pisces_ot_status status =
        points ? library_check_array(c, "x", p->type, p->n * p->d, p->x ? x : NULL)
               : check_costs(c, p->type, p->n * p->m, p->x ? x : NULL, forbids);
    if (!status && p->cost == PISCES_OT_COSINE)
      status = check_directions(c, "x", p->type, p->n, p->d, x);
    if (status) return status;
  }
  for (ptrdiff_t k = 0; points && k < (s->y ? count : 1); k++) {
    const char *y = (const char *)p->y + k * s->y * (p->type == PISCES_OT_F64 ? 8 : 4);
    pisces_ot_status status = library_check_array(c, "y", p->type, p->m * p->d, p->y ? y : NULL);
    if (!status && p->cost == PISCES_OT_COSINE)
      status = check_directions(c, "y", p->type, p->m, p->d, y);
    if (status) return status;
  }
  return PISCES_OT_OK;
}

#define REFUSE(...) return library_fail(c, PISCES_OT_BAD_ARGUMENT, __VA_ARGS__)

static pisces_ot_status check_options(pisces_ot_context *c, const pisces_ot_problem *p,
                                      ptrdiff_t count) {
  if (p->type != PISCES_OT_F64 && p->type != PISCES_OT_F32)
    REFUSE("type is %d: problem: give PISCES_OT_F64 or PISCES_OT_F32", (int)p->type);
  if ((unsigned)p->cost > PISCES_OT_COSINE)
    REFUSE("cost is %d: problem: give a pisces_ot_cost", (int)p->cost);
  if ((unsigned)p->rule > PISCES_OT_EXACT_MASS)
    REFUSE("rule is %d: problem: give a pisces_ot_rule", (int)p->rule);
  if ((unsigned)p->reference > PISCES_OT_PRODUCT)
    REFUSE("reference is %d: problem: give a pisces_ot_reference", (int)p->reference);
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
  if (!(p->epsilon > 0) || !isfinite(p->epsilon))
    REFUSE("epsilon is %g: problem: give a positive number", p->epsilon);
  if (!(p->tolerance >= 0))
    REFUSE(
        "tolerance is %g: problem: give a positive number, or 0 for a fixed number of iterations",
        p->tolerance);
  if (p->max_iterations < 1)
    REFUSE("max_iterations is %td: problem: give at least 1", p->max_iterations);
  if (p->cost != PISCES_OT_MATRIX && (!(p->scale > 0) || !isfinite(p->scale)))
    REFUSE("scale is %g: problem: give a positive number", p->scale);
  if (p->rule == PISCES_OT_UNBALANCED && (!(p->rho_source > 0) || !(p->rho_target > 0)))
    REFUSE("rho is %g and %g: problem: give positive numbers, INFINITY for a hard marginal",
           p->rho_source, p->rho_target);
  if (p->rule == PISCES_OT_RELAXED && !(p->mass > 0 && p->mass <= 1))
    REFUSE("mass is %g: problem: give a number in (0, 1]", p->mass);
  if (p->rule == PISCES_OT_EXACT_MASS && (!(p->mass > 0) || !isfinite(p->mass)))
    REFUSE("mass is %g: problem: give a number in (0, the smaller sum of weights]", p->mass);
  if (p->reference == PISCES_OT_PRODUCT && p->rule == PISCES_OT_EXACT_MASS)
    REFUSE("the product reference is not offered with exact mass: problem: take PISCES_OT_ENTROPY");
  return PISCES_OT_OK;
}

/* Copies `items` times `n` weights; their sums go behind them. */
static pisces_ot_status copy_weights(pisces_ot_context *c, const char *name, ptrdiff_t items,
                                     ptrdiff_t stride, ptrdiff_t n, const double *weights,
                                     double *out, double *sums) {
  for (ptrdiff_t k = 0; k < items; k++) {
    double sum = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
      const double w = weights ? weights[k * stride + i] : 1 / (double)n;
      if (!isfinite(w))
        return library_fail(c, PISCES_OT_BAD_DATA,
                            "%s weights hold %g: element %td: give finite numbers", name, w,
                            k * stride + i);
      if (w < 0)
        return library_fail(c, PISCES_OT_BAD_DATA,
                            "%s weights hold %g: element %td: give numbers that are not negative",
                            name, w, k * stride + i);
      out[k * n + i] = w, sum += w;
    }
    if (!(sum > 0) || !isfinite(sum))
      return library_fail(c, PISCES_OT_BAD_DATA,
                          "%s weights sum to %g: item %td: give a positive, finite mass", name, sum,
                          k);
    sums[k] = sum;
  }
  return PISCES_OT_OK;
}

pisces_ot_status library_refer(pisces_ot_context *c, const char *name, pk_side side, double epsilon,
                               double rho, ptrdiff_t n, double *w, double *shift) {
  const ptrdiff_t i = pk_product_refer(side, epsilon, rho, n, w, shift);
  if (i == n) return PISCES_OT_OK;
  return library_fail(c, PISCES_OT_BAD_DATA,
                      "%s weight %g to the power 1 + epsilon / rho is out of range: element %td: "
                      "raise rho, lower epsilon, or take PISCES_OT_ENTROPY",
                      name, w[i], i);
}

double library_value_shift(const pisces_ot_problem *p, const prepared *q, ptrdiff_t k) {
  if (p->reference == PISCES_OT_ENTROPY) return 0;
  const ptrdiff_t i = q->strides.mu ? k : 0, j = q->strides.nu ? k : 0;
  return p->epsilon * q->source_sums[i] * q->target_sums[j] + q->source_shifts[i] +
         q->target_shifts[j];
}

void library_undivide(ptrdiff_t n, const double *w, double divisor, double *dw) {
  double mean = 0;
  if (!dw || divisor == 1) return;
  for (ptrdiff_t i = 0; i < n; i++) mean += w[i] * dw[i];
  for (ptrdiff_t i = 0; i < n; i++) dw[i] = w[i] > 0 ? (dw[i] - mean) / divisor : 0;
}

/* The rule as sides of the solver's problem. */
static void set_sides(const pisces_ot_problem *p, pk_sinkhorn_problem *q) {
  double source = INFINITY, target = INFINITY;
  if (p->rule == PISCES_OT_UNBALANCED) source = p->rho_source, target = p->rho_target;
  if (p->rule == PISCES_OT_RELAXED && p->mass < 0.999)
    source = target = p->epsilon * p->mass / (1 - p->mass);
  q->side_a = p->rule == PISCES_OT_EXACT_MASS ? PK_SIDE_CAPPED
              : isfinite(source)              ? PK_SIDE_RELAXED
                                              : PK_SIDE_HARD;
  q->side_b = p->rule == PISCES_OT_EXACT_MASS ? PK_SIDE_CAPPED
              : isfinite(target)              ? PK_SIDE_RELAXED
                                              : PK_SIDE_HARD;
  q->rho_a = q->side_a == PK_SIDE_RELAXED ? source : 0,
  q->rho_b = q->side_b == PK_SIDE_RELAXED ? target : 0;
}

/* Whether an exact mass is all there is on both sides, which makes the problem a balanced one. */
static int all_of_it(const pisces_ot_problem *p, const prepared *out, ptrdiff_t items) {
  for (ptrdiff_t k = 0; k < items; k++)
    if (fmax(out->source_sums[out->strides.mu ? k : 0], out->target_sums[out->strides.nu ? k : 0]) >
        p->mass * (1 + 1e-12))
      return 0;
  return 1;
}

/* Balanced weights of different sums: each side is divided by its own, as `pisces ot solve` does,
 * and the caller is told. */
static void divide(pisces_ot_context *c, prepared *out, ptrdiff_t k) {
  double *a = &out->source_sums[out->strides.mu ? k : 0],
         *b = &out->target_sums[out->strides.nu ? k : 0];
  double *w = out->source + k * out->strides.mu, *v = out->target + k * out->strides.nu;
  library_fail(c, PISCES_OT_OK,
               "the weights sum to %.9g and %.9g: item %td: each side is divided by its sum", *a,
               *b, k);
  for (ptrdiff_t i = 0; i < out->p.n; i++) w[i] /= *a;
  for (ptrdiff_t j = 0; j < out->p.m; j++) v[j] /= *b;
  if (!k) out->divisors[0] = *a, out->divisors[1] = *b;
  *a = *b = 1;
}

/* What the sums must satisfy. Two hard sides are made to agree to the last bit. */
static pisces_ot_status check_masses(pisces_ot_context *c, const pisces_ot_problem *p,
                                     prepared *out, ptrdiff_t items) {
  pk_sinkhorn_problem *q = &out->p;
  q->mass = q->side_a == PK_SIDE_CAPPED ? p->mass : 0;
  for (ptrdiff_t k = 0; k < items; k++) {
    const double a = out->source_sums[out->strides.mu ? k : 0];
    double *b = &out->target_sums[out->strides.nu ? k : 0];
    if (p->rule == PISCES_OT_EXACT_MASS && p->mass > fmin(a, *b) * (1 + 1e-12))
      return library_fail(c, PISCES_OT_BAD_DATA,
                          "mass is %.9g, the weights allow %.9g: item %td: give a smaller mass",
                          p->mass, fmin(a, *b), k);
    if (q->side_a == PK_SIDE_CAPPED) {
      q->mass = fmin(q->mass, fmin(a, *b));
    } else if (q->side_a == PK_SIDE_HARD && q->side_b == PK_SIDE_HARD) {
      const int differ = fabs(a - *b) > 1e-6 * fmax(a, *b);
      if (differ && p->rule != PISCES_OT_BALANCED)
        return library_fail(
            c, PISCES_OT_BAD_DATA,
            "masses differ, %.9g and %.9g: item %td: scale the weights, or take an unbalanced rule",
            a, *b, k);
      if (differ) divide(c, out, k);
      double *w = out->target + k * out->strides.nu;
      for (ptrdiff_t j = 0; !differ && a != *b && j < q->m; j++) w[j] *= a / *b;
      if (!differ) *b = a;
    }
  }
  return PISCES_OT_OK;
}

pisces_ot_status library_points(pisces_ot_context *c, const pisces_ot_problem *p,
                                pk_sinkhorn_problem *out) {
  pisces_ot_problem q = *p;
  q.epsilon = 1, q.tolerance = 0, q.max_iterations = 1, q.rule = PISCES_OT_BALANCED,
  q.reference = PISCES_OT_ENTROPY;
  int forbids = 0;
  const pisces_ot_strides none = {0};
  pisces_ot_status status = check_options(c, &q, 1);
  if (!status && p->cost == PISCES_OT_MATRIX)
    status = library_fail(c, PISCES_OT_BAD_ARGUMENT, "the costs of a matrix: costs: give points");
  if (!status) status = check_inputs(c, &q, 1, &none, &forbids);
  *out = (pk_sinkhorn_problem){.n = p->n,
                               .m = p->m,
                               .d = p->d,
                               .type = p->type == PISCES_OT_F64 ? PK_F64 : PK_F32,
                               .cost = (pk_cost)p->cost,
                               .scale = p->scale,
                               .epsilon = 1};
  return status;
}

pisces_ot_status library_prepare(pisces_ot_context *c, const pisces_ot_problem *p, ptrdiff_t count,
                                 const pisces_ot_strides *given, ptrdiff_t extra, prepared *out,
                                 double **behind) {
  const pisces_ot_strides none = {0}, *s = given ? given : &none;
  pisces_ot_status status = check_options(c, p, count);
  if (!status && (s->x < 0 || s->y < 0 || s->source < 0 || s->target < 0 || s->plan < 0 ||
                  s->log_u < 0 || s->log_v < 0))
    status = library_fail(
        c, PISCES_OT_BAD_ARGUMENT,
        "a stride is negative: batch: give distances between items, 0 to share an input");
  int forbids = 0;
  if (!status) status = check_inputs(c, p, count, s, &forbids);
  if (status) return status;

  const int points = p->cost != PISCES_OT_MATRIX;
  *out = (prepared){.p = {.n = p->n,
                          .m = p->m,
                          .d = points ? p->d : 0,
                          .type = p->type == PISCES_OT_F64 ? PK_F64 : PK_F32,
                          .cost = (pk_cost)p->cost,
                          .scale = points ? p->scale : 1,
                          .epsilon = p->epsilon,
                          .tolerance = p->tolerance,
                          .max_iterations = p->max_iterations,
                          .plain = p->plain != 0,
                          .warm = p->warm != 0,
                          .progress = p->progress,
                          .context = p->context}};
  out->divisors[0] = out->divisors[1] = 1;
  set_sides(p, &out->p);
  const int hard = out->p.side_a == PK_SIDE_HARD && out->p.side_b == PK_SIDE_HARD;
  const ptrdiff_t sources =
                      (p->source && s->source) || (hard && p->target && s->target) ? count : 1,
                  targets = (p->target && s->target) || (hard && sources > 1) ? count : 1;
  out->strides = (pk_sinkhorn_strides){.x = s->x,
                                       .y = s->y,
                                       .mu = sources > 1 ? p->n : 0,
                                       .nu = targets > 1 ? p->m : 0,
                                       .plan = s->plan,
                                       .a = s->log_u,
                                       .b = s->log_v};
  double *memory = library_copies(c, sources * (p->n + 2) + targets * (p->m + 2) + extra);
  if (!memory) return PISCES_OT_NO_MEMORY;
  out->source = memory, out->source_sums = out->source + sources * p->n,
  out->source_shifts = out->source_sums + sources;
  out->target = out->source_shifts + sources, out->target_sums = out->target + targets * p->m,
  out->target_shifts = out->target_sums + targets;
  if (behind) *behind = out->target_shifts + targets;

  status =
      copy_weights(c, "source", sources, s->source, p->n, p->source, out->source, out->source_sums);
  if (!status)
    status = copy_weights(c, "target", targets, s->target, p->m, p->target, out->target,
                          out->target_sums);
  const ptrdiff_t items = sources > targets ? sources : targets;
  if (!status && p->rule == PISCES_OT_EXACT_MASS && all_of_it(p, out, items))
    out->p.side_a = out->p.side_b = PK_SIDE_HARD;
  if (!status) status = check_masses(c, p, out, items);
  if (!status && forbids) status = check_pairs(c, p, out, s->x ? count : items);
  if (p->reference == PISCES_OT_ENTROPY) return status;
  for (ptrdiff_t k = 0; !status && k < sources; k++)
    status = library_refer(c, "source", out->p.side_a, p->epsilon, out->p.rho_a, p->n,
                           out->source + k * p->n, out->source_shifts + k);
  for (ptrdiff_t k = 0; !status && k < targets; k++)
    status = library_refer(c, "target", out->p.side_b, p->epsilon, out->p.rho_b, p->m,
                           out->target + k * p->m, out->target_shifts + k);
  return status;
}
