/* tests/formats/test_samples.c — numpy files and datasets: what is read, in which batches, and the sentence for each
 * way in which samples do not fit a model. Expected bytes of headers are numpy's own. */
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

#include "base/file.h"
#include "base/mem.h"
#include "formats/npy.h"
#include "graph/graph.h"
#include "requant/dataset.h"

#define NPZ RQ_TEST_TMP "/samples.npz"
#define NPY RQ_TEST_TMP "/samples.npy"
#define FOLDER RQ_TEST_TMP "/samples"

static void must(rq_status st, const rq_err *err)
{
    if (st)
        fail_msg("%s", err->text);
}

static void write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

/* ---- headers ---- */

static rq_status parse(const char *dict, rq_npy_info *info, rq_err *err)
{
    uint8_t p[400];
    const size_t n = strlen(dict);
    memcpy(p, "\x93NUMPY\1\0", 8);
    p[8] = (uint8_t)n;
    p[9] = (uint8_t)(n >> 8);
    memcpy(p + 10, dict, n);
    *err = (rq_err) { 0 };
    return rq_npy_parse(info, p, 10 + n, err);
}

static void headers_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *dict;
        rq_status st;
        rq_dtype dtype;
        int rank;
        int64_t d0;
    } cases[] = {
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (500, 1, 8, 8), }     \n", RQ_OK, RQ_DTYPE_F32, 4, 500 },
        { "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }", RQ_OK, RQ_DTYPE_S64, 1, 3 },
        { "{'descr': '|b1', 'fortran_order': False, 'shape': (), }", RQ_OK, RQ_DTYPE_BOOL, 0, 0 },
        { "{\"shape\": (2L, 3L), \"fortran_order\": False, \"descr\": \"|u1\"}", RQ_OK, RQ_DTYPE_U8, 2, 2 },
        { "{'descr': '<c16', 'fortran_order': False, 'shape': (0, 3), }", RQ_OK, RQ_DTYPE_C128, 2, 0 },
        { "{'descr': '|i1', 'fortran_order': False, 'shape': (0, 70368744177664, 70368744177664), }", RQ_BAD_FILE, 0, 0,
          0 },
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (7,), }", RQ_OK, RQ_DTYPE_F32, 1, 7 },
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (7, 2), }", RQ_UNSUPPORTED, 0, 0, 0 },
        { "{'descr': '>f4', 'fortran_order': False, 'shape': (7,), }", RQ_UNSUPPORTED, 0, 0, 0 },
        { "{'descr': '<U5', 'fortran_order': False, 'shape': (7,), }", RQ_UNSUPPORTED, 0, 0, 0 },
        { "{'descr': '|O', 'fortran_order': False, 'shape': (7,), }", RQ_UNSUPPORTED, 0, 0, 0 },
        { "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (7,), }", RQ_UNSUPPORTED, 0, 0, 0 },
        { "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (7,), }", RQ_UNSUPPORTED, 0, 0, 0 },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", RQ_UNSUPPORTED, 0, 0, 0 },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", RQ_BAD_FILE, 0, 0, 0 },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", RQ_BAD_FILE, 0, 0, 0 },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", RQ_BAD_FILE, 0, 0, 0 },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,", RQ_BAD_FILE, 0, 0, 0 },
        { "{'descr': '<f4', 'fortran_order': False, }", RQ_BAD_FILE, 0, 0, 0 },
        { "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,), }", RQ_BAD_FILE, 0, 0, 0 },
        { "{'descr': '<f4", RQ_BAD_FILE, 0, 0, 0 },
        { "", RQ_BAD_FILE, 0, 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_npy_info info;
        rq_err err;
        rq_status st = parse(cases[i].dict, &info, &err);
        bool bad = cases[i].st ? st == RQ_OK
                               : st || info.dtype != cases[i].dtype || info.shape.rank != cases[i].rank ||
                                     (info.shape.rank && info.shape.dim[0] != cases[i].d0);
        if (bad || (st && !err.text[0]))
            fail_msg("%s: %s, %s", cases[i].dict, rq_status_text(st), err.text);
    }
}

