/* LinearQuantizerConfig: what Core ML Tools 9.0 made of 248 dictionaries (tests/golden/coreml_config), its acceptance list A by number, the code of its
 * documentation. Mistakes: test_linear_quantizer_mistakes.c; which rule a layer answers to: test_linear_quantizer_rules.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "algo/linear_quantizer.h"
#include "algo/linear_quantizer_config_help.h"
#include "requant/requant.h"

static module global_of(const char *text)
{
    config *c = parse(text);
    module m;
    assert_true(rq_linear_quantizer_config_global(c, &m));
    rq_linear_quantizer_config_destroy(c);
    return m;
}

/* ---- beside the original ---- */

/* What it takes and we do not, and the other way round; each is a line of docs/numerics.md. */
static bool departs(const char *dict, bool accepted)
{
    static const char *const refused[] = { "\"quint4\"}",        "\"wieght_dtype\"", "\"Lniear\"",
                                           "[0, 5, 6, 7]",       "[0, \"1\", 2, 3]", "[0, 1.0, 2, 3]",
                                           "per_channel\": 1",   "per_channel\": 0", "per_channel\": \"",
                                           "per_channel\": null" };
    static const char *const taken[] = { "QINT8",
                                         "Float32",
                                         "dtype\": \"int8",
                                         "dtype\": \"uint8",
                                         "dtype\": \"int4",
                                         "dtype\": \"uint4",
                                         "dtype\": \"int3\"",
                                         "qint3",
                                         "dtype\": 8",
                                         "dtype\": 4}",
                                         "Min_Max",
                                         "ema_percentile",
                                         "mse",
                                         "lsq\"}",
                                         "lsq_plus",
                                         "EMA_min_max",
                                         "\"Symmetric\"",
                                         "\"Vanilla\"",
                                         "{\"algorithm\": \"learnable\"}" };
    if (strstr(dict, "activation_dtype") && strstr(dict, "\"int8"))
        return false;
    if (strstr(dict, "algorithm\": \"lsq") || strstr(dict, "algorithm\": \"vanilla"))
        return false;
    if (strstr(dict, "global_config") && strstr(dict, "{\"algorithm\": \"learnable\"}"))
        return false;
    if (strstr(dict, "weight_dtype") && strstr(dict, "quint4"))
        return false;
    for (int i = 0; i < (accepted ? N(refused) : N(taken)); i++)
        if (strstr(dict, (accepted ? refused : taken)[i]))
            return true;
    return false;
}

static void as_the_original_takes_them(void **state)
{
    (void)state;
    FILE *f = fopen("tests/golden/coreml_config/cases.txt", "r");
    assert_non_null(f);
    static char line[8192], compat[8192];
    int n = 0, yes = 0;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *dict = strchr(line, '\t'), *want = dict ? strchr(dict + 1, '\t') : NULL;
        assert_non_null(dict);
        *dict++ = 0;
        if (want)
            *want++ = 0;
        const bool accepted = !strcmp(line, "yes");
        config *c = NULL, *w = NULL;
        snprintf(compat, sizeof compat, "{\"compat\": true%s%s", dict[1] == '}' ? "" : ", ", dict + 1);
        const rq_status s = rq_linear_quantizer_config_from_dict(&c, compat, &err);
        if ((s == RQ_OK) != accepted)
            fail_msg("%s: %s, there %s", compat, s ? err.text : "taken", line);
        if (accepted) {
            snprintf(compat, sizeof compat, "{\"compat\": true, %s", want + 1);
            assert_int_equal(rq_linear_quantizer_config_from_dict(&w, compat, &err), RQ_OK);
            if (!rq_linear_quantizer_config_equal(c, w))
                fail_msg("%s is not %s", dict, want);
            round_trips(c);
        }
        rq_linear_quantizer_config_destroy(c);
        rq_linear_quantizer_config_destroy(w);
        c = NULL;
        const bool ours = rq_linear_quantizer_config_from_dict(&c, dict, &err) == RQ_OK;
        if (ours != (accepted != departs(dict, accepted)))
            fail_msg("%s: %s, there %s", dict, ours ? "taken" : err.text, line);
        if (ours)
            round_trips(c);
        rq_linear_quantizer_config_destroy(c);
        n++;
        yes += accepted;
    }
    fclose(f);
    assert_int_equal(n, 248);
    assert_int_equal(yes, 109);
}

