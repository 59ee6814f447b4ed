/* test_autograd.c — whole graphs forward and backward: gradients against differences of the loss, what is trained and what it is called, modes,
 * threads, other shapes, and what is refused. Fake-quantizers: test_autograd_fakes.c; less memory: test_autograd_memory.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "requant/requant.h"
#include "run/autograd_help.h"
#include "run/autograd_plan.h"

/* ---- networks ---- */

/* x [N,3,4,4] -> conv -> squared = s; two branches of s through one shared weight, one of them twice read; joined, flattened, a
 * product, an output; a second output inside. Reads: s three times, w2 twice. */
static rq_graph *branches(void)
{
    rq_graph *g = build_graph(21);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, (int64_t[]) { -1, 3, 4, 4 });
    const rq_id w1 = weights(g, "w1", 4, (int64_t[]) { 4, 3, 1, 1 }), b1 = weights(g, "b1", 1, (int64_t[]) { 4 });
    const rq_id w2 = weights(g, "w2", 4, (int64_t[]) { 4, 4, 1, 1 });
    const rq_id c1 = build_node(g, "Conv", "c1", RQ_DTYPE_F32, 3, (rq_id[]) { x, w1, b1 });
    const rq_id s = op(g, "Mul", "s", c1, c1);
    const rq_id c2 = op(g, "Conv", "c2", s, w2);
    const rq_id t = op(g, "Mul", "t", c2, c2);
    const rq_id c3 = op(g, "Conv", "c3", t, w2);
    const rq_id m = op(g, "Mul", "m", s, s);
    const rq_id sum = op(g, "Add", "sum", c3, m);
    const rq_id gains = build_const(g, "gains", RQ_DTYPE_F32, 3, (int64_t[]) { 4, 1, 1 }, (double[]) { .5, 1, 2, -1 });
    const rq_id f = op(g, "Flatten", "f", op(g, "Mul", "gained", sum, gains), RQ_NONE);
    const rq_id w3 = weights(g, "w3", 2, (int64_t[]) { 64, 3 }), b3 = weights(g, "b3", 1, (int64_t[]) { 3 });
    const rq_id y = build_node(g, "Gemm", "y", RQ_DTYPE_F32, 3, (rq_id[]) { f, w3, b3 });
    build_output(g, y);
    build_output(g, t);
    return g;
}

/* ---- one run ---- */

/* sum over outputs of pull * y */
static double loss(net *n)
{
    rq_tensor y[MOST_OUT];
    forward(n, y);
    double sum = 0;
    for (int k = 0; k < rq_graph_n_outputs(n->g); k++)
        for (int64_t i = 0; i < rq_tensor_count(&y[k]); i++)
            sum += (double)pull(k, i) * (double)y[k].f32[i];
    return sum;
}

/* d loss / d *v by differences. */
static double difference(net *n, float *v)
{
    const float was = *v;
    const float h = 1 / 128.0f;
    *v = was + h;
    const double up = loss(n);
    *v = was - h;
    const double down = loss(n);
    *v = was;
    return (up - down) / (2 * (double)h);
}

static void check_parameters(net *n, int step_by)
{
    rq_parameter *p;
    const int count = rq_autograd_parameters(n->a, &p);
    assert_true(count > 0);
    for (int k = 0; k < count; k++)
        for (int64_t i = 0; i < p[k].count; i += step_by)
            assert_close((double)p[k].grad[i], difference(n, &p[k].data[i]), p[k].name, i);
}

/* ---- tests ---- */

