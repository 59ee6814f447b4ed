/* graph/attr.c — attributes of nodes: found by the word that names them, read with a fallback, set or replaced by name. A node has few,
 * so a walk finds them. */
#include <string.h>

#include "graph/graph.h"

const rq_attr *rq_attr_find(const rq_node *n, rq_word name)
{
    for (int i = 0; i < n->n_attr; i++)
        if (n->attr[i].word == name)
            return &n->attr[i];
    return NULL;
}

const rq_attr *rq_attr_named(const rq_node *n, const char *name)
{
    for (int i = 0; i < n->n_attr; i++)
        if (!strcmp(n->attr[i].name, name))
            return &n->attr[i];
    return NULL;
}

static bool is(const rq_attr *a, rq_attr_type type)
{
    return a && a->type == type;
}

int64_t rq_attr_as_int(const rq_attr *a, int64_t fallback)
{
    return is(a, RQ_ATTR_INT) ? a->i : fallback;
}

float rq_attr_as_float(const rq_attr *a, float fallback)
{
    return is(a, RQ_ATTR_FLOAT) ? a->f : fallback;
}

const char *rq_attr_as_string(const rq_attr *a, const char *fallback)
{
    return is(a, RQ_ATTR_STRING) ? a->s.p : fallback;
}

const int64_t *rq_attr_as_ints(const rq_attr *a, int *count)
{
    *count = is(a, RQ_ATTR_INTS) ? a->n : 0;
    return is(a, RQ_ATTR_INTS) ? a->ints : NULL;
}

const float *rq_attr_as_floats(const rq_attr *a, int *count)
{
    *count = is(a, RQ_ATTR_FLOATS) ? a->n : 0;
    return is(a, RQ_ATTR_FLOATS) ? a->floats : NULL;
}

const rq_tensor *rq_attr_as_tensor(const rq_attr *a)
{
    return is(a, RQ_ATTR_TENSOR) ? &a->t[0] : NULL;
}

int64_t rq_attr_int(const rq_node *n, rq_word name, int64_t fallback)
{
    return rq_attr_as_int(rq_attr_find(n, name), fallback);
}

float rq_attr_float(const rq_node *n, rq_word name, float fallback)
{
    return rq_attr_as_float(rq_attr_find(n, name), fallback);
}

const char *rq_attr_string(const rq_node *n, rq_word name, const char *fallback)
{
    return rq_attr_as_string(rq_attr_find(n, name), fallback);
}

rq_word rq_attr_word(const rq_node *n, rq_word name, rq_word fallback)
{
    const rq_attr *a = rq_attr_find(n, name);
    return is(a, RQ_ATTR_STRING) ? a->s.word : fallback;
}

const int64_t *rq_attr_ints(const rq_node *n, rq_word name, int *count)
{
    return rq_attr_as_ints(rq_attr_find(n, name), count);
}

const float *rq_attr_floats(const rq_node *n, rq_word name, int *count)
{
    return rq_attr_as_floats(rq_attr_find(n, name), count);
}

const rq_tensor *rq_attr_tensor(const rq_node *n, rq_word name)
{
    return rq_attr_as_tensor(rq_attr_find(n, name));
}

rq_graph *rq_attr_graph(const rq_node *n, rq_word name)
{
    const rq_attr *a = rq_attr_find(n, name);
    return is(a, RQ_ATTR_GRAPH) ? a->g[0] : NULL;
}

bool rq_attr_any_body(const rq_node *n)
{
    for (int i = 0; i < n->n_attr; i++)
        if (n->attr[i].type == RQ_ATTR_GRAPH || n->attr[i].type == RQ_ATTR_GRAPHS)
            return true;
    return false;
}

void rq_attr_release(rq_attr *a)
{
    if (a->type == RQ_ATTR_TENSOR || a->type == RQ_ATTR_TENSORS)
        for (int i = 0; a->t && i < a->n; i++)
            rq_tensor_release(&a->t[i]);
    for (int i = 0, n = rq_attr_bodies(a); a->g && i < n; i++)
        rq_graph_destroy(a->g[i]);
    a->type = RQ_ATTR_NONE;
}

