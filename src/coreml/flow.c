/* coreml/flow.c — the block as a list with users, built from the program and written back to it. */
#include "coreml/flow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names to things ---- */

typedef struct rq_flow_slot {
    const char *name; /* NULL: free */
    void *thing;
    int64_t count;
} slot;

static size_t hash(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 0x100000001b3u;
    return (size_t)(h ^ h >> 29);
}

static slot *find(const rq_flow_counts *t, const char *name)
{
    size_t i = hash(name) & (t->n_slots - 1);
    while (t->slot[i].name && strcmp(t->slot[i].name, name) != 0)
        i = (i + 1) & (t->n_slots - 1);
    return &t->slot[i];
}

/* The slot of a name, new ones empty; NULL: memory is out. The name is not copied. */
static slot *slot_of(rq_flow_counts *t, const char *name)
{
    if (t->n * 2 + 2 > t->n_slots) {
        rq_flow_counts more = { .n_slots = t->n_slots ? t->n_slots * 2 : 64, .n = t->n, .a = t->a };
        more.slot = rq_arena_alloc(t->a, more.n_slots, sizeof *more.slot);
        if (!more.slot)
            return NULL;
        for (size_t i = 0; i < t->n_slots; i++)
            if (t->slot[i].name)
                *find(&more, t->slot[i].name) = t->slot[i];
        *t = more;
    }
    slot *s = find(t, name);
    if (!s->name) {
        s->name = name;
        t->n++;
    }
    return s;
}

const char *rq_flow_name(rq_flow *w, const char *base)
{
    char *key = rq_arena_strndup(w->counts->a, base, strlen(base));
    slot *s = key ? slot_of(w->counts, key) : NULL;
    const size_t n = strlen(base) + 22;
    char *name = s ? rq_arena_alloc(&w->m->program.arena, n, 1) : NULL;
    if (name)
        snprintf(name, n, "%s_%" PRId64, base, s->count++);
    return name;
}

/* ---- lists ---- */

static bool grow(rq_arena *a, void *items_ptr, int n, int *cap)
{
    if (n < *cap)
        return true;
    const int more = *cap < 4 ? 4 : *cap * 2;
    void **items, **bigger = rq_arena_alloc(a, (size_t)more, sizeof(void *));
    if (!bigger)
        return false;
    memcpy(&items, items_ptr, sizeof items);
    if (n)
        memcpy(bigger, items, (size_t)n * sizeof(void *));
    memcpy(items_ptr, &bigger, sizeof bigger);
    *cap = more;
    return true;
}

bool rq_flow_add_user(rq_flow *w, rq_flow_value *v, rq_flow_op *op)
{
    if (!grow(&w->a, &v->users, v->n_users, &v->cap_users))
        return false;
    v->users[v->n_users++] = op;
    return true;
}

enum { NEAR = 1 << 10 };
#define FAR ((int64_t)1 << 32) /* between operations of the file: room for those that come in */

static void number(rq_flow *w)
{
    int64_t at = 0;
    for (rq_flow_op *op = w->first; op; op = op->next)
        op->at = at += FAR;
}

void rq_flow_link(rq_flow *w, rq_flow_op *op, rq_flow_op *before)
{
    op->next = before;
    op->prev = before ? before->prev : w->last;
    *(op->prev ? &op->prev->next : &w->first) = op;
    *(before ? &before->prev : &w->last) = op;
    const int64_t lo = op->prev ? op->prev->at : 0, room = before ? (before->at - lo) / 2 : FAR;
    op->at = lo + (!before ? FAR : room < NEAR ? room : NEAR);
    if (room < 1)
        number(w);
}

/* ---- from the program ---- */

typedef struct opening {
    rq_flow *w;
    rq_flow_counts names; /* of values to them; those of inner blocks to NULL */
    rq_err *err;
} opening;

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory to rewrite the program");
}

static rq_flow_value *new_value(opening *o, const char *name, rq_mil_type *type, rq_flow_op *op)
{
    rq_flow_value *v = rq_arena_alloc(&o->w->a, 1, sizeof *v);
    slot *s = v ? slot_of(&o->names, name) : NULL;
    if (!s)
        return NULL;
    *v = (rq_flow_value) { .name = name, .type = type, .op = op, .is_input = !op };
    s->thing = v;
    return v;
}

static rq_flow_value *value_named(const opening *o, const char *name)
{
    return o->names.n_slots ? find(&o->names, name)->thing : NULL;
}

