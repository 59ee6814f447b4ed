/* formats/mil_emit_graph.c — a graph made ready to be written as a program: inputs get the sizes that were asked for, integer operators and
 * annotations become QuantizeLinear and DequantizeLinear, 16-bit floats become f32 between the borders, what can be computed is, and
 * what remains has types and shapes. The same for every target. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "fold/fold.h"
#include "formats/mil_emit_priv.h"
#include "graph/query.h"
#include "ops/eval.h"
#include "ops/op.h"
#include "ops/rewrite.h"
#include "ops/widen.h"

enum { LARGEST_BYTES = 1 << 30 };

void rq_mil_ready_release(rq_mil_ready *r)
{
    for (int i = 0; r->known && i < r->n_known; i++)
        rq_content_release(&r->known[i]);
    rq_mem_free(r->known);
    rq_mem_free(r->order);
    rq_buf_release(&r->notes);
    rq_arena_release(&r->a);
    rq_graph_destroy(r->g);
    *r = (rq_mil_ready) { 0 };
}

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory to write the program");
}

/* ---- sizes of inputs ---- */

/* Inputs that have a value when nobody feeds them are constants: a program has no such inputs. */
static rq_status fix_defaults(rq_mil_ready *r)
{
    rq_graph *g = r->g;
    int n = 0;
    for (int i = 0; i < g->n_inputs; i++) {
        rq_value *v = &g->values[g->inputs[i]];
        if (v->constant.dtype == RQ_DTYPE_NONE) {
            g->inputs[n++] = g->inputs[i];
            continue;
        }
        v->kind = RQ_VALUE_CONST;
        v->dtype = v->constant.dtype;
        v->shape = v->constant.shape;
        if (g->ir_version > 3 || !g->ir_version)
            rq_mil_note(&r->notes,
                        "input '%.120s' has a default value, which it keeps: it is a constant of the program", v->name);
    }
    g->n_inputs = n;
    return RQ_OK;
}

static rq_status take_input(rq_mil_ready *r, const rq_coreml_input *in, rq_err *err)
{
    const rq_graph *g = r->g;
    for (int i = 0; i < g->n_inputs; i++) {
        const rq_value *v = &g->values[g->inputs[i]];
        if (strcmp(v->name, in->name) != 0)
            continue;
        const bool sizes = in->axis || in->n_listed;
        if (sizes && (in->rank < 0 || in->rank > RQ_MAX_RANK || (v->shape.rank >= 0 && v->shape.rank != in->rank)))
            return rq_fail(err, RQ_BAD_SHAPE, "input '%.120s' has %d axes, %d sizes were given", v->name, v->shape.rank,
                           in->rank);
        r->input[i].cfg = in;
        return RQ_OK;
    }
    rq_buf names = { 0 };
    for (int i = 0; i < g->n_inputs; i++)
        rq_buf_addf(&names, "%s'%s'", i ? ", " : "", g->values[g->inputs[i]].name);
    const rq_status st = rq_fail(err, RQ_NOT_FOUND, "the model has no input '%.120s'; its inputs are: %.300s", in->name,
                                 names.data ? names.data : "none");
    rq_buf_release(&names);
    return st;
}

/* What is asked of axis k: one size, or from the least to the greatest. */
static rq_status asked(rq_coreml_axis *a, const rq_coreml_input *in, int k, rq_err *err)
{
    if (in->axis)
        *a = in->axis[k];
    for (int i = 0; i < in->n_listed; i++) {
        const int64_t d = in->listed[(size_t)i * (size_t)in->rank + (size_t)k];
        *a = i ? (rq_coreml_axis) { d < a->lo ? d : a->lo, d > a->hi ? d : a->hi } : (rq_coreml_axis) { d, d };
    }
    if (a->hi == -1)
        return rq_fail(err, RQ_UNSUPPORTED,
                       "input '%.120s': axis %d has no upper bound, which a Core ML program needs; expected one like "
                       "%" PRId64 "..%" PRId64,
                       in->name, k, a->lo, a->lo > 0 ? a->lo * 16 : 16);
    if (a->lo < 1 || a->hi < a->lo || a->hi > INT32_MAX)
        return rq_fail(err, RQ_BAD_ARG, "input '%.120s': axis %d cannot be %" PRId64 "..%" PRId64, in->name, k, a->lo,
                       a->hi);
    return RQ_OK;
}

