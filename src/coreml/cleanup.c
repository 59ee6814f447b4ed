/* coreml/cleanup.c — what coremltools does to a program behind every compression and what changes what compression made: operations that nobody reads
 * go, equal constants become one, operations that give what they take go. Each pass looks at the program as the one before left it, until
 * nothing changes. docs/coreml-facts.md 8.4. */
#include <string.h>

#include "base/mem.h"
#include "coreml/weights.h"

enum { LEAST_SHARED = 100 }; /* elements of constants that become one */

/* ---- equal values ---- */

static bool same_type(const rq_mil_type *a, const rq_mil_type *b)
{
    if (a->kind != RQ_MIL_TENSOR || b->kind != RQ_MIL_TENSOR || a->dtype != b->dtype || a->rank != b->rank)
        return false;
    for (int64_t i = 0; i < a->rank; i++)
        if (!a->dim[i].known || !b->dim[i].known || a->dim[i].size != b->dim[i].size)
            return false;
    return a->rank >= 0;
}

/* Of a tensor, as it is kept: immediate ones may be wider than in a file. */
static rq_status bytes_of(rq_coreml *m, rq_mil_value *v, const uint8_t **x, uint64_t *n, rq_err *err)
{
    if (v->kind != RQ_MIL_IMMEDIATE)
        return rq_coreml_weight_bytes(m, v, x, n, err);
    *x = v->data;
    *n = v->bytes;
    return RQ_OK;
}

static rq_status same_value(rq_coreml *m, rq_mil_value *a, rq_mil_value *b, bool *same, rq_err *err)
{
    const uint8_t *x, *y;
    uint64_t n, k;
    *same = a == b;
    if (a == b || a->kind != b->kind || (a->kind != RQ_MIL_IMMEDIATE && a->kind != RQ_MIL_BLOB) ||
        !same_type(a->type, b->type))
        return RQ_OK;
    if (a->type->dtype->store == RQ_MIL_STORE_STRINGS) {
        *same = a->n == 1 && b->n == 1 && !strcmp(rq_mil_value_text(a), rq_mil_value_text(b));
        return RQ_OK;
    }
    if (a->produce || b->produce)
        return rq_coreml_same_codes(m, a, b, same, err);
    if (a->file && b->file && !strcmp(a->file, b->file) && a->offset == b->offset) {
        *same = true;
        return RQ_OK;
    }
    RQ_TRY(bytes_of(m, a, &x, &n, err));
    RQ_TRY(bytes_of(m, b, &y, &k, err));
    *same = n == k && rq_coreml_same_bytes(x, y, n, a->file && b->file);
    return RQ_OK;
}

/* Numbers that tell most values apart without reading all of them. */
static rq_status fingerprint(rq_coreml *m, rq_mil_value *v, uint64_t *h, rq_err *err)
{
    const uint8_t *x;
    uint64_t n;
    *h = *h * 31 + (uint64_t)v->type->dtype->code * 1000003 + v->n;
    if (v->kind != RQ_MIL_IMMEDIATE && v->kind != RQ_MIL_BLOB)
        return RQ_OK;
    if (v->produce || v->type->dtype->store == RQ_MIL_STORE_STRINGS)
        return RQ_OK;
    RQ_TRY(bytes_of(m, v, &x, &n, err));
    for (uint64_t i = 0; i < 64 && i < n; i++)
        *h = (*h ^ x[i * (n / 64 + 1) % n]) * 0x100000001b3U;
    return RQ_OK;
}

/* ---- equal constants ---- */

static bool is_constexpr(const rq_mil_op *op)
{
    return !strncmp(op->type, "constexpr_", 10);
}

/* What a constant is made of, one after another; NULL: no more. An input by name has name and no value. */
static rq_mil_value *part(const rq_mil_op *op, int i, const char **param, const char **name)
{
    *name = NULL;
    if (i < op->n_attrs) {
        *param = op->attrs[i].name;
        return op->attrs[i].value;
    }
    i -= op->n_attrs;
    if (i >= op->n_args || op->args[i].n != 1)
        return NULL;
    *param = op->args[i].param;
    *name = op->args[i].binding[0].name;
    return op->args[i].binding[0].value;
}

