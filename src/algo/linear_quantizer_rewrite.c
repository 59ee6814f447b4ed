/* algo/linear_quantizer_rewrite.c — a plan becomes nodes. Behind a maker the FakeQuantize takes over the maker's value, so that whoever reads it,
 * and the graph's outputs, need not be touched; what it quantizes gets a new one. A product with a batch norm is computed as it will be
 * folded (docs/coreml-facts.md 5):
 *
 *   k = BatchNormScale(gamma, var)    W' = FakeQuantize(ScaleChannels(W, k))    c = product(x, W')    y = FoldedBatchNorm(c, k, bias, ...)
 */
#include "algo/linear_quantizer.h"

#include <stdio.h>
#include <string.h>

#include "graph/query.h"

#define DOMAIN "requant"

/* A value of src's type and shape, called after it. */
static rq_status like(rq_graph *g, rq_id *id, rq_id src, const char *suffix, rq_err *err)
{
    char buf[512];
    snprintf(buf, sizeof buf, "%.400s%s", g->values[src].name, suffix);
    const char *name = rq_graph_fresh_name(g, buf);
    const rq_shape shape = g->values[src].shape;
    if (!name)
        return rq_lq_no_memory(err);
    return rq_graph_add_value(g, id, RQ_VALUE_NODE, name, RQ_DTYPE_F32, &shape, err);
}

/* out = op(in...), as a new value called after in[0]. */
static rq_status make(rq_graph *g, const char *op, const char *name, const rq_id *in, int n_in, const char *suffix,
                      rq_id *node, rq_id *out, rq_err *err)
{
    RQ_TRY(like(g, out, in[0], suffix, err));
    return rq_graph_add_node(g, node, op, DOMAIN, name, in, n_in, out, 1, err);
}

static rq_status fake(rq_graph *g, const rq_lq_object *o, const char *name, rq_id x, rq_id *y, rq_err *err)
{
    rq_id node;
    RQ_TRY(make(g, "FakeQuantize", name, &x, 1, "_quantized", &node, y, err));
    return rq_attr_set_int(g, node, "slot", o->slot) ? rq_lq_no_memory(err) : RQ_OK;
}

/* Behind the maker of v: it makes a new value now, from which v comes. */
static rq_status fake_behind(rq_graph *g, const rq_lq_object *o, const char *name, rq_id v, rq_err *err)
{
    rq_id raw = RQ_NONE, node;
    RQ_TRY(like(g, &raw, v, "_float", err));
    const rq_id maker = g->values[v].producer;
    rq_node *n = &g->nodes[maker];
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] == v)
            n->out[i] = raw;
    g->values[raw].producer = maker;
    g->values[v].producer = RQ_NONE;
    RQ_TRY(rq_graph_add_node(g, &node, "FakeQuantize", DOMAIN, name, &raw, 1, &v, 1, err));
    return rq_attr_set_int(g, node, "slot", o->slot) ? rq_lq_no_memory(err) : RQ_OK;
}

static void train(rq_graph *g, rq_id v)
{
    if (rq_graph_is_const(g, v) && g->values[v].trainable == RQ_TRAINABLE_AUTO)
        g->values[v].trainable = RQ_TRAINABLE_YES;
}

/* The constant that a weight is laid out anew from. */
static rq_id origin(const rq_graph *g, rq_id v)
{
    while (v >= 0 && g->values[v].kind == RQ_VALUE_NODE)
        v = g->nodes[g->values[v].producer].in[0];
    return v;
}

/* The batch norm of the group becomes FoldedBatchNorm, and *w the weight with its scale. */
static rq_status fold_norm(rq_graph *g, const rq_lq_group *gr, rq_id *w, rq_err *err)
{
    rq_id node, k, scaled, bias = RQ_NONE;
    const rq_node *norm = &g->nodes[gr->norm];
    const char *name = norm->name;
    const rq_id gamma = norm->in[1], beta = norm->in[2], mean = norm->in[3], var = norm->in[4];
    const float epsilon = rq_attr_float(norm, RQ_WORD_epsilon, 1e-5f);
    char buf[512];

    snprintf(buf, sizeof buf, "%.400s/scale", name);
    RQ_TRY(make(g, "BatchNormScale", buf, (const rq_id[]) { gamma, var }, 2, "_over_deviation", &node, &k, err));
    if (rq_attr_set_float(g, node, "epsilon", epsilon))
        return rq_lq_no_memory(err);
    snprintf(buf, sizeof buf, "%.400s/scale_channels", name);
    RQ_TRY(make(g, "ScaleChannels", buf, (const rq_id[]) { *w, k }, 2, "_scaled", &node, &scaled, err));
    const rq_node *root = &g->nodes[gr->root];
    if (rq_attr_set_int(g, node, "axis", gr->deconv ? 1 : gr->weight_axis) ||
        rq_attr_set_int(g, node, "group", gr->deconv ? rq_attr_int(root, RQ_WORD_group, 1) : 1))
        return rq_lq_no_memory(err);
    *w = scaled;

    rq_id c = root->out[0];
    if (gr->bias_add >= 0) {
        const rq_node *add = &g->nodes[gr->bias_add];
        bias = add->in[0] == c ? add->in[1] : add->in[0];
    } else if (!rq_node_is(root, "MatMul")) {
        bias = rq_node_in(root, 2);
        if (bias >= 0 && rq_graph_set_input(g, gr->root, 2, RQ_NONE))
            return rq_lq_no_memory(err);
    }
    if (bias >= 0)
        train(g, bias);
    train(g, gamma);
    train(g, beta);
    const char *op = rq_graph_str(g, "FoldedBatchNorm"), *domain = rq_graph_str(g, DOMAIN);
    if (!op || !domain)
        return rq_lq_no_memory(err);
    if (!name[0]) { /* frozen by name */
        snprintf(buf, sizeof buf, "%.400s.batch_norm", gr->module);
        const char *given = rq_graph_str(g, buf);
        if (!given)
            return rq_lq_no_memory(err);
        g->nodes[gr->norm].name = given;
    }
    g->nodes[gr->norm].op = op;
    g->nodes[gr->norm].domain = domain;
    const rq_id in[] = { c, k, bias, gamma, beta, mean, var };
    for (int i = 0; i < 7; i++)
        if (rq_graph_set_input(g, gr->norm, i, in[i]))
            return rq_lq_no_memory(err);
    if (gr->bias_add >= 0)
        rq_graph_remove_node(g, gr->bias_add);
    return RQ_OK;
}

