/* NVIDIA's functions: the acceptance list of docs/calibration-facts.md 6 (Q1 to Q15). Its vectors: test_tensor_quant_vectors.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "quant/generators.h"
#include "quant/tensor_quant_help.h"
#include "requant/requant.h"

/* ---- the list ---- */

static rq_strided doubles(double *v, int64_t n)
{
    const rq_shape s = rq_shape_of(1, &n);
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_F64, &s, v);
    return rq_strided_of(&t);
}

static void q1_f64_with_seven_bits(void **state)
{
    (void)state;
    float b[96], f = 0.7f;
    double x[96], q[96], y[96], a = 0.7, s;
    gen_b(b, 96, 3);
    for (int i = 0; i < 96; i++)
        x[i] = (double)b[i] + 1e-9; /* not f32 numbers */
    const rq_tensor_quant_cfg c = cfg_of(7, false, true);
    const rq_strided sx = doubles(x, 96), sq = doubles(q, 96), sy = doubles(y, 96), sa = doubles(&a, 1),
                     sf = row(&f, 1), ss = doubles(&s, 1);
    assert_int_equal(rq_tensor_quant(NULL, &sq, &ss, &sx, &sa, &c, &err), RQ_OK);
    assert_true(s == 63 / 0.7);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &sa, &c, &err), RQ_OK);
    for (int i = 0; i < 96; i++) {
        const double t = rint(x[i] * (63 / 0.7)), want = t < -63 ? -63 : t > 63 ? 63 : t;
        assert_true(q[i] == want && y[i] == want / (63 / 0.7));
    }
    /* s is as precise as amax */
    assert_int_equal(rq_tensor_quant(NULL, &sq, &ss, &sx, &sf, NULL, &err), RQ_OK);
    assert_true(s == 181.42857360839844);
    assert_int_equal(rq_tensor_quant(NULL, &sq, &ss, &sx, &sa, NULL, &err), RQ_OK);
    assert_true(s == 181.42857142857142 || fabs(s - 181.42857142857142) < 1e-12);
    double wide = (double)f;
    const rq_strided sw = doubles(&wide, 1);
    assert_int_equal(rq_tensor_quant(NULL, &sq, &ss, &sx, &sw, NULL, &err), RQ_OK);
    assert_true(s == 181.42857451828164);
}

static void q2_per_tensor_codes(void **state)
{
    (void)state;
    float x[1023], q[1023], want[1023];
    gen_u(x, 1023, 1);
    const float amax = largest(x, 1023);
    for (int i = 0; i < 1023; i++)
        want[i] = reference_code(x[i], amax, 8);
    codes(q, NULL, x, 1023, amax, NULL);
    same(q, want, 1023);
}

static void q3_per_channel_codes(void **state)
{
    (void)state;
    enum { K = 15, PER = 15 * 64 * 128, ALL = K * PER };
    float *x = malloc(ALL * sizeof *x), *q = malloc(ALL * sizeof *q), amax[K];
    assert_true(x && q);
    gen_b(x, ALL, 5);
    for (int k = 0; k < K; k++)
        amax[k] = 0.7f * largest(x + k * PER, PER);
    const rq_strided sx = SHAPED(x, 15, 15, 64, 128), sq = SHAPED(q, 15, 15, 64, 128), sa = SHAPED(amax, 15, 1, 1, 1);
    assert_int_equal(rq_tensor_quant(NULL, &sq, NULL, &sx, &sa, NULL, &err), RQ_OK);
    for (int64_t i = 0; i < ALL; i++)
        assert_true(fabsf(q[i] - reference_code(x[i], amax[i / PER], 8)) <= 1);
    free(x);
    free(q);
}

static void q4_gradient_goes_through_whole(void **state)
{
    (void)state;
    enum { N = 300 };
    float x[N], dy[N], dx[N];
    const rq_tensor_quant_cfg c = cfg_of(7, false, true);
    gen_b(x, N, 8);
    gen_t(dy, N, 9);
    const float amax = largest(x, N);
    const rq_strided sx = row(x, N), sdy = row(dy, N), sdx = row(dx, N), sa = row(&amax, 1);
    assert_int_equal(rq_tensor_quant_backward(NULL, &sdx, &sdy, &sx, &sa, &c, &err), RQ_OK);
    same(dx, dy, N);
}

