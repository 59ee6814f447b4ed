/* coreml/weights.c — which constants weight compression looks at, in the order of coremltools: blocks within an operation before it, a block's constants
 * in its order. What the config says is asked of the operators that read a constant; through constexpr_ operations of those behind
 * them. All questions are answered before anything is changed. */
#include "coreml/weights.h"
#include "coreml/raise.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "formats/mil_graph.h"

enum { LEAST_ELEMENTS = 10, MOST_STEPS = 20000 };

typedef struct collector {
    rq_coreml_walk *w;
    rq_coreml_weight *at;
    int n, cap;
    rq_arena names;
    rq_err *err;
} collector;

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory to compress weights");
}

static bool is_constexpr(const rq_mil_op *op)
{
    return !strncmp(op->type, "constexpr_", 10);
}

/* ---- what the config says ---- */

/* The operations that read the outputs of one operation, all outputs one after another. */
typedef struct readers {
    const rq_coreml_def *d, *end;
    const rq_mil_op *of;
    int k;
} readers;

static readers readers_of(const rq_coreml_uses *u, const rq_coreml_def *d)
{
    return (readers) { d, u->def + u->n, d ? d->op : NULL, 0 };
}

static rq_mil_op *next(readers *r)
{
    for (; r->d && r->d < r->end && r->d->op == r->of; r->d++, r->k = 0)
        while (r->k < r->d->n_uses)
            if (r->d->use[r->k++].op)
                return r->d->use[r->k - 1].op;
    return NULL;
}

static rq_mil_op *first_reader(const rq_coreml_uses *u, const rq_coreml_def *d)
{
    readers r = readers_of(u, d);
    return next(&r);
}

static rq_status conflict(const rq_mil_op *a, const rq_coreml_op_config *ca, const rq_mil_op *b,
                          const rq_coreml_op_config *cb, rq_err *err)
{
    char one[300], other[300];
    return rq_fail(
        err, RQ_BAD_ARG,
        "compression config conflict detected between ops '%.60s' and '%.60s'. '%.60s' has config %.140s while "
        "'%.60s' has %.140s.",
        rq_mil_op_name(a), rq_mil_op_name(b), rq_mil_op_name(a), rq_coreml_op_config_text(ca, one, sizeof one),
        rq_mil_op_name(b), rq_coreml_op_config_text(cb, other, sizeof other));
}

/* The config of constant `name` of this type whose first reader is `first`, and whose own definition is d (NULL: it stands in `first`). */
static rq_status resolve(const rq_coreml_walk *w, const char *name, const char *type, const rq_coreml_def *d,
                         const rq_mil_op *first, const rq_coreml_op_config **out, rq_err *err)
{
    const rq_coreml_config *c = w->config;
    *out = NULL;
    for (int steps = 0; steps < w->uses.n + 2; steps++) {
        const rq_coreml_rule *rule = rq_coreml_rules_find(&c->names, name);
        if (rule) {
            *out = rule->skip ? NULL : &rule->op;
            return RQ_OK;
        }
        if (rq_coreml_rules_find(&c->types, type))
            return rq_fail(err, RQ_BAD_ARG,
                           "%s ops cannot be set by the `set_op_type` function. Please use `set_global`", type);
        if (!first)
            return RQ_OK;
        bool all = true;
        const rq_mil_op *op;
        for (readers r = readers_of(&w->uses, d); all && (op = next(&r));)
            all = is_constexpr(op);
        if (!all)
            break;
        name = rq_mil_op_name(first); /* what is read by constexpr_ operations only goes by the first of them */
        type = first->type;
        d = rq_coreml_uses_of(&w->uses, first, 0);
        first = first_reader(&w->uses, d);
    }
    const rq_mil_op *op;
    *out = rq_coreml_config_of(c, rq_mil_op_name(first), first->type);
    for (readers r = readers_of(&w->uses, d); (op = next(&r));) {
        const rq_coreml_op_config *other = rq_coreml_config_of(c, rq_mil_op_name(op), op->type);
        if (!rq_coreml_op_config_equal(*out, other))
            return conflict(first, *out, op, other, err);
    }
    return RQ_OK;
}

/* ---- channels ---- */

rq_mil_value *rq_coreml_param(const rq_coreml_uses *u, const rq_mil_op *op, const char *param)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, param);
    if (!arg)
        return rq_mil_op_attr(op, param);
    if (arg->n != 1)
        return NULL;
    if (arg->binding[0].value)
        return arg->binding[0].value;
    for (int i = 0; i < u->n; i++) {
        const rq_coreml_def *d = &u->def[i];
        for (int k = 0; k < d->n_uses; k++)
            if (d->use[k].op == op && &op->args[d->use[k].arg] == arg)
                return d->op && !strcmp(d->op->type, "const") ? rq_mil_op_attr(d->op, "val") : NULL;
    }
    return NULL;
}

