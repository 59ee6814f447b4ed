/* Post-training quantization of the digit nets in models/, and what happens when it must not or cannot. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/equalize.h"
#include "fold/fold.h"
#include "base/mem.h"
#include "graph/graph.h"
#include "ok.h"
#include "ops/op.h"
#include "requant/requant.h"

static rq_graph *load(const char *path)
{
    rq_graph *g;
    OK(rq_load(&g, path, &err));
    return g;
}

static rq_dataset *data_of(const rq_graph *g, const char *path)
{
    rq_dataset *d;
    OK(rq_dataset_open(&d, path, g, NULL, &err));
    return d;
}

/* Share of right answers over the test digits. */
static double accuracy(const rq_graph *g)
{
    rq_eval e;
    const rq_report_cfg cfg = { .threads = 1 };
    rq_dataset *d = data_of(g, "models/digits-test.npz");
    OK(rq_eval_run(&e, g, d, &cfg, &err));
    double a = e.accuracy;
    rq_eval_release(&e);
    rq_dataset_close(d);
    return a;
}

static void digits_lose_next_to_nothing(void **state)
{
    static const char *const nets[] = { "models/digits-cnn.onnx", "models/digits-uneven.onnx" };
    for (int n = 0; n < 2; n++)
        for (int m = 0; m < RQ_N_METHODS; m++) {
            rq_graph *g = load(nets[n]);
            rq_dataset *d = data_of(g, "models/digits-train.npz");
            rq_ptq_cfg cfg = rq_ptq_defaults();
            rq_notes notes = { 0 };
            int64_t rows[256];
            for (int i = 0; i < 256; i++)
                rows[i] = i;
            const double before = accuracy(g);
            cfg.settings.method = (rq_method)m;
            cfg.threads = 1;
            cfg.rows = rows;
            cfg.n_rows = 256;
            OK(rq_ptq(g, d, &cfg, &notes, &err));
            assert_true(rq_graph_is_quantized(g));
            const double after = accuracy(g);
            if (!(after >= before - 0.004))
                fail_msg("%s by %s: %.4f instead of %.4f", nets[n], rq_method_name((rq_method)m), after, before);
            bool equalized = false;
            for (int i = 0; i < notes.n; i++)
                equalized |= strstr(notes.text[i], "equalized") != NULL;
            assert_true(equalized == (n == 1));
            rq_notes_release(&notes);
            rq_dataset_close(d);
            rq_graph_destroy(g);
        }
}

/* Equalizing by powers of two changes no bit of the float model. */
static void equalizing_keeps_the_function(void **state)
{
    rq_graph *g = load("models/digits-uneven.onnx"), *e;
    rq_equalize_pair *pairs;
    int n;
    rq_ops_bind(g);
    OK(rq_fold_graph(g, NULL, &err));
    rq_ops_bind(g);
    OK(rq_ops_infer(g, &err));
    assert_int_equal(rq_graph_copy(&e, g), RQ_OK);
    rq_ops_bind(e);
    OK(rq_equalize_find(e, &pairs, &n, &err));
    assert_true(n >= 8);
    for (int i = 0; i < n; i++) {
        double reach[512], s[512];
        assert_true(pairs[i].channels <= 512);
        for (int64_t c = 0; c < pairs[i].channels; c++)
            reach[c] = c == 0 ? 0 : exp2((double)(c * 7 % 11) - 5); /* channel 0 sleeps */
        const double spread = rq_equalize_factors(e, &pairs[i], reach, s);
        assert_true(spread > 4 && s[0] == 1);
        for (int64_t c = 0; c < pairs[i].channels; c++)
            assert_true(s[c] == exp2(rint(log2(s[c]))));
        OK(rq_equalize_apply(e, &pairs[i], s, &err));
    }
    rq_mem_free(pairs);
    rq_dataset *d = data_of(g, "models/digits-test.npz");
    rq_session *a, *b;
    const rq_session_cfg cfg = { .threads = 1 };
    OK(rq_session_create(&a, g, &cfg, &err));
    OK(rq_session_create(&b, e, &cfg, &err));
    int64_t rows[16];
    for (int i = 0; i < 16; i++)
        rows[i] = i;
    const rq_feed *feeds;
    int n_feeds;
    rq_tensor x, y;
    OK(rq_dataset_read(d, rows, 16, &feeds, &n_feeds, &err));
    OK(rq_session_run(a, feeds, n_feeds, &x, &err));
    OK(rq_session_run(b, feeds, n_feeds, &y, &err));
    assert_int_equal(x.bytes, y.bytes);
    for (int64_t i = 0; i < rq_tensor_count(&x); i++)
        assert_true(x.f32[i] == y.f32[i]);
    rq_tensor_release(&x);
    rq_tensor_release(&y);
    rq_session_destroy(a);
    rq_session_destroy(b);
    rq_dataset_close(d);
    rq_graph_destroy(g);
    rq_graph_destroy(e);
}

