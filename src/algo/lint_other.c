/* algo/lint_other.c — what TensorRT, OpenVINO's CPU plugin and QNN run in integers (docs/onnx-facts.md 5.2, 5.4, 5.5). They
 * look at whole graphs where ONNX Runtime looks at neighbours, so the rules are about what an operator reads. */
#include "algo/lint_priv.h"
#include "graph/query.h"

#include <string.h>

static bool is_one_of(const rq_node *n, const char *const *ops, size_t n_ops)
{
    for (size_t i = 0; i < n_ops; i++)
        if (rq_node_is(n, ops[i]))
            return true;
    return false;
}
#define ONE_OF(n, ops) is_one_of(n, ops, sizeof(ops) / sizeof *(ops))

static bool is_weighted(const rq_node *n)
{
    static const char *const ops[] = { "Conv", "ConvTranspose", "Gemm", "MatMul" };
    return ONE_OF(n, ops);
}

static bool is_real(const rq_graph *g, rq_id v)
{
    if (v < 0)
        return false;
    const rq_value *x = &g->values[v];
    return (x->kind == RQ_VALUE_CONST ? x->constant.dtype : x->dtype) == RQ_DTYPE_F32;
}

static rq_lint_codes from(const rq_lint_view *view, const rq_node *n, int i)
{
    return i < n->n_in && n->in[i] >= 0 ? view->from[n->in[i]] : (rq_lint_codes) { .node = RQ_NONE };
}

/* ---- TensorRT ---- */

/* Codes that TensorRT does not take; what: "input 0", "its result". */
static bool refuses(const rq_lint_codes *c, const char *what, rq_lint_answer *a)
{
    if (c->node == RQ_NONE)
        return false;
    if (c->dtype == RQ_DTYPE_S32)
        rq_lint_say(a, RQ_LINT_REFUSED, "5.2 rule 4", "%s has s32 codes; biases must be floats", what);
    else if (c->dtype != RQ_DTYPE_S8 && c->dtype != RQ_DTYPE_S4)
        rq_lint_say(a, RQ_LINT_REFUSED, "5.2 rule 1", "%s has %s codes, it takes s8", what, rq_dtype_name(c->dtype));
    else if (!c->symmetric)
        rq_lint_say(a, RQ_LINT_REFUSED, "5.2 rule 1", "%s has a zero point that is not 0", what);
    else if (!c->constant || !c->positive)
        rq_lint_say(a, RQ_LINT_REFUSED, "5.2 rule 1", "%s has a scale that is not a positive constant", what);
    return a->runs == RQ_LINT_REFUSED;
}

/* A weighted operator or an Add whose result is nothing but added, normalized or clamped: one kernel. */
static bool comes_from_weighted(const rq_lint_view *view, rq_id v)
{
    static const char *const fused[] = { "Relu", "Clip", "BatchNormalization", "Add", "Sigmoid", "Mul" };
    for (int depth = 0; depth < 8 && v >= 0 && view->g->values[v].kind == RQ_VALUE_NODE; depth++) {
        const rq_node *n = &view->g->nodes[view->g->values[v].producer];
        if (is_weighted(n))
            return from(view, n, 0).node != RQ_NONE && from(view, n, 1).node != RQ_NONE;
        if (!ONE_OF(n, fused))
            return false;
        rq_id next = n->in[0];
        if (n->n_in > 1 && view->from[n->in[0]].node != RQ_NONE)
            next = n->in[1];
        v = next;
    }
    return false;
}

/* Is there a pair further on, or further back, past operators that only move? */
static bool codes_behind(const rq_lint_view *view, rq_id v)
{
    for (int depth = 0; depth < 64 && v >= 0; depth++) {
        const rq_id r = view->reader[v];
        if (rq_lint_to(view, v).node != RQ_NONE)
            return true;
        if (r == RQ_NONE || !rq_lint_is_moving(&view->g->nodes[r]) || view->g->nodes[r].n_out != 1)
            return false;
        v = view->g->nodes[r].out[0];
    }
    return false;
}

static bool codes_before(const rq_lint_view *view, rq_id v)
{
    for (int depth = 0; depth < 64 && v >= 0 && view->g->values[v].kind == RQ_VALUE_NODE; depth++) {
        const rq_node *n = &view->g->nodes[view->g->values[v].producer];
        if (view->from[v].node != RQ_NONE)
            return true;
        if (!rq_lint_is_moving(n) || n->n_in < 1)
            return false;
        v = n->in[0];
    }
    return false;
}

