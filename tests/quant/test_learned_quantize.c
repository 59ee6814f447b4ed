/* Learned-step fake quantization against numbers that PyTorch 1.13 and Core ML Tools 9 computed, against finite differences, at the
 * kinks, and against itself in every layout. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "requant/fake_quantize.h"
#include "requant/learned_quantize.h"

static const rq_qtype s8 = { RQ_DTYPE_S8, -128, 127 }, s4 = { RQ_DTYPE_S8, -8, 7 }, u8 = { RQ_DTYPE_U8, 0, 255 };

static void close_to(const float *got, const float *want, int n, double tol, const char *what)
{
    for (int i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tol * fmax(1, fabs(want[i]))))
            fail_msg("%s[%d] is %.9g, expected %.9g", what, i, got[i], want[i]);
}

static void equal(const float *got, const float *want, int n, const char *what)
{
    for (int i = 0; i < n; i++)
        if (memcmp(got + i, want + i, sizeof *got) && got[i] != want[i])
            fail_msg("%s[%d] is %.9g, expected %.9g", what, i, got[i], want[i]);
}

/* R(n, lo, hi): n numbers evenly from lo to hi. */
static void ramp(float *x, int n, double lo, double hi)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)(lo + (hi - lo) * i / (n - 1));
}

/* L(seed, n, lo, hi) */
static void noise(float *x, int n, uint32_t seed, double lo, double hi)
{
    for (int i = 0; i < n; i++) {
        seed = 1664525u * seed + 1013904223u;
        x[i] = (float)(lo + (hi - lo) * ((seed >> 8) / 16777216.0));
    }
}

static rq_strided floats(float *x, int rank, const int64_t *dim)
{
    const rq_shape s = rq_shape_of(rank, dim);
    return rq_strided_floats(x, &s);
}

/* Forward and backward of a row-major tensor, through the door. */
static void run(const rq_learned *l, int rank, const int64_t *dim, float *x, float *dy, float *y, float *dx, float *ds,
                float *dz)
{
    rq_err err = { 0 };
    const rq_strided vx = floats(x, rank, dim), vdy = floats(dy, rank, dim);
    if (y) {
        const rq_strided vy = floats(y, rank, dim);
        if (rq_learned_quantize(NULL, &vy, &vx, l, &err))
            fail_msg("%s", err.text);
    }
    const rq_strided vdx = floats(dx, rank, dim);
    if (rq_learned_quantize_backward(NULL, &vdx, ds, dz, &vdy, &vx, l, &err))
        fail_msg("%s", err.text);
}

/* ---- PyTorch ---- */

/* One element at a time: s = 0.1, z = 0, -128..127. */
static void torch_elements(void **state)
{
    static const struct {
        float x, y, dx, ds, dz;
    } want[] = {
        { -13, -12.8000002f, 0, -128, -0.1f },
        { -12.8f, -12.8000002f, 1, 0, 0 },
        { -12.75f, -12.8000002f, 1, -0.500001907f, 0 },
        { -0.26f, -0.300000012f, 1, -0.400000155f, 0 },
        { 0.05f, 0, 1, -0.5f, 0 },
        { 0.15f, 0.200000003f, 1, 0.49999997f, 0 },
        { 1.23f, 1.20000005f, 1, -0.300000012f, 0 },
        { 12.65f, 12.6000004f, 1, -0.499994308f, 0 },
        { 12.76f, 12.6999998f, 0, 127, -0.100000001f },
    };
    (void)state;
    const float s = 0.1f, z = 0, u = 1;
    for (int compat = 0; compat < 2; compat++)
        for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
            const rq_learned l = { s8, RQ_LEARNED_TORCH, RQ_PER_TENSOR, 1, &s, &z, 1, compat };
            float x = want[i].x, dy = u, y, dx, ds, dz;
            run(&l, 1, (const int64_t[]) { 1 }, &x, &dy, &y, &dx, &ds, &dz);
            equal(&y, &want[i].y, 1, "y");
            equal(&dx, &want[i].dx, 1, "dx");
            close_to(&ds, &want[i].ds, 1, 1e-6, "dscale");
            close_to(&dz, &want[i].dz, 1, 1e-7, "dzero_point");
        }
}

