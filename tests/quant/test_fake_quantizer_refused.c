/* Fake-quantizers: states that are broken and settings that do not go together are refused, and change nothing; memory may run out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "quant/fake_quantizer_help.h"

/* ---- what Core ML Tools' tests ask of its learnable fake-quantizer, with EMA inside, over [3, 4, 6, 6] ---- */

/* Scale 1 and zero point 0, as an empty object has, but observed: the observer's state says so. */
static void a_state_of_whole_numbers_is_known(void **state)
{
    (void)state;
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
    rq_fake_quantizer *q = make(&c), *p = make(&c);
    float x[] = { 0, 255, 7.4f }, y[3];
    assert_int_equal(feed(q, x, y, 3), RQ_OK);
    assert_true(scale_of(q) == 1 && zero_of(q) == 0);
    rq_state *s;
    rq_err err = { 0 };
    assert_int_equal(rq_state_create(&s), RQ_OK);
    assert_int_equal(rq_fake_quantizer_save(q, s, NULL), RQ_OK);
    ok(rq_fake_quantizer_load(p, s, NULL, &err), &err);
    rq_fake_quantizer_enable_observer(p, false);
    assert_int_equal(feed(p, x, y, 3), RQ_OK);
    assert_true(y[2] == 7);
    rq_state_destroy(s);
    rq_fake_quantizer_destroy(q);
    rq_fake_quantizer_destroy(p);
}

static void bad_states_change_nothing(void **state)
{
    (void)state;
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
    rq_fake_quantizer *q = make(&c);
    feed_ramp(q, -1, 3);
    rq_state *s, *now, *before;
    assert_int_equal(rq_state_create(&before), RQ_OK);
    assert_int_equal(rq_fake_quantizer_save(q, before, NULL), RQ_OK);
    static const float two[] = { 1, 2 }, inf[] = { INFINITY }, negative[] = { -1 }, half[] = { 3.5f };
    static const int64_t zeros[] = { 0, 0 }, beyond[] = { 256 };
    for (int i = 0; i < 9; i++) {
        rq_err err = { 0 };
        assert_int_equal(rq_state_create(&s), RQ_OK);
        assert_int_equal(rq_state_create(&now), RQ_OK);
        rq_status want = RQ_OK;
        if (i) { /* 0: an empty one */
            rq_fake_quantizer *other = make(&c);
            feed_ramp(other, -5, 5);
            assert_int_equal(rq_fake_quantizer_save(other, s, NULL), RQ_OK);
            rq_fake_quantizer_destroy(other);
        }
        switch (i) {
        case 0:
            want = RQ_NOT_FOUND;
            break;
        case 1: /* two scales for one tensor */
            (void)!rq_state_set_floats(s, NULL, "scale", two, 2);
            (void)!rq_state_set_ints(s, NULL, "zero_point", zeros, 2);
            want = RQ_BAD_SHAPE;
            break;
        case 2:
            (void)!rq_state_set_floats(s, NULL, "scale", inf, 1);
            want = RQ_BAD_DATA;
            break;
        case 3:
            (void)!rq_state_set_floats(s, NULL, "observer_enabled", two, 1);
            want = RQ_BAD_DTYPE;
            break;
        case 7:
            (void)!rq_state_set_floats(s, NULL, "zero_point", half, 1);
            want = RQ_BAD_DATA;
            break;
        case 4: /* the observer's, which comes last */
            (void)!rq_state_set_floats(s, "activation_post_process.", "min_val", two, 2);
            want = RQ_BAD_SHAPE;
            break;
        case 5: /* as another type would have it */
            (void)!rq_state_set_ints(s, NULL, "zero_point", beyond, 1);
            want = RQ_BAD_DATA;
            break;
        case 6:
            (void)!rq_state_set_floats(s, NULL, "scale", negative, 1);
            want = RQ_BAD_DATA;
            break;
        default:
            (void)!rq_state_set_ints(s, NULL, "zero_point", zeros, 2);
            want = RQ_BAD_SHAPE;
        }
        assert_int_equal(rq_fake_quantizer_load(q, s, NULL, &err), want);
        assert_true(strlen(err.text) > 10);
        assert_int_equal(rq_fake_quantizer_save(q, now, NULL), RQ_OK);
        same_states(before, now);
        rq_state_destroy(s);
        rq_state_destroy(now);
    }
    rq_state_destroy(before);
    rq_fake_quantizer_destroy(q);
}