static void q5_unsigned(void **state)
{
    (void)state;
    enum { N = 500 };
    float x[N], y[N], q[N], want[N];
    const rq_tensor_quant_cfg c = cfg_of(8, true, true);
    gen_u(x, N, 12345);
    const float amax = 0.9f * largest(x, N);
    for (int i = 0; i < N; i++)
        want[i] = reference_code(x[i], amax, 9);
    codes(q, NULL, x, N, amax, &c);
    same(q, want, N);
    for (int i = 0; i < N; i++)
        want[i] /= 255 / amax;
    fake(y, x, N, amax, &c);
    near(y, want, N, 1e-6);

    x[123] = -1e-30f;
    const rq_strided sx = row(x, N), sy = row(y, N), sa = row(&amax, 1);
    memcpy(want, y, sizeof y);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &sa, &c, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "Negative values encountered in unsigned quantization"));
    assert_int_equal(rq_tensor_quant(NULL, &sy, NULL, &sx, &sa, &c, &err), RQ_BAD_ARG);
    assert_int_equal(rq_legacy_fake_tensor_quant(NULL, &sy, &sx, &sa, &c, &err), RQ_BAD_ARG);
    same(y, want, N); /* nothing was written */
    x[123] = -0.0f;
    x[124] = NAN;
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &sa, &c, &err), RQ_OK);
    same(y + 123, (float[]) { -0.0f, NAN }, 2);
}

static void q6_scale_too_large_for_half(void **state)
{
    (void)state;
    uint16_t h[8], out[8];
    float v[8], amax = 1e-4f;
    gen_u(v, 8, 2);
    to_f16(h, v, 8);
    const rq_strided sx = halves(h, 8), sy = halves(out, 8), sa = row(&amax, 1);
    assert_int_equal(rq_tensor_quant(NULL, &sy, NULL, &sx, &sa, NULL, &err), RQ_NUMERIC);
    assert_non_null(strstr(err.text, "scale is too large for FP16 with amax="));
    amax = 0.0019384f;
    assert_int_equal(rq_tensor_quant(NULL, &sy, NULL, &sx, &sa, NULL, &err), RQ_NUMERIC);
    amax = 0.0019389f;
    assert_int_equal(rq_tensor_quant(NULL, &sy, NULL, &sx, &sa, NULL, &err), RQ_OK);
    rq_tensor_quant_cfg c = rq_tensor_quant_defaults();
    amax = 1e-4f;
    for (int compat = 0; compat < 2; compat++) {
        c.compat = compat;
        assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &sa, &c, &err), RQ_OK);
        for (int i = 0; i < 8; i++) {
            const float y = rq_convert_f16_to_f32(out[i]);
            assert_true(isfinite(y) && (compat ? y == 0 : y > 0 || v[i] < 1e-6f));
        }
    }
}

static void q7_gradient_only_within_amax(void **state)
{
    (void)state;
    enum { N = 1023 };
    float x[N], q[N], dy[N], dx[N];
    gen_b(x, N, 11);
    const float amax = largest(x, N) / 2;
    x[17] = amax, x[18] = -amax;
    const rq_strided sx = row(x, N), sdy = row(dy, N), sdx = row(dx, N), sa = row(&amax, 1);
    for (int is_fake = 0; is_fake < 2; is_fake++) {
        if (is_fake)
            fake(q, x, N, amax, NULL);
        else
            codes(q, NULL, x, N, amax, NULL);
        for (int i = 0; i < N; i++)
            dy[i] = 2 * (q[i] - 0.5f);
        assert_int_equal(rq_tensor_quant_backward(NULL, &sdx, &sdy, &sx, &sa, NULL, &err), RQ_OK);
        for (int i = 0; i < N; i++)
            assert_true((dx[i] != 0) == (x[i] >= -amax && x[i] <= amax) && (dx[i] == 0 || dx[i] == dy[i]));
    }
}

