/* ops/raise_qdq.c — QuantizeLinear/DequantizeLinear pairs become annotations. In topological order:
 *   - QuantizeLinear of a constant is computed now; DequantizeLinear of a constant is a constant that holds codes;
 *   - QuantizeLinear of x annotates x when nobody sees x unrounded; otherwise a Requantize makes a rounded twin.
 *     Each DequantizeLinear behind it with equal parameters then is that value;
 *   - any other DequantizeLinear stays, as a free view of codes that came from elsewhere, its output annotated. */
#include "ops/raise.h"

#include <string.h>

#include "ops/eval.h"
#include "ops/int_ops.h"
#include "ops/rewrite.h"
#include "quant/codes.h"

static bool is_q(const rq_node *n)
{
    return rq_raise_is(n, "QuantizeLinear", true) && n->n_in >= 2 && n->n_out == 1 && n->out[0] != RQ_NONE;
}

static bool is_dq(const rq_node *n)
{
    return rq_raise_is(n, "DequantizeLinear", true) && n->n_in >= 2 && n->n_out == 1 && n->out[0] != RQ_NONE;
}

/* The ONNX domain counts along axis 1 unless told otherwise; com.microsoft has no default (per tensor). */
static int64_t node_axis(const rq_node *n)
{
    if (n->domain[0] && strcmp(n->domain, "ai.onnx") && !rq_attr_find(n, RQ_WORD_axis))
        return INT64_MAX; /* no axis: only a single scale will do */
    return rq_attr_int(n, RQ_WORD_axis, 1);
}

/* Type of the codes that a QuantizeLinear makes. */
static rq_dtype q_dtype(const rq_graph *g, const rq_node *n)
{
    if (n->n_in > 2 && n->in[2] != RQ_NONE) {
        const rq_tensor *z = rq_raise_const(g, n->in[2]);
        return z ? z->dtype : RQ_DTYPE_NONE;
    }
    switch (rq_attr_int(n, RQ_WORD_output_dtype, 0)) { /* codes of TensorProto.DataType, docs/onnx-facts.md 1.3 */
    case 0:
    case 2:
        return RQ_DTYPE_U8;
    case 3:
        return RQ_DTYPE_S8;
    case 4:
        return RQ_DTYPE_U16;
    case 5:
        return RQ_DTYPE_S16;
    case 21:
        return RQ_DTYPE_U4;
    case 22:
        return RQ_DTYPE_S4;
    case 25:
        return RQ_DTYPE_U2;
    case 26:
        return RQ_DTYPE_S2;
    default:
        return RQ_DTYPE_NONE;
    }
}

/* The annotation that node n (Q or DQ) stands for, or RQ_NONE. */
static rq_status params_of(rq_raise_state *r, const rq_node *n, rq_id *quant)
{
    rq_graph *g = r->g;
    const rq_value *x = &g->values[n->in[0]], *y = &g->values[n->out[0]];
    bool q = !strcmp(n->op, "QuantizeLinear");
    rq_dtype d = q ? q_dtype(g, n) : x->kind == RQ_VALUE_CONST ? x->constant.dtype : x->dtype;
    rq_dtype real = q ? x->dtype : y->dtype;
    const rq_id zp = n->n_in > 2 ? n->in[2] : RQ_NONE;
    *quant = RQ_NONE;
    if (!q && d == RQ_DTYPE_NONE && rq_raise_const(g, zp))
        d = rq_raise_const(g, zp)->dtype; /* codes and zero point are of one type */
    if ((real != RQ_DTYPE_NONE && real != RQ_DTYPE_F32) || (q && rq_attr_int(n, RQ_WORD_precision, 0) > 1) ||
        (!q && rq_attr_int(n, RQ_WORD_output_dtype, 1) > 1))
        return RQ_OK;
    const rq_shape *shape = x->kind == RQ_VALUE_CONST ? &x->constant.shape : &x->shape;
    return rq_raise_params(r, n->in[1], zp, d, node_axis(n), rq_attr_int(n, RQ_WORD_block_size, 0), shape, quant);
}

