/* quant/qconfig_mapping_check.c — a mapping against a model: what an entry names must be there, what a layer gets must be possible, and
 * something must be quantized. The original shrugs at each of these. Also the inheritance of eager mode, which needs the same. */
#include <string.h>

#include "base/nearest.h"
#include "quant/qconfig_mapping.h"

static bool matches(const rq_qconfig_mapping *m, const rq_qconfig_rule *r, const rq_qconfig_site *site)
{
    switch (r->level) {
    case RQ_QCONFIG_OBJECT_TYPE:
        return rq_qconfig_type_is(site->type, r->type) || rq_qconfig_type_is(site->op, r->type);
    case RQ_QCONFIG_NAME_REGEX:
    case RQ_QCONFIG_NAME:
        return rq_qconfig_rule_fits(m, r, site->name);
    case RQ_QCONFIG_NAME_TYPE_ORDER:
        return rq_qconfig_rule_is_order_of(r, site);
    default: /* global */
        return true;
    }
}

/* The sentence for an entry that matches no site. */
static rq_status unmatched(const rq_qconfig_rule *r, const rq_qconfig_site *sites, int n, rq_err *err)
{
    const char *level = rq_qconfig_level_name(r->level), *word = r->level == RQ_QCONFIG_OBJECT_TYPE ? r->type : r->name;
    char hint[RQ_NEAREST_HINT];
    rq_nearest near = rq_nearest_to(word);
    if (r->level == RQ_QCONFIG_NAME_REGEX) {
        for (int i = 0; i < n; i++)
            if (regexec(&r->beginning, sites[i].name, 0, NULL, 0) == 0)
                return rq_fail(err, RQ_NOT_FOUND,
                               "%s '%s' matches no whole module name, only the beginning of '%.80s'; '%s.*' would "
                               "match it",
                               level, r->name, sites[i].name, r->name);
        return rq_fail(err, RQ_NOT_FOUND, "%s '%s' matches none of the %d modules", level, r->name, n);
    }
    if (r->level == RQ_QCONFIG_NAME_TYPE_ORDER) {
        int most = 0;
        for (int i = 0; i < n; i++) {
            rq_qconfig_rule other = *r;
            other.index = sites[i].index;
            if (rq_qconfig_rule_is_order_of(&other, &sites[i]) && sites[i].index >= most)
                most = sites[i].index + 1;
        }
        return rq_fail(err, RQ_NOT_FOUND, "%s ('%s', %s, %d) matches no module: there are %d of that type in '%s'",
                       level, r->name, r->type, r->index, most, r->name);
    }
    for (int i = 0; i < n; i++) {
        if (r->level == RQ_QCONFIG_NAME && sites[i].name[0])
            rq_nearest_try(&near, sites[i].name);
        if (r->level == RQ_QCONFIG_OBJECT_TYPE && sites[i].type)
            rq_nearest_try(&near, sites[i].type);
        if (r->level == RQ_QCONFIG_OBJECT_TYPE && sites[i].op)
            rq_nearest_try(&near, sites[i].op);
    }
    return rq_fail(err, RQ_NOT_FOUND, "%s '%s' matches none of the %d modules%s", level, word, n,
                   rq_nearest_hint(&near, hint));
}

static rq_status nothing(int n, rq_err *err)
{
    return rq_fail(err, RQ_NOT_FOUND, "none of the %d modules gets a qconfig: nothing would be quantized", n);
}

static rq_status check_site(const rq_qconfig_site *site, const rq_qconfig *q, const char *executor, rq_err *err)
{
    const char *type = site->op ? site->op : site->type;
    rq_status s = rq_qconfig_check(q, type, executor, err);
    float scale;
    int32_t zero_point;
    if (s == RQ_OK && rq_qconfig_fixed_of(type, &scale, &zero_point) && !rq_qconfig_is_fixed(q, scale, zero_point))
        s = rq_fail(
            err, RQ_BAD_ARG,
            "its output has the fixed scale %g and zero point %d; rq_qconfig_mapping_default, or 'default' in a "
            "file, gives it those",
            (double)scale, (int)zero_point);
    return s == RQ_OK ? RQ_OK : rq_fail_in(err, s, "module '%s' (%s)", site->name, type ? type : "of unknown type");
}

