/* Integer products of pieces of memory with packed weights, on every instruction set this machine has, against three loops in this file: all
 * small sizes and tails, patterns where narrow accumulators break, each piece in a buffer of its exact size (a sanitizer guards its end). */
#include <math.h>
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

extern const rq_qgemm_isa rq_qgemm_avxvnni_evex;

enum { NOISE, ALL_LOW, ALL_HIGH, ALTERNATING, ZERO_BY_LOW, N_PATTERNS }; /* the last: X 0, and W -128 */

static void fill(uint8_t *p, size_t n, int pattern, rq_rng *rng)
{
    for (size_t i = 0; i < n; i++)
        p[i] = pattern == NOISE                               ? (uint8_t)rq_rng_u64(rng)
               : pattern == ALL_LOW || pattern == ZERO_BY_LOW ? 0x80
               : pattern == ALL_HIGH                          ? 0xff
               : i % 2                                        ? 0x7f
                                                              : 0x80;
}

/* X as pieces, W as bytes [runs][run][columns] or transposed, and all that a result may need. */
typedef struct job {
    int64_t rows, runs, run, columns;
    uint8_t **piece; /* [rows][runs] */
    uint8_t *w, flip;
    int64_t run_stride, k_stride, col_stride;
    int32_t *sum; /* [rows][columns] by three loops */
    int32_t *row_sum, *row_zero, *row_add, *col_zero, *col_sum, *col_add, *add;
    float *row_m, *col_m;
    double *col_unit;
} job;

static void find(const void *arg, const uint8_t **at, int stride, int64_t i, int n)
{
    const job *j = arg;
    for (int64_t r = 0; r < j->runs; r++)
        for (int q = 0; q < n; q++)
            at[r * stride + q] = j->piece[(i + q) * j->runs + r];
}

static uint8_t weight(const job *j, int64_t r, int64_t k, int64_t c)
{
    return j->w[r * j->run_stride + k * j->k_stride + c * j->col_stride];
}

static void *numbers(int64_t n, rq_rng *rng, int shift)
{
    int32_t *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (int32_t)rq_rng_u64(rng) >> shift;
    return p;
}

static void *multipliers(int64_t n, rq_rng *rng)
{
    float *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (rq_rng_f32(rng) + 0.01f) * 1e-3f;
    return p;
}

static job job_of(int64_t rows, int64_t runs, int64_t run, int64_t columns, int pattern, rq_rng *rng)
{
    job j = { .rows = rows, .runs = runs, .run = run, .columns = columns };
    j.flip = rq_rng_below(rng, 2) ? 0x80 : 0;
    if (rq_rng_below(rng, 2))
        j.run_stride = run * columns, j.k_stride = columns, j.col_stride = 1;
    else if (rq_rng_below(rng, 2)) /* a convolution's: taps innermost */
        j.run_stride = 1, j.k_stride = runs, j.col_stride = run * runs;
    else
        j.run_stride = run, j.k_stride = 1, j.col_stride = run * runs;
    j.piece = malloc((size_t)(rows * runs) * sizeof *j.piece);
    for (int64_t i = 0; i < rows * runs; i++) {
        j.piece[i] = malloc((size_t)run);
        if (pattern == ZERO_BY_LOW)
            memset(j.piece[i], 0, (size_t)run);
        else
            fill(j.piece[i], (size_t)run, pattern == ALL_LOW ? ALL_HIGH : pattern, rng);
    }
    j.w = malloc((size_t)(runs * run * columns));
    fill(j.w, (size_t)(runs * run * columns), pattern, rng);
    j.sum = calloc((size_t)(rows * columns), sizeof *j.sum);
    j.col_sum = calloc((size_t)columns, sizeof *j.col_sum);
    j.row_sum = calloc((size_t)rows, sizeof *j.row_sum);
    for (int64_t r = 0; r < runs; r++)
        for (int64_t k = 0; k < run; k++) {
            for (int64_t c = 0; c < columns; c++) {
                const int32_t w = (int8_t)(weight(&j, r, k, c) ^ j.flip);
                j.col_sum[c] += w;
                for (int64_t i = 0; i < rows; i++) {
                    int32_t *s = &j.sum[i * columns + c];
                    *s = (int32_t)((uint32_t)*s + (uint32_t)(j.piece[i * runs + r][k] * w));
                }
            }
            for (int64_t i = 0; i < rows; i++)
                j.row_sum[i] += j.piece[i * runs + r][k];
        }
    j.row_zero = numbers(rows, rng, 24);
    j.row_add = numbers(rows, rng, 12);
    j.col_zero = numbers(columns, rng, 24);
    j.col_add = numbers(columns, rng, 12);
    j.add = numbers(rows * columns, rng, 14);
    j.row_m = multipliers(rows, rng);
    j.col_m = multipliers(columns, rng);
    j.col_unit = malloc((size_t)columns * sizeof *j.col_unit);
    for (int64_t c = 0; c < columns; c++)
        j.col_unit[c] = (double)j.col_m[c] / 7;
    return j;
}

