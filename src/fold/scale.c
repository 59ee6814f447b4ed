/* fold/scale.c — y = a[c] * product + b[c] becomes the product with other weights: BatchNormalization, Mul, Div, Add and
 * Sub by constants per channel behind Conv, ConvTranspose, Gemm. Sums are made in double and rounded to f32 once. */
#include <math.h>
#include <string.h>

#include "fold/fold.h"
#include "ops/batch_train.h"
#include "ops/op.h"
#include "ops/rewrite.h"

typedef struct product {
    rq_id node;
    int64_t channels;
    bool gemm, transposed;
} product;

/* y = scale[c] * x + shift[c], or scale alone. */
typedef struct affine {
    double *scale, *shift; /* [channels] */
    bool shifts;           /* shift is not all zero by construction */
    bool scales;           /* scale is not all one by construction */
    rq_id of;              /* the constant that holds it, or RQ_NONE */
} affine;

static const rq_tensor *plain_const(const rq_graph *g, rq_id v)
{
    if (v == RQ_NONE || g->values[v].kind != RQ_VALUE_CONST || g->values[v].quant != RQ_NONE ||
        g->values[v].constant.dtype != RQ_DTYPE_F32)
        return NULL;
    return &g->values[v].constant;
}

static rq_id input(const rq_node *n, int i)
{
    return i < n->n_in ? n->in[i] : RQ_NONE;
}

/* Is the node a product with constant weights (and a constant bias, or none), whose output only one node reads? */
static bool is_product(const rq_graph *g, rq_id node, product *p)
{
    const rq_node *n = &g->nodes[node];
    bool conv = rq_rewrite_is(n, "Conv");
    *p = (product) { .node = node, .gemm = rq_rewrite_is(n, "Gemm"), .transposed = rq_rewrite_is(n, "ConvTranspose") };
    if ((!conv && !p->gemm && !p->transposed) || n->n_in < 2 || n->n_out != 1 || n->out[0] == RQ_NONE)
        return false;
    const rq_tensor *w = plain_const(g, n->in[1]), *b = plain_const(g, input(n, 2));
    if (!w || (input(n, 2) != RQ_NONE && !b) || w->shape.rank < 2)
        return false;
    int64_t group = rq_attr_int(n, RQ_WORD_group, 1);
    if (group < 1)
        return false;
    p->channels = conv            ? w->shape.dim[0]
                  : p->transposed ? w->shape.dim[1] * group
                                  : w->shape.dim[rq_attr_int(n, RQ_WORD_transB, 0) ? 0 : 1];
    if (p->transposed && w->shape.dim[0] % group)
        return false;
    if (p->gemm && w->shape.rank != 2)
        return false;
    if (p->gemm && b &&
        rq_tensor_count(b) != 1 && /* [M, 1] is a number per row, even where M is the number of columns */
        (rq_tensor_count(b) != p->channels || b->shape.dim[b->shape.rank - 1] != p->channels))
        return false;
    if (!p->gemm && b && rq_tensor_count(b) != p->channels)
        return false;
    return !rq_graph_is_output(g, n->out[0]) && rq_graph_uses(g, n->out[0], NULL, 0) == 1;
}

/* Which channel does element i of the weights belong to? */
static int64_t channel_of(const rq_node *n, const product *p, const rq_shape *w, int64_t i)
{
    if (p->gemm)
        return rq_attr_int(n, RQ_WORD_transB, 0) ? i / w->dim[1] : i % w->dim[1];
    if (!p->transposed)
        return i / rq_shape_span(w, 1, w->rank);
    int64_t group = rq_attr_int(n, RQ_WORD_group, 1), inner = rq_shape_span(w, 2, w->rank);
    int64_t row = i / inner / w->dim[1], column = i / inner % w->dim[1];
    return row / (w->dim[0] / group) * w->dim[1] + column;
}

