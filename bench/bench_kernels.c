/* bench/bench_kernels.c — how fast the integer kernels are, per instruction set: JSON lines on stdout.
 *
 * `peak` is measured too: the tile alone on a block of A and a panel of B that stay in the first-level cache. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cpu.h"
#include "kernels/im2col.h"
#include "kernels/kernels.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one call of fn: the fastest of those that fit in 200 ms, so that a busy machine disturbs little. */
static double seconds_of(void (*fn)(void *), void *arg)
{
    const double start = now();
    double best = 1e9, at = start;
    fn(arg);
    while (at - start < 0.2) {
        at = now();
        fn(arg);
        const double spent = now() - at;
        best = spent < best ? spent : best;
    }
    return best;
}

enum { CALLS = 20 };

typedef struct tile_arg {
    const rq_gemm_isa *g;
    void *a;
    uint8_t *b;
    int32_t *c;
    size_t steps;
} tile_arg;

static void run_tile(void *arg)
{
    const tile_arg *t = arg;
    for (int i = 0; i < CALLS; i++)
        t->g->tile(t->c, RQ_GEMM_MAX_COLUMNS, t->a, t->b, t->steps, t->g->mr, t->g->max_vectors);
}

/* Multiply-adds per second of the tile alone. */
static double peak_of(const rq_kernels *k)
{
    const rq_gemm_isa *g = &k->gemm;
    tile_arg t = { .g = g, .steps = (size_t)(256 / g->kr) };
    t.a = calloc(1, 1 << 16);
    t.b = calloc(1, 1 << 16);
    t.c = calloc(RQ_GEMM_MAX_MR, RQ_GEMM_MAX_COLUMNS * sizeof *t.c);
    const double s = seconds_of(run_tile, &t);
    free(t.a), free(t.b), free(t.c);
    return (double)CALLS * 256 * g->mr * g->max_vectors * g->lanes / s;
}

typedef struct conv_arg {
    const rq_kernels *k;
    rq_im2col g;
    int64_t rows, depth, columns;
    int64_t *tap;
    uint8_t *x, *y, *padded;
    rq_gemm job;
} conv_arg;

static void fill(const void *arg, uint8_t *panel, int64_t p)
{
    const conv_arg *c = arg;
    int vectors;
    const int64_t first = rq_gemm_panel(&c->k->gemm, c->columns, p, &vectors),
                  most = (int64_t)vectors * c->k->gemm.lanes;
    rq_im2col_panel(&c->g, &c->k->gemm, panel, c->g.direct ? c->x : c->padded, c->tap, c->depth, first,
                    c->columns - first < most ? c->columns - first : most, 0);
}

static void run_conv(void *arg)
{
    conv_arg *c = arg;
    if (!c->g.direct)
        rq_im2col_pad(&c->g, c->padded, c->x, 0, 0, NULL);
    rq_gemm_run(&c->job, NULL);
}

static void bench_conv(const rq_kernels *k, double peak, int64_t channels, int64_t size, int64_t rows, int64_t kernel,
                       int64_t stride)
{
    conv_arg c = { .k = k, .rows = rows, .depth = channels * kernel * kernel };
    const int64_t out = (size + kernel / 2 * 2 - kernel) / stride + 1;
    c.g = (rq_im2col) { .in = { 1, size, size },
                        .out = { 1, out, out },
                        .kernel = { 1, kernel, kernel },
                        .stride = { 1, stride, stride },
                        .dilation = { 1, 1, 1 },
                        .pad = { 0, kernel / 2, kernel / 2 },
                        .channels = channels };
    rq_im2col_init(&c.g);
    c.columns = out * out;
    c.tap = malloc((size_t)c.depth * sizeof *c.tap);
    for (int64_t i = 0; i < c.depth; i++) {
        const int64_t at[3] = { 0, i / kernel % kernel, i % kernel };
        c.tap[i] = rq_im2col_tap(&c.g, i / (kernel * kernel), at);
    }
    c.x = calloc(1, (size_t)(channels * size * size));
    c.y = calloc(1, (size_t)(rows * c.columns));
    c.padded = calloc(1, rq_im2col_bytes(&c.g) + 1);
    int32_t *add = calloc((size_t)rows, sizeof *add);
    float *m = malloc((size_t)rows * sizeof *m);
    for (int64_t i = 0; i < rows; i++)
        m[i] = 0.01f;
    void *a = aligned_alloc(64, (rq_gemm_a_bytes(&k->gemm, rows, c.depth) + 63) & ~(size_t)63);
    memset(a, 1, rq_gemm_a_bytes(&k->gemm, rows, c.depth));
    void *scratch = aligned_alloc(64, (rq_gemm_scratch(&k->gemm, c.depth, c.columns, 1) + 63) & ~(size_t)63);
    c.job = (rq_gemm) { .k = k,
                        .rows = rows,
                        .depth = c.depth,
                        .columns = c.columns,
                        .a = a,
                        .fill = fill,
                        .fill_arg = &c,
                        .scratch = scratch };
    c.job.out =
        (rq_gemm_out) { .kind = RQ_GEMM_CODES, .y = c.y, .ld = c.columns, .row_add = add, .row_m = m, .hi = 255 };
    const double s = seconds_of(run_conv, &c), macs = (double)rows * (double)c.depth * (double)c.columns;
    printf("{\"kernel\": \"conv\", \"isa\": \"%s\", \"channels\": %d, \"size\": %d, \"outputs\": %d, \"window\": %d, "
           "\"stride\": %d, \"ms\": %.4f, \"gops\": %.1f, \"share_of_peak\": %.2f}\n",
           k->isa, (int)channels, (int)size, (int)rows, (int)kernel, (int)stride, s * 1e3, 2e-9 * macs / s,
           macs / s / peak);
    free(c.tap), free(c.x), free(c.y), free(c.padded), free(add), free(m), free(a), free(scratch);
}

int main(void)
{
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        rq_kernels k;
        rq_kernels_init(&k, flags);
        const double peak = peak_of(&k);
        printf("{\"kernel\": \"tile\", \"isa\": \"%s\", \"gops\": %.1f}\n", k.isa, 2e-9 * peak);
        /* the shapes of a ResNet-50 */
        bench_conv(&k, peak, 3, 224, 64, 7, 2);
        bench_conv(&k, peak, 64, 56, 64, 1, 1);
        bench_conv(&k, peak, 64, 56, 64, 3, 1);
        bench_conv(&k, peak, 64, 56, 256, 1, 1);
        bench_conv(&k, peak, 128, 28, 128, 3, 1);
        bench_conv(&k, peak, 512, 28, 128, 1, 1);
        bench_conv(&k, peak, 256, 14, 256, 3, 1);
        bench_conv(&k, peak, 1024, 14, 256, 1, 1);
        bench_conv(&k, peak, 512, 7, 512, 3, 1);
        bench_conv(&k, peak, 512, 7, 2048, 1, 1);
    }
    return 0;
}
