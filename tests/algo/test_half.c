/* Models of 16-bit floats: run, quantized, written with scales of their own type, and read back the same. The digits network
 * stands in 16 bits here; what it must answer are the labels. */
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
#include "ops/widen.h"
#include "requant/requant.h"

/* The digits network with weights, input and output of type d, opset 22 (where every operator of it takes bf16). */
static rq_graph *digits(rq_dtype d)
{
    rq_graph *g;
    OK(rq_load(&g, "models/digits-cnn.onnx", &err));
    OK(rq_graph_set_opset(g, "", 22));
    for (int i = 0; i < g->n_inputs; i++)
        g->values[g->inputs[i]].dtype = d;
    g->real = d;
    OK(rq_narrow(g, &err));
    OK(rq_ops_infer(g, &err));
    assert_int_equal(rq_graph_output(g, 0).dtype, d);
    for (rq_id v = 0; v < g->n_values; v++)
        assert_int_not_equal(g->values[v].dtype, RQ_DTYPE_F32);
    return g;
}

static double accuracy(const rq_graph *g)
{
    rq_eval e;
    rq_dataset *d;
    const rq_report_cfg cfg = { .threads = 1 };
    OK(rq_dataset_open(&d, "models/digits-test.npz", g, NULL, &err));
    OK(rq_eval_run(&e, g, d, &cfg, &err));
    double a = e.accuracy;
    rq_eval_release(&e);
    rq_dataset_close(d);
    return a;
}

static void run_first(const rq_graph *g, rq_tensor *out)
{
    rq_dataset *d;
    rq_session *s;
    const rq_session_cfg cfg = { .threads = 1 };
    const rq_feed *feeds;
    int n;
    int64_t rows[16];
    for (int i = 0; i < 16; i++)
        rows[i] = i;
    OK(rq_dataset_open(&d, "models/digits-test.npz", g, NULL, &err));
    OK(rq_session_create(&s, g, &cfg, &err));
    OK(rq_dataset_read(d, rows, 16, &feeds, &n, &err));
    OK(rq_session_run(s, feeds, n, out, &err));
    rq_session_destroy(s);
    rq_dataset_close(d);
}

static int count_integer(const rq_graph *g)
{
    rq_session *s;
    rq_tensor out;
    rq_dataset *d;
    const rq_session_cfg cfg = { .threads = 1 };
    const rq_feed *feeds;
    const rq_layer_info *l;
    int n, made = 0;
    const int64_t row = 0;
    OK(rq_dataset_open(&d, "models/digits-test.npz", g, NULL, &err));
    OK(rq_session_create(&s, g, &cfg, &err));
    OK(rq_dataset_read(d, &row, 1, &feeds, &n, &err));
    OK(rq_session_run(s, feeds, n, &out, &err));
    n = rq_session_layers(s, &l);
    for (int i = 0; i < n; i++)
        made += l[i].integer;
    rq_tensor_release(&out);
    rq_session_destroy(s);
    rq_dataset_close(d);
    return made;
}

static void check_file(const rq_graph *g, rq_dtype d)
{
    assert_true(rq_graph_opset(g, "") >= 19 && g->ir_version >= 9);
    assert_int_equal(rq_graph_input(g, 0).dtype, d);
    assert_int_equal(rq_graph_output(g, 0).dtype, d);
    int scales = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        assert_string_not_equal(n->op, "Cast");
        if (strcmp(n->op, "QuantizeLinear") && strcmp(n->op, "DequantizeLinear"))
            continue;
        scales++;
        assert_int_equal(g->values[n->in[1]].constant.dtype, d);
    }
    assert_true(scales >= 12);
}

static void they_are_quantized_in_their_own_type(void **state)
{
    static const rq_dtype types[] = { RQ_DTYPE_F16, RQ_DTYPE_BF16 };
    (void)state;
    for (int k = 0; k < 2; k++) {
        const rq_dtype d = types[k];
        const char *path = RQ_TEST_TMP "/digits-half.onnx";
        rq_graph *g = digits(d), *back;
        rq_dataset *data;
        rq_tensor now, later;
        assert_true(accuracy(g) >= 0.99);
        OK(rq_dataset_open(&data, "models/digits-train.npz", g, NULL, &err));
        rq_ptq_cfg cfg = rq_ptq_defaults();
        cfg.threads = 1;
        OK(rq_ptq(g, data, &cfg, NULL, &err));
        assert_true(accuracy(g) >= 0.99);
        OK(rq_save(g, path, &err));
        OK(rq_load(&back, path, &err));
        check_file(back, d);
        assert_true(count_integer(back) >= 8);
        run_first(g, &now);
        run_first(back, &later);
        assert_int_equal(now.dtype, d);
        assert_int_equal(now.bytes, later.bytes);
        assert_memory_equal(now.data, later.data, now.bytes);
        rq_tensor_release(&now);
        rq_tensor_release(&later);
        rq_dataset_close(data);
        rq_graph_destroy(back);
        rq_graph_destroy(g);
    }
}

/* Numbers of IEEE's half and of bfloat16, next to 0.1 and at the ends. */
static void scales_are_rounded_up(void **state)
{
    (void)state;
    assert_true(rq_widen_scale(RQ_DTYPE_F16, 0.1f) == 0x1.99cp-4f);
    assert_true(rq_widen_scale(RQ_DTYPE_BF16, 0.1f) == 0x1.9ap-4f);
    assert_true(rq_widen_scale(RQ_DTYPE_F16, 0.25f) == 0.25f);
    assert_true(rq_widen_scale(RQ_DTYPE_F16, 1e-12f) == 0x1p-24f);
    assert_true(rq_widen_scale(RQ_DTYPE_NONE, 0.1f) == 0.1f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_quantized_in_their_own_type),
        cmocka_unit_test(scales_are_rounded_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
