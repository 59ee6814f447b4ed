/* Which qconfig a module gets: lookups by name, pattern and type as PyTorch does them, defaults, fused layers, eager mode. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "quant/qconfig_help.h"

/* Qconfigs that tell themselves apart by eps. */
static rq_qconfig numbered(int i)
{
    rq_qconfig q = pair("default_observer", "default_weight_observer");
    q.activation.observer.eps = ldexpf(1, -i - 1);
    return q;
}

static int number_of(const rq_qconfig *q)
{
    return q ? (int)-log2((double)q->activation.observer.eps) - 1 : -1;
}

static rq_qconfig_mapping *mapping(void)
{
    rq_qconfig_mapping *m;
    assert_int_equal(rq_qconfig_mapping_create(&m, NULL), RQ_OK);
    return m;
}

/* What PyTorch's own lookups of FX mode answer for this mapping (its patterns match beginnings). */
static const struct {
    rq_qconfig_site site;
    int want;
} lookups[] = {
    /* clang-format off */
    { { "enc", "Sequential", NULL, 0 }, 0 },
    { { "enc.0", "Block", NULL, 0 }, 5 },
    { { "enc.0.fc", "Linear", NULL, 0 }, 4 },
    { { "enc.0.fc2", "Linear", NULL, 1 }, 10 },
    { { "enc.0.proj", "Linear", NULL, 1 }, 10 },
    { { "enc.0.proj", "Linear", NULL, 2 }, 5 },
    { { "enc.1", "Block", NULL, 1 }, 7 },
    { { "enc.1.fc", "Linear", NULL, 0 }, 7 },
    { { "enc.1.attn.q", "Linear", NULL, 0 }, 8 },
    { { "enc.1.attn", "Attn", NULL, 0 }, 8 },
    { { "enc.10", "Block", NULL, 2 }, 5 },
    { { "enc.10.x", "Conv2d", NULL, 0 }, 5 },
    { { "head", "Linear", NULL, 0 }, 12 },
    { { "head", "Linear", NULL, 1 }, 6 },
    { { "header", "Linear", NULL, 1 }, 6 },
    { { "head.a", "ReLU", NULL, 0 }, 6 },
    { { "dec.x.y", "Linear", NULL, 3 }, 9 },
    { { "decoder", "Linear", NULL, 2 }, 1 },
    { { "xhead", "Linear", NULL, 2 }, 1 },
    { { "stem", "Linear", NULL, 0 }, 12 },
    { { "enc.0", "Block", "relu", 0 }, 11 },
    { { "enc.0", "Block", "relu", 1 }, 5 },
    { { "enc.1", "Block", "relu", 0 }, 7 },
    { { "stem2", "Block", "relu", 0 }, 3 },
    { { "stem2", "Conv", "relu", 0 }, 2 },
    { { "", "Net", "relu", 0 }, 2 },
    { { "", "Net", "add", 0 }, 0 },
    { { "dec", "Seq", "relu", 0 }, 9 },
    { { "enc.0.fc", "Linear", "relu", 0 }, 4 },
    /* clang-format on */
};

