/* TensorQuantizer: list T of docs/calibration-facts.md 8 by number. Its gradients, text and limits: test_tensor_quantizer_edges.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "quant/generators.h"
#include "quant/tensor_quantizer_help.h"
#include "requant/requant.h"

static rq_tensor_quantizer_cfg calibrating(void)
{
    rq_tensor_quantizer_cfg c = rq_tensor_quantizer_defaults();
    c.if_quant = false;
    c.if_calib = true;
    return c;
}

/* ---- the list ---- */

static void t1_default_equals_fake_tensor_quant(void **state)
{
    (void)state;
    enum { N = 1000 };
    float x[N], y[N], want[N];
    gen_b(x, N, 1);
    const float amax = largest(x, N);
    const rq_strided sx = row(x, N), sw = row(want, N), sa = row(&amax, 1);
    rq_tensor_quant_cfg c = rq_tensor_quant_defaults();
    c.narrow_range = false; /* the default of descriptors */
    assert_int_equal(rq_fake_tensor_quant(NULL, &sw, &sx, &sa, &c, &err), RQ_OK);
    rq_tensor_quantizer *q = make("{}", NULL);
    forward(q, y, &sx);
    same(y, want, N);
    rq_tensor_quantizer_destroy(q);
}

static void t2_real_equals_tensor_quant(void **state)
{
    (void)state;
    enum { N = 500 };
    float x[N], y[N], want[N], s = 0;
    gen_b(x, N, 2);
    const float amax = largest(x, N);
    const rq_strided sx = row(x, N), sw = row(want, N), sa = row(&amax, 1), ss = row(&s, 1);
    assert_int_equal(rq_tensor_quant(NULL, &sw, &ss, &sx, &sa, NULL, &err), RQ_OK);
    rq_tensor_quantizer *q = make("fake_quant: false", NULL);
    assert_null(rq_tensor_quantizer_scale(q));
    forward(q, y, &sx);
    same(y, want, N);
    assert_true(rq_tensor_quantizer_scale(q)->f32[0] == s);
    rq_tensor_quantizer_destroy(q);
    /* beyond -amax: full range unless it is asked for what the original does */
    const float far[] = { -5, 0, 1 };
    const rq_strided sf = row(far, 3);
    for (int compat = 0; compat < 2; compat++) {
        rq_tensor_quantizer_cfg c = rq_tensor_quantizer_defaults();
        c.compat = compat;
        q = make("{fake_quant: false, amax: 1.0}", &c);
        forward(q, y, &sf);
        same(y, (float[]) { compat ? -127 : -128, 0, 127 }, 3);
        rq_tensor_quantizer_destroy(q);
        q = make("amax: 1.0", &c);
        forward(q, y, &sf);
        near(y, (float[]) { -1.00787401f, 0, 1 }, 3, 1e-9);
        rq_tensor_quantizer_destroy(q);
    }
}

static void t3_real_equals_the_reference(void **state)
{
    (void)state;
    enum { N = 1023, K = 6, PER = 90 };
    float x[N], y[N], want[N];
    gen_u(x, N, 3);
    for (int i = 0; i < N; i++)
        want[i] = reference_code(x[i], largest(x, N), 8);
    rq_tensor_quantizer *q = make("fake_quant: false", NULL);
    const rq_strided sx = row(x, N);
    forward(q, y, &sx);
    same(y, want, N);
    rq_tensor_quantizer_destroy(q);
    q = make("{fake_quant: false, axis: 0, scale_amax: 0.7, narrow_range: true}", NULL);
    gen_b(x, K * PER, 4);
    const rq_strided sk = SHAPED(x, K, 9, 10);
    forward(q, y, &sk);
    for (int i = 0; i < K * PER; i++)
        assert_true(fabsf(y[i] - reference_code(x[i], 0.7f * largest(x + i / PER * PER, PER), 8)) <= 1);
    rq_tensor_quantizer_destroy(q);
}

