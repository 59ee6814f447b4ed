/* Images between planes and pixels on every instruction set: against an index by hand, all small sizes, tails, strides; buffers of the exact
 * size; on the way from and to reals, the same bits as the kernels of whole tensors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "kernels/relayout.h"

static void *random_bytes(rq_rng *rng, size_t n)
{
    uint8_t *p = malloc(n ? n : 1);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)rq_rng_u64(rng);
    return p;
}

/* y[j * ldy + i] == x[i * ldx + j] ^ flip, and the gaps of y are as they were. */
static void check_transpose(const rq_kernels *k, rq_rng *rng, size_t rows, size_t cols, size_t gap_x, size_t gap_y,
                            uint8_t flip)
{
    const size_t ldx = cols + gap_x, ldy = rows + gap_y, nx = (rows - 1) * ldx + cols, ny = (cols - 1) * ldy + rows;
    uint8_t *x = random_bytes(rng, nx), *y = malloc(ny);
    assert_non_null(y);
    memset(y, 0xa5, ny);
    k->transpose8(y, ldy, x, ldx, rows, cols, flip);
    for (size_t p = 0; p < ny; p++) {
        const size_t j = p / ldy, i = p % ldy;
        const uint8_t want = i < rows ? x[i * ldx + j] ^ flip : 0xa5;
        if (y[p] != want)
            fail_msg("%s: %zu x %zu (+%zu, +%zu): at %zu, %zu: %d, expected %d", k->isa, rows, cols, gap_x, gap_y, i, j,
                     y[p], want);
    }
    free(x);
    free(y);
}

static void bytes_are_turned(void **state)
{
    (void)state;
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        rq_kernels k;
        rq_rng rng;
        rq_kernels_init(&k, flags);
        rq_rng_seed(&rng, 1);
        for (size_t rows = 1; rows <= 36; rows++)
            for (size_t cols = 1; cols <= 68; cols++) {
                check_transpose(&k, &rng, rows, cols, 0, 0, 0);
                check_transpose(&k, &rng, rows, cols, 3, 1, 0x80);
                check_transpose(&k, &rng, rows, cols, 0, 5, 0x80);
            }
        check_transpose(&k, &rng, 200, 300, 0, 0, 0);
        check_transpose(&k, &rng, 3, 1001, 0, 0, 0x80);
        check_transpose(&k, &rng, 1001, 3, 0, 0, 0);
    }
}

static void images_go_there_and_back(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = { { 1, 1, 1 },   { 2, 3, 1 },  { 1, 1, 77 },  { 2, 3, 5000 }, { 1, 4, 30001 },
                                        { 3, 16, 49 }, { 1, 65, 1 }, { 2, 70, 33 }, { 1, 300, 80 }, { 1, 129, 600 },
                                        { 0, 3, 4 },   { 2, 0, 4 },  { 2, 3, 0 },   { 2, 21, 900 }, { 1, 2000, 3 } };
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        rq_kernels k;
        rq_rng rng;
        rq_threads *threads;
        rq_kernels_init(&k, flags);
        rq_rng_seed(&rng, 2);
        assert_int_equal(rq_threads_create(&threads, 2), RQ_OK);
        for (size_t t = 0; t < sizeof sizes / sizeof *sizes; t++)
            for (int sign = 0; sign < 2; sign++) {
                const int64_t n = sizes[t][0], c = sizes[t][1], s = sizes[t][2];
                const size_t all = (size_t)(n * c * s);
                const rq_relayout r = { .k = &k,
                                        .threads = sign ? NULL : threads,
                                        .n = n,
                                        .c = c,
                                        .s = s,
                                        .is_signed = sign,
                                        .scale = 0.037f,
                                        .zp = sign ? -5 : 120 };
                uint8_t *x = random_bytes(&rng, all), *y = malloc(all + !all), *back = malloc(all + !all);
                float *reals = malloc((all + !all) * sizeof *reals), *got = malloc((all + !all) * sizeof *got);
                assert_true(y && back && reals && got);
                rq_relayout_to_last(&r, y, x);
                for (int64_t i = 0; i < n * c * s; i++) {
                    const int64_t image = i / (c * s), channel = i / s % c, at = i % s;
                    assert_int_equal(y[(image * s + at) * c + channel], x[i] ^ (sign ? 0x80 : 0));
                }
                rq_relayout_from_last(&r, back, y);
                assert_memory_equal(back, x, all);
                /* reals are what the kernels of whole tensors make, then turned */
                if (sign)
                    k.dequantize_s8(reals, (int8_t *)x, all, r.scale, r.zp);
                else
                    k.dequantize_u8(reals, x, all, r.scale, r.zp);
                rq_relayout_dequantize(&r, got, y);
                assert_memory_equal(got, reals, all * sizeof *got);
                for (size_t i = 0; i < all; i++)
                    reals[i] = (rq_rng_f32(&rng) - 0.5f) * 12;
                if (all > 2)
                    reals[1] = 0.0f / 0.0f, reals[2] = 1e30f;
                if (sign)
                    k.quantize_s8((int8_t *)x, reals, all, r.scale, r.zp, -128, 127);
                else
                    k.quantize_u8(x, reals, all, r.scale, r.zp, 0, 255);
                rq_relayout_to_last(&r, back, x);
                rq_relayout_quantize(&r, y, reals);
                assert_memory_equal(y, back, all);
                free(x), free(y), free(back), free(reals), free(got);
            }
        rq_threads_destroy(threads);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_turned),
        cmocka_unit_test(images_go_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
