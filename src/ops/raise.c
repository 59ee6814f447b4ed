/* ops/raise.c — quantized models of others become plain operators with annotated values: the steps, and how
 * parameters are read. raise.h says what the result looks like. */
#include "ops/raise.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "ops/eval.h"
#include "ops/widen.h"
#include "quant/codes.h"

const rq_tensor *rq_raise_const(const rq_graph *g, rq_id v)
{
    return v >= 0 && g->values[v].kind == RQ_VALUE_CONST ? &g->values[v].constant : NULL;
}

bool rq_raise_is(const rq_node *n, const char *op, bool ms)
{
    if (!n->op || strcmp(n->op, op))
        return false;
    return !n->domain[0] || !strcmp(n->domain, "ai.onnx") || (ms && !strcmp(n->domain, "com.microsoft"));
}

bool rq_raise_is_sound(const rq_qparams *q)
{
    for (int64_t i = 0; i < q->n; i++)
        if (!(q->scale[i] >= FLT_MIN && q->scale[i] <= FLT_MAX / 65536))
            return false;
    return true;
}

bool rq_raise_is_plain(const rq_qparams *q)
{
    return q->axis == RQ_PER_TENSOR && rq_raise_is_sound(q);
}

static bool is_code_type(rq_dtype d)
{
    return rq_dtype_is_integer(d) && rq_dtype_bits(d) <= 32 && d != RQ_DTYPE_U32;
}

/* The axis that n scales belong to; false when they fit no granularity. */
static bool resolve_axis(const rq_tensor *scale, int64_t axis, int64_t block, const rq_shape *shape, int *out)
{
    int64_t n = rq_tensor_count(scale);
    *out = RQ_PER_TENSOR;
    if (n == 1 && !block)
        return true;
    if (axis < 0 && shape->rank < 0)
        return false;
    axis += axis < 0 ? shape->rank : 0;
    if (axis < 0 || axis >= RQ_MAX_RANK || (shape->rank >= 0 && axis >= shape->rank))
        return false;
    *out = (int)axis;
    if (!block) {
        bool known = shape->rank >= 0 && shape->dim[axis] >= 0;
        return scale->shape.rank == 1 && (!known || shape->dim[axis] == n);
    }
    if (block < 0 || scale->shape.rank != shape->rank)
        return false;
    for (int i = 0; i < shape->rank; i++) {
        int64_t want = i == axis ? (shape->dim[i] + block - 1) / block : shape->dim[i];
        if (shape->dim[i] < 0 || scale->shape.dim[i] != want)
            return false;
    }
    return true;
}

rq_status rq_raise_params(rq_raise_state *r, rq_id scale, rq_id zero_point, rq_dtype d, int64_t axis, int64_t block,
                          const rq_shape *shape, rq_id *quant)
{
    rq_graph *g = r->g;
    const rq_tensor *s = rq_raise_const(g, scale), *z = rq_raise_const(g, zero_point);
    int at;
    *quant = RQ_NONE;
    if (!s || s->dtype != RQ_DTYPE_F32 || !is_code_type(d) || (zero_point != RQ_NONE && (!z || z->dtype != d)) ||
        !resolve_axis(s, axis, block, shape, &at))
        return RQ_OK;
    int64_t n = rq_tensor_count(s), n_zero = z ? rq_tensor_count(z) : 0;
    if (n < 1 || (z && n_zero != n && n_zero != 1))
        return RQ_OK;
    for (int i = 0; i < r->n_entries; i++) {
        const rq_raise_entry *e = &r->entry[i];
        if (e->scale == scale && e->zero_point == zero_point && e->dtype == d && e->axis == at && e->block == block) {
            *quant = e->quant;
            return RQ_OK;
        }
    }
    rq_qparams q;
    rq_id id;
    if (rq_qparams_init(&q, d, at, block, n) ||
        !rq_mem_grow(&r->entry, r->n_entries, &r->cap_entries, sizeof *r->entry))
        goto no_memory;
    for (int64_t i = 0; i < n; i++) {
        q.scale[i] = s->f32[i];
        q.zero_point[i] = z ? (int32_t)rq_tensor_get_int(z, n_zero == 1 ? 0 : i) : 0;
    }
    if (rq_graph_add_quant(g, &id, &q, "file"))
        goto no_memory;
    g->quants[id].scale_name = g->values[scale].name[0] ? g->values[scale].name : NULL;
    g->quants[id].zero_point_name = z && g->values[zero_point].name[0] ? g->values[zero_point].name : NULL;
    r->entry[r->n_entries++] = (rq_raise_entry) { scale, zero_point, d, at, block, id };
    *quant = id;
    return RQ_OK;
no_memory:
    rq_qparams_release(&q);
    return rq_fail(r->err, RQ_NO_MEMORY, "out of memory for the scales '%s'", g->values[scale].name);
}

