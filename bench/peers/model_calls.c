/* bench/peers/model_calls.c — the calls that bench/peers/ort.py times: a model is opened, fed and run with numbers and pointers for
 * arguments: a shared library over the public interface. What can fail prints what went wrong and returns NULL or 1. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <requant/requant.h>

#if defined(__GNUC__)
#define CALL __attribute__((visibility("default")))
#else
#define CALL
#endif

enum { MOST_FEEDS = 16, MOST_OUTPUTS = 64 };

typedef struct model {
    rq_session *session;
    rq_feed feed[MOST_FEEDS];
    int n_feeds;
} model;

CALL model *model_open(const char *path, int threads);
CALL int model_feed(model *m, const char *name, const char *dtype, const int64_t *dim, int rank, void *data);
CALL int model_run(model *m, int runs, int cpu, double *ms);
CALL int model_output(model *m, int i, float *to, int64_t n);
CALL void model_close(model *m);

/* cpu: time this process was given, on all of its threads. */
static double now_ms(int cpu)
{
    struct timespec t;
    clock_gettime(cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int failed(rq_status st, const rq_err *err)
{
    if (st)
        fprintf(stderr, "model_calls: %s\n", err->text);
    return st != RQ_OK;
}

/* A session with the defaults of the command line: float products of our own. */
model *model_open(const char *path, int threads)
{
    rq_err err = { 0 };
    model *m = calloc(1, sizeof *m);
    const rq_session_cfg cfg = { .threads = threads };
    if (m && failed(rq_session_load(&m->session, path, &cfg, &err), &err)) {
        model_close(m);
        return NULL;
    }
    return m;
}

/* The bytes at data stay the caller's and are read in every run. */
int model_feed(model *m, const char *name, const char *dtype, const int64_t *dim, int rank, void *data)
{
    rq_shape shape = { .rank = rank };
    int d = 0;
    while (d < RQ_N_DTYPES && strcmp(rq_dtype_name((rq_dtype)d), dtype) != 0)
        d++;
    if (m->n_feeds == MOST_FEEDS || rank > RQ_MAX_RANK || d == RQ_N_DTYPES) {
        fprintf(stderr, "model_calls: input '%s' of type %s and %d axes cannot be fed\n", name, dtype, rank);
        return 1;
    }
    for (int i = 0; i < rank; i++)
        shape.dim[i] = dim[i];
    m->feed[m->n_feeds++] = (rq_feed) { .name = name, .tensor = rq_tensor_view((rq_dtype)d, &shape, data) };
    return 0;
}

/* ms[runs]: of each run. */
int model_run(model *m, int runs, int cpu, double *ms)
{
    rq_err err = { 0 };
    rq_tensor out[MOST_OUTPUTS];
    for (int i = 0; i < runs; i++) {
        const double start = now_ms(cpu);
        if (failed(rq_session_run(m->session, m->feed, m->n_feeds, out, &err), &err))
            return 1;
        for (int k = 0; k < rq_session_n_outputs(m->session); k++)
            rq_tensor_release(&out[k]);
        ms[i] = now_ms(cpu) - start;
    }
    return 0;
}

/* One run, the first n numbers of output i to to[]. */
int model_output(model *m, int i, float *to, int64_t n)
{
    rq_err err = { 0 };
    rq_tensor out[MOST_OUTPUTS];
    if (failed(rq_session_run(m->session, m->feed, m->n_feeds, out, &err), &err))
        return 1;
    for (int64_t k = 0; k < n && k < rq_tensor_count(&out[i]); k++)
        to[k] = (float)rq_tensor_get(&out[i], k);
    for (int k = 0; k < rq_session_n_outputs(m->session); k++)
        rq_tensor_release(&out[k]);
    return 0;
}

void model_close(model *m)
{
    if (!m)
        return;
    rq_session_destroy(m->session);
    free(m);
}
