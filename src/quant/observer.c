/* quant/observer.c — creation, the walk over channels, and the table of rows. */
#include "quant/observer.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

static const rq_observer_row *const rows[RQ_N_OBSERVERS] = {
    [RQ_OBSERVER_MINMAX] = &rq_observer_minmax,    [RQ_OBSERVER_EMA] = &rq_observer_ema,
    [RQ_OBSERVER_HISTOGRAM] = &rq_observer_counts, [RQ_OBSERVER_AVERAGE] = &rq_observer_average,
    [RQ_OBSERVER_STACKED] = &rq_observer_stacked,  [RQ_OBSERVER_OWN] = &rq_observer_own,
};

rq_observer_cfg rq_observer_defaults(rq_observer_kind kind)
{
    return (rq_observer_cfg) {
        .kind = kind,
        .axis = RQ_PER_TENSOR,
        .decay = 0.99,
        .bins = 2048,
        .choice = kind == RQ_OBSERVER_STACKED ? RQ_CHOICE_PERCENTILE : RQ_CHOICE_MSE,
        .percentile = 99.99,
        .levels = 256,
    };
}

static bool counts(const rq_observer_cfg *c)
{
    return c->kind == RQ_OBSERVER_HISTOGRAM || c->kind == RQ_OBSERVER_STACKED;
}

static bool is_valid(const rq_observer_cfg *c)
{
    if (c->kind == RQ_OBSERVER_STACKED &&
        ((c->choice != RQ_CHOICE_PERCENTILE && c->choice != RQ_CHOICE_ENTROPY) || c->levels > c->bins))
        return false;
    if (c->kind == RQ_OBSERVER_OWN ? !c->own || !c->own->create || c->axis != RQ_PER_TENSOR
                                   : c->choice == RQ_CHOICE_OWN && (!c->own || !c->own->choose))
        return false;
    return (unsigned)c->kind < RQ_N_OBSERVERS && c->axis >= RQ_PER_TENSOR && c->axis < RQ_MAX_RANK && c->decay >= 0 &&
           c->decay < 1 && c->bins >= 16 && c->bins <= 65536 && (unsigned)c->choice <= RQ_CHOICE_OWN &&
           c->percentile > 0 && c->percentile <= 100 && c->levels >= 2 && c->levels <= 65536 &&
           (!counts(c) || c->axis == RQ_PER_TENSOR);
}

static rq_status set_channels(rq_observer *o, int n)
{
    o->range = rq_mem_alloc((size_t)n * 2, sizeof *o->range); /* the second half: the batch, for ema */
    if (!o->range)
        return RQ_NO_MEMORY;
    for (int i = 0; i < 2 * n; i++)
        o->range[i] = (rq_range) { INFINITY, -INFINITY };
    o->channels = n;
    return RQ_OK;
}

rq_status rq_observer_create(rq_observer **out, const rq_observer_cfg *cfg)
{
    if (!is_valid(cfg))
        return RQ_BAD_ARG;
    rq_observer *o = rq_mem_zalloc(1, sizeof *o);
    if (!o)
        return RQ_NO_MEMORY;
    o->cfg = *cfg;
    o->row = rows[cfg->kind];
    rq_status s = RQ_OK;
    if (cfg->axis == RQ_PER_TENSOR)
        s = set_channels(o, 1);
    if (s == RQ_OK && counts(cfg))
        s = rq_histogram_init(&o->h, cfg->bins,
                              cfg->kind == RQ_OBSERVER_STACKED && cfg->choice == RQ_CHOICE_PERCENTILE &&
                                  cfg->symmetric);
    if (s == RQ_OK && cfg->kind == RQ_OBSERVER_OWN && !(o->state = cfg->own->create(cfg->own->user)))
        s = RQ_NO_MEMORY;
    if (s != RQ_OK) {
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
    if (o->state)
        o->cfg.own->destroy(o->state);
    rq_histogram_release(&o->h);
    rq_mem_free(o->range);
    rq_mem_free(o);
}

rq_status rq_observer_update(rq_observer *o, const rq_kernels *k, const rq_tensor *x)
{
    if (x->dtype != RQ_DTYPE_F32)
        return RQ_BAD_DTYPE;
    int64_t outer = 1, channels = 1, inner = rq_tensor_count(x);
    if (o->cfg.axis != RQ_PER_TENSOR) {
        if (o->cfg.axis >= x->shape.rank)
            return RQ_BAD_SHAPE;
        outer = rq_shape_span(&x->shape, 0, o->cfg.axis);
        channels = x->shape.dim[o->cfg.axis];
        inner = rq_shape_span(&x->shape, o->cfg.axis + 1, x->shape.rank);
        if (channels < 1 || channels > INT32_MAX / 2 || (o->channels && o->channels != channels))
            return RQ_BAD_SHAPE;
        if (!o->channels)
            RQ_TRY(set_channels(o, (int)channels));
    }
    for (int64_t i = 0; i < outer * channels; i++)
        RQ_TRY(o->row->update(o, k, (int)(i % channels), x->f32 + i * inner, (size_t)inner));
    if (o->row->commit)
        o->row->commit(o);
    return RQ_OK;
}

rq_status rq_observer_again(rq_observer *o, bool *more)
{
    *more = false;
    return o->row->again && o->count ? o->row->again(o, more) : RQ_OK;
}

rq_status rq_observer_range(const rq_observer *o, rq_range *out, int n)
{
    if (n != o->channels || o->count == 0)
        return RQ_BAD_ARG;
    for (int c = 0; c < n; c++) {
        rq_range r = o->row->range(o, c);
        if (o->cfg.own && !(r.lo <= r.hi && isfinite(r.lo) && isfinite(r.hi)))
            return RQ_NUMERIC;
        out[c].lo = fmin(r.lo, 0); /* an unseen channel is {inf, -inf}: {0, 0} */
        out[c].hi = fmax(r.hi, 0);
    }
    return RQ_OK;
}

int rq_observer_channels(const rq_observer *o)
{
    return o->channels;
}

uint64_t rq_observer_count(const rq_observer *o)
{
    return o->count;
}

uint64_t rq_observer_bad(const rq_observer *o)
{
    return o->bad;
}

const rq_histogram *rq_observer_histogram(const rq_observer *o)
{
    return o->cfg.kind == RQ_OBSERVER_HISTOGRAM ? &o->h : NULL;
}

const rq_own_observer *rq_observer_own_of(const rq_observer *o)
{
    return o->cfg.own;
}