static void gradients_are_differences_of_the_loss(void **unused)
{
    (void)unused;
    net n;
    rq_parameter *p;
    net_open(&n, branches(), NULL);
    assert_int_equal(rq_autograd_want_input(n.a, "x", NULL), RQ_OK);
    assert_int_equal(rq_autograd_parameters(n.a, &p), 5);
    static const char *const names[] = { "w1", "b1", "w2", "w3", "b3" };
    static const rq_parameter_role roles[] = { RQ_PARAMETER_WEIGHT, RQ_PARAMETER_BIAS, RQ_PARAMETER_WEIGHT,
                                               RQ_PARAMETER_WEIGHT, RQ_PARAMETER_BIAS };
    for (int i = 0; i < 5; i++) {
        assert_string_equal(p[i].name, names[i]);
        assert_int_equal(p[i].role, roles[i]);
    }
    rq_autograd_zero_grad(n.a);
    step(&n);
    check_parameters(&n, 5);
    step(&n);
    rq_tensor dx;
    assert_int_equal(rq_autograd_input_grad(n.a, "x", &dx, NULL), RQ_OK);
    float got[96];
    memcpy(got, dx.f32, sizeof got);
    for (int i = 0; i < 96; i += 7)
        assert_close((double)got[i], difference(&n, &n.x[i]), "x", i);
    net_close(&n);
}

static void gradients_add_up_until_they_are_cleared(void **unused)
{
    (void)unused;
    net n;
    rq_parameter *p;
    float once[256];
    net_open(&n, branches(), NULL);
    rq_autograd_zero_grad(n.a);
    step(&n);
    assert_int_equal(rq_autograd_parameters(n.a, &p), 5);
    memcpy(once, p[3].grad, 64 * 3 * sizeof(float));
    step(&n);
    for (int i = 0; i < 64 * 3; i++)
        assert_true(p[3].grad[i] == once[i] + once[i]);
    rq_autograd_zero_grad(n.a);
    assert_true(p[3].grad[5] == 0);
    net_close(&n);
}

static void any_number_of_threads_gives_the_same_bits(void **unused)
{
    (void)unused;
    float got[2][1024];
    int count[2];
    for (int t = 0; t < 2; t++) {
        net n;
        rq_autograd_cfg cfg = rq_autograd_defaults();
        cfg.threads = t + 1;
        net_open(&n, branches(), &cfg);
        step(&n);
        count[t] = gather(&n, got[t], 1024);
        net_close(&n);
    }
    assert_int_equal(count[0], count[1]);
    assert_memory_equal(got[0], got[1], (size_t)count[0] * sizeof(float));
}

static void evaluation_is_what_a_session_computes(void **unused)
{
    (void)unused;
    net n;
    rq_session *s = NULL;
    rq_tensor y[MOST_OUT], want[MOST_OUT];
    net_open(&n, branches(), NULL);
    const rq_feed feed = { "x", rq_tensor_view(RQ_DTYPE_F32, &n.shape, n.x) };
    assert_int_equal(rq_session_create(&s, n.g, &(rq_session_cfg) { .onednn = true }, NULL), RQ_OK);
    assert_int_equal(rq_session_run(s, &feed, 1, want, NULL), RQ_OK);
    rq_autograd_train(n.a, false);
    forward(&n, y);
    for (int k = 0; k < 2; k++) {
        assert_memory_equal(y[k].data, want[k].data, want[k].bytes);
        rq_tensor_release(&want[k]);
    }
    rq_err err = { 0 };
    assert_int_equal(rq_autograd_backward(n.a, y, &err), RQ_BAD_ARG);
    rq_autograd_keep(n.a, true);
    rq_autograd_zero_grad(n.a);
    step(&n);
    check_parameters(&n, 40);
    rq_session_destroy(s);
    net_close(&n);
}

/* ---- inside ---- */

static rq_status see(void *arg, const char *value, const rq_tensor *t, rq_err *err)
{
    (void)value, (void)err;
    float *to = arg;
    memcpy(to + 1, t->data, t->bytes);
    to[0] += 1;
    return RQ_OK;
}

