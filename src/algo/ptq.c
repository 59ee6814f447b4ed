/* algo/ptq.c — post-training quantization: fold, place, calibrate in one streaming pass, annotate. Works on a copy and
 * swaps at the end, so an error leaves the graph as it was. */
#include "requant/ptq.h"

#include <math.h>
#include <string.h>

#include "algo/annotate.h"
#include "algo/fold.h"
#include "algo/ptq_priv.h"
#include "algo/report_priv.h"
#include "algo/weights.h"
#include "base/clock.h"
#include "base/nearest.h"
#include "base/number.h"
#include "graph/own.h"
#include "ops/widen.h"
#include "quant/observer_row.h"
#include "ops/rewrite.h"
#include "requant/calibrator.h"
#include "requant/session.h"

rq_ptq_cfg rq_ptq_defaults(void)
{
    return (rq_ptq_cfg) { .settings = rq_settings_defaults() };
}

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory quantizing the graph");
}

/* ---- observers ---- */

/* By which observer the settings ask for; own NULL: one of the library, `kind`. */
typedef struct asked {
    const rq_own_observer *own;
    rq_observer_kind kind;
} asked;

/* The library's observer by its name, over the codes that activations will be. */
static rq_observer_cfg named_cfg(const rq_settings *s, rq_observer_kind kind)
{
    rq_observer_cfg c = rq_observer_defaults(kind);
    c.type = rq_qtype_of(s->activations);
    c.scheme = s->symmetric_activations ? RQ_QSCHEME_PER_TENSOR_SYMMETRIC : RQ_QSCHEME_PER_TENSOR_AFFINE;
    c.with_zero = true;
    c.symmetric = s->symmetric_ranges == RQ_AUTO ? s->symmetric_activations : s->symmetric_ranges == RQ_YES;
    return c;
}

static rq_observer_cfg observer_cfg(const rq_settings *s, const rq_own_observer *own)
{
    rq_observer_cfg c = rq_observer_defaults(s->method == RQ_METHOD_EMA ? RQ_OBSERVER_EMA : RQ_OBSERVER_COUNTS);
    static const rq_choice choice[RQ_N_METHODS] = {
        [RQ_METHOD_MINMAX] = RQ_CHOICE_MINMAX,
        [RQ_METHOD_PERCENTILE] = RQ_CHOICE_PERCENTILE,
        [RQ_METHOD_ENTROPY] = RQ_CHOICE_ENTROPY,
        [RQ_METHOD_MSE] = RQ_CHOICE_MSE,
    };
    c.with_zero = true;
    c.choice = choice[s->method];
    c.percentile = s->percentile;
    c.ema_ratio = s->decay;
    c.symmetric = s->symmetric_ranges == RQ_AUTO ? s->symmetric_activations : s->symmetric_ranges == RQ_YES;
    if (s->compat) /* symmetric codes make their ranges symmetric later */
        c.symmetric =
            s->symmetric_ranges == RQ_AUTO ? s->method == RQ_METHOD_PERCENTILE : s->symmetric_ranges == RQ_YES;
    if (s->method == RQ_METHOD_AVERAGE)
        c.kind = RQ_OBSERVER_AVERAGE;
    c.levels = 1 << rq_dtype_bits(s->activations);
    if (s->symmetric_activations && s->activations != RQ_DTYPE_U8 && s->activations != RQ_DTYPE_U16)
        c.levels--;
    if (s->compat && (s->method == RQ_METHOD_PERCENTILE || s->method == RQ_METHOD_ENTROPY)) {
        c.kind = RQ_OBSERVER_STACKED;
        c.bins = s->bins ? s->bins : s->method == RQ_METHOD_ENTROPY ? 128 : 2048;
        c.levels = s->method != RQ_METHOD_ENTROPY ? 2 : s->groups ? s->groups : 128;
    }
    if (own) {
        c.own = own;
        c.kind = own->choose ? RQ_OBSERVER_COUNTS : RQ_OBSERVER_OWN;
        c.choice = RQ_CHOICE_OWN;
    }
    return c;
}

