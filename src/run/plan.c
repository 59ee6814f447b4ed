/* run/plan.c — from nodes to steps. For each node in order: infer its sizes with what is known, evaluate it at once
 * if all of its inputs are known, else decide whether it runs on reals or on codes, add the conversions that its
 * inputs need, and let the operator prepare. See program.h. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "quant/codes.h"
#include "run/program.h"

/* A value computed while planning may take this much; larger ones are made when running. */
enum { FOLD_BYTES = 64 << 20 };

typedef struct planner {
    rq_program *p;
    rq_segment *seg;
    int at; /* position in order of the node being planned */
    rq_err *err;
} planner;

static rq_form *form_of(planner *b, rq_id value, rq_form_kind kind)
{
    return &b->p->forms[rq_form_id(value, kind)];
}

static rq_status out_of_memory(planner *b)
{
    return rq_fail(b->err, RQ_NO_MEMORY, "out of memory planning the graph");
}

/* ---- forms ---- */

static rq_status make_form(planner *b, rq_id value, rq_form_kind kind, rq_dtype d, const rq_shape *shape, int def)
{
    rq_segment *s = b->seg;
    if (!rq_mem_grow(&s->made, s->n_made, &s->cap_made, sizeof *s->made))
        return out_of_memory(b);
    s->made[s->n_made++] = rq_form_id(value, kind);
    *form_of(b, value, kind) =
        (rq_form) { .t = rq_tensor_view(d, shape, NULL), .exists = true, .def = def, .last = def, .view_of = -1 };
    return RQ_OK;
}

/* Mark `form` as used by step `step`, and what it is a view of. */
static void use_form(planner *b, int32_t form, int step)
{
    for (; form >= 0; form = b->p->forms[form].view_of) {
        rq_form *f = &b->p->forms[form];
        if (f->last < step)
            f->last = step;
    }
}

/* Values that later nodes use keep all their forms; which of them will be wanted is not known yet. */
static void keep_for_later(planner *b)
{
    for (int i = 0; i < b->seg->n_made; i++) {
        int32_t id = b->seg->made[i];
        if (id % RQ_N_FORMS != RQ_FORM_RAW && b->p->last_use[id / RQ_N_FORMS] >= b->seg->next_node)
            use_form(b, id, INT_MAX);
    }
}

static rq_step *add_step(planner *b, rq_step_kind kind)
{
    rq_segment *s = b->seg;
    if (!rq_mem_grow(&s->steps, s->n_steps, &s->cap_steps, sizeof *s->steps))
        return NULL;
    rq_step *step = &s->steps[s->n_steps++];
    *step = (rq_step) { .kind = kind, .node = RQ_NONE, .value = RQ_NONE };
    return step;
}

/* Conversion step of a value from one form to another. */
static rq_status add_conversion(planner *b, rq_step_kind kind, rq_id value, rq_form_kind from, rq_form_kind to)
{
    rq_step *step = add_step(b, kind);
    int32_t *ids = rq_arena_alloc(&b->seg->arena, 2, sizeof *ids);
    if (!step || !ids)
        return out_of_memory(b);
    ids[0] = rq_form_id(value, from);
    ids[1] = rq_form_id(value, to);
    step->value = value;
    step->in_form = &ids[0];
    step->out_form = &ids[1];
    step->args.n_in = step->args.n_out = 1;
    use_form(b, ids[0], b->seg->n_steps - 1);
    return RQ_OK;
}

/* Convert a known form into another known one, now. */
static rq_status convert_known(planner *b, rq_id value, rq_form_kind from, rq_form_kind to)
{
    const rq_qparams *q = rq_graph_qparams(b->p->g, value);
    rq_form *src = form_of(b, value, from);
    rq_tensor made;
    rq_status st = rq_tensor_create(&made, to == RQ_FORM_CODE ? q->dtype : RQ_DTYPE_F32, &src->t.shape, true);
    if (st)
        return rq_fail(b->err, st, "out of memory converting '%s'", b->p->g->values[value].name);
    if (to == RQ_FORM_CODE)
        rq_codes_from_reals(&made, &src->t, q, b->p->k);
    else
        rq_codes_to_reals(&made, &src->t, q, b->p->k);
    st = make_form(b, value, to, made.dtype, &made.shape, 0);
    if (st) {
        rq_tensor_release(&made);
        return st;
    }
    rq_form *dst = form_of(b, value, to);
    dst->t = made;
    dst->known = true;
    return RQ_OK;
}

