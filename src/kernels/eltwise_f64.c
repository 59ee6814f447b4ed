/* kernels/eltwise_f64.c — elementwise functions of doubles: the template of the floats with a wider element. */
#define VEC_F64
#define VEC_WIDTH 1
#define SUFFIX f64
#include "kernels/eltwise_tmpl.h"
