/* cli/cmd_qat.c — requant qat: a float model learns to live with its codes, and comes out as integers.
 *
 * The quantizer puts fake-quantizers into a copy of the model; they are calibrated, then the copy is trained, and what it has become is
 * written, read back and judged in integers beside the float model, as quantize does. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli_train.h"

typedef struct qat_args {
    cli_train train; /* begins with cli_common */
    const char *config;
    int preset;
    int64_t weights_bits, activations_bits, samples, original_epochs;
    double original_lr, max_drop;
    bool calibrate_only;
} qat_args;

#define TO(field) offsetof(qat_args, field)
static const cli_opt opts[] = {
    CLI_ROWS_TRAIN,
    { CLI_IN, 0, "config", "FILE", TO(config),
      "LinearQuantizerConfig of Core ML Tools, YAML or JSON: which layers, types, observers, milestones", NULL, 0, 0 },
    { CLI_ENUM, 0, "preset", "NAME", TO(preset),
      "coreml (default): ranges follow while the network trains; nvidia: ranges of calibration are fixed, a short "
      "fine-tuning along a "
      "cosine; lsq, lsq+: scales (and zero points) are learned",
      "coreml|nvidia|lsq|lsq+", 0, 0 },
    { CLI_INT, 0, "weights-bits", "N", TO(weights_bits), "bits of weights, 2 to 8 (default 8)", NULL, 2, 8 },
    { CLI_INT, 0, "activations-bits", "N", TO(activations_bits), "bits of activations, 2 to 8 (default 8)", NULL, 2,
      8 },
    { CLI_NUM, 0, "scale-lr", "X", CLI_TRAIN_TO(scale_lr), "learned scales: their rate as a factor of --lr (default 1)",
      NULL, 0, 1e6 },
    { CLI_INT, 'n', "samples", "N", TO(samples), "calibrate on N samples, drawn (default: all)", NULL, 1, 1e15 },
    { CLI_FLAG, 0, "calibrate-only", NULL, TO(calibrate_only), "train nothing: what calibration alone gives", NULL, 0,
      0 },
    { CLI_NUM, 0, "original-lr", "X", TO(original_lr),
      "nvidia: the learning rate the model was trained with; 1 % of it is used", NULL, 0, 1e6 },
    { CLI_INT, 0, "original-epochs", "N", TO(original_epochs), "nvidia: the epochs it was trained for; a tenth is used",
      NULL, 1, 1000000 },
    { CLI_INT, 0, "reestimate-bn", "N", CLI_TRAIN_TO(reestimate_bn),
      "at the end take the statistics of batch norms anew from N batches", NULL, 1, 1e9 },
    { CLI_IN, 0, "teacher", "MODEL", CLI_TRAIN_TO(teacher),
      "the model to distill from (default: MODEL itself, in float)", NULL, 0, 0 },
    { CLI_NUM, 0, "max-drop", "X", TO(max_drop),
      "exit 3, and leave OUT as it was, when more than X points of accuracy are lost (of agreement, without labels)",
      NULL, 0, 100 },
    CLI_ROWS_TRAIN_DATA,
    CLI_ROWS_COMMON,
    { CLI_END, 0, NULL, NULL, 0, NULL, NULL, 0, 0 },
};
#undef TO

static void defaults(void *args)
{
    qat_args *a = args;
    cli_train_defaults(&a->train);
    a->weights_bits = a->activations_bits = 8;
    a->max_drop = -1;
}

typedef struct job {
    const qat_args *a;
    struct timespec begin;
    cli_training t;
    rq_linear_quantizer_config *config;
    rq_linear_quantizer *q;
    rq_trainer *trainer;
    rq_graph *given, *original, *g, *saved, *sim; /* as read; in float; quantized; as read back; as it was trained */
    bool was_quantized;
    rq_report report;
    rq_agreement agreement;
    rq_linear_quantizer_report quantizer;
    cli_trial trial;
    const char *where;
    double ptq_loss, ptq_accuracy; /* of the simulation, calibrated; NaN: not known */
    rq_train_epoch told;
    int64_t epoch; /* that is kept; 0: nothing was trained */
} job;

static const char *model_of(const job *j)
{
    return j->a->train.common.operand[0];
}

/* ---- before training ---- */

