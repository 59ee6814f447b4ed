/* algo/linear_quantizer_simulation.c — the prepared network with the biases that integers add and the averages that they take
 * (docs/coreml-facts.md 6). Sums of products are counted in units of both scales, and so is a bias: training has it in floats, and integers add it
 * rounded. Where learned scales are coarse, half a unit is a share of a step that shows in a hundredth of the codes. The mean of n codes lies on a
 * tie once in n times (docs/numerics.md, "Ties in training"). All else the prepared network has as integers have it. */
#include "algo/linear_quantizer.h"

#include <string.h>

#include "base/cpu.h"
#include "graph/query.h"
#include "kernels/quantize.h"
#include "ops/op.h"

typedef struct work {
    const rq_linear_quantizer *q;
    const rq_graph *quantized;
    rq_graph *g; /* the copy */
    rq_kernels k;
    rq_err *err;
} work;

/* The bias of the group's product in `quantized`: its third input, or what an Add behind a MatMul adds, where a session makes one product of both. */
static rq_id bias_of(const work *w, const rq_lq_group *gr)
{
    const rq_graph *g = w->quantized;
    const rq_node *n = &g->nodes[gr->root];
    rq_id add = RQ_NONE;
    if (!rq_node_is(n, "MatMul"))
        return rq_node_in(n, 2);
    if (rq_graph_qparams(g, n->out[0]) || rq_graph_uses(g, n->out[0], &add, 1) != 1 || add < 0 ||
        !rq_node_is(&g->nodes[add], "Add") || !rq_graph_qparams(g, g->nodes[add].out[0]))
        return RQ_NONE;
    const rq_id b = g->nodes[add].in[g->nodes[add].in[0] == n->out[0]];
    const rq_shape *row = rq_graph_is_const(g, b) ? &g->values[b].constant.shape : NULL;
    const int64_t columns = g->values[n->in[1]].shape.dim[1];
    return row && row->rank > 0 && row->dim[row->rank - 1] == columns && rq_shape_count(row) == columns ? b : RQ_NONE;
}

/* The bias that sums of the group's product get in integers, in reals; *out with dtype NONE: there is none, or it is added as it is. What `quantized` has
 * in floats beside weights of 8 bits a session counts in the same units (docs/numerics.md), rounded as there. */
static rq_status bias_in_integers(const work *w, const rq_lq_group *gr, rq_tensor *out)
{
    const rq_graph *g = w->quantized;
    const rq_node *n = &g->nodes[gr->root];
    *out = (rq_tensor) { 0 };
    if (gr->kind != RQ_LQ_WEIGHTED || gr->weight < 0 || !n->op)
        return RQ_OK;
    const rq_id b = bias_of(w, gr);
    const rq_qparams *x = rq_graph_qparams(g, n->in[0]), *q = rq_graph_qparams(g, n->in[1]);
    if (b < 0 || !rq_graph_is_const(g, b) || !x || x->n != 1 || !q || rq_dtype_bits(q->dtype) != 8)
        return RQ_OK;
    const rq_tensor *t = &g->values[b].constant;
    const rq_qparams *unit = rq_graph_qparams(g, b);
    const int64_t count = rq_tensor_count(t);
    const bool codes = t->dtype == RQ_DTYPE_S32 && unit, reals = t->dtype == RQ_DTYPE_F32 && !unit;
    if ((!codes && !reals) || (q->n != 1 && q->n != count))
        return RQ_OK;
    if (rq_tensor_create(out, RQ_DTYPE_F32, &t->shape, false))
        return rq_lq_no_memory(w->err);
    const float x_scale = rq_attr_float(n, RQ_WORD_alpha, 1) * x->scale[0];
    for (int64_t c = 0; c < count; c++) {
        const float w_scale = q->scale[q->n == 1 ? 0 : c];
        out->f32[c] = codes ? (float)((double)t->s32[c] * (double)unit->scale[unit->n == 1 ? 0 : c])
                            : (float)((double)rq_quantize_bias_f32(t->f32[c], x_scale, w_scale) *
                                      ((double)x_scale * (double)w_scale));
    }
    return RQ_OK;
}

/* Numbers t at input i of node, which nobody else reads. */
static rq_status put(const work *w, rq_id node, int i, const rq_tensor *t)
{
    const rq_id old = w->g->nodes[node].in[i];
    rq_id to;
    const char *name = rq_graph_fresh_name(w->g, w->g->values[old].name);
    if (!name)
        return rq_lq_no_memory(w->err);
    RQ_TRY(rq_graph_add_const(w->g, &to, name, t, w->err));
    return rq_graph_set_input(w->g, node, i, to) ? rq_lq_no_memory(w->err) : RQ_OK;
}