/* ---- constants ---- */

/* `name` without the suffix that ONNX Runtime's quantizer appends, if it has it and the rest is free; else `fallback`.
 * NULL: memory is out. */
static const char *stem(rq_graph *g, const char *name, const char *suffix, const char *fallback)
{
    size_t n = strlen(name), m = strlen(suffix);
    if (n <= m || strcmp(name + n - m, suffix) != 0)
        return fallback;
    const char *kept = rq_graph_strn(g, name, n - m);
    return !kept || rq_graph_find(g, kept) == RQ_NONE ? kept : fallback;
}

/* A constant of reals, stored as the codes of constant c. */
static rq_status add_code_const(rq_raise_state *r, rq_id c, rq_id quant, const char *fallback, rq_id *id)
{
    rq_graph *g = r->g;
    const char *name = stem(g, g->values[c].name, "_quantized", fallback);
    if (!name)
        return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", g->values[c].name);
    if (name[0] && rq_graph_find(g, name) != RQ_NONE && !(name = rq_graph_fresh_name(g, name)))
        return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", g->values[c].name);
    rq_tensor t;
    rq_tensor_share(&t, &g->values[c].constant); /* values may move */
    rq_status st = rq_graph_add_const(g, id, name, &t, r->err);
    rq_tensor_release(&t);
    RQ_TRY(st);
    g->values[*id].dtype = RQ_DTYPE_F32;
    g->values[*id].quant = quant;
    r->n_raised++;
    return RQ_OK;
}

/* DequantizeLinear of a constant. */
static rq_status raise_const_dq(rq_raise_state *r, rq_id node, rq_id quant)
{
    rq_graph *g = r->g;
    rq_id c = g->nodes[node].in[0], d = g->nodes[node].out[0], made;
    if (rq_codes_check(&g->quants[quant].q, &g->values[c].constant.shape, NULL))
        return RQ_OK;
    const char *name = g->values[d].name;
    bool output = rq_graph_is_output(g, d);
    RQ_TRY(add_code_const(r, c, quant, "", &made));
    rq_graph_replace_uses(g, d, made, RQ_NONE);
    rq_graph_remove_node(g, node);
    if (output || !g->values[made].name[0])
        RQ_TRY(rq_graph_rename(g, made, name, r->err));
    return RQ_OK;
}

/* QuantizeLinear of a constant: the codes are computed now. */
static rq_status fold_const_q(rq_raise_state *r, rq_id node, rq_id quant)
{
    rq_graph *g = r->g;
    rq_id x = g->nodes[node].in[0], i = g->nodes[node].out[0], made;
    const rq_tensor *t = &g->values[x].constant;
    const rq_qparams *q = &g->quants[quant].q;
    if (t->dtype != RQ_DTYPE_F32 || g->values[x].quant != RQ_NONE || rq_graph_is_output(g, i) ||
        rq_codes_check(q, &t->shape, NULL))
        return RQ_OK;
    rq_tensor codes;
    rq_status st = rq_tensor_create(&codes, q->dtype, &t->shape, true);
    if (st)
        return rq_fail(r->err, st, "out of memory rounding '%s'", g->values[x].name);
    rq_codes_from_reals(&codes, t, q, &r->kernels);
    st = rq_eval_replace(g, i, &codes, &made, r->err);
    rq_tensor_release(&codes);
    RQ_TRY(st);
    if (rq_graph_uses(g, x, NULL, 0))
        return RQ_OK;
    /* the codes take the place of the reals: DequantizeLinear gives the name back */
    const char *name = g->values[x].name;
    rq_graph_remove_value(g, x);
    size_t n = strlen(name);
    char *coded = n ? rq_arena_alloc(&g->names, n + sizeof "_quantized", 1) : NULL;
    if (!n)
        return RQ_OK;
    if (!coded)
        return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", name);
    memcpy(coded, name, n);
    memcpy(coded + n, "_quantized", sizeof "_quantized");
    return rq_graph_find(g, coded) == RQ_NONE ? rq_graph_rename(g, made, coded, r->err) : RQ_OK;
}

