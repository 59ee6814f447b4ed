/* cli/cmd_bench.c — requant bench: how long one run takes, in whole and per layer; two models take turns. */
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "cli_convert.h"

typedef struct bench_args {
    cli_common common;
    const char *data, *json, *against;
    int64_t runs;
    bool no_peak;
    cli_list shapes;
} bench_args;

#define TO(field) offsetof(bench_args, field)
static const cli_opt opts[] = {
    { CLI_IN, 0, "against", "MODEL2", TO(against), "time this model too, the two taking turns", NULL, 0, 0 },
    { CLI_IN, 'd', "data", "DATA", TO(data), "samples to run on (default: made-up noise)", NULL, 0, 0 },
    { CLI_LIST, 0, "shape", "NAME:SIZES", TO(shapes),
      "sizes of an input that is made up: 1x3x224x224; may be repeated (default: --batch, --dim, else 1)", NULL, 0, 0 },
    { CLI_INT, 0, "runs", "N", TO(runs), "runs to time (default: about two seconds of them, at least 10)", NULL, 1,
      1e6 },
    { CLI_FLAG, 0, "no-peak", NULL, TO(no_peak), "do without the two seconds of measuring what this machine can do",
      NULL, 0, 0 },
    { CLI_OUT, 0, "json", "FILE", TO(json), "write the result as JSON (-: standard output)", NULL, 0, 0 },
    CLI_ROWS_DATA,
    CLI_ROWS_COMMON,
    { CLI_END, 0, NULL, NULL, 0, NULL, NULL, 0, 0 },
};
#undef TO

/* One size per axis. *out is the caller's to free; names are those of `in`. */
static int shapes_of(rq_bench_shape **out, const cli_inputs *in)
{
    *out = calloc((size_t)in->n + 1, sizeof **out);
    if (!*out)
        return cli_fail("bench", &(rq_err) { .code = RQ_NO_MEMORY });
    for (int i = 0; i < in->n; i++) {
        const rq_coreml_input *from = &in->at[i];
        rq_bench_shape *to = &(*out)[i];
        bool one = !from->listed;
        *to = (rq_bench_shape) { .input = from->name, .shape = { .rank = from->rank } };
        for (int k = 0; one && k < from->rank; k++) {
            to->shape.dim[k] = from->axis[k].lo;
            one = from->axis[k].lo == from->axis[k].hi;
        }
        if (!one)
            return cli_usage(&cmd_bench, "--shape: '%s' has more than one shape, one is timed", from->name);
    }
    return CLI_OK;
}

static int run(void *args)
{
    bench_args *a = args;
    rq_err err = { 0 };
    rq_graph *g = NULL, *against = NULL;
    rq_dataset *data = NULL;
    rq_bench result = { 0 };
    cli_inputs in = { 0 };
    rq_bench_shape *shapes = NULL;
    if (a->data && a->shapes.n)
        return cli_usage(&cmd_bench, "--shape says nothing of samples: inputs are made up without -d DATA");
    int rc = cli_inputs_parse(&in, NULL, &cmd_bench, &a->shapes, &(cli_list) { 0 });
    if (!rc)
        rc = shapes_of(&shapes, &in);
    if (rc) {
        free(shapes);
        cli_inputs_release(&in);
        return rc;
    }
    rc = CLI_FAILED;
    if (a->json && rq_file_check_output(a->json, &err))
        goto done;
    if (cli_load(&g, a->common.operand[0], &a->common, &err) ||
        (a->against && cli_load(&against, a->against, &a->common, &err)))
        goto done;
    if (a->data && cli_open_data(&data, a->data, g, &a->common, &err))
        goto done;
    rq_bench_cfg cfg = {
        .threads = (int)a->common.threads,
        .onednn = cli_onednn(&a->common),
        .match = (rq_match)a->common.match,
        .peak = !a->no_peak,
        .runs = (int)a->runs,
        .batch = a->common.batch,
        .dims = a->common.dims.items,
        .n_dims = a->common.dims.n,
        .shapes = shapes,
        .n_shapes = in.n,
    };
    if (rq_bench_run(&result, g, against, data, &cfg, &err))
        goto done;
    if (!a->common.quiet && !cli_is_stdout(a->json))
        rq_bench_print(&result, stdout);
    if (a->json && rq_bench_save_json(&result, a->json, &err))
        goto done;
    rc = CLI_OK;
done:
    if (rc)
        cli_fail("bench", &err);
    if (rc && err.code == RQ_BAD_SHAPE && !a->data)
        fprintf(stderr, "without samples every dynamic axis has size 1: --dim NAME=N or --shape NAME:SIZES gives "
                        "another, -d DATA real samples\n");
    free(shapes);
    cli_inputs_release(&in);
    rq_bench_release(&result);
    rq_dataset_close(data);
    rq_graph_destroy(against);
    rq_graph_destroy(g);
    return rc;
}

const cli_command cmd_bench = {
    .name = "bench",
    .synopsis = "MODEL [--against MODEL2] [-d DATA] [--json FILE] [OPTION]...",
    .summary = "latency: median and spread, per layer, share of the machine's peak",
    .about =
        "Runs MODEL many times and reports the median, the fastest and the 95th percentile of one run, and the "
        "median of "
        "each layer: in GOP/s where it multiplies, else in GB/s read and written, and as a share of what this "
        "machine was measured to do at most (multiply-adds in registers; copying more than its caches hold, so that "
        "small layers may pass 100 %).\n"
        "With --against the two models take turns, so that a busy machine slows both; layers are matched by "
        "name, and one that is slower in int8 than in float, with what follows it that the other model does not "
        "have, is marked.",
    .min_operands = 1,
    .max_operands = 1,
    .args_size = sizeof(bench_args),
    .opts = opts,
    .run = run,
};
