/* algo/report.c — the verdict: run the float model and the integer one over the same samples, in turn, and keep
 * sums only: error of every output, agreement and accuracy, times. Layers are report_layers.c. */
#include <math.h>
#include <string.h>

#include "algo/report_priv.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

enum {
    TIMED_RUNS = 9,
    TIMED_MOST_MS = 2000
}; /* runs of each side that the median should stand on, where time allows */

/* One side of the comparison. */
typedef struct side {
    const rq_graph *graph;
    rq_session *session;
    rq_tensor *out; /* [n_out] of the last run */
    int n_out;
    double *ms; /* of full batches */
    int n_ms, cap_ms;
    int64_t right; /* samples whose top-1 is the label */
} side;

typedef struct compare {
    side s[2];    /* float, integer */
    int *partner; /* [outputs of the float model] the same output of the integer one, or -1 */
    rq_sums *sums;
    int judged;   /* output for top-1 */
    int64_t full; /* samples of a full batch */
    int64_t same, judged_rows, labelled, strange;
} compare;

static void side_clear(side *s)
{
    for (int i = 0; i < s->n_out; i++)
        rq_tensor_release(&s->out[i]);
}

static void compare_release(compare *c)
{
    for (int i = 0; i < 2; i++) {
        if (c->s[i].out)
            side_clear(&c->s[i]);
        rq_mem_free(c->s[i].out);
        rq_mem_free(c->s[i].ms);
        rq_session_destroy(c->s[i].session);
    }
    rq_mem_free(c->partner);
    rq_mem_free(c->sums);
}

static rq_status side_open(side *s, const rq_graph *g, const rq_report_cfg *cfg, const char *what, rq_err *err)
{
    s->graph = g;
    s->n_out = rq_graph_n_outputs(g);
    s->out = rq_mem_zalloc((size_t)s->n_out + 1, sizeof *s->out);
    if (!s->out)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the report");
    const rq_session_cfg how = { .threads = cfg->threads, .profile = true, .onednn = cfg->onednn, .match = cfg->match };
    const rq_status status = rq_session_create(&s->session, g, &how, err);
    return status ? rq_fail_in(err, status, "%s model", what) : RQ_OK;
}

static rq_status side_run(side *s, const rq_feed *feeds, int n_feeds, bool timed, rq_err *err)
{
    side_clear(s);
    const double start = rq_clock_ms();
    RQ_TRY(rq_session_run(s->session, feeds, n_feeds, s->out, err));
    if (!timed)
        return RQ_OK;
    if (!rq_mem_grow(&s->ms, s->n_ms, &s->cap_ms, sizeof *s->ms))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the report");
    s->ms[s->n_ms++] = rq_clock_ms() - start;
    return RQ_OK;
}

/* Outputs of the integer model by the names of the float one; a model with renamed outputs is matched by position. */
static rq_status match_outputs(rq_report *out, compare *c, const char *judged, rq_err *err)
{
    const rq_graph *a = c->s[0].graph, *b = c->s[1].graph;
    const int n = c->s[0].n_out;
    RQ_TRY(rq_walk_output(a, judged, &c->judged, err));
    c->partner = rq_mem_alloc((size_t)n + 1, sizeof *c->partner);
    c->sums = rq_mem_zalloc((size_t)n + 1, sizeof *c->sums);
    out->outputs = rq_mem_zalloc((size_t)n + 1, sizeof *out->outputs);
    if (!c->partner || !c->sums || !out->outputs)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the report");
    for (int i = 0; i < n; i++) {
        const char *name = rq_graph_output(a, i).name;
        c->partner[i] = -1;
        for (int k = 0; k < c->s[1].n_out; k++)
            if (!strcmp(rq_graph_output(b, k).name, name))
                c->partner[i] = k;
        if (c->partner[i] < 0 && n == c->s[1].n_out)
            c->partner[i] = i;
        out->outputs[i].name = rq_mem_strdup(name);
        out->n_outputs = i + 1;
        if (!out->outputs[i].name)
            return rq_fail(err, RQ_NO_MEMORY, "out of memory for the report");
    }
    if (c->partner[c->judged] < 0)
        return rq_fail(err, RQ_BAD_GRAPH, "the quantized model has no output '%s'", rq_graph_output(a, c->judged).name);
    return RQ_OK;
}

