/* The tables of docs/calibration-facts.md 4.7 (one-sided forms), and what the two-sided forms promise. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "quant/generators.h"
#include "quant/observer_row.h"

enum { MANY = 8192 };
static float data[MANY];

static rq_kernels kernels(void)
{
    rq_kernels k;
    rq_kernels_init(&k, rq_cpu_detect());
    return k;
}

/* The data sets A to G of 4.7. */
static void make(rq_histogram *h, char id, int bins)
{
    const rq_kernels k = kernels();
    int n = MANY;
    assert_int_equal(rq_histogram_init(h, bins, true), RQ_OK);
    switch (id) {
    case 'A':
        gen_u(data, n = 4096, 1);
        break;
    case 'B':
        gen_b(data, n, 12345);
        break;
    case 'C':
        gen_t(data, n, 777);
        break;
    case 'D':
        gen_b(data, n, 12345);
        gen_o(data, n);
        break;
    case 'E':
        gen_b(data, n, 2024);
        gen_r(data, n);
        break;
    case '4':
        gen_t(data, n, 2024);
        gen_r(data, n);
        break;
    case 'F':
        n = 1000;
        gen_ramp(data, n);
        break;
    case 'G':
        gen_b(data, n = 4096, 1);
        assert_int_equal(rq_histogram_update(h, &k, data, (size_t)n), RQ_OK);
        gen_b(data, n, 2);
        for (int i = 0; i < n; i++)
            data[i] *= 2;
        break;
    default:
        fail();
    }
    assert_int_equal(rq_histogram_update(h, &k, data, (size_t)n), RQ_OK);
}

static void assert_close(double got, double want, double rel)
{
    if (!(fabs(got - want) <= rel * fabs(want)))
        fail_msg("got %.9g, want %.9g", got, want);
}

static void histograms_are_those_of_the_table(void **state)
{
    static const struct {
        char id;
        int bins;
        double width, last;
        uint64_t head[5], occupied, checksum;
    } rows[] = {
        { 'A', 2048, 0.000488279125, 0.999995649, { 1, 6, 1, 6, 3 }, 1777, 4172563 },
        { 'B', 2048, 0.000894807279, 1.83256531, { 11, 8, 9, 7, 8 }, 1499, 4228011 },
        { 'C', 2048, 0.00174728769, 3.5784452, { 469, 190, 161, 107, 102 }, 962, 1540924 },
        { 'D', 2048, 0.00432687998, 8.8614502, { 41, 46, 55, 47, 41 }, 382, 875974 },
        { 'E', 2048, 0.000898018479, 1.83914185, { 4088, 2, 3, 3, 7 }, 1315, 2122946 },
        { '4', 2048, 0.00165158336, 3.38244271, { 4290, 104, 65, 74, 43 }, 827, 826308 },
        { 'F', 2048, 0.00381088257, 7.8046875, { 1, 0, 1, 0, 1 }, 1000, 1023500 },
        { 'G', 4057, 0.000892661512, 3.62152767, { 8, 7, 7, 5, 4 }, 2218, 6443204 },
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        rq_histogram h;
        make(&h, rows[r].id, 2048);
        uint64_t sum = 0, occupied = 0;
        for (int i = 0; i < h.n; i++) {
            sum += (uint64_t)i * h.count[i];
            occupied += h.count[i] > 0;
        }
        assert_int_equal(h.n, rows[r].bins);
        assert_close(rq_histogram_edge(&h, 1), rows[r].width, 1e-7);
        assert_close(rq_histogram_edge(&h, h.n), rows[r].last, 1e-7);
        for (int i = 0; i < 5; i++)
            assert_int_equal(h.count[i], rows[r].head[i]);
        assert_int_equal(occupied, rows[r].occupied);
        assert_int_equal(sum, rows[r].checksum);
        rq_histogram_release(&h);
    }
}

