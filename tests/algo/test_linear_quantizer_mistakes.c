/* Configs of LinearQuantizer: the sentence for each mistake, from text and from setters, and YAML as people write it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "algo/linear_quantizer_config_help.h"
#include "requant/requant.h"

static void every_mistake_has_its_sentence(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        { "global_cofig: {}", "config:1: unknown key 'global_cofig'; the nearest is 'global_config'" },
        { "set_global: {}", "unknown key 'set_global'" },
        { "global_config:\n  wieght_dtype: qint8",
          "config:2: global_config: unknown key 'wieght_dtype'; the nearest is 'weight_dtype'" },
        { "module_type_configs: {Linear: {milestone: [0, 1, 2, 3]}}",
          "module_type_configs.Linear: unknown key 'milestone'; the nearest is 'milestones'" },
        { "module_name_configs: {conv1: {per_channel: true}}", "module_name_configs.conv1: unknown key 'per_channel'" },
        { "module_type_configs: {Conv2D: {}}",
          "no module or function is a 'Conv2D'; the nearest is 'Conv2d'; there are " },
        { "module_type_configs: {torch.nn.Lniear: null}", "the nearest is 'Linear'" },
        { "global_config: {weight_per_channel: 'false'}",
          "weight_per_channel: the text 'false', expected true or false" },
        { "global_config: {weight_per_channel: 1}", "weight_per_channel: '1', expected true or false" },
        { "global_config: {milestones: '0123'}", "milestones: '0123', expected a list of 4 integers" },
        { "global_config: {milestones: [0, 1, 2]}",
          "milestones: 3 entries, expected 4: steps at which observers go on" },
        { "global_config: {milestones: [0, '1', 2, 3]}", "the text '1', expected an integer" },
        { "global_config: {milestones: [0, 1.0, 2, 3]}", "'1.0', expected an integer" },
        { "global_config: {milestones: [0, true, 2, 3]}", "'true', expected an integer" },
        { "global_config: {milestones: [0, 010, 2, 3]}", "'010', expected an integer" },
        { "global_config: {milestones: [0, [1], 2, 3]}", "expected an integer" },
        { "global_config: {milestones: [0, 9223372036854775808, 2, 3]}", "expected an integer" },
        { "global_config: {algorithm: lsq}", "algorithm: 'lsq', expected one of vanilla, learnable" },
        { "global_config: {weight_observer: mix_max}",
          "weight_observer: 'mix_max', expected one of moving_average_min_max, min_max, ema_min_max" },
        { "global_config: {activation_dtype: quint4}",
          "'quint4', expected quint8 or float32; 'activation_n_bits: 4' gives" },
        { "global_config: {activation_n_bits: 9}", "activation_n_bits: 9 bits, expected 2 to 8" },
        { "global_config: {quantization_scheme: asymmetric}", "expected one of symmetric, affine" },
        { "global_config: 8", "global_config: expected the keys of a config, or null" },
        { "module_name_configs: [conv1]", "module_name_configs: expected names and configs" },
        { "module_name_configs: {conv1: null, conv1: null}", "module_name_configs.conv1: stands twice" },
        { "preserved_attributes: key", "preserved_attributes: expected a list of names" },
        { "non_traceable_module_names: key", "non_traceable_module_names: expected a list of names" },
        { "- a", "a config is keys and values" },
        { "a: [", "not YAML" },
        { "{global_config: {milestones: [0, 1, 2, 3]}, module_name_configs: {a: {milestones: [0, 1, 2, 4]}}}",
          "module_name_configs.a: milestones are one list for a model, that of global_config" },
        { "{global_config: {}, module_type_configs: {Linear: {milestones: [0, 1, 2, 4]}}}",
          "milestones are one list for a model" },
        { "{module_type_configs: {Linear: {}}, module_name_configs: {a: {milestones: [0, 1, 2, 4]}}}",
          "that of the first config" },
    };
    for (int i = 0; i < N(cases); i++)
        refuses(cases[i].text, cases[i].sentence);
    /* the same milestones again are no contradiction */
    config *c =
        parse("{global_config: {milestones: [0, 1, 2, 3]}, module_name_configs: {a: {milestones: [0, 1, 2, 3]}}}");
    rq_linear_quantizer_config_destroy(c);
}

