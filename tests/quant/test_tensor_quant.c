/* NVIDIA's functions: the vectors and the acceptance list of docs/calibration-facts.md 6, by number. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "kernels/quantize.h"
#include "quant/generators.h"
#include "requant/requant.h"
#include "tensor/convert.h"

#define COUNT(a) ((int64_t)(sizeof(a) / sizeof(a)[0]))

static rq_err err;

static rq_strided row(const float *x, int64_t n)
{
    return rq_strided_vector((float *)(uintptr_t)x, n);
}

static rq_strided shaped(const float *x, int rank, const int64_t *dim)
{
    const rq_shape s = rq_shape_of(rank, dim);
    return rq_strided_floats((float *)(uintptr_t)x, &s);
}

#define SHAPED(x, ...)                                                                                                 \
    shaped(x, (int)(sizeof((int64_t[]) { __VA_ARGS__ }) / sizeof(int64_t)), (const int64_t[]) { __VA_ARGS__ })

static rq_tensor_quant_cfg cfg_of(int bits, bool is_unsigned, bool narrow)
{
    rq_tensor_quant_cfg c = rq_tensor_quant_defaults();
    c.num_bits = bits;
    c.is_unsigned = is_unsigned;
    c.narrow_range = narrow;
    return c;
}

static void codes(float *q, float *s, const float *x, int64_t n, float amax, const rq_tensor_quant_cfg *c)
{
    const rq_strided sx = row(x, n), sq = row(q, n), sa = row(&amax, 1), ss = row(s, 1);
    assert_int_equal(rq_tensor_quant(NULL, &sq, s ? &ss : NULL, &sx, &sa, c, &err), RQ_OK);
}

static void fake(float *y, const float *x, int64_t n, float amax, const rq_tensor_quant_cfg *c)
{
    const rq_strided sx = row(x, n), sy = row(y, n), sa = row(&amax, 1);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &sa, c, &err), RQ_OK);
}

static float largest(const float *x, int64_t n)
{
    float m = 0;
    for (int64_t i = 0; i < n; i++)
        m = fmaxf(m, fabsf(x[i]));
    return m;
}

/* Bits, but that any NaN equals any NaN. */
static void same(const float *got, const float *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("[%lld]: got %a, want %a", (long long)i, (double)got[i], (double)want[i]);
}

static void near(const float *got, const float *want, int64_t n, double tolerance)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance))
            fail_msg("[%lld]: got %.9g, want %.9g", (long long)i, (double)got[i], (double)want[i]);
}

/* The toolkit's own reference: clips before it rounds, to +-(2^(bits-1) - 1). */
static float reference_code(float x, float amax, int bits)
{
    const float most = (float)((1 << (bits - 1)) - 1), v = x * (most / amax);
    return rintf(v < -most ? -most : v > most ? most : v);
}

/* ---- vectors ---- */

static const float tv1[] = { 0x1.f6a3c4p-1f, 0x1.c25bcap-1f, 0x1.fbfa3ap-1f, 0x1.d82204p-2f, 0x1.54da4p-4f,
                             0x1.6d6d48p-3f, 0x1.783ff8p-2f, 0x1.22a2fcp-1f, 0x1.59b594p-2f, 0x1.b2111p-3f };

static void tv1_the_example_of_the_documentation(void **state)
{
    (void)state;
    static const float q_want[] = { 126, 113, 127, 59, 11, 23, 47, 73, 43, 27 };
    static const float y_want[] = { 0x1.f7fa48p-1f, 0x1.c3fadep-1f, 0x1.fbfa3cp-1f, 0x1.d7faa4p-2f, 0x1.5ffc02p-4f,
                                    0x1.6ffbd2p-3f, 0x1.77fbbcp-2f, 0x1.23fcbp-1f,  0x1.57fc18p-2f, 0x1.affb18p-3f };
    float q[10], y[10], s;
    const float amax = largest(tv1, 10);
    codes(q, &s, tv1, 10, amax, NULL);
    fake(y, tv1, 10, amax, NULL);
    same(q, q_want, 10);
    same(y, y_want, 10);
    same(&s, &(float) { 0x1.0002e8p+7f }, 1);
    assert_true(y[2] > amax); /* one ulp: division by a rounded s */
}

static void tv2_ties_and_clipping(void **state)
{
    (void)state;
    static const float x[] = { 0.5f,   1.5f,   2.5f, -0.5f,   -1.5f,   -2.5f, 126.5f,  127.4f,
                               127.5f, 127.6f, 128,  -127.5f, -127.6f, -128,  -128.5f, -300 };
    static const float narrow[] = { 0, 2, 2, -0.0f, -2, -2, 126, 127, 127, 127, 127, -127, -127, -127, -127, -127 };
    static const float full[] = { 0, 2, 2, -0.0f, -2, -2, 126, 127, 127, 127, 127, -128, -128, -128, -128, -128 };
    static const float positive[] = { 0, 0.5f, 1.5f, 2.5f, 254.4f, 254.5f, 255, 300 };
    static const float from_0[] = { 0, 0, 2, 2, 254, 254, 255, 255 };
    const rq_tensor_quant_cfg f = cfg_of(8, false, false), u = cfg_of(8, true, true);
    float q[16];
    codes(q, NULL, x, 16, 127, NULL);
    same(q, narrow, 16);
    codes(q, NULL, x, 16, 127, &f);
    same(q, full, 16);
    codes(q, NULL, positive, 8, 255, &u);
    same(q, from_0, 8);
}

