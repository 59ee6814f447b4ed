/* Fake quantization: the numbers that PyTorch and Core ML Tools print for small vectors, packed codes, what is refused, memory. Any
 * layout, type and number of threads: test_fake_quantize_random.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "quant/fake_quantize_help.h"

static bool same(float a, float b)
{
    return (isnan(a) && isnan(b)) || !memcmp(&a, &b, sizeof a);
}

/* ---- vectors that the systems print ---- */

/* y and mask of x[n] under f, against want; mask NULL: not checked. */
static void check_vector(const rq_fq *f, const float *x, int n, const float *want, const uint8_t *mask)
{
    float y[32], dx[32], one[32];
    uint8_t m[32];
    rq_err err = { 0 };
    assert_true(n <= 32);
    for (int i = 0; i < n; i++)
        one[i] = 1;
    const int64_t size = n;
    const rq_shape s = rq_shape_of(1, &size);
    const rq_tensor tm = rq_tensor_view(RQ_DTYPE_U8, &s, m);
    const rq_strided vx = rq_strided_vector((float *)(uintptr_t)x, n), vy = rq_strided_vector(y, n),
                     vd = rq_strided_vector(dx, n), v1 = rq_strided_vector(one, n), vm = rq_strided_of(&tm);
    assert_int_equal(rq_fake_quantize(NULL, &vy, &vm, &vx, f, &err), RQ_OK);
    assert_int_equal(rq_fake_quantize_backward(NULL, &vd, &v1, &vx, f, &err), RQ_OK);
    for (int i = 0; i < n; i++) {
        if (!same(y[i], want[i]))
            fail_msg("x %g gives %.9g, expected %.9g", (double)x[i], (double)y[i], (double)want[i]);
        if (mask && (m[i] != mask[i] || !same(dx[i], mask[i])))
            fail_msg("x %g has the gradient %g and mask %d, expected %d", (double)x[i], (double)dx[i], m[i], mask[i]);
    }
}

static void ties_and_the_pass_band_are_pytorchs(void **state)
{
    (void)state;
    const float one = 1, tenth = 0.1f, odd = 0.00214854861f;
    const int32_t z0 = 0, z1 = 1;
    rq_fq f = torch_fq(RQ_DTYPE_S8, -128, 127, &one, &z0);
    check_vector(&f, (float[]) { 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 127.4f, 127.5f, -128.5f, -129 }, 9,
                 (float[]) { 0, 2, 2, 0, -2, 127, 127, -128, -128 }, (uint8_t[]) { 1, 1, 1, 1, 1, 1, 0, 1, 0 });
    f = torch_fq(RQ_DTYPE_U8, 0, 255, &one, &z1);
    check_vector(&f, (float[]) { 0.5f, 1.5f, 2.5f, 3.5f }, 4, (float[]) { 0, 2, 2, 4 }, NULL);
    f = torch_fq(RQ_DTYPE_S8, -128, 127, &tenth, &z0);
    check_vector(&f, (float[]) { -13, -12.84f, -12.8f, 12.7f, 12.74f, 12.75f, 12.76f }, 7,
                 (float[]) { -12.8f, -12.8f, -12.8f, 12.7f, 12.7f, 12.7f, 12.7f }, (uint8_t[]) { 0, 1, 1, 1, 1, 0, 0 });
    /* the reciprocal lands on a tie that the quotient misses: 127.5 and 127.499992 */
    const float x = 0.273939937f;
    f = torch_fq(RQ_DTYPE_U8, 0, 255, &odd, &z0);
    check_vector(&f, &x, 1, (float[]) { 128 * odd }, NULL);
    f.rule = RQ_FQ_DIVIDE;
    check_vector(&f, &x, 1, (float[]) { 127 * odd }, NULL);
}

