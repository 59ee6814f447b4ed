/* Tables of weights and masks of weights as arrays: what is exact must be exact, optima are compared with trying everything, groups and
 * clusters with vectors of coremltools' documentation and tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "coreml/palette.h"
#include "coreml/prune.h"
#include "ok.h"
#include "tensor/convert.h"

static rq_palette palette_of(const float *data, int64_t outer, int64_t channels, int64_t inner, rq_coreml_palette mode,
                             int nbits)
{
    return (rq_palette) { .data = data,
                          .dtype = RQ_DTYPE_F32,
                          .outer = outer,
                          .channels = channels,
                          .inner = inner,
                          .cluster = 1,
                          .mode = mode,
                          .nbits = nbits };
}

static void make(rq_palette *p)
{
    char why[RQ_PALETTE_WHY];
    OK(rq_palette_make(p, why, &err));
    assert_string_equal(why, "");
}

/* Sum of squared differences between a weight and what its indices decode to. */
static double error_of(const rq_palette *p)
{
    const int64_t vectors = p->channels / p->cluster, n = p->outer * vectors * p->inner;
    uint8_t *index = rq_mem_alloc((size_t)n, 1);
    assert_non_null(index);
    rq_palette_indices(p, index, 0, n);
    double total = 0;
    for (int64_t e = 0; e < n; e++) {
        const int64_t i = e % p->inner, c = e / p->inner % vectors, o = e / p->inner / vectors;
        const int64_t g = c * p->cluster / p->group;
        for (int64_t j = 0; j < p->cluster; j++) {
            const float *w = p->data;
            const double d = w[(o * p->channels + c * p->cluster + j) * p->inner + i] -
                             p->table[((g << p->nbits) + index[e]) * p->cluster + j];
            total += d * d;
        }
    }
    rq_mem_free(index);
    return total;
}

static void a_table_that_fits_is_exact(void **state)
{
    static const int64_t sizes[] = { 1, 10, 40, 189, 4913 };
    static const int nbits[] = { 1, 2, 4, 6, 8 };
    static float w[4913];
    for (int s = 0; s < 5; s++)
        for (int b = 0; b < 5; b++)
            for (int mode = 0; mode < 3; mode++) {
                for (int64_t i = 0; i < sizes[s]; i++)
                    w[i] = (float)(i % (1 << nbits[b]));
                if (mode == RQ_COREML_UNIFORM && sizes[s] < 1 << nbits[b])
                    continue;
                rq_palette p = palette_of(w, 1, 1, sizes[s], (rq_coreml_palette)mode, nbits[b]);
                make(&p);
                assert_true(error_of(&p) == 0);
                rq_palette_release(&p);
            }
    (void)state;
}

static void groups_have_tables_of_their_own(void **state)
{
    float w[16];
    for (int i = 0; i < 16; i++)
        w[i] = (float)i;
    static const float lut[2][2][8] = { { { 0, 1, 2, 3, 4, 5, 6, 7 }, { 8, 9, 10, 11, 12, 13, 14, 15 } },
                                        { { 0, 1, 4, 5, 8, 9, 12, 13 }, { 2, 3, 6, 7, 10, 11, 14, 15 } } };
    static const uint8_t index[2][16] = { { 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7 },
                                          { 0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7 } };
    for (int axis = 0; axis < 2; axis++) {
        rq_palette p = palette_of(w, axis ? 4 : 1, 4, axis ? 1 : 4, RQ_COREML_UNIQUE, 0);
        p.group = 2;
        make(&p);
        assert_int_equal(p.nbits, 3);
        assert_memory_equal(p.table, lut[axis], sizeof lut[axis]);
        uint8_t got[16];
        rq_palette_indices(&p, got, 0, 7); /* any cut gives the same */
        rq_palette_indices(&p, got + 7, 7, 9);
        assert_memory_equal(got, index[axis], 16);
        rq_palette_release(&p);
    }
    (void)state;
}

