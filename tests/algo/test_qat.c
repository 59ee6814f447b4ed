/* Recipes of quantization-aware training: what each sets, beside the numbers of its source; scales from calibrators. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "algo/linear_quantizer.h"
#include "base/mem.h"
#include "ok.h"
#include "requant/requant.h"

static void names_of_presets(void **state)
{
    (void)state;
    rq_qat_preset p;
    for (int i = 0; i < RQ_N_QAT_PRESETS; i++) {
        OK(rq_qat_preset_parse(&p, rq_qat_preset_name((rq_qat_preset)i), &err));
        assert_int_equal(p, i);
    }
    OK(rq_qat_preset_parse(&p, "lsq_plus", &err));
    assert_int_equal(p, RQ_QAT_LSQ_PLUS);
    assert_int_equal(rq_qat_preset_parse(&p, "nvidai", &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "the nearest is 'nvidia'"));
    assert_string_equal(rq_qat_preset_name((rq_qat_preset)99), "?");
}

/* pytorch-quantization's example: 90 epochs from 0.1 become these. */
static void nvidia_fine_tunes_a_tenth(void **state)
{
    (void)state;
    static const double want[] = { 0.001,         0.00097014785, 0.000884192, 0.0007525,     0.00059095585,
                                   0.00041904415, 0.0002575,     0.000125808, 3.9852153e-05, 1e-05 };
    rq_qat_preset_cfg p = rq_qat_preset_defaults();
    rq_train_cfg t = rq_train_defaults();
    rq_linear_quantizer_config *c = NULL;
    p.original_lr = 0.1;
    p.original_epochs = 90;
    OK(rq_qat_preset_apply(RQ_QAT_NVIDIA, &p, &c, &t, &err));
    assert_int_equal(t.epochs, 9);
    assert_true(t.schedule_epochs && t.schedule.kind == RQ_SCHEDULE_COSINE && t.schedule.total == 9);
    for (int i = 0; i < 10; i++)
        assert_true(fabs(rq_schedule_lr(&t.schedule, i) / want[i] - 1) < 1e-6);
    const rq_module_linear_quantizer_config m = rq_linear_quantizer_config_effective(c);
    assert_true(!m.has_milestones && !m.learnable && rq_qscheme_is_symmetric(m.quantization_scheme));
    rq_linear_quantizer_config_destroy(c);

    p.original_epochs = 15; /* never none */
    OK(rq_qat_preset_apply(RQ_QAT_NVIDIA, &p, &c, &t, &err));
    assert_int_equal(t.epochs, 2);
    rq_linear_quantizer_config_destroy(c);

    p = rq_qat_preset_defaults(); /* what is not said stays */
    t.epochs = 4;
    t.optimizer.lr = 0.002;
    OK(rq_qat_preset_apply(RQ_QAT_NVIDIA, &p, &c, &t, &err));
    assert_int_equal(t.epochs, 4);
    assert_true(t.schedule.lr == 0.002 && fabs(t.schedule.lr_min - 2e-5) < 1e-18);
    rq_linear_quantizer_config_destroy(c);
}

static void coreml_has_the_documentations_proportions(void **state)
{
    (void)state;
    rq_qat_preset_cfg p = rq_qat_preset_defaults();
    rq_train_cfg t = rq_train_defaults(), before = t;
    rq_linear_quantizer_config *c = NULL;
    p.steps = 1000;
    OK(rq_qat_preset_apply(RQ_QAT_COREML, &p, &c, &t, &err));
    const rq_module_linear_quantizer_config m = rq_linear_quantizer_config_effective(c);
    static const int64_t want[4] = { 0, 100, 400, 200 };
    assert_true(m.has_milestones && !memcmp(m.milestones, want, sizeof want));
    assert_memory_equal(&t.optimizer, &before.optimizer, sizeof t.optimizer);
    rq_linear_quantizer_config_destroy(c);
    OK(rq_qat_preset_apply(RQ_QAT_COREML, NULL, &c, &t, &err));
    assert_false(rq_linear_quantizer_config_effective(c).has_milestones);
    rq_linear_quantizer_config_destroy(c);
}

