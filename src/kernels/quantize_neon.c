/* kernels/quantize_neon.c — reals to codes and back on 64-bit ARM, 16 elements of 8 bits or 8 of 16 at a time; the tail goes to the
 * definition's inline functions. maxnm(NaN, lo) is lo, as the definition wants. */
#ifdef __aarch64__
#include "kernels/kernels_isa.h"
#include "kernels/quantize.h"

#include <arm_neon.h>

/* clamp(rne(x / scale) + zp) of 4, with lo and hi shifted by zp already */
static inline int16x4_t codes_of(const float *x, float32x4_t scale, float32x4_t lo, float32x4_t hi, int32x4_t zp)
{
    const float32x4_t v = vminnmq_f32(vmaxnmq_f32(vdivq_f32(vld1q_f32(x), scale), lo), hi);
    return vmovn_s32(vaddq_s32(vcvtnq_s32_f32(v), zp));
}

static size_t quantize(uint8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    const float32x4_t s = vdupq_n_f32(scale), vlo = vdupq_n_f32((float)(lo - zp)), vhi = vdupq_n_f32((float)(hi - zp));
    const int32x4_t z = vdupq_n_s32(zp);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const int16x8_t a = vcombine_s16(codes_of(x + i, s, vlo, vhi, z), codes_of(x + i + 4, s, vlo, vhi, z));
        const int16x8_t b = vcombine_s16(codes_of(x + i + 8, s, vlo, vhi, z), codes_of(x + i + 12, s, vlo, vhi, z));
        vst1q_u8(y + i, vreinterpretq_u8_s8(vcombine_s8(vmovn_s16(a), vmovn_s16(b))));
    }
    return i;
}

void rq_quantize_u8_neon(uint8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = quantize(y, x, n, scale, zp, lo, hi); i < n; i++)
        y[i] = (uint8_t)rq_quantize_one(x[i], scale, zp, lo, hi);
}

#define HALF_NAME rq_quantize_half_neon
#include "kernels/quantize_half_tmpl.h"

void rq_quantize_s8_neon(int8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = quantize((uint8_t *)y, x, n, scale, zp, lo, hi); i < n; i++)
        y[i] = (int8_t)rq_quantize_one(x[i], scale, zp, lo, hi);
}

/* Codes of 16 bits, 8 at a time: the low halves of the same in s32. */
static size_t quantize_words(uint16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    const float32x4_t s = vdupq_n_f32(scale), vlo = vdupq_n_f32((float)(lo - zp)), vhi = vdupq_n_f32((float)(hi - zp));
    const int32x4_t z = vdupq_n_s32(zp);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        vst1q_u16(y + i, vreinterpretq_u16_s16(
                             vcombine_s16(codes_of(x + i, s, vlo, vhi, z), codes_of(x + i + 4, s, vlo, vhi, z))));
    return i;
}

void rq_quantize_u16_neon(uint16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = quantize_words(y, x, n, scale, zp, lo, hi); i < n; i++)
        y[i] = (uint16_t)rq_quantize_one(x[i], scale, zp, lo, hi);
}

void rq_quantize_s16_neon(int16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = quantize_words((uint16_t *)y, x, n, scale, zp, lo, hi); i < n; i++)
        y[i] = (int16_t)rq_quantize_one(x[i], scale, zp, lo, hi);
}

/* rne(x / by / scale) within lo..hi of 2 */
static inline int32x2_t quotients_of(const double *x, float64x2_t by, float64x2_t scale, float64x2_t lo, float64x2_t hi)
{
    const float64x2_t v = vdivq_f64(vdivq_f64(vld1q_f64(x), by), scale);
    return vmovn_s64(vcvtnq_s64_f64(vminnmq_f64(vmaxnmq_f64(v, lo), hi)));
}

void rq_quantize_quotients_neon(uint8_t *y, const double *x, size_t n, double by, double scale, int32_t zp, int32_t lo,
                                int32_t hi)
{
    const float64x2_t b = vdupq_n_f64(by), s = vdupq_n_f64(scale), l = vdupq_n_f64(lo - zp), h = vdupq_n_f64(hi - zp);
    const int32x4_t z = vdupq_n_s32(zp);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        int16x4_t q[2];
        for (size_t k = 0; k < 2; k++) {
            const double *p = x + i + 4 * k;
            const int32x4_t v = vcombine_s32(quotients_of(p, b, s, l, h), quotients_of(p + 2, b, s, l, h));
            q[k] = vmovn_s32(vaddq_s32(v, z));
        }
        vst1_u8(y + i, vreinterpret_u8_s8(vmovn_s16(vcombine_s16(q[0], q[1]))));
    }
    for (; i < n; i++)
        y[i] = (uint8_t)rq_quantize_wide(x[i] / by / scale, zp, lo, hi);
}

/* clamp(rne(f32(s) * m) + zp) of 4, with lo and hi shifted by zp already */
static inline int16x4_t codes_of_sums(int32x4_t s, float32x4_t m, float32x4_t lo, float32x4_t hi, int32x4_t zp)
{
    const float32x4_t v = vminnmq_f32(vmaxnmq_f32(vmulq_f32(vcvtq_f32_s32(s), m), lo), hi);
    return vmovn_s32(vaddq_s32(vcvtnq_s32_f32(v), zp));
}