/* See to it that a form exists at this point of the plan. */
static rq_status need(planner *b, rq_id value, rq_form_kind kind)
{
    rq_form *want = form_of(b, value, kind);
    if (want->exists)
        return RQ_OK;
    const rq_value *v = &b->p->g->values[value];
    const rq_qparams *q = rq_graph_qparams(b->p->g, value);
    rq_form *raw = form_of(b, value, RQ_FORM_RAW), *code = form_of(b, value, RQ_FORM_CODE);
    if (!q || (!raw->exists && !code->exists))
        return rq_fail(b->err, RQ_INTERNAL, "value '%s' is used before it is made", v->name);
    const rq_shape shape = code->exists ? code->t.shape : raw->t.shape;
    RQ_TRY(rq_codes_check(q, &shape, b->err) ? rq_fail_in(b->err, RQ_BAD_SHAPE, "value '%s'", v->name) : RQ_OK);
    if (!code->exists) {
        if (raw->t.dtype != RQ_DTYPE_F32)
            return rq_fail(b->err, RQ_UNSUPPORTED, "value '%s' is quantized from %s; only f32 can be", v->name,
                           rq_dtype_name(raw->t.dtype));
        if (raw->known) {
            RQ_TRY(convert_known(b, value, RQ_FORM_RAW, RQ_FORM_CODE));
        } else {
            RQ_TRY(add_conversion(b, RQ_STEP_QUANTIZE, value, RQ_FORM_RAW, RQ_FORM_CODE));
            RQ_TRY(make_form(b, value, RQ_FORM_CODE, q->dtype, &shape, b->seg->n_steps - 1));
        }
    }
    if (kind == RQ_FORM_REAL) {
        if (code->known)
            return convert_known(b, value, RQ_FORM_CODE, RQ_FORM_REAL);
        RQ_TRY(add_conversion(b, RQ_STEP_DEQUANTIZE, value, RQ_FORM_CODE, RQ_FORM_REAL));
        RQ_TRY(make_form(b, value, RQ_FORM_REAL, RQ_DTYPE_F32, &shape, b->seg->n_steps - 1));
    }
    return RQ_OK;
}

/* The form that says what a value's size is, whichever exists. */
static const rq_form *any_form(planner *b, rq_id value)
{
    for (int k = 0; k < RQ_N_FORMS; k++)
        if (form_of(b, value, (rq_form_kind)k)->exists)
            return form_of(b, value, (rq_form_kind)k);
    return NULL;
}

/* Where the reals of a node's output go first: rounded afterwards when the value is annotated. */
static rq_form_kind real_target(const rq_graph *g, rq_id value)
{
    return rq_graph_qparams(g, value) ? RQ_FORM_RAW : RQ_FORM_REAL;
}

/* ---- deciding how a node runs ---- */

/* A step's arrays, sized for its node. */
static rq_status fill_step(planner *b, rq_step *step, const rq_node *n)
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
        return out_of_memory(b);
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
                                .err = b->err };
    return RQ_OK;
}

/* Do the constants at inputs 1 and 2 of a QuantizeLinear or DequantizeLinear say the same as q? Then the node only
 * renames codes. */
static bool same_as_inputs(planner *b, const rq_node *n, const rq_qparams *q, rq_dtype codes)
{
    if (n->n_in < 2 || q->axis != RQ_PER_TENSOR || q->dtype != codes)
        return false;
    const rq_form *s = form_of(b, n->in[1], RQ_FORM_REAL);
    if (!s->known || s->t.dtype != RQ_DTYPE_F32 || rq_tensor_count(&s->t) != 1 ||
        memcmp(s->t.data, q->scale, sizeof(float)) != 0) /* NOLINT(bugprone-suspicious-memory-comparison): bits */
        return false;
    if (n->n_in < 3 || n->in[2] == RQ_NONE)
        return q->zero_point[0] == 0;
    const rq_form *z = form_of(b, n->in[2], RQ_FORM_REAL);
    return z->known && rq_tensor_count(&z->t) == 1 && rq_tensor_get_int(&z->t, 0) == q->zero_point[0];
}

