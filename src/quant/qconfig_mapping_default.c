/* quant/qconfig_mapping_default.c — PyTorch's default mappings (torch-facts 5.3): a backend's default for everything, and what some types
 * need beside it. */
#include <string.h>

#include "base/nearest.h"
#include "quant/qconfig_mapping.h"

typedef enum kind { REUSES_INPUT, TRANSPOSED, FLOAT_WEIGHT, QUINT8_WEIGHT, FIXED } kind;

static const struct {
    const char *type;
    kind kind;
} types[] = {
    { "reshape", REUSES_INPUT },
    { "ConvTranspose1d", TRANSPOSED },
    { "ConvTranspose2d", TRANSPOSED },
    { "ConvTranspose3d", TRANSPOSED },
    { "conv_transpose1d", TRANSPOSED },
    { "conv_transpose2d", TRANSPOSED },
    { "conv_transpose3d", TRANSPOSED },
    { "layer_norm", FLOAT_WEIGHT },
    { "LayerNorm", FLOAT_WEIGHT },
    { "PReLU", QUINT8_WEIGHT },
    { "Hardsigmoid", FIXED },
    { "hardsigmoid", FIXED },
    { "hardsigmoid_", FIXED },
    { "Sigmoid", FIXED },
    { "sigmoid", FIXED },
    { "sigmoid_", FIXED },
    { "Softmax", FIXED },
    { "Tanh", FIXED },
    { "tanh", FIXED },
    { "tanh_", FIXED },
};

/* The qconfig of one of those types, from that of everything else. */
static rq_status special(rq_qconfig *q, const char *type, kind k, const char *backend, bool qat, rq_err *err)
{
    float scale = 0;
    int32_t zero_point;
    switch (k) {
    case REUSES_INPUT:
        return rq_qconfig_named(q, "default_reuse_input_qconfig", err);
    case QUINT8_WEIGHT:
        return rq_qconfig_named(q, "default_quint8_weight_qconfig", err);
    case FLOAT_WEIGHT:
        return rq_qconfig_part_named(&q->weight, "default_placeholder_observer", err);
    case FIXED: {
        static const char *const names[2][2] = {
            { "default_fixed_qparams_range_0to1_observer", "default_fixed_qparams_range_neg1to1_observer" },
            { "default_fixed_qparams_range_0to1_fake_quant", "default_fixed_qparams_range_neg1to1_fake_quant" },
        };
        rq_qconfig_fixed_of(type, &scale, &zero_point);
        RQ_TRY(rq_qconfig_part_named(&q->activation, names[qat][zero_point != 0], err));
        break;
    }
    case TRANSPOSED:
        if (rq_qconfig_type_in(backend, "qnnpack,onednn"))
            return RQ_OK;
    }
    return rq_qconfig_part_named(&q->weight, qat ? "default_weight_fake_quant" : "default_weight_observer", err);
}

static rq_status fill(rq_qconfig_mapping *m, const rq_qconfig_preset_row *base, rq_err *err)
{
    RQ_TRY(rq_qconfig_mapping_set_global(m, &base->qconfig, err));
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        rq_qconfig q = base->qconfig;
        RQ_TRY(special(&q, types[i].type, types[i].kind, base->backend, base->training, err));
        RQ_TRY(rq_qconfig_mapping_set(
            m, &(rq_qconfig_rule) { .level = RQ_QCONFIG_OBJECT_TYPE, .type = types[i].type, .optional = true }, &q,
            err));
    }
    m->base = base->name;
    return RQ_OK;
}

static rq_status make(rq_qconfig_mapping **out, const rq_qconfig_preset_row *base, rq_err *err)
{
    rq_qconfig_mapping *m;
    RQ_TRY(rq_qconfig_mapping_create(&m, err));
    const rq_status s = fill(m, base, err);
    if (s != RQ_OK) {
        rq_qconfig_mapping_destroy(m);
        return s;
    }
    *out = m;
    return RQ_OK;
}

rq_status rq_qconfig_mapping_default(rq_qconfig_mapping **out, const char *backend, bool qat, int version, rq_err *err)
{
    rq_qconfig_preset_row row;
    rq_qconfig all; /* says what is wrong with backend or version */
    RQ_TRY(qat ? rq_qconfig_default_qat(&all, backend, version, err) : rq_qconfig_default(&all, backend, version, err));
    for (int i = 0; rq_qconfig_preset(i, &row); i++)
        if (row.backend && !strcmp(row.backend, backend) && row.training == qat && row.version == version)
            return make(out, &row, err);
    return RQ_INTERNAL;
}

rq_status rq_qconfig_mapping_default_named(rq_qconfig_mapping **out, const char *name, rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    rq_qconfig_preset_row row;
    rq_nearest near = rq_nearest_to(name);
    for (int i = 0; rq_qconfig_preset(i, &row); i++) {
        if (!row.backend)
            continue;
        if (!strcmp(row.name, name))
            return make(out, &row, err);
        rq_nearest_try(&near, row.name);
    }
    return rq_fail(err, RQ_NOT_FOUND, "no backend's default is named '%.80s'%s", name, rq_nearest_hint(&near, hint));
}
