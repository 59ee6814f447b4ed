/* Scales of few weights: errors against bounds that follow from the number of codes, and the rules of each method. The peers'
 * methods are compared number for number in tests/golden (static_weights.c). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "quant/blocks.h"

enum { GROUPS = 64, LEN = 32 };

static float x[GROUPS * LEN], scale[GROUPS], zero[GROUPS];
static int32_t code[GROUPS * LEN];

/* Sums of uniform numbers: near a bell curve, without a table. */
static void fill(uint64_t seed, float shift)
{
    for (int i = 0; i < GROUPS * LEN; i++) {
        float s = 0;
        for (int k = 0; k < 6; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            s += (float)(seed >> 40) / (float)(1 << 24) - 0.5f;
        }
        x[i] = s * (1 + (float)(i / LEN % 7)) + shift;
    }
}

static double error_of(rq_weight_method m, rq_dtype d, bool symmetric)
{
    rq_blocks b = { .n = GROUPS, .len = LEN, .x = x, .code = code, .scale = scale, .zero = zero };
    int64_t lo, hi;
    double e = 0;
    assert_int_equal(rq_blocks_quantize(&b, m, &(rq_code_form) { .dtype = d, .symmetric = symmetric }), RQ_OK);
    rq_dtype_limits(d, &lo, &hi);
    for (int i = 0; i < GROUPS * LEN; i++) {
        assert_true(code[i] >= lo && code[i] <= hi);
        const double r = x[i] - ((double)code[i] - zero[i / LEN]) * scale[i / LEN];
        e += r * r;
    }
    return e;
}

static void an_error_is_at_most_half_a_step(void **state)
{
    static const rq_dtype types[] = { RQ_DTYPE_S8, RQ_DTYPE_U8, RQ_DTYPE_U4, RQ_DTYPE_U2 };
    fill(1, 0.1f);
    for (size_t t = 0; t < 4; t++) {
        error_of(RQ_WEIGHTS_MINMAX, types[t], types[t] == RQ_DTYPE_S8);
        for (int i = 0; i < GROUPS * LEN; i++) {
            const float s = scale[i / LEN];
            assert_true(fabsf(x[i] - ((float)code[i] - zero[i / LEN]) * s) <=
                        s * 1.001f); /* a zero point is rounded too */
        }
    }
    (void)state;
}

static void searching_is_never_worse(void **state)
{
    static const rq_dtype types[] = { RQ_DTYPE_S8, RQ_DTYPE_U8, RQ_DTYPE_S4, RQ_DTYPE_U4, RQ_DTYPE_S2, RQ_DTYPE_U2 };
    for (uint64_t seed = 1; seed < 4; seed++)
        for (size_t t = 0; t < 6; t++)
            for (int symmetric = 0; symmetric < 2; symmetric++) {
                fill(seed, 0.2f);
                const double plain = error_of(RQ_WEIGHTS_MINMAX, types[t], symmetric),
                             searched = error_of(RQ_WEIGHTS_MSE, types[t], symmetric);
                assert_true(searched <= plain);
                if (rq_dtype_bits(types[t]) < 8)
                    assert_true(searched < 0.95 * plain);
            }
    (void)state;
}

static void few_bits_beat_the_peers(void **state)
{
    fill(5, 0);
    const double ours = error_of(RQ_WEIGHTS_MSE, RQ_DTYPE_U4, false);
    assert_true(ours < error_of(RQ_WEIGHTS_ORT, RQ_DTYPE_U4, false));
    assert_true(ours < error_of(RQ_WEIGHTS_RTN, RQ_DTYPE_U4, false));
    const double symmetric = error_of(RQ_WEIGHTS_MSE, RQ_DTYPE_S4, true);
    assert_true(symmetric < error_of(RQ_WEIGHTS_RTN, RQ_DTYPE_U4, true));
    (void)state;
}

/* docs/onnx-facts.md 2.10: the element of largest magnitude is the lowest code, whatever its sign. */
static void the_symmetric_scale_of_the_peer_has_a_sign(void **state)
{
    const float v[16] = { 1, -2, 4, 0.5f };
    rq_blocks b = { .n = 1, .len = 16, .x = v, .code = code, .scale = scale, .zero = zero };
    assert_int_equal(
        rq_blocks_quantize(&b, RQ_WEIGHTS_ORT, &(rq_code_form) { .dtype = RQ_DTYPE_U4, .symmetric = true }), RQ_OK);
    assert_true(scale[0] == -0.5f && zero[0] == 8);
    assert_int_equal(code[2], 0);
    assert_int_equal(code[0], 6);
    assert_int_equal(code[1], 12);
    (void)state;
}

static void nothing_but_zeros(void **state)
{
    for (int i = 0; i < GROUPS * LEN; i++)
        x[i] = 0;
    for (int m = 0; m < RQ_N_WEIGHT_METHODS; m++) {
        error_of((rq_weight_method)m, RQ_DTYPE_U4, m == RQ_WEIGHTS_ORT);
        for (int i = 0; i < GROUPS * LEN; i++)
            assert_true((float)code[i] == zero[i / LEN]);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_is_at_most_half_a_step),
        cmocka_unit_test(searching_is_never_worse),
        cmocka_unit_test(few_bits_beat_the_peers),
        cmocka_unit_test(the_symmetric_scale_of_the_peer_has_a_sign),
        cmocka_unit_test(nothing_but_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
