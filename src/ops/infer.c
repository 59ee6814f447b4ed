/* ops/infer.c — types and shapes of every value of a graph, from its inputs and constants: one walk in order, a call
 * of each row's infer function, and beside it the content of small tensors (ops/content.h).
 *
 * What follows from the inputs wins over what the file states about values between nodes. Where nothing follows,
 * the statement is used; when a node then cannot work, the walk is done again without statements, so that a
 * stale one never refuses a good model. */
#include "ops/op.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "graph/own.h"
#include "ops/content.h"

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
    if (!a->node->n_attr || !rq_attr_int(a->node, "broadcast", 0) || !rq_attr_find(a->node, "axis"))
        return s;
    const int rank = a->in[0]->shape.rank, axis = rank < 0 ? -1 : rq_infer_axis(rq_attr_int(a->node, "axis", 0), rank);
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

/* ---- binding and checking ---- */

static void each_subgraph(const rq_node *n, void (*fn)(void *arg, rq_graph *g), void *arg)
{
    for (int i = 0; i < n->n_attr; i++)
        if (n->attr[i].type == RQ_ATTR_GRAPH || n->attr[i].type == RQ_ATTR_GRAPHS)
            for (int k = 0; k < n->attr[i].n; k++)
                if (n->attr[i].g && n->attr[i].g[k])
                    fn(arg, n->attr[i].g[k]);
}

static void bind_sub(void *arg, rq_graph *g)
{
    rq_ops_bind(g);
}

void rq_ops_bind(rq_graph *g)
{
    const rq_graph *top = g;
    while (top->outer)
        top = top->outer;
    const rq_own *own = top->own;
    for (int i = 0; i < g->n_nodes; i++) {
        rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        n->row = rq_op_find(n->domain, n->op);
        if (!n->row && own)
            n->row = rq_own_find(own, n->domain, n->op);
        each_subgraph(n, bind_sub, NULL);
    }
}

/* ONNX gives an attribute name one type wherever it occurs (those it does not are left out). */
static const struct attr_type {
    const char *name;
    rq_attr_type type;
} attr_types[] = {
    { "activation_alpha", RQ_ATTR_FLOATS },
    { "activation_beta", RQ_ATTR_FLOATS },
    { "activations", RQ_ATTR_STRINGS },
    { "align_corners", RQ_ATTR_INT },
    { "allowzero", RQ_ATTR_INT },
    { "alpha", RQ_ATTR_FLOAT },
    { "antialias", RQ_ATTR_INT },
    { "auto_pad", RQ_ATTR_STRING },
    { "axes", RQ_ATTR_INTS },
    { "axis", RQ_ATTR_INT },
    { "batch_axis", RQ_ATTR_INT },
    { "batch_dims", RQ_ATTR_INT },
    { "beta", RQ_ATTR_FLOAT },
    { "block_size", RQ_ATTR_INT },
    { "blocksize", RQ_ATTR_INT },
    { "body", RQ_ATTR_GRAPH },
    { "ceil_mode", RQ_ATTR_INT },
    { "clip", RQ_ATTR_FLOAT },
    { "coordinate_transformation_mode", RQ_ATTR_STRING },
    { "count_include_pad", RQ_ATTR_INT },
    { "cubic_coeff_a", RQ_ATTR_FLOAT },
    { "dilations", RQ_ATTR_INTS },
    { "direction", RQ_ATTR_STRING },
    { "else_branch", RQ_ATTR_GRAPH },
    { "epsilon", RQ_ATTR_FLOAT },
    { "equation", RQ_ATTR_STRING },
    { "exclude_outside", RQ_ATTR_INT },
    { "exclusive", RQ_ATTR_INT },
    { "extrapolation_value", RQ_ATTR_FLOAT },
    { "fmod", RQ_ATTR_INT },
    { "gamma", RQ_ATTR_FLOAT },
    { "group", RQ_ATTR_INT },
    { "hidden_size", RQ_ATTR_INT },
    { "input_forget", RQ_ATTR_INT },
    { "keepdims", RQ_ATTR_INT },
    { "kernel_shape", RQ_ATTR_INTS },
    { "lambd", RQ_ATTR_FLOAT },
    { "largest", RQ_ATTR_INT },
    { "layout", RQ_ATTR_INT },
    { "linear_before_reset", RQ_ATTR_INT },
    { "max", RQ_ATTR_FLOAT },
    { "min", RQ_ATTR_FLOAT },
    { "mode", RQ_ATTR_STRING },
    { "momentum", RQ_ATTR_FLOAT },
    { "nearest_mode", RQ_ATTR_STRING },
    { "noop_with_empty_axes", RQ_ATTR_INT },
    { "num_outputs", RQ_ATTR_INT },
    { "num_scan_inputs", RQ_ATTR_INT },
    { "output_dtype", RQ_ATTR_INT },
    { "output_padding", RQ_ATTR_INTS },
    { "output_shape", RQ_ATTR_INTS },
    { "pads", RQ_ATTR_INTS },
    { "perm", RQ_ATTR_INTS },
    { "reduction", RQ_ATTR_STRING },
    { "reverse", RQ_ATTR_INT },
    { "saturate", RQ_ATTR_INT },
    { "select_last_index", RQ_ATTR_INT },
    { "sorted", RQ_ATTR_INT },
    { "split", RQ_ATTR_INTS },
    { "storage_order", RQ_ATTR_INT },
    { "strides", RQ_ATTR_INTS },
    { "then_branch", RQ_ATTR_GRAPH },
    { "time_axis", RQ_ATTR_INT },
    { "to", RQ_ATTR_INT },
    { "transA", RQ_ATTR_INT },
    { "transB", RQ_ATTR_INT },
    { "upper", RQ_ATTR_INT },
};

