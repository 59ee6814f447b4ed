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

void rq_half_minmax_scalar(uint16_t *lo, uint16_t *hi, const uint16_t *x, size_t blocks, size_t length)
{
    for (size_t b = 0; b < blocks; b++, x += length) {
        int16_t least = INT16_MAX, most = INT16_MIN;
        for (size_t i = 0; i < length; i++) {
            const int16_t v = rq_half_order(x[i]);
            least = v < least ? v : least;
            most = v > most ? v : most;
        }
        lo[b] = rq_half_of_order(least);
        hi[b] = rq_half_of_order(most);
    }
}
