/* LinearQuantizerConfig: what Core ML Tools 9.0 made of 248 dictionaries (tests/golden/coreml_config), its acceptance list A by number, the code of its
 * documentation, each mistake with its sentence, which rule a layer answers to, and memory that runs out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/linear_quantizer.h"
#include "base/mem.h"
#include "requant/requant.h"

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

typedef rq_linear_quantizer_config config;
typedef rq_module_linear_quantizer_config module;

static rq_err err;

static config *parse(const char *text)
{
    config *c = NULL;
    if (rq_linear_quantizer_config_from_dict(&c, text, &err))
        fail_msg("%s: %s", text, err.text);
    return c;
}

static void refuses(const char *text, const char *sentence)
{
    config *c = NULL;
    const rq_status s = rq_linear_quantizer_config_from_dict(&c, text, &err);
    if (s != RQ_BAD_RECIPE || c || !strstr(err.text, sentence))
        fail_msg("%s: status %d, '%s', expected '%s'", text, (int)s, s ? err.text : "", sentence);
}

static module global_of(const char *text)
{
    config *c = parse(text);
    module m;
    assert_true(rq_linear_quantizer_config_global(c, &m));
    rq_linear_quantizer_config_destroy(c);
    return m;
}

/* Written both ways and read back. */
static void round_trips(const config *c)
{
    for (int yaml = 0; yaml < 2; yaml++) {
        const int64_t n =
            yaml ? rq_linear_quantizer_config_as_yaml(c, NULL, 0) : rq_linear_quantizer_config_as_dict(c, NULL, 0);
        assert_true(n > 0);
        char *text = malloc((size_t)n + 1);
        config *back = NULL;
        if (yaml)
            rq_linear_quantizer_config_as_yaml(c, text, (size_t)n + 1);
        else
            rq_linear_quantizer_config_as_dict(c, text, (size_t)n + 1);
        assert_int_equal(strlen(text), n);
        if (yaml ? rq_linear_quantizer_config_from_yaml(&back, text, &err)
                 : rq_linear_quantizer_config_from_dict(&back, text, &err))
            fail_msg("%s: %s", text, err.text);
        assert_true(rq_linear_quantizer_config_equal(c, back));
        rq_linear_quantizer_config_destroy(back);
        free(text);
    }
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

/* ---- mistakes ---- */

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

/* ---- which rule ---- */

static void the_nearest_rule_decides(void **state)
{
    (void)state;
    static const char *const conv[] = { "Conv2d", "conv2d", "Conv" }, *const add[] = { "add", "Add" };
    config *c = parse(
        "{global_config: {}, module_type_configs: {Conv: {weight_dtype: qint2}, torch.nn.Conv2d: {weight_dtype: qint3},"
        " operator.add: null}, module_name_configs: {a: {weight_dtype: qint4}, a.b: null, 'a\\.c(\\..*)?': "
        "{weight_dtype: "
        "qint5}, a.c.x: {weight_dtype: qint6}, 'z\\d+': {weight_dtype: qint7}}}");
    static const struct {
        const char *name;
        int bits; /* 0: not quantized */
        rq_lq_level level;
    } cases[] = {
        { "a", 4, RQ_LQ_NAME },
        { "a.conv", 4, RQ_LQ_ANCESTOR },
        { "a.b", 0, RQ_LQ_NAME },
        { "a.b.d.conv", 0, RQ_LQ_ANCESTOR },
        { "a.bc", 4, RQ_LQ_ANCESTOR },
        { "a.c", 5, RQ_LQ_NAME },
        { "a.c.y", 5, RQ_LQ_NAME },
        { "a.c.x", 6, RQ_LQ_NAME },
        { "a.c.x.y", 5, RQ_LQ_NAME },
        { "z12", 7, RQ_LQ_NAME },
        { "z12.conv", 7, RQ_LQ_ANCESTOR },
        { "z12x", 3, RQ_LQ_TYPE },
        { "az", 3, RQ_LQ_TYPE },
        { "", 3, RQ_LQ_TYPE },
    };
    rq_lq_level level;
    for (int i = 0; i < N(cases); i++) {
        const module *m = rq_linear_quantizer_config_find(c, cases[i].name, conv, 3, &level);
        if ((m ? m->weight_n_bits : 0) != cases[i].bits || level != cases[i].level)
            fail_msg("%s: %d bits at level %d", cases[i].name, m ? m->weight_n_bits : 0, (int)level);
    }
    assert_null(rq_linear_quantizer_config_find(c, "q", add, 2, &level));
    assert_int_equal(level, RQ_LQ_TYPE);
    assert_int_equal(rq_linear_quantizer_config_find(c, "a", add, 2, &level)->weight_n_bits,
                     4); /* the module it is in */
    assert_int_equal(rq_linear_quantizer_config_find(c, NULL, conv, 3, &level)->weight_n_bits, 3); /* types alone */
    assert_int_equal(rq_linear_quantizer_config_find(c, "q", conv + 2, 1, &level)->weight_n_bits, 2);
    assert_int_equal(rq_linear_quantizer_config_find(c, "q", NULL, 0, &level)->weight_n_bits, 8);
    assert_int_equal(level, RQ_LQ_GLOBAL);
    rq_linear_quantizer_config_destroy(c);

    c = parse("{skip_by_default: true, module_type_configs: {Conv2d: {}}}");
    assert_non_null(rq_linear_quantizer_config_lookup(c, "q", conv, 3));
    assert_null(rq_linear_quantizer_config_lookup(c, "q", add, 2));
    round_trips(c);
    rq_linear_quantizer_config_destroy(c);
    /* the original knows no patterns */
    c = parse("{compat: true, module_name_configs: {'conv.*': null}}");
    assert_non_null(rq_linear_quantizer_config_lookup(c, "conv1", NULL, 0));
    assert_true(rq_linear_quantizer_config_is_compat(c));
    rq_linear_quantizer_config_destroy(c);
}

/* conv1 -> relu -> block.conv2, and an add at the root. */
static rq_graph *network(void)
{
    rq_graph *g = NULL;
    rq_tensor w = { 0 };
    const int64_t dims[4] = { 2, 2, 1, 1 };
    const rq_shape s = rq_shape_of(4, dims);
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    assert_int_equal(rq_edit_set_opset(g, "", 17, NULL), RQ_OK);
    assert_int_equal(rq_edit_add_input(g, "x", RQ_DTYPE_F32, &s, NULL), RQ_OK);
    assert_int_equal(rq_tensor_create(&w, RQ_DTYPE_F32, &s, true), RQ_OK);
    assert_int_equal(rq_edit_add_constant(g, "conv1.weight", &w, NULL), RQ_OK);
    assert_int_equal(rq_edit_add_constant(g, "block.conv2.weight", &w, NULL), RQ_OK);
    rq_tensor_release(&w);
    static const struct {
        const char *op, *name, *in[2], *out;
    } nodes[] = { { "Conv", "/conv1/Conv", { "x", "conv1.weight" }, "a" },
                  { "Relu", "/relu/Relu", { "a", NULL }, "b" },
                  { "Conv", "/block/conv2/Conv", { "b", "block.conv2.weight" }, "c" },
                  { "Add", "/Add", { "c", "x" }, "d" } };
    for (int i = 0; i < N(nodes); i++)
        assert_int_equal(rq_edit_add_node(g,
                                          &(rq_edit_node) { .op = nodes[i].op,
                                                            .name = nodes[i].name,
                                                            .in = (const char *[]) { nodes[i].in[0], nodes[i].in[1] },
                                                            .n_in = nodes[i].in[1] ? 2 : 1,
                                                            .out = (const char *[]) { nodes[i].out },
                                                            .n_out = 1 },
                                          NULL, NULL),
                         RQ_OK);
    return g;
}

static void rules_must_fit_the_network(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence; /* NULL: it fits */
    } cases[] = {
        { "{}", NULL },
        { "module_name_configs: {conv1: null, block: null, block.conv2: null}", NULL },
        { "module_name_configs: {'.*conv\\d': null}", NULL },
        { "module_name_configs: {relu: null}", NULL },
        { "module_type_configs: {Conv2d: {}, ReLU: null, operator.add: {}, Conv: {}}", NULL },
        { "non_traceable_module_names: [block]", NULL },
        { "module_name_configs: {conv2: null}",
          "module_name_configs: 'conv2' matches none of the 4 modules; the nearest is 'conv1'" },
        { "module_name_configs: {block.conv: null}",
          "'block.conv' matches none of the 4 modules; the nearest is 'block.conv2'" },
        { "module_name_configs: {'onv1': null}", "matches none of the 4 modules; the nearest is 'conv1'" },
        { "module_name_configs: {first_layer: null}",
          "matches none of the 4 modules; there are conv1, relu, block.conv2" },
        { "module_name_configs: {'conv(?=1)': null}", "'(?=1)' is not known here" },
        { "module_name_configs: {'conv[': null}", "module_name_configs: pattern 'conv['" },
        { "module_type_configs: {Linear: {}}",
          "module_type_configs: 'Linear' matches none of the 4 modules; there are Conv2d, ReLU, add" },
        { "module_type_configs: {Dropout2d: null}", "'Dropout2d' matches none" },
        { "non_traceable_module_names: [blocks]",
          "non_traceable_module_names: 'blocks' matches none of the 4 modules" },
    };
    rq_graph *g = network();
    for (int i = 0; i < N(cases); i++) {
        char compat[300];
        rq_notes notes = { 0 };
        config *c = parse(cases[i].text);
        const rq_status s = rq_linear_quantizer_config_match(c, g, &notes, &err);
        assert_int_equal(notes.n, 0);
        if ((s != RQ_OK) != (cases[i].sentence != NULL) || (s && !strstr(err.text, cases[i].sentence)))
            fail_msg("%s: %s", cases[i].text, s ? err.text : "fits");
        rq_linear_quantizer_config_destroy(c);
        /* the original warns where a name fits nothing */
        if (!cases[i].sentence || cases[i].text[0] == '{')
            continue;
        snprintf(compat, sizeof compat, "compat: true\n%s", cases[i].text);
        c = parse(compat);
        assert_int_equal(rq_linear_quantizer_config_match(c, g, &notes, &err), RQ_OK);
        assert_int_equal(notes.n, 1);
        assert_non_null(strstr(notes.text[0], "has no effect"));
        rq_notes_release(&notes);
        rq_linear_quantizer_config_destroy(c);
    }
    /* and the quantizer says so */
    config *warned = parse("{compat: true, module_name_configs: {convx: null}, preserved_attributes: [a]}");
    rq_linear_quantizer *q = NULL;
    rq_notes said = { 0 };
    assert_int_equal(rq_linear_quantizer_create(&q, g, warned, &err), RQ_OK);
    assert_int_equal(rq_linear_quantizer_warnings(q, &said), RQ_OK);
    assert_int_equal(said.n, 2);
    assert_non_null(
        strstr(said.text[0], "'convx' matches none of the 4 modules; the nearest is 'conv1'; it has no effect"));
    rq_notes_release(&said);
    rq_linear_quantizer_destroy(q);
    rq_linear_quantizer_config_destroy(warned);
    /* a key that is a module's name is no pattern for others, whatever its dots match */
    config *c = parse("module_name_configs: {block.conv2: null}");
    assert_null(rq_linear_quantizer_config_lookup(c, "block_conv2", NULL, 0));
    assert_int_equal(rq_linear_quantizer_config_match(c, g, NULL, &err), RQ_OK);
    assert_non_null(rq_linear_quantizer_config_lookup(c, "block_conv2", NULL, 0));
    assert_null(rq_linear_quantizer_config_lookup(c, "block.conv2", NULL, 0));
    rq_linear_quantizer_config_destroy(c);
    c = parse("non_traceable_module_names: [block]");
    assert_true(rq_linear_quantizer_config_is_opaque(c, "block") &&
                rq_linear_quantizer_config_is_opaque(c, "block.conv2") &&
                !rq_linear_quantizer_config_is_opaque(c, "blocks"));
    rq_linear_quantizer_config_destroy(c);
    rq_graph_destroy(g);
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    rq_graph *g = network();
    const size_t live = rq_mem_live();
    bool done = false;
    for (size_t i = 1; i < 500 && !done; i++) {
        config *c = NULL, *copy = NULL;
        rq_notes notes = { 0 };
        char text[2000];
        rq_mem_fail_after(i, false);
        rq_status s = rq_linear_quantizer_config_from_dict(
            &c,
            "{global_config: {milestones: [0, 1, -1, 3]}, module_type_configs: {Conv2d: {}}, module_name_configs: "
            "{'b.*': null, "
            "conv1: {}}, non_traceable_module_names: [block], preserved_attributes: [a]}",
            &err);
        if (!s)
            s = rq_linear_quantizer_config_copy(&copy, c);
        if (!s)
            s = rq_linear_quantizer_config_match(copy, g, &notes, &err);
        if (!s)
            s = rq_linear_quantizer_config_warnings(c, &notes);
        if (!s && rq_linear_quantizer_config_as_yaml(c, text, sizeof text) < 0)
            s = RQ_NO_MEMORY;
        rq_mem_fail_after(0, false);
        done = s == RQ_OK;
        if (!done)
            assert_int_equal(s, RQ_NO_MEMORY);
        else
            assert_true(rq_linear_quantizer_config_equal(c, copy));
        rq_notes_release(&notes);
        rq_linear_quantizer_config_destroy(copy);
        rq_linear_quantizer_config_destroy(c);
        assert_int_equal(rq_mem_live(), live);
    }
    assert_true(done);
    rq_graph_destroy(g);
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
        cmocka_unit_test(every_mistake_has_its_sentence),
        cmocka_unit_test(setters_check_as_the_text_does),
        cmocka_unit_test(what_is_rarely_meant_is_said),
        cmocka_unit_test(yaml_as_people_write_it),
        cmocka_unit_test(the_nearest_rule_decides),
        cmocka_unit_test(rules_must_fit_the_network),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
