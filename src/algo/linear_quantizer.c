/* algo/linear_quantizer.c — the object: prepare, count, switch, keep. What prepare does is in the files beside this one (linear_quantizer.h);
 * finalize is linear_quantizer_finalize.c. */
#include "algo/linear_quantizer.h"

#include <stdio.h>
#include <string.h>

#include "fold/fold.h"
#include "graph/query.h"
#include "ops/op.h"

/* ---- plans ---- */

rq_status rq_lq_plan_make(rq_lq_plan *p, rq_graph *g, const rq_linear_quantizer_config *c, rq_err *err)
{
    rq_ops_bind(g);
    RQ_TRY(rq_ops_infer(g, err));
    RQ_TRY(rq_lq_find_groups(p, g, c, err));
    return rq_lq_find_places(p, g, c, err);
}

void rq_lq_plan_release(rq_lq_plan *p)
{
    rq_arena_release(&p->arena);
    rq_mem_free(p->groups);
    rq_mem_free(p->group_of);
    rq_mem_free(p->positive);
    rq_mem_free(p->decides);
    rq_mem_free(p->order);
    rq_mem_free(p->objects);
    rq_mem_free(p->places);
    rq_mem_free(p->uses);
    *p = (rq_lq_plan) { 0 };
}

/* ---- the object ---- */

rq_status rq_linear_quantizer_create(rq_linear_quantizer **out, const rq_graph *g, const rq_linear_quantizer_config *c,
                                     rq_err *err)
{
    rq_linear_quantizer *q = rq_mem_zalloc(1, sizeof *q);
    if (!q)
        return rq_lq_no_memory(err);
    rq_status s = c ? rq_linear_quantizer_config_copy(&q->config, c) : rq_linear_quantizer_config_create(&q->config);
    if (!s)
        s = rq_graph_copy(&q->float_graph, g);
    if (s)
        rq_lq_no_memory(err);
    else
        s = rq_linear_quantizer_config_match(q->config, q->float_graph, &q->notes, err);
    if (s) {
        rq_linear_quantizer_destroy(q);
        return s;
    }
    *out = q;
    return RQ_OK;
}

static void release_prepared(rq_linear_quantizer *q)
{
    for (int i = 0; q->fakes && i < q->n_fakes; i++)
        rq_fake_quantizer_destroy(q->fakes[i]);
    rq_mem_free(q->fakes);
    rq_mem_free(q->fake_cfgs);
    rq_mem_free(q->names);
    rq_mem_free(q->held);
    rq_graph_destroy(q->model);
    rq_lq_plan_release(&q->plan);
    q->fakes = NULL;
    q->fake_cfgs = NULL;
    q->names = NULL;
    q->held = NULL;
    q->model = NULL;
    q->n_fakes = 0;
}

void rq_linear_quantizer_destroy(rq_linear_quantizer *q)
{
    if (!q)
        return;
    release_prepared(q);
    rq_graph_destroy(q->float_graph);
    rq_linear_quantizer_config_destroy(q->config);
    rq_notes_release(&q->notes);
    rq_mem_free(q);
}

rq_status rq_linear_quantizer_warnings(const rq_linear_quantizer *q, struct rq_notes *out)
{
    for (int i = 0; i < q->notes.n; i++)
        RQ_TRY(rq_notes_add(out, "%s", q->notes.text[i]));
    return rq_linear_quantizer_config_warnings(q->config, out);
}

/* ---- prepare ---- */

static rq_status make_fakes(rq_linear_quantizer *q, rq_err *err)
{
    const rq_lq_plan *p = &q->plan;
    const bool compat = rq_linear_quantizer_config_is_compat(q->config);
    int n = 0;
    for (int i = 0; i < p->n_objects; i++)
        n += p->objects[i].slot >= 0;
    q->fakes = rq_mem_zalloc((size_t)n + 1, sizeof *q->fakes);
    q->fake_cfgs = rq_mem_zalloc((size_t)n + 1, sizeof *q->fake_cfgs);
    q->names = rq_mem_zalloc((size_t)n + 1, sizeof *q->names);
    q->held = rq_mem_zalloc((size_t)n + 1, sizeof *q->held);
    if (!q->fakes || !q->fake_cfgs || !q->names || !q->held)
        return rq_lq_no_memory(err);
    q->n_fakes = n;
    for (int i = 0; i < p->n_objects; i++) {
        const rq_lq_object *o = &p->objects[i];
        if (o->slot < 0)
            continue;
        q->names[o->slot] = o->name;
        q->fake_cfgs[o->slot] = rq_lq_fake_cfg(p, o, compat);
        const rq_status s = rq_fake_quantizer_create(&q->fakes[o->slot], &q->fake_cfgs[o->slot], err);
        if (s)
            return rq_fail_in(err, s, "fake-quantizer '%s'", o->name);
    }
    return RQ_OK;
}

