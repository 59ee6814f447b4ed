/* cli/cmd_eval.c — requant eval: accuracy of one model where there are labels, else what its outputs look like. */
#include <stdio.h>

#include "cli.h"

typedef struct eval_args {
    cli_common common;
    const char *data, *json, *output;
} eval_args;

#define TO(field) offsetof(eval_args, field)
static const cli_opt opts[] = {
    { CLI_IN, 'd', "data", "DATA", TO(data), "samples: .npz, .npy, or a folder of either or of pictures", NULL, 0, 0 },
    { CLI_STR, 0, "output", "NAME", TO(output), "output whose last axis is the answer (default: the first)", NULL, 0,
      0 },
    { CLI_OUT, 0, "json", "FILE", TO(json), "write the result as JSON (-: standard output)", NULL, 0, 0 },
    CLI_ROWS_DATA,
    CLI_ROWS_COMMON,
    { CLI_END, 0, NULL, NULL, 0, NULL, NULL, 0, 0 },
};
#undef TO

static int run(void *args)
{
    eval_args *a = args;
    if (!a->data)
        return cli_usage(&cmd_eval, "samples are missing: -d DATA");
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_dataset *data = NULL;
    rq_eval result = { 0 };
    cli_progress progress;
    cli_progress_init(&progress, &a->common);
    int rc = CLI_FAILED;
    if (a->json && rq_file_check_output(a->json, &err))
        goto done;
    if (cli_load(&g, a->common.operand[0], &a->common, &err) || cli_open_data(&data, a->data, g, &a->common, &err))
        goto done;
    rq_report_cfg how = {
        .output = a->output,
        .threads = (int)a->common.threads,
        .onednn = cli_onednn(&a->common),
        .match = (rq_match)a->common.match,
        .progress = cli_progress_step,
        .progress_arg = &progress,
    };
    if (rq_eval_run(&result, g, data, &how, &err))
        goto done;
    cli_progress_end(&progress);
    if (!a->common.quiet && !cli_is_stdout(a->json))
        rq_eval_print(&result, stdout);
    if (a->json && rq_eval_save_json(&result, a->json, &err))
        goto done;
    rc = CLI_OK;
done:
    cli_progress_end(&progress);
    if (rc)
        cli_fail("eval", &err);
    rq_eval_release(&result);
    rq_dataset_close(data);
    rq_graph_destroy(g);
    return rc;
}

const cli_command cmd_eval = {
    .name = "eval",
    .synopsis = "MODEL -d DATA [--json FILE] [OPTION]...",
    .summary = "accuracy with labels, else statistics of the outputs",
    .about =
        "Runs MODEL, float or quantized, on every sample. With an array `labels` in DATA it reports top-1 accuracy "
        "with its 95 % interval, without it smallest, largest, mean and spread of each output.",
    .min_operands = 1,
    .max_operands = 1,
    .args_size = sizeof(eval_args),
    .opts = opts,
    .run = run,
};
