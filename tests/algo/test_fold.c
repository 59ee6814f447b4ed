/* tests/algo/test_fold.c — folding a float graph: the same outputs as the graph had, and what is left of it. The large
 * comparison, with another runtime, is tests/interop's. */
#include <math.h>
#include <stdlib.h>

#include "../ops/build.h"
#include "fold/fold.h"
#include "base/rng.h"
#include "ops/op.h"
#include "requant/requant.h"

static const int64_t image[] = { 2, 3, 5, 5 };

/* Run g on its input "x" filled with noise; the caller frees. */
static float *run(const rq_graph *g, int64_t *count)
{
    rq_session *s;
    rq_err err = { 0 };
    rq_rng rng;
    rq_value_info in = rq_graph_input(g, 0);
    rq_tensor x, y;
    assert_int_equal(rq_tensor_create(&x, RQ_DTYPE_F32, &in.shape, false), RQ_OK);
    rq_rng_seed(&rng, 7);
    for (int64_t i = 0; i < rq_tensor_count(&x); i++)
        x.f32[i] = 4 * rq_rng_f32(&rng) - 2;
    if (rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err) ||
        rq_session_run(s, &(rq_feed) { in.name, x }, 1, &y, &err))
        fail_msg("%s", err.text);
    *count = rq_tensor_count(&y);
    float *copy = malloc(y.bytes);
    assert_non_null(copy);
    memcpy(copy, y.data, y.bytes);
    rq_tensor_release(&x);
    rq_tensor_release(&y);
    rq_session_destroy(s);
    return copy;
}

/* Fold g, and compare what it gives before and after. */
static rq_fold_counts fold(rq_graph *g)
{
    rq_fold_counts counts;
    rq_err err = { 0 };
    int64_t n, m;
    float *want = run(g, &n);
    if (rq_fold_graph(g, &counts, &err) || rq_graph_check(g, &err))
        fail_msg("%s", err.text);
    float *got = run(g, &m), most = 0;
    assert_int_equal(n, m);
    for (int64_t i = 0; i < n; i++)
        most = fabsf(want[i]) > most ? fabsf(want[i]) : most;
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-5f * most))
            fail_msg("element %lld: %g became %g", (long long)i, want[i], got[i]);
    free(want);
    free(got);
    return counts;
}

static rq_id noise(rq_graph *g, const char *name, int rank, const int64_t *dim, double lo, double hi)
{
    rq_shape s = rq_shape_of(rank, dim);
    double *v = malloc((size_t)rq_shape_count(&s) * sizeof *v);
    rq_rng rng;
    assert_non_null(v);
    rq_rng_seed(&rng, (uint64_t)name[0] * 31 + (uint64_t)name[1]);
    for (int64_t i = 0; i < rq_shape_count(&s); i++)
        v[i] = lo + (hi - lo) * rq_rng_f32(&rng);
    rq_id id = build_const(g, name, RQ_DTYPE_F32, rank, dim, v);
    free(v);
    return id;
}

static rq_id batch_norm(rq_graph *g, rq_id x, const char *out, int64_t channels)
{
    rq_id scale = noise(g, "gamma", 1, &channels, 0.5, 2), shift = noise(g, "beta", 1, &channels, -1, 1);
    rq_id mean = noise(g, "mean", 1, &channels, -1, 1), var = noise(g, "var", 1, &channels, 0.1, 2);
    return build_node(g, "BatchNormalization", out, RQ_DTYPE_F32, BUILD_IN(x, scale, shift, mean, var));
}