static void vectors_a_and_b(void **state)
{
    static const struct {
        double lo, hi;
        float s, z, y[9], dx[9], ds, dz, ds_g, dz_g;
    } want[] = {
        { -2,
          2,
          0.25f,
          1,
          { -2, -1.5f, -1, -0.5f, 0, 0.5f, 1, 1.5f, 1.5f },
          { 1, 1.125f, 1.25f, 1.375f, 1.5f, 1.625f, 1.75f, 1.875f, 0 },
          12,
          -0.5f,
          1.51185787f,
          -0.0629940778f },
        { -3,
          2.9,
          0.3f,
          2,
          { -3, -2.4f, -1.5f, -0.9f, 0, 0.6f, 1.5f, 1.5f, 1.5f },
          { 1, 1.125f, 1.25f, 1.375f, 1.5f, 1.625f, 1.75f, 0, 0 },
          18.661459f,
          -1.16250002f,
          2.35112286f,
          -0.146461233f },
    };
    (void)state;
    const rq_shape nine = rq_shape_of(1, (const int64_t[]) { 9 });
    const float g = rq_learned_grad_factor(RQ_LEARNED_TORCH, &s4, &nine, RQ_PER_TENSOR);
    assert_true(fabs(g - 1 / sqrt(63)) < 1e-7);
    for (int v = 0; v < 2; v++)
        for (int compat = 0; compat < 2; compat++) {
            float x[9], dy[9], y[9], dx[9], ds, dz;
            ramp(x, 9, want[v].lo, want[v].hi);
            ramp(dy, 9, 1, 2);
            rq_learned l = { s4, RQ_LEARNED_TORCH, RQ_PER_TENSOR, 1, &want[v].s, &want[v].z, 1, compat };
            run(&l, 1, nine.dim, x, dy, y, dx, &ds, &dz);
            close_to(y, want[v].y, 9, 1e-7, "y");
            equal(dx, want[v].dx, 9, "dx");
            close_to(&ds, &want[v].ds, 1, 1e-6, "dscale");
            close_to(&dz, &want[v].dz, 1, 1e-6, "dzero_point");
            l.grad_factor = g;
            run(&l, 1, nine.dim, x, dy, y, dx, &ds, &dz);
            close_to(&ds, &want[v].ds_g, 1, 1e-6, "g dscale");
            close_to(&dz, &want[v].dz_g, 1, 1e-6, "g dzero_point");
        }
}

static void vector_c(void **state)
{
    static const float s[] = { 0.1f, 0.25f }, z[] = { 0.4f, -1.6f };
    static const float y_want[] = { -0.7f, -0.8f, -0.8f, 0.2f, -0.7f, -1.5f, 1.25f, 0, 0.5f, -0.5f };
    static const float dx_want[] = { 1, 0, 0, 1.33333337f, 1.44444442f, 0, 1.66666663f, 1.77777779f, 1.88888884f, 2 };
    static const float ds_want[] = { -19.5599613f, -8.32794094f }, dz_want[] = { -0.233333349f, -0.388888896f };
    static const float ds_g[] = { -2.33786273f, -0.995379388f }, dz_g[] = { -0.0278886687f, -0.0464811139f };
    (void)state;
    const rq_shape shape = rq_shape_of(2, (const int64_t[]) { 2, 5 });
    const float g = rq_learned_grad_factor(RQ_LEARNED_TORCH, &s4, &shape, 0); /* all elements, though per channel */
    assert_true(fabs(g - 1 / sqrt(70)) < 1e-7);
    for (int compat = 0; compat < 2; compat++) {
        float x[10], dy[10], y[10], dx[10], ds[2], dz[2];
        noise(x, 10, 240, -2, 2);
        ramp(dy, 10, 1, 2);
        rq_learned l = { s4, RQ_LEARNED_TORCH, 0, 2, s, z, 1, compat };
        run(&l, 2, shape.dim, x, dy, y, dx, ds, dz);
        close_to(y, y_want, 10, 1e-7, "y");
        equal(dx, dx_want, 10, "dx");
        close_to(ds, ds_want, 2, 1e-6, "dscale");
        close_to(dz, dz_want, 2, 1e-6, "dzero_point");
        l.grad_factor = g;
        run(&l, 2, shape.dim, x, dy, y, dx, ds, dz);
        close_to(ds, ds_g, 2, 1e-6, "g dscale");
        close_to(dz, dz_g, 2, 1e-6, "g dzero_point");
    }
}

/* Where PyTorch's two directions disagree, and that ours do not unless asked to. */
static void two_directions(void **state)
{
    static const struct {
        float z, forward, backward;
    } zp[] = { { 2.5f, 2, 3 }, { 0.5f, 0, 1 }, { -3.7f, -4, -3 }, { -0.6f, -1, 0 }, { -2.5f, -2, -2 } };
    (void)state;
    const int64_t one[] = { 1 };
    for (size_t i = 0; i < sizeof zp / sizeof *zp; i++)
        for (int compat = 0; compat < 2; compat++) {
            /* far outside: dscale = hi - z tells which z was taken */
            const float s = 1, per_channel = rq_learned_zero_point(&s4, zp[i].z);
            float x = 1000, dy = 1, y, dx, ds, dz;
            rq_learned l = { s4, RQ_LEARNED_TORCH, RQ_PER_TENSOR, 1, &s, &zp[i].z, 1, compat };
            run(&l, 1, one, &x, &dy, &y, &dx, &ds, &dz);
            assert_true(y == 7 - zp[i].forward);
            assert_true(ds == 7 - (compat ? zp[i].backward : zp[i].forward));
            l.axis = 0;
            run(&l, 1, one, &x, &dy, &y, &dx, &ds, &dz);
            assert_true(y == 7 - per_channel && ds == 7 - per_channel && per_channel == zp[i].forward);
        }
    /* x = 0.5, z = 1: forward has code 0 + 1, PyTorch's backward 1.5 -> 2 */
    for (int compat = 0; compat < 2; compat++) {
        const float s = 1, z = 1;
        float x = 0.5f, dy = 1, y, dx, ds, dz;
        const rq_learned l = { s8, RQ_LEARNED_TORCH, RQ_PER_TENSOR, 1, &s, &z, 1, compat };
        run(&l, 1, one, &x, &dy, &y, &dx, &ds, &dz);
        assert_true(y == 0 && dx == 1 && ds == (compat ? 0.5f : -0.5f));
    }
}

/* ---- Core ML Tools ---- */

