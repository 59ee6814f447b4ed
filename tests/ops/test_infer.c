/* tests/ops/test_infer.c — rows in order, checks of nodes, shapes with symbols, contents followed through shape
 * arithmetic, stale statements; and the shapes of all golden models against the arrays other systems computed. */
#include "build.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "formats/npy.h"
#include "ops/op.h"

static rq_err err;

static rq_status infer(rq_graph *g)
{
    err = (rq_err) { 0 };
    rq_ops_bind(g);
    rq_status s = rq_ops_check(g, true, &err);
    return s ? s : rq_ops_infer(g, &err);
}

static void expect_shape(const rq_graph *g, rq_id v, int rank, const int64_t *dim)
{
    char got[RQ_SHAPE_TEXT], want[RQ_SHAPE_TEXT];
    rq_shape s = rq_shape_of(rank, dim);
    if (!rq_shape_equal(&g->values[v].shape, &s))
        fail_msg("%s is %s, expected %s", g->values[v].name, rq_shape_text(&g->values[v].shape, got, sizeof got),
                 rq_shape_text(&s, want, sizeof want));
}

#define SHAPE(g, v, ...)                                                                                               \
    expect_shape(g, v, (int)(sizeof((int64_t[]) { __VA_ARGS__ }) / sizeof(int64_t)), (const int64_t[]) { __VA_ARGS__ })
#define DIMS(...)                                                                                                      \
    (int)(sizeof((int64_t[]) { __VA_ARGS__ }) / sizeof(int64_t)), (const int64_t[])                                    \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

static rq_id ints(rq_graph *g, const char *name, int n, const double *v)
{
    return build_const(g, name, RQ_DTYPE_S64, 1, &(int64_t) { n }, v);
}

#define INTS(g, name, ...)                                                                                             \
    ints(g, name, (int)(sizeof((double[]) { __VA_ARGS__ }) / sizeof(double)), (const double[]) { __VA_ARGS__ })

static rq_id node(rq_graph *g, const char *op, const char *out, int n_in, const rq_id *in)
{
    return build_node(g, op, out, RQ_DTYPE_NONE, n_in, in);
}

static void set_int(rq_graph *g, rq_id value, const char *attr, int64_t v)
{
    assert_int_equal(rq_attr_set_int(g, g->values[value].producer, attr, v), RQ_OK);
}

/* ---- rows ---- */

static void rows_are_sorted_and_complete(void **state)
{
    (void)state;
    for (int i = 0; rq_op_at(i); i++) {
        const rq_op *row = rq_op_at(i);
        assert_non_null(row->infer);
        assert_true(row->since >= 1 && row->known >= row->since && row->min_in >= 0 && row->max_out != 0);
        assert_ptr_equal(rq_op_find(row->domain, row->name), row);
        if (i == 0)
            continue;
        const rq_op *last = rq_op_at(i - 1);
        int c = strcmp(last->domain, row->domain);
        if (c > 0 || (c == 0 && strcmp(last->name, row->name) >= 0))
            fail_msg("row %s stands before %s", last->name, row->name);
    }
    assert_null(rq_op_find("", "Frobnicate"));
    assert_ptr_equal(rq_op_find("ai.onnx", "Reshape"), rq_op_find("", "Reshape"));
}

/* ---- checks ---- */

static rq_status one_node(int64_t opset, const char *op, int n_in, bool omit_first, const char *attr, int64_t v)
{
    rq_graph *g = build_graph(opset);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, DIMS(2, 3, 4)), in[4] = { x, x, x, x };
    if (omit_first)
        in[0] = RQ_NONE;
    rq_id y = node(g, op, "y", n_in, in);
    if (attr)
        set_int(g, y, attr, v);
    rq_status s = infer(g);
    rq_graph_destroy(g);
    return s;
}

