/* nn/eager_convert.c — convert: what was trained with fake-quantizers becomes a graph with annotations. On a copy, layer by layer: the batch
 * norm goes into the weight, the weight becomes codes, and what a fake-quantizer stood behind is annotated with its parameters. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/modules.h"
#include "graph/query.h"
#include "nn/eager.h"
#include "ops/op.h"
#include "requant/fake_quantize.h"

typedef struct conversion {
    rq_eager *e;
    rq_graph *g;
    rq_id *quant; /* [e->n] annotation of a slot, RQ_NONE: not made yet */
    rq_err *err;
} conversion;

static bool is_own(const rq_node *n, const char *op)
{
    return n->op && !strcmp(n->op, op) && !strcmp(n->domain, "requant");
}

/* ---- weights ---- */

static const float *constant(const rq_graph *g, rq_id v)
{
    return rq_graph_is_const(g, v) && g->values[v].constant.dtype == RQ_DTYPE_F32 ? g->values[v].constant.f32 : NULL;
}

/* W' = W gamma / sqrt(var + eps), b' = (b - mean) gamma / sqrt(var + eps) + beta, as the layer's own weight and bias. `norm` is FoldedBatchNorm(c, k,
 * bias, gamma, beta, mean, var). */
static rq_status fold(conversion *c, rq_id layer, rq_id weight, rq_id norm)
{
    rq_graph *g = c->g;
    const rq_id *in = g->nodes[norm].in;
    const float *gamma = constant(g, in[3]), *beta = constant(g, in[4]), *mean = constant(g, in[5]),
                *var = constant(g, in[6]);
    const float *b = in[2] >= 0 ? constant(g, in[2]) : NULL,
                eps = rq_attr_float(&g->nodes[norm], RQ_WORD_epsilon, 1e-5f);
    rq_tensor *w = &g->values[weight].constant, t;
    if (!gamma || !beta || !mean || !var || w->dtype != RQ_DTYPE_F32)
        return rq_fail(c->err, RQ_BAD_GRAPH, "node '%s': its parameters are no f32 constants", g->nodes[norm].name);
    const int64_t channels = rq_tensor_count(&g->values[in[3]].constant);
    const int64_t row = channels ? rq_tensor_count(w) / channels : 0;
    const rq_shape s = rq_shape_of(1, &channels);
    RQ_TRY(rq_tensor_create(&t, RQ_DTYPE_F32, &s, false));
    for (int64_t i = 0; i < channels; i++) {
        const float r = 1 / sqrtf(var[i] + eps);
        t.f32[i] = ((b ? b[i] : 0) - mean[i]) * r * gamma[i] + beta[i];
        for (int64_t k = 0; k < row; k++)
            w->f32[i * row + k] *= gamma[i] * r;
    }
    rq_id bias = in[2];
    if (bias >= 0) {
        rq_tensor_release(&g->values[bias].constant);
        g->values[bias].constant = t;
    } else {
        const char *name = rq_graph_fresh_name(g, "folded_bias");
        char full[RQ_MODULE_NAME + 8], path[RQ_MODULE_NAME];
        snprintf(full, sizeof full, "%s.bias", rq_module_name(g, layer, path, sizeof path));
        if (rq_graph_find(g, full) == RQ_NONE)
            name = full;
        const rq_status st = name ? rq_graph_add_const(g, &bias, name, &t, c->err) : RQ_NO_MEMORY;
        rq_tensor_release(&t);
        RQ_TRY(st);
    }
    RQ_TRY(rq_graph_set_input(g, layer, 2, bias));
    const rq_id y = g->nodes[norm].out[0];
    RQ_TRY(rq_eager_put_behind(g, y, g->nodes[layer].out[0], norm, c->err));
    rq_graph_remove_node(g, norm);
    return RQ_OK;
}

/* The constant [rows][cols] as [cols][rows]. */
static rq_status turn(rq_graph *g, rq_id weight)
{
    const rq_tensor *w = &g->values[weight].constant;
    const int64_t rows = w->shape.dim[0], cols = w->shape.dim[1];
    const rq_shape s = rq_shape_of(2, (const int64_t[]) { cols, rows });
    rq_tensor t;
    RQ_TRY(rq_tensor_create(&t, w->dtype, &s, false));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < cols; k++)
            t.s8[k * rows + r] = w->s8[r * cols + k];
    rq_tensor_release(&g->values[weight].constant);
    g->values[weight].constant = t;
    g->values[weight].shape = s;
    return RQ_OK;
}