static rq_mil_value *part_named(const rq_mil_op *op, const char *param, const char **name)
{
    const char *p;
    for (int i = 0; i < op->n_attrs + op->n_args; i++) {
        rq_mil_value *v = part(op, i, &p, name);
        if ((v || *name) && !strcmp(p, param))
            return v;
    }
    *name = NULL;
    return NULL;
}

static rq_status same_constant(rq_coreml *m, const rq_mil_op *a, const rq_mil_op *b, bool *same, rq_err *err)
{
    *same = !strcmp(a->type, b->type) && a->n_attrs == b->n_attrs && a->n_args == b->n_args && a->n_outputs == 1 &&
            b->n_outputs == 1 && same_type(a->outputs[0].type, b->outputs[0].type);
    for (int i = a->n_attrs + a->n_args - 1; i >= 0 && *same; i--) { /* small parts come behind large ones */
        const char *param = "", *x, *y;
        rq_mil_value *v = part(a, i, &param, &x), *w;
        if (!strcmp(param, "name"))
            continue;
        w = part_named(b, param, &y);
        if (x || y)
            *same = x && y && !strcmp(x, y);
        else if (v && w)
            RQ_TRY(same_value(m, v, w, same, err));
        else
            *same = false;
    }
    return RQ_OK;
}

typedef struct candidate {
    rq_mil_op *op;
    const rq_coreml_def *def;
    uint64_t hash;
} candidate;

static rq_status hash_of(rq_coreml *m, const rq_mil_op *op, uint64_t *h, rq_err *err)
{
    *h = 0;
    for (int i = 0; i < op->n_attrs + op->n_args; i++) {
        const char *param = "", *name;
        rq_mil_value *v = part(op, i, &param, &name);
        if (v && strcmp(param, "name") != 0)
            RQ_TRY(fingerprint(m, v, h, err));
    }
    return RQ_OK;
}

static bool is_output_of(const rq_coreml_def *d)
{
    for (int i = 0; i < d->n_uses; i++)
        if (!d->use[i].op)
            return true;
    return false;
}

/* Constants of one block that are equal become the first of them; *changed. */
static rq_status merge(rq_coreml *m, const rq_coreml_uses *u, rq_mil_block *b, bool *changed, rq_err *err)
{
    candidate *at = rq_mem_alloc((size_t)b->n_ops + 1, sizeof *at);
    int n = 0;
    rq_status st = at ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "not enough memory to compress weights");
    for (int i = 0; !st && i < b->n_ops; i++) {
        rq_mil_op *op = b->ops[i];
        bool known;
        const bool is_const = !strcmp(op->type, "const");
        if (op->n_outputs != 1 || (!is_const && !is_constexpr(op)) ||
            (is_const && rq_mil_type_count(op->outputs[0].type, &known) < LEAST_SHARED))
            continue;
        at[n].op = op;
        at[n].def = rq_coreml_uses_of(u, op, 0);
        st = hash_of(m, op, &at[n].hash, err);
        n += at[n].def != NULL;
    }
    for (int i = 1; !st && i < n; i++) {
        bool same = false;
        for (int k = 0; k < i && !same && !st; k++) {
            if (!at[k].op || at[k].hash != at[i].hash || is_output_of(at[i].def))
                continue;
            st = same_constant(m, at[k].op, at[i].op, &same, err);
            if (!st && same) {
                rq_coreml_def_rename(at[i].def, at[k].op->outputs[0].name, true);
                rq_coreml_uses_remove(b, at[i].op);
                at[i].op = NULL;
                *changed = true;
            }
        }
    }
    rq_mem_free(at);
    return st;
}

/* ---- operations that do nothing ---- */

