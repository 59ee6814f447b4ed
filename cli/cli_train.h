/* cli/cli_train.h — what requant train and requant qat have in common: options, their meaning, and how epochs are told (train_common.c). */
#ifndef CLI_CLI_TRAIN_H
#define CLI_CLI_TRAIN_H

#include "cli.h"

typedef struct cli_train {
    cli_common common;
    const char *data, *out, *eval, *output, *teacher, *json, *checkpoint, *resume, *augment;
    int loss, optimizer, schedule; /* positions in the words of their rows */
    double lr, lr_min, momentum, weight_decay, scale_lr, clip_norm, clip_value, label_smoothing, temperature, distill,
        gamma;
    bool nesterov, decay_all, checkpoint_activations, drop_last, keep_last;
    int64_t epochs, warmup, every, seed, freeze_bn, reestimate_bn, checkpoint_steps, json_steps;
    cli_list features;
} cli_train;

enum { CLI_LOSS_CE, CLI_LOSS_MSE, CLI_LOSS_BCE, CLI_LOSS_DISTILL };

/* Rows of options for arguments that have a cli_train at their beginning. */
#define CLI_ROWS_TRAIN_DATA                                                                                            \
    CLI_ROWS_DATA_BUT("float products: onednn, the fastest (default), or own, the same bits on every CPU")
