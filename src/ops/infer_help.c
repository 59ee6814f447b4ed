/* ops/infer_help.c — what infer and forward functions share: sentences that begin with the node, and sizes that may be unknown or
 * symbolic. */
#include <stdio.h>
#include <string.h>

#include "ops/content.h"
#include "ops/op.h"

/* ---- sentences ---- */

/* "node 'conv1' (Conv)"; a nameless node goes by its first named output. */
static void name_node(const rq_graph *g, const rq_node *n, char *buf, size_t size)
{
    const char *name = n->name;
    for (int i = 0; (!name || !name[0]) && i < n->n_out; i++)
        if (n->out[i] != RQ_NONE)
            name = g->values[n->out[i]].name;
    snprintf(buf, size, "node '%.120s' (%.40s)", name ? name : "", n->op ? n->op : "removed");
}

static rq_status fail_at(const rq_graph *g, const rq_node *n, rq_err *err, rq_status code, const char *fmt, va_list ap)
{
    char who[192], what[320];
    if (!err)
        return code;
    name_node(g, n, who, sizeof who);
    vsnprintf(what, sizeof what, fmt, ap);
    return rq_fail(err, code, "%s: %s", who, what);
}

rq_status(rq_infer_fail)(const rq_infer *a, rq_status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    rq_status s = fail_at(a->graph, a->node, a->err, code, fmt, ap);
    va_end(ap);
    return s;
}

rq_status(rq_op_fail)(const rq_op_args *a, rq_status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    rq_status s = fail_at(a->graph, a->node, a->err, code, fmt, ap);
    va_end(ap);
    return s;
}

rq_status rq_node_fail(const rq_graph *g, const rq_node *n, rq_err *err, rq_status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    rq_status s = fail_at(g, n, err, code, fmt, ap);
    va_end(ap);
    return s;
}

/* ---- helpers of infer functions ---- */

rq_status rq_infer_same(const rq_infer *a)
{
    for (int i = 0; i < a->n_out; i++) {
        a->out_dtype[i] = a->in[0]->dtype;
        a->out_shape[i] = a->in[0]->shape;
    }
    return RQ_OK;
}

rq_status rq_infer_one_type(const rq_infer *a, int from, int to)
{
    const rq_dtype want = a->in[0]->dtype;
    for (int i = from; i < to && i < a->n_in; i++) {
        const rq_dtype d = a->in[i] ? a->in[i]->dtype : RQ_DTYPE_NONE;
        if (d != RQ_DTYPE_NONE && want != RQ_DTYPE_NONE && d != want)
            return rq_infer_fail(a, RQ_BAD_DTYPE, "input %d is %s, expected %s as input 0", i, rq_dtype_name(d),
                                 rq_dtype_name(want));
    }
    return RQ_OK;
}

bool rq_infer_dim_join(int64_t *dim, int64_t other)
{
    if (*dim >= 0 && other >= 0)
        return *dim == other;
    if (other >= 0 || *dim == RQ_DIM_UNKNOWN)
        *dim = other;
    return true;
}

int64_t rq_infer_dim_mul(int64_t a, int64_t b)
{
    int64_t r;
    if (a == 0 || b == 0)
        return 0;
    if (a == 1 || b == 1)
        return a == 1 ? b : a;
    return a < 0 || b < 0 || __builtin_mul_overflow(a, b, &r) ? RQ_DIM_UNKNOWN : r;
}

int64_t rq_infer_dim_add(int64_t a, int64_t b)
{
    int64_t r;
    if (a == 0 || b == 0)
        return a == 0 ? b : a;
    return a < 0 || b < 0 || __builtin_add_overflow(a, b, &r) ? RQ_DIM_UNKNOWN : r;
}

