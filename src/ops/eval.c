/* ops/eval.c — one node run on its own: sizes inferred, outputs made, state prepared, forward called. */
#include "ops/eval.h"

#include <string.h>

#include "ops/packs.h"

/* Outputs as inference sees them; rows with sizes that depend on data make their own. */
static rq_status make_outputs(const rq_graph *g, const rq_node *n, const rq_op *row, const rq_tensor *const *in,
                              rq_tensor *out, size_t max_bytes, rq_err *err)
{
    rq_dtype dtype[16] = { RQ_DTYPE_NONE };
    rq_shape shape[16];
    if (n->n_out > 16)
        return rq_fail(err, RQ_UNSUPPORTED, "node '%s' (%s) has %d outputs, at most 16 are folded", n->name, n->op,
                       n->n_out);
    for (int i = 0; i < n->n_out; i++)
        shape[i] = rq_shape_unknown();
    RQ_TRY(rq_ops_infer_node(g, n, in, dtype, shape, err));
    if (row->flags & RQ_OP_DYNAMIC)
        return RQ_OK;
    size_t total = 0;
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        if (dtype[i] == RQ_DTYPE_NONE || dtype[i] == RQ_DTYPE_STRING || !rq_shape_is_known(&shape[i]) ||
            rq_shape_check(&shape[i]))
            return rq_fail(err, RQ_UNSUPPORTED, "node '%s' (%s): size of output %d is not known", n->name, n->op, i);
        size_t bytes = rq_shape_bytes(&shape[i], dtype[i]);
        if (bytes > max_bytes || (total += bytes) > max_bytes)
            return rq_fail(err, RQ_UNSUPPORTED, "node '%s' (%s) has too large a result to be folded", n->name, n->op);
    }
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE) {
            rq_status st = rq_tensor_create(&out[i], dtype[i], &shape[i], false);
            if (st)
                return rq_fail(err, st, "out of memory for node '%s' (%s)", n->name, n->op);
        }
    return RQ_OK;
}

rq_status rq_eval_node(const rq_graph *g, const rq_node *n, const rq_tensor *const *in, rq_tensor *out,
                       size_t max_bytes, const rq_kernels *k, rq_err *err)
{
    const rq_op *row = rq_op_find(n->domain, n->op);
    memset(out, 0, (size_t)n->n_out * sizeof *out);
    if (!row || !row->forward || row->flags & RQ_OP_KEEP || rq_attr_any_body(n))
        return rq_fail(err, RQ_UNSUPPORTED, "node '%s' (%s) cannot be folded", n->name, n->op);
    rq_node bound = *n;
    bound.row = row;
    rq_status st = RQ_NO_MEMORY;
    void *state = NULL, *scratch = NULL;
    rq_packs packs = { 0 };
    rq_tensor **want = rq_mem_zalloc((size_t)n->n_out + 1, sizeof *want);
    rq_op_args a = { .graph = g,
                     .node = &bound,
                     .opset = rq_graph_opset(g, n->domain),
                     .in = in,
                     .out = want,
                     .n_in = n->n_in,
                     .n_out = n->n_out,
                     .k = k,
                     .packs = &packs,
                     .err = err };
    if (!want)
        goto done;
    st = make_outputs(g, &bound, row, in, out, max_bytes, err);
    if (st)
        goto done;
    for (int i = 0; i < n->n_out; i++)
        want[i] = n->out[i] == RQ_NONE ? NULL : &out[i];
    if (row->prepare) {
        st = row->prepare(&a, &state);
        if (st)
            goto done;
        a.state = state;
    }
    size_t bytes = row->scratch ? row->scratch(&a, false) : 0;
    if (bytes) {
        st = RQ_NO_MEMORY;
        scratch = rq_mem_alloc(bytes, 1);
        if (!scratch)
            goto done;
        a.scratch = scratch;
    }
    st = row->forward(&a);
done:
    if (state && row->release)
        row->release(state);
    rq_packs_release(&packs);
    rq_mem_free(scratch);
    rq_mem_free(want);
    if (st)
        for (int i = 0; i < n->n_out; i++)
            rq_tensor_release(&out[i]);
    return st == RQ_NO_MEMORY ? rq_fail(err, st, "out of memory for node '%s' (%s)", n->name, n->op) : st;
}

rq_status rq_eval_replace(rq_graph *g, rq_id v, const rq_tensor *t, rq_id *id, rq_err *err)
{
    RQ_TRY(rq_graph_add_const(g, id, NULL, t, err));
    rq_value *was = &g->values[v], *now = &g->values[*id];
    const char *name = was->name;
    now->doc = was->doc;
    now->quant = was->quant;
    if (now->quant != RQ_NONE)
        now->dtype = was->dtype;
    rq_id node = was->kind == RQ_VALUE_NODE ? was->producer : RQ_NONE;
    rq_graph_replace_uses(g, v, *id, RQ_NONE);
    if (node != RQ_NONE) {
        rq_node *n = &g->nodes[node];
        bool empty = true;
        for (int i = 0; i < n->n_out; i++) {
            if (n->out[i] == v)
                n->out[i] = RQ_NONE;
            empty = empty && n->out[i] == RQ_NONE;
        }
        if (empty)
            rq_graph_remove_node(g, node);
    }
    rq_graph_remove_value(g, v);
    return rq_graph_rename(g, *id, name, err);
}