static void job_release(job *j)
{
    for (int64_t i = 0; i < j->rows * j->runs; i++)
        free(j->piece[i]);
    free(j->piece), free(j->w), free(j->sum), free(j->row_sum), free(j->row_zero), free(j->row_add), free(j->col_zero);
    free(j->col_sum), free(j->col_add), free(j->add), free(j->row_m), free(j->col_m), free(j->col_unit);
}

/* Codes with a multiplier per column alone: u8 and s8, what ReLU leaves, narrow ranges; multipliers below 1, of which tiles make codes themselves, with
 * sums up to both ends of s32, and such where products leave s32, are infinite or NaN. */
static void check_codes(const job *j, rq_qgemm g, rq_threads *threads, rq_rng *rng)
{
    static const struct {
        int32_t zp, lo, hi;
    } range[] = { { 0, 0, 255 }, { 255, 0, 255 }, { 128, 128, 255 },   { 128, 17, 201 },
                  { 3, 3, 3 },   { 0, 0, 127 },   { -128, -128, 127 }, { 127, -128, 127 },
                  { 5, 5, 127 }, { -5, -99, 4 },  { 9, 9, 127 } };
    static const float odd[] = { 0, 1, 1e9f, -1e9f, 3e38f, INFINITY, -INFINITY, NAN },
                       small[] = { 0, 0x1.fffffep-1f, -0x1.fffffep-1f, 0.5f, 1e-40f };
    static const int32_t ends[] = { INT32_MAX, INT32_MIN, INT32_MAX - 64, 0 };
    const int64_t ld = j->columns + (int64_t)rq_rng_below(rng, 3);
    const size_t count = (size_t)((j->rows - 1) * ld + j->columns);
    uint8_t *y = malloc(count);
    float *m = malloc((size_t)j->columns * sizeof *m);
    int32_t *adds = malloc((size_t)j->columns * sizeof *adds);
#define ANY(list) list[rq_rng_below(rng, sizeof list / sizeof *list)]
    for (size_t r = 0; r < sizeof range / sizeof *range; r++) {
        const bool in_tile = rq_rng_below(rng, 3), add = rq_rng_below(rng, 2);
        for (int64_t c = 0; c < j->columns; c++) {
            m[c] = rq_rng_below(rng, 4) ? j->col_m[c] : in_tile ? ANY(small) : ANY(odd);
            adds[c] = rq_rng_below(rng, 4) ? j->col_add[c] : ANY(ends);
        }
#undef ANY
        g.out = (rq_qgemm_out) { .kind = RQ_QGEMM_CODES,
                                 .y = y,
                                 .ld = ld,
                                 .col_add = add ? adds : NULL,
                                 .col_m = m,
                                 .zp = range[r].zp,
                                 .lo = range[r].lo,
                                 .hi = range[r].hi };
        memset(y, 0x77, count);
        rq_qgemm_run(&g, threads);
        for (size_t p = 0; p < count; p++) {
            const int64_t i = (int64_t)p / ld, c = (int64_t)p % ld;
            if (c >= j->columns) {
                assert_int_equal(y[p], 0x77); /* between rows nothing is written */
                continue;
            }
            const int32_t s = (int32_t)((uint32_t)j->sum[i * j->columns + c] + (add ? (uint32_t)adds[c] : 0));
            assert_int_equal(y[p], (uint8_t)rq_quantize_acc(s, m[c], range[r].zp, range[r].lo, range[r].hi));
        }
    }
    free(y), free(m), free(adds);
}

