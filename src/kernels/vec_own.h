/* kernels/vec_own.h — functions for vec.h of our own, where SLEEF's take several times as long: erf (a fifth of what a dynamically quantized encoder took)
 * and tanh (a sixth of an LSTM). No fused steps: the same bits at every width.
 *
 * exp   SLEEF's expf_u10 without fused steps, bit for bit (N. Shibata, F. Petrogalli, SLEEF, IEEE TPDS 2020): here so that it is inlined, and what stands
 *       around it stays in registers.
 *
 * The other polynomials are minimax by our own fit (Lawson's weights on 4000 Chebyshev nodes, in double); tests/kernels/test_eltwise.c goes over the floats.
 *
 * erf   |x| < 1: x + x P(x^2), P of degree 6, off by 1.2e-9 of x. From 1 on: 1 - R(|x| - 2.475), R the complement of degree 14, off by 7.5e-9, up to 3.95;
 *       from 3.92 on 1 is the nearest float. Within 1.6 units in the last place.
 * tanh  |x| < 0.625: x (1 + P(x^2)), P of degree 5, off by 3.7e-9 of x. From there on (1 - e) / (1 + e) with e = exp(-2 |x|). Within 2.3 units. */
#ifndef RQ_KERNELS_VEC_OWN_H
#define RQ_KERNELS_VEC_OWN_H

#include "kernels/vec.h"
#ifndef VEC_F64
#include "kernels/vec_int.h"
#endif

#ifdef VEC_F64
static inline vf vexp(vf x)
{
    return VEC_MATH(exp)(x);
}
static inline vf verf(vf x)
{
    return VEC_MATH(erf)(x);
}
static inline vf vtanh(vf x)
{
    return VEC_MATH(tanh)(x);
}
#else
/* c[0] + c[1] x + ... + c[n - 1] x^(n - 1) */
static inline vf vpoly(vf x, const float *c, int n)
{
    vf y = vsplat(c[n - 1]);
    for (int i = n - 2; i >= 0; i--)
        y = vadd(vmul(y, x), vsplat(c[i]));
    return y;
}

static inline vf vexp(vf x)
{
    static const float p[] = { 0.5f,
                               0.166666671633720397949219f,
                               0.0416664853692054748535156f,
                               0.00833336077630519866943359f,
                               0.00139304355252534151077271f,
                               0.000198527617612853646278381f };
    const vi q = vround_int(vmul(x, vsplat(1.44269504088896340736f)));
    const vf n = vreal(q),
             s = vadd(vmul(n, vsplat(-1.428606765330187045e-06f)), vadd(vmul(n, vsplat(-0.693145751953125f)), x));
    const vf y = vadd(vsplat(1), vadd(vmul(vmul(s, s), vpoly(s, p, 6)), s));
    const vi half = vihalf(q); /* 2^q in two factors: q is from -151 to 145 where it counts */
    const vf all = vmul(vmul(y, vpow2(half)), vpow2(visub(q, half)));
    return vsel(vlt(x, vsplat(-104)), vsplat(0), vsel(vlt(vsplat(100), x), vsplat(__builtin_inff()), all));
}

static inline vf verf(vf x)
{
    static const float p[] = { 0x1.06eba8p-3f, -0x1.81273ep-2f,  0x1.ce2d2p-4f,  -0x1.b7fbb4p-6f,
                               0x1.5419f4p-8f, -0x1.a485e8p-11f, 0x1.4ae4c6p-14f };
    static const float r[] = {
        0x1.e78832p-12f,  -0x1.4350b2p-9f, 0x1.901d56p-8f,   -0x1.2f3246p-7f,  0x1.347792p-7f,
        -0x1.ac67aep-8f,  0x1.7a8bbcp-9f,  -0x1.067042p-11f, -0x1.4d9c18p-12f, 0x1.2ecaaap-12f,
        -0x1.47f5fap-14f, -0x1.6ff44p-16f, 0x1.1905ccp-16f,  -0x1.21e2c8p-22f, -0x1.10bbfap-20f
    };
    const vf size = vabs(x), one = vsplat(1), top = vsplat(3.95f);
    const vf near = vadd(x, vmul(x, vpoly(vmul(x, x), p, 7)));
    const vf far = vsub(one, vpoly(vsub(vsel(vlt(top, size), top, size), vsplat(2.475f)), r, 15));
    const vf all = vsel(vle(vsplat(3.9192059f), size), one, far);
    return vsel(vle(one, size), vsel(vlt(x, vsplat(0)), vneg(all), all), near); /* NaN is near */
}

static inline vf vtanh(vf x)
{
    static const float p[] = { -0x1.fc99dcp-29f, -0x1.555526p-2f, 0x1.1105cep-3f,
                               -0x1.b81dfap-5f,  0x1.518fdcp-6f,  -0x1.73bf72p-8f };
    const vf size = vabs(x), one = vsplat(1), near = vmul(x, vadd(one, vpoly(vmul(x, x), p, 6))); /* keeps -0 */
    const vf e = vexp(vmul(vsplat(-2), size)), far = vdiv(vsub(one, e), vadd(one, e));
    return vsel(vle(vsplat(0.625f), size), vsel(vlt(x, vsplat(0)), vneg(far), far), near); /* NaN is near */
}
#endif

static inline vf vsigmoid(vf x)
{
    return vdiv(vsplat(1), vadd(vsplat(1), vexp(vneg(x))));
}

#endif
