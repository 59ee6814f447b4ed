/* prune_weights on programs: the acceptance list of coremltools.optimize.coreml (docs/acceptance.md L). */
#include <math.h>

#include "coreml/program_help.h"

#include "formats/mil_constexpr.h"

static const char *magnitude(const char *body)
{
    static char text[800];
    snprintf(text, sizeof text, "config_type: OpMagnitudePrunerConfig\n%s", body);
    return text;
}

static void prune(program *p, const char *yaml)
{
    program_run(p, rq_coreml_prune_weights, yaml);
}

/* Of the weight of a layer: how many stay, all of them at least `least`. */
static int64_t kept(const program *p, const char *layer, double least)
{
    const rq_mil_op *op = program_weight(p, layer);
    rq_arena a = { 0 };
    rq_mil_constants c;
    rq_tensor t;
    assert_string_equal(op->type, "constexpr_sparse_to_dense");
    OK(rq_mil_constants_of(&c, p->b, NULL, &a, &err));
    OK(rq_mil_param(&t, p->m, &c, op, "nonzero_data", &err));
    const int64_t n = rq_tensor_count(&t);
    for (int64_t i = 0; i < n; i++)
        assert_true(fabs(rq_tensor_get(&t, i)) >= least && rq_tensor_get(&t, i) != 0);
    rq_tensor_release(&t);
    rq_arena_release(&a);
    return n;
}

static void conv(program *p, int spec, const float *w)
{
    program_begin(p, spec, DIMS(1, 64, 10, 10));
    program_const(p, "w", w, DIMS(32, 64, 2, 2));
    program_op(p, "conv", "conv", "x", "weight", "w", DIMS(1, 32, 9, 9));
}

static void l1_thresholds(void **state)
{
    static const double actual[] = { 0.1, 0.5, 0.9 }, least[] = { 0, 0.3, 0.7 };
    static float w[8192];
    char yaml[200];
    program p;
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            for (int j = 0; j < 8192; j++)
                w[j] = j < 8192 * actual[i] ? 0 : 1 + (float)j;
            conv(&p, 7, w);
            snprintf(yaml, sizeof yaml,
                     "config_type: OpThresholdPrunerConfig\nglobal_config: {minimum_sparsity_percentile: %g}",
                     least[k]);
            prune(&p, yaml);
            program_is(&p, least[k] < actual[i] ? "S conv" : "conv");
            program_end(&p);
        }
    for (int i = 0; i < 2; i++) {
        conv(&p, 7, NULL);
        snprintf(yaml, sizeof yaml,
                 "config_type: OpThresholdPrunerConfig\nglobal_config: {threshold: %s, minimum_sparsity_percentile: 0}",
                 i ? "0.001" : "0");
        prune(&p, yaml);
        assert_true(kept(&p, "conv", i ? 0.001 : 0) > 8000);
        program_end(&p);
    }
    w[5] = 101;
    for (int j = 0; j < 8192; j++)
        w[j] = j == 5 ? 101 : (float)(j % 100);
    conv(&p, 7, w);
    prune(&p,
          "config_type: OpThresholdPrunerConfig\nglobal_config: {threshold: 100.0, minimum_sparsity_percentile: 0.0}");
    assert_int_equal(kept(&p, "conv", 101), 1);
    program_end(&p);
    (void)state;
}

static void l2_magnitudes(void **state)
{
    static const int64_t lo[] = { 8192, 4014, 0 }, hi[] = { 8192, 4178, 0 };
    char body[100];
    program p;
    for (int spec = 7; spec <= 9; spec += 2)
        for (int i = 0; i < 3; i++) {
            conv(&p, spec, NULL);
            snprintf(body, sizeof body, "global_config: {target_sparsity: %.1f}", i / 2.0);
            prune(&p, magnitude(body));
            const int64_t n = kept(&p, "conv", 0);
            assert_true(n >= lo[i] - 2 && n <= hi[i]);
            param_is(&p, "conv", "mask", spec == 7 ? "uint8[1024]" : "uint1[32,64,2,2]");
            param_is(&p, "conv", "shape", spec == 7 ? "uint32[4]" : "none");
            program_end(&p);
        }
    for (int named = 0; named < 2; named++) {
        program_p1(&p, 7, false);
        snprintf(body, sizeof body, "op_%s_configs: ", named ? "name" : "type");
        char yaml[300];
        snprintf(
            yaml, sizeof yaml,
            "config_type: OpMagnitudePrunerConfig\n%s{conv: {target_sparsity: 0.9}, linear: {target_sparsity: 0.2}, "
            "conv_transpose: {target_sparsity: 0.5, weight_threshold: 1000000}}",
            body);
        prune(&p, yaml);
        program_is(&p, "S conv reshape S linear reshape conv_transpose");
        assert_int_equal(kept(&p, "conv", 0), 1080);
        assert_int_equal(kept(&p, "linear", 0), 4536);
        program_end(&p);
    }
    (void)state;
}

