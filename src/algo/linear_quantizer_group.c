/* algo/linear_quantizer_group.c — which nodes count as one layer (docs/coreml-facts.md 2). A chain is one group where each value in it
 * has one reader: a product, the Add of its bias, a batch norm, an activation. Activations that exporters write out (x * Sigmoid(x)) are
 * found as small closed sets of nodes. */
#include "algo/linear_quantizer.h"

#include <math.h>
#include <string.h>

#include "graph/modules.h"
#include "graph/query.h"

/* ---- activations ---- */

/* One node, input 0 to output 0, constants beside. */
static const char *const activations[] = { "Relu", "PRelu",      "LeakyRelu", "Sigmoid", "HardSigmoid", "Elu",
                                           "Celu", "Selu",       "Gelu",      "Tanh",    "Clip",        "Softmax",
                                           "Mish", "LogSoftmax", "HardSwish", "Swish",   "FastGelu",    "QuickGelu" };

static bool is_in(const char *const *list, size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(list[i], word))
            return true;
    return false;
}

static bool is_activation(const rq_node *n)
{
    return n->op && n->n_out == 1 && is_in(activations, sizeof activations / sizeof activations[0], n->op);
}

/* Written out: the operators of the set, in the order of the graph. */
static const struct written {
    const char *name, *ops[3];
    int n, reads; /* how often x is read */
} written[] = {
    { "SiLU", { "Sigmoid", "Mul" }, 2, 2 },         { "HardSwish", { "HardSigmoid", "Mul" }, 2, 2 },
    { "LogSigmoid", { "Sigmoid", "Log" }, 2, 1 },   { "Mish", { "Softplus", "Tanh", "Mul" }, 3, 2 },
    { "GLU", { "Split", "Sigmoid", "Mul" }, 3, 1 },
};
enum { MOST_WRITTEN = 10, MOST_READS = 6, LOOK_AHEAD = 16 };

/* The constant that is one number, or RQ_NONE. */
static bool one_number(const rq_graph *g, rq_id v, double *out)
{
    if (!rq_graph_is_const(g, v) || rq_tensor_count(&g->values[v].constant) != 1)
        return false;
    *out = rq_tensor_get(&g->values[v].constant, 0);
    return true;
}

typedef struct set {
    rq_id node[MOST_WRITTEN];
    int n;
} set;

static bool has(const set *s, rq_id node)
{
    for (int i = 0; i < s->n; i++)
        if (s->node[i] == node)
            return true;
    return false;
}

/* Are all readers of v in the set, and is v no output? */
static bool closed(const rq_graph *g, const set *s, rq_id v)
{
    rq_id users[16];
    const int n = rq_graph_uses(g, v, users, 16);
    if (n > 16 || rq_graph_is_output(g, v))
        return false;
    for (int i = 0; i < n; i++)
        if (!has(s, users[i]))
            return false;
    return true;
}

/* Does the node read nothing but x, what the set makes, and constants of one number (or a Split's sizes)? */
static bool within(const rq_graph *g, const set *s, rq_id x, const rq_node *n)
{
    bool any = false;
    for (int i = 0; i < n->n_in; i++) {
        const rq_id v = n->in[i];
        if (v == RQ_NONE || rq_graph_is_const(g, v)) {
            double number;
            if (v != RQ_NONE && strcmp(n->op, "Split") && !one_number(g, v, &number))
                return false;
            continue;
        }
        const bool ours = v == x || (g->values[v].kind == RQ_VALUE_NODE && has(s, g->values[v].producer));
        if (!ours)
            return false;
        any = true;
    }
    return any;
}

static const char *name_of_set(const rq_graph *g, const set *s, int reads)
{
    for (size_t w = 0; w < sizeof written / sizeof written[0]; w++) {
        bool same = written[w].n == s->n && written[w].reads == reads;
        for (int i = 0; same && i < s->n; i++)
            same = !strcmp(written[w].ops[i], g->nodes[s->node[i]].op);
        if (same)
            return written[w].name;
    }
    return NULL;
}

