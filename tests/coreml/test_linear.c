/* tests/coreml/test_linear.c — linear_quantize_weights on programs: the acceptance lists of coremltools.optimize.coreml (docs/acceptance.md, G, H, I), by number. */
#include "coreml/programs.h"
#include "formats/coreml_help.h"

#include <math.h>

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' has no '%s'", text, part);
}

static void assert_report_has(const rq_coreml_report *r, const char *part)
{
    static char text[20000];
    assert_true(rq_coreml_report_text(r, true, text, sizeof text) > 0);
    assert_has(text, part);
}

/* ---- H: the config ---- */

/* H1: of all three algorithms. */
static void an_empty_config_changes_nothing(void **state)
{
    (void)state;
    static const char *const configs[] = { "{config_type: OpLinearQuantizerConfig, global_config: null}",
                                           "{config_type: OpLinearQuantizerConfig, op_type_configs: {conv: null}}" };
    static rq_status (*const algorithms[])(rq_coreml *, const rq_coreml_config *, bool, rq_coreml_report **,
                                           rq_err *) = { rq_coreml_linear_quantize_weights, rq_coreml_palettize_weights,
                                                         rq_coreml_prune_weights };
    for (int i = 0; i < 6; i++) {
        program g;
        rq_coreml *m;
        rq_coreml_config *c;
        rq_coreml_report *r = NULL;
        make_p1(&g, 6, false, false);
        OK(rq_coreml_save(g.m, RQ_TEST_TMP "/linear-was.mlpackage", &err));
        OK(rq_coreml_open(&m, RQ_TEST_TMP "/linear-was.mlpackage", &err));
        OK(rq_coreml_config_parse(&c, configs[i % 2], strlen(configs[i % 2]), &err));
        OK(algorithms[i / 2](m, c, false, &r, &err));
        assert_int_equal(rq_coreml_report_done(r), 0);
        OK(rq_coreml_save(m, RQ_TEST_TMP "/linear-is.mlpackage", &err));
        same_package(RQ_TEST_TMP "/linear-was.mlpackage", RQ_TEST_TMP "/linear-is.mlpackage");
        rq_coreml_report_destroy(r);
        rq_coreml_config_destroy(c);
        rq_coreml_close(m);
        rq_coreml_close(g.m);
    }
}

/* H2 */
static void none_leaves_out(void **state)
{
    (void)state;
    program g;
    make_p1(&g, 7, false, false);
    QUANTIZE(g.m, "global_config: {}, op_type_configs: {conv: null}");
    ASSERT_OPS(g.m, "conv reshape A linear reshape A conv_transpose");
    rq_coreml_close(g.m);
    make_p2(&g, 7, false);
    QUANTIZE(g.m, "op_type_configs: {conv: {}}, op_name_configs: {conv1: null}");
    ASSERT_OPS(g.m, "conv A conv A conv reshape linear linear reshape conv_transpose");
    rq_coreml_close(g.m);
}

/* H3, with dtypes where the list has widths of tables */
static void name_before_type_before_global(void **state)
{
    (void)state;
    program g;
    make_p2(&g, 9, false);
    QUANTIZE(g.m, "global_config: {dtype: uint8}, op_type_configs: {conv: {dtype: uint4}, linear: {dtype: int4}}, "
                  "op_name_configs: {conv1: {dtype: int8}, linear2: {dtype: uint8, mode: linear}}");
    ASSERT_TYPE(g.m, "conv1_w_quantized", "data", "int8[40,30,2,2]");
    ASSERT_TYPE(g.m, "conv2_w_quantized", "data", "uint4[50,40,3,3]");
    ASSERT_TYPE(g.m, "conv3_w_quantized", "data", "uint4[60,50,2,4]");
    ASSERT_TYPE(g.m, "linear1_w_quantized", "data", "int4[80,60]");
    ASSERT_TYPE(g.m, "linear2_w_quantized", "data", "uint8[90,80]");
    ASSERT_TYPE(g.m, "conv_transpose_w_quantized", "data", "uint8[60,30,6,10]");
    rq_coreml_close(g.m);
}

/* Two adds of one constant [4,8], which the program also gives where `output` says so. */
static void make_adds(program *g, int32_t spec, bool output)
{
    begin(g, spec, false, DIMS(4, 8));
    constant(g, "c", DIMS(4, 8), NULL);
    operation(g, "add", "add_1", DIMS(4, 8), "x", "x", "y", "c", NULL);
    operation(g, "add", "add_2", DIMS(4, 8), "x", "add_1", "y", "c", NULL);
    if (output) {
        assert_true(rq_mil_block_output(g->p, g->b, "c"));
        feature(g->m, &g->m->interfaces[0].outputs, "c", DIMS(4, 8));
    }
    end(g, "add_2", DIMS(4, 8));
}

