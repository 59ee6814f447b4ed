/* palettize_weights on programs: the acceptance list of coremltools.optimize.coreml (docs/acceptance.md L), errors, chains with pruning and
 * quantization, allocations that fail. */
#include "coreml/program_help.h"

#include "base/mem.h"
#include "formats/mil_constexpr.h"

static const char *const palettizer = "config_type: OpPalettizerConfig\n";

static const char *yaml_of(const char *body)
{
    static char text[1500];
    snprintf(text, sizeof text, "%s%s", palettizer, body);
    return text;
}

static void palettize(program *p, const char *body)
{
    program_run(p, rq_coreml_palettize_weights, yaml_of(body));
}

static void l6_every_weight_above_its_threshold(void **state)
{
    static const char *const modes[] = { "kmeans", "uniform" };
    for (int mode = 0; mode < 2; mode++)
        for (int nbits = 2; nbits <= 6; nbits += 4)
            for (int threshold = 1000; threshold <= 7000; threshold += 6000) {
                char body[200], type[40];
                program p;
                program_p1(&p, 7, false);
                snprintf(body, sizeof body, "global_config: {mode: %s, nbits: %d, weight_threshold: %d}", modes[mode],
                         nbits, threshold);
                palettize(&p, body);
                program_is(&p, threshold == 1000 ? "L conv reshape L linear reshape L conv_transpose"
                                                 : "L conv reshape linear reshape L conv_transpose");
                snprintf(type, sizeof type, "fp32[%d]", 1 << nbits);
                param_is(&p, "conv", "lut", type);
                snprintf(type, sizeof type, "uint8[%d]", 10800 * nbits / 8);
                param_is(&p, "conv", "indices", type);
                param_is(&p, "conv", "shape", "uint32[4]");
                program_end(&p);
            }
    (void)state;
}

static void l6_shapes_of_tables(void **state)
{
    program p;
    program_p1(&p, 9, true);
    palettize(&p, "global_config: {mode: uniform, nbits: 4, granularity: per_grouped_channel, group_size: 1, "
                  "weight_threshold: 1000}");
    program_is(&p, "L conv reshape L linear L matmul reshape L conv_transpose");
    param_is(&p, "conv", "lut", "fp32[90,1,1,1,16,1]");
    param_is(&p, "linear", "lut", "fp32[70,1,16,1]");
    param_is(&p, "matmul", "lut", "fp32[1,1,1,35,16,1]");
    param_is(&p, "conv_transpose", "lut", "fp32[1,4,1,1,16,1]");
    param_is(&p, "conv", "indices", "uint4[90,30,2,2]");
    program_end(&p);

    program_p1(&p, 9, true);
    palettize(&p, "op_type_configs: {conv: {mode: uniform, nbits: 4, granularity: per_grouped_channel, group_size: 1, "
                  "channel_axis: 1}}");
    param_is(&p, "conv", "lut", "fp32[1,30,1,1,16,1]");
    program_end(&p);

    char said[4000];
    program_p1(&p, 9, true);
    OK(program_try(
        &p, rq_coreml_palettize_weights,
        yaml_of("global_config: {nbits: 3, granularity: per_grouped_channel, group_size: 2, weight_threshold: 1000}"),
        false, said));
    program_is(&p, "L conv reshape L linear matmul reshape L conv_transpose");
    param_is(&p, "conv", "lut", "fp32[45,1,1,1,8,1]");
    param_is(&p, "linear", "lut", "fp32[35,1,8,1]");
    param_is(&p, "conv_transpose", "lut", "fp32[1,2,1,1,8,1]");
    program_end(&p);

    program_p1(&p, 9, true);
    OK(program_try(
        &p, rq_coreml_palettize_weights,
        yaml_of("global_config: {nbits: 3, granularity: per_grouped_channel, group_size: 3, weight_threshold: 1000}"),
        false, said));
    program_is(&p, "L conv reshape linear matmul reshape conv_transpose");
    for (int axis = 0; axis < 4; axis++) {
        char want[100];
        snprintf(want, sizeof want, "Can't perform palettization: The number of channels at %dth axis", axis);
        assert_int_equal(strstr(said, want) != NULL, axis != 2);
    }
    program_end(&p);

    for (int group = 0; group < 2; group++) {
        program_p1(&p, 9, true);
        palettize(&p, group
                          ? "global_config: {mode: uniform, nbits: 3, granularity: per_grouped_channel, group_size: 0}"
                          : "global_config: {mode: uniform, nbits: 3}");
        param_is(&p, "conv", "lut", "fp32[1,1,1,1,8,1]");
        param_is(&p, "linear", "lut", "fp32[1,1,8,1]");
        param_is(&p, "matmul", "lut", "fp32[1,1,1,1,8,1]");
        param_is(&p, "conv_transpose", "lut", "fp32[1,1,1,1,8,1]");
        program_end(&p);
    }
    (void)state;
}

