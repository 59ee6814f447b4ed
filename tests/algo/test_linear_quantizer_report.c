/* What LinearQuantizer's report says, beside Core ML Tools' (tests/golden/coreml_config/report.txt: E3 of its acceptance list); that it changes nothing (E6);
 * the agreement of simulation and integers; statistics of batch norms taken anew. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/linear_quantizer.h"
#include "base/mem.h"
#include "ok.h"
#include "requant/requant.h"

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* The numbers of make_report.py. */
static void fill(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((37 * i + 11) % 101 - 50) / 64;
}

static rq_graph *network(void)
{
    rq_nn *n = NULL;
    rq_graph *g = NULL;
    OK(rq_nn_create(&n, 1));
    rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { rq_nn_dim(n, "batch"), 1, 6, 6 });
    x = rq_nn_conv2d(n, "conv", x, 4, 3, NULL);
    x = rq_nn_relu(n, "relu", x);
    x = rq_nn_flatten(n, "flatten", x, 1);
    x = rq_nn_linear(n, "fc1", x, 6, NULL);
    x = rq_nn_linear(n, "fc2", x, 5, NULL);
    rq_nn_output(n, "y", x);
    OK(rq_nn_finish(n, &g, &err));
    for (rq_id v = 0; v < g->n_values; v++)
        if (g->values[v].kind == RQ_VALUE_CONST && g->values[v].constant.dtype == RQ_DTYPE_F32)
            fill(g->values[v].constant.f32, rq_tensor_count(&g->values[v].constant));
    return g;
}

typedef struct trained {
    rq_linear_quantizer *q;
    rq_autograd *a;
} trained;

/* Prepare g by this config and run x through it. */
static trained prepare(const rq_graph *g, const char *config, const rq_tensor *x, bool train)
{
    trained t = { 0 };
    rq_linear_quantizer_config *c = NULL;
    OK(rq_linear_quantizer_config_from_dict(&c, config, &err));
    OK(rq_linear_quantizer_create(&t.q, g, c, &err));
    rq_linear_quantizer_config_destroy(c);
    OK(rq_linear_quantizer_prepare(t.q, &err));
    rq_autograd_cfg a = rq_autograd_defaults();
    a.threads = 1;
    a.n_fakes = rq_linear_quantizer_fakes(t.q, &a.fakes, NULL);
    OK(rq_autograd_create(&t.a, rq_linear_quantizer_model(t.q), &a, &err));
    rq_autograd_train(t.a, train);
    rq_tensor y;
    if (x)
        OK(rq_autograd_forward(t.a, &(rq_feed) { "x", *x }, 1, &y, &err));
    return t;
}

static void release(trained *t)
{
    rq_autograd_destroy(t->a);
    rq_linear_quantizer_destroy(t->q);
}

static rq_tensor batch(int64_t n)
{
    rq_tensor x;
    const int64_t dims[] = { n, 1, 6, 6 };
    const rq_shape s = rq_shape_of(4, dims);
    assert_int_equal(rq_tensor_create(&x, RQ_DTYPE_F32, &s, false), RQ_OK);
    fill(x.f32, rq_tensor_count(&x));
    return x;
}

/* One row of the file against one of ours. */
static void same_row(const char *config, char *line, const rq_linear_quantizer_row *r)
{
    char *field[10] = { line };
    for (int i = 1; i < 10; i++) {
        char *bar = strchr(field[i - 1], '|');
        assert_non_null(bar);
        *bar = 0;
        field[i] = bar + 1;
    }
    if (strcmp(field[0], r->name) != 0)
        fail_msg("%s: '%s', there '%s'", config, r->name, field[0]);
    assert_string_equal(field[1], r->is_weight ? "weight" : "activation");
    assert_string_equal(field[2], r->learnable ? "learnable" : "vanilla");
    assert_string_equal(field[3], r->symmetric ? "symmetric" : "affine");
    assert_string_equal(field[4], r->per_channel ? "True" : "False");
    assert_string_equal(field[5], r->dtype);
    assert_int_equal(atoi(field[6]), r->qmin);
    assert_int_equal(atoi(field[7]), r->qmax);
    const double error = atof(field[8]);
    if (!strcmp(field[8], "nan") ? !isnan(r->error) : !(fabs(error - r->error) <= 1e-6 * error))
        fail_msg("%s: %s: error %.9g, there %s", config, r->name, r->error, field[8]);
    assert_int_equal(atoi(field[9]), r->n_params);
    assert_int_equal(r->n_scales, !r->per_channel ? 1 : !strcmp(r->name, "conv") ? 4 : !strcmp(r->name, "fc1") ? 6 : 5);
    assert_true(r->scale_lo > 0 && r->scale_hi >= r->scale_lo);
    if (r->is_weight)
        assert_true(r->sqnr_db > 10 && r->sqnr_db < 60);
}

