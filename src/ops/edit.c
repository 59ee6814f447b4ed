/* ops/edit.c — the graph for programs (requant/edit.h): names and checks around the ids of graph/graph.h. It stands here and
 * not in graph/, because saying whether a graph is whole takes the operators' rows. */
#include "requant/edit.h"

#include <string.h>

#include "base/nearest.h"
#include "graph/graph.h"
#include "ops/op.h"
#include "quant/codes.h"

/* ---- names ---- */

static rq_status find(const rq_graph *g, const char *name, rq_id *out, rq_err *err)
{
    *out = name && name[0] ? rq_graph_find(g, name) : RQ_NONE;
    if (*out != RQ_NONE)
        return RQ_OK;
    char hint[RQ_NEAREST_HINT];
    rq_nearest near = rq_nearest_to(name ? name : "");
    for (int i = 0; i < g->n_values; i++)
        if (g->values[i].kind != RQ_VALUE_DEAD)
            rq_nearest_try(&near, g->values[i].name);
    return rq_fail(err, RQ_NOT_FOUND, "the graph has no value '%s'%s", name ? name : "", rq_nearest_hint(&near, hint));
}

static const rq_node *node_of(const rq_graph *g, int node)
{
    return node >= 0 && node < g->n_nodes && g->nodes[node].op ? &g->nodes[node] : NULL;
}

static rq_status need_node(const rq_graph *g, int node, rq_err *err)
{
    return node_of(g, node) ? RQ_OK : rq_fail(err, RQ_NOT_FOUND, "the graph has no node %d", node);
}

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory editing the graph");
}

static rq_status need_name(const char *name, const char *what, rq_err *err)
{
    return name && name[0] ? RQ_OK : rq_fail(err, RQ_BAD_ARG, "%s needs a name", what);
}

/* ---- building ---- */

rq_status rq_edit_set_opset(rq_graph *g, const char *domain, int64_t version, rq_err *err)
{
    if (version < 1)
        return rq_fail(err, RQ_BAD_ARG, "opset %lld was asked for, expected at least 1", (long long)version);
    return rq_graph_set_opset(g, domain ? domain : "", version) ? no_memory(err) : RQ_OK;
}

int64_t rq_edit_dim(rq_graph *g, const char *name)
{
    return rq_graph_symbol(g, name);
}

static rq_status check_shape(const char *name, rq_dtype d, const rq_shape *shape, rq_err *err)
{
    if (d == RQ_DTYPE_NONE || (unsigned)d >= RQ_N_DTYPES)
        return rq_fail(err, RQ_BAD_DTYPE, "'%s' has no element type", name);
    if (shape->rank < RQ_RANK_UNKNOWN || shape->rank > RQ_MAX_RANK)
        return rq_fail(err, RQ_BAD_SHAPE, "'%s' has rank %d, expected at most %d", name, shape->rank, RQ_MAX_RANK);
    return RQ_OK;
}

rq_status rq_edit_add_input(rq_graph *g, const char *name, rq_dtype d, const rq_shape *shape, rq_err *err)
{
    rq_id id;
    RQ_TRY(need_name(name, "an input", err));
    RQ_TRY(check_shape(name, d, shape, err));
    if (!rq_mem_grow(&g->inputs, g->n_inputs, &g->cap_inputs, sizeof *g->inputs))
        return no_memory(err);
    RQ_TRY(rq_graph_add_value(g, &id, RQ_VALUE_INPUT, name, d, shape, err));
    g->inputs[g->n_inputs++] = id;
    return RQ_OK;
}

rq_status rq_edit_add_constant(rq_graph *g, const char *name, const rq_tensor *t, rq_err *err)
{
    rq_id id;
    RQ_TRY(need_name(name, "a constant", err));
    RQ_TRY(check_shape(name, t->dtype, &t->shape, err));
    return rq_graph_add_const(g, &id, name, t, err);
}

