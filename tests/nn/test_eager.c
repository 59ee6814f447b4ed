/* tests/nn/test_eager.c — eager mode beside PyTorch (make_eager.py): every FloatFunctional, stubs, modules with and without fake-quantizers. Which there are, what
 * they see in three batches, what comes out, and integers after it; what is refused, and memory that runs out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "ok.h"
#include "requant/requant.h"

#define DATA "tests/nn/eager.npz"
#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

static const char *const functions[] = { "mul", "add", "add_relu", "cat", "add_scalar", "mul_scalar", "matmul" };

/* make_eager.py's Net. */
static rq_graph *network(void)
{
    rq_graph *g = NULL;
    rq_nn *n;
    OK(rq_nn_create(&n, 1));
    rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { 2, 3, 8, 8 });
    x = rq_nn_conv2d(n, "conv1", rq_nn_quant_stub(n, "quant", x), 6, 3,
                     &(rq_nn_conv) { .padding = 1, .no_bias = true });
    x = rq_nn_relu(n, "relu1", rq_nn_batch_norm(n, "bn1", x, NULL));
    const rq_nn_value a = rq_nn_conv2d(n, "conv2", x, 6, 1, NULL);
    const rq_nn_value s = rq_nn_ff_add(n, "ff_add", rq_nn_ff_mul(n, "ff_mul", x, a), x);
    const rq_nn_value r = rq_nn_ff_add_relu(n, "ff_add_relu", s, a), z = rq_nn_ff_matmul(n, "ff_matmul", r, x);
    rq_nn_value c = rq_nn_ff_cat(n, "ff_cat", 2, (rq_nn_value[]) { r, x }, 1);
    c = rq_nn_ff_mul_scalar(n, "ff_mul_scalar", rq_nn_ff_add_scalar(n, "ff_add_scalar", c, 0.5), 2);
    c = rq_nn_conv_transpose2d(n, "up", c, 4, 2, &(rq_nn_conv) { .stride = 2 });
    c = rq_nn_relu6(n, "relu6", rq_nn_leaky_relu(n, "leaky", rq_nn_hardswish(n, "hs", c), 0.1));
    c = rq_nn_relu(n, "bare", c);
    c = rq_nn_max_pool(n, "pool", rq_nn_max_pool(n, "pool", c, 2, NULL), 2, NULL);
    c = rq_nn_linear(n, "fc1", rq_nn_flatten(n, "flatten", c, 1), 16, NULL);
    c = rq_nn_linear(n, "fc2", rq_nn_relu(n, "fcrelu", c), 5, NULL);
    c = rq_nn_tanh(n, "tanh", rq_nn_sigmoid(n, "sigmoid", c));
    rq_nn_output(n, "y", rq_nn_dequant_stub(n, "dequant", c));
    rq_nn_output(n, "z", rq_nn_dequant_stub(n, "dequant", z));
    OK(rq_nn_finish(n, &g, &err));
    return g;
}

static rq_tensor array(const char *name)
{
    rq_tensor t = { 0 };
    OK(rq_npz_load(&t, DATA, name, &err));
    return t;
}

/* With PyTorch's parameters, fused as there. */
static rq_graph *fused(void)
{
    static const char *const names[] = { "conv1.weight",    "bn1.weight",   "bn1.bias",   "bn1.running_mean",
                                         "bn1.running_var", "conv2.weight", "conv2.bias", "up.weight",
                                         "up.bias",         "fc1.weight",   "fc1.bias",   "fc2.weight",
                                         "fc2.bias" };
    rq_graph *g = network();
    rq_state *dict = NULL;
    OK(rq_state_create(&dict));
    for (int i = 0; i < N(names); i++) {
        char name[64];
        snprintf(name, sizeof name, "init/%s", names[i]);
        rq_tensor t = array(name);
        OK(rq_state_set(dict, NULL, names[i], &t));
        rq_tensor_release(&t);
    }
    OK(rq_nn_load_state_dict(g, dict, NULL, true, &err));
    rq_state_destroy(dict);
    OK(rq_nn_fuse_modules(g, RQ_NN_FUSE_QAT, (const char *[]) { "conv1", "bn1", "relu1" }, 3, &err));
    OK(rq_nn_fuse_modules(g, RQ_NN_FUSE_QAT, (const char *[]) { "fc1", "fcrelu" }, 2, &err));
    return g;
}