/* Conv, then everything that fits into it: by channel, by number, in any order of operands. */
static void what_follows_a_conv_goes_into_it(void **state)
{
    const int64_t w[] = { 4, 3, 3, 3 }, row[] = { 1, 4, 1, 1 }, col[] = { 4, 1, 1 };
    rq_graph *g = build_graph(13);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, image), k = noise(g, "W", 4, w, -1, 1);
    rq_id c = build_node(g, "Conv", "c", RQ_DTYPE_F32, BUILD_IN(x, k));
    rq_id a = build_node(g, "Add", "a", RQ_DTYPE_F32, BUILD_IN(noise(g, "p", 4, row, -1, 1), c));
    rq_id m = build_node(g, "Mul", "m", RQ_DTYPE_F32, BUILD_IN(a, noise(g, "q", 3, col, 0.5, 2)));
    rq_id s = build_node(g, "Sub", "s", RQ_DTYPE_F32, BUILD_IN(build_scalar(g, "one", RQ_DTYPE_F32, 1), m));
    rq_id d = build_node(g, "Div", "d", RQ_DTYPE_F32, BUILD_IN(s, build_scalar(g, "two", RQ_DTYPE_F32, 2)));
    build_output(g, build_node(g, "Relu", "y", RQ_DTYPE_F32, BUILD_IN(batch_norm(g, d, "n", 4))));
    rq_fold_counts n = fold(g);
    assert_int_equal(n.scales, 5);
    assert_int_equal(count_nodes(g), 2);
    const rq_node *conv = &g->nodes[g->values[find_value(g, "n")].producer];
    assert_string_equal(conv->op, "Conv");
    assert_int_equal(conv->n_in, 3);
    assert_string_equal(g->values[conv->in[1]].name, "W"); /* the name survives its content */
    rq_graph_destroy(g);
}

static void what_follows_a_grouped_conv_transpose_goes_into_it(void **state)
{
    const int64_t w[] = { 6, 2, 2, 2 }, six[] = { 2, 6, 5, 5 };
    rq_graph *g = build_graph(13);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, six), k = noise(g, "W", 4, w, -1, 1);
    rq_id c = build_node(g, "ConvTranspose", "c", RQ_DTYPE_F32, BUILD_IN(x, k));
    assert_int_equal(rq_attr_set_int(g, g->values[c].producer, "group", 3), RQ_OK);
    build_output(g, batch_norm(g, c, "y", 6));
    assert_int_equal(fold(g).scales, 1);
    assert_int_equal(count_nodes(g), 1);
    rq_graph_destroy(g);
}

static void matmul_and_add_are_gemm_and_take_a_batch_norm(void **state)
{
    const int64_t in[] = { 4, 6 }, w[] = { 6, 5 }, b[] = { 1, 5 };
    rq_graph *g = build_graph(13);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 2, in), k = noise(g, "W", 2, w, -1, 1);
    rq_id m = build_node(g, "MatMul", "m", RQ_DTYPE_F32, BUILD_IN(x, k));
    rq_id a = build_node(g, "Add", "a", RQ_DTYPE_F32, BUILD_IN(m, noise(g, "b", 2, b, -1, 1)));
    build_output(g, batch_norm(g, a, "y", 5));
    assert_int_equal(fold(g).scales, 2);
    assert_int_equal(count_nodes(g), 1);
    assert_int_equal(count_op(g, "Gemm"), 1);
    rq_graph_destroy(g);
}

/* C of a Gemm may hold a number per row; where there are as many rows as columns it still is none per column. */
static void a_bias_per_row_takes_no_scale(void **state)
{
    const int64_t in[] = { 4, 6 }, w[] = { 6, 4 }, c[] = { 4, 1 }, four[] = { 4 };
    rq_graph *g = build_graph(13);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 2, in);
    rq_id p =
        build_node(g, "Gemm", "p", RQ_DTYPE_F32, BUILD_IN(x, noise(g, "W", 2, w, -1, 1), noise(g, "C", 2, c, -1, 1)));
    build_output(g, build_node(g, "Mul", "y", RQ_DTYPE_F32, BUILD_IN(p, noise(g, "v", 1, four, -1, 1))));
    assert_int_equal(fold(g).scales, 0);
    assert_int_equal(count_nodes(g), 2);
    rq_graph_destroy(g);
}

