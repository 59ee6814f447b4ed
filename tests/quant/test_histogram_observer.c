/* PyTorch's histogram observer: the tables of docs/torch-facts.md 4.5 (measured with PyTorch 1.13.1) and 4.6, what the two
 * versions do differently, and inputs on which they stumble. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "base/rng.h"
#include "quant/histogram.h"
#include "requant/observer.h"

/* ---- data, docs/torch-facts.md 4.5 ---- */

typedef struct batch {
    char
        kind; /* r: ramp from..to; g: twelve uniforms, scaled by `to`; p: that, negative ones 0; c: the constant `to` */
    int n;
    uint32_t seed;
    double from, to;
    float more; /* one element more, where not 0 */
} batch;

enum { MOST = 20001 };

static double uniform(uint32_t *t)
{
    *t = 1664525u * *t + 1013904223u;
    return (double)(*t >> 8) / 16777216;
}

static int fill(float *x, const batch *b)
{
    uint32_t t = b->seed;
    for (int i = 0; i < b->n; i++) {
        double sum = 0;
        if (b->kind == 'r')
            x[i] = (float)(b->from + (b->to - b->from) * i / (b->n - 1));
        if (b->kind == 'c')
            x[i] = (float)b->to;
        if (b->kind != 'g' && b->kind != 'p')
            continue;
        for (int k = 0; k < 12; k++)
            sum += uniform(&t);
        x[i] = (float)((sum - 6) * b->to);
        if (b->kind == 'p' && x[i] < 0)
            x[i] = 0;
    }
    if (b->more != 0)
        x[b->n] = b->more;
    return b->n + (b->more != 0);
}

static void the_generators_give_the_numbers_of_the_table(void **state)
{
    static const uint32_t want[] = { 0xbf8d833a, 0xbe7a9a04, 0x3e3350d4, 0x3f82e712 };
    float x[4];
    fill(x, &(batch) { 'g', 4, 1, 0, 1, 0 });
    assert_memory_equal(x, want, sizeof want);
}

/* ---- 4.5 and 4.6 ---- */

typedef struct row {
    const char *name;
    batch batch[2];
    int bins, upsample; /* 0: the version's */
    double mass;
    int a, b;
    float lo, hi;
    double error; /* 0: not in the table */
} row;

static const batch G1 = { 'g', 20000, 1, 0, 1, 0 };
#define RAMP(n, from, to)                                                                                              \
    {                                                                                                                  \
        'r', n, 0, from, to, 0                                                                                         \
    }

static const row torch_1[] = {
    { "H1", { RAMP(4096, 0, 8) }, 0, 0, 4096, 0, 2046, 0, 7.99609375f, .333465278 },
    { "H2", { RAMP(4096, -4, 4) }, 0, 0, 4096, 0, 2046, -4, 3.99609375f, 0 },
    { "H3", { { 'g', 20000, 1, 0, 1, 0 } }, 0, 0, 19959, 4, 2042, -3.64903045f, 3.65912342f, 1.35540335 },
    { "H5", { { 'g', 20000, 1, 0, .1, 0 } }, 0, 0, 20000, 0, 1960, -0.366336703f, 0.336521983f, 0 },
    { "H6", { { 'r', 4000, 0, 0, 1, 20 } }, 0, 0, 4001, 0, 2046, 0, 19.9902344f, 0 },
    { "H7",
      { { 'g', 5000, 1, 0, 1, 0 }, { 'g', 5000, 2, 0, 2, 0 } },
      0,
      0,
      9982,
      5,
      1960,
      -6.38230801f,
      6.66859007f,
      2.18083489 },
    { "H8", { RAMP(4096, -4, 4), RAMP(4096, -1, 1) }, 0, 0, 8192, 0, 2046, -4, 3.99609375f, 0 },
    { "H9", { RAMP(6601, -2.7, 3.9) }, 0, 0, 5001, 0, 2046, -2.70000005f, 3.89677787f, 0 },
    { "H11", { RAMP(64, 0, 16), RAMP(64, -8, 24) }, 16, 2, 128, 0, 14, -8, 22, 0 },
    { "H12", { { 'p', 20000, 3, 0, 3, 0 } }, 0, 0, 19999, 0, 1856, 0, 10.2672968f, 4.98908217 },
    { "H13", { { 'c', 100, 0, 0, 3, 0 } }, 0, 0, 100, 0, 2047, 3, 3, 0 },
    { "H14", { { 'c', 100, 0, 0, 3, 0 }, RAMP(1000, 0, 10) }, 0, 0, 1000, 0, 2046, 0, 9.99511719f, 0 },
};

