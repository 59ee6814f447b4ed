/* quant/qconfig_mapping.c — entries in the order they were set; a lookup asks each level, the highest first. */
#include "quant/qconfig_mapping.h"

#include <string.h>

const char *rq_qconfig_level_name(rq_qconfig_level l)
{
    static const char *const names[RQ_N_QCONFIG_LEVELS] = {
        [RQ_QCONFIG_GLOBAL] = "global",
        [RQ_QCONFIG_OBJECT_TYPE] = "object_type",
        [RQ_QCONFIG_NAME_REGEX] = "module_name_regex",
        [RQ_QCONFIG_NAME] = "module_name",
        [RQ_QCONFIG_NAME_TYPE_ORDER] = "module_name_object_type_order",
    };
    return (unsigned)l < RQ_N_QCONFIG_LEVELS ? names[l] : "?";
}

rq_status rq_qconfig_mapping_create(rq_qconfig_mapping **out, rq_err *err)
{
    rq_qconfig_mapping *m = rq_mem_zalloc(1, sizeof *m);
    if (!m)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory making a qconfig mapping");
    *out = m;
    return RQ_OK;
}

void rq_qconfig_mapping_destroy(rq_qconfig_mapping *m)
{
    if (!m)
        return;
    for (int i = 0; i < m->n; i++)
        if (m->entry[i].level == RQ_QCONFIG_NAME_REGEX) {
            regfree(&m->entry[i].whole);
            regfree(&m->entry[i].beginning);
        }
    rq_mem_free(m->entry);
    rq_arena_release(&m->text);
    rq_mem_free(m);
}

void rq_qconfig_mapping_set_compat(rq_qconfig_mapping *m, bool compat)
{
    m->compat = compat;
}

int rq_qconfig_mapping_count(const rq_qconfig_mapping *m)
{
    return m->n;
}

rq_qconfig_entry rq_qconfig_mapping_entry(const rq_qconfig_mapping *m, int i)
{
    const rq_qconfig_rule *r = &m->entry[i];
    return (rq_qconfig_entry) {
        .level = r->level,
        .name = r->name,
        .type = r->type,
        .index = r->index,
        .qconfig = r->qconfig,
        .optional = r->optional,
    };
}

/* ---- setting ---- */

static bool same_text(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : a == b;
}

static rq_qconfig_rule *find(const rq_qconfig_mapping *m, const rq_qconfig_rule *key)
{
    for (int i = 0; i < m->n; i++) {
        rq_qconfig_rule *r = &m->entry[i];
        if (r->level == key->level && r->index == key->index && same_text(r->name, key->name) &&
            (r->type ? rq_qconfig_type_is(r->type, key->type) : !key->type))
            return r;
    }
    return NULL;
}

static rq_status copy_text(rq_qconfig_mapping *m, const char **text, rq_err *err)
{
    if (*text && !(*text = rq_arena_strndup(&m->text, *text, strlen(*text))))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory in a qconfig mapping");
    return RQ_OK;
}

rq_status rq_qconfig_mapping_set(rq_qconfig_mapping *m, const rq_qconfig_rule *key, const rq_qconfig *q, rq_err *err)
{
    rq_qconfig *mine = NULL;
    if (q) {
        const rq_status s = rq_qconfig_check(q, NULL, NULL, err);
        if (s != RQ_OK)
            return rq_fail_in(err, s, "qconfig of %s %s%s%s", rq_qconfig_level_name(key->level),
                              key->name ? key->name : "", key->name && key->type ? ", " : "",
                              key->type ? key->type : "");
        if (!(mine = rq_arena_alloc(&m->text, 1, sizeof *mine)))
            return rq_fail(err, RQ_NO_MEMORY, "out of memory in a qconfig mapping");
        *mine = *q;
    }
    rq_qconfig_rule *old = find(m, key);
    if (old) {
        old->qconfig = mine;
        old->optional = key->optional;
        return RQ_OK;
    }
    rq_qconfig_rule r = *key;
    RQ_TRY(copy_text(m, &r.name, err));
    RQ_TRY(copy_text(m, &r.type, err));
    if (!rq_mem_grow(&m->entry, m->n, &m->cap, sizeof *m->entry))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory in a qconfig mapping");
    if (r.level == RQ_QCONFIG_NAME_REGEX)
        RQ_TRY(rq_qconfig_regex_compile(&r.whole, &r.beginning, r.name, err));
    r.qconfig = mine;
    m->entry[m->n++] = r;
    return RQ_OK;
}

