/* Depthwise rows over channels-last codes on every instruction set against their sums: all small numbers of channels and outputs, borders on each
 * side, rows of taps outside, corner patterns, pixels of the exact size in buffers of their own. */
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

enum { N_PATTERNS = 4 };

extern const rq_dwlast_isa rq_dwlast_avxvnni_evex;

typedef struct job {
    const rq_kernels *k;
    bool narrow; /* weights of s8 */
    int pattern, channels, n, height, width, stride, pad, columns;
    bool top, bottom; /* the first, the last row of taps is outside */
    rq_rng rng;
} job;

static uint8_t code_of(job *j, int i)
{
    const uint8_t corner[N_PATTERNS] = { 0, 255, 255, (uint8_t)(i % 2 ? 255 : 0) };
    return j->pattern == 0 ? (uint8_t)rq_rng_u64(&j->rng) : corner[j->pattern];
}

static int16_t weight_of(job *j, int i)
{
    const int lo = j->narrow ? -128 : -255, hi = j->narrow ? 127 : 255;
    if (j->pattern == 0)
        return (int16_t)((int)rq_rng_below(&j->rng, (uint64_t)(hi - lo + 1)) + lo);
    return (int16_t)(j->pattern == 1 ? lo : j->pattern == 2 ? hi : i % 2 ? lo : hi);
}

/* Everything of one job beside the pixels. */
typedef struct made {
    int16_t *w;
    int32_t *add;
    float *m;
    void *packed, *finish;
    uint8_t *y;
    int32_t *sums;
    int ld;
    int32_t zp, lo, hi;
} made;

static const rq_dwlast_isa *isa_of(const job *j)
{
    return j->narrow ? j->k->dwlast_s8 : j->k->dwlast_s16;
}

/* So many bytes and no more. */
static void *exactly(size_t bytes)
{
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, bytes), 0);
    return p;
}

static made make(job *j)
{
    const rq_dwlast_isa *g = isa_of(j);
    const int taps = j->height * j->width, c = j->channels;
    made d = { .ld = c + j->n % 3, .zp = j->channels % 256, .lo = j->pattern == 0 ? j->channels % 9 : 0, .hi = 255 };
    if (j->pattern == 3)
        d.hi = 200;
    d.w = malloc((size_t)(c * taps) * sizeof *d.w);
    d.add = malloc((size_t)c * sizeof *d.add);
    d.m = malloc((size_t)c * sizeof *d.m);
    for (int i = 0; i < c * taps; i++)
        d.w[i] = weight_of(j, i);
    for (int i = 0; i < c; i++) {
        d.add[i] = (int32_t)rq_rng_below(&j->rng, 20001) - 10000;
        d.m[i] = (float)(1 + rq_rng_below(&j->rng, 1000)) * 1e-5F;
        if (j->pattern == 0 && i % 11 == 3) /* far outside of what is kept, and no number */
            d.m[i] = i % 2 ? 1e30F : i % 3 ? -1e30F : NAN;
    }
    d.packed = exactly(rq_dwlast_bytes(g, c, j->height, j->width));
    d.finish = exactly(rq_dwlast_finish_bytes(g, c));
    rq_dwlast_pack(g, d.packed, d.w, c, j->height, j->width);
    rq_dwlast_pack_finish(g, d.finish, d.add, d.m, c);
    d.y = malloc((size_t)((j->n - 1) * d.ld + c));
    d.sums = malloc((size_t)((j->n - 1) * d.ld + c) * sizeof *d.sums);
    return d;
}

static void check(const job *j, const made *d, const uint8_t *const *pixel /* [n][taps] */)
{
    const int taps = j->height * j->width;
    for (int o = 0; o < j->n; o++)
        for (int c = 0; c < j->channels; c++) {
            int32_t sum = 0;
            for (int t = 0; t < taps; t++)
                sum += d->w[c * taps + t] * pixel[o * taps + t][c];
            const int32_t want = rq_quantize_acc(sum + d->add[c], d->m[c], d->zp, d->lo, d->hi);
            if (d->sums[o * d->ld + c] != sum || d->y[o * d->ld + c] != want)
                fail_msg("%s, weights of %s: window %d x %d stride %d, %d channels, pattern %d: output %d channel %d "
                         "is %d and %d, should be %d and %d",
                         j->k->isa, j->narrow ? "s8" : "s16", j->height, j->width, j->stride, j->channels, j->pattern,
                         o, c, d->sums[o * d->ld + c], d->y[o * d->ld + c], sum, want);
        }
}

static void give_back(made *d)
{
    free(d->w), free(d->add), free(d->m), free(d->packed), free(d->finish), free(d->y), free(d->sums);
}

static uint8_t *new_pixels(job *j, int n)
{
    uint8_t *x = malloc((size_t)(n * j->channels));
    for (int i = 0; i < n * j->channels; i++)
        x[i] = code_of(j, i);
    return x;
}

static rq_dwlast_row row_of(const job *j, const made *d)
{
    return (rq_dwlast_row) { .channels = j->channels,
                             .n = j->n,
                             .w = d->packed,
                             .finish = d->finish,
                             .height = j->height,
                             .ld = d->ld,
                             .zp = d->zp,
                             .lo = d->lo,
                             .hi = d->hi };
}

