/* kernels/gemm_scalar.c — the definition of the integer tile: three loops, sums wrapping as unsigned. */
#include "kernels/kernels_isa.h"

#include <string.h>

enum { MR = 4, LANES = 8, KR = 1 };

static void tile(int32_t *c, size_t ldc, const void *a, const uint8_t *b, size_t steps, int rows, int vectors)
{
    const int8_t *pa = a;
    size_t n = (size_t)vectors * LANES;
    for (int i = 0; i < rows; i++)
        memset(c + (size_t)i * ldc, 0, n * sizeof *c);
    for (size_t s = 0; s < steps; s++, pa += rows, b += n)
        for (int i = 0; i < rows; i++) {
            int32_t *ci = c + (size_t)i * ldc, ai = pa[i];
            for (size_t j = 0; j < n; j++)
                ci[j] = (int32_t)((uint32_t)ci[j] + (uint32_t)(ai * b[j]));
        }
}

static void interleave(uint8_t *dst, const uint8_t *const *rows, size_t n, uint8_t flip)
{
    for (size_t j = 0; j < n; j++)
        dst[j] = rows[0][j] ^ flip;
    for (size_t j = n; j % LANES; j++)
        dst[j] = 0;
}

const rq_gemm_isa rq_gemm_scalar = {
    .mr = MR,
    .lanes = LANES,
    .max_vectors = 4,
    .kr = KR,
    .a_bytes = 1,
    .tile = tile,
    .interleave = interleave,
};
