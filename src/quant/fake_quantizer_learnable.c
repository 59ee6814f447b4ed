/* quant/fake_quantizer_learnable.c — the fake-quantizer whose scale and zero point are trained: PyTorch's _LearnableFakeQuantize
 * and Core ML Tools' learnable one, with their three phases (docs/torch-facts.md 2.7, 2.8). An observer finds what to start from. */
#include <float.h>

#include "quant/fake_quantizer.h"

static const float least_scale = FLT_EPSILON; /* both systems' eps */

static bool is_lsq(const rq_fake_quantizer *q)
{
    return q->cfg.rule == RQ_LEARNED_LSQ;
}

/* Where a symmetric scheme has its zero: 0, or the middle of unsigned codes. */
static float middle(const rq_fake_quantizer *q)
{
    rq_qparams_rule rule = rq_qparams_rule_of(RQ_QPARAMS_OBSERVER, q->type, q->cfg.observer.scheme);
    rule.custom_range = q->cfg.observer.custom_range;
    rule.compat = q->cfg.compat;
    float scale;
    int32_t zero_point = 0;
    if (q->cfg.compat && !is_lsq(q)) /* even where codes are unsigned */
        return 0;
    return rq_qparams_choose(-1, 1, &rule, &scale, &zero_point, NULL) ? 0 : (float)zero_point;
}

static rq_status follow(rq_fake_quantizer *q, rq_err *err)
{
    return q->watching && !q->cfg.compat ? RQ_OK : rq_fake_quantizer_take(q, err);
}

/* Channels, and parameters that are allowed. */
static rq_status ready(rq_fake_quantizer *q, const rq_strided *x, rq_err *err)
{
    const int axis = q->cfg.observer.axis;
    if (!q->n && axis >= 0 && axis < x->shape.rank && x->shape.dim[axis] <= INT32_MAX / 4)
        RQ_TRY(rq_fake_quantizer_set_channels(q, (int)x->shape.dim[axis], err));
    if (!q->known && !q->cfg.compat)
        return rq_fake_quantizer_unseen(err);
    const bool symmetric = rq_qscheme_is_symmetric(q->cfg.observer.scheme);
    const float zero = symmetric ? middle(q) : 0;
    for (int c = 0; c < q->n; c++) {
        if (q->scale[c] < least_scale)
            q->scale[c] = least_scale;
        if (symmetric)
            q->zero_point[c] = zero;
        else if (is_lsq(q))
            q->zero_point[c] = (float)rq_learned_zero_point(&q->type, q->zero_point[c]);
    }
    return RQ_OK;
}

static rq_learned learned_of(const rq_fake_quantizer *q, const rq_strided *x)
{
    const int axis = q->cfg.observer.axis;
    const bool scaled = is_lsq(q) || q->cfg.use_grad_scaling;
    return (rq_learned) {
        .type = q->type,
        .rule = q->cfg.rule,
        .axis = axis,
        .n = q->n,
        .scale = q->scale,
        .zero_point = q->zero_point,
        .grad_factor = scaled ? rq_learned_grad_factor(q->cfg.rule, &q->type, &x->shape, axis) : 1,
        .compat = q->cfg.compat,
    };
}

static rq_status forward(rq_fake_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *mask,
                         const rq_strided *x, rq_err *err)
{
    (void)mask; /* gradients of scale and zero point want x */
    RQ_TRY(ready(q, x, err));
    const rq_learned l = learned_of(q, x);
    return rq_learned_quantize(e, y, x, &l, err);
}

static rq_status backward(rq_fake_quantizer *q, rq_exec *e, const rq_strided *dx, const rq_strided *dy,
                          const rq_strided *x, rq_err *err)
{
    RQ_TRY(ready(q, x, err));
    const rq_learned l = learned_of(q, x);
    const bool scale = rq_fake_quantizer_trains_scale(q), zero_point = rq_fake_quantizer_trains_zero_point(q);
    float *const ds = q->spare, *const dz = q->spare + q->n;
    RQ_TRY(rq_learned_quantize_backward(e, dx, ds, dz, dy, x, &l, err));
    for (int c = 0; c < q->n; c++) {
        q->dscale[c] += scale ? ds[c] : 0;
        q->dzero_point[c] += zero_point ? dz[c] : 0;
    }
    return RQ_OK;
}

static rq_status qparams(const rq_fake_quantizer *q, rq_qparams *out, float *zero_point_f, rq_err *err)
{
    if (!q->n || (!q->known && !q->cfg.compat))
        return rq_fake_quantizer_unseen(err);
    RQ_TRY(rq_fake_quantizer_stored(q, out, zero_point_f, err));
    const bool symmetric = rq_qscheme_is_symmetric(q->cfg.observer.scheme);
    for (int c = 0; c < q->n; c++) {
        if (out->scale[c] < least_scale)
            out->scale[c] = least_scale;
        if (symmetric)
            out->zero_point[c] = (int32_t)middle(q);
        if (zero_point_f)
            zero_point_f[c] = (float)out->zero_point[c];
    }
    return RQ_OK;
}

const rq_fake_quantizer_row rq_fake_quantizer_learnable = {
    .name = "LearnableFakeQuantize",
    .follow = follow,
    .forward = forward,
    .backward = backward,
    .qparams = qparams,
};

/* ---- phases ---- */

static rq_status check(const rq_fake_quantizer *q, rq_err *err)
{
    if (q->cfg.kind == RQ_FAKE_QUANTIZER_LEARNABLE)
        return RQ_OK;
    return rq_fail(err, RQ_BAD_ARG, "%s has no phases of learning; LearnableFakeQuantize has", q->row->name);
}

static void phase(rq_fake_quantizer *q, bool observer, bool fake_quant, bool learning)
{
    q->observer_on = observer;
    q->fake_quant_on = fake_quant;
    q->learning = q->requires_grad = learning;
    q->watching = observer && !fake_quant;
}

rq_status rq_fake_quantizer_enable_param_learning(rq_fake_quantizer *q, rq_err *err)
{
    RQ_TRY(check(q, err));
    if (!q->known && !q->cfg.compat) {
        if (!rq_fake_quantizer_has_seen(q))
            return rq_fake_quantizer_unseen(err);
        RQ_TRY(rq_fake_quantizer_take(q, err)); /* of a static observation */
    }
    phase(q, false, true, true);
    return RQ_OK;
}

rq_status rq_fake_quantizer_enable_static_estimate(rq_fake_quantizer *q, rq_err *err)
{
    RQ_TRY(check(q, err));
    phase(q, true, true, false);
    return RQ_OK;
}

rq_status rq_fake_quantizer_enable_static_observation(rq_fake_quantizer *q, rq_err *err)
{
    RQ_TRY(check(q, err));
    phase(q, true, false, false);
    return RQ_OK;
}

bool rq_fake_quantizer_trains_scale(const rq_fake_quantizer *q)
{
    if (q->cfg.kind != RQ_FAKE_QUANTIZER_LEARNABLE)
        return false;
    if (q->cfg.compat)
        return is_lsq(q) || q->requires_grad;
    return q->learning && !q->observer_on;
}

bool rq_fake_quantizer_trains_zero_point(const rq_fake_quantizer *q)
{
    const bool any = q->cfg.compat && !is_lsq(q);
    return rq_fake_quantizer_trains_scale(q) && (any || !rq_qscheme_is_symmetric(q->cfg.observer.scheme));
}
