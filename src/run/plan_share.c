/* run/plan_share.c — bytes that serve twice. When all passes have been made: until when each form is read, and which outputs are written over an
 * input that nobody reads afterwards, so that a chain of elementwise steps stays in one place of the block, and in the cache. The caller's memory is
 * never one of them: what is bound there has a form of its own (bind.c). */
#include <limits.h>

#include "run/planner.h"

static void use_capture(void *arg, rq_id outer)
{
    rq_planner *b = arg;
    if (outer >= 0)
        rq_plan_use_form(b, rq_form_id(outer, RQ_FORM_REAL), b->at);
}

/* Steps that are left out read nothing. */
static void find_ends(rq_planner *b)
{
    const rq_segment *seg = b->seg;
    for (int i = 0; i < seg->n_made; i++) {
        rq_form *f = &b->p->forms[seg->made[i]];
        if (f->last != INT_MAX)
            f->last = f->view_of < 0 ? f->def : -1;
    }
    for (int i = 0; i < seg->n_made; i++) /* parts that are kept keep the whole */
        if (b->p->forms[seg->made[i]].last == INT_MAX)
            rq_plan_use_form(b, seg->made[i], INT_MAX);
    for (b->at = 0; b->at < seg->n_steps; b->at++) {
        const rq_step *s = &seg->steps[b->at];
        for (int k = 0; k < s->args.n_in && !s->gone; k++)
            rq_plan_use_form(b, s->in_form[k], b->at);
        for (int k = 0; k < s->args.n_post && !s->gone; k++)
            rq_plan_use_form(b, s->other_form[k], b->at);
        for (int k = 0; k < s->args.n_out && !s->gone; k++) /* a part is made in the whole */
            rq_plan_use_form(b, s->out_form[k], b->at);
        if (s->kind == RQ_STEP_OP && !s->gone)
            rq_graph_each_capture(b->p->g, s->args.node, use_capture, b);
    }
    b->at = seg->next_node;
}

/* May the step write output 0 over its input i, which has its size and type? */
static bool writes_over(const rq_step *s, int i)
{
    if (s->mode == RQ_MODE_TABLE)
        return i == 0;
    if (s->kind != RQ_STEP_OP || !(s->row->flags & RQ_OP_IN_PLACE))
        return false;
    if (s->mode == RQ_MODE_INT)
        return i == 0 || (i == 1 && s->row->flags & RQ_OP_COMMUTES);
    return i == 0 && s->args.in[0]->dtype == RQ_DTYPE_F32;
}

/* Where `form` begins, counted from the beginning of its owner. */
static size_t begins_at(const rq_planner *b, int32_t form)
{
    size_t at = 0;
    for (; b->p->forms[form].view_of >= 0; form = b->p->forms[form].view_of)
        at += b->p->forms[form].at;
    return at;
}

/* Is input i of step `at` read for the last time, by this input alone, and does it begin where the place does that the output would have? An output
 * that lies a little before its input would be written by one thread where another still reads. */
static bool dies(const rq_planner *b, const rq_step *s, int at, int i)
{
    const int32_t x = rq_plan_owner(b, s->in_form[i]);
    if (!rq_form_has_place(&b->p->forms[x]) || b->p->forms[x].last != at || begins_at(b, s->in_form[i]) > 0 ||
        b->p->forms[s->in_form[i]].ld)
        return false;
    for (int k = 0; k < s->args.n_in; k++)
        if (k != i && rq_plan_owner(b, s->in_form[k]) == x)
            return false;
    return true;
}

/* May output 0 of step `at` take the place of its input i? Not if it has one already, in a Concat. */
static bool may_take(const rq_planner *b, int at, int i)
{
    const rq_step *s = &b->seg->steps[at];
    if (s->gone || s->in_form[i] < 0 || !writes_over(s, i) || !dies(b, s, at, i))
        return false;
    const rq_form *y = &b->p->forms[s->out_form[0]];
    const rq_tensor *x = &b->p->forms[s->in_form[i]].t;
    return rq_form_has_place(y) && x->dtype == y->t.dtype && rq_shape_equal(&x->shape, &y->t.shape);
}

static void share(rq_planner *b, int at)
{
    const rq_step *s = &b->seg->steps[at];
    for (int i = 0; i < s->args.n_in; i++)
        if (may_take(b, at, i)) {
            rq_form *y = &b->p->forms[s->out_form[0]];
            const int32_t x = rq_plan_owner(b, s->in_form[i]), first = b->p->forms[x].takes;
            y->takes = first >= 0 ? first : x;
            if (b->p->forms[y->takes].last < y->last)
                b->p->forms[y->takes].last = y->last;
            return;
        }
}

void rq_plan_share(rq_planner *b)
{
    find_ends(b);
    for (int i = 0; i < b->seg->n_steps && !(b->p->plain & RQ_PLAIN_PLACES); i++)
        share(b, i);
}
