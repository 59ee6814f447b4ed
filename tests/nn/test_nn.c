/* tests/nn/test_nn.c — networks built by hand: names, sharing, shapes, mistakes, initial numbers, files, and every allocation failing once. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "requant/requant.h"

/* Every layer there is, on a picture and on a sequence. */
static rq_status everything(rq_graph **out, rq_err *err)
{
    rq_nn *n;
    (void)rq_nn_create(&n, 7);
    const int64_t batch = rq_nn_dim(n, "batch");
    rq_nn_value x = rq_nn_input(n, "image", RQ_DTYPE_F32, 4, (int64_t[]) { batch, 3, 16, 16 }), skip;
    x = rq_nn_quant_wrapper_begin(n, "body", x);
    rq_nn_enter(n, "stem");
    x = rq_nn_conv2d(n, NULL, x, 8, 3, &(rq_nn_conv) { .padding = 1, .no_bias = true });
    x = rq_nn_batch_norm(n, NULL, x, NULL);
    x = skip = rq_nn_relu(n, NULL, x);
    rq_nn_leave(n);
    x = rq_nn_conv2d(n, "dw", x, 8, 3, &(rq_nn_conv) { .padding = 1, .groups = 8 });
    x = rq_nn_relu6(n, "relu6", x);
    x = rq_nn_conv2d(n, "dw", x, 8, 3, &(rq_nn_conv) { .padding = 1, .groups = 8 });
    x = rq_nn_hardswish(n, "hs", x);
    x = rq_nn_add(n, x, skip);
    x = rq_nn_ff_add_relu(n, "ff", x, skip);
    x = rq_nn_ff_mul_scalar(n, "scaled", x, 0.5);
    x = rq_nn_max_pool(n, "pool", x, 2, NULL);
    x = rq_nn_conv_transpose2d(n, "up", x, 4, 2, &(rq_nn_conv) { .stride = 2, .groups = 2 });
    x = rq_nn_prelu(n, "prelu", x, true);
    x = rq_nn_avg_pool(n, "avg", x, 3, &(rq_nn_pool) { .stride = 2, .padding = 1 });
    x = rq_nn_silu(n, "silu", x);
    x = rq_nn_cat(n, 2, (rq_nn_value[]) { x, x }, 1);
    x = rq_nn_adaptive_avg_pool(n, "adaptive", x, 2);
    x = rq_nn_flatten(n, "flatten", x, 1);
    x = rq_nn_linear(n, "fc", x, 12, NULL);
    x = rq_nn_batch_norm(n, "bn1d", x, &(rq_nn_norm) { .eps = 1e-3, .momentum = 0.2, .no_affine = true });
    x = rq_nn_gelu(n, "gelu", x, false);
    x = rq_nn_dropout(n, "drop", x, 0.5);
    x = rq_nn_leaky_relu(n, "leaky", x, 0.01);
    x = rq_nn_quant_wrapper_end(n, x);
    rq_nn_output(n, "features", x);

    rq_nn_value hidden, words = rq_nn_input(n, "words", RQ_DTYPE_S64, 2, (int64_t[]) { batch, 5 });
    x = rq_nn_embedding(n, "emb", words, 11, 6);
    x = rq_nn_lstm(n, "lstm", x, 4,
                   &(rq_nn_recurrent) { .layers = 2, .bidirectional = true, .batch_first = true, .hidden = &hidden });
    x = rq_nn_multihead_attention(n, "mha", x, x, x, 2, &(rq_nn_attention) { .batch_first = true });
    skip = rq_nn_linear(n, "kv", x, 8, NULL);
    x = rq_nn_multihead_attention(n, "cross", x, skip, skip, 4, &(rq_nn_attention) { .batch_first = true });
    x = rq_nn_layer_norm(n, "ln", x, 1, NULL);
    x = rq_nn_gru(n, "gru", x, 3, &(rq_nn_recurrent) { .batch_first = true });
    x = rq_nn_softmax(n, "softmax", x, -1);
    rq_nn_output(n, "shares", x);
    rq_nn_output(n, "hidden", hidden);

    x = rq_nn_input(n, "line", RQ_DTYPE_F32, 3, (int64_t[]) { 1, 2, 9 });
    x = rq_nn_conv1d(n, "c1", x, 4, 3, &(rq_nn_conv) { .dilation = 2 });
    x = rq_nn_conv_transpose1d(n, "t1", x, 2, 3, NULL);
    x = rq_nn_reshape(n, x, 5, (int64_t[]) { 1, 2, 1, 7, 1 });
    x = rq_nn_conv3d(n, "c3", x, 2, 1, NULL);
    x = rq_nn_conv_transpose3d(n, "t3", x, 2, 1, NULL);
    x = rq_nn_mul(n, rq_nn_sigmoid(n, "sig", x), rq_nn_tanh(n, "tanh", x));
    x = rq_nn_sub(n, rq_nn_elu(n, "elu", x, 1), rq_nn_hardsigmoid(n, "hsig", x));
    x = rq_nn_mean(n, rq_nn_permute(n, x, (int64_t[]) { 0, 2, 3, 4, 1 }), 1, false);
    rq_nn_output(n, "y", rq_nn_log_softmax(n, "logsoft", x, 1));
    return rq_nn_finish(n, out, err);
}

