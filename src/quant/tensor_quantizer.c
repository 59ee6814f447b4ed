/* quant/tensor_quantizer.c — the quantizer of one tensor, forward and backward; see requant/tensor_quantizer.h. The arithmetic is that of
 * tensor_quant.c, clip.c and reduce_amax.c; here is the order of it. What is computed from x goes to y first, and on in place. */
#include "quant/tensor_quantizer.h"

#include <math.h>

#include "base/mem.h"
#include "quant/amax_fit.h"
#include "quant/exec.h"
#include "tensor/strided.h"

enum { TILE = 1024 };

rq_tensor_quantizer_cfg rq_tensor_quantizer_defaults(void)
{
    return (rq_tensor_quantizer_cfg) { .if_quant = true };
}

/* ---- making ---- */

static rq_status make_calibrator(rq_tensor_quantizer *q, const rq_own_calibrator *own, rq_err *err)
{
    const rq_quant_desc *d = &q->desc;
    rq_calibrator_cfg c = rq_calibrator_defaults(own ? RQ_CALIBRATOR_OWN : d->calib_method);
    c.own = own;
    c.is_unsigned = d->is_unsigned;
    c.e4m3 = d->e4m3;
    c.narrow_range = d->narrow_range;
    c.compat = q->compat;
    if (c.kind == RQ_CALIBRATOR_HISTOGRAM && !d->e4m3)
        c.num_bits = d->num_bits; /* a maximum needs no width, so it may be one that no function takes */
    c.n_axes = d->n_axes;
    for (int i = 0; i < d->n_axes; i++)
        c.axis[i] = d->axis[i];
    return rq_calibrator_create(&q->calibrator, &c, err);
}

rq_status rq_tensor_quantizer_create(rq_tensor_quantizer **out, const rq_quant_desc *desc,
                                     const rq_tensor_quantizer_cfg *cfg, rq_err *err)
{
    const rq_tensor_quantizer_cfg ours = rq_tensor_quantizer_defaults();
    rq_quant_desc plain;
    rq_quant_desc_init(&plain);
    cfg = cfg ? cfg : &ours;
    desc = desc ? desc : &plain;
    RQ_TRY(rq_quant_desc_check(desc, err));
    rq_tensor_quantizer *q = rq_mem_zalloc(1, sizeof *q);
    if (!q)
        return rq_fail(err, RQ_NO_MEMORY, "no memory for a quantizer");
    q->disabled = cfg->disabled;
    q->if_quant = cfg->if_quant;
    q->if_clip = cfg->if_clip || desc->learn_amax;
    q->if_calib = cfg->if_calib;
    q->pass_through = cfg->pass_through;
    q->compat = cfg->compat;
    const float a = desc->amax.dtype == RQ_DTYPE_NONE ? 1 : desc->learn_amax ? desc->amax.f32[0] : 0;
    q->lo = -a;
    q->hi = a;
    rq_status st = rq_quant_desc_copy(&q->desc, desc);
    if (st)
        rq_fail(err, st, "no memory for a descriptor");
    if (!st && desc->amax.dtype != RQ_DTYPE_NONE)
        st = rq_tensor_quantizer_set_amax(q, &desc->amax, err);
    if (!st)
        st = make_calibrator(q, cfg->own, err);
    if (st) {
        rq_tensor_quantizer_destroy(q);
        return st;
    }
    *out = q;
    return RQ_OK;
}

void rq_tensor_quantizer_destroy(rq_tensor_quantizer *q)
{
    if (!q)
        return;
    rq_quant_desc_release(&q->desc);
    rq_calibrator_destroy(q->calibrator);
    rq_tensor_release(&q->amax);
    rq_tensor_release(&q->pre_quant_scale);
    rq_tensor_release(&q->scale);
    rq_mem_free(q);
}

/* ---- y = x * s, or a copy ---- */

typedef struct scale_job {
    const rq_strided *y, *x;
    const rq_strided *s; /* spread over x; NULL: a copy */
} scale_job;