static rq_graph *network(void)
{
    rq_nn *n = NULL;
    rq_graph *g = NULL;
    OK(rq_nn_create(&n, 5));
    rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { rq_nn_dim(n, "batch"), 1, 6, 6 });
    x = rq_nn_conv2d(n, "stem", x, 4, 3, NULL);
    x = rq_nn_relu(n, "relu1", x);
    x = rq_nn_conv2d(n, "body", x, 4, 3, NULL);
    x = rq_nn_relu(n, "relu2", x);
    x = rq_nn_flatten(n, "flatten", x, 1);
    x = rq_nn_linear(n, "head", x, 3, NULL);
    rq_nn_output(n, "y", x);
    OK(rq_nn_finish(n, &g, &err));
    return g;
}

static void learned_steps_of_the_papers(void **state)
{
    (void)state;
    rq_graph *g = network();
    static const struct {
        int bits;
        double lr, decay;
    } cases[] = { { 8, 0.001, 1e-4 }, { 4, 0.01, 1e-4 }, { 3, 0.01, 0.5e-4 }, { 2, 0.01, 0.25e-4 } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int plus = 0; plus < 2; plus++) {
            rq_qat_preset_cfg p = rq_qat_preset_defaults();
            rq_train_cfg t = rq_train_defaults();
            rq_linear_quantizer_config *c = NULL;
            rq_module_linear_quantizer_config m;
            p.weights_bits = cases[i].bits;
            p.activations_bits = cases[i].bits < 4 ? 4 : cases[i].bits;
            p.steps = 500;
            p.g = g;
            OK(rq_qat_preset_apply(plus ? RQ_QAT_LSQ_PLUS : RQ_QAT_LSQ, &p, &c, &t, &err));
            assert_true(t.optimizer.lr == cases[i].lr && t.optimizer.momentum == 0.9 &&
                        t.optimizer.weight_decay == cases[i].decay && t.schedule.kind == RQ_SCHEDULE_COSINE);
            assert_true(rq_linear_quantizer_config_global(c, &m));
            assert_true(m.learnable && m.weight_n_bits == cases[i].bits && m.activation_n_bits == p.activations_bits);
            assert_int_equal(rq_qscheme_is_symmetric(m.quantization_scheme), !plus);
            assert_int_equal(m.weight_observer, plus ? RQ_OBSERVER_LSQ_PLUS : RQ_OBSERVER_LSQ);
            assert_true(m.milestones[2] == 1 && m.milestones[3] == 450);
            rq_notes notes = { 0 };
            OK(rq_linear_quantizer_config_warnings(c, &notes));
            assert_int_equal(notes.n, 0);
            const char *first, *last;
            const int ends = rq_linear_quantizer_config_module_name(c, 0, &first, NULL, &m);
            assert_int_equal(ends, cases[i].bits == 8 ? 0 : 2);
            if (ends) {
                assert_true(!strcmp(first, "stem") && m.weight_n_bits == 8 && m.activation_n_bits == 8);
                rq_linear_quantizer_config_module_name(c, 1, &last, NULL, &m);
                assert_true(!strcmp(last, "head") && m.weight_n_bits == 8);
            }
            rq_linear_quantizer *q = NULL; /* the rules fit */
            OK(rq_linear_quantizer_create(&q, g, c, &err));
            OK(rq_linear_quantizer_prepare(q, &err));
            rq_linear_quantizer_destroy(q);
            rq_linear_quantizer_config_destroy(c);
        }
    rq_graph_destroy(g);
}

static void presets_refuse(void **state)
{
    (void)state;
    rq_train_cfg t = rq_train_defaults();
    rq_linear_quantizer_config *c = NULL;
    rq_qat_preset_cfg p = rq_qat_preset_defaults();
    p.weights_bits = 9;
    assert_int_equal(rq_qat_preset_apply(RQ_QAT_LSQ, &p, &c, &t, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "9 bits for weights"));
    p = rq_qat_preset_defaults();
    p.activations_bits = 1;
    assert_int_equal(rq_qat_preset_apply(RQ_QAT_LSQ, &p, &c, &t, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "1 bits for activations"));
    p = rq_qat_preset_defaults();
    p.original_lr = (double)NAN;
    assert_int_equal(rq_qat_preset_apply(RQ_QAT_NVIDIA, &p, &c, &t, &err), RQ_BAD_ARG);
    p = rq_qat_preset_defaults();
    p.original_epochs = -1;
    assert_int_equal(rq_qat_preset_apply(RQ_QAT_NVIDIA, &p, &c, &t, &err), RQ_BAD_ARG);
    assert_int_equal(rq_qat_preset_apply((rq_qat_preset)7, NULL, &c, &t, &err), RQ_BAD_ARG);
    assert_null(c);
}