static void learnable_of_core_ml(void **state)
{
    static const struct {
        rq_qtype type;
        int axis;
        float s[2], z[2], y[6], dx[6], ds[2], dz[2];
        bool affine;
    } want[] = {
        { { RQ_DTYPE_S8, -8, 7 },
          RQ_PER_TENSOR,
          { 0.5f },
          { 0 },
          { -3, -0.5f, 0.5f, 1, 3.5f, 1 },
          { 1, 2, 3, 4, 0, 6 },
          { 5.900560f },
          { 0 },
          false },
        { { RQ_DTYPE_U8, 0, 255 },
          RQ_PER_TENSOR,
          { 0.02f },
          { 128 },
          { -2.56f, -0.4f, 0.26f, 1.1f, 2.54f, 0.76f },
          { 0, 2, 3, 4, 0, 6 },
          { 13.038404f },
          { 0 },
          false },
        { { RQ_DTYPE_U8, 0, 255 },
          RQ_PER_TENSOR,
          { 0.02f },
          { 30.4f },
          { -0.6f, -0.4f, 0.26f, 1.1f, 4.5f, 0.76f },
          { 0, 2, 3, 4, 0, 6 },
          { 28.070919f },
          { -0.00306786f },
          true },
        { { RQ_DTYPE_S8, -8, 7 },
          0,
          { 0.5f, 0.1f },
          { 0, 0 },
          { -3, -0.5f, 0.5f, 0.7f, 0.7f, 0.7f },
          { 1, 2, 3, 0, 0, 0 },
          { 0.226947f, 22.912878f },
          { 0 },
          false },
        { { RQ_DTYPE_U8, 0, 255 },
          0,
          { 0.01f, 0.02f },
          { 300, 10 },
          { -2.55f, -0.4f, 0, 1.1f, 4.9f, 0.76f },
          { 0, 2, 0, 4, 0, 6 },
          { -9.219544f, 44.398434f },
          { -0.00144620f, -0.00361551f },
          true },
    };
    (void)state;
    float x[] = { -3, -0.4f, 0.26f, 1.1f, 5, 0.75f }, dy[] = { 1, 2, 3, 4, 5, 6 }, y[6], dx[6], ds[2], dz[2];
    const rq_shape shape = rq_shape_of(2, (const int64_t[]) { 2, 3 });
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const int n = want[i].axis < 0 ? 1 : 2;
        const float g = rq_learned_grad_factor(RQ_LEARNED_LSQ, &want[i].type, &shape, want[i].axis);
        const rq_learned l = { want[i].type, RQ_LEARNED_LSQ, want[i].axis, n, want[i].s, want[i].z, g, false };
        run(&l, 2, shape.dim, x, dy, y, dx, ds, dz);
        close_to(y, want[i].y, 6, 1e-6, "y");
        equal(dx, want[i].dx, 6, "dx");
        close_to(ds, want[i].ds, n, 2e-6, "dscale");
        if (want[i].affine)
            close_to(dz, want[i].dz, n, 1e-8, "dzero_point");
    }
}

/* ---- finite differences ----
 * What is differentiated: sum of u y~, y~ = (clamp(x / s + z + r, lo, hi) - z) s, in double, with r = code - x / s - z held at its value
 * at the point (rounding is the identity), x more than 1e-3 of a step away from where clamping begins or ends. */

static double surrogate(const float *x, const float *u, const double *r, int n, double s, double z, rq_qtype t,
                        int bump, double by)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        const double c = (x[i] + (i == bump ? by : 0)) / s + z + r[i];
        sum += u[i] * (fmin(fmax(c, t.lo), t.hi) - z) * s;
    }
    return sum;
}

static void finite_differences(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 7);
    static const rq_qtype types[] = {
        { RQ_DTYPE_S8, -128, 127 }, { RQ_DTYPE_U8, 0, 255 }, { RQ_DTYPE_S8, -8, 7 },
        { RQ_DTYPE_S4, -7, 7 },     { RQ_DTYPE_U2, 0, 3 },   { RQ_DTYPE_S16, -300, 300 }
    };
    enum { N = 64 };
    for (int round = 0; round < 60; round++) {
        const rq_qtype t = types[round % 6];
        const int width = t.hi - t.lo + 1;
        const float s = 0.01f + rq_rng_f32(&rng), z = (float)(t.lo + (int)rq_rng_below(&rng, (uint32_t)width));
        const rq_learned l = { t,    round % 4 < 2 ? RQ_LEARNED_TORCH : RQ_LEARNED_LSQ, RQ_PER_TENSOR, 1, &s, &z, 0.5f,
                               false };
        float x[N], u[N], dx[N], ds, dz;
        double r[N];
        for (int i = 0; i < N; i++) {
            double t_, frac;
            do { /* away from ties, and within twice the range */
                x[i] = s * (float)width * (2 * rq_rng_f32(&rng) - 1);
                t_ = (double)x[i] / s + z;
                frac = fabs(t_ - rint(t_));
            } while (frac > 0.49);
            r[i] = rint(t_) - t_;
            u[i] = 2 * rq_rng_f32(&rng) - 1;
        }
        run(&l, 1, (const int64_t[]) { N }, x, u, NULL, dx, &ds, &dz);
        /* codes that rounded to an end are inside, and the surrogate has its kink right there: step inwards */
        double want_s = 0, want_z = 0, size = 0;
        for (int i = 0; i < N; i++) {
            const double h = 1e-4, c = rint((double)x[i] / s + z);
            const int at_end = c == t.lo ? 1 : c == t.hi ? -1 : 0;
            double d[3];
            for (int p = 0; p < 3; p++) { /* of x, s, z */
                const double e = h * (p == 0 ? s : p == 1 ? s / (fabs((double)x[i] / s) + 1) : 1);
                double f[2];
                for (int side = 0; side < 2; side++) {
                    /* the direction in which the code moves inwards */
                    double step = side ? e : -e;
                    const double into = p == 0 ? 1 : p == 1 ? (x[i] > 0 ? -1 : 1) : 1;
                    if (at_end && (side ? 1 : -1) * into != at_end)
                        step = 0;
                    f[side] = surrogate(x + i, u + i, r + i, 1, s + (p == 1 ? step : 0), z + (p == 2 ? step : 0), t,
                                        p == 0 ? 0 : -1, step);
                }
                d[p] = (f[1] - f[0]) / (at_end ? e : 2 * e);
            }
            assert_true(fabs(dx[i] - d[0]) < 1e-4);
            want_s += d[1], want_z += d[2], size += fabs(d[1]) + fabs(d[2]);
        }
        if (!(fabs(ds - 0.5 * want_s) <= 1e-4 * (1 + size)) || !(fabs(dz - 0.5 * want_z) <= 1e-4 * (1 + size)))
            fail_msg("round %d: dscale %g, differences %g; dzero_point %g, differences %g", round, ds, 0.5 * want_s, dz,
                     0.5 * want_z);
    }
}

