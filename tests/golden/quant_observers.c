/* quant_observers.c — observers that look at extremes, fixed parameters, and ChooseQuantizationParams. Batches go by one after another; after the
 * third the observer is saved and a new one, which loads the state, goes on. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

static bool scheme_of(const char *text, rq_qscheme *out)
{
    static const struct {
        const char *text;
        rq_qscheme scheme;
    } all[] = {
        { "pt_aff", RQ_QSCHEME_PER_TENSOR_AFFINE },           { "pt_sym", RQ_QSCHEME_PER_TENSOR_SYMMETRIC },
        { "pc_aff", RQ_QSCHEME_PER_CHANNEL_AFFINE },          { "pc_sym", RQ_QSCHEME_PER_CHANNEL_SYMMETRIC },
        { "pc_float", RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS },
    };
    for (size_t i = 0; text && i < sizeof all / sizeof all[0]; i++)
        if (!strcmp(all[i].text, text)) {
            *out = all[i].scheme;
            return true;
        }
    return text && !rq_qscheme_parse(out, text, NULL);
}

bool golden_observer_cfg(golden_case *c, rq_observer_kind kind, rq_observer_cfg *out)
{
    rq_err err = { 0 };
    rq_observer_cfg cfg = rq_observer_defaults(kind);
    const json_t *range = json_object_get(json_object_get(c->json, "params"), "custom_range");
    const char *scheme = golden_param_str(c, "qscheme");
    cfg.compat = true;
    if (rq_qtype_parse(&cfg.type, golden_param_str(c, "dtype"), &err)) {
        golden_fail(c, "%s", err.text);
        return false;
    }
    if (json_is_array(range)) {
        cfg.custom_range = true;
        if (rq_qtype_range(&cfg.type, cfg.type.dtype, json_integer_value(json_array_get(range, 0)),
                           json_integer_value(json_array_get(range, 1)), &err)) {
            golden_fail(c, "%s", err.text);
            return false;
        }
    }
    if (scheme && !scheme_of(scheme, &cfg.scheme)) {
        golden_fail(c, "no scheme is called %s", scheme);
        return false;
    }
    cfg.reduce_range = golden_param_bool(c, "reduce_range", false);
    cfg.axis = rq_qscheme_is_per_channel(cfg.scheme) ? (int)golden_param_int(c, "axis", 0) : RQ_PER_TENSOR;
    cfg.eps = (float)golden_param_number(c, "eps", (double)cfg.eps);
    cfg.averaging_constant = golden_param_number(c, "averaging_constant", cfg.averaging_constant);
    cfg.ema_ratio = golden_param_number(c, "ema_ratio", cfg.ema_ratio);
    cfg.bins = (int)golden_param_int(c, "bins", cfg.bins);
    cfg.upsample_rate = (int)golden_param_int(c, "upsample_rate", cfg.upsample_rate);
    cfg.scale = (float)golden_param_number(c, "scale", 1);
    cfg.zero_point = (int32_t)golden_param_int(c, "zero_point", 0);
    *out = cfg;
    return true;
}

/* The codes that the peer used. */
static void check_codes(golden_case *c, const rq_observer *o)
{
    const rq_qtype t = rq_observer_type(o);
    if (golden_param_has(c, "qmin") &&
        (t.lo != golden_param_int(c, "qmin", 0) || t.hi != golden_param_int(c, "qmax", 0)))
        golden_fail(c, "codes %d..%d instead of %lld..%lld", t.lo, t.hi, (long long)golden_param_int(c, "qmin", 0),
                    (long long)golden_param_int(c, "qmax", 0));
}

void golden_check_qparams(golden_case *c, const rq_observer *o)
{
    rq_err err = { 0 };
    rq_qparams q;
    const int channels = rq_observer_channels(o);
    const bool real = rq_observer_cfg_of(o)->scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS;
    float *zero = calloc((size_t)channels + 1, sizeof *zero);
    if (!zero || rq_observer_qparams(o, &q, zero, &err)) {
        golden_fail(c, "parameters: %s", err.text);
        free(zero);
        return;
    }
    golden_check_floats(c, "scale", q.scale, q.n);
    if (real)
        golden_check_floats(c, "zero_point", zero, q.n);
    else
        golden_check_ints(c, "zero_point", q.zero_point, q.n);
    rq_qparams_release(&q);
    free(zero);
}

/* A new observer of the same kind with the state of *o takes its place. */
static bool reload(golden_case *c, rq_observer **o)
{
    rq_err err = { 0 };
    rq_state *s = NULL;
    rq_observer *fresh = NULL;
    const bool ok = !rq_state_create(&s) && !rq_observer_save(*o, s, "activation_post_process.") &&
                    !rq_observer_create(&fresh, rq_observer_cfg_of(*o), &err) &&
                    !rq_observer_load(fresh, s, "activation_post_process.", &err);
    if (!ok)
        golden_fail(c, "save and load: %s", err.text);
    rq_state_destroy(s);
    rq_observer_destroy(ok ? *o : fresh);
    if (ok)
        *o = fresh;
    return ok;
}

