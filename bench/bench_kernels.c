/* bench/bench_kernels.c — how fast the integer kernels are, per instruction set, one thread: JSON lines on stdout.
 *
 *   bench_kernels           the shapes of a ResNet-50 as products of rows of channels-last pixels; windows of 3 x 3 also by fewer multiplications
 *   bench_kernels --bars    what is promised about kernels: a line per bar
 *
 * Shares are of the most this machine was measured to do in registers (kernels/peak.h), taken just before and after: a busy machine slows both. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cpu.h"
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

/* 64-byte aligned, filled with one byte. */
static void *room(size_t n, int byte)
{
    void *p = aligned_alloc(64, (n + 127) & ~(size_t)63);
    if (!p)
        exit(1);
    return memset(p, byte, (n + 127) & ~(size_t)63);
}

typedef struct peak_arg {
    rq_peak_fn fn;
    double macs;
} peak_arg;

static void run_peak(void *arg)
{
    peak_arg *p = arg;
    p->macs = p->fn(100000);
}

/* Multiply-adds per second in registers. */
static double peak_of(const rq_kernels *k)
{
    peak_arg p = { .fn = k->peak_int };
    const double s = seconds_of(run_peak, &p);
    return p.macs / s;
}

/* ---- products ---- */

typedef struct conv {
    int64_t channels, size, window, stride, out; /* pixels in rows and columns */
    uint8_t *x;                                  /* [size + window - 1][size + window - 1][channels] */
    rq_qgemm g;
} conv;

/* Row r of the window of output pixel i + q: window pixels that lie together. */
static void find(const void *arg, const uint8_t **at, int stride, int64_t i, int n)
{
    const conv *c = arg;
    const int64_t wide = c->size + c->window - 1;
    for (int q = 0; q < n; q++)
        for (int64_t r = 0; r < c->window; r++)
            at[r * stride + q] =
                c->x + (((i + q) / c->out * c->stride + r) * wide + (i + q) % c->out * c->stride) * c->channels;
}

static void run_product(void *arg)
{
    rq_qgemm_run(&((conv *)arg)->g, NULL);
}

/* Seconds of a convolution of one image, requantized to codes. */
static double conv_seconds(const rq_kernels *k, int64_t channels, int64_t size, int64_t outputs, int64_t window,
                           int64_t stride, double *macs)
{
    conv c = { .channels = channels, .size = size, .window = window, .stride = stride };
    const int64_t wide = size + window - 1, run = window * channels;
    c.out = (size - 1) / stride + 1;
    uint8_t *src = room((size_t)(outputs * window * run), 3), *y = room((size_t)(c.out * c.out * outputs), 0);
    float *m = room((size_t)outputs * sizeof *m, 0);
    void *w = room(rq_qgemm_w_bytes(&k->qgemm, window, run, outputs), 0);
    int32_t *sum = room((size_t)outputs * sizeof *sum, 0);
    c.x = room((size_t)(wide * wide * channels), 1);
    for (int64_t i = 0; i < outputs; i++)
        m[i] = 1e-3f;
    rq_qgemm_pack(&k->qgemm, w, src, run * outputs, outputs, 1, window, run, outputs, 0, sum);
    c.g = (rq_qgemm) { .k = k, .rows = c.out * c.out, .runs = window, .run = run, .columns = outputs, .w = w };
    if (window == 1 && stride == 1) {
        c.g.x = c.x;
        c.g.x_stride = channels;
    } else {
        c.g.find = find;
        c.g.find_arg = &c;
    }
    c.g.out = (rq_qgemm_out) { .kind = RQ_QGEMM_CODES, .y = y, .ld = outputs, .col_add = sum, .col_m = m, .hi = 255 };
    *macs = (double)c.g.rows * (double)window * (double)run * (double)outputs;
    const double s = seconds_of(run_product, &c);
    free(src), free(y), free(m), free(w), free(sum), free(c.x);
    return s;
}

static void run_winograd(void *arg)
{
    rq_winograd_run(arg, NULL);
}

