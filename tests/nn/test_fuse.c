/* tests/nn/test_fuse.c — fusing: the same function after it, the names that PyTorch gives, and what is refused, with the reason. */
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

/* 1x1 convolution and batch norm of docs/torch-facts.md's example: what folding gives there. */
static void folding_gives_pytorchs_numbers(void **state)
{
    (void)state;
    static const float w[] = { 0.5f, -0.25f, 1, 2 }, b[] = { 0.1f, -0.2f }, gamma[] = { 1.5f, -0.5f },
                       beta[] = { 0.25f, 0.75f }, mean[] = { 0.3f, -0.4f }, var[] = { 4, 0.25f };
    static const double want_w[] = { 0.374999553, -0.187499776, -0.999979973, -1.99995995 },
                        want_b[] = { 0.100000173, 0.550004005 };
    static const char *const names[] = { "conv.weight", "conv.bias",       "bn.weight",
                                         "bn.bias",     "bn.running_mean", "bn.running_var" };
    static const float *const values[] = { w, b, gamma, beta, mean, var };
    rq_graph *g = NULL;
    rq_nn *n;
    rq_err err = { 0 };
    rq_tensor t;
    assert_int_equal(rq_nn_create(&n, 1), RQ_OK);
    rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { 2, 2, 2, 2 });
    x = rq_nn_batch_norm(n, "bn", rq_nn_conv2d(n, "conv", x, 2, 1, NULL), NULL);
    rq_nn_output(n, "y", x);
    assert_int_equal(rq_nn_finish(n, &g, &err), RQ_OK);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(rq_edit_constant(g, names[i], &t, &err), RQ_OK);
        memcpy(t.data, values[i], t.bytes);
        rq_tensor_release(&t);
    }
    if (rq_nn_fuse_modules(g, RQ_NN_FUSE_EVAL, (const char *[]) { "conv", "bn" }, 2, &err))
        fail_msg("%s", err.text);
    assert_int_equal(rq_edit_constant(g, "conv.weight", &t, &err), RQ_OK);
    for (int i = 0; i < 4; i++)
        assert_true(fabs((double)t.f32[i] - want_w[i]) < 2e-7);
    rq_tensor_release(&t);
    assert_int_equal(rq_edit_constant(g, "conv.bias", &t, &err), RQ_OK);
    for (int i = 0; i < 2; i++)
        assert_true(fabs((double)t.f32[i] - want_b[i]) < 2e-7);
    rq_tensor_release(&t);
    rq_graph_destroy(g);
}

static rq_graph *net(void)
{
    rq_graph *g = NULL;
    rq_nn *n;
    rq_err err = { 0 };
    assert_int_equal(rq_nn_create(&n, 3), RQ_OK);
    rq_nn_value skip, x = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { 2, 4, 6, 6 });
    rq_nn_enter(n, "b0");
    x = rq_nn_conv2d(n, "conv", x, 6, 3, &(rq_nn_conv) { .groups = 2, .no_bias = true });
    x = rq_nn_batch_norm(n, "bn", x, NULL);
    x = rq_nn_relu(n, "relu", x);
    rq_nn_leave(n);
    rq_nn_enter(n, "b1");
    x = rq_nn_conv2d(n, "conv", x, 6, 1, NULL);
    x = rq_nn_batch_norm(n, "bn", x, NULL);
    skip = x = rq_nn_relu(n, "relu", x);
    rq_nn_leave(n);
    x = rq_nn_conv_transpose2d(n, "up", x, 4, 2, &(rq_nn_conv) { .groups = 2 });
    x = rq_nn_batch_norm(n, "upbn", x, NULL);
    x = rq_nn_relu(n, "shared", x);
    x = rq_nn_conv2d(n, "tail", x, 6, 2, NULL);
    x = rq_nn_relu(n, "shared", x);
    x = rq_nn_conv2d(n, "forked", rq_nn_add(n, x, skip), 3, 1, NULL);
    x = rq_nn_add(n, rq_nn_relu(n, "fork", x), x);
    x = rq_nn_batch_norm(n, "lonely", x, NULL);
    x = rq_nn_relu(n, "lonely_relu", x);
    x = rq_nn_flatten(n, "flat", x, 1);
    x = rq_nn_linear(n, "fc", x, 5, NULL);
    x = rq_nn_batch_norm(n, "fcbn", x, NULL);
    x = rq_nn_linear(n, "fc2", x, 5, NULL);
    rq_nn_output(n, "y", rq_nn_relu(n, "fc2relu", x));
    if (rq_nn_finish(n, &g, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < 2; i++) { /* statistics that are not trivial */
        assert_int_equal(
            rq_nn_initialize(g, i ? "*.running_var" : "*.running_mean", RQ_NN_INIT_UNIFORM, 0.3, 1, 5, &err), RQ_OK);
        assert_int_equal(rq_nn_initialize(g, i ? "*bn.weight" : "*bn.bias", RQ_NN_INIT_UNIFORM, -1, 1, 6, &err), RQ_OK);
    }
    return g;
}

