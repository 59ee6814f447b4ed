/* algo/qconfig_part.c — reading one qconfig: null, the name of a preset, {activation, weight}, or what Core ML Tools calls a module config. A
 * constructor is null, a name, or an observer or fake-quantizer with its arguments. */
#include <stddef.h>
#include <stdio.h>

#include "algo/qconfig_text.h"
#include "graph/own.h"

/* ---- constructors ---- */

/* The arguments of a constructor that are plain numbers; the rest is read one by one. */
const char *const rq_qconfig_rules[] = { [RQ_LEARNED_TORCH] = "torch", [RQ_LEARNED_LSQ] = "lsq", NULL };

const rq_qconfig_field rq_qconfig_fields[] = {
#define IN(field) offsetof(rq_observer_cfg, field)
    { "reduce_range", RQ_FIELD_BOOL, false, IN(reduce_range), 0, 1 },
    { "eps", RQ_FIELD_FLOAT, false, IN(eps), 0, 0.5 },
    { "averaging_constant", RQ_FIELD_DOUBLE, false, IN(averaging_constant), 0, 1 },
    { "ema_ratio", RQ_FIELD_DOUBLE, false, IN(ema_ratio), 0, 1 },
    { "bins", RQ_FIELD_INT, false, IN(bins), 1, 65536 },
    { "upsample_rate", RQ_FIELD_INT, false, IN(upsample_rate), 1, 1024 },
    { "torch_1", RQ_FIELD_BOOL, false, IN(torch_1), 0, 1 },
    { "scale", RQ_FIELD_FLOAT, false, IN(scale), 0x1p-126, 0x1p127 },
    { "zero_point", RQ_FIELD_INT, false, IN(zero_point), -32768, 65535 },
    { "percentile", RQ_FIELD_DOUBLE, false, IN(percentile), 0, 100 },
    { "compat", RQ_FIELD_BOOL, false, IN(compat), 0, 1 },
#undef IN
#define IN(field) offsetof(rq_fake_quantizer_cfg, field)
    { "learned_rule", RQ_FIELD_RULE, true, IN(rule), 0, 0 },
    { "use_grad_scaling", RQ_FIELD_BOOL, true, IN(use_grad_scaling), 0, 1 },
    { "channel_len", RQ_FIELD_INT, true, IN(channels), 0, 1 << 24 },
    { "initial_scale", RQ_FIELD_FLOAT, true, IN(scale), 0, 0x1p127 },
    { "initial_zero_point", RQ_FIELD_FLOAT, true, IN(zero_point), -32768, 65535 },
    { NULL, RQ_FIELD_BOOL, false, 0, 0, 0 },
#undef IN
};

/* Position of the value among words that end in NULL. */
static rq_status read_word(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at,
                           const char *const *words, int *out)
{
    const char *text;
    RQ_TRY(rq_qconfig_read_text(in, n, at, &text));
    rq_nearest near = rq_nearest_to(text);
    for (*out = 0; words[*out]; ++*out) {
        if (!strcmp(words[*out], text))
            return RQ_OK;
        rq_nearest_try(&near, words[*out]);
    }
    char sentence[300];
    size_t used = (size_t)snprintf(sentence, sizeof sentence, "'%.40s', expected one of", text);
    for (int i = 0; words[i] && used < sizeof sentence; i++)
        used += (size_t)snprintf(sentence + used, sizeof sentence - used, "%s %s", i ? "," : "", words[i]);
    return rq_qconfig_fail(in, n, at, sentence);
}

static rq_status read_field(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at,
                            const rq_qconfig_field *f, void *cfg)
{
    char *to = (char *)cfg + f->at;
    double v;
    int word;
    if (f->type == RQ_FIELD_RULE) {
        RQ_TRY(read_word(in, n, at, rq_qconfig_rules, &word));
        *(rq_learned_rule *)(void *)to = (rq_learned_rule)word;
        return RQ_OK;
    }
    if (f->type == RQ_FIELD_BOOL)
        return rq_qconfig_read_bool(in, n, at, (bool *)to);
    RQ_TRY(rq_qconfig_read_number(in, n, at, f->lo, f->hi, f->type == RQ_FIELD_INT, &v));
    if (f->type == RQ_FIELD_INT)
        *(int *)(void *)to = (int)v;
    else if (f->type == RQ_FIELD_FLOAT)
        *(float *)(void *)to = (float)v;
    else
        *(double *)(void *)to = v;
    return RQ_OK;
}

