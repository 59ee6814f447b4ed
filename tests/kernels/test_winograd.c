/* Convolutions by F(4x4, 3x3) on every instruction set that has them against their definition, loops in this file: all small images, borders of all
 * kinds, numbers of channels and columns around vectors, corner patterns, images and pixels of the exact size in buffers of their own. And the
 * bound on weights, from both sides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels_isa.h"
#include "kernels/quantize.h"

enum { NOISE, LOW, HIGH, CHECKS, N_PATTERNS };

typedef struct job {
    const rq_kernels *k;
    int pattern, batch, channels, columns, in[2], pad[2], more[2]; /* pixels of the border before and behind */
    bool s8;                                                       /* codes of y */
    rq_rng rng;
} job;

/* So many bytes and no more. */
static void *exactly(size_t bytes)
{
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, bytes), 0);
    return p;
}

static uint8_t code_of(job *j, int i)
{
    return j->pattern == NOISE ? (uint8_t)rq_rng_u64(&j->rng)
           : j->pattern == LOW ? 0
                               : (uint8_t)(j->pattern == HIGH || i % 2 ? 255 : 0);
}

static int8_t weight_of(job *j, int i)
{
    return j->pattern == NOISE    ? (int8_t)rq_rng_u64(&j->rng)
           : j->pattern == CHECKS ? (int8_t)(i % 2 ? -128 : 127)
                                  : (int8_t)(i / 9 % 2 ? -128 : 127);
}

/* Y of output pixel (r, s) of an image, column c, from the definition. */
static int32_t sum_of(const rq_winograd *g, const int8_t *w, const uint8_t *x, int64_t r, int64_t s, int64_t c)
{
    int32_t sum = g->add[c];
    for (int64_t i = 0; i < 9; i++) {
        const int64_t i0 = r - g->pad[0] + i / 3, i1 = s - g->pad[1] + i % 3;
        const bool inside = i0 >= 0 && i0 < g->in[0] && i1 >= 0 && i1 < g->in[1];
        const uint8_t *pixel = inside ? x + (i0 * g->in[1] + i1) * g->channels : g->zeros;
        for (int64_t k = 0; k < g->channels; k++)
            sum += pixel[k] * w[(c * g->channels + k) * 9 + i];
    }
    return sum;
}

static void check(const job *j, const rq_winograd *g, const int8_t *w)
{
    for (int64_t b = 0; b < g->batch; b++)
        for (int64_t r = 0; r < g->out[0]; r++)
            for (int64_t s = 0; s < g->out[1]; s++)
                for (int64_t c = 0; c < g->columns; c++) {
                    const uint8_t *x = g->x + b * g->in[0] * g->in[1] * g->channels;
                    const int32_t sum = sum_of(g, w, x, r, s, c);
                    const uint8_t want = (uint8_t)rq_quantize_acc(sum, g->m[c], g->zp, g->lo, g->hi);
                    const uint8_t got = g->y[((b * g->out[0] + r) * g->out[1] + s) * g->ld + c];
                    if (got != want)
                        fail_msg("%s: image %d of %d x %d x %d, borders %d and %d, to %d, pattern %d: output %d, %d "
                                 "column %d is %d, should be %d",
                                 j->k->isa, (int)b, j->in[0], j->in[1], j->channels, j->pad[0], j->pad[1], j->columns,
                                 j->pattern, (int)r, (int)s, (int)c, got, want);
                }
}

static void run(job *j)
{
    rq_winograd g = { .k = j->k, .batch = j->batch, .channels = j->channels, .columns = j->columns };
    for (int d = 0; d < 2; d++) {
        g.in[d] = j->in[d];
        g.pad[d] = j->pad[d];
        g.out[d] = j->in[d] + j->pad[d] + j->more[d] - 2;
        if (g.out[d] < 1)
            return;
    }
    const int ld = j->columns + j->batch % 2;
    const size_t n = (size_t)(g.batch * g.in[0] * g.in[1] * g.channels),
                 pixels = (size_t)(g.batch * g.out[0] * g.out[1]);
    uint8_t *x = exactly(n), *zeros = exactly((size_t)g.channels),
            *y = exactly((pixels - 1) * (size_t)ld + (size_t)g.columns);
    int8_t *w = exactly((size_t)(g.columns * g.channels * 9));
    int32_t *add = exactly((size_t)g.columns * sizeof *add), *sum = exactly((size_t)g.columns * sizeof *sum);
    float *m = exactly((size_t)g.columns * sizeof *m);
    for (size_t i = 0; i < n; i++)
        x[i] = code_of(j, (int)i);
    memset(zeros, code_of(j, 1), (size_t)g.channels);
    for (int i = 0; i < j->columns * j->channels * 9; i++)
        w[i] = weight_of(j, i);
    for (int c = 0; c < j->columns; c++) {
        add[c] = (int32_t)rq_rng_below(&j->rng, 2000001) - 1000000;
        m[c] = (rq_rng_f32(&j->rng) + 0.1f) * 1e-4f / (float)j->channels;
    }
    const rq_winograd_weights from = { .at = (uint8_t *)w, .channels = g.channels, .columns = g.columns };
    assert_true(rq_winograd_fits(&from));
    void *packed = exactly(rq_winograd_w_bytes(j->k->winograd, g.channels, g.columns));
    rq_winograd_pack(NULL, j->k->winograd, packed, &from, sum);
    for (int c = 0; c < j->columns; c++) {
        int32_t all = 0;
        for (int i = 0; i < j->channels * 9; i++)
            all += w[c * j->channels * 9 + i];
        assert_int_equal(sum[c], all);
    }
    g.x = x, g.zeros = zeros, g.w = packed, g.add = add, g.m = m, g.y = y, g.ld = ld;
    g.zp = j->s8 ? -3 : 100;
    g.lo = j->s8 ? -128 : 0;
    g.hi = j->s8 ? 127 : 255;
    g.room = exactly(rq_winograd_room(&g));
    rq_winograd_run(&g, NULL);
    check(j, &g, w);
    free(x), free(zeros), free(y), free(w), free(add), free(sum), free(m), free(packed), free(g.room);
}

