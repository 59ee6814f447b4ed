/* coreml/flow_tidy.c — what coremltools does to every program before it is written, as far as new operations can cause it: equal operations
 * become one, dead ones go, casts and transposes move to their first user, names are made unique (docs/coreml-facts.md). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coreml/flow.h"

/* ---- equal operations ---- */

bool rq_flow_same_const(const rq_flow *w, const rq_mil_value *a, const rq_mil_value *b)
{
    enum { LARGEST = 100 }; /* larger ones are merged as constants, or differ */
    if (a == b)
        return true;
    if (a->type->kind != RQ_MIL_TENSOR || b->type->kind != RQ_MIL_TENSOR || a->type->dtype != b->type->dtype ||
        a->n != b->n || a->type->rank != b->type->rank || a->n >= LARGEST)
        return false;
    for (int64_t i = 0; i < a->type->rank; i++)
        if (a->type->dim[i].size != b->type->dim[i].size)
            return false;
    if (a->type->dtype->store == RQ_MIL_STORE_STRINGS) {
        for (uint64_t i = 0; i < a->n; i++)
            if (strcmp(((const char *const *)a->data)[i], ((const char *const *)b->data)[i]) != 0)
                return false;
        return true;
    }
    rq_tensor x, y;
    if (rq_coreml_tensor(w->m, &x, a, NULL))
        return false;
    if (rq_coreml_tensor(w->m, &y, b, NULL)) {
        rq_tensor_release(&x);
        return false;
    }
    const bool same = x.bytes == y.bytes && !memcmp(x.data, y.data, x.bytes);
    rq_tensor_release(&x);
    rq_tensor_release(&y);
    return same;
}

static bool same_arg(const rq_flow *w, const rq_flow_op *a, const rq_flow_op *b, const rq_flow_arg *x)
{
    for (int i = 0; i < b->n_args; i++) {
        const rq_flow_arg *y = &b->args[i];
        if (strcmp(x->param, y->param) != 0)
            continue;
        if (x->n != y->n)
            return false;
        for (int k = 0; k < x->n; k++) {
            if (x->value[k] == y->value[k] && x->value[k])
                continue;
            const rq_mil_value *p = x->value[k] ? x->value[k]->val : rq_mil_op_arg(a->op, x->param)->binding[k].value;
            const rq_mil_value *q = y->value[k] ? y->value[k]->val : rq_mil_op_arg(b->op, y->param)->binding[k].value;
            if (!p || !q || !rq_flow_same_const(w, p, q))
                return false;
        }
        return true;
    }
    return false;
}

static bool are_equal(const rq_flow *w, const rq_flow_op *a, const rq_flow_op *b)
{
    const int blocks = (a->op ? a->op->n_blocks : 0) + (b->op ? b->op->n_blocks : 0);
    if (strcmp(a->type, b->type) != 0 || a->n_args != b->n_args || blocks || !strncmp(a->type, "random", 6) ||
        a->n_outputs != 1 || b->n_outputs != 1)
        return false;
    const int attrs = (a->op ? a->op->n_attrs : 1) + (b->op ? b->op->n_attrs : 1);
    if (attrs > 2) /* settings that are attributes: left alone */
        return false;
    for (int i = 0; i < a->n_args; i++)
        if (!same_arg(w, a, b, &a->args[i]))
            return false;
    return true;
}

static int by_place(const void *a, const void *b)
{
    const rq_flow_op *x = *(rq_flow_op *const *)a, *y = *(rq_flow_op *const *)b;
    return (x->at > y->at) - (x->at < y->at);
}

/* Among users of one type: each against those behind it. */
static bool merge_group(rq_flow *w, rq_flow_op **ops, int n, bool *changed)
{
    for (int i = 0; i < n; i++) {
        if (ops[i]->removed)
            continue;
        for (int k = i + 1; k < n; k++) {
            if (ops[k]->removed || ops[k] == ops[i] || rq_flow_is_output(w, ops[k]->outputs[0]) ||
                !are_equal(w, ops[i], ops[k]))
                continue;
            if (!rq_flow_replace(w, ops[k], NULL, ops[k]->outputs[0], ops[i]->outputs[0]))
                return false;
            rq_flow_remove(w, ops[k]);
            *changed = true;
        }
    }
    return true;
}

static bool merge_users(rq_flow *w, const rq_flow_value *v, bool *changed)
{
    const int n = v->n_users;
    if (n < 2)
        return true;
    rq_flow_op **users = rq_arena_alloc(&w->a, (size_t)n, sizeof *users),
               **group = rq_arena_alloc(&w->a, (size_t)n, sizeof *group);
    if (!users || !group)
        return false;
    memcpy(users, v->users, (size_t)n * sizeof *users);
    for (int i = 0; i < n; i++) {
        int n_group = 0;
        bool inner = false;
        if (!users[i])
            continue;
        const char *type = users[i]->type;
        for (int k = i; k < n; k++)
            if (users[k] && !strcmp(users[k]->type, type)) {
                inner |= users[k]->within != NULL;
                group[n_group++] = users[k];
                users[k] = NULL;
            }
        if (inner || n_group < 2 || !strcmp(type, "const"))
            continue;
        qsort(group, (size_t)n_group, sizeof *group, by_place);
        if (!merge_group(w, group, n_group, changed))
            return false;
    }
    return true;
}

bool rq_flow_merge_equal(rq_flow *w)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; i < w->n_inputs; i++)
            if (!merge_users(w, w->inputs[i], &changed))
                return false;
        rq_flow_op **list = rq_flow_list(w);
        if (!list)
            return false;
        for (; *list; list++) {
            rq_flow_op *op = *list;
            if (!op->removed && op->n_outputs && strcmp(op->type, "const") != 0 &&
                !merge_users(w, op->outputs[0], &changed))
                return false;
        }
    }
    return true;
}