static void percentiles_are_those_of_the_table(void **state)
{
    static const double p[5] = { 50, 90, 99, 99.9, 99.99 };
    static const struct {
        char id;
        int at[5];
        double amax[5];
    } rows[] = {
        { 'A', { 1019, 1851, 2025, 2047, 2047 }, { 0.497556448, 0.90380466, 0.98876524, 0.999507368, 0.999507368 } },
        { 'B', { 441, 1059, 1586, 1892, 2047 }, { 0.394610018, 0.947600901, 1.4191643, 1.6929754, 1.8316704 } },
        { 'C', { 92, 507, 1115, 1582, 2047 }, { 0.160750464, 0.885874867, 1.94822574, 2.76420903, 3.57669806 } },
        { 'D', { 91, 219, 332, 402, 2047 }, { 0.393746078, 0.947586715, 1.43652415, 1.73940575, 8.85712337 } },
        { 'E', { 3, 841, 1441, 1848, 2047 }, { 0.00269405544, 0.755233526, 1.29404461, 1.65953815, 1.83824384 } },
        { 'F', { 1022, 1842, 2027, 2045, 2047 }, { 3.89472198, 7.01964569, 7.72465897, 7.79325485, 7.80087662 } },
        { 'G', { 620, 1728, 2896, 3552, 4056 }, { 0.553450108, 1.54251909, 2.58514786, 3.17073369, 3.62063503 } },
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        rq_histogram h;
        make(&h, rows[r].id, 2048);
        for (int i = 0; i < 5; i++) {
            int at;
            double amax = rq_calibrate_amax_percentile(&h, p[i], &at);
            assert_int_equal(at, rows[r].at[i]);
            assert_close(amax, rows[r].amax[i], 1e-7);
        }
        rq_histogram_release(&h);
    }
}

static void squared_errors_are_those_of_the_table(void **state)
{
    static const struct {
        char id;
        int bins, limit, stride, start;
        double amax, err, err_last;
    } rows[] = {
        { 'A', 2048, 127, 1, 128, 0.992427349, 1.01463157e-05, 1.02636141e-05 },
        { 'B', 2048, 127, 1, 128, 1.76679695, 6.65893485e-05, 7.11876811e-05 },
        { 'B', 2048, 127, 4, 256, 1.76500738, 6.67436533e-05, 7.05359718e-05 },
        { 'B', 512, 127, 1, 128, 1.8164587, 0.000254546417, 0.00028259028 },
        { 'C', 2048, 127, 1, 128, 3.46574521, 0.000240696917, 0.000248490954 },
        { 'C', 2048, 31, 1, 128, 2.78954482, 0.00288479807, 0.00382023758 },
        { 'C', 2048, 7, 1, 128, 2.10286093, 0.0299858381, 0.0653699901 },
        { 'D', 2048, 127, 1, 128, 8.47852135, 0.00155627496, 0.0016452211 },
        { 'E', 2048, 255, 1, 128, 1.83150864, 8.81896986e-06, 9.13860249e-06 },
        { 'E', 2048, 127, 1, 128, 1.82881463, 3.46659995e-05, 3.56488369e-05 },
        { '4', 2048, 15, 1, 128, 2.59711504, 0.00497823354, 0.00701340711 },
        { 'F', 2048, 127, 1, 128, 7.77610588, 0.000152432081, 0.000153349498 },
        { 'G', 2048, 127, 1, 128, 3.45772433, 0.000130004179, 0.000136919819 },
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        rq_histogram h;
        int at;
        make(&h, rows[r].id, rows[r].bins);
        double amax = rq_calibrate_amax_mse(&h, rows[r].limit, rows[r].start, rows[r].stride, &at);
        /* the curves are flat: any candidate within 1e-4 of the least error is right */
        assert_close(rq_calibrate_amax_error(&h, rows[r].limit, amax), rows[r].err, 1e-4);
        assert_close(rq_calibrate_amax_error(&h, rows[r].limit, rows[r].amax), rows[r].err, 1e-4);
        int last = rows[r].start + (h.n - 1 - rows[r].start) / rows[r].stride * rows[r].stride;
        double end = (rq_histogram_edge(&h, last) + rq_histogram_edge(&h, last + 1)) / 2;
        assert_close(rq_calibrate_amax_error(&h, rows[r].limit, end), rows[r].err_last, 2e-3);
        rq_histogram_release(&h);
    }
}