/* What a constructor's map says, before it is put together. */
typedef struct arguments {
    const char *observer, *fake_quantize;
    const yaml_node_t *observer_at, *fake_quantize_at, *dtype_at, *scheme_at, *lo_at, *hi_at, *axis_at;
    bool dynamic;
} arguments;

/* The library has none of that name (the sentence stands), nor has the program. */
static rq_status no_observer(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at)
{
    if (in->own && in->own->n_observers && in->err) {
        size_t used = strlen(in->err->text);
        for (int i = 0; i < in->own->n_observers && used < sizeof in->err->text; i++)
            used += (size_t)snprintf(in->err->text + used, sizeof in->err->text - used, "%s%.60s",
                                     i ? ", " : "; the program brings ", in->own->observer[i]->name);
    }
    return rq_qconfig_fail_in(in, n, at, RQ_BAD_RECIPE);
}

static rq_status read_observer(rq_qconfig_reader *in, const arguments *a, const rq_qconfig_place *at,
                               rq_observer_cfg *o)
{
    const char *name = a->observer ? a->observer : "moving_average_min_max"; /* of a fake-quantizer that names none */
    const rq_own_observer *own = rq_own_observer_of(in->own, name);
    rq_observer_kind kind = RQ_OBSERVER_OWN;
    if (!own && rq_observer_kind_parse(&kind, name, in->err) != RQ_OK)
        return no_observer(in, a->observer_at, &(rq_qconfig_place) { at, "observer" });
    if (own && own->choose)
        kind = RQ_OBSERVER_COUNTS;
    *o = rq_observer_defaults(kind);
    o->own = own;
    if (own && own->choose)
        o->choice = RQ_CHOICE_OWN;
    return RQ_OK;
}

static rq_status read_fake_quantizer(rq_qconfig_reader *in, const arguments *a, const rq_qconfig_place *at,
                                     rq_fake_quantizer_cfg *out)
{
    const char *name = a->fake_quantize;
    rq_nearest near = rq_nearest_to(name);
    for (int k = 0; k < RQ_FAKE_QUANTIZER_OWN; k++) {
        const char *class = rq_fake_quantizer_kind_name((rq_fake_quantizer_kind)k);
        if (!strcmp(class, name)) {
            *out = rq_fake_quantizer_defaults((rq_fake_quantizer_kind)k);
            return RQ_OK;
        }
        rq_nearest_try(&near, class);
    }
    for (int i = 0; in->own && i < in->own->n_fake_quantizers; i++)
        rq_nearest_try(&near, in->own->fake_quantizer[i]->name);
    const rq_own_fake_quantizer *own;
    if (rq_own_find_fake_quantizer(in->own, name, &own, NULL) != RQ_OK)
        return rq_qconfig_unknown(in, a->fake_quantize_at, &(rq_qconfig_place) { at, "fake_quantize" }, name,
                                  in->own && in->own->n_fake_quantizers
                                      ? "neither the library nor the program has a fake-quantizer"
                                      : "there is no fake-quantizer",
                                  &near);
    *out = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_OWN);
    out->own = own;
    return RQ_OK;
}

static rq_status read_type(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at, rq_observer_cfg *o)
{
    static const struct {
        const char *name;
        rq_dtype dtype;
    } floats[] = { { "float16", RQ_DTYPE_F16 },    { "torch.float16", RQ_DTYPE_F16 }, { "f16", RQ_DTYPE_F16 },
                   { "float32", RQ_DTYPE_F32 },    { "torch.float32", RQ_DTYPE_F32 }, { "f32", RQ_DTYPE_F32 },
                   { "torch.float", RQ_DTYPE_F32 } };
    const char *text;
    RQ_TRY(rq_qconfig_read_text(in, n, at, &text));
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++)
        if (!strcmp(text, floats[i].name)) {
            o->type = (rq_qtype) { .dtype = floats[i].dtype };
            return RQ_OK;
        }
    const rq_status s = rq_qtype_parse(&o->type, text, in->err);
    if (s != RQ_OK)
        return rq_qconfig_fail_in(in, n, at, s);
    const rq_qtype full = rq_qtype_of(o->type.dtype);
    o->custom_range = o->type.lo != full.lo || o->type.hi != full.hi;
    return RQ_OK;
}

