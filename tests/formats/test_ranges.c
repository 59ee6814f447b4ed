/* Ranges as files: ours there and back, ONNX Runtime's (text that its 1.31.1 wrote) and TensorRT's, and everything that can be
 * wrong with them; ranges and models that do not belong together; and that quantizing from a file is quantizing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "formats/ranges.h"
#include "graph/graph.h"
#include "requant/requant.h"

#define MODEL "tests/golden/onnx/static_quant/cnn.onnx"

static const char tensors_data[] =
    "{\"CLS\": \"TensorsData\", \"data\": {\"x\": {\"lowest\": {\"data\": -1.5, \"dtype\": \"float32\", \"CLS\": "
    "\"numpy.array\"}, \"highest\": {\"data\": 2.25, \"dtype\": \"float32\", \"CLS\": \"numpy.array\"}, \"CLS\": "
    "\"TensorData\"}, \"y/out:0\": {\"lowest\": {\"data\": 0.0, \"dtype\": \"float32\", \"CLS\": \"numpy.array\"}, "
    "\"highest\": {\"data\": 0.10000000149011612, \"dtype\": \"float32\", \"CLS\": \"numpy.array\"}, \"CLS\": "
    "\"TensorData\"}}, \"calibration_method\": {\"CLS\": \"CalibrationMethod\", \"value\": "
    "\"CalibrationMethod.MinMax\"}, \"smooth_quant\": false}";
static const char with_histogram[] =
    "{\"CLS\": \"TensorsData\", \"data\": {\"x\": {\"lowest\": -1.5, \"highest\": 2.25, \"hist\": {\"data\": [1, 2], "
    "\"dtype\": \"int64\", \"CLS\": \"numpy.array\"}, \"bins\": {\"data\": [0.0, 1.0, 2.0], \"dtype\": \"float32\", "
    "\"CLS\": \"numpy.array\"}, \"CLS\": \"TensorData\"}}, \"calibration_method\": {\"CLS\": \"CalibrationMethod\", "
    "\"value\": \"CalibrationMethod.Percentile\"}, \"smooth_quant\": false}";
static const char table[] =
    "{\"x\": {\"lowest\": {\"data\": -1.5, \"dtype\": \"float32\", \"CLS\": \"numpy.array\"}, \"highest\": {\"data\": "
    "2.25, \"dtype\": \"float32\", \"CLS\": \"numpy.array\"}, \"CLS\": \"TensorData\"}, \"y/out:0\": {\"lowest\": "
    "{\"data\": 0.0, \"dtype\": \"float32\", \"CLS\": \"numpy.array\"}, \"highest\": {\"data\": 0.10000000149011612, "
    "\"dtype\": \"float32\", \"CLS\": \"numpy.array\"}, \"CLS\": \"TensorData\"}}";
static const char ours[] =
    "{\"format\": \"requant ranges 1\", \"samples\": 12, \"tensors\": {\n"
    "\"b\\u00e9\\\"\": {\"hi\": 3, \"lo\": 0.5, \"method\": \"mse\", \"count\": 7, \"bad\": 2},\n"
    "\"a\": {\"lo\": -1e-3, \"hi\": 2, \"more\": [1, {\"x\": null}], \"magnitude\": true}}}\n";
/* 0x3c010a14 is 0.00787593796849251; 0x3f800000 is 1 */
static const char cache[] = "TRT-8501-EntropyCalibration2\nx: 3c010a14\nlayer: 1/out put: 3F800000\r\n\n"
                            "(Unnamed Layer* 3) [Constant]_output: 3c010a14\n";

static rq_err err;

static rq_ranges *parse(const char *text)
{
    rq_ranges *r;
    if (rq_ranges_parse(&r, text, strlen(text), "file", &err))
        fail_msg("%s", err.text);
    return r;
}

static void has(const rq_ranges *r, const char *name, double lo, double hi, const char *method)
{
    const rq_range_info *i = rq_ranges_find(r, name);
    assert_non_null(i);
    assert_true(i->lo == lo && i->hi == hi);
    assert_string_equal(i->method, method);
}

