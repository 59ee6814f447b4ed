/* Percentile and entropy as ONNX Runtime's quantizer has them, and parameters in every form: against numbers that its
 * HistogramCollector, compute_scale_zp and snap_zero_point_to_uint8 (1.31.1, numpy 2.4.6) computed from the same
 * data. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "quant/observer_row.h"

/* Data sets of docs/calibration-facts.md 0. */
typedef enum set { DATA_B, DATA_C, DATA_E, SHIFTED, ZEROS, CONSTANT } set;
enum { MOST = 8192 };
static float data[MOST];

static uint32_t lcg(uint32_t *x)
{
    return *x = 1664525u * *x + 1013904223u;
}

static int bell(uint32_t *seed)
{
    int s = 0;
    for (int j = 0; j < 4; j++)
        s += (int)(lcg(seed) >> 16);
    return s - 131070;
}

static int make(set which)
{
    static const uint32_t seeds[] = { 12345, 777, 2024, 5, 1, 1 };
    static const int sizes[] = { 8192, 8192, 8192, 4096, 100, 64 };
    uint32_t seed = seeds[which];
    for (int i = 0; i < sizes[which]; i++) {
        const int k = bell(&seed);
        const float b = (float)k / 65536;
        data[i] = which == DATA_C    ? (float)((double)k * abs(k) / 4294967296.0)
                  : which == DATA_E  ? fmaxf(b, 0)
                  : which == SHIFTED ? b + 3
                  : which == ZEROS   ? 0
                  : which == DATA_B  ? b
                                     : 2.5f;
    }
    return sizes[which];
}

static void close_to(double got, double want)
{
    if (!(fabs(got - want) <= 1e-7 * fabs(want)))
        fail_msg("%.9g instead of %.9g", got, want);
}

/* Both passes, in batches of uneven size. */
static rq_range range_of(const rq_observer_cfg *cfg, int n, bool *second)
{
    rq_observer *o;
    rq_range r;
    assert_int_equal(rq_observer_create(&o, cfg, NULL), RQ_OK);
    for (int pass = 0; pass < 2; pass++) {
        for (int from = 0, size = 7; from < n; from += size, size = size * 3 % 501 + 1) {
            const int64_t take = size < n - from ? size : n - from;
            const rq_strided x = rq_strided_vector(data + from, take);
            assert_int_equal(rq_observer_update(o, NULL, &x, NULL), RQ_OK);
        }
        if (pass == 0)
            assert_int_equal(rq_observer_again(o, second), RQ_OK);
        if (!*second)
            break;
    }
    assert_int_equal(rq_observer_range(o, &r, 1), RQ_OK);
    rq_observer_destroy(o);
    return r;
}

