/* ops/widen.c — see widen.h. */
#include "ops/widen.h"

#include <string.h>

#include "ops/elements.h"
#include "ops/half.h"
#include "ops/op.h"
#include "ops/rewrite.h"
#include "ops/upgrade.h"
#include "tensor/convert.h"

enum { ONNX_FLOAT = 1, ONNX_FLOAT16 = 10, ONNX_BFLOAT16 = 16 };

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory converting the model's floats");
}

float rq_widen_scale(rq_dtype d, float s)
{
    if (!rq_half_is(d) || !(s > 0))
        return s;
    const bool f16 = d == RQ_DTYPE_F16;
    uint16_t h = f16 ? rq_convert_f32_to_f16(s) : rq_convert_f32_to_bf16(s);
    const float near = f16 ? rq_convert_f16_to_f32(h) : rq_convert_bf16_to_f32(h);
    if (near >= s)
        return near;
    h++; /* the next one: positive floats lie in the order of their bits */
    return f16 ? rq_convert_f16_to_f32(h) : rq_convert_bf16_to_f32(h);
}

/* ---- walking ---- */

typedef struct turn {
    rq_dtype from, to; /* widening: from NONE means both 16-bit types */
    rq_err *err;
} turn;

static bool is_from(const turn *t, rq_dtype d)
{
    return t->from == RQ_DTYPE_NONE ? rq_half_is(d) : d == t->from;
}

static int onnx_number(rq_dtype d)
{
    return d == RQ_DTYPE_F16 ? ONNX_FLOAT16 : d == RQ_DTYPE_BF16 ? ONNX_BFLOAT16 : ONNX_FLOAT;
}

static rq_status convert(const turn *t, rq_tensor *x)
{
    rq_tensor made;
    if (!is_from(t, x->dtype))
        return RQ_OK;
    if (rq_tensor_create(&made, t->to, &x->shape, false))
        return no_memory(t->err);
    rq_elements_convert(&made, x, true);
    rq_tensor_release(x);
    *x = made;
    return RQ_OK;
}

/* Scales of Resize are f32 whatever it resizes. */
static bool stays_f32(const rq_graph *g, rq_id v)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (n->op && (rq_rewrite_is(n, "Resize") || rq_rewrite_is(n, "Upsample")))
            for (int k = n->n_in > 2 ? 2 : 1; k < n->n_in; k++)
                if (n->in[k] == v)
                    return true;
    }
    return false;
}

static rq_status turn_graph(const turn *t, rq_graph *g);

static rq_status turn_attr(const turn *t, const rq_node *n, rq_attr *a)
{
    static const char *const types[] = { "to", "dtype", "output_dtype" };
    for (int k = 0; (a->type == RQ_ATTR_TENSOR || a->type == RQ_ATTR_TENSORS) && k < a->n; k++)
        RQ_TRY(convert(t, &a->t[k]));
    for (int k = 0; k < rq_attr_bodies(a); k++)
        RQ_TRY(turn_graph(t, a->g[k]));
    for (size_t k = 0; a->type == RQ_ATTR_INT && !n->domain[0] && k < sizeof types / sizeof types[0]; k++)
        if (!strcmp(a->name, types[k]) && is_from(t, rq_elements_dtype(a->i)))
            a->i = onnx_number(t->to);
    return RQ_OK;
}

/* All values and attributes; inputs and outputs of the outermost graph, and constants that are such, are the caller's. */
static rq_status turn_graph(const turn *t, rq_graph *g)
{
    for (rq_id v = 0; v < g->n_values; v++) {
        rq_value *x = &g->values[v];
        if (x->kind == RQ_VALUE_DEAD || (!g->outer && x->kind == RQ_VALUE_INPUT) || x->quant != RQ_NONE)
            continue;
        if (x->kind == RQ_VALUE_CONST) {
            if (is_from(t, x->constant.dtype) && (g->outer || !rq_graph_is_output(g, v)) && !stays_f32(g, v)) {
                RQ_TRY(convert(t, &x->constant));
                x->dtype = t->to;
            }
        } else if (is_from(t, x->dtype)) {
            x->dtype = t->to;
        }
    }
    for (rq_id i = 0; i < g->n_nodes; i++)
        for (int a = 0; g->nodes[i].op && a < g->nodes[i].n_attr; a++)
            RQ_TRY(turn_attr(t, &g->nodes[i], &g->nodes[i].attr[a]));
    return RQ_OK;
}

