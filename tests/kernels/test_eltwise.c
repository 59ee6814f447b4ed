/* tests/kernels/test_eltwise.c — elementwise functions and reductions: the same bits on every instruction set, and
 * the right numbers, checked against the C library in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "kernels/kernels.h"

enum { MAX_N = 67 };

static uint32_t seed = 1;

static uint32_t next(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed;
}

/* 0: small, 1: any bit pattern (NaN, infinities, denormals), 2: wide */
static void fill(float *x, size_t n, int pattern)
{
    for (size_t i = 0; i < n; i++) {
        const float u = (float)(next() >> 8) / (1 << 23) - 1;
        if (pattern == 1) {
            const uint32_t bits = next() ^ next() << 16;
            memcpy(x + i, &bits, sizeof bits);
        } else {
            x[i] = pattern ? u * 120 : u * 2;
        }
    }
}

/* Equal bits, or NaN both. */
static int same(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) && !(isnan(a[i]) && isnan(b[i])))
            return 0;
    return 1;
}

static const char *const map_names[] = {
#define NAME(upper, lower) #lower,
    RQ_MAP_LIST(NAME)
};

static const char *const zip_names[] = { RQ_ZIP_LIST(NAME) };

/* Calls check(ref, opt, level) for every level this machine has. */
static void each_isa(void (*check)(const rq_kernels *ref, const rq_kernels *opt, const char *level))
{
    rq_kernels ref, opt;
    rq_kernels_init(&ref, 0);
    const char *level;
    unsigned flags;
    for (int i = 0; (level = rq_cpu_level(i, &flags)); i++) {
        if (flags & ~rq_cpu_detect()) {
            print_message("this machine has no %s\n", level);
            continue;
        }
        rq_kernels_init(&opt, flags);
        check(&ref, &opt, level);
    }
}

static void check_maps(const rq_kernels *ref, const rq_kernels *opt, const char *level)
{
    for (int f = 0; f < RQ_N_MAPS; f++)
        for (int pattern = 0; pattern < 3; pattern++)
            for (size_t n = 0; n <= MAX_N; n++) {
                float *x = malloc((n + 1) * sizeof *x), *y = malloc((n + 1) * sizeof *x),
                      *z = malloc((n + 1) * sizeof *x);
                fill(x, n + 1, pattern);
                ref->map[f](y, x + 1, n, 0.25f, 0.75f);
                opt->map[f](z, x + 1, n, 0.25f, 0.75f);
                if (!same(y, z, n))
                    fail_msg("%s differs on %s, pattern %d, n %zu", map_names[f], level, pattern, n);
                opt->map[f](x + 1, x + 1, n, 0.25f, 0.75f); /* in place */
                if (!same(y, x + 1, n))
                    fail_msg("%s in place differs on %s, pattern %d, n %zu", map_names[f], level, pattern, n);
                free(x), free(y), free(z);
            }
}

static void check_zips(const rq_kernels *ref, const rq_kernels *opt, const char *level)
{
    for (int f = 0; f < RQ_N_ZIPS; f++)
        for (int pattern = 0; pattern < 3; pattern++)
            for (int stride = 0; stride < 4; stride++)
                for (size_t n = 0; n <= MAX_N; n++) {
                    const int sa = stride & 1, sb = stride >> 1;
                    const size_t na = sa ? n : 1, nb = sb ? n : 1;
                    float *a = malloc((na + 1) * sizeof *a), *b = malloc((nb + 1) * sizeof *b);
                    float *y = malloc((n + 1) * sizeof *y), *z = malloc((n + 1) * sizeof *z);
                    fill(a, na + 1, pattern), fill(b, nb + 1, pattern);
                    ref->zip[f](y, a + 1, sa, b + 1, sb, n);
                    opt->zip[f](z, a + 1, sa, b + 1, sb, n);
                    if (!same(y, z, n))
                        fail_msg("%s differs on %s, pattern %d, strides %d %d, n %zu", zip_names[f], level, pattern, sa,
                                 sb, n);
                    free(a), free(b), free(y), free(z);
                }
}