/* dtype, qscheme, quant_min and quant_max, ch_axis. */
static rq_status read_codes(rq_qconfig_reader *in, const arguments *a, const rq_qconfig_place *at, rq_observer_cfg *o)
{
    const char *text;
    if (a->dtype_at)
        RQ_TRY(read_type(in, a->dtype_at, &(rq_qconfig_place) { at, "dtype" }, o));
    if (!a->lo_at != !a->hi_at)
        return rq_qconfig_fail(in, a->lo_at ? a->lo_at : a->hi_at,
                               &(rq_qconfig_place) { at, a->lo_at ? "quant_min" : "quant_max" },
                               a->lo_at ? "given without quant_max" : "given without quant_min");
    if (a->lo_at) {
        double lo, hi;
        RQ_TRY(rq_qconfig_read_number(in, a->lo_at, &(rq_qconfig_place) { at, "quant_min" }, INT32_MIN, INT32_MAX, true,
                                      &lo));
        RQ_TRY(rq_qconfig_read_number(in, a->hi_at, &(rq_qconfig_place) { at, "quant_max" }, INT32_MIN, INT32_MAX, true,
                                      &hi));
        const rq_status s = rq_qtype_range(&o->type, o->type.dtype, (int64_t)lo, (int64_t)hi, in->err);
        if (s != RQ_OK)
            return rq_qconfig_fail_in(in, a->lo_at, &(rq_qconfig_place) { at, "quant_min" }, s);
        o->custom_range = true;
    }
    const bool channels = a->observer && strstr(a->observer, "PerChannel");
    if (channels)
        o->scheme = RQ_QSCHEME_PER_CHANNEL_AFFINE;
    if (a->scheme_at) {
        RQ_TRY(rq_qconfig_read_text(in, a->scheme_at, &(rq_qconfig_place) { at, "qscheme" }, &text));
        const rq_status s = rq_qscheme_parse(&o->scheme, text, in->err);
        if (s != RQ_OK)
            return rq_qconfig_fail_in(in, a->scheme_at, &(rq_qconfig_place) { at, "qscheme" }, s);
    }
    if (channels && !rq_qscheme_is_per_channel(o->scheme))
        return rq_qconfig_fail(in, a->scheme_at, &(rq_qconfig_place) { at, "qscheme" },
                               "a per-channel observer wants a per-channel scheme");
    o->axis = rq_qscheme_is_per_channel(o->scheme) ? 0 : RQ_PER_TENSOR;
    if (a->axis_at) {
        double v;
        RQ_TRY(rq_qconfig_read_number(in, a->axis_at, &(rq_qconfig_place) { at, "ch_axis" }, RQ_PER_TENSOR,
                                      RQ_MAX_RANK - 1, true, &v));
        o->axis = (int)v;
    }
    return RQ_OK;
}

static rq_status unknown_argument(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at,
                                  const char *key)
{
    static const char *const keys[] = { "observer",  "fake_quantize", "dtype",      "qscheme", "quant_min",
                                        "quant_max", "ch_axis",       "is_dynamic", NULL };
    rq_nearest near = rq_nearest_to(key);
    for (int i = 0; keys[i]; i++)
        rq_nearest_try(&near, keys[i]);
    for (const rq_qconfig_field *f = rq_qconfig_fields; f->name; f++)
        rq_nearest_try(&near, f->name);
    return rq_qconfig_unknown(in, n, at, key, "unknown key", &near);
}

