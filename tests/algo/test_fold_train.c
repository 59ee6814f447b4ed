/* tests/algo/test_fold_train.c — networks as exporters write them, made ready to be trained: the same function, the same layers, every parameter a
 * constant where its operator looks for it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../ops/build.h"
#include "fold/fold.h"
#include "algo/linear_quantizer.h"
#include "base/rng.h"
#include "ops/op.h"
#include "requant/requant.h"

static rq_err err;

static void ok(rq_status st)
{
    if (st)
        fail_msg("%s: %s", rq_status_text(st), err.text);
}

static rq_tensor numbers(uint64_t seed, int rank, const int64_t *dim, float lo, float hi)
{
    rq_tensor t;
    rq_rng rng;
    const rq_shape s = rq_shape_of(rank, dim);
    ok(rq_tensor_create(&t, RQ_DTYPE_F32, &s, false));
    rq_rng_seed(&rng, seed);
    for (int64_t i = 0; i < rq_tensor_count(&t); i++)
        t.f32[i] = lo + (hi - lo) * rq_rng_f32(&rng);
    return t;
}

/* A constant as a node, called after what it makes. */
static rq_id constant_node(rq_graph *g, const char *name, uint64_t seed, int rank, const int64_t *dim, float lo,
                           float hi)
{
    rq_tensor t = numbers(seed, rank, dim, lo, hi);
    const rq_id v = build_node(g, "Constant", name, RQ_DTYPE_F32, 0, NULL);
    ok(rq_attr_set_tensor(g, g->values[v].producer, "value", &t));
    rq_tensor_release(&t);
    return v;
}

static rq_id number(rq_graph *g, const char *name, float v)
{
    return constant_node(g, name, 1, 0, NULL, v, v);
}

/* x * clip(x + 3, 0, 6) / 6 */
static rq_id hard_swish(rq_graph *g, rq_id x, const char *out)
{
    char name[4][40];
    for (int i = 0; i < 4; i++)
        snprintf(name[i], sizeof name[i], "%s_%d", out, i);
    char three[40], zero[40], six[40];
    snprintf(three, sizeof three, "%s_three", out);
    snprintf(zero, sizeof zero, "%s_zero", out);
    snprintf(six, sizeof six, "%s_six", out);
    const rq_id top = number(g, six, 6);
    const rq_id a = build_node(g, "Add", name[0], RQ_DTYPE_F32, BUILD_IN(x, number(g, three, 3)));
    const rq_id c = build_node(g, "Clip", name[1], RQ_DTYPE_F32, BUILD_IN(a, number(g, zero, 0), top));
    const rq_id m = build_node(g, "Mul", name[2], RQ_DTYPE_F32, BUILD_IN(x, c));
    return build_node(g, "Div", out, RQ_DTYPE_F32, BUILD_IN(m, top));
}

static rq_id batch_norm(rq_graph *g, rq_id x, const char *out, int64_t n)
{
    const rq_id gamma = constant_node(g, "bn.weight", 11, 1, &n, 0.5F, 2),
                beta = constant_node(g, "bn.bias", 12, 1, &n, -1, 1),
                mean = constant_node(g, "bn.running_mean", 13, 1, &n, -1, 1),
                var = constant_node(g, "bn.running_var", 14, 1, &n, 0.5F, 2);
    return build_node(g, "BatchNormalization", out, RQ_DTYPE_F32, BUILD_IN(x, gamma, beta, mean, var));
}

/* As PaddlePaddle's exporter writes a network: every constant is a node, the bias of a convolution is an Add of a constant laid out anew,
 * activations are arithmetic, and there are copies.
 *
 *   conv1 -> bn -> hard swish -> pool -> (conv2, then Add of Reshape(offset)) -> Relu -> affine (conv3) -> dropout -> Identity -> y */
