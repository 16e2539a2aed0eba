/* A transport problem as its user states it: defaults, checks, marginal rules, masses, messages.
 * The C library and the Swift module Transport both use these functions, so that a problem means
 * the same, and is refused with the same words, wherever it is given.
 *
 * Types     costs and points of `type`, f32 or f64; weights and sums double.
 * Errors    A check returns a fault; its kind is PK_FAULT_NONE where nothing is wrong.
 *           pk_fault_text has the words. */
#ifndef PK_PROBLEM_H
#define PK_PROBLEM_H

/* Defaults. The commands and Swift ask for one digit more than the library, whose defaults are part
 * of its interface (pisces_ot.h). */
#define PK_TOLERANCE 1e-10    /* f64, and f32 in the Swift module */
#define PK_TOLERANCE_F32 1e-6 /* f32 in the commands: sums of f32 products reach it */
#define PK_TOLERANCE_LIBRARY 1e-9
#define PK_TOLERANCE_BARYCENTER 1e-9
#define PK_TOLERANCE_DEBIASED 1e-6 /* debiased barycenters converge slowly */
#define PK_MAX_ITERATIONS_DEFAULT 20000
#define PK_MAX_ITERATIONS_LIBRARY 10000

/* From this exponent on a relaxed marginal counts as hard (PISCES, as released; algorithm.md
 * 4.4). */
#define PK_HARD_EXPONENT 0.999
/* Sums of weights that differ by less, relative, are meant to be equal: those of f32 files agree to
 * six digits. */
#define PK_SUM_TOLERANCE 1e-6

typedef enum {
  PK_RULE_BALANCED = 0,   /* P1 = source, P'1 = target */
  PK_RULE_UNBALANCED = 1, /* + rho KL for each side; infinite: hard */
  PK_RULE_RELAXED = 2,    /* PISCES: both rho = epsilon m / (1 - m), m the marginal exponent */
  PK_RULE_EXACT_MASS = 3  /* P1 <= source, P'1 <= target, sum P = mass */
} pk_rule;

typedef struct {
  pk_rule rule;
  double rho_source, rho_target; /* unbalanced */
  double marginal_exponent;      /* relaxed, in (0, 1] */
  double mass;                   /* exact mass */
} pk_marginals;

typedef enum {
  PK_FAULT_NONE = 0,
  /* options */
  PK_FAULT_EPSILON,
  PK_FAULT_TOLERANCE,
  PK_FAULT_MAX_ITERATIONS,
  PK_FAULT_SCALE,
  PK_FAULT_RHO,
  PK_FAULT_EXPONENT,
  PK_FAULT_MASS, /* value; limit: the smaller sum of weights, or infinity where it is not known */
  /* data */
  PK_FAULT_NOT_FINITE,   /* name, index, value */
  PK_FAULT_COST,         /* the same of a cost, which may be infinite */
  PK_FAULT_NEGATIVE,     /* weights: name, index, value */
  PK_FAULT_SUM,          /* weights: name, value */
  PK_FAULT_UNEQUAL_SUMS, /* value, limit */
  PK_FAULT_ZERO_VECTOR,  /* name, index */
  PK_FAULT_ASYMMETRIC,   /* name, index, other */
  PK_FAULT_NO_PARTNER,   /* name, index */
  PK_FAULT_INFEASIBLE,
  PK_FAULT_WEIGHT_RANGE /* name, index, value */
} pk_fault_kind;

typedef struct PK_SAFE {
  pk_fault_kind kind;
  const char *name; /* of the array or side, as the caller calls it */
  ptrdiff_t index, other;
  double value, limit;
} pk_fault;

/* What is wrong, and how to mend it, each in at most `size` bytes with the 0. */
void pk_fault_text(const pk_fault *fault, char *what, char *remedy, size_t size);
/* Whether the fault is in an option, not in an array. */
int pk_fault_is_option(pk_fault_kind kind);

/* epsilon, tolerance, max_iterations and, of points, scale. */
pk_fault pk_check_options(const pk_sinkhorn_problem *p);
/* Sets sides, rho and mass of a problem whose epsilon is set. */
pk_fault pk_set_marginals(const pk_marginals *m, pk_sinkhorn_problem *p);
/* Weights that are finite, not negative and not all 0; *sum is theirs. */
pk_fault pk_check_weights(const char *name, ptrdiff_t n, const double *w, double *sum);

/* Makes the weights of one problem fit its marginals: a mass must not exceed the sums and is
 * brought down to them (to the least of all items in a batch); two hard sides are made to agree
 * to the last bit, by scaling the target. Balanced sides are divided by their sums, always or
 * only where these differ; then sums[] become 1, divisors[] (else 1) the sums before, and
 * *is_divided 1. */
typedef struct PK_SAFE {
  double *source, *target; /* [n], [m] */
  double sums[2], divisors[2];
  int divides_always, is_divided, differ; /* differ: the sums did, by more than PK_SUM_TOLERANCE */
} pk_weights;

pk_fault pk_pose_weights(const pk_marginals *m, pk_sinkhorn_problem *p, pk_weights *w);
/* Turns the gradient dw with respect to divided weights w into that with respect to those given:
 * through a / sum a it is (dw - sum w dw) / sum a, 0 where the weight is 0. */
void pk_undivide_gradient(ptrdiff_t n, const double *w, double divisor, double *dw);

/* The first element that is not finite; `count` if there is none. Of costs (`is_cost`) infinite
 * elements are allowed, and *forbids is set where there is one. */
ptrdiff_t pk_first_not_finite(pk_type type, ptrdiff_t count, const void *x);
pk_fault pk_check_finite(const char *name, pk_type type, ptrdiff_t count, const void *x);
pk_fault pk_check_costs(const char *name, pk_type type, ptrdiff_t count, const void *x,
                        int *forbids);
/* Rows of points without a zero vector, whose cosine is not defined. */
pk_fault pk_check_directions(const char *name, pk_type type, ptrdiff_t n, ptrdiff_t d,
                             const void *x);
/* A cost [n, n] that is symmetric to 1e-6 of its largest element. */
pk_fault pk_check_symmetric(const char *name, pk_type type, ptrdiff_t n, const void *x);
/* Whether some plan with these weights avoids the infinite elements of a cost. scratch:
 * pk_sinkhorn_feasible_scratch bytes. */
pk_fault pk_check_pairs(const pk_sinkhorn_problem *p, const void *cost, const double *mu,
                        const double *nu, void *scratch);
#endif
