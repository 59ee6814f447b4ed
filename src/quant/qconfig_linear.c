/* quant/qconfig_linear.c — the layer configuration of Core ML Tools' LinearQuantizer as a qconfig (torch-facts 5.6). */
#include "quant/qconfig.h"

rq_qconfig_linear rq_qconfig_linear_defaults(void)
{
    return (rq_qconfig_linear) {
        .weight = rq_qtype_of(RQ_DTYPE_S8),
        .weight_observer = RQ_OBSERVER_MOVING_AVERAGE,
        .weight_per_channel = true,
        .activation = RQ_DTYPE_U8,
        .activation_observer = RQ_OBSERVER_MOVING_AVERAGE,
    };
}

static bool is_observer(rq_observer_kind k)
{
    return k == RQ_OBSERVER_MINMAX || k == RQ_OBSERVER_MOVING_AVERAGE || k == RQ_OBSERVER_EMA ||
           k == RQ_OBSERVER_EMA_PERCENTILE || k == RQ_OBSERVER_MSE || k == RQ_OBSERVER_EMA_MSE ||
           k == RQ_OBSERVER_LSQ || k == RQ_OBSERVER_LSQ_PLUS;
}

/* Weights of less than 8 bits live in bytes, with their ends passed explicitly, which moves the zero point of unsigned symmetric ones. */
static rq_qconfig_part make(rq_observer_kind kind, rq_qtype type, rq_qscheme scheme, bool learnable)
{
    rq_fake_quantizer_cfg f =
        rq_fake_quantizer_defaults(learnable ? RQ_FAKE_QUANTIZER_LEARNABLE : RQ_FAKE_QUANTIZER_STANDARD);
    f.rule = learnable ? RQ_LEARNED_LSQ : f.rule;
    f.observer = rq_observer_defaults(kind);
    const rq_qtype bytes = rq_qtype_of(rq_qtype_is_signed(&type) ? RQ_DTYPE_S8 : RQ_DTYPE_U8);
    f.observer.type = (rq_qtype) { bytes.dtype, type.lo, type.hi };
    f.observer.custom_range = type.lo != bytes.lo || type.hi != bytes.hi;
    f.observer.scheme = scheme;
    f.observer.axis = rq_qscheme_is_per_channel(scheme) ? 0 : RQ_PER_TENSOR;
    return rq_qconfig_fake_quantizes(&f);
}

rq_status rq_qconfig_of_linear(rq_qconfig *out, const rq_qconfig_linear *c, rq_err *err)
{
    const bool weights = c->weight.dtype != RQ_DTYPE_F32, activations = c->activation != RQ_DTYPE_F32;
    if (activations && c->activation != RQ_DTYPE_U8)
        return rq_fail(err, RQ_BAD_ARG, "activation_dtype is %s, expected quint8 or float32",
                       rq_dtype_name(c->activation));
    if (weights) {
        RQ_TRY(rq_qtype_check(&c->weight, err));
        if (rq_qtype_is_float(&c->weight) || rq_dtype_bits(c->weight.dtype) > 8)
            return rq_fail(err, RQ_BAD_ARG, "weight_dtype is %s, expected qint8, quint8, qint4, quint4 or float32",
                           rq_dtype_name(c->weight.dtype));
    }
    if (!is_observer(c->weight_observer) || !is_observer(c->activation_observer))
        return rq_fail(
            err, RQ_BAD_ARG, "%s is '%s', expected moving_average_min_max, min_max or ema_min_max",
            is_observer(c->weight_observer) ? "activation_observer" : "weight_observer",
            rq_observer_kind_name(is_observer(c->weight_observer) ? c->activation_observer : c->weight_observer));
    const rq_qscheme per_channel = c->affine ? RQ_QSCHEME_PER_CHANNEL_AFFINE : RQ_QSCHEME_PER_CHANNEL_SYMMETRIC,
                     per_tensor = c->affine ? RQ_QSCHEME_PER_TENSOR_AFFINE : RQ_QSCHEME_PER_TENSOR_SYMMETRIC;
    rq_qconfig q = { rq_qconfig_nothing(), rq_qconfig_nothing() };
    if (weights)
        q.weight = make(c->weight_observer, c->weight, c->weight_per_channel ? per_channel : per_tensor, c->learnable);
    if (activations)
        q.activation = make(c->activation_observer, rq_qtype_of(RQ_DTYPE_U8),
                            c->nonnegative ? RQ_QSCHEME_PER_TENSOR_AFFINE : per_tensor, c->learnable);
    RQ_TRY(rq_qconfig_check(&q, NULL, NULL, err));
    *out = q;
    return RQ_OK;
}