static void bad_nodes_are_refused_by_name(void **state)
{
    (void)state;
    assert_int_equal(one_node(19, "Gelu", 1, false, NULL, 0), RQ_BAD_GRAPH);
    assert_non_null(strstr(err.text, "node 'y' (Gelu)"));
    assert_non_null(strstr(err.text, "20"));
    assert_int_equal(one_node(17, "Relu", 3, false, NULL, 0), RQ_BAD_GRAPH);
    assert_int_equal(one_node(17, "Reshape", 1, false, NULL, 0), RQ_BAD_GRAPH);
    assert_int_equal(one_node(17, "Concat", 2, false, NULL, 0), RQ_BAD_GRAPH);
    assert_non_null(strstr(err.text, "axis"));
    assert_int_equal(one_node(17, "Concat", 2, false, "axis", 3), RQ_BAD_SHAPE);
    assert_int_equal(one_node(17, "Concat", 2, false, "axis", -3), RQ_OK);
    assert_int_equal(one_node(17, "Relu", 1, true, NULL, 0), RQ_BAD_GRAPH);
    assert_int_equal(one_node(17, "Upsample", 1, false, NULL, 0), RQ_UNSUPPORTED);
    assert_int_equal(one_node(17, "Transpose", 1, false, "perm", 1), RQ_BAD_GRAPH); /* an integer, not a list */
    assert_non_null(strstr(err.text, "list of integers"));
    assert_int_equal(one_node(17, "Frobnicate", 1, false, NULL, 0), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "Frobnicate"));
}

/* A condition of half a byte per element would be read past its end; a depth that no int64 holds is no size. */
static void what_picks_elements_is_checked(void **state)
{
    (void)state;
    static const rq_dtype conditions[] = { RQ_DTYPE_U4, RQ_DTYPE_F32, RQ_DTYPE_BOOL };
    for (int i = 0; i < 3; i++) {
        rq_graph *g = build_graph(21);
        const rq_id x = build_input(g, "x", RQ_DTYPE_F32, DIMS(8)), c = build_input(g, "c", conditions[i], DIMS(8));
        node(g, "Compress", "y", BUILD_IN(x, c));
        assert_int_equal(infer(g), i < 2 ? RQ_BAD_DTYPE : RQ_OK);
        assert_true(i == 2 || strstr(err.text, "expected bool"));
        rq_graph_destroy(g);
    }
    static const double depths[] = { 1e300, NAN, -INFINITY, -1, 5 };
    for (int i = 0; i < 5; i++) {
        rq_graph *g = build_graph(21);
        const rq_id x = build_input(g, "x", RQ_DTYPE_S64, DIMS(3)),
                    d = build_const(g, "depth", RQ_DTYPE_F64, 0, NULL, &depths[i]),
                    v = build_const(g, "values", RQ_DTYPE_F32, DIMS(2), (const double[]) { 0, 1 });
        const rq_id y = node(g, "OneHot", "y", BUILD_IN(x, d, v));
        assert_int_equal(infer(g), i < 4 ? RQ_BAD_SHAPE : RQ_OK);
        if (i < 4)
            assert_non_null(strstr(err.text, "depth is"));
        else
            SHAPE(g, y, 3, 5);
        rq_graph_destroy(g);
    }
}

/* OnCodes of a file may say anything: what it stands for, what its codes mean, what it reads. */
static void averages_of_codes_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *op;
        float scale;
        int64_t zero_point, is_signed;
        rq_dtype x;
        rq_status want;
        const char *says;
    } rows[] = {
        { "GlobalAveragePool", 0.5f, 255, 0, RQ_DTYPE_F32, RQ_OK, "" },
        { "GlobalAveragePool", 0.5f, -128, 1, RQ_DTYPE_F32, RQ_OK, "" },
        { "Relu", 0.5f, 0, 0, RQ_DTYPE_F32, RQ_UNSUPPORTED, "'Relu'" },
        { "GlobalAveragePool", 0, 0, 0, RQ_DTYPE_F32, RQ_BAD_GRAPH, "scale" },
        { "GlobalAveragePool", -1, 0, 0, RQ_DTYPE_F32, RQ_BAD_GRAPH, "scale" },
        { "GlobalAveragePool", NAN, 0, 0, RQ_DTYPE_F32, RQ_BAD_GRAPH, "scale" },
        { "GlobalAveragePool", INFINITY, 0, 0, RQ_DTYPE_F32, RQ_BAD_GRAPH, "scale" },
        { "GlobalAveragePool", 0.5f, 256, 0, RQ_DTYPE_F32, RQ_BAD_GRAPH, "zero_point" },
        { "GlobalAveragePool", 0.5f, -1, 0, RQ_DTYPE_F32, RQ_BAD_GRAPH, "zero_point" },
        { "GlobalAveragePool", 0.5f, 128, 1, RQ_DTYPE_F32, RQ_BAD_GRAPH, "zero_point" },
        { "GlobalAveragePool", 0.5f, INT64_MIN, 1, RQ_DTYPE_F32, RQ_BAD_GRAPH, "zero_point" },
        { "GlobalAveragePool", 0.5f, 0, 0, RQ_DTYPE_F16, RQ_BAD_DTYPE, "f16" },
        { "GlobalAveragePool", 0.5f, 0, 0, RQ_DTYPE_F64, RQ_BAD_DTYPE, "f64" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rq_graph *g = build_graph(17);
        const rq_id x = build_input(g, "x", rows[i].x, DIMS(1, 2, 3, 3)), y = node(g, "OnCodes", "y", 1, &x);
        const rq_id n = g->values[y].producer;
        g->nodes[n].domain = "requant";
        assert_int_equal(rq_attr_set_string(g, n, "op", rows[i].op), RQ_OK);
        assert_int_equal(rq_attr_set_float(g, n, "scale", rows[i].scale), RQ_OK);
        set_int(g, y, "zero_point", rows[i].zero_point);
        set_int(g, y, "signed", rows[i].is_signed);
        const rq_status s = infer(g);
        if (s != rows[i].want || !strstr(err.text, rows[i].says))
            fail_msg("row %zu: %s: %s", i, rq_status_text(s), err.text);
        if (s == RQ_OK)
            SHAPE(g, y, 1, 2, 1, 1);
        rq_graph_destroy(g);
    }
}

