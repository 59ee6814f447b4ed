/* algo/bench.c — latency of one model, or of two in turn, so that a slow moment of the machine hits both. */
#include <math.h>
#include <string.h>

#include "algo/report_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"

enum { WARM_RUNS = 2, LEAST_RUNS = 10, MOST_RUNS = 1000, BUDGET_MS = 2000 };

typedef struct bench_side {
    const rq_graph *graph;
    rq_session *session;
    rq_tensor *out;
    double *ms;    /* [runs] */
    double *layer; /* [n_layers][runs] */
    int n_layers;
} bench_side;

/* ---- inputs ---- */

static int64_t free_size(const rq_graph *g, int64_t dim, int axis, const rq_bench_cfg *cfg)
{
    for (int i = 0; i < cfg->n_dims; i++)
        if (dim < -1 && !strcmp(cfg->dims[i].name, rq_graph_dim_name(g, dim)))
            return cfg->dims[i].size;
    return axis == 0 && cfg->batch > 0 ? cfg->batch : 1;
}

/* The sizes asked for input `in`; NULL: none were. */
static const rq_shape *shape_of(const rq_bench_cfg *cfg, const char *in)
{
    for (int i = 0; i < cfg->n_shapes; i++)
        if (!strcmp(cfg->shapes[i].input, in))
            return &cfg->shapes[i].shape;
    return NULL;
}

/* A shape for what is no input, or with other sizes than the model fixes. */
static rq_status check_shapes(const rq_graph *g, const rq_bench_cfg *cfg, rq_err *err)
{
    for (int i = 0; i < cfg->n_shapes; i++) {
        const rq_bench_shape *want = &cfg->shapes[i];
        char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
        int at = 0;
        while (at < rq_graph_n_inputs(g) && strcmp(rq_graph_input(g, at).name, want->input))
            at++;
        if (at == rq_graph_n_inputs(g))
            return rq_fail(err, RQ_BAD_ARG, "the model has no input '%s' to give a shape", want->input);
        const rq_shape has = rq_graph_input(g, at).shape;
        bool fits = has.rank < 0 || has.rank == want->shape.rank;
        for (int k = 0; fits && k < has.rank; k++)
            fits = has.dim[k] < 0 || has.dim[k] == want->shape.dim[k];
        if (!fits)
            return rq_fail(err, RQ_BAD_ARG, "input '%s' is %s, it cannot be %s", want->input,
                           rq_shape_text(&has, a, sizeof a), rq_shape_text(&want->shape, b, sizeof b));
    }
    return RQ_OK;
}

/* A size for an axis that no input has, or a batch the model does not take, is a mistake, not a wish. */
static rq_status check_sizes(const rq_graph *g, const rq_bench_cfg *cfg, rq_err *err)
{
    for (int i = 0; i < cfg->n_dims; i++) {
        bool found = false;
        for (int k = 0; k < rq_graph_n_inputs(g) && !found; k++) {
            const rq_shape s = rq_graph_input(g, k).shape;
            for (int a = 0; a < s.rank && !found; a++)
                found = s.dim[a] < -1 && !strcmp(cfg->dims[i].name, rq_graph_dim_name(g, s.dim[a]));
        }
        if (!found)
            return rq_fail(err, RQ_BAD_ARG, "no input of the model has an axis called '%s'", cfg->dims[i].name);
    }
    RQ_TRY(check_shapes(g, cfg, err));
    const rq_shape first = rq_graph_n_inputs(g) > 0 ? rq_graph_input(g, 0).shape : rq_shape_unknown();
    if (cfg->batch > 0 && first.rank > 0 && first.dim[0] >= 0 && first.dim[0] != cfg->batch)
        return rq_fail(err, RQ_BAD_ARG, "batches of %lld were asked for, the model takes %lld", (long long)cfg->batch,
                       (long long)first.dim[0]);
    return RQ_OK;
}

static rq_status make_feeds(rq_feed **feeds, int *n, const rq_graph *g, const rq_bench_cfg *cfg, rq_err *err)
{
    rq_rng rng;
    rq_rng_seed(&rng, 1);
    *n = 0;
    RQ_TRY(check_sizes(g, cfg, err));
    *feeds = rq_mem_zalloc((size_t)rq_graph_n_inputs(g) + 1, sizeof **feeds);
    if (!*feeds)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for inputs");
    for (int i = 0; i < rq_graph_n_inputs(g); i++) {
        const rq_value_info in = rq_graph_input(g, i);
        const rq_shape *own = shape_of(cfg, in.name);
        rq_shape s = own ? *own : in.shape;
        if (s.rank < 0 || in.dtype == RQ_DTYPE_NONE || in.dtype == RQ_DTYPE_STRING)
            return rq_fail(err, RQ_BAD_DATA, "input '%s' has no shape or type to make data for: give samples with -d",
                           in.name);
        for (int a = 0; a < s.rank; a++)
            if (s.dim[a] < 0)
                s.dim[a] = free_size(g, s.dim[a], a, cfg);
        rq_tensor *t = &(*feeds)[*n].tensor;
        rq_status status = rq_tensor_create(t, in.dtype, &s, true);
        if (status)
            return rq_fail(err, status, "no memory for input '%s'", in.name);
        (*feeds)[(*n)++].name = in.name;
        for (int64_t k = 0, count = rq_tensor_count(t); k < count; k++)
            rq_tensor_set(t, k, rq_dtype_is_float(in.dtype) ? (double)rq_rng_f32(&rng) : (double)rq_rng_below(&rng, 2));
    }
    return RQ_OK;
}