static rq_status read_args(opening *o, rq_flow_op *op)
{
    const rq_mil_op *from = op->op;
    op->args = rq_arena_alloc(&o->w->a, from->n_args ? (size_t)from->n_args : 1, sizeof *op->args);
    if (!op->args)
        return no_memory(o->err);
    for (int i = 0; i < from->n_args; i++) {
        const rq_mil_arg *arg = &from->args[i];
        rq_flow_value **v = rq_arena_alloc(&o->w->a, arg->n ? (size_t)arg->n : 1, sizeof(rq_flow_value *));
        if (!v)
            return no_memory(o->err);
        op->args[op->n_args++] = (rq_flow_arg) { .param = arg->param, .value = v, .n = arg->n };
        for (int k = 0; k < arg->n; k++) {
            v[k] = arg->binding[k].name ? value_named(o, arg->binding[k].name) : NULL;
            if (v[k] && !rq_flow_add_user(o->w, v[k], op))
                return no_memory(o->err);
            if (!v[k] && arg->binding[k].name && !op->within)
                return rq_fail(o->err, RQ_BAD_FILE, "operation '%.100s' uses '%.100s', which nobody gives", op->name,
                               arg->binding[k].name);
        }
    }
    return RQ_OK;
}

static rq_status add_inner(opening *o, rq_flow_op *outer, rq_flow_op *op)
{
    if (!grow(&o->w->a, &outer->inner, outer->n_inner, &outer->cap_inner))
        return no_memory(o->err);
    outer->inner[outer->n_inner++] = op;
    return RQ_OK;
}

/* A value of an inner block: it hides one of the same name, and its own name is taken. */
static rq_status hide(opening *o, const char *name)
{
    slot *s = slot_of(&o->names, name);
    rq_flow *w = o->w;
    if (!s || !grow(&w->a, &w->inner_names, w->n_inner_names, &w->cap_inner_names))
        return no_memory(o->err);
    w->inner_names[w->n_inner_names++] = name;
    s->thing = NULL;
    return RQ_OK;
}

static rq_status read_inner(opening *o, rq_flow_op *outer, rq_mil_block *b)
{
    for (int i = 0; i < b->n_inputs; i++)
        RQ_TRY(hide(o, b->inputs[i].name));
    for (int i = 0; i < b->n_ops; i++) {
        rq_flow_op *op = rq_arena_alloc(&o->w->a, 1, sizeof *op);
        if (!op)
            return no_memory(o->err);
        *op = (rq_flow_op) {
            .type = b->ops[i]->type, .name = rq_mil_op_name(b->ops[i]), .op = b->ops[i], .within = outer
        };
        RQ_TRY(read_args(o, op));
        RQ_TRY(add_inner(o, outer, op));
        for (int k = 0; k < b->ops[i]->n_blocks; k++)
            RQ_TRY(read_inner(o, outer, b->ops[i]->blocks[k]));
        for (int k = 0; k < b->ops[i]->n_outputs; k++)
            RQ_TRY(hide(o, b->ops[i]->outputs[k].name));
    }
    rq_flow_op *ends = rq_arena_alloc(&o->w->a, 1, sizeof *ends);
    rq_flow_arg *arg = ends ? rq_arena_alloc(&o->w->a, 1, sizeof *arg) : NULL;
    if (!arg || !(arg->value = rq_arena_alloc(&o->w->a, b->n_outputs ? (size_t)b->n_outputs : 1, sizeof(void *))))
        return no_memory(o->err);
    *ends = (rq_flow_op) { .type = "", .name = "", .within = outer, .ends = b, .args = arg, .n_args = 1 };
    arg->param = "";
    for (arg->n = 0; arg->n < b->n_outputs; arg->n++) {
        rq_flow_value *v = arg->value[arg->n] = value_named(o, b->outputs[arg->n]);
        if (v && !rq_flow_add_user(o->w, v, ends))
            return no_memory(o->err);
    }
    return add_inner(o, outer, ends);
}

static rq_status read_op(opening *o, rq_mil_op *from)
{
    rq_flow *w = o->w;
    rq_flow_op *op = rq_arena_alloc(&w->a, 1, sizeof *op);
    if (!op)
        return no_memory(o->err);
    *op = (rq_flow_op) { .type = from->type, .name = rq_mil_op_name(from), .op = from };
    RQ_TRY(read_args(o, op));
    for (int i = 0; i < from->n_blocks; i++)
        RQ_TRY(read_inner(o, op, from->blocks[i]));
    op->outputs = rq_arena_alloc(&w->a, from->n_outputs ? (size_t)from->n_outputs : 1, sizeof(rq_flow_value *));
    if (!op->outputs)
        return no_memory(o->err);
    for (int i = 0; i < from->n_outputs; i++) {
        rq_flow_value *v = new_value(o, from->outputs[i].name, from->outputs[i].type, op);
        if (!v)
            return no_memory(o->err);
        v->val = strcmp(from->type, "const") != 0 ? NULL : rq_mil_op_attr(from, "val");
        op->outputs[op->n_outputs++] = v;
    }
    rq_flow_link(w, op, NULL);
    return RQ_OK;
}

