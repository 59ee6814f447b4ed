/* Sums that become reals, and a step of an LSTM, a GRU or an RNN from its sums, on every instruction set against loops written out here over the elementwise functions of
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

/* Random gates of a cell, and what goes into their activations: what the state gives, and with x. */
typedef struct cell {
    rq_cell_gates g;
    float *state, *all;
} cell;

static cell cell_of(rq_rng *rng, size_t units, bool coded)
{
    const int32_t *sum = sums(rng, units), *w_sum = sums(rng, units);
    const float *m = reals(rng, units, 1e-6f), *gate = reals(rng, units, 8), *x = reals(rng, units, 8);
    cell c = { { coded ? sum : NULL, w_sum, 12345, 131, 0.7f, m, gate, x },
               malloc(units * sizeof(float)),
               malloc(units * sizeof(float)) };
    for (size_t j = 0; j < units; j++) {
        const int32_t s = wrap((int64_t)sum[j] + 12345 - (int64_t)131 * w_sum[j]);
        c.state[j] = coded ? (float)s * (0.7f * m[j]) : gate[j];
        c.all[j] = c.state[j] + x[j];
    }
    if (!coded)
        free((void *)sum);
    return c;
}

static void free_cell(cell *c)
{
    free((void *)c->g.sum), free((void *)c->g.w_sum), free((void *)c->g.m), free((void *)c->g.gate);
    free((void *)c->g.x), free(c->state), free(c->all);
}

static void check_lstm(const rq_kernels *k, rq_rng *rng, size_t n, bool coded)
{
    cell l = cell_of(rng, 4 * n, coded);
    float *h = reals(rng, n, 2), *c = reals(rng, n, 2), *g = l.all, *want = malloc(n * sizeof *want);
    k->map[RQ_MAP_SIGMOID](g, g, 3 * n, 0, 0);
    k->map[RQ_MAP_TANH](g + 3 * n, g + 3 * n, n, 0, 0);
    for (size_t j = 0; j < n; j++)
        want[j] = g[2 * n + j] * c[j] + g[j] * g[3 * n + j];
    k->lstm_cell(&(rq_lstm_cell) { n, l.g, h, c });
    assert_memory_equal(c, want, n * sizeof *c);
    k->map[RQ_MAP_TANH](want, want, n, 0, 0);
    for (size_t j = 0; j < n; j++)
        want[j] = g[n + j] * want[j];
    assert_memory_equal(h, want, n * sizeof *h);
    free_cell(&l), free(h), free(c), free(want);
}

/* h = (1 - z) k + z h */
static void mix(float *want, const float *z, const float *k, const float *h, size_t n)
{
    for (size_t j = 0; j < n; j++)
        want[j] = (1 - z[j]) * k[j] + z[j] * h[j];
}

static void check_gru(const rq_kernels *k, rq_rng *rng, size_t n, bool coded, bool with_bias)
{
    cell c = cell_of(rng, 3 * n, coded);
    float *h = reals(rng, n, 2), *bias = reals(rng, n, 2), *g = c.all, *want = malloc(n * sizeof *want);
    k->map[RQ_MAP_SIGMOID](g, g, 2 * n, 0, 0);
    for (size_t j = 0; j < n; j++) {
        const float v = with_bias ? c.state[2 * n + j] + bias[j] : c.state[2 * n + j];
        g[2 * n + j] = g[n + j] * v + c.g.x[2 * n + j];
    }
    k->map[RQ_MAP_TANH](g + 2 * n, g + 2 * n, n, 0, 0);
    mix(want, g, g + 2 * n, h, n);
    k->gru_cell(&(rq_gru_cell) { .n = n, .g = c.g, .bias = with_bias ? bias : NULL, .h = h });
    assert_memory_equal(h, want, n * sizeof *h);
    free_cell(&c), free(h), free(bias), free(want);
}

static void check_gru_halves(const rq_kernels *k, rq_rng *rng, size_t n, bool coded)
{
    cell zr = cell_of(rng, 2 * n, coded), last = cell_of(rng, n, coded);
    float *h = reals(rng, n, 2), *z = malloc(n * sizeof *z), *reset = malloc(n * sizeof *reset),
          *want = malloc(n * sizeof *want);
    k->map[RQ_MAP_SIGMOID](zr.all, zr.all, 2 * n, 0, 0);
    for (size_t j = 0; j < n; j++)
        want[j] = zr.all[n + j] * h[j];
    k->gru_reset(&(rq_gru_cell) { .n = n, .g = zr.g, .h = h, .z = z, .reset = reset });
    assert_memory_equal(z, zr.all, n * sizeof *z);
    assert_memory_equal(reset, want, n * sizeof *reset);
    k->map[RQ_MAP_TANH](last.all, last.all, n, 0, 0);
    mix(want, z, last.all, h, n);
    k->gru_update(&(rq_gru_cell) { .n = n, .g = last.g, .h = h, .z = z });
    assert_memory_equal(h, want, n * sizeof *h);
    free_cell(&zr), free_cell(&last), free(h), free(z), free(reset), free(want);
}

static void check_rnn(const rq_kernels *k, rq_rng *rng, size_t n, bool coded)
{
    cell c = cell_of(rng, n, coded);
    float *h = malloc(n * sizeof *h);
    k->map[RQ_MAP_TANH](c.all, c.all, n, 0, 0);
    k->rnn_cell(&(rq_rnn_cell) { n, c.g, h });
    assert_memory_equal(h, c.all, n * sizeof *h);
    free_cell(&c), free(h);
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
        for (int coded = 0; coded < 2; coded++) {
            check_lstm(k, rng, n, coded);
            check_gru(k, rng, n, coded, false);
            check_gru(k, rng, n, coded, true);
            check_gru_halves(k, rng, n, coded);
            check_rnn(k, rng, n, coded);
        }
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

static void cells_are_their_functions(void **state)
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
    const struct CMUnitTest tests[] = { cmocka_unit_test(sums_become_reals),
                                        cmocka_unit_test(cells_are_their_functions),
                                        cmocka_unit_test(few_rows_have_the_sums_of_products) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
