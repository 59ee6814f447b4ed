/* formats/mil_check.c — the names of a program: what is used was defined before it, in the block or around it, and once.
 *
 * One table of names for a function, with a stack: leaving a block takes its names out again, so blocks beside each
 * other may use the same ones. */
#include "formats/mil.h"

#include <string.h>

typedef struct names {
    const char **slot; /* open addressing, NULL: free */
    size_t n_slots;    /* a power of two */
    const char **stack;
    int n, cap;
    rq_err *err;
} names;

static size_t hash(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 0x100000001b3u;
    return (size_t)(h ^ h >> 29);
}

static size_t find(const names *t, const char *name)
{
    size_t i = hash(name) & (t->n_slots - 1);
    while (t->slot[i] && strcmp(t->slot[i], name) != 0)
        i = (i + 1) & (t->n_slots - 1);
    return i;
}

static bool rehash(names *t, size_t n_slots)
{
    const char **slot = rq_mem_zalloc(n_slots, sizeof *slot);
    if (!slot)
        return false;
    rq_mem_free(t->slot);
    t->slot = slot;
    t->n_slots = n_slots;
    for (int i = 0; i < t->n; i++)
        t->slot[find(t, t->stack[i])] = t->stack[i];
    return true;
}

static rq_status define(names *t, const char *name)
{
    if ((size_t)t->n * 2 + 2 > t->n_slots && !rehash(t, t->n_slots ? t->n_slots * 2 : 256))
        return rq_fail(t->err, RQ_NO_MEMORY, "not enough memory to check the program");
    const size_t i = find(t, name);
    if (t->slot[i])
        return rq_fail(t->err, RQ_BAD_FILE, "value '%.100s' is defined twice", name);
    if (!rq_mem_grow(&t->stack, t->n, &t->cap, sizeof *t->stack))
        return rq_fail(t->err, RQ_NO_MEMORY, "not enough memory to check the program");
    t->stack[t->n++] = t->slot[i] = name;
    return RQ_OK;
}

static void take_out(names *t, const char *name)
{
    size_t hole = find(t, name);
    t->slot[hole] = NULL;
    for (size_t i = (hole + 1) & (t->n_slots - 1); t->slot[i]; i = (i + 1) & (t->n_slots - 1)) {
        const size_t home = hash(t->slot[i]) & (t->n_slots - 1); /* those behind may have been pushed past the hole */
        if (((i - home) & (t->n_slots - 1)) >= ((i - hole) & (t->n_slots - 1))) {
            t->slot[hole] = t->slot[i];
            t->slot[i] = NULL;
            hole = i;
        }
    }
}

static void leave(names *t, int n)
{
    while (t->n > n)
        take_out(t, t->stack[--t->n]);
}

static rq_status need(const names *t, const char *name)
{
    return t->n_slots && t->slot[find(t, name)]
               ? RQ_OK
               : rq_fail(t->err, RQ_BAD_FILE, "uses value '%.100s', which is not defined before it", name);
}

static rq_status check_block(names *t, const rq_mil_block *b);

static rq_status check_op(names *t, const rq_mil_op *op)
{
    for (int i = 0; i < op->n_args; i++)
        for (int k = 0; k < op->args[i].n; k++)
            if (op->args[i].binding[k].name)
                RQ_TRY(need(t, op->args[i].binding[k].name));
    for (int i = 0; i < op->n_blocks; i++) {
        const int n = t->n;
        RQ_TRY(check_block(t, op->blocks[i]));
        leave(t, n);
    }
    for (int i = 0; i < op->n_outputs; i++)
        RQ_TRY(define(t, op->outputs[i].name));
    return RQ_OK;
}

static rq_status check_block(names *t, const rq_mil_block *b)
{
    for (int i = 0; i < b->n_inputs; i++)
        RQ_TRY(define(t, b->inputs[i].name));
    for (int i = 0; i < b->n_ops; i++) {
        const rq_mil_op *op = b->ops[i];
        const rq_status st = check_op(t, op);
        if (st)
            return rq_fail_in(t->err, st, "operation '%.100s' (%.60s)",
                              op->n_outputs ? op->outputs[0].name : rq_mil_op_name(op), op->type);
    }
    for (int i = 0; i < b->n_outputs; i++)
        if (need(t, b->outputs[i]))
            return rq_fail(t->err, RQ_BAD_FILE, "output '%.100s' of a block is not defined in it", b->outputs[i]);
    return RQ_OK;
}

rq_status rq_mil_check(const rq_mil_program *p, rq_err *err)
{
    rq_status st = RQ_OK;
    for (int i = 0; !st && i < p->n_functions; i++) {
        const rq_mil_function *f = p->functions[i];
        for (int s = 0; !st && s < f->n_special; s++) {
            names t = { .err = err };
            for (int k = 0; !st && k < f->n_inputs; k++)
                st = define(&t, f->inputs[k].name);
            if (!st)
                st = check_block(&t, f->special[s].block);
            rq_mem_free(t.slot);
            rq_mem_free(t.stack);
        }
        if (st)
            rq_fail_in(err, st, "function '%.100s'", f->name);
    }
    return st;
}
