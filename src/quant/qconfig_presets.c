/* quant/qconfig_presets.c — the constructors and the pairs that have names: PyTorch's (torch-facts 5.1, 5.2) and those of Core ML Tools'
 * LinearQuantizer. A row says only what differs from the observer's defaults; the columns are those of the documentation, so that
 * the two can be read side by side. */
#include <string.h>

#include "base/nearest.h"
#include "quant/qconfig.h"

/* ---- constructors ---- */

enum { NO_OBSERVER = -1 };
enum form { OBSERVES, FAKE, FUSED, FIXED, LEARNABLE, IDENTITY };

typedef struct constructor {
    const char *name;
    enum form form;
    int observer; /* rq_observer_kind */
    rq_dtype dtype;
    int lo, hi; /* quant_min, quant_max where they are given; 0, 0: they are not */
    rq_qscheme scheme;
    bool reduce_range;
    double averaging_constant; /* 0: the default */
    float eps;                 /* 0: the default */
    bool dynamic;
    float scale; /* of a fixed one */
    int zero_point;
} constructor;

#define U8 RQ_DTYPE_U8
#define S8 RQ_DTYPE_S8
#define AFFINE RQ_QSCHEME_PER_TENSOR_AFFINE
#define SYMMETRIC RQ_QSCHEME_PER_TENSOR_SYMMETRIC
#define CHANNEL_SYMMETRIC RQ_QSCHEME_PER_CHANNEL_SYMMETRIC
#define FLOAT_QPARAMS RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS
#define MINMAX RQ_OBSERVER_MINMAX
#define MOVING RQ_OBSERVER_MOVING_AVERAGE
#define HISTOGRAM RQ_OBSERVER_HISTOGRAM
#define EPS_XNNPACK 0x1p-12f /* keeps sx sw / sy above what XNNPACK can multiply by */

