/* nn/fuse.c — fuse_modules: a layer, the batch norm behind it and the ReLU behind that become one module under the first one's name
 * (docs/torch-facts.md 7.2). Where the original swaps modules by name and hopes, this follows the flow of values: members must follow one
 * another, and nobody else may read what passes between them. Works on a copy, which takes the graph's place when all went well. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "graph/modules.h"
#include "graph/query.h"
#include "nn/nn.h"

enum { MOST = 3 };

typedef struct member {
    const char *name;
    char letter;     /* C convolution, T transposed, L linear, B batch norm, R ReLU */
    rq_id main, out; /* the node that has the weight; the one whose output goes on (the Add of a bias) */
    int axes;        /* of a convolution or batch norm: 1, 2 or 3; 0: not known */
} member;

typedef struct form {
    const char *letters, *type; /* what the fused module is called, its dimensions behind it; NULL: as the layer is */
    bool eval, qat;
} form;

static const form forms[] = {
    { "CBR", "ConvReLU", true, false }, { "CBR", "ConvBnReLU", false, true }, { "CB", NULL, true, false },
    { "CB", "ConvBn", false, true },    { "CR", "ConvReLU", true, true },     { "LB", NULL, true, false },
    { "LB", "LinearBn", false, true },  { "LR", "LinearReLU", true, true },   { "BR", "BNReLU", true, true },
    { "TB", NULL, true, false },
};

/* ---- members ---- */

static char letter_of(const rq_graph *g, const rq_node *n)
{
    return rq_node_is(n, "Conv")                 ? 'C'
           : rq_node_is(n, "ConvTranspose")      ? 'T'
           : rq_node_is(n, "BatchNormalization") ? 'B'
           : rq_node_is(n, "Relu")               ? 'R'
           : rq_node_is(n, "Gemm") || rq_node_is(n, "MatMul")
               ? rq_module_constant(g, rq_node_in(n, 1)) >= 0 ? 'L' : '\0'
               : '\0';
}

static int axes_of(const rq_graph *g, rq_id node)
{
    return rq_module_is(g, node, "Conv1d") || rq_module_is(g, node, "BatchNorm1d") ||
                   rq_module_is(g, node, "ConvTranspose1d")
               ? 1
           : rq_module_is(g, node, "Conv2d") || rq_module_is(g, node, "BatchNorm2d") ||
                   rq_module_is(g, node, "ConvTranspose2d")
               ? 2
           : rq_module_is(g, node, "Conv3d") || rq_module_is(g, node, "BatchNorm3d") ||
                   rq_module_is(g, node, "ConvTranspose3d")
               ? 3
               : 0;
}

static rq_status no_such(const rq_graph *g, const char *name, rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    rq_module *m = NULL;
    int n = 0;
    if (rq_graph_modules(g, &m, &n))
        return rq_fail(err, RQ_NO_MEMORY, "not enough memory to fuse modules");
    rq_nearest near = rq_nearest_to(name);
    for (int i = 0; i < n; i++)
        rq_nearest_try(&near, m[i].name);
    (void)rq_fail(err, RQ_NOT_FOUND, "there is no module '%s' to fuse%s", name, rq_nearest_hint(&near, hint));
    rq_mem_free(m);
    return RQ_NOT_FOUND;
}

static rq_status find(const rq_graph *g, const char *name, member *m, rq_err *err)
{
    int times = 0, nodes = 0;
    rq_id last = RQ_NONE;
    *m = (member) { name, '\0', RQ_NONE, RQ_NONE, 0 };
    for (rq_id i = 0; i < g->n_nodes; i++) {
        char buf[RQ_MODULE_NAME];
        const rq_node *n = &g->nodes[i];
        if (!n->op || strcmp(rq_module_name(g, i, buf, sizeof buf), name) != 0)
            continue;
        nodes++;
        last = i;
        const char letter = letter_of(g, n);
        if (letter) {
            times++;
            *m = (member) { name, letter, i, i, axes_of(g, i) };
        }
    }
    if (!nodes)
        return no_such(g, name, err);
    if (!times)
        return rq_fail(err, RQ_BAD_ARG, "module '%s' is a %s, which fuses with nothing", name, g->nodes[last].op);
    if (times > 1)
        return rq_fail(err, RQ_BAD_GRAPH, "module '%s' is applied %d times, so it cannot be fused with one neighbour",
                       name, times);
    for (rq_id i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && rq_module_biased(g, i) == m->main)
            m->out = i;
    return RQ_OK;
}

/* ---- do they fit? ---- */

