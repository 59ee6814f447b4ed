/* algo/linear_quantizer_place.c — where fake-quantizers stand (docs/coreml-facts.md 3, 4). Nodes are visited as they run: a layer asks for one
 * on each input that nobody has quantized yet, and has one behind its output. Both are counted, so a name is the number of the original's.
 * Operators that only pass on what they read share theirs. Which of them are affine or fixed comes after: linear_quantizer_sign.c, or
 * linear_quantizer_compat.c. */
#include "algo/linear_quantizer.h"

#include <stdio.h>
#include <string.h>

#include "graph/query.h"

rq_status rq_lq_no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory preparing the graph");
}

typedef struct walk {
    rq_lq_plan *p;
    const rq_graph *g;
    bool compat;
    int n_index;
    rq_err *err;
} walk;

/* ---- looking ---- */

int rq_lq_place_behind(const rq_lq_plan *p, rq_id v)
{
    for (int i = 0; i < p->n_places; i++)
        if (p->places[i].value == v && p->places[i].output)
            return i;
    return -1;
}

int rq_lq_place_read(const rq_lq_plan *p, rq_id node, int in)
{
    for (int i = 0; i < p->n_uses; i++)
        if (p->uses[i].node == node && p->uses[i].in == in)
            return p->uses[i].place;
    return -1;
}

static bool quantizes_activations(const rq_lq_group *gr, bool compat)
{
    if (compat && gr->fixed && gr->cfg &&
        gr->level == RQ_LQ_GLOBAL) /* the original has a config of its own for these */
        return true;
    return gr->cfg && gr->cfg->activation_dtype != RQ_DTYPE_F32 && gr->kind != RQ_LQ_TABLE && gr->kind != RQ_LQ_DROPOUT;
}

/* ---- making ---- */

int rq_lq_add_object(rq_lq_plan *p, rq_lq_object o)
{
    if (!rq_mem_grow(&p->objects, p->n_objects, &p->cap_objects, sizeof *p->objects))
        return -1;
    p->objects[p->n_objects] = o;
    return p->n_objects++;
}

static rq_lq_object ordinary(const walk *w, int group)
{
    return (rq_lq_object) { .policy = RQ_LQ_ORDINARY,
                            .cfg = w->p->groups[group].cfg,
                            .group = group,
                            .axis = RQ_PER_TENSOR,
                            .slot = -1,
                            .primary = -1 };
}

static rq_status add_place(walk *w, rq_id value, int producer, bool output, int object, int *place)
{
    rq_lq_plan *p = w->p;
    if (object < 0 || !rq_mem_grow(&p->places, p->n_places, &p->cap_places, sizeof *p->places))
        return rq_lq_no_memory(w->err);
    p->places[p->n_places] = (rq_lq_place) {
        .index = w->n_index++, .value = value, .producer = producer, .output = output, .object = object
    };
    *place = p->n_places++;
    return RQ_OK;
}

static rq_status add_use(walk *w, int place, int group, rq_id node, int in)
{
    rq_lq_plan *p = w->p;
    if (!rq_mem_grow(&p->uses, p->n_uses, &p->cap_uses, sizeof *p->uses))
        return rq_lq_no_memory(w->err);
    p->uses[p->n_uses++] = (rq_lq_use) { .place = place, .group = group, .node = node, .in = in };
    return RQ_OK;
}

/* A number, not a tensor: never quantized. */
static bool is_number(const rq_graph *g, rq_id v)
{
    return rq_graph_is_const(g, v) && rq_tensor_count(&g->values[v].constant) == 1;
}

/* The group that gives v: a layer or a dropout; -1. */
static int giver(const walk *w, rq_id v)
{
    const rq_value *x = &w->g->values[v];
    const int gr = x->kind == RQ_VALUE_NODE ? w->p->group_of[x->producer] : -1;
    return gr >= 0 && w->g->nodes[w->p->groups[gr].last].out[0] == v ? gr : -1;
}

