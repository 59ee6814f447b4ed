/* The trainer over a LinearQuantizer: calibrated, trained, interrupted, finished; and scales taken from a model that is quantized already. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "requant/edit.h"
#include "requant/ptq.h"
#include "requant/qat.h"
#include "requant/report.h"

static rq_err err;

static void ok(rq_status st)
{
    if (st)
        fail_msg("%s: %s", rq_status_text(st), err.text);
}

static rq_graph *load(const char *path)
{
    rq_graph *g;
    ok(rq_load(&g, path, &err));
    return g;
}

static rq_dataset *digits(const rq_graph *g, const char *which)
{
    char path[80];
    rq_dataset *d;
    snprintf(path, sizeof path, "models/digits-%s.npz", which);
    ok(rq_dataset_open(&d, path, g, &(rq_dataset_cfg) { .batch = 50 }, &err));
    return d;
}

/* The digits CNN with 4-bit weights: what calibration alone costs, training gives back. */
static rq_linear_quantizer *quantizer(const rq_graph *g, bool learnable)
{
    rq_linear_quantizer_config *c;
    rq_linear_quantizer *q;
    rq_module_linear_quantizer_config m = rq_module_linear_quantizer_defaults();
    m.weight_n_bits = 3;
    m.activation_n_bits = 4;
    m.has_milestones = true;
    m.milestones[0] = 0, m.milestones[1] = 3, m.milestones[2] = 30, m.milestones[3] = 40;
    if (learnable) {
        m.learnable = true;
        m.weight_observer = m.activation_observer = RQ_OBSERVER_LSQ;
    }
    ok(rq_linear_quantizer_config_create(&c));
    ok(rq_linear_quantizer_config_set_global(c, &m, &err));
    ok(rq_linear_quantizer_create(&q, g, c, &err));
    ok(rq_linear_quantizer_prepare(q, &err));
    rq_linear_quantizer_config_destroy(c);
    return q;
}

static int64_t cancel_in;

static bool maybe_cancel(void *arg, const char *phase, int64_t done, int64_t total, double eta)
{
    return strncmp(phase, "epoch", 5) != 0 || cancel_in == 0 || --cancel_in > 0;
}

typedef struct outcome {
    double before, after; /* accuracy */
    rq_status status;
} outcome;

static outcome train(const rq_graph *g, bool learnable, const char *folder, int64_t cancel, int threads, const char *to)
{
    outcome o;
    double loss;
    rq_trainer *t;
    rq_graph *out;
    rq_linear_quantizer *q = quantizer(g, learnable);
    rq_dataset *data = digits(g, "train"), *eval = digits(g, "test");
    rq_train_cfg cfg = rq_train_defaults();
    cfg.epochs = 3;
    cfg.threads = threads;
    cfg.optimizer.lr = 0.005;
    cfg.optimizer.momentum = 0.9;
    cfg.optimizer.scale_lr = 0.1;
    cfg.checkpoint = folder;
    cfg.resume = folder;
    cfg.checkpoint_steps = folder ? 5 : 0;
    cfg.progress = maybe_cancel;
    cancel_in = cancel;
    ok(rq_trainer_create(&t, NULL, q, &cfg, &err));
    ok(rq_trainer_calibrate(t, data, 4, &err));
    ok(rq_trainer_evaluate(t, eval, &loss, &o.before, &err));
    o.status = rq_trainer_run(t, data, eval, &err);
    o.after = rq_trainer_result(t).eval_accuracy;
    rq_trainer_destroy(t);
    if (!o.status) {
        ok(rq_linear_quantizer_finalize(q, &out, &err));
        ok(rq_save(out, to, &err));
        rq_graph_destroy(out);
    }
    rq_linear_quantizer_destroy(q);
    rq_dataset_close(data);
    rq_dataset_close(eval);
    return o;
}

static void same_files(const char *a, const char *b)
{
    static char x[1 << 18], y[1 << 18];
    FILE *f = fopen(a, "rb"), *g = fopen(b, "rb");
    assert_non_null(f);
    assert_non_null(g);
    const size_t n = fread(x, 1, sizeof x, f), m = fread(y, 1, sizeof y, g);
    fclose(f);
    fclose(g);
    assert_int_equal(n, m);
    assert_true(n > 0 && n < sizeof x);
    assert_memory_equal(x, y, n);
}