static rq_qconfig_mapping *mapping_of(const char *backend)
{
    rq_qconfig q;
    rq_qconfig_mapping *m = NULL;
    OK(rq_qconfig_default_qat(&q, backend, 1, &err));
    OK(rq_qconfig_mapping_create(&m, &err));
    OK(rq_qconfig_mapping_set_global(m, &q, &err));
    return m;
}

typedef struct trained {
    rq_eager *e;
    rq_autograd *a;
    rq_fake_quantizer *const *fakes;
    const char *const *names;
    int n;
} trained;

static trained prepare(const rq_graph *g)
{
    trained t;
    rq_qconfig_mapping *m = mapping_of("fbgemm");
    OK(rq_prepare_qat(&t.e, g, m, true, &err));
    rq_qconfig_mapping_destroy(m);
    t.n = rq_eager_fakes(t.e, &t.fakes, &t.names);
    rq_autograd_cfg cfg = rq_autograd_defaults();
    cfg.threads = 1;
    cfg.n_fakes = t.n;
    cfg.fakes = t.fakes;
    OK(rq_autograd_create(&t.a, rq_eager_model(t.e), &cfg, &err));
    return t;
}

static void release(trained *t)
{
    rq_autograd_destroy(t->a);
    rq_eager_destroy(t->e);
}

/* Three batches; the views of the first, evaluated after them with observers off. */
static void train(trained *t, rq_tensor y[2])
{
    rq_tensor x = { 0 };
    for (int step = 0; step < 3; step++) {
        char name[8];
        snprintf(name, sizeof name, "x%d", step);
        rq_tensor_release(&x);
        x = array(name);
        OK(rq_autograd_forward(t->a, &(rq_feed) { "x", x }, 1, y, &err));
    }
    rq_eager_enable_observer(t->e, false);
    rq_autograd_train(t->a, false);
    rq_tensor_release(&x);
    x = array("x0");
    OK(rq_autograd_forward(t->a, &(rq_feed) { "x", x }, 1, y, &err));
    rq_tensor_release(&x);
}

/* Every one is PyTorch's, and every one of PyTorch's is there. */
static void fake_quantizers_are_pytorchs(void **state)
{
    (void)state;
    static const char *const want[] = {
        "quant.activation_post_process",
        "conv1.weight_fake_quant",
        "conv1.activation_post_process",
        "conv2.weight_fake_quant",
        "conv2.activation_post_process",
        "ff_mul.activation_post_process",
        "ff_add.activation_post_process",
        "ff_add_relu.activation_post_process",
        "ff_matmul.activation_post_process",
        "ff_cat.activation_post_process",
        "up.activation_post_process",
        "hs.activation_post_process",
        "leaky.activation_post_process",
        "relu6.activation_post_process",
        "fc1.weight_fake_quant",
        "fc1.activation_post_process",
        "fc2.weight_fake_quant",
        "fc2.activation_post_process",
        "sigmoid.activation_post_process",
        "tanh.activation_post_process",
    };
    rq_graph *g = fused();
    trained t = prepare(g);
    rq_tensor y[2];
    assert_int_equal(t.n, N(want));
    train(&t, y);
    for (int i = 0; i < N(want); i++) {
        char name[80];
        int k = 0;
        while (k < t.n && strcmp(t.names[k], want[i]) != 0)
            k++;
        if (k == t.n)
            fail_msg("no fake-quantizer '%s'", want[i]);
        snprintf(name, sizeof name, "fq/%s/scale", want[i]);
        rq_tensor scale = array(name);
        snprintf(name, sizeof name, "fq/%s/zero_point", want[i]);
        rq_tensor zero = array(name);
        assert_int_equal(rq_fake_quantizer_channels(t.fakes[k]), rq_tensor_count(&scale));
        for (int c = 0; c < rq_fake_quantizer_channels(t.fakes[k]); c++) {
            const double got = rq_fake_quantizer_scale(t.fakes[k])[c];
            if (!(fabs(got / (double)scale.f32[c] - 1) < 1e-3))
                fail_msg("%s: scale %g, there %g", want[i], got, (double)scale.f32[c]);
            assert_true(fabsf(rq_fake_quantizer_zero_point(t.fakes[k])[c] - zero.f32[c]) <= 1);
        }
        rq_tensor_release(&scale);
        rq_tensor_release(&zero);
    }
    release(&t);
    rq_graph_destroy(g);
}

