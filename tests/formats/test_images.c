/* tests/formats/test_images.c — pictures against what Pillow and torchvision made of the same files
 * (tests/formats/images), folders of them as datasets, and files that are damaged or promise more than they hold. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <png.h>

#include "base/mem.h"
#include "requant/requant.h"

#define DIR "tests/formats/images/"
#define FOLDER RQ_TEST_TMP "/pictures"

static rq_err err;

static void must(rq_status st)
{
    if (st)
        fail_msg("%s", err.text);
}

/* The expected array, u8 or f32. */
static rq_tensor expected(const char *name)
{
    rq_tensor t;
    must(rq_npz_load(&t, DIR "expected.npz", name, &err));
    return t;
}

static void compare_codes(const char *file, const rq_preprocess *p, const char *array)
{
    rq_tensor want = expected(array), got;
    must(rq_image_read(&got, file, p, true, &err));
    assert_int_equal(rq_tensor_count(&got), rq_tensor_count(&want));
    for (int64_t i = 0; i < rq_tensor_count(&want); i++)
        if (got.u8[i] != want.u8[i])
            fail_msg("%s as %s: element %lld is %d, expected %d", file, array, (long long)i, got.u8[i], want.u8[i]);
    rq_tensor_release(&got);
    rq_tensor_release(&want);
}

static void files_are_decoded_as_pillow_does(void **state)
{
    static const char *const names[] = { "photo.jpg",   "progressive.jpg", "gray.jpg", "photo.png",
                                         "palette.png", "gray.png",        "alpha.png" };
    rq_preprocess p = rq_preprocess_defaults();
    p.channels_last = true;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, DIR "%s", names[i]);
        compare_codes(path, &p, names[i]);
    }
}

static void resizing_has_pillows_bits(void **state)
{
    static const int64_t sizes[][2] = { { 17, 24 }, { 60, 40 }, { 90, 110 } };
    for (int f = 0; f < RQ_N_IMAGE_FILTERS; f++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            char name[64];
            rq_preprocess p = rq_preprocess_defaults();
            p.channels_last = true;
            p.filter = (rq_image_filter)f;
            p.resize_height = sizes[i][0];
            p.resize_width = sizes[i][1];
            snprintf(name, sizeof name, "%s_%d_%d", rq_image_filter_name(p.filter), (int)sizes[i][0], (int)sizes[i][1]);
            compare_codes(DIR "photo.png", &p, name);
        }
}

static void gray_is_pillows_luma(void **state)
{
    rq_preprocess p = rq_preprocess_defaults();
    p.channels = RQ_IMAGE_GRAY;
    compare_codes(DIR "photo.png", &p, "gray_of_photo");
}

static rq_preprocess torchvision(void)
{
    rq_preprocess p = rq_preprocess_defaults();
    p.resize_short = 33;
    p.crop_height = 28;
    p.crop_width = 25;
    p.mean[0] = 0.485f, p.mean[1] = 0.456f, p.mean[2] = 0.406f;
    p.std[0] = 0.229f, p.std[1] = 0.224f, p.std[2] = 0.225f;
    return p;
}

static void the_usual_transform_is_torchvisions(void **state)
{
    rq_tensor want = expected("torchvision"), got;
    const rq_preprocess p = torchvision();
    must(rq_image_read(&got, DIR "photo.png", &p, false, &err));
    assert_true(rq_shape_equal(&got.shape, &want.shape));
    for (int64_t i = 0; i < rq_tensor_count(&want); i++)
        if (!(fabsf(got.f32[i] - want.f32[i]) <= 1e-6f))
            fail_msg("element %lld is %.9g, expected %.9g", (long long)i, got.f32[i], want.f32[i]);
    rq_tensor_release(&got);
    rq_tensor_release(&want);
}