static void divergences_are_those_of_the_table(void **state)
{
    static const struct {
        char id;
        int bins, levels, stride, start, at;
        double amax, kl, kl_start, kl_all;
    } rows[] = {
        { 'A', 2048, 128, 1, 128, 2044, 0.998042524, 0.136810803, 3.34930792, 0.137189194 },
        { 'B', 2048, 128, 1, 128, 1948, 1.74308455, 0.0695230462, 3.85745025, 0.0704464204 },
        { 'B', 2048, 128, 4, 256, 1948, 1.74308455, 0.0695230462, 3.53697946, 0.0704464204 },
        { 'B', 512, 128, 1, 128, 488, 1.74666381, 0.018474171, 1.52631762, 0.0197040454 },
        { 'C', 2048, 128, 1, 128, 1533, 2.67859197, 0.0548784719, 1.83583909, 0.0594356097 },
        { 'C', 2048, 32, 1, 128, 1389, 2.42698264, 0.102532643, 1.75051828, 0.118667709 },
        { 'C', 2048, 8, 1, 128, 1280, 2.23652816, 0.213640054, 1.80416245, 0.285917188 },
        { 'D', 2048, 128, 1, 128, 424, 1.83459711, 0.0143291331, 1.21171961, 0.0186000497 },
        { 'E', 2048, 256, 1, 128, 1865, 1.67480445, 0.0888148726, 3.67454813, 0.0908128903 },
        { 'E', 2048, 128, 1, 128, 2048, 1.83914185, 0.0994451225, 3.67454813, 0.0994451225 },
        { '4', 2048, 16, 1, 128, 1357, 2.24119854, 0.174309624, 1.86595403, 0.204293467 },
        { 'F', 2048, 128, 1, 128, 2048, 7.8046875, 0, 3.64624292, 0 },
        { 'G', 2048, 128, 1, 128, 3694, 3.29749179, 0.0865323438, 4.12565285, 0.0870536862 },
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        rq_histogram h;
        int at;
        make(&h, rows[r].id, rows[r].bins);
        double amax = rq_calibrate_amax_entropy(&h, rows[r].levels, rows[r].start, rows[r].stride, &at);
        assert_int_equal(at, rows[r].at);
        assert_close(amax, rows[r].amax, 1e-7);
        assert_close(1 + rq_calibrate_amax_kl(&h, rows[r].levels, at), 1 + rows[r].kl, 1e-8);
        assert_close(rq_calibrate_amax_kl(&h, rows[r].levels, rows[r].start), rows[r].kl_start, 1e-7);
        assert_close(1 + rq_calibrate_amax_kl(&h, rows[r].levels, h.n), 1 + rows[r].kl_all, 1e-8);
        rq_histogram_release(&h);
    }
}

/* H1 to H5: 3 bits, signed, start 4. */
static void hand_size_histograms(void **state)
{
    static const struct {
        uint64_t h[16];
        int n;
        double width;
        int kl_at;
        double kl_amax, mse_amax;
    } rows[] = {
        { { 5, 4, 3, 2, 2, 1, 1, 0, 1, 0, 0, 1 }, 12, 0.5, 12, 6, 5.25 },
        { { 100, 80, 60, 44, 30, 20, 12, 8, 5, 3, 2, 1, 0, 0, 0, 2 }, 16, 0.25, 8, 2, 1.875 },
        { { 10, 10, 10, 10, 0, 0, 0, 0, 0, 0, 0, 1 }, 12, 1, 12, 12, 9.5 },
        { { 7, 0, 0, 0, 0, 0, 0, 0, 3, 4, 0, 2 }, 12, 1, 9, 9, 9.5 },
        { { 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4 }, 12, 1, 12, 12, 10.5 },
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        uint64_t count[16];
        memcpy(count, rows[r].h, sizeof count);
        const rq_histogram h = { .count = count, .n = rows[r].n, .width = rows[r].width, .take_abs = true };
        int at;
        assert_close(rq_calibrate_amax_entropy(&h, 4, 4, 1, &at), rows[r].kl_amax, 1e-7);
        assert_int_equal(at, rows[r].kl_at);
        assert_close(rq_calibrate_amax_mse(&h, 3, 4, 1, NULL), rows[r].mse_amax, 1e-7);
    }
    uint64_t one[12] = { 5, 4, 3, 2, 2, 1, 1, 0, 1, 0, 0, 1 };
    const rq_histogram h = { .count = one, .n = 12, .width = 0.5, .take_abs = true };
    static const struct {
        double p, amax;
    } pct[] = { { 10, 0 }, { 50, 1 }, { 75, 2 }, { 90, 3 }, { 95, 4 }, { 99, 5.5 } };
    for (size_t i = 0; i < sizeof pct / sizeof pct[0]; i++)
        assert_true(rq_calibrate_amax_percentile(&h, pct[i].p, NULL) == pct[i].amax);
    int at;
    rq_calibrate_amax_entropy(&h, 8, 8, 1, &at); /* unsigned */
    assert_int_equal(at, 12);
    assert_close(rq_calibrate_amax_mse(&h, 7, 8, 1, NULL), 5.75, 1e-9);
    assert_true(rq_calibrate_amax_mse(&h, 7, 12, 1, &at) < 0 && at == -1);
}

