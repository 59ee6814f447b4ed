/* tests/ops/test_raise.c — Q/DQ pairs and QOperator nodes as annotations: the golden models, and corner cases by hand.
 * That lowered models compute the same bits is tests/interop's to show. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#include "build.h"
#include "ops/op.h"
#include "requant/requant.h"

#define GOLDEN "tests/golden/onnx/"

static rq_graph *load(const char *path)
{
    rq_graph *g;
    rq_err err = { 0 };
    if (rq_load(&g, path, &err))
        fail_msg("%s: %s", path, err.text);
    return g;
}

static void raise_ok(rq_graph *g, const char *what)
{
    rq_err err = { 0 };
    if (rq_raise(g, NULL, &err) || rq_graph_check(g, &err))
        fail_msg("%s: %s", what, err.text);
}

static void lower_ok(rq_graph *g, const char *what)
{
    rq_err err = { 0 };
    if (rq_lower_qdq(g, &err) || rq_graph_check(g, &err))
        fail_msg("%s: %s", what, err.text);
}

static char *text_of(const rq_graph *g)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    assert_int_equal(rq_graph_print(g, f), RQ_OK);
    fclose(f);
    char *body = strstr(text, "graph "); /* the opset may have been raised */
    assert_non_null(body);
    memmove(text, body, strlen(body) + 1);
    for (char *p = text; (p = strstr(p, " #")); p++) /* numbers of annotations follow the order of nodes */
        memmove(p, p + strcspn(p, "}\n"), strlen(p + strcspn(p, "}\n")) + 1);
    return text;
}

/* ---- the golden models ---- */

static void pairs_disappear_from_every_qdq_model(void **state)
{
    glob_t files;
    assert_int_equal(glob(GOLDEN "qdq/*.onnx", 0, NULL, &files), 0);
    assert_true(files.gl_pathc > 100);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        rq_graph *g = load(files.gl_pathv[i]);
        raise_ok(g, files.gl_pathv[i]);
        if (count_op(g, "QuantizeLinear") || count_op(g, "DequantizeLinear"))
            fail_msg("%s: a pair is left", files.gl_pathv[i]);
        rq_graph_destroy(g);
    }
    globfree(&files);
}

/* Raising what was lowered gives the raised graph again, names included. */
static void lowering_is_undone_by_raising(void **state)
{
    static const char *const sets[] = { GOLDEN "qdq/*.onnx", GOLDEN "static_quant/*_q*.onnx" };
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        glob_t files;
        assert_int_equal(glob(sets[s], 0, NULL, &files), 0);
        for (size_t i = 0; i < files.gl_pathc; i++) {
            rq_graph *g = load(files.gl_pathv[i]);
            raise_ok(g, files.gl_pathv[i]);
            char *want = text_of(g);
            lower_ok(g, files.gl_pathv[i]);
            for (int v = 0; v < g->n_values; v++)
                assert_int_equal(g->values[v].quant, RQ_NONE);
            raise_ok(g, files.gl_pathv[i]);
            char *got = text_of(g);
            const char *a = want, *b = got;
            while (*a && *a == *b)
                a++, b++;
            if (*a != *b) {
                while (a > want && a[-1] != '\n')
                    a--, b--;
                fail_msg("%s:\n%.200s\nbecame\n%.200s", files.gl_pathv[i], a, b);
            }
            free(want);
            free(got);
            rq_graph_destroy(g);
        }
        globfree(&files);
    }
}

