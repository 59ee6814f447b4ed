/* LinearQuantizer's prepare: which layers are found and where fake-quantizers stand, by the numbers D1 to D22 of docs/acceptance.md; and that it is so in the
 * quantized graph. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "linear_quantizer_nets.h"

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

static const int64_t image[] = { 1, 1, 28, 28 }, small[] = { 1, 1, 7, 7 };

enum { CONV, DECONV, LINEAR, N_LAYERS };

/* Input, layer (and its batch norm), 20 channels. */
static const char *layer(net *t, int kind, bool norm)
{
    if (kind == LINEAR) {
        net_begin(t, 2, (const int64_t[]) { 1, 20 });
        return net_linear(t, "layer", "x", 20, 100);
    }
    net_begin(t, 4, small);
    const char *y = (kind == CONV ? net_conv : net_deconv)(t, "layer", "x", 1, 20, 3, 0);
    return norm ? net_norm(t, "bn", y, 20) : y;
}

/* What prepare decides for g (destroyed) with the defaults, "both": vanilla and learnable; and that it is still so when finalized. */
static void letters_to(rq_graph *g, bool compat, const char *want, bool deep)
{
    for (int learnable = 0; learnable < 2; learnable++) {
        char got[128], config[128];
        rq_graph *copy = g;
        snprintf(config, sizeof config, "{\"compat\": %s, \"global_config\": {\"algorithm\": \"%s\"}}",
                 compat ? "true" : "false", learnable ? "learnable" : "vanilla");
        if (!learnable)
            assert_int_equal(rq_graph_copy(&copy, g), RQ_OK);
        rq_linear_quantizer *q = net_prepare(copy, config);
        if (strcmp(net_letters(q, got), want))
            fail_msg("%s: got %s, want %s", config, got, want);
        for (int i = 0; i < q->n_fakes; i++)
            assert_true(q->fake_cfgs[i].kind == RQ_FAKE_QUANTIZER_FIXED ||
                        q->fake_cfgs[i].kind == (learnable ? RQ_FAKE_QUANTIZER_LEARNABLE : RQ_FAKE_QUANTIZER_STANDARD));
        net_finalized(q, deep);
        rq_linear_quantizer_destroy(q);
    }
}

static void letters(rq_graph *g, bool compat, const char *want)
{
    letters_to(g, compat, want, false);
}

static int n_weights(const rq_linear_quantizer *q)
{
    int n = 0;
    for (int i = 0; i < q->n_fakes; i++)
        n += strstr(q->names[i], "weight_fake_quant") != NULL;
    return n;
}

static int slot_of(const rq_linear_quantizer *q, const char *name)
{
    for (int i = 0; i < q->n_fakes; i++)
        if (!strcmp(q->names[i], name))
            return i;
    return -1;
}

/* D1 to D4: every activation is one layer with what is before it: one weight, one place before and one behind, codes as asked for. In each eighth setting, from
 * the turn-th on, it is still so when finalized. */
static void fuses(int kind, bool norm, const char *act, int turn)
{
    static const struct {
        const char *dtype;
        int lo, hi;
    } types[] = { { "qint4", -8, 7 }, { "quint4", 0, 15 }, { "qint8", -128, 127 }, { "quint8", 0, 255 } };
    for (int i = 0; i < N(types) * 8; i++) {
        char config[256];
        net t;
        const char *y = layer(&t, kind, norm);
        snprintf(
            config, sizeof config,
            "{\"global_config\": {\"weight_dtype\": \"%s\", \"quantization_scheme\": \"%s\", \"algorithm\": \"%s\", "
            "\"weight_per_channel\": %s}}",
            types[i / 8].dtype, i & 1 ? "affine" : "symmetric", i & 2 ? "learnable" : "vanilla",
            i & 4 ? "true" : "false");
        rq_linear_quantizer *q = net_prepare(net_end(&t, net_act(&t, act, "act", y)), config);
        const int w = slot_of(q, "layer.weight_fake_quant");
        if (w < 0 || n_weights(q) != 1 || q->n_fakes != 3 || slot_of(q, "activation_post_process_0") < 0 ||
            slot_of(q, "activation_post_process_1") < 0)
            fail_msg("%s behind layer %d: %d fake-quantizers", act, kind, q->n_fakes);
        assert_int_equal(q->fake_cfgs[w].observer.type.lo, types[i / 8].lo);
        assert_int_equal(q->fake_cfgs[w].observer.type.hi, types[i / 8].hi);
        assert_int_equal(q->fake_cfgs[w].observer.axis, i & 4 ? (kind == DECONV) : RQ_PER_TENSOR);
        if ((i + turn) % 8 == 0)
            net_finalized(q, false);
        rq_linear_quantizer_destroy(q);
    }
}