static void scale_tile(void *arg, int64_t i)
{
    const scale_job *j = arg;
    double x[TILE], s[TILE];
    const int64_t left = rq_shape_count(&j->x->shape) - i * TILE, n = left < TILE ? left : TILE, at = i * TILE;
    rq_strided_read_f64(j->x, at, n, x);
    if (j->s) { /* a product of two f32 is exact here, so writing it rounds once */
        rq_strided_read_f64(j->s, at, n, s);
        for (int64_t k = 0; k < n; k++)
            x[k] *= s[k];
    }
    rq_strided_write_f64(j->y, at, n, x);
}

static rq_status scale_into(rq_exec *e, const rq_strided *y, const rq_strided *x, const rq_tensor *s, rq_err *err)
{
    scale_job j = { .y = y, .x = x };
    rq_strided spread;
    if (s) {
        const rq_strided own = rq_strided_of(s);
        spread = own;
        spread.shape = x->shape;
        RQ_TRY(rq_amax_fit_broadcast(spread.stride, &x->shape, &own, "pre_quant_scale", err));
        j.s = &spread;
    }
    rq_threads_for(rq_exec_pool(e), (rq_shape_count(&x->shape) + TILE - 1) / TILE, scale_tile, &j);
    return RQ_OK;
}

/* ---- which amax ---- */

/* The axes that are folded, of those that the descriptor does not keep. */
static rq_status folded(rq_reduce_amax_cfg *c, const rq_quant_desc *d, int rank, rq_err *err)
{
    bool kept[RQ_MAX_RANK] = { false };
    for (int i = 0; i < d->n_axes; i++) {
        int at;
        RQ_TRY(rq_amax_fit_axis(&at, d->axis[i], rank, err));
        if (kept[at])
            return rq_fail(err, RQ_BAD_ARG, "axis %d is there twice", at);
        kept[at] = true;
    }
    c->n_axes = 0;
    for (int i = 0; i < rank; i++)
        if (!kept[i])
            c->axis[c->n_axes++] = i;
    if (c->n_axes == 0 && rank > 0)
        c->n_axes = -1; /* every axis is kept */
    return RQ_OK;
}

/* *out, the caller's to release, is the amax that x is quantized with; *bad how many elements it leaves out. */
static rq_status find_amax(const rq_tensor_quantizer *q, rq_exec *e, rq_tensor *out, uint64_t *bad, const rq_strided *x,
                           rq_err *err)
{
    rq_reduce_amax_cfg c = { .keepdims = true, .compat = q->compat };
    rq_reduce_amax_info info = { 0 };
    RQ_TRY(folded(&c, &q->desc, x->shape.rank, err));
    if (q->amax.dtype == RQ_DTYPE_NONE) {
        RQ_TRY(rq_reduce_amax(e, out, x, &c, &info, err));
        *bad = q->compat ? 0 : info.nan + info.infinite;
    } else if (rq_tensor_copy(out, &q->amax)) {
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %lld amaxs", (long long)rq_tensor_count(&q->amax));
    }
    for (int64_t i = 0; q->desc.has_scale_amax && i < rq_tensor_count(out); i++)
        if (out->dtype == RQ_DTYPE_F64)
            out->f64[i] *= q->desc.scale_amax;
        else
            out->f32[i] *= (float)q->desc.scale_amax;
    return RQ_OK;
}

/* The axis that amax lies along, where it is said. */
static int amax_axis(const rq_quant_desc *d, int rank)
{
    return d->n_axes != 1 ? RQ_PER_TENSOR : d->axis[0] < 0 ? d->axis[0] + rank : d->axis[0];
}

static rq_tensor_quant_cfg functions_cfg(const rq_tensor_quantizer *q, int rank)
{
    return (rq_tensor_quant_cfg) {
        .num_bits = q->desc.num_bits,
        .is_unsigned = q->desc.is_unsigned,
        .narrow_range = q->desc.narrow_range || (q->compat && !q->desc.fake_quant),
        .axis = amax_axis(&q->desc, rank),
        .compat = q->compat,
    };
}

/* ---- forward ---- */

static rq_status clip_into(const rq_tensor_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *x,
                           rq_err *err)
{
    float lo = q->lo, hi = q->hi;
    const rq_strided sl = rq_strided_vector(&lo, 1), sh = rq_strided_vector(&hi, 1);
    if (!q->desc.learn_amax)
        return rq_fail(err, RQ_BAD_ARG, "learn_amax is False: there are no bounds to clip with");
    return rq_clip(e, y, x, &sl, &sh, err);
}

