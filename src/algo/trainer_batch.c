/* algo/trainer_batch.c — one batch through the network: outputs, targets, the loss and what it is made of, gradients, a step. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "algo/report_priv.h"
#include "algo/trainer.h"
#include "base/mem.h"

/* ---- what is not finite ---- */

/* Readers refuse NaN; an infinity would show as a loss that is not a number much later, or not at all: fake-quantizers saturate it. */
static rq_status refuse_infinities(rq_dataset *data, const char *what, const char *name, const rq_tensor *x,
                                   const int64_t *rows, int64_t n, rq_err *err)
{
    const int64_t count = rq_tensor_count(x), per = n > 0 && count % n == 0 ? count / n : 0;
    for (int64_t i = 0; x->dtype == RQ_DTYPE_F32 && i < count; i++)
        if (!isfinite(x->f32[i]))
            return rq_fail(err, RQ_BAD_DATA, "%s: row %" PRId64 " of %s '%s' holds %s; training wants finite numbers",
                           rq_dataset_path(data), per ? rows[i / per] : 0, what, name,
                           isnan(x->f32[i]) ? "a NaN" : "an infinity");
    return RQ_OK;
}

/* ---- targets ---- */

bool rq_trainer_has_targets(const rq_trainer *t, rq_dataset *data)
{
    return (t->teacher && t->cfg.distill >= 1) || rq_dataset_has_target(data) || rq_dataset_labels(data);
}

/* Labels as the loss wants them, in `room` [n]. */
static rq_status labels_as_target(const rq_trainer *t, const int64_t *labels, const int64_t *rows, int64_t n,
                                  const rq_tensor *y, int64_t *room, rq_tensor *out, rq_err *err)
{
    char text[RQ_SHAPE_TEXT];
    rq_shape shape = { .rank = 1, .dim = { n } };
    for (int64_t i = 0; i < n; i++)
        room[i] = labels[rows[i]];
    if (t->cfg.loss.kind == RQ_LOSS_CROSS_ENTROPY) {
        shape.rank = y->shape.rank == 1 ? 0 : 1; /* a whole feed per row: one answer */
    } else {
        if (rq_tensor_count(y) != n)
            return rq_fail(
                err, RQ_BAD_DATA,
                "this loss takes labels where the model gives a number per sample; output '%s' is %s for %lld "
                "samples: give what it should be as an array 'target'",
                rq_graph_output(t->g, t->judged).name, rq_shape_text(&y->shape, text, sizeof text), (long long)n);
        shape = y->shape;
    }
    *out = rq_tensor_view(RQ_DTYPE_S64, &shape, room);
    return RQ_OK;
}

static rq_status add_task(rq_trainer *t, rq_dataset *data, const int64_t *rows, int64_t n, double share, bool train,
                          double *loss, rq_err *err)
{
    const rq_tensor *y = &t->out[t->judged];
    const int64_t *labels = rq_dataset_labels(data);
    rq_tensor target;
    int64_t *room = NULL;
    double one = 0;
    rq_status st;
    if (rq_dataset_has_target(data)) {
        st = rq_dataset_read_target(data, rows, n, &target, err);
        if (!st)
            st = refuse_infinities(data, "array", "target", &target, rows, n, err);
    } else if (!labels) {
        st = rq_fail(
            err, RQ_BAD_DATA,
            "%s: the samples have neither labels nor an array 'target' to train towards (distillation needs neither)",
            rq_dataset_path(data));
    } else {
        room = rq_mem_alloc((size_t)n, sizeof *room);
        st = room ? labels_as_target(t, labels, rows, n, y, room, &target, err)
                  : rq_fail(err, RQ_NO_MEMORY, "out of memory for a batch");
    }
    if (!st)
        st = rq_loss_compute(&t->cfg.loss, t->e, y, &target, &one, train ? t->grad : NULL, err);
    rq_mem_free(room);
    if (st)
        return st;
    *loss += share * one;
    for (int64_t i = 0, all = rq_tensor_count(y); train && share != 1 && i < all; i++)
        t->grad[i] = (float)share * t->grad[i];
    return RQ_OK;
}

/* ---- the teacher ---- */

static rq_status add_distillation(rq_trainer *t, double share, bool train, bool add, double *loss, rq_err *err)
{
    const rq_tensor *y = &t->out[t->judged];
    double one;
    float *grad = add ? t->grad2 : t->grad;
    RQ_TRY(rq_loss_compute(&t->cfg.distill_loss, t->e, y, &t->taught_out[t->taught], &one, train ? grad : NULL, err));
    *loss += share * one;
    for (int64_t i = 0, n = rq_tensor_count(y); train && i < n; i++)
        t->grad[i] = add ? t->grad[i] + (float)share * grad[i] : (float)share * grad[i];
    return RQ_OK;
}

