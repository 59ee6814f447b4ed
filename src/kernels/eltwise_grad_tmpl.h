/* kernels/eltwise_grad_tmpl.h — kernels/eltwise_grad.h, once for every vector width. The including file sets VEC_WIDTH and SUFFIX. A
 * tail shorter than a vector goes through a padded buffer, so that the last elements take the same instructions as the others. */
#include "kernels/eltwise_grad.h"
#include "kernels/vec.h"
#include "kernels/vec_own.h"

typedef vf (*grad_v)(vf dy, vf v, vf a, vf b);

static inline vf one_v(void)
{
    return vsplat(1);
}

static inline vf abs_v(vf dy, vf x, vf a, vf b)
{
    const vf zero = vsplat(0);
    return vsel(vlt(zero, x), dy, vsel(vlt(x, zero), vneg(dy), zero));
}

static inline vf neg_v(vf dy, vf x, vf a, vf b)
{
    return vneg(dy);
}

static inline vf sqrt_v(vf dy, vf y, vf a, vf b)
{
    return vdiv(dy, vadd(y, y));
}

static inline vf reciprocal_v(vf dy, vf y, vf a, vf b)
{
    return vmul(vneg(dy), vmul(y, y));
}

static inline vf exp_v(vf dy, vf y, vf a, vf b)
{
    return vmul(dy, y);
}

static inline vf log_v(vf dy, vf x, vf a, vf b)
{
    return vdiv(dy, x);
}

static inline vf sin_v(vf dy, vf x, vf a, vf b)
{
    return vmul(dy, VEC_MATH(cos)(x));
}

static inline vf cos_v(vf dy, vf x, vf a, vf b)
{
    return vmul(vneg(dy), VEC_MATH(sin)(x));
}

static inline vf tan_v(vf dy, vf y, vf a, vf b)
{
    return vmul(dy, vadd(one_v(), vmul(y, y)));
}

static inline vf asin_v(vf dy, vf x, vf a, vf b)
{
    return vdiv(dy, vsqrt(vsub(one_v(), vmul(x, x))));
}

static inline vf acos_v(vf dy, vf x, vf a, vf b)
{
    return vneg(asin_v(dy, x, a, b));
}

static inline vf atan_v(vf dy, vf x, vf a, vf b)
{
    return vdiv(dy, vadd(one_v(), vmul(x, x)));
}

static inline vf sinh_v(vf dy, vf x, vf a, vf b)
{
    return vmul(dy, VEC_MATH(cosh)(x));
}

static inline vf cosh_v(vf dy, vf x, vf a, vf b)
{
    return vmul(dy, VEC_MATH(sinh)(x));
}

static inline vf tanh_v(vf dy, vf y, vf a, vf b)
{
    return vmul(dy, vsub(one_v(), vmul(y, y)));
}

static inline vf asinh_v(vf dy, vf x, vf a, vf b)
{
    return vdiv(dy, vsqrt(vadd(vmul(x, x), one_v())));
}

static inline vf acosh_v(vf dy, vf x, vf a, vf b)
{
    return vdiv(dy, vsqrt(vsub(vmul(x, x), one_v())));
}

static inline vf atanh_v(vf dy, vf x, vf a, vf b)
{
    return vdiv(dy, vsub(one_v(), vmul(x, x)));
}

static inline vf erf_v(vf dy, vf x, vf a, vf b)
{
    return vmul(dy, vmul(vsplat((real)1.12837916709551257390), vexp(vneg(vmul(x, x)))));
}

static inline vf relu_v(vf dy, vf y, vf a, vf b)
{
    return vsel(vle(y, vsplat(0)), vsplat(0), dy);
}

static inline vf clip_v(vf dy, vf y, vf a, vf b)
{
    return vsel(vor(vle(y, a), vle(b, y)), vsplat(0), dy);
}

static inline vf leaky_relu_v(vf dy, vf x, vf a, vf b)
{
    return vsel(vlt(vsplat(0), x), dy, vmul(a, dy));
}

static inline vf sigmoid_v(vf dy, vf y, vf a, vf b)
{
    return vmul(dy, vmul(vsub(one_v(), y), y));
}

static inline vf hard_sigmoid_v(vf dy, vf y, vf a, vf b)
{
    return vsel(vor(vle(y, vsplat(0)), vle(one_v(), y)), vsplat(0), vmul(dy, a));
}

static inline vf hard_swish_v(vf dy, vf x, vf a, vf b)
{
    const vf between = vmul(dy, vadd(vdiv(x, vsplat(3)), vsplat((real)0.5)));
    return vsel(vlt(x, vsplat(-3)), vsplat(0), vsel(vle(x, vsplat(3)), between, dy));
}

