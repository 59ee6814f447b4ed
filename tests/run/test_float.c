/* tests/run/test_float.c — convolutions in reals that do the residual and the activation behind them: the bits of the steps, on every instruction set,
 * with one thread and two, ours and oneDNN's; fewer steps; and reports that list every node once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "ops/build.h"
#include "run/program.h"

enum { N_ACTIVATIONS = 9 };

typedef struct shape_of_conv {
    int64_t in_ch, out_ch, groups, kernel, stride, size[2];
} shape_of_conv;

static const shape_of_conv convs[] = {
    { 3, 70, 1, 3, 1, { 9, 11 } },   { 8, 66, 1, 1, 1, { 7, 7 } },  { 12, 12, 12, 3, 1, { 14, 14 } },
    { 6, 12, 6, 5, 2, { 13, 20 } },  { 4, 6, 2, 3, 1, { 5, 100 } }, { 16, 65, 1, 1, 1, { 18, 40 } },
    { 8, 16, 1, 3, 2, { 17, 121 } }, { 5, 5, 5, 9, 1, { 12, 12 } }, { 2, 4, 1, 1, 2, { 6, 6 } },
};

typedef struct chain {
    const shape_of_conv *c;
    bool bias, tapped, half; /* half: all of it is fp16, where each step rounds */
    int residual;            /* 0: none, 1: of y's shape behind, 2: in front, 3: one number per channel, 4: y itself */
    int activation;
} chain;

static rq_dtype type_of(const chain *c)
{
    return c->half ? RQ_DTYPE_F16 : RQ_DTYPE_F32;
}

static rq_tensor random_numbers(rq_dtype d, rq_rng *rng, int rank, const int64_t *dim)
{
    rq_tensor t;
    const rq_shape s = rq_shape_of(rank, dim);
    assert_int_equal(rq_tensor_create(&t, d, &s, true), RQ_OK);
    for (int64_t i = 0; i < rq_tensor_count(&t); i++)
        rq_tensor_set(&t, i, (double)((float)rq_rng_below(rng, 2001) * 1e-3f - 1));
    return t;
}

static rq_id random_const(rq_graph *g, rq_dtype d, rq_rng *rng, const char *name, int rank, const int64_t *dim)
{
    rq_id id;
    rq_tensor t = random_numbers(d, rng, rank, dim);
    assert_int_equal(rq_graph_add_const(g, &id, name, &t, NULL), RQ_OK);
    rq_tensor_release(&t);
    return id;
}

static rq_id activate(rq_graph *g, rq_dtype d, int which, rq_id x, rq_id out_low)
{
    static const char *const ops[N_ACTIVATIONS] = { NULL,   "Relu",        "Clip",      "Clip", "LeakyRelu",
                                                    "Tanh", "HardSigmoid", "HardSwish", "Clip" };
    if (!ops[which])
        return x;
    rq_id in[3] = { x, RQ_NONE, RQ_NONE };
    if (which == 2 || which == 3)
        in[2] = build_scalar(g, "most", d, 0.5);
    if (which == 2)
        in[1] = build_scalar(g, "least", d, -0.25);
    if (which == 8)
        in[1] = out_low; /* known only when it runs */
    const rq_id y = build_node(g, ops[which], "y", d, which == 8 ? 2 : strcmp(ops[which], "Clip") ? 1 : 3, in);
    if (which == 4)
        assert_int_equal(rq_attr_set_float(g, g->n_nodes - 1, "alpha", 0.3f), RQ_OK);
    if (which == 6)
        assert_int_equal(rq_attr_set_float(g, g->n_nodes - 1, "beta", 0.4f), RQ_OK);
    return y;
}

static rq_graph *build_chain(rq_rng *rng, const chain *c)
{
    rq_graph *g = build_graph(17);
    const shape_of_conv *s = c->c;
    const rq_dtype d = type_of(c);
    const int64_t pad = s->kernel / 2, x_dim[4] = { 2, s->in_ch, s->size[0], s->size[1] },
                  w_dim[4] = { s->out_ch, s->in_ch / s->groups, s->kernel, s->kernel },
                  y_dim[4] = { 2, s->out_ch, (s->size[0] - 1) / s->stride + 1, (s->size[1] - 1) / s->stride + 1 },
                  per_channel[4] = { 1, s->out_ch, 1, 1 };
    const rq_id x = build_input(g, "x", d, 4, x_dim);
    const rq_id low = build_node(g, "ReduceMin", "low", d, 1, &x);
    assert_int_equal(rq_attr_set_int(g, g->n_nodes - 1, "keepdims", 0), RQ_OK);
    rq_id in[3] = { x, random_const(g, d, rng, "w", 4, w_dim), RQ_NONE };
    if (c->bias)
        in[2] = random_const(g, d, rng, "b", 1, &s->out_ch);
    const rq_id sums = build_node(g, "Conv", "sums", d, 2 + c->bias, in);
    const int node = g->n_nodes - 1;
    assert_int_equal(rq_attr_set_int(g, node, "group", s->groups), RQ_OK);
    assert_int_equal(rq_attr_set_ints(g, node, "strides", (int64_t[]) { s->stride, s->stride }, 2), RQ_OK);
    assert_int_equal(rq_attr_set_ints(g, node, "pads", (int64_t[]) { pad, pad, pad, pad }, 4), RQ_OK);
    rq_id y = sums;
    if (c->residual) {
        const rq_id z = c->residual == 4   ? y
                        : c->residual == 3 ? random_const(g, d, rng, "z", 4, per_channel)
                                           : random_const(g, d, rng, "z", 4, y_dim);
        y = build_node(g, "Add", "added", d, 2, c->residual == 2 ? (rq_id[]) { z, y } : (rq_id[]) { y, z });
    }
    y = activate(g, d, c->activation, y, low);
    build_output(g, y);
    build_output(g, low);
    if (c->tapped && y != sums)
        build_output(g, sums);
    return g;
}

