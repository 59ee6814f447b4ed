/* fold/if.c — an If whose condition is known becomes the branch that is taken. Exporters write one around every
 * squeeze of an axis that may or may not be 1; once sizes are known, so is the answer. */
#include <string.h>

#include "fold/fold.h"
#include "ops/op.h"
#include "ops/rewrite.h"

/* The branch that a constant condition takes, or NULL. */
static const rq_graph *taken(const rq_graph *g, const rq_node *n)
{
    if (!rq_rewrite_is(n, "If") || n->n_in != 1 || n->in[0] == RQ_NONE)
        return NULL;
    const rq_value *c = &g->values[n->in[0]];
    if (c->kind != RQ_VALUE_CONST || c->constant.dtype != RQ_DTYPE_BOOL || rq_tensor_count(&c->constant) != 1)
        return NULL;
    const rq_graph *b =
        rq_attr_graph(n, rq_tensor_get_int(&c->constant, 0) ? RQ_WORD_then_branch : RQ_WORD_else_branch);
    return b && b->n_inputs == 0 && b->n_outputs == n->n_out ? b : NULL;
}

/* Every value of the branch as a value of g: map[id in b] = id in g. */
static rq_status move_values(rq_graph *g, const rq_graph *b, rq_id *map, rq_err *err)
{
    for (rq_id v = 0; v < b->n_values; v++) {
        const rq_value *x = &b->values[v];
        map[v] = RQ_NONE;
        if (x->kind == RQ_VALUE_DEAD)
            continue;
        if (x->kind == RQ_VALUE_CAPTURED) {
            map[v] = x->outer;
            continue;
        }
        const char *name = rq_rewrite_name(g, x->name, "");
        if (!name)
            return RQ_NO_MEMORY;
        if (x->kind == RQ_VALUE_CONST)
            RQ_TRY(rq_graph_add_const(g, &map[v], name, &x->constant, err));
        else
            RQ_TRY(rq_graph_add_value(g, &map[v], RQ_VALUE_NODE, name, x->dtype, &x->shape, err));
    }
    return RQ_OK;
}

/* Subgraphs of the copied node still name values of the branch. */
static void recapture(rq_node *n, const rq_id *map)
{
    for (int a = 0; a < n->n_attr; a++) {
        const rq_attr *at = &n->attr[a];
        for (int k = 0; k < rq_attr_bodies(at); k++)
            for (rq_id v = 0; v < at->g[k]->n_values; v++)
                if (at->g[k]->values[v].kind == RQ_VALUE_CAPTURED)
                    at->g[k]->values[v].outer = map[at->g[k]->values[v].outer];
    }
}

static rq_status move_node(rq_graph *g, const rq_node *n, const rq_id *map, rq_err *err)
{
    rq_id *in = rq_arena_alloc(&g->names, (size_t)n->n_in, sizeof *in),
          *out = rq_arena_alloc(&g->names, (size_t)n->n_out, sizeof *out), id;
    if (!in || !out)
        return RQ_NO_MEMORY;
    for (int i = 0; i < n->n_in; i++)
        in[i] = n->in[i] == RQ_NONE ? RQ_NONE : map[n->in[i]];
    for (int i = 0; i < n->n_out; i++)
        out[i] = n->out[i] == RQ_NONE ? RQ_NONE : map[n->out[i]];
    RQ_TRY(rq_graph_add_node(g, &id, n->op, n->domain, n->name, in, n->n_in, out, n->n_out, err));
    for (int a = 0; a < n->n_attr; a++)
        RQ_TRY(rq_attr_copy(g, id, &n->attr[a]));
    recapture(&g->nodes[id], map);
    return RQ_OK;
}

/* The If's outputs become copies of the branch's; rq_fold_copies takes these away. */
static rq_status hand_over(rq_graph *g, rq_id node, const rq_graph *b, const rq_id *map, rq_err *err)
{
    for (int k = 0; k < b->n_outputs; k++) {
        rq_id y = g->nodes[node].out[k], made = map[b->outputs[k]];
        if (y == RQ_NONE)
            continue;
        g->nodes[node].out[k] = RQ_NONE;
        g->values[y].producer = RQ_NONE;
        RQ_TRY(rq_rewrite_produce(g, "Identity", "_Identity", &made, 1, y, NULL, err));
    }
    rq_graph_remove_node(g, node); /* and the branches with it */
    return RQ_OK;
}

rq_status rq_fold_branches(rq_graph *g, int *n, rq_err *err)
{
    for (rq_id i = 0, count = g->n_nodes; i < count; i++) {
        const rq_graph *b = g->nodes[i].op ? taken(g, &g->nodes[i]) : NULL;
        if (!b)
            continue;
        rq_id *map = rq_mem_alloc((size_t)b->n_values + 1, sizeof *map);
        rq_status st = map ? move_values(g, b, map, err) : RQ_NO_MEMORY;
        for (int k = 0; k < b->n_nodes && !st; k++)
            if (b->nodes[k].op)
                st = move_node(g, &b->nodes[k], map, err);
        if (!st)
            st = hand_over(g, i, b, map, err);
        rq_mem_free(map);
        if (st)
            return st == RQ_NO_MEMORY ? rq_fail(err, st, "out of memory taking a branch of an If") : st;
        if (n)
            ++*n;
    }
    return RQ_OK;
}
