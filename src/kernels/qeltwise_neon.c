/* kernels/qeltwise_neon.c — Add and Mul on codes on 64-bit ARM, 16 at a time. The tail goes through a buffer, so that no element is
 * computed by other code. */
#ifdef __aarch64__
#include "kernels/kernels_isa.h"

#include <arm_neon.h>
#include <string.h>

/* 16 codes, widened. */
typedef struct wide {
    int32x4_t v[4];
} wide;

static inline wide load16(const uint8_t *p, uint8_t flip)
{
    const uint8x16_t x = veorq_u8(vld1q_u8(p), vdupq_n_u8(flip));
    const uint16x8_t low = vmovl_u8(vget_low_u8(x)), high = vmovl_high_u8(x);
    return (wide) { { vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), vreinterpretq_s32_u32(vmovl_high_u16(low)),
                      vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))),
                      vreinterpretq_s32_u32(vmovl_high_u16(high)) } };
}

/* clamp(rne(v)); maxnm(NaN, 0) is 0 */
static inline uint16x4_t code_of(float32x4_t v)
{
    v = vminnmq_f32(vmaxnmq_f32(v, vdupq_n_f32(0)), vdupq_n_f32(255));
    return vmovn_u32(vcvtnq_u32_f32(v));
}

static inline void store16(uint8_t *y, const float32x4_t v[4], uint8_t flip)
{
    const uint16x8_t low = vcombine_u16(code_of(v[0]), code_of(v[1])),
                     high = vcombine_u16(code_of(v[2]), code_of(v[3]));
    vst1q_u8(y, veorq_u8(vcombine_u8(vmovn_u16(low), vmovn_u16(high)), vdupq_n_u8(flip)));
}

static inline void add16(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qadd *p)
{
    const wide va = load16(a, p->flip_a);
    float32x4_t sum[4];
    for (int i = 0; i < 4; i++)
        sum[i] = vdupq_n_f32(p->k);
    if (b) {
        const wide vb = load16(b, p->flip_b);
        for (int i = 0; i < 4; i++)
            sum[i] = vfmaq_n_f32(sum[i], vcvtq_f32_s32(vb.v[i]), p->rb);
    }
    for (int i = 0; i < 4; i++)
        sum[i] = vfmaq_n_f32(sum[i], vcvtq_f32_s32(va.v[i]), p->ra);
    store16(y, sum, p->flip_y);
}

/* The quick form (qeltwise.h), of four codes. */
static inline int16x8_t quick4(int16x4_t a, int16x4_t b, const rq_qadd_quick *q)
{
    const int32x4_t sum = vmlal_n_s16(vmlal_n_s16(vdupq_n_s32(q->bits), a, q->wa), b, q->wb);
    return vreinterpretq_s16_f32(vfmaq_n_f32(vdupq_n_f32(q->base), vreinterpretq_f32_s32(sum), q->step));
}

static inline uint8x8_t quick8(uint8x8_t a, uint8x8_t b, const rq_qadd_quick *q)
{
    const int16x8_t va = vreinterpretq_s16_u16(vmovl_u8(a)), vb = vreinterpretq_s16_u16(vmovl_u8(b));
    return vqmovun_s16(
        vuzp1q_s16(quick4(vget_low_s16(va), vget_low_s16(vb), q), quick4(vget_high_s16(va), vget_high_s16(vb), q)));
}

static inline void quick16(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qadd *p)
{
    const uint8x16_t va = veorq_u8(vld1q_u8(a), vdupq_n_u8(p->flip_a)),
                     vb = veorq_u8(vld1q_u8(b), vdupq_n_u8(p->flip_b));
    const uint8x16_t q = vcombine_u8(quick8(vget_low_u8(va), vget_low_u8(vb), &p->quick),
                                     quick8(vget_high_u8(va), vget_high_u8(vb), &p->quick));
    vst1q_u8(y, veorq_u8(q, vdupq_n_u8(p->flip_y)));
}

