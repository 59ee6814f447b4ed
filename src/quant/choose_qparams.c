/* quant/choose_qparams.c — from a range of reals to a scale and a zero point, by the rule of each system: requant/qparams.h says which, and
 * each rule here is one function that follows its original operation by operation, in the original's precision. What the originals leave
 * undefined (a scale of 0, overflow) is settled after them, in one place, unless `compat` wants what they give. */
#include <float.h>
#include <math.h>

#include "base/libm.h"
#include "quant/calibrate.h"
#include "requant/qparams.h"

/* What a rule works on, and its answer. */
typedef struct choice {
    const rq_qparams_rule *r;
    float lo, hi;       /* as given */
    float below, above; /* min(lo, 0), max(hi, 0) */
    int64_t qn, qp;
    bool symmetric;
    float scale;
    double zero;
} choice;

rq_qparams_rule rq_qparams_rule_of(rq_qparams_kind kind, rq_qtype type, rq_qscheme scheme)
{
    return (rq_qparams_rule) { .kind = kind, .type = type, .scheme = scheme, .eps = FLT_EPSILON };
}

/* PyTorch halves what was asked for, or the ranges of its 8-bit types. */
static bool is_reduced(const rq_qparams_rule *r)
{
    return r->reduce_range && (r->kind != RQ_QPARAMS_OBSERVER || r->custom_range || rq_dtype_bits(r->type.dtype) == 8);
}

static rq_qtype without_the_odd_one(rq_qtype t)
{
    if (((int64_t)t.hi - t.lo) % 2 == 0)
        return t;
    if (t.lo < 0)
        t.lo++;
    else
        t.hi--;
    return t;
}

rq_qtype rq_qparams_codes(const rq_qparams_rule *r)
{
    rq_qtype t = r->type;
    const bool symmetric = rq_qscheme_is_symmetric(r->scheme);
    if (is_reduced(r)) {
        if (r->kind == RQ_QPARAMS_CQP) /* C's division, towards zero */
            return (rq_qtype) { t.dtype, t.lo / 2, t.hi / 2 };
        t = rq_qtype_reduced(&t);
    }
    if (symmetric &&
        (r->kind == RQ_QPARAMS_PTQ || (r->kind == RQ_QPARAMS_ONNX && t.lo < 0 && rq_dtype_bits(t.dtype) >= 8)))
        t = without_the_odd_one(t);
    return t;
}

rq_status rq_qparams_rule_check(const rq_qparams_rule *r, rq_err *err)
{
    char text[RQ_QTYPE_TEXT];
    if ((unsigned)r->kind >= RQ_N_QPARAMS_KINDS || (unsigned)r->scheme >= RQ_N_QSCHEMES)
        return rq_fail(err, RQ_BAD_ARG, "no rule has number %d, or no scheme number %d", (int)r->kind, (int)r->scheme);
    RQ_TRY(rq_qtype_check(&r->type, err));
    if (rq_qtype_is_float(&r->type) && r->kind != RQ_QPARAMS_AMAX)
        return rq_fail(err, RQ_BAD_DTYPE, "%s has no zero points: expected an integer type",
                       rq_qtype_text(&r->type, text, sizeof text));
    if (!(r->eps >= 0 && r->eps < INFINITY))
        return rq_fail(err, RQ_BAD_ARG, "eps is %g, expected a number from 0 up", (double)r->eps);
    if (r->scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS && r->kind != RQ_QPARAMS_OBSERVER)
        return rq_fail(err, RQ_BAD_ARG, "zero points that are reals are of PyTorch's observers only");
    const rq_qtype codes = rq_qparams_codes(r);
    if (codes.lo >= codes.hi && !rq_qtype_is_float(&codes))
        return rq_fail(err, RQ_BAD_ARG, "%s leaves no two codes", rq_qtype_text(&r->type, text, sizeof text));
    return RQ_OK;
}

/* a / n in f32; where it overflows on the way, from double, unless the original's infinity is wanted. */
static float ratio(const choice *c, double exact, float a, float n)
{
    const float s = a / n;
    return c->r->compat || isfinite(s) ? s : (float)fmin(exact / n, FLT_MAX);
}

static float width(const choice *c, float lo, float hi, float n)
{
    return ratio(c, (double)hi - lo, hi - lo, n);
}

/* Up to the next power of two, so that nothing is clipped that was not before. */
static double power_of_two(double s)
{
    int e;
    if (!(s > 0 && s < INFINITY))
        return s;
    return frexp(s, &e) == 0.5 ? s : ldexp(1, e);
}

/* ---- PyTorch's observers ---- */