/* Numbers that no sum or product of int64 holds, in nodes whose inputs say nothing of their sizes. */
static void attributes_out_of_range_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *domain, *op, *fixed, *attr;
        int64_t value, other;
        int n_in;
    } rows[] = {
        { "", "RoiAlign", "output_height", "sampling_ratio", INT64_MAX, 1, 3 },
        { "", "RoiAlign", "output_height", "sampling_ratio", -1, 1, 3 },
        { "", "ReverseSequence", "batch_axis", "time_axis", INT64_MAX, 1, 2 },
        { "", "ReverseSequence", "time_axis", "batch_axis", INT64_MIN, INT64_MIN, 2 },
        { "", "LSTM", "layout", "hidden_size", INT64_MAX / 2, 0, 3 },
        { "com.microsoft", "MatMulNBits", "block_size", "K", INT64_MAX, 32, 3 },
        { "com.microsoft", "MatMulNBits", "K", "N", INT64_MIN, 32, 3 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rq_graph *g = build_graph(17);
        assert_int_equal(rq_graph_set_opset(g, "com.microsoft", 1), RQ_OK);
        const rq_id x = build_input(g, "x", RQ_DTYPE_NONE, 0, NULL), in[3] = { x, x, x };
        g->values[x].shape.rank = -1;
        const rq_id y = node(g, rows[i].op, "y", rows[i].n_in, in);
        g->nodes[g->values[y].producer].domain = rows[i].domain;
        set_int(g, y, rows[i].fixed, rows[i].other);
        set_int(g, y, rows[i].attr, rows[i].value);
        const rq_status s = infer(g);
        if ((s != RQ_BAD_GRAPH && s != RQ_BAD_SHAPE) || !strstr(err.text, rows[i].attr))
            fail_msg("%s with %s %lld: %d: %s", rows[i].op, rows[i].attr, (long long)rows[i].value, (int)s, err.text);
        rq_graph_destroy(g);
    }
}

/* ---- shapes ---- */

/* x.view(x.size(0), -1) as torch writes it, and again with the batch multiplied by 1. */
static void sizes_are_followed_through_the_graph(void **state)
{
    (void)state;
    rq_graph *g = build_graph(17);
    int64_t n = rq_graph_symbol(g, "N");
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, DIMS(n, 3, 8, 8));
    rq_id shape = node(g, "Shape", "shape", BUILD_IN(x));
    rq_id zero = build_scalar(g, "zero", RQ_DTYPE_S64, 0), one = build_scalar(g, "one", RQ_DTYPE_S64, 1);
    rq_id batch = node(g, "Gather", "batch", BUILD_IN(shape, zero));
    rq_id same = node(g, "Mul", "same", BUILD_IN(batch, one));
    rq_id axes = INTS(g, "axes", 0), minus = INTS(g, "minus", -1);
    rq_id list = node(g, "Unsqueeze", "list", BUILD_IN(same, axes));
    rq_id target = node(g, "Concat", "target", BUILD_IN(list, minus));
    set_int(g, target, "axis", 0);
    rq_id y = node(g, "Reshape", "y", BUILD_IN(x, target));
    rq_id back = node(g, "Reshape", "back", BUILD_IN(y, shape));
    rq_id cut = node(g, "Slice", "cut", BUILD_IN(shape, INTS(g, "from", 2), INTS(g, "to", 4)));
    rq_id filled = node(g, "ConstantOfShape", "filled", BUILD_IN(cut));
    build_output(g, back);
    build_output(g, filled);
    assert_int_equal(infer(g), RQ_OK);
    SHAPE(g, y, n, 192);
    SHAPE(g, back, n, 3, 8, 8);
    SHAPE(g, filled, 8, 8);
    rq_graph_destroy(g);
}