/* One axis of a broadcast. A size that is not known may be 1, so it decides nothing against a known one but 1. */
static bool broadcast_dim(int64_t a, int64_t b, int64_t *out)
{
    if (a == 1 || b == 1)
        *out = a == 1 ? b : a;
    else if (a >= 0 && b >= 0)
        *out = a;
    else if (a >= 0 || b >= 0)
        *out = a >= 0 ? a : b;
    else
        *out = a == b ? a : RQ_DIM_UNKNOWN;
    return a < 0 || b < 0 || a == b || a == 1 || b == 1;
}

bool rq_infer_broadcast_shapes(const rq_shape *a, const rq_shape *b, rq_shape *out)
{
    if (a->rank < 0 || b->rank < 0) {
        *out = rq_shape_unknown();
        return true;
    }
    rq_shape r = { .rank = a->rank > b->rank ? a->rank : b->rank };
    for (int i = 0; i < r.rank; i++) {
        int ia = i - (r.rank - a->rank), ib = i - (r.rank - b->rank);
        if (!broadcast_dim(ia < 0 ? 1 : a->dim[ia], ib < 0 ? 1 : b->dim[ib], &r.dim[i]))
            return false;
    }
    *out = r;
    return true;
}

/* Before opset 7, attribute `axis` said where the second operand's axes stand (rq_upgrade_old asks this once). */
static rq_shape aligned(const rq_infer *a, const rq_shape *b)
{
    rq_shape s = *b;
    if (!a->node->n_attr || !rq_attr_int(a->node, RQ_WORD_broadcast, 0) || !rq_attr_find(a->node, RQ_WORD_axis))
        return s;
    const int rank = a->in[0]->shape.rank,
              axis = rank < 0 ? -1 : rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), rank);
    if (axis >= 0 && s.rank >= 0)
        while (axis + s.rank < rank)
            s.dim[s.rank++] = 1;
    return s;
}

rq_status rq_infer_broadcast(const rq_infer *a)
{
    char x[RQ_SHAPE_TEXT], y[RQ_SHAPE_TEXT];
    a->out_dtype[0] = a->in[0]->dtype;
    a->out_shape[0] = a->in[0]->shape;
    for (int i = 1; i < a->n_in; i++) {
        rq_shape sum;
        if (!a->in[i])
            continue;
        const rq_shape other = aligned(a, &a->in[i]->shape);
        if (!rq_infer_broadcast_shapes(&a->out_shape[0], &other, &sum))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d has shape %s, which does not broadcast with %s", i,
                                 rq_shape_text(&a->in[i]->shape, x, sizeof x),
                                 rq_shape_text(&a->out_shape[0], y, sizeof y));
        a->out_shape[0] = sum;
    }
    return RQ_OK;
}

int rq_infer_ints(const rq_infer *a, int i, int64_t *out, int cap)
{
    const rq_tensor *t = i < a->n_in ? a->in[i] : NULL;
    if (!t || !t->data || (t->dtype != RQ_DTYPE_S64 && t->dtype != RQ_DTYPE_S32))
        return -1;
    if (!rq_shape_is_known(&t->shape) || rq_tensor_count(t) > cap)
        return -1;
    int n = (int)rq_tensor_count(t);
    for (int k = 0; k < n; k++)
        out[k] = rq_tensor_get_int(t, k);
    return n;
}

int rq_infer_ints_part(const rq_infer *a, int i, int64_t *v, int64_t *sym, int cap)
{
    int n = rq_infer_ints(a, i, v, cap);
    if (n >= 0) {
        memset(sym, 0, (size_t)n * sizeof *sym);
        return n;
    }
    const rq_tensor *t = i < a->n_in && a->in_part ? a->in_part[i] : NULL;
    if (!t || rq_tensor_count(t) > cap)
        return -1;
    n = (int)rq_tensor_count(t);
    for (int k = 0; k < n; k++) {
        v[k] = t->s64[k];
        sym[k] = rq_content_dim(v[k]);
    }
    return n;
}

int rq_infer_axis(int64_t axis, int rank)
{
    return axis < -rank || axis >= rank ? -1 : (int)(axis < 0 ? axis + rank : axis);
}