static int refuse(const qat_args *a)
{
    const cli_common *given = &a->train.common;
    static const char *const of_preset[] = { "preset", "weights-bits", "activations-bits", NULL };
    static const char *const of_training[] = { "epochs",
                                               "lr",
                                               "optimizer",
                                               "schedule",
                                               "checkpoint",
                                               "resume",
                                               "momentum",
                                               "nesterov",
                                               "weight-decay",
                                               "decay-all",
                                               "clip-norm",
                                               "clip-value",
                                               "warmup",
                                               "lr-min",
                                               "every",
                                               "gamma",
                                               "augment",
                                               "freeze-bn-after",
                                               "drop-last",
                                               "keep-last",
                                               "scale-lr",
                                               "json-steps",
                                               "checkpoint-steps",
                                               "checkpoint-activations",
                                               "original-lr",
                                               "feature",
                                               "original-epochs",
                                               "reestimate-bn",
                                               NULL };
    for (int i = 0; a->config && of_preset[i]; i++)
        if (cli_given(given, of_preset[i]))
            return cli_usage(&cmd_qat, "--%s says nothing here: --config says it all", of_preset[i]);
    for (int i = 0; a->calibrate_only && of_training[i]; i++)
        if (cli_given(given, of_training[i]))
            return cli_usage(&cmd_qat, "--%s says nothing here: with --calibrate-only nothing is trained",
                             of_training[i]);
    if (a->preset != RQ_QAT_NVIDIA && (cli_given(given, "original-lr") || cli_given(given, "original-epochs")))
        return cli_usage(&cmd_qat, "--original-lr and --original-epochs belong to --preset nvidia");
    if (cli_given(given, "original-lr") && cli_given(given, "lr"))
        return cli_usage(&cmd_qat, "--original-lr and --lr: one rate is enough, the first takes 1 %% of it");
    if (cli_given(given, "original-epochs") && cli_given(given, "epochs"))
        return cli_usage(&cmd_qat,
                         "--original-epochs and --epochs: one number is enough, the first takes a tenth of it");
    return CLI_OK;
}

/* The float model: what was given, or what its codes mean. */
static rq_status open_float(job *j, rq_err *err)
{
    rq_graph_summary sum;
    RQ_TRY(cli_load(&j->given, model_of(j), &j->a->train.common, err));
    RQ_TRY(cli_spare_weights(j->given, model_of(j), j->a->train.out, err));
    RQ_TRY(rq_graph_summarize(j->given, &sum, err));
    RQ_TRY(rq_graph_copy(&j->original, j->given));
    j->was_quantized = sum.is_quantized;
    return sum.is_quantized ? rq_dequantize(j->original, err) : RQ_OK;
}

static rq_status settle_config(job *j, rq_err *err)
{
    const qat_args *a = j->a;
    rq_optimizer_cfg *o = &j->t.cfg.optimizer;
    o->lr = cli_given(&a->train.common, "lr") ? a->train.lr : o->lr / 10; /* what is tuned was trained already */
    if (a->config)
        return rq_linear_quantizer_config_load(&j->config, a->config, err);
    rq_qat_preset_cfg p = rq_qat_preset_defaults();
    p.weights_bits = (int)a->weights_bits;
    p.activations_bits = (int)a->activations_bits;
    p.original_lr = a->original_lr;
    p.original_epochs = a->original_epochs;
    p.steps = cli_train_steps(&j->t) * a->train.epochs;
    if (a->preset == RQ_QAT_COREML && (a->calibrate_only || j->was_quantized))
        p.steps = 0; /* quantized from the start */
    p.g = j->original;
    return rq_qat_preset_apply((rq_qat_preset)a->preset, &p, &j->config, &j->t.cfg, err);
}

static rq_status warn(job *j, rq_err *err)
{
    rq_notes notes = { 0 };
    if (j->a->calibrate_only && !j->a->config) /* the preset's milestones are for a training that there is none of */
        return RQ_OK;
    const rq_status st = rq_linear_quantizer_warnings(j->q, &notes);
    for (int i = 0; i < notes.n && !j->a->train.common.quiet; i++)
        fprintf(stderr, "requant: warning: %s\n", notes.text[i]);
    rq_notes_release(&notes);
    return st ? rq_fail(err, st, "out of memory") : RQ_OK;
}