static const row torch_2[] = {
    { "H3'", { { 'g', 20000, 1, 0, 1, 0 } }, 0, 0, 20000, 0, 1960, -3.66336727f, 3.36522007f, 0 },
    { "H7'",
      { { 'g', 5000, 1, 0, 1, 0 }, { 'g', 5000, 2, 0, 2, 0 } },
      0,
      0,
      10000,
      0,
      2046,
      -6.41566896f,
      7.21157312f,
      0 },
    { "H9'", { RAMP(6601, -2.7, 3.9) }, 0, 0, 6601, 0, 2046, -2.70000005f, 3.89677787f, 0 },
    { "H11'", { RAMP(64, 0, 16), RAMP(64, -8, 24) }, 16, 2, 128, 0, 14, -8, 22, 0 },
    { "H12'", { { 'p', 20000, 3, 0, 3, 0 } }, 0, 0, 20000, 0, 1938, 0, 10.7206726f, 0 },
};

static rq_kernels kernels(unsigned cpu)
{
    rq_kernels k;
    rq_kernels_init(&k, cpu);
    return k;
}

static double mass_of(const rq_histogram *h)
{
    double sum = 0;
    for (int i = 0; i < h->bins; i++)
        sum += (double)h->mass[i];
    return sum;
}

static void check_row(const row *r, rq_resample rule)
{
    const rq_kernels k = kernels(rq_cpu_detect());
    float *x = malloc(MOST * sizeof *x);
    rq_histogram h;
    assert_int_equal(rq_histogram_init_resampled(&h, r->bins ? r->bins : 2048,
                                                 r->upsample                   ? r->upsample
                                                 : rule == RQ_RESAMPLE_TORCH_1 ? 128
                                                                               : 16,
                                                 rule),
                     RQ_OK);
    for (int i = 0; i < 2 && r->batch[i].n; i++)
        assert_int_equal(rq_histogram_update(&h, &k, x, (size_t)fill(x, &r->batch[i])), RQ_OK);
    const rq_histogram_kept kept = rq_histogram_search(&h, 256);
    if (mass_of(&h) != r->mass || kept.a != r->a || kept.b != r->b || kept.lo != r->lo || kept.hi != r->hi ||
        (r->error != 0 && !(fabs(kept.error / r->error - 1) < 1e-8)))
        fail_msg("%s: mass %.9g, bins %d..%d, %.9g..%.9g, error %.9g", r->name, mass_of(&h), kept.a, kept.b,
                 (double)kept.lo, (double)kept.hi, kept.error);
    rq_histogram_release(&h);
    free(x);
}

static void the_table_of_pytorch_1(void **state)
{
    for (size_t i = 0; i < sizeof torch_1 / sizeof torch_1[0]; i++)
        check_row(&torch_1[i], RQ_RESAMPLE_TORCH_1);
}

static void the_table_of_pytorch_2(void **state)
{
    for (size_t i = 0; i < sizeof torch_2 / sizeof torch_2[0]; i++) {
        check_row(&torch_2[i], RQ_RESAMPLE_TORCH_2);
        check_row(&torch_2[i], RQ_RESAMPLE_OURS);
    }
}