/* Inlined where f is a constant. */
static inline __attribute__((always_inline)) void
add_by(void (*f)(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qadd *p), uint8_t *y, const uint8_t *a,
       const uint8_t *b, size_t n, const rq_qadd *p)
{
    const rq_qadd q = *p; /* y may be anything: a copy stays in registers */
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        f(y + i, a + i, b + i, &q);
    if (i < n) {
        uint8_t ta[16] = { 0 }, tb[16] = { 0 }, ty[16];
        memcpy(ta, a + i, n - i);
        memcpy(tb, b + i, n - i);
        f(ty, ta, tb, &q);
        memcpy(y + i, ty, n - i);
    }
}

void rq_qadd_neon(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qadd *p)
{
    if (rq_qadd_is_quick(p))
        add_by(quick16, y, a, b, n, p);
    else
        add_by(add16, y, a, b, n, p);
}

void rq_qadd_one_neon(uint8_t *y, const uint8_t *a, size_t n, const rq_qadd *p)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        add16(y + i, a + i, NULL, p);
    if (i < n) {
        uint8_t ta[16] = { 0 }, ty[16];
        memcpy(ta, a + i, n - i);
        add16(ty, ta, NULL, p);
        memcpy(y + i, ty, n - i);
    }
}

static inline void mul16(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qmul *p)
{
    const wide va = load16(a, p->flip_a), vb = load16(b, p->flip_b);
    const int32x4_t za = vdupq_n_s32(p->za), zb = vdupq_n_s32(p->zb);
    float32x4_t r[4];
    for (int i = 0; i < 4; i++) {
        const int32x4_t product = vmulq_s32(vsubq_s32(va.v[i], za), vsubq_s32(vb.v[i], zb));
        r[i] = vaddq_f32(vmulq_n_f32(vcvtq_f32_s32(product), p->r), vdupq_n_f32(p->zc));
    }
    store16(y, r, p->flip_y);
}

/* The quick form of a product, of four codes. */
static inline int16x8_t product4(int16x4_t a, int16x4_t b, const rq_qmul *p)
{
    const float32x4_t product = vcvtq_f32_s32(vmull_s16(a, b)), base = vdupq_n_f32(0x1.8p23f + p->zc);
    return vreinterpretq_s16_f32(vfmaq_n_f32(base, product, p->step));
}

static inline uint8x8_t product8(uint8x8_t a, uint8x8_t b, const rq_qmul *p)
{
    const int16x8_t va = vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(a)), vdupq_n_s16((int16_t)p->za)),
                    vb = vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(b)), vdupq_n_s16((int16_t)p->zb));
    return vqmovun_s16(
        vuzp1q_s16(product4(vget_low_s16(va), vget_low_s16(vb), p), product4(vget_high_s16(va), vget_high_s16(vb), p)));
}

static inline void product16(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qmul *p)
{
    const uint8x16_t va = veorq_u8(vld1q_u8(a), vdupq_n_u8(p->flip_a)),
                     vb = veorq_u8(vld1q_u8(b), vdupq_n_u8(p->flip_b));
    const uint8x16_t q =
        vcombine_u8(product8(vget_low_u8(va), vget_low_u8(vb), p), product8(vget_high_u8(va), vget_high_u8(vb), p));
    vst1q_u8(y, veorq_u8(q, vdupq_n_u8(p->flip_y)));
}

/* Inlined where f is a constant. */
static inline __attribute__((always_inline)) void
mul_by(void (*f)(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qmul *p), uint8_t *y, const uint8_t *a,
       const uint8_t *b, size_t n, const rq_qmul *p)
{
    const rq_qmul q = *p;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        f(y + i, a + i, b + i, &q);
    if (i < n) {
        uint8_t ta[16] = { 0 }, tb[16] = { 0 }, ty[16];
        memcpy(ta, a + i, n - i);
        memcpy(tb, b + i, n - i);
        f(ty, ta, tb, &q);
        memcpy(y + i, ty, n - i);
    }
}

void rq_qmul_neon(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p)
{
    if (p->step > 0)
        mul_by(product16, y, a, b, n, p);
    else
        mul_by(mul16, y, a, b, n, p);
}

#endif
