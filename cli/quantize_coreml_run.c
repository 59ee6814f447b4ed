/* cli/quantize_coreml_run.c — requant quantize IN.mlpackage -o OUT.mlpackage -d DATA: activations as coremltools.optimize.coreml quantizes them, then
 * (--mode static) weights. The package is read back and run in integers beside the one that came in, on samples that did not calibrate. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

typedef struct job {
    const cli_coreml_quantize *a;
    struct timespec begin;
    cli_progress progress;
    cli_trial trial;
    const char *where; /* the package that is judged: OUT, or one on trial */
    rq_coreml *m;
    rq_graph *original, *saved;
    rq_dataset *data, *other;
    rq_split split;
    rq_coreml_report *activations, *weights; /* weights NULL: they were left */
    rq_report report;
} job;

static rq_status open_samples(job *j, rq_err *err)
{
    const cli_coreml_quantize *a = j->a;
    if (a->eval)
        RQ_TRY(cli_open_data(&j->other, a->eval, j->original, a->common, err));
    RQ_TRY(cli_open_data(&j->data, a->data, j->original, a->common, err));
    return rq_dataset_split(&j->split, j->data, (uint64_t)a->seed, a->eval ? 0 : 0.2, a->samples,
                            rq_dataset_unit(j->data), err);
}

static rq_status compress(job *j, rq_err *err)
{
    const cli_coreml_quantize *a = j->a;
    rq_coreml_config *config = NULL;
    rq_status s = cli_coreml_config(&config, a, true, err);
    if (!s)
        s = rq_coreml_linear_quantize_activations(j->m, config, j->data, j->split.calibrate, j->split.n_calibrate,
                                                  &j->activations, err);
    rq_coreml_config_destroy(config);
    config = NULL;
    if (s || a->mode == CLI_MODE_ACTIVATIONS)
        return s;
    s = cli_coreml_config(&config, a, false, err);
    if (!s)
        s = rq_coreml_linear_quantize_weights(j->m, config, a->joint, &j->weights, err);
    rq_coreml_config_destroy(config);
    return s;
}

static rq_status make(job *j, rq_err *err)
{
    const cli_coreml_quantize *a = j->a;
    const char *model = a->common->operand[0];
    RQ_TRY(rq_coreml_open(&j->m, model, err));
    RQ_TRY(rq_load(&j->original, model, err));
    RQ_TRY(rq_report_check_output(j->original, a->output, err));
    RQ_TRY(open_samples(j, err));
    if (a->max_drop >= 0 && !rq_dataset_labels(j->other ? j->other : j->data) &&
        !rq_report_has_classes(j->original, a->output))
        return rq_fail(err, RQ_BAD_ARG,
                       "--max-drop counts top-1 answers, and the judged output has no axis of classes; name one that "
                       "has with --output, or give labels with the samples");
    j->where = a->max_drop >= 0 ? cli_trial_begin(&j->trial, a->out) : a->out;
    if (!j->where)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    RQ_TRY(compress(j, err));
    if (!rq_coreml_report_done(j->activations) && !(j->weights && rq_coreml_report_done(j->weights)))
        return rq_fail(err, RQ_BAD_ARG, "nothing was quantized, so %s was not written", a->out);
    RQ_TRY(rq_coreml_save(j->m, j->where, err));
    return rq_load(&j->saved, j->where, err);
}

static rq_status judge(job *j, rq_err *err)
{
    const cli_coreml_quantize *a = j->a;
    struct timespec end;
    const rq_report_cfg how = {
        .rows = a->eval ? NULL : j->split.judge,
        .n_rows = a->eval ? 0 : j->split.n_judge,
        .output = a->output,
        .threads = (int)a->common->threads,
        .onednn = cli_onednn(a->common),
        .match = (rq_match)a->common->match,
        .layers = true,
        .progress = cli_progress_step,
        .progress_arg = &j->progress,
    };
    rq_report *r = &j->report;
    RQ_TRY(rq_report_compare(r, j->original, j->saved, j->other ? j->other : j->data, &how, err));
    r->model.bytes = cli_model_bytes(a->common->operand[0], j->original);
    r->quantized.bytes = cli_model_bytes(j->where, j->saved);
    clock_gettime(CLOCK_MONOTONIC, &end);
    r->seconds = (double)(end.tv_sec - j->begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - j->begin.tv_nsec);
    r->peak_rss_mb = rq_file_peak_rss_mb();
    return RQ_OK;
}

