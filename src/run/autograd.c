/* run/autograd.c — the public face of training: see requant/autograd.h. Plans are kept per input shape and mode, as many as a training
 * loop goes through; they share one block of memory, as only the last forward counts. */
#include "requant/autograd.h"

#include <string.h>

#include "base/nearest.h"
#include "quant/exec.h"
#include "run/autograd_plan.h"
#include "run/feeds.h"

rq_autograd_cfg rq_autograd_defaults(void)
{
    return (rq_autograd_cfg) { .onednn = true };
}

/* ---- making ---- */

static void forget_plans(rq_autograd *a)
{
    for (int i = 0; i < RQ_TRAIN_PLANS; i++) {
        rq_train_plan_destroy(a->plans[i]);
        a->plans[i] = NULL;
    }
    a->last = NULL;
    a->pending = false;
}

void rq_autograd_destroy(rq_autograd *a)
{
    if (!a)
        return;
    forget_plans(a);
    for (int i = 0; i < a->n_trained; i++)
        rq_mem_free(a->trained[i].grad);
    rq_train_release_parameters(a);
    rq_mem_free(a->trained);
    rq_mem_free(a->trained_of);
    rq_mem_free(a->moving);
    rq_mem_free(a->wanted);
    rq_mem_free(a->outside);
    rq_mem_free(a->frozen);
    rq_mem_free(a->feeds);
    rq_mem_free(a->names);
    rq_mem_free(a->taps);
    rq_mem_free(a->external);
    rq_mem_free(a->order);
    rq_mem_free(a->block);
    rq_exec_destroy(a->exec);
    rq_mem_free(a);
}

static rq_status build(rq_autograd *a, rq_err *err)
{
    rq_graph *g = a->g;
    rq_ops_bind(g);
    RQ_TRY(rq_ops_check(g, true, err));
    RQ_TRY(rq_exec_create(&a->exec, a->cfg.threads, err));
    a->threads = rq_exec_pool(a->exec);
    a->k = rq_exec_kernels(a->exec);
    a->k.library = a->cfg.onednn;
    RQ_TRY(rq_order(g, &a->order, &a->n_order, err));
    const size_t n = (size_t)g->n_values + 1;
    a->trained_of = rq_mem_alloc(n, sizeof *a->trained_of);
    a->moving = rq_mem_zalloc(n, sizeof *a->moving);
    a->wanted = rq_mem_zalloc(n, sizeof *a->wanted);
    a->outside = rq_mem_zalloc(n, sizeof *a->outside);
    a->frozen = rq_mem_zalloc((size_t)g->n_nodes + 1, sizeof *a->frozen);
    a->feeds = rq_mem_zalloc((size_t)g->n_inputs + 1, sizeof *a->feeds);
    a->names = rq_mem_zalloc((size_t)g->n_inputs + 1, sizeof *a->names);
    if (!a->trained_of || !a->moving || !a->wanted || !a->outside || !a->frozen || !a->feeds || !a->names)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory making a graph ready for training");
    memset(a->trained_of, -1, n * sizeof *a->trained_of);
    RQ_TRY(rq_train_survey(a, err));
    return rq_train_list_parameters(a, err);
}

rq_status rq_autograd_create(rq_autograd **out, rq_graph *g, const rq_autograd_cfg *cfg, rq_err *err)
{
    rq_autograd *a = rq_mem_zalloc(1, sizeof *a);
    if (!a)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory making a graph ready for training");
    a->cfg = cfg ? *cfg : rq_autograd_defaults();
    a->g = g;
    a->train = true;
    a->random = a->cfg.seed;
    const rq_status st = build(a, err);
    if (st) {
        rq_autograd_destroy(a);
        return st;
    }
    *out = a;
    return RQ_OK;
}

/* ---- modes ---- */

void rq_autograd_train(rq_autograd *a, bool on)
{
    a->train = on;
}

bool rq_autograd_is_training(const rq_autograd *a)
{
    return a->train;
}

void rq_autograd_keep(rq_autograd *a, bool on)
{
    a->keep = on;
}

