/* algo/linear_quantizer_config.c — LinearQuantizerConfig: rules in the order they were set, and one check that every way of setting them ends in
 * (docs/coreml-facts.md 1). Text: linear_quantizer_config_text.c, back: _write.c; against a graph: _match.c. */
#include "algo/linear_quantizer_config.h"

#include <stdio.h>
#include <string.h>

#include "algo/linear_quantizer.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/quote.h"
#include "requant/ptq.h"

rq_module_linear_quantizer_config rq_module_linear_quantizer_defaults(void)
{
    return (rq_module_linear_quantizer_config) {
        .weight_dtype = RQ_DTYPE_S8,
        .weight_n_bits = 8,
        .weight_observer = RQ_OBSERVER_MOVING_AVERAGE,
        .weight_per_channel = true,
        .activation_dtype = RQ_DTYPE_U8,
        .activation_n_bits = 8,
        .activation_observer = RQ_OBSERVER_MOVING_AVERAGE,
        .quantization_scheme = RQ_QSCHEME_PER_TENSOR_SYMMETRIC,
    };
}

bool rq_module_linear_quantizer_equal(const rq_module_linear_quantizer_config *a,
                                      const rq_module_linear_quantizer_config *b)
{
    return a->learnable == b->learnable && a->weight_dtype == b->weight_dtype &&
           (a->weight_dtype == RQ_DTYPE_F32 || a->weight_n_bits == b->weight_n_bits) &&
           a->weight_observer == b->weight_observer && a->weight_per_channel == b->weight_per_channel &&
           a->activation_dtype == b->activation_dtype &&
           (a->activation_dtype == RQ_DTYPE_F32 || a->activation_n_bits == b->activation_n_bits) &&
           a->activation_observer == b->activation_observer && a->quantization_scheme == b->quantization_scheme &&
           a->has_milestones == b->has_milestones &&
           (!a->has_milestones || !memcmp(a->milestones, b->milestones, sizeof a->milestones));
}

/* ---- life ---- */

rq_status rq_linear_quantizer_config_create(rq_linear_quantizer_config **out)
{
    rq_linear_quantizer_config *c = rq_mem_zalloc(1, sizeof *c);
    if (!c)
        return RQ_NO_MEMORY;
    c->usual = rq_module_linear_quantizer_defaults();
    *out = c;
    return RQ_OK;
}

static void release_rule(rq_lq_rule *r)
{
    if (r->is_pattern)
        regfree(&r->whole);
    rq_mem_free(r->key);
}

static void release_rules(rq_lq_rules *r)
{
    for (int i = 0; i < r->n; i++)
        release_rule(&r->at[i]);
    rq_mem_free(r->at);
}

static void release_strings(rq_lq_strings *s)
{
    for (int i = 0; i < s->n; i++)
        rq_mem_free(s->at[i]);
    rq_mem_free(s->at);
}

void rq_linear_quantizer_config_destroy(rq_linear_quantizer_config *c)
{
    if (!c)
        return;
    release_rules(&c->types);
    release_rules(&c->names);
    release_strings(&c->non_traceable);
    release_strings(&c->preserved);
    rq_mem_free(c);
}

static rq_status add_string(rq_lq_strings *s, const char *text)
{
    if (!rq_mem_grow(&s->at, s->n, &s->cap, sizeof *s->at))
        return RQ_NO_MEMORY;
    if (!(s->at[s->n] = rq_mem_strdup(text)))
        return RQ_NO_MEMORY;
    s->n++;
    return RQ_OK;
}

static rq_status add_rule(rq_lq_rules *r, const char *key, bool skip, bool name,
                          const rq_module_linear_quantizer_config *m)
{
    if (!rq_mem_grow(&r->at, r->n, &r->cap, sizeof *r->at))
        return RQ_NO_MEMORY;
    rq_lq_rule *rule = &r->at[r->n];
    *rule = (rq_lq_rule) { .key = rq_mem_strdup(key), .skip = skip, .m = *m };
    if (!rule->key)
        return RQ_NO_MEMORY;
    const rq_status s = name ? rq_lq_rule_compile(rule) : RQ_OK;
    if (s != RQ_OK) {
        rq_mem_free(rule->key);
        return s;
    }
    r->n++;
    return RQ_OK;
}