static void q8_unsigned_full_range(void **state)
{
    (void)state;
    enum { N = 200 };
    float x[N], a[N], b[N];
    const rq_tensor_quant_cfg narrow = cfg_of(8, true, true), full = cfg_of(8, true, false);
    gen_u(x, N, 4);
    fake(a, x, N, 0.8f, &narrow);
    fake(b, x, N, 0.8f, &full);
    same(a, b, N);
    const float s = 255 / 0.8f;
    for (int i = 0; i < N; i++) {
        const float t = rintf(x[i] * s);
        b[i] = (t > 255 ? 255 : t) / s;
    }
    near(a, b, N, 1e-6);
}

static void q9_fake_against_the_reference(void **state)
{
    (void)state;
    float x[13], y[13], want[13];
    gen_b(x, 13, 21);
    const float amax = largest(x, 13);
    for (int i = 0; i < 13; i++)
        want[i] = reference_code(x[i], amax, 8) / (127 / amax);
    fake(y, x, 13, amax, NULL);
    near(y, want, 13, 1e-6);

    enum { C = 7, PER = 40, N = C * PER };
    float t[N], yt[N], wt[N], at[C];
    gen_b(t, N, 22);
    for (int c = 0; c < C; c++)
        at[c] = 0.9f * largest(t + c * PER, PER);
    for (int i = 0; i < N; i++)
        wt[i] = reference_code(t[i], at[i / PER], 8) / (127 / at[i / PER]);
    const rq_strided st = SHAPED(t, 7, 40), sy = SHAPED(yt, 7, 40), sa = SHAPED(at, 7, 1);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &st, &sa, NULL, &err), RQ_OK);
    near(yt, wt, N, 1e-2);
}

static const int some_bits[] = { 3, 4, 5, 7, 8, 11 };
static const float axis_amax[] = { 0.8f, 0.9f, 0.7f, 0.6f };

/* The formula, once more and by itself. */
static float formula(float x, float amax, const rq_tensor_quant_cfg *c)
{
    const float qmax = exp2f((float)(c->num_bits - 1 + c->is_unsigned)) - 1, s = qmax / amax;
    const float qmin = c->is_unsigned ? 0 : c->narrow_range ? -qmax : -qmax - 1;
    const float q = rintf(x * s);
    return (q < qmin ? qmin : q > qmax ? qmax : q) / s;
}

static void q10_kernels_equal_the_formula(void **state)
{
    (void)state;
    enum { N = 3 * 4 * 5 * 6 };
    float x[N], y[N], want[N];
    uint16_t h[N], hy[N];
    rq_exec *e;
    assert_int_equal(rq_exec_create(&e, 2, &err), RQ_OK);
    for (int64_t i = 0; i < COUNT(some_bits) * 4; i++) {
        const bool is_unsigned = i & 1, per_axis = i & 2;
        const rq_tensor_quant_cfg c = cfg_of(some_bits[i / 4], is_unsigned, true);
        if (is_unsigned)
            gen_u(x, N, (uint32_t)i);
        else
            gen_b(x, N, (uint32_t)i);
        for (int half = 0; half < 3; half++) { /* f32, f16, bf16 */
            for (int k = 0; k < N; k++) {
                h[k] = half == 1 ? rq_convert_f32_to_f16(x[k]) : rq_convert_f32_to_bf16(x[k]);
                const float v = half == 0   ? x[k]
                                : half == 1 ? rq_convert_f16_to_f32(h[k])
                                            : rq_convert_bf16_to_f32(h[k]);
                want[k] = formula(v, per_axis ? axis_amax[k / 30 % 4] : 0.8f, &c);
            }
            const rq_shape shape = rq_shape_of(4, (int64_t[]) { 3, 4, 5, 6 });
            const rq_dtype d = half == 0 ? RQ_DTYPE_F32 : half == 1 ? RQ_DTYPE_F16 : RQ_DTYPE_BF16;
            const rq_tensor tx = rq_tensor_view(d, &shape, half ? (void *)h : (void *)x),
                            ty = rq_tensor_view(d, &shape, half ? (void *)hy : (void *)y);
            const rq_strided sx = rq_strided_of(&tx), sy = rq_strided_of(&ty),
                             sa = per_axis ? SHAPED(axis_amax, 1, 4, 1, 1) : row(axis_amax, 1);
            for (int legacy = 0; legacy < 2; legacy++) {
                assert_int_equal(
                    (legacy ? rq_legacy_fake_tensor_quant : rq_fake_tensor_quant)(e, &sy, &sx, &sa, &c, &err), RQ_OK);
                if (!half)
                    same(y, want, N);
                for (int k = 0; half && k < N; k++)
                    assert_int_equal(hy[k],
                                     half == 1 ? rq_convert_f32_to_f16(want[k]) : rq_convert_f32_to_bf16(want[k]));
            }
        }
    }
    rq_exec_destroy(e);
}