static void tv3_widths(void **state)
{
    (void)state;
    static const float x[] = { -1, -0.75f, -0.5f, -0.3f, -0.1f, 0, 0.1f, 0.3f, 0.5f, 0.75f, 1 };
    static const struct row {
        int bits;
        float q[6]; /* of the first six; the rest mirrors them */
    } rows[] = {
        { 2, { -1, -1, -0.0f, -0.0f, -0.0f, 0 } },
        { 3, { -3, -2, -2, -1, -0.0f, 0 } },
        { 4, { -7, -5, -4, -2, -1, 0 } },
        { 7, { -63, -47, -32, -19, -6, 0 } },
        { 8, { -127, -95, -64, -38, -13, 0 } },
        { 11, { -1023, -767, -512, -307, -102, 0 } },
        { 16, { -32767, -24575, -16384, -9830, -3277, 0 } },
    };
    for (int64_t r = 0; r < COUNT(rows); r++) {
        const rq_tensor_quant_cfg c = cfg_of(rows[r].bits, false, true);
        float q[11], want[11];
        for (int i = 0; i < 11; i++)
            want[i] = i < 6 ? rows[r].q[i] : -rows[r].q[10 - i];
        codes(q, NULL, x, 11, 1, &c);
        same(q, want, 11);
    }
}

static void tv4_per_channel(void **state)
{
    (void)state;
    static const float s_want[] = { 183.594482f, 147.876343f, 312.029388f };
    static const float q_want[] = { 127, -125, 102, 70, 78, -47, 52, -127, -127, 121, -34, -10 };
    static const float y_want[] = { 0.691741943f,  -0.68084836f,  0.555572271f,  0.381275088f,
                                    0.527467728f,  -0.317833126f, 0.351645172f,  -0.858825684f,
                                    -0.407012939f, 0.387783974f,  -0.108964093f, -0.0320482627f };
    static const float four[] = { 0.736136317f,  -0.736136317f, 0.613446951f,  0.368068159f,
                                  0.490757555f,  -0.368068159f, 0.368068159f,  -0.858825684f,
                                  -0.368068159f, 0.368068159f,  -0.122689389f, -0.0f };
    static const float affine[] = { 0.690196097f,  -0.68235296f,  0.556862772f, 0.384313762f,
                                    0.525490224f,  -0.313725501f, 0.352941185f, -0.752941251f,
                                    -0.407843173f, 0.384313762f,  -0.10980393f, -0.0313725509f };
    static const float fp8[] = {
        0.696428537f, -0.696428537f, 0.535714269f,  0.37499997f, 0.535714269f,  -0.321428537f,
        0.348214269f, -0.857142806f, -0.401785702f, 0.37499997f, -0.107142851f, -0.0334821418f
    };
    static const float amax[] = { 0.691741943f, 0.858825684f, 0.407012939f };
    float x[12], q[12], y[12], s[3];
    gen_b(x, 12, 7);
    near(x, (float[]) { 0.691741943f, -0.680786133f, 0.556777954f, 0.382141113f, 0.524154663f, -0.314941406f }, 6,
         1e-9);
    const rq_strided sx = SHAPED(x, 3, 4), sq = SHAPED(q, 3, 4), sy = SHAPED(y, 3, 4), ss = row(s, 3),
                     keep = SHAPED(amax, 3, 1), along = row(amax, 3);
    assert_int_equal(rq_tensor_quant(NULL, &sq, &ss, &sx, &keep, NULL, &err), RQ_OK);
    same(q, q_want, 12);
    same(s, s_want, 3);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &keep, NULL, &err), RQ_OK);
    near(y, y_want, 12, 1e-9);
    rq_tensor_quant_cfg c = rq_tensor_quant_defaults();
    c.axis = 0;
    memset(y, 0, sizeof y);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &along, &c, &err), RQ_OK);
    near(y, y_want, 12, 1e-9);
    c.axis = -2;
    memset(y, 0, sizeof y);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &along, &c, &err), RQ_OK);
    near(y, y_want, 12, 1e-9);

    c = cfg_of(4, false, true);
    fake(y, x, 12, 0.858825684f, &c);
    near(y, four, 12, 1e-9);
    assert_int_equal(rq_fake_affine_tensor_quant(NULL, &sy, &sx, -0.75f, 1.25f, 8, &err), RQ_OK);
    near(y, affine, 12, 1e-9);
    const float one = 1.5f;
    const rq_strided so = row(&one, 1);
    assert_int_equal(rq_scaled_e4m3(NULL, &sy, &sx, &so, NULL, &err), RQ_OK);
    near(y, fp8, 12, 1e-9);
}