rq_status rq_linear_quantizer_config_copy(rq_linear_quantizer_config **out, const rq_linear_quantizer_config *c)
{
    rq_linear_quantizer_config *to;
    RQ_TRY(rq_linear_quantizer_config_create(&to));
    rq_status s = RQ_OK;
    to->has_global = c->has_global;
    to->global = c->global;
    to->compat = c->compat;
    to->skip_by_default = c->skip_by_default;
    to->usual = c->usual;
    for (int i = 0; i < c->types.n && s == RQ_OK; i++)
        s = add_rule(&to->types, c->types.at[i].key, c->types.at[i].skip, false, &c->types.at[i].m);
    for (int i = 0; i < c->names.n && s == RQ_OK; i++)
        s = add_rule(&to->names, c->names.at[i].key, c->names.at[i].skip, true, &c->names.at[i].m);
    for (int i = 0; i < c->non_traceable.n && s == RQ_OK; i++)
        s = add_string(&to->non_traceable, c->non_traceable.at[i]);
    for (int i = 0; i < c->preserved.n && s == RQ_OK; i++)
        s = add_string(&to->preserved, c->preserved.at[i]);
    if (s != RQ_OK) {
        rq_linear_quantizer_config_destroy(to);
        return s;
    }
    *out = to;
    return RQ_OK;
}

static bool rules_equal(const rq_lq_rules *a, const rq_lq_rules *b)
{
    if (a->n != b->n)
        return false;
    for (int i = 0; i < a->n; i++)
        if (strcmp(a->at[i].key, b->at[i].key) != 0 || a->at[i].skip != b->at[i].skip ||
            (!a->at[i].skip && !rq_module_linear_quantizer_equal(&a->at[i].m, &b->at[i].m)))
            return false;
    return true;
}

static bool strings_equal(const rq_lq_strings *a, const rq_lq_strings *b)
{
    if (a->n != b->n)
        return false;
    for (int i = 0; i < a->n; i++)
        if (strcmp(a->at[i], b->at[i]) != 0)
            return false;
    return true;
}

/* No rule at all means the default for everything. */
static bool is_empty(const rq_linear_quantizer_config *c)
{
    return !c->has_global && !c->types.n && !c->names.n;
}

bool rq_linear_quantizer_config_global(const rq_linear_quantizer_config *c, rq_module_linear_quantizer_config *out)
{
    if (!c->has_global && !is_empty(c))
        return false;
    *out = c->has_global ? c->global : rq_module_linear_quantizer_defaults();
    return true;
}

bool rq_linear_quantizer_config_equal(const rq_linear_quantizer_config *a, const rq_linear_quantizer_config *b)
{
    rq_module_linear_quantizer_config ga, gb;
    const bool has_a = rq_linear_quantizer_config_global(a, &ga), has_b = rq_linear_quantizer_config_global(b, &gb);
    return has_a == has_b && (!has_a || rq_module_linear_quantizer_equal(&ga, &gb)) && a->compat == b->compat &&
           a->skip_by_default == b->skip_by_default && rules_equal(&a->types, &b->types) &&
           rules_equal(&a->names, &b->names) && strings_equal(&a->non_traceable, &b->non_traceable) &&
           strings_equal(&a->preserved, &b->preserved);
}

static const rq_module_linear_quantizer_config *first(const rq_lq_rules *r)
{
    for (int i = 0; i < r->n; i++)
        if (!r->at[i].skip)
            return &r->at[i].m;
    return NULL;
}

/* Where milestones and scheme come from; NULL: no config says anything. */
static const rq_module_linear_quantizer_config *source(const rq_linear_quantizer_config *c)
{
    const rq_module_linear_quantizer_config *m = c->has_global ? &c->global : first(&c->types);
    return m ? m : first(&c->names);
}

const rq_module_linear_quantizer_config *rq_linear_quantizer_config_common(const rq_linear_quantizer_config *c)
{
    const rq_module_linear_quantizer_config *m = source(c);
    return m ? m : &c->usual;
}