static void t4_learned_amax(void **state)
{
    (void)state;
    enum { N = 300 };
    float x[N], y[N], want[N], lo, hi;
    gen_b(x, N, 5);
    const rq_strided sx = row(x, N);
    rq_tensor_quantizer *q = make("{learn_amax: true, amax: 0.5}", NULL);
    assert_int_equal(rq_tensor_quantizer_bounds(q, &lo, &hi, &err), RQ_OK);
    assert_true(lo == -0.5f && hi == 0.5f && rq_tensor_quantizer_is_clip(q));
    for (int i = 0; i < N; i++)
        want[i] = reference_code(x[i], 0.5f, 8) / 254;
    forward(q, y, &sx);
    same(y, want, N);
    /* the stored amax and scale_amax are not looked at; switching the clip off does not stop it */
    assert_int_equal(rq_tensor_quantizer_set_amax_one(q, 0.1f, &err), RQ_OK);
    assert_int_equal(rq_tensor_quantizer_enable_clip(q, false, &err), RQ_OK);
    forward(q, y, &sx);
    same(y, want, N);
    assert_int_equal(rq_tensor_quantizer_enable_clip(q, true, &err), RQ_OK);
    rq_tensor_quantizer_enable_quant(q, false);
    for (int i = 0; i < N; i++)
        want[i] = fmaxf(-0.5f, fminf(0.5f, x[i]));
    forward(q, y, &sx);
    same(y, want, N);
    assert_int_equal(rq_tensor_quantizer_set_bounds(q, -0.25f, 0.75f, &err), RQ_OK);
    assert_int_equal(rq_tensor_quantizer_set_bounds(q, NAN, 1, &err), RQ_BAD_ARG); /* and stays as it was */
    assert_int_equal(rq_tensor_quantizer_set_bounds(q, -1, NAN, &err), RQ_BAD_ARG);
    for (int i = 0; i < N; i++)
        want[i] = fmaxf(-0.25f, fminf(0.75f, x[i]));
    forward(q, y, &sx);
    same(y, want, N);
    rq_tensor_quantizer_enable_quant(q, true);
    for (int i = 0; i < N; i++) /* amax = max(-lo, hi) */
        want[i] = rintf(want[i] * (127 / 0.75f)) / (127 / 0.75f);
    forward(q, y, &sx);
    same(y, want, N);
    rq_tensor_quantizer_destroy(q);
    q = make("learn_amax: true", NULL);
    assert_int_equal(rq_tensor_quantizer_bounds(q, &lo, &hi, &err), RQ_OK);
    assert_true(lo == -1 && hi == 1 && !rq_tensor_quantizer_amax(q));
    rq_tensor_quantizer_destroy(q);
    q = make("{}", NULL);
    assert_int_equal(rq_tensor_quantizer_enable_clip(q, true, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "learn_amax is False. Cannot enable clip.");
    assert_int_equal(rq_tensor_quantizer_bounds(q, &lo, &hi, &err), RQ_BAD_ARG);
    rq_tensor_quantizer_destroy(q);
    rq_tensor_quantizer_cfg c = rq_tensor_quantizer_defaults();
    c.if_clip = true;
    q = make("{}", &c);
    const rq_strided sy = row(y, N);
    assert_int_equal(rq_tensor_quantizer_forward(q, NULL, &sy, &sx, &err), RQ_BAD_ARG);
    rq_tensor_quantizer_destroy(q);
}

static void t5_scale_amax(void **state)
{
    (void)state;
    enum { N = 100 };
    float x[N], y[N], want[N];
    gen_b(x, N, 6);
    const rq_strided sx = row(x, N);
    rq_tensor_quantizer *q = make("{amax: 0.5, scale_amax: 0.9, narrow_range: true}", NULL);
    for (int i = 0; i < N; i++)
        want[i] = reference_code(x[i], 0.5f * 0.9f, 8) / (127 / (0.5f * 0.9f));
    for (int twice = 0; twice < 2; twice++) {
        forward(q, y, &sx);
        same(y, want, N);
        assert_true(rq_tensor_quantizer_amax(q)->f32[0] == 0.5f);
    }
    rq_tensor_quantizer_destroy(q);
}

static void t6_disabled(void **state)
{
    (void)state;
    float x[] = { 0.1f, -3, NAN, INFINITY, -0.0f }, y[5], two = 2;
    const rq_strided sx = row(x, 5);
    rq_tensor_quantizer_cfg c = rq_tensor_quantizer_defaults();
    c.disabled = true;
    c.if_calib = true;
    rq_tensor_quantizer *q = make("{}", &c);
    forward(q, y, &sx);
    same(y, x, 5);
    text_is(q, "TensorQuantizer(disabled)");
    assert_int_equal(rq_tensor_quantizer_load_calib_amax(q, RQ_AMAX_MAX, NULL, true, &err),
                     RQ_NOT_FOUND); /* saw nothing */
    const rq_tensor scale = tensor_of(&two, 0, NULL);
    assert_int_equal(rq_tensor_quantizer_set_pre_quant_scale(q, &scale, &err), RQ_OK);
    forward(q, y, &sx);
    same(y, (float[]) { 0.2f, -6, NAN, INFINITY, -0.0f }, 5); /* multiplied all the same */
    rq_tensor_quantizer_enable(q, true);
    assert_true(rq_tensor_quantizer_is_enabled(q));
    rq_tensor_quantizer_destroy(q);
}

static void t7_kept_and_loaded(void **state)
{
    (void)state;
    float two[] = { 3.142f, 2.718f }, ones[] = { 1, 1 }, three[] = { 1, 2, 3 };
    const int64_t keep[] = { 2, 1 };
    const rq_tensor amax = tensor_of(two, 2, keep), scale = tensor_of(three, 1, (int64_t[]) { 3 });
    rq_tensor_quantizer *a = make("axis: 0", NULL), *b = make("axis: 0", NULL);
    rq_state *s;
    assert_int_equal(rq_state_create(&s), RQ_OK);
    assert_int_equal(rq_tensor_quantizer_set_amax(a, &amax, &err), RQ_OK);
    assert_int_equal(rq_tensor_quantizer_set_pre_quant_scale(a, &scale, &err), RQ_OK);
    assert_int_equal(rq_tensor_quantizer_save(a, s, "conv1._weight_quantizer.", &err), RQ_OK);
    assert_non_null(rq_state_find(s, "conv1._weight_quantizer._amax"));
    assert_non_null(rq_state_find(s, "conv1._weight_quantizer._pre_quant_scale"));
    assert_int_equal(rq_tensor_quantizer_load(a, s, "conv1._weight_quantizer.", &err), RQ_OK);
    same(rq_tensor_quantizer_amax(a)->f32, two, 2);
    assert_int_equal(rq_tensor_quantizer_load(b, s, "conv1._weight_quantizer.", &err), RQ_OK); /* had neither */
    same(rq_tensor_quantizer_amax(b)->f32, two, 2);
    same(rq_tensor_quantizer_pre_quant_scale(b)->f32, three, 3);
    assert_true(rq_shape_equal(&rq_tensor_quantizer_amax(b)->shape, &amax.shape));
    rq_tensor_quantizer_destroy(b);
    /* another descriptor, another shape, something missing: refused, and nothing changes */
    static const char *const others[] = { "{}",
                                          "axis: 1",
                                          "{axis: 0, num_bits: 4}",
                                          "{axis: 0, unsigned: true}",
                                          "{axis: 0, narrow_range: true}",
                                          "{axis: 0, num_bits: e4m3}",
                                          "{axis: 0, scale_amax: 0.5}" };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        b = make(others[i], NULL);
        assert_int_equal(rq_tensor_quantizer_load(b, s, "conv1._weight_quantizer.", &err), RQ_BAD_DATA);
        assert_null(rq_tensor_quantizer_amax(b));
        rq_tensor_quantizer_destroy(b);
    }
    b = make("{axis: 0, calib_method: max, name: other}", NULL); /* these may differ */
    const rq_tensor other = tensor_of(ones, 1, (int64_t[]) { 2 });
    assert_int_equal(rq_tensor_quantizer_set_amax(b, &other, &err), RQ_OK);
    assert_int_equal(rq_tensor_quantizer_load(b, s, "conv1._weight_quantizer.", &err), RQ_BAD_SHAPE);
    same(rq_tensor_quantizer_amax(b)->f32, ones, 2);
    assert_int_equal(rq_tensor_quantizer_load(b, s, "nowhere.", &err), RQ_NOT_FOUND);
    rq_tensor_quantizer_destroy(b);
    rq_tensor_quantizer_destroy(a);
    rq_state_destroy(s);

    /* the originals' keys alone */
    assert_int_equal(rq_state_create(&s), RQ_OK);
    assert_int_equal(rq_state_set(s, "l.", "_amax", &amax), RQ_OK);
    b = make("axis: 0", NULL);
    assert_int_equal(rq_tensor_quantizer_load(b, s, "l.", &err), RQ_OK);
    same(rq_tensor_quantizer_amax(b)->f32, two, 2);
    rq_tensor_quantizer_destroy(b);
    two[1] = -2;
    assert_int_equal(rq_state_set(s, "n.", "_amax", &amax), RQ_OK);
    b = make("axis: 0", NULL);
    assert_int_equal(rq_tensor_quantizer_load(b, s, "n.", &err), RQ_BAD_DATA);
    assert_null(rq_tensor_quantizer_amax(b));
    rq_tensor_quantizer_destroy(b);
    /* bounds */
    a = make("{learn_amax: true, amax: 2}", NULL);
    b = make("learn_amax: true", NULL);
    assert_int_equal(rq_tensor_quantizer_load(b, s, "l.", &err), RQ_NOT_FOUND);
    assert_int_equal(rq_tensor_quantizer_set_bounds(a, -1.5f, 1.75f, &err), RQ_OK);
    assert_int_equal(rq_tensor_quantizer_save(a, s, "m.", &err), RQ_OK);
    assert_non_null(rq_state_find(s, "m.clip.clip_value_min"));
    assert_int_equal(rq_tensor_quantizer_load(b, s, "m.", &err), RQ_OK);
    float lo, hi;
    assert_int_equal(rq_tensor_quantizer_bounds(b, &lo, &hi, &err), RQ_OK);
    assert_true(lo == -1.5f && hi == 1.75f && rq_tensor_quantizer_amax(b)->f32[0] == 2);
    rq_tensor_quantizer_destroy(b);
    b = make("{}", NULL);
    assert_int_equal(rq_tensor_quantizer_load(b, s, "m.", &err), RQ_BAD_DATA);
    rq_tensor_quantizer_destroy(b);
    rq_tensor_quantizer_destroy(a);
    rq_state_destroy(s);
}

