/* fold/fold.c — constants computed ahead of time, copies removed, and the order of all foldings. */
#include "fold/fold.h"

#include <string.h>

#include "fold/transpose.h"
#include "base/cpu.h"
#include "ops/eval.h"
#include "ops/op.h"
#include "ops/rewrite.h"
#include "ops/sequence.h"

enum { SMALL_BYTES = 64 << 10, LARGEST_BYTES = 1 << 30, ROUNDS = 16 };

/* ---- constants ---- */

/* Bytes of the constants that the node reads. */
static size_t constant_bytes(const rq_graph *g, const rq_node *n)
{
    size_t bytes = 0;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] != RQ_NONE && g->values[n->in[i]].kind == RQ_VALUE_CONST)
            bytes += g->values[n->in[i]].constant.bytes;
    return bytes;
}

static bool is_foldable(const rq_graph *g, const rq_node *n, const rq_op *row)
{
    if (!row || !row->forward || row->flags & (RQ_OP_KEEP | RQ_OP_DYNAMIC) || !strcmp(n->op, "DequantizeLinear") ||
        !strcmp(n->op, "QuantizeLinear") || !n->n_out || rq_attr_any_body(n))
        return false;
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE && (rq_graph_is_output(g, n->out[i]) || g->values[n->out[i]].quant != RQ_NONE))
            return false;
    return true;
}

/* Is value v the weight of a product? Then it is worth its bytes, and needs them anyway when the model runs. */
static bool is_weight(const rq_graph *g, rq_id v)
{
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        const rq_op *row = n->op ? rq_op_find(n->domain, n->op) : NULL;
        for (int k = 1; row && row->place == RQ_PLACE_WEIGHTED && k < n->n_in; k++)
            if (n->in[k] == v)
                return true;
    }
    return false;
}

/* Bytes a node may make of constants of `bytes` bytes. Weights that one number fills (stored so to save space) come whole. */
static size_t limit_of(const rq_graph *g, const rq_node *n, size_t bytes)
{
    if (rq_rewrite_is(n, "ConstantOfShape") && n->out[0] != RQ_NONE && is_weight(g, n->out[0]))
        return LARGEST_BYTES;
    const size_t limit = bytes > LARGEST_BYTES / 4 ? LARGEST_BYTES : 4 * bytes;
    return limit > SMALL_BYTES ? limit : SMALL_BYTES;
}

/* Does the node read numbers that are trained as they stand? A constant with other readers must stay one, and weights that are turned on
 * their way are found by those who ask for them (rq_module_constant). */
static bool reads_parameter(const rq_graph *g, const rq_node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        const rq_value *v = n->in[i] >= 0 ? &g->values[n->in[i]] : NULL;
        if (v && v->kind == RQ_VALUE_CONST && v->constant.dtype == RQ_DTYPE_F32 && v->constant.shape.rank > 0 &&
            rq_tensor_count(&v->constant) > 1 &&
            (rq_rewrite_is(n, "Transpose") || rq_graph_uses(g, n->in[i], NULL, 0) > 1))
            return true;
    }
    return false;
}

/* A constant of several numbers that node alone reads, laid out anew by it; RQ_NONE. */
static rq_id laid_out(const rq_graph *g, const rq_node *n)
{
    const rq_id v = n->n_in > 0 && n->n_out == 1 ? n->in[0] : RQ_NONE;
    return v >= 0 && n->out[0] >= 0 && g->values[v].kind == RQ_VALUE_CONST && g->values[v].name[0] &&
                   g->values[v].constant.dtype == RQ_DTYPE_F32 && g->values[v].constant.shape.rank > 0
               ? v
               : RQ_NONE;
}