static char *text_of(const rq_graph *g)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    OK(rq_graph_print(g, f));
    fclose(f);
    return text;
}

static bool cancel_at(void *arg, const char *phase, int64_t done, int64_t total, double eta_s)
{
    (void)phase, (void)total, (void)eta_s;
    return done < *(int64_t *)arg;
}

static void an_error_leaves_the_graph_as_it_was(void **state)
{
    rq_graph *g = load("models/digits-cnn.onnx");
    rq_dataset *d = data_of(g, "models/digits-train.npz");
    rq_ptq_cfg cfg = rq_ptq_defaults();
    int64_t stop = 48;
    char *before = text_of(g), *after;
    cfg.threads = 1;
    cfg.progress = cancel_at;
    cfg.progress_arg = &stop;
    assert_int_equal(rq_ptq(g, d, &cfg, NULL, &err), RQ_CANCELLED);
    after = text_of(g);
    assert_string_equal(before, after);
    free(after);

    cfg.progress = NULL;
    int64_t rows[32];
    for (int i = 0; i < 32; i++)
        rows[i] = i;
    cfg.rows = rows;
    cfg.n_rows = 32;
    size_t live = rq_mem_live();
    bool done = false;
    for (size_t n = 1; !done; n += n < 200 ? 7 : 61) { /* every allocation: tests/oom */
        rq_mem_fail_after(n, true);
        rq_status s = rq_ptq(g, d, &cfg, NULL, &err);
        rq_mem_fail_after(0, false);
        done = s == RQ_OK;
        if (done)
            break;
        assert_int_equal(s, RQ_NO_MEMORY);
        after = text_of(g);
        assert_string_equal(before, after);
        free(after);
        assert_true(rq_mem_live() <= live + (1 << 20)); /* the dataset may keep its buffers */
        assert_true(n < 100000);
    }
    assert_int_equal(rq_ptq(g, d, &cfg, NULL, &err), RQ_BAD_GRAPH);
    assert_non_null(strstr(err.text, "quantized already"));
    free(before);
    rq_dataset_close(d);
    rq_graph_destroy(g);
}

/* The same input and options give the same bits, whatever the number of threads. */
static void results_do_not_depend_on_threads(void **state)
{
    char *text[2];
    for (int k = 0; k < 2; k++) {
        rq_graph *g = load("models/digits-cnn.onnx");
        rq_dataset *d;
        const rq_dataset_cfg batches = { .batch = 30 };
        OK(rq_dataset_open(&d, "models/digits-test.npz", g, &batches, &err));
        rq_ptq_cfg cfg = rq_ptq_defaults();
        cfg.threads = k + 1;
        OK(rq_ptq(g, d, &cfg, NULL, &err));
        const rq_qparams *q = rq_graph_qparams(g, rq_graph_find(g, "image"));
        assert_true(q && q->scale[0] == 1 / 255.0f && q->zero_point[0] == 0);
        text[k] = text_of(g);
        rq_dataset_close(d);
        rq_graph_destroy(g);
    }
    assert_string_equal(text[0], text[1]);
    free(text[0]);
    free(text[1]);
}

