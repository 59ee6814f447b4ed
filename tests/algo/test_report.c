/* test_report.c — the numbers of the report against numbers worked out elsewhere, and what they do with NaN. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "algo/ptq_priv.h"
#include "algo/report_priv.h"
#include "requant/requant.h"

#define CHECK_CLOSE(got, want, tol)                                                                                    \
    do {                                                                                                               \
        const double g_ = (got), w_ = (want);                                                                          \
        if (!(fabs(g_ - w_) <= (tol)))                                                                                 \
            fail_msg("%s = %.9g, want %.9g", #got, g_, w_);                                                            \
    } while (0)

static rq_tensor view(float *x, int64_t n)
{
    const rq_shape s = rq_shape_of(1, &n);
    return rq_tensor_view(RQ_DTYPE_F32, &s, x);
}

/* numpy: a = [1,2,3,4], b = [1.1,1.9,3.2,3.9]; 10 log10(30 / 0.07) = 26.3202, cosine 0.9988486 */
static void sqnr_and_cosine_of_a_small_pair(void **state)
{
    (void)state;
    float a[] = { 1, 2, 3, 4 }, b[] = { 1.1f, 1.9f, 3.2f, 3.9f };
    rq_sums s = { 0 };
    rq_tensor x = view(a, 4), y = view(b, 4);
    assert_int_equal(rq_sums_add(&s, &x, &y), RQ_OK);
    CHECK_CLOSE(rq_sums_sqnr_db(&s), 26.3202, 1e-3);
    CHECK_CLOSE(rq_sums_cosine(&s), 0.9988486, 1e-6);
    rq_tensor z = view(b, 3);
    assert_int_equal(rq_sums_add(&s, &x, &z), RQ_BAD_SHAPE);
}

static void numbers_that_are_not_finite_are_counted_not_folded(void **state)
{
    (void)state;
    rq_sums s = { 0 };
    rq_sums_add_one(&s, 1, NAN);
    rq_sums_add_one(&s, INFINITY, 1);
    assert_true(isnan(rq_sums_sqnr_db(&s)) && isnan(rq_sums_cosine(&s)));
    rq_sums_add_one(&s, 2, 2);
    assert_int_equal(s.nonfinite, 2);
    assert_int_equal(s.lost, 1);
    CHECK_CLOSE(rq_sums_sqnr_db(&s), 200, 0);
}

/* Long tensors are summed in strips; one that holds such a number is summed one by one. */
static void not_finite_in_the_middle_of_a_long_tensor(void **state)
{
    (void)state;
    enum { N = 3001 };
    static float a[N], b[N];
    for (int i = 0; i < N; i++)
        a[i] = b[i] = (float)(i % 7);
    a[5] = NAN;
    b[1500] = INFINITY;
    rq_sums s = { 0 };
    rq_tensor x = view(a, N), y = view(b, N);
    assert_int_equal(rq_sums_add(&s, &x, &y), RQ_OK);
    assert_int_equal(s.nonfinite, 2);
    assert_int_equal(s.lost, 1);
    assert_int_equal(s.n, N - 2);
    CHECK_CLOSE(s.aa, 428 * 91 + 0 + 1 + 4 + 9 + 16 - 25 - 4,
                0); /* 3001 = 428 * 7 + 5; 5 % 7 and 1500 % 7 = 2 are left out */
    CHECK_CLOSE(rq_sums_sqnr_db(&s), 200, 0);
}

static void silence(void **state)
{
    (void)state;
    rq_sums s = { 0 };
    rq_sums_add_one(&s, 0, 0);
    CHECK_CLOSE(rq_sums_cosine(&s), 1, 0);
    CHECK_CLOSE(rq_sums_sqnr_db(&s), 200, 0);
    rq_sums_add_one(&s, 0, 1);
    CHECK_CLOSE(rq_sums_cosine(&s), 0, 0);
    CHECK_CLOSE(rq_sums_sqnr_db(&s), -200, 0);
}