static void release_feeds(rq_feed *feeds, int n)
{
    for (int i = 0; i < n; i++)
        rq_tensor_release(&feeds[i].tensor);
    rq_mem_free(feeds);
}

/* ---- runs ---- */

static rq_status run(bench_side *s, const rq_feed *feeds, int n_feeds, double *ms, rq_err *err)
{
    const double start = rq_clock_ms();
    RQ_TRY(rq_session_run(s->session, feeds, n_feeds, s->out, err));
    *ms = rq_clock_ms() - start;
    for (int i = 0; i < rq_graph_n_outputs(s->graph); i++)
        rq_tensor_release(&s->out[i]);
    return RQ_OK;
}

static rq_status side_open(bench_side *s, const rq_graph *g, const rq_bench_cfg *cfg, rq_err *err)
{
    s->graph = g;
    s->out = rq_mem_zalloc((size_t)rq_graph_n_outputs(g) + 1, sizeof *s->out);
    if (!s->out)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the benchmark");
    const rq_session_cfg how = { .threads = cfg->threads, .profile = true, .onednn = cfg->onednn, .match = cfg->match };
    return rq_session_create(&s->session, g, &how, err);
}

static void side_close(bench_side *s)
{
    rq_session_destroy(s->session);
    rq_mem_free(s->out);
    rq_mem_free(s->ms);
    rq_mem_free(s->layer);
}

static rq_status side_reserve(bench_side *s, int runs, rq_err *err)
{
    const rq_layer_info *info;
    s->n_layers = rq_session_layers(s->session, &info);
    s->ms = rq_mem_alloc((size_t)runs, sizeof *s->ms);
    s->layer = rq_mem_alloc((size_t)s->n_layers + 1, (size_t)runs * sizeof *s->layer);
    return s->ms && s->layer ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "out of memory for the benchmark");
}

static rq_status side_settle(rq_bench_side *out, bench_side *s, int runs, const rq_peak *peak, rq_err *err)
{
    const rq_layer_info *info;
    const bool listed = rq_session_layers(s->session, &info) == s->n_layers;
    out->layers = rq_mem_zalloc((size_t)s->n_layers + 1, sizeof *out->layers);
    if (!listed || !out->layers)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the benchmark");
    for (int i = 0; i < s->n_layers; i++) {
        rq_bench_layer *l = &out->layers[i];
        out->n_layers = i + 1;
        l->name = rq_mem_strdup(info[i].name && info[i].name[0] ? info[i].name : info[i].output ? info[i].output : "");
        l->op = rq_mem_strdup(info[i].op ? info[i].op : "");
        if (!l->name || !l->op)
            return rq_fail(err, RQ_NO_MEMORY, "out of memory for the benchmark");
        l->integer = info[i].integer;
        l->ms = rq_sums_quantile(s->layer + (size_t)i * (size_t)runs, runs, 0.5);
        l->whole_ms = l->ms;
        if (info[i].macs > 0 && l->ms > 0)
            l->gops = 2 * info[i].macs / l->ms / 1e6;
        else if (info[i].bytes > 0 && l->ms > 0)
            l->gbs = info[i].bytes / l->ms / 1e6;
        if (peak->memory_gbs > 0)
            l->share =
                l->gops > 0 ? l->gops / (l->integer ? peak->int8_gops : peak->f32_gops) : l->gbs / peak->memory_gbs;
    }
    out->p95_ms = rq_sums_quantile(s->ms, runs, 0.95);
    out->min_ms = s->ms[0]; /* sorted by now */
    out->median_ms = rq_sums_quantile(s->ms, runs, 0.5);
    return RQ_OK;
}

