/* Recipes: what wins, and that every mistake is named with its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "algo/settings.h"
#include "base/file.h"
#include "base/mem.h"
#include "graph/graph.h"
#include "requant/recipe.h"

static const char *const path = RQ_TEST_TMP "/recipe.yaml";

static rq_status load(rq_recipe **out, const char *text, rq_err *err)
{
    assert_int_equal(rq_file_write_all(path, text, strlen(text), err), RQ_OK);
    return rq_recipe_load(out, path, err);
}

/* image -> stem_conv (Conv) -> a -> Relu -> b -> head_fc (Gemm) -> y */
static rq_graph *make_graph(void)
{
    rq_graph *g;
    rq_err err;
    const rq_shape shape = rq_shape_unknown();
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    static const char *const values[] = { "image", "a", "b", "y" };
    static const char *const ops[] = { "Conv", "Relu", "Gemm" }, *const names[] = { "stem_conv", "relu", "head_fc" };
    rq_id v[4], n;
    for (int i = 0; i < 4; i++)
        assert_int_equal(
            rq_graph_add_value(g, &v[i], i ? RQ_VALUE_NODE : RQ_VALUE_INPUT, values[i], RQ_DTYPE_F32, &shape, &err),
            RQ_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(rq_graph_add_node(g, &n, ops[i], "", names[i], &v[i], 1, &v[i + 1], 1, &err), RQ_OK);
    return g;
}

static void a_percentile_means_its_method(void **state)
{
    rq_recipe *r;
    rq_err err;
    (void)state;
    assert_int_equal(load(&r,
                          "percentile: 99.5\n"
                          "rules:\n"
                          "  - match: {type: Conv}\n"
                          "    set: {method: minmax}\n"
                          "  - match: {type: Gemm}\n"
                          "    set: {percentile: 90}\n",
                          &err),
                     RQ_OK);
    rq_settings base = rq_settings_defaults(), mse = base;
    const char *const set[] = { "method", NULL };
    rq_recipe_apply_global(r, &mse, set);
    assert_int_equal(mse.method, base.method); /* the command line names one */
    rq_recipe_apply_global(r, &base, NULL);
    assert_int_equal(base.method, RQ_METHOD_PERCENTILE);
    assert_int_equal(rq_recipe_resolve(r, &base, "Conv", "a", "b").method, RQ_METHOD_MINMAX);
    base.method = RQ_METHOD_ENTROPY;
    assert_int_equal(rq_recipe_resolve(r, &base, "Gemm", "a", "b").method, RQ_METHOD_PERCENTILE);
    rq_recipe_destroy(r);
}

static void the_most_specific_rule_wins(void **state)
{
    rq_recipe *r;
    rq_err err;
    rq_graph *g = make_graph();
    assert_int_equal(load(&r,
                          "method: entropy\n"
                          "percentile: 99.5\n"
                          "samples: 64\n"
                          "dim: {height: 32, width: 320}\n"
                          "rules:\n"
                          "  - match: {tensor: image}\n"
                          "    set: {scale: 0.0039215689, zero-point: 3}\n"
                          "  - match: {name: 'stem*'}\n"
                          "    set: {weights: u8, method: mse}\n"
                          "  - match: {type: Conv}\n"
                          "    set: {weights: s8, per-tensor: true, method: ema}\n"
                          "  - match: {type: 'C*'}\n"
                          "    set: {per-tensor: false}\n"
                          "  - match: {name: head_fc, type: Gemm}\n"
                          "    set: {float: true}\n",
                          &err),
                     RQ_OK);
    assert_int_equal(rq_recipe_check(r, g, &err), RQ_OK);
    rq_settings base = rq_settings_defaults(), s;
    const char *const set[] = { "percentile", NULL };
    rq_recipe_apply_global(r, &base, set);
    assert_int_equal(base.method, RQ_METHOD_ENTROPY);
    assert_true(base.percentile == 99.99); /* the command line's */
    s = rq_recipe_resolve(r, &base, "Conv", "stem_conv", "a");
    assert_int_equal(s.weights, RQ_DTYPE_U8); /* name over type, wherever it stands */
    assert_int_equal(s.method, RQ_METHOD_MSE);
    assert_false(s.per_tensor); /* among equals the later */
    assert_false(s.keep_float || s.pinned);
    s = rq_recipe_resolve(r, &base, "Conv", "stem_conv", "image");
    assert_true(s.pinned && s.scale == 0.0039215689f && s.zero_point == 3);
    s = rq_recipe_resolve(r, &base, "Gemm", "head_fc", "y");
    assert_true(s.keep_float && s.method == RQ_METHOD_ENTROPY);
    s = rq_recipe_resolve(r, &base, "Gemm", "other", "y");
    assert_false(s.keep_float);
    assert_string_equal(rq_recipe_option(r, "samples"), "64");
    assert_string_equal(rq_recipe_option(r, "dim"), "height=32,width=320");
    assert_null(rq_recipe_option(r, "seed"));
    rq_recipe_destroy(r);
    rq_graph_destroy(g);
}

static void mistakes_are_named(void **state)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        { "metod: mse\n", ":1: unknown key 'metod'; the nearest is 'method'" },
        { "\nmethod: msee\n", ":2: 'method' is 'msee', expected minmax, ema" },
        { "percentile: 0\n", ":1: 'percentile' is '0', expected a number above 0" },
        { "percentile: nan\n", ":1: 'percentile' is 'nan'" },
        { "activations: s4\n", "expected u8, s8, u16 or s16" },
        { "bins: 15\n", "expected an integer from 16" },
        { "lo: -1\n", "'lo' belongs into the 'set' of a rule" },
        { "compat: ort\n", "expected none, onnxruntime or" },
        { "per-tensor: maybe\n", "expected true or false" },
        { "float: true\n", "'float' belongs into the 'set' of a rule" },
        { "method: mse\nmethod: ema\n", "'method' stands twice" },
        { "rules: 3\n", "'rules' is one list" },
        { "rules:\n  - 3\n", ":2: a rule is" },
        { "rules:\n  - match: {type: Conv}\n", ":2: a rule needs both" },
        { "rules:\n  - match: {}\n    set: {float: true}\n", "'match' wants name, type or tensor" },
        { "rules:\n  - match: {typ: Conv}\n    set: {float: true}\n",
          "unknown key 'typ' in 'match'; the nearest is 'type'" },
        { "rules:\n  - match: {type: Conv}\n    set: {flaot: true}\n",
          ":3: unknown key 'flaot' in 'set'; the nearest is 'float'" },
        { "rules:\n  - mtach: {type: Conv}\n    set: {float: true}\n",
          "unknown key 'mtach' in a rule; the nearest is 'match'" },
        { "rules:\n  - match: {type: Conv}\n    set: {scale: 1}\n", "match it by 'tensor'" },
        { "rules:\n  - match: {tensor: a}\n    set: {scale: 0}\n", "expected a number above 0" },
        { "rules:\n  - match: {tensor: a}\n    set: {zero-point: 3}\n", "means nothing without 'scale'" },
        { "rules:\n  - match: {tensor: a}\n    set: {scale: 1, zero-point: 1.5}\n", "expected an integer" },
        { "samples: [1, 2]\n", "'samples' wants a single value" },
        { "- a\n- b\n", "a recipe is keys and values" },
        { "a: [1\n", "not YAML" },
        { "method: {a: b}\n", "'method' wants a single value" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rq_recipe *r = NULL;
        rq_err err = { 0 };
        assert_int_equal(load(&r, rows[i].text, &err), RQ_BAD_RECIPE);
        assert_null(r);
        if (!strstr(err.text, rows[i].says))
            fail_msg("said: %s\nnot: %s", err.text, rows[i].says);
    }
    rq_recipe *r;
    rq_err err;
    assert_int_equal(load(&r, "", &err), RQ_OK);
    rq_recipe_destroy(r);
    assert_int_equal(rq_recipe_load(&r, RQ_TEST_TMP "/no_such_file.yaml", &err), RQ_IO);
}