static rq_status weight(rq_graph *g, const rq_lq_plan *p, const rq_lq_group *gr, rq_err *err)
{
    rq_id w = g->nodes[gr->root].in[gr->weight_in], y;
    train(g, origin(g, w));
    if (gr->norm >= 0)
        RQ_TRY(fold_norm(g, gr, &w, err));
    if (gr->weight >= 0) {
        RQ_TRY(fake(g, &p->objects[gr->weight], p->objects[gr->weight].name, w, &y, err));
        w = y;
    }
    return rq_graph_set_input(g, gr->root, gr->weight_in, w) ? rq_lq_no_memory(err) : RQ_OK;
}

rq_status rq_lq_rewrite(rq_graph *g, const rq_lq_plan *p, rq_err *err)
{
    char name[48];
    for (int i = 0; i < p->n_groups; i++)
        if (p->groups[i].weight >= 0 || p->groups[i].norm >= 0)
            RQ_TRY(weight(g, p, &p->groups[i], err));
    for (int i = 0; i < p->n_places; i++) {
        const rq_lq_place *at = &p->places[i];
        const rq_lq_object *o = &p->objects[at->object];
        if (at->removed || at->index < 0)
            continue;
        snprintf(name, sizeof name, "activation_post_process_%d", at->index);
        if (at->output) {
            RQ_TRY(fake_behind(g, o, name, at->value, err));
            continue;
        }
        rq_id y;
        RQ_TRY(fake(g, o, name, at->value, &y, err));
        for (int u = 0; u < p->n_uses; u++)
            if (p->uses[u].place == i && rq_graph_set_input(g, p->uses[u].node, p->uses[u].in, y))
                return rq_lq_no_memory(err);
    }
    return rq_graph_set_opset(g, DOMAIN, 1) ? rq_lq_no_memory(err) : RQ_OK;
}

/* ---- what a fake-quantizer is made from ---- */

static rq_fake_quantizer_cfg fixed_cfg(const rq_lq_object *o)
{
    rq_fake_quantizer_cfg f = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_FIXED);
    const int bits = o->cfg->activation_n_bits, codes = 1 << bits;
    f.observer.type = (rq_qtype) { RQ_DTYPE_U8, 0, codes - 1 };
    f.observer.custom_range = bits < 8;
    f.observer.scale = (o->range == RQ_LQ_TANH ? 2.0f : 1.0f) / (float)codes;
    f.observer.zero_point = o->range == RQ_LQ_TANH ? codes / 2 : 0;
    return f;
}

rq_fake_quantizer_cfg rq_lq_fake_cfg(const rq_lq_plan *p, const rq_lq_object *o, bool compat)
{
    const rq_module_linear_quantizer_config *c = o->cfg;
    const bool is_weight = o->policy == RQ_LQ_WEIGHT;
    const bool symmetric = rq_qscheme_is_symmetric(c->quantization_scheme) && o->policy != RQ_LQ_AFFINE;
    rq_fake_quantizer_cfg f;
    if (o->policy == RQ_LQ_FIXED) {
        f = fixed_cfg(o);
    } else {
        const rq_observer_kind kind = is_weight ? c->weight_observer : c->activation_observer;
        const rq_dtype d = is_weight ? c->weight_dtype : c->activation_dtype;
        int bits = is_weight ? c->weight_n_bits : c->activation_n_bits;
        const rq_lq_group *gr = &p->groups[o->group];
        if (is_weight && compat && gr->kind == RQ_LQ_TABLE)
            bits = 8;
        const int codes = 1 << bits;
        f = rq_fake_quantizer_defaults(c->learnable ? RQ_FAKE_QUANTIZER_LEARNABLE : RQ_FAKE_QUANTIZER_STANDARD);
        f.rule = RQ_LEARNED_LSQ;
        f.observer = rq_observer_defaults(kind);
        f.observer.type =
            d == RQ_DTYPE_U8 ? (rq_qtype) { d, 0, codes - 1 } : (rq_qtype) { d, -codes / 2, codes / 2 - 1 };
        f.observer.axis = o->axis;
        f.observer.scheme = o->axis == RQ_PER_TENSOR
                                ? (symmetric ? RQ_QSCHEME_PER_TENSOR_SYMMETRIC : RQ_QSCHEME_PER_TENSOR_AFFINE)
                                : (symmetric ? RQ_QSCHEME_PER_CHANNEL_SYMMETRIC : RQ_QSCHEME_PER_CHANNEL_AFFINE);
        /* the original states the range where it has fewer bits, and per channel along axis 1 */
        f.observer.custom_range = bits < 8 || (gr->deconv && o->axis == 1) || o->policy == RQ_LQ_AFFINE;
    }
    f.compat = f.observer.compat = compat;
    return f;
}
