/* algo/ptq.c — post-training quantization: fold, place, calibrate in one streaming pass (ptq_watch.c), annotate. Works on a copy and
 * swaps at the end, so an error leaves the graph as it was. */
#include "requant/ptq.h"

#include <math.h>
#include <string.h>

#include "algo/annotate.h"
#include "fold/fold.h"
#include "algo/ptq_priv.h"
#include "algo/report_priv.h"
#include "algo/weights.h"
#include "base/nearest.h"
#include "base/number.h"
#include "ops/rewrite.h"
#include "ops/widen.h"
#include "quant/observer_row.h"
#include "requant/session.h"

rq_ptq_cfg rq_ptq_defaults(void)
{
    return (rq_ptq_cfg) { .settings = rq_settings_defaults() };
}

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory quantizing the graph");
}

/* ---- ranges ---- */

const char *rq_ptq_method(rq_ptq_state *q, const rq_settings *s)
{
    if (s->observer)
        return s->observer;
    if (s->method != RQ_METHOD_PERCENTILE)
        return rq_method_name(s->method);
    rq_number_print(q->method_text, sizeof q->method_text, "percentile %g", s->percentile);
    return q->method_text;
}

/* A magnitude does not say that nothing lies below zero; a Relu before does. */
static void within_clamp(const rq_graph *g, rq_id value, rq_range *r)
{
    double lo, hi;
    const rq_value *v = &g->values[value];
    if (v->kind != RQ_VALUE_NODE || !rq_place_clamp_bounds(g, &g->nodes[v->producer], &lo, &hi))
        return;
    r->lo = fmin(fmax(r->lo, lo), 0);
    r->hi = fmax(fmin(r->hi, hi), 0);
}

/* Of what a value passes on, or else of the value itself. */
const rq_range_info *rq_ptq_given(const rq_ptq_state *q, rq_id value)
{
    const rq_value *v = q->g->values;
    const rq_range_info *r = rq_ranges_find(q->cfg->ranges, v[rq_ptq_source(q, value)].name);
    return r ? r : rq_ranges_find(q->cfg->ranges, v[value].name);
}

static rq_annotate_range range_of(void *arg, rq_id value, const rq_settings *s)
{
    rq_ptq_state *q = arg;
    rq_annotate_range a = { .method = rq_ptq_method(q, s) };
    rq_id v = value < q->n_values ? rq_ptq_source(q, value) : RQ_NONE;
    if (q->cfg->ranges) {
        const rq_range_info *given = v >= 0 ? rq_ptq_given(q, value) : NULL;
        if (given)
            a = (rq_annotate_range) { .r = { given->lo, given->hi }, .method = given->method, .seen = true };
        if (given && given->magnitude)
            within_clamp(q->g, v, &a.r);
        return a;
    }
    if (v >= 0 && q->observers[v])
        a.seen = rq_observer_range(q->observers[v], &a.r, 1) == RQ_OK;
    return a;
}

const rq_histogram *rq_ptq_histogram(const rq_ptq_state *q, rq_id value)
{
    const rq_observer *o = value < q->n_values ? q->observers[rq_ptq_source(q, value)] : NULL;
    return o ? rq_observer_histogram(o) : NULL;
}

rq_status rq_ptq_group_range(const rq_ptq_state *q, const rq_place_group *g, rq_range *r)
{
    const rq_id v = g->like != RQ_NONE ? g->like : g->value;
    const rq_observer *o = v < q->n_values ? q->observers[rq_ptq_source(q, v)] : NULL;
    return o ? rq_observer_range(o, r, 1) : RQ_NOT_FOUND;
}

/* What the histograms say that a user should hear; of one kind at most so many sentences. */
enum { MOST_NOTES = 8 };

static rq_status note_observations(rq_ptq_state *q)
{
    int n_saturated = 0;
    for (int v = 0; v < q->n_values; v++) {
        const rq_observer *o = q->observers[v];
        const char *name = q->g->values[v].name;
        if (!o)
            continue;
        if (rq_observer_bad(o))
            RQ_TRY(rq_notes_add(q->notes, "'%s' had %llu numbers that are not finite; they did not count", name,
                                (unsigned long long)rq_observer_bad(o)));
        const rq_histogram *h = rq_observer_histogram(o);
        rq_range r;
        if (!h || rq_observer_range(o, &r, 1) || h->total == 0)
            continue;
        if (h->lo == h->hi)
            RQ_TRY(rq_notes_add(q->notes, "'%s' never varied: it was always %g", name, h->lo));
        double outside =
            rq_calibrate_outside(h, r, 0.05 * (r.hi - r.lo)); /* what is cut by less is rounded, so to say */
        if (outside > 0.001 && ++n_saturated <= MOST_NOTES)
            RQ_TRY(rq_notes_add(q->notes, "'%s': %.2g %% of its values lie far beyond the chosen range and saturate",
                                name, 100 * outside));
    }
    if (n_saturated > MOST_NOTES)
        RQ_TRY(rq_notes_add(q->notes, "%d more tensors saturate", n_saturated - MOST_NOTES));
    return RQ_OK;
}

