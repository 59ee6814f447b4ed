/* quant/own.c — an observer of the program (requant/own.h) as a row: its state sees every element. */
#include <math.h>

#include "quant/observer.h"

static rq_status own_update(rq_observer *o, const rq_kernels *k, int c, const float *x, size_t n)
{
    float lo, hi;
    size_t finite;
    (void)c;
    k->minmax(x, n, &lo, &hi, &finite);
    o->count += finite;
    o->bad += n - finite;
    return o->cfg.own->update(o->state, x, n);
}

static rq_range own_range(const rq_observer *o, int c)
{
    rq_range r = { NAN, NAN };
    (void)c;
    return o->cfg.own->range(o->state, &r.lo, &r.hi) ? (rq_range) { NAN, NAN } : r;
}

const rq_observer_row rq_observer_own = {
    .name = "own",
    .update = own_update,
    .range = own_range,
};
