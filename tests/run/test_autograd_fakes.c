/* test_autograd_fakes.c — fake-quantizers inside a graph that is trained: one at two places, and learned scales as parameters. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "requant/requant.h"
#include "run/autograd_help.h"

/* y = fq(x * w) and then z = fq(y' * w) with y' = 3 y by the same object: the second range is wider. */
static rq_graph *twice(void)
{
    rq_graph *g = build_graph(21);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, (int64_t[]) { -1, 3, 4, 4 });
    const rq_id w = weights(g, "w", 1, (int64_t[]) { 1 });
    g->values[w].trainable = RQ_TRAINABLE_YES;
    const rq_id a = op(g, "Mul", "a", x, w);
    const rq_id fa = fake(g, "fa", a, 0);
    const rq_id b = op(g, "Mul", "b", fa, build_scalar(g, "three", RQ_DTYPE_F32, 3));
    const rq_id fb = fake(g, "fb", b, 0);
    build_output(g, fb);
    return g;
}

/* Each place goes back by the range that was in force when it went forward: the reference does the same by hand with an object of its own for each call. */
static void one_fake_quantizer_at_two_places(void **unused)
{
    (void)unused;
    net n;
    rq_fake_quantizer *q, *ref;
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
    assert_int_equal(rq_fake_quantizer_create(&q, &c, NULL), RQ_OK);
    assert_int_equal(rq_fake_quantizer_create(&ref, &c, NULL), RQ_OK);
    rq_autograd_cfg cfg = rq_autograd_defaults();
    cfg.fakes = &q;
    cfg.n_fakes = 1;
    net_open(&n, twice(), &cfg);
    for (int round = 0; round < 2; round++) {
        rq_parameter *p;
        rq_tensor y[MOST_OUT];
        float a[96], fa[96], b[96], fb[96], db[96], da[96];
        rq_autograd_zero_grad(n.a);
        assert_int_equal(rq_autograd_parameters(n.a, &p), 1);
        const float w = *p[0].data;
        forward(&n, y);
        for (int i = 0; i < 96; i++)
            a[i] = n.x[i] * w;
        const rq_strided sa = rq_strided_floats(a, &n.shape), sfa = rq_strided_floats(fa, &n.shape),
                         sb = rq_strided_floats(b, &n.shape), sfb = rq_strided_floats(fb, &n.shape),
                         sdb = rq_strided_floats(db, &n.shape), sda = rq_strided_floats(da, &n.shape);
        assert_int_equal(rq_fake_quantizer_forward(ref, NULL, &sfa, &sa, NULL), RQ_OK);
        float scale = rq_fake_quantizer_scale(ref)[0], zero = rq_fake_quantizer_zero_point(ref)[0];
        for (int i = 0; i < 96; i++)
            b[i] = fa[i] * 3;
        assert_int_equal(rq_fake_quantizer_forward(ref, NULL, &sfb, &sb, NULL), RQ_OK);
        assert_memory_equal(y[0].data, fb, sizeof fb);
        backward(&n, y);
        for (int i = 0; i < 96; i++)
            db[i] = pull(0, i);
        assert_int_equal(rq_fake_quantizer_backward(ref, NULL, &sdb, &sdb, &sb, NULL), RQ_OK);
        for (int i = 0; i < 96; i++)
            da[i] = db[i] * 3;
        /* by hand, with the first range */
        const rq_fq f = { .type = rq_fake_quantizer_type(ref),
                          .rule = RQ_FQ_RECIPROCAL,
                          .axis = RQ_PER_TENSOR,
                          .n = 1,
                          .scale = &scale,
                          .zero_point = &(int32_t) { (int32_t)zero } };
        assert_int_equal(rq_fake_quantize_backward(NULL, &sda, &sda, &sa, &f, NULL), RQ_OK);
        double want = 0;
        int inside = 0;
        for (int i = 0; i < 96; i++) {
            want += (double)da[i] * (double)n.x[i];
            inside += da[i] != 0;
        }
        assert_true(round == 0 || (inside > 0 && inside < 96)); /* the test sees the difference */
        assert_close((double)*p[0].grad, want, "w", round);
        for (int i = 0; i < 96; i++)
            n.x[i] *= 1.4f;
    }
    net_close(&n);
    rq_fake_quantizer_destroy(q);
    rq_fake_quantizer_destroy(ref);
}

static void learned_scales_are_parameters(void **unused)
{
    (void)unused;
    net n;
    rq_fake_quantizer *q, *ref;
    rq_parameter *p;
    rq_tensor y[MOST_OUT];
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_LEARNABLE);
    assert_int_equal(rq_fake_quantizer_create(&q, &c, NULL), RQ_OK);
    assert_int_equal(rq_fake_quantizer_create(&ref, &c, NULL), RQ_OK);
    rq_autograd_cfg cfg = rq_autograd_defaults();
    cfg.fakes = &q;
    cfg.n_fakes = 1;
    net_open(&n, twice(), &cfg);
    assert_int_equal(rq_autograd_parameters(n.a, &p), 3);
    assert_string_equal(p[1].name, "fa.scale");
    assert_string_equal(p[2].name, "fa.zero_point");
    assert_int_equal(p[1].role, RQ_PARAMETER_SCALE);
    forward(&n, y);
    float scale = 0.011f, zero = 100;
    assert_int_equal(rq_fake_quantizer_set_qparams(q, &scale, &zero, 1, NULL), RQ_OK);
    assert_int_equal(rq_fake_quantizer_enable_param_learning(q, NULL), RQ_OK);
    assert_int_equal(rq_fake_quantizer_set_qparams(ref, &scale, &zero, 1, NULL), RQ_OK);
    assert_int_equal(rq_fake_quantizer_enable_param_learning(ref, NULL), RQ_OK);
    rq_autograd_zero_grad(n.a);
    step(&n);
    assert_int_equal(rq_autograd_parameters(n.a, &p), 3);
    assert_true(p[1].count == 1 && p[1].grad && p[2].grad);
    float a[96], fa[96], b[96], d[96];
    for (int i = 0; i < 96; i++)
        a[i] = n.x[i] * *p[0].data;
    const rq_strided sa = rq_strided_floats(a, &n.shape), sfa = rq_strided_floats(fa, &n.shape),
                     sb = rq_strided_floats(b, &n.shape), sd = rq_strided_floats(d, &n.shape);
    assert_int_equal(rq_fake_quantizer_forward(ref, NULL, &sfa, &sa, NULL), RQ_OK);
    for (int i = 0; i < 96; i++) {
        b[i] = fa[i] * 3;
        d[i] = pull(0, i);
    }
    assert_int_equal(rq_fake_quantizer_backward(ref, NULL, &sd, &sd, &sb, NULL), RQ_OK);
    for (int i = 0; i < 96; i++)
        d[i] *= 3;
    assert_int_equal(rq_fake_quantizer_backward(ref, NULL, &sd, &sd, &sa, NULL), RQ_OK);
    assert_true(*p[1].grad == rq_fake_quantizer_dscale(ref)[0] && *p[1].grad != 0);
    assert_true(*p[2].grad == rq_fake_quantizer_dzero_point(ref)[0] && *p[2].grad != 0);
    net_close(&n);
    rq_fake_quantizer_destroy(q);
    rq_fake_quantizer_destroy(ref);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_fake_quantizer_at_two_places),
        cmocka_unit_test(learned_scales_are_parameters),
    };
    return cmocka_run_group_tests_name("autograd", tests, NULL, NULL);
}
