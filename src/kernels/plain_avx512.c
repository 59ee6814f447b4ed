/* kernels/plain_avx512.c — see plain_tmpl.h. */
#ifdef __AVX512BW__
#define SUFFIX avx512
#include "kernels/plain_tmpl.h"
#endif
