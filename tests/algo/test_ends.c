/* tests/algo/test_ends.c — models whose inputs and outputs are codes: a mean and a standard deviation go into the first
 * Conv without changing the function, borders included; what is written has no conversion at its ends, says in its
 * metadata what the codes mean, and gives back the real ends. What ONNX Runtime makes of such files is in
 * tests/interop, part `ends`. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "algo/ends.h"
#include "ok.h"
#include "ops/op.h"
#include "requant/requant.h"

#define GOLDEN "tests/golden/onnx/static_quant/"
#define OUT RQ_TEST_TMP "/ends.onnx"
#define SAMPLES RQ_TEST_TMP "/ends.npz"

static rq_id constant(rq_graph *g, const char *name, int rank, const int64_t *dim, double step)
{
    rq_tensor t;
    rq_id id;
    const rq_shape s = rq_shape_of(rank, dim);
    OK(rq_tensor_create(&t, RQ_DTYPE_F32, &s, true));
    for (int64_t i = 0; i < rq_tensor_count(&t); i++)
        t.f32[i] = (float)(fmod((double)i * step, 1.7) - 0.8);
    OK(rq_graph_add_const(g, &id, name, &t, &err));
    rq_tensor_release(&t);
    return id;
}

/* x [1,4,6,5] -> Conv(w, pads 1 0 2 1, `group`) -> y; op: another operator in place of the Conv. */
static rq_graph *image_model(int64_t group, const char *op)
{
    static const int64_t image[] = { 1, 4, 6, 5 }, pads[] = { 1, 0, 2, 1 };
    const int64_t kernel[] = { 8, 4 / group, 3, 2 }, eight[] = { 8 };
    rq_graph *g;
    rq_id x, y, node;
    const rq_shape s = rq_shape_of(4, image);
    OK(rq_graph_create(&g));
    OK(rq_graph_set_opset(g, "", 13));
    OK(rq_graph_add_value(g, &x, RQ_VALUE_INPUT, "x", RQ_DTYPE_F32, &s, &err));
    OK(rq_graph_add_value(g, &y, RQ_VALUE_NODE, "y", RQ_DTYPE_F32, NULL, &err));
    const rq_id in[3] = { x, constant(g, "w", 4, kernel, 0.37), constant(g, "b", 1, eight, 0.21) };
    OK(rq_graph_add_node(g, &node, op, "", "first", in, strcmp(op, "Conv") ? 1 : 3, &y, 1, &err));
    if (!strcmp(op, "Conv")) {
        OK(rq_attr_set_ints(g, node, "pads", pads, 4));
        OK(rq_attr_set_int(g, node, "group", group));
    }
    assert_true(rq_mem_grow(&g->inputs, 0, &g->cap_inputs, sizeof *g->inputs));
    assert_true(rq_mem_grow(&g->outputs, 0, &g->cap_outputs, sizeof *g->outputs));
    g->inputs[g->n_inputs++] = x;
    g->outputs[g->n_outputs++] = y;
    rq_ops_bind(g);
    OK(rq_ops_infer(g, &err));
    return g;
}

static void run(const rq_graph *g, const rq_tensor *x, rq_tensor *y)
{
    rq_session *s;
    const rq_feed feed = { rq_graph_input(g, 0).name, *x };
    const rq_session_cfg cfg = { .threads = 1 };
    OK(rq_session_create(&s, g, &cfg, &err));
    OK(rq_session_run(s, &feed, 1, y, &err));
    rq_session_destroy(s);
}

static const rq_ends four = {
    .inputs = true, .n_channels = 4, .mean = { 0.485f, 0.456f, 0.406f, 0.1f }, .std = { 0.229f, 0.224f, 0.225f, 2.0f }
};

static void folding_changes_no_number_borders_included(void **state)
{
    (void)state;
    const rq_ends same = { .inputs = true, .n_channels = 1, .mean = { 0.5f }, .std = { 0.25f } };
    const rq_ends *ends[] = { &four, &same };
    for (int64_t group = 1; group <= 4; group *= 2)
        for (int k = 0; k < 2; k++) {
            rq_graph *g = image_model(group, "Conv");
            rq_tensor x, want, got;
            const rq_shape s = rq_graph_input(g, 0).shape;
            OK(rq_tensor_create(&x, RQ_DTYPE_F32, &s, true));
            for (int64_t i = 0; i < rq_tensor_count(&x); i++)
                x.f32[i] = (float)(fmod((double)i * 0.73, 4) - 2);
            run(g, &x, &want);
            OK(rq_ends_fold(g, ends[k], &err));
            OK(rq_graph_check(g, &err));
            OK(rq_ops_infer(g, &err));
            run(g, &x, &got);
            assert_int_equal(rq_tensor_count(&got), rq_tensor_count(&want));
            for (int64_t i = 0; i < rq_tensor_count(&want); i++)
                if (!(fabsf(got.f32[i] - want.f32[i]) <= 2e-5f))
                    fail_msg("group %d: element %d is %g, was %g", (int)group, (int)i, (double)got.f32[i],
                             (double)want.f32[i]);
            rq_tensor_release(&x);
            rq_tensor_release(&want);
            rq_tensor_release(&got);
            rq_graph_destroy(g);
        }
}