/* Is what the dropout (or the chain of them) reads quantized behind its maker? */
static bool behind_quantized_dropout(const walk *w, rq_id v)
{
    for (int depth = 0; depth < 64; depth++) {
        const int gr = giver(w, v);
        if (gr < 0 || w->p->groups[gr].kind != RQ_LQ_DROPOUT)
            return depth > 0 && rq_lq_place_behind(w->p, v) >= 0;
        v = w->g->nodes[w->p->groups[gr].root].in[0];
    }
    return false;
}

/* The fixed range that an activation by itself or behind a pair has on its output (and, compat, on its inputs). */
static rq_lq_object alone(const walk *w, int group)
{
    rq_lq_object o = ordinary(w, group);
    const rq_lq_group *gr = &w->p->groups[group];
    if (gr->fixed) {
        o.policy = RQ_LQ_FIXED;
        o.range = gr->range;
    }
    return o;
}

/* One on operand v of the group: the one behind its maker, one that another reader has asked for, or a new one. -1: v is none. */
static rq_status operand(walk *w, int group, rq_id v, int *place)
{
    rq_lq_plan *p = w->p;
    *place = -1;
    if (v < 0 || w->g->values[v].dtype != RQ_DTYPE_F32 || is_number(w->g, v))
        return RQ_OK;
    *place = rq_lq_place_behind(p, v);
    if (*place >= 0)
        return RQ_OK;
    const rq_lq_object wanted = w->compat ? alone(w, group) : ordinary(w, group);
    const int bits = wanted.cfg->activation_n_bits;
    for (int i = 0; i < p->n_places; i++)
        if (p->places[i].value == v && p->objects[p->places[i].object].cfg->activation_n_bits == bits &&
            (p->objects[p->places[i].object].policy == RQ_LQ_FIXED) == (wanted.policy == RQ_LQ_FIXED)) {
            *place = i;
            return RQ_OK;
        }
    const int gr = giver(w, v);
    const bool dropout = gr >= 0 && p->groups[gr].kind == RQ_LQ_DROPOUT;
    RQ_TRY(add_place(w, v, dropout ? gr : -1, false, rq_lq_add_object(p, wanted), place));
    p->places[*place].removed = !w->compat && dropout && behind_quantized_dropout(w, v);
    return RQ_OK;
}

/* Is value v something that comes into the group from outside, and of which a fake-quantizer may be wanted? */
static bool is_operand(const walk *w, const rq_lq_group *gr, rq_id node, int in)
{
    switch (gr->kind) {
    case RQ_LQ_WEIGHTED:
        return node == gr->root && in == 0;
    case RQ_LQ_PAIR:
        return node == gr->root;
    case RQ_LQ_SHARE:
        return in == 0 || rq_node_is(&w->g->nodes[node], "Concat");
    case RQ_LQ_UNARY: /* of one written out: x, wherever it is read */
        if (node == gr->root)
            return in == 0 || (gr->act != gr->root && gr->norm == RQ_NONE &&
                               !rq_node_is(&w->g->nodes[node], "BatchNormalization"));
        return true;
    default:
        return false;
    }
}

static rq_status operands(walk *w, int group)
{
    for (int i = 0; i < w->p->n_order; i++) {
        const rq_id node = w->p->order[i];
        if (w->p->group_of[node] != group)
            continue;
        const rq_node *n = &w->g->nodes[node];
        for (int k = 0; k < n->n_in; k++) {
            int place;
            if (n->in[k] < 0 || !is_operand(w, &w->p->groups[group], node, k) ||
                (w->g->values[n->in[k]].kind == RQ_VALUE_NODE &&
                 w->p->group_of[w->g->values[n->in[k]].producer] == group))
                continue;
            RQ_TRY(operand(w, group, n->in[k], &place));
            if (place >= 0)
                RQ_TRY(add_use(w, place, group, node, k));
        }
    }
    return RQ_OK;
}

/* The object that a Concat's operands and its output share. As the original: the first operand's. A fixed range holds for all only where
 * all have it. */