static rq_status need(const char *text, const char *what, rq_err *err)
{
    return text && text[0] ? RQ_OK : rq_fail(err, RQ_BAD_ARG, "an entry by %s needs one that is not empty", what);
}

rq_status rq_qconfig_mapping_set_global(rq_qconfig_mapping *m, const rq_qconfig *q, rq_err *err)
{
    return rq_qconfig_mapping_set(m, &(rq_qconfig_rule) { .level = RQ_QCONFIG_GLOBAL }, q, err);
}

rq_status rq_qconfig_mapping_set_object_type(rq_qconfig_mapping *m, const char *type, const rq_qconfig *q, rq_err *err)
{
    RQ_TRY(need(type, "object type", err));
    return rq_qconfig_mapping_set(m, &(rq_qconfig_rule) { .level = RQ_QCONFIG_OBJECT_TYPE, .type = type }, q, err);
}

rq_status rq_qconfig_mapping_set_module_name_regex(rq_qconfig_mapping *m, const char *pattern, const rq_qconfig *q,
                                                   rq_err *err)
{
    RQ_TRY(need(pattern, "pattern", err));
    return rq_qconfig_mapping_set(m, &(rq_qconfig_rule) { .level = RQ_QCONFIG_NAME_REGEX, .name = pattern }, q, err);
}

rq_status rq_qconfig_mapping_set_module_name(rq_qconfig_mapping *m, const char *name, const rq_qconfig *q, rq_err *err)
{
    RQ_TRY(need(name, "module name", err));
    return rq_qconfig_mapping_set(m, &(rq_qconfig_rule) { .level = RQ_QCONFIG_NAME, .name = name }, q, err);
}

rq_status rq_qconfig_mapping_set_module_name_object_type_order(rq_qconfig_mapping *m, const char *name,
                                                               const char *type, int index, const rq_qconfig *q,
                                                               rq_err *err)
{
    RQ_TRY(need(type, "object type", err));
    if (!name)
        return need(name, "module name", err);
    if (index < 0)
        return rq_fail(err, RQ_BAD_ARG, "occurrence %d of %s in '%s': they count from 0", index, type, name);
    return rq_qconfig_mapping_set(
        m, &(rq_qconfig_rule) { .level = RQ_QCONFIG_NAME_TYPE_ORDER, .name = name, .type = type, .index = index }, q,
        err);
}

/* ---- asking ---- */

static int type_entry(const rq_qconfig_mapping *m, const char *type)
{
    for (int i = 0; type && i < m->n; i++)
        if (m->entry[i].level == RQ_QCONFIG_OBJECT_TYPE && rq_qconfig_type_is(m->entry[i].type, type))
            return i;
    return -1;
}

bool rq_qconfig_rule_fits(const rq_qconfig_mapping *m, const rq_qconfig_rule *r, const char *name)
{
    if (r->level == RQ_QCONFIG_NAME_REGEX)
        return regexec(m->compat ? &r->beginning : &r->whole, name, 0, NULL, 0) == 0;
    const size_t n = strlen(r->name);
    return !strncmp(name, r->name, n) && (!name[n] || name[n] == '.');
}

static int regex_entry(const rq_qconfig_mapping *m, const char *name)
{
    for (int i = 0; i < m->n; i++)
        if (m->entry[i].level == RQ_QCONFIG_NAME_REGEX && rq_qconfig_rule_fits(m, &m->entry[i], name))
            return i;
    return -1;
}

