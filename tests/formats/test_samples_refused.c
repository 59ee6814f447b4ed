/* tests/formats/test_samples_refused.c — datasets: the sentence for each thing that does not fit, sizes before anything is allocated, zip bombs,
 * memory that runs out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include <cmocka.h>

#include "base/file.h"

#define SAMPLES RQ_TEST_TMP "/samples_refused"
#include "formats/samples_help.h"

/* Each way not to fit, and a word that the sentence must have. */
static void what_does_not_fit_is_said(void **state)
{
    (void)state;
    const size_t live = rq_mem_live();
    static const input two[] = { { "image", RQ_DTYPE_F32, 3, { -2, 2, 2 } }, { "mask", RQ_DTYPE_S32, 2, { -2, -3 } } };
    static const input fixed[] = { { "image", RQ_DTYPE_F32, 3, { 4, 2, 2 } } };
    static const input tall[] = { { "a", RQ_DTYPE_F32, 2, { -2, -3 } }, { "b", RQ_DTYPE_F32, 2, { -2, -3 } } };
    static const struct {
        const input *in;
        int n_in;
        array a[3];
        int n;
        int64_t batch;
        const char *word;
    } cases[] = {
        { image, 1, { { "imaeg", RQ_DTYPE_F32, 3, { 4, 2, 2 } }, { "x", RQ_DTYPE_F32, 1, { 4 } } }, 2, 0, "'imaeg'" },
        { image,
          1,
          { { "image", RQ_DTYPE_F32, 3, { 4, 2, 2 } }, { "imagee", RQ_DTYPE_F32, 1, { 4 } } },
          2,
          0,
          "the nearest is 'image'" },
        { image,
          1,
          { { "image", RQ_DTYPE_F32, 3, { 4, 2, 2 } }, { "label", RQ_DTYPE_S64, 1, { 4 } } },
          2,
          0,
          "the nearest is 'labels'" },
        { image,
          1,
          { { "image", RQ_DTYPE_F32, 3, { 4, 2, 2 } }, { "y", RQ_DTYPE_F32, 1, { 4 } } },
          2,
          0,
          "is called 'labels' (classes) or 'target'" },
        { image, 1, { { "image", RQ_DTYPE_F32, 3, { 4, 2, 3 } } }, 1, 0, "axis 2" },
        { image, 1, { { "image", RQ_DTYPE_F32, 2, { 4, 2 } } }, 1, 0, "one more" },
        { image, 1, { { "image", RQ_DTYPE_F32, 5, { 4, 1, 2, 2, 2 } } }, 1, 0, "one more" },
        { image, 1, { { "image", RQ_DTYPE_F32, 3, { 0, 2, 2 } } }, 1, 0, "no samples" },
        { image, 1, { { "image", RQ_DTYPE_U8, 3, { 4, 2, 2 } } }, 1, 0, "/ 255" },
        { image,
          1,
          { { "image", RQ_DTYPE_F32, 3, { 4, 2, 2 } }, { "labels", RQ_DTYPE_F32, 1, { 4 } } },
          2,
          0,
          "labels are f32" },
        { image,
          1,
          { { "image", RQ_DTYPE_F32, 3, { 4, 2, 2 } }, { "labels", RQ_DTYPE_S64, 1, { 3 } } },
          2,
          0,
          "labels have shape [3]" },
        { image,
          1,
          { { "image", RQ_DTYPE_F32, 3, { 4, 2, 2 } }, { "labels", RQ_DTYPE_S64, 1, { 5 } } },
          2,
          0,
          "labels have shape [5]" },
        { image,
          1,
          { { "image", RQ_DTYPE_F32, 3, { 4, 2, 2 } }, { "labels", RQ_DTYPE_S64, 2, { 4, 10 } } },
          2,
          0,
          "labels have shape" },
        { two, 2, { { "image", RQ_DTYPE_F32, 3, { 4, 2, 2 } } }, 1, 0, "no array for input 'mask'; found 'image'" },
        { two,
          2,
          { { "image", RQ_DTYPE_F32, 3, { 4, 2, 2 } }, { "mask", RQ_DTYPE_S32, 2, { 5, 3 } } },
          2,
          0,
          "5 rows" },
        { two,
          2,
          { { "image", RQ_DTYPE_F32, 3, { 4, 2, 2 } }, { "mask", RQ_DTYPE_F32, 2, { 4, 3 } } },
          2,
          0,
          "holds f32, input 'mask' wants s32" },
        { two,
          2,
          { { "image", RQ_DTYPE_F32, 3, { 4, 2, 2 } }, { "mask", RQ_DTYPE_S32, 3, { 4, 1, 3 } } },
          2,
          0,
          "a sample per row" },
        { tall, 2, { { "a", RQ_DTYPE_F32, 2, { 4, 3 } }, { "b", RQ_DTYPE_F32, 2, { 4, 5 } } }, 2, 0, "axis 1" },
        { fixed, 1, { { "image", RQ_DTYPE_F32, 3, { 3, 2, 2 } } }, 1, 0, "batches of 4" },
        { fixed, 1, { { "image", RQ_DTYPE_F32, 3, { 8, 2, 2 } } }, 1, 2, "batches of 2 were asked for" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_err err = { 0 };
        rq_dataset *d = NULL;
        rq_graph *g = graph_of(cases[i].in, cases[i].n_in);
        save_all(NPZ, cases[i].a, cases[i].n);
        rq_status st = rq_dataset_open(&d, NPZ, g, &(rq_dataset_cfg) { .batch = cases[i].batch }, &err);
        if (st != RQ_BAD_DATA || !strstr(err.text, cases[i].word) || !strstr(err.text, NPZ))
            fail_msg("case %zu: %s, '%s', expected '%s'", i, rq_status_text(st), err.text, cases[i].word);
        rq_graph_destroy(g);
    }
    rq_err err = { 0 };
    rq_dataset *d;
    rq_graph *g = graph_of(image, 1);
    save(NPZ, "image", RQ_DTYPE_F32, 3, (int64_t[]) { 4, 2, 2 });
    assert_int_equal(
        rq_dataset_open(&d, NPZ, g, &(rq_dataset_cfg) { .dims = &(rq_dim_value) { "M", 4 }, .n_dims = 1 }, &err),
        RQ_BAD_ARG);
    write_file(NPZ, "not a zip", 9);
    assert_int_equal(rq_dataset_open(&d, NPZ, g, NULL, &err), RQ_BAD_FILE);
    write_file(NPZ, "PK\3\4 not a zip", 14);
    assert_int_equal(rq_dataset_open(&d, NPZ, g, NULL, &err), RQ_BAD_FILE);
    assert_int_equal(rq_dataset_open(&d, RQ_TEST_TMP "/nowhere", g, NULL, &err), RQ_IO);
    clear_folder();
    assert_int_equal(rq_dataset_open(&d, FOLDER, g, NULL, &err), RQ_BAD_DATA);
    rq_graph_destroy(g);
    assert_int_equal(rq_mem_live(), live);
}

/* A file shorter than its header says, and a zip entry that claims more than deflate can hold. */
static void sizes_are_checked_first(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_tensor t;
    write_npy(NPY, 6);
    assert_int_equal(truncate(NPY, 128 + 6 * 16 - 1), 0);
    assert_int_equal(rq_npz_load(&t, NPY, NULL, &err), RQ_BAD_FILE);
    assert_non_null(strstr(err.text, "95 bytes"));
    uint8_t buf[RQ_NPY_WRITTEN];
    const rq_shape s = rq_shape_of(2, (int64_t[]) { 1 << 20, 1 << 20 });
    write_file(NPY, buf, rq_npy_write(buf, RQ_DTYPE_F32, &s));
    assert_int_equal(rq_npz_load(&t, NPY, NULL, &err), RQ_BAD_FILE);
    assert_int_equal(truncate(NPY, 60), 0);
    assert_int_equal(rq_npz_load(&t, NPY, NULL, &err), RQ_BAD_FILE);
    /* every size field of the archive says 4 GB - 1 */
    save(NPZ, "image", RQ_DTYPE_F32, 3, (int64_t[]) { 4, 2, 2 });
    rq_map map;
    must(rq_file_map(&map, NPZ, &err), &err);
    uint8_t *copy = malloc(map.size);
    memcpy(copy, map.data, map.size);
    const uint32_t claimed = 0xfffffffe;
    memcpy(copy + 22, &claimed, 4);
    uint8_t *central = memmem(copy, map.size, "PK\1\2", 4);
    assert_non_null(central);
    memcpy(central + 24, &claimed, 4);
    const size_t size = map.size;
    rq_file_unmap(&map);
    write_file(NPZ, copy, size);
    free(copy);
    assert_int_equal(rq_npz_load(&t, NPZ, "image", &err), RQ_BAD_FILE);
}

/* An entry of some 100 bytes whose header and whose archive agree that it holds a gigabyte. */
static void zip_bombs_are_refused(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_tensor t;
    int code;
    uint8_t buf[RQ_NPY_WRITTEN];
    const rq_shape s = rq_shape_of(2, (int64_t[]) { 1 << 20, 256 });
    const size_t head = rq_npy_write(buf, RQ_DTYPE_F32, &s);
    unlink(NPZ);
    zip_t *z = zip_open(NPZ, ZIP_CREATE | ZIP_TRUNCATE, &code);
    zip_int64_t k = zip_file_add(z, "x.npy", zip_source_buffer(z, buf, head, 0), 0);
    zip_set_file_compression(z, (zip_uint64_t)k, ZIP_CM_DEFLATE, 9);
    assert_int_equal(zip_close(z), 0);
    rq_map map;
    must(rq_file_map(&map, NPZ, &err), &err);
    const size_t size = map.size;
    uint8_t *copy = malloc(size);
    memcpy(copy, map.data, size);
    rq_file_unmap(&map);
    const uint32_t claimed = (uint32_t)head + (1u << 30);
    uint8_t *central = memmem(copy, size, "PK\1\2", 4);
    assert_non_null(central);
    memcpy(central + 24, &claimed, 4);
    memcpy(copy + 22, &claimed, 4);
    write_file(NPZ, copy, size);
    free(copy);
    assert_int_equal(rq_npz_load(&t, NPZ, "x", &err), RQ_BAD_FILE);
    assert_non_null(strstr(err.text, "deflate"));
}

static void memory_can_run_out_anywhere(void **state)
{
    (void)state;
    rq_err err;
    rq_graph *g = graph_of(image, 1);
    save_all(NPZ, (array[]) { { "image", RQ_DTYPE_F64, 3, { 10, 2, 2 } }, { "labels", RQ_DTYPE_U8, 1, { 10 } } }, 2);
    const size_t live = rq_mem_live();
    for (size_t n = 1; n < 200; n++) {
        rq_dataset *d;
        const rq_feed *f;
        int n_feeds;
        err = (rq_err) { 0 };
        rq_mem_fail_after(n, n & 1);
        rq_status st = rq_dataset_open(&d, NPZ, g, NULL, &err);
        if (!st)
            st = rq_dataset_read(d, (int64_t[]) { 3, 4 }, 2, &f, &n_feeds, &err);
        rq_mem_fail_after(0, false);
        rq_dataset_close(d);
        if (st && (st != RQ_NO_MEMORY || !strstr(err.text, "memory")))
            fail_msg("allocation %zu: %s, '%s'", n, rq_status_text(st), err.text);
        assert_int_equal(rq_mem_live(), live);
    }
    rq_feed out = { "x", range(RQ_DTYPE_S4, 1, (int64_t[]) { 9 }) };
    const size_t with = rq_mem_live();
    for (size_t n = 1; n < 20; n++) {
        rq_mem_fail_after(n, n & 1);
        rq_status st = rq_npz_save(RQ_TEST_TMP "/oom.npz", &out, 1, &err);
        rq_mem_fail_after(0, false);
        if (st && st != RQ_NO_MEMORY)
            fail_msg("allocation %zu of saving: %s, '%s'", n, rq_status_text(st), err.text);
        assert_int_equal(rq_mem_live(), with);
    }
    rq_tensor_release(&out.tensor);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_is_said),
        cmocka_unit_test(sizes_are_checked_first),
        cmocka_unit_test(zip_bombs_are_refused),
        cmocka_unit_test(memory_can_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
