/* ops/lower.c — annotations become QuantizeLinear and DequantizeLinear nodes, with the names that ONNX Runtime's quantizer
 * gives (docs/onnx-facts.md 4.6):
 *
 *   value T     T -> T_QuantizeLinear -> T_DequantizeLinear -> consumers; a graph output T is what the DequantizeLinear
 *               makes, and its producer makes T_QuantizeLinear_Input
 *   constant W  W_quantized (codes) -> W_DequantizeLinear -> consumers; as a pair: like a value
 *   dedicated   as value T, but each consumer has its own two nodes
 *   parameters  T_scale, T_zero_point, or the names they had in their file; values that share an annotation share
 *               them; rank 0 per tensor, [C] along an axis, one per block
 *
 * A free QuantizeLinear or DequantizeLinear (ops/raise.h) stays the node it is, and Requantize is only the pair that
 * its output's annotation becomes. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "ops/op.h"
#include "ops/rewrite.h"
#include "ops/upgrade.h"
#include "quant/codes.h"

typedef struct params {
    rq_id scale, zero_point; /* values; RQ_NONE: not made yet */
} params;

typedef struct lowering {
    rq_graph *g;
    rq_kernels kernels;
    params *made; /* [n_quants] */
    rq_err *err;
} lowering;

static rq_status no_memory(lowering *l, rq_id v)
{
    return rq_fail(l->err, RQ_NO_MEMORY, "out of memory writing the scales of '%s'", l->g->values[v].name);
}

/* ---- parameters ---- */

/* A scalar, a list, or (blocks) the shape of the tensor with `axis` divided. */
static rq_shape params_shape(const rq_qparams *q, const rq_shape *tensor)
{
    if (q->axis == RQ_PER_TENSOR)
        return rq_shape_of(0, NULL);
    if (!q->block)
        return rq_shape_of(1, &q->n);
    rq_shape s = *tensor;
    s.dim[q->axis] = (s.dim[q->axis] + q->block - 1) / q->block;
    return s;
}

/* Is the constant v this tensor, bit for bit? */
static bool same_const(const rq_graph *g, rq_id v, const rq_tensor *t)
{
    if (v == RQ_NONE || g->values[v].kind != RQ_VALUE_CONST || g->values[v].quant != RQ_NONE)
        return false;
    const rq_tensor *c = &g->values[v].constant;
    return c->dtype == t->dtype && rq_shape_equal(&c->shape, &t->shape) && !memcmp(c->data, t->data, t->bytes);
}

/* Constant t under `name` (from a file; the constant may still be there) or base + suffix. Releases t. */
static rq_status add_param(lowering *l, rq_tensor *t, const char *name, const char *base, const char *suffix, rq_id *id)
{
    rq_graph *g = l->g;
    rq_status st = RQ_OK;
    *id = name ? rq_graph_find(g, name) : RQ_NONE;
    if (!same_const(g, *id, t)) {
        const char *fresh = name ? rq_rewrite_name(g, name, "") : rq_rewrite_name(g, base, suffix);
        st = fresh ? rq_graph_add_const(g, id, fresh, t, l->err)
                   : rq_fail(l->err, RQ_NO_MEMORY, "out of memory writing the scales of '%s'", base);
    }
    rq_tensor_release(t);
    return st;
}

/* The constants that hold the parameters of value v, whose tensor has this shape. */
static rq_status lower_params(lowering *l, rq_id v, const rq_shape *shape, params *out)
{
    rq_graph *g = l->g;
    const rq_quant *quant = &g->quants[g->values[v].quant];
    const rq_qparams *q = &quant->q;
    params *made = &l->made[g->values[v].quant];
    if (made->scale == RQ_NONE) {
        const rq_shape s = params_shape(q, shape);
        rq_tensor scale, zero;
        if (rq_tensor_create(&scale, RQ_DTYPE_F32, &s, false))
            return no_memory(l, v);
        if (rq_tensor_create(&zero, q->dtype, &s, true)) {
            rq_tensor_release(&scale);
            return no_memory(l, v);
        }
        for (int64_t i = 0; i < q->n; i++) {
            scale.f32[i] = q->scale[i];
            rq_tensor_set(&zero, i, q->zero_point[i]);
        }
        rq_status st = add_param(l, &scale, quant->scale_name, g->values[v].name, "_scale", &made->scale);
        if (st) {
            rq_tensor_release(&zero);
            return st;
        }
        RQ_TRY(add_param(l, &zero, g->quants[g->values[v].quant].zero_point_name, g->values[v].name, "_zero_point",
                         &made->zero_point));
    }
    *out = *made;
    return RQ_OK;
}

