/* test_autograd_memory.c — training in less memory: forwards that are done again, steps that go back together, allocations that fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "requant/requant.h"
#include "run/autograd_help.h"
#include "run/autograd_plan.h"

/* ---- less memory ---- */

enum { LAYERS = 12 };

/* x [N,3,4,4] -> fake quantize -> LAYERS times conv, batch norm, relu, fake quantize (an object per layer), dropout, with a sum past every third pair -> product. */
static rq_graph *deep(void)
{
    rq_graph *g = build_graph(21);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, (int64_t[]) { -1, 3, 4, 4 }), past = RQ_NONE;
    const rq_id tenth = build_scalar(g, "tenth", RQ_DTYPE_F32, 0.1);
    x = fake(g, "qx", x, 0); /* nothing goes back to it, and it observes once all the same */
    for (int i = 0; i < LAYERS; i++) {
        char name[10][16];
        static const char *const what[] = { "w", "gamma", "beta", "mean", "var", "c", "n", "r", "q", "d" };
        for (int k = 0; k < 10; k++)
            snprintf(name[k], sizeof name[k], "%s%d", what[k], i);
        const int64_t four[] = { 4 };
        const rq_id w = weights(g, name[0], 4, (int64_t[]) { 4, i ? 4 : 3, 1, 1 });
        const rq_id c = op(g, "Conv", name[5], x, w);
        const rq_id bn =
            build_node(g, "BatchNormalization", name[6], RQ_DTYPE_F32, 5,
                       (rq_id[]) { c, build_const(g, name[1], RQ_DTYPE_F32, 1, four, (double[]) { 1, 2, 1, .5 }),
                                   build_const(g, name[2], RQ_DTYPE_F32, 1, four, (double[]) { 0, .1, 1, .5 }),
                                   build_const(g, name[3], RQ_DTYPE_F32, 1, four, (double[]) { 0, 0, 0, 0 }),
                                   build_const(g, name[4], RQ_DTYPE_F32, 1, four, (double[]) { 1, 1, 1, 1 }) });
        const rq_id q = fake(g, name[8], op(g, "Relu", name[7], bn, RQ_NONE), i % 4);
        x = op(g, "Dropout", name[9], q, tenth);
        if (i % 3 == 0)
            past = x;
        if (i % 3 == 2) {
            snprintf(name[0], sizeof name[0], "sum%d", i);
            x = op(g, "Add", name[0], x, past);
        }
    }
    const rq_id f = op(g, "Flatten", "f", x, RQ_NONE);
    build_output(g, op(g, "MatMul", "y", f, weights(g, "head", 2, (int64_t[]) { 64, 3 })));
    return g;
}

typedef struct trained {
    float grads[1024], stats[LAYERS * 8], y[6], scale[4];
    int n;
    size_t bytes;
} trained;

static void train_deep_for(trained *t, bool checkpoint, int threads, bool learned, int steps, bool plain)
{
    net n;
    rq_fake_quantizer *q[4];
    for (int i = 0; i < 4; i++) {
        rq_fake_quantizer_cfg c =
            rq_fake_quantizer_defaults(learned && i == 1 ? RQ_FAKE_QUANTIZER_LEARNABLE : RQ_FAKE_QUANTIZER_FUSED);
        c.compat = i == 2;
        assert_int_equal(rq_fake_quantizer_create(&q[i], &c, NULL), RQ_OK);
    }
    rq_autograd_cfg cfg = rq_autograd_defaults();
    cfg.checkpoint_activations = checkpoint;
    cfg.threads = threads;
    cfg.fakes = q;
    cfg.n_fakes = 4;
    memset(t, 0, sizeof *t);
    net_open(&n, deep(), &cfg);
    n.a->plain = plain;
    for (int k = 0; k < steps; k++) {
        rq_tensor y[MOST_OUT];
        rq_fake_quantizer_enable_fake_quant(q[3], k != 1);
        if (learned && k == 2)
            assert_int_equal(rq_fake_quantizer_enable_param_learning(q[1], NULL), RQ_OK);
        forward(&n, y);
        memcpy(t->y, y[0].data, y[0].bytes);
        backward(&n, y);
        n.x[k] += 1;
    }
    t->n = gather(&n, t->grads, 1024);
    t->bytes = rq_autograd_bytes(n.a);
    for (int i = 0; i < LAYERS; i++)
        for (int k = 0; k < 2; k++) {
            char name[16];
            snprintf(name, sizeof name, "%s%d", k ? "var" : "mean", i);
            memcpy(t->stats + i * 8 + k * 4, n.g->values[rq_graph_find(n.g, name)].constant.data, 16);
        }
    for (int i = 0; i < 4; i++)
        t->scale[i] = *rq_fake_quantizer_scale(q[i]);
    net_close(&n);
    for (int i = 0; i < 4; i++)
        rq_fake_quantizer_destroy(q[i]);
}

