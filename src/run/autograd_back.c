/* run/autograd_back.c — the backward direction of a plan: which steps have one, and where the gradients of values go.
 *
 * Steps are visited from the last to the first. The first reader that gives a value a gradient writes it into the value's slot; others write beside it and
 * are added, in that order, whatever the threads. A step whose outputs get none has no backward. */
#include <string.h>

#include "quant/fake_quantizer.h"
#include "run/autograd_plan.h"

typedef struct marker {
    rq_autograd *a;
    rq_train_plan *p;
    bool *needs;    /* [n_values] depends on what is trained or wanted */
    int32_t *param; /* [n_trained] slots of their gradients */
    rq_err *err;
} marker;

static bool is_f32(const marker *m, rq_id v)
{
    return v != RQ_NONE && m->p->slots[v].t.dtype == RQ_DTYPE_F32;
}

static bool needs_in(const marker *m, const rq_node *n, int i)
{
    return is_f32(m, n->in[i]) && m->needs[n->in[i]] && rq_train_input_has_gradient(n, i);
}

/* Does it learn its scale, or may it (own ones)? */
static bool learns(const rq_fake_quantizer *q)
{
    return q && (q->cfg.kind == RQ_FAKE_QUANTIZER_LEARNABLE || q->cfg.kind == RQ_FAKE_QUANTIZER_OWN);
}

static void mark_needs(marker *m)
{
    const rq_autograd *a = m->a;
    for (int i = 0; i < a->n_trained; i++)
        m->needs[a->trained[i].value] = true;
    for (rq_id v = 0; v < a->g->n_values; v++)
        m->needs[v] |= a->wanted[v];
    for (int k = 0; k < m->p->n_steps; k++) {
        const rq_train_step *s = &m->p->steps[k];
        bool any = learns(rq_train_fake_of(a, s->node));
        for (int i = 0; i < s->node->n_in; i++)
            any |= s->node->in[i] != RQ_NONE && needs_in(m, s->node, i);
        for (int i = 0; i < s->node->n_out && any && (rq_train_hands_on(s) || s->row->backward); i++)
            if (is_f32(m, s->node->out[i]))
                m->needs[s->node->out[i]] = true;
    }
}

static int32_t new_gradient(marker *m, rq_id v)
{
    const rq_tensor like = m->p->slots[v].t;
    return rq_train_add_slot(m->p, &like, m->err);
}

static rq_status ensure_gradient(marker *m, rq_id v)
{
    if (m->p->grad[v] < 0)
        m->p->grad[v] = new_gradient(m, v);
    return m->p->grad[v] < 0 ? RQ_NO_MEMORY : RQ_OK;
}

/* Where the gradient of input i of step s goes. */
static rq_status place_input(marker *m, rq_train_step *s, int i)
{
    rq_train_plan *p = m->p;
    const rq_id v = s->node->in[i];
    const int32_t trained = m->a->trained_of[v];
    const int32_t from = rq_train_hands_on(s) ? s->grad_out[0] : -1;
    if (trained >= 0 || p->grad[v] >= 0) {
        s->into[i] = trained >= 0 ? m->param[trained] : p->grad[v];
        s->grad_in[i] = rq_train_hands_on(s) ? from : new_gradient(m, v);
    } else {
        p->grad[v] = s->grad_in[i] = new_gradient(m, v);
        p->got[v] = 1;
        if (rq_train_hands_on(s) && s->grad_in[i] >= 0)
            p->slots[s->grad_in[i]].root = p->slots[from].root;
    }
    return s->grad_in[i] < 0 ? RQ_NO_MEMORY : RQ_OK;
}