static inline vf logistic(vf x)
{
    return vdiv(one_v(), vadd(one_v(), vexp(vneg(x))));
}

static inline vf swish_v(vf dy, vf x, vf a, vf b)
{
    const vf t = vmul(a, x), s = logistic(t);
    return vmul(dy, vmul(s, vadd(one_v(), vmul(t, vsub(one_v(), s)))));
}

static inline vf mish_v(vf dy, vf x, vf a, vf b)
{
    const vf softplus = vadd(vmax(x, vsplat(0)), VEC_MATH(log1p)(vexp(vneg(vabs(x)))));
    const vf t = vtanh(softplus);
    return vmul(dy, vadd(t, vmul(vmul(x, logistic(x)), vsub(one_v(), vmul(t, t)))));
}

static inline vf elu_v(vf dy, vf x, vf a, vf b)
{
    return vsel(vle(x, vsplat(0)), vmul(dy, vmul(a, vexp(x))), dy);
}

static inline vf selu_v(vf dy, vf x, vf a, vf b)
{
    return vmul(b, elu_v(dy, x, a, b));
}

static inline vf celu_v(vf dy, vf x, vf a, vf b)
{
    return vsel(vle(x, vsplat(0)), vmul(dy, vexp(vdiv(x, a))), dy);
}

static inline vf softplus_v(vf dy, vf x, vf a, vf b)
{
    return vmul(dy, logistic(x));
}

static inline vf softsign_v(vf dy, vf x, vf a, vf b)
{
    const vf d = vadd(one_v(), vabs(x));
    return vdiv(dy, vmul(d, d));
}

static inline vf thresholded_relu_v(vf dy, vf x, vf a, vf b)
{
    return vsel(vle(x, a), vsplat(0), dy);
}

static inline vf shrink_v(vf dy, vf x, vf a, vf b)
{
    return vsel(vor(vor(vlt(x, vneg(a)), vlt(a, x)), vnan(x)), dy, vsplat(0));
}

static inline vf gelu_v(vf dy, vf x, vf a, vf b)
{
    const vf e = verf(vmul(x, vsplat((real)0.70710678118654752440)));
    const vf cdf = vmul(vsplat((real)0.5), vadd(one_v(), e));
    const vf pdf = vmul(vsplat((real)0.39894228040143267794), vexp(vmul(vsplat((real)-0.5), vmul(x, x))));
    return vmul(dy, vadd(cdf, vmul(x, pdf)));
}

static inline vf gelu_tanh_v(vf dy, vf x, vf a, vf b)
{
    const vf k = vsplat((real)0.79788456080286535588), c = vsplat((real)0.044715), half = vsplat((real)0.5);
    const vf square = vmul(x, x), t = vtanh(vmul(k, vadd(x, vmul(c, vmul(square, x)))));
    const vf inner = vmul(k, vadd(one_v(), vmul(vmul(vsplat(3), c), square)));
    const vf slope = vmul(vmul(half, x), vmul(vsub(one_v(), vmul(t, t)), inner));
    return vmul(dy, vadd(vmul(half, vadd(one_v(), t)), slope));
}

static inline __attribute__((always_inline)) void grad_loop(float *dx, const float *dy, const float *v, size_t n,
                                                            float a, float b, grad_v f)
{
    const vf va = vsplat(a), vb = vsplat(b);
    size_t i = 0;
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
        vstore(dx + i, f(vload(dy + i), vload(v + i), va, vb));
    if (i < n) {
        float t[VEC_WIDTH] = { 0 }, d[VEC_WIDTH] = { 0 };
        memcpy(t, v + i, (n - i) * sizeof *t);
        memcpy(d, dy + i, (n - i) * sizeof *d);
        vstore(t, f(vload(d), vload(t), va, vb));
        memcpy(dx + i, t, (n - i) * sizeof *t);
    }
}

/* One loop per function, so that each is inlined into its own. */
#define GRAD_LOOP(upper, name)                                                                                         \
    static void grad_##name(float *dx, const float *dy, const float *v, size_t n, float a, float b)                    \
    {                                                                                                                  \
        grad_loop(dx, dy, v, n, a, b, name##_v);                                                                       \
    }
RQ_MAP_GRAD_LIST(GRAD_LOOP)
#undef GRAD_LOOP

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
const rq_map_grad_fn JOIN(rq_map_grad_, SUFFIX)[RQ_N_MAPS] = {
#define GRAD_ENTRY(upper, name) [RQ_MAP_##upper] = grad_##name,
    RQ_MAP_GRAD_LIST(GRAD_ENTRY)
#undef GRAD_ENTRY
};