/* Worked examples: 81 of 263 gives 0.2553 to 0.3662 (Newcombe 1998, table I, method 3); 0 of 20 gives 0 to 0.1611; 29 of 29: 0.8830 to 1 */
static void wilson_interval_as_published(void **state)
{
    (void)state;
    double lo, hi;
    rq_sums_wilson(81, 263, &lo, &hi);
    CHECK_CLOSE(lo, 0.2553, 5e-5);
    CHECK_CLOSE(hi, 0.3662, 5e-5);
    rq_sums_wilson(0, 20, &lo, &hi);
    CHECK_CLOSE(lo, 0, 1e-12);
    CHECK_CLOSE(hi, 0.1611, 5e-5);
    rq_sums_wilson(29, 29, &lo, &hi);
    CHECK_CLOSE(lo, 0.8830, 5e-5);
    CHECK_CLOSE(hi, 1, 1e-12);
    rq_sums_wilson(0, 0, &lo, &hi);
    assert_true(isnan(lo) && isnan(hi));
}

static void top1_never_picks_nan(void **state)
{
    (void)state;
    float x[] = { NAN, 1, 3, 3, -1, 0.7f, 0.2f };
    rq_tensor t = view(x, 7);
    assert_int_equal(rq_sums_top1(&t, 0, 5), 2);
    assert_int_equal(rq_sums_top1(&t, 5, 1), 1);
    assert_int_equal(rq_sums_top1(&t, 6, 1), 0);
    float none[] = { NAN, NAN, -INFINITY };
    t = view(none, 3);
    assert_int_equal(rq_sums_top1(&t, 0, 2), -1);
    assert_int_equal(rq_sums_top1(&t, 0, 1), -1);
    assert_int_equal(rq_sums_top1(&t, 0, 3), 2);
}

static void quantiles(void **state)
{
    (void)state;
    double v[] = { 5, 1, 4, 2, 3 }, w[] = { 4, 1, 3, 2 };
    CHECK_CLOSE(rq_sums_quantile(v, 5, 0.5), 3, 0);
    CHECK_CLOSE(rq_sums_quantile(v, 5, 0.95), 5, 0);
    CHECK_CLOSE(rq_sums_quantile(w, 4, 0.5), 2.5, 0);
    assert_true(isnan(rq_sums_quantile(v, 0, 0.5)));
}

static void worst_layers_first(void **state)
{
    (void)state;
    rq_report_layer l[] = { { .harm = 1 }, { .harm = 5 }, { .harm = 0 }, { .harm = 3 }, { .harm = 4 }, { .harm = 2 } };
    rq_report r = { .layers = l, .n_layers = 6 };
    int worst[3];
    assert_int_equal(rq_report_worst(&r, worst), 3);
    assert_int_equal(worst[0], 1);
    assert_int_equal(worst[1], 4);
    assert_int_equal(worst[2], 3);
    r.n_layers = 1;
    assert_int_equal(rq_report_worst(&r, worst), 1);
    assert_int_equal(worst[0], 0);
}

/* Labels of some other model are counted, not just taken for mistakes. */
static void labels_beyond_the_classes_are_counted(void **state)
{
    static const char path[] = RQ_TEST_TMP "/strange-labels.npz";
    static float x[4 * 64];
    static int64_t labels[] = { 3, 11, -1, 9 };
    const rq_shape shape = { .rank = 4, .dim = { 4, 1, 8, 8 } }, row = { .rank = 1, .dim = { 4 } };
    const rq_feed arrays[] = { { "image", rq_tensor_view(RQ_DTYPE_F32, &shape, x) },
                               { "labels", rq_tensor_view(RQ_DTYPE_S64, &row, labels) } };
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_dataset *d = NULL;
    rq_eval e;
    (void)state;
    assert_int_equal(rq_npz_save(path, arrays, 2, &err), RQ_OK);
    assert_int_equal(rq_load(&g, "models/digits-cnn.onnx", &err), RQ_OK);
    assert_int_equal(rq_dataset_open(&d, path, g, NULL, &err), RQ_OK);
    assert_int_equal(rq_eval_run(&e, g, d, NULL, &err), RQ_OK);
    assert_int_equal(e.samples, 4);
    assert_int_equal(e.strange_labels, 2);
    rq_eval_release(&e);
    rq_dataset_close(d);
    rq_graph_destroy(g);
    unlink(path);
}