/* Do the constant parameters of a Q or DQ node say what q says? Then it is free. */
static bool is_free(const rq_graph *g, const rq_node *n, const rq_qparams *q)
{
    assert(q);
    rq_id s = n->n_in > 1 ? n->in[1] : RQ_NONE, z = n->n_in > 2 ? n->in[2] : RQ_NONE;
    if (s == RQ_NONE || g->values[s].kind != RQ_VALUE_CONST || (z != RQ_NONE && g->values[z].kind != RQ_VALUE_CONST))
        return false;
    const rq_tensor *scale = &g->values[s].constant, *zero = z == RQ_NONE ? NULL : &g->values[z].constant;
    if (scale->dtype != RQ_DTYPE_F32 || rq_tensor_count(scale) != q->n ||
        rq_attr_int(n, RQ_WORD_block_size, 0) != q->block ||
        memcmp(scale->f32, q->scale, (size_t)q->n * sizeof(float)) != 0 ||
        (zero ? zero->dtype != q->dtype || rq_tensor_count(zero) != q->n
              : !strcmp(n->op, "QuantizeLinear") && q->dtype != RQ_DTYPE_U8 && !rq_attr_find(n, RQ_WORD_output_dtype)))
        return false;
    for (int64_t i = 0; i < q->n; i++)
        if ((zero ? rq_tensor_get_int(zero, i) : 0) != q->zero_point[i])
            return false;
    if (q->axis == RQ_PER_TENSOR)
        return true;
    int64_t axis = rq_attr_int(n, RQ_WORD_axis, 1);
    return axis == q->axis || (axis < 0 && axis + g->values[n->in[0]].shape.rank == q->axis);
}

/* ---- nodes ---- */

/* Q or DQ number `copy` named after T: *out is its output (made here, with this name and type). Value names are made unique
 * where they are made; those of nodes are, since a value has one pair, but for copies. */
static rq_status add_copy(lowering *l, const char *op, int copy, rq_id in, rq_id v, const char *out_name, rq_dtype d,
                          rq_id *out)
{
    rq_graph *g = l->g;
    const rq_qparams *q = rq_graph_qparams(g, v);
    int axis = q->axis;
    int64_t block = q->block;
    const rq_value *t = &g->values[v];
    rq_shape shape = t->kind == RQ_VALUE_CONST ? t->constant.shape : t->shape;
    params p = { RQ_NONE, RQ_NONE };
    RQ_TRY(lower_params(l, v, &shape, &p));
    const char *base = g->values[v].name;
    char suffix[48] = "", number[16] = "";
    if (copy)
        snprintf(number, sizeof number, "_%d", copy);
    snprintf(suffix, sizeof suffix, "_%s%s", op, number);
    const char *node_name = rq_rewrite_name(g, base, suffix);
    if (!node_name || !out_name)
        return no_memory(l, v);
    rq_id ins[3] = { in, p.scale, p.zero_point }, node;
    RQ_TRY(rq_graph_add_value(g, out, RQ_VALUE_NODE, out_name, d, &shape, l->err));
    RQ_TRY(rq_graph_add_node(g, &node, op, "", node_name, ins, 3, out, 1, l->err));
    if ((axis != RQ_PER_TENSOR && rq_attr_set_int(g, node, "axis", axis)) ||
        (block && rq_attr_set_int(g, node, "block_size", block)))
        return no_memory(l, v);
    return RQ_OK;
}

static rq_status add_qdq(lowering *l, const char *op, rq_id in, rq_id v, const char *out_name, rq_dtype d, rq_id *out)
{
    return add_copy(l, op, 0, in, v, out_name, d, out);
}

/* The codes of an annotated constant, as a share or rounded now. */
static rq_status const_codes(lowering *l, rq_id v, rq_tensor *codes)
{
    const rq_value *c = &l->g->values[v];
    const rq_qparams *q = rq_graph_qparams(l->g, v);
    RQ_TRY(rq_codes_check(q, &c->constant.shape, l->err) ? rq_fail_in(l->err, RQ_BAD_SHAPE, "constant '%s'", c->name)
                                                         : RQ_OK);
    if (c->constant.dtype == q->dtype) {
        rq_tensor_share(codes, &c->constant);
        return RQ_OK;
    }
    if (c->constant.dtype != RQ_DTYPE_F32)
        return rq_fail(l->err, RQ_BAD_DTYPE, "constant '%s' is annotated as %s, but holds %s", c->name,
                       rq_dtype_name(q->dtype), rq_dtype_name(c->constant.dtype));
    if (rq_tensor_create(codes, q->dtype, &c->constant.shape, true))
        return no_memory(l, v);
    rq_codes_from_reals(codes, &c->constant, q, &l->kernels);
    return RQ_OK;
}

