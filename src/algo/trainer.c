/* algo/trainer.c — the loop: epochs of shuffled batches, evaluation, the best kept.
 *
 * Everything that decides what comes next is in a few counters (epoch, step) and in what is trained; the order of an epoch's samples is drawn
 * anew from the seed and the epoch's number. So a checkpoint is small and a resumed run is the same run. */
#include "algo/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/report_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "ops/eval.h"
#include "requant/batch_norm.h"

rq_train_cfg rq_train_defaults(void)
{
    return (rq_train_cfg) { .epochs = 1,
                            .onednn = true,
                            .loss = rq_loss_defaults(RQ_LOSS_CROSS_ENTROPY),
                            .optimizer = rq_optimizer_defaults(RQ_OPTIMIZER_SGD),
                            .distill_loss = rq_loss_defaults(RQ_LOSS_KL),
                            .freeze_bn_after = -1,
                            .keep_best = true };
}

/* ---- create, destroy ---- */

static rq_status check_cfg(const rq_train_cfg *c, rq_err *err)
{
    if (c->epochs < 0 || c->epochs > INT32_MAX)
        return rq_fail(err, RQ_BAD_ARG, "%" PRId64 " epochs asked for", c->epochs);
    if (!(c->distill >= 0 && c->distill <= 1))
        return rq_fail(err, RQ_BAD_ARG, "the share of distillation is %g, expected 0 to 1", c->distill);
    if ((c->distill > 0 || c->n_features) && !c->teacher)
        return rq_fail(err, RQ_BAD_ARG, "distillation needs a teacher");
    if (c->augment.crop < 0 || c->checkpoint_steps < 0 || c->metrics_steps < 0 || c->reestimate_bn < 0)
        return rq_fail(err, RQ_BAD_ARG, "a number of pixels, steps or batches is negative");
    if (c->checkpoint_steps && !c->checkpoint)
        return rq_fail(err, RQ_BAD_ARG, "checkpoints every so many steps need a folder");
    return RQ_OK;
}

/* A copy of what is seen, kept in `to` until the next. */
static rq_status see(rq_tensor *to, const rq_tensor *x)
{
    if (to->dtype == x->dtype && rq_shape_equal(&to->shape, &x->shape)) {
        memcpy(to->data, x->data, x->bytes);
        return RQ_OK;
    }
    rq_tensor_release(to);
    return rq_tensor_copy(to, x);
}

static rq_status see_own(void *arg, const char *value, const rq_tensor *x, rq_err *err)
{
    rq_trainer_feature *f = arg;
    return see(&f->own, x) ? rq_fail(err, RQ_NO_MEMORY, "out of memory for feature '%s'", value) : RQ_OK;
}

static rq_status see_teacher(void *arg, const char *value, const rq_tensor *x, rq_err *err)
{
    rq_trainer_feature *f = arg;
    return see(&f->teacher, x) ? rq_fail(err, RQ_NO_MEMORY, "out of memory for feature '%s'", value) : RQ_OK;
}

static rq_status create_teacher(rq_trainer *t, rq_err *err)
{
    const rq_train_cfg *c = &t->cfg;
    const rq_session_cfg how = { .threads = c->threads, .onednn = c->onednn };
    RQ_TRY(rq_session_create(&t->teacher, c->teacher, &how, err));
    t->n_taught = rq_graph_n_outputs(c->teacher);
    RQ_TRY(rq_walk_output(c->teacher, c->output, &t->taught, err));
    t->taught_out = rq_mem_zalloc((size_t)t->n_taught + 1, sizeof *t->taught_out);
    t->features = rq_mem_zalloc((size_t)c->n_features + 1, sizeof *t->features);
    if (!t->taught_out || !t->features)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for a teacher");
    for (int i = 0; i < c->n_features; i++) {
        const rq_train_feature *f = &c->features[i];
        t->features[i].cfg = f;
        RQ_TRY(rq_autograd_tap(t->a, f->value, see_own, &t->features[i], err));
        RQ_TRY(rq_session_tap(t->teacher, f->teacher ? f->teacher : f->value, see_teacher, &t->features[i], err));
    }
    return RQ_OK;
}

/* Exporters write a network that is to be trained with batch norms and dropouts that train always. Here the mode decides, and what is
 * saved in the end shall infer: only the first output of a batch norm stays, and nothing says that it trains. */