/* ---- activations ---- */

static bool same_params(const rq_graph *g, rq_id a, rq_id b)
{
    return a == b || (a != RQ_NONE && b != RQ_NONE && rq_qparams_equal(&g->quants[a].q, &g->quants[b].q));
}

/* Do all uses of x round it with these parameters, and is it no output? */
static rq_status all_uses_round(rq_raise_state *r, rq_id x, rq_id quant, bool *yes)
{
    rq_graph *g = r->g;
    *yes = false;
    if (rq_graph_is_output(g, x))
        return RQ_OK;
    int n = rq_graph_uses(g, x, NULL, 0);
    rq_id *user = rq_mem_alloc((size_t)n + 1, sizeof *user);
    if (!user)
        return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", g->values[x].name);
    rq_graph_uses(g, x, user, n);
    bool all = true;
    rq_status st = RQ_OK;
    for (int i = 0; i < n && all && !st; i++) {
        const rq_node *u = &g->nodes[user[i]];
        rq_id other = RQ_NONE;
        all = is_q(u) && u->in[0] == x;
        if (all)
            st = params_of(r, u, &other);
        all = all && !st && same_params(g, other, quant);
    }
    rq_mem_free(user);
    *yes = all;
    return st;
}

/* The output of a Requantize of x with these parameters that is there already, or RQ_NONE. */
static rq_id find_requantize(const rq_graph *g, rq_id x, rq_id quant)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (n->op && !strcmp(n->domain, "requant") && !strcmp(n->op, "Requantize") && n->in[0] == x) {
            if (same_params(g, g->values[n->out[0]].quant, quant))
                return n->out[0];
        }
    }
    return RQ_NONE;
}

/* A rounded twin of x. */
static rq_status add_requantize(rq_raise_state *r, rq_id x, rq_id quant, rq_id *made)
{
    rq_graph *g = r->g;
    rq_shape shape = g->values[x].shape;
    rq_id node;
    RQ_TRY(rq_graph_add_value(g, made, RQ_VALUE_NODE, NULL, RQ_DTYPE_F32, &shape, r->err));
    RQ_TRY(rq_graph_add_node(g, &node, "Requantize", "requant", "", &x, 1, made, 1, r->err));
    g->values[*made].quant = quant;
    r->n_raised++;
    return rq_graph_set_opset(g, "requant", 1);
}

/* Node (a DequantizeLinear) gives the same as the annotated value v: everybody reads v. */
static rq_status merge_dq(rq_raise_state *r, rq_id node, rq_id v)
{
    rq_graph *g = r->g;
    rq_node *n = &g->nodes[node];
    rq_id d = n->out[0];
    rq_value was = g->values[d];
    bool output = rq_graph_is_output(g, d);
    if (output && (g->values[v].kind != RQ_VALUE_NODE || rq_graph_is_output(g, v))) {
        /* both names are the user's: the node becomes a copy */
        while (n->n_attr)
            rq_attr_remove(g, node, n->attr[0].name);
        n->op = "Identity";
        n->domain = "";
        n->n_in = 1;
        n->in[0] = v;
        g->values[d].quant = g->values[v].quant;
        return RQ_OK;
    }
    rq_graph_replace_uses(g, d, v, RQ_NONE);
    rq_graph_remove_node(g, node);
    bool nameless = !g->values[v].name[0];
    if (!output && nameless && !(was.name = stem(g, was.name, "_DequantizeLinear_Output", was.name)))
        return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", g->values[v].name);
    return rq_rewrite_inherit(g, v, &was, output || nameless, r->err);
}