#define WHOLE RQ_TEST_TMP "/qat-whole.onnx"
#define PART RQ_TEST_TMP "/qat-part.onnx"

static void remove_checkpoint(const char *folder)
{
    char path[256];
    snprintf(path, sizeof path, "%s/checkpoint.npz", folder);
    unlink(path);
    rmdir(folder);
}

static void few_bits_are_learnt_and_runs_go_on(void **state)
{
    const char *folder = RQ_TEST_TMP "/qat-resume";
    rq_graph *g = load("models/digits-cnn.onnx");
    rq_dataset *test = digits(g, "test");
    for (int learnable = 0; learnable < 2; learnable++) {
        const outcome whole = train(g, learnable, NULL, 0, 1, WHOLE);
        ok(whole.status);
        assert_true(whole.after > whole.before || whole.after >= 0.98);
        assert_true(whole.after >= 0.95);
        /* real integers answer as the simulation did, although (epoch 1) observers were still on: they follow no weight that nobody evaluated */
        rq_graph *back = load(WHOLE);
        rq_eval e;
        ok(rq_eval_run(&e, back, test, NULL, &err));
        if (!(fabs(e.accuracy - whole.after) <= 0.01))
            fail_msg("%.4f in integers, %.4f simulated", e.accuracy, whole.after);
        rq_eval_release(&e);
        rq_graph_destroy(back);
        /* threads, and being interrupted between the milestones, change no byte */
        static const int64_t moments[] = { 12, 33 };
        for (int i = 0; i < 2; i++) {
            remove_checkpoint(folder);
            assert_int_equal(train(g, learnable, folder, moments[i], 1, PART).status, RQ_CANCELLED);
            ok(train(g, learnable, folder, 0, 2, PART).status);
            same_files(WHOLE, PART);
        }
    }
    remove_checkpoint(folder);
    rq_dataset_close(test);
    rq_graph_destroy(g);
}

/* Milestones that observe, and learned scales that begin with an observation, do not undo the scales a model had. */
static void scales_of_a_quantized_model_outlive_milestones(void **state)
{
    static const char *const configs[] = {
        "{\"global_config\": {\"milestones\": [0, 1, 2, 3]}}",
        "{\"global_config\": {\"algorithm\": \"learnable\", \"milestones\": [0, 0, 1, -1]}}",
    };
    rq_graph *g = load("models/digits-cnn.onnx"), *base;
    rq_dataset *data = digits(g, "train");
    rq_ptq_cfg ptq = rq_ptq_defaults();
    ok(rq_ptq(g, data, &ptq, NULL, &err));
    ok(rq_graph_copy(&base, g));
    ok(rq_dequantize(base, &err));
    for (int i = 0; i < 2; i++) {
        rq_linear_quantizer_config *c;
        rq_linear_quantizer *q;
        rq_fake_quantizer *const *fakes;
        rq_trainer *t;
        float scales[64];
        int taken, held = 0;
        ok(rq_linear_quantizer_config_from_dict(&c, configs[i], &err));
        ok(rq_linear_quantizer_create(&q, base, c, &err));
        ok(rq_linear_quantizer_prepare(q, &err));
        ok(rq_trainer_create(&t, NULL, q, NULL, &err));
        ok(rq_trainer_calibrate(t, data, 100, &err));
        ok(rq_qat_take_scales(q, g, &taken, &err));
        const int n = rq_linear_quantizer_fakes(q, &fakes, NULL);
        assert_true(taken > 6 && n <= 64);
        for (int f = 0; f < n; f++)
            scales[f] = rq_fake_quantizer_observer_enabled(fakes[f]) ? 0 : rq_fake_quantizer_scale(fakes[f])[0];
        for (int step = 0; step < 4; step++) {
            ok(rq_linear_quantizer_step(q, NULL, &err));
            double loss, accuracy;
            ok(rq_trainer_evaluate(t, data, &loss, &accuracy, &err));
            for (int f = 0; f < n; f++)
                if (scales[f] > 0) {
                    assert_false(rq_fake_quantizer_observer_enabled(fakes[f]));
                    assert_true(rq_fake_quantizer_scale(fakes[f])[0] == scales[f]);
                    held++;
                }
        }
        assert_int_equal(held, 4 * taken);
        /* pixels are 0 to 1: the input's codes, whose zero is in the middle where scales are learned, reach as far */
        const double reach = i ? 127 : 255, scale = rq_fake_quantizer_scale(fakes[0])[0];
        if (!(fabs(scale - 1 / reach) < 1e-4))
            fail_msg("the scale of the input is %g", scale);
        rq_trainer_destroy(t);
        rq_linear_quantizer_destroy(q);
        rq_linear_quantizer_config_destroy(c);
    }
    rq_graph_destroy(base);
    rq_dataset_close(data);
    rq_graph_destroy(g);
}

