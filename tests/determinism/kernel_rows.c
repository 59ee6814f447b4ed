/* kernel_rows.c — every kernel of integers and of codes on the same numbers at every level that this machine has: a row per kernel, the hash of
 * what it wrote. Floats that are to have the same bits everywhere are hashed, too. Prints, with tabs between:
 *   ROW kernels/NAME 1 0 LEVEL=HASH==0... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels.h"

enum { N = 1031 }; /* many vectors and a tail at every width */

/* What all kernels read. */
typedef struct numbers {
    float x[N], x2[N], m[N];
    uint16_t half[N];
    int32_t acc[N], add[N];
    uint8_t a[N], b[N], table[256];
    int16_t taps[9];
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
ROW(lut8, N, k->lut8(out, d->a, N, d->table))
ROW(requantize_rows, N / 3 * 3, k->requantize_rows(out, N / 3, d->acc, N / 3, 3, N / 3, d->add, d->m, 5, 0, 255))
ROW(requantize_cols, N, k->requantize_cols(out, d->acc, N, 77, d->add, d->m, -5, -128, 127))
ROW(requantize_tile, N / 3 * 3, k->requantize_tile(out, N / 3, d->acc, N / 3, 3, N / 3, d->add, d->m, 5, 0, 255))
ROW(fakequant, 4 * N, k->fakequant(out, NULL, d->x, N, &fq))
ROW(fakequant_grad, 4 * N, k->fakequant_grad(out, d->x2, d->x, N, &fq))
ROW(fakequant_codes, N, k->fakequant_codes(out, d->x, N, &fq))
ROW(qadd, N, k->qadd(out, d->a, d->b, N, &sum))
ROW(qadd_one, N, k->qadd_one(out, d->a, N, &sum))
ROW(qmul, N, k->qmul(out, d->a, d->b, N, &product))
ROW(exp, 4 * N, k->map[RQ_MAP_EXP](out, d->x2, N, 0, 0))
ROW(tanh, 4 * N, k->map[RQ_MAP_TANH](out, d->x2, N, 0, 0))
ROW(sum_f32, 4, *(float *)out = k->sum_f32(d->x, N))
ROW(squares, 8, *(double *)out = k->squares(d->x, d->x2, N))

static size_t row_minmax(const rq_kernels *k, const numbers *d, void *out)
{
    float lo, hi;
    size_t finite;
    k->minmax(d->x, N, &lo, &hi, &finite);
    memcpy(out, &lo, 4);
    memcpy((char *)out + 4, &hi, 4);
    return 8;
}

static size_t row_histogram(const rq_kernels *k, const numbers *d, void *out)
{
    const rq_bins bins = { .n = 32, .lo = -32, .hi = 32, .from = -32, .mul = 32, .div = 64 };
    memset(out, 0, 32 * sizeof(uint64_t));
    k->histogram(out, &bins, d->x, N);
    return 32 * sizeof(uint64_t);
}

/* rows x columns codes from `runs` pieces of `run` bytes a row: with weights that are -128 in every third place, and activations that are 0. */
static size_t products(const rq_kernels *k, const numbers *d, void *out, int64_t rows, int64_t runs, int64_t run,
                       int64_t columns, rq_qgemm_kind kind)
{
    const int64_t depth = runs * run;
    uint8_t *x = calloc((size_t)(rows * depth), 1), *w = malloc((size_t)(depth * columns));
    void *packed = aligned_alloc(64, (rq_qgemm_w_bytes(&k->qgemm, 1, depth, columns) + 63) & ~(size_t)63);
    if (!x || !w || !packed)
        abort();
    for (int64_t i = 0; i < rows * depth; i++)
        x[i] = i % 5 ? d->a[i % N] : 0;
    for (int64_t i = 0; i < depth * columns; i++)
        w[i] = d->b[i % N];
    rq_qgemm_pack(&k->qgemm, packed, w, 0, columns, 1, 1, depth, columns, 0, NULL);
    const rq_qgemm g = { .k = k,
                         .rows = rows,
                         .runs = 1,
                         .run = depth,
                         .columns = columns,
                         .w = packed,
                         .x = x,
                         .x_stride = depth,
                         .out = { .kind = kind,
                                  .y = out,
                                  .ld = columns,
                                  .col_add = d->add,
                                  .col_m = kind == RQ_QGEMM_S32 ? NULL : d->m,
                                  .zp = 3,
                                  .hi = 255 } };
    rq_qgemm_run(&g, NULL);
    free(x), free(w), free(packed);
    return (size_t)(rows * columns) * (kind == RQ_QGEMM_CODES ? 1 : 4);
}

ROW(qgemm_sums, products(k, d, out, 13, 1, 67, 75, RQ_QGEMM_S32), )
ROW(qgemm_codes, products(k, d, out, 29, 1, 130, 33, RQ_QGEMM_CODES), )
ROW(qgemm_reals, products(k, d, out, 15, 1, 64, 64, RQ_QGEMM_F32), )
ROW(qgemm_one_row, products(k, d, out, 1, 1, 515, 200, RQ_QGEMM_CODES), )

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
        NAMED(lut8),
        NAMED(requantize_rows),
        NAMED(requantize_cols),
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
        NAMED(exp),
        NAMED(tanh),
        NAMED(sum_f32),
        NAMED(squares),
        NAMED(minmax),
        NAMED(histogram),
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
