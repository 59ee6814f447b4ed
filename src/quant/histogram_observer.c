/* quant/histogram_observer.c — PyTorch's HistogramObserver as a row: a histogram that is resampled as its range grows, and the range of it
 * that costs least when rounded to 2^bits levels (torch-facts 4; quant/histogram.h). o->range is what was seen. */
#include "quant/observer_row.h"

#include <math.h>
#include <string.h>

static rq_status histogram_init(rq_observer *o, rq_err *err)
{
    const rq_observer_cfg *c = &o->cfg;
    const rq_resample rule = c->torch_1 ? RQ_RESAMPLE_TORCH_1 : c->compat ? RQ_RESAMPLE_TORCH_2 : RQ_RESAMPLE_OURS;
    const rq_status s = rq_histogram_init_resampled(&o->h, c->bins, c->upsample_rate, rule);
    if (s == RQ_BAD_ARG)
        return rq_fail(err, s, "%d bins of %d parts each, expected 1 to 65536 bins and an upsample_rate of 1 to 1024",
                       c->bins, c->upsample_rate);
    return s ? rq_fail(err, s, "out of memory making a histogram of %d bins", c->bins) : RQ_OK;
}

static rq_status histogram_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    const rq_extremes *x = &b->seen[0];
    if (!x->finite)
        return RQ_OK;
    const rq_bins bins = rq_histogram_plan(&o->h, x->lo, x->hi);
    rq_runs_histogram(&b->runs, b->e, &bins, o->h.count);
    rq_histogram_fold(&o->h, x->lo, x->hi, o->h.count);
    o->range[0] = (rq_range) { o->h.lo, o->h.hi };
    return RQ_OK;
}

/* PyTorch counts the bits of the storage, of which its 4-bit type has 8. */
static double levels_of(const rq_observer *o)
{
    const int bits = rq_dtype_bits(o->cfg.type.dtype);
    return ldexp(1, o->cfg.compat && bits < 8 ? 8 : bits);
}

static rq_range histogram_range(const rq_observer *o, int c)
{
    (void)c;
    const rq_histogram_kept kept = rq_histogram_search(&o->h, levels_of(o));
    return (rq_range) { kept.lo, kept.hi };
}

static rq_status histogram_save(const rq_observer *o, rq_state *s, const char *prefix)
{
    RQ_TRY(rq_observer_save_range(o, s, prefix));
    return rq_state_set_floats(s, prefix, "histogram", o->h.mass, o->h.bins);
}

static rq_status histogram_load(rq_observer *o, const rq_state *s, const char *prefix, rq_err *err)
{
    const rq_tensor *t, *lo, *hi;
    RQ_TRY(rq_state_get(s, prefix, "histogram", RQ_DTYPE_F32, 1, &t, err));
    if (t->shape.dim[0] != o->h.bins)
        return rq_fail(err, RQ_BAD_SHAPE, "the histogram of the state has %lld bins, expected %d",
                       (long long)t->shape.dim[0], o->h.bins);
    for (int i = 0; i < o->h.bins; i++)
        if (!(t->f32[i] >= 0 && t->f32[i] < INFINITY))
            return rq_fail(err, RQ_BAD_DATA, "bin %d of the histogram of the state holds %g, expected a count", i,
                           (double)t->f32[i]);
    RQ_TRY(rq_state_get(s, prefix, "min_val", RQ_DTYPE_F32, -1, &lo, err));
    RQ_TRY(rq_state_get(s, prefix, "max_val", RQ_DTYPE_F32, -1, &hi, err));
    /* finite, or what an observer begins with: infinities are never folded in, whatever `compat` */
    if (rq_tensor_count(lo) == 1 && rq_tensor_count(hi) == 1 && !(isfinite(lo->f32[0]) && isfinite(hi->f32[0])) &&
        !(lo->f32[0] == INFINITY && hi->f32[0] == -INFINITY))
        return rq_fail(err, RQ_BAD_DATA, "min_val %g and max_val %g of the state are no range", (double)lo->f32[0],
                       (double)hi->f32[0]);
    RQ_TRY(rq_observer_load_range(o, s, prefix, err)); /* which resets */
    memcpy(o->h.mass, t->f32, (size_t)o->h.bins * sizeof *o->h.mass);
    o->h.lo = (float)o->range[0].lo;
    o->h.hi = (float)o->range[0].hi;
    return RQ_OK;
}

static void histogram_reset(rq_observer *o)
{
    rq_histogram_reset(&o->h);
}

static void histogram_release(rq_observer *o)
{
    rq_histogram_release(&o->h);
}

const rq_observer_row rq_observer_resampled = {
    .name = "histogram",
    .title = { "HistogramObserver", NULL },
    .native = true,
    .extremes = true,
    .init = histogram_init,
    .update = histogram_update,
    .range = histogram_range,
    .save = histogram_save,
    .load = histogram_load,
    .reset = histogram_reset,
    .release = histogram_release,
};