static void the_zero_point_decides_where_ties_fall(void **state)
{
    (void)state;
    const float x[7] = { -2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f, 3.5f }, one = 1, zf1 = 1, zq = 0.25f;
    const int32_t z1 = 1;
    rq_fq f = torch_fq(RQ_DTYPE_S8, -128, 127, &one, &z1);
    check_vector(&f, x, 7, (float[]) { -2, -2, 0, 0, 2, 2, 4 }, NULL);
    f.zero_point_inside = true; /* rounded after the zero point was added */
    check_vector(&f, x, 7, (float[]) { -3, -1, -1, 1, 1, 3, 3 }, NULL);
    f.zero_point_inside = false;
    f.zero_point = NULL;
    f.zero_point_f = &zf1;
    check_vector(&f, x, 7, (float[]) { -3, -1, -1, 1, 1, 3, 3 }, NULL);
    f.zero_point_f = &zq;
    check_vector(&f, x, 7, (float[]) { -2.25f, -1.25f, -0.25f, 0.75f, 1.75f, 2.75f, 3.75f }, NULL);
    /* PyTorch 2.15, AVX-512: fake_quantize_per_channel_affine(x, [0.1], [1.3], 0, -8, 7): product and sum are rounded once */
    const float zr = 1.3f, tenth = 0.1f;
    f = (rq_fq) {
        .type = { RQ_DTYPE_S4, -8, 7 }, .rule = RQ_FQ_RECIPROCAL, .axis = RQ_PER_TENSOR, .n = 1, .compat = true
    };
    f.scale = &tenth;
    f.zero_point_f = &zr;
    check_vector(&f, (float[]) { -0.580000043f, -0.479999989f, 0.12000002f, 0.419999957f }, 4,
                 (float[]) { -0.629999995f, -0.530000031f, 0.170000002f, 0.370000005f }, NULL);
}

static void what_is_not_finite(void **state)
{
    (void)state;
    const float x[6] = { NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 1e4f }, half = 0.5f;
    const int32_t z = 3;
    rq_fq f = torch_fq(RQ_DTYPE_S8, -128, 127, &half, &z);
    check_vector(&f, x, 6, (float[]) { -65.5f, -65.5f, -65.5f, -65.5f, -65.5f, 62 }, (uint8_t[6]) { 0 });
    f.compat = false;
    check_vector(&f, x, 6, (float[]) { NAN, 62, -65.5f, 62, -65.5f, 62 }, (uint8_t[6]) { 0 });
    /* scales that no observer gives, as fake_quantize_per_channel_affine(x, [s], [3], 0, -128, 127) takes them */
    static const struct {
        float scale, y[6];
    } odd[] = {
        { 0, { -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f } },
        { -0.5f, { -0.0f, 1, -1, 65.5f, 65.5f, 65.5f } },
        { INFINITY, { NAN, NAN, NAN, NAN, -INFINITY, -INFINITY } },
        { NAN, { NAN, NAN, NAN, NAN, NAN, NAN } },
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        f = torch_fq(RQ_DTYPE_S8, -128, 127, &odd[i].scale, &z);
        check_vector(&f, (float[]) { 0, 1, -1, 100, NAN, INFINITY }, 6, odd[i].y, NULL);
    }
    /* a scale whose reciprocal is infinite: PyTorch's numbers, else refused */
    const float tiny = 0x1p-149f;
    f = torch_fq(RQ_DTYPE_S8, -128, 127, &tiny, NULL);
    check_vector(&f, (float[]) { 0, 1, -1 }, 3, (float[]) { -128 * tiny, -128 * tiny, -128 * tiny },
                 (uint8_t[3]) { 0 });
    f.compat = false;
    const int64_t n = 3;
    const rq_shape s = rq_shape_of(1, &n);
    assert_int_equal(rq_fq_check(&f, &s, NULL), RQ_NUMERIC);
    f.rule = RQ_FQ_DIVIDE;
    assert_int_equal(rq_fq_check(&f, &s, NULL), RQ_OK);
}

static void multipliers_keep_the_sign_of_zero(void **state)
{
    (void)state;
    const float one = 1;
    rq_fq f = { .type = { RQ_DTYPE_S8, -127, 127 }, .rule = RQ_FQ_MULTIPLIER, .axis = RQ_PER_TENSOR, .n = 1 };
    f.scale = &one;
    const float x[16] = { 0.5f,   1.5f, 2.5f,    -0.5f,   -1.5f, -2.5f,   126.5f, 127.4f,
                          127.5f, 128,  -127.5f, -127.6f, -128,  -128.5f, -300,   -0.0f };
    check_vector(&f, x, 16,
                 (float[]) { 0, 2, 2, -0.0f, -2, -2, 126, 127, 127, 127, -127, -127, -127, -127, -127, -0.0f }, NULL);
    const float m = 127 / 3.0f, big = 3;
    f.scale = &m;
    check_vector(&f, &big, 1, (float[]) { 127 / m }, NULL);
    f.rule = RQ_FQ_MULTIPLIER_RECIPROCAL;
    check_vector(&f, &big, 1, (float[]) { 127 * (1 / m) }, NULL);
}