static void t8_setting_amax(void **state)
{
    (void)state;
    rq_tensor_quantizer *q = make("{}", NULL);
    rq_tensor step;
    assert_null(rq_tensor_quantizer_amax(q));
    assert_int_equal(rq_tensor_quantizer_step_size(q, &step, &err), RQ_NOT_FOUND);
    assert_int_equal(rq_tensor_quantizer_set_amax_one(q, 0.577f, &err), RQ_OK);
    assert_true(rq_tensor_quantizer_amax(q)->f32[0] == 0.577f);
    assert_int_equal(rq_tensor_quantizer_step_size(q, &step, &err), RQ_OK);
    assert_true(step.f32[0] == 0.577f / 127 && rq_tensor_quantizer_maxbound(q) == 127);
    rq_tensor_release(&step);
    float many[] = { 1, 2, 3 }, minus = -1;
    const rq_tensor t = tensor_of(many, 1, (int64_t[]) { 3 }), m = tensor_of(&minus, 0, NULL);
    assert_int_equal(rq_tensor_quantizer_set_amax(q, &t, &err), RQ_BAD_SHAPE);
    assert_non_null(strstr(err.text, "Changing shape when setting amax is not allowed."));
    assert_int_equal(rq_tensor_quantizer_set_amax(q, &m, &err), RQ_BAD_ARG);
    assert_int_equal(rq_tensor_quantizer_set_amax(q, NULL, &err), RQ_BAD_ARG);
    assert_true(rq_tensor_quantizer_amax(q)->f32[0] == 0.577f);
    rq_tensor_quantizer_destroy(q);
    q = make("axis: 0", NULL);
    assert_int_equal(rq_tensor_quantizer_set_amax(q, &t, &err), RQ_OK);
    same(rq_tensor_quantizer_amax(q)->f32, many, 3);
    rq_tensor_quantizer_destroy(q);
    q = make("{num_bits: e4m3, amax: 2}", NULL);
    assert_int_equal(rq_tensor_quantizer_step_size(q, &step, &err), RQ_UNSUPPORTED);
    assert_true(rq_tensor_quantizer_maxbound(q) == 448);
    rq_tensor_quantizer_destroy(q);
}