rq_status rq_edit_add_output(rq_graph *g, const char *name, rq_err *err)
{
    rq_id id;
    RQ_TRY(find(g, name, &id, err));
    if (rq_graph_is_output(g, id))
        return rq_fail(err, RQ_BAD_GRAPH, "'%s' is an output of the graph already", name);
    if (!rq_mem_grow(&g->outputs, g->n_outputs, &g->cap_outputs, sizeof *g->outputs))
        return no_memory(err);
    g->outputs[g->n_outputs++] = id;
    return RQ_OK;
}

static rq_status find_inputs(const rq_graph *g, const rq_edit_node *n, rq_id *in, rq_err *err)
{
    for (int i = 0; i < n->n_in; i++) {
        in[i] = RQ_NONE;
        if (n->in[i] && n->in[i][0])
            RQ_TRY(find(g, n->in[i], &in[i], err));
    }
    return RQ_OK;
}

static rq_status make_outputs(rq_graph *g, const rq_edit_node *n, rq_id *out, rq_err *err)
{
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] && n->out[i][0])
            RQ_TRY(rq_graph_add_value(g, &out[i], RQ_VALUE_NODE, n->out[i], RQ_DTYPE_NONE, NULL, err));
    return RQ_OK;
}

rq_status rq_edit_add_node(rq_graph *g, const rq_edit_node *n, int *id, rq_err *err)
{
    if (!n->op || !n->op[0] || n->n_in < 0 || n->n_out < 0)
        return rq_fail(err, RQ_BAD_ARG, "a node needs an operator and lists of inputs and outputs");
    rq_id node = RQ_NONE;
    rq_id *in = rq_mem_alloc((size_t)n->n_in, sizeof *in), *out = rq_mem_alloc((size_t)n->n_out, sizeof *out);
    rq_status st = in && out ? RQ_OK : no_memory(err);
    for (int i = 0; st == RQ_OK && i < n->n_out; i++)
        out[i] = RQ_NONE;
    if (st == RQ_OK)
        st = find_inputs(g, n, in, err);
    if (st == RQ_OK) {
        st = make_outputs(g, n, out, err);
        if (st == RQ_OK)
            st = rq_graph_add_node(g, &node, n->op, n->domain ? n->domain : "", n->name ? n->name : "", in, n->n_in,
                                   out, n->n_out, err);
        for (int i = 0; st != RQ_OK && i < n->n_out; i++)
            if (out[i] != RQ_NONE)
                rq_graph_remove_value(g, out[i]);
    }
    rq_mem_free(in);
    rq_mem_free(out);
    if (st == RQ_OK && id)
        *id = node;
    return st;
}

/* ---- attributes ---- */

static rq_status after_set(rq_status st, rq_err *err)
{
    return st == RQ_OK ? RQ_OK : no_memory(err);
}

rq_status rq_edit_set_int(rq_graph *g, int node, const char *name, int64_t v, rq_err *err)
{
    RQ_TRY(need_node(g, node, err));
    return after_set(rq_attr_set_int(g, node, name, v), err);
}

rq_status rq_edit_set_float(rq_graph *g, int node, const char *name, float v, rq_err *err)
{
    RQ_TRY(need_node(g, node, err));
    return after_set(rq_attr_set_float(g, node, name, v), err);
}

rq_status rq_edit_set_string(rq_graph *g, int node, const char *name, const char *v, rq_err *err)
{
    RQ_TRY(need_node(g, node, err));
    return after_set(rq_attr_set_string(g, node, name, v), err);
}

rq_status rq_edit_set_ints(rq_graph *g, int node, const char *name, const int64_t *v, int n, rq_err *err)
{
    RQ_TRY(need_node(g, node, err));
    return after_set(rq_attr_set_ints(g, node, name, v, n), err);
}

rq_status rq_edit_set_tensor(rq_graph *g, int node, const char *name, const rq_tensor *t, rq_err *err)
{
    RQ_TRY(need_node(g, node, err));
    return after_set(rq_attr_set_tensor(g, node, name, t), err);
}