/* A value that somebody else reads, and a constant that is not per channel, stay. */
static void what_does_not_fit_stays(void **state)
{
    const int64_t w[] = { 4, 3, 1, 1 }, wide[] = { 5 };
    rq_graph *g = build_graph(13);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, image), k = noise(g, "W", 4, w, -1, 1);
    rq_id c = build_node(g, "Conv", "c", RQ_DTYPE_F32, BUILD_IN(x, k));
    rq_id columns = build_node(g, "Mul", "columns", RQ_DTYPE_F32, BUILD_IN(c, noise(g, "v", 1, wide, -1, 1)));
    rq_id c2 = build_node(g, "Conv", "c2", RQ_DTYPE_F32, BUILD_IN(x, k));
    rq_id m = build_node(g, "Mul", "m", RQ_DTYPE_F32, BUILD_IN(c2, build_scalar(g, "two", RQ_DTYPE_F32, 2)));
    rq_id both = build_node(g, "Add", "both", RQ_DTYPE_F32, BUILD_IN(m, c2));
    build_output(g, build_node(g, "Add", "y", RQ_DTYPE_F32, BUILD_IN(both, columns)));
    assert_int_equal(fold(g).scales, 0);
    assert_int_equal(count_nodes(g), 6);
    rq_graph_destroy(g);
}

/* Weights that two products share are only changed for the one that wants it. */
static void shared_weights_stay_for_the_other(void **state)
{
    const int64_t w[] = { 4, 3, 1, 1 };
    rq_graph *g = build_graph(13);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, image), k = noise(g, "W", 4, w, -1, 1);
    rq_id c = build_node(g, "Conv", "c", RQ_DTYPE_F32, BUILD_IN(x, k)),
          d = build_node(g, "Conv", "d", RQ_DTYPE_F32, BUILD_IN(x, k));
    rq_id n = batch_norm(g, c, "n", 4);
    build_output(g, build_node(g, "Add", "y", RQ_DTYPE_F32, BUILD_IN(n, d)));
    assert_int_equal(fold(g).scales, 1);
    assert_int_equal(count_nodes(g), 3);
    rq_graph_destroy(g);
}

static void constants_are_computed_and_huge_ones_are_not(void **state)
{
    rq_graph *g = build_graph(13);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, image);
    const int64_t four[] = { 4 };
    rq_id a = build_node(g, "Exp", "a", RQ_DTYPE_F32, BUILD_IN(build_scalar(g, "one", RQ_DTYPE_F32, 1)));
    rq_id size = build_const(g, "size", RQ_DTYPE_S64, 1, four, (double[]) { 200, 3, 50, 50 });
    rq_id big = build_node(g, "Expand", "big", RQ_DTYPE_F32, BUILD_IN(a, size));
    const int64_t one[] = { 1 };
    rq_id axis = build_const(g, "axis", RQ_DTYPE_S64, 1, one, (double[]) { 0 });
    rq_id sum = build_node(g, "ReduceMean", "sum", RQ_DTYPE_F32, BUILD_IN(big));
    (void)axis;
    build_output(g, build_node(g, "Add", "y", RQ_DTYPE_F32, BUILD_IN(x, sum)));
    rq_fold_counts n = fold(g);
    assert_int_equal(n.constants, 1);
    assert_int_equal(g->values[find_value(g, "a")].kind, RQ_VALUE_CONST);
    assert_int_equal(count_op(g, "Expand"), 1);
    rq_graph_destroy(g);
}

static void copies_go_and_names_of_outputs_stay(void **state)
{
    rq_graph *g = build_graph(13);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, image), r = build_node(g, "Relu", "r", RQ_DTYPE_F32, BUILD_IN(x));
    rq_id d = build_node(g, "Dropout", "d", RQ_DTYPE_F32, BUILD_IN(r));
    build_output(g, build_node(g, "Identity", "y", RQ_DTYPE_F32, BUILD_IN(d)));
    build_output(g, build_node(g, "Identity", "twin", RQ_DTYPE_F32, BUILD_IN(x))); /* of an input: it stays */
    rq_err err = { 0 };
    rq_fold_counts n;
    assert_int_equal(rq_fold_graph(g, &n, &err), RQ_OK);
    assert_int_equal(n.copies, 2);
    assert_int_equal(count_nodes(g), 2);
    assert_string_equal(g->values[g->outputs[0]].name, "y");
    assert_string_equal(g->values[g->outputs[1]].name, "twin");
    rq_graph_destroy(g);
}

