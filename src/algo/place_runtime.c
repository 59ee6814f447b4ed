/* algo/place_runtime.c — placements that other runtimes want (place.c has ONNX Runtime's on the CPU):
 *
 *   inputs      TensorRT (docs/onnx-facts.md 5.2): the inputs of weighted operators and of pools, and of a residual Add the input
 *               that does not come from a weighted operator. Outputs stay open, biases are floats, no Relu goes: what follows
 *               a Conv up to the next pair is one kernel.
 *   everything  QNN (5.5): every float tensor, model inputs and outputs too.
 *
 * Both: what an operator only moves keeps its parameters. */
#include "algo/ends.h"
#include "algo/place.h"
#include "graph/query.h"

#include <string.h>

typedef struct work {
    rq_placement *p;
    const rq_graph *g;
    const rq_settings *base;
    const rq_recipe *recipe;
    const rq_place_ban *ban;
    rq_id *order;
    int n_order;
    int32_t *uses;
    bool *coded;  /* [n_values] */
    rq_id *user;  /* [n_values] who asked for codes first */
    rq_id *clamp; /* [n_values] swallowed, or RQ_NONE */
    rq_err *err;
} work;

static rq_status no_memory(work *w)
{
    return rq_fail(w->err, RQ_NO_MEMORY, "out of memory placing quantization");
}

static bool is_activation(const work *w, rq_id v)
{
    return v >= 0 && w->g->values[v].dtype == RQ_DTYPE_F32 && !rq_graph_is_const(w->g, v);
}

static const char *node_ban(const work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    if (rq_recipe_resolve(w->recipe, w->base, n->op, n->name, NULL).keep_float)
        return "the recipe keeps it in float";
    if (rq_place_left_out(w->ban, n))
        return rq_place_left_out(w->ban, n);
    return w->ban && w->ban->node ? w->ban->node[id] : NULL;
}

static bool value_banned(const work *w, rq_id v)
{
    if (w->ban && w->ban->value && w->ban->value[v])
        return true;
    const rq_settings none = { 0 };
    return w->g->values[v].name[0] && rq_recipe_resolve(w->recipe, &none, NULL, NULL, w->g->values[v].name).keep_float;
}

static rq_settings settings_of(const work *w, rq_id v, const rq_node *user)
{
    const rq_value *value = &w->g->values[v];
    const rq_node *n = value->kind == RQ_VALUE_NODE ? &w->g->nodes[value->producer] : user;
    return rq_recipe_resolve(w->recipe, w->base, n ? n->op : NULL, n ? n->name : NULL,
                             value->name[0] ? value->name : NULL);
}

static void code(work *w, rq_id v, rq_id user)
{
    if (v < 0 || w->coded[v] || w->g->values[v].dtype != RQ_DTYPE_F32 || value_banned(w, v))
        return;
    w->coded[v] = true;
    w->user[v] = user;
}

/* ---- weighted operators ---- */

static bool is_weighted(const work *w, const rq_node *n)
{
    if (!n->row || n->row->place != RQ_PLACE_WEIGHTED || n->n_in < 2 || !is_activation(w, n->in[0]))
        return false;
    if (rq_graph_is_const(w->g, n->in[1]))
        return w->g->values[n->in[1]].constant.shape.rank >= 2 && w->g->values[n->in[1]].dtype == RQ_DTYPE_F32;
    return rq_node_is(n, "MatMul") && is_activation(w, n->in[1]);
}

static rq_status place_weight(work *w, rq_id id, bool with_bias)
{
    rq_placement *p = w->p;
    const rq_node *n = &w->g->nodes[id];
    if (!p->integer[id] || !is_weighted(w, n) || !rq_graph_is_const(w->g, n->in[1]))
        return RQ_OK;
    const rq_settings s = settings_of(w, n->in[1], n);
    const rq_shape *shape = &w->g->values[n->in[1]].constant.shape;
    const int axis = s.has_axis                             ? s.axis + (s.axis < 0 ? shape->rank : 0)
                     : s.per_tensor || !n->row->weight_axis ? RQ_PER_TENSOR
                                                            : n->row->weight_axis(n, shape);
    const rq_place_weight made = {
        .value = n->in[1], .dtype = s.weights, .symmetric = s.symmetric_weights, .axis = axis, .s = s
    };
    int at = 0;
    while (at < p->n_weights && (p->weights[at].value != made.value || p->weights[at].axis != axis))
        at++;
    if (at == p->n_weights) {
        if (!rq_mem_grow(&p->weights, p->n_weights, &p->cap_weights, sizeof *p->weights))
            return no_memory(w);
        p->weights[p->n_weights++] = made;
    }
    if (!rq_mem_grow(&p->uses, p->n_uses, &p->cap_uses, sizeof *p->uses))
        return no_memory(w);
    const rq_id b = rq_node_in(n, 2);
    const bool per_channel = rq_graph_is_const(w->g, b) && w->g->values[b].dtype == RQ_DTYPE_F32 &&
                             axis != RQ_PER_TENSOR && rq_tensor_count(&w->g->values[b].constant) == shape->dim[axis];
    const bool bias = with_bias && !s.float_bias && rq_graph_is_const(w->g, b) &&
                      (axis == RQ_PER_TENSOR || per_channel) && w->coded[n->in[0]];
    p->uses[p->n_uses++] = (rq_place_use) { .node = id, .weight = at, .in = 1, .bias = bias ? b : RQ_NONE };
    return RQ_OK;
}

