/* quant/calibrator_hist.c — HistogramCalibrator: counts of |x| over a growing range (quant/histogram.h, forms |x| and edges;
 * docs/calibration-facts.md 4.2), and what they are asked: 4.3 to 4.5. */
#include "quant/calibrator.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "quant/calibrate.h"
#include "quant/exec.h"

enum { TILE = 2048 };

static rq_status hist_init(rq_calibrator *c, rq_err *err)
{
    if (rq_histogram_init(&c->h, c->cfg.num_bins, true))
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %d bins", c->cfg.num_bins);
    return RQ_OK;
}

static bool has_bins(const rq_histogram *h)
{
    return h->edge || h->width > 0;
}

/* numpy's bins: the first range is that of the data, later ones append. Zeros that came before anything else are at its bottom. */
static rq_status reach_numpy(rq_calibrator *c, const rq_extremes *x, float top)
{
    rq_histogram *h = &c->h;
    if (h->edge)
        return rq_histogram_extend(h, top);
    const uint64_t total = h->total, bad = h->bad;
    float from = total || (x->zeros && !c->cfg.skip_zeros) ? 0 : x->least_abs;
    if (from == top && !c->cfg.compat)
        from = 0; /* numpy.histogram: half to either side, below 0 too */
    RQ_TRY(rq_histogram_fix(h, from, top));
    h->total = total;
    h->bad = bad;
    return RQ_OK;
}

static uint64_t in_bins(const rq_histogram *h)
{
    uint64_t n = 0;
    for (int i = 0; i < h->n; i++)
        n += h->count[i];
    return n;
}

struct job {
    const rq_histogram *h;
    const rq_kernels *k;
    const rq_extremes *x;
    bool skip_zeros;
};

static void count(const void *arg, uint64_t *counts, const float *x, size_t n)
{
    const struct job *j = arg;
    const float lo = j->x->lo, hi = j->x->hi;
    float kept[TILE];
    if (!j->skip_zeros) {
        rq_histogram_tally(j->h, j->k, counts, lo, hi, x, n);
        return;
    }
    for (size_t i = 0; i < n;) {
        size_t m = 0;
        for (; i < n && m < TILE; i++) {
            kept[m] = x[i];
            m += x[i] != 0;
        }
        rq_histogram_tally(j->h, j->k, counts, lo, hi, kept, m);
    }
}

void rq_calibrator_count(rq_histogram *h, const rq_runs *r, rq_exec *e, const rq_kernels *k, const rq_extremes *x,
                         bool skip_zeros)
{
    const struct job j = { h, k, x, skip_zeros };
    rq_runs_count(r, e, count, &j, h->count, h->n);
}

static rq_status hist_collect(rq_calibrator *c, rq_exec *e, const rq_runs *r, const rq_extremes *x, rq_err *err)
{
    rq_histogram *h = &c->h;
    const uint64_t infinite = x->above + x->below, bad = x->nan + infinite, zeros = c->cfg.skip_zeros ? x->zeros : 0,
                   n = x->finite - zeros;
    if (bad && c->cfg.compat)
        return rq_fail(err, RQ_NUMERIC, "the range of a histogram is not finite: %llu NaN and %llu infinities",
                       (unsigned long long)x->nan, (unsigned long long)infinite);
    const float top = n ? fmaxf(fabsf(x->lo), fabsf(x->hi)) : 0;
    if (top > 0) {
        const rq_status st = c->cfg.numpy_hist ? reach_numpy(c, x, top) : rq_histogram_reach(h, x->lo, x->hi);
        if (st)
            return rq_fail(err, st, "no memory for the bins up to %g", (double)top);
    }
    if (n && has_bins(h)) {
        const uint64_t before = c->cfg.numpy_hist ? in_bins(h) : 0;
        const rq_kernels k = rq_exec_kernels(e);
        rq_calibrator_count(h, r, e, &k, x, c->cfg.numpy_hist && zeros);
        if (!c->cfg.numpy_hist)
            h->count[0] -= zeros; /* where they were counted: quicker than leaving them out */
        if (c->cfg.numpy_hist)
            c->info.skipped += n - (in_bins(h) - before);
    }
    rq_histogram_commit(h, x->lo, x->hi, n, bad);
    c->info.skipped += zeros;
    return RQ_OK;
}

rq_status rq_calibrator_search(const rq_histogram *h, rq_amax_method m, const rq_amax_params *p, int num_bits,
                               bool is_unsigned, bool e4m3, bool compat, float top, float *amax, rq_err *err)
{
    const int levels = e4m3 ? 0 : rq_calibrator_levels(num_bits, is_unsigned);
    double a = 0;
    int at = 0;
    if (m == RQ_AMAX_PERCENTILE) {
        a = rq_calibrate_amax_percentile(h, p->percentile, &at);
        if (p->upper_edge)
            a = rq_histogram_edge(h, at < h->n ? at + 1 : h->n);
    } else if (m == RQ_AMAX_ENTROPY) {
        a = rq_calibrate_amax_entropy_compat(h, levels, p->start_bin, p->stride, compat, &at);
    } else {
        a = rq_calibrate_amax_mse(h, e4m3 ? RQ_CALIBRATE_E4M3 : levels - 1, p->start_bin, p->stride, &at);
    }
    if (isnan(a))
        return rq_fail(err, RQ_NO_MEMORY, "no memory to search %d bins", h->n);
    *amax = at < 0 ? top : (float)a;
    return RQ_OK;
}

