/* quant_fake_quantizer.c — modules that observe and quantize: PyTorch's FakeQuantize and its fused form over batches, with the observer
 * switched off on the way, and Core ML Tools' learnable one over steps of training. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

enum { MAX_STEPS = 64 };

static rq_status type_of(const golden_case *c, rq_qtype *t, rq_err *err)
{
    const char *dtype = golden_param_str(c, "dtype");
    rq_qtype whole;
    rq_status s = rq_qtype_parse(&whole, dtype ? dtype : "quint8", err);
    if (s)
        return s;
    return rq_qtype_range(t, whole.dtype, golden_param_int(c, "qmin", whole.lo), golden_param_int(c, "qmax", whole.hi),
                          err);
}

/* "pt_sym", "pc_aff" ..., or PyTorch's own names. */
static rq_status scheme_of(const char *text, rq_qscheme *out, rq_err *err)
{
    static const struct {
        const char *name;
        rq_qscheme scheme;
    } names[] = {
        { "pt_aff", RQ_QSCHEME_PER_TENSOR_AFFINE },           { "pt_sym", RQ_QSCHEME_PER_TENSOR_SYMMETRIC },
        { "pc_aff", RQ_QSCHEME_PER_CHANNEL_AFFINE },          { "pc_sym", RQ_QSCHEME_PER_CHANNEL_SYMMETRIC },
        { "pc_float", RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS },
    };
    for (size_t i = 0; text && i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(names[i].name, text)) {
            *out = names[i].scheme;
            return RQ_OK;
        }
    return rq_qscheme_parse(out, text ? text : "?", err);
}

static bool has_input(const golden_case *c, const char *what)
{
    return json_object_get(json_object_get(c->json, "inputs"), what);
}

static bool holds(const golden_case *c, const char *list, int64_t step)
{
    const json_t *all = json_object_get(json_object_get(c->json, "params"), list), *one;
    size_t i;
    json_array_foreach((json_t *)all, i, one) if (json_integer_value(one) == step) return true;
    return false;
}

/* Rows of numbers, one per batch, as a tensor [rows][...]. */
typedef struct table {
    double *v;
    int64_t n;
} table;

static void table_add(table *t, double v)
{
    t->v = realloc(t->v, (size_t)(t->n + 1) * sizeof *t->v);
    t->v[t->n++] = v;
}

static void table_check(golden_case *c, const char *what, table *t, rq_dtype d, int rank, const int64_t *dim)
{
    rq_tensor got;
    const rq_shape s = rq_shape_of(rank, dim);
    if (!golden_has(c, what) || c->failed)
        return;
    if (rq_shape_count(&s) != t->n || rq_tensor_create(&got, d, &s, false)) {
        golden_fail(c, "%s: %lld numbers were collected", what, (long long)t->n);
        return;
    }
    for (int64_t i = 0; i < t->n; i++)
        rq_tensor_set(&got, i, t->v[i]);
    golden_check(c, what, &got);
    rq_tensor_release(&got);
}

