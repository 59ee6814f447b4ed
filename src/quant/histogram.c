/* quant/histogram.c — see histogram.h. */
#include "quant/histogram.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { SPREAD = 4 }; /* signed bins per wanted one, before halving to a power of two */

rq_status rq_histogram_init(rq_histogram *h, int bins, bool take_abs)
{
    memset(h, 0, sizeof *h);
    if (bins < 2 || bins > 65536)
        return RQ_BAD_ARG;
    h->bins = bins;
    h->take_abs = take_abs;
    h->lo = INFINITY;
    h->hi = -INFINITY;
    h->cap = take_abs ? bins : SPREAD * bins;
    h->count = rq_mem_zalloc((size_t)h->cap, sizeof *h->count);
    return h->count ? RQ_OK : RQ_NO_MEMORY;
}

void rq_histogram_release(rq_histogram *h)
{
    rq_mem_free(h->count);
    rq_mem_free(h->edge);
    rq_mem_free(h->mass);
    memset(h, 0, sizeof *h);
}

void rq_histogram_reset(rq_histogram *h)
{
    rq_mem_free(h->edge);
    h->edge = NULL;
    if (h->mass) {
        memset(h->mass, 0, (size_t)h->bins * 2 * sizeof *h->mass);
    } else {
        memset(h->count, 0, (size_t)h->cap * sizeof *h->count);
        h->n = h->first = 0;
        h->width = 0;
    }
    h->lo = INFINITY;
    h->hi = -INFINITY;
    h->total = h->bad = 0;
}

/* floor(k / 2) for negative k too. */
static int half(int k)
{
    return k >= 0 ? k / 2 : -((1 - k) / 2);
}

/* Neighbours become one bin of twice the width. */
static void merge(rq_histogram *h)
{
    int first = half(h->first), n = half(h->first + h->n - 1) - first + 1;
    for (int i = 0, from = 0; i < n; i++) {
        uint64_t sum = 0;
        while (from < h->n && half(h->first + from) == first + i)
            sum += h->count[from++];
        h->count[i] = sum;
    }
    memset(h->count + n, 0, (size_t)(h->n - n) * sizeof *h->count);
    h->first = first;
    h->n = n;
    h->width *= 2;
}

/* The narrowest power of two of which `most` bins hold lo..hi; hi - lo > 0. */
static double fit_width(double lo, double hi, int most)
{
    double w = ldexp(1, ilogb((hi - lo) / most)); /* at most one step too fine */
    w = w < ldexp(1, -100) ? ldexp(1, -100) : w;  /* its reciprocal must stay a float */
    while (floor(hi / w) - floor(lo / w) + 1 > most)
        w *= 2;
    return w;
}

/* Make room for lo..hi, 0 included, in a signed histogram. */
static void cover_signed(rq_histogram *h, double lo, double hi)
{
    if (h->width > 0) { /* what is there stays */
        lo = fmin(lo, h->lo);
        hi = fmax(hi, h->hi);
    }
    lo = fmin(lo, 0);
    hi = fmax(hi, 0);
    if (hi - lo == 0)
        return;
    double w = fit_width(lo, hi, h->cap);
    if (h->width == 0)
        h->width = w;
    while (h->width < w)
        merge(h);
    int first = (int)floor(lo / h->width), n = (int)floor(hi / h->width) - first + 1;
    if (h->n) {
        memmove(h->count + (h->first - first), h->count, (size_t)h->n * sizeof *h->count);
        memset(h->count, 0, (size_t)(h->first - first) * sizeof *h->count);
    }
    h->first = first;
    h->n = n;
}

/* At least n counts, those that are new 0. */
static rq_status make_room(rq_histogram *h, int n)
{
    if (n <= h->cap)
        return RQ_OK;
    uint64_t *more = rq_mem_realloc(h->count, (size_t)n, sizeof *more);
    if (!more)
        return RQ_NO_MEMORY;
    memset(more + h->cap, 0, (size_t)(n - h->cap) * sizeof *more);
    h->count = more;
    h->cap = n;
    return RQ_OK;
}

/* The same for |x| up to m > 0. */
static rq_status cover_abs(rq_histogram *h, float m)
{
    if (h->width == 0) {
        h->width = (double)m / h->bins;
        h->n = h->bins;
        return RQ_OK;
    }
    if (!((double)m > rq_histogram_edge(h, h->n)))
        return RQ_OK;
    while (h->width < FLT_MIN || m / (float)h->width > RQ_HISTOGRAM_MOST)
        merge(h);
    h->width = (float)h->width;
    int n = (int)ceilf(m / (float)h->width);
    n = n > h->n ? n : h->n;
    RQ_TRY(make_room(h, n));
    h->n = n;
    return RQ_OK;
}

rq_status rq_histogram_fix(rq_histogram *h, float from, float to)
{
    const size_t n = (size_t)h->bins;
    double *edge = rq_mem_alloc(n + 1, sizeof *edge);
    if (!edge)
        return RQ_NO_MEMORY;
    if (from == to) {
        from -= 0.5f;
        to += 0.5f;
    }
    const float step = (to - from) / (float)h->bins;
    for (size_t i = 0; i < n; i++)
        edge[i] = (float)i * step + from;
    edge[n] = to;
    rq_mem_free(h->edge);
    h->edge = edge;
    h->n = h->bins; /* h->cap is at least that */
    h->first = 0;
    h->width = (double)to - from;
    h->total = h->bad = 0;
    memset(h->count, 0, n * sizeof *h->count);
    return RQ_OK;
}