static void a_conv_with_relu_is_one_annotated_conv(void **state)
{
    rq_graph *g = load(GOLDEN "qdq/conv_pc_relu_u8s8.onnx");
    raise_ok(g, "conv_pc_relu_u8s8");
    assert_int_equal(count_nodes(g), 1);
    const rq_node *conv = &g->nodes[g->values[find_value(g, "y")].producer];
    assert_string_equal(conv->op, "Conv");
    const rq_qparams *x = rq_graph_qparams(g, conv->in[0]), *w = rq_graph_qparams(g, conv->in[1]),
                     *b = rq_graph_qparams(g, conv->in[2]);
    assert_int_equal(x->dtype, RQ_DTYPE_U8);
    assert_int_equal(x->zero_point[0], 136);
    assert_int_equal(w->dtype, RQ_DTYPE_S8);
    assert_int_equal(w->axis, 0);
    assert_int_equal(w->n, 4);
    assert_int_equal(g->values[conv->in[1]].constant.dtype, RQ_DTYPE_S8);
    assert_int_equal(g->values[conv->in[1]].dtype, RQ_DTYPE_F32);
    assert_int_equal(b->dtype, RQ_DTYPE_S32);
    assert_int_equal(g->quants[g->values[conv->in[2]].quant].derived_x, conv->in[0]);
    assert_int_equal(g->quants[g->values[conv->in[2]].quant].derived_w, conv->in[1]);
    rq_graph_destroy(g);
}

static void relu_stays_where_the_range_goes_below_zero(void **state)
{
    rq_graph *g = load(GOLDEN "qdq/conv_relu_range_below_zero.onnx");
    raise_ok(g, "conv_relu_range_below_zero");
    assert_int_equal(count_op(g, "Relu"), 1);
    rq_graph_destroy(g);
}

/* To be run, the convolution before such a Relu is rounded as the Relu is; to be written it stays as it was. What ONNX Runtime gives for it is in the golden data. */
static void a_relu_that_stays_runs_on_codes(void **state)
{
    rq_err err = { 0 };
    rq_graph *g = load(GOLDEN "qdq/conv_relu_range_below_zero.onnx");
    assert_int_equal(rq_raise_to_run(g, &err), RQ_OK);
    const rq_node *relu = &g->nodes[g->values[find_value(g, "y")].producer];
    assert_string_equal(relu->op, "Relu");
    assert_true(rq_qparams_equal(rq_graph_qparams(g, relu->in[0]), rq_graph_qparams(g, relu->out[0])));
    assert_string_equal(g->nodes[g->values[relu->in[0]].producer].op, "Conv");
    rq_graph_destroy(g);
}

static void a_value_seen_unrounded_gets_a_twin(void **state)
{
    rq_graph *g = load(GOLDEN "qdq/conv_two_consumers.onnx");
    raise_ok(g, "conv_two_consumers");
    assert_int_equal(count_op(g, "Requantize"), 1);
    assert_int_equal(count_op(g, "Relu"), 1);
    lower_ok(g, "conv_two_consumers");
    assert_int_equal(count_op(g, "Requantize"), 0);
    assert_int_equal(rq_graph_opset(g, "requant"), 0);
    rq_graph_destroy(g);
}

static void qlinear_nodes_become_plain_ones(void **state)
{
    static const char *const ops[] = { "QLinearConv",
                                       "QLinearMatMul",
                                       "QGemm",
                                       "QLinearAdd",
                                       "QLinearMul",
                                       "QLinearSigmoid",
                                       "QLinearLeakyRelu",
                                       "QLinearSoftmax",
                                       "QLinearAveragePool",
                                       "QLinearGlobalAveragePool",
                                       "QLinearConcat",
                                       "QLinearWhere",
                                       "MatMulIntegerToFloat" };
    glob_t files;
    int raised = 0;
    assert_int_equal(glob(GOLDEN "qops/*.onnx", 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        rq_graph *g = load(files.gl_pathv[i]);
        int before = 0;
        for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
            before += count_op(g, ops[k]);
        raise_ok(g, files.gl_pathv[i]);
        for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
            if (count_op(g, ops[k]))
                fail_msg("%s: %s is left", files.gl_pathv[i], ops[k]);
        raised += before;
        rq_graph_destroy(g);
    }
    assert_true(raised > 90);
    globfree(&files);
}

/* ---- by hand ---- */

static const int64_t dims[] = { 2, 3 };

/* x -> op -> a, to be rounded. */
static rq_graph *small(rq_id *a)
{
    rq_graph *g = build_graph(13);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 2, dims);
    *a = build_node(g, "Tanh", "a", RQ_DTYPE_F32, BUILD_IN(x));
    return g;
}

