/* ops/upgrade_old.c — models of opsets 1 to 6 in the words of opset 7, before anything else looks at them.
 *
 * First what a node says by itself (attributes that became inputs, types by name, switches of training). Then the operators
 * that lined up their second operand by an `axis` instead of at the last axes, as numpy does: that needs the number of axes of
 * the first, so shapes are inferred in between (rq_infer_broadcast reads the old attributes). */
#include <string.h>

#include "ops/op.h"
#include "ops/rewrite.h"
#include "ops/upgrade.h"

static rq_status no_memory(const rq_graph *g, rq_id node, rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory upgrading node '%s'", g->nodes[node].name);
}

static rq_status no_equal(const rq_graph *g, rq_id node, const char *why, rq_err *err)
{
    return rq_node_fail(g, &g->nodes[node], err, RQ_UNSUPPORTED, "cannot be written in opset 7: %s", why);
}

static const char *base_of(const rq_graph *g, rq_id node)
{
    const rq_node *n = &g->nodes[node];
    return n->n_out && n->out[0] != RQ_NONE ? g->values[n->out[0]].name : n->name;
}

static const rq_tensor *constant(const rq_graph *g, rq_id v)
{
    return v != RQ_NONE && g->values[v].kind == RQ_VALUE_CONST ? &g->values[v].constant : NULL;
}

/* ---- what a node says by itself ---- */

static rq_status reshape_5(rq_graph *g, rq_id node, rq_err *err)
{
    int n;
    rq_id made;
    const int64_t *v = rq_attr_ints(&g->nodes[node], RQ_WORD_shape, &n);
    if (!v)
        return RQ_OK;
    RQ_TRY(rq_rewrite_ints(g, v, n, base_of(g, node), "_shape", &made, err));
    if (rq_graph_set_input(g, node, 1, made))
        return no_memory(g, node, err);
    rq_attr_remove(g, node, "shape");
    return RQ_OK;
}

static rq_status pad_2(rq_graph *g, rq_id node, rq_err *err)
{
    int n;
    const int64_t *v = rq_attr_ints(&g->nodes[node], RQ_WORD_paddings, &n);
    if (!v)
        return RQ_OK;
    if (rq_attr_set_ints(g, node, "pads", v, n))
        return no_memory(g, node, err);
    rq_attr_remove(g, node, "paddings");
    return RQ_OK;
}

static rq_status split_2(rq_graph *g, rq_id node, rq_err *err)
{
    int64_t v[64];
    const rq_node *n = &g->nodes[node];
    if (n->n_in < 2 || n->in[1] == RQ_NONE)
        return RQ_OK;
    const rq_tensor *t = constant(g, n->in[1]);
    const int64_t count = t ? rq_tensor_count(t) : 0;
    if (!t || count > (int64_t)(sizeof v / sizeof v[0]))
        return no_equal(g, node, "its parts are computed, or too many", err);
    for (int64_t i = 0; i < count; i++)
        v[i] = (int64_t)rq_tensor_get(t, i);
    if (rq_attr_set_ints(g, node, "split", v, (int)count))
        return no_memory(g, node, err);
    g->nodes[node].n_in = 1;
    return RQ_OK;
}

static rq_status concat_4(rq_graph *g, rq_id node, rq_err *err)
{
    if (!rq_attr_find(&g->nodes[node], RQ_WORD_axis) && rq_attr_set_int(g, node, "axis", 1))
        return no_memory(g, node, err);
    return RQ_OK;
}

static rq_status cast_6(rq_graph *g, rq_id node, rq_err *err)
{
    static const char *const names[] = { "UNDEFINED", "FLOAT",  "UINT8",     "INT8",      "UINT16",  "INT16",
                                         "INT32",     "INT64",  "STRING",    "BOOL",      "FLOAT16", "DOUBLE",
                                         "UINT32",    "UINT64", "COMPLEX64", "COMPLEX128" };
    const char *to = rq_attr_string(&g->nodes[node], RQ_WORD_to, NULL);
    if (!to)
        return RQ_OK;
    for (int i = 0; i < (int)(sizeof names / sizeof names[0]); i++)
        if (!strcmp(names[i], to)) {
            rq_attr_remove(g, node, "to");
            return rq_attr_set_int(g, node, "to", i) ? no_memory(g, node, err) : RQ_OK;
        }
    return no_equal(g, node, "it casts to a type that does not exist", err);
}

