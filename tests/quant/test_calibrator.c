/* requant/calibrator.h by the acceptance list of NVIDIA's toolkit, C1 to C8 (named so below). Its tables: test_calibrator_tables.c; what this
 * library promises beyond: test_calibrator_edges.c, test_calibrator_states.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "quant/calibrator_help.h"
#include "requant/requant.h"

static float more[MANY];

/* ---- the acceptance list ---- */

static void c1_max(void **state)
{
    const int axes[2] = { 0, -4 };
    const int64_t dim[4] = { 31, 5, 7, 3 };
    enum { N = 31 * 5 * 7 * 3 };
    gen_b(data, N, 3);
    gen_t(more, N, 4);
    for (int a = -1; a < 2; a++) {
        rq_calibrator *c = make_max(a >= 0, axes + (a > 0), false);
        rq_tensor t;
        collect_shape(c, data, 4, dim);
        collect_shape(c, more, 4, dim);
        assert_int_equal(rq_calibrator_amax(c, RQ_AMAX_MAX, NULL, &t, NULL), RQ_OK);
        assert_int_equal(rq_tensor_count(&t), a < 0 ? 1 : 31);
        for (int i = 0; i < (a < 0 ? 1 : 31); i++) {
            const int span = a < 0 ? N : N / 31;
            float want = 0;
            for (int j = i * span; j < (i + 1) * span; j++)
                want = fmaxf(want, fmaxf(fabsf(data[j]), fabsf(more[j])));
            assert_true(t.f32[i] == want);
        }
        rq_tensor_release(&t);
        rq_err err = { 0 };
        assert_int_equal(rq_calibrator_reset(c), RQ_OK);
        assert_int_equal(rq_calibrator_amax(c, RQ_AMAX_MAX, NULL, &t, &err), RQ_NOT_FOUND);
        assert_non_null(strstr(err.text, "Calibrator returned None"));
        rq_calibrator_destroy(c);
    }
    const int64_t a[2] = { 32, 2 }, b[2] = { 33, 2 };
    const rq_shape sb = rq_shape_of(2, b);
    const rq_strided vb = rq_strided_floats(data, &sb);
    rq_calibrator *c = make_max(1, axes, true);
    rq_err err = { 0 };
    char text[RQ_CALIBRATOR_TEXT];
    collect_shape(c, data, 2, a);
    assert_int_equal(rq_calibrator_collect(c, NULL, &vb, &err), RQ_BAD_SHAPE);
    assert_non_null(strstr(err.text, "shape changed"));
    assert_int_equal(rq_calibrator_info_of(c).batches, 1);
    assert_int_equal(rq_calibrator_n_tracked(c), 1);
    assert_string_equal(rq_calibrator_text(c, text, sizeof text), "MaxCalibrator(track_amax=True)");
    rq_calibrator_destroy(c);
}

static void c2_entropy_and_mse_of_outliers(void **state)
{
    const float a[6] = { 0, 255, 255, 255, 255, 255 }, b[6] = { 0, 255, 255, 255, 255, 256 };
    for (int compat = 0; compat < 2; compat++) {
        rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_HISTOGRAM);
        cfg.compat = compat;
        rq_calibrator *c = make(&cfg);
        collect(c, a, 6);
        collect(c, b, 6);
        assert_int_equal(rq_calibrator_info_of(c).bins, 2057);
        const double entropy = ask(c, RQ_AMAX_ENTROPY), mse = ask(c, RQ_AMAX_MSE);
        assert_true(fabs(entropy - 255) < fabs(entropy - 256));
        assert_close(entropy, compat ? 254.8755 : 255.124512, 1e-6);
        assert_close(mse, 255.0623, 1e-6);
        rq_calibrator_destroy(c);
    }
}

