/* instructions.c — runs chosen kernels once each at the level AVX2, on fixed inputs, for tests/kernels/instructions.sh, which counts the instructions
 * of each call of measured(). Prints the names in the order of the calls. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels.h"

enum { LACKING = 77 };

/* What is counted begins and ends here: the name stands in instructions.sh. */
__attribute__((noinline)) void measured(void (*fn)(void *), void *arg);
void measured(void (*fn)(void *), void *arg)
{
    fn(arg);
    __asm__ volatile("" ::: "memory");
}

static void *room(size_t n)
{
    rq_rng rng;
    rq_rng_seed(&rng, n);
    uint8_t *p = aligned_alloc(64, (n + 127) & ~(size_t)63);
    if (!p)
        exit(1);
    for (size_t i = 0; i < ((n + 127) & ~(size_t)63); i++)
        p[i] = (uint8_t)rq_rng_u64(&rng);
    return p;
}

static float *reals(size_t n, float at)
{
    rq_rng rng;
    rq_rng_seed(&rng, n);
    float *p = room(n * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = at * (rq_rng_f32(&rng) + 0.1f);
    return p;
}

static void measure(const char *name, void (*fn)(void *), void *arg)
{
    puts(name);
    measured(fn, arg);
}

/* ---- products: a pointwise convolution of 14 x 14 pixels, 96 to 64 channels; a 3x3 one; one row ---- */

enum { PIXELS = 196, SIDE = 14, IN = 96, OUT = 64 };

static void product(void *arg)
{
    rq_qgemm_run(arg, NULL);
}

/* A row of taps lies together in an image with a border. */
static void find(const void *arg, const uint8_t **at, int stride, int64_t i, int n)
{
    for (int q = 0; q < n; q++)
        for (int64_t r = 0; r < 3; r++)
            at[r * stride + q] = (const uint8_t *)arg + (((i + q) / SIDE + r) * (SIDE + 2) + (i + q) % SIDE) * IN;
}

static void products(const rq_kernels *k)
{
    static const struct {
        const char *name;
        int64_t rows, runs, run;
    } shape[] = { { "product 196x96x64", PIXELS, 1, IN },
                  { "window 3x3 14x14x96 to 64", PIXELS, 3, 3 * IN },
                  { "product 1x96x64", 1, 1, IN } };
    for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++) {
        const int64_t runs = shape[i].runs, run = shape[i].run;
        uint8_t *x = room((SIDE + 2) * (SIDE + 2) * IN), *y = room(PIXELS * OUT),
                *src = room((size_t)(runs * run * OUT));
        void *w = room(rq_qgemm_w_bytes(&k->qgemm, runs, run, OUT));
        float *m = reals(OUT, 1e-3f);
        int32_t add[OUT] = { 0 };
        rq_qgemm_pack(&k->qgemm, w, src, run * OUT, OUT, 1, runs, run, OUT, 0, NULL);
        rq_qgemm g = { .k = k, .rows = shape[i].rows, .runs = runs, .run = run, .columns = OUT, .w = w };
        if (runs == 1) {
            g.x = x;
            g.x_stride = IN;
        } else {
            g.find = find;
            g.find_arg = x;
        }
        g.out = (rq_qgemm_out) {
            .kind = RQ_QGEMM_CODES, .y = y, .ld = OUT, .col_add = add, .col_m = m, .zp = 3, .hi = 255
        };
        measure(shape[i].name, product, &g);
        free(x), free(y), free(src), free(w), free(m);
    }
}

/* ---- the same window, with fewer multiplications ---- */

static void fewer(void *arg)
{
    rq_winograd_run(arg, NULL);
}

static void windows(const rq_kernels *k)
{
    const rq_winograd_weights from = { .at = room((size_t)OUT * IN * 9), .channels = IN, .columns = OUT };
    uint8_t *x = room(PIXELS * IN), *y = room(PIXELS * OUT), *zeros = room(IN);
    void *w = room(rq_winograd_w_bytes(k->winograd, IN, OUT));
    float *m = reals(OUT, 1e-3f);
    int32_t add[OUT] = { 0 }, sum[OUT];
    rq_winograd_pack(NULL, k->winograd, w, &from, sum);
    rq_winograd g = { .k = k, .batch = 1, .channels = IN, .columns = OUT, .in = { SIDE, SIDE }, .out = { SIDE, SIDE } };
    g.pad[0] = g.pad[1] = 1;
    g.x = x, g.zeros = zeros, g.w = w, g.add = add, g.m = m, g.y = y;
    g.zp = 3, g.hi = 255, g.ld = OUT;
    g.room = room(rq_winograd_room(&g));
    measure("fewer products 3x3 14x14x96 to 64", fewer, &g);
    free((void *)(uintptr_t)from.at), free(x), free(y), free(zeros), free(w), free(m), free(g.room);
}