static void float8_is_round_half_even_and_saturates(void **state)
{
    (void)state;
    const float one = 1;
    rq_fq f = { .type = { RQ_DTYPE_F8E4M3FN, 0, 0 }, .rule = RQ_FQ_MULTIPLIER, .axis = RQ_PER_TENSOR, .n = 1 };
    f.scale = &one;
    check_vector(&f,
                 (float[]) { 0x1p-10f, 0x1.8p-10f, 0x1.8p-9f, 0.1f, 0.2f, 1.0625f, 1.1875f, 17, 18, 19, 447, 464, 1e4f,
                             -0.3f, INFINITY, -INFINITY, NAN, -0.0f, 448 },
                 19,
                 (float[]) { 0, 0x1p-9f, 0x1p-8f, 0.1015625f, 0.203125f, 1, 1.25f, 16, 18, 20, 448, 448, 448, -0.3125f,
                             448, -448, NAN, -0.0f, 448 },
                 (uint8_t[]) { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1 });
    /* NVIDIA's own table, amax 2, printed to four digits */
    static const float table[20] = { -2,       -1.8571f, -1.5714f, -1.4286f, -1.1429f, -1,      -0.7857f,
                                     -0.5714f, -0.3929f, -0.1964f, 0,        0.1964f,  0.3929f, 0.5714f,
                                     0.7857f,  1,        1.1429f,  1.4286f,  1.5714f,  1.8571f };
    const float m = 448 / 2.0f;
    float x[20], y[20];
    for (int i = 0; i < 20; i++)
        x[i] = (float)(i - 10) / 5;
    f.scale = &m;
    const rq_strided vx = rq_strided_vector(x, 20), vy = rq_strided_vector(y, 20);
    assert_int_equal(rq_fake_quantize(NULL, &vy, NULL, &vx, &f, NULL), RQ_OK);
    for (int i = 0; i < 20; i++)
        assert_true(fabsf(y[i] - table[i]) <= 1e-4f);
    f.type.dtype = RQ_DTYPE_F8E5M2; /* two bits of mantissa, 57344 the largest */
    f.scale = &one;
    check_vector(&f, (float[]) { 1.125f, 1.375f, 6e4f, 61440, 1e6f, 0x1p-17f, 0x1.8p-16f, INFINITY, -NAN }, 9,
                 (float[]) { 1, 1.5f, 57344, 57344, 57344, 0, 0x1p-15f, 57344, NAN },
                 (uint8_t[]) { 1, 1, 0, 0, 0, 1, 1, 0, 0 });
}

/* ---- packing ---- */

static void packed_codes_are_in_order_from_the_low_bits(void **state)
{
    (void)state;
    const rq_shape s = rq_shape_of(2, (int64_t[]) { 3, 3 }); /* rows share bytes, as in quint4x2 */
    uint8_t codes[9] = { 1, 2, 3, 4, 5, 6, 7, 8, 15 }, out[9], bytes[5] = { 255, 255, 255, 255, 255 };
    const rq_tensor src = rq_tensor_view(RQ_DTYPE_U8, &s, codes);
    rq_tensor dst = rq_tensor_view(RQ_DTYPE_U4, &s, bytes), back = rq_tensor_view(RQ_DTYPE_U8, &s, out);
    assert_int_equal(rq_fq_pack(&dst, &src, NULL), RQ_OK);
    assert_memory_equal(bytes, ((uint8_t[]) { 0x21, 0x43, 0x65, 0x87, 0x0f }), 5);
    assert_int_equal(rq_fq_unpack(&back, &dst, NULL), RQ_OK);
    assert_memory_equal(out, codes, 9);
    rq_err err = { 0 };
    codes[4] = 16;
    assert_int_equal(rq_fq_pack(&dst, &src, &err), RQ_NUMERIC);
    assert_string_equal(err.text, "code 4 is 16, expected 0 to 15 to pack it as u4");
    int8_t twos[9] = { -2, -1, 0, 1, 1, 0, -1, -2, 1 }, twos_out[9];
    const rq_tensor src2 = rq_tensor_view(RQ_DTYPE_S8, &s, twos);
    rq_tensor dst2 = rq_tensor_view(RQ_DTYPE_S2, &s, bytes), back2 = rq_tensor_view(RQ_DTYPE_S8, &s, twos_out);
    assert_int_equal(rq_fq_pack(&dst2, &src2, NULL), RQ_OK);
    assert_memory_equal(bytes, ((uint8_t[]) { 0x4e, 0xb1, 0x01 }), 3);
    assert_int_equal(rq_fq_unpack(&back2, &dst2, NULL), RQ_OK);
    assert_memory_equal(twos_out, twos, 9);
    assert_int_equal(rq_fq_pack(&dst2, &src, &err), RQ_BAD_DTYPE);
    const rq_tensor other = rq_tensor_view(RQ_DTYPE_S8, &(rq_shape) { .rank = 1, .dim = { 9 } }, twos);
    assert_int_equal(rq_fq_pack(&dst2, &other, &err), RQ_BAD_SHAPE);
    assert_string_equal(err.text, "codes of the shape [9] and packed ones of [3,3], expected the same");
}