/* Let the case's batches go by, and compare min_max after each. */
static bool watch(golden_case *c, rq_observer **o)
{
    rq_err err = { 0 };
    rq_exec *e = NULL;
    float *min_max = NULL;
    rq_range *range = NULL;
    int n = 0, channels = 0;
    bool ok = !rq_exec_create(&e, 2, &err);
    for (char name[16] = "x0"; ok && json_object_get(json_object_get(c->json, "inputs"), name);
         snprintf(name, sizeof name, "x%d", ++n)) {
        rq_tensor x;
        if (!(ok = golden_in(c, &x, name)))
            break;
        const rq_strided v = rq_strided_of(&x);
        ok = !rq_observer_update(*o, e, &v, &err) && (n != 2 || reload(c, o));
        rq_tensor_release(&x);
        if (!ok || !golden_has(c, "min_max"))
            continue;
        channels = rq_observer_channels(*o);
        min_max = realloc(min_max, (size_t)(n + 1) * 2 * (size_t)channels * sizeof *min_max);
        range = realloc(range, (size_t)channels * sizeof *range);
        ok = min_max && range && !rq_observer_range(*o, range, channels);
        for (int i = 0; ok && i < channels; i++) {
            min_max[n * 2 * channels + i] = (float)range[i].lo;
            min_max[(n * 2 + 1) * channels + i] = (float)range[i].hi;
        }
    }
    if (!ok)
        golden_fail(c, "batch %d: %s", n, err.text);
    if (ok && min_max) {
        const rq_shape shape = rq_shape_of(3, (int64_t[]) { n, 2, channels });
        const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &shape, min_max);
        golden_check(c, "min_max", &t);
    }
    free(min_max);
    free(range);
    rq_exec_destroy(e);
    return ok;
}

static golden_verdict observe(golden_case *c, rq_observer_kind kind)
{
    rq_err err = { 0 };
    rq_observer_cfg cfg;
    rq_observer *o = NULL;
    if (!golden_observer_cfg(c, kind, &cfg))
        return GOLDEN_FAIL;
    if (rq_observer_create(&o, &cfg, &err)) {
        golden_fail(c, "%s", err.text);
        return GOLDEN_FAIL;
    }
    check_codes(c, o);
    if (watch(c, &o))
        golden_check_qparams(c, o);
    rq_observer_destroy(o);
    return GOLDEN_PASS;
}

golden_verdict golden_min_max_observer(golden_case *c)
{
    return observe(c, RQ_OBSERVER_MINMAX);
}

golden_verdict golden_moving_average_observer(golden_case *c)
{
    return observe(c, RQ_OBSERVER_MOVING_AVERAGE);
}

golden_verdict golden_ema_observer(golden_case *c)
{
    return observe(c, RQ_OBSERVER_EMA);
}

golden_verdict golden_fixed_observer(golden_case *c)
{
    return observe(c, RQ_OBSERVER_FIXED);
}

/* ---- ChooseQuantizationParams of many ranges ---- */

golden_verdict golden_choose_qparams(golden_case *c)
{
    rq_qtype type;
    rq_tensor ranges = { 0 };
    const char *engine = golden_param_str(c, "engine");
    if (rq_qtype_parse(&type, golden_param_str(c, "dtype"), NULL) || !golden_in(c, &ranges, "min_max"))
        return GOLDEN_FAIL;
    rq_qparams_rule rule = rq_qparams_rule_of(RQ_QPARAMS_CQP, type, RQ_QSCHEME_PER_TENSOR_AFFINE);
    rule.compat = true;
    /* the operator forgets reduce_range under qnnpack (torch-facts 1.2) */
    rule.reduce_range = golden_param_bool(c, "reduce_range", false) && !(engine && !strcmp(engine, "qnnpack"));
    const int64_t n = rq_tensor_count(&ranges) / 2;
    float *scale = calloc((size_t)n, sizeof *scale);
    int32_t *zero = calloc((size_t)n, sizeof *zero);
    for (int64_t i = 0; scale && zero && i < n; i++)
        if (rq_qparams_choose(ranges.f32[2 * i], ranges.f32[2 * i + 1], &rule, &scale[i], &zero[i], NULL))
            golden_fail(c, "range %lld has no parameters", (long long)i);
    golden_check_floats(c, "scale", scale, n);
    golden_check_ints(c, "zero_point", zero, n);
    free(scale);
    free(zero);
    rq_tensor_release(&ranges);
    return GOLDEN_PASS;
}
