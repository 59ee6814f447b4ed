/* tests/algo/test_profile.c — files made for a runtime: what contradicts it is refused in a sentence, what is written
 * has the form that docs/onnx-facts.md 5.1 to 5.5 ask for, and lint finds nothing against it. That ONNX Runtime and
 * OpenVINO do with files what lint says is tests/interop's to show (parts `linted`, `openvino`). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "ok.h"
#include "ops/upgrade.h"
#include "requant/requant.h"

#define GOLDEN "tests/golden/onnx/static_quant/"
#define OUT RQ_TEST_TMP "/profile.onnx"
#define SAMPLES RQ_TEST_TMP "/profile.npz"

/* A golden network quantized for p, written and read back. */
static rq_graph *made_for(rq_profile p, const char *net, int64_t opset, bool per_tensor)
{
    char path[256];
    rq_graph *g, *back;
    rq_dataset *data;
    rq_tensor x;
    snprintf(path, sizeof path, GOLDEN "%s.onnx", net);
    OK(rq_load(&g, path, &err));
    OK(rq_npz_load(&x, GOLDEN "data.npz", "common/calibration", &err));
    const rq_feed feed = { rq_graph_input(g, 0).name, x };
    OK(rq_npz_save(SAMPLES, &feed, 1, &err));
    rq_tensor_release(&x);
    OK(rq_dataset_open(&data, SAMPLES, g, NULL, &err));
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.settings = rq_profile_settings(p);
    cfg.settings.per_tensor = per_tensor;
    cfg.threads = 1;
    rq_save_cfg form = rq_save_defaults();
    form.opset = opset;
    OK(rq_profile_check(p, &cfg.settings, &form, &err));
    OK(rq_ptq(g, data, &cfg, NULL, &err));
    OK(rq_save_as(g, OUT, &form, &err));
    OK(rq_load(&back, OUT, &err));
    rq_dataset_close(data);
    rq_graph_destroy(g);
    return back;
}

static const rq_node *node(const rq_graph *g, const char *name)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && !strcmp(g->nodes[i].name, name))
            return &g->nodes[i];
    fail_msg("no node '%s'", name);
    return NULL;
}

static const rq_node *maker(const rq_graph *g, const rq_node *n, int i)
{
    assert_int_equal(g->values[n->in[i]].kind, RQ_VALUE_NODE);
    return &g->nodes[g->values[n->in[i]].producer];
}

static int count(const rq_graph *g, const char *op)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        n += g->nodes[i].op && !strcmp(g->nodes[i].op, op);
    return n;
}

static void tensorrt_gets_inputs_of_weighted_operators_and_skips(void **state)
{
    (void)state;
    rq_graph *g = made_for(RQ_PROFILE_TENSORRT, "residual", 13, false);
    assert_int_equal(rq_graph_opset(g, ""), 13);
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        if (!strcmp(n->op, "Conv") || !strcmp(n->op, "Gemm")) {
            assert_string_equal(maker(g, n, 0)->op, "DequantizeLinear");
            assert_string_equal(maker(g, n, 1)->op, "DequantizeLinear");
            assert_int_equal(g->values[n->in[2]].constant.dtype, RQ_DTYPE_F32); /* the bias */
        }
        if (!strcmp(n->op, "QuantizeLinear") || !strcmp(n->op, "DequantizeLinear")) {
            const rq_tensor *z = &g->values[n->in[2]].constant;
            assert_int_equal(z->dtype, RQ_DTYPE_S8);
            for (int64_t k = 0; k < rq_tensor_count(z); k++)
                assert_int_equal(rq_tensor_get_int(z, k), 0);
        }
    }
    /* Conv to Relu to the next pair is one kernel: nothing between */
    assert_string_equal(maker(g, node(g, "/b/b.2/Relu"), 0)->op, "Conv");
    assert_int_equal(count(g, "Relu"), 4);
    /* the branch that ends in a Conv is open, the other is not */
    assert_string_equal(maker(g, node(g, "/Add"), 0)->op, "DequantizeLinear");
    assert_string_equal(maker(g, node(g, "/Add"), 1)->op, "Conv");
    assert_string_equal(maker(g, node(g, "/Add_1"), 0)->op, "DequantizeLinear");
    assert_string_equal(maker(g, node(g, "/Add_1"), 1)->op, "Conv");
    rq_lint l;
    OK(rq_lint_graph(&l, g, RQ_PROFILE_TENSORRT, &err));
    assert_int_equal(l.n_refused, 0);
    assert_true(l.n_integer >= 12);
    rq_lint_release(&l);
    rq_graph_destroy(g);
}