static void refused(int spec, const char *body, rq_status status, const char *want)
{
    program p;
    program_p1(&p, spec, true);
    assert_int_equal(program_try(&p, rq_coreml_palettize_weights, yaml_of(body), false, NULL), status);
    if (!strstr(err.text, want))
        fail_msg("\"%s\" does not say \"%s\"", err.text, want);
    program_end(&p);
}

static void l7_needs_ios18(void **state)
{
    refused(7, "global_config: {nbits: 4, granularity: per_grouped_channel}", RQ_UNSUPPORTED,
            "The per_grouped_channel palettization is supported since iOS18. Please re-convert");
    refused(7, "global_config: {nbits: 4, cluster_dim: 2}", RQ_UNSUPPORTED,
            "The vector palettization is supported since iOS18. Please re-convert");
    refused(7, "global_config: {nbits: 4, enable_per_channel_scale: true}", RQ_UNSUPPORTED, "since iOS18");
    refused(7, "global_config: {nbits: 3}", RQ_UNSUPPORTED, "since iOS18");
    (void)state;
}

static void l7_vectors(void **state)
{
    for (int cluster = 2; cluster <= 5; cluster += 3) {
        char body[200], type[60];
        program p;
        program_p1(&p, 9, false);
        snprintf(body, sizeof body,
                 "op_type_configs: {conv: {nbits: 4, cluster_dim: %d}, linear: {nbits: 4, cluster_dim: %d}}", cluster,
                 cluster);
        palettize(&p, body);
        snprintf(type, sizeof type, "uint4[%d,30,2,2]", 90 / cluster);
        param_is(&p, "conv", "indices", type);
        snprintf(type, sizeof type, "fp32[1,1,1,1,16,%d]", cluster);
        param_is(&p, "conv", "lut", type);
        param_is(&p, "conv", "vector_axis", "int32[]");
        snprintf(type, sizeof type, "uint4[%d,81]", 70 / cluster);
        param_is(&p, "linear", "indices", type);
        program_end(&p);
    }
    (void)state;
}

static void l7_vectors_of_depthwise(void **state)
{
    char said[4000], body[100];
    for (int cluster = 2; cluster <= 4; cluster += 2) {
        program p;
        program_begin(&p, 9, DIMS(1, 32, 10, 10));
        program_const(&p, "w", NULL, DIMS(32, 1, 9, 9));
        rq_mil_op *op = program_op(&p, "conv", "conv", "x", "weight", "w", DIMS(1, 32, 2, 2));
        assert_true(rq_mil_op_bind_value(&p.m->program, op, "groups", rq_mil_int(&p.m->program, 32)));
        snprintf(body, sizeof body, "global_config: {nbits: 4, cluster_dim: %d}", cluster);
        OK(program_try(&p, rq_coreml_palettize_weights, yaml_of(body), false, said));
        program_is(&p, "conv");
        assert_non_null(strstr(said, "The `cluster_dim` is invalid for w. Skipped this op."));
        program_end(&p);
    }
    (void)state;
}

