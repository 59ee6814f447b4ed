/* run/plan_forms.c — the forms of values while a plan grows: which exist, who uses them until when, and the conversions
 * from one to another. See program.h. */
#include <limits.h>

#include "quant/codes.h"
#include "run/planner.h"

rq_status rq_plan_no_memory(rq_planner *b)
{
    return rq_fail(b->err, RQ_NO_MEMORY, "out of memory planning the graph");
}

/* ---- forms ---- */

rq_status rq_plan_make_form(rq_planner *b, rq_id value, rq_form_kind kind, rq_dtype d, const rq_shape *shape, int def)
{
    rq_segment *s = b->seg;
    if (!rq_mem_grow(&s->made, s->n_made, &s->cap_made, sizeof *s->made))
        return rq_plan_no_memory(b);
    s->made[s->n_made++] = rq_form_id(value, kind);
    rq_form *f = rq_plan_form(b, value, kind);
    *f = rq_form_none();
    f->t = rq_tensor_view(d, shape, NULL);
    f->exists = true;
    f->def = f->last = def;
    return RQ_OK;
}

/* Mark `form` as used by step `step`, and what it is a view of. */
void rq_plan_use_form(rq_planner *b, int32_t form, int step)
{
    for (; form >= 0; form = b->p->forms[form].view_of) {
        rq_form *f = &b->p->forms[form];
        if (f->last < step)
            f->last = step;
    }
}

rq_status rq_plan_make_view(rq_planner *b, int32_t from, size_t at, rq_id to, rq_form_kind kind, rq_dtype d,
                            const rq_shape *shape)
{
    RQ_TRY(rq_plan_make_form(b, to, kind, d, shape, b->seg->n_steps - 1));
    rq_form *f = rq_plan_form(b, to, kind);
    f->view_of = from;
    f->at = at;
    f->last = -1;
    if (b->p->forms[from].known) {
        f->known = true;
        f->t.data = (char *)b->p->forms[from].t.data + at;
        f->t.storage = b->p->forms[from].t.storage;
        rq_storage_hold(f->t.storage);
    }
    return RQ_OK;
}

/* Values that later nodes use keep all their forms (but reals that were rounded); which of them will be wanted is not known yet. Behind the last node
 * it is: outputs are in reals. */
void rq_plan_keep_for_later(rq_planner *b)
{
    for (int i = 0; i < b->seg->n_made; i++) {
        int32_t id = b->seg->made[i];
        const rq_id v = id / RQ_N_FORMS;
        if (b->seg->next_node >= b->p->n_order && id % RQ_N_FORMS != RQ_FORM_REAL)
            continue;
        const bool rounded = rq_plan_form(b, v, RQ_FORM_CODE)->exists || rq_plan_form(b, v, RQ_FORM_LAST)->exists;
        if (!(id % RQ_N_FORMS == RQ_FORM_RAW && rounded) && b->p->last_use[v] >= b->seg->next_node)
            rq_plan_use_form(b, id, INT_MAX);
    }
}

rq_step *rq_plan_add_step(rq_planner *b, rq_step_kind kind)
{
    rq_segment *s = b->seg;
    if (!rq_mem_grow(&s->steps, s->n_steps, &s->cap_steps, sizeof *s->steps))
        return NULL;
    rq_step *step = &s->steps[s->n_steps++];
    *step = (rq_step) { .kind = kind, .value = RQ_NONE };
    return step;
}

/* Conversion step of a value into form `to`. */
static rq_status add_conversion(rq_planner *b, rq_step_kind kind, rq_id value, int32_t from, rq_form_kind to)
{
    rq_step *step = rq_plan_add_step(b, kind);
    int32_t *ids = rq_arena_alloc(&b->seg->arena, 2, sizeof *ids);
    if (!step || !ids)
        return rq_plan_no_memory(b);
    ids[0] = from;
    ids[1] = rq_form_id(value, to);
    step->value = value;
    step->in_form = &ids[0];
    step->out_form = &ids[1];
    step->args.n_in = step->args.n_out = 1;
    rq_plan_use_form(b, ids[0], b->seg->n_steps - 1);
    return RQ_OK;
}

rq_status rq_plan_flip(rq_planner *b, int32_t from, rq_id to, rq_form_kind kind, rq_dtype d, const rq_shape *shape)
{
    RQ_TRY(add_conversion(b, RQ_STEP_RELAYOUT, to, from, kind));
    return rq_plan_make_form(b, to, kind, d, shape, b->seg->n_steps - 1);
}

/* Convert a known form into another known one, now. */
static rq_status convert_known(rq_planner *b, rq_id value, rq_form_kind from, rq_form_kind to)
{
    const rq_qparams *q = rq_graph_qparams(b->p->g, value);
    rq_form *src = rq_plan_form(b, value, from);
    rq_tensor made;
    rq_status st = rq_tensor_create(&made, to == RQ_FORM_CODE ? q->dtype : RQ_DTYPE_F32, &src->t.shape, true);
    if (st)
        return rq_fail(b->err, st, "out of memory converting '%s'", b->p->g->values[value].name);
    if (to == RQ_FORM_CODE)
        rq_codes_from_reals(&made, &src->t, q, b->p->k);
    else
        rq_codes_to_reals(&made, &src->t, q, b->p->k);
    st = rq_plan_make_form(b, value, to, made.dtype, &made.shape, 0);
    if (st) {
        rq_tensor_release(&made);
        return st;
    }
    rq_form *dst = rq_plan_form(b, value, to);
    dst->t = made;
    dst->known = true;
    return RQ_OK;
}