rq_status rq_histogram_extend(rq_histogram *h, float m)
{
    const bool first = h->n == h->bins; /* numpy's edges are f32 until they are extended, f64 then */
    const double last = h->edge[h->n];
    double width = h->edge[1] - h->edge[0];
    if (!(m > last))
        return RQ_OK;
    if (first)
        width = (float)width;
    if (!(width > 0))
        width = fmax((last - h->edge[0]) / h->n, FLT_MIN);
    while ((m - last) / width + h->n > RQ_HISTOGRAM_MOST) {
        for (int i = 0; i < h->n; i++) { /* the last one may stay as it is */
            const uint64_t c = h->count[i];
            h->count[i] = 0;
            h->count[i / 2] += c;
            h->edge[i / 2 + 1] = h->edge[i + 1];
        }
        h->n = (h->n + 1) / 2;
        width *= 2;
    }
    /* numpy.arange(last + width, m + width, width): a step is the difference of the first two */
    double start = last + width, step = start + width - start, stop = m + width, more = (stop - start) / width;
    if (first) {
        start = (float)start;
        step = (double)((float)start + (float)width) - start;
        more = ((float)stop - (float)start) / (float)width;
    }
    if (!(more < RQ_HISTOGRAM_MOST)) /* at the end of the floats */
        more = (m - last) / width;
    const int added = (int)ceil(more), n = h->n + added;
    double *edge = rq_mem_realloc(h->edge, (size_t)n + 1, sizeof *edge);
    if (!edge)
        return RQ_NO_MEMORY;
    h->edge = edge;
    RQ_TRY(make_room(h, n));
    for (int i = 0; i < added; i++)
        edge[h->n + 1 + i] = start + i * step;
    h->n = n;
    return RQ_OK;
}

/* The bin is guessed as numpy does, then put right by the edges themselves; what lies above `most` is in none. How many were
 * finite. */
static size_t count_between(const rq_histogram *h, uint64_t *count, double most, const float *x, size_t n)
{
    const double from = h->edge[0], to = h->edge[h->n];
    const float lowest = (float)from, span = (float)(to - from);
    size_t finite = 0;
    for (size_t i = 0; i < n; i++) {
        const float v = h->take_abs ? fabsf(x[i]) : x[i];
        finite += fabsf(v) < INFINITY;
        if (!(v >= from && v <= most))
            continue;
        int k = (int)((v - lowest) / span * (float)h->n);
        k = k > 0 ? k : 0;
        k = k < h->n ? k : h->n - 1;
        while (k > 0 && v < h->edge[k])
            k--;
        while (k < h->n - 1 && v >= h->edge[k + 1])
            k++;
        count[k]++;
    }
    return finite;
}

rq_status rq_histogram_reach(rq_histogram *h, float lo, float hi)
{
    if (!h->take_abs)
        cover_signed(h, lo, hi);
    else if (lo < 0 || hi > 0)
        return cover_abs(h, fmaxf(fabsf(lo), fabsf(hi)));
    return RQ_OK;
}

void rq_histogram_tally(const rq_histogram *h, const rq_kernels *k, uint64_t *count, float lo, float hi, const float *x,
                        size_t n)
{
    if (h->edge) {
        /* numpy's steps are rounded, and may end below the largest: that is in the last bin */
        count_between(h, count, fmax(h->edge[h->n], fmaxf(fabsf(lo), fabsf(hi))), x, n);
        return;
    }
    if (h->width == 0)
        return;
    rq_bins b = { .n = h->n, .first = h->first, .take_abs = h->take_abs, .lo = lo, .hi = hi, .div = 1 };
    if (h->take_abs) {
        const float top = (float)rq_histogram_edge(h, h->n);
        b.lo = 0;
        b.hi = fmaxf(top, fmaxf(fabsf(lo), fabsf(hi)));
        b.mul = (float)h->n;
        b.div = top;
        if (top > FLT_MAX / (float)h->n) { /* their product must stay a float */
            b.mul = 1;
            b.div = (float)h->width;
        }
    } else {
        b.mul = (float)(1 / h->width);
    }
    k->histogram(count, &b, x, n);
}

void rq_histogram_commit(rq_histogram *h, float lo, float hi, uint64_t finite, uint64_t bad)
{
    if (finite) {
        /* what came before any width was all zeros: their bin exists now */
        if (h->width > 0 && h->lo == 0 && h->hi == 0)
            h->count[-h->first] += h->total;
        h->lo = fminf(h->lo, lo);
        h->hi = fmaxf(h->hi, hi);
    }
    h->total += finite;
    h->bad += bad;
}

rq_status rq_histogram_update(rq_histogram *h, const rq_kernels *k, const float *x, size_t n)
{
    float lo, hi;
    size_t finite;
    if (h->edge) {
        finite = count_between(h, h->count, h->edge[h->n], x, n);
        h->total += finite;
        h->bad += n - finite;
        return RQ_OK;
    }
    k->minmax(x, n, &lo, &hi, &finite);
    if (finite && h->mass) {
        const rq_bins b = rq_histogram_plan(h, lo, hi);
        memset(h->count, 0, (size_t)h->bins * sizeof *h->count);
        k->histogram(h->count, &b, x, n);
        rq_histogram_fold(h, lo, hi, h->count);
    } else if (finite) {
        RQ_TRY(rq_histogram_reach(h, lo, hi));
        rq_histogram_tally(h, k, h->count, lo, hi, x, n);
    }
    rq_histogram_commit(h, lo, hi, finite, n - finite);
    return RQ_OK;
}
