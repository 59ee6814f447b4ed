/* algo/linear_quantizer_config_match.c — the rules of a config against a model: whether each fits something, and which one a layer answers to
 * (docs/coreml-facts.md 1). */
#include <stdio.h>
#include <string.h>

#include "algo/linear_quantizer.h"
#include "algo/linear_quantizer_config.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "graph/modules.h"
#include "ops/op.h"
#include "quant/qconfig_regex.h"
#include "requant/ptq.h"

/* ---- types ---- */

/* Modules of torch.nn that no operator here stands for, or only under another name: a rule for them is understood. */
static const char *const others[] = {
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool3d",
    "AdaptiveLogSoftmaxWithLoss",
    "AdaptiveMaxPool1d",
    "AlphaDropout",
    "Bilinear",
    "ChannelShuffle",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "CosineSimilarity",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "EmbeddingBag",
    "FeatureAlphaDropout",
    "Fold",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "GLU",
    "GRUCell",
    "Hardshrink",
    "LPPool1d",
    "LPPool2d",
    "LSTMCell",
    "LocalResponseNorm",
    "LogSigmoid",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "PixelShuffle",
    "PixelUnshuffle",
    "RNNCell",
    "RReLU",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "Sequential",
    "Softmax2d",
    "Softmin",
    "Softshrink",
    "SyncBatchNorm",
    "Tanhshrink",
    "Threshold",
    "Transformer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "Unflatten",
    "Unfold",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
    "ZeroPad2d",
    "einsum",
    "stack",
    "baddbmm",
    "softmin",
    "threshold",
    "relu_",
    "hardtanh_",
};

static const char *last_name(const char *type)
{
    const char *dot = strrchr(type, '.');
    return dot ? dot + 1 : type;
}

bool rq_lq_type_is_known(const char *type)
{
    const char *word = last_name(type), *t;
    bool is_first;
    for (int i = 0; (t = rq_module_type_at(i, &is_first)); i++)
        if (!strcmp(t, word))
            return true;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (!strcmp(others[i], word))
            return true;
    return rq_op_name_exists(word);
}

/* Was the i-th name there before? */
static bool is_repeated(int i, const char *name)
{
    bool is_first;
    for (int k = 0; k < i; k++)
        if (!strcmp(rq_module_type_at(k, &is_first), name))
            return true;
    return false;
}

rq_status rq_lq_type_unknown(const char *type, rq_err *err)
{
    char hint[RQ_NEAREST_HINT], list[180];
    size_t used = 0;
    bool is_first;
    const char *t;
    rq_nearest near = rq_nearest_to(last_name(type));
    for (int i = 0; (t = rq_module_type_at(i, &is_first)); i++) {
        rq_nearest_try(&near, t);
        if (is_first && t[0] < 'a' && used + strlen(t) + 3 <= sizeof list && !is_repeated(i, t)) /* modules */
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", t);
    }
    return rq_fail(err, RQ_BAD_ARG, "module_type_configs: no module or function is a '%.60s'%s; there are %s ...", type,
                   rq_nearest_hint(&near, hint), list);
}

/* ---- names ---- */

rq_status rq_lq_rule_compile(rq_lq_rule *r)
{
    regex_t beginning;
    if (!strpbrk(r->key, "*+?[](){}|^$\\."))
        return RQ_OK; /* matches itself */
    const rq_status s = rq_qconfig_regex_compile(&r->whole, &beginning, r->key, NULL);
    if (s == RQ_NO_MEMORY)
        return s;
    r->is_pattern = s == RQ_OK; /* else it may still be a name */
    if (r->is_pattern)
        regfree(&beginning);
    return RQ_OK;
}

/* The rule for this name; NULL: none. */
static const rq_lq_rule *rule_of(const rq_linear_quantizer_config *c, const char *name)
{
    for (int i = 0; i < c->names.n; i++)
        if (!strcmp(c->names.at[i].key, name))
            return &c->names.at[i];
    for (int i = 0; i < c->names.n && !c->compat; i++)
        if (c->names.at[i].is_pattern && regexec(&c->names.at[i].whole, name, 0, NULL, 0) == 0)
            return &c->names.at[i];
    return NULL;
}

/* Cut the last part off: "a.b" of "a.b.c"; false: nothing is around it. */
static bool to_parent(char *name)
{
    char *dot = strrchr(name, '.');
    if (!dot)
        return false;
    *dot = 0;
    return true;
}

