/* quant/observer.c — what all observers share: creation, the pass over a batch, from range to parameters, states. The kinds themselves are
 * rows (observer_row.h). */
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "quant/observer_row.h"

static const rq_observer_row *const rows[RQ_N_OBSERVERS] = {
#define RQ_OBSERVER_ROW(kind, name) [RQ_OBSERVER_##kind] = &rq_observer_##name,
#include "quant/observer_rows.inc"
#undef RQ_OBSERVER_ROW
};

/* ---- kinds ---- */

static const rq_observer_row *row_of(rq_observer_kind kind)
{
    return (unsigned)kind < RQ_N_OBSERVERS ? rows[kind] : NULL;
}

const char *rq_observer_kind_name(rq_observer_kind kind)
{
    const rq_observer_row *row = row_of(kind);
    return row ? row->name : "?";
}

bool rq_observer_kind_is_native(rq_observer_kind kind)
{
    const rq_observer_row *row = row_of(kind);
    return row && row->native;
}

static bool same_word(const char *a, const char *b)
{
    while (*a && tolower((unsigned char)*a) == tolower((unsigned char)*b)) {
        a++;
        b++;
    }
    return !*a && !*b;
}

rq_status rq_observer_kind_parse(rq_observer_kind *out, const char *text, rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    const char *dot = strncmp(text, "torch.", 6) ? NULL : strrchr(text, '.');
    const char *word = dot ? dot + 1 : text;
    rq_nearest near = rq_nearest_to(word);
    for (int k = 0; k < RQ_N_OBSERVERS; k++) {
        const rq_observer_row *row = rows[k];
        const char *names[] = { row ? row->name : NULL, row ? row->title[0] : NULL, row ? row->title[1] : NULL };
        for (int i = 0; i < 3; i++) {
            if (!names[i])
                continue;
            if (same_word(names[i], word)) {
                *out = (rq_observer_kind)k;
                return RQ_OK;
            }
            rq_nearest_try(&near, names[i]);
        }
    }
    return rq_fail(err, RQ_BAD_ARG, "there is no observer '%s'%s", text, rq_nearest_hint(&near, hint));
}

/* ---- making ---- */

rq_observer_cfg rq_observer_defaults(rq_observer_kind kind)
{
    return (rq_observer_cfg) {
        .kind = kind,
        .type = rq_qtype_of(RQ_DTYPE_U8),
        .scheme = RQ_QSCHEME_PER_TENSOR_AFFINE,
        .axis = RQ_PER_TENSOR,
        .eps = 0x1p-23f,
        .averaging_constant = 0.01,
        .ema_ratio = 0.9,
        .bins = 2048,
        .upsample_rate = 16,
        .scale = 1,
        .most = 1 << 24,
        .choice = kind == RQ_OBSERVER_STACKED ? RQ_CHOICE_PERCENTILE : RQ_CHOICE_MSE,
        .percentile = kind == RQ_OBSERVER_EMA_PERCENTILE ? 99.999 : 99.99,
        .levels = 256,
    };
}

rq_qparams_rule rq_observer_rule(const rq_observer *o)
{
    return (rq_qparams_rule) {
        .kind = RQ_QPARAMS_OBSERVER,
        .type = o->cfg.type,
        .scheme = o->cfg.scheme,
        .custom_range = o->cfg.custom_range,
        .reduce_range = o->cfg.reduce_range,
        .eps = o->cfg.eps,
        .compat = o->cfg.compat,
    };
}

static rq_status check_own(const rq_observer_cfg *c, rq_err *err)
{
    if (c->kind == RQ_OBSERVER_OWN && (!c->own || !c->own->create))
        return rq_fail(err, RQ_BAD_ARG, "an own observer needs `own` with a state: create, update, range, destroy");
    if (c->kind == RQ_OBSERVER_COUNTS && c->choice == RQ_CHOICE_OWN && (!c->own || !c->own->choose))
        return rq_fail(err, RQ_BAD_ARG, "an own choice needs `own` with choose");
    return RQ_OK;
}

