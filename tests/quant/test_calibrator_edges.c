/* requant/calibrator.h beyond the acceptance list: NaN, nothing, settings that are wrong, large counts; squared errors of whole tensors;
 * calibrators of a program. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/calibrator_help.h"
#include "requant/requant.h"

/* ---- beyond ---- */

static void numbers_that_are_none(void **state)
{
    const float nan[3] = { NAN, NAN, NAN }, inf[2] = { INFINITY, -INFINITY }, mixed[4] = { NAN, -2, INFINITY, 1 };
    for (int kind = 0; kind < 3; kind++) {
        rq_calibrator_cfg cfg = rq_calibrator_defaults(kind ? RQ_CALIBRATOR_HISTOGRAM : RQ_CALIBRATOR_MAX);
        cfg.numpy_hist = kind == 2;
        rq_calibrator *c = make(&cfg);
        rq_tensor t;
        rq_err err = { 0 };
        collect(c, nan, 3);
        collect(c, inf, 2);
        collect(c, nan, 0);
        assert_int_equal(rq_calibrator_amax(c, kind ? RQ_AMAX_PERCENTILE : RQ_AMAX_MAX, NULL, &t, &err), RQ_NOT_FOUND);
        assert_int_equal(rq_calibrator_info_of(c).nan, 3);
        assert_int_equal(rq_calibrator_info_of(c).infinite, 2);
        assert_int_equal(rq_calibrator_info_of(c).batches, 2);
        collect(c, mixed, 4);
        assert_int_equal(rq_calibrator_info_of(c).count, 2);
        assert_true(ask(c, RQ_AMAX_MAX) == 2);
        rq_calibrator_destroy(c);
        cfg.compat = true;
        c = make(&cfg);
        const rq_strided v = rq_strided_vector((float *)mixed, 4);
        if (kind) {
            assert_int_equal(rq_calibrator_collect(c, NULL, &v, &err), RQ_NUMERIC);
            assert_int_equal(rq_calibrator_info_of(c).batches, 0);
        } else {
            collect(c, mixed + 1, 2);
            assert_true(ask(c, RQ_AMAX_MAX) == INFINITY);
            collect(c, mixed, 4);
            assert_true(isnan(ask(c, RQ_AMAX_MAX)));
        }
        rq_calibrator_destroy(c);
    }
}

static void zeros_and_constants(void **state)
{
    const float zeros[64] = { 0 }, one[8] = { -3, -3, -3, -3, -3, -3, -3, -3 }, some[4] = { 1, 2, 3, 4 };
    for (int numpy = 0; numpy < 2; numpy++) {
        rq_calibrator *c = make_hist(8, false, 2048, numpy);
        rq_tensor h, e;
        collect(c, zeros, 64);
        for (int m = 0; m < RQ_N_AMAX_METHODS; m++)
            assert_true(ask(c, (rq_amax_method)m) == 0);
        assert_int_equal(rq_calibrator_histogram(c, &h, &e, NULL), RQ_NOT_FOUND);
        collect(c, some, 4);
        collect(c, zeros, 64);
        assert_int_equal(rq_calibrator_histogram(c, &h, &e, NULL), RQ_OK);
        assert_int_equal(h.u64[0], 128);
        assert_true(e.f32[0] == 0);
        rq_tensor_release(&h);
        rq_tensor_release(&e);
        assert_int_equal(rq_calibrator_reset(c), RQ_OK);
        collect(c, one, 8); /* one number: from 0, where numpy goes half to either side */
        for (int m = 0; m < RQ_N_AMAX_METHODS; m++) {
            const double amax = ask(c, (rq_amax_method)m);
            assert_true(amax > 2.99 && amax <= 3);
        }
        rq_calibrator_destroy(c);
    }
    const float small = 1e-44f, large = 3e38f;
    for (int numpy = 0; numpy < 2; numpy++) {
        rq_calibrator *c = make_hist(8, false, 2048, numpy);
        collect(c, &small, 1);
        for (int m = 0; m < RQ_N_AMAX_METHODS; m++)
            assert_true(ask(c, (rq_amax_method)m) >= 0);
        collect(c, &large, 1); /* the bins merge */
        assert_true(ask(c, RQ_AMAX_MAX) == (double)large);
        assert_true(ask_with(c, RQ_AMAX_PERCENTILE, 100, 1, 128) > 2.9e38);
        assert_true(ask(c, RQ_AMAX_MSE) > 2.9e38);
        assert_int_equal(rq_calibrator_info_of(c).count, 2);
        rq_calibrator_destroy(c);
    }
}

