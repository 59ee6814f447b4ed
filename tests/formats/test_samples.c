/* tests/formats/test_samples.c — datasets: what is read, from arrays, archives, folders and a program's own, and in which batches. What does not
 * fit a model: test_samples_refused.c. */
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
#include <zip.h>

#include <cmocka.h>

#define SAMPLES RQ_TEST_TMP "/samples"
#include "formats/samples_help.h"

static void batches_are_cut(void **state)
{
    (void)state;
    const size_t live = rq_mem_live();
    rq_err err = { 0 };
    rq_graph *g = graph_of(image, 1);
    rq_dataset *d;
    save_all(NPZ,
             (array[]) { { "image", RQ_DTYPE_F32, 3, { 10, 2, 2 } },
                         { "labels", RQ_DTYPE_U8, 1, { 10 } },
                         { "ref_y", RQ_DTYPE_F32, 1, { 3 } } },
             3);
    must(rq_dataset_open(&d, NPZ, g, &(rq_dataset_cfg) { .batch = 4 }, &err), &err);
    assert_int_equal(rq_dataset_count(d), 10);
    assert_int_equal(rq_dataset_batch_size(d), 4);
    assert_false(rq_dataset_whole_feeds(d));
    assert_int_equal(rq_dataset_labels(d)[9], 9);
    const rq_feed *f;
    int n;
    must(rq_dataset_read(d, (int64_t[]) { 1, 2, 7, 9 }, 4, &f, &n, &err), &err);
    assert_int_equal(n, 1);
    assert_string_equal(f[0].name, "image");
    assert_int_equal(f[0].tensor.shape.rank, 3);
    assert_int_equal(f[0].tensor.shape.dim[0], 4);
    assert_true(f[0].tensor.f32[0] == 4 && f[0].tensor.f32[7] == 11 && f[0].tensor.f32[8] == 28 &&
                f[0].tensor.f32[15] == 39);
    must(rq_dataset_read(d, (int64_t[]) { 0 }, 1, &f, &n, &err), &err); /* backwards, and a short batch */
    assert_true(f[0].tensor.shape.dim[0] == 1 && f[0].tensor.f32[3] == 3);
    assert_int_equal(rq_dataset_read(d, (int64_t[]) { 10 }, 1, &f, &n, &err), RQ_BAD_ARG);
    assert_int_equal(rq_dataset_read(d, (int64_t[]) { 0, 1, 2, 3, 4 }, 5, &f, &n, &err), RQ_BAD_ARG);
    rq_dataset_close(d);
    /* N = 4 fixes the batch: two batches, the rest is left out */
    must(rq_dataset_open(&d, NPZ, g, &(rq_dataset_cfg) { .dims = &(rq_dim_value) { "N", 4 }, .n_dims = 1 }, &err),
         &err);
    assert_int_equal(rq_dataset_count(d), 8);
    assert_int_equal(rq_dataset_batch_size(d), 4);
    assert_int_equal(rq_dataset_read(d, (int64_t[]) { 0, 1 }, 2, &f, &n, &err), RQ_BAD_DATA);
    rq_dataset_close(d);
    rq_graph_destroy(g);
    assert_int_equal(rq_mem_live(), live);
}

