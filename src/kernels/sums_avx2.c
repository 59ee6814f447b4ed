/* kernels/sums_avx2.c — sums of products that become reals, 8 at a time. Compiled with -mavx2; reached only through rq_kernels. */
#ifdef __AVX2__
#define VEC_WIDTH 8
#define SUFFIX avx2
#include "kernels/sums_tmpl.h"
#endif
