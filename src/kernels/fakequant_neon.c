/* kernels/fakequant_neon.c — fake quantization 4 at a time, on 64-bit ARM; reached only through rq_kernels. Nothing is
 * streamed: there is no store that passes the caches by whole lines, and cores merge full lines by themselves. */
#ifdef __aarch64__
#define VEC_WIDTH 4
#define SUFFIX neon
#include "kernels/vec.h"

#include <stdbool.h>

/* Low bytes of 4 u32. */
static inline void put_bytes(uint8_t *p, uint32x4_t q)
{
    const uint16x4_t half = vmovn_u32(q);
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(half, half));
    const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
    memcpy(p, &four, sizeof four);
}

static inline void put_mask(uint8_t *p, vm m)
{
    put_bytes(p, vshrq_n_u32(m, 31));
}

static inline vm get_mask(const uint8_t *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    const uint32x4_t wide = vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)))));
    return vcgtq_u32(wide, vdupq_n_u32(0));
}

static inline vm get_equal(const uint8_t *p, uint8_t v)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    const uint32x4_t wide = vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)))));
    return vceqq_u32(wide, vdupq_n_u32(v));
}

static inline void put_codes(uint8_t *p, vf c, bool stream)
{
    (void)stream;
    put_bytes(p, vreinterpretq_u32_s32(vcvtq_s32_f32(c)));
}

static inline void fence(void)
{
}

#include "kernels/fakequant_tmpl.h"
#endif
