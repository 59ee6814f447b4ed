/* kernels/fakequant.h — fake quantization of one element, with every choice that systems make differently as a number.
 *
 *   v    = x * in   or x / in                       PyTorch: in = 1 / scale; ONNX: / scale; NVIDIA: * (qmax / amax)
 *   t    = rne(v + inside) + after                  the landing: where rounding puts it (one of both is the zero point)
 *   mask = lo <= t <= hi                            false for NaN
 *   c    = clamp(t, lo, hi)                         compat: lo for NaN, +inf and t >= 2^63; else NaN stays NaN
 *   y    = (c + back) * out   or / out              back = -zero point
 *
 * Codes stay floats: lo and hi have at most 17 bits, the zero point 24, so all sums with them are exact. A zero point that
 * is not there is -0: x + -0 is x, also for zeros, so a zero keeps its sign where the system keeps it (those that compute in
 * floats), and becomes +0 where codes are integers there (+0 is added). */
#ifndef RQ_KERNELS_FAKEQUANT_H
#define RQ_KERNELS_FAKEQUANT_H

#include "kernels/quantize.h"

#include <stddef.h>

typedef struct rq_fakequant {
    float in, out;
    float inside, after, back;
    float lo, hi;
    bool divide;   /* x / in */
    bool undivide; /* c / out */
    bool compat;
    bool
        wide; /* zero points are real numbers: x * in + inside is rounded once, and y, in f64, too (docs/torch-facts.md 2.2) */
    bool zp_inside; /* zp_row stands for `inside`, not for `after` */
    bool relu;   /* of max(x, 0) in place of x; the mask says 2 where that is 0 (blocked: no gradient passes there) */
    bool stream; /* what is written passes the caches by, where the CPU can: the caller says it is larger than they are,
                       is not read by the call, and calls stream_end afterwards. No result depends on it */
    /* Element i has numbers of its own, in place of in, out and the zero point: a row along the channels. All NULL or in_row
     * and out_row not; zp_row NULL: inside, after and back hold for all. */
    const float *in_row, *out_row, *zp_row; /* [n] */
} rq_fakequant;

/* e, a copy of *p, gets the numbers of element i. */
static inline void rq_fakequant_move(rq_fakequant *e, const rq_fakequant *p, size_t i)
{
    if (!p->in_row)
        return;
    e->in = p->in_row[i];
    e->out = p->out_row[i];
    if (p->zp_row) {
        *(p->zp_inside ? &e->inside : &e->after) = p->zp_row[i];
        e->back = -p->zp_row[i];
    }
}

/* x over its scale, given the numbers of its element. */
static inline float rq_fakequant_scaled(float x, const rq_fakequant *e)
{
    return e->divide ? x / e->in : x * e->in;
}

/* Where x lands. */
static inline float rq_fakequant_landing(float x, const rq_fakequant *e)
{
    return e->wide && !e->divide ? rq_quantize_landing_fused(x, e->in, e->inside, e->after)
                                 : rq_quantize_landing(rq_fakequant_scaled(x, e), e->inside, e->after);
}

static inline bool rq_fakequant_passes(float t, const rq_fakequant *e)
{
    return t >= e->lo && t <= e->hi;
}

/* The code of landing t, a float; NaN without compat where t is. */
static inline float rq_fakequant_code(float t, const rq_fakequant *e)
{
    return e->compat && rq_quantize_wraps(t) ? e->lo : rq_quantize_within(t, e->lo, e->hi);
}

/* The same as an integer: NaN is lo. */
static inline int32_t rq_fakequant_integer(float t, const rq_fakequant *e)
{
    const float c = rq_fakequant_code(t, e);
    return (int32_t)(c == c ? c : e->lo);
}

/* What code c means. */
static inline double rq_fakequant_real_f64(double c, const rq_fakequant *e)
{
    const double d = c + (double)e->back;
    return e->undivide ? d / (double)e->out : d * (double)e->out;
}

static inline float rq_fakequant_real(float c, const rq_fakequant *e)
{
    if (e->wide)
        return (float)rq_fakequant_real_f64((double)c, e);
    const float d = c + e->back;
    return e->undivide ? d / e->out : d * e->out;
}

/* Not in the table, of one version: codes of up to 16 bits as integers, and doubles, by the same formula in f64 (in, out
 * and the zero point are f32). */
void rq_fakequant_integers(int32_t *q, const float *x, size_t n, const rq_fakequant *p);
void rq_fakequant_integers_f64(int32_t *q, const double *x, size_t n, const rq_fakequant *p);
void rq_fakequant_f64(double *y, uint8_t *mask, const double *x, size_t n, const rq_fakequant *p);
void rq_fakequant_grad_f64(double *dx, const double *dy, const double *x, size_t n, const rq_fakequant *p);

#endif
