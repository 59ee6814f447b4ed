/* algo/place_ort.c — placement as ONNX Runtime's static quantizer does it in its QDQ form (onnx-facts 4.6): every node
 * of the chosen operator types marks its inputs and outputs, in the order of the graph; whether an operator that only
 * moves numbers takes part depends on what was marked before it came. place.c is the placement that we choose
 * ourselves.
 *
 *   own      codes with parameters of the value's own range (a constant's: of its numbers, in the activation type)
 *   shared   codes with the parameters of another value
 *   weight   a constant in the weight type, per tensor or along an axis */
#include "algo/place.h"
#include "graph/query.h"

#include <string.h>

typedef enum mark { NONE, OWN, SHARED, WEIGHT } mark;

typedef struct work {
    rq_placement *p;
    const rq_graph *g;
    const rq_settings *base;
    const rq_recipe *recipe;
    const rq_place_ban *ban;
    rq_id *order;
    int n_order;
    int32_t *uses;
    mark *mark;      /* [n_values] */
    rq_id *provider; /* [n_values] of a shared one */
    rq_id *user;     /* [n_values] node that marked it */
    int *axis;       /* [n_values] of a weight */
    rq_id *clamp;    /* [n_values] node that is swallowed into this value's range, or RQ_NONE */
    rq_id *bias_of;  /* [n_nodes] input 2 when it is to be s32, or RQ_NONE */
    bool *bias;      /* [n_values] is a bias of some node */
    rq_err *err;
} work;

static rq_status no_memory(work *w)
{
    return rq_fail(w->err, RQ_NO_MEMORY, "out of memory placing quantization");
}

static bool is_real(const work *w, rq_id v)
{
    return v >= 0 && w->g->values[v].dtype == RQ_DTYPE_F32;
}

static rq_settings node_settings(const work *w, const rq_node *n)
{
    return rq_recipe_resolve(w->recipe, w->base, n->op, n->name, NULL);
}

/* The QOperator form has a quantizer of its own, that differs in places. */
static bool is_qoperator(const work *w)
{
    return w->base->compat == RQ_COMPAT_ONNXRUNTIME_QOPERATOR;
}

/* A value's: its maker's (or, of an input or constant, its user's), then the rules that name it. */
static rq_settings settings_of(const work *w, rq_id v, const rq_node *user)
{
    const rq_value *value = &w->g->values[v];
    const rq_node *n = value->kind == RQ_VALUE_NODE ? &w->g->nodes[value->producer] : user;
    return rq_recipe_resolve(w->recipe, w->base, n ? n->op : NULL, n ? n->name : NULL,
                             value->name[0] ? value->name : NULL);
}

/* ---- which nodes ---- */

static const char *const chosen_ops[] = {
    "ArgMax",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "Add",
    "Mul",
    "Relu",
    "Clip",
    "LeakyRelu",
    "Sigmoid",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Split",
    "Pad",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Resize",
    "Concat",
    "Softmax",
    "Where",
    "Gather",
    "Transpose",
    "Slice",
    "GatherElements",
    "TopK",
    "CumSum",
    "EmbedLayerNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "BatchNormalization",
    NULL,
};

/* Why a node stays in float, or NULL. A recipe's `float` counts in both directions. */
static const char *left_out(const work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    const bool listed = w->ban && w->ban->ops ? true : rq_place_in_list(chosen_ops, n->op);
    rq_settings base = *w->base;
    base.keep_float = !listed;
    if (rq_recipe_resolve(w->recipe, &base, n->op, n->name, NULL).keep_float)
        return listed ? "the recipe keeps it in float" : "ONNX Runtime does not quantize it unless told to";
    if (rq_place_left_out(w->ban, n))
        return rq_place_left_out(w->ban, n);
    if (!strcmp(n->op, "QuantizeLinear") || !strcmp(n->op, "DequantizeLinear"))
        return "it is a quantization already";
    if (!strcmp(n->op, "MatMul") && !rq_graph_is_const(w->g, rq_node_in(n, 1)) && node_settings(w, n).const_matmul)
        return "products of two activations stay in float";
    return w->ban && w->ban->node ? w->ban->node[id] : NULL;
}

