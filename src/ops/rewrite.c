/* ops/rewrite.c — the small edits that passes over a graph are made of. */
#include "ops/rewrite.h"

#include <string.h>

const char *rq_rewrite_name(rq_graph *g, const char *base, const char *suffix)
{
    size_t n = strlen(base), m = strlen(suffix);
    char *text = rq_arena_alloc(&g->names, n + m + 1, 1);
    if (!text)
        return NULL;
    memcpy(text, base, n);
    memcpy(text + n, suffix, m);
    const char *name = rq_graph_fresh_name(g, text);
    for (const rq_graph *o = g->outer; o && name; o = o->outer) /* a subgraph must not define what is visible in it */
        if (rq_graph_find(o, name) != RQ_NONE)
            return rq_rewrite_name(g, name, "_in");
    return name;
}

static rq_status no_memory(rq_err *err, const char *what)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory rewriting '%s'", what);
}

rq_status rq_rewrite_detach(rq_graph *g, rq_id node, int k, const char *suffix, rq_id *made, rq_err *err)
{
    rq_id v = g->nodes[node].out[k];
    rq_shape shape = g->values[v].shape;
    const char *name = rq_rewrite_name(g, g->values[v].name, suffix);
    if (!name)
        return no_memory(err, g->values[v].name);
    RQ_TRY(rq_graph_add_value(g, made, RQ_VALUE_NODE, name, g->values[v].dtype, &shape, err));
    g->values[*made].producer = node;
    g->values[v].producer = RQ_NONE;
    g->nodes[node].out[k] = *made;
    return RQ_OK;
}

rq_status rq_rewrite_produce(rq_graph *g, const char *op, const char *suffix, const rq_id *in, int n_in, rq_id out,
                             rq_id *node, rq_err *err)
{
    rq_id id;
    const char *name = rq_rewrite_name(g, g->values[out].name, suffix);
    if (!name)
        return no_memory(err, g->values[out].name);
    RQ_TRY(rq_graph_add_node(g, &id, op, "", name, in, n_in, &out, 1, err));
    if (node)
        *node = id;
    return RQ_OK;
}

rq_status rq_rewrite_add(rq_graph *g, const char *op, const rq_id *in, int n_in, const char *base, const char *suffix,
                         rq_dtype d, rq_id *made, rq_id *node, rq_err *err)
{
    rq_id id;
    const char *name = rq_rewrite_name(g, base, suffix);
    if (!name)
        return no_memory(err, base);
    RQ_TRY(rq_graph_add_value(g, made, RQ_VALUE_NODE, name, d, NULL, err));
    const rq_status st = rq_graph_add_node(g, &id, op, "", name, in, n_in, made, 1, err);
    if (st)
        rq_graph_remove_value(g, *made); /* nobody makes it */
    else if (node)
        *node = id;
    return st;
}

rq_status rq_rewrite_become(rq_graph *g, rq_id node, const char *op, const rq_id *in, int n_in, rq_err *err)
{
    rq_node *n = &g->nodes[node];
    const char *kept = rq_graph_str(g, op);
    rq_id *ids = rq_arena_alloc(&g->names, (size_t)n_in, sizeof *ids);
    if (!kept || !ids)
        return no_memory(err, n->name);
    if (n_in)
        memcpy(ids, in, (size_t)n_in * sizeof *ids);
    n->op = kept;
    n->domain = "";
    n->row = NULL;
    n->in = ids;
    n->n_in = n->cap_in = n_in;
    return RQ_OK;
}

static rq_status add_const(rq_graph *g, rq_dtype d, int rank, int64_t n, const void *data, const char *base,
                           const char *suffix, rq_id *made, rq_err *err)
{
    rq_shape shape = rq_shape_of(rank, &n);
    rq_tensor t;
    const char *name = rq_rewrite_name(g, base, suffix);
    if (!name || rq_tensor_create(&t, d, &shape, false))
        return no_memory(err, base);
    if (t.bytes)
        memcpy(t.data, data, t.bytes);
    rq_status st = rq_graph_add_const(g, made, name, &t, err);
    rq_tensor_release(&t);
    return st;
}

rq_status rq_rewrite_ints(rq_graph *g, const int64_t *v, int n, const char *base, const char *suffix, rq_id *made,
                          rq_err *err)
{
    return add_const(g, RQ_DTYPE_S64, 1, n, v, base, suffix, made, err);
}

rq_status rq_rewrite_float(rq_graph *g, float v, const char *base, const char *suffix, rq_id *made, rq_err *err)
{
    return add_const(g, RQ_DTYPE_F32, 0, 1, &v, base, suffix, made, err);
}

rq_status rq_rewrite_floats(rq_graph *g, const float *v, int64_t n, const char *base, const char *suffix, rq_id *made,
                            rq_err *err)
{
    return add_const(g, RQ_DTYPE_F32, 1, n, v, base, suffix, made, err);
}

bool rq_rewrite_is(const rq_node *n, const char *op)
{
    return n->op && !strcmp(n->op, op) && (!n->domain[0] || !strcmp(n->domain, "ai.onnx"));
}

rq_status rq_rewrite_inherit(rq_graph *g, rq_id to, const rq_value *was, bool output, rq_err *err)
{
    rq_value *v = &g->values[to];
    if (v->dtype == RQ_DTYPE_NONE)
        v->dtype = was->dtype;
    if (v->shape.rank < 0 || (output && was->shape.rank >= 0))
        v->shape = was->shape;
    if (!output)
        return RQ_OK;
    v->doc = was->doc;
    v->extra = was->extra;
    return rq_graph_rename(g, to, was->name, err);
}

bool rq_rewrite_bypass(rq_graph *g, rq_id node, rq_id to, rq_status *st, rq_err *err)
{
    rq_id v = g->nodes[node].out[0];
    const rq_value was = g->values[v];
    bool output = rq_graph_is_output(g, v);
    *st = RQ_OK;
    if (output && (g->values[to].kind != RQ_VALUE_NODE || rq_graph_is_output(g, to)))
        return false;
    rq_graph_replace_uses(g, v, to, RQ_NONE);
    rq_graph_remove_node(g, node);
    *st = rq_rewrite_inherit(g, to, &was, output, err);
    return true;
}