static rq_status read_part_map(rq_qconfig_reader *in, const yaml_node_t *map, const rq_qconfig_place *at,
                               rq_qconfig_part *out)
{
    arguments a = { 0 };
    RQ_TRY(rq_qconfig_check_keys(in, map, at));
    const yaml_node_pair_t *first = map->data.mapping.pairs.start, *end = map->data.mapping.pairs.top;
    for (const yaml_node_pair_t *p = first; p < end; p++) {
        const yaml_node_t *value = node(in, p->value);
        const char *key = text_of(node(in, p->key));
        const rq_qconfig_place here = { at, key };
        const rq_qconfig_field *f = rq_qconfig_fields;
        while (f->name && strcmp(f->name, key))
            f++;
        if (!strcmp(key, "observer")) {
            a.observer_at = value;
            RQ_TRY(rq_qconfig_read_text(in, value, &here, &a.observer));
        } else if (!strcmp(key, "fake_quantize")) {
            a.fake_quantize_at = value;
            RQ_TRY(rq_qconfig_read_text(in, value, &here, &a.fake_quantize));
        } else if (!strcmp(key, "dtype")) {
            a.dtype_at = value;
        } else if (!strcmp(key, "qscheme")) {
            a.scheme_at = value;
        } else if (!strcmp(key, "quant_min")) {
            a.lo_at = value;
        } else if (!strcmp(key, "quant_max")) {
            a.hi_at = value;
        } else if (!strcmp(key, "ch_axis")) {
            a.axis_at = value;
        } else if (!strcmp(key, "is_dynamic")) {
            RQ_TRY(rq_qconfig_read_bool(in, value, &here, &a.dynamic));
        } else if (!f->name) {
            return unknown_argument(in, node(in, p->key), at, key);
        }
    }
    if (!a.observer && !a.fake_quantize)
        return rq_qconfig_fail(in, map, at, "expected 'observer' or 'fake_quantize'");
    rq_observer_cfg o = rq_observer_defaults(RQ_OBSERVER_MINMAX);
    rq_fake_quantizer_cfg fq = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
    RQ_TRY(read_observer(in, &a, at, &o));
    RQ_TRY(read_codes(in, &a, at, &o));
    if (a.fake_quantize)
        RQ_TRY(read_fake_quantizer(in, &a, at, &fq));
    for (const yaml_node_pair_t *p = first; p < end; p++)
        for (const rq_qconfig_field *f = rq_qconfig_fields; f->name; f++) {
            const rq_qconfig_place here = { at, f->name };
            if (strcmp(f->name, text_of(node(in, p->key))) != 0)
                continue;
            if (f->of_fake_quantizer && !a.fake_quantize)
                return rq_qconfig_fail(in, node(in, p->key), &here, "an argument of fake-quantizers");
            RQ_TRY(read_field(in, node(in, p->value), &here, f, f->of_fake_quantizer ? (void *)&fq : (void *)&o));
        }
    if (a.fake_quantize) {
        fq.observer = o;
        fq.compat = o.compat;
        *out = rq_qconfig_fake_quantizes(&fq);
    } else {
        *out = rq_qconfig_observes(&o);
    }
    out->dynamic = a.dynamic;
    return RQ_OK;
}

static rq_status read_part(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at,
                           rq_qconfig_part *out)
{
    if (is_map(n))
        return read_part_map(in, n, at, out);
    if (rq_qconfig_is_null(n)) {
        *out = rq_qconfig_nothing();
        return RQ_OK;
    }
    const char *name;
    RQ_TRY(rq_qconfig_read_text(in, n, at, &name));
    if (rq_own_observer_of(in->own, name))
        return rq_qconfig_fail(in, n, at, "an observer of the program: write {observer: its name}");
    const rq_status s = rq_qconfig_part_named(out, name, in->err);
    return s == RQ_OK ? RQ_OK : rq_qconfig_fail_in(in, n, at, s);
}

/* ---- qconfigs ---- */

static const char *const linear_keys[] = { "algorithm",           "weight_dtype",
                                           "weight_observer",     "weight_per_channel",
                                           "activation_dtype",    "activation_observer",
                                           "quantization_scheme", NULL };

static int linear_key(const char *key)
{
    for (int i = 0; linear_keys[i]; i++)
        if (!strcmp(linear_keys[i], key))
            return i;
    return -1;
}

