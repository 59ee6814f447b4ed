/* kernel_rows.c — every kernel of integers and of codes on the same numbers at every level that this machine has: a row per kernel, the hash of
 * what it wrote. Floats that are to have the same bits everywhere are hashed, too. Prints, with tabs between:
 *   ROW kernels/NAME 1 0 LEVEL=HASH==0... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "kernels/relayout.h"

enum { N = 1031 }; /* many vectors and a tail at every width */

/* What all kernels read. */
typedef struct numbers {
    float x[N], x2[N], m[N];
    double wide[N];
    uint16_t half[N];
    int32_t acc[N], add[N];
    uint8_t a[N], b[N], table[256];
    int16_t taps[9];
    rq_lut8_f32 reals;
    rq_norm8 norm;
} numbers;

static uint64_t hash(uint64_t h, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return h;
}

static void fill(numbers *d)
{
    rq_rng rng;
    rq_rng_seed(&rng, 20);
    for (int i = 0; i < N; i++) {
        d->x[i] = (rq_rng_f32(&rng) - 0.5f) * (i % 5 ? 64 : 1024);
        if (i % 7 == 0)
            d->x[i] = (float)((int)rq_rng_below(&rng, 600) - 300) / 2; /* ties */
        d->x2[i] = rq_rng_f32(&rng) * 8 - 4;
        d->wide[i] = (double)d->x[i] * 1.5;
        d->m[i] = (float)(1 + rq_rng_below(&rng, 64)) / 65536;
        d->half[i] = (uint16_t)rq_rng_below(&rng, 0x7c00) | (uint16_t)(rq_rng_below(&rng, 2) << 15);
        d->acc[i] = (int32_t)rq_rng_u64(&rng) >> rq_rng_below(&rng, 32);
        d->add[i] = (int32_t)rq_rng_u64(&rng) >> rq_rng_below(&rng, 32);
        d->a[i] = (uint8_t)rq_rng_u64(&rng);
        d->b[i] = i % 3 ? (uint8_t)rq_rng_u64(&rng) : 0x80;
    }
    for (int i = 0; i < 256; i++)
        d->table[i] = (uint8_t)rq_rng_u64(&rng);
    for (int i = 0; i < 9; i++)
        d->taps[i] = (int16_t)((int)rq_rng_below(&rng, 511) - 255);
    memcpy(d->reals.value, d->x, sizeof d->reals.value);
    rq_lut8_f32_split(&d->reals);
    d->norm = (rq_norm8) { .flip = 0x80,
                           .whole = 101,
                           .inv = 0.02f,
                           .rest = 0.007f,
                           .gain = d->x2,
                           .bias = d->x,
                           .scale = 0.3f,
                           .zp = 7,
                           .lo = -128,
                           .hi = 127 };
}

/* A row: writes out (N floats large) by one kernel; the bytes written. */
typedef size_t (*row_fn)(const rq_kernels *k, const numbers *d, void *out);

#define ROW(name, bytes, call)                                                                                         \
    static size_t row_##name(const rq_kernels *k, const numbers *d, void *out)                                         \
    {                                                                                                                  \
        (void)d;                                                                                                       \
        call;                                                                                                          \
        return (size_t)(bytes);                                                                                        \
    }

static const rq_fakequant fq = {
    .in = 4, .out = 0.25f, .inside = -0.0f, .after = 3, .back = -3, .lo = -128, .hi = 127
};
static const rq_qadd sum = { .ra = 0.25f, .rb = 0.5f, .k = 3, .flip_a = 0x80 };
static const rq_qmul product = { .za = 100, .zb = 30, .r = 1.0f / 64, .zc = 7, .flip_b = 0x80 };