static void whole_feeds_are_rows(void **state)
{
    (void)state;
    rq_err err = { 0 };
    static const input in[] = { { "x", RQ_DTYPE_F32, 2, { 1, -3 } },
                                { "state", RQ_DTYPE_F32, 3, { 2, 1, 4 } },
                                { "sr", RQ_DTYPE_S64, 0, { 0 } } };
    rq_graph *g = graph_of(in, 3);
    rq_dataset *d;
    const rq_feed *f;
    int n;
    save_all(NPZ,
             (array[]) { { "x", RQ_DTYPE_F32, 3, { 5, 1, 6 } },
                         { "state", RQ_DTYPE_F32, 4, { 5, 2, 1, 4 } },
                         { "sr", RQ_DTYPE_S64, 1, { 5 } } },
             3);
    must(rq_dataset_open(&d, NPZ, g, NULL, &err), &err);
    assert_true(rq_dataset_whole_feeds(d));
    assert_int_equal(rq_dataset_batch_size(d), 1);
    must(rq_dataset_read(d, (int64_t[]) { 3 }, 1, &f, &n, &err), &err);
    assert_int_equal(n, 3);
    assert_int_equal(f[0].tensor.shape.rank, 2);
    assert_int_equal(f[1].tensor.shape.rank, 3);
    assert_int_equal(f[2].tensor.shape.rank, 0);
    assert_true(f[1].tensor.f32[0] == 24 && f[2].tensor.s64[0] == 3);
    rq_dataset_close(d);
    /* one number for all */
    save_all(NPZ,
             (array[]) { { "x", RQ_DTYPE_F32, 3, { 5, 1, 6 } },
                         { "state", RQ_DTYPE_F32, 4, { 5, 2, 1, 4 } },
                         { "sr", RQ_DTYPE_S64, 0, { 0 } } },
             3);
    must(rq_dataset_open(&d, NPZ, g, NULL, &err), &err);
    must(rq_dataset_read(d, (int64_t[]) { 4 }, 1, &f, &n, &err), &err);
    assert_true(f[2].tensor.s64[0] == 0);
    rq_dataset_close(d);
    rq_graph_destroy(g);
}

static void a_lone_array_needs_no_name(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_graph *g = graph_of(image, 1);
    rq_dataset *d;
    save(NPZ, "whatever", RQ_DTYPE_F64, 3, (int64_t[]) { 6, 2, 2 });
    must(rq_dataset_open(&d, NPZ, g, NULL, &err), &err);
    const rq_feed *f;
    int n;
    must(rq_dataset_read(d, (int64_t[]) { 5 }, 1, &f, &n, &err), &err);
    assert_true(f[0].tensor.dtype == RQ_DTYPE_F32 && f[0].tensor.f32[0] == 20);
    rq_dataset_close(d);
    rq_graph_destroy(g);
}

/* A .npz of two entries given as bytes. */
static void zip_bytes(const char *a, const void *pa, size_t na, const char *b, const void *pb, size_t nb)
{
    int code;
    unlink(NPZ);
    zip_t *z = zip_open(NPZ, ZIP_CREATE | ZIP_TRUNCATE, &code);
    zip_file_add(z, a, zip_source_buffer(z, pa, na, 0), 0);
    zip_file_add(z, b, zip_source_buffer(z, pb, nb, 0), 0);
    assert_int_equal(zip_close(z), 0);
}

static void references_may_be_anything(void **state)
{
    (void)state;
    static const char text[] = "\x93NUMPY\1\0\x3a\0{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }    \nabcd";
    rq_err err = { 0 };
    rq_graph *g = graph_of(image, 1);
    rq_dataset *d;
    uint8_t buf[RQ_NPY_WRITTEN + 32] = { 0 };
    const rq_shape s = rq_shape_of(3, (int64_t[]) { 2, 2, 2 });
    const size_t n = rq_npy_write(buf, RQ_DTYPE_F32, &s);
    zip_bytes("image.npy", buf, n + 32, "ref_text.npy", text, sizeof text - 1);
    must(rq_dataset_open(&d, NPZ, g, NULL, &err), &err);
    rq_dataset_close(d);
    zip_bytes("image.npy", buf, n + 32, "text.npy", text, sizeof text - 1);
    assert_int_equal(rq_dataset_open(&d, NPZ, g, NULL, &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "text"));
    rq_graph_destroy(g);
}