/* The constant that was made of `from` is that parameter now, and is called as it was. */
static rq_status take_name(rq_graph *g, rq_id from, rq_id made, rq_err *err)
{
    const char *name = g->values[from].name;
    if (rq_graph_uses(g, from, NULL, 0) ||
        rq_tensor_count(&g->values[from].constant) != rq_tensor_count(&g->values[made].constant))
        return RQ_OK;
    rq_graph_remove_value(g, from);
    return rq_graph_rename(g, made, name, err);
}

/* Compute one node; *done when it became constants. */
static rq_status fold_node(rq_graph *g, rq_id node, rq_fold_for what, const rq_kernels *k, bool *done, rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    const rq_op *row = rq_op_find(n->domain, n->op);
    *done = false;
    if (!is_foldable(g, n, row) || (what != RQ_FOLD_RUN && reads_parameter(g, n)))
        return RQ_OK;
    const rq_id from = what != RQ_FOLD_RUN ? laid_out(g, n) : RQ_NONE;
    rq_id made = RQ_NONE;
    RQ_TRY(rq_eval_fold_node(g, node, limit_of(g, n, constant_bytes(g, n)), k, &made, done, err));
    return *done && from != RQ_NONE ? take_name(g, from, made, err) : RQ_OK;
}

rq_status rq_fold_constants(rq_graph *g, rq_fold_for what, int *n, rq_err *err)
{
    rq_id *order;
    int count, done = 0;
    unsigned cpu;
    rq_kernels k;
    rq_kernels_init(&k, rq_cpu_pinned(&cpu, NULL) ? 0 : cpu);
    RQ_TRY(rq_eval_constants(g, err));
    RQ_TRY(rq_order(g, &order, &count, err));
    rq_status st = RQ_OK;
    for (int i = 0; i < count && !st; i++) {
        bool folded = false;
        if (g->nodes[order[i]].op)
            st = fold_node(g, order[i], what, &k, &folded, err);
        done += folded;
    }
    rq_mem_free(order);
    if (n)
        *n += done;
    return st;
}

/* ---- copies ---- */

static bool is_copy(const rq_graph *g, const rq_node *n, rq_fold_for what)
{
    if (n->n_in < 1 || n->in[0] == RQ_NONE || n->n_out < 1 || n->out[0] == RQ_NONE)
        return false;
    const bool constant = g->values[n->in[0]].kind == RQ_VALUE_CONST;
    if (what == RQ_FOLD_TRAIN_PLAIN && !constant)
        return false;
    if (rq_rewrite_is(n, "Identity")) /* of an activation: a module of its own (docs/coreml-facts.md 2) */
        return what == RQ_FOLD_RUN || constant;
    if (rq_rewrite_is(n, "Dropout") && what == RQ_FOLD_RUN) {
        bool mask = n->n_out > 1 && n->out[1] != RQ_NONE && rq_graph_uses(g, n->out[1], NULL, 0);
        bool training = n->n_in > 2 && n->in[2] != RQ_NONE;
        if (training && g->values[n->in[2]].kind == RQ_VALUE_CONST)
            training = rq_tensor_get_int(&g->values[n->in[2]].constant, 0) != 0;
        return !mask && !training;
    }
    if (rq_rewrite_is(n, "Cast")) {
        rq_dtype from = g->values[n->in[0]].dtype, to = g->values[n->out[0]].dtype;
        return from == to && from != RQ_DTYPE_NONE;
    }
    return false;
}

rq_status rq_fold_copies(rq_graph *g, rq_fold_for what, int *n, rq_err *err)
{
    rq_status st = RQ_OK;
    for (rq_id i = 0; i < g->n_nodes && !st; i++) {
        const rq_node *node = &g->nodes[i];
        if (!node->op || !is_copy(g, node, what))
            continue;
        rq_id x = node->in[0], y = node->out[0];
        if (g->values[y].quant != g->values[x].quant)
            continue;
        if (rq_rewrite_bypass(g, i, x, &st, err) && n)
            ++*n;
    }
    return st;
}

