/* The quick forms of sums and products of codes (kernels/qeltwise.h): on every instruction set the definition's codes for all 65536 pairs, whatever the scales;
 * found where it should be, and not where it cannot be right. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels.h"

enum { PAIRS = 1 << 16, RANDOM = 40 };

/* A level's kernels, the definition beside them, and all pairs of codes. */
typedef struct bench {
    rq_kernels def, k;
    uint8_t a[PAIRS], b[PAIRS], want[PAIRS], got[PAIRS];
} bench;

static bench *make(void)
{
    bench *t = malloc(sizeof *t);
    assert_non_null(t);
    rq_kernels_init(&t->def, 0);
    for (int i = 0; i < PAIRS; i++) {
        t->a[i] = (uint8_t)(i / 256);
        t->b[i] = (uint8_t)i;
    }
    return t;
}

static bool has_level(bench *t, int level)
{
    unsigned flags = 0;
    if (!rq_cpu_level(level, &flags) || (rq_cpu_detect() & flags) != flags)
        return false;
    rq_kernels_init(&t->k, flags);
    return t->k.qadd != t->def.qadd;
}

/* The codes of p are those of the definition; is there a quick form? */
static bool check(bench *t, rq_qadd p)
{
    t->def.qadd(t->want, t->a, t->b, PAIRS, &p);
    rq_qadd_quicken(&t->k, &p);
    t->k.qadd(t->got, t->a, t->b, PAIRS, &p);
    assert_memory_equal(t->want, t->got, PAIRS);
    return rq_qadd_is_quick(&p);
}

static bool check_product(bench *t, rq_qmul p)
{
    t->def.qmul(t->want, t->a, t->b, PAIRS, &p);
    rq_qmul_quicken(&t->k, &p);
    t->k.qmul(t->got, t->a, t->b, PAIRS, &p);
    assert_memory_equal(t->want, t->got, PAIRS);
    return p.step > 0;
}

/* What Add makes of scales and zero points (ops/int_eltwise.c). */
static rq_qadd sum_of(float sa, float sb, float sc, int za, int zb, int zc)
{
    rq_qadd p = { .ra = sa / sc, .rb = sb / sc };
    p.k = (float)zc - fmaf(p.ra, (float)za, p.rb * (float)zb);
    return p;
}

#define FOR_LEVELS(t)                                                                                                  \
    unsigned flags;                                                                                                    \
    for (int level = 0; rq_cpu_level(level, &flags); level++)                                                          \
        if (has_level(t, level))

static void ties_and_simple_ratios(void **state)
{
    (void)state;
    bench *t = make();
    static const struct {
        float ra, rb;
        bool is_sure;
    } ratios[] = {
        { 1, 1, true },
        { 0.5f, 0.5f, true },
        { 0.25f, 0.5f, true },
        { 2, 0.5f, true },
        { 0.5f, 8, true },
        { 1.5f, 1, true },
        { 0.75f, 0.25f, true },
        { 1 / 3.f, 1, true },
        { 0.5f, 1 / 64.f, true },
        { 0.7f, 0.7f, false },           /* nearly ties, which the definition rounds now up, now down */
        { 0.1f, 0.3f, false },           /* the same */
        { 63, 0.5f, false },             /* with zero points, not always of 16 bits */
        { 1, 1e-6f, false },             /* b does not count */
        { 1 / 512.f, 1 / 512.f, false }, /* steps too small for what k has behind the point */
        { 1.0000153f, 1, false },        /* a ratio that 15 bits do not tell from 1 */
        { 1 + 0x1p-23f, 1, false },
    };
    static const int zero[] = { 0, 1, 127, 128, 255 };
    FOR_LEVELS(t)
    for (size_t r = 0; r < sizeof ratios / sizeof ratios[0]; r++)
        for (int z = (int)r % 7; z < 125; z += 7) {
            const bool found =
                check(t, sum_of(ratios[r].ra, ratios[r].rb, 1, zero[z % 5], zero[z / 5 % 5], zero[z / 25]));
            assert_true(found || !ratios[r].is_sure);
        }
    free(t);
}

static void random_scales(void **state)
{
    (void)state;
    bench *t = make();
    int found = 0, all = 0;
    FOR_LEVELS(t)
    {
        rq_rng rng;
        rq_rng_seed(&rng, 7);
        for (int i = 0; i < RANDOM; i++, all++) {
            const float sa = expf(4 * rq_rng_f32(&rng) - 3), sb = expf(4 * rq_rng_f32(&rng) - 3);
            const float sc = (sa + sb) * (0.3f + 0.7f * rq_rng_f32(&rng));
            const int zero = i % 4 == 0 ? 0 : 255;
            rq_qadd p = sum_of(sa, sb, sc, (int)(rq_rng_f32(&rng) * (float)zero), (int)(rq_rng_f32(&rng) * (float)zero),
                               (int)(rq_rng_f32(&rng) * (float)zero));
            p.flip_a = i & 1 ? 0x80 : 0;
            p.flip_b = i & 2 ? 0x80 : 0;
            p.flip_y = i & 4 ? 0x80 : 0;
            found += check(t, p);
        }
    }
    assert_true(found * 10 >=
                all * 8); /* the rest has sums so near to half a code that no other form rounds them alike */
    free(t);
}

