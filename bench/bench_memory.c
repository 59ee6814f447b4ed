/* bench/bench_memory.c — kernels that do little with each element, per instruction set, beside a memcpy of as many bytes read and
 * written: JSON lines on stdout. `of_memcpy` is the share of memcpy's speed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cpu.h"
#include "kernels/kernels.h"
#include "kernels/move.h"

enum { N = 1 << 18, RUNS = 200 };

typedef struct job {
    rq_kernels k;
    uint8_t *x, *x2, *y; /* room for N doubles each */
    uint8_t table[256];
    rq_lut8_f32 reals;
    rq_norm8 norm;
    rq_qadd add, quick;
    rq_qmul mul, quick_mul;
} job;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define ROW(name, call)                                                                                                \
    static void run_##name(job *j)                                                                                     \
    {                                                                                                                  \
        call;                                                                                                          \
    }
#define F32(p) ((float *)(void *)(p))
#define S32(p) ((uint32_t *)(void *)(p))
#define U16(p) ((uint16_t *)(void *)(p))
ROW(quantize_u8, j->k.quantize_u8(j->y, F32(j->x), N, 0.1f, 3, 0, 255))
ROW(quantize_u16, j->k.quantize_u16(U16(j->y), F32(j->x), N, 0.1f, 3, 0, 65535))
ROW(dequantize_u8, j->k.dequantize_u8(F32(j->y), j->x, N, 0.1f, 3))
ROW(dequantize_u16, j->k.dequantize_u16(F32(j->y), U16(j->x), N, 0.1f, 3))
ROW(quotients, j->k.quantize_quotients(j->y, (double *)(void *)j->x, N, 3, 1, 0, 0, 255))
ROW(half_to_float, j->k.half_to_float(F32(j->y), U16(j->x), N))
ROW(half_from_float, j->k.half_from_float(U16(j->y), F32(j->x), N))
ROW(lut8, j->k.lut8(j->y, j->x, N, j->table))
ROW(lut8_f32, j->k.lut8_f32(F32(j->y), j->x, N, &j->reals))
ROW(norm8, j->k.norm8(j->y, j->x, N / 4, &j->norm))
ROW(sums8, j->k.sums8(S32(j->y), S32(j->y) + 1, j->x, N / 4, 0))
ROW(equal_s32, j->k.equal_s32(j->y, (const int32_t *)(const void *)j->x, 1, (const int32_t *)(const void *)j->x2, 0, N))
ROW(qadd, j->k.qadd(j->y, j->x, j->x2, N, &j->add))
ROW(qadd_quick, j->k.qadd(j->y, j->x, j->x2, N, &j->quick))
ROW(qadd_one, j->k.qadd_one(j->y, j->x, N, &j->add))
ROW(qmul, j->k.qmul(j->y, j->x, j->x2, N, &j->mul))
ROW(qmul_quick, j->k.qmul(j->y, j->x, j->x2, N, &j->quick_mul))
ROW(transpose_8, rq_move_nd(j->y, j->x, 1, 2, (int64_t[]) { 512, 512 }, (int64_t[]) { 512, 1 }, (int64_t[]) { 1, 512 }))
ROW(transpose_32,
    rq_move_nd(j->y, j->x, 4, 2, (int64_t[]) { 512, 512 }, (int64_t[]) { 512, 1 }, (int64_t[]) { 1, 512 }))

static const struct row {
    const char *name;
    void (*run)(job *j);
    int bytes; /* read and written per element */
    int share; /* one in so many of N */
} rows[] = {
    { "quantize_u8", run_quantize_u8, 5, 1 },
    { "quantize_u16", run_quantize_u16, 6, 1 },
    { "dequantize_u8", run_dequantize_u8, 5, 1 },
    { "dequantize_u16", run_dequantize_u16, 6, 1 },
    { "quantize_quotients", run_quotients, 9, 1 },
    { "half_to_float", run_half_to_float, 6, 1 },
    { "half_from_float", run_half_from_float, 6, 1 },
    { "lut8", run_lut8, 2, 1 },
    { "lut8_f32", run_lut8_f32, 5, 1 },
    { "norm8", run_norm8, 10, 4 }, /* with a gain and a bias per element */
    { "sums8", run_sums8, 1, 4 },
    { "equal_s32", run_equal_s32, 5, 1 },
    { "qadd", run_qadd, 3, 1 },
    { "qadd_quick", run_qadd_quick, 3, 1 },
    { "qadd_one", run_qadd_one, 2, 1 },
    { "qmul", run_qmul, 3, 1 },
    { "qmul_quick", run_qmul_quick, 3, 1 },
    { "transpose_8", run_transpose_8, 2, 1 },
    { "transpose_32", run_transpose_32, 8, 1 },
};

/* The fastest of RUNS, the two taking turns, so that a busy machine slows both. */
static void measure(job *j, const struct row *r)
{
    double best = 1e9, copy = 1e9;
    const size_t n = (size_t)N / (size_t)r->share, half = n * (size_t)r->bytes / 2;
    r->run(j);
    for (int i = 0; i < RUNS; i++) {
        double at = now();
        r->run(j);
        const double spent = now() - at;
        best = spent < best ? spent : best;
        at = now();
        memcpy(j->y, j->x, half);
        const double copied = now() - at;
        copy = copied < copy ? copied : copy;
    }
    printf("{\"kernel\": \"%s\", \"isa\": \"%s\", \"us\": %.1f, \"gb_s\": %.1f, \"of_memcpy\": %.2f}\n", r->name,
           j->k.isa, best * 1e6, 1e-9 * (double)n * r->bytes / best, copy / best);
}

int main(void)
{
    job j = { .add = { .ra = 0.4f, .rb = 0.6f, .k = 1 }, .mul = { .za = 3, .zb = 5, .r = 0.01234567f, .zc = 7 } };
    unsigned flags;
    j.x = malloc(N * sizeof(double));
    j.x2 = calloc(N, sizeof(double));
    j.y = calloc(N, sizeof(double));
    if (!j.x || !j.x2 || !j.y)
        return 1;
    for (int i = 0; i < N; i++) /* as floats 2 to 4, as doubles near 2 */
        F32(j.x)[2 * i] = F32(j.x)[2 * i + 1] = 2 + (float)(i % 997) / 500;
    for (int i = 0; i < 256; i++)
        j.table[i] = (uint8_t)(i * 7), j.reals.value[i] = (float)i / 7;
    rq_lut8_f32_split(&j.reals);
    j.norm = (rq_norm8) {
        .whole = 64, .inv = 0.02f, .rest = 0.01f, .gain = F32(j.x), .bias = F32(j.x), .scale = 0.1f, .zp = 3, .hi = 255
    };
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        rq_kernels_init(&j.k, flags);
        j.quick = j.add;
        rq_qadd_quicken(&j.k, &j.quick);
        j.quick_mul = j.mul;
        rq_qmul_quicken(&j.k, &j.quick_mul);
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            measure(&j, &rows[r]);
    }
    free(j.x), free(j.x2), free(j.y);
    return 0;
}