void rq_lint_tensorrt(const rq_lint_view *view, rq_id node, rq_lint_answer *a)
{
    static const char *const pooled[] = { "MaxPool", "AveragePool", "GlobalAveragePool", "Concat" }, *const fused[] = {
        "Relu", "Clip", "BatchNormalization", "Add"
    };
    const rq_graph *g = view->g;
    const rq_node *n = &g->nodes[node];
    char what[24];
    if (!strncmp(n->op, "QLinear", 7) || !strcmp(n->domain, "com.microsoft") || rq_node_is(n, "ConvInteger") ||
        rq_node_is(n, "MatMulInteger")) {
        rq_lint_say(a, RQ_LINT_REFUSED, "5.2 rule 1", "it takes Q/DQ pairs around ordinary operators only");
        return;
    }
    bool any = false;
    for (int i = 0; i < n->n_in; i++) {
        const rq_lint_codes c = from(view, n, i);
        any |= c.node != RQ_NONE;
        snprintf(what, sizeof what, "input %d", i);
        if (refuses(&c, what, a))
            return;
    }
    for (int i = 0; i < n->n_out; i++) {
        const rq_lint_codes c = rq_lint_to(view, n->out[i]);
        any |= c.node != RQ_NONE;
        if (refuses(&c, "its result", a))
            return;
    }
    if (is_weighted(n)) {
        for (int i = 0; i < 2; i++)
            if (from(view, n, i).node == RQ_NONE) {
                rq_lint_say_no_dq(view, node, i, "5.2 rule 2", a);
                return;
            }
        return;
    }
    if (rq_lint_is_moving(n) || ONE_OF(n, pooled)) { /* Q and DQ move past it */
        if (!any && !codes_behind(view, n->out[0]) && !codes_before(view, n->in[0]))
            rq_lint_say(a, RQ_LINT_FLOAT, "5.2 rule 5", "no codes before or behind it");
        return;
    }
    if (ONE_OF(n, fused) && comes_from_weighted(view, n->out[0])) {
        if (!rq_node_is(n, "Add") || any)
            return;
        rq_lint_say(a, RQ_LINT_FLOAT, "5.2 rule 3", "neither of its inputs was dequantized");
        return;
    }
    rq_lint_say(a, RQ_LINT_FLOAT, "5.2 rule 2", "it is no weighted operator");
}

/* ---- OpenVINO ---- */

static bool need_codes(const rq_lint_view *view, rq_id node, int i, rq_lint_answer *a)
{
    const rq_node *n = &view->g->nodes[node];
    const rq_lint_codes c = from(view, n, i);
    if (c.node == RQ_NONE)
        return rq_lint_say_no_dq(view, node, i, "5.4 rule 1", a);
    if (rq_dtype_bits(c.dtype) != 8)
        return rq_lint_say(a, RQ_LINT_FLOAT, "5.4 rule 1", "input %d has codes of %d bits", i, rq_dtype_bits(c.dtype));
    return true;
}

/* Is input i of n more than one number? */
static bool is_vector(const rq_graph *g, const rq_node *n, int i)
{
    if (i >= n->n_in || n->in[i] < 0)
        return false;
    const rq_value *x = &g->values[n->in[i]];
    const rq_shape *s = x->kind == RQ_VALUE_CONST ? &x->constant.shape : &x->shape;
    return rq_shape_is_known(s) && rq_shape_count(s) != 1;
}

static bool is_2bit(const rq_graph *g, rq_id v)
{
    const rq_dtype d = v < 0                                 ? RQ_DTYPE_NONE
                       : g->values[v].kind == RQ_VALUE_CONST ? g->values[v].constant.dtype
                                                             : g->values[v].dtype;
    return d == RQ_DTYPE_S2 || d == RQ_DTYPE_U2;
}

