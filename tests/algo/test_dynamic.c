/* The mode dynamic: names as the peer's, general Gemms, rows with outliers, what samples leave in float, and what the
 * report calls a layer. The numbers are compared with ONNX Runtime's in tests/golden (static_weights.c) and
 * tests/interop (modes.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "ok.h"
#include "ops/op.h"
#include "requant/edit.h"
#include "requant/requant.h"

static rq_graph *load(const char *path)
{
    rq_graph *g;
    OK(rq_load(&g, path, &err));
    return g;
}

static rq_ptq_cfg dynamic_cfg(void)
{
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.mode = RQ_MODE_DYNAMIC;
    cfg.threads = 1;
    return cfg;
}

static int count(const rq_graph *g, const char *op)
{
    int n = 0;
    for (rq_id i = 0; i < g->n_nodes; i++)
        n += g->nodes[i].op && !strcmp(g->nodes[i].op, op);
    return n;
}

static void products_measure_their_input(void **state)
{
    rq_graph *g = load("models/digits-cnn.onnx");
    rq_ptq_cfg cfg = dynamic_cfg();
    OK(rq_ptq(g, NULL, &cfg, NULL, &err));
    assert_int_equal(count(g, "MatMulInteger"), 2);
    assert_int_equal(count(g, "DynamicQuantizeLinear"), 2);
    assert_int_equal(count(g, "ConvInteger"),
                     0); /* runs slower than float in most runtimes; its weights are codes though */
    int stored = 0;
    for (rq_id v = 0; v < g->n_values; v++)
        stored += g->values[v].kind == RQ_VALUE_CONST && g->values[v].quant >= 0;
    assert_int_equal(stored, 3);
    /* docs/onnx-facts.md 4.6: names of quantize_dynamic */
    static const char *const values[] = { "/12/Gemm_output_0_MatMul_output_quantized_cast_output",
                                          "14.weight_quantized", "14.weight_scale", "14.weight_zero_point" };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        if (rq_graph_find(g, values[i]) == RQ_NONE)
            fail_msg("no value %s", values[i]);
    static const char *const nodes[] = { "/12/Gemm_MatMul_quant", "/12/Gemm_MatMul_quant_scales_mul",
                                         "/12/Gemm_MatMul_quant_output_scale_mul", "/12/Gemm_Add" };
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++)
        if (rq_edit_find_node(g, nodes[i]) < 0)
            fail_msg("no node %s", nodes[i]);
    rq_graph_destroy(g);
    g = load("models/digits-cnn.onnx");
    cfg.dynamic_conv = true;
    OK(rq_ptq(g, NULL, &cfg, NULL, &err));
    assert_int_equal(count(g, "ConvInteger"), 3);
    assert_int_equal(count(g, "Conv"), 0);
    rq_graph_destroy(g);
    (void)state;
}

/* y = alpha A' B' + beta C with everything that a Gemm can have. */
enum { M = 5, K = 24, N = 7 };

static rq_graph *gemm(bool ta, bool tb, float alpha, float beta, float *w, float *c)
{
    rq_graph *g;
    int id;
    rq_shape x = rq_shape_of(2, (int64_t[]) { ta ? K : M, ta ? M : K }),
             ws = rq_shape_of(2, (int64_t[]) { tb ? N : K, tb ? K : N }), cs = rq_shape_of(1, (int64_t[]) { N });
    OK(rq_graph_create(&g));
    OK(rq_edit_set_opset(g, "", 17, &err));
    OK(rq_edit_add_input(g, "x", RQ_DTYPE_F32, &x, &err));
    const rq_tensor wt = rq_tensor_view(RQ_DTYPE_F32, &ws, w), ct = rq_tensor_view(RQ_DTYPE_F32, &cs, c);
    OK(rq_edit_add_constant(g, "w", &wt, &err));
    OK(rq_edit_add_constant(g, "c", &ct, &err));
    const rq_edit_node n = { .op = "Gemm",
                             .name = "product",
                             .in = (const char *[]) { "x", "w", "c" },
                             .n_in = 3,
                             .out = (const char *[]) { "y" },
                             .n_out = 1 };
    OK(rq_edit_add_node(g, &n, &id, &err));
    OK(rq_edit_set_int(g, id, "transA", ta, &err));
    OK(rq_edit_set_int(g, id, "transB", tb, &err));
    OK(rq_edit_set_float(g, id, "alpha", alpha, &err));
    OK(rq_edit_set_float(g, id, "beta", beta, &err));
    OK(rq_edit_add_output(g, "y", &err));
    return g;
}

