/* kernels/peak_neon.c — the most of 64-bit ARM without dot products: products of eight s8, pairs of them added to s32; multiply-adds of floats. */
#ifdef __aarch64__
#include <arm_neon.h>

#include "kernels/kernels_isa.h"

double rq_peak_int_neon(int64_t steps)
{
    enum { SUMS = 8 };
    int32x4_t sum[SUMS];
    int8x8_t a[2] = { vdup_n_s8(1), vdup_n_s8(2) };
    const int8x8_t b[4] = { vdup_n_s8(3), vdup_n_s8(4), vdup_n_s8(5), vdup_n_s8(6) };
    for (int i = 0; i < SUMS; i++) {
        sum[i] = vdupq_n_s32(i);
        RQ_PEAK_OPAQUE("w", sum[i]);
    }
    for (int64_t s = 0; s < steps; s++) {
        RQ_PEAK_OPAQUE("w", a[0]);
        RQ_PEAK_OPAQUE("w", a[1]);
        for (int i = 0; i < SUMS; i++)
            sum[i] = vpadalq_s16(sum[i], vmull_s8(a[i / 4], b[i % 4]));
    }
    for (int i = 0; i < SUMS; i++)
        RQ_PEAK_OPAQUE("w", sum[i]);
    return (double)steps * SUMS * 8;
}

double rq_peak_f32_neon(int64_t steps)
{
    enum { CHAINS = 16 };
    float32x4_t sum[CHAINS];
    const float32x4_t a = vdupq_n_f32(1.0f), b = vdupq_n_f32(0.5f);
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = vdupq_n_f32(0);
        RQ_PEAK_OPAQUE("w", sum[i]);
    }
    for (int64_t s = 0; s < steps; s++)
        for (int i = 0; i < CHAINS; i++)
            sum[i] = vfmaq_f32(sum[i], a, b);
    for (int i = 0; i < CHAINS; i++)
        RQ_PEAK_OPAQUE("w", sum[i]);
    return (double)steps * CHAINS * 4;
}

#endif
