/* tests/quant/test_observer.c — observers and the way from a range to parameters as Core ML Tools 9 has them (torch-facts 3.1, 3.2, 3.3): vectors V
 * and list B by their numbers. PyTorch's tables: test_observer_tables.c; strides, threads, what is not finite, memory: test_observer_edges.c.
 * tests/golden has hundreds of whole cases more. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "quant/generators.h"
#include "quant/observer_help.h"
#include "quant/observer_row.h"
#include "requant/fake_quantize.h"

/* Printed with seven digits, at most eight of them decimals. */
static void about(double got, double want)
{
    if (!(fabs(got - want) <= 1.1e-6 * fabs(want) + 5.1e-9))
        fail_msg("%.9g instead of %.9g", got, want);
}

/* ---- V1, V2: the three kinds of Core ML Tools ---- */

static const rq_observer_kind three[3] = { RQ_OBSERVER_MOVING_AVERAGE, RQ_OBSERVER_MINMAX, RQ_OBSERVER_EMA };

static void v1_per_tensor(void **state)
{
    static const float batches[3][3] = { { -1, 0.5f, 2 }, { -3, 1, 0 }, { 0.5f, 4, 1 } };
    static const double ends[3][2] = { { -1.0048, 2.0101 }, { -3, 4 }, { -1.03, 2.11 } }, scale[3][2] = {
        { 0.01576549, 0.01182314 }, { 0.03137255, 0.02745098 }, { 0.01654902, 0.01231373 }
    };
    static const int zero[3][4] = { { 128, 0, 85, -43 }, { 128, 0, 109, -19 }, { 128, 0, 84, -44 } };
    (void)state;
    for (int k = 0; k < 3; k++)
        for (int form = 0; form < 4; form++) { /* symmetric u8, s8; affine u8, s8 */
            const rq_observer_cfg cfg = config(three[k], form & 1 ? "qint8" : "quint8", form < 2 ? SYMMETRIC : AFFINE);
            rq_observer *o = make(&cfg);
            rq_range r;
            rq_qparams q;
            for (int b = 0; b < 3; b++)
                see(o, batches[b], 3);
            assert_int_equal(rq_observer_range(o, &r, 1), RQ_OK);
            about(r.lo, ends[k][0]);
            about(r.hi, ends[k][1]);
            assert_int_equal(rq_observer_qparams(o, &q, NULL, &err), RQ_OK);
            about((double)q.scale[0], scale[k][form / 2]);
            assert_int_equal(q.zero_point[0], zero[k][form]);
            rq_qparams_release(&q);
            rq_observer_destroy(o);
        }
}

