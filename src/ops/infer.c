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
    int n_scan = (int)rq_attr_int(a->node, RQ_WORD_num_scan_inputs, 0), n_axes = 0;
    const int64_t *axes = rq_attr_ints(a->node, RQ_WORD_scan_input_axes, &n_axes);
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
        for (int k = 0; k < rq_attr_bodies(&n->attr[i]); k++) {
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

/* known (may be NULL): the caller wants what is known of every value, and releases it. */
static rq_status walk_graph_known(rq_graph *g, const walk *outer, const rq_kernels *k, rq_content **known, rq_err *err)
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
    if (known && s == RQ_OK) {
        *known = w.known;
        w.known = NULL;
    }
    for (rq_id i = 0; w.known && i < g->n_values; i++)
        rq_content_release(&w.known[i]);
    rq_mem_free(w.known);
    call_release(&c);
    rq_mem_free(order);
    return s;
}

static rq_status walk_graph(rq_graph *g, const walk *outer, const rq_kernels *k, rq_err *err)
{
    return walk_graph_known(g, outer, k, NULL, err);
}

void rq_ops_forget_shapes(rq_graph *g)
{
    for (rq_id i = 0; i < g->n_values; i++)
        if (g->values[i].kind == RQ_VALUE_NODE)
            g->values[i].shape = rq_shape_unknown();
    for (int i = 0; i < g->n_nodes; i++)
        for (int a = 0; g->nodes[i].op && a < g->nodes[i].n_attr; a++)
            for (int k = 0; k < rq_attr_bodies(&g->nodes[i].attr[a]); k++)
                if (g->nodes[i].attr[a].g && g->nodes[i].attr[a].g[k])
                    rq_ops_forget_shapes(g->nodes[i].attr[a].g[k]);
}

rq_status rq_ops_infer_known(rq_graph *g, rq_content **known, rq_err *err)
{
    rq_kernels k;
    rq_err first = { 0 };
    rq_kernels_init(&k, 0);
    rq_status s = walk_graph_known(g, NULL, &k, known, &first);
    if (s == RQ_BAD_SHAPE || s == RQ_UNSUPPORTED) { /* perhaps only because of a stale statement */
        rq_ops_forget_shapes(g);
        s = walk_graph_known(g, NULL, &k, known, &first);
    }
    if (s != RQ_OK && err)
        *err = first;
    return s;
}

rq_status rq_ops_infer(rq_graph *g, rq_err *err)
{
    return rq_ops_infer_known(g, NULL, err);
}