static void tv5_four_bits_unsigned_by_axis(void **state)
{
    (void)state;
    static const float q_want[] = { 0, 0, 13, 15, 15, 2, 8, 9, 11, 15, 1, 14 };
    static const float s_want[] = { 23.625618f, 16.4829826f, 19.1460762f };
    const rq_tensor_quant_cfg c = cfg_of(4, true, true);
    float x[12], q[12], s[3], amax[3];
    gen_u(x, 12, 12345);
    for (int r = 0; r < 3; r++)
        amax[r] = largest(x + 4 * r, 4);
    const rq_strided sx = SHAPED(x, 3, 4), sq = SHAPED(q, 3, 4), ss = row(s, 3), sa = SHAPED(amax, 3, 1);
    assert_int_equal(rq_tensor_quant(NULL, &sq, &ss, &sx, &sa, &c, &err), RQ_OK);
    same(q, q_want, 12);
    same(s, s_want, 3);
}

static void tv6_a_channel_of_zeros(void **state)
{
    (void)state;
    static const float x[] = { 1, -2, 3, 4 }, amax[] = { 2, 0 };
    float q[4], y[4], s[2];
    const rq_strided sx = SHAPED(x, 2, 2), sq = SHAPED(q, 2, 2), sy = SHAPED(y, 2, 2), ss = row(s, 2),
                     sa = SHAPED(amax, 2, 1);
    assert_int_equal(rq_tensor_quant(NULL, &sq, &ss, &sx, &sa, NULL, &err), RQ_OK);
    same(q, (float[]) { 64, -127, 0, 0 }, 4); /* 63.5 is a tie */
    same(s, (float[]) { 63.5f, 1 }, 2);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &sa, NULL, &err), RQ_OK);
    same(y, (float[]) { 64 / 63.5f, -2, 0, 0 }, 4);
}

static void amax_at_the_edge_of_nothing(void **state)
{
    (void)state;
    static const float x[] = { 1, -1, 0, -0.0f, INFINITY, -INFINITY, NAN };
    float y[7], q[7], s;
    for (int i = 0; i < 3; i++) { /* up to the smallest number of f16: zeros, and s is 1 */
        static const float tiny[] = { 0, 1e-30f, 0x1p-24f };
        fake(y, x, 7, tiny[i], NULL);
        codes(q, &s, x, 7, tiny[i], NULL);
        same(y, (float[]) { 0, -0.0f, 0, -0.0f, NAN, NAN, NAN }, 7);
        same(q, y, 7);
        same(&s, &(float) { 1 }, 1);
    }
    codes(q, &s, x, 7, 5.96046519e-08f, NULL);
    same(q, (float[]) { 127, -127, 0, -0.0f, 127, -127, NAN }, 7);
    same(&s, &(float) { 127 / 5.96046519e-08f }, 1); /* the first number above 2^-24 */
    fake(y, x, 7, NAN, NULL);
    for (int i = 0; i < 7; i++)
        assert_true(isnan(y[i]));
    codes(q, &s, x, 4, INFINITY, NULL);
    same(q, (float[]) { 0, -0.0f, 0, -0.0f }, 4);
    same(&s, &(float) { 0 }, 1);
}

static void to_f16(uint16_t *h, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        h[i] = rq_convert_f32_to_f16(x[i]);
}

static rq_strided halves(uint16_t *h, int64_t n)
{
    const rq_shape s = rq_shape_of(1, &n);
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_F16, &s, h);
    return rq_strided_of(&t);
}

static void half_precision_example(void **state)
{
    (void)state;
    static const float x[] = { 0.1f, 0.2f, 0.3f, 0.7f, -0.55f, 1 }, q_want[] = { 18, 36, 54, 127, -100, 127 };
    static const float y_want[] = { 0.0992431640625f, 0.198486328125f, 0.297607421875f,
                                    0.7001953125f,    -0.55126953125f, 0.7001953125f };
    uint16_t h[6], out[6];
    const float amax = 0.7f;
    rq_tensor_quant_cfg c = rq_tensor_quant_defaults();
    to_f16(h, x, 6);
    const rq_strided sx = halves(h, 6), sy = halves(out, 6), sa = row(&amax, 1);
    assert_int_equal(rq_tensor_quant(NULL, &sy, NULL, &sx, &sa, &c, &err), RQ_OK);
    for (int i = 0; i < 6; i++)
        assert_true(rq_convert_f16_to_f32(out[i]) == q_want[i]);
    c.compat = true;
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &sa, &c, &err), RQ_OK);
    for (int i = 0; i < 6; i++)
        assert_true(rq_convert_f16_to_f32(out[i]) == y_want[i]);
    /* f32 throughout, rounded once, differs for about a third of i / 91: 23 of 64 */
    uint16_t ramp[64], a[64], b[64];
    float v[64];
    for (int i = 0; i < 64; i++)
        v[i] = (float)i / 91;
    to_f16(ramp, v, 64);
    const rq_strided sr = halves(ramp, 64), so = halves(a, 64), sb = halves(b, 64);
    assert_int_equal(rq_fake_tensor_quant(NULL, &so, &sr, &sa, &c, &err), RQ_OK);
    c.compat = false;
    assert_int_equal(rq_fake_tensor_quant(NULL, &sb, &sr, &sa, &c, &err), RQ_OK);
    int differ = 0;
    for (int i = 0; i < 64; i++)
        differ += a[i] != b[i];
    assert_int_equal(differ, 23);
}

