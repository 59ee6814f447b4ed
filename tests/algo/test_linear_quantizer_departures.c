/* LinearQuantizer: where it parts from the original, row by row of docs/numerics.md ("Departures from the originals"), each in both ways where `compat` has
 * the original's. What the networks of D1 to D22 show already is in test_linear_quantizer_place.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "linear_quantizer_nets.h"

static const int64_t image[] = { 1, 4, 8, 8 };

static rq_linear_quantizer *prepared(rq_graph *g, bool compat, const char *rules)
{
    char config[300];
    snprintf(config, sizeof config, "{\"compat\": %s%s%s}", compat ? "true" : "false", rules ? ", " : "",
             rules ? rules : "");
    return net_prepare(g, config);
}

static void letters(rq_graph *g, bool compat, const char *rules, const char *want)
{
    char got[128];
    rq_linear_quantizer *q = prepared(g, compat, rules);
    if (strcmp(net_letters(q, got), want))
        fail_msg("%s %s: got %s, want %s", compat ? "compat" : "", rules ? rules : "", got, want);
    net_finalized(q, false);
    rq_linear_quantizer_destroy(q);
}

static const rq_fake_quantizer_cfg *weight_of(const rq_linear_quantizer *q, const char *module)
{
    char name[80];
    snprintf(name, sizeof name, "%s.weight_fake_quant", module);
    for (int i = 0; i < q->n_fakes; i++)
        if (!strcmp(q->names[i], name))
            return &q->fake_cfgs[i];
    return NULL;
}

/* ReLU6 and ReLU are known by what they do: as modules, as functions (no module's name), and as a Clip or Relu with any name. */
static void clamps_from_zero_are_non_negative(void **state)
{
    (void)state;
    net t;
    for (int i = 0; i < 8; i++) {
        net_begin(&t, 4, image);
        const char *y = net_conv(&t, "conv", "x", 4, 4, 3, 1);
        letters(net_end(&t, net_act(&t, i & 1 ? "ReLU6" : "ReLU", i & 2 ? "act" : "", y)), i & 4, NULL, "SA:ab");
        net_begin(&t, 4, image);
        letters(net_end(&t, net_act(&t, i & 1 ? "ReLU6" : "ReLU", i & 2 ? "act" : "", "x")), i & 4, NULL, "SA:ab");
    }
}

/* A function that is Sigmoid, Tanh or Softmax has its fixed range. */
static void functions_have_fixed_ranges(void **state)
{
    (void)state;
    static const char *const acts[] = { "Sigmoid", "Tanh", "Softmax" };
    net t;
    for (int i = 0; i < 6; i++) {
        net_begin(&t, 4, image);
        const char *y = net_conv(&t, "conv", "x", 4, 4, 3, 1);
        letters(net_end(&t, net_act(&t, acts[i / 2], "", y)), i & 1, NULL, "SF:ab");
    }
}

/* The weights of a ConvTranspose lie along their output channels, with a batch norm too. */
static void channels_of_a_transposed_convolution(void **state)
{
    (void)state;
    net t;
    for (int i = 0; i < 4; i++) {
        const bool norm = i & 1, compat = i & 2;
        net_begin(&t, 4, image);
        const char *y = net_deconv(&t, "up", "x", 4, 6, 3, 1);
        rq_linear_quantizer *q = prepared(net_end(&t, norm ? net_norm(&t, "bn", y, 6) : y), compat, NULL);
        assert_int_equal(weight_of(q, "up")->observer.axis, norm && compat ? 0 : 1);
        net_finalized(q, false);
        rq_linear_quantizer_destroy(q);
    }
}

