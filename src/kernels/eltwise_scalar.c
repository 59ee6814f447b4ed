/* kernels/eltwise_scalar.c — elementwise functions, 1 at a time. The definition. */
#define VEC_WIDTH 1
#define SUFFIX scalar
#include "kernels/eltwise_tmpl.h"