/* The same by fewer multiplications, windows of 3 x 3. */
static double winograd_seconds(const rq_kernels *k, int64_t channels, int64_t size, int64_t outputs)
{
    const rq_winograd_weights from = { .at = room((size_t)(outputs * channels * 9), 3),
                                       .channels = channels,
                                       .columns = outputs };
    uint8_t *x = room((size_t)(size * size * channels), 1), *y = room((size_t)(size * size * outputs), 0);
    uint8_t *zeros = room((size_t)channels, 1);
    float *m = room((size_t)outputs * sizeof *m, 0);
    void *w = room(rq_winograd_w_bytes(k->winograd, channels, outputs), 0);
    int32_t *sum = room((size_t)outputs * sizeof *sum, 0);
    for (int64_t i = 0; i < outputs; i++)
        m[i] = 1e-3f;
    rq_winograd_pack(NULL, k->winograd, w, &from, sum);
    rq_winograd g = { .k = k, .batch = 1, .channels = channels, .columns = outputs };
    for (int d = 0; d < 2; d++) {
        g.in[d] = g.out[d] = size;
        g.pad[d] = 1;
    }
    g.x = x, g.zeros = zeros, g.w = w, g.add = sum, g.m = m, g.hi = 255, g.y = y, g.ld = outputs;
    g.room = room(rq_winograd_room(&g), 0);
    const double s = seconds_of(run_winograd, &g);
    free((void *)(uintptr_t)from.at), free(x), free(y), free(zeros), free(m), free(w), free(sum), free(g.room);
    return s;
}

static void print_conv(const rq_kernels *k, double peak, int64_t channels, int64_t size, int64_t outputs,
                       int64_t window, int64_t stride)
{
    double macs;
    const double s = conv_seconds(k, channels, size, outputs, window, stride, &macs);
    printf("{\"kernel\": \"conv\", \"isa\": \"%s\", \"channels\": %d, \"size\": %d, \"outputs\": %d, \"window\": %d, "
           "\"stride\": %d, \"ms\": %.4f, \"gops\": %.1f, \"share_of_peak\": %.2f",
           k->isa, (int)channels, (int)size, (int)outputs, (int)window, (int)stride, s * 1e3, 2e-9 * macs / s,
           macs / s / peak);
    if (k->winograd && window == 3 && stride == 1)
        printf(", \"winograd_ms\": %.4f, \"taken\": %s", 1e3 * winograd_seconds(k, channels, size, outputs),
               rq_winograd_pays(k->winograd, channels, outputs, size, size) ? "true" : "false");
    puts("}");
}

/* GEMM of 1024 rows, columns and depth: a pointwise convolution of 32 x 32 pixels. Multiply-adds per second. */
static double gemm_1024(const rq_kernels *k)
{
    double macs;
    const double s = conv_seconds(k, 1024, 32, 1024, 1, 1, &macs);
    return macs / s;
}

/* ---- one row, and products of two variable sides ---- */

typedef struct product {
    rq_qgemm g;
    uint8_t *b;
    int32_t *row_sum, *col_add;
    size_t w_bytes;
    int64_t times; /* so many of one size, one after the other */
} product;

static void run_row(void *arg)
{
    rq_qgemm_run(&((product *)arg)->g, NULL);
}

/* Reads the packed weights, as fast as this level reads. */
static void run_read(void *arg)
{
    const product *p = arg;
    int32_t sum[64];
    p->g.k->row_sums(sum, p->g.w, p->w_bytes / 64, 64, p->w_bytes / 64);
}

/* As MatMul does it: W is packed, the zero points of both sides are folded in, codes are made. */
static void run_variable(void *arg)
{
    product *p = arg;
    rq_qgemm *g = &p->g;
    for (int64_t t = 0; t < p->times; t++) {
        rq_qgemm_pack(&g->k->qgemm, (void *)g->w, p->b, 0, g->columns, 1, 1, g->run, g->columns, 0x80, p->col_add);
        g->k->row_sums(p->row_sum, g->x, (size_t)g->x_stride, (size_t)g->rows, (size_t)g->run);
        for (int64_t i = 0; i < g->rows; i++)
            p->row_sum[i] *= -3;
        for (int64_t j = 0; j < g->columns; j++)
            p->col_add[j] *= -120;
        rq_qgemm_run(g, NULL);
    }
}

static product product_of(const rq_kernels *k, int64_t rows, int64_t depth, int64_t columns)
{
    product p = { .w_bytes = rq_qgemm_w_bytes(&k->qgemm, 1, depth, columns), .times = 12 };
    float *m = room((size_t)columns * sizeof *m, 0);
    for (int64_t j = 0; j < columns; j++)
        m[j] = 1e-3f;
    p.b = room((size_t)(depth * columns), 3);
    p.row_sum = room((size_t)rows * sizeof *p.row_sum, 0);
    p.col_add = room((size_t)columns * sizeof *p.col_add, 0);
    p.g = (rq_qgemm) {
        .k = k, .rows = rows, .runs = 1, .run = depth, .columns = columns, .w = room(p.w_bytes, 0), .x_stride = depth
    };
    rq_qgemm_pack(&k->qgemm, (void *)p.g.w, p.b, 0, columns, 1, 1, depth, columns, 0x80, p.col_add);
    p.g.x = room((size_t)(rows * depth), 1);
    p.g.out = (rq_qgemm_out) { .kind = RQ_QGEMM_CODES,
                               .y = room((size_t)(rows * columns), 0),
                               .ld = columns,
                               .col_add = p.col_add,
                               .col_m = m,
                               .zp = 3,
                               .hi = 255 };
    return p;
}

