/* algo/ptq_trial.c — a quantized model is judged before it is handed over: by its outputs on a few calibration samples
 * against the float model's. Where they are noisy, two remedies are tried, and each is kept only if it helps:
 *
 *   - equalizing channels (equalize.h), followed by a second calibration;
 *   - leaving tensors in float that 256 codes serve worst, by the error that their histograms foretell.
 *
 * A model whose outputs are clean is not touched, so its calibration takes one pass. */
#include <math.h>
#include <string.h>

#include "algo/equalize.h"
#include "algo/ptq_priv.h"
#include "algo/report_priv.h"

/* Outputs with less noise than this are left alone. */
static const double clean_db = 15;
/* A remedy must bring this much to be kept. */
static const double gain_db = 1;
/* Tensors that are served better than this are no suspects. */
static const double suspect_db = 32;
enum { MOST_BANS = 12, MOST_FAILURES = 4 };

/* ---- judging ---- */

typedef struct judge {
    rq_ptq_state *q;
    int at; /* next reference tensor */
    rq_sums *sums;
} judge;

static rq_status compare(void *arg, const rq_tensor *out, int n_out, rq_err *err)
{
    judge *j = arg;
    for (int i = 0; i < n_out && j->at < j->q->n_reference; i++, j->at++)
        if (out[i].dtype == RQ_DTYPE_F32 && rq_sums_add(&j->sums[i], &j->q->reference[j->at], &out[i]))
            return rq_fail(err, RQ_INTERNAL, "output %d of the quantized model has another size", i);
    return RQ_OK;
}

rq_status rq_ptq_measure(rq_ptq_state *q, const rq_graph *annotated, double *db, rq_err *err)
{
    const int n_out = rq_graph_n_outputs(q->g);
    judge j = { .q = q, .sums = rq_mem_zalloc((size_t)n_out + 1, sizeof *j.sums) };
    rq_session *session = NULL;
    const rq_session_cfg cfg = { .threads = q->cfg->threads };
    if (!j.sums)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory judging the quantized model");
    rq_status s = rq_session_create(&session, annotated, &cfg, err);
    if (!s)
        s = rq_ptq_each_batch(q, session, "judge", q->reference_rows, compare, &j, err);
    *db = 200;
    for (int i = 0; i < n_out; i++)
        if (j.sums[i].n && j.sums[i].aa > 0)
            *db = fmin(*db, rq_sums_sqnr_db(&j.sums[i]));
    rq_session_destroy(session);
    rq_mem_free(j.sums);
    return s;
}

/* ---- equalizing ---- */

typedef struct reach {
    rq_observer *observer;
    const rq_kernels *k;
} reach;

static rq_status see(void *arg, const char *value, const rq_tensor *t, rq_err *err)
{
    const reach *r = arg;
    rq_status s = rq_observer_update(r->observer, r->k, t);
    return s ? rq_fail(err, s, "value '%s': %s", value, rq_status_text(s)) : RQ_OK;
}

/* Run some samples and note how far each channel between the pairs reaches. */
static rq_status watch_channels(rq_ptq_state *q, const rq_equalize_pair *pairs, int n, reach *r, rq_err *err)
{
    rq_session *session;
    const rq_session_cfg cfg = { .threads = q->cfg->threads };
    rq_observer_cfg c = rq_observer_defaults(RQ_OBSERVER_MINMAX);
    c.axis = 1;
    c.symmetric = true;
    RQ_TRY(rq_session_create(&session, q->g, &cfg, err));
    rq_status s = RQ_OK;
    for (int i = 0; i < n && !s; i++) {
        r[i].k = &q->k;
        if (rq_observer_create(&r[i].observer, &c))
            s = rq_fail(err, RQ_NO_MEMORY, "out of memory equalizing layers");
        else
            s = rq_session_tap(session, q->g->values[pairs[i].value].name, see, &r[i], err);
    }
    if (!s)
        s = rq_ptq_each_batch(q, session, "channels", 64, NULL, NULL, err);
    rq_session_destroy(session);
    return s;
}

/* Equalize the pairs of q->g whose channels differ by more than 4 times; *n_done of them. */
static rq_status equalize(rq_ptq_state *q, int *n_done, rq_err *err)
{
    rq_equalize_pair *pairs;
    int n;
    *n_done = 0;
    RQ_TRY(rq_equalize_find(q->g, &pairs, &n, err));
    reach *r = rq_mem_zalloc((size_t)n + 1, sizeof *r);
    rq_status s = r ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "out of memory equalizing layers");
    if (!s && n)
        s = watch_channels(q, pairs, n, r, err);
    for (int i = 0; i < n && !s; i++) {
        const int64_t c = pairs[i].channels;
        rq_range *range = rq_mem_alloc((size_t)c, sizeof *range);
        double *f = rq_mem_alloc((size_t)c * 2, sizeof *f);
        if (!range || !f)
            s = rq_fail(err, RQ_NO_MEMORY, "out of memory equalizing layers");
        else if (rq_observer_range(r[i].observer, range, (int)c) == RQ_OK) {
            for (int64_t k = 0; k < c; k++)
                f[c + k] = range[k].hi;
            if (rq_equalize_factors(q->g, &pairs[i], f + c, f) > 4) {
                s = rq_equalize_apply(q->g, &pairs[i], f, err);
                ++*n_done;
            }
        }
        rq_mem_free(range);
        rq_mem_free(f);
    }
    for (int i = 0; r && i < n; i++)
        rq_observer_destroy(r[i].observer);
    rq_mem_free(r);
    rq_mem_free(pairs);
    return s;
}

