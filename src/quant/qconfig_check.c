/* quant/qconfig_check.c — which qconfigs contradict themselves, and which no executor, or not the one asked for, can honour. What the
 * executors take is a table; docs/qconfig.md shows it as `requant qconfigs` prints it. PyTorch's engines: torch-facts 5.5. */
#include <string.h>

#include "base/nearest.h"
#include "quant/qconfig.h"

#define TORCH_DYNAMIC "Linear,LinearReLU,LSTM,GRU,LSTMCell,RNNCell,GRUCell,linear"
#define OUR_DYNAMIC "Linear,LinearReLU,LSTM,Conv1d,Conv2d,Conv3d,linear,conv1d,conv2d,conv3d"
#define WEIGHTED                                                                                                       \
    "Linear,LinearReLU,Conv1d,Conv2d,Conv3d,ConvReLU1d,ConvReLU2d,ConvReLU3d,ConvTranspose1d,ConvTranspose2d,"         \
    "ConvTranspose3d,linear,conv1d,conv2d,conv3d,conv_transpose1d,conv_transpose2d,conv_transpose3d"
#define EMBEDDINGS "Embedding,EmbeddingBag,embedding,embedding_bag"

static const rq_qconfig_executor executors[] = {
    { "requant", "u8,s8,u16,s16", "s8,u8,s4,u4,s2,u2,s16,u16", true, true, OUR_DYNAMIC, false, false, true, false,
      "measured activations: u8 per tensor, or s8 per row" },
    { "onnxruntime", "u8,s8,u16,s16", "s8,u8,s4,u4,s16,u16", true, true, OUR_DYNAMIC, false, false, true, false,
      "s8 activations with signed weights only" },
    { "fbgemm", "u8", "s8", true, false, TORCH_DYNAMIC, true, true, false, true,
      "reduce_range, or sums of pairs may overflow where the processor has no VNNI" },
    { "x86", "u8", "s8", true, false, TORCH_DYNAMIC, true, true, false, true,
      "reduce_range, or sums of pairs may overflow where the processor has no VNNI" },
    { "qnnpack", "u8,s8", "s8", true, false, TORCH_DYNAMIC, false, true, false, false,
      "s8 activations (XNNPACK): weights symmetric, -127..127, both eps at least 2^-12" },
    { "onednn", "u8", "s8", false, false, TORCH_DYNAMIC, false, true, false, true, "Linear takes s8 activations too" },
    { "coreml", "u8", "s8,u8,s4,u4", true, true, "", false, false, true, false, "activations 0..255" },
};
enum { N_EXECUTORS = sizeof executors / sizeof executors[0] };

bool rq_qconfig_executor_row(int i, rq_qconfig_executor *out)
{
    if (i < 0 || i >= N_EXECUTORS)
        return false;
    *out = executors[i];
    return true;
}

/* ---- on its own ---- */

static bool is_float(rq_dtype d)
{
    return d == RQ_DTYPE_F32 || d == RQ_DTYPE_F16 || d == RQ_DTYPE_BF16 || d == RQ_DTYPE_F64;
}

static rq_status check_codes(const rq_observer_cfg *o, rq_err *err)
{
    char text[RQ_QTYPE_TEXT];
    RQ_TRY(rq_qtype_check(&o->type, err));
    if (rq_dtype_bits(o->type.dtype) > 16)
        return rq_fail(err, RQ_BAD_ARG, "codes of %d bits are for biases, not for layers; at most 16 are",
                       rq_dtype_bits(o->type.dtype));
    if (rq_qtype_is_float(&o->type))
        return o->reduce_range
                   ? rq_fail(err, RQ_BAD_ARG, "reduce_range is for integers, not for %s", rq_dtype_name(o->type.dtype))
                   : RQ_OK;
    const rq_qtype codes = rq_qconfig_codes(o);
    if (codes.lo > 0 || codes.hi < 0)
        return rq_fail(err, RQ_BAD_ARG, "codes %s leave 0 out: quant_min is at most 0 and quant_max at least 0",
                       rq_qtype_text(&codes, text, sizeof text));
    if (codes.lo >= codes.hi)
        return rq_fail(err, RQ_BAD_ARG, "%s with reduce_range leaves no two codes",
                       rq_qtype_text(&o->type, text, sizeof text));
    if (o->reduce_range && rq_qscheme_is_symmetric(o->scheme) && !rq_qtype_is_signed(&o->type))
        return rq_fail(err, RQ_BAD_ARG,
                       "symmetric unsigned codes have their zero in the middle of %s, which reduce_range moves; take "
                       "%s, or a signed type",
                       rq_qtype_text(&o->type, text, sizeof text), rq_qscheme_name(RQ_QSCHEME_PER_TENSOR_AFFINE));
    return RQ_OK;
}