/* Expand as torch writes it: Where(shape == -1, 1, shape). A size is never -1, symbolic or not. */
/* Attention with a cache: batch, queries and keys are symbols; heads are known, or follow from the attributes. */
static void sizes_of_attention(void **state)
{
    (void)state;
    rq_graph *g = build_graph(23);
    const int64_t b = rq_graph_symbol(g, "B"), s = rq_graph_symbol(g, "S"), t = rq_graph_symbol(g, "T");
    rq_id q = build_input(g, "q", RQ_DTYPE_F32, DIMS(b, s, 32)), k = build_input(g, "k", RQ_DTYPE_F32, DIMS(b, t, 16));
    rq_id v = build_input(g, "v", RQ_DTYPE_F32, DIMS(b, t, 12));
    rq_id deep = build_input(g, "deep", RQ_DTYPE_F32, DIMS(b, 4, s, 8));
    rq_id past = build_input(g, "past", RQ_DTYPE_F32, DIMS(b, 4, t, 8)), none = RQ_NONE;
    rq_id flat = node(g, "Attention", "flat", BUILD_IN(q, k, v));
    set_int(g, flat, "q_num_heads", 4);
    set_int(g, flat, "kv_num_heads", 2);
    rq_id self = node(g, "Attention", "self", BUILD_IN(deep, deep, deep, none, past, past));
    rq_id turned = node(g, "RotaryEmbedding", "turned",
                        BUILD_IN(deep, build_input(g, "cos", RQ_DTYPE_F32, DIMS(b, s, 4)),
                                 build_input(g, "sin", RQ_DTYPE_F32, DIMS(b, s, 4))));
    assert_int_equal(infer(g), RQ_OK);
    SHAPE(g, flat, b, s, 24);
    SHAPE(g, self, b, 4, s, 8);
    SHAPE(g, turned, b, 4, s, 8);
    rq_id wrong = node(g, "Attention", "wrong", BUILD_IN(q, k, v));
    set_int(g, wrong, "q_num_heads", 3);
    set_int(g, wrong, "kv_num_heads", 2);
    assert_int_equal(infer(g), RQ_BAD_SHAPE);
    rq_graph_destroy(g);
}

static void a_symbol_is_not_minus_one(void **state)
{
    (void)state;
    rq_graph *g = build_graph(17);
    int64_t n = rq_graph_symbol(g, "N");
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, DIMS(n, 5)), row = build_input(g, "row", RQ_DTYPE_F32, DIMS(1, 5));
    rq_id shape = node(g, "Shape", "shape", BUILD_IN(x));
    rq_id is = node(g, "Equal", "is", BUILD_IN(shape, INTS(g, "minus", -1, -1)));
    rq_id to = node(g, "Where", "to", BUILD_IN(is, INTS(g, "ones", 1, 1), shape));
    rq_id y = node(g, "Expand", "y", BUILD_IN(row, to));
    rq_id all = node(g, "Range", "all",
                     BUILD_IN(build_scalar(g, "a", RQ_DTYPE_S64, 0),
                              node(g, "Gather", "n", BUILD_IN(shape, build_scalar(g, "i", RQ_DTYPE_S64, 0))),
                              build_scalar(g, "b", RQ_DTYPE_S64, 1)));
    build_output(g, y);
    build_output(g, all);
    assert_int_equal(infer(g), RQ_OK);
    SHAPE(g, y, n, 5);
    SHAPE(g, all, n);
    rq_graph_destroy(g);
}

