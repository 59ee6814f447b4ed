/* LinearQuantizer from prepare to a file: the list E of the original's acceptance tests (docs/acceptance.md), the worked numbers of a convolution with its
 * batch norm, and what is written and read again. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ok.h"
#include "requant/requant.h"

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* A network that is being trained. */
typedef struct run {
    rq_graph *g;
    rq_linear_quantizer *q;
    rq_autograd *a;
    rq_fake_quantizer *const *fakes;
    const char *const *names;
    int n;
} run;

static run begin(rq_graph *g, const char *config)
{
    run r = { .g = g };
    rq_linear_quantizer_config *c = NULL;
    OK(rq_linear_quantizer_config_from_dict(&c, config, &err));
    OK(rq_linear_quantizer_create(&r.q, g, c, &err));
    rq_linear_quantizer_config_destroy(c);
    OK(rq_linear_quantizer_prepare(r.q, &err));
    r.n = rq_linear_quantizer_fakes(r.q, &r.fakes, &r.names);
    rq_autograd_cfg a = rq_autograd_defaults();
    a.threads = 1;
    a.fakes = r.fakes;
    a.n_fakes = r.n;
    OK(rq_autograd_create(&r.a, rq_linear_quantizer_model(r.q), &a, &err));
    return r;
}

static void end(run *r)
{
    rq_autograd_destroy(r->a);
    rq_linear_quantizer_destroy(r->q);
    rq_graph_destroy(r->g);
}

static rq_tensor view(float *x, int rank, const int64_t *dim)
{
    const rq_shape s = rq_shape_of(rank, dim);
    return rq_tensor_view(RQ_DTYPE_F32, &s, x);
}

static rq_tensor forward(run *r, const rq_tensor *x)
{
    rq_tensor y;
    OK(rq_autograd_forward(r->a, &(rq_feed) { "x", *x }, 1, &y, &err));
    return y;
}

static void near(const float *got, const float *want, int n, double within, const char *what)
{
    for (int i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= within))
            fail_msg("%s[%d]: got %.9g, want %.9g", what, i, (double)got[i], (double)want[i]);
}

static rq_tensor constant(const rq_graph *g, const char *name)
{
    rq_tensor t = { 0 };
    OK(rq_edit_constant(g, name, &t, &err));
    return t;
}

/* ---- E1, E4 ---- */

static rq_graph *layer(bool deconv, const char *output)
{
    rq_nn *n = NULL;
    rq_graph *g = NULL;
    OK(rq_nn_create(&n, 3));
    rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { 2, 1, 9, 9 });
    x = deconv ? rq_nn_conv_transpose2d(n, "conv1", x, 20, 3, NULL) : rq_nn_conv2d(n, "conv1", x, 20, 3, NULL);
    x = rq_nn_relu(n, "relu1", rq_nn_batch_norm(n, "bn1", x, NULL));
    x = rq_nn_conv2d(n, "conv2", x, 4, 3, NULL);
    rq_nn_output(n, output, x);
    OK(rq_nn_finish(n, &g, &err));
    return g;
}

static void all(const run *r, bool observe, bool quantize)
{
    for (int i = 0; i < r->n; i++) {
        assert_int_equal(rq_fake_quantizer_observer_enabled(r->fakes[i]), observe);
        assert_int_equal(rq_fake_quantizer_fake_quant_enabled(r->fakes[i]), quantize);
    }
}

/* Does a forward in train mode move the running mean? */
static bool norm_moves(run *r, const rq_tensor *x)
{
    rq_graph *model = rq_linear_quantizer_model(r->q);
    rq_tensor t = constant(model, "bn1.running_mean");
    float before[20];
    memcpy(before, t.f32, sizeof before);
    forward(r, x);
    const bool moved = memcmp(before, t.f32, sizeof before) != 0;
    rq_tensor_release(&t);
    return moved;
}

