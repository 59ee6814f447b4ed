/* quant/minmax.c — the range of everything seen. The same however the data is cut into batches. */
#include "quant/observer.h"

#include <math.h>

static rq_status minmax_update(rq_observer *o, const rq_kernels *k, int c, const float *x, size_t n)
{
    float lo, hi;
    size_t finite;
    k->minmax(x, n, &lo, &hi, &finite);
    o->count += finite;
    o->bad += n - finite;
    o->range[c].lo = fmin(o->range[c].lo, lo);
    o->range[c].hi = fmax(o->range[c].hi, hi);
    return RQ_OK;
}

static rq_range minmax_range(const rq_observer *o, int c)
{
    double m = fmax(fabs(o->range[c].lo), fabs(o->range[c].hi));
    return o->cfg.symmetric && m < INFINITY ? (rq_range) { -m, m } : o->range[c];
}

const rq_observer_row rq_observer_minmax = {
    .name = "minmax",
    .update = minmax_update,
    .range = minmax_range,
};