/* What the set gives for x = at; NaN: it has other operators than these. */
static double value_at(const rq_graph *g, const set *s, double at)
{
    double y[MOST_WRITTEN] = { 0 };
    for (int i = 0; i < s->n; i++) {
        const rq_node *n = &g->nodes[s->node[i]];
        double in[2] = { at, at };
        if (n->n_in > 2)
            return NAN;
        for (int k = 0; k < n->n_in; k++) {
            one_number(g, n->in[k], &in[k]);
            for (int m = 0; m < i; m++)
                in[k] = g->nodes[s->node[m]].out[0] == n->in[k] ? y[m] : in[k];
        }
        y[i] = rq_node_is(n, "Add")    ? in[0] + in[1]
               : rq_node_is(n, "Sub")  ? in[0] - in[1]
               : rq_node_is(n, "Mul")  ? in[0] * in[1]
               : rq_node_is(n, "Div")  ? in[0] / in[1]
               : rq_node_is(n, "Pow")  ? pow(in[0], in[1])
               : rq_node_is(n, "Tanh") ? tanh(in[0])
               : rq_node_is(n, "Erf")  ? erf(in[0])
                                       : (double)NAN;
    }
    return y[s->n - 1];
}

/* GELU is written in too many ways to list them, by Erf or by Tanh (off by 5e-4 at most): it is known by what it gives. */
static bool is_gelu(const rq_graph *g, const set *s)
{
    static const double at[] = { -3, -1.6, -0.75, -0.2, 0.3, 1.1, 2.5 };
    const char *last = g->nodes[s->node[s->n - 1]].op;
    if (s->n < 5 || (strcmp(last, "Mul") != 0 && strcmp(last, "Div") != 0))
        return false;
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++)
        if (!(fabs(value_at(g, s, at[i]) - 0.5 * at[i] * (1 + erf(at[i] / sqrt(2)))) < 1e-3))
            return false;
    return true;
}

/* The set of nodes behind x that is an activation written out; NULL: there is none. */
static const char *find_written(const rq_lq_plan *p, const rq_graph *g, const rq_id *order, int n_order, rq_id x,
                                set *s)
{
    rq_id users[MOST_READS];
    const int n_users = rq_graph_uses(g, x, users, MOST_READS);
    *s = (set) { .n = 0 };
    if (n_users < 1 || n_users > MOST_READS || rq_graph_is_output(g, x))
        return NULL;
    int at = 0;
    while (at < n_order && order[at] != users[0])
        at++;
    for (int u = 1; u < n_users; u++)
        for (int i = 0; i < at; i++)
            if (order[i] == users[u])
                at = i;
    for (int i = at; i < n_order && i < at + LOOK_AHEAD && s->n < MOST_WRITTEN; i++) {
        const rq_node *n = &g->nodes[order[i]];
        if (p->group_of[order[i]] >= 0 || n->domain[0] || !within(g, s, x, n))
            continue;
        s->node[s->n++] = order[i];
        const char *name = name_of_set(g, s, n_users);
        if (!name && is_gelu(g, s))
            name = "Gelu";
        bool whole = name && closed(g, s, x);
        for (int k = 0; whole && k < s->n - 1; k++)
            for (int o = 0; o < g->nodes[s->node[k]].n_out; o++)
                whole &= closed(g, s, g->nodes[s->node[k]].out[o]);
        if (whole)
            return name;
    }
    return NULL;
}

/* ---- what an activation gives ---- */

static rq_lq_range range_of(const rq_graph *g, const rq_node *n, const char *op, bool compat)
{
    if (!strcmp(op, "Relu"))
        return RQ_LQ_NON_NEGATIVE;
    if (!strcmp(op, "Sigmoid") || !strcmp(op, "HardSigmoid") || !strcmp(op, "Softmax"))
        return RQ_LQ_UNIT;
    if (!strcmp(op, "Tanh"))
        return RQ_LQ_TANH;
    if (!strcmp(op, "Clip")) {
        double lo = rq_attr_float(n, RQ_WORD_min, -1), hi = rq_attr_float(n, RQ_WORD_max, -1);
        one_number(g, rq_node_in(n, 1), &lo);
        one_number(g, rq_node_in(n, 2), &hi);
        if (compat ? lo == 0 && hi == 6 : lo >= 0)
            return RQ_LQ_NON_NEGATIVE;
    }
    return RQ_LQ_ANY;
}

/* ---- walking ---- */