static void run(const rq_graph *g, rq_tensor *y)
{
    rq_session *s = NULL;
    rq_err err = { 0 };
    rq_tensor x;
    const rq_shape shape = rq_shape_of(4, (int64_t[]) { 2, 4, 6, 6 });
    assert_int_equal(rq_tensor_create(&x, RQ_DTYPE_F32, &shape, false), RQ_OK);
    for (int i = 0; i < 2 * 4 * 36; i++)
        x.f32[i] = (float)(i * 7 % 19) / 19 - 0.5f;
    if (rq_session_create(&s, g, NULL, &err) || rq_session_run(s, &(rq_feed) { "x", x }, 1, y, &err))
        fail_msg("%s", err.text);
    rq_session_destroy(s);
    rq_tensor_release(&x);
}

static void what_is_fused_computes_the_same(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        rq_graph *g = net();
        rq_tensor before, after;
        int n = 0;
        rq_err err = { 0 };
        run(g, &before);
        if (rq_nn_fuse_all(g, (rq_nn_fuse)how, &n, &err))
            fail_msg("%s", err.text);
        assert_int_equal(
            n, how == RQ_NN_FUSE_EVAL ? 6 : 5); /* b0, b1, up, lonely, fc, fc2; no ConvTranspose when training */
        run(g, &after);
        for (int64_t i = 0; i < rq_tensor_count(&before); i++)
            assert_true(fabs((double)before.f32[i] - after.f32[i]) < 1e-5);
        assert_int_equal(rq_edit_find_node(g, "/b0/bn/BatchNormalization") >= 0, false);
        assert_int_equal(rq_edit_find_node(g, "/b0/conv/bn/BatchNormalization") >= 0, how == RQ_NN_FUSE_QAT);
        assert_true(rq_edit_find_node(g, "/b0/conv/Relu") >= 0);
        if (how == RQ_NN_FUSE_QAT) {
            rq_state *dict = NULL;
            assert_int_equal(rq_state_create(&dict), RQ_OK);
            assert_int_equal(rq_nn_state_dict(g, dict, NULL), RQ_OK);
            assert_non_null(rq_state_find(dict, "b1.conv.bn.running_mean"));
            assert_non_null(rq_state_find(dict, "b1.conv.bias"));
            assert_null(rq_state_find(dict, "b1.bn.weight"));
            assert_string_equal(rq_edit_meta(g, "requant.fused.b1.conv"), "ConvBnReLU2d");
            rq_state_destroy(dict);
        }
        rq_tensor_release(&before);
        rq_tensor_release(&after);
        rq_graph_destroy(g);
    }
}