/* Grouped, with a batch norm: its scale belongs to group and channel. The network that is trained computes what was given, before anything is rounded. */
static void groups_of_a_transposed_convolution(void **state)
{
    (void)state;
    net t;
    int id;
    rq_graph *given;
    net_begin(&t, 4, image);
    const char *w = net_constant(&t, "up.weight", 4, (const int64_t[]) { 4, 3, 3, 3 }, 0.3), *y = "up_y";
    assert_int_equal(rq_edit_add_node(t.g,
                                      &(rq_edit_node) { .op = "ConvTranspose",
                                                        .name = "/up/ConvTranspose",
                                                        .in = (const char *const[]) { "x", w },
                                                        .n_in = 2,
                                                        .out = &y,
                                                        .n_out = 1 },
                                      &id, &t.err),
                     RQ_OK);
    assert_int_equal(rq_edit_set_int(t.g, id, "group", 2, &t.err), RQ_OK);
    rq_graph *g = net_end(&t, net_act(&t, "ReLU", "act", net_norm(&t, "bn", y, 6)));
    assert_int_equal(rq_graph_copy(&given, g), RQ_OK);
    rq_linear_quantizer *q = prepared(g, false, NULL);
    rq_autograd_cfg how = rq_autograd_defaults();
    rq_autograd *a;
    rq_session *s;
    rq_tensor x = net_numbers(4, image, 1, 5), got, want;
    how.n_fakes = rq_linear_quantizer_fakes(q, &how.fakes, NULL);
    for (int i = 0; i < how.n_fakes; i++) {
        rq_fake_quantizer_enable_observer(q->fakes[i], true);
        rq_fake_quantizer_enable_fake_quant(q->fakes[i], false);
    }
    assert_int_equal(rq_autograd_create(&a, q->model, &how, &t.err), RQ_OK);
    rq_autograd_train(a, false);
    assert_int_equal(rq_autograd_forward(a, &(rq_feed) { "x", x }, 1, &got, &t.err), RQ_OK);
    assert_int_equal(rq_session_create(&s, given, NULL, &t.err), RQ_OK);
    assert_int_equal(rq_session_run(s, &(rq_feed) { "x", x }, 1, &want, &t.err), RQ_OK);
    assert_int_equal(rq_tensor_count(&got), rq_tensor_count(&want));
    for (int64_t i = 0; i < rq_tensor_count(&got); i++)
        assert_true(fabsf(got.f32[i] - want.f32[i]) <= 1e-5F * (1 + fabsf(want.f32[i])));
    rq_tensor_release(&want);
    rq_tensor_release(&x);
    rq_session_destroy(s);
    rq_autograd_destroy(a);
    rq_graph_destroy(given);
    net_finalized(q, false);
    rq_linear_quantizer_destroy(q);
}

/* What a rule says of a layer by name or type holds for all that goes with it. */
static void rules_hold_for_the_whole_layer(void **state)
{
    (void)state;
    static const char *const acts[] = { NULL, "ReLU", "LeakyReLU", "Sigmoid", "GELU" };
    net t;
    for (int i = 0; i < 5 * 8; i++) {
        char rules[200];
        const bool norm = i & 1, deconv = i & 2, by_type = i & 4;
        const char *act = acts[i / 8];
        net_begin(&t, 4, image);
        const char *y = (deconv ? net_deconv : net_conv)(&t, "layer", "x", 4, 4, 3, 1);
        y = norm ? net_norm(&t, "bn", y, 4) : y;
        snprintf(rules, sizeof rules, "\"module_%s_configs\": {\"%s\": {\"weight_dtype\": \"qint4\"}}",
                 by_type ? "type" : "name",
                 !by_type ? "layer"
                 : deconv ? "ConvTranspose2d"
                          : "Conv2d");
        rq_linear_quantizer *q = prepared(net_end(&t, act ? net_act(&t, act, "act", y) : y), false, rules);
        assert_int_equal(weight_of(q, "layer")->observer.type.lo, -8);
        assert_int_equal(weight_of(q, "layer")->observer.type.hi, 7);
        assert_int_equal(q->n_fakes, 3);
        if (i % 3 == 0)
            net_finalized(q, false);
        rq_linear_quantizer_destroy(q);
        /* types of its batch norm and activation are those of such that stand alone */
        net_begin(&t, 4, image);
        y = net_norm(&t, "bn", net_conv(&t, "layer", "x", 4, 4, 3, 1), 4);
        y = net_act(&t, "ReLU", "act", y);
        y = net_norm(&t, "alone", y, 4);
        if (i == 0)
            letters(net_end(&t, y), false, "\"module_type_configs\": {\"BatchNorm2d\": null}", "SA:ab");
        else
            rq_graph_destroy(t.g);
    }
}

