/* bench/bench_train.c — steps of training: forward, loss, backward, update; float, or with fake quantization by LinearQuantizer.
 *
 *   bench_train [--net resnet20|cnn] [--float] [--threads N] [--steps N] [--json]
 *
 * resnet20: 32x32, batch 64, 20 layers of 16, 32 and 64 channels. cnn: 28x28, batch 32, 3 convolutions with batch norms and a linear layer.
 * Random images, cross-entropy, SGD with momentum. Prints the fastest step, the median, the parts of it, and the most memory that the process ever
 * held. bench/peers/torch_qat.py runs it beside PyTorch. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "requant/requant.h"

typedef struct options {
    bool cnn, real, json;
    int threads, steps;
} options;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(rq_status s, const rq_err *err)
{
    if (s == RQ_OK)
        return;
    fprintf(stderr, "bench_train: %s\n", err->text[0] ? err->text : rq_status_text(s));
    exit(1);
}

/* ---- networks ---- */

static rq_nn_value conv_bn(rq_nn *n, const char *conv, const char *bn, rq_nn_value x, int64_t out, int64_t kernel,
                           int64_t stride)
{
    x = rq_nn_conv2d(n, conv, x, out, kernel,
                     &(rq_nn_conv) { .stride = stride, .padding = kernel / 2, .no_bias = true });
    return rq_nn_batch_norm(n, bn, x, NULL);
}

static rq_nn_value block(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t stride)
{
    rq_nn_enter(n, name);
    rq_nn_value y = rq_nn_relu(n, "relu1", conv_bn(n, "conv1", "bn1", x, out, 3, stride));
    y = conv_bn(n, "conv2", "bn2", y, out, 3, 1);
    if (stride != 1)
        x = conv_bn(n, "down", "down_bn", x, out, 1, stride);
    y = rq_nn_relu(n, "relu2", rq_nn_add(n, y, x));
    rq_nn_leave(n);
    return y;
}

static rq_graph *resnet20(int64_t batch, rq_err *err)
{
    rq_nn *n;
    rq_graph *g;
    must(rq_nn_create(&n, 1), err);
    rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { batch, 3, 32, 32 });
    x = rq_nn_relu(n, "relu", conv_bn(n, "conv", "bn", x, 16, 3, 1));
    for (int stage = 0; stage < 3; stage++)
        for (int i = 0; i < 3; i++) {
            char name[32];
            snprintf(name, sizeof name, "layer%d.%d", stage + 1, i);
            x = block(n, name, x, 16 << stage, stage && !i ? 2 : 1);
        }
    x = rq_nn_flatten(n, "flatten", rq_nn_adaptive_avg_pool(n, "pool", x, 1), 1);
    rq_nn_output(n, "y", rq_nn_linear(n, "fc", x, 10, NULL));
    must(rq_nn_finish(n, &g, err), err);
    return g;
}

static rq_graph *cnn(int64_t batch, rq_err *err)
{
    rq_nn *n;
    rq_graph *g;
    must(rq_nn_create(&n, 1), err);
    rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { batch, 1, 28, 28 });
    x = rq_nn_relu(n, "relu1", conv_bn(n, "conv1", "bn1", x, 16, 3, 1));
    x = rq_nn_max_pool(n, "pool1", x, 2, NULL);
    x = rq_nn_relu(n, "relu2", conv_bn(n, "conv2", "bn2", x, 32, 3, 1));
    x = rq_nn_max_pool(n, "pool2", x, 2, NULL);
    x = rq_nn_relu(n, "relu3", conv_bn(n, "conv3", "bn3", x, 64, 3, 1));
    x = rq_nn_flatten(n, "flatten", rq_nn_adaptive_avg_pool(n, "pool3", x, 1), 1);
    rq_nn_output(n, "y", rq_nn_linear(n, "fc", x, 10, NULL));
    must(rq_nn_finish(n, &g, err), err);
    return g;
}

/* ---- the steps ---- */

enum { FORWARD, LOSS, BACKWARD, UPDATE, N_PARTS };

static void fill(float *x, int64_t n)
{
    uint32_t r = 12345;
    for (int64_t i = 0; i < n; i++) {
        r = r * 1664525u + 1013904223u;
        x[i] = (float)(r >> 8) / (float)(1 << 24) * 2 - 1;
    }
}

static int by_time(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static long peak_kib(void)
{
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "VmHWM:", 6))
            kib = atol(line + 6);
    if (f)
        fclose(f);
    return kib;
}

static void report(const options *o, double *seconds, const double part[N_PARTS], size_t bytes)
{
    qsort(seconds, (size_t)o->steps, sizeof *seconds, by_time);
    const char *net = o->cnn ? "cnn" : "resnet20", *mode = o->real ? "float" : "qat";
    const double best = seconds[0] * 1e3, median = seconds[o->steps / 2] * 1e3, k = 1e3 / o->steps;
    if (o->json)
        printf("{\"net\": \"%s\", \"mode\": \"%s\", \"best_ms\": %.3f, \"median_ms\": %.3f, \"peak_mib\": %.1f}\n", net,
               mode, best, median, (double)peak_kib() / 1024);
    else
        printf("%s %s: best %.2f ms, median %.2f (mean forward %.2f, loss %.2f, backward %.2f, update %.2f); plan %.1f "
               "MiB, process %.1f MiB\n",
               net, mode, best, median, part[FORWARD] * k, part[LOSS] * k, part[BACKWARD] * k, part[UPDATE] * k,
               (double)bytes / 1048576, (double)peak_kib() / 1024);
}