static rq_status join(walk *w, int group, int *object)
{
    rq_lq_plan *p = w->p;
    const rq_node *n = &w->g->nodes[p->groups[group].root];
    *object = -1;
    bool mixed = false;
    for (int k = 0; k < n->n_in; k++) {
        const int place = rq_lq_place_read(p, p->groups[group].root, k);
        if (place < 0)
            continue;
        const rq_lq_object *o = &p->objects[p->places[place].object];
        if (*object < 0) {
            *object = p->places[place].object;
            continue;
        }
        const rq_lq_object *first = &p->objects[*object];
        const bool fixed = o->policy == RQ_LQ_FIXED, was = first->policy == RQ_LQ_FIXED;
        mixed |= fixed != was || (fixed && o->range != first->range);
        if (!w->compat && was && !fixed)
            *object = p->places[place].object;
    }
    if (*object < 0)
        return RQ_OK;
    if (!w->compat && mixed && p->objects[*object].policy == RQ_LQ_FIXED) {
        *object = rq_lq_add_object(p, ordinary(w, group));
        if (*object < 0)
            return rq_lq_no_memory(w->err);
    }
    for (int k = 0; k < n->n_in; k++) {
        const int place = rq_lq_place_read(p, p->groups[group].root, k);
        if (place >= 0)
            p->places[place].object = *object;
    }
    return RQ_OK;
}

static rq_status behind(walk *w, int group)
{
    rq_lq_plan *p = w->p;
    const rq_lq_group *gr = &p->groups[group];
    int object, place;
    if (gr->kind == RQ_LQ_SHARE) {
        RQ_TRY(join(w, group, &object));
        if (object < 0)
            return RQ_OK;
    } else {
        rq_lq_object o = alone(w, group);
        if (!w->compat && gr->kind == RQ_LQ_WEIGHTED && (gr->range == RQ_LQ_UNIT || gr->range == RQ_LQ_TANH)) {
            o.policy = RQ_LQ_FIXED;
            o.range = gr->range;
        }
        object = rq_lq_add_object(p, o);
    }
    return add_place(w, w->g->nodes[gr->last].out[0], group, true, object, &place);
}

/* As the original: of each dropout the fake-quantizer goes that stands right behind it in the list of nodes (of several the one that came last), if right before
 * it there stands one as well, whichever value that is of. */
static void remove_behind_dropouts(const walk *w)
{
    rq_lq_plan *p = w->p;
    for (int i = 0; i < p->n_order; i++) {
        const rq_node *n = &w->g->nodes[p->order[i]];
        if (p->group_of[p->order[i]] < 0 || p->groups[p->group_of[p->order[i]]].kind != RQ_LQ_DROPOUT)
            continue;
        const rq_id before = i > 0 ? w->g->nodes[p->order[i - 1]].out[0] : w->g->inputs[w->g->n_inputs - 1];
        bool fake = false;
        int last = -1;
        for (int k = 0; k < p->n_places; k++) {
            fake |= p->places[k].value == before && p->places[k].index >= 0;
            last = p->places[k].value == n->out[0] && p->places[k].index >= 0 ? k : last;
        }
        if (fake && last >= 0)
            p->places[last].removed = true;
    }
}

static rq_status activations(walk *w)
{
    for (int i = 0; i < w->p->n_order; i++) {
        const rq_id node = w->p->order[i];
        const int group = w->p->group_of[node];
        if (group < 0 || !quantizes_activations(&w->p->groups[group], w->compat))
            continue;
        const rq_lq_group *gr = &w->p->groups[group];
        if (node == (gr->kind == RQ_LQ_PAIR ? gr->root : gr->last))
            RQ_TRY(operands(w, group));
        if (node == gr->last)
            RQ_TRY(behind(w, group));
    }
    if (w->compat)
        remove_behind_dropouts(w);
    return RQ_OK;
}

/* ---- weights ---- */

static const char *weight_name(rq_lq_plan *p, const char *module, rq_err *err)
{
    char buf[640];
    for (int count = 0;; count++) {
        int n = snprintf(buf, sizeof buf, "%s%sweight_fake_quant", module, module[0] ? "." : "");
        if (count && n > 0 && (size_t)n < sizeof buf)
            n += snprintf(buf + n, sizeof buf - (size_t)n, "_%d", count);
        bool taken = false;
        for (int i = 0; i < p->n_objects; i++)
            taken |= p->objects[i].name && !strcmp(p->objects[i].name, buf);
        if (taken)
            continue;
        const char *name = rq_arena_strndup(&p->arena, buf, strlen(buf));
        if (!name)
            rq_lq_no_memory(err);
        return name;
    }
}