/* ---- kinks ---- */

static void at_the_kinks(void **state)
{
    (void)state;
    static const struct {
        rq_learned_rule rule;
        float z, x, dx, ds, dz;
    } want[] = {
        /* s = 1, -8..7. The ends themselves are inside. */
        { RQ_LEARNED_TORCH, 0, 7, 1, 0, 0 },
        { RQ_LEARNED_TORCH, 0, -8, 1, 0, 0 },
        { RQ_LEARNED_LSQ, 0, 7, 1, 0, 0 },
        { RQ_LEARNED_LSQ, 0, -8, 1, 0, 0 },
        /* a tie above hi = 7 goes to 8: outside; one below lo = -8 goes to -8: inside */
        { RQ_LEARNED_TORCH, 0, 7.5f, 0, 7, -1 },
        { RQ_LEARNED_LSQ, 0, 7.5f, 0, 7, -1 },
        { RQ_LEARNED_TORCH, 0, -8.5f, 1, 0.5f, 0 },
        { RQ_LEARNED_LSQ, 0, -8.5f, 1, 0.5f, 0 },
        /* z = 1: x = 6.5 is 6 + 1 for TORCH, inside; 7.5 for LSQ, which goes to 8, outside; and the other way round below */
        { RQ_LEARNED_TORCH, 1, 6.5f, 1, -0.5f, 0 },
        { RQ_LEARNED_LSQ, 1, 6.5f, 0, 6, -1 },
        { RQ_LEARNED_TORCH, 1, -9.5f, 0, -9, -1 },
        { RQ_LEARNED_LSQ, 1, -9.5f, 1, 0.5f, 0 },
    };
    const float s = 1;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        float x = want[i].x, dy = 1, y, dx, ds, dz;
        const rq_learned l = { s4, want[i].rule, RQ_PER_TENSOR, 1, &s, &want[i].z, 1, false };
        run(&l, 1, (const int64_t[]) { 1 }, &x, &dy, &y, &dx, &ds, &dz);
        if (dx != want[i].dx || ds != want[i].ds || dz != want[i].dz)
            fail_msg("rule %d z %g x %g: dx %g ds %g dz %g", (int)want[i].rule, want[i].z, x, dx, ds, dz);
    }
}

/* The straight-through mask of plain fake quantization: the pass band of s = 0.1, -128..127. */
static void straight_through_at_the_kinks(void **state)
{
    static const float at[] = { -13, -12.84f, -12.8f, 12.7f, 12.74f, 12.75f, 12.76f };
    static const float want[] = { 0, 1, 1, 1, 1, 0, 0 };
    (void)state;
    const float s = 0.1f;
    const int32_t z = 0;
    const rq_fq f = {
        .type = s8, .rule = RQ_FQ_RECIPROCAL, .axis = RQ_PER_TENSOR, .n = 1, .scale = &s, .zero_point = &z
    };
    float x[7], dy[7], dx[7];
    memcpy(x, at, sizeof x);
    for (int i = 0; i < 7; i++)
        dy[i] = 1;
    const rq_strided vx = rq_strided_vector(x, 7), vdy = rq_strided_vector(dy, 7), vdx = rq_strided_vector(dx, 7);
    rq_err err = { 0 };
    assert_int_equal(rq_fake_quantize_backward(NULL, &vdx, &vdy, &vx, &f, &err), RQ_OK);
    equal(dx, want, 7, "dx");
}

/* What is differentiated for plain fake quantization: y~ = (clamp(x / s + z + r, lo, hi) - z) s with r = code - x / s - z held, by each rule;
 * at a code that rounded to an end, from inside. */
