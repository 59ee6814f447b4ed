/* kernels/eltwise_neon.c — elementwise functions, 4 at a time. */
#ifdef __aarch64__
#define VEC_WIDTH 4
#define SUFFIX neon
#include "kernels/eltwise_tmpl.h"
#endif