static golden_verdict modules(golden_case *c, rq_fake_quantizer_kind kind)
{
    rq_err err = { 0 };
    rq_fake_quantizer *q = NULL;
    rq_fake_quantizer_cfg cfg = rq_fake_quantizer_defaults(kind);
    table scale = { 0 }, zero = { 0 }, range = { 0 };
    rq_range *seen = NULL;
    rq_qparams out = { 0 };
    int64_t batches = 0;
    int n = 0;
    const char *observer = golden_param_str(c, "observer");
    rq_status s = type_of(c, &cfg.observer.type, &err);
    if (!s)
        s = scheme_of(golden_param_str(c, "qscheme"), &cfg.observer.scheme, &err);
    if (!s && observer)
        s = rq_observer_kind_parse(&cfg.observer.kind, observer, &err);
    cfg.compat = true;
    cfg.observer.custom_range = golden_param_has(c, "qmin") && golden_param_has(c, "qmax");
    /* reduce_range says why qmin..qmax is what it is: the range there is the one in use */
    cfg.observer.averaging_constant = golden_param_number(c, "averaging_constant", cfg.observer.averaging_constant);
    cfg.observer.eps = (float)golden_param_number(c, "eps", cfg.observer.eps);
    if (rq_qscheme_is_per_channel(cfg.observer.scheme))
        cfg.observer.axis = (int)golden_param_int(c, "axis", 0);
    if (!s)
        s = rq_fake_quantizer_create(&q, &cfg, &err);
    for (; !s && batches < MAX_STEPS; batches++) {
        char name[32];
        rq_tensor x = { 0 }, y = { 0 };
        snprintf(name, sizeof name, "x%d", (int)batches);
        if (!has_input(c, name))
            break;
        if (!golden_in(c, &x, name))
            goto done;
        if (batches == golden_param_int(c, "observer_off_from", -1))
            rq_fake_quantizer_enable_observer(q, false);
        if (batches == golden_param_int(c, "fake_quant_off_from", -1))
            rq_fake_quantizer_enable_fake_quant(q, false);
        s = rq_tensor_create(&y, x.dtype, &x.shape, true);
        const rq_strided vx = rq_strided_of(&x), vy = rq_strided_of(&y);
        if (!s)
            s = rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err);
        snprintf(name, sizeof name, "y%d", (int)batches);
        if (!s && golden_has(c, name))
            golden_check(c, name, &y);
        rq_tensor_release(&x);
        rq_tensor_release(&y);
        n = rq_fake_quantizer_channels(q);
        seen = realloc(seen, (size_t)n * sizeof *seen);
        if (!s)
            s = rq_observer_range(rq_fake_quantizer_observer(q), seen, n);
        for (int i = 0; !s && i < n; i++) {
            table_add(&scale, rq_fake_quantizer_scale(q)[i]);
            table_add(&zero, rq_fake_quantizer_zero_point(q)[i]);
        }
        for (int i = 0; !s && i < 2 * n; i++)
            table_add(&range, i < n ? seen[i].lo : seen[i - n].hi);
    }
    if (!s && golden_has(c, "convert_scale")) {
        s = rq_fake_quantizer_qparams(q, &out, NULL, &err);
        if (!s) {
            golden_check_floats(c, "convert_scale", out.scale, out.n);
            golden_check_ints(c, "convert_zero_point", out.zero_point, out.n);
        }
    }
    if (s) {
        golden_fail(c, "batch %d: %s: %s", (int)batches, rq_status_text(s), err.text);
        goto done;
    }
    table_check(c, "scale", &scale, RQ_DTYPE_F32, 2, (const int64_t[]) { batches, n });
    table_check(c, "zero_point", &zero, RQ_DTYPE_S32, 2, (const int64_t[]) { batches, n });
    table_check(c, "min_max", &range, RQ_DTYPE_F32, 3, (const int64_t[]) { batches, 2, n });
done:
    rq_qparams_release(&out);
    rq_fake_quantizer_destroy(q);
    free(seen);
    free(scale.v);
    free(zero.v);
    free(range.v);
    return c->failed ? GOLDEN_FAIL : GOLDEN_PASS;
}

golden_verdict golden_fake_quantize_module(golden_case *c)
{
    return modules(c, RQ_FAKE_QUANTIZER_STANDARD);
}

golden_verdict golden_fused_fake_quantize(golden_case *c)
{
    return modules(c, RQ_FAKE_QUANTIZER_FUSED);
}

/* ---- Core ML Tools ---- */

static void check_named(golden_case *c, const char *what, int64_t step, const float *v, int n)
{
    char name[32];
    snprintf(name, sizeof name, "%s%d", what, (int)step);
    if (golden_has(c, name))
        golden_check_floats(c, name, v, n);
}