/* Scales of a model that post-training quantization made: the same integers come out, as nothing was trained. */
static void scales_of_a_quantized_model_are_where_it_starts(void **state)
{
    rq_graph *annotated = load("models/digits-cnn.onnx"), *g, *base, *out;
    rq_dataset *data = digits(annotated, "train"), *test = digits(annotated, "test");
    rq_ptq_cfg ptq = rq_ptq_defaults();
    rq_linear_quantizer *q;
    rq_fake_quantizer *const *fakes;
    rq_trainer *t;
    int taken;
    ok(rq_ptq(annotated, data, &ptq, NULL, &err));
    ok(rq_save(annotated, WHOLE, &err));
    g = load(WHOLE);
    ok(rq_graph_copy(&base, g));
    ok(rq_dequantize(base, &err));
    ok(rq_linear_quantizer_create(&q, base, NULL, &err));
    ok(rq_linear_quantizer_prepare(q, &err));
    ok(rq_trainer_create(&t, NULL, q, NULL, &err));
    ok(rq_trainer_calibrate(t, data, 100, &err));
    ok(rq_qat_take_scales(q, g, &taken, &err));
    const int n = rq_linear_quantizer_fakes(q, &fakes, NULL);
    /* each fake-quantizer of an activation that has a counterpart says what the file says */
    rq_value_info v;
    const rq_graph *model = rq_linear_quantizer_model(q);
    int compared = 0;
    for (int i = 0; i < rq_edit_n_nodes(model); i++) {
        rq_edit_node node;
        if (!rq_edit_node_at(model, i, &node) || strcmp(node.op, "FakeQuantize") != 0)
            continue;
        const int64_t slot = rq_edit_int(model, i, "slot", -1);
        const char *value = rq_edit_node_in(model, i, 0), *as = rq_edit_node_out(model, i, 0);
        if ((rq_edit_value(annotated, value, &v, NULL) || !v.quant) &&
            (rq_edit_value(annotated, as, &v, NULL) || !v.quant))
            continue; /* the output, which ends in reals */
        if (v.quant->dtype != RQ_DTYPE_U8)
            continue;
        assert_true(rq_fake_quantizer_scale(fakes[slot])[0] == v.quant->scale[0]);
        assert_true(rq_fake_quantizer_zero_point(fakes[slot])[0] == (float)v.quant->zero_point[0]);
        assert_false(rq_fake_quantizer_observer_enabled(fakes[slot]));
        compared++;
    }
    assert_true(compared >= 6);
    assert_int_equal(taken, n - 1);
    rq_trainer_destroy(t);
    ok(rq_linear_quantizer_finalize(q, &out, &err));
    rq_eval a, b;
    ok(rq_eval_run(&a, g, test, NULL, &err));
    ok(rq_eval_run(&b, out, test, NULL, &err));
    assert_true(fabs(a.accuracy - b.accuracy) <= 0.01);
    rq_eval_release(&a);
    rq_eval_release(&b);
    rq_linear_quantizer_destroy(q);
    rq_graph_destroy(out);
    rq_graph_destroy(base);
    rq_graph_destroy(annotated);
    rq_graph_destroy(g);
    rq_dataset_close(data);
    rq_dataset_close(test);
}