/* A moving average is defined by the batches it sees: they are the caller's, whoever asked for it. */
static void a_rule_that_averages_keeps_the_batches(void **state)
{
    static const char *const names[] = { "ema", "average" };
    static const rq_method methods[] = { RQ_METHOD_EMA, RQ_METHOD_AVERAGE };
    enum { MANY = 6000, LARGE = 3000 }; /* a batch too large to be run at once by those who may choose */
    const rq_shape shape = rq_shape_of(4, (const int64_t[]) { MANY, 1, 8, 8 });
    rq_feed feed = { .name = "image" };
    assert_int_equal(rq_tensor_create(&feed.tensor, RQ_DTYPE_F32, &shape, false), RQ_OK);
    for (int i = 0; i < MANY * 64; i++)
        feed.tensor.f32[i] = (float)(i * 37 % 1009) * (float)(1 + i / (64 * 500)) / 1e4f;
    OK(rq_npz_save(RQ_TEST_TMP "/many.npz", &feed, 1, &err));
    rq_tensor_release(&feed.tensor);
    for (int i = 0; i < 2; i++) {
        char *text[2];
        double ends[2][2];
        for (int by_rule = 0; by_rule < 2; by_rule++) {
            rq_graph *g = load("models/digits-cnn.onnx");
            rq_dataset *d;
            const rq_dataset_cfg batches = { .batch = LARGE };
            OK(rq_dataset_open(&d, RQ_TEST_TMP "/many.npz", g, &batches, &err));
            rq_ptq_cfg cfg = rq_ptq_defaults();
            rq_recipe *r = NULL;
            rq_ranges *ranges;
            cfg.threads = 1;
            cfg.settings.method = by_rule ? RQ_METHOD_MINMAX : methods[i];
            if (by_rule) {
                FILE *f = fopen(RQ_TEST_TMP "/average.yaml", "w");
                fprintf(f, "rules:\n  - match: {tensor: '*'}\n    set: {method: %s}\n", names[i]);
                fclose(f);
                OK(rq_recipe_load(&r, RQ_TEST_TMP "/average.yaml", &err));
                cfg.recipe = r;
            }
            OK(rq_calibrate(&ranges, g, d, &cfg, NULL, &err));
            ends[by_rule][0] = ends[by_rule][1] = 0;
            for (int k = 0; k < rq_ranges_count(ranges); k++) {
                const rq_range_info *info = rq_ranges_at(ranges, k);
                ends[by_rule][0] += info->lo * (k + 1), ends[by_rule][1] += info->hi * (k + 1);
            }
            OK(rq_ptq(g, d, &cfg, NULL, &err));
            text[by_rule] = text_of(g);
            rq_ranges_destroy(ranges);
            rq_recipe_destroy(r);
            rq_dataset_close(d);
            rq_graph_destroy(g);
        }
        assert_string_equal(text[0], text[1]);
        assert_memory_equal(ends[0], ends[1], sizeof ends[0]);
        free(text[0]);
        free(text[1]);
    }
}

/* ---- observers of the program ---- */

static void *extremes_create(void *user)
{
    double *r = malloc(2 * sizeof *r);
    (*(int *)user)++;
    r[0] = r[1] = 0;
    return r;
}

static rq_status extremes_update(void *state, const float *x, size_t n)
{
    double *r = state;
    for (size_t i = 0; i < n; i++)
        r[0] = fmin(r[0], x[i]), r[1] = fmax(r[1], x[i]);
    return RQ_OK;
}

static rq_status extremes_range(void *state, double *lo, double *hi)
{
    const double *r = state;
    *lo = r[0], *hi = r[1];
    return RQ_OK;
}

static rq_status both_range(void *state, double *lo, double *hi)
{
    const double *r = state;
    *hi = fmax(-r[0], r[1]), *lo = -*hi;
    return RQ_OK;
}

static rq_status extremes_collect(void *state, const float *x, const rq_shape *shape)
{
    return extremes_update(state, x, (size_t)rq_shape_count(shape));
}

static rq_status extremes_amax(void *state, double *amax)
{
    double lo;
    return both_range(state, &lo, amax);
}

static int states_alive;
static void extremes_destroy(void *state)
{
    states_alive--;
    free(state);
}

