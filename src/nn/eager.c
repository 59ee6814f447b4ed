/* nn/eager.c — prepare_qat: which modules have fake-quantizers, and putting them in (docs/torch-facts.md 7.3, 7.4). Converting is
 * nn/eager_convert.c. */
#include "nn/eager.h"

#include <stdio.h>
#include <string.h>

#include "graph/modules.h"
#include "graph/query.h"
#include "ops/op.h"

int rq_eager_slot(const rq_node *n)
{
    return n->op && !strcmp(n->op, "FakeQuantize") && !strcmp(n->domain, "requant")
               ? (int)rq_attr_int(n, RQ_WORD_slot, -1)
               : -1;
}

rq_id rq_eager_reader(const rq_graph *g, rq_id v)
{
    rq_id user[1];
    return v >= 0 && rq_graph_uses(g, v, user, 1) == 1 && !rq_graph_is_output(g, v) ? user[0] : RQ_NONE;
}

rq_status rq_eager_put_behind(rq_graph *g, rq_id from, rq_id to, rq_id except, rq_err *err)
{
    const bool is_output = rq_graph_is_output(g, from);
    rq_graph_replace_uses(g, from, to, except);
    if (!is_output)
        return RQ_OK;
    const char *name = rq_graph_str(g, g->values[from].name),
               *old = name ? rq_graph_fresh_name(g, "before_output") : NULL;
    if (!old)
        return RQ_NO_MEMORY;
    RQ_TRY(rq_graph_rename(g, from, old, err));
    return rq_graph_rename(g, to, name, err);
}

/* ---- the tree of modules ---- */

typedef struct tree {
    rq_arena text;
    rq_qconfig_module *m; /* [n] m[0]: the root */
    int n, cap;
    const rq_qconfig **qconfig; /* [n] */
} tree;

static int find(const tree *t, const char *path, size_t n)
{
    for (int i = 0; i < t->n; i++)
        if (strlen(t->m[i].name) == n && !strncmp(t->m[i].name, path, n))
            return i;
    return -1;
}

/* Module `path` with those it lies in; its index, -1: memory is out. */
static int put(tree *t, const char *path, size_t n, const char *type)
{
    const int old = find(t, path, n);
    if (old >= 0)
        return old;
    size_t up = n;
    while (up > 0 && path[up - 1] != '.')
        up--;
    const int parent = n ? put(t, path, up ? up - 1 : 0, "Module") : -1;
    char *name = n ? rq_arena_strndup(&t->text, path, n) : "", *kept = rq_arena_strndup(&t->text, type, strlen(type));
    if ((n && parent < 0) || !name || !kept || !rq_mem_grow(&t->m, t->n, &t->cap, sizeof *t->m))
        return -1;
    t->m[t->n] = (rq_qconfig_module) { .name = name, .type = kept, .parent = parent };
    return t->n++;
}

static const char *fused_type(const rq_graph *g, const char *path)
{
    static const char prefix[] = "requant.fused.";
    for (int i = 0; i < g->n_meta; i++)
        if (!strncmp(g->meta[i].key, prefix, sizeof prefix - 1) && !strcmp(g->meta[i].key + sizeof prefix - 1, path))
            return g->meta[i].value;
    return NULL;
}

static rq_status tree_of(const rq_graph *g, const rq_qconfig_mapping *m, tree *t, rq_err *err)
{
    rq_module *list = NULL;
    int n = 0;
    rq_status s = rq_graph_modules(g, &list, &n);
    if (!s && put(t, "", 0, "Module") < 0)
        s = RQ_NO_MEMORY;
    for (int i = 0; !s && i < n; i++)
        if (!list[i].call) {
            const char *fused = fused_type(g, list[i].name);
            s = put(t, list[i].name, strlen(list[i].name), fused ? fused : list[i].type) < 0 ? RQ_NO_MEMORY : RQ_OK;
        }
    rq_mem_free(list);
    if (!s && !(t->qconfig = rq_mem_zalloc((size_t)t->n, sizeof *t->qconfig)))
        s = RQ_NO_MEMORY;
    return s ? s : rq_qconfig_mapping_propagate(m, t->m, t->n, NULL, t->qconfig, err);
}

