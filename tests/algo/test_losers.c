/* test_losers.c — which layers lose follows from times; what is kept in float is what --exclude would keep. Times are made up here: no clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "algo/losers.h"
#include "base/mem.h"
#include "requant/requant.h"

static const char model[] = "models/digits-cnn.onnx", samples[] = "models/digits-train.npz";

typedef struct world {
    rq_graph *original;
    rq_dataset *data;
    rq_ptq_cfg cfg;
} world;

static const int64_t rows[] = { 0, 1, 2, 3, 4, 5, 6, 7 };

static int setup(void **state)
{
    static world w;
    rq_err err = { 0 };
    w.cfg = rq_ptq_defaults();
    w.cfg.rows = rows;
    w.cfg.n_rows = 8;
    w.cfg.threads = 1;
    *state = &w;
    if (rq_load(&w.original, model, &err) ||
        rq_dataset_open(&w.data, samples, w.original, &(rq_dataset_cfg) { .batch = 8 }, &err)) {
        print_error("%s\n", err.text);
        return 1;
    }
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    rq_dataset_close(w->data);
    rq_graph_destroy(w->original);
    return 0;
}

static rq_bench_layer layer(const char *name, bool integer, double ms, bool slower)
{
    return (rq_bench_layer) {
        .name = (char *)name, .op = "Conv", .integer = integer, .ms = ms, .whole_ms = ms, .slower = slower
    };
}

static void the_worst_come_first_and_noise_does_not_count(void **state)
{
    const world *w = *state;
    rq_bench_layer ours[] = {
        layer("/0/Conv", true, 0.9, false),    /* faster */
        layer("/7/Conv", true, 0.304, true),   /* within the noise */
        layer("/3/Conv", true, 0.5, true),     /* loses 0.2 */
        layer("/12/Gemm", true, 0.0005, true), /* too small to matter */
        layer("nowhere", true, 5, true),       /* no node of the model */
        layer("/14/Gemm", true, 1.5, true),    /* loses 1.2 */
        layer("x", false, 1, false),
    };
    rq_bench_layer theirs[] = { layer("/0/Conv", false, 1, false),   layer("/7/Conv", false, 0.3, false),
                                layer("/3/Conv", false, 0.3, false), layer("/12/Gemm", false, 0.0001, false),
                                layer("nowhere", false, 1, false),   layer("/14/Gemm", false, 0.3, false) };
    const rq_bench b = { .model = { .layers = ours, .n_layers = 7 }, .against = { .layers = theirs, .n_layers = 6 } };
    rq_losers l;
    assert_int_equal(rq_losers_pick(&l, &b, w->original), RQ_OK);
    assert_int_equal(l.n, 2);
    assert_string_equal(l.item[0].name, "/14/Gemm");
    assert_string_equal(l.item[1].name, "/3/Conv");
    assert_true(l.item[0].int8_ms == 1.5 && l.item[0].float_ms == 0.3 && l.n_kept == 0);
    rq_losers_release(&l);
}

static rq_graph *quantized(const world *w, const rq_ptq_cfg *cfg)
{
    rq_err err = { 0 };
    rq_graph *g = NULL;
    if (rq_graph_copy(&g, w->original) || rq_ptq(g, w->data, cfg, NULL, &err))
        fail_msg("%s", err.text);
    return g;
}

static void assert_same_file(const rq_graph *a, const rq_graph *b)
{
    static const char *const path[] = { RQ_TEST_TMP "/losers_a.onnx", RQ_TEST_TMP "/losers_b.onnx" };
    rq_err err = { 0 };
    char x[4096], y[4096];
    FILE *f[2];
    for (int i = 0; i < 2; i++) {
        if (rq_save(i ? b : a, path[i], &err))
            fail_msg("%s", err.text);
        f[i] = fopen(path[i], "rb");
        assert_non_null(f[i]);
    }
    size_t n, m, all = 0;
    do {
        n = fread(x, 1, sizeof x, f[0]);
        m = fread(y, 1, sizeof y, f[1]);
        assert_int_equal(n, m);
        assert_memory_equal(x, y, n);
        all += n;
    } while (n);
    assert_true(all > 1000);
    fclose(f[0]), fclose(f[1]);
    remove(path[0]), remove(path[1]);
}

static void what_is_kept_is_what_exclude_keeps(void **state)
{
    const world *w = *state;
    rq_err err = { 0 };
    rq_loser item[] = { { .name = "/3/Conv" }, { .name = "/14/Gemm" }, { .name = "/0/Conv" } };
    const rq_losers l = { .item = item, .n = 3 };
    rq_graph *g = NULL;
    rq_ptq_cfg cfg = w->cfg, with = w->cfg;
    cfg.except = (const char *const[]) { "/12/Gemm", NULL }; /* what was excluded stays so */
    with.except = (const char *const[]) { "/12/Gemm", "/3/Conv", "/14/Gemm", NULL };
    if (rq_losers_quantize(&g, NULL, &l, 2, w->original, w->data, &cfg, &err))
        fail_msg("%s", err.text);
    rq_graph *want = quantized(w, &with);
    assert_same_file(g, want);
    rq_graph_destroy(want);
    rq_graph_destroy(g);
}