static void t9_several_axes(void **state)
{
    (void)state;
    enum { A = 127, B = 63, PER = 49, N = A * B * PER };
    static float x[N], y[N];
    gen_b(x, N, 9);
    const rq_strided sx = SHAPED(x, A, B, 7, 7);
    const rq_tensor_quantizer_cfg c = calibrating();
    rq_tensor_quantizer *q = make("axis: [0, 1]", &c);
    forward(q, y, &sx);
    same(y, x, N); /* calibrating alone passes x on */
    assert_int_equal(rq_tensor_quantizer_load_calib_amax(q, RQ_AMAX_MAX, NULL, true, &err), RQ_OK);
    const rq_tensor *amax = rq_tensor_quantizer_amax(q);
    assert_int_equal(rq_tensor_count(amax), 8001);
    for (int64_t i = 0; i < 8001; i++)
        assert_true(amax->f32[i] == largest(x + i * PER, PER));
    /* and it quantizes with them as dynamic amax would */
    static float dynamic[N];
    rq_tensor_quantizer_enable_calib(q, false);
    rq_tensor_quantizer_enable_quant(q, true);
    forward(q, y, &sx);
    rq_tensor_quantizer_destroy(q);
    q = make("axis: [1, -4]", NULL);
    forward(q, dynamic, &sx);
    same(y, dynamic, N);
    rq_tensor_quantizer_destroy(q);
    float wide = 0;
    for (int64_t i = 0; i < PER; i++)
        wide = fmaxf(wide, fabsf(x[i]));
    assert_true(fabsf(y[0] - x[0]) <= wide / 254 * 1.0001f);
    const rq_strided sy = SHAPED(y, A, B, 7, 7);
    q = make("axis: 4", NULL);
    assert_int_equal(rq_tensor_quantizer_forward(q, NULL, &sy, &sx, &err), RQ_BAD_ARG);
    rq_tensor_quantizer_destroy(q);
    q = make("axis: [0, -4]", NULL);
    assert_int_equal(rq_tensor_quantizer_forward(q, NULL, &sy, &sx, &err), RQ_BAD_ARG);
    rq_tensor_quantizer_destroy(q);
    /* every axis kept: each element is its own amax */
    const float few[] = { 1, -2, 0, 4 };
    const rq_strided sf = SHAPED(few, 2, 2);
    q = make("axis: [0, 1]", NULL);
    forward(q, y, &sf);
    near(y, few, 4, 1e-6);
    rq_tensor_quantizer_destroy(q);
}