/* Those of the library whose range depends on nothing but the tensor; the others need a gradient, a scale, or a second pass. */
static const rq_observer_kind by_name[] = { RQ_OBSERVER_MINMAX,    RQ_OBSERVER_MOVING_AVERAGE, RQ_OBSERVER_EMA,
                                            RQ_OBSERVER_HISTOGRAM, RQ_OBSERVER_EMA_PERCENTILE, RQ_OBSERVER_MSE,
                                            RQ_OBSERVER_EMA_MSE };

static rq_status find_observer(const rq_graph *g, const char *name, asked *out, rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    rq_nearest near = rq_nearest_to(name);
    out->own = rq_own_observer_of(g->own, name);
    if (out->own)
        return RQ_OK;
    for (int i = 0; g->own && i < g->own->n_observers; i++)
        rq_nearest_try(&near, g->own->observer[i]->name);
    for (int i = 0; g->own && i < g->own->n_calibrators; i++)
        rq_nearest_try(&near, g->own->calibrator[i]->name);
    const bool known = rq_observer_kind_parse(&out->kind, name, NULL) == RQ_OK;
    for (size_t i = 0; i < sizeof by_name / sizeof by_name[0]; i++) {
        if (known && by_name[i] == out->kind)
            return RQ_OK;
        rq_nearest_try(&near, rq_observer_kind_name(by_name[i]));
    }
    if (known)
        return rq_fail(err, RQ_UNSUPPORTED, "observer '%s' chooses no range after training%s", name,
                       rq_nearest_hint(&near, hint));
    return rq_fail(err, RQ_NOT_FOUND,
                   "there is no observer '%s', nor does the program bring one (rq_own_add_observer)%s", name,
                   rq_nearest_hint(&near, hint));
}

/* The value whose observer speaks for v: operators that pass their input on show nothing new. (They may show less: a
 * MaxPool, a Slice. compat looks at each value itself.) */
static rq_id source_of(const rq_ptq_state *q, rq_id v)
{
    const rq_graph *g = q->g;
    while (g->values[v].kind == RQ_VALUE_NODE && !q->cfg->settings.compat) {
        const rq_node *n = &g->nodes[g->values[v].producer];
        if (!n->row || n->row->place != RQ_PLACE_SAME || n->n_in < 1 || n->in[0] == RQ_NONE)
            break;
        v = n->in[0];
    }
    return v;
}

rq_status rq_ptq_observe(rq_ptq_state *q, rq_id v, const rq_settings *s, rq_err *err)
{
    if (q->observers[v] || q->g->values[v].kind == RQ_VALUE_CONST)
        return RQ_OK;
    asked by = { NULL, RQ_OBSERVER_MINMAX };
    if (s->observer)
        RQ_TRY(find_observer(q->g, s->observer, &by, err));
    q->whole_batches |= s->observer || s->method == RQ_METHOD_EMA || s->method == RQ_METHOD_AVERAGE;
    const rq_observer_cfg c = s->observer && !by.own ? named_cfg(s, by.kind) : observer_cfg(s, by.own);
    return rq_observer_create(&q->observers[v], &c, err);
}

/* An observer for every group whose range must be seen. */
static rq_status observe_groups(rq_ptq_state *q, rq_err *err)
{
    const rq_placement *p = q->placement;
    for (int i = 0; i < p->n_groups; i++) {
        const rq_place_group *grp = &p->groups[i];
        rq_settings s = grp->s;
        if (grp->unit) {
            s.method = RQ_METHOD_MINMAX;
            s.observer = NULL;
        }
        if (!s.pinned && !grp->constant)
            RQ_TRY(rq_ptq_observe(q, source_of(q, grp->like != RQ_NONE ? grp->like : grp->value), &s, err));
    }
    return RQ_OK;
}

static rq_status see(void *arg, const char *value, const rq_tensor *t, rq_err *err)
{
    const rq_ptq_tap *tap = arg;
    const rq_strided x = rq_strided_of(t);
    const rq_status s = rq_observer_update(tap->observer, tap->exec, &x, err);
    return s ? rq_fail_in(err, s, "value '%s'", value) : RQ_OK;
}

