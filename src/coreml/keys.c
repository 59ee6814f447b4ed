/* coreml/keys.c — names and types that a config has and the program has not: a setting that says nothing is an error or a note, never silence. */
#include <string.h>

#include "base/nearest.h"
#include "coreml/weights.h"
#include "formats/mil_graph.h"

typedef struct looker {
    const char *key;
    bool of_type;
    const char *const *types; /* operators that settings count for; NULL: all */
    bool found, counts;
    rq_nearest near;
} looker;

static bool is_one_of(const char *type, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(type, *list))
            return true;
    return false;
}

static rq_status look(void *arg, const rq_mil_function *f, const rq_mil_op *op, rq_err *err)
{
    looker *l = arg;
    (void)f;
    (void)err;
    const char *word = l->of_type ? op->type : rq_mil_op_name(op);
    const bool pattern = !l->of_type && strcmp(op->type, "const") != 0;
    rq_nearest_try(&l->near, word);
    if (pattern ? !rq_coreml_name_fits(l->key, word) : strcmp(word, l->key) != 0)
        return RQ_OK;
    l->found = true;
    l->counts |= !l->types || is_one_of(op->type, l->types);
    return RQ_OK;
}

static rq_status check(const rq_coreml *m, const rq_coreml_rules *rules, bool of_type, const rq_coreml_weight *weights,
                       int n, const char *const *types, rq_coreml_report *report, rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    for (int i = 0; i < rules->n; i++) {
        const char *key = rules->at[i].key;
        looker l = { .key = key, .of_type = of_type, .types = types, .near = rq_nearest_to(key) };
        RQ_TRY(rq_mil_each_op(&m->program, look, &l, err));
        for (int k = 0; !of_type && !l.found && k < n; k++)
            l.found = l.counts = !strcmp(weights[k].name, key);
        if (l.counts)
            continue;
        if (l.found)
            RQ_TRY(rq_coreml_report_note(report, err, "what the config says of '%.100s' counts for its weights only",
                                         key));
        else if (of_type && (rq_mil_row_find(key) || !strcmp(key, "const")))
            RQ_TRY(rq_coreml_report_note(report, err, "the program has no operator of type %s, which the config names",
                                         key));
        else
            return rq_fail(err, RQ_BAD_ARG, "%s: the program has no operator%s '%.100s'%s",
                           of_type ? "op_type_configs" : "op_name_configs", of_type ? " of type" : " or constant", key,
                           rq_nearest_hint(&l.near, hint));
    }
    return RQ_OK;
}

rq_status rq_coreml_check_keys(const rq_coreml *m, const rq_coreml_config *c, const rq_coreml_weight *weights, int n,
                               const char *const *types, rq_coreml_report *report, rq_err *err)
{
    RQ_TRY(check(m, &c->names, false, weights, n, types, report, err));
    return check(m, &c->types, true, weights, n, types, report, err);
}
