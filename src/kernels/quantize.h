/* kernels/quantize.h — reals to codes and back, one element at a time: the only rounding in the tree.
 *
 * Everybody who turns a real into a code calls one of these (or the loops of kernels.h, which are these over arrays),
 * so the choices below are made once:
 *   - round half to even, by the default floating-point environment;
 *   - clamp as float *before* converting, so that 1e20, infinities and NaN never reach the conversion, which
 *     differs between CPUs; NaN gives the lowest code, as ONNX Runtime does (docs/onnx-facts.md 2.4);
 *   - the scale is divided by, never multiplied by its reciprocal (but by the rules of kernels/fakequant.h that say so).
 * Where a system rounds after the zero point was added, the function says so in its name (docs/onnx-facts.md 6.3). */
#ifndef RQ_KERNELS_QUANTIZE_H
#define RQ_KERNELS_QUANTIZE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* v rounded half to even and clamped to lo..hi, which are integers of at most 24 bits; NaN gives lo. */
static inline int32_t rq_quantize_clamp(float v, float lo, float hi)
{
    v = v > lo ? v : lo; /* false for NaN */
    v = v < hi ? v : hi;
    return (int32_t)lrintf(v);
}

/* clamp(rne(v) + zp) for v = x / scale: types of up to 16 bits. */
static inline int32_t rq_quantize_real(float v, int32_t zp, int32_t lo, int32_t hi)
{
    return rq_quantize_clamp(v, (float)(lo - zp), (float)(hi - zp)) + zp;
}

/* The definition (docs/onnx-facts.md 2.2): clamp(rne(x / scale) + zp). Any scale: 0, negative, infinite and NaN compute
 * what the formula gives. */
static inline int32_t rq_quantize_one(float x, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    return rq_quantize_real(x / scale, zp, lo, hi);
}

/* The same where the division was made in double, and for codes of up to 32 bits. */
static inline int64_t rq_quantize_real_f64(double v, int64_t zp, int64_t lo, int64_t hi)
{
    double flo = (double)(lo - zp), fhi = (double)(hi - zp);
    v = v > flo ? v : flo;
    v = v < fhi ? v : fhi;
    return (int64_t)llrint(v) + zp;
}

/* The same for codes of up to 16 bits, in a form that compilers make vectors of: adding 1.5 * 2^52 rounds half to even to
 * whole numbers, and taking it away is exact. */
static inline int32_t rq_quantize_wide(double v, int32_t zp, int32_t lo, int32_t hi)
{
    const double flo = lo - zp, fhi = hi - zp, round = 0x1.8p52;
    v = v > flo ? v : flo; /* false for NaN */
    v = v < fhi ? v : fhi;
    return (int32_t)((v + round) - round) + zp;
}

/* clamp(rne(v)) for a v that holds the zero point already: a tie is decided after it was added. QLinearAdd,
 * QLinearMul and QLinearAveragePool of ONNX Runtime, docs/onnx-facts.md 6.3. */
static inline int32_t rq_quantize_zp_inside(float v, int32_t lo, int32_t hi)
{
    return rq_quantize_clamp(v, (float)lo, (float)hi);
}

/* v with the zero point inside, halves away from zero, clamped: how ONNX Runtime's tool rounds weights to few bits
 * (docs/onnx-facts.md 2.10). NaN gives lo. */
static inline int32_t rq_quantize_half_away(float v, int32_t lo, int32_t hi)
{
    v = v > (float)lo ? v : (float)lo;
    v = v < (float)hi ? v : (float)hi;
    return (int32_t)lroundf(v);
}

/* v + 0.5 in f32, clamped, without its fraction: how PyTorch's learnable fake quantization rounds a zero point on the way back
 * (docs/torch-facts.md 2.3). NaN gives lo. */
static inline int32_t rq_quantize_half_up(float v, float lo, float hi)
{
    v += 0.5f;
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    return (int32_t)v;
}

