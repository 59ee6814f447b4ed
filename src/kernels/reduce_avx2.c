/* kernels/reduce_avx2.c — reductions of a row of floats, 8 at a time. Compiled with -mavx2; reached only through
 * rq_kernels. */
#ifdef __AVX2__
#define VEC_WIDTH 8
#define SUFFIX avx2
#include "kernels/reduce_tmpl.h"
#endif