/* Views of the node's inputs, if all are plain constants; for rows that only read shapes, known sizes do. */
static bool constant_inputs(const rq_graph *g, const rq_node *n, const rq_op *row, rq_tensor *view,
                            const rq_tensor **in)
{
    for (int i = 0; i < n->n_in; i++) {
        in[i] = NULL;
        if (n->in[i] == RQ_NONE)
            continue;
        const rq_value *v = &g->values[n->in[i]];
        in[i] = &view[i];
        if (v->kind == RQ_VALUE_CONST && v->quant == RQ_NONE && v->constant.dtype != RQ_DTYPE_STRING)
            view[i] = v->constant;
        else if (row->flags & RQ_OP_SHAPE_ONLY && rq_shape_is_known(&v->shape) && v->dtype != RQ_DTYPE_NONE)
            view[i] = rq_tensor_view(v->dtype, &v->shape, NULL);
        else
            return false;
    }
    return true;
}

rq_status rq_eval_fold_node(rq_graph *g, rq_id node, size_t max_bytes, const rq_kernels *k, rq_id *made, bool *done,
                            rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    const rq_op *row = rq_op_find(n->domain, n->op);
    const int n_out = n->n_out;
    *done = false;
    *made = RQ_NONE;
    if (!row)
        return RQ_OK;
    rq_status st = RQ_NO_MEMORY;
    rq_tensor *view = rq_mem_zalloc((size_t)n->n_in + 1, sizeof *view);
    const rq_tensor **in = rq_mem_zalloc((size_t)n->n_in + 1, sizeof *in);
    rq_id *ids = rq_mem_alloc((size_t)n_out + 1, sizeof *ids);
    rq_tensor *out = rq_mem_zalloc((size_t)n_out + 1, sizeof *out);
    if (!view || !in || !out || !ids)
        goto done;
    st = RQ_OK;
    if (!constant_inputs(g, n, row, view, in))
        goto done;
    rq_err why = { 0 };
    st = rq_eval_node(g, n, in, out, max_bytes, k, &why);
    if (st) { /* it fails when it runs, if it ever does */
        st = st == RQ_NO_MEMORY ? st : RQ_OK;
        goto done;
    }
    memcpy(ids, n->out, (size_t)n_out * sizeof *ids);
    for (int i = 0; i < n_out && !st; i++) {
        rq_id id;
        if (ids[i] == RQ_NONE)
            continue;
        st = rq_eval_replace(g, ids[i], &out[i], &id, err);
        if (!st && i == 0)
            *made = id;
    }
    *done = !st;
done:
    for (int i = 0; out && i < n_out; i++)
        rq_tensor_release(&out[i]);
    rq_mem_free(view);
    rq_mem_free(in);
    rq_mem_free(out);
    rq_mem_free(ids);
    return st == RQ_NO_MEMORY ? rq_fail(err, st, "out of memory folding constants") : st;
}

/* The tensor that a Constant node stands for; *made says whether it is to be released. RQ_UNSUPPORTED: strings,
 * sparse tensors. */
static rq_status constant_content(const rq_node *n, rq_tensor *t, rq_err *err)
{
    const rq_attr *a = n->n_attr == 1 ? &n->attr[0] : NULL;
    rq_shape scalar = rq_shape_of(0, NULL);
    if (!a || a->ref)
        return RQ_UNSUPPORTED;
    rq_status st = RQ_UNSUPPORTED;
    if (!strcmp(a->name, "value") && a->type == RQ_ATTR_TENSOR && a->t) {
        rq_tensor_share(t, a->t);
        return RQ_OK;
    } else if (!strcmp(a->name, "value_float") && a->type == RQ_ATTR_FLOAT) {
        st = rq_tensor_create(t, RQ_DTYPE_F32, &scalar, false);
        if (!st)
            t->f32[0] = a->f;
    } else if (!strcmp(a->name, "value_int") && a->type == RQ_ATTR_INT) {
        st = rq_tensor_create(t, RQ_DTYPE_S64, &scalar, false);
        if (!st)
            t->s64[0] = a->i;
    } else if ((!strcmp(a->name, "value_floats") && a->type == RQ_ATTR_FLOATS) ||
               (!strcmp(a->name, "value_ints") && a->type == RQ_ATTR_INTS)) {
        int64_t count = a->n;
        rq_shape list = rq_shape_of(1, &count);
        bool ints = a->type == RQ_ATTR_INTS;
        st = rq_tensor_create(t, ints ? RQ_DTYPE_S64 : RQ_DTYPE_F32, &list, false);
        if (!st && count)
            memcpy(t->data, ints ? (const void *)a->ints : (const void *)a->floats, t->bytes);
    }
    return st == RQ_NO_MEMORY ? rq_fail(err, st, "out of memory for constant '%s'", n->name) : st;
}

rq_status rq_eval_constants(rq_graph *g, rq_err *err)
{
    for (rq_id i = 0; i < g->n_nodes; i++) {
        rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        for (int a = 0; a < n->n_attr; a++)
            for (int k = 0; k < rq_attr_bodies(&n->attr[a]); k++)
                RQ_TRY(rq_eval_constants(n->attr[a].g[k], err));
        if (strcmp(n->op, "Constant") || (n->domain[0] && strcmp(n->domain, "ai.onnx")) || n->n_out != 1 ||
            n->out[0] == RQ_NONE || rq_graph_is_output(g, n->out[0]))
            continue;
        rq_tensor t = { 0 };
        rq_status st = constant_content(n, &t, err);
        if (st == RQ_UNSUPPORTED)
            continue;
        RQ_TRY(st);
        rq_id made;
        st = rq_eval_replace(g, n->out[0], &t, &made, err);
        rq_tensor_release(&t);
        RQ_TRY(st);
    }
    return RQ_OK;
}
