/* kernels/fakequant_learned_avx2.c — gradients of learned-step fake quantization, 8 at a time. Compiled with -mavx2; reached
 * only through rq_kernels. */
#ifdef __AVX2__
#define VEC_WIDTH 8
#define SUFFIX avx2
#include "kernels/fakequant_learned_tmpl.h"
#endif