static void rules_that_match_nothing_are_errors(void **state)
{
    static const struct {
        const char *rule, *says;
    } rows[] = {
        { "match: {type: Conw}", "no operator type fits 'Conw'; the nearest is 'Conv'" },
        { "match: {name: 'stem_cov'}", "no node name fits 'stem_cov'; the nearest is 'stem_conv'" },
        { "match: {tensor: imag}", "no tensor fits 'imag'; the nearest is 'image'" },
        { "match: {type: Relu, name: 'stem*'}", "no node fits all" },
        { "match: {type: Gemm, tensor: image}", "no node fits all" },
    };
    rq_graph *g = make_graph();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rq_recipe *r;
        rq_err err = { 0 };
        char text[200];
        snprintf(text, sizeof text,
                 "rules:\n  - match: {type: Conv}\n    set: {float: true}\n  - %s\n    set: {float: true}\n",
                 rows[i].rule);
        assert_int_equal(load(&r, text, &err), RQ_OK);
        assert_int_equal(rq_recipe_check(r, g, &err), RQ_BAD_RECIPE);
        if (!strstr(err.text, rows[i].says) || !strstr(err.text, ":4:"))
            fail_msg("said: %s\nnot: %s", err.text, rows[i].says);
        rq_recipe_destroy(r);
    }
    rq_graph_destroy(g);
}