static void train_deep(trained *t, bool checkpoint, int threads, bool learned)
{
    train_deep_for(t, checkpoint, threads, learned, 3, false);
}

static void assert_same_training(const trained *a, const trained *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->y, b->y, sizeof a->y);
    assert_memory_equal(a->stats, b->stats, sizeof a->stats);
    assert_memory_equal(a->scale, b->scale, sizeof a->scale);
    assert_memory_equal(a->grads, b->grads, (size_t)a->n * sizeof *a->grads);
}

static void checkpoints_of_activations_change_no_bit(void **unused)
{
    (void)unused;
    for (int learned = 0; learned < 2; learned++) {
        trained plain, less, alone;
        train_deep(&plain, false, 2, learned);
        train_deep(&less, true, 2, learned);
        train_deep(&alone, true, 1, learned);
        assert_same_training(&plain, &less);
        assert_same_training(&plain, &alone);
        assert_true(less.bytes < plain.bytes * 2 / 3);
        assert_true(plain.stats[0] != 0 && plain.grads[0] != 0 && plain.y[0] != 0);
    }
}

/* Relu and fake quantization with one mask: the bits of each by itself, in less memory. Fake quantization is off in part of it. */
static void steps_that_go_back_together_change_no_bit(void **unused)
{
    (void)unused;
    trained together, plain;
    for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
        train_deep_for(&together, checkpoint, 2, checkpoint, 3, false);
        train_deep_for(&plain, checkpoint, 2, checkpoint, 3, true);
        assert_same_training(&together, &plain);
        assert_true(together.bytes < plain.bytes);
    }
}

/* ---- when memory is out ---- */

/* Create, forward, backward and the list of parameters with the n-th allocation failing (and all after it); what failed says so, and what is left
 * works when memory is there again. Returns whether anything failed. */
static bool short_of_memory(size_t n, bool all, const trained *want)
{
    rq_fake_quantizer *q[4];
    for (int i = 0; i < 4; i++) {
        rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_FUSED);
        c.compat = i == 2;
        assert_int_equal(rq_fake_quantizer_create(&q[i], &c, NULL), RQ_OK);
    }
    rq_autograd_cfg cfg = rq_autograd_defaults();
    cfg.checkpoint_activations = true;
    cfg.threads = 1;
    cfg.fakes = q;
    cfg.n_fakes = 4;
    net m;
    rq_err err = { 0 };
    rq_tensor y[MOST_OUT];
    m.g = deep();
    m.a = NULL;
    m.shape = rq_shape_of(4, (int64_t[]) { 2, 3, 4, 4 });
    for (int i = 0; i < 96; i++)
        m.x[i] = (float)spread(i, 3) * 2;
    const rq_feed feed = { "x", rq_tensor_view(RQ_DTYPE_F32, &m.shape, m.x) };
    rq_mem_fail_after(n, all);
    const rq_status made = rq_autograd_create(&m.a, m.g, &cfg, &err);
    rq_status ran = RQ_OK;
    if (!made)
        ran = rq_autograd_forward(m.a, &feed, 1, y, &err);
    rq_mem_fail_after(0, false);
    if (made || ran)
        assert_int_equal(err.code, RQ_NO_MEMORY);
    if (!made) {
        rq_parameter *p;
        for (int i = 0; i < 4; i++) /* what the failed forward observed is not asked for here */
            rq_fake_quantizer_reset(q[i]);
        for (int i = 0; i < LAYERS; i++)
            for (int k = 0; k < 2; k++) {
                char name[16];
                snprintf(name, sizeof name, "%s%d", k ? "var" : "mean", i);
                float *v = m.g->values[rq_graph_find(m.g, name)].constant.f32;
                for (int c = 0; c < 4; c++)
                    v[c] = (float)k;
            }
        rq_autograd_set_random_state(m.a, 0);
        forward(&m, y);
        assert_memory_equal(y[0].data, want->y, y[0].bytes);
        backward(&m, y);
        assert_int_equal(rq_autograd_parameters(m.a, &p), 3 * LAYERS + 1);
        assert_memory_equal(p[0].grad, want->grads, 12 * sizeof(float));
    }
    net_close(&m);
    for (int i = 0; i < 4; i++)
        rq_fake_quantizer_destroy(q[i]);
    return made || ran;
}

static void every_allocation_may_fail(void **unused)
{
    (void)unused;
    trained want;
    train_deep_for(&want, true, 1, false, 1, false);
    const size_t before = rq_mem_live();
    for (int all = 0; all < 2; all++) {
        bool failed = true;
        for (size_t n = 1; failed; n += n < 200 ? 1 : 7) {
            failed = short_of_memory(n, all, &want);
            assert_int_equal(rq_mem_live(), before);
            assert_true(n < 5000);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpoints_of_activations_change_no_bit),
        cmocka_unit_test(steps_that_go_back_together_change_no_bit),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("autograd", tests, NULL, NULL);
}