/* clip(x + 3, 0, 6) / 6 alone, and times x before or after the division. */
/* A branch: reads the outer value `v`, makes `out` of it by `op`. */
static rq_graph *branch(rq_graph *outer, rq_id v, const char *op, const char *out)
{
    rq_graph *b;
    rq_id seen;
    assert_int_equal(rq_graph_create(&b), RQ_OK);
    b->outer = outer;
    assert_int_equal(rq_graph_add_value(b, &seen, RQ_VALUE_CAPTURED, outer->values[v].name, RQ_DTYPE_F32, NULL, NULL),
                     RQ_OK);
    b->values[seen].outer = v;
    build_output(b, build_node(b, op, out, RQ_DTYPE_F32, BUILD_IN(seen)));
    return b;
}

static rq_id add_if(rq_graph *g, rq_id condition, const char *out, rq_graph *then_branch, rq_graph *else_branch)
{
    rq_id y = build_node(g, "If", out, RQ_DTYPE_F32, BUILD_IN(condition));
    rq_graph *const both[] = { then_branch, else_branch };
    for (int i = 0; i < 2; i++) {
        rq_attr *a = rq_attr_add(g, g->values[y].producer, i ? "else_branch" : "then_branch", RQ_ATTR_GRAPH);
        assert_non_null(a);
        a->g = rq_arena_alloc(&g->names, 1, sizeof *a->g);
        a->g[0] = both[i];
    }
    return y;
}

/* An If in the branch of an If, both decided by constants: two plain nodes are left. */
static void a_decided_if_becomes_its_branch(void **state)
{
    rq_graph *g = build_graph(13), *then_branch, *inner;
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, image), r = build_node(g, "Relu", "r", RQ_DTYPE_F32, BUILD_IN(x)),
          seen, y;
    const double no = 0;
    assert_int_equal(rq_graph_create(&then_branch), RQ_OK);
    then_branch->outer = g;
    assert_int_equal(rq_graph_add_value(then_branch, &seen, RQ_VALUE_CAPTURED, "r", RQ_DTYPE_F32, NULL, NULL), RQ_OK);
    then_branch->values[seen].outer = r;
    rq_id never = build_const(then_branch, "no", RQ_DTYPE_BOOL, 0, NULL, &no);
    inner = branch(then_branch, seen, "Neg", "wrong");
    y = add_if(then_branch, never, "t", inner, branch(then_branch, seen, "Exp", "e"));
    build_output(then_branch, y);
    rq_id yes = build_scalar(g, "yes", RQ_DTYPE_BOOL, 1);
    build_output(g, add_if(g, yes, "y", then_branch, branch(g, r, "Abs", "a")));
    rq_fold_counts n = fold(g);
    assert_int_equal(n.branches, 2);
    assert_int_equal(count_nodes(g), 2);
    assert_int_equal(count_op(g, "Exp"), 1);
    assert_string_equal(g->values[g->outputs[0]].name, "y");
    rq_graph_destroy(g);
}

