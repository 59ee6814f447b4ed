/* ops/raise_qoperator.c — QLinearConv and its kin become what they stand for: DequantizeLinear on every integer input,
 * the plain operator, QuantizeLinear on the output (docs/onnx-facts.md 2.7-2.9). The next step (raise_qdq.c) turns
 * these into annotations, so that both spellings of a model end as one. Forms we cannot spell stay as they are. */
#include <string.h>

#include "ops/raise.h"
#include "ops/rewrite.h"
#include "ops/upgrade.h"

/* One kind of node: where codes, scales and zero points stand among the inputs. */
typedef struct form {
    const char *op, *domain; /* as in the file */
    const char *plain;       /* what it becomes */
    int n_data;              /* codes that go in as inputs 0.. of the plain operator */
    int data[2], scale[2], zero_point[2];
    int out_scale; /* output scale, zero point behind it; -1: f32 out */
    int min_in;
} form;

static const form forms[] = {
    { "QLinearMatMul", "", "MatMul", 2, { 0, 3 }, { 1, 4 }, { 2, 5 }, 6, 8 },
    { "QLinearAdd", "com.microsoft", "Add", 2, { 0, 3 }, { 1, 4 }, { 2, 5 }, 6, 7 },
    { "QLinearMul", "com.microsoft", "Mul", 2, { 0, 3 }, { 1, 4 }, { 2, 5 }, 6, 7 },
    { "QLinearSigmoid", "com.microsoft", "Sigmoid", 1, { 0 }, { 1 }, { 2 }, 3, 4 },
    { "QLinearLeakyRelu", "com.microsoft", "LeakyRelu", 1, { 0 }, { 1 }, { 2 }, 3, 4 },
    { "QLinearSoftmax", "com.microsoft", "Softmax", 1, { 0 }, { 1 }, { 2 }, 3, 5 },
    { "QLinearAveragePool", "com.microsoft", "AveragePool", 1, { 0 }, { 1 }, { 2 }, 3, 4 },
    { "QLinearGlobalAveragePool", "com.microsoft", "GlobalAveragePool", 1, { 0 }, { 1 }, { 2 }, 3, 5 },
    { "QLinearReduceMean", "com.microsoft", "ReduceMean", 1, { 0 }, { 1 }, { 2 }, 3, 4 },
    { "QLinearConv", "", "Conv", 2, { 0, 3 }, { 1, 4 }, { 2, 5 }, 6, 8 },
    { "QLinearConv", "com.microsoft", "Conv", 2, { 0, 3 }, { 1, 4 }, { 2, 5 }, 6, 8 },
    { "QLinearConvTranspose", "com.microsoft", "ConvTranspose", 2, { 0, 3 }, { 1, 4 }, { 2, 5 }, 6, 8 },
    { "QGemm", "com.microsoft", "Gemm", 2, { 0, 3 }, { 1, 4 }, { 2, 5 }, 7, 6 },
    { "MatMulIntegerToFloat", "com.microsoft", "MatMul", 2, { 0, 1 }, { 2, 3 }, { 4, 5 }, -1, 4 },
};

static rq_id input(const rq_node *n, int i)
{
    return i >= 0 && i < n->n_in ? n->in[i] : RQ_NONE;
}

static int rank_of(const rq_graph *g, rq_id v)
{
    const rq_value *x = &g->values[v];
    return x->kind == RQ_VALUE_CONST ? x->constant.shape.rank : x->shape.rank;
}

/* Scales in a tensor of any rank; -1: not known. */
static int64_t count_of(const rq_graph *g, rq_id v)
{
    const rq_value *x = &g->values[v];
    const rq_shape *s = x->kind == RQ_VALUE_CONST ? &x->constant.shape : &x->shape;
    return rq_shape_is_known(s) ? rq_shape_count(s) : -1;
}