static void product_release(product *p)
{
    free((void *)p->g.out.col_m), free(p->b), free(p->row_sum), free(p->col_add), free((void *)p->g.w);
    free((void *)p->g.x), free(p->g.out.y);
}

/* One row by 4096 x 4096 weights: the share of the time that reading them takes. */
static double row_share(const rq_kernels *k)
{
    product p = product_of(k, 1, 4096, 4096);
    const double row = seconds_of(run_row, &p), read = seconds_of(run_read, &p);
    product_release(&p);
    return read / row;
}

/* Multiply-adds per second of twelve products of an attention's size. */
static double variable_rate(const rq_kernels *k, int64_t rows, int64_t depth, int64_t columns)
{
    product p = product_of(k, rows, depth, columns);
    p.g.out.row_add = p.row_sum;
    const double s = seconds_of(run_variable, &p);
    product_release(&p);
    return 12.0 * (double)rows * (double)depth * (double)columns / s;
}

/* ---- depthwise ---- */

typedef struct depthwise {
    const rq_kernels *k;
    int64_t channels, size, stride, out;
    rq_dwlast_row row;
    uint8_t *x, *y, *copy, *zero;
    int32_t *sums;
    float *m;
} depthwise;

/* A 3x3 window over a whole image with borders, row by row. */
static void run_depthwise(void *arg)
{
    const depthwise *d = arg;
    rq_dwlast_row g = d->row;
    for (int64_t o = 0; o < d->out; o++) {
        const uint8_t *rows[3];
        for (int64_t r = 0; r < 3; r++) {
            const int64_t at = o * d->stride + r - 1;
            rows[r] = at < 0 || at >= d->size ? NULL : d->x + at * d->size * d->channels;
        }
        g.x = rows;
        g.y = d->y + o * d->out * d->channels;
        d->k->dwlast_s8->window(&g, 3, (int)d->stride);
    }
}

static void run_copy(void *arg)
{
    const depthwise *d = arg;
    memcpy(d->copy, d->x, (size_t)(d->size * d->size * d->channels));
}

static void run_requantize(void *arg)
{
    const depthwise *d = arg;
    const size_t c = (size_t)d->channels;
    d->k->requantize_tile(d->y, c, d->sums, c, (size_t)(d->out * d->out), c, NULL, d->m, 3, 0, 255);
}

/* How many times a copy of the input and a requantization of the output take together, each measured alone. */
static double depthwise_times(const rq_kernels *k, int64_t channels, int64_t size, int64_t stride)
{
    const rq_dwlast_isa *isa = k->dwlast_s8;
    const int64_t out = (size - 1) / stride + 1;
    const size_t in_bytes = (size_t)(size * size * channels), n_out = (size_t)(out * out * channels);
    depthwise d = { .k = k, .channels = channels, .size = size, .stride = stride, .out = out };
    int16_t *w = room((size_t)channels * 9 * sizeof *w, 0);
    int32_t *add = room((size_t)channels * sizeof *add, 0);
    void *packed = room(rq_dwlast_bytes(isa, channels, 3, 3), 0),
         *finish = room(rq_dwlast_finish_bytes(isa, channels), 0);
    d.x = room(in_bytes, 1), d.y = room(n_out, 0), d.copy = room(in_bytes, 0), d.zero = room((size_t)channels, 1);
    d.sums = room(n_out * sizeof *d.sums, 0);
    d.m = room((size_t)channels * sizeof *d.m, 0);
    for (int64_t i = 0; i < channels; i++)
        d.m[i] = 1e-3f;
    for (int64_t i = 0; i < channels * 9; i++)
        w[i] = (int16_t)(i % 255 - 127);
    rq_dwlast_pack(isa, packed, w, channels, 3, 3);
    rq_dwlast_pack_finish(isa, finish, add, d.m, channels);
    d.row = (rq_dwlast_row) { .channels = channels,
                              .n = out,
                              .w = packed,
                              .finish = finish,
                              .height = 3,
                              .zero = d.zero,
                              .pitch = channels,
                              .first = 1,
                              .last = size + 1,
                              .ld = channels,
                              .zp = 3,
                              .hi = 255 };
    const double s = seconds_of(run_depthwise, &d), floor = seconds_of(run_copy, &d) + seconds_of(run_requantize, &d);
    free(w), free(add), free(packed), free(finish), free(d.x), free(d.y), free(d.copy), free(d.zero), free(d.sums),
        free(d.m);
    return s / floor;
}