/* H5 */
static void outputs_keep_their_names(void **state)
{
    (void)state;
    program g;
    begin(&g, 7, false, DIMS(4, 8));
    constant(&g, "only", DIMS(4, 8), NULL);
    constant(&g, "w", DIMS(8, 8), NULL);
    operation(&g, "linear", "linear", DIMS(4, 8), "x", "x", "weight", "w", NULL);
    assert_true(rq_mil_block_output(g.p, g.b, "only"));
    feature(g.m, &g.m->interfaces[0].outputs, "only", DIMS(4, 8));
    end(&g, "linear", DIMS(4, 8));
    QUANTIZE(g.m, "global_config: {weight_threshold: 0}");
    ASSERT_OPS(g.m, "A linear");
    assert_non_null(find_op(g.m, "only"));
    rq_coreml_close(g.m);
    make_adds(&g, 7, true);
    QUANTIZE(g.m, "global_config: {weight_threshold: 0}");
    ASSERT_OPS(g.m, "A add add");
    assert_string_equal(find_op(g.m, "c_quantized")->outputs[0].name, "c"); /* the interface keeps its names */
    rq_coreml_close(g.m);
}

/* H6 */
static void constants_have_names_too(void **state)
{
    (void)state;
    program g;
    make_p1(&g, 9, false, false);
    QUANTIZE(g.m, "op_name_configs: {linear_w: {dtype: int4}, conv: {dtype: uint8}}");
    ASSERT_OPS(g.m, "B conv reshape B linear reshape conv_transpose");
    ASSERT_TYPE(g.m, "linear_w_quantized", "data", "int4[70,81]");
    rq_coreml_close(g.m);
    make_p1(&g, 7, false, false);
    assert_int_equal(quantize_as(g.m, "op_type_configs: {const: {}}", false, NULL), RQ_BAD_ARG);
    assert_has(err.text, "const ops cannot be set by the `set_op_type` function. Please use `set_global`");
    rq_coreml_close(g.m);
}

/* H7 */
static void shared_constants_need_one_config(void **state)
{
    (void)state;
    static const char *const fine[] = {
        "global_config: {weight_threshold: 0}, op_name_configs: {add_2: {weight_threshold: 0}}",
        "global_config: {dtype: uint8, weight_threshold: 0}, op_name_configs: {add_1: {weight_threshold: 0}, add_2: "
        "{weight_threshold: 0}}",
    };
    static const char *const conflicts[] = {
        "global_config: {weight_threshold: 0}, op_name_configs: {add_2: {dtype: uint8, weight_threshold: 0}}",
        "op_name_configs: {add_1: {weight_threshold: 0}, add_2: {weight_threshold: 1}}",
        "global_config: {weight_threshold: 0}, op_name_configs: {add_2: null}",
    };
    program g;
    for (int i = 0; i < 2; i++) {
        make_adds(&g, 7, false);
        QUANTIZE(g.m, fine[i]);
        ASSERT_OPS(g.m, "A add add");
        ASSERT_TYPE(g.m, "c_quantized", "quantized_data", "int8[4,8]");
        rq_coreml_close(g.m);
    }
    for (int i = 0; i < 3; i++) {
        make_adds(&g, 7, false);
        assert_int_equal(quantize_as(g.m, conflicts[i], false, NULL), RQ_BAD_ARG);
        assert_has(err.text, "compression config conflict detected between ops 'add_1' and 'add_2'");
        rq_coreml_close(g.m);
    }
}

/* A name counts before a pattern, a later pattern before an earlier one, a pattern before a type. Ours: coremltools takes names alone. */
static void patterns_count_behind_names(void **state)
{
    (void)state;
    program g;
    make_p2(&g, 7, false);
    QUANTIZE(g.m, "op_type_configs: {linear: {}}, op_name_configs: {'conv*': {dtype: uint8}, 'conv?': null, conv2: {}, "
                  "'*ar2': null}");
    ASSERT_OPS(g.m, "conv A conv conv reshape A linear linear reshape A conv_transpose");
    ASSERT_TYPE(g.m, "conv2_w_quantized", "quantized_data", "int8[50,40,3,3]");
    ASSERT_TYPE(g.m, "conv_transpose_w_quantized", "quantized_data", "uint8[60,30,6,10]");
    rq_coreml_close(g.m);
    make_p1(&g, 7, false, false);
    assert_int_equal(quantize_as(g.m, "op_name_configs: {'conw*': {}}", false, NULL), RQ_BAD_ARG);
    assert_has(err.text, "no operator or constant 'conw*'");
    rq_coreml_close(g.m);
}

/* What matches nothing is said; a type that only this program lacks is a note. */
static void keys_that_match_nothing_are_said(void **state)
{
    (void)state;
    program g;
    rq_coreml_report *r = NULL;
    make_p1(&g, 7, false, false);
    assert_int_equal(quantize_as(g.m, "op_name_configs: {conw: {}}", false, NULL), RQ_BAD_ARG);
    assert_has(err.text, "'conw'; the nearest is 'conv'");
    rq_coreml_close(g.m);
    make_p1(&g, 7, false, false);
    assert_int_equal(quantize_as(g.m, "op_type_configs: {linaer: {}}", false, NULL), RQ_BAD_ARG);
    assert_has(err.text, "'linaer'; the nearest is 'linear'");
    rq_coreml_close(g.m);
    make_p1(&g, 7, false, false);
    OK(quantize_as(g.m, "global_config: {}, op_type_configs: {matmul: {}}", false, &r));
    assert_report_has(r, "note: the program has no operator of type matmul");
    rq_coreml_report_destroy(r);
    rq_coreml_close(g.m);
}

/* ---- I: programs ---- */

