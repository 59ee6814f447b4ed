/* kernels/peak_i8mm.c — the most of usmmla: two rows of eight by two columns of eight. Compiled with -march=armv8.2-a+dotprod+i8mm. */
#ifdef __ARM_FEATURE_MATMUL_INT8
#include <arm_neon.h>

#include "kernels/kernels_isa.h"

double rq_peak_int_i8mm(int64_t steps)
{
    enum { CHAINS = 16, LANES = 4, KR = 8 };
    int32x4_t sum[CHAINS];
    const uint8x16_t a = vdupq_n_u8(3);
    const int8x16_t b = vdupq_n_s8(5);
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = vdupq_n_s32(0);
        RQ_PEAK_OPAQUE("w", sum[i]);
    }
    for (int64_t s = 0; s < steps; s++)
        for (int i = 0; i < CHAINS; i++)
            sum[i] = vusmmlaq_s32(sum[i], a, b);
    for (int i = 0; i < CHAINS; i++)
        RQ_PEAK_OPAQUE("w", sum[i]);
    return (double)steps * CHAINS * LANES * KR;
}

#endif