static void c3_skipped_zeros(void **state)
{
    const float a[10] = { 0, 0, 0, 0, 0, 1, 2, 3, 4, 5 }, b[10] = { 0, 0, 0, 0, 0, 6, 7, 8, 9, 10 };
    for (int numpy = 0; numpy < 2; numpy++) {
        rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_HISTOGRAM);
        cfg.skip_zeros = true;
        cfg.numpy_hist = numpy;
        rq_calibrator *c = make(&cfg);
        collect(c, a, 10);
        collect(c, b, 10);
        const double p = ask_with(c, RQ_AMAX_PERCENTILE, 50, 1, 128);
        assert_true(fabs(p - 5) <= 10.0 / 2048);
        if (!numpy) {
            assert_close(p, 4.99755859, 1e-7);
            assert_int_equal(rq_calibrator_info_of(c).bins, 4096);
        }
        assert_int_equal(rq_calibrator_info_of(c).skipped, 10);
        rq_calibrator_destroy(c);
    }
}

static void c4_both_ways_of_counting_agree(void **state)
{
    rq_calibrator *c[2] = { make_hist(8, false, 19, false), make_hist(8, false, 19, true) };
    static const float scale[7] = { 1, 0.5f, 1.7f, 1.2f, 3.9f, 0.1f, 7.3f };
    for (int i = 0; i < 7; i++) {
        gen_u(data, 500, 40 + (uint32_t)i);
        for (int j = 0; j < 500; j++)
            data[j] *= scale[i] * (j % 2 ? 1 : -1);
        data[0] = 0;
        rq_tensor h[2], e[2];
        for (int k = 0; k < 2; k++) {
            collect(c[k], data, 500);
            assert_int_equal(rq_calibrator_histogram(c[k], &h[k], &e[k], NULL), RQ_OK);
            assert_int_equal(rq_tensor_count(&e[k]), rq_tensor_count(&h[k]) + 1);
        }
        assert_int_equal(rq_tensor_count(&h[0]), rq_tensor_count(&h[1]));
        assert_memory_equal(h[0].u64, h[1].u64, h[0].bytes);
        for (int64_t j = 0; j < rq_tensor_count(&e[0]); j++)
            assert_true(fabsf(e[0].f32[j] - e[1].f32[j]) < 1.5e-6f);
        for (int k = 0; k < 2; k++) {
            rq_tensor_release(&h[k]);
            rq_tensor_release(&e[k]);
        }
    }
    rq_calibrator_destroy(c[0]);
    rq_calibrator_destroy(c[1]);
}

static void c5_entropy_clips_one_outlier(void **state)
{
    for (int k = 0; k < 8; k++) {
        const bool is_unsigned = k & 1, numpy = k & 2, twice = k & 4;
        rq_calibrator *c = make_hist(8, is_unsigned, 2048, numpy);
        gen_u(data, 693, 1);
        data[200] = 10;
        collect(c, data, 693);
        if (twice) {
            gen_u(more, 693, 2);
            collect(c, more, 693);
        }
        const double amax = ask(c, RQ_AMAX_ENTROPY);
        assert_true(amax < 1.1);
        if (!numpy && !twice)
            assert_close(amax, 1.00097656, 1e-7);
        rq_calibrator_destroy(c);
    }
}

static void c6_mse_clips_one_outlier(void **state)
{
    for (int k = 0; k < 4; k++) {
        const bool is_unsigned = k & 1, twice = k & 2;
        const float most = is_unsigned ? 512 : 255;
        rq_calibrator *c = make_hist(8, is_unsigned, 2048, false);
        for (int i = 0; i < 693; i++)
            data[i] = most;
        data[100] = most + 1;
        collect(c, data, 693);
        if (twice)
            collect(c, data, 693);
        const double amax = ask(c, RQ_AMAX_MSE);
        assert_true(fabs(amax - (double)most) < fabs(amax - (double)most - 1));
        if (twice)
            assert_close(amax, is_unsigned ? 512.123291 : 255.0625, 1e-7);
        rq_calibrator_destroy(c);
    }
}

