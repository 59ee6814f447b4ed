/* cli/train_common.c — from options to a configuration of the trainer, and from its epochs to lines of a table. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli_train.h"

void cli_train_defaults(cli_train *a)
{
    a->epochs = 1;
    a->temperature = 1;
    a->every = 1;
    a->gamma = 0.1;
    a->freeze_bn = -1;
}

/* ---- options ---- */

/* "flip,crop=2"; of a recipe's mapping "flip=true,crop=2" */
static bool read_augment(const char *text, rq_augment *out)
{
    while (text && *text) {
        const size_t n = strcspn(text, ",");
        char *end;
        if ((n == 4 && !strncmp(text, "flip", 4)) || (n == 9 && !strncmp(text, "flip=true", 9))) {
            out->flip = true;
        } else if (n == 10 && !strncmp(text, "flip=false", 10)) {
            out->flip = false;
        } else if (n > 5 && !strncmp(text, "crop=", 5)) {
            const long pixels = strtol(text + 5, &end, 10);
            if (end != text + n || pixels < 0 || pixels > 4096)
                return false;
            out->crop = (int)pixels;
        } else {
            return false;
        }
        text += n + (text[n] == ',');
    }
    return true;
}

/* Does the output come out of a Softmax (Sigmoid), so that the loss must not apply one? */
static bool gives_probabilities(const rq_graph *g, const char *output, const char *op)
{
    rq_edit_node n;
    const char *name = output ? output : rq_graph_n_outputs(g) ? rq_graph_output(g, 0).name : "";
    const int at = rq_edit_producer(g, name);
    return at >= 0 && rq_edit_node_at(g, at, &n) && !strcmp(n.op, op);
}

static void settle_loss(rq_train_cfg *c, const cli_train *a, const rq_graph *g)
{
    static const rq_loss_kind kinds[] = { RQ_LOSS_CROSS_ENTROPY, RQ_LOSS_MSE, RQ_LOSS_BCE, RQ_LOSS_CROSS_ENTROPY };
    c->loss = rq_loss_defaults(kinds[a->loss]);
    c->loss.label_smoothing = a->label_smoothing;
    c->loss.probabilities = gives_probabilities(g, a->output, a->loss == CLI_LOSS_BCE ? "Sigmoid" : "Softmax");
    c->distill_loss.temperature = a->temperature;
    c->distill_loss.probabilities = gives_probabilities(g, a->output, "Softmax");
    c->distill = a->distill;
    if (a->loss == CLI_LOSS_DISTILL && !cli_given(&a->common, "distill"))
        c->distill = 1;
}

int64_t cli_train_steps(const cli_training *t)
{
    const int64_t count = rq_dataset_count(t->data), batch = rq_dataset_batch_size(t->data);
    return t->a->drop_last ? count / batch : (count + batch - 1) / batch;
}

static rq_optimizer_cfg optimizer_of(int kind)
{
    rq_optimizer_cfg o = rq_optimizer_defaults((rq_optimizer_kind)kind);
    if (kind == RQ_OPTIMIZER_SGD)
        o.momentum = 0.9;
    return o;
}

static void settle_optimizer(rq_train_cfg *c, const cli_train *a)
{
    rq_optimizer_cfg *o = &c->optimizer;
    const cli_common *given = &a->common;
    if (cli_given(given, "optimizer") && (int)o->kind != a->optimizer)
        *o = optimizer_of(a->optimizer);
    if (cli_given(given, "lr")) {
        c->schedule.lr_min *= o->lr > 0 ? a->lr / o->lr : 1; /* of a preset: a share of the rate */
        o->lr = a->lr;
    }
    if (cli_given(given, "momentum"))
        o->momentum = a->momentum;
    if (cli_given(given, "weight-decay"))
        o->weight_decay = a->weight_decay;
    if (cli_given(given, "scale-lr"))
        o->scale_lr = a->scale_lr;
    o->nesterov = a->nesterov;
    o->decay_all = a->decay_all;
    o->clip_norm = a->clip_norm;
    o->clip_value = a->clip_value;
}

