/* libpisces_ot: entropic optimal transport between two finite measures, on the processor.
 *
 *   min  <P, C> + epsilon sum P (log P - 1)  + what `rule` says of the marginals P1 and P'1;
 *   P_ij = exp(log_u_i + log_v_j + log_z - C_ij / epsilon),  log_z = 0 but for
 *   PISCES_OT_EXACT_MASS.
 *   C is a matrix, or a distance between points that is computed where it is needed and never
 *   stored.
 *
 * Conventions  Arrays are dense, row-major and the caller's; f32 or f64 as `type` says, weights and
 * potentials always double.
 *              Nothing is kept after a call but scratch memory, which grows with the largest
 *              problem and goes with the context.
 * Threads      A context serves one call at a time; contexts of different host threads are
 * independent. The bits of a result do not depend
 *              on the number of threads of its context, nor on how problems are put into batches.
 * Errors       A status other than PISCES_OT_OK means that no result was computed;
 * pisces_ot_message has one line: what, where, how to mend.
 *              Whether a computed result is good is in its certificate: look at `outcome`.
 * Stability    While PISCES_OT_ABI and with it the soname stay, structures keep their layout
 *              (pisces_ot_problem may grow at its end: `size`), and enumerations only gain
 *              members. */
#ifndef PISCES_OT_H
#define PISCES_OT_H
#include <stddef.h>

/* The version of PISCES that the library belongs to (Documentation/releasing.md). */
#define PISCES_OT_VERSION_MAJOR 0
#define PISCES_OT_VERSION_MINOR 2
#define PISCES_OT_VERSION_PATCH 0
/* The number in the soname: it grows when a client has to be compiled again. */
#define PISCES_OT_ABI 1
#define PISCES_OT_VERSION \
  (PISCES_OT_VERSION_MAJOR * 10000 + PISCES_OT_VERSION_MINOR * 100 + PISCES_OT_VERSION_PATCH)

#if defined(__GNUC__)
#define PISCES_OT_API __attribute__((visibility("default")))
#else
#define PISCES_OT_API
#endif
#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  PISCES_OT_OK = 0,
  PISCES_OT_BAD_ARGUMENT = 1, /* a size, option or missing pointer */
  /* an element of an array: not finite, negative, a zero sum, masses that do not fit */
  PISCES_OT_BAD_DATA = 2,
  PISCES_OT_NO_MEMORY = 3,
  PISCES_OT_INTERNAL = 4 /* a bug of the library */
} pisces_ot_status;

typedef enum {
  PISCES_OT_CONVERGED = 0,
  PISCES_OT_MAX_ITERATIONS = 1,
  PISCES_OT_STALLED = 2,    /* rounding ended the progress above the tolerance */
  PISCES_OT_NON_FINITE = 3, /* numbers outside the range of the type */
  PISCES_OT_INTERRUPTED = 4 /* by the progress function */
} pisces_ot_outcome;

typedef enum { PISCES_OT_F64 = 0, PISCES_OT_F32 = 1 } pisces_ot_type;

typedef enum {
  PISCES_OT_MATRIX = 0,    /* C itself, [n, m] */
  PISCES_OT_SQUARED = 1,   /* |x - y|^2 */
  PISCES_OT_EUCLIDEAN = 2, /* |x - y| */
  PISCES_OT_COSINE = 3     /* 1 - <x, y> / (|x| |y|) */
} pisces_ot_cost;

typedef enum {
  /* P1 = source, P'1 = target; the target's sum is made the source's; where they differ by more
   * than 1e-6, each side is divided by its sum, and pisces_ot_message warns of it */
  PISCES_OT_BALANCED = 0,
  /* + rho_source KL(P1 | source) + rho_target KL(P'1 | target), KL(p | q) = sum p log(p / q) - p +
   * q; INFINITY keeps the constraint of its side */
  PISCES_OT_UNBALANCED = 1,
  /* PISCES: both rho = epsilon mass / (1 - mass), mass in (0, 1]; from 0.999 on balanced */
  PISCES_OT_RELAXED = 2,
  PISCES_OT_EXACT_MASS = 3 /* P1 <= source, P'1 <= target, sum P = mass */
} pisces_ot_rule;