static rq_qconfig_mapping *example(void)
{
    rq_qconfig_mapping *m = mapping();
    rq_qconfig q[13];
    for (int i = 0; i < N(q); i++)
        q[i] = numbered(i);
    /* not in the order of the levels: that must not matter */
    assert_int_equal(rq_qconfig_mapping_set_module_name_object_type_order(m, "enc.0", "Linear", 1, &q[10], NULL),
                     RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_module_name_object_type_order(m, "enc.0", "relu", 0, &q[11], NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_module_name_object_type_order(m, "", "Linear", 0, &q[12], NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_module_name(m, "enc.1", &q[7], NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_module_name(m, "enc.1.attn", &q[8], NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_module_name(m, "dec", &q[9], NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_module_name_regex(m, "enc.*fc", &q[4], NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_module_name_regex(m, "enc\\.[0-9]+", &q[5], NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_module_name_regex(m, "head", &q[6], NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_global(m, &q[0], NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_object_type(m, "torch.nn.Linear", &q[1], NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_object_type(m, "torch.nn.functional.relu", &q[2], NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_object_type(m, "Block", &q[3], NULL), RQ_OK);
    return m;
}

static void lookups_are_pytorchs(void **state)
{
    (void)state;
    rq_qconfig_mapping *m = example();
    rq_qconfig_mapping_set_compat(m, true);
    for (int i = 0; i < N(lookups); i++) {
        int entry;
        const rq_qconfig *q = rq_qconfig_mapping_lookup(m, &lookups[i].site, &entry);
        print_message("%s %s\n", lookups[i].site.name, lookups[i].site.op ? lookups[i].site.op : lookups[i].site.type);
        assert_int_equal(number_of(q), lookups[i].want);
        assert_ptr_equal(rq_qconfig_mapping_entry(m, entry).qconfig, q);
    }
    /* by default a pattern matches the whole name: "head" no longer matches "header", "enc\.[0-9]+" not "enc.0.proj" */
    rq_qconfig_mapping_set_compat(m, false);
    static const struct {
        rq_qconfig_site site;
        int want;
    } whole[] = { { { "header", "Linear", NULL, 1 }, 1 },     { { "head", "Linear", NULL, 1 }, 6 },
                  { { "enc.0.proj", "Linear", NULL, 2 }, 1 }, { { "enc.0", "Block", NULL, 0 }, 5 },
                  { { "enc.0.fc", "Linear", NULL, 0 }, 4 },   { { "enc.0.fc2", "Linear", NULL, 3 }, 1 } };
    for (int i = 0; i < N(whole); i++)
        assert_int_equal(number_of(rq_qconfig_mapping_lookup(m, &whole[i].site, NULL)), whole[i].want);
    /* NULL at a level: not quantized, whatever is below; setting again replaces and keeps the place */
    assert_int_equal(rq_qconfig_mapping_set_module_name(m, "enc.1", NULL, NULL), RQ_OK);
    assert_null(rq_qconfig_mapping_lookup(m, &(rq_qconfig_site) { "enc.1.fc", "Linear", NULL, 0 }, NULL));
    const int count = rq_qconfig_mapping_count(m);
    rq_qconfig q = numbered(9);
    assert_int_equal(rq_qconfig_mapping_set_module_name_regex(m, "enc.*fc", &q, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_count(m), count);
    assert_int_equal(
        number_of(rq_qconfig_mapping_lookup(m, &(rq_qconfig_site) { "enc.0.fc", "Linear", NULL, 0 }, NULL)), 9);
    rq_qconfig_mapping_destroy(m);
}

static void patterns_are_pythons(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool matches;
    } cases[] = {
        { "layer\\d+\\.conv", "layer12.conv", true },
        { "layer\\d+\\.conv", "layerx.conv", false },
        { "(?:a|b)\\.\\w+", "b.fc_1", true },
        { "(?:a|b)\\.\\w+", "c.fc_1", false },
        { "[a-c\\d]x", "7x", true },
        { "[a\\-b]", "-", true },
        { "a\\.b", "axb", false },
        { "[^.]*", "a.b", false },
        { "x{2,3}", "xxx", true },
        { "f", "fc", false },
        { "\\Da", "1a", false },
        { "[]x]+", "]x", true },
        { "a|bc", "bc", true },
        { "a|b", "ab", false },
        { "a\\<b", "a<b", true },
        { "\\<b", "b", false },
        { "(a|b)(c)", "bc", true },
        { "x{,2}", "xx", true },
    };
    rq_qconfig q = numbered(1);
    for (int i = 0; i < N(cases); i++) {
        rq_qconfig_mapping *m = mapping();
        rq_err err = { 0 };
        assert_int_equal(rq_qconfig_mapping_set_module_name_regex(m, cases[i].pattern, &q, &err), RQ_OK);
        const rq_qconfig_site site = { cases[i].name, "Linear", NULL, 0 };
        print_message("%s %s\n", cases[i].pattern, cases[i].name);
        assert_int_equal(rq_qconfig_mapping_lookup(m, &site, NULL) != NULL, cases[i].matches);
        rq_qconfig_mapping_destroy(m);
    }
    static const struct {
        const char *pattern, *sentence;
    } bad[] = {
        { "a(?=b)", "pattern 'a(?=b)': '(?=b)' is not known here" },
        { "a.*?b", "pattern 'a.*?b': '*?b' is not known here" },
        { "(a)\\1", "pattern '(a)\\1': '\\1' is not known here" },
        { "[a", "pattern '[a': '[a' is not closed" },
        { "[\\W]", "pattern '[\\W]': '\\W]' inside [] is not known here" },
        { "", "an entry by pattern needs one that is not empty" },
        { "a)|(b", "pattern 'a)|(b': ')|(b' closes what was not opened" },
        { "a*{2}", "pattern 'a*{2}': '*{2}' is not known here" },
        { "((a{99}){99}){99}", "pattern '((a{99}){99}){99}': '{99}' repeats too often, all repetitions together" },
    };
    for (int i = 0; i < N(bad); i++) {
        rq_qconfig_mapping *m = mapping();
        rq_err err = { 0 };
        assert_int_equal(rq_qconfig_mapping_set_module_name_regex(m, bad[i].pattern, &q, &err), RQ_BAD_ARG);
        assert_string_equal(err.text, bad[i].sentence);
        assert_int_equal(rq_qconfig_mapping_count(m), 0);
        rq_qconfig_mapping_destroy(m);
    }
    rq_qconfig_mapping *m = mapping();
    rq_err err = { 0 };
    assert_int_equal(rq_qconfig_mapping_set_module_name_regex(m, "(a", &q, &err), RQ_BAD_ARG);
    assert_memory_equal(err.text, "pattern '(a' is no regular expression: ", 39);
    rq_qconfig_mapping_destroy(m);
}

static const rq_qconfig_site net[] = {
    { "stem", "Conv2d", NULL, 0 },      { "act", "Sigmoid", NULL, 0 },      { "block.fc1", "Linear", NULL, 0 },
    { "block.fc2", "Linear", NULL, 1 }, { "block", "Block", "reshape", 0 },
};

static void entries_must_match(void **state)
{
    (void)state;
    rq_qconfig q = numbered(1);
    rq_err err = { 0 };
    rq_qconfig_mapping *m;
#define REFUSED(set, sentence)                                                                                         \
    do {                                                                                                               \
        m = mapping();                                                                                                 \
        assert_int_equal(set, RQ_OK);                                                                                  \
        assert_int_equal(rq_qconfig_mapping_check(m, net, N(net), NULL, &err), RQ_NOT_FOUND);                          \
        assert_string_equal(err.text, sentence);                                                                       \
        rq_qconfig_mapping_destroy(m);                                                                                 \
    } while (0)
    REFUSED(rq_qconfig_mapping_set_module_name(m, "block.fc3", &q, NULL),
            "module_name 'block.fc3' matches none of the 5 modules; the nearest is 'block.fc1'");
    REFUSED(rq_qconfig_mapping_set_object_type(m, "Conv3d", &q, NULL),
            "object_type 'Conv3d' matches none of the 5 modules; the nearest is 'Conv2d'");
    REFUSED(rq_qconfig_mapping_set_module_name_regex(m, "block\\.f", &q, NULL),
            "module_name_regex 'block\\.f' matches no whole module name, only the beginning of 'block.fc1'; "
            "'block\\.f.*' would match it");
    REFUSED(rq_qconfig_mapping_set_module_name_regex(m, "enc", &q, NULL),
            "module_name_regex 'enc' matches none of the 5 modules");
    REFUSED(
        rq_qconfig_mapping_set_module_name_object_type_order(m, "block", "Linear", 2, &q, NULL),
        "module_name_object_type_order ('block', Linear, 2) matches no module: there are 2 of that type in 'block'");
    REFUSED(rq_qconfig_mapping_set_global(m, NULL, NULL),
            "none of the 5 modules gets a qconfig: nothing would be quantized");
#undef REFUSED
    /* a model of nothing */
    m = mapping();
    assert_int_equal(rq_qconfig_mapping_set_global(m, &q, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_check(m, NULL, 0, NULL, &err), RQ_NOT_FOUND);
    assert_string_equal(err.text, "none of the 0 modules gets a qconfig: nothing would be quantized");
    rq_qconfig_mapping_destroy(m);
    /* an ancestor alone is a match, and so is a call */
    m = mapping();
    assert_int_equal(rq_qconfig_mapping_set_module_name(m, "block", &q, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_object_type(m, "torch.Tensor.reshape", &q, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_check(m, net, N(net), NULL, &err), RQ_OK);
    /* a global qconfig on a Sigmoid */
    assert_int_equal(rq_qconfig_mapping_set_global(m, &q, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_check(m, net, N(net), NULL, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "module 'act' (Sigmoid): its output has the fixed scale 0.00390625 and zero point 0; "
                                  "rq_qconfig_mapping_default, or 'default' in a file, gives it those");
    rq_qconfig_mapping_destroy(m);
    /* which the default mapping knows; its other types need not be there */
    static const char *const backends[] = { "fbgemm", "x86", "qnnpack", "onednn" };
    for (int i = 0; i < N(backends); i++)
        for (int qat = 0; qat < 2; qat++) {
            assert_int_equal(rq_qconfig_mapping_default(&m, backends[i], qat, qat, &err), RQ_OK);
            assert_int_equal(rq_qconfig_mapping_check(m, net, N(net), backends[i], &err), RQ_OK);
            rq_qconfig_mapping_destroy(m);
        }
    /* what the executor cannot, it says of which module */
    assert_int_equal(rq_qconfig_mapping_default_named(&m, "fbgemm", &err), RQ_OK);
    assert_int_equal(rq_qconfig_named(&q, "default_symmetric_qnnpack_qconfig", NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_module_name(m, "stem", &q, &err), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_check(m, net, N(net), "fbgemm", &err), RQ_UNSUPPORTED);
    assert_string_equal(err.text, "module 'stem' (Conv2d): fbgemm takes activations of type u8, not s8");
    /* a type of the default mapping that the program sets itself must be there */
    assert_int_equal(rq_qconfig_mapping_set_module_name(m, "stem", NULL, &err), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_object_type(m, "nn.PReLU", NULL, &err), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_check(m, net, N(net), "fbgemm", &err), RQ_NOT_FOUND);
    rq_qconfig_mapping_destroy(m);
    assert_int_equal(rq_qconfig_mapping_default(&m, "qnnpak", false, 0, &err), RQ_NOT_FOUND);
}

/* PyTorch's get_default_qconfig_mapping and get_default_qat_qconfig_mapping, type by type. */
static void default_mappings(void **state)
{
    (void)state;
    static const char *const backends[] = { "fbgemm", "x86", "qnnpack", "onednn" };
    for (int i = 0; i < N(backends); i++)
        for (int qat = 0; qat < 2; qat++) {
            rq_qconfig_mapping *m;
            rq_qconfig all;
            assert_int_equal(rq_qconfig_mapping_default(&m, backends[i], qat, qat, NULL), RQ_OK);
            assert_int_equal(qat ? rq_qconfig_default_qat(&all, backends[i], 1, NULL)
                                 : rq_qconfig_default(&all, backends[i], 0, NULL),
                             RQ_OK);
            const char *weight = qat ? "default_weight_fake_quant" : "default_weight_observer";
            rq_qconfig transposed = all, norm = all,
                       fixed = pair(qat ? "default_fixed_qparams_range_0to1_fake_quant"
                                        : "default_fixed_qparams_range_0to1_observer",
                                    weight);
            rq_qconfig tanh = pair(qat ? "default_fixed_qparams_range_neg1to1_fake_quant"
                                       : "default_fixed_qparams_range_neg1to1_observer",
                                   weight);
            if (i < 2) /* fbgemm and x86 */
                assert_int_equal(rq_qconfig_part_named(&transposed.weight, weight, NULL), RQ_OK);
            assert_int_equal(rq_qconfig_part_named(&norm.weight, "default_placeholder_observer", NULL), RQ_OK);
            rq_qconfig reuse, prelu;
            assert_int_equal(rq_qconfig_named(&reuse, "default_reuse_input_qconfig", NULL), RQ_OK);
            assert_int_equal(rq_qconfig_named(&prelu, "default_quint8_weight_qconfig", NULL), RQ_OK);
            const struct {
                const char *type;
                const rq_qconfig *want;
            } rows[] = { { "Linear", &all },
                         { "reshape", &reuse },
                         { "ConvTranspose1d", &transposed },
                         { "ConvTranspose2d", &transposed },
                         { "ConvTranspose3d", &transposed },
                         { "torch.nn.functional.conv_transpose2d", &transposed },
                         { "LayerNorm", &norm },
                         { "layer_norm", &norm },
                         { "PReLU", &prelu },
                         { "Sigmoid", &fixed },
                         { "torch.sigmoid", &fixed },
                         { "Hardsigmoid", &fixed },
                         { "Softmax", &fixed },
                         { "hardsigmoid_", &fixed },
                         { "Tanh", &tanh },
                         { "tanh_", &tanh },
                         { "ReLU", &all } };
            for (int k = 0; k < N(rows); k++) {
                const rq_qconfig_site site = { "m", rows[k].type, NULL, 0 };
                print_message("%s qat %d %s\n", backends[i], qat, rows[k].type);
                assert_true(rq_qconfig_equal(rq_qconfig_mapping_lookup(m, &site, NULL), rows[k].want));
            }
            rq_qconfig_mapping_destroy(m);
        }
}

static void fused_layers_share_a_qconfig(void **state)
{
    (void)state;
    rq_qconfig_mapping *m = mapping();
    rq_qconfig a = numbered(1), b = numbered(2);
    const rq_qconfig *got;
    rq_err err = { 0 };
    static const char *const types[] = { "Linear", "ReLU" };
    assert_int_equal(rq_qconfig_mapping_fused(m, types, 2, &got, &err), RQ_OK);
    assert_null(got);
    assert_int_equal(rq_qconfig_mapping_set_object_type(m, "Linear", &a, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_fused(m, types, 2, &got, &err), RQ_BAD_ARG);
    assert_string_equal(err.text,
                        "Linear and ReLU are fused into one layer, but object_type gives them different qconfigs");
    assert_int_equal(rq_qconfig_mapping_set_object_type(m, "nn.ReLU", &b, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_fused(m, types, 2, &got, &err), RQ_BAD_ARG);
    assert_int_equal(rq_qconfig_mapping_set_object_type(m, "ReLU", &a, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_fused(m, types, 2, &got, &err), RQ_OK);
    assert_int_equal(number_of(got), 1);
    rq_qconfig_mapping_destroy(m);
}

static void converting_only_takes_away(void **state)
{
    (void)state;
    rq_qconfig_mapping *was = example(), *now = example();
    rq_err err = { 0 };
    assert_int_equal(rq_qconfig_mapping_narrows(was, now, &err), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_module_name(now, "dec", NULL, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_narrows(was, now, &err), RQ_OK);
    rq_qconfig q = numbered(3);
    assert_int_equal(rq_qconfig_mapping_set_module_name(now, "dec", &q, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_narrows(was, now, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "entry module_name 'dec' has another qconfig than when the model was prepared; "
                                  "converting may only take it away");
    assert_int_equal(rq_qconfig_mapping_set_module_name(now, "dec", NULL, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_module_name(now, "new", NULL, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_narrows(was, now, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "entry module_name 'new' is only in the mapping that the model was converted with");
    rq_qconfig_mapping_destroy(was);
    rq_qconfig_mapping_destroy(now);
}

/* PyTorch's propagate_qconfig_ on this tree with the dictionary below: what it wrote to each module. */
static void eager_mode_inherits(void **state)
{
    (void)state;
    static const struct {
        const char *name, *type;
        int parent, want;
    } tree[] = { { "", "N", -1, 0 },
                 { "stem", "Linear", 0, 1 },
                 { "a", "B", 0, 2 },
                 { "a.fc", "Linear", 2, 1 },
                 { "a.act", "ReLU", 2, 2 },
                 { "a.inner", "Sequential", 2, 2 },
                 { "a.inner.0", "Linear", 5, 1 },
                 { "a.inner.1", "Linear", 5, 3 },
                 { "b", "B", 0, -1 },
                 { "b.fc", "Linear", 8, 1 },
                 { "b.act", "ReLU", 8, -1 },
                 { "b.inner", "Sequential", 8, 4 },
                 { "b.inner.0", "Linear", 11, 1 },
                 { "b.inner.1", "Linear", 11, 1 },
                 { "c", "B", 0, 0 },
                 { "c.fc", "Linear", 14, 1 },
                 { "c.act", "ReLU", 14, 0 },
                 { "c.inner", "Sequential", 14, -1 },
                 { "c.inner.0", "Linear", 17, 1 },
                 { "c.inner.1", "Linear", 17, 5 } };
    rq_qconfig q[6];
    for (int i = 0; i < N(q); i++)
        q[i] = numbered(i);
    rq_qconfig_module modules[N(tree)];
    const rq_qconfig *got[N(tree)];
    for (int i = 0; i < N(tree); i++)
        modules[i] = (rq_qconfig_module) { .name = tree[i].name, .type = tree[i].type, .parent = tree[i].parent };
    modules[8].has_own = modules[11].has_own = modules[19].has_own = true;
    modules[11].own = &q[4];
    modules[19].own = &q[5];
    rq_qconfig_mapping *m = mapping();
    rq_err err = { 0 };
    assert_int_equal(rq_qconfig_mapping_propagate(m, modules, 8, NULL, got, &err), RQ_NOT_FOUND);
    assert_string_equal(err.text, "none of the 8 modules gets a qconfig: nothing would be quantized");
    rq_qconfig_mapping_set_global(m, &q[0], NULL);
    rq_qconfig_mapping_set_module_name(m, "a", &q[2], NULL);
    rq_qconfig_mapping_set_module_name(m, "a.inner.1", &q[3], NULL);
    rq_qconfig_mapping_set_module_name(m, "c.inner", NULL, NULL);
    rq_qconfig_mapping_set_object_type(m, "torch.nn.Linear", &q[1], NULL);
    assert_int_equal(rq_qconfig_mapping_propagate(m, modules, N(tree), NULL, got, &err), RQ_OK);
    for (int i = 0; i < N(tree); i++)
        assert_int_equal(number_of(got[i]), tree[i].want);
    modules[3].parent = 9;
    assert_int_equal(rq_qconfig_mapping_propagate(m, modules, N(tree), NULL, got, &err), RQ_BAD_ARG);
    modules[3].parent = 2;
    rq_qconfig_mapping_set_module_name(m, "a.fcc", &q[2], NULL);
    assert_int_equal(rq_qconfig_mapping_propagate(m, modules, N(tree), NULL, got, &err), RQ_NOT_FOUND);
    assert_string_equal(err.text, "module_name 'a.fcc' matches none of the 20 modules; the nearest is 'a.fc'");
    rq_qconfig_mapping_set_module_name_regex(m, "a.*", &q[2], NULL);
    assert_int_equal(rq_qconfig_mapping_propagate(m, modules, N(tree), NULL, got, &err), RQ_NOT_FOUND);
    rq_qconfig_mapping_destroy(m);
    m = mapping();
    rq_qconfig_mapping_set_module_name_regex(m, "a.*", &q[2], NULL);
    assert_int_equal(rq_qconfig_mapping_propagate(m, modules, N(tree), NULL, got, &err), RQ_UNSUPPORTED);
    assert_string_equal(err.text, "module_name_regex 'a.*': eager mode knows no such entries, only types and names");
    rq_qconfig_mapping_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lookups_are_pytorchs),         cmocka_unit_test(patterns_are_pythons),
        cmocka_unit_test(entries_must_match),           cmocka_unit_test(default_mappings),
        cmocka_unit_test(fused_layers_share_a_qconfig), cmocka_unit_test(converting_only_takes_away),
        cmocka_unit_test(eager_mode_inherits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
