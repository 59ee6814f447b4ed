/* tests/formats/samples_help.h — files of samples and graphs that take them. Includer: SAMPLES is a path that no other test writes. */
#ifndef RQ_TESTS_FORMATS_SAMPLES_HELP_H
#define RQ_TESTS_FORMATS_SAMPLES_HELP_H

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

#include "formats/npy.h"
#include "graph/graph.h"
#include "requant/dataset.h"

#define NPZ SAMPLES ".npz"
#define NPY SAMPLES ".npy"
#define FOLDER SAMPLES

static inline void must(rq_status st, const rq_err *err)
{
    if (st)
        fail_msg("%s", err->text);
}

static inline void write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static inline rq_tensor range(rq_dtype d, int rank, const int64_t *dim)
{
    const rq_shape s = rq_shape_of(rank, dim);
    rq_tensor t;
    assert_int_equal(rq_tensor_create(&t, d, &s, true), RQ_OK);
    for (int64_t i = 0; i < rq_tensor_count(&t); i++)
        rq_tensor_set(&t, i, (double)i);
    return t;
}

typedef struct input {
    const char *name;
    rq_dtype dtype;
    int rank;
    int64_t dim[4]; /* -2: the symbol N, -3: T */
} input;

static inline rq_graph *graph_of(const input *in, int n)
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

static inline void save(const char *path, const char *name, rq_dtype d, int rank, const int64_t *dim)
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

static inline void save_all(const char *path, const array *a, int n)
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

/* numpy.save(range(24).reshape(6, 2, 2)) by hand, as f32. */
static inline void write_npy(const char *path, int rows)
{
    uint8_t buf[RQ_NPY_WRITTEN + 400];
    const rq_shape s = rq_shape_of(3, (int64_t[]) { rows, 2, 2 });
    size_t n = rq_npy_write(buf, RQ_DTYPE_F32, &s);
    float *x = (float *)(buf + n);
    for (int i = 0; i < rows * 4; i++)
        memcpy(x + i, &(float) { (float)i }, 4);
    write_file(path, buf, n + (size_t)rows * 16);
}

static inline void clear_folder(void)
{
    (void)!system("rm -rf " FOLDER);
    mkdir(FOLDER, 0777);
}

#endif
