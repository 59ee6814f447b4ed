/* formats/mil_walk.c — every operation and every value of a program, in its order. */
#include "formats/mil.h"

typedef struct walk {
    rq_mil_value_fn value; /* or NULL */
    rq_mil_op_fn op;       /* or NULL */
    void *arg;
    const rq_mil_function *function;
    rq_err *err;
} walk;

static rq_status visit(const walk *w, const rq_mil_value *v)
{
    return w->value && v ? w->value(w->arg, v, w->err) : RQ_OK;
}

static rq_status walk_attrs(const walk *w, const rq_mil_attr *attrs, int n)
{
    for (int i = 0; i < n; i++)
        RQ_TRY(visit(w, attrs[i].value));
    return RQ_OK;
}

static rq_status walk_block(const walk *w, const rq_mil_block *b);

static rq_status walk_op(const walk *w, const rq_mil_op *op)
{
    if (w->op)
        RQ_TRY(w->op(w->arg, w->function, op, w->err));
    RQ_TRY(walk_attrs(w, op->attrs, op->n_attrs));
    for (int i = 0; i < op->n_args; i++)
        for (int k = 0; k < op->args[i].n; k++)
            RQ_TRY(visit(w, op->args[i].binding[k].value));
    for (int i = 0; i < op->n_blocks; i++)
        RQ_TRY(walk_block(w, op->blocks[i]));
    return RQ_OK;
}

static rq_status walk_block(const walk *w, const rq_mil_block *b)
{
    RQ_TRY(walk_attrs(w, b->attrs, b->n_attrs));
    for (int i = 0; i < b->n_ops; i++)
        RQ_TRY(walk_op(w, b->ops[i]));
    return RQ_OK;
}

static rq_status walk_program(walk *w, const rq_mil_program *p)
{
    RQ_TRY(walk_attrs(w, p->attrs, p->n_attrs));
    for (int i = 0; i < p->n_functions; i++) {
        const rq_mil_function *f = w->function = p->functions[i];
        RQ_TRY(walk_attrs(w, f->attrs, f->n_attrs));
        for (int k = 0; k < f->n_special; k++)
            RQ_TRY(walk_block(w, f->special[k].block));
    }
    return RQ_OK;
}

rq_status rq_mil_each_value(const rq_mil_program *p, rq_mil_value_fn fn, void *arg, rq_err *err)
{
    walk w = { .value = fn, .arg = arg, .err = err };
    return walk_program(&w, p);
}

rq_status rq_mil_each_op(const rq_mil_program *p, rq_mil_op_fn fn, void *arg, rq_err *err)
{
    walk w = { .op = fn, .arg = arg, .err = err };
    return walk_program(&w, p);
}