static rq_status measure(rq_bench *out, bench_side *s, int sides, const rq_feed *feeds, int n_feeds, int runs,
                         rq_err *err)
{
    double ms, sum = 0;
    for (int i = 0; i < WARM_RUNS; i++) {
        sum = 0;
        for (int k = 0; k < sides; k++) {
            RQ_TRY(run(&s[k], feeds, n_feeds, &ms, err));
            sum += ms;
        }
    }
    if (runs <= 0) {
        const double fit = BUDGET_MS / (sum > 1e-3 ? sum : 1e-3);
        runs = fit < LEAST_RUNS ? LEAST_RUNS : fit > MOST_RUNS ? MOST_RUNS : (int)fit;
    }
    out->runs = runs;
    for (int k = 0; k < sides; k++)
        RQ_TRY(side_reserve(&s[k], runs, err));
    for (int i = 0; i < runs; i++)
        for (int j = 0; j < sides; j++) {
            bench_side *one = &s[(i + j) % sides];
            const rq_layer_info *info;
            RQ_TRY(run(one, feeds, n_feeds, &one->ms[i], err));
            const int n = rq_session_layers(one->session, &info);
            if (n < one->n_layers)
                return rq_fail(err, RQ_NO_MEMORY, "out of memory for the benchmark");
            for (int l = 0; l < one->n_layers; l++)
                one->layer[(size_t)l * (size_t)runs + (size_t)i] = info[l].ms;
        }
    RQ_TRY(side_settle(&out->model, &s[0], runs, &out->peak, err));
    return sides > 1 ? side_settle(&out->against, &s[1], runs, &out->peak, err) : RQ_OK;
}

/* ---- layer beside layer ---- */

static rq_bench_layer *same_layer(const rq_bench_side *s, const rq_bench_layer *l)
{
    for (int i = 0; i < s->n_layers; i++)
        if (!strcmp(s->layers[i].name, l->name))
            return &s->layers[i];
    return NULL;
}

/* What the other model does not have (an activation that became part of a product, a conversion) counts with the layer before it that both have, the
 * first one where there is none before. */
static void gather(rq_bench_side *s, const rq_bench_side *other)
{
    rq_bench_layer *last = NULL;
    double before = 0;
    for (int i = 0; i < s->n_layers; i++) {
        rq_bench_layer *l = &s->layers[i];
        if (same_layer(other, l)) {
            l->whole_ms += before;
            before = 0;
            last = l;
        } else if (last) {
            last->whole_ms += l->ms;
        } else {
            before += l->ms;
        }
    }
}

static void mark_slower(rq_bench_side *s, const rq_bench_side *other)
{
    for (int i = 0; i < s->n_layers; i++) {
        const rq_bench_layer *o = same_layer(other, &s->layers[i]);
        s->layers[i].slower = o && s->layers[i].integer && !o->integer && s->layers[i].whole_ms > o->whole_ms;
    }
}

static void compare_layers(rq_bench *b)
{
    gather(&b->model, &b->against);
    gather(&b->against, &b->model);
    mark_slower(&b->model, &b->against);
    mark_slower(&b->against, &b->model);
}

rq_status rq_bench_run(rq_bench *out, const rq_graph *g, const rq_graph *against, rq_dataset *data,
                       const rq_bench_cfg *cfg, rq_err *err)
{
    const rq_bench_cfg none = { 0 };
    bench_side s[2] = { 0 };
    rq_feed *made = NULL;
    const rq_feed *feeds = NULL;
    int n_feeds = 0, n_made = 0;
    rq_walk w = { 0 };
    cfg = cfg ? cfg : &none;
    *out = (rq_bench) { .has_against = against != NULL };
    rq_status status;
    if (data) {
        const int64_t *rows;
        int64_t n = 0;
        status = rq_walk_init(&w, data, NULL, 0, 0);
        if (!status)
            status = rq_walk_next(&w, &feeds, &n_feeds, &rows, &n, err);
        if (!status && !n)
            status = rq_fail(err, RQ_BAD_DATA, "%s: no samples to run the model on", rq_dataset_path(data));
    } else {
        status = make_feeds(&made, &n_made, g, cfg, err);
        feeds = made;
        n_feeds = n_made;
    }
    if (!status)
        status = side_open(&s[0], g, cfg, err);
    if (!status && against)
        status = side_open(&s[1], against, cfg, err);
    if (!status && cfg->peak)
        status = rq_peak_measure(&out->peak, cfg->threads, err);
    if (!status)
        status = measure(out, s, against ? 2 : 1, feeds, n_feeds, cfg->runs, err);
    if (!status && against)
        compare_layers(out);
    side_close(&s[0]);
    side_close(&s[1]);
    rq_walk_release(&w);
    if (made)
        release_feeds(made, n_made);
    if (status)
        rq_bench_release(out);
    return status;
}

static void release_side(rq_bench_side *s)
{
    for (int i = 0; i < s->n_layers; i++) {
        rq_mem_free(s->layers[i].name);
        rq_mem_free(s->layers[i].op);
    }
    rq_mem_free(s->layers);
}

void rq_bench_release(rq_bench *b)
{
    release_side(&b->model);
    release_side(&b->against);
    *b = (rq_bench) { 0 };
}