/* All candidates of H1 to H5, and H1 unsigned: the divergence of each, and the squared error. */
static void hand_size_candidates(void **state)
{
    static const struct {
        uint64_t h[16];
        int n, levels, start;
        double width, kl[13], error[12];
    } rows[] = {
        { { 5, 4, 3, 2, 2, 1, 1, 0, 1, 0, 0, 1 },
          12,
          4,
          4,
          0.5,
          { 0.204213267, 0.110541418, 0.120001188, 0.076480337, INFINITY, 0.0238471624, INFINITY, INFINITY,
            0.0164494491 },
          { 1.51041667, 1.05150464, 0.725115755, 0.541666667, 0.458912006, 0.43923611, 0.43749998, 0.44849536 } },
        { { 5, 4, 3, 2, 2, 1, 1, 0, 1, 0, 0, 1 },
          12,
          8,
          8,
          0.5,
          { INFINITY, 0.0188956398, INFINITY, INFINITY, 0 },
          { 0.237457482, 0.139668363, 0.0885416667, 0.0845025645 } },
        { { 100, 80, 60, 44, 30, 20, 12, 8, 5, 3, 2, 1, 0, 0, 0, 2 },
          16,
          4,
          4,
          0.25,
          { 0.114577281, 0.0776682086, 0.0527598507, 0.0402391048, 0.0194847706, 0.019605105, 0.0218928291, 0.026025952,
            0.0243756571, INFINITY, INFINITY, INFINITY, 0.04862552 },
          { 2.76953125, 1.97504343, 1.53363721, 1.37695312, 1.44205716, 1.55468749, 1.60253891, 1.75607638, 1.98133717,
            2.31835938, 2.76030757, 3.13661042 } },
        { { 10, 10, 10, 10, 0, 0, 0, 0, 0, 0, 0, 1 },
          12,
          4,
          4,
          1,
          { 0.00087841126, INFINITY, INFINITY, INFINITY, INFINITY, INFINITY, INFINITY, INFINITY, 0 },
          { 0 } },
        { { 7, 0, 0, 0, 0, 0, 0, 0, 3, 4, 0, 2 }, /* 4 to 8 keep nothing: infinite here, NaN there */
          12,
          4,
          4,
          1,
          { INFINITY, INFINITY, INFINITY, INFINITY, INFINITY, 0, 0.0566330123, INFINITY, 0.0377553415 },
          { 0 } },
        { { 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4 },
          12,
          4,
          4,
          1,
          { 0.549306144, 0.510825624, 0.441967073, 0.356883234, 0.265134022, 0.174416048, 0.0923315154, 0.0285131531,
            0 },
          { 46.9166667, 0, 0, 0, 0, 4.30555543, 3.83333333, 4.68518536 } }, /* 0: not in the table */
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        uint64_t count[16];
        memcpy(count, rows[r].h, sizeof count);
        const rq_histogram h = { .count = count, .n = rows[r].n, .width = rows[r].width, .take_abs = true };
        for (int i = rows[r].start; i <= h.n; i++) {
            const double got = rq_calibrate_amax_kl(&h, rows[r].levels, i), want = rows[r].kl[i - rows[r].start];
            if (isinf(want) ? !isinf(got) : !(fabs(got - want) <= 1e-8))
                fail_msg("histogram %zu, candidate %d: got %.9g, want %.9g", r, i, got, want);
        }
        for (int i = rows[r].start; i < h.n; i++) {
            const double want = rows[r].error[i - rows[r].start], amax = (i + 0.5) * h.width;
            if (want > 0) /* the package computes in f32 */
                assert_close(rq_calibrate_amax_error(&h, rows[r].levels - 1, amax), want, 1e-6);
        }
    }
    /* what the package answers to H4: the last candidate of which nothing is kept */
    uint64_t gap[12] = { 7, 0, 0, 0, 0, 0, 0, 0, 3, 4, 0, 2 };
    const rq_histogram h4 = { .count = gap, .n = 12, .width = 1, .take_abs = true };
    assert_true(rq_calibrate_amax_entropy_compat(&h4, 4, 4, 1, true, NULL) == 8);
    /* of equal errors the first */
    uint64_t low[16] = { 7 };
    const rq_histogram even = { .count = low, .n = 16, .width = 1, .take_abs = true };
    assert_true(rq_calibrate_amax_mse(&even, 1, 4, 1, NULL) == 4.5);
    /* H2 by strides of 2 */
    uint64_t two[16] = { 100, 80, 60, 44, 30, 20, 12, 8, 5, 3, 2, 1, 0, 0, 0, 2 };
    const rq_histogram h2 = { .count = two, .n = 16, .width = 0.25, .take_abs = true };
    int at;
    rq_calibrate_amax_entropy(&h2, 4, 4, 2, &at);
    assert_int_equal(at, 8);
    assert_close(rq_calibrate_amax_mse(&h2, 3, 4, 2, &at), 2.125, 1e-9);
    assert_int_equal(at, 8);
    assert_close(rq_calibrate_amax_percentile(&h2, 90, &at), 1.25, 1e-9);
    assert_close(rq_calibrate_amax_percentile(&h2, 99, &at), 2.5, 1e-9);
    assert_close(rq_calibrate_amax_percentile(&h2, 99.9, &at), 3.75, 1e-9);
}

