/* Building, looking at and changing graphs by name (requant/edit.h), and operators of a program's own (requant/own.h). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "requant/requant.h"

static rq_err err;

#define NAMES(...) ((const char *[]) { __VA_ARGS__ })

static rq_shape shape2(int64_t a, int64_t b)
{
    return (rq_shape) { 2, { a, b } };
}

/* y = Relu(x w), x [batch,3], w [3,2] */
static rq_graph *small(void)
{
    static float w[6] = { 1, -1, 2, 0.5f, -3, 1 };
    rq_graph *g;
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    rq_shape x = shape2(rq_edit_dim(g, "batch"), 3), ws = shape2(3, 2);
    rq_tensor wt = rq_tensor_view(RQ_DTYPE_F32, &ws, w);
    assert_int_equal(rq_edit_set_opset(g, "", 17, &err), RQ_OK);
    assert_int_equal(rq_edit_add_input(g, "x", RQ_DTYPE_F32, &x, &err), RQ_OK);
    assert_int_equal(rq_edit_add_constant(g, "w", &wt, &err), RQ_OK);
    assert_int_equal(
        rq_edit_add_node(
            g,
            &(rq_edit_node) {
                .op = "MatMul", .name = "product", .in = NAMES("x", "w"), .n_in = 2, .out = NAMES("p"), .n_out = 1 },
            NULL, &err),
        RQ_OK);
    assert_int_equal(
        rq_edit_add_node(g,
                         &(rq_edit_node) {
                             .op = "Relu", .name = "relu", .in = NAMES("p"), .n_in = 1, .out = NAMES("y"), .n_out = 1 },
                         NULL, &err),
        RQ_OK);
    assert_int_equal(rq_edit_add_output(g, "y", &err), RQ_OK);
    assert_int_equal(rq_edit_check(g, &err), RQ_OK);
    return g;
}

static void run_small(const rq_graph *g, float want0, float want1)
{
    float x[3] = { 1, 2, 3 };
    rq_shape s = shape2(1, 3);
    rq_feed in = { "x", rq_tensor_view(RQ_DTYPE_F32, &s, x) };
    rq_session *session;
    rq_tensor y;
    assert_int_equal(rq_session_create(&session, g, NULL, &err), RQ_OK);
    assert_int_equal(rq_session_run(session, &in, 1, &y, &err), RQ_OK);
    assert_true(fabsf(y.f32[0] - want0) <= 1e-6f);
    assert_true(fabsf(y.f32[1] - want1) <= 1e-6f);
    rq_tensor_release(&y);
    rq_session_destroy(session);
}

static void a_graph_built_by_hand_runs_saves_and_comes_back(void **state)
{
    const char *path = RQ_TEST_TMP "/edit.onnx";
    rq_graph *g = small(), *back;
    rq_value_info y;
    run_small(g, 0, 3); /* 1+4-9 < 0; -1+1+3 */
    assert_int_equal(rq_edit_value(g, "y", &y, &err), RQ_OK);
    assert_int_equal(y.dtype, RQ_DTYPE_F32);
    assert_int_equal(y.shape.dim[1], 2);
    assert_string_equal(rq_graph_dim_name(g, y.shape.dim[0]), "batch");
    assert_int_equal(rq_edit_set_meta(g, "made", "by hand"), RQ_OK);
    assert_int_equal(rq_save(g, path, &err), RQ_OK);
    assert_int_equal(rq_load(&back, path, &err), RQ_OK);
    assert_string_equal(rq_edit_meta(back, "made"), "by hand");
    run_small(back, 0, 3);
    rq_graph_destroy(back);
    rq_graph_destroy(g);
}

