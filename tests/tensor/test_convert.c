/* tests/tensor/test_convert.c — narrow floats: halves against the compiler's own type over every code, bfloat16 and
 * the 8-bit formats against the values that the ONNX and OCP tables state. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "requant/tensor.h"
#include "tensor/convert.h"

#if defined(__FLT16_MAX__)
static void half_decodes_and_encodes_as_the_compiler_does(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 65536; code++) {
        uint16_t u = (uint16_t)code;
        _Float16 h;
        memcpy(&h, &u, sizeof h);
        float want = (float)h, got = rq_convert_f16_to_f32(u);
        assert_true(isnan(want) ? isnan(got) : memcmp(&want, &got, 4) == 0);
        if (!isnan(want))
            assert_int_equal(rq_convert_f32_to_f16(want), u);
    }
    uint32_t seed = 1;
    for (int i = 0; i < 2000000; i++) { /* every exponent, all kinds of rounding */
        seed = seed * 1664525u + 1013904223u;
        float f;
        memcpy(&f, &seed, sizeof f);
        if (isnan(f))
            continue;
        _Float16 h = (_Float16)f;
        uint16_t want;
        memcpy(&want, &h, sizeof want);
        assert_int_equal(rq_convert_f32_to_f16(f), want);
    }
}
#endif

/* The loops, tails of every length, say what one number at a time says. */
static void many_halves_are_as_each(void **state)
{
    (void)state;
    enum { N = 999 };
    static uint16_t codes[N], back[N];
    static float f[N];
    uint32_t seed = 7;
    for (int round = 0; round < 400; round++) {
        for (int i = 0; i < N; i++) {
            seed = seed * 1664525u + 1013904223u;
            codes[i] = (uint16_t)(seed >> 16);
        }
        const int n = round < 70 ? round : N;
        rq_convert_f16_to_f32_each(f, codes, n);
        for (int i = 0; i < n; i++) {
            const float want = rq_convert_f16_to_f32(codes[i]);
            assert_memory_equal(&f[i], &want, sizeof want);
        }
        for (int i = 0; i < N; i++) { /* any bits at all */
            seed = seed * 1664525u + 1013904223u;
            memcpy(&f[i], &seed, sizeof seed);
        }
        memset(back, 0x55, sizeof back);
        rq_convert_f32_to_f16_each(back, f, n);
        for (int i = 0; i < n; i++)
            assert_int_equal(back[i], rq_convert_f32_to_f16(f[i]));
        for (int i = n; i < N; i++)
            assert_int_equal(back[i], 0x5555);
    }
}

static void bfloat16_rounds_half_to_even(void **state)
{
    (void)state;
    assert_int_equal(rq_convert_f32_to_bf16(1.0f), 0x3f80);
    assert_int_equal(rq_convert_f32_to_bf16(1.00390625f), 0x3f80); /* a tie: 1 + 2^-8 goes down to even */
    assert_int_equal(rq_convert_f32_to_bf16(1.01171875f), 0x3f82); /* a tie: 1 + 3 2^-8 goes up to even */
    assert_int_equal(rq_convert_f32_to_bf16(INFINITY), 0x7f80);
    assert_int_equal(rq_convert_f32_to_bf16(3.4e38f), 0x7f80);
    assert_true(isnan(rq_convert_bf16_to_f32(rq_convert_f32_to_bf16(NAN))));
}