static void test_d1(void **state)
{
    (void)state;
    for (int turn = 0; turn < 8; turn++) {
        fuses(CONV, false, "ReLU", turn);
        fuses(DECONV, false, "ReLU", turn);
    }
}

static void test_d2_d3_d4(void **state)
{
    (void)state;
    for (int a = 0; a < NET_ACTIVATIONS; a++) {
        fuses(CONV, false, net_activations[a], a);
        fuses(DECONV, false, net_activations[a], a);
        fuses(CONV, true, net_activations[a], a);
        fuses(DECONV, true, net_activations[a], a);
        fuses(LINEAR, false, net_activations[a], a);
    }
}

static void test_d5(void **state)
{
    (void)state;
    static const char *const positive[] = { "ReLU", "ReLU6" };
    net t;
    for (int kind = 0; kind < N_LAYERS; kind++)
        for (int i = 0; i < 8; i++)
            if (kind != LINEAR || !(i & 1)) {
                const char *y = layer(&t, kind, i & 1);
                letters(net_end(&t, net_act(&t, positive[i >> 1 & 1], "act", y)), i & 4, "SA:ab");
            }
}

/* In every setting of algorithm, scheme and weights per channel. */
static void test_d6(void **state)
{
    (void)state;
    static const char *const fixed[] = { "Hardsigmoid", "Sigmoid", "Softmax", "Tanh" };
    net t;
    for (int kind = 0; kind < N_LAYERS; kind++)
        for (int norm = 0; norm <= (kind != LINEAR); norm++)
            for (int i = 0; i < 16 * N(fixed); i++) {
                char got[128], config[256];
                const char *act = fixed[i / 16], *y = layer(&t, kind, norm);
                snprintf(config, sizeof config,
                         "{\"compat\": %s, \"global_config\": {\"quantization_scheme\": \"%s\", \"algorithm\": \"%s\", "
                         "\"weight_per_channel\": %s}}",
                         i & 8 ? "true" : "false", i & 1 ? "affine" : "symmetric", i & 2 ? "learnable" : "vanilla",
                         i & 4 ? "true" : "false");
                rq_linear_quantizer *q = net_prepare(net_end(&t, net_act(&t, act, "act", y)), config);
                assert_string_equal(net_letters(q, got), i & 1 ? "AF:ab" : "SF:ab");
                const rq_fake_quantizer_cfg *c = &q->fake_cfgs[slot_of(q, "activation_post_process_1")];
                assert_true(c->observer.scale == (act[0] == 'T' ? 2.0F : 1.0F) / 256);
                assert_int_equal(c->observer.zero_point, act[0] == 'T' ? 128 : 0);
                if (i % 5 == 0)
                    net_finalized(q, false);
                rq_linear_quantizer_destroy(q);
            }
}

static void test_d7(void **state)
{
    (void)state;
    net t;
    for (int i = 0; i < 8; i++) {
        const char *y = layer(&t, i & 1, false);
        y = net_act(&t, i & 2 ? "ReLU" : "ReLU6", "act", y);
        y = net_act(&t, "LeakyReLU", "leaky", net_call(&t, "Dropout", "drop", y));
        letters(net_end(&t, y), i & 4, "SA.S:ab.d");
    }
    /* two in a row: the original does not see that */
    for (int compat = 0; compat < 2; compat++) {
        const char *y = net_act(&t, "ReLU", "act", layer(&t, CONV, false));
        y = net_call(&t, "Dropout", "drop2", net_call(&t, "Dropout", "drop", y));
        letters(net_end(&t, net_act(&t, "LeakyReLU", "leaky", y)), compat, compat ? "SASS:abcd" : "SA.S:ab.d");
    }
}