static void c7_percentiles(void **state)
{
    rq_calibrator *c = make_hist(8, false, 2048, false);
    for (int i = 0; i < 100; i++) {
        data[i] = (float)i;
        more[i] = (float)i / 2;
    }
    collect(c, data, 100);
    assert_true(fabs(ask_with(c, RQ_AMAX_PERCENTILE, 90, 1, 128) - 89) <= 100.0 / 1024);
    assert_close(ask_with(c, RQ_AMAX_PERCENTILE, 90, 1, 128), 88.9936523, 1e-8);
    collect(c, more, 100);
    assert_close(ask_with(c, RQ_AMAX_PERCENTILE, 99, 1, 128), 96.9697266, 1e-8);
    rq_calibrator *u = make_hist(8, true, 2048, false);
    collect(u, data, 100);
    assert_close(ask_with(u, RQ_AMAX_PERCENTILE, 80, 1, 128), 78.9873047, 1e-8);
    rq_amax_params p = rq_amax_defaults();
    rq_tensor t;
    static const double out[3] = { -10, 200, (double)NAN };
    for (int i = 0; i < 3; i++) {
        rq_err err = { 0 };
        p.percentile = out[i];
        assert_int_equal(rq_calibrator_amax(u, RQ_AMAX_PERCENTILE, &p, &t, &err), RQ_BAD_ARG);
        assert_non_null(strstr(err.text, "range"));
    }
    /* the other edge of the bin, and the ends */
    p.percentile = 100;
    assert_close(ask_with(u, RQ_AMAX_PERCENTILE, 100, 1, 128), 99.0 * 2047 / 2048, 1e-7);
    assert_true(ask_with(u, RQ_AMAX_PERCENTILE, 0, 1, 128) == 0);
    p.upper_edge = true;
    assert_int_equal(rq_calibrator_amax(u, RQ_AMAX_PERCENTILE, &p, &t, NULL), RQ_OK);
    assert_true(t.f32[0] == 99);
    rq_tensor_release(&t);
    rq_calibrator_destroy(c);
    rq_calibrator_destroy(u);
}

static void c8_weights_as_calibrators_have_them(void **state)
{
    const int64_t dim[4] = { 8, 4, 3, 3 };
    const rq_shape s = rq_shape_of(4, dim);
    static const rq_amax_method methods[3] = { RQ_AMAX_MAX, RQ_AMAX_PERCENTILE, RQ_AMAX_MSE };
    gen_t(data, 288, 5);
    const rq_strided w = rq_strided_floats(data, &s);
    for (int axis = -1; axis < 2; axis++)
        for (int m = 0; m < 3; m++) {
            rq_weights_cfg cfg = rq_weights_defaults();
            cfg.method = methods[m];
            cfg.per_channel = axis >= 0;
            rq_tensor amax;
            assert_int_equal(rq_calibrate_weights(&amax, NULL, &w, axis < 0 ? 0 : axis, &cfg, NULL, NULL), RQ_OK);
            if (m == 0) { /* the quantizer's own calibrator: same numbers, same shape */
                rq_calibrator *c = make_max(axis >= 0, &axis, false);
                rq_tensor t;
                assert_int_equal(rq_calibrator_collect(c, NULL, &w, NULL), RQ_OK);
                assert_int_equal(rq_calibrator_amax(c, RQ_AMAX_MAX, NULL, &t, NULL), RQ_OK);
                assert_true(rq_shape_equal(&t.shape, &amax.shape));
                assert_memory_equal(t.f32, amax.f32, t.bytes);
                rq_tensor_release(&t);
                rq_calibrator_destroy(c);
            }
            for (int64_t i = 0; m && i < rq_tensor_count(&amax); i++) {
                const rq_strided slice = axis < 0 ? w : rq_strided_slice(&w, axis, i, 1, 1);
                rq_calibrator *c = make_hist(8, false, 2048, false);
                assert_int_equal(rq_calibrator_collect(c, NULL, &slice, NULL), RQ_OK);
                assert_true((double)amax.f32[i] == ask(c, methods[m]));
                rq_calibrator_destroy(c);
            }
            rq_tensor_release(&amax);
        }
    rq_weights_cfg cfg = rq_weights_defaults();
    rq_tensor amax;
    rq_err err = { 0 };
    cfg.method = RQ_AMAX_ENTROPY;
    assert_int_equal(rq_calibrate_weights(&amax, NULL, &w, 0, &cfg, NULL, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "Unsupported calibration method entropy"));
    cfg.method = RQ_AMAX_MAX;
    cfg.per_channel = false;
    cfg.compat = true;
    assert_int_equal(rq_calibrate_weights(&amax, NULL, &w, 0, &cfg, NULL, &err), RQ_BAD_ARG);
}

