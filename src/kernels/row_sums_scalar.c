/* kernels/row_sums_scalar.c — the definition of sums of rows of codes. */
#include "kernels/kernels_isa.h"

void rq_row_sums_scalar(int32_t *sum, const uint8_t *x, size_t stride, size_t rows, size_t n)
{
    for (size_t i = 0; i < rows; i++, x += stride) {
        uint32_t s = 0;
        for (size_t k = 0; k < n; k++)
            s += x[k];
        sum[i] = (int32_t)s;
    }
}
