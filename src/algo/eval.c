/* algo/eval.c — one model over samples: accuracy where there are labels, and what its outputs look like. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "algo/report_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/number.h"

typedef struct totals {
    double sum, squares;
} totals;

static void add_output(rq_eval_output *o, totals *t, const rq_tensor *x)
{
    for (int64_t i = 0, n = rq_tensor_count(x); i < n; i++) {
        const double v = rq_tensor_get(x, i);
        if (!isfinite(v)) {
            o->nonfinite++;
            continue;
        }
        if (!o->count || v < o->min)
            o->min = v;
        if (!o->count || v > o->max)
            o->max = v;
        o->count++;
        /* Welford's running mean: no cancellation however far the mean is from zero */
        const double d = v - t->sum;
        t->sum += d / (double)o->count;
        t->squares += d * (v - t->sum);
    }
}

typedef struct evaluation {
    rq_session *session;
    rq_tensor *out;
    totals *totals;
    double *ms;
    int n_ms, cap_ms;
    int judged;
    int64_t right, labelled;
} evaluation;

static rq_status add_batch(rq_eval *e, evaluation *v, const int64_t *labels, const int64_t *rows, int64_t n)
{
    for (int i = 0; i < e->n_outputs; i++)
        add_output(&e->outputs[i], &v->totals[i], &v->out[i]);
    const rq_tensor *t = &v->out[v->judged];
    const int64_t classes = t->shape.rank > 0 ? t->shape.dim[t->shape.rank - 1] : 1;
    if (labels && classes > 0 && rq_tensor_count(t) == n * classes)
        for (int64_t i = 0; i < n; i++) {
            const int64_t x = rq_sums_top1(t, i * classes, classes);
            v->right += x >= 0 && x == labels[rows[i]];
            e->strange_labels += labels[rows[i]] < 0 || labels[rows[i]] >= classes;
            v->labelled++;
        }
    e->samples += n;
    return RQ_OK;
}

static rq_status run_all(rq_eval *e, evaluation *v, const rq_graph *g, rq_dataset *data, const rq_report_cfg *cfg,
                         rq_err *err)
{
    rq_walk w;
    const rq_feed *feeds;
    const int64_t *rows;
    int n_feeds;
    int64_t n, full = 0;
    rq_status status = rq_walk_init(&w, data, cfg->rows, cfg->n_rows, 0);
    if (status)
        return rq_fail(err, status, "out of memory for the evaluation");
    const int64_t total = rq_walk_total(&w);
    for (const double start = rq_clock_ms(); !(status = rq_walk_next(&w, &feeds, &n_feeds, &rows, &n, err)) && n;) {
        const double before = rq_clock_ms();
        if ((status = rq_session_run(v->session, feeds, n_feeds, v->out, err)))
            break;
        if (n == full || w.n_rows <= n) { /* the first batch makes the plan */
            if (!rq_mem_grow(&v->ms, v->n_ms, &v->cap_ms, sizeof *v->ms))
                status = rq_fail(err, RQ_NO_MEMORY, "out of memory for the evaluation");
            else
                v->ms[v->n_ms++] = rq_clock_ms() - before;
        }
        full = full ? full : n;
        if (!status)
            status = add_batch(e, v, rq_dataset_labels(data), rows, n);
        for (int i = 0; i < e->n_outputs; i++)
            rq_tensor_release(&v->out[i]);
        const double eta = (rq_clock_ms() - start) / 1e3 / (double)e->samples * (double)(total - e->samples);
        if (!status && cfg->progress && !cfg->progress(cfg->progress_arg, "evaluating", e->samples, total, eta))
            status = rq_fail(err, RQ_CANCELLED, "cancelled while evaluating");
        if (status)
            break;
    }
    rq_walk_release(&w);
    if (!status && !e->samples)
        return rq_fail(err, RQ_BAD_DATA, "%s: no samples to evaluate the model on", rq_dataset_path(data));
    return status;
}