/* ---- inputs ---- */

/* The weighted operator whose result v is, alone or behind a BatchNormalization; RQ_NONE: there is none. */
static rq_id weighted_maker(const work *w, rq_id v)
{
    while (v >= 0 && w->g->values[v].kind == RQ_VALUE_NODE) {
        const rq_node *n = &w->g->nodes[w->g->values[v].producer];
        if (is_weighted(w, n))
            return w->g->values[v].producer;
        if (!rq_node_is(n, "BatchNormalization"))
            return RQ_NONE;
        v = n->in[0];
    }
    return RQ_NONE;
}

/* The input of a residual Add that is not the end of a branch of weighted operators. Where both are, it is the shortcut's: the
 * one whose operator reads what others read too. */
static rq_id skip_input(const work *w, const rq_node *n)
{
    const rq_id a = weighted_maker(w, n->in[0]), b = weighted_maker(w, n->in[1]);
    if (a == RQ_NONE && b == RQ_NONE)
        return RQ_NONE;
    if (a == RQ_NONE || b == RQ_NONE)
        return a == RQ_NONE ? n->in[0] : n->in[1];
    return w->uses[w->g->nodes[a].in[0]] > 1 ? n->in[0] : n->in[1];
}

static void place_inputs(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    rq_placement *p = w->p;
    if (is_weighted(w, n)) {
        p->reason[id] = node_ban(w, id);
        if (p->reason[id] || value_banned(w, n->in[0]) ||
            (!rq_graph_is_const(w->g, n->in[1]) && value_banned(w, n->in[1])))
            return;
        code(w, n->in[0], id);
        if (!rq_graph_is_const(w->g, n->in[1]))
            code(w, n->in[1], id);
        p->integer[id] = true;
    } else if (rq_node_is(n, "Add") && n->n_in == 2 && is_activation(w, n->in[0]) && is_activation(w, n->in[1])) {
        const rq_id skip = skip_input(w, n);
        if (skip != RQ_NONE && !node_ban(w, id))
            code(w, skip, id);
    } else if ((rq_node_is(n, "AveragePool") || rq_node_is(n, "GlobalAveragePool")) && !node_ban(w, id) &&
               is_activation(w, n->in[0]) && w->g->values[n->in[0]].kind == RQ_VALUE_NODE) {
        code(w, n->in[0], id);
    }
}

/* ---- everything ---- */

/* Operators whose other float inputs are tensors like the first, not settings (bounds, sizes, ratios). */
static bool all_data(const rq_node *n)
{
    static const char *const ops[] = { "LayerNormalization", "InstanceNormalization", "BatchNormalization", "PRelu",
                                       "GroupNormalization", "RMSNormalization" };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (rq_node_is(n, ops[i]))
            return true;
    return n->row && (n->row->place == RQ_PLACE_JOIN || n->row->flags & RQ_OP_COMMUTES || rq_node_is(n, "Where") ||
                      (n->row->place == RQ_PLACE_OWN && !(n->row->flags & RQ_OP_TABLE)));
}

/* The Relu or Clip that is the only reader of y and whose work saturation does. */
static rq_id swallowed(const work *w, rq_id y)
{
    rq_id user;
    double lo, hi;
    if (w->base->symmetric_activations || w->uses[y] != 1 || rq_graph_is_output(w->g, y) ||
        rq_graph_uses(w->g, y, &user, 1) != 1)
        return RQ_NONE;
    const rq_node *n = &w->g->nodes[user];
    if (!n->op || !n->row || n->row->place != RQ_PLACE_CLAMP || n->in[0] != y || node_ban(w, user))
        return RQ_NONE;
    return rq_place_clamp_bounds(w->g, n, &lo, &hi) ? user : RQ_NONE;
}

static void place_everything(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    rq_placement *p = w->p;
    if (!n->row || n->row->flags & RQ_OP_SHAPE_ONLY || p->integer[id] || (p->reason[id] = node_ban(w, id)) != NULL)
        return;
    const bool weighted = n->row->place == RQ_PLACE_WEIGHTED;
    if (weighted && !is_weighted(w, n))
        return;
    for (int i = 0; i < n->n_in; i++)
        if (is_activation(w, n->in[i]) || (n->in[i] >= 0 && !weighted && (i == 0 || all_data(n))))
            code(w, n->in[i], id);
    for (int i = 0; i < n->n_out; i++) {
        const bool moves = n->row->place == RQ_PLACE_SAME; /* its codes are its input's */
        const rq_id y = n->out[i], clamp = y == RQ_NONE || n->n_out != 1 || moves ? RQ_NONE : swallowed(w, y);
        if (y == RQ_NONE)
            continue;
        if (clamp == RQ_NONE) {
            code(w, y, id);
            continue;
        }
        const rq_id after = w->g->nodes[clamp].out[0];
        code(w, after, clamp);
        w->clamp[after] = w->coded[after] ? clamp : RQ_NONE;
        p->integer[clamp] = true;
    }
    p->integer[id] = true;
}