/* I1 */
static void thresholds_leave_small_weights(void **state)
{
    (void)state;
    static const char *const dtypes[] = { "int8", "uint8" }, *const modes[] = { "linear", "linear_symmetric" };
    for (int i = 0; i < 8; i++) {
        program g;
        char yaml[200];
        make_p1(&g, 7, i & 4, false);
        snprintf(yaml, sizeof yaml, "global_config: {dtype: %s, mode: %s, weight_threshold: 1000}", dtypes[i & 1],
                 modes[i >> 1 & 1]);
        QUANTIZE(g.m, yaml);
        ASSERT_OPS(g.m, "A conv reshape A linear reshape A conv_transpose");
        rq_coreml_close(g.m);
        make_p1(&g, 7, i & 4, false);
        snprintf(yaml, sizeof yaml, "global_config: {dtype: %s, mode: %s, weight_threshold: 7000}", dtypes[i & 1],
                 modes[i >> 1 & 1]);
        QUANTIZE(g.m, yaml);
        ASSERT_OPS(g.m, "A conv reshape linear reshape A conv_transpose");
        rq_coreml_close(g.m);
    }
}

/* I2 */
static void blocks_of_one_number(void **state)
{
    (void)state;
    static const char *const dtypes[] = { "int4", "uint4", "int8", "uint8" };
    for (int i = 0; i < 4; i++)
        for (int few = 0; few < 2; few++) {
            program g;
            char yaml[200];
            make_p1(&g, 9, false, true);
            snprintf(yaml, sizeof yaml,
                     "global_config: {dtype: %s, granularity: per_block, block_size: 1, weight_threshold: %d}",
                     dtypes[i], few ? 7000 : 1000);
            QUANTIZE(g.m, yaml);
            ASSERT_OPS(g.m, few ? "B conv reshape linear matmul reshape B conv_transpose"
                                : "B conv reshape B linear B matmul reshape B conv_transpose");
            rq_coreml_close(g.m);
        }
}

/* I3 */
static void types_and_names_are_the_same(void **state)
{
    (void)state;
    for (int by_name = 0; by_name < 2; by_name++) {
        program g;
        char yaml[400];
        make_p1(&g, 7, false, false);
        snprintf(yaml, sizeof yaml,
                 "global_config: {dtype: uint8}, %s: {conv: {dtype: int8}, linear: {weight_threshold: 1000000}, "
                 "conv_transpose: {mode: linear, dtype: uint8}}",
                 by_name ? "op_name_configs" : "op_type_configs");
        QUANTIZE(g.m, yaml);
        ASSERT_OPS(g.m, "A conv reshape linear reshape A conv_transpose");
        ASSERT_TYPE(g.m, "conv_w_quantized", "quantized_data", "int8[90,30,2,2]");
        ASSERT_TYPE(g.m, "conv_w_quantized", "scale", "fp32[90]");
        ASSERT_TYPE(g.m, "conv_w_quantized", "zero_point", "int8[90]");
        ASSERT_TYPE(g.m, "conv_transpose_w_quantized", "quantized_data", "uint8[30,4,21,10]");
        ASSERT_TYPE(g.m, "conv_transpose_w_quantized", "scale", "fp32[4]"); /* its channels are on axis 1 */
        assert_int_equal(*(const int32_t *)param(g.m, "conv_transpose_w_quantized", "axis")->data, 1);
        rq_coreml_close(g.m);
    }
}

/* I4 */
static void offsets_are_of_linear_mode(void **state)
{
    (void)state;
    program g;
    make_p1(&g, 9, false, true);
    QUANTIZE(g.m,
             "op_type_configs: {conv: {dtype: int4, granularity: per_block, block_size: 3}, conv_transpose: {mode: "
             "linear, granularity: per_block, block_size: 10}}");
    ASSERT_OPS(g.m, "B conv reshape linear matmul reshape B conv_transpose");
    ASSERT_TYPE(g.m, "conv_w_quantized", "offset", "");
    ASSERT_TYPE(g.m, "conv_w_quantized", "scale", "fp32[90,10,1,1]");
    ASSERT_TYPE(g.m, "conv_transpose_w_quantized", "offset", "int8[3,4,1,1]");
    rq_coreml_close(g.m);
    make_p1(&g, 9, true, true);
    QUANTIZE(g.m, "op_name_configs: {conv: {granularity: per_block, block_size: 2}, conv_transpose: {mode: linear, "
                  "granularity: per_block, block_size: 6}}");
    ASSERT_TYPE(g.m, "conv_transpose_w_quantized", "scale", "fp16[5,4,1,1]");
    ASSERT_TYPE(g.m, "conv_w_quantized", "scale", "fp16[90,15,1,1]");
    rq_coreml_close(g.m);
}

/* I5 */
static void scales_have_the_shape_of_blocks(void **state)
{
    (void)state;
    program g;
    make_p1(&g, 9, false, true);
    QUANTIZE(g.m, "global_config: {mode: linear, dtype: int4, granularity: per_block, block_size: 2}, op_type_configs: "
                  "{linear: {dtype: int4, granularity: per_block, block_size: 9}}");
    ASSERT_TYPE(g.m, "conv_w_quantized", "scale", "fp32[90,15,1,1]");
    ASSERT_TYPE(g.m, "linear_w_quantized", "scale", "fp32[70,9]");
    ASSERT_TYPE(g.m, "matmul_y_quantized", "scale", "fp32[1,1,35,35]");
    ASSERT_TYPE(g.m, "conv_transpose_w_quantized", "scale", "fp32[15,4,1,1]");
    ASSERT_TYPE(g.m, "conv_transpose_w_quantized", "offset", "int4[15,4,1,1]");
    rq_coreml_close(g.m);
}