static rq_status check_scheme(const rq_observer_cfg *o, bool weight, rq_err *err)
{
    const bool per_channel = rq_qscheme_is_per_channel(o->scheme);
    if ((unsigned)o->scheme >= RQ_N_QSCHEMES)
        return rq_fail(err, RQ_BAD_ARG, "qscheme %d is none", (int)o->scheme);
    if (per_channel && !weight)
        return rq_fail(err, RQ_BAD_ARG, "%s: activations have one scale per tensor; only weights have one per channel",
                       rq_qscheme_name(o->scheme));
    if (per_channel != (o->axis != RQ_PER_TENSOR))
        return rq_fail(err, RQ_BAD_ARG, per_channel ? "%s without a channel axis" : "%s with a channel axis",
                       rq_qscheme_name(o->scheme));
    if (per_channel &&
        (o->kind == RQ_OBSERVER_HISTOGRAM || o->kind == RQ_OBSERVER_COUNTS || o->kind == RQ_OBSERVER_STACKED ||
         o->kind == RQ_OBSERVER_FIXED || o->kind == RQ_OBSERVER_EMA_PERCENTILE || o->kind == RQ_OBSERVER_OWN))
        return rq_fail(err, RQ_BAD_ARG, "observer %s knows one range per tensor, not one per channel",
                       rq_observer_kind_name(o->kind));
    if (o->scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS && (rq_qtype_is_signed(&o->type) || o->type.lo != 0))
        return rq_fail(err, RQ_BAD_ARG, "real zero points are for unsigned codes from 0, not %s",
                       rq_dtype_name(o->type.dtype));
    return RQ_OK;
}

static rq_status check_observer(const rq_observer_cfg *o, bool weight, rq_err *err)
{
    if ((unsigned)o->kind >= RQ_N_OBSERVERS)
        return rq_fail(err, RQ_BAD_ARG, "observer %d is none", (int)o->kind);
    if (o->kind == RQ_OBSERVER_OWN && !o->own)
        return rq_fail(err, RQ_BAD_ARG, "an observer of one's own, but which is not said");
    if (weight && (o->kind == RQ_OBSERVER_FIXED || o->kind == RQ_OBSERVER_REUSE_INPUT))
        return rq_fail(err, RQ_BAD_ARG, "observer %s is for activations", rq_observer_kind_name(o->kind));
    if (!rq_qconfig_finds_scale(o))
        return RQ_OK;
    if (!(o->eps >= 0) || !(o->eps < 1))
        return rq_fail(err, RQ_BAD_ARG, "eps is %g, expected a small number that is not negative", (double)o->eps);
    if (!(o->averaging_constant >= 0 && o->averaging_constant <= 1))
        return rq_fail(err, RQ_BAD_ARG, "averaging_constant is %g, expected 0 to 1", o->averaging_constant);
    if (!(o->ema_ratio >= 0 && o->ema_ratio < 1))
        return rq_fail(err, RQ_BAD_ARG, "ema_ratio is %g, expected 0 to below 1", o->ema_ratio);
    RQ_TRY(check_codes(o, err));
    return check_scheme(o, weight, err);
}

