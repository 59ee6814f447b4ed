/* quant_tensor_quant.c — NVIDIA's functions and quantizer (docs/calibration-facts.md 6 and 8): fake_tensor_quant, scaled_e4m3, TensorQuantizer. The functions run with
 * outputs in their own memory on two threads, and in place on one. */
#include <requant/tensor_quantizer.h>

#include <stdio.h>
#include <string.h>

#include "golden.h"

typedef struct task {
    const rq_tensor *x, *dy, *amax; /* amax NULL: none */
    rq_tensor_quant_cfg cfg;
    bool e4m3;
    rq_scaled_e4m3_cfg fp8;
} task;

static rq_status forward(const task *t, rq_exec *e, const rq_strided *y, const rq_strided *x, const rq_strided *amax,
                         bool legacy, rq_err *err)
{
    if (t->e4m3)
        return rq_scaled_e4m3(e, y, x, amax, &t->fp8, err);
    return legacy ? rq_legacy_fake_tensor_quant(e, y, x, amax, &t->cfg, err)
                  : rq_fake_tensor_quant(e, y, x, amax, &t->cfg, err);
}

static rq_status backward(const task *t, rq_exec *e, const rq_strided *dx, const rq_strided *dy, const rq_strided *x,
                          const rq_strided *amax, rq_err *err)
{
    if (t->e4m3)
        return rq_scaled_e4m3_backward(e, dx, dy, x, amax, &t->fp8, err);
    return rq_tensor_quant_backward(e, dx, dy, x, amax, &t->cfg, err);
}

static void check(golden_case *c, const task *t)
{
    rq_err err = { 0 };
    rq_tensor y = { 0 }, dx = { 0 }, same = { 0 }, same_dx = { 0 };
    rq_exec *e = NULL;
    if (rq_tensor_create(&y, t->x->dtype, &t->x->shape, false) ||
        rq_tensor_create(&dx, t->x->dtype, &t->x->shape, false) || rq_tensor_copy(&same, t->x) ||
        rq_tensor_copy(&same_dx, t->dy) || rq_exec_create(&e, 2, &err)) {
        golden_fail(c, "out of memory");
        goto done;
    }
    const rq_strided sx = rq_strided_of(t->x), sy = rq_strided_of(&y), sdy = rq_strided_of(t->dy),
                     sdx = rq_strided_of(&dx), ssame = rq_strided_of(&same), ssame_dx = rq_strided_of(&same_dx);
    const rq_strided samax = t->amax ? rq_strided_of(t->amax) : sx, *amax = t->amax ? &samax : NULL;
    if (forward(t, e, &sy, &sx, amax, false, &err) || backward(t, e, &sdx, &sdy, &sx, amax, &err) ||
        backward(t, NULL, &ssame_dx, &ssame_dx, &sx, amax, &err) ||
        forward(t, NULL, &ssame, &ssame, amax, true, &err)) {
        golden_fail(c, "%s", err.text);
        goto done;
    }
    golden_check(c, "y", &y);
    golden_check(c, "y", &same);
    golden_check(c, "dx", &dx);
    golden_check(c, "dx", &same_dx);
done:
    rq_exec_destroy(e);
    rq_tensor_release(&y);
    rq_tensor_release(&dx);
    rq_tensor_release(&same);
    rq_tensor_release(&same_dx);
}

static golden_verdict run(golden_case *c, task *t, bool has_amax)
{
    rq_tensor x = { 0 }, dy = { 0 }, amax = { 0 };
    if (golden_in(c, &x, "x") && golden_in(c, &dy, "dy") && (!has_amax || golden_in(c, &amax, "amax"))) {
        t->x = &x;
        t->dy = &dy;
        t->amax = has_amax ? &amax : NULL;
        check(c, t);
    }
    rq_tensor_release(&x);
    rq_tensor_release(&dy);
    rq_tensor_release(&amax);
    return GOLDEN_PASS;
}

golden_verdict golden_fake_tensor_quant(golden_case *c)
{
    task t = { .cfg = rq_tensor_quant_defaults() };
    t.cfg.num_bits = (int)golden_param_int(c, "num_bits", 8);
    t.cfg.is_unsigned = golden_param_bool(c, "unsigned", false);
    t.cfg.narrow_range = golden_param_bool(c, "narrow_range", true);
    return run(c, &t, true);
}

golden_verdict golden_scaled_e4m3(golden_case *c)
{
    task t = { .e4m3 = true, .fp8 = rq_scaled_e4m3_defaults() };
    t.fp8.modelopt = true; /* the peer is ModelOpt */
    return run(c, &t, golden_param_bool(c, "amax_given", true));
}

/* ---- TensorQuantizer: x0 dynamically, x0..x2 into the calibrator, x3 with what was loaded ---- */

