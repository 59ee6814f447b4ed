/* algo/place.c — placement in four walks over the nodes in order:
 *
 *   1. anchors: operators whose integer form is worth its conversions (rows placed WEIGHTED with a constant or float
 *      second operand);
 *   2. reach: a value is `from` integers when an anchor made it, directly or through operators that have integer forms,
 *      and goes `to` integers when an anchor uses it that way. Between anchors everything runs on codes; what only hangs
 *      at one side (the softmax at the end, a residual stream that goes through a normalization) stays in float;
 *   3. groups: values that become codes, joined where an operator passes its input's codes through;
 *   4. weights and biases.
 *
 * An operator without codes in its row (Tanh, HardSwish ...) that is a function of one element is passed by walk 2: where
 * both of its neighbours are codes it runs as a table, and two such in a row stay in float between one pair of conversions. */
#include "algo/place.h"

#include "algo/ends.h"
#include "graph/query.h"

#include <fnmatch.h>
#include <math.h>
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
    bool *anchor;        /* [n_nodes] */
    bool *adds_bias;     /* [n_nodes] Add behind an anchor's MatMul: the pair is rounded once, after it */
    bool *from, *to;     /* [n_values] */
    bool *coded;         /* [n_values] becomes codes */
    rq_id *clamp, *user; /* [n_values] swallowed clamp, or RQ_NONE; the node that first asked for codes */
    rq_err *err;
} work;

static rq_status no_memory(work *w)
{
    return rq_fail(w->err, RQ_NO_MEMORY, "out of memory placing quantization");
}

/* ---- questions about nodes and values ---- */

static const rq_value *value_at(const work *w, rq_id id)
{
    return &w->g->values[id];
}

static bool is_real(const work *w, rq_id id)
{
    return id >= 0 && value_at(w, id)->dtype == RQ_DTYPE_F32;
}

/* A float value that is computed or fed. */
static bool is_activation(const work *w, rq_id id)
{
    return is_real(w, id) && !rq_graph_is_const(w->g, id);
}

static bool has_integer_form(const rq_op *row)
{
    return row && (row->forward_int || row->flags & (RQ_OP_MOVES | RQ_OP_TABLE));
}

/* Inputs that could be codes: float ones of the data operands (axes, sizes and bounds are integers or constants of rows
 * with one data operand). */
static int n_data_inputs(const rq_node *n)
{
    if (!n->row)
        return 0;
    switch (n->row->place) {
    case RQ_PLACE_OWN:
    case RQ_PLACE_JOIN:
        return n->row->flags & RQ_OP_TABLE ? 1 : n->n_in;
    case RQ_PLACE_WEIGHTED:
        return 2;
    default:
        return 1;
    }
}

static const char *node_ban(const work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    if (w->recipe && rq_recipe_resolve(w->recipe, w->base, n->op, n->name, NULL).keep_float)
        return "the recipe keeps it in float";
    if (rq_place_left_out(w->ban, n))
        return rq_place_left_out(w->ban, n);
    return w->ban && w->ban->node ? w->ban->node[id] : NULL;
}

/* Why a value must not become codes, or NULL. */
static const char *value_ban(const work *w, rq_id id)
{
    const rq_value *v = value_at(w, id);
    if (w->ban && w->ban->value && w->ban->value[id])
        return w->ban->value[id];
    if (!w->recipe || !v->name[0])
        return NULL;
    const rq_node *n = v->kind == RQ_VALUE_NODE ? &w->g->nodes[v->producer] : NULL;
    if (rq_recipe_resolve(w->recipe, w->base, NULL, NULL, v->name).keep_float ||
        (n && rq_recipe_resolve(w->recipe, w->base, n->op, n->name, v->name).keep_float &&
         !rq_recipe_resolve(w->recipe, w->base, n->op, n->name, NULL).keep_float))
        return "the recipe keeps a tensor of it in float";
    return NULL;
}

/* Settings of a value: those of its producer's rules, or of the rules of whoever uses a graph input or constant. */
static rq_settings settings_of(const work *w, rq_id id, const rq_node *user)
{
    const rq_value *v = value_at(w, id);
    const rq_node *n = v->kind == RQ_VALUE_NODE ? &w->g->nodes[v->producer] : user;
    return rq_recipe_resolve(w->recipe, w->base, n ? n->op : NULL, n ? n->name : NULL, v->name[0] ? v->name : NULL);
}

/* ---- walk 1: anchors ---- */