static void written_out_hard_sigmoids_become_one(void **state)
{
    for (int form = 0; form < 3; form++) {
        rq_graph *g = build_graph(11);
        rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, image), six = build_scalar(g, "six", RQ_DTYPE_F32, 6);
        rq_id a = build_node(g, "Add", "a", RQ_DTYPE_F32, BUILD_IN(x, build_scalar(g, "three", RQ_DTYPE_F32, 3)));
        rq_id c = build_node(g, "Clip", "c", RQ_DTYPE_F32, BUILD_IN(a, build_scalar(g, "zero", RQ_DTYPE_F32, 0), six));
        rq_id y;
        if (form == 2) {
            rq_id m = build_node(g, "Mul", "m", RQ_DTYPE_F32, BUILD_IN(x, c));
            y = build_node(g, "Div", "y", RQ_DTYPE_F32, BUILD_IN(m, six));
        } else {
            y = build_node(g, "Mul", "h", RQ_DTYPE_F32, BUILD_IN(c, build_scalar(g, "sixth", RQ_DTYPE_F32, 1.0 / 6)));
            if (form == 1)
                y = build_node(g, "Mul", "y", RQ_DTYPE_F32, BUILD_IN(x, y));
        }
        build_output(g, y);
        assert_int_equal(fold(g).patterns, 1);
        assert_int_equal(count_op(g, "HardSigmoid"), 1);
        assert_int_equal(rq_graph_find(g, "c"), RQ_NONE); /* 0..6: no value of the new graph */
        assert_int_equal(count_nodes(g), form ? 2 : 1);
        rq_graph_destroy(g);
    }
}

static void a_written_out_layer_norm_becomes_one_where_the_opset_has_it(void **state)
{
    const int64_t row[] = { 5 };
    for (int64_t opset = 16; opset <= 17; opset++) {
        rq_graph *g = build_graph(opset);
        rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, image),
              mean = build_node(g, "ReduceMean", "mean", RQ_DTYPE_F32, BUILD_IN(x));
        rq_id d = build_node(g, "Sub", "d", RQ_DTYPE_F32, BUILD_IN(x, mean));
        rq_id p = build_node(g, "Pow", "p", RQ_DTYPE_F32, BUILD_IN(d, build_scalar(g, "two", RQ_DTYPE_F32, 2)));
        rq_id v = build_node(g, "ReduceMean", "v", RQ_DTYPE_F32, BUILD_IN(p));
        rq_id e = build_node(g, "Add", "e", RQ_DTYPE_F32, BUILD_IN(v, build_scalar(g, "eps", RQ_DTYPE_F32, 1e-5)));
        rq_id s = build_node(g, "Sqrt", "s", RQ_DTYPE_F32, BUILD_IN(e));
        rq_id n = build_node(g, "Div", "n", RQ_DTYPE_F32, BUILD_IN(d, s));
        rq_id m = build_node(g, "Mul", "m", RQ_DTYPE_F32, BUILD_IN(n, noise(g, "gamma", 1, row, 0.5, 2)));
        build_output(g, build_node(g, "Add", "y", RQ_DTYPE_F32, BUILD_IN(m, noise(g, "beta", 1, row, -1, 1))));
        const int64_t last = -1;
        assert_int_equal(rq_attr_set_ints(g, g->values[mean].producer, "axes", &last, 1), RQ_OK);
        assert_int_equal(rq_attr_set_ints(g, g->values[v].producer, "axes", &last, 1), RQ_OK);
        assert_int_equal(fold(g).patterns, opset == 17);
        assert_int_equal(count_nodes(g), opset == 17 ? 1 : 9);
        rq_graph_destroy(g);
    }
}

static rq_graph *load(const char *path)
{
    rq_graph *g;
    rq_err err = { 0 };
    if (rq_load(&g, path, &err))
        fail_msg("%s: %s", path, err.text);
    return g;
}

/* Quantization comes off: nothing of it is left, and Relus that ranges had swallowed are back. */
static void a_quantized_network_becomes_a_float_one(void **state)
{
    rq_err err = { 0 };
    rq_graph *g = load("tests/golden/onnx/static_quant/cnn_qop_u8u8.onnx");
    assert_true(rq_graph_is_quantized(g));
    if (rq_dequantize(g, &err) || rq_graph_check(g, &err))
        fail_msg("%s", err.text);
    assert_false(rq_graph_is_quantized(g));
    assert_true(count_op(g, "Relu") >= 2);
    for (rq_id v = 0; v < g->n_values; v++)
        assert_int_not_equal(g->values[v].constant.dtype, RQ_DTYPE_S8);
    rq_graph_destroy(g);
}