static rq_status weights(walk *w)
{
    rq_lq_plan *p = w->p;
    for (int i = 0; i < p->n_groups; i++) {
        rq_lq_group *gr = &p->groups[i];
        if (gr->weight_in < 0 || gr->cfg->weight_dtype == RQ_DTYPE_F32)
            continue;
        const rq_id v = w->g->nodes[gr->root].in[gr->weight_in];
        const rq_id gamma = gr->norm >= 0 ? w->g->nodes[gr->norm].in[1] : RQ_NONE;
        for (int k = 0; k < i && gr->weight < 0; k++) { /* a layer called twice has one weight */
            const rq_lq_group *o = &p->groups[k];
            if (o->weight >= 0 && w->g->nodes[o->root].in[o->weight_in] == v && o->weight_axis == gr->weight_axis &&
                o->cfg == gr->cfg && (o->norm >= 0 ? w->g->nodes[o->norm].in[1] : RQ_NONE) == gamma)
                gr->weight = o->weight;
        }
        if (gr->weight < 0) {
            /* embeddings: always by rows, as the original; by what was asked for, else */
            const bool channels = gr->cfg->weight_per_channel || (w->compat && gr->kind == RQ_LQ_TABLE);
            const rq_lq_object o = { .name = weight_name(p, gr->module, w->err),
                                     .policy = RQ_LQ_WEIGHT,
                                     .cfg = gr->cfg,
                                     .group = i,
                                     .axis = channels ? gr->weight_axis : RQ_PER_TENSOR,
                                     .slot = -1,
                                     .primary = -1 };
            if (!o.name || (p->groups[i].weight = rq_lq_add_object(p, o)) < 0)
                return rq_lq_no_memory(w->err);
        }
        int place;
        RQ_TRY(add_place(w, v, -1, false, p->groups[i].weight, &place));
        p->places[place].index = -1;
    }
    return RQ_OK;
}

/* ---- names and slots ---- */

/* An object is called after the first place that it stands at. One made anew for a place is registered again there, so that another of
 * its places comes first. */
static rq_status name_activations(walk *w)
{
    rq_lq_plan *p = w->p;
    int slot = 0;
    for (int i = 0; i < p->n_places; i++) {
        rq_lq_place *at = &p->places[i];
        rq_lq_object *o = &p->objects[at->object];
        if (at->removed)
            continue;
        if (o->slot < 0)
            o->slot = slot++;
        if (o->policy == RQ_LQ_WEIGHT || (o->name && o->primary != i))
            continue;
        int index = o->name ? -1 : at->index;
        for (int k = i + 1; index >= 0 && o->primary == i && k < p->n_places; k++)
            if (p->places[k].object == at->object && !p->places[k].removed) {
                index = p->places[k].index;
                break;
            }
        if (index < 0)
            continue;
        char buf[48];
        const int n = snprintf(buf, sizeof buf, "activation_post_process_%d", index);
        if (!(o->name = rq_arena_strndup(&p->arena, buf, (size_t)n)))
            return rq_lq_no_memory(w->err);
    }
    return RQ_OK;
}

rq_status rq_lq_find_places(rq_lq_plan *p, const rq_graph *g, const rq_linear_quantizer_config *c, rq_err *err)
{
    walk w = { .p = p, .g = g, .compat = rq_linear_quantizer_config_is_compat(c), .err = err };
    const bool symmetric = rq_qscheme_is_symmetric(rq_linear_quantizer_config_common(c)->quantization_scheme);
    RQ_TRY(activations(&w));
    RQ_TRY(w.compat ? rq_lq_sign_as_original(p, g, symmetric, err) : rq_lq_sign(p, g, symmetric, err));
    RQ_TRY(weights(&w));
    return name_activations(&w);
}
