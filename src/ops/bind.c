/* ops/bind.c — every node gets its row, and is looked at against it: is the operator known, at this opset, with these inputs, outputs and
 * attributes. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "graph/own.h"
#include "ops/op.h"

static void each_subgraph(const rq_node *n, void (*fn)(void *arg, rq_graph *g), void *arg)
{
    for (int i = 0; i < n->n_attr; i++)
        for (int k = 0; k < rq_attr_bodies(&n->attr[i]); k++)
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

rq_status rq_ops_check_node(const rq_graph *g, const rq_node *n, rq_err *err)
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
        if (n->in[i] == RQ_NONE && !(i < 2 && rq_attr_graph(n, RQ_WORD_body)))
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
            c->status = rq_ops_check_node(g, n, c->err);
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