/* H11: what was 0..16 is spread over -8..24, one old bin to half a new one. */
static void sixteen_bins_are_spread_as_the_table_says(void **state)
{
    static const float want[] = { 4, 4, 4, 4, 12, 12, 12, 12, 12, 12, 12, 12, 4, 4, 4, 4 };
    const rq_kernels k = kernels(0);
    for (int rule = 0; rule <= RQ_RESAMPLE_TORCH_1; rule++) {
        float x[64];
        rq_histogram h;
        assert_int_equal(rq_histogram_init_resampled(&h, 16, 2, (rq_resample)rule), RQ_OK);
        assert_int_equal(rq_histogram_update(&h, &k, x, (size_t)fill(x, &(batch)RAMP(64, 0, 16))), RQ_OK);
        assert_int_equal(rq_histogram_update(&h, &k, x, (size_t)fill(x, &(batch)RAMP(64, -8, 24))), RQ_OK);
        assert_memory_equal(h.mass, want, sizeof want);
        rq_histogram_release(&h);
    }
}

/* 100 times 3, then 1500 others: PyTorch 2 counts the 3 fifteen hundred times, PyTorch 1 forgets it. */
static void a_point_keeps_its_own_mass(void **state)
{
    const rq_kernels k = kernels(0);
    static const double want[] = { 1600, 3000, 1500 };
    float x[1500];
    for (int rule = 0; rule <= RQ_RESAMPLE_TORCH_1; rule++) {
        rq_histogram h;
        assert_int_equal(rq_histogram_init_resampled(&h, 2048, 16, (rq_resample)rule), RQ_OK);
        assert_int_equal(rq_histogram_update(&h, &k, x, (size_t)fill(x, &(batch) { 'c', 100, 0, 0, 3, 0 })), RQ_OK);
        assert_true(h.mass[1024] == 100 && h.lo == 3 && h.hi == 3);
        assert_int_equal(rq_histogram_update(&h, &k, x, (size_t)fill(x, &(batch)RAMP(1500, 0, 10))), RQ_OK);
        assert_true(mass_of(&h) == want[rule]);
        if (rule == RQ_RESAMPLE_OURS)
            assert_true(h.mass[614] >= 100); /* floor(3 * 2048 / 10) */
        rq_histogram_release(&h);
    }
}

/* ---- the error against the sum that defines it ---- */

/* Mean squares by integrating each bin cell by cell: the mass of a bin is uniform; the distance is to the nearest centre of a cell. */
static double by_definition(const rq_histogram *h, int levels, int a, int b)
{
    const double width = ((double)h->hi - h->lo) / h->bins, cell = width * (b - a + 1) / levels;
    double all = 0;
    for (int i = 0; i < h->bins; i++) {
        const double from = (i - a) * width, to = from + width;
        for (int c = 0; c < levels; c++) {
            const double left = c == 0 ? fmin(from, 0) : c * cell,
                         right = c == levels - 1 ? fmax(to, left) : (c + 1) * cell;
            const double u = fmax(from, left) - (c + .5) * cell, v = fmin(to, right) - (c + .5) * cell;
            if (v > u)
                all += (double)h->mass[i] / width * (v * v * v - u * u * u) / 3;
        }
    }
    return all;
}

static void the_error_is_the_sum_over_cells(void **state)
{
    const rq_kernels k = kernels(0);
    float *x = malloc(MOST * sizeof *x);
    static const int bins[] = { 16, 100, 257, 2048 }, levels[] = { 2, 16, 256 };
    for (int i = 0; i < 4; i++) {
        rq_histogram h;
        assert_int_equal(rq_histogram_init_resampled(&h, bins[i], 16, RQ_RESAMPLE_OURS), RQ_OK);
        assert_int_equal(rq_histogram_update(&h, &k, x, (size_t)fill(x, &G1)), RQ_OK);
        for (int l = 0; l < 3; l++)
            for (int t = 0; t < 5; t++) {
                const int a = t * bins[i] / 12, b = bins[i] - 1 - (t % 2) * bins[i] / 5;
                const double want = by_definition(&h, levels[l], a, b), got = rq_histogram_error(&h, levels[l], a, b);
                if (!(fabs(got - want) <= 1e-9 * want))
                    fail_msg("%d bins, %d levels, %d..%d: %.15g, by definition %.15g", bins[i], levels[l], a, b, got,
                             want);
            }
        rq_histogram_release(&h);
    }
    free(x);
}