static void q11_in_place(void **state)
{
    (void)state;
    enum { N = 777 };
    float x[N], y[N];
    uint16_t h[N], out[N];
    gen_t(x, N, 6);
    to_f16(h, x, N);
    fake(y, x, N, 0.9f, NULL);
    fake(x, x, N, 0.9f, NULL);
    same(x, y, N);
    const float amax = 0.9f;
    const rq_strided sh = halves(h, N), so = halves(out, N), sa = row(&amax, 1);
    assert_int_equal(rq_fake_tensor_quant(NULL, &so, &sh, &sa, NULL, &err), RQ_OK);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sh, &sh, &sa, NULL, &err), RQ_OK);
    assert_memory_equal(h, out, sizeof h);
}

static void q12_a_tiny_amax(void **state)
{
    (void)state;
    float x[4 * 50], y[4 * 50], sum = 0;
    static const float amax[] = { 1, 1e-26f, 0.5f, 2 };
    gen_b(x, 200, 31);
    const rq_strided sx = SHAPED(x, 4, 50), sy = SHAPED(y, 4, 50), sa = SHAPED(amax, 4, 1);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &sa, NULL, &err), RQ_OK);
    for (int i = 50; i < 100; i++)
        sum += fabsf(y[i]);
    assert_true(sum == 0 && y[0] != 0 && y[150] != 0);
}

