/* run/autograd_memory.c — the list of actions of a plan, from it how long every slot lives, and from that where it lies. */
#include "run/memory.h"

#include "run/autograd_plan.h"

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory planning the training of the graph");
}

/* ---- actions ---- */

static rq_status add_action(rq_train_plan *p, rq_action_kind kind, int32_t of, rq_err *err)
{
    if (!rq_mem_grow(&p->actions, p->n_actions, &p->cap_actions, sizeof *p->actions))
        return no_memory(err);
    p->actions[p->n_actions++] = (rq_action) { kind, of };
    return RQ_OK;
}

static rq_status add_backward(const rq_autograd *a, rq_train_plan *p, int step, rq_err *err)
{
    const rq_train_step *s = &p->steps[step];
    if (!s->back)
        return RQ_OK;
    for (int i = 0; i < s->node->n_out; i++)
        if (s->grad_out[i] >= 0 && a->outside[s->node->out[i]])
            RQ_TRY(add_action(p, RQ_ACTION_EXTERNAL, s->node->out[i], err));
    return add_action(p, RQ_ACTION_BACKWARD, step, err);
}

/* Backward of the block that ends before step `end`; returns where it begins. */
static rq_status add_block(const rq_autograd *a, rq_train_plan *p, int end, int *begin, rq_err *err)
{
    int from = end;
    while (from > 0 && p->steps[from - 1].block == p->steps[end - 1].block)
        from--;
    for (int i = from; i < end; i++)
        if (p->steps[i].again && !p->steps[i].view)
            RQ_TRY(add_action(p, RQ_ACTION_AGAIN, i, err));
    for (int i = end - 1; i >= from; i--)
        RQ_TRY(add_backward(a, p, i, err));
    *begin = from;
    return RQ_OK;
}

rq_status rq_train_plan_actions(rq_autograd *a, rq_train_plan *p, rq_err *err)
{
    for (int i = 0; i < p->n_steps; i++)
        if (!p->steps[i].view)
            RQ_TRY(add_action(p, RQ_ACTION_FORWARD, i, err));
    p->n_forward = p->n_actions;
    for (int end = p->n_steps; end > 0 && p->keeps;)
        RQ_TRY(add_block(a, p, end, &end, err));
    for (rq_id v = 0; v < a->g->n_values && p->keeps; v++)
        if (a->g->values[v].kind != RQ_VALUE_NODE && p->grad[v] >= 0 && (a->outside[v] || !p->got[v]))
            RQ_TRY(add_action(p, RQ_ACTION_EXTERNAL, v, err));
    return RQ_OK;
}

/* ---- how long slots live ---- */

static void touch(rq_train_plan *p, int32_t slot, int time)
{
    if (slot < 0)
        return;
    rq_slot *s = &p->slots[p->slots[slot].root];
    if (s->def < 0 || s->def > time)
        s->def = time;
    if (s->last < time)
        s->last = time;
}

static void touch_forward(rq_train_plan *p, const rq_call *c, int time)
{
    for (int i = 0; i < c->args.n_in; i++)
        touch(p, c->in[i], time);
    for (int i = 0; i < c->args.n_out; i++)
        touch(p, c->out[i], time);
    touch(p, c->saved, time);
}

/* Of what forward saw, backward keeps what its row says; the rest it knows by shape alone. */
static void touch_backward(rq_train_plan *p, const rq_train_step *s, int time)
{
    const rq_call *c = &s->backward;
    const unsigned saves = s->row->saves_of ? s->row->saves_of(&c->args) : s->row->saves;
    for (int i = 0; i < c->args.n_in && !rq_train_hands_on(s); i++)
        if (saves & RQ_OP_IN(i < 15 ? i : 15))
            touch(p, c->in[i], time);
    for (int i = 0; i < c->args.n_out && !rq_train_hands_on(s); i++)
        if (saves & RQ_OP_OUT(i < 15 ? i : 15))
            touch(p, c->out[i], time);
    touch(p, c->saved, time);
    for (int i = 0; i < c->args.n_out; i++)
        touch(p, s->grad_out[i], time);
    for (int i = 0; i < c->args.n_in; i++) {
        touch(p, s->grad_in[i], time);
        touch(p, s->into[i], time);
    }
}

static void find_lives(const rq_autograd *a, rq_train_plan *p)
{
    for (int t = 0; t < p->n_actions; t++) {
        const rq_action *x = &p->actions[t];
        if (x->kind == RQ_ACTION_EXTERNAL) {
            touch(p, p->grad[x->of], t);
            continue;
        }
        const rq_train_step *s = &p->steps[x->of];
        if (x->kind == RQ_ACTION_BACKWARD) {
            touch_backward(p, s, t);
            continue;
        }
        touch_forward(p, x->kind == RQ_ACTION_FORWARD ? &s->forward : &s->second, t);
        touch(p, s->kept, t);
    }
    for (int i = 0; i < a->g->n_outputs; i++)
        touch(p, a->g->outputs[i], p->n_actions);
    for (rq_id v = 0; v < a->g->n_values; v++)
        if (a->wanted[v])
            touch(p, p->grad[v], p->n_actions);
}

/* ---- what may lie on the bytes of something else ---- */

/* Is `onto` last used at `time`, when `what` begins, and of its size? Then `what` and all that lies on it go there. */
static void share_bytes(rq_train_plan *p, int32_t what, int32_t onto, int time)
{
    if (what < 0 || onto < 0)
        return;
    const int32_t from = p->slots[what].root, to = p->slots[onto].root;
    rq_slot *x = &p->slots[from], *y = &p->slots[to];
    if (from == to || x->fixed || y->fixed || x->def != time || y->last != time || x->t.bytes != y->t.bytes)
        return;
    for (int i = 0; i < p->n_slots; i++)
        if (p->slots[i].root == from)
            p->slots[i].root = to;
    y->last = x->last;
}

static void share_all(rq_train_plan *p)
{
    for (int t = 0; t < p->n_actions; t++) {
        const rq_action *x = &p->actions[t];
        if (x->kind == RQ_ACTION_EXTERNAL)
            continue;
        const rq_train_step *s = &p->steps[x->of];
        const rq_call *c = x->kind == RQ_ACTION_FORWARD ? &s->forward : &s->second;
        if (x->kind == RQ_ACTION_BACKWARD) {
            if (s->row->flags & RQ_OP_GRAD_IN_PLACE && !rq_train_hands_on(s))
                share_bytes(p, s->grad_in[0], s->grad_out[0], t);
        } else if (s->row->flags & RQ_OP_IN_PLACE) {
            share_bytes(p, c->out[0], c->in[0], t);
        }
    }
}

rq_status rq_train_plan_memory(rq_autograd *a, rq_train_plan *p, rq_err *err)
{
    find_lives(a, p);
    share_all(p);
    rq_placed *items = rq_mem_alloc((size_t)p->n_slots + 1, sizeof *items);
    if (!items)
        return no_memory(err);
    int n = 0;
    for (int i = 0; i < p->n_slots; i++) {
        const rq_slot *s = &p->slots[i];
        if (s->root == i && !s->fixed && s->last >= 0)
            items[n++] = (rq_placed) { i, s->t.bytes, 0, s->def, s->last };
    }
    const rq_status st = rq_memory_place(items, n, &p->block_bytes);
    for (int i = 0; i < n && !st; i++)
        p->slots[items[i].id].offset = items[i].offset;
    rq_mem_free(items);
    return st ? no_memory(err) : RQ_OK;
}