ROW(quantize_u8, N, k->quantize_u8(out, d->x, N, 0.5f, 7, 0, 255))
ROW(quantize_s8, N, k->quantize_s8(out, d->x, N, 0.3f, -7, -128, 127))
ROW(quantize_half, N, k->quantize_half(out, d->half, N, 0.3f, 7, 0, 255))
ROW(quantize_u16, 2 * N, k->quantize_u16(out, d->x, N, 0.01f, 7, 0, 65535))
ROW(quantize_s16, 2 * N, k->quantize_s16(out, d->x, N, 0.01f, 7, -32768, 32767))
ROW(dequantize_u8, 4 * N, k->dequantize_u8(out, d->a, N, 0.3f, 7))
ROW(dequantize_s8, 4 * N, k->dequantize_s8(out, (const int8_t *)d->a, N, 0.3f, 7))
ROW(dequantize_u16, 2 * N, k->dequantize_u16(out, (const uint16_t *)(const void *)d->acc, N / 2, 0.3f, 7))
ROW(dequantize_s16, 2 * N, k->dequantize_s16(out, (const int16_t *)(const void *)d->acc, N / 2, 0.3f, 7))
ROW(quantize_quotients, N, k->quantize_quotients(out, d->wide, N, 3, 0.5, 7, 0, 255))
ROW(half_to_float, 4 * N, k->half_to_float(out, d->half, N))
ROW(half_from_float, 2 * N, k->half_from_float(out, d->x, N))
ROW(lut8, N, k->lut8(out, d->a, N, d->table))
ROW(lut8_f32, 4 * N, k->lut8_f32((float *)(void *)out, d->a, N, &d->reals))
ROW(norm8, N, k->norm8(out, d->a, N, &d->norm))
ROW(sums8, 8, k->sums8((uint32_t *)(void *)out, (uint32_t *)(void *)out + 1, d->a, N, 0x80))
ROW(equal_s32, N, k->equal_s32(out, d->acc, 1, d->add, 1, N))
ROW(row_sums, 12, k->row_sums(out, d->a, 300, 3, 333))
ROW(requantize_tile, N / 3 * 3, k->requantize_tile(out, N / 3, d->acc, N / 3, 3, N / 3, d->add, d->m, 5, 0, 255))
ROW(fakequant, 4 * N, k->fakequant(out, NULL, d->x, N, &fq))
ROW(fakequant_grad, 4 * N, k->fakequant_grad(out, d->x2, d->x, N, &fq))
ROW(fakequant_codes, N, k->fakequant_codes(out, d->x, N, &fq))
ROW(qadd, N, k->qadd(out, d->a, d->b, N, &sum))
ROW(qadd_one, N, k->qadd_one(out, d->a, N, &sum))
ROW(qmul, N, k->qmul(out, d->a, d->b, N, &product))

/* Which NaN is no result. */
static void one_nan(float *y)
{
    for (int i = 0; i < N; i++)
        if (isnan(y[i]))
            y[i] = NAN;
}

#define MAP_ROW(upper, name) ROW(map_##name, 4 * N, k->map[RQ_MAP_##upper](out, d->x2, N, 0.5f, 2); one_nan(out))
RQ_MAP_LIST(MAP_ROW)
#define ZIP_ROW(upper, name) ROW(zip_##name, 4 * N, k->zip[RQ_ZIP_##upper](out, d->x2, 1, d->x, 1, N); one_nan(out))
RQ_ZIP_LIST(ZIP_ROW)
ROW(folds, 4 * RQ_N_FOLDS, for (int f = 0; f < RQ_N_FOLDS; f++)((float *)out)[f] = k->fold[f](d->x2, N, 0.25f))
ROW(exp_sum, 4 * N + 4, ((float *)out)[N] = k->exp_sum(out, d->x2, N, 0.25f))
ROW(taps_f32, 4 * (N - 8), k->taps_f32(out, (const float *const[]) { d->x, d->x2, d->x + 8 }, d->m, 3, 0.5f, N - 8))
ROW(sum_f32, 4, *(float *)out = k->sum_f32(d->x, N))
ROW(sums_reals, 4 * N,
    k->sums_reals(&(rq_sums_reals) { .y = out, .row_add = d->add, .row_m = d->x, .m = d->m, .bias = d->x2 }, d->acc, 0,
                  1, N))