rq_status rq_autograd_freeze_batch_norm(rq_autograd *a, const char *node, bool on, rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    rq_nearest near = rq_nearest_to(node ? node : "");
    bool found = !node;
    for (int at = 0; at < a->n_order; at++) {
        const rq_node *n = &a->g->nodes[a->order[at]];
        if (!n->row->statistics)
            continue;
        rq_nearest_try(&near, n->name);
        if (node && strcmp(node, n->name) != 0)
            continue;
        found = true;
        if (a->frozen[a->order[at]] != on)
            forget_plans(a);
        a->frozen[a->order[at]] = on;
    }
    return found ? RQ_OK
                 : rq_fail(err, RQ_NOT_FOUND, "no batch norm '%s' in the graph%s", node, rq_nearest_hint(&near, hint));
}

uint64_t rq_autograd_random_state(const rq_autograd *a)
{
    return a->random;
}

void rq_autograd_set_random_state(rq_autograd *a, uint64_t state)
{
    a->random = state;
}

/* ---- forward and backward ---- */

static bool fits(const rq_autograd *a, const rq_train_plan *p)
{
    if (p->train != a->train || p->keeps != (a->train || a->keep))
        return false;
    for (int i = 0; i < a->g->n_inputs; i++) {
        const rq_tensor *t =
            a->feeds[i].dtype != RQ_DTYPE_NONE ? &a->feeds[i] : &a->g->values[a->g->inputs[i]].constant;
        if (p->in_dtype[i] != t->dtype || !rq_shape_equal(&p->in_shape[i], &t->shape))
            return false;
    }
    return true;
}

/* The plan for what is fed, in place of the one used longest ago if there is none. */
static rq_status find_plan(rq_autograd *a, rq_train_plan **out, rq_err *err)
{
    int worst = 0;
    for (int i = 0; i < RQ_TRAIN_PLANS; i++) {
        if (a->plans[i] && fits(a, a->plans[i])) {
            *out = a->plans[i];
            return RQ_OK;
        }
        if (a->plans[worst] && (!a->plans[i] || a->plans[i]->used < a->plans[worst]->used))
            worst = i;
    }
    rq_train_plan_destroy(a->plans[worst]);
    a->plans[worst] = NULL;
    RQ_TRY(rq_train_plan_create(&a->plans[worst], a, err));
    *out = a->plans[worst];
    return RQ_OK;
}

rq_status rq_autograd_forward(rq_autograd *a, const rq_feed *in, int n_in, rq_tensor *out, rq_err *err)
{
    rq_err own = { 0 };
    rq_train_plan *p = NULL;
    a->pending = false;
    a->last = NULL;
    memset(out, 0, (size_t)a->g->n_outputs * sizeof *out);
    RQ_TRY(rq_feeds_match(a->g, in, n_in, a->names, a->feeds, err));
    RQ_TRY(find_plan(a, &p, err));
    p->used = ++a->forwards;
    if (a->train)
        a->random += UINT64_C(0xd1342543de82ef95); /* odd: every state comes once */
    a->drawn = a->random;
    const rq_status st = rq_train_forward(a, p, &own);
    if (st)
        return rq_fail(err, st, "%s", own.code ? own.text : rq_status_text(st));
    for (int i = 0; i < a->g->n_outputs; i++)
        out[i] = rq_tensor_view(p->slots[a->g->outputs[i]].t.dtype, &p->slots[a->g->outputs[i]].t.shape,
                                p->slots[a->g->outputs[i]].t.data);
    a->last = p;
    a->pending = p->keeps;
    return RQ_OK;
}

static rq_status check_gradient(const rq_autograd *a, int i, const rq_tensor *dy, rq_err *err)
{
    char want[RQ_SHAPE_TEXT], got[RQ_SHAPE_TEXT];
    const rq_id v = a->g->outputs[i];
    const rq_tensor *y = &a->last->slots[v].t;
    if (dy->dtype == RQ_DTYPE_NONE)
        return RQ_OK;
    if (dy->dtype != RQ_DTYPE_F32 || !rq_shape_equal(&dy->shape, &y->shape))
        return rq_fail(err, RQ_BAD_SHAPE, "the gradient of output '%s' is %s %s, expected f32 %s", a->g->values[v].name,
                       rq_dtype_name(dy->dtype), rq_shape_text(&dy->shape, got, sizeof got),
                       rq_shape_text(&y->shape, want, sizeof want));
    return RQ_OK;
}

