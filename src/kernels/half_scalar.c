/* kernels/half_scalar.c — the definition of the loops over halves: base/half.h over arrays. */
#include "base/half.h"
#include "kernels/kernels_isa.h"

void rq_half_to_float_scalar(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = rq_half_to_float(x[i]);
}

void rq_half_from_float_scalar(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = rq_half_from_float(x[i]);
}