/* Put tensor t in place of input i of the node; it takes over the name where it was the only use. */
static rq_status replace_const(rq_graph *g, rq_id node, int i, const rq_tensor *t, const char *base, rq_err *err)
{
    rq_id was = input(&g->nodes[node], i), made;
    if (was != RQ_NONE)
        base = g->values[was].name;
    const char *name = rq_rewrite_name(g, base, was == RQ_NONE ? "_bias" : "_folded");
    if (!name)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory folding into '%s'", g->nodes[node].name);
    RQ_TRY(rq_graph_add_const(g, &made, name, t, err));
    if (rq_graph_set_input(g, node, i, made))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory folding into '%s'", g->nodes[node].name);
    if (was == RQ_NONE || rq_graph_uses(g, was, NULL, 0))
        return RQ_OK;
    rq_graph_remove_value(g, was);
    return rq_graph_rename(g, made, base, err);
}

/* The weights times scale, the bias times scale plus shift. */
static rq_status apply(rq_graph *g, const product *p, const affine *a, rq_err *err)
{
    const rq_node *n = &g->nodes[p->node];
    const rq_tensor *w = plain_const(g, n->in[1]), *b = plain_const(g, input(n, 2));
    double alpha = p->gemm ? rq_attr_float(n, RQ_WORD_alpha, 1) : 1,
           beta = p->gemm ? rq_attr_float(n, RQ_WORD_beta, 1) : 1;
    rq_tensor fresh_w = { 0 }, fresh_b = { 0 };
    rq_shape list = rq_shape_of(1, &p->channels);
    const bool weights = a->scales || alpha != 1;
    rq_status st = weights ? rq_tensor_create(&fresh_w, RQ_DTYPE_F32, &w->shape, false) : RQ_OK;
    if (!st && (b || a->shifts))
        st = rq_tensor_create(&fresh_b, RQ_DTYPE_F32, &list, false);
    if (st) {
        rq_tensor_release(&fresh_w);
        return rq_fail(err, st, "out of memory folding into '%s'", n->name);
    }
    for (int64_t i = 0, count = rq_tensor_count(w); weights && i < count; i++)
        fresh_w.f32[i] = (float)(alpha * w->f32[i] * a->scale[channel_of(n, p, &w->shape, i)]);
    for (int64_t c = 0; fresh_b.data && c < p->channels; c++) {
        double bias = b ? beta * b->f32[rq_tensor_count(b) == 1 ? 0 : c] : 0;
        fresh_b.f32[c] = (float)(bias * a->scale[c] + a->shift[c]);
    }
    const char *base = g->values[n->in[1]].name;
    if (weights)
        st = replace_const(g, p->node, 1, &fresh_w, base, err);
    if (!st && fresh_b.data)
        st = replace_const(g, p->node, 2, &fresh_b, base, err);
    rq_tensor_release(&fresh_w);
    rq_tensor_release(&fresh_b);
    if (p->gemm) {
        rq_attr_remove(g, p->node, "alpha");
        rq_attr_remove(g, p->node, "beta");
    }
    return st;
}

static bool batch_norm_affine(const rq_graph *g, const rq_node *n, int64_t channels, affine *a)
{
    const rq_tensor *in[4];
    if (n->n_in != 5 || rq_attr_int(n, RQ_WORD_training_mode, 0) || !rq_attr_int(n, RQ_WORD_spatial, 1))
        return false;
    for (int i = 0; i < 4; i++) {
        in[i] = plain_const(g, n->in[i + 1]);
        if (!in[i] || rq_tensor_count(in[i]) != channels)
            return false;
    }
    for (int i = 1; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE && rq_graph_uses(g, n->out[i], NULL, 0))
            return false;
    double epsilon = rq_attr_float(n, RQ_WORD_epsilon, 1e-5f);
    for (int64_t c = 0; c < channels; c++) {
        a->scale[c] = in[0]->f32[c] / sqrt(in[3]->f32[c] + epsilon);
        a->shift[c] = in[1]->f32[c] - in[2]->f32[c] * a->scale[c];
        if (!isfinite(a->scale[c]) || !isfinite(a->shift[c]))
            return false;
    }
    a->shifts = a->scales = true;
    a->of = RQ_NONE;
    return true;
}

/* Does the constant hold one number per channel (axis `axis` of `rank`), or one for all, and no axis more than the output? */
static bool per_channel(const rq_tensor *t, int rank, int axis, int64_t channels)
{
    int64_t count = rq_tensor_count(t);
    int at = axis - (rank - t->shape.rank);
    if (t->shape.rank > rank || (count != 1 && count != channels))
        return false;
    return count == 1 || (at >= 0 && t->shape.dim[at] == channels);
}