/* A DequantizeLinear into an annotated value of the same parameters, or a QuantizeLinear out of one: no work. */
static bool is_alias(planner *b, const rq_node *n, rq_form_kind *from, rq_form_kind *to)
{
    if (n->n_in < 1 || n->n_out != 1 || n->in[0] == RQ_NONE || n->out[0] == RQ_NONE)
        return false;
    const rq_qparams *in_q = rq_graph_qparams(b->p->g, n->in[0]), *out_q = rq_graph_qparams(b->p->g, n->out[0]);
    const rq_form *x = any_form(b, n->in[0]);
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

/* Can row.forward move the codes as they are: input 0 and every output share one pair per tensor? Outputs that are
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
    *why = "input and output have different scales";
    for (int i = 0; i < a->n_out; i++)
        if (a->node->out[i] != RQ_NONE && (a->out_q[i] || rq_dtype_is_float(a->out[i]->dtype)) &&
            (!a->out_q[i] || !rq_qparams_equal(q, a->out_q[i])))
            return false;
    *why = "another input is quantized";
    for (int i = 1; i < a->n_in; i++)
        if (a->in_q[i])
            return false;
    *why = "codes of less than 8 bits";
    return rq_dtype_bits(q->dtype) >= 8;
}

/* The tensors the operator will see, for asking and preparing it: shapes known, content where it is known. */
static rq_step_mode decide(rq_step *step)
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

/* ---- one node ---- */

typedef struct sizes {
    rq_dtype *dtype;
    rq_shape *shape;
    bool complete; /* every wanted output has a known size */
} sizes;

/* Infer the outputs of n. `content`: with the bytes of inputs that only a run can know (the start of a segment). */
static rq_status infer(planner *b, const rq_node *n, bool content, sizes *out)
{
    rq_arena *a = &b->seg->arena;
    const rq_graph *g = b->p->g;
    const rq_tensor **in = rq_arena_alloc(a, (size_t)n->n_in, sizeof *in);
    rq_tensor *views = rq_arena_alloc(a, (size_t)n->n_in, sizeof *views);
    out->dtype = rq_arena_alloc(a, (size_t)n->n_out, sizeof *out->dtype);
    out->shape = rq_arena_alloc(a, (size_t)n->n_out, sizeof *out->shape);
    if (!in || !views || !out->dtype || !out->shape)
        return out_of_memory(b);
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        const rq_form *f = any_form(b, n->in[i]);
        if (!f)
            return rq_fail(b->err, RQ_INTERNAL, "node '%s' (%s): input '%s' is not made yet", n->name, n->op,
                           g->values[n->in[i]].name);
        views[i] = f->t;
        if (rq_graph_qparams(g, n->in[i])) {
            views[i].dtype = RQ_DTYPE_F32; /* operators see reals */
            views[i].data = NULL;
        } else if (!f->known && !content) {
            views[i].data = NULL;
        }
        in[i] = &views[i];
    }
    RQ_TRY(rq_ops_infer_node(g, n, in, out->dtype, out->shape, b->err));
    out->complete = true;
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE)
            out->complete &= rq_shape_is_known(&out->shape[i]) && out->dtype[i] != RQ_DTYPE_NONE;
    return RQ_OK;
}

static bool all_known(planner *b, const rq_node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        bool known = false;
        for (int k = 0; k < RQ_N_FORMS; k++)
            known |= form_of(b, n->in[i], (rq_form_kind)k)->known;
        if (!known && !(n->row->flags & RQ_OP_SHAPE_ONLY))
            return false;
    }
    for (int i = 0; i < n->n_attr; i++)
        if (n->attr[i].type == RQ_ATTR_GRAPH || n->attr[i].type == RQ_ATTR_GRAPHS)
            return false;
    return !(n->row->flags & (RQ_OP_KEEP | RQ_OP_DYNAMIC));
}

/* Choose the forms the step reads; they are in use until it ran. */
static void choose_inputs(planner *b, rq_step *step, const rq_node *n, bool codes)
{
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        step->in_form[i] = rq_form_id(n->in[i], codes && step->args.in_q[i] ? RQ_FORM_CODE : RQ_FORM_REAL);
        use_form(b, step->in_form[i], b->seg->n_steps - 1); /* the caller added the step last */
    }
}

/* Point the step's tensors at the forms it reads. */
static void bind_inputs(planner *b, rq_step *step)
{
    const rq_tensor **in = (const rq_tensor **)step->args.in;
    for (int i = 0; i < step->args.n_in; i++)
        in[i] = step->in_form[i] < 0 ? NULL : &b->p->forms[step->in_form[i]].t;
}