/* Fold the outputs of one batch of n samples into the sums. */
static rq_status add_batch(compare *c, const int64_t *labels, const int64_t *rows, int64_t n, rq_err *err)
{
    for (int i = 0; i < c->s[0].n_out; i++) {
        if (c->partner[i] < 0)
            continue;
        const rq_tensor *a = &c->s[0].out[i], *b = &c->s[1].out[c->partner[i]];
        if (!rq_shape_equal(&a->shape, &b->shape)) {
            char x[RQ_SHAPE_TEXT], y[RQ_SHAPE_TEXT];
            return rq_fail(err, RQ_BAD_SHAPE, "output '%s' is %s in the float model and %s in the quantized one",
                           rq_graph_output(c->s[0].graph, i).name, rq_shape_text(&a->shape, x, sizeof x),
                           rq_shape_text(&b->shape, y, sizeof y));
        }
        RQ_TRY(rq_sums_add(&c->sums[i], a, b));
    }
    const rq_tensor *a = &c->s[0].out[c->judged], *b = &c->s[1].out[c->partner[c->judged]];
    const int64_t classes = a->shape.rank > 0 ? a->shape.dim[a->shape.rank - 1] : 1;
    const int64_t places = classes > 0 ? rq_tensor_count(a) / classes : 0;
    for (int64_t p = 0; p < places; p++) {
        const int64_t x = rq_sums_top1(a, p * classes, classes), y = rq_sums_top1(b, p * classes, classes);
        c->same += x == y && x >= 0;
        if (labels && places == n) {
            c->s[0].right += x >= 0 && x == labels[rows[p]];
            c->s[1].right += y >= 0 && y == labels[rows[p]];
            c->strange += labels[rows[p]] < 0 || labels[rows[p]] >= classes;
            c->labelled++;
        }
    }
    c->judged_rows += places;
    return RQ_OK;
}

static rq_status tell(const rq_report_cfg *cfg, const char *phase, int64_t done, int64_t total, double start_ms,
                      rq_err *err)
{
    const double eta = done ? (rq_clock_ms() - start_ms) / 1e3 / (double)done * (double)(total - done) : -1;
    if (cfg->progress && !cfg->progress(cfg->progress_arg, phase, done, total, eta))
        return rq_fail(err, RQ_CANCELLED, "cancelled while %s", phase);
    return RQ_OK;
}

/* All samples through both sides, in turn, so that a slow moment of the machine hits both. */
static rq_status run_all(rq_report *out, compare *c, rq_dataset *data, const rq_report_cfg *cfg, rq_err *err)
{
    rq_walk w;
    const int64_t *labels = rq_dataset_labels(data), *rows;
    const rq_feed *feeds;
    int n_feeds;
    int64_t n;
    const double start = rq_clock_ms();
    rq_status status = rq_walk_init(&w, data, cfg->rows, cfg->n_rows, 0);
    if (status)
        return rq_fail(err, status, "out of memory for the report");
    rq_session *const sessions[] = { c->s[0].session, c->s[1].session };
    const rq_graph *const graphs[] = { c->s[0].graph, c->s[1].graph };
    if ((status = rq_walk_fit(&w, sessions, graphs, 2, err))) {
        rq_walk_release(&w);
        return status;
    }
    const int64_t total = rq_walk_total(&w);
    for (int batch = 0;; batch++) {
        if ((status = tell(cfg, "comparing", out->samples, total, start, err)) ||
            (status = rq_walk_next(&w, &feeds, &n_feeds, &rows, &n, err)) || !n)
            break;
        if (!batch) { /* once to make the plans */
            c->full = n;
            if ((status = side_run(&c->s[0], feeds, n_feeds, false, err)) ||
                (status = side_run(&c->s[1], feeds, n_feeds, false, err)))
                break;
        }
        for (int k = 0; k < 2 && !status; k++)
            status = side_run(&c->s[(batch + k) % 2], feeds, n_feeds, n == c->full, err);
        if (status || (status = add_batch(c, labels, rows, n, err)))
            break;
        out->samples += n;
        /* few batches: run the last full one again until the median has something to stand on */
        if (n == c->full && w.at + c->full > w.n_rows)
            for (int k = 0; c->s[0].n_ms < TIMED_RUNS && rq_clock_ms() - start < TIMED_MOST_MS && !status; k++)
                if (!(status = side_run(&c->s[k % 2], feeds, n_feeds, true, err)))
                    status = side_run(&c->s[1 - k % 2], feeds, n_feeds, true, err);
        if (status)
            break;
    }
    rq_walk_release(&w);
    if (!status && !out->samples)
        return rq_fail(err, RQ_BAD_DATA, "%s: no samples to compare the models on", rq_dataset_path(data));
    if (!status && labels && !c->labelled)
        status = rq_notes_add(
            &out->warnings,
            "labels: one per sample, but output '%s' has several places per sample: accuracy is not measured",
            rq_graph_output(c->s[0].graph, c->judged).name);
    if (!status && c->strange)
        status =
            rq_notes_add(&out->warnings, "labels: %lld of %lld name no place on the last axis of output '%s'",
                         (long long)c->strange, (long long)c->labelled, rq_graph_output(c->s[0].graph, c->judged).name);
    return status;
}