static void e3_rows_as_the_original_has_them(void **state)
{
    (void)state;
    FILE *f = fopen("tests/golden/coreml_config/report.txt", "r");
    assert_non_null(f);
    rq_graph *g = network();
    rq_tensor x = batch(2);
    static char line[4096];
    int lines = 0;
    for (; fgets(line, sizeof line, f); lines++) {
        line[strcspn(line, "\n")] = 0;
        char *row = strchr(line, '\t');
        *row++ = 0;
        /* compat: zero points of 4 unsigned bits are the original's (7); the numbers are the same otherwise */
        static char config[4200];
        snprintf(config, sizeof config, "{\"compat\": true, %s", line + 1);
        trained t = prepare(g, config, &x, true);
        rq_linear_quantizer_report r;
        OK(rq_linear_quantizer_report_make(&r, t.q, &err));
        for (int i = 0; i < r.n; i++) {
            char *next = row ? strchr(row, '\t') : NULL;
            if (!row)
                fail_msg("%s: %d rows", line, r.n);
            if (next)
                *next++ = 0;
            same_row(line, row, &r.rows[i]);
            row = next;
        }
        assert_null(row);
        rq_linear_quantizer_report_release(&r);
        release(&t);
    }
    assert_int_equal(lines, 32);
    fclose(f);
    rq_tensor_release(&x);
    rq_graph_destroy(g);
}

/* All that a quantizer remembers. */
static rq_state *state_of(const rq_linear_quantizer *q)
{
    rq_state *s = NULL;
    OK(rq_state_create(&s));
    OK(rq_linear_quantizer_save(q, s, ""));
    return s;
}

static void e6_reporting_changes_nothing(void **state)
{
    (void)state;
    rq_graph *g = network();
    rq_tensor x = batch(2);
    for (int train = 0; train < 2; train++) {
        trained t = prepare(g, "{\"global_config\": {\"weight_observer\": \"ema_min_max\"}}", &x, train);
        rq_state *before = state_of(t.q);
        rq_linear_quantizer_report r;
        OK(rq_linear_quantizer_report_make(&r, t.q, &err));
        rq_linear_quantizer_report_release(&r);
        rq_state *after = state_of(t.q);
        assert_int_equal(rq_autograd_is_training(t.a), train);
        assert_int_equal(rq_state_count(before), rq_state_count(after));
        for (int i = 0; i < rq_state_count(before); i++) {
            const rq_tensor *a = rq_state_tensor(before, i), *b = rq_state_tensor(after, i);
            assert_int_equal(rq_tensor_count(a), rq_tensor_count(b));
            assert_memory_equal(a->data, b->data, (size_t)rq_tensor_count(a) * rq_dtype_bits(a->dtype) / 8);
        }
        rq_state_destroy(before);
        rq_state_destroy(after);
        release(&t);
    }
    rq_tensor_release(&x);
    rq_graph_destroy(g);
}