static void nodes_can_be_looked_at_and_replaced(void **state)
{
    rq_graph *g = small();
    rq_edit_node n;
    int relu = rq_edit_find_node(g, "relu"), leaky;
    assert_true(rq_edit_node_at(g, relu, &n));
    assert_string_equal(n.op, "Relu");
    assert_int_equal(rq_edit_producer(g, "y"), relu);
    assert_string_equal(rq_edit_node_in(g, relu, 0), "p");
    assert_null(rq_edit_node_in(g, relu, 1));
    assert_string_equal(rq_edit_node_out(g, relu, 0), "y");

    assert_int_equal(
        rq_edit_add_node(
            g, &(rq_edit_node) { .op = "LeakyRelu", .in = NAMES("p"), .n_in = 1, .out = NAMES("z"), .n_out = 1 },
            &leaky, &err),
        RQ_OK);
    assert_int_equal(rq_edit_set_float(g, leaky, "alpha", 0.5f, &err), RQ_OK);
    assert_true(rq_edit_float(g, leaky, "alpha", 0) == 0.5f);
    assert_int_equal(rq_edit_remove_node(g, relu, &err), RQ_BAD_GRAPH);
    assert_non_null(strstr(err.text, "'y' is used"));
    assert_int_equal(rq_edit_replace(g, "y", "z", &err), RQ_OK);
    assert_int_equal(rq_edit_remove_node(g, relu, &err), RQ_OK);
    assert_false(rq_edit_node_at(g, relu, &n));
    assert_int_equal(rq_edit_rename(g, "z", "y", &err), RQ_OK);
    assert_int_equal(rq_edit_check(g, &err), RQ_OK);
    run_small(g, -2, 3);

    float w2[6] = { 0, 1, 0, 1, 1, 1 };
    rq_shape ws = shape2(3, 2);
    rq_tensor wt = rq_tensor_view(RQ_DTYPE_F32, &ws, w2), got;
    assert_int_equal(rq_edit_set_constant(g, "w", &wt, &err), RQ_OK);
    assert_int_equal(rq_edit_constant(g, "w", &got, &err), RQ_OK);
    assert_true(got.f32[5] == 1);
    rq_tensor_release(&got);
    run_small(g, 3, 6);
    rq_graph_destroy(g);
}

static void mistakes_are_sentences_and_change_nothing(void **state)
{
    rq_graph *g = small();
    rq_shape s = shape2(1, 3);
    rq_value_info v;
    rq_qparams q;
    const int n = rq_edit_n_nodes(g);
    assert_int_equal(rq_edit_add_input(g, "w", RQ_DTYPE_F32, &s, &err), RQ_BAD_GRAPH);
    assert_non_null(strstr(err.text, "'w' is defined twice"));
    assert_int_equal(rq_graph_n_inputs(g), 1);
    assert_int_equal(
        rq_edit_add_node(g,
                         &(rq_edit_node) { .op = "Relu", .in = NAMES("pp"), .n_in = 1, .out = NAMES("q"), .n_out = 1 },
                         NULL, &err),
        RQ_NOT_FOUND);
    assert_non_null(strstr(err.text, "nearest is 'p'"));
    assert_int_equal(rq_edit_value(g, "q", &v, &err), RQ_NOT_FOUND); /* the output went again */
    assert_int_equal(
        rq_edit_add_node(
            g, &(rq_edit_node) { .op = "Split", .in = NAMES("p"), .n_in = 1, .out = NAMES("fresh", "y"), .n_out = 2 },
            NULL, &err),
        RQ_BAD_GRAPH);
    assert_int_equal(rq_edit_value(g, "fresh", &v, &err), RQ_NOT_FOUND);
    assert_int_equal(rq_edit_n_nodes(g), n);
    assert_int_equal(rq_edit_add_output(g, "y", &err), RQ_BAD_GRAPH);
    assert_int_equal(rq_edit_set_int(g, 99, "axis", 1, &err), RQ_NOT_FOUND);
    assert_int_equal(rq_edit_set_opset(g, "", 0, &err), RQ_BAD_ARG);
    assert_int_equal(rq_qparams_init(&q, RQ_DTYPE_S8, 1, 0, 3), RQ_OK);
    assert_int_equal(rq_edit_set_quant(g, "w", &q, &err), RQ_BAD_SHAPE); /* 2 columns, 3 scales */
    rq_qparams_release(&q);
    assert_int_equal(rq_edit_set_input(g, 0, 5, "x", &err), RQ_NOT_FOUND);

    /* a node that cannot work is found by the check, and named */
    int add;
    assert_int_equal(
        rq_edit_add_node(
            g,
            &(rq_edit_node) {
                .op = "Ad", .name = "sum", .in = NAMES("p", "x"), .n_in = 2, .out = NAMES("s"), .n_out = 1 },
            &add, &err),
        RQ_OK);
    assert_int_equal(rq_edit_check(g, &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "node 'sum'"));
    assert_int_equal(rq_edit_remove_node(g, add, &err), RQ_OK);
    assert_int_equal(rq_edit_check(g, &err), RQ_OK);
    rq_graph_destroy(g);
}

/* ---- own operators ---- */

static rq_status same_infer(void *user, const rq_own_call *c, rq_dtype *dtype, rq_shape *shape)
{
    dtype[0] = c->in[0]->dtype;
    shape[0] = c->in[0]->shape;
    return c->in[0]->dtype == RQ_DTYPE_F32 ? RQ_OK : RQ_BAD_DTYPE;
}