static void leave_mode_open(rq_graph *g)
{
    bool changed = false;
    for (int i = 0; i < g->n_nodes; i++) {
        rq_node *n = &g->nodes[i];
        if (n->op && !strcmp(n->op, "Dropout") && !*n->domain && n->n_in > 2)
            n->n_in = 2, changed = true;
        if (!n->op || strcmp(n->op, "BatchNormalization") != 0)
            continue;
        bool used = false;
        for (int k = 1; k < n->n_out; k++)
            used |= n->out[k] != RQ_NONE && rq_graph_uses(g, n->out[k], NULL, 0) > 0;
        if (used)
            continue;
        changed = true;
        rq_attr_remove(g, i, "training_mode");
        for (; n->n_out > 1; n->n_out--)
            if (n->out[n->n_out - 1] != RQ_NONE)
                rq_graph_remove_value(g, n->out[n->n_out - 1]);
    }
    if (changed)
        rq_graph_prune(g); /* what said so */
}

static rq_status create(rq_trainer *t, rq_err *err)
{
    rq_train_cfg *c = &t->cfg;
    rq_autograd_cfg how = rq_autograd_defaults();
    RQ_TRY(check_cfg(c, err));
    how.threads = c->threads;
    how.onednn = c->onednn;
    how.checkpoint_activations = c->checkpoint_activations;
    how.seed = c->seed;
    if (t->q)
        how.n_fakes = rq_trainer_quantizer_fakes(t, &how.fakes);
    RQ_TRY(rq_walk_output(t->g, c->output, &t->judged, err));
    if (!t->q) {
        RQ_TRY(rq_eval_constants(t->g, err)); /* some exporters write weights as nodes */
        leave_mode_open(t->g);
    }
    RQ_TRY(rq_autograd_create(&t->a, t->g, &how, err));
    RQ_TRY(rq_exec_create(&t->e, c->threads, err));
    c->optimizer.exec = t->e;
    if (c->schedule.lr == 0)
        c->schedule.lr = c->optimizer.lr;
    RQ_TRY(rq_optimizer_create(&t->o, &c->optimizer, c->groups, c->n_groups, err));
    t->n_out = rq_graph_n_outputs(t->g);
    t->out = rq_mem_zalloc((size_t)t->n_out + 1, sizeof *t->out);
    t->dy = rq_mem_zalloc((size_t)t->n_out + 1, sizeof *t->dy);
    if (!t->out || !t->dy)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for a trainer");
    return c->teacher ? create_teacher(t, err) : RQ_OK;
}

rq_status rq_trainer_create(rq_trainer **out, rq_graph *g, rq_linear_quantizer *q, const rq_train_cfg *cfg, rq_err *err)
{
    const rq_train_cfg defaults = rq_train_defaults();
    g = g ? g : q ? rq_trainer_quantizer_model(q) : NULL;
    if (!g)
        return rq_fail(err, RQ_BAD_ARG, q ? "the quantizer was not prepared" : "nothing to train was given");
    rq_trainer *t = rq_mem_zalloc(1, sizeof *t);
    if (!t)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for a trainer");
    t->cfg = cfg ? *cfg : defaults;
    t->g = g;
    t->q = q;
    const rq_status st = create(t, err);
    if (st)
        rq_trainer_destroy(t);
    else
        *out = t;
    return st;
}

void rq_trainer_destroy(rq_trainer *t)
{
    if (!t)
        return;
    for (int i = 0; i < t->cfg.n_features && t->features; i++) {
        rq_tensor_release(&t->features[i].own);
        rq_tensor_release(&t->features[i].teacher);
        rq_mem_free(t->features[i].dy);
    }
    for (int i = 0; i < t->n_taught && t->taught_out; i++)
        rq_tensor_release(&t->taught_out[i]);
    if (t->metrics)
        fclose(t->metrics);
    rq_autograd_destroy(t->a);
    rq_session_destroy(t->teacher);
    rq_optimizer_destroy(t->o);
    rq_exec_destroy(t->e);
    rq_state_destroy(t->best_state);
    rq_mem_free(t->features);
    rq_mem_free(t->taught_out);
    rq_mem_free(t->out);
    rq_mem_free(t->dy);
    rq_mem_free(t->grad);
    rq_mem_free(t->grad2);
    rq_mem_free(t->order);
    rq_mem_free(t->rows);
    rq_mem_free(t->fingerprint);
    rq_mem_free(t);
}

