/* kernels/pool8_neon.c — pools over channels-last codes on 64-bit ARM, 16 channels at a time; the last ones go through a buffer. Sums are kept in u16 for
 * as many rows as fit. */
#ifdef __aarch64__
#include "kernels/kernels_isa.h"

#include <arm_neon.h>
#include <string.h>

enum { U16_ROWS = 257 }; /* of 255 */

static inline uint8x16_t load(const uint8_t *p, size_t n)
{
    uint8_t some[16] = { 0 };
    if (n >= 16)
        return vld1q_u8(p);
    memcpy(some, p, n);
    return vld1q_u8(some);
}

static inline void store(uint8_t *y, uint8x16_t v, size_t n)
{
    if (n >= 16)
        vst1q_u8(y, v);
    else
        memcpy(y, &v, n);
}

static void max(uint8_t *y, const uint8_t *const *x, size_t taps, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        uint8x16_t v = load(x[0] + i, n - i);
        for (size_t t = 1; t < taps; t++)
            v = vmaxq_u8(v, load(x[t] + i, n - i));
        store(y + i, v, n - i);
    }
}

/* What four sums become; maxnm(NaN, 0) is 0, as the definition wants. */
static inline uint16x4_t code_of(float32x4_t s, const rq_pool8_mean *p)
{
    s = vdivq_f32(vdivq_f32(s, vdupq_n_f32(p->count)), vdupq_n_f32(p->y_scale));
    s = vaddq_f32(s, vdupq_n_f32(p->y_zero));
    s = vminnmq_f32(vmaxnmq_f32(s, vdupq_n_f32(0)), vdupq_n_f32(255));
    return vmovn_u32(vcvtnq_u32_f32(s));
}

static void mean(uint8_t *y, const uint8_t *const *x, size_t taps, size_t n, const rq_pool8_mean *p)
{
    const float32x4_t scale = vdupq_n_f32(p->scale);
    const int32x4_t zero = vdupq_n_s32(p->zero);
    for (size_t i = 0; i < n; i += 16) {
        float32x4_t s[4] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0) };
        for (size_t t = 0; t < taps; t++) {
            const uint8x16_t v = load(x[t] + i, n - i);
            const uint16x8_t low = vmovl_u8(vget_low_u8(v)), high = vmovl_high_u8(v);
            const uint32x4_t q[4] = { vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)),
                                      vmovl_high_u16(high) };
            for (int k = 0; k < 4; k++) {
                const int32x4_t d = vsubq_s32(vreinterpretq_s32_u32(q[k]), zero);
                s[k] = vaddq_f32(s[k], vmulq_f32(vcvtq_f32_s32(d), scale));
            }
        }
        const uint16x8_t a = vcombine_u16(code_of(s[0], p), code_of(s[1], p)),
                         b = vcombine_u16(code_of(s[2], p), code_of(s[3], p));
        store(y + i, vcombine_u8(vmovn_u16(a), vmovn_u16(b)), n - i);
    }
}

/* u16 sums of up to 8 channels to u32 ones. */
static inline void add8(uint32_t *sum, uint16x8_t v, size_t n)
{
    if (n >= 8) {
        vst1q_u32(sum, vaddw_u16(vld1q_u32(sum), vget_low_u16(v)));
        vst1q_u32(sum + 4, vaddw_high_u16(vld1q_u32(sum + 4), v));
        return;
    }
    uint16_t part[8];
    vst1q_u16(part, v);
    for (size_t i = 0; i < n; i++)
        sum[i] += part[i];
}

static void sum(uint32_t *sum, const uint8_t *x, size_t pitch, size_t rows, size_t n)
{
    for (size_t r0 = 0; r0 < rows; r0 += U16_ROWS) {
        const size_t some = rows - r0 < U16_ROWS ? rows - r0 : U16_ROWS;
        for (size_t i = 0; i < n; i += 16) {
            const uint8_t *row = x + r0 * pitch + i;
            uint16x8_t a = vdupq_n_u16(0), b = a;
            for (size_t r = 0; r < some; r++, row += pitch) {
                const uint8x16_t v = load(row, n - i);
                a = vaddw_u8(a, vget_low_u8(v));
                b = vaddw_high_u8(b, v);
            }
            add8(sum + i, a, n - i);
            if (n - i > 8)
                add8(sum + i + 8, b, n - i - 8);
        }
    }
}

const rq_pool8_isa rq_pool8_neon = { .max = max, .mean = mean, .sum = sum };

#endif
