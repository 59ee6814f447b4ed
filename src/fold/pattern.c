/* fold/pattern.c — operators that exporters wrote out in smaller ones. Each pattern is matched backwards from its last
 * node; what lies between must have no other reader. */
#include <math.h>
#include <string.h>

#include "fold/fold.h"
#include "ops/op.h"
#include "ops/rewrite.h"

/* The node that makes v for one reader alone, if it is `op`; RQ_NONE otherwise. */
static rq_id only_maker(const rq_graph *g, rq_id v, const char *op)
{
    if (v == RQ_NONE || g->values[v].kind != RQ_VALUE_NODE || g->values[v].quant != RQ_NONE || rq_graph_is_output(g, v))
        return RQ_NONE;
    rq_id node = g->values[v].producer;
    return rq_rewrite_is(&g->nodes[node], op) && rq_graph_uses(g, v, NULL, 0) == 1 ? node : RQ_NONE;
}

/* The single f32 number that v holds. */
static bool scalar(const rq_graph *g, rq_id v, double *out)
{
    if (v == RQ_NONE || g->values[v].kind != RQ_VALUE_CONST || g->values[v].quant != RQ_NONE)
        return false;
    const rq_tensor *t = &g->values[v].constant;
    if (t->dtype != RQ_DTYPE_F32 || rq_tensor_count(t) != 1 || t->shape.rank > 1)
        return false;
    *out = t->f32[0];
    return true;
}

/* A commutative node of two inputs: a number and something else. */
static bool with_scalar(const rq_graph *g, const rq_node *n, rq_id *other, double *number)
{
    if (n->n_in != 2)
        return false;
    for (int i = 0; i < 2; i++)
        if (scalar(g, n->in[i], number)) {
            *other = n->in[1 - i];
            return true;
        }
    return false;
}

/* Is the node a division by a number, or a multiplication by its reciprocal? */
static bool divides(const rq_graph *g, const rq_node *n, rq_id *x, double *by)
{
    if (rq_rewrite_is(n, "Div") && n->n_in == 2 && scalar(g, n->in[1], by)) {
        *x = n->in[0];
        return true;
    }
    if (!rq_rewrite_is(n, "Mul") || !with_scalar(g, n, x, by) || *by == 0)
        return false;
    *by = 1 / *by;
    return true;
}

static bool near_to(double a, double b)
{
    return fabs(a - b) <= 1e-5 * fabs(b);
}

/* h = clip(x + shift, 0, top), made for one reader: *x and the numbers. */
static bool ramp(const rq_graph *g, rq_id h, rq_id *x, double *shift, double *top)
{
    rq_id clip = only_maker(g, h, "Clip");
    if (clip == RQ_NONE)
        return false;
    const rq_node *c = &g->nodes[clip];
    double lo = rq_attr_float(c, RQ_WORD_min, -INFINITY);
    *top = rq_attr_float(c, RQ_WORD_max, INFINITY);
    if ((c->n_in > 1 && c->in[1] != RQ_NONE && !scalar(g, c->in[1], &lo)) ||
        (c->n_in > 2 && c->in[2] != RQ_NONE && !scalar(g, c->in[2], top)))
        return false;
    rq_id add = only_maker(g, c->in[0], "Add");
    return lo == 0 && *top > 0 && isfinite(*top) && add != RQ_NONE && with_scalar(g, &g->nodes[add], x, shift);
}

static rq_status become_hard_sigmoid(rq_graph *g, rq_id node, rq_id x, double top, double shift, rq_err *err)
{
    RQ_TRY(rq_rewrite_become(g, node, "HardSigmoid", &x, 1, err));
    rq_attr_remove(g, node, "min"); /* of a Clip before opset 11 */
    rq_attr_remove(g, node, "max");
    if (rq_attr_set_float(g, node, "alpha", (float)(1 / top)) ||
        rq_attr_set_float(g, node, "beta", (float)(shift / top)))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory folding '%s'", g->nodes[node].name);
    return RQ_OK;
}