int64_t rq_edit_int(const rq_graph *g, int node, const char *name, int64_t fallback)
{
    const rq_node *n = node_of(g, node);
    return n ? rq_attr_as_int(rq_attr_named(n, name), fallback) : fallback;
}

float rq_edit_float(const rq_graph *g, int node, const char *name, float fallback)
{
    const rq_node *n = node_of(g, node);
    return n ? rq_attr_as_float(rq_attr_named(n, name), fallback) : fallback;
}

const char *rq_edit_string(const rq_graph *g, int node, const char *name, const char *fallback)
{
    const rq_node *n = node_of(g, node);
    return n ? rq_attr_as_string(rq_attr_named(n, name), fallback) : fallback;
}

const int64_t *rq_edit_ints(const rq_graph *g, int node, const char *name, int *count)
{
    const rq_node *n = node_of(g, node);
    *count = 0;
    return n ? rq_attr_as_ints(rq_attr_named(n, name), count) : NULL;
}

/* ---- looking ---- */

int rq_edit_n_nodes(const rq_graph *g)
{
    return g->n_nodes;
}

bool rq_edit_node_at(const rq_graph *g, int node, rq_edit_node *out)
{
    const rq_node *n = node_of(g, node);
    if (n)
        *out = (rq_edit_node) { .op = n->op, .domain = n->domain, .name = n->name, .n_in = n->n_in, .n_out = n->n_out };
    return n != NULL;
}

const char *rq_edit_node_in(const rq_graph *g, int node, int i)
{
    const rq_node *n = node_of(g, node);
    return n && i >= 0 && i < n->n_in && n->in[i] != RQ_NONE ? g->values[n->in[i]].name : NULL;
}

const char *rq_edit_node_out(const rq_graph *g, int node, int i)
{
    const rq_node *n = node_of(g, node);
    return n && i >= 0 && i < n->n_out && n->out[i] != RQ_NONE ? g->values[n->out[i]].name : NULL;
}

int rq_edit_find_node(const rq_graph *g, const char *name)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && !strcmp(g->nodes[i].name, name))
            return i;
    return -1;
}

int rq_edit_producer(const rq_graph *g, const char *value)
{
    rq_id v = value[0] ? rq_graph_find(g, value) : RQ_NONE;
    return v != RQ_NONE && g->values[v].kind == RQ_VALUE_NODE ? g->values[v].producer : -1;
}

rq_status rq_edit_value(const rq_graph *g, const char *name, rq_value_info *out, rq_err *err)
{
    rq_id v;
    RQ_TRY(find(g, name, &v, err));
    *out = (rq_value_info) { .name = g->values[v].name,
                             .dtype = g->values[v].dtype,
                             .shape = g->values[v].shape,
                             .quant = rq_graph_qparams(g, v) };
    return RQ_OK;
}

static rq_status find_constant(const rq_graph *g, const char *name, rq_id *v, rq_err *err)
{
    RQ_TRY(find(g, name, v, err));
    return g->values[*v].constant.dtype != RQ_DTYPE_NONE ? RQ_OK
                                                         : rq_fail(err, RQ_NOT_FOUND, "'%s' is no constant", name);
}

rq_status rq_edit_constant(const rq_graph *g, const char *name, rq_tensor *out, rq_err *err)
{
    rq_id v;
    RQ_TRY(find_constant(g, name, &v, err));
    rq_tensor_share(out, &g->values[v].constant);
    return RQ_OK;
}

const char *rq_edit_meta(const rq_graph *g, const char *key)
{
    for (int i = 0; i < g->n_meta; i++)
        if (!strcmp(g->meta[i].key, key))
            return g->meta[i].value;
    return NULL;
}

/* ---- changing ---- */