static void every_form_is_read(void **state)
{
    rq_ranges *r = parse(tensors_data);
    assert_int_equal(rq_ranges_count(r), 2);
    has(r, "x", -1.5, 2.25, "onnxruntime");
    has(r, "y/out:0", 0, 0.10000000149011612, "onnxruntime");
    assert_null(rq_ranges_find(r, "y"));
    rq_ranges_destroy(r);
    r = parse(with_histogram);
    has(r, "x", -1.5, 2.25, "onnxruntime");
    rq_ranges_destroy(r);
    r = parse(table);
    assert_int_equal(rq_ranges_count(r), 2);
    has(r, "y/out:0", 0, 0.10000000149011612, "onnxruntime");
    rq_ranges_destroy(r);
    r = parse(" {\"x\": [-1, 2.5e0], \"y\": [[0], [3]]} ");
    has(r, "x", -1, 2.5, "onnxruntime");
    has(r, "y", 0, 3, "onnxruntime");
    rq_ranges_destroy(r);
    r = parse(ours);
    has(r, "b\xc3\xa9\"", 0, 3, "mse"); /* 0 is always inside */
    assert_true(rq_ranges_find(r, "b\xc3\xa9\"")->count == 7 && rq_ranges_find(r, "b\xc3\xa9\"")->bad == 2);
    has(r, "a", -1e-3, 2, "given");
    assert_true(rq_ranges_find(r, "a")->magnitude);
    rq_ranges_destroy(r);
    /* a tensor may be named like a member of the other form */
    r = parse("{\"format\": \"requant ranges 1\", \"tensors\": {\"CLS\": {\"lo\": -1, \"hi\": 1}}}");
    has(r, "CLS", -1, 1, "given");
    rq_ranges_destroy(r);
    r = parse(cache);
    assert_int_equal(rq_ranges_count(r), 3);
    has(r, "x", -127 * (double)0.00787593796849251f, 127 * (double)0.00787593796849251f,
        "tensorrt EntropyCalibration2");
    has(r, "layer: 1/out put", -127, 127, "tensorrt EntropyCalibration2");
    assert_true(rq_ranges_find(r, "x")->magnitude);
    rq_ranges_destroy(r);
}

static void written_and_read_again(void **state)
{
    static const char *const paths[] = { RQ_TEST_TMP "/ranges.json", RQ_TEST_TMP "/ranges.cache" };
    for (int i = 0; i < 2; i++) {
        rq_ranges *r, *back = NULL;
        assert_int_equal(rq_ranges_create(&r), RQ_OK);
        const rq_range_info rows[] = { { "z \\ \"\t\xc3\xa9", -3, 1.0 / 3, "percentile 99.9", 10, 1, false },
                                       { "all zero", 0, 0, NULL, 0, 0, false },
                                       { "a", -0.1, 127, "mse", 0, 0, true } };
        for (int k = 0; k < 3; k++)
            assert_int_equal(rq_ranges_add(r, &rows[k], &err), RQ_OK);
        assert_int_equal(rq_ranges_add(r, &rows[1], &err), RQ_BAD_DATA);
        assert_int_equal(rq_ranges_count(r), 3);
        if (rq_ranges_save(r, paths[i], &err) || rq_ranges_load(&back, paths[i], &err))
            fail_msg("%s", err.text);
        assert_int_equal(rq_ranges_count(back), 3);
        if (i == 0) {
            has(back, rows[0].tensor, -3, 1.0 / 3, "percentile 99.9"); /* to the last bit */
            has(back, "all zero", 0, 0, "given");
            assert_true(rq_ranges_find(back, "a")->magnitude);
        } else {
            has(back, rows[0].tensor, -127 * (double)(3.0f / 127), 127 * (double)(3.0f / 127),
                "tensorrt EntropyCalibration2"); /* the larger side */
            has(back, "all zero", -127, 127, "tensorrt EntropyCalibration2");
        }
        rq_ranges_destroy(back);
        rq_ranges_destroy(r);
    }
}

static void names_that_a_form_cannot_hold(void **state)
{
    rq_ranges *r;
    assert_int_equal(rq_ranges_create(&r), RQ_OK);
    assert_int_equal(rq_ranges_add(r, &(rq_range_info) { .tensor = "a\nb" }, &err), RQ_OK);
    assert_int_equal(rq_ranges_save(r, RQ_TEST_TMP "/bad.cache", &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "line break"));
    assert_int_equal(rq_ranges_add(r, &(rq_range_info) { .tensor = "\xff" }, &err), RQ_OK);
    assert_int_equal(rq_ranges_save(r, RQ_TEST_TMP "/bad.json", &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "not UTF-8"));
    assert_int_equal(rq_ranges_add(r, &(rq_range_info) { .tensor = "" }, &err), RQ_BAD_DATA);
    assert_int_equal(rq_ranges_add(r, &(rq_range_info) { .tensor = "c", .lo = 1, .hi = -1 }, &err), RQ_BAD_DATA);
    rq_ranges_destroy(r);
}

