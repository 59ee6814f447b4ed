/* requant/optim.h — optimizers and learning-rate schedules, with PyTorch's formulas and names.
 *
 * Parameters are those of rq_autograd_parameters; groups choose by role and name. State (momentum buffers) is kept per parameter name. One
 * thread at a time; the same bits at any number of threads. */
#ifndef REQUANT_OPTIM_H
#define REQUANT_OPTIM_H

#include <requant/autograd.h>
#include <requant/exec.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rq_optimizer_kind {
    RQ_OPTIMIZER_SGD,
    RQ_OPTIMIZER_ADAM,
    RQ_OPTIMIZER_ADAMW,
    RQ_N_OPTIMIZERS
} rq_optimizer_kind;

typedef struct rq_optimizer_cfg {
    rq_optimizer_kind kind;
    double lr;                  /* SGD 0.01, ADAM and ADAMW 0.001 */
    double momentum, dampening; /* SGD */
    bool nesterov;              /* SGD */
    double beta1, beta2, eps;   /* ADAM, ADAMW: 0.9, 0.999, 1e-8 */
    double weight_decay;        /* SGD, ADAM: added to the gradient; ADAMW: decoupled (0.01) */
    bool decay_all;  /* weight decay on biases, norms and scales too (PyTorch's way); false: on weights only */
    double scale_lr; /* rate of scales and zero points as a factor of lr; 1 */
    /* Of gradients before the step; 0: none. First each is held within +-clip_value, then all parameters that are trained together within clip_norm,
     * as clip_grad_value_ and clip_grad_norm_ do; the gradients themselves stay as they are. */
    double clip_norm, clip_value;
    rq_exec *exec; /* threads of the step; borrowed; NULL: the caller's own. The same bits with any */
} rq_optimizer_cfg;
/* PyTorch's defaults for kind; scale_lr 1, nothing clipped, the caller's own thread. */
RQ_API rq_optimizer_cfg rq_optimizer_defaults(rq_optimizer_kind kind);

/* A group: parameters whose role (-1: any) and name (pattern with * and ?, NULL: any) fit; the first group that fits counts. */
typedef struct rq_param_group {
    int role;
    const char *name;
    double lr_factor;    /* of the rate of the step; 0: frozen */
    double weight_decay; /* < 0: the optimizer's */
} rq_param_group;

typedef struct rq_optimizer rq_optimizer;
/* cfg NULL: SGD's defaults; groups and their names are copied. RQ_BAD_ARG: a number out of its range is named; RQ_NO_MEMORY. */
RQ_API rq_status rq_optimizer_create(rq_optimizer **out, const rq_optimizer_cfg *cfg, const rq_param_group *groups,
                                     int n_groups, rq_err *err);
RQ_API void rq_optimizer_destroy(rq_optimizer *o); /* NULL is fine */
/* Update p[n] from their gradients at this rate (< 0: cfg.lr). RQ_NUMERIC: a gradient is not finite, the parameter is named; RQ_BAD_ARG: the rate
 * is not; RQ_BAD_SHAPE: a parameter has another size than in the step before; RQ_NOT_FOUND: a group fits no parameter (first step); RQ_NO_MEMORY. After
 * an error nothing was changed. */
RQ_API rq_status rq_optimizer_step(rq_optimizer *o, rq_parameter *p, int n, double lr, rq_err *err);
/* Momentum buffers and step count under `prefix` (NULL: none), with PyTorch's names ("<parameter>.exp_avg"); what is loaded takes the place of all
 * that was there, after an error nothing did. RQ_NO_MEMORY; RQ_BAD_DATA: under the prefix is something that an optimizer of this kind does not keep. */
RQ_API rq_status rq_optimizer_save(const rq_optimizer *o, rq_state *s, const char *prefix);
RQ_API rq_status rq_optimizer_load(rq_optimizer *o, const rq_state *s, const char *prefix, rq_err *err);

typedef enum rq_schedule_kind {
    RQ_SCHEDULE_CONSTANT,
    RQ_SCHEDULE_STEP,
    RQ_SCHEDULE_COSINE,
    RQ_N_SCHEDULES
} rq_schedule_kind;
typedef struct rq_schedule {
    rq_schedule_kind kind;
    double lr;      /* at the start */
    double lr_min;  /* COSINE: at the end */
    int64_t warmup; /* steps in which the rate rises from 0 to lr, linearly */
    int64_t total;  /* steps in all, warm-up included (COSINE) */
    int64_t every;  /* STEP: steps between drops */
    double gamma;   /* STEP: factor of each drop */
} rq_schedule;
/* The rate of step t (0 is the first). COSINE: lr_min + (lr - lr_min) (1 + cos(pi t' / T)) / 2 over the T steps behind the warm-up. */
RQ_API double rq_schedule_lr(const rq_schedule *s, int64_t t);

/* ---- losses ---- */

typedef enum rq_loss_kind {
    RQ_LOSS_MSE,           /* mean of (y - t)^2, t broadcast to y */
    RQ_LOSS_CROSS_ENTROPY, /* of logits [n][c][...], classes int64 [n][...] or probabilities of y's shape; label smoothing */
    RQ_LOSS_BCE,           /* binary cross-entropy of logits with targets in [0, 1] */
    RQ_LOSS_KL, /* distillation: KL(softmax(t / T) || softmax(y / T)) T^2, mean over rows (the last axis of c) */
    RQ_N_LOSSES
} rq_loss_kind;
typedef struct rq_loss_cfg {
    rq_loss_kind kind;
    double label_smoothing; /* CROSS_ENTROPY, [0, 1) */
    double temperature;     /* KL; 1 */
    int axis;               /* of classes; CROSS_ENTROPY 1, KL -1 */
    int64_t ignore_index;   /* CROSS_ENTROPY: such targets count for nothing; -100 */
    bool probabilities; /* y is not logits but what a Softmax (Sigmoid) gave: its gradient is through the logarithm */
} rq_loss_cfg;
/* What the comments of the fields say: no smoothing, temperature 1, the usual axis, logits. */
RQ_API rq_loss_cfg rq_loss_defaults(rq_loss_kind kind);
/* *loss of y [f32] against target; dy (NULL: not wanted) [y's shape] its gradient. The threads are e's (NULL: the caller's own), the bits the same
 * with any. Where all targets are ignored loss and gradient are 0 (PyTorch: NaN). RQ_BAD_ARG, RQ_BAD_SHAPE, RQ_BAD_DTYPE, RQ_NO_MEMORY; RQ_BAD_DATA: a
 * class out of range. */
RQ_API rq_status rq_loss_compute(const rq_loss_cfg *cfg, rq_exec *e, const rq_tensor *y, const rq_tensor *target,
                                 double *loss, float *dy, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
