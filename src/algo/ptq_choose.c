/* algo/ptq_choose.c — modes that switch whole nodes: everything is switched on, and where samples show that the outputs
 * suffer, each node is tried alone, and those that harm most are switched off: the worst one, two, three, five ... */
#include <math.h>
#include <stdlib.h>

#include "algo/ptq_priv.h"

/* As for the static mode (ptq_trial.c): below the first the outputs are noisy, above the second they are clean; a step must bring
 * so much. */
static const double noisy_db = 20, clean_db = 30, gain_db = 0.5;
/* Nodes beyond this many are not tried alone, and stay on. A trial looks at so many samples, in large networks at fewer: it has to tell
 * bad layers from good ones, no more. */
enum { MOST_TRIALS = 400, TRIAL_ROWS = 8, FEW_ROWS = 3, LARGE = 24 };

typedef struct harm {
    int at;
    double db; /* of the outputs with this one alone */
} harm;

static int by_db(const void *a, const void *b)
{
    const harm *x = a, *y = b;
    return x->db != y->db ? (x->db > y->db) - (x->db < y->db) : x->at - y->at;
}

static rq_status measure_made(rq_ptq_state *q, const rq_ptq_choice *c, const bool *on, rq_graph **made, double *db,
                              rq_err *err)
{
    RQ_TRY(c->make(c->arg, on, made, err));
    rq_status s = rq_ptq_measure(q, *made, db, err);
    if (s) {
        rq_graph_destroy(*made);
        *made = NULL;
    }
    return s;
}

static rq_status try_each(rq_ptq_state *q, const rq_ptq_choice *c, bool *on, harm *h, int n, rq_err *err)
{
    for (int i = 0; i < c->n; i++)
        on[i] = false;
    for (int i = 0; i < n; i++) {
        rq_graph *alone = NULL;
        on[i] = true;
        h[i].at = i;
        RQ_TRY(measure_made(q, c, on, &alone, &h[i].db, err));
        rq_graph_destroy(alone);
        on[i] = false;
        if (q->cfg->progress && !q->cfg->progress(q->cfg->progress_arg, "try layers", i + 1, n, -1))
            return rq_fail(err, RQ_CANCELLED, "cancelled");
    }
    qsort(h, (size_t)n, sizeof *h, by_db);
    return RQ_OK;
}

/* The same with few samples, in whole batches of those that the reference was made in. */
static rq_status try_each_quickly(rq_ptq_state *q, const rq_ptq_choice *c, bool *on, harm *h, int n, rq_err *err)
{
    const int64_t all = q->reference_rows, wanted = n > LARGE ? FEW_ROWS : TRIAL_ROWS,
                  few = q->step > 0 ? (wanted + q->step - 1) / q->step * q->step : all;
    q->reference_rows = few < all ? few : all;
    rq_status s = try_each(q, c, on, h, n, err);
    q->reference_rows = all;
    return s;
}

static rq_status switch_off(rq_ptq_state *q, const rq_ptq_choice *c, bool *on, const harm *h, int n, rq_graph **made,
                            double *db, rq_err *err)
{
    int kept = 0, idle = 0;
    const double before = *db;
    for (int i = 0; i < c->n; i++)
        on[i] = true;
    for (int off = 1, tried = 0; off < c->n && off <= n && *db < clean_db && idle < 3; off += off < 3 ? 1 : off / 2) {
        rq_graph *other = NULL;
        double other_db;
        for (; tried < off; tried++)
            on[h[tried].at] = false;
        RQ_TRY(measure_made(q, c, on, &other, &other_db, err));
        idle = other_db > *db + gain_db ? 0 : idle + 1;
        if (other_db > *db + gain_db) {
            rq_graph *g = *made;
            *made = other;
            other = g;
            *db = other_db;
            kept = off;
        }
        rq_graph_destroy(other);
    }
    for (int i = 0; i < n; i++)
        on[h[i].at] = i >= kept;
    for (int i = 0; i < kept; i++) {
        const rq_node *node = &q->g->nodes[c->nodes[h[i].at]];
        RQ_TRY(rq_notes_add(q->notes, "'%s' (%s) %s: alone it would leave the outputs %.1f dB",
                            node->name[0] ? node->name : q->g->values[node->out[0]].name, node->op, c->otherwise,
                            h[i].db));
    }
    if (kept)
        RQ_TRY(rq_notes_add(q->notes, "the outputs have %.1f dB on calibration samples instead of %.1f", *db, before));
    return RQ_OK;
}

static rq_status improve(rq_ptq_state *q, const rq_ptq_choice *c, bool *on, rq_graph **made, rq_err *err)
{
    double db;
    RQ_TRY(rq_ptq_watch_outputs(q, err));
    RQ_TRY(rq_ptq_measure(q, *made, &db, err));
    if (db >= noisy_db || c->n < 2)
        return RQ_OK;
    const int n = c->n < MOST_TRIALS ? c->n : MOST_TRIALS;
    harm *h = rq_mem_zalloc((size_t)n, sizeof *h);
    if (!h)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory judging the quantized model");
    rq_status s = try_each_quickly(q, c, on, h, n, err);
    if (!s)
        s = switch_off(q, c, on, h, n, made, &db, err);
    rq_mem_free(h);
    return s;
}

rq_status rq_ptq_choose(rq_ptq_state *q, const rq_ptq_choice *c, rq_graph **made, bool **on, rq_err *err)
{
    *made = NULL;
    *on = rq_mem_alloc((size_t)c->n + 1, sizeof **on);
    if (!*on)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory quantizing the graph");
    for (int i = 0; i < c->n; i++)
        (*on)[i] = true;
    RQ_TRY(c->make(c->arg, *on, made, err));
    return q->data && c->n ? improve(q, c, *on, made, err) : RQ_OK;
}