rq_status rq_raise_real(rq_raise_state *r, rq_id codes, rq_id scale, rq_id zero_point, int64_t axis, int64_t block,
                        rq_id *real)
{
    rq_graph *g = r->g;
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (rq_rewrite_is(n, "DequantizeLinear") && n->in[0] == codes && n->in[1] == scale &&
            input(n, 2) == zero_point && (axis == RQ_PER_TENSOR || rq_attr_int(n, RQ_WORD_axis, 1) == axis)) {
            *real = n->out[0];
            return RQ_OK;
        }
    }
    rq_id in[3] = { codes, scale, zero_point }, node;
    rq_shape shape = g->values[codes].shape;
    RQ_TRY(rq_rewrite_add(g, "DequantizeLinear", in, zero_point == RQ_NONE ? 2 : 3, g->values[codes].name,
                          "_DequantizeLinear_Output", RQ_DTYPE_F32, real, &node, r->err));
    g->values[*real].shape = shape;
    if ((axis != RQ_PER_TENSOR && rq_attr_set_int(g, node, "axis", axis)) ||
        (block && rq_attr_set_int(g, node, "block_size", block)))
        return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", g->values[codes].name);
    return RQ_OK;
}

/* The node's output y (codes) is from now on QuantizeLinear of what the node makes. */
static rq_status quantize_output(rq_raise_state *r, rq_id node, rq_id scale, rq_id zero_point)
{
    rq_graph *g = r->g;
    rq_id made, y = g->nodes[node].out[0];
    RQ_TRY(rq_rewrite_detach(g, node, 0, "_QuantizeLinear_Input", &made, r->err));
    g->values[made].dtype = RQ_DTYPE_F32;
    rq_id in[3] = { made, scale, zero_point };
    return rq_rewrite_produce(g, "QuantizeLinear", "_QuantizeLinear", in, zero_point == RQ_NONE ? 2 : 3, y, NULL,
                              r->err);
}

/* The axis (and block) that the scales of operand `i` belong to; false when the node has no plain spelling. */
static bool data_axis(const rq_graph *g, const rq_node *n, const form *f, int i, rq_id scale, int64_t *axis,
                      int64_t *block)
{
    rq_id codes = input(n, f->data[i]);
    int64_t count = count_of(g, scale);
    int rank = rank_of(g, codes), scale_rank = rank_of(g, scale);
    *axis = RQ_PER_TENSOR;
    *block = 0;
    if (count == 1)
        return true;
    if (count < 0)
        return scale_rank == 0;
    if (!strcmp(f->plain, "MatMul") && scale_rank == rank && rank >= 2) {
        /* one scale per matrix and row of A ([.., M, 1]) or column of B ([.., 1, N]): blocks as long as what is summed */
        const rq_value *v = &g->values[codes];
        const rq_shape *s = v->kind == RQ_VALUE_CONST ? &v->constant.shape : &v->shape;
        *axis = i == 0 ? rank - 1 : rank - 2;
        *block = s->dim[*axis];
        return *block > 0;
    }
    if (i == 0 || scale_rank != 1)
        return false; /* parameters per row */
    if (!strcmp(f->plain, "Conv"))
        *axis = 0;
    else if (!strcmp(f->plain, "ConvTranspose"))
        *axis = 1;
    else if (!strcmp(f->plain, "Gemm"))
        *axis = rq_attr_int(n, RQ_WORD_transB, 0) ? 0 : 1;
    else if (rank >= 2)
        *axis = rank - 1; /* MatMul: columns */
    else
        return false;
    return true;
}

/* Scales written [1, .., N] as [N]: *made is `v` itself, or a constant with the same content. */
static rq_status flat_params(rq_raise_state *r, rq_id v, rq_id *made)
{
    rq_graph *g = r->g;
    const rq_tensor *t = rq_raise_const(g, v);
    *made = v;
    if (!t || t->shape.rank < 2 || rq_tensor_count(t) != t->shape.dim[t->shape.rank - 1])
        return RQ_OK;
    rq_tensor flat;
    rq_tensor_share(&flat, t);
    int64_t n = rq_tensor_count(t);
    flat.shape = rq_shape_of(1, &n);
    const char *name = rq_rewrite_name(g, g->values[v].name, "_flat");
    rq_status st = name ? rq_graph_add_const(g, made, name, &flat, r->err)
                        : rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", g->values[v].name);
    rq_tensor_release(&flat);
    return st;
}

