/* run/plan_decide.c — how a node runs: it only renames bytes; it moves codes as they are; it has an integer form that takes
 * these shapes and parameters; it is a table; or none of that, and why. */
#include <string.h>

#include "run/planner.h"

/* A step's arrays, sized for its node. */
rq_status rq_plan_fill_step(rq_planner *b, rq_step *step, const rq_node *n)
{
    rq_arena *a = &b->seg->arena;
    step->row = n->row;
    step->in_form = rq_arena_alloc(a, (size_t)n->n_in, sizeof *step->in_form);
    step->out_form = rq_arena_alloc(a, (size_t)n->n_out, sizeof *step->out_form);
    const rq_tensor **in = rq_arena_alloc(a, (size_t)n->n_in, sizeof *in);
    rq_tensor **out = rq_arena_alloc(a, (size_t)n->n_out, sizeof *out);
    const rq_qparams **in_q = rq_arena_alloc(a, (size_t)n->n_in, sizeof *in_q);
    const rq_qparams **out_q = rq_arena_alloc(a, (size_t)n->n_out, sizeof *out_q);
    step->child = rq_arena_alloc(a, (size_t)n->n_attr, sizeof *step->child);
    if (!step->in_form || !step->out_form || !in || !out || !in_q || !out_q || !step->child)
        return rq_plan_no_memory(b);
    for (int i = 0; i < n->n_in; i++) {
        step->in_form[i] = -1;
        in_q[i] = rq_graph_qparams(b->p->g, n->in[i]);
    }
    for (int i = 0; i < n->n_out; i++) {
        step->out_form[i] = -1;
        out_q[i] = rq_graph_qparams(b->p->g, n->out[i]);
    }
    step->args = (rq_op_args) { .graph = b->p->g,
                                .node = n,
                                .opset = rq_graph_opset(b->p->g, n->domain),
                                .in = in,
                                .out = out,
                                .n_in = n->n_in,
                                .n_out = n->n_out,
                                .in_q = in_q,
                                .out_q = out_q,
                                .k = b->p->k,
                                .threads = b->p->threads,
                                .packs = &b->seg->packs,
                                .err = b->err };
    return RQ_OK;
}

/* Do the constants at inputs 1 and 2 of a QuantizeLinear or DequantizeLinear say the same as q? Then the node only
 * renames codes. */
static bool same_as_inputs(rq_planner *b, const rq_node *n, const rq_qparams *q, rq_dtype codes)
{
    if (n->n_in < 2 || q->axis != RQ_PER_TENSOR || q->dtype != codes)
        return false;
    const rq_form *s = rq_plan_form(b, n->in[1], RQ_FORM_REAL);
    if (!s->known || s->t.dtype != RQ_DTYPE_F32 || rq_tensor_count(&s->t) != 1 ||
        memcmp(s->t.data, q->scale, sizeof(float)) != 0) /* NOLINT(bugprone-suspicious-memory-comparison): bits */
        return false;
    if (n->n_in < 3 || n->in[2] == RQ_NONE)
        return q->zero_point[0] == 0;
    const rq_form *z = rq_plan_form(b, n->in[2], RQ_FORM_REAL);
    return z->known && rq_tensor_count(&z->t) == 1 && rq_tensor_get_int(&z->t, 0) == q->zero_point[0];
}

/* A DequantizeLinear into an annotated value of the same parameters, or a QuantizeLinear out of one: no work. */
bool rq_plan_is_alias(rq_planner *b, const rq_node *n, rq_form_kind *from, rq_form_kind *to)
{
    if (n->n_in < 1 || n->n_out != 1 || n->in[0] == RQ_NONE || n->out[0] == RQ_NONE)
        return false;
    const rq_qparams *in_q = rq_graph_qparams(b->p->g, n->in[0]), *out_q = rq_graph_qparams(b->p->g, n->out[0]);
    const rq_form *x = rq_plan_any_form(b, n->in[0]);
    if (!strcmp(n->op, "DequantizeLinear") && !in_q && out_q && x && same_as_inputs(b, n, out_q, x->t.dtype)) {
        *from = RQ_FORM_REAL;
        *to = RQ_FORM_CODE;
        return true;
    }
    if (!strcmp(n->op, "QuantizeLinear") && in_q && !out_q && same_as_inputs(b, n, in_q, in_q->dtype)) {
        *from = RQ_FORM_CODE;
        *to = RQ_FORM_REAL;
        return true;
    }
    return false;
}

static bool is_byte(const rq_qparams *q)
{
    return q->axis == RQ_PER_TENSOR && (q->dtype == RQ_DTYPE_U8 || q->dtype == RQ_DTYPE_S8);
}

/* Can row.forward move the codes as they are: input 0 and every output have one pair per tensor, the same one or of 8 bits? Outputs that are
 * positions (TopK, MaxPool) hold no reals and need no pair: they stay what they are. */
static bool moves_codes(const rq_op_args *a, const char **why)
{
    const rq_qparams *q = a->n_in ? a->in_q[0] : NULL;
    *why = "input is not quantized";
    if (!q)
        return false;
    *why = "quantized per channel";
    if (q->axis != RQ_PER_TENSOR)
        return false;
    *why = "scale is not positive"; /* the largest code would not be that of the largest real */
    if (!(q->scale[0] > 0))
        return false;
    for (int i = 0; i < a->n_out; i++) {
        const rq_qparams *y = a->out_q[i];
        if (a->node->out[i] == RQ_NONE || (!y && !rq_dtype_is_float(a->out[i]->dtype)))
            continue;
        *why = "output is not quantized";
        if (!y)
            return false;
        *why = "input and output have different parameters, and not of 8 bits each";
        if (!rq_qparams_equal(q, y) && !(is_byte(q) && is_byte(y)))
            return false;
    }
    *why = "another input is quantized";
    for (int i = 1; i < a->n_in; i++)
        if (a->in_q[i])
            return false;
    *why = "codes of less than 8 bits";
    return rq_dtype_bits(q->dtype) >= 8;
}

