/* Sums that become reals, and a step of an LSTM from its sums, on every instruction set against loops written out here over the elementwise functions of
 * the same level, bit for bit: all tails, sums that wrap, buffers of the exact size. And the sums of few rows against products that store them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels.h"

enum { ROWS = 3, MOST = 49 };

static float *reals(rq_rng *rng, size_t n, float size)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (rq_rng_f32(rng) - 0.5f) * size;
    return x;
}

static int32_t *sums(rq_rng *rng, size_t n)
{
    int32_t *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (int32_t)rq_rng_u64(rng) >> (i % 3 ? 12 : rq_rng_below(rng, 32));
    return x;
}

static int32_t wrap(int64_t v)
{
    return (int32_t)(uint32_t)(uint64_t)v;
}

static void check_reals(const rq_kernels *k, rq_rng *rng, size_t n, unsigned given)
{
    int32_t *c = sums(rng, ROWS * (n + 2)), *add = sums(rng, ROWS), *col_add = sums(rng, n);
    float *row = reals(rng, ROWS, 2), *m = reals(rng, n, 0.1f), *bias = reals(rng, n, 4), *y = malloc(ROWS * n * 4);
    const rq_sums_reals o = { .y = y,
                              .ldy = n,
                              .row_add = given & 1 ? add : NULL,
                              .add = given & 32 ? col_add : NULL,
                              .row_m = given & 2 ? row : NULL,
                              .m = given & 4 ? m : NULL,
                              .bias = given & 8 ? bias : NULL,
                              .in_turn = (given & 16) != 0 };
    k->sums_reals(&o, c, n + 2, ROWS, n);
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < n; j++) {
            const float f = given & 2 ? given & 4 ? row[i] * m[j] : row[i] : given & 4 ? m[j] : 1;
            float v =
                (float)wrap((int64_t)c[i * (n + 2) + j] + (given & 1 ? add[i] : 0) + (given & 32 ? col_add[j] : 0));
            v = (given & 22) == 22 ? v * row[i] * m[j] : v * f;
            v = given & 8 ? v + bias[j] : v;
            if (memcmp(&v, &y[i * n + j], 4) != 0)
                fail_msg("%s, n %zu, given %x, row %zu, column %zu: %g, expected %g", k->isa, n, given, i, j,
                         (double)y[i * n + j], (double)v);
        }
    free(c), free(add), free(col_add), free(row), free(m), free(bias), free(y);
}

static void check_cell(const rq_kernels *k, rq_rng *rng, size_t n, bool coded)
{
    int32_t *sum = sums(rng, 4 * n), *w_sum = sums(rng, 4 * n);
    float *m = reals(rng, 4 * n, 1e-6f), *gate = reals(rng, 4 * n, 8), *x = reals(rng, 4 * n, 8);
    float *h = reals(rng, n, 2), *c = reals(rng, n, 2), *g = malloc(4 * n * sizeof *g),
          *cell = malloc(n * sizeof *cell);
    const rq_lstm_cell l = { .n = n,
                             .sum = coded ? sum : NULL,
                             .w_sum = w_sum,
                             .add = 12345,
                             .zero = 131,
                             .row = 0.7f,
                             .m = m,
                             .gate = gate,
                             .x = x,
                             .h = h,
                             .c = c };
    for (size_t j = 0; j < 4 * n; j++) {
        const int32_t s = wrap((int64_t)sum[j] + 12345 - (int64_t)131 * w_sum[j]);
        const float v = coded ? (float)s * (0.7f * m[j]) : gate[j];
        g[j] = v + x[j];
    }
    k->map[RQ_MAP_SIGMOID](g, g, 3 * n, 0, 0);
    k->map[RQ_MAP_TANH](g + 3 * n, g + 3 * n, n, 0, 0);
    for (size_t j = 0; j < n; j++)
        cell[j] = g[2 * n + j] * c[j] + g[j] * g[3 * n + j];
    k->lstm_cell(&l);
    assert_memory_equal(c, cell, n * sizeof *c);
    k->map[RQ_MAP_TANH](cell, cell, n, 0, 0);
    for (size_t j = 0; j < n; j++)
        cell[j] = g[n + j] * cell[j];
    assert_memory_equal(h, cell, n * sizeof *h);
    free(sum), free(w_sum), free(m), free(gate), free(x), free(h), free(c), free(g), free(cell);
}

/* `rows` rows of `depth` codes by `columns` columns. */
static void check_product(const rq_kernels *k, rq_rng *rng, int64_t rows, int64_t depth, int64_t columns)
{
    const int64_t ld = rq_qgemm_sums_ld(columns);
    uint8_t *x = malloc((size_t)(rows * depth)), *w = malloc((size_t)(depth * columns));
    int32_t *c = malloc((size_t)(rows * ld) * 4), *want = malloc((size_t)(rows * columns) * 4);
    void *packed = aligned_alloc(64, (rq_qgemm_w_bytes(&k->qgemm, 1, depth, columns) + 63) & ~(size_t)63);
    for (int64_t i = 0; i < rows * depth; i++)
        x[i] = (uint8_t)rq_rng_u64(rng);
    for (int64_t i = 0; i < depth * columns; i++)
        w[i] = (uint8_t)rq_rng_u64(rng);
    rq_qgemm_pack(&k->qgemm, packed, w, 0, columns, 1, 1, depth, columns, 0, NULL);
    rq_qgemm_run(&(rq_qgemm) { .k = k,
                               .rows = rows,
                               .runs = 1,
                               .run = depth,
                               .columns = columns,
                               .w = packed,
                               .x = x,
                               .x_stride = depth,
                               .out = { .kind = RQ_QGEMM_S32, .y = want, .ld = columns } },
                 NULL);
    rq_qgemm_sums(k, c, ld, x, depth, rows, depth, columns, packed);
    for (int64_t i = 0; i < rows; i++)
        assert_memory_equal(c + i * ld, want + i * columns, (size_t)columns * 4);
    free(x), free(w), free(c), free(want), free(packed);
}

