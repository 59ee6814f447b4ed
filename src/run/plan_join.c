/* run/plan_join.c — Concat without a pass over its parts: where it can be, the form of an input becomes a view of the output, so that whoever makes it
 * writes it there. Parts that lie one after the other are any step's; parts that lie side by side in each channels-last pixel are made by
 * steps that can leave room between pixels (args.out_ld), for those that find them there (args.in_ld). Codes whose parameters change on the way are looked
 * up by the step that makes them. What cannot be made in place is copied by the Concat, as ever. */
#include <string.h>

#include "ops/int_ops.h"
#include "ops/last.h"
#include "run/planner.h"

typedef struct join {
    rq_planner *b;
    rq_plan_uses uses;
} join;

/* How the parts of a Concat lie in its output: one after the other, or side by side in each of its pixels of so many bytes. */
typedef struct lie {
    bool behind, beside;
    int64_t pixel;
} lie;

static int64_t part_bytes(const rq_step *s, const rq_tensor *x, int axis)
{
    const rq_shape at = rq_last_shape(s->args.last, &x->shape);
    return rq_shape_span(&at, axis, at.rank) * (rq_dtype_bits(x->dtype) / 8);
}

/* May the bytes of x, input i of the Concat, be somewhere else? */
static bool is_free(const join *j, const rq_step *s, int i)
{
    const int32_t x = s->in_form[i];
    if (x < 0 || !rq_form_has_place(&j->b->p->forms[x]) || j->uses.maker[x] < 0)
        return false;
    for (int k = 0; k < s->args.n_in; k++)
        if (k != i && s->in_form[k] == x)
            return false;
    return true;
}

/* Is the step that makes x able to leave room between pixels, and are all who read them, beside the Concat s, able to find them? */
static bool can_spread(const join *j, int32_t x, const rq_step *s)
{
    const rq_step *m = &j->b->seg->steps[j->uses.maker[x]];
    if (j->uses.kept[x] || x % RQ_N_FORMS != RQ_FORM_LAST || m->args.n_out != 1 || !rq_plan_reads_apart(j->b, x, s))
        return false;
    if (m->kind == RQ_STEP_TABLE || (m->kind == RQ_STEP_OP && m->mode == RQ_MODE_TABLE))
        return rq_int_table_bytes(m->state) != NULL;
    return m->kind == RQ_STEP_OP && m->args.last && m->mode != RQ_MODE_REAL && m->row->flags & RQ_OP_OUT_LD &&
           (!m->row->spreads || m->row->spreads(&m->args));
}

/* x, which others may be cut from, is made from byte `at` on of what the Concat s makes. */
static void place(join *j, const rq_step *s, int32_t x, lie l, int64_t at)
{
    const rq_segment *seg = j->b->seg;
    rq_form *forms = j->b->p->forms, *y = &forms[s->out_form[0]];
    forms[x].view_of = s->out_form[0];
    forms[x].at = (size_t)at;
    if (forms[x].def < y->def)
        y->def = forms[x].def;
    if (l.behind)
        return;
    seg->steps[j->uses.maker[x]].args.out_ld = forms[x].ld = l.pixel;
    for (int i = 0; i < seg->n_made; i++)
        if (forms[seg->made[i]].view_of == x)
            forms[seg->made[i]].ld = l.pixel;
}

/* How many inputs of the Concat, from i on, are all that was cut from one tensor, side by side and as they are; 0: those are not. *x: that one. */
static int cut_parts(const join *j, const rq_step *s, int i, int32_t *x)
{
    const rq_form *forms = j->b->p->forms;
    const int32_t first = s->in_form[i];
    *x = first >= 0 && forms[first].ld ? forms[first].view_of : -1;
    if (*x < 0 || !rq_form_has_place(&forms[*x]) || j->uses.maker[*x] < 0)
        return 0;
    size_t at = 0;
    for (int n = 0; i + n < s->args.n_in; n++) {
        const int32_t part = s->in_form[i + n];
        if (part < 0 || forms[part].view_of != *x || forms[part].at != at ||
            !rq_qparams_equal(s->args.in_q[i + n], s->args.out_q[0]))
            return 0;
        at += (size_t)forms[part].t.shape.dim[1];
        if (at == (size_t)forms[*x].t.shape.dim[1])
            return n + 1;
    }
    return 0;
}

