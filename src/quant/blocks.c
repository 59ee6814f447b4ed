/* quant/blocks.c — see blocks.h. The search for the least squared error: the range is shrunk step by step, and each time the
 * scale that fits the codes best in the sense of least squares is tried as well. */
#include "quant/blocks.h"

#include <math.h>

#include "kernels/quantize.h"
#include "quant/calibrate.h"

typedef struct choice {
    float scale;
    int32_t zero;
    double error;
} choice;

typedef struct search {
    const float *x;
    int64_t n;
    int32_t lo, hi; /* codes */
} search;

/* Sum of squared errors with this scale and zero; *fit (may be NULL): the scale that is best for these codes. */
static double error_of(const search *s, float scale, int32_t zero, double *fit)
{
    double error = 0, xc = 0, cc = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const double c = rq_quantize_one(s->x[i], scale, zero, s->lo, s->hi) - zero, e = s->x[i] - c * (double)scale;
        error += e * e;
        xc += c * s->x[i];
        cc += c * c;
    }
    if (fit)
        *fit = cc > 0 ? xc / cc : 0;
    return error;
}

static void consider(const search *s, float scale, int32_t zero, choice *best)
{
    double fit;
    if (!(scale >= 1.17549435e-38f))
        return;
    double e = error_of(s, scale, zero, &fit);
    if (e < best->error)
        *best = (choice) { scale, zero, e };
    const float fitted = (float)fit;
    if (!(fitted >= 1.17549435e-38f) || fitted == scale)
        return;
    e = error_of(s, fitted, zero, NULL);
    if (e < best->error)
        *best = (choice) { fitted, zero, e };
}

static rq_range range_of(const float *x, int64_t n)
{
    rq_range r = { 0, 0 };
    for (int64_t i = 0; i < n; i++) {
        r.lo = x[i] < r.lo ? x[i] : r.lo;
        r.hi = x[i] > r.hi ? x[i] : r.hi;
    }
    return r;
}

/* Ranges from all of it down to half of it: with 256 codes the best one is never far from all. Few symmetric codes: first the range
 * in which both ends are codes, which is wider, as there is one code more below zero than above. */
static choice least_error(const search *s, rq_range r, const rq_code_form *form, choice first)
{
    const int bits = rq_dtype_bits(form->dtype), steps = bits == 8 ? 8 : 24;
    const double least = bits == 8 ? 0.8 : 0.4, codes = 1 << bits,
                 most = form->symmetric && bits < 8 ? (codes - 1) / (codes - 2) : 1;
    choice best = first;
    best.error = error_of(s, best.scale, best.zero, NULL);
    consider(s, first.scale, first.zero, &best);
    for (int i = most > 1 ? 0 : 1; i <= steps && best.error > 0; i++) {
        const double f = most - (most - least) * i / steps;
        const rq_range shrunk = { r.lo * f, r.hi * f };
        float scale;
        int32_t zero;
        rq_calibrate_codes(shrunk, form, &scale, &zero);
        consider(s, scale, zero, &best);
    }
    return best;
}

static void quantize_group(rq_blocks *b, int64_t at, rq_weight_method method, const rq_code_form *form)
{
    int64_t lo, hi;
    rq_dtype_limits(form->dtype, &lo, &hi);
    const search s = { .x = b->x + at * b->len, .n = b->len, .lo = (int32_t)lo, .hi = (int32_t)hi };
    const rq_range r = range_of(s.x, s.n);
    choice c = { .error = 0 };
    rq_calibrate_codes(r, form, &c.scale, &c.zero);
    if (method == RQ_WEIGHTS_MSE && (r.lo < 0 || r.hi > 0))
        c = least_error(&s, r, form, c);
    b->scale[at] = c.scale;
    b->zero[at] = (float)c.zero;
    for (int64_t i = 0; i < s.n; i++)
        b->code[at * b->len + i] = rq_quantize_one(s.x[i], c.scale, c.zero, s.lo, s.hi);
}

rq_status rq_blocks_quantize(rq_blocks *b, rq_weight_method method, const rq_code_form *form)
{
    const int32_t most = (1 << rq_dtype_bits(form->dtype)) - 1;
    switch (method) {
    case RQ_WEIGHTS_ORT:
        rq_blocks_ort(b, most, form->symmetric);
        return RQ_OK;
    case RQ_WEIGHTS_RTN:
        rq_blocks_rtn(b, most, form->symmetric);
        return RQ_OK;
    case RQ_WEIGHTS_K_QUANT:
        return rq_blocks_k_quant(b, most);
    case RQ_WEIGHTS_HQQ:
        rq_blocks_hqq(b, most);
        return RQ_OK;
    default:
        for (int64_t i = 0; i < b->n; i++)
            quantize_group(b, i, method, form);
        return RQ_OK;
    }
}
