/* algo/dequantize.c — a quantized model back to a float one: raised to annotations, which are then taken off. Weights decode
 * to f32. What saturation at the ends of a code range did for the model is kept: quantizers drop a Relu whose output
 * starts at the lowest code, so it is put back (a Clip to 6 where the range ends there). */
#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "kernels/quantize.h"
#include "ops/op.h"
#include "ops/raise.h"
#include "ops/rewrite.h"
#include "quant/codes.h"
#include "requant/ptq.h"

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory removing quantization");
}

static rq_status decode_const(rq_graph *g, rq_id v, const rq_kernels *k, rq_err *err)
{
    rq_value *c = &g->values[v];
    const rq_qparams *q = rq_graph_qparams(g, v);
    rq_tensor real;
    if (c->constant.dtype == RQ_DTYPE_F32)
        return RQ_OK;
    RQ_TRY(rq_codes_check(q, &c->constant.shape, err) ? rq_fail_in(err, RQ_BAD_SHAPE, "constant '%s'", c->name)
                                                      : RQ_OK);
    if (rq_tensor_create(&real, RQ_DTYPE_F32, &c->constant.shape, false))
        return no_memory(err);
    rq_codes_to_reals(&real, &c->constant, q, k);
    rq_tensor_release(&c->constant);
    c->constant = real;
    c->dtype = RQ_DTYPE_F32;
    return RQ_OK;
}

/* Is what the node makes at least 0 by itself? known[v]: value v is. */
static bool makes_no_negatives(const rq_graph *g, const rq_node *n, const bool *known)
{
    static const char *const always[] = {
        "Relu", "Sigmoid", "Softmax", "HardSigmoid", "Exp", "Sqrt", "Abs", "ReduceL2"
    };
    static const char *const keeps[] = { "MaxPool",       "AveragePool", "GlobalAveragePool",
                                         "GlobalMaxPool", "Concat",      "Add",
                                         "Mul",           "Resize",      "ReduceMean",
                                         "ReduceMax",     "Upsample" };
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        if (rq_rewrite_is(n, always[i]))
            return true;
    const rq_op *row = rq_op_find(n->domain, n->op);
    bool keeping = row && row->flags & RQ_OP_MOVES;
    int n_data = keeping ? 1 : n->n_in;
    for (size_t i = 0; i < sizeof keeps / sizeof *keeps && !keeping; i++)
        keeping = rq_rewrite_is(n, keeps[i]);
    if (!strcmp(n->op, "Resize") || !strcmp(n->op, "Upsample") || !strncmp(n->op, "Reduce", 6))
        n_data = 1;
    for (int i = 0; i < n_data && keeping; i++)
        keeping = n->in[i] != RQ_NONE && known[n->in[i]];
    return keeping && n_data > 0;
}

/* Does the range of the codes end at 6, as that of a Relu6 does? */
static bool ends_at_6(const rq_qparams *q)
{
    int32_t lo, hi;
    rq_qparams_limits(q, &lo, &hi);
    return fabsf(rq_dequantize_one(hi, q->scale[0], q->zero_point[0]) - 6) <= 1e-3f;
}

/* Output k of node goes through a Relu (or Clip) before it becomes the value it was. */
static rq_status put_relu_back(rq_graph *g, rq_id node, int k, bool six, rq_err *err)
{
    rq_id y = g->nodes[node].out[k], in[3] = { RQ_NONE };
    const char *base = g->values[y].name;
    RQ_TRY(rq_rewrite_detach(g, node, k, "_before_relu", &in[0], err));
    if (!six)
        return rq_rewrite_produce(g, "Relu", "_Relu", in, 1, y, NULL, err);
    rq_id clip;
    bool inputs = rq_graph_opset(g, "") >= 11;
    if (inputs) {
        RQ_TRY(rq_rewrite_float(g, 0, base, "_min", &in[1], err));
        RQ_TRY(rq_rewrite_float(g, 6, base, "_max", &in[2], err));
    }
    RQ_TRY(rq_rewrite_produce(g, "Clip", "_Clip", in, inputs ? 3 : 1, y, &clip, err));
    if (!inputs && (rq_attr_set_float(g, clip, "min", 0) || rq_attr_set_float(g, clip, "max", 6)))
        return no_memory(err);
    return RQ_OK;
}

static bool starts_at_zero(const rq_graph *g, rq_id v)
{
    const rq_qparams *q = v == RQ_NONE ? NULL : rq_graph_qparams(g, v);
    int32_t lo, hi;
    if (!q || !rq_raise_is_plain(q))
        return false;
    rq_qparams_limits(q, &lo, &hi);
    return q->zero_point[0] == lo;
}