static void folders_are_joined(void **state)
{
    (void)state;
    const size_t live = rq_mem_live();
    rq_err err = { 0 };
    rq_graph *g = graph_of(image, 1);
    rq_dataset *d;
    const rq_feed *f;
    int n;
    write_npy(NPY, 6);
    must(rq_dataset_open(&d, NPY, g, NULL, &err), &err);
    assert_int_equal(rq_dataset_count(d), 6);
    rq_dataset_close(d);
    clear_folder();
    write_npy(FOLDER "/image.npy", 6);
    must(rq_dataset_open(&d, FOLDER, g, NULL, &err), &err);
    assert_int_equal(rq_dataset_count(d), 6);
    rq_dataset_close(d);
    write_npy(FOLDER "/other.npy", 6);
    assert_int_equal(rq_dataset_open(&d, FOLDER, g, NULL, &err), RQ_BAD_DATA);
    clear_folder();
    for (int i = 0; i < 12; i++) { /* b00.npz ... : 0 to 3 rows each */
        char path[256];
        snprintf(path, sizeof path, FOLDER "/b%02d.npz", i);
        save_all(path,
                 (array[]) { { "image", RQ_DTYPE_F32, 3, { i % 4, 2, 2 } }, { "labels", RQ_DTYPE_S32, 1, { i % 4 } } },
                 2);
    }
    must(rq_dataset_open(&d, FOLDER, g, NULL, &err), &err);
    assert_int_equal(rq_dataset_count(d), 18); /* 0 1 2 3 0 1 2 3 0 1 2 3 */
    int64_t rows[16];
    for (int i = 0; i < 16; i++)
        rows[i] = i + 1;
    must(rq_dataset_read(d, rows, 16, &f, &n, &err), &err);
    /* row 1 is the first of b02, row 2 its second, 3 the first of b03, 5 its third, 6 the only one of b05 */
    assert_true(f[0].tensor.f32[0] == 0 && f[0].tensor.f32[4] == 4 && f[0].tensor.f32[16] == 8 &&
                f[0].tensor.f32[20] == 0);
    assert_int_equal(rq_dataset_labels(d)[5], 2);
    rq_dataset_close(d);
    save(FOLDER "/c.npz", "image", RQ_DTYPE_F32, 3, (int64_t[]) { 2, 3, 2 });
    assert_int_equal(rq_dataset_open(&d, FOLDER, g, NULL, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "c.npz"));
    rq_graph_destroy(g);
    assert_int_equal(rq_mem_live(), live);
}

static void deflated_archives_are_read_anywhere(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_graph *g = graph_of(image, 1);
    rq_dataset *d;
    const rq_feed *f;
    int n, code;
    uint8_t buf[RQ_NPY_WRITTEN];
    enum { ROWS = 5000 };
    const rq_shape s = rq_shape_of(3, (int64_t[]) { ROWS, 2, 2 });
    const size_t head = rq_npy_write(buf, RQ_DTYPE_F32, &s);
    char *all = malloc(head + ROWS * 16);
    memcpy(all, buf, head);
    for (int i = 0; i < ROWS * 4; i++)
        memcpy(all + head + i * 4, &(float) { (float)i }, 4);
    unlink(NPZ);
    zip_t *z = zip_open(NPZ, ZIP_CREATE | ZIP_TRUNCATE, &code);
    zip_int64_t k = zip_file_add(z, "image.npy", zip_source_buffer(z, all, head + ROWS * 16, 0), 0);
    zip_set_file_compression(z, (zip_uint64_t)k, ZIP_CM_DEFLATE, 9);
    assert_int_equal(zip_close(z), 0);
    free(all);
    must(rq_dataset_open(&d, NPZ, g, NULL, &err), &err);
    static const int64_t order[] = { 0, 4000, 4001, 17, 4999, 1 };
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        must(rq_dataset_read(d, &order[i], 1, &f, &n, &err), &err);
        assert_true(f[0].tensor.f32[3] == (float)(order[i] * 4 + 3));
    }
    rq_dataset_close(d);
    rq_graph_destroy(g);
}

static void values_are_looked_at(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_dataset *d;
    const rq_feed *f;
    int n;
    rq_graph *g = graph_of(image, 1);
    rq_feed a = { "image", range(RQ_DTYPE_F32, 3, (int64_t[]) { 4, 2, 2 }) };
    a.tensor.f32[9] = NAN;
    a.tensor.f32[1] = INFINITY; /* may be meant */
    must(rq_npz_save(NPZ, &a, 1, &err), &err);
    rq_tensor_release(&a.tensor);
    must(rq_dataset_open(&d, NPZ, g, NULL, &err), &err);
    must(rq_dataset_read(d, (int64_t[]) { 0, 1, 3 }, 3, &f, &n, &err), &err);
    assert_int_equal(rq_dataset_read(d, (int64_t[]) { 1, 2 }, 2, &f, &n, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "row 2"));
    rq_dataset_close(d);
    rq_graph_destroy(g);

    static const input ids[] = { { "ids", RQ_DTYPE_S8, 2, { -2, 2 } } };
    g = graph_of(ids, 1);
    a = (rq_feed) { "ids", range(RQ_DTYPE_S64, 2, (int64_t[]) { 100, 2 }) };
    must(rq_npz_save(NPZ, &a, 1, &err), &err);
    rq_tensor_release(&a.tensor);
    must(rq_dataset_open(&d, NPZ, g, NULL, &err), &err);
    must(rq_dataset_read(d, (int64_t[]) { 63 }, 1, &f, &n, &err), &err);
    assert_int_equal(f[0].tensor.s8[1], 127);
    assert_int_equal(rq_dataset_read(d, (int64_t[]) { 64 }, 1, &f, &n, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "holds 128"));
    rq_dataset_close(d);
    rq_graph_destroy(g);
}