static void l7_scale_per_channel(void **state)
{
    program p;
    program_p1(&p, 9, false);
    palettize(&p, "global_config: {mode: uniform, nbits: 4, enable_per_channel_scale: true}");
    program_is(&p, "B L conv reshape B L linear reshape B L conv_transpose");
    program_end(&p);
    (void)state;
}

static void l8_too_many_values(void **state)
{
    char said[4000];
    program p;
    float levels[5670];
    for (int i = 0; i < 5670; i++)
        levels[i] = (float)(i * 7 % 200);
    program_begin(&p, 7, DIMS(1, 30, 10, 10));
    program_const(&p, "w_conv", NULL, DIMS(90, 30, 2, 2));
    program_op(&p, "conv", "conv", "x", "weight", "w_conv", DIMS(1, 90, 9, 9));
    program_const(&p, "w_linear", levels, DIMS(70, 81));
    program_op(&p, "linear", "linear", "conv", "weight", "w_linear", DIMS(1, 90, 9, 70));
    OK(program_try(&p, rq_coreml_palettize_weights, yaml_of("global_config: {mode: unique}"), false, said));
    program_is(&p, "conv L linear");
    param_is(&p, "linear", "lut", "fp32[256]");
    assert_non_null(strstr(said, "Unique values in weight cannot be represented by 8 bits palettization."));
    program_end(&p);
    (void)state;
}

/* Name before type before global; a later call replaces an earlier one. */
static void h3_widths_by_name_and_type(void **state)
{
    static const char *const layers[] = { "conv1", "conv2", "conv3", "linear1", "linear2", "conv_transpose" };
    static const int nbits[] = { 2, 6, 6, 1, 4, 8 };
    program p;
    program_p2(&p);
    palettize(&p, "global_config: {mode: uniform, nbits: 8}\n"
                  "op_type_configs: {conv: {mode: uniform, nbits: 6}, linear: {mode: uniform, nbits: 4}}\n"
                  "op_name_configs: {conv1: {mode: uniform, nbits: 2}, linear1: {mode: uniform, nbits: 1}}\n");
    program_is(&p, "L conv L conv L conv reshape L linear L linear reshape L conv_transpose");
    for (int i = 0; i < 6; i++) {
        char type[40];
        snprintf(type, sizeof type, "fp32[%d]", 1 << nbits[i]);
        param_is(&p, layers[i], "lut", type);
    }
    program_end(&p);
    (void)state;
}

/* What is compressed already is left alone. */
static void h4_one_after_another(void **state)
{
    program p;
    program_p2(&p);
    palettize(&p, "op_type_configs: {conv: {mode: uniform, nbits: 4}}");
    program_run(
        &p, rq_coreml_linear_quantize_weights,
        "config_type: OpLinearQuantizerConfig\nop_name_configs: {conv1: {mode: linear}, linear1: {mode: linear}}");
    program_run(&p, rq_coreml_prune_weights,
                "config_type: OpMagnitudePrunerConfig\nglobal_config: {target_sparsity: 0.5}");
    program_is(&p, "L conv L conv L conv reshape A linear S linear reshape S conv_transpose");
    program_end(&p);
    (void)state;
}