/* Every axis called `symbol` has this size. */
static void replace_symbol(rq_graph *g, int64_t symbol, int64_t size)
{
    for (rq_id i = 0; symbol < RQ_DIM_UNKNOWN && i < g->n_values; i++)
        for (int k = 0; k < g->values[i].shape.rank; k++)
            if (g->values[i].shape.dim[k] == symbol)
                g->values[i].shape.dim[k] = size;
}

static rq_status size_given(rq_mil_ready *r, int i, bool *changed, rq_err *err)
{
    rq_graph *g = r->g;
    rq_value *v = &g->values[g->inputs[i]];
    const rq_coreml_input *in = r->input[i].cfg;
    char text[48];
    if (!in || (!in->axis && !in->n_listed))
        return RQ_OK;
    if (v->shape.rank < 0) {
        v->shape.rank = in->rank;
        for (int k = 0; k < in->rank; k++)
            v->shape.dim[k] = RQ_DIM_UNKNOWN;
    }
    for (int k = 0; k < in->rank; k++) {
        rq_coreml_axis *a = &r->input[i].axis[k];
        const int64_t was = v->shape.dim[k];
        RQ_TRY(asked(a, in, k, err));
        if (a->lo == a->hi) {
            *changed = *changed || was != a->lo;
            v->shape.dim[k] = a->lo;
            replace_symbol(g, was, a->lo);
        } else if (was >= RQ_DIM_UNKNOWN) { /* an axis that already has a symbol keeps it: equal ones stay equal */
            snprintf(text, sizeof text, "input %d axis %d", i, k);
            v->shape.dim[k] = rq_graph_symbol(g, text);
            if (v->shape.dim[k] == RQ_DIM_UNKNOWN)
                return no_memory(err);
            *changed = true;
        }
    }
    return RQ_OK;
}

/* What is left: the first axis is that of samples, and one; another must be given. */
static rq_status size_rest(rq_mil_ready *r, int i, bool *changed, rq_err *err)
{
    rq_graph *g = r->g;
    const rq_id id = g->inputs[i];
    char text[RQ_SHAPE_TEXT];
    if (g->values[id].shape.rank < 0)
        return rq_fail(
            err, RQ_UNSUPPORTED,
            "the number of axes of input '%.120s' is not known; give its sizes, for example --shape %.60s:1x3x224x224",
            g->values[id].name, g->values[id].name);
    for (int k = 0; k < g->values[id].shape.rank; k++) {
        const int64_t d = g->values[id].shape.dim[k];
        const rq_coreml_axis *a = &r->input[i].axis[k];
        if (d >= 0 || a->lo != a->hi)
            continue;
        if (k > 0)
            return rq_fail(err, RQ_UNSUPPORTED,
                           "axis %d of input '%.120s' %s has no size ('%.40s'); give it, for example --shape "
                           "%.60s:1x3x224x224, or a range (1..16)",
                           k, g->values[id].name, rq_shape_text(&g->values[id].shape, text, sizeof text),
                           d < RQ_DIM_UNKNOWN ? rq_graph_symbol_name(g, d) : "?", g->values[id].name);
        rq_mil_note(&r->notes,
                    "input '%.120s': the first axis, whose size is open, is 1 in the program (--shape gives another)",
                    g->values[id].name);
        g->values[id].shape.dim[k] = 1;
        replace_symbol(g, d, 1);
        *changed = true;
    }
    return RQ_OK;
}

