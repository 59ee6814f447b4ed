/* ops/upgrade.c — one opset at a time: a table says which operators changed form or meaning in which opset, and how a node
 * of the one before is written in it. What only gained types or attributes with harmless defaults has no row. */
#include "ops/upgrade.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/op.h"
#include "ops/eval.h"
#include "ops/rewrite.h"

enum { OLDEST = 7, NEWEST = 25 };

static rq_status no_memory(const rq_graph *g, rq_id node, rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory upgrading node '%s'", g->nodes[node].name);
}

static rq_status no_equal(const rq_graph *g, rq_id node, const char *why, rq_err *err)
{
    return rq_fail(err, RQ_UNSUPPORTED, "node '%s' (%s) cannot be written in a newer opset: %s", g->nodes[node].name,
                   g->nodes[node].op, why);
}

/* What new values are named after: the node's first output. */
static const char *base_of(const rq_graph *g, rq_id node)
{
    const rq_node *n = &g->nodes[node];
    return n->n_out && n->out[0] != RQ_NONE ? g->values[n->out[0]].name : n->name;
}

/* Attribute `name`, a list of integers, becomes input i; nothing when it is absent. */
static rq_status ints_to_input(rq_graph *g, rq_id node, const char *name, int i, rq_err *err)
{
    int n;
    rq_id made;
    const int64_t *v = rq_attr_as_ints(rq_attr_named(&g->nodes[node], name), &n);
    if (!v)
        return RQ_OK;
    char suffix[32] = "_";
    strncat(suffix, name, sizeof suffix - 2);
    RQ_TRY(rq_rewrite_ints(g, v, n, base_of(g, node), suffix, &made, err));
    if (rq_graph_set_input(g, node, i, made))
        return no_memory(g, node, err);
    rq_attr_remove(g, node, name);
    return RQ_OK;
}

static rq_status float_to_input(rq_graph *g, rq_id node, const char *name, int i, rq_err *err)
{
    rq_id made;
    const rq_attr *a = rq_attr_named(&g->nodes[node], name);
    if (!a)
        return RQ_OK;
    char suffix[32] = "_";
    strncat(suffix, name, sizeof suffix - 2);
    RQ_TRY(rq_rewrite_float(g, rq_attr_as_float(a, 0), base_of(g, node), suffix, &made, err));
    if (rq_graph_set_input(g, node, i, made))
        return no_memory(g, node, err);
    rq_attr_remove(g, node, name);
    return RQ_OK;
}

/* ---- 9 ---- */

static rq_status batch_norm_9(rq_graph *g, rq_id node, rq_err *err)
{
    if (!rq_attr_int(&g->nodes[node], RQ_WORD_spatial, 1))
        return no_equal(g, node, "spatial = 0", err);
    rq_attr_remove(g, node, "spatial");
    return RQ_OK;
}

static rq_status upsample_9(rq_graph *g, rq_id node, rq_err *err)
{
    int n;
    rq_id made;
    const float *scales = rq_attr_floats(&g->nodes[node], RQ_WORD_scales, &n);
    if (!scales)
        return RQ_OK;
    RQ_TRY(rq_rewrite_floats(g, scales, n, base_of(g, node), "_scales", &made, err));
    if (rq_graph_set_input(g, node, 1, made))
        return no_memory(g, node, err);
    rq_attr_remove(g, node, "scales");
    return RQ_OK;
}

/* ---- 10 ---- */

static rq_status upsample_10(rq_graph *g, rq_id node, rq_err *err)
{
    rq_id in[2] = { g->nodes[node].in[0], g->nodes[node].n_in > 1 ? g->nodes[node].in[1] : RQ_NONE };
    return rq_rewrite_become(g, node, "Resize", in, 2, err);
}

static rq_status slice_10(rq_graph *g, rq_id node, rq_err *err)
{
    RQ_TRY(ints_to_input(g, node, "starts", 1, err));
    RQ_TRY(ints_to_input(g, node, "ends", 2, err));
    return ints_to_input(g, node, "axes", 3, err);
}