/* Size of the last axis of v: 1 for a scalar, negative when not known. */
static int64_t last_of(const rq_graph *g, rq_id v)
{
    const rq_value *x = &g->values[v];
    const rq_shape *s = x->kind == RQ_VALUE_CONST ? &x->constant.shape : &x->shape;
    return s->rank < 0 ? RQ_DIM_UNKNOWN : s->rank ? s->dim[s->rank - 1] : 1;
}

/* Reals of bias c in n units: one bias for all columns becomes one in each. */
static rq_status bias_in_units(rq_raise_state *r, rq_id c, rq_id unit, int64_t n, rq_id *real)
{
    rq_graph *g = r->g;
    const int64_t last = last_of(g, c);
    rq_id cast, node;
    if (n > 1 && rank_of(g, c) < 0)
        return RQ_OK;
    if (n == 1 || last != 1)
        return rq_raise_real(r, c, unit, RQ_NONE, n == 1 ? RQ_PER_TENSOR : rank_of(g, c) - 1, 0, real);
    RQ_TRY(rq_rewrite_add(g, "Cast", &c, 1, g->values[c].name, "_Cast", RQ_DTYPE_F32, &cast, &node, r->err));
    if (rq_attr_set_int(g, node, "to", 1)) /* f32 */
        return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", g->values[c].name);
    const rq_id both[2] = { cast, unit };
    return rq_rewrite_add(g, "Mul", both, 2, g->values[c].name, "_real", RQ_DTYPE_F32, real, NULL, r->err);
}

/* real_bias where a scale is made when the model runs: so is the product. */
static rq_status computed_bias(rq_raise_state *r, rq_id c, rq_id x_scale, rq_id w_scale, float alpha, rq_id *real)
{
    rq_graph *g = r->g;
    const int64_t n = count_of(g, w_scale);
    rq_id in[2] = { x_scale, w_scale }, unit, factor;
    if (n < 1 || count_of(g, x_scale) != 1)
        return RQ_OK;
    if (alpha != 1) {
        RQ_TRY(rq_rewrite_float(g, alpha, g->values[c].name, "_alpha", &factor, r->err));
        const rq_id both[2] = { factor, x_scale };
        RQ_TRY(rq_rewrite_add(g, "Mul", both, 2, g->values[c].name, "_x_scale", RQ_DTYPE_F32, &in[0], NULL, r->err));
    }
    RQ_TRY(rq_rewrite_add(g, "Mul", in, 2, g->values[c].name, "_scale", RQ_DTYPE_F32, &unit, NULL, r->err));
    return bias_in_units(r, c, unit, n, real);
}

/* The int32 bias c counts in units of the accumulator, alpha * sx * sw: reals of it, or RQ_NONE in *real when the
 * scales have sizes that do not fit. */
static rq_status real_bias(rq_raise_state *r, rq_id c, rq_id x_scale, rq_id w_scale, float alpha, rq_id *real)
{
    rq_graph *g = r->g;
    const rq_tensor *sx = rq_raise_const(g, x_scale), *sw = rq_raise_const(g, w_scale);
    *real = RQ_NONE;
    if (!sx || !sw)
        return computed_bias(r, c, x_scale, w_scale, alpha, real);
    if (sx->dtype != RQ_DTYPE_F32 || sw->dtype != RQ_DTYPE_F32 || rq_tensor_count(sx) != 1)
        return RQ_OK;
    int64_t n = rq_tensor_count(sw);
    float *scale = rq_mem_alloc((size_t)n, sizeof *scale);
    if (!scale)
        return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", g->values[c].name);
    for (int64_t i = 0; i < n; i++)
        scale[i] = alpha == 1 ? sx->f32[0] * sw->f32[i] : alpha * sx->f32[0] * sw->f32[i];
    rq_id id;
    rq_status st = n == 1 ? rq_rewrite_float(g, scale[0], g->values[c].name, "_scale", &id, r->err)
                          : rq_rewrite_floats(g, scale, n, g->values[c].name, "_scale", &id, r->err);
    rq_mem_free(scale);
    RQ_TRY(st);
    return bias_in_units(r, c, id, n, real);
}