/* On whatever machine this is: the model that comes out is the one of the names that are said. */
static void the_whole_way(void **state)
{
    const world *w = *state;
    rq_err err = { 0 };
    rq_losers l;
    rq_notes notes = { 0 };
    rq_graph *g = quantized(w, &w->cfg);
    if (rq_ptq_keep_losers(&l, &g, w->original, w->data, &w->cfg, &notes, &err))
        fail_msg("%s", err.text);
    assert_true(l.n_kept <= l.n && (!l.n_kept || l.float_ms < l.int8_ms));
    const char *except[64] = { NULL };
    for (int i = 0; i < l.n_kept && i < 63; i++)
        except[i] = l.item[i].name;
    rq_ptq_cfg with = w->cfg;
    with.except = except;
    rq_graph *want = quantized(w, &with);
    assert_same_file(g, want);
    assert_int_equal(rq_losers_note(&l, &notes), RQ_OK);
    assert_true(notes.n >= 1);
    rq_notes_release(&notes);
    rq_losers_release(&l);
    rq_graph_destroy(want);
    rq_graph_destroy(g);
}

/* Layers are said to have lost, and the worst of them are put in float. */
static rq_status pick_and_quantize(const world *w, rq_err *err)
{
    rq_bench_layer ours[] = { layer("/3/Conv", true, 0.5, true), layer("/14/Gemm", true, 1.5, true) };
    rq_bench_layer theirs[] = { layer("/3/Conv", false, 0.3, false), layer("/14/Gemm", false, 0.3, false) };
    const rq_bench b = { .model = { .layers = ours, .n_layers = 2 }, .against = { .layers = theirs, .n_layers = 2 } };
    rq_losers l;
    rq_notes notes = { 0 };
    rq_graph *g = NULL;
    RQ_TRY(rq_losers_pick(&l, &b, w->original));
    assert_int_equal(l.n, 2);
    rq_status st = rq_losers_quantize(&g, &notes, &l, 2, w->original, w->data, &w->cfg, err);
    if (!st)
        st = rq_losers_note(&l, &notes);
    rq_notes_release(&notes);
    rq_losers_release(&l);
    rq_graph_destroy(g);
    return st;
}

/* The whole way, one run of each model; the graph is the caller's afterwards, whatever happened. */
static rq_status keep(const world *w, rq_err *err)
{
    static rq_graph *g; /* stays from call to call: what is in the end is one of two */
    rq_losers l = { 0 };
    rq_notes notes = { 0 };
    if (!w) {
        rq_graph_destroy(g);
        g = NULL;
        return RQ_OK;
    }
    if (!g)
        g = quantized(w, &w->cfg);
    rq_graph *mine = NULL;
    rq_status st = rq_graph_copy(&mine, g);
    if (!st) {
        const rq_graph *was = mine;
        st = rq_losers_keep(&l, &mine, w->original, w->data, &w->cfg, 1, &notes, err);
        assert_non_null(mine);
        assert_true(!st || mine == was);
        assert_true(!st || (!l.item && !l.n));
    }
    rq_notes_release(&notes);
    rq_losers_release(&l);
    rq_graph_destroy(mine);
    return st;
}

static void any_allocation_may_fail(void **state)
{
    rq_status (*const ways[])(const world *, rq_err *) = { pick_and_quantize, keep };
    enum { TRIES = 150 }; /* of each */
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        rq_err err = { 0 };
        assert_int_equal(ways[i](*state, &err), RQ_OK); /* what is made once */
        const size_t before = rq_mem_live();
        rq_mem_fail_after(0, false);
        assert_int_equal(ways[i](*state, &err), RQ_OK);
        const size_t all = rq_mem_fail_after(0, false), step = all / TRIES + 1;
        assert_int_equal(rq_mem_live(), before);
        int refused = 0;
        for (size_t n = 1; n <= all; n += step) {
            rq_mem_fail_after(n, n % 2);
            const rq_status st = ways[i](*state, &err);
            rq_mem_fail_after(0, false);
            assert_true(st == RQ_OK || st == RQ_NO_MEMORY);
            refused += st == RQ_NO_MEMORY;
            assert_int_equal(rq_mem_live(), before);
        }
        assert_true(refused > 0);
    }
    keep(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_worst_come_first_and_noise_does_not_count),
        cmocka_unit_test(what_is_kept_is_what_exclude_keeps),
        cmocka_unit_test(the_whole_way),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