/* A later call for the same key counts. */
static void l2_later_calls_replace(void **state)
{
    program p;
    rq_coreml_config *c;
    OK(rq_coreml_config_create(&c, &err));
    rq_coreml_op_config op = rq_coreml_op_config_defaults(RQ_COREML_MAGNITUDE_PRUNER);
    op.target_sparsity = 0.1;
    OK(rq_coreml_config_set_op_type(c, "conv", &op, &err));
    op.target_sparsity = 0.9;
    OK(rq_coreml_config_set_op_type(c, "conv", &op, &err));
    program_p1(&p, 7, false);
    OK(rq_coreml_prune_weights(p.m, c, false, NULL, &err));
    assert_int_equal(kept(&p, "conv", 0), 1080);
    rq_coreml_config_destroy(c);
    program_end(&p);
    (void)state;
}

static void l3_blocks_that_are_too_large(void **state)
{
    static const char *const settings[] = { "target_sparsity: 0.5, block_size: 46", "n_m_ratio: [3, 32], dim: 1" };
    char body[120], said[4000];
    for (int i = 0; i < 2; i++) {
        program p;
        program_p1(&p, 7, false);
        snprintf(body, sizeof body, "op_type_configs: {conv: {%s}}", settings[i]);
        OK(program_try(&p, rq_coreml_prune_weights, magnitude(body), false, said));
        program_is(&p, "conv reshape linear reshape conv_transpose");
        assert_non_null(
            strstr(said, i ? "m > channel / 2 is not applicable for n:m pruning. Got m = 32, channel = 30"
                           : "block_size > channel / 2 is not applicable for block sparsity. Got block_size = "
                             "46, channel = 90"));
        program_end(&p);
    }
    (void)state;
}

static void layers_with_constants(program *p)
{
    program_begin(p, 7, DIMS(1, 30, 10, 10));
    program_const(p, "w_conv", NULL, DIMS(90, 30, 2, 2));
    program_op(p, "conv", "conv", "x", "weight", "w_conv", DIMS(1, 90, 9, 9));
    program_const(p, "bias", NULL, DIMS(1, 90, 9, 9));
    program_op(p, "add", "add", "conv", "y", "bias", DIMS(1, 90, 9, 9));
    program_const(p, "w_linear", NULL, DIMS(70, 9, 9));
    program_op(p, "linear", "linear", "add", "weight", "w_linear", DIMS(1, 90, 9, 70));
}

static void l4_structure_is_for_layers(void **state)
{
    static const char *const settings[] = { "target_sparsity: 0.5, block_size: 2", "n_m_ratio: [1, 2]" };
    char body[200], said[4000];
    for (int i = 0; i < 2; i++) {
        program p;
        layers_with_constants(&p);
        snprintf(body, sizeof body, "global_config: {%s}", settings[i]);
        OK(program_try(&p, rq_coreml_prune_weights, magnitude(body), false, said));
        program_is(&p, "S conv add S linear");
        assert_non_null(strstr(said, "bias"));
        program_end(&p);

        layers_with_constants(&p);
        snprintf(body, sizeof body, "op_name_configs: {bias: {%s, dim: 1}}", settings[i]);
        prune(&p, magnitude(body));
        program_is(&p, "conv S add linear");
        program_end(&p);

        rq_coreml_config *c = NULL;
        snprintf(body, sizeof body, "op_type_configs: {add: {%s}}", settings[i]);
        const char *text = magnitude(body);
        assert_int_not_equal(rq_coreml_config_parse(&c, text, strlen(text), &err), RQ_OK);
        assert_non_null(strstr(err.text, "block sparsity or n:m pruning does not support op type add"));
    }
    (void)state;
}

/* ---- behind quantization and palettes ---- */

static void codes_are_pruned_by_what_they_mean(void **state)
{
    static const char *const before[] = { "config_type: OpLinearQuantizerConfig\nglobal_config: {mode: linear, dtype: "
                                          "int4, granularity: per_block, block_size: 3}",
                                          "config_type: OpPalettizerConfig\nglobal_config: {mode: uniform, nbits: 3, "
                                          "granularity: per_grouped_channel, group_size: 2}" };
    for (int i = 0; i < 2; i++) {
        program p;
        rq_tensor dense;
        rq_arena a = { 0 };
        rq_mil_constants c;
        program_p1(&p, 9, false);
        program_run(&p, i ? rq_coreml_palettize_weights : rq_coreml_linear_quantize_weights, before[i]);
        OK(program_try(&p, rq_coreml_prune_weights, magnitude("op_type_configs: {conv: {target_sparsity: 0.4}}"), true,
                       NULL));
        program_is(&p, i ? "LS S conv reshape L linear reshape L conv_transpose"
                         : "SB S conv reshape B linear reshape B conv_transpose");
        OK(rq_mil_constants_of(&c, p.b, NULL, &a, &err));
        OK(rq_mil_constexpr(&dense, p.m, &c, program_weight(&p, "conv"), 0, &err));
        int64_t n = 0;
        for (int64_t k = 0; k < 10800; k++)
            n += rq_tensor_get(&dense, k) != 0;
        assert_true(n > 4500 && n <= 6480);
        rq_tensor_release(&dense);
        rq_arena_release(&a);
        program_end(&p);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(l1_thresholds),
        cmocka_unit_test(l2_magnitudes),
        cmocka_unit_test(l2_later_calls_replace),
        cmocka_unit_test(l3_blocks_that_are_too_large),
        cmocka_unit_test(l4_structure_is_for_layers),
        cmocka_unit_test(codes_are_pruned_by_what_they_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
