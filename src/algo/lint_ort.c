/* algo/lint_ort.c — what ONNX Runtime's CPU provider fuses (docs/onnx-facts.md 5.1): an operator between DequantizeLinear and
 * QuantizeLinear runs in integers only if every rule about it holds. Before that the runtime moves Q up and DQ down past
 * operators that only move elements, drops Relu and Clip whose work saturation does, and turns MatMul + Add into Gemm. */
#include "algo/lint_priv.h"

#include <math.h>
#include <string.h>

#include "algo/place.h"
#include "graph/query.h"

#define R1 "5.1 rule 1"
#define R2 "5.1 rule 2"
#define R3 "5.1 rule 3"

static rq_id input(const rq_node *n, int i)
{
    return i < n->n_in ? n->in[i] : RQ_NONE;
}

static const rq_tensor *constant(const rq_graph *g, rq_id v)
{
    return v >= 0 && g->values[v].kind == RQ_VALUE_CONST ? &g->values[v].constant : NULL;
}

static bool is_8bit(rq_dtype d)
{
    return d == RQ_DTYPE_U8 || d == RQ_DTYPE_S8;
}

/* Operators that Q and DQ are moved past. */
static bool is_passed(const rq_lint_view *view, const rq_node *n)
{
    return (rq_node_is(n, "MaxPool") && rq_graph_opset(view->g, "") >= 12 && n->n_out == 1) ||
           rq_node_is(n, "Reshape") || rq_node_is(n, "Transpose") || rq_node_is(n, "Squeeze") ||
           rq_node_is(n, "Unsqueeze") || rq_node_is(n, "Slice");
}

/* On x64 codes of s8 become u8 first, but only between one QuantizeLinear and one reader (rule 10): what is read twice, or is
 * constant, stays s8, which nothing there takes. */
static rq_lint_codes as_run(const rq_lint_view *view, rq_lint_codes c)
{
    const rq_graph *g = view->g;
    if (c.node == RQ_NONE || view->profile != RQ_PROFILE_ORT_CPU_X64 || c.dtype != RQ_DTYPE_S8 || c.weight)
        return c;
    const rq_node *n = &g->nodes[c.node];
    const rq_id codes = !strcmp(n->op, "QuantizeLinear") ? n->out[0] : n->in[0];
    const rq_id dq = view->reader[codes], q = g->values[codes].producer;
    if (dq == RQ_NONE || g->values[codes].kind != RQ_VALUE_NODE || strcmp(g->nodes[q].op, "QuantizeLinear") != 0 ||
        strcmp(g->nodes[dq].op, "DequantizeLinear") != 0 || rq_graph_uses(g, g->nodes[dq].out[0], NULL, 0) != 1 ||
        constant(g, g->nodes[q].in[0]))
        return c;
    c.dtype = RQ_DTYPE_U8;
    c.zero_point += 128;
    return c;
}

/* Do codes with these parameters reach no further than the clamp lets through? */
static bool clamp_goes(const rq_lint_view *view, const rq_node *n, const rq_lint_codes *q)
{
    double lo, hi;
    int64_t least, most;
    if ((!rq_node_is(n, "Relu") && !rq_node_is(n, "Clip")) || !q->constant || q->axis != RQ_PER_TENSOR ||
        !rq_place_clamp_bounds(view->g, n, &lo, &hi))
        return false;
    rq_dtype_limits(q->dtype, &least, &most);
    return (float)(least - q->zero_point) * q->scale >= lo && (float)(most - q->zero_point) * q->scale <= hi;
}

/* The codes that v becomes: by the Q that alone reads it, or by one that moves up to it past operators that move elements. */
static rq_lint_codes codes_moved_up(const rq_lint_view *view, rq_id v)
{
    for (int depth = 0; depth < 64; depth++) {
        const rq_lint_codes q = as_run(view, rq_lint_to(view, v));
        const rq_id r = v >= 0 ? view->reader[v] : RQ_NONE;
        if (q.node != RQ_NONE || r == RQ_NONE || !is_passed(view, &view->g->nodes[r]) || view->g->nodes[r].in[0] != v)
            return q;
        v = view->g->nodes[r].out[0];
    }
    return (rq_lint_codes) { .node = RQ_NONE };
}