/* Every kind of result of one job; or the sums alone, of which all others are made by the same code. */
static void check_results(const job *j, rq_qgemm g, rq_threads *threads, bool sums, rq_rng *rng)
{
    const int64_t rows = j->rows, columns = j->columns, ld = columns + (int64_t)rq_rng_below(rng, 3);
    const size_t count = (size_t)((rows - 1) * ld + columns); /* no more than is written */
    int32_t *y32 = malloc(count * 4);
    uint8_t *y8 = malloc(count), *other = malloc(count), table[256];
    float *yf = malloc(count * 4);
#define EACH                                                                                                           \
    for (int64_t i = 0; i < rows; i++)                                                                                 \
        for (int64_t c = 0; c < columns; c++)
    for (int add = 0; add < 2; add++) {
        g.out = (rq_qgemm_out) { .kind = RQ_QGEMM_S32, .y = y32, .ld = ld, .col_add = add ? j->col_add : NULL };
        rq_qgemm_run(&g, threads);
        EACH assert_int_equal(y32[i * ld + c],
                              (int32_t)((uint32_t)j->sum[i * columns + c] + (add ? (uint32_t)j->col_add[c] : 0)));
    }
    if (sums)
        goto done;

    /* codes of a convolution or a product with weights, then a table and the sum with a residual on both sides */
    fill(other, count, NOISE, rng);
    fill(table, sizeof table, NOISE, rng);
    const rq_qadd sum = { .ra = 0.25f, .rb = 0.5f, .k = 3 };
    const rq_post post[3] = { { .kind = RQ_POST_TABLE, .table = table },
                              { .kind = RQ_POST_ADD, .other = other, .add = sum },
                              { .kind = RQ_POST_ADD, .other = other, .add = sum, .second = true } };
    g.out = (rq_qgemm_out) {
        .kind = RQ_QGEMM_CODES, .y = y8, .ld = ld, .col_add = j->col_add, .col_m = j->col_m, .zp = 3, .hi = 255
    };
    rq_kernels def;
    rq_kernels_init(&def, 0);
    for (int n_post = 0; n_post <= 3; n_post++) {
        g.out.post = post;
        g.out.n_post = n_post;
        rq_qgemm_run(&g, threads);
        EACH
        {
            const int32_t s = (int32_t)((uint32_t)j->sum[i * columns + c] + (uint32_t)j->col_add[c]);
            uint8_t want = (uint8_t)rq_quantize_acc(s, j->col_m[c], 3, 0, 255);
            const uint8_t o = other[i * ld + c];
            if (n_post > 0)
                want = table[want];
            if (n_post > 1)
                def.qadd(&want, &want, &o, 1, &sum);
            if (n_post > 2)
                def.qadd(&want, &o, &want, 1, &sum);
            assert_int_equal(y8[i * ld + c], want);
        }
    }

    /* ranges of both signs, inside of the type as well; multipliers that are none, too large and 0 */
    static const int32_t range[][3] = {
        { 3, 0, 255 }, { -5, -128, 127 }, { 0, 0, 255 }, { 255, 9, 201 }, { -128, -100, 90 }
    };
    const int32_t *in = range[rq_rng_below(rng, sizeof range / sizeof *range)];
    float *corner_m = malloc((size_t)columns * sizeof *corner_m);
    for (int64_t c = 0; c < columns; c++)
        corner_m[c] = c % 7 == 3 ? 1e30f : c % 7 == 4 ? NAN : c % 7 == 5 ? 0 : c % 7 == 6 ? -1e-3f : j->col_m[c];
    g.out = (rq_qgemm_out) {
        .kind = RQ_QGEMM_CODES, .y = y8, .ld = ld, .col_m = corner_m, .zp = in[0], .lo = in[1], .hi = in[2]
    };
    rq_qgemm_run(&g, threads);
    EACH
    {
        const int32_t want = rq_quantize_acc(j->sum[i * columns + c], corner_m[c], in[0], in[1], in[2]);
        assert_int_equal(y8[i * ld + c], (uint8_t)want);
    }
    free(corner_m);

    /* everything that can be added, and multipliers on both sides */
    g.out = (rq_qgemm_out) { .kind = RQ_QGEMM_CODES,
                             .y = y8,
                             .ld = ld,
                             .col_add = j->col_add,
                             .row_add = j->row_add,
                             .row_sum = j->row_sum,
                             .col_zero = j->col_zero,
                             .row_zero = j->row_zero,
                             .col_sum = j->col_sum,
                             .add = j->add,
                             .add_row = columns,
                             .add_col = 1,
                             .row_m = j->row_m,
                             .zp = -5,
                             .lo = -128,
                             .hi = 127 };
    rq_qgemm_run(&g, threads);
    g.out.kind = RQ_QGEMM_F32;
    g.out.col_m = j->col_m;
    g.out.y = yf;
    g.out.col_bias = j->col_m;
    rq_qgemm_run(&g, threads);
    EACH
    {
        const uint32_t u = (uint32_t)j->sum[i * columns + c] + (uint32_t)j->col_add[c] + (uint32_t)j->row_add[i] +
                           (uint32_t)j->add[i * columns + c] - (uint32_t)j->row_sum[i] * (uint32_t)j->col_zero[c] -
                           (uint32_t)j->row_zero[i] * (uint32_t)j->col_sum[c];
        const int32_t s = (int32_t)u;
        assert_int_equal((int8_t)y8[i * ld + c], rq_quantize_acc(s, j->row_m[i], -5, -128, 127));
        const float m = j->row_m[i] * j->col_m[c], want = (float)s * m + j->col_m[c];
        assert_memory_equal(&yf[i * ld + c], &want, sizeof want);
    }

    /* weights with one zero point: addends of rows and columns */
    g.out = (rq_qgemm_out) { .kind = RQ_QGEMM_CODES,
                             .y = y8,
                             .ld = ld,
                             .col_add = j->col_add,
                             .row_add = j->row_add,
                             .col_m = j->col_m,
                             .zp = 5,
                             .hi = 250 };
    rq_qgemm_run(&g, threads);
    EACH
    {
        const uint32_t s = (uint32_t)j->sum[i * columns + c] + (uint32_t)j->row_add[i] + (uint32_t)j->col_add[c];
        assert_int_equal(y8[i * ld + c], rq_quantize_acc((int32_t)s, j->col_m[c], 5, 0, 250));
    }

    /* weights with zero points of their own, to s8: the sums of rows, multipliers per column alone */
    g.out = (rq_qgemm_out) { .kind = RQ_QGEMM_CODES,
                             .y = y8,
                             .ld = ld,
                             .row_add = j->row_add,
                             .row_sum = j->row_sum,
                             .col_zero = j->col_zero,
                             .col_m = j->col_m,
                             .zp = -5,
                             .lo = -128,
                             .hi = 127 };
    rq_qgemm_run(&g, threads);
    g.out.kind = RQ_QGEMM_F32;
    g.out.y = yf;
    rq_qgemm_run(&g, threads);
    EACH
    {
        const int32_t s = (int32_t)((uint32_t)j->sum[i * columns + c] + (uint32_t)j->row_add[i] -
                                    (uint32_t)j->row_sum[i] * (uint32_t)j->col_zero[c]);
        const float want = (float)s * j->col_m[c];
        assert_int_equal((int8_t)y8[i * ld + c], rq_quantize_acc(s, j->col_m[c], -5, -128, 127));
        assert_memory_equal(&yf[i * ld + c], &want, sizeof want);
    }

    /* by the definition */
    g.out = (rq_qgemm_out) { .kind = RQ_QGEMM_CODES,
                             .y = y8,
                             .ld = ld,
                             .col_add = j->col_add,
                             .col_unit = j->col_unit,
                             .col_bias = j->col_m,
                             .y_scale = 0.25,
                             .zp = 3,
                             .hi = 255 };
    rq_qgemm_run(&g, threads);
    EACH
    {
        const int32_t s = (int32_t)((uint32_t)j->sum[i * columns + c] + (uint32_t)j->col_add[c]);
        const double v = s * j->col_unit[c] + (double)j->col_m[c];
        assert_int_equal(y8[i * ld + c], rq_quantize_real_f64(v / 0.25, 3, 0, 255));
    }
#undef EACH
    check_codes(j, g, threads, rng);
done:
    free(y32), free(y8), free(yf), free(other);
}