static rq_status choose_extremes(void *user, const rq_own_counts *c, int levels, bool symmetric, double *lo, double *hi)
{
    uint64_t sum = 0;
    for (int i = 0; i < c->n; i++)
        sum += c->count[i];
    assert_true(levels == 256 && !symmetric && (!c->n || sum == c->total));
    assert_true(!c->n || (c->first <= c->lo && c->first + c->n * c->width >= c->hi));
    *lo = c->lo, *hi = c->hi;
    return RQ_OK;
}

static rq_status fail_to_choose(void *user, const rq_own_counts *c, int levels, bool symmetric, double *lo, double *hi)
{
    return RQ_NUMERIC;
}

static rq_graph *quantized_by(const char *observer, const char *recipe, rq_status want)
{
    const rq_own_observer mine[] = {
        { "extremes", extremes_create, extremes_update, extremes_range, extremes_destroy, NULL, &states_alive },
        { .name = "counted", .choose = choose_extremes },
        { .name = "broken", .choose = fail_to_choose },
        { "both", extremes_create, extremes_update, both_range, extremes_destroy, NULL, &states_alive },
    };
    const rq_own_calibrator amax = { "amax", extremes_create,  extremes_collect, extremes_amax,
                                     NULL,   extremes_destroy, &states_alive };
    rq_graph *g = load("models/digits-cnn.onnx");
    rq_dataset *d = data_of(g, "models/digits-train.npz");
    rq_ptq_cfg cfg = rq_ptq_defaults();
    rq_own *own;
    rq_recipe *r = NULL;
    int64_t rows[64];
    for (int i = 0; i < 64; i++)
        rows[i] = i;
    assert_int_equal(rq_own_create(&own), RQ_OK);
    for (int i = 0; i < 4; i++)
        OK(rq_own_add_observer(own, &mine[i], &err));
    OK(rq_own_add_calibrator(own, &amax, &err));
    assert_int_equal(rq_own_add_observer(own, &mine[0], &err), RQ_BAD_ARG);
    assert_int_equal(rq_own_add_observer(own, &(rq_own_observer) { .name = "half", .create = extremes_create }, &err),
                     RQ_BAD_ARG);
    OK(rq_own_attach(g, own, &err));
    rq_own_unref(&own);
    cfg.rows = rows, cfg.n_rows = 64, cfg.threads = 1;
    cfg.settings.method = RQ_METHOD_MINMAX;
    cfg.settings.observer = observer;
    if (recipe) {
        FILE *f = fopen(RQ_TEST_TMP "/observer.yaml", "w");
        fputs(recipe, f);
        fclose(f);
        OK(rq_recipe_load(&r, RQ_TEST_TMP "/observer.yaml", &err));
        rq_recipe_apply_global(r, &cfg.settings, NULL);
        cfg.recipe = r;
    }
    assert_int_equal(rq_ptq(g, d, &cfg, NULL, &err), want);
    rq_recipe_destroy(r);
    rq_dataset_close(d);
    assert_int_equal(states_alive, 0);
    return g;
}

static void an_own_observer_that_takes_extremes_is_minmax(void **state)
{
    rq_graph *want = quantized_by(NULL, NULL, RQ_OK);
    rq_graph *a = quantized_by("extremes", NULL, RQ_OK), *b = quantized_by("counted", NULL, RQ_OK),
             *c = quantized_by(NULL, "rules:\n  - match: {type: Conv}\n    set: {observer: counted}\n", RQ_OK);
    int n = 0;
    for (int v = 0; v < want->n_values; v++) {
        const rq_qparams *q = rq_graph_qparams(want, v);
        assert_string_equal(want->values[v].name, a->values[v].name);
        if (!q)
            continue;
        n++;
        assert_true(rq_qparams_equal(q, rq_graph_qparams(a, v)));
        assert_true(rq_qparams_equal(q, rq_graph_qparams(b, v)));
        assert_true(rq_qparams_equal(q, rq_graph_qparams(c, v)));
    }
    assert_true(n > 5);
    rq_graph_destroy(want);
    rq_graph_destroy(a);
    rq_graph_destroy(b);
    rq_graph_destroy(c);
}