/* ---- where they go ---- */

/* One application of a module. */
typedef struct site {
    char path[RQ_MODULE_NAME];
    const char *type;
    const rq_qconfig *qconfig;
    rq_id main, norm; /* the node of the layer; the batch norm fused with it, or RQ_NONE */
    rq_id out;        /* the node whose output is the module's */
    bool weight;      /* input 1 of main is fake-quantized */
} site;

static bool named(const rq_graph *g, rq_id node, const char *path, const char *child)
{
    char name[RQ_MODULE_NAME];
    const size_t n = strlen(path);
    rq_module_name(g, node, name, sizeof name);
    return !strncmp(name, path, n) && !strcmp(name + n, child);
}

static bool ends_in_scalar(const rq_node *n)
{
    return strstr(n->name, "FloatFunctional.add_scalar") || strstr(n->name, "FloatFunctional.mul_scalar");
}

/* Types whose output has a fake-quantizer though they have no weights that do. */
static bool is_observed(const rq_graph *g, rq_id i)
{
    static const char *const types[] = {
        "QuantStub",       "FloatFunctional", "BatchNorm2d", "BatchNorm3d",    "ConvTranspose1d", "ConvTranspose2d",
        "ConvTranspose3d", "Conv1d",          "ELU",         "LeakyReLU",      "Hardswish",       "ReLU6",
        "PReLU",           "LayerNorm",       "GroupNorm",   "InstanceNorm1d", "InstanceNorm2d",  "InstanceNorm3d",
        "Sigmoid",         "Hardsigmoid",     "Softmax",     "Tanh",
    };
    const char *have[RQ_MODULE_TYPES];
    const rq_node *n = &g->nodes[i];
    if (!rq_module_types(g, i, have) || ends_in_scalar(n) || rq_node_is(n, "Relu")) /* of add_relu: behind its Add */
        return false;
    if (rq_node_is(n, "Sigmoid") || rq_node_is(n, "HardSigmoid")) { /* half of a SiLU or Hardswish is no module */
        if (strcmp(have[0], "Sigmoid") != 0 && strcmp(have[0], "Hardsigmoid") != 0)
            return false;
    }
    for (size_t k = 0; k < sizeof types / sizeof types[0]; k++)
        if (!strcmp(have[0], types[k]))
            return true;
    return false;
}

/* Is node i where an application of a module begins that gets fake-quantizers? */
static bool site_of(const rq_graph *g, rq_id i, const tree *t, site *s)
{
    const rq_node *n = &g->nodes[i];
    if (!n->op || rq_eager_slot(n) >= 0 || rq_module_biased(g, i) >= 0)
        return false;
    *s = (site) { .main = i, .norm = RQ_NONE, .out = i };
    rq_module_name(g, i, s->path, sizeof s->path);
    const int at = find(t, s->path, strlen(s->path));
    if (at <= 0 || !t->qconfig[at])
        return false;
    s->qconfig = t->qconfig[at];
    s->type = t->m[at].type;
    s->weight = rq_module_is(g, i, "Conv2d") || rq_module_is(g, i, "Conv3d") || rq_module_is(g, i, "Linear");
    if (s->weight && rq_module_constant(g, rq_node_in(n, 1)) < 0)
        return false;
    if (!s->weight && !is_observed(g, i))
        return false;
    const size_t len = strlen(s->path);
    if (rq_node_is(n, "BatchNormalization") && len > 3 && !strcmp(s->path + len - 3, ".bn")) {
        char parent[RQ_MODULE_NAME];
        snprintf(parent, sizeof parent, "%.*s", (int)(len - 3), s->path);
        if (fused_type(g, parent))
            return false; /* part of the layer before it */
    }
    if (rq_node_is(n, "MatMul"))
        for (rq_id k = 0; k < g->n_nodes; k++)
            if (g->nodes[k].op && rq_module_biased(g, k) == i)
                s->out = k;
    rq_id next = rq_eager_reader(g, rq_node_out(&g->nodes[s->out], 0));
    if (next >= 0 && rq_node_is(&g->nodes[next], "BatchNormalization") && fused_type(g, s->path) &&
        named(g, next, s->path, ".bn")) {
        s->norm = s->out = next;
        s->weight = true; /* ConvBn1d has a form for training, too */
        next = rq_eager_reader(g, rq_node_out(&g->nodes[next], 0));
    }
    if (next >= 0 && rq_node_is(&g->nodes[next], "Relu") && !rq_node_is(n, "Relu") && named(g, next, s->path, ""))
        s->out = next;
    return true;
}

