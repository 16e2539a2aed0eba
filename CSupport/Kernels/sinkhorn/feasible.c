/* Whether weights have a plan that takes nothing from forbidden pairs: the largest flow from rows
 * to columns, by paths along which it can still grow. */
#include "../isa/kernels.h"

typedef struct {
  const pk_sinkhorn_problem *p;
  const void *cost;
  double *flow, *left, *wanted;        /* [n, m], [n], [m] */
  idx *row_from, *column_from, *queue; /* how the search came to a node; -1: not yet */
  double least;                        /* what counts as something */
} search;

static int allowed(const search *s, idx i, idx j) {
  return pk_read(s->cost, s->p->type, i * s->p->m + j) < INFINITY;
}

static void push(search *s, idx i, idx j, double amount) { s->flow[i * s->p->m + j] += amount; }

/* From rows with something left along allowed pairs, and back along flow; a column that still wants
 * something, or -1. */
static idx find_path(search *s) {
  const idx n = s->p->n, m = s->p->m;
  idx head = 0, tail = 0;
  for (idx j = 0; j < m; j++) s->column_from[j] = -1;
  for (idx i = 0; i < n; i++) {
    s->row_from[i] = -1;
    if (s->left[i] > s->least) s->row_from[i] = m, s->queue[tail++] = i;
  }
  while (head < tail) {
    const idx i = s->queue[head++];
    for (idx j = 0; j < m; j++) {
      if (s->column_from[j] >= 0 || !allowed(s, i, j)) continue;
      s->column_from[j] = i;
      if (s->wanted[j] > s->least) return j;
      for (idx k = 0; k < n; k++)
        if (s->row_from[k] < 0 && s->flow[k * m + j] > s->least)
          s->row_from[k] = j, s->queue[tail++] = k;
    }
  }
  return -1;
}

/* Sends what the path to column j can take. */
static void follow_path(search *s, idx last) {
  const idx m = s->p->m;
  double amount = s->wanted[last];
  idx i = 0;
  for (idx j = last; j < m; j = s->row_from[i]) {
    if (j != last) amount = fmin(amount, s->flow[i * m + j]);
    i = s->column_from[j];
  }
  amount = fmin(amount, s->left[i]);
  s->left[i] -= amount, s->wanted[last] -= amount;
  for (idx j = last; j < m; j = s->row_from[i]) {
    i = s->column_from[j];
    push(s, i, j, amount);
    if (s->row_from[i] < m) push(s, i, s->row_from[i], -amount);
  }
}

ptrdiff_t pk_sinkhorn_feasible_scratch(const pk_sinkhorn_problem *p) {
  return 8 * (p->n * p->m + 3 * p->n + 2 * p->m) + 64;
}

double pk_sinkhorn_feasible(const pk_sinkhorn_problem *p, const void *cost, const double *mu,
                            const double *nu, void *scratch) {
  const idx n = p->n, m = p->m;
  search s = {.p = p, .cost = cost, .flow = (double *)(((uintptr_t)scratch + 63) / 64 * 64)};
  s.left = s.flow + n * m, s.wanted = s.left + n;
  s.row_from = (idx *)(s.wanted + m), s.column_from = s.row_from + n, s.queue = s.column_from + m;
  double mass = 0, sent = 0;
  memset(s.flow, 0, (size_t)(n * m) * 8);
  for (idx i = 0; i < n; i++) s.left[i] = mu[i], mass += mu[i];
  for (idx j = 0; j < m; j++) s.wanted[j] = nu[j];
  s.least = 1e-13 * mass;
  for (idx i = 0; i < n; i++)
    for (idx j = 0; j < m && s.left[i] > 0; j++) {
      const double amount = s.wanted[j] > 0 && allowed(&s, i, j) ? fmin(s.left[i], s.wanted[j]) : 0;
      push(&s, i, j, amount), s.left[i] -= amount, s.wanted[j] -= amount;
    }
  for (idx j; (j = find_path(&s)) >= 0;) follow_path(&s, j);
  for (idx i = 0; i < n; i++) sent += mu[i] - s.left[i];
  return sent;
}

ptrdiff_t pk_sinkhorn_partner(const pk_sinkhorn_problem *p, const void *cost, const double *mu,
                              const double *nu) {
  const idx n = p->n, m = p->m;
  for (idx side = 0; side < 2; side++)
    for (idx k = 0; k < (side ? m : n); k++) {
      int found = !((side ? nu : mu)[k] > 0);
      for (idx l = 0; l < (side ? n : m) && !found; l++) {
        const idx i = side ? l : k, j = side ? k : l;
        found = (side ? mu : nu)[l] > 0 && pk_read(cost, p->type, i * m + j) < INFINITY;
      }
      if (!found) return side ? n + k : k;
    }
  return n + m;
}