static bool is_true(const rq_coreml_uses *u, const rq_mil_op *op, const char *param)
{
    const rq_mil_value *v = rq_coreml_param(u, op, param);
    return v && v->kind == RQ_MIL_IMMEDIATE && v->n == 1 && v->type->dtype->store == RQ_MIL_STORE_BOOLS &&
           *(const uint8_t *)v->data;
}

typedef struct axes {
    int64_t output, input;
    bool known;
} axes;

static axes axes_of(const rq_coreml_uses *u, const rq_coreml_def *d, int *steps);

/* Of what op does with its parameter. */
static axes axes_in(const rq_coreml_uses *u, const rq_mil_op *op, const char *param, int *steps)
{
    if (!strcmp(op->type, "conv_transpose"))
        return (axes) { 1, 0, true };
    if (!strcmp(op->type, "matmul") && !strcmp(param, "y"))
        return is_true(u, op, "transpose_y") ? (axes) { -2, -1, true } : (axes) { -1, -2, true };
    if (!strcmp(op->type, "matmul"))
        return is_true(u, op, "transpose_x") ? (axes) { -1, -2, true } : (axes) { -2, -1, true };
    if (is_constexpr(op)) {
        const rq_coreml_def *d = rq_coreml_uses_of(u, op, 0);
        return d ? axes_of(u, d, steps) : (axes) { 0, 1, true };
    }
    return (axes) { 0, 1, true };
}

/* Of all who read the outputs of an operation; 0 and 1 where there is nobody. */
static axes axes_of(const rq_coreml_uses *u, const rq_coreml_def *d, int *steps)
{
    axes all = { 0, 1, true };
    bool any = false;
    for (int i = 0; i < d->n_uses; i++) {
        const rq_coreml_use *use = &d->use[i];
        if (!use->op)
            continue;
        if (--*steps < 0)
            return (axes) { 0, 1, false };
        axes a = axes_in(u, use->op, use->op->args[use->arg].param, steps);
        a.output += a.output < 0 ? d->type->rank : 0;
        a.input += a.input < 0 ? d->type->rank : 0;
        if (!a.known || (any && (a.output != all.output || a.input != all.input)))
            return (axes) { 0, 1, false };
        all = a;
        any = true;
    }
    return all;
}

/* ---- collecting ---- */

static int64_t count_of(const rq_mil_type *t)
{
    bool known;
    const uint64_t n = rq_mil_type_count(t, &known);
    return known && n <= INT64_MAX ? (int64_t)n : 0;
}

/* Elements of the weight at the end of the chain of constexpr_ operations behind op. */
static int64_t final_count(const rq_coreml_uses *u, const rq_mil_op *op, int64_t count)
{
    for (int steps = 0; op && is_constexpr(op) && steps < u->n; steps++) {
        const rq_coreml_def *d = rq_coreml_uses_of(u, op, 0);
        readers r = readers_of(u, d);
        op = next(&r);
        count = op ? count_of(r.d->type) : count;
    }
    return count;
}

/* Numbers of 8 bits or less, fp16, fp32: what went to weight files before iOS 18. */
static bool is_weight_type(const rq_mil_type *t)
{
    return t->kind == RQ_MIL_TENSOR &&
           (!strcmp(t->dtype->name, "fp16") || !strcmp(t->dtype->name, "fp32") ||
            (t->dtype->store == RQ_MIL_STORE_BYTES && t->dtype->bits <= 8 && strncmp(t->dtype->name, "fp8", 3) != 0));
}

static rq_status add(collector *c, const rq_coreml_weight *w)
{
    if (!rq_mem_grow(&c->at, c->n, &c->cap, sizeof *c->at))
        return no_memory(c->err);
    c->at[c->n++] = *w;
    return RQ_OK;
}

/* Operation op is looked at as a weight: a const, or with `joint` what a constexpr_ operation gives. */
static rq_status add_op(collector *c, rq_mil_block *b, rq_mil_op *op, rq_mil_value *value)
{
    rq_coreml_walk *k = c->w;
    rq_coreml_def *d = rq_coreml_uses_of(&k->uses, op, 0);
    if (!d)
        return RQ_OK;
    rq_coreml_weight w = {
        .m = k->m, .walk = k, .block = b, .op = op, .name = rq_mil_op_name(op), .value = value, .def = d
    };
    for (readers r = readers_of(&k->uses, d); next(&r);)
        w.n_users++;
    w.user = first_reader(&k->uses, d);
    w.is_output = rq_coreml_def_is_output(d);
    w.count = count_of(op->outputs[0].type);
    w.final_count = k->joint ? final_count(&k->uses, value ? w.user : op, w.count) : w.count;
    int steps = MOST_STEPS;
    const axes a = axes_of(&k->uses, d, &steps);
    w.output_axis = a.known ? (int)a.output : RQ_COREML_NO_AXIS;
    w.input_axis = a.known ? (int)a.input : RQ_COREML_NO_AXIS;
    RQ_TRY(resolve(k, w.name, op->type, d, w.user, &w.config, c->err));
    return add(c, &w);
}