/* The same, or those behind a Relu or Clip that is dropped: which happens after the moving. */
static rq_lint_codes codes_after(const rq_lint_view *view, rq_id v)
{
    const rq_lint_codes q = codes_moved_up(view, v);
    const rq_id r = v >= 0 ? view->reader[v] : RQ_NONE;
    if (q.node != RQ_NONE || r == RQ_NONE || view->g->nodes[r].n_out != 1 || view->g->nodes[r].in[0] != v)
        return q;
    const rq_lint_codes behind = codes_moved_up(view, view->g->nodes[r].out[0]);
    return behind.node != RQ_NONE && clamp_goes(view, &view->g->nodes[r], &behind) ? behind : q;
}

/* The codes that v was: by the DQ that made it, or by one moved down to it. */
static rq_lint_codes codes_before(const rq_lint_view *view, rq_id v)
{
    for (int depth = 0; depth < 64 && v >= 0; depth++) {
        if (view->from[v].node != RQ_NONE)
            return as_run(view, view->from[v]);
        const rq_value *x = &view->g->values[v];
        if (x->kind != RQ_VALUE_NODE || !is_passed(view, &view->g->nodes[x->producer]))
            break;
        v = view->g->nodes[x->producer].in[0];
    }
    return (rq_lint_codes) { .node = RQ_NONE };
}

/* ---- the rules ---- */

static bool need_input(const rq_lint_view *view, rq_id node, int i, rq_lint_codes *c, rq_lint_answer *a)
{
    *c = codes_before(view, view->g->nodes[node].in[i]);
    if (c->node == RQ_NONE)
        return rq_lint_say_no_dq(view, node, i, R1, a);
    if (!c->constant)
        return rq_lint_say(a, RQ_LINT_FLOAT, R2, "scale or zero point of input %d is computed", i);
    return true;
}

static bool stays_s8(const rq_lint_view *view, const rq_lint_codes *c, const char *what, rq_lint_answer *a)
{
    if (view->profile != RQ_PROFILE_ORT_CPU_X64 || c->dtype != RQ_DTYPE_S8)
        return false;
    rq_lint_say(a, RQ_LINT_FLOAT, "5.1 rule 10", "the s8 codes of %s %s, so they do not become u8", what,
                c->weight ? "are constant" : "have several readers");
    return true;
}

static bool need_activation(const rq_lint_view *view, rq_id node, int i, rq_lint_codes *c, rq_lint_answer *a)
{
    if (!need_input(view, node, i, c, a))
        return false;
    if (c->axis != RQ_PER_TENSOR)
        return rq_lint_say(a, RQ_LINT_FLOAT, R2, "input %d has a scale per channel", i);
    if (!is_8bit(c->dtype))
        return rq_lint_say(a, RQ_LINT_FLOAT, R3, "input %d has codes of %d bits", i, rq_dtype_bits(c->dtype));
    return !stays_s8(view, c, i ? "another input" : "its input", a);
}

static bool need_output(const rq_lint_view *view, rq_id node, const rq_lint_codes *x, rq_lint_answer *a)
{
    const rq_id y = view->g->nodes[node].out[0];
    const rq_lint_codes q = codes_after(view, y);
    if (q.node == RQ_NONE)
        return rq_lint_say_no_q(view, y, R1, a);
    if (!q.constant || q.axis != RQ_PER_TENSOR)
        return rq_lint_say(a, RQ_LINT_FLOAT, R2, "its result has scales that are computed, or one per channel");
    if (stays_s8(view, &q, "its result", a))
        return false;
    if (q.dtype != x->dtype)
        return rq_lint_say(a, RQ_LINT_FLOAT, R3, "it reads %s and makes %s", rq_dtype_name(x->dtype),
                           rq_dtype_name(q.dtype));
    return true;
}

static bool need_weight(const rq_lint_view *view, rq_id node, const rq_lint_codes *x, const char *rule,
                        rq_lint_codes *w, rq_lint_answer *a)
{
    if (!need_input(view, node, 1, w, a))
        return false;
    if (!is_8bit(w->dtype) || w->block)
        return rq_lint_say(a, RQ_LINT_FLOAT, R3, "its weights have codes of %d bits%s", rq_dtype_bits(w->dtype),
                           w->block ? " by blocks" : "");
    if (!w->weight && stays_s8(view, w, "another input", a))
        return false;
    if (x->dtype == RQ_DTYPE_S8 && w->dtype != RQ_DTYPE_S8)
        return rq_lint_say(a, RQ_LINT_FLOAT, rule, "s8 activations need s8 weights");
    return true;
}