/* Every input of n in the form that the mode reads. */
static rq_status need_inputs(planner *b, const rq_node *n, bool codes)
{
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == RQ_NONE ||
            (n->row->flags & RQ_OP_SHAPE_ONLY && any_form(b, n->in[i]) == form_of(b, n->in[i], RQ_FORM_REAL)))
            continue;
        RQ_TRY(need(b, n->in[i], codes && rq_graph_qparams(b->p->g, n->in[i]) ? RQ_FORM_CODE : RQ_FORM_REAL));
    }
    return RQ_OK;
}

static void need_capture(void *arg, rq_id outer)
{
    planner *b = arg;
    if (outer >= 0 && !b->err->code && need(b, outer, RQ_FORM_REAL) && !b->err->code)
        b->err->code = RQ_INTERNAL;
}

static void use_capture(void *arg, rq_id outer)
{
    planner *b = arg;
    if (outer >= 0)
        use_form(b, rq_form_id(outer, RQ_FORM_REAL), b->seg->n_steps - 1);
}

/* Evaluate n now: its inputs are known. */
static rq_status evaluate(planner *b, const rq_node *n, const sizes *s)
{
    const rq_graph *g = b->p->g;
    rq_status st = RQ_OK;
    void *scratch = NULL;
    RQ_TRY(need_inputs(b, n, false));
    rq_step step = { .kind = RQ_STEP_OP };
    RQ_TRY(fill_step(b, &step, n));
    const rq_tensor **in = (const rq_tensor **)step.args.in;
    rq_tensor **out = (rq_tensor **)step.args.out;
    for (int i = 0; i < n->n_in; i++)
        in[i] = n->in[i] == RQ_NONE ? NULL : &form_of(b, n->in[i], RQ_FORM_REAL)->t;
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        rq_form_kind kind = real_target(g, n->out[i]);
        RQ_TRY(make_form(b, n->out[i], kind, s->dtype[i], &s->shape[i], 0));
        rq_form *f = form_of(b, n->out[i], kind);
        st = rq_tensor_create(&f->t, s->dtype[i], &s->shape[i], true);
        if (st)
            return out_of_memory(b);
        f->known = true;
        out[i] = &f->t;
    }
    if (n->row->prepare && (st = n->row->prepare(&step.args, &step.state)))
        goto done;
    step.args.state = step.state;
    step.scratch = n->row->scratch ? n->row->scratch(&step.args, false) : 0;
    scratch = rq_mem_alloc(step.scratch, 1);
    step.args.scratch = scratch;
    st = scratch ? n->row->forward(&step.args) : out_of_memory(b);
done:
    if (step.state && n->row->release)
        n->row->release(step.state);
    rq_mem_free(scratch);
    if (st && b->err->code != st)
        rq_fail(b->err, st, "node '%s' (%s): %s", n->name, n->op, rq_status_text(st));
    return st;
}

/* A node that only renames or reshapes bytes: its output form is a view. */
static rq_status add_view(planner *b, rq_id from, rq_form_kind from_kind, rq_id to, rq_form_kind to_kind, rq_dtype d,
                          const rq_shape *shape)
{
    RQ_TRY(need(b, from, from_kind));
    int32_t src = rq_form_id(from, from_kind);
    RQ_TRY(make_form(b, to, to_kind, d, shape, b->seg->n_steps - 1));
    rq_form *f = form_of(b, to, to_kind);
    f->view_of = src;
    f->last = -1;
    if (b->p->forms[src].known) {
        f->known = true;
        f->t.data = b->p->forms[src].t.data;
    }
    return RQ_OK;
}

static bool is_tapped(planner *b, rq_id value)
{
    for (int i = 0; i < b->p->n_taps; i++)
        if (b->p->taps[i].value == value)
            return true;
    return false;
}

/* A Cast to the type the input has already, as exporters leave them around everything. */
static bool is_idle_cast(planner *b, const rq_node *n, const sizes *s)
{
    return strcmp(n->op, "Cast") == 0 && n->in[0] != RQ_NONE && n->out[0] != RQ_NONE &&
           !rq_graph_qparams(b->p->g, n->in[0]) && any_form(b, n->in[0])->t.dtype == s->dtype[0];
}

/* A tapped value is made by a step of its own, after which the tap is called. */
static bool is_view(planner *b, const rq_node *n, const sizes *s)
{
    return (n->row->flags & RQ_OP_VIEW || is_idle_cast(b, n, s)) && n->n_in > 0 && n->in[0] != RQ_NONE &&
           n->n_out >= 1 && n->out[0] != RQ_NONE && (n->n_out == 1 || n->out[1] == RQ_NONE) && !is_tapped(b, n->out[0]);
}