rq_autograd *rq_trainer_autograd(rq_trainer *t)
{
    return t->a;
}

rq_train_epoch rq_trainer_result(const rq_trainer *t)
{
    return t->has_best && t->cfg.keep_best ? t->best : t->last;
}

/* ---- evaluation ---- */

static rq_status evaluate(rq_trainer *t, rq_dataset *data, rq_trainer_sums *s, rq_err *err)
{
    rq_walk w;
    const rq_feed *feeds;
    const int64_t *rows;
    int n_feeds;
    int64_t n;
    rq_status st = rq_walk_init(&w, data, NULL, 0, 0);
    if (st)
        return rq_fail(err, st, "out of memory for the evaluation");
    const int64_t total = rq_walk_total(&w);
    for (const double start = rq_clock_ms(); !(st = rq_walk_next(&w, &feeds, &n_feeds, &rows, &n, err)) && n;) {
        if ((st = rq_trainer_batch(t, data, feeds, n_feeds, rows, n, false, 0, s, err)))
            break;
        const double eta = (rq_clock_ms() - start) / 1e3 / (double)s->samples * (double)(total - s->samples);
        if (t->cfg.progress && !t->cfg.progress(t->cfg.progress_arg, "evaluating", s->samples, total, eta)) {
            st = rq_fail(err, RQ_CANCELLED, "cancelled while evaluating");
            break;
        }
    }
    rq_walk_release(&w);
    return st;
}

rq_status rq_trainer_evaluate(rq_trainer *t, rq_dataset *data, double *loss, double *accuracy, rq_err *err)
{
    rq_trainer_sums s = { 0 };
    bool *were;
    RQ_TRY(rq_trainer_quantizer_mute(t, &were, err));
    const rq_status st = evaluate(t, data, &s, err);
    rq_trainer_quantizer_unmute(t, were);
    *loss = s.samples ? s.loss / (double)s.samples : NAN;
    *accuracy = s.labelled ? (double)s.right / (double)s.labelled : NAN;
    return st;
}

/* ---- one epoch ---- */

static int64_t units(const rq_trainer *t, int64_t n)
{
    return t->cfg.schedule_epochs ? n * t->steps_per_epoch : n;
}

static double rate(const rq_trainer *t)
{
    rq_schedule s = t->cfg.schedule;
    s.warmup = units(t, s.warmup);
    s.every = units(t, s.every);
    s.total = s.total > 0 ? units(t, s.total) : t->cfg.epochs * t->steps_per_epoch;
    return rq_schedule_lr(&s, t->step);
}

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Samples of step `i` of this epoch, ascending, in t->rows. */
static int64_t rows_of_step(rq_trainer *t, const rq_dataset *data, int64_t i)
{
    const int64_t left = rq_dataset_count(data) - i * t->batch, n = left < t->batch ? left : t->batch;
    memcpy(t->rows, t->order + i * t->batch, (size_t)n * sizeof *t->rows);
    qsort(t->rows, (size_t)n, sizeof *t->rows, compare);
    return n;
}

static rq_status augment(const rq_trainer *t, const rq_feed *feeds, int n_feeds, int64_t n, rq_err *err)
{
    bool any = false;
    if (!t->cfg.augment.flip && !t->cfg.augment.crop)
        return RQ_OK;
    for (int i = 0; i < n_feeds; i++) {
        rq_tensor x = feeds[i].tensor; /* the dataset's own buffer, which is written anew for the next batch */
        if (x.shape.rank != 4 || x.shape.dim[0] != n)
            continue;
        RQ_TRY(rq_augment_apply(&t->cfg.augment, &x, t->rows, n, t->cfg.seed, t->epoch, err));
        any = true;
    }
    return any ? RQ_OK : rq_fail(err, RQ_BAD_DATA, "pictures were to be flipped or moved, and no input has four axes");
}

static rq_status tell(const rq_trainer *t, int64_t step, rq_err *err)
{
    char phase[48];
    const int64_t left = t->cfg.epochs * t->steps_per_epoch - t->step, made = t->step - t->began_step;
    const double eta = made > 0 ? (rq_clock_ms() - t->began_ms) / 1e3 / (double)made * (double)left : -1;
    snprintf(phase, sizeof phase, "epoch %d of %d", (int)t->epoch + 1, (int)t->cfg.epochs);
    if (t->cfg.progress && !t->cfg.progress(t->cfg.progress_arg, phase, step, t->steps_per_epoch, eta))
        return rq_fail(err, RQ_CANCELLED, "cancelled in epoch %d", (int)t->epoch + 1);
    return RQ_OK;
}

