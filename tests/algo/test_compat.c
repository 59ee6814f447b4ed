/* What may be asked of the static quantizer: settings that contradict each other, lists of operators and nodes,
 * overrides of single tensors, and the forms of pairs in the file. The numbers of compat: onnxruntime are compared in
 * tests/golden. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "graph/graph.h"
#include "requant/requant.h"

#define NETS "tests/golden/onnx/static_quant/"

static rq_err err;

static rq_graph *load(const char *name)
{
    rq_graph *g;
    if (rq_load(&g, name, &err))
        fail_msg("%s", err.text);
    return g;
}

static rq_recipe *recipe(const char *text)
{
    rq_recipe *r = NULL;
    if (rq_file_write_all(RQ_TEST_TMP "/compat.yaml", text, strlen(text), &err) ||
        rq_recipe_load(&r, RQ_TEST_TMP "/compat.yaml", &err))
        fail_msg("%s", err.text);
    return r;
}

static rq_status quantize(rq_graph *g, const rq_ptq_cfg *cfg)
{
    static float x[8 * 64];
    rq_dataset *d;
    for (int i = 0; i < 8 * 64; i++)
        x[i] = (float)(i * 5 % 17) / 16;
    const rq_dataset_array a = {
        .name = "x", .dtype = RQ_DTYPE_F32, .shape = rq_shape_of(4, (int64_t[]) { 8, 1, 8, 8 }), .data = x
    };
    if (rq_dataset_create(&d, &a, 1, g, NULL, &err))
        fail_msg("%s", err.text);
    const rq_status s = rq_ptq(g, d, cfg, NULL, &err);
    rq_dataset_close(d);
    return s;
}

static rq_ptq_cfg as_ort(void)
{
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.threads = 1;
    cfg.settings.compat = RQ_COMPAT_ONNXRUNTIME;
    cfg.settings.method = RQ_METHOD_MINMAX;
    return cfg;
}

static const rq_qparams *q_of(const rq_graph *g, const char *name)
{
    const rq_id v = rq_graph_find(g, name);
    assert_true(v >= 0);
    return rq_graph_qparams(g, v);
}

static void contradictions_are_refused(void **state)
{
    static const struct {
        rq_dtype a, w;
        bool symmetric, restricted;
        rq_method method;
        rq_compat compat;
        int bins, groups;
        const char *says; /* NULL: fine */
    } rows[] = {
        { RQ_DTYPE_U8, RQ_DTYPE_S8, false, true, RQ_METHOD_MSE, 0, 0, 0, NULL },
        { RQ_DTYPE_S16, RQ_DTYPE_S4, true, false, RQ_METHOD_ENTROPY, RQ_COMPAT_ONNXRUNTIME, 256, 128, NULL },
        { RQ_DTYPE_S8, RQ_DTYPE_U8, false, false, RQ_METHOD_MSE, 0, 0, 0, "s8 activations with u8 weights" },
        { RQ_DTYPE_S32, RQ_DTYPE_S8, false, false, RQ_METHOD_MSE, 0, 0, 0, "activations cannot be s32" },
        { RQ_DTYPE_F32, RQ_DTYPE_S8, false, false, RQ_METHOD_MSE, 0, 0, 0, "activations cannot be f32" },
        { RQ_DTYPE_U8, RQ_DTYPE_S2, false, false, RQ_METHOD_MSE, 0, 0, 0, "s2 need the mode weight-only" },
        { RQ_DTYPE_S8, RQ_DTYPE_S8, false, true, RQ_METHOD_MSE, 0, 0, 0, "restricted-zero-point is for u8" },
        { RQ_DTYPE_U8, RQ_DTYPE_S8, true, true, RQ_METHOD_MSE, 0, 0, 0, "not symmetric u8" },
        { RQ_DTYPE_U8, RQ_DTYPE_S8, false, false, RQ_METHOD_ENTROPY, 0, 256, 0, "those of compat: onnxruntime" },
        { RQ_DTYPE_U8, RQ_DTYPE_S8, false, false, RQ_METHOD_ENTROPY, RQ_COMPAT_ONNXRUNTIME, 64, 0,
          "128 quantized-bins cannot be made of 64 bins" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rq_settings s = rq_settings_defaults();
        s.activations = rows[i].a;
        s.weights = rows[i].w;
        s.symmetric_activations = rows[i].symmetric;
        s.restricted = rows[i].restricted;
        s.method = rows[i].method;
        s.compat = rows[i].compat;
        s.bins = rows[i].bins;
        s.groups = rows[i].groups;
        assert_int_equal(rq_settings_check(&s, &err), rows[i].says ? RQ_BAD_ARG : RQ_OK);
        if (rows[i].says && !strstr(err.text, rows[i].says))
            fail_msg("said: %s\nnot: %s", err.text, rows[i].says);
    }
}