static void what_cannot_be_folded_is_said(void **state)
{
    (void)state;
    rq_ends bad = four;
    rq_graph *g = image_model(1, "Relu");
    assert_int_equal(rq_ends_fold(g, &four, &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "'first' (Relu), which reads it: it is no Conv"));
    rq_graph_destroy(g);
    g = image_model(1, "Conv");
    bad.n_channels = 3;
    assert_int_equal(rq_ends_fold(g, &bad, &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "3 means were given, its axis 1 has 4 channels"));
    bad = four;
    bad.std[2] = 0;
    assert_int_equal(rq_ends_fold(g, &bad, &err), RQ_BAD_ARG);
    OK(rq_attr_set_string(g, 0, "auto_pad", "SAME_UPPER"));
    assert_int_equal(rq_ends_fold(g, &four, &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "auto_pad"));
    rq_graph_destroy(g);
}

static void codes_go_in_and_come_out(void **state)
{
    (void)state;
    rq_graph *g, *back;
    rq_dataset *data;
    rq_tensor x, codes, want, got;
    OK(rq_load(&g, GOLDEN "cnn.onnx", &err));
    OK(rq_npz_load(&x, GOLDEN "data.npz", "common/calibration", &err));
    const rq_feed feed = { rq_graph_input(g, 0).name, x };
    OK(rq_npz_save(SAMPLES, &feed, 1, &err));
    OK(rq_dataset_open(&data, SAMPLES, g, NULL, &err));
    rq_ends ends = { .inputs = true, .outputs = true, .n_channels = 1, .mean = { 0.25f }, .std = { 0.5f } };
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.threads = 1;
    cfg.ends = &ends;
    for (int form = 0; form < 2; form++) {
        rq_graph *q;
        const rq_save_cfg save = { .spelling = form ? RQ_SPELLING_QOPERATOR : RQ_SPELLING_QDQ };
        OK(rq_graph_copy(&q, g));
        OK(rq_ptq(q, data, &cfg, NULL, &err));
        OK(rq_save_as(q, OUT, &save, &err));
        OK(rq_load(&back, OUT, &err));
        assert_string_equal(rq_graph_input(back, 0).name, rq_graph_input(g, 0).name);
        assert_int_equal(rq_graph_input(back, 0).dtype, RQ_DTYPE_U8);
        assert_int_equal(rq_graph_output(back, 0).dtype, RQ_DTYPE_U8);
        assert_string_equal(rq_graph_output(back, 0).name, rq_graph_output(g, 0).name);
        for (int i = 0; i < back->n_nodes; i++) /* no number is rounded on the way in or computed on the way out */
            if (back->nodes[i].op && !strcmp(back->nodes[i].op, "QuantizeLinear"))
                assert_true(back->values[back->nodes[i].in[0]].kind == RQ_VALUE_NODE);
        /* the same through real ends: the codes of x by hand against the restored model on x */
        OK(rq_tensor_create(&codes, RQ_DTYPE_U8, &x.shape, true));
        for (int64_t i = 0; i < rq_tensor_count(&x); i++)
            codes.u8[i] = (uint8_t)lrintf((x.f32[i] * 0.5f + 0.25f) / (float)(1.0 / 255));
        run(back, &codes, &got);
        OK(rq_ends_restore(back, &err));
        assert_int_equal(rq_graph_input(back, 0).dtype, RQ_DTYPE_F32);
        run(back, &x, &want);
        const rq_value_info out = rq_graph_output(back, 0);
        assert_int_equal(out.dtype, RQ_DTYPE_F32);
        const char *meaning = NULL;
        for (int i = 0; i < back->n_meta; i++)
            if (!strncmp(back->meta[i].key, "quantization.", 13) && !strcmp(back->meta[i].key + 13, out.name))
                meaning = back->meta[i].value;
        float scale = 0;
        int zero = 0;
        assert_non_null(meaning);
        assert_int_equal(sscanf(strstr(meaning, "\"scale\""), "\"scale\": %f, \"zero_point\": %d", &scale, &zero), 2);
        for (int64_t i = 0; i < rq_tensor_count(&want); i++)
            assert_true(want.f32[i] == (float)(got.u8[i] - zero) * scale);
        rq_tensor_release(&codes);
        rq_tensor_release(&want);
        rq_tensor_release(&got);
        rq_graph_destroy(back);
        rq_graph_destroy(q);
    }
    rq_tensor_release(&x);
    rq_dataset_close(data);
    rq_graph_destroy(g);
}