/* Say where a number went wrong. */
static rq_status blame(const rq_trainer *t, rq_status st, rq_err *err)
{
    char why[sizeof err->text];
    if (st != RQ_NUMERIC || !err)
        return st;
    snprintf(why, sizeof why, "%s", err->text);
    return rq_fail(err, st, "epoch %" PRId64 ", step %" PRId64 ": %s", t->epoch + 1, t->step + 1, why);
}

static rq_status train_step(rq_trainer *t, rq_dataset *data, rq_err *err)
{
    const rq_feed *feeds;
    int n_feeds;
    const int64_t n = rows_of_step(t, data, t->step_of_epoch);
    const double before = t->sums.loss, lr = rate(t);
    RQ_TRY(rq_dataset_read(data, t->rows, n, &feeds, &n_feeds, err));
    RQ_TRY(augment(t, feeds, n_feeds, n, err));
    const rq_status st = rq_trainer_batch(t, data, feeds, n_feeds, t->rows, n, true, lr, &t->sums, err);
    if (st)
        return blame(t, st, err);
    t->step++;
    t->step_of_epoch++;
    t->last.lr = lr;
    if (t->cfg.metrics_steps && t->step % t->cfg.metrics_steps == 0)
        RQ_TRY(rq_trainer_metrics_step(t, lr, (t->sums.loss - before) / (double)n, err));
    if (t->cfg.checkpoint_steps && t->step % t->cfg.checkpoint_steps == 0 && t->step_of_epoch < t->steps_per_epoch)
        RQ_TRY(rq_trainer_state_write(t, err));
    return tell(t, t->step_of_epoch, err);
}

static rq_status train_epoch(rq_trainer *t, rq_dataset *data, rq_err *err)
{
    rq_rng r;
    rq_rng_seed(&r, t->cfg.seed);
    rq_rng_seed(&r, rq_rng_u64(&r) + (uint64_t)t->epoch);
    rq_rng_shuffle(&r, t->order, rq_dataset_count(data));
    if (!t->step_of_epoch)
        t->sums = (rq_trainer_sums) { 0 };
    if (t->cfg.freeze_bn_after >= 0 && t->epoch >= t->cfg.freeze_bn_after)
        RQ_TRY(rq_autograd_freeze_batch_norm(t->a, NULL, true, err));
    while (t->step_of_epoch < t->steps_per_epoch)
        RQ_TRY(train_step(t, data, err));
    return RQ_OK;
}

/* Is anything known by which it could be the best? Not of samples without labels and targets. */
static bool is_judged(const rq_train_epoch *e)
{
    return isfinite(e->eval_accuracy) || isfinite(e->eval_loss);
}

/* Is epoch a better than b? Accuracy, where both have one; then the loss. */
static bool is_better(const rq_train_epoch *a, const rq_train_epoch *b)
{
    if (a->quantized != b->quantized)
        return a->quantized; /* what is not quantized yet is not what will be delivered */
    if (isfinite(a->eval_accuracy) && isfinite(b->eval_accuracy) && a->eval_accuracy != b->eval_accuracy)
        return a->eval_accuracy > b->eval_accuracy;
    return a->eval_loss < b->eval_loss;
}

static rq_status end_epoch(rq_trainer *t, rq_dataset *eval, rq_err *err)
{
    rq_train_epoch *e = &t->last;
    const rq_trainer_sums *s = &t->sums;
    e->epoch = ++t->epoch;
    e->epochs = t->cfg.epochs;
    e->step = t->step;
    e->loss = s->samples ? s->loss / (double)s->samples : NAN;
    e->accuracy = s->labelled ? (double)s->right / (double)s->labelled : NAN;
    e->eval_loss = e->eval_accuracy = NAN;
    e->quantized = rq_trainer_quantizer_is_on(t);
    t->step_of_epoch = 0;
    if (eval)
        RQ_TRY(rq_trainer_evaluate(t, eval, &e->eval_loss, &e->eval_accuracy, err));
    e->seconds = (rq_clock_ms() - t->began_ms) / 1e3;
    e->best = is_judged(e) && (!t->has_best || is_better(e, &t->best));
    if (e->best) {
        t->best = *e;
        t->has_best = true;
        if (t->cfg.keep_best)
            RQ_TRY(rq_trainer_state_keep(t, err));
    }
    RQ_TRY(rq_trainer_metrics_epoch(t, e, err));
    if (t->cfg.checkpoint)
        RQ_TRY(rq_trainer_state_write(t, err));
    if (t->cfg.on_epoch)
        t->cfg.on_epoch(t->cfg.on_epoch_arg, e);
    return RQ_OK;
}

