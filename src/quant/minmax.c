/* quant/minmax.c — the observers that remember the extremes of each channel: of everything, or averaged over batches. One row each; they
 * differ in how a batch's extremes are folded in (torch-facts 1.3, 3.3). Averages change with how the data is cut into batches. */
#include <math.h>

#include "quant/observer_row.h"

static rq_status fold_all(rq_observer *o, const rq_observer_batch *b, rq_observer_fold fold)
{
    for (int c = 0; c < o->channels; c++) {
        rq_range m, *v = &o->range[c];
        if (rq_observer_batch_range(o, &b->seen[c], &m))
            fold(o, v, m, v->lo == INFINITY && v->hi == -INFINITY);
    }
    return RQ_OK;
}

/* ---- everything ---- */

/* NaN (compat) stays. */
static double smaller(double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : fmin(a, b);
}

static double larger(double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : fmax(a, b);
}

void rq_observer_fold_minmax(const rq_observer *o, rq_range *v, rq_range m, bool is_first)
{
    (void)o;
    *v = is_first ? m : (rq_range) { smaller(v->lo, m.lo), larger(v->hi, m.hi) };
}

static rq_status minmax_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    (void)err;
    return fold_all(o, b, rq_observer_fold_minmax);
}

const rq_observer_row rq_observer_minmax = {
    .name = "min_max",
    .title = { "MinMaxObserver", "PerChannelMinMaxObserver" },
    .native = true,
    .per_channel = true,
    .extremes = true,
    .update = minmax_update,
};

/* ---- averages, in f32 as their originals ---- */

static double moved(double v, double m, float c)
{
    const float from = (float)v, to = (float)m;
    return from + c * (to - from);
}

static void fold_moving(const rq_observer *o, rq_range *v, rq_range m, bool is_first)
{
    const float c = (float)o->cfg.averaging_constant;
    *v = is_first ? m : (rq_range) { moved(v->lo, m.lo, c), moved(v->hi, m.hi, c) };
}

static rq_status moving_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    (void)err;
    return fold_all(o, b, fold_moving);
}

const rq_observer_row rq_observer_moving_average = {
    .name = "moving_average_min_max",
    .title = { "MovingAverageMinMaxObserver", "MovingAveragePerChannelMinMaxObserver" },
    .native = true,
    .per_channel = true,
    .extremes = true,
    .update = moving_update,
};

static double faded(double v, double m, double ratio)
{
    const float kept = (float)ratio * (float)v, added = (float)(1 - ratio) * (float)m;
    return kept + added;
}

/* A single channel whose maximum is infinite begins anew, which only compat can see. */
void rq_observer_fold_ema(const rq_observer *o, rq_range *v, rq_range m, bool is_first)
{
    const double r = o->cfg.ema_ratio;
    is_first |= o->channels == 1 && isinf(v->hi);
    *v = is_first ? m : (rq_range) { faded(v->lo, m.lo, r), faded(v->hi, m.hi, r) };
}

static rq_status ema_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    (void)err;
    return fold_all(o, b, rq_observer_fold_ema);
}

const rq_observer_row rq_observer_ema = {
    .name = "ema_min_max",
    .title = { "EMAMinMaxObserver", NULL },
    .halves_symmetric = true,
    .middle_unseen = true,
    .per_channel = true,
    .extremes = true,
    .update = ema_update,
};

/* ---- all batches alike: what ONNX Runtime's CalibMovingAverage comes to (docs/onnx-facts.md 4.4); in double, answered in f32 ---- */

static void fold_average(const rq_observer *o, rq_range *v, rq_range m, bool is_first)
{
    const double kept = (double)o->updates / (double)(o->updates + 1);
    *v = is_first ? m : (rq_range) { kept * v->lo + (1 - kept) * m.lo, kept * v->hi + (1 - kept) * m.hi };
}

static rq_status average_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    (void)err;
    const bool counts = b->seen[0].finite > 0; /* per tensor: one channel */
    RQ_TRY(fold_all(o, b, fold_average));
    o->updates += counts;
    return RQ_OK;
}

static rq_range average_range(const rq_observer *o, int c)
{
    const float lo = (float)o->range[c].lo, hi = (float)o->range[c].hi, m = fmaxf(fabsf(lo), fabsf(hi));
    return o->cfg.symmetric && lo <= hi ? (rq_range) { -m, m } : (rq_range) { lo, hi };
}

static rq_status average_save(const rq_observer *o, rq_state *s, const char *prefix)
{
    RQ_TRY(rq_observer_save_range(o, s, prefix));
    return rq_state_set_ints(s, prefix, "updates", &o->updates, 1);
}

static rq_status average_load(rq_observer *o, const rq_state *s, const char *prefix, rq_err *err)
{
    const rq_tensor *t;
    RQ_TRY(rq_state_get(s, prefix, "updates", RQ_DTYPE_S64, 1, &t, err));
    if (rq_tensor_count(t) != 1 || t->s64[0] < 0)
        return rq_fail(err, RQ_BAD_DATA, "'updates' of the state is no count of batches");
    RQ_TRY(rq_observer_load_range(o, s, prefix, err));
    o->updates = t->s64[0];
    return RQ_OK;
}

const rq_observer_row rq_observer_average = {
    .name = "average",
    .title = { "AverageObserver", NULL },
    .extremes = true,
    .update = average_update,
    .range = average_range,
    .save = average_save,
    .load = average_load,
};