static rq_status check_counts(const rq_observer_cfg *c, rq_err *err)
{
    const bool stacked = c->kind == RQ_OBSERVER_STACKED;
    if (!stacked && c->kind != RQ_OBSERVER_COUNTS)
        return RQ_OK;
    if (c->bins < 16 || c->bins > 65536)
        return rq_fail(err, RQ_BAD_ARG, "%d bins, expected 16 to 65536", c->bins);
    if (c->levels < 2 || c->levels > (stacked ? c->bins : 65536))
        return rq_fail(err, RQ_BAD_ARG, "%d levels, expected 2 to %d", c->levels, stacked ? c->bins : 65536);
    if (!(c->percentile > 0 && c->percentile <= 100))
        return rq_fail(err, RQ_BAD_ARG, "percentile %g, expected a number above 0, at most 100", c->percentile);
    if ((unsigned)c->choice > RQ_CHOICE_OWN ||
        (stacked && c->choice != RQ_CHOICE_PERCENTILE && c->choice != RQ_CHOICE_ENTROPY))
        return rq_fail(err, RQ_BAD_ARG, "choice %d is none of this observer", (int)c->choice);
    return RQ_OK;
}

static rq_status check(const rq_observer_cfg *c, rq_err *err)
{
    const rq_observer_row *row = row_of(c->kind);
    if (!row)
        return rq_fail(err, RQ_UNSUPPORTED, "there is no observer of kind %d", (int)c->kind);
    const rq_observer o = { .cfg = *c, .row = row };
    const rq_qparams_rule rule = rq_observer_rule(&o);
    if (c->axis < RQ_PER_TENSOR || c->axis >= RQ_MAX_RANK)
        return rq_fail(err, RQ_BAD_ARG, "axis %d, expected 0 to %d, or %d for the whole tensor", c->axis,
                       RQ_MAX_RANK - 1, RQ_PER_TENSOR);
    if (c->axis != RQ_PER_TENSOR && !row->per_channel && !row->blind)
        return rq_fail(err, RQ_UNSUPPORTED, "the observer %s is for whole tensors, not for channels", row->name);
    if (!row->no_qparams) {
        RQ_TRY(rq_qparams_rule_check(&rule, err));
        if (c->reduce_range && c->type.dtype == RQ_DTYPE_U8 && !c->custom_range && !row->halves_symmetric &&
            rq_qscheme_is_symmetric(c->scheme))
            return rq_fail(err, RQ_BAD_ARG,
                           "unsigned symmetric codes have their zero in the middle of 0..255: the range "
                           "cannot be reduced");
        if (rq_qscheme_is_per_channel(c->scheme) != (c->axis != RQ_PER_TENSOR) && row->per_channel)
            return rq_fail(
                err, RQ_BAD_ARG,
                "scheme %s and axis %d do not go together: a scheme per channel has an axis, one per tensor %d",
                rq_qscheme_name(c->scheme), c->axis, RQ_PER_TENSOR);
    }
    if (!(c->averaging_constant >= 0 && c->averaging_constant <= 1))
        return rq_fail(err, RQ_BAD_ARG, "averaging_constant %g, expected 0 to 1", c->averaging_constant);
    if (!(c->ema_ratio >= 0 && c->ema_ratio < 1))
        return rq_fail(err, RQ_BAD_ARG, "ema_ratio %g, expected 0 to below 1", c->ema_ratio);
    RQ_TRY(check_counts(c, err));
    return check_own(c, err);
}

rq_status rq_observer_set_channels(rq_observer *o, int n)
{
    rq_range *range = rq_mem_alloc((size_t)n, sizeof *range);
    if (!range)
        return RQ_NO_MEMORY;
    for (int i = 0; i < n; i++)
        range[i] = (rq_range) { INFINITY, -INFINITY };
    rq_mem_free(o->range);
    o->range = range;
    o->channels = n;
    return RQ_OK;
}

rq_status rq_observer_create(rq_observer **out, const rq_observer_cfg *cfg, rq_err *err)
{
    RQ_TRY(check(cfg, err));
    rq_observer *o = rq_mem_zalloc(1, sizeof *o);
    if (!o)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory making an observer");
    o->cfg = *cfg;
    o->row = rows[cfg->kind];
    rq_status s = RQ_OK;
    if ((cfg->axis == RQ_PER_TENSOR || o->row->blind) && rq_observer_set_channels(o, 1))
        s = rq_fail(err, RQ_NO_MEMORY, "out of memory making an observer");
    if (!s && o->row->init)
        s = o->row->init(o, err);
    if (s) {
        rq_observer_destroy(o);
        return s;
    }
    *out = o;
    return RQ_OK;
}