/* ---- calibration ---- */

static float x[32 * 36];

static rq_dataset *samples(const rq_graph *g)
{
    rq_dataset *d = NULL;
    uint32_t s = 99;
    const int64_t dims[] = { 32, 1, 6, 6 };
    for (int i = 0; i < 32 * 36; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (float)(s >> 8) / 8388608 - 1;
    }
    const rq_dataset_array a = { .name = "x", .dtype = RQ_DTYPE_F32, .shape = rq_shape_of(4, dims), .data = x };
    OK(rq_dataset_create(&d, &a, 1, g, NULL, &err));
    return d;
}

static float scale_of(const rq_linear_quantizer *q, const char *name, int i, int *zero_point)
{
    rq_fake_quantizer *const *fakes;
    const char *const *names;
    const int n = rq_linear_quantizer_fakes(q, &fakes, &names);
    for (int k = 0; k < n; k++)
        if (!strcmp(names[k], name)) {
            rq_qparams p;
            assert_false(rq_fake_quantizer_observer_enabled(fakes[k]));
            assert_true(rq_fake_quantizer_fake_quant_enabled(fakes[k]));
            OK(rq_fake_quantizer_qparams(fakes[k], &p, NULL, &err));
            assert_true(i < p.n);
            const float scale = p.scale[i];
            *zero_point = p.zero_point[i];
            rq_qparams_release(&p);
            return scale;
        }
    fail_msg("no fake-quantizer '%s'", name);
    return 0;
}

static rq_linear_quantizer *prepared(const rq_graph *g, const char *config)
{
    rq_linear_quantizer *q = NULL;
    rq_linear_quantizer_config *c = NULL;
    OK(rq_linear_quantizer_config_from_dict(&c, config, &err));
    OK(rq_linear_quantizer_create(&q, g, c, &err));
    OK(rq_linear_quantizer_prepare(q, &err));
    rq_linear_quantizer_config_destroy(c);
    return q;
}

/* Largest |stem(x)| after the ReLU, in f64. */
static double largest_output(const rq_graph *g)
{
    const float *w = g->values[rq_graph_find(g, "stem.weight")].constant.f32;
    const float *b = g->values[rq_graph_find(g, "stem.bias")].constant.f32;
    double most = 0;
    for (int i = 0; i < 32; i++)
        for (int c = 0; c < 4; c++)
            for (int p = 0; p < 16; p++) {
                double v = (double)b[c];
                for (int k = 0; k < 9; k++)
                    v += (double)w[c * 9 + k] * (double)x[i * 36 + (p / 4 + k / 3) * 6 + p % 4 + k % 3];
                most = fmax(most, v);
            }
    return most;
}

/* Not fmax(), on which gcc 12 for arm64 fails. */
static double largest_magnitude(const float *v, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++) {
        const double m = fabs((double)v[i]);
        most = m > most ? m : most;
    }
    return most;
}

static void scales_from_the_largest_magnitude(void **state)
{
    (void)state;
    rq_graph *g = network();
    rq_dataset *d = samples(g);
    rq_qat_calibrate_cfg cfg = rq_qat_calibrate_defaults();
    cfg.calibrator = rq_calibrator_defaults(RQ_CALIBRATOR_MAX);
    cfg.method = RQ_AMAX_MAX;
    const double most = largest_magnitude(x, 32 * 36);
    for (int bits = 8; bits >= 4; bits -= 4) {
        char config[200];
        int zero;
        snprintf(config, sizeof config, "{global_config: {weight_dtype: qint%d, activation_n_bits: %d}}", bits, bits);
        rq_linear_quantizer *q = prepared(g, config);
        OK(rq_qat_calibrate(q, d, &cfg, &err));
        const double top = bits == 8 ? 127 : 7;
        assert_true(fabs((double)scale_of(q, "activation_post_process_0", 0, &zero) / (most / top) - 1) < 1e-6);
        assert_int_equal(zero, bits == 8 ? 128 : 8);
        assert_true(
            fabs((double)scale_of(q, "activation_post_process_1", 0, &zero) / (largest_output(g) / (2 * top + 1)) - 1) <
            1e-5);
        assert_int_equal(zero, 0);
        const float *w = g->values[rq_graph_find(g, "stem.weight")].constant.f32;
        for (int c = 0; c < 4; c++) {
            const double amax = largest_magnitude(w + (ptrdiff_t)c * 9, 9);
            assert_true(fabs((double)scale_of(q, "stem.weight_fake_quant", c, &zero) / (amax / top) - 1) < 1e-6);
            assert_int_equal(zero, 0);
        }
        rq_graph *out = NULL;
        OK(rq_linear_quantizer_finalize(q, &out, &err));
        rq_graph_destroy(out);
        rq_linear_quantizer_destroy(q);
    }
    rq_dataset_close(d);
    rq_graph_destroy(g);
}