static void settle_schedule(rq_train_cfg *c, const cli_train *a, int64_t steps)
{
    rq_schedule *s = &c->schedule;
    const cli_common *given = &a->common;
    if (cli_given(given, "epochs")) {
        c->epochs = a->epochs;
        s->total = 0;
    }
    if (cli_given(given, "schedule")) {
        *s = (rq_schedule) { .kind = (rq_schedule_kind)a->schedule, .every = a->every * steps, .gamma = a->gamma };
        c->schedule_epochs = false;
    }
    if (cli_given(given, "lr-min"))
        s->lr_min = a->lr_min;
    if (a->warmup) {
        s->total = 0;
        c->schedule_epochs = false;
        s->warmup = a->warmup;
    }
    s->lr = c->optimizer.lr;
}

/* NAME or NAME=WEIGHT, n letters of it */
static bool add_feature(cli_training *t, const char *text, size_t n)
{
    const int i = t->cfg.n_features;
    char *end, *name = t->names[i] = malloc(n + 1);
    if (!name)
        return false;
    memcpy(name, text, n);
    name[n] = 0;
    t->cfg.n_features++;
    char *at = strrchr(name, '=');
    double weight = at ? strtod(at + 1, &end) : 1;
    if (at && end != at + 1 && !*end && weight >= 0)
        *at = 0;
    else
        weight = 1; /* a name that has a = in it */
    t->features[i] = (rq_train_feature) { .value = name, .weight = weight };
    return true;
}

/* A recipe has several in one item, a line each. */
static bool settle_features(cli_training *t, const cli_list *list)
{
    size_t most = (size_t)list->n;
    for (int i = 0; i < list->n; i++)
        for (const char *p = list->items[i]; *p; p++)
            most += *p == '\n';
    if (!most)
        return true;
    t->cfg.features = t->features = calloc(most, sizeof *t->features);
    t->names = calloc(most, sizeof *t->names);
    if (!t->features || !t->names)
        return false;
    for (int i = 0; i < list->n; i++)
        for (const char *p = list->items[i]; *p;) {
            const size_t n = strcspn(p, "\n");
            if (!add_feature(t, p, n))
                return false;
            p += n + (p[n] == '\n');
        }
    return true;
}

static bool has_checkpoint(const char *folder)
{
    char path[4096];
    struct stat info;
    return snprintf(path, sizeof path, "%s/checkpoint.npz", folder) < (int)sizeof path && stat(path, &info) == 0;
}

/* Everything that can be refused before a model is read. */
static int refuse(const cli_command *c, const cli_train *a, rq_augment *augment)
{
    rq_err err = { 0 };
    if (!a->data)
        return cli_usage(c, "samples are missing: -d TRAIN");
    if (!a->out)
        return cli_usage(c, "the output is missing: -o OUT");
    if (!read_augment(a->augment, augment) && a->common.recipe &&
        rq_recipe_option(a->common.recipe, "augment") == a->augment) {
        fprintf(stderr, "requant %s: %s: augment takes flip, crop: N, or both; found '%s'\n", c->name,
                a->common.recipe_path, a->augment);
        return CLI_FAILED;
    }
    if (!read_augment(a->augment, augment))
        return cli_usage(c, "--augment takes flip, crop=N, or both with a comma; found '%s'", a->augment);
    if (a->checkpoint_steps && !a->checkpoint && !a->resume)
        return cli_usage(c, "--checkpoint-steps needs a folder: --checkpoint DIR");
    if (a->nesterov && (a->optimizer != RQ_OPTIMIZER_SGD || (cli_given(&a->common, "momentum") && a->momentum == 0)))
        return cli_usage(c, "--nesterov is for sgd with momentum");
    if (cli_given(&a->common, "momentum") && a->optimizer != RQ_OPTIMIZER_SGD)
        return cli_usage(c, "--momentum says nothing here: it belongs to sgd");
    if (a->resume && !a->checkpoint && !has_checkpoint(a->resume)) {
        rq_fail(&err, RQ_NOT_FOUND,
                "%s: holds no checkpoint to go on from; with --checkpoint %s beside --resume a run begins where there "
                "is none",
                a->resume, a->resume);
        return cli_fail(c->name, &err);
    }
    if (rq_save_check(a->out, &err) || (a->json && rq_file_check_output(a->json, &err)))
        return cli_fail(c->name, &err);
    return CLI_OK;
}

