/* Keeps four addresses in registers of their own inside a loop. Left to itself the compiler
 * computes an address from a stride at every step, or gives every row a pointer and has too few
 * registers. Both cost a fifth of the speed (Documentation/notes/kernels.md, "Addresses"). */
#ifndef PK_REGISTERS_H
#define PK_REGISTERS_H
#define KEEP_IN_REGISTERS(a, b, c, d) __asm__("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d))
#endif
