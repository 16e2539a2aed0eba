#include <math.h>
#include "../include/pk.h"

typedef ptrdiff_t idx;

/* The mean of n values, and one over their standard deviation. */
static void statistics(idx n, const double *x, double eps, double *mean, double *rstd) {
  double sum = 0, squares = 0;
  for (idx i = 0; i < n; i++) sum += x[i];
  *mean = sum / (double)n;
  for (idx i = 0; i < n; i++) squares += (x[i] - *mean) * (x[i] - *mean);
  *rstd = 1 / sqrt(squares / (double)n + eps);
}

static double root_mean_square(idx n, const double *x, double eps) {
  double squares = 0;
  for (idx i = 0; i < n; i++) squares += x[i] * x[i];
  return sqrt(squares / (double)n + eps);
}

/* gamma of column c of row r, or 1. */
static double factor(const pk_reference_rows *s, const double *gamma, idx r, idx c) {
  return gamma ? gamma[r / s->rows_per_group * s->ld + c] + s->plus : 1;
}

void pk_reference_layernorm_forward(const pk_reference_rows *s, const double *x,
                                    const double *gamma, const double *beta, double *y) {
  for (idx r = 0; r < s->rows; r++) {
    const double *row = x + r * s->columns;
    double mean, rstd;
    statistics(s->columns, row, s->eps, &mean, &rstd);
    for (idx c = 0; c < s->columns; c++)
      y[r * s->columns + c] = factor(s, gamma, r, c) * (row[c] - mean) * rstd +
                              (beta ? beta[r / s->rows_per_group * s->ld + c] : 0);
  }
}

/* dx_i = sum over j of g_j dn_j / dx_i with dn_j / dx_i = rstd ([i = j] - 1 / C - n_i n_j / C). */
void pk_reference_layernorm_backward(const pk_reference_rows *s, const double *dy, const double *x,
                                     const double *gamma, double *dx, double *add_dgamma,
                                     double *add_dbeta) {
  const idx columns = s->columns;
  for (idx r = 0; r < s->rows; r++) {
    const double *row = x + r * columns, *g = dy + r * columns;
    const idx at = r / s->rows_per_group * s->ld;
    double mean, rstd;
    statistics(columns, row, s->eps, &mean, &rstd);
    for (idx i = 0; i < columns; i++) {
      const double n_i = (row[i] - mean) * rstd;
      double sum = 0;
      for (idx j = 0; j < columns; j++) {
        const double n_j = (row[j] - mean) * rstd;
        sum += factor(s, gamma, r, j) * g[j] * rstd *
               ((i == j ? 1 : 0) - (1 + n_i * n_j) / (double)columns);
      }
      dx[r * columns + i] = sum;
      if (add_dgamma) add_dgamma[at + i] += g[i] * n_i;
      if (add_dbeta) add_dbeta[at + i] += g[i];
    }
  }
}

void pk_reference_rmsnorm_forward(const pk_reference_rows *s, const double *x, const double *gamma,
                                  double *y) {
  for (idx r = 0; r < s->rows; r++) {
    const double *row = x + r * s->columns, rms = root_mean_square(s->columns, row, s->eps);
    for (idx c = 0; c < s->columns; c++)
      y[r * s->columns + c] = factor(s, gamma, r, c) * row[c] / rms;
  }
}

/* dn_j / dx_i = ([i = j] - n_i n_j / C) / rms. */
void pk_reference_rmsnorm_backward(const pk_reference_rows *s, const double *dy, const double *x,
                                   const double *gamma, double *dx, double *add_dgamma) {
  const idx columns = s->columns;
  for (idx r = 0; r < s->rows; r++) {
    const double *row = x + r * columns, *g = dy + r * columns;
    const double rms = root_mean_square(columns, row, s->eps);
    for (idx i = 0; i < columns; i++) {
      double sum = 0;
      for (idx j = 0; j < columns; j++)
        sum += factor(s, gamma, r, j) * g[j] *
               ((i == j ? 1 : 0) - row[i] / rms * row[j] / rms / (double)columns) / rms;
      dx[r * columns + i] = sum;
      if (add_dgamma) add_dgamma[r / s->rows_per_group * s->ld + i] += g[i] * row[i] / rms;
    }
  }
}

/* The values of a group, its channels one after another, are contiguous: n = (x - mean) rstd over
 * all of them, y = gamma n + beta with the channel's gamma and beta, SiLU(y) with `silu`. */
void pk_reference_groupnorm_forward(const pk_groupnorm_shape *s, const double *x,
                                    const double *gamma, const double *beta, double *y) {
  const idx n = s->channels / s->groups * s->spatial;
  for (idx g = 0; g < s->batch * s->groups; g++) {
    double mean, rstd;
    statistics(n, x + g * n, s->eps, &mean, &rstd);
    for (idx i = g * n; i < (g + 1) * n; i++) {
      const idx c = i / s->spatial % s->channels;
      const double u = gamma[c] * (x[i] - mean) * rstd + beta[c];
      y[i] = s->silu ? pk_reference_activation(PK_SILU, u) : u;
    }
  }
}

void pk_reference_groupnorm_backward(const pk_groupnorm_shape *s, const double *dy, const double *x,
                                     const double *gamma, const double *beta, double *dx,
                                     double *add_dgamma, double *add_dbeta) {
  const idx n = s->channels / s->groups * s->spatial;
  for (idx g = 0; g < s->batch * s->groups; g++) {
    double mean, rstd, sum = 0, sum_n = 0;
    statistics(n, x + g * n, s->eps, &mean, &rstd);
    for (int pass = 0; pass < 2; pass++)
      for (idx i = g * n; i < (g + 1) * n; i++) {
        const idx c = i / s->spatial % s->channels;
        const double hat = (x[i] - mean) * rstd, u = gamma[c] * hat + beta[c];
        const double du = s->silu ? dy[i] * pk_reference_activation_slope(PK_SILU, u) : dy[i];
        if (pass == 0) {
          sum += gamma[c] * du;
          sum_n += gamma[c] * du * hat;
          if (add_dgamma) add_dgamma[c] += du * hat;
          if (add_dbeta) add_dbeta[c] += du;
        } else {
          dx[i] = rstd * (gamma[c] * du - sum / (double)n - hat * sum_n / (double)n);
        }
      }
  }
}