static void straight_through_differences(void **state)
{
    (void)state;
    enum { N = 200 };
    rq_rng rng;
    rq_rng_seed(&rng, 21);
    const rq_qtype types[] = { s8, u8, s4 };
    for (int round = 0; round < 27; round++) {
        const rq_qtype t = types[round % 3];
        const rq_fq_rule rule = (rq_fq_rule)(round / 3 % 3);
        const float step = 0.02f + rq_rng_f32(&rng), given = rule == RQ_FQ_MULTIPLIER ? 1 / step : step;
        const int32_t z =
            rule == RQ_FQ_MULTIPLIER ? 0 : t.lo + (int32_t)rq_rng_below(&rng, (uint64_t)(t.hi - t.lo + 1));
        const rq_fq f = { .type = t,
                          .rule = rule,
                          .axis = RQ_PER_TENSOR,
                          .n = 1,
                          .scale = &given,
                          .zero_point = &z,
                          .zero_point_inside = round / 9 };
        float x[N], dy[N], dx[N];
        for (int i = 0; i < N; i++) {
            do
                x[i] = step * (float)(t.hi - t.lo) * (2 * rq_rng_f32(&rng) - 1);
            while (fabs((double)x[i] / step - rint((double)x[i] / step)) > 0.49);
            dy[i] = rq_rng_f32(&rng) - 0.5f;
        }
        const rq_strided vx = rq_strided_vector(x, N), vdy = rq_strided_vector(dy, N), vdx = rq_strided_vector(dx, N);
        rq_err err = { 0 };
        assert_int_equal(rq_fake_quantize_backward(NULL, &vdx, &vdy, &vx, &f, &err), RQ_OK);
        for (int i = 0; i < N; i++) {
            const double c = rint((double)x[i] / step) + z, r = c - (double)x[i] / step - z, h = 1e-4 * step;
            const double to = c == t.hi ? 0 : h, from = c == t.lo ? 0 : h;
            const double up = surrogate(x + i, dy + i, &r, 1, step, z, t, 0, to),
                         down = surrogate(x + i, dy + i, &r, 1, step, z, t, 0, -from);
            if (!(fabs(dx[i] - (up - down) / (to + from)) < 1e-5))
                fail_msg("round %d: x %g: dx %g, differences %g", round, x[i], dx[i], (up - down) / (to + from));
        }
    }
}

/* Per channel is per tensor on each channel's slice, bit for bit: the order of the sums is the same. */
static void channels_are_slices(void **state)
{
    (void)state;
    const rq_shape shape = rq_shape_of(3, (const int64_t[]) { 5, 7, 300 });
    enum { N = 5 * 7 * 300 };
    float *x = malloc(sizeof(float) * N), *dy = malloc(sizeof(float) * N), *dx = malloc(sizeof(float) * N),
          *dx_slice = malloc(sizeof(float) * N);
    rq_rng rng;
    rq_rng_seed(&rng, 5);
    for (int i = 0; i < N; i++)
        x[i] = 4 * rq_rng_f32(&rng) - 2, dy[i] = rq_rng_f32(&rng) - 0.5f;
    const rq_strided vx = rq_strided_floats(x, &shape), vdy = rq_strided_floats(dy, &shape),
                     vdx = rq_strided_floats(dx, &shape), to = rq_strided_floats(dx_slice, &shape);
    for (int axis = 0; axis < 3; axis++)
        for (int rule = 0; rule < 2; rule++) {
            float s[300], z[300], ds[300], dz[300], one_s, one_z;
            for (int c = 0; c < 300; c++)
                s[c] = 0.05f + rq_rng_f32(&rng), z[c] = 6 * rq_rng_f32(&rng) - 3;
            rq_learned l = { s4, (rq_learned_rule)rule, axis, shape.dim[axis], s, z, 0.3f, false };
            rq_err err = { 0 };
            assert_int_equal(rq_learned_quantize_backward(NULL, &vdx, ds, dz, &vdy, &vx, &l, &err), RQ_OK);
            for (int64_t c = 0; c < shape.dim[axis]; c++) {
                const rq_strided px = rq_strided_slice(&vx, axis, c, 1, 1), pdy = rq_strided_slice(&vdy, axis, c, 1, 1),
                                 pdx = rq_strided_slice(&to, axis, c, 1, 1);
                l.axis = RQ_PER_TENSOR, l.n = 1, l.scale = s + c, l.zero_point = z + c;
                assert_int_equal(rq_learned_quantize_backward(NULL, &pdx, &one_s, &one_z, &pdy, &px, &l, &err), RQ_OK);
                assert_true(one_s == ds[c] && one_z == dz[c] && one_s != 0);
            }
            assert_memory_equal(dx, dx_slice, sizeof(float) * N);
        }
    free(x), free(dy), free(dx), free(dx_slice);
}