static void v2_per_channel(void **state)
{
    static float a[6] = { 1, -2, 0.5f, 0, 0.25f, 0.75f }, b[6] = { 3, -1, 0.5f, 0.1f, -0.5f, 0.2f };
    static const struct {
        double lo[2], hi[2];
        struct {
            double scale[2];
            int zero[2];
        } form[5]; /* s8 symmetric, affine; s4 symmetric, affine; u4 symmetric */
    } want[3] = {
        { { -1.99, -0.005 },
          { 1.02, 0.7445 },
          { { { 0.01560784, 0.00583922 }, { 0, 0 } },
            { { 0.01180392, 0.00293922 }, { 41, -126 } },
            { { 0.26533332, 0.09926666 }, { 0, 0 } },
            { { 0.20066667, 0.04996667 }, { 2, -8 } },
            { { 0.26533332, 0.09926666 }, { 7, 7 } } } },
        { { -2, -0.5 },
          { 3, 0.75 },
          { { { 0.02352941, 0.00588235 }, { 0, 0 } },
            { { 0.01960784, 0.00490196 }, { -26, -26 } },
            { { 0.4, 0.1 }, { 0, 0 } },
            { { 0.33333334, 0.08333334 }, { -2, -2 } },
            { { 0.4, 0.1 }, { 7, 7 } } } },
        { { -1.9, -0.05 },
          { 1.2, 0.695 },
          { { { 0.01490196, 0.00545098 }, { 0, 0 } },
            { { 0.01215686, 0.00292157 }, { 28, -111 } },
            { { 0.25333333, 0.09266666 }, { 0, 0 } },
            { { 0.20666666, 0.04966666 }, { 1, -7 } },
            { { 0.25333333, 0.09266666 }, { 7, 7 } } } },
    };
    static const char *const types[5] = { "qint8", "qint8", "qint8[-8,7]", "qint8[-8,7]", "quint8[0,15]" };
    (void)state;
    for (int k = 0; k < 3; k++)
        for (int f = 0; f < 5; f++) {
            rq_observer_cfg cfg =
                config(three[k], types[f], f & 1 ? RQ_QSCHEME_PER_CHANNEL_AFFINE : RQ_QSCHEME_PER_CHANNEL_SYMMETRIC);
            cfg.axis = 0;
            rq_observer *o = make(&cfg);
            const rq_strided va = matrix(a, 2, 3), vb = matrix(b, 2, 3);
            rq_range r[2];
            rq_qparams q;
            assert_int_equal(rq_observer_update(o, NULL, &va, &err), RQ_OK);
            assert_int_equal(rq_observer_update(o, NULL, &vb, &err), RQ_OK);
            assert_int_equal(rq_observer_range(o, r, 2), RQ_OK);
            assert_int_equal(rq_observer_qparams(o, &q, NULL, &err), RQ_OK);
            for (int c = 0; c < 2; c++) {
                about(r[c].lo, want[k].lo[c]);
                about(r[c].hi, want[k].hi[c]);
                about((double)q.scale[c], want[k].form[f].scale[c]);
                assert_int_equal(q.zero_point[c], want[k].form[f].zero[c]);
            }
            rq_qparams_release(&q);
            rq_observer_destroy(o);
        }
}

/* ---- V5, V8: weights ---- */

static void v5_and_v8_weights(void **state)
{
    static const struct {
        const char *type;
        bool symmetric;
        double scale[2];
        int zero[2];
        int decoded;
    } rows[] = {
        { "int8", true, { 0.01574803, 0.03149606 }, { 0, 0 }, 0 },
        { "uint8", true, { 0.01574803, 0.03149606 }, { 127, 127 }, 0 },
        { "int8", false, { 0.00784314, 0.01960784 }, { -128, -77 }, 1 },
        { "uint8", false, { 0.00784314, 0.01960784 }, { 0, 51 }, 1 },
        { "int4", true, { 0.2857143, 0.5714286 }, { 0, 0 }, 2 },
        { "uint4", true, { 0.2857143, 0.5714286 }, { 7, 7 }, 2 },
        { "int4", false, { 0.1333333, 0.3333333 }, { -8, -5 }, 3 },
        { "uint4", false, { 0.1333333, 0.3333333 }, { 0, 3 }, 3 },
    };
    static const double decoded[4][8] = {
        { 0.2992126, 0.6929134, 1.1023622, 2, -1.007874, 2.015748, 2.992126, 4 },
        { 0.2980392, 0.6980392, 1.0980393, 2, -1, 2, 3, 4 },
        { 0.2857143, 0.5714286, 1.1428572, 2, -1.1428572, 1.7142859, 2.8571429, 4 },
        { 0.2666667, 0.6666667, 1.0666667, 2, -1, 2, 3, 4 },
    };
    static float w[8] = { 0.3f, 0.7f, 1.1f, 2, -1, 2, 3, 4 };
    static const float lo[2] = { 0.3f, -1 }, hi[2] = { 2, 4 };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int compat = 0; compat < 2; compat++) {
            const rq_shape shape = rq_shape_of(2, (int64_t[]) { 2, 4 });
            rq_qtype t;
            float s[2], y[8];
            int32_t z[2];
            assert_int_equal(rq_qtype_parse(&t, rows[i].type, &err), RQ_OK);
            for (int c = 0; c < 2; c++) {
                rq_qparams_rule rule = rq_qparams_rule_of(RQ_QPARAMS_PTQ, t, rows[i].symmetric ? SYMMETRIC : AFFINE);
                rule.compat = compat;
                assert_int_equal(rq_qparams_choose(lo[c], hi[c], &rule, &s[c], &z[c], NULL), RQ_OK);
                about((double)s[c], rows[i].scale[c]);
                assert_int_equal(z[c], rows[i].zero[c]);
            }
            const rq_fq fq = { .type = t, .rule = RQ_FQ_DIVIDE, .axis = 0, .n = 2, .scale = s, .zero_point = z };
            const rq_strided in = rq_strided_floats(w, &shape), out = rq_strided_floats(y, &shape);
            assert_int_equal(rq_fake_quantize(NULL, &out, NULL, &in, &fq, &err), RQ_OK);
            for (int k = 0; k < 8; k++)
                about((double)y[k], decoded[rows[i].decoded][k]);
        }
    static const struct {
        float lo, hi;
        bool symmetric, compat;
        double scale;
        int zero;
    } eight[] = {
        { 0.1f, 1.5f, true, true, 0.1, 8 },        { 0.1f, 1.5f, true, false, 0.2, 8 },
        { -1.5f, -0.1f, false, true, 0.1, 15 },    { 0, 0, true, true, 0.1333333, 8 },
        { -1.5f, 0.1f, true, false, 3 / 15.0, 8 },
    };
    for (size_t i = 0; i < sizeof eight / sizeof eight[0]; i++) {
        rq_qparams_rule rule =
            rq_qparams_rule_of(RQ_QPARAMS_LAYERWISE, rq_qtype_of(RQ_DTYPE_U4), eight[i].symmetric ? SYMMETRIC : AFFINE);
        float s;
        int32_t z;
        rule.compat = eight[i].compat;
        assert_int_equal(rq_qparams_choose(eight[i].lo, eight[i].hi, &rule, &s, &z, NULL), RQ_OK);
        about((double)s, eight[i].scale);
        assert_int_equal(z, eight[i].zero);
    }
}