static rq_graph *exported(void)
{
    const int64_t image[] = { 2, 3, 6, 6 }, w1[] = { 4, 3, 3, 3 }, w2[] = { 5, 4, 1, 1 }, five[] = { 5 }, lay[] = { 4 },
                  w3[] = { 4, 5, 1, 1 }, col[] = { 1, 4, 1, 1 };
    rq_graph *g = build_graph(13);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, image);
    const rq_id c1 = build_node(g, "Conv", "conv1_out", RQ_DTYPE_F32,
                                BUILD_IN(x, constant_node(g, "conv1.weight", 1, 4, w1, -1, 1)));
    const rq_id h = hard_swish(g, batch_norm(g, c1, "normed", 4), "h");
    const rq_id p = build_node(g, "GlobalAveragePool", "p", RQ_DTYPE_F32, BUILD_IN(h));
    const rq_id c2 = build_node(g, "Conv", "conv2_out", RQ_DTYPE_F32,
                                BUILD_IN(p, constant_node(g, "conv2.weight", 2, 4, w2, -1, 1)));
    const rq_id shape = build_const(g, "shape", RQ_DTYPE_S64, 1, lay, (double[]) { 1, 5, 1, 1 });
    const rq_id b = build_node(g, "Reshape", "laid_out", RQ_DTYPE_F32,
                               BUILD_IN(constant_node(g, "conv2.bias", 3, 1, five, -1, 1), shape));
    const rq_id a = build_node(g, "Add", "biased", RQ_DTYPE_F32, BUILD_IN(c2, b));
    const rq_id r = build_node(g, "Relu", "r", RQ_DTYPE_F32, BUILD_IN(a));
    const rq_id c3 = build_node(g, "Conv", "conv3_out", RQ_DTYPE_F32,
                                BUILD_IN(r, constant_node(g, "conv3.weight", 4, 4, w3, -1, 1)));
    const rq_id m = build_node(g, "Mul", "scaled", RQ_DTYPE_F32, BUILD_IN(number(g, "by", 1.5F), c3));
    const rq_id s =
        build_node(g, "Add", "shifted", RQ_DTYPE_F32, BUILD_IN(constant_node(g, "shift", 5, 4, col, -1, 1), m));
    const rq_id d = build_node(g, "Dropout", "d", RQ_DTYPE_F32, BUILD_IN(s));
    build_output(g, build_node(g, "Identity", "y", RQ_DTYPE_F32, BUILD_IN(d)));
    return g;
}

/* Outputs of g for noise; the caller releases. */
static rq_tensor run(const rq_graph *g)
{
    rq_session *s;
    const rq_value_info in = rq_graph_input(g, 0);
    rq_tensor x = numbers(77, in.shape.rank, in.shape.dim, -2, 2), y;
    ok(rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err));
    ok(rq_session_run(s, &(rq_feed) { in.name, x }, 1, &y, &err));
    rq_tensor_release(&x);
    rq_session_destroy(s);
    return y;
}

static void fold(rq_graph *g, bool plain)
{
    rq_tensor want = run(g);
    ok(rq_fold_for_training(g, plain, &err));
    ok(rq_graph_check(g, &err));
    rq_tensor got = run(g);
    assert_int_equal(rq_tensor_count(&want), rq_tensor_count(&got));
    for (int64_t i = 0; i < rq_tensor_count(&got); i++)
        assert_true(fabsf(got.f32[i] - want.f32[i]) <= 1e-5F * (1 + fabsf(want.f32[i])));
    rq_tensor_release(&want);
    rq_tensor_release(&got);
}

static const rq_node *maker(const rq_graph *g, const char *value)
{
    const rq_id v = rq_graph_find(g, value);
    assert_true(v >= 0);
    return &g->nodes[g->values[v].producer];
}

