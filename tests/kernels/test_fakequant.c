/* Fake quantization, its gradients and codes: every instruction set gives the bits of the definition, whatever the rule, the
 * zero point, the length, and whether the result is streamed or written over an input; and a few numbers by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels.h"

enum { MOST = 200 };

/* Numbers where implementations part: ties, zeros, both sides of the ends, what no integer holds, every kind of NaN. */
static float odd_float(rq_rng *r, float step)
{
    static const uint32_t bits[] = {
        0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
        0x7fc00000, 0xffc00000, 0x7fc12345, 0xffd54321, 0x5f000000, 0xdf000000, 0x5effffff, 0x4b800000, 0xcb800001,
    };
    const uint64_t u = rq_rng_u64(r);
    uint32_t any = (uint32_t)(u >> 32);
    float f;
    switch (u % 4) {
    case 0: /* a multiple of half a step: ties, and the ends of the range */
        return (float)((int32_t)(u >> 8) % 600) * 0.5f * step;
    case 1:
        any = bits[(u >> 8) % (sizeof bits / sizeof bits[0])];
        break;
    case 2: /* near 2 */
        any = (any & 0x80ffffff) | 0x40000000;
        break;
    default: /* any bits at all */
        break;
    }
    memcpy(&f, &any, sizeof f);
    if (isnan(f)) { /* signalling ones become quiet or do not, as the compiler likes */
        any |= 0x00400000;
        memcpy(&f, &any, sizeof f);
    }
    return f;
}

typedef struct data {
    float x[MOST], dy[MOST], in[MOST], out[MOST], zp[MOST];
    uint8_t mask[MOST];
} data;

static void fill(data *d, rq_rng *r)
{
    for (int i = 0; i < MOST; i++) {
        d->in[i] = ldexpf(1 + (float)rq_rng_below(r, 4) / 4, (int)rq_rng_below(r, 6) - 3);
        d->out[i] = 1 / d->in[i];
        d->zp[i] = (float)rq_rng_below(r, 200) - 100;
        d->x[i] = odd_float(r, rq_rng_below(r, 2) ? d->out[i] : d->in[i]);
        d->dy[i] = odd_float(r, 1);
        d->mask[i] = (uint8_t)(rq_rng_below(r, 3) ? rq_rng_below(r, 2) : rq_rng_below(r, 256));
    }
}

/* Variant v of the parameters. */
static rq_fakequant variant(const data *d, unsigned v, int range)
{
    static const float ends[][2] = { { -128, 127 }, { 0, 255 }, { -127, 127 }, { -8, 7 }, { -32768, 32767 } };
    rq_fakequant p = { .in = d->in[0], .out = d->out[0], .inside = -0.0f, .after = -0.0f, .back = -0.0f };
    p.lo = ends[range][0];
    p.hi = ends[range][1];
    p.divide = v & 1;
    p.undivide = v & 2;
    p.compat = v & 4;
    p.wide = v & 8;
    p.zp_inside = v & 16;
    p.stream = v & 32;
    p.relu = v & 256;
    if (v & 64) { /* a zero point; otherwise zeros keep their sign */
        p.inside = p.zp_inside ? d->zp[0] : -0.0f;
        p.after = p.zp_inside ? -0.0f : d->zp[0];
        p.back = -d->zp[0];
    }
    if (v & 128) {
        p.in_row = d->in;
        p.out_row = d->out;
        p.zp_row = v & 64 ? d->zp : NULL;
    }
    return p;
}

