/* tests/formats/test_mil_emit.c — graphs as Core ML packages: the operations and types of what is written, refusals, names, shapes
 * that vary, images, labels; and every allocation may fail. What coremltools makes of them: tests/interop/coreml.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/coreml.h"
#include "graph/graph.h"
#include "requant/requant.h"

static void ok(rq_status st, const rq_err *err)
{
    if (st)
        fail_msg("%s", err->text);
}

#define OK(expr) ok(expr, &err)

/* y = Softmax(Gemm(Flatten(GlobalAveragePool(Relu(Conv(x)))))) of an input [batch, 3, 8, 8]. */
static rq_graph *make_net(int64_t batch)
{
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_tensor w, b, m;
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    assert_int_equal(rq_tensor_create(&w, RQ_DTYPE_F32, &(rq_shape) { 4, { 4, 3, 3, 3 } }, true), RQ_OK);
    assert_int_equal(rq_tensor_create(&b, RQ_DTYPE_F32, &(rq_shape) { 1, { 4 } }, true), RQ_OK);
    assert_int_equal(rq_tensor_create(&m, RQ_DTYPE_F32, &(rq_shape) { 2, { 5, 4 } }, true), RQ_OK);
    for (int i = 0; i < 108; i++)
        w.f32[i] = (float)(i % 11 - 5) / 8;
    for (int i = 0; i < 20; i++)
        m.f32[i] = (float)(i % 7 - 3) / 4;
    OK(rq_edit_set_opset(g, "", 17, &err));
    const int64_t n = batch < 0 ? rq_edit_dim(g, "n") : batch;
    OK(rq_edit_add_input(g, "x", RQ_DTYPE_F32, &(rq_shape) { 4, { n, 3, 8, 8 } }, &err));
    OK(rq_edit_add_constant(g, "conv.weight", &w, &err));
    OK(rq_edit_add_constant(g, "conv.bias", &b, &err));
    OK(rq_edit_add_constant(g, "fc.weight", &m, &err));
    const rq_edit_node nodes[] = {
        { .op = "Conv",
          .name = "/conv",
          .in = (const char *[]) { "x", "conv.weight", "conv.bias" },
          .out = (const char *[]) { "c" },
          .n_in = 3,
          .n_out = 1 },
        { .op = "Relu",
          .name = "/relu",
          .in = (const char *[]) { "c" },
          .out = (const char *[]) { "r" },
          .n_in = 1,
          .n_out = 1 },
        { .op = "GlobalAveragePool",
          .in = (const char *[]) { "r" },
          .out = (const char *[]) { "7" },
          .n_in = 1,
          .n_out = 1 },
        { .op = "Flatten", .in = (const char *[]) { "7" }, .out = (const char *[]) { "state" }, .n_in = 1, .n_out = 1 },
        { .op = "Gemm",
          .in = (const char *[]) { "state", "fc.weight" },
          .out = (const char *[]) { "g" },
          .n_in = 2,
          .n_out = 1 },
        { .op = "Softmax", .in = (const char *[]) { "g" }, .out = (const char *[]) { "y" }, .n_in = 1, .n_out = 1 },
    };
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        int id;
        OK(rq_edit_add_node(g, &nodes[i], &id, &err));
        if (i == 4)
            OK(rq_edit_set_int(g, id, "transB", 1, &err));
    }
    OK(rq_edit_add_output(g, "y", &err));
    OK(rq_edit_check(g, &err));
    rq_tensor_release(&w);
    rq_tensor_release(&b);
    rq_tensor_release(&m);
    return g;
}

static const rq_mil_block *block_of(const rq_coreml *m)
{
    return m->program.functions[0]->block;
}

/* Types of all operations but constants, in order. */
static void expect_ops(const rq_coreml *m, const char *want)
{
    char got[512] = "";
    for (int i = 0; i < block_of(m)->n_ops; i++)
        if (strcmp(block_of(m)->ops[i]->type, "const") != 0) {
            strcat(got, *got ? " " : "");
            strcat(got, block_of(m)->ops[i]->type);
        }
    assert_string_equal(got, want);
}

static const rq_mil_op *op_named(const rq_coreml *m, const char *output)
{
    for (int i = 0; i < block_of(m)->n_ops; i++)
        if (!strcmp(block_of(m)->ops[i]->outputs[0].name, output))
            return block_of(m)->ops[i];
    fail_msg("no operation gives '%s'", output);
    return NULL;
}