/* Largest difference between the float graph and what dynamic quantization makes of it, and largest output. */
static void run_both(const rq_graph *plain, const rq_ptq_cfg *cfg, float *x, double *diff, double *most)
{
    rq_graph *g;
    rq_session *s[2];
    rq_tensor y[2];
    const rq_value_info in = rq_graph_input(plain, 0);
    const rq_feed feed = { in.name, rq_tensor_view(RQ_DTYPE_F32, &in.shape, x) };
    OK(rq_graph_copy(&g, plain));
    OK(rq_ptq(g, NULL, cfg, NULL, &err));
    assert_int_equal(count(g, "MatMulInteger"), 1);
    *diff = *most = 0;
    for (int i = 0; i < 2; i++) {
        OK(rq_session_create(&s[i], i ? g : plain, &(rq_session_cfg) { .threads = 1 }, &err));
        OK(rq_session_run(s[i], &feed, 1, &y[i], &err));
    }
    assert_int_equal(rq_tensor_count(&y[0]), rq_tensor_count(&y[1]));
    for (int64_t i = 0; i < rq_tensor_count(&y[0]); i++) {
        *diff = fmax(*diff, fabs((double)y[0].f32[i] - (double)y[1].f32[i]));
        *most = fmax(*most, fabs((double)y[0].f32[i]));
    }
    for (int i = 0; i < 2; i++) {
        rq_tensor_release(&y[i]);
        rq_session_destroy(s[i]);
    }
    rq_graph_destroy(g);
}

static float at(int i)
{
    return (float)((i * 7919 + 13) % 201 - 100) / 100;
}

static void gemms_of_every_kind(void **state)
{
    float w[K * N], c[N], x[M * K];
    for (int i = 0; i < K * N; i++)
        w[i] = at(i) * (float)(1 + i % 3);
    for (int i = 0; i < N; i++)
        c[i] = at(3 * i);
    for (int i = 0; i < M * K; i++)
        x[i] = at(5 * i + 1);
    for (int kind = 0; kind < 16; kind++) {
        const bool ta = kind & 1, tb = kind & 2;
        const float alpha = kind & 4 ? -0.5f : 1, beta = kind & 8 ? 3 : 1;
        rq_graph *g = gemm(ta, tb, alpha, beta, w, c);
        rq_ptq_cfg cfg = dynamic_cfg();
        for (int row = 0; row < 2; row++) {
            double diff, most;
            cfg.per_row = row;
            run_both(g, &cfg, x, &diff, &most);
            /* errors of 24 terms, each uniform in +-0.024 alpha: sqrt(24 / 3) * 0.024 is one sigma, 1.8 % of 3.9 */
            if (!(diff < 0.054 * most && diff > 0))
                fail_msg("kind %d, per row %d: differs by %g of %g", kind, row, diff, most);
        }
        rq_graph_destroy(g);
    }
    (void)state;
}

