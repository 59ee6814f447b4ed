/* kernels/sums_neon.c — sums of products that become reals, 4 at a time. Reached only through rq_kernels. */
#ifdef __aarch64__
#define VEC_WIDTH 4
#define SUFFIX neon
#include "kernels/sums_tmpl.h"
#endif
