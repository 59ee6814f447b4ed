/* requant/calibrator.h by the tables of docs/calibration-facts.md 4.7. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "quant/calibrator_help.h"
#include "requant/requant.h"

static void assert_amax(rq_calibrator *c, rq_amax_method m, int rank, const int64_t *dim, const double *want,
                        double rel)
{
    rq_err err = { 0 };
    rq_tensor t = { 0 };
    if (rq_calibrator_amax(c, m, NULL, &t, &err))
        fail_msg("%s", err.text);
    const rq_shape s = rq_shape_of(rank, dim);
    assert_true(rq_shape_equal(&t.shape, &s));
    for (int64_t i = 0; i < rq_tensor_count(&t); i++)
        assert_close((double)t.f32[i], want[i], rel);
    rq_tensor_release(&t);
}

/* ---- tables ---- */

static const int64_t shape4[4] = { 4, 3, 3, 3 };
static const double max_axis0[4] = { 1.06632996, 1.71536255, 1.29214478, 0.979660034 };

static void table_of_maxima(void **state)
{
    static const struct {
        int n_axes, axis[2];
        int64_t dim[4];
        double amax[12];
    } rows[] = {
        { 1, { 0 }, { 4, 1, 1, 1 }, { 1.06632996, 1.71536255, 1.29214478, 0.979660034 } },
        { 1, { -4 }, { 4, 1, 1, 1 }, { 1.06632996, 1.71536255, 1.29214478, 0.979660034 } },
        { 1, { 1 }, { 1, 3, 1, 1 }, { 1.33200073, 0.895355225, 1.71536255 } },
        { 2,
          { 0, 1 },
          { 4, 3, 1, 1 },
          { 1.06632996, 0.811691284, 0.875289917, 1.33200073, 0.508392334, 1.71536255, 1.29214478, 0.895355225,
            1.10693359, 0.961303711, 0.719512939, 0.979660034 } },
        { 2,
          { -3, 0 },
          { 4, 3, 1, 1 },
          { 1.06632996, 0.811691284, 0.875289917, 1.33200073, 0.508392334, 1.71536255, 1.29214478, 0.895355225,
            1.10693359, 0.961303711, 0.719512939, 0.979660034 } },
    };
    gen_b(data, 108, 99);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        rq_calibrator *c = make_max(rows[r].n_axes, rows[r].axis, false);
        collect_shape(c, data, 4, shape4);
        assert_amax(c, RQ_AMAX_MAX, 4, rows[r].dim, rows[r].amax, 1e-8);
        rq_calibrator_destroy(c);
    }
    rq_calibrator *c = make_max(0, NULL, false);
    gen_b(data, 4096, 1);
    collect(c, data, 4096);
    assert_close(ask(c, RQ_AMAX_MAX), 1.82817078, 1e-8);
    gen_b(data, 4096, 2);
    for (int i = 0; i < 4096; i++)
        data[i] *= 2;
    collect(c, data, 4096);
    assert_close(ask(c, RQ_AMAX_MAX), 3.62112427, 1e-8);
    rq_calibrator_destroy(c);
}

static void table_of_tracked_maxima(void **state)
{
    static const double halved[4] = { 0.533164978, 0.857681274, 0.646072388, 0.489830017 };
    const int axis = 0;
    rq_calibrator *c = make_max(1, &axis, true);
    gen_b(data, 108, 99);
    collect_shape(c, data, 4, shape4);
    for (int i = 0; i < 108; i++)
        data[i] /= 2;
    collect_shape(c, data, 4, shape4);
    const int64_t keep[4] = { 4, 1, 1, 1 };
    assert_amax(c, RQ_AMAX_MAX, 4, keep, max_axis0, 1e-8);
    assert_int_equal(rq_calibrator_n_tracked(c), 2);
    for (int i = 0; i < 4; i++) {
        assert_close((double)rq_calibrator_tracked(c, 0)->f32[i], max_axis0[i], 1e-8);
        assert_close((double)rq_calibrator_tracked(c, 1)->f32[i], halved[i], 1e-8);
    }
    assert_int_equal(rq_calibrator_reset(c), RQ_OK);
    assert_int_equal(rq_calibrator_n_tracked(c), 0); /* the package keeps the list */
    rq_calibrator_destroy(c);
}