/* Must this value stay in float, whoever asks? */
static bool forbidden(const work *w, rq_id v)
{
    if (w->ban && w->ban->value && w->ban->value[v])
        return true;
    const rq_settings none = { 0 };
    return w->g->values[v].name[0] && rq_recipe_resolve(w->recipe, &none, NULL, NULL, w->g->values[v].name).keep_float;
}

/* ---- marks ---- */

static bool is_marked(const work *w, rq_id v)
{
    return v >= 0 && (w->mark[v] != NONE || w->bias[v]);
}

static void mark_own(work *w, rq_id v, rq_id user)
{
    if (!is_real(w, v) || w->mark[v] != NONE || forbidden(w, v))
        return;
    w->mark[v] = OWN;
    w->user[v] = user;
}

/* Whatever it was before. */
static void mark_shared(work *w, rq_id v, rq_id provider, rq_id user)
{
    if (!is_real(w, v) || forbidden(w, v))
        return;
    w->mark[v] = SHARED;
    w->provider[v] = provider;
    w->user[v] = user;
}

/* Constants only; along `axis` where the settings and the rank allow, which then takes the place of an earlier mark. */
static void mark_weight(work *w, rq_id v, int axis, rq_id user)
{
    if (!rq_graph_is_const(w->g, v)) {
        mark_own(w, v, user);
        return;
    }
    if (!is_real(w, v) || forbidden(w, v))
        return;
    const rq_settings s = settings_of(w, v, &w->g->nodes[user]);
    const int rank = w->g->values[v].constant.shape.rank;
    axis = s.has_axis ? s.axis : axis;
    axis = axis < 0 ? axis + rank : axis;
    const bool channels = !s.per_tensor && axis >= 0 && axis < rank;
    if (!channels && w->mark[v] != NONE)
        return;
    w->mark[v] = WEIGHT;
    w->axis[v] = channels ? axis : RQ_PER_TENSOR;
    w->user[v] = user;
}

static void mark_bias(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    const rq_id b = rq_node_in(n, 2);
    if (!rq_graph_is_const(w->g, b) || !is_real(w, b))
        return;
    if (rq_recipe_names_tensor(w->recipe, w->g->values[b].name)) { /* who names it gets it as a weight */
        mark_weight(w, b, 0, id);
        return;
    }
    w->bias[b] = true;
    w->bias_of[id] = b;
}

static void mark_outputs(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    for (int i = 0; i < n->n_out && !node_settings(w, n).float_output; i++)
        mark_own(w, n->out[i], id);
}

/* ---- kinds of operators ---- */

static void place_generic(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    for (int i = 0; i < n->n_in; i++)
        mark_own(w, n->in[i], id);
    mark_outputs(w, id);
}

static void place_conv(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    mark_own(w, rq_node_in(n, 0), id);
    mark_outputs(w, id);
    mark_weight(w, rq_node_in(n, 1), strcmp(n->op, "ConvTranspose") ? 0 : 1, id);
    mark_bias(w, id);
}

static void place_gemm(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    mark_own(w, rq_node_in(n, 0), id);
    mark_outputs(w, id);
    mark_weight(w, rq_node_in(n, 1), rq_attr_int(n, RQ_WORD_transB, 0) ? 0 : 1, id);
    if (rq_attr_float(n, RQ_WORD_beta, 1) == 1) /* beta times an s32 bias is no sum of products any more */
        mark_bias(w, id);
}

/* Axis 1, also where more than two axes make it another than the columns (QOperator: the last). */
static void place_matmul(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    for (int i = 0; i < n->n_in; i++)
        mark_weight(w, n->in[i], is_qoperator(w) ? -1 : 1, id);
    mark_outputs(w, id);
}

static void place_norm(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    mark_own(w, rq_node_in(n, 0), id);
    mark_weight(w, rq_node_in(n, 1), 1, id);
    mark_bias(w, id);
    mark_outputs(w, id);
}