static void gradient_example(void **state)
{
    (void)state;
    static const float x[] = { -2, -1.0000001f, -1, -0.3f, 0, 0.3f, 1, 1.0000001f, 2, NAN };
    static const float dy[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, want[] = { 0, 0, 3, 4, 5, 6, 7, 0, 0, 0 };
    const float one = 1, zero = 0;
    float dx[10];
    const rq_strided sx = row(x, 10), sdy = row(dy, 10), sdx = row(dx, 10), sa = row(&one, 1), sz = row(&zero, 1);
    assert_int_equal(rq_tensor_quant_backward(NULL, &sdx, &sdy, &sx, &sa, NULL, &err), RQ_OK);
    same(dx, want, 10); /* the kinks, |x| == amax, pass */
    assert_int_equal(rq_fake_affine_tensor_quant_backward(NULL, &sdx, &sdy, &sx, -1, 1, &err), RQ_OK);
    same(dx, want, 10);
    assert_int_equal(rq_scaled_e4m3_backward(NULL, &sdx, &sdy, &sx, &sa, NULL, &err), RQ_OK);
    same(dx, want, 10);
    assert_int_equal(rq_tensor_quant_backward(NULL, &sdx, &sdy, &sx, &sz, NULL, &err), RQ_OK);
    same(dx, (float[]) { 0, 0, 0, 0, 5, 0, 0, 0, 0, 0 }, 10);
}

static void affine_numbers(void **state)
{
    (void)state;
    static const float x[] = { -1, -0.3f, -0.1f, 0, 0.1f, 0.25f, 0.5f, 0.9f, 1, 1.2f, 1.7f, 3 };
    static const float eight[] = {
        -0.298039228f, -0.298039228f, -0.101960793f, 0,           0.101960793f, 0.250980407f,
        0.501960814f,  0.90196085f,   0.996078491f,  1.20000005f, 1.70196092f,  1.70196092f
    };
    static const float four[] = { -0.266666681f, -0.266666681f, -0.13333334f, 0,           0.13333334f, 0.266666681f,
                                  0.533333361f,  0.933333397f,  0.933333397f, 1.20000005f, 1.73333347f, 1.73333347f };
    static const float above[] = { 0, 0.4f, 0.5f, 0.75f, 1, 1.5f, 2 };
    static const float above_want[] = { 0.498039246f, 0.498039246f, 0.498039246f, 0.749019623f, 1,
                                        1.49803925f,  1.49803925f };
    static const float whole[] = { -1, -13, -101, -128, 0, 2, 5, 13, 93, 111, 127 };
    float y[12];
    const rq_strided sx = row(x, 12), sy = row(y, 12), sa = row(above, 7), sya = row(y, 7), sw = row(whole, 11),
                     syw = row(y, 11);
    assert_int_equal(rq_fake_affine_tensor_quant(NULL, &sy, &sx, -0.3f, 1.7f, 8, &err), RQ_OK);
    near(y, eight, 12, 1e-9);
    assert_int_equal(rq_fake_affine_tensor_quant(NULL, &sy, &sx, -0.3f, 1.7f, 4, &err), RQ_OK);
    near(y, four, 12, 1e-9);
    assert_int_equal(rq_fake_affine_tensor_quant(NULL, &sya, &sa, 0.5f, 1.5f, 8, &err), RQ_OK);
    near(y, above_want, 7, 1e-9);
    assert_int_equal(rq_fake_affine_tensor_quant(NULL, &syw, &sw, -128, 127, 8, &err), RQ_OK);
    same(y, whole, 11);
    assert_int_equal(rq_fake_affine_tensor_quant(NULL, &sy, &sx, 1, 1, 8, &err), RQ_BAD_ARG);
    assert_int_equal(rq_fake_affine_tensor_quant(NULL, &sy, &sx, 0, NAN, 8, &err), RQ_BAD_ARG);
    assert_int_equal(rq_fake_affine_tensor_quant(NULL, &sy, &sx, 1e9f, 1e9f + 64, 8, &err), RQ_BAD_ARG);
    assert_int_equal(rq_fake_affine_tensor_quant(NULL, &sy, &sx, -1, 1, 1, &err), RQ_BAD_ARG);
}

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

/* ---- clip and reduce_amax ---- */

static void clip_example(void **state)
{
    (void)state;
    static const float x[] = { -0.7f, -0.5f, -0.2f, 0.1f, 0.5f, 0.9f }, dy[] = { 1, 2, 3, 4, 5, 6 };
    static const float lo = -0.5f, hi = 0.5f;
    float y[6], dx[6];
    double dlo, dhi;
    const rq_strided sx = row(x, 6), sy = row(y, 6), sdy = row(dy, 6), sdx = row(dx, 6), sl = row(&lo, 1),
                     sh = row(&hi, 1);
    assert_int_equal(rq_clip(NULL, &sy, &sx, &sl, &sh, &err), RQ_OK);
    same(y, (float[]) { -0.5f, -0.5f, -0.2f, 0.1f, 0.5f, 0.5f }, 6);
    assert_int_equal(rq_clip_backward(NULL, &sdx, &dlo, &dhi, &sdy, &sx, &sl, &sh, &err), RQ_OK);
    same(dx, (float[]) { 0, 0, 3, 4, 0, 0 }, 6); /* at the bounds the bounds move */
    assert_true(dlo == 3 && dhi == 11);
    fake(y, y, 6, 0.5f, NULL);
    near(y, (float[]) { -0.5f, -0.5f, -0.200787395f, 0.0984251946f, 0.5f, 0.5f }, 6, 1e-9);
}

static double clipped_sum(const float *x, const float *dy, int64_t n, float lo, float hi)
{
    float y[4096];
    double sum = 0;
    const rq_strided sx = row(x, n), sy = row(y, n), sl = row(&lo, 1), sh = row(&hi, 1);
    assert_int_equal(rq_clip(NULL, &sy, &sx, &sl, &sh, &err), RQ_OK);
    for (int64_t i = 0; i < n; i++)
        sum += (double)y[i] * (double)dy[i];
    return sum;
}

static void m8_clip(void **state)
{
    (void)state;
    enum { N = 3000 };
    float x[N], y[N], dy[N], dx[N], many[3] = { -1, -0.5f, 0 };
    const float lo = -0.75f, hi = 0.5f;
    double dlo, dhi;
    rq_exec *e;
    assert_int_equal(rq_exec_create(&e, 2, &err), RQ_OK);
    gen_b(x, N, 51);
    gen_t(dy, N, 52);
    x[5] = NAN;
    dy[5] = 1;
    const rq_strided sx = row(x, N), sy = row(y, N), sdy = row(dy, N), sdx = row(dx, N), sl = row(&lo, 1),
                     sh = row(&hi, 1);
    assert_int_equal(rq_clip(e, &sy, &sx, &sl, &sh, &err), RQ_OK);
    assert_int_equal(rq_clip_backward(e, &sdx, &dlo, &dhi, &sdy, &sx, &sl, &sh, &err), RQ_OK);
    double below = 0, above = 0;
    for (int i = 0; i < N; i++) {
        if (i == 5)
            continue;
        assert_true(y[i] == fminf(fmaxf(x[i], lo), hi));
        assert_true(x[i] > lo && x[i] < hi ? dx[i] == dy[i] : dx[i] == 0);
        below += x[i] <= lo ? (double)dy[i] : 0;
        above += x[i] >= hi ? (double)dy[i] : 0;
    }
    assert_true(isnan(y[5]) && dx[5] == 0);
    assert_true(fabs(dlo - below) < 1e-6 && fabs(dhi - above) < 1e-6);
    /* the same bits on one thread */
    double one_lo, one_hi;
    assert_int_equal(rq_clip_backward(NULL, &sdx, &one_lo, &one_hi, &sdy, &sx, &sl, &sh, &err), RQ_OK);
    assert_true(dlo == one_lo && dhi == one_hi);
    /* finite differences: the sum is piecewise linear in the bounds, so a small step is exact but for rounding */
    x[5] = 0;
    float near_lo = 2, near_hi = 2;
    for (int i = 0; i < N; i++) {
        near_lo = fminf(near_lo, x[i] == lo ? 2 : fabsf(x[i] - lo));
        near_hi = fminf(near_hi, x[i] == hi ? 2 : fabsf(x[i] - hi));
        if (x[i] == lo || x[i] == hi)
            x[i] = 0; /* kinks have no derivative */
    }
    assert_int_equal(rq_clip_backward(NULL, &sdx, &dlo, &dhi, &sdy, &sx, &sl, &sh, &err), RQ_OK);
    const float h = fminf(near_lo, near_hi) / 2;
    assert_true(h > 1e-6f);
    const double diff_lo = (clipped_sum(x, dy, N, lo + h, hi) - clipped_sum(x, dy, N, lo - h, hi)) /
                           ((double)(lo + h) - (double)(lo - h)),
                 diff_hi = (clipped_sum(x, dy, N, lo, hi + h) - clipped_sum(x, dy, N, lo, hi - h)) /
                           ((double)(hi + h) - (double)(hi - h));
    assert_true(fabs(diff_lo - dlo) < 1e-4 * fabs(dlo) + 1e-6 && fabs(diff_hi - dhi) < 1e-4 * fabs(dhi) + 1e-6);

    /* bounds that broadcast clip, but cannot be learned */
    const rq_strided wide = SHAPED(x, 1000, 3), to = SHAPED(y, 1000, 3), sm = row(many, 3), wdy = SHAPED(dy, 1000, 3),
                     wdx = SHAPED(dx, 1000, 3);
    assert_int_equal(rq_clip(NULL, &to, &wide, &sm, &sh, &err), RQ_OK);
    for (int i = 0; i < N; i++)
        assert_true(y[i] == fmaxf(fminf(x[i], hi), many[i % 3]));
    assert_int_equal(rq_clip_backward(NULL, &wdx, &dlo, &dhi, &wdy, &wide, &sm, &sh, &err), RQ_BAD_SHAPE);
    assert_non_null(strstr(err.text, "can only be scalar"));
    assert_int_equal(rq_clip_backward(NULL, &wdx, NULL, &dhi, &wdy, &wide, &sm, &sh, &err), RQ_OK);
    const rq_strided five = row(x, 5);
    assert_int_equal(rq_clip(NULL, &to, &wide, &five, &sh, &err), RQ_BAD_SHAPE);
    rq_exec_destroy(e);
}

static void m12_reduce_amax(void **state)
{
    (void)state;
    enum { A = 3, B = 4, C = 5, D = 6, E = 2, N = A * B * C * D * E };
    static const int sets[][RQ_MAX_RANK] = { { 0 }, { 1, 2, 3 }, { 0, 2, 3 }, { 0, 3 }, { 0, 1, 3, 4 }, { -1, 1 } };
    static const int n_axes[] = { 0, 3, 3, 2, 4, 2 };
    static const int64_t dim[] = { A, B, C, D, E };
    float x[N];
    rq_exec *e;
    assert_int_equal(rq_exec_create(&e, 2, &err), RQ_OK);
    gen_b(x, N, 61);
    const rq_strided sx = shaped(x, 5, dim);
    for (int64_t k = 0; k < COUNT(n_axes) * 2; k++) {
        rq_reduce_amax_cfg c = { .n_axes = n_axes[k / 2], .keepdims = k & 1 };
        memcpy(c.axis, sets[k / 2], sizeof c.axis);
        bool folded[5] = { false };
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < c.n_axes; j++)
                folded[i] = folded[i] || (c.axis[j] + 5) % 5 == i;
        if (c.n_axes == 0)
            memset(folded, true, sizeof folded);
        float want[N] = { 0 };
        int64_t cells = 1;
        rq_shape shape = { .rank = 0 };
        for (int i = 0; i < 5; i++) {
            cells *= folded[i] ? 1 : dim[i];
            if (!folded[i] || c.keepdims)
                shape.dim[shape.rank++] = folded[i] ? 1 : dim[i];
        }
        for (int64_t i = 0; i < N; i++) {
            int64_t rest = i, cell = 0, step = 1;
            for (int a = 4; a >= 0; a--) {
                cell += folded[a] ? 0 : rest % dim[a] * step;
                step *= folded[a] ? 1 : dim[a];
                rest /= dim[a];
            }
            want[cell] = fmaxf(want[cell], fabsf(x[i]));
        }
        rq_tensor out;
        rq_reduce_amax_info info;
        assert_int_equal(rq_reduce_amax(e, &out, &sx, &c, &info, &err), RQ_OK);
        assert_int_equal(info.count, N);
        assert_int_equal(rq_tensor_count(&out), cells);
        shape.rank = cells == 1 ? 0 : shape.rank;
        assert_true(rq_shape_equal(&out.shape, &shape));
        same(out.f32, want, cells);
        rq_tensor_release(&out);
    }
    rq_tensor out;
    rq_reduce_amax_cfg six = { .n_axes = 6 };
    assert_int_equal(rq_reduce_amax(e, &out, &sx, &six, NULL, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "Cannot reduce more axes than tensor's dim."));
    rq_reduce_amax_cfg odd = { .n_axes = 1, .axis = { 5 } };
    assert_int_equal(rq_reduce_amax(e, &out, &sx, &odd, NULL, &err), RQ_BAD_ARG);
    odd = (rq_reduce_amax_cfg) { .n_axes = 2, .axis = { 1, -4 } };
    assert_int_equal(rq_reduce_amax(e, &out, &sx, &odd, NULL, &err), RQ_BAD_ARG);
    /* NaN and infinities are counted; an empty tensor has 0 */
    x[3] = NAN;
    x[77] = -INFINITY;
    rq_reduce_amax_info info;
    rq_reduce_amax_cfg all = { 0 };
    assert_int_equal(rq_reduce_amax(e, &out, &sx, NULL, &info, &err), RQ_OK);
    assert_true(info.nan == 1 && info.infinite == 1 && info.count == N - 2 && isfinite(out.f32[0]));
    rq_tensor_release(&out);
    all.compat = true;
    assert_int_equal(rq_reduce_amax(e, &out, &sx, &all, &info, &err), RQ_OK);
    assert_true(isnan(out.f32[0]));
    rq_tensor_release(&out);
    const rq_strided none = SHAPED(x, 0, 4);
    assert_int_equal(rq_reduce_amax(e, &out, &none, NULL, &info, &err), RQ_OK);
    assert_true(out.f32[0] == 0 && info.count == 0);
    rq_tensor_release(&out);
    rq_exec_destroy(e);
}

