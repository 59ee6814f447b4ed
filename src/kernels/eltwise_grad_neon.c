/* kernels/eltwise_grad_neon.c — gradients of elementwise functions, 4 at a time. */
#ifdef __aarch64__
#define VEC_WIDTH 4
#define SUFFIX neon
#include "kernels/eltwise_grad_tmpl.h"
#endif