static void assert_printed(const rq_report *r, const char *want)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    rq_report_print(r, f);
    fclose(f);
    if (!strstr(text, want))
        fail_msg("no '%s' in:\n%s", want, text);
    free(text);
}

static void sentences_suit_their_numbers(void **state)
{
    (void)state;
    rq_report r = { .samples = 1, .model = { .accuracy = NAN, .ms = 1, .bytes = 1000 }, .quantized = { .bytes = 500 } };
    assert_printed(&r, "Verdict on 1 sample:");
    assert_printed(&r, "0.5 kB instead of 1.0 kB, 2.00 times smaller.");
    r.samples = 2;
    assert_printed(&r, "Verdict on 2 samples:");
    static const struct {
        double ms;
        const char *words;
    } cases[] = { { 1.0, ", as fast." },
                  { 1.019, ", as fast." },
                  { 0.981, ", as fast." },
                  { 1.03, ", 1.03 times slower." },
                  { 0.5, ", 2.00 times faster." } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        r.quantized.ms = cases[i].ms;
        assert_printed(&r, cases[i].words);
    }
}

/* models/digits-cnn.onnx, which answers NaN when `broken`. */
static rq_graph *digits(bool broken)
{
    rq_graph *g;
    rq_err err = { 0 };
    if (rq_load(&g, "models/digits-cnn.onnx", &err))
        fail_msg("%s", err.text);
    const rq_node *last = &g->nodes[g->values[g->outputs[0]].producer];
    rq_tensor nan;
    assert_int_equal(g->values[last->in[2]].kind, RQ_VALUE_CONST); /* the bias of a Gemm */
    assert_int_equal(rq_tensor_create(&nan, RQ_DTYPE_F32, &g->values[last->in[2]].constant.shape, false), RQ_OK);
    for (int64_t i = 0; i < rq_tensor_count(&nan); i++)
        nan.f32[i] = NAN;
    if (broken) {
        rq_tensor_release(&g->values[last->in[2]].constant);
        g->values[last->in[2]].constant = nan;
    } else {
        rq_tensor_release(&nan);
    }
    return g;
}

/* No answer is not the same answer as any, and never the right one. */
static void a_model_of_nan_agrees_with_nothing(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_graph *whole = digits(false), *broken = digits(true);
    int64_t rows[32];
    for (int i = 0; i < 32; i++)
        rows[i] = i;
    for (int both = 0; both < 2; both++) {
        const rq_graph *model = both ? broken : whole;
        const rq_report_cfg cfg = { .rows = rows, .n_rows = 32, .threads = 1 };
        rq_dataset *d;
        rq_report r;
        assert_int_equal(rq_dataset_open(&d, "models/digits-test.npz", model, NULL, &err), RQ_OK);
        if (rq_report_compare(&r, model, broken, d, &cfg, &err))
            fail_msg("%s", err.text);
        CHECK_CLOSE(r.agreement, 0, 0);
        CHECK_CLOSE(r.quantized.accuracy, 0, 0);
        CHECK_CLOSE(r.drop, 100 * r.model.accuracy, 0);
        assert_true(both ? r.model.accuracy == 0 : r.model.accuracy > 0.5);
        assert_int_equal(r.outputs[0].nonfinite, 320);
        assert_int_equal(r.outputs[0].lost, both ? 0 : 320);
        assert_printed(&r, "nonfinite outputs: 320");
        rq_report_release(&r);
        rq_dataset_close(d);
    }
    rq_graph_destroy(whole);
    rq_graph_destroy(broken);
}

