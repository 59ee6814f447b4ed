/* algo/ptq_trial.c — a quantized model is judged before it is handed over: by its outputs on a few calibration samples
 * against the float model's. Where they are noisy, two remedies are tried, and each is kept only if it helps:
 *
 *   - equalizing channels (equalize.h), followed by a second calibration;
 *   - leaving those tensors in float that 256 codes serve worst, by the error that their histograms foretell: the worst
 *     one, then two, three ... since noise often has to leave a chain of tensors before it leaves the output.
 *
 * A model whose outputs are clean is not touched, so its calibration takes one pass. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/libm.h"
#include "algo/equalize.h"
#include "algo/ptq_priv.h"
#include "algo/report_priv.h"

/* Outputs with more noise than this call for remedies; with less than that they are clean. */
static const double noisy_db = 15, clean_db = 25;
/* A remedy must bring this much to be kept. */
static const double gain_db = 1;
/* Tensors that are served better than this are no suspects. */
static const double suspect_db = 32;

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
    const rq_session_cfg cfg = { .threads = q->cfg->threads, .onednn = q->cfg->onednn, .match = q->cfg->match };
    if (!j.sums)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory judging the quantized model");
    rq_status s = rq_session_create(&session, annotated, &cfg, err);
    if (!s)
        s = rq_ptq_each_batch(q, session, "judge", q->reference_rows, compare, &j, err);
    *db = 200;
    for (int i = 0; i < n_out; i++)
        if (j.sums[i].lost) /* NaN or infinite where the float model is not: no sum can say how bad that is */
            *db = -INFINITY;
        else if (j.sums[i].n && j.sums[i].aa > 0)
            *db = fmin(*db, rq_sums_sqnr_db(&j.sums[i]));
    rq_session_destroy(session);
    rq_mem_free(j.sums);
    return s;
}

/* ---- equalizing ---- */

typedef struct reach {
    rq_observer *observer;
    rq_exec *exec;
} reach;

static rq_status see(void *arg, const char *value, const rq_tensor *t, rq_err *err)
{
    const reach *r = arg;
    const rq_strided x = rq_strided_of(t);
    const rq_status s = rq_observer_update(r->observer, r->exec, &x, err);
    return s ? rq_fail_in(err, s, "value '%s'", value) : RQ_OK;
}

/* Run some samples and note how far each channel between the pairs reaches. */
static rq_status watch_channels(rq_ptq_state *q, const rq_equalize_pair *pairs, int n, reach *r, rq_err *err)
{
    rq_session *session;
    const rq_session_cfg cfg = { .threads = q->cfg->threads, .onednn = q->cfg->onednn, .match = q->cfg->match };
    rq_observer_cfg c = rq_observer_defaults(RQ_OBSERVER_MINMAX);
    c.axis = 1;
    c.scheme = RQ_QSCHEME_PER_CHANNEL_SYMMETRIC;
    c.symmetric = true;
    c.with_zero = true;
    RQ_TRY(rq_session_create(&session, q->g, &cfg, err));
    rq_status s = RQ_OK;
    for (int i = 0; i < n && !s; i++) {
        r[i].exec = q->exec;
        s = rq_observer_create(&r[i].observer, &c, err);
        if (!s)
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
                rq_equalize_mark(q->g, &pairs[i], q->equalized);
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
    rq_ptq_state e = { .cfg = q->cfg, .data = q->data, .k = q->k, .exec = q->exec, .step = q->step };
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
                         "channels of %d layer pair%s were equalized: the outputs have %.1f dB on calibration samples "
                         "instead of %.1f",
                         pairs, pairs == 1 ? "" : "s", other_db, *db);
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
    return power > 0 && error > 0 ? 10 * rq_libm_log10(power / error) : INFINITY;
}

typedef struct suspect {
    rq_id value;
    double db;
} suspect;

static int by_db(const void *a, const void *b)
{
    const suspect *x = a, *y = b;
    return x->db != y->db ? (x->db > y->db) - (x->db < y->db) : (x->value > y->value) - (x->value < y->value);
}