void rq_observer_destroy(rq_observer *o)
{
    if (!o)
        return;
    if (o->row->release)
        o->row->release(o);
    rq_mem_free(o->range);
    rq_mem_free(o);
}

void rq_observer_reset(rq_observer *o)
{
    if (o->cfg.axis != RQ_PER_TENSOR && !o->row->blind) {
        rq_mem_free(o->range);
        o->range = NULL;
        o->channels = 0;
    } else {
        o->range[0] = (rq_range) { INFINITY, -INFINITY };
    }
    o->count = o->nan = o->infinite = 0;
    o->updates = 0;
    if (o->row->reset)
        o->row->reset(o);
}

/* ---- looking ---- */

bool rq_observer_batch_range(const rq_observer *o, const rq_extremes *x, rq_range *r)
{
    *r = (rq_range) { x->lo, x->hi };
    if (!o->cfg.compat)
        return x->finite > 0;
    if (x->below)
        r->lo = -INFINITY;
    if (x->above)
        r->hi = INFINITY;
    if (x->above && !x->below && !x->finite)
        r->lo = INFINITY;
    if (x->below && !x->above && !x->finite)
        r->hi = -INFINITY;
    if (x->nan)
        *r = (rq_range) { NAN, NAN };
    return true;
}

/* The extremes of every channel, and what they count. */
static rq_status look(rq_observer *o, rq_observer_batch *b, rq_err *err)
{
    rq_extremes one, *seen = &one;
    if (o->channels > 1 && !(seen = rq_mem_alloc((size_t)o->channels, sizeof *seen)))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory observing %d channels", o->channels);
    rq_status s = rq_runs_extremes(&b->runs, b->e, false, seen);
    b->seen = seen;
    if (s)
        rq_fail(err, s, "out of memory observing %d channels", o->channels);
    else
        s = o->row->update(o, b, err);
    for (int c = 0; !s && c < o->channels; c++) {
        o->count += seen[c].finite;
        o->nan += seen[c].nan;
        o->infinite += seen[c].above + seen[c].below;
    }
    b->seen = NULL;
    if (seen != &one)
        rq_mem_free(seen);
    return s;
}

rq_status rq_observer_update(rq_observer *o, rq_exec *e, const rq_strided *x, rq_err *err)
{
    rq_observer_batch b = { .e = e, .x = x };
    const bool by_channel = o->cfg.axis != RQ_PER_TENSOR && !o->row->blind;
    RQ_TRY(rq_runs_init(&b.runs, x, &o->cfg.axis, by_channel, err));
    if (b.runs.channels * b.runs.rest == 0)
        return RQ_OK;
    if (by_channel) {
        if (b.runs.channels > INT32_MAX / 4 || (o->channels && o->channels != b.runs.channels))
            return rq_fail(err, RQ_BAD_SHAPE, "%lld channels along axis %d, expected %d as before",
                           (long long)b.runs.channels, o->cfg.axis, o->channels);
        if (!o->channels && rq_observer_set_channels(o, (int)b.runs.channels))
            return rq_fail(err, RQ_NO_MEMORY, "out of memory observing %lld channels", (long long)b.runs.channels);
    }
    if (o->row->blind) {
        o->count += (uint64_t)b.runs.rest;
        return RQ_OK;
    }
    b.k = rq_exec_kernels(e);
    return o->row->extremes ? look(o, &b, err) : o->row->update(o, &b, err);
}

rq_status rq_observer_again(rq_observer *o, bool *more)
{
    *more = false;
    return o->row->again && o->count ? o->row->again(o, more) : RQ_OK;
}

/* ---- what was seen ---- */

int rq_observer_channels(const rq_observer *o)
{
    return o->channels;
}

uint64_t rq_observer_count(const rq_observer *o)
{
    return o->count;
}

uint64_t rq_observer_nan(const rq_observer *o)
{
    return o->nan;
}

uint64_t rq_observer_infinite(const rq_observer *o)
{
    return o->infinite;
}

uint64_t rq_observer_bad(const rq_observer *o)
{
    return o->nan + o->infinite;
}

const rq_observer_cfg *rq_observer_cfg_of(const rq_observer *o)
{
    return &o->cfg;
}

rq_qtype rq_observer_type(const rq_observer *o)
{
    const rq_qparams_rule rule = rq_observer_rule(o);
    return rq_qparams_codes(&rule);
}

const rq_own_observer *rq_observer_own_of(const rq_observer *o)
{
    return o->cfg.own;
}