/* A gradient given to `c1` is as if sum(d * c1) were part of the loss. */
static void values_inside_are_seen_and_pulled(void **unused)
{
    (void)unused;
    net n;
    float seen[1 + 128] = { 0 }, extra[128], plain[16], more[16];
    rq_parameter *p;
    net_open(&n, branches(), NULL);
    assert_int_equal(rq_autograd_tap(n.a, "c1", see, seen, NULL), RQ_OK);
    assert_int_equal(rq_autograd_tap(n.a, "nothing", see, seen, NULL), RQ_NOT_FOUND);
    step(&n);
    assert_true(seen[0] == 1);
    assert_int_equal(rq_autograd_parameters(n.a, &p), 5);
    memcpy(plain, p[1].grad, 4 * sizeof(float));
    rq_autograd_zero_grad(n.a);
    rq_tensor y[MOST_OUT];
    forward(&n, y);
    for (int i = 0; i < 128; i++)
        extra[i] = (float)spread(i, 9);
    assert_int_equal(rq_autograd_add_grad(n.a, "c1", extra, NULL), RQ_OK); /* after forward: it was tapped */
    backward(&n, y);
    memcpy(more, p[1].grad, 4 * sizeof(float));
    double want[4] = { 0 };
    for (int i = 0; i < 128; i++)
        want[i / 16 % 4] += (double)extra[i];
    for (int c = 0; c < 4; c++)
        assert_close((double)more[c] - (double)plain[c], want[c], "b1", c);
    rq_autograd_zero_grad(n.a);
    assert_int_equal(rq_autograd_add_grad(n.a, "c1", NULL, NULL), RQ_OK);
    step(&n);
    assert_memory_equal(p[1].grad, plain, 4 * sizeof(float));
    net_close(&n);
}

/* ---- dropout ---- */

static rq_graph *drops(void)
{
    rq_graph *g = build_graph(21);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, (int64_t[]) { -1, 3, 4, 4 });
    const rq_id w = weights(g, "w", 1, (int64_t[]) { 1 });
    g->values[w].trainable = RQ_TRAINABLE_YES;
    const rq_id half = build_scalar(g, "half", RQ_DTYPE_F32, 0.5);
    const rq_id a = op(g, "Dropout", "a", op(g, "Mul", "xw", x, w), half);
    build_output(g, op(g, "Dropout", "b", a, half));
    return g;
}

static void dropout_draws_anew_each_step_and_repeats_from_its_state(void **unused)
{
    (void)unused;
    float got[3][96];
    net n;
    rq_tensor y[MOST_OUT];
    net_open(&n, drops(), NULL);
    const uint64_t start = rq_autograd_random_state(n.a);
    for (int k = 0; k < 3; k++) {
        if (k == 2)
            rq_autograd_set_random_state(n.a, start);
        forward(&n, y);
        memcpy(got[k], y[0].data, sizeof got[k]);
    }
    assert_memory_not_equal(got[0], got[1], sizeof got[0]);
    assert_memory_equal(got[0], got[2], sizeof got[0]);
    rq_parameter *p;
    int zeros = 0;
    double want = 0;
    assert_int_equal(rq_autograd_parameters(n.a, &p), 1);
    rq_autograd_zero_grad(n.a);
    backward(&n, y);
    for (int i = 0; i < 96; i++) {
        zeros += got[2][i] == 0;
        assert_true(got[2][i] == 0 || got[2][i] == 4 * (n.x[i] * *p[0].data));
        want += got[2][i] != 0 ? 4 * (double)pull(0, i) * (double)n.x[i] : 0;
    }
    assert_in_range(zeros, 96 / 2, 90); /* three quarters */
    assert_close((double)*p[0].grad, want, "w", 0);
    rq_autograd_train(n.a, false);
    forward(&n, y);
    for (int i = 0; i < 96; i++)
        assert_true(y[0].f32[i] == n.x[i] * *p[0].data);
    net_close(&n);
}

/* ---- what is refused ---- */

static void operators_without_a_gradient_are_all_named(void **unused)
{
    (void)unused;
    rq_err err = { 0 };
    rq_autograd *a = NULL;
    rq_graph *g = build_graph(21);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, (int64_t[]) { -1, 3, 4, 4 });
    const rq_id w = weights(g, "w1", 4, (int64_t[]) { 4, 3, 1, 1 });
    const rq_id c = op(g, "Conv", "c", x, w);
    const rq_id one = op(g, "Det", "one", c, RQ_NONE);
    const rq_id two = op(g, "Bernoulli", "two", one, RQ_NONE);
    build_output(g, two);
    assert_int_equal(rq_autograd_create(&a, g, NULL, &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "'one' (Det)"));
    assert_null(strstr(err.text, "Conv"));
    g->values[w].trainable = RQ_TRAINABLE_NO;
    assert_int_equal(rq_autograd_create(&a, g, NULL, &err), RQ_OK);
    rq_parameter *p;
    assert_int_equal(rq_autograd_parameters(a, &p), 0);
    rq_autograd_destroy(a);
    rq_graph_destroy(g);
}