/* QuantizeLinear of a value that is no constant. */
static rq_status raise_q(rq_raise_state *r, rq_id node, rq_id quant)
{
    rq_graph *g = r->g;
    rq_id x = g->nodes[node].in[0], codes = g->nodes[node].out[0], rounded = x;
    if (!rq_raise_is_sound(&g->quants[quant].q))
        return RQ_OK;
    if (!same_params(g, g->values[x].quant, quant)) {
        bool all = false;
        if (g->values[x].quant == RQ_NONE)
            RQ_TRY(all_uses_round(r, x, quant, &all));
        if (all) {
            g->values[x].quant = quant;
            g->values[x].dtype = RQ_DTYPE_F32;
            r->n_raised++;
        } else {
            rounded = find_requantize(g, x, quant);
            if (rounded == RQ_NONE)
                RQ_TRY(add_requantize(r, x, quant, &rounded));
            RQ_TRY(rq_graph_set_input(g, node, 0, rounded));
        }
    }
    int n = rq_graph_uses(g, codes, NULL, 0);
    rq_id *user = rq_mem_alloc((size_t)n + 1, sizeof *user);
    if (!user)
        return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", g->values[x].name);
    for (int i = 0; i < n; i++)
        user[i] = RQ_NONE; /* uses as graph output are counted, not listed */
    rq_graph_uses(g, codes, user, n);
    rq_status st = RQ_OK;
    for (int i = 0; i < n && user[i] != RQ_NONE && !st; i++) {
        const rq_node *u = &g->nodes[user[i]];
        rq_id other;
        if (!is_dq(u) || u->in[0] != codes)
            continue;
        st = params_of(r, u, &other);
        if (!st && same_params(g, other, quant))
            st = merge_dq(r, user[i], rounded);
    }
    rq_mem_free(user);
    RQ_TRY(st);
    if (!g->values[rounded].name[0]) { /* a Requantize that only integers follow */
        const char *name = rq_graph_fresh_name(g, g->values[codes].name);
        if (!name)
            return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", g->values[x].name);
        RQ_TRY(rq_graph_rename(g, rounded, name, r->err));
    }
    if (!rq_graph_uses(g, codes, NULL, 0))
        rq_graph_remove_node(g, node);
    return RQ_OK;
}

/* DequantizeLinear of codes that come from elsewhere: its output is those codes. */
static void view_dq(rq_raise_state *r, rq_id node, rq_id quant)
{
    rq_graph *g = r->g;
    rq_value *y = &g->values[g->nodes[node].out[0]];
    const rq_qparams *q = &g->quants[quant].q;
    if (y->quant != RQ_NONE || rq_dtype_bits(q->dtype) > 16 || !rq_raise_is_sound(q))
        return;
    y->quant = quant;
    y->dtype = RQ_DTYPE_F32;
    r->n_raised++;
}

/* ---- biases ---- */

/* A bias whose scale is the product of those of input and weight (and of alpha, for Gemm) counts in units of their
 * accumulator. */
static rq_status derive_bias(rq_graph *g, const rq_node *n)
{
    bool product =
        rq_raise_is(n, "Conv", false) || rq_raise_is(n, "ConvTranspose", false) || rq_raise_is(n, "Gemm", false);
    if (!product || n->n_in < 3)
        return RQ_OK;
    const rq_qparams *x = rq_graph_qparams(g, n->in[0]), *w = rq_graph_qparams(g, n->in[1]),
                     *b = rq_graph_qparams(g, n->in[2]);
    bool gemm = !strcmp(n->op, "Gemm");
    if (!x || !w || !b || (gemm && rq_attr_float(n, RQ_WORD_beta, 1) != 1) ||
        !rq_int_is_bias(b, x, w, gemm ? rq_attr_float(n, RQ_WORD_alpha, 1) : 1))
        return RQ_OK;
    rq_value *bias = &g->values[n->in[2]];
    const rq_quant *was = &g->quants[bias->quant];
    if (was->derived_x != RQ_NONE && (was->derived_x != n->in[0] || was->derived_w != n->in[1])) {
        rq_qparams own; /* one file's scale for several biases: here each is derived from its own product */
        rq_id id;
        RQ_TRY(rq_qparams_copy(&own, &was->q));
        rq_status st = rq_graph_add_quant(g, &id, &own, was->method);
        rq_qparams_release(&own);
        RQ_TRY(st);
        bias->quant = id;
    }
    rq_quant *q = &g->quants[bias->quant];
    q->derived_x = n->in[0];
    q->derived_w = n->in[1];
    return RQ_OK;
}

