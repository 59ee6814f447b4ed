/* quant_learned.c — learned-step fake quantization: PyTorch's two operators. */
#include <stdlib.h>
#include <string.h>

#include "golden.h"

static rq_qtype type_of(const golden_case *c)
{
    const int64_t lo = golden_param_int(c, "qmin", 0), hi = golden_param_int(c, "qmax", 0);
    const bool wide = lo < -128 || hi > 255 || (lo < 0 && hi > 127);
    return (rq_qtype) { lo < 0 ? (wide ? RQ_DTYPE_S16 : RQ_DTYPE_S8) : (wide ? RQ_DTYPE_U16 : RQ_DTYPE_U8), (int32_t)lo,
                        (int32_t)hi };
}

static void failed(golden_case *c, rq_status s, const rq_err *err)
{
    golden_fail(c, "%s: %s", rq_status_text(s), err->text);
}

/* One call, or one per element (then with an upstream gradient of 1). */
static golden_verdict run(golden_case *c, int axis)
{
    rq_tensor x = { 0 }, scale = { 0 }, zp = { 0 }, dy = { 0 }, y = { 0 }, dx = { 0 }, ds = { 0 }, dz = { 0 };
    const bool each = golden_param_bool(c, "one_call_per_element", false);
    if (!golden_in(c, &x, "x") || !golden_in(c, &scale, "scale") || !golden_in(c, &zp, "zero_point"))
        goto done;
    if (json_object_get(json_object_get(c->json, "inputs"), "dy")) {
        if (!golden_in(c, &dy, "dy"))
            goto done;
    } else {
        if (rq_tensor_create(&dy, RQ_DTYPE_F32, &x.shape, false))
            goto done;
        for (int64_t i = 0; i < rq_tensor_count(&x); i++)
            dy.f32[i] = 1;
    }
    const int64_t n = rq_tensor_count(&scale), calls = each ? rq_tensor_count(&x) : 1;
    const rq_shape sums = rq_shape_of(1, &(int64_t) { each ? calls : n });
    if (rq_tensor_create(&y, RQ_DTYPE_F32, &x.shape, true) || rq_tensor_create(&dx, RQ_DTYPE_F32, &x.shape, true) ||
        rq_tensor_create(&ds, RQ_DTYPE_F32, &sums, true) || rq_tensor_create(&dz, RQ_DTYPE_F32, &sums, true)) {
        golden_fail(c, "out of memory");
        goto done;
    }
    const rq_learned l = { .type = type_of(c),
                           .rule = RQ_LEARNED_TORCH,
                           .axis = axis,
                           .n = n,
                           .scale = scale.f32,
                           .zero_point = zp.f32,
                           .grad_factor = (float)golden_param_number(c, "grad_factor", 1),
                           .compat = true };
    for (int64_t i = 0; i < calls; i++) {
        rq_strided v[4] = { rq_strided_of(&x), rq_strided_of(&dy), rq_strided_of(&y), rq_strided_of(&dx) };
        for (int k = 0; each && k < 4; k++)
            v[k] = rq_strided_vector((float *)v[k].data + i, 1);
        rq_err err = { 0 };
        rq_status s = rq_learned_quantize(NULL, &v[2], &v[0], &l, &err);
        if (s == RQ_OK)
            s = rq_learned_quantize_backward(NULL, &v[3], ds.f32 + i, dz.f32 + i, &v[1], &v[0], &l, &err);
        if (s) {
            failed(c, s, &err);
            goto done;
        }
    }
    golden_check(c, "y", &y);
    golden_check(c, "dx", &dx);
    golden_check(c, "dscale", &ds);
    golden_check(c, "dzero_point", &dz);
done:;
    rq_tensor *const all[] = { &x, &scale, &zp, &dy, &y, &dx, &ds, &dz };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        rq_tensor_release(all[i]);
    return c->failed ? GOLDEN_FAIL : GOLDEN_PASS;
}

golden_verdict golden_learnable_per_tensor(golden_case *c)
{
    return run(c, RQ_PER_TENSOR);
}

golden_verdict golden_learnable_per_channel(golden_case *c)
{
    return run(c, (int)golden_param_int(c, "axis", 0));
}