/* The searches work from sums; what they find is what the definitions find, over all candidates in turn. */
static void searches_agree_with_their_definitions(void **state)
{
    static const struct {
        char id;
        int bins, limit, levels;
    } rows[] = { { 'A', 2048, 127, 128 }, { 'C', 512, 7, 8 },         { 'D', 2048, 127, 128 },
                 { 'E', 600, 255, 256 },  { '4', 700, 15, 16 },       { 'F', 2048, 127, 128 },
                 { 'G', 300, 127, 128 },  { 'B', 200, 32767, 32768 }, { 'C', 400, RQ_CALIBRATE_E4M3, 100 } };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
        for (int stride = 1; stride <= 5; stride += 4) {
            rq_histogram h;
            make(&h, rows[r].id, rows[r].bins);
            double least = INFINITY, error = INFINITY;
            int kl_at = -1, mse_at = -1, at;
            for (int i = 100; i <= h.n; i += stride) {
                const double kl = rq_calibrate_amax_kl(&h, rows[r].levels, i);
                kl_at = kl <= least ? i : kl_at;
                least = fmin(kl, least);
            }
            for (int i = 100; i < h.n; i += stride) {
                const double e = rq_calibrate_amax_error(&h, rows[r].limit,
                                                         (rq_histogram_edge(&h, i) + rq_histogram_edge(&h, i + 1)) / 2);
                mse_at = e < error ? i : mse_at;
                error = fmin(e, error);
            }
            rq_calibrate_amax_entropy(&h, rows[r].levels, 100, stride, &at);
            assert_int_equal(at, kl_at);
            rq_calibrate_amax_mse(&h, rows[r].limit, 100, stride, &at);
            assert_int_equal(at, mse_at);
            rq_mem_fail_after(1, false);
            assert_true(isnan(rq_calibrate_amax_entropy(&h, rows[r].levels, 100, stride, NULL)));
            rq_mem_fail_after(1, false);
            assert_true(isnan(rq_calibrate_amax_mse(&h, rows[r].limit, 100, stride, NULL)));
            rq_mem_fail_after(0, false);
            rq_histogram_release(&h);
        }
}

