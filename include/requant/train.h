/* requant/train.h — train a graph on samples, or a LinearQuantizer's: the whole loop.
 *
 *   rq_train_cfg cfg = rq_train_defaults();
 *   cfg.epochs = 5;
 *   rq_trainer *t;
 *   rq_trainer_create(&t, g, NULL, &cfg, &err);        g is trained in place; or NULL, and a prepared rq_linear_quantizer
 *   rq_trainer_run(t, train, eval, &err);
 *   rq_trainer_destroy(t);                             g is what rq_save writes; of a quantizer: rq_linear_quantizer_finalize
 *
 * The order of samples, the changes made to pictures and what dropout drops follow from cfg.seed alone: not from threads, not from where a run was
 * interrupted. A run that was killed and resumed ends with the same bytes as one that was not. One thread at a time. */
#ifndef REQUANT_TRAIN_H
#define REQUANT_TRAIN_H

#include <requant/dataset.h>
#include <requant/linear_quantizer.h>
#include <requant/optim.h>
#include <requant/ptq.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Random changes to pictures: inputs of four axes, [n][c][h][w], or [n][h][w][c] where the last axis has 1 or 3 and the second has not. Each is drawn
 * from the seed, the epoch and the number of the sample. */
typedef struct rq_augment {
    bool flip; /* every other picture, left and right */
    int crop;  /* moved by up to so many pixels each way; what comes in is 0, as after padding */
} rq_augment;
/* Change n pictures x, samples rows[0..n), in place. RQ_BAD_SHAPE: not four axes; RQ_NO_MEMORY. */
RQ_API rq_status rq_augment_apply(const rq_augment *a, rq_tensor *x, const int64_t *rows, int64_t n, uint64_t seed,
                                  int64_t epoch, rq_err *err);

/* A value of the network that should be what one of the teacher is. */
typedef struct rq_train_feature {
    const char *value, *teacher; /* names; teacher NULL: the same */
    double weight;               /* of the mean squared difference, added to the loss */
} rq_train_feature;

/* One epoch, as told to on_epoch. NaN: not known (no labels, no samples to evaluate on). */
typedef struct rq_train_epoch {
    int64_t epoch, epochs; /* 1 is the first; 0: before training */
    int64_t step;          /* steps made since the beginning */
    double lr;             /* of its last step */
    double loss, accuracy; /* of the samples trained on, as they were seen; accuracy 0..1 */
    double eval_loss, eval_accuracy;
    double seconds; /* since the run began, resumed ones not counted together */
    bool best;      /* so far */
    bool quantized; /* fake-quantizers quantize (of a LinearQuantizer) */
} rq_train_epoch;
typedef void (*rq_train_epoch_fn)(void *arg, const rq_train_epoch *e);

