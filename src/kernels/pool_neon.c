/* kernels/pool_neon.c — max pooling by quarters, for 64-bit ARM. */
#ifdef __aarch64__
#define SUFFIX neon
#include "kernels/pool_tmpl.h"
#endif