static void t10_loading_what_was_seen(void **state)
{
    (void)state;
    enum { N = 4 * 30 };
    float a[N], b[N], y[N], lo, hi;
    const rq_tensor_quantizer_cfg c = calibrating();
    rq_tensor_quantizer *q = make("axis: 0", &c);
    assert_int_equal(rq_tensor_quantizer_load_calib_amax(q, RQ_AMAX_MAX, NULL, true, &err), RQ_NOT_FOUND);
    assert_non_null(strstr(err.text, "Calibrator returned None"));
    assert_int_equal(rq_tensor_quantizer_load_calib_amax(q, RQ_AMAX_MAX, NULL, false, &err), RQ_OK);
    assert_null(rq_tensor_quantizer_amax(q));
    assert_int_equal(rq_tensor_quantizer_load_calib_amax(q, RQ_AMAX_ENTROPY, NULL, true, &err), RQ_BAD_ARG);
    gen_b(a, N, 10);
    gen_b(b, N, 11);
    const rq_strided sa = SHAPED(a, 4, 30), sb = SHAPED(b, 4, 30);
    forward(q, y, &sa);
    forward(q, y, &sb);
    assert_int_equal(rq_tensor_quantizer_load_calib_amax(q, RQ_AMAX_MAX, NULL, true, &err), RQ_OK);
    const rq_tensor *amax = rq_tensor_quantizer_amax(q);
    assert_true(amax->shape.rank == 2 && amax->shape.dim[0] == 4 && amax->shape.dim[1] == 1);
    float most = 0;
    for (int i = 0; i < 4; i++) {
        const float want = fmaxf(largest(a + 30 * i, 30), largest(b + 30 * i, 30));
        assert_true(amax->f32[i] == want);
        most = fmaxf(most, want);
    }
    const float was = amax->f32[2];
    b[70] = 100;
    forward(q, y, &sb); /* a copy was loaded */
    assert_true(rq_tensor_quantizer_amax(q)->f32[2] == was);
    assert_int_equal(rq_tensor_quantizer_init_learn_amax(q, &err), RQ_BAD_ARG);
    rq_tensor_quantizer_destroy(q);

    q = make("learn_amax: true", &c);
    assert_int_equal(rq_tensor_quantizer_init_learn_amax(q, &err), RQ_NOT_FOUND);
    rq_tensor_quantizer_destroy(q);
    q = make("learn_amax: true", &c);
    const rq_tensor several = tensor_of(a, 1, (int64_t[]) { N });
    for (int i = 0; i < N; i++)
        a[i] = fabsf(a[i]);
    assert_int_equal(rq_tensor_quantizer_set_amax(q, &several, &err), RQ_OK);
    assert_int_equal(rq_tensor_quantizer_init_learn_amax(q, &err), RQ_OK);
    assert_int_equal(rq_tensor_quantizer_bounds(q, &lo, &hi, &err), RQ_OK);
    assert_true(lo == -largest(a, N) && hi == largest(a, N));
    rq_tensor_quantizer_destroy(q);

    /* compat: nothing collected makes amax NaN, and everything after it */
    rq_tensor_quantizer_cfg compat = rq_tensor_quantizer_defaults();
    compat.compat = true;
    q = make("{}", &compat);
    assert_int_equal(rq_tensor_quantizer_load_calib_amax(q, RQ_AMAX_MAX, NULL, false, &err), RQ_OK);
    assert_true(isnan(rq_tensor_quantizer_amax(q)->f32[0]));
    forward(q, y, &sa);
    assert_true(isnan(y[0]) && isnan(y[N - 1]));
    rq_tensor_quantizer_destroy(q);

    /* a stored amax keeps its shape: one number fills three, two do not fit one */
    q = make("{axis: 0, amax: [7, 8, 9]}", &c);
    const rq_strided three = SHAPED(b, 3, 4), one = SHAPED(b, 1, 4);
    forward(q, y, &one);
    assert_int_equal(rq_tensor_quantizer_load_calib_amax(q, RQ_AMAX_MAX, NULL, true, &err), RQ_OK);
    const float m = largest(b, 4);
    same(rq_tensor_quantizer_amax(q)->f32, (float[]) { m, m, m }, 3);
    rq_tensor_quantizer_destroy(q);
    q = make("{axis: 0, amax: 7}", &c);
    forward(q, y, &three);
    assert_int_equal(rq_tensor_quantizer_load_calib_amax(q, RQ_AMAX_MAX, NULL, true, &err), RQ_BAD_SHAPE);
    assert_true(rq_tensor_quantizer_amax(q)->f32[0] == 7);
    rq_tensor_quantizer_destroy(q);
}

