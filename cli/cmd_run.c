/* cli/cmd_run.c — requant run: every sample through a model, outputs (and tapped values) by name into one .npz. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

typedef struct run_args {
    cli_common common;
    const char *data, *out;
    cli_list taps;
} run_args;

#define TO(field) offsetof(run_args, field)
static const cli_opt opts[] = {
    { CLI_IN, 'd', "data", "DATA", TO(data), "samples: .npz, .npy, or a folder of either or of pictures", NULL, 0, 0 },
    { CLI_OUT, 'o', "out", "OUT.npz", TO(out), "write the outputs here, by name", NULL, 0, 0 },
    { CLI_LIST, 0, "tap", "VALUE", TO(taps), "write this value of the graph too; may be repeated", NULL, 0, 0 },
    CLI_ROWS_DATA,
    CLI_ROWS_COMMON,
    { CLI_END, 0, NULL, NULL, 0, NULL, NULL, 0, 0 },
};
#undef TO

/* One array that grows with every run: joined along axis 0, or stacked along a new one. */
typedef struct column {
    char *name;
    bool stack;
    rq_dtype dtype;
    rq_shape shape; /* of all there is so far */
    char *data;
    size_t bytes, cap;
} column;

static rq_status column_add(column *c, const rq_tensor *t, bool stack, rq_err *err)
{
    rq_shape part = t->shape;
    if (stack || part.rank == 0) { /* a scalar has no axis to join along */
        if (part.rank == RQ_MAX_RANK)
            return rq_fail(err, RQ_UNSUPPORTED, "output '%s' has %d axes, stacking would make one too many", c->name,
                           part.rank);
        memmove(part.dim + 1, part.dim, sizeof part.dim[0] * (size_t)part.rank);
        part.dim[0] = 1;
        part.rank++;
    }
    if (rq_dtype_bits(t->dtype) % 8 || t->dtype == RQ_DTYPE_STRING)
        return rq_fail(err, RQ_UNSUPPORTED, "output '%s' is %s, which an .npz cannot hold", c->name,
                       rq_dtype_name(t->dtype));
    if (!c->data) {
        c->dtype = t->dtype;
        c->shape = part;
        c->shape.dim[0] = 0;
    }
    bool fits = c->dtype == t->dtype && c->shape.rank == part.rank &&
                memcmp(c->shape.dim + 1, part.dim + 1, sizeof part.dim[0] * (size_t)(part.rank - 1)) == 0;
    if (!fits) {
        char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
        return rq_fail(
            err, RQ_BAD_SHAPE,
            "output '%s' is %s in one run and %s before it: they cannot be joined; run the samples one by one", c->name,
            rq_shape_text(&part, a, sizeof a), rq_shape_text(&c->shape, b, sizeof b));
    }
    if (c->cap - c->bytes < t->bytes || !c->data) {
        size_t cap = c->cap * 2 > c->bytes + t->bytes ? c->cap * 2 : c->bytes + t->bytes;
        char *data = realloc(c->data, cap ? cap : 1);
        if (!data)
            return rq_fail(err, RQ_NO_MEMORY, "out of memory for output '%s'", c->name);
        c->data = data;
        c->cap = cap;
    }
    if (t->bytes)
        memcpy(c->data + c->bytes, t->data, t->bytes);
    c->bytes += t->bytes;
    c->shape.dim[0] += part.dim[0];
    return RQ_OK;
}

static rq_status tap(void *arg, const char *value, const rq_tensor *t, rq_err *err)
{
    column *c = arg;
    return column_add(c, t, c->stack, err);
}

/* Samples first..first+n, joined to what the columns hold; the taps add themselves during the run. */
static rq_status run_batch(rq_session *s, rq_dataset *data, int64_t first, int64_t n, column *cols, int n_out,
                           rq_tensor *out, rq_err *err)
{
    const rq_feed *feeds;
    int n_feeds;
    int64_t *rows = malloc((size_t)n * sizeof *rows);
    if (!rows)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    for (int64_t i = 0; i < n; i++)
        rows[i] = first + i;
    rq_status st = rq_dataset_read(data, rows, n, &feeds, &n_feeds, err);
    free(rows);
    RQ_TRY(st);
    RQ_TRY(rq_session_run(s, feeds, n_feeds, out, err));
    for (int i = 0; i < n_out; i++) {
        if (st == RQ_OK)
            st = column_add(&cols[i], &out[i], cols[i].stack, err);
        rq_tensor_release(&out[i]);
    }
    return st;
}

