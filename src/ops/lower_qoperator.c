/* ops/lower_qoperator.c — annotations become QLinearConv and its kin (docs/onnx-facts.md 2.7-2.9). First they are written as
 * QuantizeLinear and DequantizeLinear (lower.c); then every operator whose inputs all come from a DequantizeLinear and whose
 * output goes to one QuantizeLinear turns into the integer operator that computes the same, and reads and makes codes:
 *
 *   DQ, DQ -> Conv -> Q      QLinearConv; MatMul, Gemm, Add, Mul, Sigmoid, Softmax, Concat ... likewise
 *   DQ, DQ -> MatMul, Gemm   MatMulIntegerToFloat, QGemm without output scale: reals out
 *   DQ -> MaxPool -> Q       the same operator on codes, where both sides mean the same by them
 *   DQ -> Relu -> Q          a Clip on codes
 *
 * What has no integer operator, or whose parameters such a one does not take, stays in float between the pair. Written as
 * ONNX Runtime's kernels want it: single scales of rank 0, every zero point, one type for all data. raise_qoperator.c reads it
 * back to the same annotations. */
#include <math.h>
#include <string.h>

#include "kernels/quantize.h"
#include "ops/op.h"
#include "ops/rewrite.h"

#define MS "com.microsoft"

/* Codes and what they mean: one side of a Q or DQ. */
typedef struct coded {
    rq_id codes, scale, zero_point;
    rq_dtype dtype;
} coded;

typedef struct lowering {
    rq_graph *g;
    rq_err *err;
} lowering;

static rq_status no_memory(lowering *l, rq_id node)
{
    return rq_fail(l->err, RQ_NO_MEMORY, "out of memory writing '%s' as an integer operator", l->g->nodes[node].name);
}

/* ---- questions ---- */

static const rq_tensor *constant(const rq_graph *g, rq_id v)
{
    return v >= 0 && g->values[v].kind == RQ_VALUE_CONST ? &g->values[v].constant : NULL;
}

static rq_id input(const rq_node *n, int i)
{
    return i < n->n_in ? n->in[i] : RQ_NONE;
}

/* Parameters of a Q or DQ of the standard domain: constant, 8 bits wide (or 32, for a bias). */
static bool params_of(const rq_graph *g, const rq_node *n, rq_dtype d, coded *c)
{
    const rq_tensor *scale = constant(g, input(n, 1)), *zero = constant(g, input(n, 2));
    if (!scale || scale->dtype != RQ_DTYPE_F32 || (input(n, 2) != RQ_NONE && !zero) || (zero && zero->dtype != d) ||
        rq_attr_int(n, RQ_WORD_block_size, 0) || (d != RQ_DTYPE_U8 && d != RQ_DTYPE_S8 && d != RQ_DTYPE_S32))
        return false;
    c->scale = n->in[1];
    c->zero_point = input(n, 2);
    c->dtype = d;
    return true;
}

/* Is v what a DequantizeLinear makes? */
static bool from_dq(const rq_graph *g, rq_id v, coded *c)
{
    if (v < 0 || g->values[v].kind != RQ_VALUE_NODE)
        return false;
    const rq_node *n = &g->nodes[g->values[v].producer];
    if (!rq_rewrite_is(n, "DequantizeLinear") || input(n, 0) == RQ_NONE)
        return false;
    c->codes = n->in[0];
    const rq_value *x = &g->values[c->codes];
    return params_of(g, n, x->kind == RQ_VALUE_CONST ? x->constant.dtype : x->dtype, c);
}

static bool per_tensor(const rq_graph *g, const coded *c)
{
    return rq_tensor_count(constant(g, c->scale)) == 1 && c->dtype != RQ_DTYPE_S32;
}

static bool activation(const rq_graph *g, rq_id v, coded *c)
{
    return from_dq(g, v, c) && per_tensor(g, c);
}