/* The network of 19 layers. */
static rq_graph *nineteen(void)
{
    net t;
    net_begin(&t, 4, image);
    const char *y = net_norm(&t, "bn1", net_conv(&t, "conv1", "x", 1, 32, 5, 2), 32);
    y = net_pool(&t, "pool1", net_act(&t, "ReLU6", "act1", y), 2);
    y = net_act(&t, "ReLU6", "act2", net_conv(&t, "conv2", y, 32, 64, 5, 2));
    y = net_pool(&t, "pool2", y, 2);
    y = net_norm(&t, "bn3", net_deconv(&t, "conv_transpose1", y, 64, 128, 3, 1), 128);
    y = net_pool(&t, "pool3", net_act(&t, "ReLU6", "act3", y), 1);
    y = net_act(&t, "GELU", "act4", net_deconv(&t, "conv_transpose2", y, 128, 64, 3, 1));
    y = net_call(&t, "Flatten", "flatten", y);
    y = net_act(&t, "ReLU6", "act5", net_linear(&t, "dense1", y, 3136, 1024));
    y = net_call(&t, "Dropout", "dropout", y);
    return net_end(&t, net_act(&t, "LogSoftmax", "out", net_linear(&t, "dense2", y, 1024, 10)));
}

static void test_d8(void **state)
{
    (void)state;
    for (int compat = 0; compat < 2; compat++)
        letters_to(nineteen(), compat, "SAAAAAASSA.S:abbddffhhj.l", true);
    rq_linear_quantizer *q = net_prepare(nineteen(), NULL);
    assert_int_equal(n_weights(q), 6);
    rq_linear_quantizer_destroy(q);
}

static void test_d9(void **state)
{
    (void)state;
    net t;
    const char *y = net_call(&t, "Relu", "", layer(&t, CONV, false));
    letters(net_end(&t, net_conv(&t, "second", y, 20, 4, 3, 0)), false, "SAS:abc");
}

static rq_graph *residual(const char *first, const char *act, int kind)
{
    net t;
    net_begin(&t, 4, (const int64_t[]) { 1, 4, 8, 8 });
    const char *a = net_act(&t, first, "first", "x");
    const char *b = kind == CONV ? net_conv(&t, "conv", a, 4, 4, 3, 1) : net_deconv(&t, "conv", a, 4, 4, 3, 1);
    return net_end(&t, net_pair(&t, "Add", "", a, net_act(&t, act, "act", b)));
}

static void test_d10_d11(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        const char *act = i & 1 ? "ReLU" : "ReLU6";
        const bool compat = i & 2;
        letters(residual("ReLU", act, i >> 2), compat, "SAAA:abcd");
        letters(residual("LeakyReLU", act, i >> 2), compat, "SSAS:abcd");
    }
}

static void test_d12(void **state)
{
    (void)state;
    for (int compat = 0; compat < 2; compat++) {
        net t;
        net_begin(&t, 2, (const int64_t[]) { 2, 8 });
        const char *a = net_act(&t, "ReLU", "r1", "x"), *b = net_act(&t, "LeakyReLU", "l", "x"),
                   *d = net_act(&t, "ReLU", "r2", "x"), *e = net_act(&t, "ReLU", "r3", "x");
        const char *c = net_pair(&t, "Add", "", a, b), *f = net_pair(&t, "Add", "", d, e);
        letters(net_end(&t, net_pair(&t, "Add", "", c, f)), compat, "SASAASAS:abcdefgh");
    }
}