/* clang-format off */
static const constructor constructors[] = {
    /* name, form, observer, dtype, quant_min, quant_max, qscheme, reduce_range, averaging_constant, eps, dynamic, scale, zero point */
    { "identity", IDENTITY, NO_OBSERVER, RQ_DTYPE_F32, 0, 0, AFFINE, 0, 0, 0, 0, 0, 0 },
    { "default_observer", OBSERVES, MINMAX, U8, 0, 127, AFFINE, 0, 0, 0, 0, 0, 0 },
    { "default_weight_observer", OBSERVES, MINMAX, S8, 0, 0, SYMMETRIC, 0, 0, 0, 0, 0, 0 },
    { "default_per_channel_weight_observer", OBSERVES, MINMAX, S8, 0, 0, CHANNEL_SYMMETRIC, 0, 0, 0, 0, 0, 0 },
    { "default_quint8_weight_observer", OBSERVES, MINMAX, U8, 0, 0, AFFINE, 0, 0, 0, 0, 0, 0 },
    { "weight_observer_range_neg_127_to_127", OBSERVES, MINMAX, S8, -127, 127, SYMMETRIC, 0, 0, EPS_XNNPACK, 0, 0, 0 },
    { "per_channel_weight_observer_range_neg_127_to_127", OBSERVES, MINMAX, S8, -127, 127, CHANNEL_SYMMETRIC, 0, 0, EPS_XNNPACK, 0, 0, 0 },
    { "histogram_observer", OBSERVES, HISTOGRAM, U8, 0, 0, AFFINE, 0, 0, 0, 0, 0, 0 },
    { "histogram_observer_reduced", OBSERVES, HISTOGRAM, U8, 0, 0, AFFINE, 1, 0, 0, 0, 0, 0 },
    { "default_histogram_observer", OBSERVES, HISTOGRAM, U8, 0, 127, AFFINE, 0, 0, 0, 0, 0, 0 },
    { "histogram_observer_qint8_eps_2_12", OBSERVES, HISTOGRAM, S8, 0, 0, AFFINE, 0, 0, EPS_XNNPACK, 0, 0, 0 },
    { "default_debug_observer", OBSERVES, RQ_OBSERVER_RECORDING, U8, 0, 0, AFFINE, 0, 0, 0, 0, 0, 0 },
    { "default_placeholder_observer", OBSERVES, RQ_OBSERVER_PLACEHOLDER, RQ_DTYPE_F32, 0, 0, AFFINE, 0, 0, 0, 0, 0, 0 },
    { "float16_observer", OBSERVES, RQ_OBSERVER_PLACEHOLDER, RQ_DTYPE_F16, 0, 0, AFFINE, 0, 0, 0, 0, 0, 0 },
    { "float16_dynamic_observer", OBSERVES, RQ_OBSERVER_PLACEHOLDER, RQ_DTYPE_F16, 0, 0, AFFINE, 0, 0, 0, 1, 0, 0 },
    { "default_dynamic_quant_observer", OBSERVES, RQ_OBSERVER_PLACEHOLDER, U8, 0, 255, AFFINE, 0, 0, 0, 1, 0, 0 },
    { "default_float_qparams_observer", OBSERVES, MINMAX, U8, 0, 0, FLOAT_QPARAMS, 0, 0, 0, 0, 0, 0 },
    { "default_float_qparams_observer_4bit", OBSERVES, MINMAX, RQ_DTYPE_U4, 0, 0, FLOAT_QPARAMS, 0, 0, 0, 0, 0, 0 },
    { "default_reuse_input_observer", OBSERVES, RQ_OBSERVER_REUSE_INPUT, U8, 0, 0, AFFINE, 0, 0, 0, 0, 0, 0 },
    { "noop_observer", OBSERVES, RQ_OBSERVER_NOOP, RQ_DTYPE_F16, 0, 0, AFFINE, 0, 0, 0, 0, 0, 0 },
    { "noop_observer_float32", OBSERVES, RQ_OBSERVER_NOOP, RQ_DTYPE_F32, 0, 0, AFFINE, 0, 0, 0, 0, 0, 0 },
    { "default_fixed_qparams_range_0to1_observer", OBSERVES, RQ_OBSERVER_FIXED, U8, 0, 255, AFFINE, 0, 0, 0, 0, 0x1p-8f, 0 },
    { "default_fixed_qparams_range_neg1to1_observer", OBSERVES, RQ_OBSERVER_FIXED, U8, 0, 255, AFFINE, 0, 0, 0, 0, 0x1p-7f, 128 },

    { "default_fake_quant", FAKE, MOVING, U8, 0, 255, AFFINE, 1, 0, 0, 0, 0, 0 },
    { "fake_quant_full_range", FAKE, MOVING, U8, 0, 255, AFFINE, 0, 0, 0, 0, 0, 0 },
    { "default_weight_fake_quant", FAKE, MOVING, S8, -128, 127, SYMMETRIC, 0, 0, 0, 0, 0, 0 },
    { "default_per_channel_weight_fake_quant", FAKE, MOVING, S8, -128, 127, CHANNEL_SYMMETRIC, 0, 0, 0, 0, 0, 0 },
    { "default_dynamic_fake_quant", FAKE, MOVING, U8, 0, 255, AFFINE, 0, 1, 0, 1, 0, 0 },
    { "default_histogram_fake_quant", FAKE, HISTOGRAM, U8, 0, 255, AFFINE, 1, 0, 0, 0, 0, 0 },
    { "default_embedding_fake_quant", FAKE, MOVING, U8, 0, 255, FLOAT_QPARAMS, 0, 1, 0, 0, 0, 0 },
    { "default_embedding_fake_quant_4bit", FAKE, MOVING, RQ_DTYPE_U4, 0, 0, FLOAT_QPARAMS, 0, 1, 0, 0, 0, 0 },
    { "default_fixed_qparams_range_0to1_fake_quant", FIXED, RQ_OBSERVER_FIXED, U8, 0, 255, AFFINE, 0, 0, 0, 0, 0x1p-8f, 0 },
    { "default_fixed_qparams_range_neg1to1_fake_quant", FIXED, RQ_OBSERVER_FIXED, U8, 0, 255, AFFINE, 0, 0, 0, 0, 0x1p-7f, 128 },
    { "default_fused_act_fake_quant", FUSED, MOVING, U8, 0, 255, AFFINE, 0, 0, 0, 0, 0, 0 },
    { "fused_act_fake_quant_reduced", FUSED, MOVING, U8, 0, 255, AFFINE, 1, 0, 0, 0, 0, 0 },
    { "fused_act_fake_quant_qint8_eps_2_12", FUSED, MOVING, S8, -128, 127, AFFINE, 0, 0, EPS_XNNPACK, 0, 0, 0 },
    { "default_fused_wt_fake_quant", FUSED, MOVING, S8, -128, 127, SYMMETRIC, 0, 0, 0, 0, 0, 0 },
    { "default_fused_per_channel_wt_fake_quant", FUSED, MOVING, S8, -128, 127, CHANNEL_SYMMETRIC, 0, 0, 0, 0, 0, 0 },
    { "fused_wt_fake_quant_range_neg_127_to_127", FUSED, MOVING, S8, -127, 127, SYMMETRIC, 0, 0, EPS_XNNPACK, 0, 0, 0 },
    { "fused_per_channel_wt_fake_quant_range_neg_127_to_127", FUSED, MOVING, S8, -127, 127, CHANNEL_SYMMETRIC, 0, 0, EPS_XNNPACK, 0, 0, 0 },
};
/* clang-format on */