/* Strings, lists, graphs are borrowed and must outlive the trainer. */
typedef struct rq_train_cfg {
    int64_t epochs;
    uint64_t seed;
    int threads; /* 0: one per core */
    bool onednn; /* rq_autograd_cfg.onednn */
    bool checkpoint_activations;
    bool drop_last; /* leave out what does not fill a batch; fixed batches always do */

    /* What is made small. Targets: array `target` of the samples (rq_dataset_read_target), else their labels: classes for cross-entropy, 0 and 1 (or any
     * number) for the others, where the model gives one number per sample. */
    rq_loss_cfg loss;
    const char *output; /* that it is about; NULL: the first */

    rq_optimizer_cfg optimizer; /* its exec is the trainer's own */
    const rq_param_group *groups;
    int n_groups;
    rq_schedule schedule; /* lr 0: the optimizer's; total 0: the whole run */
    bool schedule_epochs; /* warmup, total and every count epochs, not steps */

    rq_augment augment;

    /* Distillation: the loss is (1 - distill) loss + distill distill_loss(output, the teacher's) + the features. Without a share of `loss` no targets are needed. */
    const rq_graph *teacher; /* run as it is; NULL: none */
    double distill;          /* 0..1 */
    rq_loss_cfg distill_loss;
    const rq_train_feature *features;
    int n_features;

    int64_t freeze_bn_after; /* epochs; then batch norms keep their statistics. -1: never */
    /* At the end take the statistics of batch norms anew from so many batches, with the weights as they then are (rq_batch_norm_reestimate); 0: not */
    int64_t reestimate_bn;

    /* End with the parameters of the best epoch: by accuracy, else loss, of the samples to evaluate on; without such the last */
    bool keep_best;

    const char *checkpoint;   /* folder; made if need be; NULL: none. After every epoch, and: */
    int64_t checkpoint_steps; /* after so many steps; 0: not within epochs */
    const char *resume;       /* folder to go on from; NULL: begin. The same as `checkpoint` and nothing in it: begin */

    const char *metrics;   /* file of JSON lines, one object per epoch, and: */
    int64_t metrics_steps; /* one after so many steps; 0: not within epochs */

    rq_train_epoch_fn on_epoch; /* NULL: none; called, like progress, on the thread that runs the trainer */
    void *on_epoch_arg;
    rq_progress_fn
        progress; /* NULL: none. Phases "epoch 1 of 3", "calibrating", "evaluating"; "resumed in epoch 2 of 3": once, at the checkpoint's step */
    void *progress_arg;
} rq_train_cfg;
/* One epoch, cross-entropy, SGD with its defaults at a constant rate, oneDNN, best kept. Never fails. */
RQ_API rq_train_cfg rq_train_defaults(void);

typedef struct rq_trainer rq_trainer;
/* For graph g, or (g NULL) for a prepared q: rq_linear_quantizer_step is called after every step. Both are borrowed. g is trained in place, and
 * stays the graph it is, but that Constant nodes become constants of it, of which weights can be trained, and that batch norms and dropouts lose
 * what an exporter wrote to make them train always. Errors of rq_autograd_create,
 * rq_optimizer_create, rq_session_create (teacher); RQ_BAD_ARG: numbers out of range; RQ_NOT_FOUND: no such output or value; RQ_NO_MEMORY. */
RQ_API rq_status rq_trainer_create(rq_trainer **out, rq_graph *g, rq_linear_quantizer *q, const rq_train_cfg *cfg,
                                   rq_err *err);
RQ_API void rq_trainer_destroy(rq_trainer *t);          /* NULL is fine */
RQ_API rq_autograd *rq_trainer_autograd(rq_trainer *t); /* owned by t */

/* Let the fake-quantizers of q see `samples` of data (drawn by cfg.seed; 0: all) while nothing is quantized and nothing trained; then all quantize, and
 * observers are on. Errors of rq_autograd_forward and of reading data; RQ_CANCELLED. */
RQ_API rq_status rq_trainer_calibrate(rq_trainer *t, rq_dataset *data, int64_t samples, rq_err *err);

/* Loss and accuracy over all of data, in evaluation; observers see nothing. NaN: no targets, no labels. */
RQ_API rq_status rq_trainer_evaluate(rq_trainer *t, rq_dataset *data, double *loss, double *accuracy, rq_err *err);

/* All epochs; eval NULL: none. Once. Behind it the observers of q are off, so that rq_linear_quantizer_finalize gives what was evaluated. RQ_NUMERIC: the loss or a gradient is not finite, the step is named; RQ_CANCELLED; RQ_BAD_GRAPH: it has no
 * parameter; RQ_BAD_DATA: targets do not fit, or the checkpoint is of another run (what differs is said); RQ_IO, RQ_NOT_FOUND: there is no checkpoint to resume from. */
RQ_API rq_status rq_trainer_run(rq_trainer *t, rq_dataset *train, rq_dataset *eval, rq_err *err);
/* The epoch whose parameters the graph now has. */
RQ_API rq_train_epoch rq_trainer_result(const rq_trainer *t);

#ifdef __cplusplus
}
#endif
#endif