/* Many parts, rows that are cut by tiles, strides: the same as one element after the other. */
static void reduce_amax_of_large_and_turned(void **state)
{
    (void)state;
    enum { A = 130, B = 1037, N = A * B };
    float *x = malloc(N * sizeof *x), by_column[B] = { 0 }, by_row[A] = { 0 };
    rq_exec *e;
    assert_non_null(x);
    assert_int_equal(rq_exec_create(&e, 2, &err), RQ_OK);
    gen_t(x, N, 71);
    for (int i = 0; i < N; i++) {
        by_column[i % B] = fmaxf(by_column[i % B], fabsf(x[i]));
        by_row[i / B] = fmaxf(by_row[i / B], fabsf(x[i]));
    }
    const rq_strided sx = SHAPED(x, A, B), turned = rq_strided_permute(&sx, (int[]) { 1, 0 });
    for (int i = 0; i < 4; i++) {
        rq_tensor out;
        const rq_reduce_amax_cfg c = { .n_axes = 1, .axis = { i % 2 } };
        assert_int_equal(rq_reduce_amax(i < 2 ? e : NULL, &out, i < 2 ? &sx : &turned, &c, NULL, &err), RQ_OK);
        same(out.f32, (i < 2) == (i % 2 == 0) ? by_column : by_row, rq_tensor_count(&out));
        rq_tensor_release(&out);
    }
    rq_exec_destroy(e);
    free(x);
}