/* Wrap the node in transpositions: it works on channels-last tensors, its plain form on channels-first ones. */
static rq_status channels_first(rq_raise_state *r, rq_id node, int rank)
{
    rq_graph *g = r->g;
    int64_t to_first[RQ_MAX_RANK] = { 0, rank - 1 }, to_last[RQ_MAX_RANK] = { 0 };
    for (int i = 2; i < rank; i++)
        to_first[i] = i - 1;
    for (int i = 1; i < rank - 1; i++)
        to_last[i] = i + 1;
    to_last[rank - 1] = 1;
    rq_id x = g->nodes[node].in[0], y = g->nodes[node].out[0], first, last, t;
    RQ_TRY(rq_rewrite_add(g, "Transpose", &x, 1, g->values[x].name, "_first", RQ_DTYPE_F32, &first, &t, r->err));
    if (rq_attr_set_ints(g, t, "perm", to_first, rank) || rq_graph_set_input(g, node, 0, first))
        goto no_memory;
    RQ_TRY(rq_rewrite_detach(g, node, 0, "_first", &last, r->err));
    g->values[last].shape = rq_shape_unknown();
    RQ_TRY(rq_rewrite_produce(g, "Transpose", "_Transpose", &last, 1, y, &t, r->err));
    if (!rq_attr_set_ints(g, t, "perm", to_last, rank))
        return RQ_OK;
no_memory:
    return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", g->nodes[node].name);
}

/* Attributes that mean something else, or nothing, to the plain operator; before the node turned into it: y is still what it
 * makes. `axis_in_input`: ReduceMean takes its axes as input 1 from opset 18 on. */
static rq_status settle(rq_raise_state *r, rq_id node, const form *f, rq_id *in, int *n_in)
{
    rq_graph *g = r->g;
    const rq_node *n = &g->nodes[node];
    rq_status st = RQ_OK;
    if (!strcmp(f->plain, "ReduceMean") && rq_graph_opset(g, "") >= 18) {
        int count;
        const int64_t *axes = rq_attr_ints(n, RQ_WORD_axes, &count);
        if (axes) {
            RQ_TRY(rq_rewrite_ints(g, axes, count, n->name, "_axes", &in[1], r->err));
            *n_in = 2;
            rq_attr_remove(g, node, "axes");
        }
    }
    rq_attr_remove(g, node, "opset");
    rq_attr_remove(g, node, "channels_last");
    if (!strcmp(f->plain, "Gemm")) {
        float alpha = rq_attr_float(n, RQ_WORD_alpha, 1);
        st = rq_attr_set_float(g, node, "alpha", alpha);
    }
    return st ? rq_fail(r->err, st, "out of memory raising '%s'", n->name) : RQ_OK;
}

/* Softmax before opset 13 works on a flattened input: the node's attribute says which it means. */
static rq_status settle_softmax(rq_raise_state *r, rq_id node, int64_t made_for)
{
    rq_graph *g = r->g;
    bool flat = made_for < 13, flat_here = rq_graph_opset(g, "") < 13;
    int64_t axis = rq_attr_int(&g->nodes[node], RQ_WORD_axis, flat ? 1 : -1);
    if (rq_attr_set_int(g, node, "axis", axis))
        return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", g->nodes[node].name);
    return flat && !flat_here ? rq_upgrade_softmax(g, node, axis, r->err) : RQ_OK;
}

/* Is a scale or zero point made when the model runs? Operators with rows of their own then stay as they are. */
static bool is_dynamic(const rq_graph *g, const rq_node *n, const form *f)
{
    const int at[6] = { f->scale[0], f->zero_point[0], f->scale[1], f->zero_point[1], f->out_scale, f->out_scale + 1 };
    if (!rq_op_find(f->domain, f->op))
        return false;
    for (int i = 0; i < 6; i++) {
        const rq_id v = i >= 4 && f->out_scale < 0 ? RQ_NONE : input(n, at[i]);
        if (v != RQ_NONE && !rq_raise_const(g, v))
            return true;
    }
    return false;
}