/* Each key: what it takes, what it refuses, that it arrives and is passed on, and that the schema knows it. */
static void every_key(void **state)
{
    static const char *const good[RQ_N_KEYS] = {
        [RQ_KEY_METHOD] = "average",
        [RQ_KEY_OBSERVER] = "mine",
        [RQ_KEY_PERCENTILE] = "99.5",
        [RQ_KEY_DECAY] = "0",
        [RQ_KEY_ACTIVATIONS] = "s16",
        [RQ_KEY_WEIGHTS] = "u4",
        [RQ_KEY_BLOCK_SIZE] = "64",
        [RQ_KEY_WEIGHT_METHOD] = "hqq",
        [RQ_KEY_SCALE] = "0.5",
        [RQ_KEY_ZERO_POINT] = "-32768",
        [RQ_KEY_LO] = "-2.5",
        [RQ_KEY_HI] = "3",
        [RQ_KEY_AXIS] = "-8",
        [RQ_KEY_MIN_RANGE] = "1e-4",
        [RQ_KEY_SYMMETRIC_RANGES] = "false",
        [RQ_KEY_COMPAT] = "onnxruntime",
        [RQ_KEY_BINS] = "65536",
        [RQ_KEY_GROUPS] = "2",
    };
    static const char *const bad[RQ_N_KEYS] = {
        [RQ_KEY_OBSERVER] = "",      [RQ_KEY_PERCENTILE] = "100.1", [RQ_KEY_DECAY] = "1",
        [RQ_KEY_ACTIVATIONS] = "s4", [RQ_KEY_WEIGHTS] = "s32",      [RQ_KEY_BLOCK_SIZE] = "24",
        [RQ_KEY_SCALE] = "1e-60",    [RQ_KEY_ZERO_POINT] = "65536", [RQ_KEY_LO] = "0.1",
        [RQ_KEY_HI] = "-0.1",        [RQ_KEY_AXIS] = "8",           [RQ_KEY_MIN_RANGE] = "-1",
        [RQ_KEY_BINS] = "15",        [RQ_KEY_GROUPS] = "2.5",
    };
    rq_map schema;
    rq_err err;
    assert_int_equal(rq_file_map(&schema, "src/algo/recipe.schema.json", &err), RQ_OK);
    for (int k = 0; k < RQ_N_KEYS; k++) {
        const rq_settings_key *row = &rq_settings_keys[k];
        const char *text = good[k] ? good[k] : "true", *wrong = bad[k] ? bad[k] : "perhaps";
        if (k == RQ_KEY_AFFINE_WEIGHTS)
            assert_true(rq_settings_defaults().symmetric_weights); /* so that true changes it */
        rq_settings a = rq_settings_defaults(), b = a, c = a;
        char quoted[80];
        snprintf(quoted, sizeof quoted, "\"%s\":", row->name);
        if (!memmem(schema.data, schema.size, quoted, strlen(quoted)))
            fail_msg("the schema does not have %s", quoted);
        if (rq_settings_set(&b, (rq_key)k, wrong))
            fail_msg("%s took '%s'", row->name, wrong);
        if (!rq_settings_set(&a, (rq_key)k, text))
            fail_msg("%s refused '%s'", row->name, text);
        if (!memcmp((char *)&a + row->at, (char *)&c + row->at, row->size))
            fail_msg("%s changed nothing", row->name);
        rq_settings_take(&c, &a, (rq_key)k);
        assert_memory_equal((char *)&a + row->at, (char *)&c + row->at, row->size);
        assert_true(!row->flag || (*((bool *)&a + row->flag) && *((bool *)&c + row->flag)));
    }
    rq_file_unmap(&schema);
    rq_settings s = rq_settings_defaults();
    assert_true(rq_settings_set(&s, RQ_KEY_AFFINE_WEIGHTS, "true") && !s.symmetric_weights);
    assert_true(rq_settings_set(&s, RQ_KEY_WEIGHTS, "u4") && s.weights == RQ_DTYPE_U4);
    assert_true(rq_settings_set(&s, RQ_KEY_SYMMETRIC_RANGES, "true") && s.symmetric_ranges == RQ_YES);
    assert_true(rq_settings_set(&s, RQ_KEY_COMPAT, "onnxruntime") && s.compat == RQ_COMPAT_ONNXRUNTIME);
    assert_true(rq_settings_set(&s, RQ_KEY_SCALE, "0.5") && s.scale == 0.5f && s.pinned);
}

