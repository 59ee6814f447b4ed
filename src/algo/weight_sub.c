/* algo/weight_sub.c — weights of the bodies of If, Loop and Scan. Annotations are of the outermost graph, so here codes
 * and their DequantizeLinear are written at once. */
#include <string.h>

#include "algo/ptq_priv.h"
#include "algo/weights.h"
#include "ops/rewrite.h"
#include "ops/upgrade.h"

typedef struct done {
    rq_weight w; /* computed */
    rq_id reals; /* what its DequantizeLinear makes */
} done;

typedef struct body {
    const rq_ptq_cfg *cfg;
    rq_graph *g;
    done *all;
    int n, cap;
    rq_err *err;
} body;

static rq_status no_memory(body *b)
{
    return rq_fail(b->err, RQ_NO_MEMORY, "out of memory quantizing weights of a subgraph");
}

/* Scales, or zero points, of q in the shape that DequantizeLinear wants; named base + suffix. */
static rq_status add_param(body *b, const rq_weight *w, bool scale, const char *base, const char *suffix, rq_id *id)
{
    const rq_qparams *q = &w->q;
    rq_shape s = q->axis == RQ_PER_TENSOR ? rq_shape_of(0, NULL) : q->block ? w->codes.shape : rq_shape_of(1, &q->n);
    if (q->block)
        s.dim[q->axis] = (s.dim[q->axis] + q->block - 1) / q->block;
    const char *name = rq_rewrite_name(b->g, base, suffix);
    rq_tensor t;
    if (!name || rq_tensor_create(&t, scale ? RQ_DTYPE_F32 : q->dtype, &s, true))
        return no_memory(b);
    for (int64_t i = 0; i < q->n; i++)
        rq_tensor_set(&t, i, scale ? (double)q->scale[i] : q->zero_point[i]);
    rq_status st = rq_graph_add_const(b->g, id, name, &t, b->err);
    rq_tensor_release(&t);
    return st;
}

static rq_status write_weight(body *b, const rq_weight *w, rq_id *reals)
{
    rq_graph *g = b->g;
    const char *base = g->values[w->value].name[0] ? g->values[w->value].name : "weight";
    rq_id in[3], node;
    const char *name = rq_rewrite_name(g, base, "_quantized");
    if (!name)
        return no_memory(b);
    RQ_TRY(rq_graph_add_const(g, &in[0], name, &w->codes, b->err));
    RQ_TRY(add_param(b, w, true, base, "_scale", &in[1]));
    RQ_TRY(add_param(b, w, false, base, "_zero_point", &in[2]));
    RQ_TRY(rq_rewrite_add(g, "DequantizeLinear", in, 3, base, "_DequantizeLinear_Output", RQ_DTYPE_F32, reals, &node,
                          b->err));
    g->values[*reals].shape = w->codes.shape;
    if ((w->q.axis != RQ_PER_TENSOR && rq_attr_set_int(g, node, "axis", w->q.axis)) ||
        (w->q.block && rq_attr_set_int(g, node, "block_size", w->q.block)))
        return no_memory(b);
    return RQ_OK;
}

static rq_status quantize_site(body *b, rq_id node, rq_weight_site site)
{
    rq_graph *g = b->g;
    const rq_node *n = &g->nodes[node];
    rq_weight one = { .value = n->in[site.in], .site = site, .s = b->cfg->settings };
    if (b->cfg->recipe)
        one.s = rq_recipe_resolve(b->cfg->recipe, &b->cfg->settings, n->op, n->name, g->values[one.value].name);
    one.even = one.s.weight_method <= RQ_WEIGHTS_MINMAX;
    RQ_TRY(rq_weight_check(&one.s, b->err));
    if (one.s.keep_float || !rq_weight_pays(g, &one))
        return RQ_OK;
    int i = 0;
    while (i < b->n && !rq_weight_same(&b->all[i].w, &one))
        i++;
    if (i == b->n) {
        if (!rq_mem_grow(&b->all, b->n, &b->cap, sizeof *b->all))
            return no_memory(b);
        RQ_TRY(rq_weight_compute(&one, g, b->err));
        b->all[b->n++] = (done) { one, RQ_NONE };
        RQ_TRY(write_weight(b, &one, &b->all[i].reals));
    }
    return rq_graph_set_input(g, node, site.in, b->all[i].reals) ? no_memory(b) : RQ_OK;
}

static rq_status quantize_body(const rq_ptq_cfg *cfg, rq_graph *g, bool own, int *n, rq_err *err);

static rq_status quantize_nested(const rq_ptq_cfg *cfg, rq_graph *g, rq_id node, int *n, rq_err *err)
{
    for (int a = 0; a < g->nodes[node].n_attr; a++) {
        const rq_attr *attr = &g->nodes[node].attr[a];
        for (int i = 0; i < rq_attr_bodies(attr); i++)
            RQ_TRY(quantize_body(cfg, attr->g[i], true, n, err));
    }
    return RQ_OK;
}

/* own: g is a body, and its weights are meant; else only those of the bodies below it. */
static rq_status quantize_body(const rq_ptq_cfg *cfg, rq_graph *g, bool own, int *n, rq_err *err)
{
    body b = { .cfg = cfg, .g = g, .err = err };
    rq_status s = RQ_OK;
    for (rq_id i = 0, count = g->n_nodes; i < count && !s; i++) {
        rq_weight_site sites[2];
        if (!g->nodes[i].op)
            continue;
        s = quantize_nested(cfg, g, i, n, err);
        for (int k = 0, m = own ? rq_weight_sites(g, &g->nodes[i], sites) : 0; k < m && !s; k++)
            s = quantize_site(&b, i, sites[k]);
    }
    *n += b.n;
    if (!s && b.n)
        rq_graph_prune(g);
    for (int i = 0; i < b.n; i++)
        rq_weight_release(&b.all[i].w);
    rq_mem_free(b.all);
    return s;
}

static bool has_bodies(const rq_graph *g)
{
    for (rq_id i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && rq_attr_any_body(&g->nodes[i]))
            return true;
    return false;
}

rq_status rq_weight_bodies(rq_graph *g, const rq_ptq_cfg *cfg, int *n, rq_err *err)
{
    const rq_settings *s = &cfg->settings;
    const int bits = rq_dtype_bits(s->weights);
    const int64_t need = bits == 2 ? 25 : bits == 4 || s->block_size > 0 ? 21 : s->per_tensor ? 10 : 13;
    *n = 0;
    if (!has_bodies(g))
        return RQ_OK;
    if (rq_graph_opset(g, "") < need)
        RQ_TRY(rq_upgrade(g, need, err));
    return quantize_body(cfg, g, false, n, err);
}