static bool create(golden_case *c, rq_tensor_quantizer **q)
{
    rq_err err = { 0 };
    rq_quant_desc d;
    rq_tensor_quantizer_cfg cfg = rq_tensor_quantizer_defaults();
    cfg.pass_through = true; /* the peer is ModelOpt */
    rq_quant_desc_init(&d);
    d.num_bits = (int)golden_param_int(c, "num_bits", 8);
    d.is_unsigned = golden_param_bool(c, "unsigned", false);
    d.narrow_range = golden_param_bool(c, "narrow_range", false);
    if (golden_param_has(c, "axis"))
        rq_quant_desc_set_axis(&d, (int)golden_param_int(c, "axis", 0));
    const char *method = golden_param_str(c, "calibrator");
    if (method && strcmp(method, "max"))
        golden_fail(c, "calibrator is %s, expected max", method);
    else if (rq_tensor_quantizer_create(q, &d, &cfg, &err))
        golden_fail(c, "%s", err.text);
    rq_quant_desc_release(&d);
    return *q;
}

static void run_forward(golden_case *c, rq_tensor_quantizer *q, rq_exec *e, const rq_tensor *x, const char *what)
{
    rq_err err = { 0 };
    rq_tensor y = { 0 };
    if (rq_tensor_create(&y, x->dtype, &x->shape, false)) {
        golden_fail(c, "out of memory");
        return;
    }
    const rq_strided sx = rq_strided_of(x), sy = rq_strided_of(&y);
    if (rq_tensor_quantizer_forward(q, e, &sy, &sx, &err))
        golden_fail(c, "%s", err.text);
    else if (what)
        golden_check(c, what, &y);
    rq_tensor_release(&y);
}

static void calibrate(golden_case *c, rq_tensor_quantizer *q, rq_exec *e)
{
    rq_err err = { 0 };
    rq_tensor_quantizer_enable_quant(q, false);
    rq_tensor_quantizer_enable_calib(q, true);
    for (int i = 0;; i++) {
        char in[16], out[16];
        rq_tensor x = { 0 }, amax = { 0 };
        snprintf(in, sizeof in, "x%d", i);
        snprintf(out, sizeof out, "amax%d", i);
        if (!golden_has(c, out) || !golden_in(c, &x, in))
            break;
        run_forward(c, q, e, &x, NULL);
        if (rq_calibrator_amax(rq_tensor_quantizer_calibrator(q), RQ_AMAX_MAX, NULL, &amax, &err))
            golden_fail(c, "%s", err.text);
        else
            golden_check(c, out, &amax);
        rq_tensor_release(&x);
        rq_tensor_release(&amax);
    }
    rq_tensor_quantizer_enable_quant(q, true);
    rq_tensor_quantizer_enable_calib(q, false);
    if (rq_tensor_quantizer_load_calib_amax(q, RQ_AMAX_MAX, NULL, true, &err))
        golden_fail(c, "%s", err.text);
    else
        golden_check(c, "amax", rq_tensor_quantizer_amax(q));
}

static void run_backward(golden_case *c, rq_tensor_quantizer *q, rq_exec *e, const rq_tensor *x, const rq_tensor *dy)
{
    rq_err err = { 0 };
    rq_tensor dx = { 0 };
    if (rq_tensor_create(&dx, x->dtype, &x->shape, false)) {
        golden_fail(c, "out of memory");
        return;
    }
    const rq_strided sx = rq_strided_of(x), sdy = rq_strided_of(dy), sdx = rq_strided_of(&dx);
    if (rq_tensor_quantizer_backward(q, e, &sdx, NULL, NULL, &sdy, &sx, &err))
        golden_fail(c, "%s", err.text);
    else
        golden_check(c, "dx", &dx);
    rq_tensor_release(&dx);
}

golden_verdict golden_tensor_quantizer(golden_case *c)
{
    rq_tensor first = { 0 }, last = { 0 }, dy = { 0 };
    rq_tensor_quantizer *q = NULL;
    rq_exec *e = NULL;
    rq_err err = { 0 };
    if (rq_exec_create(&e, 2, &err)) {
        golden_fail(c, "%s", err.text);
    } else if (create(c, &q) && golden_in(c, &first, "x0") && golden_in(c, &last, "x3") && golden_in(c, &dy, "dy")) {
        run_forward(c, q, e, &first, "y_dynamic");
        calibrate(c, q, e);
        run_forward(c, q, e, &last, "y");
        run_backward(c, q, e, &last, &dy);
    }
    rq_tensor_quantizer_destroy(q);
    rq_exec_destroy(e);
    rq_tensor_release(&first);
    rq_tensor_release(&last);
    rq_tensor_release(&dy);
    return GOLDEN_PASS;
}