static void equal_pairs_are_one_annotation(void **state)
{
    rq_id a;
    rq_graph *g = small(&a);
    for (int i = 0; i < 2; i++) { /* two pairs, parameters equal but not shared */
        char name[4][8];
        for (int k = 0; k < 4; k++)
            snprintf(name[k], sizeof name[k], "%c%d", "szqd"[k], i);
        rq_id s = build_scalar(g, name[0], RQ_DTYPE_F32, 0.5), z = build_scalar(g, name[1], RQ_DTYPE_S8, 3);
        rq_id q = build_node(g, "QuantizeLinear", name[2], RQ_DTYPE_S8, BUILD_IN(a, s, z));
        rq_id d = build_node(g, "DequantizeLinear", name[3], RQ_DTYPE_F32, BUILD_IN(q, s, z));
        build_output(g, build_node(g, i ? "Neg" : "Abs", i ? "n" : "m", RQ_DTYPE_F32, BUILD_IN(d)));
    }
    raise_ok(g, "equal pairs");
    assert_int_equal(count_nodes(g), 3);
    assert_int_equal(rq_graph_qparams(g, find_value(g, "a"))->zero_point[0], 3);
    rq_graph_destroy(g);
}

static void different_pairs_are_two_twins(void **state)
{
    rq_id a;
    rq_graph *g = small(&a);
    for (int i = 0; i < 2; i++) {
        char name[3][8];
        for (int k = 0; k < 3; k++)
            snprintf(name[k], sizeof name[k], "%c%d", "sqd"[k], i);
        rq_id s = build_scalar(g, name[0], RQ_DTYPE_F32, 0.5 + i); /* no zero point: u8, 0 */
        rq_id q = build_node(g, "QuantizeLinear", name[1], RQ_DTYPE_U8, BUILD_IN(a, s));
        rq_id d = build_node(g, "DequantizeLinear", name[2], RQ_DTYPE_F32, BUILD_IN(q, s));
        build_output(g, build_node(g, i ? "Neg" : "Abs", i ? "n" : "m", RQ_DTYPE_F32, BUILD_IN(d)));
    }
    raise_ok(g, "different pairs");
    assert_int_equal(count_op(g, "Requantize"), 2);
    assert_null(rq_graph_qparams(g, find_value(g, "a")));
    assert_int_equal(rq_graph_qparams(g, find_value(g, "d1"))->dtype, RQ_DTYPE_U8);
    assert_true(rq_graph_qparams(g, find_value(g, "d1"))->scale[0] == 1.5f);
    rq_graph_destroy(g);
}

static void a_chain_of_pairs_requantizes(void **state)
{
    rq_id a;
    rq_graph *g = small(&a);
    rq_id s = build_scalar(g, "s", RQ_DTYPE_F32, 0.5), t = build_scalar(g, "t", RQ_DTYPE_F32, 0.25);
    rq_id q = build_node(g, "QuantizeLinear", "q", RQ_DTYPE_U8, BUILD_IN(a, s));
    rq_id d = build_node(g, "DequantizeLinear", "d", RQ_DTYPE_F32, BUILD_IN(q, s));
    q = build_node(g, "QuantizeLinear", "q2", RQ_DTYPE_U8, BUILD_IN(d, t));
    d = build_node(g, "DequantizeLinear", "d2", RQ_DTYPE_F32, BUILD_IN(q, t));
    build_output(g, build_node(g, "Neg", "n", RQ_DTYPE_F32, BUILD_IN(d)));
    raise_ok(g, "chain");
    assert_int_equal(count_nodes(g), 3);
    assert_true(rq_graph_qparams(g, find_value(g, "a"))->scale[0] == 0.5f);
    assert_true(rq_graph_qparams(g, find_value(g, "d2"))->scale[0] == 0.25f);
    rq_graph_destroy(g);
}