/* ---- wider ---- */

/* Which 16-bit types there are, and whether there are other floats that are computed. */
static void look(const rq_graph *g, bool *f16, bool *bf16, bool *others)
{
    for (rq_id v = 0; v < g->n_values; v++) {
        const rq_value *x = &g->values[v];
        if (x->kind == RQ_VALUE_DEAD)
            continue;
        const rq_dtype d = x->kind == RQ_VALUE_CONST ? x->constant.dtype : x->dtype;
        *f16 |= d == RQ_DTYPE_F16;
        *bf16 |= d == RQ_DTYPE_BF16;
        *others |= x->kind != RQ_VALUE_CONST && (d == RQ_DTYPE_F32 || d == RQ_DTYPE_F64);
    }
    for (rq_id i = 0; i < g->n_nodes; i++)
        for (int a = 0; g->nodes[i].op && a < g->nodes[i].n_attr; a++) {
            const rq_attr *at = &g->nodes[i].attr[a];
            for (int k = 0; k < rq_attr_bodies(at); k++)
                look(at->g[k], f16, bf16, others);
        }
}

static rq_status add_cast(rq_graph *g, rq_id x, rq_id y, rq_dtype to, rq_err *err)
{
    rq_id node;
    RQ_TRY(rq_rewrite_produce(g, "Cast", "_Cast", &x, 1, y, &node, err));
    return rq_attr_set_int(g, node, "to", onnx_number(to)) ? no_memory(err) : RQ_OK;
}

static rq_status cast_input(rq_graph *g, rq_id x, rq_err *err)
{
    rq_id y;
    rq_shape shape = g->values[x].shape;
    const char *name = rq_rewrite_name(g, g->values[x].name, "_f32");
    if (!name)
        return no_memory(err);
    RQ_TRY(rq_graph_add_value(g, &y, RQ_VALUE_NODE, name, RQ_DTYPE_F32, &shape, err));
    rq_graph_replace_uses(g, x, y, RQ_NONE);
    return add_cast(g, x, y, RQ_DTYPE_F32, err);
}

/* Output `at` keeps its name and type; what made it makes a new value, which a Cast narrows. */
static rq_status cast_output(rq_graph *g, int at, rq_dtype d, rq_err *err)
{
    const rq_id y = g->outputs[at], maker = g->values[y].producer;
    int k = 0;
    rq_id made;
    while (g->nodes[maker].out[k] != y)
        k++;
    RQ_TRY(rq_rewrite_detach(g, maker, k, "_f32", &made, err));
    rq_graph_replace_uses(g, y, made, RQ_NONE);
    for (int i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == made)
            g->outputs[i] = y;
    g->values[y].dtype = d;
    return add_cast(g, made, y, d, err);
}

rq_status rq_widen(rq_graph *g, rq_err *err)
{
    bool f16 = false, bf16 = false, others = false;
    look(g, &f16, &bf16, &others);
    if (!f16 && !bf16)
        return RQ_OK;
    rq_dtype *out = rq_mem_alloc((size_t)g->n_outputs + 1, sizeof *out);
    if (!out)
        return no_memory(err);
    for (int i = 0; i < g->n_outputs; i++)
        out[i] = g->values[g->outputs[i]].kind == RQ_VALUE_NODE ? g->values[g->outputs[i]].dtype : RQ_DTYPE_NONE;
    rq_status st = turn_graph(&(turn) { RQ_DTYPE_NONE, RQ_DTYPE_F32, err }, g);
    for (int i = 0; i < g->n_inputs && !st; i++)
        if (rq_half_is(g->values[g->inputs[i]].dtype))
            st = cast_input(g, g->inputs[i], err);
    for (int i = 0; i < g->n_outputs && !st; i++) /* one that is listed twice is cast once */
        if (rq_half_is(out[i]) && !rq_half_is(g->values[g->outputs[i]].dtype))
            st = cast_output(g, i, out[i], err);
    rq_mem_free(out);
    g->real = others || (f16 && bf16) ? RQ_DTYPE_NONE : f16 ? RQ_DTYPE_F16 : RQ_DTYPE_BF16;
    rq_ops_bind(g);
    return st;
}

