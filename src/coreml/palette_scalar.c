/* coreml/palette_scalar.c — the best table for single numbers. Clusters of numbers on a line are runs of the sorted numbers, so the optimum is
 * found by dynamic programming over where runs end, each row by divide and conquer since the best beginning moves with the end (Wu,
 * Optimal quantization by matrix searching, 1991; Gronlund et al., Fast exact k-means in 1D, arXiv:1701.07204).
 *
 * Up to 65536 distinct numbers (all of fp16) this is exact. More are first put into 2^20 bins by their upper bits, neighbouring bins merged until
 * 65536 are left; Lloyd's algorithm over the bins then moves the borders to where they belong. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "coreml/element.h"
#include "coreml/palette.h"

enum { POINTS = 65536, SLOTS = 2 * POINTS, PIECE = 1024, BIN_BITS = 20, BINS = 1 << BIN_BITS, LLOYD = 30 };

typedef struct point {
    double value, weight; /* mean of its numbers, how many */
} point;

typedef struct points {
    point *at;
    int64_t n;
    bool exact; /* every point is one distinct number */
} points;

/* A number as an integer of the same order. */
static uint32_t key_of(float v)
{
    uint32_t bits;
    v += 0.0f; /* -0 is 0 */
    memcpy(&bits, &v, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float number_of(uint32_t key)
{
    const uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static int by_value(const void *a, const void *b)
{
    const point *x = a, *y = b;
    return (x->value > y->value) - (x->value < y->value);
}

/* ---- numbers to points ---- */

typedef struct slot {
    uint32_t key;
    uint64_t count;
} slot;

/* false: more than POINTS distinct. */
static bool count_distinct(slot *slots, const rq_palette *p, int64_t g)
{
    float v[PIECE];
    int64_t used = 0;
    for (int64_t at = 0, n = p->outer * p->group * p->inner; at < n; at += PIECE) {
        const int64_t m = n - at < PIECE ? n - at : PIECE;
        rq_palette_values(p, g, v, at, m);
        for (int64_t i = 0; i < m; i++) {
            const uint32_t key = key_of(v[i]);
            uint32_t s = (key * 2654435761u) >> (32 - 17);
            while (slots[s].count && slots[s].key != key)
                s = (s + 1) % SLOTS;
            if (!slots[s].count && used++ == POINTS)
                return false;
            slots[s].key = key;
            slots[s].count++;
        }
    }
    return true;
}

static rq_status distinct_points(points *out, const rq_palette *p, int64_t g)
{
    slot *slots = rq_mem_zalloc(SLOTS, sizeof *slots);
    if (!slots)
        return RQ_NO_MEMORY;
    rq_status s = RQ_OK;
    out->exact = count_distinct(slots, p, g);
    if (out->exact) {
        for (int64_t i = 0; i < SLOTS; i++)
            out->n += slots[i].count > 0;
        out->at = rq_mem_alloc((size_t)out->n, sizeof *out->at);
        s = out->at ? RQ_OK : RQ_NO_MEMORY;
        for (int64_t i = 0, k = 0; i < SLOTS && !s; i++)
            if (slots[i].count)
                out->at[k++] = (point) { number_of(slots[i].key), (double)slots[i].count };
    }
    rq_mem_free(slots);
    if (out->at)
        qsort(out->at, (size_t)out->n, sizeof *out->at, by_value);
    return s;
}

static rq_status binned_points(points *out, const rq_palette *p, int64_t g)
{
    point *bin = rq_mem_zalloc(BINS, sizeof *bin); /* value: the sum, until all are in */
    if (!bin)
        return RQ_NO_MEMORY;
    float v[PIECE];
    for (int64_t at = 0, n = p->outer * p->group * p->inner; at < n; at += PIECE) {
        const int64_t m = n - at < PIECE ? n - at : PIECE;
        rq_palette_values(p, g, v, at, m);
        for (int64_t i = 0; i < m; i++) {
            point *b = bin + (key_of(v[i]) >> (32 - BIN_BITS));
            b->value += v[i];
            b->weight++;
        }
    }
    for (int64_t i = 0; i < BINS; i++)
        if (bin[i].weight > 0)
            bin[out->n++] = (point) { bin[i].value / bin[i].weight, bin[i].weight };
    out->at = bin;
    return RQ_OK;
}

static int64_t merge_with(point *dst, const points *p, double width)
{
    int64_t n = 0;
    double first = 0;
    for (int64_t i = 0; i < p->n; i++) {
        if (n && p->at[i].value - first <= width) {
            if (dst) {
                point *q = dst + n - 1;
                q->value = (q->value * q->weight + p->at[i].value * p->at[i].weight) / (q->weight + p->at[i].weight);
                q->weight += p->at[i].weight;
            }
            continue;
        }
        first = p->at[i].value;
        if (dst)
            dst[n] = p->at[i];
        n++;
    }
    return n;
}

/* Neighbours closer than the least width that leaves POINTS of them (by factors of two) become one. */
static rq_status merge(points *out, const points *all)
{
    double width = (all->at[all->n - 1].value - all->at[0].value) / 0x1p60;
    while (merge_with(NULL, all, width) > POINTS)
        width *= 2;
    out->at = rq_mem_alloc(POINTS, sizeof *out->at);
    if (!out->at)
        return RQ_NO_MEMORY;
    out->n = merge_with(out->at, all, width);
    return RQ_OK;
}

/* ---- the optimum ---- */

typedef struct program {
    const double *sum, *weight; /* [n + 1] of the points before; values are relative to their mean */
    const double *before;       /* [n + 1] best score of the first i points with one cluster less */
    double *now;                /* [n + 1] with this many */
    uint16_t *begin;            /* [n + 1] where the last cluster begins then */
} program;

/* The score of a cluster is sum^2 / weight: what the sum of squares loses when each of its points becomes the mean. */
static void solve(const program *d, int64_t lo, int64_t hi, int64_t from, int64_t to)
{
    while (lo <= hi) {
        const int64_t mid = (lo + hi) / 2, last = to < mid - 1 ? to : mid - 1;
        double best = -INFINITY;
        int64_t at = from;
        for (int64_t j = from; j <= last; j++) {
            const double s = d->sum[mid] - d->sum[j];
            const double score = d->before[j] + s * s / (d->weight[mid] - d->weight[j]);
            if (score > best)
                best = score, at = j;
        }
        d->now[mid] = best;
        d->begin[mid] = (uint16_t)at;
        solve(d, lo, mid - 1, from, at);
        lo = mid + 1, from = at;
    }
}

/* end[c]: behind the last point of cluster c. */
static rq_status optimum(int64_t *end, const points *p, int k)
{
    const int64_t n = p->n;
    double *sum = rq_mem_alloc((size_t)(n + 1) * 4, sizeof *sum), *weight = sum + (n + 1);
    uint16_t *begin = sum ? rq_mem_alloc((size_t)(n + 1) * (size_t)k, sizeof *begin) : NULL;
    if (!begin) {
        rq_mem_free(sum);
        return RQ_NO_MEMORY;
    }
    double total = 0, count = 0;
    for (int64_t i = 0; i < n; i++)
        total += p->at[i].value * p->at[i].weight, count += p->at[i].weight;
    sum[0] = weight[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        sum[i + 1] = sum[i] + (p->at[i].value - total / count) * p->at[i].weight;
        weight[i + 1] = weight[i] + p->at[i].weight;
    }
    double *before = sum + 2 * (n + 1), *now = sum + 3 * (n + 1);
    for (int64_t i = 1; i <= n; i++) {
        before[i] = sum[i] * sum[i] / weight[i];
        begin[i] = 0;
    }
    for (int c = 1; c < k; c++) {
        const program d = { sum, weight, before, now, begin + c * (n + 1) };
        solve(&d, c + 1, n, c, n - 1);
        double *t = before;
        before = now, now = t;
    }
    for (int64_t c = k - 1, i = n; c >= 0; c--) {
        end[c] = i;
        i = begin[c * (n + 1) + i];
    }
    rq_mem_free(sum);
    rq_mem_free(begin);
    return RQ_OK;
}

/* ---- the table ---- */

static double mean_of(const points *p, int64_t from, int64_t to)
{
    double s = 0, w = 0;
    for (int64_t i = from; i < to; i++)
        s += p->at[i].value * p->at[i].weight, w += p->at[i].weight;
    return s / w;
}

static void means_of(double *mean, const points *p, const int64_t *end, int k)
{
    for (int c = 0; c < k; c++)
        if (end[c] > (c ? end[c - 1] : 0))
            mean[c] = mean_of(p, c ? end[c - 1] : 0, end[c]);
}

/* Borders halfway between means, means between borders, until nothing moves. */
static void lloyd(double *mean, int64_t *end, const points *all, int k)
{
    for (int round = 0; round < LLOYD; round++) {
        bool moved = false;
        int64_t i = 0;
        for (int c = 0; c < k; c++) {
            const double border = c < k - 1 ? (mean[c] + mean[c + 1]) / 2 : INFINITY;
            while (i < all->n && all->at[i].value <= border)
                i++;
            moved |= end[c] != i;
            end[c] = i;
        }
        if (!moved && round)
            return;
        means_of(mean, all, end, k);
    }
}

static void put_table(rq_palette *p, int64_t g, const points *pts, const double *mean, const int64_t *end, int k)
{
    const int64_t entries = (int64_t)1 << p->nbits;
    float *table = p->table + g * entries, *bound = p->bound + g * entries;
    for (int64_t c = 0; c < entries; c++) {
        table[c] = c < k ? rq_element_round(p->dtype, mean[c]) : 0;
        if (c >= k - 1)
            bound[c] = INFINITY;
        else
            bound[c] = (float)(pts->exact ? pts->at[end[c] - 1].value : (mean[c] + mean[c + 1]) / 2);
    }
    p->used[g] = k;
}

rq_status rq_palette_scalar(rq_palette *p, int64_t g)
{
    points all = { 0 }, few = { 0 };
    RQ_TRY(distinct_points(&all, p, g));
    rq_status s = all.exact ? RQ_OK : binned_points(&all, p, g);
    if (!s && all.n > POINTS)
        s = merge(&few, &all);
    const points *pts = few.at ? &few : &all;
    const int entries = 1 << p->nbits, k = pts->n < entries ? (int)pts->n : entries;
    double mean[256] = { 0 };
    int64_t end[256] = { 0 };
    if (!s)
        s = optimum(end, pts, k);
    if (!s) {
        means_of(mean, pts, end, k);
        if (!all.exact)
            lloyd(mean, end, &all, k);
        put_table(p, g, &all, mean, end, k);
    }
    rq_mem_free(all.at);
    rq_mem_free(few.at);
    return s;
}
