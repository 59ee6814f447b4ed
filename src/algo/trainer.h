/* algo/trainer.h — a trainer inside: trainer.c has the loop, trainer_batch.c one batch (targets, losses, teacher), trainer_state.c what is
 * kept and put back, trainer_quantizer.c fake-quantizers, trainer_metrics.c the file of JSON lines. */
#ifndef RQ_ALGO_TRAINER_H
#define RQ_ALGO_TRAINER_H

#include <stdio.h>

#include "graph/graph.h"
#include "requant/train.h"

/* A value whose distance to the teacher's is part of the loss. */
typedef struct rq_trainer_feature {
    const rq_train_feature *cfg;
    rq_tensor own, teacher; /* copies, of this batch */
    float *dy;
    int64_t room;
    const float *told; /* dy as rq_autograd_add_grad knows it */
} rq_trainer_feature;

/* Sums over batches. */
typedef struct rq_trainer_sums {
    double loss; /* weighed by samples */
    int64_t samples, right, labelled;
} rq_trainer_sums;

struct rq_trainer {
    rq_train_cfg cfg;
    rq_graph *g;            /* that is trained: q's model, or the caller's graph */
    rq_linear_quantizer *q; /* NULL: none */
    rq_autograd *a;
    rq_exec *e;
    rq_optimizer *o;
    rq_session *teacher;
    rq_trainer_feature *features;
    int judged, taught; /* output of the network, of the teacher */
    int n_out, n_taught;
    rq_tensor *out, *dy; /* [n_out] views; dy: of the judged one, the rest empty */
    rq_tensor *taught_out;
    float *grad, *grad2; /* of the judged output: of the loss, of distillation */
    int64_t room;
    char *fingerprint; /* lines of key=value: what makes this run this run */

    /* where the run is; all of it is kept in checkpoints */
    int64_t epoch, step;       /* whole epochs done; steps done */
    int64_t step_of_epoch;     /* steps done in the epoch that is under way */
    rq_trainer_sums sums;      /* of that epoch */
    rq_train_epoch last, best; /* epochs; best.epoch 0: none */
    bool has_best;
    rq_state *best_state;

    /* of the run */
    int64_t steps_per_epoch, batch;
    int64_t *order, *rows;
    double began_ms;
    int64_t began_step;
    FILE *metrics;
    bool ran;
};

/* ---- trainer_batch.c ---- */

/* Run one batch: outputs, loss, and (train) gradients and an optimizer's step at rate lr. */
rq_status rq_trainer_batch(rq_trainer *t, rq_dataset *data, const rq_feed *feeds, int n_feeds, const int64_t *rows,
                           int64_t n, bool train, double lr, rq_trainer_sums *sums, rq_err *err);
/* Can a loss be computed on these samples? */
bool rq_trainer_has_targets(const rq_trainer *t, rq_dataset *data);

/* ---- trainer_state.c ---- */

/* Parameters, running statistics and fake-quantizers under prefix. */
rq_status rq_trainer_state_save(rq_trainer *t, rq_state *s, const char *prefix, rq_err *err);
rq_status rq_trainer_state_load(rq_trainer *t, const rq_state *s, const char *prefix, rq_err *err);
/* Write a checkpoint into cfg.checkpoint. */
rq_status rq_trainer_state_write(rq_trainer *t, rq_err *err);
/* Go on from cfg.resume. *found: there was one. */
rq_status rq_trainer_state_resume(rq_trainer *t, bool *found, rq_err *err);
/* Lines of key=value, yours (rq_mem_free): model, config, samples. */
rq_status rq_trainer_state_fingerprint(rq_trainer *t, rq_dataset *train, rq_dataset *eval, char **out, rq_err *err);
/* Remember the parameters as the best; put them back. */
rq_status rq_trainer_state_keep(rq_trainer *t, rq_err *err);

/* ---- trainer_quantizer.c ---- */

rq_graph *rq_trainer_quantizer_model(rq_linear_quantizer *q);
/* Its fake-quantizers; 0 and *fakes as it was: there is none. */
int rq_trainer_quantizer_fakes(const rq_trainer *t, rq_fake_quantizer *const **fakes);
/* Do all of them quantize? false: there are none. */
bool rq_trainer_quantizer_is_on(const rq_trainer *t);
/* Observers off; what they were goes to *were, which unmute takes. */
rq_status rq_trainer_quantizer_mute(const rq_trainer *t, bool **were, rq_err *err);
void rq_trainer_quantizer_unmute(const rq_trainer *t, bool *were);
/* Observers off for good: what was evaluated is what is delivered. */
void rq_trainer_quantizer_settle(const rq_trainer *t);
rq_status rq_trainer_quantizer_step(rq_trainer *t, rq_err *err);
/* Its config as YAML, yours (rq_mem_free); NULL: there is no quantizer. */
rq_status rq_trainer_quantizer_config(const rq_trainer *t, char **out, rq_err *err);
rq_status rq_trainer_quantizer_save(rq_trainer *t, rq_state *s, const char *prefix);
rq_status rq_trainer_quantizer_load(rq_trainer *t, const rq_state *s, const char *prefix, rq_err *err);

/* ---- trainer_metrics.c ---- */

/* Open cfg.metrics for writing from byte `at` on: what stands behind it is cut off. */
rq_status rq_trainer_metrics_open(rq_trainer *t, int64_t at, rq_err *err);
rq_status rq_trainer_metrics_epoch(rq_trainer *t, const rq_train_epoch *e, rq_err *err);
rq_status rq_trainer_metrics_step(rq_trainer *t, double lr, double loss, rq_err *err);
/* Bytes written. */
int64_t rq_trainer_metrics_at(const rq_trainer *t);

#endif
