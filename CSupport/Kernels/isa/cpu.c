#define _GNU_SOURCE /* sched_getaffinity */
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "kernels.h"
#include "omp_declarations.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* XCR0 tells which register states the operating system saves: bits 1, 2 = SSE, AVX; 5, 6, 7 =
 * AVX-512. */
static unsigned long long xcr0(void) {
  unsigned a, d;
  __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return ((unsigned long long)d << 32) | a;
}

static int probe(int *bf16) {
  unsigned a, b, c, d;
  *bf16 = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27)) || !(c & (1u << 28)) ||
      !(c & (1u << 12)))
    return PK_ISA_SCALAR;
  unsigned long long state = xcr0();
  if ((state & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & (1u << 5)))
    return PK_ISA_SCALAR;
  const unsigned need = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31); /* F DQ BW VL */
  if ((state & 0xe6) != 0xe6 || (b & need) != need) return PK_ISA_AVX2;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) *bf16 = (a >> 5) & 1;
  return PK_ISA_AVX512;
}

/* AMX-BF16 and tiles (bits 22 and 24), tile state saved by the system (XCR0 bits 17 and 18), and
 * Linux's leave to use it: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA), for all threads. */
static int probe_amx(void) {
#ifdef PK_AMX_EMULATED
  return 1;
#else
  unsigned a, b, c, d;
  const unsigned need = (1u << 22) | (1u << 24);
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & need) == need && (xcr0() >> 17 & 3) == 3 &&
         syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#endif
}
#else
static int probe_amx(void) { return 0; }

static int probe(int *bf16) {
  *bf16 = 0;
  return PK_ISA_SCALAR;
}
#endif

static int detected = -1, limit = PK_ISA_AVX512, bf16_present;

pk_isa pk_isa_detected(void) {
  if (detected < 0) detected = probe(&bf16_present);
  return (pk_isa)detected;
}

void pk_isa_limit(pk_isa l) { limit = (int)l; }

pk_isa pk_isa_current(void) {
  int d = pk_isa_detected();
  return (pk_isa)(d < limit ? d : limit);
}

int pk_isa_has_bf16(void) {
  pk_isa_detected();
  return bf16_present;
}

int pk_isa_has_amx(void) {
  static int present = -1;
  if (present < 0) present = pk_isa_has_bf16() && probe_amx();
  return present;
}

const char *pk_isa_name(pk_isa isa) {
  return isa == PK_ISA_AVX512 ? "avx512" : isa == PK_ISA_AVX2 ? "avx2" : "scalar";
}

int pk_idle_milliseconds(void) { return kmp_get_blocktime(); }

void pk_idle_milliseconds_set(int milliseconds) { kmp_set_blocktime(milliseconds); }

void pk_threads_set(int threads) { omp_set_num_threads(threads < 1 ? 1 : threads); }

int pk_threads(void) { return omp_get_max_threads(); }

int pk_affinity_count(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}