typedef enum {
  PISCES_OT_ENTROPY = 0, /* epsilon sum P (log P - 1) */
  /* epsilon KL(P | source x target), of GeomLoss and OTT; balanced, it only shifts values. Not with
   * exact mass */
  PISCES_OT_PRODUCT = 1
} pisces_ot_reference;

/* A problem. Set it up with pisces_ot_problem_init, then fill in what differs: n, m (and d), x (and
 * y), epsilon at least. */
typedef struct {
  size_t size;                   /* of this structure; set by pisces_ot_problem_init */
  ptrdiff_t n, m, d;             /* sources, targets; coordinates (points) */
  pisces_ot_type type;           /* of x, y, plans and their gradients; F64 */
  pisces_ot_cost cost;           /* MATRIX */
  pisces_ot_rule rule;           /* BALANCED */
  pisces_ot_reference reference; /* ENTROPY */
  /* matrix: x = C [n, m], INFINITY forbids a pair (not in a divergence); points: x [n, d], y [m, d]
   */
  const void *x, *y;
  /* weights [n], [m] >= 0; NULL: uniform of sum 1. A zero weight gives an exactly zero row or
   * column */
  const double *source, *target;
  double scale;                  /* points: the distance is divided by it; 1 */
  double epsilon;                /* in units of the cost; > 0 */
  double rho_source, rho_target; /* INFINITY */
  double mass;                   /* 1 */
  /* on the L1 error of the marginals before their update / sum P; 1e-9. 0: exactly max_iterations
   * plain iterations */
  double tolerance;
  ptrdiff_t max_iterations; /* passes over the cost; 10000 */
  int warm;                 /* start from the potentials in the solution; 0 */
  int plain;                /* block ascent alone: no acceleration; 0 */
  /* called after iterations, from the calling thread; non-zero interrupts. NULL */
  int (*progress)(void *context, ptrdiff_t iterations, double residual);
  void *context;
} pisces_ot_problem;

/* What a solve writes and the other functions read. */
typedef struct {
  double *log_u, *log_v; /* [n], [m]; -INFINITY where the weight is 0 */
  double log_z;
  void *plan; /* [n, m] of the problem's type; NULL: not wanted */
} pisces_ot_solution;

/* Recomputed from the plan of the potentials; of a relaxed side the error is the violation of its
 * optimality condition. */
typedef struct {
  pisces_ot_outcome outcome;
  ptrdiff_t iterations;
  double residual;             /* what the stopping rule last saw */
  double error_l1, error_linf; /* of the marginals: the larger side, the largest element */
  double cost;                 /* <P, C> */
  double primal, dual, gap;    /* objective, lower bound, difference */
  double mass;                 /* sum P */
  double epsilon, log_z;
  double reserved[4];
} pisces_ot_certificate;

/* Item k of a batch has its arrays at k times these distances, in elements; 0 shares an input. */
typedef struct {
  ptrdiff_t x, y, source, target, plan, log_u, log_v;
} pisces_ot_strides;

/* Derivative of a function of the solution: with respect to the plan, to <P, C> and to the
 * objective (primal). */
typedef struct {
  const void *plan; /* [n, m] of the problem's type, NULL for 0; matrix only */
  double cost, objective;
} pisces_ot_upstream;

/* Derivatives with respect to the data; NULL: not wanted. Of balanced weights fixed up to a
 * constant, the one with sum source dsource = sum target dtarget; 0 where the weight is 0. */
typedef struct {
  void *x, *y;             /* as x, y of the problem (matrix: x) */
  double *source, *target; /* [n], [m] */
  double residual;         /* relative, of the linear system that was solved */
} pisces_ot_gradients;

typedef struct pisces_ot_context pisces_ot_context;

PISCES_OT_API int pisces_ot_version(void); /* of the library in use, as PISCES_OT_VERSION */
PISCES_OT_API const char *pisces_ot_status_text(pisces_ot_status status);
PISCES_OT_API const char *pisces_ot_outcome_text(pisces_ot_outcome outcome);