/* The least error over all ways to cut sorted numbers into k runs. */
static double best_error(const float *v, int n, int k)
{
    static double f[2][64];
    for (int i = 0; i <= n; i++)
        f[0][i] = i ? INFINITY : 0;
    for (int c = 0; c < k; c++) {
        double *now = f[(c + 1) % 2];
        const double *before = f[c % 2];
        for (int i = 0; i <= n; i++) {
            now[i] = before[i];
            for (int j = 0; j < i; j++) {
                double mean = 0, e = 0;
                for (int t = j; t < i; t++)
                    mean += v[t];
                mean /= i - j;
                for (int t = j; t < i; t++)
                    e += (v[t] - mean) * (v[t] - mean);
                now[i] = before[j] + e < now[i] ? before[j] + e : now[i];
            }
        }
    }
    return f[k % 2][n];
}

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void tables_of_numbers_are_optimal(void **state)
{
    rq_rng r;
    rq_rng_seed(&r, 5);
    for (int round = 0; round < 60; round++) {
        float w[48], sorted[48];
        const int n = 3 + (int)rq_rng_below(&r, 46);
        for (int i = 0; i < n; i++)
            w[i] = round % 3 ? rq_rng_f32(&r) * rq_rng_f32(&r) - 0.3f : (float)rq_rng_below(&r, 12);
        memcpy(sorted, w, sizeof w);
        qsort(sorted, (size_t)n, sizeof *sorted, ascending);
        for (int nbits = 1; nbits <= 4; nbits++) {
            rq_palette p = palette_of(w, 1, 1, n, RQ_COREML_KMEANS, nbits);
            make(&p);
            const double got = error_of(&p), want = best_error(sorted, n, 1 << nbits);
            if (!(got <= want * (1 + 1e-5) + 1e-9))
                fail_msg("round %d, %d numbers, %d bits: error %g, the least is %g", round, n, nbits, got, want);
            rq_palette_release(&p);
        }
    }
    (void)state;
}

/* More distinct numbers than the exact way takes, with one far out: as good as rounding them to fp16 first lets it be. */
static void many_numbers_are_as_good_as_few(void **state)
{
    enum { N = 200000 };
    float *w = rq_mem_alloc(N, sizeof *w);
    uint16_t *h = rq_mem_alloc(N, sizeof *h);
    assert_true(w && h);
    rq_rng r;
    rq_rng_seed(&r, 11);
    for (int i = 0; i < N; i++) {
        w[i] = rq_rng_f32(&r) + rq_rng_f32(&r) + rq_rng_f32(&r) - 1.5f;
        h[i] = rq_convert_f32_to_f16(w[i]);
    }
    w[7] = 1e4f, h[7] = rq_convert_f32_to_f16(1e4f);
    for (int nbits = 2; nbits <= 6; nbits += 2) {
        rq_palette p = palette_of(w, 1, 1, N, RQ_COREML_KMEANS, nbits), q = p;
        q.data = h, q.dtype = RQ_DTYPE_F16;
        make(&p);
        make(&q);
        q.data = w, q.dtype = RQ_DTYPE_F32; /* the table of rounded numbers, for the same numbers */
        const double got = error_of(&p), rounded = error_of(&q);
        if (!(got <= rounded * 1.0005))
            fail_msg("%d bits: error %g, of the table of rounded numbers %g", nbits, got, rounded);
        rq_palette_release(&p);
        rq_palette_release(&q);
    }
    rq_mem_free(w);
    rq_mem_free(h);
    (void)state;
}

static void vectors_are_clustered(void **state)
{
    /* 4 clouds in the plane along channels: their centres are the table */
    static const float centre[4][2] = { { -3, 1 }, { 2, 2 }, { 0, -4 }, { 5, -1 } };
    float w[8 * 64];
    rq_rng r;
    rq_rng_seed(&r, 3);
    for (int c = 0; c < 4; c++)
        for (int i = 0; i < 64; i++)
            for (int j = 0; j < 2; j++)
                w[(2 * c + j) * 64 + i] = centre[(c + i) % 4][j] + 0.01f * (rq_rng_f32(&r) - 0.5f);
    rq_palette p = palette_of(w, 1, 8, 64, RQ_COREML_KMEANS, 2);
    p.cluster = 2;
    make(&p);
    assert_true(error_of(&p) < 8 * 64 * 0.005 * 0.005);
    uint8_t index[256];
    rq_palette_indices(&p, index, 0, 256);
    for (int e = 0; e < 256; e++)
        for (int j = 0; j < 2; j++)
            assert_true(fabsf(p.table[index[e] * 2 + j] - centre[(e / 64 + e) % 4][j]) < 0.01f);
    rq_palette_release(&p);
    p.mode = RQ_COREML_UNIQUE;
    char why[RQ_PALETTE_WHY];
    p.nbits = 0;
    OK(rq_palette_make(&p, why, &err));
    assert_string_equal(why, ""); /* 256 vectors */
    assert_int_equal(p.nbits, 8);
    assert_true(error_of(&p) == 0);
    rq_palette_release(&p);
    (void)state;
}