static float scale_of(const rq_graph *g, const char *value)
{
    const rq_qparams *q = rq_graph_qparams(g, rq_graph_find(g, value));
    assert_non_null(q);
    return q->scale[0];
}

/* x -> Conv -> y; y and y joined -> Conv -> z. What the model calls its tensors says nothing about them. */
static void names_of_the_model_mean_nothing(void **state)
{
    (void)state;
    static const int64_t kernel[] = { 4, 16, 1, 1 }, batch[] = { 8, 4, 6, 5 };
    static const char *const names[] = { "joined", "joined_pixels" };
    const rq_shape s = rq_shape_of(4, batch);
    float scale[2];
    for (int k = 0; k < 2; k++) {
        rq_graph *g = image_model(1, "Conv");
        rq_id both, z, node;
        rq_dataset *data;
        rq_feed feed = { .name = "x" };
        OK(rq_graph_add_value(g, &both, RQ_VALUE_NODE, names[k], RQ_DTYPE_F32, NULL, &err));
        OK(rq_graph_add_value(g, &z, RQ_VALUE_NODE, "z", RQ_DTYPE_F32, NULL, &err));
        const rq_id y = g->outputs[0], pair[2] = { y, y };
        OK(rq_graph_add_node(g, &node, "Concat", "", "join", pair, 2, &both, 1, &err));
        OK(rq_attr_set_int(g, node, "axis", 1));
        const rq_id in[2] = { both, constant(g, "w2", 4, kernel, 0.29) };
        OK(rq_graph_add_node(g, &node, "Conv", "", "second", in, 2, &z, 1, &err));
        g->outputs[0] = z;
        OK(rq_tensor_create(&feed.tensor, RQ_DTYPE_F32, &s, true));
        for (int64_t i = 0; i < rq_tensor_count(&feed.tensor); i++)
            feed.tensor.f32[i] = (float)(fmod((double)i * 0.73, 4) - 2);
        OK(rq_npz_save(SAMPLES, &feed, 1, &err));
        rq_tensor_release(&feed.tensor);
        OK(rq_dataset_open(&data, SAMPLES, g, NULL, &err));
        rq_ptq_cfg cfg = rq_ptq_defaults();
        cfg.threads = 1;
        cfg.ends = &four;
        OK(rq_ptq(g, data, &cfg, NULL, &err));
        assert_true(scale_of(g, "x_pixels_padded") == (float)(1.0 / 255));
        scale[k] = scale_of(g, names[k]);
        rq_dataset_close(data);
        rq_graph_destroy(g);
    }
    assert_true(scale[0] == scale[1] && scale[0] != (float)(1.0 / 255));
}

/* A model whose channels are so uneven that layers are equalized, on a copy of what was folded. */
static void a_noisy_model_is_folded_once(void **state)
{
    (void)state;
    const rq_ends ends = { .inputs = true, .n_channels = 1, .mean = { 0.25f }, .std = { 0.5f } };
    rq_graph *g;
    rq_dataset *data;
    rq_notes notes = { 0 };
    OK(rq_load(&g, "models/digits-uneven.onnx", &err));
    OK(rq_dataset_open(&data, "models/digits-train.npz", g, NULL, &err));
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.threads = 1;
    cfg.ends = &ends;
    OK(rq_ptq(g, data, &cfg, &notes, &err));
    bool equalized = false;
    for (int i = 0; i < notes.n; i++)
        equalized |= strstr(notes.text[i], "equalized") != NULL;
    assert_true(equalized);
    assert_int_equal(rq_graph_input(g, 0).dtype, RQ_DTYPE_U8);
    assert_true(scale_of(g, "image_pixels") == (float)(1.0 / 255));
    rq_notes_release(&notes);
    rq_dataset_close(data);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folding_changes_no_number_borders_included),
        cmocka_unit_test(what_cannot_be_folded_is_said),
        cmocka_unit_test(codes_go_in_and_come_out),
        cmocka_unit_test(names_of_the_model_mean_nothing),
        cmocka_unit_test(a_noisy_model_is_folded_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