/* Operators that pass numbers on take part when what they pass has codes. */
static void place_move(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    const int64_t opset = rq_graph_opset(w->g, "");
    if ((!strcmp(n->op, "MaxPool") && opset < 12) || (!strcmp(n->op, "Resize") && opset < 11))
        return;
    if (node_settings(w, n).force_moves)
        mark_own(w, rq_node_in(n, 0), id);
    if (is_marked(w, rq_node_in(n, 0)) && !node_settings(w, n).float_output)
        mark_shared(w, rq_node_out(n, 0), rq_node_in(n, 0), id);
}

static void place_split(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    mark_own(w, rq_node_in(n, 0), id);
    for (int i = 0; i < n->n_out && !node_settings(w, n).float_output; i++)
        mark_shared(w, n->out[i], rq_node_in(n, 0), id);
}

static void place_gather(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    const rq_id x = rq_node_in(n, 0);
    const bool table = rq_graph_is_const(w->g, x) && is_real(w, x);
    if (table || (node_settings(w, n).force_moves && !is_qoperator(w)))
        mark_own(w, x, id);
    if (is_marked(w, x) && (table || !is_qoperator(w)))
        mark_shared(w, rq_node_out(n, 0), x, id);
}

static void place_pad(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    const char *mode = rq_attr_string(n, RQ_WORD_mode, "constant");
    const rq_id fill = rq_node_in(n, 2);
    bool same = !strcmp(mode, "reflect") || !strcmp(mode, "edge") || !strcmp(mode, "wrap");
    if (!strcmp(mode, "constant") && is_real(w, rq_node_in(n, 0)))
        same = fill == RQ_NONE ? rq_attr_float(n, RQ_WORD_value, 0) == 0
                               : rq_graph_is_const(w->g, fill) && rq_tensor_count(&w->g->values[fill].constant) == 1 &&
                                     rq_tensor_get(&w->g->values[fill].constant, 0) == 0;
    for (int i = 0; i < n->n_in; i++)
        mark_own(w, n->in[i], id);
    if (same && !node_settings(w, n).float_output)
        mark_shared(w, rq_node_out(n, 0), rq_node_in(n, 0), id);
    else
        mark_outputs(w, id);
}

static void place_where(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    if (node_settings(w, n).force_moves) {
        mark_own(w, rq_node_in(n, 1), id);
        mark_own(w, rq_node_in(n, 2), id);
    }
    if (is_marked(w, rq_node_in(n, 1)) && is_marked(w, rq_node_in(n, 2)))
        mark_outputs(w, id);
}

/* Relu, Clip: the codes before it do its work, where it is their only reader. */
static void place_clamp(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    const rq_id x = rq_node_in(n, 0), y = rq_node_out(n, 0);
    const rq_settings s = node_settings(w, n);
    if (!is_marked(w, x) || y == RQ_NONE)
        return;
    if (!s.symmetric_activations && !s.keep_clamps && !s.float_output && is_real(w, y) && !forbidden(w, y) &&
        w->uses[x] == 1 && w->g->values[x].kind == RQ_VALUE_NODE && !rq_graph_is_output(w->g, x)) {
        w->mark[x] = NONE;
        w->clamp[y] = id;
    } else {
        mark_own(w, x, id);
    }
    mark_outputs(w, id);
}

static const struct {
    const char *op;
    void (*place)(work *w, rq_id id);
} kinds[] = {
    { "Conv", place_conv },
    { "ConvTranspose", place_conv },
    { "Gemm", place_gemm },
    { "MatMul", place_matmul },
    { "Relu", place_clamp },
    { "Clip", place_clamp },
    { "Reshape", place_move },
    { "Transpose", place_move },
    { "Squeeze", place_move },
    { "Unsqueeze", place_move },
    { "Flatten", place_move },
    { "Resize", place_move },
    { "MaxPool", place_move },
    { "AveragePool", place_move },
    { "Slice", place_move },
    { "TopK", place_move },
    { "Pad", place_pad },
    { "Split", place_split },
    { "Gather", place_gather },
    { "GatherElements", place_gather },
    { "Where", place_where },
    { "InstanceNormalization", place_norm },
    { "LayerNormalization", place_norm },
    { "BatchNormalization", place_norm },
};