typedef struct walk {
    rq_lq_plan *p;
    rq_graph *g;
    const rq_linear_quantizer_config *c;
    bool compat;
    rq_id *order;
    int n_order;
    rq_err *err;
} walk;

/* The only reader of v, or RQ_NONE: there are several, or v is an output. */
static rq_id only_reader(const rq_graph *g, rq_id v)
{
    rq_id user = RQ_NONE;
    return v >= 0 && rq_graph_uses(g, v, &user, 1) == 1 && !rq_graph_is_output(g, v) ? user : RQ_NONE;
}

static bool is_float_value(const rq_graph *g, rq_id v)
{
    return v >= 0 && g->values[v].dtype == RQ_DTYPE_F32;
}

/* A weight: a float constant, or one that is only laid out anew on the way. */
static bool is_weight(const rq_graph *g, rq_id v)
{
    for (int depth = 0; v >= 0 && depth < 4; depth++) {
        if (rq_graph_is_const(g, v))
            return g->values[v].constant.dtype == RQ_DTYPE_F32;
        if (g->values[v].kind != RQ_VALUE_NODE)
            return false;
        const rq_node *n = &g->nodes[g->values[v].producer];
        if (!rq_node_is(n, "Transpose") && !rq_node_is(n, "Identity"))
            return false;
        v = n->in[0];
    }
    return false;
}

/* Is the node in a region that is left as it is? Nothing outside counts as one layer with it. */
static bool is_opaque(const walk *w, rq_id node)
{
    const char *module = rq_module_of(w->g, node);
    return module && rq_linear_quantizer_config_is_opaque(w->c, module);
}

/* The only node that reads v and may be one layer with what makes it, or RQ_NONE. */
static rq_id next_of(const walk *w, rq_id v)
{
    const rq_id next = only_reader(w->g, v);
    return next >= 0 && !is_opaque(w, next) ? next : RQ_NONE;
}

/* Settings of the layer that node is, NULL: none. */
static const rq_module_linear_quantizer_config *look_up(walk *w, rq_id node, const char **module, rq_lq_level *level)
{
    const char *types[RQ_MODULE_TYPES];
    *module = rq_module_of(w->g, node);
    if (!*module)
        return NULL;
    return rq_linear_quantizer_config_find(w->c, *module, types, rq_module_types(w->g, node, types), level);
}

/* The rule that the node answers to had a say: a layer is quantized by it, or stays in float because of it. */
static void note_rule(const walk *w, rq_id node, const char *module, bool is_layer)
{
    const char *types[RQ_MODULE_TYPES];
    bool skip;
    const int n = rq_module_types(w->g, node, types);
    const int rule = rq_linear_quantizer_config_deciding(w->c, module, types, n, &skip);
    if (rule >= 0 && (is_layer || skip))
        w->p->decides[rule] = true;
}

/* Take the activation behind the group's last node, if it has one. */
static void extend_act(walk *w, rq_lq_group *gr)
{
    rq_graph *g = w->g;
    const rq_id y = g->nodes[gr->last].out[0], next = next_of(w, y);
    set s;
    gr->op = find_written(w->p, g, w->order, w->n_order, y, &s);
    if (gr->op && !is_opaque(w, s.node[0])) {
        for (int i = 0; i < s.n - 1; i++)
            w->p->group_of[s.node[i]] = w->p->n_groups;
        gr->act = gr->last = s.node[s.n - 1];
    } else if (next >= 0 && is_activation(&g->nodes[next]) && g->nodes[next].in[0] == y) {
        gr->act = gr->last = next;
        gr->op = g->nodes[next].op;
    } else if (next >= 0 && gr->kind == RQ_LQ_PAIR && rq_node_is(&g->nodes[next], "Pow") && g->nodes[next].in[1] == y) {
        double base;
        if (!one_number(g, g->nodes[next].in[0], &base) || base != 2)
            return;
        gr->act = gr->last = next;
        gr->op = "Exp2";
    }
    if (gr->act != RQ_NONE && gr->op)
        gr->range = range_of(g, &g->nodes[gr->act], gr->op, w->compat);
}

