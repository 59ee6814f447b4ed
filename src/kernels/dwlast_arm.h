/* kernels/dwlast_arm.h — depthwise rows on 64-bit ARM, 16 channels at a time, for files that set KR: two taps of s16, each multiplied into its sums, or
 * four of s8 for usdot. The last block overlaps the one before it; a pixel of less than 16 channels goes through a buffer. */
#include <arm_neon.h>
#include <string.h>

#define NAME(f) f
#define VECTORS 4
#define HELD 1
#define LANES 4
#define VEC int32x4_t
#define RAW uint8x16_t
#define PART size_t

static inline int32x4_t none(void)
{
    return vdupq_n_s32(0);
}

static inline uint8x16_t nothing(void)
{
    return vdupq_n_u8(0);
}

static inline int32x4_t load(const int32_t *p)
{
    return vld1q_s32(p);
}

static inline uint8x16_t fetch(const uint8_t *p, size_t part)
{
    uint8_t x[16] = { 0 };
    if (part == 16)
        return vld1q_u8(p);
    memcpy(x, p, part);
    return vld1q_u8(x);
}

#if KR == 2

/* c[v]: four channels of the first tap as s16, then of the second */
static inline void weave(int32x4_t *c, const uint8x16_t *x)
{
    const uint16x8_t a = vmovl_u8(vget_low_u8(x[0])), b = vmovl_high_u8(x[0]);
    const uint16x8_t d = vmovl_u8(vget_low_u8(x[1])), e = vmovl_high_u8(x[1]);
    c[0] = vreinterpretq_s32_u16(vcombine_u16(vget_low_u16(a), vget_low_u16(d)));
    c[1] = vreinterpretq_s32_u16(vcombine_u16(vget_high_u16(a), vget_high_u16(d)));
    c[2] = vreinterpretq_s32_u16(vcombine_u16(vget_low_u16(b), vget_low_u16(e)));
    c[3] = vreinterpretq_s32_u16(vcombine_u16(vget_high_u16(b), vget_high_u16(e)));
}

static inline int32x4_t dot(int32x4_t s, int32x4_t c, int32x4_t w)
{
    const int16x8_t x = vreinterpretq_s16_s32(c), pairs = vreinterpretq_s16_s32(w);
    s = vmlal_s16(s, vget_low_s16(x), vget_low_s16(vuzp1q_s16(pairs, pairs)));
    return vmlal_high_s16(s, x, vuzp2q_s16(pairs, pairs));
}

#else

static inline void weave(int32x4_t *c, const uint8x16_t *x)
{
    const uint16x8_t a = vreinterpretq_u16_u8(vzip1q_u8(x[0], x[1])), b = vreinterpretq_u16_u8(vzip1q_u8(x[2], x[3]));
    const uint16x8_t d = vreinterpretq_u16_u8(vzip2q_u8(x[0], x[1])), e = vreinterpretq_u16_u8(vzip2q_u8(x[2], x[3]));
    c[0] = vreinterpretq_s32_u16(vzip1q_u16(a, b));
    c[1] = vreinterpretq_s32_u16(vzip2q_u16(a, b));
    c[2] = vreinterpretq_s32_u16(vzip1q_u16(d, e));
    c[3] = vreinterpretq_s32_u16(vzip2q_u16(d, e));
}

static inline int32x4_t dot(int32x4_t s, int32x4_t c, int32x4_t w)
{
    return vusdotq_s32(s, vreinterpretq_u8_s32(c), vreinterpretq_s8_s32(w));
}

#endif

static inline void store(const rq_dwlast_row *g, uint8_t *y, size_t part, const int32x4_t *s, const int32_t *m)
{
    const float32x4_t lo = vdupq_n_f32((float)(g->lo - g->zp)), hi = vdupq_n_f32((float)(g->hi - g->zp));
    const int32x4_t zp = vdupq_n_s32(g->zp);
    uint16x4_t q[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
        float32x4_t r = vmulq_f32(vcvtq_f32_s32(s[v]), vreinterpretq_f32_s32(vld1q_s32(m + v * LANES)));
        r = vminnmq_f32(vmaxnmq_f32(r, lo), hi); /* maxnm(NaN, lo) is lo */
        q[v] = vmovn_u32(vreinterpretq_u32_s32(vaddq_s32(vcvtnq_s32_f32(r), zp)));
    }
    const uint8x16_t b = vcombine_u8(vmovn_u16(vcombine_u16(q[0], q[1])), vmovn_u16(vcombine_u16(q[2], q[3])));
    if (part == 16)
        vst1q_u8(y, b);
    else
        memcpy(y, &b, part);
}

#include "kernels/dwlast_tmpl.h"

/* All blocks; size 0: tap by tap. */
static void blocks(const rq_dwlast_row *g, int columns, int size, int stride)
{
    const int groups = (g->height + KR - 1) / KR * columns;
    const int32_t *w = g->w, *finish = g->finish;
    for (int64_t at = 0; at < g->channels; at += 16) {
        const int64_t first = g->channels >= 16 && at + 16 > g->channels ? g->channels - 16 : at;
        const size_t part = g->channels < 16 ? (size_t)g->channels : 16;
        if (size)
            block_window(g, first, part, w, finish, size, stride);
        else
            block_taps(g, first, part, w, finish);
        w += (ptrdiff_t)16 * groups;
        finish += g->y ? 32 : 0;
    }
}

static void taps(const rq_dwlast_row *g)
{
    blocks(g, 1, 0, 0);
}

static void window(const rq_dwlast_row *g, int size, int stride)
{
    blocks(g, size, size, stride);
}