/* A pretrained network, and batches unlike those that its batch norms have statistics of: training begins far below what it had. */
static void tell_of_batch_norms(const cli_training *t, const rq_train_epoch *e)
{
    const bool accuracy = isfinite(t->was_accuracy) && isfinite(e->accuracy);
    if (e->epoch != 1 || t->cfg.freeze_bn_after >= 0 || t->a->common.quiet ||
        !(accuracy ? e->accuracy < t->was_accuracy - 0.05 : e->loss > 1.5 * t->was_loss))
        return;
    if (accuracy)
        fprintf(stderr, "requant: warning: it trained at %.2f %% and was at %.2f %% before", 100 * e->accuracy,
                100 * t->was_accuracy);
    else
        fprintf(stderr, "requant: warning: it trained with a loss of %.4g and had %.4g before", e->loss, t->was_loss);
    fputs(
        ": batch norms use the statistics of each batch (--freeze-bn-after 0 keeps the model's own), or --lr is high\n",
        stderr);
}

static void tell_epoch(void *arg, const rq_train_epoch *e)
{
    cli_training *t = arg;
    cli_progress_end(&t->progress);
    tell_of_batch_norms(t, e);
    if (!t->table)
        return;
    printf("epoch %*lld  loss %-9.4g", e->epochs > 99 ? 4 : 2, (long long)e->epoch, e->loss);
    if (isfinite(e->accuracy))
        printf(" accuracy %6.2f %%", 100 * e->accuracy);
    if (isfinite(e->eval_loss))
        printf("   eval loss %-9.4g", e->eval_loss);
    if (isfinite(e->eval_accuracy))
        printf(" accuracy %6.2f %%", 100 * e->eval_accuracy);
    printf("   lr %-9.3g %.1f s%s\n", e->lr, e->seconds, e->best ? "  best" : "");
    fflush(stdout);
}

void cli_train_line(const cli_training *t, const char *what, double loss, double accuracy)
{
    if (!t->table)
        return;
    printf("%-*s", t->cfg.epochs > 99 ? 10 : 8, what); /* as wide as "epoch  1" */
    if (isfinite(loss))
        printf("  loss %-9.4g", loss);
    if (isfinite(accuracy))
        printf(" accuracy %6.2f %%", 100 * accuracy);
    putchar('\n');
    fflush(stdout);
}

/* Progress, and a line of where a resumed run goes on. */
static bool step(void *arg, const char *phase, int64_t done, int64_t total, double eta_s)
{
    cli_training *t = arg;
    if (strncmp(phase, "resumed", 7) != 0)
        return cli_progress_step(&t->progress, phase, done, total, eta_s);
    cli_progress_end(&t->progress);
    if (t->table) {
        printf("%s, %lld of its %lld steps done\n", phase, (long long)done, (long long)total);
        fflush(stdout);
    }
    return true;
}

int cli_train_begin(cli_training *t, const cli_command *c, const cli_train *a, const rq_graph *g,
                    const rq_graph *teacher)
{
    rq_err err = { 0 };
    *t =
        (cli_training) { .a = a, .command = c->name, .cfg = rq_train_defaults(), .was_loss = NAN, .was_accuracy = NAN };
    const int rc = refuse(c, a, &t->cfg.augment);
    if (rc)
        return rc;
    cli_progress_init(&t->progress, &a->common);
    t->table = !a->common.quiet && !cli_is_stdout(a->json);
    if (a->teacher && cli_load(&t->teacher, a->teacher, &a->common, &err))
        return cli_fail(c->name, &err);
    if (cli_open_data(&t->data, a->data, g, &a->common, &err) ||
        (a->eval && cli_open_data(&t->eval, a->eval, g, &a->common, &err)))
        return cli_fail(c->name, &err);
    t->teacher_or = teacher;
    t->cfg.optimizer = optimizer_of(a->optimizer);
    t->cfg.epochs = a->epochs;
    settle_loss(&t->cfg, a, g);
    return CLI_OK;
}