/* Numbers apart by more than a step, of n. */
static int far(const float *a, const float *b, int64_t n, float step)
{
    int k = 0;
    for (int64_t i = 0; i < n; i++)
        k += !(fabsf(a[i] - b[i]) <= 1.01f * step);
    return k;
}

static void outputs_and_integers_are_near_pytorchs(void **state)
{
    (void)state;
    rq_graph *g = fused(), *q = NULL;
    trained t = prepare(g);
    rq_tensor y[2], out[2], want[2] = { array("y"), array("z") }, x = array("x0");
    rq_session *s = NULL;
    train(&t, y);
    static const float steps[] = { 2.0f / 256, 0.20634104f };
    for (int i = 0; i < 2; i++)
        assert_true(far(y[i].f32, want[i].f32, rq_tensor_count(&y[i]), steps[i]) == 0);
    OK(rq_convert(t.e, &q, &err));
    OK(rq_session_create(&s, q, &(rq_session_cfg) { .threads = 1 }, &err));
    OK(rq_session_run(s, &(rq_feed) { "x", x }, 1, out, &err));
    for (int i = 0; i < 2; i++) {
        assert_true(far(out[i].f32, want[i].f32, rq_tensor_count(&out[i]), steps[i]) == 0);
        rq_tensor_release(&out[i]);
        rq_tensor_release(&want[i]);
    }
    /* codes where fake-quantizers were: the function's value has those of its instance, the scalars' have none */
    for (int i = 0; i < N(functions); i++) {
        static const char *const ops[] = { "Mul", "Add", "Relu", "Concat", "Add", "Mul", "MatMul" };
        char name[64];
        rq_value_info v;
        int found = 0;
        const bool scalar = strstr(functions[i], "scalar") != NULL;
        snprintf(name, sizeof name, "/ff_%s/", functions[i]);
        for (int k = 0; k < rq_edit_n_nodes(q); k++) {
            rq_edit_node n;
            if (!rq_edit_node_at(q, k, &n) || strncmp(n.name, name, strlen(name)) != 0 || strcmp(n.op, ops[i]) != 0)
                continue;
            OK(rq_edit_value(q, rq_edit_node_out(q, k, 0), &v, &err));
            assert_int_equal(v.quant == NULL, scalar);
            found++;
        }
        assert_int_equal(found, 1);
    }
    /* it is trained on, as if nothing had been */
    OK(rq_autograd_forward(t.a, &(rq_feed) { "x", x }, 1, y, &err));
    rq_tensor_release(&x);
    rq_session_destroy(s);
    rq_graph_destroy(q);
    release(&t);
    rq_graph_destroy(g);
}