static void too_few_bins(void **state)
{
    rq_calibrator *c = make_hist(8, false, 128, false);
    rq_tensor t;
    rq_err err = { 0 };
    rq_amax_params p = rq_amax_defaults();
    gen_b(data, 1000, 1);
    collect(c, data, 1000);
    assert_int_equal(rq_calibrator_amax(c, RQ_AMAX_MSE, NULL, &t, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "128 bins is too short to search from bin 128: expected at least 129"));
    ask(c, RQ_AMAX_ENTROPY); /* 128 is enough there */
    p.start_bin = 129;
    assert_int_equal(rq_calibrator_amax(c, RQ_AMAX_ENTROPY, &p, &t, &err), RQ_BAD_ARG);
    p.start_bin = 0;
    assert_int_equal(rq_calibrator_amax(c, RQ_AMAX_ENTROPY, &p, &t, &err), RQ_BAD_ARG);
    p = rq_amax_defaults();
    p.stride = 0;
    assert_int_equal(rq_calibrator_amax(c, RQ_AMAX_MSE, &p, &t, &err), RQ_BAD_ARG);
    rq_calibrator_destroy(c);
}

static void wrong_settings(void **state)
{
    rq_err err = { 0 };
    rq_calibrator *c = NULL;
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_HISTOGRAM);
    cfg.n_axes = 1;
    assert_int_equal(rq_calibrator_create(&c, &cfg, &err), RQ_UNSUPPORTED);
    assert_string_equal(err.text, "Calibrator histogram collection only supports per tensor scaling");
    cfg = rq_calibrator_defaults(RQ_CALIBRATOR_HISTOGRAM);
    cfg.num_bins = 1;
    assert_int_equal(rq_calibrator_create(&c, &cfg, &err), RQ_BAD_ARG);
    cfg = rq_calibrator_defaults(RQ_CALIBRATOR_MAX);
    cfg.num_bits = 1;
    assert_int_equal(rq_calibrator_create(&c, &cfg, &err), RQ_BAD_ARG);
    cfg = rq_calibrator_defaults(RQ_CALIBRATOR_MSE);
    assert_int_equal(rq_calibrator_create(&c, &cfg, &err), RQ_BAD_ARG);
    cfg = rq_calibrator_defaults(RQ_CALIBRATOR_OWN);
    assert_int_equal(rq_calibrator_create(&c, &cfg, &err), RQ_BAD_ARG);
    assert_null(c);
    const int axis[2] = { 0, -2 }, far = 2;
    const int64_t dim[2] = { 3, 4 };
    const rq_shape s = rq_shape_of(2, dim);
    gen_b(data, 12, 1);
    rq_strided v = rq_strided_floats(data, &s);
    c = make_max(2, axis, false);
    assert_int_equal(rq_calibrator_collect(c, NULL, &v, &err), RQ_BAD_ARG); /* one axis twice */
    rq_calibrator_destroy(c);
    c = make_max(1, &far, false);
    assert_int_equal(rq_calibrator_collect(c, NULL, &v, &err), RQ_BAD_SHAPE);
    v.dtype = RQ_DTYPE_S8;
    assert_int_equal(rq_calibrator_collect(c, NULL, &v, &err), RQ_BAD_DTYPE);
    rq_tensor t;
    assert_int_equal(rq_calibrator_amax(c, RQ_AMAX_MSE, NULL, &t, &err), RQ_NOT_FOUND);
    rq_calibrator_destroy(c);
    rq_amax_method m;
    assert_int_equal(rq_amax_method_parse(&m, "entropy", &err), RQ_OK);
    assert_int_equal(m, RQ_AMAX_ENTROPY);
    assert_int_equal(rq_amax_method_parse(&m, "kl", &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "Unknown calibration method kl"));
}