/* ---- the run ---- */

static rq_status tell_resumed(const rq_trainer *t, rq_err *err)
{
    char phase[64];
    const bool ended = t->epoch >= t->cfg.epochs;
    snprintf(phase, sizeof phase, "resumed in epoch %d of %d", (int)t->epoch + !ended, (int)t->cfg.epochs);
    if (t->cfg.progress && !t->cfg.progress(t->cfg.progress_arg, phase, ended ? t->steps_per_epoch : t->step_of_epoch,
                                            t->steps_per_epoch, -1))
        return rq_fail(err, RQ_CANCELLED, "cancelled where it was resumed");
    return RQ_OK;
}

static rq_status begin(rq_trainer *t, rq_dataset *train, rq_dataset *eval, rq_err *err)
{
    bool found = false;
    const int64_t count = rq_dataset_count(train);
    t->batch = rq_dataset_batch_size(train);
    t->steps_per_epoch = t->cfg.drop_last ? count / t->batch : (count + t->batch - 1) / t->batch;
    t->order = rq_mem_alloc((size_t)count, sizeof *t->order);
    t->rows = rq_mem_alloc((size_t)t->batch, sizeof *t->rows);
    if (!t->order || !t->rows)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the order of %" PRId64 " samples", count);
    if (!t->steps_per_epoch)
        return rq_fail(err, RQ_BAD_DATA, "%s: %" PRId64 " samples do not fill a batch of %" PRId64,
                       rq_dataset_path(train), count, t->batch);
    if (t->cfg.checkpoint || t->cfg.resume)
        RQ_TRY(rq_trainer_state_fingerprint(t, train, eval, &t->fingerprint, err));
    if (t->cfg.resume)
        RQ_TRY(rq_trainer_state_resume(t, &found, err));
    if (!found && t->cfg.metrics)
        RQ_TRY(rq_trainer_metrics_open(t, 0, err));
    if (!found && t->cfg.checkpoint)
        RQ_TRY(rq_trainer_state_write(t, err));
    t->began_ms = rq_clock_ms();
    t->began_step = t->step;
    return found ? tell_resumed(t, err) : RQ_OK;
}

/* Statistics of batch norms with the weights as they are in the end. */
static rq_status reestimate(rq_trainer *t, rq_dataset *train, rq_err *err)
{
    bool *were;
    RQ_TRY(rq_trainer_quantizer_mute(t, &were, err));
    const rq_status st = rq_batch_norm_reestimate(t->a, t->g, train, t->cfg.reestimate_bn, NULL, err);
    rq_trainer_quantizer_unmute(t, were);
    return st;
}

rq_status rq_trainer_run(rq_trainer *t, rq_dataset *train, rq_dataset *eval, rq_err *err)
{
    rq_parameter *parameters;
    if (t->ran)
        return rq_fail(err, RQ_BAD_ARG, "this trainer has run already");
    if (!rq_autograd_parameters(t->a, &parameters))
        return rq_fail(err, RQ_BAD_GRAPH,
                       "there is nothing to train: no node of the graph has a float constant for a weight, a bias or a "
                       "parameter of a normalization");
    t->ran = true;
    RQ_TRY(begin(t, train, eval, err));
    while (t->epoch < t->cfg.epochs) {
        RQ_TRY(train_epoch(t, train, err));
        RQ_TRY(end_epoch(t, eval, err));
    }
    if (t->cfg.keep_best && t->has_best && t->best_state && t->best.epoch != t->last.epoch)
        RQ_TRY(rq_trainer_state_load(t, t->best_state, "", err));
    rq_autograd_train(t->a, false);
    rq_trainer_quantizer_settle(t);
    return t->cfg.reestimate_bn ? reestimate(t, train, err) : RQ_OK;
}