/* The rule that decides for a layer; NULL and RQ_LQ_GLOBAL: none of a type or name does. */
static const rq_lq_rule *decide(const rq_linear_quantizer_config *c, const char *module, const char *const *types,
                                int n, rq_lq_level *level)
{
    char name[RQ_MODULE_NAME];
    const rq_lq_rule *r = module && !(c->compat && !module[0]) ? rule_of(c, module) : NULL;
    *level = RQ_LQ_NAME;
    if (r)
        return r;
    *level = RQ_LQ_ANCESTOR;
    snprintf(name, sizeof name, "%s", module ? module : "");
    while (to_parent(name))
        if ((r = rule_of(c, name)))
            return r;
    *level = RQ_LQ_TYPE;
    for (int t = 0; t < n; t++)
        for (int i = 0; i < c->types.n; i++)
            if (!strcmp(last_name(c->types.at[i].key), types[t]))
                return &c->types.at[i];
    *level = RQ_LQ_GLOBAL;
    return NULL;
}

const rq_module_linear_quantizer_config *rq_linear_quantizer_config_find(const rq_linear_quantizer_config *c,
                                                                         const char *module, const char *const *types,
                                                                         int n, rq_lq_level *level)
{
    rq_lq_level which;
    const rq_lq_rule *r = decide(c, module, types, n, &which);
    if (level)
        *level = which;
    if (r)
        return r->skip ? NULL : &r->m;
    return c->has_global ? &c->global : c->skip_by_default ? NULL : &c->usual;
}

int rq_linear_quantizer_config_rules(const rq_linear_quantizer_config *c)
{
    return c->types.n + c->names.n;
}

int rq_linear_quantizer_config_deciding(const rq_linear_quantizer_config *c, const char *module,
                                        const char *const *types, int n, bool *skip)
{
    rq_lq_level level;
    const rq_lq_rule *r = decide(c, module, types, n, &level);
    *skip = r && r->skip;
    if (!r)
        return -1;
    return (int)(level == RQ_LQ_TYPE ? r - c->types.at : c->types.n + (r - c->names.at));
}

rq_status rq_linear_quantizer_config_idle(const rq_linear_quantizer_config *c, const bool *decides, rq_notes *notes)
{
    for (int i = 0; i < c->types.n + c->names.n; i++) {
        const bool type = i < c->types.n;
        const rq_lq_rule *r = type ? &c->types.at[i] : &c->names.at[i - c->types.n];
        if (!decides[i] && !r->fits_nothing)
            RQ_TRY(rq_notes_add(notes,
                                "module_%s_configs: '%.120s' decides nothing: what it fits is part of layers that "
                                "other rules decide, or is not quantized",
                                type ? "type" : "name", r->key));
    }
    return RQ_OK;
}

const rq_module_linear_quantizer_config *rq_linear_quantizer_config_lookup(const rq_linear_quantizer_config *c,
                                                                           const char *module, const char *const *types,
                                                                           int n)
{
    return rq_linear_quantizer_config_find(c, module, types, n, NULL);
}

bool rq_linear_quantizer_config_is_opaque(const rq_linear_quantizer_config *c, const char *module)
{
    for (int i = 0; i < c->non_traceable.n; i++) {
        const char *name = c->non_traceable.at[i];
        const size_t length = strlen(name);
        if (!strncmp(module, name, length) && (!module[length] || module[length] == '.'))
            return true;
    }
    return false;
}

/* ---- against a graph ---- */

typedef struct match {
    rq_linear_quantizer_config *c;
    const rq_graph *g;
    const rq_module *module;
    int n;
    rq_notes *notes;
    rq_err *err;
} match;

/* Is `name`, or a name around it, the key, or what the pattern matches? */
static bool fits(const rq_lq_rule *r, const char *name, bool pattern)
{
    char path[RQ_MODULE_NAME];
    snprintf(path, sizeof path, "%s", name);
    do
        if (pattern ? regexec(&r->whole, path, 0, NULL, 0) == 0 : !strcmp(path, r->key))
            return true;
    while (to_parent(path));
    return false;
}

static void try_names(rq_nearest *near, const match *m)
{
    for (int i = 0; i < m->n; i++)
        if (m->module[i].name[0])
            rq_nearest_try(near, m->module[i].name);
}