static rq_status topk_10(rq_graph *g, rq_id node, rq_err *err)
{
    int64_t k = rq_attr_int(&g->nodes[node], RQ_WORD_k, 1);
    rq_id made;
    RQ_TRY(rq_rewrite_ints(g, &k, 1, base_of(g, node), "_k", &made, err));
    if (rq_graph_set_input(g, node, 1, made))
        return no_memory(g, node, err);
    rq_attr_remove(g, node, "k");
    return RQ_OK;
}

/* ---- 11 ---- */

/* Resize 10 is asymmetric; its nearest takes the floor where it enlarges and the ceiling where it shrinks. */
static rq_status resize_11(rq_graph *g, rq_id node, rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    rq_id scales = n->n_in > 1 ? n->in[1] : RQ_NONE, x = n->in[0], roi;
    const char *rounding = "floor";
    const rq_tensor *t =
        scales != RQ_NONE && g->values[scales].kind == RQ_VALUE_CONST ? &g->values[scales].constant : NULL;
    if (!strcmp(rq_attr_string(n, RQ_WORD_mode, "nearest"), "nearest") && t && t->dtype == RQ_DTYPE_F32) {
        bool up = false, down = false;
        for (int64_t i = 0; i < rq_tensor_count(t); i++) {
            up |= t->f32[i] > 1;
            down |= t->f32[i] < 1;
        }
        if (up && down)
            return no_equal(g, node, "nearest with scales above and below 1", err);
        rounding = down ? "ceil" : "floor";
    }
    RQ_TRY(rq_rewrite_floats(g, NULL, 0, base_of(g, node), "_roi", &roi, err));
    rq_id in[3] = { x, roi, scales };
    RQ_TRY(rq_rewrite_become(g, node, "Resize", in, 3, err));
    if (rq_attr_set_string(g, node, "coordinate_transformation_mode", "asymmetric") ||
        rq_attr_set_string(g, node, "nearest_mode", rounding))
        return no_memory(g, node, err);
    return RQ_OK;
}

static rq_status clip_11(rq_graph *g, rq_id node, rq_err *err)
{
    RQ_TRY(float_to_input(g, node, "min", 1, err));
    return float_to_input(g, node, "max", 2, err);
}

static rq_status pad_11(rq_graph *g, rq_id node, rq_err *err)
{
    RQ_TRY(ints_to_input(g, node, "pads", 1, err));
    return float_to_input(g, node, "value", 2, err);
}

static rq_status scatter_11(rq_graph *g, rq_id node, rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    return rq_rewrite_become(g, node, "ScatterElements", n->in, n->n_in, err);
}

/* ---- 12, 13, 14 ---- */

/* When not training, the share that is dropped does not matter. */
static rq_status dropout_12(rq_graph *g, rq_id node, rq_err *err)
{
    (void)err;
    rq_attr_remove(g, node, "ratio");
    return RQ_OK;
}

static rq_status axes_to_1(rq_graph *g, rq_id node, rq_err *err)
{
    return ints_to_input(g, node, "axes", 1, err);
}

static rq_status split_13(rq_graph *g, rq_id node, rq_err *err)
{
    return ints_to_input(g, node, "split", 1, err);
}

static int rank_of(const rq_graph *g, rq_id v)
{
    const rq_value *x = &g->values[v];
    return x->kind == RQ_VALUE_CONST ? x->constant.shape.rank : x->shape.rank;
}

rq_status rq_upgrade_softmax(rq_graph *g, rq_id node, int64_t axis, rq_err *err)
{
    rq_id x = g->nodes[node].in[0], y = g->nodes[node].out[0], flat, made, shape;
    int rank = rank_of(g, x);
    if (rank > 0 && (axis < 0 ? axis + rank : axis) == rank - 1)
        return rq_attr_set_int(g, node, "axis", -1) ? no_memory(g, node, err) : RQ_OK;
    const char *base = g->values[y].name;
    rq_id flatten;
    RQ_TRY(rq_rewrite_add(g, "Flatten", &x, 1, base, "_flat", g->values[x].dtype, &flat, &flatten, err));
    RQ_TRY(rq_rewrite_add(g, "Shape", &x, 1, base, "_shape", RQ_DTYPE_S64, &shape, NULL, err));
    if (rq_attr_set_int(g, flatten, "axis", axis) || rq_attr_set_int(g, node, "axis", -1) ||
        rq_graph_set_input(g, node, 0, flat))
        return no_memory(g, node, err);
    RQ_TRY(rq_rewrite_detach(g, node, 0, "_rows", &made, err));
    g->values[made].shape = rq_shape_unknown();
    rq_id in[2] = { made, shape };
    return rq_rewrite_produce(g, "Reshape", "_Reshape", in, 2, y, NULL, err);
}