/* null for a module leaves all that is in it, weights too. */
static void nothing_stays_of_a_module_that_is_left(void **state)
{
    (void)state;
    net t;
    for (int norm = 0; norm < 2; norm++) {
        net_begin(&t, 4, image);
        const char *y = net_conv(&t, "block.conv", "x", 4, 4, 3, 1);
        y = norm ? net_norm(&t, "block.bn", y, 4) : y;
        y = net_act(&t, "ReLU", "block.act", y);
        rq_linear_quantizer *q = prepared(net_end(&t, net_conv(&t, "head", y, 4, 4, 3, 1)), false,
                                          "\"module_name_configs\": {\"block\": null}");
        assert_null(weight_of(q, "block.conv"));
        assert_non_null(weight_of(q, "head"));
        assert_int_equal(q->n_fakes, 3); /* before and behind the head, and its weight */
        net_finalized(q, false);
        rq_linear_quantizer_destroy(q);
    }
}

/* An embedding has the bits and granularity that were asked for, activations may be quantized, and indices never are. */
static void embeddings_as_asked(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        net t = { .n = 0 };
        char rules[200], got[128];
        const rq_shape s = rq_shape_of(1, (const int64_t[]) { 3 });
        assert_int_equal(rq_graph_create(&t.g), RQ_OK);
        assert_int_equal(rq_edit_set_opset(t.g, "", 20, NULL), RQ_OK);
        assert_int_equal(rq_edit_add_input(t.g, "x", RQ_DTYPE_S64, &s, NULL), RQ_OK);
        const char *w = net_constant(&t, "embedding.weight", 2, (const int64_t[]) { 10, 12 }, 1);
        const char *y = net_linear(&t, "linear", net_pair(&t, "Gather", "embedding", w, "x"), 12, 5);
        snprintf(rules, sizeof rules, "\"global_config\": {\"weight_dtype\": \"%s\", \"weight_per_channel\": %s}",
                 i & 1 ? "qint4" : "qint8", i & 2 ? "true" : "false");
        rq_linear_quantizer *q = prepared(net_end(&t, y), false, rules);
        const rq_fake_quantizer_cfg *c = weight_of(q, "embedding");
        assert_int_equal(c->observer.type.lo, i & 1 ? -8 : -128);
        assert_int_equal(c->observer.axis, i & 2 ? 0 : RQ_PER_TENSOR);
        for (int p = 0; p < q->plan.n_places; p++)
            assert_int_equal(q->float_graph->values[q->plan.places[p].value].dtype, RQ_DTYPE_F32);
        net_letters(q, got);
        assert_int_equal(strchr(got, ':') - got, 2); /* what the product reads, and what it gives */
        rq_linear_quantizer_destroy(q);
    }
}

/* relu(conv) sigmoid(conv), as a squeeze-and-excite block has it, is not negative. */
static void a_gate_keeps_what_is_not_negative(void **state)
{
    (void)state;
    net t;
    for (int compat = 0; compat < 2; compat++) {
        net_begin(&t, 4, image);
        const char *a = net_act(&t, "ReLU", "relu", net_conv(&t, "conv1", "x", 4, 4, 3, 1));
        const char *b = net_act(&t, "Sigmoid", "gate", net_conv(&t, "conv2", "x", 4, 4, 3, 1));
        letters(net_end(&t, net_pair(&t, "Mul", "", a, b)), compat, NULL, compat ? "SAFS:abcd" : "SAFA:abcd");
    }
}

/* What only lays elements out anew shares the object of what it reads. */
static void layouts_share(void **state)
{
    (void)state;
    static const char *const ops[] = { "Squeeze", "Flatten", "Transpose" };
    net t;
    for (int i = 0; i < 6; i++) {
        const bool compat = i & 1;
        net_begin(&t, 2, (const int64_t[]) { 1, 8 });
        const char *y = net_call(&t, ops[i / 2], "", net_linear(&t, "fc", "x", 8, 8));
        /* a flatten shares there too */
        letters(net_end(&t, net_act(&t, "LeakyReLU", "act", y)), compat, NULL,
                compat && i / 2 != 1 ? "SSSS:abcd" : "SSSS:abbd");
    }
}