/* ---- the signed form ---- */

static void signed_counts_do_not_depend_on_batches(void **state)
{
    const rq_kernels k = kernels();
    gen_t(data, MANY, 777);
    data[5000] = 300; /* one far outlier late: the bins merge */
    data[100] = NAN;
    data[7000] = -INFINITY;
    rq_histogram whole, parts;
    assert_int_equal(rq_histogram_init(&whole, 2048, false), RQ_OK);
    assert_int_equal(rq_histogram_update(&whole, &k, data, MANY), RQ_OK);
    static const size_t cuts[] = { 1, 3, 100, 777, 4096 };
    for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
        assert_int_equal(rq_histogram_init(&parts, 2048, false), RQ_OK);
        const float zeros[64] = { 0 };
        for (size_t i = 0; i < MANY; i += cuts[c])
            rq_histogram_update(&parts, &k, data + i, i + cuts[c] < MANY ? cuts[c] : MANY - i);
        assert_int_equal(parts.n, whole.n);
        assert_int_equal(parts.first, whole.first);
        assert_true(parts.width == whole.width && parts.lo == whole.lo && parts.hi == whole.hi);
        assert_memory_equal(parts.count, whole.count, (size_t)whole.n * sizeof *whole.count);
        assert_int_equal(parts.total, MANY - 2);
        assert_int_equal(parts.bad, 2);
        assert_int_equal(parts.cap, whole.cap);
        rq_histogram_update(&parts, &k, zeros, 64);
        assert_int_equal(parts.count[-parts.first], whole.count[-whole.first] + 64);
        rq_histogram_release(&parts);
    }
    rq_histogram_release(&whole);
}

static void zeros_before_the_first_number_are_remembered(void **state)
{
    const rq_kernels k = kernels();
    const float zeros[100] = { 0 }, one[2] = { 1, -0.5f };
    for (int take_abs = 0; take_abs < 2; take_abs++) {
        rq_histogram h;
        assert_int_equal(rq_histogram_init(&h, 64, take_abs), RQ_OK);
        rq_histogram_update(&h, &k, zeros, 100);
        rq_histogram_update(&h, &k, zeros, 50);
        rq_range r = rq_calibrate_mse(&h, 256, false);
        assert_true(r.lo == 0 && r.hi == 0);
        rq_histogram_update(&h, &k, one, 2);
        assert_int_equal(h.count[-h.first], 150);
        rq_histogram_update(&h, &k, zeros, 50);
        assert_int_equal(h.count[-h.first], 200);
        uint64_t sum = 0;
        for (int i = 0; i < h.n; i++)
            sum += h.count[i];
        assert_int_equal(sum, 202);
        rq_histogram_release(&h);
    }
}

/* The true squared error of quantizing `data` to 256 codes over r. */
static double true_error(const float *x, int n, rq_range r)
{
    float scale;
    int32_t zp;
    double sum = 0;
    rq_calibrate_qparams(r, RQ_DTYPE_U8, false, &scale, &zp);
    for (int i = 0; i < n; i++) {
        double q = fmin(fmax(rint(x[i] / scale) + zp, 0), 255), e = (q - zp) * scale - x[i];
        sum += e * e;
    }
    return sum / n;
}