/* I6 */
static void blocks_that_do_not_divide_are_said(void **state)
{
    (void)state;
    program g;
    rq_coreml_report *r = NULL;
    make_p1(&g, 9, false, true);
    OK(quantize_as(g.m, "global_config: {granularity: per_block, block_size: 13}", false, &r));
    ASSERT_OPS(g.m, "conv reshape linear matmul reshape conv_transpose");
    assert_report_has(r,
                      "Invalid block_sizes; On 1th axis, the dim size 30 is not divisible by block size 13. Unable to "
                      "perform structured quantization.");
    rq_coreml_report_destroy(r);
    rq_coreml_close(g.m);
    make_p1(&g, 9, false, true);
    assert_int_equal(quantize_as(g.m, "global_config: {granularity: per_block, block_size: [1, 2]}", false, NULL),
                     RQ_BAD_ARG);
    assert_has(err.text, "The block_size in config must has one element for each axis. However, for op 'conv_w', there "
                         "are 2 elements in block_size, but there are 4 axes");
    rq_coreml_close(g.m);
}

/* I7: no operator is left out: x and y of matmul, recurrent weights, constants of add, tables of gather. */
static void no_consumer_is_left_out(void **state)
{
    (void)state;
    program g;
    begin(&g, 7, false, DIMS(8, 8));
    constant(&g, "mx", DIMS(8, 8), NULL);
    operation(&g, "matmul", "a", DIMS(8, 8), "x", "mx", "y", "x", NULL);
    constant(&g, "my", DIMS(8, 8), NULL);
    operation(&g, "matmul", "b", DIMS(8, 8), "x", "a", "y", "my", NULL);
    constant(&g, "k", DIMS(8, 8), NULL);
    operation(&g, "add", "c", DIMS(8, 8), "x", "b", "y", "k", NULL);
    constant(&g, "table", DIMS(20, 8), NULL);
    small_constant(&g, "at", rq_mil_ints(g.p, (const int32_t[]) { 1, 2, 3, 4, 5, 6, 7, 8 }, 8));
    operation(&g, "gather", "d", DIMS(8, 8), "x", "table", "indices", "at", NULL);
    operation(&g, "add", "e", DIMS(8, 8), "x", "c", "y", "d", NULL);
    constant(&g, "ih", DIMS(32, 8), NULL);
    constant(&g, "hh", DIMS(32, 8), NULL);
    constant(&g, "bias", DIMS(64), NULL);
    operation(&g, "lstm", "f", DIMS(8, 8), "x", "e", "weight_ih", "ih", "weight_hh", "hh", "bias", "bias", NULL);
    constant(&g, "gru_ih", DIMS(24, 8), NULL);
    constant(&g, "gru_hh", DIMS(24, 8), NULL);
    operation(&g, "gru", "h", DIMS(8, 8), "x", "f", "weight_ih", "gru_ih", "weight_hh", "gru_hh", NULL);
    constant(&g, "rnn_ih", DIMS(8, 8), NULL);
    constant(&g, "rnn_hh", DIMS(8, 8), NULL);
    operation(&g, "rnn", "i", DIMS(8, 8), "x", "h", "weight_ih", "rnn_ih", "weight_hh", "rnn_hh", NULL);
    end(&g, "i", DIMS(8, 8));
    QUANTIZE(g.m, "global_config: {weight_threshold: 50}");
    ASSERT_OPS(g.m, "A matmul A matmul A add A gather add A A lstm A A gru A A rnn");
    assert_int_equal(*(const int32_t *)param(g.m, "my_quantized", "axis")->data, 1);
    assert_int_equal(*(const int32_t *)param(g.m, "mx_quantized", "axis")->data, 0);
    rq_coreml_close(g.m);
}

/* I9: an iOS 15 program becomes one of iOS 16; names, types and thresholds each say something. */
static void old_programs_are_raised(void **state)
{
    (void)state;
    program g;
    make_p2(&g, 6, false);
    QUANTIZE(g.m, "op_type_configs: {conv: {weight_threshold: 500}, linear: {mode: linear, dtype: uint8, "
                  "weight_threshold: 4800}}, op_name_configs: {conv3: null}");
    ASSERT_OPS(g.m,
               "A conv A conv conv reshape linear A linear reshape conv_transpose"); /* 4800 is not more than 4800 */
    assert_int_equal(g.m->spec, 7);
    assert_string_equal(g.p->functions[0]->opset, "CoreML6");
    assert_string_equal(g.p->functions[0]->special[0].opset, "CoreML6");
    ASSERT_TYPE(g.m, "linear2_w_quantized", "quantized_data", "uint8[90,80]");
    assert_string_equal(rq_mil_op_arg(find_op(g.m, "linear2"), "weight")->binding[0].name, "linear2_w_quantized");
    rq_coreml_close(g.m);
}