static rq_status hist_amax(rq_calibrator *c, rq_amax_method m, const rq_amax_params *p, float *out, rq_err *err)
{
    rq_histogram *h = &c->h;
    if (h->total == 0)
        return rq_fail(err, RQ_NOT_FOUND, "Calibrator returned None: of what was collected nothing counted");
    if (m == RQ_AMAX_ENTROPY && c->cfg.e4m3)
        return rq_fail(err, RQ_UNSUPPORTED,
                       "entropy has levels of one size only: expected an integer num_bits, found E4M3");
    const float top = fmaxf(fabsf(h->lo), fabsf(h->hi));
    *out = top;
    if (m == RQ_AMAX_MAX || !has_bins(h))
        return RQ_OK; /* without bins: nothing but zeros */
    RQ_TRY(rq_calibrator_check(m, p, h->n, err));
    if (m == RQ_AMAX_ENTROPY && c->cfg.compat && c->cfg.numpy_hist)
        h->count[0] = h->count[1];
    return rq_calibrator_search(h, m, p, c->cfg.num_bits, c->cfg.is_unsigned, c->cfg.e4m3, c->cfg.compat, top, out,
                                err);
}

static rq_status hist_reset(rq_calibrator *c)
{
    rq_histogram fresh;
    RQ_TRY(rq_histogram_init(&fresh, c->cfg.num_bins, true));
    rq_histogram_release(&c->h);
    c->h = fresh;
    return RQ_OK;
}

/* Counts as U64 and edges as F32, one more. */
static rq_status tensors_of(const rq_histogram *h, rq_tensor *counts, rq_tensor *edges)
{
    const int64_t n = h->n, n_edges = n + 1;
    const rq_shape a = rq_shape_of(1, &n), b = rq_shape_of(1, &n_edges);
    RQ_TRY(rq_tensor_create(counts, RQ_DTYPE_U64, &a, false));
    const rq_status st = rq_tensor_create(edges, RQ_DTYPE_F32, &b, false);
    if (st) {
        rq_tensor_release(counts);
        return st;
    }
    memcpy(counts->u64, h->count, (size_t)n * sizeof *h->count);
    for (int i = 0; i <= h->n; i++)
        edges->f32[i] = (float)rq_histogram_edge(h, i);
    return RQ_OK;
}

rq_status rq_calibrator_histogram(const rq_calibrator *c, rq_tensor *counts, rq_tensor *edges, rq_err *err)
{
    rq_tensor a, b;
    if (c->cfg.kind != RQ_CALIBRATOR_HISTOGRAM)
        return rq_fail(err, RQ_BAD_ARG, "%s has no histogram", rq_calibrator_name(c));
    if (!has_bins(&c->h))
        return rq_fail(err, RQ_NOT_FOUND, "there are no bins yet: nothing but zeros was collected");
    if (tensors_of(&c->h, &a, &b))
        return rq_fail(err, RQ_NO_MEMORY, "no memory for a copy of %d bins", c->h.n);
    if (counts)
        *counts = a;
    else
        rq_tensor_release(&a);
    if (edges)
        *edges = b;
    else
        rq_tensor_release(&b);
    return RQ_OK;
}

/* ---- keeping: the counts and edges, and of what made them lo, hi, width and the number that counted ---- */

enum { N_RANGE = 4 };

static rq_status hist_save(const rq_calibrator *c, rq_state *s, const char *prefix)
{
    const rq_histogram *h = &c->h;
    double range[N_RANGE] = { h->total ? h->lo : 0, h->total ? h->hi : 0, h->width, (double)h->total };
    const int64_t n = N_RANGE;
    const rq_shape shape = rq_shape_of(1, &n);
    const rq_tensor r = rq_tensor_view(RQ_DTYPE_F64, &shape, range);
    RQ_TRY(rq_state_set(s, prefix, "_range", &r));
    if (!has_bins(h))
        return RQ_OK;
    rq_tensor counts, edges;
    RQ_TRY(tensors_of(h, &counts, &edges));
    rq_status st = rq_state_set_ints(s, prefix, "_calib_hist", counts.s64, h->n);
    const rq_tensor exact = rq_tensor_view(RQ_DTYPE_F64, &edges.shape, h->edge);
    if (!st)
        st = rq_state_set(s, prefix, "_calib_bin_edges", h->edge ? &exact : &edges);
    rq_tensor_release(&counts);
    rq_tensor_release(&edges);
    return st;
}

