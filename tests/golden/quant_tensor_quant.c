/* quant_tensor_quant.c — NVIDIA's functions and quantizer (docs/calibration-facts.md 6 and 8): fake_tensor_quant, scaled_e4m3. Each runs with
 * outputs in their own memory on two threads, and in place on one. */
#include <requant/tensor_quant.h>

#include <string.h>

#include "golden.h"

typedef struct task {
    const rq_tensor *x, *dy, *amax; /* amax NULL: none */
    rq_tensor_quant_cfg cfg;
    bool e4m3;
} task;

static rq_status forward(const task *t, rq_exec *e, const rq_strided *y, const rq_strided *x, const rq_strided *amax,
                         bool legacy, rq_err *err)
{
    if (t->e4m3)
        return rq_scaled_e4m3(e, y, x, amax, RQ_PER_TENSOR, 4, 3, err);
    return legacy ? rq_legacy_fake_tensor_quant(e, y, x, amax, &t->cfg, err)
                  : rq_fake_tensor_quant(e, y, x, amax, &t->cfg, err);
}

static rq_status backward(const task *t, rq_exec *e, const rq_strided *dx, const rq_strided *dy, const rq_strided *x,
                          const rq_strided *amax, rq_err *err)
{
    if (t->e4m3)
        return rq_scaled_e4m3_backward(e, dx, dy, x, amax, RQ_PER_TENSOR, err);
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
    task t = { .e4m3 = true };
    return run(c, &t, golden_param_bool(c, "amax_given", true));
}