static void settle_side(rq_report_side *r, side *s, int64_t labelled)
{
    r->accuracy = labelled ? (double)s->right / (double)labelled : NAN;
    rq_sums_wilson(s->right, labelled, &r->lo, &r->hi);
    r->ms = rq_sums_quantile(s->ms, s->n_ms, 0.5);
}

static rq_status settle(rq_report *out, compare *c)
{
    settle_side(&out->model, &c->s[0], c->labelled);
    settle_side(&out->quantized, &c->s[1], c->labelled);
    const bool known =
        c->labelled || rq_report_has_classes(c->s[0].graph, rq_graph_output(c->s[0].graph, c->judged).name);
    out->agreement = known && c->judged_rows ? (double)c->same / (double)c->judged_rows : NAN;
    out->drop = 100 * (c->labelled ? out->model.accuracy - out->quantized.accuracy : 1 - out->agreement);
    for (int i = 0; i < out->n_outputs; i++) {
        out->outputs[i].sqnr_db = rq_sums_sqnr_db(&c->sums[i]);
        out->outputs[i].cosine = rq_sums_cosine(&c->sums[i]);
        out->outputs[i].nonfinite = c->sums[i].nonfinite;
        out->outputs[i].lost = c->sums[i].lost;
    }
    return RQ_OK;
}

rq_status rq_report_compare(rq_report *out, const rq_graph *model, const rq_graph *quantized, rq_dataset *data,
                            const rq_report_cfg *cfg, rq_err *err)
{
    const rq_report_cfg none = { .layers = true };
    compare c = { 0 };
    const double start = rq_clock_ms();
    cfg = cfg ? cfg : &none;
    *out = (rq_report) { 0 };
    rq_status status = side_open(&c.s[0], model, cfg, "float", err);
    if (!status)
        status = side_open(&c.s[1], quantized, cfg, "quantized", err);
    if (!status)
        status = match_outputs(out, &c, cfg->output, err);
    if (!status)
        status = run_all(out, &c, data, cfg, err);
    if (!status)
        status = settle(out, &c);
    if (!status && cfg->layers)
        status = rq_report_fill_layers(out, c.s[0].session, c.s[1].session, model, quantized, data, cfg, err);
    if (!status)
        status = rq_report_inspect_constants(out, rq_session_graph(c.s[1].session));
    compare_release(&c);
    out->peak_rss_mb = rq_file_peak_rss_mb();
    out->seconds = (rq_clock_ms() - start) / 1e3;
    if (status) {
        if (status == RQ_NO_MEMORY)
            rq_fail(err, status, "out of memory for the report");
        rq_report_release(out);
    }
    return status;
}

void rq_report_release(rq_report *r)
{
    for (int i = 0; i < r->n_layers; i++) {
        rq_report_layer *l = &r->layers[i];
        rq_mem_free(l->name);
        rq_mem_free(l->op);
        rq_mem_free(l->value);
        rq_mem_free(l->reason_float);
        rq_mem_free(l->method);
    }
    for (int i = 0; i < r->n_outputs; i++)
        rq_mem_free(r->outputs[i].name);
    rq_mem_free(r->layers);
    rq_mem_free(r->outputs);
    rq_notes_release(&r->warnings);
    *r = (rq_report) { 0 };
}

int rq_report_worst(const rq_report *r, int worst[3])
{
    int n = 0;
    for (int i = 0; i < r->n_layers; i++) {
        if (!(r->layers[i].harm > 0))
            continue;
        int at = n < 3 ? n++ : 3;
        for (; at > 0 && r->layers[i].harm > r->layers[worst[at - 1]].harm; at--)
            if (at < 3)
                worst[at] = worst[at - 1];
        if (at < 3)
            worst[at] = i;
    }
    return n;
}
