/* Instruction sets and threads. Detection happens once; a caller may lower the limit before any
 * other call. */
#ifndef PK_ISA_H
#define PK_ISA_H

typedef enum { PK_ISA_SCALAR = 0, PK_ISA_AVX2 = 1, PK_ISA_AVX512 = 2 } pk_isa;

pk_isa pk_isa_detected(void); /* the widest this CPU and operating system support */
pk_isa pk_isa_current(void);  /* the one in use: min(detected, limit) */
/* lower (or restore) the limit */
void pk_isa_limit(pk_isa limit);
const char *pk_isa_name(pk_isa isa);
int pk_isa_has_bf16(void); /* avx512_bf16 present */
/* amx_bf16 too, and Linux grants its tiles to this process (requested at the first call) */
int pk_isa_has_amx(void);

/* The type to which f32 operands of matrix products, attention and convolutions are rounded: PK_F32
 * (default), or PK_BF16, which is ignored where the processor does not multiply bf16, and with AMX
 * is for matrix products alone. Sums stay in f32. Set at start-up. */
void pk_compute_type_set(pk_type type);
pk_type pk_compute_type(void); /* the one in effect */

void pk_threads_set(int threads); /* threads of the one OpenMP team, at least 1 */
/* How long its threads wait actively for the next region before they sleep. */
int pk_idle_milliseconds(void);
void pk_idle_milliseconds_set(int milliseconds);
int pk_threads(void);
int pk_affinity_count(void); /* processors this process may run on */
/* the commit this was built from, "-dirty" behind it if files had changed; "" if not known */
const char *pk_commit(void);
#endif