/* ---- B: range helpers and observers of Core ML Tools ---- */

static void b1_b2_ranges_of_widths(void **state)
{
    (void)state;
    for (int n = 2; n <= 7; n++)
        for (int is_signed = 0; is_signed < 2; is_signed++) {
            rq_qtype t;
            assert_int_equal(rq_qtype_bits(&t, n, is_signed, false, &err), RQ_OK);
            assert_int_equal(t.lo, is_signed ? -(1 << (n - 1)) : 0);
            assert_int_equal(t.hi, is_signed ? (1 << (n - 1)) - 1 : (1 << n) - 1);
            assert_int_equal(rq_qtype_width(&t), n);
        }
}

static void b3_b4_predicates(void **state)
{
    (void)state;
    assert_false(rq_qscheme_is_per_channel(RQ_QSCHEME_PER_TENSOR_AFFINE));
    assert_false(rq_qscheme_is_per_channel(RQ_QSCHEME_PER_TENSOR_SYMMETRIC));
    assert_true(rq_qscheme_is_per_channel(RQ_QSCHEME_PER_CHANNEL_AFFINE));
    assert_true(rq_qscheme_is_per_channel(RQ_QSCHEME_PER_CHANNEL_SYMMETRIC));
    assert_false(rq_qscheme_is_symmetric(RQ_QSCHEME_PER_TENSOR_AFFINE));
    assert_true(rq_qscheme_is_symmetric(RQ_QSCHEME_PER_TENSOR_SYMMETRIC));
    assert_false(rq_qscheme_is_symmetric(RQ_QSCHEME_PER_CHANNEL_AFFINE));
    assert_true(rq_qscheme_is_symmetric(RQ_QSCHEME_PER_CHANNEL_SYMMETRIC));
    static const rq_observer_kind native[] = { RQ_OBSERVER_MINMAX,    RQ_OBSERVER_MOVING_AVERAGE,
                                               RQ_OBSERVER_HISTOGRAM, RQ_OBSERVER_PLACEHOLDER,
                                               RQ_OBSERVER_NOOP,      RQ_OBSERVER_FIXED };
    for (size_t i = 0; i < sizeof native / sizeof native[0]; i++)
        assert_true(rq_observer_kind_is_native(native[i]));
    assert_false(rq_observer_kind_is_native(RQ_OBSERVER_EMA));
}