/* Integers that the user feeds or gets stay; their nodes are views of codes. */
static void integer_inputs_and_outputs_stay(void **state)
{
    rq_graph *g = build_graph(13);
    rq_id x = build_input(g, "x", RQ_DTYPE_U8, 2, dims), s = build_scalar(g, "s", RQ_DTYPE_F32, 0.5);
    rq_id d = build_node(g, "DequantizeLinear", "d", RQ_DTYPE_F32, BUILD_IN(x, s));
    rq_id n = build_node(g, "Tanh", "n", RQ_DTYPE_F32, BUILD_IN(d));
    build_output(g, build_node(g, "QuantizeLinear", "y", RQ_DTYPE_U8, BUILD_IN(n, s)));
    raise_ok(g, "integer ends");
    assert_int_equal(count_nodes(g), 3);
    assert_non_null(rq_graph_qparams(g, find_value(g, "d")));
    assert_non_null(rq_graph_qparams(g, find_value(g, "n")));
    assert_null(rq_graph_qparams(g, find_value(g, "x")));
    lower_ok(g, "integer ends");
    assert_int_equal(count_nodes(g), 3);
    rq_graph_destroy(g);
}

static void parameters_that_are_not_constant_stay(void **state)
{
    rq_id a;
    rq_graph *g = small(&a);
    rq_id s = build_input(g, "s", RQ_DTYPE_F32, 0, NULL);
    rq_id q = build_node(g, "QuantizeLinear", "q", RQ_DTYPE_U8, BUILD_IN(a, s));
    build_output(g, build_node(g, "DequantizeLinear", "d", RQ_DTYPE_F32, BUILD_IN(q, s)));
    raise_ok(g, "dynamic scale");
    assert_int_equal(count_nodes(g), 3);
    rq_graph_destroy(g);
}

/* Scale 0 and infinity round everything away; rounding twice is not rounding once. */
static void odd_scales_stay(void **state)
{
    static const double odd[] = { 0, -0.5, 1e-40, 3e38 };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        rq_id a;
        rq_graph *g = small(&a);
        rq_id s = build_scalar(g, "s", RQ_DTYPE_F32, odd[i]);
        rq_id q = build_node(g, "QuantizeLinear", "q", RQ_DTYPE_U8, BUILD_IN(a, s));
        build_output(g, build_node(g, "DequantizeLinear", "d", RQ_DTYPE_F32, BUILD_IN(q, s)));
        raise_ok(g, "odd scale");
        assert_int_equal(count_op(g, "QuantizeLinear"), 1);
        assert_int_equal(count_op(g, "DequantizeLinear"), 1);
        rq_graph_destroy(g);
    }
}

/* A missing axis means 1; a float weight is rounded now; an axis that does not fit is left for the executor to refuse. */
static void weights_become_codes(void **state)
{
    static const double w[] = { 0.26, -0.74, 1, 2, -3, 0.5 }, scales[] = { 0.5, 0.25, 1 };
    const int64_t three[] = { 3 };
    for (int axis = 0; axis < 2; axis++) {
        rq_graph *g = build_graph(13);
        rq_id x = build_input(g, "x", RQ_DTYPE_F32, 2, dims);
        rq_id c = build_const(g, "w", RQ_DTYPE_F32, 2, dims, w),
              s = build_const(g, "s", RQ_DTYPE_F32, 1, three, scales);
        rq_id z = build_const(g, "z", RQ_DTYPE_S8, 1, three, (double[]) { 0, 0, 0 });
        rq_id q = build_node(g, "QuantizeLinear", "q", RQ_DTYPE_S8, BUILD_IN(c, s, z));
        rq_id d = build_node(g, "DequantizeLinear", "d", RQ_DTYPE_F32, BUILD_IN(q, s, z));
        if (axis == 0) {
            assert_int_equal(rq_attr_set_int(g, g->values[q].producer, "axis", 0), RQ_OK);
            assert_int_equal(rq_attr_set_int(g, g->values[d].producer, "axis", 0), RQ_OK);
        }
        build_output(g, build_node(g, "Add", "y", RQ_DTYPE_F32, BUILD_IN(x, d)));
        raise_ok(g, "weights");
        assert_int_equal(count_nodes(g), axis == 0 ? 3 : 1);
        if (axis == 1) {
            rq_id kept = find_value(g, "w");
            const rq_tensor *codes = &g->values[kept].constant;
            assert_int_equal(codes->dtype, RQ_DTYPE_S8);
            assert_int_equal(rq_graph_qparams(g, kept)->axis, 1);
            const int8_t want[] = { 1, -3, 1, 4, -12, 0 }; /* .52 -> 1, -2.96 -> -3, .5 -> 0 (half to even) */
            assert_memory_equal(codes->s8, want, sizeof want);
        }
        rq_graph_destroy(g);
    }
}