static void expect_type(const rq_coreml *m, const char *output, const char *want)
{
    char text[200];
    assert_string_equal(rq_mil_type_text(op_named(m, output)->outputs[0].type, text, sizeof text), want);
}

static rq_coreml *convert(const rq_graph *g, const rq_coreml_cfg *cfg, char **notes)
{
    rq_err err = { 0 };
    rq_coreml *m = NULL;
    OK(rq_coreml_from_graph(&m, g, cfg, notes, &err));
    return m;
}

static void net_in_f32(void **state)
{
    (void)state;
    char *notes;
    rq_graph *g = make_net(-1);
    rq_coreml *m = convert(g, NULL, &notes);
    rq_graph_destroy(g); /* nothing of it is needed any more */
    assert_int_equal(m->spec, 6);
    assert_string_equal(m->program.functions[0]->opset, "CoreML5");
    expect_ops(m, "conv relu reduce_mean reshape linear softmax");
    expect_type(m, "c", "fp32[1,4,6,6]");
    expect_type(m, "var_7", "fp32[1,4,1,1]");
    expect_type(m, "state_workaround", "fp32[1,4]");
    expect_type(m, "y", "fp32[1,5]");
    assert_int_equal(rq_mil_op_attr(op_named(m, "conv_weight"), "val")->kind, RQ_MIL_BLOB);
    assert_int_equal(rq_mil_op_attr(op_named(m, "conv_bias"), "val")->kind, RQ_MIL_IMMEDIATE);
    assert_non_null(strstr(notes, "input 'x': the first axis"));
    assert_string_equal(rq_coreml_metadata(m, "requant.version"), rq_version());
    rq_free(notes);
    rq_coreml_close(m);
}

static void net_in_f16(void **state)
{
    (void)state;
    rq_graph *g = make_net(2);
    rq_coreml *m = convert(g, &(rq_coreml_cfg) { .compute = RQ_COREML_COMPUTE_F16, .target = RQ_COREML_IOS17 }, NULL);
    assert_int_equal(m->spec, 8);
    expect_ops(m, "cast conv relu reduce_mean reshape linear softmax cast");
    expect_type(m, "x_to_fp16", "fp16[2,3,8,8]");
    expect_type(m, "conv_weight", "fp16[4,3,3,3]");
    expect_type(m, "y", "fp32[2,5]");
    assert_int_equal(m->interfaces[0].inputs.at[0].dtype, RQ_COREML_FLOAT32);
    rq_coreml_close(m);
    rq_graph_destroy(g);
}

/* ---- quantized ---- */

static void quant(rq_graph *g, const char *value, rq_dtype d, float scale, int zero)
{
    rq_err err = { 0 };
    rq_qparams q;
    assert_int_equal(rq_qparams_init_one(&q, d, scale, zero), RQ_OK);
    OK(rq_edit_set_quant(g, value, &q, &err));
    rq_qparams_release(&q);
}

static void quant_channels(rq_graph *g, const char *weight, int64_t n)
{
    rq_err err = { 0 };
    rq_qparams q;
    assert_int_equal(rq_qparams_init(&q, RQ_DTYPE_S8, 0, 0, n), RQ_OK);
    for (int64_t i = 0; i < n; i++)
        q.scale[i] = 0.0078125f * (float)(1 + i);
    OK(rq_edit_set_quant(g, weight, &q, &err));
    rq_qparams_release(&q);
}

/* The net with everything up to its products quantized: x around 128, the rest from 0 on. */
static rq_graph *make_quantized(int64_t batch)
{
    rq_graph *g = make_net(batch);
    quant(g, "x", RQ_DTYPE_U8, 0.0625f, 128);
    quant_channels(g, "conv.weight", 4);
    quant(g, "r", RQ_DTYPE_U8, 0.03125f, 0);
    quant(g, "7", RQ_DTYPE_U8, 0.03125f, 0);
    quant(g, "state", RQ_DTYPE_U8, 0.03125f, 0);
    quant_channels(g, "fc.weight", 5);
    return g;
}

static rq_tensor run(const rq_graph *g, int64_t batch)
{
    rq_err err = { 0 };
    rq_session *s = NULL;
    rq_tensor x, y = { 0 };
    OK(rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err));
    assert_int_equal(rq_tensor_create(&x, RQ_DTYPE_F32, &(rq_shape) { 4, { batch, 3, 8, 8 } }, false), RQ_OK);
    for (int64_t i = 0; i < rq_tensor_count(&x); i++)
        x.f32[i] = (float)((i * 37 + 11) % 257) / 32 - 4;
    OK(rq_session_run(s, &(rq_feed) { .name = rq_graph_input(g, 0).name, .tensor = x }, 1, &y, &err));
    rq_tensor_release(&x);
    rq_session_destroy(s);
    return y;
}

