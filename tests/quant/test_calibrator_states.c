/* requant/calibrator.h: the same from any threads, instruction sets, layout and cut; states that come back, hostile ones, memory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "quant/calibrator_help.h"
#include "requant/requant.h"

static float more[MANY];

/* ---- the same from any threads, instructions, layout and cut ---- */

enum { BIG = 700001 };

static rq_calibrator_cfg cfg_of(int kind, const rq_tensor *around)
{
    static const rq_calibrator_kind kinds[5] = { RQ_CALIBRATOR_MAX, RQ_CALIBRATOR_HISTOGRAM, RQ_CALIBRATOR_HISTOGRAM,
                                                 RQ_CALIBRATOR_MSE, RQ_CALIBRATOR_MSE };
    rq_calibrator_cfg cfg = rq_calibrator_defaults(kinds[kind]);
    cfg.numpy_hist = kind == 2;
    cfg.skip_zeros = kind == 2;
    cfg.e4m3 = kind == 4;
    cfg.amax = around;
    cfg.step_size = 1;
    return cfg;
}

static void assert_same(rq_calibrator *a, rq_calibrator *b)
{
    rq_state *s[2];
    assert_int_equal(rq_state_create(&s[0]), RQ_OK);
    assert_int_equal(rq_state_create(&s[1]), RQ_OK);
    assert_int_equal(rq_calibrator_save(a, s[0], "q.", NULL), RQ_OK);
    assert_int_equal(rq_calibrator_save(b, s[1], "q.", NULL), RQ_OK);
    assert_int_equal(rq_state_count(s[0]), rq_state_count(s[1]));
    for (int i = 0; i < rq_state_count(s[0]); i++) {
        const rq_tensor *x = rq_state_tensor(s[0], i), *y = rq_state_tensor(s[1], i);
        assert_string_equal(rq_state_name(s[0], i), rq_state_name(s[1], i));
        assert_true(rq_shape_equal(&x->shape, &y->shape) && x->dtype == y->dtype);
        assert_memory_equal(x->data, y->data, x->bytes);
    }
    rq_state_destroy(s[0]);
    rq_state_destroy(s[1]);
}

static void threads_and_instructions_change_nothing(void **state)
{
    float *x = malloc(BIG * sizeof *x), around = 1.5f;
    assert_non_null(x);
    gen_t(x, BIG, 9);
    for (int i = 0; i < BIG; i += 13)
        x[i] = 0;
    x[77] = NAN;
    x[500000] = INFINITY;
    const rq_shape scalar = { 0 };
    const rq_tensor amax = rq_tensor_view(RQ_DTYPE_F32, &scalar, &around);
    const char *isa = getenv("RQ_CPU");
    char kept[32] = "";
    if (isa)
        strncpy(kept, isa, sizeof kept - 1);
    for (int kind = 0; kind < 5; kind++) {
        const rq_calibrator_cfg cfg = cfg_of(kind, &amax);
        rq_calibrator *plain = make(&cfg);
        const rq_strided v = rq_strided_vector(x, BIG);
        assert_int_equal(rq_calibrator_collect(plain, NULL, &v, NULL), RQ_OK);
        for (int run = 0; run < 3; run++) {
            rq_exec *e = NULL;
            if (run == 2)
                setenv("RQ_CPU", "scalar", 1);
            assert_int_equal(rq_exec_create(&e, run ? 2 : 1, NULL), RQ_OK);
            if (run == 2 && isa)
                setenv("RQ_CPU", kept, 1);
            else if (run == 2)
                unsetenv("RQ_CPU");
            rq_calibrator *c = make(&cfg);
            assert_int_equal(rq_calibrator_collect(c, e, &v, NULL), RQ_OK);
            assert_same(plain, c);
            rq_calibrator_destroy(c);
            rq_exec_destroy(e);
        }
        rq_calibrator_destroy(plain);
    }
    free(x);
}