static const form *form_of(const member *m, int n, rq_nn_fuse how)
{
    char letters[MOST + 1] = { 0 };
    for (int i = 0; i < n; i++)
        letters[i] = m[i].letter;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (!strcmp(forms[i].letters, letters) && (how == RQ_NN_FUSE_EVAL ? forms[i].eval : forms[i].qat))
            return &forms[i];
    return NULL;
}

static const char *type_of(const rq_graph *g, const member *m)
{
    const char *types[RQ_MODULE_TYPES];
    return rq_module_types(g, m->main, types) ? types[0] : "?";
}

static rq_status check_types(const rq_graph *g, const member *m, int n, rq_nn_fuse how, const form **out, rq_err *err)
{
    const form *f = form_of(m, n, how);
    const bool bn_relu = m[0].letter == 'B' && m[0].axes == 1;
    if (!f || bn_relu)
        return rq_fail(err, RQ_BAD_ARG, "%s%s%s%s%s do not fuse%s", type_of(g, &m[0]), n > 1 ? ", " : "",
                       n > 1 ? type_of(g, &m[1]) : "", n > 2 ? ", " : "", n > 2 ? type_of(g, &m[2]) : "",
                       how == RQ_NN_FUSE_QAT ? " for training" : "");
    if (n > 1 && m[1].letter == 'B') {
        const rq_node *layer = &g->nodes[m[0].main];
        const double alpha = (double)rq_attr_float(layer, RQ_WORD_alpha, 1),
                     beta = (double)rq_attr_float(layer, RQ_WORD_beta, 1);
        if (rq_node_is(layer, "Gemm") && (alpha != 1 || beta != 1))
            return rq_fail(err, RQ_UNSUPPORTED, "'%s' is a Gemm with alpha %g and beta %g, expected 1", m[0].name,
                           alpha, beta);
        const int want = m[0].letter == 'L' ? 1 : m[0].axes;
        if (m[1].axes && want && m[1].axes != want)
            return rq_fail(err, RQ_BAD_ARG, "'%s' (%s) and '%s' (%s) do not fuse: they are of different dimensions",
                           m[0].name, type_of(g, &m[0]), m[1].name, type_of(g, &m[1]));
        for (int i = 1; i < 5; i++) {
            const rq_id c = rq_node_in(&g->nodes[m[1].main], i);
            if (!rq_graph_is_const(g, c) || g->values[c].constant.dtype != RQ_DTYPE_F32)
                return rq_fail(err, RQ_BAD_ARG, "module '%s': its parameters and statistics are no f32 constants",
                               m[1].name);
            if (rq_tensor_count(&g->values[c].constant) !=
                rq_tensor_count(&g->values[g->nodes[m[1].main].in[1]].constant))
                return rq_fail(err, RQ_BAD_SHAPE, "module '%s': its parameters and statistics are of different sizes",
                               m[1].name);
            if (how == RQ_NN_FUSE_QAT && strstr(g->values[c].name, ".no_weight"))
                return rq_fail(err, RQ_BAD_ARG,
                               "module '%s' has neither weight nor bias, which fusing for training wants", m[1].name);
        }
    }
    *out = f;
    return RQ_OK;
}

static rq_status check_flow(const rq_graph *g, const member *m, int n, rq_err *err)
{
    for (int i = 0; i + 1 < n; i++) {
        const rq_id y = rq_node_out(&g->nodes[m[i].out], 0), x = rq_node_in(&g->nodes[m[i + 1].main], 0);
        if (x != y)
            return rq_fail(err, RQ_BAD_GRAPH, "'%s' does not follow '%s': it is applied to '%s'", m[i + 1].name,
                           m[i].name, x >= 0 ? g->values[x].name : "");
        const int uses = rq_graph_uses(g, y, NULL, 0);
        if (uses != 1)
            return rq_fail(err, RQ_BAD_GRAPH,
                           "what '%s' gives to '%s' has %d readers; fused, the others would have none", m[i].name,
                           m[i + 1].name, uses);
    }
    return RQ_OK;
}

/* ---- folding ---- */

/* Weight w [out ...] times factor[c], c the output channel. Of ConvTranspose [in, out / groups, ...], of MatMul [in, out]. */
static void scale_channels(rq_tensor *w, const float *factor, bool transposed, bool last, int64_t channels)
{
    const int64_t rows = w->shape.dim[0], cols = w->shape.dim[1], area = rq_shape_span(&w->shape, 2, w->shape.rank);
    const int64_t group = transposed ? rows / (channels / cols) : 1; /* rows of the weight in a group */
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            const int64_t channel = transposed ? r / group * cols + c : last ? c : r;
            for (int64_t i = 0; i < area; i++)
                w->f32[(r * cols + c) * area + i] *= factor[channel];
        }
}

