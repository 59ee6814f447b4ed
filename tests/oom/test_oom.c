/* test_oom.c — every allocation fails once: load, quantize, run and save of a small model, for n = 1, 2, 3 ... the n-th
 * allocation returns NULL (and, in a second sweep, all after it). Each time the call must end in an error or in success,
 * give back every byte, leave its outputs and files as they were, and not crash. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/pb.h"
#include "graph/graph.h"
#include "ops/widen.h"
#include "requant/requant.h"

#define MODEL "tests/golden/onnx/static_quant/depthwise.onnx"
#define QUANTIZED "tests/golden/onnx/static_quant/depthwise_qdq_u8s8.onnx"
#define SAMPLES RQ_TEST_TMP "/oom-samples.npz"
#define OUT_DIR RQ_TEST_TMP "/oom"
#define OUT OUT_DIR "/out.onnx"

enum { MOST_TRIES = 1500 }; /* of one sweep: beyond this many allocations, every k-th is tried */

typedef struct stage {
    const char *name;
    rq_status (*run)(rq_err *err);
} stage;

/* What every stage but the first needs, made once. */
static rq_graph *model, *quantized, *half;
static char *model_text;

static char *text_of(const rq_graph *g)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    assert_int_equal(rq_graph_print(g, f), RQ_OK);
    fclose(f);
    return text;
}

static rq_status load(rq_err *err)
{
    rq_graph *g = NULL;
    RQ_TRY(rq_load(&g, QUANTIZED, err));
    rq_graph_destroy(g);
    return RQ_OK;
}

static rq_status run_graph(const rq_graph *g, rq_err *err)
{
    rq_session *s = NULL;
    rq_tensor y = { 0 };
    float x[2 * 64];
    for (int i = 0; i < 2 * 64; i++)
        x[i] = (float)(i % 17) / 16;
    const rq_shape shape = rq_shape_of(4, (int64_t[]) { 2, 1, 8, 8 });
    const rq_feed feed = { "x", rq_tensor_view(RQ_DTYPE_F32, &shape, x) };
    rq_status status = rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, err);
    if (!status)
        status = rq_session_run(s, &feed, 1, &y, err);
    if (!status)
        rq_tensor_release(&y);
    rq_session_destroy(s);
    return status;
}

static rq_status run_float(rq_err *err)
{
    return run_graph(model, err);
}

static rq_status run_integer(rq_err *err)
{
    return run_graph(quantized, err);
}

/* A model of tests/golden on zeros. */
static rq_status run_zeros(const char *name, rq_err *err)
{
    enum { MOST = 4 };
    rq_graph *g = NULL;
    rq_session *s = NULL;
    rq_feed feed[MOST] = { 0 };
    rq_tensor y[MOST] = { 0 };
    char path[200];
    snprintf(path, sizeof path, "tests/golden/%s.onnx", name);
    rq_status status = rq_load(&g, path, err);
    const int n = status ? 0 : rq_graph_n_inputs(g);
    assert_true(n <= MOST);
    for (int i = 0; i < n && !status; i++) {
        const rq_value_info info = rq_graph_input(g, i);
        feed[i].name = info.name;
        status = rq_tensor_create(&feed[i].tensor, info.dtype, &info.shape, true);
        if (status)
            rq_fail(err, status, "no memory for zeros");
    }
    if (!status)
        status = rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, err);
    if (!status)
        status = rq_session_run(s, feed, n, y, err);
    for (int i = 0; i < MOST; i++) {
        rq_tensor_release(&feed[i].tensor);
        rq_tensor_release(&y[i]);
    }
    rq_session_destroy(s);
    rq_graph_destroy(g);
    return status;
}

