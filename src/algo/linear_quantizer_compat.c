/* algo/linear_quantizer_compat.c — the same as linear_quantizer_sign.c, decided as Core ML Tools decides it (docs/coreml-facts.md 4.3): makers that
 * are non-negative mark the place behind them, and a marked place gets a new object, which those of its group take over that stand behind
 * operators that share. Marks lie on places, not on groups, and that is where the original and ours part. */
#include "algo/linear_quantizer.h"

#include <string.h>

#include "graph/query.h"

typedef struct marks {
    rq_lq_plan *p;
    const rq_graph *g;
    int *first;  /* [n_places] object at the start */
    bool *known; /* [n_places] marked, or takes over from one that is */
    int *object; /* [n_places] what replaces it; -1 */
    int *order;  /* places that are replaced, in the order they were marked */
    int n_order;
    rq_err *err;
} marks;

static bool is_share(const marks *m, const rq_lq_place *at)
{
    return at->producer >= 0 && m->p->groups[at->producer].kind == RQ_LQ_SHARE;
}

static rq_status mark(marks *m, int place, rq_lq_policy policy, rq_lq_range range)
{
    if (place < 0)
        return RQ_OK;
    rq_lq_object o = m->p->objects[m->p->places[place].object];
    o.policy = policy;
    o.range = range;
    o.primary = place;
    for (int i = 0; i < m->p->n_places; i++)
        if (m->first[i] == m->first[place] && is_share(m, &m->p->places[i]))
            m->known[i] = true;
    m->known[place] = true;
    if (m->object[place] < 0)
        m->order[m->n_order++] = place;
    m->object[place] = rq_lq_add_object(m->p, o);
    return m->object[place] < 0 ? rq_lq_no_memory(m->err) : RQ_OK;
}

static void unmark(marks *m, int place)
{
    m->known[place] = false;
    if (m->object[place] < 0)
        return;
    m->object[place] = -1;
    int n = 0;
    for (int i = 0; i < m->n_order; i++)
        if (m->order[i] != place)
            m->order[n++] = m->order[i];
    m->n_order = n;
}

/* The place that readers of the group's output have, also where it is a dropout's. */
static int place_of(const marks *m, int group)
{
    for (int i = 0; i < m->p->n_places; i++)
        if (m->p->places[i].producer == group)
            return i;
    return -1;
}

/* Does nobody read the value but through place i? */
static bool is_only_reader(const marks *m, int i)
{
    int n = 0;
    for (int u = 0; u < m->p->n_uses; u++)
        n += m->p->uses[u].place == i;
    return rq_graph_uses(m->g, m->p->places[i].value, NULL, 0) == n;
}

/* Makers that are non-negative by themselves, also those in float, and dropouts behind them. */
static rq_status mark_single(marks *m)
{
    for (int i = 0; i < m->p->n_places; i++) {
        const rq_lq_place *at = &m->p->places[i];
        if (at->producer < 0 && m->g->values[at->value].kind == RQ_VALUE_NODE &&
            m->p->positive[m->g->values[at->value].producer] && m->p->objects[at->object].policy == RQ_LQ_ORDINARY &&
            is_only_reader(m, i))
            RQ_TRY(mark(m, i, RQ_LQ_AFFINE, RQ_LQ_ANY));
    }
    for (int i = 0; i < m->p->n_order; i++) {
        const int group = m->p->group_of[m->p->order[i]];
        const rq_lq_group *gr = group >= 0 ? &m->p->groups[group] : NULL;
        if (!gr || gr->last != m->p->order[i])
            continue;
        if (gr->kind == RQ_LQ_DROPOUT) {
            const int before = rq_lq_place_behind(m->p, m->g->nodes[gr->root].in[0]);
            if (before >= 0 && m->known[before])
                RQ_TRY(mark(m, place_of(m, group), RQ_LQ_AFFINE, RQ_LQ_ANY));
        } else if (gr->kind != RQ_LQ_SHARE && gr->range == RQ_LQ_NON_NEGATIVE) {
            RQ_TRY(mark(m, place_of(m, group), RQ_LQ_AFFINE, RQ_LQ_ANY));
        }
    }
    return RQ_OK;
}