/* ---- fake-quantizers ---- */

/* The slot of that name, made from part p of the site's qconfig if it is new; -1 in *slot: p makes none. */
static rq_status slot_of(rq_eager *e, const site *s, const char *what, const rq_fake_quantizer_cfg *cfg, int *slot,
                         rq_err *err)
{
    char name[RQ_MODULE_NAME + 32];
    snprintf(name, sizeof name, "%s.%s", s->path, what);
    for (*slot = 0; *slot < e->n; (*slot)++)
        if (!strcmp(e->names[*slot], name))
            return RQ_OK;
    const char *kept = rq_arena_strndup(&e->text, name, strlen(name));
    if (!kept || !rq_mem_grow(&e->fakes, e->n, &e->cap, sizeof *e->fakes) ||
        !rq_mem_grow(&e->names, e->n, &e->cap_names, sizeof *e->names))
        return RQ_NO_MEMORY;
    const rq_status st = rq_fake_quantizer_create(&e->fakes[e->n], cfg, err);
    if (st)
        return st == RQ_NO_MEMORY ? st : rq_fail_in(err, st, "module '%s' (%s)", s->path, s->type);
    e->names[e->n++] = kept;
    return RQ_OK;
}

/* What part p of a qconfig says, as this network has it; false with RQ_OK: nothing. */
static rq_status cfg_of(const site *s, const rq_qconfig_part *p, bool compat, rq_fake_quantizer_cfg *cfg, bool *some,
                        rq_err *err)
{
    *some = p->form != RQ_QCONFIG_NOTHING;
    if (p->form == RQ_QCONFIG_OBSERVER)
        return rq_fail(err, RQ_BAD_ARG,
                       "module '%s' (%s): its qconfig observes, training wants one that fake-quantizes", s->path,
                       s->type);
    if (p->dynamic || (*some && rq_qconfig_watches_input(s->qconfig) && p == &s->qconfig->activation))
        return rq_fail(err, RQ_UNSUPPORTED, "module '%s' (%s): its qconfig measures activations while it runs", s->path,
                       s->type);
    *cfg = p->fake_quantizer;
    cfg->compat |= compat;
    return RQ_OK;
}

/* ---- nodes ---- */

/* A node "/<path>/<last>" with one new output. */
static rq_status add(rq_graph *g, const char *path, const char *last, const char *op, const rq_id *in, int n_in,
                     rq_id *out, rq_id *node, rq_err *err)
{
    char name[RQ_MODULE_NAME + 80], value[RQ_MODULE_NAME + 100];
    const int len = snprintf(name, sizeof name, "/%s", path);
    for (int i = 1; i < len; i++)
        if (name[i] == '.')
            name[i] = '/';
    snprintf(name + len, sizeof name - (size_t)len, "/%s", last);
    snprintf(value, sizeof value, "%s_output_0", name);
    const char *fresh = rq_graph_fresh_name(g, value);
    const rq_shape unknown = rq_shape_unknown();
    if (!fresh)
        return RQ_NO_MEMORY;
    RQ_TRY(rq_graph_add_value(g, out, RQ_VALUE_NODE, fresh, RQ_DTYPE_F32, &unknown, err));
    return rq_graph_add_node(g, node, op, "requant", name, in, n_in, out, 1, err);
}

static rq_status add_fake(rq_graph *g, const site *s, const char *what, int slot, rq_id x, rq_id *y, rq_id *node,
                          rq_err *err)
{
    char last[64];
    snprintf(last, sizeof last, "%s/FakeQuantize", what);
    RQ_TRY(add(g, s->path, last, "FakeQuantize", &x, 1, y, node, err));
    return rq_attr_set_int(g, *node, "slot", slot);
}

