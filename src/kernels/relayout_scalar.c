/* kernels/relayout_scalar.c — bytes turned from rows to columns: the definition. */
#include "kernels/kernels_isa.h"

void rq_transpose8_scalar(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, size_t rows, size_t cols, uint8_t flip)
{
    for (size_t j = 0; j < cols; j++)
        for (size_t i = 0; i < rows; i++)
            y[j * ldy + i] = x[i * ldx + j] ^ flip;
}
