/* run/autograd_run.c — the actions of a plan, done: forward to the outputs, backward to the gradients of parameters. */
#include <string.h>

#include "run/autograd_plan.h"

/* ---- where the bytes are ---- */

static void release_block(rq_autograd *a)
{
    rq_mem_free(a->block);
    a->block = NULL;
    a->block_bytes = 0;
}

static rq_status ensure_block(rq_autograd *a, const rq_train_plan *p, rq_err *err)
{
    const size_t need = p->block_bytes + p->scratch_bytes;
    if (a->block && a->block_bytes >= need)
        return RQ_OK;
    release_block(a);
    a->block = rq_mem_alloc(need, 1);
    if (!a->block)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for %zu bytes of activations and gradients", need);
    a->block_bytes = need;
    return RQ_OK;
}

static void bind(rq_autograd *a, rq_train_plan *p)
{
    const rq_graph *g = a->g;
    for (rq_id v = 0; v < g->n_values; v++)
        if (g->values[v].kind == RQ_VALUE_CONST)
            p->slots[v].t.data = g->values[v].constant.data;
    for (int i = 0; i < g->n_inputs; i++)
        p->slots[g->inputs[i]].t.data =
            a->feeds[i].dtype != RQ_DTYPE_NONE ? a->feeds[i].data : g->values[g->inputs[i]].constant.data;
    for (int i = 0; i < p->n_slots; i++) {
        rq_slot *s = &p->slots[i];
        if (s->root == i && !s->fixed)
            s->t.data = (char *)a->block + s->offset;
    }
    for (int i = 0; i < p->n_slots; i++)
        if (p->slots[i].root != i)
            p->slots[i].t.data = p->slots[p->slots[i].root].t.data;
}

/* ---- calling rows ---- */