/* Every element of a constant of numbers is v. */
static bool is_all(rq_coreml *m, const rq_coreml_uses *u, const rq_mil_op *op, const char *param, float v)
{
    rq_mil_value *c = rq_coreml_param(u, op, param);
    const uint8_t *x;
    uint64_t n;
    if (!c || c->type->kind != RQ_MIL_TENSOR || (c->kind != RQ_MIL_IMMEDIATE && c->kind != RQ_MIL_BLOB) || c->produce ||
        !c->n || bytes_of(m, c, &x, &n, NULL))
        return false;
    const uint16_t half = v == 0 ? 0 : 0x3c00; /* 0 and 1 */
    for (uint64_t i = 0; i < c->n; i++) {
        if (!strcmp(c->type->dtype->name, "fp32") ? ((const float *)(const void *)x)[i] != v
            : !strcmp(c->type->dtype->name, "fp16")
                ? (((const uint16_t *)(const void *)x)[i] & (v == 0 ? 0x7fff : 0xffff)) != half
            : !strcmp(c->type->dtype->name, "int32") ? ((const int32_t *)(const void *)x)[i] != (int32_t)v
                                                     : true)
            return false;
    }
    return true;
}

static bool goes_up(const rq_coreml_uses *u, const rq_mil_op *op, const char *param)
{
    const rq_mil_value *v = rq_coreml_param(u, op, param);
    if (!v || v->kind != RQ_MIL_IMMEDIATE || v->type->dtype->store != RQ_MIL_STORE_INTS)
        return false;
    for (uint64_t i = 0; i < v->n; i++) {
        const int32_t at = ((const int32_t *)v->data)[i];
        if ((at < 0 ? at + (int64_t)v->n : at) != (int64_t)i)
            return false;
    }
    return true;
}

static bool never_back(const rq_coreml_uses *u, const rq_mil_op *op, const char *param)
{
    const rq_mil_value *v = rq_coreml_param(u, op, param);
    if (!v)
        return !rq_mil_op_arg(op, param);
    if (v->kind != RQ_MIL_IMMEDIATE || v->type->dtype->store != RQ_MIL_STORE_INTS)
        return false;
    for (uint64_t i = 0; i < v->n; i++)
        if (((const int32_t *)v->data)[i] < 0)
            return false;
    return true;
}

/* The parameter whose value op gives; NULL: it does something. */
static const char *passes_on(rq_coreml *m, const rq_coreml_uses *u, const rq_mil_op *op)
{
    static const char *const shape[] = {
        "reshape",           "split", "slice_by_size",  "pad", "tile", "upsample_nearest_neighbor",
        "upsample_bilinear", "crop",  "resize_bilinear"
    };
    const char *t = op->type;
    if (!strcmp(t, "identity") || (!strcmp(t, "transpose") && goes_up(u, op, "perm")) ||
        (!strcmp(t, "slice_by_index") && never_back(u, op, "stride")) ||
        (!strcmp(t, "linear_activation") && is_all(m, u, op, "alpha", 1) && is_all(m, u, op, "beta", 0)))
        return "x";
    for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++)
        if (!strcmp(t, shape[i]))
            return "x";
    const bool add = !strcmp(t, "add"), mul = !strcmp(t, "mul");
    if ((add || !strcmp(t, "sub")) && is_all(m, u, op, "y", 0))
        return "x";
    if ((mul || !strcmp(t, "floor_div") || !strcmp(t, "pow") || !strcmp(t, "real_div")) && is_all(m, u, op, "y", 1))
        return "x";
    return (add && is_all(m, u, op, "x", 0)) || (mul && is_all(m, u, op, "x", 1)) ? "y" : NULL;
}

static const rq_coreml_def *source(const rq_coreml_uses *u, const rq_mil_op *op, const rq_mil_arg *arg)
{
    for (int i = 0; i < u->n; i++)
        for (int k = 0; k < u->def[i].n_uses; k++)
            if (u->def[i].use[k].op == op && &op->args[u->def[i].use[k].arg] == arg)
                return &u->def[i];
    return NULL;
}