static void tensorrt_refuses_what_others_take(void **state)
{
    (void)state;
    static const char *const files[] = { "residual_qdq_u8s8.onnx", "cnn_qop_u8s8.onnx", "cnn_qdq_s8s8_pc.onnx" };
    for (size_t i = 0; i < 3; i++) {
        char path[256];
        rq_graph *g;
        rq_lint l;
        snprintf(path, sizeof path, GOLDEN "%s", files[i]);
        OK(rq_load(&g, path, &err));
        OK(rq_lint_graph(&l, g, RQ_PROFILE_TENSORRT, &err));
        assert_true(l.n_refused > 0);
        rq_lint_release(&l);
        rq_graph_destroy(g);
    }
}

/* What OpenVINO 2026.4 did with each of these files. */
static void openvino_refuses_what_it_cannot_read(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        int refused;
    } cases[] = {
        { "qops/qgemm_2_u8u8.onnx", 1 },
        { "qops/qlinearglobalaveragepool_2_u8.onnx", 1 },
        { "qops/qlinearconv2d_dw_u8s8.onnx", 1 },
        { "qops/qlinearconv2d_dw_u8u8.onnx", 0 },
        { "qops/qlinearmatmul_u8s8_2d_pc.onnx", 1 },
        { "qops/qlinearmatmul_u8s8_3d_pc.onnx", 1 },
        { "qops/qlinearmatmul_u8s8_shape1.onnx", 0 },
        { "qops/qlinearleakyrelu_u8.onnx", 1 },
        { "qops/qlinearleakyrelu_s8_alpha.onnx", 0 },
        { "qops/qlinearadd_s8_ties.onnx", 0 },
        { "qops/qlinearmul_s8_ties.onnx", 0 },
        { "static_quant/cnn_qop_s8s8_pc.onnx", 3 }, /* two QLinearConv, and QGemm */
        { "static_quant/transformer_nbits4_qdq_sym.onnx", -1 },
        { "static_quant/mlp_nbits4_qdq_sym.onnx", 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[256];
        rq_graph *g;
        rq_lint l;
        snprintf(path, sizeof path, "tests/golden/onnx/%s", cases[i].file);
        OK(rq_load(&g, path, &err));
        OK(rq_lint_graph(&l, g, RQ_PROFILE_OPENVINO, &err));
        if (cases[i].refused < 0 ? !l.n_refused : l.n_refused != cases[i].refused)
            fail_msg("%s: %d operators refused, expected %d", cases[i].file, l.n_refused, cases[i].refused);
        rq_lint_release(&l);
        rq_graph_destroy(g);
    }
}

static void opset_10_takes_a_scale_per_tensor(void **state)
{
    (void)state;
    rq_graph *g = made_for(RQ_PROFILE_TENSORRT, "cnn", 10, true);
    assert_int_equal(rq_graph_opset(g, ""), 10);
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && !strcmp(g->nodes[i].op, "DequantizeLinear"))
            assert_null(rq_attr_find(&g->nodes[i], RQ_WORD_axis));
    rq_graph_destroy(g);
}

/* ONNX Runtime 1.31.1 on files like these: "No Op registered for Round with domain_version of 10"; opset 11 loads. */
static void ort_refuses_float_biases_below_opset_11(void **state)
{
    (void)state;
    for (int64_t opset = 10; opset <= 11; opset++) {
        rq_lint l;
        rq_graph *g = made_for(RQ_PROFILE_TENSORRT, "mlp", opset, true);
        OK(rq_lint_graph(&l, g, RQ_PROFILE_ORT_CPU_X64, &err));
        if (opset == 10)
            assert_true(l.n_refused > 0);
        else
            assert_int_equal(l.n_refused, 0);
        rq_lint_release(&l);
        rq_graph_destroy(g);
    }
}