#define CLI_TRAIN_TO(field) offsetof(cli_train, field)
#define CLI_ROWS_TRAIN                                                                                                      \
    { CLI_IN,                                                                                                               \
      'd',                                                                                                                  \
      "data",                                                                                                               \
      "TRAIN",                                                                                                              \
      CLI_TRAIN_TO(data),                                                                                                   \
      "samples to train on: .npz, .npy, or a folder of either or of pictures; with `labels`, or with an array "             \
      "`target`",                                                                                                           \
      NULL,                                                                                                                 \
      0,                                                                                                                    \
      0 },                                                                                                                  \
        { CLI_OUT, 'o', "out", "OUT", CLI_TRAIN_TO(out), "write the model here; the suffix names the format", NULL, 0, 0 }, \
        { CLI_IN,                                                                                                           \
          0,                                                                                                                \
          "eval",                                                                                                           \
          "DATA",                                                                                                           \
          CLI_TRAIN_TO(eval),                                                                                               \
          "judge every epoch on these samples, and keep the best (default: the last is kept)",                              \
          NULL,                                                                                                             \
          0,                                                                                                                \
          0 },                                                                                                              \
        { CLI_ENUM,                                                                                                         \
          0,                                                                                                                \
          "loss",                                                                                                           \
          "ce|mse|bce|distill",                                                                                             \
          CLI_TRAIN_TO(loss),                                                                                               \
          "cross-entropy (default), mean squared error, binary cross-entropy, or what the teacher says",                    \
          "ce|mse|bce|distill",                                                                                             \
          0,                                                                                                                \
          0 },                                                                                                              \
        { CLI_NUM,                                                                                                          \
          0,                                                                                                                \
          "label-smoothing",                                                                                                \
          "X",                                                                                                              \
          CLI_TRAIN_TO(label_smoothing),                                                                                    \
          "cross-entropy: so much of the target is spread over all classes (default 0)",                                    \
          NULL,                                                                                                             \
          0,                                                                                                                \
          0.999 },                                                                                                          \
        { CLI_STR, 0, "output", "NAME", CLI_TRAIN_TO(output), "output that the loss is about (default: the first)",         \
          NULL,    0, 0 },                                                                                                  \
        { CLI_NUM,                                                                                                          \
          0,                                                                                                                \
          "distill",                                                                                                        \
          "X",                                                                                                              \
          CLI_TRAIN_TO(distill),                                                                                            \
          "share of the teacher in the loss (default 1 with --loss distill, else 0)",                                       \
          NULL,                                                                                                             \
          0,                                                                                                                \
          1 },                                                                                                              \
        { CLI_NUM, 0, "temperature", "T", CLI_TRAIN_TO(temperature), "of distillation (default 1)", NULL, 1e-3, 1e6 },      \
        { CLI_LIST,                                                                                                         \
          0,                                                                                                                \
          "feature",                                                                                                        \
          "NAME",                                                                                                           \
          CLI_TRAIN_TO(features),                                                                                           \
          "this value of the network shall be what it is in the teacher: NAME, or NAME=WEIGHT; may be repeated",            \
          NULL,                                                                                                             \
          0,                                                                                                                \
          0 },                                                                                                              \
        { CLI_ENUM,                                                                                                         \
          0,                                                                                                                \
          "optimizer",                                                                                                      \
          "sgd|adam|adamw",                                                                                                 \
          CLI_TRAIN_TO(optimizer),                                                                                          \
          "how parameters move (default sgd)",                                                                              \
          "sgd|adam|adamw",                                                                                                 \
          0,                                                                                                                \
          0 },                                                                                                              \
        { CLI_NUM,                                                                                                          \
          0,                                                                                                                \
          "lr",                                                                                                             \
          "X",                                                                                                              \
          CLI_TRAIN_TO(lr),                                                                                                 \
          "learning rate (default: sgd 0.01, adam and adamw 0.001; qat a tenth of it)",                                     \
          NULL,                                                                                                             \
          0,                                                                                                                \
          1e6 },                                                                                                            \
        { CLI_NUM, 0, "momentum", "X", CLI_TRAIN_TO(momentum), "of sgd (default 0.9)", NULL, 0, 1 },                        \
        { CLI_FLAG, 0, "nesterov", NULL, CLI_TRAIN_TO(nesterov), "Nesterov's momentum", NULL, 0, 0 },                       \
        { CLI_NUM,                                                                                                          \
          0,                                                                                                                \
          "weight-decay",                                                                                                   \
          "X",                                                                                                              \
          CLI_TRAIN_TO(weight_decay),                                                                                       \
          "of weights; not of biases, norms and scales (default: adamw 0.01, else 0)",                                      \
          NULL,                                                                                                             \
          0,                                                                                                                \
          1e6 },                                                                                                            \
        { CLI_FLAG, 0, "decay-all", NULL, CLI_TRAIN_TO(decay_all), "weight decay on these too", NULL, 0, 0 },               \
        { CLI_NUM, 0, "clip-norm", "X", CLI_TRAIN_TO(clip_norm), "hold the norm of all gradients within X",                 \
          NULL,    0, 1e30 },                                                                                               \
        { CLI_NUM, 0, "clip-value", "X", CLI_TRAIN_TO(clip_value), "hold each gradient within X", NULL, 0, 1e30 },          \
        { CLI_ENUM,                                                                                                         \
          0,                                                                                                                \
          "schedule",                                                                                                       \
          "constant|step|cosine",                                                                                           \
          CLI_TRAIN_TO(schedule),                                                                                           \
          "how the learning rate falls (default constant)",                                                                 \
          "constant|step|cosine",                                                                                           \
          0,                                                                                                                \
          0 },                                                                                                              \
        { CLI_INT, 0, "warmup", "N", CLI_TRAIN_TO(warmup), "the rate rises from 0 over the first N steps", NULL, 0, 1e15 }, \
        { CLI_NUM, 0, "lr-min", "X", CLI_TRAIN_TO(lr_min), "cosine: the rate at the end (default 0)", NULL, 0, 1e6 },       \
        { CLI_INT, 0, "every", "N", CLI_TRAIN_TO(every), "step: the rate drops every N epochs (default 1)", NULL, 1, 1e9 }, \
        { CLI_NUM, 0, "gamma", "X", CLI_TRAIN_TO(gamma), "step: factor of a drop (default 0.1)", NULL, 0, 10 },             \
        { CLI_INT, 0, "epochs", "N", CLI_TRAIN_TO(epochs), "how often all samples are seen (default 1)",                    \
          NULL,    0, 1000000 },                                                                                            \
        { CLI_STR,                                                                                                          \
          0,                                                                                                                \
          "augment",                                                                                                        \
          "HOW",                                                                                                            \
          CLI_TRAIN_TO(augment),                                                                                            \
          "change pictures at random: flip (left and right), crop=N (moved by up to N pixels), or both with a comma",       \
          NULL,                                                                                                             \
          0,                                                                                                                \
          0 },                                                                                                              \
        { CLI_INT, 0, "seed", "N", CLI_TRAIN_TO(seed), "of everything that is random (default 0)", NULL, 0, 9e15 },         \
        { CLI_INT,                                                                                                          \
          0,                                                                                                                \
          "freeze-bn-after",                                                                                                \
          "N",                                                                                                              \
          CLI_TRAIN_TO(freeze_bn),                                                                                          \
          "batch norms keep their statistics after N epochs",                                                               \
          NULL,                                                                                                             \
          0,                                                                                                                \
          1000000 },                                                                                                        \
        { CLI_FLAG, 0, "drop-last", NULL, CLI_TRAIN_TO(drop_last), "leave out samples that do not fill a batch", NULL,      \
          0,        0 },                                                                                                    \
        { CLI_FLAG, 0, "keep-last", NULL, CLI_TRAIN_TO(keep_last), "keep the last epoch, not the best", NULL, 0, 0 },       \
        { CLI_FLAG,                                                                                                         \
          0,                                                                                                                \
          "checkpoint-activations",                                                                                         \
          NULL,                                                                                                             \
          CLI_TRAIN_TO(checkpoint_activations),                                                                             \
          "a third more work, much less memory; the same bits",                                                             \
          NULL,                                                                                                             \
          0,                                                                                                                \
          0 },                                                                                                              \
        { CLI_STR,                                                                                                          \
          0,                                                                                                                \
          "checkpoint",                                                                                                     \
          "DIR",                                                                                                            \
          CLI_TRAIN_TO(checkpoint),                                                                                         \
          "keep all that is needed to go on in this folder, after every epoch",                                             \
          NULL,                                                                                                             \
          0,                                                                                                                \
          0 },                                                                                                              \
        { CLI_INT, 0, "checkpoint-steps", "N", CLI_TRAIN_TO(checkpoint_steps), "and after every N steps", NULL, 1, 1e15 },  \
        { CLI_STR,                                                                                                          \
          0,                                                                                                                \
          "resume",                                                                                                         \
          "DIR",                                                                                                            \
          CLI_TRAIN_TO(resume),                                                                                             \
          "go on from the checkpoint in this folder (--checkpoint of the same folder: from the beginning where there "      \
          "is "                                                                                                             \
          "none yet)",                                                                                                      \
          NULL,                                                                                                             \
          0,                                                                                                                \
          0 },                                                                                                              \
        { CLI_OUT,                                                                                                          \
          0,                                                                                                                \
          "json",                                                                                                           \
          "FILE",                                                                                                           \
          CLI_TRAIN_TO(json),                                                                                               \
          "metrics as JSON lines, one object per epoch; of qat also the verdict, where simulation and integers "            \
          "differ, and "                                                                                                    \
          "all quantizers",                                                                                                 \
          NULL,                                                                                                             \
          0,                                                                                                                \
          0 },                                                                                                              \
    {                                                                                                                       \
        CLI_INT, 0, "json-steps", "N", CLI_TRAIN_TO(json_steps), "and one per N steps", NULL, 1, 1e15                       \
    }

