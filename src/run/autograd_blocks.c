/* run/autograd_blocks.c — less memory for more work (Chen et al., "Training deep nets with sublinear memory cost", arXiv:1604.06174): the steps are
 * cut into blocks where few values cross; what crosses is kept, the rest of a block is computed again just before its backward.
 *
 * With S bytes of activations in all and c bytes that cross at a cut, B blocks hold about B c + S / B: least for B = sqrt(S / c), so blocks of
 * sqrt(S c) bytes. Only what depends on what is fed is computed again: weights on their way (scaled, fake-quantized) are small and stay. A
 * value that is computed again has a second slot; steps of its block read that one. */
#include <math.h>

#include "run/autograd_plan.h"

typedef struct cutter {
    rq_autograd *a;
    rq_train_plan *p;
    int *made, *read; /* per slot that owns bytes: step that makes it, last step that reads it; -1 */
    int32_t *second;  /* [n_values] slot of the value computed again, or -1 */
    bool *needed;     /* [n_values] while a block is seen to */
    rq_err *err;
} cutter;

int rq_train_plan_blocks_room(const rq_train_plan *p)
{
    int room = 0;
    for (int i = 0; i < p->n_steps; i++)
        room += p->steps[i].node->n_in + p->steps[i].node->n_out + 2;
    return room;
}

static bool placed(const rq_train_plan *p, rq_id v)
{
    return v != RQ_NONE && p->slots[v].active && !p->slots[p->slots[v].root].fixed;
}

/* ---- where to cut ---- */

static void note_uses(const cutter *c)
{
    const rq_train_plan *p = c->p;
    for (int i = 0; i < p->n_slots; i++)
        c->made[i] = c->read[i] = -1;
    for (int k = 0; k < p->n_steps; k++) {
        const rq_node *n = p->steps[k].node;
        for (int i = 0; i < n->n_in; i++)
            if (placed(p, n->in[i]))
                c->read[p->slots[n->in[i]].root] = k;
        for (int i = 0; i < n->n_out; i++)
            if (placed(p, n->out[i]) && c->made[p->slots[n->out[i]].root] < 0)
                c->made[p->slots[n->out[i]].root] = k;
    }
}

/* How many values, and bytes, made by steps up to k are read by steps behind it. */
static int crossing(const cutter *c, int k, double *bytes)
{
    int n = 0;
    *bytes = 0;
    for (int i = 0; i < c->p->n_slots; i++)
        if (c->made[i] >= 0 && c->made[i] <= k && c->read[i] > k) {
            *bytes += (double)c->p->slots[i].t.bytes;
            n++;
        }
    return n;
}

static double bytes_of(const cutter *c, const rq_train_step *s)
{
    double bytes = s->forward.saved < 0 ? 0 : (double)c->p->slots[s->forward.saved].t.bytes;
    for (int i = 0; i < s->node->n_out && !s->view; i++)
        if (placed(c->p, s->node->out[i]))
            bytes += (double)c->p->slots[s->node->out[i]].t.bytes;
    return bytes;
}

/* The fewest values that may cross so that there are cuts worth the name; 0: there are none. */
static int choose_limit(const cutter *c, const int *count)
{
    for (int limit = 1; limit <= 4; limit++) {
        int cuts = 0;
        for (int k = 0; k + 1 < c->p->n_steps; k++)
            cuts += count[k] > 0 && count[k] <= limit;
        if (cuts >= 3)
            return limit;
    }
    return 0;
}