static void b5_two_values_come_back(void **state)
{
    static const struct {
        const char *type;
        bool symmetric;
        float lo, hi;
    } rows[] = {
        { "qint8", true, -127, 127 },
        { "quint8", true, -127, 127 },
        { "quint8", false, 0, 255 },
        { "qint8", false, -128, 127 },
    };
    static float x[432];
    (void)state;
    for (size_t i = 0; i < 4; i++)
        for (int channels = 0; channels < 2; channels++) {
            const int scheme =
                (channels ? RQ_QSCHEME_PER_CHANNEL_AFFINE : RQ_QSCHEME_PER_TENSOR_AFFINE) + rows[i].symmetric;
            rq_observer_cfg cfg = config(RQ_OBSERVER_EMA, rows[i].type, (rq_qscheme)scheme);
            const rq_shape s = rq_shape_of(4, (int64_t[]) { 3, 4, 6, 6 });
            const rq_strided v = rq_strided_floats(x, &s);
            rq_qparams q;
            cfg.axis = channels ? 0 : RQ_PER_TENSOR;
            for (int k = 0; k < 432; k++)
                x[k] = k * 2654435761u >> 31 ? rows[i].lo : rows[i].hi;
            rq_observer *o = make(&cfg);
            assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
            assert_int_equal(rq_observer_qparams(o, &q, NULL, &err), RQ_OK);
            const rq_qtype t = rq_observer_type(o);
            for (int k = 0; k < 432; k++) {
                const int c = channels ? k / 144 : 0;
                const float code =
                    fminf(fmaxf(rintf(x[k] / q.scale[c] + (float)q.zero_point[c]), (float)t.lo), (float)t.hi);
                const float back = (code - (float)q.zero_point[c]) * q.scale[c];
                assert_true((rows[i].symmetric ? ceilf(back) : back) == x[k]);
            }
            rq_qparams_release(&q);
            rq_observer_destroy(o);
        }
}

/* B6, and the same for every kind that has a state. */
static void b6_states_come_back(void **state)
{
    static float x[12];
    (void)state;
    gen_l(x, 12, 3, -1, 2);
    for (int k = 0; k < RQ_N_OBSERVERS; k++)
        for (int axis = RQ_PER_TENSOR; axis < 2; axis++) {
            rq_observer_cfg cfg = rq_observer_defaults((rq_observer_kind)k);
            rq_observer *o = NULL, *other = NULL;
            rq_state *a = NULL, *b = NULL;
            const rq_strided v = matrix(x, 3, 4);
            cfg.axis = axis;
            cfg.scheme = axis == RQ_PER_TENSOR ? AFFINE : RQ_QSCHEME_PER_CHANNEL_AFFINE;
            if (k == RQ_OBSERVER_OWN || k == RQ_OBSERVER_STACKED || rq_observer_create(&o, &cfg, &err))
                continue;
            assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
            assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
            other = make(&cfg);
            assert_int_equal(rq_state_create(&a), RQ_OK);
            assert_int_equal(rq_state_create(&b), RQ_OK);
            assert_int_equal(rq_observer_save(o, a, "obs."), RQ_OK);
            if (rq_observer_load(other, a, "obs.", &err))
                fail_msg("%s: %s", rq_observer_kind_name((rq_observer_kind)k), err.text);
            assert_int_equal(rq_observer_save(other, b, "obs."), RQ_OK);
            assert_int_equal(rq_state_count(a), rq_state_count(b));
            for (int i = 0; i < rq_state_count(a); i++) {
                assert_string_equal(rq_state_name(a, i), rq_state_name(b, i));
                assert_memory_equal(rq_state_tensor(a, i)->data, rq_state_tensor(b, i)->data,
                                    rq_state_tensor(a, i)->bytes);
            }
            rq_observer_reset(other);
            assert_int_equal(rq_observer_count(other), 0);
            rq_observer_destroy(o);
            rq_observer_destroy(other);
            rq_state_destroy(a);
            rq_state_destroy(b);
        }
}