static void e1_e4_e7_milestones_come_with_their_call(void **state)
{
    (void)state;
    float x[2 * 81];
    for (int i = 0; i < N(x); i++)
        x[i] = (float)((i * 37) % 101 - 50) / 25;
    const rq_tensor in = view(x, 4, (int64_t[]) { 2, 1, 9, 9 });
    for (int i = 0; i < 4; i++) {
        char config[256];
        snprintf(config, sizeof config,
                 "{\"global_config\": {\"milestones\": [0, 1, 2, 3], \"algorithm\": \"%s\"}, \"module_name_configs\": "
                 "{\"conv2\": null}}",
                 i & 1 ? "learnable" : "vanilla");
        run r = begin(layer(i & 2, "y"), config);
        all(&r, false, false);
        assert_true(norm_moves(&r, &in));
        static const bool observe[] = { true, true, false, false }, quantize[] = { false, true, true, true };
        for (int call = 0; call < 4; call++) {
            OK(rq_linear_quantizer_step(r.q, r.a, &err));
            all(&r, observe[call], quantize[call]);
            assert_int_equal(norm_moves(&r, &in), call < 3);
        }
        /* E4: eight bits, a scale for each of 20 output channels, no zero points; the layer that is left out has none */
        rq_graph *out = NULL;
        OK(rq_linear_quantizer_finalize(r.q, &out, &err));
        rq_value_info w;
        OK(rq_edit_value(out, "conv1.weight", &w, &err));
        assert_non_null(w.quant);
        assert_int_equal(w.quant->dtype, RQ_DTYPE_S8);
        assert_int_equal(w.quant->n, 20);
        assert_int_equal(w.quant->axis, i & 2 ? 1 : 0);
        for (int c = 0; c < 20; c++)
            assert_int_equal(w.quant->zero_point[c], 0);
        OK(rq_edit_value(out, "conv2.weight", &w, &err));
        assert_null(w.quant);
        /* E7: what was given is as it was */
        rq_graph_summary s;
        OK(rq_graph_summarize(r.g, &s, &err));
        assert_int_equal(s.n_nodes, 4);
        assert_false(s.is_quantized);
        rq_graph_destroy(out);
        end(&r);
    }
}

/* E4 of one layer by name, convolution and ReLU, on four bits: the original loses the width there. What is written says the same. */
static void e4_four_bits_of_one_layer(void **state)
{
    (void)state;
    const char *path = RQ_TEST_TMP "/test_linear_quantizer_four.onnx";
    for (int i = 0; i < 4; i++) {
        rq_nn *n = NULL;
        rq_graph *g = NULL, *out[2] = { NULL, NULL };
        OK(rq_nn_create(&n, 3));
        rq_nn_value v = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { 2, 1, 9, 9 });
        v = i & 1 ? rq_nn_conv_transpose2d(n, "conv1", v, 20, 3, NULL) : rq_nn_conv2d(n, "conv1", v, 20, 3, NULL);
        rq_nn_output(n, "y", rq_nn_relu(n, "relu1", v));
        OK(rq_nn_finish(n, &g, &err));
        char config[200];
        snprintf(
            config, sizeof config,
            "{\"module_name_configs\": {\"conv1\": {\"weight_dtype\": \"qint4\", \"quantization_scheme\": \"%s\"}}}",
            i & 2 ? "affine" : "symmetric");
        run r = begin(g, config);
        float x[2 * 81];
        for (int k = 0; k < N(x); k++)
            x[k] = (float)((k * 37) % 101 - 50) / 25;
        const rq_tensor in = view(x, 4, (int64_t[]) { 2, 1, 9, 9 });
        for (int step = 0; step < 4; step++)
            forward(&r, &in);
        OK(rq_linear_quantizer_finalize(r.q, &out[0], &err));
        OK(rq_save(out[0], path, &err));
        OK(rq_load(&out[1], path, &err));
        rq_value_info w;
        OK(rq_edit_value(out[0], "conv1.weight", &w, &err));
        assert_non_null(w.quant);
        assert_int_equal(w.quant->dtype, RQ_DTYPE_S4);
        assert_int_equal(w.quant->n, 20);
        assert_int_equal(w.quant->axis, i & 1);
        /* of the file: codes, scales */
        const int product = rq_edit_find_node(out[1], i & 1 ? "/conv1/ConvTranspose" : "/conv1/Conv"),
                  dq = rq_edit_producer(out[1], rq_edit_node_in(out[1], product, 1));
        assert_int_equal(rq_edit_int(out[1], dq, "axis", 1), i & 1);
        rq_tensor trained = constant(g, "conv1.weight"), codes = constant(out[1], rq_edit_node_in(out[1], dq, 0)),
                  scales = constant(out[1], rq_edit_node_in(out[1], dq, 1));
        assert_int_equal(codes.dtype, RQ_DTYPE_S4);
        assert_int_equal(rq_tensor_count(&scales), 20);
        /* nine taps of each channel say the scale: the largest magnitude, or the width with 0 in it */
        for (int c = 0; c < 20; c++) {
            float lo = 0, hi = 0;
            for (int k = 0; k < 9; k++) {
                lo = fminf(lo, trained.f32[9 * c + k]);
                hi = fmaxf(hi, trained.f32[9 * c + k]);
            }
            const float want = i & 2 ? (hi - lo) / 15 : fmaxf(-lo, hi) / 7.5f;
            near(&w.quant->scale[c], &want, 1, 1e-6 * (double)want, "scale");
            near(&scales.f32[c], &want, 1, 1e-6 * (double)want, "scale in the file");
            assert_true(i & 2 || w.quant->zero_point[c] == 0);
        }
        rq_tensor_release(&codes);
        rq_tensor_release(&scales);
        rq_graph_destroy(out[0]);
        rq_graph_destroy(out[1]);
        rq_tensor_release(&trained);
        end(&r);
    }
    remove(path);
}