/* The reals stay: W -> W_QuantizeLinear -> W_DequantizeLinear -> consumers. */
static rq_status lower_pair(lowering *l, rq_id v)
{
    rq_graph *g = l->g;
    const char *base = g->values[v].name;
    rq_id codes, real;
    RQ_TRY(add_qdq(l, "QuantizeLinear", v, v, rq_rewrite_name(g, base, "_QuantizeLinear_Output"),
                   rq_graph_qparams(g, v)->dtype, &codes));
    RQ_TRY(add_qdq(l, "DequantizeLinear", codes, v, rq_rewrite_name(g, base, "_DequantizeLinear_Output"), RQ_DTYPE_F32,
                   &real));
    rq_graph_replace_uses(g, v, real, g->values[codes].producer);
    return RQ_OK;
}

static rq_status lower_const(lowering *l, rq_id v)
{
    rq_graph *g = l->g;
    if (g->quants[g->values[v].quant].pair && g->values[v].constant.dtype == RQ_DTYPE_F32 && !rq_graph_is_output(g, v))
        return lower_pair(l, v);
    const char *base = g->values[v].name, *name = rq_rewrite_name(g, base, "_quantized");
    rq_tensor t;
    rq_id codes, real;
    if (!name)
        return no_memory(l, v);
    RQ_TRY(const_codes(l, v, &t));
    rq_status st = rq_graph_add_const(g, &codes, name, &t, l->err);
    rq_tensor_release(&t);
    RQ_TRY(st);
    RQ_TRY(add_qdq(l, "DequantizeLinear", codes, v, rq_rewrite_name(g, base, "_DequantizeLinear_Output"), RQ_DTYPE_F32,
                   &real));
    bool output = rq_graph_is_output(g, v);
    rq_graph_replace_uses(g, v, real, RQ_NONE);
    rq_graph_remove_value(g, v);
    return output ? rq_graph_rename(g, real, base, l->err) : RQ_OK;
}

/* Node ids of the uses of v; the caller frees. */
static rq_status users_of(lowering *l, rq_id v, rq_id **users, int *n)
{
    int all = rq_graph_uses(l->g, v, NULL, 0);
    *users = rq_mem_alloc((size_t)all + 1, sizeof **users);
    if (!*users)
        return no_memory(l, v);
    for (int i = 0; i < all; i++)
        (*users)[i] = RQ_NONE; /* uses as graph output are counted, not listed */
    rq_graph_uses(l->g, v, *users, all);
    for (*n = 0; *n < all && (*users)[*n] != RQ_NONE;)
        ++*n;
    return RQ_OK;
}

static bool is_free_q(const rq_graph *g, const rq_node *n, rq_id v, const rq_qparams *q)
{
    return n->op && !strcmp(n->op, "QuantizeLinear") && n->in[0] == v && is_free(g, n, q);
}

/* The consumers read `real`; all but the first (or, where the graph's output is one, all) get a pair of their own. */
static rq_status dedicate(lowering *l, rq_id v, rq_id real, const rq_id *users, int n, bool output)
{
    rq_graph *g = l->g;
    const char *base = g->values[v].name;
    bool is_first = !output;
    int copy = 0;
    for (int i = 0; i < n; i++) {
        bool reads = false;
        for (int k = 0; k < g->nodes[users[i]].n_in; k++)
            reads |= g->nodes[users[i]].in[k] == real;
        if (!reads || is_first) {
            is_first &= !reads;
            continue;
        }
        rq_id codes, own;
        RQ_TRY(add_copy(l, "QuantizeLinear", ++copy, v, v, rq_rewrite_name(g, base, "_QuantizeLinear_Output"),
                        rq_graph_qparams(g, v)->dtype, &codes));
        RQ_TRY(add_copy(l, "DequantizeLinear", copy, codes, v, rq_rewrite_name(g, base, "_DequantizeLinear_Output"),
                        RQ_DTYPE_F32, &own));
        for (int k = 0; k < g->nodes[users[i]].n_in; k++)
            if (g->nodes[users[i]].in[k] == real && rq_graph_set_input(g, users[i], k, own))
                return no_memory(l, v);
    }
    return RQ_OK;
}