static rq_status give_sizes(rq_mil_ready *r, const rq_coreml_cfg *cfg, rq_err *err)
{
    bool changed = false;
    r->input = rq_arena_alloc(&r->a, (size_t)r->g->n_inputs + 1, sizeof *r->input);
    if (!r->input)
        return no_memory(err);
    for (int i = 0; i < cfg->n_inputs; i++)
        RQ_TRY(take_input(r, &cfg->input[i], err));
    for (int i = 0; i < r->g->n_inputs; i++)
        RQ_TRY(size_given(r, i, &changed, err));
    for (int i = 0; i < r->g->n_inputs; i++)
        RQ_TRY(size_rest(r, i, &changed, err));
    for (int i = 0; i < r->g->n_inputs; i++) { /* sizes of all axes, those that nobody asked for too */
        const rq_shape *s = &r->g->values[r->g->inputs[i]].shape;
        for (int k = 0; k < s->rank; k++)
            if (s->dim[k] >= 0)
                r->input[i].axis[k] = (rq_coreml_axis) { s->dim[k], s->dim[k] };
    }
    if (changed)
        rq_ops_forget_shapes(r->g);
    return RQ_OK;
}

/* ---- one spelling ---- */

static bool is_annotated(const rq_graph *g)
{
    for (rq_id i = 0; i < g->n_values; i++)
        if (g->values[i].kind != RQ_VALUE_DEAD && g->values[i].quant != RQ_NONE)
            return true;
    return false;
}

static bool has_integer_operators(const rq_graph *g)
{
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const char *op = g->nodes[i].op;
        if (op && (!strncmp(op, "QLinear", 7) || !strcmp(op, "QGemm") || !strcmp(op, "MatMulIntegerToFloat")))
            return true;
    }
    return false;
}

/* Does all that computes compute in fp16? Casts stand at the borders of such a graph, whose inputs and outputs may be f32. */
static bool is_half(const rq_graph *g)
{
    bool f16 = false, other = false;
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op || rq_node_is(n, "Cast") || rq_node_is(n, "Constant"))
            continue;
        for (int k = 0; k < n->n_out; k++) {
            const rq_dtype d = n->out[k] != RQ_NONE ? g->values[n->out[k]].dtype : RQ_DTYPE_NONE;
            f16 = f16 || d == RQ_DTYPE_F16;
            other = other || d == RQ_DTYPE_F32 || d == RQ_DTYPE_F64 || d == RQ_DTYPE_BF16;
        }
    }
    return f16 && !other;
}

static rq_status spell(rq_mil_ready *r, rq_err *err)
{
    const bool half = is_half(r->g);
    if (has_integer_operators(r->g))
        RQ_TRY(rq_raise(r->g, NULL, err));
    if (!is_annotated(r->g))
        RQ_TRY(rq_widen(r->g, err));
    RQ_TRY(rq_fold_graph(r->g, NULL, err)); /* batch norms go into the layers before them, as a converter does */
    RQ_TRY(rq_lower_qdq(r->g, err));
    r->half = half || r->g->real == RQ_DTYPE_F16;
    rq_ops_bind(r->g);
    return rq_eval_constants(r->g, err);
}

/* ---- constants ---- */

/* DequantizeLinear of codes that a program keeps as such. */
static bool keeps_codes(const rq_graph *g, const rq_node *n)
{
    const rq_id x = rq_node_in(n, 0);
    if (!rq_node_is(n, "DequantizeLinear") || !rq_graph_is_const(g, x))
        return false;
    const rq_tensor *t = &g->values[x].constant;
    return rq_dtype_is_integer(t->dtype) && rq_dtype_bits(t->dtype) <= 8 && t->shape.rank > 0 && rq_tensor_count(t) > 1;
}

static rq_status fold(rq_mil_ready *r, rq_err *err)
{
    unsigned cpu;
    rq_kernels k;
    rq_id *order;
    int n;
    rq_kernels_init(&k, rq_cpu_pinned(&cpu, NULL) ? 0 : cpu);
    RQ_TRY(rq_order(r->g, &order, &n, err));
    rq_status st = RQ_OK;
    for (int i = 0; i < n && !st; i++) {
        rq_id made;
        bool done;
        if (!keeps_codes(r->g, &r->g->nodes[order[i]]))
            st = rq_eval_fold_node(r->g, order[i], LARGEST_BYTES, &k, &made, &done, err);
    }
    rq_mem_free(order);
    return st;
}

