/* kernels/sums_scalar.c — sums of products that become reals: the definition. */
#define VEC_WIDTH 1
#define SUFFIX scalar
#include "kernels/sums_tmpl.h"
