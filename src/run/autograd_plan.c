/* run/autograd_plan.c — from nodes to steps that can go forward and backward. For each node in order: infer its sizes with what is known;
 * evaluate it at once where all of its inputs are known (shape arithmetic); else it is a step. See autograd_plan.h. */
#include "run/autograd_plan.h"

#include <string.h>

/* A value computed while planning may take this much; larger ones are made when running. */
enum { FOLD_BYTES = 64 << 20 };

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory planning the training of the graph");
}

int32_t rq_train_add_slot(rq_train_plan *p, const rq_tensor *like, rq_err *err)
{
    if (!rq_mem_grow(&p->slots, p->n_slots, &p->cap_slots, sizeof *p->slots)) {
        no_memory(err);
        return -1;
    }
    rq_slot *s = &p->slots[p->n_slots];
    *s = (rq_slot) { .def = -1, .last = -1, .root = p->n_slots };
    if (like)
        s->t = rq_tensor_view(like->dtype, &like->shape, NULL);
    return p->n_slots++;
}

/* ---- calls ---- */

/* The arrays of a call of n: -1 and NULL everywhere. */
rq_status rq_train_start_call(rq_autograd *a, rq_train_plan *p, rq_call *c, const rq_node *n, rq_err *err)
{
    const size_t n_in = (size_t)n->n_in + 1, n_out = (size_t)n->n_out + 1;
    rq_arena *r = &p->arena;
    c->in = rq_arena_alloc(r, n_in, sizeof *c->in);
    c->out = rq_arena_alloc(r, n_out, sizeof *c->out);
    c->saved = -1;
    c->args = (rq_op_args) {
        .graph = a->g,
        .node = n,
        .opset = rq_graph_opset(a->g, n->domain),
        .in = rq_arena_alloc(r, n_in, sizeof *c->args.in),
        .out = rq_arena_alloc(r, n_out, sizeof *c->args.out),
        .n_in = n->n_in,
        .n_out = n->n_out,
        .in_q = rq_arena_alloc(r, n_in, sizeof *c->args.in_q),
        .out_q = rq_arena_alloc(r, n_out, sizeof *c->args.out_q),
        .k = &a->k,
        .threads = a->threads,
        .packs = &p->packs,
        .err = err,
    };
    c->training = (rq_op_training) {
        .grad_out = rq_arena_alloc(r, n_out, sizeof *c->training.grad_out),
        .grad_in = rq_arena_alloc(r, n_in, sizeof *c->training.grad_in),
        .fakes = (struct rq_fake_quantizer *const *)a->cfg.fakes,
        .n_fakes = a->cfg.n_fakes,
        .exec = a->exec,
        .train = p->train && !a->frozen[n - a->g->nodes],
    };
    if (!c->in || !c->out || !c->args.in || !c->args.out || !c->args.in_q || !c->args.out_q || !c->training.grad_out ||
        !c->training.grad_in)
        return no_memory(err);
    for (int i = 0; i < n->n_in; i++)
        c->in[i] = n->in[i];
    for (int i = 0; i < n->n_out; i++)
        c->out[i] = n->out[i];
    return RQ_OK;
}

/* Point the tensors of a call at its slots. The array of slots does not move any more. `known`: data of what is known alone. */
void rq_train_bind_call(rq_train_plan *p, rq_call *c)
{
    const rq_tensor **in = (const rq_tensor **)c->args.in;
    rq_tensor **out = (rq_tensor **)c->args.out;
    for (int i = 0; i < c->args.n_in; i++)
        in[i] = c->in[i] < 0 ? NULL : &p->slots[c->in[i]].t;
    for (int i = 0; i < c->args.n_out; i++)
        out[i] = c->out[i] < 0 ? NULL : &p->slots[c->out[i]].t;
    c->args.training = &c->training;
}

/* ---- values before any node ---- */

static rq_status start_slots(rq_autograd *a, rq_train_plan *p, rq_err *err)
{
    const rq_graph *g = a->g;
    for (rq_id v = 0; v < g->n_values; v++) {
        if (rq_train_add_slot(p, NULL, err) < 0)
            return RQ_NO_MEMORY;
        const rq_value *val = &g->values[v];
        rq_slot *s = &p->slots[v];
        if (val->kind == RQ_VALUE_CONST) {
            s->t = val->constant;
            s->t.storage = NULL; /* the graph owns it */
            s->fixed = true;
            s->known = a->trained_of[v] < 0 && !a->moving[v];
            if (!s->known)
                s->t.data = NULL; /* rows that prepare must not look; bound at each forward */
        }
    }
    for (int i = 0; i < g->n_inputs; i++) {
        rq_slot *s = &p->slots[g->inputs[i]];
        const rq_tensor *fed = a->feeds[i].dtype != RQ_DTYPE_NONE ? &a->feeds[i] : &g->values[g->inputs[i]].constant;
        s->t = rq_tensor_view(fed->dtype, &fed->shape, NULL);
        s->fixed = s->active = true;
        p->in_dtype[i] = fed->dtype;
        p->in_shape[i] = fed->shape;
    }
    return RQ_OK;
}

