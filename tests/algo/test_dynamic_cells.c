/* The mode dynamic on recurrent cells: each becomes one node that computes with codes, near what the float one makes (which tests/golden holds against ONNX
 * Runtime), and is a layer in integers to the report; where ONNX Runtime's quantize_dynamic is imitated, GRU and RNN stay as they are. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "ok.h"
#include "ops/op.h"
#include "requant/requant.h"

static const char *const models[] = { "gru_op7_4",  "gru_op14_1", "gru_op14_2", "gru_op14_3", "gru_op14_5",
                                      "gru_op14_6", "gru_op14_7", "rnn_op7_4",  "rnn_op14_1", "rnn_op14_2",
                                      "rnn_op14_3", "rnn_op14_5", "rnn_op14_6" };

enum { N_MODELS = sizeof models / sizeof models[0], MOST = 2 };

static rq_graph *load(const char *model)
{
    char path[128];
    rq_graph *g;
    snprintf(path, sizeof path, "tests/golden/onnx/float_ops/%s.onnx", model);
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

static const rq_node *only_node(const rq_graph *g)
{
    const rq_node *found = NULL;
    for (rq_id i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op) {
            assert_null(found);
            found = &g->nodes[i];
        }
    assert_non_null(found);
    return found;
}

static void run(const rq_graph *g, rq_tensor *y)
{
    rq_feed feed[MOST];
    rq_session *s;
    const int n = rq_graph_n_inputs(g);
    assert_true(n <= MOST && rq_graph_n_outputs(g) <= MOST);
    for (int i = 0; i < n; i++) {
        const rq_value_info in = rq_graph_input(g, i);
        feed[i].name = in.name;
        OK(rq_tensor_create(&feed[i].tensor, in.dtype, &in.shape, true));
        for (int64_t k = 0; k < rq_tensor_count(&feed[i].tensor); k++)
            feed[i].tensor.f32[k] = sinf((float)(3 * k + i));
    }
    OK(rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err));
    OK(rq_session_run(s, feed, n, y, &err));
    rq_session_destroy(s);
    for (int i = 0; i < n; i++)
        rq_tensor_release(&feed[i].tensor);
}

/* Weights are within 0.5 / 127 of their maximum, activations within 0.5 / 255 of their range: a gate of six products of some 0.5 is off by 0.01 or so, its slope at
 * most 1, and four steps add up. */
static void check_close(const char *model, const rq_graph *plain, const rq_graph *made)
{
    rq_tensor want[MOST], got[MOST];
    double diff = 0;
    run(plain, want);
    run(made, got);
    for (int o = 0; o < rq_graph_n_outputs(plain); o++) {
        assert_int_equal(rq_tensor_count(&want[o]), rq_tensor_count(&got[o]));
        for (int64_t i = 0; i < rq_tensor_count(&want[o]); i++)
            diff = fmax(diff, fabs((double)want[o].f32[i] - (double)got[o].f32[i]));
        rq_tensor_release(&want[o]);
        rq_tensor_release(&got[o]);
    }
    if (!(diff > 0 && diff < 0.03))
        fail_msg("%s: differs by %g", model, diff);
}

static void cells_compute_in_integers(void **state)
{
    for (int i = 0; i < N_MODELS; i++)
        for (int per_tensor = 0; per_tensor < 2; per_tensor++) {
            rq_graph *plain = load(models[i]), *g = load(models[i]);
            rq_ptq_cfg cfg = dynamic_cfg();
            cfg.settings.per_tensor = per_tensor;
            OK(rq_ptq(g, NULL, &cfg, NULL, &err));
            const rq_node *n = only_node(g);
            const bool gru = models[i][0] == 'g';
            assert_string_equal(n->op, gru ? "DynamicQuantizeGRU" : "DynamicQuantizeRNN");
            assert_string_equal(n->domain, "requant");
            assert_int_equal(n->n_in, 10);
            const int64_t dirs = g->values[n->in[1]].constant.shape.dim[0],
                          columns = g->values[n->in[1]].constant.shape.dim[2];
            assert_int_equal(rq_tensor_count(&g->values[n->in[6]].constant), per_tensor ? dirs : dirs * columns);
            assert_true(rq_graph_is_quantized(g));
            check_close(models[i], plain, g);
            rq_graph_destroy(plain);
            rq_graph_destroy(g);
        }
    (void)state;
}

static void the_peer_leaves_them_alone(void **state)
{
    rq_graph *g = load("gru_op14_1");
    rq_ptq_cfg cfg = dynamic_cfg();
    cfg.settings.compat = true;
    OK(rq_ptq(g, NULL, &cfg, NULL, &err));
    assert_string_equal(only_node(g)->op, "GRU");
    rq_graph_destroy(g);
    (void)state;
}

static void the_report_sees_an_integer_layer(void **state)
{
    enum { STEPS = 4, SIZE = 4 };
    rq_graph *g = load("gru_op14_1"), *q;
    rq_ptq_cfg cfg = dynamic_cfg();
    rq_dataset *d;
    rq_report r;
    const int64_t row = 0;
    const rq_report_cfg how = { .rows = &row, .n_rows = 1, .threads = 1, .layers = true };
    const rq_shape shape = rq_shape_of(4, (int64_t[]) { 1, STEPS, 2, 2 });
    float x[STEPS * SIZE];
    for (int i = 0; i < STEPS * SIZE; i++)
        x[i] = sinf((float)i);
    const rq_dataset_array samples = { .name = "x0", .dtype = RQ_DTYPE_F32, .shape = shape, .data = x };
    OK(rq_graph_copy(&q, g));
    OK(rq_ptq(q, NULL, &cfg, NULL, &err));
    OK(rq_dataset_create(&d, &samples, 1, g, NULL, &err));
    OK(rq_report_compare(&r, g, q, d, &how, &err));
    assert_int_equal(r.n_layers, 1);
    assert_string_equal(r.layers[0].op, "DynamicQuantizeGRU");
    assert_null(r.layers[0].reason_float);
    assert_true(r.layers[0].sqnr_db > 20);
    rq_report_release(&r);
    rq_dataset_close(d);
    rq_graph_destroy(g);
    rq_graph_destroy(q);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(cells_compute_in_integers),
                                        cmocka_unit_test(the_peer_leaves_them_alone),
                                        cmocka_unit_test(the_report_sees_an_integer_layer) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