/* One run of training. */
typedef struct cli_training {
    const cli_train *a;
    const char *command;
    cli_progress progress;
    rq_train_cfg cfg;
    rq_train_feature *features;
    char **names;               /* of features */
    rq_graph *teacher;          /* that --teacher names; NULL: none */
    const rq_graph *teacher_or; /* who teaches then */
    rq_dataset *data, *eval;
    bool table;
    bool untrained; /* nothing is trained, so that targets are not needed */
    double was_loss,
        was_accuracy; /* before training, where batch norms could spoil it; NaN: not known, or they cannot */
} cli_training;

void cli_train_defaults(cli_train *a);
/* Open samples; cfg as without options. teacher: who teaches where --teacher names nobody. CLI_OK, or what stands against it was said. */
int cli_train_begin(cli_training *t, const cli_command *c, const cli_train *a, const rq_graph *g,
                    const rq_graph *teacher);
/* Then the options that were given, over what is in cfg (a preset's). */
int cli_train_settle(cli_training *t, const cli_command *c);
/* Steps of an epoch. */
int64_t cli_train_steps(const cli_training *t);
/* A line of the table: what ("float") and how good it is. */
void cli_train_line(const cli_training *t, const char *what, double loss, double accuracy);
void cli_train_end(cli_training *t);

/* ---- verdict.c ---- */

typedef struct cli_verdict {
    const char *path; /* of the lines */
    bool append;      /* behind those of the epochs */
    int64_t epoch;    /* that is kept; 0: nothing was trained */
    double ptq_loss, ptq_accuracy;
    const rq_report *report;
    const rq_agreement *agreement;
    const rq_linear_quantizer_report *quantizer;
} cli_verdict;
/* {"verdict": ...}, {"simulation": ...} and {"quantizer": ...}. RQ_IO, RQ_NO_MEMORY. */
rq_status cli_verdict_write(const cli_verdict *v, rq_err *err);

#endif