/* numpy's first bin: gone for good once entropy was asked, as the package has it; and the first range. */
static void numpy_ways(void **state)
{
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_HISTOGRAM);
    cfg.numpy_hist = true;
    for (int compat = 0; compat < 2; compat++) {
        cfg.compat = compat;
        rq_calibrator *c = make(&cfg);
        collect_set(c, 'E');
        const double before = ask_with(c, RQ_AMAX_PERCENTILE, 50, 1, 128);
        ask(c, RQ_AMAX_ENTROPY);
        const double after = ask_with(c, RQ_AMAX_PERCENTILE, 50, 1, 128);
        assert_true(compat ? after > 100 * before : after == before);
        rq_calibrator_destroy(c);
    }
    const float first[4] = { 2, -3, 5, 4 }, second[4] = { 1, 8, 2.5f, 0 };
    cfg.compat = false;
    cfg.num_bins = 4;
    rq_calibrator *c = make(&cfg);
    rq_tensor h, e;
    collect(c, first, 4);
    collect(c, second, 4);
    assert_int_equal(rq_calibrator_histogram(c, &h, &e, NULL), RQ_OK);
    assert_int_equal(rq_tensor_count(&h), 8);
    assert_true(e.f32[0] == 2 && e.f32[1] == 2.75f && e.f32[4] == 5 && e.f32[8] == 8);
    static const uint64_t want[8] = { 2, 1, 1, 1, 0, 0, 0, 1 };
    assert_memory_equal(h.u64, want, sizeof want);
    assert_int_equal(rq_calibrator_info_of(c).skipped, 2); /* 1 and 0 lie below */
    rq_tensor_release(&h);
    rq_tensor_release(&e);
    rq_calibrator_destroy(c);
}

static void counts_beyond_24_bits(void **state)
{
    static float few[2] = { 0, 1 };
    const int64_t dim[2] = { 20000000, 2 };
    const rq_shape s = rq_shape_of(2, dim);
    rq_strided v = rq_strided_floats(few, &s);
    v.stride[0] = 0;
    v.stride[1] = 1;
    rq_calibrator *c = make_hist(8, false, 2048, false);
    rq_tensor h, e;
    assert_int_equal(rq_calibrator_collect(c, NULL, &v, NULL), RQ_OK);
    assert_int_equal(rq_calibrator_histogram(c, &h, &e, NULL), RQ_OK);
    assert_int_equal(h.u64[0], 20000000);
    assert_int_equal(h.u64[2047], 20000000);
    rq_tensor_release(&h);
    rq_tensor_release(&e);
    rq_calibrator_destroy(c);
}

/* ---- squared errors of tensors ---- */

/* Losses that ModelOpt 0.47 sums with its scaled_e4m3 in PyTorch 2.7, in f32. */
static void mse_of_e4m3(void **state)
{
    static const double want[9] = { 7683.4892578125,    2205.44287109375,  393.2685852050781,
                                    27.118778228759766, 11.51932430267334, 10.773265838623047,
                                    9.656401634216309,  8.914602279663086, 9.318300247192383 };
    float x[200], around = 11;
    const rq_shape scalar = { 0 };
    const rq_tensor amax = rq_tensor_view(RQ_DTYPE_F32, &scalar, &around);
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_MSE);
    rq_tensor loss;
    (void)state;
    cfg.e4m3 = true;
    cfg.step_size = 0.5;
    cfg.amax = &amax;
    rq_calibrator *c = make(&cfg);
    for (int i = 0; i < 200; i++)
        x[i] = (float)(i * 37 % 101 - 50) / 16 * (float)(1 + i % 7);
    collect(c, x, 200);
    for (int i = 0; i < 200; i++)
        x[i] *= 0.3f;
    collect(c, x, 200);
    assert_int_equal(rq_calibrator_losses(c, &loss, NULL, NULL), RQ_OK);
    assert_int_equal(rq_tensor_count(&loss), 9);
    for (int i = 0; i < 9; i++)
        assert_close(loss.f64[i], want[i], 1e-6);
    assert_true(ask(c, RQ_AMAX_MSE) == 38.84375);
    rq_tensor_release(&loss);
    rq_calibrator_destroy(c);
}