/* The codes that QLinear operators hand on are judged as those of Q/DQ pairs are: every layer has the float one to stand beside. */
static void layers_of_both_spellings_are_judged_alike(void **state)
{
    (void)state;
    rq_graph *was, *g, *saved;
    rq_dataset *data;
    rq_tensor x;
    rq_report r[2];
    OK(rq_load(&was, GOLDEN "mlp.onnx", &err));
    OK(rq_graph_copy(&g, was));
    OK(rq_npz_load(&x, GOLDEN "data.npz", "common/calibration", &err));
    const rq_feed feed = { rq_graph_input(g, 0).name, x };
    OK(rq_npz_save(SAMPLES, &feed, 1, &err));
    rq_tensor_release(&x);
    OK(rq_dataset_open(&data, SAMPLES, g, NULL, &err));
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.threads = 1;
    OK(rq_ptq(g, data, &cfg, NULL, &err));
    const rq_report_cfg how = { .threads = 1, .layers = true, .origin = g };
    for (int i = 0; i < 2; i++) {
        rq_save_cfg form = rq_save_defaults();
        form.spelling = i ? RQ_SPELLING_QOPERATOR : RQ_SPELLING_QDQ;
        OK(rq_save_as(g, OUT, &form, &err));
        OK(rq_load(&saved, OUT, &err));
        OK(rq_report_compare(&r[i], was, saved, data, &how, &err));
        rq_graph_destroy(saved);
    }
    assert_int_equal(r[0].n_layers, r[1].n_layers);
    for (int i = 0; i < r[0].n_layers; i++) {
        const rq_report_layer *a = &r[0].layers[i], *b = &r[1].layers[i];
        if (!(fabs(a->sqnr_db - b->sqnr_db) < 0.1))
            fail_msg("%s '%s': %g dB as pairs, %g as QLinear operators", a->op, a->name, a->sqnr_db, b->sqnr_db);
        if (a->method)
            assert_string_equal(a->method, b->method);
    }
    rq_report_release(&r[0]);
    rq_report_release(&r[1]);
    rq_dataset_close(data);
    rq_graph_destroy(g);
    rq_graph_destroy(was);
}

static void a_node_that_changed_since_keeps_its_opset(void **state)
{
    (void)state;
    rq_graph *g;
    OK(rq_load(&g, GOLDEN "transformer.onnx", &err)); /* its ReduceMean has axes as an attribute: opset 17 and before */
    const int64_t was = rq_graph_opset(g, "");
    assert_int_equal(rq_downgrade(g, 9, &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "opset 9 cannot be written: node"));
    assert_int_equal(rq_graph_opset(g, ""), was);
    rq_graph_destroy(g);
}

static void qnn_gets_everything(void **state)
{
    (void)state;
    rq_graph *g = made_for(RQ_PROFILE_QNN, "residual", 0, false);
    rq_lint l;
    OK(rq_lint_graph(&l, g, RQ_PROFILE_QNN, &err));
    assert_int_equal(l.n_refused + l.n_float, 0);
    assert_true(l.n_integer >= 8);
    rq_lint_release(&l);
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && !strcmp(g->nodes[i].op, "QuantizeLinear"))
            assert_true(g->values[g->nodes[i].in[1]].constant.f32[0] >= (float)(1e-4 / 255) * 0.999f);
    rq_graph_destroy(g);
}

static void every_profile_makes_a_file_that_runs(void **state)
{
    (void)state;
    static const char *const nets[] = { "cnn", "residual", "depthwise", "transformer", "lstm" };
    for (int p = 0; p < RQ_N_PROFILES; p++)
        for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
            rq_graph *g = made_for((rq_profile)p, nets[i], 0, false);
            rq_lint l;
            rq_session *s;
            OK(rq_lint_graph(&l, g, (rq_profile)p, &err));
            if (l.n_refused)
                fail_msg("%s for %s: %d operators are refused", nets[i], rq_profile_name((rq_profile)p), l.n_refused);
            assert_true(l.n_integer > 0);
            rq_lint_release(&l);
            OK(rq_session_create(&s, g, NULL, &err));
            rq_session_destroy(s);
            rq_graph_destroy(g);
        }
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    const struct {
        rq_profile p;
        rq_dtype activations, weights;
        bool affine, qoperator;
        const char *says;
    } cases[] = {
        { RQ_PROFILE_TENSORRT, RQ_DTYPE_U8, RQ_DTYPE_S8, false, false, "u8 activations" },
        { RQ_PROFILE_TENSORRT, RQ_DTYPE_S8, RQ_DTYPE_S8, true, false, "affine weights" },
        { RQ_PROFILE_TENSORRT, RQ_DTYPE_S8, RQ_DTYPE_S8, false, true, "QLinear operators" },
        { RQ_PROFILE_ORT_CPU_X64, RQ_DTYPE_S8, RQ_DTYPE_S8, false, false, "s8 activations" },
        { RQ_PROFILE_ORT_CPU_ARM64, RQ_DTYPE_U16, RQ_DTYPE_S8, false, false, "u16 activations" },
        { RQ_PROFILE_OPENVINO, RQ_DTYPE_U8, RQ_DTYPE_U8, false, false, "u8 weights" },
        { RQ_PROFILE_OPENVINO, RQ_DTYPE_U8, RQ_DTYPE_S8, false, true, "QLinear operators" },
        { RQ_PROFILE_QNN, RQ_DTYPE_S8, RQ_DTYPE_S8, false, false, "s8 activations" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rq_settings s = rq_profile_settings(cases[i].p);
        rq_save_cfg form = rq_save_defaults();
        OK(rq_profile_check(cases[i].p, &s, &form, &err));
        s.activations = cases[i].activations;
        s.weights = cases[i].weights;
        s.symmetric_weights = !cases[i].affine;
        form.spelling = cases[i].qoperator ? RQ_SPELLING_QOPERATOR : RQ_SPELLING_QDQ;
        assert_int_equal(rq_profile_check(cases[i].p, &s, &form, &err), RQ_BAD_ARG);
        if (!strstr(err.text, cases[i].says) || !strstr(err.text, rq_profile_name(cases[i].p)))
            fail_msg("said '%s', not '%s'", err.text, cases[i].says);
    }
}