static void table_with_zeros_skipped(void **state)
{
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_HISTOGRAM);
    cfg.skip_zeros = true;
    rq_calibrator *c = make(&cfg);
    collect_set(c, 'z');
    rq_tensor h, e;
    assert_int_equal(rq_calibrator_histogram(c, &h, &e, NULL), RQ_OK);
    const int64_t n = rq_tensor_count(&h);
    assert_int_equal(n, 4101);
    assert_int_equal(rq_tensor_count(&e), n + 1);
    assert_close((double)e.f32[1], 0.00190353394, 1e-7);
    assert_close((double)e.f32[n], 7.80639267, 1e-7);
    uint64_t occupied = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        occupied += h.u64[i] > 0;
        sum += (uint64_t)i * h.u64[i];
    }
    static const uint64_t head[5] = { 0, 0, 0, 0, 2 };
    assert_memory_equal(h.u64, head, sizeof head);
    assert_int_equal(occupied, 1000);
    assert_int_equal(sum, 2561304);
    rq_tensor_release(&h);
    rq_tensor_release(&e);
    static const double p[5] = { 50, 90, 99, 99.9, 99.99 },
                        amax[5] = { 2.92953873, 6.63952637, 7.69408417, 7.796875, 7.80448914 };
    for (int i = 0; i < 5; i++)
        assert_close(ask_with(c, RQ_AMAX_PERCENTILE, p[i], 1, 128), amax[i], 1e-7);
    assert_int_equal(rq_calibrator_info_of(c).skipped, 2);
    assert_int_equal(rq_calibrator_reset(c), RQ_OK);
    collect_set(c, 'E');
    assert_int_equal(rq_calibrator_info_of(c).count - rq_calibrator_info_of(c).skipped, 4108);
    assert_close(ask_with(c, RQ_AMAX_PERCENTILE, 50, 1, 128), 0.395128131, 1e-7);
    assert_close(ask_with(c, RQ_AMAX_PERCENTILE, 99.9, 1, 128), 1.68737674, 1e-7);
    rq_calibrator_destroy(c);
}

/* The answers of the searches; test_calibrate.c has what they minimize. mse curves are flat, but these are the package's own bins. */
static void table_of_searches(void **state)
{
    static const struct {
        char id;
        int bits, bins, stride, start;
        bool is_unsigned;
        double mse, entropy;
    } rows[] = {
        { 'A', 8, 2048, 1, 128, false, 0.992427349, 0.998042524 },
        { 'B', 8, 2048, 1, 128, false, 1.76679695, 1.74308455 },
        { 'B', 8, 2048, 4, 256, false, 1.76500738, 1.74308455 },
        { 'B', 8, 512, 1, 128, false, 1.8164587, 1.74666381 },
        { 'C', 8, 2048, 1, 128, false, 3.46574521, 2.67859197 },
        { 'C', 6, 2048, 1, 128, false, 2.78954482, 2.42698264 },
        { 'C', 4, 2048, 1, 128, false, 2.10286093, 2.23652816 },
        { 'D', 8, 2048, 1, 128, false, 8.47852135, 1.83459711 },
        { 'E', 8, 2048, 1, 128, true, 1.83150864, 1.67480445 },
        { 'E', 8, 2048, 1, 128, false, 1.82881463, 1.83914185 },
        { '4', 4, 2048, 1, 128, true, 2.59711504, 2.24119854 },
        { 'F', 8, 2048, 1, 128, false, 7.77610588, 7.8046875 },
        { 'G', 8, 2048, 1, 128, false, 3.45772433, 3.29749179 },
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        rq_calibrator *c = make_hist(rows[r].bits, rows[r].is_unsigned, rows[r].bins, false);
        collect_set(c, rows[r].id);
        assert_close(ask_with(c, RQ_AMAX_ENTROPY, 0, rows[r].stride, rows[r].start), rows[r].entropy, 1e-7);
        assert_close(ask_with(c, RQ_AMAX_MSE, 0, rows[r].stride, rows[r].start), rows[r].mse, 1e-3);
        rq_calibrator_destroy(c);
    }
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_HISTOGRAM);
    cfg.e4m3 = true;
    rq_calibrator *c = make(&cfg);
    collect_set(c, 'C');
    assert_close(ask(c, RQ_AMAX_MSE), 3.46923971, 1e-3);
    rq_tensor t;
    assert_int_equal(rq_calibrator_amax(c, RQ_AMAX_ENTROPY, NULL, &t, NULL), RQ_UNSUPPORTED);
    rq_calibrator_destroy(c);
}