/* The package, read again, gives what the graph gives. */
static void expect_same(const rq_graph *g, const rq_coreml *m, int64_t batch, float tolerance)
{
    rq_err err = { 0 };
    rq_graph *again = NULL;
    OK(rq_coreml_to_graph(&again, m, NULL, &err));
    rq_tensor want = run(g, batch), got = run(again, batch);
    assert_true(rq_shape_equal(&want.shape, &got.shape));
    for (int64_t i = 0; i < rq_tensor_count(&want); i++)
        if (!(got.f32[i] - want.f32[i] <= tolerance && want.f32[i] - got.f32[i] <= tolerance))
            fail_msg("%g instead of %g", (double)got.f32[i], (double)want.f32[i]);
    rq_tensor_release(&want);
    rq_tensor_release(&got);
    rq_graph_destroy(again);
}

static void expect_refused(const rq_graph *g, const rq_coreml_cfg *cfg, rq_status want, const char *sentence)
{
    rq_err err = { 0 };
    rq_coreml *m;
    char *notes;
    assert_int_equal(rq_coreml_from_graph(&m, g, cfg, &notes, &err), want);
    assert_null(m);
    assert_null(notes);
    assert_string_equal(err.text, sentence);
}

static void quantized_for_each_target(void **state)
{
    (void)state;
    char *notes;
    rq_graph *g = make_quantized(2);
    rq_coreml *m = convert(g, NULL, &notes);
    assert_int_equal(m->spec, 8);
    expect_ops(
        m, "quantize dequantize constexpr_affine_dequantize conv relu constexpr_affine_dequantize quantize dequantize "
           "reduce_mean quantize reshape dequantize linear softmax");
    const rq_mil_op *q = op_named(m, "x_quantized"); /* int8 without a zero point now */
    expect_type(m, "x_quantized", "int8[2,3,8,8]");
    assert_null(rq_mil_op_arg(q, "zero_point"));
    assert_null(rq_mil_op_arg(q, "axis"));
    assert_string_equal(
        rq_mil_value_text(rq_mil_op_attr(op_named(m, rq_mil_op_arg(q, "output_dtype")->binding[0].name), "val")),
        "int8");
    expect_type(m, "state_workaround", "uint8[2,4]");
    const rq_mil_op *w = op_named(m, "conv_weight_quantized");
    assert_int_equal(w->n_args, 0);
    assert_int_equal(w->n_attrs, 5);
    assert_int_equal(rq_mil_op_attr(w, "scale")->n, 4);
    assert_int_equal(rq_mil_op_attr(w, "zero_point")->n, 4);
    assert_string_equal(notes, "quantized layers whose output is not: 1, the first is 'g'; Core ML computes a layer in "
                               "integers only where its output is "
                               "quantized, too\n");
    rq_free(notes);
    expect_same(g, m, 2, 0.001f);
    rq_coreml_close(m);

    m = convert(g, &(rq_coreml_cfg) { .target = RQ_COREML_IOS18, .compute = RQ_COREML_COMPUTE_F16 }, NULL);
    expect_ops(m, "cast quantize dequantize constexpr_blockwise_shift_scale conv relu constexpr_blockwise_shift_scale "
                  "quantize dequantize "
                  "reduce_mean quantize reshape dequantize linear softmax cast");
    w = op_named(m, "conv_weight_quantized");
    char text[64];
    assert_int_equal(w->n_attrs, 1);
    assert_int_equal(w->n_args, 2); /* no offset */
    assert_string_equal(rq_mil_type_text(rq_mil_op_arg(w, "scale")->binding[0].value->type, text, sizeof text),
                        "fp16[4,1,1,1]");
    assert_string_equal(rq_mil_type_text(rq_mil_op_arg(w, "data")->binding[0].value->type, text, sizeof text),
                        "int8[4,3,3,3]");
    assert_int_equal(rq_mil_op_arg(w, "data")->binding[0].value->kind, RQ_MIL_BLOB);
    expect_same(g, m, 2, 0.02f);
    rq_coreml_close(m);

    expect_refused(
        g, &(rq_coreml_cfg) { .target = RQ_COREML_IOS16 }, RQ_UNSUPPORTED,
        "QuantizeLinear 'x_QuantizeLinear': a quantized activation cannot be expressed for iOS 16; iOS 17 can");
    rq_graph_destroy(g);
}

