/* kernels/reduce_f64.c — reductions of a row of doubles: the template of the floats with a wider element. */
#define VEC_F64
#define VEC_WIDTH 1
#define SUFFIX f64
#include "kernels/reduce_tmpl.h"
