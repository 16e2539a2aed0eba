/* Ends the target attribute that vec_avx2.h and vec_avx512.h begin. */
#pragma clang attribute pop
