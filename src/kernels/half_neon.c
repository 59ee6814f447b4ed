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

void rq_half_minmax_neon(uint16_t *lo, uint16_t *hi, const uint16_t *x, size_t blocks, size_t length)
{
    for (size_t b = 0; b < blocks; b++, x += length) {
        int16x8_t least = vdupq_n_s16(INT16_MAX), most = vdupq_n_s16(INT16_MIN);
        size_t i = 0;
        for (; i + 8 <= length; i += 8) {
            const int16x8_t h = vreinterpretq_s16_u16(vld1q_u16(x + i)),
                            v = veorq_s16(h, vandq_s16(vshrq_n_s16(h, 15), vdupq_n_s16(0x7fff)));
            least = vminq_s16(least, v);
            most = vmaxq_s16(most, v);
        }
        int16_t least1 = vminvq_s16(least), most1 = vmaxvq_s16(most);
        for (; i < length; i++) {
            const int16_t v = rq_half_order(x[i]);
            least1 = v < least1 ? v : least1;
            most1 = v > most1 ? v : most1;
        }
        lo[b] = rq_half_of_order(least1);
        hi[b] = rq_half_of_order(most1);
    }
}

#endif