static void eight_bit_floats_have_their_tables_corners(void **state)
{
    (void)state;
    const struct {
        rq_dtype d;
        uint8_t code;
        float value;
    } table[] = {
        { RQ_DTYPE_F8E4M3FN, 0x7e, 448 },
        { RQ_DTYPE_F8E4M3FN, 0x01, 0x1p-9f },
        { RQ_DTYPE_F8E4M3FN, 0x38, 1 },
        { RQ_DTYPE_F8E4M3FNUZ, 0x7f, 240 },
        { RQ_DTYPE_F8E4M3FNUZ, 0x01, 0x1p-10f },
        { RQ_DTYPE_F8E5M2, 0x7b, 57344 },
        { RQ_DTYPE_F8E5M2, 0x01, 0x1p-16f },
        { RQ_DTYPE_F8E5M2FNUZ, 0x7f, 57344 },
        { RQ_DTYPE_F8E5M2FNUZ, 0x01, 0x1p-17f },
        { RQ_DTYPE_F4E2M1, 7, 6 },
        { RQ_DTYPE_F4E2M1, 1, 0.5f },
        { RQ_DTYPE_F8E8M0, 127, 1 },
        { RQ_DTYPE_F8E8M0, 254, 0x1p127f },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_true(rq_convert_f8_to_f32(table[i].d, table[i].code) == table[i].value);
        assert_int_equal(rq_convert_f32_to_f8(table[i].d, table[i].value, true), table[i].code);
    }
    assert_true(isnan(rq_convert_f8_to_f32(RQ_DTYPE_F8E4M3FN, 0x7f)));
    assert_true(isnan(rq_convert_f8_to_f32(RQ_DTYPE_F8E4M3FNUZ, 0x80)));
    assert_true(isinf(rq_convert_f8_to_f32(RQ_DTYPE_F8E5M2, 0x7c)));
    assert_int_equal(rq_convert_f32_to_f8(RQ_DTYPE_F8E4M3FN, 1e6f, true), 0x7e);
    assert_int_equal(rq_convert_f32_to_f8(RQ_DTYPE_F8E4M3FN, 1e6f, false), 0x7f);
    assert_int_equal(rq_convert_f32_to_f8(RQ_DTYPE_F8E5M2, -1e6f, false), 0xfc);
    assert_int_equal(rq_convert_f32_to_f8(RQ_DTYPE_F8E4M3FN, 1.0625f, true), 0x38); /* ties to even */
    assert_int_equal(rq_convert_f32_to_f8(RQ_DTYPE_F8E4M3FN, 1.1875f, true), 0x3a);
}

static void every_eight_bit_code_survives_a_round_trip(void **state)
{
    (void)state;
    const rq_dtype d[] = { RQ_DTYPE_F8E4M3FN, RQ_DTYPE_F8E4M3FNUZ, RQ_DTYPE_F8E5M2, RQ_DTYPE_F8E5M2FNUZ };
    for (size_t k = 0; k < 4; k++)
        for (int code = 0; code < 256; code++) {
            float v = rq_convert_f8_to_f32(d[k], (uint8_t)code);
            if (isfinite(v))
                assert_int_equal(rq_convert_f32_to_f8(d[k], v, true), code);
        }
}

static void packed_elements_sit_low_bits_first(void **state)
{
    (void)state;
    uint8_t raw[2] = { 0xf1, 0x07 }; /* docs/onnx-facts.md 1.4: INT4[3] reads 1, -1, 7 */
    rq_shape s = rq_shape_of(1, (int64_t[]) { 3 });
    rq_tensor t = rq_tensor_view(RQ_DTYPE_S4, &s, raw);
    assert_int_equal(rq_tensor_get_int(&t, 0), 1);
    assert_int_equal(rq_tensor_get_int(&t, 1), -1);
    assert_int_equal(rq_tensor_get_int(&t, 2), 7);
    rq_tensor_set(&t, 1, -100);
    assert_int_equal(raw[0], 0x81);
    assert_int_equal(rq_shape_bytes(&s, RQ_DTYPE_S4), 2);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    rq_tensor t;
    rq_shape s = rq_shape_of(3, (int64_t[]) { 1ll << 40, 1ll << 40, 2 });
    assert_int_equal(rq_tensor_create(&t, RQ_DTYPE_F32, &s, false), RQ_BAD_SHAPE);
    s.dim[2] = 0; /* empty, but the sizes before it overflow */
    assert_int_equal(rq_tensor_create(&t, RQ_DTYPE_F32, &s, false), RQ_BAD_SHAPE);
    s.dim[1] = 3;
    assert_int_equal(rq_tensor_create(&t, RQ_DTYPE_F32, &s, false), RQ_OK);
    assert_int_equal(rq_tensor_count(&t), 0);
    rq_tensor_release(&t);
    s.dim[0] = -1;
    assert_int_equal(rq_tensor_create(&t, RQ_DTYPE_F32, &s, false), RQ_BAD_SHAPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#if defined(__FLT16_MAX__)
        cmocka_unit_test(half_decodes_and_encodes_as_the_compiler_does),
#endif
        cmocka_unit_test(many_halves_are_as_each),
        cmocka_unit_test(bfloat16_rounds_half_to_even),
        cmocka_unit_test(eight_bit_floats_have_their_tables_corners),
        cmocka_unit_test(every_eight_bit_code_survives_a_round_trip),
        cmocka_unit_test(packed_elements_sit_low_bits_first),
        cmocka_unit_test(sizes_that_overflow_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