static rq_status cut(const cutter *c)
{
    rq_train_plan *p = c->p;
    int *count = rq_arena_alloc(&p->arena, (size_t)p->n_steps + 1, sizeof *count);
    double *bytes = rq_arena_alloc(&p->arena, (size_t)p->n_steps + 1, sizeof *bytes);
    if (!count || !bytes)
        return rq_fail(c->err, RQ_NO_MEMORY, "out of memory planning the training of the graph");
    double all = 0, over = 0, since = 0;
    int cuts = 0, block = 0;
    for (int k = 0; k < p->n_steps; k++) {
        count[k] = crossing(c, k, &bytes[k]);
        all += bytes_of(c, &p->steps[k]);
    }
    const int limit = choose_limit(c, count);
    for (int k = 0; k + 1 < p->n_steps; k++)
        if (count[k] > 0 && count[k] <= limit) {
            over += bytes[k];
            cuts++;
        }
    const double target = cuts ? sqrt(all * over / cuts) : 0;
    for (int k = 0; k < p->n_steps; k++) {
        p->steps[k].block = block;
        since += bytes_of(c, &p->steps[k]);
        if (cuts && k + 1 < p->n_steps && count[k] > 0 && count[k] <= limit && since >= target) {
            block++;
            since = 0;
        }
    }
    return RQ_OK;
}

/* ---- what a block computes again ---- */

/* Is v there when the block goes backward, without being computed again: not made in the block, or read outside of it? */
static bool is_there(const cutter *c, const rq_train_step *of, int step, rq_id v)
{
    const rq_train_plan *p = c->p;
    if (!placed(p, v))
        return true;
    const int32_t root = p->slots[v].root;
    const rq_train_step *made = &p->steps[c->made[root]];
    (void)step;
    if (made->row->kept &&
        made->forward.saved < 0) /* an observer would see x twice: of the network's input, which nothing goes back to */
        return true;
    return made->block != of->block || (c->read[root] >= 0 && p->steps[c->read[root]].block != of->block) ||
           rq_graph_is_output(c->a->g, v);
}

static bool has_bit(unsigned mask, int first, int i)
{
    return mask & (1u << (first + (i < 15 ? i : 15)));
}

/* Mark what backward of step k reads. */
static void need_of_backward(const cutter *c, int k)
{
    const rq_train_step *s = &c->p->steps[k];
    if (!s->back || rq_train_hands_on(s))
        return;
    const unsigned saves = s->row->saves_of ? s->row->saves_of(&s->backward.args) : s->row->saves;
    for (int i = 0; i < s->node->n_in; i++)
        if (has_bit(saves, 0, i) && s->node->in[i] != RQ_NONE)
            c->needed[s->node->in[i]] |= !is_there(c, s, k, s->node->in[i]);
    for (int i = 0; i < s->node->n_out; i++)
        if (has_bit(saves, 16, i) && s->node->out[i] != RQ_NONE)
            c->needed[s->node->out[i]] |= !is_there(c, s, k, s->node->out[i]);
}

static bool is_active(const cutter *c, const rq_train_step *s)
{
    for (int i = 0; i < s->node->n_in; i++)
        if (s->node->in[i] != RQ_NONE && c->p->slots[s->node->in[i]].active)
            return true;
    return false;
}

/* Which steps of the block are done again: those that make what is needed, or leave something for backward. */
static void mark_block(const cutter *c, int from, int end)
{
    rq_train_plan *p = c->p;
    for (int k = from; k < end; k++)
        need_of_backward(c, k);
    for (int k = end - 1; k >= from; k--) {
        rq_train_step *s = &p->steps[k];
        s->again = is_active(c, s) && s->forward.saved >= 0;
        for (int i = 0; i < s->node->n_out; i++)
            s->again |= s->node->out[i] != RQ_NONE && c->needed[s->node->out[i]];
        for (int i = 0; i < s->node->n_in && s->again; i++)
            if (s->node->in[i] != RQ_NONE)
                c->needed[s->node->in[i]] |= !is_there(c, s, k, s->node->in[i]);
    }
}

static int32_t like(const cutter *c, int32_t slot)
{
    const rq_tensor t = c->p->slots[slot].t;
    return rq_train_add_slot(c->p, &t, c->err);
}

static int32_t now(const cutter *c, rq_id v)
{
    return v == RQ_NONE ? -1 : c->second[v] >= 0 ? c->second[v] : v;
}