rq_status rq_autograd_backward(rq_autograd *a, const rq_tensor *dy, rq_err *err)
{
    rq_err own = { 0 };
    if (!a->last || !a->pending)
        return rq_fail(err, RQ_BAD_ARG,
                       "there is no forward to go back through: one in train mode, or with rq_autograd_keep, is "
                       "expected before each backward");
    for (int i = 0; i < a->g->n_outputs; i++)
        RQ_TRY(check_gradient(a, i, &dy[i], err));
    a->pending = false;
    a->dy = dy;
    const rq_status st = rq_train_backward(a, a->last, &own);
    a->dy = NULL;
    return st ? rq_fail(err, st, "%s", own.code ? own.text : rq_status_text(st)) : RQ_OK;
}

size_t rq_autograd_bytes(const rq_autograd *a)
{
    return a->last ? a->last->block_bytes + a->last->scratch_bytes : 0;
}

/* ---- gradients of inputs ---- */

static rq_id find_input(const rq_autograd *a, const char *name)
{
    for (int i = 0; i < a->g->n_inputs; i++)
        if (!strcmp(a->g->values[a->g->inputs[i]].name, name))
            return a->g->inputs[i];
    return RQ_NONE;
}

rq_status rq_autograd_want_input(rq_autograd *a, const char *name, rq_err *err)
{
    const rq_id v = find_input(a, name);
    if (v == RQ_NONE)
        return rq_fail(err, RQ_NOT_FOUND, "the graph has no input '%s'", name);
    if (!a->wanted[v])
        forget_plans(a);
    a->wanted[v] = true;
    return RQ_OK;
}

rq_status rq_autograd_input_grad(const rq_autograd *a, const char *name, rq_tensor *out, rq_err *err)
{
    const rq_id v = find_input(a, name);
    if (v == RQ_NONE || !a->wanted[v] || !a->last || a->pending || a->last->grad[v] < 0)
        return rq_fail(err, RQ_NOT_FOUND, "there is no gradient of input '%s': it has to be asked for before", name);
    const rq_tensor *t = &a->last->slots[a->last->grad[v]].t;
    *out = rq_tensor_view(t->dtype, &t->shape, t->data);
    return RQ_OK;
}

/* ---- looking and adding inside ---- */

rq_status rq_autograd_tap(rq_autograd *a, const char *value, rq_tap_fn fn, void *arg, rq_err *err)
{
    const rq_id v = rq_graph_find(a->g, value);
    if (v == RQ_NONE)
        return rq_feeds_no_value(a->g, value, err);
    if (!rq_mem_grow(&a->taps, a->n_taps, &a->cap_taps, sizeof *a->taps))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory tapping '%s'", value);
    a->taps[a->n_taps++] = (rq_tap) { .value = v, .fn = fn, .arg = arg };
    a->outside[v] = true; /* who looks at a value may want to pull at it */
    forget_plans(a);
    return RQ_OK;
}

rq_status rq_autograd_add_grad(rq_autograd *a, const char *value, const float *dy, rq_err *err)
{
    const rq_id v = rq_graph_find(a->g, value);
    if (v == RQ_NONE)
        return rq_feeds_no_value(a->g, value, err);
    int at = 0;
    while (at < a->n_external && a->external[at].value != v)
        at++;
    if (at == a->n_external) {
        if (!rq_mem_grow(&a->external, a->n_external, &a->cap_external, sizeof *a->external))
            return rq_fail(err, RQ_NO_MEMORY, "out of memory for the gradient of '%s'", value);
        a->n_external++;
    }
    a->external[at] = (rq_external) { v, dy };
    if (!a->outside[v])
        forget_plans(a);
    a->outside[v] = true;
    return RQ_OK;
}