static void e8_a_network_that_does_nothing_is_finalized(void **state)
{
    (void)state;
    rq_nn *n = NULL;
    rq_graph *g = NULL, *out = NULL;
    OK(rq_nn_create(&n, 1));
    rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 2, (int64_t[]) { 1, 4 });
    rq_nn_output(n, "y", rq_nn_quant_stub(n, "quant", x)); /* Identity */
    OK(rq_nn_finish(n, &g, &err));
    run r = begin(g, "{}");
    float v[] = { -1, 0, 0.5f, 2 };
    const rq_tensor in = view(v, 2, (int64_t[]) { 1, 4 });
    forward(&r, &in);
    OK(rq_linear_quantizer_finalize(r.q, &out, &err));
    rq_graph_destroy(out);
    end(&r);
}

/* ---- the loops of the documentation ---- */

/* A small network with a batch norm, trained by a step of descent a time. */
static void descend(run *r, const rq_tensor *x)
{
    rq_parameter *p;
    const rq_tensor y = forward(r, x);
    rq_autograd_zero_grad(r->a);
    OK(rq_autograd_backward(r->a, &y, &err)); /* of half the sum of squares */
    for (int i = 0, n = rq_autograd_parameters(r->a, &p); i < n; i++)
        for (int64_t k = 0; k < p[i].count; k++)
            p[i].data[k] -= 1e-4f * p[i].grad[k];
    OK(rq_linear_quantizer_step(r->q, r->a, &err));
}

/* Their milestones, each in its step whatever their order is, and what comes of them runs. */
static void doc6_loops_of_the_documentation(void **state)
{
    (void)state;
    static const int lists[][4] = { { 0, 100, 400, 200 }, { 0, 100, 400, 400 }, { 0, 100, 300, 200 } };
    float x[2 * 16];
    for (int i = 0; i < N(x); i++)
        x[i] = (float)((i * 37) % 101 - 50) / 25;
    const rq_tensor in = view(x, 4, (int64_t[]) { 2, 1, 4, 4 });
    for (int i = 0; i < N(lists); i++) {
        const int *m = lists[i];
        char config[200];
        rq_nn *n = NULL;
        rq_graph *g = NULL, *out = NULL;
        OK(rq_nn_create(&n, 3));
        rq_nn_value v = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { 2, 1, 4, 4 });
        v = rq_nn_batch_norm(n, "bn1", rq_nn_conv2d(n, "conv", v, 20, 3, NULL), NULL);
        v = rq_nn_conv2d(n, "conv2", rq_nn_relu(n, "relu1", v), 2, 1, NULL);
        rq_nn_output(n, "y", rq_nn_relu(n, "relu2", v));
        OK(rq_nn_finish(n, &g, &err));
        snprintf(config, sizeof config,
                 "{\"global_config\": {\"quantization_scheme\": \"symmetric\", \"milestones\": [%d, %d, %d, %d]}}",
                 m[0], m[1], m[2], m[3]);
        run r = begin(g, config);
        all(&r, false, false);
        for (int step = 0; step <= 401; step++) {
            descend(&r, &in);
            all(&r, step < m[2], step >= m[1]);
            if (step == m[3] - 1 || step == m[3])
                assert_int_equal(norm_moves(&r, &in), step < m[3]);
        }
        OK(rq_linear_quantizer_finalize(r.q, &out, &err));
        rq_session *s = NULL;
        rq_tensor z;
        OK(rq_session_create(&s, out, NULL, &err));
        OK(rq_session_run(s, &(rq_feed) { "x", in }, 1, &z, &err));
        rq_tensor_release(&z);
        rq_session_destroy(s);
        rq_graph_destroy(out);
        end(&r);
    }
}