ROW(squares, 8, *(double *)out = k->squares(d->x, d->x2, N))

static rq_cell_gates gates_of(const numbers *d)
{
    return (
        rq_cell_gates) { .sum = d->acc, .w_sum = d->add, .add = 1000, .zero = 77, .row = 1e-6f, .m = d->m, .x = d->x2 };
}

static size_t row_lstm_cell(const rq_kernels *k, const numbers *d, void *out)
{
    float *h = out, *c = h + N / 4;
    memcpy(c, d->x2, N / 4 * sizeof *c);
    k->lstm_cell(&(rq_lstm_cell) { .n = N / 4, .g = gates_of(d), .h = h, .c = c });
    return 2 * (N / 4) * sizeof *h;
}

/* The cell, and the two halves. */
static size_t row_gru_cell(const rq_kernels *k, const numbers *d, void *out)
{
    const size_t n = N / 4;
    float *h = out, *z = h + n, *reset = z + n;
    rq_gru_cell c = { .n = n, .g = gates_of(d), .bias = d->x, .h = h, .z = z, .reset = reset };
    memcpy(h, d->x2, n * sizeof *h);
    k->gru_cell(&c);
    k->gru_reset(&c);
    k->gru_update(&c);
    return 3 * n * sizeof *h;
}

static size_t row_rnn_cell(const rq_kernels *k, const numbers *d, void *out)
{
    k->rnn_cell(&(rq_rnn_cell) { .n = N / 4, .g = gates_of(d), .h = out });
    return N / 4 * sizeof(float);
}

static size_t row_minmax(const rq_kernels *k, const numbers *d, void *out)
{
    float lo, hi;
    size_t finite;
    k->minmax(d->x, N, &lo, &hi, &finite);
    memcpy(out, &lo, 4);
    memcpy((char *)out + 4, &hi, 4);
    return 8;
}

static size_t row_half_minmax(const rq_kernels *k, const numbers *d, void *out)
{
    enum { LENGTH = 50 };
    uint16_t *ends = out;
    k->half_minmax(ends, ends + N / LENGTH, d->half, N / LENGTH, LENGTH);
    return 2 * (N / LENGTH) * sizeof *ends;
}

static size_t row_histogram(const rq_kernels *k, const numbers *d, void *out)
{
    const rq_bins bins = { .n = 32, .lo = -32, .hi = 32, .from = -32, .mul = 32, .div = 64 };
    memset(out, 0, 32 * sizeof(uint64_t));
    k->histogram(out, &bins, d->x, N);
    return 32 * sizeof(uint64_t);
}

/* ---- products ---- */

/* X as [rows][runs][run]. */
typedef struct pieces {
    const uint8_t *x;
    int64_t runs, run;
} pieces;

static void find(const void *arg, const uint8_t **at, int stride, int64_t i, int n)
{
    const pieces *p = arg;
    for (int64_t r = 0; r < p->runs; r++)
        for (int q = 0; q < n; q++)
            at[r * stride + q] = p->x + ((i + q) * p->runs + r) * p->run;
}

static void *packed_for(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    if (!p)
        abort();
    return p;
}

/* rows x columns of what `o` says from `runs` pieces of `run` bytes a row: with weights that are -128 in every third place, and activations that are
 * 0. */