static rq_status softmax_13(rq_graph *g, rq_id node, rq_err *err)
{
    return rq_upgrade_softmax(g, node, rq_attr_int(&g->nodes[node], RQ_WORD_axis, 1), err);
}

static rq_status resize_13(rq_graph *g, rq_id node, rq_err *err)
{
    if (!strcmp(rq_attr_string(&g->nodes[node], RQ_WORD_coordinate_transformation_mode, ""), "tf_half_pixel_for_nn"))
        return no_equal(g, node, "coordinate_transformation_mode tf_half_pixel_for_nn is gone", err);
    return RQ_OK;
}

static rq_status batch_norm_14(rq_graph *g, rq_id node, rq_err *err)
{
    rq_node *n = &g->nodes[node];
    for (int i = 1; i < n->n_out; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        if (rq_graph_uses(g, n->out[i], NULL, 0))
            return no_equal(g, node, "its training outputs are used", err);
        rq_graph_remove_value(g, n->out[i]);
        n->out[i] = RQ_NONE;
    }
    n->n_out = 1;
    return RQ_OK;
}

/* ---- 18, 20, 21 ---- */

static rq_status split_18(rq_graph *g, rq_id node, rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    if (n->n_in > 1 && n->in[1] != RQ_NONE)
        return RQ_OK;
    return rq_attr_set_int(g, node, "num_outputs", n->n_out) ? no_memory(g, node, err) : RQ_OK;
}

/* Empty tensors stood for inputs left out. */
static rq_status resize_18(rq_graph *g, rq_id node, rq_err *err)
{
    (void)err;
    rq_node *n = &g->nodes[node];
    for (int i = 1; i < n->n_in && i < 3; i++)
        if (n->in[i] != RQ_NONE && g->values[n->in[i]].kind == RQ_VALUE_CONST &&
            rq_tensor_count(&g->values[n->in[i]].constant) == 0)
            n->in[i] = RQ_NONE;
    return RQ_OK;
}

static rq_status grid_sample_20(rq_graph *g, rq_id node, rq_err *err)
{
    const char *mode = rq_attr_string(&g->nodes[node], RQ_WORD_mode, "bilinear");
    const char *now = !strcmp(mode, "bilinear") ? "linear" : !strcmp(mode, "bicubic") ? "cubic" : mode;
    return rq_attr_set_string(g, node, "mode", now) ? no_memory(g, node, err) : RQ_OK;
}

static rq_status dft_20(rq_graph *g, rq_id node, rq_err *err)
{
    rq_shape scalar = rq_shape_of(0, NULL);
    rq_tensor t;
    rq_id made;
    if (rq_tensor_create(&t, RQ_DTYPE_S64, &scalar, false))
        return no_memory(g, node, err);
    t.s64[0] = rq_attr_int(&g->nodes[node], RQ_WORD_axis, 1);
    const char *name = rq_rewrite_name(g, base_of(g, node), "_axis");
    rq_status st = name ? rq_graph_add_const(g, &made, name, &t, err) : no_memory(g, node, err);
    rq_tensor_release(&t);
    RQ_TRY(st);
    rq_attr_remove(g, node, "axis");
    return rq_graph_set_input(g, node, 2, made) ? no_memory(g, node, err) : RQ_OK;
}

