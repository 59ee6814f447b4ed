/* run/autograd_graph.c — what of a graph is trained. A constant is, where an operator says that it trains this input
 * (rq_op.parameters), directly or behind nodes that only hand it on; what the graph says of the constant (rq_value.trainable) comes first. */
#include <string.h>

#include "base/buf.h"
#include "graph/query.h"
#include "run/autograd_plan.h"
#include "tensor/storage.h"

static bool has(unsigned mask, int i)
{
    return mask & RQ_OP_IN(i < 15 ? i : 15);
}

bool rq_train_input_has_gradient(const rq_node *n, int i)
{
    return !n->row->gradients || has(n->row->gradients, i);
}

static bool is_fake(const rq_node *n)
{
    return n->op && !strcmp(n->op, "FakeQuantize") && !strcmp(n->domain, "requant");
}

bool rq_train_carries(const rq_node *n)
{
    return is_fake(n) || n->row->flags & (RQ_OP_VIEW | RQ_OP_MOVES) || !strcmp(n->op, "ScaleChannels");
}

rq_fake_quantizer *rq_train_fake_of(const rq_autograd *a, const rq_node *n)
{
    const int64_t slot = is_fake(n) ? rq_attr_int(n, RQ_WORD_slot, -1) : -1;
    return slot >= 0 && slot < a->cfg.n_fakes ? a->cfg.fakes[slot] : NULL;
}

/* ---- trained constants ---- */

/* The node that decides what `value` is to it: the reader, or what stands behind readers that only carry. *input: which. */
typedef struct use {
    const rq_node *node;
    int input;
} use;

/* What asks for `value` as its parameter; node NULL: nobody. decided[value of a later node] is known already. */
static void find_uses(const rq_autograd *a, use *decided)
{
    const rq_graph *g = a->g;
    for (int at = a->n_order - 1; at >= 0; at--) {
        const rq_node *n = &g->nodes[a->order[at]];
        const rq_id out = n->n_out ? n->out[0] : RQ_NONE;
        const use *behind = out != RQ_NONE && decided[out].node ? &decided[out] : NULL;
        for (int i = n->n_in - 1; i >= 0; i--) {
            if (n->in[i] == RQ_NONE)
                continue;
            if (behind && ((i == 0 && rq_train_carries(n)) || (rq_node_is(n, "Concat") && rq_train_is_weight(g, out))))
                decided[n->in[i]] = *behind;
            else if (rq_train_asks(g, n, i))
                decided[n->in[i]] = (use) { n, i };
        }
    }
}

static rq_status add_trained(rq_autograd *a, rq_id value, use u, rq_err *err)
{
    rq_value *v = &a->g->values[value];
    if (!rq_mem_grow(&a->trained, a->n_trained, &a->cap_trained, sizeof *a->trained))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the parameters of the graph");
    float *grad = rq_mem_zalloc(v->constant.bytes, 1);
    if (!grad || rq_tensor_unshare(&v->constant)) {
        rq_mem_free(grad);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for parameter '%s'", v->name);
    }
    a->trained[a->n_trained] =
        (rq_trained) { .value = value,
                       .role =
                           u.node ? rq_train_role(a->g, u.node, u.input, v->constant.shape.rank) : RQ_PARAMETER_OTHER,
                       .grad = grad };
    a->trained_of[value] = a->n_trained++;
    return RQ_OK;
}

static rq_status find_trained(rq_autograd *a, rq_err *err)
{
    rq_graph *g = a->g;
    rq_status st = RQ_OK;
    use *decided = rq_mem_zalloc((size_t)g->n_values + 1, sizeof *decided);
    if (!decided)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the parameters of the graph");
    find_uses(a, decided);
    for (int at = 0; at < a->n_order && !st; at++) {
        const rq_node *n = &g->nodes[a->order[at]];
        for (int i = 0; i < n->n_in && !st; i++) {
            const rq_id v = n->in[i];
            if (!rq_graph_is_const(g, v) || a->trained_of[v] >= 0)
                continue;
            const rq_value *val = &g->values[v];
            const bool asked =
                val->trainable == RQ_TRAINABLE_AUTO ? decided[v].node != NULL : val->trainable == RQ_TRAINABLE_YES;
            if (asked && val->constant.dtype == RQ_DTYPE_F32 && !has(n->row->statistics, i))
                st = add_trained(a, v, decided[v], err);
        }
    }
    rq_mem_free(decided);
    return st;
}

static rq_status find_moving(rq_autograd *a, rq_err *err)
{
    rq_graph *g = a->g;
    for (int at = 0; at < a->n_order; at++) {
        const rq_node *n = &g->nodes[a->order[at]];
        for (int i = 0; i < n->n_in && n->row->statistics; i++) {
            const rq_id v = n->in[i];
            if (!has(n->row->statistics, i) || !rq_graph_is_const(g, v))
                continue;
            if (a->trained_of[v] >= 0)
                return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "running statistics '%s' are a parameter elsewhere",
                                    g->values[v].name);
            a->moving[v] = true;
            if (rq_tensor_unshare(&g->values[v].constant))
                return rq_fail(err, RQ_NO_MEMORY, "out of memory for running statistics '%s'", g->values[v].name);
        }
    }
    return RQ_OK;
}

