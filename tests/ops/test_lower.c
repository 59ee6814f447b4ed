/* tests/ops/test_lower.c — annotations written as Q/DQ nodes: names, sharing, opsets. That the result computes the same
 * is tests/interop's to show, on the golden models; here is what a file looks like (docs/onnx-facts.md 4.6, 1.10). */
#include "build.h"
#include "ops/op.h"
#include "ops/upgrade.h"

static const int64_t image[] = { 1, 2, 4, 4 }, kernel[] = { 3, 2, 1, 1 }, three[] = { 3 };

static rq_id annotate(rq_graph *g, rq_id v, rq_dtype d, float scale, int32_t zero_point)
{
    rq_qparams q;
    rq_id id;
    assert_int_equal(rq_qparams_init_one(&q, d, scale, zero_point), RQ_OK);
    assert_int_equal(rq_graph_add_quant(g, &id, &q, "given"), RQ_OK);
    g->values[v].quant = id;
    return id;
}

static void annotate_axis(rq_graph *g, rq_id v, rq_dtype d, int axis, int64_t n)
{
    rq_qparams q;
    rq_id id;
    assert_int_equal(rq_qparams_init(&q, d, axis, 0, n), RQ_OK);
    for (int64_t i = 0; i < n; i++)
        q.scale[i] = 0.25f * (float)(i + 1);
    assert_int_equal(rq_graph_add_quant(g, &id, &q, "given"), RQ_OK);
    g->values[v].quant = id;
}

/* x -> Conv(W, b) -> y, an output. */
static rq_graph *conv(int64_t opset)
{
    static const double w[6] = { 0.25, -0.5, 1, 0.5, 0.75, -1.5 }, b[3] = { 1, 2, 3 };
    rq_graph *g = build_graph(opset);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, image);
    rq_id weight = build_const(g, "W", RQ_DTYPE_F32, 4, kernel, w),
          bias = build_const(g, "b", RQ_DTYPE_F32, 1, three, b);
    build_output(g, build_node(g, "Conv", "y", RQ_DTYPE_F32, BUILD_IN(x, weight, bias)));
    return g;
}

static void lower(rq_graph *g)
{
    rq_err err = { 0 };
    if (rq_lower_qdq(g, &err) || rq_graph_check(g, &err))
        fail_msg("%s", err.text);
}

static const rq_node *maker(const rq_graph *g, const char *value)
{
    rq_id v = find_value(g, value);
    assert_int_equal(g->values[v].kind, RQ_VALUE_NODE);
    return &g->nodes[g->values[v].producer];
}

static void names_are_those_of_the_quantizer_of_onnx_runtime(void **state)
{
    rq_graph *g = conv(13);
    annotate(g, find_value(g, "x"), RQ_DTYPE_U8, 0.5f, 3);
    annotate_axis(g, find_value(g, "W"), RQ_DTYPE_S8, 0, 3);
    annotate(g, find_value(g, "y"), RQ_DTYPE_U8, 0.125f, 0);
    lower(g);
    const rq_node *dq = maker(g, "y"), *q = maker(g, "y_QuantizeLinear_Output"),
                  *c = maker(g, "y_QuantizeLinear_Input");
    assert_string_equal(dq->op, "DequantizeLinear");
    assert_string_equal(dq->name, "y_DequantizeLinear");
    assert_string_equal(q->op, "QuantizeLinear");
    assert_string_equal(q->name, "y_QuantizeLinear");
    assert_string_equal(c->op, "Conv");
    assert_string_equal(g->values[g->outputs[0]].name, "y");
    assert_string_equal(g->values[c->in[0]].name, "x_DequantizeLinear_Output");
    assert_string_equal(g->values[c->in[1]].name, "W_DequantizeLinear_Output");
    assert_string_equal(g->values[c->in[2]].name, "b");
    const rq_value *scale = &g->values[find_value(g, "x_scale")], *zero = &g->values[find_value(g, "x_zero_point")];
    assert_int_equal(scale->constant.shape.rank, 0);
    assert_true(scale->constant.f32[0] == 0.5f);
    assert_int_equal(zero->constant.dtype, RQ_DTYPE_U8);
    assert_int_equal(zero->constant.u8[0], 3);
    /* weights: codes rounded now, a scale per channel, the axis written */
    const rq_node *w = maker(g, "W_DequantizeLinear_Output");
    assert_int_equal(rq_attr_int(w, RQ_WORD_axis, 7), 0);
    const rq_tensor *codes = &g->values[find_value(g, "W_quantized")].constant;
    const int8_t want[] = { 1, -2, 2, 1, 1, -2 };
    assert_int_equal(codes->dtype, RQ_DTYPE_S8);
    assert_memory_equal(codes->s8, want, sizeof want);
    assert_int_equal(g->values[find_value(g, "W_scale")].constant.shape.rank, 1);
    assert_int_equal(rq_graph_find(g, "W"), RQ_NONE);
    rq_graph_destroy(g);
}