static rq_status raise_form(rq_raise_state *r, rq_id node, const form *f)
{
    rq_graph *g = r->g;
    const rq_node *n = &g->nodes[node];
    int64_t axis[2] = { RQ_PER_TENSOR, RQ_PER_TENSOR }, block[2] = { 0 };
    if (n->n_in < f->min_in || n->n_out != 1 || n->out[0] == RQ_NONE || is_dynamic(g, n, f))
        return RQ_OK;
    for (int i = 0; i < f->n_data; i++)
        if (input(n, f->data[i]) == RQ_NONE || input(n, f->scale[i]) == RQ_NONE)
            return RQ_OK;
    int64_t opset_attr = rq_attr_int(n, RQ_WORD_opset, 13);
    bool softmax = !strcmp(f->plain, "Softmax"), gemm = !strcmp(f->plain, "Gemm");
    int rank = rank_of(g, n->in[f->data[0]]);
    bool last = rq_attr_int(n, RQ_WORD_channels_last, 0) != 0;
    int kernel = 0;
    if (last && rank < 0 && rq_attr_ints(n, RQ_WORD_kernel_shape, &kernel))
        rank = kernel + 2;
    if (last && rank < 0 && !strcmp(f->plain, "Conv"))
        rank = rank_of(g, n->in[f->data[1]]); /* weights are [M, C / group, ..] in either order */
    if ((last && (rank < 3 || !strcmp(f->plain, "ConvTranspose"))) ||
        (softmax && opset_attr >= 13 && rq_graph_opset(g, "") < 13 && rq_attr_int(n, RQ_WORD_axis, -1) != -1))
        return RQ_OK;

    rq_id in[3] = { RQ_NONE, RQ_NONE, RQ_NONE }, scale[2] = { RQ_NONE, RQ_NONE }, zero_point[2] = { RQ_NONE, RQ_NONE };
    for (int i = 0; i < f->n_data; i++) {
        RQ_TRY(flat_params(r, input(n, f->scale[i]), &scale[i]));
        zero_point[i] = input(&g->nodes[node], f->zero_point[i]);
        if (zero_point[i] != RQ_NONE)
            RQ_TRY(flat_params(r, zero_point[i], &zero_point[i]));
    }
    n = &g->nodes[node];
    for (int i = 0; i < f->n_data; i++) {
        const rq_dtype d = g->values[n->in[f->data[i]]].dtype;
        const rq_dtype z = zero_point[i] == RQ_NONE ? d : g->values[zero_point[i]].dtype;
        if (d != z && d != RQ_DTYPE_NONE && z != RQ_DTYPE_NONE)
            return rq_node_fail(g, n, r->err, RQ_BAD_DTYPE, "input %d is %s, its zero point %s", f->data[i],
                                rq_dtype_name(d), rq_dtype_name(z));
        if (!data_axis(g, n, f, i, scale[i], &axis[i], &block[i]))
            return RQ_OK;
    }
    /* The specification lets x and y of QLinearConv differ in type; ONNX Runtime has no such kernel and refuses, and so
     * far only broken files had it. */
    const rq_id x = n->in[f->data[0]], y_zero = input(n, f->out_scale + 1);
    if (!strcmp(f->op, "QLinearConv") && y_zero != RQ_NONE && g->values[x].dtype != RQ_DTYPE_NONE &&
        g->values[y_zero].dtype != RQ_DTYPE_NONE && g->values[y_zero].dtype != g->values[x].dtype)
        return rq_node_fail(g, n, r->err, RQ_UNSUPPORTED, "the input is %s and the output %s: expected one type",
                            rq_dtype_name(g->values[x].dtype), rq_dtype_name(g->values[y_zero].dtype));
    int bias_at = gemm ? 6 : !strncmp(f->plain, "Conv", 4) ? 8 : !strcmp(f->op, "MatMulIntegerToFloat") ? 6 : -1;
    rq_id bias = input(n, bias_at), bias_real = RQ_NONE;
    if (bias != RQ_NONE && f->out_scale >= 0) {
        RQ_TRY(real_bias(r, bias, scale[0], scale[1], gemm ? rq_attr_float(n, RQ_WORD_alpha, 1) : 1.0f, &bias_real));
        if (bias_real == RQ_NONE)
            return RQ_OK;
    }
    for (int i = 0; i < f->n_data; i++)
        RQ_TRY(rq_raise_real(r, g->nodes[node].in[f->data[i]], scale[i], zero_point[i], axis[i], block[i], &in[i]));
    int n_in = f->n_data;
    if (bias_real != RQ_NONE)
        in[n_in++] = bias_real;
    rq_id out_scale = input(&g->nodes[node], f->out_scale);
    rq_id out_zero = f->out_scale < 0 ? RQ_NONE : input(&g->nodes[node], f->out_scale + 1);
    RQ_TRY(settle(r, node, f, in, &n_in));
    RQ_TRY(rq_rewrite_become(g, node, f->plain, in, n_in, r->err));
    if (out_scale != RQ_NONE)
        RQ_TRY(quantize_output(r, node, out_scale, out_zero));
    if (bias != RQ_NONE && bias_real == RQ_NONE) { /* a float one, added behind */
        rq_id sum[2] = { RQ_NONE, bias }, y = g->nodes[node].out[0];
        RQ_TRY(rq_rewrite_detach(g, node, 0, "_MatMul", &sum[0], r->err));
        RQ_TRY(rq_rewrite_produce(g, "Add", "_Add", sum, 2, y, NULL, r->err));
    }
    if (last)
        RQ_TRY(channels_first(r, node, rank));
    return softmax ? settle_softmax(r, node, opset_attr) : RQ_OK;
}