/* A bias is s32 behind a DequantizeLinear, or a float constant where the output is rounded. */
static bool need_bias(const rq_lint_view *view, rq_id node, const char *rule, bool rounded, rq_lint_answer *a)
{
    const rq_id b = input(&view->g->nodes[node], 2);
    if (b == RQ_NONE)
        return true;
    const rq_lint_codes c = codes_before(view, b);
    if (c.node != RQ_NONE && c.dtype == RQ_DTYPE_S32)
        return true;
    if (c.node == RQ_NONE && constant(view->g, b) && rounded)
        return true;
    return rq_lint_say(a, RQ_LINT_FLOAT, rule, "its bias is %s",
                       c.node != RQ_NONE ? "not of s32 codes" : "a float, and its result is not rounded");
}

static bool judge_conv(const rq_lint_view *view, rq_id node, rq_lint_answer *a)
{
    rq_lint_codes x, w;
    return need_activation(view, node, 0, &x, a) && need_weight(view, node, &x, "5.1 rule 4", &w, a) &&
           need_output(view, node, &x, a) && need_bias(view, node, "5.1 rule 4", true, a);
}

static bool judge_gemm(const rq_lint_view *view, rq_id node, rq_lint_answer *a)
{
    const rq_node *n = &view->g->nodes[node];
    rq_lint_codes x, w;
    const bool bias = input(n, 2) != RQ_NONE;
    const bool rounded = codes_after(view, n->out[0]).node != RQ_NONE;
    if (!need_activation(view, node, 0, &x, a) || !need_weight(view, node, &x, "5.1 rule 6", &w, a))
        return false;
    if (bias && (rq_attr_float(n, RQ_WORD_beta, 1) != 1 || rq_attr_float(n, RQ_WORD_alpha, 1) != 1))
        return rq_lint_say(a, RQ_LINT_FLOAT, "5.1 rule 6", "alpha or beta is not 1");
    if (rounded && !need_output(view, node, &x, a))
        return false;
    return need_bias(view, node, "5.1 rule 6", rounded, a);
}

/* The Add that a MatMul of two matrices becomes a Gemm with, before anything else happens; RQ_NONE: none. */
static rq_id gemm_add(const rq_lint_view *view, rq_id node)
{
    const rq_graph *g = view->g;
    const rq_node *n = &g->nodes[node];
    const rq_id r = view->reader[n->out[0]];
    if (r == RQ_NONE || !rq_node_is(&g->nodes[r], "Add") || g->values[n->in[0]].shape.rank != 2 ||
        g->values[n->in[1]].shape.rank != 2)
        return RQ_NONE;
    const rq_node *add = &g->nodes[r];
    const rq_tensor *b = constant(g, add->in[add->in[0] == n->out[0]]);
    const rq_shape *w = &g->values[n->in[1]].shape;
    return b && b->shape.rank >= 1 && b->shape.dim[b->shape.rank - 1] == w->dim[1] && rq_tensor_count(b) == w->dim[1]
               ? r
               : RQ_NONE;
}

/* Weights alone are codes: MatMulNBits, unless a function behind it is fused first. `last`: the MatMul, or the Add behind. */
static bool judge_nbits(const rq_lint_view *view, rq_id last, const rq_lint_codes *w, rq_lint_answer *a)
{
    static const char *const fused[] = { "Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Elu" };
    const rq_graph *g = view->g;
    const rq_id reader = view->reader[g->nodes[last].out[0]];
    if ((w->block && w->block < 16) || (!w->block && w->axis != 1) || rq_dtype_bits(w->dtype) > 8)
        return rq_lint_say(a, RQ_LINT_FLOAT, "5.1", "its weights are not in blocks of at least 16, or per column");
    for (size_t i = 0; reader != RQ_NONE && rq_node_is(&g->nodes[last], "Add") && i < sizeof fused / sizeof *fused; i++)
        if (rq_node_is(&g->nodes[reader], fused[i]))
            return rq_lint_say(a, RQ_LINT_FLOAT, "5.1", "it becomes a float Gemm with the Add and the %s behind it",
                               fused[i]);
    return true;
}