/* Nothing goes back through a body: said, with the node's name, where a silence would train nothing. */
static void bodies_are_refused_by_name(void **unused)
{
    (void)unused;
    rq_err err = { 0 };
    rq_autograd *a = NULL;
    rq_graph *g = build_graph(21), *branch[2];
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, (int64_t[]) { 1, 3, 4, 4 });
    const rq_id on = build_input(g, "on", RQ_DTYPE_BOOL, 0, NULL);
    const rq_id c = op(g, "Conv", "c", x, weights(g, "w", 4, (int64_t[]) { 4, 3, 1, 1 }));
    const rq_id y = op(g, "If", "choice", on, RQ_NONE);
    for (int i = 0; i < 2; i++) {
        rq_id seen;
        assert_int_equal(rq_graph_create(&branch[i]), RQ_OK);
        branch[i]->outer = g;
        assert_int_equal(rq_graph_add_value(branch[i], &seen, RQ_VALUE_CAPTURED, "c", RQ_DTYPE_F32, NULL, NULL), RQ_OK);
        branch[i]->values[seen].outer = c;
        build_output(branch[i], op(branch[i], i ? "Relu" : "Sigmoid", "r", seen, RQ_NONE));
        rq_attr *at = rq_attr_add(g, g->values[y].producer, i ? "else_branch" : "then_branch", RQ_ATTR_GRAPH);
        assert_non_null(at);
        at->g = rq_arena_alloc(&g->names, 1, sizeof *at->g);
        at->g[0] = branch[i];
    }
    build_output(g, y);
    rq_ops_bind(g);
    assert_int_equal(rq_autograd_create(&a, g, NULL, &err), RQ_UNSUPPORTED);
    assert_null(a);
    assert_non_null(strstr(err.text, "'choice' (If)"));
    assert_non_null(strstr(err.text, "bodies of If, Loop and Scan"));
    rq_graph_destroy(g);
}

/* ---- when memory is out ---- */

/* Training leaves copies of the graph alone. */
static void parameters_are_private(void **unused)
{
    (void)unused;
    net n;
    rq_graph *g = branches(), *copy = NULL;
    assert_int_equal(rq_graph_copy(&copy, g), RQ_OK);
    net_open(&n, g, NULL);
    rq_parameter *p;
    rq_autograd_parameters(n.a, &p);
    p[0].data[0] = 42;
    assert_true(g->values[rq_graph_find(g, "w1")].constant.f32[0] == 42);
    assert_true(copy->values[rq_graph_find(copy, "w1")].constant.f32[0] != 42);
    rq_graph_destroy(copy);
    net_close(&n);
}

static void other_shapes_make_other_plans(void **unused)
{
    (void)unused;
    net n;
    net_open(&n, branches(), NULL);
    float first[1024], again[1024];
    rq_autograd_zero_grad(n.a);
    step(&n);
    const int count = gather(&n, first, 1024);
    n.shape.dim[0] = 1;
    step(&n);
    rq_autograd_zero_grad(n.a);
    n.shape.dim[0] = 2;
    step(&n);
    assert_int_equal(gather(&n, again, 1024), count);
    assert_memory_equal(first, again, (size_t)count * sizeof(float));
    assert_true(rq_autograd_bytes(n.a) > 0);
    net_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_differences_of_the_loss),
        cmocka_unit_test(gradients_add_up_until_they_are_cleared),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(evaluation_is_what_a_session_computes),
        cmocka_unit_test(values_inside_are_seen_and_pulled),
        cmocka_unit_test(dropout_draws_anew_each_step_and_repeats_from_its_state),
        cmocka_unit_test(operators_without_a_gradient_are_all_named),
        cmocka_unit_test(bodies_are_refused_by_name),
        cmocka_unit_test(parameters_are_private),
        cmocka_unit_test(other_shapes_make_other_plans),
    };
    return cmocka_run_group_tests_name("autograd", tests, NULL, NULL);
}