static void symbols_cancel_in_reshape(void **state)
{
    (void)state;
    rq_graph *g = build_graph(17);
    int64_t n = rq_graph_symbol(g, "N"), t = rq_graph_symbol(g, "T");
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, DIMS(n, 64, 7, 7)),
          u = build_input(g, "u", RQ_DTYPE_F32, DIMS(n, t, 8));
    rq_id a = node(g, "Reshape", "a", BUILD_IN(x, INTS(g, "sa", -1, 3136)));
    rq_id b = node(g, "Reshape", "b", BUILD_IN(x, INTS(g, "sb", 0, -1)));
    rq_id c = node(g, "Reshape", "c", BUILD_IN(x, INTS(g, "sc", -1, 49)));
    rq_id d = node(g, "Reshape", "d", BUILD_IN(u, INTS(g, "sd", 0, 0, 2, -1)));
    rq_id e = node(g, "Flatten", "e", BUILD_IN(x));
    SHAPE(g, x, n, 64, 7, 7);
    assert_int_equal(infer(g), RQ_OK);
    SHAPE(g, a, n, 3136);
    SHAPE(g, b, n, 3136);
    SHAPE(g, c, -1, 49);
    SHAPE(g, d, n, t, 2, 4);
    SHAPE(g, e, n, 3136);
    rq_graph_destroy(g);
}

static void impossible_shapes_are_refused(void **state)
{
    (void)state;
    static const double bad[][2] = { { 7, -1 }, { -1, -1 }, { 5, 5 }, { -2, 3 } };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        rq_graph *g = build_graph(17);
        rq_id x = build_input(g, "x", RQ_DTYPE_F32, DIMS(3, 4));
        node(g, "Reshape", "y", BUILD_IN(x, ints(g, "s", 2, bad[i])));
        assert_int_equal(infer(g), RQ_BAD_SHAPE);
        assert_non_null(strstr(err.text, "node 'y' (Reshape)"));
        rq_graph_destroy(g);
    }
    rq_graph *g = build_graph(17); /* 2^80 elements, and 2^40 of them: before anything is allocated */
    node(g, "ConstantOfShape", "y", BUILD_IN(INTS(g, "s", 0x1p40, 0x1p40)));
    assert_int_equal(infer(g), RQ_BAD_SHAPE);
    rq_graph_destroy(g);
    g = build_graph(17);
    node(g, "Expand", "y", BUILD_IN(build_scalar(g, "v", RQ_DTYPE_F32, 1), INTS(g, "s", 0x1p40)));
    assert_int_equal(infer(g), RQ_BAD_SHAPE);
    rq_graph_destroy(g);
}

/* Below zero sizes are symbols; in the contents of a constant they are mistakes. */
static void sizes_below_zero_are_refused(void **state)
{
    (void)state;
    rq_graph *g = build_graph(17);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, DIMS(1, 64, 1));
    node(g, "STFT", "y",
         BUILD_IN(x, build_scalar(g, "step", RQ_DTYPE_S64, 4), RQ_NONE, build_scalar(g, "long", RQ_DTYPE_S64, -5)));
    assert_int_equal(infer(g), RQ_BAD_SHAPE);
    assert_non_null(strstr(err.text, "frame_length is -5"));
    rq_graph_destroy(g);
    g = build_graph(20);
    x = build_input(g, "theta", RQ_DTYPE_F32, DIMS(-1, 2, 3));
    node(g, "AffineGrid", "y", BUILD_IN(x, INTS(g, "size", -5, 3, 4, 4)));
    assert_int_equal(infer(g), RQ_BAD_SHAPE);
    assert_non_null(strstr(err.text, "the size holds -5"));
    rq_graph_destroy(g);
}

static rq_status deform(int64_t groups)
{
    rq_graph *g = build_graph(19);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, DIMS(1, -1, 3, 3)),
          w = build_input(g, "w", RQ_DTYPE_F32, DIMS(1, -1, 2, 2));
    rq_id offset = build_input(g, "o", RQ_DTYPE_F32, DIMS(1, -1, 2, 2)),
          y = node(g, "DeformConv", "y", BUILD_IN(x, w, offset));
    set_int(g, y, "offset_group", groups);
    const rq_status s = infer(g);
    rq_graph_destroy(g);
    return s;
}

static void groups_beyond_any_number_of_channels_are_refused(void **state)
{
    (void)state;
    assert_int_equal(deform(INT32_MAX), RQ_OK);
    assert_int_equal(deform(INT64_C(1) << 62), RQ_BAD_GRAPH); /* twice that is not a number */
    assert_non_null(strstr(err.text, "offset_group"));
}