static char *text_of(const rq_graph *g)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    assert_int_equal(rq_graph_print(g, f), RQ_OK);
    fclose(f);
    return text;
}

static void a_network_that_cannot_become_a_float_one_stays_as_it_was(void **state)
{
    rq_err err = { 0 };
    rq_graph *g = load("tests/golden/onnx/static_quant/cnn_qop_u8u8.onnx");
    char *before = text_of(g);
    const size_t live = rq_mem_live();
    size_t n = 1;
    for (;; n++) {
        rq_mem_fail_after(n, true);
        const rq_status s = rq_dequantize(g, &err);
        rq_mem_fail_after(0, false);
        if (s == RQ_OK)
            break;
        assert_int_equal(s, RQ_NO_MEMORY);
        char *after = text_of(g);
        assert_string_equal(before, after);
        assert_int_equal(rq_mem_live(), live);
        free(after);
    }
    assert_true(n > 10);
    free(before);
    rq_graph_destroy(g);
}

static void a_summary_sees_through_quantization(void **state)
{
    rq_graph_summary f, q;
    rq_err err = { 0 };
    rq_op_count *ops;
    int n;
    rq_graph *a = load("tests/golden/onnx/static_quant/cnn.onnx"),
             *b = load("tests/golden/onnx/static_quant/cnn_qdq_u8s8.onnx");
    assert_int_equal(rq_graph_summarize(a, &f, &err), RQ_OK);
    assert_int_equal(rq_graph_summarize(b, &q, &err), RQ_OK);
    assert_false(f.is_quantized);
    assert_true(q.is_quantized);
    assert_int_equal(f.n_parameters, q.n_parameters);
    assert_true(q.parameter_bytes < f.parameter_bytes / 3);
    assert_true(q.n_quantized_values > 0);
    assert_int_equal(rq_graph_count_ops(b, &ops, &n), RQ_OK);
    assert_string_equal(ops[0].op, "DequantizeLinear");
    int total = 0;
    for (int i = 0; i < n; i++) {
        total += ops[i].count;
        assert_true(i == 0 || ops[i].count <= ops[i - 1].count);
    }
    assert_int_equal(total, q.n_nodes);
    rq_free(ops);
    rq_graph_destroy(a);
    rq_graph_destroy(b);
}

/* Whatever allocation fails: an error, a graph that can be destroyed, no leak. */
static void running_out_of_memory_is_an_error(void **state)
{
    size_t before = rq_mem_live();
    for (size_t n = 1;; n++) {
        rq_graph *g = load("tests/golden/onnx/static_quant/cnn_export.onnx");
        rq_err err = { 0 };
        rq_mem_fail_after(n, true);
        rq_status st = rq_fold_graph(g, NULL, &err);
        rq_mem_fail_after(0, false);
        rq_graph_destroy(g);
        if (!st)
            break;
        assert_int_equal(st, RQ_NO_MEMORY);
    }
    assert_int_equal(rq_mem_live(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_follows_a_conv_goes_into_it),
        cmocka_unit_test(what_follows_a_grouped_conv_transpose_goes_into_it),
        cmocka_unit_test(matmul_and_add_are_gemm_and_take_a_batch_norm),
        cmocka_unit_test(a_bias_per_row_takes_no_scale),
        cmocka_unit_test(what_does_not_fit_stays),
        cmocka_unit_test(shared_weights_stay_for_the_other),
        cmocka_unit_test(constants_are_computed_and_huge_ones_are_not),
        cmocka_unit_test(copies_go_and_names_of_outputs_stay),
        cmocka_unit_test(a_decided_if_becomes_its_branch),
        cmocka_unit_test(written_out_hard_sigmoids_become_one),
        cmocka_unit_test(a_written_out_layer_norm_becomes_one_where_the_opset_has_it),
        cmocka_unit_test(a_quantized_network_becomes_a_float_one),
        cmocka_unit_test(a_network_that_cannot_become_a_float_one_stays_as_it_was),
        cmocka_unit_test(a_summary_sees_through_quantization),
        cmocka_unit_test(running_out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