static void values_of_one_annotation_share_its_constants(void **state)
{
    rq_graph *g = conv(13);
    g->values[find_value(g, "y")].quant = annotate(g, find_value(g, "x"), RQ_DTYPE_U8, 0.5f, 3);
    lower(g);
    assert_int_equal(maker(g, "y")->in[1], maker(g, "x_QuantizeLinear_Output")->in[1]);
    assert_int_equal(maker(g, "y")->in[2], maker(g, "x_QuantizeLinear_Output")->in[2]);
    rq_graph_destroy(g);
}

/* Per tensor fits opset 10; an axis needs 13, 16 bits 21, 2 bits 25. The IR version follows. */
static void the_opset_rises_only_as_far_as_needed(void **state)
{
    static const struct {
        int64_t opset, want, ir;
        rq_dtype d;
        bool axis;
    } cases[] = { { 11, 11, 8, RQ_DTYPE_U8, false },   { 8, 10, 8, RQ_DTYPE_S8, false },
                  { 11, 13, 8, RQ_DTYPE_S8, true },    { 17, 17, 8, RQ_DTYPE_S8, true },
                  { 13, 21, 10, RQ_DTYPE_U16, false }, { 13, 21, 10, RQ_DTYPE_S4, false },
                  { 13, 25, 13, RQ_DTYPE_S2, false },  { 22, 22, 10, RQ_DTYPE_S16, false } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rq_graph *g = conv(cases[i].opset);
        if (cases[i].axis)
            annotate_axis(g, find_value(g, "W"), cases[i].d, 0, 3);
        else
            annotate(g, find_value(g, "W"), cases[i].d, 0.5f, 0);
        lower(g);
        assert_int_equal(rq_graph_opset(g, ""), cases[i].want);
        assert_int_equal(g->ir_version, cases[i].ir);
        assert_int_equal(rq_attr_find(maker(g, "W_DequantizeLinear_Output"), RQ_WORD_axis) != NULL, cases[i].axis);
        rq_graph_destroy(g);
    }
}

static void blocks_are_written_as_blocks(void **state)
{
    static const double w[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 };
    const int64_t table[] = { 5, 2 };
    rq_graph *g = build_graph(13);
    rq_id i = build_input(g, "i", RQ_DTYPE_S64, 1, three), t = build_const(g, "T", RQ_DTYPE_F32, 2, table, w);
    build_output(g, build_node(g, "Gather", "y", RQ_DTYPE_F32, BUILD_IN(t, i)));
    rq_qparams q;
    assert_int_equal(rq_qparams_init(&q, RQ_DTYPE_S4, 0, 2, 6), RQ_OK); /* 5 rows in blocks of 2: 3, times 2 columns */
    for (int k = 0; k < 6; k++)
        q.scale[k] = 2;
    assert_int_equal(rq_graph_add_quant(g, &g->values[t].quant, &q, "given"), RQ_OK);
    lower(g);
    const rq_node *dq = maker(g, "T_DequantizeLinear_Output");
    assert_int_equal(rq_attr_int(dq, RQ_WORD_block_size, 0), 2);
    assert_int_equal(rq_attr_int(dq, RQ_WORD_axis, 1), 0);
    const rq_shape *s = &g->values[dq->in[1]].constant.shape;
    assert_int_equal(s->rank, 2);
    assert_int_equal(s->dim[0], 3);
    assert_int_equal(s->dim[1], 2);
    rq_graph_destroy(g);
}