static void two_sided_ranges(void **state)
{
    const rq_kernels k = kernels();
    for (int kind = 0; kind < 4; kind++) {
        gen_t(data, MANY, 777);
        if (kind == 1)
            gen_r(data, MANY);
        if (kind == 2)
            gen_o(data, MANY);
        if (kind == 3) /* hard-swish-like: a short dense left side */
            for (int i = 0; i < MANY; i++)
                data[i] = data[i] < 0 ? data[i] * 0.05f : data[i];
        rq_histogram h;
        assert_int_equal(rq_histogram_init(&h, 2048, false), RQ_OK);
        rq_histogram_update(&h, &k, data, MANY);
        rq_range all = rq_calibrate_minmax(&h, false), mse = rq_calibrate_mse(&h, 256, false);
        assert_true(all.lo == fmin(h.lo, 0) && all.hi == h.hi);
        assert_close(rq_calibrate_error(&h, all, 256), true_error(data, MANY, all), 0.06);
        assert_close(rq_calibrate_error(&h, mse, 256), true_error(data, MANY, mse), 0.06);
        assert_true(true_error(data, MANY, mse) <= true_error(data, MANY, all) * 1.01);
        for (int i = 5; i <= 20; i++) /* no plain shrink does better by more than the noise of the search */
            for (int j = 5; j <= 20; j++) {
                rq_range r = { all.lo * i / 20, all.hi * j / 20 };
                assert_true(true_error(data, MANY, mse) <= 1.02 * true_error(data, MANY, r));
            }
        rq_range kl = rq_calibrate_entropy(&h, 256, false), p = rq_calibrate_percentile(&h, 99, false);
        assert_true(kl.lo >= all.lo && kl.hi <= all.hi && kl.hi > 0);
        int below = 0, above = 0;
        for (int i = 0; i < MANY; i++) {
            below += data[i] < p.lo;
            above += data[i] > p.hi;
        }
        assert_in_range(above, MANY / 200 - 12, MANY / 200);
        if (kind == 1)
            assert_true(p.lo == 0 && mse.lo == 0 && kl.lo == 0);
        else
            assert_in_range(below, kind == 3 ? 0 : MANY / 200 - 12, MANY / 200);
        p = rq_calibrate_percentile(&h, 100, false);
        assert_true(p.lo == all.lo && p.hi == all.hi);
        p = rq_calibrate_percentile(&h, 99, true);
        int out = 0;
        for (int i = 0; i < MANY; i++)
            out += fabsf(data[i]) > p.hi;
        assert_true(p.lo == -p.hi);
        assert_in_range(out, MANY / 100 - 12, MANY / 100);
        mse = rq_calibrate_mse(&h, 255, true);
        assert_true(mse.lo == -mse.hi && mse.hi > 0);
        rq_histogram_release(&h);
    }
}

static void parameters_from_ranges(void **state)
{
    static const struct {
        rq_range r;
        rq_dtype d;
        bool symmetric;
        double scale;
        int zp;
    } rows[] = {
        { { 0, 1 }, RQ_DTYPE_U8, false, 1 / 255.0, 0 },
        { { 0.5, 1 }, RQ_DTYPE_U8, false, 1 / 255.0, 0 },
        { { -1, 1 }, RQ_DTYPE_U8, false, 2 / 255.0, 128 }, /* 127.5: to even */
        { { -22.909276962280273, 15.469900131225586 }, RQ_DTYPE_U8, false, 0.15050657093524933, 152 },
        { { -3, 1 }, RQ_DTYPE_S8, true, 3 / 127.0, 0 },
        { { -3, 1 }, RQ_DTYPE_U8, true, 6 / 255.0, 128 },
        { { -3, 1 }, RQ_DTYPE_S8, false, 4 / 255.0, 63 },
        { { 0, 1 }, RQ_DTYPE_S8, false, 1 / 255.0, -128 },
        { { -1, 1 }, RQ_DTYPE_S16, true, 1 / 32767.0, 0 },
        { { -1, 1 }, RQ_DTYPE_S4, true, 2 / 15.0, 0 },
        { { 0, 0 }, RQ_DTYPE_U8, false, 1, 0 },
        { { 0, 0 }, RQ_DTYPE_U8, true, 1, 128 },
        { { 0, 1e-40 }, RQ_DTYPE_U8, false, 1, 0 },
        { { -5, -4 }, RQ_DTYPE_U8, false, 5 / 255.0, 255 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        float scale;
        int32_t zp;
        rq_calibrate_qparams(rows[i].r, rows[i].d, rows[i].symmetric, &scale, &zp);
        assert_close(scale, rows[i].scale, 1e-7);
        assert_int_equal(zp, rows[i].zp);
    }
}

/* ---- observers ---- */

static void observers_watch_channels(void **state)
{
    gen_b(data, 108, 99);
    const int64_t dim[4] = { 4, 3, 3, 3 };
    const rq_shape shape = rq_shape_of(4, dim);
    const rq_strided x = rq_strided_floats(data, &shape);
    static const double want0[4] = { 1.06632996, 1.71536255, 1.29214478, 0.979660034 };
    static const double want1[3] = { 1.33200073, 0.895355225, 1.71536255 };
    for (int axis = 0; axis < 2; axis++) {
        rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_MINMAX);
        cfg.axis = axis;
        cfg.scheme = RQ_QSCHEME_PER_CHANNEL_SYMMETRIC;
        cfg.symmetric = true;
        rq_observer *o;
        rq_range r[4];
        assert_int_equal(rq_observer_create(&o, &cfg, NULL), RQ_OK);
        assert_int_equal(rq_observer_range(o, r, 1), RQ_BAD_ARG);
        assert_int_equal(rq_observer_update(o, NULL, &x, NULL), RQ_OK);
        assert_int_equal(rq_observer_channels(o), axis ? 3 : 4);
        assert_int_equal(rq_observer_range(o, r, axis ? 3 : 4), RQ_OK);
        for (int c = 0; c < (axis ? 3 : 4); c++)
            assert_close(r[c].hi, axis ? want1[c] : want0[c], 1e-7);
        rq_observer_destroy(o);
    }
}