static void notes_of_settings(void **state)
{
    (void)state;
    char *notes;
    rq_graph *g = make_net(1);
    quant(g, "x", RQ_DTYPE_U8, 0.0625f, 57);
    quant(g, "conv.weight", RQ_DTYPE_U8, 0.0078125f, 100);
    quant(g, "c", RQ_DTYPE_U8, 0.03125f, 99);
    rq_coreml *m = convert(g, NULL, &notes);
    assert_non_null(strstr(notes, "weights with zero points: 1, the first is 'conv.weight"));
    assert_non_null(strstr(notes, "weights with one scale for all of it: 1,"));
    assert_non_null(strstr(notes, "activations with a zero point inside their range: 2, the first is 'x'"));
    assert_null(strstr(notes, "whose output is not"));
    rq_free(notes);
    expect_same(g, m, 1, 0.001f);
    rq_coreml_close(m);
    rq_graph_destroy(g);
}

/* Weights of 4 bits with a scale per block of 2, as DequantizeLinear of opset 21. */
static void blocks_need_ios18(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_tensor codes, scale;
    int id;
    char text[64];
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    OK(rq_edit_set_opset(g, "", 21, &err));
    OK(rq_edit_add_input(g, "x", RQ_DTYPE_F32, &(rq_shape) { 2, { 1, 3 } }, &err));
    assert_int_equal(rq_tensor_create(&codes, RQ_DTYPE_S4, &(rq_shape) { 2, { 3, 4 } }, true), RQ_OK);
    assert_int_equal(rq_tensor_create(&scale, RQ_DTYPE_F32, &(rq_shape) { 2, { 3, 2 } }, true), RQ_OK);
    for (int i = 0; i < 12; i++)
        rq_tensor_set(&codes, i, i - 6);
    for (int i = 0; i < 6; i++)
        scale.f32[i] = 1 + (float)i;
    OK(rq_edit_add_constant(g, "w", &codes, &err));
    OK(rq_edit_add_constant(g, "s", &scale, &err));
    OK(rq_edit_add_node(g,
                        &(rq_edit_node) { .op = "DequantizeLinear",
                                          .in = (const char *[]) { "w", "s" },
                                          .out = (const char *[]) { "d" },
                                          .n_in = 2,
                                          .n_out = 1 },
                        &id, &err));
    OK(rq_edit_set_int(g, id, "axis", 1, &err));
    OK(rq_edit_set_int(g, id, "block_size", 2, &err));
    OK(rq_edit_add_node(g,
                        &(rq_edit_node) { .op = "MatMul",
                                          .in = (const char *[]) { "x", "d" },
                                          .out = (const char *[]) { "y" },
                                          .n_in = 2,
                                          .n_out = 1 },
                        NULL, &err));
    OK(rq_edit_add_output(g, "y", &err));
    OK(rq_edit_check(g, &err));
    rq_coreml *m = convert(g, NULL, NULL);
    assert_int_equal(m->spec, 9);
    expect_ops(m, "constexpr_blockwise_shift_scale matmul");
    const rq_mil_op *w = op_named(m, "d");
    const rq_mil_value *data = rq_mil_op_arg(w, "data")->binding[0].value;
    assert_string_equal(rq_mil_type_text(data->type, text, sizeof text), "int4[3,4]");
    assert_int_equal(data->bytes, 6);
    assert_int_equal(((const uint8_t *)data->data)[0], 0xba); /* -6, -5: low bits first */
    assert_string_equal(rq_mil_type_text(rq_mil_op_arg(w, "scale")->binding[0].value->type, text, sizeof text),
                        "fp32[3,2]");
    expect_refused(g, &(rq_coreml_cfg) { .target = RQ_COREML_IOS17 }, RQ_UNSUPPORTED,
                   "DequantizeLinear 'd': a weight of 4 bits cannot be expressed for iOS 17; iOS 18 can");
    rq_coreml_close(m);
    rq_tensor_release(&codes);
    rq_tensor_release(&scale);
    rq_graph_destroy(g);
}

/* ---- inputs and outputs ---- */