/* Scale and bias were per group, now they are per channel. */
static rq_status group_norm_21(rq_graph *g, rq_id node, rq_err *err)
{
    int64_t groups = rq_attr_int(&g->nodes[node], RQ_WORD_num_groups, 0);
    const rq_shape *x = &g->values[g->nodes[node].in[0]].shape;
    int64_t channels = x->rank > 1 ? x->dim[1] : -1;
    if (groups < 1 || channels < groups || channels % groups || g->nodes[node].n_in != 3)
        return no_equal(g, node, "its number of channels is not known", err);
    for (int i = 1; i < 3; i++) {
        if (g->nodes[node].in[i] == RQ_NONE)
            return no_equal(g, node, "scale or bias is left out", err);
        const rq_value *v = &g->values[g->nodes[node].in[i]];
        const rq_tensor *t = &v->constant;
        if (v->kind != RQ_VALUE_CONST || t->dtype != RQ_DTYPE_F32 || rq_tensor_count(t) != groups)
            return no_equal(g, node, "scale and bias are not constant", err);
        float *wide = rq_mem_alloc((size_t)channels, sizeof *wide);
        if (!wide)
            return no_memory(g, node, err);
        for (int64_t c = 0; c < channels; c++)
            wide[c] = t->f32[c / (channels / groups)];
        rq_id made;
        rq_status st = rq_rewrite_floats(g, wide, channels, v->name, "_channels", &made, err);
        rq_mem_free(wide);
        RQ_TRY(st);
        if (rq_graph_set_input(g, node, i, made))
            return no_memory(g, node, err);
    }
    return RQ_OK;
}

/* In order of opsets. */
static const struct change {
    int opset;
    const char *op;
    rq_status (*convert)(rq_graph *g, rq_id node, rq_err *err);
} changes[] = {
    { 9, "BatchNormalization", batch_norm_9 },
    { 9, "Upsample", upsample_9 },
    { 10, "Upsample", upsample_10 },
    { 10, "Slice", slice_10 },
    { 10, "TopK", topk_10 },
    { 11, "Resize", resize_11 },
    { 11, "Clip", clip_11 },
    { 11, "Pad", pad_11 },
    { 11, "Scatter", scatter_11 },
    { 12, "Dropout", dropout_12 },
    { 13, "Squeeze", axes_to_1 },
    { 13, "Unsqueeze", axes_to_1 },
    { 13, "ReduceSum", axes_to_1 },
    { 13, "Split", split_13 },
    { 13, "Softmax", softmax_13 },
    { 13, "LogSoftmax", softmax_13 },
    { 13, "Hardmax", softmax_13 },
    { 13, "Resize", resize_13 },
    { 14, "BatchNormalization", batch_norm_14 },
    { 18, "ReduceMean", axes_to_1 },
    { 18, "ReduceMax", axes_to_1 },
    { 18, "ReduceMin", axes_to_1 },
    { 18, "ReduceProd", axes_to_1 },
    { 18, "ReduceL1", axes_to_1 },
    { 18, "ReduceL2", axes_to_1 },
    { 18, "ReduceLogSum", axes_to_1 },
    { 18, "ReduceLogSumExp", axes_to_1 },
    { 18, "ReduceSumSquare", axes_to_1 },
    { 18, "Split", split_18 },
    { 18, "Resize", resize_18 },
    { 20, "GridSample", grid_sample_20 },
    { 20, "DFT", dft_20 },
    { 21, "GroupNormalization", group_norm_21 },
};

rq_status rq_upgrade_sound(const rq_graph *g, const rq_node *n, rq_err *err)
{
    if (n->n_in > 0 && n->in[0] != RQ_NONE && n->n_out > 0 && n->out[0] != RQ_NONE)
        return RQ_OK;
    return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "its first %s is left out",
                        n->n_in > 0 && n->in[0] != RQ_NONE ? "output" : "input");
}