static rq_status prepare(rq_linear_quantizer *q, rq_err *err)
{
    RQ_TRY(rq_fold_for_training(q->float_graph, rq_linear_quantizer_config_is_compat(q->config), err));
    RQ_TRY(rq_lq_plan_make(&q->plan, q->float_graph, q->config, err));
    if (rq_graph_copy(&q->model, q->float_graph))
        return rq_lq_no_memory(err);
    RQ_TRY(rq_lq_rewrite(q->model, &q->plan, err));
    rq_ops_bind(q->model);
    RQ_TRY(rq_ops_check(q->model, true, err));
    RQ_TRY(rq_ops_infer(q->model, err));
    RQ_TRY(make_fakes(q, err));
    if (rq_linear_quantizer_config_idle(q->config, q->plan.decides, &q->notes))
        return rq_lq_no_memory(err);
    if (rq_linear_quantizer_config_common(q->config)->has_milestones)
        for (int i = 0; i < q->n_fakes; i++) {
            rq_fake_quantizer_enable_observer(q->fakes[i], false);
            rq_fake_quantizer_enable_fake_quant(q->fakes[i], false);
        }
    return RQ_OK;
}

rq_status rq_linear_quantizer_prepare(rq_linear_quantizer *q, rq_err *err)
{
    if (q->model)
        return rq_fail(err, RQ_BAD_ARG, "the quantizer has prepared its graph already");
    if (rq_graph_is_quantized(q->float_graph))
        return rq_fail(err, RQ_BAD_ARG, "the graph is quantized already; training starts from one in floats");
    const rq_status s = prepare(q, err);
    if (s)
        release_prepared(q);
    return s;
}

rq_graph *rq_linear_quantizer_model(rq_linear_quantizer *q)
{
    return q->model;
}

int rq_linear_quantizer_fakes(const rq_linear_quantizer *q, rq_fake_quantizer *const **fakes, const char *const **names)
{
    if (fakes)
        *fakes = q->fakes;
    if (names)
        *names = q->names;
    return q->n_fakes;
}

/* ---- milestones ---- */

void rq_lq_hold(rq_linear_quantizer *q, int slot)
{
    q->held[slot] = true;
}

/* Switch observer and fake quantization of all. A learnable one without an observer learns: the original's does so whenever fake
 * quantization is on. */
static rq_status switch_all(rq_linear_quantizer *q, int observer, int fake_quant, rq_err *err)
{
    for (int i = 0; i < q->n_fakes; i++) {
        rq_fake_quantizer *f = q->fakes[i];
        const bool see = !q->held[i] && (observer < 0 ? rq_fake_quantizer_observer_enabled(f) : observer);
        const bool quantize = fake_quant < 0 ? rq_fake_quantizer_fake_quant_enabled(f) : fake_quant;
        const rq_fake_quantizer_cfg *c = &q->fake_cfgs[i];
        if (c->kind == RQ_FAKE_QUANTIZER_LEARNABLE && !c->compat && quantize) {
            const rq_status s = see ? rq_fake_quantizer_enable_static_estimate(f, err)
                                    : rq_fake_quantizer_enable_param_learning(f, err);
            if (s)
                return rq_fail_in(err, s, "fake-quantizer '%s'", q->names[i]);
            continue;
        }
        rq_fake_quantizer_enable_observer(f, see);
        rq_fake_quantizer_enable_fake_quant(f, quantize);
    }
    return RQ_OK;
}

