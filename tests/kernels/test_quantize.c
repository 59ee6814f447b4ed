/* Reals to codes and back on every instruction set against numbers worked out by hand from the rules
 * (docs/onnx-facts.md 2.2 to 2.4), and against each other bit for bit: ties, NaN, infinities, odd scales, every length
 * up to some vectors. */
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
#include "kernels/quantize.h"
#include "tensor/convert.h"

static void known_answers(void **state)
{
    (void)state;
    static const struct {
        float x, scale;
        int32_t zp, u8, s8;
    } cases[] = {
        { 0.5f, 1, 3, 3, 3 }, /* ties go to even before the zero point is added */
        { 1.5f, 1, 3, 5, 5 },         { 2.5f, 1, 3, 5, 5 },
        { -0.5f, 1, 3, 3, 3 },        { -1.5f, 1, 3, 1, 1 },
        { 1e20f, 1, 3, 255, 127 },    { -1e20f, 1, 3, 0, -128 },
        { INFINITY, 1, 3, 255, 127 }, { -INFINITY, 1, 3, 0, -128 },
        { NAN, 1, 3, 0, -128 },       { 0, 0, 3, 0, -128 }, /* 0 / 0 */
        { 1, 0, 3, 255, 127 },        { -1, 0, 3, 0, -128 },
        { 1, INFINITY, 3, 3, 3 },     { INFINITY, INFINITY, 3, 0, -128 },
        { 1, NAN, 3, 0, -128 },       { 1, -0.5f, 3, 1, 1 },
        { 1e-40f, 1e-40f, 3, 4, 4 },  { 0.3f, 0.1f, 0, 3, 3 },
    };
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        rq_kernels k;
        rq_kernels_init(&k, flags);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            float x[17];
            uint8_t u8[17];
            int8_t s8[17];
            uint16_t u16[17];
            int16_t s16[17];
            for (int j = 0; j < 17; j++)
                x[j] = cases[i].x;
            k.quantize_u8(u8, x, 17, cases[i].scale, cases[i].zp, 0, 255);
            k.quantize_s8(s8, x, 17, cases[i].scale, cases[i].zp, -128, 127);
            k.quantize_u16(u16, x, 17, cases[i].scale, cases[i].zp, 0, 255);
            k.quantize_s16(s16, x, 17, cases[i].scale, cases[i].zp, -128, 127);
            for (int j = 0; j < 17; j++) {
                assert_int_equal(u8[j], cases[i].u8);
                assert_int_equal(s8[j], cases[i].s8);
                assert_int_equal(u16[j], cases[i].u8);
                assert_int_equal(s16[j], cases[i].s8);
            }
        }
    }
    assert_int_equal(rq_quantize_zp_inside(2.5f, 0, 255), 2); /* 0.5 + 2 */
    assert_int_equal(rq_quantize_real(0.5f, 3, 0, 255), 3);
    assert_int_equal(rq_quantize_zp_inside(0.5f + 3, 0, 255), 4);
    assert_int_equal(rq_quantize_bias(1e10f, 1, 1), INT32_MAX);
    assert_int_equal(rq_quantize_bias(-1e10f, 1, 1), INT32_MIN);
    assert_int_equal(rq_quantize_bias_f32(NAN, 1, 1), INT32_MIN);
    assert_int_equal(rq_quantize_acc(16777217, 1, 0, -128, 127), 127);
    const float real = rq_dequantize_one(16777217, 0.1f, 0);
    assert_true(real == 1677721.625f); /* the code is rounded to f32 first */
}