/* n elements from `at` on, so that vectors are not aligned; exact sizes, so that a sanitizer guards the ends. */
static void compare(const rq_kernels *ref, const rq_kernels *opt, const data *d, const rq_fakequant *p, size_t n,
                    size_t at)
{
    const size_t bytes = n * sizeof(float);
    const float *x = d->x, *dy = d->dy;
    float *store[2] = { malloc(bytes + at * sizeof(float)), malloc(bytes + at * sizeof(float)) };
    uint8_t *mask[2] = { malloc(n + at), malloc(n + at) };
    const rq_kernels *k[2] = { ref, opt };
    float *y[2] = { store[0] + at, store[1] + at };
    for (int with_mask = 0; with_mask < 2; with_mask++)
        for (int in_place = 0; in_place < 2; in_place++) {
            for (int i = 0; i < 2; i++) {
                memset(mask[i], 9, n + at);
                memcpy(y[i], x, bytes);
                k[i]->fakequant(y[i], with_mask ? mask[i] + at : NULL, in_place ? y[i] : x, n, p);
            }
            assert_memory_equal(y[0], y[1], bytes);
            assert_memory_equal(mask[0], mask[1], n + at);
        }
    for (int in_place = 0; in_place < 3; in_place++) {
        for (int i = 0; i < 2; i++) {
            memcpy(y[i], in_place == 1 ? x : dy, bytes);
            k[i]->fakequant_grad(y[i], in_place == 2 ? y[i] : dy, in_place == 1 ? y[i] : x, n, p);
        }
        assert_memory_equal(y[0], y[1], bytes);
    }
    for (int i = 0; i < 2; i++)
        k[i]->fakequant_mask_grad(y[i], dy, d->mask, n, p->stream);
    assert_memory_equal(y[0], y[1], bytes);
    for (int i = 0; i < 2; i++)
        k[i]->fakequant_relu_grad(y[i], dy, d->mask, n);
    assert_memory_equal(y[0], y[1], bytes);
    if (p->hi - p->lo <= 255) {
        for (int i = 0; i < 2; i++)
            k[i]->fakequant_codes(mask[i] + at, x, n, p);
        assert_memory_equal(mask[0] + at, mask[1] + at, n);
    }
    k[1]->stream_end();
    free(store[0]), free(store[1]), free(mask[0]), free(mask[1]);
}

static void every_isa_gives_the_same_bits(void **state)
{
    (void)state;
    rq_kernels ref, opt;
    rq_kernels_init(&ref, 0);
    unsigned flags;
    for (int level = 1; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags) {
            print_message("%s: not on this machine\n", rq_cpu_level(level, &flags));
            continue;
        }
        rq_kernels_init(&opt, flags);
        rq_rng r;
        rq_rng_seed(&r, 5);
        data d;
        for (unsigned v = 0; v < 512; v++)
            for (size_t n = 0; n <= 100; n += 1 + (v + n) % 3) {
                fill(&d, &r);
                const rq_fakequant p = variant(&d, v, (int)rq_rng_below(&r, 5));
                compare(&ref, &opt, &d, &p, n, rq_rng_below(&r, 20));
            }
    }
}

/* Behind a rectifier: what the two do one after the other, forward and backward. */
static void a_rectifier_before_it_is_part_of_it(void **state)
{
    (void)state;
    rq_kernels k;
    rq_kernels_init(&k, 0);
    rq_rng r;
    rq_rng_seed(&r, 8);
    data d;
    for (unsigned v = 256; v < 512; v++) {
        enum { N = 60 };
        float x[N], y[N], want[N], dx[N], dwant[N];
        uint8_t mask[N], inside[N];
        fill(&d, &r);
        const rq_fakequant p = variant(&d, v, (int)rq_rng_below(&r, 5));
        rq_fakequant plain = p;
        plain.relu = false;
        k.fakequant(y, mask, d.x, N, &p);
        k.map[RQ_MAP_RELU](x, d.x, N, 0, 0);
        k.fakequant(want, inside, x, N, &plain);
        assert_memory_equal(y, want, sizeof y);
        k.fakequant_relu_grad(dx, d.dy, mask, N);
        k.fakequant_mask_grad(dwant, d.dy, inside, N, false);
        for (int i = 0; i < N; i++)
            dwant[i] = x[i] <= 0 ? 0 : dwant[i];
        assert_memory_equal(dx, dwant, sizeof dx);
    }
}