static rq_status count_up(void *arg, int64_t first, int64_t n, void *dst, rq_err *err)
{
    float *x = dst;
    (*(int *)arg)++;
    if (first + n > 9)
        return rq_fail(err, RQ_IO, "the camera is gone");
    for (int64_t i = 0; i < n * 4; i++)
        x[i] = (float)(first * 4 + i);
    return RQ_OK;
}

static void a_programs_own_arrays_are_samples(void **state)
{
    (void)state;
    const size_t live = rq_mem_live();
    rq_err err = { 0 };
    rq_graph *g = graph_of(image, 1);
    rq_dataset *d;
    const rq_feed *f;
    int n_feeds, calls = 0;
    float x[40];
    uint8_t labels[10] = { 7, 6, 5, 4, 3, 2, 1, 0, 1, 2 };
    for (int i = 0; i < 40; i++)
        x[i] = (float)i;
    rq_dataset_array a[2] = {
        { .name = "image", .dtype = RQ_DTYPE_F32, .shape = { 3, { 10, 2, 2 } }, .data = x },
        { .name = "labels", .dtype = RQ_DTYPE_U8, .shape = { 1, { 10 } }, .data = labels },
    };
    for (int by_function = 0; by_function < 2; by_function++) {
        if (by_function)
            a[0].data = NULL, a[0].read = count_up, a[0].arg = &calls;
        must(rq_dataset_create(&d, a, 2, g, &(rq_dataset_cfg) { .batch = 4 }, &err), &err);
        assert_int_equal(rq_dataset_count(d), 10);
        assert_int_equal(rq_dataset_labels(d)[3], 4);
        must(rq_dataset_read(d, (int64_t[]) { 2, 3, 7 }, 3, &f, &n_feeds, &err), &err);
        assert_int_equal(n_feeds, 1);
        assert_int_equal(f[0].tensor.shape.dim[0], 3);
        assert_true(f[0].tensor.f32[0] == 8 && f[0].tensor.f32[7] == 15 && f[0].tensor.f32[8] == 28);
        if (by_function) {
            assert_int_equal(calls, 2); /* neighbours together */
            assert_int_equal(rq_dataset_read(d, (int64_t[]) { 9 }, 1, &f, &n_feeds, &err), RQ_IO);
            assert_string_equal(err.text, "the camera is gone");
        }
        rq_dataset_close(d);
    }
    a[0].read = NULL;
    assert_int_equal(rq_dataset_create(&d, a, 2, g, NULL, &err), RQ_BAD_ARG);
    a[0].data = x, a[0].name = "imago";
    a[1].name = "labelz";
    assert_int_equal(rq_dataset_create(&d, a, 2, g, NULL, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "nearest is 'imago'"));
    assert_int_equal(rq_dataset_create(&d, NULL, 0, g, NULL, &err), RQ_BAD_DATA);
    rq_graph_destroy(g);
    assert_int_equal(rq_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_are_cut),
        cmocka_unit_test(whole_feeds_are_rows),
        cmocka_unit_test(a_lone_array_needs_no_name),
        cmocka_unit_test(folders_are_joined),
        cmocka_unit_test(deflated_archives_are_read_anywhere),
        cmocka_unit_test(values_are_looked_at),
        cmocka_unit_test(references_may_be_anything),
        cmocka_unit_test(a_programs_own_arrays_are_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