/* What bad_states_change_nothing refuses PyTorch takes: numbers of PyTorch 2.7.0. */
static void bad_states_as_pytorch_has_them(void **state)
{
    (void)state;
    static const struct {
        float scale;
        int64_t zero_point;
        float y[4];
    } want[] = { { 0.25f, 255, { -64, -50, -32, -32 } }, { -0.25f, 5, { -30.5f, -30.5f, -30.5f, 1 } } };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
        c.observer.type = (rq_qtype) { RQ_DTYPE_S8, -128, 127 };
        rq_state *s;
        rq_err err = { 0 };
        assert_int_equal(rq_state_create(&s), RQ_OK);
        rq_fake_quantizer *q = make(&c);
        assert_int_equal(rq_fake_quantizer_save(q, s, NULL), RQ_OK);
        (void)!rq_state_set_floats(s, NULL, "scale", &want[i].scale, 1);
        (void)!rq_state_set_ints(s, NULL, "zero_point", &want[i].zero_point, 1);
        assert_int_equal(rq_fake_quantizer_load(q, s, NULL, &err), RQ_BAD_DATA);
        rq_fake_quantizer_destroy(q);
        c.compat = true;
        q = make(&c);
        ok(rq_fake_quantizer_load(q, s, NULL, &err), &err);
        rq_fake_quantizer_enable_observer(q, false);
        float x[4] = { -64, -50.125f, -32, 1 }, y[4];
        assert_int_equal(feed(q, x, y, 4), RQ_OK);
        assert_memory_equal(y, want[i].y, sizeof y);
        rq_fake_quantizer_destroy(q);
        rq_state_destroy(s);
    }
}

/* ---- the rest ---- */

static void settings_that_do_not_go_together(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
        rq_status want = RQ_BAD_ARG;
        switch (i) {
        case 0:
            c.kind = RQ_N_FAKE_QUANTIZERS;
            break;
        case 1:
            c.observer.kind = RQ_OBSERVER_PLACEHOLDER;
            break;
        case 2:
            c.kind = RQ_FAKE_QUANTIZER_FUSED;
            c.observer.kind = RQ_OBSERVER_EMA;
            break;
        case 3:
            c.observer.kind = RQ_OBSERVER_FIXED;
            break;
        case 4:
            c.kind = RQ_FAKE_QUANTIZER_FIXED;
            break;
        case 5:
            c.observer.type = rq_qtype_of(RQ_DTYPE_F8E4M3FN);
            want = RQ_BAD_DTYPE;
            break;
        case 6:
            c.observer.type = rq_qtype_of(RQ_DTYPE_S32);
            want = RQ_BAD_DTYPE;
            break;
        case 7:
            c.kind = RQ_FAKE_QUANTIZER_LEARNABLE;
            c.scale = -1;
            break;
        case 8:
            c.kind = RQ_FAKE_QUANTIZER_LEARNABLE;
            c.channels = 3; /* per tensor */
            break;
        default: /* the observer's own check */
            c.observer.averaging_constant = 2;
        }
        rq_fake_quantizer *q = NULL;
        rq_err err = { 0 };
        const rq_status got = rq_fake_quantizer_create(&q, &c, &err);
        if (got != want || !err.text[0] || q)
            fail_msg("case %d: %s: %s", i, rq_status_text(got), err.text);
    }
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
    rq_fake_quantizer *q = make(&c);
    const float scale[] = { 0.5f, 0 }, zero[] = { 0.5f, 300 };
    assert_int_equal(rq_fake_quantizer_set_qparams(q, scale, NULL, 2, NULL), RQ_BAD_ARG);
    assert_int_equal(rq_fake_quantizer_set_qparams(q, scale + 1, NULL, 1, NULL), RQ_NUMERIC);
    assert_int_equal(rq_fake_quantizer_set_qparams(q, scale, zero, 1, NULL), RQ_NUMERIC);
    assert_int_equal(rq_fake_quantizer_set_qparams(q, scale, zero + 1, 1, NULL), RQ_NUMERIC);
    assert_int_equal(rq_fake_quantizer_set_qparams(q, scale, NULL, 1, NULL), RQ_OK);
    char text[RQ_FAKE_QUANTIZER_TEXT];
    assert_string_equal(rq_fake_quantizer_text(q, text, sizeof text),
                        "FakeQuantize(fake_quant_enabled=1, observer_enabled=1, quant_min=0, quant_max=255, dtype=u8, "
                        "qscheme=per_tensor_affine, ch_axis=-1, scale=0.5, zero_point=0)");
    rq_fake_quantizer_destroy(q);
}