static void what_cannot_be_said(void **state)
{
    float w[512];
    for (int i = 0; i < 512; i++)
        w[i] = (float)i;
    char why[RQ_PALETTE_WHY];
    rq_palette p = palette_of(w, 1, 2, 256, RQ_COREML_UNIQUE, 0);
    OK(rq_palette_make(&p, why, &err));
    assert_string_equal(why, "Unique values in weight cannot be represented by 8 bits palettization.");
    rq_palette_release(&p);
    p = palette_of(w, 1, 2, 256, RQ_COREML_KMEANS, 5);
    assert_int_equal(rq_palette_make(&p, why, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "Invalid nbits."));
    rq_palette_release(&p);
    p = palette_of(w, 1, 2, 256, RQ_COREML_UNIFORM, 4);
    p.cluster = 2;
    assert_int_equal(rq_palette_make(&p, why, &err), RQ_BAD_ARG);
    w[3] = INFINITY;
    p = palette_of(w, 1, 2, 256, RQ_COREML_KMEANS, 4);
    OK(rq_palette_make(&p, why, &err));
    assert_string_equal(why, "it has values that are not finite");
    rq_palette_release(&p);
    (void)state;
}

static void check_mask(const float *w, int64_t rows, int64_t cols, const rq_coreml_op_config *c, const float *want)
{
    const int64_t dim[2] = { rows, cols };
    rq_prune p = { .data = w, .dtype = RQ_DTYPE_F32, .rank = 2, .dim = dim };
    char why[RQ_PRUNE_WHY];
    OK(rq_prune_make(&p, c, why, &err));
    assert_string_equal(why, "");
    int64_t kept = 0;
    for (int64_t i = 0; i < rows * cols; i++) {
        assert_true((rq_prune_stays(&p, i) ? w[i] : 0) == want[i]);
        kept += want[i] != 0;
    }
    assert_int_equal(p.kept, kept);
    rq_prune_release(&p);
}

static const float matrix[16] = { 1, 3, 4, -3, -6, -7, 2, 4, 0, 3, 4, 1, -9, 2, -1, 8 };

static void blocks_go_by_their_norm(void **state)
{
    static const float w[12] = { 1, 3, 4, -6, -7, 2, 0, 3, 4, -9, 2, -1 };
    static const float want[12] = { 1, 3, 0, -6, -7, 0, 0, 0, 0, -9, 0, 0 };
    rq_coreml_op_config c = rq_coreml_op_config_defaults(RQ_COREML_MAGNITUDE_PRUNER);
    c.target_sparsity = 0.5;
    c.block = 2;
    c.dim = 0;
    check_mask(w, 4, 3, &c, want);
    (void)state;
}

static void n_of_every_m_go(void **state)
{
    static const float want[16] = { 0, 3, 4, 0, 0, -7, 0, 4, 0, 3, 4, 0, -9, 0, 0, 8 };
    rq_coreml_op_config c = rq_coreml_op_config_defaults(RQ_COREML_MAGNITUDE_PRUNER);
    c.n_m_ratio[0] = 1, c.n_m_ratio[1] = 2;
    c.dim = 1;
    check_mask(matrix, 4, 4, &c, want);
    (void)state;
}

