/* graph/copy.c — a deep copy of a graph: arrays duplicated, strings and lists into the copy's arena,
 * constants shared. Ids stay the same, dead slots included. */
#include <string.h>

#include "graph/graph.h"
#include "graph/own.h"

/* A copy of n entries in the arena of g; ok stays false once memory was out. */
static void *dup_list(rq_graph *g, const void *list, int n, size_t size, bool *ok)
{
    void *p = rq_arena_alloc(&g->names, (size_t)n, size);
    if (!p)
        *ok = false;
    else if (n)
        memcpy(p, list, (size_t)n * size);
    return p;
}

static const char *dup_str(rq_graph *g, const char *s, bool *ok)
{
    if (!s)
        return NULL;
    const char *p = rq_graph_str(g, s);
    if (!p)
        *ok = false;
    return p ? p : "";
}

static rq_status copy_into(rq_graph *g, const rq_graph *src, rq_graph *outer);

static rq_bytes dup_bytes(rq_graph *g, rq_bytes b, bool *ok)
{
    char *p = rq_arena_alloc(&g->names, b.n + 1, 1);
    if (!p) {
        *ok = false;
        return rq_bytes_of("", 0);
    }
    if (b.n)
        memcpy(p, b.p, b.n);
    return (rq_bytes) { p, b.n, b.word };
}

static rq_status copy_attr(rq_graph *g, rq_attr *dst, const rq_attr *src)
{
    bool ok = true;
    rq_attr a = { .name = dup_str(g, src->name, &ok),
                  .word = src->word,
                  .n = src->n,
                  .ref = dup_str(g, src->ref, &ok),
                  .doc = dup_str(g, src->doc, &ok),
                  .extra = src->extra };
    switch (src->type) {
    case RQ_ATTR_NONE:
    case RQ_ATTR_OPAQUE:
        break;
    case RQ_ATTR_FLOAT:
        a.f = src->f;
        break;
    case RQ_ATTR_INT:
        a.i = src->i;
        break;
    case RQ_ATTR_STRING:
        a.s = dup_bytes(g, src->s, &ok);
        break;
    case RQ_ATTR_FLOATS:
        a.floats = dup_list(g, src->floats, src->n, sizeof *src->floats, &ok);
        break;
    case RQ_ATTR_INTS:
        a.ints = dup_list(g, src->ints, src->n, sizeof *src->ints, &ok);
        break;
    case RQ_ATTR_STRINGS:
        a.strings = dup_list(g, src->strings, src->n, sizeof *src->strings, &ok);
        for (int i = 0; ok && i < src->n; i++)
            a.strings[i] = dup_bytes(g, src->strings[i], &ok);
        break;
    case RQ_ATTR_TENSOR:
    case RQ_ATTR_TENSORS:
        a.t = dup_list(g, src->t, src->n, sizeof *src->t, &ok);
        for (int i = 0; ok && i < src->n; i++)
            rq_tensor_share(&a.t[i], &src->t[i]);
        break;
    case RQ_ATTR_GRAPH:
    case RQ_ATTR_GRAPHS:
        a.g = rq_arena_alloc(&g->names, (size_t)src->n, sizeof *a.g);
        if (!a.g)
            return RQ_NO_MEMORY;
        a.type = src->type;
        *dst = a; /* owned by the node from here on, so that a failure below frees it */
        for (int i = 0; i < src->n; i++) {
            RQ_TRY(rq_graph_create(&a.g[i]));
            RQ_TRY(copy_into(a.g[i], src->g[i], g));
        }
        break;
    }
    if (!ok)
        return RQ_NO_MEMORY;
    a.type = src->type;
    *dst = a;
    return RQ_OK;
}

rq_status rq_attr_copy(rq_graph *g, rq_id node, const rq_attr *src)
{
    rq_attr *a = rq_attr_add(g, node, src->name, RQ_ATTR_NONE);
    return a ? copy_attr(g, a, src) : RQ_NO_MEMORY;
}

static rq_status copy_node(rq_graph *g, rq_node *dst, const rq_node *src)
{
    bool ok = true;
    *dst =
        (rq_node) { .row = src->row, .n_in = src->n_in, .cap_in = src->n_in, .n_out = src->n_out, .extra = src->extra };
    if (!src->op)
        return RQ_OK;
    dst->name = dup_str(g, src->name, &ok);
    dst->domain = dup_str(g, src->domain, &ok);
    dst->overload = dup_str(g, src->overload, &ok);
    dst->doc = dup_str(g, src->doc, &ok);
    dst->in = dup_list(g, src->in, src->n_in, sizeof *src->in, &ok);
    dst->out = dup_list(g, src->out, src->n_out, sizeof *src->out, &ok);
    dst->attr = rq_arena_alloc(&g->names, (size_t)src->n_attr, sizeof *dst->attr);
    if (!ok || !dst->attr)
        return RQ_NO_MEMORY;
    dst->cap_attr = src->n_attr;
    dst->op = dup_str(g, src->op, &ok);
    for (int i = 0; i < src->n_attr; i++) {
        dst->n_attr = i + 1;
        RQ_TRY(copy_attr(g, &dst->attr[i], &src->attr[i]));
    }
    return ok ? RQ_OK : RQ_NO_MEMORY;
}

static void *dup_array(const void *list, int n, size_t size, int *cap, bool *ok)
{
    if (!n) {
        *cap = 0;
        return NULL;
    }
    void *p = rq_mem_alloc((size_t)n, size);
    if (p) {
        memcpy(p, list, (size_t)n * size);
        *cap = n;
    } else {
        *cap = 0;
        *ok = false;
    }
    return p;
}