/* Milestones that this run is too short for. */
static void warn_of_length(const job *j)
{
    static const char *const what[] = { "observers are never switched on", "fake-quantize is never switched on",
                                        "observers are never switched off", "batch norms are never frozen" };
    static const char *const nth[] = { "first", "second", "third", "fourth" };
    const rq_module_linear_quantizer_config m = rq_linear_quantizer_config_effective(j->config);
    const int64_t steps = cli_train_steps(&j->t) * j->t.cfg.epochs;
    for (int i = 0; i < 4 && m.has_milestones && steps && !j->a->train.common.quiet; i++)
        if (m.milestones[i] >= steps)
            fprintf(stderr, "requant: warning: milestones: the %s, %lld, is beyond the %lld steps of this run: %s\n",
                    nth[i], (long long)m.milestones[i], (long long)steps, what[i]);
}

/* What was chosen for who did not say it. */
static void tell_defaults(const job *j)
{
    const cli_common *given = &j->a->train.common;
    if (j->a->config || j->a->preset != RQ_QAT_NVIDIA || given->quiet)
        return;
    if (!cli_given(given, "epochs") && !cli_given(given, "original-epochs"))
        fprintf(stderr, "requant qat: %lld epoch is trained; --original-epochs N trains a tenth of N, --epochs N all\n",
                (long long)j->t.cfg.epochs);
    if (!cli_given(given, "lr") && !cli_given(given, "original-lr"))
        fprintf(stderr, "requant qat: the learning rate begins at %g; --original-lr X takes 1 %% of X, --lr X all\n",
                j->t.cfg.optimizer.lr);
}

static rq_status prepare(job *j, rq_err *err)
{
    RQ_TRY(settle_config(j, err));
    RQ_TRY(rq_linear_quantizer_create(&j->q, j->original, j->config, err));
    RQ_TRY(rq_linear_quantizer_prepare(j->q, err));
    return warn(j, err);
}

/* ---- calibration, and how good it is alone ---- */

static void switch_all(job *j, int observer, int fake_quant)
{
    rq_fake_quantizer *const *fakes;
    const int n = rq_linear_quantizer_fakes(j->q, &fakes, NULL);
    for (int i = 0; i < n; i++) {
        if (observer >= 0)
            rq_fake_quantizer_enable_observer(fakes[i], observer);
        if (fake_quant >= 0)
            rq_fake_quantizer_enable_fake_quant(fakes[i], fake_quant);
    }
}

static bool has_batch_norms(const rq_graph *g)
{
    rq_edit_node node;
    for (int i = 0; i < rq_edit_n_nodes(g); i++)
        if (rq_edit_node_at(g, i, &node) && !strcmp(node.op, "BatchNormalization"))
            return true;
    return false;
}

static rq_status judge_on(job *j, const char *what, double *loss, double *accuracy, rq_err *err)
{
    *loss = *accuracy = NAN;
    if (!j->t.eval)
        return RQ_OK;
    RQ_TRY(rq_trainer_evaluate(j->trainer, j->t.eval, loss, accuracy, err));
    cli_progress_end(&j->t.progress);
    cli_train_line(&j->t, what, *loss, *accuracy);
    return RQ_OK;
}

static rq_status calibrate(job *j, rq_err *err)
{
    const int64_t batch = rq_dataset_batch_size(j->t.data);
    const int64_t batches = j->a->samples ? (j->a->samples + batch - 1) / batch : 0;
    const bool fixed = !j->a->config && j->a->preset == RQ_QAT_NVIDIA;
    rq_fake_quantizer *const *fakes;
    const int n = rq_linear_quantizer_fakes(j->q, &fakes, NULL);
    const bool on = n > 0 && rq_fake_quantizer_fake_quant_enabled(fakes[0]);
    switch_all(j, -1, false);
    RQ_TRY(judge_on(j, "float", &j->ptq_loss, &j->ptq_accuracy, err));
    if (fixed) {
        rq_qat_calibrate_cfg how = rq_qat_calibrate_defaults();
        how.batches = batches;
        how.threads = (int)j->a->train.common.threads;
        RQ_TRY(rq_qat_calibrate(j->q, j->t.data, &how, err));
    } else {
        RQ_TRY(rq_trainer_calibrate(j->trainer, j->t.data, j->a->samples, err));
    }
    if (j->was_quantized) {
        int taken;
        RQ_TRY(rq_qat_take_scales(j->q, j->given, &taken, err));
        cli_progress_end(&j->t.progress);
        if (j->t.table)
            printf("%d of %d fake-quantizers start from the scales of %s\n", taken, n, model_of(j));
    }
    RQ_TRY(judge_on(j, "ptq", &j->ptq_loss, &j->ptq_accuracy, err));
    const rq_module_linear_quantizer_config m = rq_linear_quantizer_config_effective(j->config);
    if (has_batch_norms(j->original) && !(m.has_milestones && m.milestones[3] == 0)) { /* 0: frozen from the start */
        j->t.was_loss = j->ptq_loss;
        j->t.was_accuracy = j->ptq_accuracy;
    }
    if (!on && !j->a->calibrate_only) /* milestones switch them on */
        switch_all(j, false, false);
    return RQ_OK;
}