static bool is_norm(const rq_graph *g, rq_id node)
{
    const rq_node *n = node >= 0 ? &g->nodes[node] : NULL;
    if (!n || !rq_node_is(n, "BatchNormalization") || n->n_in != 5)
        return false;
    for (int i = 1; i < 5; i++)
        if (!rq_graph_is_const(g, n->in[i]) || g->values[n->in[i]].constant.dtype != RQ_DTYPE_F32)
            return false;
    for (int i = 1; i < n->n_out; i++)
        if (n->out[i] >= 0 && rq_graph_uses(g, n->out[i], NULL, 0))
            return false;
    return true;
}

static int rank_of(const rq_graph *g, rq_id v)
{
    return v >= 0 ? g->values[v].shape.rank : -1;
}

static void match_weighted(walk *w, rq_lq_group *gr)
{
    rq_graph *g = w->g;
    const rq_node *n = &g->nodes[gr->root];
    const bool conv = rq_node_is(n, "Conv"), deconv = rq_node_is(n, "ConvTranspose");
    const bool linear = !conv && !deconv;
    gr->kind = RQ_LQ_WEIGHTED;
    gr->deconv = deconv;
    gr->weight_in = 1;
    gr->weight_axis = conv ? 0 : 1;
    if (rq_node_is(n, "Gemm") && rq_attr_int(n, RQ_WORD_transB, 0))
        gr->weight_axis = 0;
    rq_id next = next_of(w, n->out[0]);
    if (rq_node_is(n, "MatMul") && next >= 0 && rq_module_biased(g, next) == gr->root) {
        gr->bias_add = gr->last = next;
        next = next_of(w, g->nodes[next].out[0]);
    }
    const bool plain =
        !rq_node_is(n, "Gemm") || (rq_attr_float(n, RQ_WORD_alpha, 1) == 1 && rq_attr_float(n, RQ_WORD_beta, 1) == 1);
    if (plain && is_norm(g, next) && g->nodes[next].in[0] == g->nodes[gr->last].out[0] &&
        (!linear || rank_of(g, g->nodes[gr->last].out[0]) == 2)) {
        gr->norm = gr->last = next;
        if (deconv && w->compat)
            gr->weight_axis = 0;
        if (linear && w->compat)
            return; /* the activation is a group of its own */
    }
    extend_act(w, gr);
    if (w->compat && conv && gr->norm == RQ_NONE && gr->range == RQ_LQ_NON_NEGATIVE && rank_of(g, n->in[1]) == 5 &&
        !strcmp(gr->op, "Relu"))
        gr->range = RQ_LQ_ANY;
}

static bool is_pair(const rq_node *n)
{
    static const char *const ops[] = { "Add", "Mul", "Sub", "MatMul", "Einsum" };
    return !n->domain[0] && is_in(ops, sizeof ops / sizeof ops[0], n->op);
}