static void names_that_are_taken_are_numbered(void **state)
{
    rq_graph *g = conv(13);
    build_scalar(g, "x_scale", RQ_DTYPE_F32, 7);
    rq_id used = build_node(g, "Identity", "x_QuantizeLinear_Output", RQ_DTYPE_F32, BUILD_IN(find_value(g, "x_scale")));
    build_output(g, used);
    annotate(g, find_value(g, "x"), RQ_DTYPE_U8, 0.5f, 3);
    lower(g);
    assert_true(g->values[find_value(g, "x_scale")].constant.f32[0] == 7);
    assert_true(g->values[find_value(g, "x_scale_1")].constant.f32[0] == 0.5f);
    rq_graph_destroy(g);
}

static void a_graph_without_annotations_stays(void **state)
{
    rq_graph *g = conv(9);
    lower(g);
    assert_int_equal(count_nodes(g), 1);
    assert_int_equal(rq_graph_opset(g, ""), 9);
    rq_graph_destroy(g);
}

/* ---- opsets ---- */

static void what_has_no_equal_is_an_error(void **state)
{
    rq_graph *g = build_graph(8);
    rq_err err = { 0 };
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, image);
    rq_id y = build_node(g, "BatchNormalization", "y", RQ_DTYPE_F32, BUILD_IN(x, x, x, x, x));
    assert_int_equal(rq_attr_set_int(g, g->values[y].producer, "spatial", 0), RQ_OK);
    build_output(g, y);
    assert_int_equal(rq_upgrade(g, 13, &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "spatial"));
    assert_int_equal(rq_upgrade(g, 26, &err), RQ_UNSUPPORTED);
    rq_graph_destroy(g);
    g = conv(6);
    assert_int_equal(rq_upgrade(g, 13, &err), RQ_UNSUPPORTED);
    rq_graph_destroy(g);
}

/* Softmax over several axes at once becomes a matrix first. */
static void a_flattening_softmax_is_spelled_out(void **state)
{
    for (int axis = 1; axis < 4; axis += 2) {
        rq_graph *g = build_graph(12);
        rq_err err = { 0 };
        rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, image),
              y = build_node(g, "Softmax", "y", RQ_DTYPE_F32, BUILD_IN(x));
        assert_int_equal(rq_attr_set_int(g, g->values[y].producer, "axis", axis), RQ_OK);
        build_output(g, y);
        assert_int_equal(rq_upgrade(g, 13, &err), RQ_OK);
        assert_int_equal(count_nodes(g), axis == 1 ? 4 : 1);
        assert_int_equal(count_op(g, "Flatten"), axis == 1);
        assert_string_equal(g->values[g->outputs[0]].name, "y");
        assert_int_equal(rq_graph_check(g, &err), RQ_OK);
        rq_graph_destroy(g);
    }
}

/* Whatever allocation fails: an error, no crash, no leak. */
static void running_out_of_memory_is_an_error(void **state)
{
    size_t before = rq_mem_live();
    for (size_t n = 1;; n++) {
        rq_graph *g = conv(11);
        rq_err err = { 0 };
        annotate(g, find_value(g, "x"), RQ_DTYPE_U8, 0.5f, 3);
        annotate_axis(g, find_value(g, "W"), RQ_DTYPE_S8, 0, 3);
        annotate(g, find_value(g, "y"), RQ_DTYPE_U8, 0.125f, 0);
        rq_mem_fail_after(n, true);
        rq_status st = rq_lower_qdq(g, &err);
        rq_mem_fail_after(0, false);
        rq_graph_destroy(g);
        if (!st)
            break;
        assert_int_equal(st, RQ_NO_MEMORY);
        assert_true(err.text[0] != 0);
    }
    assert_int_equal(rq_mem_live(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_those_of_the_quantizer_of_onnx_runtime),
        cmocka_unit_test(values_of_one_annotation_share_its_constants),
        cmocka_unit_test(the_opset_rises_only_as_far_as_needed),
        cmocka_unit_test(blocks_are_written_as_blocks),
        cmocka_unit_test(names_that_are_taken_are_numbered),
        cmocka_unit_test(a_graph_without_annotations_stays),
        cmocka_unit_test(what_has_no_equal_is_an_error),
        cmocka_unit_test(a_flattening_softmax_is_spelled_out),
        cmocka_unit_test(running_out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
