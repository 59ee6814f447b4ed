/* quant/calibrate.c — ranges from histograms with a sign, and parameters from ranges; the one-sided forms of the
 * tensor quantizer are in amax.c. */
#include "quant/calibrate.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/libm.h"

/* ---- the histogram as candidates see it ---- */

static bool is_empty(const rq_histogram *h)
{
    return h->width == 0 || h->lo > h->hi;
}

static rq_range within(const rq_histogram *h, double lo, double hi)
{
    return (rq_range) { fmin(fmax(lo, h->lo), 0), fmax(fmin(hi, h->hi), 0) };
}

static rq_range mirrored(rq_range r, bool symmetric)
{
    double m = fmax(-r.lo, r.hi);
    return symmetric ? (rq_range) { -m, m } : r;
}

rq_range rq_calibrate_minmax(const rq_histogram *h, bool symmetric)
{
    if (h->lo > h->hi)
        return (rq_range) { 0, 0 };
    return mirrored(within(h, h->lo, h->hi), symmetric);
}

/* Elements of |x| in the bins 0..k of either side. */
static uint64_t ring(const rq_histogram *h, int k)
{
    int right = k - h->first, left = -k - 1 - h->first;
    return (right >= 0 && right < h->n ? h->count[right] : 0) + (left >= 0 && left < h->n ? h->count[left] : 0);
}

rq_range rq_calibrate_percentile(const rq_histogram *h, double p, bool symmetric)
{
    if (is_empty(h) || p >= 100)
        return rq_calibrate_minmax(h, symmetric);
    if (symmetric) {
        double keep = p / 100 * (double)h->total, sum = 0;
        int k = -1;
        while (sum < keep && ++k <= h->n - 1 - h->first + (h->first < 0 ? -h->first : 0))
            sum += (double)ring(h, k);
        double edge = (k + 1) * h->width;
        return mirrored(within(h, -edge, edge), true);
    }
    double cut = (100 - p) / 200 * (double)h->total, sum = 0;
    int lo = 0, hi = h->n - 1;
    while (lo < hi && sum + (double)h->count[lo] <= cut)
        sum += (double)h->count[lo++];
    for (sum = 0; hi > lo && sum + (double)h->count[hi] <= cut;)
        sum += (double)h->count[hi--];
    return within(h, (h->first + lo) * h->width, (h->first + hi + 1) * h->width);
}

/* ---- squared error ---- */

/* v + MAGIC - MAGIC rounds |v| < 2^51 half to even, many at a time where rint() is a call. */
#define MAGIC 6755399441055744.0

/* Rounding is unbiased within a step, so inside the range the centre of a bin stands for its bin while there are several
 * bins per step; where a step is narrower than a bin, the error of a uniform density, step^2 / 12, is the better answer. */
double rq_calibrate_error(const rq_histogram *h, rq_range r, int levels)
{
    if (is_empty(h))
        return 0;
    double step = (r.hi - r.lo) / (levels - 1);
    if (step <= 0)
        return rq_calibrate_power(h);
    double inverse = 1 / step, zero = rint(-r.lo * inverse), flat = step * step / 12, sum = 0;
    double lowest = -zero * step, highest = (levels - 1 - zero) * step;
    bool fine = h->width * 2 <= step;
    for (int i = 0; i < h->n; i++) {
        if (!h->count[i])
            continue;
        double c = (h->first + i + 0.5) * h->width, e;
        if (c < lowest || c > highest) {
            e = c < lowest ? lowest - c : c - highest;
            e *= e;
        } else if (fine) {
            e = (c * inverse + MAGIC - MAGIC) * step - c;
            e *= e;
        } else {
            e = flat;
        }
        sum += e * (double)h->count[i];
    }
    return sum / (double)h->total;
}

double rq_calibrate_power(const rq_histogram *h)
{
    double sum = 0;
    for (int i = 0; i < h->n; i++) {
        double c = (h->first + i + 0.5) * h->width;
        sum += c * c * (double)h->count[i];
    }
    return h->total ? sum / (double)h->total : 0;
}

double rq_calibrate_outside(const rq_histogram *h, rq_range r, double margin)
{
    uint64_t n = 0;
    for (int i = 0; i < h->n; i++)
        if ((h->first + i) * h->width >= r.hi + margin || (h->first + i + 1) * h->width <= r.lo - margin)
            n += h->count[i];
    return h->total ? (double)n / (double)h->total : 0;
}

/* ---- searching both ends in turn ---- */

typedef double (*cost_fn)(const void *arg, rq_range r);