static void ranges_are_the_peers(void **state)
{
    static const struct {
        set which;
        rq_choice choice;
        double p;
        bool symmetric;
        int bins, groups;
        double lo, hi;
    } rows[] = {
        { DATA_B, RQ_CHOICE_PERCENTILE, 99.999, true, 2048, 0, -1.83167052, 1.78837585 },
        { DATA_B, RQ_CHOICE_PERCENTILE, 99.999, false, 2048, 0, -1.83256531, 1.78782487 },
        { DATA_B, RQ_CHOICE_PERCENTILE, 99, true, 2048, 0, -1.41917467, 1.41917467 },
        { DATA_B, RQ_CHOICE_PERCENTILE, 99, false, 2048, 0, -1.41916442, 1.42990208 },
        { DATA_B, RQ_CHOICE_PERCENTILE, 90, true, 2048, 0, -0.947623014, 0.947623014 },
        { DATA_B, RQ_CHOICE_PERCENTILE, 90, false, 2048, 0, -0.948495746, 0.946706057 },
        { DATA_B, RQ_CHOICE_ENTROPY, 0, false, 128, 128, -1.83256531, 1.78837585 },
        { DATA_B, RQ_CHOICE_ENTROPY, 0, false, 512, 128, -1.83256531, 1.78837585 },
        { DATA_B, RQ_CHOICE_ENTROPY, 0, false, 1024, 64, -1.83256531, 1.78837585 },
        { DATA_B, RQ_CHOICE_ENTROPY, 0, false, 257, 32, -1.83256531, 1.78837585 },
        { DATA_C, RQ_CHOICE_PERCENTILE, 99.999, true, 2048, 0, -3.06191254, 3.57669783 },
        { DATA_C, RQ_CHOICE_PERCENTILE, 99.999, false, 2048, 0, -3.06191254, 3.57495046 },
        { DATA_C, RQ_CHOICE_PERCENTILE, 99, true, 2048, 0, -1.94822574, 1.94822574 },
        { DATA_C, RQ_CHOICE_PERCENTILE, 99, false, 2048, 0, -2.00938082, 1.94647861 },
        { DATA_C, RQ_CHOICE_PERCENTILE, 90, true, 2048, 0, -0.885874867, 0.885874867 },
        { DATA_C, RQ_CHOICE_PERCENTILE, 90, false, 2048, 0, -0.891116619, 0.884127378 },
        { DATA_C, RQ_CHOICE_ENTROPY, 0, false, 128, 128, -3.06191254, 3.5784452 },
        { DATA_C, RQ_CHOICE_ENTROPY, 0, false, 512, 128, -2.69781208, 2.71179032 },
        { DATA_C, RQ_CHOICE_ENTROPY, 0, false, 1024, 64, -2.49512672, 2.50211596 },
        { DATA_C, RQ_CHOICE_ENTROPY, 0, false, 257, 32, -2.77085829, 2.77085853 },
        { DATA_E, RQ_CHOICE_PERCENTILE, 99.999, true, 2048, 0, 0, 1.83824384 },
        { DATA_E, RQ_CHOICE_PERCENTILE, 99.999, false, 2048, 0, 0, 1.83734584 },
        { DATA_E, RQ_CHOICE_PERCENTILE, 99, true, 2048, 0, 0, 1.29404461 },
        { DATA_E, RQ_CHOICE_PERCENTILE, 99, false, 2048, 0, 0, 1.42246127 },
        { DATA_E, RQ_CHOICE_PERCENTILE, 90, true, 2048, 0, 0, 0.755233526 },
        { DATA_E, RQ_CHOICE_PERCENTILE, 90, false, 2048, 0, 0, 0.951899529 },
        { DATA_E, RQ_CHOICE_ENTROPY, 0, false, 128, 128, 0, 1.83914185 },
        { DATA_E, RQ_CHOICE_ENTROPY, 0, false, 512, 128, 0, 1.38654041 },
        { DATA_E, RQ_CHOICE_ENTROPY, 0, false, 1024, 64, 0, 1.49789476 },
        { DATA_E, RQ_CHOICE_ENTROPY, 0, false, 257, 32, 0, 1.38114524 },
        { SHIFTED, RQ_CHOICE_PERCENTILE, 99.999, true, 2048, 0, 1.26493835, 4.68389225 },
        { SHIFTED, RQ_CHOICE_PERCENTILE, 99.999, false, 2048, 0, 1.26493835, 4.6809864 },
        { SHIFTED, RQ_CHOICE_PERCENTILE, 99, true, 2048, 0, 1.26493835, 4.24128199 },
        { SHIFTED, RQ_CHOICE_PERCENTILE, 99, false, 2048, 0, 1.54202604, 4.36068439 },
        { SHIFTED, RQ_CHOICE_PERCENTILE, 90, true, 2048, 0, 1.26493835, 3.72184157 },
        { SHIFTED, RQ_CHOICE_PERCENTILE, 90, false, 2048, 0, 2.04078197, 3.91226101 },
        { SHIFTED, RQ_CHOICE_ENTROPY, 0, false, 128, 128, 1.26493835, 4.68556213 },
        { SHIFTED, RQ_CHOICE_ENTROPY, 0, false, 512, 128, 1.26493835, 4.68556213 },
        { SHIFTED, RQ_CHOICE_ENTROPY, 0, false, 1024, 64, 1.26493835, 4.68556213 },
        { SHIFTED, RQ_CHOICE_ENTROPY, 0, false, 257, 32, 1.26493835, 4.68556213 },
        { ZEROS, RQ_CHOICE_PERCENTILE, 99.999, true, 2048, 0, 0, 0 },
        { ZEROS, RQ_CHOICE_PERCENTILE, 99.999, false, 2048, 0, 0, 0 },
        { ZEROS, RQ_CHOICE_PERCENTILE, 99, true, 2048, 0, 0, 0 },
        { ZEROS, RQ_CHOICE_PERCENTILE, 99, false, 2048, 0, 0, 0 },
        { ZEROS, RQ_CHOICE_PERCENTILE, 90, true, 2048, 0, 0, 0 },
        { ZEROS, RQ_CHOICE_PERCENTILE, 90, false, 2048, 0, 0, 0 },
        { ZEROS, RQ_CHOICE_ENTROPY, 0, false, 128, 128, 0, 0 },
        { ZEROS, RQ_CHOICE_ENTROPY, 0, false, 512, 128, 0, 0 },
        { ZEROS, RQ_CHOICE_ENTROPY, 0, false, 1024, 64, 0, 0 },
        { ZEROS, RQ_CHOICE_ENTROPY, 0, false, 257, 32, 0, 0 },
        { CONSTANT, RQ_CHOICE_PERCENTILE, 99.999, true, 2048, 0, 2.5, 2.5 },
        { CONSTANT, RQ_CHOICE_PERCENTILE, 99.999, false, 2048, 0, 2.5, 2.49755859 },
        { CONSTANT, RQ_CHOICE_PERCENTILE, 99, true, 2048, 0, 2.5, 2.5 },
        { CONSTANT, RQ_CHOICE_PERCENTILE, 99, false, 2048, 0, 2.5, 2.49755859 },
        { CONSTANT, RQ_CHOICE_PERCENTILE, 90, true, 2048, 0, 2.5, 2.5 },
        { CONSTANT, RQ_CHOICE_PERCENTILE, 90, false, 2048, 0, 2.5, 2.49755859 },
        { CONSTANT, RQ_CHOICE_ENTROPY, 0, false, 128, 128, 2.5, 2.5 },
        { CONSTANT, RQ_CHOICE_ENTROPY, 0, false, 512, 128, 2.5, 2.5 },
        { CONSTANT, RQ_CHOICE_ENTROPY, 0, false, 1024, 64, 2.5, 2.5 },
        { CONSTANT, RQ_CHOICE_ENTROPY, 0, false, 257, 32, 2.5, 0.321011543 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const int n = make(rows[i].which);
        rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_STACKED);
        bool second;
        cfg.choice = rows[i].choice;
        cfg.percentile = rows[i].p > 0 ? rows[i].p : 99;
        cfg.symmetric = rows[i].symmetric;
        cfg.with_zero = true;
        cfg.bins = rows[i].bins;
        cfg.levels = rows[i].groups ? rows[i].groups : 2;
        const rq_range r = range_of(&cfg, n, &second);
        close_to(r.lo, fmin(rows[i].lo, 0)); /* 0 is always inside */
        close_to(r.hi, rows[i].hi);
        /* as many groups as bins leave nothing to look for */
        assert_int_equal(second, rows[i].choice == RQ_CHOICE_PERCENTILE || rows[i].bins != rows[i].groups);
    }
}