/* ---- inputs on which the originals stumble ---- */

static void inputs_that_are_hard(void **state)
{
    const rq_kernels k = kernels(0);
    const float hard[][3] = { { 3e38f, -3e38f, 0 },    { 1e-44f, 0, 3e-45f },       { 1e10f, 1e10f, 1e10f },
                              { -0.0f, 0, -0.0f },     { 1e36f, -1e30f, 1e36f },    { 16777216, 16777218, 16777214 },
                              { 1, 1.0000001f, 1.0f }, { -3e38f, -2.9e38f, -3e38f } };
    for (int rule = 0; rule <= RQ_RESAMPLE_TORCH_1; rule++)
        for (size_t i = 0; i < sizeof hard / sizeof hard[0]; i++) {
            rq_histogram h;
            assert_int_equal(rq_histogram_init_resampled(&h, 64, 16, (rq_resample)rule), RQ_OK);
            for (size_t first = 0; first < 3; first++)
                assert_int_equal(rq_histogram_update(&h, &k, hard[i] + first, 3 - first), RQ_OK);
            const rq_histogram_kept kept = rq_histogram_search(&h, 256);
            if (!(kept.lo <= kept.hi && isfinite(kept.lo) && isfinite(kept.hi) && kept.lo >= h.lo && kept.hi <= h.hi))
                fail_msg("%zu, rule %d: %.9g..%.9g of %.9g..%.9g", i, rule, (double)kept.lo, (double)kept.hi,
                         (double)h.lo, (double)h.hi);
            if (rule == RQ_RESAMPLE_OURS && fabs(mass_of(&h) - 6) > 1e-5)
                fail_msg("%zu: mass %.9g of 6", i, mass_of(&h));
            rq_histogram_release(&h);
        }
}

static void what_is_not_finite_is_counted_and_left_out(void **state)
{
    const rq_kernels k = kernels(0);
    rq_histogram h;
    assert_int_equal(rq_histogram_init_resampled(&h, 64, 16, RQ_RESAMPLE_OURS), RQ_OK);
    const float odd[] = { NAN, INFINITY, -INFINITY }, x[] = { NAN, 1, INFINITY, 2, -INFINITY, 1.5f };
    assert_int_equal(rq_histogram_update(&h, &k, odd, 3), RQ_OK);
    assert_int_equal(rq_histogram_update(&h, &k, x, 0), RQ_OK);
    assert_true(h.lo > h.hi && h.bad == 3 && h.total == 0);
    rq_histogram_kept kept = rq_histogram_search(&h, 256);
    assert_true(kept.lo > kept.hi);
    assert_int_equal(rq_histogram_update(&h, &k, x, 6), RQ_OK);
    assert_true(h.lo == 1 && h.hi == 2 && h.bad == 6 && h.total == 3 && mass_of(&h) == 3);
    rq_histogram_reset(&h);
    assert_true(h.lo > h.hi && h.bad == 0 && h.total == 0 && mass_of(&h) == 0);
    assert_int_equal(rq_histogram_update(&h, &k, x + 1, 1), RQ_OK); /* one element */
    kept = rq_histogram_search(&h, 256);
    assert_true(kept.lo == 1 && kept.hi == 1);
    rq_histogram_release(&h);
}