/* clip(x + 3, 0, 6) / 6 is HardSigmoid(x); x * clip(x + 3, 0, 6) / 6 is x * HardSigmoid(x). It is not made a HardSwish: measured on
 * PP-OCR, the int8 model is worse for it (detector IoU 0.965 instead of 0.977, recogniser 0.963 instead of 0.971). */
static rq_status fold_hard_sigmoid(rq_graph *g, rq_id node, bool *done, rq_err *err)
{
    rq_id h, x;
    double by, shift, top;
    if (!divides(g, &g->nodes[node], &h, &by))
        return RQ_OK;
    if (ramp(g, h, &x, &shift, &top) && near_to(by, top)) {
        *done = true;
        return become_hard_sigmoid(g, node, x, top, shift, err);
    }
    rq_id mul = only_maker(g, h, "Mul");
    for (int i = 0; mul != RQ_NONE && g->nodes[mul].n_in == 2 && i < 2; i++) {
        rq_id clipped = g->nodes[mul].in[i], other = g->nodes[mul].in[1 - i];
        if (!ramp(g, clipped, &x, &shift, &top) || !near_to(by, top))
            continue;
        *done = true;
        rq_id in[2] = { other, clipped };
        const char *name = rq_rewrite_name(g, g->values[clipped].name, "_scaled"); /* it is 1 / top of what it was */
        if (!name)
            return rq_fail(err, RQ_NO_MEMORY, "out of memory folding '%s'", g->nodes[node].name);
        RQ_TRY(rq_graph_rename(g, clipped, name, err));
        RQ_TRY(become_hard_sigmoid(g, g->values[clipped].producer, x, top, shift, err));
        return rq_rewrite_become(g, node, "Mul", in, 2, err);
    }
    return RQ_OK;
}

/* ---- LayerNormalization ---- */

/* mean over the last axis, kept: its input. */
static bool last_mean(const rq_graph *g, rq_id node, int rank, rq_id *x)
{
    if (node == RQ_NONE)
        return false;
    const rq_node *n = &g->nodes[node];
    int count = 0;
    const int64_t *axes = rq_attr_ints(n, RQ_WORD_axes, &count);
    int64_t axis = axes && count == 1 ? axes[0] : 0;
    if (!axes && n->n_in > 1 && n->in[1] != RQ_NONE && g->values[n->in[1]].kind == RQ_VALUE_CONST &&
        rq_tensor_count(&g->values[n->in[1]].constant) == 1) {
        axis = rq_tensor_get_int(&g->values[n->in[1]].constant, 0);
        count = 1;
    }
    *x = n->in[0];
    return count == 1 && (axis == -1 || (rank > 0 && axis == rank - 1)) && rq_attr_int(n, RQ_WORD_keepdims, 1);
}

/* A constant of one axis, the last. */
static bool is_row(const rq_graph *g, rq_id v, int64_t width)
{
    if (v == RQ_NONE || g->values[v].kind != RQ_VALUE_CONST || g->values[v].quant != RQ_NONE)
        return false;
    const rq_tensor *t = &g->values[v].constant;
    return t->dtype == RQ_DTYPE_F32 && t->shape.rank == 1 && (width < 0 || t->shape.dim[0] == width);
}

static rq_id other_input(const rq_node *n, rq_id v)
{
    return n->n_in == 2 && n->in[0] != n->in[1] ? (n->in[0] == v   ? n->in[1]
                                                   : n->in[1] == v ? n->in[0]
                                                                   : RQ_NONE)
                                                : RQ_NONE;
}

/* d / sqrt(mean(d * d) + epsilon) with d = x - mean(x): *x and epsilon. d has two readers, or three where it is squared by
 * Mul(d, d). */