/* Freeze: all batch norms, or (compat) those that are folded into a product. */
static rq_status freeze(rq_linear_quantizer *q, rq_autograd *a, rq_err *err)
{
    if (!a)
        return RQ_OK;
    if (!rq_linear_quantizer_config_is_compat(q->config))
        return rq_autograd_freeze_batch_norm(a, NULL, true, err);
    for (int i = 0; i < q->plan.n_groups; i++)
        if (q->plan.groups[i].kind == RQ_LQ_WEIGHTED && q->plan.groups[i].norm >= 0)
            RQ_TRY(rq_autograd_freeze_batch_norm(a, q->model->nodes[q->plan.groups[i].norm].name, true, err));
    return RQ_OK;
}

rq_status rq_linear_quantizer_resume(rq_linear_quantizer *q, rq_autograd *a, rq_err *err)
{
    return q->frozen ? freeze(q, a, err) : RQ_OK;
}

rq_status rq_linear_quantizer_step(rq_linear_quantizer *q, rq_autograd *a, rq_err *err)
{
    const rq_module_linear_quantizer_config *c = rq_linear_quantizer_config_common(q->config);
    if (!q->model)
        return rq_fail(err, RQ_BAD_ARG, "the quantizer was not prepared, so there is nothing to count for");
    if (!c->has_milestones)
        return RQ_OK;
    if (q->steps == c->milestones[0])
        RQ_TRY(switch_all(q, true, -1, err));
    if (q->steps == c->milestones[1])
        RQ_TRY(switch_all(q, -1, true, err));
    if (q->steps == c->milestones[2])
        RQ_TRY(switch_all(q, false, -1, err));
    if (q->steps == c->milestones[3]) {
        RQ_TRY(freeze(q, a, err));
        q->frozen = true;
    }
    q->steps++;
    return RQ_OK;
}

/* ---- keeping ---- */

static rq_status prefix_of(const rq_linear_quantizer *q, const char *prefix, int i, char *buf, size_t n, rq_err *err)
{
    const int len = snprintf(buf, n, "%s%s.", prefix ? prefix : "", q->names[i]);
    return len < 0 || (size_t)len >= n
               ? rq_fail(err, RQ_BAD_ARG, "the name of fake-quantizer '%.100s' is too long to be kept", q->names[i])
               : RQ_OK;
}

enum { LONGEST = 1024 };

rq_status rq_linear_quantizer_save(const rq_linear_quantizer *q, rq_state *s, const char *prefix)
{
    char buf[LONGEST];
    const int64_t numbers[] = { q->steps, q->frozen };
    RQ_TRY(rq_state_set_ints(s, prefix, "step_count", &numbers[0], 1));
    RQ_TRY(rq_state_set_ints(s, prefix, "batch_norm_frozen", &numbers[1], 1));
    for (int i = 0; i < q->n_fakes; i++) {
        RQ_TRY(prefix_of(q, prefix, i, buf, sizeof buf, NULL));
        RQ_TRY(rq_fake_quantizer_save(q->fakes[i], s, buf));
    }
    return RQ_OK;
}

rq_status rq_linear_quantizer_load(rq_linear_quantizer *q, const rq_state *s, const char *prefix, rq_err *err)
{
    char buf[LONGEST];
    const rq_tensor *steps, *frozen;
    if (!q->model)
        return rq_fail(err, RQ_BAD_ARG, "prepare the quantizer before its state is loaded");
    RQ_TRY(rq_state_get(s, prefix, "step_count", RQ_DTYPE_S64, -1, &steps, err));
    RQ_TRY(rq_state_get(s, prefix, "batch_norm_frozen", RQ_DTYPE_S64, -1, &frozen, err));
    if (rq_tensor_count(steps) != 1 || rq_tensor_count(frozen) != 1 || steps->s64[0] < 0)
        return rq_fail(err, RQ_BAD_DATA, "the state's step count is no number of steps");
    for (int i = 0; i < q->n_fakes; i++) {
        RQ_TRY(prefix_of(q, prefix, i, buf, sizeof buf, err));
        RQ_TRY(rq_fake_quantizer_load(q->fakes[i], s, buf, err));
    }
    q->steps = steps->s64[0];
    q->frozen = frozen->s64[0] != 0;
    return RQ_OK;
}