static const char *attr_type_text(rq_attr_type t)
{
    static const char *const text[] = {
        [RQ_ATTR_NONE] = "nothing",
        [RQ_ATTR_FLOAT] = "a float",
        [RQ_ATTR_INT] = "an integer",
        [RQ_ATTR_STRING] = "a string",
        [RQ_ATTR_TENSOR] = "a tensor",
        [RQ_ATTR_GRAPH] = "a graph",
        [RQ_ATTR_FLOATS] = "a list of floats",
        [RQ_ATTR_INTS] = "a list of integers",
        [RQ_ATTR_STRINGS] = "a list of strings",
        [RQ_ATTR_TENSORS] = "a list of tensors",
        [RQ_ATTR_GRAPHS] = "a list of graphs",
        [RQ_ATTR_OPAQUE] = "of another kind",
    };
    return (unsigned)t < sizeof text / sizeof text[0] ? text[t] : "of another kind";
}

static rq_status check_attrs(const rq_graph *g, const rq_node *n, rq_err *err)
{
    if (n->row->domain[0]) /* other domains give names other types */
        return RQ_OK;
    for (int i = 0; i < n->n_attr; i++)
        for (size_t k = 0; k < sizeof attr_types / sizeof attr_types[0]; k++)
            if (strcmp(n->attr[i].name, attr_types[k].name) == 0 && n->attr[i].type != attr_types[k].type)
                return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "attribute '%s' is %s, expected %s", n->attr[i].name,
                                    attr_type_text(n->attr[i].type), attr_type_text(attr_types[k].type));
    return RQ_OK;
}

enum { NEWEST = 25 }; /* opset of the default domain whose operators the rows implement */