/* As numpy.save(zeros((3, 2), int16)) begins. */
static void headers_are_written_as_numpy_does(void **state)
{
    (void)state;
    uint8_t buf[RQ_NPY_WRITTEN];
    const rq_shape s = rq_shape_of(2, (int64_t[]) { 3, 2 }), one = rq_shape_of(1, (int64_t[]) { 5 });
    assert_int_equal(rq_npy_write(buf, RQ_DTYPE_S16, &s), 128);
    static const char want[] = "\x93NUMPY\x01\x00v\x00{'descr': '<i2', 'fortran_order': False, 'shape': (3, 2), }";
    assert_memory_equal(buf, want, sizeof want - 1);
    assert_int_equal(buf[127], '\n');
    rq_npy_write(buf, RQ_DTYPE_BOOL, &one);
    assert_non_null(memmem(buf, 128, "'|b1', 'fortran_order': False, 'shape': (5,), }", 46));
    assert_int_equal(rq_npy_write(buf, RQ_DTYPE_BF16, &one), 0);
}

/* ---- archives ---- */

static rq_tensor range(rq_dtype d, int rank, const int64_t *dim)
{
    const rq_shape s = rq_shape_of(rank, dim);
    rq_tensor t;
    assert_int_equal(rq_tensor_create(&t, d, &s, true), RQ_OK);
    for (int64_t i = 0; i < rq_tensor_count(&t); i++)
        rq_tensor_set(&t, i, (double)i);
    return t;
}

static void archives_come_back(void **state)
{
    (void)state;
    const size_t live = rq_mem_live();
    rq_err err = { 0 };
    rq_feed out[] = { { "x", range(RQ_DTYPE_F32, 3, (int64_t[]) { 4, 3, 2 }) },
                      { "odd/name:0", range(RQ_DTYPE_S64, 1, (int64_t[]) { 5 }) },
                      { "scalar", range(RQ_DTYPE_F64, 0, NULL) },
                      { "empty", range(RQ_DTYPE_U8, 2, (int64_t[]) { 0, 3 }) },
                      { "nibbles", range(RQ_DTYPE_S4, 1, (int64_t[]) { 3 }) },
                      { "half", range(RQ_DTYPE_BF16, 1, (int64_t[]) { 2 }) } };
    enum { N = sizeof out / sizeof out[0] };
    must(rq_npz_save(NPZ, out, N, &err), &err);
    rq_map first, again;
    must(rq_file_map(&first, NPZ, &err), &err);
    must(rq_npz_save(RQ_TEST_TMP "/again.npz", out, N, &err), &err);
    must(rq_file_map(&again, RQ_TEST_TMP "/again.npz", &err), &err);
    assert_int_equal(first.size, again.size);
    assert_memory_equal(first.data, again.data, first.size);
    rq_file_unmap(&first);
    rq_file_unmap(&again);
    char **names;
    int n;
    must(rq_npz_names(NPZ, &names, &n, &err), &err);
    assert_int_equal(n, N);
    for (int i = 0; i < n; i++) {
        rq_tensor t;
        assert_string_equal(names[i], out[i].name);
        must(rq_npz_load(&t, NPZ, names[i], &err), &err);
        assert_true(rq_shape_equal(&t.shape, &out[i].tensor.shape));
        if (i < 4) {
            assert_int_equal(t.dtype, out[i].tensor.dtype);
            assert_memory_equal(t.data, out[i].tensor.data, t.bytes);
        }
        if (i == 4)
            assert_true(t.dtype == RQ_DTYPE_S8 && t.s8[2] == 2);
        if (i == 5)
            assert_true(t.dtype == RQ_DTYPE_U16 && t.u16[1] == 0x3f80); /* 1 in bfloat16 */
        rq_tensor_release(&t);
        rq_tensor_release(&out[i].tensor);
    }
    rq_free(names);
    rq_tensor t;
    assert_int_equal(rq_npz_load(&t, NPZ, "scaler", &err), RQ_NOT_FOUND);
    assert_non_null(strstr(err.text, "'scalar'"));
    assert_int_equal(rq_npz_load(&t, RQ_TEST_TMP "/nowhere.npz", "x", &err), RQ_IO);
    assert_int_equal(rq_mem_live(), live);
}