static void names_and_types_survive_a_file(void **state)
{
    (void)state;
    static const struct {
        const char *name, *type;
        int nodes;
    } want[] = {
        { "body.quant", "QuantStub", 1 },
        { "body.module.stem.0", "Conv2d", 1 },
        { "body.module.stem.1", "BatchNorm2d", 1 },
        { "body.module.stem.2", "ReLU", 1 },
        { "body.module.dw", "Conv2d", 2 },
        { "body.module.relu6", "ReLU6", 1 },
        { "body.module.ff", "FloatFunctional", 2 },
        { "body.module.scaled", "FloatFunctional", 1 },
        { "body.module.up", "ConvTranspose2d", 1 },
        { "body.module.prelu", "PReLU", 1 },
        { "body.module.silu", "SiLU", 2 },
        { "body.module.fc", "Linear", 1 },
        { "body.module.bn1d", "BatchNorm1d", 1 },
        { "body.module.gelu", "GELU", 1 },
        { "body.dequant", "DeQuantStub", 1 },
        { "emb", "Embedding", 1 },
        { "kv", "Linear", 2 },
        { "mha.out_proj", "Linear", 2 },
        { "ln", "LayerNorm", 1 },
        { "c1", "Conv1d", 1 },
        { "c3", "Conv3d", 1 },
    };
    rq_graph *g = NULL, *read = NULL;
    rq_module *m = NULL;
    rq_err err = { 0 };
    int n = 0;
    if (everything(&g, &err))
        fail_msg("%s", err.text);
    assert_int_equal(rq_save(g, RQ_TEST_TMP "/nn.onnx", &err), RQ_OK);
    assert_int_equal(rq_load(&read, RQ_TEST_TMP "/nn.onnx", &err), RQ_OK);
    assert_int_equal(rq_graph_modules(read, &m, &n), RQ_OK);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        int k = 0;
        while (k < n && strcmp(m[k].name, want[i].name) != 0)
            k++;
        if (k == n)
            fail_msg("no module '%s'", want[i].name);
        assert_string_equal(m[k].type, want[i].type);
        assert_int_equal(m[k].call, false);
    }
    rq_tensor t;
    assert_int_equal(rq_edit_constant(read, "body.module.stem.0.weight", &t, &err), RQ_OK);
    assert_int_equal(t.shape.dim[1], 3);
    rq_tensor_release(&t);
    rq_free(m);
    rq_graph_destroy(read);
    rq_graph_destroy(g);
}

