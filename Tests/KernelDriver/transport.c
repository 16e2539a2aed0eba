/* Drives libpisces_ot under the sanitizers: every cost, rule and type, shapes around the lane
 * widths, single problems and batches, from easy to hopeless epsilons. Caller's arrays are exactly
 * as large as the header says. What is computed is checked elsewhere; here only that every call
 * answers, and that nothing outside the arrays is touched. */
#include "pisces_ot.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned long long state = 88172645463325252ull;

static double uniform(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (double)(state >> 11) * 0x1p-53;
}

static int failures = 0;

static void expect(int ok, const char *what, const pisces_ot_context *c,
                   const pisces_ot_problem *p) {
  if (ok) return;
  failures++;
  printf("transport: %s: n %td m %td type %d cost %d rule %d epsilon %g: %s\n", what, p->n, p->m,
         (int)p->type, (int)p->cost, (int)p->rule, p->epsilon, pisces_ot_message(c));
}

static double far = 1; /* what the first element is multiplied by: an outlier */

static void *array(ptrdiff_t count, pisces_ot_type type) {
  void *x = malloc((size_t)count * (type == PISCES_OT_F64 ? 8 : 4));
  for (ptrdiff_t i = 0; i < count; i++) {
    const double v = uniform() * (i ? 1 : far);
    if (type == PISCES_OT_F64)
      ((double *)x)[i] = v;
    else
      ((float *)x)[i] = (float)v;
  }
  return x;
}

/* Sum 1, every fifth or so 0. */
static double *weights(ptrdiff_t batch, ptrdiff_t n, int gap) {
  double *w = malloc((size_t)(batch * n) * sizeof(double));
  for (ptrdiff_t k = 0; k < batch; k++) {
    double sum = 0;
    for (ptrdiff_t i = 0; i < n; i++)
      sum += w[k * n + i] = i % gap == gap - 1 ? 0 : uniform() + 0.1;
    for (ptrdiff_t i = 0; i < n; i++) w[k * n + i] /= sum;
  }
  return w;
}

static void drive(pisces_ot_context *c, ptrdiff_t n, ptrdiff_t m, int type, int cost, int rule,
                  ptrdiff_t batch, double epsilon) {
  const ptrdiff_t d = cost ? 5 : 0, nx = cost ? n * d : n * m, ny = m * d;
  void *x = array(nx, type), *y = cost ? array(ny, type) : NULL, *plan = array(batch * n * m, type);
  double *mu = weights(batch, n, 5), *nu = weights(1, m, 7), *a = array(batch * n, PISCES_OT_F64),
         *b = array(batch * m, PISCES_OT_F64);
  pisces_ot_problem p;
  pisces_ot_problem_init(&p);
  p.n = n, p.m = m, p.d = d, p.type = type, p.cost = cost, p.rule = rule, p.x = x, p.y = y,
  p.source = mu, p.target = nu, p.epsilon = epsilon;
  p.rho_source = 1, p.rho_target = 2, p.mass = rule == PISCES_OT_EXACT_MASS ? 0.4 : 0.9,
  p.tolerance = type == PISCES_OT_F64 ? 1e-9 : 1e-6, p.max_iterations = 300;
  pisces_ot_solution s = {a, b, 0, plan};
  pisces_ot_certificate certificates[3];
  const pisces_ot_strides strides = {0, 0, n, 0, n * m, n, m};
  const pisces_ot_status status =
      batch > 1 ? pisces_ot_solve_batch(c, &p, batch, &strides, &s, certificates)
                : pisces_ot_solve(c, &p, &s, certificates);
  expect(status == 0, "solve", c, &p);
  if (batch == 1 && status == 0) {
    expect(pisces_ot_certify(c, &p, &s, certificates) == 0, "certify", c, &p);
    void *dx = array(nx, type), *dy = cost ? array(ny, type) : NULL,
         *projected = cost ? array(n * d, type) : NULL;
    double *dmu = array(n, PISCES_OT_F64), *dnu = array(m, PISCES_OT_F64), value;
    const pisces_ot_upstream upstream = {cost ? NULL : plan, 0.3, 0.4};
    pisces_ot_gradients gradients = {dx, dy, dmu, dnu, 0};
    expect(pisces_ot_gradient(c, &p, &s, &upstream, &gradients) == 0, "gradient", c, &p);
    if (cost) expect(pisces_ot_project(c, &p, &s, projected) == 0, "project", c, &p);
    if (cost) expect(pisces_ot_costs(c, &p, plan) == 0, "costs", c, &p);
    p.warm = 1;
    expect(pisces_ot_solve(c, &p, &s, certificates) == 0, "warm start", c, &p);
    const double first = a[0], last = b[m - 1];
    a[0] = -INFINITY, b[m - 1] = NAN;
    expect(pisces_ot_solve(c, &p, &s, certificates) == PISCES_OT_BAD_DATA && a[0] == -INFINITY &&
               isnan(b[m - 1]),
           "refused potentials are left alone", c, &p);
    a[0] = first, b[m - 1] = last;
    p.warm = 0, p.rho_source = p.rho_target = 1;
    if (cost && (rule == PISCES_OT_BALANCED || rule == PISCES_OT_UNBALANCED))
      expect(pisces_ot_divergence(c, &p, NULL, NULL, &value, dx, dy, certificates) == 0,
             "divergence", c, &p);
    free(dx), free(dy), free(projected), free(dmu), free(dnu);
  }
  free(x), free(y), free(plan), free(mu), free(nu), free(a), free(b);
}

int main(void) {
  static const int shapes[][2] = {{1, 1},   {1, 3},   {2, 3},   {3, 1},     {9, 12},
                                  {17, 33}, {64, 64}, {100, 7}, {150, 170}, {5, 300}};
  static const double epsilons[] = {1, 0.01, 1e-5};
  pisces_ot_context *c;
  if (pisces_ot_create(&c) != 0 || pisces_ot_set_threads(c, 3) != 0) return 1;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (int type = 0; type < 2; type++)
      for (int cost = 0; cost < 4; cost++)
        for (int rule = 0; rule < 4; rule++)
          for (size_t e = 0; e < 3; e++) {
            drive(c, shapes[i][0], shapes[i][1], type, cost, rule, 1, epsilons[e]);
            drive(c, shapes[i][0], shapes[i][1], type, cost, rule, 3, epsilons[e]);
            if (!cost) continue;
            far = 1e6;
            drive(c, shapes[i][0], shapes[i][1], type, cost, rule, 1, epsilons[e]);
            far = 1;
          }
  pisces_ot_destroy(c);
  printf("transport: %s\n", failures ? "FAILED" : "done");
  return failures != 0;
}