static void patterns_fuse_all_that_fit(void **state)
{
    (void)state;
    rq_graph *g = net();
    rq_err err = { 0 };
    if (rq_nn_fuse_modules(g, RQ_NN_FUSE_QAT, (const char *[]) { "b*.conv", "b*.bn", "b*.relu" }, 3, &err))
        fail_msg("%s", err.text);
    assert_true(rq_edit_find_node(g, "/b0/conv/Relu") >= 0);
    assert_true(rq_edit_find_node(g, "/b1/conv/Relu") >= 0);
    assert_int_equal(rq_nn_fuse_modules(g, RQ_NN_FUSE_QAT, (const char *[]) { "c*.conv", "c*.bn" }, 2, &err),
                     RQ_NOT_FOUND);
    assert_string_equal(err.text, "no modules fit the pattern 'c*.conv'");
    rq_graph_destroy(g);
}

static void what_would_change_the_network_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *names[3];
        int n;
        rq_nn_fuse how;
        rq_status status;
        const char *text;
    } cases[] = {
        { { "b0.conv", "b0.bm" },
          2,
          RQ_NN_FUSE_EVAL,
          RQ_NOT_FOUND,
          "there is no module 'b0.bm' to fuse; the nearest is 'b0.bn'" },
        { { "b0.conv", "b1.bn" },
          2,
          RQ_NN_FUSE_EVAL,
          RQ_BAD_GRAPH,
          "'b1.bn' does not follow 'b0.conv': it is applied to '/b1/conv/Conv_output_0'" },
        { { "upbn", "shared" },
          2,
          RQ_NN_FUSE_EVAL,
          RQ_BAD_GRAPH,
          "module 'shared' is applied 2 times, so it cannot be fused with one neighbour" },
        { { "forked", "fork" },
          2,
          RQ_NN_FUSE_QAT,
          RQ_BAD_GRAPH,
          "what 'forked' gives to 'fork' has 2 readers; fused, the others would have none" },
        { { "up", "upbn" }, 2, RQ_NN_FUSE_QAT, RQ_BAD_ARG, "ConvTranspose2d, BatchNorm2d do not fuse for training" },
        { { "fc", "fcbn", "fc2relu" }, 3, RQ_NN_FUSE_EVAL, RQ_BAD_ARG, "Linear, BatchNorm1d, ReLU do not fuse" },
        { { "flat", "fc" }, 2, RQ_NN_FUSE_EVAL, RQ_BAD_ARG, "module 'flat' is a Flatten, which fuses with nothing" },
        { { "b0.conv" }, 1, RQ_NN_FUSE_EVAL, RQ_BAD_ARG, "1 modules to fuse, expected 2 or 3" },
        { { "fcbn", "fc2relu" }, 2, RQ_NN_FUSE_EVAL, RQ_BAD_ARG, "BatchNorm1d, ReLU do not fuse" },
        { { "b0.conv", "fcbn" },
          2,
          RQ_NN_FUSE_EVAL,
          RQ_BAD_ARG,
          "'b0.conv' (Conv2d) and 'fcbn' (BatchNorm1d) do not fuse: they are of different dimensions" },
    };
    rq_graph *g = net();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_err err = { 0 };
        assert_int_equal(rq_nn_fuse_modules(g, cases[i].how, cases[i].names, cases[i].n, &err), cases[i].status);
        assert_string_equal(err.text, cases[i].text);
    }
    assert_true(rq_edit_find_node(g, "/b0/bn/BatchNormalization") >= 0);
    rq_graph_destroy(g);
}