static rq_status lower_value(lowering *l, rq_id v)
{
    rq_graph *g = l->g;
    const rq_qparams *q = rq_graph_qparams(g, v);
    const char *base = g->values[v].name;
    if (g->values[v].kind == RQ_VALUE_NODE) {
        const rq_node *maker = &g->nodes[g->values[v].producer];
        if (!strcmp(maker->op, "DequantizeLinear") && rq_graph_qparams(g, maker->in[0]) == NULL && is_free(g, maker, q))
            return RQ_OK;
    }
    rq_id *users, codes = RQ_NONE, real;
    int n = 0;
    bool reals = rq_graph_is_output(g, v), output = reals;
    RQ_TRY(users_of(l, v, &users, &n));
    for (int i = 0; i < n; i++)
        if (!is_free_q(g, &g->nodes[users[i]], v, q))
            reals = true;
        else if (codes == RQ_NONE)
            codes = g->nodes[users[i]].out[0];
    rq_status st = RQ_OK;
    if (codes == RQ_NONE)
        st = add_qdq(l, "QuantizeLinear", v, v, rq_rewrite_name(g, base, "_QuantizeLinear_Output"),
                     rq_graph_qparams(g, v)->dtype, &codes);
    if (st || !reals)
        goto done;
    st = add_qdq(l, "DequantizeLinear", codes, v, rq_rewrite_name(g, base, "_DequantizeLinear_Output"), RQ_DTYPE_F32,
                 &real);
    if (st)
        goto done;
    rq_id quantizer = g->values[codes].producer;
    q = rq_graph_qparams(g, v);
    rq_graph_replace_uses(g, v, real, quantizer);
    for (int i = 0; i < n && !st; i++) /* other free ones keep reading v */
        if (is_free_q(g, &g->nodes[users[i]], real, q))
            st = rq_graph_set_input(g, users[i], 0, v);
    if (!st && g->quants[g->values[v].quant].dedicated)
        st = dedicate(l, v, real, users, n, output);
    if (!st && output && g->values[v].kind == RQ_VALUE_NODE) {
        const char *inner = rq_rewrite_name(g, base, "_QuantizeLinear_Input");
        st = inner ? rq_graph_rename(g, v, inner, l->err) : no_memory(l, v);
        if (!st)
            st = rq_graph_rename(g, real, base, l->err);
    } else if (!st && output) { /* an input that is an output: the name means both */
        for (int i = 0; i < g->n_outputs; i++)
            if (g->outputs[i] == real)
                g->outputs[i] = v;
    }
done:
    rq_mem_free(users);
    return st;
}

/* Requantize stood for the pair that its output now has. */
static rq_status drop_requantize(lowering *l)
{
    rq_graph *g = l->g;
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op || strcmp(n->domain, "requant") || strcmp(n->op, "Requantize"))
            continue;
        rq_id x = n->in[0];
        if (rq_graph_is_output(g, n->out[0])) {
            RQ_TRY(rq_rewrite_become(g, i, "Identity", &x, 1, l->err));
            continue;
        }
        rq_graph_replace_uses(g, n->out[0], x, RQ_NONE);
        rq_graph_remove_node(g, i);
    }
    rq_graph_drop_opset(g, "requant");
    return RQ_OK;
}

/* The opset whose QuantizeLinear and DequantizeLinear can express every annotation (docs/onnx-facts.md 2.2, 2.3); 0:
 * there is none. */
static int64_t needed_opset(const rq_graph *g)
{
    int64_t need = 0;
    for (rq_id v = 0; v < g->n_values; v++) {
        const rq_qparams *q = g->values[v].kind == RQ_VALUE_DEAD ? NULL : rq_graph_qparams(g, v);
        if (!q)
            continue;
        int bits = rq_dtype_bits(q->dtype);
        int64_t one = bits == 2 ? 25 : bits == 4 || bits == 16 || q->block ? 21 : q->axis != RQ_PER_TENSOR ? 13 : 10;
        need = one > need ? one : need;
    }
    return need;
}

rq_status rq_lower_qdq(rq_graph *g, rq_err *err)
{
    lowering l = { .g = g, .err = err };
    int64_t need = needed_opset(g);
    if (!need)
        return drop_requantize(&l);
    RQ_TRY(rq_upgrade(g, need, err));
    unsigned cpu;
    rq_kernels_init(&l.kernels, rq_cpu_pinned(&cpu, NULL) ? 0 : cpu);
    l.made = rq_mem_alloc((size_t)g->n_quants, sizeof *l.made);
    if (!l.made)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory writing annotations as nodes");
    for (int i = 0; i < g->n_quants; i++)
        l.made[i] = (params) { RQ_NONE, RQ_NONE };
    rq_status st = RQ_OK;
    for (rq_id v = 0, n = g->n_values; v < n && !st; v++) {
        if (g->values[v].quant == RQ_NONE)
            continue;
        if (g->values[v].kind == RQ_VALUE_CONST)
            st = lower_const(&l, v);
        else if (g->values[v].kind == RQ_VALUE_NODE || g->values[v].kind == RQ_VALUE_INPUT)
            st = lower_value(&l, v);
    }
    rq_mem_free(l.made);
    RQ_TRY(st);
    RQ_TRY(drop_requantize(&l));
    for (rq_id v = 0; v < g->n_values; v++)
        g->values[v].quant = RQ_NONE;
    for (int i = 0; i < g->n_quants; i++)
        rq_qparams_release(&g->quants[i].q);
    g->n_quants = 0;
    rq_graph_prune(g);
    rq_ops_bind(g);
    return RQ_OK;
}
