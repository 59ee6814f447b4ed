/* quant_histogram_observer.c — PyTorch's HistogramObserver: extremes after each batch, the final histogram, the range that the search chose,
 * scale and zero point. With one thread and with two. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

static bool cfg_of(golden_case *c, rq_observer_cfg *cfg)
{
    rq_err err = { 0 };
    const char *scheme = golden_param_str(c, "qscheme");
    *cfg = rq_observer_defaults(RQ_OBSERVER_HISTOGRAM);
    cfg->compat = true;
    cfg->bins = (int)golden_param_int(c, "bins", cfg->bins);
    cfg->upsample_rate = (int)golden_param_int(c, "upsample_rate", cfg->upsample_rate);
    cfg->eps = (float)golden_param_number(c, "eps", (double)cfg->eps);
    cfg->reduce_range = golden_param_bool(c, "reduce_range", false);
    cfg->scheme = scheme && strstr(scheme, "sym") ? RQ_QSCHEME_PER_TENSOR_SYMMETRIC : RQ_QSCHEME_PER_TENSOR_AFFINE;
    if (rq_qtype_parse(&cfg->type, golden_param_str(c, "dtype"), &err)) {
        golden_fail(c, "%s", err.text);
        return false;
    }
    /* qmin and qmax say what became of it; asked for were they only where they are not the type's own */
    rq_qtype own = cfg->reduce_range ? rq_qtype_reduced(&cfg->type) : cfg->type;
    const int64_t lo = golden_param_int(c, "qmin", own.lo), hi = golden_param_int(c, "qmax", own.hi);
    if (lo == own.lo && hi == own.hi)
        return true;
    cfg->custom_range = true;
    cfg->reduce_range = false;
    if (!rq_qtype_range(&cfg->type, cfg->type.dtype, lo, hi, &err))
        return true;
    golden_fail(c, "%s", err.text);
    return false;
}

/* One number of a state, or the histogram. */
static const rq_tensor *state_of(golden_case *c, const rq_state *s, const char *name)
{
    const rq_tensor *t = rq_state_find(s, name);
    if (!t || t->dtype != RQ_DTYPE_F32)
        golden_fail(c, "the state has no %s", name);
    return t && t->dtype == RQ_DTYPE_F32 ? t : NULL;
}

static bool look(golden_case *c, rq_observer *o, rq_state *s, rq_exec *e, float *min_max, int n)
{
    rq_err err = { 0 };
    for (int i = 0; i < n; i++) {
        char name[16];
        rq_tensor x = { 0 };
        snprintf(name, sizeof name, "x%d", i);
        if (!golden_in(c, &x, name))
            return false;
        const rq_strided v = rq_strided_of(&x);
        const rq_status st = rq_observer_update(o, e, &v, &err);
        rq_tensor_release(&x);
        if (st || (st == RQ_OK && rq_observer_save(o, s, NULL))) {
            golden_fail(c, "batch %d: %s", i, err.text);
            return false;
        }
        const rq_tensor *lo = state_of(c, s, "min_val"), *hi = state_of(c, s, "max_val");
        if (!lo || !hi)
            return false;
        min_max[2 * i] = lo->f32[0];
        min_max[2 * i + 1] = hi->f32[0];
    }
    return true;
}

static void run(golden_case *c, const rq_observer_cfg *cfg, int threads, float *min_max, int n)
{
    rq_err err = { 0 };
    rq_observer *o = NULL;
    rq_exec *e = NULL;
    rq_state *s = NULL;
    rq_qparams q = { 0 };
    rq_range r;
    if (rq_exec_create(&e, threads, &err) || rq_observer_create(&o, cfg, &err) || rq_state_create(&s)) {
        golden_fail(c, "%s", err.text);
        goto done;
    }
    if (!look(c, o, s, e, min_max, n))
        goto done;
    const rq_tensor *h = state_of(c, s, "histogram");
    if (!h || rq_observer_range(o, &r, 1) || rq_observer_qparams(o, &q, NULL, &err)) {
        golden_fail(c, "%s", err.text);
        goto done;
    }
    const float lo = (float)r.lo, hi = (float)r.hi;
    const rq_shape by_batch = rq_shape_of(2, (const int64_t[]) { n, 2 });
    const rq_tensor extremes = rq_tensor_view(RQ_DTYPE_F32, &by_batch, min_max);
    golden_check(c, "min_max", &extremes);
    golden_check(c, "hist", h);
    golden_check_floats(c, "new_min", &lo, 1);
    golden_check_floats(c, "new_max", &hi, 1);
    golden_check_floats(c, "scale", q.scale, q.n);
    golden_check_ints(c, "zero_point", q.zero_point, q.n);
done:
    rq_qparams_release(&q);
    rq_state_destroy(s);
    rq_observer_destroy(o);
    rq_exec_destroy(e);
}

golden_verdict golden_histogram_observer(golden_case *c)
{
    const int n = (int)json_object_size(json_object_get(c->json, "inputs"));
    rq_observer_cfg cfg;
    float *min_max = calloc((size_t)n + 1, 2 * sizeof *min_max);
    if (cfg_of(c, &cfg))
        for (int threads = 1; threads <= 2; threads++)
            run(c, &cfg, threads, min_max, n);
    free(min_max);
    return GOLDEN_PASS;
}
