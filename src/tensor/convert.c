/* tensor/convert.c — narrow float formats by their fields: sign, exponent, mantissa, bias, and which codes
 * are NaN or infinite. One decoder and one encoder serve them all; the tables of formats are in
 * docs/onnx-facts.md 1.3 (from the ONNX and OCP specifications). */
#include "tensor/convert.h"

#include <math.h>
#include <string.h>

#include "base/half.h"

/* ---- halves ---- */

float rq_convert_f16_to_f32(uint16_t h)
{
    return rq_half_to_float(h);
}

uint16_t rq_convert_f32_to_f16(float f)
{
    return rq_half_from_float(f);
}

void rq_convert_f16_to_f32_each(float *dst, const uint16_t *src, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = rq_half_to_float(src[i]);
}

void rq_convert_f32_to_f16_each(uint16_t *dst, const float *src, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = rq_half_from_float(src[i]);
}

/* ---- bfloat16 ---- */

float rq_convert_bf16_to_f32(uint16_t h)
{
    return rq_half_float_of((uint32_t)h << 16);
}

uint16_t rq_convert_f32_to_bf16(float f)
{
    uint32_t u = rq_half_bits_of(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

typedef struct narrow {
    int exp_bits, man_bits, bias;
    float max;
    bool has_inf, nan_is_minus_zero, nan_all_ones;
} narrow;

static narrow narrow_of(rq_dtype d)
{
    switch (d) {
    case RQ_DTYPE_F8E4M3FN:
        return (narrow) { 4, 3, 7, 448, .nan_all_ones = true };
    case RQ_DTYPE_F8E4M3FNUZ:
        return (narrow) { 4, 3, 8, 240, .nan_is_minus_zero = true };
    case RQ_DTYPE_F8E5M2:
        return (narrow) { 5, 2, 15, 57344, .has_inf = true };
    case RQ_DTYPE_F8E5M2FNUZ:
        return (narrow) { 5, 2, 16, 57344, .nan_is_minus_zero = true };
    default: /* F4E2M1 */
        return (narrow) { 2, 1, 1, .max = 6 };
    }
}

float rq_convert_f8_to_f32(rq_dtype d, uint8_t code)
{
    if (d == RQ_DTYPE_F8E8M0)
        return code == 255 ? NAN : ldexpf(1.0f, code - 127);
    narrow t = narrow_of(d);
    int bits = 1 + t.exp_bits + t.man_bits;
    int sign = code >> (bits - 1) & 1, e = code >> t.man_bits & ((1 << t.exp_bits) - 1),
        m = code & ((1 << t.man_bits) - 1);
    int top = (1 << t.exp_bits) - 1;
    if (t.nan_is_minus_zero && code == 0x80)
        return NAN;
    if (t.nan_all_ones && (code & 0x7f) == 0x7f)
        return NAN;
    if (t.has_inf && e == top)
        return m ? NAN : sign ? -INFINITY : INFINITY;
    float v =
        e ? ldexpf((float)(m | 1 << t.man_bits), e - t.bias - t.man_bits) : ldexpf((float)m, 1 - t.bias - t.man_bits);
    return sign ? -v : v;
}

/* E4M3FN and E5M2, where most numbers go: fields moved and rounded as bits. False where the result is not a plain finite
 * number (past the largest one, infinite, NaN): that is for the encoder of all formats. */
static bool common_f8(rq_dtype d, float f, uint8_t *code)
{
    const bool e4m3 = d == RQ_DTYPE_F8E4M3FN;
    const int man = e4m3 ? 3 : 2, bias = e4m3 ? 7 : 15, drop = 23 - man;
    const uint32_t u = rq_half_bits_of(f), a = u & 0x7fffffff, sign = u >> 24 & 0x80;
    if (a >= (uint32_t)(128 - bias) << 23) { /* normal: at least 2^(1 - bias) */
        const uint32_t r = ((a + ((1u << (drop - 1)) - 1) + (a >> drop & 1)) >> drop) - ((uint32_t)(127 - bias) << man);
        *code = (uint8_t)(sign | r);
        return r <= (e4m3 ? 0x7eu : 0x7bu);
    }
    const float steps =
        fabsf(f) * (e4m3 ? 0x1p9f : 0x1p16f); /* of the subnormals; 2^man of them are the least normal */
    *code = (uint8_t)(sign | (uint32_t)((steps + 0x1.8p23f) - 0x1.8p23f));
    return true;
}

uint8_t rq_convert_f32_to_f8(rq_dtype d, float f, bool saturate)
{
    uint8_t common;
    if ((d == RQ_DTYPE_F8E4M3FN || d == RQ_DTYPE_F8E5M2) && common_f8(d, f, &common))
        return common;
    if (d == RQ_DTYPE_F8E8M0) { /* nearest power of two, ties away from zero, as the ONNX cast does */
        if (isnan(f))
            return 255;
        float a = fabsf(f);
        if (a < 0x1p-127f)
            return 0;
        int e;
        float m = frexpf(a, &e); /* a = m 2^e, m in [0.5, 1) */
        e = e - 1 + (m >= 0.75f);
        return (uint8_t)(e > 127 ? 254 : e + 127);
    }
    narrow t = narrow_of(d);
    int bits = 1 + t.exp_bits + t.man_bits;
    uint8_t sign = (uint8_t)(signbit(f) ? 1 << (bits - 1) : 0);
    uint8_t nan = t.nan_is_minus_zero ? 0x80 : (uint8_t)(sign | 0x7f);
    if (d == RQ_DTYPE_F4E2M1)
        nan = 8; /* no NaN: becomes -0 */
    if (isnan(f))
        return nan;
    float a = fabsf(f);
    int e = a > 0 && isfinite(a) ? ilogbf(a) : 0;
    if (e < 1 - t.bias)
        e = 1 - t.bias;
    float step = ldexpf(1.0f, e - t.man_bits);
    float r = isfinite(a) ? nearbyintf(a / step) * step : a;
    if (r > t.max) {
        if (!saturate && d != RQ_DTYPE_F4E2M1)
            /* what rounds up out of the top binade is NaN, what lies past it infinity: as ONNX Runtime computes */
            return t.has_inf && !(a < 0x1p16f) ? (uint8_t)(sign | 0x7c) : nan;
        r = t.max;
    }
    if (r == 0)
        return t.nan_is_minus_zero ? 0 : sign;
    e = ilogbf(r);
    uint8_t code;
    if (e < 1 - t.bias)
        code = (uint8_t)(r / ldexpf(1.0f, 1 - t.bias - t.man_bits));
    else
        code = (uint8_t)(((e + t.bias) << t.man_bits) |
                         ((int)(r / ldexpf(1.0f, e - t.man_bits)) & ((1 << t.man_bits) - 1)));
    return (uint8_t)(sign | code);
}