static void check(const rq_kernels *k, rq_threads *threads, int64_t rows, int64_t runs, int64_t run, int64_t columns,
                  int pattern, bool sums, rq_rng *rng)
{
    job j = job_of(rows, runs, run, columns, pattern, rng);
    const size_t bytes = rq_qgemm_w_bytes(&k->qgemm, runs, run, columns);
    void *w = NULL;
    assert_int_equal(posix_memalign(&w, 64, bytes), 0); /* the exact size */
    memset(w, 0x55, bytes);
    int32_t *col_sum = malloc((size_t)columns * sizeof *col_sum);
    rq_qgemm_pack_on(threads, &k->qgemm, w, j.w, j.run_stride, j.k_stride, j.col_stride, runs, run, columns, j.flip,
                     col_sum);
    assert_memory_equal(col_sum, j.col_sum, (size_t)columns * sizeof *col_sum);
    check_results(
        &j,
        (rq_qgemm) {
            .k = k, .rows = rows, .runs = runs, .run = run, .columns = columns, .w = w, .find = find, .find_arg = &j },
        threads, sums, rng);
    if (runs == 1) { /* a plain matrix, rows apart by more than their size */
        const int64_t stride = run + 3;
        uint8_t *x = malloc((size_t)((rows - 1) * stride + run));
        for (int64_t i = 0; i < rows; i++)
            memcpy(x + i * stride, j.piece[i], (size_t)run);
        int32_t *row_sum = malloc((size_t)rows * sizeof *row_sum);
        k->row_sums(row_sum, x, (size_t)stride, (size_t)rows, (size_t)run);
        assert_memory_equal(row_sum, j.row_sum, (size_t)rows * sizeof *row_sum);
        check_results(
            &j,
            (rq_qgemm) {
                .k = k, .rows = rows, .runs = 1, .run = run, .columns = columns, .w = w, .x = x, .x_stride = stride },
            threads, sums, rng);
        free(x), free(row_sum);
    }
    free(w), free(col_sum);
    job_release(&j);
}