static void it_runs(void **state)
{
    (void)state;
    rq_graph *g = NULL;
    rq_session *s = NULL;
    rq_err err = { 0 };
    rq_tensor image, words, line, out[4];
    if (everything(&g, &err))
        fail_msg("%s", err.text);
    const rq_shape si = rq_shape_of(4, (int64_t[]) { 2, 3, 16, 16 }), sw = rq_shape_of(2, (int64_t[]) { 2, 5 }),
                   sl = rq_shape_of(3, (int64_t[]) { 1, 2, 9 });
    assert_int_equal(rq_tensor_create(&image, RQ_DTYPE_F32, &si, true), RQ_OK);
    assert_int_equal(rq_tensor_create(&words, RQ_DTYPE_S64, &sw, true), RQ_OK);
    assert_int_equal(rq_tensor_create(&line, RQ_DTYPE_F32, &sl, true), RQ_OK);
    for (int i = 0; i < 2 * 3 * 16 * 16; i++)
        image.f32[i] = (float)(i % 17) / 17;
    for (int i = 0; i < 18; i++)
        line.f32[i] = (float)i / 18;
    for (int i = 0; i < 10; i++)
        words.s64[i] = i;
    const rq_feed feeds[] = { { "image", image }, { "words", words }, { "line", line } };
    if (rq_session_create(&s, g, NULL, &err) || rq_session_run(s, feeds, 3, out, &err))
        fail_msg("%s", err.text);
    static const int64_t shapes[4][3] = { { 2, 12 }, { 2, 5, 3 }, { 4, 2, 4 }, { 1, 7, 1 } };
    for (int i = 0; i < 4; i++) {
        for (int a = 0; a < out[i].shape.rank && a < 3; a++)
            assert_int_equal(out[i].shape.dim[a], shapes[i][a]);
        for (int64_t k = 0; k < rq_tensor_count(&out[i]); k++)
            assert_true(isfinite(out[i].f32[k]));
        rq_tensor_release(&out[i]);
    }
    rq_session_destroy(s);
    rq_graph_destroy(g);
    rq_tensor_release(&image);
    rq_tensor_release(&words);
    rq_tensor_release(&line);
}

static void one_name_is_one_module(void **state)
{
    (void)state;
    rq_graph *g = NULL;
    rq_nn *n;
    assert_int_equal(rq_nn_create(&n, 1), RQ_OK);
    rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 2, (int64_t[]) { 1, 4 });
    for (int i = 0; i < 3; i++) { /* a block of unnamed layers, thrice */
        rq_nn_enter(n, "block");
        x = rq_nn_linear(n, NULL, x, 4, NULL);
        x = rq_nn_relu(n, NULL, x);
        rq_nn_leave(n);
    }
    rq_nn_output(n, "y", x);
    assert_int_equal(rq_nn_finish(n, &g, NULL), RQ_OK);
    rq_graph_summary sum;
    assert_int_equal(rq_graph_summarize(g, &sum, NULL), RQ_OK);
    assert_int_equal(sum.n_parameters, 4 * 4 + 4);
    assert_int_equal(sum.n_nodes, 6);
    assert_int_equal(rq_edit_find_node(g, "/block/0/Gemm_2"), 4);
    rq_graph_destroy(g);
}

typedef void mistake(rq_nn *n, rq_nn_value x);