static rq_status check_part(const rq_qconfig_part *p, bool weight, rq_err *err)
{
    const rq_observer_cfg *o = rq_qconfig_observer(p);
    if (p->dynamic && weight)
        return rq_fail(err, RQ_BAD_ARG, "a weight is known before the layer runs: only activations are dynamic");
    if (!o)
        return RQ_OK;
    RQ_TRY(check_observer(o, weight, err));
    if (p->form != RQ_QCONFIG_FAKE_QUANTIZER)
        return RQ_OK;
    const rq_fake_quantizer_kind kind = p->fake_quantizer.kind;
    if ((unsigned)kind >= RQ_N_FAKE_QUANTIZERS)
        return rq_fail(err, RQ_BAD_ARG, "fake-quantizer %d is none", (int)kind);
    if ((unsigned)p->fake_quantizer.rule >= RQ_N_LEARNED_RULES)
        return rq_fail(err, RQ_BAD_ARG, "rule %d of learned quantization is none", (int)p->fake_quantizer.rule);
    if (!rq_qconfig_finds_scale(o))
        return rq_fail(err, RQ_BAD_ARG, "observer %s finds no scale to fake-quantize with",
                       rq_observer_kind_name(o->kind));
    if ((kind == RQ_FAKE_QUANTIZER_FIXED) != (o->kind == RQ_OBSERVER_FIXED))
        return rq_fail(err, RQ_BAD_ARG,
                       "the fake-quantizer of fixed scale and the observer 'fixed' go together, not with %s",
                       kind == RQ_FAKE_QUANTIZER_FIXED ? rq_observer_kind_name(o->kind) : "another fake-quantizer");
    if (kind == RQ_FAKE_QUANTIZER_OWN && !p->fake_quantizer.own)
        return rq_fail(err, RQ_BAD_ARG, "a fake-quantizer of one's own, but which is not said");
    if (kind == RQ_FAKE_QUANTIZER_FUSED && o->kind != RQ_OBSERVER_MOVING_AVERAGE && o->kind != RQ_OBSERVER_MINMAX)
        return rq_fail(err, RQ_BAD_ARG, "the fused fake-quantizer has a moving average built in, not %s",
                       rq_observer_kind_name(o->kind));
    return RQ_OK;
}

/* ---- for an executor ---- */

enum state { FLOAT, CODES, HALF, MEASURED, SHARED, NOT_RUNNABLE };

/* What the executor is asked to do with the tensor. */
static enum state state_of(const rq_qconfig_part *p)
{
    const rq_observer_cfg *o = rq_qconfig_observer(p);
    if (!o || o->kind == RQ_OBSERVER_NOOP)
        return FLOAT;
    if (p->dynamic)
        return MEASURED;
    if (o->kind == RQ_OBSERVER_RECORDING)
        return NOT_RUNNABLE;
    if (o->kind == RQ_OBSERVER_REUSE_INPUT)
        return SHARED;
    if (o->kind == RQ_OBSERVER_PLACEHOLDER)
        return o->type.dtype == RQ_DTYPE_F16 ? HALF : is_float(o->type.dtype) ? FLOAT : NOT_RUNNABLE;
    return CODES;
}

static rq_status check_types(const rq_qconfig_executor *x, const rq_observer_cfg *o, const char *what,
                             const char *takes, rq_err *err)
{
    if (rq_qtype_is_float(&o->type))
        return rq_fail(err, RQ_UNSUPPORTED, "no executor multiplies %s: it can be emulated in training only",
                       rq_dtype_name(o->type.dtype));
    if (!rq_qconfig_type_in(rq_dtype_name(o->type.dtype), takes))
        return rq_fail(err, RQ_UNSUPPORTED, "%s takes %s of type %s, not %s", x->name, what, takes,
                       rq_dtype_name(o->type.dtype));
    return RQ_OK;
}