/* A value that stands in a constexpr_ operation is a constant "<operation>_<parameter>_0" with one reader. */
static rq_status add_param(collector *c, rq_mil_block *b, rq_mil_op *op, const char *param, rq_mil_value *value)
{
    rq_coreml_walk *k = c->w;
    char name[600];
    if (snprintf(name, sizeof name, "%s_%s_0", rq_mil_op_name(op), param) >= (int)sizeof name)
        return RQ_OK;
    rq_coreml_weight w = { .m = k->m, .walk = k, .block = b, .op = op, .param = param, .value = value, .user = op };
    w.name = rq_arena_strndup(&k->m->program.arena, name, strlen(name));
    if (!w.name)
        return no_memory(c->err);
    w.n_users = 1;
    w.count = count_of(value->type);
    w.final_count = k->joint ? final_count(&k->uses, op, w.count) : w.count;
    int steps = MOST_STEPS;
    const axes a = axes_in(&k->uses, op, param, &steps);
    w.output_axis = a.known ? (int)a.output : RQ_COREML_NO_AXIS;
    w.input_axis = a.known ? (int)a.input : RQ_COREML_NO_AXIS;
    RQ_TRY(resolve(k, w.name, "const", NULL, op, &w.config, c->err));
    return add(c, &w);
}

static rq_status collect_op(collector *c, rq_mil_block *b, rq_mil_op *op)
{
    const rq_coreml_walk *k = c->w;
    if (k->joint && k->row->joint_ops) {
        for (int i = 0; k->row->joint_ops[i]; i++)
            if (!strcmp(k->row->joint_ops[i], op->type) && op->n_outputs &&
                count_of(op->outputs[0].type) >= LEAST_ELEMENTS)
                return add_op(c, b, op, NULL);
        return RQ_OK;
    }
    rq_mil_value *v = rq_mil_op_attr(op, "val");
    if (!strcmp(op->type, "const"))
        return v && op->n_outputs == 1 && is_weight_type(v->type) && count_of(v->type) >= LEAST_ELEMENTS
                   ? add_op(c, b, op, v)
                   : RQ_OK;
    if (!is_constexpr(op))
        return RQ_OK;
    for (int i = 0; i < op->n_attrs; i++)
        if (is_weight_type(op->attrs[i].value->type) && count_of(op->attrs[i].value->type) >= LEAST_ELEMENTS)
            RQ_TRY(add_param(c, b, op, op->attrs[i].name, op->attrs[i].value));
    for (int i = 0; i < op->n_args; i++) {
        v = op->args[i].n == 1 ? op->args[i].binding[0].value : NULL;
        if (v && is_weight_type(v->type) && count_of(v->type) >= LEAST_ELEMENTS)
            RQ_TRY(add_param(c, b, op, op->args[i].param, v));
    }
    return RQ_OK;
}

static rq_status collect(collector *c, rq_mil_block *b)
{
    for (int i = 0; i < b->n_ops; i++)
        for (int k = 0; k < b->ops[i]->n_blocks; k++)
            RQ_TRY(collect(c, b->ops[i]->blocks[k]));
    for (int i = 0; i < b->n_ops; i++)
        RQ_TRY(collect_op(c, b, b->ops[i]));
    return RQ_OK;
}

/* ---- one weight ---- */

static bool may_join(const rq_coreml_weight *w)
{
    const char *const(*p)[2] = w->walk->row->joint;
    if (!w->walk->joint || !p || w->n_users != 1)
        return false;
    const char *param = w->param ? w->param : w->user->args[w->def->use[0].arg].param;
    for (; (*p)[0]; p++)
        if (!strcmp((*p)[0], w->user->type) && !strcmp((*p)[1], param) && !rq_mil_op_attr(w->user, param))
            return true;
    return false;
}

static bool feeds_constexpr(const rq_coreml_weight *w)
{
    const rq_mil_op *op;
    bool any = w->param != NULL;
    for (readers r = readers_of(&w->walk->uses, w->def); !any && (op = next(&r));)
        any = is_constexpr(op);
    return any;
}

