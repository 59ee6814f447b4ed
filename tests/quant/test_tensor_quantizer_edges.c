/* TensorQuantizer: gradients of learned bounds, its text, NaN, strides and threads, memory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "quant/generators.h"
#include "quant/tensor_quantizer_help.h"
#include "requant/requant.h"

static void gradients_of_learned_bounds(void **state)
{
    (void)state;
    const float x[] = { -0.7f, -0.5f, -0.2f, 0.1f, 0.5f, 0.9f }, dy[] = { 1, 2, 3, 4, 5, 6 };
    float y[6], dx[6];
    double dlo, dhi;
    const rq_strided sx = row(x, 6), sdy = row(dy, 6), sdx = row(dx, 6);
    rq_tensor_quantizer *q = make("{learn_amax: true, amax: 0.5}", NULL);
    forward(q, y, &sx);
    near(y, (float[]) { -0.5f, -0.5f, -0.200787395f, 0.0984251946f, 0.5f, 0.5f }, 6, 1e-9);
    for (int quant = 1; quant >= 0; quant--) {
        rq_tensor_quantizer_enable_quant(q, quant);
        assert_int_equal(rq_tensor_quantizer_backward(q, NULL, &sdx, &dlo, &dhi, &sdy, &sx, &err), RQ_OK);
        same(dx, (float[]) { 0, 0, 3, 4, 0, 0 }, 6);
        assert_true(dlo == 3 && dhi == 11);
    }
    rq_tensor_quantizer_enable_quant(q, true);
    assert_int_equal(rq_tensor_quantizer_enable_clip(q, false, &err), RQ_OK); /* freezes the bounds */
    assert_int_equal(rq_tensor_quantizer_backward(q, NULL, &sdx, &dlo, &dhi, &sdy, &sx, &err), RQ_OK);
    same(dx, (float[]) { 0, 0, 3, 4, 0, 0 }, 6);
    assert_true(dlo == 0 && dhi == 0);
    rq_tensor_quantizer_destroy(q);
    /* stored, dynamic with scale_amax, disabled */
    q = make("amax: 0.5", NULL);
    assert_int_equal(rq_tensor_quantizer_backward(q, NULL, &sdx, &dlo, &dhi, &sdy, &sx, &err), RQ_OK);
    same(dx, (float[]) { 0, 2, 3, 4, 5, 0 }, 6);
    assert_true(dlo == 0 && dhi == 0);
    rq_tensor_quantizer_enable(q, false);
    assert_int_equal(rq_tensor_quantizer_backward(q, NULL, &sdx, NULL, NULL, &sdy, &sx, &err), RQ_OK);
    same(dx, dy, 6);
    rq_tensor_quantizer_destroy(q);
    rq_tensor_quantizer_cfg c = rq_tensor_quantizer_defaults();
    c.pass_through = true;
    q = make("amax: 0.5", &c);
    assert_int_equal(rq_tensor_quantizer_backward(q, NULL, &sdx, NULL, NULL, &sdy, &sx, &err), RQ_OK);
    same(dx, dy, 6);
    rq_tensor_quantizer_destroy(q);
    q = make("{learn_amax: true, amax: 0.5}", &c);
    assert_int_equal(rq_tensor_quantizer_backward(q, NULL, &sdx, &dlo, &dhi, &sdy, &sx, &err), RQ_OK);
    same(dx, (float[]) { 0, 0, 3, 4, 0, 0 }, 6);
    assert_true(dlo == 3 && dhi == 11);
    rq_tensor_quantizer_destroy(q);
    q = make("scale_amax: 0.5", NULL); /* 0.45 */
    assert_int_equal(rq_tensor_quantizer_backward(q, NULL, &sdx, NULL, NULL, &sdy, &sx, &err), RQ_OK);
    same(dx, (float[]) { 0, 0, 3, 4, 0, 0 }, 6);
    rq_tensor_quantizer_destroy(q);
}