/* ---- refusals ---- */

static void what_does_not_fit_is_said(void **state)
{
    (void)state;
    const rq_shape s = rq_shape_of(2, (int64_t[]) { 3, 4 });
    float scale[12] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    const float nan = NAN;
    int32_t zp[4] = { 0, 0, 0, 0 };
    const rq_fq good = { .type = { RQ_DTYPE_S8, -128, 127 }, .axis = 1, .n = 4, .scale = scale, .zero_point = zp };
    assert_int_equal(rq_fq_check(&good, &s, NULL), RQ_OK);
    rq_err err;
#define REFUSED(change, status, text_)                                                                                 \
    do {                                                                                                               \
        rq_fq f = good;                                                                                                \
        change;                                                                                                        \
        err = (rq_err) { 0 };                                                                                          \
        assert_int_equal(rq_fq_check(&f, &s, &err), status);                                                           \
        assert_string_equal(err.text, text_);                                                                          \
    } while (0)
    REFUSED(f.axis = 2, RQ_BAD_SHAPE, "quantized along axis 2, but the tensor has rank 2");
    REFUSED(f.axis = -2, RQ_BAD_SHAPE, "quantized along axis -2, but the tensor has rank 2");
    REFUSED(f.n = 3, RQ_BAD_SHAPE, "3 scales along axis 1, expected 4");
    REFUSED(f.n = -1, RQ_BAD_SHAPE, "-1 scales along axis 1, expected 4");
    REFUSED(f.axis = RQ_PER_TENSOR, RQ_BAD_SHAPE, "4 scales for a tensor quantized as a whole");
    REFUSED(f.block = -1, RQ_BAD_ARG, "blocks of -1 along axis 1, expected 1 or more along an axis, or 0");
    REFUSED(f.block = 3, RQ_BAD_SHAPE, "4 scales along axis 1, expected 6");
    REFUSED(f.scale = NULL, RQ_BAD_ARG, "4 scales expected, but there are none");
    REFUSED(f.rule = (rq_fq_rule)7, RQ_BAD_ARG, "rule 7, expected 0 to 3");
    REFUSED(f.type.hi = 128, RQ_BAD_ARG, "codes -128 to 128 do not fit into s8, which holds -128 to 127");
    REFUSED(f.type.hi = -128, RQ_BAD_ARG, "codes -128 to -128 of s8: the first must be less than the last");
    REFUSED(f.type.dtype = RQ_DTYPE_F32, RQ_BAD_DTYPE,
            "numbers are not quantized to f32; the float types are f8e4m3fn and f8e5m2");
    REFUSED(f.type = rq_qtype_of(RQ_DTYPE_S32), RQ_BAD_ARG, "type s32, expected one of at most 16 bits");
    REFUSED(f.type = rq_qtype_of(RQ_DTYPE_F8E5M2), RQ_BAD_ARG, "zero points are given, but a float type has none");
    REFUSED(f.zero_point_f = &nan, RQ_BAD_ARG, "zero points are given twice, as integers and as real numbers");
    REFUSED((f.zero_point = NULL, f.zero_point_f = &nan), RQ_NUMERIC, "zero point 0 is nan, expected a finite number");
    zp[3] = 128;
    REFUSED((void)f, RQ_BAD_ARG, "zero point 3 is 128, expected -128 to 127");
    rq_fq any = good;
    any.compat = true; /* PyTorch takes any */
    assert_int_equal(rq_fq_check(&any, &s, NULL), RQ_OK);
    zp[3] = 0;
    scale[2] = -1;
    REFUSED((void)f, RQ_NUMERIC, "scale 2 is -1, expected a positive finite number");
    REFUSED(f.rule = RQ_FQ_MULTIPLIER, RQ_NUMERIC, "multiplier 2 is -1, expected a positive finite number");
    scale[2] = NAN;
    REFUSED((void)f, RQ_NUMERIC, "scale 2 is nan, expected a positive finite number");
    scale[2] = 1;

    float x[12] = { 0 };
    uint8_t m[12];
    rq_tensor tm = rq_tensor_view(RQ_DTYPE_U8, &s, m), tc = rq_tensor_view(RQ_DTYPE_U8, &s, m);
    const rq_strided vx = rq_strided_floats(x, &s), short_y = rq_strided_vector(x, 12), vm = rq_strided_of(&tm);
    rq_strided no_data = vx, half = vx;
    no_data.data = NULL;
    half.dtype = RQ_DTYPE_F16;
    assert_int_equal(rq_fake_quantize(NULL, &short_y, NULL, &vx, &good, &err), RQ_BAD_SHAPE);
    assert_string_equal(err.text, "y has the shape [12], expected [3,4] as x");
    assert_int_equal(rq_fake_quantize(NULL, &half, NULL, &vx, &good, &err), RQ_BAD_DTYPE);
    assert_string_equal(err.text, "y is f16, expected f32 as x");
    assert_int_equal(rq_fake_quantize(NULL, &vx, &vx, &vx, &good, &err), RQ_BAD_DTYPE);
    assert_string_equal(err.text, "the mask is f32, expected u8 or bool");
    assert_int_equal(rq_fake_quantize(NULL, &vm, NULL, &vm, &good, &err), RQ_BAD_DTYPE);
    assert_string_equal(err.text, "x is u8, expected f32, f64, f16 or bf16");
    assert_int_equal(rq_fake_quantize(NULL, &vx, NULL, &no_data, &good, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "x has the shape [3,4] and no data");
    assert_int_equal(rq_fq_quantize(NULL, &tc, &vx, &good, &err), RQ_BAD_DTYPE);
    assert_string_equal(err.text, "codes of u8, expected s8");
    rq_exec *e = NULL;
    assert_int_equal(rq_exec_create(&e, -1, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "-1 threads asked for, expected 0 (one per core) or more");
    setenv("RQ_CPU", "abacus", 1);
    assert_int_equal(rq_exec_create(&e, 1, &err), RQ_BAD_ARG);
    unsetenv("RQ_CPU");
    assert_null(e);
    assert_int_equal(rq_exec_threads(NULL), 1);
    assert_string_equal(rq_exec_isa(NULL), "scalar");
    rq_strided unknown = vx;
    unknown.shape.dim[0] = -1;
    assert_int_equal(rq_fake_quantize(NULL, &vx, NULL, &unknown, &good, &err), RQ_BAD_SHAPE);
}

static void memory_that_runs_out_is_an_error_and_no_leak(void **state)
{
    (void)state;
    float x[64], scale[8];
    for (int i = 0; i < 64; i++)
        x[i] = (float)i;
    for (int i = 0; i < 8; i++)
        scale[i] = 1;
    const rq_shape s = rq_shape_of(2, (int64_t[]) { 8, 8 });
    const rq_strided v = rq_strided_floats(x, &s);
    const rq_fq f = { .type = { RQ_DTYPE_S8, -8, 7 }, .axis = 1, .n = 8, .scale = scale };
    const size_t live = rq_mem_live();
    for (size_t n = 1; n < 50; n++) {
        rq_exec *e = NULL;
        rq_mem_fail_after(n, true);
        rq_status st = rq_exec_create(&e, 2, NULL);
        if (!st)
            st = rq_fake_quantize(e, &v, NULL, &v, &f, NULL);
        rq_mem_fail_after(0, false);
        rq_exec_destroy(e);
        assert_int_equal(rq_mem_live(), live);
        if (!st) {
            assert_true(n > 2 && x[63] == 7);
            return;
        }
        assert_int_equal(st, RQ_NO_MEMORY);
        assert_true(x[63] == 63); /* nothing was written */
    }
    fail_msg("it never succeeds");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ties_and_the_pass_band_are_pytorchs),
        cmocka_unit_test(the_zero_point_decides_where_ties_fall),
        cmocka_unit_test(what_is_not_finite),
        cmocka_unit_test(multipliers_keep_the_sign_of_zero),
        cmocka_unit_test(float8_is_round_half_even_and_saturates),
        cmocka_unit_test(packed_codes_are_in_order_from_the_low_bits),
        cmocka_unit_test(what_does_not_fit_is_said),
        cmocka_unit_test(memory_that_runs_out_is_an_error_and_no_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