static void bad_settings_and_failing_allocations(void **state)
{
    rq_histogram h;
    assert_int_equal(rq_histogram_init_resampled(&h, 0, 16, RQ_RESAMPLE_OURS), RQ_BAD_ARG);
    assert_int_equal(rq_histogram_init_resampled(&h, 65537, 16, RQ_RESAMPLE_OURS), RQ_BAD_ARG);
    assert_int_equal(rq_histogram_init_resampled(&h, 64, 0, RQ_RESAMPLE_OURS), RQ_BAD_ARG);
    for (size_t n = 1; n <= 2; n++) {
        const size_t live = rq_mem_live();
        rq_mem_fail_after(n, false);
        const rq_status got = rq_histogram_init_resampled(&h, 64, 16, RQ_RESAMPLE_OURS);
        rq_mem_fail_after(0, false);
        assert_int_equal(got, RQ_NO_MEMORY);
        assert_int_equal(rq_mem_live(), live);
    }
}

/* ---- as an observer ---- */

typedef struct code_row {
    const char *name;
    const row *of; /* whose data */
    bool torch_1, symmetric, reduced;
    rq_dtype dtype;
    uint32_t scale; /* its bits */
    int32_t zero_point;
} code_row;

static const code_row codes[] = {
    { "H1", &torch_1[0], true, false, false, RQ_DTYPE_U8, 0x3d007070, 0 },
    { "H2", &torch_1[1], true, false, false, RQ_DTYPE_U8, 0x3d007070, 128 },
    { "H3", &torch_1[2], true, false, false, RQ_DTYPE_U8, 0x3ceac72d, 127 },
    { "H4", &torch_1[2], true, true, false, RQ_DTYPE_S8, 0x3ceb1a2e, 0 },
    { "H5", &torch_1[3], true, false, false, RQ_DTYPE_U8, 0x3b34a32f, 133 },
    { "H6", &torch_1[4], true, false, false, RQ_DTYPE_U8, 0x3da08c8d, 0 },
    { "H7", &torch_1[5], true, false, false, RQ_DTYPE_U8, 0x3d51a21c, 125 },
    { "H8", &torch_1[6], true, false, false, RQ_DTYPE_U8, 0x3d007070, 128 },
    { "H9", &torch_1[7], true, false, false, RQ_DTYPE_U8, 0x3cd3ecbb, 104 },
    { "H10", &torch_1[2], true, false, true, RQ_DTYPE_U8, 0x3d6bb3ce, 63 },
    { "H11", &torch_1[8], true, false, false, RQ_DTYPE_U8, 0x3df0f0f1, 68 },
    { "H12", &torch_1[9], true, false, false, RQ_DTYPE_U8, 0x3d24ebc5, 0 },
    { "H13", &torch_1[10], true, false, false, RQ_DTYPE_U8, 0x3c40c0c1, 0 },
    { "H3'", &torch_2[0], false, false, false, RQ_DTYPE_U8, 0x3ce1cbfc, 133 },
    { "H7'", &torch_2[1], false, false, false, RQ_DTYPE_U8, 0x3d5ae413, 120 },
    { "H9'", &torch_2[2], false, false, false, RQ_DTYPE_U8, 0x3cd3ecbb, 104 },
    { "H11'", &torch_2[3], false, false, false, RQ_DTYPE_U8, 0x3df0f0f1, 68 },
    { "H12'", &torch_2[4], false, false, false, RQ_DTYPE_U8, 0x3d2c3414, 0 },
};

static rq_observer *make(const code_row *r)
{
    rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_HISTOGRAM);
    rq_observer *o = NULL;
    cfg.torch_1 = r->torch_1;
    cfg.bins = r->of->bins ? r->of->bins : 2048;
    cfg.upsample_rate = r->of->upsample ? r->of->upsample : r->torch_1 ? 128 : 16;
    cfg.type = rq_qtype_of(r->dtype);
    cfg.scheme = r->symmetric ? RQ_QSCHEME_PER_TENSOR_SYMMETRIC : RQ_QSCHEME_PER_TENSOR_AFFINE;
    cfg.reduce_range = r->reduced;
    assert_int_equal(rq_observer_create(&o, &cfg, NULL), RQ_OK);
    return o;
}