/* Options that change nothing beside the others, or contradict them: known once a preset has had its say. */
static int refuse_idle(const cli_training *t, const cli_command *c)
{
    const cli_train *a = t->a;
    const cli_common *given = &a->common;
    const rq_train_cfg *cfg = &t->cfg;
    const rq_schedule *s = &cfg->schedule;
    const int64_t steps = cli_train_steps(t) * cfg->epochs;
    if (s->kind != RQ_SCHEDULE_STEP && (cli_given(given, "every") || cli_given(given, "gamma")))
        return cli_usage(c, "--%s says nothing here: it belongs to --schedule step",
                         cli_given(given, "every") ? "every" : "gamma");
    if (s->kind != RQ_SCHEDULE_COSINE && cli_given(given, "lr-min"))
        return cli_usage(c, "--lr-min says nothing here: it belongs to --schedule cosine");
    if (cli_given(given, "lr-min") && s->lr_min > cfg->optimizer.lr)
        return cli_usage(c, "--lr-min %g is more than the rate to begin with, %g", s->lr_min, cfg->optimizer.lr);
    if (a->warmup > steps && steps)
        return cli_usage(c, "--warmup %lld is more than the %lld steps of this run", (long long)a->warmup,
                         (long long)steps);
    if (a->label_smoothing > 0 && (a->loss != CLI_LOSS_CE || cfg->distill >= 1))
        return cli_usage(c, "--label-smoothing says nothing here: it belongs to --loss ce");
    if (cli_given(given, "temperature") && cfg->distill == 0)
        return cli_usage(c, "--temperature says nothing here: it belongs to --loss distill, or --distill X");
    if (a->teacher && cfg->distill == 0 && !cfg->n_features)
        return cli_usage(c,
                         "--teacher says nothing here: nobody asks it without --loss distill, --distill or --feature");
    if (a->decay_all && cfg->optimizer.weight_decay == 0)
        return cli_usage(c, "--decay-all says nothing here: the weight decay is 0");
    if (a->json_steps && !a->json)
        return cli_usage(c, "--json-steps needs a file: --json FILE");
    return CLI_OK;
}

int cli_train_settle(cli_training *t, const cli_command *c)
{
    rq_train_cfg *cfg = &t->cfg;
    const cli_train *a = t->a;
    settle_optimizer(cfg, a);
    settle_schedule(cfg, a, cli_train_steps(t));
    if (!settle_features(t, &a->features))
        return cli_fail(c->name, &(rq_err) { .code = RQ_NO_MEMORY });
    const int rc = t->untrained ? CLI_OK : refuse_idle(t, c);
    if (rc)
        return rc;
    cfg->teacher = t->teacher ? t->teacher : t->teacher_or;
    if (cfg->distill == 0 && !cfg->n_features) /* nobody asks it */
        cfg->teacher = NULL;
    else if (!cfg->teacher)
        return cli_usage(c, "distillation needs a teacher: --teacher MODEL");
    if (t->eval && !t->untrained && cfg->distill < 1 && !rq_dataset_labels(t->eval) &&
        !rq_dataset_has_target(t->eval)) {
        fprintf(stderr, "requant %s: %s: the samples to evaluate on have neither labels nor an array 'target'\n",
                c->name, a->eval);
        return CLI_FAILED;
    }
    cfg->seed = (uint64_t)a->seed;
    cfg->threads = (int)a->common.threads;
    cfg->onednn = !a->common.deterministic && (cli_onednn(&a->common) || !cli_given(&a->common, "products"));
    cfg->checkpoint_activations = a->checkpoint_activations;
    cfg->drop_last = a->drop_last;
    cfg->output = a->output;
    cfg->freeze_bn_after = a->freeze_bn;
    cfg->reestimate_bn = a->reestimate_bn;
    cfg->keep_best = !a->keep_last;
    cfg->checkpoint = a->checkpoint ? a->checkpoint : a->resume;
    cfg->checkpoint_steps = a->checkpoint_steps;
    cfg->resume = a->resume;
    cfg->metrics = a->json;
    cfg->metrics_steps = a->json_steps;
    cfg->on_epoch = tell_epoch;
    cfg->on_epoch_arg = t;
    cfg->progress = step;
    cfg->progress_arg = t;
    return CLI_OK;
}

void cli_train_end(cli_training *t)
{
    cli_progress_end(&t->progress);
    for (int i = 0; i < t->cfg.n_features && t->names; i++)
        free(t->names[i]);
    free(t->names);
    free(t->features);
    rq_dataset_close(t->data);
    rq_dataset_close(t->eval);
    rq_graph_destroy(t->teacher);
}
