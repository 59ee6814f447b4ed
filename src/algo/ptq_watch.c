/* algo/ptq_watch.c — what a calibration sees: an observer for each value whose range is asked for, and the samples that run by, as often as
 * the observers want. */

#include "algo/ptq_priv.h"
#include "algo/report_priv.h"
#include "base/clock.h"
#include "base/nearest.h"
#include "graph/own.h"
#include "quant/observer_row.h"
#include "requant/calibrator.h"
#include "requant/session.h"

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

rq_id rq_ptq_source(const rq_ptq_state *q, rq_id v)
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

rq_status rq_ptq_observe_groups(rq_ptq_state *q, rq_err *err)
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
            RQ_TRY(rq_ptq_observe(q, rq_ptq_source(q, grp->like != RQ_NONE ? grp->like : grp->value), &s, err));
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