/* Sums over many pieces are the sums of the formula in double. */
static void sums_of_many_elements(void **state)
{
    (void)state;
    enum { N = 100003, C = 2 };
    const rq_shape shape = rq_shape_of(2, (const int64_t[]) { C, N });
    float *x = malloc(sizeof(float) * C * N), *dy = malloc(sizeof(float) * C * N);
    rq_rng rng;
    rq_rng_seed(&rng, 31);
    for (int i = 0; i < C * N; i++)
        x[i] = 4 * rq_rng_f32(&rng) - 2, dy[i] = rq_rng_f32(&rng); /* not centred: nothing cancels */
    const rq_strided vx = rq_strided_floats(x, &shape), vdy = rq_strided_floats(dy, &shape);
    const float s[] = { 0.1f, 0.21f }, z[] = { 3, -2 };
    const rq_learned l = { s4, RQ_LEARNED_LSQ, 0, C, s, z, 1, false };
    float ds[C], dz[C];
    rq_err err = { 0 };
    assert_int_equal(rq_learned_quantize_backward(NULL, NULL, ds, dz, &vdy, &vx, &l, &err), RQ_OK);
    for (int c = 0; c < C; c++) {
        double want_s = 0, want_z = 0;
        for (int i = c * N; i < (c + 1) * N; i++) {
            const double t = (double)(x[i] / s[c]) + z[c], code = rint(t), q = fmin(fmax(code, -8), 7);
            want_s += dy[i] * (q == code ? q - t : q - z[c]);
            want_z += q == code ? 0 : -(double)dy[i] * s[c];
        }
        assert_true(fabs(ds[c] - want_s) < 1e-5 * fabs(want_s) && fabs(dz[c] - want_z) < 1e-5 * fabs(want_z));
    }
    free(x), free(dy);
}

/* The scale that Core ML Tools divides by, where its gradient is scaled: with s and g of these, s - s g + s g is the number below s, and
 * the extreme of x, which lies on the tie of 7.5, rounds to 7. */
static void core_ml_scales_the_gradient_through_the_scale(void **state)
{
    (void)state;
    int moved = 0;
    for (int i = 0; i < 1000; i++) {
        float x = 1 + 0.001f * (float)i, dy = 1, y, dx, ds, dz;
        const float s = x / 7.5f, g = 1 / sqrtf(36 * 7), part = s * g, there = (s - part) + part;
        rq_learned l = { s4, RQ_LEARNED_LSQ, RQ_PER_TENSOR, 1, &s, NULL, g, true };
        run(&l, 1, (const int64_t[]) { 1 }, &x, &dy, &y, &dx, &ds, &dz);
        const bool inside = rintf(x / there) <= 7;
        assert_true(dx == (inside ? 1 : 0) && y == 7 * there);
        l.compat = false;
        run(&l, 1, (const int64_t[]) { 1 }, &x, &dy, &y, &dx, &ds, &dz);
        assert_true(dx == (rintf(x / s) <= 7 ? 1 : 0) && y == 7 * s);
        moved += there != s;
    }
    assert_true(moved > 10 && moved < 990);
}

static void odd_numbers(void **state)
{
    (void)state;
    static const float at[] = { NAN, INFINITY, -INFINITY, 1e30f, -1e30f, FLT_MAX };
    static const float y_want[] = { NAN, 7, -8, 7, -8, 7 }, ds_want[] = { 0, 7, -8, 7, -8, 7 };
    const float s = 1;
    for (int rule = 0; rule < RQ_N_LEARNED_RULES; rule++)
        for (int i = 0; i < 6; i++) {
            float x = at[i], dy = 1, y, dx, ds, dz;
            rq_learned l = { s4, (rq_learned_rule)rule, RQ_PER_TENSOR, 1, &s, NULL, 1, false };
            run(&l, 1, (const int64_t[]) { 1 }, &x, &dy, &y, &dx, &ds, &dz);
            assert_true((isnan(y_want[i]) ? isnan(y) : y == y_want[i]) && dx == 0 && ds == ds_want[i]);
            assert_true(dz == (i ? -1 : 0));
            /* PyTorch: what does not fit 64 bits is the smallest number of them */
            l.compat = true;
            run(&l, 1, (const int64_t[]) { 1 }, &x, &dy, &y, &dx, &ds, &dz);
            if (rule == RQ_LEARNED_TORCH)
                assert_true(y == -8 && dx == 0 && ds == -8 && dz == -1);
        }
}

/* ---- layouts, threads, instruction sets ---- */

typedef struct answer {
    float *y, *dx, *ds, *dz;
} answer;