rq_module_linear_quantizer_config rq_linear_quantizer_config_effective(const rq_linear_quantizer_config *c)
{
    return *rq_linear_quantizer_config_common(c);
}

bool rq_linear_quantizer_config_is_compat(const rq_linear_quantizer_config *c)
{
    return c->compat;
}

/* The rules changed. */
static void settle(rq_linear_quantizer_config *c)
{
    const rq_module_linear_quantizer_config *m = source(c);
    c->usual = rq_module_linear_quantizer_defaults();
    if (m) {
        c->usual.quantization_scheme = m->quantization_scheme;
        c->usual.learnable = m->learnable;
    }
}

static int rule_at(const rq_lq_rules *r, int i, const char **key, bool *skip, rq_module_linear_quantizer_config *m)
{
    if (i < 0 || i >= r->n)
        return r->n;
    if (key)
        *key = r->at[i].key;
    if (skip)
        *skip = r->at[i].skip;
    if (m)
        *m = r->at[i].m;
    return r->n;
}

int rq_linear_quantizer_config_module_type(const rq_linear_quantizer_config *c, int i, const char **key, bool *skip,
                                           rq_module_linear_quantizer_config *m)
{
    return rule_at(&c->types, i, key, skip, m);
}

int rq_linear_quantizer_config_module_name(const rq_linear_quantizer_config *c, int i, const char **key, bool *skip,
                                           rq_module_linear_quantizer_config *m)
{
    return rule_at(&c->names, i, key, skip, m);
}

/* ---- checks ---- */

static bool is_observer(rq_observer_kind k)
{
    return k == RQ_OBSERVER_MINMAX || k == RQ_OBSERVER_MOVING_AVERAGE || k == RQ_OBSERVER_EMA ||
           (k >= RQ_OBSERVER_EMA_PERCENTILE && k <= RQ_OBSERVER_LSQ_PLUS);
}

static rq_status check_module(const rq_module_linear_quantizer_config *m, const char *where, rq_err *err)
{
    if (m->weight_dtype != RQ_DTYPE_S8 && m->weight_dtype != RQ_DTYPE_U8 && m->weight_dtype != RQ_DTYPE_F32)
        return rq_fail(err, RQ_BAD_ARG, "%s: weight_dtype is %s, expected qint8 or quint8, or float32", where,
                       rq_dtype_name(m->weight_dtype));
    if (m->weight_dtype != RQ_DTYPE_F32 && (m->weight_n_bits < 2 || m->weight_n_bits > 8))
        return rq_fail(err, RQ_BAD_ARG, "%s: %d bits for weights, expected 2 to 8", where, m->weight_n_bits);
    if (m->activation_dtype != RQ_DTYPE_U8 && m->activation_dtype != RQ_DTYPE_F32)
        return rq_fail(err, RQ_BAD_ARG, "%s: activation_dtype is %s, expected quint8 or float32", where,
                       rq_dtype_name(m->activation_dtype));
    if (m->activation_dtype != RQ_DTYPE_F32 && (m->activation_n_bits < 2 || m->activation_n_bits > 8))
        return rq_fail(err, RQ_BAD_ARG, "%s: %d bits for activations, expected 2 to 8", where, m->activation_n_bits);
    if (!is_observer(m->weight_observer) || !is_observer(m->activation_observer))
        return rq_fail(
            err, RQ_BAD_ARG, "%s: %s is '%s', expected moving_average_min_max, min_max or ema_min_max", where,
            is_observer(m->weight_observer) ? "activation_observer" : "weight_observer",
            rq_observer_kind_name(is_observer(m->weight_observer) ? m->activation_observer : m->weight_observer));
    if (m->quantization_scheme != RQ_QSCHEME_PER_TENSOR_SYMMETRIC &&
        m->quantization_scheme != RQ_QSCHEME_PER_TENSOR_AFFINE)
        return rq_fail(err, RQ_BAD_ARG, "%s: quantization_scheme is '%s', expected symmetric or affine", where,
                       rq_qscheme_name(m->quantization_scheme));
    return RQ_OK;
}

static const char *scheme_word(const rq_module_linear_quantizer_config *m)
{
    return rq_qscheme_is_symmetric(m->quantization_scheme) ? "symmetric" : "affine";
}

