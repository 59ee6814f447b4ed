/* graph/graph.c — making, copying and destroying graphs; values, nodes, names. A graph is arrays, and one
 * arena for every string and small list, so that a copy is a walk over arrays and a destroy frees few blocks. */
#include "graph/graph.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "graph/own.h"
#include "requant/file.h"

/* Open addressing from name to value id; a slot is EMPTY, GONE, or an id whose value has the name. */
typedef struct rq_name_index {
    int32_t *slot;
    uint32_t mask;
    uint32_t used; /* ids and GONE */
} rq_name_index;
enum { SLOT_EMPTY = -1, SLOT_GONE = -2 };

static uint32_t hash_name(const char *s)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 16777619u;
    return h;
}

static void index_put(rq_name_index *x, const rq_graph *g, rq_id id)
{
    uint32_t i = hash_name(g->values[id].name) & x->mask;
    while (x->slot[i] >= 0)
        i = (i + 1) & x->mask;
    x->used += x->slot[i] == SLOT_EMPTY;
    x->slot[i] = id;
}

/* Room for one more name: grow when half full, dropping slots of removed names. */
static rq_status index_reserve(rq_graph *g)
{
    rq_name_index *x = g->index;
    if (x && x->used + 1 <= x->mask / 2)
        return RQ_OK;
    uint32_t size = 64;
    while (size / 4 < (uint32_t)g->n_values + 1)
        size *= 2;
    int32_t *slot = rq_mem_alloc(size, sizeof *slot);
    if (!slot)
        return RQ_NO_MEMORY;
    if (!x) {
        x = rq_mem_zalloc(1, sizeof *x);
        if (!x) {
            rq_mem_free(slot);
            return RQ_NO_MEMORY;
        }
        g->index = x;
    }
    for (uint32_t i = 0; i < size; i++)
        slot[i] = SLOT_EMPTY;
    rq_mem_free(x->slot);
    x->slot = slot;
    x->mask = size - 1;
    x->used = 0;
    for (rq_id v = 0; v < g->n_values; v++)
        if (g->values[v].kind != RQ_VALUE_DEAD && g->values[v].name[0])
            index_put(x, g, v);
    return RQ_OK;
}

static void index_drop(rq_graph *g, rq_id id)
{
    rq_name_index *x = g->index;
    const char *name = g->values[id].name;
    if (!x || !name[0])
        return;
    for (uint32_t i = hash_name(name) & x->mask; x->slot[i] != SLOT_EMPTY; i = (i + 1) & x->mask)
        if (x->slot[i] == id) {
            x->slot[i] = SLOT_GONE;
            return;
        }
}

rq_id rq_graph_find(const rq_graph *g, const char *name)
{
    const rq_name_index *x = g->index;
    if (!x || !name || !name[0])
        return RQ_NONE;
    for (uint32_t i = hash_name(name) & x->mask; x->slot[i] != SLOT_EMPTY; i = (i + 1) & x->mask)
        if (x->slot[i] >= 0 && !strcmp(g->values[x->slot[i]].name, name))
            return x->slot[i];
    return RQ_NONE;
}

const char *rq_graph_strn(rq_graph *g, const char *s, size_t n)
{
    return n ? rq_arena_strndup(&g->names, s, n) : "";
}

const char *rq_graph_str(rq_graph *g, const char *s)
{
    return rq_graph_strn(g, s ? s : "", s ? strlen(s) : 0);
}

rq_status rq_graph_create(rq_graph **out)
{
    rq_graph *g = rq_mem_zalloc(1, sizeof *g);
    if (!g)
        return RQ_NO_MEMORY;
    g->name = g->doc = g->producer = g->producer_version = g->domain = g->format = "";
    *out = g;
    return RQ_OK;
}

static void release_node(rq_node *n)
{
    for (int i = 0; i < n->n_attr; i++)
        rq_attr_release(&n->attr[i]);
    n->n_attr = 0;
    n->op = NULL;
}

