/* tests/kernels/test_conv_grad.c — gradients of convolutions that are large enough to be cut, against loops in double: pieces of the batch with
 * a smaller last one, pieces of channels and of groups, with our own kernels and oneDNN's, one thread and three. Small ones of every
 * kind are in tests/ops/grad_products.c. */
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
#include "kernels/conv_grad.h"

static int64_t area(const int64_t v[3])
{
    return v[0] * v[1] * v[2];
}

/* d of sum(dy * conv(x, w)): every term of that sum once. x and y may change sides (transposed). */
static void plain(const rq_conv_geom *g, double *dx, double *dw, const float *dy, const float *x, const float *w)
{
    const int64_t icg = g->in_ch / g->groups, ocg = g->out_ch / g->groups;
    const int64_t *small = g->transposed ? g->in : g->out, *large = g->transposed ? g->out : g->in;
    for (int64_t n = 0; n < g->batch; n++)
        for (int64_t oc = 0; oc < g->out_ch; oc++)
            for (int64_t c = 0; c < icg; c++)
                for (int64_t k = 0; k < area(g->kernel); k++) {
                    const int64_t ic = oc / ocg * icg + c, t[3] = { k / g->kernel[2] / g->kernel[1],
                                                                    k / g->kernel[2] % g->kernel[1], k % g->kernel[2] };
                    const int64_t wi = (g->transposed ? ic * ocg + oc % ocg : oc * icg + c) * area(g->kernel) + k;
                    for (int64_t o = 0; o < area(small); o++) {
                        const int64_t at[3] = { o / small[2] / small[1], o / small[2] % small[1], o % small[2] };
                        int64_t to = 0;
                        bool inside = true;
                        for (int d = 0; d < 3; d++) {
                            const int64_t p = at[d] * g->stride[d] - g->pad_lo[d] + t[d] * g->dilation[d];
                            inside = inside && p >= 0 && p < large[d];
                            to = to * large[d] + p;
                        }
                        if (!inside)
                            continue;
                        const int64_t xi = (n * g->in_ch + ic) * area(g->in) + (g->transposed ? o : to);
                        const int64_t yi = (n * g->out_ch + oc) * area(g->out) + (g->transposed ? to : o);
                        dx[xi] += (double)w[wi] * (double)dy[yi];
                        dw[wi] += (double)x[xi] * (double)dy[yi];
                    }
                }
}

static float *noise(rq_rng *r, int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = rq_rng_f32(r) * 2 - 1;
    return x;
}

static void near_to(const char *what, const float *got, const double *want, int64_t n, double tol)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tol))
            fail_msg("%s: element %lld is %.9g, expected %.9g", what, (long long)i, (double)got[i], want[i]);
}

typedef struct grads {
    float *dx, *dw, *db;
} grads;

static grads run(const rq_kernels *k, const rq_conv_geom *g, const int64_t n[2], const float *dy, const float *x,
                 const float *w, rq_threads *t)
{
    grads d = { malloc((size_t)n[0] * 4), malloc((size_t)n[1] * 4), malloc((size_t)g->out_ch * 4) };
    rq_conv_grad *c;
    assert_int_equal(rq_conv_grad_create(&c, k, g, RQ_CONV_GRAD_X | RQ_CONV_GRAD_W, rq_threads_count(t)), RQ_OK);
    const size_t bytes = rq_conv_grad_scratch(c);
    void *scratch = rq_mem_alloc(bytes, 1);
    memset(scratch, 0xff, bytes);
    assert_int_equal(rq_conv_grad_run(c, d.dx, d.dw, d.db, dy, x, w, scratch, t), RQ_OK);
    rq_mem_free(scratch);
    rq_conv_grad_destroy(c);
    return d;
}

static void drop(grads d)
{
    free(d.dx);
    free(d.dw);
    free(d.db);
}

static void check(const char *name, const rq_conv_geom *g, const char *how_x, const char *how_w)
{
    rq_rng r;
    rq_rng_seed(&r, 7);
    const int64_t n[2] = { g->batch * g->in_ch * area(g->in), g->out_ch * g->in_ch / g->groups * area(g->kernel) };
    float *x = noise(&r, n[0]), *w = noise(&r, n[1]), *dy = noise(&r, g->batch * g->out_ch * area(g->out));
    double *dx = calloc((size_t)n[0], sizeof *dx), *dw = calloc((size_t)n[1], sizeof *dw),
           *db = calloc((size_t)g->out_ch, sizeof *db);
    plain(g, dx, dw, dy, x, w);
    for (int64_t i = 0; i < g->batch * g->out_ch * area(g->out); i++)
        db[i / area(g->out) % g->out_ch] += (double)dy[i];
    rq_threads *three;
    assert_int_equal(rq_threads_create(&three, 3), RQ_OK);
    for (int library = 0; library < 2; library++) {
        rq_kernels k;
        rq_kernels_init(&k, rq_cpu_detect());
        k.library = library;
        rq_conv_grad *c;
        assert_int_equal(rq_conv_grad_create(&c, &k, g, RQ_CONV_GRAD_X | RQ_CONV_GRAD_W, 1), RQ_OK);
#if defined(__x86_64__)
        if (library && how_x) {
            assert_string_equal(rq_conv_grad_how(c, RQ_CONV_GRAD_X), how_x);
            assert_string_equal(rq_conv_grad_how(c, RQ_CONV_GRAD_W), how_w);
        }
#endif
        rq_conv_grad_destroy(c);
        const grads one = run(&k, g, n, dy, x, w, NULL), more = run(&k, g, n, dy, x, w, three);
        near_to(name, one.dx, dx, n[0], 2e-4);
        near_to(name, one.dw, dw, n[1], 4e-3);
        near_to(name, one.db, db, g->out_ch, 4e-3);
        assert_memory_equal(one.dx, more.dx, (size_t)n[0] * sizeof *x);
        assert_memory_equal(one.dw, more.dw, (size_t)n[1] * sizeof *x);
        assert_memory_equal(one.db, more.db, (size_t)g->out_ch * sizeof *x);
        drop(one);
        drop(more);
    }
    rq_threads_destroy(three);
    free(x);
    free(w);
    free(dy);
    free(dx);
    free(dw);
    free(db);
}