/* A context with the processors of the calling thread's OpenMP team (OMP_NUM_THREADS, else those it
 * may run on). */
PISCES_OT_API pisces_ot_status pisces_ot_create(pisces_ot_context **context);
PISCES_OT_API void pisces_ot_destroy(pisces_ot_context *context); /* NULL is allowed */
/* >= 1 */
PISCES_OT_API pisces_ot_status pisces_ot_set_threads(pisces_ot_context *context, int threads);
PISCES_OT_API int pisces_ot_threads(const pisces_ot_context *context);
/* The last error, valid until the next call with this context; when the last call succeeded, a
 * warning, or "". */
PISCES_OT_API const char *pisces_ot_message(const pisces_ot_context *context);

#define pisces_ot_problem_init(problem) pisces_ot_problem_init_size((problem), sizeof *(problem))
PISCES_OT_API void pisces_ot_problem_init_size(pisces_ot_problem *problem, size_t size);

/* Solves. Writes log_u, log_v, log_z, the plan where wanted, and the certificate. */
PISCES_OT_API pisces_ot_status pisces_ot_solve(pisces_ot_context *context,
                                               const pisces_ot_problem *problem,
                                               pisces_ot_solution *solution,
                                               pisces_ot_certificate *certificate);
/* `count` problems of one form; the arrays in problem and solution are those of item 0, log_z is in
 * the certificates [count].
 * Small items are spread over the threads. Progress is not reported. */
PISCES_OT_API pisces_ot_status pisces_ot_solve_batch(pisces_ot_context *context,
                                                     const pisces_ot_problem *problem,
                                                     ptrdiff_t count,
                                                     const pisces_ot_strides *strides,
                                                     const pisces_ot_solution *solution,
                                                     pisces_ot_certificate *certificates);
/* The certificate of given potentials with every sum and exponential in f64, whatever the type; of
 * a matrix with solution->plan, that of the plan (at cost / epsilon = 1e11 potentials in f64 are
 * too coarse to repeat it). iterations and residual are not touched; outcome is judged again:
 * CONVERGED becomes STALLED where the errors found are above the problem's tolerance. */
PISCES_OT_API pisces_ot_status pisces_ot_certify(pisces_ot_context *context,
                                                 const pisces_ot_problem *problem,
                                                 const pisces_ot_solution *solution,
                                                 pisces_ot_certificate *certificate);
/* Gradients by implicit differentiation of the solution, which should be converged. */
PISCES_OT_API pisces_ot_status pisces_ot_gradient(pisces_ot_context *context,
                                                  const pisces_ot_problem *problem,
                                                  const pisces_ot_solution *solution,
                                                  const pisces_ot_upstream *upstream,
                                                  pisces_ot_gradients *gradients);
/* Barycentric projection of the sources, sum_j P_ij y_j / sum_j P_ij, [n, d] of the problem's type;
 * 0 in rows without mass. Points only; cosine: of the targets scaled to length 1. */
PISCES_OT_API pisces_ot_status pisces_ot_project(pisces_ot_context *context,
                                                 const pisces_ot_problem *problem,
                                                 const pisces_ot_solution *solution,
                                                 void *projection);
/* The costs [n, m] between points, of the type and with the accuracy that the solvers take them
 * with: f32 to 1e-5 of the entry or of the nearest pairs, whatever outliers there are. type, cost,
 * n, m, d, x, y and scale of the problem are read. Since version 1.2. */
PISCES_OT_API pisces_ot_status pisces_ot_costs(pisces_ot_context *context,
                                               const pisces_ot_problem *problem, void *costs);
/* Sinkhorn divergence  OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2 + epsilon / 2 (sum a - sum b)^2,  OT
 * the optimal value with the product reference, balanced (Feydy et al. 2019, arXiv:1810.08278) or
 * unbalanced with one rho (Sejourne et al. 2019, arXiv:1910.12958). Three solves. Matrix:
 * source_cost [n, n] and target_cost [m, m], symmetric; points: NULL. dx [n, d], dy [m, d]:
 * gradient with respect to the points, NULL: not wanted (matrix: must be NULL). certificates: of
 * the three solves, [3]. warm is ignored. */
