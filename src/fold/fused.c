/* fold/fused.c — FusedConv and FusedGemm of com.microsoft taken apart again. ONNX Runtime's optimizer makes one node of a product, what is
 * added to it and its activation; such a node has no gradient and no place for a quantizer, its parts have both.
 *
 * New nodes are hung behind the old one first, reading it; then the old one's output and the last new value change places. So the graph is
 * valid whenever memory runs out. */
#include <string.h>

#include "fold/fold.h"
#include "ops/op.h"
#include "ops/rewrite.h"

/* An activation as a node of its own: from which opset on, and its parameters, attributes or (Clip) inputs. */
typedef struct activation {
    const char *op;
    int since, n;
    const char *attr[2];
    float p[2];
} activation;

static const activation known[] = {
    { "Relu", 1, 0, { NULL }, { 0 } },
    { "Tanh", 1, 0, { NULL }, { 0 } },
    { "Sigmoid", 1, 0, { NULL }, { 0 } },
    { "LeakyRelu", 1, 1, { "alpha" }, { 0.01f } },
    { "HardSigmoid", 1, 2, { "alpha", "beta" }, { 0.2f, 0.5f } },
    { "HardSwish", 14, 0, { NULL }, { 0 } },
    { "Clip", 11, 2, { NULL }, { 0 } },
};

static bool is_fused(const rq_node *n, const char *op)
{
    return n->op && !strcmp(n->op, op) && !strcmp(n->domain, "com.microsoft");
}

/* The activation of n with n's parameters; op NULL: it has none. False: one that is not known here, or whose parameters are not given. */
static bool read_activation(const rq_graph *g, const rq_node *n, activation *f)
{
    const char *name = rq_attr_string(n, RQ_WORD_activation, "");
    *f = (activation) { .op = NULL };
    if (!*name)
        return true;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(known[i].op, name))
            *f = known[i];
    if (!f->op || rq_graph_opset(g, "") < f->since)
        return false;
    int given = 0;
    const float *p = rq_attr_floats(n, RQ_WORD_activation_params, &given);
    for (int i = 0; p && i < f->n && i < given; i++)
        f->p[i] = p[i];
    if (is_fused(n, "FusedGemm")) {
        f->p[0] = rq_attr_float(n, RQ_WORD_activation_alpha, f->p[0]);
        return strcmp(name, "Clip") && strcmp(name, "HardSigmoid") &&
               strcmp(name, "HardSwish"); /* ops/matmul.c has none of them */
    }
    return strcmp(name, "Clip") || given >= f->n;
}

static rq_status no_memory(const rq_graph *g, rq_id node, rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory taking '%s' apart", g->nodes[node].name);
}

/* *made = op(in...), a new node after `node`. */
static rq_status hang(rq_graph *g, rq_id node, const char *op, const rq_id *in, int n_in, rq_id *made, rq_id *id,
                      rq_err *err)
{
    const rq_value *y = &g->values[g->nodes[node].out[0]];
    const rq_shape shape = y->shape;
    const rq_dtype d = y->dtype;
    const char *value = rq_rewrite_name(g, y->name, "_linear");
    char suffix[40];
    suffix[0] = '_';
    strcpy(suffix + 1, op);
    const char *name = g->nodes[node].name[0] ? rq_rewrite_name(g, g->nodes[node].name, suffix) : "";
    if (!value || !name)
        return no_memory(g, node, err);
    RQ_TRY(rq_graph_add_value(g, made, RQ_VALUE_NODE, value, d, &shape, err));
    const rq_status st = rq_graph_add_node(g, id, op, "", name, in, n_in, made, 1, err);
    if (st)
        rq_graph_remove_value(g, *made); /* nobody makes it */
    return st;
}

static rq_status hang_activation(rq_graph *g, rq_id node, const activation *f, rq_id *last, rq_id *id, rq_err *err)
{
    rq_id in[3] = { *last };
    int n_in = 1;
    const char *base = g->values[g->nodes[node].out[0]].name;
    if (!strcmp(f->op, "Clip")) {
        RQ_TRY(rq_rewrite_float(g, f->p[0], base, "_min", &in[1], err));
        RQ_TRY(rq_rewrite_float(g, f->p[1], base, "_max", &in[2], err));
        n_in = 3;
    }
    RQ_TRY(hang(g, node, f->op, in, n_in, last, id, err));
    for (int i = 0; i < f->n && f->attr[i]; i++)
        if (rq_attr_set_float(g, *id, f->attr[i], f->p[i]))
            return no_memory(g, node, err);
    return RQ_OK;
}

static rq_status take_apart(rq_graph *g, rq_id node, const char *product, const activation *f, rq_err *err)
{
    static const char *const gone[] = { "activation", "activation_params", "activation_alpha", "activation_beta",
                                        "activation_gamma" };
    const rq_id y = g->nodes[node].out[0];
    const rq_id added = g->nodes[node].n_in > 3 ? g->nodes[node].in[3] : RQ_NONE;
    rq_id last = y, first = RQ_NONE, end = RQ_NONE;
    if (added != RQ_NONE) {
        RQ_TRY(hang(g, node, "Add", (rq_id[]) { last, added }, 2, &last, &end, err));
        first = end;
    }
    if (f->op)
        RQ_TRY(hang_activation(g, node, f, &last, &end, err));
    first = first == RQ_NONE ? end : first;
    const rq_node *n = &g->nodes[node];
    const int n_in = n->n_in > 2 && n->in[2] != RQ_NONE ? 3 : 2;
    RQ_TRY(rq_rewrite_become(g, node, product, n->in, n_in, err));
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++)
        rq_attr_remove(g, node, gone[i]);
    if (first == RQ_NONE)
        return RQ_OK;
    g->nodes[node].out[0] = last;
    g->values[last].producer = node;
    g->nodes[end].out[0] = y;
    g->values[y].producer = end;
    g->nodes[first].in[0] = last;
    return RQ_OK;
}

rq_status rq_fold_fused(rq_graph *g, int *n, rq_err *err)
{
    for (rq_id i = 0, end = g->n_nodes; i < end; i++) {
        const rq_node *node = &g->nodes[i];
        const bool conv = is_fused(node, "FusedConv");
        activation f;
        if ((!conv && !is_fused(node, "FusedGemm")) || node->n_out < 1 || node->out[0] == RQ_NONE || node->n_in < 2 ||
            !read_activation(g, node, &f))
            continue;
        RQ_TRY(take_apart(g, i, conv ? "Conv" : "Gemm", &f, err));
        ++*n;
    }
    return RQ_OK;
}
