/* minmax and histogram: every instruction set gives what the definition gives, at every length. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels.h"

enum { N_PATTERNS = 5 };

static void fill(float *x, size_t n, int pattern, rq_rng *r)
{
    static const float odd[] = { NAN, INFINITY, -INFINITY, -0.0f, 0.0f, 1e-42f, 3e38f, -3e38f };
    for (size_t i = 0; i < n; i++) {
        float u = 2 * rq_rng_f32(r) - 1;
        switch (pattern) {
        case 0:
            x[i] = u;
            break;
        case 1: /* after a Relu */
            x[i] = u > 0 ? u : 0;
            break;
        case 2:
            x[i] = odd[rq_rng_below(r, sizeof odd / sizeof odd[0])];
            break;
        case 3:
            x[i] = rq_rng_below(r, 8) ? u : odd[rq_rng_below(r, 5)];
            break;
        default: /* on the edges of bins */
            x[i] = (float)((int)rq_rng_below(r, 65) - 32) / 32;
        }
    }
}

static const rq_bins bins[] = {
    { .n = 64, .first = -32, .lo = -1, .hi = 1, .mul = 32, .div = 1 },
    { .n = 20, .first = -10, .lo = -0.3f, .hi = 0.28f, .mul = 32, .div = 1 },
    { .n = 100, .first = 0, .lo = 0, .hi = 0.9f, .mul = 100, .div = 0.9f, .take_abs = 1 },
    { .n = 3, .first = 5, .lo = 0, .hi = 1, .mul = 7, .div = 1 }, /* clamped at both ends */
    { .n = 100, .lo = -0.7f, .hi = 0.9f, .from = -0.7f, .mul = 100, .div = 1.6f },
    { .n = 7, .lo = 0.1f, .hi = 0.9f, .from = 0.1f, .mul = 7, .div = 0.8f, .take_abs = 1 },
    /* four tables, two tables, none: stats_tmpl.h */
    { .n = 2048, .first = -1024, .lo = -1, .hi = 1, .mul = 1024, .div = 1 },
    { .n = 8000, .first = 0, .lo = 0, .hi = 0.99f, .mul = 8000, .div = 0.9901f, .take_abs = 1 },
    { .n = 20000, .first = -10000, .lo = -0.7f, .hi = 0.9f, .mul = 10000, .div = 1 },
};

static void compare(const rq_kernels *ref, const rq_kernels *opt, const float *x, size_t n)
{
    static uint64_t h[2][20001];
    float lo[2], hi[2];
    size_t finite[2];
    ref->minmax(x, n, &lo[0], &hi[0], &finite[0]);
    opt->minmax(x, n, &lo[1], &hi[1], &finite[1]);
    assert_memory_equal(&lo[0], &lo[1], sizeof lo[0]);
    assert_memory_equal(&hi[0], &hi[1], sizeof hi[0]);
    assert_int_equal(finite[0], finite[1]);
    if (finite[0] == n && n > 1) {
        const double want = ref->squares(x, x + 1, n - 1), got = opt->squares(x, x + 1, n - 1);
        assert_memory_equal(&want, &got, sizeof want);
    }
    for (size_t b = 0; b < sizeof bins / sizeof bins[0]; b++) {
        const size_t bytes = (size_t)(bins[b].n + 1) * sizeof h[0][0];
        memset(h[0], 0, bytes), memset(h[1], 0, bytes);
        h[0][0] = h[1][0] = 5; /* what was counted before stays */
        ref->histogram(h[0], &bins[b], x, n);
        opt->histogram(h[1], &bins[b], x, n);
        assert_memory_equal(h[0], h[1], bytes);
        assert_int_equal(h[0][bins[b].n], 0);
    }
}

static void every_isa_gives_the_same_numbers(void **state)
{
    rq_kernels ref, opt;
    rq_kernels_init(&ref, 0);
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((flags & rq_cpu_detect()) != flags) {
            print_message("%s: not on this machine\n", rq_cpu_level(level, &flags));
            continue;
        }
        rq_kernels_init(&opt, flags);
        rq_rng r;
        rq_rng_seed(&r, 7);
        static const size_t longer[] = { 1040, 1619, 8197, 33000, 70001 };
        for (int pattern = 0; pattern < N_PATTERNS; pattern++)
            for (size_t i = 0; i <= 133 + sizeof longer / sizeof longer[0]; i++) {
                const size_t n = i <= 133 ? i : longer[i - 134];
                float *x = malloc((n + 1) * sizeof *x); /* exact size: the sanitizers guard the end */
                fill(x + 1, n, pattern, &r);
                compare(&ref, &opt, x + 1, n);
                free(x);
            }
    }
}

static void definition(void **state)
{
    rq_kernels k;
    rq_kernels_init(&k, 0);
    const float x[] = { 1, -2, NAN, INFINITY, 0.5f, -0.0f };
    float lo, hi;
    size_t finite;
    k.minmax(x, 6, &lo, &hi, &finite);
    assert_true(lo == -2 && hi == 1 && finite == 4);
    k.minmax(x + 2, 2, &lo, &hi, &finite);
    assert_true(lo == INFINITY && hi == -INFINITY && finite == 0);
    uint64_t h[4] = { 0 };
    const rq_bins b = { .n = 4, .lo = 0, .hi = 2, .mul = 4, .div = 2, .take_abs = 1 };
    k.histogram(h, &b, x, 6);
    assert_true(h[0] == 1 && h[1] == 1 && h[2] == 1 && h[3] == 1);
    assert_true(k.squares((const float[]) { 1, 2, -3 }, (const float[]) { 2, 2, 1.5f }, 3) == 1 + 4.5 * 4.5);
    uint64_t g[4] = { 0 }; /* of -2..1: 3/4 wide each */
    const rq_bins from = { .n = 4, .lo = -2, .hi = 1, .from = -2, .mul = 4, .div = 3 };
    k.histogram(g, &from, x, 6);
    assert_true(g[0] == 1 && g[1] == 0 && g[2] == 1 && g[3] == 2); /* the upper end falls into the last bin */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(definition),
        cmocka_unit_test(every_isa_gives_the_same_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