static size_t products(const rq_kernels *k, const numbers *d, int64_t rows, int64_t runs, int64_t run, int64_t columns,
                       rq_qgemm_out o)
{
    const int64_t depth = runs * run;
    uint8_t *x = calloc((size_t)(rows * depth), 1), *w = malloc((size_t)(depth * columns));
    void *packed = packed_for(rq_qgemm_w_bytes(&k->qgemm, runs, run, columns));
    if (!x || !w)
        abort();
    for (int64_t i = 0; i < rows * depth; i++)
        x[i] = i % 5 ? d->a[i % N] : 0;
    for (int64_t i = 0; i < depth * columns; i++)
        w[i] = d->b[i % N];
    rq_qgemm_pack(&k->qgemm, packed, w, run * columns, columns, 1, runs, run, columns, 0, NULL);
    const pieces p = { x, runs, run };
    o.ld = columns;
    rq_qgemm_run(&(rq_qgemm) { .k = k,
                               .rows = rows,
                               .runs = runs,
                               .run = run,
                               .columns = columns,
                               .w = packed,
                               .find = find,
                               .find_arg = &p,
                               .out = o },
                 NULL);
    free(x), free(w), free(packed);
    return (size_t)(rows * columns) * (o.kind == RQ_QGEMM_CODES ? 1 : 4);
}

#define PRODUCTS(name, rows, runs, run, columns, ...)                                                                  \
    static size_t row_##name(const rq_kernels *k, const numbers *d, void *out)                                         \
    {                                                                                                                  \
        return products(k, d, rows, runs, run, columns, (rq_qgemm_out) { .y = out, __VA_ARGS__ });                     \
    }
#define CODES .kind = RQ_QGEMM_CODES, .zp = 3, .hi = 255
#define SUM_OF_ALL                                                                                                     \
    .col_add = d->add, .row_add = d->acc, .row_sum = d->acc + 9, .col_zero = d->add + 9, .row_zero = d->add + 20,      \
    .col_sum = d->acc + 20, .add = d->add + 100, .add_row = 7, .add_col = 2

PRODUCTS(qgemm_sums, 13, 1, 67, 75, .kind = RQ_QGEMM_S32, .col_add = d->add)
PRODUCTS(qgemm_codes, 29, 1, 130, 33, CODES, .col_add = d->add, .col_m = d->m)
PRODUCTS(qgemm_reals, 15, 1, 64, 64, .kind = RQ_QGEMM_F32, .col_add = d->add, .col_m = d->m)
PRODUCTS(qgemm_one_row, 1, 1, 515, 200, CODES, .col_add = d->add, .col_m = d->m)
PRODUCTS(qgemm_pieces, 19, 9, 21, 50, CODES, .col_m = d->m)
PRODUCTS(qgemm_row_addends, 29, 1, 65, 70, CODES, .col_add = d->add, .row_add = d->acc, .col_m = d->m)
PRODUCTS(qgemm_row_multipliers, 19, 3, 11, 37, CODES, SUM_OF_ALL, .row_m = d->m)
PRODUCTS(qgemm_all_to_reals, 11, 2, 35, 70, .kind = RQ_QGEMM_F32, SUM_OF_ALL, .row_m = d->m, .col_m = d->m + 50,
         .col_bias = d->x)
PRODUCTS(qgemm_definition, 12, 1, 40, 60, CODES, .col_add = d->add, .col_unit = d->wide, .col_bias = d->x,
         .y_scale = 0.25)
PRODUCTS(qgemm_posts, 10, 1, 50, 90, CODES, .col_add = d->add, .col_m = d->m,
         .post = (const rq_post[]) { { .kind = RQ_POST_TABLE, .table = d->table },
                                     { .kind = RQ_POST_ADD, .other = d->b, .add = sum, .second = true } },
         .n_post = 2)

/* A convolution by windows of 3 x 3 with borders on two sides: as the products that define it, or with fewer multiplications where a level has those
 * (kernels/winograd.h). */
enum { HIGH = 7, WIDE = 13, DEEP = 11, FILTERS = 35 }; /* HIGH * WIDE * DEEP <= N */

static const uint8_t *pixel_at(const numbers *d, int64_t row, int64_t column)
{
    return row < 0 || column < 0 ? d->table : d->a + (row * WIDE + column) * DEEP;
}