/* ---- A: acceptance ---- */

static void a1_illegal_options(void **state)
{
    (void)state;
    refuses("{\"global_config\": {\"weight_dtype\": \"int32\"}}",
            "config:1: global_config.weight_dtype: 'int32' is not supported, expected qint8, quint8, qint4, quint4");
    refuses("{\"global_config\": {\"activation_dtype\": \"int8\"}}",
            "global_config.activation_dtype: 'int8' is not supported, expected quint8 or float32");
    refuses("{\"global_config\": {\"milestones\": [0, 2]}}", "global_config.milestones: 2 entries, expected 4");
}

static void a2_one_level_leaves_the_others(void **state)
{
    (void)state;
    module m;
    const char *key;
    bool skip;
    config *c = parse("{\"module_type_configs\": {\"Linear\": {\"weight_dtype\": \"quint8\"}}}");
    assert_false(rq_linear_quantizer_config_global(c, &m));
    assert_int_equal(rq_linear_quantizer_config_module_name(c, 0, NULL, NULL, NULL), 0);
    assert_int_equal(rq_linear_quantizer_config_module_type(c, 0, &key, &skip, &m), 1);
    assert_string_equal(key, "Linear");
    assert_false(skip);
    assert_int_equal(m.weight_dtype, RQ_DTYPE_U8);
    rq_linear_quantizer_config_destroy(c);

    c = parse("{\"module_name_configs\": {\"conv2d\": {\"weight_dtype\": \"quint8\"}}}");
    assert_false(rq_linear_quantizer_config_global(c, &m));
    assert_int_equal(rq_linear_quantizer_config_module_type(c, 0, NULL, NULL, NULL), 0);
    assert_int_equal(rq_linear_quantizer_config_module_name(c, 0, &key, &skip, &m), 1);
    assert_string_equal(key, "conv2d");
    assert_int_equal(m.weight_dtype, RQ_DTYPE_U8);
    rq_linear_quantizer_config_destroy(c);

    c = parse("{\"global_config\": {\"weight_dtype\": \"quint8\", \"algorithm\": \"learnable\"}}");
    assert_true(rq_linear_quantizer_config_global(c, &m));
    assert_true(m.weight_dtype == RQ_DTYPE_U8 && m.learnable);
    assert_int_equal(rq_linear_quantizer_config_module_type(c, 0, NULL, NULL, NULL), 0);
    assert_int_equal(rq_linear_quantizer_config_module_name(c, 0, NULL, NULL, NULL), 0);
    rq_linear_quantizer_config_destroy(c);

    const module usual = rq_module_linear_quantizer_defaults();
    m = global_of("{}");
    assert_true(rq_module_linear_quantizer_equal(&m, &usual));
    m = global_of("");
    assert_true(rq_module_linear_quantizer_equal(&m, &usual));
}

/* The ten mixtures; the 49 of cases.txt are more of the kind. */
static void a3_mixtures_are_refused(void **state)
{
    (void)state;
    static const char scheme[] = "quantization_scheme is", algorithm[] = "algorithm is";
#define SYM "{\"quantization_scheme\": \"symmetric\"}"
#define AFF "{\"quantization_scheme\": \"affine\"}"
#define VAN "{\"algorithm\": \"vanilla\"}"
#define LEA "{\"algorithm\": \"learnable\"}"
    refuses("{\"global_config\": " SYM ", \"module_type_configs\": {\"Linear\": " AFF "}}", scheme);
    refuses("{\"global_config\": " AFF ", \"module_type_configs\": {\"Linear\": " SYM "}}", scheme);
    refuses("{\"global_config\": " SYM ", \"module_name_configs\": {\"conv1\": " AFF "}}", scheme);
    refuses("{\"global_config\": " AFF ", \"module_name_configs\": {\"conv1\": " SYM "}}", scheme);
    refuses("{\"module_name_configs\": {\"conv1\": " AFF ", \"conv2\": " SYM "}}", scheme);
    refuses("{\"module_type_configs\": {\"Linear\": " AFF ", \"Conv2d\": " SYM "}}", scheme);
    refuses("{\"module_type_configs\": {\"Linear\": " AFF "}, \"module_name_configs\": {\"conv1\": " SYM "}}", scheme);
    refuses("{\"module_type_configs\": {\"Linear\": " SYM "}, \"module_name_configs\": {\"conv1\": " AFF "}}", scheme);
    refuses("{\"global_config\": " VAN ", \"module_type_configs\": {\"Linear\": " LEA "}}", algorithm);
    refuses("{\"global_config\": " LEA ", \"module_type_configs\": {\"Linear\": " VAN "}}", algorithm);
    refuses(
        "{\"module_type_configs\": {\"Linear\": " AFF "}, \"module_name_configs\": {\"conv1\": " SYM "}}",
        "config:1: module_name_configs.conv1: quantization_scheme is symmetric, expected affine: it is one for all");
}