/* splitmix64 (Steele, Lea, Flood 2014): a number of this step and this node. */
static uint64_t number_of(const rq_autograd *a, rq_id node)
{
    uint64_t z = a->drawn + UINT64_C(0x9e3779b97f4a7c15) * ((uint64_t)node + 1);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void start_call(const rq_autograd *a, rq_train_plan *p, const rq_train_step *s, rq_call *c, rq_err *err)
{
    c->args.err = err;
    c->args.scratch = (char *)a->block + p->block_bytes;
    c->training.saved = c->saved < 0 ? NULL : p->slots[c->saved].t.data;
    c->training.random = number_of(a, s->id);
    err->code = RQ_OK;
}

static rq_status finish_call(const rq_autograd *a, const rq_train_step *s, rq_status st, rq_err *err)
{
    return !st || err->code == st ? st : rq_node_fail(a->g, s->node, err, st, "%s", rq_status_text(st));
}

/* ---- taps ---- */

static rq_status call_taps(const rq_autograd *a, const rq_train_plan *p, rq_id v, rq_err *err)
{
    for (int i = 0; i < a->n_taps; i++)
        if (a->taps[i].value == v)
            RQ_TRY(a->taps[i].fn(a->taps[i].arg, a->g->values[v].name, &p->slots[v].t, err));
    return RQ_OK;
}

/* Of values that no step makes: inputs, constants, what was evaluated while planning. Each value once. */
static rq_status call_first_taps(const rq_autograd *a, const rq_train_plan *p, rq_err *err)
{
    for (int i = 0; i < a->n_taps; i++) {
        const rq_id v = a->taps[i].value;
        bool again = false;
        for (int k = 0; k < i; k++)
            again |= a->taps[k].value == v;
        if (!again && p->slots[v].fixed && p->slots[v].t.data)
            RQ_TRY(call_taps(a, p, v, err));
    }
    return RQ_OK;
}

/* ---- forward ---- */

/* What a second forward needs of the first is put by, and handed to it. */
static void put_by(const rq_train_plan *p, const rq_train_step *s)
{
    if (s->kept >= 0)
        memcpy(p->slots[s->kept].t.data, p->slots[s->forward.saved].t.data, s->kept_bytes);
}

/* The second forward moves copies of running statistics, not these. */
static void hand_over(const rq_train_plan *p, const rq_train_step *s)
{
    if (s->kept >= 0)
        memcpy(p->slots[s->second.saved].t.data, p->slots[s->kept].t.data, s->kept_bytes);
    for (int i = 0; i < s->node->n_in && s->row->statistics; i++)
        if (s->second.in[i] != s->forward.in[i] && s->row->statistics & RQ_OP_IN(i < 15 ? i : 15))
            memcpy(p->slots[s->second.in[i]].t.data, p->slots[s->forward.in[i]].t.data,
                   p->slots[s->forward.in[i]].t.bytes);
}

static rq_status forward_again(rq_autograd *a, rq_train_plan *p, rq_train_step *s, rq_err *err)
{
    hand_over(p, s);
    start_call(a, p, s, &s->second, err);
    return finish_call(a, s, s->row->forward(&s->second.args), err);
}

static rq_status forward_step(rq_autograd *a, rq_train_plan *p, rq_train_step *s, rq_err *err)
{
    start_call(a, p, s, &s->forward, err);
    RQ_TRY(finish_call(a, s, s->row->forward(&s->forward.args), err));
    put_by(p, s);
    for (int i = 0; i < s->node->n_out && a->n_taps; i++)
        if (s->node->out[i] != RQ_NONE)
            RQ_TRY(call_taps(a, p, s->node->out[i], err));
    return RQ_OK;
}

rq_status rq_train_forward(rq_autograd *a, rq_train_plan *p, rq_err *err)
{
    RQ_TRY(ensure_block(a, p, err));
    bind(a, p);
    RQ_TRY(call_first_taps(a, p, err));
    for (int t = 0; t < p->n_forward; t++)
        RQ_TRY(forward_step(a, p, &p->steps[p->actions[t].of], err));
    return RQ_OK;
}

/* ---- backward ---- */

enum { PIECE = 16384 };

typedef struct adding {
    float *to;
    const float *from;
    int64_t n;
} adding;

static void add_piece(void *arg, int64_t piece)
{
    const adding *j = arg;
    const int64_t from = piece * PIECE, to = j->n - from < PIECE ? j->n : from + PIECE;
    float *restrict y = j->to;
    const float *restrict x = j->from;
    for (int64_t i = from; i < to; i++)
        y[i] += x[i];
}

static void add(const rq_autograd *a, const rq_tensor *to, const float *from)
{
    adding j = { to->f32, from, rq_tensor_count(to) };
    rq_threads_for(a->threads, (j.n + PIECE - 1) / PIECE, add_piece, &j);
}

/* What comes from outside to the gradient of v: of outputs, and what add_grad was given. */
static void take_external(const rq_autograd *a, rq_train_plan *p, rq_id v)
{
    const rq_graph *g = a->g;
    const rq_tensor *to = &p->slots[p->grad[v]].t;
    bool got = p->got[v];
    for (int i = 0; i < g->n_outputs + a->n_external; i++) {
        const int k = i - g->n_outputs;
        const bool mine = k < 0 ? g->outputs[i] == v : a->external[k].value == v;
        const float *from = !mine                             ? NULL
                            : k >= 0                          ? a->external[k].dy
                            : a->dy[i].dtype == RQ_DTYPE_NONE ? NULL
                                                              : a->dy[i].f32;
        if (!from)
            continue;
        if (got)
            add(a, to, from);
        else
            memcpy(to->data, from, to->bytes);
        got = true;
    }
    if (!got)
        memset(to->data, 0, to->bytes);
}

static rq_status backward_step(rq_autograd *a, rq_train_plan *p, rq_train_step *s, rq_err *err)
{
    if (!rq_train_hands_on(s)) {
        start_call(a, p, s, &s->backward, err);
        RQ_TRY(finish_call(a, s, s->row->backward(&s->backward.args), err));
    }
    for (int i = 0; i < s->node->n_in; i++)
        if (s->into[i] >= 0)
            add(a, &p->slots[s->into[i]].t, p->slots[s->grad_in[i]].t.f32);
    return RQ_OK;
}

rq_status rq_train_backward(rq_autograd *a, rq_train_plan *p, rq_err *err)
{
    for (int t = p->n_forward; t < p->n_actions; t++) {
        const rq_action *x = &p->actions[t];
        if (x->kind == RQ_ACTION_EXTERNAL)
            take_external(a, p, x->of);
        else if (x->kind == RQ_ACTION_AGAIN)
            RQ_TRY(forward_again(a, p, &p->steps[x->of], err));
        else
            RQ_TRY(backward_step(a, p, &p->steps[x->of], err));
    }
    return RQ_OK;
}
