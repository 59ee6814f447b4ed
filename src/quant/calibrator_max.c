/* quant/calibrator_max.c — MaxCalibrator: the running maximum of |x|, docs/calibration-facts.md 4.1. */
#include "quant/calibrator.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"

static rq_status max_init(rq_calibrator *c, rq_err *err)
{
    (void)c;
    (void)err;
    return RQ_OK;
}

/* Of one cell; what is not finite counts only by compat. A cell without a finite element has none: 0. */
static float magnitude(const rq_extremes *x, bool compat)
{
    if (compat && x->nan)
        return NAN;
    if (compat && (x->above || x->below))
        return INFINITY;
    return x->lo <= x->hi ? fmaxf(fabsf(x->lo), fabsf(x->hi)) : 0;
}

static rq_status max_collect(rq_calibrator *c, rq_exec *e, const rq_runs *r, const rq_extremes *x, rq_err *err)
{
    (void)e, (void)r;
    if (!c->amax) {
        c->amax = rq_mem_zalloc((size_t)c->cells, sizeof *c->amax);
        if (!c->amax)
            return rq_fail(err, RQ_NO_MEMORY, "no memory for %lld amaxs", (long long)c->cells);
    }
    if (c->cfg.track_amax) {
        rq_tensor t;
        if (!rq_mem_grow(&c->list, c->n_list, &c->cap_list, sizeof *c->list) ||
            rq_tensor_create(&t, RQ_DTYPE_F32, &c->keep, false)) {
            if (c->info.batches == 0) {
                rq_mem_free(c->amax);
                c->amax = NULL;
            }
            return rq_fail(err, RQ_NO_MEMORY, "no memory to track %lld amaxs", (long long)c->cells);
        }
        for (int64_t i = 0; i < c->cells; i++)
            t.f32[i] = magnitude(&x[i], c->cfg.compat);
        c->list[c->n_list++] = t;
    }
    for (int64_t i = 0; i < c->cells; i++) {
        const float m = magnitude(&x[i], c->cfg.compat);
        c->amax[i] = isnan(m) || m > c->amax[i] ? m : c->amax[i];
    }
    return RQ_OK;
}

static rq_status max_amax(rq_calibrator *c, rq_amax_method m, const rq_amax_params *p, float *out, rq_err *err)
{
    (void)p;
    if (m != RQ_AMAX_MAX)
        return rq_calibrator_unknown(c, m, err);
    memcpy(out, c->amax, (size_t)c->cells * sizeof *out);
    return RQ_OK;
}

static rq_status max_reset(rq_calibrator *c)
{
    rq_mem_free(c->amax);
    c->amax = NULL;
    return RQ_OK;
}

int rq_calibrator_n_tracked(const rq_calibrator *c)
{
    return c->n_list;
}

const rq_tensor *rq_calibrator_tracked(const rq_calibrator *c, int i)
{
    return i >= 0 && i < c->n_list ? &c->list[i] : NULL;
}

static rq_status max_save(const rq_calibrator *c, rq_state *s, const char *prefix)
{
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &c->keep, c->amax);
    RQ_TRY(rq_state_set(s, prefix, "_calib_amax", &t));
    for (int i = 0; i < c->n_list; i++) {
        char name[32];
        rq_number_print(name, sizeof name, "_amaxs.%d", i);
        RQ_TRY(rq_state_set(s, prefix, name, &c->list[i]));
    }
    return RQ_OK;
}

static rq_status load_amax(rq_tensor *out, const rq_calibrator *c, const rq_state *s, const char *prefix,
                           const char *name, rq_err *err)
{
    const rq_tensor *t;
    RQ_TRY(rq_state_get(s, prefix, name, RQ_DTYPE_F32, -1, &t, err));
    const int64_t n = rq_tensor_count(t);
    char text[RQ_SHAPE_TEXT];
    if (n < 1 || (n == 1 && t->shape.rank > 0) || (n > 1 && !c->cfg.n_axes))
        return rq_fail(err, RQ_BAD_SHAPE, "%s has the shape %s, expected %s", name,
                       rq_shape_text(&t->shape, text, sizeof text),
                       c->cfg.n_axes ? "the kept sizes, or no axes" : "no axes");
    for (int64_t i = 0; i < n; i++)
        if (t->f32[i] < 0 || (!c->cfg.compat && !(t->f32[i] < INFINITY)))
            return rq_fail(err, RQ_BAD_DATA, "%s[%lld] is no magnitude", name, (long long)i);
    if (rq_tensor_copy(out, t))
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %s", name);
    return RQ_OK;
}

static rq_status max_load(rq_calibrator *c, const rq_state *s, const char *prefix, rq_err *err)
{
    rq_tensor t;
    RQ_TRY(load_amax(&t, c, s, prefix, "_calib_amax", err));
    c->keep = t.shape;
    c->cells = rq_tensor_count(&t);
    c->amax = rq_mem_alloc((size_t)c->cells, sizeof *c->amax);
    if (c->amax)
        memcpy(c->amax, t.f32, (size_t)c->cells * sizeof *c->amax);
    rq_tensor_release(&t);
    if (!c->amax)
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %lld amaxs", (long long)c->cells);
    for (uint64_t i = 0; c->cfg.track_amax && i < c->info.batches; i++) {
        char name[32];
        rq_number_print(name, sizeof name, "_amaxs.%d", (int)i);
        if (!rq_mem_grow(&c->list, c->n_list, &c->cap_list, sizeof *c->list))
            return rq_fail(err, RQ_NO_MEMORY, "no memory for the tracked amaxs");
        RQ_TRY(load_amax(&t, c, s, prefix, name, err));
        c->list[c->n_list++] = t;
        if (!rq_shape_equal(&t.shape, &c->keep))
            return rq_fail(err, RQ_BAD_SHAPE, "%s is of another shape than _calib_amax", name);
    }
    return RQ_OK;
}

static void max_text(const rq_calibrator *c, char *buf, size_t n)
{
    rq_number_print(buf, n, "MaxCalibrator(track_amax=%s)", c->cfg.track_amax ? "True" : "False");
}

const rq_calibrator_row rq_calibrator_max = {
    .name = "MaxCalibrator",
    .init = max_init,
    .looks = true,
    .collect = max_collect,
    .amax = max_amax,
    .reset = max_reset,
    .save = max_save,
    .load = max_load,
    .text = max_text,
};