void rq_graph_destroy(rq_graph *g)
{
    if (!g)
        return;
    for (int i = 0; i < g->n_nodes; i++)
        release_node(&g->nodes[i]);
    for (int i = 0; i < g->n_values; i++)
        rq_tensor_release(&g->values[i].constant);
    for (int i = 0; i < g->n_quants; i++)
        rq_qparams_release(&g->quants[i].q);
    if (g->extra && g->extra_unref)
        g->extra_unref(g->extra);
    rq_own_unref(&g->own);
    if (g->index)
        rq_mem_free(g->index->slot);
    rq_mem_free(g->index);
    rq_mem_free(g->values);
    rq_mem_free(g->nodes);
    rq_mem_free(g->quants);
    rq_mem_free(g->inputs);
    rq_mem_free(g->outputs);
    rq_mem_free(g->opsets);
    rq_mem_free(g->meta);
    rq_mem_free(g->symbols);
    rq_mem_free(g->symbol_slot);
    rq_arena_release(&g->names);
    rq_mem_free(g);
}

/* ---- values ---- */

rq_status rq_graph_add_value(rq_graph *g, rq_id *id, rq_value_kind kind, const char *name, rq_dtype d,
                             const rq_shape *shape, rq_err *err)
{
    if (name && name[0] && rq_graph_find(g, name) != RQ_NONE)
        return rq_fail(err, RQ_BAD_GRAPH, "value '%s' is defined twice", name);
    const char *kept = rq_graph_str(g, name);
    if (!kept || !rq_mem_grow(&g->values, g->n_values, &g->cap_values, sizeof *g->values) || index_reserve(g))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory adding value '%s'", name ? name : "");
    rq_value *v = &g->values[g->n_values];
    *v = (rq_value) { .name = kept,
                      .kind = kind,
                      .dtype = d,
                      .shape = shape ? *shape : rq_shape_unknown(),
                      .producer = RQ_NONE,
                      .outer = RQ_NONE,
                      .quant = RQ_NONE,
                      .doc = "" };
    *id = g->n_values++;
    if (kept[0])
        index_put(g->index, g, *id);
    return RQ_OK;
}

rq_status rq_graph_add_const(rq_graph *g, rq_id *id, const char *name, const rq_tensor *t, rq_err *err)
{
    RQ_TRY(rq_graph_add_value(g, id, RQ_VALUE_CONST, name, t->dtype, &t->shape, err));
    rq_tensor_share(&g->values[*id].constant, t);
    return RQ_OK;
}

const char *rq_graph_fresh_name(rq_graph *g, const char *base)
{
    if (rq_graph_find(g, base) == RQ_NONE)
        return rq_graph_str(g, base);
    size_t n = strlen(base) + 16;
    char *text = rq_arena_alloc(&g->names, n, 1);
    if (!text)
        return NULL;
    for (int i = 1; i > 0; i++) {
        snprintf(text, n, "%s_%d", base, i);
        if (rq_graph_find(g, text) == RQ_NONE)
            break;
    }
    return text;
}

rq_status rq_graph_rename(rq_graph *g, rq_id value, const char *name, rq_err *err)
{
    if (!strcmp(g->values[value].name, name))
        return RQ_OK;
    if (name[0] && rq_graph_find(g, name) != RQ_NONE)
        return rq_fail(err, RQ_BAD_GRAPH, "value '%s' is defined twice", name);
    const char *kept = rq_graph_str(g, name);
    if (!kept || index_reserve(g))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory renaming '%s'", name);
    index_drop(g, value);
    g->values[value].name = kept;
    if (kept[0])
        index_put(g->index, g, value);
    return RQ_OK;
}

void rq_graph_remove_value(rq_graph *g, rq_id value)
{
    rq_value *v = &g->values[value];
    index_drop(g, value);
    rq_tensor_release(&v->constant);
    v->kind = RQ_VALUE_DEAD;
    v->name = "";
    v->quant = v->producer = RQ_NONE;
}

static rq_graph *outermost(const rq_graph *g)
{
    while (g->outer)
        g = g->outer;
    return (rq_graph *)g;
}

/* Where the symbol of that name stands in the index, or the empty slot where it would. */
static uint32_t symbol_at(const rq_graph *g, const char *name)
{
    uint32_t i = hash_name(name) & g->symbol_mask;
    while (g->symbol_slot[i] >= 0 && strcmp(g->symbols[g->symbol_slot[i]], name) != 0)
        i = (i + 1) & g->symbol_mask;
    return i;
}