/* Values whose content inference followed become constants. */
static rq_status fix_known(rq_mil_ready *r, rq_err *err)
{
    for (rq_id v = 0; v < r->n_known; v++) {
        const rq_value *x = &r->g->values[v];
        rq_id made;
        if (x->kind == RQ_VALUE_NODE && r->known[v].exact.dtype != RQ_DTYPE_NONE && r->known[v].exact.dtype == x->dtype)
            RQ_TRY(rq_eval_replace(r->g, v, &r->known[v].exact, &made, err));
    }
    return RQ_OK;
}

static rq_status infer(rq_mil_ready *r, rq_err *err)
{
    for (int i = 0; r->known && i < r->n_known; i++)
        rq_content_release(&r->known[i]);
    rq_mem_free(r->known);
    r->known = NULL;
    RQ_TRY(rq_ops_infer_known(r->g, &r->known, err));
    r->n_known = r->g->n_values;
    return RQ_OK;
}

/* ---- codes ---- */

static bool is_code_type(rq_dtype d)
{
    return d == RQ_DTYPE_S8 || d == RQ_DTYPE_U8;
}

/* Mark what QuantizeLinear makes and DequantizeLinear reads, and follow both through what only moves elements. */
static rq_status find_codes(rq_mil_ready *r, rq_err *err)
{
    const rq_graph *g = r->g;
    r->code = rq_arena_alloc(&r->a, (size_t)g->n_values + 1, sizeof *r->code);
    if (!r->code)
        return no_memory(err);
    for (int pass = 0; pass < 2; pass++)
        for (int at = 0; at < r->n_order; at++) {
            const rq_node *n = &g->nodes[r->order[pass ? r->n_order - 1 - at : at]];
            const rq_id x = rq_node_in(n, 0), y = rq_node_out(n, 0);
            const bool moves = n->row && n->row->flags & RQ_OP_MOVES && x != RQ_NONE && y != RQ_NONE &&
                               is_code_type(g->values[x].dtype);
            if (rq_node_is(n, "QuantizeLinear") && y != RQ_NONE && is_code_type(g->values[y].dtype))
                r->code[y] = true;
            if (rq_node_is(n, "DequantizeLinear") && x != RQ_NONE && is_code_type(g->values[x].dtype))
                r->code[x] = true;
            if (!moves)
                continue;
            bool any = r->code[x];
            for (int k = 0; k < n->n_out; k++)
                any = any || (n->out[k] != RQ_NONE && r->code[n->out[k]]);
            for (int k = 0; any && k < n->n_in; k++) /* all that is joined */
                if (n->in[k] != RQ_NONE && g->values[n->in[k]].dtype == g->values[x].dtype)
                    r->code[n->in[k]] = true;
            for (int k = 0; any && k < n->n_out; k++)
                if (n->out[k] != RQ_NONE)
                    r->code[n->out[k]] = true;
        }
    return RQ_OK;
}

rq_status rq_mil_ready_make(rq_mil_ready *r, const rq_graph *g, const rq_coreml_cfg *cfg, rq_err *err)
{
    *r = (rq_mil_ready) { 0 };
    rq_status st = rq_graph_copy(&r->g, g);
    if (st)
        return no_memory(err);
    rq_ops_bind(r->g);
    RQ_TRY(fix_defaults(r));
    RQ_TRY(give_sizes(r, cfg, err));
    RQ_TRY(rq_ops_infer(r->g, err)); /* raising reads shapes */
    RQ_TRY(spell(r, err));
    RQ_TRY(infer(r, err));
    RQ_TRY(fix_known(r, err));
    RQ_TRY(fold(r, err));
    RQ_TRY(rq_mil_ready_codes(r, err));
    rq_graph_prune(r->g);
    rq_ops_bind(r->g);
    RQ_TRY(infer(r, err));
    rq_mil_ready_advise(r);
    RQ_TRY(rq_order(r->g, &r->order, &r->n_order, err));
    return find_codes(r, err);
}
