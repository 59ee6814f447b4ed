/* kernels/eltwise_tmpl.h — the elementwise functions, once for every vector width.
 *
 * The including file sets VEC_WIDTH and SUFFIX (scalar, avx2, avx512), or VEC_F64 and f64. A tail shorter than a vector
 * goes through a padded buffer, so that the last elements take the same instructions as the others. */
#include "kernels/eltwise.h"
#include "kernels/vec.h"
#include "kernels/vec_own.h"

typedef vf (*map_v)(vf x, vf a, vf b);
typedef vf (*zip_v)(vf a, vf b);

/* ---- one value ---- */

static inline vf abs_v(vf x, vf a, vf b)
{
    return vabs(x);
}

static inline vf neg_v(vf x, vf a, vf b)
{
    return vneg(x);
}

static inline vf sign_v(vf x, vf a, vf b)
{
    const vf zero = vsplat(0);
    return vsel(vlt(zero, x), vsplat(1), vsel(vlt(x, zero), vsplat(-1), x)); /* keeps +-0 and NaN */
}

static inline vf floor_v(vf x, vf a, vf b)
{
    return vfloor(x);
}

static inline vf ceil_v(vf x, vf a, vf b)
{
    return vceil(x);
}

static inline vf round_v(vf x, vf a, vf b)
{
    return vround(x);
}

static inline vf sqrt_v(vf x, vf a, vf b)
{
    return vsqrt(x);
}

static inline vf reciprocal_v(vf x, vf a, vf b)
{
    return vdiv(vsplat(1), x);
}

static inline vf square_v(vf x, vf a, vf b)
{
    return vmul(x, x);
}

static inline vf exp_v(vf x, vf a, vf b)
{
    return vexp(x);
}

static inline vf log_v(vf x, vf a, vf b)
{
    return VEC_MATH(log)(x);
}

static inline vf sin_v(vf x, vf a, vf b)
{
    return VEC_MATH(sin)(x);
}

static inline vf cos_v(vf x, vf a, vf b)
{
    return VEC_MATH(cos)(x);
}

static inline vf tan_v(vf x, vf a, vf b)
{
    return VEC_MATH(tan)(x);
}

static inline vf asin_v(vf x, vf a, vf b)
{
    return VEC_MATH(asin)(x);
}

static inline vf acos_v(vf x, vf a, vf b)
{
    return VEC_MATH(acos)(x);
}

static inline vf atan_v(vf x, vf a, vf b)
{
    return VEC_MATH(atan)(x);
}

static inline vf sinh_v(vf x, vf a, vf b)
{
    return VEC_MATH(sinh)(x);
}

static inline vf cosh_v(vf x, vf a, vf b)
{
    return VEC_MATH(cosh)(x);
}

static inline vf tanh_v(vf x, vf a, vf b)
{
    return vtanh(x);
}

static inline vf asinh_v(vf x, vf a, vf b)
{
    return VEC_MATH(asinh)(x);
}

static inline vf acosh_v(vf x, vf a, vf b)
{
    return VEC_MATH(acosh)(x);
}

static inline vf atanh_v(vf x, vf a, vf b)
{
    return VEC_MATH(atanh)(x);
}

static inline vf erf_v(vf x, vf a, vf b)
{
    return verf(x);
}

static inline vf relu_v(vf x, vf a, vf b)
{
    return vsel(vlt(x, vsplat(0)), vsplat(0), x);
}

static inline vf clip_v(vf x, vf a, vf b)
{
    x = vsel(vlt(x, a), a, x);
    return vsel(vlt(b, x), b, x);
}

static inline vf leaky_relu_v(vf x, vf a, vf b)
{
    return vsel(vlt(x, vsplat(0)), vmul(a, x), x);
}

static inline vf sigmoid_v(vf x, vf a, vf b)
{
    return vsigmoid(x);
}

static inline vf hard_sigmoid_v(vf x, vf a, vf b)
{
    return clip_v(vadd(vmul(a, x), b), vsplat(0), vsplat(1));
}

static inline vf hard_swish_v(vf x, vf a, vf b)
{
    return vmul(x, clip_v(vadd(vmul(vsplat((real)1 / 6), x), vsplat((real)0.5)), vsplat(0), vsplat(1)));
}

static inline vf swish_v(vf x, vf a, vf b)
{
    /* x / (1 + e^-ax): where e^-ax overflows the quotient is the right -0 */
    return vdiv(x, vadd(vsplat(1), vexp(vneg(vmul(a, x)))));
}