/* ---- operators on codes ---- */

/* Does the node only choose among elements of input 0, so that it does on codes what it does on reals? */
static bool chooses(const rq_node *n)
{
    const rq_op *row = rq_op_find(n->domain, n->op);
    if (n->n_in < 1 || n->in[0] == RQ_NONE || n->n_out != 1 || n->out[0] == RQ_NONE)
        return false;
    return rq_rewrite_is(n, "MaxPool") ||
           (row && row->flags & RQ_OP_MOVES && row->max_in != -1 && strcmp(n->op, "Pad"));
}

/* In a QOperator model Reshape, MaxPool and the like work on the integers that a QuantizeLinear (made for the node before)
 * gives: between a DequantizeLinear and a QuantizeLinear of the same parameters they work on reals. */
static rq_status lift(rq_raise_state *r, rq_id node)
{
    rq_graph *g = r->g;
    const rq_node *n = &g->nodes[node];
    rq_id codes = n->in[0], y = n->out[0], quant, real, made;
    if (g->values[codes].kind != RQ_VALUE_NODE)
        return RQ_OK;
    const rq_node *q = &g->nodes[g->values[codes].producer];
    if (!is_q(q))
        return RQ_OK;
    RQ_TRY(params_of(r, q, &quant));
    if (quant == RQ_NONE || !rq_raise_is_plain(&g->quants[quant].q))
        return RQ_OK;
    rq_id scale = q->in[1], zero_point = q->n_in > 2 ? q->in[2] : RQ_NONE;
    RQ_TRY(rq_raise_real(r, codes, scale, zero_point, RQ_PER_TENSOR, 0, &real));
    if (rq_graph_set_input(g, node, 0, real))
        return rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising '%s'", g->values[y].name);
    RQ_TRY(rq_rewrite_detach(g, node, 0, "_QuantizeLinear_Input", &made, r->err));
    g->values[made].dtype = RQ_DTYPE_F32;
    rq_id in[3] = { made, scale, zero_point };
    return rq_rewrite_produce(g, "QuantizeLinear", "_QuantizeLinear", in, zero_point == RQ_NONE ? 2 : 3, y, NULL,
                              r->err);
}

static rq_status lift_all(rq_raise_state *r)
{
    rq_id *order;
    int n;
    RQ_TRY(rq_order(r->g, &order, &n, r->err));
    rq_status st = RQ_OK;
    for (int i = 0; i < n && !st; i++)
        if (chooses(&r->g->nodes[order[i]]))
            st = lift(r, order[i]);
    rq_mem_free(order);
    return st;
}

rq_status rq_raise_qdq(rq_raise_state *r)
{
    rq_graph *g = r->g;
    rq_id *order;
    int n;
    RQ_TRY(lift_all(r));
    RQ_TRY(rq_order(g, &order, &n, r->err));
    rq_status st = RQ_OK;
    for (int i = 0; i < n && !st; i++) {
        const rq_node *node = &g->nodes[order[i]];
        bool q = node->op && is_q(node), dq = node->op && is_dq(node);
        rq_id quant;
        if ((!q && !dq) || node->in[0] == RQ_NONE)
            continue;
        st = params_of(r, node, &quant);
        if (st || quant == RQ_NONE)
            continue;
        bool constant = g->values[node->in[0]].kind == RQ_VALUE_CONST && g->values[node->in[0]].quant == RQ_NONE;
        if (q)
            st = constant ? fold_const_q(r, order[i], quant) : raise_q(r, order[i], quant);
        else if (constant)
            st = raise_const_dq(r, order[i], quant);
        else
            view_dq(r, order[i], quant);
    }
    rq_mem_free(order);
    for (int i = 0; i < g->n_nodes && !st; i++)
        if (g->nodes[i].op && derive_bias(g, &g->nodes[i]))
            st = rq_fail(r->err, RQ_NO_MEMORY, "out of memory raising the bias of '%s'", g->nodes[i].name);
    return st;
}