static void a4_one_scheme_and_algorithm(void **state)
{
    (void)state;
    for (int learnable = 0; learnable < 2; learnable++) {
        const char *m = learnable ? "{\"quantization_scheme\": \"affine\", \"algorithm\": \"learnable\"}"
                                  : "{\"quantization_scheme\": \"affine\"}";
        char text[600];
        snprintf(text, sizeof text,
                 "{\"global_config\": %s, \"module_type_configs\": {\"Linear\": %s, \"Conv2d\": %s}, "
                 "\"module_name_configs\": {\"conv1\": %s, \"conv2\": null}}",
                 m, m, m, m);
        config *c = parse(text);
        assert_int_equal(rq_linear_quantizer_config_effective(c).learnable, learnable);
        round_trips(c);
        rq_linear_quantizer_config_destroy(c);
    }
    /* without a global too, which the original refuses when it is learnable (Q7) */
    config *c =
        parse("{\"module_type_configs\": {\"Linear\": " LEA "}, \"module_name_configs\": {\"conv1\": " LEA "}}");
    rq_linear_quantizer_config_destroy(c);
}

static void a5_the_scheme_comes_from_the_first(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        rq_qscheme scheme;
    } cases[] = {
        { "{}", RQ_QSCHEME_PER_TENSOR_SYMMETRIC },
        { "{\"global_config\": " AFF "}", RQ_QSCHEME_PER_TENSOR_AFFINE },
        { "{\"module_type_configs\": {\"ReLU\": null, \"Linear\": " AFF "}}", RQ_QSCHEME_PER_TENSOR_AFFINE },
        { "{\"module_name_configs\": {\"a\": null, \"b\": " AFF "}}", RQ_QSCHEME_PER_TENSOR_AFFINE },
        { "{\"module_name_configs\": {\"a\": null}}", RQ_QSCHEME_PER_TENSOR_SYMMETRIC },
    };
    for (int i = 0; i < N(cases); i++) {
        config *c = parse(cases[i].text);
        assert_int_equal(rq_linear_quantizer_config_effective(c).quantization_scheme, cases[i].scheme);
        /* and so do the defaults of what no rule names */
        const module *m = rq_linear_quantizer_config_lookup(c, "other", NULL, 0);
        assert_non_null(m);
        assert_int_equal(m->quantization_scheme, cases[i].scheme);
        rq_linear_quantizer_config_destroy(c);
    }
}

static void a6_bits_follow_from_the_dtype(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        rq_dtype dtype;
        int bits;
    } cases[] = {
        { "\"qint4\"", RQ_DTYPE_S8, 4 },
        { "\"quint4\"", RQ_DTYPE_U8, 4 },
        { "\"qint8\"", RQ_DTYPE_S8, 8 },
        { "\"quint8\"", RQ_DTYPE_U8, 8 },
        { "\"float32\"", RQ_DTYPE_F32, 32 },
        { "\"torch.qint8\"", RQ_DTYPE_S8, 8 },
        { "\"torch.quint8\"", RQ_DTYPE_U8, 8 },
        { "\"int8\"", RQ_DTYPE_S8, 8 },
        { "\"uint4\"", RQ_DTYPE_U8, 4 },
        { "8", RQ_DTYPE_S8, 8 },
        { "4", RQ_DTYPE_S8, 4 },
        { "2", RQ_DTYPE_S8, 2 },
        { "\"quint7\"", RQ_DTYPE_U8, 7 },
        { "\"QInt5\"", RQ_DTYPE_S8, 5 },
    };
    for (int i = 0; i < N(cases); i++) {
        char text[120];
        snprintf(text, sizeof text, "{\"global_config\": {\"weight_dtype\": %s}}", cases[i].text);
        const module m = global_of(text);
        assert_int_equal(m.weight_dtype, cases[i].dtype);
        assert_int_equal(m.weight_n_bits, cases[i].bits);
    }
    refuses("{\"global_config\": {\"weight_n_bits\": 8}}", "follows from weight_dtype and is never given");
    refuses("{\"global_config\": {\"weight_dtype\": 9}}", "'9' is not supported");
    refuses("{\"global_config\": {\"weight_dtype\": 1}}", "'1' is not supported");
    refuses("{\"global_config\": {\"weight_dtype\": \"qint16\"}}", "'qint16' is not supported");
}