static inline vf softplus_v(vf x, vf a, vf b)
{
    return vadd(vmax(x, vsplat(0)), VEC_MATH(log1p)(vexp(vneg(vabs(x)))));
}

static inline vf mish_v(vf x, vf a, vf b)
{
    return vmul(x, vtanh(softplus_v(x, a, b)));
}

static inline vf elu_v(vf x, vf a, vf b)
{
    return vsel(vlt(x, vsplat(0)), vmul(a, VEC_MATH(expm1)(x)), x);
}

static inline vf selu_v(vf x, vf a, vf b)
{
    return vmul(b, elu_v(x, a, b));
}

static inline vf celu_v(vf x, vf a, vf b)
{
    /* a < 0 turns the sign of the exponential around, so both halves of the definition are kept */
    const vf zero = vsplat(0), e = vmul(a, VEC_MATH(expm1)(vdiv(x, a)));
    return vadd(vmax(zero, x), vmin(zero, e));
}

static inline vf softsign_v(vf x, vf a, vf b)
{
    return vdiv(x, vadd(vsplat(1), vabs(x)));
}

static inline vf thresholded_relu_v(vf x, vf a, vf b)
{
    return vsel(vor(vlt(a, x), vnan(x)), x, vsplat(0));
}

static inline vf shrink_v(vf x, vf a, vf b)
{
    return vsel(vlt(x, vneg(a)), vadd(x, b), vsel(vor(vlt(a, x), vnan(x)), vsub(x, b), vsplat(0)));
}

static inline vf gelu_v(vf x, vf a, vf b)
{
    const vf e = verf(vmul(x, vsplat((real)0.70710678118654752440)));
    return vmul(vmul(vsplat((real)0.5), x), vadd(vsplat(1), e));
}

static inline vf gelu_tanh_v(vf x, vf a, vf b)
{
    const vf cube = vmul(vmul(x, x), x);
    const vf u = vmul(vsplat((real)0.79788456080286535588), vadd(x, vmul(vsplat((real)0.044715), cube)));
    return vmul(vmul(vsplat((real)0.5), x), vadd(vsplat(1), vtanh(u)));
}

static inline vf linear_v(vf x, vf a, vf b)
{
    return vadd(vmul(a, x), b);
}

/* ---- two values ---- */

static inline vf pow_v(vf a, vf b)
{
    return VEC_MATH(pow)(a, b);
}

static inline vf prelu_v(vf a, vf b)
{
    return vsel(vlt(a, vsplat(0)), vmul(a, b), a);
}

static inline vf bias_gelu_v(vf a, vf b)
{
    const vf x = vadd(a, b);
    return gelu_v(x, x, x);
}

static inline vf bias_gelu_tanh_v(vf a, vf b)
{
    const vf x = vadd(a, b);
    return gelu_tanh_v(x, x, x);
}

/* fmod is exact, so the library's answer is the only one; its cost does not matter where it is used */
static inline vf fmod_v(vf a, vf b)
{
    real x[VEC_WIDTH], y[VEC_WIDTH];
    vstore(x, a);
    vstore(y, b);
    for (int i = 0; i < VEC_WIDTH; i++)
        x[i] = sizeof *x == 4 ? __builtin_fmodf((float)x[i], (float)y[i]) : (real)__builtin_fmod(x[i], y[i]);
    return vload(x);
}

static inline vf mod_v(vf a, vf b)
{
    const vf zero = vsplat(0), r = fmod_v(a, b);
    const vf moved = vadd(r, b);
    /* r and b of different signs: move r to b's side */
    const vf up = vsel(vlt(zero, b), moved, r), down = vsel(vlt(b, zero), moved, r);
    /* nothing left: zero with the sign of b; no number stays none */
    const vf none = vsel(vnan(r), r, vsel(vlt(b, zero), vneg(zero), zero));
    return vsel(vlt(r, zero), up, vsel(vlt(zero, r), down, none));
}

/* ---- loops ---- */

static inline __attribute__((always_inline)) void map_loop(real *y, const real *x, size_t n, real a, real b, map_v f)
{
    const vf va = vsplat(a), vb = vsplat(b);
    size_t i = 0;
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
        vstore(y + i, f(vload(x + i), va, vb));
    if (i < n) {
        real t[VEC_WIDTH] = { 0 };
        memcpy(t, x + i, (n - i) * sizeof *t);
        vstore(t, f(vload(t), va, vb));
        memcpy(y + i, t, (n - i) * sizeof *t);
    }
}

