/* graph/order.c — a topological order of the live nodes: Kahn's algorithm with a heap of node ids, so that among
 * nodes that are ready the one that stands first in the file comes first, and a sorted file keeps its order. */
#include <stdio.h>
#include <string.h>

#include "graph/graph.h"

typedef struct heap {
    int32_t *id;
    int n;
} heap;

static void heap_push(heap *h, int32_t id)
{
    int i = h->n++;
    for (; i > 0 && h->id[(i - 1) / 2] > id; i = (i - 1) / 2)
        h->id[i] = h->id[(i - 1) / 2];
    h->id[i] = id;
}

static int32_t heap_pop(heap *h)
{
    int32_t top = h->id[0], last = h->id[--h->n];
    int i = 0;
    for (;;) {
        int c = 2 * i + 1;
        if (c >= h->n)
            break;
        if (c + 1 < h->n && h->id[c + 1] < h->id[c])
            c++;
        if (h->id[c] >= last)
            break;
        h->id[i] = h->id[c];
        i = c;
    }
    h->id[i] = last;
    return top;
}

/* Edges as lists: edge e leads to node to[e]; the edges of maker m start at first[m] and go on by next[e]. */
typedef struct edges {
    const rq_graph *g;
    int32_t *first, *next, *to, *waits; /* waits[node]: makers not done yet */
    int n, cap;
    int32_t node;
    bool failed;
} edges;

static void add_edge(void *arg, rq_id v)
{
    edges *e = arg;
    if (v < 0 || e->failed)
        return;
    rq_id maker = e->g->values[v].kind == RQ_VALUE_NODE ? e->g->values[v].producer : RQ_NONE;
    if (maker < 0)
        return;
    int cap_to = e->cap;
    if (!rq_mem_grow(&e->next, e->n, &e->cap, sizeof *e->next) || !rq_mem_grow(&e->to, e->n, &cap_to, sizeof *e->to)) {
        e->failed = true;
        return;
    }
    e->to[e->n] = e->node;
    e->next[e->n] = e->first[maker];
    e->first[maker] = e->n++;
    e->waits[e->node]++;
}

rq_status rq_order(const rq_graph *g, rq_id **order, int *n, rq_err *err)
{
    size_t count = (size_t)g->n_nodes + 1;
    rq_status st = RQ_NO_MEMORY;
    edges e = { .g = g };
    heap h = { 0 };
    rq_id *done = rq_mem_alloc(count, sizeof *done);
    e.first = rq_mem_alloc(count, sizeof *e.first);
    e.waits = rq_mem_zalloc(count, sizeof *e.waits);
    h.id = rq_mem_alloc(count, sizeof *h.id);
    int live = 0, n_done = 0;
    if (!done || !e.first || !e.waits || !h.id)
        goto out;
    memset(e.first, -1, count * sizeof *e.first);
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *node = &g->nodes[i];
        if (!node->op)
            continue;
        live++;
        e.node = i;
        for (int k = 0; k < node->n_in; k++)
            add_edge(&e, node->in[k]);
        rq_graph_each_capture(g, node, add_edge, &e);
    }
    if (e.failed)
        goto out;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && !e.waits[i])
            heap_push(&h, i);
    while (h.n) {
        int32_t node = heap_pop(&h);
        done[n_done++] = node;
        for (int32_t k = e.first[node]; k >= 0; k = e.next[k])
            if (--e.waits[e.to[k]] == 0)
                heap_push(&h, e.to[k]);
    }
    if (n_done < live) {
        int i = 0;
        while (!g->nodes[i].op || !e.waits[i])
            i++;
        st = rq_fail(err, RQ_BAD_GRAPH, "node '%s' (%s) is part of a cycle or waits for one", g->nodes[i].name,
                     g->nodes[i].op);
        goto out;
    }
    *order = done;
    *n = n_done;
    done = NULL;
    st = RQ_OK;
out:
    rq_mem_free(done);
    rq_mem_free(e.first);
    rq_mem_free(e.next);
    rq_mem_free(e.to);
    rq_mem_free(e.waits);
    rq_mem_free(h.id);
    return st == RQ_NO_MEMORY ? rq_fail(err, st, "out of memory ordering the graph") : st;
}