static void q13_legacy_equals_fast(void **state)
{
    (void)state;
    enum { N = 3 * 4 * 5 * 6 };
    float x[N], a[N], b[N];
    const float one = 0.7f;
    gen_b(x, N, 41);
    const rq_strided whole = SHAPED(x, 3, 4, 5, 6), sa = SHAPED(a, 5, 4, 6, 3), sb = SHAPED(b, 5, 4, 6, 3);
    const rq_strided turned = rq_strided_permute(&whole, (int[]) { 2, 1, 3, 0 }); /* not contiguous */
    const rq_strided scalar = row(&one, 1), along = SHAPED(axis_amax, 1, 4, 1, 1), three = SHAPED(axis_amax, 4, 1, 1);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sa, &turned, &scalar, NULL, &err), RQ_OK);
    assert_int_equal(rq_legacy_fake_tensor_quant(NULL, &sb, &turned, &scalar, NULL, &err), RQ_OK);
    same(a, b, N);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sa, &turned, &along, NULL, &err), RQ_OK);
    assert_int_equal(rq_legacy_fake_tensor_quant(NULL, &sb, &turned, &three, NULL, &err), RQ_OK);
    same(a, b, N);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sa, &turned, &three, NULL, &err), RQ_BAD_SHAPE);
    /* several axes, and a row along the last one, which only the legacy function takes for that */
    float many[5 * 3], last[3] = { 0.5f, 0.6f, 0.7f };
    gen_u(many, 15, 42);
    const rq_strided sm = SHAPED(many, 5, 1, 1, 3), sl = row(last, 3);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sa, &turned, &sm, NULL, &err), RQ_OK);
    for (int i = 0; i < N; i++) {
        const rq_tensor_quant_cfg c = rq_tensor_quant_defaults();
        const int s = i / 72, r = i % 72 / 18, t = i % 18 / 3, u = i % 3; /* of turned */
        const float v = x[((u * 4 + r) * 5 + s) * 6 + t], want = formula(v, many[s * 3 + u], &c);
        assert_true(a[i] == want);
    }
    assert_int_equal(rq_fake_tensor_quant(NULL, &sa, &turned, &sl, NULL, &err), RQ_BAD_SHAPE);
    assert_int_equal(rq_legacy_fake_tensor_quant(NULL, &sb, &turned, &sl, NULL, &err), RQ_OK);
    rq_tensor_quant_cfg c = rq_tensor_quant_defaults();
    c.axis = 3;
    assert_int_equal(rq_fake_tensor_quant(NULL, &sa, &turned, &sl, &c, &err), RQ_OK);
    same(a, b, N);
    /* f16 */
    uint16_t h[N], ha[N], hb[N];
    to_f16(h, x, N);
    const rq_shape shape = rq_shape_of(4, (int64_t[]) { 3, 4, 5, 6 });
    const rq_tensor th = rq_tensor_view(RQ_DTYPE_F16, &shape, h), ta = rq_tensor_view(RQ_DTYPE_F16, &shape, ha),
                    tb = rq_tensor_view(RQ_DTYPE_F16, &shape, hb);
    const rq_strided s = rq_strided_of(&th), oa = rq_strided_of(&ta), ob = rq_strided_of(&tb);
    assert_int_equal(rq_fake_tensor_quant(NULL, &oa, &s, &along, NULL, &err), RQ_OK);
    assert_int_equal(rq_legacy_fake_tensor_quant(NULL, &ob, &s, &along, NULL, &err), RQ_OK);
    assert_memory_equal(ha, hb, sizeof ha);
}

static void q14_affine(void **state)
{
    (void)state;
    float x[256], y[256], dy[256], dx[256];
    for (int i = 0; i < 256; i++)
        x[i] = (float)(i - 128);
    const rq_strided sx = row(x, 256), sy = row(y, 256), sdy = row(dy, 256), sdx = row(dx, 256);
    assert_int_equal(rq_fake_affine_tensor_quant(NULL, &sy, &sx, -128, 127, 8, &err), RQ_OK);
    near(y, x, 256, 1e-6);
    assert_int_equal(rq_fake_affine_tensor_quant(NULL, &sy, &sx, -64, 63.5f, 8, &err), RQ_OK);
    for (int i = 0; i < 256; i++)
        dy[i] = 2 * (y[i] - 0.25f);
    assert_int_equal(rq_fake_affine_tensor_quant_backward(NULL, &sdx, &sdy, &sx, -64, 63.5f, &err), RQ_OK);
    for (int i = 0; i < 256; i++)
        assert_true((dx[i] != 0) == (x[i] >= -64 && x[i] <= 63.5f));
}