static void test_d13(void **state)
{
    (void)state;
    for (int compat = 0; compat < 2; compat++) {
        net t;
        net_begin(&t, 4, image);
        const char *a = net_act(&t, "ReLU", "r1", net_conv(&t, "conv1", "x", 1, 4, 3, 0)),
                   *b = net_act(&t, "LeakyReLU", "l", net_conv(&t, "conv2", "x", 1, 4, 3, 0));
        const char *sum = net_pair(&t, "Add", "", a, b),
                   *c = net_act(&t, "ReLU", "r2", net_conv(&t, "conv3", "x", 1, 4, 3, 0));
        assert_int_equal(rq_edit_add_output(t.g, sum, &t.err), RQ_OK);
        /* there the second operand has an object of its own */
        letters(net_end(&t, net_cat(&t, a, c)), compat, compat ? "SASSAA:abcdeb" : "SASSAA:abcdbb");
    }
}

static void test_d14(void **state)
{
    (void)state;
    static const char *const acts[] = { "ReLU", "ReLU6", "LeakyReLU" };
    for (int i = 0; i < 6; i++) {
        net t;
        net_begin(&t, 4, image);
        const char *a = net_act(&t, acts[i / 2], "act", net_conv(&t, "conv1", "x", 1, 4, 3, 0));
        const char *b = net_call(&t, "Identity", "id", net_conv(&t, "conv2", "x", 1, 4, 3, 0));
        /* the original's is affine though one operand is signed; ours is not */
        letters(net_end(&t, net_cat(&t, a, b)), i & 1, i & 1 && i / 2 < 2 ? "SASAA:abcbb" : "SSSSS:abcbb");
    }
}

/* Weights alone (D15), activations alone (D16). */
static void test_d15_d16(void **state)
{
    (void)state;
    net t;
    for (int i = 0; i < N_LAYERS * 16; i++)
        for (int a = 0; a < NET_ACTIVATIONS; a++) {
            const int kind = i / 16;
            const bool norm = i & 1, weights = i & 2, affine = i & 4, learnable = i & 8;
            char config[200], got[128];
            if (norm && kind == LINEAR)
                continue;
            snprintf(config, sizeof config,
                     "{\"global_config\": {\"%s_dtype\": \"float32\", \"quantization_scheme\": \"%s\", \"algorithm\": "
                     "\"%s\"}}",
                     weights ? "activation" : "weight", affine ? "affine" : "symmetric",
                     learnable ? "learnable" : "vanilla");
            rq_linear_quantizer *q =
                net_prepare(net_end(&t, net_act(&t, net_activations[a], "act", layer(&t, kind, norm))), config);
            assert_int_equal(q->n_fakes, weights ? 1 : 2);
            assert_int_equal(n_weights(q), weights);
            for (int k = 0; k < q->n_fakes; k++)
                assert_true((!weights && k == q->n_fakes - 1 && q->fake_cfgs[k].kind == RQ_FAKE_QUANTIZER_FIXED) ||
                            q->fake_cfgs[k].kind ==
                                (learnable ? RQ_FAKE_QUANTIZER_LEARNABLE : RQ_FAKE_QUANTIZER_STANDARD));
            net_letters(q, got);
            assert_true(weights ? !strcmp(got, ":") : (got[0] == 'S') == !affine);
            if ((i + a) % 8 == 0)
                net_finalized(q, false);
            rq_linear_quantizer_destroy(q);
        }
}

static void test_d17(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        net t;
        char config[200];
        const bool affine = i & 1, learnable = i & 2;
        const rq_shape s = rq_shape_of(1, (const int64_t[]) { 3 });
        t = (net) { .n = 0 };
        assert_int_equal(rq_graph_create(&t.g), RQ_OK);
        assert_int_equal(rq_edit_set_opset(t.g, "", 20, NULL), RQ_OK);
        assert_int_equal(rq_edit_add_input(t.g, "x", RQ_DTYPE_S64, &s, NULL), RQ_OK);
        const char *w = net_constant(&t, "embedding.weight", 2, (const int64_t[]) { 10, 10 }, 1);
        const char *y = net_linear(&t, "linear", net_pair(&t, "Gather", "embedding", w, "x"), 10, 10);
        snprintf(config, sizeof config,
                 "{\"global_config\": {\"activation_dtype\": \"float32\", \"quantization_scheme\": \"%s\", "
                 "\"algorithm\": \"%s\"}}",
                 affine ? "affine" : "symmetric", learnable ? "learnable" : "vanilla");
        rq_linear_quantizer *q = net_prepare(net_end(&t, y), config);
        assert_int_equal(q->n_fakes, 2);
        for (int k = 0; k < 2; k++) {
            assert_int_equal(q->fake_cfgs[k].observer.axis, 0);
            assert_int_equal(q->fake_cfgs[k].observer.scheme,
                             affine ? RQ_QSCHEME_PER_CHANNEL_AFFINE : RQ_QSCHEME_PER_CHANNEL_SYMMETRIC);
        }
        assert_true(slot_of(q, "embedding.weight_fake_quant") >= 0);
        net_finalized(q, false);
        rq_linear_quantizer_destroy(q);
    }
}