/* One row a thousand times larger: per tensor, the others are lost in its steps. */
static void a_row_of_outliers_costs_its_row_alone(void **state)
{
    float w[K * N], c[N] = { 0 }, x[M * K];
    double diff[2], most;
    for (int i = 0; i < K * N; i++)
        w[i] = at(i);
    for (int i = 0; i < M * K; i++)
        x[i] = i < K ? 0 : at(i); /* row 0 quiet: it stays within the tolerance below only if others do not count */
    for (int i = 0; i < K; i++)
        x[(M - 1) * K + i] *= 1000;
    rq_graph *g = gemm(false, false, 1, 1, w, c);
    rq_ptq_cfg cfg = dynamic_cfg();
    for (int row = 0; row < 2; row++) {
        rq_graph *q;
        rq_session *s[2];
        rq_tensor y[2];
        const rq_value_info in = rq_graph_input(g, 0);
        const rq_feed feed = { in.name, rq_tensor_view(RQ_DTYPE_F32, &in.shape, x) };
        cfg.per_row = row;
        OK(rq_graph_copy(&q, g));
        OK(rq_ptq(q, NULL, &cfg, NULL, &err));
        diff[row] = most = 0;
        for (int i = 0; i < 2; i++) {
            OK(rq_session_create(&s[i], i ? q : g, &(rq_session_cfg) { .threads = 1 }, &err));
            OK(rq_session_run(s[i], &feed, 1, &y[i], &err));
        }
        for (int i = N; i < (M - 1) * N; i++) {
            diff[row] = fmax(diff[row], fabs((double)y[0].f32[i] - (double)y[1].f32[i]));
            most = fmax(most, fabs((double)y[0].f32[i]));
        }
        for (int i = 0; i < N; i++)
            assert_true(y[1].f32[i] == 0); /* a row of zeros has a scale too */
        for (int i = 0; i < 2; i++) {
            rq_tensor_release(&y[i]);
            rq_session_destroy(s[i]);
        }
        rq_graph_destroy(q);
    }
    assert_true(diff[0] > 0.2 * most);
    assert_true(diff[1] < 0.02 * most);
    rq_graph_destroy(g);
    (void)state;
}

static void what_is_listed_or_ruled_out_stays(void **state)
{
    rq_graph *g = load("models/digits-cnn.onnx");
    rq_ptq_cfg cfg = dynamic_cfg();
    cfg.except = (const char *const[]) { "/12/Gemm", NULL };
    OK(rq_ptq(g, NULL, &cfg, NULL, &err));
    assert_int_equal(count(g, "MatMulInteger"), 1);
    assert_int_equal(count(g, "Gemm"), 1);
    rq_graph_destroy(g);
    g = load("models/digits-cnn.onnx");
    cfg.except = (const char *const[]) { "/13/Gemm", NULL };
    assert_int_equal(rq_ptq(g, NULL, &cfg, NULL, &err), RQ_NOT_FOUND);
    cfg.except = NULL;
    cfg.settings.weights = RQ_DTYPE_S4;
    assert_int_equal(rq_ptq(g, NULL, &cfg, NULL, &err), RQ_BAD_ARG);
    assert_false(rq_graph_is_quantized(g));
    rq_graph_destroy(g);
    (void)state;
}

/* A product is one row of the report, however many nodes it is. */
static void the_report_sees_layers(void **state)
{
    rq_graph *g = load("models/digits-cnn.onnx"), *q;
    rq_ptq_cfg cfg = dynamic_cfg();
    rq_dataset *d;
    rq_report r;
    const int64_t rows[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    const rq_report_cfg how = { .rows = rows, .n_rows = 16, .threads = 1, .layers = true };
    OK(rq_graph_copy(&q, g));
    cfg.dynamic_conv = true;
    OK(rq_ptq(q, NULL, &cfg, NULL, &err));
    OK(rq_dataset_open(&d, "models/digits-test.npz", g, NULL, &err));
    OK(rq_report_compare(&r, g, q, d, &how, &err));
    int products = 0;
    for (int i = 0; i < r.n_layers; i++) {
        const rq_report_layer *l = &r.layers[i];
        assert_string_not_equal(l->op, "Cast");
        assert_string_not_equal(l->op, "Mul");
        assert_string_not_equal(l->op, "DynamicQuantizeLinear");
        if (!strcmp(l->op, "MatMulInteger") || !strcmp(l->op, "ConvInteger")) {
            assert_null(l->reason_float);
            assert_true(l->sqnr_db > 20);
            products++;
        }
    }
    assert_int_equal(products, 5);
    assert_true(r.agreement > 0.9);
    rq_report_release(&r);
    rq_dataset_close(d);
    rq_graph_destroy(g);
    rq_graph_destroy(q);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_measure_their_input),
        cmocka_unit_test(gemms_of_every_kind),
        cmocka_unit_test(a_row_of_outliers_costs_its_row_alone),
        cmocka_unit_test(what_is_listed_or_ruled_out_stays),
        cmocka_unit_test(the_report_sees_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