static rq_status raise_steps(rq_graph *g, bool spread, int *n_raised, rq_err *err)
{
    rq_raise_state r = { .g = g, .err = err };
    unsigned cpu;
    rq_kernels_init(&r.kernels, rq_cpu_pinned(&cpu, NULL) ? 0 : cpu);
    rq_status st = rq_eval_constants(g, err);
    if (!st)
        st = rq_widen_quantized(g, err);
    if (!st)
        st = rq_raise_qoperator(&r);
    if (!st)
        st = rq_raise_qdq(&r);
    if (!st && spread)
        st = rq_raise_spread(&r);
    rq_mem_free(r.entry);
    if (st)
        return st;
    rq_graph_prune(g);
    rq_ops_bind(g);
    if (n_raised)
        *n_raised = r.n_raised;
    return RQ_OK;
}

rq_status rq_raise(rq_graph *g, int *n_raised, rq_err *err)
{
    return raise_steps(g, true, n_raised, err);
}

/* ---- bodies of If, Loop and Scan ---- */

/* The constant a captured value stands for, through all graphs around; NULL: it is computed, or fed. */
static const rq_value *captured_constant(const rq_graph *g, const rq_value *v)
{
    while (v->kind == RQ_VALUE_CAPTURED && g->outer) {
        g = g->outer;
        v = &g->values[v->outer];
    }
    return v->kind == RQ_VALUE_CONST && v->quant == RQ_NONE ? v : NULL;
}

/* fn(body) for the bodies of g's nodes. */
static rq_status each_body(rq_graph *g, rq_status (*fn)(rq_graph *body, rq_err *err), rq_err *err)
{
    for (rq_id i = 0; i < g->n_nodes; i++)
        for (int a = 0; g->nodes[i].op && a < g->nodes[i].n_attr; a++) {
            const rq_attr *at = &g->nodes[i].attr[a];
            for (int k = 0; k < rq_attr_bodies(at); k++)
                RQ_TRY(fn(at->g[k], err));
        }
    return RQ_OK;
}

/* Exporters keep weights and scales in the outermost graph: a body gets shares of what it captures. */
static rq_status own_constants(rq_graph *body, rq_err *err)
{
    for (rq_id v = 0; v < body->n_values; v++) {
        rq_value *x = &body->values[v];
        const rq_value *from = x->kind == RQ_VALUE_CAPTURED ? captured_constant(body, x) : NULL;
        if (!from)
            continue;
        rq_tensor_share(&x->constant, &from->constant);
        x->kind = RQ_VALUE_CONST;
        x->outer = RQ_NONE;
        x->dtype = from->constant.dtype;
        x->shape = from->constant.shape;
    }
    return each_body(body, own_constants, err);
}

static rq_status raise_body(rq_graph *body, rq_err *err)
{
    RQ_TRY(raise_steps(body, true, NULL, err));
    rq_raise_clamps(body);
    return each_body(body, raise_body, err);
}

rq_status rq_raise_to_run(rq_graph *g, rq_err *err)
{
    RQ_TRY(rq_eval_constants(g, err));
    RQ_TRY(each_body(g, own_constants, err));
    RQ_TRY(rq_raise(g, NULL, err));
    rq_raise_clamps(g);
    return each_body(g, raise_body, err);
}

rq_status rq_raise_annotate(rq_graph *g, int *n_raised, rq_err *err)
{
    return raise_steps(g, false, n_raised, err);
}

/* ---- is anything quantized? ---- */

static bool is_quantized_op(const rq_node *n)
{
    static const char *const plain[] = { "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
                                         "QLinearConv",    "QLinearMatMul",    "MatMulInteger",
                                         "ConvInteger" };
    static const char *const ms[] = { "QuantizeLinear",
                                      "DequantizeLinear",
                                      "QGemm",
                                      "QAttention",
                                      "QEmbedLayerNormalization",
                                      "MatMulIntegerToFloat",
                                      "DynamicQuantizeMatMul",
                                      "DynamicQuantizeLSTM",
                                      "MatMulInteger16",
                                      "MulInteger",
                                      "ReduceSumInteger",
                                      "MatMulNBits",
                                      "MatMulBnb4",
                                      "GatherBlockQuantized",
                                      "QMoE" };
    if (!strcmp(n->domain, "requant"))
        return !strcmp(n->op, "Requantize") || !strcmp(n->op, "DynamicQuantizeGRU") ||
               !strcmp(n->op, "DynamicQuantizeRNN");
    bool ours = !strcmp(n->domain, "com.microsoft");
    if (ours && !strncmp(n->op, "QLinear", 7))
        return true;
    for (size_t i = 0; ours && i < sizeof ms / sizeof *ms; i++)
        if (!strcmp(n->op, ms[i]))
            return true;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (rq_raise_is(n, plain[i], false))
            return true;
    return false;
}

bool rq_graph_is_quantized(const rq_graph *g)
{
    for (int i = 0; i < g->n_values; i++)
        if (g->values[i].kind != RQ_VALUE_DEAD && g->values[i].quant != RQ_NONE)
            return true;
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        if (is_quantized_op(n))
            return true;
        for (int a = 0; a < n->n_attr; a++)
            for (int k = 0; k < rq_attr_bodies(&n->attr[a]); k++)
                if (rq_graph_is_quantized(n->attr[a].g[k]))
                    return true;
    }
    return false;
}