/* Tile 1 repeats one axis. */
static rq_status tile_6(rq_graph *g, rq_id node, rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    if (n->n_in != 3)
        return RQ_OK;
    const rq_tensor *tiles = constant(g, n->in[1]), *axis = constant(g, n->in[2]);
    const int rank = constant(g, n->in[0]) ? constant(g, n->in[0])->shape.rank : g->values[n->in[0]].shape.rank;
    if (!tiles || !axis || rq_tensor_count(tiles) != 1 || rq_tensor_count(axis) != 1 || rank < 0)
        return no_equal(g, node, "its tiles, its axis or the number of axes of its input is not known", err);
    const int at = rq_infer_axis((int64_t)rq_tensor_get(axis, 0), rank);
    int64_t repeats[RQ_MAX_RANK];
    rq_id made;
    if (at < 0)
        return no_equal(g, node, "its axis is none of its input's", err);
    for (int i = 0; i < rank; i++)
        repeats[i] = i == at ? (int64_t)rq_tensor_get(tiles, 0) : 1;
    RQ_TRY(rq_rewrite_ints(g, repeats, rank, base_of(g, node), "_repeats", &made, err));
    if (rq_graph_set_input(g, node, 1, made))
        return no_memory(g, node, err);
    g->nodes[node].n_in = 2;
    return RQ_OK;
}

static rq_status upsample_7(rq_graph *g, rq_id node, rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    if (!rq_attr_find(n, RQ_WORD_height_scale))
        return RQ_OK;
    const float scales[] = { 1, 1, rq_attr_float(n, RQ_WORD_height_scale, 1),
                             rq_attr_float(n, RQ_WORD_width_scale, 1) };
    rq_attr_remove(g, node, "height_scale");
    rq_attr_remove(g, node, "width_scale");
    rq_attr *a = rq_attr_add(g, node, "scales", RQ_ATTR_FLOATS);
    float *own = a ? rq_arena_alloc(&g->names, 4, sizeof *own) : NULL;
    if (!own)
        return no_memory(g, node, err);
    memcpy(own, scales, sizeof scales);
    a->floats = own;
    a->n = 4;
    return RQ_OK;
}

/* These said whether the network trains; what has one output runs as it does afterwards. */
static rq_status drop_is_test(rq_graph *g, rq_id node, rq_err *err)
{
    (void)err;
    rq_attr_remove(g, node, "is_test");
    return RQ_OK;
}

static rq_status drop_output_sequence(rq_graph *g, rq_id node, rq_err *err)
{
    (void)err;
    rq_attr_remove(g, node, "output_sequence");
    return RQ_OK;
}

static rq_status drop_broadcast(rq_graph *g, rq_id node, rq_err *err)
{
    (void)err;
    rq_attr_remove(g, node, "broadcast");
    return RQ_OK;
}

/* One slope per channel: axis 1. */
static rq_status prelu_7(rq_graph *g, rq_id node, rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    if (n->n_in < 2 || n->in[1] == RQ_NONE)
        return RQ_OK; /* the row says what is missing */
    const rq_value *slope = &g->values[n->in[1]];
    const rq_shape *s = slope->kind == RQ_VALUE_CONST ? &slope->constant.shape : &slope->shape;
    if (s->rank != 1 || s->dim[0] == 1)
        return RQ_OK;
    return rq_attr_set_int(g, node, "broadcast", 1) || rq_attr_set_int(g, node, "axis", 1) ? no_memory(g, node, err)
                                                                                           : RQ_OK;
}

static const struct change {
    const char *op;
    rq_status (*convert)(rq_graph *g, rq_id node, rq_err *err);
} changes[] = {
    { "BatchNormalization", drop_is_test },
    { "Cast", cast_6 },
    { "Concat", concat_4 },
    { "Dropout", drop_is_test },
    { "GRU", drop_output_sequence },
    { "Gemm", drop_broadcast },
    { "LSTM", drop_output_sequence },
    { "PRelu", prelu_7 },
    { "Pad", pad_2 },
    { "RNN", drop_output_sequence },
    { "Reshape", reshape_5 },
    { "Split", split_2 },
    { "Tile", tile_6 },
    { "Upsample", upsample_7 },
};