static void m13_texts(void **state)
{
    (void)state;
    float x[] = { 1, -2 }, y[2], one = 1;
    const rq_strided sx = row(x, 2);
    rq_tensor_quantizer *q = make("{}", NULL);
    text_is(q, "TensorQuantizer(8bit fake per-tensor amax=dynamic calibrator=MaxCalibrator scale=1.0 quant)");
    const rq_tensor scale = tensor_of(&one, 0, NULL);
    assert_int_equal(rq_tensor_quantizer_set_pre_quant_scale(q, &scale, &err), RQ_OK);
    rq_tensor_quantizer_enable_calib(q, true);
    rq_tensor_quantizer_set_narrow_range(q, true);
    text_is(q, "TensorQuantizer(8bit narrow fake per-tensor amax=dynamic pre_quant_scale calibrator=MaxCalibrator "
               "scale=1.0 quant calib)");
    rq_tensor_quantizer_destroy(q);
    q = make("{axis: 0, amax: [1.0, 2.5]}", NULL);
    text_is(q, "TensorQuantizer(8bit fake axis=0 amax=[1.0000, 2.5000](2) calibrator=MaxCalibrator scale=1.0 quant)");
    rq_tensor_quantizer_destroy(q);
    q = make("{axis: 0, unsigned: true, num_bits: 4, fake_quant: false}", NULL);
    text_is(q, "TensorQuantizer(unsigned 4bit axis=0 amax=dynamic calibrator=MaxCalibrator quant)");
    rq_tensor_quantizer_destroy(q);
    q = make("{learn_amax: true, amax: 2.5}", NULL);
    text_is(q,
            "TensorQuantizer(8bit fake per-tensor amax=2.5000 learned calibrator=MaxCalibrator scale=1.0 quant clip)");
    rq_tensor_quantizer_destroy(q);
    q = make("{num_bits: e4m3, axis: [0, 1], scale_amax: 0.9}", NULL);
    text_is(q,
            "TensorQuantizer((4, 3)bit fake axis=(0, 1) amax=dynamic *0.9 calibrator=MaxCalibrator scale=1.0 quant)");
    rq_tensor_quantizer_destroy(q);
    q = make("{fake_quant: false, amax: 2}", NULL);
    forward(q, y, &sx);
    text_is(q, "TensorQuantizer(8bit per-tensor amax=2.0000 calibrator=MaxCalibrator scale=63.5000 quant)");
    rq_tensor_quantizer_destroy(q);
}

static void what_is_not_a_number(void **state)
{
    (void)state;
    const float x[] = { 1, NAN, -0.5f, INFINITY, -INFINITY };
    float y[5];
    const rq_strided sx = row(x, 5);
    rq_tensor_quantizer_cfg c = rq_tensor_quantizer_defaults();
    rq_tensor_quantizer *q = make("narrow_range: true", &c);
    forward(q, y, &sx); /* amax is 1 */
    same(y, (float[]) { 1, NAN, -64 / 127.0f, 1, -1 }, 5);
    assert_int_equal(rq_tensor_quantizer_bad(q), 3);
    rq_tensor_quantizer_destroy(q);
    c.compat = true;
    q = make("{}", &c);
    forward(q, y, &sx);
    assert_true(isnan(y[0]) && rq_tensor_quantizer_bad(q) == 0);
    rq_tensor_quantizer_destroy(q);
    /* zeros, one value, nothing */
    const float zeros[3] = { 0, -0.0f, 0 }, threes[3] = { 3, 3, 3 };
    const rq_strided sz = row(zeros, 3), st = row(threes, 3), none = row(zeros, 0);
    q = make("{}", NULL);
    forward(q, y, &sz);
    same(y, zeros, 3);
    forward(q, y, &st);
    same(y, threes, 3);
    forward(q, y, &none);
    rq_tensor_quantizer_destroy(q);
}