static void mse_on_tensors(void **state)
{
    /* 2 bits, codes -2..1 (narrow -1..1): amax 1, candidates 0.5, 1, 1.5, 2 */
    const float x[4] = { -2, 1, 0.4f, 0 };
    float around[1] = { 1 };
    const rq_shape scalar = { 0 };
    const rq_tensor amax = rq_tensor_view(RQ_DTYPE_F32, &scalar, around);
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_MSE);
    cfg.num_bits = 2;
    cfg.start = 0.5;
    cfg.stop = 2;
    cfg.step_size = 0.5;
    cfg.amax = &amax;
    rq_tensor loss, mult;
    for (int narrow = 0; narrow < 2; narrow++) {
        cfg.narrow_range = narrow;
        rq_calibrator *c = make(&cfg);
        collect(c, x, 4);
        collect(c, x, 4);
        assert_int_equal(rq_calibrator_losses(c, &loss, &mult, NULL), RQ_OK);
        static const double want[2][4] = { { 1 + 0.25 + 0.01, 0 + 0.16, 0.25 + 0.25 + 0.16, 0 + 1 + 0.16 },
                                           { 2.25 + 0.25 + 0.01, 1 + 0.16, 0.25 + 0.25 + 0.16, 0 + 1 + 0.16 } };
        for (int i = 0; i < 4; i++) {
            assert_true(mult.f32[i] == 0.5f * (float)(i + 1));
            assert_close(loss.f64[i], 2 * want[narrow][i], 1e-6);
        }
        assert_true(ask(c, RQ_AMAX_MSE) == (narrow ? 1.5 : 1));
        rq_tensor_release(&loss);
        rq_tensor_release(&mult);
        char text[RQ_CALIBRATOR_TEXT];
        assert_string_equal(rq_calibrator_text(c, text, sizeof text), "MseCalibrator(start=0.5 stop=2 candidates=4)");
        rq_calibrator_destroy(c);
    }
    cfg.is_unsigned = true;
    rq_calibrator *c = make(&cfg);
    rq_err err = { 0 };
    const rq_strided v = rq_strided_vector((float *)x, 4);
    assert_int_equal(rq_calibrator_collect(c, NULL, &v, &err), RQ_BAD_ARG);
    assert_int_equal(rq_calibrator_losses(c, &loss, &mult, NULL), RQ_NOT_FOUND);
    rq_calibrator_destroy(c);
    /* nothing but zeros: every candidate is as good, the first wins */
    const float zeros[4] = { 0 };
    cfg.is_unsigned = false;
    c = make(&cfg);
    collect(c, zeros, 4);
    assert_true(ask(c, RQ_AMAX_MSE) == 0.5);
    rq_calibrator_destroy(c);
    /* a channel of nothing */
    around[0] = 0;
    cfg.is_unsigned = false;
    c = make(&cfg);
    collect(c, x, 4);
    assert_true(ask(c, RQ_AMAX_MSE) == 0);
    rq_calibrator_destroy(c);
}

/* ---- own ---- */

static void *sum_create(void *user)
{
    ++*(int *)user;
    return calloc(1, sizeof(double));
}

static rq_status sum_collect(void *state, const float *x, const rq_shape *shape)
{
    for (int64_t i = 0; i < rq_shape_count(shape); i++)
        *(double *)state += (double)fabsf(x[i]);
    return RQ_OK;
}

static rq_status sum_amax(void *state, double *amax)
{
    *amax = *(double *)state;
    return RQ_OK;
}

static void own_calibrators(void **state)
{
    int made = 0;
    const rq_own_calibrator own = {
        .name = "sum", .create = sum_create, .collect = sum_collect, .amax = sum_amax, .destroy = free, .user = &made
    };
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_OWN);
    cfg.own = &own;
    rq_calibrator *c = make(&cfg);
    const float x[4] = { 1, -2, 3, 4 };
    rq_strided v = rq_strided_vector((float *)x, 2), turned = rq_strided_slice(&v, 0, 1, 2, -1);
    rq_state *s;
    char text[RQ_CALIBRATOR_TEXT];
    assert_int_equal(rq_calibrator_collect(c, NULL, &turned, NULL), RQ_OK);
    collect(c, x, 4);
    assert_true(ask(c, RQ_AMAX_MAX) == 13);
    assert_string_equal(rq_calibrator_text(c, text, sizeof text), "sum");
    assert_int_equal(rq_calibrator_reset(c), RQ_OK);
    assert_int_equal(made, 2);
    assert_int_equal(rq_state_create(&s), RQ_OK);
    assert_int_equal(rq_calibrator_save(c, s, NULL, NULL), RQ_UNSUPPORTED);
    rq_state_destroy(s);
    rq_calibrator_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_that_are_none),
        cmocka_unit_test(zeros_and_constants),
        cmocka_unit_test(too_few_bins),
        cmocka_unit_test(wrong_settings),
        cmocka_unit_test(numpy_ways),
        cmocka_unit_test(counts_beyond_24_bits),
        cmocka_unit_test(mse_on_tensors),
        cmocka_unit_test(mse_of_e4m3),
        cmocka_unit_test(own_calibrators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