/* The QuantizeLinear that alone reads v, and what it makes; RQ_NONE: there is none such. */
static rq_id to_q(const rq_graph *g, rq_id v, coded *c)
{
    rq_id user;
    if (v == RQ_NONE || rq_graph_is_output(g, v) || rq_graph_uses(g, v, &user, 1) != 1)
        return RQ_NONE;
    const rq_node *n = &g->nodes[user];
    if (!rq_rewrite_is(n, "QuantizeLinear") || n->in[0] != v)
        return RQ_NONE;
    c->codes = n->out[0];
    const rq_tensor *zero = constant(g, input(n, 2));
    return zero && params_of(g, n, zero->dtype, c) && per_tensor(g, c) ? user : RQ_NONE;
}

static int64_t zero_of(const rq_graph *g, const coded *c)
{
    const rq_tensor *z = constant(g, c->zero_point);
    return z ? rq_tensor_get_int(z, 0) : 0;
}

static bool same_meaning(const rq_graph *g, const coded *a, const coded *b)
{
    return a->dtype == b->dtype && constant(g, a->scale)->f32[0] == constant(g, b->scale)->f32[0] &&
           zero_of(g, a) == zero_of(g, b);
}

/* The scales of a weight: one, or one per index of `axis` (in the order of a list). */
static bool weight(const rq_graph *g, rq_id v, int axis, coded *c)
{
    if (!from_dq(g, v, c) || c->dtype == RQ_DTYPE_S32)
        return false;
    const rq_tensor *t = constant(g, c->codes), *s = constant(g, c->scale);
    if (rq_tensor_count(s) == 1)
        return true;
    int64_t at = rq_attr_int(&g->nodes[g->values[v].producer], RQ_WORD_axis, 1);
    return t && s->shape.rank == 1 && (at < 0 ? at + t->shape.rank : at) == axis &&
           t->shape.dim[axis] == s->shape.dim[0];
}

/* Does the bias count in units of the accumulator, sx * sw (times alpha)? */
static bool counts_products(const rq_graph *g, const coded *b, const coded *x, const coded *w, float alpha)
{
    const rq_tensor *sb = constant(g, b->scale), *sw = constant(g, w->scale), *zb = constant(g, b->zero_point);
    const float sx = alpha == 1 ? constant(g, x->scale)->f32[0] : alpha * constant(g, x->scale)->f32[0];
    int64_t n = rq_tensor_count(sw), nb = rq_tensor_count(sb);
    if (b->dtype != RQ_DTYPE_S32 || !constant(g, b->codes) || (n != 1 && nb != 1 && n != nb))
        return false;
    for (int64_t i = 0; i < (n > nb ? n : nb); i++)
        if (sx * sw->f32[n == 1 ? 0 : i] != sb->f32[nb == 1 ? 0 : i])
            return false;
    for (int64_t i = 0; zb && i < rq_tensor_count(zb); i++)
        if (rq_tensor_get_int(zb, i))
            return false;
    return true;
}

/* ONNX Runtime has no kernel for s8 codes with u8 weights. */
static bool types_fit(const coded *x, const coded *w)
{
    return x->dtype == RQ_DTYPE_U8 || w->dtype == RQ_DTYPE_S8;
}

/* ---- edits ---- */

/* t under a name made of `base`: *made. */
static rq_status add_const(lowering *l, rq_tensor *t, rq_id base, const char *suffix, rq_id *made)
{
    const char *name = rq_rewrite_name(l->g, l->g->values[base].name, suffix);
    rq_status st = name ? rq_graph_add_const(l->g, made, name, t, l->err)
                        : rq_fail(l->err, RQ_NO_MEMORY, "out of memory writing '%s'", l->g->values[base].name);
    rq_tensor_release(t);
    return st;
}

/* The same numbers in another shape; v itself where it has that shape. */
static rq_status reshaped(lowering *l, rq_id *v, const rq_shape *shape)
{
    const rq_tensor *t = constant(l->g, *v);
    if (rq_shape_equal(&t->shape, shape))
        return RQ_OK;
    rq_tensor same;
    rq_tensor_share(&same, t);
    same.shape = *shape;
    return add_const(l, &same, *v, "_shaped", v);
}