rq_attr *rq_attr_add(rq_graph *g, rq_id node, const char *name, rq_attr_type type)
{
    rq_node *n = &g->nodes[node];
    if (n->n_attr == n->cap_attr) {
        int cap = n->cap_attr ? 2 * n->cap_attr : 4;
        rq_attr *more = rq_arena_alloc(&g->names, (size_t)cap, sizeof *more);
        if (!more)
            return NULL;
        if (n->n_attr)
            memcpy(more, n->attr, (size_t)n->n_attr * sizeof *more);
        n->attr = more;
        n->cap_attr = cap;
    }
    const char *kept = rq_graph_str(g, name);
    if (!kept)
        return NULL;
    rq_attr *a = &n->attr[n->n_attr++];
    *a = (rq_attr) { .name = kept, .word = rq_word_of(kept), .type = type, .n = 1, .doc = "" };
    return a;
}

void rq_attr_remove(rq_graph *g, rq_id node, const char *name)
{
    rq_node *n = &g->nodes[node];
    for (int i = 0; i < n->n_attr; i++)
        if (!strcmp(n->attr[i].name, name)) {
            rq_attr_release(&n->attr[i]);
            memmove(&n->attr[i], &n->attr[i + 1], (size_t)(n->n_attr - i - 1) * sizeof *n->attr);
            n->n_attr--;
            return;
        }
}

/* Room for the attribute, emptied if it was there; its value is set by the caller. */
static rq_attr *renew(rq_graph *g, rq_id node, const char *name, rq_attr_type type)
{
    rq_node *n = &g->nodes[node];
    for (int i = 0; i < n->n_attr; i++)
        if (!strcmp(n->attr[i].name, name)) {
            rq_attr *a = &n->attr[i];
            rq_attr_release(a);
            *a = (rq_attr) { .name = a->name, .word = a->word, .type = type, .n = 1, .doc = a->doc };
            return a;
        }
    return rq_attr_add(g, node, name, type);
}

rq_status rq_attr_set_int(rq_graph *g, rq_id node, const char *name, int64_t v)
{
    rq_attr *a = renew(g, node, name, RQ_ATTR_INT);
    if (!a)
        return RQ_NO_MEMORY;
    a->i = v;
    return RQ_OK;
}

rq_status rq_attr_set_float(rq_graph *g, rq_id node, const char *name, float v)
{
    rq_attr *a = renew(g, node, name, RQ_ATTR_FLOAT);
    if (!a)
        return RQ_NO_MEMORY;
    a->f = v;
    return RQ_OK;
}

rq_status rq_attr_set_ints(rq_graph *g, rq_id node, const char *name, const int64_t *v, int n)
{
    int64_t *ints = rq_arena_alloc(&g->names, (size_t)n, sizeof *ints);
    if (!ints)
        return RQ_NO_MEMORY;
    if (n)
        memcpy(ints, v, (size_t)n * sizeof *ints); /* before renew: v may be the old list */
    rq_attr *a = renew(g, node, name, RQ_ATTR_INTS);
    if (!a)
        return RQ_NO_MEMORY;
    a->ints = ints;
    a->n = n;
    return RQ_OK;
}

rq_status rq_attr_set_string(rq_graph *g, rq_id node, const char *name, const char *v)
{
    const char *kept = rq_graph_str(g, v);
    if (!kept)
        return RQ_NO_MEMORY;
    rq_attr *a = renew(g, node, name, RQ_ATTR_STRING);
    if (!a)
        return RQ_NO_MEMORY;
    a->s = rq_bytes_of(kept, strlen(kept));
    return RQ_OK;
}

rq_status rq_attr_set_tensor(rq_graph *g, rq_id node, const char *name, const rq_tensor *t)
{
    rq_tensor *kept = rq_arena_alloc(&g->names, 1, sizeof *kept);
    if (!kept)
        return RQ_NO_MEMORY;
    rq_tensor_share(kept, t);
    rq_attr *a = renew(g, node, name, RQ_ATTR_TENSOR);
    if (!a) {
        rq_tensor_release(kept);
        return RQ_NO_MEMORY;
    }
    a->t = kept;
    return RQ_OK;
}