static void what_is_not_finite_does_not_count(void **state)
{
    rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_STACKED);
    cfg.symmetric = true;
    bool second;
    const int n = make(DATA_B);
    const rq_range clean = range_of(&cfg, n, &second);
    for (int i = n - 1; i > 0; i--)
        data[i] = data[i - 1];
    data[0] = NAN;
    const rq_range with = range_of(&cfg, n, &second);
    assert_true(fabs(with.hi - clean.hi) < 1e-2 && isfinite(with.lo));
    for (int i = 0; i < n; i++)
        data[i] = i & 1 ? INFINITY : NAN;
    rq_observer *o;
    rq_range r;
    const rq_strided x = rq_strided_vector(data, n);
    assert_int_equal(rq_observer_create(&o, &cfg, NULL), RQ_OK);
    assert_int_equal(rq_observer_update(o, NULL, &x, NULL), RQ_OK);
    assert_int_equal(rq_observer_again(o, &second), RQ_OK);
    assert_false(second);
    assert_int_equal(rq_observer_range(o, &r, 1), RQ_BAD_ARG);
    assert_int_equal(rq_observer_bad(o), (uint64_t)n);
    rq_observer_destroy(o);
}

static void an_average_is_one_of_extremes(void **state)
{
    static float batch[3][2] = { { -1, 5 }, { -2, 1 }, { 3, 3 } };
    rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_AVERAGE);
    rq_observer *o;
    rq_range r;
    bool more;
    assert_int_equal(rq_observer_create(&o, &cfg, NULL), RQ_OK);
    for (int i = 0; i < 3; i++) {
        const rq_strided x = rq_strided_vector(batch[i], 2);
        assert_int_equal(rq_observer_update(o, NULL, &x, NULL), RQ_OK);
    }
    assert_int_equal(rq_observer_again(o, &more), RQ_OK);
    assert_false(more);
    assert_int_equal(rq_observer_range(o, &r, 1), RQ_OK);
    assert_true(r.lo == 0 && r.hi == 3); /* (-1 - 2 + 3) / 3, (5 + 1 + 3) / 3 */
    rq_observer_destroy(o);
}

