/* tests/formats/test_npy.c — numpy's files: headers read and written as numpy does (expected bytes are its own), archives that come back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include <cmocka.h>

#include "base/file.h"

#define SAMPLES RQ_TEST_TMP "/npy"
#include "formats/samples_help.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_read),
        cmocka_unit_test(headers_are_written_as_numpy_does),
        cmocka_unit_test(archives_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