/* Where real zero lies among symmetric codes. */
static double middle(const choice *c)
{
    const rq_qtype *t = &c->r->type;
    const int64_t half = (c->qp - c->qn + 1) / 2;
    if (!c->r->compat)
        return c->qn < 0 ? 0 : (double)(c->qn + half);
    if (t->dtype == RQ_DTYPE_U8)
        return c->r->custom_range ? floor((double)(c->qn + c->qp) / 2) : 128;
    return t->dtype == RQ_DTYPE_U16 ? 32768 : 0;
}

/* f32 to s32 as x86 converts: what does not fit is the least number. */
static int32_t wrapped(float v)
{
    return v >= -2147483648.0f && v < 2147483648.0f ? (int32_t)v : INT32_MIN;
}

static void by_observer(choice *c)
{
    const rq_qparams_rule *r = c->r;
    const float eps = r->compat ? r->eps : fmaxf(r->eps, FLT_MIN), n = (float)(c->qp - c->qn);
    if (r->scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS) {
        c->scale = width(c, c->lo, c->hi, n);
        c->scale = c->scale > eps ? c->scale : 1;
        c->zero = -1 * c->lo / c->scale;
        return;
    }
    if (c->symmetric)
        c->scale = fmaxf(-c->below, c->above) / (float)((double)(c->qp - c->qn) / 2);
    else
        c->scale = width(c, c->below, c->above, n);
    if (c->symmetric)
        c->zero = middle(c);
    c->scale = c->scale > eps ? c->scale : eps;
    if (r->power_of_two)
        c->scale = (float)power_of_two(c->scale);
    if (c->symmetric)
        return;
    const float steps = rintf(c->below / c->scale);
    c->zero = r->compat ? (int32_t)((uint32_t)c->qn - (uint32_t)wrapped(steps)) : (double)c->qn - steps;
}

/* ---- PyTorch's ChooseQuantizationParams ---- */

/* As written there: by logarithms, and shifts of 32-bit integers. */
static double power_by_shift(double s)
{
    const double e = rq_libm_log(s < 1 ? 1 / s : s) / rq_libm_log(2);
    const int32_t power = (int32_t)(UINT32_C(1) << ((uint32_t)(int32_t)(s < 1 ? floor(e) : ceil(e)) & 31));
    return s < 1 ? 1.0 / power : power;
}

static const float least_scale = 6.1e-5f;

/* A scale below the least becomes that, and the range grows with it. */
static void cut_off(double *s, float *lo, float *hi, int64_t n)
{
    const float was = (float)*s;
    if (*lo == 0) {
        *hi = least_scale * (float)n;
    } else if (*hi == 0) {
        *lo = -least_scale * (float)n;
    } else {
        const float amplifier = least_scale / was;
        *lo *= amplifier;
        *hi *= amplifier;
    }
    *s = least_scale;
}

static void by_cqp(choice *c)
{
    const int64_t n = c->qp - c->qn;
    float lo = c->lo, hi = c->hi;
    const bool both = lo < 0 && hi > 0, sparse = c->symmetric && (both || !c->r->compat);
    if (sparse) {
        const int64_t half = n / 2;
        const float a = (float)-(half + 1), b = (float)half;
        const double most = (double)fmaxf(fabsf(lo / a), fabsf(hi / b));
        lo = (float)(most * a);
        hi = (float)(most * b);
    }
    lo = fminf(lo, 0);
    hi = fmaxf(hi, 0);
    if (!c->r->compat) { /* half a code beyond the largest f32 */
        lo = fmaxf(lo, -FLT_MAX);
        hi = fminf(hi, FLT_MAX);
    }
    double s = ((double)hi - lo) / (double)n;
    if ((float)s == 0 || isinf(1 / (float)s))
        s = 0.1;
    if (c->r->power_of_two && c->r->compat)
        s = power_by_shift(s);
    if (s < least_scale)
        cut_off(&s, &lo, &hi, n);
    if (c->r->power_of_two && !c->r->compat) /* last, so that it is one */
        s = power_of_two(s);
    const double down = lo / s, up = hi / s;
    /* the end whose zero point is closer to a whole number; PyTorch subtracts where FBGEMM, whose rule this is, adds */
    const double sign = c->r->compat ? -1 : 1;
    const double by_lo = fabs((double)c->qn) + sign * fabs(down), by_hi = fabs((double)c->qp) + sign * fabs(up);
    c->zero = by_lo < by_hi ? (double)c->qn - down : (double)c->qp - up;
    if (c->symmetric && (!c->r->compat || (lo < 0 && hi > 0)))
        c->zero = (double)(c->qn + c->qp) / 2;
    c->zero = rint(fmin(fmax(c->zero, (double)c->qn), (double)c->qp));
    c->scale = (float)s;
}

/* ---- Core ML Tools' weights ---- */