/* One instance for two operations: the union of their ranges, as there. One module name decides what is left out. */
static void instances_share_and_names_decide(void **state)
{
    (void)state;
    rq_nn *n;
    rq_graph *g = NULL;
    float v[8] = { -1, 2, 3, -4, 0.5f, 1, 2, 0.25f };
    const rq_shape shape = rq_shape_of(2, (int64_t[]) { 2, 4 });
    const rq_tensor x = rq_tensor_view(RQ_DTYPE_F32, &shape, v);
    rq_qconfig_mapping *m = mapping_of("qnnpack");
    OK(rq_nn_create(&n, 1));
    rq_nn_value in = rq_nn_quant_stub(n, "quant", rq_nn_input(n, "x", RQ_DTYPE_F32, 2, (int64_t[]) { 2, 4 }));
    rq_nn_value y = rq_nn_ff_mul(n, "ff", rq_nn_ff_add(n, "ff", in, in), in);
    y = rq_nn_linear(n, "head", rq_nn_linear(n, "float", y, 3, NULL), 2, NULL);
    rq_nn_output(n, "y", rq_nn_dequant_stub(n, "dequant", y));
    OK(rq_nn_finish(n, &g, &err));
    OK(rq_qconfig_mapping_set_module_name(m, "float", NULL, &err));
    rq_eager *e = NULL;
    OK(rq_prepare_qat(&e, g, m, false, &err));
    rq_fake_quantizer *const *fakes;
    const char *const *names;
    const int count = rq_eager_fakes(e, &fakes, &names);
    assert_int_equal(count, 4); /* quant, ff, head's two */
    for (int i = 0; i < count; i++)
        assert_null(strstr(names[i], "float"));
    rq_autograd_cfg cfg = rq_autograd_defaults();
    rq_autograd *a = NULL;
    rq_tensor out;
    cfg.threads = 1;
    cfg.fakes = fakes;
    cfg.n_fakes = count;
    OK(rq_autograd_create(&a, rq_eager_model(e), &cfg, &err));
    OK(rq_autograd_forward(a, &(rq_feed) { "x", x }, 1, &out, &err));
    for (int i = 0; i < count; i++)
        if (!strcmp(names[i], "ff.activation_post_process")) {
            rq_range r;
            OK(rq_observer_range(rq_fake_quantizer_observer(fakes[i]), &r, 1));
            assert_true(r.hi > 6 && r.lo < -7); /* sums reach from -8 to 6; a hundredth of 32 is added */
        }
    rq_autograd_destroy(a);
    rq_eager_destroy(e);
    rq_qconfig_mapping_destroy(m);
    rq_graph_destroy(g);
}

static void what_cannot_be_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *qconfig;
        rq_status status;
        const char *text;
    } cases[] = {
        { "default_qconfig", RQ_BAD_ARG, "its qconfig observes, training wants one that fake-quantizes" },
        { "default_dynamic_qconfig", RQ_BAD_ARG, "module 'quant' (QuantStub)" },
    };
    rq_graph *g = fused();
    for (int i = 0; i < N(cases); i++) {
        rq_qconfig q;
        rq_qconfig_mapping *m = NULL;
        rq_eager *e = NULL;
        OK(rq_qconfig_named(&q, cases[i].qconfig, &err));
        OK(rq_qconfig_mapping_create(&m, &err));
        OK(rq_qconfig_mapping_set_global(m, &q, &err));
        assert_int_equal(rq_prepare_qat(&e, g, m, false, &err), cases[i].status);
        if (!strstr(err.text, cases[i].text))
            fail_msg("%s: %s", cases[i].qconfig, err.text);
        assert_null(e);
        rq_qconfig_mapping_destroy(m);
    }
    /* nothing was seen */
    rq_qconfig_mapping *m = mapping_of("fbgemm");
    rq_eager *e = NULL;
    rq_graph *out = NULL;
    OK(rq_prepare_qat(&e, g, m, false, &err));
    rq_eager_enable_observer(e, false);
    assert_int_equal(rq_convert(e, &out, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "conv1.weight_fake_quant"));
    assert_null(out);
    rq_eager_destroy(e);
    rq_qconfig_mapping_destroy(m);
    rq_graph_destroy(g);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    rq_graph *g = fused();
    trained t = prepare(g);
    rq_qconfig_mapping *m = mapping_of("fbgemm");
    rq_tensor y[2];
    train(&t, y);
    for (int what = 0; what < 2; what++)
        for (int all = 0; all < 2; all++)
            for (size_t i = 1;; i += 1 + i / 40) {
                rq_eager *e = NULL;
                rq_graph *out = NULL;
                const size_t live = rq_mem_live();
                err.text[0] = '\0';
                rq_mem_fail_after(i, all);
                const rq_status s = what ? rq_convert(t.e, &out, &err) : rq_prepare_qat(&e, g, m, true, &err);
                rq_mem_fail_after(0, false);
                rq_eager_destroy(e);
                rq_graph_destroy(out);
                assert_int_equal(rq_mem_live(), live);
                if (!s)
                    break;
                assert_int_equal(s, RQ_NO_MEMORY);
                assert_true(err.text[0]);
            }
    rq_qconfig_mapping_destroy(m);
    release(&t);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fake_quantizers_are_pytorchs),     cmocka_unit_test(outputs_and_integers_are_near_pytorchs),
        cmocka_unit_test(instances_share_and_names_decide), cmocka_unit_test(what_cannot_be_is_said),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