static void place_node(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    w->p->reason[id] = left_out(w, id);
    if (w->p->reason[id])
        return;
    w->p->integer[id] = true;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (!strcmp(n->op, kinds[i].op) && !n->domain[0]) {
            kinds[i].place(w, id);
            return;
        }
    place_generic(w, id);
}

/* ---- from marks to groups and weights ---- */

/* The value whose parameters v has. */
static rq_id root_of(const work *w, rq_id v)
{
    rq_id r = v;
    while (w->mark[r] == SHARED)
        r = w->provider[r];
    return w->mark[r] == OWN ? r : v;
}

/* Softmax ends at 0 and 1, whatever was seen. */
static bool is_unit(const work *w, rq_id v)
{
    const rq_value *value = &w->g->values[v];
    return value->kind == RQ_VALUE_NODE && w->p->integer[value->producer] &&
           !strcmp(w->g->nodes[value->producer].op, "Softmax");
}

/* What goes nowhere but into a Relu or Clip is told apart no further than behind it. */
static rq_id like_of(const work *w, rq_id v)
{
    rq_id user;
    if (w->uses[v] - rq_graph_is_output(w->g, v) != 1 || rq_graph_uses(w->g, v, &user, 1) < 1)
        return RQ_NONE;
    const rq_node *n = &w->g->nodes[user];
    const bool clamps = n->op && (!strcmp(n->op, "Relu") || !strcmp(n->op, "Clip")) && w->p->integer[user];
    return clamps && n->in[0] == v ? rq_node_out(n, 0) : RQ_NONE;
}

static rq_status add_group(work *w, rq_id v)
{
    rq_placement *p = w->p;
    if (!rq_mem_grow(&p->groups, p->n_groups, &p->cap_groups, sizeof *p->groups))
        return no_memory(w);
    p->groups[p->n_groups] = (rq_place_group) {
        .value = v,
        .s = settings_of(w, v, &w->g->nodes[w->user[v]]),
        .unit = is_unit(w, v),
        .like = like_of(w, v),
        .clamp = w->clamp[v],
        .constant = rq_graph_is_const(w->g, v),
    };
    p->group[v] = p->n_groups++;
    return RQ_OK;
}

static rq_status form_groups(work *w)
{
    for (rq_id v = 0; v < w->g->n_values; v++)
        if (w->mark[v] == OWN || (w->mark[v] == SHARED && root_of(w, v) == v))
            RQ_TRY(add_group(w, v));
    for (rq_id v = 0; v < w->g->n_values; v++)
        if (w->mark[v] == SHARED)
            w->p->group[v] = w->p->group[root_of(w, v)];
    return RQ_OK;
}

/* Channels share one zero point, so they are symmetric, unless a rule for the tensor says otherwise. */
static bool is_symmetric(const work *w, rq_id v, const rq_settings *s)
{
    if (w->axis[v] == RQ_PER_TENSOR || is_qoperator(w))
        return s->symmetric_weights;
    rq_settings base = *s;
    base.symmetric_weights = true;
    return rq_recipe_resolve(w->recipe, &base, NULL, NULL, w->g->values[v].name).symmetric_weights;
}

static rq_status weight_index(work *w, rq_id v, int *at)
{
    rq_placement *p = w->p;
    for (*at = 0; *at < p->n_weights; ++*at)
        if (p->weights[*at].value == v)
            return RQ_OK;
    rq_settings s = settings_of(w, v, &w->g->nodes[w->user[v]]);
    /* channels of a Conv are s8 there, and symmetric if s8 is unless somebody says otherwise */
    if (is_qoperator(w) && w->axis[v] != RQ_PER_TENSOR && !strcmp(w->g->nodes[w->user[v]].op, "Conv")) {
        s.symmetric_weights |= s.weights == RQ_DTYPE_U8;
        s.weights = RQ_DTYPE_S8;
    }
    if (!rq_mem_grow(&p->weights, p->n_weights, &p->cap_weights, sizeof *p->weights))
        return no_memory(w);
    p->weights[p->n_weights++] = (rq_place_weight) {
        .value = v, .dtype = s.weights, .symmetric = is_symmetric(w, v, &s), .axis = w->axis[v], .s = s
    };
    return RQ_OK;
}