static rq_status upgrade_graph(rq_graph *g, int opset, rq_err *err)
{
    for (rq_id i = 0, n = g->n_nodes; i < n; i++) {
        for (int a = 0; a < g->nodes[i].n_attr; a++) {
            const rq_attr *at = &g->nodes[i].attr[a];
            for (int k = 0; g->nodes[i].op && k < rq_attr_bodies(at); k++)
                RQ_TRY(upgrade_graph(at->g[k], opset, err));
        }
        for (size_t k = 0; k < sizeof changes / sizeof *changes; k++)
            if (changes[k].opset == opset && rq_rewrite_is(&g->nodes[i], changes[k].op)) {
                RQ_TRY(rq_upgrade_sound(g, &g->nodes[i], err));
                RQ_TRY(changes[k].convert(g, i, err));
                break;
            }
    }
    return RQ_OK;
}

rq_status rq_upgrade(rq_graph *g, int64_t opset, rq_err *err)
{
    static const int ir[] = {
        [10] = 5, [11] = 6, 7, 7, 7, 8, 8, 8, 8, 9, 9, 10, 10, 11, 12, 13
    }; /* docs/onnx-facts.md 1.7 */
    int64_t from = rq_graph_opset(g, "");
    if (opset > NEWEST || (from && from < OLDEST && from < opset))
        return rq_fail(err, RQ_UNSUPPORTED, "a model of opset %lld cannot be raised to opset %lld; %d to %d are known",
                       (long long)from, (long long)opset, OLDEST, NEWEST);
    for (int64_t v = from + 1; from && v <= opset; v++)
        RQ_TRY(upgrade_graph(g, (int)v, err));
    if (from < opset && rq_graph_set_opset(g, "", opset))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory raising the opset");
    int64_t now = rq_graph_opset(g, "");
    int64_t least = now > NEWEST ? ir[NEWEST] : now >= 10 ? ir[now] : 4;
    if (opset >= 10 && g->ir_version < least)
        g->ir_version = least;
    return RQ_OK;
}

/* What an operator may have gained without a change of what it was: attributes, and inputs at the end. */
static const struct gain {
    int opset;
    const char *op, *attr; /* attr NULL: more than n_in inputs */
    int n_in;
} gains[] = {
    { 10, "AveragePool", "ceil_mode", 0 },
    { 10, "MaxPool", "dilations", 0 },
    { 10, "MaxPool", "ceil_mode", 0 },
    { 11, "Gemm", NULL, -2 }, /* C may be missing */
    { 13, "QuantizeLinear", "axis", 0 },
    { 13, "DequantizeLinear", "axis", 0 },
    { 14, "Reshape", "allowzero", 0 },
    { 15, "Shape", "start", 0 },
    { 15, "Shape", "end", 0 },
    { 16, "ScatterND", "reduction", 0 },
    { 16, "ScatterElements", "reduction", 0 },
    { 18, "Pad", NULL, 3 },
    { 19, "AveragePool", "dilations", 0 },
    { 19, "Cast", "saturate", 0 },
    { 21, "QuantizeLinear", "block_size", 0 },
    { 21, "DequantizeLinear", "block_size", 0 },
};

/* The oldest opset that has the node as it stands. */
static int64_t oldest_of(const rq_node *n, int64_t now)
{
    int64_t oldest = n->row && n->row->since ? n->row->since : now;
    for (size_t k = 0; k < sizeof changes / sizeof *changes; k++)
        if (rq_rewrite_is(n, changes[k].op) && changes[k].opset > oldest && changes[k].opset <= now)
            oldest = changes[k].opset;
    for (size_t k = 0; k < sizeof gains / sizeof *gains; k++) {
        const struct gain *a = &gains[k];
        if (!rq_rewrite_is(n, a->op) || a->opset <= oldest || a->opset > now)
            continue;
        if (a->attr ? rq_attr_named(n, a->attr) != NULL : a->n_in < 0 ? n->n_in <= -a->n_in : n->n_in > a->n_in)
            oldest = a->opset;
    }
    return oldest;
}

static rq_status check_words(const rq_graph *g, int64_t now, int64_t opset, rq_err *err)
{
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op || (n->domain[0] && strcmp(n->domain, "ai.onnx") != 0))
            continue;
        const int64_t oldest = oldest_of(n, now);
        if (oldest > opset)
            return rq_fail(err, RQ_UNSUPPORTED, "opset %lld cannot be written: node '%s' (%s) is as opset %lld has it",
                           (long long)opset, n->name, n->op, (long long)oldest);
        for (int a = 0; a < n->n_attr; a++)
            for (int k = 0; k < rq_attr_bodies(&n->attr[a]); k++)
                RQ_TRY(check_words(n->attr[a].g[k], now, opset, err));
    }
    return RQ_OK;
}

