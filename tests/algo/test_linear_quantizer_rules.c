/* Configs of LinearQuantizer: which rule decides for a module, rules that fit no module, and memory that runs out. */
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

/* conv1 -> relu -> block.conv2, and an add at the root: of x, or of a constant per channel. */
static rq_graph *network_adding(const char *operand)
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
    const rq_shape channels = rq_shape_of(4, (const int64_t[]) { 1, 2, 1, 1 });
    assert_int_equal(rq_tensor_create(&w, RQ_DTYPE_F32, &channels, true), RQ_OK);
    w.f32[0] = 1;
    assert_int_equal(rq_edit_add_constant(g, "shift", &w, NULL), RQ_OK);
    rq_tensor_release(&w);
    const struct {
        const char *op, *name, *in[2], *out;
    } nodes[] = { { "Conv", "/conv1/Conv", { "x", "conv1.weight" }, "a" },
                  { "Relu", "/relu/Relu", { "a", NULL }, "b" },
                  { "Conv", "/block/conv2/Conv", { "b", "block.conv2.weight" }, "c" },
                  { "Add", "/Add", { "c", operand }, "d" } };
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
    assert_int_equal(rq_edit_add_output(g, "d", NULL), RQ_OK);
    return g;
}

static rq_graph *network(void)
{
    return network_adding("x");
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
    rq_notes_release(&said); /* once, not again when it decides nothing */
    assert_int_equal(rq_linear_quantizer_prepare(q, &err), RQ_OK);
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

/* A rule that fits modules, none of which is a layer that it decides for, is told; one that leaves them in float has done what it says. */
static void rules_that_decide_nothing_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *text, *idle, *operand; /* idle: the key that is told, NULL: none */
    } cases[] = {
        { "{}", NULL, "x" },
        { "module_type_configs: {Conv2d: {}, add: {}}", NULL, "x" },
        { "module_type_configs: {Conv2d: null, add: null}", NULL, "x" },
        { "module_type_configs: {ReLU: {}}", "module_type_configs: 'ReLU'", "x" },
        { "module_type_configs: {ReLU: null}", "module_type_configs: 'ReLU'", "x" },
        { "module_type_configs: {Conv: {}, Conv2d: {}}", "module_type_configs: 'Conv'", "x" },
        { "{module_type_configs: {Conv2d: {}}, module_name_configs: {'.*conv\\d': {}}}",
          "module_type_configs: 'Conv2d'", "x" },
        { "module_name_configs: {relu: null}", "module_name_configs: 'relu'", "x" },
        { "module_name_configs: {block: {}}", NULL, "x" },
        { "module_name_configs: {block: {}, block.conv2: {}}", "module_name_configs: 'block'", "x" },
        { "{non_traceable_module_names: [block], module_name_configs: {block.conv2: {}}}",
          "module_name_configs: 'block.conv2'", "x" },
        { "{non_traceable_module_names: [block], module_name_configs: {block.conv2: null}}", NULL, "x" },
        { "module_type_configs: {add: {}}", "module_type_configs: 'add'", "shift" }, /* it becomes a bias */
        { "module_type_configs: {add: null}", "module_type_configs: 'add'", "shift" },
    };
    for (int i = 0; i < N(cases); i++) {
        rq_graph *g = network_adding(cases[i].operand);
        config *c = parse(cases[i].text);
        rq_linear_quantizer *q = NULL;
        rq_notes said = { 0 };
        assert_int_equal(rq_linear_quantizer_create(&q, g, c, &err), RQ_OK);
        if (rq_linear_quantizer_prepare(q, &err))
            fail_msg("%s: %s", cases[i].text, err.text);
        assert_int_equal(rq_linear_quantizer_warnings(q, &said), RQ_OK);
        if (said.n != (cases[i].idle != NULL) ||
            (said.n && (strncmp(said.text[0], cases[i].idle, strlen(cases[i].idle)) != 0 ||
                        !strstr(said.text[0], "' decides nothing"))))
            fail_msg("%s: %d notes, %s", cases[i].text, said.n, said.n ? said.text[0] : "none");
        rq_notes_release(&said);
        rq_linear_quantizer_destroy(q);
        rq_linear_quantizer_config_destroy(c);
        rq_graph_destroy(g);
    }
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
        cmocka_unit_test(the_nearest_rule_decides),
        cmocka_unit_test(rules_must_fit_the_network),
        cmocka_unit_test(rules_that_decide_nothing_are_told),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