/* The best factor of one end of r (or of both), on a grid that is refined around its best three times. */
static double shrink(cost_fn cost, const void *arg, rq_range r, bool lower, bool upper, double *best)
{
    double at = 1, from = 0.02, to = 1;
    for (int round = 0; round < 3; round++) {
        enum { STEPS = 24 };
        double step = (to - from) / STEPS, centre = at;
        for (int i = STEPS; i >= 0; i--) {
            double f = from + step * i;
            double c = cost(arg, (rq_range) { lower ? f * r.lo : r.lo, upper ? f * r.hi : r.hi });
            if (c < *best * (1 - 1e-6)) { /* of equals the widest */
                *best = c;
                centre = f;
            }
        }
        at = centre;
        from = fmax(at - step, 0.001);
        to = fmin(at + step, 1);
    }
    return at;
}

static rq_range search(const rq_histogram *h, cost_fn cost, const void *arg, bool symmetric)
{
    rq_range all = rq_calibrate_minmax(h, symmetric), r = all;
    double best = cost(arg, r);
    if (symmetric || r.lo == 0 || r.hi == 0) {
        double f = shrink(cost, arg, all, true, true, &best);
        return (rq_range) { f * all.lo, f * all.hi };
    }
    /* both at once finds the valley, each end alone its floor */
    double f = shrink(cost, arg, all, true, true, &best);
    r = (rq_range) { f * all.lo, f * all.hi };
    for (int round = 0; round < 2; round++) {
        double before = best;
        f = shrink(cost, arg, (rq_range) { r.lo, all.hi }, false, true, &best);
        r.hi = best < before ? f * all.hi : r.hi;
        before = best;
        f = shrink(cost, arg, (rq_range) { all.lo, r.hi }, true, false, &best);
        r.lo = best < before ? f * all.lo : r.lo;
    }
    return r;
}

struct levels_arg {
    const rq_histogram *h;
    int levels;
};

/* A copy of h with at most FEW bins, on the caller's stack: neighbours are added until so few are left. A few hundred
 * candidates are then a matter of a millisecond, and a step of 256 levels still spans several bins. */
enum { FEW = 2048 };
static rq_histogram thin(const rq_histogram *h, uint64_t count[FEW])
{
    rq_histogram t = *h;
    int by = 1; /* a power of two */
    while (t.n > FEW) {
        by *= 2;
        t.width *= 2;
        t.first = (int)floor((double)h->first / by);
        t.n = (int)floor((double)(h->first + h->n - 1) / by) - t.first + 1;
    }
    memset(count, 0, FEW * sizeof *count);
    for (int i = 0; i < h->n; i++)
        count[(int)floor((double)(h->first + i) / by) - t.first] += h->count[i];
    t.count = count;
    return t;
}

static double cost_mse(const void *arg, rq_range r)
{
    const struct levels_arg *a = arg;
    return rq_calibrate_error(a->h, r, a->levels);
}

rq_range rq_calibrate_mse(const rq_histogram *h, int levels, bool symmetric)
{
    if (is_empty(h))
        return (rq_range) { 0, 0 };
    uint64_t count[FEW];
    const rq_histogram t = thin(h, count);
    const struct levels_arg arg = { &t, levels };
    return search(&t, cost_mse, &arg, symmetric);
}

/* ---- information ---- */

/* As docs/calibration-facts.md 4.4 with two ends: the mass beyond an end goes into the last kept bin there; kept bins
 * fall into `levels` groups; each group's mass is spread evenly over its occupied bins. The bin of zero holds what its
 * fuller neighbour holds: the spike after a Relu is exact at any scale and says nothing about it. */
