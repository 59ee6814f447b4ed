/* cli/cmd_train.c — requant train: a network, samples, and what it shall give for them. */
#include <stdio.h>

#include "cli_train.h"

typedef struct train_args {
    cli_train train; /* begins with cli_common */
    int64_t init;
} train_args;

static const cli_opt opts[] = {
    CLI_ROWS_TRAIN,
    { CLI_IN, 0, "teacher", "MODEL", CLI_TRAIN_TO(teacher), "the model to distill from", NULL, 0, 0 },
    { CLI_INT, 0, "init", "SEED", offsetof(train_args, init),
      "draw all parameters anew first, as PyTorch's layers do (default: go on from those of MODEL)", NULL, 0, 9e15 },
    CLI_ROWS_TRAIN_DATA,
    CLI_ROWS_COMMON,
    { CLI_END, 0, NULL, NULL, 0, NULL, NULL, 0, 0 },
};

static void defaults(void *args)
{
    train_args *a = args;
    cli_train_defaults(&a->train);
}

static rq_status open_model(rq_graph **g, const train_args *a, rq_err *err)
{
    const cli_common *common = &a->train.common;
    const char *model = common->operand[0];
    rq_graph_summary sum;
    RQ_TRY(cli_load(g, model, common, err));
    RQ_TRY(cli_spare_weights(*g, model, a->train.out, err));
    RQ_TRY(rq_graph_summarize(*g, &sum, err));
    if (sum.is_quantized)
        return rq_fail(err, RQ_BAD_GRAPH, "%s is quantized; `requant qat` trains such a model as what it will be",
                       model);
    return cli_given(common, "init") ? rq_nn_reset_parameters(*g, (uint64_t)a->init, err) : RQ_OK;
}

static rq_status train(rq_graph *g, cli_training *t, rq_err *err)
{
    rq_trainer *trainer = NULL;
    double loss, accuracy;
    RQ_TRY(rq_trainer_create(&trainer, g, NULL, &t->cfg, err));
    rq_status st = RQ_OK;
    if (t->eval && !(st = rq_trainer_evaluate(trainer, t->eval, &loss, &accuracy, err))) {
        cli_progress_end(&t->progress);
        cli_train_line(t, "before", loss, accuracy);
    }
    if (!st)
        st = rq_trainer_run(trainer, t->data, t->eval, err);
    cli_progress_end(&t->progress);
    if (!st && t->eval && t->table && t->cfg.epochs) {
        printf("epoch %lld is kept\n", (long long)rq_trainer_result(trainer).epoch);
    }
    rq_trainer_destroy(trainer);
    return st;
}

static int run(void *args)
{
    train_args *a = args;
    rq_err err = { 0 };
    rq_graph *g = NULL;
    cli_training t = { 0 };
    int rc = CLI_FAILED;
    if (!a->train.data || !a->train.out) /* before the model is read */
        rc = cli_train_begin(&t, &cmd_train, &a->train, NULL, NULL);
    else if (open_model(&g, a, &err))
        cli_fail("train", &err);
    else if (!(rc = cli_train_begin(&t, &cmd_train, &a->train, g, NULL)) && !(rc = cli_train_settle(&t, &cmd_train)))
        rc = train(g, &t, &err) ||
                     cli_save(g, a->train.out, a->train.common.operand[0], NULL, "train", a->train.common.quiet, &err)
                 ? cli_fail("train", &err)
                 : CLI_OK;
    cli_train_end(&t);
    rq_graph_destroy(g);
    return rc;
}

const cli_command cmd_train = {
    .name = "train",
    .synopsis = "MODEL -d TRAIN -o OUT [--eval DATA] [OPTION]...",
    .summary = "train a float model, from its weights or from scratch",
    .about = "Trains MODEL on the samples in TRAIN and writes it to OUT. Targets are the array `labels` (classes), or "
             "`target`, "
             "what the output shall be; with --loss distill what --teacher gives, and neither is needed. With "
             "--checkpoint a run "
             "that was interrupted goes on with --resume, and ends with the same bytes as one that was not.",
    .min_operands = 1,
    .max_operands = 1,
    .args_size = sizeof(train_args),
    .opts = opts,
    .defaults = defaults,
    .run = run,
};