/* Why this WEIGHTED node cannot be one; NULL: it can. */
static const char *not_an_anchor(const work *w, const rq_node *n)
{
    rq_id x = rq_node_in(n, 0), weight = rq_node_in(n, 1), bias = rq_node_in(n, 2), y = n->out[0];
    if (!has_integer_form(n->row))
        return "no integer form";
    if (!is_activation(w, x) || !is_real(w, weight) || y == RQ_NONE)
        return "its operands are not float tensors";
    if (!rq_graph_is_const(w->g, weight) && strcmp(n->op, "MatMul") != 0)
        return "its weight is computed";
    if (rq_graph_is_const(w->g, weight) && value_at(w, weight)->constant.shape.rank < 2)
        return "its weight is a vector";
    if (!rq_graph_is_const(w->g, weight) && rq_recipe_resolve(w->recipe, w->base, n->op, n->name, NULL).const_matmul)
        return "products of two activations stay in float";
    if (bias != RQ_NONE && !rq_graph_is_const(w->g, bias))
        return "its bias is computed";
    if (bias != RQ_NONE && !is_real(w, bias))
        return "its bias is no float tensor";
    if (!strcmp(n->op, "Gemm") && (rq_attr_int(n, RQ_WORD_transA, 0) || rq_attr_float(n, RQ_WORD_alpha, 1) != 1 ||
                                   (bias != RQ_NONE && rq_attr_float(n, RQ_WORD_beta, 1) != 1)))
        return "transA, alpha or beta is set";
    if (!strcmp(n->op, "Gemm") && bias != RQ_NONE) {
        const rq_tensor *b = &value_at(w, bias)->constant, *t = &value_at(w, weight)->constant;
        int64_t channels = t->shape.dim[rq_attr_int(n, RQ_WORD_transB, 0) ? 0 : 1];
        if (rq_tensor_count(b) != channels || (channels > 1 && b->shape.dim[b->shape.rank - 1] != channels))
            return "its bias is not one number per output";
    }
    for (int i = 0; i < 2; i++)
        if (!rq_graph_is_const(w->g, n->in[i]) && value_ban(w, n->in[i]))
            return value_ban(w, n->in[i]);
    return NULL;
}

/* The Add of a constant vector right behind a MatMul, its only user; RQ_NONE: none. */
static rq_id bias_add(const work *w, const rq_node *n)
{
    rq_id user, y = n->out[0];
    if (strcmp(n->op, "MatMul") != 0 || !rq_graph_is_const(w->g, n->in[1]) || rq_graph_is_output(w->g, y) ||
        w->uses[y] != 1 || rq_graph_uses(w->g, y, &user, 1) != 1)
        return RQ_NONE;
    const rq_node *add = &w->g->nodes[user];
    if (!add->op || strcmp(add->op, "Add") != 0 || add->domain[0] || add->n_in != 2)
        return RQ_NONE;
    rq_id other = add->in[0] == y ? add->in[1] : add->in[0];
    const rq_shape *s = &value_at(w, n->in[1])->constant.shape;
    if (!rq_graph_is_const(w->g, other) || !is_real(w, other) ||
        rq_tensor_count(&value_at(w, other)->constant) != s->dim[s->rank - 1])
        return RQ_NONE;
    const rq_shape *b = &value_at(w, other)->constant.shape;
    return b->rank >= 1 && b->dim[b->rank - 1] == s->dim[s->rank - 1] ? user : RQ_NONE;
}

static void find_anchors(work *w)
{
    for (int i = 0; i < w->n_order; i++) {
        rq_id id = w->order[i];
        const rq_node *n = &w->g->nodes[id];
        if (!n->row || n->row->place != RQ_PLACE_WEIGHTED)
            continue;
        const char *why = node_ban(w, id);
        if (!why)
            why = not_an_anchor(w, n);
        if (!why && (value_ban(w, n->out[0])))
            why = value_ban(w, n->out[0]);
        w->p->reason[id] = why;
        w->anchor[id] = !why;
        rq_id add = why ? RQ_NONE : bias_add(w, n);
        if (add != RQ_NONE)
            w->adds_bias[add] = true;
    }
}

/* ---- walk 2: reach ---- */