/* every: each so-many-th of the sizes, 1: all. sums: as check_results has it. */
static void check_all(const rq_kernels *k, rq_threads *threads, int every, bool sums)
{
    rq_rng rng;
    rq_rng_seed(&rng, 7);
    for (int pattern = 0; pattern < N_PATTERNS; pattern++) {
        for (int64_t rows = 1; rows <= 2 * k->qgemm.max_rows + 1; rows += every)
            for (int64_t run = 1; run <= 9; run++)
                check(k, NULL, rows, 1 + (int64_t)rq_rng_below(&rng, 3), run, 1 + (int64_t)rq_rng_below(&rng, 40),
                      pattern, sums, &rng);
        for (int64_t columns = 1; columns <= 100; columns += every)
            check(k, threads, 1 + (int64_t)rq_rng_below(&rng, 9), 1 + (int64_t)rq_rng_below(&rng, 2),
                  1 + (int64_t)rq_rng_below(&rng, 70), columns, pattern, sums, &rng);
        for (int64_t run = 500; run <= 515; run++) /* about the depth that is widened at a time */
            check(k, NULL, 1 + (int64_t)rq_rng_below(&rng, 20), 1 + (int64_t)rq_rng_below(&rng, 3), run, 19, pattern,
                  sums, &rng);
        for (int64_t run = 525; run <= 545; run += 5) /* rows too long to be widened for all panels at once */
            check(k, NULL, 11 + (int64_t)rq_rng_below(&rng, 2), 9, run, 19, pattern, sums, &rng);
    }
    check(k, NULL, 1, 1, 0, 5, NOISE, sums, &rng);          /* no depth: sums of nothing */
    check(k, threads, 13, 1, 170, 1000, NOISE, sums, &rng); /* many panels; work worth two threads */
    check(k, threads, 1, 1, 2500, 900, NOISE, sums, &rng);
    check(k, threads, 400, 9, 33, 20, NOISE, sums, &rng);  /* many blocks */
    check(k, threads, 60, 1, 9000, 70, NOISE, sums, &rng); /* panels that do not fit the cache */
    check(k, NULL, 3, RQ_QGEMM_MAX_RUNS, 2, 17, NOISE, sums, &rng);
    for (int draw = 0; draw < 10; draw++) /* -128 * 255 * 70001 wraps */
        check(k, threads, 2, 1, 70001, 2, ALL_LOW, sums, &rng);
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
        check_all(&k, threads, 1, false);
    }