static rq_status check_node(const rq_graph *g, const rq_node *n, rq_err *err)
{
    const rq_op *row = n->row;
    int64_t opset = rq_graph_opset(g, row->domain);
    if (strcmp(row->domain, "requant") != 0) {
        if (opset < row->since)
            return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "the operator exists from opset %d on, the model imports %lld",
                                row->since, (long long)opset);
        /* an operator that was not taken away is beyond NEWEST what it was then; rq_graph_warnings says so */
        if (opset > row->known && (row->domain[0] || row->known < NEWEST))
            return rq_node_fail(g, n, err, RQ_UNSUPPORTED,
                                "the operator is known up to opset %d, the model imports %lld", row->known,
                                (long long)opset);
    }
    if (row->max_in >= 0 && n->n_in > row->max_in)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "%d inputs, expected at most %d", n->n_in, row->max_in);
    if (n->n_in < row->min_in)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "%d inputs, expected at least %d", n->n_in, row->min_in);
    for (int i = 0; i < row->min_in; i++)
        if (n->in[i] == RQ_NONE)
            return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "input %d is left out, but the operator needs it", i);
    for (int i = row->min_in; row->max_in < 0 && i < n->n_in;
         i++) /* a list of any length has no holes; Loop's begins at 2 */
        if (n->in[i] == RQ_NONE && !(i < 2 && rq_attr_graph(n, "body")))
            return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "input %d is left out of a list", i);
    if (row->max_out >= 0 && n->n_out > row->max_out)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "%d outputs, expected at most %d", n->n_out, row->max_out);
    if (n->n_out < row->min_out)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "%d outputs, expected at least %d", n->n_out, row->min_out);
    RQ_TRY(check_attrs(g, n, err));
    return row->check ? row->check(g, n, opset, err) : RQ_OK;
}

typedef struct check {
    rq_buf missing; /* names of operators without a row, each once */
    int n_missing;
    const char *first; /* name of the first node that has one of them */
    rq_status status;
    rq_err *err;
} check;

static void check_graph(void *arg, rq_graph *g)
{
    check *c = arg;
    for (int i = 0; i < g->n_nodes && c->status == RQ_OK; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        if (n->row) {
            c->status = check_node(g, n, c->err);
        } else {
            char name[128];
            bool plain = !n->domain || !n->domain[0];
            if (plain && !rq_op_name_exists(n->op)) {
                c->status = rq_node_fail(g, n, c->err, RQ_UNSUPPORTED, "there is no such operator");
                return;
            }
            snprintf(name, sizeof name, ", %.48s%s%.64s;", plain ? "" : n->domain, plain ? "" : ".", n->op);
            name[strlen(name) - 1] = 0;
            const char *at = c->missing.data ? strstr(c->missing.data, name) : NULL;
            if (!at || (at[strlen(name)] && at[strlen(name)] != ',')) {
                rq_buf_adds(&c->missing, name);
                if (c->n_missing++ == 0)
                    c->first = n->name ? n->name : "";
            }
        }
        each_subgraph(n, check_graph, c);
    }
}

rq_status rq_ops_check(const rq_graph *g, bool strict, rq_err *err)
{
    check c = { .err = err };
    rq_graph *same = NULL;
    memcpy(&same, &g, sizeof same); /* check_graph changes nothing; each_subgraph hands out what it may change */
    check_graph(&c, same);
    if (c.status == RQ_OK && c.missing.failed)
        c.status = rq_fail(err, RQ_NO_MEMORY, "out of memory while checking operators");
    if (c.status == RQ_OK && strict && c.n_missing)
        c.status = rq_fail(err, RQ_UNSUPPORTED, "the model uses %s not known here: %s (%snode '%.60s')",
                           c.n_missing > 1 ? "operators" : "an operator", c.missing.data + 2,
                           c.n_missing > 1 ? "the first in " : "", c.first);
    rq_buf_release(&c.missing);
    return c.status;
}

/* ---- one node ---- */

/* Computed tensors larger than this are refused before anything is allocated. */
static const size_t max_bytes = (size_t)1 << 36;