/* Let the operator prepare. Of its inputs it sees the content only where that never changes. */
static rq_status prepare(planner *b, rq_step *step)
{
    const rq_op *row = step->row;
    const rq_tensor **in = (const rq_tensor **)step->args.in;
    rq_tensor *seen = rq_arena_alloc(&b->seg->arena, (size_t)step->args.n_in, sizeof *seen);
    rq_status st = RQ_OK;
    if (!seen)
        return out_of_memory(b);
    for (int i = 0; i < step->args.n_in; i++) {
        in[i] = step->in_form[i] < 0 ? NULL : &seen[i];
        if (!in[i])
            continue;
        const rq_form *f = &b->p->forms[step->in_form[i]];
        seen[i] = f->t;
        if (!f->known)
            seen[i].data = NULL;
    }
    if (step->mode == RQ_MODE_TABLE)
        st = rq_int_table_prepare(&step->args, &step->state);
    else if (step->mode == RQ_MODE_INT && row->prepare_int)
        st = row->prepare_int(&step->args, &step->state);
    else if (step->mode <= RQ_MODE_CODES && row->prepare)
        st = row->prepare(&step->args, &step->state);
    if (st) {
        if (b->err->code != st)
            rq_fail(b->err, st, "node '%s' (%s): %s", step->args.node->name, row->name, rq_status_text(st));
        return st;
    }
    step->args.state = step->state;
    if (row->scratch && step->mode != RQ_MODE_TABLE)
        step->scratch = row->scratch(&step->args, step->mode == RQ_MODE_INT);
    if (row->macs)
        step->macs = row->macs(&step->args);
    bind_inputs(b, step);
    return RQ_OK;
}

/* Tensors that describe the inputs and outputs of n before forms for them are chosen: what `decide` is asked with. */
static rq_status describe(planner *b, rq_step *step, const rq_node *n, const sizes *s)
{
    const rq_tensor **in = (const rq_tensor **)step->args.in;
    rq_tensor **out = (rq_tensor **)step->args.out;
    rq_tensor *t = rq_arena_alloc(&b->seg->arena, (size_t)(n->n_in + n->n_out), sizeof *t);
    if (!t)
        return out_of_memory(b);
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        const rq_form *f = any_form(b, n->in[i]), *code = form_of(b, n->in[i], RQ_FORM_CODE);
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

/* Known inputs that the integer forms want as codes must be there to be looked at. */
static rq_status know_codes(planner *b, const rq_node *n)
{
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] != RQ_NONE && form_of(b, n->in[i], RQ_FORM_RAW)->known)
            RQ_TRY(need(b, n->in[i], RQ_FORM_CODE));
    return RQ_OK;
}

static rq_status add_operator(planner *b, rq_id node, const sizes *s)
{
    const rq_graph *g = b->p->g;
    const rq_node *n = &g->nodes[node];
    rq_step draft = { .kind = RQ_STEP_OP, .node = node };
    bool dynamic = n->row->flags & RQ_OP_DYNAMIC;
    RQ_TRY(know_codes(b, n));
    RQ_TRY(fill_step(b, &draft, n));
    if (!dynamic) {
        RQ_TRY(describe(b, &draft, n, s));
        draft.mode = decide(&draft);
    }
    bool codes = draft.mode != RQ_MODE_REAL;
    RQ_TRY(need_inputs(b, n, codes));
    rq_graph_each_capture(g, n, need_capture, b);
    if (b->err->code)
        return b->err->code;
    rq_step *step = add_step(b, RQ_STEP_OP);
    if (!step)
        return out_of_memory(b);
    *step = draft;
    int me = b->seg->n_steps - 1;
    choose_inputs(b, step, n, codes);
    rq_graph_each_capture(g, n, use_capture, b);
    rq_tensor **out = (rq_tensor **)step->args.out;
    for (int i = 0; i < n->n_out; i++) {
        out[i] = NULL;
        if (n->out[i] == RQ_NONE)
            continue;
        const rq_qparams *q = step->args.out_q[i];
        rq_form_kind kind = codes && q ? RQ_FORM_CODE : real_target(g, n->out[i]);
        const rq_shape none = { 0 };
        RQ_TRY(make_form(b, n->out[i], kind,
                         dynamic                ? RQ_DTYPE_NONE
                         : kind == RQ_FORM_CODE ? q->dtype
                                                : s->dtype[i],
                         dynamic ? &none : &s->shape[i], me));
        form_of(b, n->out[i], kind)->made_late = dynamic;
        step->out_form[i] = rq_form_id(n->out[i], kind);
        out[i] = &b->p->forms[step->out_form[i]].t;
    }
    return prepare(b, step);
}