rq_status rq_edit_set_constant(rq_graph *g, const char *name, const rq_tensor *t, rq_err *err)
{
    rq_id id;
    RQ_TRY(find_constant(g, name, &id, err));
    RQ_TRY(check_shape(name, t->dtype, &t->shape, err));
    rq_value *v = &g->values[id];
    rq_tensor old = v->constant;
    rq_tensor_share(&v->constant, t);
    rq_tensor_release(&old);
    v->dtype = t->dtype;
    v->shape = t->shape;
    v->quant = RQ_NONE;
    v->extra = NULL; /* how the file held the numbers before */
    return RQ_OK;
}

rq_status rq_edit_replace(rq_graph *g, const char *from, const char *to, rq_err *err)
{
    rq_id a, b;
    RQ_TRY(find(g, from, &a, err));
    RQ_TRY(find(g, to, &b, err));
    rq_graph_replace_uses(g, a, b, g->values[b].kind == RQ_VALUE_NODE ? g->values[b].producer : RQ_NONE);
    return RQ_OK;
}

rq_status rq_edit_set_input(rq_graph *g, int node, int i, const char *value, rq_err *err)
{
    rq_id v = RQ_NONE;
    RQ_TRY(need_node(g, node, err));
    if (value && value[0])
        RQ_TRY(find(g, value, &v, err));
    if (i < 0 || i > g->nodes[node].n_in)
        return rq_fail(err, RQ_NOT_FOUND, "node '%s' has %d inputs, there is no input %d", g->nodes[node].name,
                       g->nodes[node].n_in, i);
    return rq_graph_set_input(g, node, i, v) ? no_memory(err) : RQ_OK;
}

rq_status rq_edit_remove_node(rq_graph *g, int node, rq_err *err)
{
    RQ_TRY(need_node(g, node, err));
    const rq_node *n = &g->nodes[node];
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE && rq_graph_uses(g, n->out[i], NULL, 0) > 0)
            return rq_fail(err, RQ_BAD_GRAPH, "node '%s' (%s) cannot go: its output '%s' is used", n->name, n->op,
                           g->values[n->out[i]].name);
    rq_graph_remove_node(g, node);
    return RQ_OK;
}

rq_status rq_edit_rename(rq_graph *g, const char *value, const char *name, rq_err *err)
{
    rq_id v;
    RQ_TRY(find(g, value, &v, err));
    RQ_TRY(need_name(name, "a value", err));
    return rq_graph_rename(g, v, name, err);
}

rq_status rq_edit_set_quant(rq_graph *g, const char *value, const rq_qparams *q, rq_err *err)
{
    rq_id v, id;
    RQ_TRY(find(g, value, &v, err));
    if (!q) {
        g->values[v].quant = RQ_NONE;
        return RQ_OK;
    }
    const rq_shape *shape = &g->values[v].shape;
    if (rq_shape_is_known(shape))
        RQ_TRY(rq_codes_check(q, shape, err));
    else if (q->axis != RQ_PER_TENSOR)
        return rq_fail(err, RQ_BAD_SHAPE, "'%s' is to be quantized along axis %d, but its shape is not known", value,
                       q->axis);
    rq_qparams mine;
    if (rq_qparams_copy(&mine, q))
        return no_memory(err);
    if (rq_graph_add_quant(g, &id, &mine, "given")) {
        rq_qparams_release(&mine);
        return no_memory(err);
    }
    g->values[v].quant = id;
    return RQ_OK;
}

int rq_edit_prune(rq_graph *g)
{
    return rq_graph_prune(g);
}

rq_status rq_edit_set_meta(rq_graph *g, const char *key, const char *value)
{
    return rq_graph_set_meta(g, key, value);
}

rq_status rq_edit_check(rq_graph *g, rq_err *err)
{
    RQ_TRY(rq_graph_check(g, err));
    rq_ops_bind(g);
    RQ_TRY(rq_ops_check(g, false, err));
    return rq_ops_infer(g, err);
}