/* "Calibration data based quantization": one step, then data without training, then the end. */
static void doc7_calibration_alone(void **state)
{
    (void)state;
    float x[2 * 81];
    for (int i = 0; i < N(x); i++)
        x[i] = (float)((i * 37) % 101 - 50) / 25;
    const rq_tensor in = view(x, 4, (int64_t[]) { 2, 1, 9, 9 });
    rq_graph *out = NULL;
    run r = begin(layer(false, "y"), "{\"global_config\": {\"milestones\": [0, 1000, 1000, 0]}}");
    OK(rq_linear_quantizer_step(r.q, r.a, &err));
    for (int i = 0; i < 3; i++) {
        all(&r, true, false);
        assert_false(norm_moves(&r, &in));
    }
    rq_autograd_train(r.a, false);
    OK(rq_linear_quantizer_finalize(r.q, &out, &err));
    rq_value_info v;
    OK(rq_edit_value(out, "x", &v, &err));
    assert_non_null(v.quant);
    const float want = 2 / 127.5f; /* symmetric around 128: x reaches from -2 to 2 */
    near(v.quant->scale, &want, 1, 1e-8, "scale of the input");
    rq_graph_destroy(out);
    end(&r);
}

/* ---- the worked numbers: a 1x1 convolution from 1 to 2 channels and its batch norm, 4-bit weights, reals around them ---- */

static void set(rq_graph *g, const char *name, float a, float b)
{
    rq_tensor old = constant(g, name), t = { 0 };
    rq_value_info v;
    OK(rq_edit_value(g, name, &v, &err));
    OK(rq_tensor_create(&t, RQ_DTYPE_F32, &v.shape, true));
    t.f32[0] = a;
    t.f32[1] = b;
    OK(rq_edit_set_constant(g, name, &t, &err));
    rq_tensor_release(&t);
    rq_tensor_release(&old);
}

static void v6_a_batch_norm_trains_with_its_convolution(void **state)
{
    (void)state;
    rq_nn *n = NULL;
    rq_graph *g = NULL, *out = NULL;
    OK(rq_nn_create(&n, 1));
    rq_nn_value v = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { 4, 1, 1, 1 });
    rq_nn_output(n, "y", rq_nn_batch_norm(n, "bn", rq_nn_conv2d(n, "conv", v, 2, 1, NULL), NULL));
    OK(rq_nn_finish(n, &g, &err));
    set(g, "conv.weight", 0.8f, -0.37f);
    set(g, "conv.bias", 0.1f, -0.2f);
    set(g, "bn.weight", 1.5f, 0.5f);
    set(g, "bn.bias", 0.25f, -0.75f);
    set(g, "bn.running_mean", 0.3f, -0.1f);
    set(g, "bn.running_var", 0.64f, 2.25f);
    run r = begin(g, "{\"global_config\": {\"weight_dtype\": \"qint4\", \"activation_dtype\": \"float32\"}}");
    assert_int_equal(r.n, 1);
    assert_string_equal(r.names[0], "conv.weight_fake_quant");
    float x[] = { 0.2f, -1, 0.7f, 1.3f };
    const rq_tensor in = view(x, 4, (int64_t[]) { 4, 1, 1, 1 });
    rq_tensor y = forward(&r, &in), t;
    near(y.f32,
         (float[]) { 0.072609f, -0.690871f, -2.056089f, 0.018672f, 0.959566f, -0.986514f, 2.023915f, -1.341286f }, 8,
         2e-6, "in training");
    near(rq_fake_quantizer_scale(r.fakes[0]), (float[]) { 0.19999844f, 0.01644441f }, 2, 2e-8, "scale");
    t = constant(rq_linear_quantizer_model(r.q), "bn.running_mean");
    near(t.f32, (float[]) { 0.3024f, -0.12184f }, 2, 1e-6, "running mean");
    rq_tensor_release(&t);
    t = constant(rq_linear_quantizer_model(r.q), "bn.running_var");
    near(t.f32, (float[]) { 0.6291494f, 2.0398490f }, 2, 1e-6, "running variance");
    rq_tensor_release(&t);
    rq_fake_quantizer_enable_observer(r.fakes[0], false);
    OK(rq_autograd_freeze_batch_norm(r.a, NULL, true, &err));
    y = forward(&r, &in);
    static const float frozen[] = { 0.147242f, -0.803674f, -1.532745f, -0.645807f,
                                    0.847237f, -0.869451f, 1.687230f,  -0.948384f };
    near(y.f32, frozen, 8, 2e-6, "frozen");
    OK(rq_linear_quantizer_finalize(r.q, &out, &err));
    rq_session *s = NULL;
    rq_tensor z;
    OK(rq_session_create(&s, out, NULL, &err));
    OK(rq_session_run(s, &(rq_feed) { "x", in }, 1, &z, &err));
    near(z.f32, frozen, 8, 2e-6, "finalized");
    rq_tensor_release(&z);
    rq_session_destroy(s);
    rq_value_info w;
    OK(rq_edit_value(out, "conv.weight", &w, &err));
    assert_non_null(w.quant);
    assert_int_equal(w.quant->n, 2);
    near(w.quant->scale, (float[]) { 1.3999891f / 7, 0.1315553f / 8 }, 2, 1e-7, "scale of the folded weight");
    rq_graph_destroy(out);
    end(&r);
}