static bool judge_matmul(const rq_lint_view *view, rq_id node, rq_lint_answer *a)
{
    const rq_graph *g = view->g;
    const rq_node *n = &g->nodes[node];
    rq_lint_codes x, w;
    const rq_id add = gemm_add(view, node);
    const rq_lint_codes b = codes_before(view, n->in[1]);
    if (b.node != RQ_NONE && b.weight && codes_before(view, n->in[0]).node == RQ_NONE)
        return judge_nbits(view, add == RQ_NONE ? node : add, &b, a);
    if (!need_activation(view, node, 0, &x, a) || !need_weight(view, node, &x, "5.1 rule 5", &w, a))
        return false;
    if (add != RQ_NONE && codes_after(view, g->nodes[add].out[0]).node == RQ_NONE)
        return rq_lint_say(a, RQ_LINT_FLOAT, "5.1",
                           "it becomes a Gemm with the Add behind it, whose result is not rounded");
    if (add == RQ_NONE && codes_after(view, n->out[0]).node != RQ_NONE)
        return need_output(view, node, &x, a);
    return true;
}

/* Operators whose data and output are codes of one type; all inputs are data. */
static bool judge_alike(const rq_lint_view *view, rq_id node, int first, int n_data, rq_lint_answer *a)
{
    rq_lint_codes x = { 0 }, other;
    if (!need_activation(view, node, first, &x, a))
        return false;
    for (int i = first + 1; i < first + n_data; i++) {
        if (!need_activation(view, node, i, &other, a))
            return false;
        if (other.dtype != x.dtype)
            return rq_lint_say(a, RQ_LINT_FLOAT, R3, "it reads %s and %s", rq_dtype_name(x.dtype),
                               rq_dtype_name(other.dtype));
    }
    return need_output(view, node, &x, a);
}

static bool judge_add(const rq_lint_view *view, rq_id node, rq_lint_answer *a)
{
    const rq_graph *g = view->g;
    const rq_node *n = &g->nodes[node];
    for (int i = 0; i < 2 && n->n_in == 2; i++) { /* part of a Gemm? */
        const rq_value *v = &g->values[n->in[i]];
        if (v->kind != RQ_VALUE_NODE || !rq_node_is(&g->nodes[v->producer], "MatMul") ||
            gemm_add(view, v->producer) != node)
            continue;
        rq_lint_answer product = { .runs = RQ_LINT_INTEGER };
        if (judge_matmul(view, v->producer, &product))
            return true;
        *a = product;
        return rq_lint_say(a, RQ_LINT_FLOAT, product.rule,
                           "it becomes a Gemm with the MatMul before it, which is float");
    }
    return judge_alike(view, node, 0, 2, a);
}

static bool judge_moving(const rq_lint_view *view, rq_id node, rq_lint_answer *a)
{
    const rq_node *n = &view->g->nodes[node];
    const rq_lint_codes x = codes_before(view, n->in[0]);
    if (rq_node_is(n, "Resize") && strcmp(rq_attr_string(n, RQ_WORD_mode, "nearest"), "nearest") != 0)
        return rq_lint_say(a, RQ_LINT_FLOAT, "5.1", "there is no integer form of it for mode %s",
                           rq_attr_string(n, RQ_WORD_mode, ""));
    if (rq_node_is(n, "MaxPool") && rq_graph_opset(view->g, "") < 12)
        return rq_lint_say(a, RQ_LINT_FLOAT, "5.1 rule 7", "before opset 12 it has no integer form");
    if (rq_node_is(n, "MaxPool") && x.node != RQ_NONE && !is_8bit(x.dtype))
        return rq_lint_say(a, RQ_LINT_FLOAT, R3, "its input has codes of %d bits", rq_dtype_bits(x.dtype));
    bool all = true, direct = false;
    for (int k = 0; k < n->n_out; k++) {
        const bool wanted = n->out[k] != RQ_NONE;
        const rq_lint_codes q = wanted ? codes_moved_up(view, n->out[k]) : (rq_lint_codes) { .node = RQ_NONE };
        direct |= wanted && rq_lint_to(view, n->out[k]).node != RQ_NONE;
        if (q.node == RQ_NONE)
            all = false;
        else if (x.node != RQ_NONE && direct && !rq_lint_same(&q, &x))
            return rq_lint_say(a, RQ_LINT_FLOAT, "5.1 rule 7", "its result has other parameters than its input");
    }
    if (x.node != RQ_NONE && is_passed(view, n))
        return true; /* the DQ moves behind it, or the pair around it goes */
    const rq_value *from = &view->g->values[n->in[0]];
    if (all && is_passed(view, n) && (view->reader[n->in[0]] == node || from->kind == RQ_VALUE_INPUT))
        return true; /* the Q moves before it */
    if (x.node == RQ_NONE)
        return rq_lint_say_no_dq(view, node, 0, R1, a);
    return all ? true : rq_lint_say_no_q(view, n->out[0], R1, a);
}