/* The second call of a step, with slots of its own to write to. */
static rq_status make_second(const cutter *c, rq_train_step *s)
{
    const rq_node *n = s->node;
    rq_train_plan *p = c->p;
    RQ_TRY(rq_train_start_call(c->a, p, &s->second, n, c->err));
    for (int i = 0; i < n->n_in; i++) {
        s->second.in[i] = now(c, n->in[i]);
        if (has_bit(s->row->statistics, 0, i) && n->in[i] != RQ_NONE && c->a->moving[n->in[i]] &&
            (s->second.in[i] = like(c, n->in[i])) < 0)
            return RQ_NO_MEMORY;
    }
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        s->second.out[i] = c->second[n->out[i]] = like(c, n->out[i]);
        if (s->second.out[i] < 0)
            return RQ_NO_MEMORY;
    }
    if (s->view) {
        rq_slot *o = &p->slots[s->second.out[0]];
        o->root = p->slots[s->second.in[0]].root;
        o->fixed = p->slots[s->second.in[0]].fixed;
    }
    if (s->forward.saved >= 0) {
        s->second.saved = like(c, s->forward.saved);
        s->kept_bytes = s->row->kept ? s->row->kept(&s->forward.args) : 0;
        if (s->second.saved < 0)
            return RQ_NO_MEMORY;
    }
    if (s->kept_bytes) {
        const rq_shape shape = rq_shape_of(1, (int64_t[]) { (int64_t)s->kept_bytes });
        const rq_tensor t = rq_tensor_view(RQ_DTYPE_U8, &shape, NULL);
        s->kept = rq_train_add_slot(p, &t, c->err);
        if (s->kept < 0)
            return RQ_NO_MEMORY;
    } else {
        s->forward.saved = -1;
    }
    s->second.training.again = true;
    s->second.training.relu = s->forward.training.relu;
    s->second.training.state = s->back_state;
    s->second.args.state = s->state;
    s->backward.saved = s->second.saved;
    rq_train_bind_call(p, &s->second);
    return RQ_OK;
}

static rq_status redo_block(const cutter *c, int from, int end)
{
    mark_block(c, from, end);
    for (int k = from; k < end; k++)
        if (c->p->steps[k].again)
            RQ_TRY(make_second(c, &c->p->steps[k]));
    for (int k = from; k < end; k++) {
        rq_train_step *s = &c->p->steps[k];
        if (!s->back)
            continue;
        for (int i = 0; i < s->node->n_in; i++)
            s->backward.in[i] = now(c, s->node->in[i]);
        for (int i = 0; i < s->node->n_out; i++)
            s->backward.out[i] = now(c, s->node->out[i]);
        rq_train_bind_call(c->p, &s->backward);
    }
    /* behind the block the first ones are read again */
    for (int k = from; k < end; k++)
        for (int i = 0; i < c->p->steps[k].node->n_out; i++)
            if (c->p->steps[k].node->out[i] != RQ_NONE)
                c->second[c->p->steps[k].node->out[i]] = -1;
    return RQ_OK;
}

rq_status rq_train_plan_blocks(rq_autograd *a, rq_train_plan *p, rq_err *err)
{
    if (!a->cfg.checkpoint_activations || !p->keeps || p->n_steps < 4)
        return RQ_OK;
    const size_t slots = (size_t)p->n_slots + 1, values = (size_t)a->g->n_values + 1;
    cutter c = { .a = a, .p = p, .err = err };
    c.made = rq_arena_alloc(&p->arena, slots, sizeof *c.made);
    c.read = rq_arena_alloc(&p->arena, slots, sizeof *c.read);
    c.second = rq_arena_alloc(&p->arena, values, sizeof *c.second);
    c.needed = rq_arena_alloc(&p->arena, values, sizeof *c.needed);
    if (!c.made || !c.read || !c.second || !c.needed)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory planning the training of the graph");
    note_uses(&c);
    RQ_TRY(cut(&c));
    for (rq_id v = 0; v < a->g->n_values; v++)
        c.second[v] = -1;
    for (int from = 0, end; from < p->n_steps; from = end) {
        end = from;
        while (end < p->n_steps && p->steps[end].block == p->steps[from].block)
            end++;
        if (end < p->n_steps)
            RQ_TRY(redo_block(&c, from, end));
    }
    return RQ_OK;
}