/* ---- what stands in the way of a gradient ---- */

static bool may_be_float(const rq_graph *g, rq_id v)
{
    return v != RQ_NONE && (g->values[v].dtype == RQ_DTYPE_F32 || g->values[v].dtype == RQ_DTYPE_NONE);
}

/* Codes end a gradient although reals come out again behind them. */
static bool makes_codes(const rq_node *n)
{
    return !strcmp(n->op, "QuantizeLinear") || !strcmp(n->op, "DynamicQuantizeLinear");
}

static bool wants_backward(const rq_autograd *a, const rq_node *n, const bool *needs)
{
    const rq_graph *g = a->g;
    bool any_in = false, any_out = makes_codes(n);
    for (int i = 0; i < n->n_in; i++)
        any_in |= n->in[i] != RQ_NONE && needs[n->in[i]] && rq_train_input_has_gradient(n, i);
    for (int i = 0; i < n->n_out; i++)
        any_out |= may_be_float(g, n->out[i]);
    return any_in && any_out && !(n->row->flags & RQ_OP_SHAPE_ONLY);
}

static rq_status check_gradients(rq_autograd *a, rq_err *err)
{
    const rq_graph *g = a->g;
    bool *needs = rq_mem_zalloc((size_t)g->n_values + 1, 2);
    rq_buf names = { 0 };
    int missing = 0;
    if (!needs)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory looking for gradients");
    bool *leads = needs + g->n_values;
    for (int i = 0; i < a->n_trained; i++)
        needs[a->trained[i].value] = true;
    for (int i = 0; i < g->n_outputs; i++)
        leads[g->outputs[i]] = true;
    for (int at = 0; at < a->n_order; at++) {
        const rq_node *n = &g->nodes[a->order[at]];
        for (int i = 0; i < n->n_out && wants_backward(a, n, needs); i++)
            if (n->out[i] != RQ_NONE)
                needs[n->out[i]] = true;
    }
    for (int at = a->n_order - 1; at >= 0; at--) {
        const rq_node *n = &g->nodes[a->order[at]];
        bool lead = false;
        for (int i = 0; i < n->n_out; i++)
            lead |= n->out[i] != RQ_NONE && leads[n->out[i]];
        for (int i = 0; i < n->n_in && lead; i++)
            if (n->in[i] != RQ_NONE)
                leads[n->in[i]] = true;
        if (!lead || n->row->backward || n->row->flags & RQ_OP_VIEW || !wants_backward(a, n, needs))
            continue;
        if (missing++ < 8)
            rq_buf_addf(&names, "%s'%.60s' (%s)", missing > 1 ? ", " : "", n->name, n->op);
    }
    rq_mem_free(needs);
    rq_status st = RQ_OK;
    if (missing)
        st = rq_fail(err, RQ_UNSUPPORTED, "%d operator%s between parameters and outputs and %s no gradient: %s%s",
                     missing, missing > 1 ? "s stand" : " stands", missing > 1 ? "have" : "has",
                     names.data ? names.data : "", missing > 8 ? " ..." : "");
    rq_buf_release(&names);
    return st;
}

/* ---- the rest ---- */

static rq_status check_nodes(const rq_autograd *a, rq_err *err)
{
    const rq_graph *g = a->g;
    for (rq_id v = 0; v < g->n_values; v++)
        if (g->values[v].kind != RQ_VALUE_DEAD && g->values[v].quant != RQ_NONE)
            return rq_fail(err, RQ_UNSUPPORTED,
                           "value '%s' is stored as codes; a graph of floats is expected to be trained",
                           g->values[v].name);
    for (int at = 0; at < a->n_order; at++) {
        const rq_node *n = &g->nodes[a->order[at]];
        if (rq_attr_any_body(n))
            return rq_node_fail(g, n, err, RQ_UNSUPPORTED,
                                "gradients do not go through the bodies of If, Loop and Scan: a graph that is trained "
                                "cannot have them");
        if (is_fake(n) && !rq_train_fake_of(a, n))
            return rq_node_fail(g, n, err, RQ_BAD_ARG, "slot %lld, where %d fake-quantizers were given",
                                (long long)rq_attr_int(n, RQ_WORD_slot, -1), a->cfg.n_fakes);
    }
    return RQ_OK;
}

rq_status rq_train_survey(rq_autograd *a, rq_err *err)
{
    RQ_TRY(check_nodes(a, err));
    RQ_TRY(find_trained(a, err));
    RQ_TRY(find_moving(a, err));
    for (int i = 0; i < a->g->n_outputs; i++)
        a->outside[a->g->outputs[i]] = true;
    return check_gradients(a, err);
}