static inline __attribute__((always_inline)) void zip_loop(real *y, const real *a, int sa, const real *b, int sb,
                                                           size_t n, zip_v f)
{
    const vf a0 = n ? vsplat(*a) : vsplat(0), b0 = n ? vsplat(*b) : vsplat(0);
    size_t i = 0;
    if (sa && sb)
        for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
            vstore(y + i, f(vload(a + i), vload(b + i)));
    else if (sa)
        for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
            vstore(y + i, f(vload(a + i), b0));
    else if (sb)
        for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
            vstore(y + i, f(a0, vload(b + i)));
    else if (n) {
        real t[VEC_WIDTH];
        vstore(t, f(a0, b0));
        for (; i < n; i++)
            y[i] = t[0];
    }
    if (i < n) {
        real ta[VEC_WIDTH] = { 0 }, tb[VEC_WIDTH] = { 0 };
        for (size_t j = 0; j < n - i; j++) {
            ta[j] = a[sa ? i + j : 0];
            tb[j] = b[sb ? i + j : 0];
        }
        vstore(ta, f(vload(ta), vload(tb)));
        memcpy(y + i, ta, (n - i) * sizeof *ta);
    }
}

/* One loop per function, so that each is inlined into its own. */
#define MAP_LOOP(upper, name)                                                                                          \
    static void map_##name(real *y, const real *x, size_t n, real a, real b)                                           \
    {                                                                                                                  \
        map_loop(y, x, n, a, b, name##_v);                                                                             \
    }
RQ_MAP_LIST(MAP_LOOP)
#undef MAP_LOOP

#define add_v vadd
#define sub_v vsub
#define mul_v vmul
#define div_v vdiv
#define min_v vmin
#define max_v vmax
#define ZIP_LOOP(upper, name)                                                                                          \
    static void zip_##name(real *y, const real *a, int sa, const real *b, int sb, size_t n)                            \
    {                                                                                                                  \
        zip_loop(y, a, sa, b, sb, n, name##_v);                                                                        \
    }
RQ_ZIP_LIST(ZIP_LOOP)
#undef ZIP_LOOP

#ifdef VEC_F64
#define MAP_FN rq_map_f64_fn
#define ZIP_FN rq_zip_f64_fn
#else
#define MAP_FN rq_map_fn
#define ZIP_FN rq_zip_fn
#endif
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

const MAP_FN JOIN(rq_map_, SUFFIX)[RQ_N_MAPS] = {
#define MAP_ENTRY(upper, name) [RQ_MAP_##upper] = map_##name,
    RQ_MAP_LIST(MAP_ENTRY)
#undef MAP_ENTRY
};

const ZIP_FN JOIN(rq_zip_, SUFFIX)[RQ_N_ZIPS] = {
#define ZIP_ENTRY(upper, name) [RQ_ZIP_##upper] = zip_##name,
    RQ_ZIP_LIST(ZIP_ENTRY)
#undef ZIP_ENTRY
};

#ifndef VEC_F64
void JOIN(rq_taps_f32_, SUFFIX)(float *y, const float *const *x, const float *w, int taps, float bias, size_t n)
{
    const vf start = vsplat(bias);
    size_t i = 0;
    for (; i + 4 * VEC_WIDTH <= n; i += 4 * VEC_WIDTH) { /* four sums at a time hide what an addition takes */
        vf a = start, b = start, c = start, d = start;
        for (int t = 0; t < taps; t++) {
            const vf v = vsplat(w[t]);
            const float *p = x[t] + i;
            a = vadd(a, vmul(v, vload(p)));
            b = vadd(b, vmul(v, vload(p + VEC_WIDTH)));
            c = vadd(c, vmul(v, vload(p + 2 * VEC_WIDTH)));
            d = vadd(d, vmul(v, vload(p + 3 * VEC_WIDTH)));
        }
        vstore(y + i, a);
        vstore(y + i + VEC_WIDTH, b);
        vstore(y + i + 2 * VEC_WIDTH, c);
        vstore(y + i + 3 * VEC_WIDTH, d);
    }
    while (i < n && n >= VEC_WIDTH) { /* the last vector may overlap the one before */
        i = i + VEC_WIDTH <= n ? i : n - VEC_WIDTH;
        vf a = start;
        for (int t = 0; t < taps; t++)
            a = vadd(a, vmul(vsplat(w[t]), vload(x[t] + i)));
        vstore(y + i, a);
        i += VEC_WIDTH;
    }
    for (; i < n; i++) {
        float a = bias;
        for (int t = 0; t < taps; t++)
            a += w[t] * x[t][i];
        y[i] = a;
    }
}
#endif