static void what_exporters_write_becomes_layers(void **state)
{
    rq_graph *g = exported();
    fold(g, false);
    static const struct {
        const char *op;
        int n;
    } left[] = { { "Conv", 3 },
                 { "BatchNormalization", 1 },
                 { "HardSigmoid", 1 },
                 { "Mul", 1 },
                 { "GlobalAveragePool", 1 },
                 { "Relu", 1 },
                 { "Dropout", 1 },
                 { "Constant", 0 },
                 { "Reshape", 0 },
                 { "Add", 0 },
                 { "Div", 0 },
                 { "Clip", 0 },
                 { "Identity", 1 } };
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        if (count_op(g, left[i].op) != left[i].n)
            fail_msg("%d nodes %s, expected %d", count_op(g, left[i].op), left[i].op, left[i].n);
    /* parameters are constants of the graph under the names that they had */
    static const char *const parameters[] = { "conv1.weight",   "bn.weight",    "bn.bias",    "bn.running_mean",
                                              "bn.running_var", "conv2.weight", "conv2.bias", "conv3.weight" };
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
        const rq_id v = rq_graph_find(g, parameters[i]);
        if (v < 0 || g->values[v].kind != RQ_VALUE_CONST)
            fail_msg("'%s' is no constant", parameters[i]);
    }
    const rq_node *conv2 = maker(g, "biased");
    assert_string_equal(conv2->op, "Conv");
    assert_int_equal(conv2->n_in, 3);
    assert_string_equal(g->values[conv2->in[2]].name, "conv2.bias");
    assert_int_equal(g->values[conv2->in[2]].constant.shape.rank, 1);
    rq_graph_destroy(g);
}

/* plain: the program of the network is as it was, only its constants are known. */
static void plain_computes_constants_alone(void **state)
{
    rq_graph *g = exported();
    fold(g, true);
    assert_int_equal(count_op(g, "Constant") + count_op(g, "Reshape"), 0);
    assert_int_equal(count_op(g, "Add"), 3);
    assert_int_equal(count_op(g, "Clip") + count_op(g, "Div") + count_op(g, "Identity") + count_op(g, "Dropout"), 4);
    assert_string_equal(maker(g, "biased")->op, "Add");
    rq_graph_destroy(g);
}

/* A constant that two places train stays one, copied or laid out; so do weights of two products, of which one would take in a factor. */
static void parameters_with_two_readers_stay_one(void **state)
{
    const int64_t in[] = { 2, 4 }, w[] = { 4, 4 }, two[] = { 2 }, image[] = { 1, 4, 3, 3 }, k[] = { 4, 4, 1, 1 };
    rq_graph *g = build_graph(13);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 2, in), tied = constant_node(g, "tied", 1, 2, w, -1, 1);
    const rq_id shape = build_const(g, "shape", RQ_DTYPE_S64, 1, two, (double[]) { 4, 4 });
    const rq_id a = build_node(g, "MatMul", "a", RQ_DTYPE_F32, BUILD_IN(x, tied));
    const rq_id copy = build_node(g, "Identity", "copy", RQ_DTYPE_F32, BUILD_IN(tied));
    const rq_id b = build_node(g, "MatMul", "b", RQ_DTYPE_F32, BUILD_IN(a, copy));
    const rq_id again = build_node(g, "Reshape", "again", RQ_DTYPE_F32, BUILD_IN(tied, shape));
    build_output(g, build_node(g, "MatMul", "y", RQ_DTYPE_F32, BUILD_IN(b, again)));
    fold(g, false);
    assert_int_equal(maker(g, "b")->in[1], maker(g, "a")->in[1]); /* the copy is the parameter */
    assert_int_equal(count_op(g, "Reshape"), 1);
    rq_graph_destroy(g);

    g = build_graph(13);
    const rq_id p = build_input(g, "x", RQ_DTYPE_F32, 4, image), both = constant_node(g, "both", 1, 4, k, -1, 1);
    const rq_id c = build_node(g, "Conv", "c", RQ_DTYPE_F32, BUILD_IN(p, both));
    const rq_id m = build_node(g, "Mul", "m", RQ_DTYPE_F32, BUILD_IN(c, number(g, "by", 2)));
    build_output(g, build_node(g, "Conv", "y", RQ_DTYPE_F32, BUILD_IN(m, both)));
    fold(g, false);
    assert_int_equal(maker(g, "c")->in[1], maker(g, "y")->in[1]);
    assert_int_equal(count_op(g, "Mul"), 1);
    rq_graph_destroy(g);
}