/* I11 */
static void blocks_and_four_bits_need_ios18(void **state)
{
    (void)state;
    static const char *const configs[][2] = {
        { "global_config: {granularity: per_block}", "The per_block quantization is supported since iOS18." },
        { "global_config: {dtype: int4}", "The 4-bit quantization is supported since iOS18." },
        { "global_config: {dtype: uint4, granularity: per_tensor}",
          "The 4-bit quantization is supported since iOS18." },
    };
    program g;
    for (int i = 0; i < 3; i++) {
        make_p1(&g, 8, false, false);
        assert_int_equal(quantize_as(g.m, configs[i][0], false, NULL), RQ_UNSUPPORTED);
        assert_has(err.text, configs[i][1]);
        rq_coreml_close(g.m);
    }
    make_p1(&g, 8, false, false);
    assert_int_equal(quantize_as(g.m, "global_config: {}", true, NULL), RQ_UNSUPPORTED);
    assert_has(err.text, "Joint compression is only supported since iOS18.");
    rq_coreml_close(g.m);
    make_p1(&g, 8, false, false); /* nothing is large enough for it to be asked */
    QUANTIZE(g.m, "global_config: {dtype: int4, weight_threshold: 1000000}");
    rq_coreml_close(g.m);
}

/* I13 */
static void one_scale_for_all(void **state)
{
    (void)state;
    program g;
    make_p1(&g, 9, true, false);
    QUANTIZE(g.m, "global_config: {mode: linear, dtype: uint4, granularity: per_tensor}");
    ASSERT_TYPE(g.m, "conv_w_quantized", "offset", "uint4[1,1,1,1]");
    ASSERT_TYPE(g.m, "conv_w_quantized", "scale", "fp16[1,1,1,1]");
    rq_coreml_close(g.m);
    make_p1(&g, 8, true, false);
    QUANTIZE(g.m, "global_config: {mode: linear, dtype: uint8, granularity: per_tensor}");
    ASSERT_TYPE(g.m, "conv_w_quantized", "zero_point", "uint8[]");
    ASSERT_TYPE(g.m, "conv_w_quantized", "scale", "fp16[]");
    assert_int_equal(*(const int32_t *)param(g.m, "conv_w_quantized", "axis")->data, 0);
    rq_coreml_close(g.m);
}

static void make_m3(program *g, int32_t spec)
{
    begin(g, spec, true, DIMS(1, 64, 5, 5));
    constant(g, "w", DIMS(64, 32, 2, 2), NULL);
    operation(g, "conv_transpose", "a", DIMS(1, 32, 6, 6), "x", "x", "weight", "w", NULL);
    operation(g, "conv_transpose", "b", DIMS(1, 32, 6, 6), "x", "x", "weight", "w", NULL);
    operation(g, "add", "c", DIMS(1, 32, 6, 6), "x", "a", "y", "b", NULL);
    end(g, "c", DIMS(1, 32, 6, 6));
}

/* I14 */
static void one_weight_of_two_layers(void **state)
{
    (void)state;
    static const char *const configs[][2] = { { "global_config: {granularity: per_tensor}", "fp16[1,1,1,1]" },
                                              { "global_config: {}", "fp16[1,32,1,1]" },
                                              { "global_config: {granularity: per_block}", "fp16[2,32,1,1]" } };
    program g;
    for (int i = 0; i < 3; i++) {
        make_m3(&g, 9);
        QUANTIZE(g.m, configs[i][0]);
        ASSERT_OPS(g.m, "B conv_transpose conv_transpose add");
        ASSERT_TYPE(g.m, "w_quantized", "scale", configs[i][1]);
        rq_coreml_close(g.m);
    }
    make_m3(&g, 7);
    QUANTIZE(g.m, "global_config: {}");
    ASSERT_OPS(g.m, "A conv_transpose conv_transpose add");
    rq_coreml_close(g.m);
    /* readers with other channels: not even per tensor, but by a list of sizes */
    rq_coreml_report *r = NULL;
    begin(&g, 9, false, DIMS(8, 8));
    constant(&g, "w", DIMS(8, 8), NULL);
    operation(&g, "matmul", "a", DIMS(8, 8), "x", "x", "y", "w", NULL);
    operation(&g, "linear", "b", DIMS(8, 8), "x", "a", "weight", "w", NULL);
    end(&g, "b", DIMS(8, 8));
    OK(quantize_as(g.m, "global_config: {granularity: per_tensor, weight_threshold: 0}", false, &r));
    ASSERT_OPS(g.m, "matmul linear");
    assert_report_has(r, "warning: left as it is: its readers have their channels on different axes");
    rq_coreml_report_destroy(r);
    QUANTIZE(g.m, "global_config: {granularity: per_block, block_size: [4, 2], weight_threshold: 0}");
    ASSERT_TYPE(g.m, "w_quantized", "scale", "fp32[2,4]");
    rq_coreml_close(g.m);
}

static void make_bytes(program *g, const char *type, int lo, int hi)
{
    uint8_t bytes[64];
    const int64_t dim[] = { 8, 8 };
    for (int i = 0; i < 64; i++)
        bytes[i] = (uint8_t)(i % 2 ? lo : hi);
    begin(g, 7, false, DIMS(8, 8));
    rq_mil_type *t = rq_mil_tensor_type(g->p, rq_mil_dtype_of_name(type), 2, dim);
    void *own = rq_arena_alloc(&g->p->arena, 64, 1);
    memcpy(own, bytes, 64);
    small_constant(g, "mask", rq_mil_blob(g->p, t, own));
    constant(g, "w", DIMS(8, 8), NULL);
    operation(g, "linear", "linear", DIMS(8, 8), "x", "x", "weight", "w", NULL);
    operation(g, "gather", "gather", DIMS(8, 8), "x", "mask", NULL);
    operation(g, "add", "add", DIMS(8, 8), "x", "linear", "y", "gather", NULL);
    end(g, "add", DIMS(8, 8));
}