/* Options of training: as text, lists and mappings as one, and the schema knows each. */
static void options_of_training(void **state)
{
    static const char *const names[] = {
        "loss",
        "label-smoothing",
        "distill",
        "temperature",
        "feature",
        "teacher",
        "optimizer",
        "lr",
        "momentum",
        "nesterov",
        "weight-decay",
        "decay-all",
        "clip-norm",
        "clip-value",
        "schedule",
        "warmup",
        "lr-min",
        "every",
        "gamma",
        "epochs",
        "augment",
        "freeze-bn-after",
        "drop-last",
        "keep-last",
        "checkpoint-activations",
        "checkpoint",
        "checkpoint-steps",
        "resume",
        "json-steps",
        "init",
        "config",
        "preset",
        "weights-bits",
        "activations-bits",
        "scale-lr",
        "calibrate-only",
        "original-lr",
        "original-epochs",
        "reestimate-bn",
    };
    rq_recipe *r;
    rq_map schema;
    rq_err err;
    (void)state;
    assert_int_equal(rq_file_map(&schema, "src/algo/recipe.schema.json", &err), RQ_OK);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[80];
        snprintf(text, sizeof text, "\"%s\":", names[i]);
        if (!memmem(schema.data, schema.size, text, strlen(text)))
            fail_msg("the schema does not have %s", text);
        snprintf(text, sizeof text, "%s: 12\n", names[i]);
        assert_int_equal(load(&r, text, &err), RQ_OK);
        assert_string_equal(rq_recipe_option(r, names[i]), "12");
        rq_recipe_destroy(r);
    }
    rq_file_unmap(&schema);
    static const char *const pairs[][3] = {
        { "augment: {flip: true, crop: 2}\n", "augment", "flip=true,crop=2" },
        { "augment: [flip, crop=2]\n", "augment", "flip,crop=2" },
        { "feature: [\"a,b=2\", c]\n", "feature", "a,b=2\nc" },
        { "feature: {a: 2, c: 0.5}\n", "feature", "a=2\nc=0.5" },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        assert_int_equal(load(&r, pairs[i][0], &err), RQ_OK);
        assert_string_equal(rq_recipe_option(r, pairs[i][1]), pairs[i][2]);
        rq_recipe_destroy(r);
    }
    assert_int_equal(load(&r, "lr: [1, 2]\n", &err), RQ_BAD_RECIPE);
    assert_non_null(strstr(err.text, ":1: 'lr' wants a single value"));
    assert_int_equal(load(&r, "lr: 1\nlr: 2\n", &err), RQ_BAD_RECIPE);
    assert_non_null(strstr(err.text, ":2: 'lr' stands twice"));
    assert_int_equal(load(&r, "wramup: 1\n", &err), RQ_BAD_RECIPE);
    assert_non_null(strstr(err.text, "the nearest is 'warmup'"));
}

static void failing_memory_leaves_nothing(void **state)
{
    const char *text = "dim: {a: 1, b: 2}\nrules:\n  - match: {type: Conv}\n    set: {float: true}\n";
    for (size_t n = 1; n < 40; n++) {
        rq_err err;
        rq_recipe *r = NULL;
        assert_int_equal(rq_file_write_all(path, text, strlen(text), &err), RQ_OK);
        size_t live = rq_mem_live();
        rq_mem_fail_after(n, false);
        rq_status s = rq_recipe_load(&r, path, &err);
        rq_mem_fail_after(0, false);
        assert_true(s == RQ_OK ? r != NULL : s == RQ_NO_MEMORY && !r);
        rq_recipe_destroy(r);
        assert_int_equal(rq_mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_percentile_means_its_method),
        cmocka_unit_test(the_most_specific_rule_wins),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(rules_that_match_nothing_are_errors),
        cmocka_unit_test(every_key),
        cmocka_unit_test(options_of_training),
        cmocka_unit_test(failing_memory_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