static rq_status own_constant(rq_graph *g, rq_id id, const char *module, rq_err *err)
{
    rq_tensor t;
    if (rq_graph_uses(g, id, NULL, 0) != 1)
        return rq_fail(err, RQ_BAD_GRAPH, "'%s' of '%s' has other readers, so the batch norm cannot be folded into it",
                       g->values[id].name, module);
    if (g->values[id].constant.dtype != RQ_DTYPE_F32)
        return rq_fail(err, RQ_BAD_DTYPE, "'%s' is %s, expected f32", g->values[id].name,
                       rq_dtype_name(g->values[id].constant.dtype));
    RQ_TRY(rq_tensor_copy(&t, &g->values[id].constant));
    rq_tensor_release(&g->values[id].constant);
    g->values[id].constant = t;
    return RQ_OK;
}

/* A bias of zeros for a layer that has none; *id is its constant. */
static rq_status bias_of(rq_graph *g, const member *m, int64_t channels, rq_id *id, rq_err *err)
{
    rq_node *n = &g->nodes[m->main];
    char name[RQ_MODULE_NAME + 16];
    rq_tensor t;
    if (m->out != m->main) {
        const rq_node *add = &g->nodes[m->out];
        *id = rq_module_constant(g, add->in[0]) >= 0 ? add->in[0] : add->in[1];
        return own_constant(g, *id, m->name, err);
    }
    if (rq_node_in(n, 2) >= 0) {
        *id = n->in[2];
        if (!rq_graph_is_const(g, *id))
            return rq_fail(err, RQ_BAD_GRAPH, "the bias of '%s' is no constant", m->name);
        return own_constant(g, *id, m->name, err);
    }
    const rq_shape s = rq_shape_of(1, &channels);
    snprintf(name, sizeof name, "%s.bias", m->name);
    const char *fresh = rq_graph_fresh_name(g, name);
    RQ_TRY(fresh ? rq_tensor_create(&t, RQ_DTYPE_F32, &s, true) : RQ_NO_MEMORY);
    rq_status st = rq_graph_add_const(g, id, fresh, &t, err);
    rq_tensor_release(&t);
    RQ_TRY(st);
    g->values[*id].trainable = RQ_TRAINABLE_YES;
    if (!rq_node_is(n, "MatMul"))
        return rq_graph_set_input(g, m->main, 2, *id);
    return rq_fail(err, RQ_UNSUPPORTED, "'%s' is a MatMul without a bias to fold a batch norm into", m->name);
}

/* W' = W gamma r, b' = (b - mean) gamma r + beta, r = 1 / sqrt(var + eps) */
static rq_status fold(rq_graph *g, const member *m, const member *bn, rq_err *err)
{
    const rq_node *b = &g->nodes[bn->main];
    const rq_tensor *gamma = &g->values[b->in[1]].constant, *beta = &g->values[b->in[2]].constant,
                    *mean = &g->values[b->in[3]].constant, *var = &g->values[b->in[4]].constant;
    const int64_t channels = rq_tensor_count(gamma);
    const float eps = rq_attr_float(b, RQ_WORD_epsilon, 1e-5f);
    const rq_id w = rq_module_constant(g, g->nodes[m->main].in[1]);
    rq_id bias = RQ_NONE;
    if (w < 0)
        return rq_fail(err, RQ_BAD_GRAPH, "the weight of '%s' is no constant", m->name);
    RQ_TRY(own_constant(g, w, m->name, err));
    rq_tensor *weight = &g->values[w].constant;
    const rq_node *n = &g->nodes[m->main];
    const bool turned = rq_node_is(n, "Gemm") ? !rq_attr_int(n, RQ_WORD_transB, 0)
                                              : rq_node_is(n, "MatMul") && n->in[1] == w,
               transposed = rq_node_is(n, "ConvTranspose");
    const int64_t have = weight->shape.rank < 2 ? 0
                         : transposed           ? weight->shape.dim[1] * rq_attr_int(n, RQ_WORD_group, 1)
                         : turned               ? weight->shape.dim[1]
                                                : weight->shape.dim[0];
    if (have != channels || channels < 1)
        return rq_fail(err, RQ_BAD_SHAPE, "'%s' has %lld output channels, '%s' %lld", m->name, (long long)have,
                       bn->name, (long long)channels);
    RQ_TRY(bias_of(g, m, channels, &bias, err));
    if (rq_tensor_count(&g->values[bias].constant) != channels)
        return rq_fail(err, RQ_BAD_SHAPE, "the bias of '%s' has %lld elements, '%s' %lld channels", m->name,
                       (long long)rq_tensor_count(&g->values[bias].constant), bn->name, (long long)channels);
    float *factor = rq_mem_alloc((size_t)channels, sizeof *factor), *x = g->values[bias].constant.f32;
    if (!factor)
        return RQ_NO_MEMORY;
    for (int64_t c = 0; c < channels; c++) {
        const float r = 1 / sqrtf(var->f32[c] + eps);
        factor[c] = gamma->f32[c] * r;
        x[c] = (x[c] - mean->f32[c]) * r * gamma->f32[c] + beta->f32[c];
    }
    scale_channels(&g->values[w].constant, factor, transposed, turned, channels);
    rq_mem_free(factor);
    return RQ_OK;
}