/* ---- one node ---- */

typedef struct sizes {
    rq_dtype *dtype;
    rq_shape *shape;
    size_t bytes;
} sizes;

static rq_status infer(rq_autograd *a, rq_train_plan *p, const rq_node *n, sizes *s, rq_err *err)
{
    const rq_tensor **in = rq_arena_alloc(&p->arena, (size_t)n->n_in + 1, sizeof *in);
    rq_tensor *seen = rq_arena_alloc(&p->arena, (size_t)n->n_in + 1, sizeof *seen);
    s->dtype = rq_arena_alloc(&p->arena, (size_t)n->n_out + 1, sizeof *s->dtype);
    s->shape = rq_arena_alloc(&p->arena, (size_t)n->n_out + 1, sizeof *s->shape);
    if (!in || !seen || !s->dtype || !s->shape)
        return no_memory(err);
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        seen[i] = p->slots[n->in[i]].t;
        if (!p->slots[n->in[i]].known)
            seen[i].data = NULL;
        in[i] = &seen[i];
    }
    return rq_ops_infer_node(a->g, n, in, s->dtype, s->shape, err);
}

static bool all_known(const rq_train_plan *p, const rq_node *n)
{
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] != RQ_NONE && !p->slots[n->in[i]].known && !(n->row->flags & RQ_OP_SHAPE_ONLY))
            return false;
    return !(n->row->flags & RQ_OP_KEEP);
}

/* Every output has a size, and not an absurd one. */
static rq_status check_sizes(const rq_autograd *a, const rq_node *n, sizes *s, rq_err *err)
{
    s->bytes = 0;
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        if (!rq_shape_is_known(&s->shape[i]) || s->dtype[i] == RQ_DTYPE_NONE)
            return rq_node_fail(a->g, n, err, RQ_UNSUPPORTED,
                                "the size of its output depends on data, which a graph that is trained cannot have");
        if (rq_shape_check(&s->shape[i]))
            return rq_node_fail(a->g, n, err, RQ_BAD_SHAPE, "its output would be too large");
        s->bytes += rq_shape_bytes(&s->shape[i], s->dtype[i]);
    }
    return RQ_OK;
}

/* Evaluate n now: its inputs are known. */
static rq_status evaluate(rq_autograd *a, rq_train_plan *p, const rq_node *n, const sizes *s, rq_err *err)
{
    rq_call c = { 0 };
    rq_status st = RQ_OK;
    void *scratch = NULL, *state = NULL;
    RQ_TRY(rq_train_start_call(a, p, &c, n, err));
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        rq_slot *o = &p->slots[n->out[i]];
        o->fixed = o->known = true;
        if (!(n->row->flags & RQ_OP_DYNAMIC) && rq_tensor_create(&o->t, s->dtype[i], &s->shape[i], true))
            return no_memory(err);
    }
    rq_train_bind_call(p, &c);
    c.args.training = NULL; /* as it is run, not trained */
    if (n->row->prepare && (st = n->row->prepare(&c.args, &state)))
        goto done;
    c.args.state = state;
    scratch = rq_mem_alloc(n->row->scratch ? n->row->scratch(&c.args, false) : 0, 1);
    c.args.scratch = scratch;
    st = scratch ? n->row->forward(&c.args) : no_memory(err);
done:
    if (state && n->row->release)
        n->row->release(state);
    rq_mem_free(scratch);
    if (st && err->code != st)
        rq_node_fail(a->g, n, err, st, "%s", rq_status_text(st));
    return st;
}

static bool is_tapped(const rq_autograd *a, rq_id v)
{
    for (int i = 0; i < a->n_taps; i++)
        if (a->taps[i].value == v)
            return true;
    return false;
}

