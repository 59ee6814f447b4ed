/* The mode weight-only on the digit nets in models/: without samples, in every type, size of block and form; what is
 * written is what was made; and what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

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

static double accuracy(const rq_graph *g)
{
    rq_eval e;
    const rq_report_cfg cfg = { .threads = 1 };
    rq_dataset *d;
    OK(rq_dataset_open(&d, "models/digits-test.npz", g, NULL, &err));
    OK(rq_eval_run(&e, g, d, &cfg, &err));
    const double a = e.accuracy;
    rq_eval_release(&e);
    rq_dataset_close(d);
    return a;
}

static rq_ptq_cfg cfg_of(rq_dtype weights, int block)
{
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.mode = RQ_MODE_WEIGHT_ONLY;
    cfg.settings.weights = weights;
    cfg.settings.block_size = block;
    cfg.threads = 1;
    return cfg;
}

/* Constants in codes of that type, and how many numbers they hold. */
static int count_codes(const rq_graph *g, rq_dtype d, int64_t *numbers)
{
    int n = 0;
    *numbers = 0;
    for (rq_id v = 0; v < g->n_values; v++)
        if (g->values[v].kind == RQ_VALUE_CONST && g->values[v].quant >= 0 &&
            g->quants[g->values[v].quant].q.dtype == d) {
            assert_int_equal(g->values[v].constant.dtype, d);
            *numbers += rq_tensor_count(&g->values[v].constant);
            n++;
        }
    return n;
}

static void needs_no_samples(void **state)
{
    static const struct {
        rq_dtype d;
        int block;
        double may_lose;
    } cases[] = { { RQ_DTYPE_S8, 0, 0.002 }, { RQ_DTYPE_U8, 0, 0.002 }, { RQ_DTYPE_S8, 32, 0.002 },
                  { RQ_DTYPE_S4, -1, 0.01 }, { RQ_DTYPE_U4, 16, 0.01 }, { RQ_DTYPE_U4, 256, 0.02 },
                  { RQ_DTYPE_S4, 0, 0.02 } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_graph *g = load("models/digits-cnn.onnx"), *read = NULL;
        int64_t numbers;
        const double before = accuracy(g);
        const rq_ptq_cfg cfg = cfg_of(cases[i].d, cases[i].block);
        rq_notes notes = { 0 };
        OK(rq_ptq(g, NULL, &cfg, &notes, &err));
        assert_int_equal(count_codes(g, cases[i].d, &numbers), 5);
        assert_int_equal(notes.n, 1);
        assert_non_null(strstr(notes.text[0], rq_dtype_name(cases[i].d)));
        const double after = accuracy(g);
        if (!(after >= before - cases[i].may_lose))
            fail_msg("%s in blocks of %d: %.4f instead of %.4f", rq_dtype_name(cases[i].d), cases[i].block, after,
                     before);
        OK(rq_save(g, RQ_TEST_TMP "/weights.onnx", &err));
        read = load(RQ_TEST_TMP "/weights.onnx");
        OK(rq_ptq(read, NULL, &cfg, NULL, &err) ? RQ_OK : RQ_INTERNAL); /* quantized already */
        assert_non_null(strstr(err.text, "quantized already"));
        assert_true(accuracy(read) == after);
        rq_notes_release(&notes);
        rq_graph_destroy(read);
        rq_graph_destroy(g);
    }
    (void)state;
}

/* Where few bits harm, samples tell, and those weights get eight. */
static void samples_say_where_few_bits_harm(void **state)
{
    rq_graph *blind = load("models/digits-uneven.onnx"), *guarded = load("models/digits-uneven.onnx");
    rq_dataset *d;
    rq_notes notes = { 0 };
    rq_ptq_cfg cfg = cfg_of(RQ_DTYPE_S2, 16);
    int64_t few, eight;
    const int64_t rows[32] = { 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                               16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31 };
    OK(rq_dataset_open(&d, "models/digits-train.npz", guarded, NULL, &err));
    OK(rq_ptq(blind, NULL, &cfg, NULL, &err));
    cfg.rows = rows;
    cfg.n_rows = 32;
    OK(rq_ptq(guarded, d, &cfg, &notes, &err));
    assert_true(accuracy(guarded) > accuracy(blind));
    assert_int_equal(count_codes(blind, RQ_DTYPE_S8, &eight), 0);
    assert_true(count_codes(guarded, RQ_DTYPE_S8, &eight) > 0);
    assert_true(count_codes(guarded, RQ_DTYPE_S2, &few) > 0);
    assert_true(notes.n > 1);
    bool said = false;
    for (int i = 0; i < notes.n; i++)
        said |= strstr(notes.text[i], "has 8 bits") != NULL;
    assert_true(said);
    rq_notes_release(&notes);
    rq_dataset_close(d);
    rq_graph_destroy(blind);
    rq_graph_destroy(guarded);
    (void)state;
}