/* A second state on an equalized copy; taken over if its outputs are cleaner. */
static rq_status try_equalizing(rq_ptq_state *q, rq_graph **made, rq_notes *found, double *db, rq_err *err)
{
    rq_ptq_state e = { .cfg = q->cfg, .data = q->data, .k = q->k };
    rq_graph *other = NULL;
    rq_notes notes = { 0 };
    int pairs = 0;
    double other_db = -INFINITY;
    rq_status s = rq_ptq_prepare(&e, q->g, err);
    if (!s)
        s = equalize(&e, &pairs, err);
    if (!s && pairs) {
        s = rq_ptq_calibrate(&e, err);
        if (!s)
            s = rq_ptq_annotated(&e, &other, &notes, err);
        if (!s)
            s = rq_ptq_measure(&e, other, &other_db, err);
    }
    if (!s && other_db > *db + gain_db) {
        s = rq_notes_add(&notes,
                         "channels of %d layer pairs were equalized: outputs gain %.1f dB on calibration samples",
                         pairs, other_db - *db);
        rq_graph *g = *made;
        *made = other;
        other = g;
        rq_notes n = *found;
        *found = notes;
        notes = n;
        rq_ptq_state was = *q;
        e.notes = q->notes;
        *q = e;
        e = was;
        *db = other_db;
    }
    rq_graph_destroy(other);
    rq_notes_release(&notes);
    rq_ptq_release(&e);
    return s;
}

/* ---- leaving tensors in float ---- */

/* How well 256 codes serve a group, by its histogram: dB. */
static double served_db(const rq_ptq_state *q, const rq_place_group *g)
{
    const rq_histogram *h = rq_ptq_histogram(q, g->value);
    rq_range r;
    if (!h || g->s.pinned || g->unit || g->constant || rq_ptq_group_range(q, g, &r) || h->total == 0)
        return INFINITY;
    double power = rq_calibrate_power(h), error = rq_calibrate_error(h, r, 256);
    return power > 0 && error > 0 ? 10 * log10(power / error) : INFINITY;
}

/* The worst group that has not been tried, or -1. */
static int worst_group(const rq_ptq_state *q, const bool *tried, double *db)
{
    int at = -1;
    *db = suspect_db;
    for (int i = 0; i < q->placement->n_groups; i++) {
        const rq_place_group *g = &q->placement->groups[i];
        if (tried[g->value])
            continue;
        double d = served_db(q, g);
        if (d < *db) {
            *db = d;
            at = i;
        }
    }
    return at;
}

static rq_status place_again(rq_ptq_state *q, rq_placement **out, rq_err *err)
{
    const rq_place_ban ban = { .value = q->ban };
    return rq_placement_create(out, q->g, &q->cfg->settings, q->cfg->recipe, &ban, err);
}

static rq_status try_bans(rq_ptq_state *q, rq_graph **made, rq_notes *found, double *db, rq_err *err)
{
    bool *tried = rq_mem_zalloc((size_t)q->n_values, sizeof *tried);
    rq_status s = tried ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "out of memory judging the quantized model");
    for (int bans = 0, failures = 0; !s && *db < clean_db && bans < MOST_BANS && failures < MOST_FAILURES;) {
        double served;
        int i = worst_group(q, tried, &served);
        if (i < 0)
            break;
        rq_id v = q->placement->groups[i].value;
        rq_placement *old = q->placement;
        rq_graph *other = NULL;
        rq_notes notes = { 0 };
        double other_db = -INFINITY;
        tried[v] = true;
        q->ban[v] = "a tensor of it needs more than 8 bits";
        s = place_again(q, &q->placement, err);
        if (s) {
            q->placement = old;
            break;
        }
        if (q->placement->n_uses)
            s = rq_ptq_annotated(q, &other, &notes, err);
        if (!s && other)
            s = rq_ptq_measure(q, other, &other_db, err);
        bool better = !s && other_db > *db + gain_db;
        if (better) {
            s = rq_notes_add(q->notes, "'%s' stays in float: 8 bits leave it %.1f dB; outputs gain %.1f dB",
                             q->g->values[v].name, served, other_db - *db);
            rq_graph *g = *made;
            *made = other;
            other = g;
            rq_notes n = *found;
            *found = notes;
            notes = n;
            *db = other_db;
            bans++;
            rq_placement_destroy(old);
        } else {
            q->ban[v] = NULL;
            rq_placement_destroy(q->placement);
            q->placement = old;
            failures++;
        }
        rq_graph_destroy(other);
        rq_notes_release(&notes);
    }
    rq_mem_free(tried);
    return s;
}

rq_status rq_ptq_improve(rq_ptq_state *q, rq_graph **made, rq_notes *found, rq_err *err)
{
    double db;
    RQ_TRY(rq_ptq_measure(q, *made, &db, err));
    if (db < clean_db)
        RQ_TRY(try_equalizing(q, made, found, &db, err));
    if (db < clean_db)
        RQ_TRY(try_bans(q, made, found, &db, err));
    return RQ_OK;
}