static void find_window(const void *arg, const uint8_t **at, int stride, int64_t i, int n)
{
    for (int q = 0; q < n; q++)
        for (int r = 0; r < 9; r++)
            at[r * stride + q] = pixel_at(arg, (i + q) / (WIDE - 1) - 1 + r / 3, (i + q) % (WIDE - 1) - 1 + r % 3);
}

static size_t row_window_3x3(const rq_kernels *k, const numbers *d, void *out)
{
    uint8_t w[FILTERS * DEEP * 9];
    int32_t sums[FILTERS];
    const int64_t rows = (HIGH - 1) * (WIDE - 1);
    for (int i = 0; i < FILTERS * DEEP * 9; i++)
        w[i] = d->b[i % N];
    if (!k->winograd) {
        void *packed = packed_for(rq_qgemm_w_bytes(&k->qgemm, 9, DEEP, FILTERS));
        rq_qgemm_pack(&k->qgemm, packed, w, 1, 9, 9 * DEEP, 9, DEEP, FILTERS, 0, NULL);
        rq_qgemm g = { .k = k, .rows = rows, .runs = 9, .run = DEEP, .columns = FILTERS, .w = packed };
        g.find = find_window;
        g.find_arg = d;
        g.out = (rq_qgemm_out) { CODES, .y = out, .ld = FILTERS, .col_add = d->add, .col_m = d->m };
        rq_qgemm_run(&g, NULL);
        free(packed);
        return (size_t)rows * FILTERS;
    }
    const rq_winograd_weights weights = { .at = w, .channels = DEEP, .columns = FILTERS };
    void *packed = packed_for(rq_winograd_w_bytes(k->winograd, DEEP, FILTERS));
    rq_winograd_pack(NULL, k->winograd, packed, &weights, sums);
    rq_winograd g = { .k = k,
                      .batch = 1,
                      .channels = DEEP,
                      .columns = FILTERS,
                      .in = { HIGH, WIDE },
                      .out = { HIGH - 1, WIDE - 1 },
                      .pad = { 1, 1 },
                      .x = d->a,
                      .zeros = d->table,
                      .w = packed,
                      .add = d->add,
                      .m = d->m,
                      .zp = 3,
                      .hi = 255,
                      .y = out,
                      .ld = FILTERS };
    g.room = packed_for(rq_winograd_room(&g));
    rq_winograd_run(&g, NULL);
    free(packed), free(g.room);
    return (size_t)rows * FILTERS;
}

/* ---- depthwise ---- */

enum { CHANNELS = 77, COLUMNS = 13 }; /* COLUMNS pixels lie in N bytes */

/* What a row of them needs but the pixels. */
static rq_dwlast_row depthwise(const rq_dwlast_isa *g, const numbers *d, void *out, int height, int width, bool narrow,
                               bool sums)
{
    int16_t w[CHANNELS * 25];
    for (int i = 0; i < CHANNELS * height * width; i++)
        w[i] = (int16_t)(narrow ? (int8_t)d->b[i % N] : 2 * d->b[i % N] - 255);
    void *packed = packed_for(rq_dwlast_bytes(g, CHANNELS, height, width));
    void *finish = packed_for(rq_dwlast_finish_bytes(g, CHANNELS));
    rq_dwlast_pack(g, packed, w, CHANNELS, height, width);
    rq_dwlast_pack_finish(g, finish, d->add, d->m, CHANNELS);
    return (rq_dwlast_row) { .channels = CHANNELS,
                             .w = packed,
                             .finish = finish,
                             .height = height,
                             .y = sums ? NULL : out,
                             .sums = sums ? out : NULL,
                             .ld = CHANNELS,
                             .zp = 9,
                             .lo = 2,
                             .hi = 250 };
}

static size_t written(const rq_dwlast_row *g)
{
    free((void *)(uintptr_t)g->w), free((void *)(uintptr_t)g->finish);
    return (size_t)(g->n * CHANNELS) * (g->y ? 1 : 4);
}

