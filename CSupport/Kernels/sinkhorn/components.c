/* Groups of rows and columns between which no mass goes: outliers that are matched with each other,
 * clusters far apart, blocks between masks. Within a group (a + t, b - t) leaves the plan alone,
 * and what t was left by coarse levels of eps may be so large, C / eps, that f64 cannot hold the
 * potentials' digits: a 1e13 leaves 1e-3 in the logarithm of the plan. */
#include "solver.h"
#define GROUPS 32
/* Below exp(-60) an entry of a plan is nothing; after a shift cross entries must stay below that,
 * too. */
static const double nothing = -60;

static idx root(const idx *parent, idx i) {
  while (parent[i] != i) i = parent[i];
  return i;
}

static void join(idx *parent, idx i, idx j) {
  const idx p = root(parent, i), q = root(parent, j);
  parent[p < q ? q : p] = p < q ? p : q;
}

/* Calls for each pair with weights: log P_ij to join groups (top NULL), or as the largest between
 * two groups, top [groups, groups]. */
static void each_pair(solver *s, idx *parent, const idx *group, double *top) {
  const double inv = 1 / s->eps;
  if (s->points) s->w->convert(s->ld, s->constant_b, s->vector_r);
  for (idx i0 = 0; i0 < s->n; i0 += 8) {
    const idx count = s->n - i0 < 8 ? s->n - i0 : 8;
    idx stride;
    const char *c = solver_cost_rows(s, i0, count, s->tiles, &stride);
    const pk_type type = s->size == 8 ? PK_F64 : PK_F32;
    for (idx i = i0; i < i0 + count; i++, c += stride * s->size)
      for (idx j = 0; s->mu[i] > 0 && j < s->m; j++) {
        if (!(s->nu[j] > 0)) continue;
        const double x = (s->a[i] + s->b[j]) - inv * pk_read(c, type, j);
        if (!top && x > nothing)
          join(parent, i, s->n + j);
        else if (top)
          top[group[i] * GROUPS + group[s->n + j]] =
              fmax(top[group[i] * GROUPS + group[s->n + j]], x);
      }
  }
}

/* Numbers the groups; returns how many, or 0 when there are too many. */
static idx number(const solver *s, const idx *parent, idx *group) {
  idx count = 0;
  for (idx k = 0; k < s->n + s->m; k++) {
    const int on = k < s->n ? s->mu[k] > 0 : s->nu[k - s->n] > 0, first = root(parent, k) == k;
    group[k] = !on ? 0 : first ? count : group[root(parent, k)];
    count += on && first;
    if (count > GROUPS) return 0;
  }
  return count;
}

int solver_regroup(solver *s) {
  idx *parent = s->groups, *group = parent + s->n + s->m;
  double top[GROUPS * GROUPS], sum[2][GROUPS] = {{0}}, members[2][GROUPS] = {{0}}, shift[GROUPS];
  for (idx k = 0; k < s->n + s->m; k++) parent[k] = k;
  each_pair(s, parent, NULL, NULL);
  const idx count = number(s, parent, group);
  if (count < 1) return 0;
  for (idx k = 0; k < GROUPS * GROUPS; k++) top[k] = -INFINITY;
  each_pair(s, NULL, group, top);
  for (idx k = 0; k < s->n + s->m; k++) {
    const int side = k >= s->n;
    if (!((side ? s->nu[k - s->n] : s->mu[k]) > 0)) continue;
    sum[side][group[k]] += side ? s->b[k - s->n] : s->a[k], members[side][group[k]] += 1;
  }
  for (idx k = 0; k < count; k++) {
    if (members[0][k] == 0 || members[1][k] == 0) return 0;
    shift[k] = (sum[1][k] / members[1][k] - sum[0][k] / members[0][k]) / 2;
  }
  /* as much of it as leaves every cross entry nothing: differences of shifts have bounds, which no
   * shift at all meets */
  for (idx round = 0; round < count; round++)
    for (idx k = 0; k < count; k++)
      for (idx l = 0; l < count; l++)
        if (k != l) shift[k] = fmin(shift[k], shift[l] + nothing - top[k * GROUPS + l]);
  for (idx i = 0; i < s->n; i++) s->a[i] += s->mu[i] > 0 ? shift[group[i]] : 0;
  for (idx j = 0; j < s->m; j++) s->b[j] -= s->nu[j] > 0 ? shift[group[s->n + j]] : 0;
  return 1;
}