static void every_isa_sums_the_same_gradients(void **state)
{
    (void)state;
    rq_kernels k[2];
    rq_kernels_init(&k[0], 0);
    unsigned flags;
    for (int level = 1; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        rq_kernels_init(&k[1], flags);
        rq_rng r;
        rq_rng_seed(&r, 6);
        data d;
        for (int form = 0; form < 3; form++)
            for (size_t n = 0; n <= 150; n++) {
                fill(&d, &r);
                const rq_learned_row row = { .form = (rq_learned_form)form,
                                             .scale = d.out[0],
                                             .inv = d.in[0],
                                             .zero_point = (float)rq_rng_below(&r, 5),
                                             .lo = -8,
                                             .hi = 7 };
                rq_learned_sums sums[2];
                memset(sums, 0, sizeof sums);
                float *dx[2] = { malloc(n * sizeof(float)), malloc(n * sizeof(float)) };
                for (int i = 0; i < 2; i++)
                    k[i].learned_grad(dx[i], &sums[i], d.dy, d.x, n, n % 16, &row);
                assert_memory_equal(dx[0], dx[1], n * sizeof(float));
                for (int i = 0; i < RQ_LEARNED_LANES; i++) { /* of two NaN, either may be the sum */
                    const double a = sums[0].dscale[i], b = sums[1].dscale[i];
                    assert_true(a == b || (isnan(a) && isnan(b)));
                    const double c = sums[0].dzero_point[i], e = sums[1].dzero_point[i];
                    assert_true(c == e || (isnan(c) && isnan(e)));
                }
                free(dx[0]), free(dx[1]);
            }
    }
}

static void known_answers(void **state)
{
    (void)state;
    static const struct {
        float x, y, y_compat;
        int passes, code;
    } cases[] = {
        /* scale 0.5, zero point 3, codes -8..7: reals -5.5..2 */
        { 0.25f, 0, 0, 1, 3 },       { 0.75f, 1, 1, 1, 5 },         { 2, 2, 2, 1, 7 },
        { 2.25f, 2, 2, 1, 7 },       { 2.5f, 2, 2, 0, 7 },          { -5.5f, -5.5f, -5.5f, 1, -8 },
        { -6, -5.5f, -5.5f, 0, -8 }, { INFINITY, 2, -5.5f, 0, 99 }, { -INFINITY, -5.5f, -5.5f, 0, -8 },
        { 1e30f, 2, -5.5f, 0, 99 },  { NAN, NAN, -5.5f, 0, -8 },
    };
    const rq_fakequant per_tensor = {
        .in = 2, .out = 0.5f, .inside = -0.0f, .after = 3, .back = -3, .lo = -8, .hi = 7
    };
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        rq_kernels k;
        rq_kernels_init(&k, flags);
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
            for (int compat = 0; compat < 2; compat++) {
                float x[19], y[19], dy[19], dx[19];
                uint8_t mask[19], code[19];
                for (int i = 0; i < 19; i++) {
                    x[i] = cases[c].x;
                    dy[i] = 5;
                }
                rq_fakequant p = per_tensor;
                p.compat = compat;
                k.fakequant(y, mask, x, 19, &p);
                k.fakequant_grad(dx, dy, x, 19, &p);
                k.fakequant_codes(code, x, 19, &p);
                const float want = compat ? cases[c].y_compat : cases[c].y;
                const int saturated = compat ? -8 : 7;
                for (int i = 0; i < 19; i++) {
                    assert_true(y[i] == want || (isnan(y[i]) && isnan(want)));
                    assert_int_equal(mask[i], cases[c].passes);
                    assert_true(dx[i] == (cases[c].passes ? 5.0f : 0.0f));
                    assert_int_equal((int8_t)code[i], cases[c].code == 99 ? saturated : cases[c].code);
                }
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(every_isa_gives_the_same_bits),
        cmocka_unit_test(a_rectifier_before_it_is_part_of_it),
        cmocka_unit_test(every_isa_sums_the_same_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