/* Padded all around, its first row of taps outside. */
static size_t windows(const rq_dwlast_isa *g, const numbers *d, void *out, int size, int stride, bool narrow, bool sums)
{
    const uint8_t *x[5] = { NULL, d->a, d->b, d->a + N - CHANNELS * COLUMNS, d->b + 1 };
    rq_dwlast_row row = depthwise(g, d, out, size, size, narrow, sums);
    row.x = x;
    row.zero = d->table;
    row.pitch = CHANNELS;
    row.first = size / 2;
    row.last = row.first + COLUMNS;
    row.n = (COLUMNS + size / 2 * 2 - size) / stride + 1;
    g->window(&row, size, stride);
    return written(&row);
}

static size_t tap_lists(const rq_dwlast_isa *g, const numbers *d, void *out, bool narrow, bool sums)
{
    enum { TAPS = 7 };
    const uint8_t *x[COLUMNS * TAPS];
    for (int i = 0; i < COLUMNS * TAPS; i++)
        x[i] = (i % 2 ? d->a : d->b) + i * 37 % (N - CHANNELS);
    rq_dwlast_row row = depthwise(g, d, out, TAPS, 1, narrow, sums);
    row.x = x;
    row.n = COLUMNS;
    g->taps(&row);
    return written(&row);
}