/* The groups that are served worst, worst first; *n of them, freed with rq_mem_free. */
static suspect *find_suspects(const rq_ptq_state *q, int *n)
{
    suspect *all = rq_mem_alloc((size_t)q->placement->n_groups, sizeof *all);
    *n = 0;
    for (int i = 0; all && i < q->placement->n_groups; i++) {
        const suspect s = { q->placement->groups[i].value, served_db(q, &q->placement->groups[i]) };
        if (s.db < suspect_db)
            all[(*n)++] = s;
    }
    if (all)
        qsort(all, (size_t)*n, sizeof *all, by_db);
    return all;
}

static rq_status place_again(rq_ptq_state *q, rq_placement **out, rq_err *err)
{
    const rq_place_ban ban = rq_ptq_ban(q, q->ban);
    return rq_ptq_place(q, out, &ban, err);
}

/* Place with the bans in force, annotate, measure; the better graph stays in *made, with its placement. */
static rq_status try_bans(rq_ptq_state *q, rq_graph **made, rq_notes *found, double *db, bool *better, rq_err *err)
{
    rq_placement *old = q->placement;
    rq_graph *other = NULL;
    rq_notes notes = { 0 };
    double other_db = -INFINITY;
    *better = false;
    q->placement = NULL;
    rq_status s = place_again(q, &q->placement, err);
    if (!s && q->placement->n_uses) /* all in float is no quantized model */
        s = rq_ptq_annotated(q, &other, &notes, err);
    if (!s && other)
        s = rq_ptq_measure(q, other, &other_db, err);
    if (!s && other_db > *db + gain_db) {
        rq_graph *g = *made;
        *made = other;
        other = g;
        rq_notes n = *found;
        *found = notes;
        notes = n;
        *db = other_db;
        *better = true;
        rq_placement_destroy(old);
    } else {
        rq_placement_destroy(q->placement);
        q->placement = old;
    }
    rq_graph_destroy(other);
    rq_notes_release(&notes);
    return s;
}

/* Leave the worst one, two, three, five ... tensors in float, until the outputs are clean or two steps brought nothing; what
 * brought most stays. */
static rq_status leave_in_float(rq_ptq_state *q, rq_graph **made, rq_notes *found, double *db, rq_err *err)
{
    static const int steps[] = { 1, 2, 3, 5, 8, 12 };
    int n, kept = 0, idle = 0;
    const double before = *db;
    suspect *all = find_suspects(q, &n);
    rq_status s = all ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "out of memory judging the quantized model");
    for (size_t k = 0; !s && k < sizeof steps / sizeof steps[0] && steps[k] <= n && *db < clean_db && idle < 2; k++) {
        bool better;
        for (int i = 0; i < steps[k]; i++)
            q->ban[all[i].value] = "a tensor of it needs more than 8 bits";
        s = try_bans(q, made, found, db, &better, err);
        kept = better ? steps[k] : kept;
        idle = better ? 0 : idle + 1;
    }
    for (int i = 0; all && i < n; i++) {
        if (i >= kept)
            q->ban[all[i].value] = NULL;
        else if (!s)
            s = rq_notes_add(q->notes, "'%s' stays in float: 8 bits would leave it %.1f dB",
                             q->g->values[all[i].value].name, all[i].db);
    }
    if (!s && kept)
        s = rq_notes_add(q->notes,
                         "with %d tensor%s in float the outputs have %.1f dB on calibration samples instead of %.1f",
                         kept, kept == 1 ? "" : "s", *db, before);
    rq_mem_free(all);
    return s;
}

rq_status rq_ptq_improve(rq_ptq_state *q, rq_graph **made, rq_notes *found, rq_err *err)
{
    double db;
    RQ_TRY(rq_ptq_measure(q, *made, &db, err));
    if (db >= noisy_db)
        return RQ_OK;
    RQ_TRY(try_equalizing(q, made, found, &db, err));
    if (db < noisy_db)
        RQ_TRY(leave_in_float(q, made, found, &db, err));
    return RQ_OK;
}
