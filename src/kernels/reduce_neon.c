/* kernels/reduce_neon.c — reductions of a row of floats, 4 at a time. */
#ifdef __aarch64__
#define VEC_WIDTH 4
#define SUFFIX neon
#include "kernels/reduce_tmpl.h"
#endif
