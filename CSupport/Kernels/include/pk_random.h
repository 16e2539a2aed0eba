/* Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011). Element i depends on (key,
 * counter, i) alone.
 * uniform: [0, 1) with 24 bits; normal: Box-Muller in double, rounded once. */
#ifndef PK_RANDOM_H
#define PK_RANDOM_H
void pk_philox(uint64_t key, uint64_t counter_high, uint64_t counter_low, uint32_t out[4]);
/* log, cos of the C library, for single draws. */
double pk_log(double x);
double pk_cos(double x);
pk_status pk_random_uniform(pk_type type, uint64_t key, uint64_t counter, ptrdiff_t n, void *y);
pk_status pk_random_normal(pk_type type, uint64_t key, uint64_t counter, ptrdiff_t n, void *y);
#endif