static rq_status tap_all(rq_ptq_state *q, rq_session *session, rq_err *err)
{
    for (int v = 0; v < q->n_values; v++) {
        if (!q->observers[v])
            continue;
        q->taps[v] = (rq_ptq_tap) { .observer = q->observers[v], .exec = q->exec };
        RQ_TRY(rq_session_tap(session, q->g->values[v].name, see, &q->taps[v], err));
    }
    return RQ_OK;
}

/* Values that are tapped need a name. */
rq_status rq_ptq_name_values(rq_graph *g, rq_err *err)
{
    for (int v = 0; v < g->n_values; v++) {
        if (g->values[v].kind == RQ_VALUE_DEAD || g->values[v].name[0])
            continue;
        const char *name = rq_graph_fresh_name(g, "value");
        if (!name)
            return no_memory(err);
        RQ_TRY(rq_graph_rename(g, v, name, err));
    }
    return RQ_OK;
}

/* ---- running samples ---- */

rq_status rq_ptq_each_batch(rq_ptq_state *q, rq_session *session, const char *phase, int64_t most, rq_ptq_outputs_fn fn,
                            void *arg, rq_err *err)
{
    const rq_ptq_cfg *cfg = q->cfg;
    rq_walk walk;
    int n_out = rq_graph_n_outputs(q->g);
    rq_tensor *out = rq_mem_zalloc((size_t)n_out + 1, sizeof *out);
    int64_t n_rows = cfg->rows ? cfg->n_rows : rq_dataset_count(q->data);
    n_rows = most > 0 && most < n_rows ? most : n_rows;
    if (!out || rq_walk_init(&walk, q->data, cfg->rows, n_rows, q->step)) {
        rq_mem_free(out);
        return no_memory(err);
    }
    walk.n_rows = n_rows;
    int64_t done = 0, total = rq_walk_total(&walk);
    double start = rq_clock_ms();
    rq_status s = RQ_OK;
    for (;;) {
        const rq_feed *feeds;
        const int64_t *rows;
        int n_feeds;
        int64_t n;
        s = rq_walk_next(&walk, &feeds, &n_feeds, &rows, &n, err);
        if (s || !n)
            break;
        q->batch_rows = n;
        s = rq_session_run(session, feeds, n_feeds, out, err);
        if (!s && fn)
            s = fn(arg, out, n_out, err);
        for (int i = 0; i < n_out; i++)
            rq_tensor_release(&out[i]);
        if (s)
            break;
        done += n;
        double each = (rq_clock_ms() - start) / 1000 / (double)done;
        if (cfg->progress && !cfg->progress(cfg->progress_arg, phase, done, total, each * (double)(total - done))) {
            s = rq_fail(err, RQ_CANCELLED, "cancelled");
            break;
        }
    }
    rq_walk_release(&walk);
    rq_mem_free(out);
    if (!s && done == 0)
        s = rq_fail(err, RQ_BAD_DATA, "%s: no samples to calibrate on", rq_dataset_path(q->data));
    return s;
}

/* The first outputs are kept, to judge trials by: some samples, little memory. */
enum { REFERENCE_ROWS = 24, REFERENCE_BYTES = 32 << 20 };

static rq_status keep_reference(void *arg, const rq_tensor *out, int n_out, rq_err *err)
{
    rq_ptq_state *q = arg;
    if (q->reference_rows >= REFERENCE_ROWS || q->reference_bytes >= REFERENCE_BYTES)
        return RQ_OK;
    for (int i = 0; i < n_out; i++) {
        if (!rq_mem_grow(&q->reference, q->n_reference, &q->cap_reference, sizeof *q->reference))
            return no_memory(err);
        if (rq_tensor_copy(&q->reference[q->n_reference], &out[i]))
            return no_memory(err);
        q->reference_bytes += q->reference[q->n_reference++].bytes;
    }
    q->reference_rows += q->batch_rows;
    return RQ_OK;
}