/* x -> FusedConv of every activation, one with something added -> FusedGemm -> y */
static rq_graph *fused(void)
{
    static const struct {
        const char *act;
        int n;
        float p[2];
        bool bias, add;
    } convs[] = { { "Relu", 0, { 0 }, true, false },
                  { "", 0, { 0 }, false, true },
                  { "LeakyRelu", 1, { 0.3F }, false, true },
                  { "LeakyRelu", 0, { 0 }, true, false },
                  { "Clip", 2, { -0.5F, 1.25F }, true, true },
                  { "Tanh", 0, { 0 }, true, false },
                  { "HardSigmoid", 2, { 0.1F, 0.4F }, false, false } };
    static const char *const gemms[] = { "Sigmoid", "LeakyRelu", "" };
    const int64_t image[] = { 2, 3, 4, 4 }, w[] = { 3, 3, 3, 3 }, b[] = { 3 }, flat[] = { 2, 48 }, k[] = { 48, 48 };
    rq_graph *g = build_graph(13);
    ok(rq_graph_set_opset(g, "com.microsoft", 1));
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, image);
    rq_id v = x;
    char name[40];
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++) {
        snprintf(name, sizeof name, "w%zu", i);
        rq_id in[4] = { v, constant_node(g, name, i + 1, 4, w, -0.5F, 0.5F), RQ_NONE, x };
        snprintf(name, sizeof name, "b%zu", i);
        if (convs[i].bias)
            in[2] = constant_node(g, name, i + 50, 1, b, -1, 1);
        snprintf(name, sizeof name, "conv%zu", i);
        v = build_node(g, "FusedConv", name, RQ_DTYPE_F32, convs[i].add ? 4 : convs[i].bias ? 3 : 2, in);
        const rq_id n = g->values[v].producer;
        g->nodes[n].domain = "com.microsoft";
        ok(rq_attr_set_ints(g, n, "pads", (const int64_t[]) { 1, 1, 1, 1 }, 4));
        if (convs[i].act[0])
            ok(rq_attr_set_string(g, n, "activation", convs[i].act));
        if (convs[i].n) {
            rq_attr *at = rq_attr_add(g, n, "activation_params", RQ_ATTR_FLOATS);
            assert_non_null(at);
            at->floats = rq_arena_alloc(&g->names, 2, sizeof *at->floats);
            memcpy(at->floats, convs[i].p, sizeof convs[i].p);
            at->n = convs[i].n;
        }
    }
    v = build_node(g, "Reshape", "flat", RQ_DTYPE_F32,
                   BUILD_IN(v, build_const(g, "to", RQ_DTYPE_S64, 1, (const int64_t[]) { 2 }, (double[]) { 2, 48 })));
    for (size_t i = 0; i < sizeof gemms / sizeof *gemms; i++) {
        snprintf(name, sizeof name, "k%zu", i);
        const rq_id weight = constant_node(g, name, i + 90, 2, k, -0.2F, 0.2F);
        snprintf(name, sizeof name, "c%zu", i);
        const rq_id c = constant_node(g, name, i + 95, 2, flat, -1, 1);
        snprintf(name, sizeof name, "gemm%zu", i);
        v = build_node(g, "FusedGemm", name, RQ_DTYPE_F32, BUILD_IN(v, weight, c));
        const rq_id n = g->values[v].producer;
        g->nodes[n].domain = "com.microsoft";
        ok(rq_attr_set_int(g, n, "transB", 1));
        if (gemms[i][0])
            ok(rq_attr_set_string(g, n, "activation", gemms[i]));
        ok(rq_attr_set_float(g, n, "activation_alpha", 0.4F));
    }
    build_output(g, v);
    return g;
}

/* Products that ONNX Runtime fused are their parts again, under the names that their results had, and all of them are trained. */
static void what_was_fused_is_taken_apart(void **state)
{
    for (int plain = 0; plain < 2; plain++) {
        rq_graph *g = fused();
        fold(g, plain);
        static const struct {
            const char *op;
            int n;
        } left[] = { { "FusedConv", 0 }, { "FusedGemm", 0 },   { "Conv", 7 },      { "Gemm", 3 },
                     { "Add", 3 },       { "Relu", 1 },        { "LeakyRelu", 3 }, { "Clip", 1 },
                     { "Tanh", 1 },      { "HardSigmoid", 1 }, { "Sigmoid", 1 } };
        for (size_t i = 0; i < sizeof left / sizeof *left; i++)
            if (count_op(g, left[i].op) != left[i].n)
                fail_msg("%d nodes %s, expected %d", count_op(g, left[i].op), left[i].op, left[i].n);
        assert_string_equal(maker(g, "conv0")->op, "Relu");
        assert_string_equal(maker(g, "conv1")->op, "Add");
        assert_string_equal(maker(g, "conv4")->op, "Clip");
        assert_string_equal(maker(g, "gemm2")->op, "Gemm");
        for (int i = 0; i < g->n_nodes; i++)
            assert_false(g->nodes[i].op && rq_attr_find(&g->nodes[i], RQ_WORD_activation));
        rq_autograd *a;
        rq_parameter *p;
        ok(rq_autograd_create(&a, g, NULL, &err));
        assert_int_equal(rq_autograd_parameters(a, &p), 7 + 4 + 3 + 3);
        rq_autograd_destroy(a);
        rq_graph_destroy(g);
    }
}

