/* quant_fake_quantize.c — PyTorch's fake quantization, forward and backward: fake_quantize_per_tensor_affine and
 * fake_quantize_per_channel_affine. Each runs three times: with y and dx in their own memory, in place, and dx by the mask. */
#include <stdlib.h>
#include <string.h>

#include "golden.h"

/* The smallest storage that holds codes lo..hi. */
static bool type_of(golden_case *c, rq_qtype *t)
{
    const int64_t lo = golden_param_int(c, "qmin", -128), hi = golden_param_int(c, "qmax", 127);
    static const rq_dtype storages[] = { RQ_DTYPE_U8, RQ_DTYPE_S8, RQ_DTYPE_U16, RQ_DTYPE_S16 };
    for (int i = 0; i < 4; i++)
        if (!rq_qtype_range(t, storages[i], lo, hi, NULL))
            return true;
    golden_fail(c, "no storage holds codes %lld to %lld", (long long)lo, (long long)hi);
    return false;
}

/* y, dx (by x and by the mask) of x and dy, against the case's. */
static void check(golden_case *c, const rq_fq *f, const rq_tensor *x, const rq_tensor *dy)
{
    rq_err err = { 0 };
    rq_tensor y = { 0 }, dx = { 0 }, mask = { 0 }, same = { 0 }, same_dx = { 0 };
    if (rq_tensor_create(&y, x->dtype, &x->shape, false) || rq_tensor_create(&dx, x->dtype, &x->shape, false) ||
        rq_tensor_create(&mask, RQ_DTYPE_U8, &x->shape, false) || rq_tensor_copy(&same, x) ||
        rq_tensor_copy(&same_dx, dy)) {
        golden_fail(c, "out of memory");
        goto done;
    }
    const rq_strided sx = rq_strided_of(x), sy = rq_strided_of(&y), sm = rq_strided_of(&mask), sdy = rq_strided_of(dy),
                     sdx = rq_strided_of(&dx), ssame = rq_strided_of(&same), ssame_dx = rq_strided_of(&same_dx);
    rq_exec *e = NULL;
    if (rq_exec_create(&e, 2, &err) || rq_fake_quantize(e, &sy, &sm, &sx, f, &err) ||
        rq_fake_quantize_backward(e, &sdx, &sdy, &sx, f, &err) ||
        rq_fake_quantize_backward_mask(e, &ssame_dx, &ssame_dx, &sm, &err) ||
        rq_fake_quantize(NULL, &ssame, NULL, &ssame, f, &err)) {
        golden_fail(c, "%s", err.text);
    } else {
        golden_check(c, "y", &y);
        golden_check(c, "y", &same);
        golden_check(c, "dx", &dx);
        golden_check(c, "dx", &same_dx);
    }
    rq_exec_destroy(e);
done:
    rq_tensor_release(&y);
    rq_tensor_release(&dx);
    rq_tensor_release(&mask);
    rq_tensor_release(&same);
    rq_tensor_release(&same_dx);
}

golden_verdict golden_fake_quantize_per_tensor(golden_case *c)
{
    const float scale = (float)golden_param_number(c, "scale", 1);
    const int32_t zero_point = (int32_t)golden_param_int(c, "zero_point", 0);
    rq_fq f = { .rule = RQ_FQ_RECIPROCAL,
                .axis = RQ_PER_TENSOR,
                .n = 1,
                .scale = &scale,
                .zero_point = &zero_point,
                .compat = true };
    rq_tensor x = { 0 }, dy = { 0 };
    if (type_of(c, &f.type) && golden_in(c, &x, "x") && golden_in(c, &dy, "dy"))
        check(c, &f, &x, &dy);
    rq_tensor_release(&x);
    rq_tensor_release(&dy);
    return GOLDEN_PASS;
}

golden_verdict golden_fake_quantize_per_channel(golden_case *c)
{
    rq_fq f = { .rule = RQ_FQ_RECIPROCAL, .compat = true };
    rq_tensor x = { 0 }, dy = { 0 }, scale = { 0 }, zero_point = { 0 };
    float *s = NULL, *zf = NULL;
    int32_t *z = NULL;
    if (!type_of(c, &f.type) || !golden_in(c, &x, "x") || !golden_in(c, &dy, "dy") || !golden_in(c, &scale, "scale") ||
        !golden_in(c, &zero_point, "zero_point"))
        goto done;
    f.axis = (int)golden_param_int(c, "axis", 0);
    f.axis += f.axis < 0 ? x.shape.rank : 0;
    f.n = rq_tensor_count(&scale);
    s = malloc((size_t)(f.n + 1) * sizeof *s);
    zf = malloc((size_t)(f.n + 1) * sizeof *zf);
    z = malloc((size_t)(f.n + 1) * sizeof *z);
    if (!s || !zf || !z || rq_tensor_count(&zero_point) != f.n) {
        golden_fail(c, "%lld scales, %lld zero points", (long long)f.n, (long long)rq_tensor_count(&zero_point));
        goto done;
    }
    for (int64_t i = 0; i < f.n; i++) {
        s[i] = (float)rq_tensor_get(&scale, i);
        zf[i] = (float)rq_tensor_get(&zero_point, i);
        z[i] = (int32_t)rq_tensor_get_int(&zero_point, i);
    }
    f.scale = s;
    if (rq_dtype_is_float(zero_point.dtype))
        f.zero_point_f = zf;
    else
        f.zero_point = z;
    check(c, &f, &x, &dy);
done:
    free(s);
    free(zf);
    free(z);
    rq_tensor_release(&x);
    rq_tensor_release(&dy);
    rq_tensor_release(&scale);
    rq_tensor_release(&zero_point);
    return GOLDEN_PASS;
}