static void shapes_that_vary(void **state)
{
    (void)state;
    rq_graph *g = make_net(-1);
    const rq_coreml_axis range[] = { { 1, 4 }, { 3, 3 }, { 8, 8 }, { 8, 8 } };
    rq_coreml *m = convert(
        g, &(rq_coreml_cfg) { .input = &(rq_coreml_input) { .name = "x", .axis = range, .rank = 4 }, .n_inputs = 1 },
        NULL);
    const rq_coreml_feature *f = &m->interfaces[0].inputs.at[0];
    assert_int_equal(f->shape[0], 1);
    assert_int_equal(f->range[0].lo, 1);
    assert_int_equal(f->range[0].hi, 4);
    assert_int_equal(f->range[3].hi, 8);
    expect_type(m, "c", "fp32[?,4,6,6]");
    assert_int_equal(m->interfaces[0].outputs.at[0].rank, 0); /* no shape where it varies */
    expect_same(g, m, 3, 0.001f);
    rq_coreml_close(m);
    const int64_t listed[] = { 1, 3, 8, 8, 1, 3, 16, 8 };
    m = convert(
        g,
        &(rq_coreml_cfg) { .input = &(rq_coreml_input) { .name = "x", .listed = listed, .n_listed = 2, .rank = 4 },
                           .n_inputs = 1 },
        NULL);
    f = &m->interfaces[0].inputs.at[0];
    assert_int_equal(f->n_listed, 2);
    assert_int_equal(f->listed[1][2], 16);
    assert_null(f->range);
    expect_type(m, "c", "fp32[1,4,?,6]");
    rq_coreml_close(m);
    const rq_coreml_axis open[] = { { 1, -1 }, { 3, 3 }, { 8, 8 }, { 8, 8 } };
    expect_refused(
        g, &(rq_coreml_cfg) { .input = &(rq_coreml_input) { .name = "x", .axis = open, .rank = 4 }, .n_inputs = 1 },
        RQ_UNSUPPORTED, "input 'x': axis 0 has no upper bound, which a Core ML program needs; expected one like 1..16");
    expect_refused(
        g, &(rq_coreml_cfg) { .input = &(rq_coreml_input) { .name = "z", .axis = open, .rank = 4 }, .n_inputs = 1 },
        RQ_NOT_FOUND, "the model has no input 'z'; its inputs are: 'x'");
    rq_graph_destroy(g);
}

static void images_and_labels(void **state)
{
    (void)state;
    rq_graph *g = make_net(1);
    const char *const labels[] = { "ant", "bee", "cat", "dog", "eel" };
    const rq_coreml_input in = { .name = "x", .color = RQ_COREML_BGR, .scale = 0.5f, .bias = (float[]) { -1, 0, 1 } };
    rq_coreml_cfg cfg = {
        .input = &in, .n_inputs = 1, .labels = labels, .n_labels = 5, .compute = RQ_COREML_COMPUTE_F16
    };
    rq_coreml *m = convert(g, &cfg, NULL);
    expect_ops(m, "mul add cast conv relu reduce_mean reshape linear softmax cast classify");
    expect_type(m, "x__biased__", "fp32[1,3,8,8]");
    const rq_coreml_feature *f = &m->interfaces[0].inputs.at[0];
    assert_int_equal(f->kind, RQ_COREML_IMAGE);
    assert_int_equal(f->color, RQ_COREML_BGR);
    assert_string_equal(m->interfaces[0].label, "classLabel");
    assert_string_equal(m->interfaces[0].outputs.at[1].name, "classLabel_probs");
    rq_graph *again = NULL;
    rq_err err = { 0 };
    OK(rq_coreml_to_graph(&again, m, NULL, &err));
    rq_coreml_close(m);
    m = convert(again, NULL, NULL); /* an image classifier still, without being told so */
    f = &m->interfaces[0].inputs.at[0];
    assert_int_equal(f->color, RQ_COREML_BGR);
    assert_int_equal(m->interfaces[0].outputs.n, 2);
    assert_string_equal(m->interfaces[0].label, "classLabel");
    assert_string_equal(m->interfaces[0].probabilities, "classLabel_probs");
    assert_null(rq_coreml_metadata(m, "requant.labels"));
    rq_coreml_close(m);
    rq_edit_set_meta(again, "requant.labels", "[10, 20, -3, 40, 50]");
    m = convert(again, NULL, NULL);
    assert_int_equal(m->interfaces[0].outputs.at[0].kind, RQ_COREML_INT64);
    assert_false(m->interfaces[0].outputs.at[1].text_keys);
    rq_coreml_close(m);
    rq_graph_destroy(again);
    char *notes; /* the labels of what no Softmax makes */
    for (rq_id v = 0; v < g->n_values; v++)
        if (g->values[v].kind == RQ_VALUE_NODE && !strcmp(g->values[v].name, "g"))
            g->outputs[0] = v;
    rq_coreml_close(convert(g, &cfg, &notes));
    assert_non_null(strstr(notes, "output 'g' has the labels, but no Softmax or Sigmoid makes it"));
    rq_free(notes);
    cfg.n_labels = 4;
    expect_refused(g, &cfg, RQ_BAD_ARG, "there are 4 labels, expected one for each element of one output");
    rq_graph_destroy(g);
}