/* Pillow does not write interlaced files; libpng does. */
static void interlaced_pictures_are_put_together(void **state)
{
    const char *path = RQ_TEST_TMP "/interlaced.png";
    rq_tensor want = expected("photo.png");
    const int64_t h = want.shape.dim[0], w = want.shape.dim[1];
    FILE *f = fopen(path, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_bytep rows[100];
    for (int64_t y = 0; y < h; y++)
        rows[y] = want.u8 + y * w * 3;
    png_init_io(png, f);
    png_set_IHDR(png, info, (png_uint_32)w, (png_uint_32)h, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_ADAM7, 0, 0);
    png_set_rows(png, info, rows);
    png_write_png(png, info, PNG_TRANSFORM_IDENTITY, NULL);
    png_destroy_write_struct(&png, &info);
    fclose(f);
    rq_tensor_release(&want);
    rq_preprocess p = rq_preprocess_defaults();
    p.channels_last = true;
    compare_codes(path, &p, "photo.png");
}

/* ---- refused ---- */

static void refused(const char *file, const rq_preprocess *p, rq_status code, const char *says)
{
    rq_tensor t;
    const size_t live = rq_mem_live();
    rq_status st = rq_image_read(&t, file, p, false, &err);
    if (st != code || !strstr(err.text, says) || strncmp(err.text, file, strlen(file)))
        fail_msg("%s: %s, '%s'", file, rq_status_text(st), err.text);
    assert_int_equal(rq_mem_live(), live);
}

static void write_bytes(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void damaged_files_are_refused(void **state)
{
    rq_preprocess p = rq_preprocess_defaults();
    refused(DIR "cut.jpg", &p, RQ_BAD_FILE, "damaged JPEG");
    refused(DIR "cut.png", &p, RQ_BAD_FILE, "damaged PNG: the file ends too early");
    refused(DIR "cmyk.jpg", &p, RQ_UNSUPPORTED, "CMYK");
    refused(DIR "README.md", &p, RQ_BAD_FILE, "neither a JPEG nor a PNG");
    p.crop_height = p.crop_width = 61;
    refused(DIR "photo.jpg", &p, RQ_BAD_DATA, "smaller than the crop");
}

static void pictures_that_promise_too_much_are_refused_before_memory_is_taken(void **state)
{
    rq_preprocess p = rq_preprocess_defaults();
    rq_tensor t;
    p.resize_height = p.resize_width = 32;
    /* an interlaced PNG of 60000 x 60000, header only: a decoder would take 14 GB at once */
    static const uint8_t png[] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0,    0, 0,    13,
                                   'I',  'H', 'D', 'R', 0,    0,    0xea, 0x60, 0,    0, 0xea, 0x60,
                                   8,    2,   0,   0,   1,    0x78, 0xb7, 0xd2, 0x83, /* its CRC */
                                   0,    0,   0,   0,   'I',  'D',  'A',  'T',  0,    0, 0,    0 };
    write_bytes(RQ_TEST_TMP "/bomb.png", png, sizeof png);
    const size_t before = rq_mem_peak();
    refused(RQ_TEST_TMP "/bomb.png", &p, RQ_BAD_FILE, "more than its");
    assert_true(rq_mem_peak() <= before + (1 << 20));
    /* a progressive JPEG whose header says 65000 x 65000 */
    FILE *f = fopen(DIR "progressive.jpg", "rb");
    uint8_t jpg[4096];
    const size_t n = fread(jpg, 1, sizeof jpg, f);
    fclose(f);
    for (size_t i = 0; i + 9 < n; i++)
        if (jpg[i] == 0xff && jpg[i + 1] == 0xc2) {
            jpg[i + 5] = jpg[i + 7] = 0xfd;
            jpg[i + 6] = jpg[i + 8] = 0xe8;
            break;
        }
    write_bytes(RQ_TEST_TMP "/bomb.jpg", jpg, n);
    refused(RQ_TEST_TMP "/bomb.jpg", &p, RQ_BAD_FILE, "more than its");
    p.resize_height = 0;
    assert_int_equal(rq_image_read(&t, DIR "photo.jpg", &p, false, &err), RQ_BAD_ARG);
}

static void memory_can_run_out_anywhere(void **state)
{
    const rq_preprocess p = torchvision();
    static const char *const names[] = { DIR "photo.jpg", DIR "gray.jpg", DIR "photo.png" };
    for (size_t i = 0; i < 3; i++)
        for (size_t n = 1; n < 40; n++) {
            rq_tensor t;
            const size_t live = rq_mem_live();
            rq_mem_fail_after(n, n & 1);
            rq_status st = rq_image_read(&t, names[i], &p, false, &err);
            rq_mem_fail_after(0, false);
            if (st != RQ_OK && st != RQ_NO_MEMORY)
                fail_msg("allocation %zu: %s", n, err.text);
            rq_tensor_release(&t);
            assert_int_equal(rq_mem_live(), live);
        }
}

/* ---- folders ---- */

static void copy(const char *from, const char *to)
{
    static uint8_t bytes[65536];
    FILE *f = fopen(from, "rb");
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    write_bytes(to, bytes, n);
}

static rq_graph *image_model(rq_dtype d, int64_t side)
{
    rq_graph *g;
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    rq_shape s = { 4, { rq_edit_dim(g, "N"), 3, side, side } };
    must(rq_edit_set_opset(g, "", 17, &err));
    must(rq_edit_add_input(g, "image", d, &s, &err));
    must(rq_edit_add_output(g, "image", &err));
    return g;
}

static void subfolders_are_classes(void **state)
{
    rq_graph *g = image_model(RQ_DTYPE_F32, 28), *codes = image_model(RQ_DTYPE_U8, RQ_DIM_UNKNOWN);
    rq_preprocess p = torchvision();
    rq_dataset_cfg cfg = { .batch = 2, .images = &p };
    rq_dataset *d;
    const rq_feed *f;
    int n_feeds;
    assert_int_equal(system("rm -rf " FOLDER " && mkdir -p " FOLDER "/dog " FOLDER "/cat"), 0);
    copy(DIR "photo.jpg", FOLDER "/dog/2.jpg");
    copy(DIR "gray.png", FOLDER "/dog/1.PNG");
    copy(DIR "photo.png", FOLDER "/cat/9.png");

    assert_int_equal(rq_dataset_open(&d, FOLDER, g, NULL, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "preprocess:"));

    p.crop_height = p.crop_width = 0; /* from the model */
    must(rq_dataset_open(&d, FOLDER, g, &cfg, &err));
    assert_int_equal(rq_dataset_count(d), 3);
    const int64_t want[3] = { 0, 1, 1 };
    assert_memory_equal(rq_dataset_labels(d), want, sizeof want);
    must(rq_dataset_read(d, (int64_t[]) { 0, 2 }, 2, &f, &n_feeds, &err));
    assert_string_equal(f[0].name, "image");
    assert_int_equal(f[0].tensor.shape.dim[2], 28);
    rq_tensor one;
    p.crop_height = p.crop_width = 28;
    must(rq_image_read(&one, FOLDER "/cat/9.png", &p, false, &err));
    assert_memory_equal(f[0].tensor.f32, one.f32, one.bytes);
    rq_tensor_release(&one);
    rq_dataset_close(d);

    /* a model that takes codes gets codes; pictures of different sizes are an error then */
    p = rq_preprocess_defaults();
    must(rq_dataset_open(&d, FOLDER, codes, &cfg, &err));
    must(rq_dataset_read(d, (int64_t[]) { 0 }, 1, &f, &n_feeds, &err));
    assert_int_equal(f[0].tensor.dtype, RQ_DTYPE_U8);
    assert_int_equal(f[0].tensor.shape.dim[2], 60);
    rq_dataset_close(d);

    /* names that are numbers are the labels, in whatever order they are listed */
    assert_int_equal(system("cd " FOLDER " && mv dog 10 && mv cat 9"), 0);
    must(rq_dataset_open(&d, FOLDER, codes, &cfg, &err));
    assert_int_equal(rq_dataset_classes(d), 2);
    assert_int_equal(rq_dataset_labels(d)[0], 10);
    assert_int_equal(rq_dataset_labels(d)[2], 9);
    rq_dataset_close(d);
    assert_int_equal(system("cd " FOLDER " && mv 10 dog && mv 9 cat"), 0);

    copy(DIR "photo.png", FOLDER "/beside.png");
    assert_int_equal(rq_dataset_open(&d, FOLDER, g, &cfg, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "beside"));
    unlink(FOLDER "/beside.png");
    assert_int_equal(mkdir(FOLDER "/emu", 0777), 0);
    assert_int_equal(rq_dataset_open(&d, FOLDER, g, &cfg, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "emu: is taken for a class"));
    rq_graph_destroy(g);
    rq_graph_destroy(codes);
}

static void recipes_say_how(void **state)
{
    static const struct {
        const char *text, *says; /* says NULL: accepted */
    } cases[] = {
        { "preprocess: {resize: 256, crop: 224, mean: [0.5, 0.4, 0.3], std: 0.25, channels: bgr, layout: nhwc}\n",
          NULL },
        { "preprocess:\n", NULL },
        { "preprocess: {channels: gray, mean: [0.5], std: [2]}\n", NULL },
        { "preprocess: {resize: [32, 320], filter: bicubic, antialias: false, scale: 2}\n", NULL },
        { "preprocess: {resise: 3}\n", "unknown key 'resise' in 'preprocess'; the nearest is 'resize'" },
        { "preprocess:\n  resize: 2.5\n", ":2: preprocess: 'resize' wants" },
        { "preprocess: {std: [1, 0, 1]}\n", "'std' wants" },
        { "preprocess: {mean: [1, 2]}\n", "'mean' wants" },
        { "preprocess: {crop: 2, crop: 3}\n", "stands twice" },
        { "preprocess: 7\n", "wants keys and values" },
    };
    const char *path = RQ_TEST_TMP "/preprocess.yaml";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_recipe *r = NULL;
        write_bytes(path, cases[i].text, strlen(cases[i].text));
        rq_status st = rq_recipe_load(&r, path, &err);
        if (cases[i].says ? st != RQ_BAD_RECIPE || !strstr(err.text, cases[i].says) : st != RQ_OK)
            fail_msg("%s: %s", cases[i].text, err.text);
        if (i == 0) {
            const rq_preprocess *p = rq_recipe_preprocess(r);
            assert_int_equal(p->resize_short, 256);
            assert_int_equal(p->crop_width, 224);
            assert_true(p->mean[1] == 0.4f && p->std[2] == 0.25f);
            assert_int_equal(p->channels, RQ_IMAGE_BGR);
            assert_true(p->channels_last);
        }
        rq_recipe_destroy(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_decoded_as_pillow_does),
        cmocka_unit_test(resizing_has_pillows_bits),
        cmocka_unit_test(gray_is_pillows_luma),
        cmocka_unit_test(the_usual_transform_is_torchvisions),
        cmocka_unit_test(interlaced_pictures_are_put_together),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(pictures_that_promise_too_much_are_refused_before_memory_is_taken),
        cmocka_unit_test(memory_can_run_out_anywhere),
        cmocka_unit_test(subfolders_are_classes),
        cmocka_unit_test(recipes_say_how),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