static rq_status show(rq_observer *o, rq_exec *e, const batch *b)
{
    float *x = malloc(((size_t)b->n + 1) * sizeof *x);
    const rq_strided v = rq_strided_vector(x, fill(x, b));
    const rq_status s = rq_observer_update(o, e, &v, NULL);
    free(x);
    return s;
}

static void the_parameters_of_the_tables(void **state)
{
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        const code_row *r = &codes[i];
        rq_observer *o = make(r);
        for (int b = 0; b < 2 && r->of->batch[b].n; b++)
            assert_int_equal(show(o, NULL, &r->of->batch[b]), RQ_OK);
        rq_qparams q;
        uint32_t bits;
        assert_int_equal(rq_observer_qparams(o, &q, NULL, NULL), RQ_OK);
        memcpy(&bits, q.scale, sizeof bits);
        if (bits != r->scale || q.zero_point[0] != r->zero_point)
            fail_msg("%s: scale %.9g, zero point %d", r->name, (double)q.scale[0], (int)q.zero_point[0]);
        rq_qparams_release(&q);
        rq_observer_destroy(o);
    }
}

static rq_state *state_of(const rq_observer *o)
{
    rq_state *s = NULL;
    assert_int_equal(rq_state_create(&s), RQ_OK);
    assert_int_equal(rq_observer_save(o, s, "a."), RQ_OK);
    return s;
}

static void assert_same(const rq_observer *a, const rq_observer *b)
{
    rq_state *s = state_of(a), *t = state_of(b);
    assert_int_equal(rq_state_count(s), rq_state_count(t));
    for (int i = 0; i < rq_state_count(s); i++) {
        const rq_tensor *x = rq_state_tensor(s, i), *y = rq_state_find(t, rq_state_name(s, i));
        assert_non_null(y);
        assert_int_equal(rq_tensor_count(x), rq_tensor_count(y));
        assert_memory_equal(x->f32, y->f32, (size_t)rq_tensor_count(x) * sizeof *x->f32);
    }
    rq_state_destroy(s);
    rq_state_destroy(t);
}

static void a_saved_state_goes_on_where_it_was(void **state)
{
    rq_observer *a = make(&codes[13]), *b = make(&codes[13]);
    assert_int_equal(show(a, NULL, &G1), RQ_OK);
    rq_state *s = state_of(a);
    assert_non_null(rq_state_find(s, "a.histogram"));
    assert_non_null(rq_state_find(s, "a.min_val"));
    assert_non_null(rq_state_find(s, "a.max_val"));
    assert_int_equal(rq_observer_load(b, s, "a.", NULL), RQ_OK);
    assert_same(a, b);
    for (int i = 0; i < 2; i++)
        assert_int_equal(show(i ? b : a, NULL, &torch_1[5].batch[1]), RQ_OK);
    assert_same(a, b);
    rq_err err = { 0 };
    float x[2048] = { 0 };
    assert_int_equal(rq_state_set_floats(s, "a.", "histogram", x, 100), RQ_OK); /* another number of bins */
    assert_int_equal(rq_observer_load(b, s, "a.", &err), RQ_BAD_SHAPE);
    x[7] = -1;
    assert_int_equal(rq_state_set_floats(s, "a.", "histogram", x, 2048), RQ_OK);
    assert_int_equal(rq_observer_load(b, s, "a.", &err), RQ_BAD_DATA);
    assert_int_equal(rq_observer_load(b, s, "b.", &err), RQ_NOT_FOUND);
    assert_same(a, b);
    x[7] = 0;
    const float down = -INFINITY, up = INFINITY; /* which a histogram never folds in */
    assert_int_equal(rq_state_set_floats(s, "a.", "histogram", x, 2048), RQ_OK);
    assert_int_equal(rq_state_set_floats(s, "a.", "min_val", &down, 1), RQ_OK);
    assert_int_equal(rq_state_set_floats(s, "a.", "max_val", &up, 1), RQ_OK);
    rq_observer_cfg as_torch = *rq_observer_cfg_of(b);
    as_torch.compat = true;
    rq_observer *c = NULL;
    assert_int_equal(rq_observer_create(&c, &as_torch, &err), RQ_OK);
    assert_int_equal(rq_observer_load(c, s, "a.", &err), RQ_BAD_DATA);
    rq_observer_destroy(c);
    assert_same(a, b);
    rq_observer_reset(a);
    rq_observer *fresh = make(&codes[13]);
    assert_same(a, fresh);
    assert_int_equal(rq_observer_load(b, s, "a.", &err), RQ_BAD_DATA);
    rq_state_destroy(s);
    s = state_of(fresh); /* never seen anything */
    assert_int_equal(rq_observer_load(b, s, "a.", &err), RQ_OK);
    assert_same(b, fresh);
    rq_state_destroy(s);
    rq_observer_destroy(a);
    rq_observer_destroy(b);
    rq_observer_destroy(fresh);
}