/* ---- all functions: threads, what is refused, memory ---- */

static void threads_and_instruction_sets_change_nothing(void **state)
{
    (void)state;
    enum { N = 5 * 7919 };
    float *x = malloc(N * sizeof *x), *y[2], amax[5] = { 0.1f, 0, 0.7f, 1, 5 };
    assert_non_null(x);
    gen_b(x, N, 81);
    y[0] = malloc(3 * N * sizeof(float));
    y[1] = malloc(3 * N * sizeof(float));
    assert_true(y[0] && y[1]);
    static const char *const isas[] = { "scalar", "avx2", "avx512", "vnni", "neon" };
    for (int i = 0, seen = 0; i < 10; i++) { /* each level that this machine has, on one thread and on two */
        rq_exec *e;
        setenv("RQ_CPU", isas[i / 2], 1);
        const rq_status st = rq_exec_create(&e, i % 2 + 1, &err);
        unsetenv("RQ_CPU");
        if (st)
            continue;
        const int t = seen++ > 0;
        const rq_strided sx = SHAPED(x, 5, 7919), sa = SHAPED(amax, 5, 1), a = SHAPED(y[t], 5, 7919),
                         b = SHAPED(y[t] + N, 5, 7919), c = SHAPED(y[t] + 2 * N, 5, 7919);
        assert_int_equal(rq_fake_tensor_quant(e, &a, &sx, &sa, NULL, &err), RQ_OK);
        assert_int_equal(rq_scaled_e4m3(e, &b, &sx, &sa, NULL, &err), RQ_OK);
        assert_int_equal(rq_tensor_quant_backward(e, &c, &sx, &sx, &sa, NULL, &err), RQ_OK);
        static float many[N];
        const rq_strided each = SHAPED(many, 5, 7919);
        assert_int_equal(rq_legacy_fake_tensor_quant(e, &each, &sx, &sa, NULL, &err), RQ_OK);
        same(many, y[t], N);
        rq_exec_destroy(e);
        same(y[0], y[t], 3 * N);
    }
    free(x), free(y[0]), free(y[1]);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    float x[12] = { 0 }, y[12], minus = -1, three[3] = { 1, 1, 1 };
    int32_t whole[12] = { 0 };
    const rq_strided sx = SHAPED(x, 3, 4), sy = SHAPED(y, 3, 4), turned = SHAPED(y, 4, 3), sm = row(&minus, 1),
                     st = row(three, 3), none = SHAPED(x, 0);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &sm, NULL, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "Negative values in amax"));
    assert_int_equal(rq_tensor_quant_backward(NULL, &sy, &sx, &sx, &sm, NULL, &err), RQ_BAD_ARG);
    assert_int_equal(rq_fake_tensor_quant(NULL, &turned, &sx, &st, NULL, &err), RQ_BAD_SHAPE);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &st, NULL, &err), RQ_BAD_SHAPE); /* which axis? */
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &none, NULL, &err), RQ_BAD_SHAPE);
    rq_tensor_quant_cfg c = rq_tensor_quant_defaults();
    c.axis = 1;
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &st, &c, &err), RQ_BAD_SHAPE);
    const rq_strided rows = SHAPED(three, 3, 1);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &rows, &c, &err), RQ_BAD_SHAPE); /* along 0, not 1 */
    c.axis = 2;
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &st, &c, &err), RQ_BAD_ARG);
    static const struct width {
        int bits;
        bool is_unsigned, good;
    } widths[] = { { 0, false, false },  { 1, false, false }, { 2, false, true }, { 16, false, true },
                   { 17, false, false }, { 0, true, false },  { 1, true, true },  { 16, true, true },
                   { 17, true, false },  { -3, true, false } };
    const rq_strided one = row(three, 1);
    for (int64_t i = 0; i < COUNT(widths); i++) {
        c = cfg_of(widths[i].bits, widths[i].is_unsigned, false);
        assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &one, &c, &err), widths[i].good ? RQ_OK : RQ_BAD_ARG);
    }
    x[0] = 0.7f;
    c = cfg_of(1, true, true);
    assert_int_equal(rq_tensor_quant(NULL, &sy, NULL, &sx, &one, &c, &err), RQ_OK);
    assert_true(y[0] == 1 && y[1] == 0);
    const rq_shape shape = rq_shape_of(2, (int64_t[]) { 3, 4 });
    const rq_tensor ints = rq_tensor_view(RQ_DTYPE_S32, &shape, whole);
    const rq_strided si = rq_strided_of(&ints);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &si, &one, NULL, &err), RQ_BAD_DTYPE);
    const rq_strided two = row(y, 2);
    assert_int_equal(rq_tensor_quant(NULL, &sy, &two, &sx, &one, NULL, &err), RQ_BAD_SHAPE);
    const rq_strided empty = SHAPED(x, 3, 0);
    assert_int_equal(rq_fake_tensor_quant(NULL, &empty, &empty, &one, NULL, &err), RQ_OK);
}

