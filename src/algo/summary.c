/* algo/summary.c — what `requant info` says of a graph: counts, taken from a raised copy where quantization has to be seen
 * through. */
#include <stdlib.h>
#include <string.h>

#include "ops/op.h"
#include "ops/raise.h"
#include "requant/ptq.h"

/* Float constants, and codes that stand for reals; in subgraphs too. */
static void count_parameters(const rq_graph *g, rq_graph_summary *out)
{
    for (rq_id v = 0; v < g->n_values; v++) {
        const rq_value *x = &g->values[v];
        if (x->kind == RQ_VALUE_DEAD)
            continue;
        out->n_quantized_values += x->quant != RQ_NONE;
        if (x->kind != RQ_VALUE_CONST || (!rq_dtype_is_float(x->constant.dtype) && x->quant == RQ_NONE))
            continue;
        out->n_parameters += rq_tensor_count(&x->constant);
        out->parameter_bytes += (int64_t)x->constant.bytes;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        for (int a = 0; n->op && a < n->n_attr; a++)
            for (int k = 0; k < rq_attr_bodies(&n->attr[a]); k++)
                count_parameters(n->attr[a].g[k], out);
    }
}

rq_status rq_graph_summarize(const rq_graph *g, rq_graph_summary *out, rq_err *err)
{
    rq_graph *raised;
    *out = (rq_graph_summary) { .is_quantized = rq_graph_is_quantized(g),
                                .opset = rq_graph_opset(g, ""),
                                .ir_version = g->ir_version,
                                .producer = g->producer };
    for (int i = 0; i < g->n_nodes; i++)
        out->n_nodes += g->nodes[i].op != NULL;
    if (rq_graph_copy(&raised, g))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory copying the graph");
    rq_status st = rq_raise_annotate(raised, NULL, err);
    if (!st)
        count_parameters(raised, out);
    rq_graph_destroy(raised);
    return st;
}

static const char *plain_domain(const char *domain)
{
    return !strcmp(domain, "ai.onnx") ? "" : domain;
}

static rq_status count_into(const rq_graph *g, rq_op_count **ops, int *n, int *cap)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *node = &g->nodes[i];
        if (!node->op)
            continue;
        int at = 0;
        while (at < *n && (strcmp((*ops)[at].op, node->op) || strcmp((*ops)[at].domain, plain_domain(node->domain))))
            at++;
        if (at == *n) {
            if (!rq_mem_grow(ops, *n, cap, sizeof **ops))
                return RQ_NO_MEMORY;
            (*ops)[(*n)++] = (rq_op_count) { .domain = plain_domain(node->domain),
                                             .op = node->op,
                                             .runs = node->row && node->row->forward };
        }
        (*ops)[at].count++;
        for (int a = 0; a < node->n_attr; a++)
            for (int k = 0; k < rq_attr_bodies(&node->attr[a]); k++)
                RQ_TRY(count_into(node->attr[a].g[k], ops, n, cap));
    }
    return RQ_OK;
}

static int more_first(const void *a, const void *b)
{
    const rq_op_count *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    int order = strcmp(x->op, y->op);
    return order ? order : strcmp(x->domain, y->domain);
}

static bool stays(const rq_graph *g, const rq_op_count *op)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        if (!strcmp(n->op, op->op) && !strcmp(plain_domain(n->domain), op->domain))
            return true;
        for (int a = 0; a < n->n_attr; a++)
            for (int k = 0; k < rq_attr_bodies(&n->attr[a]); k++)
                if (stays(n->attr[a].g[k], op))
                    return true;
    }
    return false;
}

/* Operators without a row run when a session rewrites them (QGemm and its like). */
static rq_status mark_raised(const rq_graph *g, rq_op_count *ops, int n)
{
    rq_graph *raised = NULL;
    rq_status st = RQ_OK;
    for (int i = 0; i < n && !st; i++) {
        if (ops[i].runs)
            continue;
        if (!raised && !(st = rq_graph_copy(&raised, g)))
            st = rq_raise(raised, NULL, NULL);
        ops[i].runs = !st && !stays(raised, &ops[i]);
        st = st == RQ_NO_MEMORY ? st : RQ_OK; /* what else is wrong is the session's to say */
    }
    rq_graph_destroy(raised);
    return st;
}

rq_status rq_graph_count_ops(const rq_graph *g, rq_op_count **ops, int *n)
{
    int cap = 0;
    *ops = NULL;
    *n = 0;
    if (count_into(g, ops, n, &cap)) {
        rq_mem_free(*ops);
        *ops = NULL;
        *n = 0;
        return RQ_NO_MEMORY;
    }
    if (mark_raised(g, *ops, *n)) {
        rq_mem_free(*ops);
        *ops = NULL;
        *n = 0;
        return RQ_NO_MEMORY;
    }
    if (*n)
        qsort(*ops, (size_t)*n, sizeof **ops, more_first);
    return RQ_OK;
}

enum { NEWEST_IR = 14 }; /* whose fields are known (docs/onnx-facts.md 1.7) */

/* The lowest `known` among rows of the default domain that g uses, where it is below the imported version; else 0. */
static int oldest_known(const rq_graph *g, int64_t opset)
{
    int least = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        if (n->row && !n->row->domain[0] && n->row->known < opset && (!least || n->row->known < least))
            least = n->row->known;
        for (int a = 0; a < n->n_attr; a++)
            for (int k = 0; k < rq_attr_bodies(&n->attr[a]); k++) {
                const int inner = oldest_known(n->attr[a].g[k], opset);
                least = inner && (!least || inner < least) ? inner : least;
            }
    }
    return least;
}

rq_status rq_graph_warnings(const rq_graph *g, rq_notes *out)
{
    const int64_t opset = rq_graph_opset(g, "");
    const int known = oldest_known(g, opset);
    if (g->ir_version > NEWEST_IR)
        RQ_TRY(rq_notes_add(
            out, "the model has IR version %lld; fields newer than those of version %d are kept, not understood",
            (long long)g->ir_version, NEWEST_IR));
    if (known)
        RQ_TRY(rq_notes_add(out, "the model imports opset %lld; its operators are taken as opset %d defines them",
                            (long long)opset, known));
    return RQ_OK;
}