enum { N_CONSTRUCTORS = sizeof constructors / sizeof constructors[0] };

static rq_observer_cfg observer_of(const constructor *c)
{
    rq_observer_cfg o = rq_observer_defaults((rq_observer_kind)c->observer);
    o.type = rq_qtype_of(c->dtype);
    o.custom_range = c->lo != 0 || c->hi != 0;
    if (o.custom_range)
        o.type.lo = c->lo, o.type.hi = c->hi;
    o.scheme = c->scheme;
    o.axis = rq_qscheme_is_per_channel(c->scheme) ? 0 : RQ_PER_TENSOR;
    o.reduce_range = c->reduce_range;
    if (c->averaging_constant != 0)
        o.averaging_constant = c->averaging_constant;
    if (c->eps != 0)
        o.eps = c->eps;
    if (c->scale != 0)
        o.scale = c->scale, o.zero_point = c->zero_point;
    return o;
}

static rq_qconfig_part part_of(const constructor *c)
{
    static const rq_fake_quantizer_kind kinds[] = {
        [FAKE] = RQ_FAKE_QUANTIZER_STANDARD,
        [FUSED] = RQ_FAKE_QUANTIZER_FUSED,
        [FIXED] = RQ_FAKE_QUANTIZER_FIXED,
        [LEARNABLE] = RQ_FAKE_QUANTIZER_LEARNABLE,
    };
    if (c->form == IDENTITY)
        return rq_qconfig_nothing();
    rq_qconfig_part p;
    const rq_observer_cfg o = observer_of(c);
    if (c->form == OBSERVES) {
        p = rq_qconfig_observes(&o);
    } else {
        rq_fake_quantizer_cfg f = rq_fake_quantizer_defaults(kinds[c->form]);
        f.observer = o;
        p = rq_qconfig_fake_quantizes(&f);
    }
    p.dynamic = c->dynamic;
    return p;
}

/* ---- pairs ---- */

typedef struct pair {
    const char *name, *activation, *weight, *backend;
    int training, version; /* of a backend's default: 0 or 1; version as PyTorch counts */
} pair;

