/* coreml/flow_change.c — what passes ask of a block that is being rewritten, and do to it. Users keep the order in which they came: see flow.h. */
#include "coreml/flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void drop_user(rq_flow_value *v, const rq_flow_op *op)
{
    for (int i = 0; i < v->n_users; i++)
        if (v->users[i] == op) {
            memmove(v->users + i, v->users + i + 1, (size_t)(v->n_users - i - 1) * sizeof *v->users);
            v->n_users--;
            return;
        }
}

/* ---- looking ---- */

static rq_flow_arg *arg_of(const rq_flow_op *op, const char *param)
{
    for (int i = 0; i < op->n_args; i++)
        if (!strcmp(op->args[i].param, param))
            return &op->args[i];
    return NULL;
}

rq_flow_value *rq_flow_input(const rq_flow_op *op, const char *param)
{
    const rq_flow_arg *arg = arg_of(op, param);
    return arg && arg->n == 1 ? arg->value[0] : NULL;
}

const rq_mil_value *rq_flow_const(const rq_flow_op *op, const char *param)
{
    const rq_flow_arg *arg = arg_of(op, param);
    if (!arg)
        return op->op ? rq_mil_op_attr(op->op, param) : NULL;
    if (arg->n != 1)
        return NULL;
    if (arg->value[0])
        return arg->value[0]->val;
    const rq_mil_arg *own = rq_mil_op_arg(op->op, param);
    return own ? own->binding[0].value : NULL;
}

bool rq_flow_is_output(const rq_flow *w, const rq_flow_value *v)
{
    for (int i = 0; i < w->n_outputs; i++)
        if (w->outputs[i] == v)
            return true;
    return false;
}

rq_flow_op *rq_flow_only_user(const rq_flow_op *op, const char *type)
{
    if (op->n_outputs != 1 || op->outputs[0]->n_users != 1)
        return NULL;
    rq_flow_op *user = op->outputs[0]->users[0];
    return !user->within && !strcmp(user->type, type) ? user : NULL;
}

rq_flow_op **rq_flow_list(rq_flow *w)
{
    size_t n = 1;
    for (const rq_flow_op *op = w->first; op; op = op->next)
        n++;
    rq_flow_op **list = rq_arena_alloc(&w->a, n, sizeof *list);
    n = 0;
    for (rq_flow_op *op = w->first; list && op; op = op->next)
        list[n++] = op;
    return list;
}

/* ---- changing ---- */

rq_flow_op *rq_flow_make(rq_flow *w, const char *type, const char *name)
{
    enum { MAX_ARGS = 16 };
    rq_flow_op *op = rq_arena_alloc(&w->a, 1, sizeof *op);
    if (!op || (!name && !(name = rq_flow_name(w, type))))
        return NULL;
    *op = (rq_flow_op) { .type = type, .name = name };
    op->args = rq_arena_alloc(&w->a, MAX_ARGS, sizeof *op->args);
    op->outputs = rq_arena_alloc(&w->a, 1, sizeof(rq_flow_value *));
    return op->args && op->outputs ? op : NULL;
}

bool rq_flow_bind(rq_flow *w, rq_flow_op *op, const char *param, rq_flow_value *v)
{
    rq_flow_value **list = v ? rq_arena_alloc(&w->a, 1, sizeof(rq_flow_value *)) : NULL;
    if (!list || !rq_flow_add_user(w, v, op))
        return false;
    list[0] = v;
    op->args[op->n_args++] = (rq_flow_arg) { .param = param, .value = list, .n = 1 };
    return true;
}

rq_flow_value *rq_flow_place(rq_flow *w, rq_flow_op *op, rq_mil_type *type, rq_flow_op *before)
{
    rq_flow_value *v = type ? rq_arena_alloc(&w->a, 1, sizeof *v) : NULL;
    if (!v)
        return NULL;
    *v = (rq_flow_value) { .name = op->name, .type = type, .op = op, .val = op->val };
    op->outputs[op->n_outputs++] = v;
    rq_flow_link(w, op, before);
    return v;
}

rq_flow_value *rq_flow_make_const(rq_flow *w, const char *owner, const char *param, const rq_mil_value *val,
                                  rq_flow_op *before)
{
    const size_t n = strlen(owner) + strlen(param) + 2;
    char *base = val ? rq_arena_alloc(&w->a, n, 1) : NULL;
    if (!base)
        return NULL;
    snprintf(base, n, "%s_%s", owner, param);
    const char *name = rq_flow_name(w, base);
    rq_flow_op *op = name ? rq_flow_make(w, "const", name) : NULL;
    if (!op)
        return NULL;
    op->val = val;
    return rq_flow_place(w, op, val->type, before);
}

