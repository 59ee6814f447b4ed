/* quant/histogram.h — how often each size of number occurred: equal bins that grow with the data. Bin i counts what lies
 * in [(first + i) * width, (first + i + 1) * width).
 *
 * Four forms:
 *   signed   the width is a power of two, so that an index is exact and two neighbours merge into one bin of the
 *            next width without moving a count. The bins are always the finest of which `max_bins` cover 0 and all
 *            that was seen; the histogram is the same however the data was cut into batches, and takes the same memory.
 *   |x|      as docs/calibration-facts.md 4.2: the first batch with a non-zero element sets `bins` bins over [0, max];
 *            later ones append bins of that width (merged in pairs above RQ_HISTOGRAM_MOST). The width, and with it
 *            the result, depends on the first batch.
 *   edges    rq_histogram_fix: equal bins over a range that is known beforehand, as numpy.histogram makes them:
 *            onnx-facts 4.4. The second of two passes; or of |x|, extended where a batch goes beyond
 *            (rq_histogram_extend, docs/calibration-facts.md 4.2).
 *   resampled  always `bins` bins over exactly what was seen, as PyTorch's HistogramObserver keeps them (torch-facts 4): when
 *            the range grows, what was counted is spread over the new bins. Masses are f32 and need not be whole;
 *            the result depends on the order of the batches.
 * The first three are never resampled. Counts are 64 bits wide; NaN and infinities are tallied beside them. */
#ifndef RQ_QUANT_HISTOGRAM_H
#define RQ_QUANT_HISTOGRAM_H

#include "kernels/kernels.h"
#include "requant/status.h"

#include <stdbool.h>

enum { RQ_HISTOGRAM_MOST = 1 << 18 };

/* resampled: whose rules. docs/numerics.md, "Departures from the originals". */
typedef enum rq_resample {
    RQ_RESAMPLE_OURS,    /* PyTorch 2's, but a single point keeps the mass it has */
    RQ_RESAMPLE_TORCH_2, /* a single point is given the mass of the batch that comes after it */
    RQ_RESAMPLE_TORCH_1, /* up to 1.13: batches are counted between the ends cut to integers, and the upper end is relaxed */
} rq_resample;

typedef struct rq_histogram {
    uint64_t *count; /* [n] */
    int n, cap;
    int first;    /* 0 for |x| */
    double width; /* 0 while nothing but zeros was seen */
    bool take_abs;
    int bins;       /* wanted: 2..65536; signed: the range spreads over 2 to 4 times as many */
    float lo, hi;   /* smallest and largest finite element seen (of x, in both forms); lo > hi: none */
    uint64_t total; /* finite elements */
    uint64_t bad;   /* NaN and infinities */
    double *edge;   /* [n + 1] after rq_histogram_fix; NULL otherwise */
    float *mass;    /* resampled: [2 * bins], the first half is in use; NULL otherwise */
    int upsample;   /* resampled: parts that a bin is cut into to be spread */
    rq_resample rule;
} rq_histogram;

/* Zeroes *h and allocates its bins. RQ_BAD_ARG: bins; RQ_NO_MEMORY. */
rq_status rq_histogram_init(rq_histogram *h, int bins, bool take_abs);
/* Count x[n]. RQ_NO_MEMORY (|x| only): nothing was counted. */
rq_status rq_histogram_update(rq_histogram *h, const rq_kernels *k, const float *x, size_t n);
void rq_histogram_release(rq_histogram *h);
/* As after initialization, whatever its form. */
void rq_histogram_reset(rq_histogram *h);
/* From now on count (from nothing) in h->bins bins over from..to; what lies outside is not counted, `to` itself counts in the last. A range
 * without width becomes from - 1/2 .. from + 1/2. RQ_NO_MEMORY: h is as it was. */
rq_status rq_histogram_fix(rq_histogram *h, float from, float to);
/* After rq_histogram_fix: bins of the first one's width behind the last edge until m is inside (one more at times, as numpy.arange has
 * it); pairs merge above RQ_HISTOGRAM_MOST. RQ_NO_MEMORY: h counts what it did. */
rq_status rq_histogram_extend(rq_histogram *h, float m);

/* rq_histogram_update in parts, for who counts in parallel. A batch whose finite elements lie in lo..hi: make room (not for the form
 * `edges`; RQ_NO_MEMORY: nothing changed), count any parts into count[h->n] (h->count itself, or arrays that are added to
 * it), and say what there was. */
rq_status rq_histogram_reach(rq_histogram *h, float lo, float hi);
void rq_histogram_tally(const rq_histogram *h, const rq_kernels *k, uint64_t *count, float lo, float hi, const float *x,
                        size_t n);
void rq_histogram_commit(rq_histogram *h, float lo, float hi, uint64_t finite, uint64_t bad);

/* ---- resampled: histogram_resample.c ---- */

/* `bins` 1..65536, `upsample` 1..1024 (PyTorch: 2048 and 16; up to 1.13: 128). RQ_BAD_ARG, RQ_NO_MEMORY. rq_histogram_update works
 * on it; so does what follows, with which a caller may count in parallel. */
rq_status rq_histogram_init_resampled(rq_histogram *h, int bins, int upsample, rq_resample rule);
/* Where a batch whose finite elements span lo..hi (lo <= hi) is to be counted, into h->bins counts. */
rq_bins rq_histogram_plan(const rq_histogram *h, float lo, float hi);
/* Take that batch in: h->lo..h->hi becomes the range of all, and the mass that was there is spread over it. */
void rq_histogram_fold(rq_histogram *h, float lo, float hi, const uint64_t *count);

/* PyTorch's search for the range with least squared error (torch-facts 4.4): the ends walk inwards by quantiles of 1e-5, the one with
 * fewer bins to cross first, until a step is worse than the one before. Bins a..b are kept.
 * levels: codes that the bins are rounded to, 2^bits. `error` is what the range costs (rq_histogram_error). An empty histogram gives
 * lo > hi. */
typedef struct rq_histogram_kept {
    int a, b;
    float lo, hi;
    double error;
} rq_histogram_kept;
rq_histogram_kept rq_histogram_search(const rq_histogram *h, double levels);
/* What keeping bins a..b costs: mean squares of the distance to the nearest of `levels` points, summed over the mass, in reals. */
double rq_histogram_error(const rq_histogram *h, double levels, int a, int b);

/* Lower edge of bin i (i = n: the upper edge of the last), rounded to f32 as the peers' edges are. */
static inline double rq_histogram_edge(const rq_histogram *h, int i)
{
    return h->edge ? (float)h->edge[i] : (float)((double)(h->first + i) * h->width);
}

#endif
