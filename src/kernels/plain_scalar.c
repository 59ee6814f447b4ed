/* kernels/plain_scalar.c — see plain_tmpl.h. */
#define SUFFIX scalar
#include "kernels/plain_tmpl.h"