/* ---- moving ---- */

static rq_status rename_node(rq_graph *g, rq_id node, const char *path, const char *last)
{
    char name[RQ_MODULE_NAME + 40];
    int n = snprintf(name, sizeof name, "/%s", path);
    for (int i = 1; i < n && i < (int)sizeof name; i++)
        if (name[i] == '.')
            name[i] = '/';
    snprintf(name + n, sizeof name - (size_t)n, "/%s", last);
    const char *kept = rq_graph_str(g, name);
    if (!kept)
        return RQ_NO_MEMORY;
    g->nodes[node].name = kept;
    return RQ_OK;
}

/* The batch norm becomes child "bn" of the first. */
static rq_status adopt(rq_graph *g, const char *first, const member *bn, rq_err *err)
{
    char path[RQ_MODULE_NAME], name[RQ_MODULE_NAME + 32];
    snprintf(path, sizeof path, "%.480s.bn", first);
    RQ_TRY(rename_node(g, bn->main, path, "BatchNormalization"));
    for (int i = 1; i < 5; i++) {
        const rq_id c = g->nodes[bn->main].in[i];
        const char *dot = strrchr(g->values[c].name, '.');
        snprintf(name, sizeof name, "%s.%s", path, dot ? dot + 1 : g->values[c].name);
        RQ_TRY(rq_graph_rename(g, c, name, err));
    }
    return RQ_OK;
}

static rq_status fuse(rq_graph *g, rq_nn_fuse how, const char *const *names, int n, rq_err *err)
{
    member m[MOST];
    const form *f = NULL;
    char key[RQ_MODULE_NAME + 32], type[48];
    if (n < 2 || n > MOST)
        return rq_fail(err, RQ_BAD_ARG, "%d modules to fuse, expected 2 or 3", n);
    for (int i = 0; i < n; i++)
        RQ_TRY(find(g, names[i], &m[i], err));
    RQ_TRY(check_types(g, m, n, how, &f, err));
    RQ_TRY(check_flow(g, m, n, err));
    const bool norm = m[1].letter == 'B';
    const int axes = m[0].letter == 'L' && norm ? 1 : m[0].axes;
    if (norm && how == RQ_NN_FUSE_EVAL) {
        RQ_TRY(fold(g, &m[0], &m[1], err));
        rq_graph_replace_uses(g, g->nodes[m[1].main].out[0], g->nodes[m[0].out].out[0], RQ_NONE);
        rq_graph_remove_node(g, m[1].main);
    } else if (norm)
        RQ_TRY(adopt(g, m[0].name, &m[1], err));
    if (m[n - 1].letter == 'R')
        RQ_TRY(rename_node(g, m[n - 1].main, m[0].name, "Relu"));
    if (!f->type)
        return RQ_OK;
    snprintf(key, sizeof key, "requant.fused.%s", m[0].name);
    snprintf(type, sizeof type, axes && f->letters[0] != 'L' ? "%s%dd" : norm ? "%s1d" : "%s", f->type, axes);
    return rq_graph_set_meta(g, key, type);
}

/* ---- lists, patterns, all ---- */

/* What * stands for in name by this pattern: *text and its length; false: it does not fit. */
static bool star_of(const char *pattern, const char *name, const char **text, size_t *n)
{
    const char *star = strchr(pattern, '*');
    const size_t head = (size_t)(star - pattern), tail = strlen(star + 1), len = strlen(name);
    if (len < head + tail || strncmp(pattern, name, head) != 0 || strcmp(name + len - tail, star + 1) != 0)
        return false;
    *text = name + head;
    *n = len - head - tail;
    return true;
}

static bool is_module(const rq_module *m, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(m[i].name, name))
            return true;
    return false;
}