rq_status rq_widen_quantized(rq_graph *g, rq_err *err)
{
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op || (strcmp(n->op, "QuantizeLinear") && strcmp(n->op, "DequantizeLinear")) || n->n_in < 2 ||
            n->in[1] == RQ_NONE)
            continue;
        const rq_value *s = &g->values[n->in[1]];
        if (rq_half_is(s->kind == RQ_VALUE_CONST ? s->constant.dtype : s->dtype))
            return rq_widen(g, err);
    }
    return RQ_OK;
}

/* ---- and back ---- */

/* Operators that take f32 and nothing else. */
static bool takes_half(const rq_graph *g)
{
    static const char *const f32_only[] = { "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger",
                                            "NonMaxSuppression", "MelWeightMatrix" };
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        if (!strncmp(n->op, "QLinear", 7) || (n->domain[0] && (n->op[0] == 'Q' || !strncmp(n->op, "Dynamic", 7))))
            return false;
        for (size_t k = 0; k < sizeof f32_only / sizeof f32_only[0]; k++)
            if (!strcmp(n->op, f32_only[k]))
                return false;
        for (int a = 0; a < n->n_attr; a++)
            for (int k = 0; k < rq_attr_bodies(&n->attr[a]); k++)
                if (!takes_half(n->attr[a].g[k]))
                    return false;
    }
    return true;
}

/* Casts from a type to itself, which stood at the borders. */
static rq_status drop_casts(rq_graph *g, rq_err *err)
{
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        rq_status st;
        if (rq_rewrite_is(n, "Cast") && n->n_in == 1 && n->in[0] != RQ_NONE && n->out[0] != RQ_NONE &&
            g->values[n->in[0]].dtype == g->values[n->out[0]].dtype && rq_half_is(g->values[n->in[0]].dtype) &&
            rq_rewrite_bypass(g, i, n->in[0], &st, err))
            RQ_TRY(st);
    }
    return RQ_OK;
}

rq_status rq_widen_round(rq_graph *g, rq_err *err)
{
    if (g->real == RQ_DTYPE_NONE)
        return RQ_OK;
    const turn down = { RQ_DTYPE_F32, g->real, err }, up = { g->real, RQ_DTYPE_F32, err };
    for (rq_id v = 0; v < g->n_values; v++) {
        rq_value *x = &g->values[v];
        if (x->kind != RQ_VALUE_CONST || x->quant != RQ_NONE || x->constant.dtype != RQ_DTYPE_F32 || stays_f32(g, v))
            continue;
        RQ_TRY(convert(&down, &x->constant));
        RQ_TRY(convert(&up, &x->constant));
    }
    return RQ_OK;
}

rq_status rq_narrow(rq_graph *g, rq_err *err)
{
    if (g->real == RQ_DTYPE_NONE || !takes_half(g))
        return RQ_OK;
    if (rq_graph_opset(g, "") < RQ_WIDEN_OPSET && rq_graph_is_quantized(g))
        RQ_TRY(rq_upgrade(g, RQ_WIDEN_OPSET, err));
    const rq_dtype half = g->real;
    RQ_TRY(turn_graph(&(turn) { RQ_DTYPE_F32, half, err }, g));
    for (int i = 0; i < g->n_outputs; i++) /* made by a Cast to this type, or a constant of it */
        if (g->values[g->outputs[i]].dtype == RQ_DTYPE_F32 && g->values[g->outputs[i]].kind == RQ_VALUE_NODE)
            g->values[g->outputs[i]].dtype = half;
    g->real = RQ_DTYPE_NONE;
    RQ_TRY(drop_casts(g, err));
    rq_graph_prune(g);
    rq_ops_bind(g);
    return RQ_OK;
}