/* ---- training, and what comes of it ---- */

static rq_status train(job *j, rq_err *err)
{
    RQ_TRY(rq_trainer_create(&j->trainer, NULL, j->q, &j->t.cfg, err));
    RQ_TRY(calibrate(j, err));
    if (!j->a->calibrate_only)
        RQ_TRY(rq_trainer_run(j->trainer, j->t.data, j->t.eval, err));
    else
        switch_all(j, false, true);
    cli_progress_end(&j->t.progress);
    j->told = rq_trainer_result(j->trainer);
    j->epoch = j->a->calibrate_only ? 0 : j->told.epoch;
    if (j->t.eval && j->t.table && j->epoch)
        printf("epoch %lld is kept\n", (long long)j->epoch);
    return RQ_OK;
}

static rq_status make(job *j, rq_err *err)
{
    const qat_args *a = j->a;
    const rq_save_cfg form = { .spelling = RQ_SPELLING_QDQ };
    j->where = a->max_drop >= 0 ? cli_trial_begin(&j->trial, a->train.out) : a->train.out;
    if (!j->where)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    RQ_TRY(rq_linear_quantizer_finalize(j->q, &j->g, err));
    RQ_TRY(cli_save(j->g, j->where, model_of(j), &form, "qat", a->train.common.quiet, err));
    return cli_load_saved(&j->saved, j->g, j->where, err);
}

/* The file beside the float model, and the simulation beside the file. */
static rq_status judge(job *j, rq_err *err)
{
    rq_dataset *data = j->t.eval ? j->t.eval : j->t.data;
    const cli_common *common = &j->a->train.common;
    const rq_report_cfg how = {
        .output = j->a->train.output,
        .threads = (int)common->threads,
        .onednn = cli_onednn(common),
        .match = (rq_match)common->match,
        .layers = true,
        .origin = j->g,
        .progress = cli_progress_step,
        .progress_arg = &j->t.progress,
    };
    rq_report *r = &j->report;
    rq_agreement_cfg same = rq_agreement_defaults();
    rq_fake_quantizer *const *fakes;
    struct timespec end;
    same.threads = (int)common->threads;
    RQ_TRY(rq_report_compare(r, j->original, j->saved, data, &how, err));
    r->model.bytes = j->was_quantized ? 0 : cli_model_bytes(model_of(j), j->original); /* 0: it is in no file */
    r->quantized.bytes = cli_model_bytes(j->where, j->saved);
    const int n = rq_linear_quantizer_fakes(j->q, &fakes, NULL);
    rq_trainer_destroy(j->trainer); /* its network is needed as it is */
    j->trainer = NULL;
    RQ_TRY(rq_linear_quantizer_report_make(&j->quantizer, j->q, err));
    RQ_TRY(rq_linear_quantizer_simulation(j->q, j->g, &j->sim, err));
    RQ_TRY(rq_agreement_measure(&j->agreement, j->sim, fakes, n, j->g, data, &same, err));
    clock_gettime(CLOCK_MONOTONIC, &end);
    r->seconds = (double)(end.tv_sec - j->begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - j->begin.tv_nsec);
    r->peak_rss_mb = rq_file_peak_rss_mb();
    return RQ_OK;
}

/* Why the verdict is not what the epoch was told with, where that is so. */
static void tell_biases(const job *j)
{
    const double told = j->told.eval_accuracy, is = j->report.quantized.accuracy;
    if (j->epoch && isfinite(told) && isfinite(is) && fabs(told - is) > 1e-9 && !j->a->train.reestimate_bn)
        printf("Epoch %lld was told with %.2f %%: training adds biases in floats, integers in whole units of their "
               "scales.\n",
               (long long)j->epoch, 100 * told);
}