/* I16, and G5: infinities stay, and so do masks of 0 and 1; other integers end the call. */
static void infinities_and_masks_stay(void **state)
{
    (void)state;
    program g;
    rq_coreml_report *r = NULL;
    float w[64] = { 0 };
    w[5] = INFINITY;
    begin(&g, 7, true, DIMS(8, 8));
    constant(&g, "inf", DIMS(8, 8), w);
    w[5] = -INFINITY;
    constant(&g, "minus", DIMS(8, 8), w);
    w[5] = NAN;
    constant(&g, "nan", DIMS(8, 8), w);
    w[5] = 60000;
    constant(&g, "wide", DIMS(8, 8), w);
    constant(&g, "fine", DIMS(8, 8), NULL);
    operation(&g, "linear", "a", DIMS(8, 8), "x", "x", "weight", "inf", NULL);
    operation(&g, "linear", "b", DIMS(8, 8), "x", "a", "weight", "minus", NULL);
    operation(&g, "linear", "c", DIMS(8, 8), "x", "b", "weight", "nan", NULL);
    operation(&g, "linear", "d", DIMS(8, 8), "x", "c", "weight", "wide", NULL);
    operation(&g, "linear", "e", DIMS(8, 8), "x", "d", "weight", "fine", NULL);
    end(&g, "e", DIMS(8, 8));
    OK(quantize_as(g.m, "global_config: {weight_threshold: 0}", false, &r));
    ASSERT_OPS(g.m, "A linear linear linear linear linear");
    assert_report_has(r, "inf fp16[8,8] of linear 'a': warning: left as it is: it has inf/-inf");
    assert_report_has(r, "minus fp16[8,8] of linear 'b': warning: left as it is: it has inf/-inf");
    assert_report_has(r, "nan fp16[8,8] of linear 'c': warning: left as it is: it has NaN");
    assert_report_has(r, "wide fp16[8,8] of linear 'd': warning: left as it is: the range of its numbers");
    rq_coreml_report_destroy(r);
    rq_coreml_close(g.m);
    static const struct {
        const char *type;
        int lo, hi;
        bool stays;
    } masks[] = { { "int8", 0, 1, true },
                  { "uint8", 0, 1, true },
                  { "int8", 0, 2, false },
                  { "int8", -100, 100, true },
                  { "uint8", 0, 200, false } };
    for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++) {
        make_bytes(&g, masks[i].type, masks[i].lo, masks[i].hi);
        const rq_status s = quantize_as(g.m, "global_config: {weight_threshold: 0}", false, NULL);
        assert_int_equal(s, masks[i].stays ? RQ_OK : RQ_BAD_ARG);
        if (masks[i].stays)
            ASSERT_OPS(g.m, "A linear gather add");
        else
            assert_has(err.text, "Only floating numpy arrays are supported");
        rq_coreml_close(g.m);
    }
}

/* ---- joint compression ---- */

/* A linear of 8x8 whose weight is a table of 16 numbers, and another whose weight has 24 of 64 numbers. */
static void make_joint(program *g)
{
    static const uint8_t indices[32] = { 0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe };
    static const uint8_t mask[8] = { 7, 7, 7, 7, 7, 7, 7, 7 };
    float table[16], numbers[24];
    begin(g, 9, false, DIMS(8, 8));
    for (int i = 0; i < 16; i++)
        table[i] = (float)(i - 8) / 4;
    for (int i = 0; i < 24; i++)
        numbers[i] = (float)(i % 7 - 3) / 3;
    rq_mil_op *lut = operation(g, "constexpr_lut_to_dense", "lut", DIMS(8, 8), NULL);
    rq_mil_op *sparse = operation(g, "constexpr_sparse_to_dense", "sparse", DIMS(8, 8), NULL);
    void *codes = rq_arena_alloc(&g->p->arena, 32, 1), *ones = rq_arena_alloc(&g->p->arena, 8, 1);
    float *x = rq_arena_alloc(&g->p->arena, 16, 4), *y = rq_arena_alloc(&g->p->arena, 24, 4);
    memcpy(codes, indices, 32);
    memcpy(ones, mask, 8);
    memcpy(x, table, sizeof table);
    memcpy(y, numbers, sizeof numbers);
    const rq_mil_dtype *u4 = rq_mil_dtype_of_name("uint4"), *u1 = rq_mil_dtype_of_name("uint1"),
                       *f32 = rq_mil_dtype_of_name("fp32");
    assert_true(
        rq_mil_op_bind_value(g->p, lut, "indices",
                             rq_mil_blob(g->p, rq_mil_tensor_type(g->p, u4, DIMS(8, 8)), codes)) &&
        rq_mil_op_bind_value(g->p, lut, "lut",
                             rq_mil_blob(g->p, rq_mil_tensor_type(g->p, f32, DIMS(1, 1, 16, 1)), x)) &&
        rq_mil_op_bind_value(g->p, sparse, "nonzero_data",
                             rq_mil_blob(g->p, rq_mil_tensor_type(g->p, f32, DIMS(24)), y)) &&
        rq_mil_op_bind_value(g->p, sparse, "mask", rq_mil_blob(g->p, rq_mil_tensor_type(g->p, u1, DIMS(8, 8)), ones)));
    operation(g, "linear", "a", DIMS(8, 8), "x", "x", "weight", "lut", NULL);
    operation(g, "linear", "b", DIMS(8, 8), "x", "a", "weight", "sparse", NULL);
    end(g, "b", DIMS(8, 8));
}