/* k = BatchNormScale(gamma, var), weight times k in front of the layer, its bias and the division by k behind it (7.3). */
static rq_status fold_norm(rq_graph *g, const site *s, rq_id *weight, rq_err *err)
{
    rq_id k, scaled, y, node;
    const rq_id bn = s->norm;
    const rq_id gamma = g->nodes[bn].in[1], beta = g->nodes[bn].in[2], mean = g->nodes[bn].in[3],
                var = g->nodes[bn].in[4];
    const float epsilon = rq_attr_float(&g->nodes[bn], RQ_WORD_epsilon, 1e-5f),
                momentum = rq_attr_float(&g->nodes[bn], RQ_WORD_momentum, 0.9f);
    if (rq_node_is(&g->nodes[s->main], "MatMul"))
        return rq_fail(err, RQ_UNSUPPORTED, "module '%s' is a MatMul with a batch norm behind it, expected a Gemm",
                       s->path);
    const rq_id bias = rq_node_in(&g->nodes[s->main], 2);
    RQ_TRY(add(g, s->path, "bn/BatchNormScale", "BatchNormScale", (rq_id[]) { gamma, var }, 2, &k, &node, err));
    RQ_TRY(rq_attr_set_float(g, node, "epsilon", epsilon));
    RQ_TRY(add(g, s->path, "ScaleChannels", "ScaleChannels", (rq_id[]) { *weight, k }, 2, &scaled, &node, err));
    RQ_TRY(rq_attr_set_int(g, node, "axis", 0));
    *weight = scaled;
    if (bias >= 0)
        g->nodes[s->main].n_in = 2;
    const rq_id c = g->nodes[bn].in[0], old = g->nodes[bn].out[0];
    RQ_TRY(add(g, s->path, "bn/FoldedBatchNorm", "FoldedBatchNorm", (rq_id[]) { c, k, bias, gamma, beta, mean, var }, 7,
               &y, &node, err));
    RQ_TRY(rq_attr_set_float(g, node, "epsilon", epsilon));
    RQ_TRY(rq_attr_set_float(g, node, "momentum", momentum));
    RQ_TRY(rq_eager_put_behind(g, old, y, bn, err));
    rq_graph_remove_node(g, bn);
    return RQ_OK;
}

/* Along which axis of the weight as it lies in the file the output channels are. */
static int weight_axis(const rq_graph *g, const site *s, rq_id source)
{
    const rq_node *n = &g->nodes[s->main];
    if (rq_node_is(n, "Gemm"))
        return rq_attr_int(n, RQ_WORD_transB, 0) ? 0 : 1;
    return rq_node_is(n, "MatMul") && n->in[1] == source ? 1 : 0;
}

static rq_status prepare_weight(rq_eager *e, site *s, bool compat, rq_err *err)
{
    rq_graph *g = e->g;
    rq_fake_quantizer_cfg cfg;
    bool some;
    int slot;
    rq_id y, node, at = s->main, weight = g->nodes[s->main].in[1];
    while (g->values[weight].kind ==
           RQ_VALUE_NODE) { /* the fake-quantizer stands in front of what only turns the weight */
        at = g->values[weight].producer;
        weight = g->nodes[at].in[0];
    }
    const int axis = weight_axis(g, s, weight), input = at == s->main ? 1 : 0;
    if (s->norm != RQ_NONE && axis == 0)
        RQ_TRY(fold_norm(g, s, &weight, err));
    else if (s->norm != RQ_NONE)
        return rq_fail(err, RQ_UNSUPPORTED, "module '%s': a batch norm behind a Gemm whose weight is not transposed",
                       s->path);
    RQ_TRY(cfg_of(s, &s->qconfig->weight, compat, &cfg, &some, err));
    if (!some)
        return rq_graph_set_input(g, at, input, weight);
    if (rq_qscheme_is_per_channel(cfg.observer.scheme) && cfg.observer.axis == 0)
        cfg.observer.axis = axis;
    RQ_TRY(slot_of(e, s, "weight_fake_quant", &cfg, &slot, err));
    RQ_TRY(add_fake(g, s, "weight_fake_quant", slot, weight, &y, &node, err));
    return rq_graph_set_input(g, at, input, y);
}