/* Room for one more symbol: the index is never more than half full. */
static bool reserve_symbol(rq_graph *g)
{
    if (!rq_mem_grow(&g->symbols, g->n_symbols, &g->cap_symbols, sizeof *g->symbols))
        return false;
    if (g->symbol_slot && (uint32_t)g->n_symbols < g->symbol_mask / 2)
        return true;
    uint32_t size = 16;
    while (size / 4 < (uint32_t)g->n_symbols + 1)
        size *= 2;
    int32_t *slot = rq_mem_alloc(size, sizeof *slot);
    if (!slot)
        return false;
    memset(slot, -1, size * sizeof *slot);
    rq_mem_free(g->symbol_slot);
    g->symbol_slot = slot;
    g->symbol_mask = size - 1;
    for (int i = 0; i < g->n_symbols; i++)
        slot[symbol_at(g, g->symbols[i])] = i;
    return true;
}

int64_t rq_graph_symbol(rq_graph *g, const char *name)
{
    g = outermost(g);
    if (!reserve_symbol(g))
        return RQ_DIM_UNKNOWN;
    uint32_t at = symbol_at(g, name);
    if (g->symbol_slot[at] < 0) {
        const char *kept = rq_graph_str(g, name);
        if (!kept)
            return RQ_DIM_UNKNOWN;
        g->symbols[g->n_symbols] = (char *)kept;
        g->symbol_slot[at] = g->n_symbols++;
    }
    return -2 - (int64_t)g->symbol_slot[at];
}

const char *rq_graph_symbol_name(const rq_graph *g, int64_t dim)
{
    g = outermost(g);
    int64_t i = -2 - dim;
    return i >= 0 && i < g->n_symbols ? g->symbols[i] : "?";
}

/* ---- nodes ---- */

rq_status rq_graph_add_node(rq_graph *g, rq_id *id, const char *op, const char *domain, const char *name,
                            const rq_id *in, int n_in, const rq_id *out, int n_out, rq_err *err)
{
    assert(op && n_in >= 0 && n_out >= 0);
    rq_node n = { .op = rq_graph_str(g, op),
                  .domain = rq_graph_str(g, domain),
                  .name = rq_graph_str(g, name),
                  .overload = "",
                  .n_in = n_in,
                  .n_out = n_out,
                  .cap_in = n_in,
                  .doc = "" };
    n.in = rq_arena_alloc(&g->names, (size_t)n_in, sizeof *n.in);
    n.out = rq_arena_alloc(&g->names, (size_t)n_out, sizeof *n.out);
    if (!n.op || !n.domain || !n.name || !n.in || !n.out ||
        !rq_mem_grow(&g->nodes, g->n_nodes, &g->cap_nodes, sizeof *g->nodes))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory adding node '%s'", name ? name : "");
    for (int i = 0; i < n_in; i++)
        n.in[i] = in[i];
    for (int i = 0; i < n_out; i++) {
        n.out[i] = out[i];
        if (out[i] == RQ_NONE)
            continue;
        rq_value *v = &g->values[out[i]];
        if (v->kind != RQ_VALUE_NODE || v->producer != RQ_NONE)
            return rq_fail(err, RQ_BAD_GRAPH, "value '%s' is defined twice", v->name);
    }
    *id = g->n_nodes++;
    g->nodes[*id] = n;
    for (int i = 0; i < n_out; i++)
        if (out[i] != RQ_NONE)
            g->values[out[i]].producer = *id;
    return RQ_OK;
}

void rq_graph_remove_node(rq_graph *g, rq_id node)
{
    rq_node *n = &g->nodes[node];
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE && g->values[n->out[i]].producer == node)
            rq_graph_remove_value(g, n->out[i]);
    release_node(n);
}

rq_status rq_graph_set_input(rq_graph *g, rq_id node, int i, rq_id value)
{
    rq_node *n = &g->nodes[node];
    if (i >= n->cap_in) {
        int cap = i + 1 > 2 * n->cap_in ? i + 1 : 2 * n->cap_in;
        rq_id *in = rq_arena_alloc(&g->names, (size_t)cap, sizeof *in);
        if (!in)
            return RQ_NO_MEMORY;
        if (n->n_in)
            memcpy(in, n->in, (size_t)n->n_in * sizeof *in);
        n->in = in;
        n->cap_in = cap;
    }
    while (n->n_in <= i)
        n->in[n->n_in++] = RQ_NONE;
    n->in[i] = value;
    return RQ_OK;
}