/* A7 (defaults of PostTrainingQuantizerConfig), A8 (algorithm names of LayerwiseCompressorConfig) and their half of A9 and A10 are of classes that this
 * library does not have yet. A9 and A10 for LinearQuantizer: the object made from the config says which, and the names are functions. */
static void a10_the_public_surface(void **state)
{
    (void)state;
    config *c = NULL;
    module m = rq_module_linear_quantizer_defaults();
    assert_int_equal(rq_linear_quantizer_config_create(&c), RQ_OK);
    assert_int_equal(rq_linear_quantizer_config_set_global(c, &m, &err), RQ_OK);
    m.weight_n_bits = 4;
    assert_int_equal(rq_linear_quantizer_config_set_module_type(c, "Conv2d", &m, &err), RQ_OK);
    assert_int_equal(rq_linear_quantizer_config_set_module_type(c, "Linear", NULL, &err), RQ_OK);
    assert_int_equal(rq_linear_quantizer_config_set_module_name(c, "fc", NULL, &err), RQ_OK);
    assert_int_equal(rq_linear_quantizer_config_set_module_name(c, "fc", &m, &err), RQ_OK); /* replaces */
    bool skip = true;
    assert_int_equal(rq_linear_quantizer_config_module_name(c, 0, NULL, &skip, &m), 1);
    assert_true(!skip && m.weight_n_bits == 4);
    round_trips(c);
    rq_linear_quantizer_config_destroy(c);
}

/* ---- the code of the documentation ---- */

static void documentation_training_time_quantization(void **state)
{
    (void)state;
    /* "Training-Time Quantization", "Use LinearQuantizer" */
    const module m = global_of("{\n    \"global_config\": {\n        \"quantization_scheme\": \"symmetric\",\n"
                               "        \"milestones\": [0, 100, 400, 200],\n    }\n}");
    static const int64_t want[4] = { 0, 100, 400, 200 };
    assert_true(m.has_milestones && !memcmp(m.milestones, want, sizeof want));
    assert_int_equal(m.quantization_scheme, RQ_QSCHEME_PER_TENSOR_SYMMETRIC);
}

static void documentation_class_linear_quantizer(void **state)
{
    (void)state;
    const module m =
        global_of("{\"global_config\": {\"quantization_scheme\": \"symmetric\", \"milestones\": [0, 100, 400, 400]}}");
    static const int64_t want[4] = { 0, 100, 400, 400 };
    assert_true(m.has_milestones && !memcmp(m.milestones, want, sizeof want));
}

static void documentation_class_module_config(void **state)
{
    (void)state;
    config *c = NULL;
    module m = rq_module_linear_quantizer_defaults();
    rq_notes notes = { 0 };
    static const int64_t milestones[4] = { 0, 100, 300, 200 };
    m.quantization_scheme = RQ_QSCHEME_PER_TENSOR_SYMMETRIC;
    m.has_milestones = true;
    memcpy(m.milestones, milestones, sizeof milestones);
    assert_int_equal(rq_linear_quantizer_config_create(&c), RQ_OK);
    assert_int_equal(rq_linear_quantizer_config_set_global(c, &m, &err), RQ_OK);
    assert_int_equal(rq_linear_quantizer_config_warnings(c, &notes), RQ_OK);
    assert_int_equal(notes.n, 0);
    rq_linear_quantizer_config_destroy(c);
}