static void run_window(job *j)
{
    made d = make(j);
    const int taps = j->height * j->width;
    uint8_t *zero = new_pixels(j, 1), *rows[5];
    const uint8_t *x[5];
    const uint8_t **pixel = malloc((size_t)(j->n * taps) * sizeof *pixel);
    for (int r = 0; r < j->height; r++) {
        rows[r] = new_pixels(j, j->columns);
        x[r] = (j->top && r == 0) || (j->bottom && r == j->height - 1) ? NULL : rows[r];
    }
    for (int o = 0; o < j->n; o++)
        for (int t = 0; t < taps; t++) {
            const int at = o * j->stride + t % j->width - j->pad, r = t / j->width;
            pixel[o * taps + t] = x[r] && at >= 0 && at < j->columns ? x[r] + at * j->channels : zero;
        }
    rq_dwlast_row g = row_of(j, &d);
    g.x = x;
    g.zero = zero;
    g.pitch = j->channels;
    g.first = j->pad;
    g.last = j->pad + j->columns;
    g.sums = d.sums;
    isa_of(j)->window(&g, j->width, j->stride);
    g.y = d.y;
    g.sums = NULL;
    isa_of(j)->window(&g, j->width, j->stride);
    check(j, &d, pixel);
    for (int r = 0; r < j->height; r++)
        free(rows[r]);
    free(zero), free(pixel);
    give_back(&d);
}

static void run_taps(job *j)
{
    made d = make(j);
    uint8_t **pixel = malloc((size_t)(j->n * j->height) * sizeof *pixel);
    for (int i = 0; i < j->n * j->height; i++)
        pixel[i] = new_pixels(j, 1);
    rq_dwlast_row g = row_of(j, &d);
    g.x = (const uint8_t *const *)pixel;
    g.sums = d.sums;
    isa_of(j)->taps(&g);
    g.y = d.y;
    g.sums = NULL;
    isa_of(j)->taps(&g);
    check(j, &d, g.x);
    for (int i = 0; i < j->n * j->height; i++)
        free(pixel[i]);
    free(pixel);
    give_back(&d);
}

static void both_types(const rq_kernels *k, void (*fn)(job *))
{
    for (int narrow = 0; narrow < 2; narrow++) {
        job j = { .k = k, .narrow = narrow != 0 };
        rq_rng_seed(&j.rng, 5);
        fn(&j);
    }
}

/* Calls fn with the kernels of each level that is here, for both types of weights. */
static void each_level(void (*fn)(job *))
{
    unsigned flags;
    const char *name;
    for (int level = 0; (name = rq_cpu_level(level, &flags)) != NULL; level++) {
        if ((rq_cpu_detect() & flags) != flags) {
            print_message("level %s is missing here\n", name);
            continue;
        }
        rq_kernels k;
        rq_kernels_init(&k, flags);
        both_types(&k, fn);
    }
#if RQ_X86
    if (rq_cpu_detect() & RQ_CPU_VNNI) { /* avxvnni_dwlast.c */
        rq_kernels k;
        rq_kernels_init(&k, RQ_CPU_AVX2);
        k.isa = "avxvnni, encoded for AVX-512";
        k.dwlast_s8 = &rq_dwlast_avxvnni_evex;
        both_types(&k, fn);
    }
#endif
}

static void windows(job *j)
{
    for (j->height = 3; j->height <= 5; j->height += 2)
        for (j->stride = 1; j->stride <= 2; j->stride++)
            for (j->channels = 1; j->channels <= 150; j->channels += j->channels < 70 ? 1 : 13)
                for (j->n = 1; j->n <= 6; j->n++) {
                    j->width = j->height;
                    j->pad = j->channels % 3 * (j->height / 2) / 2;
                    j->pattern = (j->channels + j->n) % N_PATTERNS;
                    j->top = j->n % 2 == 0;
                    j->bottom = j->n % 3 == 0;
                    /* as wide as wanted, narrower, and narrower than the window */
                    const int needed = (j->n - 1) * j->stride + j->width - j->pad, less = j->channels % 4 * j->n % 4;
                    j->columns = needed > less ? needed - less : 1;
                    run_window(j);
                }
}

static void tap_lists(job *j)
{
    j->width = 1;
    for (j->height = 0; j->height <= 26; j->height++)
        for (j->channels = 1; j->channels <= 150; j->channels += j->height % 5 ? 23 : 1)
            for (j->n = 1; j->n <= 2; j->n++)
                for (j->pattern = 0; j->pattern < N_PATTERNS; j->pattern += j->height % 3 + 1)
                    run_taps(j);
}

static void windows_are_sums_on_every_isa(void **state)
{
    (void)state;
    each_level(windows);
}

static void tap_lists_are_sums_on_every_isa(void **state)
{
    (void)state;
    each_level(tap_lists);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(windows_are_sums_on_every_isa),
                                        cmocka_unit_test(tap_lists_are_sums_on_every_isa) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
