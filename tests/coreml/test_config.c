/* OptimizationConfig from YAML and by hand. tests/golden/coreml_optimize/configs.txt has what coremltools made of each text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "coreml/config.h"
#include "ok.h"

static void add(char *to, size_t n, const char *kind, const rq_coreml_rules *r)
{
    char text[400];
    for (int i = 0; i < r->n; i++)
        snprintf(to + strlen(to), n - strlen(to), "; %s %s %s", kind, r->at[i].key,
                 rq_coreml_op_config_text(r->at[i].skip ? NULL : &r->at[i].op, text, sizeof text));
}

static const char *text_of(const rq_coreml_config *c, char *buf, size_t n)
{
    rq_coreml_op_config_text(c->has_global ? &c->global : NULL, buf, n);
    add(buf, n, "type", &c->types);
    add(buf, n, "name", &c->names);
    return buf;
}

/* The words of the original's sentence that are ours, too: up to the first thing that it shows in another way. */
static bool says(const char *ours, const char *theirs)
{
    char head[200];
    size_t n = strcspn(theirs, "<");
    if (!strncmp(theirs, "Invalid key", 11) || n < strlen(theirs) || n >= sizeof head)
        n = strcspn(theirs, "<( ");
    snprintf(head, sizeof head, "%.*s", (int)n, theirs);
    return strstr(ours, head) != NULL;
}

/* H9, H8: every text becomes what coremltools makes of it, or is refused where it refuses. */
static void configs_are_those_of_coremltools(void **state)
{
    (void)state;
    FILE *f = fopen("tests/golden/coreml_optimize/configs.txt", "r");
    char line[2000], got[2000];
    int n = 0, said = 0, refused = 0;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *want = strchr(line, '\t');
        assert_non_null(want);
        *want++ = 0;
        rq_coreml_config *c = NULL;
        const rq_status s = rq_coreml_config_parse(&c, line, strlen(line), &err);
        if (*want == '!') {
            if (s != RQ_BAD_RECIPE)
                fail_msg("%s: taken, expected %s", line, want);
            refused++;
            said += says(err.text, want + 1);
        } else {
            if (s != RQ_OK)
                fail_msg("%s: %s", line, err.text);
            assert_string_equal(text_of(c, got, sizeof got), want);
            rq_coreml_config_destroy(c);
        }
        n++;
    }
    fclose(f);
    assert_true(n > 100 && refused > 40);
    assert_true(said >= refused / 2); /* the rest are Python's own words */
}

/* H8: the sentences have line, key, and the words of the original. */
static void mistakes_have_line_key_and_words(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *words;
    } cases[] = {
        { "config_type: OpLinearQuantizerConfig\nglobal_config:\n  dtype: int2\n",
          "config:3: global_config.dtype: Invalid dtype int2. Only support int8/uint8/int4/uint4." },
        { "config_type: OpLinearQuantizerConfig\nglobal_config: {dtype: int32}",
          "Invalid dtype. Should be int4/8 or uint4/8, but got int32" },
        { "config_type: OpLinearQuantizerConfig\nop_name_configs: {a: {mode: foo}}",
          "op_name_configs.a.mode: Only mode ('LINEAR_SYMMETRIC', 'LINEAR') supported" },
        { "config_type: OpLinearQuantizerConfig\nop_type_configs: {conv: {block_size: -1}}",
          "The block_size must be non-negative values, but got -1" },
        { "config_type: OpLinearQuantizerConfig\nop_type_configs: {conv: {weight_threshold: -9}}",
          "\"weight_threshold\" must be a non-negative integer. Got -9." },
        { "config_type: OpLinearQuantizerConfig\nop_type_configs: {conv: {weight_treshold: 9}}",
          "'weight_treshold'; the nearest is 'weight_threshold'" },
        { "config_type: OpLinearQuantizerConfig\nop_types: {}", "Invalid key 'op_types'" },
        { "config_type: OpLinearQuantizerConfig\nop_type_configs: [a]",
          "op_type_configs must be type of dict. Got a list" },
        { "op_type_configs: {}", "config_type must be provided with type of string." },
        { "", "config_type must be provided with type of string." },
        { "config_type: OpLinearQuantizer", "'OpLinearQuantizer'; the nearest is 'OpLinearQuantizerConfig'" },
        { "config_type: OpPalettizerConfig\nglobal_config: {}", "\"nbits\" must be provided for kmeans mode" },
        { "config_type: OpLinearQuantizerConfig\nglobal_config: {dtype: int8, dtype: int4}", "stands twice" },
        { "config_type: OpLinearQuantizerConfig\nglobal_config: {weight_threshold: 1.5}", "expected an integer" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_coreml_config *c = NULL;
        assert_int_equal(rq_coreml_config_parse(&c, cases[i].yaml, strlen(cases[i].yaml), &err), RQ_BAD_RECIPE);
        if (!strstr(err.text, cases[i].words))
            fail_msg("'%s' has no '%s'", err.text, cases[i].words);
    }
}