/* ---- quantization, versions, metadata ---- */

rq_status rq_graph_add_quant(rq_graph *g, rq_id *id, rq_qparams *q, const char *method)
{
    const char *kept = rq_graph_str(g, method);
    if (!kept || !rq_mem_grow(&g->quants, g->n_quants, &g->cap_quants, sizeof *g->quants))
        return RQ_NO_MEMORY;
    g->quants[g->n_quants] = (rq_quant) { .q = *q, .derived_x = RQ_NONE, .derived_w = RQ_NONE, .method = kept };
    *q = (rq_qparams) { 0 };
    *id = g->n_quants++;
    return RQ_OK;
}

static const char *plain_domain(const char *domain)
{
    return !domain || !strcmp(domain, "ai.onnx") ? "" : domain;
}

int64_t rq_graph_opset(const rq_graph *g, const char *domain)
{
    g = outermost(g);
    for (int i = 0; i < g->n_opsets; i++)
        if (!strcmp(plain_domain(g->opsets[i].domain), plain_domain(domain)))
            return g->opsets[i].version;
    return 0;
}

rq_status rq_graph_set_opset(rq_graph *g, const char *domain, int64_t version)
{
    g = outermost(g);
    for (int i = 0; i < g->n_opsets; i++)
        if (!strcmp(plain_domain(g->opsets[i].domain), plain_domain(domain))) {
            g->opsets[i].version = version;
            return RQ_OK;
        }
    const char *kept = rq_graph_str(g, domain);
    if (!kept || !rq_mem_grow(&g->opsets, g->n_opsets, &g->cap_opsets, sizeof *g->opsets))
        return RQ_NO_MEMORY;
    g->opsets[g->n_opsets++] = (rq_opset) { kept, version };
    return RQ_OK;
}

void rq_graph_drop_opset(rq_graph *g, const char *domain)
{
    int n = 0;
    g = outermost(g);
    for (int i = 0; i < g->n_opsets; i++)
        if (strcmp(plain_domain(g->opsets[i].domain), plain_domain(domain)) != 0)
            g->opsets[n++] = g->opsets[i];
    g->n_opsets = n;
}

rq_status rq_graph_set_meta(rq_graph *g, const char *key, const char *value)
{
    const char *v = rq_graph_str(g, value);
    if (!v)
        return RQ_NO_MEMORY;
    for (int i = 0; i < g->n_meta; i++)
        if (!strcmp(g->meta[i].key, key)) {
            g->meta[i].value = v;
            return RQ_OK;
        }
    const char *k = rq_graph_str(g, key);
    if (!k || !rq_mem_grow(&g->meta, g->n_meta, &g->cap_meta, sizeof *g->meta))
        return RQ_NO_MEMORY;
    g->meta[g->n_meta++] = (rq_pair) { k, v };
    return RQ_OK;
}

/* ---- what users see ---- */

int rq_graph_n_inputs(const rq_graph *g)
{
    return g->n_inputs;
}

int rq_graph_n_outputs(const rq_graph *g)
{
    return g->n_outputs;
}

static rq_value_info info_of(const rq_graph *g, rq_id id)
{
    const rq_value *v = &g->values[id];
    return (rq_value_info) { v->name, v->dtype, v->shape, rq_graph_qparams(g, id) };
}

rq_value_info rq_graph_input(const rq_graph *g, int i)
{
    assert(i >= 0 && i < g->n_inputs);
    return info_of(g, g->inputs[i]);
}

rq_value_info rq_graph_output(const rq_graph *g, int i)
{
    assert(i >= 0 && i < g->n_outputs);
    return info_of(g, g->outputs[i]);
}

const char *rq_graph_dim_name(const rq_graph *g, int64_t dim)
{
    return rq_graph_symbol_name(g, dim);
}

void rq_free(void *p)
{
    rq_mem_free(p);
}

bool rq_graph_reads(const rq_graph *g, const char *path)
{
    for (int i = 0; i < g->n_files; i++)
        if (rq_file_same(g->files[i], path))
            return true;
    return false;
}
