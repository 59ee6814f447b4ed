/* quant/amax.c — the tensor quantizer's ways from a histogram of |x| to the magnitude to keep:
 * docs/calibration-facts.md 4.3 (percentile), 4.4 (Kullback-Leibler), 4.5 (squared error), with its tables in 4.7.
 *
 * rq_calibrate_amax_kl and rq_calibrate_amax_error are the definitions, O(bins) for one candidate. The searches look at
 * thousands: from sums over the first bins they know what any group of bins holds, so that a candidate costs O(levels). The errors
 * so found are off in the last digits, where curves this flat decide; the few candidates near the least are then asked
 * the definition. */
#include "quant/calibrate.h"

#include <math.h>
#include <string.h>

#include "base/libm.h"
#include "base/mem.h"
#include "kernels/quantize.h"
#include "tensor/convert.h"

static double answer(const rq_histogram *h, int at, int *out)
{
    if (out)
        *out = at;
    return at < 0 ? -1 : rq_histogram_edge(h, at);
}

double rq_calibrate_amax_percentile(const rq_histogram *h, double p, int *at)
{
    double total = 0, sum = 0;
    for (int i = 0; i < h->n; i++)
        total += (double)h->count[i];
    for (int i = 0; i < h->n; i++) {
        sum += (double)h->count[i] / total;
        if (sum >= p / 100)
            return answer(h, i, at);
    }
    return answer(h, h->n, at); /* rounding left the sum below 1 */
}

static double occupied(const rq_histogram *h, int k)
{
    return (double)h->count[k == 0 && h->n > 1 ? 1 : k]; /* h[0] = h[1]: the zero bin says nothing */
}

double rq_calibrate_amax_kl(const rq_histogram *h, int levels, int i)
{
    double beyond = 0, sum_p = 0, sum_q = 0, total = 0, kept = 0;
    for (int k = i; k < h->n; k++)
        beyond += (double)h->count[k];
    for (int k = 0; k < i;) {
        int64_t j = (int64_t)k * levels / i;
        int used = 0;
        double mass = 0, p_group = 0;
        for (; k < i && (int64_t)k * levels / i == j; k++) {
            double c = occupied(h, k), p = k == i - 1 ? c + beyond : c;
            if (c > 0) {
                mass += c;
                used++;
            } else if (p > 0) {
                return INFINITY;
            }
            if (p > 0)
                sum_p += p * rq_libm_log(p);
            p_group += p;
        }
        total += p_group;
        if (used) {
            sum_q += p_group * rq_libm_log(mass / used);
            kept += mass;
        }
    }
    if (total <= 0 || kept <= 0)
        return INFINITY;
    double kl = (sum_p - sum_q) / total - rq_libm_log(total) + rq_libm_log(kept);
    return kl > 1e-12 ? kl : 0; /* the exact ties of data on few values stay ties */
}

/* ---- Kullback-Leibler: sums over bins 0..k-1, bin 0 holding what bin 1 does ---- */

enum { LOG_BITS = 10, LOG_STEPS = 1 << LOG_BITS };

typedef struct kl_sums {
    const rq_histogram *h;
    double *mass, *info;                      /* [n + 1] h; h ln h */
    int *used;                                /* [n + 1] bins that are not empty */
    double ln[LOG_STEPS], inverse[LOG_STEPS]; /* of 1 + i / LOG_STEPS */
} kl_sums;