/* Float weights, nothing seen yet, fake-quantize off: rows all the same. The original fails on the first and says error 0 for the last. */
static void what_has_no_numbers_has_a_row(void **state)
{
    (void)state;
    rq_graph *g = network();
    rq_tensor x = batch(2);
    rq_linear_quantizer_report r;
    trained t = prepare(g, "{\"global_config\": {\"weight_dtype\": \"float32\"}}", &x, true);
    OK(rq_linear_quantizer_report_make(&r, t.q, &err));
    int floats = 0;
    for (int i = 0; i < r.n; i++)
        if (r.rows[i].is_weight) {
            floats++;
            assert_string_equal(r.rows[i].dtype, "float32");
            assert_true(r.rows[i].error == 0 && r.rows[i].n_scales == 0 && r.rows[i].n_params > 0);
        }
    assert_int_equal(floats, 3);
    rq_linear_quantizer_report_release(&r);
    release(&t);

    t = prepare(g, "{}", NULL, true);
    OK(rq_linear_quantizer_report_make(&r, t.q, &err));
    for (int i = 0; i < r.n; i++)
        assert_true(isnan(r.rows[i].error) && r.rows[i].n_scales == 0);
    rq_linear_quantizer_report_release(&r);
    release(&t);

    rq_linear_quantizer *q = NULL;
    OK(rq_linear_quantizer_create(&q, g, NULL, &err));
    assert_int_equal(rq_linear_quantizer_report_make(&r, q, &err), RQ_BAD_ARG);
    rq_linear_quantizer_destroy(q);

    for (int compat = 0; compat < 2; compat++) {
        char config[200];
        snprintf(config, sizeof config, "{\"compat\": %s, \"global_config\": {\"milestones\": [0, 5, 9, 9]}}",
                 compat ? "true" : "false");
        t = prepare(g, config, NULL, true);
        rq_tensor y;
        OK(rq_linear_quantizer_step(t.q, t.a, &err));
        OK(rq_autograd_forward(t.a, &(rq_feed) { "x", x }, 1, &y, &err));
        OK(rq_linear_quantizer_report_make(&r, t.q, &err));
        for (int i = 0; i < r.n; i++)
            if (r.rows[i].is_weight)
                assert_true(compat ? r.rows[i].error == 0 : r.rows[i].error > 0);
        rq_linear_quantizer_report_release(&r);
        release(&t);
    }
    rq_tensor_release(&x);
    rq_graph_destroy(g);
}

static void read_all(FILE *f, char *text, size_t n)
{
    rewind(f);
    text[fread(text, 1, n - 1, f)] = 0;
    fclose(f);
}

static void tables_and_json(void **state)
{
    (void)state;
    rq_graph *g = network();
    rq_tensor x = batch(2);
    trained t = prepare(g, "{\"module_name_configs\": {\"fc2\": {\"weight_dtype\": \"float32\"}}}", &x, true);
    rq_linear_quantizer_report r;
    static char text[8192];
    FILE *f = tmpfile();
    OK(rq_linear_quantizer_report_make(&r, t.q, &err));
    rq_linear_quantizer_report_print(&r, f);
    read_all(f, text, sizeof text);
    assert_non_null(strstr(text, " name |       type | device | algorithm |   qscheme | per_channel |   dtype | qmin | "
                                 "qmax |   error | #params |"));
    assert_non_null(strstr(text, "-----+-") ? NULL : text);
    assert_non_null(strstr(text, "                     conv |     weight |    cpu |   vanilla | symmetric |        "
                                 "True |   qint8 | -128 |  127 |"));
    assert_non_null(strstr(
        text,
        "activation |    cpu |   vanilla |    affine |       False |  quint8 |    0 |  255 |     nan |      -1 |"));
    assert_non_null(strstr(text, "| per_channel(0) |"));
    assert_non_null(strstr(text, "float32 |    - |    - | 0.00000 |      30 |"));
    const int64_t n = rq_linear_quantizer_report_json(&r, text, sizeof text);
    assert_int_equal(n, strlen(text));
    assert_non_null(strstr(
        text,
        "\"conv\": {\"type\": \"weight\", \"device\": \"cpu\", \"algorithm\": \"vanilla\", \"qscheme\": \"symmetric\", "
        "\"per_channel\": true, \"dtype\": \"qint8\", \"qmin\": -128, \"qmax\": 127, \"error\": 0.00"));
    assert_non_null(strstr(
        text,
        "\"#params\": 36, \"n_bits\": 8, \"granularity\": \"per_channel(0)\", \"n_scales\": 4, \"scale_min\": 0.00"));
    assert_non_null(strstr(
        text, "\"qmin\": null, \"qmax\": null, \"error\": 0, \"#params\": 30, \"n_bits\": 32, \"granularity\": null"));
    rq_linear_quantizer_report_release(&r);
    f = tmpfile();
    rq_linear_quantizer_report_print(&(rq_linear_quantizer_report) { 0 }, f); /* as the original: nothing */
    read_all(f, text, sizeof text);
    assert_string_equal(text, "");
    release(&t);
    rq_tensor_release(&x);
    rq_graph_destroy(g);
}