static void parameters_in_every_form(void **state)
{
    static const struct {
        rq_range r;
        rq_code_form f;
        double scale;
        int zero;
    } rows[] = {
        { { -1.5, 2.25 }, { RQ_DTYPE_U8, .symmetric = 0, .reduced = 0, .least = 0 }, 0.0147058824, 102 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U8, .symmetric = 0, .reduced = 0, .least = 8.5 }, 0.0333333351, 45 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U8, .symmetric = 0, .reduced = 1, .least = 0 }, 0.0295275599, 51 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U8, .symmetric = 1, .reduced = 0, .least = 0 }, 0.0176470596, 128 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U8, .symmetric = 1, .reduced = 1, .least = 0 }, 0.0354330726, 64 },
        { { 0, 3 }, { RQ_DTYPE_U8, .symmetric = 0, .reduced = 0, .least = 0 }, 0.0117647061, 0 },
        { { 0, 3 }, { RQ_DTYPE_U8, .symmetric = 0, .reduced = 0, .least = 8.5 }, 0.0333333351, 0 },
        { { 0, 3 }, { RQ_DTYPE_U8, .symmetric = 0, .reduced = 1, .least = 0 }, 0.0236220472, 0 },
        { { 0, 3 }, { RQ_DTYPE_U8, .symmetric = 1, .reduced = 0, .least = 0 }, 0.0235294122, 128 },
        { { 0, 3 }, { RQ_DTYPE_U8, .symmetric = 1, .reduced = 1, .least = 0 }, 0.0472440943, 64 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S8, .symmetric = 0, .reduced = 0, .least = 0 }, 0.0147058824, -26 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S8, .symmetric = 0, .reduced = 0, .least = 8.5 }, 0.0333333351, -83 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S8, .symmetric = 0, .reduced = 1, .least = 0 }, 0.029296875, -13 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S8, .symmetric = 1, .reduced = 0, .least = 0 }, 0.0177165363, 0 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S8, .symmetric = 1, .reduced = 1, .least = 0 }, 0.03515625, 0 },
        { { 0, 3 }, { RQ_DTYPE_S8, .symmetric = 0, .reduced = 0, .least = 0 }, 0.0117647061, -128 },
        { { 0, 3 }, { RQ_DTYPE_S8, .symmetric = 0, .reduced = 0, .least = 8.5 }, 0.0333333351, -128 },
        { { 0, 3 }, { RQ_DTYPE_S8, .symmetric = 0, .reduced = 1, .least = 0 }, 0.0234375, -64 },
        { { 0, 3 }, { RQ_DTYPE_S8, .symmetric = 1, .reduced = 0, .least = 0 }, 0.0236220472, 0 },
        { { 0, 3 }, { RQ_DTYPE_S8, .symmetric = 1, .reduced = 1, .least = 0 }, 0.046875, 0 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U16, .symmetric = 0, .reduced = 0, .least = 0 }, 5.72213321e-05, 26214 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U16, .symmetric = 0, .reduced = 0, .least = 8.5 }, 0.000129701686, 11565 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U16, .symmetric = 0, .reduced = 1, .least = 0 }, 0.00011444441, 13107 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U16, .symmetric = 1, .reduced = 0, .least = 0 }, 6.86655985e-05, 32768 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U16, .symmetric = 1, .reduced = 1, .least = 0 }, 0.000137333293, 16384 },
        { { 0, 3 }, { RQ_DTYPE_U16, .symmetric = 0, .reduced = 0, .least = 0 }, 4.57770657e-05, 0 },
        { { 0, 3 }, { RQ_DTYPE_U16, .symmetric = 0, .reduced = 0, .least = 8.5 }, 0.000129701686, 0 },
        { { 0, 3 }, { RQ_DTYPE_U16, .symmetric = 0, .reduced = 1, .least = 0 }, 9.15555283e-05, 0 },
        { { 0, 3 }, { RQ_DTYPE_U16, .symmetric = 1, .reduced = 0, .least = 0 }, 9.15541314e-05, 32768 },
        { { 0, 3 }, { RQ_DTYPE_U16, .symmetric = 1, .reduced = 1, .least = 0 }, 0.000183111057, 16384 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S16, .symmetric = 0, .reduced = 0, .least = 0 }, 5.72213321e-05, -6554 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S16, .symmetric = 0, .reduced = 0, .least = 8.5 }, 0.000129701686, -21203 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S16, .symmetric = 0, .reduced = 1, .least = 0 }, 0.000114440918, -3277 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S16, .symmetric = 1, .reduced = 0, .least = 0 }, 6.86666463e-05, 0 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S16, .symmetric = 1, .reduced = 1, .least = 0 }, 0.000137329102, 0 },
        { { 0, 3 }, { RQ_DTYPE_S16, .symmetric = 0, .reduced = 0, .least = 0 }, 4.57770657e-05, -32768 },
        { { 0, 3 }, { RQ_DTYPE_S16, .symmetric = 0, .reduced = 0, .least = 8.5 }, 0.000129701686, -32768 },
        { { 0, 3 }, { RQ_DTYPE_S16, .symmetric = 0, .reduced = 1, .least = 0 }, 9.15527344e-05, -16384 },
        { { 0, 3 }, { RQ_DTYPE_S16, .symmetric = 1, .reduced = 0, .least = 0 }, 9.15555283e-05, 0 },
        { { 0, 3 }, { RQ_DTYPE_S16, .symmetric = 1, .reduced = 1, .least = 0 }, 0.000183105469, 0 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S4, .symmetric = 0, .reduced = 0, .least = 0 }, 0.25, -2 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S4, .symmetric = 0, .reduced = 0, .least = 8.5 }, 0.566666663, -5 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S4, .symmetric = 0, .reduced = 1, .least = 0 }, 0.535714269, -1 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S4, .symmetric = 1, .reduced = 0, .least = 0 }, 0.300000012, 0 },
        { { -1.5, 2.25 }, { RQ_DTYPE_S4, .symmetric = 1, .reduced = 1, .least = 0 }, 0.642857134, 0 },
        { { 0, 3 }, { RQ_DTYPE_S4, .symmetric = 0, .reduced = 0, .least = 0 }, 0.200000003, -8 },
        { { 0, 3 }, { RQ_DTYPE_S4, .symmetric = 0, .reduced = 0, .least = 8.5 }, 0.566666663, -8 },
        { { 0, 3 }, { RQ_DTYPE_S4, .symmetric = 0, .reduced = 1, .least = 0 }, 0.428571433, -4 },
        { { 0, 3 }, { RQ_DTYPE_S4, .symmetric = 1, .reduced = 0, .least = 0 }, 0.400000006, 0 },
        { { 0, 3 }, { RQ_DTYPE_S4, .symmetric = 1, .reduced = 1, .least = 0 }, 0.857142866, 0 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U4, .symmetric = 0, .reduced = 0, .least = 0 }, 0.25, 6 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U4, .symmetric = 0, .reduced = 0, .least = 8.5 }, 0.566666663, 3 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U4, .symmetric = 0, .reduced = 1, .least = 0 }, 0.535714269, 3 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U4, .symmetric = 1, .reduced = 0, .least = 0 }, 0.300000012, 8 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U4, .symmetric = 1, .reduced = 1, .least = 0 }, 0.642857134, 4 },
        { { 0, 3 }, { RQ_DTYPE_U4, .symmetric = 0, .reduced = 0, .least = 0 }, 0.200000003, 0 },
        { { 0, 3 }, { RQ_DTYPE_U4, .symmetric = 0, .reduced = 0, .least = 8.5 }, 0.566666663, 0 },
        { { 0, 3 }, { RQ_DTYPE_U4, .symmetric = 0, .reduced = 1, .least = 0 }, 0.428571433, 0 },
        { { 0, 3 }, { RQ_DTYPE_U4, .symmetric = 1, .reduced = 0, .least = 0 }, 0.400000006, 8 },
        { { 0, 3 }, { RQ_DTYPE_U4, .symmetric = 1, .reduced = 1, .least = 0 }, 0.857142866, 4 },
        { { -1.5, 2.25 }, { RQ_DTYPE_U8, .restricted = true, .least = 0 }, 0.0177165363, 128 },
        { { 0, 3 }, { RQ_DTYPE_U8, .restricted = true, .least = 0 }, 0.0117647061, 0 },
        { { -4, 1 }, { RQ_DTYPE_U8, .restricted = true, .least = 0 }, 0.03125, 128 },
        { { 0, 0 }, { RQ_DTYPE_U8, .restricted = true, .least = 0 }, 0.00392156886, 0 },
        { { -0.1, 0.2 }, { RQ_DTYPE_U8, .restricted = true, .least = 2 }, 0.0149606299, 128 },
        { { 0, 0 }, { RQ_DTYPE_U8, .restricted = true, .least = 2 }, 0.00784313772, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        float scale;
        int32_t zero;
        rq_calibrate_codes(rows[i].r, &rows[i].f, &scale, &zero);
        close_to((double)scale, rows[i].scale);
        assert_int_equal(zero, rows[i].zero);
    }
}

static void a_second_pass_without_memory(void **state)
{
    rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_STACKED);
    rq_observer *o;
    bool more;
    const int64_t n = make(DATA_B);
    const rq_strided x = rq_strided_vector(data, n);
    const size_t live = rq_mem_live();
    assert_int_equal(rq_observer_create(&o, &cfg, NULL), RQ_OK);
    assert_int_equal(rq_observer_update(o, NULL, &x, NULL), RQ_OK);
    rq_mem_fail_after(1, false);
    assert_int_equal(rq_observer_again(o, &more), RQ_NO_MEMORY);
    rq_mem_fail_after(0, false);
    rq_observer_destroy(o);
    assert_int_equal(rq_mem_live(), live);
    cfg.choice = RQ_CHOICE_ENTROPY;
    cfg.bins = 64;
    cfg.levels = 128;
    assert_int_equal(rq_observer_create(&o, &cfg, NULL), RQ_BAD_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_the_peers),          cmocka_unit_test(what_is_not_finite_does_not_count),
        cmocka_unit_test(an_average_is_one_of_extremes), cmocka_unit_test(parameters_in_every_form),
        cmocka_unit_test(a_second_pass_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