/* Equal weights are stored once, whatever they were made into; others are not. */
static void equal_weights_become_one(void **state)
{
    static const struct {
        program_algorithm run;
        const char *yaml, *one;
    } ways[] = {
        { rq_coreml_palettize_weights,
          "config_type: OpPalettizerConfig\nglobal_config: {nbits: 4, weight_threshold: 0}", "L" },
        { rq_coreml_prune_weights,
          "config_type: OpMagnitudePrunerConfig\nglobal_config: {target_sparsity: 0.5, weight_threshold: 0}", "S" },
    };
    float w[400];
    for (int i = 0; i < 400; i++)
        w[i] = (float)(i % 37) - 18;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        for (int spec = 7; spec <= 9; spec += 2) {
            char want[40];
            program p;
            program_begin(&p, spec, DIMS(1, 20));
            program_const(&p, "w1", w, DIMS(20, 20));
            program_const(&p, "w2", w, DIMS(20, 20));
            w[399] = -w[399]; /* the same magnitudes */
            program_const(&p, "w3", w, DIMS(20, 20));
            w[399] = -w[399];
            program_op(&p, "linear", "a", "x", "weight", "w1", DIMS(1, 20));
            program_op(&p, "linear", "b", "a", "weight", "w2", DIMS(1, 20));
            program_op(&p, "linear", "c", "b", "weight", "w3", DIMS(1, 20));
            program_run(&p, ways[i].run, ways[i].yaml);
            snprintf(want, sizeof want, "%s %s linear linear linear", ways[i].one, ways[i].one);
            program_is(&p, want);
            assert_ptr_equal(program_weight(&p, "a"), program_weight(&p, "b"));
            assert_ptr_not_equal(program_weight(&p, "a"), program_weight(&p, "c"));
            program_end(&p);
        }
    (void)state;
}

/* ---- chains ---- */

static const char *const halved = "config_type: OpMagnitudePrunerConfig\nglobal_config: {target_sparsity: 0.5}";
static const char *const by_tensor = "config_type: OpLinearQuantizerConfig\nglobal_config: {mode: linear, granularity: "
                                     "per_tensor, weight_threshold: 200}";

/* What a layer's weight decompresses to. */
static void weight_of(const program *p, const char *layer, rq_tensor *out)
{
    rq_arena a = { 0 };
    rq_mil_constants c;
    const rq_mil_op *op = program_weight(p, layer);
    OK(rq_mil_constants_of(&c, p->b, NULL, &a, &err));
    OK(rq_mil_constexpr(out, p->m, &c, op, 0, &err));
    rq_arena_release(&a);
}

static void prune_palettize_quantize(void **state)
{
    for (int nbits = 3; nbits <= 4; nbits++) {
        char body[100];
        program p;
        rq_tensor two, three;
        program_p1(&p, 9, false);
        program_run(&p, rq_coreml_prune_weights, halved);
        snprintf(body, sizeof body, "global_config: {nbits: %d}", nbits);
        OK(program_try(&p, rq_coreml_palettize_weights, yaml_of(body), true, NULL));
        program_is(&p, "LS S conv reshape LS S linear reshape LS S conv_transpose");
        weight_of(&p, "linear", &two);
        OK(program_try(&p, rq_coreml_linear_quantize_weights, by_tensor, true, NULL));
        program_is(&p, nbits == 3 ? "LS S conv reshape LS S linear reshape LS S conv_transpose"
                                  : "B LS S conv reshape B LS S linear reshape B LS S conv_transpose");
        weight_of(&p, "linear", &three);
        int64_t zeros = 0;
        for (int64_t i = 0; i < rq_tensor_count(&two); i++) {
            const double d = rq_tensor_get(&two, i) - rq_tensor_get(&three, i);
            zeros += rq_tensor_get(&two, i) == 0;
            assert_true(d < 5e-3 && d > -5e-3);
        }
        assert_true(zeros >= 5670 / 2 && zeros < 5670 / 2 + 200);
        rq_tensor_release(&two);
        rq_tensor_release(&three);
        program_end(&p);
    }
    (void)state;
}

static void quantize_and_palettize_in_either_order(void **state)
{
    for (int order = 0; order < 2; order++)
        for (int nbits = 4; nbits <= 8; nbits += 4) {
            char body[100];
            program p;
            program_p1(&p, 9, false);
            snprintf(body, sizeof body, "global_config: {mode: uniform, nbits: %d}", nbits);
            for (int step = 0; step < 2; step++)
                if (step == order)
                    OK(program_try(&p, rq_coreml_palettize_weights, yaml_of(body), step > 0, NULL));
                else
                    OK(program_try(&p, rq_coreml_linear_quantize_weights, by_tensor, step > 0, NULL));
            program_is(&p, "B L conv reshape B L linear reshape B L conv_transpose");
            const rq_mil_op *lut = program_weight(&p, "linear");
            const rq_mil_arg *arg = rq_mil_op_arg(lut, "lut");
            assert_non_null(arg->binding[0].name);
            program_end(&p);
        }
    (void)state;
}

