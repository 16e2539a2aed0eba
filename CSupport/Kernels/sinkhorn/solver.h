/* State of a scaling solve, shared by the files of the solver (contract: pk_sinkhorn.h).
 *
 *   state.c               memory, potentials, scalings
 *   point_cloud.c         points in packed form
 *   kernel.c              the kernel exp(a + b + z - C / epsilon), its rows and sums
 *   pass.c                one pass over the kernel
 *   log_domain.c          an iteration by logarithms
 *   iterate.c             an iteration on the kernel
 *   conjugate_gradients.c the linear system of a Newton step and of a gradient
 *   newton.c              a damped Newton step of the dual
 *   accelerate.c          the iterations of one epsilon: over-relaxation, Newton steps, stopping
 *   epsilon_scaling.c     the sequence of epsilons
 *   components.c          separate groups of rows and columns
 *   certificate.c         values recomputed from a plan
 *   solve.c               the entry point
 *
 * P_ij = alpha_i K_ij beta_j zeta with K_ij = exp(a_i + b_j + z - C_ij / epsilon): the iteration
 * moves the scalings alpha, beta, zeta, which are folded into the potentials a, b, z when they
 * leave the range of the element type. */
#ifndef PK_SOLVER_H
#define PK_SOLVER_H
#include "vector_kernels.h"
#include "../isa/omp_declarations.h"

/* Column sums are kept apart for at most this many blocks of rows, and for no more blocks than
 * MAX_BLOCK_SUMS sums (32 MiB of double). */
#define MAX_BLOCKS 64
#define MAX_BLOCK_SUMS (4 << 20)
#define POINT_TILE_ROWS 16 /* rows of a tile of point costs */
#define COLUMN_CHUNK 128   /* columns whose block sums one thread adds */

enum { ROWS = 0, COLUMNS = 1 };

/* The marginal condition of one side. */
typedef struct {
  pk_side rule;
  idx count, padded;      /* n or m; rounded up to whole groups of rows or panels of columns */
  const double *weights;  /* mu [n] or nu [m] */
  double rho;             /* strength of a relaxed side */
  double kappa, exponent; /* epsilon / rho and 1 / (1 + kappa); 0 and 1 unless relaxed */
} solver_side;

/* What is solved, at the current epsilon. */
typedef struct {
  const pk_sinkhorn_problem *options;
  const void *x, *y; /* the caller's cost or points */
  solver_side side[2];
  double epsilon;
  double cost_range; /* largest less least finite cost; of points an upper bound */
} solver_problem;

/* The kernel, stored [n, stride] or, of points, computed tile by tile. */
typedef struct {
  const vector_kernels *vectors;
  idx element, given; /* bytes of an element of the kernel, and of the caller's arrays */
  idx stride;         /* elements of a row */
  idx blocks, chunks; /* of rows; of columns */
  int is_points;
  char *stored; /* NULL for points */
  double least; /* least cost of a matrix */
  /* Points: C = constant[ROWS] + constant[COLUMNS] + factor v, v from the packed points. */
  packed_points points;
  double factor, *constant[2];
  double *centre; /* [d], subtracted from all points */
  /* S / q of point_cloud.c for the nearest pair, 2 % and 10 % of pairs; negative: not yet known */
  double digit_loss[3];
  double *row;  /* constants of the kernel behind the potentials, [rows] ... */
  char *column; /* ... and [stride], of the element type */
  char *tiles;  /* tiles_each for each thread */
  idx tile_bytes, tiles_each;
} solver_kernel;

/* The dual variables. */
typedef struct {
  double *potential[2], z;  /* a [n], b [m]: the potentials behind the kernel */
  double *scaling[2], zeta; /* alpha [n], beta [m]: the scalings since */
  char *beta;               /* scaling[COLUMNS] in the element type */
  double *p[2], *q[2];      /* constants of the update rules (vector_kernels.h) */
} solver_dual;

/* Memory whose contents last for one step. */
typedef struct {
  double *block_sums;   /* [blocks, stride]: column sums of a block of rows */
  double *block_tops;   /* [blocks, stride]: maxima of column-wise log-sum-exp */
  char *block_parts;    /* [blocks, stride] of the element type; all 0 between passes */
  update_sums *sums[2]; /* [blocks], [chunks] */
  double *column_sums;  /* [stride + 8]: of the last pass; after the columns, an entry for z */
  char *vector;         /* [stride]: a column vector in the element type */
  double *marginal[2];  /* row and column sums of the plan, or trial potentials */
  /* the linear system: right-hand sides, diagonals, solution; [stride + 8] has an entry for z */
  double *right[2], *diagonal[2], *step[2];
  double *residual, *direction; /* [stride + 8], of conjugate gradients */
  idx *component;               /* [2 (n + m)], of components.c */
} solver_scratch;