/* ---- groups ---- */

static rq_status add_group(work *w, rq_id v)
{
    rq_placement *p = w->p;
    if (!rq_mem_grow(&p->groups, p->n_groups, &p->cap_groups, sizeof *p->groups))
        return no_memory(w);
    const rq_value *value = &w->g->values[v];
    const rq_op *row = value->kind == RQ_VALUE_NODE ? w->g->nodes[value->producer].row : NULL;
    p->groups[p->n_groups] = (rq_place_group) {
        .value = v,
        .s = settings_of(w, v, &w->g->nodes[w->user[v]]),
        .unit = row && row->place == RQ_PLACE_UNIT,
        .like = RQ_NONE,
        .clamp = w->clamp[v],
        .constant = rq_graph_is_const(w->g, v),
    };
    p->group[v] = p->n_groups++;
    return RQ_OK;
}

static bool is_joined(const work *w, const rq_node *n)
{
    return n->row && n->row->place == RQ_PLACE_JOIN && n->n_out == 1 && w->coded[n->out[0]];
}

static rq_status form_groups(work *w, bool join)
{
    rq_placement *p = w->p;
    for (int i = w->n_order - 1; join && i >= 0;
         i--) { /* Concats from the last on: the output's range holds its inputs' */
        const rq_node *n = &w->g->nodes[w->order[i]];
        if (!is_joined(w, n))
            continue;
        if (p->group[n->out[0]] < 0)
            RQ_TRY(add_group(w, n->out[0]));
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] != RQ_NONE && w->coded[n->in[k]] && !rq_graph_is_const(w->g, n->in[k]) &&
                p->group[n->in[k]] < 0)
                p->group[n->in[k]] = p->group[n->out[0]];
    }
    for (rq_id v = 0; v < w->g->n_values; v++)
        if (w->coded[v] && p->group[v] < 0 && w->g->values[v].kind != RQ_VALUE_NODE)
            RQ_TRY(add_group(w, v));
    for (int i = 0; i < w->n_order; i++) {
        const rq_node *n = &w->g->nodes[w->order[i]];
        for (int k = 0; k < n->n_out; k++) {
            const rq_id y = n->out[k];
            if (y == RQ_NONE || !w->coded[y] || p->group[y] >= 0)
                continue;
            if (n->row && n->row->place == RQ_PLACE_SAME && n->in[0] != RQ_NONE && p->group[n->in[0]] >= 0)
                p->group[y] = p->group[n->in[0]];
            else
                RQ_TRY(add_group(w, y));
        }
    }
    return RQ_OK;
}

/* Inputs and outputs of the model, where they are wanted as codes. */
static void code_ends(work *w)
{
    rq_id user;
    for (int i = 0; w->base->coded_inputs && i < w->g->n_inputs; i++)
        if (is_activation(w, w->g->inputs[i]) && rq_graph_uses(w->g, w->g->inputs[i], &user, 1) > 0)
            code(w, rq_ends_pixels(w->g, w->g->inputs[i]), user);
    for (int i = 0; w->base->coded_outputs && i < w->g->n_outputs; i++)
        if (is_activation(w, w->g->outputs[i]) && w->g->values[w->g->outputs[i]].kind == RQ_VALUE_NODE)
            code(w, w->g->outputs[i], w->g->values[w->g->outputs[i]].producer);
}

static rq_status place_all(work *w)
{
    const bool inputs = w->base->places == RQ_PLACES_INPUTS;
    rq_arena *a = &w->p->arena;
    const size_t values = (size_t)w->g->n_values;
    w->coded = rq_arena_alloc(a, values, sizeof *w->coded);
    w->user = rq_arena_alloc(a, values, sizeof *w->user);
    w->clamp = rq_arena_alloc(a, values, sizeof *w->clamp);
    w->uses = rq_graph_use_counts(w->g);
    if (!w->coded || !w->user || !w->clamp || !w->uses)
        return no_memory(w);
    for (size_t i = 0; i < values; i++)
        w->clamp[i] = RQ_NONE;
    RQ_TRY(rq_order(w->g, &w->order, &w->n_order, w->err));
    for (int i = 0; i < w->n_order; i++)
        (inputs ? place_inputs : place_everything)(w, w->order[i]);
    code_ends(w);
    RQ_TRY(form_groups(w, inputs));
    for (int i = 0; i < w->n_order; i++)
        RQ_TRY(place_weight(w, w->order[i], !inputs));
    return RQ_OK;
}

rq_status rq_place_for_runtime(rq_placement *p, const rq_graph *g, const rq_settings *base, const rq_recipe *recipe,
                               const rq_place_ban *ban, rq_err *err)
{
    work w = { .p = p, .g = g, .base = base, .recipe = recipe, .ban = ban, .err = err };
    const rq_status s = place_all(&w);
    rq_mem_free(w.uses);
    rq_mem_free(w.order);
    return s;
}