#define DEPTHWISE(type, narrow)                                                                                        \
    ROW(dwlast_##type##_3x3, (windows(k->dwlast_##type, d, out, 3, 1, narrow, false)), )                               \
    ROW(dwlast_##type##_3x3_by_2, (windows(k->dwlast_##type, d, out, 3, 2, narrow, false)), )                          \
    ROW(dwlast_##type##_5x5, (windows(k->dwlast_##type, d, out, 5, 1, narrow, true)), )                                \
    ROW(dwlast_##type##_5x5_by_2, (windows(k->dwlast_##type, d, out, 5, 2, narrow, false)), )                          \
    ROW(dwlast_##type##_taps, (tap_lists(k->dwlast_##type, d, out, narrow, false)), )                                  \
    ROW(dwlast_##type##_tap_sums, (tap_lists(k->dwlast_##type, d, out, narrow, true)), )
DEPTHWISE(s8, true)
DEPTHWISE(s16, false)

/* ---- layouts and pools ---- */

enum { PLANES = 19, PIXELS = 54 }; /* PLANES * PIXELS <= N */
#define LAYOUT(sign)                                                                                                   \
    (&(const rq_relayout) { .k = k, .n = 1, .c = PLANES, .s = PIXELS, .is_signed = sign, .scale = 0.3f, .zp = 7 })

ROW(transpose8, 29 * 35, k->transpose8(out, 29, d->a, 35, 29, 35, 0x80))
ROW(transpose8_by_3, 3 * 340, k->transpose8(out, 340, d->a, 3, 340, 3, 0))
ROW(relayout_to_last, PLANES *PIXELS, rq_relayout_to_last(LAYOUT(true), out, d->a))
ROW(relayout_from_last, PLANES *PIXELS, rq_relayout_from_last(LAYOUT(false), out, d->a))
ROW(relayout_quantize, PLANES *PIXELS, rq_relayout_quantize(LAYOUT(false), out, d->x))
ROW(relayout_dequantize, 4 * PLANES * PIXELS, rq_relayout_dequantize(LAYOUT(true), out, d->a))

static const rq_pool8_mean mean = { .scale = 0.03f, .zero = 100, .count = 5, .y_scale = 0.02f, .y_zero = 19 };
#define FIVE ((const uint8_t *const[]) { d->a, d->b, d->a + 200, d->b + 400, d->a + 800 })
ROW(pool8_max, 231, k->pool8->max(out, FIVE, 5, 231))
ROW(pool8_mean, 231, k->pool8->mean(out, FIVE, 5, 231, &mean))
ROW(pool8_sum, 4 * 140, memcpy(out, d->acc, sizeof(int32_t) * 140); k->pool8->sum(out, d->a, 147, 7, 140))
ROW(pool_quarters, 4 * 4 * 60, k->pool_quarters(out, d->x, 4, 60, 121))

int main(void)
{
    static const struct {
        const char *name;
        row_fn fn;
    } rows[] = {
#define NAMED(name) { #name, row_##name }
        NAMED(quantize_u8),
        NAMED(quantize_s8),
        NAMED(quantize_half),
        NAMED(quantize_u16),
        NAMED(quantize_s16),
        NAMED(dequantize_u8),
        NAMED(dequantize_s8),
        NAMED(dequantize_u16),
        NAMED(dequantize_s16),
        NAMED(quantize_quotients),
        NAMED(half_to_float),
        NAMED(half_from_float),
        NAMED(lut8),
        NAMED(lut8_f32),
        NAMED(norm8),
        NAMED(sums8),
        NAMED(equal_s32),
        NAMED(row_sums),
        NAMED(requantize_tile),
        NAMED(fakequant),
        NAMED(fakequant_grad),
        NAMED(fakequant_codes),
        NAMED(qadd),
        NAMED(qadd_one),
        NAMED(qmul),
        NAMED(qgemm_sums),
        NAMED(qgemm_codes),
        NAMED(qgemm_reals),
        NAMED(qgemm_one_row),
        NAMED(qgemm_pieces),
        NAMED(qgemm_row_addends),
        NAMED(qgemm_row_multipliers),
        NAMED(qgemm_all_to_reals),
        NAMED(qgemm_definition),
        NAMED(qgemm_posts),
        NAMED(window_3x3),
        NAMED(dwlast_s8_3x3),
        NAMED(dwlast_s8_3x3_by_2),
        NAMED(dwlast_s8_5x5),
        NAMED(dwlast_s8_5x5_by_2),
        NAMED(dwlast_s8_taps),
        NAMED(dwlast_s8_tap_sums),
        NAMED(dwlast_s16_3x3),
        NAMED(dwlast_s16_3x3_by_2),
        NAMED(dwlast_s16_5x5),
        NAMED(dwlast_s16_5x5_by_2),
        NAMED(dwlast_s16_taps),
        NAMED(dwlast_s16_tap_sums),
        NAMED(transpose8),
        NAMED(transpose8_by_3),
        NAMED(relayout_to_last),
        NAMED(relayout_from_last),
        NAMED(relayout_quantize),
        NAMED(relayout_dequantize),
        NAMED(pool8_max),
        NAMED(pool8_mean),
        NAMED(pool8_sum),
        NAMED(pool_quarters),
        NAMED(folds),
        NAMED(exp_sum),
        NAMED(taps_f32),
        NAMED(sum_f32),
        NAMED(squares),
        NAMED(sums_reals),
        NAMED(lstm_cell),
        NAMED(gru_cell),
        NAMED(rnn_cell),
        NAMED(minmax),
        NAMED(half_minmax),
        NAMED(histogram),
#define MAP_NAMED(upper, name) NAMED(map_##name),
        RQ_MAP_LIST(MAP_NAMED)
#define ZIP_NAMED(upper, name) NAMED(zip_##name),
            RQ_ZIP_LIST(ZIP_NAMED)
    };
    static numbers d;
    static float out[2 * N];
    const char *name;
    unsigned flags;
    fill(&d);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        printf("ROW\tkernels/%s\t1\t0", rows[r].name);
        for (int i = 0; (name = rq_cpu_level(i, &flags)); i++) {
            rq_kernels k;
            if ((rq_cpu_detect() & flags) != flags)
                continue;
            rq_kernels_init(&k, flags);
            const size_t bytes = rows[r].fn(&k, &d, out);
            printf("\t%s=%012llx==0", name, (unsigned long long)(hash(0xcbf29ce484222325u, out, bytes) >> 16));
        }
        printf("\n");
    }
    return 0;
}
