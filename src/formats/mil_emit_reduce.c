/* formats/mil_emit_reduce.c — rows of operators that make one number of many along axes: sums, extremes and where they are, softmax,
 * running sums, the largest few. */
#include "formats/mil_expr.h"

#include <string.h>

#include "ops/op.h"

typedef rq_mil_expr_val val;

static rq_status reduce(rq_mil_emitter *e, const rq_node *n)
{
    static const char *const table[][2] = {
        { "ReduceL1", "reduce_l1_norm" },     { "ReduceL2", "reduce_l2_norm" },
        { "ReduceLogSum", "reduce_log_sum" }, { "ReduceLogSumExp", "reduce_log_sum_exp" },
        { "ReduceMax", "reduce_max" },        { "ReduceMean", "reduce_mean" },
        { "ReduceMin", "reduce_min" },        { "ReduceProd", "reduce_prod" },
        { "ReduceSum", "reduce_sum" },        { "ReduceSumSquare", "reduce_sum_square" },
    };
    const char *type = NULL;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (!strcmp(table[i][0], n->op))
            type = table[i][1];
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0));
    const bool keep = rq_attr_int(n, RQ_WORD_keepdims, 1) != 0;
    int64_t axes[RQ_MAX_RANK];
    int count;
    rq_mil_expr_axes(&x, 1, "axes", a.shape.rank, axes, &count);
    if (x.st)
        return x.st;
    if (!a.shape.rank || (count <= 0 && rq_attr_int(n, RQ_WORD_noop_with_empty_axes, 0))) {
        if (strcmp(type, "reduce_sum_square") == 0)
            rq_mil_expr_un(rq_mil_expr_last(&x), "square", a);
        else if (!strcmp(type, "reduce_l1_norm") || !strcmp(type, "reduce_l2_norm"))
            rq_mil_expr_un(rq_mil_expr_last(&x), "abs", a);
        else if (!strcmp(type, "reduce_log_sum"))
            rq_mil_expr_log(rq_mil_expr_last(&x), rq_mil_expr_float(&x, a));
        else
            rq_mil_expr_give(&x, a);
        return x.st;
    }
    if (count <= 0)
        for (count = 0; count < a.shape.rank; count++)
            axes[count] = count;
    for (int i = 0; i < count; i++)
        if (a.shape.dim[axes[i]] == 0)
            return rq_mil_expr_refuse(&x, 0, "an empty tensor");
    if (!strcmp(type, "reduce_log_sum") && a.d == RQ_DTYPE_F32) { /* log adds no epsilon here */
        const val sum = rq_mil_expr_reduce(&x, "reduce_sum", a, axes, count, keep);
        rq_mil_expr_log(rq_mil_expr_last(&x), sum);
        return x.st;
    }
    if (a.d != RQ_DTYPE_F32 && (!strcmp(type, "reduce_mean") || strstr(type, "log") || strstr(type, "l2")))
        rq_mil_expr_reduce(rq_mil_expr_last(&x), type, rq_mil_expr_float(&x, a), axes, count, keep);
    else
        rq_mil_expr_reduce(rq_mil_expr_last(&x), type, a, axes, count, keep);
    return x.st;
}

static rq_status arg(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0));
    const int64_t axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, 0), a.shape.rank);
    const bool keep = rq_attr_int(n, RQ_WORD_keepdims, 1) != 0,
               last = rq_attr_int(n, RQ_WORD_select_last_index, 0) != 0;
    const char *type = !strcmp(n->op, "ArgMax") ? "reduce_argmax" : "reduce_argmin";
    if (x.st || axis < 0)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    rq_shape out = { .rank = 0 };
    for (int i = 0; i < a.shape.rank; i++)
        if (i != axis || keep)
            out.dim[out.rank++] = i == axis ? 1 : a.shape.dim[i];
    if (last) { /* the first from behind */
        if (a.shape.dim[axis] < 0)
            return rq_mil_expr_refuse(&x, 0, "select_last_index of a size that is known only when it runs");
        a = EXPR_OP(&x, "reverse", a.d, &a.shape, EXPR_V("x", &a), EXPR_IS("axes", &axis, 1));
    }
    const val at =
        EXPR_OP(last ? &x : rq_mil_expr_last(&x), type, RQ_DTYPE_S32, &out, EXPR_V("x", &a), EXPR_I("axis", axis),
                EXPR_B("keep_dims", keep), EXPR_WHEN(e->target >= RQ_COREML_IOS17, EXPR_T("output_dtype", "int32")));
    if (last)
        rq_mil_expr_bin(rq_mil_expr_last(&x), "sub", rq_mil_expr_f((double)(a.shape.dim[axis] - 1)), at);
    return x.st;
}

/* Up to opset 12 all axes from `axis` on count as one. */
static bool as_matrix(rq_mil_expr *x, int rank, int64_t axis, const rq_shape *s, rq_shape *matrix)
{
    if (rq_mil_expr_opset(x) >= 13 || axis == rank - 1 || x->st)
        return false;
    if (!rq_mil_expr_static(x, s))
        return false;
    *matrix = rq_shape_of(2, (int64_t[]) { rq_shape_span(s, 0, (int)axis), rq_shape_span(s, (int)axis, rank) });
    return true;
}

