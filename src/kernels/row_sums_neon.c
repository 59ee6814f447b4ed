/* kernels/row_sums_neon.c — sums of rows of codes on 64-bit ARM, 16 bytes at a time, widened twice. */
#ifdef __aarch64__
#include "kernels/kernels_isa.h"

#include <arm_neon.h>

void rq_row_sums_neon(int32_t *sum, const uint8_t *x, size_t stride, size_t rows, size_t n)
{
    for (size_t i = 0; i < rows; i++, x += stride) {
        uint32x4_t s = vdupq_n_u32(0);
        size_t k = 0;
        for (; k + 16 <= n; k += 16)
            s = vpadalq_u16(s, vpaddlq_u8(vld1q_u8(x + k)));
        uint32_t all = vaddvq_u32(s);
        for (; k < n; k++)
            all += x[k];
        sum[i] = (int32_t)all;
    }
}

#endif