static const char *algorithm_word(bool learnable)
{
    return learnable ? "learnable" : "vanilla";
}

/* Does config m of rule `key` agree with the source? */
static rq_status agrees(const rq_linear_quantizer_config *c, const char *level, const char *key,
                        const rq_module_linear_quantizer_config *m, rq_err *err)
{
    const rq_module_linear_quantizer_config *from = source(c);
    if (m->quantization_scheme != from->quantization_scheme)
        return rq_fail(err, RQ_BAD_ARG,
                       "%s.%.100s: quantization_scheme is %s, expected %s: it is one for all configs of a model", level,
                       key, scheme_word(m), scheme_word(from));
    const bool learnable = c->compat && !c->has_global ? false : from->learnable;
    if (m->learnable != learnable)
        return rq_fail(err, RQ_BAD_ARG, "%s.%.100s: algorithm is %s, expected %s: it is one for all configs of a model",
                       level, key, algorithm_word(m->learnable), algorithm_word(learnable));
    if (!c->compat && m->has_milestones &&
        (!from->has_milestones || memcmp(m->milestones, from->milestones, sizeof m->milestones) != 0))
        return rq_fail(err, RQ_BAD_ARG,
                       "%s.%.100s: milestones are one list for a model, that of %s: give them there, or the same here",
                       level, key, c->has_global ? "global_config" : "the first config");
    return RQ_OK;
}

rq_status rq_linear_quantizer_config_check(const rq_linear_quantizer_config *c, rq_err *err)
{
    for (int i = 0; i < c->types.n; i++)
        if (!c->types.at[i].skip)
            RQ_TRY(agrees(c, "module_type_configs", c->types.at[i].key, &c->types.at[i].m, err));
    for (int i = 0; i < c->names.n; i++)
        if (!c->names.at[i].skip)
            RQ_TRY(agrees(c, "module_name_configs", c->names.at[i].key, &c->names.at[i].m, err));
    return RQ_OK;
}

/* ---- setting ---- */

rq_status rq_linear_quantizer_config_set_global(rq_linear_quantizer_config *c,
                                                const rq_module_linear_quantizer_config *m, rq_err *err)
{
    if (m)
        RQ_TRY(check_module(m, "global_config", err));
    const bool had = c->has_global;
    const rq_module_linear_quantizer_config before = c->global;
    c->has_global = m != NULL;
    if (m)
        c->global = *m;
    const rq_status s = rq_linear_quantizer_config_check(c, err);
    if (s != RQ_OK) {
        c->has_global = had;
        c->global = before;
    }
    settle(c);
    return s;
}

/* What is set can be written and read again: a key and its quotes end within 1024 characters (YAML 1.2, 7.4). */
static rq_status check_key(const char *level, const char *key, rq_err *err)
{
    enum { LONGEST = 1000 };
    rq_buf b = { 0 };
    const bool utf8 = rq_quote(&b, key), memory = !b.failed;
    const size_t n = b.size;
    rq_buf_release(&b);
    if (!memory)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    if (n > LONGEST)
        return rq_fail(err, RQ_BAD_ARG, "%s: '%.40s...' takes %zu characters as a key of YAML, which has at most %d",
                       level, key, n, LONGEST);
    return utf8 ? RQ_OK : rq_fail(err, RQ_BAD_ARG, "%s: a key that is not UTF-8", level);
}

static rq_status set(rq_linear_quantizer_config *c, rq_lq_rules *r, const char *level, const char *key,
                     const rq_module_linear_quantizer_config *m, rq_err *err)
{
    const rq_module_linear_quantizer_config usual = rq_module_linear_quantizer_defaults();
    char where[180];
    RQ_TRY(check_key(level, key, err));
    snprintf(where, sizeof where, "%s.%.100s", level, key);
    if (m)
        RQ_TRY(check_module(m, where, err));
    rq_lq_rule *old = NULL;
    for (int i = 0; i < r->n && !old; i++)
        if (!strcmp(r->at[i].key, key))
            old = &r->at[i];
    const bool is_new = !old;
    if (is_new && add_rule(r, key, !m, r == &c->names, m ? m : &usual) != RQ_OK)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    if (is_new)
        old = &r->at[r->n - 1];
    const rq_lq_rule before = *old;
    old->skip = !m;
    old->m = m ? *m : usual;
    const rq_status s = rq_linear_quantizer_config_check(c, err);
    if (s != RQ_OK) {
        *old = before;
        if (is_new)
            release_rule(&r->at[--r->n]);
    }
    settle(c);
    return s;
}