static void any_calibrator_and_learnable_ones(void **state)
{
    (void)state;
    rq_graph *g = network();
    rq_dataset *d = samples(g);
    static const rq_amax_method methods[] = { RQ_AMAX_PERCENTILE, RQ_AMAX_ENTROPY, RQ_AMAX_MSE, RQ_AMAX_MAX };
    for (int i = 0; i < 4; i++) {
        rq_qat_calibrate_cfg cfg = rq_qat_calibrate_defaults();
        int zero;
        cfg.method = methods[i];
        cfg.batches = i == 3 ? 1 : 0;
        rq_linear_quantizer *q = prepared(g, "{}");
        OK(rq_qat_calibrate(q, d, &cfg, &err));
        const float s = scale_of(q, "activation_post_process_0", 0, &zero);
        assert_true(s > 0.5f / 127 && s <= 1.001f / 127);
        rq_linear_quantizer_destroy(q);
    }
    rq_linear_quantizer *q = prepared(g, "{global_config: {algorithm: learnable}}");
    OK(rq_qat_calibrate(q, d, NULL, &err));
    rq_fake_quantizer *const *fakes;
    const int n = rq_linear_quantizer_fakes(q, &fakes, NULL);
    for (int i = 0; i < n; i++)
        assert_true(rq_fake_quantizer_trains_scale(fakes[i]));
    rq_linear_quantizer_destroy(q);

    q = prepared(g, "{global_config: {quantization_scheme: affine}}");
    assert_int_equal(rq_qat_calibrate(q, d, NULL, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "expected symmetric"));
    rq_linear_quantizer_destroy(q);
    OK(rq_linear_quantizer_create(&q, g, NULL, &err));
    assert_int_equal(rq_qat_calibrate(q, d, NULL, &err), RQ_BAD_ARG);
    rq_linear_quantizer_destroy(q);
    rq_dataset_close(d);
    rq_graph_destroy(g);
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    rq_graph *g = network();
    rq_dataset *d = samples(g);
    rq_linear_quantizer *q = prepared(g, "{}");
    rq_train_cfg t = rq_train_defaults();
    rq_qat_calibrate_cfg cfg = rq_qat_calibrate_defaults();
    rq_qat_preset_cfg p = rq_qat_preset_defaults();
    p.weights_bits = 4;
    p.g = g;
    cfg.threads = 1;
    cfg.batches = 1;
    for (int what = 0; what < 2; what++) {
        bool done = false;
        for (size_t i = 1; i < 5000 && !done; i++) {
            rq_linear_quantizer_config *c = NULL;
            rq_mem_fail_after(i, false);
            const rq_status s =
                what ? rq_qat_calibrate(q, d, &cfg, &err) : rq_qat_preset_apply(RQ_QAT_LSQ, &p, &c, &t, &err);
            rq_mem_fail_after(0, false);
            done = s == RQ_OK;
            if (!done)
                assert_int_equal(s, RQ_NO_MEMORY);
            rq_linear_quantizer_config_destroy(c);
        }
        assert_true(done);
    }
    rq_linear_quantizer_destroy(q);
    rq_dataset_close(d);
    rq_graph_destroy(g);
    assert_int_equal(rq_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_presets),
        cmocka_unit_test(nvidia_fine_tunes_a_tenth),
        cmocka_unit_test(coreml_has_the_documentations_proportions),
        cmocka_unit_test(learned_steps_of_the_papers),
        cmocka_unit_test(presets_refuse),
        cmocka_unit_test(scales_from_the_largest_magnitude),
        cmocka_unit_test(any_calibrator_and_learnable_ones),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