/* ---- simulation and integers ---- */

static rq_graph *network_with_norms(void)
{
    rq_nn *n = NULL;
    rq_graph *g = NULL;
    OK(rq_nn_create(&n, 3));
    rq_nn_value x = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { rq_nn_dim(n, "batch"), 1, 6, 6 });
    x = rq_nn_conv2d(n, "conv1", x, 8, 3, &(rq_nn_conv) { .padding = 1 });
    x = rq_nn_batch_norm(n, "bn1", x, NULL);
    const rq_nn_value a = rq_nn_relu(n, "relu1", x);
    x = rq_nn_conv2d(n, "conv2", a, 8, 3, &(rq_nn_conv) { .padding = 1 });
    x = rq_nn_batch_norm(n, "bn2", x, NULL);
    x = rq_nn_add(n, x, a);
    x = rq_nn_relu(n, "relu2", x);
    x = rq_nn_flatten(n, "flatten", x, 1);
    x = rq_nn_linear(n, "fc", x, 5, NULL);
    rq_nn_output(n, "y", x);
    OK(rq_nn_finish(n, &g, &err));
    return g;
}

static rq_dataset *samples(const rq_graph *g, float *x, int64_t n, int64_t batch_size)
{
    rq_dataset *d = NULL;
    uint32_t s = 12345;
    const int64_t dims[] = { n, 1, 6, 6 };
    for (int64_t i = 0; i < n * 36; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (float)(s >> 8) / 8388608 - 1;
    }
    rq_dataset_array a = { .name = "x", .dtype = RQ_DTYPE_F32, .shape = rq_shape_of(4, dims), .data = x };
    rq_dataset_cfg cfg = { 0 };
    cfg.batch = batch_size;
    OK(rq_dataset_create(&d, &a, 1, g, &cfg, &err));
    return d;
}

static void simulation_equals_execution(void **state)
{
    (void)state;
    static float x[64 * 36];
    rq_graph *g = network_with_norms(), *out = NULL;
    rq_dataset *d = samples(g, x, 64, 16);
    trained t = prepare(g, "{}", NULL, true);
    rq_fake_quantizer *const *fakes;
    const char *const *names;
    const int n_fakes = rq_linear_quantizer_fakes(t.q, &fakes, &names);
    rq_tensor y;
    for (int i = 0; i < 4; i++) {
        const int64_t dims[] = { 16, 1, 6, 6 };
        const rq_tensor v = { .dtype = RQ_DTYPE_F32, .shape = rq_shape_of(4, dims), .data = x + i * 16 * 36 };
        OK(rq_autograd_forward(t.a, &(rq_feed) { "x", v }, 1, &y, &err));
    }
    for (int i = 0; i < n_fakes; i++)
        rq_fake_quantizer_enable_observer(fakes[i], false);
    OK(rq_linear_quantizer_finalize(t.q, &out, &err));
    rq_agreement a;
    OK(rq_agreement_measure(&a, rq_linear_quantizer_model(t.q), fakes, n_fakes, out, d, NULL, &err));
    assert_int_equal(a.samples, 64);
    assert_in_range(a.n, 4, 6); /* input, relu1, the sum's, the last */
    for (int i = 0; i < a.n; i++) {
        if (a.layers[i].named)
            fail_msg("%s: %lld of %lld differ, worst %d", a.layers[i].name, (long long)a.layers[i].differ,
                     (long long)a.layers[i].codes, (int)a.layers[i].worst);
        assert_true(a.layers[i].codes > 0);
    }
    assert_int_equal(a.layers[0].differ, 0); /* the input itself */
    assert_true((double)a.differ_in_all < 0.005 * (double)a.codes);
    rq_agreement_release(&a);

    /* the weights of one layer off by a tenth: that layer is named, and no other */
    for (rq_id i = 0; i < out->n_nodes; i++)
        if (out->nodes[i].op && !strcmp(out->nodes[i].name, "/conv2/Conv")) {
            rq_qparams *w = &out->quants[out->values[out->nodes[i].in[1]].quant].q;
            for (int64_t k = 0; k < w->n; k++)
                w->scale[k] *= 1.1f;
        }
    for (rq_id i = 0; i < n_fakes; i++)
        rq_fake_quantizer_enable_observer(fakes[i], true);
    OK(rq_agreement_measure(&a, rq_linear_quantizer_model(t.q), fakes, n_fakes, out, d, NULL, &err));
    for (rq_id i = 0; i < n_fakes; i++)
        assert_true(rq_fake_quantizer_observer_enabled(fakes[i]) && rq_fake_quantizer_fake_quant_enabled(fakes[i]));
    assert_int_equal(a.n_named, 1);
    for (int i = 0; i < a.n; i++)
        assert_int_equal(a.layers[i].named, !strcmp(a.layers[i].name, "/conv2/Conv"));
    static char text[8192];
    FILE *f = tmpfile();
    rq_agreement_print(&a, f);
    read_all(f, text, sizeof text);
    assert_non_null(strstr(text, "/conv2/Conv: "));
    assert_null(strstr(text, "/conv1/Conv: "));
    const int64_t n = rq_agreement_json(&a, text, sizeof text);
    assert_int_equal(n, strlen(text));
    assert_non_null(strstr(text, "{\"samples\": 64, \"codes\": 76352, "));
    rq_agreement_release(&a);
    rq_graph_destroy(out);
    release(&t);
    rq_dataset_close(d);
    rq_graph_destroy(g);
}