rq_status rq_linear_quantizer_config_set_module_type(rq_linear_quantizer_config *c, const char *type,
                                                     const rq_module_linear_quantizer_config *m, rq_err *err)
{
    if (!c->compat && !rq_lq_type_is_known(type))
        return rq_lq_type_unknown(type, err);
    return set(c, &c->types, "module_type_configs", type, m, err);
}

rq_status rq_linear_quantizer_config_set_module_name(rq_linear_quantizer_config *c, const char *name,
                                                     const rq_module_linear_quantizer_config *m, rq_err *err)
{
    return set(c, &c->names, "module_name_configs", name, m, err);
}

static rq_status add_name(rq_lq_strings *s, const char *level, const char *name, rq_err *err)
{
    RQ_TRY(check_key(level, name, err));
    return add_string(s, name) == RQ_OK ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "out of memory");
}

rq_status rq_linear_quantizer_config_add_non_traceable(rq_linear_quantizer_config *c, const char *module, rq_err *err)
{
    return add_name(&c->non_traceable, "non_traceable_module_names", module, err);
}

rq_status rq_linear_quantizer_config_add_preserved(rq_linear_quantizer_config *c, const char *attribute, rq_err *err)
{
    return add_name(&c->preserved, "preserved_attributes", attribute, err);
}

void rq_linear_quantizer_config_set_compat(rq_linear_quantizer_config *c, bool on)
{
    c->compat = on;
}

void rq_linear_quantizer_config_set_skip_by_default(rq_linear_quantizer_config *c, bool on)
{
    c->skip_by_default = on;
}

/* ---- what is worth saying ---- */

rq_status rq_linear_quantizer_config_warnings(const rq_linear_quantizer_config *c, struct rq_notes *out)
{
    static const char *const what[] = { "observers are never switched on", "fake-quantize is never switched on",
                                        "observers are never switched off", "batch norms are never frozen" };
    const rq_module_linear_quantizer_config m = rq_linear_quantizer_config_effective(c);
    const int64_t *at = m.milestones;
    for (int i = 0; i < 4 && m.has_milestones; i++)
        if (at[i] < 0)
            RQ_TRY(rq_notes_add(out, "milestones: the %s, %lld, comes before the first step: %s",
                                i == 0   ? "first"
                                : i == 1 ? "second"
                                : i == 2 ? "third"
                                         : "fourth",
                                (long long)at[i], what[i]));
    if (m.has_milestones && at[0] >= 0 && at[2] == at[0])
        RQ_TRY(rq_notes_add(out,
                            "milestones: observers are switched on and off in the same step, %lld: they see nothing",
                            (long long)at[0]));
    if (m.has_milestones && at[0] >= 0 && at[2] >= 0 && at[2] < at[0])
        RQ_TRY(rq_notes_add(out,
                            "milestones: observers are switched off at %lld, before they are switched on at %lld: "
                            "they stay on",
                            (long long)at[2], (long long)at[0]));
    if (m.has_milestones && at[1] >= 0 && (at[0] < 0 || at[1] < at[0]))
        RQ_TRY(rq_notes_add(
            out,
            "milestones: fake-quantize is switched on at %lld, before observers are: it uses the ranges of "
            "calibration, if any",
            (long long)at[1]));
    if (m.learnable && (!m.has_milestones || at[2] < 0))
        RQ_TRY(rq_notes_add(out,
                            "algorithm learnable: observers are never switched off, and overwrite in each step what "
                            "was learned: set the third milestone"));
    for (int i = 0; i < c->preserved.n; i++)
        RQ_TRY(rq_notes_add(out,
                            "preserved_attributes: '%.100s' has no meaning here: a graph has no attributes besides "
                            "what it computes",
                            c->preserved.at[i]));
    return RQ_OK;
}
