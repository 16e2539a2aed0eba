/* The words for a fault in a transport problem (pk_problem.h). */
#include <stdio.h>
#include "../isa/kernels.h"

int pk_fault_is_option(pk_fault_kind kind) {
  return kind >= PK_FAULT_EPSILON && kind <= PK_FAULT_MASS;
}

static const char *remedy_of(const pk_fault *f) {
  switch (f->kind) {
  case PK_FAULT_EPSILON:
  case PK_FAULT_SCALE:
    return "give a positive number";
  case PK_FAULT_TOLERANCE:
    return "give a positive number, or 0 for a fixed number of iterations";
  case PK_FAULT_MAX_ITERATIONS:
    return "give at least 1";
  case PK_FAULT_RHO:
    return "give a positive marginal strength, infinity for a hard marginal";
  case PK_FAULT_EXPONENT:
    return "give a marginal exponent in (0, 1]";
  case PK_FAULT_MASS:
    return isfinite(f->limit) ? "give a smaller mass"
                              : "give a number in (0, the smaller sum of weights]";
  case PK_FAULT_NOT_FINITE:
    return "give finite numbers";
  case PK_FAULT_COST:
    return "give finite numbers, or infinity for pairs that are forbidden";
  case PK_FAULT_NEGATIVE:
    return "give weights that are not negative";
  case PK_FAULT_SUM:
    return "give weights of a finite sum, not all of them zero";
  case PK_FAULT_UNEQUAL_SUMS:
    return "give weights of equal sums, or take an unbalanced rule";
  case PK_FAULT_ZERO_VECTOR:
    return "its cosine is not defined: leave it out, or take another metric";
  case PK_FAULT_ASYMMETRIC:
    return "give a cost that is symmetric";
  case PK_FAULT_NO_PARTNER:
    return "allow a pair, or set that weight to 0";
  case PK_FAULT_INFEASIBLE:
    return "allow more pairs, or take an unbalanced rule";
  case PK_FAULT_WEIGHT_RANGE:
    return "raise rho, lower epsilon, or take the entropy as reference";
  case PK_FAULT_NONE:
    break;
  }
  return "";
}

void pk_fault_text(const pk_fault *f, char *what, char *remedy, size_t size) {
  snprintf(remedy, size, "%s", remedy_of(f));
  const char *name = f->name ? f->name : "";
  switch (f->kind) {
  case PK_FAULT_EPSILON:
    snprintf(what, size, "epsilon is %g", f->value);
    break;
  case PK_FAULT_TOLERANCE:
    snprintf(what, size, "tolerance is %g", f->value);
    break;
  case PK_FAULT_MAX_ITERATIONS:
    snprintf(what, size, "max_iterations is %g", f->value);
    break;
  case PK_FAULT_SCALE:
    snprintf(what, size, "scale is %g", f->value);
    break;
  case PK_FAULT_RHO:
    snprintf(what, size, "rho is %g", f->value);
    break;
  case PK_FAULT_EXPONENT:
    snprintf(what, size, "mass is %g", f->value);
    break;
  case PK_FAULT_MASS:
    if (isfinite(f->limit))
      snprintf(what, size, "mass is %.9g, the weights allow %.9g", f->value, f->limit);
    else
      snprintf(what, size, "mass is %g", f->value);
    break;
  case PK_FAULT_NOT_FINITE:
  case PK_FAULT_COST:
    snprintf(what, size, "%s: element %td is %g", name, f->index, f->value);
    break;
  case PK_FAULT_NEGATIVE:
    snprintf(what, size, "%s: element %td is %g", name, f->index, f->value);
    break;
  case PK_FAULT_SUM:
    snprintf(what, size, "%s: the sum is %g", name, f->value);
    break;
  case PK_FAULT_UNEQUAL_SUMS:
    snprintf(what, size, "masses differ, %.9g and %.9g", f->value, f->limit);
    break;
  case PK_FAULT_ZERO_VECTOR:
    snprintf(what, size, "%s: row %td is the zero vector", name, f->index);
    break;
  case PK_FAULT_ASYMMETRIC:
    snprintf(what, size, "%s is not symmetric: elements [%td, %td] and [%td, %td] differ", name,
             f->index, f->other, f->other, f->index);
    break;
  case PK_FAULT_NO_PARTNER:
    snprintf(what, size, "%s %td has weight, but only forbidden pairs", name, f->index);
    break;
  case PK_FAULT_INFEASIBLE:
    snprintf(what, size,
             "infeasible: no plan with these weights avoids the forbidden pairs (infinite costs)");
    break;
  case PK_FAULT_WEIGHT_RANGE:
    snprintf(what, size, "%s: element %td, %g, to the power 1 + epsilon / rho is out of range",
             name, f->index, f->value);
    break;
  case PK_FAULT_NONE:
    *what = 0;
    break;
  }
}