static rq_status check_activation(const rq_qconfig_executor *x, const rq_observer_cfg *o, const char *type, rq_err *err)
{
    char text[RQ_QTYPE_TEXT];
    const bool linear = !strcmp(x->name, "onednn") && rq_qconfig_type_in(type, "Linear,LinearReLU,linear");
    RQ_TRY(check_types(x, o, "activations", linear ? "u8,s8" : x->activations, err));
    const rq_qtype full = rq_qtype_of(o->type.dtype), half = rq_qtype_reduced(&full), codes = rq_qconfig_codes(o);
    const bool whole = codes.lo == full.lo && codes.hi == full.hi;
    const bool reduced = codes.lo == half.lo && codes.hi == half.hi && strcmp(x->name, "coreml") != 0;
    if (!whole && !reduced)
        return rq_fail(
            err, RQ_UNSUPPORTED,
            "activations in %s cannot be kept there: %s saturates at the ends of %s (a reduced range is a choice of "
            "scale, and allowed)",
            rq_qtype_text(&codes, text, sizeof text), x->name, rq_dtype_name(o->type.dtype));
    return RQ_OK;
}

static rq_status check_weight(const rq_qconfig_executor *x, const rq_qconfig *q, const char *type, rq_err *err)
{
    const rq_observer_cfg *o = rq_qconfig_observer(&q->weight), *a = rq_qconfig_observer(&q->activation);
    const bool real = o->scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS, embeds = rq_qconfig_type_in(type, EMBEDDINGS);
    if (real && !x->real_zero_points)
        return rq_fail(err, RQ_UNSUPPORTED, "%s has no zero points that are real numbers", x->name);
    if (embeds && x->real_zero_points)
        return real ? check_types(x, o, "embedding weights", "u8,u4", err)
                    : rq_fail(err, RQ_UNSUPPORTED, "%s takes embedding weights with real zero points only, not %s",
                              x->name, rq_qscheme_name(o->scheme));
    if (real)
        return RQ_OK; /* of a type that is not known: it may be an Embedding */
    if (rq_qconfig_type_in(type, "PReLU,prelu") && x->real_zero_points) /* PyTorch's has its slopes in quint8 */
        return check_types(x, o, "slopes", "u8", err);
    RQ_TRY(check_types(x, o, "weights", x->weights, err));
    if (!rq_qscheme_is_symmetric(o->scheme) && !x->affine_weights)
        return rq_fail(err, RQ_UNSUPPORTED, "%s takes symmetric weights only, not %s", x->name,
                       rq_qscheme_name(o->scheme));
    if (rq_qscheme_is_per_channel(o->scheme) && rq_qconfig_type_is_transposed(type) && !x->transposed_channels)
        return rq_fail(err, RQ_UNSUPPORTED, "%s has no ConvTranspose with a scale per channel; take %s", x->name,
                       rq_qscheme_name(RQ_QSCHEME_PER_TENSOR_SYMMETRIC));
    if (!a || a->type.dtype != RQ_DTYPE_S8 || state_of(&q->activation) != CODES)
        return RQ_OK;
    if (!strcmp(x->name, "onnxruntime") && !rq_qtype_is_signed(&o->type))
        return rq_fail(err, RQ_UNSUPPORTED, "onnxruntime takes s8 activations with signed weights only, not %s",
                       rq_dtype_name(o->type.dtype));
    if (!strcmp(x->name, "qnnpack") &&
        (!rq_qscheme_is_symmetric(o->scheme) || o->type.lo < -127 || o->eps < 0x1p-12f || a->eps < 0x1p-12f))
        return rq_fail(
            err, RQ_UNSUPPORTED,
            "with s8 activations qnnpack takes symmetric weights in -127..127, and eps of at least 2^-12 for both; "
            "default_symmetric_qnnpack_qconfig is such");
    return RQ_OK;
}