/* Single scales of rank 0, and a zero point in any case. */
static rq_status settle(lowering *l, coded *c)
{
    const rq_graph *g = l->g;
    const rq_tensor *s = constant(g, c->scale);
    rq_shape shape = rq_tensor_count(s) == 1 ? rq_shape_of(0, NULL) : s->shape;
    if (c->zero_point == RQ_NONE) {
        rq_tensor zero;
        if (rq_tensor_create(&zero, c->dtype, &shape, true))
            return rq_fail(l->err, RQ_NO_MEMORY, "out of memory writing '%s'", g->values[c->codes].name);
        RQ_TRY(add_const(l, &zero, c->codes, "_zero_point", &c->zero_point));
    }
    RQ_TRY(reshaped(l, &c->scale, &shape));
    return reshaped(l, &c->zero_point, &shape);
}

/* The node turns into `op` of `domain` with these inputs; what QuantizeLinear q (or RQ_NONE) made of its output, it makes
 * itself. */
static rq_status become(lowering *l, rq_id node, const char *op, const char *domain, const rq_id *in, int n_in, rq_id q)
{
    rq_graph *g = l->g;
    RQ_TRY(rq_rewrite_become(g, node, op, in, n_in, l->err));
    if (domain[0]) {
        g->nodes[node].domain = MS;
        if (rq_graph_opset(g, MS) == 0 && rq_graph_set_opset(g, MS, 1))
            return no_memory(l, node);
    }
    if (q == RQ_NONE)
        return RQ_OK;
    rq_id y = g->nodes[node].out[0], codes = g->nodes[q].out[0];
    g->nodes[node].out[0] = codes;
    g->values[codes].producer = node;
    g->nodes[q].out[0] = y;
    g->values[y].producer = q;
    if (rq_graph_set_input(g, q, 0, RQ_NONE))
        return no_memory(l, node);
    rq_graph_remove_node(g, q);
    return RQ_OK;
}

static int put(rq_id *in, int n, const coded *c)
{
    in[n] = c->codes;
    in[n + 1] = c->scale;
    in[n + 2] = c->zero_point;
    return n + 3;
}

/* ---- products ---- */

static rq_status lower_conv(lowering *l, rq_id node)
{
    rq_graph *g = l->g;
    const rq_node *n = &g->nodes[node];
    coded x, w, y, b;
    rq_id q = to_q(g, n->out[0], &y), in[9];
    if (q == RQ_NONE || !activation(g, n->in[0], &x) || !weight(g, n->in[1], 0, &w) || !types_fit(&x, &w) ||
        x.dtype != y.dtype || !constant(g, w.codes))
        return RQ_OK;
    bool bias = input(n, 2) != RQ_NONE;
    if (bias && (!from_dq(g, n->in[2], &b) || !counts_products(g, &b, &x, &w, 1)))
        return RQ_OK;
    RQ_TRY(settle(l, &x));
    RQ_TRY(settle(l, &w));
    RQ_TRY(settle(l, &y));
    int k = put(in, put(in, 0, &x), &w);
    in[k] = y.scale;
    in[k + 1] = y.zero_point;
    in[k + 2] = bias ? b.codes : RQ_NONE;
    return become(l, node, "QLinearConv", "", in, bias ? 9 : 8, q);
}

/* Scales per column of B, as the kernels want them: [N] for a matrix, [.., 1, N] with B's own sizes for a stack of them. */
static rq_status column_params(lowering *l, coded *w)
{
    const rq_graph *g = l->g;
    const rq_shape *b = &constant(g, w->codes)->shape;
    rq_id *of[2] = { &w->scale, &w->zero_point };
    if (rq_tensor_count(constant(g, w->scale)) == 1 || b->rank <= 2)
        return RQ_OK;
    rq_shape shape = *b;
    shape.dim[b->rank - 2] = 1;
    for (int i = 0; i < 2; i++) {
        const rq_tensor *t = constant(g, *of[i]);
        rq_tensor all;
        if (rq_tensor_create(&all, t->dtype, &shape, false))
            return rq_fail(l->err, RQ_NO_MEMORY, "out of memory writing '%s'", g->values[w->codes].name);
        for (size_t at = 0; t->bytes && at < all.bytes; at += t->bytes)
            memcpy((uint8_t *)all.data + at, t->data, t->bytes);
        RQ_TRY(add_const(l, &all, *of[i], "_columns", of[i]));
    }
    return RQ_OK;
}