/* ---- together ---- */

void rq_ptq_release(rq_ptq_state *q)
{
    for (int i = 0; i < q->n_reference; i++)
        rq_tensor_release(&q->reference[i]);
    rq_mem_free(q->reference);
    rq_mem_free(q->ban);
    for (int v = 0; q->observers && v < q->n_values; v++)
        rq_observer_destroy(q->observers[v]);
    rq_mem_free(q->observers);
    rq_mem_free(q->taps);
    rq_mem_free(q->equalized);
    rq_placement_destroy(q->placement);
    rq_graph_destroy(q->g);
}

rq_status rq_ptq_prepare(rq_ptq_state *q, const rq_graph *g, rq_err *err)
{
    if (rq_graph_copy(&q->g, g))
        return no_memory(err);
    RQ_TRY(rq_widen(q->g, err));
    rq_ops_bind(q->g);
    RQ_TRY(q->cfg->settings.compat ? rq_fold_plain(q->g, err) : rq_fold_graph(q->g, NULL, err));
    RQ_TRY(rq_ends_fold(q->g, q->cfg->ends, err));
    rq_ops_bind(q->g);
    RQ_TRY(rq_ops_check(q->g, q->data != NULL, err)); /* without samples nothing runs */
    RQ_TRY(rq_ops_infer(q->g, err));
    RQ_TRY(rq_ptq_name_values(q->g, err));
    q->n_values = q->g->n_values;
    q->observers = rq_mem_zalloc((size_t)q->n_values, sizeof *q->observers);
    q->taps = rq_mem_zalloc((size_t)q->n_values, sizeof *q->taps);
    q->ban = rq_mem_zalloc((size_t)q->n_values, sizeof *q->ban);
    q->equalized = rq_mem_zalloc((size_t)q->n_values, sizeof *q->equalized);
    return q->observers && q->taps && q->ban && q->equalized ? RQ_OK : no_memory(err);
}

/* A copy of the folded graph, annotated by the placement in force. */
rq_status rq_ptq_annotated(rq_ptq_state *q, rq_graph **out, rq_notes *notes, rq_err *err)
{
    if (rq_graph_copy(out, q->g))
        return no_memory(err);
    rq_ops_bind(*out);
    rq_status s = rq_annotate(*out, q->placement, range_of, q, &q->k, notes, err);
    if (!s)
        s = rq_widen_round(*out, err);
    if (!s) {
        rq_graph_prune(*out);
        s = rq_graph_check(*out, err);
    }
    if (s) {
        rq_graph_destroy(*out);
        *out = NULL;
    }
    return s;
}

rq_place_ban rq_ptq_ban(const rq_ptq_state *q, const char *const *value)
{
    return (rq_place_ban) { .value = value, .ops = q->cfg->ops, .nodes = q->cfg->nodes, .except = q->cfg->except };
}

/* Every word of a list must be there: a typo that is silently ignored costs an afternoon. */
static rq_status check_list(const rq_graph *g, const char *const *list, bool ops, rq_err *err)
{
    for (; list && *list; list++) {
        rq_nearest near = rq_nearest_to(*list);
        bool found = false;
        for (int i = 0; i < g->n_nodes; i++)
            if (g->nodes[i].op) {
                const char *name = ops ? g->nodes[i].op : g->nodes[i].name;
                found |= ops ? !strcmp(name, *list) : rq_place_name_fits(*list, name);
                rq_nearest_try(&near, name);
            }
        char hint[RQ_NEAREST_HINT];
        if (!found && !(ops && rq_op_find("", *list)))
            return rq_fail(err, RQ_NOT_FOUND, "there is no %s '%.80s'%s", ops ? "operator" : "node", *list,
                           rq_nearest_hint(&near, hint));
    }
    return RQ_OK;
}

rq_status rq_ptq_place(rq_ptq_state *q, rq_placement **out, const rq_place_ban *ban, rq_err *err)
{
    const rq_ends *e = q->cfg->ends;
    rq_settings s = q->cfg->settings;
    s.coded_inputs |= e && e->inputs;
    s.coded_outputs |= e && e->outputs;
    RQ_TRY(rq_placement_create(out, q->g, &s, q->cfg->recipe, ban, err));
    rq_ends_pin(*out, q->g, e);
    return RQ_OK;
}

rq_status rq_ptq_calibrate(rq_ptq_state *q, rq_err *err)
{
    const rq_place_ban ban = rq_ptq_ban(q, NULL);
    RQ_TRY(rq_ptq_place(q, &q->placement, &ban, err));
    if (q->cfg->ranges)
        return rq_ptq_need_ranges(q, err);
    RQ_TRY(rq_ptq_observe_groups(q, err));
    return rq_ptq_watch(q, err);
}

