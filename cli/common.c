/* cli/common.c — what several commands do alike. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <stdlib.h>
#include "cli.h"

int cli_fail(const char *command, const rq_err *err)
{
    fflush(stdout);
    fprintf(stderr, "requant %s: %s\n", command, err->text[0] ? err->text : rq_status_text(err->code));
    return CLI_FAILED;
}

rq_status cli_spare_weights(const rq_graph *g, const char *model, const char *path, rq_err *err)
{
    if (!path)
        return RQ_OK;
    const size_t room = strlen(path) + sizeof ".data";
    char *data = malloc(room);
    if (!data)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    snprintf(data, room, "%s.data", path);
    const bool own = rq_graph_reads(g, path), beside = rq_graph_reads(g, data);
    rq_status st = RQ_OK;
    if (own || beside)
        st = rq_fail(err, RQ_BAD_ARG, "'%s' holds weights of %s; write to another name", own ? path : data, model);
    free(data);
    return st;
}

/* All files of a package. */
static int64_t folder_bytes(const char *path, int depth)
{
    enum { DEEPEST = 16 };
    int64_t sum = 0;
    DIR *d = depth < DEEPEST ? opendir(path) : NULL;
    for (const struct dirent *e; d && (e = readdir(d));) {
        char inner[4096];
        struct stat st;
        const int n = snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || n < 0 || n >= (int)sizeof inner || lstat(inner, &st))
            continue;
        sum += S_ISDIR(st.st_mode) ? folder_bytes(inner, depth + 1) : S_ISREG(st.st_mode) ? (int64_t)st.st_size : 0;
    }
    if (d)
        closedir(d);
    return sum;
}

int64_t cli_model_bytes(const char *path, const rq_graph *g)
{
    struct stat st;
    rq_graph_summary sum;
    if (stat(path, &st))
        return 0;
    if (S_ISDIR(st.st_mode))
        return folder_bytes(path, 0);
    /* weights in files of their own: the model's file is smaller than they are */
    if (rq_graph_summarize(g, &sum, NULL) == RQ_OK && sum.parameter_bytes > st.st_size)
        return st.st_size + sum.parameter_bytes;
    return st.st_size;
}

rq_status cli_load(rq_graph **out, const char *path, const cli_common *a, rq_err *err)
{
    rq_notes notes = { 0 };
    RQ_TRY(rq_load(out, path, err));
    rq_status st = rq_graph_warnings(*out, &notes);
    for (int i = 0; i < notes.n && !a->quiet; i++)
        fprintf(stderr, "requant: warning: %s: %s\n", path, notes.text[i]);
    rq_notes_release(&notes);
    return st ? rq_fail(err, st, "%s: not enough memory", path) : RQ_OK;
}

rq_status cli_open_data(rq_dataset **out, const char *path, const rq_graph *g, const cli_common *a, rq_err *err)
{
    rq_dataset_cfg cfg = {
        .batch = a->batch, .dims = a->dims.items, .n_dims = a->dims.n, .images = rq_recipe_preprocess(a->recipe)
    };
    RQ_TRY(rq_dataset_open(out, path, g, &cfg, err));
    const rq_value_info y = rq_graph_n_outputs(g) ? rq_graph_output(g, 0) : (rq_value_info) { 0 };
    const int classes = rq_dataset_classes(*out);
    if (classes && !a->quiet && rq_graph_n_outputs(g) == 1 && y.shape.rank > 0 && y.shape.dim[y.shape.rank - 1] > 0 &&
        y.shape.dim[y.shape.rank - 1] != classes)
        fprintf(stderr,
                "requant: %s: %d sub-folders stand for classes, output '%s' has %lld places; labels are the folders' "
                "names where all are numbers, else their order\n",
                path, classes, y.name, (long long)y.shape.dim[y.shape.rank - 1]);
    const long long left = rq_dataset_left_out(*out), used = rq_dataset_count(*out);
    if (left && !a->quiet)
        fprintf(stderr, "requant: %s: the last %lld of %lld samples %s left out, the model takes %lld at a time\n",
                path, left, used + left, left == 1 ? "is" : "are", (long long)rq_dataset_batch_size(*out));
    return RQ_OK;
}

bool cli_is_stdout(const char *path)
{
    return path && strcmp(path, "/dev/stdout") == 0;
}

bool cli_onednn(const cli_common *a)
{
    return a->products == 1 && !a->deterministic;
}
