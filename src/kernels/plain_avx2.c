/* kernels/plain_avx2.c — see plain_tmpl.h. */
#ifdef __AVX2__
#define SUFFIX avx2
#include "kernels/plain_tmpl.h"
#endif