/* One row with multipliers per element. */
static inline void requantize_row(uint8_t *y, const int32_t *acc, size_t n, int32_t add, const float *m, int32_t zp,
                                  int32_t lo, int32_t hi)
{
    const float32x4_t vlo = vdupq_n_f32((float)(lo - zp)), vhi = vdupq_n_f32((float)(hi - zp));
    const int32x4_t z = vdupq_n_s32(zp), va = vdupq_n_s32(add);
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        const int32x4_t s = vaddq_s32(vld1q_s32(acc + j), va), t = vaddq_s32(vld1q_s32(acc + j + 4), va);
        const int16x4_t a = codes_of_sums(s, vld1q_f32(m + j), vlo, vhi, z);
        const int16x4_t b = codes_of_sums(t, vld1q_f32(m + j + 4), vlo, vhi, z);
        vst1_u8(y + j, vreinterpret_u8_s8(vmovn_s16(vcombine_s16(a, b))));
    }
    for (; j < n; j++) {
        const uint32_t s = (uint32_t)acc[j] + (uint32_t)add;
        y[j] = (uint8_t)rq_quantize_acc((int32_t)s, m[j], zp, lo, hi);
    }
}

void rq_requantize_tile_neon(uint8_t *y, size_t ldy, const int32_t *acc, size_t lda, size_t rows, size_t n,
                             const int32_t *row_add, const float *m, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = 0; i < rows; i++)
        requantize_row(y + i * ldy, acc + i * lda, n, row_add ? row_add[i] : 0, m, zp, lo, hi);
}

static inline void put_reals(float *y, int16x8_t q, int32x4_t zp, float32x4_t scale)
{
    vst1q_f32(y, vmulq_f32(vcvtq_f32_s32(vsubq_s32(vmovl_s16(vget_low_s16(q)), zp)), scale));
    vst1q_f32(y + 4, vmulq_f32(vcvtq_f32_s32(vsubq_s32(vmovl_s16(vget_high_s16(q)), zp)), scale));
}

void rq_dequantize_u8_neon(float *y, const uint8_t *x, size_t n, float scale, int32_t zp)
{
    const float32x4_t s = vdupq_n_f32(scale);
    const int32x4_t z = vdupq_n_s32(zp);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        put_reals(y + i, vreinterpretq_s16_u16(vmovl_u8(vld1_u8(x + i))), z, s);
    for (; i < n; i++)
        y[i] = rq_dequantize_one(x[i], scale, zp);
}

void rq_dequantize_s8_neon(float *y, const int8_t *x, size_t n, float scale, int32_t zp)
{
    const float32x4_t s = vdupq_n_f32(scale);
    const int32x4_t z = vdupq_n_s32(zp);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        put_reals(y + i, vmovl_s8(vld1_s8(x + i)), z, s);
    for (; i < n; i++)
        y[i] = rq_dequantize_one(x[i], scale, zp);
}

void rq_dequantize_u16_neon(float *y, const uint16_t *x, size_t n, float scale, int32_t zp)
{
    const float32x4_t s = vdupq_n_f32(scale);
    const int32x4_t z = vdupq_n_s32(zp);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const int32x4_t q = vreinterpretq_s32_u32(vmovl_u16(vld1_u16(x + i)));
        vst1q_f32(y + i, vmulq_f32(vcvtq_f32_s32(vsubq_s32(q, z)), s));
    }
    for (; i < n; i++)
        y[i] = rq_dequantize_one(x[i], scale, zp);
}

void rq_dequantize_s16_neon(float *y, const int16_t *x, size_t n, float scale, int32_t zp)
{
    const float32x4_t s = vdupq_n_f32(scale);
    const int32x4_t z = vdupq_n_s32(zp);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        put_reals(y + i, vld1q_s16(x + i), z, s);
    for (; i < n; i++)
        y[i] = rq_dequantize_one(x[i], scale, zp);
}

/* Through reals that stay in the nearest cache. */
void rq_norm8_neon(uint8_t *y, const uint8_t *x, size_t n, const rq_norm8 *p)
{
    enum { TILE = 256 };
    const rq_norm8 own = *p; /* which y cannot point into */
    float v[TILE];
    for (size_t i = 0; i < n; i += TILE) {
        const size_t m = n - i < TILE ? n - i : TILE;
        if (own.flip)
            rq_dequantize_s8_neon(v, (const int8_t *)x + i, m, own.inv, own.whole - 128);
        else
            rq_dequantize_u8_neon(v, x + i, m, own.inv, own.whole);
        for (size_t k = 0; k < m && own.rest != 0; k++)
            v[k] += own.rest;
        for (size_t k = 0; k < m && own.gain; k++)
            v[k] *= own.gain[i + k];
        for (size_t k = 0; k < m && own.bias; k++)
            v[k] += own.bias[i + k];
        rq_quantize_u8_neon(y + i, v, m, own.scale, own.zp, own.lo, own.hi); /* low bytes, of s8 too */
    }
}

#endif
