/* kernels/batch_norm_avx2.c — sums and steps of batch normalization in training, 8 at a time. Compiled with -mavx2; reached only
 * through rq_kernels. */
#ifdef __AVX2__
#define VEC_WIDTH 8
#define SUFFIX avx2
#include "kernels/batch_norm_tmpl.h"
#endif
