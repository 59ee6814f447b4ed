/* NVIDIA's functions: the vectors of docs/calibration-facts.md 6, by number, and numbers that its documentation prints. */
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
