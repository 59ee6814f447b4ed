/* kernels/fakequant_learned_avx512.c — gradients of learned-step fake quantization, 16 at a time. Compiled with -mavx512f;
 * reached only through rq_kernels. */
#ifdef __AVX512F__
#define VEC_WIDTH 16
#define SUFFIX avx512
#include "kernels/fakequant_learned_tmpl.h"
#endif
