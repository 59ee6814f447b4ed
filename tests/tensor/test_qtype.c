/* Quantized types: ranges and names; tensors with strides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "requant/qparams.h"
#include "requant/qtype.h"
#include "tensor/strided.h"

static void is(const rq_qtype *t, rq_dtype d, int32_t lo, int32_t hi)
{
    assert_int_equal(t->dtype, d);
    assert_int_equal(t->lo, lo);
    assert_int_equal(t->hi, hi);
}

static void widths_have_the_smallest_storage(void **state)
{
    (void)state;
    static const struct {
        int bits;
        bool is_signed, narrow;
        rq_dtype d;
        int32_t lo, hi;
    } rows[] = {
        { 2, true, false, RQ_DTYPE_S2, -2, 1 },        { 2, false, true, RQ_DTYPE_U2, 0, 3 },
        { 3, true, true, RQ_DTYPE_S4, -3, 3 },         { 4, true, false, RQ_DTYPE_S4, -8, 7 },
        { 4, false, false, RQ_DTYPE_U4, 0, 15 },       { 5, true, true, RQ_DTYPE_S8, -15, 15 },
        { 8, true, true, RQ_DTYPE_S8, -127, 127 },     { 8, true, false, RQ_DTYPE_S8, -128, 127 },
        { 8, false, false, RQ_DTYPE_U8, 0, 255 },      { 9, false, false, RQ_DTYPE_U16, 0, 511 },
        { 11, true, true, RQ_DTYPE_S16, -1023, 1023 }, { 16, true, false, RQ_DTYPE_S16, -32768, 32767 },
        { 16, false, false, RQ_DTYPE_U16, 0, 65535 },
    };
    rq_qtype t;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(rq_qtype_bits(&t, rows[i].bits, rows[i].is_signed, rows[i].narrow, NULL), RQ_OK);
        is(&t, rows[i].d, rows[i].lo, rows[i].hi);
        assert_int_equal(rq_qtype_width(&t), rows[i].bits);
        assert_int_equal(rq_qtype_is_signed(&t), rows[i].is_signed);
        assert_int_equal(rq_qtype_check(&t, NULL), RQ_OK);
    }
    rq_err err;
    assert_int_equal(rq_qtype_bits(&t, 1, true, false, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "a type of 1 bits, expected 2 to 16");
    assert_int_equal(rq_qtype_bits(&t, 17, true, false, &err), RQ_BAD_ARG);
    t = rq_qtype_of(RQ_DTYPE_S32);
    is(&t, RQ_DTYPE_S32, INT32_MIN, INT32_MAX);
    assert_int_equal(rq_qtype_width(&t), 32);
}

static void reduced_ranges_are_pytorchs(void **state)
{
    (void)state;
    static const int32_t rows[][4] = {
        { 0, 255, 0, 127 }, { -128, 127, -64, 63 }, { -127, 127, -64, 63 }, { -5, 5, -3, 2 }
    };
    for (size_t i = 0; i < 4; i++) {
        rq_qtype t;
        assert_int_equal(rq_qtype_range(&t, rows[i][0] ? RQ_DTYPE_S8 : RQ_DTYPE_U8, rows[i][0], rows[i][1], NULL),
                         RQ_OK);
        const rq_qtype r = rq_qtype_reduced(&t);
        is(&r, t.dtype, rows[i][2], rows[i][3]);
    }
}

static void names_are_read_and_written(void **state)
{
    (void)state;
    static const struct {
        const char *text, *canonical;
    } rows[] = {
        { "s8", "s8" },
        { "int8", "s8" },
        { "QINT8", "s8" },
        { "torch.qint8", "s8" },
        { "quint8", "u8" },
        { "Torch.QUInt8", "u8" },
        { "uint4", "u4" },
        { "quint4x2", "u4" },
        { "quint2x4", "u2" },
        { "qint32", "s32" },
        { "int6", "s8[-32,31]" },
        { "uint3", "u4[0,7]" },
        { "u16", "u16" },
        { "int12", "s16[-2048,2047]" },
        { "e4m3", "f8e4m3fn" },
        { "fp8_e4m3", "f8e4m3fn" },
        { "f8e4m3fn", "f8e4m3fn" },
        { "E5M2", "f8e5m2" },
        { "s8[-127,127]", "s8[-127,127]" },
        { "int8[-128,127]", "s8" },
        { "quint8[0,127]", "u8[0,127]" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rq_qtype t, again;
        char text[RQ_QTYPE_TEXT];
        assert_int_equal(rq_qtype_parse(&t, rows[i].text, NULL), RQ_OK);
        assert_string_equal(rq_qtype_text(&t, text, sizeof text), rows[i].canonical);
        assert_int_equal(rq_qtype_parse(&again, text, NULL), RQ_OK);
        is(&again, t.dtype, t.lo, t.hi);
    }
    static const char *const bad[] = {
        "",         "s",        "s1",        "s08",        "int17",
        "uint32",   "f32",      "qint",      "s8[",        "s8[1]",
        "s8[1,2",   "s8[1,2]x", "s8[2,1]",   "s8[-129,0]", "s8[,1]",
        "s8[ 1,2]", "u4[0,16]", "e4m3[0,1]", "int-8",      "s8[0,99999999999999999999]"
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rq_qtype t;
        rq_err err = { 0 };
        if (rq_qtype_parse(&t, bad[i], &err) == RQ_OK || !err.text[0])
            fail_msg("'%s' is read", bad[i]);
    }
    rq_qtype t;
    rq_err err;
    assert_int_equal(rq_qtype_parse(&t, "quint4", NULL), RQ_OK);
    assert_int_equal(rq_qtype_parse(&t, "quint4x", &err), RQ_BAD_ARG);
    assert_string_equal(err.text,
                        "no quantized type 'quint4x'; the nearest is 'quint4x2'; a type is s8, u4, int6, qint8, "
                        "quint4x2, e4m3 and the like");
    for (int s = 0; s < RQ_N_QSCHEMES; s++) {
        rq_qscheme back;
        assert_int_equal(rq_qscheme_parse(&back, rq_qscheme_name((rq_qscheme)s), NULL), RQ_OK);
        assert_int_equal(back, s);
    }
    rq_qscheme scheme;
    assert_int_equal(rq_qscheme_parse(&scheme, "torch.per_channel_symmetric", NULL), RQ_OK);
    assert_true(rq_qscheme_is_per_channel(scheme) && rq_qscheme_is_symmetric(scheme));
    assert_int_equal(rq_qscheme_parse(&scheme, "per_row", NULL), RQ_BAD_ARG);
}

static void scales_become_powers_of_two(void **state)
{
    (void)state;
    static const float rows[][2] = {
        { 1, 1 },
        { 0.75f, 1 },
        { 0.5f, 0.5f },
        { 0.50001f, 1 },
        { 3, 4 },
        { 0x1p-126f, 0x1p-126f },
        { 1e-45f, 0x1p-126f },
        { 0, 0x1p-126f },
        { -1, 0x1p-126f },
        { 0x1.8p126f, 0x1p127f },
        { 3e38f, 0x1p127f },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_true(rq_qparams_power_of_two(rows[i][0]) == rows[i][1]);
}

static void strides_say_where_elements_are(void **state)
{
    (void)state;
    float x[24], tile[24];
    for (int i = 0; i < 24; i++)
        x[i] = (float)i;
    const rq_shape s = rq_shape_of(3, (int64_t[]) { 2, 3, 4 });
    const rq_strided all = rq_strided_floats(x, &s);
    assert_true(rq_strided_is_contiguous(&all));
    const rq_strided turned = rq_strided_permute(&all, (int[]) { 2, 0, 1 });
    assert_false(rq_strided_is_contiguous(&turned));
    rq_strided_read(&turned, 0, 24, tile);
    for (int i = 0; i < 24; i++) /* [4][2][3] */
        assert_true(tile[i] == x[i / 3 % 2 * 12 + i % 3 * 4 + i / 6]);
    assert_true(rq_strided_read(&turned, 7, 5, tile)[0] == x[5]); /* from the middle: [1][0][1] */
    const rq_strided back = rq_strided_slice(&all, 1, 2, 2, -2);  /* rows 2 and 0 */
    rq_strided_read(&back, 0, 16, tile);
    for (int i = 0; i < 16; i++)
        assert_true(tile[i] == x[i / 8 * 12 + (i / 4 % 2 ? 0 : 8) + i % 4]);
    float once[3] = { 1, 2, 3 };
    rq_strided wide = rq_strided_vector(once, 3); /* [2][3], each row the same */
    wide.shape = rq_shape_of(2, (int64_t[]) { 2, 3 });
    wide.stride[0] = 0;
    wide.stride[1] = 1;
    rq_strided_read(&wide, 1, 5, tile);
    assert_memory_equal(tile, ((float[]) { 2, 3, 1, 2, 3 }), 5 * sizeof *tile);
    const rq_shape empty = rq_shape_of(2, (int64_t[]) { 0, 5 }), one = rq_shape_of(0, NULL);
    const rq_strided none = rq_strided_floats(NULL, &empty), scalar = rq_strided_floats(x + 7, &one);
    assert_true(rq_strided_is_contiguous(&none));
    assert_int_equal(rq_strided_check(&none, "x", true, NULL), RQ_OK);
    assert_true(*rq_strided_read(&scalar, 0, 1, tile) == 7);
    rq_strided_write(&turned, 7, 1, (float[]) { -1 });
    assert_true(x[5] == -1);
}

