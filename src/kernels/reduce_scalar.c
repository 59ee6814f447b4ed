/* kernels/reduce_scalar.c — reductions of a row of floats, 1 at a time. The definition. */
#define VEC_WIDTH 1
#define SUFFIX scalar
#include "kernels/reduce_tmpl.h"
