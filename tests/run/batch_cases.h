/* tests/run/batch_cases.h — one operator on a batch x of f32 [n,4,6,6] (its own codes too), by what it does with the samples. */
#ifndef TEST_RUN_BATCH_CASES_H
#define TEST_RUN_BATCH_CASES_H

#include <stdio.h>

#include "ops/build.h"

enum { C = 4, S = 6, ROW = C * S * S }; /* sizes of a sample */

static inline rq_id op(rq_graph *g, const char *name, int n_in, const rq_id *in)
{
    char out[32];
    snprintf(out, sizeof out, "v%d", g->n_values);
    return build_node(g, name, out, RQ_DTYPE_NONE, n_in, in);
}

/* An attribute of the node that was made last, whose output is y. */
static inline rq_id with(rq_graph *g, rq_id y, const char *name, int64_t v)
{
    assert_int_equal(rq_attr_set_int(g, g->n_nodes - 1, name, v), RQ_OK);
    return y;
}

#define LIST(...)                                                                                                      \
    (int)(sizeof((int64_t[]) { __VA_ARGS__ }) / sizeof(int64_t)), (const int64_t[])                                    \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

static inline rq_id with_list(rq_graph *g, rq_id y, const char *name, int n, const int64_t *v)
{
    assert_int_equal(rq_attr_set_ints(g, g->n_nodes - 1, name, v, n), RQ_OK);
    return y;
}

static inline rq_id ints(rq_graph *g, int n, const int64_t *v)
{
    char name[32];
    double d[16];
    snprintf(name, sizeof name, "c%d", g->n_values);
    for (int i = 0; i < n; i++)
        d[i] = (double)v[i];
    return build_const(g, name, RQ_DTYPE_S64, 1, (int64_t[]) { n }, d);
}

static inline rq_id with_text(rq_graph *g, rq_id y, const char *name, const char *v)
{
    assert_int_equal(rq_attr_set_string(g, g->n_nodes - 1, name, v), RQ_OK);
    return y;
}

/* Of Resize: axes 0 and 1 as they are, the others by `by`; below 1 a region of interest that begins there and ends at 1, axis 0 included. */
static inline rq_id scales(rq_graph *g, double by)
{
    const double roi[] = { by, 0, 0, 0, 1, 1, 1, 1 }, each[] = { 1, 1, by, by };
    return build_const(g, by < 1 ? "roi" : "scales", RQ_DTYPE_F32, 1, (int64_t[]) { by < 1 ? 8 : 4 },
                       by < 1 ? roi : each);
}

/* Some f32, each other than the last. */
static inline rq_id reals(rq_graph *g, int rank, const int64_t *dim)
{
    static double v[4096];
    char name[32];
    snprintf(name, sizeof name, "c%d", g->n_values);
    for (int i = 0; i < 4096; i++)
        v[i] = (double)((i * 37 + 11) % 64) / 32 - 0.75;
    return build_const(g, name, RQ_DTYPE_F32, rank, dim, v);
}

static inline rq_id flat(rq_graph *g, rq_id x) /* [n, 144] */
{
    return with(g, op(g, "Flatten", BUILD_IN(x)), "axis", 1);
}

static inline rq_id count(rq_graph *g, rq_id x) /* [n], s64 [1] */
{
    const rq_id shape = op(g, "Shape", BUILD_IN(x));
    return op(g, "Gather", BUILD_IN(shape, ints(g, LIST(0))));
}

typedef rq_id case_fn(rq_graph *g, rq_id x);

#define CASE(id, ...)                                                                                                  \
    static inline rq_id id(rq_graph *g, rq_id x)                                                                       \
    {                                                                                                                  \
        return __VA_ARGS__;                                                                                            \
    }
#define OF(name, ...) op(g, name, BUILD_IN(__VA_ARGS__))

