/* kernels/pool_avx512.c — max pooling by quarters, for CPUs with AVX-512. Compiled with -mavx512f and friends; reached only through
 * rq_kernels. */
#ifdef __AVX512F__
#define SUFFIX avx512
#include "kernels/pool_tmpl.h"
#endif