/* One pass; floor_div by 1 takes the fraction away, so of floats it does something. */
static rq_status pass_on(rq_coreml *m, const rq_coreml_uses *u, rq_mil_block *b, bool *changed)
{
    for (int i = 0; i < b->n_ops; i++) {
        rq_mil_op *op = b->ops[i];
        const char *param = op->n_outputs == 1 && !op->n_blocks ? passes_on(m, u, op) : NULL;
        const rq_mil_arg *arg = param ? rq_mil_op_arg(op, param) : NULL;
        const rq_coreml_def *d = arg ? rq_coreml_uses_of(u, op, 0) : NULL;
        if (!d || is_output_of(d) || arg->n != 1 || !arg->binding[0].name ||
            (!strcmp(op->type, "floor_div") && op->outputs[0].type->dtype->name[0] == 'f'))
            continue;
        const rq_coreml_def *from = source(u, op, arg);
        if (!from || (strcmp(op->type, "identity") != 0 && !same_type(from->type, op->outputs[0].type)))
            continue;
        rq_coreml_def_rename(d, arg->binding[0].name, true);
        rq_coreml_uses_remove(b, op);
        *changed = true;
        return RQ_OK; /* names were changed: look again */
    }
    return RQ_OK;
}

/* ---- operations that nobody reads ---- */

static void drop_dead(const rq_coreml_uses *u, rq_mil_block *b, bool *changed)
{
    for (int i = b->n_ops - 1; i >= 0; i--) {
        const rq_mil_op *op = b->ops[i];
        bool read = op->n_outputs == 0 || strstr(op->type, "state") != NULL;
        const rq_coreml_def *d = read ? NULL : rq_coreml_uses_of(u, op, 0);
        for (int k = 0; !read && k < op->n_outputs; k++)
            read = !d || d[k].n_uses > 0;
        if (read)
            continue;
        rq_coreml_uses_remove(b, op);
        *changed = true;
    }
}

/* ---- the whole ---- */

typedef enum pass { DEAD, MERGE, FOLD, PASS_ON } pass;

static rq_status run(rq_coreml *m, const rq_coreml_uses *u, rq_mil_block *b, pass what, bool *changed, rq_err *err)
{
    for (int i = 0; i < b->n_ops; i++)
        for (int k = 0; k < b->ops[i]->n_blocks; k++)
            RQ_TRY(run(m, u, b->ops[i]->blocks[k], what, changed, err));
    if (what == DEAD)
        drop_dead(u, b, changed);
    if (what == FOLD)
        return rq_coreml_fold_layout(m, u, b, changed, err);
    return what == MERGE ? merge(m, u, b, changed, err) : what == PASS_ON ? pass_on(m, u, b, changed) : RQ_OK;
}

static rq_status until_done(rq_coreml *m, pass what, rq_err *err)
{
    bool changed = true;
    while (changed) {
        rq_coreml_uses u;
        changed = false;
        RQ_TRY(rq_coreml_uses_init(&u, &m->program, err));
        rq_status st = RQ_OK;
        for (int i = 0; !st && i < m->program.n_functions; i++)
            st = run(m, &u, m->program.functions[i]->block, what, &changed, err);
        rq_coreml_uses_release(&u);
        RQ_TRY(st);
    }
    return RQ_OK;
}

rq_status rq_coreml_cleanup(rq_coreml *m, rq_err *err)
{
    RQ_TRY(until_done(m, DEAD, err));
    RQ_TRY(rq_coreml_canonicalize(m, err));
    RQ_TRY(rq_coreml_guard_gathers(m, err));
    RQ_TRY(until_done(m, MERGE, err));
    RQ_TRY(until_done(m, FOLD, err));
    RQ_TRY(until_done(m, PASS_ON, err));
    return until_done(m, DEAD, err);
}
