/* kernels/sums_avx512.c — sums of products that become reals, 16 at a time. Compiled with -mavx512f and the rest; reached only
 * through rq_kernels. */
#ifdef __AVX512F__
#define VEC_WIDTH 16
#define SUFFIX avx512
#include "kernels/sums_tmpl.h"
#endif