static void magnitudes_go_by_quantile(void **state)
{
    rq_coreml_op_config c = rq_coreml_op_config_defaults(RQ_COREML_MAGNITUDE_PRUNER);
    c.target_sparsity = 0;
    check_mask(matrix, 4, 4, &c, matrix);
    c.target_sparsity = 1;
    check_mask(matrix, 4, 4, &c, (const float[16]) { 0 });
    enum { N = 10800 };
    static float w[N];
    rq_rng r;
    rq_rng_seed(&r, 1);
    for (int i = 0; i < N; i++)
        w[i] = rq_rng_f32(&r) - 0.5f;
    const int64_t dim[1] = { N };
    static const struct {
        double share;
        int64_t least, most;
    } cases[] = { { 0.9, 1080, 1080 }, { 0.5, 5400, 5400 }, { 0.2, 8640, 8640 } };
    for (int i = 0; i < 3; i++) {
        rq_prune p = { .data = w, .dtype = RQ_DTYPE_F32, .rank = 1, .dim = dim };
        char why[RQ_PRUNE_WHY];
        c.target_sparsity = cases[i].share;
        OK(rq_prune_make(&p, &c, why, &err));
        assert_in_range(p.kept, cases[i].least, cases[i].most);
        float least = 1, most = 0; /* of those that stay, of those that go */
        for (int k = 0; k < N; k++) {
            if (rq_prune_stays(&p, k))
                least = fabsf(w[k]) < least ? fabsf(w[k]) : least;
            else
                most = fabsf(w[k]) > most ? fabsf(w[k]) : most;
        }
        assert_true(most < least);
        rq_prune_release(&p);
    }
    (void)state;
}

static void thresholds_need_enough_zeros(void **state)
{
    float w[100];
    for (int sparsity = 10; sparsity <= 90; sparsity += 40)
        for (int least = 0; least < 8; least += 3) {
            for (int i = 0; i < 100; i++)
                w[i] = i < sparsity ? 0.001f : 1;
            rq_coreml_op_config c = rq_coreml_op_config_defaults(RQ_COREML_THRESHOLD_PRUNER);
            c.threshold = 0.01;
            c.minimum_sparsity_percentile = least / 10.0;
            const int64_t dim[2] = { 10, 10 };
            rq_prune p = { .data = w, .dtype = RQ_DTYPE_F32, .rank = 2, .dim = dim };
            char why[RQ_PRUNE_WHY];
            OK(rq_prune_make(&p, &c, why, &err));
            assert_int_equal(*why == '\0', least * 10 <= sparsity);
            assert_int_equal(p.kept, 100 - sparsity);
            rq_prune_release(&p);
        }
    (void)state;
}

static void each_allocation_may_fail(void **state)
{
    float w[96];
    for (int i = 0; i < 96; i++)
        w[i] = (float)(i * 37 % 61);
    rq_coreml_op_config c = rq_coreml_op_config_defaults(RQ_COREML_MAGNITUDE_PRUNER);
    for (int what = 0; what < 6; what++) {
        rq_status s = RQ_NO_MEMORY;
        for (size_t n = 1; s; n++) {
            char why[RQ_PALETTE_WHY];
            const int64_t dim[2] = { 8, 12 };
            rq_palette p = palette_of(w, 1, 8, 12, what == 3 ? RQ_COREML_KMEANS : (rq_coreml_palette)(what % 3), 2);
            rq_prune q = { .data = w, .dtype = RQ_DTYPE_F32, .rank = 2, .dim = dim };
            p.cluster = what == 3 ? 2 : 1;
            c.target_sparsity = 0.5;
            c.n_m_ratio[1] = what == 5 ? 4 : 0;
            const size_t before = rq_mem_live();
            rq_mem_fail_after(n, true);
            s = what < 4 ? rq_palette_make(&p, why, &err) : rq_prune_make(&q, &c, why, &err);
            rq_mem_fail_after(0, false);
            rq_palette_release(&p);
            rq_prune_release(&q);
            assert_true(s == RQ_OK || s == RQ_NO_MEMORY);
            assert_int_equal(rq_mem_live(), before);
            assert_true(n < 100);
        }
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_that_fits_is_exact),    cmocka_unit_test(groups_have_tables_of_their_own),
        cmocka_unit_test(tables_of_numbers_are_optimal), cmocka_unit_test(many_numbers_are_as_good_as_few),
        cmocka_unit_test(vectors_are_clustered),         cmocka_unit_test(what_cannot_be_said),
        cmocka_unit_test(blocks_go_by_their_norm),       cmocka_unit_test(n_of_every_m_go),
        cmocka_unit_test(magnitudes_go_by_quantile),     cmocka_unit_test(thresholds_need_enough_zeros),
        cmocka_unit_test(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