static void lists_choose_and_typos_are_errors(void **state)
{
    static const char *const convs[] = { "Conv", NULL }, *const one[] = { "/f/Gemm", NULL },
                             *const typo[] = { "/f/Gem", NULL }, *const no_op[] = { "Convv", NULL };
    rq_graph *g = load(NETS "cnn.onnx");
    rq_ptq_cfg cfg = as_ort();
    cfg.ops = no_op;
    assert_int_equal(quantize(g, &cfg), RQ_NOT_FOUND);
    assert_non_null(strstr(err.text, "no operator 'Convv'; the nearest is 'Conv'"));
    cfg.ops = NULL;
    cfg.except = typo;
    assert_int_equal(quantize(g, &cfg), RQ_NOT_FOUND);
    assert_non_null(strstr(err.text, "no node '/f/Gem'; the nearest is '/f/Gemm'"));
    cfg.except = NULL;
    cfg.ops = convs;
    assert_int_equal(quantize(g, &cfg), RQ_OK);
    assert_non_null(q_of(g, "a.weight"));
    assert_non_null(q_of(g, "/a/Conv_output_0")); /* the Relu takes no part, so it is no part of the range */
    assert_null(q_of(g, "/Relu_output_0"));
    assert_null(q_of(g, "f.weight"));
    rq_graph_destroy(g);
    for (int how = 0; how < 2; how++) {
        g = load(NETS "cnn.onnx");
        cfg = as_ort();
        if (how)
            cfg.nodes = one;
        else
            cfg.except = one;
        assert_int_equal(quantize(g, &cfg), RQ_OK);
        assert_true((q_of(g, "f.weight") != NULL) == how && (q_of(g, "a.weight") != NULL) == !how);
        rq_graph_destroy(g);
    }
    /* an operator that is not on the default list, by a rule */
    g = load(NETS "transformer.onnx");
    cfg = as_ort();
    rq_recipe *r = recipe("rules:\n  - match: {type: Erf}\n    set: {float: false}\n"
                          "  - match: {type: Conv*}\n    set: {float: true}\n");
    assert_int_equal(rq_recipe_check(r, g, &err), RQ_BAD_RECIPE); /* it has no Conv */
    rq_recipe_destroy(r);
    r = recipe("rules:\n  - match: {type: Erf}\n    set: {float: false}\n");
    cfg.recipe = r;
    assert_int_equal(quantize(g, &cfg), RQ_OK);
    assert_non_null(q_of(g, "/Div_1_output_0")); /* what Erf reads */
    rq_recipe_destroy(r);
    rq_graph_destroy(g);
}

