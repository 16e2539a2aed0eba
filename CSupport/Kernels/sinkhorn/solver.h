/* State shared by the scaling solver, its Newton step, the gradient and the certificate. */
#ifndef PK_SOLVER_H
#define PK_SOLVER_H
#include "vector_kernels.h"
#include "../isa/omp_declarations.h"
#define SOLVER_BLOCKS 64
#define SOLVER_SUMS (4 << 20)
#define SOLVER_ROWS 16   /* of a tile */
#define SOLVER_CHUNK 128 /* columns folded together */

typedef struct {
  const pk_sinkhorn_problem *p;
  const vector_kernels *w;
  const void *x, *y; /* the caller's cost or points */
  const double *mu, *nu;
  /* rows: n rounded up to 8; size of an element, and of the caller's */
  idx n, m, ld, rows, size, given, blocks, chunks;
  int points;
  double eps, kappa_a, kappa_b, phi_a, phi_b; /* of the current level */
  char *k;                                    /* stored kernel [n, ld]; with points NULL */
  /* points: packed, and the costs' constant parts per row and column, [rows], [ld] */
  packed_points shape;
  /* C = constant_a + constant_b + factor v; of a matrix: factor is its least entry */
  double factor, *constant_a, *constant_b;
  double *centre; /* [d], taken from all points */
  idx *groups;    /* [2 (n + m)], for solver_regroup */
  double *row;    /* constants of the kernel behind a, b, z */
  char *column;
  char *tiles; /* tile_count a thread */
  idx tile_bytes, tile_count;
  double *a, *b, z;           /* potentials behind the kernel */
  double *alpha, *beta, zeta; /* scalings since */
  char *beta_r, *vector_r;    /* copies of beta and of another column vector, of the element type */
  double *pa, *qa, *pb, *qb;  /* the update rules' constants */
  double *acc;                /* [blocks, ld] */
  char *part;                 /* [blocks, ld] */
  update_sums *row_sums, *column_sums;
  double *ra, *rb, *da, *db;        /* gradients and diagonals of the linear system */
  double *u, *y_, *res, *dir, *out; /* its vectors; of columns + 8, the last for z */
  double *ta, *tb;                  /* trial potentials; row and column sums */
  double *top;                      /* [blocks, ld] of column-wise log-sum-exp */
  double range;                     /* of the costs */
  /* of digits by distances between the points (cloud.c); negative: not known yet */
  double loss[3];
  double floor;   /* what a sum's last digits are worth */
  double damping; /* of Newton steps, relative to the diagonal */
  idx passes;
  int stop; /* progress asked for an end */
} solver;

/* Binds the arrays of a solver in `type` (of a matrix that of the problem) in `scratch` (any
 * alignment; NULL: only counts), with points `tiles` a thread, and returns how many bytes they
 * take. */
idx solver_layout(solver *s, const pk_sinkhorn_problem *p, pk_type type, idx tiles, char *scratch);
/* Packs points, finds the range of the costs. 0: in this type the distances between the points
 * would lose their digits. */
int solver_bind(solver *s, const void *x, const void *y, const double *mu, const double *nu);
int solver_bind_points(solver *s);
/* Both, in the problem's type or, where that would not do, in f64. solver_bytes is room enough. */
idx solver_open(solver *s, const pk_sinkhorn_problem *p, idx tiles, char *scratch, const void *x,
                const void *y, const double *mu, const double *nu);
/* A bound solver of points once more, in f64; potentials and what else it had are gone. */
idx solver_widen(solver *s, idx tiles, char *scratch);

static inline idx solver_bytes(const pk_sinkhorn_problem *p, idx tiles) {
  solver s;
  const idx own = solver_layout(&s, p, p->type, tiles, NULL),
            wide = p->cost == PK_COST_MATRIX ? 0 : solver_layout(&s, p, PK_F64, tiles, NULL);
  return own > wide ? own : wide; /* f32 has longer panels */
}