/* Could this operator stand between two anchors with codes on both sides? */
static bool is_bridge(const work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    if (!n->row || n->n_in == 0 || n->n_out == 0 || n->out[0] == RQ_NONE || w->anchor[id] || w->adds_bias[id])
        return false;
    bool floats = n->row->place == RQ_PLACE_FLOAT;
    if (n->row->place == RQ_PLACE_WEIGHTED || !has_integer_form(n->row) ||
        (floats && !(n->row->flags & (RQ_OP_TABLE | RQ_OP_MOVES))))
        return false;
    if (!is_real(w, n->out[0]) || node_ban(w, id) || value_ban(w, n->out[0]))
        return false;
    for (int i = 0; i < n_data_inputs(n); i++)
        if (n->in[i] == RQ_NONE || !is_real(w, n->in[i]) ||
            (!rq_graph_is_const(w->g, n->in[i]) && value_ban(w, n->in[i])))
            return false;
    return true;
}

/* Operators that carry codes on without parameters of their own choice. */
static bool passes(const rq_node *n)
{
    return n->row->place == RQ_PLACE_SAME && (!n->row->carries || n->row->carries(n));
}

/* An operator that makes its inputs and outputs codes, as opposed to one that is merely passed. */
static bool makes_codes(const rq_node *n)
{
    switch (n->row->place) {
    case RQ_PLACE_OWN:
    case RQ_PLACE_JOIN:
    case RQ_PLACE_CLAMP:
    case RQ_PLACE_UNIT:
    case RQ_PLACE_SAME:
        return true;
    default:
        return false;
    }
}

static bool inputs_from(const work *w, const rq_node *n)
{
    bool any = false, all = true;
    for (int i = 0; i < n_data_inputs(n); i++) {
        if (rq_graph_is_const(w->g, n->in[i]))
            continue;
        any |= w->from[n->in[i]];
        all &= w->from[n->in[i]];
    }
    return n->row->place == RQ_PLACE_JOIN ? any : any && all;
}

static void find_reach(work *w)
{
    for (int i = 0; w->base->coded_inputs && i < w->g->n_inputs; i++)
        if (is_activation(w, w->g->inputs[i]))
            w->from[rq_ends_pixels(w->g, w->g->inputs[i])] = true;
    for (int i = 0; i < w->n_order; i++) {
        rq_id id = w->order[i];
        const rq_node *n = &w->g->nodes[id];
        bool yes = w->anchor[id] || (w->adds_bias[id]) || (is_bridge(w, id) && inputs_from(w, n));
        for (int k = 0; yes && k < n->n_out; k++)
            if (is_real(w, n->out[k]))
                w->from[n->out[k]] = true;
    }
    for (int i = w->n_order - 1; i >= 0; i--) {
        rq_id id = w->order[i];
        const rq_node *n = &w->g->nodes[id];
        bool yes = w->anchor[id];
        if (!yes && is_bridge(w, id))
            for (int k = 0; k < n->n_out; k++)
                yes |= n->out[k] != RQ_NONE && w->to[n->out[k]];
        if (!yes)
            continue;
        for (int k = 0; k < n_data_inputs(n); k++)
            if (is_activation(w, n->in[k]))
                w->to[n->in[k]] = true;
    }
}

/* ---- walk 3: codes, then groups ---- */

/* See to it that value becomes codes. */
static void quantize(work *w, rq_id value, rq_id user)
{
    if (!w->coded[value])
        w->user[value] = user;
    w->coded[value] = true;
}

/* The Relu or Clip that is the only user of this value and can be swallowed into its maker's range; RQ_NONE: none. */
static rq_id swallowed(const work *w, rq_id value)
{
    rq_id user;
    double lo, hi;
    if (value == RQ_NONE || w->uses[value] != 1 || rq_graph_is_output(w->g, value) ||
        rq_graph_uses(w->g, value, &user, 1) != 1)
        return RQ_NONE;
    const rq_node *n = &w->g->nodes[user];
    if (!n->op || !n->row || n->row->place != RQ_PLACE_CLAMP || n->in[0] != value || node_ban(w, user) ||
        value_ban(w, n->out[0]))
        return RQ_NONE;
    return rq_place_clamp_bounds(w->g, n, &lo, &hi) ? user : RQ_NONE;
}

/* The output of a node that makes codes, or that of the clamp behind it. */
static void quantize_output(work *w, rq_id node, rq_id value)
{
    rq_id clamp = swallowed(w, value);
    if (clamp == RQ_NONE) {
        quantize(w, value, node);
        return;
    }
    rq_id after = w->g->nodes[clamp].out[0];
    quantize(w, after, clamp);
    w->clamp[after] = clamp;
    w->p->integer[clamp] = true;
}

