/* test_autograd_torch.c — a network forward and backward beside PyTorch's numbers (tests/golden/autograd/make.py): branches, a convolution used
 * twice, values read several times, batch norm as it trains, two outputs that are both pulled at. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ops/build.h"
#include "requant/requant.h"

#define DATA "tests/golden/autograd/branches.npz"

static rq_tensor load(const char *name)
{
    rq_err err = { 0 };
    rq_tensor t = { 0 };
    if (rq_npz_load(&t, DATA, name, &err))
        fail_msg("%s", err.text);
    return t;
}

static rq_id constant(rq_graph *g, const char *name)
{
    rq_id id;
    rq_tensor t = load(name);
    assert_int_equal(rq_graph_add_const(g, &id, name, &t, NULL), RQ_OK);
    rq_tensor_release(&t);
    return id;
}

static rq_id node(rq_graph *g, const char *op, const char *out, int n, const rq_id *in)
{
    return build_node(g, op, out, RQ_DTYPE_F32, n, in);
}

static rq_id conv(rq_graph *g, const char *out, int n, const rq_id *in)
{
    const rq_id v = node(g, "Conv", out, n, in);
    assert_int_equal(rq_attr_set_ints(g, g->values[v].producer, "pads", (int64_t[]) { 1, 1, 1, 1 }, 4), RQ_OK);
    return v;
}

static rq_graph *network(void)
{
    rq_graph *g = build_graph(21);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, (int64_t[]) { 4, 3, 8, 8 });
    const rq_id c = conv(g, "c", 3, (rq_id[]) { x, constant(g, "w1"), constant(g, "b1") });
    const rq_id n =
        node(g, "BatchNormalization", "n", 5,
             (rq_id[]) { c, constant(g, "gamma"), constant(g, "beta"), constant(g, "mean"), constant(g, "var") });
    const rq_id h = node(g, "Relu", "h", 1, &n), w2 = constant(g, "w2");
    const rq_id a1 = conv(g, "a1", 2, (rq_id[]) { h, w2 }), a = conv(g, "a", 2, (rq_id[]) { a1, w2 });
    const rq_id s = node(g, "Sigmoid", "s", 1, &h), b = node(g, "Mul", "b", 2, (rq_id[]) { h, s });
    const rq_id cat = node(g, "Concat", "cat", 2, (rq_id[]) { a, b });
    assert_int_equal(rq_attr_set_int(g, g->values[cat].producer, "axis", 1), RQ_OK);
    const rq_id axes = build_const(g, "axes", RQ_DTYPE_S64, 1, (int64_t[]) { 2 }, (double[]) { 2, 3 });
    const rq_id m = node(g, "ReduceMean", "m", 2, (rq_id[]) { cat, axes });
    assert_int_equal(rq_attr_set_int(g, g->values[m].producer, "keepdims", 0), RQ_OK);
    const rq_id y = node(g, "Gemm", "y", 3, (rq_id[]) { m, constant(g, "w3"), constant(g, "b3") });
    assert_int_equal(rq_attr_set_int(g, g->values[y].producer, "transB", 1), RQ_OK);
    build_output(g, y);
    build_output(g, h);
    return g;
}

/* Sums of some hundred products: rounding of f32 against the largest of them. (That of b1 is rounding and nothing else: batch norm takes a bias off.) */
static void assert_like(const char *name, const float *got, int64_t n)
{
    rq_tensor want = load(name);
    float most = 0;
    assert_int_equal(rq_tensor_count(&want), n);
    for (int64_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(want.f32[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - want.f32[i]) <= 1e-6f + 1e-5f * most))
            fail_msg("%s[%lld] is %g, PyTorch's is %g", name, (long long)i, (double)got[i], (double)want.f32[i]);
    rq_tensor_release(&want);
}

static void train(bool onednn, bool checkpoint)
{
    rq_err err = { 0 };
    rq_autograd *a = NULL;
    rq_graph *g = network();
    rq_autograd_cfg cfg = rq_autograd_defaults();
    cfg.onednn = onednn;
    cfg.checkpoint_activations = checkpoint;
    if (rq_autograd_create(&a, g, &cfg, &err))
        fail_msg("%s", err.text);
    rq_feed feed = { "x", load("x") };
    rq_tensor y[2], dy[2] = { load("dy"), load("dh") }, dx;
    assert_int_equal(rq_autograd_want_input(a, "x", NULL), RQ_OK);
    if (rq_autograd_forward(a, &feed, 1, y, &err))
        fail_msg("%s", err.text);
    assert_like("y", y[0].f32, 20);
    assert_like("h", y[1].f32, 4 * 6 * 64);
    if (rq_autograd_backward(a, dy, &err))
        fail_msg("%s", err.text);
    rq_parameter *p;
    const int n = rq_autograd_parameters(a, &p);
    assert_int_equal(n, 7);
    for (int i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "d_%s", p[i].name);
        assert_like(name, p[i].grad, p[i].count);
    }
    assert_int_equal(rq_autograd_input_grad(a, "x", &dx, NULL), RQ_OK);
    assert_like("dx", dx.f32, 4 * 3 * 64);
    assert_like("mean_after", g->values[find_value(g, "mean")].constant.f32, 6);
    assert_like("var_after", g->values[find_value(g, "var")].constant.f32, 6);
    rq_tensor_release(&feed.tensor);
    rq_tensor_release(&dy[0]);
    rq_tensor_release(&dy[1]);
    rq_autograd_destroy(a);
    rq_graph_destroy(g);
}

static void gradients_are_those_of_pytorch(void **unused)
{
    (void)unused;
    train(true, false);
    train(false, false);
    train(true, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(gradients_are_those_of_pytorch) };
    return cmocka_run_group_tests_name("autograd_torch", tests, NULL, NULL);
}
