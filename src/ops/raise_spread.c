/* ops/raise_spread.c — annotations reach as far as they can without changing a bit of the result
 * (docs/onnx-facts.md 5.1, rules 8 and 9), so that integers run where ONNX Runtime runs integers:
 *   down  what only moves elements of an annotated value makes elements of the same codes;
 *   up    what is rounded after it was only moved could as well have been rounded before;
 *   swallow  Relu or Clip before a rounding whose code range lies inside the clip range: saturation does the same;
 *   clamps   where it does not (symmetric codes), and only to run: the Relu works on codes.
 * Down in topological order, then up and swallow in reverse order, each of which may open the way for the next. */
#include <math.h>
#include <string.h>

#include "kernels/quantize.h"
#include "ops/raise.h"
#include "ops/rewrite.h"

/* Does the node move elements of input 0, and nothing else gets into its outputs? */
static bool moves(const rq_node *n)
{
    const rq_op *row = rq_op_find(n->domain, n->op);
    return row && row->flags & RQ_OP_MOVES && row->max_in != -1 && n->n_in > 0 && n->in[0] != RQ_NONE &&
           strcmp(n->op, "Pad");
}

static bool is_real(const rq_value *v)
{
    return v->dtype == RQ_DTYPE_F32 || v->dtype == RQ_DTYPE_NONE;
}

static bool same_params(const rq_graph *g, rq_id a, rq_id b)
{
    return a == b || (a != RQ_NONE && b != RQ_NONE && rq_qparams_equal(&g->quants[a].q, &g->quants[b].q));
}

/* Transpose of a constant with parameters per channel: the axis moves along. RQ_NONE: no such case. */
static rq_status transposed(rq_raise_state *r, const rq_node *n, rq_id *quant)
{
    rq_graph *g = r->g;
    rq_id was = g->values[n->in[0]].quant, is;
    const rq_qparams *q = &g->quants[was].q;
    const rq_shape *shape = &g->values[n->in[0]].shape;
    int rank = shape->rank, count;
    *quant = RQ_NONE;
    if (!rq_rewrite_is(n, "Transpose") || g->values[n->in[0]].kind != RQ_VALUE_CONST || q->axis == RQ_PER_TENSOR ||
        q->block || rank < 1)
        return RQ_OK;
    const int64_t *perm = rq_attr_ints(n, RQ_WORD_perm, &count);
    if (perm && count != rank)
        return RQ_OK;
    int axis = 0;
    while (axis < rank && (perm ? perm[axis] : rank - 1 - axis) != q->axis)
        axis++;
    if (axis == rank)
        return RQ_OK;
    rq_qparams turned;
    RQ_TRY(rq_qparams_copy(&turned, q));
    turned.axis = axis;
    rq_status st = rq_graph_add_quant(g, &is, &turned, g->quants[was].method);
    rq_qparams_release(&turned);
    RQ_TRY(st);
    *quant = is;
    return RQ_OK;
}

/* Output k of a moving node whose input has other parameters: the move on the codes of the input, then a change of
 * parameters. */
static rq_status split_move(rq_raise_state *r, rq_id node, int k)
{
    rq_graph *g = r->g;
    rq_id y = g->nodes[node].out[k], moved, id;
    RQ_TRY(rq_rewrite_detach(g, node, k, "_moved", &moved, r->err));
    g->values[moved].quant = g->values[g->nodes[node].in[0]].quant;
    RQ_TRY(rq_graph_add_node(g, &id, "Requantize", "requant", "", &moved, 1, &y, 1, r->err));
    return rq_graph_set_opset(g, "requant", 1);
}

static rq_status spread_down(rq_raise_state *r, rq_id node)
{
    rq_graph *g = r->g;
    rq_id quant = g->values[g->nodes[node].in[0]].quant;
    if (quant == RQ_NONE || !moves(&g->nodes[node]))
        return RQ_OK;
    if (!rq_raise_is_plain(&g->quants[quant].q)) {
        RQ_TRY(transposed(r, &g->nodes[node], &quant));
        if (quant == RQ_NONE)
            return RQ_OK;
    }
    for (int k = 0; k < g->nodes[node].n_out; k++) {
        rq_id y = g->nodes[node].out[k];
        if (y == RQ_NONE || !is_real(&g->values[y]))
            continue;
        if (k && strcmp(g->nodes[node].op, "Split"))
            break; /* indices of MaxPool, masks */
        if (g->values[y].quant == RQ_NONE) {
            g->values[y].quant = quant;
            g->values[y].dtype = RQ_DTYPE_F32;
            r->n_raised++;
        } else if (!same_params(g, g->values[y].quant, quant)) {
            RQ_TRY(split_move(r, node, k));
        }
    }
    return RQ_OK;
}

/* May v, made by a node, take on what its only consumer makes of it? */
static bool is_private(const rq_graph *g, rq_id v)
{
    const rq_value *x = &g->values[v];
    return x->kind == RQ_VALUE_NODE && x->quant == RQ_NONE && is_real(x) && !rq_graph_is_output(g, v) &&
           rq_graph_uses(g, v, NULL, 0) == 1;
}

/* clamped[v]: v took over the value behind a Relu or Clip. What it is moved from then has those reals too, not the ones its
 * name stood for, and gets another name. */