static rq_status infer_row(const rq_infer *a)
{
    char text[RQ_SHAPE_TEXT];
    for (int i = 0; i < a->n_out; i++) {
        a->out_dtype[i] = RQ_DTYPE_NONE;
        a->out_shape[i] = rq_shape_unknown();
    }
    if (a->err)
        a->err->text[0] = 0;
    rq_status s = a->node->row->infer(a);
    if (s != RQ_OK)
        return a->err && !a->err->text[0] ? rq_infer_fail(a, s, "%s", rq_status_text(s)) : s;
    for (int i = 0; i < a->n_out; i++) {
        const rq_shape *shape = &a->out_shape[i];
        if (shape->rank < 0 || !rq_shape_is_known(shape))
            continue;
        if (rq_shape_check(shape) || rq_shape_bytes(shape, a->out_dtype[i]) > max_bytes)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "output %d would have shape %s, more than a tensor may hold", i,
                                 rq_shape_text(shape, text, sizeof text));
    }
    return RQ_OK;
}

rq_status rq_ops_infer_node(const rq_graph *g, const rq_node *n, const rq_tensor *const *in, rq_dtype *out_dtype,
                            rq_shape *out_shape, rq_err *err)
{
    if (!n->row)
        return rq_node_fail(g, n, err, RQ_UNSUPPORTED, "the operator is not known here");
    rq_infer a = { .graph = g,
                   .node = n,
                   .opset = rq_graph_opset(g, n->row->domain),
                   .in = in,
                   .n_in = n->n_in,
                   .out_dtype = out_dtype,
                   .out_shape = out_shape,
                   .n_out = n->n_out,
                   .err = err };
    return infer_row(&a);
}

/* ---- the walk ---- */

typedef struct walk {
    rq_graph *g;
    rq_content *known; /* [g->n_values] */
    const struct walk *outer;
    const rq_kernels *k;
    rq_err *err;
} walk;

static rq_status walk_graph(rq_graph *g, const walk *outer, const rq_kernels *k, rq_err *err);

/* What is known before any node: constants, captured values. */
static rq_status start(walk *w)
{
    bool defaults_fixed = w->g->ir_version > 0 && w->g->ir_version < 4; /* there, every initializer is an input */
    for (rq_id i = 0; i < w->g->n_values; i++) {
        rq_value *v = &w->g->values[i];
        if (v->kind == RQ_VALUE_CONST || v->kind == RQ_VALUE_INPUT) {
            if (v->constant.dtype == RQ_DTYPE_NONE)
                continue;
            if (v->quant == RQ_NONE && (v->kind == RQ_VALUE_CONST || defaults_fixed))
                rq_tensor_share(&w->known[i].exact, &v->constant);
            if (v->dtype == RQ_DTYPE_NONE)
                v->dtype = v->constant.dtype;
            if (v->kind == RQ_VALUE_CONST || v->shape.rank < 0)
                v->shape = v->constant.shape;
        } else if (v->kind == RQ_VALUE_CAPTURED && w->outer && v->outer >= 0) {
            const rq_value *from = &w->outer->g->values[v->outer];
            v->dtype = from->dtype;
            v->shape = from->shape;
            if (w->outer->known[v->outer].exact.dtype != RQ_DTYPE_NONE)
                rq_tensor_share(&w->known[i].exact, &w->outer->known[v->outer].exact);
            if (w->outer->known[v->outer].part.dtype != RQ_DTYPE_NONE)
                rq_tensor_share(&w->known[i].part, &w->outer->known[v->outer].part);
        }
    }
    return RQ_OK;
}

