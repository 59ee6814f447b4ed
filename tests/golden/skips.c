/* skips.c — what this version does not compare yet, by operator or by form, each with its reason. Never by id. */
#include "golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/op.h"

/* Operators without a row. An entry whose operator has one by now is reported as a failure. */
static const struct op_skip {
    const char *domain, *op, *reason;
} op_skips[] = {
    { NULL, NULL, NULL }, /* every one has a row */
};

/* Forms: a member of params (or of the case, when key begins with '.') that has this text. */
static const struct form_skip {
    const char *kind; /* the member that makes the kind: "op", "package", "quantized" */
    const char *key, *value, *reason;
} form_skips[] = {
    { "package", NULL, NULL, "issue E: Core ML packages" },
    { "op_types", NULL, NULL, "issue E: Core ML packages" },
    { "op", NULL, NULL, "issue C: the quantizers of torch" },
};

typedef struct search {
    const char *reason;
} search;

static bool look(void *arg, const char *domain, const char *op)
{
    search *s = arg;
    for (size_t i = 0; op_skips[i].op; i++)
        if (!strcmp(op, op_skips[i].op) && !strcmp(strcmp(domain, "ai.onnx") ? domain : "", op_skips[i].domain))
            s->reason = op_skips[i].reason;
    return !s->reason;
}

const char *golden_skip_reason(const golden_case *c, const char *model)
{
    const json_t *params = json_object_get(c->json, "params");
    if (getenv("GOLDEN_NO_SKIPS")) /* to see which entries are needed */
        return NULL;
    for (size_t i = 0; i < sizeof form_skips / sizeof form_skips[0]; i++) {
        const struct form_skip *f = &form_skips[i];
        if (!json_object_get(c->json, f->kind))
            continue;
        const char *v = f->key ? golden_str(params, f->key) : NULL;
        if (!f->key || (v && !strcmp(v, f->value)))
            return f->reason;
    }
    search s = { NULL };
    if (model)
        golden_scan_ops(model, look, &s);
    return s.reason;
}

const char *golden_stale_skip(void)
{
    for (size_t i = 0; op_skips[i].op; i++) {
        const rq_op *row = rq_op_find(op_skips[i].domain, op_skips[i].op);
        if (row && row->forward)
            return op_skips[i].op;
    }
    return NULL;
}
