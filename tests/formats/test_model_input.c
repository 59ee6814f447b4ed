/* tests/formats/test_model_input.c — packages whose input is a picture: a folder of pictures needs no recipe, colours and size are those of the
 * description, sub-folders named as the classifier's labels are these classes. What comes out is compared with torch (tests/golden/coreml_images). */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "formats/model_input.h"
#include "requant/dataset.h"
#include "requant/edit.h"
#include "requant/session.h"

#define GOLDEN "tests/golden/coreml_images/"

static rq_graph *load(const char *path)
{
    rq_graph *g = NULL;
    rq_err err = { 0 };
    if (rq_load(&g, path, &err))
        fail_msg("%s", err.text);
    return g;
}

static void run_pictures(const rq_graph *g, json_t *want, json_t *labels, double tolerance)
{
    rq_dataset *d = NULL;
    rq_session *s = NULL;
    rq_err err = { 0 };
    if (rq_dataset_open(&d, GOLDEN "pictures", g, NULL, &err) || rq_session_create(&s, g, NULL, &err))
        fail_msg("%s", err.text);
    assert_int_equal(rq_dataset_count(d), json_array_size(want));
    assert_int_equal(rq_dataset_classes(d), 3);
    for (int64_t i = 0; i < rq_dataset_count(d); i++) {
        const rq_feed *feeds;
        int n;
        rq_tensor out[1];
        const json_t *row = json_array_get(want, (size_t)i);
        if (rq_dataset_read(d, &i, 1, &feeds, &n, &err) || rq_session_run(s, feeds, n, out, &err))
            fail_msg("%s", err.text);
        for (size_t k = 0; k < 3; k++)
            assert_float_equal(out[0].f32[k], json_real_value(json_array_get(row, k)), tolerance);
        assert_int_equal(rq_dataset_labels(d)[i], json_integer_value(json_array_get(labels, (size_t)i)));
        rq_tensor_release(&out[0]);
    }
    rq_session_destroy(s);
    rq_dataset_close(d);
}

static void pictures_are_read_as_the_package_says(void **state)
{
    (void)state;
    static const char *const names[] = { "rgb_f32", "rgb_f16", "bgr_f32", "bgr_f16", "gray_f32", "gray_f16" };
    json_t *json = json_load_file(GOLDEN "outputs.json", 0, NULL);
    assert_non_null(json);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[200];
        snprintf(path, sizeof path, GOLDEN "%s.mlpackage", names[i]);
        rq_graph *g = load(path);
        run_pictures(g, json_object_get(json, names[i]), json_object_get(json, "labels"), i & 1 ? 2e-3 : 1e-5);
        rq_graph_destroy(g);
    }
    json_decref(json);
}

/* An ONNX file made of the package knows it, too. */
static void metadata_goes_with_the_graph(void **state)
{
    (void)state;
    json_t *json = json_load_file(GOLDEN "outputs.json", 0, NULL);
    rq_err err = { 0 };
    rq_graph *g = load(GOLDEN "bgr_f32.mlpackage");
    assert_string_equal(rq_edit_meta(g, "requant.image.picture"), "bgr 6x8");
    assert_string_equal(rq_edit_meta(g, "requant.labels"), "[\"zebra\", \"ant\", \"mole\"]");
    if (rq_save(g, RQ_TEST_TMP "/pictures.onnx", &err))
        fail_msg("%s", err.text);
    rq_graph_destroy(g);
    g = load(RQ_TEST_TMP "/pictures.onnx");
    run_pictures(g, json_object_get(json, "bgr_f32"), json_object_get(json, "labels"), 1e-5);
    rq_graph_destroy(g);
    json_decref(json);
}

/* A recipe, or the program around, says more than the model; labels that do not fit leave the order of the folders. */
static void what_the_caller_says_counts(void **state)
{
    (void)state;
    rq_graph *g = load(GOLDEN "rgb_f32.mlpackage");
    rq_dataset *d = NULL;
    rq_err err = { 0 };
    rq_preprocess p = rq_preprocess_defaults();
    const rq_feed *feeds = NULL;
    int n;
    const rq_dataset_cfg cfg = { .images = &p };
    assert_int_equal(rq_edit_set_meta(g, "requant.labels", "[\"zebra\", 7, \"mole\"]"), RQ_OK);
    if (rq_dataset_open(&d, GOLDEN "pictures", g, &cfg, &err) ||
        rq_dataset_read(d, (const int64_t[]) { 0 }, 1, &feeds, &n, &err))
        fail_msg("%s", err.text);
    for (int64_t i = 0; i < rq_tensor_count(&feeds[0].tensor); i++)
        assert_true(feeds[0].tensor.f32[i] <= 1);
    static const int64_t order[] = { 0, 0, 1, 1, 2, 2 };
    assert_memory_equal(rq_dataset_labels(d), order, sizeof order);
    rq_dataset_close(d);
    rq_graph_destroy(g);
}

static void metadata_that_says_nothing_is_passed_over(void **state)
{
    (void)state;
    static const char *const bad[] = { "",        "rgb",      "rgb 6",     "rgb 6x", "rgb x8",         "cmyk 6x8",
                                       "rgb 0x8", "rgb 6x-8", "rgb 6x8x3", "rgb6x8", "rgb 99999999x8", "RGB 6x8" };
    rq_graph *g = load(GOLDEN "rgb_f32.mlpackage");
    rq_preprocess p;
    int32_t place[2];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(rq_edit_set_meta(g, "requant.image.picture", bad[i]), RQ_OK);
        assert_false(rq_model_input_image(g, "picture", &p));
    }
    assert_false(rq_model_input_image(g, "other", &p));
    static const char *const lists[] = { "", "{}", "[", "[1, {}]", "\"ant\"" };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        assert_int_equal(rq_edit_set_meta(g, "requant.labels", lists[i]), RQ_OK);
        assert_false(rq_model_input_places(g, (const char *const[]) { "ant", "1" }, 2, place));
    }
    assert_int_equal(rq_edit_set_meta(g, "requant.labels", "[1, \"ant\"]"), RQ_OK);
    assert_true(rq_model_input_places(g, (const char *const[]) { "ant", "1" }, 2, place));
    assert_int_equal(place[0], 1);
    assert_int_equal(place[1], 0);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_read_as_the_package_says),
        cmocka_unit_test(metadata_goes_with_the_graph),
        cmocka_unit_test(what_the_caller_says_counts),
        cmocka_unit_test(metadata_that_says_nothing_is_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
