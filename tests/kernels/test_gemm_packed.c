/* tests/kernels/test_gemm_packed.c — products by a packed matrix, and what is done to the sums on their way: the chain that is promised, then each step
 * rounded by itself, bit for bit, on every instruction set, with one thread and with two; nothing is written beside the output. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"

enum { GAP = 3 }; /* elements behind each row of what is read and written */

typedef struct product {
    int64_t m, n, k;
    bool trans, biased, added, in_place, active;
    float alpha;
} product;

static float *noise(rq_rng *r, int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = rq_rng_f32(r) * 2 - 1;
    return x;
}

/* The definition. b is [n][k] where p->trans, else [k][n]; add has rows as far apart as y. */
static void define(const product *p, float *y, const float *a, const float *b, const float *bias, const float *add)
{
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            float v = 0;
            for (int64_t q = 0; q < p->k; q++)
                v = fmaf(a[i * (p->k + GAP) + q], p->trans ? b[j * p->k + q] : b[q * p->n + j], v);
            v *= p->alpha;
            v = p->biased ? v + bias[j] : v;
            v = p->added ? v + add[i * (p->n + GAP) + j] : v;
            y[i * (p->n + GAP) + j] = p->active && v < 0 ? 0.25f * v : v;
        }
}

static void check_level(const rq_kernels *k, const product *p, const float *a, const float *b, const float *bias,
                        const float *add, const float *before, const float *want, rq_threads *two)
{
    const size_t bytes = (size_t)(p->m * (p->n + GAP)) * sizeof(float);
    float *packed = rq_mem_alloc((size_t)rq_gemm_f32_packed_columns(k, p->n, p->k), sizeof *packed);
    float *y = malloc(bytes);
    rq_gemm_f32_pack_columns(k, packed, b, p->trans ? 1 : p->n, p->trans ? p->k : 1, p->n, p->k);
    for (int threads = 1; threads < 3; threads++) {
        const rq_gemm_f32_after after = { .alpha = p->alpha,
                                          .bias = p->biased ? bias : NULL,
                                          .add = !p->added     ? NULL
                                                 : p->in_place ? y
                                                               : add,
                                          .f = p->active ? k->map[RQ_MAP_LEAKY_RELU] : NULL,
                                          .p = 0.25f };
        const bool bare = p->alpha == 1 && !p->biased && !p->added && !p->active;
        memcpy(y, p->added && p->in_place ? add : before, bytes);
        if (p->in_place) /* the gaps are those of what was there */
            for (int64_t i = 0; i < p->m; i++)
                memcpy(y + i * (p->n + GAP) + p->n, before + i * (p->n + GAP) + p->n, GAP * sizeof *y);
        rq_gemm_f32_packed(k, y, p->n + GAP, a, p->k + GAP, packed, p->m, p->n, p->k, bare ? NULL : &after,
                           threads == 2 ? two : NULL);
        for (int64_t i = 0; i < p->m * (p->n + GAP); i++)
            if (memcmp(&y[i], &want[i], sizeof *y) != 0)
                fail_msg("%s, %d threads: %d x %d x %d, %d%d%d%d%d: [%d] is %a, not %a", k->isa, threads, (int)p->m,
                         (int)p->n, (int)p->k, p->trans, p->biased, p->added, p->in_place, p->active, (int)i, y[i],
                         want[i]);
    }
    rq_mem_free(packed);
    free(y);
}

static void check(const product *p, rq_rng *r, rq_threads *two)
{
    const int64_t all = p->m * (p->n + GAP);
    float *a = noise(r, p->m * (p->k + GAP)), *b = noise(r, p->k * p->n), *bias = noise(r, p->n);
    float *add = noise(r, all), *before = noise(r, all), *want = malloc((size_t)all * sizeof *want);
    unsigned flags;
    memcpy(want, before, (size_t)all * sizeof *want);
    define(p, want, a, b, bias, add);
    for (int i = 0; rq_cpu_level(i, &flags); i++) {
        rq_kernels k;
        if (flags & ~rq_cpu_detect())
            continue;
        rq_kernels_init(&k, flags);
        check_level(&k, p, a, b, bias, add, before, want, two);
    }
    free(a), free(b), free(bias), free(add), free(before), free(want);
}

static void packed_products_are_the_chains_they_promise(void **state)
{
    rq_rng r;
    rq_threads *two;
    (void)state;
    rq_rng_seed(&r, 11);
    assert_int_equal(rq_threads_create(&two, 2), RQ_OK);
    for (int n = 0; n < 200; n++) {
        const product p = { .m = 1 + (int64_t)rq_rng_below(&r, n % 4 ? 20 : 150),
                            .n = 1 + (int64_t)rq_rng_below(&r, n % 5 ? 60 : 250),
                            .k = 1 + (int64_t)rq_rng_below(&r, n % 7 ? 40 : 1200),
                            .trans = rq_rng_below(&r, 2),
                            .biased = rq_rng_below(&r, 2),
                            .added = rq_rng_below(&r, 2),
                            .in_place = rq_rng_below(&r, 2),
                            .active = rq_rng_below(&r, 2),
                            .alpha = rq_rng_below(&r, 4) ? 1 : 0.3f };
        check(&p, &r, two);
    }
    /* cut into items: many rows, many columns, one row */
    check(&(product) { .m = 300, .n = 200, .k = 130, .biased = true, .alpha = 1 }, &r, two);
    check(&(product) { .m = 1, .n = 3000, .k = 257, .trans = true, .biased = true, .alpha = 1 }, &r, two);
    rq_threads_destroy(two);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(packed_products_are_the_chains_they_promise) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