static void other_sizes(rq_nn *n, rq_nn_value x)
{
    rq_nn_linear(n, "fc", rq_nn_linear(n, "fc", x, 3, NULL), 3, NULL);
}
static void other_type(rq_nn *n, rq_nn_value x)
{
    rq_nn_relu(n, "fc", rq_nn_linear(n, "fc", x, 3, NULL));
}
static void groups(rq_nn *n, rq_nn_value x)
{
    rq_nn_conv1d(n, "c", rq_nn_reshape(n, x, 3, (int64_t[]) { 1, 4, 1 }), 6, 1, &(rq_nn_conv) { .groups = 4 });
}
static void rank(rq_nn *n, rq_nn_value x)
{
    rq_nn_conv2d(n, "c", x, 6, 3, NULL);
}
static void not_left(rq_nn *n, rq_nn_value x)
{
    (void)x;
    rq_nn_enter(n, "a");
}
static void left_twice(rq_nn *n, rq_nn_value x)
{
    (void)x;
    rq_nn_leave(n);
}
static void bad_name(rq_nn *n, rq_nn_value x)
{
    rq_nn_relu(n, "a/b", x);
}
static void no_value(rq_nn *n, rq_nn_value x)
{
    rq_nn_relu(n, "r", x + 99);
}
static void adds(rq_nn *n, rq_nn_value x)
{
    rq_nn_add(n, x, rq_nn_linear(n, "fc", x, 3, NULL));
}
static void taken(rq_nn *n, rq_nn_value x)
{
    rq_nn_output(n, "x", rq_nn_relu(n, "r", x));
}
static void uneven(rq_nn *n, rq_nn_value x)
{
    rq_nn_adaptive_avg_pool(n, "p", rq_nn_reshape(n, x, 3, (int64_t[]) { 1, 1, 4 }), 3);
}
static void heads(rq_nn *n, rq_nn_value x)
{
    x = rq_nn_reshape(n, x, 3, (int64_t[]) { 1, 1, 4 });
    rq_nn_multihead_attention(n, "a", x, x, x, 3, NULL);
}

static void the_first_mistake_is_said(void **state)
{
    (void)state;
    static const struct {
        mistake *make;
        rq_status status;
        const char *text;
    } cases[] = {
        { other_sizes, RQ_BAD_ARG,
          "module 'fc' (Linear): it is applied again with other settings, or to other sizes, than it was made with" },
        { other_type, RQ_BAD_ARG, "module 'fc' is a Linear, it cannot be applied as a ReLU" },
        { groups, RQ_BAD_ARG,
          "module 'c' (Conv1d): 4 input and 6 output channels in 4 groups: groups must divide both" },
        { rank, RQ_BAD_SHAPE, "module 'c' (Conv2d): its input has shape [1,4], expected rank 4" },
        { not_left, RQ_BAD_ARG, "'a' was entered and never left" },
        { left_twice, RQ_BAD_ARG, "the network is left more often than something was entered" },
        { bad_name, RQ_BAD_ARG, "'a/b' is no name of a module: words with dots between them, without '/'" },
        { no_value, RQ_BAD_ARG, "module 'r' (ReLU) is applied to 100, which is no value of the network" },
        { adds, RQ_BAD_SHAPE, NULL },
        { taken, RQ_BAD_GRAPH, NULL },
        { uneven, RQ_UNSUPPORTED, "module 'p' (AdaptiveAvgPool1d): 4 elements do not divide into 3 equal windows" },
        { heads, RQ_BAD_ARG, "module 'a' (MultiheadAttention): 3 heads do not divide 4 numbers" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_graph *g = NULL;
        rq_err err = { 0 };
        rq_nn *n;
        assert_int_equal(rq_nn_create(&n, 1), RQ_OK);
        rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 2, (int64_t[]) { 1, 4 });
        x = rq_nn_relu(n, "first", x);
        cases[i].make(n, x);
        if (cases[i].make != not_left && cases[i].make != left_twice)
            rq_nn_output(n, "y", rq_nn_relu(n, "a b//c", x)); /* a later one is not */
        assert_int_equal(rq_nn_finish(n, &g, &err), cases[i].status);
        if (cases[i].make == no_value)
            assert_non_null(strstr(err.text, "which is no value of the network"));
        else if (cases[i].text)
            assert_string_equal(err.text, cases[i].text);
        assert_null(g);
    }
    rq_err err = { 0 };
    rq_graph *g = NULL;
    assert_int_equal(rq_nn_relu(NULL, "r", 0), RQ_NN_FAILED); /* out of memory from the start */
    assert_int_equal(rq_nn_finish(NULL, &g, &err), RQ_NO_MEMORY);
}