/* The tensors the operator will see, for asking and preparing it: shapes known, content where it is known. */
rq_step_mode rq_plan_decide(rq_step *step)
{
    const rq_op *row = step->row;
    const rq_op_args *a = &step->args;
    bool any = false;
    for (int i = 0; i < a->n_in; i++)
        any |= a->in_q[i] != NULL;
    bool out_any = false;
    for (int i = 0; i < a->n_out; i++)
        out_any |= a->out_q[i] != NULL;
    if (!any) {
        step->reason = out_any ? "its inputs are not quantized" : NULL;
        return RQ_MODE_REAL;
    }
    const char *why = "no integer form";
    if (row->flags & RQ_OP_MOVES && moves_codes(a, &why))
        return RQ_MODE_CODES;
    if (row->accepts_int && row->accepts_int(a, &why)) {
        if (!a->in_q[0] && !out_any) /* weights alone are codes: the arithmetic is float */
            step->reason = "its input is not quantized";
        return RQ_MODE_INT;
    }
    if (row->flags & RQ_OP_TABLE && rq_int_table_accepts(a, &why))
        return RQ_MODE_TABLE;
    step->reason = why;
    return RQ_MODE_REAL;
}

bool rq_plan_is_tapped(rq_planner *b, rq_id value)
{
    for (int i = 0; i < b->p->n_taps; i++)
        if (b->p->taps[i].value == value)
            return true;
    return false;
}

/* Tensors that describe the inputs and outputs of n before forms for them are chosen: what `decide` is asked with. */
rq_status rq_plan_describe(rq_planner *b, rq_step *step, const rq_node *n, const rq_plan_sizes *s)
{
    const rq_tensor **in = (const rq_tensor **)step->args.in;
    rq_tensor **out = (rq_tensor **)step->args.out;
    rq_tensor *t = rq_arena_alloc(&b->seg->arena, (size_t)(n->n_in + n->n_out), sizeof *t);
    if (!t)
        return rq_plan_no_memory(b);
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        const rq_form *f = rq_plan_any_form(b, n->in[i]), *code = rq_plan_form(b, n->in[i], RQ_FORM_CODE);
        const rq_qparams *q = step->args.in_q[i];
        t[i] = q && code->exists ? code->t : f->t;
        if (q)
            t[i].dtype = q->dtype;
        if (!(q && code->exists ? code->known : f->known && !q))
            t[i].data = NULL;
        in[i] = &t[i];
    }
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        rq_tensor *o = &t[n->n_in + i];
        *o = rq_tensor_view(step->args.out_q[i] ? step->args.out_q[i]->dtype : s->dtype[i], &s->shape[i], NULL);
        out[i] = o;
    }
    return RQ_OK;
}

/* Does t, added to something with the last axes of `s`, run along its last axis and nothing else? */
static bool is_row(const rq_tensor *t, const rq_shape *s)
{
    const int64_t n = s->rank ? s->dim[s->rank - 1] : 0;
    return t->dtype == RQ_DTYPE_F32 && t->shape.rank >= 1 && t->shape.rank <= s->rank && rq_tensor_count(t) == n &&
           t->shape.dim[t->shape.rank - 1] == n;
}

rq_status rq_plan_with_bias(rq_planner *b, const rq_node *n, const rq_plan_sizes *s, const rq_node **out)
{
    const rq_graph *g = b->p->g;
    rq_id user;
    *out = NULL;
    if (strcmp(n->op, "MatMul") != 0 || n->domain[0] || n->n_in != 2 || g->values[n->in[1]].kind != RQ_VALUE_CONST ||
        g->values[n->in[1]].constant.shape.rank != 2 || !rq_graph_qparams(g, n->in[0]) ||
        !rq_graph_qparams(g, n->in[1]) || rq_graph_qparams(g, n->out[0]))
        return RQ_OK;
    if (rq_graph_is_output(g, n->out[0]) || rq_plan_is_tapped(b, n->out[0]) ||
        rq_graph_uses(g, n->out[0], &user, 1) != 1 || user < 0)
        return RQ_OK;
    const rq_node *add = &g->nodes[user];
    if (strcmp(add->op, "Add") != 0 || add->domain[0] || add->n_in != 2 || !rq_graph_qparams(g, add->out[0]))
        return RQ_OK;
    const rq_id bias = add->in[add->in[0] == n->out[0]];
    if (g->values[bias].kind != RQ_VALUE_CONST || rq_graph_qparams(g, bias) ||
        !is_row(&g->values[bias].constant, &s->shape[0]))
        return RQ_OK;
    rq_node *both = rq_arena_alloc(&b->seg->arena, 1, sizeof *both);
    rq_id *in = rq_arena_alloc(&b->seg->arena, 3, sizeof *in);
    if (!both || !in)
        return rq_plan_no_memory(b);
    *both = *n;
    memcpy(in, n->in, 2 * sizeof *in);
    in[2] = bias;
    both->in = in;
    both->n_in = 3;
    both->out = add->out;
    *out = both;
    return RQ_OK;
}