/* ---- bars ---- */

static void print_bar(const char *what, const char *level, double value, const char *unit, double bar, bool at_most)
{
    printf("{\"what\": \"%s\", \"level\": \"%s\", \"value\": %.4g, \"unit\": \"%s\"", what, level, value, unit);
    if (bar > 0)
        printf(", \"bar\": %.4g, \"at_most\": %s", bar, at_most ? "true" : "false");
    puts("}");
}

static void bars(void)
{
    unsigned flags;
    double vnni = 0;
    const char *name;
    for (int level = 0; (name = rq_cpu_level(level, &flags)); level++) {
        if (!level || (rq_cpu_detect() & flags) != flags)
            continue;
        rq_kernels k;
        rq_kernels_init(&k, flags);
        const double before = peak_of(&k), rate = gemm_1024(&k), after = peak_of(&k);
        const double peak = before > after ? before : after;
        const bool is_vnni = !strcmp(name, "vnni");
        print_bar("GEMM 1024^3, share of the peak in registers", name, rate / peak, "", is_vnni ? 0.7 : 0, false);
        print_bar("GEMM 1024^3", name, 2e-9 * rate, "GOP/s", 0, false);
        if (is_vnni)
            vnni = rate;
        if (!strcmp(name, "amx") && vnni > 0)
            print_bar("GEMM 1024^3, times as fast as vnni", name, rate / vnni, "", 4, false);
        print_bar("GEMV 4096 x 4096, share of reading the weights", name, row_share(&k), "", 0, false);
        print_bar("12 MatMul 128 x 64 x 128, both sides variable, share of the peak", name,
                  variable_rate(&k, 128, 64, 128) / peak, "", 0, false);
        print_bar("12 MatMul 128 x 128 x 64, both sides variable, share of the peak", name,
                  variable_rate(&k, 128, 128, 64) / peak, "", 0, false);
        static const struct {
            int64_t size, channels, stride;
        } windows[] = { { 112, 32, 1 }, { 112, 96, 2 }, { 56, 144, 1 }, { 56, 144, 2 }, { 28, 192, 1 },
                        { 28, 192, 2 }, { 14, 384, 1 }, { 14, 576, 1 }, { 14, 576, 2 } };
        for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
            char what[96];
            snprintf(what, sizeof what, "depthwise 3x3, %dx%dx%d, stride %d, beside copying and requantizing",
                     (int)windows[i].size, (int)windows[i].size, (int)windows[i].channels, (int)windows[i].stride);
            print_bar(what, name, depthwise_times(&k, windows[i].channels, windows[i].size, windows[i].stride), "times",
                      is_vnni ? 4 : 0, true);
        }
    }
}

static void shapes(void)
{
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        rq_kernels k;
        rq_kernels_init(&k, flags);
        const double peak = peak_of(&k);
        printf("{\"kernel\": \"peak\", \"isa\": \"%s\", \"gops\": %.1f}\n", k.isa, 2e-9 * peak);
        print_conv(&k, peak, 3, 224, 64, 7, 2);
        print_conv(&k, peak, 64, 56, 64, 1, 1);
        print_conv(&k, peak, 64, 56, 64, 3, 1);
        print_conv(&k, peak, 64, 56, 256, 1, 1);
        print_conv(&k, peak, 128, 28, 128, 3, 1);
        print_conv(&k, peak, 512, 28, 128, 1, 1);
        print_conv(&k, peak, 256, 14, 256, 3, 1);
        print_conv(&k, peak, 1024, 14, 256, 1, 1);
        print_conv(&k, peak, 512, 7, 512, 3, 1);
        print_conv(&k, peak, 16, 112, 16, 3, 1);
        print_conv(&k, peak, 32, 28, 32, 3, 1);
        print_conv(&k, peak, 64, 7, 64, 3, 1);
        print_conv(&k, peak, 512, 7, 2048, 1, 1);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--bars"))
        bars();
    else
        shapes();
    return 0;
}