/* The constant becomes the codes that its fake-quantizer gives it. */
static rq_status encode(conversion *c, rq_id weight, int slot)
{
    rq_graph *g = c->g;
    rq_fake_quantizer *q = c->e->fakes[slot];
    rq_tensor y, codes = { 0 };
    rq_qparams p = { 0 };
    rq_tensor *w = &g->values[weight].constant;
    const bool on = rq_fake_quantizer_fake_quant_enabled(q);
    RQ_TRY(rq_tensor_create(&y, RQ_DTYPE_F32, &w->shape, false));
    const rq_strided from = rq_strided_of(w), to = rq_strided_of(&y);
    rq_fake_quantizer_enable_fake_quant(q, true);
    rq_status s = rq_fake_quantizer_forward(q, NULL, &to, &from, c->err);
    rq_fake_quantizer_enable_fake_quant(q, on);
    if (!s)
        s = rq_fake_quantizer_qparams(q, &p, NULL, c->err);
    if (!s) {
        const rq_fq fq = { .type = rq_fake_quantizer_type(q),
                           .rule = RQ_FQ_RECIPROCAL,
                           .axis = p.axis,
                           .block = p.block,
                           .n = p.n,
                           .scale = p.scale,
                           .zero_point = p.zero_point };
        s = rq_tensor_create(&codes, p.dtype, &w->shape, false);
        if (!s)
            s = rq_fq_quantize(NULL, &codes, &from, &fq, c->err);
    }
    if (!s)
        s = rq_graph_add_quant(g, &g->values[weight].quant, &p, "trained");
    if (s) {
        rq_qparams_release(&p);
        rq_tensor_release(&codes);
    } else {
        rq_tensor_release(w);
        *w = codes;
    }
    rq_tensor_release(&y);
    return s == RQ_OK || s == RQ_NO_MEMORY ? s : rq_fail_in(c->err, s, "'%s'", c->e->names[slot]);
}

/* The FakeQuantize node of a weight. */
static rq_status convert_weight(conversion *c, rq_id fake, int slot)
{
    rq_graph *g = c->g;
    const rq_id source = g->nodes[fake].in[0], y = g->nodes[fake].out[0];
    rq_id reader = rq_eager_reader(g, y), layer = reader, weight = rq_module_constant(g, source);
    if (reader < 0 || weight < 0)
        return rq_fail(c->err, RQ_BAD_GRAPH, "node '%s' stands behind no weight of a layer", g->nodes[fake].name);
    const bool turned = rq_node_is(&g->nodes[reader], "Transpose");
    if (turned)
        layer = rq_eager_reader(g, g->nodes[reader].out[0]);
    const bool done = g->values[weight].quant != RQ_NONE; /* of a module that is applied again */
    if (layer < 0)
        return rq_fail(c->err, RQ_BAD_GRAPH, "node '%s' stands behind no weight of a layer", g->nodes[fake].name);
    if (g->values[source].kind == RQ_VALUE_NODE && is_own(&g->nodes[g->values[source].producer], "ScaleChannels")) {
        const rq_id norm = rq_eager_reader(g, g->nodes[layer].out[0]);
        if (norm < 0 || !is_own(&g->nodes[norm], "FoldedBatchNorm") || done)
            return rq_fail(c->err, RQ_BAD_GRAPH, "node '%s': no batch norm of its own stands behind the layer",
                           g->nodes[layer].name);
        RQ_TRY(fold(c, layer, weight, norm));
    }
    if (!done)
        RQ_TRY(encode(c, weight, slot));
    if (turned && !done) {
        RQ_TRY(turn(g, weight));
        rq_qparams *p = &g->quants[g->values[weight].quant].q;
        p->axis = p->axis == RQ_PER_TENSOR ? RQ_PER_TENSOR : 1 - p->axis;
    }
    RQ_TRY(rq_graph_set_input(g, layer, 1, weight));
    return RQ_OK;
}

/* ---- activations ---- */

static rq_status annotate(conversion *c, rq_id value, int slot)
{
    rq_graph *g = c->g;
    if (c->quant[slot] == RQ_NONE) {
        rq_qparams p = { 0 };
        rq_status s = rq_fake_quantizer_qparams(c->e->fakes[slot], &p, NULL, c->err);
        if (s)
            return s == RQ_NO_MEMORY ? s : rq_fail_in(c->err, s, "'%s'", c->e->names[slot]);
        s = rq_graph_add_quant(g, &c->quant[slot], &p, "trained");
        if (s) {
            rq_qparams_release(&p);
            return s;
        }
    }
    g->values[value].quant = c->quant[slot];
    /* What a ReLU cuts off is what the lowest code cuts off: then the layer in front of it writes these codes at once. */
    const rq_node *n = &g->nodes[g->values[value].producer];
    const rq_qparams *p = rq_graph_qparams(g, value);
    int32_t lo, hi;
    rq_qparams_limits(p, &lo, &hi);
    if (g->values[value].kind == RQ_VALUE_NODE && rq_node_is(n, "Relu") && p->n == 1 && p->zero_point[0] == lo &&
        rq_eager_reader(g, n->in[0]) == g->values[value].producer && g->values[n->in[0]].kind == RQ_VALUE_NODE)
        g->values[n->in[0]].quant = c->quant[slot];
    return RQ_OK;
}

