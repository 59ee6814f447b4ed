/* quant/histogram.h — how often each size of number occurred: equal bins that grow with the data and are never
 * resampled. Bin i counts what lies in [(first + i) * width, (first + i + 1) * width).
 *
 * Three forms:
 *   signed   the width is a power of two, so that an index is exact and two neighbours merge into one bin of the
 *            next width without moving a count. The bins are always the finest of which `max_bins` cover 0 and all
 *            that was seen; the histogram is the same however the data was cut into batches, and takes the same memory.
 *   |x|      as docs/calibration-facts.md 4.2: the first batch with a non-zero element sets `bins` bins over [0, max];
 *            later ones append bins of that width (merged in pairs above RQ_HISTOGRAM_MOST). The width, and with it
 *            the result, depends on the first batch.
 *   edges    rq_histogram_fix: equal bins over a range that is known beforehand, as numpy.histogram makes them:
 *            onnx-facts 4.4. The second of two passes.
 * Counts are 64 bits wide; NaN and infinities are tallied beside them. */
#ifndef RQ_QUANT_HISTOGRAM_H
#define RQ_QUANT_HISTOGRAM_H

#include "kernels/kernels.h"
#include "requant/status.h"

#include <stdbool.h>

enum { RQ_HISTOGRAM_MOST = 1 << 18 };

typedef struct rq_histogram {
    uint64_t *count; /* [n] */
    int n, cap;
    int first;    /* 0 for |x| */
    double width; /* 0 while nothing but zeros was seen */
    bool take_abs;
    int bins;       /* wanted: 16..65536; signed: the range spreads over 2 to 4 times as many */
    float lo, hi;   /* smallest and largest finite element seen (of x, in both forms); lo > hi: none */
    uint64_t total; /* finite elements */
    uint64_t bad;   /* NaN and infinities */
    float *edge;    /* [n + 1] after rq_histogram_fix; NULL otherwise */
} rq_histogram;

/* Zeroes *h and allocates its bins. RQ_BAD_ARG: bins; RQ_NO_MEMORY. */
rq_status rq_histogram_init(rq_histogram *h, int bins, bool take_abs);
/* Count x[n]. RQ_NO_MEMORY (|x| only): nothing was counted. */
rq_status rq_histogram_update(rq_histogram *h, const rq_kernels *k, const float *x, size_t n);
void rq_histogram_release(rq_histogram *h);
/* From now on count (from nothing) in h->bins bins over from..to; what lies outside is not counted, `to` itself counts in the last. A range
 * without width becomes from - 1/2 .. from + 1/2. RQ_NO_MEMORY: h is as it was. */
rq_status rq_histogram_fix(rq_histogram *h, float from, float to);

/* Lower edge of bin i (i = n: the upper edge of the last), rounded to f32 as the peers' edges are. */
static inline double rq_histogram_edge(const rq_histogram *h, int i)
{
    return h->edge ? h->edge[i] : (float)((double)(h->first + i) * h->width);
}

#endif
