/* Integer matrix products on every instruction set this machine has against three loops in this file: every small
 * size and tail, patterns where narrow accumulators break, buffers of the exact size (a sanitizer guards their ends). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "kernels/quantize.h"

enum { NOISE, ALL_LOW, ALL_HIGH, ALTERNATING, N_PATTERNS };

static void fill(uint8_t *p, size_t n, int pattern, rq_rng *rng)
{
    for (size_t i = 0; i < n; i++)
        p[i] = pattern == NOISE      ? (uint8_t)rq_rng_u64(rng)
               : pattern == ALL_LOW  ? 0x80
               : pattern == ALL_HIGH ? 0xff
               : i % 2               ? 0x7f
                                     : 0x80;
}

/* What a product is: bytes of A and B with their flips, corrections as gemm.h lists them. */
static int32_t naive(const uint8_t *a, const uint8_t *b, int64_t i, int64_t j, int64_t depth, int64_t columns,
                     uint8_t flip_a, uint8_t flip_b, int32_t za, int32_t zb)
{
    uint32_t sum = 0;
    for (int64_t k = 0; k < depth; k++)
        sum += (uint32_t)(((int8_t)(a[i * depth + k] ^ flip_a) - za) * ((b[k * columns + j] ^ flip_b) - zb));
    return (int32_t)sum;
}

typedef struct source {
    const rq_gemm_isa *isa;
    const uint8_t *b;
    int64_t depth, columns;
    uint8_t flip;
} source;

static void fill_panel(const void *arg, uint8_t *panel, int64_t p)
{
    const source *s = arg;
    int vectors;
    int64_t first = rq_gemm_panel(s->isa, s->columns, p, &vectors), n = (int64_t)vectors * s->isa->lanes;
    if (n > s->columns - first)
        n = s->columns - first;
    rq_gemm_pack_panel(s->isa, panel, s->b + first, s->columns, 1, s->depth, n, s->flip);
}

