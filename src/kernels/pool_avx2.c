/* kernels/pool_avx2.c — max pooling by quarters, for CPUs with AVX2. Compiled with -mavx2; reached only through rq_kernels. */
#ifdef __AVX2__
#define SUFFIX avx2
#include "kernels/pool_tmpl.h"
#endif
