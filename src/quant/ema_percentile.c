/* quant/ema_percentile.c — the extremes of each batch without the largest magnitudes of it, averaged with fading weight (torch-facts 3.4).
 * Magnitudes are counted in `bins` equal bins from 0 to the largest; the middle of the first bin at which the share `percentile` is
 * reached is what is kept. */
#include <float.h>
#include <math.h>

#include "base/mem.h"
#include "quant/observer_row.h"

static rq_status percentile_init(rq_observer *o, rq_err *err)
{
    if (o->cfg.bins < 1 || o->cfg.bins > 65536)
        return rq_fail(err, RQ_BAD_ARG, "%d bins, expected 1 to 65536", o->cfg.bins);
    if (!(o->cfg.percentile > 0 && o->cfg.percentile <= 100))
        return rq_fail(err, RQ_BAD_ARG, "percentile %g, expected a number above 0, at most 100", o->cfg.percentile);
    return RQ_OK;
}

/* The magnitude to keep of a batch whose largest is `most`. */
static rq_status clip_of(const rq_observer *o, const rq_observer_batch *b, float most, float *clip, rq_err *err)
{
    const int n = o->cfg.bins;
    *clip = most;
    if (most == 0)
        return RQ_OK;
    rq_bins bins = { .n = n, .lo = 0, .hi = most, .mul = (float)n, .div = most, .take_abs = 1 };
    if (most > FLT_MAX / (float)n) { /* their product must stay a float */
        bins.mul = 1;
        bins.div = most / (float)n;
    }
    uint64_t *count = rq_mem_alloc((size_t)n, sizeof *count);
    if (!count)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory counting in %d bins", n);
    rq_runs_histogram(&b->runs, b->e, &bins, count);
    const double enough = o->cfg.percentile / 100 * (double)b->seen[0].finite;
    uint64_t sum = 0;
    for (int i = 0; i < n; i++) {
        sum += count[i];
        if ((double)sum >= enough) {
            *clip = (float)((i + 0.5) * most / n);
            break;
        }
    }
    rq_mem_free(count);
    return RQ_OK;
}

static rq_status percentile_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    const rq_extremes *x = &b->seen[0];
    float clip;
    if (!x->finite)
        return RQ_OK;
    RQ_TRY(clip_of(o, b, fmaxf(fabsf(x->lo), fabsf(x->hi)), &clip, err));
    rq_range *v = &o->range[0];
    const rq_range m = { fminf(fmaxf(x->lo, -clip), clip),
                         fmaxf(fminf(x->hi, clip), -clip) }; /* both within: one element is cut too */
    rq_observer_fold_ema(o, v, m, v->lo > v->hi);
    return RQ_OK;
}

const rq_observer_row rq_observer_ema_percentile = {
    .name = "ema_percentile",
    .title = { "EMAPercentileObserver", NULL },
    .extremes = true,
    .init = percentile_init,
    .update = percentile_update,
};