static const rq_node *find_op(const rq_graph *g, const char *op, int *n)
{
    const rq_node *found = NULL;
    *n = 0;
    for (rq_id i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && !strcmp(g->nodes[i].op, op)) {
            found = &g->nodes[i];
            ++*n;
        }
    return found;
}

/* docs/onnx-facts.md 2.10: sizes of what MatMulNBits reads. */
static void products_in_the_words_of_onnx_runtime(void **state)
{
    rq_graph *g = load("models/digits-cnn.onnx");
    rq_ptq_cfg cfg = cfg_of(RQ_DTYPE_U4, 32);
    int n;
    cfg.weight_form = RQ_WEIGHT_FORM_MATMULNBITS;
    cfg.accuracy_level = 4;
    cfg.settings.symmetric_weights = false;
    OK(rq_ptq(g, NULL, &cfg, NULL, &err));
    const rq_node *m = find_op(g, "MatMulNBits", &n);
    assert_int_equal(n, 2);
    assert_string_equal(m->domain, "com.microsoft");
    assert_int_equal(rq_graph_opset(g, "com.microsoft"), 1);
    const int64_t k = rq_attr_int(m, RQ_WORD_K, 0), rows = rq_attr_int(m, RQ_WORD_N, 0), blocks = (k + 31) / 32;
    assert_int_equal(rq_attr_int(m, RQ_WORD_bits, 0), 4);
    assert_int_equal(rq_attr_int(m, RQ_WORD_block_size, 0), 32);
    assert_int_equal(rq_attr_int(m, RQ_WORD_accuracy_level, 0), 4);
    assert_int_equal(m->n_in, 6); /* the bias of the Gemm comes last */
    const rq_shape codes = rq_shape_of(3, (int64_t[]) { rows, blocks, 16 }),
                   scales = rq_shape_of(2, (int64_t[]) { rows, blocks }),
                   zeros = rq_shape_of(2, (int64_t[]) { rows, (blocks + 1) / 2 });
    assert_true(rq_shape_equal(&g->values[m->in[1]].constant.shape, &codes));
    assert_true(rq_shape_equal(&g->values[m->in[2]].constant.shape, &scales));
    assert_true(rq_shape_equal(&g->values[m->in[3]].constant.shape, &zeros));
    OK(rq_save(g, RQ_TEST_TMP "/nbits.onnx", &err));
    rq_graph_destroy(g);
    (void)state;
}

static void refuses_what_cannot_be(void **state)
{
    static const struct {
        rq_mode mode;
        rq_dtype d;
        int block;
        rq_weight_method method;
        bool per_tensor, symmetric;
        const char *says;
    } cases[] = {
        { RQ_MODE_WEIGHT_ONLY, RQ_DTYPE_S16, 0, RQ_WEIGHTS_MSE, false, true, "cannot be s16" },
        { RQ_MODE_WEIGHT_ONLY, RQ_DTYPE_S4, 24, RQ_WEIGHTS_MSE, false, true, "block of 24" },
        { RQ_MODE_WEIGHT_ONLY, RQ_DTYPE_S4, 32, RQ_WEIGHTS_MSE, true, true, "contradict" },
        { RQ_MODE_WEIGHT_ONLY, RQ_DTYPE_U4, 32, RQ_WEIGHTS_HQQ, false, true, "zero points" },
        { RQ_MODE_STATIC, RQ_DTYPE_S8, -1, RQ_WEIGHTS_MSE, false, true, "samples" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_graph *g = load("models/digits-cnn.onnx");
        rq_ptq_cfg cfg = cfg_of(cases[i].d, cases[i].block);
        cfg.mode = cases[i].mode;
        cfg.settings.weight_method = cases[i].method;
        cfg.settings.per_tensor = cases[i].per_tensor;
        cfg.settings.symmetric_weights = cases[i].symmetric;
        assert_int_equal(rq_ptq(g, NULL, &cfg, NULL, &err), RQ_BAD_ARG);
        if (!strstr(err.text, cases[i].says))
            fail_msg("%zu: %s", i, err.text);
        assert_false(rq_graph_is_quantized(g));
        rq_graph_destroy(g);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(needs_no_samples),
        cmocka_unit_test(samples_say_where_few_bits_harm),
        cmocka_unit_test(products_in_the_words_of_onnx_runtime),
        cmocka_unit_test(refuses_what_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
