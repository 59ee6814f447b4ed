/* quant/stacked.c — percentile and entropy as ONNX Runtime's quantizer computes them, number for number (onnx-facts 4.4): all
 * samples count as one array, in equal bins over what was seen, so the range has to be known first. The first pass finds the
 * extremes, the second counts. quant/calibrate.c has the methods that are ours. */
#include "quant/observer_row.h"

#include <math.h>

#include "base/libm.h"

static rq_status stacked_init(rq_observer *o, rq_err *err)
{
    const bool take_abs = o->cfg.choice == RQ_CHOICE_PERCENTILE && o->cfg.symmetric;
    o->least_abs = INFINITY;
    return rq_histogram_init(&o->h, o->cfg.bins, take_abs)
               ? rq_fail(err, RQ_NO_MEMORY, "out of memory making an observer")
               : RQ_OK;
}

typedef struct sink {
    rq_observer *o;
    const rq_kernels *k;
} sink;

static void look(void *arg, int piece, int64_t channel, const float *x, size_t n)
{
    const sink *s = arg;
    rq_observer *o = s->o;
    rq_range *r = &o->range[0];
    float lo, hi;
    size_t finite;
    (void)piece, (void)channel;
    if (o->h.edge) {
        (void)!rq_histogram_update(&o->h, s->k, x, n); /* between edges: nothing grows */
        return;
    }
    s->k->minmax(x, n, &lo, &hi, &finite);
    if (o->h.take_abs && finite && !(lo < 0 && hi > 0 && o->least_abs == 0))
        for (size_t i = 0; i < n; i++)
            o->least_abs = fminf(o->least_abs, fabsf(x[i])); /* NaN stays out */
    for (size_t i = 0; finite < n && i < n; i++) {
        o->nan += isnan(x[i]) ? 1 : 0;
        o->infinite += isinf(x[i]) ? 1 : 0;
    }
    o->count += finite;
    r->lo = fmin(r->lo, lo);
    r->hi = fmax(r->hi, hi);
}

static rq_status stacked_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    sink s = { o, &b->k };
    (void)err;
    rq_runs_walk(&b->runs, NULL, look, &s);
    return RQ_OK;
}

/* Bins over +-max |x|, or of |x| over what there is of it. As many groups as bins leave entropy one candidate, everything. */
static rq_status stacked_again(rq_observer *o, bool *more)
{
    const rq_range r = o->range[0];
    const float most = (float)fmax(fabs(r.lo), fabs(r.hi));
    *more = false;
    if (o->cfg.choice == RQ_CHOICE_ENTROPY && o->cfg.levels == o->cfg.bins)
        return RQ_OK;
    RQ_TRY(rq_histogram_fix(&o->h, o->h.take_abs ? o->least_abs : -most, most));
    *more = true;
    return RQ_OK;
}

/* First bin at which the cumulative share reaches `share`; n: rounding left the sum below it. */
static int reaches(const rq_histogram *h, double total, double share)
{
    double sum = 0;
    for (int i = 0; i < h->n; i++) {
        sum += (double)h->count[i] / total;
        if (sum >= share)
            return i;
    }
    return h->n;
}

static rq_range percentile(const rq_observer *o)
{
    const rq_histogram *h = &o->h;
    const double p = o->cfg.percentile, cut = (100 - p) / 200;
    double total = 0;
    for (int i = 0; i < h->n; i++)
        total += (double)h->count[i];
    if (h->take_abs) {
        const double edge = h->edge[reaches(h, total, p / 100)];
        return (rq_range) { -edge, edge };
    }
    return (rq_range) { h->edge[reaches(h, total, cut)], h->edge[reaches(h, total, 1 - cut)] };
}

/* ---- entropy: bins from..to - 1 are kept, what lies beyond counts in the outermost of them (p); q is p told apart in `groups`
 * groups of whole bins only, each a mean rounded to an integer. ---- */

typedef struct kept {
    const rq_histogram *h;
    int from, to, groups, merged;
    double left, right; /* beyond */
} kept;

static double p_at(const kept *a, int k)
{
    return (double)a->h->count[a->from + k] + (k == 0 ? a->left : 0) + (k == a->to - a->from - 1 ? a->right : 0);
}