/* Does a rule keep what the node makes from having codes on its account? */
static bool hands_over_reals(const work *w, const rq_node *n)
{
    return rq_recipe_resolve(w->recipe, w->base, n->op, n->name, NULL).float_output;
}

/* A Gemm or MatMul hands over reals as cheaply as codes (docs/onnx-facts.md 5.1 rules 5 and 6), so where no integer
 * operator waits for its output, directly or behind others, a rounding is spared. Its pair with a bias Add can only do
 * so at the end of the model: elsewhere ONNX Runtime would run it in float. */
static bool output_stays_float(const work *w, const rq_node *n)
{
    const rq_id y = n->out[0];
    if (hands_over_reals(w, n))
        return true;
    if (!strcmp(n->op, "Gemm") || !strcmp(n->op, "MatMul"))
        return !w->to[y];
    return !strcmp(n->op, "Add") && rq_graph_is_output(w->g, y) && w->uses[y] == 1;
}

static void choose_codes(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    if (w->anchor[id]) {
        w->p->integer[id] = true;
        for (int i = 0; i < 2; i++)
            if (is_activation(w, n->in[i]))
                quantize(w, n->in[i], id);
        if (bias_add(w, n) == RQ_NONE && !output_stays_float(w, n))
            quantize_output(w, id, n->out[0]);
        return;
    }
    if (w->adds_bias[id]) {
        if (!output_stays_float(w, n))
            quantize_output(w, id, n->out[0]);
        return;
    }
    if (!n->row || w->p->integer[id] || !is_bridge(w, id) || !makes_codes(n) || passes(n))
        return;
    if (!inputs_from(w, n) || !w->to[n->out[0]])
        return;
    w->p->integer[id] = true;
    for (int i = 0; i < n_data_inputs(n); i++)
        quantize(w, n->in[i], id);
    if (hands_over_reals(w, n))
        return;
    if (n->row->place == RQ_PLACE_UNIT)
        quantize(w, n->out[0], id);
    else
        quantize_output(w, id, n->out[0]);
}

/* Moving codes is cheaper than moving reals, whatever comes after. */
static void pass_codes(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    if (!n->row || !is_bridge(w, id) || !passes(n) || !w->coded[n->in[0]])
        return;
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE && value_ban(w, n->out[i]))
            return;
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE)
            quantize(w, n->out[i], id);
    w->p->integer[id] = true;
}

/* Inputs and outputs of the model, where they are wanted as codes. */
static void code_ends(work *w)
{
    const rq_graph *g = w->g;
    rq_id user;
    for (int i = 0; w->base->coded_inputs && i < g->n_inputs; i++) {
        const rq_id x = rq_ends_pixels(g, g->inputs[i]);
        if (is_activation(w, x) && !value_ban(w, x) && rq_graph_uses(g, x, &user, 1) > 0 &&
            !(rq_graph_is_output(g, x) && w->uses[x] == 1))
            quantize(w, x, user);
    }
    for (int i = 0; w->base->coded_outputs && i < g->n_outputs; i++) {
        const rq_id y = g->outputs[i];
        if (is_activation(w, y) && value_at(w, y)->kind == RQ_VALUE_NODE && !value_ban(w, y))
            quantize(w, y, value_at(w, y)->producer);
    }
}

/* A probability, whoever makes codes of it? */
static bool is_unit(const work *w, rq_id value)
{
    const rq_value *v = value_at(w, value);
    const rq_op *row = v->kind == RQ_VALUE_NODE ? w->g->nodes[v->producer].row : NULL;
    return row && row->place == RQ_PLACE_UNIT;
}

static rq_status add_group(work *w, rq_id value)
{
    rq_placement *p = w->p;
    if (!rq_mem_grow(&p->groups, p->n_groups, &p->cap_groups, sizeof *p->groups))
        return no_memory(w);
    p->groups[p->n_groups] = (rq_place_group) {
        .value = value,
        .s = settings_of(w, value, &w->g->nodes[w->user[value]]),
        .unit = is_unit(w, value),
        .clamp = w->clamp[value],
        .constant = rq_graph_is_const(w->g, value),
        .like = RQ_NONE,
    };
    p->group[value] = p->n_groups++;
    return RQ_OK;
}

