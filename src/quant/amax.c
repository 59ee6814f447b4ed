/* quant/amax.c — the tensor quantizer's ways from a histogram of |x| to the magnitude to keep:
 * docs/calibration-facts.md 4.3 (percentile), 4.4 (Kullback-Leibler), 4.5 (squared error), with its tables in 4.7. */
#include "quant/calibrate.h"

#include <math.h>

#include "base/libm.h"

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

double rq_calibrate_amax_entropy(const rq_histogram *h, int levels, int start, int stride, int *at)
{
    double best = INFINITY;
    int found = -1;
    for (int i = start; i <= h->n; i += stride) {
        double kl = rq_calibrate_amax_kl(h, levels, i);
        if (kl <= best) {
            best = kl;
            found = i;
        }
    }
    return answer(h, found, at);
}

static double centre(const rq_histogram *h, int k)
{
    return (rq_histogram_edge(h, k) + rq_histogram_edge(h, k + 1)) / 2;
}

double rq_calibrate_amax_error(const rq_histogram *h, int limit, double amax)
{
    double scale = limit / amax, sum = 0;
    for (int k = 0; k < h->n; k++) {
        double c = centre(h, k), q = fmin(rint(c * scale), limit), e = q / scale - c;
        sum += (double)h->count[k] * e * e;
    }
    return sum / h->n;
}

double rq_calibrate_amax_mse(const rq_histogram *h, int limit, int start, int stride, int *at)
{
    double best = INFINITY;
    int found = -1;
    for (int i = start; i < h->n; i += stride) {
        double e = rq_calibrate_amax_error(h, limit, centre(h, i));
        if (e < best) {
            best = e;
            found = i;
        }
    }
    if (at)
        *at = found;
    return found < 0 ? -1 : centre(h, found);
}
