/* kernels/fakequant_learned_scalar.c — gradients of learned-step fake quantization, 1 at a time. The definition. */
#define VEC_WIDTH 1
#define SUFFIX scalar
#include "kernels/fakequant_learned_tmpl.h"
