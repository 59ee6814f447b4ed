/* kernels/eltwise_grad_avx2.c — gradients of elementwise functions, 8 at a time. Compiled with -mavx2; reached only through rq_kernels. */
#ifdef __AVX2__
#define VEC_WIDTH 8
#define SUFFIX avx2
#include "kernels/eltwise_grad_tmpl.h"
#endif
