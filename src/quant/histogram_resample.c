/* quant/histogram_resample.c — histograms of a fixed number of bins over exactly what was seen: the state of PyTorch's
 * HistogramObserver, operation for operation in f32 (torch-facts 4). A batch is counted in integers over the range of
 * everything up to and with it (rq_histogram_plan); then the mass that was there is cut into `upsample` parts per bin, each part
 * goes to the new bin in which its middle lies, and the counts are added (rq_histogram_fold). */
#include "quant/histogram.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"

rq_status rq_histogram_init_resampled(rq_histogram *h, int bins, int upsample, rq_resample rule)
{
    memset(h, 0, sizeof *h);
    if (bins < 1 || bins > 65536 || upsample < 1 || upsample > 1024)
        return RQ_BAD_ARG;
    h->bins = h->n = h->cap = bins;
    h->upsample = upsample;
    h->rule = rule;
    h->lo = INFINITY;
    h->hi = -INFINITY;
    h->count = rq_mem_zalloc((size_t)bins, sizeof *h->count);
    h->mass = rq_mem_zalloc((size_t)bins * 2, sizeof *h->mass);
    if (h->count && h->mass)
        return RQ_OK;
    rq_histogram_release(h);
    return RQ_NO_MEMORY;
}

/* torch.histc: bin (x - lo) * bins / (hi - lo), in f32 from left to right, hi in the last. A range without width becomes that of
 * the data, then one to either side. */
static rq_bins histc(int bins, float lo, float hi, float data_lo, float data_hi)
{
    if (lo == hi) {
        lo = data_lo;
        hi = data_hi;
    }
    if (lo == hi) {
        lo -= 1;
        hi += 1;
    }
    rq_bins b = { .n = bins, .lo = lo, .hi = hi, .from = lo, .mul = (float)bins, .div = hi - lo };
    if (b.div == 0) { /* so large that 1 is nothing: the middle bin */
        b.first = -(bins / 2);
        b.mul = 0;
        b.div = 1;
    } else if (b.div > FLT_MAX) { /* the difference must stay a float: bins that begin at a multiple of their width */
        b.from = 0;
        b.mul = 1;
        b.div = (float)(((double)hi - lo) / bins);
        b.first = (int)floorf(lo / b.div);
    } else if (b.div > FLT_MAX / (float)bins) { /* and so must the product */
        b.mul = 1;
        b.div /= (float)bins;
    }
    return b;
}

/* What is seen with the batch lo..hi. */
typedef struct joint {
    float lo, hi;
    int64_t down; /* torch 1: parts of old bins in a new one, and where they begin */
    int64_t start;
} joint;

/* Up to 1.13 a new bin is a whole number of parts, for which the upper end is moved up. */
static void relax(joint *j, const rq_histogram *h)
{
    const double most = (double)(INT64_C(1) << 40);
    const float part = (h->hi - h->lo) / (float)(h->bins * h->upsample), whole = (float)h->bins * part;
    const float down = ceilf((j->hi - j->lo) / whole), extra = down * whole - (j->hi - j->lo);
    const double start = rint((double)((h->lo - j->lo) / part));
    if (!(part > 0) || !(down < most) || !(start < most))
        return; /* a range so narrow that it is a point now */
    j->hi += extra;
    j->down = (int64_t)down;
    j->start = (int64_t)start;
}

static bool begins(const rq_histogram *h)
{
    return h->lo > h->hi || (h->rule == RQ_RESAMPLE_TORCH_1 && h->lo == h->hi);
}

static joint join(const rq_histogram *h, float lo, float hi)
{
    joint j = { lo, hi, 0, 0 };
    if (begins(h))
        return j;
    j.lo = fminf(h->lo, lo);
    j.hi = fmaxf(h->hi, hi);
    if (h->rule == RQ_RESAMPLE_TORCH_1)
        relax(&j, h);
    return j;
}

/* Towards zero, where an integer holds it. */
static float cut(float v)
{
    return fabsf(v) < 8388608.0f ? (float)(int)v : v;
}

