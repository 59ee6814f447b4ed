/* quant/fake_quantizer_plain.c — fake-quantizers whose scale and zero point come from an observer and have no gradients: PyTorch's
 * FakeQuantize, FusedMovingAvgObsFakeQuantize and FixedQParamsFakeQuantize (docs/torch-facts.md 2.5, 2.6). */
#include "quant/fake_quantizer.h"

#include <math.h>

#include "base/mem.h"
#include "quant/fake_quantize.h"

/* As PyTorch: a state's zero point is used although it is none of the codes. Beyond 2^24 rq_fake_quantize refuses it. */
static int32_t loaded(float zero_point)
{
    return (int32_t)fmaxf(-0x1p24f, fminf(zero_point, 0x1p24f));
}

static rq_fq fq_of(rq_fake_quantizer *q)
{
    const bool floats = q->cfg.observer.scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS;
    for (int c = 0; c < q->n; c++)
        q->code[c] = q->cfg.compat ? loaded(q->zero_point[c]) : rq_learned_zero_point(&q->type, q->zero_point[c]);
    return (rq_fq) {
        .type = q->type,
        .rule = q->cfg.compat || floats ? RQ_FQ_RECIPROCAL : RQ_FQ_DIVIDE,
        .axis = q->cfg.observer.axis,
        .n = q->n,
        .scale = q->scale,
        .zero_point = floats ? NULL : q->code,
        .zero_point_f = floats ? q->zero_point : NULL,
        .compat = q->cfg.compat,
    };
}

/* A scale to quantize with. compat: never seen is scale 1, zero point 0. */
static rq_status ready(rq_fake_quantizer *q, rq_err *err)
{
    if (q->known)
        return RQ_OK;
    return q->cfg.compat ? rq_fake_quantizer_set_channels(q, q->n ? q->n : 1, err) : rq_fake_quantizer_unseen(err);
}

static rq_status forward(rq_fake_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *mask,
                         const rq_strided *x, rq_err *err)
{
    RQ_TRY(ready(q, err));
    const rq_fq f = fq_of(q);
    return q->relu ? rq_fake_quantize_relu(e, y, mask, x, &f, err) : rq_fake_quantize(e, y, mask, x, &f, err);
}

static rq_status backward(rq_fake_quantizer *q, rq_exec *e, const rq_strided *dx, const rq_strided *dy,
                          const rq_strided *x, rq_err *err)
{
    RQ_TRY(ready(q, err));
    const rq_fq f = fq_of(q);
    return rq_fake_quantize_backward(e, dx, dy, x, &f, err);
}

static rq_status qparams(const rq_fake_quantizer *q, rq_qparams *out, float *zero_point_f, rq_err *err)
{
    if (q->cfg.compat)
        return rq_observer_qparams(q->observer, out, zero_point_f, err);
    return q->known ? rq_fake_quantizer_stored(q, out, zero_point_f, err) : rq_fake_quantizer_unseen(err);
}

const rq_fake_quantizer_row rq_fake_quantizer_standard = {
    .name = "FakeQuantize",
    .follow = rq_fake_quantizer_take,
    .forward = forward,
    .masks = true,
    .backward = backward,
    .qparams = qparams,
};

const rq_fake_quantizer_row rq_fake_quantizer_fixed = {
    .name = "FixedQParamsFakeQuantize",
    .forward = forward,
    .masks = true,
    .backward = backward,
    .qparams = qparams,
};

/* ---- fused ---- */

/* compat: the stored parameters are touched by forwards that quantize, and by those always. */
static rq_status fused_follow(rq_fake_quantizer *q, rq_err *err)
{
    return q->cfg.compat ? RQ_OK : rq_fake_quantizer_take(q, err);
}

static rq_status fused_choose(rq_fake_quantizer *q, rq_err *err)
{
    if (!rq_fake_quantizer_has_seen(q))
        return rq_fake_quantizer_unseen(err);
    rq_qparams_rule rule = rq_qparams_rule_of(RQ_QPARAMS_CQP, q->type, q->cfg.observer.scheme);
    rule.compat = true;
    const int n = rq_observer_channels(q->observer);
    RQ_TRY(rq_fake_quantizer_set_channels(q, n, err));
    rq_range *range = rq_mem_alloc((size_t)n, sizeof *range);
    if (!range)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for %d ranges", n);
    rq_status s = rq_observer_range(q->observer, range, n);
    if (s)
        rq_fail(err, s, "the observer has no ranges of %d channels", n);
    for (int c = 0; !s && c < n; c++) {
        int32_t zero_point;
        s = rq_qparams_choose((float)range[c].lo, (float)range[c].hi, &rule, &q->scale[c], &zero_point, NULL);
        q->zero_point[c] = (float)zero_point;
        if (s)
            rq_fail(err, s, "what was seen of channel %d reaches from %g to %g, which is no range", c, range[c].lo,
                    range[c].hi);
    }
    q->known |= !s;
    rq_mem_free(range);
    return s;
}

static rq_status fused_forward(rq_fake_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *mask,
                               const rq_strided *x, rq_err *err)
{
    if (q->cfg.compat && !q->again)
        RQ_TRY(fused_choose(q, err));
    return forward(q, e, y, mask, x, err);
}

const rq_fake_quantizer_row rq_fake_quantizer_fused = {
    .name = "FusedMovingAvgObsFakeQuantize",
    .follow = fused_follow,
    .forward = fused_forward,
    .masks = true,
    .backward = backward,
    .qparams = qparams,
};
