/* quant/calibrator_choose.c — a program's observer that chooses from counts, asked about a calibrator's: the bins are those of |x|. */
#include <math.h>

#include "quant/calibrator.h"
#include "requant/own.h"

rq_status rq_calibrator_choose(const rq_calibrator *c, const rq_own_observer *own, rq_tensor *amax, rq_err *err)
{
    const rq_histogram *h = &c->h;
    if (c->cfg.kind != RQ_CALIBRATOR_HISTOGRAM)
        return rq_fail(err, RQ_BAD_ARG, "%s has no counts to choose from", rq_calibrator_name(c));
    if (!own->choose)
        return rq_fail(err, RQ_BAD_ARG, "observer '%s' sees elements itself: it does not choose from counts",
                       own->name);
    if (!c->info.count)
        return rq_fail(err, RQ_NOT_FOUND, "Calibrator returned None: %s has collected nothing", rq_calibrator_name(c));
    const bool bins = h->edge || h->width > 0;
    const double first = bins ? rq_histogram_edge(h, 0) : 0;
    rq_own_counts counts = {
        .count = h->count,
        .n = bins ? h->n : 0,
        .first = first,
        .width = bins ? (rq_histogram_edge(h, h->n) - first) / h->n : 0,
        .total = c->info.count,
        .bad = c->info.nan + c->info.infinite,
    };
    /* extremes of |x| */
    const double a = fabs((double)h->lo), b = fabs((double)h->hi);
    counts.lo = h->lo <= 0 && h->hi >= 0 ? 0 : fmin(a, b);
    counts.hi = fmax(a, b);
    double lo = NAN, hi = NAN;
    const rq_status s = own->choose(own->user, &counts, 1 << c->cfg.num_bits, !c->cfg.is_unsigned, &lo, &hi);
    if (s != RQ_OK || !(lo <= hi) || !isfinite(lo) || !isfinite(hi))
        return rq_fail(err, RQ_NUMERIC, s != RQ_OK ? "observer '%s' failed" : "observer '%s' gave no range", own->name);
    const rq_shape scalar = rq_shape_of(0, NULL);
    rq_tensor t;
    if (rq_tensor_create(&t, RQ_DTYPE_F32, &scalar, false))
        return rq_fail(err, RQ_NO_MEMORY, "no memory for an amax");
    t.f32[0] = (float)fmax(fabs(lo), fabs(hi));
    *amax = t;
    return RQ_OK;
}