/* Mul, Div, Add, Sub of the product's output x and a constant. */
static bool arithmetic_affine(const rq_graph *g, const rq_node *n, rq_id x, const product *p, affine *a)
{
    bool mul = rq_rewrite_is(n, "Mul"), div = rq_rewrite_is(n, "Div"), add = rq_rewrite_is(n, "Add"),
         sub = rq_rewrite_is(n, "Sub");
    if ((!mul && !div && !add && !sub) || n->n_in != 2 || n->in[0] == n->in[1])
        return false;
    bool first = n->in[0] == x;
    const rq_tensor *t = plain_const(g, n->in[first ? 1 : 0]);
    int rank = g->values[g->nodes[p->node].in[1]].constant.shape.rank;
    if (!t || (div && !first) || !per_channel(t, rank, 1, p->channels))
        return false;
    for (int64_t c = 0; c < p->channels; c++) {
        double v = t->f32[rq_tensor_count(t) == 1 ? 0 : c];
        a->scale[c] = mul ? v : div ? 1 / v : sub && !first ? -1 : 1;
        a->shift[c] = add ? v : sub ? (first ? -v : v) : 0;
        if (!isfinite(a->scale[c]) || !isfinite(a->shift[c]))
            return false;
    }
    a->shifts = add || sub;
    a->scales = mul || div || (sub && !first);
    a->of = n->in[first ? 1 : 0];
    return true;
}

/* The follower's output becomes the product's; the value between is gone. */
static void take_output(rq_graph *g, rq_id node, rq_id follower)
{
    rq_id x = g->nodes[node].out[0], y = g->nodes[follower].out[0];
    if (g->values[y].shape.rank < 0)
        g->values[y].shape = g->values[x].shape;
    g->nodes[node].out[0] = y;
    g->values[y].producer = node; /* before the follower goes, so that its output stays */
    rq_graph_remove_node(g, follower);
    rq_graph_remove_value(g, x);
}

/* A product that had no bias has one now: the constant that was added behind it, under its name. */
static rq_status name_bias(rq_graph *g, rq_id node, rq_id was, rq_err *err)
{
    const rq_id bias = input(&g->nodes[node], 2);
    if (was == RQ_NONE || bias == RQ_NONE || rq_graph_uses(g, was, NULL, 0) ||
        rq_tensor_count(&g->values[was].constant) != rq_tensor_count(&g->values[bias].constant))
        return RQ_OK;
    const char *name = g->values[was].name;
    rq_graph_remove_value(g, was);
    return rq_graph_rename(g, bias, name, err);
}

/* Take what follows the product into it, if it can be. For training batch norms are left where they are, and so is what would change a
 * weight that others read. */
static rq_status fold_follower(rq_graph *g, const product *p, rq_fold_for what, bool *done, rq_err *err)
{
    rq_id x = g->nodes[p->node].out[0], user = RQ_NONE;
    *done = false;
    rq_graph_uses(g, x, &user, 1);
    if (user == RQ_NONE || g->values[x].quant != RQ_NONE)
        return RQ_OK;
    const rq_node *n = &g->nodes[user];
    bool norm = rq_rewrite_is(n, "BatchNormalization") && !rq_batch_train_is(n, rq_graph_opset(g, ""));
    const bool train = what != RQ_FOLD_RUN, had_bias = input(&g->nodes[p->node], 2) != RQ_NONE;
    if (n->n_in < 1 || n->n_out < 1 || n->out[0] == RQ_NONE || (norm && train))
        return RQ_OK;
    affine a = { .scale = rq_mem_alloc((size_t)p->channels, sizeof(double)),
                 .shift = rq_mem_zalloc((size_t)p->channels, sizeof(double)) };
    rq_status st = a.scale && a.shift ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "out of memory folding '%s'", n->name);
    if (!st && (norm ? n->in[0] == x && batch_norm_affine(g, n, p->channels, &a) : arithmetic_affine(g, n, x, p, &a)) &&
        !(train && a.scales && rq_graph_uses(g, g->nodes[p->node].in[1], NULL, 0) > 1)) {
        st = apply(g, p, &a, err);
        if (!st) {
            take_output(g, p->node, user);
            *done = true;
        }
        if (!st && train && !had_bias && !a.scales)
            st = name_bias(g, p->node, a.of, err);
    }
    rq_mem_free(a.scale);
    rq_mem_free(a.shift);
    return st;
}

