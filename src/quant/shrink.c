/* quant/shrink.c — observers that look for the part of a batch's range that costs least when it is quantized, and fold that into what
 * they remember (torch-facts 3.4): MSE the widest ever, EMA_MSE a fading average.
 *
 * Candidates are the range times 1, 0.99, 0.98 ...; each has the parameters that the observer's own rule gives, and costs the mean square of
 * fq(x) - x over the finite elements, x fake-quantized as PyTorch does. Of equals the widest stays. The batch is read once for as many candidates as
 * sums of them fit into a few megabytes, for most tensors all. */
#include <math.h>

#include "base/mem.h"
#include "quant/fake_quantize.h"
#include "quant/observer_row.h"

enum { PER_TENSOR = 95, PER_CHANNEL = 80, BLOCK = 1024, MOST_SUMS = 1 << 20 };

typedef struct candidate {
    float lo, hi, scale;
    int32_t zero_point;
} candidate;

typedef struct search {
    const rq_observer_batch *b;
    rq_fakequant base;   /* but for scale and zero point */
    const candidate *at; /* [channels][n] */
    double *sum;         /* [pieces][channels][n], or [channels][n] where pieces are channels */
    int64_t channels;
    int n;
} search;

static void weigh(void *arg, int piece, int64_t channel, const float *x, size_t n)
{
    const search *s = arg;
    double *sum = s->sum + ((s->b->runs.by_channel ? 0 : piece * s->channels) + channel) * s->n;
    float v[BLOCK], y[BLOCK];
    for (size_t at = 0; at < n; at += BLOCK) {
        const size_t here = n - at < BLOCK ? n - at : BLOCK;
        for (size_t i = 0; i < here; i++)
            v[i] = fabsf(x[at + i]) < INFINITY ? x[at + i] : 0; /* which costs nothing */
        for (int i = 0; i < s->n; i++) {
            const candidate *c = &s->at[channel * s->n + i];
            rq_fakequant p = s->base;
            p.in = 1 / c->scale;
            p.out = c->scale;
            p.after = (float)c->zero_point;
            p.back = -p.after;
            s->b->k.fakequant(y, NULL, v, here, &p);
            sum[i] += s->b->k.squares(v, y, here);
        }
    }
}

/* Candidates from..from + s->n - 1 of every channel. */
static rq_status fill(const rq_observer *o, const search *s, candidate *at, int from, rq_err *err)
{
    const rq_qparams_rule rule = rq_observer_rule(o);
    for (int64_t c = 0; c < s->channels; c++)
        for (int i = 0; i < s->n; i++) {
            const rq_extremes *x = &s->b->seen[c];
            const double part = 1 - 0.01 * (from + i);
            candidate *k = &at[c * s->n + i];
            *k = (candidate) { .lo = x->finite ? (float)(x->lo * part) : 0,
                               .hi = x->finite ? (float)(x->hi * part) : 0 };
            if (rq_qparams_choose(k->lo, k->hi, &rule, &k->scale, &k->zero_point, NULL))
                return rq_fail(err, RQ_NUMERIC, "no scale for %g to %g", (double)k->lo, (double)k->hi);
        }
    return RQ_OK;
}

/* The best of the candidates weighed, into kept[channels] with its cost. */
static void keep(const search *s, rq_range *kept, double *cost)
{
    const int rows = s->b->runs.by_channel ? 1 : s->b->runs.pieces;
    for (int64_t c = 0; c < s->channels; c++)
        for (int i = 0; i < s->n; i++) {
            double sum = 0;
            for (int r = 0; r < rows; r++)
                sum += s->sum[(r * s->channels + c) * s->n + i];
            if (!(sum < cost[c]))
                continue;
            const candidate *k = &s->at[c * s->n + i];
            cost[c] = sum;
            kept[c] = (rq_range) { k->lo, k->hi };
        }
}

/* What fake quantization to o's codes is made of, for any scale. */
static rq_status base_of(const rq_observer *o, rq_fakequant *base, rq_err *err)
{
    const rq_qtype type = rq_observer_type(o);
    const float one = 1;
    const int64_t dim = 1;
    const rq_shape shape = rq_shape_of(1, &dim);
    const rq_fq f = {
        .type = type, .rule = RQ_FQ_RECIPROCAL, .axis = RQ_PER_TENSOR, .n = 1, .scale = &one, .zero_point = &type.lo
    };
    rq_fq_plan plan;
    RQ_TRY(rq_fq_plan_init(&plan, &f, &shape, err));
    *base = plan.base;
    rq_fq_plan_release(&plan);
    return RQ_OK;
}

/* Codes that are too wide for it are refused here. */
static rq_status shrink_init(rq_observer *o, rq_err *err)
{
    rq_fakequant base;
    return base_of(o, &base, err);
}

static rq_status shrink_update(rq_observer *o, const rq_observer_batch *b, rq_observer_fold fold, rq_err *err)
{
    const int all = o->cfg.axis == RQ_PER_TENSOR ? PER_TENSOR : PER_CHANNEL;
    const int64_t rows = b->runs.by_channel ? 1 : b->runs.pieces;
    search s = { .b = b, .channels = o->channels };
    const int64_t most = MOST_SUMS / (rows * s.channels), step = most < 1 ? 1 : most < all ? most : all;
    candidate *at = rq_mem_alloc((size_t)(s.channels * step), sizeof *at);
    rq_range *kept = rq_mem_alloc((size_t)s.channels, sizeof *kept);
    double *cost = rq_mem_alloc((size_t)s.channels, sizeof *cost);
    s.sum = rq_mem_alloc((size_t)(rows * s.channels * step), sizeof *s.sum);
    s.at = at;
    rq_status st =
        at && kept && cost && s.sum
            ? base_of(o, &s.base, err)
            : rq_fail(err, RQ_NO_MEMORY, "out of memory weighing %d ranges of %d channels", all, o->channels);
    for (int64_t c = 0; !st && c < s.channels; c++)
        cost[c] = INFINITY;
    for (int from = 0; !st && from < all; from += s.n) {
        s.n = (int)(all - from < step ? all - from : step);
        st = fill(o, &s, at, from, err);
        for (int64_t i = 0; !st && i < rows * s.channels * s.n; i++)
            s.sum[i] = 0;
        if (st)
            break;
        rq_runs_walk(&b->runs, b->e, weigh, &s);
        keep(&s, kept, cost);
    }
    for (int c = 0; !st && c < o->channels; c++)
        if (b->seen[c].finite)
            fold(o, &o->range[c], kept[c], o->range[c].lo > o->range[c].hi);
    rq_mem_free(s.sum);
    rq_mem_free(cost);
    rq_mem_free(kept);
    rq_mem_free(at);
    return st;
}

static rq_status mse_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    return shrink_update(o, b, rq_observer_fold_minmax, err);
}

static rq_status ema_mse_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    return shrink_update(o, b, rq_observer_fold_ema, err);
}

const rq_observer_row rq_observer_mse = {
    .name = "mse",
    .title = { "MSEObserver", NULL },
    .per_channel = true,
    .extremes = true,
    .init = shrink_init,
    .update = mse_update,
};

const rq_observer_row rq_observer_ema_mse = {
    .name = "ema_mse",
    .title = { "EMAMSEObserver", NULL },
    .per_channel = true,
    .extremes = true,
    .init = shrink_init,
    .update = ema_mse_update,
};