static rq_status spread_up(rq_raise_state *r, rq_id node, bool *clamped)
{
    rq_graph *g = r->g;
    const rq_node *n = &g->nodes[node];
    rq_id y = n->n_out == 1 ? n->out[0] : RQ_NONE;
    if (y == RQ_NONE || g->values[y].quant == RQ_NONE || !moves(n) || !is_private(g, n->in[0]) ||
        !rq_raise_is_plain(&g->quants[g->values[y].quant].q))
        return RQ_OK;
    rq_id x = n->in[0];
    if (clamped[y]) {
        const char *name = rq_rewrite_name(g, g->values[x].name, "_clamped");
        RQ_TRY(name ? rq_graph_rename(g, x, name, r->err) : RQ_NO_MEMORY);
        clamped[x] = true;
    }
    g->values[x].quant = g->values[y].quant;
    g->values[x].dtype = RQ_DTYPE_F32;
    r->n_raised++;
    return RQ_OK;
}

/* The limits of a Relu or Clip; false: not one, or limits that are not constant. */
static bool clip_limits(const rq_graph *g, const rq_node *n, float *lo, float *hi)
{
    *lo = -INFINITY;
    *hi = INFINITY;
    if (rq_rewrite_is(n, "Relu")) {
        *lo = 0;
        return true;
    }
    if (!rq_rewrite_is(n, "Clip"))
        return false;
    *lo = rq_attr_float(n, RQ_WORD_min, *lo);
    *hi = rq_attr_float(n, RQ_WORD_max, *hi);
    for (int i = 1; i < n->n_in && i < 3; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        const rq_tensor *t = rq_raise_const(g, n->in[i]);
        if (!t || t->dtype != RQ_DTYPE_F32 || rq_tensor_count(t) != 1 || g->values[n->in[i]].quant != RQ_NONE)
            return false;
        *(i == 1 ? lo : hi) = t->f32[0];
    }
    return true;
}

/* Relu or Clip whose annotated output can hold nothing outside the limits. */
static void swallow(rq_raise_state *r, rq_id node, bool *clamped)
{
    rq_graph *g = r->g;
    const rq_node *n = &g->nodes[node];
    float lo, hi;
    if (n->n_in < 1 || n->n_out != 1 || n->in[0] == RQ_NONE || n->out[0] == RQ_NONE || !clip_limits(g, n, &lo, &hi))
        return;
    rq_id x = n->in[0], y = n->out[0];
    const rq_qparams *q = rq_graph_qparams(g, y);
    if (!q || !rq_raise_is_plain(q) || !is_private(g, x))
        return;
    int32_t first, last;
    rq_qparams_limits(q, &first, &last);
    if (!(rq_dequantize_one(first, q->scale[0], q->zero_point[0]) >= lo &&
          rq_dequantize_one(last, q->scale[0], q->zero_point[0]) <= hi))
        return;
    rq_id maker = g->values[x].producer;
    rq_node *m = &g->nodes[maker];
    for (int k = 0; k < m->n_out; k++)
        if (m->out[k] == x)
            m->out[k] = y;
    g->values[y].producer = maker; /* before the node goes, so that its output stays */
    rq_graph_remove_node(g, node);
    rq_graph_remove_value(g, x);
    clamped[y] = true;
}

void rq_raise_clamps(rq_graph *g)
{
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        float lo, hi;
        if (!n->op || n->n_in < 1 || n->n_out != 1 || n->in[0] == RQ_NONE || n->out[0] == RQ_NONE ||
            !clip_limits(g, n, &lo, &hi) || !(lo <= hi))
            continue;
        const rq_qparams *q = rq_graph_qparams(g, n->out[0]);
        const rq_id x = n->in[0];
        if (!q || !rq_raise_is_plain(q) || !rq_raise_is_sound(q) || !is_private(g, x))
            continue;
        const rq_node *maker = &g->nodes[g->values[x].producer];
        if (maker->n_in < 1 || maker->in[0] == RQ_NONE || g->values[maker->in[0]].quant == RQ_NONE)
            continue;
        g->values[x].quant = g->values[n->out[0]].quant;
        g->values[x].dtype = RQ_DTYPE_F32;
    }
}

rq_status rq_raise_spread(rq_raise_state *r)
{
    rq_graph *g = r->g;
    rq_id *order;
    int n;
    RQ_TRY(rq_order(g, &order, &n, r->err));
    rq_status st = RQ_OK;
    for (int i = 0; i < n && !st; i++)
        if (g->nodes[order[i]].n_in && g->nodes[order[i]].in[0] != RQ_NONE)
            st = spread_down(r, order[i]);
    bool *clamped = rq_mem_zalloc((size_t)g->n_values + 1, sizeof *clamped); /* no value is added from here on */
    if (!st && !clamped)
        st = RQ_NO_MEMORY;
    for (int i = n - 1; i >= 0 && !st; i--) {
        if (g->nodes[order[i]].n_in && g->nodes[order[i]].in[0] != RQ_NONE)
            st = spread_up(r, order[i], clamped);
        if (!st)
            swallow(r, order[i], clamped);
    }
    rq_mem_free(clamped);
    rq_mem_free(order);
    return st == RQ_NO_MEMORY ? rq_fail(r->err, st, "out of memory spreading annotations") : st;
}