static rq_status run_lowbit(rq_err *err)
{
    static const char *const names[] = { "lowbit/matmulinteger_u8s8_rows",
                                         "lowbit/qlinearmatmul_u8s8u8_rows",
                                         "lowbit/convinteger_s8u8_g1",
                                         "lowbit/nbits_4_level4_bias",
                                         "lowbit/nbits_8_level4",
                                         "lowbit/lstm_both",
                                         "lowbit/qattention_u8s8_past",
                                         "lowbit/qdq_conv_u16_s4",
                                         "lowbit/qdq_gemm_s16_u8",
                                         "lowbit/qdq_gemm_blocks_u4",
                                         "lowbit/qdq_conv_blocks_groups_s8",
                                         "recurrent/gru_both_lengths",
                                         "recurrent/gru_both" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        RQ_TRY(run_zeros(names[i], err));
    return RQ_OK;
}

/* Integer forms that keep something between runs, or ask for room. */
static rq_status run_forms(rq_err *err)
{
    static const char *const names[] = { "convtranspose_u8", "div_u8",        "resize_linear_u8", "layernorm_s8",
                                         "instancenorm_u8",  "reducemean_s8", "softmax_s8" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char name[80];
        snprintf(name, sizeof name, "onnx/qdq/%s", names[i]);
        RQ_TRY(run_zeros(name, err));
    }
    return RQ_OK;
}

static rq_status open_data(rq_err *err)
{
    rq_dataset *d = NULL;
    const rq_feed *feeds;
    const int64_t rows[2] = { 0, 1 };
    int n;
    RQ_TRY(rq_dataset_open(&d, SAMPLES, model, &(rq_dataset_cfg) { .batch = 2 }, err));
    rq_status status = rq_dataset_read(d, rows, 2, &feeds, &n, err);
    rq_dataset_close(d);
    return status;
}

static rq_status quantize_with(rq_method method, rq_compat compat, const rq_ends *ends, rq_err *err)
{
    rq_graph *g = NULL;
    rq_notes notes = { 0 };
    rq_ptq_cfg cfg = rq_ptq_defaults();
    const int64_t rows[2] = { 0, 1 };
    cfg.settings.method = method;
    cfg.settings.compat = compat;
    cfg.ends = ends;
    cfg.threads = 1;
    cfg.rows = rows;
    cfg.n_rows = 2;
    rq_dataset *data = NULL;
    RQ_TRY(rq_dataset_open(&data, SAMPLES, model, &(rq_dataset_cfg) { .batch = 2 }, err));
    rq_status status = rq_graph_copy(&g, model);
    if (status)
        rq_fail(err, status, "no memory to copy the graph");
    else
        status = rq_ptq(g, data, &cfg, &notes, err);
    if (status && g) { /* a graph that was not quantized is the graph it was */
        rq_mem_fail_after(0, false);
        char *now = text_of(g);
        assert_string_equal(now, model_text);
        free(now);
    }
    rq_notes_release(&notes);
    rq_graph_destroy(g);
    rq_dataset_close(data);
    return status;
}

static rq_status quantize_pixels(rq_err *err)
{
    const rq_ends ends = { .inputs = true, .outputs = true, .n_channels = 1, .mean = { 0.25f }, .std = { 0.5f } };
    return quantize_with(RQ_METHOD_MINMAX, RQ_COMPAT_NONE, &ends, err);
}

static rq_status quantize_minmax(rq_err *err)
{
    return quantize_with(RQ_METHOD_MINMAX, RQ_COMPAT_NONE, NULL, err);
}

static rq_status quantize_percentile(rq_err *err)
{
    return quantize_with(RQ_METHOD_PERCENTILE, RQ_COMPAT_NONE, NULL, err);
}

static rq_status quantize_as_ort(rq_err *err)
{
    return quantize_with(RQ_METHOD_PERCENTILE, RQ_COMPAT_ONNXRUNTIME, NULL, err);
}

static rq_status ranges(rq_err *err)
{
    rq_ranges *r = NULL;
    rq_graph *g = NULL;
    rq_ptq_cfg cfg = rq_ptq_defaults();
    rq_dataset *data = NULL;
    const int64_t rows[2] = { 0, 1 };
    cfg.settings.method = RQ_METHOD_MINMAX;
    cfg.threads = 1;
    cfg.rows = rows;
    cfg.n_rows = 2;
    RQ_TRY(rq_dataset_open(&data, SAMPLES, model, &(rq_dataset_cfg) { .batch = 2 }, err));
    rq_status status = rq_calibrate(&r, model, data, &cfg, NULL, err);
    if (!status)
        status = rq_ranges_save(r, OUT, err);
    cfg.ranges = r;
    if (!status && rq_graph_copy(&g, model))
        status = rq_fail(err, RQ_NO_MEMORY, "no memory to copy the graph");
    if (!status)
        status = rq_ptq(g, NULL, &cfg, NULL, err);
    if (status)
        unlink(OUT); /* written whole before the rest failed */
    rq_graph_destroy(g);
    rq_ranges_destroy(r);
    rq_dataset_close(data);
    return status;
}

/* Without samples. */
static rq_status quantize_mode(rq_ptq_cfg cfg, rq_err *err)
{
    rq_graph *g = NULL;
    rq_notes notes = { 0 };
    cfg.threads = 1;
    rq_status status = rq_graph_copy(&g, model);
    if (status)
        rq_fail(err, status, "no memory to copy the graph");
    else
        status = rq_ptq(g, NULL, &cfg, &notes, err);
    if (status && g) {
        rq_mem_fail_after(0, false);
        char *now = text_of(g);
        assert_string_equal(now, model_text);
        free(now);
    }
    rq_notes_release(&notes);
    rq_graph_destroy(g);
    return status;
}

static rq_status quantize_weights(rq_err *err)
{
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.mode = RQ_MODE_WEIGHT_ONLY;
    cfg.weight_form = RQ_WEIGHT_FORM_MATMULNBITS;
    cfg.settings.weights = RQ_DTYPE_U4;
    cfg.settings.weight_method = RQ_WEIGHTS_K_QUANT;
    cfg.settings.symmetric_weights = false;
    return quantize_mode(cfg, err);
}

static rq_status quantize_dynamic(rq_err *err)
{
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.mode = RQ_MODE_DYNAMIC;
    cfg.dynamic_conv = true;
    cfg.per_row = true;
    return quantize_mode(cfg, err);
}

/* Functions of other opsets than the model's are brought to one; bodies of If and Loop. */
static rq_status load_functions(rq_err *err)
{
    static const char *const models[] = { "nested", "graph_inside" };
    for (int i = 0; i < 2; i++) {
        char path[200];
        rq_graph *g = NULL;
        snprintf(path, sizeof path, "tests/ops/peer/functions/%s.onnx", models[i]);
        RQ_TRY(rq_load(&g, path, err));
        rq_graph_destroy(g);
    }
    return RQ_OK;
}

/* Opset 3: an operand lined up by its axis, a shape that is an attribute. */
static rq_status load_old(rq_err *err)
{
    pb g = { .n = 0 }, in = pb_value("x", 2, 3), b = pb_value("b", 2, 0), y = pb_value("y", 0, 0), a = { .n = 0 };
    pb node = pb_node("Add", "x", "b", "s"), other = pb_node("Reshape", "s", NULL, "y");
    for (int i = 0; i < 2; i++) {
        a.n = 0;
        pb_str(&a, 1, i ? "axis" : "broadcast");
        pb_int(&a, 3, !i);
        pb_int(&a, 20, 2);
        pb_msg(&node, 5, &a);
    }
    a.n = 0;
    pb_str(&a, 1, "shape");
    pb_int(&a, 8, 6);
    pb_int(&a, 20, 7);
    pb_msg(&other, 5, &a);
    pb_msg(&g, 1, &node);
    pb_msg(&g, 1, &other);
    pb_str(&g, 2, "old");
    pb_msg(&g, 11, &in);
    pb_msg(&g, 11, &b);
    pb_msg(&g, 12, &y);
    const pb m = pb_model(&g, 3, 3);
    rq_graph *read = NULL;
    RQ_TRY(rq_load_memory(&read, m.b, m.n, err));
    rq_graph_destroy(read);
    return RQ_OK;
}

/* The model in f16, quantized, and written in it. */
static rq_status quantize_half(rq_err *err)
{
    rq_graph *g = NULL;
    rq_dataset *data = NULL;
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.threads = 1;
    rq_status status = rq_graph_copy(&g, half);
    if (status)
        rq_fail(err, status, "no memory to copy the graph");
    if (!status)
        status = rq_dataset_open(&data, SAMPLES, g, &(rq_dataset_cfg) { .batch = 2 }, err);
    if (!status)
        status = rq_ptq(g, data, &cfg, NULL, err);
    if (!status)
        status = rq_save(g, OUT, err);
    rq_dataset_close(data);
    rq_graph_destroy(g);
    return status;
}

static rq_status report(rq_err *err)
{
    rq_report r;
    rq_dataset *data = NULL;
    const int64_t rows[2] = { 2, 3 };
    const rq_report_cfg cfg = { .rows = rows, .n_rows = 2, .threads = 1, .layers = true };
    RQ_TRY(rq_dataset_open(&data, SAMPLES, model, &(rq_dataset_cfg) { .batch = 2 }, err));
    rq_status status = rq_report_compare(&r, model, quantized, data, &cfg, err);
    if (!status)
        rq_report_release(&r);
    rq_dataset_close(data);
    return status;
}

static rq_status bench(rq_err *err)
{
    rq_bench b;
    RQ_TRY(rq_bench_run(&b, quantized, model, NULL, &(rq_bench_cfg) { .threads = 1, .runs = 1 }, err));
    rq_bench_release(&b);
    return RQ_OK;
}

static rq_status peak(rq_err *err)
{
    rq_peak p;
    return rq_peak_measure(&p, 1, err);
}

static rq_status save(rq_err *err)
{
    return rq_save(quantized, OUT, err);
}

/* Operators of ours that a file spells out. */
static rq_status save_cells(rq_err *err)
{
    rq_graph *g = NULL;
    rq_status status = rq_load(&g, "tests/golden/recurrent/overloads.onnx", err);
    if (!status)
        status = rq_save(g, OUT, err);
    rq_graph_destroy(g);
    return status;
}

static rq_status save_qoperator(rq_err *err)
{
    const rq_save_cfg cfg = { .spelling = RQ_SPELLING_QOPERATOR };
    return rq_save_as(quantized, OUT, &cfg, err);
}

static rq_status lint(rq_err *err)
{
    rq_lint l;
    RQ_TRY(rq_lint_graph(&l, quantized, RQ_PROFILE_ORT_CPU_X64, err));
    rq_lint_release(&l);
    return RQ_OK;
}

static int files_in(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
    closedir(d);
    return n;
}

/* Weights of a package, from a config in text to a package on disk; with and without something that is compressed already. */
static rq_status quantize_package(rq_err *err)
{
    static const char *const configs[] = {
        "{config_type: OpLinearQuantizerConfig, global_config: {mode: linear, dtype: uint4, granularity: per_block, "
        "block_size: 8, weight_threshold: 100}, op_type_configs: {gather: null}, op_name_configs: {linear_0: {}}}",
        "{config_type: OpLinearQuantizerConfig, global_config: {granularity: per_tensor, weight_threshold: 100}}"
    };
    static const char *const packages[] = { "tests/golden/coreml/weights/linear_iOS18_fp32.mlpackage",
                                            "tests/golden/coreml/weights/joint_palettize_before.mlpackage" };
    rq_status st = RQ_OK;
    for (int i = 0; i < 2 && !st; i++) {
        rq_coreml *m = NULL;
        rq_coreml_config *c = NULL;
        rq_coreml_report *r = NULL;
        st = rq_coreml_open(&m, packages[i], err);
        if (!st)
            st = rq_coreml_config_parse(&c, configs[i], strlen(configs[i]), err);
        if (!st)
            st = rq_coreml_linear_quantize_weights(m, c, i, &r, err);
        if (!st && rq_coreml_report_json(r, NULL, 0) < 0)
            st = rq_fail(err, RQ_NO_MEMORY, "no memory for the report");
        if (!st)
            st = rq_coreml_save(m, OUT_DIR "/out.mlpackage", err);
        if (!st && system("rm -r '" OUT_DIR "/out.mlpackage'"))
            st = rq_fail(err, RQ_IO, "cannot remove the package");
        rq_coreml_report_destroy(r);
        rq_coreml_config_destroy(c);
        rq_coreml_close(m);
    }
    return st;
}

static void sweep(const stage *s, bool all_after)
{
    rq_err err = { 0 };
    rq_mem_fail_after(0, false);
    const size_t live = rq_mem_live();
    rq_status status = s->run(&err);
    if (status)
        fail_msg("%s fails without being told to: %s", s->name, err.text);
    assert_int_equal(rq_mem_live(), live);
    const size_t n = rq_mem_fail_after(0, false), step = n / MOST_TRIES + 1;
    size_t survived = 0;
    for (size_t i = 1; i <= n; i += step) {
        unlink(OUT);
        err = (rq_err) { 0 };
        rq_mem_fail_after(i, all_after);
        status = s->run(&err);
        rq_mem_fail_after(0, false);
        if (status != RQ_OK && status != RQ_NO_MEMORY)
            fail_msg("%s, allocation %zu of %zu: says %s (%s) where memory was out", s->name, i, n,
                     rq_status_text(status), err.text);
        if (status && !err.text[0])
            fail_msg("%s, allocation %zu of %zu: no sentence", s->name, i, n);
        if (rq_mem_live() != live)
            fail_msg("%s, allocation %zu of %zu: %zd bytes are not given back", s->name, i, n,
                     (ssize_t)(rq_mem_live() - live));
        if (status && files_in(OUT_DIR))
            fail_msg("%s, allocation %zu of %zu: a file was left behind", s->name, i, n);
        survived += status == RQ_OK;
    }
    print_message("%s: %zu allocations, each failed%s; %zu did without\n", s->name, n,
                  all_after ? " with all after it" : "", survived);
}

static const stage stages[] = {
    { "load", load },
    { "run float", run_float },
    { "run integer", run_integer },
    { "run few bits", run_lowbit },
    { "run more forms", run_forms },
    { "open and read samples", open_data },
    { "quantize, min-max", quantize_minmax },
    { "quantize, percentile", quantize_percentile },
    { "quantize as ONNX Runtime", quantize_as_ort },
    { "calibrate, quantize from ranges", ranges },
    { "quantize, pixels", quantize_pixels },
    { "quantize weights", quantize_weights },
    { "quantize, dynamic", quantize_dynamic },
    { "load functions", load_functions },
    { "load an old opset", load_old },
    { "quantize and save f16", quantize_half },
    { "report", report },
    { "bench", bench },
    { "peak", peak },
    { "save", save },
    { "save as QOperator", save_qoperator },
    { "load and save recurrent cells", save_cells },
    { "lint", lint },
    { "quantize weights of a package", quantize_package },
};

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
        for (int all = 0; all < 2; all++)
            sweep(&stages[i], all);
}