/* One forward, one backward, one step of plain gradient descent. */
static rq_status step(golden_case *c, rq_fake_quantizer *q, int64_t i, const rq_tensor *x, const rq_tensor *dy,
                      rq_err *err)
{
    rq_tensor y = { 0 }, dx = { 0 };
    char name[32];
    rq_fake_quantizer_zero_grad(q);
    rq_status s = rq_tensor_create(&y, RQ_DTYPE_F32, &x->shape, true);
    if (!s)
        s = rq_tensor_create(&dx, RQ_DTYPE_F32, &x->shape, true);
    const rq_strided vx = rq_strided_of(x), vdy = rq_strided_of(dy), vy = rq_strided_of(&y), vdx = rq_strided_of(&dx);
    if (!s)
        s = rq_fake_quantizer_forward(q, NULL, &vy, &vx, err);
    const int n = rq_fake_quantizer_channels(q);
    if (!s) {
        check_named(c, "scale", i, rq_fake_quantizer_scale(q), n);
        check_named(c, "zero_point", i, rq_fake_quantizer_zero_point(q), n);
        s = rq_fake_quantizer_backward(q, NULL, &vdx, &vdy, &vx, err);
    }
    if (!s) {
        snprintf(name, sizeof name, "y%d", (int)i);
        golden_check(c, name, &y);
        snprintf(name, sizeof name, "dx%d", (int)i);
        golden_check(c, name, &dx);
        check_named(c, "dscale", i, rq_fake_quantizer_dscale(q), n);
        check_named(c, "dzero_point", i, rq_fake_quantizer_dzero_point(q), n);
    }
    for (int k = 0; !s && k < n && holds(c, "update_after_steps", i); k++) {
        rq_fake_quantizer_scale(q)[k] -= (float)golden_param_number(c, "lr_scale", 0) * rq_fake_quantizer_dscale(q)[k];
        if (rq_fake_quantizer_trains_zero_point(q))
            rq_fake_quantizer_zero_point(q)[k] -=
                (float)golden_param_number(c, "lr_zero_point", 0) * rq_fake_quantizer_dzero_point(q)[k];
    }
    rq_tensor_release(&y);
    rq_tensor_release(&dx);
    return s;
}

golden_verdict golden_core_ml_learnable(golden_case *c)
{
    rq_err err = { 0 };
    rq_fake_quantizer *q = NULL;
    rq_qparams out = { 0 };
    rq_fake_quantizer_cfg cfg = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_LEARNABLE);
    const bool channels = golden_param_bool(c, "per_channel", false);
    const char *scheme = golden_param_str(c, "scheme"), *observer = golden_param_str(c, "observer");
    const bool symmetric = scheme && !strcmp(scheme, "symmetric");
    cfg.rule = RQ_LEARNED_LSQ;
    cfg.compat = true;
    cfg.observer.scheme = channels ? (symmetric ? RQ_QSCHEME_PER_CHANNEL_SYMMETRIC : RQ_QSCHEME_PER_CHANNEL_AFFINE)
                                   : (symmetric ? RQ_QSCHEME_PER_TENSOR_SYMMETRIC : RQ_QSCHEME_PER_TENSOR_AFFINE);
    cfg.observer.axis = channels ? (int)golden_param_int(c, "axis", 0) : RQ_PER_TENSOR;
    cfg.observer.custom_range = golden_param_int(c, "bits", 8) < 8;
    rq_status s = type_of(c, &cfg.observer.type, &err);
    if (!s)
        s = rq_observer_kind_parse(&cfg.observer.kind, observer ? observer : "ema_min_max", &err);
    if (!s)
        s = rq_fake_quantizer_create(&q, &cfg, &err);
    if (!s && golden_param_has(c, "zero_point_trainable") &&
        golden_param_bool(c, "zero_point_trainable", false) != rq_fake_quantizer_trains_zero_point(q))
        golden_fail(c, "zero points are trained here and not there, or the other way round");
    const int64_t steps = golden_param_int(c, "steps", 1);
    for (int64_t i = 0; !s && i < steps; i++) {
        rq_tensor x = { 0 }, dy = { 0 };
        char x_name[32], dy_name[32];
        snprintf(x_name, sizeof x_name, "x%d", (int)i);
        snprintf(dy_name, sizeof dy_name, "dy%d", (int)i);
        rq_fake_quantizer_enable_observer(q, holds(c, "observer_on_at_steps", i));
        const bool there = golden_in(c, &x, x_name) && golden_in(c, &dy, dy_name);
        if (there)
            s = step(c, q, i, &x, &dy, &err);
        rq_tensor_release(&x);
        rq_tensor_release(&dy);
        if (!there)
            goto done;
    }
    if (!s)
        s = rq_fake_quantizer_qparams(q, &out, NULL, &err);
    if (s) {
        golden_fail(c, "%s: %s", rq_status_text(s), err.text);
    } else {
        golden_check_floats(c, "final_scale", out.scale, out.n);
        golden_check_ints(c, "final_zero_point", out.zero_point, out.n);
    }
done:
    rq_qparams_release(&out);
    rq_fake_quantizer_destroy(q);
    return c->failed ? GOLDEN_FAIL : GOLDEN_PASS;
}