static void moments(const float *x, int64_t n, double *mean, double *variance)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += (x[i] - *mean) * (x[i] - *mean);
    *variance = squares / (double)n;
}

static rq_graph *one_linear(uint64_t seed, bool another)
{
    rq_graph *g = NULL;
    rq_nn *n;
    assert_int_equal(rq_nn_create(&n, seed), RQ_OK);
    rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 2, (int64_t[]) { 1, 200 });
    if (another)
        rq_nn_output(n, "z", rq_nn_linear(n, "other", x, 5, NULL));
    rq_nn_output(n, "y", rq_nn_linear(n, "fc", x, 300, NULL));
    assert_int_equal(rq_nn_finish(n, &g, NULL), RQ_OK);
    return g;
}

static void parameters_start_as_the_papers_say(void **state)
{
    (void)state;
    static const struct {
        rq_nn_init init;
        double a, b, lo, hi, variance; /* ends of a uniform one; 0: none */
    } cases[] = {
        { RQ_NN_INIT_UNIFORM, -3, 1, -3, 1, 16.0 / 12 },
        { RQ_NN_INIT_NORMAL, 0.5, 2, 0, 0, 4 },
        { RQ_NN_INIT_KAIMING_UNIFORM, 0, 0, -0.17320508, 0.17320508, 2.0 / 200 },
        { RQ_NN_INIT_KAIMING_NORMAL, 0, 0, 0, 0, 2.0 / 200 },
        { RQ_NN_INIT_XAVIER_UNIFORM, 2, 0, -0.21908902, 0.21908902, 4 * 2.0 / 500 },
        { RQ_NN_INIT_XAVIER_NORMAL, 1, 0, 0, 0, 2.0 / 500 },
    };
    rq_graph *g = one_linear(3, false), *same = one_linear(3, true), *other = one_linear(4, false);
    rq_tensor w, v;
    double mean, variance;
    assert_int_equal(rq_edit_constant(g, "fc.weight", &w, NULL), RQ_OK);
    assert_int_equal(rq_edit_constant(same, "fc.weight", &v, NULL), RQ_OK);
    assert_memory_equal(w.f32, v.f32, w.bytes); /* whatever else there is */
    rq_tensor_release(&v);
    assert_int_equal(rq_edit_constant(other, "fc.weight", &v, NULL), RQ_OK);
    assert_memory_not_equal(w.f32, v.f32, w.bytes);
    rq_tensor_release(&v);
    const double bound = 1 / sqrt(200); /* as PyTorch's layers */
    moments(w.f32, 60000, &mean, &variance);
    assert_true(fabs(variance - bound * bound / 3) < 0.02 * bound * bound / 3);
    for (int i = 0; i < 60000; i++)
        assert_true(fabs((double)w.f32[i]) <= bound);
    rq_tensor_release(&w);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(rq_nn_initialize(g, "f*.w?ight", cases[i].init, cases[i].a, cases[i].b, 5, NULL), RQ_OK);
        assert_int_equal(rq_edit_constant(g, "fc.weight", &w, NULL), RQ_OK);
        moments(w.f32, 60000, &mean, &variance);
        assert_true(fabs(variance - cases[i].variance) < 0.02 * cases[i].variance);
        for (int k = 0; cases[i].hi != 0 && k < 60000; k++)
            assert_true((double)w.f32[k] >= cases[i].lo - 1e-7 && (double)w.f32[k] <= cases[i].hi + 1e-7);
        rq_tensor_release(&w);
    }
    assert_int_equal(rq_nn_initialize(g, "fc.weight", RQ_NN_INIT_ORTHOGONAL, 3, 0, 5, NULL), RQ_OK);
    assert_int_equal(rq_edit_constant(g, "fc.weight", &w, NULL), RQ_OK);
    for (int i = 0; i < 200; i += 7) /* [300][200]: columns */
        for (int j = 0; j < 200; j += 3) {
            double dot = 0;
            for (int k = 0; k < 300; k++)
                dot += (double)w.f32[k * 200 + i] * w.f32[k * 200 + j];
            assert_true(fabs(dot - (i == j ? 9 : 0)) < 1e-5);
        }
    rq_tensor_release(&w);
    rq_err err = { 0 };
    assert_int_equal(rq_nn_initialize(g, "fc.wait", RQ_NN_INIT_CONSTANT, 1, 0, 0, &err), RQ_NOT_FOUND);
    assert_int_equal(rq_nn_initialize(g, "fc.*", RQ_NN_INIT_XAVIER_NORMAL, 1, 0, 0, &err), RQ_BAD_SHAPE);
    assert_string_equal(err.text, "'fc.bias' has 1 axes; that initialization is for weights of 2 and more");
    rq_graph_destroy(g);
    rq_graph_destroy(same);
    rq_graph_destroy(other);
}