static rq_status read_linear(rq_qconfig_reader *in, const yaml_node_t *map, const rq_qconfig_place *at, rq_qconfig *out)
{
    static const char
        *const algorithms[] = { "vanilla", "learnable", NULL },
               *const schemes[] = { "symmetric", "affine", NULL }, *const weights[] = { "qint8",  "quint8",  "qint4",
                                                                                        "quint4", "float32", NULL },
               *const activations[] = { "quint8", "float32", NULL }, *const observers[] = { "moving_average_min_max",
                                                                                            "min_max",
                                                                                            "ema_min_max",
                                                                                            "ema_percentile",
                                                                                            "mse",
                                                                                            "ema_mse",
                                                                                            "lsq",
                                                                                            "lsq_plus",
                                                                                            NULL };
    rq_qconfig_linear c = rq_qconfig_linear_defaults();
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *value = node(in, p->value);
        const char *key = text_of(node(in, p->key));
        const rq_qconfig_place here = { at, key };
        int i = 0;
        switch (linear_key(key)) {
        case 0:
            RQ_TRY(read_word(in, value, &here, algorithms, &i));
            c.learnable = i == 1;
            break;
        case 1:
            RQ_TRY(read_word(in, value, &here, weights, &i));
            if (i == 4)
                c.weight = (rq_qtype) { .dtype = RQ_DTYPE_F32 };
            else
                RQ_TRY(rq_qtype_bits(&c.weight, i < 2 ? 8 : 4, i % 2 == 0, false, in->err));
            break;
        case 2:
        case 5:
            RQ_TRY(read_word(in, value, &here, observers, &i));
            RQ_TRY(rq_observer_kind_parse(linear_key(key) == 2 ? &c.weight_observer : &c.activation_observer,
                                          observers[i], in->err));
            break;
        case 3:
            RQ_TRY(rq_qconfig_read_bool(in, value, &here, &c.weight_per_channel));
            break;
        case 4:
            RQ_TRY(read_word(in, value, &here, activations, &i));
            c.activation = i == 0 ? RQ_DTYPE_U8 : RQ_DTYPE_F32;
            break;
        case 6:
            RQ_TRY(read_word(in, value, &here, schemes, &i));
            c.affine = i == 1;
            break;
        default: {
            rq_nearest near = rq_nearest_to(key);
            for (int k = 0; linear_keys[k]; k++)
                rq_nearest_try(&near, linear_keys[k]);
            return rq_qconfig_unknown(in, node(in, p->key), at, key, "unknown key", &near);
        }
        }
    }
    const rq_status s = rq_qconfig_of_linear(out, &c, in->err);
    return s == RQ_OK ? RQ_OK : rq_qconfig_fail_in(in, map, at, s);
}

/* *out is q, or NULL for null. */
rq_status rq_qconfig_read(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at, rq_qconfig *q,
                          const rq_qconfig **out)
{
    *out = NULL;
    if (rq_qconfig_is_null(n))
        return RQ_OK;
    *out = q;
    if (!is_map(n)) {
        const char *name;
        RQ_TRY(rq_qconfig_read_text(in, n, at, &name));
        const rq_status s = rq_qconfig_named(q, name, in->err);
        return s == RQ_OK ? RQ_OK : rq_qconfig_fail_in(in, n, at, s);
    }
    RQ_TRY(rq_qconfig_check_keys(in, n, at));
    bool activation = false, weight = false;
    for (const yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
        const char *key = text_of(node(in, p->key));
        const rq_qconfig_place here = { at, key };
        if (linear_key(key) >= 0)
            return read_linear(in, n, at, q);
        if (!strcmp(key, "activation")) {
            activation = true;
            RQ_TRY(read_part(in, node(in, p->value), &here, &q->activation));
        } else if (!strcmp(key, "weight")) {
            weight = true;
            RQ_TRY(read_part(in, node(in, p->value), &here, &q->weight));
        } else {
            rq_nearest near = rq_nearest_to(key);
            rq_nearest_try(&near, "activation");
            rq_nearest_try(&near, "weight");
            for (int k = 0; linear_keys[k]; k++)
                rq_nearest_try(&near, linear_keys[k]);
            return rq_qconfig_unknown(in, node(in, p->key), at, key, "unknown key", &near);
        }
    }
    if (!activation || !weight)
        return rq_qconfig_fail(in, n, at,
                               activation ? "no 'weight'; null leaves it in float"
                                          : "no 'activation'; null leaves it in float");
    const rq_status s = rq_qconfig_check(q, NULL, NULL, in->err);
    return s == RQ_OK ? RQ_OK : rq_qconfig_fail_in(in, n, at, s);
}