static rq_status quantize_with(rq_tensor_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *x,
                               const rq_tensor *amax, rq_err *err)
{
    const rq_strided a = rq_strided_of(amax);
    const rq_tensor_quant_cfg c = functions_cfg(q, x->shape.rank);
    if (q->desc.e4m3) {
        rq_scaled_e4m3_cfg f = rq_scaled_e4m3_defaults();
        f.axis = c.axis;
        return rq_scaled_e4m3(e, y, x, &a, &f, err);
    }
    if (q->desc.fake_quant)
        return rq_fake_tensor_quant(e, y, x, &a, &c, err);
    rq_tensor s;
    if (rq_tensor_create(&s, RQ_DTYPE_F32, &amax->shape, false))
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %lld scales", (long long)rq_tensor_count(amax));
    const rq_strided ss = rq_strided_of(&s);
    const rq_status st = rq_tensor_quant(e, y, &ss, x, &a, &c, err);
    if (st) {
        rq_tensor_release(&s);
        return st;
    }
    rq_tensor_release(&q->scale);
    q->scale = s;
    return RQ_OK;
}

static rq_tensor learned_amax(const rq_tensor_quantizer *q, float *amax)
{
    const rq_shape one = { .rank = 0 };
    *amax = fmaxf(-q->lo, q->hi);
    return rq_tensor_view(RQ_DTYPE_F32, &one, amax);
}

static rq_status quantize(rq_tensor_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *x, rq_err *err)
{
    if (q->desc.learn_amax && !q->desc.e4m3) {
        float most;
        const rq_tensor amax = learned_amax(q, &most);
        RQ_TRY(clip_into(q, e, y, x, err));
        return quantize_with(q, e, y, y, &amax, err);
    }
    rq_tensor amax;
    uint64_t bad = 0;
    RQ_TRY(find_amax(q, e, &amax, &bad, x, err));
    const rq_status st = quantize_with(q, e, y, x, &amax, err);
    q->bad += st ? 0 : bad;
    rq_tensor_release(&amax);
    return st;
}

rq_status rq_tensor_quantizer_forward(rq_tensor_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *x,
                                      rq_err *err)
{
    RQ_TRY(rq_strided_check(x, "x", true, err));
    RQ_TRY(rq_strided_check_like(y, "y", x, "x", true, err));
    if (q->pre_quant_scale.dtype != RQ_DTYPE_NONE) {
        RQ_TRY(scale_into(e, y, x, &q->pre_quant_scale, err));
        x = y;
    }
    if (!q->disabled && q->if_calib)
        RQ_TRY(rq_calibrator_collect(q->calibrator, e, x, err));
    if (!q->disabled && q->if_clip && !q->desc.learn_amax)
        return clip_into(q, e, y, x, err); /* says why not */
    if (!q->disabled && q->if_quant)
        return quantize(q, e, y, x, err);
    if (!q->disabled && q->if_clip)
        return clip_into(q, e, y, x, err);
    return x == y ? RQ_OK : scale_into(e, y, x, NULL, err);
}

/* ---- backward ---- */

static rq_status clip_backward(const rq_tensor_quantizer *q, rq_exec *e, const rq_strided *dx, double *dlo, double *dhi,
                               const rq_strided *dy, const rq_strided *x, rq_err *err)
{
    float lo = q->lo, hi = q->hi;
    const rq_strided sl = rq_strided_vector(&lo, 1), sh = rq_strided_vector(&hi, 1);
    RQ_TRY(rq_clip_backward(e, dx, dlo, dhi, dy, x, &sl, &sh, err));
    if (!q->if_clip)
        *dlo = *dhi = 0; /* frozen */
    return RQ_OK;
}