static bool judge_clamp(const rq_lint_view *view, rq_id node, rq_lint_answer *a)
{
    const rq_node *n = &view->g->nodes[node];
    const rq_lint_codes q = codes_moved_up(view, n->out[0]);
    if (q.node != RQ_NONE && clamp_goes(view, n, &q))
        return rq_lint_say(a, RQ_LINT_GONE, "5.1 rule 8", "saturation does its work");
    if (q.node == RQ_NONE)
        return rq_lint_say_no_q(view, n->out[0], "5.1 rule 8", a);
    return rq_lint_say(a, RQ_LINT_FLOAT, "5.1 rule 8", "the codes of its result reach beyond its limits");
}

/* A float bias is quantized while the model loads (rule 4) by a Round, which opsets below 11 do not have: such a file does
 * not load. */
static bool needs_round(const rq_lint_view *view, const rq_node *n)
{
    const rq_tensor *b = constant(view->g, input(n, 2));
    if ((!rq_node_is(n, "Conv") && !rq_node_is(n, "Gemm")) || rq_graph_opset(view->g, "") >= 11 || !b ||
        b->dtype != RQ_DTYPE_F32 || view->from[n->in[0]].node == RQ_NONE || view->from[n->in[1]].node == RQ_NONE)
        return false;
    const rq_id r = view->reader[n->out[0]];
    return rq_lint_to(view, n->out[0]).node != RQ_NONE || (r != RQ_NONE && rq_node_is(&view->g->nodes[r], "Relu") &&
                                                           rq_lint_to(view, view->g->nodes[r].out[0]).node != RQ_NONE);
}

void rq_lint_ort(const rq_lint_view *view, rq_id node, rq_lint_answer *a)
{
    static const char *const one[] = { "Sigmoid", "LeakyRelu", "Softmax", "AveragePool", "GlobalAveragePool" };
    const rq_node *n = &view->g->nodes[node];
    if (needs_round(view, n)) {
        rq_lint_say(a, RQ_LINT_REFUSED, "5.1 rule 4",
                    "its bias is a float, and the Round that would quantize it needs opset 11");
    } else if (rq_node_is(n, "Conv")) {
        judge_conv(view, node, a);
    } else if (rq_node_is(n, "Gemm")) {
        judge_gemm(view, node, a);
    } else if (rq_node_is(n, "MatMul")) {
        judge_matmul(view, node, a);
    } else if (rq_node_is(n, "Add")) {
        judge_add(view, node, a);
    } else if (rq_node_is(n, "Mul")) {
        judge_alike(view, node, 0, 2, a);
    } else if (rq_node_is(n, "Concat")) {
        judge_alike(view, node, 0, n->n_in, a);
    } else if (rq_node_is(n, "Where")) {
        judge_alike(view, node, 1, 2, a);
    } else if (rq_node_is(n, "ArgMax")) {
        rq_lint_codes x;
        need_activation(view, node, 0, &x, a);
    } else if (rq_node_is(n, "Relu") || rq_node_is(n, "Clip")) {
        judge_clamp(view, node, a);
    } else if (rq_lint_is_moving(n)) {
        judge_moving(view, node, a);
    } else {
        for (size_t i = 0; i < sizeof one / sizeof *one; i++)
            if (rq_node_is(n, one[i])) {
                judge_alike(view, node, 0, 1, a);
                return;
            }
        rq_lint_say(a, RQ_LINT_FLOAT, "5.1", "there is no integer form of it");
    }
}