static rq_status restore_relus(rq_graph *g, rq_err *err)
{
    rq_id *order;
    int n, n_values = g->n_values;
    RQ_TRY(rq_order(g, &order, &n, err));
    bool *known = rq_mem_zalloc((size_t)n_values + 1, sizeof *known);
    rq_status st = known ? RQ_OK : no_memory(err);
    for (rq_id v = 0; v < n_values && !st; v++)
        known[v] = g->values[v].kind == RQ_VALUE_INPUT && starts_at_zero(g, v);
    for (int i = 0; i < n && !st; i++) {
        bool natural = makes_no_negatives(g, &g->nodes[order[i]], known);
        for (int k = 0; k < g->nodes[order[i]].n_out && !st; k++) {
            rq_id y = g->nodes[order[i]].out[k];
            if (y == RQ_NONE)
                continue;
            bool cut = starts_at_zero(g, y);
            known[y] = natural || cut;
            if (cut && !natural && !rq_rewrite_is(&g->nodes[order[i]], "Clip"))
                st = put_relu_back(g, order[i], k, ends_at_6(rq_graph_qparams(g, y)), err);
        }
    }
    rq_mem_free(known);
    rq_mem_free(order);
    return st;
}

/* DequantizeLinear of integers that are the user's: Cast, Sub, Mul. */
static rq_status spell_dq(rq_graph *g, rq_id node, const rq_qparams *q, rq_err *err)
{
    rq_id x = g->nodes[node].in[0], y = g->nodes[node].out[0], in[2], cast;
    const char *base = g->values[y].name;
    RQ_TRY(rq_rewrite_add(g, "Cast", &x, 1, base, "_cast", RQ_DTYPE_F32, &in[0], &cast, err));
    if (rq_attr_set_int(g, cast, "to", 1 /* FLOAT */))
        return no_memory(err);
    RQ_TRY(rq_rewrite_float(g, (float)q->zero_point[0], base, "_zero", &in[1], err));
    RQ_TRY(rq_rewrite_add(g, "Sub", in, 2, base, "_centred", RQ_DTYPE_F32, &in[0], NULL, err));
    RQ_TRY(rq_rewrite_float(g, q->scale[0], base, "_step", &in[1], err));
    RQ_TRY(rq_rewrite_become(g, node, "Mul", in, 2, err));
    for (const char *const *a = (const char *const[]) { "axis", "block_size", "output_dtype", NULL }; *a; a++)
        rq_attr_remove(g, node, *a);
    return RQ_OK;
}

static rq_status take_off(rq_graph *g, const rq_kernels *k, rq_err *err)
{
    for (rq_id i = 0, n = g->n_nodes; i < n; i++) {
        const rq_node *node = &g->nodes[i];
        if (!node->op)
            continue;
        if (!strcmp(node->domain, "requant") && !strcmp(node->op, "Requantize")) {
            rq_id x = node->in[0];
            rq_status st = RQ_OK;
            if (!rq_rewrite_bypass(g, i, x, &st, err))
                RQ_TRY(rq_rewrite_become(g, i, "Identity", &x, 1, err));
            RQ_TRY(st);
        } else if (rq_rewrite_is(node, "DequantizeLinear")) {
            const rq_qparams *q = rq_graph_qparams(g, node->out[0]);
            if (q && rq_raise_is_plain(q) && !rq_graph_qparams(g, node->in[0]))
                RQ_TRY(spell_dq(g, i, q, err));
        }
    }
    for (rq_id v = 0; v < g->n_values; v++) {
        if (g->values[v].quant == RQ_NONE || g->values[v].kind == RQ_VALUE_DEAD)
            continue;
        if (g->values[v].kind == RQ_VALUE_CONST)
            RQ_TRY(decode_const(g, v, k, err));
        g->values[v].quant = RQ_NONE;
    }
    return RQ_OK;
}

static rq_status dequantize(rq_graph *g, rq_err *err)
{
    unsigned cpu;
    rq_kernels k;
    rq_kernels_init(&k, rq_cpu_pinned(&cpu, NULL) ? 0 : cpu);
    RQ_TRY(rq_raise_annotate(g, NULL, err));
    RQ_TRY(restore_relus(g, err));
    RQ_TRY(take_off(g, &k, err));
    for (int i = 0; i < g->n_quants; i++)
        rq_qparams_release(&g->quants[i].q);
    g->n_quants = 0;
    rq_graph_drop_opset(g, "requant");
    rq_graph_prune(g);
    rq_ops_bind(g);
    return RQ_OK;
}

rq_status rq_dequantize(rq_graph *g, rq_err *err)
{
    rq_graph *work;
    if (rq_graph_copy(&work, g))
        return no_memory(err);
    rq_status s = dequantize(work, err);
    if (!s)
        rq_graph_swap(g, work);
    rq_graph_destroy(work);
    return s;
}