static void decompressed_weights_are_constants(void **state)
{
    program p;
    rq_tensor before, after;
    program_p1(&p, 9, false);
    program_run(&p, rq_coreml_prune_weights, halved);
    OK(program_try(&p, rq_coreml_palettize_weights, yaml_of("global_config: {nbits: 4}"), true, NULL));
    weight_of(&p, "conv", &before);
    const char *name = program_weight(&p, "conv")->outputs[0].name;
    OK(rq_coreml_decompress_weights(p.m, &err));
    p.b = p.m->program.functions[0]->block;
    program_is(&p, "conv reshape linear reshape conv_transpose");
    const rq_mil_op *op = program_weight(&p, "conv");
    assert_string_equal(op->type, "const");
    assert_string_equal(op->outputs[0].name, name);
    OK(rq_coreml_tensor(p.m, &after, rq_mil_op_attr(op, "val"), &err));
    assert_memory_equal(before.data, after.data, 10800 * sizeof(float));
    rq_tensor_release(&before);
    rq_tensor_release(&after);
    program_end(&p);
    (void)state;
}

static void several_functions_are_refused(void **state)
{
    program p;
    char *text;
    program_p1(&p, 9, false);
    assert_non_null(rq_mil_function_make(&p.m->program, "second", "CoreML8"));
    const char *want = "is not supported for a multifunction model";
    assert_int_equal(program_try(&p, rq_coreml_palettize_weights, yaml_of("global_config: {nbits: 4}"), false, NULL),
                     RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, want));
    assert_int_equal(program_try(&p, rq_coreml_prune_weights, halved, false, NULL), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, want));
    assert_int_equal(rq_coreml_decompress_weights(p.m, &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, want));
    assert_int_equal(rq_coreml_weights_metadata(p.m, 10, true, &text, &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, want));
    program_end(&p);
    (void)state;
}

static void l5_groups_lose_less(void **state)
{
    double error[3] = { 0 };
    for (int i = 0; i < 3; i++) {
        static const char *const groups[] = { "per_tensor", "per_grouped_channel, group_size: 10",
                                              "per_grouped_channel, group_size: 2" };
        char body[200];
        program p;
        rq_tensor was, is;
        program_p1(&p, 9, false);
        OK(rq_coreml_tensor(p.m, &was, rq_mil_op_attr(program_weight(&p, "conv"), "val"), &err));
        snprintf(body, sizeof body, "global_config: {nbits: 3, granularity: %s}", groups[i]);
        palettize(&p, body);
        weight_of(&p, "conv", &is);
        for (int64_t k = 0; k < 10800; k++) {
            const double d = rq_tensor_get(&was, k) - rq_tensor_get(&is, k);
            error[i] += d * d;
        }
        rq_tensor_release(&was);
        rq_tensor_release(&is);
        program_end(&p);
    }
    assert_true(error[1] < error[0] && error[2] < error[1]);
    (void)state;
}

/* ---- what weights hold ---- */

