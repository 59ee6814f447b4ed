/* tests/kernels/test_float_dnnl.c — convolutions and products through oneDNN against loops in double, over shapes that
 * take every road inside; and the same bits from one thread and from two. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/float_dnnl.h"

static int own_seen[2]; /* shapes that took our own kernels: depthwise, blocks */

static float *noise(rq_rng *r, int64_t n)
{
    float *x = malloc((size_t)(n ? n : 1) * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = rq_rng_f32(r) * 2 - 1;
    return x;
}

static int64_t area(const int64_t v[3])
{
    return v[0] * v[1] * v[2];
}

/* Sizes of the output from the rest; false when it would be empty. */
static bool finish(rq_conv_geom *g)
{
    for (int i = 0; i < 3; i++) {
        const int64_t span = (g->kernel[i] - 1) * g->dilation[i] + 1;
        if (g->transposed) {
            g->out[i] = (g->in[i] - 1) * g->stride[i] + span - g->pad_lo[i] - g->pad_hi[i];
        } else {
            const int64_t room = g->in[i] + g->pad_lo[i] + g->pad_hi[i] - span;
            g->out[i] = room < 0 ? 0 : room / g->stride[i] + 1;
        }
        if (g->out[i] < 1)
            return false;
    }
    return true;
}

/* Depthwise and block-wise kernels of our own, where they fit: on every instruction set. */
static void check_own(const rq_conv_geom *g, rq_rng *r, const float *x, const float *w, const float *b,
                      const float *want, rq_threads *two, int64_t ny)
{
    float *one = malloc((size_t)ny * sizeof *one), *y = malloc((size_t)ny * sizeof *y);
    const char *level;
    unsigned flags;
    if (rq_dwconv_f32_fits(g)) {
        rq_kernels k;
        void *scratch = rq_mem_alloc(rq_dwconv_f32_scratch(g, 2), 1);
        rq_kernels_init(&k, 0);
        rq_dwconv_f32_run(&k, g, one, x, w, b, scratch, 2, NULL);
        for (int64_t i = 0; i < ny; i++)
            if (!(fabs((double)one[i] - want[i]) <= 1e-5))
                fail_msg("depthwise: [%d] is %g, not %g", (int)i, one[i], want[i]);
        for (int i = 0; (level = rq_cpu_level(i, &flags)); i++) {
            if (flags & ~rq_cpu_detect())
                continue;
            rq_kernels_init(&k, flags);
            rq_dwconv_f32_run(&k, g, y, x, w, b, scratch, 2, two);
            assert_memory_equal(one, y, (size_t)ny * sizeof *y);
        }
        own_seen[0]++;
        rq_mem_free(scratch);
    }
    if (rq_deconv_f32_fits(g)) {
        void *scratch = rq_mem_alloc(rq_deconv_f32_scratch(g, 2), 1);
        assert_int_equal(rq_deconv_f32_run(g, one, x, w, b, scratch, 2, NULL), RQ_OK);
        assert_int_equal(rq_deconv_f32_run(g, y, x, w, b, scratch, 2, two), RQ_OK);
        for (int64_t i = 0; i < ny; i++)
            if (!(fabs((double)one[i] - want[i]) <= 1e-5))
                fail_msg("blocks: [%d] is %g, not %g", (int)i, one[i], want[i]);
        assert_memory_equal(one, y, (size_t)ny * sizeof *y);
        own_seen[1]++;
        rq_mem_free(scratch);
    }
    free(one), free(y);
}

static void check_conv(const rq_conv_geom *g, rq_rng *r, bool bias, bool fixed, rq_threads *two, int how_seen[3])
{
    const int64_t nx = g->batch * g->in_ch * area(g->in), ny = g->batch * g->out_ch * area(g->out);
    const int64_t nw = g->in_ch / g->groups * g->out_ch * area(g->kernel);
    float *x = noise(r, nx), *w = noise(r, nw), *b = noise(r, g->out_ch);
    float *want = noise(r, ny), *one = noise(r, ny), *y = noise(r, ny);
    rq_conv_f32_plain(g, want, x, w, bias ? b : NULL, NULL);
    check_own(g, r, x, w, bias ? b : NULL, want, two, ny);
    rq_conv_f32 *c;
    assert_int_equal(rq_conv_f32_create(&c, g, fixed ? w : NULL, bias, 2), RQ_OK);
    const char *how = rq_conv_f32_how(c);
    how_seen[strcmp(how, "gemm") == 0 ? 0 : strcmp(how, "direct") == 0 ? 1 : 2]++;
    void *scratch = rq_mem_alloc(rq_conv_f32_scratch(c), 1);
    const float *given = fixed ? NULL : w;
    if (strcmp(how, "direct") != 0)
        given = w; /* only packed weights may go away */
    assert_int_equal(rq_conv_f32_run(c, one, x, given, bias ? b : NULL, scratch, NULL), RQ_OK);
    assert_int_equal(rq_conv_f32_run(c, y, x, given, bias ? b : NULL, scratch, two), RQ_OK);
    const double tol = 1e-6 * (double)(g->in_ch / g->groups * area(g->kernel)) + 1e-5;
    for (int64_t i = 0; i < ny; i++)
        if (!(fabs((double)one[i] - want[i]) <= tol))
            fail_msg("%s %s: batch %d groups %d channels %d>%d in %d,%d,%d kernel %d,%d,%d: [%d] is %g, not %g", how,
                     g->transposed ? "transposed" : "", (int)g->batch, (int)g->groups, (int)g->in_ch, (int)g->out_ch,
                     (int)g->in[0], (int)g->in[1], (int)g->in[2], (int)g->kernel[0], (int)g->kernel[1],
                     (int)g->kernel[2], (int)i, one[i], want[i]);
    assert_memory_equal(one, y, (size_t)ny * sizeof *y);
    rq_conv_f32_destroy(c);
    rq_mem_free(scratch);
    free(x), free(w), free(b), free(want), free(one), free(y);
}

static void convolutions_match_plain_loops(void **state)
{
    rq_rng r;
    rq_threads *two;
    int how[3] = { 0 };
    rq_rng_seed(&r, 7);
    assert_int_equal(rq_threads_create(&two, 2), RQ_OK);
    for (int n = 0; n < 600; n++) {
        rq_conv_geom g = { .nd = 1 + (int)rq_rng_below(&r, 3),
                           .batch = 1 + (int64_t)rq_rng_below(&r, 3),
                           .transposed = rq_rng_below(&r, 4) == 0 };
        static const int64_t groups[] = { 1, 1, 1, 2, 3, 16 }, channels[] = { 1, 2, 3, 8, 16, 17 };
        g.groups = groups[rq_rng_below(&r, 6)];
        g.in_ch = g.groups * (g.groups > 3 ? 1 : channels[rq_rng_below(&r, 6)]);
        g.out_ch = g.groups * (g.groups > 3 ? 1 : channels[rq_rng_below(&r, 6)]);
        for (int i = 0; i < 3; i++) {
            const bool used = i >= 3 - g.nd;
            g.in[i] = used ? 1 + (int64_t)rq_rng_below(&r, 9) : 1;
            g.kernel[i] = used ? 1 + (int64_t)rq_rng_below(&r, 3) : 1;
            g.stride[i] = used ? 1 + (int64_t)rq_rng_below(&r, 3) : 1;
            g.dilation[i] = used ? 1 + (int64_t)rq_rng_below(&r, 2) : 1;
            g.pad_lo[i] = used ? (int64_t)rq_rng_below(&r, 3) : 0;
            g.pad_hi[i] = used ? (int64_t)rq_rng_below(&r, 3) : 0;
            if (used && g.transposed && rq_rng_below(&r, 3) == 0)
                g.pad_hi[i] = -(int64_t)rq_rng_below(&r, (uint64_t)g.stride[i] + 1);
        }
        const uint64_t kind = rq_rng_below(&r, 12);
        for (int i = 0; i < 3 && kind < 2; i++) { /* 1x1, and blocks */
            g.kernel[i] = kind == 0 || g.transposed == 0 ? 1 : g.stride[i];
            g.stride[i] = kind == 0 ? 1 : g.kernel[i];
            g.dilation[i] = 1;
            g.pad_lo[i] = g.pad_hi[i] = 0;
        }
        if (finish(&g))
            check_conv(&g, &r, rq_rng_below(&r, 2), rq_rng_below(&r, 3) != 0, two, how);
    }
    print_message("gemm %d, direct %d, plain %d; depthwise %d, blocks %d\n", how[0], how[1], how[2], own_seen[0],
                  own_seen[1]);
    assert_true(how[0] > 0 && how[1] > 0 && own_seen[0] > 10 && own_seen[1] > 5);
    rq_threads_destroy(two);
}

/* Large enough to be cut into pieces. */
static void pieces_give_the_same_bits(void **state)
{
    static const rq_conv_geom cases[] = {
        { .nd = 2,
          .batch = 1,
          .groups = 1,
          .in_ch = 64,
          .out_ch = 128,
          .in = { 1, 28, 28 },
          .kernel = { 1, 3, 3 },
          .stride = { 1, 1, 1 },
          .dilation = { 1, 1, 1 },
          .pad_lo = { 0, 1, 1 },
          .pad_hi = { 0, 1, 1 } },
        { .nd = 2,
          .batch = 3,
          .groups = 1,
          .in_ch = 64,
          .out_ch = 64,
          .in = { 1, 28, 28 },
          .kernel = { 1, 3, 3 },
          .stride = { 1, 2, 2 },
          .dilation = { 1, 1, 1 },
          .pad_lo = { 0, 0, 0 },
          .pad_hi = { 0, 1, 1 } },
        { .nd = 2,
          .batch = 1,
          .groups = 1,
          .in_ch = 256,
          .out_ch = 256,
          .in = { 1, 14, 14 },
          .kernel = { 1, 1, 1 },
          .stride = { 1, 1, 1 },
          .dilation = { 1, 1, 1 } },
        { .nd = 2,
          .batch = 5,
          .groups = 1,
          .in_ch = 32,
          .out_ch = 32,
          .in = { 1, 14, 14 },
          .kernel = { 1, 3, 3 },
          .stride = { 1, 1, 1 },
          .dilation = { 1, 1, 1 } },
        { .nd = 2,
          .batch = 1,
          .groups = 96,
          .in_ch = 96,
          .out_ch = 96,
          .in = { 1, 112, 112 },
          .kernel = { 1, 3, 3 },
          .stride = { 1, 2, 2 },
          .dilation = { 1, 1, 1 },
          .pad_lo = { 0, 1, 1 },
          .pad_hi = { 0, 1, 1 } },
        { .nd = 2,
          .batch = 1,
          .groups = 4,
          .in_ch = 128,
          .out_ch = 128,
          .in = { 1, 28, 28 },
          .kernel = { 1, 3, 3 },
          .stride = { 1, 1, 1 },
          .dilation = { 1, 1, 1 } },
        { .nd = 2,
          .batch = 1,
          .groups = 1,
          .in_ch = 64,
          .out_ch = 64,
          .in = { 1, 20, 20 },
          .kernel = { 1, 2, 2 },
          .stride = { 1, 2, 2 },
          .dilation = { 1, 1, 1 },
          .transposed = true },
        { .nd = 1,
          .batch = 1,
          .groups = 1,
          .in_ch = 64,
          .out_ch = 256,
          .in = { 1, 1, 500 },
          .kernel = { 1, 1, 5 },
          .stride = { 1, 1, 1 },
          .dilation = { 1, 1, 1 },
          .pad_lo = { 0, 0, 2 },
          .pad_hi = { 0, 0, 2 } },
    };
    rq_rng r;
    rq_threads *two;
    int how[3] = { 0 };
    rq_rng_seed(&r, 8);
    assert_int_equal(rq_threads_create(&two, 2), RQ_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int fixed = 0; fixed < 2; fixed++) {
            rq_conv_geom g = cases[i];
            assert_true(finish(&g));
            check_conv(&g, &r, true, fixed, two, how);
        }
    rq_threads_destroy(two);
}

static void products_match_plain_loops(void **state)
{
    rq_rng r;
    rq_threads *two;
    rq_rng_seed(&r, 9);
    assert_int_equal(rq_threads_create(&two, 2), RQ_OK);
    for (int n = 0; n < 60; n++) {
        const bool large = n >= 54, ta = rq_rng_below(&r, 2), tb = rq_rng_below(&r, 2);
        const int64_t m = large ? 33 + (int64_t)rq_rng_below(&r, 400) : 1 + (int64_t)rq_rng_below(&r, 40);
        const int64_t cols = large ? 100 + (int64_t)rq_rng_below(&r, 300) : 1 + (int64_t)rq_rng_below(&r, 40);
        const int64_t k = large ? 300 : (int64_t)rq_rng_below(&r, 40);
        const float alpha = n % 3 ? 1 : 0.5f, beta = n % 4 ? 0 : 2;
        float *a = noise(&r, m * k), *b = noise(&r, k * cols), *c = noise(&r, m * cols);
        float *one = malloc((size_t)(m * cols) * sizeof *one), *y = malloc((size_t)(m * cols) * sizeof *y);
        memcpy(one, c, (size_t)(m * cols) * sizeof *c);
        memcpy(y, c, (size_t)(m * cols) * sizeof *c);
        const int64_t lda = ta ? m : k, ldb = tb ? k : cols;
        assert_int_equal(rq_gemm_f32(one, a, b, ta, tb, m, cols, k, alpha, lda, ldb, beta, cols, NULL), RQ_OK);
        assert_int_equal(rq_gemm_f32(y, a, b, ta, tb, m, cols, k, alpha, lda, ldb, beta, cols, two), RQ_OK);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < cols; j++) {
                double sum = 0;
                for (int64_t q = 0; q < k; q++)
                    sum += (double)a[ta ? q * m + i : i * k + q] * (double)b[tb ? j * k + q : q * cols + j];
                const double want = alpha * sum + (double)beta * c[i * cols + j];
                if (!(fabs(one[i * cols + j] - want) <= 1e-6 * (double)k + 1e-5))
                    fail_msg("%d x %d x %d, %d%d: [%d][%d] is %g, not %g", (int)m, (int)cols, (int)k, ta, tb, (int)i,
                             (int)j, one[i * cols + j], want);
            }
        assert_memory_equal(one, y, (size_t)(m * cols) * sizeof *y);
        free(a), free(b), free(c), free(one), free(y);
    }
    rq_threads_destroy(two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_match_plain_loops),
        cmocka_unit_test(pieces_give_the_same_bits),
        cmocka_unit_test(products_match_plain_loops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