static rq_status read_block(opening *o, rq_mil_function *f)
{
    rq_flow *w = o->w;
    const rq_mil_block *b = f->block;
    w->inputs = rq_arena_alloc(&w->a, (size_t)f->n_inputs + (size_t)b->n_inputs + 1, sizeof(rq_flow_value *));
    w->outputs = rq_arena_alloc(&w->a, b->n_outputs ? (size_t)b->n_outputs : 1, sizeof(rq_flow_value *));
    if (!w->inputs || !w->outputs)
        return no_memory(o->err);
    for (int i = 0; i < f->n_inputs + b->n_inputs; i++) {
        const rq_mil_var *v = i < f->n_inputs ? &f->inputs[i] : &b->inputs[i - f->n_inputs];
        if (!(w->inputs[w->n_inputs++] = new_value(o, v->name, v->type, NULL)))
            return no_memory(o->err);
    }
    for (int i = 0; i < b->n_ops; i++)
        RQ_TRY(read_op(o, b->ops[i]));
    for (int i = 0; i < b->n_outputs; i++)
        if (!(w->outputs[w->n_outputs++] = value_named(o, b->outputs[i])))
            return rq_fail(o->err, RQ_BAD_FILE, "output '%.100s' is given by no operation", b->outputs[i]);
    return RQ_OK;
}

rq_status rq_flow_open(rq_flow *w, rq_coreml *m, rq_mil_function *f, rq_flow_counts *counts, rq_err *err)
{
    *w = (rq_flow) { .m = m, .f = f, .counts = counts };
    opening o = { .w = w, .names = { .a = &w->a }, .err = err };
    return read_block(&o, f);
}

void rq_flow_release(rq_flow *w)
{
    rq_arena_release(&w->a);
}

/* ---- back to it ---- */

static bool same_text(const char *a, const char *b)
{
    return a == b || !strcmp(a, b);
}

static rq_mil_op *make_op(const rq_flow *w, const rq_flow_op *op)
{
    rq_mil_program *p = &w->m->program;
    rq_mil_op *to = rq_mil_op_make(p, op->type, op->name);
    bool ok = to != NULL;
    for (int i = 0; ok && i < op->n_args; i++)
        ok = rq_mil_op_bind(p, to, op->args[i].param, op->args[i].value[0]->name);
    for (int i = 0; ok && i < op->n_outputs; i++)
        ok = rq_mil_op_output(p, to, op->outputs[i]->name, op->outputs[i]->type);
    if (ok && op->val)
        ok = rq_mil_op_set_attr(p, to, "val", (rq_mil_value *)op->val);
    return ok ? to : NULL;
}

/* An operation of the file: names of what it takes and gives, where they changed. */
static bool update_op(const rq_flow *w, const rq_flow_op *op)
{
    rq_mil_op *to = op->op;
    for (int i = 0; i < op->n_args; i++)
        for (int k = 0; k < op->args[i].n; k++) {
            const rq_flow_value *v = op->args[i].value[k];
            const char **name = op->ends ? &op->ends->outputs[k] : &to->args[i].binding[k].name;
            if (v && !same_text(*name, v->name))
                *name = v->name;
        }
    for (int i = 0; i < op->n_outputs; i++)
        if (!same_text(to->outputs[i].name, op->outputs[i]->name))
            to->outputs[i].name = op->outputs[i]->name;
    return !to || same_text(rq_mil_op_name(to), op->name) ||
           rq_mil_op_set_attr(&w->m->program, to, "name", rq_mil_text(&w->m->program, op->name));
}

rq_status rq_flow_write(const rq_flow *w, rq_err *err)
{
    rq_mil_block *b = w->f->block;
    int n = 0;
    for (const rq_flow_op *op = w->first; op; op = op->next)
        n++;
    rq_mil_op **ops = rq_arena_alloc(&w->m->program.arena, n ? (size_t)n : 1, sizeof *ops);
    if (!ops)
        return no_memory(err);
    n = 0;
    for (const rq_flow_op *op = w->first; op; op = op->next) {
        bool ok = op->op ? update_op(w, op) : true;
        for (int i = 0; ok && i < op->n_inner; i++)
            ok = update_op(w, op->inner[i]);
        if (!ok || !(ops[n++] = op->op ? op->op : make_op(w, op)))
            return no_memory(err);
    }
    for (int i = 0; i < w->n_outputs; i++)
        b->outputs[i] = w->outputs[i]->name;
    b->ops = ops;
    b->n_ops = b->cap_ops = n;
    return RQ_OK;
}
