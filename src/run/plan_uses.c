/* run/plan_uses.c — who makes and who reads the forms of a segment, for passes over its steps (plan_regions.c, plan_posts.c). */
#include <limits.h>

#include "run/planner.h"

static void note_reader(rq_plan_uses *u, rq_planner *b, int32_t form, int step)
{
    u->reader[form] = step;
    u->n_readers[form]++;
    for (int32_t f = b->p->forms[form].view_of; f >= 0; f = b->p->forms[f].view_of)
        u->n_readers[f] += 2; /* through a view: as good as kept */
}

typedef struct capture {
    rq_plan_uses *u;
    rq_planner *b;
} capture;

static void note_capture(void *arg, rq_id outer)
{
    const capture *c = arg;
    if (outer >= 0)
        c->u->kept[rq_form_id(outer, RQ_FORM_REAL)] = true;
}

rq_status rq_plan_count_uses(rq_planner *b, rq_arena *a, rq_plan_uses *u)
{
    const size_t n = (size_t)b->p->g->n_values * RQ_N_FORMS;
    if (!u->maker) {
        u->maker = rq_arena_alloc(a, n + 1, sizeof *u->maker);
        u->reader = rq_arena_alloc(a, n + 1, sizeof *u->reader);
        u->n_readers = rq_arena_alloc(a, n + 1, sizeof *u->n_readers);
        u->kept = rq_arena_alloc(a, n + 1, sizeof *u->kept);
        if (!u->maker || !u->reader || !u->n_readers || !u->kept)
            return rq_plan_no_memory(b);
    }
    for (size_t i = 0; i < n; i++)
        u->maker[i] = u->reader[i] = -1, u->n_readers[i] = 0, u->kept[i] = b->p->forms[i].last == INT_MAX;
    for (int i = 0; i < b->p->n_taps; i++)
        for (int k = 0; k < RQ_N_FORMS; k++)
            u->kept[rq_form_id(b->p->taps[i].value, (rq_form_kind)k)] = true;
    for (int i = 0; i < b->seg->n_steps; i++) {
        const rq_step *s = &b->seg->steps[i];
        if (s->gone)
            continue;
        for (int k = 0; k < s->args.n_in; k++)
            if (s->in_form[k] >= 0)
                note_reader(u, b, s->in_form[k], i);
        for (int k = 0; k < s->args.n_out; k++)
            if (s->out_form[k] >= 0)
                u->maker[s->out_form[k]] = i;
        capture c = { u, b };
        if (s->kind == RQ_STEP_OP && rq_attr_any_body(s->args.node))
            rq_graph_each_capture(b->p->g, s->args.node, note_capture, &c);
    }
    return RQ_OK;
}