/* ---- what is written ---- */

static rq_graph *network(void)
{
    rq_nn *n = NULL;
    rq_graph *g = NULL;
    OK(rq_nn_create(&n, 7));
    rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { 2, 3, 8, 8 });
    x = rq_nn_relu(n, "relu1",
                   rq_nn_batch_norm(n, "bn1", rq_nn_conv2d(n, "conv1", x, 8, 3, &(rq_nn_conv) { .padding = 1 }), NULL));
    rq_nn_value y = rq_nn_conv2d(n, "conv2", x, 8, 3, &(rq_nn_conv) { .padding = 1 });
    x = rq_nn_relu(n, "relu2", rq_nn_add(n, x, rq_nn_batch_norm(n, "bn2", y, NULL)));
    x = rq_nn_flatten(n, "flatten", rq_nn_max_pool(n, "pool", x, 2, NULL), 1);
    rq_nn_output(n, "y", rq_nn_linear(n, "fc", x, 5, NULL));
    OK(rq_nn_finish(n, &g, &err));
    return g;
}

static void draw(float *x, int n, unsigned *r)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)((*r = *r * 1664525u + 1013904223u) >> 8) / (1 << 23) - 1;
}

enum { SIZE = 2 * 3 * 8 * 8, OUT = 10 };

static void integers_give_what_the_simulation_gave_at_any_width(void **state)
{
    (void)state;
    const char *path = "test_linear_quantizer_steps.onnx";
    for (int i = 0; i < 28; i++) {
        const int w = 2 + i % 7, a = 2 + (i * 3 + i / 7) % 7;
        const bool affine = i / 7 & 1;
        char config[256];
        snprintf(config, sizeof config,
                 "{\"global_config\": {\"weight_dtype\": \"qint%d\", \"activation_n_bits\": %d, "
                 "\"quantization_scheme\": \"%s\"}}",
                 w, a, affine ? "affine" : "symmetric");
        run r = begin(network(), config);
        static float x[SIZE];
        unsigned seed = 5;
        const rq_tensor in = view(x, 4, (int64_t[]) { 2, 3, 8, 8 });
        for (int step = 0; step < 4; step++) {
            draw(x, SIZE, &seed);
            forward(&r, &in);
        }
        for (int f = 0; f < r.n; f++)
            rq_fake_quantizer_enable_observer(r.fakes[f], false);
        rq_autograd_train(r.a, false);
        rq_tensor y = forward(&r, &in), z[2];
        rq_graph *out[2] = { NULL, NULL };
        OK(rq_linear_quantizer_finalize(r.q, &out[0], &err));
        OK(rq_save(out[0], path, &err));
        OK(rq_load(&out[1], path, &err));
        for (int k = 0; k < 2; k++) {
            rq_session *s = NULL;
            OK(rq_session_create(&s, out[k], NULL, &err));
            OK(rq_session_run(s, &(rq_feed) { "x", in }, 1, &z[k], &err));
            rq_session_destroy(s);
        }
        assert_memory_equal(z[0].f32, z[1].f32, OUT * sizeof(float)); /* the file is the graph */
        /* of ten outputs, each with a layer of 128 sums behind it that may have fallen on a border, most agree to the code */
        rq_value_info v;
        OK(rq_edit_value(out[0], "y", &v, &err));
        assert_non_null(v.quant);
        int off = 0;
        for (int k = 0; k < OUT; k++) {
            const double d = fabs((double)y.f32[k] - z[0].f32[k]) / v.quant->scale[0];
            off += d > 0.01;
            if (!(d < (a < 8 ? 1.01 : 2.01)))
                fail_msg("W%dA%d: output %d is %.9g in the simulation, %.9g in integers: %g steps", w, a, k,
                         (double)y.f32[k], (double)z[0].f32[k], d);
        }
        if (off > OUT / 2)
            fail_msg("W%dA%d: %d of %d outputs differ", w, a, off, OUT);
        for (int k = 0; k < 2; k++) {
            rq_tensor_release(&z[k]);
            rq_graph_destroy(out[k]);
        }
        end(&r);
    }
    remove(path);
}

