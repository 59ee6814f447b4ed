/* quant/counts.c — count now, in bins that grow with the data; choose the range at the end. */
#include <math.h>
#include <string.h>

#include "quant/calibrator.h"
#include "quant/observer_row.h"

static rq_status counts_init(rq_observer *o, rq_err *err)
{
    return rq_histogram_init(&o->h, o->cfg.bins, false) ? rq_fail(err, RQ_NO_MEMORY, "out of memory making an observer")
                                                        : RQ_OK;
}

/* A signed histogram is the same however its numbers are cut into calls, and needs no memory to grow. */
static rq_status counts_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    const rq_extremes *x = &b->seen[0];
    (void)err;
    if (x->finite) {
        (void)!rq_histogram_reach(&o->h, x->lo, x->hi);
        rq_calibrator_count(&o->h, &b->runs, b->e, &b->k, x, false);
    }
    rq_histogram_commit(&o->h, x->lo, x->hi, x->finite, x->nan + x->above + x->below);
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

static bool counts_seen(const rq_observer *o)
{
    return o->h.total > 0;
}

/* ---- states: the bins beside min_val and max_val ---- */

static rq_status counts_save(const rq_observer *o, rq_state *s, const char *prefix)
{
    const rq_histogram *h = &o->h;
    const int64_t n = h->n, first = h->first, one = 1;
    const rq_shape row = rq_shape_of(1, &n), single = rq_shape_of(1, &one);
    const float lo = h->lo, hi = h->hi;
    const rq_tensor counts = rq_tensor_view(RQ_DTYPE_U64, &row, h->count);
    double w = h->width;
    const rq_tensor width = rq_tensor_view(RQ_DTYPE_F64, &single, &w);
    uint64_t total = h->total;
    rq_tensor t = rq_tensor_view(RQ_DTYPE_U64, &single, &total);
    RQ_TRY(rq_state_set_floats(s, prefix, "min_val", &lo, 1));
    RQ_TRY(rq_state_set_floats(s, prefix, "max_val", &hi, 1));
    RQ_TRY(rq_state_set(s, prefix, "histogram", &counts));
    RQ_TRY(rq_state_set(s, prefix, "bin_width", &width));
    RQ_TRY(rq_state_set(s, prefix, "total", &t));
    return rq_state_set_ints(s, prefix, "first_bin", &first, 1);
}

typedef struct loaded {
    const rq_tensor *lo, *hi, *counts, *width, *first, *total;
} loaded;

static rq_status counts_get(loaded *l, const rq_state *s, const char *prefix, rq_err *err)
{
    RQ_TRY(rq_state_get(s, prefix, "min_val", RQ_DTYPE_F32, -1, &l->lo, err));
    RQ_TRY(rq_state_get(s, prefix, "max_val", RQ_DTYPE_F32, -1, &l->hi, err));
    RQ_TRY(rq_state_get(s, prefix, "histogram", RQ_DTYPE_U64, 1, &l->counts, err));
    RQ_TRY(rq_state_get(s, prefix, "bin_width", RQ_DTYPE_F64, 1, &l->width, err));
    RQ_TRY(rq_state_get(s, prefix, "total", RQ_DTYPE_U64, 1, &l->total, err));
    RQ_TRY(rq_state_get(s, prefix, "first_bin", RQ_DTYPE_S64, 1, &l->first, err));
    const rq_tensor *one[] = { l->lo, l->hi, l->width, l->first, l->total };
    for (size_t i = 0; i < sizeof one / sizeof one[0]; i++)
        if (rq_tensor_count(one[i]) != 1)
            return rq_fail(err, RQ_BAD_SHAPE, "the state of counts has more than one number where one is expected");
    return RQ_OK;
}

/* The bins are those from lo, or 0, to hi, or 0: later batches rely on it. */
static rq_status check_ends(float lo, float hi, uint64_t total, double w, int64_t first, int64_t n, rq_err *err)
{
    bool ok;
    if (!total)
        ok = !n && lo == INFINITY && hi == -INFINITY;
    else if (!n)
        ok = lo == 0 && hi == 0;
    else
        ok = lo <= hi && isfinite(lo) && isfinite(hi) && floor(fmin((double)lo, 0) / w) == (double)first &&
             floor(fmax((double)hi, 0) / w) == (double)(first + n - 1);
    return ok ? RQ_OK
              : rq_fail(err, RQ_BAD_DATA, "min_val %g and max_val %g of the state are not the ends of its %lld bins",
                        (double)lo, (double)hi, (long long)n);
}

static rq_status counts_load(rq_observer *o, const rq_state *s, const char *prefix, rq_err *err)
{
    loaded l;
    RQ_TRY(counts_get(&l, s, prefix, err));
    const int64_t n = rq_tensor_count(l.counts), first = l.first->s64[0];
    const double w = l.width->f64[0];
    if (n > o->h.cap)
        return rq_fail(err, RQ_BAD_DATA, "the state has %lld bins, more than an observer of %d bins holds",
                       (long long)n, o->cfg.bins);
    int e;
    const bool empty = n == 0 && w == 0;
    if (!empty && (!(w > 0 && w < INFINITY) || frexp(w, &e) != 0.5 || first > 0 || first + n < 0 || first < -n))
        return rq_fail(err, RQ_BAD_DATA, "bins of width %g from bin %lld on are none that counting makes", w,
                       (long long)first);
    RQ_TRY(check_ends(l.lo->f32[0], l.hi->f32[0], l.total->u64[0], w, first, n, err));
    rq_histogram_reset(&o->h);
    rq_observer_reset(o);
    if (n)
        memcpy(o->h.count, l.counts->u64, (size_t)n * sizeof *o->h.count);
    o->h.n = (int)n;
    o->h.first = (int)first;
    o->h.width = w;
    o->h.lo = l.lo->f32[0];
    o->h.hi = l.hi->f32[0];
    o->h.total = o->count = l.total->u64[0];
    return RQ_OK;
}

static void counts_reset(rq_observer *o)
{
    rq_histogram_reset(&o->h);
}

static void counts_release(rq_observer *o)
{
    rq_histogram_release(&o->h);
}

const rq_histogram *rq_observer_histogram(const rq_observer *o)
{
    return o->row == &rq_observer_counts ? &o->h : NULL;
}

const rq_observer_row rq_observer_counts = {
    .name = "counts",
    .title = { "CountsObserver", NULL },
    .extremes = true,
    .init = counts_init,
    .update = counts_update,
    .range = counts_range,
    .reset = counts_reset,
    .release = counts_release,
    .save = counts_save,
    .load = counts_load,
    .has_seen = counts_seen,
};
