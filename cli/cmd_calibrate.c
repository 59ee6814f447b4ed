/* cli/cmd_calibrate.c — requant calibrate: the range of every tensor of a model, as a file that quantize takes. */
#include <stdio.h>

#include "cli.h"

typedef struct calibrate_args {
    cli_common common;
    const char *data, *out;
    cli_ranges how;
    int64_t samples, seed;
} calibrate_args;

#define TO(field) offsetof(calibrate_args, field)
static const cli_opt opts[] = {
    { CLI_IN, 'd', "data", "DATA", TO(data), "samples: .npz, .npy, or a folder of either or of pictures", NULL, 0, 0 },
    { CLI_OUT, 'o', "out", "RANGES", TO(out), "write the ranges here: JSON, or TensorRT's calibration cache (.cache)",
      NULL, 0, 0 },
    CLI_ROWS_RANGES(calibrate_args, how),
    { CLI_INT, 'n', "samples", "N", TO(samples), "calibrate on N samples, drawn (default: all)", NULL, 1, 1e15 },
    { CLI_INT, 0, "seed", "N", TO(seed), "of that draw (default 0)", NULL, 0, 9e15 },
    CLI_ROWS_DATA,
    CLI_ROWS_COMMON,
    { CLI_END, 0, NULL, NULL, 0, NULL, NULL, 0, 0 },
};
#undef TO

static void defaults(void *args)
{
    calibrate_args *a = args;
    cli_ranges_defaults(&a->how);
}

static int run(void *args)
{
    calibrate_args *a = args;
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_dataset *data = NULL;
    rq_ranges *ranges = NULL;
    rq_split split = { 0 };
    rq_notes notes = { 0 };
    cli_progress progress;
    int rc = CLI_FAILED;
    if (!a->data)
        return cli_usage(&cmd_calibrate, "samples are missing: -d DATA");
    if (!a->out)
        return cli_usage(&cmd_calibrate, "the output is missing: -o RANGES");
    cli_progress_init(&progress, &a->common);
    if (rq_file_check_output(a->out, &err) || cli_load(&g, a->common.operand[0], &a->common, &err) ||
        cli_open_data(&data, a->data, g, &a->common, &err))
        goto done;
    if (a->samples && rq_dataset_split(&split, data, (uint64_t)a->seed, 0, a->samples, rq_dataset_unit(data), &err))
        goto done;
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.settings = cli_ranges_settle(&a->how, &a->common);
    cfg.recipe = a->common.recipe;
    cfg.rows = split.calibrate;
    cfg.n_rows = split.n_calibrate;
    cfg.threads = (int)a->common.threads;
    cfg.onednn = cli_onednn(&a->common);
    cfg.progress = cli_progress_step;
    cfg.progress_arg = &progress;
    if (rq_calibrate(&ranges, g, data, &cfg, &notes, &err) || rq_ranges_save(ranges, a->out, &err))
        goto done;
    cli_progress_end(&progress);
    for (int i = 0; i < notes.n && !a->common.quiet; i++)
        fprintf(stderr, "requant calibrate: %s\n", notes.text[i]);
    if (!a->common.quiet && !cli_is_stdout(a->out))
        printf("ranges of %d tensors, from %lld samples\n", rq_ranges_count(ranges),
               (long long)(split.calibrate ? split.n_calibrate : rq_dataset_count(data)));
    rc = CLI_OK;
done:
    cli_progress_end(&progress);
    if (rc)
        cli_fail("calibrate", &err);
    rq_ranges_destroy(ranges);
    rq_notes_release(&notes);
    rq_split_release(&split);
    rq_dataset_close(data);
    rq_graph_destroy(g);
    return rc;
}

const cli_command cmd_calibrate = {
    .name = "calibrate",
    .synopsis = "MODEL -d DATA -o RANGES [OPTION]...",
    .summary = "ranges of tensors, for `requant quantize --ranges`",
    .about =
        "Runs MODEL in float on the samples in DATA and writes which reals each of its tensors takes, by the method "
        "chosen: as JSON, or as TensorRT's calibration cache. `requant quantize --ranges` makes a model from either, "
        "without "
        "samples, as often as you like.",
    .min_operands = 1,
    .max_operands = 1,
    .args_size = sizeof(calibrate_args),
    .opts = opts,
    .defaults = defaults,
    .run = run,
};
