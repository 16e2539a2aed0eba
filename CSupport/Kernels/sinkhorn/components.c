/* Components: groups of rows and columns between which no mass goes. Examples are outliers that are
 * matched with each other, clusters far apart, blocks between masks. Within a component (a + t, b -
 * t) leaves the plan alone, and the t that coarse levels of epsilon left may be so large that f64
 * cannot hold the potentials' digits: a potential of 1e13 leaves an error of 1e-3 in the logarithm
 * of the plan. */
#include "solver.h"
#define MAX_COMPONENTS 32
/* An entry of the plan below exp(-60) counts as none; after a shift the entries between components
 * must stay below it. */
static const double log_none = -60;

static idx root(const idx *parent, idx i) {
  while (parent[i] != i) i = parent[i];
  return i;
}

static void join(idx *parent, idx i, idx j) {
  const idx p = root(parent, i), q = root(parent, j);
  parent[p < q ? q : p] = p < q ? p : q;
}

typedef struct {
  idx *parent;          /* [n + m], to join components (top NULL) */
  const idx *component; /* [n + m], of each row and column */
  double *top;          /* [MAX, MAX]: the largest log P_ij between two components */
} pair_visit;

static void visit_pair(const pair_visit *v, idx i, idx j, double log_p) {
  if (!v->top) {
    if (log_p > log_none) join(v->parent, i, j);
  } else {
    double *top = v->top + v->component[i] * MAX_COMPONENTS + v->component[j];
    *top = fmax(*top, log_p);
  }
}

/* Visits log P_ij of each pair with weights. */
static void visit_pairs(solver *s, const pair_visit *v) {
  const solver_side *side = s->problem.side;
  const idx n = side[ROWS].count, m = side[COLUMNS].count, element = s->kernel.element;
  const double inv = 1 / s->problem.epsilon, *a = s->dual.potential[ROWS],
               *b = s->dual.potential[COLUMNS];
  const pk_type type = element == 8 ? PK_F64 : PK_F32;
  solver_prepare_costs(s);
  for (idx i0 = 0; i0 < n; i0 += 8) {
    const idx count = least_of(8, n - i0);
    idx stride;
    const char *c = solver_cost_rows(s, i0, count, s->kernel.tiles, &stride);
    for (idx i = i0; i < i0 + count; i++, c += stride * element)
      for (idx j = 0; side[ROWS].weights[i] > 0 && j < m; j++)
        if (side[COLUMNS].weights[j] > 0)
          visit_pair(v, i, n + j, (a[i] + b[j]) - inv * pk_read(c, type, j));
  }
}

static int has_weight(const solver *s, idx k) {
  const solver_side *side = s->problem.side;
  const idx n = side[ROWS].count;
  return k < n ? side[ROWS].weights[k] > 0 : side[COLUMNS].weights[k - n] > 0;
}

/* Numbers the components; returns how many there are, or 0 when there are too many. */
static idx number_components(const solver *s, const idx *parent, idx *component) {
  idx count = 0;
  for (idx k = 0; k < s->problem.side[ROWS].count + s->problem.side[COLUMNS].count; k++) {
    const int on = has_weight(s, k), is_first = root(parent, k) == k;
    component[k] = !on ? 0 : is_first ? count : component[root(parent, k)];
    count += on && is_first;
    if (count > MAX_COMPONENTS) return 0;
  }
  return count;
}

/* The shift that makes the mean potentials of a component's rows and columns equal; 0: a component
 * has only rows or only columns. */
static int balance(const solver *s, const idx *component, idx count, double *shift) {
  const idx n = s->problem.side[ROWS].count, m = s->problem.side[COLUMNS].count;
  double sum[2][MAX_COMPONENTS] = {{0}}, members[2][MAX_COMPONENTS] = {{0}};
  for (idx k = 0; k < n + m; k++) {
    if (!has_weight(s, k)) continue;
    const int side = k < n ? ROWS : COLUMNS;
    sum[side][component[k]] += s->dual.potential[side][side == ROWS ? k : k - n];
    members[side][component[k]] += 1;
  }
  for (idx k = 0; k < count; k++) {
    if (members[ROWS][k] == 0 || members[COLUMNS][k] == 0) return 0;
    shift[k] = (sum[COLUMNS][k] / members[COLUMNS][k] - sum[ROWS][k] / members[ROWS][k]) / 2;
  }
  return 1;
}

int solver_shift_components(solver *s) {
  const idx n = s->problem.side[ROWS].count, m = s->problem.side[COLUMNS].count;
  idx *parent = s->scratch.component, *component = parent + n + m;
  double top[MAX_COMPONENTS * MAX_COMPONENTS], shift[MAX_COMPONENTS];
  for (idx k = 0; k < n + m; k++) parent[k] = k;
  visit_pairs(s, &(pair_visit){.parent = parent});
  const idx count = number_components(s, parent, component);
  if (count < 1) return 0;
  for (idx k = 0; k < MAX_COMPONENTS * MAX_COMPONENTS; k++) top[k] = -INFINITY;
  visit_pairs(s, &(pair_visit){.component = component, .top = top});
  if (!balance(s, component, count, shift)) return 0;
  /* As much of each shift as keeps every entry between components negligible: their differences are
   * bounded, and shifts of 0 meet all bounds. */
  for (idx round = 0; round < count; round++)
    for (idx k = 0; k < count; k++)
      for (idx l = 0; l < count; l++)
        if (k != l) shift[k] = fmin(shift[k], shift[l] + log_none - top[k * MAX_COMPONENTS + l]);
  for (idx i = 0; i < n; i++)
    s->dual.potential[ROWS][i] += has_weight(s, i) ? shift[component[i]] : 0;
  for (idx j = 0; j < m; j++)
    s->dual.potential[COLUMNS][j] -= has_weight(s, n + j) ? shift[component[n + j]] : 0;
  return 1;
}