/* The form that is made from `from` by a step; its def is that step. */
static rq_status convert(rq_planner *b, rq_step_kind kind, rq_id value, rq_form_kind from, rq_form_kind to, rq_dtype d)
{
    const rq_shape shape = rq_plan_form(b, value, from)->t.shape;
    RQ_TRY(add_conversion(b, kind, value, rq_form_id(value, from), to));
    return rq_plan_make_form(b, value, to, d, &shape, b->seg->n_steps - 1);
}

/* Codes in the order of the file to channels-last ones, or back: a view where both have the same bytes. A tapped value is made
 * by a step, after which the tap is called. */
static rq_status turn(rq_planner *b, rq_id value, rq_form_kind from, rq_form_kind to)
{
    const rq_qparams *q = rq_graph_qparams(b->p->g, value);
    const rq_shape shape = rq_plan_form(b, value, from)->t.shape;
    const rq_dtype d = to == RQ_FORM_LAST ? RQ_DTYPE_U8 : q->dtype;
    int64_t n, c, s;
    rq_plan_image(&shape, &n, &c, &s);
    if ((c == 1 || s == 1) && q->dtype == RQ_DTYPE_U8 && !rq_plan_is_tapped(b, value))
        return rq_plan_make_view(b, rq_form_id(value, from), 0, value, to, d, &shape);
    return convert(b, RQ_STEP_RELAYOUT, value, from, to, d);
}

/* Codes, in either order, from reals. */
static rq_status round_reals(rq_planner *b, rq_id value, rq_form_kind to)
{
    const rq_qparams *q = rq_graph_qparams(b->p->g, value);
    const rq_form *raw = rq_plan_form(b, value, RQ_FORM_RAW);
    if (raw->t.dtype != RQ_DTYPE_F32)
        return rq_fail(b->err, RQ_UNSUPPORTED, "value '%s' is quantized from %s; only f32 can be",
                       b->p->g->values[value].name, rq_dtype_name(raw->t.dtype));
    if (raw->known && to == RQ_FORM_CODE)
        return convert_known(b, value, RQ_FORM_RAW, RQ_FORM_CODE);
    return convert(b, RQ_STEP_QUANTIZE, value, RQ_FORM_RAW, to, to == RQ_FORM_LAST ? RQ_DTYPE_U8 : q->dtype);
}

/* See to it that a form exists at this point of the plan. */
rq_status rq_plan_need(rq_planner *b, rq_id value, rq_form_kind kind)
{
    if (rq_plan_form(b, value, kind)->exists)
        return RQ_OK;
    const char *name = b->p->g->values[value].name;
    const rq_qparams *q = rq_graph_qparams(b->p->g, value);
    const rq_form *any = rq_plan_any_form(b, value), *code = rq_plan_form(b, value, RQ_FORM_CODE);
    const bool last = rq_plan_form(b, value, RQ_FORM_LAST)->exists;
    if (!q || !any || kind == RQ_FORM_RAW)
        return rq_fail(b->err, RQ_INTERNAL, "value '%s' is used before it is made", name);
    RQ_TRY(rq_codes_check(q, &any->t.shape, b->err) ? rq_fail_in(b->err, RQ_BAD_SHAPE, "value '%s'", name) : RQ_OK);
    if (kind == RQ_FORM_LAST)
        return code->exists ? turn(b, value, RQ_FORM_CODE, RQ_FORM_LAST) : round_reals(b, value, RQ_FORM_LAST);
    if (kind == RQ_FORM_CODE)
        return last ? turn(b, value, RQ_FORM_LAST, RQ_FORM_CODE) : round_reals(b, value, RQ_FORM_CODE);
    if (!code->exists && !last)
        RQ_TRY(round_reals(b, value, RQ_FORM_CODE));
    if (code->known)
        return convert_known(b, value, RQ_FORM_CODE, RQ_FORM_REAL);
    return convert(b, RQ_STEP_DEQUANTIZE, value, code->exists ? RQ_FORM_CODE : RQ_FORM_LAST, RQ_FORM_REAL,
                   RQ_DTYPE_F32);
}

/* The form that says what a value's size is, whichever exists. */
const rq_form *rq_plan_any_form(rq_planner *b, rq_id value)
{
    for (int k = 0; k < RQ_N_FORMS; k++)
        if (rq_plan_form(b, value, (rq_form_kind)k)->exists)
            return rq_plan_form(b, value, (rq_form_kind)k);
    return NULL;
}

/* Where the reals of a node's output go first: rounded afterwards when the value is annotated. */
rq_form_kind rq_plan_real_target(const rq_graph *g, rq_id value)
{
    return rq_graph_qparams(g, value) ? RQ_FORM_RAW : RQ_FORM_REAL;
}