static void an_own_calibrator_is_the_range_on_both_sides(void **state)
{
    rq_graph *want = quantized_by("both", NULL, RQ_OK);
    rq_graph *a = quantized_by("amax", NULL, RQ_OK),
             *b = quantized_by(NULL, "rules:\n  - match: {type: Conv}\n    set: {observer: amax}\n", RQ_OK),
             *c = quantized_by(NULL, "rules:\n  - match: {type: Conv}\n    set: {observer: both}\n", RQ_OK);
    int n = 0, other = 0;
    for (int v = 0; v < want->n_values; v++) {
        const rq_qparams *q = rq_graph_qparams(want, v);
        assert_string_equal(want->values[v].name, a->values[v].name);
        n += q != NULL;
        assert_true(!q || rq_qparams_equal(q, rq_graph_qparams(a, v)));
    }
    assert_int_equal(b->n_values, c->n_values);
    for (int v = 0; v < b->n_values; v++) {
        const rq_qparams *q = rq_graph_qparams(b, v);
        assert_string_equal(b->values[v].name, c->values[v].name);
        assert_true(!q || rq_qparams_equal(q, rq_graph_qparams(c, v)));
        for (int w = 0; q && w < want->n_values; w++)
            other += !strcmp(want->values[w].name, b->values[v].name) && rq_graph_qparams(want, w) &&
                     !rq_qparams_equal(q, rq_graph_qparams(want, w));
    }
    assert_true(n > 5 && other > 0); /* the rule is for some alone */
    rq_graph_destroy(want);
    rq_graph_destroy(a);
    rq_graph_destroy(b);
    rq_graph_destroy(c);
}

static void an_own_observer_that_fails_or_is_missing_is_said(void **state)
{
    rq_graph_destroy(quantized_by("broken", NULL, RQ_NUMERIC));
    assert_non_null(strstr(err.text, "observer 'broken' gave no range for tensor '"));
    rq_graph_destroy(quantized_by("extrems", NULL, RQ_NOT_FOUND));
    assert_non_null(strstr(err.text, "nearest is 'extremes'"));
}

/* Observers of the library by name: that of all extremes is the method minmax, bit for bit; the others keep within it. */
static void observers_of_the_library_go_by_their_names(void **state)
{
    static const char *const names[] = { "min_max", "MinMaxObserver", "moving_average_min_max", "ema_min_max",
                                         "histogram" };
    rq_graph *want = quantized_by(NULL, NULL, RQ_OK);
    for (int i = 0; i < 5; i++) {
        rq_graph *g = quantized_by(names[i], NULL, RQ_OK);
        int n = 0, narrower = 0;
        for (int v = 0; v < want->n_values; v++) {
            const rq_qparams *q = rq_graph_qparams(want, v), *p = rq_graph_qparams(g, v);
            if (!q || want->values[v].kind == RQ_VALUE_CONST)
                continue;
            assert_non_null(p);
            n++;
            narrower += p->scale[0] < q->scale[0];
            if (i < 2)
                assert_true(rq_qparams_equal(q, p));
            else
                assert_true(p->scale[0] <= q->scale[0] * 1.001F);
        }
        assert_true(n > 3);
        assert_int_equal(narrower > 0, i >= 2);
        rq_graph_destroy(g);
    }
    rq_graph_destroy(want);
    rq_graph_destroy(quantized_by("lsq", NULL, RQ_UNSUPPORTED));
    assert_non_null(strstr(err.text, "observer 'lsq' chooses no range after training"));
    rq_graph_destroy(quantized_by("min_mux", NULL, RQ_NOT_FOUND));
    assert_non_null(strstr(err.text, "nearest is 'min_max'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digits_lose_next_to_nothing),
        cmocka_unit_test(equalizing_keeps_the_function),
        cmocka_unit_test(an_error_leaves_the_graph_as_it_was),
        cmocka_unit_test(results_do_not_depend_on_threads),
        cmocka_unit_test(a_rule_that_averages_keeps_the_batches),
        cmocka_unit_test(an_own_observer_that_takes_extremes_is_minmax),
        cmocka_unit_test(an_own_calibrator_is_the_range_on_both_sides),
        cmocka_unit_test(an_own_observer_that_fails_or_is_missing_is_said),
        cmocka_unit_test(observers_of_the_library_go_by_their_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
