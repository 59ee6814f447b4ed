/* quant/qconfig.c — the two constructors of a qconfig: comparing them, and making an instance for a layer. */
#include "quant/qconfig.h"

#include <string.h>

rq_qconfig_part rq_qconfig_nothing(void)
{
    return (rq_qconfig_part) { .form = RQ_QCONFIG_NOTHING };
}

rq_qconfig_part rq_qconfig_observes(const rq_observer_cfg *cfg)
{
    return (rq_qconfig_part) { .form = RQ_QCONFIG_OBSERVER, .observer = *cfg };
}

rq_qconfig_part rq_qconfig_fake_quantizes(const rq_fake_quantizer_cfg *cfg)
{
    return (rq_qconfig_part) { .form = RQ_QCONFIG_FAKE_QUANTIZER, .fake_quantizer = *cfg };
}

const rq_observer_cfg *rq_qconfig_observer(const rq_qconfig_part *p)
{
    return p->form == RQ_QCONFIG_OBSERVER         ? &p->observer
           : p->form == RQ_QCONFIG_FAKE_QUANTIZER ? &p->fake_quantizer.observer
                                                  : NULL;
}

rq_qtype rq_qconfig_codes(const rq_observer_cfg *o)
{
    return o->reduce_range ? rq_qtype_reduced(&o->type) : o->type;
}

bool rq_qconfig_finds_scale(const rq_observer_cfg *o)
{
    return o->kind != RQ_OBSERVER_PLACEHOLDER && o->kind != RQ_OBSERVER_NOOP && o->kind != RQ_OBSERVER_REUSE_INPUT &&
           o->kind != RQ_OBSERVER_RECORDING;
}

static bool observers_equal(const rq_observer_cfg *a, const rq_observer_cfg *b)
{
    return a->kind == b->kind && a->type.dtype == b->type.dtype && a->type.lo == b->type.lo &&
           a->type.hi == b->type.hi && a->scheme == b->scheme && a->axis == b->axis &&
           a->custom_range == b->custom_range && a->reduce_range == b->reduce_range && a->eps == b->eps &&
           a->compat == b->compat && a->averaging_constant == b->averaging_constant && a->ema_ratio == b->ema_ratio &&
           a->bins == b->bins && a->upsample_rate == b->upsample_rate && a->torch_1 == b->torch_1 &&
           a->scale == b->scale && a->zero_point == b->zero_point && a->most == b->most && a->choice == b->choice &&
           a->percentile == b->percentile && a->levels == b->levels && a->symmetric == b->symmetric &&
           a->with_zero == b->with_zero && a->own == b->own;
}

bool rq_qconfig_part_equal(const rq_qconfig_part *a, const rq_qconfig_part *b)
{
    if (a->form != b->form || a->dynamic != b->dynamic)
        return false;
    const rq_observer_cfg *x = rq_qconfig_observer(a), *y = rq_qconfig_observer(b);
    const rq_fake_quantizer_cfg *f = &a->fake_quantizer, *g = &b->fake_quantizer;
    if (a->form == RQ_QCONFIG_FAKE_QUANTIZER &&
        (f->kind != g->kind || f->compat != g->compat || f->rule != g->rule ||
         f->use_grad_scaling != g->use_grad_scaling || f->channels != g->channels || f->scale != g->scale ||
         f->zero_point != g->zero_point || f->own != g->own))
        return false;
    return !x || observers_equal(x, y);
}

bool rq_qconfig_equal(const rq_qconfig *a, const rq_qconfig *b)
{
    if (!a || !b)
        return a == b;
    return rq_qconfig_part_equal(&a->activation, &b->activation) && rq_qconfig_part_equal(&a->weight, &b->weight);
}

/* ---- types of layers ---- */

/* "torch.nn.functional.relu", "F.relu" -> "relu"; "torch.nn.Linear", "nn.Linear" -> "Linear". Names of other packages stay whole:
 * "my.Linear" is another class. */
