/* quant/calibrate_weights.c — calibrate_weights of the originals, docs/calibration-facts.md 4.6: each channel of a weight counted on
 * its own, and asked as the histogram calibrator is. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "quant/calibrator.h"
#include "quant/exec.h"
#include "tensor/strided.h"

enum { COMPAT_BINS = 2048 };

rq_weights_cfg rq_weights_defaults(void)
{
    return (rq_weights_cfg) {
        .method = RQ_AMAX_PERCENTILE, .per_channel = true, .percentile = 99.99, .num_bins = 2048, .num_bits = 8
    };
}

static rq_status check_cfg(const rq_weights_cfg *c, rq_err *err)
{
    rq_amax_params p = rq_amax_defaults();
    p.percentile = c->percentile;
    if (c->method != RQ_AMAX_MAX && c->method != RQ_AMAX_PERCENTILE && c->method != RQ_AMAX_MSE)
        return rq_fail(err, RQ_BAD_ARG, "Unsupported calibration method %s, expected max, percentile or mse",
                       rq_amax_method_name(c->method));
    if (c->compat && c->method == RQ_AMAX_MAX && !c->per_channel)
        return rq_fail(err, RQ_BAD_ARG, "the original has no max per tensor (compat)");
    if (c->num_bins < 2 || c->num_bins > 65536)
        return rq_fail(err, RQ_BAD_ARG, "%d bins, expected 2..65536", c->num_bins);
    const int least = c->is_unsigned ? 1 : 2;
    if (c->method == RQ_AMAX_MSE && (c->num_bits < least || c->num_bits > 16))
        return rq_fail(err, RQ_BAD_ARG, "%d bits, expected %d..16 for %s codes", c->num_bits, least,
                       c->is_unsigned ? "unsigned" : "signed");
    return rq_calibrator_check(c->method, &p, c->num_bins, err);
}

struct job {
    const rq_runs *r;
    const rq_weights_cfg *cfg;
    int bins;
    rq_kernels k;
    rq_exec *e; /* for one channel that is all of it; NULL: channels share the threads */
    const rq_extremes *seen;
    float *amax; /* NaN: out of memory */
};

static void calibrate_channel(void *arg, int64_t i)
{
    const struct job *j = arg;
    const rq_extremes *x = &j->seen[i];
    const float top = x->lo <= x->hi ? fmaxf(fabsf(x->lo), fabsf(x->hi)) : 0;
    rq_amax_params p = rq_amax_defaults();
    p.percentile = j->cfg->percentile;
    j->amax[i] = top;
    if (j->cfg->method == RQ_AMAX_MAX || top == 0)
        return;
    j->amax[i] = NAN;
    rq_histogram h;
    if (rq_histogram_init(&h, j->bins, true))
        return;
    const rq_strided v = rq_runs_channel(j->r, i);
    rq_runs channel;
    if (!rq_runs_init(&channel, &v, NULL, 0, NULL) && !rq_histogram_reach(&h, x->lo, x->hi)) {
        rq_calibrator_count(&h, &channel, j->e, &j->k, x, false);
        rq_histogram_commit(&h, x->lo, x->hi, x->finite, x->nan + x->above + x->below);
        if (rq_calibrator_search(&h, j->cfg->method, &p, j->cfg->num_bits, j->cfg->is_unsigned, false, false, top,
                                 &j->amax[i], NULL))
            j->amax[i] = NAN;
    }
    rq_histogram_release(&h);
}

rq_status rq_calibrate_weights(rq_tensor *amax, rq_exec *e, const rq_strided *w, int axis, const rq_weights_cfg *cfg,
                               uint64_t *bad, rq_err *err)
{
    rq_runs r;
    rq_extremes *seen = NULL;
    rq_tensor t = { 0 };
    RQ_TRY(check_cfg(cfg, err));
    RQ_TRY(rq_strided_check(w, "the weight", true, err));
    RQ_TRY(rq_runs_init(&r, w, &axis, cfg->per_channel, err));
    if (r.channels * r.rest == 0)
        return rq_fail(err, RQ_BAD_SHAPE, "the weight is empty");
    const rq_shape scalar = { 0 };
    struct job j = { .r = &r, .cfg = cfg, .k = rq_exec_kernels(e) };
    j.bins = cfg->compat && !cfg->per_channel ? COMPAT_BINS : cfg->num_bins;
    j.e = r.channels == 1 ? e : NULL;
    rq_status st = RQ_NO_MEMORY;
    seen = rq_mem_alloc((size_t)r.channels, sizeof *seen);
    if (!seen || rq_tensor_create(&t, RQ_DTYPE_F32, cfg->per_channel ? &r.keep : &scalar, false) ||
        rq_runs_extremes(&r, e, false, seen))
        goto done;
    j.seen = seen;
    j.amax = t.f32;
    rq_threads_for(j.e ? NULL : rq_exec_pool(e), r.channels, calibrate_channel, &j);
    uint64_t n = 0;
    st = RQ_OK;
    for (int64_t i = 0; i < r.channels; i++) {
        n += seen[i].nan + seen[i].above + seen[i].below;
        if (isnan(t.f32[i]))
            st = RQ_NO_MEMORY;
    }
    if (!st && bad)
        *bad = n;
done:
    rq_mem_free(seen);
    if (st) {
        rq_tensor_release(&t);
        return rq_fail(err, st, "no memory to calibrate %lld channels", (long long)r.channels);
    }
    *amax = t;
    return RQ_OK;
}