void solver_level(solver *s, double eps);
/* The kernel exp(a + b + z - C / eps); returns its sum, with points only when `total`. */
double solver_build(solver *s, const double *a, const double *b, double z, int total);
/* Rows i ..< i + count of the kernel, or of the cost (with its stride); `tile` is this thread's. */
const void *solver_kernel_rows(const solver *s, idx i, idx count, char *tile);
const void *solver_cost_rows(const solver *s, idx i, idx count, char *tile, idx *stride);
/* Moves the potentials (a + t, b - t) of groups (all are one, or several between which no mass
 * goes) towards 0;
 * 0: there are too many. Two hard sides. */
int solver_regroup(solver *s);
/* Sets the potentials behind the kernel, 0 in the padding. */
void solver_potentials(solver *s, const double *a, const double *b, double z);
/* Constants of the update rules around the potentials a, b (vector_kernels.h); scalings 1. */
void solver_rules(solver *s);
/* Moves the scalings into the potentials and builds the kernel anew; its sum, with points only when
 * `total`. */
double solver_absorb(solver *s, int total);
/* A Newton step; 1 when the dual rose. */
int solver_newton(solver *s, double forcing, idx limit, idx last_pass);
/* Column sums of the blocks are added along a binary tree, so the bits are the same for every team:
 * pairs (q, r) in order, at most SOLVER_BLOCKS. Thread t of the team has blocks blocks t / team ..<
 * blocks (t + 1) / team; the pairs are those it can add by itself, or, thread -1, those left. */
idx solver_pairs(idx blocks, idx team, idx thread, block_pair *pairs);
/* Adds what is left in columns j0 ..< j1, the last pair in registers, and hands the totals to the
 * table's `columns`. */
void solver_columns(const vector_kernels *w, const side_update *columns, idx j0, idx j1, idx ld,
                    const block_pair *left, idx count, double *acc, double *out, void *beta,
                    update_sums *sums);
/* One pass: scalings of the rows, column sums to s->out, and, if `columns` has a scaling, those of
 * the columns. */
void solver_pass(solver *s, const side_update *rows, const side_update *columns, const char *beta,
                 update_sums *r, update_sums *c);
/* The linear rule alone: scaling = (K y + p) q, s->out = K' scaling. */
void solver_product(solver *s, const double *p, const double *q, const double *y, double *scaling);
/* Row sums of the kernel to rows, column sums to columns. */
void solver_sums(solver *s, double *rows, double *columns);
/* Solves the system with right-hand sides ra, rb, rz and diagonals da, db (0: inactive) over the
 * kernel, whose row sums are ta and column sums tb; use_z adds the total. u and y_ hold the
 * solution, the return value is z's. */
double solver_linear(solver *s, int use_z, double total, double rz, double tolerance, idx limit,
                     double *residual);
/* Dual value / eps at potentials with plan sum `total`. */
double solver_dual(const solver *s, const double *a, const double *b, double z, double total);
/* The plan, to `plan` unless NULL: of a stored kernel and its scalings, else (`anew`, and with
 * points) from exponentials of a, b, z, which then must hold everything (`quick`, of points without
 * a plan: to 1e-7). Row sums to ta, column sums to tb, cost per row to u. */
void solver_plan(solver *s, int anew, int quick, void *plan);
/* The certificate of that plan and the potentials a, b, z. */
void solver_certificate(solver *s, pk_sinkhorn_result *r);

static inline int solver_capped(const solver *s) { return s->p->side_a == PK_SIDE_CAPPED; }

static inline char *solver_tile(const solver *s, int which) {
  return s->tiles + (s->tile_count * omp_get_thread_num() + which) * s->tile_bytes;
}

static inline idx solver_block(const solver *s, idx q) {
  const idx at = s->rows / 8 * q / s->blocks * 8;
  return at < s->n ? at : s->n;
}

/* Rows whose part sums are folded together: as many as a tile has, or more of a stored kernel. */
static inline idx solver_step(const solver *s) { return s->points ? SOLVER_ROWS : 64; }

/* Inside a parallel region, a batch's or the caller's, everything is serial, whatever nesting is
 * allowed: the tiles are those of one team. */
static inline int solver_parallel(const solver *s) {
  return !omp_in_parallel() && s->n * s->ld * (s->points ? s->p->d + 8 : 1) > PK_SERIAL;
}
#endif