static rq_status transform(rq_coreml_weight *w, rq_err *err)
{
    const rq_coreml_op_config *op = w->config;
    if (!op)
        return rq_coreml_weight_left(
            w, false, err, "%s", w->user ? "the config does not ask for it" : "it is nothing but an output of a block");
    if (feeds_constexpr(w) && !may_join(w))
        return rq_coreml_weight_left(w, false, err, "it is part of a weight that is compressed already");
    if (op->weight_threshold < 0)
        return rq_fail(err, RQ_BAD_ARG, "weight_threshold cannot be None");
    const int64_t rank = w->value ? w->value->type->rank : w->op->outputs[0].type->rank;
    if (!(w->user && is_constexpr(w->user)) && rank <= 1)
        return rq_coreml_weight_left(w, false, err, "it has fewer than two axes");
    if (w->final_count <= op->weight_threshold)
        return rq_coreml_weight_left(w, false, err,
                                     "its %" PRId64 " elements are no more than weight_threshold %" PRId64,
                                     w->final_count, op->weight_threshold);
    return w->walk->row->compress(w, w->walk->arg, err);
}

static void entry_of(const rq_coreml_weight *w, rq_coreml_entry_of *e, char type[120])
{
    const rq_mil_type *t = w->value ? w->value->type : w->op->outputs[0].type;
    *e = (rq_coreml_entry_of) { .name = w->name,
                                .type = rq_mil_type_text(t, type, 120),
                                .user = w->user ? rq_mil_op_name(w->user) : "",
                                .user_type = w->user ? w->user->type : "",
                                .why = "",
                                .config = "",
                                .before = t->kind == RQ_MIL_TENSOR ? rq_mil_dtype_bytes(t->dtype, (uint64_t)count_of(t))
                                                                   : 0 };
}

rq_status rq_coreml_weight_left(rq_coreml_weight *w, bool warning, rq_err *err, const char *fmt, ...)
{
    char type[120], why[400];
    rq_coreml_entry_of e;
    va_list ap;
    va_start(ap, fmt);
    rq_number_vprint(why, sizeof why, fmt, ap);
    va_end(ap);
    entry_of(w, &e, type);
    e.why = why;
    e.warning = warning;
    return rq_coreml_report_add(w->walk->report, &e, err);
}

rq_status rq_coreml_weight_done(rq_coreml_weight *w, const char *op, uint64_t bytes, rq_err *err)
{
    char type[120], config[300];
    rq_coreml_entry_of e;
    entry_of(w, &e, type);
    e.op = op;
    e.after = bytes;
    e.config = rq_coreml_op_config_text(w->config, config, sizeof config);
    w->walk->n_done++;
    return rq_coreml_report_add(w->walk->report, &e, err);
}

/* ---- the whole ---- */

rq_status rq_coreml_one_function(const rq_coreml *m, const char *what, rq_err *err)
{
    if (m->program.n_functions == 1)
        return RQ_OK;
    return rq_fail(err, RQ_UNSUPPORTED, "%s is not supported for a multifunction model: it has %d functions", what,
                   m->program.n_functions);
}

bool rq_coreml_is_ios18(const rq_coreml *m)
{
    return m->spec >= RQ_COREML_IOS18;
}

static rq_status run(rq_coreml_walk *w, collector *c, rq_err *err)
{
    RQ_TRY(rq_coreml_uses_init(&w->uses, &w->m->program, err));
    for (int i = 0; i < w->m->program.n_functions; i++)
        RQ_TRY(collect(c, w->m->program.functions[i]->block));
    RQ_TRY(rq_coreml_check_keys(w->m, w->config, c->at, c->n, NULL, w->report, err));
    for (int i = 0; i < c->n; i++)
        RQ_TRY(transform(&c->at[i], err));
    if (!w->n_done)
        return RQ_OK; /* nothing was asked for, or nothing could be done: the model is what it was */
    RQ_TRY(rq_coreml_raise(w->m, RQ_COREML_IOS16, err));
    return rq_coreml_cleanup(w->m, err);
}

rq_status rq_coreml_weights_run(rq_coreml *m, const rq_coreml_config *config, const rq_coreml_weights_row *row,
                                bool joint, void *arg, rq_coreml_report **report, rq_err *err)
{
    rq_coreml_walk w = { .m = m, .config = config, .row = row, .joint = joint, .arg = arg };
    collector c = { .w = &w, .err = err };
    RQ_TRY(rq_coreml_one_function(m, row->what, err));
    RQ_TRY(rq_coreml_config_accept(config, row->classes, row->what, err));
    if (joint && !rq_coreml_is_ios18(m))
        return rq_fail(err, RQ_UNSUPPORTED,
                       "Joint compression is only supported since iOS18. Please re-convert your model with "
                       "minimum_deployment_target set to at least iOS18: it has specification version %d, 9 is iOS 18",
                       (int)m->spec);
    RQ_TRY(rq_coreml_report_create(&w.report, row->what, err));
    const rq_status s = run(&w, &c, err);
    rq_mem_free(c.at);
    rq_coreml_uses_release(&w.uses);
    if (s == RQ_OK && report)
        *report = w.report;
    else
        rq_coreml_report_destroy(w.report);
    return s;
}