static void threads_do_not_matter(void **state)
{
    enum { N = 300000 };
    float *x = malloc(N * sizeof *x);
    rq_exec *e = NULL;
    assert_int_equal(rq_exec_create(&e, 2, NULL), RQ_OK);
    rq_observer *one = make(&codes[13]), *two = make(&codes[13]);
    for (uint32_t i = 0; i < 3; i++) {
        const batch b = { 'g', N, i, 0, 1 + i % 2, 0 };
        assert_int_equal(show(one, NULL, &b), RQ_OK);
        assert_int_equal(show(two, e, &b), RQ_OK);
    }
    assert_same(one, two);
    assert_int_equal(rq_observer_count(one), 3 * N);
    /* strides: the same numbers in another order */
    const rq_shape shape = rq_shape_of(2, (const int64_t[]) { 300, 1000 });
    const rq_strided v = rq_strided_floats(x, &shape), t = rq_strided_permute(&v, (const int[]) { 1, 0 });
    fill(x, &(batch) { 'g', N, 9, 0, 5, 0 });
    assert_int_equal(rq_observer_update(one, NULL, &v, NULL), RQ_OK);
    assert_int_equal(rq_observer_update(two, e, &t, NULL), RQ_OK);
    assert_same(one, two);
    rq_observer_destroy(one);
    rq_observer_destroy(two);
    rq_exec_destroy(e);
    free(x);
}

static void an_observer_survives_failing_allocations(void **state)
{
    const batch b = { 'g', 200000, 1, 0, 1, 0 };
    float *x = malloc((size_t)b.n * sizeof *x);
    const rq_strided v = rq_strided_vector(x, fill(x, &b));
    const size_t live = rq_mem_live();
    for (size_t n = 1; n < 40; n++) {
        rq_observer *o = NULL;
        rq_qparams q = { 0 };
        const rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_HISTOGRAM);
        rq_mem_fail_after(n, true);
        rq_status s = rq_observer_create(&o, &cfg, NULL);
        s = s ? s : rq_observer_update(o, NULL, &v, NULL);
        s = s ? s : rq_observer_qparams(o, &q, NULL, NULL);
        rq_mem_fail_after(0, false);
        assert_true(s == RQ_OK || s == RQ_NO_MEMORY);
        rq_qparams_release(&q);
        rq_observer_destroy(o);
        assert_int_equal(rq_mem_live(), live);
        if (s == RQ_OK)
            break;
        assert_true(n < 39);
    }
    free(x);
}