static void test_d18(void **state)
{
    (void)state;
    static const char *const ops[] = { "Add", "Mul", "MatMul", "Einsum" };
    for (int i = 0; i < N(ops) * NET_ACTIVATIONS; i++) {
        net t;
        char got[128];
        net_begin(&t, 4, (const int64_t[]) { 1, 6, 8, 8 });
        const char *y = net_pair(&t, ops[i / NET_ACTIVATIONS], "", "x", net_conv(&t, "conv", "x", 6, 6, 3, 1));
        const char *act = net_activations[i % NET_ACTIVATIONS];
        rq_linear_quantizer *q = net_prepare(net_end(&t, net_act(&t, act, "act", y)), NULL);
        net_letters(q, got);
        const bool unit =
            !strcmp(act, "Sigmoid") || !strcmp(act, "Hardsigmoid") || !strcmp(act, "Softmax") || !strcmp(act, "Tanh");
        if (strcmp(got, unit ? "SSF:abc" : !strncmp(act, "ReLU", 4) ? "SSA:abc" : "SSS:abc"))
            fail_msg("%s, %s: %s", ops[i / NET_ACTIVATIONS], act, got);
        net_finalized(q, false);
        rq_linear_quantizer_destroy(q);
    }
}

/* Does the layer stand alone: no weight, and nothing quantized before or behind it? */
static void check_null(const rq_linear_quantizer *q, const char *module, bool is_null, bool behind_dropout)
{
    char name[80];
    snprintf(name, sizeof name, "%s.weight_fake_quant", module);
    assert_int_equal(slot_of(q, name) < 0, is_null);
    for (int i = 0; i < q->float_graph->n_nodes; i++) {
        const rq_node *n = &q->float_graph->nodes[i];
        const size_t len = strlen(module);
        if (strncmp(n->name + 1, module, len) || n->name[1 + len] != '/')
            continue;
        const int group = q->plan.group_of[i];
        assert_int_equal(group < 0, is_null);
        if (!behind_dropout)
            assert_int_equal(rq_lq_place_read(&q->plan, i, 0) < 0, is_null);
        if (is_null) {
            assert_int_equal(rq_lq_place_behind(&q->plan, n->in[0]) < 0 || behind_dropout, 1);
            assert_true(rq_lq_place_behind(&q->plan, n->out[0]) < 0);
        }
        if (!is_null)
            assert_true(rq_lq_place_behind(&q->plan, q->float_graph->nodes[q->plan.groups[group].last].out[0]) >= 0);
    }
}

