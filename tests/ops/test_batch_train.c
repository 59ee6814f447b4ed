/* tests/ops/test_batch_train.c — a convolution whose batch norm is folded while it is trained, against numbers that PyTorch and Core ML Tools
 * made, and what its edges do. (Gradients: grad_norm.c. Whole networks: tests/golden/torch, topics linear_quantizer and eager.) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "ops/op.h"

enum { MAX_IN = 7 };

typedef struct fixture {
    rq_graph *g;
    rq_id node;
    const rq_op *row;
    rq_kernels k;
    rq_op_training training;
    rq_err err;
} fixture;

static void start(fixture *f, const char *domain, const char *op)
{
    *f = (fixture) { .row = rq_op_find(domain, op) };
    assert_non_null(f->row);
    assert_int_equal(rq_graph_create(&f->g), RQ_OK);
    assert_int_equal(rq_graph_set_opset(f->g, domain, *domain ? 1 : 15), RQ_OK);
    assert_int_equal(rq_graph_add_node(f->g, &f->node, op, domain, "n", NULL, 0, NULL, 0, NULL), RQ_OK);
    rq_ops_bind(f->g);
    rq_kernels_init(&f->k, rq_cpu_detect());
}

static rq_status run(fixture *f, rq_tensor *y, const rq_tensor *const *in, int n_in, bool train)
{
    rq_tensor *const out[] = { y };
    rq_op_args a = { .graph = f->g,
                     .node = &f->g->nodes[f->node],
                     .opset = *f->row->domain ? 1 : 15,
                     .in = in,
                     .out = out,
                     .n_in = n_in,
                     .n_out = 1,
                     .k = &f->k,
                     .training = &f->training,
                     .err = &f->err };
    f->training.train = train;
    void *saved = rq_mem_alloc(f->row->saved ? f->row->saved(&a) : 0, 1);
    a.scratch = rq_mem_alloc(f->row->scratch ? f->row->scratch(&a, false) : 0, 1);
    f->training.saved = saved;
    const rq_status s = f->row->forward(&a);
    rq_mem_free(saved);
    rq_mem_free(a.scratch);
    return s;
}

static rq_tensor view(float *v, int rank, const int64_t *dim)
{
    const rq_shape s = rq_shape_of(rank, dim);
    return rq_tensor_view(RQ_DTYPE_F32, &s, v);
}

static rq_tensor vector(float *v, int64_t n)
{
    return view(v, 1, &n);
}

static void close_to(const char *what, const float *got, const float *want, int n, double tol)
{
    for (int i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tol))
            fail_msg("%s: element %d is %.9g, expected %.9g", what, i, (double)got[i], (double)want[i]);
}

/* A 1x1 convolution of ci to co channels and its batch norm. */
typedef struct fused {
    int co, ci;
    float *w, *b, *gamma, *beta, *mean, *var;
} fused;

/* k, and weights times k. */
static void scaled(const fused *m, float *k, float *wk)
{
    fixture f;
    rq_tensor gamma = vector(m->gamma, m->co), var = vector(m->var, m->co), kt = vector(k, m->co);
    start(&f, "requant", "BatchNormScale");
    assert_int_equal(run(&f, &kt, (const rq_tensor *[]) { &gamma, &var }, 2, true), RQ_OK);
    rq_graph_destroy(f.g);
    const int64_t dim[] = { m->co, m->ci, 1, 1 };
    rq_tensor w = view(m->w, 4, dim), out = view(wk, 4, dim);
    start(&f, "requant", "ScaleChannels");
    assert_int_equal(run(&f, &out, (const rq_tensor *[]) { &w, &kt }, 2, true), RQ_OK);
    rq_graph_destroy(f.g);
}

/* y [n][co][area] of x [n][ci][area] with quantized weights wq. */
static void forward(const fused *m, float *y, const float *x, int n, int area, const float *wq, const float *k,
                    bool train)
{
    float c[64];
    for (int i = 0; i < n; i++)
        for (int o = 0; o < m->co; o++)
            for (int p = 0; p < area; p++) {
                double sum = 0;
                for (int t = 0; t < m->ci; t++)
                    sum += (double)x[(i * m->ci + t) * area + p] * (double)wq[o * m->ci + t];
                c[(i * m->co + o) * area + p] = (float)sum;
            }
    const int64_t dim[] = { n, m->co, area };
    fixture f;
    rq_tensor ct = view(c, 3, dim), yt = view(y, 3, dim), kt = vector((float *)k, m->co);
    rq_tensor b = vector(m->b, m->co), gamma = vector(m->gamma, m->co), beta = vector(m->beta, m->co);
    rq_tensor mean = vector(m->mean, m->co), var = vector(m->var, m->co);
    start(&f, "requant", "FoldedBatchNorm");
    assert_int_equal(rq_attr_set_float(f.g, f.node, "epsilon", 1e-5f), RQ_OK);
    assert_int_equal(rq_attr_set_float(f.g, f.node, "momentum", 0.9f), RQ_OK);
    assert_int_equal(run(&f, &yt, (const rq_tensor *[]) { &ct, &kt, &b, &gamma, &beta, &mean, &var }, 7, train), RQ_OK);
    rq_graph_destroy(f.g);
}

