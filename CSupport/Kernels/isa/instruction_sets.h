/* The instruction sets that the kernels are compiled for, named here and nowhere else but in the
 * enumeration of pk_isa.h and in the detection of cpu.c.
 *
 * PK_EACH_ISA(X) is X(ENUM, symbol) for each of them, plainest first, as pk_isa has
 * them. ENUM and symbol are the parts of names that differ: PK_ISA_AVX2, pk_avx2_f32. A table
 * indexed by pk_isa_current() then is
 *
 *   #define ENTRY(ENUM, symbol) [PK_ISA_##ENUM] = &pk_##symbol##_f32,
 *   static const pk_kernels *const tables[] = {PK_EACH_ISA(ENTRY)}; */
#ifndef PK_INSTRUCTION_SETS_H
#define PK_INSTRUCTION_SETS_H
#include "../include/pk.h"

#if defined(__x86_64__)
#define PK_EACH_ISA(X) X(SCALAR, scalar) X(AVX2, avx2) X(AVX512, avx512)
#else
#define PK_EACH_ISA(X) X(SCALAR, scalar)
#endif
#endif