/* What a package says beside its program comes along. */
static void description_of_another(void **state)
{
    (void)state;
    rq_graph *g = make_net(1);
    const rq_coreml_input in = { .name = "x", .color = RQ_COREML_RGB };
    rq_coreml *was = convert(g, &(rq_coreml_cfg) { .input = &in, .n_inputs = 1 }, NULL);
    was->doc = "a network";
    was->license = "none";
    was->interfaces[0].inputs.at[0].doc = "a picture";
    was->interfaces[0].outputs.at[0].doc = "what it shows";
    assert_true(rq_coreml_set_metadata(was, "owner", "me"));
    rq_coreml *m = convert(g, &(rq_coreml_cfg) { .like = was }, NULL);
    rq_coreml_close(was);
    assert_string_equal(m->doc, "a network");
    assert_string_equal(m->license, "none");
    assert_string_equal(rq_coreml_metadata(m, "owner"), "me");
    assert_string_equal(m->interfaces[0].inputs.at[0].doc, "a picture");
    assert_int_equal(m->interfaces[0].inputs.at[0].kind, RQ_COREML_IMAGE);
    assert_string_equal(m->interfaces[0].outputs.at[0].doc, "what it shows");
    rq_coreml_close(m);
    rq_graph_destroy(g);
}

/* Outputs that no operation gives, one that is given twice, names, types that Core ML does not hand over. */
static void odd_ends(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_tensor k;
    char *notes;
    int id;
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    assert_int_equal(rq_tensor_create(&k, RQ_DTYPE_F32, &(rq_shape) { 1, { 3 } }, true), RQ_OK);
    OK(rq_edit_set_opset(g, "", 17, &err));
    OK(rq_edit_add_input(g, "in put:0", RQ_DTYPE_S64, &(rq_shape) { 1, { 3 } }, &err));
    OK(rq_edit_add_constant(g, "k", &k, &err));
    OK(rq_edit_add_node(g,
                        &(rq_edit_node) { .op = "Cast",
                                          .in = (const char *[]) { "in put:0" },
                                          .out = (const char *[]) { "f" },
                                          .n_in = 1,
                                          .n_out = 1 },
                        &id, &err));
    OK(rq_edit_set_int(g, id, "to", 1, &err));
    OK(rq_edit_add_node(
        g,
        &(rq_edit_node) {
            .op = "Cast", .in = (const char *[]) { "f" }, .out = (const char *[]) { "b" }, .n_in = 1, .n_out = 1 },
        &id, &err));
    OK(rq_edit_set_int(g, id, "to", 9, &err));
    OK(rq_edit_add_output(g, "f", &err));
    OK(rq_edit_add_output(g, "b", &err));
    OK(rq_edit_add_output(g, "k", &err));
    OK(rq_edit_add_output(g, "in put:0", &err));
    OK(rq_edit_check(g, &err));
    rq_coreml *m = convert(g, NULL, &notes);
    expect_ops(m, "cast cast cast identity identity");
    expect_type(m, "f", "fp32[3]");
    expect_type(m, "b", "fp32[3]");
    expect_type(m, "b__pre__output__fp32__cast", "bool[3]");
    expect_type(m, "k_0", "fp32[3]");
    assert_non_null(strstr(notes, "input 'in put:0' is called 'in_put_0' in the package"));
    assert_int_equal(m->interfaces[0].inputs.at[0].dtype, RQ_COREML_INT32);
    rq_free(notes);
    rq_coreml_close(m);
    rq_tensor_release(&k);
    rq_graph_destroy(g);
}