static double cost_kl(const void *arg, rq_range r)
{
    const struct levels_arg *a = arg;
    const rq_histogram *h = a->h;
    int lo = (int)floor(r.lo / h->width) - h->first, hi = (int)ceil(r.hi / h->width) - h->first; /* bins lo..hi-1 */
    lo = lo < 0 ? 0 : lo;
    hi = hi > h->n ? h->n : hi;
    int n = hi - lo, zero = -h->first;
    if (n < a->levels)
        return INFINITY;
    double below = 0, above = 0, total = 0, kept = 0;
    uint64_t before = zero > 0 ? h->count[zero - 1] : 0, after = zero + 1 < h->n ? h->count[zero + 1] : 0;
    uint64_t spike = before > after ? before : after;
    spike = spike < h->count[zero] ? spike : h->count[zero];
    for (int i = 0; i < lo; i++)
        below += (double)h->count[i];
    for (int i = hi; i < h->n; i++)
        above += (double)h->count[i];
    double sum_p = 0, sum_q = 0; /* sum of p ln p, of p ln q */
    for (int j = 0, i = lo; j < a->levels; j++) {
        int end = lo + (int)(((int64_t)(j + 1) * n + a->levels - 1) / a->levels), used = 0;
        double mass = 0, p_group = 0;
        for (; i < end && i < hi; i++) {
            double c = i == zero ? (double)spike : (double)h->count[i], p = c;
            if (i == lo)
                p += below;
            if (i == hi - 1)
                p += above;
            if (c > 0) {
                mass += c;
                used++;
            } else if (p > 0) {
                return INFINITY; /* clipped mass where nothing is kept */
            }
            if (p > 0)
                sum_p += p * rq_libm_log(p);
            p_group += p;
            total += p;
        }
        if (used) {
            sum_q += p_group * rq_libm_log(mass / used);
            kept += mass;
        }
    }
    if (total <= 0 || kept <= 0)
        return INFINITY;
    /* + 1: search() compares by ratio, and a divergence may be 0 */
    return 1 + (sum_p - sum_q) / total - rq_libm_log(total) + rq_libm_log(kept);
}

rq_range rq_calibrate_entropy(const rq_histogram *h, int levels, bool symmetric)
{
    if (is_empty(h))
        return (rq_range) { 0, 0 };
    uint64_t count[FEW];
    const rq_histogram t = thin(h, count);
    const struct levels_arg arg = { &t, levels };
    return search(&t, cost_kl, &arg, symmetric);
}

/* ---- parameters ---- */

/* The codes that a form uses. */
static void limits_of(const rq_code_form *f, int64_t *lo, int64_t *hi)
{
    rq_dtype_limits(f->dtype, lo, hi);
    const bool wide = rq_dtype_bits(f->dtype) >= 8;
    if (f->reduced) { /* signed 8 and 16 bits: as far up as down */
        *hi = *lo == 0 ? *hi / 2 : wide ? -(*lo / 2) : -(*lo / 2) - 1;
        *lo /= 2;
    } else if (f->symmetric && *lo < 0 && wide) {
        *lo = -*hi;
    }
}

/* u8 with zero point 0, or in the middle (lo + hi + 1) / 2. */
static void restrict_zero(double least, double most, int64_t lo, int64_t hi, double floor, float *scale,
                          int32_t *zero_point)
{
    const int64_t middle = (lo + hi + 1) / 2;
    double s = most > least ? 0 : 1.0 / (double)(hi - lo);
    *zero_point = (int32_t)(least < 0 ? middle : lo);
    if (most > least)
        s = least < 0 ? fmax(-least / (double)(middle - lo), most / (double)(hi - middle)) : most / (double)(hi - lo);
    *scale = (float)s;
    if (*scale < floor / (double)(hi - lo))
        *scale = (float)(floor / (double)(hi - lo));
}

void rq_calibrate_between(rq_range r, int64_t lo, int64_t hi, bool symmetric, float *scale, double *zero)
{
    double least = fmin(r.lo, 0), most = fmax(r.hi, 0);
    if (symmetric) {
        most = fmax(-least, most);
        least = -most;
    }
    const double middle = rint((double)(lo + hi) / 2), s = (most - least) / (double)(hi - lo);
    if (!(s >= FLT_MIN)) {
        *scale = 1;
        *zero = symmetric ? middle : 0;
        return;
    }
    *scale = (float)s;
    *zero = fmin(fmax(symmetric ? middle : rint((double)lo - least / s), (double)lo), (double)hi);
}

void rq_calibrate_codes(rq_range r, const rq_code_form *f, float *scale, int32_t *zero_point)
{
    int64_t lo, hi;
    assert(rq_dtype_is_integer(f->dtype) && rq_dtype_bits(f->dtype) <= 16);
    limits_of(f, &lo, &hi);
    double least = fmin(r.lo, 0), most = fmax(r.hi, 0);
    if (f->least > 0)
        most = fmax(most, (float)least + (float)f->least);
    if (f->restricted && f->dtype == RQ_DTYPE_U8 && !f->symmetric) {
        restrict_zero(least, most, lo, hi, f->least, scale, zero_point);
        return;
    }
    double zero;
    rq_calibrate_between((rq_range) { least, most }, lo, hi, f->symmetric, scale, &zero);
    *zero_point = (int32_t)zero;
}

void rq_calibrate_qparams(rq_range r, rq_dtype d, bool symmetric, float *scale, int32_t *zero_point)
{
    const rq_code_form f = { .dtype = d, .symmetric = symmetric };
    rq_calibrate_codes(r, &f, scale, zero_point);
}