rq_status rq_eval_run(rq_eval *out, const rq_graph *g, rq_dataset *data, const rq_report_cfg *cfg, rq_err *err)
{
    const rq_report_cfg none = { 0 };
    const int n = rq_graph_n_outputs(g);
    evaluation v = { 0 };
    cfg = cfg ? cfg : &none;
    *out = (rq_eval) { 0 };
    rq_status status = rq_walk_output(g, cfg->output, &v.judged, err);
    if (status)
        return status;
    v.out = rq_mem_zalloc((size_t)n + 1, sizeof *v.out);
    v.totals = rq_mem_zalloc((size_t)n + 1, sizeof *v.totals);
    out->outputs = rq_mem_zalloc((size_t)n + 1, sizeof *out->outputs);
    if (!v.out || !v.totals || !out->outputs)
        status = rq_fail(err, RQ_NO_MEMORY, "out of memory for the evaluation");
    for (int i = 0; i < n && !status; i++) {
        out->outputs[i].name = rq_mem_strdup(rq_graph_output(g, i).name);
        out->n_outputs = i + 1;
        if (!out->outputs[i].name)
            status = rq_fail(err, RQ_NO_MEMORY, "out of memory for the evaluation");
    }
    if (!status)
        status = rq_session_create(
            &v.session, g, &(rq_session_cfg) { .threads = cfg->threads, .onednn = cfg->onednn, .match = cfg->match },
            err);
    if (!status)
        status = run_all(out, &v, g, data, cfg, err);
    for (int i = 0; i < n && !status; i++) {
        rq_eval_output *o = &out->outputs[i];
        o->mean = o->count ? v.totals[i].sum : NAN;
        o->std = o->count ? sqrt(v.totals[i].squares / (double)o->count) : NAN;
        if (!o->count)
            o->min = o->max = NAN;
    }
    out->accuracy = v.labelled ? (double)v.right / (double)v.labelled : NAN;
    rq_sums_wilson(v.right, v.labelled, &out->lo, &out->hi);
    out->ms = rq_sums_quantile(v.ms, v.n_ms, 0.5);
    rq_session_destroy(v.session);
    rq_mem_free(v.ms);
    rq_mem_free(v.out);
    rq_mem_free(v.totals);
    if (status)
        rq_eval_release(out);
    return status;
}

void rq_eval_release(rq_eval *e)
{
    for (int i = 0; i < e->n_outputs; i++)
        rq_mem_free(e->outputs[i].name);
    rq_mem_free(e->outputs);
    *e = (rq_eval) { 0 };
}

void rq_eval_print(const rq_eval *e, FILE *to)
{
    if (!isnan(e->accuracy))
        rq_number_to(to, "accuracy %.2f %% on %lld sample%s (95 %% interval %.1f to %.1f)\n", 100 * e->accuracy,
                     (long long)e->samples, e->samples == 1 ? "" : "s", 100 * e->lo, 100 * e->hi);
    else
        fprintf(to, "%lld sample%s, no labels that fit: what the outputs look like\n", (long long)e->samples,
                e->samples == 1 ? "" : "s");
    if (e->strange_labels)
        fprintf(to, "labels: %lld of %lld name no place on the last axis of the output\n", (long long)e->strange_labels,
                (long long)e->samples);
    for (int i = 0; i < e->n_outputs; i++) {
        const rq_eval_output *o = &e->outputs[i];
        rq_number_to(to, "output '%s': %lld numbers, min %.6g, max %.6g, mean %.6g, std %.6g", o->name,
                     (long long)(o->count + o->nonfinite), o->min, o->max, o->mean, o->std);
        if (o->nonfinite)
            fprintf(to, ", %lld not finite", (long long)o->nonfinite);
        fputc('\n', to);
    }
    if (e->ms > 0)
        rq_number_to(to, "%.3g ms a batch\n", e->ms);
}

rq_status rq_eval_save_json(const rq_eval *e, const char *path, rq_err *err)
{
    json_t *outputs = json_object();
    for (int i = 0; i < e->n_outputs; i++) {
        const rq_eval_output *o = &e->outputs[i];
        json_t *one = json_pack("{s:o, s:o, s:o, s:o, s:I, s:I}", "min", rq_report_json_real(o->min), "max",
                                rq_report_json_real(o->max), "mean", rq_report_json_real(o->mean), "std",
                                rq_report_json_real(o->std), "count", (json_int_t)o->count, "nonfinite",
                                (json_int_t)o->nonfinite);
        json_t *name = rq_report_json_text(o->name);
        if (one && name)
            json_object_set_new(outputs, json_string_value(name), one);
        else
            json_decref(one);
        json_decref(name);
    }
    json_t *root = json_pack("{s:o, s:[o,o], s:I, s:o, s:o}", "accuracy", rq_report_json_real(e->accuracy), "interval",
                             rq_report_json_real(e->lo), rq_report_json_real(e->hi), "samples", (json_int_t)e->samples,
                             "ms", rq_report_json_real(e->ms), "outputs", outputs);
    return rq_report_json_write(root, path, err);
}