/* H3: name > type > global; a later call replaces an earlier one; None is an answer, too. */
static void names_before_types_before_global(void **state)
{
    (void)state;
    rq_coreml_config *c;
    rq_coreml_op_config op = rq_coreml_op_config_defaults(RQ_COREML_PALETTIZER);
    OK(rq_coreml_config_create(&c, &err));
    assert_true(rq_coreml_config_is_empty(c));
    assert_null(rq_coreml_config_of(c, "conv1", "conv"));
    op.nbits = 8;
    OK(rq_coreml_config_set_global(c, &op, &err));
    op.nbits = 3;
    OK(rq_coreml_config_set_op_type(c, "conv", &op, &err));
    op.nbits = 6;
    OK(rq_coreml_config_set_op_type(c, "conv", &op, &err));
    OK(rq_coreml_config_set_op_type(c, "linear", NULL, &err));
    op.nbits = 2;
    OK(rq_coreml_config_set_op_name(c, "conv1", &op, &err));
    OK(rq_coreml_config_set_op_name(c, "conv2", NULL, &err));
    assert_int_equal(rq_coreml_config_of(c, "conv1", "conv")->nbits, 2);
    assert_null(rq_coreml_config_of(c, "conv2", "conv"));
    assert_int_equal(rq_coreml_config_of(c, "conv3", "conv")->nbits, 6);
    assert_null(rq_coreml_config_of(c, "x", "linear"));
    assert_int_equal(rq_coreml_config_of(c, "x", "add")->nbits, 8);
    assert_false(rq_coreml_config_is_empty(c));
    OK(rq_coreml_config_accept(c, 1U << RQ_COREML_PALETTIZER, "palettize_weights", &err));
    assert_int_equal(rq_coreml_config_accept(c, 1U << RQ_COREML_LINEAR_QUANTIZER, "linear_quantize_weights", &err),
                     RQ_BAD_ARG);
    assert_string_equal(err.text, "linear_quantize_weights only accept OpLinearQuantizerConfig type config. Got "
                                  "OpPalettizerConfig.");
    rq_coreml_config_destroy(c);
}

static void fields_of_its_class_make_it_equal(void **state)
{
    (void)state;
    rq_coreml_op_config a = rq_coreml_op_config_defaults(RQ_COREML_LINEAR_QUANTIZER), b = a;
    assert_true(rq_coreml_op_config_equal(&a, &b) && rq_coreml_op_config_equal(NULL, NULL));
    assert_false(rq_coreml_op_config_equal(&a, NULL));
    b.weight_threshold = 10;
    assert_false(rq_coreml_op_config_equal(&a, &b));
    b = a;
    b.block_size_is_list = true; /* 32 and [32] */
    assert_false(rq_coreml_op_config_equal(&a, &b));
    b = a;
    b.group_size = 1; /* of another class */
    assert_true(rq_coreml_op_config_equal(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configs_are_those_of_coremltools),
        cmocka_unit_test(mistakes_have_line_key_and_words),
        cmocka_unit_test(names_before_types_before_global),
        cmocka_unit_test(fields_of_its_class_make_it_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
