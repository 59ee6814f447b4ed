/* ops/cast.c — Cast and CastLike between all numeric types. */
#include "ops/elements.h"

static rq_status cast_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    if (!rq_attr_find(n, "to"))
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "attribute 'to' is missing");
    if (rq_elements_dtype(rq_attr_int(n, "to", 0)) == RQ_DTYPE_NONE)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "attribute 'to' is %lld, which is no element type",
                            (long long)rq_attr_int(n, "to", 0));
    return RQ_OK;
}

static rq_status cast_infer(const rq_infer *a)
{
    a->out_dtype[0] = rq_elements_dtype(rq_attr_int(a->node, "to", 0));
    a->out_shape[0] = a->in[0]->shape;
    return RQ_OK;
}

static rq_status cast_like_infer(const rq_infer *a)
{
    a->out_dtype[0] = a->in[1]->dtype;
    a->out_shape[0] = a->in[0]->shape;
    return RQ_OK;
}

static bool is_number(rq_dtype d)
{
    return d == RQ_DTYPE_BOOL || rq_dtype_is_integer(d) || rq_dtype_is_float(d);
}

static rq_status cast_forward(const rq_op_args *a)
{
    rq_dtype from = a->in[0]->dtype, to = a->out[0]->dtype;
    if (!is_number(from) || !is_number(to))
        return rq_op_fail(a, RQ_UNSUPPORTED, "casting %s to %s is not supported", rq_dtype_name(from),
                          rq_dtype_name(to));
    rq_elements_convert(a->out[0], a->in[0], rq_attr_int(a->node, "saturate", 1) != 0);
    return RQ_OK;
}

const rq_op rq_op_cast = {
    .name = "Cast",
    .domain = "",
    .since = 6,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .check = cast_check,
    .infer = cast_infer,
    .forward = cast_forward,
};

const rq_op rq_op_cast_like = {
    .name = "CastLike",
    .domain = "",
    .since = 15,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = cast_like_infer,
    .forward = cast_forward,
};