/* 127 times the largest f32 is 4.32e40. */
static void ranges_that_a_cache_cannot_hold(void **state)
{
    for (int over = 0; over < 2; over++) {
        const char *path = RQ_TEST_TMP "/wide.cache";
        rq_ranges *r, *back;
        assert_int_equal(rq_ranges_create(&r), RQ_OK);
        assert_int_equal(
            rq_ranges_add(r, &(rq_range_info) { .tensor = "wide", .lo = over ? -4.4e40 : -4.3e40, .hi = 1 }, &err),
            RQ_OK);
        if (over) {
            assert_int_equal(rq_ranges_save(r, path, &err), RQ_BAD_DATA);
            assert_non_null(strstr(err.text, "'wide' reaches 4.4e+40"));
        } else {
            assert_int_equal(rq_ranges_save(r, path, &err), RQ_OK);
            assert_int_equal(rq_ranges_load(&back, path, &err), RQ_OK);
            rq_ranges_destroy(back);
        }
        rq_ranges_destroy(r);
    }
}

static void mistakes_are_named(void **state)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        { "", "neither JSON nor" },
        { "x: 3c010a14\n", "neither JSON nor" },
        { "{}", "there is no range in it" },
        { "{\"x\": [1, 2]", "byte 12: the file ends where ',' or '}' was expected" },
        { "{\"x\": [1, 2]} x", "'x' where the end was expected" },
        { "{\"x\": [1]}", "two numbers, not 1" },
        { "{\"x\": [1, 2, 3]}", "two numbers, not 3" },
        { "{\"x\": [NaN, 2]}", "'N' where a finite number was expected" },
        { "{\"x\": [-1e999, 2]}", "a finite number was expected" },
        { "{\"x\": [2, -1]}", "'x' from 2 to -1 is no range" },
        { "{\"x\": [0, 1], \"x\": [0, 1]}", "'x' stands twice" },
        { "{\"x\": {\"lowest\": 1}}", "the range of 'x' has no hi" },
        { "{\"x\": {\"lowest\": {\"data\": [1, 2]}, \"highest\": 2}}", "it is per channel" },
        { "{\"x\": {\"lowest\": {}, \"highest\": 2}}", "no number in a range" },
        { "{\"x\": 3}", "'3' where an object was expected" },
        { "{\"\": [0, 1]}", "without a name" },
        { "{\"a\\u0000b\": [0, 1]}", "a NUL" },
        { "{\"a\\ud800\": [0, 1]}", "surrogate" },
        { "{\"a\\x\": [0, 1]}", "no escape" },
        { "{\"a\n\": [0, 1]}", "control character" },
        { "{\"format\": \"requant ranges 9\", \"tensors\": {}}", "expected 'requant ranges 1'" },
        { "{\"format\": \"requant ranges 1\", \"model\": \"12\"}", "no hash of 16" },
        { "{\"format\": \"requant ranges 1\", \"tensors\": {\"x\": {\"lo\": 0, \"hi\": 1, \"count\": -1}}}",
          "a count" },
        { "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "neither JSON nor" },
        { "{\"x\": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1", "nested deeper than 32" },
        { "TRT", "neither JSON nor" },
        { "TRT-\nx: 3c010a14\n", ":1: a calibration cache begins" },
        { "TRT-8501\nx: 3c010a14\n", ":1: a calibration cache begins" },
        { "TRT-8501-Entropy Calibration\n", ":1: a calibration cache begins" },
        { "TRT-8501-X\n", "there is no range in it" },
        { "TRT-8501-X\nx: 3c010a1\n", ":2: '3c010a1' is not 8 hexadecimal digits: is the file cut short?" },
        { "TRT-8501-X\nx: 3c010a1g\n", "is not 8 hexadecimal digits" },
        { "TRT-8501-X\nx: 3c010a143\n", "is not 8 hexadecimal digits" },
        { "TRT-8501-X\nx 3c010a14\n", ":2: expected '<tensor>" },
        { "TRT-8501-X\n: 3c010a14\n", ":2: expected '<tensor>" },
        { "TRT-8501-X\nx: 7f800000\n", ":2: the scale 7f800000 is inf" },
        { "TRT-8501-X\nx: 7fc00000\n", "expected a finite number, at least 0" },
        { "TRT-8501-X\nx: bf800000\n", ":2: the scale bf800000 is -1" },
        { "TRT-8501-X\nx: 3c010a14\nx: 3c010a14\n", "'x' stands twice" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rq_ranges *r = NULL;
        if (rq_ranges_parse(&r, rows[i].text, strlen(rows[i].text), "file", &err) != RQ_BAD_FILE || r)
            fail_msg("accepted: %s", rows[i].text);
        if (!strstr(err.text, rows[i].says) || strncmp(err.text, "file", 4))
            fail_msg("said: %s\nnot: %s", err.text, rows[i].says);
    }
}

