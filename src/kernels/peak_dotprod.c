/* kernels/peak_dotprod.c — the most of sdot. Compiled with -march=armv8.2-a+dotprod. */
#ifdef __ARM_FEATURE_DOTPROD
#include <arm_neon.h>

#include "kernels/kernels_isa.h"

double rq_peak_int_dotprod(int64_t steps)
{
    enum { CHAINS = 16, LANES = 4, KR = 4 };
    int32x4_t sum[CHAINS];
    const int8x16_t a = vdupq_n_s8(3), b = vdupq_n_s8(5);
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = vdupq_n_s32(0);
        RQ_PEAK_OPAQUE("w", sum[i]);
    }
    for (int64_t s = 0; s < steps; s++)
        for (int i = 0; i < CHAINS; i++)
            sum[i] = vdotq_s32(sum[i], a, b);
    for (int i = 0; i < CHAINS; i++)
        RQ_PEAK_OPAQUE("w", sum[i]);
    return (double)steps * CHAINS * LANES * KR;
}

#endif