static void same_bits_everywhere(void **state)
{
    (void)state;
    static const struct {
        int rank, axis;
        int64_t dim[4];
    } shapes[] = { { 1, -1, { 1 } },          { 1, -1, { 100000 } },   { 3, -1, { 3, 5, 7 } },
                   { 2, 0, { 33, 1000 } },    { 2, 1, { 1000, 33 } },  { 4, 1, { 4, 37, 9, 31 } },
                   { 4, 0, { 5, 4, 3, 3 } },  { 3, 2, { 40, 9, 17 } }, { 1, 0, { 50 } },
                   { 3, 1, { 2, 3, 20000 } }, { 2, 0, { 0, 5 } },      { 2, 1, { 5, 0 } },
                   { 4, 3, { 70, 1, 70, 5 } } };
    static const char *const level[] = { "scalar", "avx2", NULL };
    rq_rng rng;
    rq_rng_seed(&rng, 11);
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        const rq_shape shape = rq_shape_of(shapes[k].rank, shapes[k].dim);
        const int64_t n = rq_shape_count(&shape), c = shapes[k].axis < 0 ? 1 : shape.dim[shapes[k].axis];
        float *x = calloc((size_t)n + 1, sizeof *x), *dy = calloc((size_t)n + 1, sizeof *dy);
        float *s = calloc((size_t)c + 1, sizeof *s), *z = calloc((size_t)c + 1, sizeof *z);
        float *buf[2], *sum[4], *mix[3];
        for (int i = 0; i < 2; i++)
            buf[i] = calloc((size_t)n + 1, sizeof(float));
        for (int i = 0; i < 4; i++)
            sum[i] = calloc((size_t)c + 1, sizeof(float));
        for (int i = 0; i < 3; i++) /* two apart, last axis first */
            mix[i] = calloc(2 * (size_t)n + 1, sizeof(float));
        for (int64_t i = 0; i < n; i++)
            x[i] = rq_rng_below(&rng, 4) ? 6 * (rq_rng_f32(&rng) - 0.5f) : (float)rq_rng_below(&rng, 20) / 8 - 1;
        for (int64_t i = 0; i < n; i++)
            dy[i] = rq_rng_f32(&rng) - 0.5f;
        for (int64_t i = 0; i < c; i++)
            s[i] = rq_rng_below(&rng, 2) ? 0.25f : 0.01f + 0.1f * rq_rng_f32(&rng), z[i] = 8 * rq_rng_f32(&rng);
        for (int form = 0; form < 3; form++) {
            const rq_learned l = {
                s4, form == 2 ? RQ_LEARNED_LSQ : RQ_LEARNED_TORCH, shapes[k].axis, c, s, z, 0.75f, form == 1
            };
            const rq_strided vx = rq_strided_floats(x, &shape), vdy = rq_strided_floats(dy, &shape);
            const rq_strided vdx = rq_strided_floats(buf[0], &shape);
            rq_err err = { 0 };
            if (rq_learned_quantize_backward(NULL, &vdx, sum[0], sum[1], &vdy, &vx, &l, &err))
                fail_msg("%s", err.text);
            /* the transposed, gapped copies of all three operands */
            rq_shape turned = { .rank = shape.rank };
            int axis[RQ_MAX_RANK];
            for (int i = 0; i < shape.rank; i++)
                turned.dim[i] = shape.dim[shape.rank - 1 - i], axis[i] = shape.rank - 1 - i;
            rq_strided m[3];
            for (int i = 0; i < 3; i++) {
                m[i] = rq_strided_floats(mix[i], &turned);
                for (int a = 0; a < turned.rank; a++)
                    m[i].stride[a] *= 2;
                m[i] = rq_strided_permute(&m[i], axis);
            }
            for (int64_t i = 0; i < n; i++) {
                int64_t rest = i, at = 0;
                for (int a = shape.rank - 1; a >= 0; a--)
                    at += rest % shape.dim[a] * m[0].stride[a], rest /= shape.dim[a];
                mix[0][at] = x[i], mix[1][at] = dy[i];
            }
            for (int v = 0; v < 6; v++) {
                rq_exec *e = NULL;
                if (level[v % 3])
                    setenv("RQ_CPU", level[v % 3], 1);
                const rq_status made = rq_exec_create(&e, 1 + v / 3, &err);
                unsetenv("RQ_CPU");
                if (made) /* this machine lacks the level */
                    continue;
                memcpy(buf[1], dy, (size_t)n * sizeof *dy); /* in place */
                const rq_strided in = rq_strided_floats(buf[1], &shape);
                assert_int_equal(rq_learned_quantize_backward(e, &in, sum[2], sum[3], &in, &vx, &l, &err), RQ_OK);
                assert_memory_equal(buf[1], buf[0], (size_t)n * sizeof *dy);
                assert_memory_equal(sum[2], sum[0], (size_t)c * sizeof *s);
                assert_memory_equal(sum[3], sum[1], (size_t)c * sizeof *s);
                assert_int_equal(rq_learned_quantize_backward(e, NULL, sum[2], NULL, &vdy, &vx, &l, &err), RQ_OK);
                assert_memory_equal(sum[2], sum[0], (size_t)c * sizeof *s);
                assert_int_equal(rq_learned_quantize_backward(e, &m[2], sum[2], sum[3], &m[1], &m[0], &l, &err), RQ_OK);
                assert_memory_equal(sum[2], sum[0], (size_t)c * sizeof *s);
                assert_memory_equal(sum[3], sum[1], (size_t)c * sizeof *s);
                for (int64_t i = 0; i < n; i++) {
                    int64_t rest = i, at = 0;
                    for (int a = shape.rank - 1; a >= 0; a--)
                        at += rest % shape.dim[a] * m[2].stride[a], rest /= shape.dim[a];
                    assert_memory_equal(mix[2] + at, buf[0] + i, sizeof(float));
                }
                rq_exec_destroy(e);
            }
        }
        free(x), free(dy), free(s), free(z);
        for (int i = 0; i < 2; i++)
            free(buf[i]);
        for (int i = 0; i < 4; i++)
            free(sum[i]);
        for (int i = 0; i < 3; i++)
            free(mix[i]);
    }
}

