/* quant/ema.c — the smallest and largest element of each batch, averaged: with exponentially fading weight,
 * state = decay * state + (1 - decay) * batch, from the first batch on (torch's moving-average observer with
 * averaging_constant = 1 - decay), or all alike (what ONNX Runtime's CalibMovingAverage comes to: onnx-facts 4.4). How
 * the data is cut into batches changes the answer. */
#include "quant/observer.h"

#include <math.h>

static rq_status ema_update(rq_observer *o, const rq_kernels *k, int c, const float *x, size_t n)
{
    float lo, hi;
    size_t finite;
    rq_range *batch = &o->range[o->channels + c];
    k->minmax(x, n, &lo, &hi, &finite);
    o->count += finite;
    o->bad += n - finite;
    batch->lo = fmin(batch->lo, lo);
    batch->hi = fmax(batch->hi, hi);
    return RQ_OK;
}

/* Fold the batch in; what was there keeps the share d. */
static void fold(rq_observer *o, double d)
{
    for (int c = 0; c < o->channels; c++) {
        rq_range *state = &o->range[c], *batch = &o->range[o->channels + c];
        if (batch->lo > batch->hi)
            continue; /* nothing finite in this batch */
        bool is_first = state->lo > state->hi;
        state->lo = is_first ? batch->lo : d * state->lo + (1 - d) * batch->lo;
        state->hi = is_first ? batch->hi : d * state->hi + (1 - d) * batch->hi;
        *batch = (rq_range) { INFINITY, -INFINITY };
    }
}

static void ema_commit(rq_observer *o)
{
    fold(o, o->cfg.decay);
}

static void average_commit(rq_observer *o)
{
    if (o->range[o->channels].lo > o->range[o->channels].hi)
        return; /* nothing finite in this batch (per tensor: one channel) */
    fold(o, (double)o->updates / (double)(o->updates + 1));
    o->updates++;
}

static rq_range ema_range(const rq_observer *o, int c)
{
    double m = fmax(fabs(o->range[c].lo), fabs(o->range[c].hi));
    return o->cfg.symmetric && m < INFINITY ? (rq_range) { -m, m } : o->range[c];
}

static rq_range average_range(const rq_observer *o, int c)
{
    const rq_range r = ema_range(o, c);
    return (rq_range) { (float)r.lo, (float)r.hi };
}

const rq_observer_row rq_observer_ema = {
    .name = "ema",
    .update = ema_update,
    .commit = ema_commit,
    .range = ema_range,
};

const rq_observer_row rq_observer_average = {
    .name = "average",
    .update = ema_update,
    .commit = average_commit,
    .range = average_range,
};