/* B7: what a plain FakeQuantize takes; and the codes of symmetric u8 reduced, which Core ML Tools 9 gives 128 as zero point. */
static void b7_ema_goes_into_fake_quantize(void **state)
{
    (void)state;
    for (int i = 0; i < 32; i++) {
        const bool channels = i & 1, symmetric = i & 2, is_signed = i & 4, reduce = i & 8, compat = i & 16;
        const rq_qscheme scheme = channels
                                      ? (symmetric ? RQ_QSCHEME_PER_CHANNEL_SYMMETRIC : RQ_QSCHEME_PER_CHANNEL_AFFINE)
                                      : (symmetric ? SYMMETRIC : AFFINE);
        rq_fake_quantizer_cfg cfg = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
        cfg.observer = config(RQ_OBSERVER_EMA, is_signed ? "qint8" : "quint8", scheme);
        cfg.observer.axis = channels ? 0 : RQ_PER_TENSOR;
        cfg.observer.reduce_range = reduce;
        cfg.observer.compat = cfg.compat = compat;
        rq_fake_quantizer *f;
        if (rq_fake_quantizer_create(&f, &cfg, &err))
            fail_msg("%s", err.text);
        rq_fake_quantizer_destroy(f);

        rq_observer *o = make(&cfg.observer);
        float x[4] = { 2.5f, 2.5f, 2.5f, 2.5f };
        const rq_strided v = matrix(x, 2, 2);
        rq_qparams q;
        assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
        assert_int_equal(rq_observer_qparams(o, &q, NULL, &err), RQ_OK);
        assert_int_equal(q.n, channels ? 2 : 1);
        if (symmetric && reduce)
            assert_true(q.scale[0] == 2.5f / 63.5f);
        assert_int_equal(q.zero_point[0], symmetric ? (is_signed           ? 0
                                                       : compat || !reduce ? 128
                                                                           : 64)
                                                    : (is_signed ? (reduce ? -64 : -128) : 0));
        rq_qparams_release(&q);
        rq_observer_destroy(o);
        cfg.observer.kind = RQ_OBSERVER_MINMAX; /* PyTorch's refuse it */
        o = NULL;
        assert_int_equal(rq_observer_create(&o, &cfg.observer, &err),
                         symmetric && reduce && !is_signed ? RQ_BAD_ARG : RQ_OK);
        rq_observer_destroy(o);
    }
}

static void b8_channels_come_to_the_front(void **state)
{
    static const struct {
        int rank, axis;
        int64_t dim[4], rows, columns;
    } rows[] = {
        { 2, 0, { 1, 2 }, 1, 2 },       { 2, 1, { 1, 2 }, 2, 1 },        { 3, 0, { 3, 2, 1 }, 3, 2 },
        { 3, 1, { 2, 3, 1 }, 3, 2 },    { 3, 2, { 3, 1, 2 }, 2, 3 },     { 4, 0, { 1, 2, 3, 4 }, 1, 24 },
        { 4, 1, { 4, 3, 2, 1 }, 3, 8 }, { 4, 2, { 3, 4, 2, 1 }, 2, 12 }, { 4, 3, { 2, 3, 1, 4 }, 4, 6 },
    };
    float x[24];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const rq_shape s = rq_shape_of(rows[i].rank, rows[i].dim);
        const rq_strided v = rq_strided_floats(x, &s);
        rq_runs r;
        assert_int_equal(rq_runs_init(&r, &v, &rows[i].axis, 1, &err), RQ_OK);
        assert_int_equal(r.channels, rows[i].rows);
        assert_int_equal(r.rest, rows[i].columns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v1_per_tensor),
        cmocka_unit_test(v2_per_channel),
        cmocka_unit_test(v5_and_v8_weights),
        cmocka_unit_test(b1_b2_ranges_of_widths),
        cmocka_unit_test(b3_b4_predicates),
        cmocka_unit_test(b5_two_values_come_back),
        cmocka_unit_test(b6_states_come_back),
        cmocka_unit_test(b7_ema_goes_into_fake_quantize),
        cmocka_unit_test(b8_channels_come_to_the_front),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