/* A file that is there survives a save that fails. */
static void a_failed_save_leaves_the_old_file(void **state)
{
    (void)state;
    rq_err err = { 0 };
    const char old[] = "the old file";
    for (size_t i = 1; i < 40; i++) {
        FILE *f = fopen(OUT, "w");
        assert_non_null(f);
        fputs(old, f);
        fclose(f);
        rq_mem_fail_after(i, true);
        rq_status status = rq_save(quantized, OUT, &err);
        rq_mem_fail_after(0, false);
        if (!status)
            break;
        char now[64] = "";
        f = fopen(OUT, "r");
        assert_non_null(f);
        assert_non_null(fgets(now, sizeof now, f));
        fclose(f);
        assert_string_equal(now, old);
    }
    unlink(OUT);
}

static int setup(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_tensor x = { 0 };
    mkdir(OUT_DIR, 0777);
    unlink(OUT);
    if (rq_npz_load(&x, "tests/golden/onnx/static_quant/data.npz", "common/calibration", &err) ||
        rq_npz_save(SAMPLES, &(rq_feed) { "x", x }, 1, &err) || rq_load(&model, MODEL, &err) ||
        rq_load(&quantized, QUANTIZED, &err)) {
        print_error("%s\n", err.text);
        return 1;
    }
    rq_tensor_release(&x);
    model_text = text_of(model);
    if (rq_graph_copy(&half, model))
        return 1;
    half->real = half->values[half->inputs[0]].dtype = RQ_DTYPE_F16;
    if (rq_narrow(half, &err)) {
        print_error("%s\n", err.text);
        return 1;
    }
    /* whatever is made once and kept (tables of the libraries below) is made here */
    return run_float(&err) || run_integer(&err) ? print_error("%s\n", err.text), 1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_graph_destroy(model);
    rq_graph_destroy(quantized);
    rq_graph_destroy(half);
    free(model_text);
    rmdir(OUT_DIR);
    return rq_mem_live() != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_failed_save_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