/* Sums that a quick form would get wrong, or that it has no numbers for, are made by the definition. */
static void none_is_found(void **state)
{
    (void)state;
    bench *t = make();
    static const rq_qadd sums[] = {
        { .ra = 0, .rb = 1 },
        { .ra = 1, .rb = 0 },
        { .ra = -1, .rb = 1, .k = 100 },
        { .ra = NAN, .rb = 1 },
        { .ra = 1, .rb = INFINITY },
        { .ra = 1e30f, .rb = 1e30f, .k = -1e30f },
        { .ra = 1, .rb = 1, .k = NAN },
        { .ra = 1, .rb = 1, .k = -INFINITY },
        { .ra = 1, .rb = 1, .k = 40000 }, /* not of 16 bits, and back again */
        { .ra = 100, .rb = 100, .k = -255 },
        { .ra = 1e-30f, .rb = 1, .k = 3 },
    };
    FOR_LEVELS(t)
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++)
        assert_false(check(t, sums[i]));
    free(t);
}

/* A pair whose sum the definition rounds to exactly half a code, while it is in truth a little above it or below, as some pairs of these scales are. */
static void fallback_where_no_guess_holds(void **state)
{
    (void)state;
    bench *t = make();
    FOR_LEVELS(t)
    {
        int missed = 0;
        rq_rng rng;
        rq_rng_seed(&rng, 3);
        for (int i = 0; i < 400 && !missed; i++) {
            const float sa = 0.3f + rq_rng_f32(&rng), sb = 0.3f + rq_rng_f32(&rng);
            missed += !check(t, sum_of(sa, sb, 1, 0, i % 256, 0));
        }
        assert_true(missed);
    }
    free(t);
}

static void products(void **state)
{
    (void)state;
    bench *t = make();
    static const int zero[] = { 0, 1, 127, 128, 255 };
    static const rq_qmul none[] = { { .r = 0 },
                                    { .r = -0.01f },
                                    { .r = NAN },
                                    { .r = INFINITY },
                                    { .r = 0.7f },
                                    { .r = 1e30f },
                                    { .r = 0.01f, .zc = NAN },
                                    { .r = 0.01f, .zc = 0.5f } };
    int found = 0, all = 0;
    FOR_LEVELS(t)
    {
        rq_rng rng;
        rq_rng_seed(&rng, 11);
        for (int z = 0; z < 125; z++, all++) {
            const float r = z % 4 == 0 ? ldexpf(1, -1 - z / 4 % 12) * 0.5f : 0.02f * rq_rng_f32(&rng);
            found += check_product(t, (rq_qmul) { .za = zero[z % 5],
                                                  .zb = zero[z / 5 % 5],
                                                  .zc = (float)zero[z / 25],
                                                  .r = r,
                                                  .flip_a = z & 1 ? 0x80 : 0,
                                                  .flip_b = z & 2 ? 0x80 : 0,
                                                  .flip_y = z & 4 ? 0x80 : 0 });
        }
        for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
            assert_false(check_product(t, none[i]));
    }
    assert_true(found * 10 >= all * 8);
    free(t);
}

/* A product whose sum with the zero point is rounded twice, to another code than at once. */
static void products_without_a_quick_form(void **state)
{
    (void)state;
    bench *t = make();
    FOR_LEVELS(t)
    {
        int missed = 0;
        rq_rng rng;
        rq_rng_seed(&rng, 13);
        for (int i = 0; i < 1000 && !missed; i++)
            missed += !check_product(t, (rq_qmul) { .za = 128, .zb = 120, .zc = 250, .r = 0.02f * rq_rng_f32(&rng) });
        assert_true(missed);
    }
    free(t);
}

static void all_lengths(void **state)
{
    (void)state;
    bench *t = make();
    FOR_LEVELS(t)
    for (size_t n = 0; n < 200; n++) {
        rq_qadd p = sum_of(0.4f, 0.6f, 1, 3, 5, 7);
        p.flip_y = n % 2 ? 0x80 : 0;
        rq_qadd_quicken(&t->k, &p);
        assert_true(rq_qadd_is_quick(&p));
        uint8_t *a = malloc(n + 1), *b = malloc(n + 1), *y = malloc(n + 2), *want = malloc(n + 2);
        for (size_t i = 0; i < n; i++) {
            a[i + 1] = (uint8_t)(i * 37);
            b[i + 1] = (uint8_t)(i * 11 + n);
        }
        y[0] = want[0] = y[n + 1] = want[n + 1] = 77;
        t->def.qadd(want + 1, a + 1, b + 1, n, &p);
        t->k.qadd(y + 1, a + 1, b + 1, n, &p);
        assert_memory_equal(want, y, n + 2);
        rq_qmul product = { .za = 3, .zb = 250, .r = 0.0123f, .zc = 99, .flip_a = n % 2 ? 0x80 : 0 };
        rq_qmul_quicken(&t->k, &product);
        assert_true(product.step > 0);
        t->def.qmul(want + 1, a + 1, b + 1, n, &product);
        t->k.qmul(y + 1, a + 1, b + 1, n, &product);
        assert_memory_equal(want, y, n + 2);
        t->def.qadd(want + 1, a + 1, b + 1, n, &p);
        t->k.qadd(a + 1, a + 1, b + 1, n, &p); /* in place */
        assert_memory_equal(want + 1, a + 1, n);
        free(a), free(b), free(y), free(want);
    }
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ties_and_simple_ratios),
        cmocka_unit_test(random_scales),
        cmocka_unit_test(none_is_found),
        cmocka_unit_test(fallback_where_no_guess_holds),
        cmocka_unit_test(products),
        cmocka_unit_test(products_without_a_quick_form),
        cmocka_unit_test(all_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