static rq_status load_bins(rq_calibrator *c, const rq_tensor *counts, const rq_tensor *edges, double width, rq_err *err)
{
    rq_histogram *h = &c->h;
    const int64_t n = rq_tensor_count(counts);
    if (n < 1 || n > RQ_HISTOGRAM_MOST || rq_tensor_count(edges) != n + 1)
        return rq_fail(err, RQ_BAD_SHAPE, "%lld counts and %lld edges, expected 1..%d, and one more", (long long)n,
                       (long long)rq_tensor_count(edges), RQ_HISTOGRAM_MOST);
    h->width = width;
    for (int64_t i = 0; i <= n; i++) {
        const double v = rq_tensor_get(edges, i);
        if (i < n && counts->s64[i] < 0)
            return rq_fail(err, RQ_BAD_DATA, "_calib_hist[%lld] is negative", (long long)i);
        if (!(fabs(v) < INFINITY) || (i && v < rq_tensor_get(edges, i - 1)) ||
            (!c->cfg.numpy_hist && v != (float)((double)i * width)))
            return rq_fail(err, RQ_BAD_DATA, "_calib_bin_edges[%lld] is %g, expected rising edges%s", (long long)i, v,
                           c->cfg.numpy_hist ? "" : ", multiples of the width");
    }
    const double from = rq_tensor_get(edges, 0), to = rq_tensor_get(edges, n);
    if (from < -0.5 || !(to > from)) /* numpy puts a range of one number half below it */
        return rq_fail(err, RQ_BAD_DATA, "_calib_bin_edges reach from %g to %g, expected magnitudes and a width", from,
                       to);
    uint64_t *count = rq_mem_zalloc((size_t)(n > h->cap ? n : h->cap), sizeof *count);
    double *edge = c->cfg.numpy_hist ? rq_mem_alloc((size_t)n + 1, sizeof *edge) : NULL;
    if (!count || (c->cfg.numpy_hist && !edge)) {
        rq_mem_free(count);
        rq_mem_free(edge);
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %lld bins", (long long)n);
    }
    memcpy(count, counts->u64, (size_t)n * sizeof *count);
    for (int64_t i = 0; edge && i <= n; i++)
        edge[i] = rq_tensor_get(edges, i);
    rq_mem_free(h->count);
    h->count = count;
    h->edge = edge;
    h->n = (int)n;
    h->cap = n > h->cap ? (int)n : h->cap;
    return RQ_OK;
}

static rq_status hist_load(rq_calibrator *c, const rq_state *s, const char *prefix, rq_err *err)
{
    const rq_tensor *r, *counts, *edges;
    RQ_TRY(rq_state_get(s, prefix, "_range", RQ_DTYPE_F64, 1, &r, err));
    if (rq_tensor_count(r) != N_RANGE)
        return rq_fail(err, RQ_BAD_SHAPE, "_range has %lld numbers, expected %d", (long long)rq_tensor_count(r),
                       N_RANGE);
    const double lo = r->f64[0], hi = r->f64[1], width = r->f64[2], total = r->f64[3];
    if (!(lo <= hi && fabs(lo) < INFINITY && fabs(hi) < INFINITY && width >= 0 && width < INFINITY && total >= 0 &&
          total < 0x1p63))
        return rq_fail(err, RQ_BAD_DATA, "_range is %g, %g, %g, %g, expected rising ends, a width and a number", lo, hi,
                       width, total);
    if (width > 0) {
        RQ_TRY(rq_state_get(s, prefix, "_calib_hist", RQ_DTYPE_S64, 1, &counts, err));
        if (rq_state_get(s, prefix, "_calib_bin_edges", RQ_DTYPE_F64, 1, &edges, NULL))
            RQ_TRY(rq_state_get(s, prefix, "_calib_bin_edges", RQ_DTYPE_F32, 1, &edges, err));
        RQ_TRY(load_bins(c, counts, edges, width, err));
    }
    if (total > 0) {
        c->h.lo = (float)lo;
        c->h.hi = (float)hi;
    }
    c->h.total = (uint64_t)total;
    c->h.bad = c->info.nan + c->info.infinite;
    c->keep = (rq_shape) { 0 };
    c->cells = 1;
    return RQ_OK;
}

static void hist_text(const rq_calibrator *c, char *buf, size_t n)
{
    const rq_histogram *h = &c->h;
    if (has_bins(h))
        rq_number_print(buf, n, "HistogramCalibrator(calib_bin_edges=[%.3f, ..., %.3f](%d))", rq_histogram_edge(h, 0),
                        rq_histogram_edge(h, h->n), h->n + 1);
    else
        rq_number_print(buf, n, "HistogramCalibrator(calib_bin_edges=None)");
}

const rq_calibrator_row rq_calibrator_hist = {
    .name = "HistogramCalibrator",
    .init = hist_init,
    .looks = true,
    .collect = hist_collect,
    .amax = hist_amax,
    .reset = hist_reset,
    .save = hist_save,
    .load = hist_load,
    .text = hist_text,
};
