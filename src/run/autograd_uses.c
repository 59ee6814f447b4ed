/* run/autograd_uses.c — what a constant is to the node that reads it. Most rows say which of their inputs they train
 * (rq_op.parameters). Three only do in company: Gather, when it looks rows up in a table (an embedding); Add, when it adds the bias of the
 * product or convolution before it; Mul and Add, when they are the weight and bias of a normalization that an exporter wrote out as
 * arithmetic. Nodes between that only hand on (Reshape, Transpose, FakeQuantize) do not count. */
#include <string.h>

#include "graph/query.h"
#include "run/autograd_plan.h"

/* The node that makes what `value` holds; NULL: an input or a constant. */
static const rq_node *maker(const rq_graph *g, rq_id value)
{
    while (value != RQ_NONE && g->values[value].kind == RQ_VALUE_NODE) {
        const rq_node *n = &g->nodes[g->values[value].producer];
        const bool carries = n->row && (rq_train_carries(n) || rq_node_is(n, "Identity")) && n->out[0] == value;
        if (!carries || rq_node_is(n, "Gather") || rq_node_is(n, "Expand") || rq_node_is(n, "Tile"))
            return n;
        value = rq_node_in(n, 0);
    }
    return NULL;
}

bool rq_train_is_weight(const rq_graph *g, rq_id value)
{
    while (value != RQ_NONE && g->values[value].kind == RQ_VALUE_NODE) {
        const rq_node *n = &g->nodes[g->values[value].producer];
        const bool joins = rq_node_is(n, "Concat");
        for (int i = 1; joins && i < n->n_in; i++)
            if (!rq_train_is_weight(g, n->in[i]))
                return false;
        if (!n->row || !(joins || rq_train_carries(n)))
            return false;
        value = rq_node_in(n, 0);
    }
    return rq_graph_is_const(g, value) && g->values[value].constant.dtype == RQ_DTYPE_F32 &&
           g->values[value].constant.shape.rank > 0;
}

static bool is_product(const rq_graph *g, const rq_node *n)
{
    static const char *const ops[] = { "Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum" };
    for (size_t i = 0; n && i < sizeof ops / sizeof ops[0]; i++)
        if (rq_node_is(n, ops[i]))
            return rq_train_is_weight(g, rq_node_in(n, 1)) || rq_train_is_weight(g, rq_node_in(n, 0));
    return false;
}

/* x / sqrt(..), x * (1 / sqrt(..)), or a normalization that has no weight of its own per channel (of groups). */
static bool is_bare_norm(const rq_graph *g, const rq_node *n)
{
    if (!n)
        return false;
    const rq_node *b = maker(g, rq_node_in(n, 1)), *a = maker(g, rq_node_in(n, 0));
    if (rq_node_is(n, "Div"))
        return b && rq_node_is(b, "Sqrt");
    if (rq_node_is(n, "Mul"))
        for (int i = 0; i < 2; i++) {
            const rq_node *by = i ? b : a;
            const rq_node *root = by && (rq_node_is(by, "Reciprocal") || rq_node_is(by, "Div"))
                                      ? maker(g, rq_node_in(by, rq_node_is(by, "Div")))
                                      : NULL;
            if (root && rq_node_is(root, "Sqrt"))
                return true;
        }
    return rq_node_is(n, "InstanceNormalization");
}

/* The other operand of a Mul or an Add. */
static const rq_node *other(const rq_graph *g, const rq_node *n, int i)
{
    return n->n_in == 2 ? maker(g, n->in[1 - i]) : NULL;
}

static bool is_norm_weight(const rq_graph *g, const rq_node *n, int i)
{
    return rq_node_is(n, "Mul") && rq_train_is_weight(g, n->in[i]) && is_bare_norm(g, other(g, n, i));
}

static bool is_norm_bias(const rq_graph *g, const rq_node *n, int i)
{
    const rq_node *m = rq_node_is(n, "Add") && rq_train_is_weight(g, n->in[i]) ? other(g, n, i) : NULL;
    return m && m->n_in == 2 && (is_norm_weight(g, m, 0) || is_norm_weight(g, m, 1));
}

static bool is_bias(const rq_graph *g, const rq_node *n, int i)
{
    return rq_node_is(n, "Add") && rq_train_is_weight(g, n->in[i]) && is_product(g, other(g, n, i));
}

bool rq_train_asks(const rq_graph *g, const rq_node *n, int i)
{
    if (rq_node_is(n, "Add"))
        return is_bias(g, n, i) || is_norm_bias(g, n, i);
    if (rq_node_is(n, "Mul"))
        return is_norm_weight(g, n, i);
    if (!(n->row->parameters & RQ_OP_IN(i < 15 ? i : 15)))
        return false;
    if (!rq_node_is(n, "Gather"))
        return true;
    return g->values[n->in[0]].shape.rank == 2 && !rq_graph_is_const(g, rq_node_in(n, 1));
}

static bool is_norm(const rq_node *n)
{
    return n->row->statistics || strstr(n->op, "Normalization") || !strcmp(n->op, "BatchNormScale");
}

rq_parameter_role rq_train_role(const rq_graph *g, const rq_node *n, int i, int rank)
{
    if (is_norm(n)) /* FoldedBatchNorm has the bias of the convolution before it as input 2 */
        return !strcmp(n->op, "FoldedBatchNorm") && i == 2 ? RQ_PARAMETER_BIAS : RQ_PARAMETER_NORM;
    if (rq_node_is(n, "Mul") || rq_node_is(n, "Add"))
        return rq_node_is(n, "Add") && is_bias(g, n, i) ? RQ_PARAMETER_BIAS : RQ_PARAMETER_NORM;
    if (rq_node_is(n, "PRelu"))
        return RQ_PARAMETER_OTHER;
    if (rq_node_is(n, "MatMul") || rq_node_is(n, "Gather"))
        return RQ_PARAMETER_WEIGHT;
    if (rq_node_is(n, "LSTM") || rq_node_is(n, "GRU") || rq_node_is(n, "RNN"))
        return i == 3 ? RQ_PARAMETER_BIAS : RQ_PARAMETER_WEIGHT;
    return rank >= 2 && !(i == 2 && rq_node_is(n, "Gemm")) ? RQ_PARAMETER_WEIGHT : RQ_PARAMETER_BIAS;
}