/* Rules address modules by name: what is left answers to the names it had. */
static void layers_keep_their_names(void **state)
{
    rq_graph *before = exported(), *after;
    ok(rq_graph_copy(&after, before));
    fold(after, false);
    rq_module *a, *b;
    int na, nb;
    ok(rq_graph_modules(before, &a, &na));
    ok(rq_graph_modules(after, &b, &nb));
    assert_true(nb > 5 && nb < na);
    for (int i = 0; i < nb; i++) {
        bool found = false;
        for (int k = 0; k < na; k++)
            found |= !strcmp(a[k].name, b[i].name);
        if (!found)
            fail_msg("module '%s' was not there before", b[i].name);
    }
    rq_free(a);
    rq_free(b);
    rq_graph_destroy(before);
    rq_graph_destroy(after);
}

/* LinearQuantizer on the network as it was exported: every layer has its places, weights become codes, and no constant is taken for an
 * activation. */
static void an_exported_network_is_quantized_whole(void **state)
{
    rq_graph *g = exported(), *out;
    rq_linear_quantizer *q;
    ok(rq_linear_quantizer_create(&q, g, NULL, &err));
    ok(rq_linear_quantizer_prepare(q, &err));
    /* x, hard swish (which the pool shares), relu, conv3, the copy of what the dropout passes on, and three weights */
    assert_int_equal(rq_linear_quantizer_fakes(q, NULL, NULL), 8);
    rq_autograd *a;
    rq_autograd_cfg how = rq_autograd_defaults();
    how.threads = 1;
    how.n_fakes = rq_linear_quantizer_fakes(q, &how.fakes, NULL);
    ok(rq_autograd_create(&a, rq_linear_quantizer_model(q), &how, &err));
    rq_autograd_train(a, false);
    const rq_value_info in = rq_graph_input(g, 0);
    rq_tensor x = numbers(77, in.shape.rank, in.shape.dim, -2, 2), y;
    ok(rq_autograd_forward(a, &(rq_feed) { in.name, x }, 1, &y, &err));
    ok(rq_linear_quantizer_finalize(q, &out, &err));
    for (int i = 0; i < out->n_nodes; i++) {
        const rq_node *n = &out->nodes[i];
        if (!n->op || strcmp(n->op, "Conv") != 0)
            continue;
        assert_non_null(rq_graph_qparams(out, n->in[0]));
        assert_int_equal(out->values[n->in[1]].constant.dtype, RQ_DTYPE_S8);
    }
    assert_int_equal(count_op(out, "Conv"), 3);
    assert_int_equal(count_op(out, "BatchNormalization") + count_op(out, "Dropout") + count_op(out, "Constant"), 0);
    assert_int_equal(count_op(out, "Identity"), 1);
    rq_tensor_release(&x);
    rq_autograd_destroy(a);
    rq_graph_destroy(out);
    rq_linear_quantizer_destroy(q);
    rq_graph_destroy(g);
}

/* ---- training in place ---- */