static void q15_e4m3(void **state)
{
    (void)state;
    static const float x[] = { -2, -1.8f, -1.6f, -1.4f, -1.2f, -1, -0.8f, -0.6f, -0.4f, -0.2f,
                               0,  0.2f,  0.4f,  0.6f,  0.8f,  1,  1.2f,  1.4f,  1.6f,  1.8f };
    static const float plain[] = { -2, -1.75f,  -1.625f, -1.375f, -1.25f,  -1, -0.8125f, -0.625f, -0.4062f, -0.2031f,
                                   0,  0.2031f, 0.4062f, 0.625f,  0.8125f, 1,  1.25f,    1.375f,  1.625f,   1.75f };
    static const float scaled[] = { -2,       -1.8571f, -1.5714f, -1.4286f, -1.1429f, -1,      -0.7857f,
                                    -0.5714f, -0.3929f, -0.1964f, 0,        0.1964f,  0.3929f, 0.5714f,
                                    0.7857f,  1,        1.1429f,  1.4286f,  1.5714f,  1.8571f };
    static const float in[] = {
        0x1p-10f, 1.5f * 0x1p-10f, 1.5f * 0x1p-9f, 0.1f,      0.2f, 1.0625f, 1.1875f, 17, 18, 19, 447, 464,
        1e4f,     -0.3f,           INFINITY,       -INFINITY, NAN,  5e-8f
    };
    static const float out[] = { 0,  0x1p-9f, 0x1p-8f, 0.1015625f, 0.203125f, 1,   1.25f, 16,  18,
                                 20, 448,     448,     448,        -0.3125f,  448, -448,  NAN, 0 };
    const float two = 2, zero = 0;
    float y[20], dy[20], dx[20];
    rq_exec *e;
    assert_int_equal(rq_exec_create(&e, 2, &err), RQ_OK);
    const rq_strided sx = SHAPED(x, 4, 5), sy = SHAPED(y, 4, 5), sa = row(&two, 1), sz = row(&zero, 1);
    assert_int_equal(rq_scaled_e4m3(e, &sy, &sx, NULL, NULL, &err), RQ_OK);
    near(y, plain, 20, 1e-4);
    assert_int_equal(rq_scaled_e4m3(NULL, &sy, &sx, &sa, NULL, &err), RQ_OK);
    near(y, scaled, 20, 1e-4);
    const rq_strided turned = rq_strided_permute(&sx, (int[]) { 1, 0 }), ty = rq_strided_permute(&sy, (int[]) { 1, 0 });
    memset(y, 0, sizeof y);
    assert_int_equal(rq_scaled_e4m3(NULL, &ty, &turned, &sa, NULL, &err), RQ_OK);
    near(y, scaled, 20, 1e-4);
    const rq_strided si = row(in, COUNT(in)), so = row(y, COUNT(in));
    assert_int_equal(rq_scaled_e4m3(NULL, &so, &si, NULL, NULL, &err), RQ_OK);
    same(y, out, COUNT(in));
    assert_int_equal(rq_scaled_e4m3(NULL, &sy, &sx, &sz, NULL, &err), RQ_OK);
    for (int i = 0; i < 20; i++)
        assert_true(y[i] == 0); /* 0 * inf is not NaN here */
    gen_b(dy, 20, 3);
    const rq_strided sdy = SHAPED(dy, 4, 5), sdx = SHAPED(dx, 4, 5);
    assert_int_equal(rq_scaled_e4m3_backward(e, &sdx, &sdy, &sx, NULL, NULL, &err), RQ_OK);
    same(dx, dy, 20);
    rq_scaled_e4m3_cfg fp8 = rq_scaled_e4m3_defaults();
    fp8.exponent_bits = 5, fp8.mantissa_bits = 2;
    assert_int_equal(rq_scaled_e4m3(NULL, &sy, &sx, NULL, &fp8, &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "Only support E=4 & M=3 for now"));
    assert_int_equal(rq_scaled_e4m3_backward(NULL, &sdx, &sdy, &sx, NULL, &fp8, &err), RQ_UNSUPPORTED);
    rq_exec_destroy(e);
}

