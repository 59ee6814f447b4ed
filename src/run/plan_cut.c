/* run/plan_cut.c — channels of channels-last codes that are read where they lie, among others: those that a Split or Slice cuts from a tensor become views
 * with room between their pixels (rq_form.ld), where all who read them keep to it (args.in_ld, rq_post.other_ld). Of what cannot be read so, a copy is
 * made, as ever. Also who keeps to it, for parts of a Concat that others read, too (plan_join.c). */
#include <string.h>

#include "ops/last.h"
#include "run/planner.h"

static bool is(const rq_step *s, const char *op)
{
    return !strcmp(s->row->name, op) && !s->row->domain[0];
}

/* A Concat in which codes run beside each other in each pixel? */
static bool is_beside(const rq_step *s)
{
    const int rank = s->args.out[0]->shape.rank;
    return s->args.last && is(s, "Concat") && rq_infer_axis(rq_attr_int(s->args.node, RQ_WORD_axis, 1), rank) == 1;
}

/* Does s find the pixels of its input k apart? */
static bool takes_apart(const rq_step *s, int k)
{
    return s->kind == RQ_STEP_OP && s->mode == RQ_MODE_INT && s->args.last && s->row->flags & RQ_OP_IN_LD &&
           (k == 0 ? !is(s, "Concat") || is_beside(s) : is_beside(s));
}

bool rq_plan_reads_apart(const rq_planner *b, int32_t x, const rq_step *but)
{
    for (int i = 0; i < b->seg->n_steps; i++) {
        const rq_step *s = &b->seg->steps[i];
        for (int k = 0; k < s->args.n_in && !s->gone && s != but; k++)
            if (s->in_form[k] == x && !takes_apart(s, k))
                return false;
    }
    for (int i = 0; i < b->seg->n_made; i++) {
        const rq_form *f = &b->p->forms[b->seg->made[i]];
        if (f->exists && f->view_of == x && !f->ld)
            return false;
    }
    return true;
}

/* Where output i of a Split, or that of a Slice, begins along the channels; -1: it is cut along others, or not known. */
static int64_t channel_of(rq_planner *b, const rq_step *s, int i)
{
    const rq_shape *x = &s->args.in[0]->shape;
    int axis = 1;
    int64_t at = 0;
    if (is(s, "Slice"))
        return rq_plan_slice_start(b, s->args.node, x, &s->args.out[0]->shape, &axis, &at) && axis == 1 ? at : -1;
    if (rq_infer_axis(rq_attr_int(s->args.node, RQ_WORD_axis, 0), x->rank) != 1)
        return -1;
    for (int k = 0; k < i; k++)
        at += s->args.out[k]->shape.dim[1];
    return at;
}

/* Channels-last codes are cut, and who wants a part can read it where it is. */
static bool is_cut(rq_planner *b, const rq_plan_uses *u, const rq_step *s)
{
    if (s->kind != RQ_STEP_OP || s->gone || s->mode != RQ_MODE_CODES || !s->args.last || s->moved ||
        s->in_form[0] % RQ_N_FORMS != RQ_FORM_LAST || !rq_form_has_place(&b->p->forms[s->in_form[0]]) ||
        !(is(s, "Split") || is(s, "Slice")))
        return false;
    for (int i = 0; i < s->args.n_out; i++) {
        const int32_t y = s->out_form[i];
        if (y < 0 || u->kept[y] || !rq_plan_reads_apart(b, y, NULL))
            return false;
    }
    for (int i = 0; i < s->args.n_out; i++)
        if (channel_of(b, s, i) < 0)
            return false;
    return true;
}

void rq_plan_cut(rq_planner *b, rq_plan_uses *u)
{
    for (int i = 0; i < b->seg->n_steps; i++) {
        rq_step *s = &b->seg->steps[i];
        if (!is_cut(b, u, s))
            continue;
        for (int k = 0; k < s->args.n_out; k++) {
            rq_form *y = &b->p->forms[s->out_form[k]];
            y->view_of = s->in_form[0];
            y->at = (size_t)channel_of(b, s, k);
            y->ld = s->args.in[0]->shape.dim[1];
        }
        s->gone = true;
    }
}

rq_status rq_plan_apart(rq_planner *b)
{
    for (int i = 0; i < b->seg->n_steps; i++) {
        rq_step *s = &b->seg->steps[i];
        bool any = false;
        for (int k = 0; k < s->args.n_in && !s->gone; k++)
            any |= s->in_form[k] >= 0 && b->p->forms[s->in_form[k]].ld;
        if (!any)
            continue;
        int64_t *ld = rq_arena_alloc(&b->seg->arena, (size_t)s->args.n_in, sizeof *ld);
        if (!ld)
            return rq_plan_no_memory(b);
        for (int k = 0; k < s->args.n_in; k++)
            ld[k] = s->in_form[k] < 0 ? 0 : b->p->forms[s->in_form[k]].ld;
        s->args.in_ld = ld;
    }
    return RQ_OK;
}
