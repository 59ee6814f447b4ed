/* kernels/lut8_neon.c — table lookups on 64-bit ARM: the 256 bytes stand in sixteen registers, and tbl looks 16 codes up in
 * four of them at a time; an index beyond these leaves the byte as it is (tbx). */
#ifdef __aarch64__
#include "kernels/kernels_isa.h"

#include <arm_neon.h>

void rq_lut8_neon(uint8_t *y, const uint8_t *x, size_t n, const uint8_t table[256])
{
    const uint8x16x4_t t0 = vld1q_u8_x4(table), t1 = vld1q_u8_x4(table + 64), t2 = vld1q_u8_x4(table + 128),
                       t3 = vld1q_u8_x4(table + 192);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const uint8x16_t v = vld1q_u8(x + i);
        uint8x16_t r = vqtbl4q_u8(t0, v);
        r = vqtbx4q_u8(r, t1, vsubq_u8(v, vdupq_n_u8(64)));
        r = vqtbx4q_u8(r, t2, vsubq_u8(v, vdupq_n_u8(128)));
        vst1q_u8(y + i, vqtbx4q_u8(r, t3, vsubq_u8(v, vdupq_n_u8(192))));
    }
    for (; i < n; i++)
        y[i] = table[x[i]];
}

#endif
