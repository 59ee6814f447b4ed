/* run/plan_merge.c — what passes over finished steps share that let one step do the work of several: who follows a step, and putting one step where the
 * last of them stood, because all that any of them reads is there then. The others are left out of what is run. */
#include <string.h>

#include "run/planner.h"

rq_step *rq_plan_follower(const rq_planner *b, const rq_plan_uses *u, int at, const char *op)
{
    const int32_t y = b->seg->steps[at].out_form[0];
    if (u->kept[y] || u->n_readers[y] != 1)
        return NULL;
    rq_step *s = &b->seg->steps[u->reader[y]];
    if (s->kind != RQ_STEP_OP || s->mode != RQ_MODE_REAL || s->gone || s->row->domain[0] || s->args.n_out != 1 ||
        s->out_form[0] < 0 || strcmp(s->row->name, op) != 0)
        return NULL;
    const rq_tensor *x = &b->p->forms[y].t, *z = &b->p->forms[s->out_form[0]].t;
    const bool real = z->dtype == RQ_DTYPE_F32 || (z->dtype == RQ_DTYPE_F16 && x->dtype == z->dtype);
    return real && rq_shape_equal(&x->shape, &z->shape) ? s : NULL;
}

int32_t rq_plan_other_operand(const rq_planner *b, const rq_step *s, int32_t x)
{
    const int32_t other = s->args.n_in == 2 ? s->in_form[s->in_form[0] == x] : -1;
    return other >= 0 && other != x && b->p->forms[other].t.dtype == b->p->forms[s->out_form[0]].t.dtype ? other : -1;
}

rq_status rq_plan_merge(rq_planner *b, const rq_node *as, const int32_t *in, int at, const int *then, int n_then)
{
    rq_segment *seg = b->seg;
    rq_step *first = &seg->steps[at], *last = &seg->steps[then[n_then - 1]];
    rq_node *n = rq_arena_alloc(&seg->arena, 1, sizeof *n);
    rq_id *ids = rq_arena_alloc(&seg->arena, (size_t)as->n_in, sizeof *ids);
    if (!n || !ids)
        return rq_plan_no_memory(b);
    *n = *as;
    n->row = rq_op_find(n->domain, n->op);
    n->in = ids;
    n->out = last->args.node->out;
    for (int i = 0; i < n->n_in; i++)
        ids[i] = in[i] < 0 ? RQ_NONE : in[i] / RQ_N_FORMS;
    rq_step whole = {
        .kind = RQ_STEP_OP, .mode = RQ_MODE_REAL, .reason = last->reason, .first = at, .stood = last->args.node
    };
    RQ_TRY(rq_plan_fill_step(b, &whole, n));
    for (int i = 0; i < n->n_in; i++) {
        whole.in_form[i] = in[i];
        if (in[i] >= 0)
            rq_plan_use_form(b, in[i], then[n_then - 1]);
    }
    whole.out_form[0] = last->out_form[0];
    ((rq_tensor **)whole.args.out)[0] = &b->p->forms[whole.out_form[0]].t;
    for (int i = -1; i < n_then - 1; i++) {
        rq_step *s = i < 0 ? first : &seg->steps[then[i]];
        b->p->forms[s->out_form[0]].exists = false;
        s->gone = true;
        s->merged = then[n_then - 1] + 1;
    }
    rq_plan_release_state(first);
    rq_plan_release_state(last);
    *last = whole;
    return rq_plan_prepare(b, last);
}