static rq_status check_measured(const rq_qconfig_executor *x, const rq_qconfig *q, const char *type, rq_err *err)
{
    const rq_observer_cfg *o = rq_qconfig_observer(&q->activation);
    const enum state weight = state_of(&q->weight);
    if (type ? !rq_qconfig_type_in(type, x->dynamic) : !x->dynamic[0])
        return rq_fail(err, RQ_UNSUPPORTED, "%s measures no activations of %s%s%s", x->name, type ? type : "any layer",
                       x->dynamic[0] ? ", only of " : "", x->dynamic);
    if (o->type.dtype == RQ_DTYPE_F16 ? !x->half || weight != HALF : weight == HALF)
        return rq_fail(err, RQ_UNSUPPORTED,
                       x->half ? "%s has float16 for activation and weight, or for neither"
                               : "%s has no float16 weights",
                       x->name);
    if (weight != CODES && weight != HALF)
        return rq_fail(err, RQ_UNSUPPORTED, "measured activations need weights in codes");
    if (o->reduce_range && !x->dynamic_reduced)
        return rq_fail(err, RQ_UNSUPPORTED, "%s ignores reduce_range of measured activations", x->name);
    return o->type.dtype == RQ_DTYPE_F16 ? RQ_OK : check_activation(x, o, type, err);
}

static rq_status check_executor(const rq_qconfig_executor *x, const rq_qconfig *q, const char *type, rq_err *err)
{
    const enum state a = state_of(&q->activation), w = state_of(&q->weight);
    if (a == NOT_RUNNABLE || w == NOT_RUNNABLE)
        return rq_fail(
            err, RQ_UNSUPPORTED, "observer %s of the %s finds no scale: nothing can run by it",
            rq_observer_kind_name(rq_qconfig_observer(a == NOT_RUNNABLE ? &q->activation : &q->weight)->kind),
            a == NOT_RUNNABLE ? "activation" : "weight");
    if (a == MEASURED)
        RQ_TRY(check_measured(x, q, type, err));
    else if (a == HALF || w == HALF)
        return rq_fail(err, RQ_UNSUPPORTED, "%s runs float16 only where activations are measured", x->name);
    if (a == CODES)
        RQ_TRY(check_activation(x, rq_qconfig_observer(&q->activation), type, err));
    if (w == CODES)
        RQ_TRY(check_weight(x, q, type, err));
    if (!x->partial && rq_qconfig_type_in(type, WEIGHTED) && (a == CODES || a == SHARED || w == CODES) &&
        (a == FLOAT || w == FLOAT))
        return rq_fail(err, RQ_UNSUPPORTED, "%s has no %s with only its %s in codes", x->name, type,
                       a == FLOAT ? "weight" : "activation");
    return RQ_OK;
}

rq_status rq_qconfig_check(const rq_qconfig *q, const char *type, const char *executor, rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    const rq_qconfig_executor *x = NULL;
    rq_nearest near = rq_nearest_to(executor ? executor : "");
    for (int i = 0; executor && i < N_EXECUTORS; i++) {
        rq_nearest_try(&near, executors[i].name);
        if (!strcmp(executors[i].name, executor))
            x = &executors[i];
    }
    if (executor && !x)
        return rq_fail(err, RQ_NOT_FOUND, "unknown executor '%.80s'%s", executor, rq_nearest_hint(&near, hint));
    if (!q)
        return RQ_OK;
    rq_status s = check_part(&q->activation, false, err);
    if (s != RQ_OK)
        return rq_fail_in(err, s, "activation");
    s = check_part(&q->weight, true, err);
    if (s != RQ_OK)
        return rq_fail_in(err, s, "weight");
    const rq_observer_cfg *w = rq_qconfig_observer(&q->weight);
    if (w && w->scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS && rq_qconfig_finds_scale(w) && type &&
        !rq_qconfig_type_in(type, EMBEDDINGS))
        return rq_fail(err, RQ_BAD_ARG, "weight: real zero points are for Embedding and EmbeddingBag, not for %s",
                       type);
    return x ? check_executor(x, q, type, err) : RQ_OK;
}
