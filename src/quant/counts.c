/* quant/counts.c — the histogram observer: count now, choose the range at the end. */
#include <math.h>

#include "quant/observer.h"

static rq_status counts_update(rq_observer *o, const rq_kernels *k, int c, const float *x, size_t n)
{
    (void)c;
    RQ_TRY(rq_histogram_update(&o->h, k, x, n));
    o->count = o->h.total;
    o->bad = o->h.bad;
    return RQ_OK;
}

static rq_range own_choice(const rq_observer *o)
{
    const rq_histogram *h = &o->h;
    rq_range r = { NAN, NAN };
    const rq_own_counts c = { .count = h->count,
                              .n = h->width > 0 ? h->n : 0,
                              .first = h->width * h->first,
                              .width = h->width,
                              .lo = h->lo,
                              .hi = h->hi,
                              .total = h->total,
                              .bad = h->bad };
    const rq_own_observer *own = o->cfg.own;
    return own->choose(own->user, &c, o->cfg.levels, o->cfg.symmetric, &r.lo, &r.hi) ? (rq_range) { NAN, NAN } : r;
}

static rq_range counts_range(const rq_observer *o, int c)
{
    (void)c;
    switch (o->cfg.choice) {
    case RQ_CHOICE_MINMAX:
        break;
    case RQ_CHOICE_PERCENTILE:
        return rq_calibrate_percentile(&o->h, o->cfg.percentile, o->cfg.symmetric);
    case RQ_CHOICE_ENTROPY:
        return rq_calibrate_entropy(&o->h, o->cfg.levels, o->cfg.symmetric);
    case RQ_CHOICE_MSE:
        return rq_calibrate_mse(&o->h, o->cfg.levels, o->cfg.symmetric);
    case RQ_CHOICE_OWN:
        return own_choice(o);
    }
    return rq_calibrate_minmax(&o->h, o->cfg.symmetric);
}

const rq_observer_row rq_observer_counts = {
    .name = "histogram",
    .update = counts_update,
    .range = counts_range,
};