static const pair pairs[] = {
    { "default_qconfig", "default_observer", "default_weight_observer", NULL, 0, 0 },
    { "default_per_channel_qconfig", "default_observer", "default_per_channel_weight_observer", NULL, 0, 0 },
    { "default_debug_qconfig", "default_debug_observer", "default_weight_observer", NULL, 0, 0 },
    { "default_quint8_weight_qconfig", "histogram_observer", "default_quint8_weight_observer", NULL, 0, 0 },
    { "default_dynamic_qconfig", "default_dynamic_quant_observer", "default_weight_observer", NULL, 0, 0 },
    { "per_channel_dynamic_qconfig", "default_dynamic_quant_observer", "default_per_channel_weight_observer", NULL, 0,
      0 },
    { "float16_dynamic_qconfig", "float16_dynamic_observer", "float16_observer", NULL, 0, 0 },
    { "float16_static_qconfig", "float16_observer", "float16_observer", NULL, 0, 0 },
    { "float_qparams_weight_only_qconfig", "default_placeholder_observer", "default_float_qparams_observer", NULL, 0,
      0 },
    { "float_qparams_weight_only_qconfig_4bit", "default_placeholder_observer", "default_float_qparams_observer_4bit",
      NULL, 0, 0 },
    { "default_symmetric_qnnpack_qconfig", "histogram_observer_qint8_eps_2_12", "weight_observer_range_neg_127_to_127",
      NULL, 0, 0 },
    { "default_per_channel_symmetric_qnnpack_qconfig", "histogram_observer_qint8_eps_2_12",
      "per_channel_weight_observer_range_neg_127_to_127", NULL, 0, 0 },
    { "default_reuse_input_qconfig", "default_reuse_input_observer", "noop_observer", NULL, 0, 0 },
    { "default_qat_qconfig", "default_fake_quant", "default_weight_fake_quant", NULL, 1, 0 },
    { "default_qat_qconfig_v2", "default_fused_act_fake_quant", "default_fused_wt_fake_quant", NULL, 1, 1 },
    { "default_dynamic_qat_qconfig", "default_dynamic_fake_quant", "default_weight_fake_quant", NULL, 1, 0 },
    { "default_weight_only_qconfig", "identity", "default_weight_fake_quant", NULL, 1, 0 },
    { "default_activation_only_qconfig", "default_fake_quant", "identity", NULL, 1, 0 },
    { "default_symmetric_qnnpack_qat_qconfig", "fused_act_fake_quant_qint8_eps_2_12",
      "fused_wt_fake_quant_range_neg_127_to_127", NULL, 1, 1 },
    { "default_per_channel_symmetric_qnnpack_qat_qconfig", "fused_act_fake_quant_qint8_eps_2_12",
      "fused_per_channel_wt_fake_quant_range_neg_127_to_127", NULL, 1, 1 },
    { "default_embedding_qat_qconfig", "noop_observer_float32", "default_embedding_fake_quant", NULL, 1, 0 },
    { "default_embedding_qat_qconfig_4bit", "noop_observer_float32", "default_embedding_fake_quant_4bit", NULL, 1, 0 },
    /* the defaults of the backends */
    { "fbgemm", "histogram_observer_reduced", "default_per_channel_weight_observer", "fbgemm", 0, 0 },
    { "x86", "histogram_observer_reduced", "default_per_channel_weight_observer", "x86", 0, 0 },
    { "qnnpack", "histogram_observer", "default_weight_observer", "qnnpack", 0, 0 },
    { "onednn", "histogram_observer", "default_per_channel_weight_observer", "onednn", 0, 0 },
    { "fbgemm_qat_v0", "default_fake_quant", "default_per_channel_weight_fake_quant", "fbgemm", 1, 0 },
    { "x86_qat_v0", "default_fake_quant", "default_per_channel_weight_fake_quant", "x86", 1, 0 },
    { "qnnpack_qat_v0", "fake_quant_full_range", "default_weight_fake_quant", "qnnpack", 1, 0 },
    { "onednn_qat_v0", "fake_quant_full_range", "default_per_channel_weight_fake_quant", "onednn", 1, 0 },
    { "fbgemm_qat", "fused_act_fake_quant_reduced", "default_fused_per_channel_wt_fake_quant", "fbgemm", 1, 1 },
    { "x86_qat", "fused_act_fake_quant_reduced", "default_fused_per_channel_wt_fake_quant", "x86", 1, 1 },
    { "qnnpack_qat", "default_fused_act_fake_quant", "default_fused_wt_fake_quant", "qnnpack", 1, 1 },
    { "onednn_qat", "default_fused_act_fake_quant", "default_fused_per_channel_wt_fake_quant", "onednn", 1, 1 },
};
enum { N_PAIRS = sizeof pairs / sizeof pairs[0] };

/* Core ML Tools' LinearQuantizer: its defaults, and what is most often set. */
static const struct {
    const char *name;
    bool learnable, affine;
    rq_observer_kind observer;
    int bits;
} linears[] = {
    { "linear_quantizer", false, false, MOVING, 8 },
    { "linear_quantizer_affine", false, true, MOVING, 8 },
    { "linear_quantizer_min_max", false, false, MINMAX, 8 },
    { "linear_quantizer_ema_min_max", false, false, RQ_OBSERVER_EMA, 8 },
    { "linear_quantizer_qint4", false, false, MOVING, 4 },
    { "linear_quantizer_learnable", true, false, MOVING, 8 },
    { "linear_quantizer_learnable_affine", true, true, MOVING, 8 },
};
enum { N_LINEARS = sizeof linears / sizeof linears[0] };

static rq_qconfig linear_of(int i)
{
    rq_qconfig_linear c = rq_qconfig_linear_defaults();
    rq_qconfig q = { rq_qconfig_nothing(), rq_qconfig_nothing() };
    c.learnable = linears[i].learnable;
    c.affine = linears[i].affine;
    c.weight_observer = c.activation_observer = linears[i].observer;
    c.weight.lo = -(1 << (linears[i].bits - 1));
    c.weight.hi = -c.weight.lo - 1;
    (void)rq_qconfig_of_linear(&q, &c, NULL); /* cannot fail: tests/quant/test_qconfig.c compares each */
    return q;
}