static void a_state_goes_on_where_it_was(void **state)
{
    (void)state;
    const char *config = "{\"global_config\": {\"milestones\": [0, 1, 3, 2]}}";
    static float x[SIZE];
    unsigned seed = 9;
    const rq_tensor in = view(x, 4, (int64_t[]) { 2, 3, 8, 8 });
    run r = begin(network(), config), back = begin(network(), config);
    for (int step = 0; step < 4; step++) {
        draw(x, SIZE, &seed);
        forward(&r, &in);
        OK(rq_linear_quantizer_step(r.q, r.a, &err));
    }
    rq_state *s = NULL;
    OK(rq_state_create(&s));
    OK(rq_linear_quantizer_save(r.q, s, "quantizer."));
    OK(rq_linear_quantizer_load(back.q, s, "quantizer.", &err));
    OK(rq_linear_quantizer_resume(back.q, back.a, &err));
    rq_state_destroy(s);
    static const char *const norms[] = { "bn1.running_mean", "bn1.running_var", "bn2.running_mean", "bn2.running_var" };
    for (int i = 0; i < N(norms); i++) { /* parameters and statistics are the graph's, not the quantizer's */
        rq_tensor from = constant(rq_linear_quantizer_model(r.q), norms[i]),
                  to = constant(rq_linear_quantizer_model(back.q), norms[i]);
        memcpy(to.f32, from.f32, 8 * sizeof(float));
        rq_tensor_release(&from);
        rq_tensor_release(&to);
    }
    for (int i = 0; i < r.n; i++) {
        assert_int_equal(rq_fake_quantizer_observer_enabled(back.fakes[i]), false);
        assert_int_equal(rq_fake_quantizer_fake_quant_enabled(back.fakes[i]), true);
    }
    for (int step = 0; step < 3; step++) { /* no milestone comes twice, and batch norms stay frozen */
        draw(x, SIZE, &seed);
        rq_tensor y = forward(&r, &in), z = forward(&back, &in);
        assert_memory_equal(y.f32, z.f32, OUT * sizeof(float));
        OK(rq_linear_quantizer_step(r.q, r.a, &err));
        OK(rq_linear_quantizer_step(back.q, back.a, &err));
        for (int i = 0; i < r.n; i++)
            assert_int_equal(rq_fake_quantizer_observer_enabled(back.fakes[i]), false);
    }
    end(&r);
    end(&back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(e1_e4_e7_milestones_come_with_their_call),
        cmocka_unit_test(e4_four_bits_of_one_layer),
        cmocka_unit_test(e8_a_network_that_does_nothing_is_finalized),
        cmocka_unit_test(doc6_loops_of_the_documentation),
        cmocka_unit_test(doc7_calibration_alone),
        cmocka_unit_test(v6_a_batch_norm_trains_with_its_convolution),
        cmocka_unit_test(integers_give_what_the_simulation_gave_at_any_width),
        cmocka_unit_test(a_state_goes_on_where_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