/* Every bit pattern class of a float: normal, subnormal, infinite, NaN, and values around ties. */
static float odd_float(rq_rng *rng)
{
    const uint64_t r = rq_rng_u64(rng);
    if (r % 4 == 0)
        return (float)((int32_t)(r >> 8) % 600) / 2;
    uint32_t bits = (uint32_t)(r >> 32);
    if (r % 4 == 1)
        bits = (bits & 0x80ffffff) | 0x40000000;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void every_isa_gives_the_same_bits(void **state)
{
    (void)state;
    rq_kernels ref;
    rq_kernels_init(&ref, 0);
    unsigned flags;
    for (int level = 1; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        rq_kernels k;
        rq_kernels_init(&k, flags);
        rq_rng rng;
        rq_rng_seed(&rng, 11);
        for (size_t n = 0; n <= 150; n++) {
            /* exact sizes: a sanitizer guards the ends */
            float *x = malloc(n * sizeof *x), *m = malloc(n * sizeof *m), *f = malloc(n * sizeof *f),
                  *f2 = malloc(n * sizeof *f2);
            int32_t *acc = malloc(n * sizeof *acc), *add = malloc(n * sizeof *add);
            uint8_t *a = malloc(n), *b = malloc(n), *y = malloc(n), *y2 = malloc(n), table[256];
            for (size_t i = 0; i < n; i++) {
                x[i] = odd_float(&rng);
                m[i] = (float)(1 + rq_rng_below(&rng, 64)) / 1024; /* many ties */
                acc[i] = (int32_t)rq_rng_u64(&rng) >> rq_rng_below(&rng, 32);
                add[i] = (int32_t)rq_rng_u64(&rng) >> rq_rng_below(&rng, 32);
                a[i] = (uint8_t)rq_rng_u64(&rng);
                b[i] = (uint8_t)rq_rng_u64(&rng);
            }
            for (int i = 0; i < 256; i++)
                table[i] = (uint8_t)rq_rng_u64(&rng);
            const float scale = n % 3 ? 0.5f : odd_float(&rng);
            const int32_t zp = (int32_t)rq_rng_below(&rng, 256);
#define SAME(call)                                                                                                     \
    do {                                                                                                               \
        memset(y, 1, n), memset(y2, 1, n);                                                                             \
        rq_kernels *t = &ref;                                                                                          \
        uint8_t *out = y;                                                                                              \
        call;                                                                                                          \
        t = &k, out = y2;                                                                                              \
        call;                                                                                                          \
        assert_memory_equal(y, y2, n);                                                                                 \
    } while (0)
            SAME(t->quantize_u8(out, x, n, scale, zp, 0, 255));
            SAME(t->quantize_s8((int8_t *)out, x, n, scale, zp - 128, -128, 127));
            SAME(t->quantize_s8((int8_t *)out, x, n, scale, 0, -8, 7));
            SAME(t->requantize_tile(out, n, acc, n, 1, n, add, m, zp, 0, 255));
            SAME(t->requantize_tile(out, n, acc, n, 1, n, NULL, m, zp - 128, -128, 127));
            for (size_t rows = 2; rows <= 5 && rows <= n; rows++)
                SAME(t->requantize_tile(out, n / rows, acc, n / rows, rows, n / rows, rows % 2 ? add : NULL, m,
                                        zp - 128, -128, 127));
            SAME(t->lut8(out, a, n, table));
            rq_norm8 norm = { .flip = (uint8_t)(n % 3 == 0 ? 0x80 : 0),
                              .whole = zp,
                              .inv = odd_float(&rng),
                              .rest = n % 4 ? odd_float(&rng) : 0,
                              .gain = n % 5 ? x : NULL,
                              .bias = n % 7 ? m : NULL,
                              .scale = scale,
                              .zp = zp,
                              .lo = 0,
                              .hi = 255 };
            SAME(t->norm8(out, a, n, &norm));
            norm.zp = zp - 128, norm.lo = -128, norm.hi = 127;
            SAME(t->norm8(out, a, n, &norm));
            SAME((memcpy(out, a, n), t->norm8(out, out, n, &norm)));
            for (int corner = 0; corner < 3; corner++) {
                memset(b, corner ? 255 : 128, corner < 2 ? n : 0);
                uint32_t s, q, s2, q2;
                ref.sums8(&s, &q, b, n, norm.flip);
                k.sums8(&s2, &q2, b, n, norm.flip);
                assert_true(s == s2 && q == q2);
            }
            for (size_t i = 0; i < n; i++)
                add[i] = rq_rng_below(&rng, 2) ? acc[i] : add[i];
            SAME(t->equal_s32(out, acc, 1, add, 1, n));
            if (n) {
                SAME(t->equal_s32(out, acc, 0, add, 1, n));
                SAME(t->equal_s32(out, acc, 1, add, 0, n));
            }
            rq_lut8_f32 *reals = malloc(sizeof *reals);
            for (int i = 0; i < 256; i++)
                reals->value[i] = odd_float(&rng);
            rq_lut8_f32_split(reals);
            ref.lut8_f32(f, a, n, reals);
            k.lut8_f32(f2, a, n, reals);
            assert_memory_equal(f, f2, n * sizeof *f);
            free(reals);
            int32_t sums[2][3];
            for (size_t rows = 1; rows <= 3 && rows <= n; rows++) {
                ref.row_sums(sums[0], a, n / rows, rows, n / rows);
                k.row_sums(sums[1], a, n / rows, rows, n / rows);
                assert_memory_equal(sums[0], sums[1], rows * sizeof **sums);
            }
            const rq_qadd sum = { .ra = 0.25f, .rb = 0.5f, .k = 3, .flip_a = (uint8_t)(n % 2 * 128), .flip_y = 0x80 };
            SAME(t->qadd(out, a, b, n, &sum));
            SAME(t->qadd_one(out, a, n, &sum));
            const rq_qmul product = { .za = zp, .zb = 255 - zp, .r = 1.0f / 64, .zc = 7, .flip_b = 0x80 };
            SAME(t->qmul(out, a, b, n, &product));
            double *wide_x = malloc(n * sizeof *wide_x);
            for (size_t i = 0; i < n; i++)
                wide_x[i] = (double)x[i];
            SAME(t->quantize_quotients(out, wide_x, n, 3, 1, zp, 0, 255));
            SAME(t->quantize_quotients(out, wide_x, n, 0.5, scale, zp - 128, -128, 127));
            free(wide_x);
#undef SAME
            ref.dequantize_u8(f, a, n, scale, zp);
            k.dequantize_u8(f2, a, n, scale, zp);
            for (size_t i = 0; i < n; i++)
                assert_true(f[i] == f2[i] || (isnan(f[i]) && isnan(f2[i])));
            ref.dequantize_s8(f, (int8_t *)a, n, scale, zp);
            k.dequantize_s8(f2, (int8_t *)a, n, scale, zp);
            for (size_t i = 0; i < n; i++)
                assert_true(f[i] == f2[i] || (isnan(f[i]) && isnan(f2[i])));
            uint16_t *w = malloc(n * sizeof *w), *w2 = malloc(n * sizeof *w2);
            const int32_t wide = (int32_t)rq_rng_below(&rng, 65536);
            ref.quantize_u16(w, x, n, scale, wide, 0, 65535);
            k.quantize_u16(w2, x, n, scale, wide, 0, 65535);
            assert_memory_equal(w, w2, n * sizeof *w);
            ref.dequantize_u16(f, w, n, scale, wide);
            k.dequantize_u16(f2, w, n, scale, wide);
            for (size_t i = 0; i < n; i++)
                assert_true(f[i] == f2[i] || (isnan(f[i]) && isnan(f2[i])));
            ref.quantize_s16((int16_t *)w, x, n, scale, wide - 32768, -32768, 32767);
            k.quantize_s16((int16_t *)w2, x, n, scale, wide - 32768, -32768, 32767);
            assert_memory_equal(w, w2, n * sizeof *w);
            ref.dequantize_s16(f, (int16_t *)w, n, scale, wide - 32768);
            k.dequantize_s16(f2, (int16_t *)w, n, scale, wide - 32768);
            for (size_t i = 0; i < n; i++)
                assert_true(f[i] == f2[i] || (isnan(f[i]) && isnan(f2[i])));
            free(w), free(w2);
            free(x), free(m), free(f), free(f2), free(acc), free(add), free(a), free(b), free(y), free(y2);
        }
    }
}

/* One of the patterns where narrow lanes, signs and saturation break. */
static uint8_t corner_code(int pattern, size_t i)
{
    static const uint8_t at[][2] = { { 0, 0 }, { 0x80, 0x80 }, { 0xff, 0xff }, { 0, 0xff }, { 0x7f, 0x80 } };
    return at[pattern][i % 2];
}

static int32_t corner_sum(int pattern, size_t i)
{
    static const int32_t at[][2] = { { 0, 0 },
                                     { INT32_MIN, INT32_MIN },
                                     { INT32_MAX, INT32_MAX },
                                     { INT32_MIN, INT32_MAX },
                                     { -(1 << 24) - 1, (1 << 24) + 1 } };
    return at[pattern][i % 2];
}

enum { N_CORNERS = 5 };

static void check_corner_codes(const rq_kernels *ref, const rq_kernels *k, size_t n, int pa, int pb)
{
    static const float ratios[] = { 0, 0.5f, 1, 1e30f, -0.25f };
    static const float plus[] = { 0, 2.5f, -1e30f, NAN, INFINITY };
    uint8_t *a = malloc(n), *b = malloc(n), *y = malloc(n), *y2 = malloc(n);
    for (size_t i = 0; i < n; i++) {
        a[i] = corner_code(pa, i);
        b[i] = corner_code(pb, i);
    }
    for (size_t t = 0; t < 5; t++) {
        const uint8_t flip = t % 2 ? 0x80 : 0;
        const rq_qadd sum = { .ra = ratios[(t + n) % 5],
                              .rb = ratios[t],
                              .k = plus[(t * 2 + n) % 5],
                              .flip_a = flip,
                              .flip_b = 0x80,
                              .flip_y = (uint8_t)(flip ^ 0x80) };
        const rq_qmul product = {
            .za = t % 3 ? 255 : 0, .zb = t % 2 ? 255 : 0, .r = ratios[t], .zc = plus[t], .flip_a = flip
        };
        ref->qadd(y, a, b, n, &sum), k->qadd(y2, a, b, n, &sum);
        assert_memory_equal(y, y2, n);
        ref->qadd_one(y, a, n, &sum), k->qadd_one(y2, a, n, &sum);
        assert_memory_equal(y, y2, n);
        ref->qmul(y, a, b, n, &product), k->qmul(y2, a, b, n, &product);
        assert_memory_equal(y, y2, n);
    }
    free(a), free(b), free(y), free(y2);
}

static void check_corner_sums(const rq_kernels *ref, const rq_kernels *k, size_t n, int ps, int pa)
{
    static const float multipliers[] = { 0, 1e-9f, 1, 1e30f, NAN, -1e-8f };
    int32_t *acc = malloc(n * sizeof *acc), *add = malloc(n * sizeof *add);
    float *m = malloc(n * sizeof *m);
    uint8_t *y = malloc(n), *y2 = malloc(n);
    for (size_t i = 0; i < n; i++) {
        acc[i] = corner_sum(ps, i);
        add[i] = corner_sum(pa, i);
        m[i] = multipliers[(i / 2 + n) % 6];
    }
    static const struct {
        int32_t zp, lo, hi;
    } range[] = { { 0, 0, 255 }, { 255, 0, 255 }, { -128, -128, 127 }, { 127, -128, 127 }, { 3, 3, 100 } };
    for (size_t r = 0; r < 5; r++) {
        const int32_t zp = range[r].zp, lo = range[r].lo, hi = range[r].hi;
        const int32_t *some = r % 2 ? add : NULL;
        ref->requantize_tile(y, n, acc, n, 1, n, some, m, zp, lo, hi),
            k->requantize_tile(y2, n, acc, n, 1, n, some, m, zp, lo, hi);
        assert_memory_equal(y, y2, n);
    }
    free(acc), free(add), free(m), free(y), free(y2);
}

static void corners_on_every_isa(void **state)
{
    (void)state;
    rq_kernels ref;
    rq_kernels_init(&ref, 0);
    unsigned flags;
    for (int level = 1; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags) {
            print_message("%s: not on this machine\n", rq_cpu_level(level, &flags));
            continue;
        }
        rq_kernels k;
        rq_kernels_init(&k, flags);
        for (size_t n = 1; n <= 140; n++)
            for (int p = 0; p < N_CORNERS; p++)
                for (int q = 0; q < N_CORNERS; q++) {
                    check_corner_codes(&ref, &k, n, p, q);
                    check_corner_sums(&ref, &k, n, p, q);
                }
    }
}