static void refusals(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_tensor k;
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    OK(rq_edit_set_opset(g, "", 17, &err));
    const int64_t any = rq_edit_dim(g, "length");
    OK(rq_edit_add_input(g, "x", RQ_DTYPE_S64, &(rq_shape) { 2, { 1, any } }, &err));
    assert_int_equal(rq_tensor_create(&k, RQ_DTYPE_S64, &(rq_shape) { 1, { 1 } }, true), RQ_OK);
    k.s64[0] = INT64_C(1) << 40;
    OK(rq_edit_add_constant(g, "large", &k, &err));
    OK(rq_edit_add_node(g,
                        &(rq_edit_node) { .op = "Add",
                                          .in = (const char *[]) { "x", "large" },
                                          .out = (const char *[]) { "y" },
                                          .n_in = 2,
                                          .n_out = 1 },
                        NULL, &err));
    OK(rq_edit_add_output(g, "y", &err));
    OK(rq_edit_check(g, &err));
    expect_refused(g, NULL, RQ_UNSUPPORTED,
                   "axis 1 of input 'x' [1,?] has no size ('length'); give it, for example --shape x:1x3x224x224, or a "
                   "range (1..16)");
    const rq_coreml_axis sizes[] = { { 1, 1 }, { 7, 7 } };
    expect_refused(
        g, &(rq_coreml_cfg) { .input = &(rq_coreml_input) { .name = "x", .axis = sizes, .rank = 2 }, .n_inputs = 1 },
        RQ_UNSUPPORTED, "constant 'large' has the number 1099511627776, which int32 of Core ML cannot hold");
    rq_tensor_release(&k);
    rq_graph_destroy(g);
}

/* 8-bit integers are int32 in a program, and wrap as they do in the graph. */
static void narrow_integers(void **state)
{
    (void)state;
    static const char *const chain[][3] = {
        { "Cast", "x", "a" }, { "Neg", "a", "b" }, { "Abs", "b", "c" }, { "Cast", "c", "y" }
    };
    rq_err err = { 0 };
    rq_graph *g = NULL, *again = NULL;
    rq_tensor x, want = { 0 }, got = { 0 };
    const rq_shape three = { 1, { 3 } };
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    OK(rq_edit_set_opset(g, "", 17, &err));
    OK(rq_edit_add_input(g, "x", RQ_DTYPE_S32, &three, &err));
    for (int i = 0; i < 4; i++) {
        int id;
        OK(rq_edit_add_node(g,
                            &(rq_edit_node) { .op = chain[i][0],
                                              .in = (const char *[]) { chain[i][1] },
                                              .out = (const char *[]) { chain[i][2] },
                                              .n_in = 1,
                                              .n_out = 1 },
                            &id, &err));
        if (i % 3 == 0)
            OK(rq_edit_set_int(g, id, "to", i ? 6 : 3, &err));
    }
    OK(rq_edit_add_output(g, "y", &err));
    assert_int_equal(rq_tensor_create(&x, RQ_DTYPE_S32, &three, false), RQ_OK);
    memcpy(x.s32, (int32_t[]) { -128, 5, 127 }, x.bytes);
    rq_coreml *m = convert(g, NULL, NULL);
    OK(rq_coreml_to_graph(&again, m, NULL, &err));
    for (int i = 0; i < 2; i++) {
        rq_session *s = NULL;
        OK(rq_session_create(&s, i ? again : g, &(rq_session_cfg) { .threads = 1 }, &err));
        OK(rq_session_run(s, &(rq_feed) { .name = "x", .tensor = x }, 1, i ? &got : &want, &err));
        rq_session_destroy(s);
    }
    assert_int_equal(want.s32[0], -128);
    assert_memory_equal(got.s32, want.s32, want.bytes);
    rq_tensor_release(&x);
    rq_tensor_release(&want);
    rq_tensor_release(&got);
    rq_graph_destroy(again);
    rq_coreml_close(m);
    rq_graph_destroy(g);
}