/* ---- dead operations ---- */

static void mark(const rq_flow_op *op)
{
    for (int i = 0; i < op->n_args; i++)
        for (int k = 0; k < op->args[i].n; k++)
            if (op->args[i].value[k])
                op->args[i].value[k]->used = true;
}

void rq_flow_drop_dead(rq_flow *w)
{
    for (rq_flow_op *op = w->first; op; op = op->next)
        for (int i = 0; i < op->n_outputs; i++)
            op->outputs[i]->used = false;
    for (int i = 0; i < w->n_outputs; i++)
        w->outputs[i]->used = true;
    for (rq_flow_op *op = w->last, *prev; op; op = prev) {
        bool used = !op->n_outputs || !strcmp(op->type, "write_state") || !strcmp(op->type, "coreml_update_state");
        prev = op->prev;
        for (int i = 0; i < op->n_outputs; i++)
            used |= op->outputs[i]->used;
        if (!used) {
            rq_flow_remove(w, op);
            continue;
        }
        mark(op);
        for (int i = 0; i < op->n_inner; i++)
            mark(op->inner[i]);
    }
}

/* ---- casts and transposes ---- */

/* A new one in front of its first user, or at the end. */
static rq_flow_op *move_one(rq_flow *w, rq_flow_op *op)
{
    rq_flow_op *before = NULL;
    rq_flow_value *old = op->outputs[0];
    for (int i = 0; i < old->n_users; i++) {
        rq_flow_op *user = old->users[i]->within ? old->users[i]->within : old->users[i];
        if (!before || user->at < before->at)
            before = user;
    }
    rq_flow_op *now = rq_flow_make(w, op->type, NULL);
    bool ok = now != NULL;
    for (int i = 0; ok && i < op->n_args; i++) {
        const rq_flow_arg *arg = &op->args[i];
        ok = arg->n == 1 && arg->value[0] && rq_flow_bind(w, now, arg->param, arg->value[0]);
    }
    rq_flow_value *v = ok ? rq_flow_place(w, now, old->type, before) : NULL;
    if (!v)
        return NULL;
    v->name = old->name;
    if (!rq_flow_replace(w, op, NULL, old, v))
        return NULL;
    rq_flow_remove(w, op);
    return now;
}

static bool can_move(const rq_flow_op *op)
{
    if ((strcmp(op->type, "cast") != 0 && strcmp(op->type, "transpose") != 0) || op->n_outputs != 1)
        return false;
    for (int i = 0; i < op->n_args; i++)
        if (op->args[i].n != 1 || !op->args[i].value[0])
            return false;
    return true;
}

bool rq_flow_move_late(rq_flow *w)
{
    for (rq_flow_op *op = w->last, *prev; op; op = prev) {
        prev = op->prev;
        if (can_move(op) && !move_one(w, op))
            return false;
    }
    return true;
}

/* ---- names ---- */

typedef struct seen {
    const char **slot;
    size_t n_slots;
    rq_arena *a;
} seen;

static bool seen_room(seen *s, size_t n)
{
    s->n_slots = 64;
    while (s->n_slots < n * 2 + 2)
        s->n_slots *= 2;
    return (s->slot = rq_arena_alloc(s->a, s->n_slots, sizeof *s->slot)) != NULL;
}

static const char **seen_at(const seen *s, const char *name)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (const char *p = name; *p; p++)
        h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    size_t i = (size_t)(h ^ h >> 29) & (s->n_slots - 1);
    while (s->slot[i] && strcmp(s->slot[i], name) != 0)
        i = (i + 1) & (s->n_slots - 1);
    return &s->slot[i];
}

/* `name`, or the first of "<name>_1", "<name>_2" ... that is free; now taken. NULL: memory is out. */
static const char *take(rq_flow *w, const seen *s, const char *name)
{
    const char **at = seen_at(s, name);
    if (*at) {
        const size_t n = strlen(name) + 22;
        char *other = rq_arena_alloc(&w->m->program.arena, n, 1);
        if (!other)
            return NULL;
        for (int64_t k = 1;; k++) {
            snprintf(other, n, "%s_%" PRId64, name, k);
            at = seen_at(s, other);
            if (!*at)
                break;
        }
        name = other;
    }
    *at = name;
    return name;
}

bool rq_flow_unique_names(rq_flow *w)
{
    seen values = { .a = &w->a }, ops = { .a = &w->a };
    size_t n = (size_t)w->n_inputs + (size_t)w->n_outputs + (size_t)w->n_inner_names, n_ops = 0;
    for (const rq_flow_op *op = w->first; op; op = op->next, n_ops++)
        n += (size_t)op->n_outputs;
    if (!seen_room(&values, n) || !seen_room(&ops, n_ops))
        return false;
    for (int i = 0; i < w->n_inputs; i++)
        *seen_at(&values, w->inputs[i]->name) = w->inputs[i]->name;
    for (int i = 0; i < w->n_outputs; i++)
        *seen_at(&values, w->outputs[i]->name) = w->outputs[i]->name;
    for (int i = 0; i < w->n_inner_names; i++)
        *seen_at(&values, w->inner_names[i]) = w->inner_names[i];
    for (rq_flow_op *op = w->first; op; op = op->next) {
        if (*op->name && !(op->name = take(w, &ops, op->name)))
            return false;
        for (int i = 0; i < op->n_outputs; i++) {
            rq_flow_value *v = op->outputs[i];
            if (!rq_flow_is_output(w, v) && !(v->name = take(w, &values, v->name)))
                return false;
        }
    }
    return true;
}