static void test_d19(void **state)
{
    (void)state;
    static const struct {
        const char *layer, *nulls, *want; /* what Core ML Tools 9 makes of it, symmetric */
    } cases[] = {
        { "conv1", "\"conv1\": null, \"pool1\": null", "SAAAASSA.S:abbddffh.j" },
        { "conv2", "\"conv2\": null, \"pool1\": null, \"pool2\": null", "SASAASSA.S:abcddffh.j" },
        { "dense1", "\"dense1\": null, \"flatten\": null, \"dropout\": null", "SAAAAAASSS:abbddffhij" },
        { "dense2", "\"dense2\": null, \"dropout\": null", "SAAAAAASSA:abbddffhhj" },
        { "conv_transpose1", "\"conv_transpose1\": null, \"pool2\": null, \"pool3\": null", "SAAASSSA.S:abbdeffh.j" },
        { "conv_transpose2", "\"conv_transpose2\": null, \"pool3\": null, \"flatten\": null", "SAAAAASA.S:abbddfgh.j" },
    };
    for (int i = 0; i < N(cases) * 16; i++) {
        char config[400];
        const bool is_null = i & 4, compat = i & 8;
        const char *layer = cases[i / 16].layer;
        snprintf(config, sizeof config,
                 "{\"compat\": %s, \"global_config\": {\"quantization_scheme\": \"%s\", \"algorithm\": \"%s\"}, "
                 "\"module_name_configs\": {%s}}",
                 compat ? "true" : "false", i & 1 ? "affine" : "symmetric", i & 2 ? "learnable" : "vanilla",
                 is_null ? cases[i / 16].nulls : "");
        rq_linear_quantizer *q = net_prepare(nineteen(), config);
        check_null(q, layer, is_null, !strcmp(layer, "dense2"));
        char got[128], want[128];
        strcpy(want, is_null ? cases[i / 16].want : "SAAAAAASSA.S:abbddffhhj.l");
        for (char *c = want; i & 1 && *c != ':'; c++)
            *c = *c == 'S' ? 'A' : *c;
        if (compat) /* without: what a ReLU6 in float gives is non-negative as well */
            assert_string_equal(net_letters(q, got), want);
        if (is_null && !compat &&
            i / 16 % 4 == (i & 3)) /* a big network: each layer once, in one of the four settings */
            net_finalized(q, true);
        rq_linear_quantizer_destroy(q);
    }
}

/* Names beside those of D19, as Core ML Tools 9 has them: a layer goes with its batch norm and activation, whose own names say nothing. */
static void a_layer_is_left_with_all_its_members(void **state)
{
    (void)state;
    static const struct {
        const char *name, *want, *ours; /* ours: a ReLU6 in float is non-negative as well */
    } cases[] = {
        { "conv1", "SSAAAASSA.S:aacceeggi.k", "AAAAAASSA.S:aacceeggi.k" },
        { "dense1", "SAAAAAASSSS:abbddffhhjk", "SAAAAAASSAS:abbddffhhjk" },
        { "bn1", "SAAAAAASSA.S:abbddffhhj.l", NULL },
        { "act1", "SAAAAAASSA.S:abbddffhhj.l", NULL },
    };
    for (int i = 0; i < N(cases) * 2; i++) {
        char config[100], got[128];
        const bool compat = i & 1;
        snprintf(config, sizeof config, "{\"compat\": %s, \"module_name_configs\": {\"%s\": null}}",
                 compat ? "true" : "false", cases[i / 2].name);
        rq_linear_quantizer *q = net_prepare(nineteen(), config);
        assert_string_equal(net_letters(q, got), compat || !cases[i / 2].ours ? cases[i / 2].want : cases[i / 2].ours);
        rq_linear_quantizer_destroy(q);
    }
    /* what is one float region takes no neighbour in: the ReLU is one, so the convolution before it stands alone */
    net t;
    char got[128];
    const char *y = net_act(&t, "ReLU", "act", layer(&t, CONV, false));
    rq_linear_quantizer *q =
        net_prepare(net_end(&t, net_conv(&t, "second", y, 20, 4, 3, 0)), "{\"non_traceable_module_names\": [\"act\"]}");
    assert_string_equal(net_letters(q, got), "SSSS:abcd");
    rq_linear_quantizer_destroy(q);
}