typedef struct {
  solver_problem problem;
  solver_kernel kernel;
  solver_dual dual;
  solver_scratch scratch;
  double rounding; /* relative error of a sum of kernel entries: 1e-15 in f64, 3e-7 in f32 */
  double damping;  /* of Newton steps, relative to the diagonal */
  idx passes;      /* over the kernel, so far */
  int interrupted; /* the progress function asked for an end */
} solver;

/* --- state.c --- */

/* Binds the arrays of a solver in `type` (of a matrix that of the problem) in `scratch` (any
 * alignment; NULL: only counts) with `tiles` tiles a thread for points. Returns their bytes. */
idx solver_layout(solver *s, const pk_sinkhorn_problem *p, pk_type type, idx tiles, char *scratch);
/* Packs points, finds the range of the costs. 0: in this type the distances between the points
 * would lose their digits. */
int solver_bind(solver *s, const void *x, const void *y, const double *mu, const double *nu);
/* Both, in the problem's type or, where that loses digits, in f64. Returns the bytes used, at most
 * solver_bytes. */
idx solver_open(solver *s, const pk_sinkhorn_problem *p, idx tiles, char *scratch, const void *x,
                const void *y, const double *mu, const double *nu);
/* The same solver of points, in f64; potentials and all other arrays are lost. */
idx solver_reopen_in_f64(solver *s, idx tiles, char *scratch);
/* A solver whose kernel is the plan of given potentials, with two tiles a thread. */
idx solver_open_plan(solver *s, const pk_sinkhorn_problem *p, const void *x, const void *y,
                     const double *mu, const double *nu, const double *a, const double *b, double z,
                     char *scratch);
void solver_set_epsilon(solver *s, double epsilon);
/* Sets the potentials behind the kernel; the padding has none. */
void solver_set_potentials(solver *s, const double *a, const double *b, double z);
/* Sets all scalings to 1 and the update rules' constants to the potentials. */
void solver_reset_scalings(solver *s);
/* Folds the scalings into the potentials. */
void solver_fold_scalings(solver *s);
/* Folds the scalings and builds the kernel anew; returns its sum, for points only when `total`. */
double solver_absorb(solver *s, int total);
/* Scalings outside exp(+-bound) are folded into the potentials. */
double solver_scaling_bound(const solver *s);

/* --- point_cloud.c --- */
int solver_bind_points(solver *s);

/* --- kernel.c --- */

/* Builds the kernel exp(a + b + z - C / epsilon); returns its sum, for points only when `total`. */
double solver_build_kernel(solver *s, const double *a, const double *b, double z, int total);
/* Rows i ..< i + count of the kernel, or of the cost (with its stride); `tile` is this thread's.
 * The costs of points need solver_prepare_costs first. */
const void *solver_kernel_rows(const solver *s, idx i, idx count, char *tile);
const void *solver_cost_rows(const solver *s, idx i, idx count, char *tile, idx *stride);
void solver_prepare_costs(solver *s);
/* The plan, to `plan` unless NULL. Of a stored kernel from the kernel and its scalings; with
 * `from_potentials`, and always of points, from exponentials of a, b, z, which then must hold
 * everything (`approximate`, of points without a plan: to 1e-7). Row and column sums go to
 * scratch.marginal, the cost of each row to scratch.step[ROWS]. */
void solver_plan(solver *s, int from_potentials, int approximate, void *plan);

/* --- pass.c --- */

/* Column sums of blocks of rows are added along a binary tree, so the bits are the same for every
 * team. Fills `pairs` (at most MAX_BLOCKS) in order and returns how many there are. Thread t of the
 * team has blocks blocks t / team ..< blocks (t + 1) / team; the pairs are those that it can add
 * without other threads' blocks or, with thread -1, those that remain. */
idx solver_pairs(idx blocks, idx team, idx thread, block_pair *pairs);
/* Adds the remaining pairs in columns j0 ..< j1, the last of them in registers, and gives the
 * totals to the table's update_columns. */
void solver_add_columns(const vector_kernels *vectors, const side_update *columns, idx j0, idx j1,
                        idx stride, const block_pair *pairs, idx count, double *block_sums,
                        double *out, void *beta, update_sums *sums);
/* One pass: new scalings of the rows, column sums to scratch.column_sums and, if `columns` has a
 * scaling, new scalings of the columns. */
void solver_pass(solver *s, const side_update *rows, const side_update *columns, const char *beta,
                 update_sums *row_sums, update_sums *column_sums);
/* Two products with the kernel: out = (K y + p) q, scratch.column_sums = K' out. */
void solver_product(solver *s, const double *p, const double *q, const double *y, double *out);
/* Row sums of the kernel to rows, column sums to columns (NULL: not wanted). */
void solver_sums(solver *s, double *rows, double *columns);

/* --- log_domain.c --- */

/* log sum_j exp(b_j - C_ij / epsilon) to out [n]; of columns log sum_i exp(a_i - C_ij / epsilon) to
 * out [m]. */
