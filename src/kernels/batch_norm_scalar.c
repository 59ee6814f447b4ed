/* kernels/batch_norm_scalar.c — sums and steps of batch normalization in training: the definition. */
#define VEC_WIDTH 1
#define SUFFIX scalar
#include "kernels/batch_norm_tmpl.h"