static void weights_of_zeros_and_of_numbers_that_are_none(void **state)
{
    float w[12] = { 1, -2, 0.5f, 0, 0, 0, NAN, INFINITY, 3, NAN, NAN, NAN };
    const int64_t dim[2] = { 4, 3 };
    const rq_shape s = rq_shape_of(2, dim);
    const rq_strided v = rq_strided_floats(w, &s);
    rq_exec *e = NULL;
    assert_int_equal(rq_exec_create(&e, 2, NULL), RQ_OK);
    static const rq_amax_method methods[3] = { RQ_AMAX_MAX, RQ_AMAX_PERCENTILE, RQ_AMAX_MSE };
    for (int m = 0; m < 3; m++)
        for (int per_channel = 0; per_channel < 2; per_channel++) {
            rq_weights_cfg cfg = rq_weights_defaults();
            cfg.method = methods[m];
            cfg.per_channel = per_channel;
            rq_tensor a, b;
            uint64_t bad = 0;
            assert_int_equal(rq_calibrate_weights(&a, e, &v, 0, &cfg, &bad, NULL), RQ_OK);
            assert_int_equal(rq_calibrate_weights(&b, NULL, &v, 0, &cfg, NULL, NULL), RQ_OK);
            assert_int_equal(bad, 5);
            assert_memory_equal(a.f32, b.f32, a.bytes);
            if (per_channel) {
                assert_close((double)a.f32[0], 2, 1e-2);
                assert_true(a.f32[1] == 0 && a.f32[3] == 0);
                assert_close((double)a.f32[2], 3, 1e-2);
            } else {
                assert_close((double)a.f32[0], 3, 1e-2);
            }
            rq_tensor_release(&a);
            rq_tensor_release(&b);
        }
    rq_exec_destroy(e);
}

/* ---- memory and states ---- */

static void weights_of_a_graph(void **state)
{
    rq_graph *g = NULL;
    rq_state *out;
    rq_err err = { 0 };
    rq_weights_cfg cfg = rq_weights_defaults();
    cfg.method = RQ_AMAX_MAX;
    assert_int_equal(rq_state_create(&out), RQ_OK);
    if (rq_load(&g, "models/digits-cnn.onnx", &err) || rq_calibrate_graph_weights(out, NULL, g, &cfg, &err))
        fail_msg("%s", err.text);
    assert_int_equal(rq_state_count(out), 5);
    int channels = 0;
    for (int i = 0; i < rq_state_count(out); i++) {
        const rq_tensor *t = rq_state_tensor(out, i);
        channels += (int)rq_tensor_count(t);
        for (int64_t j = 0; j < rq_tensor_count(t); j++)
            assert_true(t->f32[j] > 0 && t->f32[j] < 10);
    }
    assert_int_equal(channels, 16 + 32 + 32 + 64 + 10);
    rq_state_destroy(out);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c1_max),
        cmocka_unit_test(c2_entropy_and_mse_of_outliers),
        cmocka_unit_test(c3_skipped_zeros),
        cmocka_unit_test(c4_both_ways_of_counting_agree),
        cmocka_unit_test(c5_entropy_clips_one_outlier),
        cmocka_unit_test(c6_mse_clips_one_outlier),
        cmocka_unit_test(c7_percentiles),
        cmocka_unit_test(c8_weights_as_calibrators_have_them),
        cmocka_unit_test(weights_of_zeros_and_of_numbers_that_are_none),
        cmocka_unit_test(weights_of_a_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