/* Sum of two is Add, which has an integer form (networks that came by way of Caffe2 write it so). */
static rq_status name_sums(rq_graph *g, int *n, rq_err *err)
{
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *node = &g->nodes[i];
        if (!rq_rewrite_is(node, "Sum") || node->n_in != 2 || node->in[0] == RQ_NONE || node->in[1] == RQ_NONE)
            continue;
        RQ_TRY(rq_rewrite_become(g, i, "Add", node->in, 2, err));
        ++*n;
    }
    return RQ_OK;
}

/* ---- all ---- */

rq_status rq_fold_graph(rq_graph *g, rq_fold_counts *counts, rq_err *err)
{
    rq_fold_counts total = { 0 };
    RQ_TRY(rq_sequence_resolve(g, err));
    for (int round = 0; round < ROUNDS; round++) {
        rq_fold_counts now = { 0 };
        rq_ops_bind(g);
        RQ_TRY(rq_ops_infer(g, err));
        RQ_TRY(rq_fold_constants(g, RQ_FOLD_RUN, &now.constants, err));
        RQ_TRY(rq_fold_branches(g, &now.branches, err));
        RQ_TRY(rq_fold_copies(g, RQ_FOLD_RUN, &now.copies, err));
        RQ_TRY(name_sums(g, &now.patterns, err));
        rq_ops_bind(g);
        RQ_TRY(rq_push_transposes(g, &now.transposes, err));
        RQ_TRY(rq_fold_scales(g, RQ_FOLD_RUN, &now.scales, err));
        RQ_TRY(rq_fold_patterns(g, &now.patterns, err));
        rq_graph_prune(g);
        total.constants += now.constants;
        total.branches += now.branches;
        total.copies += now.copies;
        total.transposes += now.transposes;
        total.scales += now.scales;
        total.patterns += now.patterns;
        if (!now.constants && !now.branches && !now.copies && !now.transposes && !now.scales && !now.patterns)
            break;
    }
    rq_ops_bind(g);
    RQ_TRY(rq_ops_infer(g, err));
    if (counts)
        *counts = total;
    return RQ_OK;
}

rq_status rq_fold_plain(rq_graph *g, rq_err *err)
{
    for (int round = 0, n = 1; round < ROUNDS && n; round++) {
        n = 0;
        rq_ops_bind(g);
        RQ_TRY(rq_ops_infer(g, err));
        RQ_TRY(rq_fold_constants(g, RQ_FOLD_RUN, &n, err));
        RQ_TRY(rq_fold_branches(g, &n, err));
        RQ_TRY(rq_fold_copies(g, RQ_FOLD_RUN, &n, err));
        rq_graph_prune(g);
    }
    rq_ops_bind(g);
    return rq_ops_infer(g, err);
}

rq_status rq_fold_for_training(rq_graph *g, bool plain, rq_err *err)
{
    const rq_fold_for what = plain ? RQ_FOLD_TRAIN_PLAIN : RQ_FOLD_TRAIN;
    for (int round = 0, n = 1; round < ROUNDS && n; round++) {
        n = 0;
        RQ_TRY(rq_eval_constants(g, err));
        RQ_TRY(rq_fold_fused(g, &n, err));
        rq_ops_bind(g);
        RQ_TRY(rq_ops_infer(g, err));
        RQ_TRY(rq_fold_branches(g, &n, err));
        RQ_TRY(rq_fold_copies(g, what, &n, err)); /* first: a copy of a parameter is that parameter */
        RQ_TRY(rq_fold_constants(g, what, &n, err));
        if (!plain) {
            RQ_TRY(name_sums(g, &n, err));
            rq_ops_bind(g);
            RQ_TRY(rq_push_transposes(g, &n, err));
            RQ_TRY(rq_fold_scales(g, what, &n, err));
            RQ_TRY(rq_fold_patterns(g, &n, err));
        }
        rq_graph_prune(g);
    }
    rq_ops_bind(g);
    return rq_ops_infer(g, err);
}