static void check_folds(const rq_kernels *ref, const rq_kernels *opt, const char *level)
{
    for (int f = 0; f < RQ_N_FOLDS; f++)
        for (int pattern = 0; pattern < 3; pattern++)
            for (size_t n = 0; n <= MAX_N; n++) {
                float *x = malloc((n + 1) * sizeof *x);
                fill(x, n + 1, pattern);
                const float r = ref->fold[f](x + 1, n, 0.5f), o = opt->fold[f](x + 1, n, 0.5f);
                if (!same(&r, &o, 1))
                    fail_msg("fold %d gives %g on %s, not %g: pattern %d, n %zu", f, o, level, r, pattern, n);
                free(x);
            }
    for (size_t n = 0; n <= MAX_N; n++) {
        float x[MAX_N], y[MAX_N], z[MAX_N];
        fill(x, n, 0);
        const float r = ref->exp_sum(y, x, n, 0.5f), o = opt->exp_sum(z, x, n, 0.5f),
                    s = ref->fold[RQ_FOLD_EXP](x, n, 0.5f);
        assert_true(same(&r, &o, 1) && same(&r, &s, 1) && same(y, z, n));
        const float a = ref->sum_f32(x, n), b = opt->sum_f32(x, n);
        assert_true(same(&a, &b, 1));
    }
}

static void every_isa_gives_the_same_bits(void **state)
{
    each_isa(check_maps);
    each_isa(check_zips);
    each_isa(check_folds);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double gelu(double x)
{
    return 0.5 * x * (1 + erf(x * M_SQRT1_2));
}

static double softplus(double x)
{
    return log1p(exp(x));
}

static void maps_agree_with_the_c_library(void **state)
{
    static const struct {
        rq_map_id map;
        double (*f)(double);
        double lo, hi;
    } cases[] = {
        { RQ_MAP_EXP, exp, -80, 80 },     { RQ_MAP_LOG, log, 1e-6, 1e6 },       { RQ_MAP_TANH, tanh, -10, 10 },
        { RQ_MAP_ERF, erf, -4, 4 },       { RQ_MAP_SIN, sin, -100, 100 },       { RQ_MAP_COS, cos, -100, 100 },
        { RQ_MAP_TAN, tan, -1.5, 1.5 },   { RQ_MAP_ASIN, asin, -1, 1 },         { RQ_MAP_ACOS, acos, -1, 1 },
        { RQ_MAP_ATAN, atan, -50, 50 },   { RQ_MAP_SINH, sinh, -20, 20 },       { RQ_MAP_COSH, cosh, -20, 20 },
        { RQ_MAP_ASINH, asinh, -50, 50 }, { RQ_MAP_ACOSH, acosh, 1, 50 },       { RQ_MAP_ATANH, atanh, -0.99, 0.99 },
        { RQ_MAP_SQRT, sqrt, 0, 100 },    { RQ_MAP_FLOOR, floor, -9, 9 },       { RQ_MAP_CEIL, ceil, -9, 9 },
        { RQ_MAP_ROUND, rint, -9, 9 },    { RQ_MAP_SIGMOID, sigmoid, -90, 90 }, { RQ_MAP_SOFTPLUS, softplus, -30, 80 },
        { RQ_MAP_GELU, gelu, -4, 10 },
    };
    rq_kernels k;
    rq_kernels_init(&k, rq_cpu_detect());
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int i = 0; i <= 1000; i++) {
            const float x = (float)(cases[c].lo + (cases[c].hi - cases[c].lo) * i / 1000);
            float y;
            k.map[cases[c].map](&y, &x, 1, 0, 0);
            const double want = cases[c].f(x);
            if (!(fabs(y - want) <= 4e-7 * fabs(want) + 1e-7))
                fail_msg("%s(%.9g) is %.9g, not %.9g", map_names[cases[c].map], x, y, want);
        }
}