rq_status rq_downgrade(rq_graph *g, int64_t opset, rq_err *err)
{
    const int64_t now = rq_graph_opset(g, "");
    if (now <= opset)
        return RQ_OK;
    RQ_TRY(check_words(g, now, opset, err));
    return rq_graph_set_opset(g, "", opset) ? rq_fail(err, RQ_NO_MEMORY, "out of memory lowering the opset") : RQ_OK;
}

/* ---- several opsets at once ---- */

enum { OLDEST_MIXED = 7, NEWEST_MIXED = 40 };

/* Opset of a tagged node; 0: it has no tag; -1: a tag that names no opset. */
static int64_t tagged_opset(const rq_node *n)
{
    const size_t len = strlen(RQ_UPGRADE_TAG);
    if (!n->op || strncmp(n->domain, RQ_UPGRADE_TAG, len))
        return 0;
    char *end;
    const long v = strtol(n->domain + len, &end, 10);
    return *end || v < OLDEST_MIXED || v > NEWEST_MIXED ? -1 : v;
}

typedef struct mixed {
    int64_t oldest, newest;
    bool bad;
} mixed;

typedef void (*mixed_fn)(rq_graph *g, rq_node *n, mixed *m, int64_t opset);

static void each_mixed(rq_graph *g, mixed_fn fn, mixed *m, int64_t opset)
{
    for (rq_id i = 0; i < g->n_nodes; i++) {
        rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        fn(g, n, m, opset);
        for (int a = 0; a < n->n_attr; a++)
            for (int k = 0; k < rq_attr_bodies(&n->attr[a]); k++)
                each_mixed(n->attr[a].g[k], fn, m, opset);
    }
}

static void find_range(rq_graph *g, rq_node *n, mixed *m, int64_t opset)
{
    const int64_t v = tagged_opset(n);
    m->bad |= v < 0;
    m->oldest = v > 0 && v < m->oldest ? v : m->oldest;
    m->newest = v > m->newest ? v : m->newest;
}

/* The model's own nodes step aside until their opset comes. */
static void hide(rq_graph *g, rq_node *n, mixed *m, int64_t opset)
{
    if (!n->domain[0] || !strcmp(n->domain, "ai.onnx"))
        n->domain = "\1";
}

static void show(rq_graph *g, rq_node *n, mixed *m, int64_t opset)
{
    if (tagged_opset(n) == opset)
        n->domain = "";
}

static void show_own(rq_graph *g, rq_node *n, mixed *m, int64_t opset)
{
    if (!strcmp(n->domain, "\1"))
        n->domain = "";
}

rq_status rq_upgrade_mixed(rq_graph *g, rq_err *err)
{
    const int64_t own = rq_graph_opset(g, "");
    mixed m = { own, own, false };
    each_mixed(g, find_range, &m, 0);
    if (m.bad || (m.oldest < m.newest && m.oldest < OLDEST_MIXED))
        return rq_fail(err, m.bad ? RQ_BAD_FILE : RQ_UNSUPPORTED,
                       "a function is for an opset that cannot stand beside the model's opset %lld", (long long)own);
    if (m.oldest == m.newest)
        return RQ_OK;
    RQ_TRY(rq_eval_constants(g, err));
    each_mixed(g, hide, &m, 0);
    for (int64_t v = m.oldest; v <= m.newest; v++) {
        if (v > m.oldest)
            RQ_TRY(upgrade_graph(g, (int)v, err)); /* those shown so far, from the opset before */
        each_mixed(g, show, &m, v);
        if (v == own)
            each_mixed(g, show_own, &m, v);
    }
    return rq_graph_set_opset(g, "", m.newest) ? rq_fail(err, RQ_NO_MEMORY, "out of memory raising the opset") : RQ_OK;
}