/* QLinearConcat: output parameters first, then triples. */
static rq_status raise_concat(rq_raise_state *r, rq_id node)
{
    rq_graph *g = r->g;
    const rq_node *n = &g->nodes[node];
    int parts = (n->n_in - 2) / 3;
    if (n->n_in < 5 || (n->n_in - 2) % 3 || n->n_out != 1 || n->out[0] == RQ_NONE)
        return RQ_OK;
    rq_id *in = rq_arena_alloc(&g->names, (size_t)parts, sizeof *in);
    if (!in)
        return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", n->name);
    for (int i = 0; i < parts; i++) {
        n = &g->nodes[node];
        RQ_TRY(rq_raise_real(r, n->in[2 + 3 * i], n->in[3 + 3 * i], n->in[4 + 3 * i], RQ_PER_TENSOR, 0, &in[i]));
    }
    n = &g->nodes[node];
    rq_id scale = n->in[0], zero_point = n->in[1];
    RQ_TRY(rq_rewrite_become(g, node, "Concat", in, parts, r->err));
    return quantize_output(r, node, scale, zero_point);
}

/* QLinearWhere: condition, X with parameters, Y with parameters, output parameters. */
static rq_status raise_where(rq_raise_state *r, rq_id node)
{
    rq_graph *g = r->g;
    const rq_node *n = &g->nodes[node];
    if (n->n_in != 9 || n->n_out != 1 || n->out[0] == RQ_NONE)
        return RQ_OK;
    rq_id scale = n->in[7], zero_point = n->in[8], in[3] = { n->in[0] };
    RQ_TRY(rq_raise_real(r, n->in[1], n->in[2], n->in[3], RQ_PER_TENSOR, 0, &in[1]));
    n = &g->nodes[node];
    RQ_TRY(rq_raise_real(r, n->in[4], n->in[5], n->in[6], RQ_PER_TENSOR, 0, &in[2]));
    RQ_TRY(rq_rewrite_become(g, node, "Where", in, 3, r->err));
    return quantize_output(r, node, scale, zero_point);
}

rq_status rq_raise_qoperator(rq_raise_state *r)
{
    rq_graph *g = r->g;
    for (int i = 0, n = g->n_nodes; i < n; i++) {
        const rq_node *node = &g->nodes[i];
        if (!node->op || node->op[0] == 0)
            continue;
        const char *domain = !strcmp(node->domain, "ai.onnx") ? "" : node->domain;
        if (!strcmp(domain, "com.microsoft") && !strcmp(node->op, "QLinearConcat"))
            RQ_TRY(raise_concat(r, i));
        else if (!strcmp(domain, "com.microsoft") && !strcmp(node->op, "QLinearWhere"))
            RQ_TRY(raise_where(r, i));
        else
            for (size_t k = 0; k < sizeof forms / sizeof *forms; k++)
                if (!strcmp(domain, forms[k].domain) && !strcmp(node->op, forms[k].op)) {
                    RQ_TRY(raise_form(r, i, &forms[k]));
                    break;
                }
    }
    return RQ_OK;
}
