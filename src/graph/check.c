/* graph/check.c — the invariants of a graph, each with the sentence that says which value or node breaks it. */
#include <string.h>

#include "graph/graph.h"

static rq_status check_id(const rq_graph *g, rq_id v, const char *what, const char *of, rq_err *err)
{
    if (v == RQ_NONE)
        return RQ_OK;
    if (v < 0 || v >= g->n_values || g->values[v].kind == RQ_VALUE_DEAD)
        return rq_fail(err, RQ_BAD_GRAPH, "%s of '%s' is not a value of the graph", what, of);
    return RQ_OK;
}

static rq_status check_value(const rq_graph *g, rq_id id, rq_err *err)
{
    const rq_value *v = &g->values[id];
    if (v->kind == RQ_VALUE_DEAD)
        return RQ_OK;
    if (v->name[0] && rq_graph_find(g, v->name) != id)
        return rq_fail(err, RQ_BAD_GRAPH, "value '%s' is defined twice", v->name);
    if (v->kind == RQ_VALUE_NODE) {
        if (v->producer < 0 || v->producer >= g->n_nodes || !g->nodes[v->producer].op)
            return rq_fail(err, RQ_BAD_GRAPH, "value '%s' is used, but no node, input or initializer makes it",
                           v->name);
        const rq_node *n = &g->nodes[v->producer];
        int at = 0;
        while (at < n->n_out && n->out[at] != id)
            at++;
        if (at == n->n_out)
            return rq_fail(err, RQ_BAD_GRAPH, "value '%s' is not an output of its node '%s'", v->name, n->name);
    }
    if (v->kind == RQ_VALUE_CONST && v->constant.dtype == RQ_DTYPE_NONE)
        return rq_fail(err, RQ_BAD_GRAPH, "constant '%s' has no content", v->name);
    if (v->kind == RQ_VALUE_CAPTURED && (!g->outer || v->outer < 0 || v->outer >= g->outer->n_values ||
                                         g->outer->values[v->outer].kind == RQ_VALUE_DEAD))
        return rq_fail(err, RQ_BAD_GRAPH, "value '%s' is captured from nowhere", v->name);
    if (v->quant != RQ_NONE) {
        if (v->quant < 0 || v->quant >= g->n_quants)
            return rq_fail(err, RQ_BAD_GRAPH, "value '%s' has an annotation that does not exist", v->name);
        const rq_qparams *q = &g->quants[v->quant].q;
        if (q->axis != RQ_PER_TENSOR && v->shape.rank >= 0 && q->axis >= v->shape.rank)
            return rq_fail(err, RQ_BAD_GRAPH, "value '%s' is quantized along axis %d, but has rank %d", v->name,
                           q->axis, v->shape.rank);
    }
    return RQ_OK;
}

rq_status rq_graph_check(const rq_graph *g, rq_err *err)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        for (int k = 0; k < n->n_in; k++)
            RQ_TRY(check_id(g, n->in[k], "an input", n->name, err));
        for (int k = 0; k < n->n_out; k++) {
            RQ_TRY(check_id(g, n->out[k], "an output", n->name, err));
            if (n->out[k] != RQ_NONE && g->values[n->out[k]].producer != i)
                return rq_fail(err, RQ_BAD_GRAPH, "value '%s' is defined twice", g->values[n->out[k]].name);
        }
        for (int a = 0; a < n->n_attr; a++)
            for (int k = 0; k < rq_attr_bodies(&n->attr[a]); k++)
                RQ_TRY(rq_graph_check(n->attr[a].g[k], err));
    }
    for (int i = 0; i < g->n_values; i++)
        RQ_TRY(check_value(g, i, err));
    for (int i = 0; i < g->n_inputs; i++)
        RQ_TRY(check_id(g, g->inputs[i], "an input", "the graph", err));
    for (int i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == RQ_NONE || check_id(g, g->outputs[i], "an output", "the graph", err))
            return rq_fail(err, RQ_BAD_GRAPH, "graph output %d is not a value of the graph", i);
    rq_id *order;
    int n;
    RQ_TRY(rq_order(g, &order, &n, err));
    rq_mem_free(order);
    return RQ_OK;
}