/* ---- one by one ---- */
CASE(conv, with_list(g, OF("Conv", x, reals(g, LIST(5, C, 3, 3))), "pads", LIST(1, 1, 1, 1)))
CASE(pool, with_list(g, OF("MaxPool", x), "kernel_shape", LIST(2, 2)))
CASE(global_pool, OF("GlobalAveragePool", x))
CASE(relu, OF("Relu", x))
CASE(add_channels, OF("Add", x, reals(g, LIST(C, 1, 1))))
CASE(add_one_row, OF("Add", x, reals(g, LIST(1, C, S, S))))
CASE(add_itself, OF("Mul", x, OF("Relu", x)))
CASE(softmax, with(g, OF("Softmax", x), "axis", 1))
CASE(reshape, OF("Reshape", x, ints(g, LIST(0, -1))))
CASE(reshape_rest, OF("Reshape", x, ints(g, LIST(-1, ROW))))
CASE(reshape_count, OF("Reshape", x, with(g, OF("Concat", count(g, x), ints(g, LIST(-1))), "axis", 0)))
CASE(flatten, flat(g, x))
CASE(squeeze_named, OF("Squeeze", OF("GlobalMaxPool", x), ints(g, LIST(2, 3))))
CASE(transpose, with_list(g, OF("Transpose", x), "perm", LIST(0, 2, 3, 1)))
CASE(concat, with(g, OF("Concat", x, OF("Neg", x)), "axis", 1))
CASE(slice, OF("Slice", x, ints(g, LIST(1)), ints(g, LIST(4)), ints(g, LIST(2))))
CASE(slice_all, OF("Slice", x, ints(g, LIST(0, 2)), ints(g, LIST(INT64_MAX, 3))))
CASE(pad, OF("Pad", x, ints(g, LIST(0, 1, 0, 2, 0, 0, 1, 0))))
CASE(reduce, OF("ReduceMean", x, ints(g, LIST(-1, 1))))
CASE(matmul, OF("MatMul", x, reals(g, LIST(S, 3))))
CASE(matmul_both, OF("MatMul", x, OF("Relu", x)))
CASE(matmul_left, OF("MatMul", reals(g, LIST(3, S)), x))
CASE(gemm, OF("Gemm", flat(g, x), reals(g, LIST(ROW, 5)), reals(g, LIST(5))))
CASE(gather, with(g, OF("Gather", x, ints(g, LIST(2, 0))), "axis", 1))
CASE(table, OF("Gather", reals(g, LIST(ROW, 5)), with(g, OF("ArgMax", flat(g, x)), "axis", 1)))
CASE(expand, OF("Add", x,
                OF("Expand", reals(g, LIST(1, C, 1, 1)),
                   with(g, OF("Concat", count(g, x), ints(g, LIST(C, S, S))), "axis", 0))))
CASE(layer_norm, OF("LayerNormalization", x, reals(g, LIST(S))))
CASE(batch_norm,
     OF("BatchNormalization", x, reals(g, LIST(C)), reals(g, LIST(C)), reals(g, LIST(C)), OF("Abs", reals(g, LIST(C)))))
CASE(resize, OF("Resize", x, RQ_NONE, scales(g, 2)))
CASE(where, OF("Where", OF("Greater", x, reals(g, LIST(1))), x, reals(g, LIST(S))))
CASE(quantize, OF("QuantizeLinear", x, build_scalar(g, "scale", RQ_DTYPE_F32, 0.02)))
CASE(quantize_channels, OF("QuantizeLinear", x, OF("Exp", reals(g, LIST(C)))))

/* ---- not ---- */
CASE(softmax_over, with(g, OF("Softmax", x), "axis", 0))
CASE(concat_over, with(g, OF("Concat", x, x), "axis", 0))
CASE(slice_over, OF("Slice", x, ints(g, LIST(1)), ints(g, LIST(3)), ints(g, LIST(0))))
CASE(slice_first, OF("Slice", x, ints(g, LIST(0)), ints(g, LIST(5))))
CASE(slice_back, OF("Slice", x, ints(g, LIST(-1)), ints(g, LIST(INT64_MIN)), ints(g, LIST(0)), ints(g, LIST(-1))))
CASE(transpose_over, with_list(g, OF("Transpose", x), "perm", LIST(1, 0, 2, 3)))
CASE(transpose_back, OF("Transpose", with_list(g, OF("Transpose", OF("Softmax", flat(g, x))), "perm", LIST(1, 0))))
CASE(reshape_over, OF("Reshape", x, ints(g, LIST(-1, S, S))))
CASE(reshape_round, OF("Reshape", OF("Reshape", x, ints(g, LIST(C, -1))), ints(g, LIST(-1, ROW))))
CASE(flatten_all, with(g, OF("Flatten", x), "axis", 0))
CASE(squeeze_any, OF("Squeeze", OF("GlobalMaxPool", x)))
CASE(pad_shifts, OF("Pad", x, ints(g, LIST(1, 0, 0, 0, -1, 0, 0, 0))))
CASE(pad_shifts_named, OF("Pad", x, ints(g, LIST(1, -1)), build_scalar(g, "fill", RQ_DTYPE_F32, 0), ints(g, LIST(0))))
CASE(reduce_over, OF("Sub", x, OF("ReduceMean", x, ints(g, LIST(0)))))
CASE(reduce_all, OF("Sub", x, OF("ReduceMax", x)))
CASE(broadcast_rows, OF("Add", x, with(g, OF("ReduceSum", x, ints(g, LIST(1, 2, 3))), "keepdims", 0)))
CASE(broadcast_images,
     OF("MatMul", x,
        OF("Squeeze", OF("Slice", x, ints(g, LIST(0)), ints(g, LIST(1)), ints(g, LIST(1))), ints(g, LIST(1)))))