/* ---- MatMul and Add ---- */

/* MatMul of a 2-D value and a constant, then Add of a constant per column: Gemm, as ONNX Runtime makes it. */
static rq_status fold_gemm(rq_graph *g, rq_id node, bool *done, rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    rq_id user = RQ_NONE;
    *done = false;
    if (!rq_rewrite_is(n, "MatMul") || n->n_in != 2 || n->n_out != 1 || g->values[n->in[0]].shape.rank != 2 ||
        rq_graph_is_output(g, n->out[0]) || rq_graph_uses(g, n->out[0], &user, 1) != 1 || user == RQ_NONE)
        return RQ_OK;
    const rq_tensor *w = plain_const(g, n->in[1]);
    const rq_node *sum = &g->nodes[user];
    if (!w || w->shape.rank != 2 || !rq_rewrite_is(sum, "Add") || sum->n_in != 2 || sum->in[0] == sum->in[1] ||
        g->values[n->out[0]].quant != RQ_NONE)
        return RQ_OK;
    rq_id c = sum->in[0] == n->out[0] ? sum->in[1] : sum->in[0];
    const rq_tensor *b = plain_const(g, c);
    if (!b || b->shape.rank > 2 || rq_tensor_count(b) != w->shape.dim[1] || !per_channel(b, 2, 1, w->shape.dim[1]))
        return RQ_OK;
    rq_id in[3] = { n->in[0], n->in[1], c };
    if (b->shape.rank == 2) {
        RQ_TRY(rq_rewrite_floats(g, b->f32, rq_tensor_count(b), g->values[c].name, "_flat", &in[2], err));
    }
    RQ_TRY(rq_rewrite_become(g, node, "Gemm", in, 3, err));
    take_output(g, node, user);
    *done = true;
    return RQ_OK;
}

/* Behind a MatMul by a constant, a bias of one row in more axes becomes one axis, by which a layer is known (rq_module_biased). */
static rq_status flatten_bias(rq_graph *g, rq_id node, bool *done, rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    rq_id user = RQ_NONE;
    *done = false;
    if (!rq_rewrite_is(n, "MatMul") || n->n_in != 2 || n->n_out != 1 || !plain_const(g, n->in[1]) ||
        rq_graph_is_output(g, n->out[0]) || rq_graph_uses(g, n->out[0], &user, 1) != 1 || user == RQ_NONE)
        return RQ_OK;
    const rq_node *sum = &g->nodes[user];
    const rq_shape *w = &g->values[n->in[1]].constant.shape;
    if (!rq_rewrite_is(sum, "Add") || sum->n_in != 2 || sum->in[0] == sum->in[1] || w->rank != 2)
        return RQ_OK;
    const int at = sum->in[0] == n->out[0];
    const rq_tensor *b = plain_const(g, sum->in[at]);
    const int rank = g->values[n->out[0]].shape.rank;
    if (!b || b->shape.rank < 2 || b->shape.rank > rank || rq_tensor_count(b) != w->dim[1] ||
        b->shape.dim[b->shape.rank - 1] != w->dim[1])
        return RQ_OK;
    rq_tensor row = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 1, { w->dim[1] } }, b->data), own;
    if (rq_tensor_copy(&own, &row))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory folding '%s'", sum->name);
    const rq_status st = replace_const(g, user, at, &own, g->values[sum->in[at]].name, err);
    rq_tensor_release(&own);
    *done = !st;
    return st;
}

rq_status rq_fold_scales(rq_graph *g, rq_fold_for what, int *n, rq_err *err)
{
    for (rq_id i = 0; i < g->n_nodes; i++) {
        product p;
        bool done = false;
        if (!g->nodes[i].op)
            continue;
        RQ_TRY(what == RQ_FOLD_RUN ? fold_gemm(g, i, &done, err) : flatten_bias(g, i, &done, err));
        if (n)
            *n += done;
        for (done = true; done && is_product(g, i, &p);) {
            RQ_TRY(fold_follower(g, &p, what, &done, err));
            if (n)
                *n += done;
        }
    }
    return RQ_OK;
}