static void metadata_of_weights(void **state)
{
    static const float w[12] = { 1, 0, 0, 6, 1, 0, 0, 6, 1, 0, 0, 6 };
    program p;
    char *text;
    program_begin(&p, 7, DIMS(3, 4));
    program_const(&p, "w_1", w, DIMS(3, 4));
    program_const(&p, "small", w, DIMS(1, 4));
    program_op(&p, "add", "add_1", "x", "y", "w_1", DIMS(3, 4));
    program_op(&p, "add", "add_2", "add_1", "y", "w_1", DIMS(3, 4));
    program_op(&p, "mul", "mul", "add_2", "y", "small", DIMS(3, 4));
    OK(rq_coreml_weights_metadata(p.m, 10, true, &text, &err));
    assert_string_equal(
        text, "{\n \"w_1\": {\"dtype\": \"fp32\", \"shape\": [3, 4], \"sparsity\": 0.5, \"unique_values\": 3, "
              "\"child_ops\": [{\"op_type\": \"add\", \"name\": \"add_1\", \"params_name_mapping\": {\"y\": \"w_1\"}}, "
              "{\"op_type\": \"add\", \"name\": \"add_2\", \"params_name_mapping\": {\"y\": \"w_1\"}}]}\n}\n");
    rq_free(text);
    OK(rq_coreml_weights_metadata(p.m, 4, false, &text, &err));
    assert_string_equal(text, "w_1: fp32[3,4], sparsity 0.5, 3 unique values; add 'add_1' y=w_1; add 'add_2' y=w_1\n"
                              "small: fp32[1,4], sparsity 0.5, 3 unique values; mul 'mul' y=small\n");
    rq_free(text);
    program_end(&p);
    (void)state;
}

/* ---- memory ---- */

static void each_allocation_may_fail(void **state)
{
    static const char *const configs[] = {
        "global_config: {mode: uniform, nbits: 4, weight_threshold: 10}",
        "global_config: {mode: unique, weight_threshold: 10}",
        "global_config: {nbits: 1, cluster_dim: 2, weight_threshold: 10}",
        "global_config: {nbits: 2, enable_per_channel_scale: true, weight_threshold: 10}"
    };
    for (int i = 0; i < 6; i++) {
        rq_status s = RQ_NO_MEMORY;
        for (size_t n = 1; s; n += n < 60 ? 1 : 7) {
            program p;
            char *text = NULL;
            program_begin(&p, 9, DIMS(1, 4, 8, 8));
            program_const(&p, "w", NULL, DIMS(8, 4, 1, 1));
            program_op(&p, "conv", "conv", "x", "weight", "w", DIMS(1, 8, 8, 8));
            rq_coreml_config *c = config_of(yaml_of(configs[i < 4 ? i : 0]));
            rq_coreml_config *half = config_of(
                "config_type: OpMagnitudePrunerConfig\nglobal_config: {target_sparsity: 0.5, weight_threshold: 10}");
            if (i == 4)
                OK(rq_coreml_prune_weights(p.m, half, false, NULL, &err));
            if (i == 5)
                OK(rq_coreml_palettize_weights(p.m, c, false, NULL, &err));
            rq_mem_fail_after(n, true);
            s = i == 5 ? rq_coreml_prune_weights(p.m, half, true, NULL, &err)
                       : rq_coreml_palettize_weights(p.m, c, i == 4, NULL, &err);
            if (!s)
                s = rq_coreml_weights_metadata(p.m, 1, false, &text, &err);
            if (!s)
                s = rq_coreml_decompress_weights(p.m, &err);
            rq_mem_fail_after(0, false);
            if (s && s != RQ_NO_MEMORY)
                fail_msg("allocation %zu: %s", n, err.text);
            rq_free(text);
            rq_coreml_config_destroy(c);
            rq_coreml_config_destroy(half);
            program_end(&p);
            assert_true(n < 3000);
        }
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(l5_groups_lose_less),
        cmocka_unit_test(l6_every_weight_above_its_threshold),
        cmocka_unit_test(l6_shapes_of_tables),
        cmocka_unit_test(l7_needs_ios18),
        cmocka_unit_test(l7_vectors),
        cmocka_unit_test(l7_vectors_of_depthwise),
        cmocka_unit_test(l7_scale_per_channel),
        cmocka_unit_test(l8_too_many_values),
        cmocka_unit_test(h3_widths_by_name_and_type),
        cmocka_unit_test(h4_one_after_another),
        cmocka_unit_test(equal_weights_become_one),
        cmocka_unit_test(prune_palettize_quantize),
        cmocka_unit_test(quantize_and_palettize_in_either_order),
        cmocka_unit_test(decompressed_weights_are_constants),
        cmocka_unit_test(several_functions_are_refused),
        cmocka_unit_test(metadata_of_weights),
        cmocka_unit_test(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