static rq_status save(const char *path, const column *cols, int n, rq_err *err)
{
    rq_feed *arrays = calloc((size_t)n + 1, sizeof *arrays);
    if (!arrays)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    for (int i = 0; i < n; i++)
        arrays[i] = (rq_feed) { cols[i].name, rq_tensor_view(cols[i].dtype, &cols[i].shape, cols[i].data) };
    rq_status s = rq_npz_save(path, arrays, n, err);
    free(arrays);
    return s;
}

static bool has_column(const column *cols, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(cols[i].name, name) == 0)
            return true;
    return false;
}

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static int run(void *args)
{
    run_args *a = args;
    if (!a->data)
        return cli_usage(&cmd_run, "samples are missing: -d DATA");
    if (!a->out)
        return cli_usage(&cmd_run, "the output is missing: -o OUT.npz");
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_dataset *data = NULL;
    rq_session *s = NULL;
    column *cols = NULL;
    rq_tensor *out = NULL;
    int rc = CLI_FAILED, n_out = 0, n = 0;
    cli_progress progress;
    cli_progress_init(&progress, &a->common);

    if (rq_file_check_output(a->out, &err) || cli_load(&g, a->common.operand[0], &a->common, &err))
        goto done;
    if (cli_open_data(&data, a->data, g, &a->common, &err))
        goto done;
    rq_session_cfg cfg = { .threads = (int)a->common.threads,
                           .onednn = cli_onednn(&a->common),
                           .match = (rq_match)a->common.match };
    if (rq_session_create(&s, g, &cfg, &err))
        goto done;
    n_out = rq_graph_n_outputs(g);
    cols = calloc((size_t)(n_out + a->taps.n) + 1, sizeof *cols);
    out = calloc((size_t)n_out + 1, sizeof *out);
    if (!cols || !out) {
        rq_fail(&err, RQ_NO_MEMORY, "out of memory");
        goto done;
    }
    for (int i = 0; i < n_out + a->taps.n; i++) {
        const char *name = i < n_out ? rq_graph_output(g, i).name : a->taps.items[i - n_out];
        if (i >= n_out && has_column(cols, n, name))
            continue; /* an output, or named twice: it is written anyway */
        cols[n].name = strdup(name);
        cols[n].stack = rq_dataset_whole_feeds(data);
        if (i >= n_out && rq_session_tap(s, name, tap, &cols[n], &err))
            goto done;
        n++;
    }
    int64_t count = rq_dataset_count(data), batch = rq_dataset_batch_size(data);
    const double begin = now();
    for (int64_t first = 0; first < count; first += batch) {
        int64_t take = count - first < batch ? count - first : batch;
        if (run_batch(s, data, first, take, cols, n_out, out, &err))
            goto done;
        const int64_t did = first + take;
        cli_progress_step(&progress, "running", did, count, (now() - begin) / (double)did * (double)(count - did));
    }
    cli_progress_end(&progress);
    if (save(a->out, cols, n, &err))
        goto done;
    rc = CLI_OK;
done:
    cli_progress_end(&progress);
    if (rc)
        cli_fail("run", &err);
    for (int i = 0; cols && i < n_out + a->taps.n; i++) {
        free(cols[i].name);
        free(cols[i].data);
    }
    free(cols);
    free(out);
    rq_session_destroy(s);
    rq_dataset_close(data);
    rq_graph_destroy(g);
    return rc;
}

const cli_command cmd_run = {
    .name = "run",
    .synopsis = "MODEL -d DATA -o OUT.npz [--tap VALUE]... [OPTION]...",
    .summary = "outputs by name",
    .about =
        "Runs MODEL, float or quantized, on every sample and writes its outputs to OUT.npz: joined along the batch "
        "axis, or stacked where each sample was fed whole. Tapped values are written as the reals they stand for.",
    .min_operands = 1,
    .max_operands = 1,
    .args_size = sizeof(run_args),
    .opts = opts,
    .run = run,
};