static void test_d20(void **state)
{
    (void)state;
    net t;
    net_begin(&t, 2, (const int64_t[]) { 2, 8 });
    const char *most = net_call(&t, "ReduceMax", "", "x");
    const char *e = net_pair(&t, "Mul", "", net_pair(&t, "Sub", "", "x", most), net_number(&t, 1.442695));
    e = net_pair(&t, "Pow", "", net_number(&t, 2), e);
    const char *share = net_call(&t, "Reciprocal", "", net_call(&t, "ReduceSum", "", e));
    rq_linear_quantizer *q = net_prepare(net_end(&t, net_pair(&t, "Mul", "", e, share)), NULL);
    /* x and the maximum before the Sub; behind the Sub, the exponential, before and behind the last Mul */
    char got[128];
    assert_string_equal(net_letters(q, got), "SSSSSS:abcdef");
    static const char *const behind[] = { NULL, "ReduceMax", "Sub", "Pow", "Reciprocal", "Mul" };
    for (int i = 0; i < 6; i++) {
        const rq_value *v = &q->float_graph->values[q->plan.places[i].value];
        if (behind[i])
            assert_string_equal(q->float_graph->nodes[v->producer].op, behind[i]);
        else
            assert_string_equal(v->name, "x");
    }
    net_finalized(q, false);
    rq_linear_quantizer_destroy(q);
}

static void test_d21_d22(void **state)
{
    (void)state;
    net t;
    for (int i = 0; i < 4 * 2 * 2 * 2; i++) {
        static const char *const dtypes[] = { "qint8", "quint8", "qint4", "quint4" };
        char config[700], one[300], got[128];
        snprintf(one, sizeof one,
                 "\"quantization_scheme\": \"%s\", \"algorithm\": \"%s\", \"weight_dtype\": \"%s\", "
                 "\"milestones\": [0, 10, 10, -1]",
                 i & 1 ? "affine" : "symmetric", i & 2 ? "learnable" : "vanilla", dtypes[i / 8]);
        snprintf(config, sizeof config,
                 i & 4 ? "{\"global_config\": {%s}, \"module_name_configs\": {\"second\": {%s, \"activation_dtype\": "
                         "\"float32\"}}}"
                       : "{\"global_config\": {%s}}",
                 one, one);
        const char *y = net_act(&t, "ReLU", "act", layer(&t, CONV, false));
        rq_linear_quantizer *q = net_prepare(net_end(&t, net_conv(&t, "second", y, 20, 4, 3, 0)), config);
        assert_string_equal(net_letters(q, got), i & 4 ? (i & 1 ? "AA:ab" : "SA:ab") : i & 1 ? "AAA:abc" : "SAS:abc");
        for (int k = 0; k < q->n_fakes; k++) {
            assert_int_equal(q->fake_cfgs[k].kind, i & 2 ? RQ_FAKE_QUANTIZER_LEARNABLE : RQ_FAKE_QUANTIZER_STANDARD);
            assert_false(rq_fake_quantizer_observer_enabled(q->fakes[k]));
            assert_false(rq_fake_quantizer_fake_quant_enabled(q->fakes[k]));
            if (q->names[k][0] == 'a')
                assert_int_equal(q->fake_cfgs[k].observer.type.dtype, RQ_DTYPE_U8);
        }
        net_finalized(q, false);
        rq_linear_quantizer_destroy(q);
    }
}

/* Where the original and ours part, beyond the above. */
static void test_departures(void **state)
{
    (void)state;
    net t;
    for (int compat = 0; compat < 2; compat++) {
        /* a positive number keeps a product non-negative */
        net_begin(&t, 2, (const int64_t[]) { 2, 8 });
        const char *y = net_pair(&t, "Mul", "", net_act(&t, "ReLU", "act", "x"), net_number(&t, 2));
        letters(net_end(&t, y), compat, compat ? "SAS:abc" : "SAA:abc");
        /* Linear, BatchNorm, ReLU are one layer */
        net_begin(&t, 2, (const int64_t[]) { 2, 8 });
        y = net_act(&t, "ReLU", "act", net_norm(&t, "bn", net_linear(&t, "fc", "x", 8, 4), 4));
        letters(net_end(&t, y), compat, compat ? "SSA:abc" : "SA:ab");
        /* a Transpose shares */
        net_begin(&t, 2, (const int64_t[]) { 8, 8 });
        y = net_call(&t, "Transpose", "", net_linear(&t, "fc", "x", 8, 8));
        letters(net_end(&t, net_linear(&t, "fc2", y, 8, 4)), compat, compat ? "SSSS:abcd" : "SSSS:abbd");
        /* an input is seen before it goes into a Sigmoid */
        net_begin(&t, 2, (const int64_t[]) { 8, 8 });
        letters(net_end(&t, net_act(&t, "Sigmoid", "act", "x")), compat, compat ? "FF:ab" : "SF:ab");
        /* a Sigmoid in one branch clips the others */
        net_begin(&t, 4, image);
        const char *a = net_act(&t, "Sigmoid", "act", net_conv(&t, "conv1", "x", 1, 4, 3, 0));
        y = net_cat(&t, a, net_conv(&t, "conv2", "x", 1, 4, 3, 0));
        letters(net_end(&t, y), compat, compat ? "SFSF:abcb" : "SSSS:abbb");
        /* BatchNorm2d with ReLU */
        net_begin(&t, 4, (const int64_t[]) { 1, 4, 8, 8 });
        letters(net_end(&t, net_act(&t, "ReLU", "act", net_norm(&t, "bn", "x", 4))), compat,
                compat ? "SS:ab" : "SA:ab");
    }
}