#if RQ_X86
    if (rq_cpu_detect() & RQ_CPU_VNNI) { /* avxvnni_qgemm.c */
        rq_kernels k;
        rq_kernels_init(&k, RQ_CPU_AVX2);
        k.qgemm = rq_qgemm_avxvnni_evex;
        check_all(&k, threads, 1, false);
    }
#endif
    rq_threads_destroy(threads);
}

/* ---- AMX, its instructions in plain C: what is packed and indexed is right where no machine has them ---- */

static _Thread_local struct {
    int8_t at[8][16][64];
    uint16_t row_bytes[8];
    uint8_t rows[8];
} tiles;

static void tiles_configure(const uint8_t config[64])
{
    assert_int_equal(config[0], 1);
    for (int t = 0; t < 8; t++) {
        tiles.row_bytes[t] = (uint16_t)(config[16 + 2 * t] | config[17 + 2 * t] << 8);
        tiles.rows[t] = config[48 + t];
        assert_true(tiles.row_bytes[t] <= 64 && tiles.rows[t] >= 1 && tiles.rows[t] <= 16);
    }
}

static void tiles_load(int t, const void *base, ptrdiff_t stride)
{
    for (int i = 0; i < tiles.rows[t]; i++)
        memcpy(tiles.at[t][i], (const char *)base + i * stride, tiles.row_bytes[t]);
}

static void tiles_store(int t, void *base, ptrdiff_t stride)
{
    for (int i = 0; i < tiles.rows[t]; i++)
        memcpy((char *)base + i * stride, tiles.at[t][i], tiles.row_bytes[t]);
}

static void tiles_dot(int c, int a, int b)
{
    assert_int_equal(tiles.rows[c], tiles.rows[a]);
    assert_int_equal(tiles.row_bytes[a], 4 * tiles.rows[b]);
    assert_int_equal(tiles.row_bytes[c], tiles.row_bytes[b]);
    for (int i = 0; i < tiles.rows[c]; i++) {
        uint32_t sum[16];
        memcpy(sum, tiles.at[c][i], sizeof sum);
        for (int k = 0; k < tiles.row_bytes[a]; k++) {
            const uint8_t x = (uint8_t)tiles.at[a][i][k];
            const int8_t *w = tiles.at[b][k / 4] + k % 4;
            for (int j = 0; j < 16; j++)
                sum[j] += (uint32_t)(x * w[4 * j]);
        }
        memcpy(tiles.at[c][i], sum, tiles.row_bytes[c]);
    }
}

#define TILE_CONFIG(config) tiles_configure((const uint8_t *)(config))
#define TILE_LOAD(t, base, stride) tiles_load(t, base, stride)
#define TILE_DOT(c, a, b) tiles_dot(c, a, b)
#define TILE_STORE(t, base, stride) tiles_store(t, base, stride)
#define TILE_RELEASE() memset(&tiles, 0, sizeof tiles)
#include "kernels/qgemm_amx_tmpl.h"

static void amx_is_packed_and_indexed_right(void **state)
{
    (void)state;
    rq_threads *threads = NULL;
    assert_int_equal(rq_threads_create(&threads, 2), RQ_OK);
    rq_kernels k;
    rq_kernels_init(&k, 0);
    k.qgemm = (rq_qgemm_isa)QGEMM_AMX;
    /* elsewhere, where an emulator may run this, that it is compiled and counts */
    check_all(&k, threads, RQ_X86 ? 1 : 8, true);
    rq_threads_destroy(threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_the_definition_on_every_isa),
        cmocka_unit_test(amx_is_packed_and_indexed_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