/* Types and shapes of a body's inputs, as far as its operator hands them over. */
static void feed_body(const rq_infer *a, rq_graph *body)
{
    const char *op = a->node->row->name;
    int n_scan = (int)rq_attr_int(a->node, "num_scan_inputs", 0), n_axes = 0;
    const int64_t *axes = rq_attr_ints(a->node, "scan_input_axes", &n_axes);
    for (int i = 0; i < body->n_inputs; i++) {
        rq_value *v = &body->values[body->inputs[i]];
        const rq_tensor *from = i < a->n_in ? a->in[i] : NULL;
        if (strcmp(op, "Loop") == 0) {
            if (i < 2) {
                v->dtype = i == 0 ? RQ_DTYPE_S64 : RQ_DTYPE_BOOL;
                v->shape = rq_shape_of(0, NULL);
            } else if (from && v->dtype == RQ_DTYPE_NONE) {
                v->dtype = from->dtype; /* its shape may change from turn to turn */
            }
        } else if (strcmp(op, "Scan") == 0 && from && a->opset >= 9) {
            if (v->dtype == RQ_DTYPE_NONE)
                v->dtype = from->dtype;
            rq_shape s = from->shape;
            int k = i - (a->n_in - n_scan); /* index among the scanned inputs */
            int axis = k >= 0 && s.rank > 0 ? rq_infer_axis(k < n_axes ? axes[k] : 0, s.rank) : -1;
            if (k >= 0 && axis >= 0) {
                for (int d = axis; d + 1 < s.rank; d++)
                    s.dim[d] = s.dim[d + 1];
                s.rank--;
            }
            if (s.rank >= 0 && (k < 0 || axis >= 0))
                v->shape = s;
        }
    }
}

/* Put what the row said into a value; what the file states fills the gaps. */
static rq_status settle(const walk *w, const rq_infer *a, int i)
{
    rq_value *v = &w->g->values[a->node->out[i]];
    rq_dtype d = a->out_dtype[i];
    rq_shape s = a->out_shape[i];
    if (d != RQ_DTYPE_NONE) {
        if (v->dtype != RQ_DTYPE_NONE && v->dtype != d && v->quant == RQ_NONE)
            return rq_infer_fail(a, RQ_BAD_DTYPE, "output '%s' is stated to be %s, but is %s", v->name,
                                 rq_dtype_name(v->dtype), rq_dtype_name(d));
        v->dtype = d;
    }
    if (s.rank < 0)
        return RQ_OK;
    bool is_output = rq_graph_is_output(w->g, a->node->out[i]);
    if (v->shape.rank == s.rank)
        for (int k = 0; k < s.rank; k++)
            if (s.dim[k] == RQ_DIM_UNKNOWN || (is_output && s.dim[k] < 0 && v->shape.dim[k] < RQ_DIM_UNKNOWN))
                s.dim[k] = v->shape.dim[k];
    v->shape = s;
    return RQ_OK;
}

/* Arrays for one node's call, reused. */
typedef struct call {
    rq_tensor *view;         /* [in] */
    const rq_tensor **in;    /* [in] */
    const rq_tensor **part;  /* [in] */
    const rq_content **from; /* [in] */
    rq_dtype *dtype;         /* [out] */
    rq_shape *shape;         /* [out] */
    rq_content *made;        /* [out] */
} call;

static void call_release(call *c)
{
    rq_mem_free(c->view);
    rq_mem_free(c->in);
    rq_mem_free(c->part);
    rq_mem_free(c->from);
    rq_mem_free(c->dtype);
    rq_mem_free(c->shape);
    rq_mem_free(c->made);
}

static bool call_init(call *c, const rq_graph *g)
{
    size_t in = 1, out = 1;
    for (int i = 0; i < g->n_nodes; i++) {
        in = (size_t)g->nodes[i].n_in > in ? (size_t)g->nodes[i].n_in : in;
        out = (size_t)g->nodes[i].n_out > out ? (size_t)g->nodes[i].n_out : out;
    }
    *c = (call) { .view = rq_mem_zalloc(in, sizeof *c->view),
                  .in = rq_mem_zalloc(in, sizeof *c->in),
                  .part = rq_mem_zalloc(in, sizeof *c->part),
                  .from = rq_mem_zalloc(in, sizeof *c->from),
                  .dtype = rq_mem_zalloc(out, sizeof *c->dtype),
                  .shape = rq_mem_zalloc(out, sizeof *c->shape),
                  .made = rq_mem_zalloc(out, sizeof *c->made) };
    return c->view && c->in && c->part && c->from && c->dtype && c->shape && c->made;
}

