/* run/plan_step.c — a node becomes a step: it is evaluated at once where all of its inputs are known; otherwise its inputs are made to exist in the form
 * that it reads, its outputs in the form that it writes, and the operator prepares. */
#include "ops/elements.h"
#include "run/planner.h"

/* ---- inputs ---- */

/* The form in which a step reads input i of n. Who asks for sizes alone takes any. */
static rq_form_kind input_form(rq_planner *b, const rq_step *step, const rq_node *n, int i)
{
    if (n->row->flags & RQ_OP_SHAPE_ONLY)
        return (rq_form_kind)(rq_plan_any_form(b, n->in[i]) - rq_plan_form(b, n->in[i], RQ_FORM_REAL));
    if (step->mode == RQ_MODE_REAL || !step->args.in_q[i])
        return RQ_FORM_REAL;
    const rq_form *f = rq_plan_any_form(b, n->in[i]);
    return rq_plan_code_form(step, &f->t.shape, rq_plan_form(b, n->in[i], RQ_FORM_CODE)->known);
}

/* Choose the forms the step reads; they are in use until it ran. */
static void choose_inputs(rq_planner *b, rq_step *step, const rq_node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        step->in_form[i] = rq_form_id(n->in[i], input_form(b, step, n, i));
        rq_plan_use_form(b, step->in_form[i], b->seg->n_steps - 1); /* the caller added the step last */
    }
}

/* Point the step's tensors at the forms it reads. */
static void bind_inputs(rq_planner *b, rq_step *step)
{
    const rq_tensor **in = (const rq_tensor **)step->args.in;
    for (int i = 0; i < step->args.n_in; i++)
        in[i] = step->in_form[i] < 0 ? NULL : &b->p->forms[step->in_form[i]].t;
}

/* Every input of n in the form that the step reads. */
static rq_status need_inputs(rq_planner *b, const rq_step *step, const rq_node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] != RQ_NONE && !(n->row->flags & RQ_OP_SHAPE_ONLY))
            RQ_TRY(rq_plan_need(b, n->in[i], input_form(b, step, n, i)));
    }
    return RQ_OK;
}

static void need_capture(void *arg, rq_id outer)
{
    rq_planner *b = arg;
    if (outer >= 0 && !b->err->code && rq_plan_need(b, outer, RQ_FORM_REAL) && !b->err->code)
        b->err->code = RQ_INTERNAL;
}

static void use_capture(void *arg, rq_id outer)
{
    rq_planner *b = arg;
    if (outer >= 0)
        rq_plan_use_form(b, rq_form_id(outer, RQ_FORM_REAL), b->seg->n_steps - 1);
}

rq_status rq_plan_evaluate(rq_planner *b, const rq_node *n, const rq_plan_sizes *s)
{
    const rq_graph *g = b->p->g;
    rq_status st = RQ_OK;
    void *scratch = NULL;
    rq_step step = { .kind = RQ_STEP_OP };
    RQ_TRY(rq_plan_fill_step(b, &step, n));
    RQ_TRY(need_inputs(b, &step, n));
    const rq_tensor **in = (const rq_tensor **)step.args.in;
    rq_tensor **out = (rq_tensor **)step.args.out;
    for (int i = 0; i < n->n_in; i++)
        in[i] = n->in[i] == RQ_NONE ? NULL : &rq_plan_form(b, n->in[i], input_form(b, &step, n, i))->t;
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        rq_form_kind kind = rq_plan_real_target(g, n->out[i]);
        RQ_TRY(rq_plan_make_form(b, n->out[i], kind, s->dtype[i], &s->shape[i], 0));
        rq_form *f = rq_plan_form(b, n->out[i], kind);
        st = rq_tensor_create(&f->t, s->dtype[i], &s->shape[i], true);
        if (st)
            return rq_plan_no_memory(b);
        f->known = true;
        out[i] = &f->t;
    }
    if (n->row->prepare && (st = n->row->prepare(&step.args, &step.state)))
        goto done;
    step.args.state = step.state;
    step.scratch = n->row->scratch ? n->row->scratch(&step.args, false) : 0;
    scratch = rq_mem_alloc(step.scratch, 1);
    step.args.scratch = scratch;
    st = scratch ? n->row->forward(&step.args) : rq_plan_no_memory(b);
done:
    if (step.state && n->row->release)
        n->row->release(step.state);
    rq_mem_free(scratch);
    if (st && b->err->code != st)
        rq_fail(b->err, st, "node '%s' (%s): %s", n->name, n->op, rq_status_text(st));
    return st;
}