/* ---- taps, outputs, segments ---- */

/* A tapped value, or a graph output, wants its form as soon as it can be had. */
static rq_status need_asked_for(planner *b, rq_id value)
{
    const rq_graph *g = b->p->g;
    bool annotated = rq_graph_qparams(g, value) != NULL;
    const rq_form *f = any_form(b, value);
    if (!f || f->made_late)
        return RQ_OK; /* of unknown size still: converted in the next segment */
    for (int i = 0; i < b->p->n_taps; i++)
        if (b->p->taps[i].value == value)
            RQ_TRY(need(b, value, b->p->taps[i].fn_codes && annotated ? RQ_FORM_CODE : RQ_FORM_REAL));
    if (rq_graph_is_output(g, value))
        RQ_TRY(need(b, value, RQ_FORM_REAL));
    return RQ_OK;
}

static rq_status add_key(planner *b, int32_t form, bool content)
{
    rq_segment *s = b->seg;
    if (!rq_mem_grow(&s->keys, s->n_keys, &s->cap_keys, sizeof *s->keys))
        return out_of_memory(b);
    rq_key *key = &s->keys[s->n_keys];
    *key = (rq_key) { .form = form, .content = content, .seen = b->p->forms[form].t };
    key->seen.storage = NULL;
    if (content && rq_tensor_copy(&key->seen, &b->p->forms[form].t))
        return out_of_memory(b);
    s->n_keys++;
    return RQ_OK;
}

/* The first node of a segment may look at content: what it looked at becomes part of the key. */
static rq_status key_content(planner *b, const rq_node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        const rq_form *f = form_of(b, n->in[i], RQ_FORM_REAL);
        if (f->exists && !f->known && f->t.dtype != RQ_DTYPE_F32)
            RQ_TRY(add_key(b, rq_form_id(n->in[i], RQ_FORM_REAL), true));
    }
    return RQ_OK;
}

/* Plan the node at position b->at. *end: the segment ends, before this node (at not advanced) or after it. */
static rq_status plan_node(planner *b, bool first, bool *end)
{
    const rq_graph *g = b->p->g;
    const rq_node *n = &g->nodes[b->p->order[b->at]];
    rq_form_kind from, to;
    sizes s;
    if (is_alias(b, n, &from, &to) && !is_tapped(b, n->out[0])) {
        const rq_form *x = any_form(b, n->in[0]);
        const rq_qparams *q = rq_graph_qparams(g, from == RQ_FORM_CODE ? n->in[0] : n->out[0]);
        const rq_shape shape = x->t.shape;
        b->at++;
        RQ_TRY(add_view(b, n->in[0], from, n->out[0], to, q->dtype, &shape));
        return need_asked_for(b, n->out[0]);
    }
    RQ_TRY(infer(b, n, false, &s));
    bool dynamic = n->row->flags & RQ_OP_DYNAMIC;
    if (!s.complete && !dynamic) {
        if (!first) {
            *end = true; /* run what there is, then look at the content */
            return RQ_OK;
        }
        RQ_TRY(infer(b, n, true, &s));
        if (!s.complete)
            return rq_fail(b->err, RQ_BAD_SHAPE, "node '%s' (%s): the size of its output cannot be determined", n->name,
                           n->op);
        RQ_TRY(key_content(b, n));
    }
    b->at++;
    size_t bytes = 0;
    for (int i = 0; i < n->n_out && !dynamic; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        if (rq_shape_check(&s.shape[i]))
            return rq_fail(b->err, RQ_BAD_SHAPE, "node '%s' (%s): its output would be too large", n->name, n->op);
        bytes += rq_shape_bytes(&s.shape[i], s.dtype[i]);
    }
    if (all_known(b, n) && bytes <= FOLD_BYTES) {
        RQ_TRY(evaluate(b, n, &s));
    } else if (is_view(b, n, &s)) {
        const rq_qparams *iq = rq_graph_qparams(g, n->in[0]), *oq = rq_graph_qparams(g, n->out[0]);
        if (iq && oq && iq->axis == RQ_PER_TENSOR && rq_qparams_equal(iq, oq))
            RQ_TRY(add_view(b, n->in[0], RQ_FORM_CODE, n->out[0], RQ_FORM_CODE, iq->dtype, &s.shape[0]));
        else if (!iq && !oq)
            RQ_TRY(add_view(b, n->in[0], RQ_FORM_REAL, n->out[0], RQ_FORM_REAL, s.dtype[0], &s.shape[0]));
        else
            RQ_TRY(add_operator(b, b->p->order[b->at - 1], &s));
    } else {
        RQ_TRY(add_operator(b, b->p->order[b->at - 1], &s));
        *end = dynamic;
    }
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE)
            RQ_TRY(need_asked_for(b, n->out[i]));
    return RQ_OK;
}