static rq_status visit(marker *m, rq_train_step *s)
{
    const rq_node *n = s->node;
    bool out = false, in = learns(rq_train_fake_of(m->a, n));
    for (int i = 0; i < n->n_out; i++) {
        const rq_id v = n->out[i];
        if (is_f32(m, v) && m->needs[v] && m->a->outside[v])
            RQ_TRY(ensure_gradient(m, v));
        out |= v != RQ_NONE && m->p->grad[v] >= 0;
    }
    for (int i = 0; i < n->n_in; i++)
        in |= n->in[i] != RQ_NONE && needs_in(m, n, i);
    if (!out || !in || !(rq_train_hands_on(s) || s->row->backward))
        return RQ_OK;
    s->back = true;
    s->grad_out = rq_arena_alloc(&m->p->arena, (size_t)n->n_out + 1, sizeof *s->grad_out);
    s->grad_in = rq_arena_alloc(&m->p->arena, (size_t)n->n_in + 1, sizeof *s->grad_in);
    s->into = rq_arena_alloc(&m->p->arena, (size_t)n->n_in + 1, sizeof *s->into);
    if (!s->grad_out || !s->grad_in || !s->into)
        return rq_fail(m->err, RQ_NO_MEMORY, "out of memory planning the training of the graph");
    for (int i = 0; i < n->n_out; i++)
        s->grad_out[i] = n->out[i] == RQ_NONE ? -1 : m->p->grad[n->out[i]];
    for (int i = 0; i < n->n_in; i++)
        s->grad_in[i] = s->into[i] = -1;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] != RQ_NONE && needs_in(m, n, i) && !(rq_train_hands_on(s) && i > 0))
            RQ_TRY(place_input(m, s, i));
    return RQ_OK;
}

/* Slots of the parameters' own gradients, and of values that no step makes. */
static rq_status visit_ends(marker *m, bool before)
{
    const rq_autograd *a = m->a;
    for (int i = 0; i < a->n_trained && before; i++) {
        m->param[i] = new_gradient(m, a->trained[i].value);
        if (m->param[i] < 0)
            return RQ_NO_MEMORY;
        m->p->slots[m->param[i]].fixed = true;
        m->p->slots[m->param[i]].t.f32 = a->trained[i].grad;
    }
    for (rq_id v = 0; v < a->g->n_values && !before; v++) {
        if (a->trained_of[v] >= 0) {
            m->p->grad[v] = m->param[a->trained_of[v]];
            m->p->got[v] = 1;
        } else if (a->wanted[v] && is_f32(m, v)) {
            RQ_TRY(ensure_gradient(m, v));
        }
    }
    return RQ_OK;
}

/* ---- steps that go back together ---- */

/* The only step that reads what s makes; -1: there are several, or somebody outside. */
static int only_reader(const marker *m, const rq_train_step *s)
{
    const rq_id v = s->node->out[0];
    int reader = -1;
    if (m->a->outside[v])
        return -1;
    for (int k = 0; k < m->p->n_steps; k++) {
        const rq_node *n = m->p->steps[k].node;
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] == v) {
                if (reader >= 0)
                    return -1;
                reader = k;
            }
    }
    return reader;
}

/* Relu before FakeQuantize: one mask says where both let the gradient through, so that neither output need live on for it. */
static void join_rectifiers(marker *m)
{
    for (int k = 0; k < m->p->n_steps; k++) {
        rq_train_step *s = &m->p->steps[k];
        if (strcmp(s->node->op, "Relu") != 0 || s->node->domain[0] || !is_f32(m, s->node->out[0]))
            continue;
        const int reader = only_reader(m, s);
        const rq_fake_quantizer *q = reader < 0 ? NULL : rq_train_fake_of(m->a, m->p->steps[reader].node);
        if (!q || !rq_fake_quantizer_masks(q))
            continue;
        s->passed = true;
        m->p->steps[reader].forward.training.relu = true;
    }
}

rq_status rq_train_plan_gradients(rq_autograd *a, rq_train_plan *p, rq_err *err)
{
    for (rq_id v = 0; v < a->g->n_values; v++)
        p->grad[v] = -1;
    if (!p->keeps)
        return RQ_OK;
    marker m = { .a = a, .p = p, .err = err };
    m.needs = rq_arena_alloc(&p->arena, (size_t)a->g->n_values + 1, sizeof *m.needs);
    m.param = rq_arena_alloc(&p->arena, (size_t)a->n_trained + 1, sizeof *m.param);
    if (!m.needs || !m.param)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory planning the training of the graph");
    if (!a->plain)
        join_rectifiers(&m);
    mark_needs(&m);
    RQ_TRY(visit_ends(&m, true));
    for (int k = p->n_steps - 1; k >= 0; k--)
        RQ_TRY(visit(&m, &p->steps[k]));
    return visit_ends(&m, false);
}
