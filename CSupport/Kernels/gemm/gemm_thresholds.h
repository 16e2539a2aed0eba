/* The sizes at which one algorithm, block or budget gives way to another, in one table.
 *
 * "I": measured on a guest of two cores of Intel Emerald Rapids (AVX-512; its AMX not shown to the
 * guest; 2 MiB of L2 a core). "Z": on a guest of two cores of AMD Zen 5 (1 MiB of L2 a core).
 * Documentation/notes/kernels.md has the numbers. Elements are f32. Other instruction sets use the
 * same table: it decides speed and, where it says so, the order of a sum. */
#ifndef PK_GEMM_THRESHOLDS_H
#define PK_GEMM_THRESHOLDS_H

/* Up to so many floating-point operations a product runs on one thread: starting the team takes
 * about as long as these on one core. */
#define GEMM_SERIAL_FLOPS 5e5

/* -- unpacked.c: neither operand is packed. Decides the order of a sum. -- */
/* Rows of C up to which packing is not repaid, whatever B's size (Z). */
#define UNPACKED_MAX_ROWS 48
/* With more rows: elements of B, and of transposed A, that stay in L2 while they are read many
 * times (Z: 256 x 256 x 256 at 510 instead of 355 GFLOP/s). */
#define UNPACKED_MAX_B 65536
#define UNPACKED_MAX_TRANSPOSED_A 32768
/* Rows of C at a time: a multiple of the rows of every table's tile. */
#define UNPACKED_ROWS_AT_A_TIME 96

/* -- gemv.c: at most four rows, B is read once. Decides the order of a sum. -- */
#define GEMV_MAX_M 4
/* Elements of B from which reading it once, in order, is faster than packing it (I: 1.4 to 2
 * times). */
#define GEMV_MIN_B (1 << 16)
/* Blocks of k with sums of their own where rows of B are contiguous. */
#define GEMV_K_BLOCKS 16

/* -- unpacked_a.c: B packed, A read in place. Decides the order of a sum. -- */
/* Columns up to which packing A is not repaid (I: 1888 x 192 x 192 at 257 instead of 203 GFLOP/s;
 * at 384 columns 7 % faster in quiet seconds, 3 to 6 % slower in others). */
#define UNPACKED_A_MAX_N 256
#define UNPACKED_A_MAX_K 2048
/* A's rows must not be a multiple of 4096 bytes apart: they would evict each other from L1. */
#define UNPACKED_A_BAD_STRIDE 1024
/* Rows of C in an item of work: a multiple of the 11 rows of a tile. */
#define UNPACKED_A_ITEM_ROWS 88

/* -- shared_packed_a.c: A packed by the team, B by each thread. -- */
/* Elements of A in a K block, at most: it is read by every thread from L2 or L3 (I). */
#define SHARED_A_L3_BUDGET (1 << 19)
/* A is clearly smaller than B: m <= 3/4 n (I: level at 3/4, from 128 to 1408 rows). */
#define SHARED_A_IS_SMALLER(m, n) (4 * (m) <= 3 * (n))
/* Columns for every thread, at least. */
#define SHARED_A_COLUMNS_PER_THREAD 64
/* Elements of packed A in a K superblock: 768 KiB stay in L2 beside C and a group of panels (I). */
#define SHARED_A_L2_BUDGET (3 << 16)
/* Elements of B that a thread packs and multiplies before its next group of panels: 128 KiB, and as
 * much is prefetched meanwhile (I). */
#define SHARED_A_B_L2_BUDGET (1 << 15)

/* -- shared_packed_b.c: B packed by the team, A by each thread. -- */
/* Elements of B: 4 MiB stay in a cache that the threads share; beyond that blocked.c reads less of
 * it (I: packing 2^22 elements whole gave nothing). */
#define SHARED_B_L3_BUDGET (1 << 20)
/* Micro-tiles of rows in a chunk, at most. */
#define SHARED_B_CHUNK_TILES 8

/* Panels that are multiplied with a chunk or a tile of A before the next ones: they stay in L2. */
#define PANELS_AT_A_TIME 8

/* -- blocked.c: A and B packed block by block. -- */
/* Rows of a packed block of A, and columns of a packed block of B (MC and NC of Goto and van de
 * Geijn 2008): 384 x 384 elements of B are 576 KiB, in L2 (I and Z: 768 columns gave nothing). */
#define BLOCKED_MC 2400
#define BLOCKED_NC 384
/* Products of bf16 with few rows: columns for every thread from which threads work on columns of
 * their own, and rows up to which packing A in each of them is repaid (Z: 256 x 2048 x 512 at 458
 * instead of 360 GFLOP/s). */
#define BLOCKED_OWN_COLUMNS 256
#define BLOCKED_OWN_COLUMNS_MAX_M 1024

/* -- any_strides.c: f64. Values of k in a K block (decides the order of a sum), rows that a thread
 * packs for itself (96 KiB, in L2), columns that the team packs (1.5 MiB). -- */
#define ANY_KC 256
#define ANY_MC 48
#define ANY_NC 768

/* -- pack.c -- */
/* Transposed A is read across its rows: so many micro-tiles are packed together, so many values of
 * k at a time, so that a cache line serves them all while it is in L1. Rows of B likewise (I: 4, 8,
 * 64 or 1024 values of k instead of 32 gave nothing). */
#define PACK_TILES_TOGETHER 4
#define PACK_K_AT_A_TIME 32
#endif