/* The fourth milestone freezes batch norms that stand alone too. */
static void every_batch_norm_is_frozen(void **state)
{
    (void)state;
    for (int compat = 0; compat < 2; compat++) {
        net t;
        net_begin(&t, 4, image);
        const char *y = net_norm(&t, "bn", net_conv(&t, "conv", "x", 4, 4, 3, 1), 4);
        rq_linear_quantizer *q = prepared(net_end(&t, net_norm(&t, "alone", net_act(&t, "ReLU", "act", y), 4)), compat,
                                          "\"global_config\": {\"milestones\": [0, 0, 1, 2]}");
        rq_autograd_cfg how = rq_autograd_defaults();
        rq_autograd *a;
        rq_tensor out;
        how.n_fakes = rq_linear_quantizer_fakes(q, &how.fakes, NULL);
        assert_int_equal(rq_autograd_create(&a, q->model, &how, &t.err), RQ_OK);
        rq_autograd_train(a, true);
        const char *const names[] = { "bn.running_mean", "alone.running_mean" };
        for (int step = 0; step < 5; step++) {
            float before[2];
            rq_tensor x = net_numbers(4, image, 1, 7 + (uint64_t)step);
            for (int k = 0; k < 2; k++)
                before[k] = q->model->values[rq_graph_find(q->model, names[k])].constant.f32[0];
            assert_int_equal(rq_autograd_forward(a, &(rq_feed) { "x", x }, 1, &out, &t.err), RQ_OK);
            assert_int_equal(rq_linear_quantizer_step(q, a, &t.err), RQ_OK);
            for (int k = 0; k < 2; k++) {
                const bool moved = q->model->values[rq_graph_find(q->model, names[k])].constant.f32[0] != before[k];
                assert_int_equal(moved, step < 3 || (compat && k == 1)); /* counted in call 2, so from iteration 3 on */
            }
            rq_tensor_release(&x);
        }
        rq_autograd_destroy(a);
        rq_linear_quantizer_destroy(q);
    }
}

/* A 3-D convolution with a ReLU is not negative either; there it is forgotten (of batch norms the 2-D one: test_departures). */
static void three_dimensions_are_as_two(void **state)
{
    (void)state;
    static const int64_t cube[] = { 1, 2, 4, 4, 4 };
    for (int i = 0; i < 4; i++) {
        net t;
        int id;
        const bool compat = i & 1, conv = i & 2;
        net_begin(&t, 5, cube);
        const char *y = "cube_y";
        if (conv) {
            const char *w = net_constant(&t, "conv.weight", 5, (const int64_t[]) { 3, 2, 3, 3, 3 }, 0.3),
                       *b = net_constant(&t, "conv.bias", 1, (const int64_t[]) { 3 }, 0.2);
            assert_int_equal(rq_edit_add_node(t.g,
                                              &(rq_edit_node) { .op = "Conv",
                                                                .name = "/conv/Conv",
                                                                .in = (const char *const[]) { "x", w, b },
                                                                .n_in = 3,
                                                                .out = &y,
                                                                .n_out = 1 },
                                              &id, &t.err),
                             RQ_OK);
        } else {
            y = net_norm(&t, "bn", "x", 2);
        }
        letters(net_end(&t, net_act(&t, "ReLU", "act", y)), compat, NULL, conv && compat ? "SS:ab" : "SA:ab");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clamps_from_zero_are_non_negative),
        cmocka_unit_test(functions_have_fixed_ranges),
        cmocka_unit_test(channels_of_a_transposed_convolution),
        cmocka_unit_test(groups_of_a_transposed_convolution),
        cmocka_unit_test(rules_hold_for_the_whole_layer),
        cmocka_unit_test(nothing_stays_of_a_module_that_is_left),
        cmocka_unit_test(embeddings_as_asked),
        cmocka_unit_test(a_gate_keeps_what_is_not_negative),
        cmocka_unit_test(layouts_share),
        cmocka_unit_test(every_batch_norm_is_frozen),
        cmocka_unit_test(three_dimensions_are_as_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
