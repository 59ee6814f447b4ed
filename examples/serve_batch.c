/* serve_batch.c — a server in small: requests wait in a queue, threads take as many as fit a batch, each with a session of its own, and answer them.
 * The sessions share the weights of one model and one thread each; a batch is gathered in the buffer that the session reads.
 *
 *   cc serve_batch.c $(pkg-config --cflags --libs requant) -lpthread -o serve_batch
 *   ./serve_batch model.onnx [THREADS [BATCH [REQUESTS]]] */
#include <pthread.h>
#include <requant/requant.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_THREADS = 64 };

typedef struct queue { /* requests 0..n-1; those before `next` were taken */
    pthread_mutex_t lock;
    long next, n;
} queue;

typedef struct server {
    queue *q;
    rq_session *s;
    pthread_t thread;
    long batch, batches;
    size_t n_in, n_out; /* floats of one request, of one answer */
    const float *requests;
    float *answers;
    rq_err err;
} server;

/* Take up to `most` requests; how many, and the first. */
static long take(queue *q, long most, long *first)
{
    pthread_mutex_lock(&q->lock);
    const long n = q->n - q->next < most ? q->n - q->next : most;
    *first = q->next;
    q->next += n;
    pthread_mutex_unlock(&q->lock);
    return n;
}

/* Until the queue is empty. A batch that is not full runs with what is left of the one before behind it. */
static void *serve(void *arg)
{
    server *v = arg;
    rq_value_info x = rq_session_input(v->s, 0), y = rq_session_output(v->s, 0);
    rq_tensor in, out;
    long first, n;
    if (rq_tensor_create(&in, x.dtype, &x.shape, true))
        return NULL;
    if (!rq_tensor_create(&out, y.dtype, &y.shape, true)) {
        if (!rq_session_bind_input(v->s, x.name, &in, &v->err) && !rq_session_bind_output(v->s, y.name, &out, &v->err))
            for (; (n = take(v->q, v->batch, &first)) > 0; v->batches++) {
                memcpy(in.f32, v->requests + (size_t)first * v->n_in, (size_t)n * v->n_in * sizeof(float));
                if (rq_session_run_bound(v->s, &v->err))
                    break;
                memcpy(v->answers + (size_t)first * v->n_out, out.f32, (size_t)n * v->n_out * sizeof(float));
            }
        rq_session_bind_input(v->s, x.name, NULL, NULL);
        rq_session_bind_output(v->s, y.name, NULL, NULL);
        rq_tensor_release(&out);
    }
    rq_tensor_release(&in);
    return NULL;
}

/* The model's first input and output, planned for such batches. */
static rq_status prepare(server *v, rq_err *err)
{
    rq_value_info x = rq_session_input(v->s, 0);
    if (rq_session_n_inputs(v->s) != 1 || x.dtype != RQ_DTYPE_F32 || x.shape.rank < 1 ||
        (x.shape.dim[0] >= 0 && x.shape.dim[0] != v->batch)) {
        snprintf(err->text, sizeof err->text, "expected a model with one input f32[%ld,...]", v->batch);
        return err->code = RQ_UNSUPPORTED;
    }
    x.shape.dim[0] = v->batch;
    if (!rq_shape_is_known(&x.shape)) {
        snprintf(err->text, sizeof err->text, "expected an input with no open size but the first");
        return err->code = RQ_UNSUPPORTED;
    }
    const rq_feed feed = { x.name, rq_tensor_view(x.dtype, &x.shape, NULL) };
    rq_status st = rq_session_prepare(v->s, &feed, 1, err);
    if (st)
        return st;
    const rq_value_info y = rq_session_output(v->s, 0);
    v->n_in = (size_t)(rq_shape_count(&x.shape) / v->batch);
    v->n_out = (size_t)(rq_shape_count(&y.shape) / v->batch);
    return RQ_OK;
}

static double now(void)
{
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* All requests, by n servers. Seconds; negative: it failed. */
static double run(server *v, int n, queue *q, float *answers)
{
    const double start = now();
    bool failed = false;
    q->next = 0;
    for (int i = 0; i < n; i++) {
        v[i].answers = answers;
        v[i].batches = 0;
        if (pthread_create(&v[i].thread, NULL, serve, &v[i])) {
            n = i;
            failed = true;
        }
    }
    for (int i = 0; i < n; i++) {
        pthread_join(v[i].thread, NULL);
        failed |= v[i].err.code != RQ_OK;
    }
    return failed || q->next < q->n ? -1 : now() - start;
}

int main(int argc, char **argv)
{
    const int threads = argc > 2 ? atoi(argv[2]) : 2;
    const long batch = argc > 3 ? atol(argv[3]) : 8, n = argc > 4 ? atol(argv[4]) : 1000;
    rq_err err = { .text = "usage: serve_batch MODEL [THREADS [BATCH [REQUESTS]]]" };
    queue q = { .lock = PTHREAD_MUTEX_INITIALIZER, .n = n };
    server v[MAX_THREADS] = { { .q = &q, .batch = batch } };
    const rq_session_cfg cfg = { .threads = 1 }; /* the requests are what runs at the same time */
    float *requests = NULL, *alone = NULL, *together = NULL;
    int rc = 1;
    if (argc < 2 || threads < 1 || threads > MAX_THREADS || batch < 1 || n < 1)
        goto done;
    if (rq_session_load(&v[0].s, argv[1], &cfg, &err) || prepare(&v[0], &err))
        goto done;
    requests = malloc((size_t)n * v[0].n_in * sizeof *requests);
    alone = calloc((size_t)n * v[0].n_out, sizeof *alone);
    together = calloc((size_t)n * v[0].n_out, sizeof *together);
    if (!requests || !alone || !together)
        goto done;
    for (size_t i = 0; i < (size_t)n * v[0].n_in; i++)
        requests[i] = (float)rand() / (float)RAND_MAX;
    for (int i = 0; i < threads; i++) {
        rq_session *s = v[0].s;
        if (i && rq_session_share(&s, v[0].s, NULL, &err))
            goto done;
        v[i] = (server) { .q = &q, .s = s, .batch = batch, .requests = requests };
        if (prepare(&v[i], &err))
            goto done;
    }
    const double one = run(v, 1, &q, alone), all = run(v, threads, &q, together);
    for (int i = 0; i < threads; i++)
        if (v[i].err.code)
            err = v[i].err;
    if (one < 0 || all < 0)
        goto done;
    printf("1 thread: %.0f requests/s\n", (double)n / one);
    printf("%d threads: %.0f requests/s, batches of %ld:", threads, (double)n / all, batch);
    for (int i = 0; i < threads; i++)
        printf(" %ld", v[i].batches);
    printf("\nthe same answers: %s\n", memcmp(alone, together, (size_t)n * v[0].n_out * sizeof *alone) ? "no" : "yes");
    rc = 0;
done:
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    for (int i = 0; i < threads && i < MAX_THREADS; i++)
        rq_session_destroy(v[i].s);
    free(requests), free(alone), free(together);
    return rc;
}
