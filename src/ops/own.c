/* ops/own.c — a program's own operators (requant/own.h) as rows of the table: each entry is an rq_op whose functions hand
 * the call on. Binding asks the table first and the graph's set after it, so nothing of the library is replaced. */
#include "graph/own.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "ops/op.h"

/* What stands behind node->row: the row first, so that one pointer is both. */
typedef struct rq_own_row {
    rq_op row;
    rq_own_op op;
} rq_own_row;

struct rq_own_node {
    const rq_graph *graph;
    const rq_node *node;
    rq_threads *threads;
    rq_err *err;
};

static const rq_own_op *own_op(const rq_node *n)
{
    return &((const rq_own_row *)n->row)->op;
}

/* A function of the program failed without a sentence: say at least which node it was. */
static rq_status told(const rq_own_call *c, rq_status s)
{
    const rq_err *err = c->node->err;
    return s == RQ_OK || (err && err->text[0]) ? s : rq_own_fail(c, s, "%s", rq_status_text(s));
}

static rq_status own_infer(const rq_infer *a)
{
    const struct rq_own_node node = { a->graph, a->node, NULL, a->err };
    const rq_own_call c = { .in = a->in, .n_in = a->n_in, .n_out = a->n_out, .node = &node };
    const rq_own_op *op = own_op(a->node);
    RQ_TRY(told(&c, op->infer(op->user, &c, a->out_dtype, a->out_shape)));
    for (int i = 0; i < a->n_out; i++)
        if (a->out_shape[i].rank < RQ_RANK_UNKNOWN || a->out_shape[i].rank > RQ_MAX_RANK ||
            (unsigned)a->out_dtype[i] >= RQ_N_DTYPES)
            return rq_infer_fail(a, RQ_BAD_GRAPH, "the operator's own inference gave output %d rank %d and type %d", i,
                                 a->out_shape[i].rank, (int)a->out_dtype[i]);
    return RQ_OK;
}

static rq_status own_forward(const rq_op_args *a)
{
    const struct rq_own_node node = { a->graph, a->node, a->threads, a->err };
    const rq_own_call c = { .in = a->in, .n_in = a->n_in, .n_out = a->n_out, .node = &node };
    const rq_own_op *op = own_op(a->node);
    if (a->err)
        a->err->text[0] = 0;
    return told(&c, op->forward(op->user, &c, a->out));
}

/* ---- what the program's functions may ask ---- */

int64_t rq_own_attr_int(const rq_own_call *c, const char *name, int64_t fallback)
{
    return rq_attr_as_int(rq_attr_named(c->node->node, name), fallback);
}

float rq_own_attr_float(const rq_own_call *c, const char *name, float fallback)
{
    return rq_attr_as_float(rq_attr_named(c->node->node, name), fallback);
}

const char *rq_own_attr_string(const rq_own_call *c, const char *name, const char *fallback)
{
    return rq_attr_as_string(rq_attr_named(c->node->node, name), fallback);
}

const int64_t *rq_own_attr_ints(const rq_own_call *c, const char *name, int *n)
{
    return rq_attr_as_ints(rq_attr_named(c->node->node, name), n);
}

const float *rq_own_attr_floats(const rq_own_call *c, const char *name, int *n)
{
    return rq_attr_as_floats(rq_attr_named(c->node->node, name), n);
}

const rq_tensor *rq_own_attr_tensor(const rq_own_call *c, const char *name)
{
    return rq_attr_as_tensor(rq_attr_named(c->node->node, name));
}

rq_status rq_own_fail(const rq_own_call *c, rq_status code, const char *fmt, ...)
{
    char what[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return rq_node_fail(c->node->graph, c->node->node, c->node->err, code, "%s", what);
}

void rq_own_parallel(const rq_own_call *c, int64_t n, void (*fn)(void *arg, int64_t i), void *arg)
{
    rq_threads_for(c->node->threads, n, fn, arg);
}

/* ---- the set ---- */

static bool is_default_domain(const char *domain)
{
    return !domain || !domain[0] || !strcmp(domain, "ai.onnx");
}

const rq_op *rq_own_find(const rq_own *o, const char *domain, const char *name)
{
    for (int i = 0; o && i < o->n_ops; i++)
        if (!strcmp(o->op[i]->op.domain, domain ? domain : "") && !strcmp(o->op[i]->op.name, name))
            return &o->op[i]->row;
    return NULL;
}

static rq_status check_op(const rq_own *o, const rq_own_op *op, rq_err *err)
{
    if (!op->name || !op->name[0])
        return rq_fail(err, RQ_BAD_ARG, "an operator of one's own needs a name");
    if (is_default_domain(op->domain))
        return rq_fail(err, RQ_BAD_ARG, "operator '%s' needs a domain of its own, such as com.example", op->name);
    if (!op->infer || !op->forward)
        return rq_fail(err, RQ_BAD_ARG, "operator '%s' needs both infer and forward", op->name);
    if (op->min_in < 0 || (op->max_in >= 0 && op->max_in < op->min_in) || op->max_in < -1 || op->n_out < 1)
        return rq_fail(err, RQ_BAD_ARG, "operator '%s' takes %d to %d inputs and gives %d outputs, which cannot be",
                       op->name, op->min_in, op->max_in, op->n_out);
    if (op->elementwise && (op->min_in != 1 || op->max_in != 1 || op->n_out != 1))
        return rq_fail(err, RQ_BAD_ARG, "operator '%s' is said to be elementwise, but has not one input and one output",
                       op->name);
    if (rq_op_find(op->domain, op->name) || rq_own_find(o, op->domain, op->name))
        return rq_fail(err, RQ_BAD_ARG, "operator '%s' of domain '%s' is there already", op->name, op->domain);
    return RQ_OK;
}

rq_status rq_own_add_op(rq_own *o, const rq_own_op *op, rq_err *err)
{
    RQ_TRY(check_op(o, op, err));
    const char *name = rq_arena_strndup(&o->names, op->name, strlen(op->name));
    const char *domain = rq_arena_strndup(&o->names, op->domain, strlen(op->domain));
    rq_own_row *r = rq_mem_zalloc(1, sizeof *r);
    if (!name || !domain || !r || !rq_mem_grow(&o->op, o->n_ops, &o->cap_ops, sizeof *o->op)) {
        rq_mem_free(r);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory adding operator '%s'", op->name);
    }
    r->op = *op;
    r->op.name = name;
    r->op.domain = domain;
    r->row = (rq_op) {
        .name = name,
        .domain = domain,
        .since = 1,
        .known = INT_MAX,
        .min_in = op->min_in,
        .max_in = op->max_in,
        .min_out = 1,
        .max_out = op->n_out,
        .flags = op->elementwise ? RQ_OP_TABLE : 0,
        .place = op->elementwise ? RQ_PLACE_OWN : RQ_PLACE_FLOAT,
        .infer = own_infer,
        .forward = own_forward,
    };
    o->op[o->n_ops++] = r;
    return RQ_OK;
}

rq_status rq_own_attach(rq_graph *g, rq_own *o, rq_err *err)
{
    rq_graph *work;
    if (rq_graph_copy(&work, g))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory copying the graph");
    rq_own_unref(&work->own);
    work->own = rq_own_ref(o);
    rq_ops_bind(work);
    rq_status st = rq_ops_check(work, false, err);
    if (st == RQ_OK)
        st = rq_ops_infer(work, err);
    if (st == RQ_OK)
        rq_graph_swap(g, work);
    rq_graph_destroy(work);
    return st;
}