static void each_level(void (*check)(const rq_kernels *k, rq_rng *rng))
{
    unsigned flags;
    rq_kernels k;
    rq_rng rng;
    for (int level = 0; rq_cpu_level(level, &flags); level++)
        if ((rq_cpu_detect() & flags) == flags) {
            rq_kernels_init(&k, flags);
            rq_rng_seed(&rng, 8);
            check(&k, &rng);
        }
}

static void all_reals(const rq_kernels *k, rq_rng *rng)
{
    for (size_t n = 1; n <= MOST; n++)
        for (unsigned given = 0; given < 64; given++)
            check_reals(k, rng, n, given);
}

static void all_cells(const rq_kernels *k, rq_rng *rng)
{
    for (size_t n = 1; n <= MOST; n++)
        for (int coded = 0; coded < 2; coded++)
            check_cell(k, rng, n, coded);
}

static void all_products(const rq_kernels *k, rq_rng *rng)
{
    static const int64_t rows[] = { 1, 2, 5, 33 }, depth[] = { 1, 7, 96, 130 }, columns[] = { 1, 16, 20, 64, 84, 384 };
    for (int r = 0; r < 4; r++)
        for (int d = 0; d < 4; d++)
            for (int c = 0; c < 6; c++)
                check_product(k, rng, rows[r], depth[d], columns[c]);
}

static void sums_become_reals(void **state)
{
    (void)state;
    each_level(all_reals);
}

static void an_lstm_is_its_functions(void **state)
{
    (void)state;
    each_level(all_cells);
}

static void few_rows_have_the_sums_of_products(void **state)
{
    (void)state;
    each_level(all_products);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(sums_become_reals), cmocka_unit_test(an_lstm_is_its_functions),
                                        cmocka_unit_test(few_rows_have_the_sums_of_products) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