/* ---- datasets ---- */

typedef struct input {
    const char *name;
    rq_dtype dtype;
    int rank;
    int64_t dim[4]; /* -2: the symbol N, -3: T */
} input;

static rq_graph *graph_of(const input *in, int n)
{
    rq_graph *g;
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    assert_int_equal(rq_graph_symbol(g, "N"), -2);
    assert_int_equal(rq_graph_symbol(g, "T"), -3);
    for (int i = 0; i < n; i++) {
        rq_id id;
        const rq_shape s = rq_shape_of(in[i].rank, in[i].dim);
        assert_int_equal(rq_graph_add_value(g, &id, RQ_VALUE_INPUT, in[i].name, in[i].dtype, &s, NULL), RQ_OK);
        assert_true(rq_mem_grow(&g->inputs, g->n_inputs, &g->cap_inputs, sizeof *g->inputs));
        g->inputs[g->n_inputs++] = id;
    }
    return g;
}

static void save(const char *path, const char *name, rq_dtype d, int rank, const int64_t *dim)
{
    rq_err err = { 0 };
    rq_feed f = { name, range(d, rank, dim) };
    must(rq_npz_save(path, &f, 1, &err), &err);
    rq_tensor_release(&f.tensor);
}

typedef struct array {
    const char *name;
    rq_dtype dtype;
    int rank;
    int64_t dim[5];
} array;

static void save_all(const char *path, const array *a, int n)
{
    rq_err err = { 0 };
    rq_feed f[8] = { 0 };
    for (int i = 0; i < n; i++)
        f[i] = (rq_feed) { a[i].name, range(a[i].dtype, a[i].rank, a[i].dim) };
    must(rq_npz_save(path, f, n, &err), &err);
    for (int i = 0; i < n; i++)
        rq_tensor_release(&f[i].tensor);
}

static const input image[] = { { "image", RQ_DTYPE_F32, 3, { -2, 2, 2 } } };

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

/* numpy.save(range(24).reshape(6, 2, 2)) by hand, as f32. */
static void write_npy(const char *path, int rows)
{
    uint8_t buf[RQ_NPY_WRITTEN + 400];
    const rq_shape s = rq_shape_of(3, (int64_t[]) { rows, 2, 2 });
    size_t n = rq_npy_write(buf, RQ_DTYPE_F32, &s);
    float *x = (float *)(buf + n);
    for (int i = 0; i < rows * 4; i++)
        memcpy(x + i, &(float) { (float)i }, 4);
    write_file(path, buf, n + (size_t)rows * 16);
}

static void clear_folder(void)
{
    (void)!system("rm -rf " FOLDER);
    mkdir(FOLDER, 0777);
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
        cmocka_unit_test(headers_are_read),
        cmocka_unit_test(headers_are_written_as_numpy_does),
        cmocka_unit_test(archives_come_back),
        cmocka_unit_test(batches_are_cut),
        cmocka_unit_test(whole_feeds_are_rows),
        cmocka_unit_test(a_lone_array_needs_no_name),
        cmocka_unit_test(folders_are_joined),
        cmocka_unit_test(deflated_archives_are_read_anywhere),
        cmocka_unit_test(what_does_not_fit_is_said),
        cmocka_unit_test(values_are_looked_at),
        cmocka_unit_test(references_may_be_anything),
        cmocka_unit_test(sizes_are_checked_first),
        cmocka_unit_test(zip_bombs_are_refused),
        cmocka_unit_test(memory_can_run_out_anywhere),
        cmocka_unit_test(a_programs_own_arrays_are_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