/* Few bits of activations are judged by the codes that those bits have, in memory and as a file tells it. */
static void few_bits_are_judged_by_their_codes(void **state)
{
    static const char path[] = RQ_TEST_TMP "/few_bits.onnx";
    rq_report r;
    rq_trainer *t;
    rq_graph *g = load("models/digits-cnn.onnx"), *out, *saved;
    rq_linear_quantizer *q = quantizer(g, true);
    rq_dataset *data = digits(g, "train");
    const rq_train_cfg cfg = rq_train_defaults();
    const rq_save_cfg form = { .spelling = RQ_SPELLING_QDQ };
    ok(rq_trainer_create(&t, NULL, q, &cfg, &err));
    ok(rq_trainer_calibrate(t, data, 100, &err));
    rq_trainer_destroy(t);
    ok(rq_linear_quantizer_finalize(q, &out, &err));
    ok(rq_save_as(out, path, &form, &err));
    ok(rq_load(&saved, path, &err));
    for (int k = 0; k < 3; k++) { /* the graph; its file; the file by itself */
        const rq_report_cfg how = { .layers = true, .origin = k == 2 ? NULL : out };
        int few = 0;
        ok(rq_report_compare(&r, g, k ? saved : out, data, &how, &err));
        for (int i = 0; i < r.n_layers; i++) {
            const rq_report_layer *l = &r.layers[i];
            if (l->dtype == RQ_DTYPE_NONE)
                continue;
            assert_int_equal(l->dtype, RQ_DTYPE_U8);
            assert_int_equal(l->bits, 4);
            assert_true(l->used > 0.3 && l->used <= 1 && l->saturated >= 0 && l->saturated <= 1);
            few++;
        }
        assert_true(few >= 9);
        assert_int_equal(r.warnings.n, 0);
        static char line[20000];
        json_error_t at;
        const int64_t n = rq_report_json(&r, line, sizeof line);
        assert_int_equal(n, strlen(line));
        assert_null(strchr(line, '\n'));
        ok(rq_report_save_json(&r, RQ_TEST_TMP "/few_bits.json", &err));
        json_t *a = json_loads(line, 0, &at), *b = json_load_file(RQ_TEST_TMP "/few_bits.json", 0, &at);
        assert_true(a && json_equal(a, b));
        json_decref(a);
        json_decref(b);
        assert_int_equal(rq_report_json(&r, line, 10), n);
        assert_int_equal(strlen(line), 9);
        rq_report_release(&r);
    }
    rq_linear_quantizer_destroy(q);
    rq_graph_destroy(out);
    rq_graph_destroy(saved);
    rq_graph_destroy(g);
    rq_dataset_close(data);
}

/* A Clip that leaves an interval which is none of b bits is one: its codes are those of its type. */
static void a_clip_is_no_width_by_itself(void **state)
{
    rq_report r;
    rq_graph *g = load("models/digits-cnn.onnx"), *out;
    rq_dataset *data = digits(g, "train");
    const rq_report_cfg how = { .layers = true };
    rq_ptq_cfg cfg = rq_ptq_defaults();
    ok(rq_graph_copy(&out, g));
    ok(rq_ptq(out, data, &cfg, NULL, &err));
    ok(rq_report_compare(&r, g, out, data, &how, &err));
    for (int i = 0; i < r.n_layers; i++)
        assert_int_equal(r.layers[i].bits, r.layers[i].dtype == RQ_DTYPE_NONE ? 32 : 8);
    rq_report_release(&r);
    rq_graph_destroy(out);
    rq_graph_destroy(g);
    rq_dataset_close(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_bits_are_learnt_and_runs_go_on),
        cmocka_unit_test(few_bits_are_judged_by_their_codes),
        cmocka_unit_test(a_clip_is_no_width_by_itself),
        cmocka_unit_test(scales_of_a_quantized_model_are_where_it_starts),
        cmocka_unit_test(scales_of_a_quantized_model_outlive_milestones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
