/* Pools over channels-last codes on every instruction set against loops written out here: all small numbers of channels and taps, corner patterns,
 * more rows than sums of u16 hold, buffers of the exact size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "kernels/quantize.h"

enum { MOST_TAPS = 10 };

static uint8_t *codes(rq_rng *rng, size_t n, int pattern)
{
    const uint8_t corner[3] = { 0, 0, 255 };
    uint8_t *x = malloc(n);
    for (size_t i = 0; i < n; i++)
        x[i] = pattern == 0 ? (uint8_t)rq_rng_u64(rng) : pattern == 3 ? (uint8_t)(i % 2 ? 255 : 0) : corner[pattern];
    return x;
}

static void check_taps(const rq_kernels *k, rq_rng *rng, size_t taps, size_t n, int pattern)
{
    uint8_t *x[MOST_TAPS], *y = malloc(n), *mean = malloc(n);
    const rq_pool8_mean p = { .scale = 0.01F + 0.02F * (float)(n % 7),
                              .zero = (int32_t)(n * 5 % 256),
                              .count = (float)(taps ? taps : 1),
                              .y_scale = 0.02F,
                              .y_zero = (float)(taps * 19 % 256) };
    for (size_t t = 0; t < taps; t++)
        x[t] = codes(rng, n, pattern);
    if (taps)
        k->pool8->max(y, (const uint8_t *const *)x, taps, n);
    k->pool8->mean(mean, (const uint8_t *const *)x, taps, n, &p);
    for (size_t i = 0; i < n; i++) {
        uint8_t most = 0;
        float sum = 0;
        for (size_t t = 0; t < taps; t++) {
            most = x[t][i] > most ? x[t][i] : most;
            sum += (float)(x[t][i] - p.zero) * p.scale;
        }
        if (taps)
            assert_int_equal(y[i], most);
        assert_int_equal(mean[i], rq_quantize_zp_inside(sum / p.count / p.y_scale + p.y_zero, 0, 255));
    }
    for (size_t t = 0; t < taps; t++)
        free(x[t]);
    free(y), free(mean);
}

static void check_sum(const rq_kernels *k, rq_rng *rng, size_t rows, size_t n, int pattern)
{
    const size_t pitch = n + rows % 3, bytes = rows ? (rows - 1) * pitch + n : 0;
    uint8_t *x = codes(rng, bytes, pattern);
    uint32_t *sum = malloc(n * sizeof *sum);
    for (size_t i = 0; i < n; i++)
        sum[i] = (uint32_t)i - 7;
    k->pool8->sum(sum, x, pitch, rows, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t want = (uint32_t)i - 7;
        for (size_t r = 0; r < rows; r++)
            want += x[r * pitch + i];
        assert_int_equal(sum[i], want);
    }
    free(x), free(sum);
}

static void pools_are_their_loops_on_every_isa(void **state)
{
    (void)state;
    unsigned flags;
    const char *name;
    for (int level = 0; (name = rq_cpu_level(level, &flags)) != NULL; level++) {
        if ((rq_cpu_detect() & flags) != flags) {
            print_message("level %s is missing here\n", name);
            continue;
        }
        rq_kernels k;
        rq_rng rng;
        rq_kernels_init(&k, flags);
        rq_rng_seed(&rng, 9);
        for (int pattern = 0; pattern < 4; pattern++)
            for (size_t n = 1; n <= 140; n++) {
                for (size_t taps = 0; taps <= MOST_TAPS; taps += 1 + n % 3)
                    check_taps(&k, &rng, taps, n, pattern);
                for (size_t rows = n % 2; rows <= 9; rows += 2)
                    check_sum(&k, &rng, rows, n, pattern);
            }
        for (size_t rows = 255; rows <= 259; rows++)
            check_sum(&k, &rng, rows, 77, 2);
        check_sum(&k, &rng, 1000, 33, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(pools_are_their_loops_on_every_isa) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