bool rq_lint_openvino_takes(const rq_lint_view *view, rq_id node, rq_lint_answer *a)
{
    static const char *const unknown[] = { "QGemm",
                                           "QLinearConv",
                                           "QLinearConvTranspose",
                                           "QLinearGlobalAveragePool",
                                           "QLinearReduceSum",
                                           "QAttention",
                                           "QEmbedLayerNormalization",
                                           "QMoE",
                                           "QOrderedMatMul",
                                           "MatMulBnb4",
                                           "MatMulFpQ4",
                                           "MatMulInteger16",
                                           "MulInteger",
                                           "ReduceSumInteger",
                                           "NhwcMaxPool",
                                           "DequantizeBFP",
                                           "DynamicQuantizeLinear" };
    const rq_graph *g = view->g;
    const rq_node *n = &g->nodes[node];
    const bool ms = !strcmp(n->domain, "com.microsoft"), dq = !strcmp(n->op, "DequantizeLinear");
    for (int i = 0; i < n->n_in + n->n_out; i++) {
        const rq_id v = i < n->n_in ? n->in[i] : n->out[i - n->n_in];
        if (is_2bit(g, v))
            return rq_lint_say(a, RQ_LINT_REFUSED, "5.4 rule 4", "it has no type of 2 bits: '%s'", g->values[v].name);
    }
    for (size_t i = 0; ms && i < sizeof unknown / sizeof *unknown; i++)
        if (!strcmp(n->op, unknown[i]))
            return rq_lint_say(a, RQ_LINT_REFUSED, "5.4 rule 3", "it does not know this operator");
    if (!strcmp(n->op, "QLinearConv") && (is_vector(g, n, 4) || is_vector(g, n, 5)))
        return rq_lint_say(a, RQ_LINT_REFUSED, "5.4 rule 3", "it takes scales per channel for those of another axis");
    if (!strcmp(n->op, "QLinearMatMul") &&
        (is_vector(g, n, 1) || is_vector(g, n, 2) || is_vector(g, n, 4) || is_vector(g, n, 5)))
        return rq_lint_say(a, RQ_LINT_REFUSED, "5.4 rule 3", "it takes one scale per tensor only");
    if (ms && !strcmp(n->op, "QLinearLeakyRelu") && !rq_attr_find(n, RQ_WORD_alpha))
        return rq_lint_say(a, RQ_LINT_REFUSED, "5.4 rule 3", "it wants alpha to be written");
    const int64_t block = dq ? rq_attr_int(n, RQ_WORD_block_size, 0) : 0;
    if (block > 0 && n->n_in > 0 && n->in[0] >= 0) {
        const rq_value *x = &g->values[n->in[0]];
        const rq_shape *s = x->kind == RQ_VALUE_CONST ? &x->constant.shape : &x->shape;
        int64_t axis = rq_attr_int(n, RQ_WORD_axis, 1);
        axis += axis < 0 ? s->rank : 0;
        if (axis >= 0 && axis < s->rank && s->dim[axis] >= 0 && s->dim[axis] % block)
            return rq_lint_say(a, RQ_LINT_REFUSED, "5.4 rule 4", "blocks of %lld do not divide its axis of %lld",
                               (long long)block, (long long)s->dim[axis]);
    }
    return true;
}

void rq_lint_openvino(const rq_lint_view *view, rq_id node, rq_lint_answer *a)
{
    static const char *const fused[] = { "Relu", "Clip", "LeakyRelu", "BatchNormalization" };
    static const char *const pairs[] = { "Add", "Mul" }, *const pools[] = { "AveragePool", "GlobalAveragePool" };
    const rq_graph *g = view->g;
    const rq_node *n = &g->nodes[node];
    if (is_weighted(n)) {
        const rq_lint_codes w = from(view, n, 1);
        if (!need_codes(view, node, 0, a) || !need_codes(view, node, 1, a))
            return;
        if (!w.weight && (!w.symmetric || !from(view, n, 0).symmetric))
            rq_lint_say(a, RQ_LINT_FLOAT, "5.4 rule 1", "it multiplies two activations with zero points");
        else if (!w.symmetric && rq_node_is(n, "Conv"))
            rq_lint_say(a, RQ_LINT_FLOAT, "5.4 rule 1", "its weights have a zero point that is not 0");
    } else if (ONE_OF(n, fused) && g->values[n->in[0]].kind == RQ_VALUE_NODE &&
               is_weighted(&g->nodes[g->values[n->in[0]].producer])) {
        rq_lint_say(a, RQ_LINT_GONE, "5.4 rule 2", "it is part of the %s before it",
                    g->nodes[g->values[n->in[0]].producer].op);
    } else if (rq_lint_is_moving(n) || ONE_OF(n, pools)) {
        need_codes(view, node, 0, a);
    } else if (ONE_OF(n, pairs) || rq_node_is(n, "Concat")) {
        for (int i = 0; i < n->n_in; i++)
            if (!need_codes(view, node, i, a))
                return;
    } else {
        rq_lint_say(a, RQ_LINT_FLOAT, "5.4", "there is no integer form of it");
    }
}

/* ---- QNN ---- */

void rq_lint_qnn(const rq_lint_view *view, rq_id node, rq_lint_answer *a)
{
    const rq_graph *g = view->g;
    const rq_node *n = &g->nodes[node];
    if (!strcmp(n->domain, "com.microsoft") || !strncmp(n->op, "QLinear", 7)) {
        rq_lint_say(a, RQ_LINT_FLOAT, "5.5 rule 1", "it takes Q/DQ pairs around ordinary operators only");
        return;
    }
    for (int i = 0; i < n->n_in; i++)
        if (is_real(g, n->in[i]) && from(view, n, i).node == RQ_NONE) {
            rq_lint_say_no_dq(view, node, i, "5.5 rule 1", a);
            return;
        }
    for (int i = 0; i < n->n_out; i++)
        if (is_real(g, n->out[i]) && rq_lint_to(view, n->out[i]).node == RQ_NONE) {
            rq_lint_say_no_q(view, n->out[i], "5.5 rule 1", a);
            return;
        }
}