static rq_status run_all(void)
{
    float x[24], y[24], amax[2] = { 1, 0 }, lo = -1, hi = 1;
    double dlo;
    rq_tensor out;
    gen_u(x, 24, 91);
    const rq_strided sx = SHAPED(x, 2, 12), sy = SHAPED(y, 2, 12), sa = SHAPED(amax, 2, 1), sl = row(&lo, 1),
                     sh = row(&hi, 1);
    const rq_tensor_quant_cfg c = cfg_of(8, true, true);
    RQ_TRY(rq_fake_tensor_quant(NULL, &sy, &sx, &sa, &c, &err));
    RQ_TRY(rq_fake_tensor_quant(NULL, &sy, &sx, &sh, &c, &err));
    RQ_TRY(rq_tensor_quant(NULL, &sy, NULL, &sx, &sa, &c, &err));
    RQ_TRY(rq_tensor_quant_backward(NULL, &sy, &sx, &sx, &sa, &c, &err));
    RQ_TRY(rq_scaled_e4m3(NULL, &sy, &sx, &sa, NULL, &err));
    RQ_TRY(rq_clip_backward(NULL, &sy, &dlo, NULL, &sx, &sx, &sl, &sh, &err));
    RQ_TRY(rq_reduce_amax(NULL, &out, &sx, NULL, NULL, &err));
    rq_tensor_release(&out);
    return RQ_OK;
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    const size_t live = rq_mem_live();
    size_t n = 1;
    for (;; n++) {
        rq_mem_fail_after(n, false);
        const rq_status st = run_all();
        rq_mem_fail_after(0, false);
        assert_int_equal(rq_mem_live(), live);
        if (!st)
            break;
        assert_int_equal(st, RQ_NO_MEMORY);
        assert_true(err.text[0]);
    }
    assert_true(n > 8);
}