static rq_status softmax(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const int rank = a.shape.rank;
    int64_t axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, rq_mil_expr_opset(&x) < 13 ? 1 : -1), rank);
    rq_shape matrix;
    if (x.st || axis < 0)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    const bool turned = as_matrix(&x, rank, axis, &a.shape, &matrix), log = !strcmp(n->op, "LogSoftmax"),
               hard = !strcmp(n->op, "Hardmax");
    val v = turned ? rq_mil_expr_reshape(&x, a, &matrix) : a;
    axis = turned ? 1 : axis;
    if (hard) {
        rq_shape kept = v.shape;
        const int64_t size = v.shape.dim[axis];
        for (int i = (int)axis; i + 1 < kept.rank; i++)
            kept.dim[i] = kept.dim[i + 1];
        kept.rank--;
        if (size < 0)
            return rq_mil_expr_refuse(&x, 0, "a size that is known only when it runs");
        const val at = EXPR_OP(&x, "reduce_argmax", RQ_DTYPE_S32, &kept, EXPR_V("x", &v), EXPR_I("axis", axis),
                               EXPR_B("keep_dims", false),
                               EXPR_WHEN(e->target >= RQ_COREML_IOS17, EXPR_T("output_dtype", "int32")));
        v = EXPR_OP(turned ? &x : rq_mil_expr_last(&x), "one_hot", v.d, &v.shape, EXPR_V("indices", &at),
                    EXPR_I("one_hot_vector_size", size), EXPR_I("axis", axis), EXPR_F("on_value", 1),
                    EXPR_F("off_value", 0));
    } else if (log) {
        const val centred = rq_mil_expr_bin(&x, "sub", v, rq_mil_expr_reduce(&x, "reduce_max", v, &axis, 1, true));
        const val sum = rq_mil_expr_reduce(&x, "reduce_sum", rq_mil_expr_un(&x, "exp", centred), &axis, 1, true);
        v = rq_mil_expr_bin(turned ? &x : rq_mil_expr_last(&x), "sub", centred, rq_mil_expr_log(&x, sum));
    } else {
        v = rq_mil_expr_softmax(turned ? &x : rq_mil_expr_last(&x), v, axis);
    }
    if (turned)
        rq_mil_expr_reshape(rq_mil_expr_last(&x), v, &a.shape);
    return x.st;
}

static rq_status topk(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0));
    const int64_t axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, -1), a.shape.rank);
    const bool ascending = !rq_attr_int(n, RQ_WORD_largest, 1);
    const int64_t k = rq_mil_expr_whole(&x, 1, rq_attr_int(n, RQ_WORD_k, 1));
    if (x.st || axis < 0)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    if (k < 1)
        return rq_mil_expr_refuse(&x, 0, "an empty tensor");
    val v[2] = { a, { .d = RQ_DTYPE_S32, .shape = a.shape } };
    v[0].shape.dim[axis] = v[1].shape.dim[axis] = k;
    const rq_id out[2] = { rq_node_out(n, 0), rq_node_out(n, 1) };
    rq_mil_expr_op_many(
        &x, "topk", v, out, 2,
        (const rq_mil_expr_arg[]) { EXPR_V("x", &a),
                                    EXPR_I("k", k),
                                    EXPR_I("axis", axis),
                                    EXPR_B("ascending", ascending),
                                    EXPR_WHEN(e->target >= RQ_COREML_IOS16, EXPR_B("sort", true)),
                                    EXPR_WHEN(e->target >= RQ_COREML_IOS16, EXPR_B("return_indices", true)),
                                    EXPR_WHEN(e->target >= RQ_COREML_IOS17, EXPR_T("output_indices_dtype", "int32")),
                                    { .kind = RQ_MIL_EXPR_END } });
    return x.st;
}

static rq_status cumsum(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0));
    const int axis = rq_infer_axis(rq_mil_expr_whole(&x, 1, 0), a.shape.rank);
    if (x.st || axis < 0)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    EXPR_OP(rq_mil_expr_last(&x), "cumsum", a.d, &a.shape, EXPR_V("x", &a), EXPR_I("axis", axis),
            EXPR_B("exclusive", rq_attr_int(n, RQ_WORD_exclusive, 0) != 0),
            EXPR_B("reverse", rq_attr_int(n, RQ_WORD_reverse, 0) != 0));
    return x.st;
}

const rq_mil_emit_row rq_mil_emit_reduce[] = {
    { .op = "ArgMax", .emit = arg },
    { .op = "ArgMin", .emit = arg },
    { .op = "CumSum", .emit = cumsum },
    { .op = "Hardmax", .emit = softmax },
    { .op = "LogSoftmax", .emit = softmax },
    { .op = "ReduceL1", .emit = reduce },
    { .op = "ReduceL2", .emit = reduce },
    { .op = "ReduceLogSum", .emit = reduce },
    { .op = "ReduceLogSumExp", .emit = reduce },
    { .op = "ReduceMax", .emit = reduce },
    { .op = "ReduceMean", .emit = reduce },
    { .op = "ReduceMin", .emit = reduce },
    { .op = "ReduceProd", .emit = reduce },
    { .op = "ReduceSum", .emit = reduce },
    { .op = "ReduceSumSquare", .emit = reduce },
    { .op = "Softmax", .emit = softmax },
    { .op = "TopK", .emit = topk },
    { .op = NULL },
};
