/* The toolchain ships no omp.h; these are the functions we call, from the OpenMP 5.0 specification.
 */
#ifndef PK_OMP_DECLARATIONS_H
#define PK_OMP_DECLARATIONS_H
void omp_set_num_threads(int);
int omp_get_num_threads(void);
int omp_get_max_threads(void);
int omp_get_thread_num(void);
int omp_in_parallel(void);
/* Of LLVM's and Intel's runtime. */
int kmp_get_blocktime(void);
void kmp_set_blocktime(int milliseconds);
#endif