static rq_status prepare_site(rq_eager *e, site *s, bool compat, rq_err *err)
{
    rq_graph *g = e->g;
    rq_fake_quantizer_cfg cfg;
    bool some;
    int slot;
    rq_id y, node, out = g->nodes[s->out].out[0];
    const bool moved = s->norm == s->out && s->norm != RQ_NONE; /* FoldedBatchNorm takes its place */
    float scale;
    int32_t zero_point;
    if (s->weight)
        RQ_TRY(prepare_weight(e, s, compat, err));
    if (moved)
        for (rq_id i = g->n_nodes - 1; i >= 0; i--)
            if (g->nodes[i].op && !strcmp(g->nodes[i].op, "FoldedBatchNorm")) {
                out = g->nodes[i].out[0];
                break;
            }
    RQ_TRY(cfg_of(s, &s->qconfig->activation, compat, &cfg, &some, err));
    if (!some)
        return RQ_OK;
    if (rq_qconfig_fixed_of(s->type, &scale, &zero_point)) {
        cfg = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_FIXED);
        cfg.compat = compat;
        cfg.observer.scale = scale;
        cfg.observer.zero_point = zero_point;
    }
    RQ_TRY(slot_of(e, s, "activation_post_process", &cfg, &slot, err));
    RQ_TRY(add_fake(g, s, "activation_post_process", slot, out, &y, &node, err));
    return rq_eager_put_behind(g, out, y, node, err);
}

rq_status rq_prepare_qat(rq_eager **out, const rq_graph *g, const rq_qconfig_mapping *m, bool compat, rq_err *err)
{
    tree t = { { 0 }, NULL, 0, 0, NULL };
    rq_eager *e = rq_mem_zalloc(1, sizeof *e);
    if (err)
        err->text[0] = '\0';
    rq_status s = e ? rq_graph_copy(&e->g, g) : RQ_NO_MEMORY;
    if (!s)
        s = tree_of(e->g, m, &t, err);
    if (!s)
        s = rq_graph_set_opset(e->g, "requant", 1);
    for (rq_id i = 0, n = s ? 0 : e->g->n_nodes; !s && i < n; i++) {
        site at;
        if (site_of(e->g, i, &t, &at))
            s = prepare_site(e, &at, compat, err);
    }
    if (!s) {
        rq_ops_bind(e->g);
        s = rq_ops_infer(e->g, err);
    }
    if (s == RQ_NO_MEMORY)
        (void)rq_fail(err, s, "not enough memory to prepare a network");
    rq_mem_free(t.m);
    rq_mem_free(t.qconfig);
    rq_arena_release(&t.text);
    if (s)
        rq_eager_destroy(e);
    else
        *out = e;
    return s;
}

void rq_eager_destroy(rq_eager *e)
{
    if (!e)
        return;
    for (int i = 0; i < e->n; i++)
        rq_fake_quantizer_destroy(e->fakes[i]);
    rq_mem_free(e->fakes);
    rq_mem_free(e->names);
    rq_arena_release(&e->text);
    rq_graph_destroy(e->g);
    rq_mem_free(e);
}

rq_graph *rq_eager_model(rq_eager *e)
{
    return e->g;
}

int rq_eager_fakes(const rq_eager *e, rq_fake_quantizer *const **fakes, const char *const **names)
{
    if (fakes)
        *fakes = e->fakes;
    if (names)
        *names = e->names;
    return e->n;
}

void rq_eager_enable_observer(rq_eager *e, bool on)
{
    for (int i = 0; i < e->n; i++)
        rq_fake_quantizer_enable_observer(e->fakes[i], on);
}

void rq_eager_enable_fake_quant(rq_eager *e, bool on)
{
    for (int i = 0; i < e->n; i++)
        rq_fake_quantizer_enable_fake_quant(e->fakes[i], on);
}