/* Codes pass operators that only move them: the annotation goes along, up and down. */
static void annotations_spread_along_moves(void **state)
{
    rq_graph *g = build_graph(13);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 2, dims);
    rq_id s = build_scalar(g, "s", RQ_DTYPE_F32, 0.5), z = build_scalar(g, "z", RQ_DTYPE_U8, 0);
    rq_id a = build_node(g, "Add", "a", RQ_DTYPE_F32, BUILD_IN(x, x));
    rq_id r = build_node(g, "Relu", "r", RQ_DTYPE_F32, BUILD_IN(a));
    rq_id t = build_node(g, "Transpose", "t", RQ_DTYPE_F32, BUILD_IN(r));
    rq_id q = build_node(g, "QuantizeLinear", "q", RQ_DTYPE_U8, BUILD_IN(t, s, z));
    rq_id d = build_node(g, "DequantizeLinear", "d", RQ_DTYPE_F32, BUILD_IN(q, s, z));
    rq_id f = build_node(g, "Flatten", "f", RQ_DTYPE_F32, BUILD_IN(d));
    build_output(g, build_node(g, "Neg", "y", RQ_DTYPE_F32, BUILD_IN(f)));
    raise_ok(g, "moves");
    assert_int_equal(count_op(g, "Relu"), 0); /* swallowed: u8 with zero point 0 holds nothing below zero */
    assert_non_null(rq_graph_qparams(g, find_value(g, "r")));
    assert_non_null(rq_graph_qparams(g, find_value(g, "t")));
    assert_non_null(rq_graph_qparams(g, find_value(g, "f")));
    assert_int_equal(rq_graph_find(g, "a"), RQ_NONE);
    rq_graph_destroy(g);
}

/* Whatever allocation fails: an error, no crash, no leak. */
static void running_out_of_memory_is_an_error(void **state)
{
    size_t before = rq_mem_live();
    static const char *const files[] = { GOLDEN "qdq/conv_two_consumers.onnx",
                                         GOLDEN "qops/qlinearconv2d_u8s8_pc.onnx" };
    for (size_t f = 0; f < 2; f++)
        for (size_t n = 1;; n++) {
            rq_graph *g = load(files[f]);
            rq_err err = { 0 };
            rq_mem_fail_after(n, true);
            rq_status st = rq_raise(g, NULL, &err);
            if (!st)
                st = rq_lower_qdq(g, &err);
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
        cmocka_unit_test(pairs_disappear_from_every_qdq_model),
        cmocka_unit_test(lowering_is_undone_by_raising),
        cmocka_unit_test(a_conv_with_relu_is_one_annotated_conv),
        cmocka_unit_test(relu_stays_where_the_range_goes_below_zero),
        cmocka_unit_test(a_relu_that_stays_runs_on_codes),
        cmocka_unit_test(a_value_seen_unrounded_gets_a_twin),
        cmocka_unit_test(qlinear_nodes_become_plain_ones),
        cmocka_unit_test(equal_pairs_are_one_annotation),
        cmocka_unit_test(different_pairs_are_two_twins),
        cmocka_unit_test(a_chain_of_pairs_requantizes),
        cmocka_unit_test(integer_inputs_and_outputs_stay),
        cmocka_unit_test(parameters_that_are_not_constant_stay),
        cmocka_unit_test(odd_scales_stay),
        cmocka_unit_test(weights_become_codes),
        cmocka_unit_test(annotations_spread_along_moves),
        cmocka_unit_test(running_out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