/* Is output 0 of n its input 0 as it is? */
static bool is_view(const rq_autograd *a, const rq_train_plan *p, const rq_node *n, const sizes *s)
{
    if (n->n_in < 1 || n->in[0] == RQ_NONE || n->n_out < 1 || n->out[0] == RQ_NONE ||
        (n->n_out > 1 && n->out[1] != RQ_NONE) || is_tapped(a, n->out[0]))
        return false;
    const bool idle = !strcmp(n->op, "Cast") && p->slots[n->in[0]].t.dtype == s->dtype[0];
    return n->row->flags & RQ_OP_VIEW || idle;
}

static rq_status add_step(rq_autograd *a, rq_train_plan *p, const rq_node *n, const sizes *s, rq_err *err)
{
    rq_train_step *step = &p->steps[p->n_steps];
    if (n->row->flags & RQ_OP_DYNAMIC)
        return rq_node_fail(a->g, n, err, RQ_UNSUPPORTED,
                            "the size of its output depends on data, which a graph that is trained cannot have");
    *step = (rq_train_step) { .node = n, .row = n->row, .id = (rq_id)(n - a->g->nodes), .kept = -1 };
    step->view = is_view(a, p, n, s);
    bool active = false;
    for (int i = 0; i < n->n_in; i++)
        active |= n->in[i] != RQ_NONE && p->slots[n->in[i]].active;
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        rq_slot *o = &p->slots[n->out[i]];
        o->t = rq_tensor_view(s->dtype[i], &s->shape[i], NULL);
        o->active = active;
    }
    if (step->view) {
        rq_slot *o = &p->slots[n->out[0]];
        o->root = p->slots[n->in[0]].root;
        o->fixed = p->slots[n->in[0]].fixed;
    }
    RQ_TRY(rq_train_start_call(a, p, &step->forward, n, err));
    p->n_steps++;
    return RQ_OK;
}

static rq_status plan_nodes(rq_autograd *a, rq_train_plan *p, rq_err *err)
{
    for (int at = 0; at < a->n_order; at++) {
        const rq_node *n = &a->g->nodes[a->order[at]];
        sizes s = { 0 };
        RQ_TRY(infer(a, p, n, &s, err));
        const bool known = all_known(p, n), dynamic = n->row->flags & RQ_OP_DYNAMIC;
        if (!(known && dynamic))
            RQ_TRY(check_sizes(a, n, &s, err));
        if (known && s.bytes <= FOLD_BYTES)
            RQ_TRY(evaluate(a, p, n, &s, err));
        else
            RQ_TRY(add_step(a, p, n, &s, err));
    }
    return RQ_OK;
}

/* ---- letting rows prepare ---- */

static rq_status failed(const rq_autograd *a, const rq_train_step *s, rq_status st, rq_err *err)
{
    return !st || err->code == st ? st : rq_node_fail(a->g, s->node, err, st, "%s", rq_status_text(st));
}

static void at_least(size_t *n, size_t least)
{
    if (*n < least)
        *n = least;
}

/* What a row leaves for backward gets a slot. */
static rq_status add_saved(rq_train_plan *p, rq_train_step *s, rq_err *err)
{
    const size_t bytes = s->back && !rq_train_hands_on(s) && s->row->saved ? s->row->saved(&s->forward.args) : 0;
    if (!bytes)
        return RQ_OK;
    const rq_shape shape = rq_shape_of(1, (int64_t[]) { (int64_t)bytes });
    const rq_tensor like = rq_tensor_view(RQ_DTYPE_U8, &shape, NULL);
    s->forward.saved = s->backward.saved = rq_train_add_slot(p, &like, err);
    return s->forward.saved < 0 ? RQ_NO_MEMORY : RQ_OK;
}

/* From here on slots stay where they are: calls point at them. */
static rq_status fix_slots(rq_train_plan *p, rq_err *err)
{
    const int room = p->n_slots + p->n_steps + rq_train_plan_blocks_room(p);
    rq_slot *slots = rq_mem_realloc(p->slots, (size_t)room + 1, sizeof *slots);
    if (!slots)
        return no_memory(err);
    p->slots = slots;
    p->cap_slots = room + 1;
    return RQ_OK;
}