static bool normalized(const rq_graph *g, rq_id div, rq_id *x, double *epsilon)
{
    const rq_node *n = &g->nodes[div];
    rq_id d = n->in[0], root = only_maker(g, n->in[1], "Sqrt"), v, mean_in, square_of;
    if (root == RQ_NONE || d == RQ_NONE || g->values[d].kind != RQ_VALUE_NODE || rq_graph_is_output(g, d))
        return false;
    const rq_node *sub = &g->nodes[g->values[d].producer];
    rq_id add = only_maker(g, g->nodes[root].in[0], "Add");
    if (!rq_rewrite_is(sub, "Sub") || add == RQ_NONE || !with_scalar(g, &g->nodes[add], &v, epsilon))
        return false;
    int rank = g->values[sub->in[0]].shape.rank;
    if (!last_mean(g, only_maker(g, v, "ReduceMean"), rank, &square_of) ||
        !last_mean(g, only_maker(g, sub->in[1], "ReduceMean"), rank, &mean_in) || mean_in != sub->in[0])
        return false;
    rq_id pow = only_maker(g, square_of, "Pow"), mul = only_maker(g, square_of, "Mul");
    double two = 0;
    bool squared = pow != RQ_NONE && g->nodes[pow].in[0] == d && scalar(g, g->nodes[pow].in[1], &two) && two == 2;
    squared = squared || (mul != RQ_NONE && g->nodes[mul].in[0] == d && g->nodes[mul].in[1] == d);
    *x = sub->in[0];
    return squared && rq_graph_uses(g, d, NULL, 0) == (mul != RQ_NONE ? 3 : 2);
}

static rq_status fold_layer_norm(rq_graph *g, rq_id node, bool *done, rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    if (!rq_rewrite_is(n, "Add") || n->n_in != 2 || rq_graph_opset(g, "") < 17)
        return RQ_OK;
    for (int i = 0; i < 2; i++) {
        rq_id mul = only_maker(g, n->in[i], "Mul"), beta = n->in[1 - i], x;
        if (mul == RQ_NONE || g->nodes[mul].n_in != 2)
            continue;
        rq_id div = only_maker(g, g->nodes[mul].in[0], "Div");
        if (div == RQ_NONE)
            div = only_maker(g, g->nodes[mul].in[1], "Div");
        if (div == RQ_NONE)
            continue;
        rq_id gamma = other_input(&g->nodes[mul], g->nodes[div].out[0]);
        double epsilon;
        if (!normalized(g, div, &x, &epsilon))
            continue;
        const rq_shape *s = &g->values[x].shape;
        int64_t width = s->rank > 0 ? s->dim[s->rank - 1] : -1;
        if (gamma == RQ_NONE || !is_row(g, gamma, width) || !is_row(g, beta, width) ||
            g->values[gamma].constant.shape.dim[0] != g->values[beta].constant.shape.dim[0])
            continue;
        rq_id in[3] = { x, gamma, beta };
        RQ_TRY(rq_rewrite_become(g, node, "LayerNormalization", in, 3, err));
        if (rq_attr_set_float(g, node, "epsilon", (float)epsilon) || rq_attr_set_int(g, node, "axis", -1))
            return rq_fail(err, RQ_NO_MEMORY, "out of memory folding '%s'", g->nodes[node].name);
        *done = true;
        return RQ_OK;
    }
    return RQ_OK;
}

rq_status rq_fold_patterns(rq_graph *g, int *n, rq_err *err)
{
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *node = &g->nodes[i];
        bool done = false;
        if (!node->op || node->n_out != 1 || node->out[0] == RQ_NONE || g->values[node->out[0]].quant != RQ_NONE)
            continue;
        RQ_TRY(fold_hard_sigmoid(g, i, &done, err));
        if (!done)
            RQ_TRY(fold_layer_norm(g, i, &done, err));
        if (done && n)
            ++*n;
    }
    rq_graph_prune(g); /* what the patterns were made of */
    return RQ_OK;
}
