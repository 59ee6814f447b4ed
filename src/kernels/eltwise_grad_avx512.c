/* kernels/eltwise_grad_avx512.c — gradients of elementwise functions, 16 at a time. Compiled with -mavx512f and friends; reached only
 * through rq_kernels. */
#ifdef __AVX512F__
#define VEC_WIDTH 16
#define SUFFIX avx512
#include "kernels/eltwise_grad_tmpl.h"
#endif