/* com.microsoft.RotaryEmbedding of [1,2,columns], with `angles` of them in a cache and no num_heads. */
static rq_status turn(int64_t columns, int64_t angles)
{
    rq_graph *g = build_graph(17);
    assert_int_equal(rq_graph_set_opset(g, "com.microsoft", 1), RQ_OK);
    rq_id in[4] = { build_input(g, "x", RQ_DTYPE_F32, DIMS(1, 2, columns)),
                    build_input(g, "ids", RQ_DTYPE_S64, DIMS(1)), build_input(g, "cos", RQ_DTYPE_F32, DIMS(8, angles)),
                    build_input(g, "sin", RQ_DTYPE_F32, DIMS(8, angles)) };
    rq_id y, made;
    assert_int_equal(rq_graph_add_value(g, &y, RQ_VALUE_NODE, "y", RQ_DTYPE_NONE, NULL, NULL), RQ_OK);
    assert_int_equal(rq_graph_add_node(g, &made, "RotaryEmbedding", "com.microsoft", "y", in, 4, &y, 1, NULL), RQ_OK);
    const rq_status s = infer(g);
    rq_graph_destroy(g);
    return s;
}

/* Every element of the output is of some head, or it would not be written. */
static void heads_fill_the_last_axis(void **state)
{
    (void)state;
    assert_int_equal(turn(16, 4), RQ_OK);
    assert_int_equal(turn(4, 4), RQ_BAD_SHAPE);
    assert_int_equal(turn(20, 4), RQ_BAD_SHAPE);
    assert_int_equal(turn(16, 0), RQ_BAD_SHAPE);
}

static void slices_of_symbols(void **state)
{
    (void)state;
    rq_graph *g = build_graph(17);
    int64_t n = rq_graph_symbol(g, "N");
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, DIMS(n, 10));
    rq_id a =
        node(g, "Slice", "a", BUILD_IN(x, INTS(g, "a0", 0), INTS(g, "a1", 9223372036854775807.0), INTS(g, "a2", 0)));
    rq_id b =
        node(g, "Slice", "b", BUILD_IN(x, INTS(g, "b0", -1), INTS(g, "b1", 9223372036854775807.0), INTS(g, "b2", 0)));
    rq_id c = node(
        g, "Slice", "c",
        BUILD_IN(x, INTS(g, "c0", -1), INTS(g, "c1", -9223372036854775807.0), INTS(g, "c2", 1), INTS(g, "c3", -3)));
    rq_id d = node(g, "Slice", "d", BUILD_IN(x, INTS(g, "d0", 1), INTS(g, "d1", 5), INTS(g, "d2", 0)));
    assert_int_equal(infer(g), RQ_OK);
    SHAPE(g, a, n, 10);
    SHAPE(g, b, 1, 10);
    SHAPE(g, c, n, 4);
    SHAPE(g, d, -1, 10);
    rq_graph_destroy(g);
}

/* A file that states a fixed batch between nodes is old news, not an error. */
static void stale_statements_lose(void **state)
{
    (void)state;
    rq_graph *g = build_graph(17);
    int64_t n = rq_graph_symbol(g, "N");
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, DIMS(n, 4));
    rq_id y = node(g, "Relu", "y", BUILD_IN(x));
    g->values[y].shape = rq_shape_of(2, (int64_t[]) { 1, 4 });
    assert_int_equal(infer(g), RQ_OK);
    SHAPE(g, y, n, 4);
    rq_graph_destroy(g);

    g = build_graph(17); /* nothing says how long z is but the file, wrongly: Concat cannot work with it */
    x = build_input(g, "x", RQ_DTYPE_F32, DIMS(6, 4));
    rq_id s = build_input(g, "s", RQ_DTYPE_S64, DIMS(2));
    rq_id z = node(g, "Reshape", "z", BUILD_IN(x, s));
    g->values[z].shape = rq_shape_of(2, (int64_t[]) { 5, 4 });
    rq_id both = node(g, "Concat", "both", BUILD_IN(x, z));
    set_int(g, both, "axis", 1);
    assert_int_equal(infer(g), RQ_OK);
    SHAPE(g, both, 6, -1);
    rq_graph_destroy(g);
}

static void types_must_agree(void **state)
{
    (void)state;
    rq_graph *g = build_graph(17);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, DIMS(2, 2));
    build_node(g, "Shape", "y", RQ_DTYPE_F32, BUILD_IN(x));
    assert_int_equal(infer(g), RQ_BAD_DTYPE);
    rq_graph_destroy(g);
}

