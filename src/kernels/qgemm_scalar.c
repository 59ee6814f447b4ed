/* kernels/qgemm_scalar.c — the definition of the tile of integer products: plain loops, sums wrapping as unsigned. */
#include "kernels/kernels_isa.h"

#include <string.h>

enum { MAX_ROWS = 8, LANES = 8, MAX_VECTORS = 4 };

static void tile(int32_t *c, size_t ldc, const uint8_t *const *x, size_t runs, size_t run, const void *w,
                 const int32_t *init, int rows, int vectors)
{
    const size_t n = (size_t)vectors * LANES;
    uint32_t sum[MAX_ROWS][MAX_VECTORS * LANES] = { { 0 } };
    for (int q = 0; init && q < rows; q++)
        for (size_t j = 0; j < n; j++)
            sum[q][j] = (uint32_t)init[j];
    const int8_t *b = w;
    for (size_t r = 0; r < runs; r++, x += MAX_ROWS)
        for (size_t k = 0; k < run; k++, b += n)
            for (int q = 0; q < rows; q++)
                for (size_t j = 0; j < n; j++)
                    sum[q][j] += (uint32_t)(x[q][k] * b[j]);
    for (int q = 0; q < rows; q++)
        memcpy(c + (size_t)q * ldc, sum[q], n * sizeof *c);
}

const rq_qgemm_isa rq_qgemm_scalar = {
    .max_rows = MAX_ROWS,
    .lanes = LANES,
    .max_vectors = MAX_VECTORS,
    .kr = 1,
    .w_bytes = 1,
    .tile = tile,
};