/* Core ML Tools: 4-bit symmetric weights, one input and two output channels. */
static void as_coremltools_trains_and_freezes(void **unused)
{
    (void)unused;
    float w[] = { 0.8f, -0.37f }, b[] = { 0.1f, -0.2f }, gamma[] = { 1.5f, 0.5f }, beta[] = { 0.25f, -0.75f };
    float mean[] = { 0.3f, -0.1f }, var[] = { 0.64f, 2.25f }, k[2], wk[2], y[8];
    const float x[] = { 0.2f, -1, 0.7f, 1.3f };
    const fused m = { 2, 1, w, b, gamma, beta, mean, var };
    const float wq[] = { 1.3999891f, -0.1315553f };
    scaled(&m, k, wk);
    close_to("scaled weights", wk, (const float[]) { 1.4999883f, -0.1233331f }, 2, 2e-7);
    forward(&m, y, x, 4, 1, wq, k, true);
    close_to(
        "training", y,
        (const float[]) { 0.072609f, -0.690871f, -2.056089f, 0.018672f, 0.959566f, -0.986514f, 2.023915f, -1.341286f },
        8, 2e-6);
    close_to("running mean", mean, (const float[]) { 0.3024f, -0.12184f }, 2, 1e-6);
    close_to("running variance", var, (const float[]) { 0.6291494f, 2.0398490f }, 2, 1e-6);
    scaled(&m, k, wk);
    const float before[] = { mean[0], mean[1], var[0], var[1] };
    forward(&m, y, x, 4, 1, wq, k, false);
    close_to(
        "frozen", y,
        (const float[]) { 0.147242f, -0.803674f, -1.532745f, -0.645807f, 0.847237f, -0.869451f, 1.687230f, -0.948384f },
        8, 2e-6);
    assert_memory_equal(mean, before, sizeof mean);
    assert_memory_equal(var, before + 2, sizeof var);
}

static void quantize(float *wq, const float *w, int n, float scale)
{
    for (int i = 0; i < n; i++)
        wq[i] = fminf(fmaxf(rintf(w[i] * (1 / scale)), -128), 127) * scale;
}

/* PyTorch's eager mode: 8-bit weights, a weight of the norm below 0. */
static void as_eager_mode_trains_and_freezes(void **unused)
{
    (void)unused;
    float w[] = { 0.5f, -0.25f, 1, 2 }, b[] = { 0.1f, -0.2f }, gamma[] = { 1.5f, -0.5f }, beta[] = { 0.25f, 0.75f };
    float mean[] = { 0.3f, -0.4f }, var[] = { 4, 0.25f }, k[2], wk[4], wq[4], x[16], y[16];
    for (int i = 0; i < 16; i++)
        x[i] = (float)(-1 + 2.0 * i / 15);
    const fused m = { 2, 2, w, b, gamma, beta, mean, var };
    scaled(&m, k, wk);
    quantize(wq, wk, 4, 0.0156859607f);
    forward(&m, y, x, 2, 4, wq, k, true);
    close_to("training", y,
             (const float[]) { -1.73585236f, -1.37478864f, -1.01372457f, -0.652660191f, 1.41212094f, 1.29173541f,
                               1.17134976f, 1.05096412f, 1.15266025f, 1.51372433f, 1.87478852f, 2.23585272f,
                               0.449035883f, 0.328650266f, 0.208264619f, 0.0878789499f },
             16, 2e-6);
    close_to("running mean", mean, (const float[]) { 0.259921968f, -0.353647053f }, 2, 1e-6);
    close_to("running variance", var, (const float[]) { 3.60220742f, 0.539604485f }, 2, 1e-6);
    scaled(&m, k, wk);
    quantize(wq, wk, 4, 0.0156358704f);
    forward(&m, y, x, 2, 4, wq, k, false);
    close_to("frozen", y,
             (const float[]) { -0.172429621f, -0.147412241f, -0.122394845f, -0.0973774642f, 1.96821356f, 1.69510722f,
                               1.42200077f, 1.14889419f, 0.0277095046f, 0.0527268983f, 0.0777442977f, 0.102761686f,
                               -0.216638535f, -0.489745051f, -0.762851655f, -1.03595793f },
             16, 2e-6);
}