/* The quantized x is clip(x): straight through the rounding, then through the clip. */
static rq_status learned_backward(const rq_tensor_quantizer *q, rq_exec *e, const rq_strided *dx, double *dlo,
                                  double *dhi, const rq_strided *dy, const rq_strided *x, rq_err *err)
{
    float most;
    const rq_tensor amax = learned_amax(q, &most);
    const rq_strided a = rq_strided_of(&amax);
    rq_tensor clipped;
    if (rq_tensor_create(&clipped, x->dtype, &x->shape, false))
        return rq_fail(err, RQ_NO_MEMORY, "no memory for what was clipped");
    const rq_strided c = rq_strided_of(&clipped);
    rq_status st = clip_into(q, e, &c, x, err);
    if (!st)
        st = rq_tensor_quant_backward(e, dx, dy, &c, &a, NULL, err);
    if (!st)
        st = clip_backward(q, e, dx, dlo, dhi, dx, x, err);
    rq_tensor_release(&clipped);
    return st;
}

static rq_status quantize_backward(const rq_tensor_quantizer *q, rq_exec *e, const rq_strided *dx, double *dlo,
                                   double *dhi, const rq_strided *dy, const rq_strided *x, rq_err *err)
{
    if (q->desc.learn_amax && !q->desc.e4m3)
        return q->pass_through ? clip_backward(q, e, dx, dlo, dhi, dy, x, err)
                               : learned_backward(q, e, dx, dlo, dhi, dy, x, err);
    if (q->pass_through)
        return scale_into(e, dx, dy, NULL, err);
    const rq_tensor_quant_cfg c = functions_cfg(q, x->shape.rank);
    rq_tensor amax;
    uint64_t bad;
    RQ_TRY(find_amax(q, e, &amax, &bad, x, err));
    const rq_strided a = rq_strided_of(&amax);
    rq_scaled_e4m3_cfg f = rq_scaled_e4m3_defaults();
    f.axis = c.axis;
    const rq_status st = q->desc.e4m3 ? rq_scaled_e4m3_backward(e, dx, dy, x, &a, &f, err)
                                      : rq_tensor_quant_backward(e, dx, dy, x, &a, &c, err);
    rq_tensor_release(&amax);
    return st;
}

/* Behind pre_quant_scale: x has been through it. */
static rq_status backward(const rq_tensor_quantizer *q, rq_exec *e, const rq_strided *dx, double *dlo, double *dhi,
                          const rq_strided *dy, const rq_strided *x, rq_err *err)
{
    *dlo = *dhi = 0;
    if (!q->disabled && q->if_clip && !q->desc.learn_amax)
        return clip_into(q, e, dx, x, err); /* says why not */
    if (!q->disabled && q->if_quant)
        return quantize_backward(q, e, dx, dlo, dhi, dy, x, err);
    if (!q->disabled && q->if_clip)
        return clip_backward(q, e, dx, dlo, dhi, dy, x, err);
    return scale_into(e, dx, dy, NULL, err);
}

rq_status rq_tensor_quantizer_backward(rq_tensor_quantizer *q, rq_exec *e, const rq_strided *dx, double *dlo,
                                       double *dhi, const rq_strided *dy, const rq_strided *x, rq_err *err)
{
    double at_lo, at_hi;
    rq_tensor scaled = { 0 };
    rq_status st;
    RQ_TRY(rq_strided_check(dy, "dy", true, err));
    RQ_TRY(rq_strided_check_like(dx, "dx", dy, "dy", true, err));
    RQ_TRY(rq_strided_check_like(x, "x", dy, "dy", true, err));
    if (q->pre_quant_scale.dtype == RQ_DTYPE_NONE) {
        st = backward(q, e, dx, &at_lo, &at_hi, dy, x, err);
    } else {
        if (rq_tensor_create(&scaled, x->dtype, &x->shape, false))
            return rq_fail(err, RQ_NO_MEMORY, "no memory for what was scaled");
        const rq_strided s = rq_strided_of(&scaled);
        st = scale_into(e, &s, x, &q->pre_quant_scale, err);
        if (!st)
            st = backward(q, e, dx, &at_lo, &at_hi, dy, &s, err);
        if (!st)
            st = scale_into(e, dx, dx, &q->pre_quant_scale, err);
        rq_tensor_release(&scaled);
    }
    if (st)
        return st;
    if (dlo)
        *dlo = at_lo;
    if (dhi)
        *dhi = at_hi;
    return RQ_OK;
}