static rq_status copy_values(rq_graph *g, const rq_graph *src)
{
    bool ok = true;
    for (int i = 0; i < src->n_values; i++) {
        const rq_value *v = &src->values[i];
        rq_id id;
        RQ_TRY(rq_graph_add_value(g, &id, v->kind, v->name, v->dtype, &v->shape, NULL));
        rq_value *w = &g->values[id];
        w->producer = v->producer;
        w->outer = v->outer;
        w->quant = v->quant;
        w->pixels = v->pixels;
        w->extra = v->extra;
        rq_tensor_share(&w->constant, &v->constant);
        w->doc = dup_str(g, v->doc, &ok);
    }
    return ok ? RQ_OK : RQ_NO_MEMORY;
}

static rq_status copy_quants(rq_graph *g, const rq_graph *src)
{
    bool ok = true;
    for (int i = 0; i < src->n_quants; i++) {
        const rq_quant *q = &src->quants[i];
        rq_qparams p;
        rq_id id;
        RQ_TRY(rq_qparams_copy(&p, &q->q));
        rq_status st = rq_graph_add_quant(g, &id, &p, q->method);
        rq_qparams_release(&p);
        RQ_TRY(st);
        g->quants[id].pair = q->pair;
        g->quants[id].dedicated = q->dedicated;
        g->quants[id].derived_x = q->derived_x;
        g->quants[id].derived_w = q->derived_w;
        g->quants[id].scale_name = dup_str(g, q->scale_name, &ok);
        g->quants[id].zero_point_name = dup_str(g, q->zero_point_name, &ok);
    }
    return ok ? RQ_OK : RQ_NO_MEMORY;
}

static rq_status copy_into(rq_graph *g, const rq_graph *src, rq_graph *outer)
{
    bool ok = true;
    g->outer = outer;
    g->name = dup_str(g, src->name, &ok);
    g->doc = dup_str(g, src->doc, &ok);
    g->producer = dup_str(g, src->producer, &ok);
    g->producer_version = dup_str(g, src->producer_version, &ok);
    g->domain = dup_str(g, src->domain, &ok);
    g->format = dup_str(g, src->format, &ok);
    g->ir_version = src->ir_version;
    g->real = src->real;
    g->model_version = src->model_version;
    for (int i = 0; i < src->n_opsets && ok; i++) {
        if (!rq_mem_grow(&g->opsets, g->n_opsets, &g->cap_opsets, sizeof *g->opsets))
            return RQ_NO_MEMORY;
        g->opsets[g->n_opsets++] = (rq_opset) { dup_str(g, src->opsets[i].domain, &ok), src->opsets[i].version };
    }
    for (int i = 0; i < src->n_meta && ok; i++) {
        if (!rq_mem_grow(&g->meta, g->n_meta, &g->cap_meta, sizeof *g->meta))
            return RQ_NO_MEMORY;
        g->meta[g->n_meta++] = (rq_pair) { dup_str(g, src->meta[i].key, &ok), dup_str(g, src->meta[i].value, &ok) };
    }
    for (int i = 0; i < src->n_symbols; i++) /* in order, so that they get the same numbers */
        if (rq_graph_symbol(g, src->symbols[i]) == RQ_DIM_UNKNOWN)
            return RQ_NO_MEMORY;
    if (!ok)
        return RQ_NO_MEMORY;
    RQ_TRY(copy_values(g, src));
    RQ_TRY(copy_quants(g, src));
    g->inputs = dup_array(src->inputs, src->n_inputs, sizeof *src->inputs, &g->cap_inputs, &ok);
    g->outputs = dup_array(src->outputs, src->n_outputs, sizeof *src->outputs, &g->cap_outputs, &ok);
    if (!ok)
        return RQ_NO_MEMORY;
    g->n_inputs = src->n_inputs;
    g->n_outputs = src->n_outputs;
    for (int i = 0; i < src->n_nodes; i++) {
        if (!rq_mem_grow(&g->nodes, g->n_nodes, &g->cap_nodes, sizeof *g->nodes))
            return RQ_NO_MEMORY;
        g->n_nodes = i + 1;
        RQ_TRY(copy_node(g, &g->nodes[i], &src->nodes[i]));
    }
    g->own = rq_own_ref(src->own);
    g->extra_ref = src->extra_ref;
    g->extra_unref = src->extra_unref;
    g->extra = src->extra;
    if (g->extra && g->extra_ref)
        g->extra_ref(g->extra);
    return RQ_OK;
}

rq_status rq_graph_copy(rq_graph **out, const rq_graph *src)
{
    rq_graph *g;
    RQ_TRY(rq_graph_create(&g));
    rq_status st = copy_into(g, src, src->outer);
    if (st) {
        rq_graph_destroy(g);
        return st;
    }
    *out = g;
    return RQ_OK;
}

/* Subgraphs point at the graph around them, which has moved. */
static void adopt(rq_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        for (int a = 0; a < g->nodes[i].n_attr; a++) {
            const rq_attr *at = &g->nodes[i].attr[a];
            for (int k = 0; k < rq_attr_bodies(at); k++)
                at->g[k]->outer = g;
        }
}

void rq_graph_swap(rq_graph *a, rq_graph *b)
{
    rq_graph t = *a;
    *a = *b;
    *b = t;
    adopt(a);
    adopt(b);
}
