/* algo/linear_quantizer_sign.c — in symmetric mode, which fake-quantizers become affine because nothing below zero ever comes there: then all of
 * the codes serve what is above (docs/coreml-facts.md 4). It follows from operators, never from data. One is affine where everything that
 * it stands behind is non-negative: assumed of all at first, and taken back until nothing changes. */
#include "algo/linear_quantizer.h"

#include <string.h>

#include "graph/query.h"

/* Is operand `in` of the group's root without negative numbers? */
static bool operand_is_positive(const rq_lq_plan *p, const rq_graph *g, const bool *positive, rq_id node, int in)
{
    const rq_id v = g->nodes[node].in[in];
    const int place = rq_lq_place_read(p, node, in);
    if (place >= 0)
        return positive[p->places[place].object];
    return rq_graph_is_const(g, v) && rq_tensor_count(&g->values[v].constant) == 1 &&
           rq_tensor_get(&g->values[v].constant, 0) >= 0;
}

/* Does what comes to the place never fall below zero, if the objects marked positive do not? */
static bool source_is_positive(const rq_lq_plan *p, const rq_graph *g, const bool *positive, const rq_lq_place *at)
{
    if (at->producer < 0)
        return g->values[at->value].kind == RQ_VALUE_NODE && p->positive[g->values[at->value].producer];
    const rq_lq_group *gr = &p->groups[at->producer];
    const rq_node *n = &g->nodes[gr->root];
    if (gr->kind == RQ_LQ_SHARE) { /* a Concat may have given it another object than its input has */
        bool all = true;
        for (int i = 0; i < n->n_in; i++) {
            const int before = rq_lq_place_read(p, gr->root, i);
            all &= before < 0 || positive[p->places[before].object];
        }
        return all;
    }
    if (gr->kind == RQ_LQ_DROPOUT) {
        rq_id x = n->in[0];
        for (int depth = 0; depth < 64; depth++) { /* and dropouts before it */
            const int before = rq_lq_place_behind(p, x);
            if (before >= 0)
                return positive[p->places[before].object];
            const int maker = g->values[x].kind == RQ_VALUE_NODE ? p->group_of[g->values[x].producer] : -1;
            if (maker < 0 || p->groups[maker].kind != RQ_LQ_DROPOUT)
                return g->values[x].kind == RQ_VALUE_NODE && p->positive[g->values[x].producer];
            x = g->nodes[p->groups[maker].root].in[0];
        }
        return false;
    }
    if (gr->range != RQ_LQ_ANY)
        return gr->range != RQ_LQ_TANH;
    if (gr->kind != RQ_LQ_PAIR || gr->act != RQ_NONE || !(rq_node_is(n, "Add") || rq_node_is(n, "Mul")))
        return false;
    return operand_is_positive(p, g, positive, gr->root, 0) && operand_is_positive(p, g, positive, gr->root, 1);
}

static bool sign_of_places(const rq_lq_plan *p, const rq_graph *g, bool *positive)
{
    bool changed = false;
    for (int i = 0; i < p->n_places; i++) {
        const rq_lq_place *at = &p->places[i];
        if (!positive[at->object] || p->objects[at->object].policy == RQ_LQ_FIXED)
            continue;
        if (!source_is_positive(p, g, positive, at)) {
            positive[at->object] = false;
            changed = true;
        }
    }
    return changed;
}

rq_status rq_lq_sign(rq_lq_plan *p, const rq_graph *g, bool symmetric, rq_err *err)
{
    if (!symmetric)
        return RQ_OK;
    bool *positive = rq_mem_alloc((size_t)p->n_objects + 1, sizeof *positive);
    if (!positive)
        return rq_lq_no_memory(err);
    for (int i = 0; i < p->n_objects; i++)
        positive[i] = p->objects[i].policy != RQ_LQ_FIXED || p->objects[i].range == RQ_LQ_UNIT;
    while (sign_of_places(p, g, positive))
        ;
    for (int i = 0; i < p->n_places; i++) {
        const rq_lq_place *at = &p->places[i];
        rq_lq_object *o = &p->objects[at->object];
        if (!positive[at->object] || o->policy != RQ_LQ_ORDINARY)
            continue;
        o->policy = RQ_LQ_AFFINE;
        o->primary = i;
    }
    rq_mem_free(positive);
    return RQ_OK;
}
