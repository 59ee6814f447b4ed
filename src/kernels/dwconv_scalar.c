/* kernels/dwconv_scalar.c — the definition of the depthwise row. */
#include "kernels/kernels_isa.h"

void rq_dwconv_scalar(int32_t *acc, const uint8_t *const *taps, const int16_t *w, int n_taps, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        uint32_t sum = 0;
        for (int t = 0; t < n_taps; t++)
            sum += (uint32_t)(w[t] * taps[t][j]);
        acc[j] = (int32_t)sum;
    }
}