/* The Add of a constant vector behind a MatMul whose product is reals, and the vector; RQ_NONE: none. */
static rq_id added_bias(const rq_graph *g, const rq_node *n, rq_id *bias)
{
    rq_id user, y = n->out[0];
    if (rq_graph_is_output(g, y) || rq_graph_uses(g, y, &user, 1) != 1 || !rq_rewrite_is(&g->nodes[user], "Add"))
        return RQ_NONE;
    const rq_node *add = &g->nodes[user];
    const rq_value *b = &g->values[n->in[1]];
    *bias = add->in[add->in[0] == y];
    const rq_tensor *t = constant(g, *bias);
    if (!t || t->dtype != RQ_DTYPE_F32 || t->shape.rank != 1 || b->shape.rank < 2 ||
        t->shape.dim[0] != b->shape.dim[b->shape.rank - 1])
        return RQ_NONE;
    return user;
}

static rq_status lower_matmul(lowering *l, rq_id node)
{
    rq_graph *g = l->g;
    const rq_node *n = &g->nodes[node];
    coded x, w, y = { 0 };
    rq_id q = to_q(g, n->out[0], &y), in[8], bias = RQ_NONE;
    int rank = g->values[n->in[1]].shape.rank;
    if (!activation(g, n->in[0], &x) || !weight(g, n->in[1], rank - 1, &w) || !types_fit(&x, &w) || rank < 2 ||
        g->values[n->in[0]].shape.rank < 2 || (q != RQ_NONE && x.dtype != y.dtype))
        return RQ_OK;
    RQ_TRY(settle(l, &x));
    RQ_TRY(settle(l, &w));
    if (rq_tensor_count(constant(g, w.scale)) > 1)
        RQ_TRY(column_params(l, &w));
    if (q != RQ_NONE) {
        RQ_TRY(settle(l, &y));
        int k = put(in, put(in, 0, &x), &w);
        in[k] = y.scale;
        in[k + 1] = y.zero_point;
        return become(l, node, "QLinearMatMul", "", in, 8, q);
    }
    rq_id add = added_bias(g, n, &bias);
    const rq_id reals[7] = { x.codes, w.codes, x.scale, w.scale, x.zero_point, w.zero_point, bias };
    RQ_TRY(become(l, node, "MatMulIntegerToFloat", MS, reals, add == RQ_NONE ? 6 : 7, RQ_NONE));
    if (add == RQ_NONE)
        return RQ_OK;
    rq_id product = g->nodes[node].out[0], sum = g->nodes[add].out[0];
    g->nodes[node].out[0] = sum;
    g->values[sum].producer = node;
    g->nodes[add].out[0] = product;
    g->values[product].producer = add;
    for (int i = 0; i < 2; i++)
        if (rq_graph_set_input(g, add, i, RQ_NONE))
            return no_memory(l, add);
    rq_graph_remove_node(g, add);
    return RQ_OK;
}

static rq_status lower_gemm(lowering *l, rq_id node)
{
    rq_graph *g = l->g;
    const rq_node *n = &g->nodes[node];
    coded x, w, y = { 0 }, b;
    rq_id q = to_q(g, n->out[0], &y), in[9];
    float alpha = rq_attr_float(n, RQ_WORD_alpha, 1);
    bool bias = input(n, 2) != RQ_NONE;
    if (!activation(g, n->in[0], &x) || !weight(g, n->in[1], rq_attr_int(n, RQ_WORD_transB, 0) ? 0 : 1, &w) ||
        !types_fit(&x, &w) || (q != RQ_NONE && x.dtype != y.dtype) ||
        (bias && (rq_attr_float(n, RQ_WORD_beta, 1) != 1 || !from_dq(g, n->in[2], &b) ||
                  !counts_products(g, &b, &x, &w, alpha))))
        return RQ_OK;
    RQ_TRY(settle(l, &x));
    RQ_TRY(settle(l, &w));
    int k = put(in, put(in, 0, &x), &w);
    in[k] = bias ? b.codes : RQ_NONE;
    if (q != RQ_NONE) {
        RQ_TRY(settle(l, &y));
        in[k + 1] = y.scale;
        in[k + 2] = y.zero_point;
    }
    rq_attr_remove(g, node, "beta");
    return become(l, node, "QGemm", MS, in, q != RQ_NONE ? 9 : bias ? 7 : 6, q);
}

