/* graph/edit.c — who uses a value, making others use another, and dropping what nobody uses. Uses are found
 * by walking the nodes: edits need no bookkeeping, and passes that ask often take rq_graph_use_counts. */
#include <string.h>

#include "graph/graph.h"

/* Every value that the subgraphs in the attributes of node capture from its own graph. Deeper subgraphs
 * capture through the captured values of the ones around them. */
void rq_graph_each_capture(const rq_graph *g, const rq_node *node, rq_capture_fn fn, void *arg)
{
    (void)g;
    for (int i = 0; i < node->n_attr; i++) {
        const rq_attr *a = &node->attr[i];
        for (int k = 0; k < rq_attr_bodies(a); k++)
            for (int v = 0; v < a->g[k]->n_values; v++)
                if (a->g[k]->values[v].kind == RQ_VALUE_CAPTURED)
                    fn(arg, a->g[k]->values[v].outer);
    }
}

static void count_one(void *arg, rq_id v)
{
    int32_t *count = arg;
    if (v >= 0)
        count[v]++;
}

int32_t *rq_graph_use_counts(const rq_graph *g)
{
    int32_t *count = rq_mem_zalloc((size_t)g->n_values + 1, sizeof *count);
    if (!count)
        return NULL;
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        for (int k = 0; k < n->n_in; k++)
            count_one(count, n->in[k]);
        rq_graph_each_capture(g, n, count_one, count);
    }
    for (int i = 0; i < g->n_outputs; i++)
        count_one(count, g->outputs[i]);
    return count;
}

bool rq_graph_is_output(const rq_graph *g, rq_id value)
{
    for (int i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == value)
            return true;
    return false;
}

typedef struct use_search {
    rq_id value;
    int found;
} use_search;

static void match_one(void *arg, rq_id v)
{
    use_search *s = arg;
    s->found += v == s->value;
}

int rq_graph_uses(const rq_graph *g, rq_id value, rq_id *users, int cap)
{
    int n_uses = 0, listed = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        use_search s = { value, 0 };
        for (int k = 0; k < n->n_in; k++)
            s.found += n->in[k] == value;
        rq_graph_each_capture(g, n, match_one, &s);
        for (int k = 0; k < s.found; k++)
            if (users && listed < cap)
                users[listed++] = i;
        n_uses += s.found;
    }
    for (int i = 0; i < g->n_outputs; i++)
        n_uses += g->outputs[i] == value;
    return n_uses;
}

void rq_graph_replace_uses(rq_graph *g, rq_id from, rq_id to, rq_id except)
{
    for (int i = 0; i < g->n_nodes; i++) {
        rq_node *n = &g->nodes[i];
        if (!n->op || i == except)
            continue;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] == from)
                n->in[k] = to;
        for (int a = 0; a < n->n_attr; a++) {
            rq_attr *at = &n->attr[a];
            for (int k = 0; k < rq_attr_bodies(at); k++)
                for (int v = 0; v < at->g[k]->n_values; v++)
                    if (at->g[k]->values[v].kind == RQ_VALUE_CAPTURED && at->g[k]->values[v].outer == from)
                        at->g[k]->values[v].outer = to;
        }
    }
    for (int i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == from)
            g->outputs[i] = to;
}

static void uncount_one(void *arg, rq_id v)
{
    int32_t *count = arg;
    if (v >= 0)
        count[v]--;
}

int rq_graph_prune(rq_graph *g)
{
    int gone = 0;
    int32_t *count = rq_graph_use_counts(g);
    if (!count)
        return 0;
    for (bool again = true; again;) {
        again = false;
        for (int i = g->n_nodes - 1; i >= 0; i--) { /* backwards: users mostly stand after makers */
            rq_node *n = &g->nodes[i];
            bool used = !n->op;
            for (int k = 0; k < n->n_out && !used; k++)
                used = n->out[k] != RQ_NONE && count[n->out[k]] > 0;
            if (used)
                continue;
            for (int k = 0; k < n->n_in; k++)
                uncount_one(count, n->in[k]);
            rq_graph_each_capture(g, n, uncount_one, count);
            rq_graph_remove_node(g, i);
            gone++;
            again = true;
        }
    }
    for (int i = 0; i < g->n_values; i++)
        if (g->values[i].kind == RQ_VALUE_CONST && !count[i])
            rq_graph_remove_value(g, i);
    rq_mem_free(count);
    return gone;
}