static rq_status move_notes(rq_notes *to, const rq_notes *from)
{
    for (int i = 0; i < from->n; i++)
        RQ_TRY(rq_notes_add(to, "%s", from->text[i]));
    return RQ_OK;
}

static rq_status static_mode(rq_ptq_state *q, rq_graph **made, rq_err *err)
{
    rq_notes found = { 0 }; /* of the graph that is kept */
    rq_status s = rq_ptq_calibrate(q, err);
    if (!s && q->placement->n_uses == 0)
        s = rq_notes_add(q->notes, "nothing was quantized: no operator here has constant weights and an integer form");
    if (!s)
        s = rq_ptq_annotated(q, made, &found, err);
    if (!s && q->placement->n_uses && !q->cfg->settings.compat && !q->cfg->ranges)
        s = rq_ptq_improve(q, made, &found, err);
    if (!s)
        s = note_observations(q);
    if (!s)
        s = rq_ends_strip(*made, q->cfg->ends, err);
    if (!s)
        s = move_notes(q->notes, &found);
    rq_notes_release(&found);
    return s;
}

/* Values that hold other numbers than before have other names, or a report would compare what cannot be. */
static rq_status rename_equalized(const rq_ptq_state *q, rq_graph *made, rq_err *err)
{
    for (rq_id v = 0; v < q->n_values && v < made->n_values; v++) {
        if (!q->equalized[v] || made->values[v].kind != RQ_VALUE_NODE)
            continue;
        const char *name = rq_rewrite_name(made, made->values[v].name, "_equalized");
        if (!name)
            return no_memory(err);
        RQ_TRY(rq_graph_rename(made, v, name, err));
    }
    return RQ_OK;
}

/* Settings that the mode cannot have. */
static rq_status refuse(const rq_ptq_cfg *cfg, const rq_dataset *data, rq_err *err)
{
    if (cfg->mode != RQ_MODE_STATIC && cfg->ranges)
        return rq_fail(err, RQ_BAD_ARG, "ranges are for the mode static; the others need none");
    if (cfg->mode == RQ_MODE_WEIGHT_ONLY)
        return cfg->accuracy_level < 0 || cfg->accuracy_level > 4
                   ? rq_fail(err, RQ_BAD_ARG, "accuracy level %d; 0 to 4 are possible", cfg->accuracy_level)
                   : rq_weight_check(&cfg->settings, err);
    RQ_TRY(rq_settings_check(&cfg->settings, err));
    if (cfg->ends && cfg->ends->n_channels && cfg->settings.symmetric_activations)
        return rq_fail(
            err, RQ_BAD_ARG,
            "symmetric activations do not go with a stated mean and std: pixels from 0 up want all codes, and zero "
            "points that are not 0");
    if (cfg->mode == RQ_MODE_DYNAMIC && rq_dtype_bits(cfg->settings.weights) != 8)
        return rq_fail(err, RQ_BAD_ARG, "the mode dynamic has weights of 8 bits, not %s",
                       rq_dtype_name(cfg->settings.weights));
    if (cfg->mode == RQ_MODE_STATIC && !data && !cfg->ranges)
        return rq_fail(err, RQ_BAD_ARG, "the mode static needs samples to calibrate on, or ranges");
    return RQ_OK;
}

rq_status rq_ptq(rq_graph *g, rq_dataset *data, const rq_ptq_cfg *cfg, rq_notes *notes, rq_err *err)
{
    rq_ptq_state q = { .cfg = cfg, .data = data, .notes = notes };
    rq_graph *made = NULL;
    RQ_TRY(refuse(cfg, data, err));
    if (rq_graph_is_quantized(g))
        return rq_fail(err, RQ_BAD_GRAPH, "the model is quantized already");
    if (cfg->recipe)
        RQ_TRY(rq_recipe_check(cfg->recipe, g, err));
    if (cfg->ranges)
        RQ_TRY(rq_ranges_check(cfg->ranges, g, err));
    RQ_TRY(check_list(g, cfg->ops, true, err));
    RQ_TRY(check_list(g, cfg->nodes, false, err));
    RQ_TRY(check_list(g, cfg->except, false, err));
    RQ_TRY(rq_exec_create(&q.exec, cfg->threads, err));
    q.k = rq_exec_kernels(q.exec);
    rq_exec *exec = q.exec; /* an equalized state may take the place of q */
    rq_status s = rq_ptq_prepare(&q, g, err);
    if (!s)
        s = cfg->mode == RQ_MODE_STATIC ? static_mode(&q, &made, err) : rq_ptq_weight_only(&q, &made, err);
    if (!s)
        s = rename_equalized(&q, made, err);
    if (!s)
        rq_graph_swap(g, made);
    rq_graph_destroy(made);
    rq_ptq_release(&q);
    rq_exec_destroy(exec);
    return s;
}