/* The originals divide 0 by 0; here the channel is what its bias says, and the other one as if it were alone. */
static void a_weight_of_zero_makes_no_nan(void **unused)
{
    (void)unused;
    float w[] = { 0.8f, -0.37f }, b[] = { 0.1f, -0.2f }, gamma[] = { 0, 0.5f }, beta[] = { 0.25f, -0.75f };
    float mean[] = { 0.3f, -0.1f }, var[] = { 0.64f, 2.25f }, k[2], wk[2], y[8];
    const float x[] = { 0.2f, -1, 0.7f, 1.3f };
    const fused m = { 2, 1, w, b, gamma, beta, mean, var };
    for (int train = 1; train >= 0; train--) {
        scaled(&m, k, wk);
        assert_true(k[0] == 0 && wk[0] == 0);
        forward(&m, y, x, 4, 1, (const float[]) { 0, -0.1315553f }, k, train);
        for (int i = 0; i < 4; i++)
            assert_true(y[2 * i] == 0.25f);
        if (train)
            close_to("the other channel", (const float[]) { y[1], y[3], y[5], y[7] },
                     (const float[]) { -0.690871f, 0.018672f, -0.986514f, -1.341286f }, 4, 2e-6);
        assert_true(mean[0] == 0.3f && var[0] == 0.64f);
    }
}

/* Far from 0 and nearly constant: the variance keeps its digits, whatever the first elements are. */
static void a_mean_far_from_zero_costs_no_digits(void **unused)
{
    (void)unused;
    enum { N = 4096 };
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++)
        x[i] = i < 16 ? 0 : 1000 + (float)(i % 7) / 16;
    for (int i = 0; i < N; i++)
        sum += (double)x[i] / N;
    for (int i = 0; i < N; i++)
        squares += ((double)x[i] - sum) * ((double)x[i] - sum) / N;
    float one[] = { 1 }, zero[] = { 0 }, mean[] = { 0 }, var[] = { 1 };
    const int64_t dim[] = { 1, 1, N };
    rq_tensor xt = view(x, 3, dim), yt = view(y, 3, dim), g = vector(one, 1), b = vector(zero, 1), m = vector(mean, 1),
              v = vector(var, 1);
    fixture f;
    start(&f, "", "BatchNormalization");
    assert_int_equal(run(&f, &yt, (const rq_tensor *[]) { &xt, &g, &b, &m, &v }, 5, true), RQ_OK);
    for (int i = 0; i < N; i++)
        close_to("normalized", &y[i], &(float) { (float)((x[i] - sum) / sqrt(squares + 1e-5)) }, 1, 2e-5);
    close_to("running variance", var, &(float) { (float)(0.9 + 0.1 * squares * N / (N - 1)) }, 1, 1e-2);
    rq_graph_destroy(f.g);
    free(x);
    free(y);
}

static void one_element_per_channel_has_no_variance(void **unused)
{
    (void)unused;
    float x[] = { 1, 2 }, p[4][2] = { { 1, 1 }, { 0, 0 }, { 0, 0 }, { 1, 1 } }, y[2];
    const int64_t dim[] = { 1, 2 };
    rq_tensor xt = view(x, 2, dim), yt = view(y, 2, dim), t[4];
    for (int i = 0; i < 4; i++)
        t[i] = vector(p[i], 2);
    fixture f;
    start(&f, "", "BatchNormalization");
    assert_int_equal(run(&f, &yt, (const rq_tensor *[]) { &xt, &t[0], &t[1], &t[2], &t[3] }, 5, true), RQ_BAD_SHAPE);
    assert_string_equal(f.err.text,
                        "node 'n' (BatchNormalization): has one element per channel in train mode, expected "
                        "more: it has no variance");
    assert_int_equal(run(&f, &yt, (const rq_tensor *[]) { &xt, &t[0], &t[1], &t[2], &t[3] }, 5, false), RQ_OK);
    rq_graph_destroy(f.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_coremltools_trains_and_freezes),
        cmocka_unit_test(as_eager_mode_trains_and_freezes),
        cmocka_unit_test(a_weight_of_zero_makes_no_nan),
        cmocka_unit_test(a_mean_far_from_zero_costs_no_digits),
        cmocka_unit_test(one_element_per_channel_has_no_variance),
    };
    return cmocka_run_group_tests_name("batch_train", tests, NULL, NULL);
}