/* An epsilon that fp16 has not is its smallest number, not zero; more than five axes are said. */
static void small_epsilon_many_axes(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_tensor k, t;
    char *notes;
    int id;
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    assert_int_equal(rq_tensor_create(&k, RQ_DTYPE_F32, &(rq_shape) { 1, { 4 } }, true), RQ_OK);
    OK(rq_edit_set_opset(g, "", 17, &err));
    OK(rq_edit_add_input(g, "x", RQ_DTYPE_F32, &(rq_shape) { 6, { 1, 2, 1, 2, 1, 4 } }, &err));
    OK(rq_edit_add_constant(g, "gain", &k, &err));
    OK(rq_edit_add_node(g,
                        &(rq_edit_node) { .op = "LayerNormalization",
                                          .in = (const char *[]) { "x", "gain" },
                                          .out = (const char *[]) { "y" },
                                          .n_in = 2,
                                          .n_out = 1 },
                        &id, &err));
    OK(rq_edit_set_float(g, id, "epsilon", 1e-12f, &err));
    OK(rq_edit_add_output(g, "y", &err));
    rq_coreml *m = convert(g, &(rq_coreml_cfg) { .compute = RQ_COREML_COMPUTE_F16 }, &notes);
    const char *name = rq_mil_op_arg(op_named(m, "y__pre__output__fp32__cast"), "epsilon")->binding[0].name;
    OK(rq_coreml_tensor(m, &t, rq_mil_op_attr(op_named(m, name), "val"), &err));
    assert_true(rq_tensor_get(&t, 0) == 0x1p-24);
    assert_non_null(strstr(notes, "has 6 axes: Core ML computes with 5 at most"));
    rq_tensor_release(&t);
    rq_tensor_release(&k);
    rq_free(notes);
    rq_coreml_close(m);
    rq_graph_destroy(g);
}

/* The weights of a graph are not copied, and stay when it goes. */
static void weights_in_common(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_tensor w;
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    assert_int_equal(rq_tensor_create(&w, RQ_DTYPE_F32, &(rq_shape) { 4, { 512, 512, 3, 3 } }, true), RQ_OK);
    w.f32[7] = 2.5f;
    OK(rq_edit_set_opset(g, "", 17, &err));
    OK(rq_edit_add_input(g, "x", RQ_DTYPE_F32, &(rq_shape) { 4, { 1, 512, 3, 3 } }, &err));
    OK(rq_edit_add_constant(g, "w", &w, &err));
    OK(rq_edit_add_node(
        g,
        &(rq_edit_node) {
            .op = "Conv", .in = (const char *[]) { "x", "w" }, .out = (const char *[]) { "y" }, .n_in = 2, .n_out = 1 },
        NULL, &err));
    OK(rq_edit_add_output(g, "y", &err));
    const size_t live = rq_mem_live();
    rq_coreml *m = convert(g, NULL, NULL);
    assert_true(rq_mem_live() - live < w.bytes / 8);
    rq_tensor_release(&w);
    rq_graph_destroy(g);
    const rq_mil_value *v = rq_mil_op_attr(op_named(m, "w"), "val");
    assert_true(((const float *)v->data)[7] == 2.5f);
    rq_coreml_close(m);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    rq_graph *g = make_quantized(-1);
    const char *const labels[] = { "a", "b", "c", "d", "e" };
    const rq_coreml_input in = { .name = "x", .color = RQ_COREML_RGB, .scale = 0.5f, .bias = (float[]) { 1, 2, 3 } };
    const rq_coreml_cfg cfg = {
        .compute = RQ_COREML_COMPUTE_F16, .input = &in, .n_inputs = 1, .labels = labels, .n_labels = 5
    };
    for (size_t i = 1;; i++) {
        rq_coreml *m;
        char *notes;
        rq_err err = { 0 };
        const size_t live = rq_mem_live();
        rq_mem_fail_after(i, true);
        const rq_status st = rq_coreml_from_graph(&m, g, &cfg, &notes, &err);
        rq_mem_fail_after(0, false);
        if (!st) {
            rq_coreml_close(m);
            rq_free(notes);
            assert_int_equal(rq_mem_live(), live);
            break;
        }
        assert_int_equal(st, RQ_NO_MEMORY);
        assert_int_equal(rq_mem_live(), live);
        assert_true(err.text[0] != 0);
    }
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(net_in_f32),
                                        cmocka_unit_test(net_in_f16),
                                        cmocka_unit_test(quantized_for_each_target),
                                        cmocka_unit_test(notes_of_settings),
                                        cmocka_unit_test(blocks_need_ios18),
                                        cmocka_unit_test(shapes_that_vary),
                                        cmocka_unit_test(images_and_labels),
                                        cmocka_unit_test(description_of_another),
                                        cmocka_unit_test(odd_ends),
                                        cmocka_unit_test(refusals),
                                        cmocka_unit_test(narrow_integers),
                                        cmocka_unit_test(small_epsilon_many_axes),
                                        cmocka_unit_test(weights_in_common),
                                        cmocka_unit_test(every_allocation_may_fail) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