/* ---- elementwise, pools, joins ---- */

/* One or two activations and an output, all of one type. */
static rq_status lower_activations(lowering *l, rq_id node, int n_data, const char *op)
{
    rq_graph *g = l->g;
    const rq_node *n = &g->nodes[node];
    coded x[2], y;
    rq_id q = to_q(g, n->out[0], &y), in[8];
    if (q == RQ_NONE || n->n_in < n_data)
        return RQ_OK;
    for (int i = 0; i < n_data; i++)
        if (!activation(g, n->in[i], &x[i]) || x[i].dtype != y.dtype)
            return RQ_OK;
    int k = 0;
    for (int i = 0; i < n_data; i++) {
        RQ_TRY(settle(l, &x[i]));
        k = put(in, k, &x[i]);
    }
    RQ_TRY(settle(l, &y));
    in[k++] = y.scale;
    in[k++] = y.zero_point;
    return become(l, node, op, MS, in, k, q);
}

static rq_status lower_pair(lowering *l, rq_id node)
{
    return lower_activations(l, node, 2, rq_rewrite_is(&l->g->nodes[node], "Add") ? "QLinearAdd" : "QLinearMul");
}

static rq_status lower_function(lowering *l, rq_id node)
{
    const char *op = l->g->nodes[node].op;
    return lower_activations(l, node, 1,
                             !strcmp(op, "Sigmoid")     ? "QLinearSigmoid"
                             : !strcmp(op, "LeakyRelu") ? "QLinearLeakyRelu"
                                                        : "QLinearGlobalAveragePool");
}

static rq_status lower_average_pool(lowering *l, rq_id node)
{
    const rq_node *n = &l->g->nodes[node];
    int count;
    const int64_t *dilations = rq_attr_ints(n, RQ_WORD_dilations, &count);
    for (int i = 0; i < count; i++)
        if (dilations[i] != 1)
            return RQ_OK;
    if (rq_attr_int(n, RQ_WORD_ceil_mode, 0)) /* windows that begin beyond the edge are counted differently */
        return RQ_OK;
    RQ_TRY(lower_activations(l, node, 1, "QLinearAveragePool"));
    if (!rq_rewrite_is(&l->g->nodes[node], "AveragePool"))
        rq_attr_remove(l->g, node, "dilations");
    return RQ_OK;
}

static rq_status lower_softmax(lowering *l, rq_id node)
{
    const int64_t opset = rq_graph_opset(l->g, "");
    const int64_t axis = rq_attr_int(&l->g->nodes[node], RQ_WORD_axis, opset < 13 ? 1 : -1);
    RQ_TRY(lower_activations(l, node, 1, "QLinearSoftmax"));
    if (rq_rewrite_is(&l->g->nodes[node], "Softmax"))
        return RQ_OK;
    return rq_attr_set_int(l->g, node, "axis", axis) || rq_attr_set_int(l->g, node, "opset", opset) ? no_memory(l, node)
                                                                                                    : RQ_OK;
}