/* What else must become of the codes of input i; *can false: nobody would do it. */
static rq_status requantize(join *j, const rq_step *s, int i, bool *can)
{
    const rq_qparams *xq = s->args.in_q[i], *yq = s->args.out_q[0];
    const int32_t x = s->in_form[i];
    uint8_t table[256];
    *can = true;
    if (s->mode != RQ_MODE_INT || rq_qparams_equal(xq, yq))
        return RQ_OK;
    *can = false;
    if (j->uses.kept[x] || j->uses.n_readers[x] != 1)
        return RQ_OK;
    rq_int_requantize_table(table, xq, yq);
    return rq_plan_add_table(j->b, &j->b->seg->steps[j->uses.maker[x]], table, can);
}

static rq_status place_part(join *j, const rq_step *s, int i, lie l, int64_t at, bool *placed)
{
    *placed = false;
    if (!is_free(j, s, i) || !(l.behind || (l.beside && can_spread(j, s->in_form[i], s))))
        return RQ_OK;
    RQ_TRY(requantize(j, s, i, placed));
    if (*placed)
        place(j, s, s->in_form[i], l, at);
    return RQ_OK;
}

static bool is_concat(const join *j, const rq_step *s)
{
    if (s->kind != RQ_STEP_OP || s->gone || s->moved || s->out_form[0] < 0 || strcmp(s->row->name, "Concat") != 0 ||
        s->row->domain[0])
        return false;
    const rq_form *y = &j->b->p->forms[s->out_form[0]];
    return rq_form_has_place(y) && y->t.bytes && rq_dtype_bits(y->t.dtype) >= 8;
}

static rq_status join_parts(join *j, rq_step *s)
{
    const rq_form *y = &j->b->p->forms[s->out_form[0]];
    const rq_shape shape = rq_last_shape(s->args.last, &y->t.shape);
    const int axis =
        rq_last_axis(s->args.last, rq_infer_axis(rq_attr_int(s->args.node, RQ_WORD_axis, 1), shape.rank), shape.rank);
    const lie l = { .behind = rq_shape_span(&shape, 0, axis) == 1,
                    .beside = s->args.last && axis == shape.rank - 1,
                    .pixel = part_bytes(s, &y->t, axis) };
    bool all = true;
    int64_t at = 0;
    for (int i = 0, n; i < s->args.n_in; i += n) {
        int32_t x;
        bool placed = false;
        n = l.beside && !l.behind ? cut_parts(j, s, i, &x) : 0;
        if (n && can_spread(j, x, s)) {
            place(j, s, x, l, at);
            placed = true;
        } else {
            n = 1;
            RQ_TRY(place_part(j, s, i, l, at, &placed));
        }
        all &= placed;
        for (int k = i; k < i + n; k++)
            at += part_bytes(s, &j->b->p->forms[s->in_form[k]].t, axis);
    }
    s->gone = all && !rq_plan_is_tapped(j->b, s->out_form[0] / RQ_N_FORMS);
    return RQ_OK;
}

rq_status rq_plan_join(rq_planner *b, rq_arena *work)
{
    join j = { .b = b };
    RQ_TRY(rq_plan_count_uses(b, work, &j.uses));
    for (int i = 0; i < b->seg->n_steps; i++) /* operands of sums behind products are read, too */
        for (int k = 0; k < b->seg->steps[i].args.n_post && !b->seg->steps[i].gone; k++)
            if (b->seg->steps[i].other_form[k] >= 0)
                j.uses.n_readers[b->seg->steps[i].other_form[k]]++;
    rq_plan_cut(b, &j.uses);
    for (int i = 0; i < b->seg->n_steps; i++)
        if (is_concat(&j, &b->seg->steps[i]))
            RQ_TRY(join_parts(&j, &b->seg->steps[i]));
    return rq_plan_apart(b);
}