rq_status rq_plan_prepare(rq_planner *b, rq_step *step)
{
    const rq_op *row = step->row;
    const rq_tensor **in = (const rq_tensor **)step->args.in;
    rq_tensor *seen = rq_arena_alloc(&b->seg->arena, (size_t)step->args.n_in, sizeof *seen);
    rq_status st = RQ_OK;
    if (!seen)
        return rq_plan_no_memory(b);
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
    if (step->mode ==
        RQ_MODE_REAL) { /* an operator that computes in f32 on halves: its copies stand behind its scratch */
        step->args.room_at = rq_mem_round(step->scratch);
        step->args.room_bytes = rq_elements_room(&step->args);
        if (step->args.room_bytes)
            step->scratch = step->args.room_at + step->args.room_bytes;
    }
    if (row->macs)
        step->macs = row->macs(&step->args);
    bind_inputs(b, step);
    return RQ_OK;
}

/* Known inputs that the integer forms want as codes must be there to be looked at. */
static rq_status know_codes(rq_planner *b, const rq_node *n)
{
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] != RQ_NONE && rq_plan_form(b, n->in[i], RQ_FORM_RAW)->known)
            RQ_TRY(rq_plan_need(b, n->in[i], RQ_FORM_CODE));
    return RQ_OK;
}

/* What moves from one pair of parameters to another is looked up once it is there. */
static rq_status fill_tables(rq_planner *b, rq_step *step)
{
    const rq_op_args *a = &step->args;
    bool any = false;
    for (int i = 0; i < a->n_out; i++)
        any |= a->out_q[i] && !rq_qparams_equal(a->in_q[0], a->out_q[i]);
    if (!any)
        return RQ_OK;
    step->moved = rq_arena_alloc(&b->seg->arena, (size_t)a->n_out, sizeof *step->moved);
    if (!step->moved)
        return rq_plan_no_memory(b);
    for (int i = 0; i < a->n_out; i++)
        if (a->out_q[i])
            rq_int_requantize_table(step->moved[i], a->in_q[0], a->out_q[i]);
    return RQ_OK;
}

rq_status rq_plan_add_operator(rq_planner *b, const rq_node *n, const rq_plan_sizes *s, bool whole, bool *added)
{
    const rq_graph *g = b->p->g;
    rq_step draft = { .kind = RQ_STEP_OP };
    bool dynamic = n->row->flags & RQ_OP_DYNAMIC;
    RQ_TRY(know_codes(b, n));
    RQ_TRY(rq_plan_fill_step(b, &draft, n));
    if (!dynamic) {
        RQ_TRY(rq_plan_describe(b, &draft, n, s));
        draft.mode = rq_plan_decide(&draft);
    }
    *added = !whole || draft.mode == RQ_MODE_INT;
    if (!*added)
        return RQ_OK;
    if (draft.mode != RQ_MODE_REAL)
        RQ_TRY(rq_plan_choose_last(b, &draft));
    RQ_TRY(need_inputs(b, &draft, n));
    rq_graph_each_capture(g, n, need_capture, b);
    if (b->err->code)
        return b->err->code;
    rq_step *step = rq_plan_add_step(b, RQ_STEP_OP);
    if (!step)
        return rq_plan_no_memory(b);
    *step = draft;
    int me = b->seg->n_steps - 1;
    choose_inputs(b, step, n);
    rq_graph_each_capture(g, n, use_capture, b);
    rq_tensor **out = (rq_tensor **)step->args.out;
    for (int i = 0; i < n->n_out; i++) {
        out[i] = NULL;
        if (n->out[i] == RQ_NONE)
            continue;
        const rq_qparams *q = step->args.out_q[i];
        bool codes = step->mode != RQ_MODE_REAL && q;
        rq_form_kind kind = codes ? rq_plan_code_form(step, &s->shape[i], false) : rq_plan_real_target(g, n->out[i]);
        const rq_shape none = { 0 };
        RQ_TRY(rq_plan_make_form(b, n->out[i], kind,
                                 dynamic ? RQ_DTYPE_NONE
                                 : codes ? q->dtype
                                         : s->dtype[i],
                                 dynamic ? &none : &s->shape[i], me));
        rq_plan_form(b, n->out[i], kind)->made_late = dynamic;
        step->out_form[i] = rq_form_id(n->out[i], kind);
        out[i] = &b->p->forms[step->out_form[i]].t;
    }
    if (draft.mode == RQ_MODE_CODES)
        RQ_TRY(fill_tables(b, step));
    return rq_plan_prepare(b, step);
}

void rq_plan_release_state(rq_step *s)
{
    if (s->state && s->mode == RQ_MODE_TABLE)
        rq_int_table_release(s->state);
    else if (s->state && s->mode == RQ_MODE_INT)
        s->row->release_int(s->state);
    else if (s->state && s->row->release)
        s->row->release(s->state);
    s->state = NULL;
}