static rq_status prepare(rq_autograd *a, rq_train_plan *p, rq_err *err)
{
    for (int i = 0; i < p->n_steps; i++) {
        rq_train_step *s = &p->steps[i];
        if (s->view)
            continue;
        rq_train_bind_call(p, &s->forward);
        if (s->back)
            rq_train_bind_call(p, &s->backward);
        if (s->row->prepare)
            RQ_TRY(failed(a, s, s->row->prepare(&s->forward.args, &s->state), err));
        s->forward.args.state = s->backward.args.state = s->state;
        if (s->row->scratch)
            at_least(&p->scratch_bytes, s->row->scratch(&s->forward.args, false));
        if (s->back && !s->passed && s->row->prepare_backward)
            RQ_TRY(failed(a, s, s->row->prepare_backward(&s->backward.args, &s->back_state), err));
        s->backward.training.state = s->forward.training.state = s->back_state;
        if (s->back && !s->passed && s->row->scratch_backward)
            at_least(&p->scratch_bytes, s->row->scratch_backward(&s->backward.args));
        RQ_TRY(add_saved(p, s, err));
    }
    return RQ_OK;
}

/* Where backward writes to and reads from. */
static rq_status start_backward(rq_autograd *a, rq_train_plan *p, rq_err *err)
{
    for (int i = 0; i < p->n_steps; i++)
        if (p->steps[i].back)
            RQ_TRY(rq_train_start_call(a, p, &p->steps[i].backward, p->steps[i].node, err));
    return RQ_OK;
}

static void bind_gradients(rq_train_plan *p)
{
    for (int i = 0; i < p->n_steps; i++) {
        rq_train_step *s = &p->steps[i];
        if (!s->back)
            continue;
        const rq_tensor **out = (const rq_tensor **)s->backward.training.grad_out;
        rq_tensor **in = (rq_tensor **)s->backward.training.grad_in;
        for (int k = 0; k < s->node->n_out; k++)
            out[k] = s->grad_out[k] < 0 ? NULL : &p->slots[s->grad_out[k]].t;
        for (int k = 0; k < s->node->n_in; k++)
            in[k] = s->grad_in[k] < 0 ? NULL : &p->slots[s->grad_in[k]].t;
    }
}

/* ---- the plan ---- */

static rq_status build(rq_autograd *a, rq_train_plan *p, rq_err *err)
{
    const rq_graph *g = a->g;
    p->in_dtype = rq_arena_alloc(&p->arena, (size_t)g->n_inputs + 1, sizeof *p->in_dtype);
    p->in_shape = rq_arena_alloc(&p->arena, (size_t)g->n_inputs + 1, sizeof *p->in_shape);
    p->steps = rq_arena_alloc(&p->arena, (size_t)a->n_order + 1, sizeof *p->steps);
    p->grad = rq_arena_alloc(&p->arena, (size_t)g->n_values + 1, sizeof *p->grad);
    p->got = rq_arena_alloc(&p->arena, (size_t)g->n_values + 1, sizeof *p->got);
    if (!p->in_dtype || !p->in_shape || !p->steps || !p->grad || !p->got)
        return no_memory(err);
    RQ_TRY(start_slots(a, p, err));
    RQ_TRY(plan_nodes(a, p, err));
    RQ_TRY(rq_train_plan_gradients(a, p, err));
    RQ_TRY(start_backward(a, p, err));
    RQ_TRY(fix_slots(p, err));
    bind_gradients(p); /* rows see their shapes when they prepare */
    RQ_TRY(prepare(a, p, err));
    RQ_TRY(rq_train_plan_blocks(a, p, err));
    RQ_TRY(rq_train_plan_actions(a, p, err));
    return rq_train_plan_memory(a, p, err);
}

rq_status rq_train_plan_create(rq_train_plan **out, rq_autograd *a, rq_err *err)
{
    rq_err own = { 0 };
    rq_train_plan *p = rq_mem_zalloc(1, sizeof *p);
    if (!p)
        return no_memory(err);
    p->train = a->train;
    p->keeps = a->train || a->keep;
    const rq_status st = build(a, p, &own);
    if (st) {
        rq_train_plan_destroy(p);
        return rq_fail(err, st, "%s", own.code ? own.text : rq_status_text(st));
    }
    *out = p;
    return RQ_OK;
}

void rq_train_plan_destroy(rq_train_plan *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n_steps; i++) {
        rq_train_step *s = &p->steps[i];
        if (s->state && s->row->release)
            s->row->release(s->state);
        if (s->back_state && s->row->release_backward)
            s->row->release_backward(s->back_state);
    }
    for (int i = 0; i < p->n_slots; i++)
        rq_tensor_release(&p->slots[i].t); /* of what was evaluated; the others are views */
    rq_packs_release(&p->packs);
    rq_mem_free(p->slots);
    rq_mem_free(p->actions);
    rq_arena_release(&p->arena);
    rq_mem_free(p);
}