/* ---- depthwise: an inner row of 28 pixels of 96 channels ---- */

typedef struct window {
    const rq_kernels *k;
    rq_dwlast_row g;
} window;

static void slide(void *arg)
{
    const window *w = arg;
    w->k->dwlast_s8->window(&w->g, 3, 1);
}

static void depthwise(const rq_kernels *k)
{
    enum { N = 28 };
    const rq_dwlast_isa *isa = k->dwlast_s8;
    uint8_t *x = room(3 * N * IN), *y = room(N * IN), *zero = room(IN);
    int16_t w[IN * 9];
    int32_t add[IN] = { 0 };
    float *m = reals(IN, 1e-3f);
    void *packed = room(rq_dwlast_bytes(isa, IN, 3, 3)), *finish = room(rq_dwlast_finish_bytes(isa, IN));
    for (int i = 0; i < IN * 9; i++)
        w[i] = (int16_t)(i % 255 - 127);
    rq_dwlast_pack(isa, packed, w, IN, 3, 3);
    rq_dwlast_pack_finish(isa, finish, add, m, IN);
    const uint8_t *rows[3] = { x, x + N * IN, x + 2 * N * IN };
    window d = { .k = k,
                 .g = { .channels = IN,
                        .n = N,
                        .w = packed,
                        .finish = finish,
                        .x = rows,
                        .height = 3,
                        .zero = zero,
                        .pitch = IN,
                        .first = 1,
                        .last = N + 1,
                        .y = y,
                        .ld = IN,
                        .zp = 3,
                        .hi = 255 } };
    measure("depthwise 3x3 28x96", slide, &d);
    free(x), free(y), free(zero), free(m), free(packed), free(finish);
}

/* ---- elements ---- */

enum { N = 1 << 14 };

typedef struct elements {
    const rq_kernels *k;
    float *x;
    uint8_t *a, *b, *y;
    int32_t *sums;
    float *m;
    rq_qadd quick;
} elements;

static void quantize(void *arg)
{
    const elements *e = arg;
    e->k->quantize_u8(e->y, e->x, N, 0.02f, 3, 0, 255);
}

static void dequantize(void *arg)
{
    const elements *e = arg;
    e->k->dequantize_u8(e->x, e->a, N, 0.02f, 3);
}

static void table(void *arg)
{
    const elements *e = arg;
    e->k->lut8(e->y, e->a, N, e->b);
}

static void sum(void *arg)
{
    const elements *e = arg;
    e->k->qadd(e->y, e->a, e->b, N, &(rq_qadd) { .ra = 0.5f, .rb = 0.25f, .k = 7 });
}

static void quick_sum(void *arg)
{
    const elements *e = arg;
    e->k->qadd(e->y, e->a, e->b, N, &e->quick);
}

static void requantize(void *arg)
{
    const elements *e = arg;
    e->k->requantize_tile(e->y, OUT, e->sums, OUT, N / OUT, OUT, NULL, e->m, 3, 0, 255);
}

int main(void)
{
    unsigned flags;
    const char *name;
    int level = 0;
    while ((name = rq_cpu_level(level, &flags)) && strcmp(name, "avx2") != 0)
        level++;
    if (!name || (rq_cpu_detect() & flags) != flags) {
        puts("this machine lacks avx2");
        return LACKING;
    }
    rq_kernels k;
    rq_kernels_init(&k, flags);
    products(&k);
    windows(&k);
    depthwise(&k);
    elements e = { .k = &k, .x = reals(N, 1), .a = room(N), .b = room(N), .y = room(N), .m = reals(OUT, 1e-3f) };
    e.sums = room(N * sizeof *e.sums);
    for (int i = 0; i < N; i++)
        e.sums[i] %= 1 << 20;
    e.quick = (rq_qadd) { .ra = 0.5f, .rb = 0.25f, .k = 7 };
    rq_qadd_quicken(&k, &e.quick);
    measure("quantize 16384", quantize, &e);
    measure("dequantize 16384", dequantize, &e);
    measure("table 16384", table, &e);
    measure("sum 16384", sum, &e);
    measure("quick sum 16384", quick_sum, &e);
    measure("requantize 256x64", requantize, &e);
    free(e.x), free(e.a), free(e.b), free(e.y), free(e.m), free(e.sums);
    return 0;
}
