/* kernels/fakequant_learned_neon.c — gradients of learned-step fake quantization, 4 at a time, on 64-bit ARM; reached only
 * through rq_kernels. */
#ifdef __aarch64__
#define VEC_WIDTH 4
#define SUFFIX neon
#include "kernels/fakequant_learned_tmpl.h"
#endif
