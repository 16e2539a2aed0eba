/* What this machine can do: the rates that benchmarks are compared with, and the thread team as the
 * system sees it. f32, the current instruction set, the whole team. The caller takes the time.
 *
 * pk_probe_fma      independent fused multiply-adds in registers, of bf16 pairs when
 *                   pk_compute_type() says so; returns the floating-point operations done (two for
 *                   each multiply-add; four for a pair)
 * pk_probe_exp      the kernels' own exp over 4 KiB a thread; returns the number of exponentials
 * pk_probe_triad    y = a + 3 b over arrays of n elements: 3 n elements moved
 * pk_probe_barrier  so many barriers of the team: the cost of passing a value between processors
 * pk_probe_team     threads that the team really has; *processors: how many processors they may run
 *                   on together */
#ifndef PK_PROBE_H
#define PK_PROBE_H
double pk_probe_fma(ptrdiff_t rounds);
double pk_probe_exp(ptrdiff_t rounds);
void pk_probe_triad(ptrdiff_t n, const float *a, const float *b, float *y);
void pk_probe_barrier(ptrdiff_t rounds);
int pk_probe_team(int *processors);
#endif