/* The longest that is the name or an ancestor's. */
static int name_entry(const rq_qconfig_mapping *m, const char *name)
{
    int best = -1;
    for (int i = 0; i < m->n; i++)
        if (m->entry[i].level == RQ_QCONFIG_NAME && rq_qconfig_rule_fits(m, &m->entry[i], name) &&
            (best < 0 || strlen(m->entry[i].name) > strlen(m->entry[best].name)))
            best = i;
    return best;
}

/* Length of the path of the module that holds the site's module or call. */
static size_t holder(const rq_qconfig_site *site)
{
    if (site->op)
        return strlen(site->name);
    const char *dot = strrchr(site->name, '.');
    return dot ? (size_t)(dot - site->name) : 0;
}

bool rq_qconfig_rule_is_order_of(const rq_qconfig_rule *r, const rq_qconfig_site *site)
{
    const size_t n = holder(site);
    return r->level == RQ_QCONFIG_NAME_TYPE_ORDER && r->index == site->index &&
           (site->op || site->name[0]) && /* the root is nobody's child */
           strlen(r->name) == n && !strncmp(r->name, site->name, n) &&
           rq_qconfig_type_is(site->op ? site->op : site->type, r->type);
}

static int order_entry(const rq_qconfig_mapping *m, const rq_qconfig_site *site)
{
    for (int i = 0; i < m->n; i++)
        if (rq_qconfig_rule_is_order_of(&m->entry[i], site))
            return i;
    return -1;
}

static int global_entry(const rq_qconfig_mapping *m)
{
    for (int i = 0; i < m->n; i++)
        if (m->entry[i].level == RQ_QCONFIG_GLOBAL)
            return i;
    return -1;
}

const rq_qconfig *rq_qconfig_mapping_lookup(const rq_qconfig_mapping *m, const rq_qconfig_site *site, int *entry)
{
    int i = order_entry(m, site);
    if (i < 0)
        i = name_entry(m, site->name);
    if (i < 0)
        i = regex_entry(m, site->name);
    if (i < 0)
        i = type_entry(m, site->type);
    if (i < 0)
        i = type_entry(m, site->op);
    if (i < 0)
        i = global_entry(m);
    if (entry)
        *entry = i;
    return i >= 0 ? m->entry[i].qconfig : NULL;
}

rq_status rq_qconfig_mapping_fused(const rq_qconfig_mapping *m, const char *const *types, int n, const rq_qconfig **out,
                                   rq_err *err)
{
    const rq_qconfig *first = NULL;
    for (int i = 0; i < n; i++) {
        const int at = type_entry(m, types[i]);
        const rq_qconfig *q = at >= 0 ? m->entry[at].qconfig : NULL;
        if (i == 0)
            first = q;
        else if (!rq_qconfig_equal(first, q))
            return rq_fail(err, RQ_BAD_ARG,
                           "%s and %s are fused into one layer, but object_type gives them different qconfigs",
                           types[0], types[i]);
    }
    *out = first;
    return RQ_OK;
}

rq_status rq_qconfig_mapping_narrows(const rq_qconfig_mapping *prepared, const rq_qconfig_mapping *converted,
                                     rq_err *err)
{
    for (int pass = 0; pass < 2; pass++) {
        const rq_qconfig_mapping *a = pass ? converted : prepared, *b = pass ? prepared : converted;
        for (int i = 0; i < a->n; i++) {
            const rq_qconfig_rule *mine = &a->entry[i], *other = find(b, mine);
            const char *level = rq_qconfig_level_name(mine->level), *name = mine->name   ? mine->name
                                                                            : mine->type ? mine->type
                                                                                         : "";
            if (!other)
                return rq_fail(err, RQ_BAD_ARG, "entry %s '%s' is only in the mapping that the model was %s with",
                               level, name, pass ? "converted" : "prepared");
            const rq_qconfig_rule *now = pass ? mine : other, *then = pass ? other : mine;
            if (now->qconfig && !rq_qconfig_equal(now->qconfig, then->qconfig))
                return rq_fail(err, RQ_BAD_ARG,
                               "entry %s '%s' has another qconfig than when the model was prepared; converting may "
                               "only take it away",
                               level, name);
        }
    }
    return RQ_OK;
}