static void t11_histogram(void **state)
{
    (void)state;
    enum { N = 4096 };
    float x[N], y[N];
    const rq_tensor_quantizer_cfg c = calibrating();
    rq_tensor_quantizer *q = make("calib_method: histogram", &c);
    rq_calibrator *calibrator = rq_tensor_quantizer_calibrator(q);
    const rq_amax_method methods[] = { RQ_AMAX_ENTROPY, RQ_AMAX_PERCENTILE };
    const rq_strided sx = row(x, N);
    for (int i = 0; i < 2; i++) {
        rq_tensor want;
        gen_t(x, N, (uint32_t)(20 + i));
        forward(q, y, &sx);
        assert_int_equal(rq_calibrator_amax(calibrator, methods[i], NULL, &want, &err), RQ_OK);
        assert_int_equal(rq_tensor_quantizer_load_calib_amax(q, methods[i], NULL, true, &err), RQ_OK);
        assert_true(rq_tensor_quantizer_amax(q)->f32[0] == want.f32[0] && want.f32[0] > 0);
        rq_tensor_release(&want);
        assert_int_equal(rq_calibrator_reset(calibrator), RQ_OK);
    }
    rq_amax_params p = rq_amax_defaults();
    p.percentile = 101;
    forward(q, y, &sx);
    assert_int_equal(rq_tensor_quantizer_load_calib_amax(q, RQ_AMAX_PERCENTILE, &p, true, &err), RQ_BAD_ARG);
    char want[128];
    snprintf(want, sizeof want,
             "TensorQuantizer(8bit fake per-tensor amax=%.4f calibrator=HistogramCalibrator scale=1.0 calib)",
             (double)rq_tensor_quantizer_amax(q)->f32[0]);
    text_is(q, want);
    rq_tensor_quantizer_destroy(q);
    rq_quant_desc d;
    assert_int_equal(rq_quant_desc_from_yaml(&d, "{calib_method: histogram, axis: 0}", &err), RQ_OK);
    q = NULL;
    assert_int_equal(rq_tensor_quantizer_create(&q, &d, NULL, &err), RQ_UNSUPPORTED);
    assert_null(q);
    rq_quant_desc_release(&d);
}