/* ---- what came out ---- */

static char *verdict_json(const rq_report *r)
{
    const int64_t n = rq_report_json(r, NULL, 0);
    char *text = n < 0 ? NULL : malloc((size_t)n + 1);
    if (text)
        rq_report_json(r, text, (size_t)n + 1);
    return text;
}

/* {"activations": ..., "weights": ..., "verdict": ...} */
static rq_status save_json(const job *j, rq_err *err)
{
    char *part[3] = { cli_coreml_report(j->activations, true, true),
                      j->weights ? cli_coreml_report(j->weights, true, true) : NULL, verdict_json(&j->report) };
    static const char *const key[] = { "{\"activations\": ", ", \"weights\": ", ", \"verdict\": " };
    size_t room = 64;
    for (int i = 0; i < 3; i++)
        room += part[i] ? strlen(part[i]) + 32 : 0;
    char *text = part[0] && part[2] && (part[1] || !j->weights) ? malloc(room) : NULL;
    size_t at = 0;
    for (int i = 0; text && i < 3; i++)
        if (part[i])
            at += (size_t)snprintf(text + at, room - at, "%s%s", key[i], part[i]);
    if (text)
        at += (size_t)snprintf(text + at, room - at, "}\n");
    const rq_status s =
        text ? rq_file_write_all(j->a->json, text, at, err) : rq_fail(err, RQ_NO_MEMORY, "out of memory");
    for (int i = 0; i < 3; i++)
        free(part[i]);
    free(text);
    return s;
}

static rq_status print(const job *j, rq_err *err)
{
    const bool all = j->a->common->verbose;
    char *activations = cli_coreml_report(j->activations, false, all),
         *weights = j->weights ? cli_coreml_report(j->weights, false, all) : NULL;
    const bool ok = activations && (weights || !j->weights);
    if (ok)
        printf("%s%s\n", activations, weights ? weights : "");
    free(activations);
    free(weights);
    if (ok)
        rq_report_print(&j->report, stdout);
    return ok ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "out of memory");
}

static int finish(job *j, rq_err *err)
{
    const cli_coreml_quantize *a = j->a;
    cli_progress_end(&j->progress);
    if (!a->common->quiet && !cli_is_stdout(a->json) && print(j, err))
        return CLI_FAILED;
    if (a->json && save_json(j, err))
        return CLI_FAILED;
    const int rc = cli_quantize_verdict(&j->report, a->max_drop, a->out);
    if (rc == CLI_OK && j->where != a->out && rq_coreml_save(j->m, a->out, err))
        return CLI_FAILED;
    return rc;
}

static void release(job *j)
{
    cli_trial_end(&j->trial);
    rq_report_release(&j->report);
    rq_coreml_report_destroy(j->activations);
    rq_coreml_report_destroy(j->weights);
    rq_split_release(&j->split);
    rq_dataset_close(j->other);
    rq_dataset_close(j->data);
    rq_graph_destroy(j->saved);
    rq_graph_destroy(j->original);
    rq_coreml_close(j->m);
}

int cli_quantize_coreml_run(const cli_command *c, const cli_coreml_quantize *a)
{
    job j = { .a = a };
    rq_err err = { 0 };
    clock_gettime(CLOCK_MONOTONIC, &j.begin);
    cli_progress_init(&j.progress, a->common);
    rq_status s = make(&j, &err);
    if (!s)
        s = judge(&j, &err);
    const int rc = s ? CLI_FAILED : finish(&j, &err);
    cli_progress_end(&j.progress);
    if (rc == CLI_FAILED)
        cli_fail(c->name, &err);
    release(&j);
    return rc;
}