static void each_level(void (*fn)(job *j))
{
    unsigned flags;
    const char *name;
    for (int i = 0; (name = rq_cpu_level(i, &flags)); i++) {
        if ((rq_cpu_detect() & flags) != flags) {
            print_message("this machine lacks %s\n", name);
            continue;
        }
        rq_kernels k;
        rq_kernels_init(&k, flags);
        job j = { .k = &k };
        rq_rng_seed(&j.rng, 5);
        if (k.winograd)
            fn(&j);
    }
}

static void images(job *j)
{
    for (j->in[0] = 1; j->in[0] <= 10; j->in[0]++)
        for (j->in[1] = 1; j->in[1] <= 10; j->in[1]++)
            for (int border = 0; border < 5; border++) {
                j->pad[0] = border == 4 ? 3 : border & 1, j->pad[1] = border == 4 ? 0 : border >> 1 & 1;
                j->more[0] = border == 4 ? 0 : border >> 1 & 1, j->more[1] = border == 4 ? 2 : border & 1;
                j->batch = 1 + border % 3;
                j->channels = 5 + border;
                j->columns = 17 - border;
                j->s8 = border % 2;
                j->pattern = NOISE;
                run(j);
            }
}

static void widths(job *j)
{
    static const int some[] = { 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 97 };
    const int n = sizeof some / sizeof some[0];
    for (int a = 0; a < n; a++)
        for (int b = 0; b < n; b++) {
            j->batch = 1;
            j->in[0] = 4 + a % 3;
            j->in[1] = 9 + b % 6;
            j->pad[0] = j->pad[1] = j->more[0] = j->more[1] = 1;
            j->channels = some[a];
            j->columns = some[b];
            j->s8 = (a + b) % 2;
            j->pattern = (a + b) % N_PATTERNS;
            run(j);
        }
}

/* More than one chunk, strips of several images. */
static void large(job *j)
{
    for (j->pattern = 0; j->pattern < N_PATTERNS; j->pattern++) {
        j->batch = 3;
        j->in[0] = 22, j->in[1] = 31;
        j->pad[0] = j->pad[1] = j->more[0] = j->more[1] = 1;
        j->channels = 110;
        j->columns = 70;
        run(j);
    }
}

static void test_images(void **state)
{
    (void)state;
    each_level(images);
}

static void test_widths(void **state)
{
    (void)state;
    each_level(widths);
}

static void test_large(void **state)
{
    (void)state;
    each_level(large);
}

/* The largest sums that fit, and one more: weights of one sign, then of the other. */
static void test_bound(void **state)
{
    (void)state;
    enum { MOST = ((1 << 25) - 1) / 255, CHANNELS = MOST / 9 / 127 + 2 };
    static int8_t w[2][CHANNELS * 9];
    const rq_winograd_weights from = { .at = (uint8_t *)w, .channels = CHANNELS, .columns = 2 };
    for (int sign = -1; sign <= 1; sign += 2) {
        int left = MOST;
        for (int i = 0; i < CHANNELS * 9; i++) {
            const int v = left < 126 ? left : 126;
            w[1][i] = (int8_t)(sign * v);
            left -= v;
        }
        assert_int_equal(left, 0);
        assert_true(rq_winograd_fits(&from));
        w[1][0] = (int8_t)(w[1][0] + sign);
        assert_false(rq_winograd_fits(&from));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_images), cmocka_unit_test(test_widths),
                                        cmocka_unit_test(test_large), cmocka_unit_test(test_bound) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