/* Weights on a few codes: products are counted in coarse units, and their biases with them. */
static void simulation_adds_the_biases_of_integers(void **state)
{
    (void)state;
    static float x[64 * 36];
    rq_graph *g = network_with_norms(), *out = NULL, *sim = NULL;
    rq_dataset *d = samples(g, x, 64, 16);
    trained t = prepare(g, "{}", NULL, true);
    rq_fake_quantizer *const *fakes;
    const char *const *names;
    const int n_fakes = rq_linear_quantizer_fakes(t.q, &fakes, &names);
    const int64_t dims[] = { 64, 1, 6, 6 };
    const rq_tensor all = { .dtype = RQ_DTYPE_F32, .shape = rq_shape_of(4, dims), .data = x };
    rq_tensor y;
    OK(rq_autograd_forward(t.a, &(rq_feed) { "x", all }, 1, &y, &err));
    for (int i = 0; i < n_fakes; i++) {
        rq_fake_quantizer_enable_observer(fakes[i], false);
        if (!strstr(names[i], "weight_fake_quant"))
            continue;
        rq_qparams q;
        float v[64];
        OK(rq_fake_quantizer_qparams(fakes[i], &q, NULL, &err));
        assert_in_range(q.n, 1, 32);
        for (int64_t c = 0; c < q.n; c++) {
            v[c] = q.scale[c] * 16;
            v[q.n + c] = 0;
        }
        OK(rq_fake_quantizer_set_qparams(fakes[i], v, v + q.n, (int)q.n, &err));
        rq_qparams_release(&q);
    }
    OK(rq_linear_quantizer_finalize(t.q, &out, &err));
    rq_agreement with, without;
    OK(rq_agreement_measure(&without, rq_linear_quantizer_model(t.q), fakes, n_fakes, out, d, NULL, &err));
    OK(rq_linear_quantizer_simulation(t.q, out, &sim, &err));
    OK(rq_agreement_measure(&with, sim, fakes, n_fakes, out, d, NULL, &err));
    assert_true(without.n_named > 0);
    assert_int_equal(with.n_named, 0);
    assert_true(with.differ * 100 < without.differ);
    rq_agreement_release(&with);
    rq_agreement_release(&without);
    rq_graph_destroy(sim);
    assert_int_equal(rq_linear_quantizer_simulation(t.q, g, &sim, &err), RQ_OK); /* floats: nothing is rounded */
    rq_graph_destroy(sim);
    rq_graph_destroy(out);
    release(&t);
    rq_dataset_close(d);
    rq_graph_destroy(g);
}

/* ---- batch norms ---- */

static rq_tensor *constant(rq_graph *g, const char *name)
{
    const rq_id v = rq_graph_find(g, name);
    assert_true(v >= 0);
    return &g->values[v].constant;
}