static void rules_are_checked_too(void **state)
{
    (void)state;
    static const struct {
        rq_profile p;
        rq_mode mode;
        const char *rules, *says; /* NULL: it goes */
    } cases[] = {
        { RQ_PROFILE_TENSORRT, RQ_MODE_STATIC, "  - match: {type: Conv}\n    set: {activations: u16}\n",
          "profile.yaml:2: profile tensorrt does not go with u16 activations" },
        { RQ_PROFILE_TENSORRT, RQ_MODE_STATIC,
          "  - match: {type: Add}\n    set: {float: true}\n  - match: {name: x}\n    set: {affine-weights: true}\n",
          "profile.yaml:4: profile tensorrt does not go with affine weights" },
        { RQ_PROFILE_TENSORRT, RQ_MODE_STATIC, "  - match: {tensor: x}\n    set: {scale: 0.1, zero-point: 3}\n",
          "profile.yaml:2: profile tensorrt does not go with zero point 3" },
        { RQ_PROFILE_TENSORRT, RQ_MODE_STATIC, "  - match: {tensor: x}\n    set: {scale: 0.1}\n", NULL },
        { RQ_PROFILE_TENSORRT, RQ_MODE_STATIC, "  - match: {type: Conv}\n    set: {activations: u16, float: true}\n",
          NULL },
        { RQ_PROFILE_QNN, RQ_MODE_WEIGHT_ONLY, "  - match: {type: Conv}\n    set: {weights: s4}\n",
          "profile.yaml:2: profile qnn does not go with s4 weights" },
        { RQ_PROFILE_QNN, RQ_MODE_STATIC, "  - match: {type: Conv}\n    set: {weights: u8, activations: u16}\n", NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FILE *f = fopen(RQ_TEST_TMP "/profile.yaml", "w");
        assert_non_null(f);
        fprintf(f, "rules:\n%s", cases[i].rules);
        fclose(f);
        rq_recipe *r;
        OK(rq_recipe_load(&r, RQ_TEST_TMP "/profile.yaml", &err));
        rq_ptq_cfg cfg = rq_ptq_defaults();
        const rq_save_cfg form = rq_save_defaults();
        cfg.mode = cases[i].mode;
        cfg.settings = rq_profile_settings(cases[i].p);
        if (cases[i].mode == RQ_MODE_STATIC)
            OK(rq_profile_check_cfg(cases[i].p, &cfg, &form, &err));
        cfg.recipe = r;
        const rq_status s = rq_profile_check_cfg(cases[i].p, &cfg, &form, &err);
        assert_int_equal(s, cases[i].says ? RQ_BAD_ARG : RQ_OK);
        if (s && !strstr(err.text, cases[i].says))
            fail_msg("said '%s', not '%s'", err.text, cases[i].says);
        rq_recipe_destroy(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensorrt_gets_inputs_of_weighted_operators_and_skips),
        cmocka_unit_test(tensorrt_refuses_what_others_take),
        cmocka_unit_test(openvino_refuses_what_it_cannot_read),
        cmocka_unit_test(opset_10_takes_a_scale_per_tensor),
        cmocka_unit_test(ort_refuses_float_biases_below_opset_11),
        cmocka_unit_test(layers_of_both_spellings_are_judged_alike),
        cmocka_unit_test(a_node_that_changed_since_keeps_its_opset),
        cmocka_unit_test(qnn_gets_everything),
        cmocka_unit_test(every_profile_makes_a_file_that_runs),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(rules_are_checked_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