static void what_does_not_fit_is_said(void **state)
{
    (void)state;
    float x[6] = { 0 }, s[3] = { 1, 1, 1 }, bad[3] = { 1, 0, 1 }, z[3] = { 0, NAN, 0 };
    const rq_shape shape = rq_shape_of(2, (const int64_t[]) { 2, 3 });
    const rq_strided v = rq_strided_floats(x, &shape);
    const struct {
        rq_learned l;
        rq_status want;
        const char *text;
    } cases[] = {
        { { s8, RQ_LEARNED_TORCH, 1, 2, s, NULL, 1, false },
          RQ_BAD_SHAPE,
          "2 scales where a tensor of shape [2,3] has 3" },
        { { s8, RQ_LEARNED_TORCH, 2, 3, s, NULL, 1, false }, RQ_BAD_SHAPE, "axis 2" },
        { { s8, RQ_LEARNED_TORCH, 1, 3, bad, NULL, 1, false }, RQ_NUMERIC, "scale 1 is 0" },
        { { s8, RQ_LEARNED_LSQ, 1, 3, s, z, 1, false }, RQ_NUMERIC, "zero point 1 is" },
        { { { RQ_DTYPE_F8E4M3FN, 0, 0 }, RQ_LEARNED_LSQ, 1, 3, s, NULL, 1, false }, RQ_BAD_DTYPE, "integer type" },
        { { s8, RQ_N_LEARNED_RULES, 1, 3, s, NULL, 1, false }, RQ_BAD_ARG, "rule" },
        { { s8, RQ_LEARNED_TORCH, 1, 3, NULL, NULL, 1, false }, RQ_BAD_ARG, "3 scales expected, but there are none" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rq_err err = { 0 };
        assert_int_equal(rq_learned_quantize(NULL, &v, &v, &cases[i].l, &err), cases[i].want);
        if (!strstr(err.text, cases[i].text))
            fail_msg("'%s' lacks '%s'", err.text, cases[i].text);
        assert_int_equal(rq_learned_quantize_backward(NULL, &v, NULL, NULL, &v, &v, &cases[i].l, NULL), cases[i].want);
    }
    const rq_strided other = rq_strided_vector(x, 6);
    const rq_learned l = { s8, RQ_LEARNED_LSQ, RQ_PER_TENSOR, 1, s, NULL, 1, false };
    assert_int_equal(rq_learned_quantize_backward(NULL, &v, NULL, NULL, &other, &v, &l, NULL), RQ_BAD_SHAPE);
    rq_learned forgotten = { s8, RQ_LEARNED_LSQ, 1, 3, s, NULL, 0, false }; /* would learn nothing */
    float ds[3], dz[3];
    assert_int_equal(rq_learned_quantize_backward(NULL, NULL, ds, NULL, &v, &v, &forgotten, NULL), RQ_BAD_ARG);
    assert_int_equal(rq_learned_quantize_backward(NULL, NULL, NULL, dz, &v, &v, &forgotten, NULL), RQ_BAD_ARG);
    assert_int_equal(rq_learned_quantize_backward(NULL, &v, NULL, NULL, &v, &v, &forgotten, NULL), RQ_OK);
    forgotten.compat = true;
    assert_int_equal(rq_learned_quantize_backward(NULL, NULL, ds, dz, &v, &v, &forgotten, NULL), RQ_OK);
    rq_strided nowhere = v, unknown = v;
    nowhere.data = NULL;
    unknown.shape.dim[0] = -1;
    assert_int_equal(rq_learned_quantize_backward(NULL, &v, NULL, NULL, &nowhere, &v, &l, NULL), RQ_BAD_ARG);
    assert_int_equal(rq_learned_quantize_backward(NULL, &v, NULL, NULL, &v, &nowhere, &l, NULL), RQ_BAD_ARG);
    assert_int_equal(rq_learned_quantize_backward(NULL, NULL, NULL, NULL, &unknown, &unknown, &l, NULL), RQ_BAD_SHAPE);
    rq_strided f64 = v;
    f64.dtype = RQ_DTYPE_F64;
    assert_int_equal(rq_learned_quantize(NULL, &f64, &f64, &l, NULL), RQ_BAD_DTYPE);
}

static void memory_may_run_out(void **state)
{
    (void)state;
    float x[6] = { 0 }, dx[6], ds[3], s[3] = { 1, 1, 1 };
    const rq_shape shape = rq_shape_of(2, (const int64_t[]) { 2, 3 });
    const rq_strided v = rq_strided_floats(x, &shape), vdx = rq_strided_floats(dx, &shape);
    const rq_learned l = { u8, RQ_LEARNED_LSQ, 1, 3, s, NULL, 1, false };
    for (int what = 0; what < 2; what++)
        for (size_t n = 1;; n++) {
            const size_t live = rq_mem_live();
            rq_err err = { 0 };
            rq_mem_fail_after(n, true);
            const rq_status got = what ? rq_learned_quantize_backward(NULL, &vdx, ds, NULL, &v, &v, &l, &err)
                                       : rq_learned_quantize(NULL, &vdx, &v, &l, &err);
            rq_mem_fail_after(0, false);
            assert_int_equal(rq_mem_live(), live);
            if (got == RQ_OK) {
                assert_true(n > 1);
                break;
            }
            assert_int_equal(got, RQ_NO_MEMORY);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torch_elements),
        cmocka_unit_test(vectors_a_and_b),
        cmocka_unit_test(vector_c),
        cmocka_unit_test(two_directions),
        cmocka_unit_test(learnable_of_core_ml),
        cmocka_unit_test(finite_differences),
        cmocka_unit_test(at_the_kinks),
        cmocka_unit_test(straight_through_at_the_kinks),
        cmocka_unit_test(straight_through_differences),
        cmocka_unit_test(channels_are_slices),
        cmocka_unit_test(sums_of_many_elements),
        cmocka_unit_test(core_ml_scales_the_gradient_through_the_scale),
        cmocka_unit_test(odd_numbers),
        cmocka_unit_test(same_bits_everywhere),
        cmocka_unit_test(what_does_not_fit_is_said),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