static rq_status walk_node(walk *w, const rq_node *n, call *c)
{
    for (int i = 0; i < n->n_in; i++) {
        rq_id id = n->in[i];
        c->in[i] = c->part[i] = NULL;
        c->from[i] = NULL;
        if (id == RQ_NONE)
            continue;
        const rq_value *v = &w->g->values[id];
        c->from[i] = &w->known[id];
        c->view[i] = (rq_tensor) { .dtype = v->dtype, .shape = v->shape };
        c->in[i] = w->known[id].exact.dtype != RQ_DTYPE_NONE ? &w->known[id].exact : &c->view[i];
        c->part[i] = w->known[id].part.dtype != RQ_DTYPE_NONE ? &w->known[id].part : NULL;
    }
    rq_infer a = { .graph = w->g,
                   .node = n,
                   .opset = n->row ? rq_graph_opset(w->g, n->row->domain) : 0,
                   .in = c->in,
                   .n_in = n->n_in,
                   .out_dtype = c->dtype,
                   .out_shape = c->shape,
                   .n_out = n->n_out,
                   .in_part = c->part,
                   .err = w->err };
    for (int i = 0; i < n->n_attr; i++)
        if (n->attr[i].type == RQ_ATTR_GRAPH || n->attr[i].type == RQ_ATTR_GRAPHS)
            for (int k = 0; k < n->attr[i].n; k++) {
                if (n->row)
                    feed_body(&a, n->attr[i].g[k]);
                RQ_TRY(walk_graph(n->attr[i].g[k], w, w->k, w->err));
            }
    if (!n->row)
        return RQ_OK;
    RQ_TRY(infer_row(&a));
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE)
            RQ_TRY(settle(w, &a, i));
    rq_status s = rq_content_follow(&a, c->from, c->made, w->k);
    for (int i = 0; i < n->n_out; i++) {
        if (s == RQ_OK && n->out[i] != RQ_NONE)
            w->known[n->out[i]] = c->made[i];
        else
            rq_content_release(&c->made[i]);
        c->made[i] = (rq_content) { 0 };
    }
    return s == RQ_OK ? s : rq_fail(w->err, s, "out of memory while inferring shapes");
}

static rq_status walk_graph(rq_graph *g, const walk *outer, const rq_kernels *k, rq_err *err)
{
    walk w = { .g = g, .outer = outer, .k = k, .err = err };
    call c = { 0 };
    rq_id *order = NULL;
    int n_order = 0;
    rq_status s = rq_order(g, &order, &n_order, err);
    if (s != RQ_OK)
        return s;
    w.known = rq_mem_zalloc((size_t)g->n_values + 1, sizeof *w.known);
    if (!w.known || !call_init(&c, g))
        s = rq_fail(err, RQ_NO_MEMORY, "out of memory while inferring shapes");
    if (s == RQ_OK)
        s = start(&w);
    for (int i = 0; i < n_order && s == RQ_OK; i++)
        s = walk_node(&w, &g->nodes[order[i]], &c);
    for (rq_id i = 0; w.known && i < g->n_values; i++)
        rq_content_release(&w.known[i]);
    rq_mem_free(w.known);
    call_release(&c);
    rq_mem_free(order);
    return s;
}

/* Forget the stated shapes of what nodes make. */
static void forget(void *arg, rq_graph *g)
{
    for (rq_id i = 0; i < g->n_values; i++)
        if (g->values[i].kind == RQ_VALUE_NODE)
            g->values[i].shape = rq_shape_unknown();
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op)
            each_subgraph(&g->nodes[i], forget, arg);
}

rq_status rq_ops_infer(rq_graph *g, rq_err *err)
{
    rq_kernels k;
    rq_err first = { 0 };
    rq_kernels_init(&k, 0);
    rq_status s = walk_graph(g, NULL, &k, &first);
    if (s == RQ_BAD_SHAPE || s == RQ_UNSUPPORTED) { /* perhaps only because of a stale statement */
        forget(NULL, g);
        s = walk_graph(g, NULL, &k, &first);
    }
    if (s != RQ_OK && err)
        *err = first;
    return s;
}