static void table_of_weights(void **state)
{
    static const struct {
        int64_t dim[4];
        int axis;
        bool per_channel;
        rq_amax_method method;
        double percentile, amax[4];
    } rows[] = {
        { { 4, 8, 3, 3 }, 0, true, RQ_AMAX_MAX, 0, { 1.71536255, 1.46229553, 1.34651184, 1.16545105 } },
        { { 4, 8, 3, 3 }, -4, true, RQ_AMAX_PERCENTILE, 99.99, { 1.71452498, 1.46158147, 1.3458544, 1.16488194 } },
        { { 4, 8, 3, 3 }, 0, true, RQ_AMAX_PERCENTILE, 90, { 0.811614394, 0.895370424, 0.885620832, 0.975382388 } },
        { { 4, 8, 3, 3 }, 0, true, RQ_AMAX_MSE, 0, { 1.71326864, 1.4619385, 1.33829331, 1.16402841 } },
        { { 4, 8, 3, 3 }, 0, false, RQ_AMAX_PERCENTILE, 99.99, { 1.71452498 } },
        { { 4, 8, 3, 3 }, 0, false, RQ_AMAX_PERCENTILE, 90, { 0.899560213 } },
        { { 4, 8, 3, 3 }, 0, false, RQ_AMAX_MSE, 0, { 1.70238006 } },
        { { 4, 8, 3, 3 }, 0, false, RQ_AMAX_MAX, 0, { 1.71536255 } },
        { { 8, 4, 3, 3 }, 1, true, RQ_AMAX_MAX, 0, { 1.27095032, 1.71536255, 1.29214478, 1.46229553 } },
        { { 8, 4, 3, 3 }, 1, true, RQ_AMAX_PERCENTILE, 99.99, { 1.27032971, 1.71452498, 1.2915138, 1.46158147 } },
        { { 8, 4, 3, 3 }, 1, true, RQ_AMAX_MSE, 0, { 1.26505482, 1.71075583, 1.28678179, 1.46122456 } },
    };
    gen_b(data, 288, 99);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        rq_weights_cfg cfg = rq_weights_defaults();
        cfg.method = rows[r].method;
        cfg.per_channel = rows[r].per_channel;
        if (cfg.method == RQ_AMAX_PERCENTILE)
            cfg.percentile = rows[r].percentile;
        const rq_shape s = rq_shape_of(4, rows[r].dim);
        const rq_strided w = rq_strided_floats(data, &s);
        rq_tensor amax = { 0 };
        rq_err err = { 0 };
        uint64_t bad = 7;
        if (rq_calibrate_weights(&amax, NULL, &w, rows[r].axis, &cfg, &bad, &err))
            fail_msg("%s", err.text);
        assert_int_equal(bad, 0);
        assert_int_equal(amax.shape.rank, rows[r].per_channel ? 4 : 0);
        assert_int_equal(rq_tensor_count(&amax), rows[r].per_channel ? 4 : 1);
        if (rows[r].per_channel)
            assert_int_equal(amax.shape.dim[rows[r].axis < 0 ? 0 : rows[r].axis], 4);
        for (int64_t i = 0; i < rq_tensor_count(&amax); i++)
            assert_close((double)amax.f32[i], rows[r].amax[i], 2e-7);
        rq_tensor_release(&amax);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_of_maxima),          cmocka_unit_test(table_of_tracked_maxima),
        cmocka_unit_test(table_with_zeros_skipped), cmocka_unit_test(table_of_searches),
        cmocka_unit_test(table_of_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