static void other_types_are_converted_on_the_way(void **state)
{
    (void)state;
    static const rq_dtype types[] = { RQ_DTYPE_F32, RQ_DTYPE_F64, RQ_DTYPE_F16, RQ_DTYPE_BF16 };
    const float in[6] = { 0, -1.5f, 65504, 0.25f, -256, 8 };
    for (int d = 0; d < 4; d++) {
        rq_tensor t;
        const rq_shape s = rq_shape_of(2, (int64_t[]) { 3, 2 });
        assert_int_equal(rq_tensor_create(&t, types[d], &s, true), RQ_OK);
        const rq_strided all = rq_strided_of(&t), turned = rq_strided_permute(&all, (int[]) { 1, 0 });
        float out[6];
        double wide[6];
        rq_strided_write(&turned, 0, 6, in);
        for (int i = 0; i < 6; i++)
            assert_true(i == 2 || rq_tensor_get(&t, i % 3 * 2 + i / 3) == (double)in[i]); /* 65504 is none of bf16's */
        const float *got = rq_strided_read(&turned, 0, 6, out);
        rq_strided_read_f64(&turned, 0, 6, wide);
        for (int i = 0; i < 6; i++)
            assert_true((i == 2 && types[d] == RQ_DTYPE_BF16) || (got[i] == in[i] && wide[i] == (double)in[i]));
        rq_tensor_release(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widths_have_the_smallest_storage), cmocka_unit_test(reduced_ranges_are_pytorchs),
        cmocka_unit_test(names_are_read_and_written),       cmocka_unit_test(scales_become_powers_of_two),
        cmocka_unit_test(strides_say_where_elements_are),   cmocka_unit_test(other_types_are_converted_on_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
