/* algo/report_walk.c — the samples of a dataset in batches, for everything that runs a model over them. */
#include "algo/report_priv.h"

#include <string.h>

#include "base/mem.h"

rq_status rq_walk_init(rq_walk *w, rq_dataset *data, const int64_t *rows, int64_t n_rows, int64_t step)
{
    *w = (rq_walk) { .data = data, .rows = rows, .n_rows = rows ? n_rows : rq_dataset_count(data) };
    const int64_t batch = rq_dataset_batch_size(data);
    w->fixed = rq_dataset_unit(data) > 1;
    w->step = step > 0 && step < batch && !w->fixed ? step : batch > 0 ? batch : 1;
    w->buf = rq_mem_alloc((size_t)w->step, sizeof *w->buf);
    return w->buf ? RQ_OK : RQ_NO_MEMORY;
}

enum { FIT_BYTES = 24 << 20 };

rq_status rq_walk_fit(rq_walk *w, rq_session *const *sessions, const rq_graph *const *graphs, int n, rq_err *err)
{
    if (w->fixed || w->step <= 1 || w->n_rows < 1)
        return RQ_OK;
    const rq_feed *feeds;
    int n_feeds;
    size_t bytes = 1;
    const int64_t first = w->rows ? w->rows[0] : 0;
    RQ_TRY(rq_dataset_read(w->data, &first, 1, &feeds, &n_feeds, err));
    for (int i = 0; i < n; i++) {
        const int n_out = rq_graph_n_outputs(graphs[i]);
        rq_tensor *out = rq_mem_zalloc((size_t)n_out + 1, sizeof *out);
        if (!out)
            return rq_fail(err, RQ_NO_MEMORY, "out of memory for outputs");
        rq_status status = rq_session_run(sessions[i], feeds, n_feeds, out, err);
        for (int k = 0; k < n_out; k++)
            rq_tensor_release(&out[k]);
        rq_mem_free(out);
        if (status)
            return status;
        bytes += rq_session_arena_bytes(sessions[i]);
    }
    const int64_t most = (int64_t)(FIT_BYTES / bytes);
    w->step = most < 1 ? 1 : most < w->step ? most : w->step;
    return RQ_OK;
}

void rq_walk_release(rq_walk *w)
{
    rq_mem_free(w->buf);
    w->buf = NULL;
}

int64_t rq_walk_total(const rq_walk *w)
{
    return w->fixed ? w->n_rows / w->step * w->step : w->n_rows;
}

rq_status rq_walk_next(rq_walk *w, const rq_feed **feeds, int *n_feeds, const int64_t **rows, int64_t *n, rq_err *err)
{
    const int64_t left = w->n_rows - w->at;
    *n = left < w->step ? left : w->step;
    if (w->fixed && *n < w->step) {
        if (!w->at && *n) /* not one full batch: let the dataset say what the model wants */
            w->fixed = false;
        else
            *n = 0;
    }
    if (*n <= 0) {
        *n = 0;
        return RQ_OK;
    }
    for (int64_t i = 0; i < *n; i++)
        w->buf[i] = w->rows ? w->rows[w->at + i] : w->at + i;
    w->at += *n;
    *rows = w->buf;
    return rq_dataset_read(w->data, w->buf, *n, feeds, n_feeds, err);
}

rq_status rq_walk_output(const rq_graph *g, const char *name, int *index, rq_err *err)
{
    const int n = rq_graph_n_outputs(g);
    *index = 0;
    if (n < 1)
        return rq_fail(err, RQ_BAD_GRAPH, "the model has no output to judge");
    if (!name)
        return RQ_OK;
    for (*index = 0; *index < n; ++*index)
        if (!strcmp(rq_graph_output(g, *index).name, name))
            return RQ_OK;
    *index = 0;
    return rq_fail(err, RQ_NOT_FOUND, "the model has no output '%s'; its first is '%s'", name,
                   rq_graph_output(g, 0).name);
}

bool rq_report_has_classes(const rq_graph *g, const char *output)
{
    int index;
    if (rq_walk_output(g, output, &index, NULL))
        return false;
    const rq_shape shape = rq_graph_output(g, index).shape;
    return shape.rank != 1 || shape.dim[0] >= 0;
}

rq_status rq_report_check_output(const rq_graph *g, const char *output, rq_err *err)
{
    int index;
    return rq_walk_output(g, output, &index, err);
}
