/* kernels/half_neon.c — halves by the conversions of 64-bit ARM, 8 at a time. They make a signalling NaN quiet, which the definition does not, so
 * eight that have a NaN among them go through it. */
#ifdef __aarch64__
#include "base/half.h"
#include "kernels/kernels_isa.h"

#include <arm_neon.h>

static void to_float(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = rq_half_to_float(x[i]);
}

void rq_half_to_float_neon(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const uint16x8_t h = vld1q_u16(x + i), magnitude = vandq_u16(h, vdupq_n_u16(0x7fff));
        if (vmaxvq_u16(magnitude) > 0x7c00) {
            to_float(y + i, x + i, 8);
            continue;
        }
        const float16x8_t v = vreinterpretq_f16_u16(h);
        vst1q_f32(y + i, vcvt_f32_f16(vget_low_f16(v)));
        vst1q_f32(y + i + 4, vcvt_high_f32_f16(v));
    }
    to_float(y + i, x + i, n - i);
}

void rq_half_from_float_neon(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        vst1q_u16(y + i,
                  vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(vld1q_f32(x + i)), vld1q_f32(x + i + 4))));
    for (; i < n; i++)
        y[i] = rq_half_from_float(x[i]);
}

#endif