/* Mean of group j over its bins that p occupies; the last group sums what is left over too. */
static double q_of(const kept *a, int j)
{
    const int n = a->to - a->from, first = j * a->merged, last = first + a->merged;
    double sum = 0;
    int used = 0;
    for (int k = first; k < last; k++) {
        sum += (double)a->h->count[a->from + k];
        used += p_at(a, k) != 0;
    }
    for (int k = a->groups * a->merged; j == a->groups - 1 && k < n; k++)
        sum += (double)a->h->count[a->from + k];
    return used ? trunc(sum / used) : 0;
}

static double q_at(const kept *a, int k, double *group, int *at)
{
    const int j = k / a->merged;
    if (j >= a->groups)
        return 0;
    if (j != *at) {
        *group = q_of(a, j);
        *at = j;
    }
    return *group;
}

/* Empty bins get 1e-4, taken from the others in equal parts. */
static double smooth(double v, double zeros, double n)
{
    return v == 0 ? 1e-4 : v - 1e-4 * zeros / (n - zeros);
}

static double divergence(const kept *a)
{
    const int n = a->to - a->from;
    double p_zeros = 0, q_zeros = 0, p_sum = 0, q_sum = 0, group = 0, kl = 0;
    int at = -1;
    for (int k = 0; k < n; k++) {
        p_zeros += p_at(a, k) == 0;
        q_zeros += q_at(a, k, &group, &at) == 0;
    }
    if (p_zeros == n || q_zeros == n)
        return INFINITY;
    for (int k = 0; k < n; k++) {
        p_sum += smooth(p_at(a, k), p_zeros, n);
        q_sum += smooth(q_at(a, k, &group, &at), q_zeros, n);
    }
    for (int k = 0; k < n; k++) {
        const double p = smooth(p_at(a, k), p_zeros, n) / p_sum,
                     q = smooth(q_at(a, k, &group, &at), q_zeros, n) / q_sum;
        kl += p * rq_libm_log(p / q);
    }
    return kl;
}

static rq_range entropy(const rq_observer *o)
{
    const rq_histogram *h = &o->h;
    const int middle = h->n / 2, groups = o->cfg.levels;
    double best = INFINITY;
    rq_range r = o->range[0];
    kept a = { .h = h, .groups = groups };
    for (int i = groups / 2; i <= middle; i++) {
        a.from = middle - i;
        a.to = middle + i + 1 < h->n ? middle + i + 1 : h->n;
        a.merged = (a.to - a.from) / groups;
        a.left = a.right = 0;
        for (int k = 0; k < a.from; k++)
            a.left += (double)h->count[k];
        for (int k = a.to; k < h->n; k++)
            a.right += (double)h->count[k];
        const double kl = a.merged ? divergence(&a) : INFINITY;
        if (kl < best || i == groups / 2) {
            best = kl;
            r = (rq_range) { h->edge[a.from], h->edge[a.to] };
        }
    }
    return r;
}

/* Never beyond what was seen. */
static rq_range stacked_range(const rq_observer *o, int c)
{
    const rq_range seen = o->range[c];
    if (!o->h.edge)
        return seen;
    const rq_range r = o->cfg.choice == RQ_CHOICE_ENTROPY ? entropy(o) : percentile(o);
    return (rq_range) { fmax(r.lo, seen.lo), fmin(r.hi, seen.hi) };
}

static void stacked_reset(rq_observer *o)
{
    o->least_abs = INFINITY;
    rq_histogram_reset(&o->h);
}

static void stacked_release(rq_observer *o)
{
    rq_histogram_release(&o->h);
}

/* Between two passes there is nothing worth keeping. */
static rq_status stacked_save(const rq_observer *o, rq_state *s, const char *prefix)
{
    (void)o, (void)s, (void)prefix;
    return RQ_UNSUPPORTED;
}

static rq_status stacked_load(rq_observer *o, const rq_state *s, const char *prefix, rq_err *err)
{
    (void)o, (void)s, (void)prefix;
    return rq_fail(err, RQ_UNSUPPORTED, "an observer of two passes keeps no state");
}

const rq_observer_row rq_observer_stacked = {
    .name = "stacked",
    .title = { "StackedObserver", NULL },
    .init = stacked_init,
    .update = stacked_update,
    .range = stacked_range,
    .again = stacked_again,
    .save = stacked_save,
    .load = stacked_load,
    .reset = stacked_reset,
    .release = stacked_release,
};