/* I17, I18 */
static void codes_of_tables_and_sparse_weights(void **state)
{
    (void)state;
    program g;
    make_joint(&g); /* a compressed weight is not touched */
    QUANTIZE(g.m, "global_config: {weight_threshold: 0}");
    ASSERT_OPS(g.m, "L S linear linear");
    OK(quantize_as(g.m,
                   "op_name_configs: {a: {granularity: per_tensor, weight_threshold: 63}, b: {mode: linear, dtype: "
                   "uint4, granularity: per_block, block_size: [0, 4], weight_threshold: 63}}",
                   true, NULL));
    ASSERT_OPS(g.m, "B L SB S linear linear");
    ASSERT_TYPE(g.m, "lut_lut_0_quantized", "data", "int8[1,1,16,1]");
    ASSERT_TYPE(g.m, "lut_lut_0_quantized", "scale", "fp32[1,1,1,1]");
    const rq_mil_value *v = param(g.m, "lut_lut_0_quantized", "data");
    for (int i = 0; i < 16; i++)
        assert_int_equal(((const int8_t *)v->data)[i], lrintf((float)(i - 8) / 4 / (4.0f / 254)));
    ASSERT_TYPE(g.m, "sparse_nonzero_data_0_quantized", "nonzero_data", "uint4[24]");
    ASSERT_TYPE(g.m, "sparse_nonzero_data_0_quantized", "scale", "fp32[1,2]");
    ASSERT_TYPE(g.m, "sparse_nonzero_data_0_quantized", "offset", "uint4[1,2]");
    ASSERT_TYPE(g.m, "sparse_nonzero_data_0_quantized", "data_mask", "uint1[8,8]");
    assert_string_equal(rq_mil_op_arg(find_op(g.m, "sparse"), "nonzero_data")->binding[0].name,
                        "sparse_nonzero_data_0_quantized_1");
    rq_coreml_close(g.m);
    make_joint(&g);
    assert_int_equal(quantize_as(g.m, "global_config: {weight_threshold: 0}", true, NULL), RQ_UNSUPPORTED);
    assert_has(err.text,
               "When use joint compression for palettization-quantization, please make sure to use per-tensor");
    rq_coreml_close(g.m);
    make_joint(&g); /* the threshold is held against the weight, not against its 16 or 24 numbers */
    OK(quantize_as(g.m, "global_config: {granularity: per_tensor, weight_threshold: 64}", true, NULL));
    ASSERT_OPS(g.m, "L S linear linear");
    rq_coreml_close(g.m);
}

/* I20 */
static void several_functions_are_refused(void **state)
{
    (void)state;
    program g;
    make_p1(&g, 9, false, false);
    assert_non_null(rq_mil_function_make(g.p, "other", "CoreML8"));
    assert_int_equal(quantize_as(g.m, "global_config: {}", false, NULL), RQ_UNSUPPORTED);
    assert_has(err.text, "linear_quantize_weights is not supported for a multifunction model");
    rq_coreml_close(g.m);
}

/* What is behind compression: equal weights become one, what does nothing and what nobody reads goes. */
static void equal_weights_become_one(void **state)
{
    (void)state;
    program g;
    float w[64];
    for (int i = 0; i < 64; i++)
        w[i] = (float)i;
    begin(&g, 7, false, DIMS(8, 8));
    constant(&g, "w1", DIMS(8, 8), w);
    constant(&g, "w2", DIMS(8, 8), w);
    constant(&g, "dead", DIMS(20, 20), NULL);
    operation(&g, "linear", "a", DIMS(8, 8), "x", "x", "weight", "w1", NULL);
    operation(&g, "identity", "same", DIMS(8, 8), "x", "a", NULL);
    small_constant(&g, "zero", rq_mil_float(g.p, 0));
    operation(&g, "add", "nothing", DIMS(8, 8), "x", "same", "y", "zero", NULL);
    operation(&g, "linear", "b", DIMS(8, 8), "x", "nothing", "weight", "w2", NULL);
    operation(&g, "relu", "unread", DIMS(8, 8), "x", "b", NULL);
    end(&g, "b", DIMS(8, 8));
    QUANTIZE(g.m, "global_config: {weight_threshold: 0}");
    ASSERT_OPS(g.m, "A linear linear");
    assert_null(find_op(g.m, "dead"));
    assert_null(find_op(g.m, "zero"));
    assert_string_equal(rq_mil_op_arg(find_op(g.m, "b"), "weight")->binding[0].name, "w1_quantized");
    assert_string_equal(rq_mil_op_arg(find_op(g.m, "b"), "x")->binding[0].name, "a");
    rq_coreml_close(g.m);
}