/* real = (bias - mean) k + beta is what the codes say: solved for beta. */
static rq_status solve(const work *w, const rq_lq_group *gr, rq_tensor *real)
{
    const rq_node *n = &w->g->nodes[gr->norm]; /* c, k, bias, gamma, beta, mean, var */
    const float *bias = n->in[2] >= 0 ? w->g->values[n->in[2]].constant.f32 : NULL;
    const bool one = bias && rq_tensor_count(&w->g->values[n->in[2]].constant) == 1;
    const float *mean = w->g->values[n->in[5]].constant.f32;
    rq_tensor k = { 0 };
    RQ_TRY(rq_lq_value_of(w->q, n->in[1], &w->k, &k, w->err));
    for (int64_t c = 0; c < rq_tensor_count(&k); c++)
        real->f32[c] = (float)((double)real->f32[c] -
                               ((double)(bias ? bias[one ? 0 : c] : 0) - (double)mean[c]) * (double)k.f32[c]);
    rq_tensor_release(&k);
    return RQ_OK;
}

static rq_status take_bias(const work *w, const rq_lq_group *gr)
{
    rq_tensor real;
    RQ_TRY(bias_in_integers(w, gr, &real));
    if (real.dtype == RQ_DTYPE_NONE)
        return RQ_OK;
    rq_status s = gr->norm >= 0 ? solve(w, gr, &real) : RQ_OK;
    const rq_node *n = w->g->nodes;
    if (!s && gr->norm >= 0)
        s = put(w, gr->norm, 4, &real);
    else if (!s && gr->bias_add >= 0)
        s = put(w, gr->bias_add, n[gr->bias_add].in[0] == n[gr->root].out[0], &real);
    else if (!s)
        s = put(w, gr->root, 2, &real);
    rq_tensor_release(&real);
    return s;
}

/* An average of codes that is a code again: the node becomes OnCodes of it. */
static rq_status take_average(const work *w, const rq_lq_group *gr)
{
    const rq_node *n = &w->quantized->nodes[gr->root];
    if (gr->kind != RQ_LQ_SHARE || !n->op ||
        !(rq_node_is(n, "GlobalAveragePool") || rq_node_is(n, "AveragePool") || rq_node_is(n, "ReduceMean")))
        return RQ_OK;
    const rq_qparams *x = rq_graph_qparams(w->quantized, n->in[0]), *y = rq_graph_qparams(w->quantized, n->out[0]);
    if (!x || !y || !rq_qparams_equal(x, y) || x->n != 1 || rq_dtype_bits(x->dtype) != 8)
        return RQ_OK;
    const char *op = rq_graph_str(w->g, "OnCodes"), *domain = rq_graph_str(w->g, "requant");
    if (!op || !domain || rq_attr_set_string(w->g, gr->root, "op", n->op) ||
        rq_attr_set_float(w->g, gr->root, "scale", x->scale[0]) ||
        rq_attr_set_int(w->g, gr->root, "zero_point", x->zero_point[0]) ||
        rq_attr_set_int(w->g, gr->root, "signed", x->dtype == RQ_DTYPE_S8))
        return rq_lq_no_memory(w->err);
    w->g->nodes[gr->root].op = op;
    w->g->nodes[gr->root].domain = domain;
    w->g->nodes[gr->root].row = NULL;
    return RQ_OK;
}

rq_status rq_linear_quantizer_simulation(const rq_linear_quantizer *q, const rq_graph *quantized, rq_graph **out,
                                         rq_err *err)
{
    if (!q->model)
        return rq_fail(err, RQ_BAD_ARG, "the quantizer was not prepared, so there is nothing to simulate");
    unsigned cpu;
    work w = { .q = q, .quantized = quantized, .err = err };
    rq_status s = RQ_OK;
    for (int i = 0; i < q->plan.n_groups && !s; i++) {
        const rq_id root = q->plan.groups[i].root;
        const bool known =
            root < quantized->n_nodes &&
            (!quantized->nodes[root].op || !strcmp(quantized->nodes[root].name, q->model->nodes[root].name));
        if (!known)
            s = rq_fail(err, RQ_BAD_ARG, "node '%s' is not where finalize leaves it: the graph is another's",
                        q->model->nodes[root].name);
    }
    RQ_TRY(s);
    rq_kernels_init(&w.k, rq_cpu_pinned(&cpu, NULL) ? 0 : cpu);
    if (rq_graph_copy(&w.g, q->model))
        return rq_lq_no_memory(err);
    for (int i = 0; i < q->plan.n_groups && !s; i++) {
        s = take_bias(&w, &q->plan.groups[i]);
        if (!s)
            s = take_average(&w, &q->plan.groups[i]);
    }
    for (rq_id v = 0; v < w.g->n_values; v++) /* it is evaluated: OnCodes has no gradient */
        w.g->values[v].trainable = RQ_TRAINABLE_NO;
    rq_ops_bind(w.g);
    if (s)
        rq_graph_destroy(w.g);
    else
        *out = w.g;
    return s;
}