static void by_ptq(choice *c)
{
    const float n = (float)(c->qp - c->qn);
    if (c->symmetric) {
        const float most = fmaxf(fabsf(c->lo), fabsf(c->hi));
        const int64_t half = c->qp / 2;
        c->scale = width(c, -most, most, n);
        c->zero = c->qn < 0 ? 0 : (double)half;
        return;
    }
    c->scale = width(c, c->below, c->above, n);
    float zero = ((float)c->qn * c->above - (float)c->qp * c->below) / (c->above - c->below);
    if (!c->r->compat && !isfinite(zero)) /* overflow, or no width */
        zero = c->above > c->below
                   ? (float)(((double)c->qn * c->above - (double)c->qp * c->below) / ((double)c->above - c->below))
                   : 0;
    c->zero = isnan(zero) ? 0 : rintf(zero);
}

static void by_layerwise(choice *c)
{
    const int64_t n = c->qp - c->qn, half = (n + 1) / 2;
    float lo = c->below, hi = c->above;
    if (c->symmetric) {
        hi = fmaxf(-lo, hi);
        lo = lo < 0 || !c->r->compat ? -hi : lo;
    }
    if (lo == 0 && hi == 0) {
        lo = -1;
        hi = 1;
    }
    c->scale = c->r->normal_float ? fmaxf(hi, -lo) : width(c, lo, hi, (float)n);
    c->zero = (double)c->qn + (c->symmetric ? (double)half : rintf(-lo / c->scale));
}

/* ---- magnitudes ---- */

static void by_amax(choice *c)
{
    const float most = fmaxf(fabsf(c->lo), fabsf(c->hi));
    const float top = c->r->type.dtype == RQ_DTYPE_F8E4M3FN ? 448
                      : c->r->type.dtype == RQ_DTYPE_F8E5M2 ? 57344
                                                            : (float)c->qp;
    c->scale = most / top;
    if (c->scale == 0)
        c->scale = 1;
}

/* ---- together ---- */

static void by_onnx(choice *c)
{
    rq_calibrate_between((rq_range) { c->lo, c->hi }, c->qn, c->qp, c->symmetric, &c->scale, &c->zero);
}

/* Rules with the power of two in them, or in front of their zero point, did it themselves. */
static void settle(choice *c, void (*rule)(choice *))
{
    rule(c);
    if (!c->r->compat && !(c->scale >= FLT_MIN)) {
        c->scale = 1;
        c->zero = c->symmetric ? c->zero : fmin(fmax(0, (double)c->qn), (double)c->qp);
    }
    if (!c->r->compat)
        c->scale = fminf(c->scale, FLT_MAX);
    if (!c->r->power_of_two || c->r->kind == RQ_QPARAMS_OBSERVER || c->r->kind == RQ_QPARAMS_CQP)
        return;
    c->scale = (float)fmin(power_of_two(c->scale), 0x1p127);
    if (!c->symmetric && c->r->kind != RQ_QPARAMS_AMAX)
        c->zero = rint((double)c->qn - (double)c->below / c->scale);
}

rq_status rq_qparams_choose(float lo, float hi, const rq_qparams_rule *r, float *scale, int32_t *zero_point,
                            float *zero_point_f)
{
    static void (*const rules[RQ_N_QPARAMS_KINDS])(choice *) = {
        [RQ_QPARAMS_OBSERVER] = by_observer,   [RQ_QPARAMS_CQP] = by_cqp,   [RQ_QPARAMS_PTQ] = by_ptq,
        [RQ_QPARAMS_LAYERWISE] = by_layerwise, [RQ_QPARAMS_AMAX] = by_amax, [RQ_QPARAMS_ONNX] = by_onnx,
    };
    const rq_qtype codes = rq_qparams_codes(r);
    if (!(lo <= hi) || (!r->compat && !(isfinite(lo) && isfinite(hi))))
        return RQ_NUMERIC;
    choice c = {
        .r = r,
        .lo = lo,
        .hi = hi,
        .below = fminf(lo, 0),
        .above = fmaxf(hi, 0),
        .qn = codes.lo,
        .qp = codes.hi,
        .symmetric = rq_qscheme_is_symmetric(r->scheme),
    };
    settle(&c, rules[r->kind]);
    *scale = c.scale;
    if (zero_point_f)
        *zero_point_f = (float)c.zero;
    /* Core ML Tools' middle of reduced codes is above them (compat), reals are where they are; the layer-wise quantizer's is beyond the
     * codes only for what never occurs there */
    const bool anywhere = r->compat && c.symmetric && r->kind == RQ_QPARAMS_OBSERVER;
    const double zero = anywhere ? c.zero : fmin(fmax(c.zero, (double)c.qn), (double)c.qp);
    if (r->scheme != RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS && zero_point_f)
        *zero_point_f = (float)zero;
    if (zero_point)
        *zero_point = (int32_t)rint(zero);
    return RQ_OK;
}