/* A life with the n-th allocation missing. */
static rq_status life(rq_fake_quantizer_kind kind, int axis)
{
    float x[12], y[12];
    for (int i = 0; i < 12; i++)
        x[i] = (float)(i - 5);
    const rq_shape shape = rq_shape_of(2, (const int64_t[]) { 3, 4 });
    const rq_strided vx = rq_strided_floats(x, &shape), vy = rq_strided_floats(y, &shape);
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(kind);
    c.compat = kind == RQ_FAKE_QUANTIZER_FUSED;
    if (axis >= 0) {
        c.observer.axis = axis;
        c.observer.scheme = RQ_QSCHEME_PER_CHANNEL_AFFINE;
    }
    rq_fake_quantizer *q = NULL, *p = NULL;
    rq_state *s = NULL;
    rq_qparams out = { 0 };
    rq_err err = { 0 };
    rq_status st = rq_fake_quantizer_create(&q, &c, &err);
    if (!st)
        st = rq_fake_quantizer_create(&p, &c, &err);
    if (!st)
        st = rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err);
    if (!st && kind == RQ_FAKE_QUANTIZER_LEARNABLE)
        st = rq_fake_quantizer_enable_param_learning(q, &err);
    if (!st)
        st = rq_fake_quantizer_backward(q, NULL, &vy, &vx, &vx, &err);
    if (!st)
        st = rq_fake_quantizer_qparams(q, &out, NULL, &err);
    if (!st)
        st = rq_state_create(&s);
    if (!st)
        st = rq_fake_quantizer_save(q, s, "a.");
    if (!st)
        st = rq_fake_quantizer_load(p, s, "a.", &err);
    rq_qparams_release(&out);
    rq_state_destroy(s);
    rq_fake_quantizer_destroy(p);
    rq_fake_quantizer_destroy(q);
    return st;
}

static void memory_may_run_out(void **state)
{
    (void)state;
    for (int kind = 0; kind <= RQ_FAKE_QUANTIZER_LEARNABLE; kind++)
        for (int axis = -1; axis < (kind == RQ_FAKE_QUANTIZER_FIXED ? 0 : 2); axis++)
            for (size_t n = 1;; n++) {
                const size_t live = rq_mem_live();
                rq_mem_fail_after(n, true);
                const rq_status got = life((rq_fake_quantizer_kind)kind, axis);
                rq_mem_fail_after(0, false);
                assert_int_equal(rq_mem_live(), live);
                if (got == RQ_OK) {
                    assert_true(n > 5);
                    break;
                }
                assert_int_equal(got, RQ_NO_MEMORY);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_of_whole_numbers_is_known),
        cmocka_unit_test(bad_states_change_nothing),
        cmocka_unit_test(bad_states_as_pytorch_has_them),
        cmocka_unit_test(settings_that_do_not_go_together),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