static void t12_setters(void **state)
{
    (void)state;
    float x[] = { 0, 0.3f, 1 }, y[3];
    const rq_strided sx = row(x, 3);
    rq_tensor_quantizer *q = make("amax: 1", NULL);
    rq_tensor_quantizer_set_num_bits(q, 3);
    rq_tensor_quantizer_set_unsigned(q, true);
    rq_tensor_quantizer_set_narrow_range(q, true);
    const rq_quant_desc *d = rq_tensor_quantizer_desc(q);
    assert_true(d->num_bits == 3 && d->is_unsigned && d->narrow_range && rq_tensor_quantizer_maxbound(q) == 7);
    forward(q, y, &sx);
    same(y, (float[]) { 0, 2.0f / 7, 1 }, 3);
    rq_tensor_quantizer_set_num_bits(q, 17);
    const rq_strided sy = row(y, 3);
    assert_int_equal(rq_tensor_quantizer_forward(q, NULL, &sy, &sx, &err), RQ_BAD_ARG);
    rq_tensor_quantizer_destroy(q);
}

static void t13_pre_quant_scale(void **state)
{
    (void)state;
    const float x[] = { 0, 0.4f, 1.1f, 2 };
    float y[4], two = 2, each[] = { 1, 2, 3, 4 };
    const rq_strided sx = row(x, 4);
    rq_tensor_quantizer *q = make("amax: 127", NULL);
    forward(q, y, &sx);
    same(y, (float[]) { 0, 0, 1, 2 }, 4);
    const rq_tensor one = tensor_of(&two, 0, NULL), many = tensor_of(each, 1, (int64_t[]) { 4 });
    assert_int_equal(rq_tensor_quantizer_set_pre_quant_scale(q, &one, &err), RQ_OK);
    forward(q, y, &sx);
    same(y, (float[]) { 0, 1, 2, 4 }, 4);
    assert_int_equal(rq_tensor_quantizer_set_pre_quant_scale(q, &many, &err), RQ_BAD_SHAPE);
    rq_tensor_quantizer_destroy(q);
    q = make("amax: 127", NULL);
    assert_int_equal(rq_tensor_quantizer_set_pre_quant_scale(q, &many, &err), RQ_OK);
    forward(q, y, &sx);
    same(y, (float[]) { 0, 1, 3, 8 }, 4);
    const float dy[] = { 1, 1, 1, 1 };
    const rq_strided sdy = row(dy, 4), sdx = row(y, 4);
    assert_int_equal(rq_tensor_quantizer_backward(q, NULL, &sdx, NULL, NULL, &sdy, &sx, &err), RQ_OK);
    same(y, each, 4);
    rq_tensor_quantizer_destroy(q);
}