static void strides_change_nothing(void **state)
{
    const int64_t dim[3] = { 6, 5, 4 }, turned[3] = { 4, 6, 5 };
    const int order[3] = { 2, 0, 1 };
    const rq_shape s = rq_shape_of(3, dim), st = rq_shape_of(3, turned);
    float around = 1;
    const rq_shape scalar = { 0 };
    const rq_tensor amax = rq_tensor_view(RQ_DTYPE_F32, &scalar, &around);
    gen_b(data, 120, 11);
    const rq_strided v = rq_strided_floats(data, &s), p = rq_strided_permute(&v, order);
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 5; j++)
            for (int k = 0; k < 4; k++)
                more[(k * 6 + i) * 5 + j] = data[(i * 5 + j) * 4 + k];
    const rq_strided copy = rq_strided_floats(more, &st);
    for (int kind = 0; kind < 5; kind++) {
        rq_calibrator_cfg cfg = cfg_of(kind, &amax);
        for (int axis = -1; axis < (kind == 1 || kind == 2 ? 0 : 3); axis++) {
            cfg.n_axes = axis >= 0;
            cfg.axis[0] = axis;
            rq_calibrator *a = make(&cfg), *b = make(&cfg);
            assert_int_equal(rq_calibrator_collect(a, NULL, &p, NULL), RQ_OK);
            assert_int_equal(rq_calibrator_collect(b, NULL, &copy, NULL), RQ_OK);
            assert_same(a, b);
            rq_calibrator_destroy(a);
            rq_calibrator_destroy(b);
        }
    }
    /* halves and doubles are read as f32 */
    uint16_t bf[3] = { 0x3f80, 0xc000, 0x3f00 };
    double wide[3] = { 1, -2, 0.5 };
    const int64_t n = 3;
    rq_strided h = { .dtype = RQ_DTYPE_BF16, .data = bf, .shape = rq_shape_of(1, &n), .stride = { 1 } };
    rq_calibrator *c = make_max(0, NULL, false);
    assert_int_equal(rq_calibrator_collect(c, NULL, &h, NULL), RQ_OK);
    assert_true(ask(c, RQ_AMAX_MAX) == 2);
    h.dtype = RQ_DTYPE_F64;
    h.data = wide;
    wide[0] = 7;
    assert_int_equal(rq_calibrator_collect(c, NULL, &h, NULL), RQ_OK);
    assert_true(ask(c, RQ_AMAX_MAX) == 7);
    rq_calibrator_destroy(c);
}

/* ---- memory and states ---- */

static rq_status whole_life(int kind, const rq_tensor *around, bool compare)
{
    const int64_t dim[2] = { 3, 40 };
    const rq_shape s = rq_shape_of(2, dim);
    rq_calibrator_cfg cfg = cfg_of(kind, around);
    cfg.track_amax = true;
    cfg.num_bins = 200;
    if (kind == 0 || kind > 2)
        cfg.n_axes = 1;
    rq_calibrator *c = NULL, *d = NULL;
    rq_state *state = NULL;
    rq_tensor t = { 0 };
    const rq_strided v = rq_strided_floats(data, &s), w = rq_strided_floats(more, &s);
    rq_status st = rq_calibrator_create(&c, &cfg, NULL);
    if (!st)
        st = rq_calibrator_create(&d, &cfg, NULL);
    if (!st)
        st = rq_calibrator_collect(c, NULL, &v, NULL);
    if (!st)
        st = rq_calibrator_collect(c, NULL, &w, NULL);
    if (!st)
        st = rq_calibrator_amax(c, kind == 0 ? RQ_AMAX_MAX : RQ_AMAX_MSE, NULL, &t, NULL);
    rq_tensor_release(&t);
    if (!st && (kind == 1 || kind == 2))
        st = rq_calibrator_amax(c, RQ_AMAX_ENTROPY, NULL, &t, NULL);
    rq_tensor_release(&t);
    if (!st)
        st = rq_state_create(&state);
    if (!st)
        st = rq_calibrator_save(c, state, "x.", NULL);
    if (!st)
        st = rq_calibrator_load(d, state, "x.", NULL);
    if (!st) { /* from here on both are the same, also when they go on */
        st = rq_calibrator_collect(c, NULL, &w, NULL);
        if (!st)
            st = rq_calibrator_collect(d, NULL, &w, NULL);
        if (!st && compare)
            assert_same(c, d);
        if (!st)
            st = rq_calibrator_reset(d);
    }
    rq_calibrator_destroy(c);
    rq_calibrator_destroy(d);
    rq_state_destroy(state);
    return st;
}

static void memory_may_fail_anywhere(void **state)
{
    float around = 2;
    const rq_shape scalar = { 0 };
    const rq_tensor amax = rq_tensor_view(RQ_DTYPE_F32, &scalar, &around);
    gen_b(data, 120, 21);
    gen_b(more, 120, 22);
    for (int i = 0; i < 120; i++)
        more[i] *= 3;
    for (int kind = 0; kind < 5; kind++) {
        const size_t live = rq_mem_live();
        rq_status st = RQ_NO_MEMORY;
        int n = 1;
        for (; st == RQ_NO_MEMORY && n < 500; n++) {
            rq_mem_fail_after((size_t)n, false);
            st = whole_life(kind, &amax, false);
            rq_mem_fail_after(0, false);
            assert_int_equal(rq_mem_live(), live);
        }
        assert_int_equal(st, RQ_OK);
        assert_in_range(n, 10, 400);
        assert_int_equal(whole_life(kind, &amax, true), RQ_OK);
    }
    /* what failed to be collected is not there */
    const int axis = 0;
    rq_calibrator *c = make_max(1, &axis, true);
    const rq_strided v = rq_strided_vector(data, 120);
    for (size_t n = 1; n < 4; n++) {
        rq_mem_fail_after(n, false);
        assert_int_equal(rq_calibrator_collect(c, NULL, &v, NULL), RQ_NO_MEMORY);
        rq_mem_fail_after(0, false);
        assert_int_equal(rq_calibrator_info_of(c).cells, 0);
        assert_int_equal(rq_calibrator_n_tracked(c), 0);
    }
    rq_calibrator_destroy(c);
    /* weights */
    const int64_t dim[2] = { 4, 30 };
    const rq_shape s = rq_shape_of(2, dim);
    const rq_strided w = rq_strided_floats(data, &s);
    rq_weights_cfg cfg = rq_weights_defaults();
    cfg.method = RQ_AMAX_MSE;
    const size_t live = rq_mem_live();
    rq_status st = RQ_NO_MEMORY;
    for (size_t n = 1; st == RQ_NO_MEMORY && n < 100; n++) {
        rq_tensor t = { 0 };
        rq_mem_fail_after(n, false);
        st = rq_calibrate_weights(&t, NULL, &w, 0, &cfg, NULL, NULL);
        rq_mem_fail_after(0, false);
        rq_tensor_release(&t);
        assert_int_equal(rq_mem_live(), live);
    }
    assert_int_equal(st, RQ_OK);
}