static int finish(job *j, rq_err *err)
{
    const qat_args *a = j->a;
    const rq_save_cfg form = { .spelling = RQ_SPELLING_QDQ };
    cli_progress_end(&j->t.progress);
    if (j->t.table && a->train.common.verbose) {
        putchar('\n');
        rq_linear_quantizer_report_print(&j->quantizer, stdout);
    }
    if (j->t.table) {
        putchar('\n');
        rq_agreement_print(&j->agreement, stdout);
        putchar('\n');
        rq_report_print(&j->report, stdout);
        tell_biases(j);
        if (!j->t.eval)
            printf("judged on the samples it was trained on; --eval DATA judges on others\n");
    }
    const cli_verdict v = { .path = a->train.json,
                            .append = !a->calibrate_only,
                            .epoch = j->epoch,
                            .ptq_loss = j->ptq_loss,
                            .ptq_accuracy = j->ptq_accuracy,
                            .report = &j->report,
                            .agreement = &j->agreement,
                            .quantizer = &j->quantizer };
    if (a->train.json && cli_verdict_write(&v, err))
        return CLI_FAILED;
    if (a->max_drop >= 0 && !(j->report.drop <= a->max_drop)) {
        fflush(stdout);
        fprintf(stderr, "requant qat: %.2f points lost, --max-drop allows %.2f; %s was not written\n", j->report.drop,
                a->max_drop, a->train.out);
        return CLI_MISSED;
    }
    return j->where != a->train.out && cli_save(j->g, a->train.out, model_of(j), &form, "qat", true, err) ? CLI_FAILED
                                                                                                          : CLI_OK;
}

static void release(job *j)
{
    cli_trial_end(&j->trial);
    rq_agreement_release(&j->agreement);
    rq_linear_quantizer_report_release(&j->quantizer);
    rq_report_release(&j->report);
    rq_trainer_destroy(j->trainer);
    rq_linear_quantizer_destroy(j->q);
    rq_linear_quantizer_config_destroy(j->config);
    cli_train_end(&j->t);
    rq_graph_destroy(j->sim);
    rq_graph_destroy(j->saved);
    rq_graph_destroy(j->g);
    rq_graph_destroy(j->original);
    rq_graph_destroy(j->given);
}

static int run(void *args)
{
    job j = { .a = args };
    rq_err err = { 0 };
    int rc = refuse(j.a);
    if (rc)
        return rc;
    clock_gettime(CLOCK_MONOTONIC, &j.begin);
    if (!j.a->train.data || !j.a->train.out) { /* said before the model is read */
        rc = cli_train_begin(&j.t, &cmd_qat, &j.a->train, NULL, NULL);
        release(&j);
        return rc;
    }
    if (open_float(&j, &err))
        rc = cli_fail("qat", &err);
    else
        rc = cli_train_begin(&j.t, &cmd_qat, &j.a->train, j.original, j.original);
    j.t.untrained = j.a->calibrate_only;
    if (!rc && prepare(&j, &err))
        rc = cli_fail("qat", &err);
    if (!rc && cli_given(&j.a->train.common, "scale-lr") && !rq_linear_quantizer_config_effective(j.config).learnable)
        rc = cli_usage(&cmd_qat, "--scale-lr says nothing here: no scales are learned; --preset lsq does");
    if (!rc && !(rc = cli_train_settle(&j.t, &cmd_qat))) {
        if (!j.a->calibrate_only) {
            warn_of_length(&j);
            tell_defaults(&j);
        }
        rc = train(&j, &err) || make(&j, &err) || judge(&j, &err) ? CLI_FAILED : finish(&j, &err);
        cli_progress_end(&j.t.progress);
        if (rc == CLI_FAILED)
            cli_fail("qat", &err);
    }
    release(&j);
    return rc;
}

const cli_command cmd_qat = {
    .name = "qat",
    .synopsis = "MODEL -d TRAIN -o OUT [--eval DATA] [--config FILE | --preset NAME] [OPTION]...",
    .summary = "train a model as the integers it will be, and say what it lost and gained",
    .about = "Puts fake-quantizers into a copy of MODEL as Core ML Tools' LinearQuantizer does, calibrates them on the "
             "samples in TRAIN, trains, "
             "and writes an int8 model to OUT, which is read back and judged in integers. Each epoch is told with the "
             "loss and accuracy of the "
             "simulation, and in the end how far simulation and integers agree. A model that is quantized already "
             "starts from its scales. What was trained is tuned at a tenth of the usual rate, unless --lr or a preset "
             "says another. "
             "Otherwise as `requant train`.",
    .min_operands = 1,
    .max_operands = 1,
    .args_size = sizeof(qat_args),
    .opts = opts,
    .defaults = defaults,
    .run = run,
};