static rq_status convert_activation(conversion *c, rq_id fake, int slot)
{
    rq_graph *g = c->g;
    const rq_id x = g->nodes[fake].in[0], y = g->nodes[fake].out[0];
    RQ_TRY(rq_eager_put_behind(g, y, x, fake, c->err));
    rq_graph_remove_node(g, fake);
    return annotate(c, x, slot);
}

/* Operators that run on codes as they are and leave their parameters: pools, what moves elements, ReLU (7.4). */
static bool keeps_parameters(const rq_graph *g, rq_id node)
{
    static const char *const ops[] = { "Relu",          "AveragePool", "GlobalAveragePool", "MaxPool",
                                       "GlobalMaxPool", "Resize",      "ReduceMean",        "Flatten",
                                       "Reshape",       "Transpose",   "Squeeze",           "Unsqueeze",
                                       "Slice",         "Dropout",     "Identity" };
    if (rq_module_is(g, node, "DeQuantStub"))
        return false;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (rq_node_is(&g->nodes[node], ops[i]))
            return true;
    return false;
}

static rq_status spread(conversion *c)
{
    rq_graph *g = c->g;
    rq_id *order = NULL;
    int n = 0;
    RQ_TRY(rq_order(g, &order, &n, c->err));
    for (int i = 0; i < n; i++) {
        const rq_node *at = &g->nodes[order[i]];
        const rq_id x = rq_node_in(at, 0), y = rq_node_out(at, 0);
        if (x >= 0 && y >= 0 && g->values[x].quant != RQ_NONE && g->values[y].quant == RQ_NONE &&
            keeps_parameters(g, order[i]) && !rq_graph_is_output(g, y))
            g->values[y].quant = g->values[x].quant;
    }
    rq_mem_free(order);
    return RQ_OK;
}

/* ---- the whole ---- */

/* Training goes on in e's constants; these are the copy's own. */
static rq_status own_constants(rq_graph *g)
{
    for (rq_id i = 0; i < g->n_values; i++) {
        rq_value *v = &g->values[i];
        rq_tensor t;
        if (v->kind != RQ_VALUE_CONST || v->constant.dtype != RQ_DTYPE_F32)
            continue;
        RQ_TRY(rq_tensor_copy(&t, &v->constant));
        rq_tensor_release(&v->constant);
        v->constant = t;
    }
    return RQ_OK;
}

static bool of_weight(const rq_graph *g, const rq_node *fake)
{
    return rq_module_constant(g, fake->in[0]) >= 0;
}

static rq_status run(conversion *c)
{
    rq_graph *g = c->g;
    RQ_TRY(own_constants(g));
    for (int pass = 0; pass < 2; pass++) /* weights first: they take batch norms out of the way */
        for (rq_id i = 0; i < g->n_nodes; i++) {
            const int slot = rq_eager_slot(&g->nodes[i]);
            if (slot < 0 || slot >= c->e->n || of_weight(g, &g->nodes[i]) != !pass)
                continue;
            RQ_TRY(pass ? convert_activation(c, i, slot) : convert_weight(c, i, slot));
        }
    RQ_TRY(spread(c));
    rq_graph_prune(g);
    rq_graph_drop_opset(g, "requant");
    rq_ops_bind(g);
    RQ_TRY(rq_ops_infer(g, c->err));
    return rq_graph_check(g, c->err);
}

rq_status rq_convert(rq_eager *e, rq_graph **out, rq_err *err)
{
    conversion c = { e, NULL, rq_mem_alloc((size_t)e->n, sizeof *c.quant), err };
    if (err)
        err->text[0] = '\0';
    rq_status s = c.quant ? rq_graph_copy(&c.g, e->g) : RQ_NO_MEMORY;
    for (int i = 0; !s && i < e->n; i++)
        c.quant[i] = RQ_NONE;
    if (!s)
        s = run(&c);
    if (s == RQ_NO_MEMORY)
        (void)rq_fail(err, s, "not enough memory to convert a network");
    if (s)
        rq_graph_destroy(c.g);
    else
        *out = c.g;
    rq_mem_free(c.quant);
    return s;
}