static const constructor *constructor_named(const char *name)
{
    for (int i = 0; i < N_CONSTRUCTORS; i++)
        if (!strcmp(constructors[i].name, name))
            return &constructors[i];
    return NULL;
}

bool rq_qconfig_constructor(int i, rq_qconfig_constructor_row *out)
{
    if (i < 0 || i >= N_CONSTRUCTORS)
        return false;
    *out = (rq_qconfig_constructor_row) { .name = constructors[i].name, .part = part_of(&constructors[i]) };
    return true;
}

static rq_qconfig qconfig_of(const pair *p)
{
    return (rq_qconfig) {
        .activation = part_of(constructor_named(p->activation)),
        .weight = part_of(constructor_named(p->weight)),
    };
}

bool rq_qconfig_preset(int i, rq_qconfig_preset_row *out)
{
    if (i >= N_PAIRS && i < N_PAIRS + N_LINEARS) {
        *out = (rq_qconfig_preset_row) {
            .name = linears[i - N_PAIRS].name,
            .activation = "LinearQuantizer's",
            .weight = "LinearQuantizer's",
            .training = true,
            .qconfig = linear_of(i - N_PAIRS),
        };
        return true;
    }
    if (i < 0 || i >= N_PAIRS)
        return false;
    *out = (rq_qconfig_preset_row) {
        .name = pairs[i].name,
        .activation = pairs[i].activation,
        .weight = pairs[i].weight,
        .backend = pairs[i].backend,
        .training = pairs[i].training != 0,
        .version = pairs[i].version,
        .qconfig = qconfig_of(&pairs[i]),
    };
    return true;
}

rq_status rq_qconfig_part_named(rq_qconfig_part *out, const char *name, rq_err *err)
{
    const constructor *c = constructor_named(name);
    if (c) {
        *out = part_of(c);
        return RQ_OK;
    }
    char hint[RQ_NEAREST_HINT];
    rq_nearest near = rq_nearest_to(name);
    for (int i = 0; i < N_CONSTRUCTORS; i++)
        rq_nearest_try(&near, constructors[i].name);
    return rq_fail(err, RQ_NOT_FOUND, "no observer or fake-quantizer is named '%.80s'%s", name,
                   rq_nearest_hint(&near, hint));
}

rq_status rq_qconfig_named(rq_qconfig *out, const char *name, rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    rq_nearest near = rq_nearest_to(name);
    for (int i = 0; i < N_PAIRS; i++) {
        if (!strcmp(pairs[i].name, name)) {
            *out = qconfig_of(&pairs[i]);
            return RQ_OK;
        }
        rq_nearest_try(&near, pairs[i].name);
    }
    for (int i = 0; i < N_LINEARS; i++) {
        if (!strcmp(linears[i].name, name)) {
            *out = linear_of(i);
            return RQ_OK;
        }
        rq_nearest_try(&near, linears[i].name);
    }
    return rq_fail(err, RQ_NOT_FOUND, "no qconfig is named '%.80s'%s", name, rq_nearest_hint(&near, hint));
}

static rq_status default_of(rq_qconfig *out, const char *backend, int training, int version, rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    rq_nearest near = rq_nearest_to(backend);
    bool known = false;
    for (int i = 0; i < N_PAIRS; i++) {
        if (!pairs[i].backend)
            continue;
        if (!strcmp(pairs[i].backend, backend)) {
            known = true;
            if (pairs[i].training == training && pairs[i].version == version) {
                *out = qconfig_of(&pairs[i]);
                return RQ_OK;
            }
        }
        rq_nearest_try(&near, pairs[i].backend);
    }
    if (known)
        return rq_fail(err, RQ_BAD_ARG, "backend %s has no default qconfig of version %d for %s, only %s", backend,
                       version, training ? "training" : "post-training quantization", training ? "0 and 1" : "0");
    return rq_fail(err, RQ_NOT_FOUND, "unknown backend '%.80s', expected fbgemm, x86, qnnpack or onednn%s", backend,
                   rq_nearest_hint(&near, hint));
}

rq_status rq_qconfig_default(rq_qconfig *out, const char *backend, int version, rq_err *err)
{
    return default_of(out, backend, 0, version, err);
}

rq_status rq_qconfig_default_qat(rq_qconfig *out, const char *backend, int version, rq_err *err)
{
    return default_of(out, backend, 1, version, err);
}