/* Never seen: PyTorch's infinities the wrong way round. NaN (compat) is something. */
bool rq_observer_has_seen(const rq_observer *o)
{
    if (o->row->has_seen)
        return o->row->has_seen(o);
    for (int c = 0; c < o->channels; c++)
        if (!(o->range[c].lo == INFINITY && o->range[c].hi == -INFINITY))
            return true;
    return false;
}

static rq_range range_of(const rq_observer *o, int c)
{
    rq_range r = o->row->range ? o->row->range(o, c) : o->range[c];
    if (o->cfg.own && !(r.lo <= r.hi && isfinite(r.lo) && isfinite(r.hi)))
        return (rq_range) { NAN, NAN };
    if (r.lo == INFINITY && r.hi == -INFINITY) /* a channel without a finite element */
        r = (rq_range) { 0, 0 };
    if (o->cfg.symmetric && !o->row->range) {
        const double m = fmax(fabs(r.lo), fabs(r.hi));
        r = (rq_range) { -m, m };
    }
    if (o->cfg.with_zero && !isnan(r.lo))
        r = (rq_range) { fmin(r.lo, 0), fmax(r.hi, 0) };
    return r;
}

rq_status rq_observer_range(const rq_observer *o, rq_range *out, int n)
{
    if (n != o->channels || o->row->no_range || !rq_observer_has_seen(o))
        return RQ_BAD_ARG;
    for (int c = 0; c < n; c++) {
        const rq_range r = range_of(o, c);
        if (o->cfg.own && isnan(r.lo))
            return RQ_NUMERIC;
        out[c] = r;
    }
    return RQ_OK;
}

/* ---- parameters ---- */

static rq_status choose(const rq_observer *o, rq_qparams *q, float *zero_point_f, rq_err *err)
{
    const rq_qparams_rule rule = rq_observer_rule(o);
    for (int c = 0; c < o->channels; c++) {
        float zero;
        if (o->row->qparams) {
            RQ_TRY(o->row->qparams(o, c, &q->scale[c], &q->zero_point[c], &zero, err));
        } else {
            const rq_range r = range_of(o, c);
            if (rq_qparams_choose((float)r.lo, (float)r.hi, &rule, &q->scale[c], &q->zero_point[c], &zero))
                return rq_fail(err, RQ_NUMERIC, "what was seen reaches from %g to %g%s", r.lo, r.hi,
                               isnan(r.lo) ? ": NaN was among it" : "");
        }
        if (zero_point_f)
            zero_point_f[c] = zero;
    }
    return RQ_OK;
}

/* What compat answers for a tensor never seen: 0, but for Core ML Tools' EMA, which overwrites it with the middle of the codes. */
static int32_t unseen_zero(const rq_observer *o)
{
    const rq_qparams_rule rule = rq_observer_rule(o);
    float scale;
    int32_t zero = 0;
    if (o->row->middle_unseen && rq_qscheme_is_symmetric(o->cfg.scheme))
        (void)!rq_qparams_choose(0, 0, &rule, &scale, &zero, NULL);
    return zero;
}

rq_status rq_observer_qparams(const rq_observer *o, rq_qparams *out, float *zero_point_f, rq_err *err)
{
    rq_qparams q;
    const bool seen = rq_observer_has_seen(o);
    if (o->row->no_qparams)
        return rq_fail(err, RQ_BAD_ARG, "the observer %s has no scale and zero point", o->row->name);
    if (!seen && !o->cfg.compat)
        return rq_fail(err, RQ_BAD_ARG, "the observer %s has seen nothing yet: expected a batch with finite numbers",
                       o->row->name);
    if (o->cfg.scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS && !zero_point_f)
        return rq_fail(err, RQ_BAD_ARG, "zero points that are reals need a place to go: zero_point_f is NULL");
    if (rq_qparams_init(&q, o->cfg.type.dtype, o->cfg.axis, 0, seen ? o->channels : 1))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory choosing %d scales", o->channels);
    rq_status s = RQ_OK;
    if (seen) {
        s = choose(o, &q, zero_point_f, err);
    } else {
        q.scale[0] = 1;
        q.zero_point[0] = unseen_zero(o);
        if (zero_point_f)
            zero_point_f[0] = (float)q.zero_point[0];
    }
    if (s)
        rq_qparams_release(&q);
    else
        *out = q;
    return s;
}