static rq_status add_feature(rq_trainer *t, rq_trainer_feature *f, bool train, double *loss, rq_err *err)
{
    const rq_loss_cfg mse = rq_loss_defaults(RQ_LOSS_MSE);
    const int64_t n = rq_tensor_count(&f->own);
    double one;
    if (!rq_shape_equal(&f->own.shape, &f->teacher.shape)) {
        char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
        return rq_fail(err, RQ_BAD_SHAPE, "feature '%s' has shape %s, that of the teacher %s", f->cfg->value,
                       rq_shape_text(&f->own.shape, a, sizeof a), rq_shape_text(&f->teacher.shape, b, sizeof b));
    }
    if (n > f->room) {
        float *more = rq_mem_realloc(f->dy, (size_t)n, sizeof *more);
        if (!more)
            return rq_fail(err, RQ_NO_MEMORY, "out of memory for feature '%s'", f->cfg->value);
        f->dy = more;
        f->room = n;
    }
    RQ_TRY(rq_loss_compute(&mse, t->e, &f->own, &f->teacher, &one, train ? f->dy : NULL, err));
    *loss += f->cfg->weight * one;
    for (int64_t i = 0; train && i < n; i++)
        f->dy[i] = (float)f->cfg->weight * f->dy[i];
    if (train && f->told != f->dy) {
        RQ_TRY(rq_autograd_add_grad(t->a, f->cfg->value, f->dy, err));
        f->told = f->dy;
    }
    return RQ_OK;
}

/* ---- the batch ---- */

static rq_status make_room(rq_trainer *t, rq_err *err)
{
    const int64_t n = rq_tensor_count(&t->out[t->judged]);
    if (n <= t->room && t->grad)
        return RQ_OK;
    float *a = rq_mem_realloc(t->grad, (size_t)n, sizeof *a);
    if (a)
        t->grad = a;
    float *b = a ? rq_mem_realloc(t->grad2, (size_t)n, sizeof *b) : NULL;
    if (!b)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the gradient of the outputs");
    t->grad2 = b;
    t->room = n;
    return RQ_OK;
}

static rq_status add_losses(rq_trainer *t, rq_dataset *data, const rq_feed *feeds, int n_feeds, const int64_t *rows,
                            int64_t n, bool train, double *loss, rq_err *err)
{
    const double taught = t->teacher ? t->cfg.distill : 0;
    *loss = 0;
    RQ_TRY(make_room(t, err));
    if (t->teacher) {
        for (int i = 0; i < t->n_taught; i++)
            rq_tensor_release(&t->taught_out[i]);
        RQ_TRY(rq_session_run(t->teacher, feeds, n_feeds, t->taught_out, err));
    }
    if (taught < 1)
        RQ_TRY(add_task(t, data, rows, n, 1 - taught, train, loss, err));
    if (taught > 0)
        RQ_TRY(add_distillation(t, taught, train, taught < 1, loss, err));
    for (int i = 0; i < t->cfg.n_features; i++)
        RQ_TRY(add_feature(t, &t->features[i], train, loss, err));
    return RQ_OK;
}

static void count_right(const rq_trainer *t, const int64_t *labels, const int64_t *rows, int64_t n, rq_trainer_sums *s)
{
    const rq_tensor *y = &t->out[t->judged];
    const int64_t classes = y->shape.rank > 0 ? y->shape.dim[y->shape.rank - 1] : 1;
    if (!labels || classes < 1 || rq_tensor_count(y) != n * classes)
        return;
    for (int64_t i = 0; i < n; i++) {
        if (labels[rows[i]] == t->cfg.loss.ignore_index)
            continue;
        const int64_t x = rq_sums_top1(y, i * classes, classes);
        s->right += x >= 0 && x == labels[rows[i]];
        s->labelled++;
    }
}

static rq_status learn(rq_trainer *t, double lr, rq_err *err)
{
    rq_parameter *p;
    t->dy[t->judged] = rq_tensor_view(RQ_DTYPE_F32, &t->out[t->judged].shape, t->grad);
    rq_autograd_zero_grad(t->a);
    RQ_TRY(rq_autograd_backward(t->a, t->dy, err));
    const int n = rq_autograd_parameters(t->a, &p);
    RQ_TRY(rq_optimizer_step(t->o, p, n, lr, err));
    return rq_trainer_quantizer_step(t, err);
}

rq_status rq_trainer_batch(rq_trainer *t, rq_dataset *data, const rq_feed *feeds, int n_feeds, const int64_t *rows,
                           int64_t n, bool train, double lr, rq_trainer_sums *sums, rq_err *err)
{
    double loss = NAN;
    for (int i = 0; i < n_feeds; i++)
        RQ_TRY(refuse_infinities(data, "input", feeds[i].name, &feeds[i].tensor, rows, n, err));
    rq_autograd_train(t->a, train);
    RQ_TRY(rq_autograd_forward(t->a, feeds, n_feeds, t->out, err));
    if (train || rq_trainer_has_targets(t, data))
        RQ_TRY(add_losses(t, data, feeds, n_feeds, rows, n, train, &loss, err));
    if (train && !isfinite(loss))
        return rq_fail(err, RQ_NUMERIC, "the loss is %s; a lower learning rate than %g, warm-up or clipping may help",
                       isnan(loss) ? "not a number" : "infinite", lr);
    sums->loss += loss * (double)n;
    sums->samples += n;
    count_right(t, rq_dataset_labels(data), rows, n, sums);
    return train ? learn(t, lr, err) : RQ_OK;
}