static void moving_average_fades(void **state)
{
    rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_EMA);
    cfg.ema_ratio = 0.75;
    rq_observer *o;
    assert_int_equal(rq_observer_create(&o, &cfg, NULL), RQ_OK);
    float batch[3][2] = { { -1, 2 }, { -5, 6 }, { NAN, 4 } };
    for (int i = 0; i < 3; i++) {
        const rq_strided x = rq_strided_vector(batch[i], 2);
        assert_int_equal(rq_observer_update(o, NULL, &x, NULL), RQ_OK);
    }
    rq_range r;
    assert_int_equal(rq_observer_range(o, &r, 1), RQ_OK);
    assert_true(r.hi == 0.75 * (0.75 * 2 + 0.25 * 6) + 0.25 * 4);
    assert_true(r.lo == 0.75 * -2 + 0.25 * 4);
    rq_observer_destroy(o);
}

static void observers_survive_failing_memory(void **state)
{
    for (int kind = 0; kind < RQ_N_OBSERVERS; kind++)
        for (size_t n = 1; n < 6; n++) {
            size_t live = rq_mem_live();
            rq_observer_cfg cfg = rq_observer_defaults((rq_observer_kind)kind);
            rq_observer *o = NULL;
            rq_mem_fail_after(n, false);
            rq_status s = rq_observer_create(&o, &cfg, NULL);
            rq_mem_fail_after(0, false);
            assert_true(s == RQ_OK || !o);
            assert_true(s == RQ_OK || s == RQ_NO_MEMORY || s == RQ_UNSUPPORTED || kind == RQ_OBSERVER_OWN);
            rq_observer_destroy(o);
            assert_int_equal(rq_mem_live(), live);
        }
    rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_COUNTS);
    rq_observer *o = NULL;
    cfg.bins = 8;
    assert_int_equal(rq_observer_create(&o, &cfg, NULL), RQ_BAD_ARG);
    cfg.bins = 2048;
    cfg.axis = 0;
    assert_int_equal(rq_observer_create(&o, &cfg, NULL), RQ_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(histograms_are_those_of_the_table),
        cmocka_unit_test(percentiles_are_those_of_the_table),
        cmocka_unit_test(squared_errors_are_those_of_the_table),
        cmocka_unit_test(divergences_are_those_of_the_table),
        cmocka_unit_test(hand_size_histograms),
        cmocka_unit_test(hand_size_candidates),
        cmocka_unit_test(searches_agree_with_their_definitions),
        cmocka_unit_test(signed_counts_do_not_depend_on_batches),
        cmocka_unit_test(zeros_before_the_first_number_are_remembered),
        cmocka_unit_test(two_sided_ranges),
        cmocka_unit_test(parameters_from_ranges),
        cmocka_unit_test(observers_watch_channels),
        cmocka_unit_test(moving_average_fades),
        cmocka_unit_test(observers_survive_failing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