/* Every finite fp16 number by scales of fp16, against arithmetic that rounds to fp16 after the division. */
static void fp16_on_every_isa(void **state)
{
    (void)state;
    static uint16_t x[65536];
    static uint8_t y[65536];
    static const uint16_t scales[] = { 0x2008, 0x1a73, 0x3c00, 0x2e66, 0x0001, 0x03ff, 0x7bff, 0x1401, 0x2a39 };
    unsigned flags;
    int n = 0;
    for (int i = 0; i < 65536; i++)
        if ((i & 0x7c00) != 0x7c00)
            x[n++] = (uint16_t)i;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        rq_kernels k;
        rq_kernels_init(&k, flags);
        for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
            const float scale = rq_convert_f16_to_f32(scales[s]);
            const int32_t zp = (int32_t)s * 9 - 30;
            k.quantize_half(y, x, (size_t)n, scale, zp, -128, 127);
            for (int i = 0; i < n; i++) {
                const float v = rq_convert_f16_to_f32(rq_convert_f32_to_f16(rq_convert_f16_to_f32(x[i]) / scale));
                assert_int_equal((int8_t)y[i], rq_quantize_real(v, zp, -128, 127));
            }
        }
    }
}

/* Every fp16 number, and floats of every kind, those halfway between two of fp16 and their neighbours among them. */
static void halves_on_every_isa(void **state)
{
    (void)state;
    enum { N = 65536 };
    uint16_t *h = malloc(N * sizeof *h), *back = malloc(N * sizeof *back), *want = malloc(N * sizeof *want);
    float *f = malloc(N * sizeof *f), *ref = malloc(N * sizeof *ref);
    rq_rng rng;
    rq_rng_seed(&rng, 5);
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        rq_kernels k;
        rq_kernels_init(&k, flags);
        for (int i = 0; i < N; i++) {
            h[i] = (uint16_t)i;
            ref[i] = rq_convert_f16_to_f32((uint16_t)i);
        }
        k.half_to_float(f, h, N);
        assert_memory_equal(f, ref, N * sizeof *f);
        for (int turn = 0; turn < 4; turn++) {
            for (int i = 0; i < N; i++) {
                uint32_t bits;
                memcpy(&bits, &ref[i], sizeof bits);
                bits = turn == 3 ? (uint32_t)rq_rng_u64(&rng) : bits + 0x1000 + (uint32_t)turn - 1;
                memcpy(&f[i], &bits, sizeof bits);
                want[i] = rq_convert_f32_to_f16(f[i]);
            }
            k.half_from_float(back, f, N);
            assert_memory_equal(back, want, N * sizeof *back);
        }
        for (size_t n = 0; n < 40; n++) { /* exact sizes: a sanitizer guards the ends */
            uint16_t *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
            float *v = malloc(n * sizeof *v);
            memcpy(x, h + 0x3be0, n * sizeof *x);
            k.half_to_float(v, x, n);
            k.half_from_float(y, v, n);
            assert_memory_equal(x, y, n * sizeof *x);
            free(x), free(y), free(v);
        }
    }
    free(h), free(back), free(want), free(f), free(ref);
}