static rq_dataset *samples(const rq_graph *g, int64_t rows)
{
    rq_dataset *d;
    rq_state *s;
    const rq_value_info in = rq_graph_input(g, 0), out = rq_graph_output(g, 0);
    int64_t dim[RQ_MAX_RANK];
    memcpy(dim, in.shape.dim, sizeof dim);
    dim[0] = rows;
    rq_tensor x = numbers(5, in.shape.rank, dim, -1, 1);
    memcpy(dim, out.shape.dim, sizeof dim);
    dim[0] = rows;
    rq_tensor t = numbers(6, out.shape.rank, dim, -1, 1);
    ok(rq_state_create(&s));
    ok(rq_state_set(s, NULL, in.name, &x));
    ok(rq_state_set(s, NULL, "target", &t));
    ok(rq_state_save(s, RQ_TEST_TMP "/fold_train.npz", &err));
    rq_state_destroy(s);
    rq_tensor_release(&x);
    rq_tensor_release(&t);
    ok(rq_dataset_open(&d, RQ_TEST_TMP "/fold_train.npz", g, &(rq_dataset_cfg) { .batch = 2 }, &err));
    return d;
}

static rq_status train(rq_graph *g)
{
    rq_trainer *t;
    rq_train_cfg cfg = rq_train_defaults();
    cfg.loss = rq_loss_defaults(RQ_LOSS_MSE);
    cfg.threads = 1;
    cfg.optimizer.lr = 0.1;
    rq_ops_bind(g);
    ok(rq_ops_infer(g, &err));
    rq_dataset *data = samples(g, 4);
    ok(rq_trainer_create(&t, g, NULL, &cfg, &err));
    const rq_status st = rq_trainer_run(t, data, NULL, &err);
    rq_trainer_destroy(t);
    rq_dataset_close(data);
    return st;
}

static void weights_that_are_nodes_are_trained(void **state)
{
    rq_graph *g = exported();
    ok(train(g));
    static const struct {
        const char *name;
        uint64_t seed;
        int rank;
        int64_t dim[4];
    } w[] = { { "conv1.weight", 1, 4, { 4, 3, 3, 3 } },
              { "conv2.weight", 2, 4, { 5, 4, 1, 1 } },
              { "conv2.bias", 3, 1, { 5 } } };
    for (size_t i = 0; i < sizeof w / sizeof *w; i++) {
        rq_tensor was = numbers(w[i].seed, w[i].rank, w[i].dim, -1, 1), now;
        ok(rq_edit_constant(g, w[i].name, &now, &err));
        if (now.bytes != was.bytes || !memcmp(now.data, was.data, was.bytes))
            fail_msg("'%s' was not trained", w[i].name);
        rq_tensor_release(&was);
        rq_tensor_release(&now);
    }
    rq_graph_destroy(g);
}

static void a_network_without_weights_is_refused(void **state)
{
    const int64_t dim[] = { 2, 3 };
    rq_graph *g = build_graph(13);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 2, dim);
    build_output(g, build_node(g, "Relu", "y", RQ_DTYPE_F32, BUILD_IN(x)));
    assert_int_equal(train(g), RQ_BAD_GRAPH);
    assert_non_null(strstr(err.text, "nothing to train"));
    rq_graph_destroy(g);
}

/* Whatever allocation fails: an error, a graph that can be destroyed, no leak. */
static void running_out_of_memory_is_an_error(void **state)
{
    const size_t before = rq_mem_live();
    rq_status st;
    for (int which = 0; which < 2; which++)
        for (size_t n = 1, more = 1; more; n++) {
            rq_graph *g = which ? fused() : exported();
            rq_mem_fail_after(n, true);
            st = rq_fold_for_training(g, false, &err);
            rq_mem_fail_after(0, false);
            if (rq_graph_check(g, &err)) /* half folded, but a graph */
                fail_msg("network %d, allocation %zu: %s", which, n, err.text);
            rq_graph_destroy(g);
            assert_true(!st || st == RQ_NO_MEMORY);
            more = st != RQ_OK;
        }
    assert_int_equal(rq_mem_live(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_exporters_write_becomes_layers),
        cmocka_unit_test(plain_computes_constants_alone),
        cmocka_unit_test(parameters_with_two_readers_stay_one),
        cmocka_unit_test(layers_keep_their_names),
        cmocka_unit_test(what_was_fused_is_taken_apart),
        cmocka_unit_test(an_exported_network_is_quantized_whole),
        cmocka_unit_test(weights_that_are_nodes_are_trained),
        cmocka_unit_test(a_network_without_weights_is_refused),
        cmocka_unit_test(running_out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