static rq_status lower_concat(lowering *l, rq_id node)
{
    rq_graph *g = l->g;
    const rq_node *n = &g->nodes[node];
    coded y, x;
    rq_id q = to_q(g, n->out[0], &y);
    if (q == RQ_NONE)
        return RQ_OK;
    const int parts = n->n_in;
    for (int i = 0; i < parts; i++)
        if (!activation(g, n->in[i], &x) || x.dtype != y.dtype)
            return RQ_OK;
    rq_id *in = rq_arena_alloc(&g->names, (size_t)parts * 3 + 2, sizeof *in);
    if (!in)
        return no_memory(l, node);
    RQ_TRY(settle(l, &y));
    in[0] = y.scale;
    in[1] = y.zero_point;
    for (int i = 0; i < parts; i++) {
        activation(g, g->nodes[node].in[i], &x);
        RQ_TRY(settle(l, &x));
        put(in, 2 + 3 * i, &x);
    }
    return become(l, node, "QLinearConcat", MS, in, 2 + 3 * parts, q);
}

static rq_status lower_where(lowering *l, rq_id node)
{
    rq_graph *g = l->g;
    const rq_node *n = &g->nodes[node];
    coded a, b, y;
    rq_id q = to_q(g, n->out[0], &y), in[9] = { n->in[0] };
    if (q == RQ_NONE || !activation(g, n->in[1], &a) || !activation(g, n->in[2], &b) || a.dtype != y.dtype ||
        b.dtype != y.dtype)
        return RQ_OK;
    RQ_TRY(settle(l, &a));
    RQ_TRY(settle(l, &b));
    RQ_TRY(settle(l, &y));
    put(in, put(in, 1, &a), &b);
    in[7] = y.scale;
    in[8] = y.zero_point;
    return become(l, node, "QLinearWhere", MS, in, 9, q);
}

/* ---- the same operator on codes ---- */

static rq_status lower_move(lowering *l, rq_id node)
{
    rq_graph *g = l->g;
    rq_node *n = &g->nodes[node];
    coded x, y = { 0 };
    if (!activation(g, n->in[0], &x))
        return RQ_OK;
    if (rq_rewrite_is(n, "MaxPool") && (rq_graph_opset(g, "") < 12 || n->n_out != 1))
        return RQ_OK;
    if (rq_rewrite_is(n, "Resize") && strcmp(rq_attr_string(n, RQ_WORD_mode, "nearest"), "nearest") != 0)
        return RQ_OK;
    for (int k = 0; k < n->n_out; k++)
        if (to_q(g, n->out[k], &y) == RQ_NONE || !same_meaning(g, &x, &y))
            return RQ_OK;
    if (rq_graph_set_input(g, node, 0, x.codes))
        return no_memory(l, node);
    for (int k = 0; k < g->nodes[node].n_out; k++) {
        rq_id v = g->nodes[node].out[k], q = to_q(g, v, &y);
        g->nodes[node].out[k] = y.codes;
        g->values[y.codes].producer = node;
        g->nodes[q].out[0] = v;
        g->values[v].producer = q;
        if (rq_graph_set_input(g, q, 0, RQ_NONE))
            return no_memory(l, node);
        rq_graph_remove_node(g, q);
    }
    return RQ_OK;
}

/* The largest code is the code of the largest real, and equal codes are equal reals. */
static rq_status lower_argmax(lowering *l, rq_id node)
{
    coded x;
    if (rq_graph_opset(l->g, "") < 13 || !activation(l->g, l->g->nodes[node].in[0], &x) ||
        !(constant(l->g, x.scale)->f32[0] > 0))
        return RQ_OK;
    return rq_graph_set_input(l->g, node, 0, x.codes) ? no_memory(l, node) : RQ_OK;
}