static const char *short_type(const char *type)
{
    static const char *const packages[] = {
        "torch.nn.functional.", "torch.nn.", "torch.Tensor.", "torch.", "nn.functional.", "nn.", "F.", "operator."
    };
    if (!strchr(type, '.'))
        return type;
    for (size_t i = 0; i < sizeof packages / sizeof packages[0]; i++) {
        const size_t n = strlen(packages[i]);
        if (!strncmp(type, packages[i], n) && type[n] && !strchr(type + n, '.'))
            return type + n;
    }
    return type;
}

bool rq_qconfig_type_is(const char *type, const char *wanted)
{
    return type && wanted && !strcmp(short_type(type), short_type(wanted));
}

bool rq_qconfig_type_in(const char *type, const char *list)
{
    if (!type)
        return false;
    type = short_type(type);
    const size_t n = strlen(type);
    for (const char *at = list; n && (at = strstr(at, type)); at += n)
        if ((at == list || at[-1] == ',') && (!at[n] || at[n] == ','))
            return true;
    return false;
}

bool rq_qconfig_type_is_transposed(const char *type)
{
    return rq_qconfig_type_in(type, "ConvTranspose1d,ConvTranspose2d,ConvTranspose3d,conv_transpose1d,conv_transpose2d,"
                                    "conv_transpose3d,ConvTranspose");
}

int rq_qconfig_weight_axis(const char *type)
{
    return rq_qconfig_type_is_transposed(type) ? 1 : 0;
}

bool rq_qconfig_fixed_of(const char *type, float *scale, int32_t *zero_point)
{
    static const struct {
        const char *types;
        float scale;
        int32_t zero_point;
    } rows[] = {
        { "Sigmoid,sigmoid,sigmoid_,Hardsigmoid,hardsigmoid,hardsigmoid_,Softmax", 0x1p-8f, 0 },
        { "Tanh,tanh,tanh_", 0x1p-7f, 128 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rq_qconfig_type_in(type, rows[i].types)) {
            *scale = rows[i].scale;
            *zero_point = rows[i].zero_point;
            return true;
        }
    return false;
}

bool rq_qconfig_is_fixed(const rq_qconfig *q, float scale, int32_t zero_point)
{
    const rq_observer_cfg *o = rq_qconfig_observer(&q->activation);
    return o && o->kind == RQ_OBSERVER_FIXED && o->scale == scale && o->zero_point == zero_point;
}

bool rq_qconfig_watches_input(const rq_qconfig *q)
{
    const rq_observer_cfg *o = rq_qconfig_observer(&q->activation);
    return o && o->kind == RQ_OBSERVER_MOVING_AVERAGE && o->averaging_constant == 1;
}

/* ---- making ---- */

static rq_status make(const rq_qconfig_part *p, int axis, rq_qconfig_made *out, rq_err *err)
{
    *out = (rq_qconfig_made) { 0 };
    rq_qconfig_part mine = *p;
    rq_observer_cfg *o = mine.form == RQ_QCONFIG_OBSERVER ? &mine.observer : &mine.fake_quantizer.observer;
    if (mine.form != RQ_QCONFIG_NOTHING && rq_qscheme_is_per_channel(o->scheme) && o->axis == 0)
        o->axis = axis;
    switch (mine.form) {
    case RQ_QCONFIG_OBSERVER:
        return rq_observer_create(&out->observer, o, err);
    case RQ_QCONFIG_FAKE_QUANTIZER:
        return rq_fake_quantizer_create(&out->fake_quantizer, &mine.fake_quantizer, err);
    default:
        return RQ_OK;
    }
}

rq_status rq_qconfig_make_activation(const rq_qconfig *q, rq_qconfig_made *out, rq_err *err)
{
    return make(&q->activation, 0, out, err);
}

rq_status rq_qconfig_make_weight(const rq_qconfig *q, const char *type, rq_qconfig_made *out, rq_err *err)
{
    return make(&q->weight, rq_qconfig_weight_axis(type), out, err);
}

void rq_qconfig_made_release(rq_qconfig_made *made)
{
    rq_observer_destroy(made->observer);
    rq_fake_quantizer_destroy(made->fake_quantizer);
    *made = (rq_qconfig_made) { 0 };
}
