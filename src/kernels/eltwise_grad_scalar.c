/* kernels/eltwise_grad_scalar.c — gradients of elementwise functions, 1 at a time. The definition. */
#define VEC_WIDTH 1
#define SUFFIX scalar
#include "kernels/eltwise_grad_tmpl.h"