static rq_status fuse_pattern(rq_graph *g, rq_nn_fuse how, const char *const *names, int n, rq_err *err)
{
    rq_module *m = NULL;
    int count = 0, done = 0;
    rq_status s = rq_graph_modules(g, &m, &count);
    for (int i = 0; !s && i < count; i++) {
        char made[MOST][RQ_MODULE_NAME];
        const char *list[MOST], *text = NULL;
        size_t len = 0;
        bool all = star_of(names[0], m[i].name, &text, &len);
        for (int k = 0; all && k < n; k++) {
            const char *star = strchr(names[k], '*');
            snprintf(made[k], sizeof made[k], "%.*s%.*s%s", star ? (int)(star - names[k]) : (int)strlen(names[k]),
                     names[k], star ? (int)len : 0, text, star ? star + 1 : "");
            list[k] = made[k];
            all = is_module(m, count, made[k]);
        }
        if (!all)
            continue;
        done++;
        s = fuse(g, how, list, n, err);
    }
    rq_mem_free(m);
    return s || done ? s : rq_fail(err, RQ_NOT_FOUND, "no modules fit the pattern '%s'", names[0]);
}

/* On a copy, which then takes g's place. */
static rq_status on_copy(rq_graph *g, rq_status (*run)(rq_graph *g, void *arg, rq_err *err), void *arg, rq_err *err)
{
    rq_graph *copy = NULL;
    if (err)
        err->text[0] = '\0';
    rq_status s = rq_graph_copy(&copy, g);
    if (!s)
        s = run(copy, arg, err);
    if (!s)
        rq_graph_prune(copy);
    if (s == RQ_NO_MEMORY)
        (void)rq_fail(err, s, "not enough memory to fuse modules");
    if (!s)
        rq_graph_swap(g, copy);
    rq_graph_destroy(copy);
    return s;
}

typedef struct job {
    rq_nn_fuse how;
    const char *const *names;
    int n, fused;
} job;

static rq_status run_list(rq_graph *g, void *arg, rq_err *err)
{
    const job *j = arg;
    const bool pattern = j->n > 0 && strchr(j->names[0], '*');
    if (j->n < 2 || j->n > MOST)
        return rq_fail(err, RQ_BAD_ARG, "%d modules to fuse, expected 2 or 3", j->n);
    return pattern ? fuse_pattern(g, j->how, j->names, j->n, err) : fuse(g, j->how, j->names, j->n, err);
}

rq_status rq_nn_fuse_modules(rq_graph *g, rq_nn_fuse how, const char *const *names, int n, rq_err *err)
{
    job j = { how, names, n, 0 };
    return on_copy(g, run_list, &j, err);
}

/* The node behind a node, if it is the only one. */
static rq_id behind(const rq_graph *g, rq_id node)
{
    rq_id user[1];
    const rq_id y = rq_node_out(&g->nodes[node], 0);
    return y >= 0 && rq_graph_uses(g, y, user, 1) == 1 && !rq_graph_is_output(g, y) ? user[0] : RQ_NONE;
}

/* The longest list that begins at node and fuses. */
static rq_status fuse_from(rq_graph *g, job *j, rq_id node)
{
    char name[MOST][RQ_MODULE_NAME];
    const char *names[MOST];
    int n = 0;
    for (rq_id at = node; at >= 0 && n < MOST; at = behind(g, at)) {
        if (rq_module_biased(g, at) >= 0) /* of the member before */
            continue;
        const char letter = letter_of(g, &g->nodes[at]);
        if (!letter || (n && letter != 'B' && letter != 'R'))
            break;
        names[n] = rq_module_name(g, at, name[n], sizeof name[n]);
        if (!names[n][0] || (n && !strcmp(names[n], names[n - 1])))
            break;
        n++;
    }
    for (; n >= 2; n--) {
        const rq_status s = fuse(g, j->how, names, n, NULL);
        if (!s || s == RQ_NO_MEMORY) {
            j->fused += !s;
            return s;
        }
    }
    return RQ_OK;
}

static rq_status run_all(rq_graph *g, void *arg, rq_err *err)
{
    (void)err;
    for (rq_id i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && letter_of(g, &g->nodes[i]) && letter_of(g, &g->nodes[i]) != 'R')
            RQ_TRY(fuse_from(g, arg, i));
    return RQ_OK;
}

rq_status rq_nn_fuse_all(rq_graph *g, rq_nn_fuse how, int *n_fused, rq_err *err)
{
    job j = { how, NULL, 0, 0 };
    RQ_TRY(on_copy(g, run_all, &j, err));
    if (n_fused)
        *n_fused = j.fused;
    return RQ_OK;
}