/* An s32 accumulator to a code: clamp(rne(f32(acc) * m) + zp), m = f32(f32(sx * sw) / sy); docs/onnx-facts.md 6.2.
 * f32(acc) rounds above 2^24, as it does there. */
static inline int32_t rq_quantize_acc(int32_t acc, float m, int32_t zp, int32_t lo, int32_t hi)
{
    return rq_quantize_real((float)acc * m, zp, lo, hi);
}

/* A bias that we quantize: rne(b / (sx * sw)) in double, clamped to s32 (docs/onnx-facts.md A3). */
static inline int32_t rq_quantize_bias(float b, float sx, float sw)
{
    return (int32_t)rq_quantize_real_f64((double)b / ((double)sx * (double)sw), 0, INT32_MIN, INT32_MAX);
}

/* A float bias that ONNX Runtime quantizes while it loads a model (docs/onnx-facts.md 5.1 rule 4): the same in f32,
 * where the scale sx * sw is one f32 and so is the quotient. */
static inline int32_t rq_quantize_bias_f32(float b, float sx, float sw)
{
    float s = sx * sw, v = b / s;
    return (int32_t)rq_quantize_real_f64((double)v, 0, INT32_MIN, INT32_MAX);
}

/* ---- fake quantization, where codes stay floats (kernels/fakequant.h) ---- */

/* Where v = x / scale lands before it is clamped: rne(v + inside) + after. One of the two is the zero point, the other -0,
 * which adds nothing, not even to a zero's sign. In f32, as PyTorch adds them. */
static inline float rq_quantize_landing(float v, float inside, float after)
{
    return rintf(v + inside) + after;
}

/* The same where product and sum are rounded once: rne(x * in + inside) + after. What a compiler made of PyTorch's kernels for
 * real zero points (docs/torch-facts.md 2.2). */
static inline float rq_quantize_landing_fused(float x, float in, float inside, float after)
{
    return rintf(fmaf(x, in, inside)) + after;
}

static inline double rq_quantize_landing_f64(double v, double inside, double after)
{
    return rint(v + inside) + after;
}

/* A landing t as a code in lo..hi that is still a float. NaN stays; infinities saturate. */
static inline float rq_quantize_within(float t, float lo, float hi)
{
    t = t < lo ? lo : t;
    return t > hi ? hi : t;
}

static inline double rq_quantize_within_f64(double t, double lo, double hi)
{
    t = t < lo ? lo : t;
    return t > hi ? hi : t;
}

/* PyTorch takes t to a 64-bit integer before it clamps: NaN, +infinity and what is 2^63 or more become the most negative
 * one there, and so the lowest code. True for these. */
static inline bool rq_quantize_wraps(double t)
{
    return !(t < 0x1p63);
}

/* v on the grid of a float type of `mantissa` bits whose smallest normal number is 2^least, half to even, no larger than `most`
 * (infinities neither); NaN stays. A number keeps its upper bits; below 2^least, adding 1.5 * 2^23 steps leaves whole steps. */
static inline float rq_quantize_float(float v, int mantissa, int least, float most)
{
    const union {
        float f;
        uint32_t u;
    } a = { .f = fabsf(v) }, round = { .u = (uint32_t)(127 + 23 + least - mantissa) << 23 | 0x400000 },
      normal = { .u = (uint32_t)(127 + least) << 23 };
    const int drop = 23 - mantissa;
    union {
        uint32_t u;
        float f;
    } r = { .u = (a.u + ((1u << (drop - 1)) - 1) + (a.u >> drop & 1)) >> drop << drop };
    const float below = (a.f + round.f) - round.f;
    float y = a.f < normal.f ? below : r.f;
    y = y > most ? most : y;
    return v == v ? copysignf(y, v) : v;
}

/* (q - zp) * scale: subtracted exactly, rounded to f32 once, one multiplication (docs/onnx-facts.md 2.3). */
static inline float rq_dequantize_one(int32_t q, float scale, int32_t zp)
{
    return (float)((int64_t)q - zp) * scale;
}

#endif
