/* ops/on_codes.c — OnCodes of the domain "requant": an average (attribute "op") of numbers that are codes, as integers average them. The exact mean of n codes
 * lies on a tie of two codes once in n times, and floats decide it by the last bit of their sum; so what a network in training is compared with
 * its integers by (algo/linear_quantizer_simulation.c) takes the rule of the integers there: x to codes of scale and zero_point, the integer form of
 * the operator, and back. Its other attributes and inputs are the operator's. No gradient: for networks that are evaluated. */
#include <math.h>
#include <string.h>

#include "ops/op.h"
#include "quant/codes.h"

static const rq_op *row_of(const rq_node *n)
{
    static const char *const ops[] = { "AveragePool", "GlobalAveragePool", "ReduceMean" };
    const char *op = rq_attr_string(n, RQ_WORD_op, "");
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (!strcmp(op, ops[i]))
            return rq_op_find("", op);
    return NULL;
}

static bool is_signed(const rq_node *n)
{
    return rq_attr_int(n, RQ_WORD_signed, 0) != 0;
}

/* The node that it stands for. */
static rq_node node_of(const rq_node *n)
{
    rq_node of = *n;
    of.row = row_of(n);
    of.op = of.row->name;
    of.domain = of.row->domain;
    return of;
}

static rq_status check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    (void)opset;
    if (!row_of(n))
        return rq_node_fail(g, n, err, RQ_UNSUPPORTED, "averages codes, and '%.32s' is no average",
                            rq_attr_string(n, RQ_WORD_op, ""));
    const float scale = rq_attr_float(n, RQ_WORD_scale, 0);
    if (!(scale > 0) || isinf(scale))
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "the scale of its codes is %g, expected a positive number",
                            (double)scale);
    const int64_t zero = rq_attr_int(n, RQ_WORD_zero_point, 0), least = is_signed(n) ? INT8_MIN : 0;
    if (zero < least || zero > least + UINT8_MAX)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "zero_point is %lld, expected %lld to %lld", (long long)zero,
                            (long long)least, (long long)least + UINT8_MAX);
    return RQ_OK;
}

static rq_status infer(const rq_infer *a)
{
    if (!row_of(a->node))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "'%.32s' is no average", rq_attr_string(a->node, RQ_WORD_op, ""));
    if (a->in[0]->dtype != RQ_DTYPE_NONE && a->in[0]->dtype != RQ_DTYPE_F32)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the input is %s, expected f32", rq_dtype_name(a->in[0]->dtype));
    const rq_node n = node_of(a->node);
    rq_infer of = *a;
    of.node = &n;
    of.opset = rq_graph_opset(a->graph, "");
    return n.row->infer(&of);
}

/* Codes of x, the integer form, and back; *runs: it takes these shapes. a is of the node that this one stands for. */
static rq_status average(const rq_op_args *a, const rq_qparams *q, bool *runs)
{
    const rq_op *row = a->node->row;
    const char *why;
    rq_tensor x = { 0 }, y = { 0 };
    const rq_tensor *in[2] = { &x, a->n_in > 1 ? a->in[1] : NULL };
    rq_tensor *out[1] = { &y };
    const rq_qparams *in_q[2] = { q, NULL }, *out_q[1] = { q };
    rq_op_args of = *a;
    of.in = in;
    of.out = out;
    of.in_q = in_q;
    of.out_q = out_q;
    of.training = NULL;
    of.state = of.scratch = NULL;
    rq_status s = rq_tensor_create(&x, q->dtype, &a->in[0]->shape, false);
    if (!s)
        s = rq_tensor_create(&y, q->dtype, &a->out[0]->shape, false);
    *runs = !s && row->accepts_int(&of, &why);
    if (*runs) {
        rq_codes_from_reals(&x, a->in[0], q, a->k);
        s = row->forward_int(&of);
        if (!s)
            rq_codes_to_reals(a->out[0], &y, q, a->k);
    }
    rq_tensor_release(&x);
    rq_tensor_release(&y);
    return s;
}

static rq_status forward(const rq_op_args *a)
{
    const rq_node n = node_of(a->node);
    rq_op_args of = *a;
    rq_qparams q;
    bool runs;
    of.node = &n;
    of.opset = rq_graph_opset(a->graph, "");
    if (rq_qparams_init(&q, is_signed(a->node) ? RQ_DTYPE_S8 : RQ_DTYPE_U8, RQ_PER_TENSOR, 0, 1))
        return RQ_NO_MEMORY;
    q.scale[0] = rq_attr_float(a->node, RQ_WORD_scale, 0);
    q.zero_point[0] = (int32_t)rq_attr_int(a->node, RQ_WORD_zero_point, 0);
    const rq_status s = average(&of, &q, &runs);
    rq_qparams_release(&q);
    return s || runs ? s : n.row->forward(&of); /* integers run it in floats, too */
}

const rq_op rq_op_on_codes = {
    .name = "OnCodes",
    .domain = "requant",
    .since = 1,
    .known = 1,
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_KEEP,
    .place = RQ_PLACE_FLOAT,
    .check = check,
    .infer = infer,
    .forward = forward,
};