void solver_log_sums(solver *s, int side, double *out);
/* One iteration by logarithms from a, b, z; the kernel is built anew. Returns the residual. */
double solver_log_iteration(solver *s);

/* --- iterate.c --- */

/* One iteration on the kernel, over-relaxed by omega. Returns the residual: the L1 error of the row
 * or of the column sums before their update, the larger, relative to the mass; NAN when a sum or
 * scaling is not a positive finite number. */
double solver_iterate(solver *s, double omega);

/* --- conjugate_gradients.c, newton.c --- */

/* Solves the system with scratch.right and `right_z`, and scratch.diagonal (0: inactive), over
 * the kernel, whose sums are in scratch.marginal. use_z adds the total as an unknown.
 * scratch.step holds the solution, the return value is that of z. */
double solver_solve_system(solver *s, int use_z, double total, double right_z, double tolerance,
                           idx limit, double *residual);
/* A Newton step with backtracking; 1 when the dual rose. */
int solver_newton(solver *s, double forcing, idx limit, idx last_pass);
/* The dual value / epsilon at potentials whose plan sums to `total`. */
double solver_dual_value(const solver *s, const double *a, const double *b, double z, double total);

/* --- accelerate.c --- */

/* The factor of over-relaxation behind a convergence rate seen at `omega`. */
double over_relaxation(double rate, double omega);
/* Iterations at the current epsilon until `tolerance` or pass `last_pass`. `is_first`: no
 * potentials are known yet. `is_final`: the problem's own epsilon. */
pk_outcome solver_run_level(solver *s, double tolerance, idx last_pass, int is_first, int is_final,
                            double *residual);
int solver_report(solver *s, double residual);
/* Whether a kernel without potentials holds the exponentials of all costs. */
int solver_starts_on_kernel(const solver *s);

/* --- epsilon_scaling.c --- */

/* From the start, or a warm one, through levels epsilon 4^k to the problem's. */
pk_outcome solver_descend(solver *s, double *residual);

/* --- components.c, certificate.c --- */

/* Moves the potentials (a + t, b - t) of each component towards 0. 0: there are too many
 * components. Two hard sides. */
int solver_shift_components(solver *s);
/* The certificate of the plan of solver_plan and the potentials a, b, z. */
void solver_certificate(const solver *s, pk_sinkhorn_result *r);

/* Bytes that a solver may need: in the problem's type or in f64, whose panels are shorter. */
static inline idx solver_bytes(const pk_sinkhorn_problem *p, idx tiles) {
  solver s;
  const idx own = solver_layout(&s, p, p->type, tiles, NULL),
            f64 = p->cost == PK_COST_MATRIX ? 0 : solver_layout(&s, p, PK_F64, tiles, NULL);
  return own > f64 ? own : f64;
}

static inline int solver_is_capped(const solver *s) {
  return s->problem.side[ROWS].rule == PK_SIDE_CAPPED;
}

static inline int solver_is_hard(const solver *s) {
  return s->problem.side[ROWS].rule == PK_SIDE_HARD &&
         s->problem.side[COLUMNS].rule == PK_SIDE_HARD;
}

/* This thread's tile; NULL where the kernel is stored. */
static inline char *solver_tile(const solver *s, int which) {
  const solver_kernel *k = &s->kernel;
  return k->is_points ? k->tiles + (k->tiles_each * omp_get_thread_num() + which) * k->tile_bytes
                      : NULL;
}

/* First row of block q. */
static inline idx solver_block(const solver *s, idx q) {
  const solver_side *rows = &s->problem.side[ROWS];
  const idx at = rows->padded / 8 * q / s->kernel.blocks * 8;
  return at < rows->count ? at : rows->count;
}

/* Rows whose sums in the element type are added before they go to the block's sums in double: those
 * of a tile, or more of a stored kernel. */
static inline idx solver_row_step(const solver *s) {
  return s->kernel.is_points ? POINT_TILE_ROWS : 64;
}

static inline idx least_of(idx a, idx b) { return a < b ? a : b; }

/* Inside a parallel region, a batch's or the caller's, a solve is serial, whether nesting is
 * allowed or not: there are tiles for one team. */
static inline int solver_parallel(const solver *s) {
  const idx work = s->kernel.is_points ? s->problem.options->d + 8 : 1;
  return !omp_in_parallel() && s->problem.side[ROWS].count * s->kernel.stride * work > PK_SERIAL;
}

static inline int has_potential(double a) { return a > PK_LOG_ZERO / 2; }

/* The next `bytes` of an area at `base` (NULL: only counts), at a multiple of 64. */
static inline void *carve(char *base, idx *at, idx bytes) {
  char *p = base ? base + *at : NULL;
  *at += (bytes + 63) / 64 * 64;
  return p;
}

static inline void *align_to_line(const void *p) { return (void *)(((uintptr_t)p + 63) / 64 * 64); }
#endif