static rq_status form_groups(work *w)
{
    rq_placement *p = w->p;
    for (int v = 0; v < w->g->n_values; v++)
        if (w->coded[v] && value_at(w, v)->kind != RQ_VALUE_NODE)
            RQ_TRY(add_group(w, v));
    for (int i = 0; i < w->n_order; i++) {
        rq_id id = w->order[i];
        const rq_node *n = &w->g->nodes[id];
        for (int k = 0; k < n->n_out; k++) {
            rq_id y = n->out[k];
            if (y == RQ_NONE || !w->coded[y])
                continue;
            if (p->integer[id] && passes(n))
                p->group[y] = p->group[n->in[0]];
            else
                RQ_TRY(add_group(w, y));
        }
        /* one whose output has no codes of its own (a clamp behind it has them, or reals are handed over) copies none */
        if (p->integer[id] && n->row->place == RQ_PLACE_JOIN && p->group[n->out[0]] >= 0) {
            if (!rq_mem_grow(&p->joins, p->n_joins, &p->cap_joins, sizeof *p->joins))
                return no_memory(w);
            p->joins[p->n_joins++] = id;
        }
    }
    return RQ_OK;
}

/* ---- walk 4: weights ---- */

static rq_status place_weight(work *w, rq_id id)
{
    rq_placement *p = w->p;
    const rq_node *n = &w->g->nodes[id];
    if (!w->anchor[id] || !rq_graph_is_const(w->g, n->in[1]))
        return RQ_OK;
    rq_settings s = settings_of(w, n->in[1], n);
    const rq_shape *shape = &value_at(w, n->in[1])->constant.shape;
    int axis = s.per_tensor || !n->row->weight_axis ? RQ_PER_TENSOR : n->row->weight_axis(n, shape);
    if (s.has_axis && !s.per_tensor)
        axis = s.axis < 0 ? s.axis + shape->rank : s.axis;
    if (axis != RQ_PER_TENSOR && (axis < 0 || axis >= shape->rank))
        return rq_fail(w->err, RQ_BAD_RECIPE, "weight '%s' has %d axes, and none is number %d",
                       value_at(w, n->in[1])->name, shape->rank, s.axis);
    rq_place_weight made = {
        .value = n->in[1], .dtype = s.weights, .symmetric = s.symmetric_weights, .axis = axis, .s = s
    };
    int at = 0;
    while (at < p->n_weights && (p->weights[at].value != made.value || p->weights[at].dtype != made.dtype ||
                                 p->weights[at].symmetric != made.symmetric || p->weights[at].axis != axis))
        at++;
    if (at == p->n_weights) {
        if (!rq_mem_grow(&p->weights, p->n_weights, &p->cap_weights, sizeof *p->weights))
            return no_memory(w);
        p->weights[p->n_weights++] = made;
    }
    if (!rq_mem_grow(&p->uses, p->n_uses, &p->cap_uses, sizeof *p->uses))
        return no_memory(w);
    rq_place_use use = { .node = id, .weight = at, .in = 1, .bias = s.float_bias ? RQ_NONE : rq_node_in(n, 2) };
    const rq_id add = bias_add(w, n);
    if (add != RQ_NONE && !s.float_bias && !output_stays_float(w, &w->g->nodes[add])) {
        const rq_node *a =
            &w->g->nodes[add]; /* runtimes make codes of it on their own, in units of this weight's scale */
        use.bias = a->in[a->in[0] == n->out[0]];
        use.float_bias = true;
    }
    p->uses[p->n_uses++] = use;
    return RQ_OK;
}

/* ---- together ---- */

bool rq_place_in_list(const char *const *list, const char *word)
{
    for (; list && *list; list++)
        if (!strcmp(*list, word))
            return true;
    return false;
}

bool rq_place_name_fits(const char *entry, const char *name)
{
    return !strcmp(entry, name) || (*name && fnmatch(entry, name, 0) == 0);
}

static bool names_fit(const char *const *list, const char *name)
{
    while (list && *list && !rq_place_name_fits(*list, name))
        list++;
    return list && *list;
}

const char *rq_place_left_out(const rq_place_ban *ban, const rq_node *n)
{
    if (!ban)
        return NULL;
    if (ban->ops && !rq_place_in_list(ban->ops, n->op))
        return "its operator type is not among those to quantize";
    if (ban->nodes && !names_fit(ban->nodes, n->name))
        return "it is not among the nodes to quantize";
    return names_fit(ban->except, n->name) ? "it is among the nodes to leave out" : NULL;
}