/* One size on one instruction set: B packed before, B packed on the way, and every kind of result. */
static void check(const rq_kernels *k, rq_threads *threads, int64_t rows, int64_t depth, int64_t columns, int pattern,
                  rq_rng *rng)
{
    const rq_gemm_isa *isa = &k->gemm;
    const uint8_t flip_a = rq_rng_below(rng, 2) ? 0x80 : 0, flip_b = rq_rng_below(rng, 2) ? 0x80 : 0;
    uint8_t *a = malloc((size_t)(rows * depth)), *b = malloc((size_t)(depth * columns));
    fill(a, (size_t)(rows * depth), pattern, rng);
    fill(b, (size_t)(depth * columns), pattern == ALL_LOW ? ALL_HIGH : pattern, rng);
    void *pa = aligned_alloc(64, (rq_gemm_a_bytes(isa, rows, depth) + 63) & ~(size_t)63);
    uint8_t *pb = malloc(rq_gemm_b_bytes(isa, depth, columns));
    int32_t *row_sum = malloc((size_t)rows * 4), *row_zero = malloc((size_t)rows * 4),
            *row_add = malloc((size_t)rows * 4), *col_zero = malloc((size_t)columns * 4),
            *col_add = malloc((size_t)columns * 4);
    float *row_m = malloc((size_t)rows * 4), *col_m = malloc((size_t)columns * 4);
    rq_gemm_pack_a(isa, pa, a, depth, 1, rows, depth, flip_a, row_sum);
    rq_gemm_pack_b(isa, pb, b, columns, 1, depth, columns, flip_b);
    for (int64_t i = 0; i < rows; i++) {
        row_zero[i] = (int32_t)rq_rng_below(rng, 256) - 128;
        row_add[i] = (int32_t)rq_rng_u64(rng) >> 12;
        row_m[i] = (rq_rng_f32(rng) + 0.01f) * 1e-3f;
    }
    for (int64_t j = 0; j < columns; j++) {
        col_zero[j] = (int32_t)rq_rng_below(rng, 256);
        col_add[j] = (int32_t)rq_rng_u64(rng) >> 12;
        col_m[j] = (rq_rng_f32(rng) + 0.01f) * 1e-3f;
    }
    const size_t count = (size_t)(rows * columns);
    int32_t *y32 = malloc(count * 4);
    uint8_t *y8 = malloc(count);
    float *yf = malloc(count * 4);
    source src = { isa, b, depth, columns, flip_b };
    rq_gemm g = { .k = k, .rows = rows, .depth = depth, .columns = columns, .a = pa, .b = pb };

    g.out = (rq_gemm_out) { .kind = RQ_GEMM_S32, .y = y32, .ld = columns };
    rq_gemm_run(&g, threads);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            assert_int_equal(y32[i * columns + j], naive(a, b, i, j, depth, columns, flip_a, flip_b, 0, 0));

    /* a convolution: B on the way, everything per row; zero points of A cost the sums of B's columns */
    size_t bytes = rq_gemm_scratch(isa, depth, columns, rq_threads_count(threads));
    g.scratch = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    g.b = NULL;
    g.fill = fill_panel;
    g.fill_arg = &src;
    g.out = (rq_gemm_out) { .kind = RQ_GEMM_CODES,
                            .y = y8,
                            .ld = columns,
                            .row_add = row_add,
                            .row_zero = row_zero,
                            .row_m = row_m,
                            .zp = 3,
                            .lo = 0,
                            .hi = 255 };
    rq_gemm_run(&g, threads);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            int32_t s = naive(a, b, i, j, depth, columns, flip_a, flip_b, row_zero[i], 0);
            s = (int32_t)((uint32_t)s + (uint32_t)row_add[i]);
            assert_int_equal(y8[i * columns + j], rq_quantize_acc(s, row_m[i], 3, 0, 255));
        }
    free(g.scratch);

    /* a product with weights: everything per column; zero points of B cost the sums of A's rows */
    g.b = pb;
    g.out = (rq_gemm_out) { .kind = RQ_GEMM_CODES,
                            .y = y8,
                            .ld = columns,
                            .col_add = col_add,
                            .col_zero = col_zero,
                            .row_sum = row_sum,
                            .row_add = row_add,
                            .col_m = col_m,
                            .zp = -5,
                            .lo = -128,
                            .hi = 127 };
    rq_gemm_run(&g, threads);
    g.out.kind = RQ_GEMM_F32;
    g.out.y = yf;
    g.out.col_bias = col_m;
    rq_gemm_run(&g, threads);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            int32_t s = naive(a, b, i, j, depth, columns, flip_a, flip_b, 0, col_zero[j]);
            s = (int32_t)((uint32_t)s + (uint32_t)row_add[i] + (uint32_t)col_add[j]);
            assert_int_equal((int8_t)y8[i * columns + j], rq_quantize_acc(s, col_m[j], -5, -128, 127));
            float want = (float)s * col_m[j] + col_m[j];
            assert_memory_equal(&yf[i * columns + j], &want, sizeof want);
        }
    free(a), free(b), free(pa), free(pb), free(row_sum), free(row_zero), free(row_add), free(col_zero), free(col_add);
    free(row_m), free(col_m), free(y32), free(y8), free(yf);
}

static void products_are_the_definition_on_every_isa(void **state)
{
    (void)state;
    rq_threads *threads = NULL;
    assert_int_equal(rq_threads_create(&threads, 2), RQ_OK);
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags) {
            print_message("skip %s: not on this machine\n", rq_cpu_level(level, &flags));
            continue;
        }
        rq_kernels k;
        rq_kernels_init(&k, flags);
        rq_rng rng;
        rq_rng_seed(&rng, 7);
        for (int pattern = 0; pattern < N_PATTERNS; pattern++) {
            for (int64_t rows = 1; rows <= 17; rows++)
                for (int64_t depth = 1; depth <= 9; depth++)
                    check(&k, NULL, rows, depth, 1 + (int64_t)rq_rng_below(&rng, 60), pattern, &rng);
            for (int64_t columns = 1; columns <= 100; columns++)
                check(&k, threads, 1 + (int64_t)rq_rng_below(&rng, 9), 1 + (int64_t)rq_rng_below(&rng, 40), columns,
                      pattern, &rng);
        }
        check(&k, threads, 13, 70, 1000, NOISE, &rng); /* many panels; work worth two threads */
        check(&k, threads, 130, 300, 20, NOISE, &rng);
        for (int draw = 0; draw < 40; draw++) /* -128 * 255 * 70001 wraps: in the draws that flip neither side */
            check(&k, threads, 2, 70001, 2, ALL_LOW, &rng);
    }
    rq_threads_destroy(threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_the_definition_on_every_isa),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