/* The numbers of ModelOpt 0.47 with PyTorch 2.7 on the CPU. */
static void e4m3_of_modelopt(void **state)
{
    (void)state;
    enum { N = 18 };
    static const float x[N] = { 0,     -0.0f,    5e-8f,     -5e-8f, 0x1p-10f,   1.5f * 0x1p-10f, -0.4f * 0x1p-9f,
                                -0.3f, 17,       447,       464,    464.00003f, -464.5f,         480,
                                1e4f,  INFINITY, -INFINITY, NAN };
    static const float plain[N] = { 0,   -0.0f, 0,   -0.0f, 0,   0x1p-9f, -0.0f, -0x1.4p-2f, 16,
                                    448, 448,   NAN, NAN,   NAN, NAN,     NAN,   NAN,        NAN };
    static const float two[N] = {
        0, -0.0f, 0, -0.0f, 0x1p-10f, 0x1.6db6dcp-10f, -0x1.924926p-11f, -0x1.24924ap-2f, 2, 2, 2, 2, -2,
        2, 2,     2, -2,    NAN
    };
    static const float one[N] = {
        0, -0.0f, 0, -0.0f, 0x1p-10f, 0x1.6db6dcp-10f, -0x1.924926p-11f, -0x1.24924ap-2f, 1, 1, 1, 1, -1,
        1, 1,     1, -1,    NAN
    };
    float y[N], dy[N], dx[N], amax = 2;
    const rq_strided sx = row(x, N), sy = row(y, N), sdy = row(dy, N), sdx = row(dx, N), sa = row(&amax, 1);
    rq_scaled_e4m3_cfg c = rq_scaled_e4m3_defaults();
    c.modelopt = true;
    for (int i = 0; i < N; i++)
        dy[i] = (float)(i + 1);
    assert_int_equal(rq_scaled_e4m3(NULL, &sy, &sx, NULL, &c, &err), RQ_OK);
    same(y, plain, N);
    assert_int_equal(rq_scaled_e4m3_backward(NULL, &sdx, &sdy, &sx, NULL, &c, &err), RQ_OK);
    same(dx, dy, N);
    assert_int_equal(rq_scaled_e4m3(NULL, &sy, &sx, &sa, &c, &err), RQ_OK);
    same(y, two, N);
    assert_int_equal(rq_scaled_e4m3_backward(NULL, &sdx, &sdy, &sx, &sa, &c, &err), RQ_OK);
    same(dx, (float[N]) { 1, 2, 3, 4, 5, 6, 7, 8 }, N);
    for (int i = 0; i < 2; i++) { /* amax up to 2^-24 scales as 1 does */
        amax = i ? 0x1p-24f : 0;
        assert_int_equal(rq_scaled_e4m3(NULL, &sy, &sx, &sa, &c, &err), RQ_OK);
        same(y, one, N);
    }
    assert_int_equal(rq_scaled_e4m3_backward(NULL, &sdx, &sdy, &sx, &sa, &c, &err), RQ_OK);
    same(dx, (float[N]) { 1, 2, 3, 4 }, N); /* but lets gradients through as itself */
    double wide[3] = { -0.0, 464.5, NAN }, back[3], dwide[3] = { 1, 2, 3 };
    const rq_shape three = rq_shape_of(1, (int64_t[]) { 3 });
    const rq_tensor tw = rq_tensor_view(RQ_DTYPE_F64, &three, wide), tb = rq_tensor_view(RQ_DTYPE_F64, &three, back),
                    td = rq_tensor_view(RQ_DTYPE_F64, &three, dwide);
    const rq_strided sw = rq_strided_of(&tw), sb = rq_strided_of(&tb), sd = rq_strided_of(&td);
    assert_int_equal(rq_scaled_e4m3(NULL, &sb, &sw, NULL, &c, &err), RQ_OK);
    assert_true(back[0] == 0 && signbit(back[0]) && isnan(back[1]) && isnan(back[2]));
    assert_int_equal(rq_scaled_e4m3_backward(NULL, &sb, &sd, &sw, NULL, &c, &err), RQ_OK);
    assert_true(back[0] == 1 && back[1] == 2 && back[2] == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(q1_f64_with_seven_bits),
        cmocka_unit_test(q2_per_tensor_codes),
        cmocka_unit_test(q3_per_channel_codes),
        cmocka_unit_test(q4_gradient_goes_through_whole),
        cmocka_unit_test(q5_unsigned),
        cmocka_unit_test(q6_scale_too_large_for_half),
        cmocka_unit_test(q7_gradient_only_within_amax),
        cmocka_unit_test(q8_unsigned_full_range),
        cmocka_unit_test(q9_fake_against_the_reference),
        cmocka_unit_test(q10_kernels_equal_the_formula),
        cmocka_unit_test(q11_in_place),
        cmocka_unit_test(q12_a_tiny_amax),
        cmocka_unit_test(q13_legacy_equals_fast),
        cmocka_unit_test(q14_affine),
        cmocka_unit_test(q15_e4m3),
        cmocka_unit_test(e4m3_of_modelopt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