static bool operand_is_affine(const marks *m, rq_id node, int in)
{
    const int place = rq_lq_place_read(m->p, node, in);
    return place >= 0 && (m->known[place] || m->p->objects[m->p->places[place].object].policy == RQ_LQ_FIXED);
}

/* Add and Mul of affine operands are affine; a Concat with one that is not takes the marks off all. */
static rq_status mark_combined(marks *m)
{
    for (int i = 0; i < m->p->n_order; i++) {
        const rq_id node = m->p->order[i];
        const int group = m->p->group_of[node];
        const rq_lq_group *gr = group >= 0 ? &m->p->groups[group] : NULL;
        const rq_node *n = &m->g->nodes[node];
        const bool concat = rq_node_is(n, "Concat");
        if (!gr || gr->root != node || gr->last != node ||
            !(concat || (gr->kind == RQ_LQ_PAIR && (rq_node_is(n, "Add") || rq_node_is(n, "Mul")))))
            continue;
        bool all = true;
        for (int k = 0; k < n->n_in; k++)
            all &= operand_is_affine(m, node, k);
        if (all && !concat)
            RQ_TRY(mark(m, place_of(m, group), RQ_LQ_AFFINE, RQ_LQ_ANY));
        for (int k = 0; !all && concat && k < n->n_in; k++)
            if (rq_lq_place_read(m->p, node, k) >= 0)
                unmark(m, rq_lq_place_read(m->p, node, k));
    }
    return RQ_OK;
}

/* Products with a fixed-range activation. */
static rq_status mark_fixed(marks *m)
{
    for (int i = 0; i < m->p->n_order; i++) {
        const int group = m->p->group_of[m->p->order[i]];
        const rq_lq_group *gr = group >= 0 ? &m->p->groups[group] : NULL;
        if (gr && gr->last == m->p->order[i] && gr->kind == RQ_LQ_WEIGHTED &&
            (gr->range == RQ_LQ_UNIT || gr->range == RQ_LQ_TANH))
            RQ_TRY(mark(m, place_of(m, group), RQ_LQ_FIXED, gr->range));
    }
    return RQ_OK;
}

static void replace(marks *m)
{
    bool *done = m->known; /* no longer needed for marks */
    for (int i = 0; i < m->p->n_places; i++)
        done[i] = false;
    for (int i = 0; i < m->n_order; i++) {
        const int place = m->order[i];
        if (done[place])
            continue;
        m->p->places[place].object = m->object[place];
        done[place] = true;
        for (int k = 0; k < m->p->n_places; k++)
            if (!done[k] && m->first[k] == m->first[place] && is_share(m, &m->p->places[k])) {
                m->p->places[k].object = m->object[place];
                done[k] = true;
            }
    }
}

rq_status rq_lq_sign_as_original(rq_lq_plan *p, const rq_graph *g, bool symmetric, rq_err *err)
{
    marks m = { .p = p, .g = g, .err = err };
    const size_t n = (size_t)p->n_places + 1;
    m.first = rq_mem_alloc(n, sizeof *m.first);
    m.known = rq_mem_zalloc(n, sizeof *m.known);
    m.object = rq_mem_alloc(n, sizeof *m.object);
    m.order = rq_mem_alloc(n, sizeof *m.order);
    rq_status s = RQ_OK;
    if (!m.first || !m.known || !m.object || !m.order) {
        s = rq_lq_no_memory(err);
        goto done;
    }
    for (int i = 0; i < p->n_places; i++) {
        m.first[i] = p->places[i].object;
        m.object[i] = -1;
    }
    if (symmetric)
        s = mark_single(&m);
    if (!s && symmetric)
        s = mark_combined(&m);
    if (!s)
        s = mark_fixed(&m);
    if (!s)
        replace(&m);
done:
    rq_mem_free(m.first);
    rq_mem_free(m.known);
    rq_mem_free(m.object);
    rq_mem_free(m.order);
    return s;
}