rq_status rq_qconfig_mapping_check(const rq_qconfig_mapping *m, const rq_qconfig_site *sites, int n,
                                   const char *executor, rq_err *err)
{
    for (int i = 0; i < m->n; i++) {
        bool found = m->entry[i].optional || m->entry[i].level == RQ_QCONFIG_GLOBAL;
        for (int j = 0; j < n && !found; j++)
            found = matches(m, &m->entry[i], &sites[j]);
        if (!found)
            return unmatched(&m->entry[i], sites, n, err);
    }
    int quantized = 0;
    for (int j = 0; j < n; j++) {
        const rq_qconfig *q = rq_qconfig_mapping_lookup(m, &sites[j], NULL);
        if (!q)
            continue;
        quantized++;
        RQ_TRY(check_site(&sites[j], q, executor, err));
    }
    return quantized ? RQ_OK : nothing(n, err);
}

/* ---- eager mode ---- */

static bool names_module(const rq_qconfig_rule *r, const rq_qconfig_module *module)
{
    switch (r->level) {
    case RQ_QCONFIG_GLOBAL:
        return module->parent < 0;
    case RQ_QCONFIG_OBJECT_TYPE:
        return rq_qconfig_type_is(module->type, r->type);
    default:
        return !strcmp(module->name, r->name);
    }
}

/* Every entry must be one that eager mode knows, and name one of the modules. */
static rq_status check_entries(const rq_qconfig_mapping *m, const rq_qconfig_module *modules, int n, rq_err *err)
{
    for (int i = 0; i < m->n; i++) {
        const rq_qconfig_rule *r = &m->entry[i];
        if (r->level == RQ_QCONFIG_NAME_REGEX || r->level == RQ_QCONFIG_NAME_TYPE_ORDER)
            return rq_fail(err, RQ_UNSUPPORTED, "%s '%s': eager mode knows no such entries, only types and names",
                           rq_qconfig_level_name(r->level), r->name);
        bool found = r->optional || r->level == RQ_QCONFIG_GLOBAL;
        for (int j = 0; j < n && !found; j++)
            found = names_module(r, &modules[j]);
        if (found)
            continue;
        const char *word = r->level == RQ_QCONFIG_NAME ? r->name : r->type;
        char hint[RQ_NEAREST_HINT];
        rq_nearest near = rq_nearest_to(word);
        for (int j = 0; j < n; j++)
            rq_nearest_try(&near, r->level == RQ_QCONFIG_NAME ? modules[j].name : modules[j].type);
        return rq_fail(err, RQ_NOT_FOUND, "%s '%s' matches none of the %d modules%s", rq_qconfig_level_name(r->level),
                       word, n, rq_nearest_hint(&near, hint));
    }
    return RQ_OK;
}

rq_status rq_qconfig_mapping_propagate(const rq_qconfig_mapping *m, const rq_qconfig_module *modules, int n,
                                       const char *executor, const rq_qconfig **out, rq_err *err)
{
    RQ_TRY(check_entries(m, modules, n, err));
    int quantized = 0;
    for (int j = 0; j < n; j++) {
        const rq_qconfig_module *module = &modules[j];
        if (module->parent >= j)
            return rq_fail(err, RQ_BAD_ARG, "module %d ('%s') stands before its parent %d", j, module->name,
                           module->parent);
        const rq_qconfig *q = module->parent >= 0 ? out[module->parent] : NULL;
        for (int level = RQ_QCONFIG_OBJECT_TYPE; level <= RQ_QCONFIG_NAME; level++)
            for (int i = 0; i < m->n; i++)
                if ((int)m->entry[i].level == level && names_module(&m->entry[i], module))
                    q = m->entry[i].qconfig;
        for (int i = 0; i < m->n; i++) /* the global one is the entry of the root's name */
            if (m->entry[i].level == RQ_QCONFIG_GLOBAL && module->parent < 0)
                q = m->entry[i].qconfig;
        if (module->has_own)
            q = module->own;
        out[j] = q;
        if (!q)
            continue;
        quantized++;
        const rq_status s = rq_qconfig_check(q, module->type, executor, err);
        if (s != RQ_OK)
            return rq_fail_in(err, s, "module '%s' (%s)", module->name, module->type);
    }
    return quantized ? RQ_OK : nothing(n, err);
}