static void double_one(void *arg, int64_t i)
{
    float *y = arg;
    y[i] *= 2;
}

static rq_status twice(void *user, const rq_own_call *c, rq_tensor *const *out)
{
    if (rq_own_attr_int(c, "broken", 0))
        return rq_own_fail(c, RQ_NUMERIC, "asked to fail");
    memcpy(out[0]->f32, c->in[0]->f32, out[0]->bytes);
    rq_own_parallel(c, rq_tensor_count(out[0]), double_one, out[0]->f32);
    return RQ_OK;
}

static const rq_own_op twice_op = { .domain = "com.example",
                                    .name = "Twice",
                                    .min_in = 1,
                                    .max_in = 1,
                                    .n_out = 1,
                                    .infer = same_infer,
                                    .forward = twice };

static void an_own_operator_runs_in_copies_after_the_set_was_let_go(void **state)
{
    rq_graph *g = small(), *copy;
    rq_own *own;
    rq_session *s;
    int node;
    assert_int_equal(rq_edit_set_opset(g, "com.example", 1, &err), RQ_OK);
    assert_int_equal(rq_edit_add_node(g,
                                      &(rq_edit_node) { .op = "Twice",
                                                        .domain = "com.example",
                                                        .name = "twice",
                                                        .in = NAMES("y"),
                                                        .n_in = 1,
                                                        .out = NAMES("t"),
                                                        .n_out = 1 },
                                      &node, &err),
                     RQ_OK);
    assert_int_equal(rq_edit_replace(g, "y", "t", &err), RQ_OK); /* put in between */
    assert_int_equal(rq_edit_check(g, &err), RQ_OK);
    assert_int_equal(rq_session_create(&s, g, NULL, &err),
                     RQ_UNSUPPORTED); /* it loads, prints and saves, but runs not */
    assert_non_null(strstr(err.text, "com.example.Twice"));

    assert_int_equal(rq_own_create(&own), RQ_OK);
    assert_int_equal(rq_own_add_op(own, &twice_op, &err), RQ_OK);
    assert_int_equal(rq_own_attach(g, own, &err), RQ_OK);
    rq_own_unref(&own);
    assert_null(own);
    run_small(g, 0, 6);
    assert_int_equal(rq_graph_copy(&copy, g), RQ_OK);
    rq_graph_destroy(g);
    run_small(copy, 0, 6);

    float x[3] = { 1, 2, 3 };
    rq_shape xs = shape2(1, 3);
    rq_feed in = { "x", rq_tensor_view(RQ_DTYPE_F32, &xs, x) };
    rq_tensor y;
    assert_int_equal(rq_edit_set_int(copy, rq_edit_find_node(copy, "twice"), "broken", 1, &err), RQ_OK);
    assert_int_equal(rq_session_create(&s, copy, NULL, &err), RQ_OK);
    assert_int_equal(rq_session_run(s, &in, 1, &y, &err), RQ_NUMERIC);
    assert_non_null(strstr(err.text, "node 'twice' (Twice): asked to fail"));
    rq_session_destroy(s);
    rq_graph_destroy(copy);
}

static void a_bad_own_operator_is_refused(void **state)
{
    rq_own *own;
    rq_own_op op = twice_op;
    assert_int_equal(rq_own_create(&own), RQ_OK);
    op.domain = "";
    assert_int_equal(rq_own_add_op(own, &op, &err), RQ_BAD_ARG);
    op = twice_op, op.forward = NULL;
    assert_int_equal(rq_own_add_op(own, &op, &err), RQ_BAD_ARG);
    op = twice_op, op.elementwise = true, op.max_in = 2;
    assert_int_equal(rq_own_add_op(own, &op, &err), RQ_BAD_ARG);
    assert_int_equal(rq_own_add_op(own, &twice_op, &err), RQ_OK);
    assert_int_equal(rq_own_add_op(own, &twice_op, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "there already"));
    op = twice_op, op.domain = "com.microsoft", op.name = "FusedConv";
    assert_int_equal(rq_own_add_op(own, &op, &err), RQ_BAD_ARG); /* the library's own */
    rq_own_unref(&own);
    rq_own_unref(&own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_graph_built_by_hand_runs_saves_and_comes_back),
        cmocka_unit_test(nodes_can_be_looked_at_and_replaced),
        cmocka_unit_test(mistakes_are_sentences_and_change_nothing),
        cmocka_unit_test(an_own_operator_runs_in_copies_after_the_set_was_let_go),
        cmocka_unit_test(a_bad_own_operator_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
