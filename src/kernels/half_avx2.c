/* kernels/half_avx2.c — the definition again, which the compiler makes vectors of. Compiled with -mavx2 -O3. */
#ifdef __AVX2__
#include "base/half.h"
#include "kernels/kernels_isa.h"

void rq_half_to_float_avx2(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = rq_half_to_float(x[i]);
}

void rq_half_from_float_avx2(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = rq_half_from_float(x[i]);
}

#endif