/* The float grids against the tables of conversions, at every upper half of an f32 and around the ties. */
static void float_grids_are_those_of_the_types(void **state)
{
    (void)state;
    static const uint32_t low[] = { 0, 1, 0x7fff, 0x8000, 0x8001, 0xffff };
    for (uint32_t high = 0; high < 0x10000; high++)
        for (int i = 0; i < 6; i++) {
            const uint32_t bits = high << 16 | low[i];
            float v;
            memcpy(&v, &bits, sizeof v);
            const float e4m3 =
                            rq_convert_f8_to_f32(RQ_DTYPE_F8E4M3FN, rq_convert_f32_to_f8(RQ_DTYPE_F8E4M3FN, v, true)),
                        e5m2 = rq_convert_f8_to_f32(RQ_DTYPE_F8E5M2, rq_convert_f32_to_f8(RQ_DTYPE_F8E5M2, v, true));
            same((float[]) { rq_quantize_float(v, 3, -6, 448), rq_quantize_float(v, 2, -14, 57344) },
                 (float[]) { e4m3, e5m2 }, 2);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tv1_the_example_of_the_documentation),
        cmocka_unit_test(tv2_ties_and_clipping),
        cmocka_unit_test(tv3_widths),
        cmocka_unit_test(tv4_per_channel),
        cmocka_unit_test(tv5_four_bits_unsigned_by_axis),
        cmocka_unit_test(tv6_a_channel_of_zeros),
        cmocka_unit_test(amax_at_the_edge_of_nothing),
        cmocka_unit_test(half_precision_example),
        cmocka_unit_test(gradient_example),
        cmocka_unit_test(affine_numbers),
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
        cmocka_unit_test(clip_example),
        cmocka_unit_test(m8_clip),
        cmocka_unit_test(m12_reduce_amax),
        cmocka_unit_test(reduce_amax_of_large_and_turned),
        cmocka_unit_test(threads_and_instruction_sets_change_nothing),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(float_grids_are_those_of_the_types),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