/* ln v of a normal v > 0, to 4e-16 of its size: a step of the table, and a series for what is left, below 2^-10. */
static double fast_log(const kl_sums *s, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    const int exponent = (int)(bits >> 52) - 1023, i = (int)(bits >> (52 - LOG_BITS)) & (LOG_STEPS - 1);
    bits = (bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL;
    memcpy(&v, &bits, sizeof v);
    const double x = (v - (1 + (double)i / LOG_STEPS)) * s->inverse[i];
    return exponent * 0.69314718055994530942 + (s->ln[i] + x * (1 - x * (0.5 - x * (1.0 / 3 - x * 0.25))));
}

static bool kl_sums_init(kl_sums *s, const rq_histogram *h)
{
    const size_t n = (size_t)h->n + 1;
    s->h = h;
    s->mass = rq_mem_alloc(n, 2 * sizeof *s->mass + sizeof *s->used);
    if (!s->mass)
        return false;
    s->info = s->mass + n;
    s->used = (int *)(s->info + n);
    for (int i = 0; i < LOG_STEPS; i++) {
        s->ln[i] = rq_libm_log(1 + (double)i / LOG_STEPS);
        s->inverse[i] = 1 / (1 + (double)i / LOG_STEPS);
    }
    s->mass[0] = s->info[0] = 0;
    s->used[0] = 0;
    for (int k = 0; k < h->n; k++) {
        const double c = occupied(h, k);
        s->mass[k + 1] = s->mass[k] + c;
        s->info[k + 1] = s->info[k] + (c > 0 ? c * rq_libm_log(c) : 0);
        s->used[k + 1] = s->used[k] + (c > 0);
    }
    return true;
}

/* rq_calibrate_amax_kl(h, levels, i). NaN: nothing is kept. */
static double kl_fast(const kl_sums *s, int levels, int i)
{
    const double kept = s->mass[i], total = s->mass[s->h->n], beyond = total - kept, last = kept - s->mass[i - 1];
    if (!(kept > 0))
        return NAN;
    if (beyond > 0 && !(last > 0))
        return INFINITY;
    double sum_p = s->info[i], sum_q = 0, q_last = 0;
    if (beyond > 0)
        sum_p += (last + beyond) * rq_libm_log(last + beyond) - last * rq_libm_log(last);
    if (levels >= i) { /* every bin is a group of its own */
        sum_q = s->info[i];
        q_last = last > 0 ? rq_libm_log(last) : 0;
    } else {
        const int whole = i / levels, part = i % levels;
        for (int j = 0, from = 0, to = 0, rest = 0; j < levels; j++) {
            /* group j: bins from ceil(j i / levels) on; rest / levels is by how much that was rounded up */
            to += whole + (rest < part);
            rest += (rest < part ? levels : 0) - part;
            const double mass = s->mass[to] - s->mass[from];
            if (mass > 0) {
                q_last = fast_log(s, mass / (s->used[to] - s->used[from]));
                sum_q += mass * q_last;
            }
            from = to;
        }
    }
    sum_q += beyond * q_last; /* goes into the last kept bin, which is not empty, nor then its group */
    const double kl = (sum_p - sum_q) / total - rq_libm_log(total) + rq_libm_log(kept);
    return kl > 1e-12 ? kl : 0;
}

double rq_calibrate_amax_entropy(const rq_histogram *h, int levels, int start, int stride, int *at)
{
    return rq_calibrate_amax_entropy_compat(h, levels, start, stride, false, at);
}

double rq_calibrate_amax_entropy_compat(const rq_histogram *h, int levels, int start, int stride, bool compat, int *at)
{
    double best = INFINITY;
    int found = -1;
    kl_sums s;
    if (!kl_sums_init(&s, h))
        return NAN;
    for (int64_t i = start; i <= h->n; i += stride) {
        double kl = kl_fast(&s, levels, (int)i);
        if (isnan(kl))
            kl = compat ? -INFINITY : INFINITY;
        if (kl <= best) {
            best = kl;
            found = (int)i;
        }
    }
    rq_mem_free(s.mass);
    return answer(h, found, at);
}

/* ---- squared error ---- */

static double centre(const rq_histogram *h, int k)
{
    return (rq_histogram_edge(h, k) + rq_histogram_edge(h, k + 1)) / 2;
}

static double round_e4m3(double v)
{
    return rq_convert_f8_to_f32(RQ_DTYPE_F8E4M3FN, rq_convert_f32_to_f8(RQ_DTYPE_F8E4M3FN, (float)v, true));
}

double rq_calibrate_amax_error(const rq_histogram *h, int limit, double amax)
{
    const bool e4m3 = limit == RQ_CALIBRATE_E4M3;
    double scale = (e4m3 ? 448 : limit) / amax, sum = 0;
    for (int k = 0; k < h->n; k++) {
        if (!h->count[k])
            continue;
        double c = centre(h, k), q = e4m3 ? round_e4m3(c * scale) : rq_quantize_wide(c * scale, 0, 0, limit);
        double e = q / scale - c;
        sum += (double)h->count[k] * e * e;
    }
    return sum / h->n;
}

/* What codes stand for, the largest being 1, and sums over bins 0..k-1 of h, h c, h c^2. */
typedef struct error_sums {
    const rq_histogram *h;
    double *level;                 /* [levels] from 0 up */
    double *centre;                /* [n] */
    double *mass, *first, *second; /* [n + 1] */
    double *error;                 /* [n] of candidates */
    int levels;
    double from, width; /* bin k lies near from + k width */
} error_sums;

static bool error_sums_init(error_sums *s, const rq_histogram *h, int limit)
{
    const size_t n = (size_t)h->n + 1;
    enum { E4M3_LEVELS = 127 };
    s->h = h;
    s->levels = limit == RQ_CALIBRATE_E4M3 ? E4M3_LEVELS : limit + 1;
    s->level = rq_mem_alloc((size_t)s->levels + 5 * n, sizeof *s->level);
    if (!s->level)
        return false;
    s->centre = s->level + s->levels;
    s->mass = s->centre + n;
    s->first = s->mass + n;
    s->second = s->first + n;
    s->error = s->second + n;
    for (int j = 0; j < s->levels; j++)
        s->level[j] = limit == RQ_CALIBRATE_E4M3 ? (double)rq_convert_f8_to_f32(RQ_DTYPE_F8E4M3FN, (uint8_t)j) / 448
                                                 : (double)j / limit;
    s->mass[0] = s->first[0] = s->second[0] = 0;
    for (int k = 0; k < h->n; k++) {
        const double c = s->centre[k] = centre(h, k), m = (double)h->count[k];
        s->mass[k + 1] = s->mass[k] + m;
        s->first[k + 1] = s->first[k] + m * c;
        s->second[k + 1] = s->second[k] + m * c * c;
    }
    s->from = s->centre[0];
    s->width = h->n > 1 ? (s->centre[h->n - 1] - s->centre[0]) / (h->n - 1) : 1;
    return true;
}

/* The first bin whose centre lies above v. */
static int above(const error_sums *s, double v)
{
    const int n = s->h->n;
    const double guess = (v - s->from) / s->width + 1;
    int k = guess > 0 ? (guess < n ? (int)guess : n) : 0; /* NaN: the width is 0 */
    while (k > 0 && s->centre[k - 1] > v)
        k--;
    while (k < n && !(s->centre[k] > v))
        k++;
    return k;
}

/* n times rq_calibrate_amax_error, but for rounding. Which side a tie goes to is moot. */
static double error_fast(const error_sums *s, double amax)
{
    const int n = s->h->n;
    double sum = 0;
    for (int j = 0, from = 0; from < n; j++) {
        const double v = s->level[j] * amax;
        const int to = j + 1 < s->levels ? above(s, (s->level[j] + s->level[j + 1]) / 2 * amax) : n;
        const double mass = s->mass[to] - s->mass[from];
        if (mass > 0)
            sum += s->second[to] - s->second[from] - 2 * v * (s->first[to] - s->first[from]) + v * v * mass;
        from = to;
    }
    return sum;
}

double rq_calibrate_amax_mse(const rq_histogram *h, int limit, int start, int stride, int *at)
{
    double best = INFINITY, least = INFINITY;
    int found = -1;
    error_sums s;
    if (!error_sums_init(&s, h, limit))
        return NAN;
    const bool wide = s.levels > h->n; /* then a group is less than a bin, and the definition as quick */
    for (int64_t i = start; i < h->n; i += stride) {
        s.error[i] = wide ? 0 : error_fast(&s, s.centre[i]);
        least = fmin(least, s.error[i]);
    }
    /* sums of n terms, each off by 2^-53 of the largest */
    const double near = least + fabs(least) * 1e-9 + s.second[h->n] * 1e-12;
    for (int64_t i = start; i < h->n; i += stride) {
        if (!(s.error[i] <= near))
            continue;
        const double e = rq_calibrate_amax_error(h, limit, s.centre[i]);
        if (e < best) {
            best = e;
            found = (int)i;
        }
    }
    rq_mem_free(s.level);
    if (at)
        *at = found;
    return found < 0 ? -1 : centre(h, found);
}
