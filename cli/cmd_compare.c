/* cli/cmd_compare.c — requant compare: the verdict table for any two models of one shape. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

typedef struct compare_args {
    cli_common common;
    const char *data, *json, *output;
} compare_args;

#define TO(field) offsetof(compare_args, field)
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

/* Models without an input in common were not meant for each other. (Inputs that have a default may be missing.) */
static rq_status check_inputs(const rq_graph *q, const rq_graph *g, const char *const *model, rq_err *err)
{
    const int n = rq_graph_n_inputs(g);
    bool found = n == 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < rq_graph_n_inputs(q); k++)
            found |= strcmp(rq_graph_input(g, i).name, rq_graph_input(q, k).name) == 0;
    if (found)
        return RQ_OK;
    return rq_fail(err, RQ_BAD_GRAPH,
                   "%s has an input '%s', %s has none of that name: they are not two models of one shape", model[0],
                   rq_graph_input(g, 0).name, model[1]);
}

static int run(void *args)
{
    compare_args *a = args;
    const char *const *model = a->common.operand;
    if (!a->data)
        return cli_usage(&cmd_compare, "samples are missing: -d DATA");
    rq_err err = { 0 };
    rq_graph *g = NULL, *q = NULL;
    rq_dataset *data = NULL;
    rq_report report = { 0 };
    cli_progress progress;
    cli_progress_init(&progress, &a->common);
    int rc = CLI_FAILED;
    if (a->json && rq_file_check_output(a->json, &err))
        goto done;
    if (cli_load(&g, model[0], &a->common, &err) || cli_load(&q, model[1], &a->common, &err) ||
        check_inputs(q, g, model, &err))
        goto done;
    if (cli_open_data(&data, a->data, g, &a->common, &err))
        goto done;
    rq_report_cfg how = {
        .output = a->output,
        .threads = (int)a->common.threads,
        .onednn = cli_onednn(&a->common),
        .match = (rq_match)a->common.match,
        .layers = true,
        .progress = cli_progress_step,
        .progress_arg = &progress,
    };
    if (rq_report_compare(&report, g, q, data, &how, &err))
        goto done;
    cli_progress_end(&progress);
    report.model.bytes = cli_model_bytes(model[0], g);
    report.quantized.bytes = cli_model_bytes(model[1], q);
    if (!a->common.quiet && !cli_is_stdout(a->json))
        rq_report_print(&report, stdout);
    if (a->json && rq_report_save_json(&report, a->json, &err))
        goto done;
    rc = CLI_OK;
done:
    cli_progress_end(&progress);
    if (rc)
        cli_fail("compare", &err);
    rq_report_release(&report);
    rq_dataset_close(data);
    rq_graph_destroy(q);
    rq_graph_destroy(g);
    return rc;
}

const cli_command cmd_compare = {
    .name = "compare",
    .synopsis = "FLOAT QUANTIZED -d DATA [--json FILE] [OPTION]...",
    .summary = "the verdict for any two models of one shape",
    .about = "Runs both models on every sample, whoever made them, and prints the table and the verdict of `requant "
             "quantize`.",
    .min_operands = 2,
    .max_operands = 2,
    .args_size = sizeof(compare_args),
    .opts = opts,
    .run = run,
};