/* Returns how many steps there are. */
static int run_chain(rq_graph *g, unsigned flags, bool library, rq_threads *t, unsigned plain, const rq_tensor *x,
                     rq_tensor out[3])
{
    const rq_session_cfg cfg = { 0 };
    rq_kernels k;
    rq_program *p;
    rq_err err = { 0 };
    rq_kernels_init(&k, flags);
    k.library = library;
    rq_ops_bind(g);
    if (rq_program_create(&p, g, &cfg, &k, t, NULL, &err))
        fail_msg("%s", err.text);
    p->plain = plain;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; round && i < g->n_outputs; i++)
            rq_tensor_release(&out[i]);
        if (rq_program_run(p, x, out, &err))
            fail_msg("%s", err.text);
    }
    const int steps = p->segs[0]->n_run;
    rq_program_destroy(p);
    return steps;
}

static void check(rq_rng *rng, const chain *c, rq_threads *two)
{
    rq_graph *g = build_chain(rng, c);
    rq_tensor want[3] = { 0 }, got[3] = { 0 };
    unsigned flags;
    rq_tensor x = random_numbers(type_of(c), rng, 4, (int64_t[]) { 2, c->c->in_ch, c->c->size[0], c->c->size[1] });
    const bool adds = c->residual == 1 || c->residual == 2, then = !c->residual || adds,
               acts = c->activation && c->activation != 8 && then;
    const int joined = c->tapped ? 0 : adds + acts;
    for (int library = 0; library < 2; library++) {
        const int steps = run_chain(g, rq_cpu_detect(), library, NULL, RQ_PLAIN_STEPS, &x, want);
        for (int level = 0; rq_cpu_level(level, &flags); level++) {
            if ((rq_cpu_detect() & flags) != flags || (library && flags != rq_cpu_detect()))
                continue;
            const int now = run_chain(g, flags, library, two, 0, &x, got);
            if (now != steps - joined)
                fail_msg("%d steps, %d expected: residual %d, activation %d", now, steps - joined, c->residual,
                         c->activation);
            for (int i = 0; i < g->n_outputs; i++) {
                assert_memory_equal(got[i].data, want[i].data, want[i].bytes);
                rq_tensor_release(&got[i]);
            }
        }
        for (int i = 0; i < g->n_outputs; i++)
            rq_tensor_release(&want[i]);
    }
    rq_tensor_release(&x);
    rq_graph_destroy(g);
}

static void chains_have_the_bits_of_their_steps(void **state)
{
    (void)state;
    rq_rng rng;
    rq_threads *two;
    rq_rng_seed(&rng, 9);
    assert_int_equal(rq_threads_create(&two, 2), RQ_OK);
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++)
        for (int activation = 0; activation < N_ACTIVATIONS; activation++)
            for (int residual = 0; residual < 5; residual++)
                for (int more = 0; more < 4; more++)
                    check(&rng,
                          &(chain) { .c = &convs[i],
                                     .bias = more & 1,
                                     .tapped = more == 2,
                                     .half = more == 3,
                                     .residual = residual,
                                     .activation = activation },
                          two);
    rq_threads_destroy(two);
}

static void reports_list_each_node_once(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 4);
    rq_graph *g = build_chain(&rng, &(chain) { .c = &convs[0], .residual = 1, .activation = 1 });
    rq_session *s;
    rq_err err = { 0 };
    rq_tensor x, out[2];
    const rq_layer_info *layers;
    const rq_shape shape = rq_shape_of(4, (int64_t[]) { 2, 3, 9, 11 });
    const rq_session_cfg cfg = { .threads = 1, .profile = true };
    if (rq_session_create(&s, g, &cfg, &err))
        fail_msg("%s", err.text);
    assert_int_equal(rq_tensor_create(&x, RQ_DTYPE_F32, &shape, true), RQ_OK);
    const rq_feed feed = { .name = "x", .tensor = x };
    if (rq_session_run(s, &feed, 1, out, &err))
        fail_msg("%s", err.text);
    const int n = rq_session_layers(s, &layers);
    assert_int_equal(n, 4);
    static const char *const ops[4] = { "ReduceMin", "Conv", "Add", "Relu" };
    for (int i = 0; i < n; i++) {
        assert_string_equal(layers[i].op, ops[i]);
        assert_false(layers[i].integer);
    }
    assert_true(layers[1].ms > 0 && layers[1].macs > 0); /* who has the product has the time */
    assert_true(layers[2].ms == 0 && layers[3].ms == 0 && layers[3].macs == 0);
    rq_tensor_release(&out[0]), rq_tensor_release(&out[1]), rq_tensor_release(&x);
    rq_session_destroy(s);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(chains_have_the_bits_of_their_steps),
                                        cmocka_unit_test(reports_list_each_node_once) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