/* Ours, not SLEEF's: every 211th float from 2^-40 to `end`, and its negative. */
static void within_bound(rq_map_id map, double (*f)(double), double units, float end)
{
    enum { N = 1000, STEP = 211 };
    rq_kernels k;
    rq_kernels_init(&k, rq_cpu_detect());
    uint32_t to;
    memcpy(&to, &end, sizeof to);
    for (uint32_t at = 0x2b800000; at < to; at += N / 2 * STEP) {
        float x[N], y[N];
        for (uint32_t i = 0; i < N; i++) {
            const uint32_t bits = (at + i / 2 * STEP) | (i & 1) << 31;
            memcpy(&x[i], &bits, sizeof bits);
        }
        k.map[map](y, x, N, 0, 0);
        for (int i = 0; i < N; i++) {
            const double want = f(x[i]), unit = (double)(nextafterf(fabsf((float)want), 2) - fabsf((float)want));
            if (!(fabs(y[i] - want) <= units * unit) || fabsf(y[i]) > 1)
                fail_msg("%s(%.9g) is %.9g, not %.9g", map_names[map], x[i], y[i], want);
        }
    }
    const float odd[6] = { 0.0f, -0.0f, INFINITY, -INFINITY, 1e-40f, NAN };
    float y[6];
    k.map[map](y, odd, 6, 0, 0);
    assert_true(y[0] == 0 && !signbit(y[0]) && y[1] == 0 && signbit(y[1]) && y[2] == 1 && y[3] == -1 && isnan(y[5]));
    assert_true(fabs(y[4] - f(odd[4])) <= 1.5e-45);
}

static void our_functions_are_within_their_bounds(void **state)
{
    within_bound(RQ_MAP_ERF, erf, 1.6, 4.5f);
    within_bound(RQ_MAP_TANH, tanh, 2.3, 100);
}

static void sums_are_close_to_double(void **state)
{
    rq_kernels k;
    rq_kernels_init(&k, rq_cpu_detect());
    enum { N = 10007 };
    float *x = malloc(N * sizeof *x);
    fill(x, N, 0);
    double sum = 0, square = 0, abs = 0;
    for (int i = 0; i < N; i++) {
        sum += x[i];
        abs += fabsf(x[i]);
        square += ((double)x[i] - 0.5) * ((double)x[i] - 0.5);
    }
    assert_true(fabs(k.sum_f32(x, N) - sum) <= 1e-6 * abs);
    assert_true(fabs(k.fold[RQ_FOLD_ABS](x, N, 0) - abs) <= 1e-6 * abs);
    assert_true(fabs(k.fold[RQ_FOLD_SQUARE](x, N, 0.5f) - square) <= 1e-6 * square);
    free(x);
}

static void nan_goes_through(void **state)
{
    rq_kernels k;
    rq_kernels_init(&k, rq_cpu_detect());
    float x[40] = { 0 };
    for (int i = 0; i < 40; i++) {
        x[i] = NAN;
        assert_true(isnan(k.fold[RQ_FOLD_MAX](x, 40, 0)));
        assert_true(isnan(k.fold[RQ_FOLD_MIN](x, 40, 0)));
        x[i] = 1;
    }
    const float nan = NAN, one = 1;
    float y;
    for (int f = 0; f < RQ_N_MAPS; f++) {
        k.map[f](&y, &nan, 1, 0.5f, 0.5f);
        if (!isnan(y))
            fail_msg("%s(NaN) is %g", map_names[f], y);
    }
    k.zip[RQ_ZIP_MAX](&y, &nan, 1, &one, 1, 1);
    assert_true(isnan(y));
    k.zip[RQ_ZIP_MIN](&y, &one, 1, &nan, 1, 1);
    assert_true(isnan(y));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_isa_gives_the_same_bits),
        cmocka_unit_test(maps_agree_with_the_c_library),
        cmocka_unit_test(our_functions_are_within_their_bounds),
        cmocka_unit_test(sums_are_close_to_double),
        cmocka_unit_test(nan_goes_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