/* Linear over three axes has its weight behind a Transpose, attention of another tensor behind a Split as well: they are drawn anew too, within
 * 1 / sqrt(fan_in). */
static void weights_that_are_turned_or_cut_are_drawn_anew(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double bound; /* 1 / sqrt of what a product adds up */
    } want[] = { { "wide.weight", 0.70710678118 },
                 { "wide.bias", 0.70710678118 },
                 { "attend.in_proj_weight", 0.5 },
                 { "attend.in_proj_bias", 0.5 },
                 { "attend.out_proj.weight", 0.5 } };
    rq_nn *n;
    rq_graph *g = NULL;
    rq_err err = { 0 };
    assert_int_equal(rq_nn_create(&n, 1), RQ_OK);
    const rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 3, (const int64_t[]) { 3, 2, 2 }),
                      k = rq_nn_input(n, "k", RQ_DTYPE_F32, 3, (const int64_t[]) { 5, 2, 4 }),
                      q = rq_nn_input(n, "q", RQ_DTYPE_F32, 3, (const int64_t[]) { 3, 2, 4 });
    rq_nn_output(n, "y", rq_nn_linear(n, "wide", x, 50, NULL));
    rq_nn_output(n, "z", rq_nn_multihead_attention(n, "attend", q, k, k, 2, NULL));
    assert_int_equal(rq_nn_finish(n, &g, &err), RQ_OK);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        assert_int_equal(rq_nn_initialize(g, want[i].name, RQ_NN_INIT_CONSTANT, 7, 0, 1, &err), RQ_OK);
    assert_int_equal(rq_nn_reset_parameters(g, 3, &err), RQ_OK);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        rq_tensor t;
        double most = 0;
        assert_int_equal(rq_edit_constant(g, want[i].name, &t, &err), RQ_OK);
        for (int64_t e = 0; e < rq_tensor_count(&t); e++)
            most = fmax(most, fabs((double)t.f32[e]));
        if (!(most > 0.7 * want[i].bound && most <= want[i].bound))
            fail_msg("%s: the largest is %g, expected up to %g", want[i].name, most, want[i].bound);
        rq_tensor_release(&t);
    }
    rq_graph_destroy(g);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (int sweep = 0; sweep < 2; sweep++)
        for (size_t i = 1;; i += 1 + i / 40) {
            rq_graph *g = NULL;
            rq_err err = { 0 };
            const size_t live = rq_mem_live();
            rq_mem_fail_after(i, sweep);
            const rq_status s = everything(&g, &err);
            rq_mem_fail_after(0, false);
            rq_graph_destroy(g);
            assert_int_equal(rq_mem_live(), live);
            if (!s)
                break;
            assert_int_equal(s, RQ_NO_MEMORY);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_types_survive_a_file),
        cmocka_unit_test(it_runs),
        cmocka_unit_test(one_name_is_one_module),
        cmocka_unit_test(the_first_mistake_is_said),
        cmocka_unit_test(parameters_start_as_the_papers_say),
        cmocka_unit_test(weights_that_are_turned_or_cut_are_drawn_anew),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