/* x [2,3] -> a Gemm with `count` numbers for a bias, and alpha -> a batch norm of 4 channels. */
static rq_graph *gemm_net(int64_t count, double alpha)
{
    static const struct {
        const char *name;
        int rank;
        int64_t dim[2];
    } constants[] = { { "fc.weight", 2, { 4, 3 } }, { "fc.bias", 1, { 0 } },         { "bn.weight", 1, { 4 } },
                      { "bn.bias", 1, { 4 } },      { "bn.running_mean", 1, { 4 } }, { "bn.running_var", 1, { 4 } } };
    rq_graph *g = NULL;
    rq_err err = { 0 };
    int node;
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    assert_int_equal(rq_edit_set_opset(g, "", 17, &err), RQ_OK);
    const rq_shape in = rq_shape_of(2, (const int64_t[]) { 2, 3 });
    assert_int_equal(rq_edit_add_input(g, "x", RQ_DTYPE_F32, &in, &err), RQ_OK);
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        rq_tensor t;
        const rq_shape s = rq_shape_of(constants[i].rank, i == 1 ? &count : constants[i].dim);
        assert_int_equal(rq_tensor_create(&t, RQ_DTYPE_F32, &s, true), RQ_OK);
        for (int64_t k = 0; k < rq_tensor_count(&t); k++)
            t.f32[k] = (float)(k + 1) * 0.25f;
        assert_int_equal(rq_edit_add_constant(g, constants[i].name, &t, &err), RQ_OK);
        rq_tensor_release(&t);
    }
    const rq_edit_node nodes[] = { { .op = "Gemm",
                                     .name = "/fc/Gemm",
                                     .in = (const char *[]) { "x", "fc.weight", "fc.bias" },
                                     .n_in = 3,
                                     .out = (const char *[]) { "h" },
                                     .n_out = 1 },
                                   { .op = "BatchNormalization",
                                     .name = "/bn/BatchNormalization",
                                     .in = (const char *[]) { "h", "bn.weight", "bn.bias", "bn.running_mean",
                                                              "bn.running_var" },
                                     .n_in = 5,
                                     .out = (const char *[]) { "y" },
                                     .n_out = 1 } };
    assert_int_equal(rq_edit_add_node(g, &nodes[0], &node, &err), RQ_OK);
    assert_int_equal(rq_edit_set_int(g, node, "transB", 1, &err), RQ_OK);
    assert_int_equal(rq_edit_set_float(g, node, "alpha", alpha, &err), RQ_OK);
    assert_int_equal(rq_edit_add_node(g, &nodes[1], &node, &err), RQ_OK);
    assert_int_equal(rq_edit_add_output(g, "y", &err), RQ_OK);
    return g;
}

/* One number for a bias broadcasts, and has no room for one per channel; alpha would scale what is folded. */
static void a_gemm_that_no_batch_norm_folds_into(void **state)
{
    (void)state;
    static const struct {
        int64_t count;
        double alpha;
        const char *text; /* NULL: it fuses */
    } cases[] = { { 4, 1, NULL },
                  { 1, 1, "the bias of 'fc' has 1 elements, 'bn' 4 channels" },
                  { 4, 2, "'fc' is a Gemm with alpha 2 and beta 1, expected 1" } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_err err = { 0 };
        rq_graph *g = gemm_net(cases[i].count, cases[i].alpha);
        const rq_status s = rq_nn_fuse_modules(g, RQ_NN_FUSE_EVAL, (const char *[]) { "fc", "bn" }, 2, &err);
        assert_string_equal(s ? err.text : "", cases[i].text ? cases[i].text : "");
        rq_graph_destroy(g);
    }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 1;; i += 1 + i / 30) {
        rq_graph *g = net();
        rq_err err = { 0 };
        const size_t live = rq_mem_live();
        rq_mem_fail_after(i, true);
        const rq_status s = rq_nn_fuse_all(g, RQ_NN_FUSE_EVAL, NULL, &err);
        rq_mem_fail_after(0, false);
        if (s)
            assert_int_equal(rq_mem_live(), live);
        rq_graph_destroy(g);
        if (!s)
            break;
        assert_int_equal(s, RQ_NO_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folding_gives_pytorchs_numbers),
        cmocka_unit_test(what_is_fused_computes_the_same),
        cmocka_unit_test(patterns_fuse_all_that_fit),
        cmocka_unit_test(what_would_change_the_network_is_refused),
        cmocka_unit_test(a_gemm_that_no_batch_norm_folds_into),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