/* The reader of caches alone: an empty file has no first line, which the sentence quotes. */
static void an_empty_cache_is_named(void **state)
{
    static const char nothing[1];
    err.text[0] = 0;
    assert_int_equal(rq_ranges_read_trt(NULL, nothing, 0, "file", &err), RQ_BAD_FILE);
    assert_string_equal(err.text, "file:1: a calibration cache begins 'TRT-<version>-<calibrator>', this one ''");
}

/* Every beginning of every file, and every file with one byte changed: an answer or an error with a sentence, nothing lost. */
static void cut_short_and_bent(void **state)
{
    static const char *const files[] = { tensors_data, with_histogram, table, ours, cache };
    const size_t live = rq_mem_live();
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const size_t n = strlen(files[i]);
        for (size_t at = 0; at < n; at++)
            for (int how = 0; how < 4; how++) {
                rq_ranges *r = NULL;
                const size_t size = how ? n : at;
                char *copy = malloc(size + 1); /* of the exact size, so that a sanitizer sees the end */
                assert_non_null(copy);
                memcpy(copy, files[i], size);
                if (how)
                    copy[at] = how == 1 ? (char)0xff : how == 2 ? '{' : '"';
                err.text[0] = 0;
                char *exact = realloc(copy, size ? size : 1);
                if (!rq_ranges_parse(&r, exact, size, "file", &err))
                    rq_ranges_destroy(r);
                else
                    assert_true(err.text[0] != 0 && !r);
                free(exact);
                assert_int_equal(rq_mem_live(), live);
            }
    }
}

static void failing_memory_leaves_nothing(void **state)
{
    static const char *const files[] = { tensors_data, ours, cache };
    for (size_t i = 0; i < 3; i++)
        for (size_t n = 1; n < 40; n++) {
            rq_ranges *r = NULL;
            const size_t live = rq_mem_live();
            rq_mem_fail_after(n, false);
            rq_status s = rq_ranges_parse(&r, files[i], strlen(files[i]), "file", &err);
            if (!s)
                s = rq_ranges_save(r, RQ_TEST_TMP "/oom.json", &err);
            rq_mem_fail_after(0, false);
            assert_true(s == RQ_OK || s == RQ_NO_MEMORY || s == RQ_IO);
            rq_ranges_destroy(r);
            assert_int_equal(rq_mem_live(), live);
        }
}

/* ---- with a model ---- */

static rq_graph *load_model(void)
{
    rq_graph *g;
    if (rq_load(&g, MODEL, &err))
        fail_msg("%s", err.text);
    return g;
}

static rq_dataset *samples(const rq_graph *g)
{
    static float x[20 * 64];
    rq_dataset *d;
    for (int i = 0; i < 20 * 64; i++)
        x[i] = (float)(i * 7 % 33) / 32;
    const rq_dataset_array a = {
        .name = "x", .dtype = RQ_DTYPE_F32, .shape = rq_shape_of(4, (int64_t[]) { 20, 1, 8, 8 }), .data = x
    };
    if (rq_dataset_create(&d, &a, 1, g, NULL, &err))
        fail_msg("%s", err.text);
    return d;
}

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