/* Where no name is near: some that there are, types or names. */
static void some(const match *m, bool types, char *buf, size_t n)
{
    size_t used = 0;
    for (int i = 0; i < m->n; i++) {
        const char *word = types ? m->module[i].type : m->module[i].name;
        bool before = !word[0];
        for (int k = 0; k < i && !before; k++)
            before = !strcmp(types ? m->module[k].type : m->module[k].name, word);
        if (before)
            continue;
        if (used + strlen(word) + 8 > n) {
            snprintf(buf + used, n - used, " ...");
            return;
        }
        used += (size_t)snprintf(buf + used, n - used, "%s%s", used ? ", " : "; there are ", word);
    }
}

/* An error, or with compat a note. */
static rq_status unmatched(const match *m, const char *level, const char *key, const rq_nearest *near, bool types)
{
    char hint[RQ_NEAREST_HINT] = "";
    if (near->best)
        rq_nearest_hint(near, hint);
    else
        some(m, types, hint, sizeof hint);
    if (m->c->compat)
        return rq_notes_add(m->notes, "%s: '%.120s' matches none of the %d modules%s; it has no effect", level, key,
                            m->n, hint);
    return rq_fail(m->err, RQ_NOT_FOUND, "%s: '%.120s' matches none of the %d modules%s", level, key, m->n, hint);
}

static rq_status match_name(const match *m, rq_lq_rule *r)
{
    bool exact = false, pattern = false;
    for (int i = 0; i < m->n && !exact; i++) {
        exact = fits(r, m->module[i].name, false);
        pattern |= r->is_pattern && fits(r, m->module[i].name, true);
    }
    if (exact && r->is_pattern) { /* a module's name stands for that module alone: its dots are dots */
        regfree(&r->whole);
        r->is_pattern = false;
    }
    if (exact || (pattern && !m->c->compat))
        return RQ_OK;
    if (!r->is_pattern && strpbrk(r->key, "*+?[](){}|^$\\") && !m->c->compat) {
        regex_t whole, beginning;
        const rq_status s = rq_qconfig_regex_compile(&whole, &beginning, r->key, m->err);
        if (s != RQ_OK)
            return rq_fail_in(m->err, s, "module_name_configs");
        regfree(&whole);
        regfree(&beginning);
    }
    rq_nearest near = rq_nearest_to(r->key);
    try_names(&near, m);
    r->fits_nothing = true;
    return unmatched(m, "module_name_configs", r->key, &near, false);
}

static rq_status match_type(const match *m, rq_lq_rule *r)
{
    rq_nearest near = rq_nearest_to(last_name(r->key));
    for (rq_id i = 0; i < m->g->n_nodes; i++)
        if (m->g->nodes[i].op && rq_module_is(m->g, i, r->key))
            return RQ_OK;
    for (int i = 0; i < m->n; i++)
        rq_nearest_try(&near, m->module[i].type);
    r->fits_nothing = true;
    return unmatched(m, "module_type_configs", r->key, &near, true);
}

static rq_status match_opaque(const match *m, const char *key)
{
    const rq_lq_rule r = { .key = (char *)key };
    for (int i = 0; i < m->n; i++)
        if (fits(&r, m->module[i].name, false))
            return RQ_OK;
    rq_nearest near = rq_nearest_to(key);
    try_names(&near, m);
    return unmatched(m, "non_traceable_module_names", key, &near, false);
}

rq_status rq_linear_quantizer_config_match(rq_linear_quantizer_config *c, const rq_graph *g, struct rq_notes *notes,
                                           rq_err *err)
{
    rq_module *modules = NULL;
    match m = { .c = c, .g = g, .notes = notes, .err = err };
    RQ_TRY(rq_linear_quantizer_config_check(c, err));
    if (rq_graph_modules(g, &modules, &m.n) != RQ_OK)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    m.module = modules;
    rq_status s = RQ_OK;
    for (int i = 0; i < c->types.n && s == RQ_OK; i++)
        s = match_type(&m, &c->types.at[i]);
    for (int i = 0; i < c->names.n && s == RQ_OK; i++)
        s = match_name(&m, &c->names.at[i]);
    for (int i = 0; i < c->non_traceable.n && s == RQ_OK; i++)
        s = match_opaque(&m, c->non_traceable.at[i]);
    rq_free(modules);
    return s;
}