static void documentation_class_config(void **state)
{
    (void)state;
    static const char *const conv[] = { "Conv2d", "conv2d", "Conv" }, *const linear[] = { "Linear", "Gemm" };
    /* weight only, for all layers */
    config *c = parse("{\"global_config\": {\"activation_dtype\": \"float32\"}}");
    assert_int_equal(rq_linear_quantizer_config_lookup(c, "conv1", conv, 3)->activation_dtype, RQ_DTYPE_F32);
    assert_int_equal(rq_linear_quantizer_config_lookup(c, "conv1", conv, 3)->weight_dtype, RQ_DTYPE_S8);
    rq_linear_quantizer_config_destroy(c);
    /* not for linear layers, weight only for convolutions */
    c = parse("{\"module_type_configs\": {\"Linear\": null, \"Conv2d\": {\"activation_dtype\": \"float32\"}}}");
    assert_null(rq_linear_quantizer_config_lookup(c, "fc", linear, 2));
    assert_int_equal(rq_linear_quantizer_config_lookup(c, "conv1", conv, 3)->activation_dtype, RQ_DTYPE_F32);
    rq_linear_quantizer_config_destroy(c);
    /* not conv1 and conv2 */
    c = parse("{\"module_name_configs\": {\"conv1\": null, \"conv2\": null}}");
    assert_null(rq_linear_quantizer_config_lookup(c, "conv1", conv, 3));
    assert_null(rq_linear_quantizer_config_lookup(c, "conv2", conv, 3));
    const module *m = rq_linear_quantizer_config_lookup(c, "conv3", conv, 3),
                 usual = rq_module_linear_quantizer_defaults();
    assert_true(m && rq_module_linear_quantizer_equal(m, &usual)); /* null global: the defaults all the same (Q9) */
    rq_linear_quantizer_config_destroy(c);
    c = parse("{\"preserved_attributes\": [\"key_1\", \"key_2\"]}");
    rq_notes notes = { 0 };
    assert_int_equal(rq_linear_quantizer_config_warnings(c, &notes), RQ_OK);
    assert_int_equal(notes.n, 2);
    assert_non_null(strstr(notes.text[0], "'key_1' has no meaning here"));
    rq_notes_release(&notes);
    rq_linear_quantizer_config_destroy(c);
}

static void documentation_api_overview(void **state)
{
    (void)state;
    /* "Calibration data based quantization" */
    module m =
        global_of("{\"global_config\": {\"quantization_scheme\": \"symmetric\", \"milestones\": [0, 1000, 1000, 0]}}");
    assert_true(m.milestones[1] == 1000 && m.milestones[2] == 1000 && !m.milestones[0] && !m.milestones[3]);
    /* "Quantization Aware Training (QAT)", "Specify config in a YAML file" */
    static const char yaml[] = "global_config:\n  quantization_scheme: symmetric\n  milestones:\n    - 0\n    - 100\n"
                               "    - 400\n    - 200\nmodule_name_configs:\n  first_layer: null\n  final_layer: null\n";
    char path[] = RQ_TEST_TMP "/linear_quantizer_config.yaml";
    FILE *f = fopen(path, "w");
    fputs(yaml, f);
    fclose(f);
    config *c = NULL;
    assert_int_equal(rq_linear_quantizer_config_load(&c, path, &err), RQ_OK);
    m = rq_linear_quantizer_config_effective(c);
    assert_true(m.has_milestones && m.milestones[2] == 400 && m.milestones[3] == 200);
    assert_null(rq_linear_quantizer_config_lookup(c, "first_layer", NULL, 0));
    assert_null(rq_linear_quantizer_config_lookup(c, "final_layer", NULL, 0));
    assert_non_null(rq_linear_quantizer_config_lookup(c, "layer", NULL, 0));
    round_trips(c);
    rq_linear_quantizer_config_destroy(c);
    remove(path);
    assert_int_equal(rq_linear_quantizer_config_load(&c, path, &err), RQ_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_original_takes_them),
        cmocka_unit_test(a1_illegal_options),
        cmocka_unit_test(a2_one_level_leaves_the_others),
        cmocka_unit_test(a3_mixtures_are_refused),
        cmocka_unit_test(a4_one_scheme_and_algorithm),
        cmocka_unit_test(a5_the_scheme_comes_from_the_first),
        cmocka_unit_test(a6_bits_follow_from_the_dtype),
        cmocka_unit_test(a10_the_public_surface),
        cmocka_unit_test(documentation_training_time_quantization),
        cmocka_unit_test(documentation_class_linear_quantizer),
        cmocka_unit_test(documentation_class_module_config),
        cmocka_unit_test(documentation_class_config),
        cmocka_unit_test(documentation_api_overview),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