static void overrides_of_tensors(void **state)
{
    for (int compat = 0; compat < 2; compat++) {
        rq_graph *g = load(NETS "cnn.onnx");
        rq_ptq_cfg cfg = as_ort();
        cfg.settings.compat = (rq_compat)compat;
        rq_recipe *r =
            recipe("rules:\n"
                   "  - match: {tensor: x}\n    set: {lo: -1, hi: 1.5}\n"
                   "  - match: {tensor: /Relu_output_0}\n    set: {activations: u16, scale: 0.5, zero-point: 300}\n"
                   "  - match: {tensor: a.weight}\n    set: {per-tensor: true, hi: 2, lo: -4}\n"
                   "  - match: {tensor: b.weight}\n    set: {axis: -3, weights: u8, affine-weights: true}\n"
                   "  - match: {tensor: f.weight}\n    set: {per-tensor: true, scale: 0.25}\n");
        cfg.recipe = r;
        if (quantize(g, &cfg))
            fail_msg("%s", err.text);
        const rq_qparams *q = q_of(g, "x");
        assert_true(q->scale[0] == (float)(2.5 / 255) && q->zero_point[0] == 102);
        q = q_of(g, "/Relu_output_0");
        assert_true(q->dtype == RQ_DTYPE_U16 && q->scale[0] == 0.5f && q->zero_point[0] == 300);
        q = q_of(g, "a.weight");
        assert_true(q->n == 1 && q->scale[0] == (float)(8 / 254.0) && q->zero_point[0] == 0);
        q = q_of(g, "b.weight");
        assert_true(q->axis == 1 && q->n == 16 && q->dtype == RQ_DTYPE_U8);
        q = q_of(g, "f.weight");
        assert_true(q->n == 1 && q->scale[0] == 0.25f && q->zero_point[0] == 0);
        rq_recipe_destroy(r);
        rq_graph_destroy(g);
    }
    rq_graph *g = load(NETS "cnn.onnx");
    rq_ptq_cfg cfg = as_ort();
    cfg.settings.compat = RQ_COMPAT_NONE;
    rq_recipe *r = recipe("rules:\n  - match: {tensor: f.weight}\n    set: {axis: 2}\n");
    cfg.recipe = r;
    assert_int_equal(quantize(g, &cfg), RQ_BAD_RECIPE);
    assert_non_null(strstr(err.text, "weight 'f.weight' has 2 axes"));
    rq_recipe_destroy(r);
    rq_graph_destroy(g);
}

/* Nodes of an operator, and whether two of any share a name. */
static int count(const rq_graph *g, const char *op)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        if (!g->nodes[i].op)
            continue;
        n += !strcmp(g->nodes[i].op, op);
        for (int k = 0; k < i; k++)
            if (g->nodes[k].op && g->nodes[i].name[0] && !strcmp(g->nodes[k].name, g->nodes[i].name))
                fail_msg("two nodes are '%s'", g->nodes[i].name);
    }
    return n;
}

static void pairs_in_the_file(void **state)
{
    /* Ten values have codes, two of them two readers; six weights, six biases. What ONNX Runtime 1.31.1 writes. */
    static const struct {
        bool weights, dedicated, float_bias;
        int q, dq;
    } rows[] = { { false, false, false, 10, 22 },
                 { true, false, false, 16, 22 },
                 { false, true, false, 12, 24 },
                 { false, false, true, 10, 16 } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rq_graph *g = load(NETS "residual.onnx"), *file;
        rq_ptq_cfg cfg = as_ort();
        cfg.settings.weight_pairs = rows[i].weights;
        cfg.settings.dedicated_pairs = rows[i].dedicated;
        cfg.settings.float_bias = rows[i].float_bias;
        if (quantize(g, &cfg) || rq_save(g, RQ_TEST_TMP "/pairs.onnx", &err))
            fail_msg("%s", err.text);
        file = load(RQ_TEST_TMP "/pairs.onnx");
        assert_int_equal(count(file, "QuantizeLinear"), rows[i].q);
        assert_int_equal(count(file, "DequantizeLinear"), rows[i].dq);
        rq_graph_destroy(file);
        rq_graph_destroy(g);
    }
}

/* Codes around zero reach below a Relu's bound: it must stay, or its work is lost. (The peer drops it there.) */
static void a_relu_that_is_needed_stays(void **state)
{
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        rq_graph *g = load(NETS "cnn.onnx");
        rq_ptq_cfg cfg = as_ort();
        cfg.settings.activations = RQ_DTYPE_S8;
        cfg.settings.symmetric_ranges = symmetric ? RQ_YES : RQ_AUTO;
        if (quantize(g, &cfg))
            fail_msg("%s", err.text);
        assert_int_equal(count(g, "Relu"), symmetric ? 2 : 0);
        rq_graph_destroy(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contradictions_are_refused),  cmocka_unit_test(lists_choose_and_typos_are_errors),
        cmocka_unit_test(overrides_of_tensors),        cmocka_unit_test(pairs_in_the_file),
        cmocka_unit_test(a_relu_that_is_needed_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
