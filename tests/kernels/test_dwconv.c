/* The depthwise row on every instruction set against its sum: all small lengths and numbers of taps, corner patterns,
 * buffers of the exact size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels.h"

enum { MAX_TAPS = 26 };

static void rows_are_sums_on_every_isa(void **state)
{
    (void)state;
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        rq_kernels k;
        rq_kernels_init(&k, flags);
        rq_rng rng;
        rq_rng_seed(&rng, 5);
        for (int pattern = 0; pattern < 3; pattern++)
            for (int taps = 0; taps <= MAX_TAPS; taps++)
                for (size_t n = 0; n <= 70; n += taps % 5 ? 7 : 1) {
                    uint8_t *x[MAX_TAPS];
                    int16_t *w = malloc((size_t)taps * sizeof *w);
                    int32_t *acc = malloc(n * sizeof *acc);
                    for (int t = 0; t < taps; t++) {
                        x[t] = malloc(n);
                        w[t] = (int16_t)(pattern == 0 ? (int)rq_rng_below(&rng, 511) - 255 : pattern == 1 ? 255 : -255);
                        for (size_t j = 0; j < n; j++)
                            x[t][j] = pattern == 0 ? (uint8_t)rq_rng_u64(&rng) : 255;
                    }
                    k.dwconv(acc, (const uint8_t *const *)x, w, taps, n);
                    for (size_t j = 0; j < n; j++) {
                        int32_t sum = 0;
                        for (int t = 0; t < taps; t++)
                            sum += w[t] * x[t][j];
                        assert_int_equal(acc[j], sum);
                    }
                    for (int t = 0; t < taps; t++)
                        free(x[t]);
                    free(w), free(acc);
                }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(rows_are_sums_on_every_isa) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