static void train(const options *o, rq_graph *g, rq_linear_quantizer *q, const rq_shape *shape)
{
    rq_err err = { 0 };
    rq_autograd *a;
    rq_optimizer *opt;
    rq_autograd_cfg cfg = rq_autograd_defaults();
    cfg.threads = o->threads;
    if (q)
        cfg.n_fakes = rq_linear_quantizer_fakes(q, &cfg.fakes, NULL);
    must(rq_autograd_create(&a, g, &cfg, &err), &err);
    rq_optimizer_cfg sgd = rq_optimizer_defaults(RQ_OPTIMIZER_SGD);
    must(rq_exec_create(&sgd.exec, o->threads, &err), &err);
    sgd.lr = 0.01;
    sgd.momentum = 0.9;
    must(rq_optimizer_create(&opt, &sgd, NULL, 0, &err), &err);
    const rq_loss_cfg loss = rq_loss_defaults(RQ_LOSS_CROSS_ENTROPY);
    const int64_t batch = shape->dim[0];
    rq_feed x = { .name = "x" };
    rq_tensor t, y, dy;
    must(rq_tensor_create(&x.tensor, RQ_DTYPE_F32, shape, true), &err);
    must(rq_tensor_create(&t, RQ_DTYPE_S64, &(rq_shape) { .rank = 1, .dim = { batch } }, true), &err);
    must(rq_tensor_create(&dy, RQ_DTYPE_F32, &(rq_shape) { .rank = 2, .dim = { batch, 10 } }, true), &err);
    fill(x.tensor.f32, rq_tensor_count(&x.tensor));
    for (int64_t i = 0; i < batch; i++)
        t.s64[i] = i % 10;
    double *seconds = calloc((size_t)o->steps, sizeof *seconds), part[N_PARTS] = { 0 };
    for (int step = -3; step < o->steps; step++) { /* the first ones are not counted */
        double value, at[N_PARTS + 1];
        rq_parameter *p;
        at[0] = now();
        must(rq_autograd_forward(a, &x, 1, &y, &err), &err);
        at[1] = now();
        must(rq_loss_compute(&loss, sgd.exec, &y, &t, &value, dy.f32, &err), &err);
        at[2] = now();
        rq_autograd_zero_grad(a);
        must(rq_autograd_backward(a, &dy, &err), &err);
        at[3] = now();
        const int n = rq_autograd_parameters(a, &p);
        must(rq_optimizer_step(opt, p, n, -1, &err), &err);
        if (q)
            must(rq_linear_quantizer_step(q, a, &err), &err);
        at[4] = now();
        for (int i = 0; i < N_PARTS && step >= 0; i++)
            part[i] += at[i + 1] - at[i];
        if (step >= 0)
            seconds[step] = at[N_PARTS] - at[0];
    }
    report(o, seconds, part, rq_autograd_bytes(a));
    free(seconds);
    rq_tensor_release(&x.tensor);
    rq_tensor_release(&t);
    rq_tensor_release(&dy);
    rq_optimizer_destroy(opt);
    rq_exec_destroy(sgd.exec);
    rq_autograd_destroy(a);
}

int main(int argc, char **argv)
{
    options o = { .threads = 2, .steps = 30 };
    int bad = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--float"))
            o.real = true;
        else if (!strcmp(argv[i], "--json"))
            o.json = true;
        else if (!strcmp(argv[i], "--net") && i + 1 < argc)
            o.cnn = !strcmp(argv[++i], "cnn");
        else if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            o.threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--steps") && i + 1 < argc)
            o.steps = atoi(argv[++i]);
        else
            bad = 1;
    }
    if (bad || o.steps < 1 || o.threads < 1) {
        fprintf(stderr, "usage: bench_train [--net resnet20|cnn] [--float] [--threads N] [--steps N] [--json]\n");
        return 2;
    }
    rq_err err = { 0 };
    const rq_shape shape =
        o.cnn ? (rq_shape) { .rank = 4, .dim = { 32, 1, 28, 28 } } : (rq_shape) { .rank = 4, .dim = { 64, 3, 32, 32 } };
    rq_graph *g = o.cnn ? cnn(shape.dim[0], &err) : resnet20(shape.dim[0], &err);
    rq_linear_quantizer *q = NULL;
    if (!o.real) {
        must(rq_linear_quantizer_create(&q, g, NULL, &err), &err);
        must(rq_linear_quantizer_prepare(q, &err), &err);
    }
    train(&o, q ? rq_linear_quantizer_model(q) : g, q, &shape);
    rq_linear_quantizer_destroy(q);
    rq_graph_destroy(g);
    return 0;
}