static void setters_check_as_the_text_does(void **state)
{
    (void)state;
    config *c = NULL;
    const module usual = rq_module_linear_quantizer_defaults();
    module m = usual;
    assert_int_equal(rq_linear_quantizer_config_create(&c), RQ_OK);
    assert_int_equal(rq_linear_quantizer_config_set_global(c, &usual, &err), RQ_OK);
#define REFUSED(field, value, word)                                                                                    \
    m = usual;                                                                                                         \
    m.field = (value);                                                                                                 \
    assert_int_equal(rq_linear_quantizer_config_set_module_name(c, "a", &m, &err), RQ_BAD_ARG);                        \
    assert_non_null(strstr(err.text, word));
    REFUSED(weight_dtype, RQ_DTYPE_S32, "weight_dtype")
    REFUSED(weight_n_bits, 1, "1 bits")
    REFUSED(weight_n_bits, 9, "9 bits")
    REFUSED(activation_dtype, RQ_DTYPE_S8, "activation_dtype")
    REFUSED(activation_n_bits, 1, "1 bits for activations")
    REFUSED(weight_observer, RQ_OBSERVER_HISTOGRAM, "weight_observer is 'histogram'")
    REFUSED(activation_observer, RQ_OBSERVER_FIXED, "activation_observer")
    REFUSED(quantization_scheme, RQ_QSCHEME_PER_CHANNEL_AFFINE, "quantization_scheme")
    REFUSED(quantization_scheme, RQ_QSCHEME_PER_TENSOR_AFFINE, "expected symmetric")
    REFUSED(learnable, true, "expected vanilla")
    REFUSED(has_milestones, true, "milestones")
    assert_int_equal(rq_linear_quantizer_config_set_module_type(c, "Lniear", &usual, &err), RQ_BAD_ARG);
    assert_int_equal(rq_linear_quantizer_config_set_module_name(c, "a\xff", &usual, &err), RQ_BAD_ARG);
    assert_int_equal(rq_linear_quantizer_config_module_name(c, 0, NULL, NULL, NULL), 0); /* nothing was kept */
    assert_int_equal(rq_linear_quantizer_config_set_module_name(c, "a", &usual, &err), RQ_OK);
    m = usual;
    m.learnable = true;
    assert_int_equal(rq_linear_quantizer_config_set_global(c, &m, &err), RQ_BAD_ARG); /* a is vanilla */
    assert_int_equal(rq_linear_quantizer_config_set_module_name(c, "a", &m, &err), RQ_BAD_ARG);
    assert_true(rq_linear_quantizer_config_global(c, &m) && !m.learnable);
    rq_linear_quantizer_config_destroy(c);
}

static void what_is_rarely_meant_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *milestones, *note[3];
    } cases[] = {
        { "[0, 100, 400, 200]", { NULL } },
        { "[0, 1000, 1000, 0]", { NULL } },
        { "[3, 5, 9, 0]", { NULL } },
        { "[0, 2, 6, -1]", { "the fourth, -1, comes before the first step: batch norms are never frozen" } },
        { "[-1, 1, -1, 0]", { "the first, -1", "the third, -1", "at 1, before observers are: " } },
        { "[2, 5, 2, 0]", { "switched on and off in the same step, 2" } },
        { "[5, 9, 2, 0]", { "switched off at 2, before they are switched on at 5" } },
        { "[5, 2, 9, 0]", { "fake-quantize is switched on at 2, before observers are: " } },
    };
    for (int i = 0; i < N(cases); i++) {
        char text[200];
        rq_notes notes = { 0 };
        snprintf(text, sizeof text, "global_config: {milestones: %s}", cases[i].milestones);
        config *c = parse(text);
        assert_int_equal(rq_linear_quantizer_config_warnings(c, &notes), RQ_OK);
        int n = 0;
        while (n < 3 && cases[i].note[n])
            n++;
        assert_int_equal(notes.n, n);
        for (int k = 0; k < n; k++)
            if (!strstr(notes.text[k], cases[i].note[k]))
                fail_msg("%s: %s", text, notes.text[k]);
        rq_notes_release(&notes);
        rq_linear_quantizer_config_destroy(c);
    }
    rq_notes notes = { 0 };
    config *c = parse("global_config: {algorithm: learnable}"); /* Q27 */
    assert_int_equal(rq_linear_quantizer_config_warnings(c, &notes), RQ_OK);
    assert_int_equal(notes.n, 1);
    assert_non_null(strstr(notes.text[0], "observers are never switched off"));
    rq_notes_release(&notes);
    rq_linear_quantizer_config_destroy(c);
}

/* YAML that people write: anchors, merged keys, comments, tildes. */
static void yaml_as_people_write_it(void **state)
{
    (void)state;
    config *c =
        parse("# a config\nglobal_config: &g\n  quantization_scheme: affine # all of them\n  weight_dtype: qint4\n"
              "  milestones: [0, 1_000, +2000, 500]\nmodule_type_configs:\n  Linear: *g\n  Conv2d:\n"
              "    <<: *g\n    weight_dtype: 'qint8'\n    weight_per_channel: No\nmodule_name_configs:\n  0: ~\n"
              "  layer1.0.conv1:\n");
    module m;
    const char *key;
    bool skip;
    assert_int_equal(rq_linear_quantizer_config_module_type(c, 1, &key, &skip, &m), 2);
    assert_true(m.weight_n_bits == 8 && !m.weight_per_channel && m.milestones[1] == 1000 && m.milestones[2] == 2000);
    assert_int_equal(m.quantization_scheme, RQ_QSCHEME_PER_TENSOR_AFFINE);
    assert_int_equal(rq_linear_quantizer_config_module_name(c, 0, &key, &skip, NULL), 2);
    assert_true(skip && !strcmp(key, "0"));
    rq_linear_quantizer_config_module_name(c, 1, &key, &skip, NULL);
    assert_true(skip && !strcmp(key, "layer1.0.conv1"));
    round_trips(c);
    rq_linear_quantizer_config_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mistake_has_its_sentence),
        cmocka_unit_test(setters_check_as_the_text_does),
        cmocka_unit_test(what_is_rarely_meant_is_said),
        cmocka_unit_test(yaml_as_people_write_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