/* Values that stand before any node (inputs, constants), or were made by the dynamic operator that ended the segment
 * before: they are known in size only now. */
static rq_status start_segment(planner *b, int from)
{
    const rq_graph *g = b->p->g;
    if (from == 0) {
        for (rq_id v = 0; v < g->n_values; v++)
            if (any_form(b, v))
                RQ_TRY(need_asked_for(b, v));
        return RQ_OK;
    }
    const rq_node *n = &g->nodes[b->p->order[from - 1]];
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        rq_form_kind kind = real_target(g, n->out[i]);
        if (!form_of(b, n->out[i], kind)->made_late)
            continue;
        RQ_TRY(add_key(b, rq_form_id(n->out[i], kind), false));
        if (kind == RQ_FORM_RAW && b->p->last_use[n->out[i]] >= from)
            RQ_TRY(need(b, n->out[i], RQ_FORM_CODE));
        for (int k = 0; k < b->p->n_taps; k++)
            if (b->p->taps[k].value == n->out[i])
                RQ_TRY(need(b, n->out[i], b->p->taps[k].fn_codes && kind == RQ_FORM_RAW ? RQ_FORM_CODE : RQ_FORM_REAL));
        if (rq_graph_is_output(g, n->out[i]))
            RQ_TRY(need(b, n->out[i], RQ_FORM_REAL));
    }
    return RQ_OK;
}

rq_status rq_plan_segment(rq_program *p, int from, rq_segment **out, rq_err *err)
{
    rq_err own = { 0 };
    planner b = { .p = p, .at = from, .err = &own };
    rq_status st = RQ_NO_MEMORY;
    b.seg = rq_mem_zalloc(1, sizeof *b.seg);
    if (!b.seg)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory planning the graph");
    bool end = false;
    st = start_segment(&b, from);
    for (bool first = true; !st && !end && b.at < p->n_order; first = false)
        st = plan_node(&b, first, &end);
    b.seg->next_node = b.at;
    if (!st) {
        keep_for_later(&b);
        st = rq_memory_plan(p, b.seg);
        if (st)
            out_of_memory(&b);
    }
    if (st) {
        rq_plan_segment_destroy(p, b.seg);
        return rq_fail(err, st, "%s", own.code ? own.text : rq_status_text(st));
    }
    *out = b.seg;
    return RQ_OK;
}

void rq_plan_segment_destroy(rq_program *p, rq_segment *seg)
{
    for (int i = 0; i < seg->n_steps; i++) {
        rq_step *s = &seg->steps[i];
        if (s->state && s->mode == RQ_MODE_TABLE)
            rq_int_table_release(s->state);
        else if (s->state && s->mode == RQ_MODE_INT)
            s->row->release_int(s->state);
        else if (s->state && s->row->release)
            s->row->release(s->state);
        for (int k = 0; s->child && k < s->args.node->n_attr; k++)
            rq_program_destroy(s->child[k]);
    }
    for (int i = 0; i < seg->n_keys; i++)
        rq_tensor_release(&seg->keys[i].seen);
    for (int i = 0; i < seg->n_made; i++) {
        rq_form *f = &p->forms[seg->made[i]];
        rq_tensor_release(&f->t);
        *f = (rq_form) { .view_of = -1 };
    }
    rq_mem_free(seg->steps);
    rq_mem_free(seg->keys);
    rq_mem_free(seg->made);
    rq_mem_free(seg->block);
    rq_mem_free(seg->scratch);
    rq_arena_release(&seg->arena);
    rq_mem_free(seg);
}