static void t14_fp8(void **state)
{
    (void)state;
    enum { N = 4 * 50 };
    float x[N], y[N], want[N];
    gen_t(x, N, 14);
    const rq_strided sx = SHAPED(x, 2, 4, 25), sw = SHAPED(want, 2, 4, 25);
    for (int per_axis = 0; per_axis < 2; per_axis++) {
        rq_tensor_quantizer *q = make(per_axis ? "{num_bits: e4m3, axis: 1}" : "num_bits: [4, 3]", NULL);
        rq_tensor amax;
        const rq_reduce_amax_cfg c = { .n_axes = per_axis ? 2 : 0, .axis = { 0, 2 }, .keepdims = true };
        assert_int_equal(rq_reduce_amax(NULL, &amax, &sx, &c, NULL, &err), RQ_OK);
        const rq_strided sa = rq_strided_of(&amax);
        assert_int_equal(rq_scaled_e4m3(NULL, &sw, &sx, &sa, NULL, &err), RQ_OK);
        forward(q, y, &sx);
        same(y, want, N);
        rq_tensor_release(&amax);
        rq_tensor_quantizer_destroy(q);
    }
    rq_quant_desc d;
    assert_int_equal(rq_quant_desc_from_yaml(&d, "num_bits: [5, 2]", &err), RQ_BAD_ARG);
    assert_int_equal(rq_quant_desc_from_yaml(&d, "num_bits: [7, 3]", &err), RQ_BAD_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(t1_default_equals_fake_tensor_quant),
        cmocka_unit_test(t2_real_equals_tensor_quant),
        cmocka_unit_test(t3_real_equals_the_reference),
        cmocka_unit_test(t4_learned_amax),
        cmocka_unit_test(t5_scale_amax),
        cmocka_unit_test(t6_disabled),
        cmocka_unit_test(t7_kept_and_loaded),
        cmocka_unit_test(t8_setting_amax),
        cmocka_unit_test(t9_several_axes),
        cmocka_unit_test(t10_loading_what_was_seen),
        cmocka_unit_test(t11_histogram),
        cmocka_unit_test(t12_setters),
        cmocka_unit_test(t13_pre_quant_scale),
        cmocka_unit_test(t14_fp8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
