/* kernels/batch_norm_neon.c — sums and steps of batch normalization in training, 4 at a time. Reached only through rq_kernels. */
#ifdef __aarch64__
#define VEC_WIDTH 4
#define SUFFIX neon
#include "kernels/batch_norm_tmpl.h"
#endif