static rq_status convert_alone(rq_graph *g, rq_id node, rq_err *err)
{
    rq_attr_remove(g, node, "consumed_inputs");
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
        if (rq_rewrite_is(&g->nodes[node], changes[i].op)) {
            RQ_TRY(rq_upgrade_sound(g, &g->nodes[node], err));
            return changes[i].convert(g, node, err);
        }
    return RQ_OK;
}

/* ---- what needs the number of axes ---- */

/* Input 1 gets `more` axes of size 1 at its end. */
static rq_status widen(rq_graph *g, rq_id node, int rank, int more, rq_err *err)
{
    const rq_id b = g->nodes[node].in[1];
    rq_id made;
    if (g->values[b].kind == RQ_VALUE_CONST) {
        rq_tensor t;
        rq_tensor_share(&t, &g->values[b].constant);
        for (int i = 0; i < more; i++)
            t.shape.dim[t.shape.rank++] = 1;
        const char *name = rq_rewrite_name(g, g->values[b].name, "_axes");
        rq_status st = name ? rq_graph_add_const(g, &made, name, &t, err) : no_memory(g, node, err);
        rq_tensor_release(&t);
        RQ_TRY(st);
    } else {
        int64_t axes[RQ_MAX_RANK];
        rq_id unsqueeze;
        for (int i = 0; i < more; i++)
            axes[i] = rank + i;
        RQ_TRY(rq_rewrite_add(g, "Unsqueeze", &b, 1, base_of(g, node), "_axes", g->values[b].dtype, &made, &unsqueeze,
                              err));
        if (rq_attr_set_ints(g, unsqueeze, "axes", axes, more))
            return no_memory(g, node, err);
    }
    return rq_graph_set_input(g, node, 1, made) ? no_memory(g, node, err) : RQ_OK;
}

static bool aligns(const rq_node *n)
{
    static const char *const ops[] = { "Add", "And", "Div",   "Equal", "Greater", "Less",
                                       "Mul", "Or",  "PRelu", "Pow",   "Sub",     "Xor" };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (rq_rewrite_is(n, ops[i]))
            return true;
    return false;
}

static rq_status convert_aligned(rq_graph *g, rq_id node, rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    if (!aligns(n) || n->n_in != 2 || n->in[0] == RQ_NONE || n->in[1] == RQ_NONE)
        return RQ_OK;
    if (rq_attr_int(n, RQ_WORD_broadcast, 0) && rq_attr_find(n, RQ_WORD_axis)) {
        const int a = g->values[n->in[0]].shape.rank, b = g->values[n->in[1]].shape.rank;
        if (a < 0 || b < 0)
            return no_equal(g, node, "the number of axes of its inputs is not known", err);
        const int axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, 0), a);
        if (axis < 0 || axis + b > a)
            return no_equal(g, node, "its second input does not fit at its axis", err);
        if (axis + b < a && b > 0)
            RQ_TRY(widen(g, node, b, a - axis - b, err));
    }
    rq_attr_remove(g, node, "broadcast");
    rq_attr_remove(g, node, "axis");
    return RQ_OK;
}

/* ---- both ---- */

static rq_status each_node(rq_graph *g, rq_status (*fn)(rq_graph *g, rq_id node, rq_err *err), rq_err *err)
{
    for (rq_id i = 0, n = g->n_nodes; i < n; i++) {
        for (int a = 0; g->nodes[i].op && a < g->nodes[i].n_attr; a++) {
            const rq_attr *at = &g->nodes[i].attr[a];
            for (int k = 0; k < rq_attr_bodies(at); k++)
                RQ_TRY(each_node(at->g[k], fn, err));
        }
        if (g->nodes[i].op)
            RQ_TRY(fn(g, i, err));
    }
    return RQ_OK;
}

rq_status rq_upgrade_old(rq_graph *g, rq_err *err)
{
    const int64_t from = rq_graph_opset(g, "");
    if (!from || from >= 7)
        return RQ_OK;
    if (rq_graph_set_opset(g, "", 7))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory raising the opset");
    RQ_TRY(each_node(g, convert_alone, err));
    rq_ops_bind(g);
    RQ_TRY(rq_ops_check(g, false, err));
    RQ_TRY(rq_ops_infer(g, err));
    RQ_TRY(each_node(g, convert_aligned, err));
    rq_graph_prune(g);
    return RQ_OK;
}