static void what_an_observer_has_not_seen(void **state)
{
    rq_observer *o = make(&codes[13]);
    float odd[] = { NAN, INFINITY, -INFINITY, NAN }, x[] = { 5 };
    rq_qparams q;
    rq_range r;
    const rq_strided bad = rq_strided_vector(odd, 4), one = rq_strided_vector(x, 1), none = rq_strided_vector(x, 0);
    assert_int_equal(rq_observer_update(o, NULL, &none, NULL), RQ_OK);
    assert_int_equal(rq_observer_update(o, NULL, &bad, NULL), RQ_OK);
    assert_int_equal(rq_observer_nan(o), 2);
    assert_int_equal(rq_observer_infinite(o), 2);
    assert_int_equal(rq_observer_qparams(o, &q, NULL, NULL), RQ_BAD_ARG);
    assert_int_equal(rq_observer_update(o, NULL, &one, NULL), RQ_OK);
    assert_int_equal(rq_observer_range(o, &r, 1), RQ_OK);
    assert_true(r.lo == 5 && r.hi == 5);
    assert_int_equal(rq_observer_qparams(o, &q, NULL, NULL), RQ_OK);
    assert_true(q.scale[0] == 5.0f / 255 && q.zero_point[0] == 0);
    rq_qparams_release(&q);
    rq_observer_destroy(o);
    rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_HISTOGRAM);
    cfg.bins = 0;
    assert_int_equal(rq_observer_create(&o, &cfg, NULL), RQ_BAD_ARG);
    cfg = rq_observer_defaults(RQ_OBSERVER_HISTOGRAM);
    cfg.axis = 0;
    cfg.scheme = RQ_QSCHEME_PER_CHANNEL_AFFINE;
    assert_int_equal(rq_observer_create(&o, &cfg, NULL), RQ_UNSUPPORTED);
}

/* Levels of the CPU give the same masses. */
static void every_isa_gives_the_same_histogram(void **state)
{
    float *x = malloc(MOST * sizeof *x);
    const rq_kernels plain = kernels(0);
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((flags & rq_cpu_detect()) != flags)
            continue;
        const rq_kernels k = kernels(flags);
        rq_histogram a, b;
        assert_int_equal(rq_histogram_init_resampled(&a, 2048, 16, RQ_RESAMPLE_OURS), RQ_OK);
        assert_int_equal(rq_histogram_init_resampled(&b, 2048, 16, RQ_RESAMPLE_OURS), RQ_OK);
        for (uint32_t i = 0; i < 4; i++) {
            const size_t n = (size_t)fill(x, &(batch) { 'g', 3001, i, 0, 1 + i, 0 });
            assert_int_equal(rq_histogram_update(&a, &plain, x, n), RQ_OK);
            assert_int_equal(rq_histogram_update(&b, &k, x, n), RQ_OK);
        }
        assert_memory_equal(a.mass, b.mass, 2048 * sizeof *a.mass);
        rq_histogram_release(&a);
        rq_histogram_release(&b);
    }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_generators_give_the_numbers_of_the_table),
        cmocka_unit_test(the_table_of_pytorch_1),
        cmocka_unit_test(the_table_of_pytorch_2),
        cmocka_unit_test(sixteen_bins_are_spread_as_the_table_says),
        cmocka_unit_test(a_point_keeps_its_own_mass),
        cmocka_unit_test(the_error_is_the_sum_over_cells),
        cmocka_unit_test(inputs_that_are_hard),
        cmocka_unit_test(what_is_not_finite_is_counted_and_left_out),
        cmocka_unit_test(bad_settings_and_failing_allocations),
        cmocka_unit_test(every_isa_gives_the_same_histogram),
        cmocka_unit_test(the_parameters_of_the_tables),
        cmocka_unit_test(a_saved_state_goes_on_where_it_was),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(an_observer_survives_failing_allocations),
        cmocka_unit_test(what_an_observer_has_not_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