static bool is_share(const rq_node *n, bool compat)
{
    static const char *const always[] = { "Identity",          "Concat",  "MaxPool",   "AveragePool",
                                          "GlobalAveragePool", "Flatten", "ReduceMean" };
    static const char *const views[] = { "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "GlobalMaxPool" };
    return !n->domain[0] && (is_in(always, sizeof always / sizeof always[0], n->op) ||
                             (!compat && is_in(views, sizeof views / sizeof views[0], n->op)));
}

/* Fill gr from the node that it begins with; FLOAT: it is no layer that is quantized. */
static void match(walk *w, rq_lq_group *gr)
{
    rq_graph *g = w->g;
    const rq_node *n = &g->nodes[gr->root];
    const bool product = rq_node_is(n, "Conv") || rq_node_is(n, "ConvTranspose") || rq_node_is(n, "Gemm") ||
                         (rq_node_is(n, "MatMul") && rank_of(g, rq_node_in(n, 1)) == 2);
    gr->last = gr->root;
    if (n->n_out < 1 || n->out[0] < 0 || !is_float_value(g, n->out[0]))
        return;
    if (product && is_weight(g, n->in[1]) && !is_weight(g, n->in[0])) {
        match_weighted(w, gr);
    } else if (rq_node_is(n, "Gather") && is_weight(g, n->in[0]) && rank_of(g, n->in[0]) == 2 &&
               rq_attr_int(n, RQ_WORD_axis, 0) == 0) {
        gr->kind = RQ_LQ_TABLE;
        gr->weight_in = 0;
        gr->weight_axis = 0;
    } else if (is_norm(g, gr->root)) {
        gr->kind = RQ_LQ_UNARY;
        const rq_id next = next_of(w, n->out[0]);
        if (next >= 0 && rq_node_is(&g->nodes[next], "Relu") && rank_of(g, n->in[0]) >= 4) {
            gr->act = gr->last = next;
            gr->op = "Relu";
            gr->range = w->compat && rank_of(g, n->in[0]) == 4 ? RQ_LQ_ANY : RQ_LQ_NON_NEGATIVE;
        }
    } else if (is_pair(n)) {
        gr->kind = RQ_LQ_PAIR;
        if (!rq_node_is(n, "Sub"))
            extend_act(w, gr);
    } else if (is_activation(n)) {
        gr->kind = RQ_LQ_UNARY;
        gr->act = gr->root;
        gr->op = n->op;
        gr->range = range_of(g, n, n->op, w->compat);
    } else if (is_share(n, w->compat) && (rq_node_is(n, "Concat") || !is_weight(g, n->in[0]))) {
        gr->kind = RQ_LQ_SHARE;
    } else if (rq_node_is(n, "Dropout")) {
        gr->kind = RQ_LQ_DROPOUT;
    }
}

/* Which activation the set of nodes that begins with `root` is, of x, which others may read as well; NULL: none. */
static const char *find_alone(const walk *w, rq_id root, rq_id x, set *s)
{
    const rq_graph *g = w->g;
    int at = 0;
    while (at < w->n_order && w->order[at] != root)
        at++;
    *s = (set) { .n = 0 };
    for (int i = at; i < w->n_order && i < at + 12 && s->n < MOST_WRITTEN; i++) {
        const rq_node *n = &g->nodes[w->order[i]];
        bool inside = s->n == 0, whole = true;
        int reads = 0;
        for (int k = 0; k < n->n_in; k++)
            inside |=
                n->in[k] >= 0 && g->values[n->in[k]].kind == RQ_VALUE_NODE && has(s, g->values[n->in[k]].producer);
        if (i > at && s->n == 0)
            return NULL;
        if (!inside || w->p->group_of[w->order[i]] >= 0 || n->domain[0] || !within(g, s, x, n))
            continue;
        s->node[s->n++] = w->order[i];
        for (int k = 0; k < s->n; k++) {
            const rq_node *of = &g->nodes[s->node[k]];
            for (int j = 0; j < of->n_in; j++)
                reads += of->in[j] == x;
            for (int o = 0; k < s->n - 1 && o < of->n_out; o++)
                whole &= closed(g, s, of->out[o]);
        }
        const char *name = whole ? name_of_set(g, s, reads) : NULL;
        if (name)
            return name;
    }
    return NULL;
}

/* An activation written out that nothing before it took: the set whose first node this is. */
static void match_written(walk *w, rq_lq_group *gr)
{
    set s;
    const rq_node *n = &w->g->nodes[gr->root];
    for (int i = 0; i < n->n_in; i++) {
        const char *op = n->in[i] >= 0 && w->g->values[n->in[i]].kind != RQ_VALUE_CONST
                             ? find_alone(w, gr->root, n->in[i], &s)
                             : NULL;
        if (!op)
            continue;
        for (int k = 0; k < s.n; k++)
            w->p->group_of[s.node[k]] = w->p->n_groups;
        gr->kind = RQ_LQ_UNARY;
        gr->op = op;
        gr->act = gr->last = s.node[s.n - 1];
        gr->range = range_of(w->g, &w->g->nodes[gr->act], op, w->compat);
        return;
    }
}

/* What group_of says while groups are looked for: no layer found yet; a layer that is not quantized. */
enum { NONE = -1, LEFT = -2 };

/* Is what a layer in float gives never below zero? The original knows some classes; of layers that are not quantized at all, fewer. */
static bool is_positive(const rq_lq_group *gr, bool compat)
{
    if (compat)
        return gr->range == RQ_LQ_NON_NEGATIVE && gr->kind != RQ_LQ_PAIR &&
               (gr->kind == RQ_LQ_UNARY || gr->cfg || !strcmp(gr->op, "Relu"));
    return gr->range == RQ_LQ_NON_NEGATIVE || gr->range == RQ_LQ_UNIT;
}

static rq_status add_group(walk *w, rq_id node)
{
    rq_lq_group gr = { .root = node,
                       .bias_add = RQ_NONE,
                       .norm = RQ_NONE,
                       .act = RQ_NONE,
                       .last = node,
                       .weight_in = -1,
                       .weight_axis = RQ_PER_TENSOR,
                       .weight = -1 };
    gr.cfg = look_up(w, node, &gr.module, &gr.level);
    if (!gr.module)
        return rq_lq_no_memory(w->err);
    if (!is_opaque(w, node))
        match_written(w, &gr);
    if (!is_opaque(w, node) && gr.kind == RQ_LQ_FLOAT)
        match(w, &gr);
    note_rule(w, node, gr.module, gr.kind != RQ_LQ_FLOAT);
    if (gr.kind == RQ_LQ_FLOAT)
        return RQ_OK;
    gr.fixed = (gr.kind == RQ_LQ_UNARY || gr.kind == RQ_LQ_PAIR) && (gr.range == RQ_LQ_UNIT || gr.range == RQ_LQ_TANH);
    if (w->compat && gr.fixed && gr.level >= RQ_LQ_ANCESTOR)
        gr.cfg = NULL; /* the original finds no fixed range in a config by name, and leaves the operator */
    if (!rq_mem_grow(&w->p->groups, w->p->n_groups, &w->p->cap_groups, sizeof *w->p->groups))
        return rq_lq_no_memory(w->err);
    w->p->group_of[gr.root] = w->p->group_of[gr.last] = w->p->n_groups;
    if (gr.bias_add >= 0)
        w->p->group_of[gr.bias_add] = w->p->n_groups;
    if (gr.norm >= 0)
        w->p->group_of[gr.norm] = w->p->n_groups;
    if (gr.act >= 0)
        w->p->group_of[gr.act] = w->p->n_groups;
    if (gr.cfg || gr.kind == RQ_LQ_DROPOUT) /* a dropout passes on what it gets whatever the config says of it */
        w->p->groups[w->p->n_groups++] = gr;
    else { /* all of it is computed in float, its batch norm and activation too */
        w->p->positive[gr.last] = is_positive(&gr, w->compat);
        for (int i = 0; i < w->p->n_nodes; i++)
            if (w->p->group_of[i] == w->p->n_groups)
                w->p->group_of[i] = LEFT;
    }
    return RQ_OK;
}

rq_status rq_lq_find_groups(rq_lq_plan *p, rq_graph *g, const rq_linear_quantizer_config *c, rq_err *err)
{
    walk w = { .p = p, .g = g, .c = c, .compat = rq_linear_quantizer_config_is_compat(c), .err = err };
    p->n_nodes = g->n_nodes;
    p->group_of = rq_mem_alloc((size_t)g->n_nodes + 1, sizeof *p->group_of);
    p->positive = rq_mem_zalloc((size_t)g->n_nodes + 1, sizeof *p->positive);
    p->decides = rq_mem_zalloc((size_t)rq_linear_quantizer_config_rules(c) + 1, sizeof *p->decides);
    if (!p->group_of || !p->positive || !p->decides)
        return rq_lq_no_memory(err);
    bool *norm = rq_mem_zalloc((size_t)g->n_nodes + 1, sizeof *norm);
    rq_status s = norm ? rq_order(g, &w.order, &w.n_order, err) : rq_lq_no_memory(err);
    if (!s && !w.compat)
        rq_lq_find_norms(g, norm);
    for (int i = 0; i < g->n_nodes; i++)
        p->group_of[i] = norm && norm[i] ? LEFT : NONE;
    rq_mem_free(norm);
    for (int i = 0; !s && i < w.n_order; i++)
        if (p->group_of[w.order[i]] == NONE)
            s = add_group(&w, w.order[i]);
    for (int i = 0; i < g->n_nodes; i++)
        p->group_of[i] = p->group_of[i] < 0 ? -1 : p->group_of[i];
    for (int i = 0; !s && i < p->n_groups; i++) {
        const rq_lq_group *gr = &p->groups[i];
        if (gr->cfg && gr->cfg->activation_dtype == RQ_DTYPE_F32)
            p->positive[gr->last] = is_positive(gr, w.compat);
    }
    p->order = w.order;
    p->n_order = w.n_order;
    return s;
}