/* Samples at a time for every pass, so that memory does not grow with the batch. Moving averages and observers of the
 * program are defined by the batches they see: where one watches, the caller's stay. */
static rq_status choose_step(rq_ptq_state *q, rq_session *session, rq_err *err)
{
    rq_walk walk;
    const rq_graph *g = q->g;
    q->step = 0;
    if (q->whole_batches)
        return RQ_OK;
    if (rq_walk_init(&walk, q->data, q->cfg->rows, q->cfg->n_rows, 0))
        return no_memory(err);
    rq_status s = rq_walk_fit(&walk, &session, &g, 1, err);
    q->step = walk.step;
    rq_walk_release(&walk);
    return s;
}

/* Does a method want to see everything again, now that it knows how far it reaches? */
static rq_status again(rq_ptq_state *q, bool *more, rq_err *err)
{
    *more = false;
    for (int v = 0; v < q->n_values; v++) {
        bool one = false;
        if (q->observers[v] && rq_observer_again(q->observers[v], &one))
            return no_memory(err);
        *more |= one;
    }
    return RQ_OK;
}

/* An observer of the program that fails is said, not passed over. */
static rq_status check_own(const rq_ptq_state *q, rq_err *err)
{
    for (int v = 0; v < q->n_values; v++) {
        rq_range r;
        const rq_own_observer *own = q->observers[v] ? rq_observer_own_of(q->observers[v]) : NULL;
        if (own && rq_observer_range(q->observers[v], &r, 1) == RQ_NUMERIC)
            return rq_fail(err, RQ_NUMERIC, "observer '%s' gave no range for tensor '%s'", own->name,
                           q->g->values[v].name);
    }
    return RQ_OK;
}

rq_status rq_ptq_watch(rq_ptq_state *q, rq_err *err)
{
    rq_session *session;
    const rq_session_cfg cfg = { .threads = q->cfg->threads, .onednn = q->cfg->onednn, .match = q->cfg->match };
    RQ_TRY(rq_session_create(&session, q->g, &cfg, err));
    rq_status s = choose_step(q, session, err);
    if (!s)
        s = tap_all(q, session, err);
    if (!s)
        s = rq_ptq_each_batch(q, session, "calibrate", 0, keep_reference, q, err);
    bool more = false;
    if (!s)
        s = again(q, &more, err);
    if (!s && more)
        s = rq_ptq_each_batch(q, session, "count", 0, NULL, NULL, err);
    rq_session_destroy(session);
    return s ? s : check_own(q, err);
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
    const rq_range_info *r = rq_ranges_find(q->cfg->ranges, v[source_of(q, value)].name);
    return r ? r : rq_ranges_find(q->cfg->ranges, v[value].name);
}

static rq_annotate_range range_of(void *arg, rq_id value, const rq_settings *s)
{
    rq_ptq_state *q = arg;
    rq_annotate_range a = { .method = rq_ptq_method(q, s) };
    rq_id v = value < q->n_values ? source_of(q, value) : RQ_NONE;
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
    const rq_observer *o = value < q->n_values ? q->observers[source_of(q, value)] : NULL;
    return o ? rq_observer_histogram(o) : NULL;
}

rq_status rq_ptq_group_range(const rq_ptq_state *q, const rq_place_group *g, rq_range *r)
{
    const rq_id v = g->like != RQ_NONE ? g->like : g->value;
    const rq_observer *o = v < q->n_values ? q->observers[source_of(q, v)] : NULL;
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

rq_status rq_ptq_watch_outputs(rq_ptq_state *q, rq_err *err)
{
    rq_session *session;
    const rq_session_cfg cfg = { .threads = q->cfg->threads, .onednn = q->cfg->onednn, .match = q->cfg->match };
    RQ_TRY(rq_session_create(&session, q->g, &cfg, err));
    rq_status s = choose_step(q, session, err);
    if (!s)
        s = rq_ptq_each_batch(q, session, "watch", REFERENCE_ROWS, keep_reference, q, err);
    rq_session_destroy(session);
    return s;
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
                found |= !strcmp(name, *list);
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
    RQ_TRY(observe_groups(q, err));
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