/* When quantized outputs are judged, none that are numbers are the worst there is, not the best. */
static void outputs_lost_are_the_worst(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_graph *whole = digits(false), *broken = digits(true);
    rq_ptq_cfg cfg = rq_ptq_defaults();
    int64_t rows[32];
    for (int i = 0; i < 32; i++)
        rows[i] = i;
    cfg.rows = rows;
    cfg.n_rows = 32;
    cfg.threads = 1;
    rq_ptq_state q = { .cfg = &cfg };
    double db = -1;
    assert_int_equal(rq_dataset_open(&q.data, "models/digits-train.npz", whole, NULL, &err), RQ_OK);
    rq_kernels_init(&q.k, 0);
    if (rq_ptq_prepare(&q, whole, &err) || rq_ptq_calibrate(&q, &err) || rq_ptq_measure(&q, whole, &db, &err))
        fail_msg("%s", err.text);
    assert_true(db > 60);
    if (rq_ptq_measure(&q, broken, &db, &err))
        fail_msg("%s", err.text);
    assert_true(db == -INFINITY);
    rq_ptq_release(&q);
    rq_dataset_close(q.data);
    rq_graph_destroy(whole);
    rq_graph_destroy(broken);
}

/* Scales around an addition are divided by one of them, a Relu behind it included: both are compared in the units that readers see, what is added in
 * those it was rounded to. The network and its samples are coremltools'. */
static void sums_of_ratios_are_in_the_units_of_their_readers(void **state)
{
    (void)state;
    static const char path[] = "tests/golden/coreml/w8a8/residual_symmetric_wqint8_afloat32_pc_iOS17_fp32.mlpackage";
    rq_err err = { 0 };
    rq_state *all;
    rq_coreml *m;
    rq_coreml_config *config;
    rq_graph *model, *quantized;
    rq_dataset *d;
    rq_report r;
    const rq_coreml_op_config op = rq_coreml_op_config_defaults(RQ_COREML_LINEAR_QUANTIZER);
    if (rq_state_load(&all, "tests/golden/coreml/w8a8/data.npz", &err) || rq_coreml_open(&m, path, &err) ||
        rq_load(&model, path, &err) || rq_coreml_config_create(&config, &err) ||
        rq_coreml_config_set_global(config, &op, &err))
        fail_msg("%s", err.text);
    const rq_tensor *t = rq_state_find(all, "residual/calibration"); /* [24,1,4,8,8]: whole feeds */
    assert_non_null(t);
    const rq_dataset_array x = { .name = "x", .dtype = t->dtype, .shape = t->shape, .data = t->data };
    if (rq_dataset_create(&d, &x, 1, model, NULL, &err) ||
        rq_coreml_linear_quantize_activations(m, config, d, NULL, 0, NULL, &err) ||
        rq_coreml_to_graph(&quantized, m, NULL, &err) || rq_report_compare(&r, model, quantized, d, NULL, &err))
        fail_msg("%s", err.text);
    int sums = 0;
    for (int i = 0; i < r.n_layers; i++) {
        const rq_report_layer *l = &r.layers[i];
        if (!isnan(l->sqnr_db) && !(l->sqnr_db > 30))
            fail_msg("%s '%s': %.1f dB", l->op, l->name, l->sqnr_db);
        sums += !strcmp(l->op, "Add") && l->sqnr_db > 30 && l->scale < 0.1;
    }
    assert_int_equal(sums, 1);
    rq_report_release(&r);
    rq_dataset_close(d);
    rq_graph_destroy(quantized);
    rq_graph_destroy(model);
    rq_coreml_config_destroy(config);
    rq_coreml_close(m);
    rq_state_destroy(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sqnr_and_cosine_of_a_small_pair),
        cmocka_unit_test(numbers_that_are_not_finite_are_counted_not_folded),
        cmocka_unit_test(not_finite_in_the_middle_of_a_long_tensor),
        cmocka_unit_test(silence),
        cmocka_unit_test(wilson_interval_as_published),
        cmocka_unit_test(top1_never_picks_nan),
        cmocka_unit_test(quantiles),
        cmocka_unit_test(worst_layers_first),
        cmocka_unit_test(labels_beyond_the_classes_are_counted),
        cmocka_unit_test(sentences_suit_their_numbers),
        cmocka_unit_test(a_model_of_nan_agrees_with_nothing),
        cmocka_unit_test(outputs_lost_are_the_worst),
        cmocka_unit_test(sums_of_ratios_are_in_the_units_of_their_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