/* ---- golden models ---- */

static bool array_shape(rq_shape *out, const char *npz, const char *key)
{
    rq_npy *a = NULL;
    rq_err quiet;
    if (rq_npy_open(&a, npz, key, &quiet))
        return false;
    *out = rq_npy_info_of(a)->shape;
    rq_npy_close(a);
    return true;
}

/* Every size inferred for an output is the one another system computed. */
static void golden_shapes(void **state)
{
    (void)state;
    static const char *const topics[] = { "float_ops", "qdq", "qops" };
    int compared = 0, known = 0, wrong = 0;
    for (size_t t = 0; t < sizeof topics / sizeof topics[0]; t++) {
        char path[256], npz[256];
        snprintf(path, sizeof path, "tests/golden/onnx/%s/cases.json", topics[t]);
        snprintf(npz, sizeof npz, "tests/golden/onnx/%s/data.npz", topics[t]);
        json_t *cases = json_load_file(path, 0, NULL), *c;
        size_t i;
        assert_non_null(cases);
        json_array_foreach(cases, i, c)
        {
            rq_graph *g = NULL;
            snprintf(path, sizeof path, "tests/golden/onnx/%s/%s", topics[t],
                     json_string_value(json_object_get(c, "model")));
            if (rq_load(&g, path, &err))
                continue; /* the golden runner says so */
            for (int o = 0; o < g->n_outputs; o++) {
                const rq_value *v = &g->values[g->outputs[o]];
                const char *key = json_string_value(json_object_get(json_object_get(c, "outputs"), v->name));
                rq_shape want;
                char text[2][RQ_SHAPE_TEXT];
                if (!key || !array_shape(&want, npz, key) || v->shape.rank < 0)
                    continue;
                bool fits = v->shape.rank == want.rank, all = true;
                for (int d = 0; d < want.rank && fits; d++) {
                    fits = v->shape.dim[d] < 0 || v->shape.dim[d] == want.dim[d];
                    all = all && v->shape.dim[d] >= 0;
                }
                compared++;
                known += all;
                wrong += !fits;
                if (!fits)
                    print_error("%s %s: inferred %s, computed %s\n", path, v->name,
                                rq_shape_text(&v->shape, text[0], sizeof text[0]),
                                rq_shape_text(&want, text[1], sizeof text[1]));
            }
            rq_graph_destroy(g);
        }
        json_decref(cases);
    }
    print_message("%d outputs compared, %d known whole\n", compared, known);
    assert_int_equal(wrong, 0);
    assert_true(known > 500);
}

/* ---- allocation failures ---- */

static void running_out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        rq_graph *g = NULL;
        size_t before = rq_mem_live();
        assert_int_equal(rq_load(&g, "models/digits-cnn.onnx", &err), RQ_OK);
        size_t loaded = rq_mem_live();
        rq_ops_bind(g);
        rq_mem_fail_after(n, false);
        rq_status s = rq_ops_infer(g, &err);
        size_t left = rq_mem_fail_after(0, false);
        assert_true(s == RQ_OK || s == RQ_NO_MEMORY);
        assert_int_equal(rq_mem_live(), loaded);
        rq_graph_destroy(g);
        assert_int_equal(rq_mem_live(), before);
        if (s == RQ_OK && left < n)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_sorted_and_complete),
        cmocka_unit_test(bad_nodes_are_refused_by_name),
        cmocka_unit_test(what_picks_elements_is_checked),
        cmocka_unit_test(averages_of_codes_are_checked),
        cmocka_unit_test(attributes_out_of_range_are_refused),
        cmocka_unit_test(sizes_are_followed_through_the_graph),
        cmocka_unit_test(sizes_of_attention),
        cmocka_unit_test(a_symbol_is_not_minus_one),
        cmocka_unit_test(symbols_cancel_in_reshape),
        cmocka_unit_test(impossible_shapes_are_refused),
        cmocka_unit_test(sizes_below_zero_are_refused),
        cmocka_unit_test(groups_beyond_any_number_of_channels_are_refused),
        cmocka_unit_test(heads_fill_the_last_axis),
        cmocka_unit_test(slices_of_symbols),
        cmocka_unit_test(stale_statements_lose),
        cmocka_unit_test(types_must_agree),
        cmocka_unit_test(golden_shapes),
        cmocka_unit_test(running_out_of_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
