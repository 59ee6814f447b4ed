/* requant/calibrator.h by the tables of docs/calibration-facts.md 4.7 and the acceptance list of NVIDIA's toolkit, C1 to C8
 * (named so below), and what this library promises beyond: NaN, nothing, strides, threads, instruction sets, memory, states. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "quant/generators.h"
#include "requant/requant.h"

enum { MANY = 8192 };
static float data[MANY], more[MANY];

static void assert_close(double got, double want, double rel)
{
    if (!(fabs(got - want) <= rel * fabs(want)))
        fail_msg("got %.9g, want %.9g", got, want);
}

static rq_calibrator *make(const rq_calibrator_cfg *cfg)
{
    rq_err err = { 0 };
    rq_calibrator *c = NULL;
    if (rq_calibrator_create(&c, cfg, &err))
        fail_msg("%s", err.text);
    return c;
}

static rq_calibrator *make_hist(int num_bits, bool is_unsigned, int num_bins, bool numpy)
{
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_HISTOGRAM);
    cfg.num_bits = num_bits;
    cfg.is_unsigned = is_unsigned;
    cfg.num_bins = num_bins;
    cfg.numpy_hist = numpy;
    return make(&cfg);
}

static void collect(rq_calibrator *c, const float *x, int64_t n)
{
    rq_err err = { 0 };
    const rq_strided v = rq_strided_vector((float *)x, n);
    if (rq_calibrator_collect(c, NULL, &v, &err))
        fail_msg("%s", err.text);
}

static void collect_shape(rq_calibrator *c, const float *x, int rank, const int64_t *dim)
{
    rq_err err = { 0 };
    const rq_shape s = rq_shape_of(rank, dim);
    const rq_strided v = rq_strided_floats((float *)x, &s);
    if (rq_calibrator_collect(c, NULL, &v, &err))
        fail_msg("%s", err.text);
}

static double ask_with(rq_calibrator *c, rq_amax_method m, double percentile, int stride, int start)
{
    rq_err err = { 0 };
    rq_tensor t = { 0 };
    rq_amax_params p = rq_amax_defaults();
    p.percentile = percentile;
    p.stride = stride;
    p.start_bin = start;
    if (rq_calibrator_amax(c, m, &p, &t, &err))
        fail_msg("%s", err.text);
    assert_int_equal(t.dtype, RQ_DTYPE_F32);
    assert_int_equal(t.shape.rank, 0);
    const double amax = (double)t.f32[0];
    rq_tensor_release(&t);
    return amax;
}

static double ask(rq_calibrator *c, rq_amax_method m)
{
    return ask_with(c, m, 99.99, 1, 128);
}

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

static rq_calibrator *make_max(int n_axes, const int *axis, bool track)
{
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_MAX);
    cfg.n_axes = n_axes;
    for (int i = 0; i < n_axes; i++)
        cfg.axis[i] = axis[i];
    cfg.track_amax = track;
    return make(&cfg);
}

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

/* Data sets by the names of the tables; bins and settings of c. */
static void collect_set(rq_calibrator *c, char id)
{
    switch (id) {
    case 'A':
        gen_u(data, 4096, 1);
        collect(c, data, 4096);
        break;
    case 'B':
    case 'D':
        gen_b(data, MANY, 12345);
        if (id == 'D')
            gen_o(data, MANY);
        collect(c, data, MANY);
        break;
    case 'C':
        gen_t(data, MANY, 777);
        collect(c, data, MANY);
        break;
    case 'E':
        gen_b(data, MANY, 2024);
        gen_r(data, MANY);
        collect(c, data, MANY);
        break;
    case '4':
        gen_t(data, MANY, 2024);
        gen_r(data, MANY);
        collect(c, data, MANY);
        break;
    case 'F':
        gen_ramp(data, 1000);
        collect(c, data, 1000);
        break;
    case 'G':
        gen_b(data, 4096, 1);
        collect(c, data, 4096);
        gen_b(data, 4096, 2);
        for (int i = 0; i < 4096; i++)
            data[i] *= 2;
        collect(c, data, 4096);
        break;
    case 'z': /* Fz */
        gen_ramp(data, 500);
        collect(c, data, 500);
        gen_ramp(data, 1000);
        collect(c, data, 1000);
        break;
    default:
        fail();
    }
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

/* ---- the same from any threads, instructions, layout and cut ---- */

enum { BIG = 700001 };

static rq_calibrator_cfg cfg_of(int kind, const rq_tensor *around)
{
    static const rq_calibrator_kind kinds[5] = { RQ_CALIBRATOR_MAX, RQ_CALIBRATOR_HISTOGRAM, RQ_CALIBRATOR_HISTOGRAM,
                                                 RQ_CALIBRATOR_MSE, RQ_CALIBRATOR_MSE };
    rq_calibrator_cfg cfg = rq_calibrator_defaults(kinds[kind]);
    cfg.numpy_hist = kind == 2;
    cfg.skip_zeros = kind == 2;
    cfg.e4m3 = kind == 4;
    cfg.amax = around;
    cfg.step_size = 1;
    return cfg;
}

static void assert_same(rq_calibrator *a, rq_calibrator *b)
{
    rq_state *s[2];
    assert_int_equal(rq_state_create(&s[0]), RQ_OK);
    assert_int_equal(rq_state_create(&s[1]), RQ_OK);
    assert_int_equal(rq_calibrator_save(a, s[0], "q.", NULL), RQ_OK);
    assert_int_equal(rq_calibrator_save(b, s[1], "q.", NULL), RQ_OK);
    assert_int_equal(rq_state_count(s[0]), rq_state_count(s[1]));
    for (int i = 0; i < rq_state_count(s[0]); i++) {
        const rq_tensor *x = rq_state_tensor(s[0], i), *y = rq_state_tensor(s[1], i);
        assert_string_equal(rq_state_name(s[0], i), rq_state_name(s[1], i));
        assert_true(rq_shape_equal(&x->shape, &y->shape) && x->dtype == y->dtype);
        assert_memory_equal(x->data, y->data, x->bytes);
    }
    rq_state_destroy(s[0]);
    rq_state_destroy(s[1]);
}

static void threads_and_instructions_change_nothing(void **state)
{
    float *x = malloc(BIG * sizeof *x), around = 1.5f;
    assert_non_null(x);
    gen_t(x, BIG, 9);
    for (int i = 0; i < BIG; i += 13)
        x[i] = 0;
    x[77] = NAN;
    x[500000] = INFINITY;
    const rq_shape scalar = { 0 };
    const rq_tensor amax = rq_tensor_view(RQ_DTYPE_F32, &scalar, &around);
    const char *isa = getenv("RQ_CPU");
    char kept[32] = "";
    if (isa)
        strncpy(kept, isa, sizeof kept - 1);
    for (int kind = 0; kind < 5; kind++) {
        const rq_calibrator_cfg cfg = cfg_of(kind, &amax);
        rq_calibrator *plain = make(&cfg);
        const rq_strided v = rq_strided_vector(x, BIG);
        assert_int_equal(rq_calibrator_collect(plain, NULL, &v, NULL), RQ_OK);
        for (int run = 0; run < 3; run++) {
            rq_exec *e = NULL;
            if (run == 2)
                setenv("RQ_CPU", "scalar", 1);
            assert_int_equal(rq_exec_create(&e, run ? 2 : 1, NULL), RQ_OK);
            if (run == 2 && isa)
                setenv("RQ_CPU", kept, 1);
            else if (run == 2)
                unsetenv("RQ_CPU");
            rq_calibrator *c = make(&cfg);
            assert_int_equal(rq_calibrator_collect(c, e, &v, NULL), RQ_OK);
            assert_same(plain, c);
            rq_calibrator_destroy(c);
            rq_exec_destroy(e);
        }
        rq_calibrator_destroy(plain);
    }
    free(x);
}

static void strides_change_nothing(void **state)
{
    const int64_t dim[3] = { 6, 5, 4 }, turned[3] = { 4, 6, 5 };
    const int order[3] = { 2, 0, 1 };
    const rq_shape s = rq_shape_of(3, dim), st = rq_shape_of(3, turned);
    float around = 1;
    const rq_shape scalar = { 0 };
    const rq_tensor amax = rq_tensor_view(RQ_DTYPE_F32, &scalar, &around);
    gen_b(data, 120, 11);
    const rq_strided v = rq_strided_floats(data, &s), p = rq_strided_permute(&v, order);
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 5; j++)
            for (int k = 0; k < 4; k++)
                more[(k * 6 + i) * 5 + j] = data[(i * 5 + j) * 4 + k];
    const rq_strided copy = rq_strided_floats(more, &st);
    for (int kind = 0; kind < 5; kind++) {
        rq_calibrator_cfg cfg = cfg_of(kind, &amax);
        for (int axis = -1; axis < (kind == 1 || kind == 2 ? 0 : 3); axis++) {
            cfg.n_axes = axis >= 0;
            cfg.axis[0] = axis;
            rq_calibrator *a = make(&cfg), *b = make(&cfg);
            assert_int_equal(rq_calibrator_collect(a, NULL, &p, NULL), RQ_OK);
            assert_int_equal(rq_calibrator_collect(b, NULL, &copy, NULL), RQ_OK);
            assert_same(a, b);
            rq_calibrator_destroy(a);
            rq_calibrator_destroy(b);
        }
    }
    /* halves and doubles are read as f32 */
    uint16_t bf[3] = { 0x3f80, 0xc000, 0x3f00 };
    double wide[3] = { 1, -2, 0.5 };
    const int64_t n = 3;
    rq_strided h = { .dtype = RQ_DTYPE_BF16, .data = bf, .shape = rq_shape_of(1, &n), .stride = { 1 } };
    rq_calibrator *c = make_max(0, NULL, false);
    assert_int_equal(rq_calibrator_collect(c, NULL, &h, NULL), RQ_OK);
    assert_true(ask(c, RQ_AMAX_MAX) == 2);
    h.dtype = RQ_DTYPE_F64;
    h.data = wide;
    wide[0] = 7;
    assert_int_equal(rq_calibrator_collect(c, NULL, &h, NULL), RQ_OK);
    assert_true(ask(c, RQ_AMAX_MAX) == 7);
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

/* ---- memory and states ---- */

static rq_status whole_life(int kind, const rq_tensor *around, bool compare)
{
    const int64_t dim[2] = { 3, 40 };
    const rq_shape s = rq_shape_of(2, dim);
    rq_calibrator_cfg cfg = cfg_of(kind, around);
    cfg.track_amax = true;
    cfg.num_bins = 200;
    if (kind == 0 || kind > 2)
        cfg.n_axes = 1;
    rq_calibrator *c = NULL, *d = NULL;
    rq_state *state = NULL;
    rq_tensor t = { 0 };
    const rq_strided v = rq_strided_floats(data, &s), w = rq_strided_floats(more, &s);
    rq_status st = rq_calibrator_create(&c, &cfg, NULL);
    if (!st)
        st = rq_calibrator_create(&d, &cfg, NULL);
    if (!st)
        st = rq_calibrator_collect(c, NULL, &v, NULL);
    if (!st)
        st = rq_calibrator_collect(c, NULL, &w, NULL);
    if (!st)
        st = rq_calibrator_amax(c, kind == 0 ? RQ_AMAX_MAX : RQ_AMAX_MSE, NULL, &t, NULL);
    rq_tensor_release(&t);
    if (!st && (kind == 1 || kind == 2))
        st = rq_calibrator_amax(c, RQ_AMAX_ENTROPY, NULL, &t, NULL);
    rq_tensor_release(&t);
    if (!st)
        st = rq_state_create(&state);
    if (!st)
        st = rq_calibrator_save(c, state, "x.", NULL);
    if (!st)
        st = rq_calibrator_load(d, state, "x.", NULL);
    if (!st) { /* from here on both are the same, also when they go on */
        st = rq_calibrator_collect(c, NULL, &w, NULL);
        if (!st)
            st = rq_calibrator_collect(d, NULL, &w, NULL);
        if (!st && compare)
            assert_same(c, d);
        if (!st)
            st = rq_calibrator_reset(d);
    }
    rq_calibrator_destroy(c);
    rq_calibrator_destroy(d);
    rq_state_destroy(state);
    return st;
}

static void memory_may_fail_anywhere(void **state)
{
    float around = 2;
    const rq_shape scalar = { 0 };
    const rq_tensor amax = rq_tensor_view(RQ_DTYPE_F32, &scalar, &around);
    gen_b(data, 120, 21);
    gen_b(more, 120, 22);
    for (int i = 0; i < 120; i++)
        more[i] *= 3;
    for (int kind = 0; kind < 5; kind++) {
        const size_t live = rq_mem_live();
        rq_status st = RQ_NO_MEMORY;
        int n = 1;
        for (; st == RQ_NO_MEMORY && n < 500; n++) {
            rq_mem_fail_after((size_t)n, false);
            st = whole_life(kind, &amax, false);
            rq_mem_fail_after(0, false);
            assert_int_equal(rq_mem_live(), live);
        }
        assert_int_equal(st, RQ_OK);
        assert_in_range(n, 10, 400);
        assert_int_equal(whole_life(kind, &amax, true), RQ_OK);
    }
    /* what failed to be collected is not there */
    const int axis = 0;
    rq_calibrator *c = make_max(1, &axis, true);
    const rq_strided v = rq_strided_vector(data, 120);
    for (size_t n = 1; n < 4; n++) {
        rq_mem_fail_after(n, false);
        assert_int_equal(rq_calibrator_collect(c, NULL, &v, NULL), RQ_NO_MEMORY);
        rq_mem_fail_after(0, false);
        assert_int_equal(rq_calibrator_info_of(c).cells, 0);
        assert_int_equal(rq_calibrator_n_tracked(c), 0);
    }
    rq_calibrator_destroy(c);
    /* weights */
    const int64_t dim[2] = { 4, 30 };
    const rq_shape s = rq_shape_of(2, dim);
    const rq_strided w = rq_strided_floats(data, &s);
    rq_weights_cfg cfg = rq_weights_defaults();
    cfg.method = RQ_AMAX_MSE;
    const size_t live = rq_mem_live();
    rq_status st = RQ_NO_MEMORY;
    for (size_t n = 1; st == RQ_NO_MEMORY && n < 100; n++) {
        rq_tensor t = { 0 };
        rq_mem_fail_after(n, false);
        st = rq_calibrate_weights(&t, NULL, &w, 0, &cfg, NULL, NULL);
        rq_mem_fail_after(0, false);
        rq_tensor_release(&t);
        assert_int_equal(rq_mem_live(), live);
    }
    assert_int_equal(st, RQ_OK);
}

static void hostile_states(void **state)
{
    rq_calibrator *h = make_hist(8, false, 64, false), *m = make_max(0, NULL, false);
    rq_err err = { 0 };
    gen_b(data, 500, 1);
    collect(h, data, 500);
    for (int what = 0; what < 9; what++) {
        rq_state *s;
        assert_int_equal(rq_state_create(&s), RQ_OK);
        assert_int_equal(rq_calibrator_save(h, s, NULL, NULL), RQ_OK);
        const int64_t n64 = 64, n5 = 5;
        int64_t counts[64] = { 0 };
        const rq_shape five = rq_shape_of(1, &n5);
        double range[5] = { -1, 1, 0.01, 500, 0 };
        rq_tensor r = rq_tensor_view(RQ_DTYPE_F64, &five, range);
        r.shape.dim[0] = 4;
        r.bytes = 32;
        switch (what) {
        case 0:
            counts[3] = -1;
            break;
        case 1:
            rq_state_set_ints(s, NULL, "_calib_hist", counts, 63);
            break;
        case 2:
            range[2] = (double)NAN;
            break;
        case 3:
            range[0] = 2;
            break;
        case 4:
            range[3] = -1;
            break;
        case 5:
            counts[0] = -5;
            rq_state_set_ints(s, NULL, "counts", counts, 5);
            break;
        case 6:
            rq_state_set_text(s, NULL, "calibrator", "MaxCalibrator");
            break;
        case 7:
            rq_state_set_floats(s, NULL, "_calib_hist", data, 64);
            break;
        case 8:
            range[2] = 0.5; /* not the width of the edges */
            break;
        }
        if (what == 0)
            rq_state_set_ints(s, NULL, "_calib_hist", counts, n64);
        if (what == 2 || what == 3 || what == 4 || what == 8)
            assert_int_equal(rq_state_set(s, NULL, "_range", &r), RQ_OK);
        rq_calibrator *c = make_hist(8, false, 64, false);
        assert_int_not_equal(rq_calibrator_load(c, s, NULL, &err), RQ_OK);
        assert_int_equal(rq_calibrator_info_of(c).batches, 0);
        rq_calibrator_destroy(c);
        assert_int_not_equal(rq_calibrator_load(m, s, NULL, &err), RQ_OK);
        rq_state_destroy(s);
    }
    rq_calibrator_destroy(h);
    rq_calibrator_destroy(m);
    /* edges without a width, far below 0, and good ones, of numpy's form */
    static const double edges[3][3] = { { 1, 1, 1 }, { -3e38, 0, 3e38 }, { 0.5, 1, 1.5 } };
    h = make_hist(8, false, 2, true);
    collect(h, data, 500);
    for (int what = 0; what < 3; what++) {
        rq_state *s;
        double three[3];
        const int64_t n = 3, counts[2] = { 300, 200 };
        const rq_shape shape = rq_shape_of(1, &n);
        const rq_tensor t = rq_tensor_view(RQ_DTYPE_F64, &shape, memcpy(three, edges[what], sizeof three));
        assert_int_equal(rq_state_create(&s), RQ_OK);
        assert_int_equal(rq_calibrator_save(h, s, NULL, NULL), RQ_OK);
        assert_int_equal(rq_state_set(s, NULL, "_calib_bin_edges", &t), RQ_OK);
        assert_int_equal(rq_state_set_ints(s, NULL, "_calib_hist", counts, 2), RQ_OK);
        rq_calibrator *c = make_hist(8, false, 2, true);
        assert_int_equal(rq_calibrator_load(c, s, NULL, &err), what == 2 ? RQ_OK : RQ_BAD_DATA);
        rq_calibrator_destroy(c);
        rq_state_destroy(s);
    }
    rq_calibrator_destroy(h);
}

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
        cmocka_unit_test(table_of_maxima),
        cmocka_unit_test(table_of_tracked_maxima),
        cmocka_unit_test(table_with_zeros_skipped),
        cmocka_unit_test(table_of_searches),
        cmocka_unit_test(table_of_weights),
        cmocka_unit_test(c1_max),
        cmocka_unit_test(c2_entropy_and_mse_of_outliers),
        cmocka_unit_test(c3_skipped_zeros),
        cmocka_unit_test(c4_both_ways_of_counting_agree),
        cmocka_unit_test(c5_entropy_clips_one_outlier),
        cmocka_unit_test(c6_mse_clips_one_outlier),
        cmocka_unit_test(c7_percentiles),
        cmocka_unit_test(c8_weights_as_calibrators_have_them),
        cmocka_unit_test(weights_of_zeros_and_of_numbers_that_are_none),
        cmocka_unit_test(numbers_that_are_none),
        cmocka_unit_test(zeros_and_constants),
        cmocka_unit_test(too_few_bins),
        cmocka_unit_test(wrong_settings),
        cmocka_unit_test(numpy_ways),
        cmocka_unit_test(counts_beyond_24_bits),
        cmocka_unit_test(threads_and_instructions_change_nothing),
        cmocka_unit_test(strides_change_nothing),
        cmocka_unit_test(mse_on_tensors),
        cmocka_unit_test(mse_of_e4m3),
        cmocka_unit_test(own_calibrators),
        cmocka_unit_test(memory_may_fail_anywhere),
        cmocka_unit_test(hostile_states),
        cmocka_unit_test(weights_of_a_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
