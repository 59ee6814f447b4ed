/* graph/query.h — small questions about nodes and values that every pass asks. */
#ifndef RQ_GRAPH_QUERY_H
#define RQ_GRAPH_QUERY_H

#include <string.h>

#include "graph/graph.h"

/* Input or output i of a node; RQ_NONE past the last. */
static inline rq_id rq_node_in(const rq_node *n, int i)
{
    return i < n->n_in ? n->in[i] : RQ_NONE;
}

static inline rq_id rq_node_out(const rq_node *n, int i)
{
    return i < n->n_out ? n->out[i] : RQ_NONE;
}

/* Is it this operator of the default domain? */
static inline bool rq_node_is(const rq_node *n, const char *op)
{
    return n->op && !strcmp(n->op, op) && (!n->domain[0] || !strcmp(n->domain, "ai.onnx"));
}

/* The same of the operators that are ours alone ("FakeQuantize", "Requantize"). */
static inline bool rq_node_is_requant(const rq_node *n, const char *op)
{
    return n->op && !strcmp(n->op, op) && !strcmp(n->domain, "requant");
}

/* A constant? No for RQ_NONE. */
static inline bool rq_graph_is_const(const rq_graph *g, rq_id value)
{
    return value >= 0 && g->values[value].kind == RQ_VALUE_CONST;
}

#endif