static void strides_threads_and_in_place(void **state)
{
    (void)state;
    enum { A = 31, B = 17, C = 90, N = A * B * C };
    static float x[N], y[N], z[N];
    rq_exec *e;
    assert_int_equal(rq_exec_create(&e, 2, &err), RQ_OK);
    gen_b(x, N, 30);
    const rq_strided sx = SHAPED(x, A, B, C), sy = SHAPED(y, A, B, C), sz = SHAPED(z, A, B, C);
    const int turn[] = { 2, 0, 1 };
    const rq_strided tx = rq_strided_permute(&sx, turn), tz = rq_strided_permute(&sz, turn);
    static const char *const yaml[] = { "axis: 1", "axis: [1, 2]", "{num_bits: e4m3, axis: 1}",
                                        "{axis: 1, fake_quant: false}" };
    static const char *const turned[] = { "axis: 2", "axis: [0, 2]", "{num_bits: e4m3, axis: -1}",
                                          "{axis: 2, fake_quant: false}" };
    for (int i = 0; i < 4; i++) {
        rq_tensor_quantizer *q = make(yaml[i], NULL), *t = make(turned[i], NULL);
        assert_int_equal(rq_tensor_quantizer_forward(q, e, &sy, &sx, &err), RQ_OK);
        assert_int_equal(rq_tensor_quantizer_forward(t, NULL, &tz, &tx, &err), RQ_OK);
        same(y, z, N);
        memcpy(z, x, sizeof z);
        assert_int_equal(rq_tensor_quantizer_forward(q, NULL, &sz, &sz, &err), RQ_OK);
        same(y, z, N);
        rq_tensor_quantizer_destroy(q);
        rq_tensor_quantizer_destroy(t);
    }
    rq_exec_destroy(e);
}

static rq_status run_all(void)
{
    float x[12], y[12], scale[3] = { 1, 2, 3 };
    char text[256];
    double dlo;
    rq_quant_desc d;
    rq_tensor_quantizer *q = NULL;
    rq_state *s = NULL;
    gen_u(x, 12, 40);
    const rq_strided sx = SHAPED(x, 4, 3), sy = SHAPED(y, 4, 3);
    const rq_tensor t = tensor_of(scale, 1, (int64_t[]) { 3 });
    rq_tensor_quantizer_cfg c = rq_tensor_quantizer_defaults();
    c.if_calib = true;
    rq_quant_desc_init(&d);
    d.fake_quant = false;
    rq_quant_desc_set_axis(&d, 0);
    rq_status st = rq_quant_desc_set_name(&d, "x");
    if (!st)
        st = rq_tensor_quantizer_create(&q, &d, &c, &err);
    if (!st)
        st = rq_tensor_quantizer_set_pre_quant_scale(q, &t, &err);
    if (!st)
        st = rq_tensor_quantizer_forward(q, NULL, &sy, &sx, &err);
    if (!st)
        st = rq_tensor_quantizer_load_calib_amax(q, RQ_AMAX_MAX, NULL, true, &err);
    if (!st)
        st = rq_tensor_quantizer_load_calib_amax(q, RQ_AMAX_MAX, NULL, true, &err);
    if (!st)
        st = rq_tensor_quantizer_backward(q, NULL, &sy, &dlo, NULL, &sy, &sx, &err);
    if (!st)
        st = rq_state_create(&s);
    if (!st)
        st = rq_tensor_quantizer_save(q, s, "q.", &err);
    if (!st)
        st = rq_tensor_quantizer_load(q, s, "q.", &err);
    if (!st && rq_tensor_quantizer_text(q, text, sizeof text) < 0)
        st = RQ_NO_MEMORY;
    rq_tensor_quantizer_destroy(q);
    rq_state_destroy(s);
    rq_quant_desc_release(&d);
    d.learn_amax = true;
    q = NULL;
    if (!st)
        st = rq_tensor_quantizer_create(&q, &d, NULL, &err);
    if (!st)
        st = rq_tensor_quantizer_backward(q, NULL, &sy, &dlo, NULL, &sx, &sx, &err);
    rq_tensor_quantizer_destroy(q);
    return st;
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    const size_t live = rq_mem_live();
    size_t n = 1;
    for (;; n++) {
        rq_mem_fail_after(n, false);
        const rq_status st = run_all();
        rq_mem_fail_after(0, false);
        assert_int_equal(rq_mem_live(), live);
        if (!st)
            break;
        assert_int_equal(st, RQ_NO_MEMORY);
    }
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_learned_bounds), cmocka_unit_test(m13_texts),
        cmocka_unit_test(what_is_not_a_number),        cmocka_unit_test(strides_threads_and_in_place),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