/* 2-D, square, sizes of the output by the caller. */
static rq_conv_geom square(int64_t batch, int64_t groups, int64_t in_ch, int64_t out_ch, int64_t in, int64_t out,
                           int64_t kernel, int64_t stride, int64_t lo, int64_t hi)
{
    return (rq_conv_geom) { .nd = 2,
                            .batch = batch,
                            .groups = groups,
                            .in_ch = in_ch,
                            .out_ch = out_ch,
                            .in = { 1, in, in },
                            .out = { 1, out, out },
                            .kernel = { 1, kernel, kernel },
                            .stride = { 1, stride, stride },
                            .dilation = { 1, 1, 1 },
                            .pad_lo = { 0, lo, lo },
                            .pad_hi = { 0, hi, hi } };
}

static void pieces_of_the_batch(void **state)
{
    rq_conv_geom g = square(13, 1, 16, 16, 20, 20, 3, 1, 1, 1);
    check("13 images", &g, "library", "library");
    g = square(9, 1, 3, 32, 33, 17, 3, 2, 1, 1);
    check("3 channels", &g, "library", "library");
}

static void pieces_of_channels(void **state)
{
    rq_conv_geom g = square(1, 1, 64, 32, 24, 24, 3, 1, 1, 1);
    check("one image", &g, "library", "library");
    g = square(2, 4, 64, 96, 16, 16, 3, 1, 1, 1);
    check("4 groups", &g, "library", "library");
    g = square(2, 64, 64, 64, 64, 64, 3, 1, 1, 1);
    check("depthwise", &g, "library", "library");
}

/* Kernels for which the library has no gradient of the weights but a slow one: ours, in runs. */
static void depthwise(void **state)
{
    rq_conv_geom g = square(3, 32, 32, 32, 13, 13, 5, 1, 2, 2);
    check("5x5", &g, "library", "taps");
    g = square(2, 32, 32, 32, 17, 9, 5, 2, 2, 2);
    check("5x5, stride 2", &g, NULL, NULL);
    g = square(2, 8, 8, 8, 14, 11, 3, 1, 0, 1);
    g.dilation[1] = g.dilation[2] = 2;
    check("dilation", &g, NULL, NULL);
    g = square(2, 16, 16, 16, 9, 18, 4, 2, 1, 1);
    g.transposed = true;
    check("transposed", &g, NULL, NULL);
    g = square(3, 4, 4, 4, 6, 20, 3, 3, -1, -1);
    g.transposed = true;
    check("transposed, negative pads", &g, NULL, NULL);
    g = (rq_conv_geom) { .nd = 3,
                         .batch = 2,
                         .groups = 6,
                         .in_ch = 6,
                         .out_ch = 6,
                         .in = { 5, 6, 7 },
                         .out = { 5, 3, 7 },
                         .kernel = { 3, 3, 5 },
                         .stride = { 1, 2, 1 },
                         .dilation = { 1, 1, 1 },
                         .pad_lo = { 1, 1, 2 },
                         .pad_hi = { 1, 0, 2 } };
    check("three axes", &g, NULL, NULL);
}

static void transposed(void **state)
{
    rq_conv_geom g = square(5, 1, 32, 16, 12, 24, 4, 2, 1, 1);
    g.transposed = true;
    check("5 images", &g, "library", "library");
    g = square(1, 1, 64, 32, 16, 32, 3, 2, 1, 0);
    g.transposed = true;
    check("one image, a border more at the end", &g, "library", "library");
    g = square(2, 2, 32, 64, 16, 32, 3, 2, 1, 0);
    g.transposed = true;
    check("2 groups", &g, NULL, NULL);
}

static void without_a_kernel_of_the_library(void **state)
{
    rq_conv_geom g = square(3, 1, 4, 4, 6, 20, 3, 3, -1, -1); /* windows that begin inside: in 6, out 18 + 2 */
    g.transposed = true;
    check("negative pads", &g, "columns", "columns");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_the_batch),
        cmocka_unit_test(pieces_of_channels),
        cmocka_unit_test(depthwise),
        cmocka_unit_test(transposed),
        cmocka_unit_test(without_a_kernel_of_the_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
