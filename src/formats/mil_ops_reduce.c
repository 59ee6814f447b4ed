/* formats/mil_ops_reduce.c — rows: reductions, sums along an axis, and what is sorted. */
#include <string.h>

#include "formats/mil_rows.h"

typedef rq_mil_reader reader;
typedef rq_chain chain;

static rq_status reduce(reader *r, const rq_mil_op *op)
{
    int64_t axes[16];
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *onnx = rq_mil_row_find(op->type)->onnx;
    const int64_t keep = rq_chain_int(&c, "keep_dims", 0);
    const int n = rq_chain_ints(&c, "axes", axes);
    const char *y = rq_n2(&c, onnx, x, n > 0 ? rq_chain_const_ints(&c, axes, n) : NULL);
    rq_chain_set_int(&c, "keepdims", keep);
    return rq_chain_end(&c, 0, y);
}

/* The type that a setting names; S32 when it is absent. */
static rq_dtype index_type(chain *c, const char *param)
{
    const char *name = rq_chain_text(c, param, "int32");
    if (!strcmp(name, "int32"))
        return RQ_DTYPE_S32;
    if (!strcmp(name, "uint16"))
        return RQ_DTYPE_U16;
    rq_chain_fail(c, RQ_UNSUPPORTED, "'%s' is '%.60s', expected int32 or uint16", param, name);
    return RQ_DTYPE_S32;
}

static rq_status arg(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int64_t axis = rq_chain_int(&c, "axis", -1), keep = rq_chain_int(&c, "keep_dims", 0);
    const rq_dtype d = index_type(&c, "output_dtype");
    const char *y = rq_n1(&c, !strcmp(op->type, "reduce_argmax") ? "ArgMax" : "ArgMin", x);
    rq_chain_set_int(&c, "axis", axis);
    rq_chain_set_int(&c, "keepdims", keep);
    return rq_chain_end(&c, 0, rq_chain_cast(&c, y, d));
}

static rq_status cumsum(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int64_t axis = rq_chain_int(&c, "axis", 0), exclusive = rq_chain_int(&c, "exclusive", 0),
                  reverse = rq_chain_int(&c, "reverse", 0);
    const char *y = rq_n2(&c, "CumSum", x, rq_chain_const_int(&c, axis));
    rq_chain_set_int(&c, "exclusive", exclusive);
    rq_chain_set_int(&c, "reverse", reverse);
    return rq_chain_end(&c, 0, y);
}

/* ---- the largest ---- */

/* Integers below 32 bits are compared as int32. */
static const char *comparable(chain *c, const char *x)
{
    const rq_dtype d = rq_chain_dtype(c, x);
    return d == RQ_DTYPE_F32 || d == RQ_DTYPE_F16 ? x : rq_chain_cast(c, x, RQ_DTYPE_S32);
}

static void top(chain *c, const char *x, const char *k, int64_t axis, int64_t ascending, const char *out[2])
{
    const char *flat = rq_n2(c, "Reshape", k, rq_chain_const_ints(c, (const int64_t[]) { 1 }, 1));
    rq_chain_nodes(c, "TopK", (const char *const[]) { x, flat }, 2, out, 2);
    rq_chain_set_int(c, "axis", axis);
    rq_chain_set_int(c, "largest", !ascending);
    rq_chain_set_int(c, "sorted", 1);
}

static rq_status topk(reader *r, const rq_mil_op *op)
{
    const char *out[2] = { NULL, NULL };
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const char *k = rq_mil_reader_has(op, "k") ? rq_chain_list(&c, "k") : rq_chain_const_int(&c, 1);
    const int64_t axis = rq_chain_int(&c, "axis", -1), ascending = rq_chain_int(&c, "ascending", 0);
    const rq_dtype d = index_type(&c, "output_indices_dtype");
    top(&c, comparable(&c, x), k, axis, ascending, out);
    rq_chain_end(&c, 0, rq_chain_cast(&c, out[0], rq_chain_dtype(&c, x)));
    return rq_chain_int(&c, "return_indices", 1) ? rq_chain_end(&c, 1, rq_chain_cast(&c, out[1], d)) : c.st;
}

static rq_status argsort(reader *r, const rq_mil_op *op)
{
    const char *out[2] = { NULL, NULL };
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int64_t axis = rq_chain_int(&c, "axis", -1), ascending = rq_chain_int(&c, "ascending", 0);
    const char *k = rq_n2(&c, "Gather", rq_n1(&c, "Shape", x), rq_chain_const_int(&c, axis));
    top(&c, x, k, axis, ascending, out);
    return rq_chain_end(&c, 0, rq_chain_cast(&c, out[1], RQ_DTYPE_S32));
}

const rq_mil_row rq_mil_rows_reduce[] = {
    { "argsort", argsort, "TopK", NULL },
    { "cumsum", cumsum, "CumSum", NULL },
    { "reduce_argmax", arg, "ArgMax", NULL },
    { "reduce_argmin", arg, "ArgMin", NULL },
    { "reduce_l1_norm", reduce, "ReduceL1", NULL },
    { "reduce_l2_norm", reduce, "ReduceL2", NULL },
    { "reduce_log_sum", reduce, "ReduceLogSum", NULL },
    { "reduce_log_sum_exp", reduce, "ReduceLogSumExp", NULL },
    { "reduce_max", reduce, "ReduceMax", NULL },
    { "reduce_mean", reduce, "ReduceMean", NULL },
    { "reduce_min", reduce, "ReduceMin", NULL },
    { "reduce_prod", reduce, "ReduceProd", NULL },
    { "reduce_sum", reduce, "ReduceSum", NULL },
    { "reduce_sum_square", reduce, "ReduceSumSquare", NULL },
    { "topk", topk, "TopK", NULL },
    { NULL, NULL, NULL, NULL },
};