/* By every method and placement: measuring, and taking what was measured before from a file, give one model. */
static void from_a_file_is_the_same(void **state)
{
    for (int how = 0; how < 6; how++) {
        rq_graph *a = load_model(), *b = load_model();
        rq_dataset *d = samples(a);
        rq_ranges *made = NULL, *back = NULL;
        rq_ptq_cfg cfg = rq_ptq_defaults();
        cfg.threads = 1;
        cfg.settings.method = how == 3 ? RQ_METHOD_ENTROPY : how == 4 ? RQ_METHOD_PERCENTILE : RQ_METHOD_MINMAX;
        cfg.settings.compat = how & 1 || how == 4 ? RQ_COMPAT_ONNXRUNTIME : RQ_COMPAT_NONE;
        cfg.settings.symmetric_activations = how == 2;
        cfg.settings.activations = how == 2 ? RQ_DTYPE_S8 : RQ_DTYPE_U8;
        cfg.settings.keep_clamps = how == 5;
        if (rq_calibrate(&made, a, d, &cfg, NULL, &err) || rq_ranges_save(made, RQ_TEST_TMP "/r.json", &err) ||
            rq_ranges_load(&back, RQ_TEST_TMP "/r.json", &err) || rq_ptq(a, d, &cfg, NULL, &err))
            fail_msg("%s", err.text);
        cfg.ranges = back;
        if (rq_ptq(b, NULL, &cfg, NULL, &err))
            fail_msg("%s", err.text);
        char *x = text_of(a), *y = text_of(b);
        assert_string_equal(x, y);
        free(x);
        free(y);
        rq_ranges_destroy(made);
        rq_ranges_destroy(back);
        rq_dataset_close(d);
        rq_graph_destroy(a);
        rq_graph_destroy(b);
    }
}

static void refused(const char *text, const char *says)
{
    rq_graph *g = load_model();
    rq_ranges *r = parse(text);
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.ranges = r;
    assert_int_equal(rq_ptq(g, NULL, &cfg, NULL, &err), RQ_BAD_DATA);
    if (!strstr(err.text, says))
        fail_msg("said: %s\nnot: %s", err.text, says);
    rq_ranges_destroy(r);
    rq_graph_destroy(g);
}

static void ranges_of_other_models_are_refused(void **state)
{
    refused("{\"format\": \"requant ranges 1\", \"model\": \"0123456789abcdef\", \"tensors\": {\"x\": {\"lo\": 0, "
            "\"hi\": 1}}}",
            "file: these ranges were made of another model");
    refused("{\"x\": [0, 1], \"/Relu_outptu_0\": [0, 2]}",
            "the model has no tensor '/Relu_outptu_0'; the nearest is '/Relu_output_0'");
    refused("{\"/Relu_output_0\": [0, 2]}", "there is no range for tensor 'x'");
}

/* A cache says magnitudes only; what comes out of a Relu is known not to be negative. */
static void magnitudes_and_relus(void **state)
{
    rq_graph *g = load_model();
    rq_ranges *r = parse("TRT-8501-EntropyCalibration2\nx: 3c010a14\n/Relu_output_0: 3c010a14\n/Relu_1_output_0: "
                         "3f800000\n(Unnamed Layer* 1) [Shuffle]_output: 3c010a14\n");
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.ranges = r;
    if (rq_ptq(g, NULL, &cfg, NULL, &err))
        fail_msg("%s", err.text);
    const rq_qparams *x = rq_graph_qparams(g, rq_graph_find(g, "x")),
                     *relu = rq_graph_qparams(g, rq_graph_find(g, "/Relu_1_output_0"));
    assert_non_null(x);
    assert_non_null(relu);
    assert_true(x->scale[0] == (float)(254 * (double)0.00787593796849251f / 255) && abs(x->zero_point[0] - 128) <= 1);
    assert_true(relu->scale[0] == (float)(127.0 / 255) && relu->zero_point[0] == 0);
    rq_ranges_destroy(r);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_is_read),
        cmocka_unit_test(written_and_read_again),
        cmocka_unit_test(names_that_a_form_cannot_hold),
        cmocka_unit_test(ranges_that_a_cache_cannot_hold),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(an_empty_cache_is_named),
        cmocka_unit_test(cut_short_and_bent),
        cmocka_unit_test(failing_memory_leaves_nothing),
        cmocka_unit_test(from_a_file_is_the_same),
        cmocka_unit_test(ranges_of_other_models_are_refused),
        cmocka_unit_test(magnitudes_and_relus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