/* A transpose behind a weight is done to its codes, and the axis of its scales goes with them; reshape only where there is one scale. */
static void layout_is_folded(void **state)
{
    (void)state;
    program g;
    float w[24];
    for (int i = 0; i < 24; i++)
        w[i] = (float)(i % 6 + 1) * (i < 12 ? 1.0f : -2.0f);
    for (int per_tensor = 0; per_tensor < 2; per_tensor++) {
        begin(&g, 7, false, DIMS(5, 2));
        constant(&g, "w", DIMS(2, 3, 4), w);
        small_constant(&g, "perm", rq_mil_ints(g.p, (const int32_t[]) { 2, -3, 1 }, 3));
        operation(&g, "transpose", "t", DIMS(4, 2, 3), "x", "w", "perm", "perm", NULL);
        operation(&g, "reshape", "r", DIMS(12, 2), "x", "t", NULL);
        operation(&g, "linear", "a", DIMS(5, 12), "x", "x", "weight", "r", NULL);
        end(&g, "a", DIMS(5, 12));
        QUANTIZE(g.m, per_tensor ? "global_config: {granularity: per_tensor, weight_threshold: 0}"
                                 : "global_config: {weight_threshold: 0}");
        ASSERT_OPS(g.m, per_tensor ? "A linear" : "A reshape linear");
        const char *name = per_tensor ? "r" : "t";
        ASSERT_TYPE(g.m, name, "quantized_data", per_tensor ? "int8[12,2]" : "int8[4,2,3]");
        ASSERT_TYPE(g.m, name, "scale", per_tensor ? "fp32[]" : "fp32[2]");
        assert_int_equal(*(const int32_t *)param(g.m, name, "axis")->data, per_tensor ? 0 : 1);
        const int8_t *q = param(g.m, name, "quantized_data")->data;
        const float *s = param(g.m, name, "scale")->data;
        for (int i = 0; i < 24; i++) { /* [4][2][3], of [2][3][4] */
            const float got = s[per_tensor ? 0 : i / 3 % 2] * q[i], want = w[i / 3 % 2 * 12 + i % 3 * 4 + i / 6];
            assert_true(fabsf(got - want) < 0.06f);
        }
        rq_coreml_close(g.m);
    }
}

/* A package is quantized as it is written, and has the same codes as one that is quantized in memory. */
static void codes_are_made_as_they_are_written(void **state)
{
    (void)state;
    program g;
    rq_coreml *m, *q;
    begin(&g, 9, false, DIMS(1, 300));
    constant(&g, "w", DIMS(300, 300), NULL); /* 90000 elements: made when it is written */
    operation(&g, "linear", "a", DIMS(1, 300), "x", "x", "weight", "w", NULL);
    end(&g, "a", DIMS(1, 300));
    OK(rq_coreml_save(g.m, RQ_TEST_TMP "/linear-float.mlpackage", &err));
    OK(rq_coreml_open(&m, RQ_TEST_TMP "/linear-float.mlpackage", &err));
    QUANTIZE(m, "global_config: {mode: linear, dtype: int4}");
    QUANTIZE(g.m, "global_config: {mode: linear, dtype: int4}");
    OK(rq_coreml_save(m, RQ_TEST_TMP "/linear-codes.mlpackage", &err));
    OK(rq_coreml_open(&q, RQ_TEST_TMP "/linear-codes.mlpackage", &err));
    rq_milblob blob, scale;
    OK(rq_coreml_blob(q, &blob, param(q, "w_quantized", "data"), &err));
    OK(rq_coreml_blob(q, &scale, param(q, "w_quantized", "scale"), &err));
    assert_int_equal(blob.bytes, 45000);
    assert_memory_equal(scale.data, param(g.m, "w_quantized", "scale")->data, 300 * 4);
    rq_mil_value *made = param(g.m, "w_quantized", "data");
    uint8_t *bytes = malloc(45000);
    rq_milblob_writer to = { .memory = bytes, .left = 45000 };
    OK(made->produce(made->produce_arg, &to, &err));
    assert_memory_equal(bytes, blob.data, 45000);
    free(bytes);
    rq_coreml_close(q);
    rq_coreml_close(m);
    rq_coreml_close(g.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_config_changes_nothing),
        cmocka_unit_test(none_leaves_out),
        cmocka_unit_test(name_before_type_before_global),
        cmocka_unit_test(outputs_keep_their_names),
        cmocka_unit_test(constants_have_names_too),
        cmocka_unit_test(shared_constants_need_one_config),
        cmocka_unit_test(keys_that_match_nothing_are_said),
        cmocka_unit_test(patterns_count_behind_names),
        cmocka_unit_test(thresholds_leave_small_weights),
        cmocka_unit_test(blocks_of_one_number),
        cmocka_unit_test(types_and_names_are_the_same),
        cmocka_unit_test(offsets_are_of_linear_mode),
        cmocka_unit_test(scales_have_the_shape_of_blocks),
        cmocka_unit_test(blocks_that_do_not_divide_are_said),
        cmocka_unit_test(no_consumer_is_left_out),
        cmocka_unit_test(old_programs_are_raised),
        cmocka_unit_test(blocks_and_four_bits_need_ios18),
        cmocka_unit_test(one_scale_for_all),
        cmocka_unit_test(one_weight_of_two_layers),
        cmocka_unit_test(infinities_and_masks_stay),
        cmocka_unit_test(codes_of_tables_and_sparse_weights),
        cmocka_unit_test(several_functions_are_refused),
        cmocka_unit_test(equal_weights_become_one),
        cmocka_unit_test(layout_is_folded),
        cmocka_unit_test(codes_are_made_as_they_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
