/* Options, marginal rules and masses of a transport problem (pk_problem.h). */
#include "../isa/kernels.h"

static const pk_fault none = {.kind = PK_FAULT_NONE};

static pk_fault option_fault(pk_fault_kind kind, double value, double limit) {
  return (pk_fault){.kind = kind, .value = value, .limit = limit};
}

static int is_positive(double x) { return x > 0 && isfinite(x); }

pk_fault pk_check_options(const pk_sinkhorn_problem *p) {
  if (!is_positive(p->epsilon)) return option_fault(PK_FAULT_EPSILON, p->epsilon, 0);
  if (!(p->tolerance >= 0)) return option_fault(PK_FAULT_TOLERANCE, p->tolerance, 0);
  if (p->max_iterations < 1)
    return option_fault(PK_FAULT_MAX_ITERATIONS, (double)p->max_iterations, 0);
  if (p->cost != PK_COST_MATRIX && !is_positive(p->scale))
    return option_fault(PK_FAULT_SCALE, p->scale, 0);
  return none;
}

pk_fault pk_set_marginals(const pk_marginals *m, pk_sinkhorn_problem *p) {
  double source = INFINITY, target = INFINITY;
  p->mass = 0;
  switch (m->rule) {
  case PK_RULE_BALANCED:
    break;
  case PK_RULE_UNBALANCED:
    source = m->rho_source, target = m->rho_target;
    if (!(source > 0)) return option_fault(PK_FAULT_RHO, source, 0);
    if (!(target > 0)) return option_fault(PK_FAULT_RHO, target, 0);
    break;
  case PK_RULE_RELAXED: {
    const double e = m->marginal_exponent;
    if (!(e > 0 && e <= 1)) return option_fault(PK_FAULT_EXPONENT, e, 1);
    if (e < PK_HARD_EXPONENT) source = target = p->epsilon * e / (1 - e);
    break;
  }
  case PK_RULE_EXACT_MASS:
    if (!is_positive(m->mass)) return option_fault(PK_FAULT_MASS, m->mass, INFINITY);
    p->mass = m->mass;
    p->side_source = p->side_target = PK_SIDE_CAPPED;
    p->rho_source = p->rho_target = 0;
    return none;
  }
  p->side_source = isfinite(source) ? PK_SIDE_RELAXED : PK_SIDE_HARD;
  p->side_target = isfinite(target) ? PK_SIDE_RELAXED : PK_SIDE_HARD;
  p->rho_source = isfinite(source) ? source : 0;
  p->rho_target = isfinite(target) ? target : 0;
  return none;
}

pk_fault pk_check_weights(const char *name, ptrdiff_t n, const double *w, double *sum) {
  *sum = 0;
  for (idx i = 0; i < n; i++) {
    if (!isfinite(w[i]))
      return (pk_fault){.kind = PK_FAULT_NOT_FINITE, .name = name, .index = i, .value = w[i]};
    if (w[i] < 0)
      return (pk_fault){.kind = PK_FAULT_NEGATIVE, .name = name, .index = i, .value = w[i]};
    *sum += w[i];
  }
  if (!(*sum > 0) || !isfinite(*sum))
    return (pk_fault){.kind = PK_FAULT_SUM, .name = name, .index = n - 1, .value = *sum};
  return none;
}

static void divide_sides(const pk_sinkhorn_problem *p, pk_weights *w) {
  for (idx i = 0; i < p->n; i++) w->source[i] /= w->sums[0];
  for (idx j = 0; j < p->m; j++) w->target[j] /= w->sums[1];
  w->divisors[0] = w->sums[0], w->divisors[1] = w->sums[1];
  w->sums[0] = w->sums[1] = 1;
  w->is_divided = 1;
}

pk_fault pk_pose_weights(const pk_marginals *m, pk_sinkhorn_problem *p, pk_weights *w) {
  const double a = w->sums[0], b = w->sums[1], least = fmin(a, b);
  w->divisors[0] = w->divisors[1] = 1;
  w->is_divided = 0;
  w->differ = fabs(a - b) > PK_SUM_TOLERANCE * fmax(a, b);
  /* 1e-12: rounding of the sums */
  if (m->rule == PK_RULE_EXACT_MASS && m->mass > least * (1 + 1e-12))
    return option_fault(PK_FAULT_MASS, m->mass, least);
  if (p->side_source == PK_SIDE_CAPPED) p->mass = fmin(p->mass, least);
  if (p->side_source != PK_SIDE_HARD || p->side_target != PK_SIDE_HARD) return none;
  if (m->rule == PK_RULE_BALANCED && (w->differ || w->divides_always)) {
    divide_sides(p, w);
    return none;
  }
  if (w->differ) return (pk_fault){.kind = PK_FAULT_UNEQUAL_SUMS, .value = a, .limit = b};
  for (idx j = 0; a != b && j < p->m; j++) w->target[j] *= a / b;
  w->sums[1] = a;
  return none;
}

void pk_undivide_gradient(ptrdiff_t n, const double *w, double divisor, double *dw) {
  double mean = 0;
  for (idx i = 0; i < n; i++) mean += w[i] * dw[i];
  for (idx i = 0; i < n; i++) dw[i] = w[i] > 0 ? (dw[i] - mean) / divisor : 0;
}