CASE(matmul_right, OF("Transpose", OF("MatMul", reals(g, LIST(3, ROW)), OF("Transpose", flat(g, x)))))
CASE(gather_over, OF("Gather", x, ints(g, LIST(0, 0, 1, 1, 2, 2))))
CASE(gather_within, OF("Gather", x, OF("ArgMax", flat(g, x))))
CASE(arg_max_over, OF("Add", x, with(g, OF("Cast", with(g, OF("ArgMax", x), "axis", 0)), "to", 1)))
CASE(cumulate, OF("CumSum", x, build_scalar(g, "axis", RQ_DTYPE_S64, 0)))
CASE(norm_over, with(g, OF("LayerNormalization", x, reals(g, LIST(1))), "axis", 0))
CASE(norm_by_rows, OF("LayerNormalization", x, with(g, OF("ReduceMean", x, ints(g, LIST(1, 2, 3))), "keepdims", 0)))
CASE(norm_batch, OF("MeanVarianceNormalization", x))
CASE(batch_norm_trains, with(g,
                             OF("BatchNormalization", x, reals(g, LIST(C)), reals(g, LIST(C)), reals(g, LIST(C)),
                                OF("Abs", reals(g, LIST(C)))),
                             "training_mode", 1))
CASE(how_many, OF("Mul", x, with(g, OF("Cast", count(g, x)), "to", 1)))
CASE(numbered, OF("Add",
                  OF("Reshape",
                     with(g,
                          OF("Cast", OF("Range", build_scalar(g, "from", RQ_DTYPE_S64, 0), OF("Squeeze", count(g, x)),
                                        build_scalar(g, "by", RQ_DTYPE_S64, 1))),
                          "to", 1),
                     ints(g, LIST(-1, 1, 1, 1))),
                  x))
/* A table of samples by samples. */
CASE(square, OF("Add", x,
                OF("Reshape",
                   OF("ReduceSum",
                      OF("Expand", reals(g, LIST(1, 1)), with(g, OF("Concat", count(g, x), count(g, x)), "axis", 0)),
                      ints(g, LIST(1))),
                   ints(g, LIST(-1, 1, 1, 1)))))
CASE(random_numbers, OF("Add", x, OF("RandomUniformLike", x)))
CASE(random_of_nothing, OF("Add", x, with_list(g, op(g, "RandomUniform", 0, NULL), "shape", LIST(C, S, S))))
CASE(fixed_output, reals(g, LIST(2, 2)))
CASE(count_output, count(g, x))
CASE(non_zero, OF("NonZero", x))
CASE(resize_crops, with_text(g, OF("Resize", x, scales(g, 0.25), scales(g, 1)), "coordinate_transformation_mode",
                             "tf_crop_and_resize"))

static inline rq_id pool_of_two(rq_graph *g, rq_id x, bool places)
{
    rq_id y[2] = { RQ_NONE, RQ_NONE };
    for (int i = 0; i < 1 + places; i++)
        assert_int_equal(
            rq_graph_add_value(g, &y[i], RQ_VALUE_NODE, i ? "places" : "largest", RQ_DTYPE_NONE, NULL, NULL), RQ_OK);
    assert_int_equal(rq_graph_add_node(g, &(rq_id) { 0 }, "MaxPool", "", "pool", &x, 1, y, 2, NULL), RQ_OK);
    return with_list(g, y[places], "kernel_shape", LIST(2, 2));
}

/* Where in the whole tensor the largest of each window is. */
static inline rq_id pool_places(rq_graph *g, rq_id x)
{
    return pool_of_two(g, x, true);
}

/* The same node where nobody asks where it is. */
static inline rq_id pool_alone(rq_graph *g, rq_id x)
{
    return pool_of_two(g, x, false);
}

/* x + (if true: the largest of all of x), which no input of the If says. */
static inline rq_id captured(rq_graph *g, rq_id x)
{
    const double yes = 1;
    const rq_id y = op(g, "If", BUILD_IN(build_const(g, "yes", RQ_DTYPE_BOOL, 0, NULL, &yes)));
    for (int i = 0; i < 2; i++) {
        rq_graph *b;
        rq_id seen;
        assert_int_equal(rq_graph_create(&b), RQ_OK);
        b->outer = g;
        assert_int_equal(rq_graph_add_value(b, &seen, RQ_VALUE_CAPTURED, "x", RQ_DTYPE_F32, NULL, NULL), RQ_OK);
        b->values[seen].outer = x;
        build_output(b, op(b, "ReduceMax", BUILD_IN(seen)));
        rq_attr *a = rq_attr_add(g, g->values[y].producer, i ? "else_branch" : "then_branch", RQ_ATTR_GRAPH);
        assert_non_null(a);
        a->g = rq_arena_alloc(&g->names, 1, sizeof *a->g);
        a->g[0] = b;
    }
    return OF("Add", x, y);
}

/* Codes whose scale is that of their sample: for four of them. */
static inline rq_id scaled_by_sample(rq_graph *g, rq_id x)
{
    rq_qparams q;
    const rq_id y = OF("Relu", x);
    assert_int_equal(rq_qparams_init(&q, RQ_DTYPE_S8, 0, 0, 4), RQ_OK);
    for (int i = 0; i < 4; i++)
        q.scale[i] = 0.01f * (float)(i + 1);
    assert_int_equal(rq_graph_add_quant(g, &g->values[y].quant, &q, "given"), RQ_OK);
    return OF("Neg", y);
}

#undef CASE
#undef OF
#endif