bool rq_place_clamp_bounds(const rq_graph *g, const rq_node *n, double *lo, double *hi)
{
    *lo = -INFINITY;
    *hi = INFINITY;
    if (!strcmp(n->op, "Relu")) {
        *lo = 0;
        return true;
    }
    if (strcmp(n->op, "Clip") != 0)
        return false;
    *lo = rq_attr_float(n, RQ_WORD_min, -INFINITY); /* before opset 11 */
    *hi = rq_attr_float(n, RQ_WORD_max, INFINITY);
    for (int i = 1; i < n->n_in && i < 3; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        const rq_value *v = &g->values[n->in[i]];
        if (v->kind != RQ_VALUE_CONST || rq_tensor_count(&v->constant) != 1)
            return false;
        *(i == 1 ? lo : hi) = rq_tensor_get(&v->constant, 0);
    }
    return *lo <= *hi;
}

void rq_placement_destroy(rq_placement *p)
{
    if (!p)
        return;
    rq_mem_free(p->groups);
    rq_mem_free(p->weights);
    rq_mem_free(p->uses);
    rq_mem_free(p->joins);
    rq_arena_release(&p->arena);
    rq_mem_free(p);
}

static rq_status walk(work *w)
{
    rq_placement *p = w->p;
    rq_arena *a = &p->arena;
    size_t values = (size_t)w->g->n_values, nodes = (size_t)w->g->n_nodes;
    p->n_values = w->g->n_values;
    p->n_nodes = w->g->n_nodes;
    p->group = rq_arena_alloc(a, values, sizeof *p->group);
    p->integer = rq_arena_alloc(a, nodes, sizeof *p->integer);
    p->reason = rq_arena_alloc(a, nodes, sizeof *p->reason);
    w->anchor = rq_arena_alloc(a, nodes, sizeof *w->anchor);
    w->adds_bias = rq_arena_alloc(a, nodes, sizeof *w->adds_bias);
    w->from = rq_arena_alloc(a, values, sizeof *w->from);
    w->to = rq_arena_alloc(a, values, sizeof *w->to);
    w->coded = rq_arena_alloc(a, values, sizeof *w->coded);
    w->clamp = rq_arena_alloc(a, values, sizeof *w->clamp);
    w->user = rq_arena_alloc(a, values, sizeof *w->user);
    w->uses = rq_graph_use_counts(w->g);
    if (!p->group || !p->integer || !p->reason || !w->anchor || !w->adds_bias || !w->from || !w->to || !w->coded ||
        !w->clamp || !w->user || !w->uses)
        return no_memory(w);
    for (size_t i = 0; i < values; i++) {
        p->group[i] = -1;
        w->clamp[i] = RQ_NONE;
    }
    if (w->base->compat != RQ_COMPAT_NONE)
        return rq_place_as_ort(p, w->g, w->base, w->recipe, w->ban, w->err);
    if (w->base->places != RQ_PLACES_REACH)
        return rq_place_for_runtime(p, w->g, w->base, w->recipe, w->ban, w->err);
    RQ_TRY(rq_order(w->g, &w->order, &w->n_order, w->err));
    find_anchors(w);
    find_reach(w);
    for (int i = 0; i < w->n_order; i++)
        choose_codes(w, w->order[i]);
    code_ends(w);
    for (int i = 0; i < w->n_order; i++)
        pass_codes(w, w->order[i]);
    RQ_TRY(form_groups(w));
    for (int i = 0; i < w->n_order; i++)
        RQ_TRY(place_weight(w, w->order[i]));
    for (int i = 0; i < w->n_order; i++) {
        rq_id id = w->order[i];
        const rq_node *n = &w->g->nodes[id];
        if (!p->integer[id] && !p->reason[id] && n->row && n->row->place != RQ_PLACE_FLOAT)
            p->reason[id] = node_ban(w, id);
    }
    return RQ_OK;
}

rq_status rq_placement_create(rq_placement **out, const rq_graph *g, const rq_settings *base, const rq_recipe *recipe,
                              const rq_place_ban *ban, rq_err *err)
{
    work w = { .g = g, .base = base, .recipe = recipe, .ban = ban, .err = err };
    w.p = rq_mem_zalloc(1, sizeof *w.p);
    if (!w.p)
        return no_memory(&w);
    rq_status s = walk(&w);
    rq_mem_free(w.uses);
    rq_mem_free(w.order);
    if (s != RQ_OK) {
        rq_placement_destroy(w.p);
        return s;
    }
    *out = w.p;
    return RQ_OK;
}