/* mean of v over the last axis, as opsets below 18 have it. */
static const char *last_mean(net *t, const char *v)
{
    const char *y = net_call(t, "ReduceMean", "norm", v);
    const int64_t last = -1;
    assert_int_equal(rq_attr_set_ints(t->g, t->g->values[rq_graph_find(t->g, y)].producer, "axes", &last, 1), RQ_OK);
    return y;
}

/* An opset without LayerNormalization: eight operators in float between two layers, and none of them has a place of its own. */
static void a_layer_norm_written_out_stays_in_float_whole(void **state)
{
    (void)state;
    for (int compat = 0; compat < 2; compat++) {
        net t;
        net_begin(&t, 2, (const int64_t[]) { 1, 8 });
        assert_int_equal(rq_edit_set_opset(t.g, "", 13, &t.err), RQ_OK);
        const char *x = net_linear(&t, "fc", "x", 8, 8);
        const char *d = net_pair(&t, "Sub", "norm", x, last_mean(&t, x));
        const char *var = last_mean(&t, net_pair(&t, "Pow", "norm", d, net_number(&t, 2)));
        const char *root = net_call(&t, "Sqrt", "norm", net_pair(&t, "Add", "norm", var, net_number(&t, 1e-5)));
        const char *y = net_pair(&t, "Mul", "norm", net_pair(&t, "Div", "norm", d, root),
                                 net_constant(&t, "norm.weight", 1, (const int64_t[]) { 8 }, 1));
        y = net_pair(&t, "Add", "norm", y, net_constant(&t, "norm.bias", 1, (const int64_t[]) { 8 }, 1));
        rq_linear_quantizer *q =
            net_prepare(net_end(&t, net_linear(&t, "fc2", y, 8, 4)), compat ? "{\"compat\": true}" : "{}");
        char got[128];
        if (!compat)
            assert_string_equal(net_letters(q, got), "SSSS:abcd"); /* input, fc, the norm for fc2, fc2 */
        else
            assert_true(strlen(net_letters(q, got)) > 9);
        net_finalized(q, !compat);
        rq_linear_quantizer_destroy(q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_d1),         cmocka_unit_test(test_d2_d3_d4),
        cmocka_unit_test(test_d5),         cmocka_unit_test(test_d6),
        cmocka_unit_test(test_d7),         cmocka_unit_test(test_d8),
        cmocka_unit_test(test_d9),         cmocka_unit_test(test_d10_d11),
        cmocka_unit_test(test_d12),        cmocka_unit_test(test_d13),
        cmocka_unit_test(test_d14),        cmocka_unit_test(test_d15_d16),
        cmocka_unit_test(test_d17),        cmocka_unit_test(test_d18),
        cmocka_unit_test(test_d19),        cmocka_unit_test(a_layer_is_left_with_all_its_members),
        cmocka_unit_test(test_d20),        cmocka_unit_test(test_d21_d22),
        cmocka_unit_test(test_departures), cmocka_unit_test(a_layer_norm_written_out_stays_in_float_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