static void hostile_states(void **state)
{
    rq_calibrator *h = make_hist(8, false, 64, false), *m = make_max(0, NULL, false);
    rq_err err = { 0 };
    gen_b(data, 500, 1);
    collect(h, data, 500);
    for (int what = 0; what < 9; what++) {
        rq_state *s;
        assert_int_equal(rq_state_create(&s), RQ_OK);
        assert_int_equal(rq_calibrator_save(h, s, NULL, NULL), RQ_OK);
        const int64_t n64 = 64, n5 = 5;
        int64_t counts[64] = { 0 };
        const rq_shape five = rq_shape_of(1, &n5);
        double range[5] = { -1, 1, 0.01, 500, 0 };
        rq_tensor r = rq_tensor_view(RQ_DTYPE_F64, &five, range);
        r.shape.dim[0] = 4;
        r.bytes = 32;
        switch (what) {
        case 0:
            counts[3] = -1;
            break;
        case 1:
            rq_state_set_ints(s, NULL, "_calib_hist", counts, 63);
            break;
        case 2:
            range[2] = (double)NAN;
            break;
        case 3:
            range[0] = 2;
            break;
        case 4:
            range[3] = -1;
            break;
        case 5:
            counts[0] = -5;
            rq_state_set_ints(s, NULL, "counts", counts, 5);
            break;
        case 6:
            rq_state_set_text(s, NULL, "calibrator", "MaxCalibrator");
            break;
        case 7:
            rq_state_set_floats(s, NULL, "_calib_hist", data, 64);
            break;
        case 8:
            range[2] = 0.5; /* not the width of the edges */
            break;
        }
        if (what == 0)
            rq_state_set_ints(s, NULL, "_calib_hist", counts, n64);
        if (what == 2 || what == 3 || what == 4 || what == 8)
            assert_int_equal(rq_state_set(s, NULL, "_range", &r), RQ_OK);
        rq_calibrator *c = make_hist(8, false, 64, false);
        assert_int_not_equal(rq_calibrator_load(c, s, NULL, &err), RQ_OK);
        assert_int_equal(rq_calibrator_info_of(c).batches, 0);
        rq_calibrator_destroy(c);
        assert_int_not_equal(rq_calibrator_load(m, s, NULL, &err), RQ_OK);
        rq_state_destroy(s);
    }
    rq_calibrator_destroy(h);
    rq_calibrator_destroy(m);
    /* edges without a width, far below 0, and good ones, of numpy's form */
    static const double edges[3][3] = { { 1, 1, 1 }, { -3e38, 0, 3e38 }, { 0.5, 1, 1.5 } };
    h = make_hist(8, false, 2, true);
    collect(h, data, 500);
    for (int what = 0; what < 3; what++) {
        rq_state *s;
        double three[3];
        const int64_t n = 3, counts[2] = { 300, 200 };
        const rq_shape shape = rq_shape_of(1, &n);
        const rq_tensor t = rq_tensor_view(RQ_DTYPE_F64, &shape, memcpy(three, edges[what], sizeof three));
        assert_int_equal(rq_state_create(&s), RQ_OK);
        assert_int_equal(rq_calibrator_save(h, s, NULL, NULL), RQ_OK);
        assert_int_equal(rq_state_set(s, NULL, "_calib_bin_edges", &t), RQ_OK);
        assert_int_equal(rq_state_set_ints(s, NULL, "_calib_hist", counts, 2), RQ_OK);
        rq_calibrator *c = make_hist(8, false, 2, true);
        assert_int_equal(rq_calibrator_load(c, s, NULL, &err), what == 2 ? RQ_OK : RQ_BAD_DATA);
        rq_calibrator_destroy(c);
        rq_state_destroy(s);
    }
    rq_calibrator_destroy(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_instructions_change_nothing),
        cmocka_unit_test(strides_change_nothing),
        cmocka_unit_test(memory_may_fail_anywhere),
        cmocka_unit_test(hostile_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