static rq_status add_use(work *w, rq_id id, int weight, int in, rq_id bias)
{
    rq_placement *p = w->p;
    if (!rq_mem_grow(&p->uses, p->n_uses, &p->cap_uses, sizeof *p->uses))
        return no_memory(w);
    p->uses[p->n_uses++] = (rq_place_use) { .node = id,
                                            .weight = weight,
                                            .in = in,
                                            .bias = bias,
                                            .float_bias = node_settings(w, &w->g->nodes[id]).float_bias };
    return RQ_OK;
}

/* The bias of a node, if x and w have codes and there is one number for each scale of w. */
static rq_id bias_of(const work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    const rq_id b = w->bias_of[id], x = rq_node_in(n, 0), t = rq_node_in(n, 1);
    if (b == RQ_NONE || x < 0 || t < 0 || w->p->group[x] < 0)
        return RQ_NONE;
    if (w->mark[t] == WEIGHT && w->axis[t] != RQ_PER_TENSOR)
        return rq_tensor_count(&w->g->values[b].constant) == w->g->values[t].constant.shape.dim[w->axis[t]] ? b
                                                                                                            : RQ_NONE;
    return w->mark[t] == WEIGHT || w->p->group[t] >= 0 ? b : RQ_NONE;
}

static rq_status place_weights(work *w, rq_id id)
{
    const rq_node *n = &w->g->nodes[id];
    rq_id bias = bias_of(w, id);
    for (int i = 0; i < n->n_in; i++) {
        int at;
        if (n->in[i] == RQ_NONE || w->mark[n->in[i]] != WEIGHT || !w->p->integer[id])
            continue;
        RQ_TRY(weight_index(w, n->in[i], &at));
        RQ_TRY(add_use(w, id, at, i, i == 1 ? bias : RQ_NONE));
        bias = i == 1 ? RQ_NONE : bias;
    }
    return bias == RQ_NONE ? RQ_OK : add_use(w, id, -1, 1, bias);
}

static rq_status place_all(work *w)
{
    rq_arena *a = &w->p->arena;
    const size_t values = (size_t)w->g->n_values, nodes = (size_t)w->g->n_nodes;
    w->mark = rq_arena_alloc(a, values, sizeof *w->mark);
    w->provider = rq_arena_alloc(a, values, sizeof *w->provider);
    w->user = rq_arena_alloc(a, values, sizeof *w->user);
    w->axis = rq_arena_alloc(a, values, sizeof *w->axis);
    w->clamp = rq_arena_alloc(a, values, sizeof *w->clamp);
    w->bias = rq_arena_alloc(a, values, sizeof *w->bias);
    w->bias_of = rq_arena_alloc(a, nodes, sizeof *w->bias_of);
    w->uses = rq_graph_use_counts(w->g);
    if (!w->mark || !w->provider || !w->user || !w->axis || !w->clamp || !w->bias || !w->bias_of || !w->uses)
        return no_memory(w);
    for (size_t i = 0; i < values; i++)
        w->clamp[i] = RQ_NONE;
    for (size_t i = 0; i < nodes; i++)
        w->bias_of[i] = RQ_NONE;
    RQ_TRY(rq_order(w->g, &w->order, &w->n_order, w->err));
    for (int i = 0; i < w->n_order; i++)
        place_node(w, w->order[i]);
    RQ_TRY(form_groups(w));
    for (int i = 0; i < w->n_order; i++)
        RQ_TRY(place_weights(w, w->order[i]));
    return RQ_OK;
}

rq_status rq_place_as_ort(rq_placement *p, const rq_graph *g, const rq_settings *base, const rq_recipe *recipe,
                          const rq_place_ban *ban, rq_err *err)
{
    work w = { .p = p, .g = g, .base = base, .recipe = recipe, .ban = ban, .err = err };
    const rq_status s = place_all(&w);
    rq_mem_free(w.uses);
    rq_mem_free(w.order);
    return s;
}
