/* kernels/pool_scalar.c — max pooling by quarters: the definition. */
#define SUFFIX scalar
#include "kernels/pool_tmpl.h"