/* Relu or Clip between codes of one meaning: rounding keeps order, so a limit is a code. */
static rq_status lower_clamp(lowering *l, rq_id node)
{
    rq_graph *g = l->g;
    const rq_node *n = &g->nodes[node];
    coded x, y;
    rq_id q = to_q(g, n->out[0], &y), in[3] = { RQ_NONE, RQ_NONE, RQ_NONE };
    float limit[2] = { rq_rewrite_is(n, "Relu") ? 0 : -INFINITY, INFINITY };
    if (q == RQ_NONE || rq_graph_opset(g, "") < 12 || !activation(g, n->in[0], &x) || !same_meaning(g, &x, &y) ||
        !(constant(g, x.scale)->f32[0] > 0))
        return RQ_OK;
    for (int i = 1; i < n->n_in; i++) {
        const rq_tensor *t = constant(g, n->in[i]);
        if (n->in[i] != RQ_NONE && (!t || t->dtype != RQ_DTYPE_F32 || rq_tensor_count(t) != 1 || isnan(t->f32[0])))
            return RQ_OK;
        if (t)
            limit[i - 1] = t->f32[0];
    }
    if (limit[0] > limit[1])
        return RQ_OK;
    const float scale = constant(g, x.scale)->f32[0];
    const int32_t zero = (int32_t)zero_of(g, &x);
    in[0] = x.codes;
    for (int i = 0; i < 2; i++) {
        const rq_shape scalar = rq_shape_of(0, NULL);
        int64_t lo, hi;
        rq_tensor t;
        if (isinf(limit[i]))
            continue;
        rq_dtype_limits(x.dtype, &lo, &hi);
        if (rq_tensor_create(&t, x.dtype, &scalar, true))
            return no_memory(l, node);
        rq_tensor_set(&t, 0, rq_quantize_one(limit[i], scale, zero, (int32_t)lo, (int32_t)hi));
        RQ_TRY(add_const(l, &t, n->out[0], i ? "_max" : "_min", &in[i + 1]));
        n = &g->nodes[node];
    }
    return become(l, node, "Clip", "", in, in[2] != RQ_NONE ? 3 : in[1] != RQ_NONE ? 2 : 1, q);
}

/* ---- together ---- */

static const struct form {
    const char *op;
    rq_status (*lower)(lowering *l, rq_id node);
} forms[] = {
    { "Conv", lower_conv },
    { "MatMul", lower_matmul },
    { "Gemm", lower_gemm },
    { "Add", lower_pair },
    { "Mul", lower_pair },
    { "Sigmoid", lower_function },
    { "LeakyRelu", lower_function },
    { "GlobalAveragePool", lower_function },
    { "AveragePool", lower_average_pool },
    { "Softmax", lower_softmax },
    { "Concat", lower_concat },
    { "Where", lower_where },
    { "Relu", lower_clamp },
    { "Clip", lower_clamp },
    { "ArgMax", lower_argmax },
    { "MaxPool", lower_move },
    { "Transpose", lower_move },
    { "Reshape", lower_move },
    { "Squeeze", lower_move },
    { "Unsqueeze", lower_move },
    { "Flatten", lower_move },
    { "Gather", lower_move },
    { "Slice", lower_move },
    { "Split", lower_move },
    { "Expand", lower_move },
    { "Tile", lower_move },
    { "DepthToSpace", lower_move },
    { "SpaceToDepth", lower_move },
    { "Resize", lower_move },
};

/* Are the inputs that it must have there, and its first output? */
static bool is_whole(const rq_node *n)
{
    bool yes = n->n_in && n->n_out && n->out[0] != RQ_NONE;
    for (int i = 0; yes && i < n->n_in && i < (n->row ? n->row->min_in : 1); i++)
        yes = n->in[i] != RQ_NONE;
    return yes && n->n_in >= (n->row ? n->row->min_in : 1);
}

rq_status rq_lower_qoperator(rq_graph *g, rq_err *err)
{
    lowering l = { .g = g, .err = err };
    rq_id *order;
    int n;
    RQ_TRY(rq_lower_qdq(g, err));
    RQ_TRY(rq_order(g, &order, &n, err));
    rq_status st = RQ_OK;
    for (int i = 0; i < n && !st; i++) {
        const rq_node *node = &g->nodes[order[i]];
        for (size_t k = 0; !st && k < sizeof forms / sizeof *forms; k++)
            if (rq_rewrite_is(node, forms[k].op)) {
                if (is_whole(node))
                    st = forms[k].lower(&l, order[i]);
                break;
            }
    }
    rq_mem_free(order);
    RQ_TRY(st);
    rq_graph_prune(g);
    rq_ops_bind(g);
    return RQ_OK;
}