rq_bins rq_histogram_plan(const rq_histogram *h, float lo, float hi)
{
    const joint j = join(h, lo, hi);
    if (h->rule == RQ_RESAMPLE_TORCH_1)
        return histc(h->bins, cut(j.lo), cut(j.hi), lo, hi);
    return histc(h->bins, j.lo, j.hi, lo, hi);
}

/* torch.linspace: from the near end, fused. The product of two f32 is exact in double. */
typedef struct grid {
    float from, to, step;
    int n; /* points */
} grid;

static grid make_grid(float from, float to, int parts)
{
    const float span = to - from;
    return (grid) { from, to, span > FLT_MAX ? (float)(((double)to - from) / parts) : span / (float)parts, parts + 1 };
}

static float grid_at(const grid *g, int i)
{
    return i < g->n / 2 ? (float)((double)g->from + (double)g->step * i)
                        : (float)((double)g->to - (double)g->step * (g->n - 1 - i));
}

/* The mass h->mass, which lies over h->lo..h->hi, over j instead. */
static void spread(const rq_histogram *h, const joint *j, float *out)
{
    const grid parts = make_grid(h->lo, h->hi, h->bins * h->upsample), edges = make_grid(j->lo, j->hi, h->bins);
    const float half = 0.5f * parts.step;
    float upper = grid_at(&edges, 1);
    for (int i = 0, p = 0, b = 0; i < h->bins; i++) {
        const float share = h->mass[i] / (float)h->upsample;
        for (int u = 0; u < h->upsample; u++, p++) {
            const float middle = grid_at(&parts, p) + half;
            while (b < h->bins - 1 && upper <= middle)
                upper = grid_at(&edges, ++b + 1);
            out[b] += share;
        }
    }
}

/* Up to 1.13: parts first..first + down - 1 of the cumulated mass go to each bin. */
static void integrate(const rq_histogram *h, const joint *j, float *out)
{
    const int64_t parts = (int64_t)h->bins * h->upsample;
    double sum = 0, before = 0; /* of the whole bins below `bin`, in parts */
    int bin = 0;
    for (int i = 0; i < h->bins; i++) {
        int64_t end = (i + 1) * j->down - j->start; /* parts below the upper edge of the new bin */
        end = end < 0 ? 0 : end > parts ? parts : end;
        for (; bin < h->bins && (int64_t)(bin + 1) * h->upsample <= end; bin++)
            sum += (double)h->mass[bin] * h->upsample;
        const int64_t rest = end - (int64_t)bin * h->upsample;
        const double here = sum + (rest > 0 ? (double)h->mass[bin] * (double)rest : 0);
        out[i] = (float)((here - (double)(float)before) / h->upsample);
        before = here;
    }
}

void rq_histogram_fold(rq_histogram *h, float lo, float hi, const uint64_t *count)
{
    const joint j = join(h, lo, hi);
    float *old = h->mass, *spare = h->mass + h->bins;
    const size_t bytes = (size_t)h->bins * sizeof *old;
    if (begins(h)) {
        memset(old, 0, bytes);
    } else if (j.lo != h->lo || j.hi != h->hi) {
        memset(spare, 0, bytes);
        if (h->rule == RQ_RESAMPLE_TORCH_1 && j.down) {
            integrate(h, &j, spare);
        } else if (h->lo == h->hi) {
            const rq_bins b = histc(h->bins, j.lo, j.hi, h->lo, h->lo);
            double sum = 0;
            for (int i = 0; i < h->bins; i++)
                sum += h->rule == RQ_RESAMPLE_TORCH_2 ? (double)count[i] : (double)old[i];
            spare[rq_bins_at(&b, h->lo)] = (float)sum;
        } else {
            spread(h, &j, spare);
        }
        memcpy(old, spare, bytes);
    }
    for (int i = 0; i < h->bins; i++)
        old[i] += (float)count[i];
    h->lo = j.lo;
    h->hi = j.hi;
}