/* Blocks of every length around the width of registers, with every half at their ends; the definition, and that by floats. */
static void ends_of_halves_on_every_isa(void **state)
{
    (void)state;
    enum { LONGEST = 133, BLOCKS = 40 };
    rq_kernels ref, k;
    rq_kernels_init(&ref, 0);
    rq_rng rng;
    rq_rng_seed(&rng, 6);
    unsigned flags;
    for (size_t length = 1; length <= LONGEST; length++) {
        uint16_t *x = malloc(BLOCKS * length * sizeof *x); /* exact: a sanitizer guards the ends */
        for (size_t i = 0; i < BLOCKS * length; i++) {
            const uint16_t any = (uint16_t)rq_rng_u64(&rng);
            x[i] = i / length % 2 ? any : (uint16_t)(any & 0xbfff); /* NaN in half of the blocks at most */
        }
        uint16_t want[2][BLOCKS], got[2][BLOCKS];
        ref.half_minmax(want[0], want[1], x, BLOCKS, length);
        for (int b = 0; b < BLOCKS; b++) {
            float least = INFINITY, most = -INFINITY;
            bool number = true;
            for (size_t i = 0; i < length; i++) {
                const float v = rq_convert_f16_to_f32(x[(size_t)b * length + i]);
                number &= v == v;
                least = fminf(least, v);
                most = fmaxf(most, v);
            }
            const float lo = rq_convert_f16_to_f32(want[0][b]), hi = rq_convert_f16_to_f32(want[1][b]);
            assert_true(number ? lo == least && hi == most : isnan(lo) || isnan(hi));
        }
        for (int level = 0; rq_cpu_level(level, &flags); level++) {
            if ((rq_cpu_detect() & flags) != flags)
                continue;
            rq_kernels_init(&k, flags);
            k.half_minmax(got[0], got[1], x, BLOCKS, length);
            assert_memory_equal(got, want, sizeof got);
        }
        free(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),        cmocka_unit_test(every_isa_gives_the_same_bits),
        cmocka_unit_test(corners_on_every_isa), cmocka_unit_test(fp16_on_every_isa),
        cmocka_unit_test(halves_on_every_isa),  cmocka_unit_test(ends_of_halves_on_every_isa),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