PISCES_OT_API pisces_ot_status pisces_ot_divergence(pisces_ot_context *context,
                                                    const pisces_ot_problem *problem,
                                                    const void *source_cost,
                                                    const void *target_cost, double *value,
                                                    void *dx, void *dy,
                                                    pisces_ot_certificate *certificates);

/* Exact transport, without regularisation, by a network simplex: min <P, C> with P1 = source, P'1 =
 * target (mass < 0; each side is divided by its sum, with a warning where the sums differ), or P1
 * <= source, P'1 <= target, sum P = mass (Chapel et al. 2020, arXiv:2002.08276). f64; one thread;
 * about 100 bytes an entry. source, target: NULL for uniform weights of sum 1; an INFINITE cost
 * forbids its pair.
 * Writes plan [n, m]; source_price [n], target_price [m]: derivatives of the cost with respect to
 * the weights (balanced: up to a constant), and mass_price (each NULL: not wanted); the
 * certificate, whose gap is recomputed from the costs as given and decides the outcome. */
PISCES_OT_API pisces_ot_status pisces_ot_exact(pisces_ot_context *context, ptrdiff_t n, ptrdiff_t m,
                                               const double *cost, const double *source,
                                               const double *target, double mass, double *plan,
                                               double *source_price, double *target_price,
                                               double *mass_price,
                                               pisces_ot_certificate *certificate);

/* Entropic barycenter of histograms on a fixed support. Set it up with pisces_ot_barycenter_init.
 */
typedef struct {
  size_t size;           /* of this structure; set by pisces_ot_barycenter_init */
  ptrdiff_t count, n, m; /* histograms; atoms of each; atoms of the barycenter */
  /* [count, n] >= 0; sums are made the first's; where they differ by more than 1e-6, each is
   * divided by its own (a warning) */
  const double *histograms;
  const double *weights; /* [count] >= 0, divided by their sum; NULL: uniform */
  /* [n, m]; of histogram k at k cost_stride elements, 0: one for all */
  const double *cost;
  ptrdiff_t cost_stride; /* 0 */
  int debiased;          /* 0 */
  /* [m, m], symmetric: of the barycenter's atoms with each other, debiased only; NULL: the cost,
   * shared and square */
  const double *own_cost;
  double epsilon; /* > 0 */
  /* on the L1 error of the plans' marginals / sum; 1e-9. 0: exactly max_iterations plain iterations
   */
  double tolerance;
  ptrdiff_t max_iterations; /* 10000 */
  int plain;                /* no over-relaxation; 0 */
  /* as in pisces_ot_problem; NULL */
  int (*progress)(void *context, ptrdiff_t iterations, double residual);
  void *context;
} pisces_ot_barycenter_problem;

#define pisces_ot_barycenter_init(problem) \
  pisces_ot_barycenter_init_size((problem), sizeof *(problem))
PISCES_OT_API void pisces_ot_barycenter_init_size(pisces_ot_barycenter_problem *problem,
                                                  size_t size);

/*   min over a of  sum_k weights_k OT(b_k, a),  OT with the entropy reference (Benamou et al. 2015,
 *   arXiv:1412.5154); debiased: of sum_k weights_k S(b_k, a), the Sinkhorn divergence, without the
 *   blur of the former (Janati et al. 2020, arXiv:2006.02575).
 * Writes barycenter [m]; log_u [count, n] and log_v [count, m], the potentials of the plans
 * exp(log_u_ki + log_v_kj - C_kij / epsilon); errors [count], the larger L1 error of each plan's
 * marginals (each NULL: not wanted); and the certificate: cost sum_k weights_k <P_k, C_k>, primal
 * the objective, dual a lower bound (debiased: primal without the constants of the histograms with
 * themselves, dual and gap NaN), error_l1 and error_linf of the worst plan. */
PISCES_OT_API pisces_ot_status pisces_ot_barycenter(pisces_ot_context *context,
                                                    const pisces_ot_barycenter_problem *problem,
                                                    double *barycenter, double *log_u,
                                                    double *log_v, double *errors,
                                                    pisces_ot_certificate *certificate);
#ifdef __cplusplus
}
#endif
#endif
