/* cli/package.c — models written as ONNX files or as Core ML packages, whichever the name says; what is to be said of a package is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

bool cli_is_package(const char *path)
{
    static const char suffix[] = ".mlpackage";
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n >= sizeof suffix - 1 && !memcmp(path + n - (sizeof suffix - 1), suffix, sizeof suffix - 1);
}

/* A sentence per line. */
static void print_notes(const char *command, const char *notes)
{
    for (const char *end; *notes && (end = strchr(notes, '\n')); notes = end + 1)
        fprintf(stderr, "requant %s: %.*s\n", command, (int)(end - notes), notes);
}

/* The weights that a state dict has buffers for. */
static rq_status apply_metadata(rq_coreml *m, const char *path, bool may_raise, const char *command, bool quiet,
                                rq_err *err)
{
    rq_state *state;
    rq_coreml_report *report;
    RQ_TRY(rq_state_load(&state, path, err));
    const rq_status st = rq_coreml_apply_metadata(m, state, may_raise, &report, err);
    rq_state_destroy(state);
    if (st)
        return rq_fail_in(err, st, "%s", path);
    if (!quiet)
        fprintf(stderr, "requant %s: %d weights have the integers of %s\n", command, rq_coreml_report_done(report),
                path);
    rq_coreml_report_destroy(report);
    return RQ_OK;
}

rq_status cli_save_package(const rq_graph *g, const char *out, const char *model, const rq_coreml_cfg *cfg,
                           const char *metadata, const char *command, bool quiet, rq_err *err)
{
    rq_coreml *like = NULL, *m = NULL;
    rq_coreml_cfg own = cfg ? *cfg : (rq_coreml_cfg) { 0 };
    char *notes = NULL;
    if (model && rq_coreml_is(model))
        RQ_TRY(rq_coreml_open(&like, model, err));
    own.like = like;
    rq_status st = rq_coreml_from_graph(&m, g, &own, &notes, err);
    if (!st && !quiet)
        print_notes(command, notes);
    if (!st && metadata)
        st = apply_metadata(m, metadata, own.target == RQ_COREML_LOWEST, command, quiet, err);
    if (!st)
        st = rq_coreml_save(m, out, err);
    rq_free(notes);
    rq_coreml_close(m);
    rq_coreml_close(like);
    const bool named = !strncmp(err->text, out, strlen(out)) ||
                       (metadata && !strncmp(err->text, metadata, strlen(metadata))); /* they name their files */
    return st && !named ? rq_fail_in(err, st, "%s", out) : st;
}

rq_status cli_save(const rq_graph *g, const char *out, const char *model, const rq_save_cfg *cfg, const char *command,
                   bool quiet, rq_err *err)
{
    return cli_is_package(out) ? cli_save_package(g, out, model, NULL, NULL, command, quiet, err)
                               : rq_save_as(g, out, cfg, err);
}

/* The program of g with any number of samples at a time; RQ_UNSUPPORTED: it has a place where that number is fixed. */
static rq_status reread(rq_graph **out, const rq_graph *g, rq_err *err)
{
    enum { MOST = 1 << 20 };
    const int n = rq_graph_n_inputs(g);
    rq_coreml *m = NULL;
    rq_coreml_input *in = calloc((size_t)n + 1, sizeof *in);
    rq_coreml_axis *axis = calloc(((size_t)n + 1) * RQ_MAX_RANK, sizeof *axis);
    rq_coreml_cfg cfg = { .input = in };
    rq_status st = in && axis ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "out of memory");
    for (int i = 0; !st && i < n; i++) {
        const rq_value_info v = rq_graph_input(g, i);
        rq_coreml_axis *a = axis + (size_t)i * RQ_MAX_RANK;
        if (v.shape.rank < 1 || v.shape.dim[0] >= 0)
            continue;
        for (int k = 0; k < v.shape.rank; k++)
            a[k] = (rq_coreml_axis) { v.shape.dim[k], v.shape.dim[k] };
        a[0] = (rq_coreml_axis) { 1, MOST };
        in[cfg.n_inputs++] = (rq_coreml_input) { .name = v.name, .axis = a, .rank = v.shape.rank };
    }
    if (!st)
        st = rq_coreml_from_graph(&m, g, &cfg, NULL, err);
    if (!st)
        st = rq_coreml_to_graph(out, m, NULL, err);
    rq_coreml_close(m);
    free(in);
    free(axis);
    return st;
}

rq_status cli_load_saved(rq_graph **out, const rq_graph *g, const char *path, rq_err *err)
{
    if (!cli_is_package(path))
        return rq_load(out, path, err);
    return reread(out, g, NULL) ? rq_load(out, path, err) : RQ_OK;
}