static bool give(rq_flow *w, rq_flow_op *op, const rq_flow_value *old, rq_flow_value *now)
{
    bool affected = false;
    for (int i = 0; i < op->n_args; i++)
        for (int k = 0; k < op->args[i].n; k++)
            affected |= op->args[i].value[k] == old;
    if (!affected)
        return true;
    for (int i = 0; i < op->n_args; i++)
        for (int k = 0; k < op->args[i].n; k++) {
            rq_flow_value *v = op->args[i].value[k];
            if (!v)
                continue;
            drop_user(v, op);
            op->args[i].value[k] = v == old ? now : v;
            if (!rq_flow_add_user(w, op->args[i].value[k], op))
                return false;
        }
    return true;
}

static bool give_within(rq_flow *w, rq_flow_op *op, const rq_flow_value *old, rq_flow_value *now)
{
    bool ok = give(w, op, old, now);
    for (int i = 0; ok && i < op->n_inner; i++)
        ok = give(w, op->inner[i], old, now);
    return ok;
}

bool rq_flow_rebind(rq_flow *w, rq_flow_op *op, const char *param, rq_flow_value *v)
{
    rq_flow_arg *arg = arg_of(op, param);
    drop_user(arg->value[0], op);
    arg->value[0] = v;
    return rq_flow_add_user(w, v, op);
}

bool rq_flow_renew_inputs(rq_flow *w, rq_flow_op *op)
{
    for (int i = 0; i < op->n_args; i++)
        for (int k = 0; k < op->args[i].n; k++) {
            rq_flow_value *v = op->args[i].value[k];
            if (!v)
                continue;
            drop_user(v, op);
            if (!rq_flow_add_user(w, v, op))
                return false;
        }
    return true;
}

static int by_place(const void *a, const void *b)
{
    const rq_flow_op *x = *(rq_flow_op *const *)a, *y = *(rq_flow_op *const *)b;
    return (x->at > y->at) - (x->at < y->at);
}

/* Operations of the block behind `anchor` (NULL: all) that use v, themselves or within, take `now`, in their order. */
static bool give_behind(rq_flow *w, const rq_flow_op *anchor, const rq_flow_op *end, rq_flow_value *v,
                        rq_flow_value *now)
{
    const int n = v->n_users;
    int k = 0;
    rq_flow_op **users = rq_arena_alloc(&w->a, n ? (size_t)n : 1, sizeof *users);
    bool ok = users != NULL;
    for (int i = 0; ok && i < n; i++) {
        rq_flow_op *op = v->users[i]->within ? v->users[i]->within : v->users[i];
        if ((!anchor || op->at > anchor->at) && (!end || op->at <= end->at))
            users[k++] = op;
    }
    if (k)
        qsort(users, (size_t)k, sizeof *users, by_place);
    for (int i = 0; ok && i < k; i++)
        if (!i || users[i] != users[i - 1])
            ok = give_within(w, users[i], v, now);
    return ok;
}

bool rq_flow_renew(rq_flow *w, rq_flow_op *op)
{
    bool ok = rq_flow_renew_inputs(w, op);
    for (int i = 0; ok && i < op->n_outputs; i++)
        ok = give_behind(w, op, NULL, op->outputs[i], op->outputs[i]);
    return ok;
}

bool rq_flow_replace(rq_flow *w, rq_flow_op *anchor, rq_flow_op *end, rq_flow_value *old, rq_flow_value *now)
{
    bool ok = true, met = true;
    if (!end && anchor && anchor == old->op) {
        const int n = old->n_users;
        rq_flow_op **users = rq_arena_alloc(&w->a, n ? (size_t)n : 1, sizeof *users);
        if (!users)
            return false;
        if (n)
            memcpy(users, old->users, (size_t)n * sizeof *users);
        for (int i = 0; ok && i < n; i++)
            ok = give(w, users[i], old, now);
    } else {
        const rq_flow_op *last =
            end && anchor && end->at <= anchor->at ? NULL : end; /* an end that is not met is none */
        met = old->op && (!anchor || old->op->at > anchor->at) && (!last || old->op->at <= last->at);
        ok = give_behind(w, anchor, last, old, now);
    }
    if (!ok || (end && !met))
        return ok;
    bool was_output = false;
    for (int i = 0; i < w->n_outputs; i++)
        if (w->outputs[i] == old) {
            w->outputs[i] = now;
            was_output = true;
        }
    if (was_output && !now->is_input)
        now->name = old->name;
    return true;
}

void rq_flow_remove(rq_flow *w, rq_flow_op *op)
{
    *(op->prev ? &op->prev->next : &w->first) = op->next;
    *(op->next ? &op->next->prev : &w->last) = op->prev;
    op->removed = true;
    for (int j = -1; j < op->n_inner; j++) {
        const rq_flow_op *one = j < 0 ? op : op->inner[j];
        for (int i = 0; i < one->n_args; i++)
            for (int k = 0; k < one->args[i].n; k++)
                if (one->args[i].value[k])
                    drop_user(one->args[i].value[k], one);
    }
}