/* Mean and unbiased variance of conv1 over each batch, in f64, averaged. */
static void statistics_are_the_mean_of_batches(void **state)
{
    (void)state;
    static float x[48 * 36];
    rq_graph *g = network_with_norms();
    rq_dataset *d = samples(g, x, 48, 16);
    rq_autograd_cfg cfg = rq_autograd_defaults();
    cfg.threads = 1;
    rq_autograd *a = NULL;
    OK(rq_autograd_create(&a, g, &cfg, &err));
    rq_autograd_train(a, false);
    int64_t done = 0;
    OK(rq_batch_norm_reestimate(a, g, d, 0, &done, &err));
    assert_int_equal(done, 3);
    assert_false(rq_autograd_is_training(a));
    const float *w = constant(g, "conv1.weight")->f32, *b = constant(g, "conv1.bias")->f32;
    for (int c = 0; c < 8; c++) {
        double mean = 0, var = 0;
        for (int k = 0; k < 3; k++) {
            double sum = 0, sq = 0;
            for (int i = 0; i < 16; i++)
                for (int p = 0; p < 36; p++) {
                    double v = (double)b[c];
                    for (int q = 0; q < 9; q++) {
                        const int r = p / 6 + q / 3 - 1, s = p % 6 + q % 3 - 1;
                        if (r >= 0 && r < 6 && s >= 0 && s < 6)
                            v += (double)w[c * 9 + q] * (double)x[(k * 16 + i) * 36 + r * 6 + s];
                    }
                    sum += v;
                    sq += v * v;
                }
            mean += sum / 576 / 3;
            var += (sq - sum * sum / 576) / 575 / 3;
        }
        assert_true(fabs(mean - (double)constant(g, "bn1.running_mean")->f32[c]) < 1e-5);
        assert_true(fabs(var / (double)constant(g, "bn1.running_var")->f32[c] - 1) < 1e-4);
    }
    rq_autograd_destroy(a);
    rq_dataset_close(d);
    rq_graph_destroy(g);
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    static float x[4 * 36];
    rq_graph *g = network_with_norms(), *out = NULL;
    rq_dataset *d = samples(g, x, 4, 4);
    const int64_t dims[] = { 4, 1, 6, 6 };
    const rq_tensor batch = { .dtype = RQ_DTYPE_F32, .shape = rq_shape_of(4, dims), .data = x };
    trained t = prepare(g, "{}", &batch, true);
    rq_fake_quantizer *const *fakes;
    const int n_fakes = rq_linear_quantizer_fakes(t.q, &fakes, NULL);
    OK(rq_linear_quantizer_finalize(t.q, &out, &err));
    const rq_agreement_cfg cfg = { .limit = 1, .threads = 1 };
    for (int what = 0; what < 4; what++) {
        bool done = false;
        for (size_t i = 1; i < 5000 && !done; i++) {
            rq_linear_quantizer_report r = { 0 };
            rq_agreement a = { 0 };
            rq_graph *sim = NULL;
            rq_mem_fail_after(i, false);
            const rq_status s =
                what == 0   ? rq_linear_quantizer_report_make(&r, t.q, &err)
                : what == 3 ? rq_linear_quantizer_simulation(t.q, out, &sim, &err)
                : what == 1
                    ? rq_batch_norm_reestimate(t.a, rq_linear_quantizer_model(t.q), d, 0, NULL, &err)
                    : rq_agreement_measure(&a, rq_linear_quantizer_model(t.q), fakes, n_fakes, out, d, &cfg, &err);
            rq_mem_fail_after(0, false);
            done = s == RQ_OK;
            if (!done)
                assert_int_equal(s, RQ_NO_MEMORY);
            rq_linear_quantizer_report_release(&r);
            rq_agreement_release(&a);
            rq_graph_destroy(sim);
        }
        assert_true(done);
    }
    rq_graph_destroy(out);
    release(&t);
    rq_dataset_close(d);
    rq_graph_destroy(g);
    assert_int_equal(rq_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(e3_rows_as_the_original_has_them), cmocka_unit_test(e6_reporting_changes_nothing),
        cmocka_unit_test(what_has_no_numbers_has_a_row),    cmocka_unit_test(tables_and_json),
        cmocka_unit_test(memory_may_run_out_anywhere),      cmocka_unit_test(simulation_adds_the_biases_of_integers),
        cmocka_unit_test(simulation_equals_execution),      cmocka_unit_test(statistics_are_the_mean_of_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
