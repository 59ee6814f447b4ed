/* Fake-quantizers: numbers that PyTorch 1.13 printed, the phases of the learnable one (docs/torch-facts.md 2.7), what Core ML Tools' own tests
 * ask of theirs (C1 to C4), states, and the faults of the originals with and without `compat`. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "requant/fake_quantizer.h"

static const rq_qtype s8 = { RQ_DTYPE_S8, -128, 127 };

static void ok(rq_status s, const rq_err *err)
{
    if (s)
        fail_msg("%s: %s", rq_status_text(s), err->text);
}

static void ramp(float *x, int n, double lo, double hi)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)(lo + (hi - lo) * i / (n - 1));
}

static void near(double got, double want, const char *what)
{
    if (!(fabs(got - want) <= 1e-6 * fabs(want)))
        fail_msg("%s is %.9g, expected %.9g", what, got, want);
}

static rq_fake_quantizer *make(const rq_fake_quantizer_cfg *c)
{
    rq_err err = { 0 };
    rq_fake_quantizer *q = NULL;
    ok(rq_fake_quantizer_create(&q, c, &err), &err);
    return q;
}

static rq_status feed(rq_fake_quantizer *q, float *x, float *y, int n)
{
    const rq_strided vx = rq_strided_vector(x, n), vy = rq_strided_vector(y, n);
    rq_err err = { 0 };
    return rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err);
}

static void feed_ramp(rq_fake_quantizer *q, double lo, double hi)
{
    float x[11], y[11];
    ramp(x, 11, lo, hi);
    assert_int_equal(feed(q, x, y, 11), RQ_OK);
}

static float scale_of(rq_fake_quantizer *q)
{
    return rq_fake_quantizer_scale(q)[0];
}

static float zero_of(rq_fake_quantizer *q)
{
    return rq_fake_quantizer_zero_point(q)[0];
}

static void exported(rq_fake_quantizer *q, float *scale, int *zero_point)
{
    rq_qparams p;
    rq_err err = { 0 };
    ok(rq_fake_quantizer_qparams(q, &p, NULL, &err), &err);
    *scale = p.scale[0];
    *zero_point = p.zero_point[0];
    rq_qparams_release(&p);
}

/* ---- plain and fused ---- */

static void fused_activations(void **state)
{
    (void)state;
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_FUSED);
    c.compat = true;
    rq_fake_quantizer *q = make(&c);
    feed_ramp(q, -1, 3);
    near(scale_of(q), 0.0156862754, "scale");
    assert_true(zero_of(q) == 64);
    feed_ramp(q, 0.5, 2);
    rq_range r;
    assert_int_equal(rq_observer_range(rq_fake_quantizer_observer(q), &r, 1), RQ_OK);
    near(r.lo, -0.985000014, "min_val");
    near(r.hi, 2.99000001, "max_val");
    assert_true(scale_of(q) == 0.0155882351f && zero_of(q) == 63);
    rq_fake_quantizer_destroy(q);
}

/* The table of docs/torch-facts.md 2.6: two rules there, one here. */
static void fused_weights_in_training_and_converted(void **state)
{
    (void)state;
    static const struct {
        double a, b;
        int lo;
        float s;
        int z;
        float s_out;
    } want[] = {
        { -1, 0.5, -128, 0.0078125f, 0, 0.00784313772f },
        { -0.5, 1, -128, 0.00787401572f, 0, 0.00784313772f },
        { -1, 1, -128, 0.00787401572f, 0, 0.00784313772f },
        { 0.25, 1, -128, 0.00392156886f, -128, 0.00784313772f },
        { -1, -0.25, -128, 0.00392156886f, 127, 0.00784313772f },
        { -1, 0.5, -127, 0.00784325786f, 0, 0.00787401572f },
        { 0, 0, -128, 0.1f, 127, 1.1920929e-07f },
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        for (int compat = 0; compat < 2; compat++) {
            rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_FUSED);
            c.compat = compat;
            c.observer.type = (rq_qtype) { RQ_DTYPE_S8, want[i].lo, 127 };
            c.observer.custom_range = true;
            c.observer.scheme = RQ_QSCHEME_PER_TENSOR_SYMMETRIC;
            rq_fake_quantizer *q = make(&c);
            feed_ramp(q, want[i].a, want[i].b);
            float s;
            int z;
            exported(q, &s, &z);
            near(s, want[i].s_out, "converted scale");
            assert_int_equal(z, 0);
            near(scale_of(q), compat ? want[i].s : want[i].s_out, "scale in training");
            assert_true(zero_of(q) == (compat ? want[i].z : 0));
            rq_fake_quantizer_destroy(q);
        }
}

static void what_is_exported_is_what_was_used(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++)
        for (int compat = 0; compat < 2; compat++) {
            rq_fake_quantizer_cfg c =
                rq_fake_quantizer_defaults(kind ? RQ_FAKE_QUANTIZER_FUSED : RQ_FAKE_QUANTIZER_STANDARD);
            c.compat = compat;
            rq_fake_quantizer *q = make(&c);
            feed_ramp(q, -1, 3);
            const float observed = scale_of(q), mine = 0.5f, zero = 10;
            rq_err err = { 0 };
            rq_fake_quantizer_enable_observer(q, false);
            ok(rq_fake_quantizer_set_qparams(q, &mine, &zero, 1, &err), &err);
            float x[] = { 0.7f, 1e9f, -3 }, y[3], s;
            int z;
            assert_int_equal(feed(q, x, y, 3), RQ_OK);
            exported(q, &s, &z);
            if (kind && compat) { /* overwritten by every forward */
                assert_true(scale_of(q) == observed);
            } else {
                assert_true(scale_of(q) == mine && y[0] == 0.5f && y[1] == 0.5f * 245 && y[2] == -3);
            }
            assert_true(compat ? s == observed && z == 64 : s == mine && z == 10);
            rq_fake_quantizer_destroy(q);
        }
    /* without fake quantization the fused one keeps watching */
    for (int compat = 0; compat < 2; compat++) {
        rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_FUSED);
        c.compat = compat;
        rq_fake_quantizer *q = make(&c);
        rq_fake_quantizer_enable_fake_quant(q, false);
        feed_ramp(q, -1, 3);
        assert_true(scale_of(q) == (compat ? 1 : 0.0156862754f));
        rq_range r;
        assert_int_equal(rq_observer_range(rq_fake_quantizer_observer(q), &r, 1), RQ_OK);
        assert_true(r.lo == -1 && r.hi == 3);
        rq_fake_quantizer_destroy(q);
    }
}

static void what_has_seen_nothing_does_not_quantize(void **state)
{
    (void)state;
    static const rq_fake_quantizer_kind kinds[] = { RQ_FAKE_QUANTIZER_STANDARD, RQ_FAKE_QUANTIZER_FUSED,
                                                    RQ_FAKE_QUANTIZER_LEARNABLE };
    for (int k = 0; k < 3; k++)
        for (int compat = 0; compat < 2; compat++) {
            rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(kinds[k]);
            c.compat = compat;
            rq_fake_quantizer *q = make(&c);
            rq_fake_quantizer_enable_observer(q, false);
            float x[] = { 0.4f, 2.5f, 7.1f }, y[3] = { 9, 9, 9 }, nothing[] = { NAN, INFINITY };
            const bool refused = !compat || kinds[k] == RQ_FAKE_QUANTIZER_FUSED;
            assert_int_equal(feed(q, x, y, 3), refused ? RQ_BAD_DATA : RQ_OK);
            if (refused)
                assert_true(y[0] == 9);
            else
                assert_true(y[0] == 0 && y[1] == 2 && y[2] == 7);
            rq_qparams p;
            if (!compat) {
                assert_int_equal(rq_fake_quantizer_qparams(q, &p, NULL, NULL), RQ_BAD_DATA);
                rq_fake_quantizer_enable_observer(q, true); /* nothing finite is nothing */
                assert_int_equal(feed(q, nothing, nothing, 2), RQ_BAD_DATA);
                assert_int_equal(feed(q, x, y, 0), RQ_OK);
                if (kinds[k] == RQ_FAKE_QUANTIZER_LEARNABLE) {
                    rq_err err = { 0 };
                    assert_int_equal(rq_fake_quantizer_enable_param_learning(q, &err), RQ_BAD_DATA);
                    assert_non_null(strstr(err.text, "seen nothing"));
                }
            } else {
                float s;
                int z;
                exported(q, &s, &z);
                assert_true(s == 1 && z == 0);
            }
            rq_fake_quantizer_destroy(q);
        }
}

static void ranges_switches_and_constants(void **state)
{
    (void)state;
    /* 0..255 and reduce_range make 0..127 */
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
    c.observer.custom_range = c.observer.reduce_range = true;
    rq_fake_quantizer *q = make(&c);
    assert_int_equal(rq_fake_quantizer_type(q).hi, 127);
    float x[] = { -1, 0, 3 }, y[3];
    assert_int_equal(feed(q, x, y, 3), RQ_OK);
    near(scale_of(q), 4.0 / 127, "scale");
    /* both off: the identity, and nothing moves */
    rq_fake_quantizer_enable_observer(q, false);
    rq_fake_quantizer_enable_fake_quant(q, false);
    float wide[] = { -100, 0.123f, NAN };
    const float before = scale_of(q);
    assert_int_equal(feed(q, wide, y, 3), RQ_OK);
    assert_memory_equal(y, wide, sizeof y);
    assert_true(scale_of(q) == before && !rq_fake_quantizer_observer_enabled(q) &&
                !rq_fake_quantizer_fake_quant_enabled(q));
    const rq_strided vx = rq_strided_vector(wide, 3), vy = rq_strided_vector(y, 3), two = rq_strided_vector(y, 2);
    assert_int_equal(rq_fake_quantizer_forward(q, NULL, &two, &vx, NULL), RQ_BAD_SHAPE);
    /* straight-through where on */
    rq_fake_quantizer_enable_fake_quant(q, true);
    float dy[] = { 1, 2, 3 };
    const rq_strided vdy = rq_strided_vector(dy, 3);
    assert_int_equal(rq_fake_quantizer_backward(q, NULL, &vy, &vdy, &vx, NULL), RQ_OK);
    assert_true(y[0] == 0 && y[1] == 2 && y[2] == 0);
    rq_fake_quantizer_reset(q);
    assert_true(rq_fake_quantizer_observer_enabled(q) && scale_of(q) == 1);
    assert_int_equal(rq_observer_count(rq_fake_quantizer_observer(q)), 0);
    rq_fake_quantizer_destroy(q);

    c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_FIXED); /* softmax: the largest number there is */
    q = make(&c);
    float probabilities[] = { 0.5f, 1, 0.3f };
    for (int i = 0; i < 2; i++) {
        assert_int_equal(feed(q, probabilities, y, 3), RQ_OK);
        assert_true(y[0] == 0.5f && y[1] == 0.99609375f && scale_of(q) == 0.00390625f && zero_of(q) == 0);
        rq_fake_quantizer_reset(q);
    }
    assert_int_equal(rq_fake_quantizer_set_qparams(q, x, NULL, 1, NULL), RQ_BAD_ARG);
    rq_fake_quantizer_destroy(q);
}

/* Doubles stay doubles where nothing is quantized, and become multiples of the scale where something is; strides too. */
static void other_element_types(void **state)
{
    (void)state;
    double x[] = { 0.1, -1.0 / 3, 2.0 / 3, 1, 5, 5 }, y[6] = { 0 };
    const rq_shape shape = rq_shape_of(1, (const int64_t[]) { 3 });
    rq_strided vx = { .dtype = RQ_DTYPE_F64, .data = x, .shape = shape, .stride = { 2 } }, vy = vx;
    vy.data = y, vy.stride[0] = 1;
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
    rq_fake_quantizer *q = make(&c);
    rq_err err = { 0 };
    rq_fake_quantizer_enable_fake_quant(q, false);
    ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
    assert_true(y[0] == 0.1 && y[1] == 2.0 / 3 && y[2] == 5);
    rq_fake_quantizer_enable_fake_quant(q, true);
    ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
    near(scale_of(q), 5.0 / 255, "scale");
    assert_true(y[0] == 5 * (double)scale_of(q) && y[2] == 255 * (double)scale_of(q));
    rq_fake_quantizer_enable_fake_quant(q, false);
    vy.dtype = RQ_DTYPE_F32;
    assert_int_equal(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), RQ_BAD_DTYPE);
    rq_fake_quantizer_destroy(q);
}

static void channels_of_any_axis(void **state)
{
    (void)state;
    const rq_shape shape = rq_shape_of(3, (const int64_t[]) { 2, 3, 4 });
    float x[24], y[24], z[24];
    for (int i = 0; i < 24; i++)
        x[i] = (float)((i / 4 % 3 + 1) * (i % 7 - 3)) / 3;
    const rq_strided vx = rq_strided_floats(x, &shape), vy = rq_strided_floats(y, &shape);
    for (int kind = 0; kind < 2; kind++)
        for (int axis = 0; axis < 3; axis++) {
            rq_fake_quantizer_cfg c =
                rq_fake_quantizer_defaults(kind ? RQ_FAKE_QUANTIZER_FUSED : RQ_FAKE_QUANTIZER_STANDARD);
            c.observer.type = s8;
            c.observer.scheme = RQ_QSCHEME_PER_CHANNEL_SYMMETRIC;
            c.observer.axis = axis;
            c.compat = kind;
            rq_fake_quantizer *q = make(&c);
            assert_int_equal(rq_fake_quantizer_channels(q), 0);
            assert_null(rq_fake_quantizer_scale(q));
            rq_err err = { 0 };
            ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
            assert_int_equal(rq_fake_quantizer_channels(q), shape.dim[axis]);
            /* each channel on its own gives the same */
            for (int k = 0; k < shape.dim[axis]; k++) {
                rq_fake_quantizer_cfg one = c;
                one.observer.axis = RQ_PER_TENSOR;
                one.observer.scheme = RQ_QSCHEME_PER_TENSOR_SYMMETRIC;
                rq_fake_quantizer *p = make(&one);
                const rq_strided part = rq_strided_slice(&vx, axis, k, 1, 1);
                rq_strided to = rq_strided_floats(z, &shape);
                to = rq_strided_slice(&to, axis, k, 1, 1);
                ok(rq_fake_quantizer_forward(p, NULL, &to, &part, &err), &err);
                assert_true(scale_of(p) == rq_fake_quantizer_scale(q)[k]);
                rq_fake_quantizer_destroy(p);
            }
            assert_memory_equal(y, z, sizeof y);
            rq_fake_quantizer_destroy(q);
        }
    /* embeddings: real zero points */
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
    c.observer.scheme = RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS;
    c.observer.axis = 1;
    rq_fake_quantizer *q = make(&c);
    rq_err err = { 0 };
    ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
    for (int k = 0; k < 3; k++) {
        const float s = rq_fake_quantizer_scale(q)[k], zero = rq_fake_quantizer_zero_point(q)[k];
        near(s, 2.0 * (k + 1) / 255, "scale");
        near(zero, (k + 1) / (double)s, "zero point");
    }
    for (int i = 0; i < 24; i++)
        assert_true(fabsf(y[i] - x[i]) < 0.013f);
    float zf[3];
    rq_qparams p;
    ok(rq_fake_quantizer_qparams(q, &p, zf, &err), &err);
    assert_true(zf[1] == rq_fake_quantizer_zero_point(q)[1] && p.scale[2] == rq_fake_quantizer_scale(q)[2]);
    rq_qparams_release(&p);
    rq_fake_quantizer_destroy(q);
}

/* ---- learnable ---- */

/* Does a step of training move the scale, and the zero point? */
static void gradients(rq_fake_quantizer *q, bool *scale, bool *zero_point)
{
    float x[] = { -9, 0.3f, 9, 50 }, dy[] = { 1, 1, 1, 1 }, dx[4];
    const rq_strided vx = rq_strided_vector(x, 4), vdy = rq_strided_vector(dy, 4), vdx = rq_strided_vector(dx, 4);
    rq_err err = { 0 };
    rq_fake_quantizer_zero_grad(q);
    ok(rq_fake_quantizer_backward(q, NULL, &vdx, &vdy, &vx, &err), &err);
    *scale = rq_fake_quantizer_dscale(q)[0] != 0;
    *zero_point = rq_fake_quantizer_dzero_point(q)[0] != 0;
}

/* The table of docs/torch-facts.md 2.7. */
static void phases(void **state)
{
    (void)state;
    for (int rule = 0; rule < 2; rule++)
        for (int compat = 0; compat < 2; compat++) {
            rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_LEARNABLE);
            c.observer.kind = RQ_OBSERVER_MINMAX;
            c.rule = (rq_learned_rule)rule;
            c.compat = compat;
            rq_fake_quantizer *q = make(&c);
            rq_err err = { 0 };
            bool s, z;
            /* as created */
            assert_true(rq_fake_quantizer_observer_enabled(q) && rq_fake_quantizer_fake_quant_enabled(q));
            assert_true(rq_fake_quantizer_trains_scale(q) == compat &&
                        rq_fake_quantizer_trains_zero_point(q) == compat);
            feed_ramp(q, -1, 3);
            const float first = scale_of(q);
            near(first, 4.0 / 255, "scale");
            assert_true(zero_of(q) == 64);
            gradients(q, &s, &z);
            assert_true(s == compat && z == compat);
            /* static observation: sees, leaves the parameters (compat: follows), no fake quantization */
            ok(rq_fake_quantizer_enable_static_observation(q, &err), &err);
            assert_true(rq_fake_quantizer_observer_enabled(q) && !rq_fake_quantizer_fake_quant_enabled(q));
            assert_true(rq_fake_quantizer_trains_scale(q) == (compat && rule));
            float x[] = { -2, 6 }, y[2];
            assert_int_equal(feed(q, x, y, 2), RQ_OK);
            assert_memory_equal(y, x, sizeof x);
            near(scale_of(q), compat ? 8.0 / 255 : first, "scale while watching");
            /* static estimate follows */
            ok(rq_fake_quantizer_enable_static_estimate(q, &err), &err);
            assert_true(rq_fake_quantizer_observer_enabled(q) && rq_fake_quantizer_fake_quant_enabled(q));
            feed_ramp(q, 0, 1);
            near(scale_of(q), 8.0 / 255, "scale");
            gradients(q, &s, &z);
            assert_true(s == (compat && rule) && z == s);
            /* learning */
            ok(rq_fake_quantizer_enable_param_learning(q, &err), &err);
            assert_true(!rq_fake_quantizer_observer_enabled(q) && rq_fake_quantizer_fake_quant_enabled(q));
            assert_true(rq_fake_quantizer_trains_scale(q) && rq_fake_quantizer_trains_zero_point(q));
            gradients(q, &s, &z);
            assert_true(s && z);
            rq_fake_quantizer_scale(q)[0] = 0.125f;
            rq_fake_quantizer_zero_point(q)[0] = 3.7f;
            feed_ramp(q, -100, 100); /* does not move them; LSQ rounds in place */
            assert_true(scale_of(q) == 0.125f && zero_of(q) == (rule ? 4 : 3.7f));
            float out;
            int zero;
            exported(q, &out, &zero);
            assert_true(out == 0.125f && zero == 4);
            rq_fake_quantizer_scale(q)[0] = -1; /* a step too far */
            feed_ramp(q, -1, 1);
            assert_true(scale_of(q) == FLT_EPSILON);
            /* the observer switched on again overwrites what was learned */
            rq_fake_quantizer_enable_observer(q, true);
            feed_ramp(q, 0, 1);
            near(scale_of(q), 8.0 / 255, "scale");
            /* off without learning: frozen, but for the originals */
            ok(rq_fake_quantizer_enable_static_estimate(q, &err), &err);
            rq_fake_quantizer_enable_observer(q, false);
            assert_true(rq_fake_quantizer_trains_scale(q) == (compat && rule));
            rq_fake_quantizer_destroy(q);
        }
    /* watched first, then learned: starts from what was seen */
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_LEARNABLE);
    rq_fake_quantizer *q = make(&c);
    rq_err err = { 0 };
    ok(rq_fake_quantizer_enable_static_observation(q, &err), &err);
    feed_ramp(q, -1, 3);
    assert_true(scale_of(q) == 1);
    ok(rq_fake_quantizer_enable_param_learning(q, &err), &err);
    near(scale_of(q), 4.0 / 255, "scale");
    rq_fake_quantizer_destroy(q);
    /* other kinds have none */
    c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
    q = make(&c);
    assert_int_equal(rq_fake_quantizer_enable_static_estimate(q, NULL), RQ_BAD_ARG);
    assert_int_equal(rq_fake_quantizer_enable_static_observation(q, NULL), RQ_BAD_ARG);
    assert_int_equal(rq_fake_quantizer_enable_param_learning(q, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "FakeQuantize has no phases"));
    assert_false(rq_fake_quantizer_trains_scale(q));
    rq_fake_quantizer_destroy(q);
}

/* Unsigned symmetric: the middle code, by each way of counting. */
static void where_symmetric_zero_lies(void **state)
{
    (void)state;
    static const struct {
        rq_qtype type;
        bool custom;
        float torch, lsq, ours;
    } want[] = {
        { { RQ_DTYPE_U8, 0, 255 }, false, 0, 128, 128 }, { { RQ_DTYPE_U8, 0, 255 }, true, 0, 127, 128 },
        { { RQ_DTYPE_U8, 0, 15 }, true, 0, 7, 8 },       { { RQ_DTYPE_S8, -128, 127 }, false, 0, 0, 0 },
        { { RQ_DTYPE_S8, -8, 7 }, true, 0, 0, 0 },
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        for (int rule = 0; rule < 2; rule++)
            for (int compat = 0; compat < 2; compat++) {
                rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_LEARNABLE);
                c.observer.type = want[i].type;
                c.observer.custom_range = want[i].custom;
                c.observer.scheme = RQ_QSCHEME_PER_TENSOR_SYMMETRIC;
                c.rule = (rq_learned_rule)rule;
                c.compat = compat;
                rq_fake_quantizer *q = make(&c);
                feed_ramp(q, -1, 1);
                const float zero = !compat ? want[i].ours : rule ? want[i].lsq : want[i].torch;
                float s;
                int z;
                exported(q, &s, &z);
                if (zero_of(q) != zero || (float)z != zero)
                    fail_msg("case %zu rule %d compat %d: zero point %g, exported %d, expected %g", i, rule, compat,
                             zero_of(q), z, zero);
                rq_fake_quantizer_destroy(q);
            }
}

/* Gradients add up, are scaled, and take training downhill. */
static void learning(void **state)
{
    (void)state;
    enum { N = 256 };
    float x[N], y[N], dy[N], dx[N];
    rq_rng rng;
    rq_rng_seed(&rng, 3);
    for (int i = 0; i < N; i++)
        x[i] = 2 * rq_rng_f32(&rng) - 0.5f;
    const rq_strided vx = rq_strided_vector(x, N), vy = rq_strided_vector(y, N), vdy = rq_strided_vector(dy, N),
                     vdx = rq_strided_vector(dx, N);
    for (int rule = 0; rule < 2; rule++) {
        rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_LEARNABLE);
        c.observer.type = (rq_qtype) { RQ_DTYPE_U8, 0, 15 };
        c.observer.custom_range = true;
        c.rule = (rq_learned_rule)rule;
        c.use_grad_scaling = true;
        c.scale = 0.05f; /* far too small */
        c.zero_point = 2;
        rq_fake_quantizer *q = make(&c);
        rq_err err = { 0 };
        ok(rq_fake_quantizer_enable_param_learning(q, &err), &err);
        double first = 0, last = 0;
        for (int step = 0; step < 200; step++) {
            ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
            double loss = 0;
            for (int i = 0; i < N; i++) {
                dy[i] = y[i] - x[i];
                loss += 0.5 * dy[i] * dy[i];
            }
            first = step ? first : loss;
            last = loss;
            rq_fake_quantizer_zero_grad(q);
            ok(rq_fake_quantizer_backward(q, NULL, &vdx, &vdy, &vx, &err), &err);
            const float once = rq_fake_quantizer_dscale(q)[0];
            if (!step) { /* twice is twice; and the factor is 1 / sqrt(N hi) */
                ok(rq_fake_quantizer_backward(q, NULL, &vdx, &vdy, &vx, &err), &err);
                assert_true(rq_fake_quantizer_dscale(q)[0] == 2 * once);
                float plain;
                const float s = scale_of(q), z = zero_of(q);
                const rq_learned l = { c.observer.type, c.rule, RQ_PER_TENSOR, 1, &s, &z, 1, false };
                ok(rq_learned_quantize_backward(NULL, NULL, &plain, NULL, &vdy, &vx, &l, &err), &err);
                near(once, plain / sqrt(N * 15.0), "scaled gradient");
            }
            rq_fake_quantizer_scale(q)[0] -= 0.01f * once;
        }
        if (!(last < first / 10))
            fail_msg("rule %d: from %g to %g", rule, first, last);
        rq_fake_quantizer_destroy(q);
    }
}

/* ---- what Core ML Tools' tests ask of its learnable fake-quantizer, with EMA inside, over [3, 4, 6, 6] ---- */

static bool next_setting(int i, rq_fake_quantizer_cfg *c)
{
    if (i >= 16)
        return false;
    const bool is_signed = i & 1, reduce = i & 2, per_channel = i & 4, symmetric = i & 8;
    *c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_LEARNABLE);
    c->rule = RQ_LEARNED_LSQ;
    c->observer.kind = RQ_OBSERVER_EMA;
    c->observer.type = rq_qtype_of(is_signed ? RQ_DTYPE_S8 : RQ_DTYPE_U8);
    c->observer.reduce_range = reduce;
    c->observer.axis = per_channel ? 0 : RQ_PER_TENSOR;
    c->observer.scheme = per_channel ? (symmetric ? RQ_QSCHEME_PER_CHANNEL_SYMMETRIC : RQ_QSCHEME_PER_CHANNEL_AFFINE)
                                     : (symmetric ? RQ_QSCHEME_PER_TENSOR_SYMMETRIC : RQ_QSCHEME_PER_TENSOR_AFFINE);
    return true;
}

enum { COUNT = 3 * 4 * 6 * 6 };

static rq_strided tensor_of(float *x)
{
    const rq_shape s = rq_shape_of(4, (const int64_t[]) { 3, 4, 6, 6 });
    return rq_strided_floats(x, &s);
}

static void random_numbers(float *x, uint64_t seed)
{
    rq_rng rng;
    rq_rng_seed(&rng, seed);
    for (int i = 0; i < COUNT; i++)
        x[i] = 4 * rq_rng_f32(&rng) - 2;
}

/* C1, C2: what was asked for is there, and channels are as many as the axis has. */
static void c1_c2_settings_are_kept(void **state)
{
    (void)state;
    rq_fake_quantizer_cfg c;
    for (int i = 0; next_setting(i, &c); i++) {
        rq_fake_quantizer *q = make(&c);
        const rq_observer_cfg *o = rq_observer_cfg_of(rq_fake_quantizer_observer(q));
        assert_true(o->type.dtype == c.observer.type.dtype && o->scheme == c.observer.scheme &&
                    o->reduce_range == c.observer.reduce_range && o->axis == c.observer.axis);
        const rq_qtype reduced = rq_qtype_reduced(&c.observer.type), t = rq_fake_quantizer_type(q);
        assert_true(t.hi == (c.observer.reduce_range ? reduced.hi : c.observer.type.hi));
        const bool per_channel = c.observer.axis == 0;
        assert_int_equal(rq_fake_quantizer_channels(q), per_channel ? 0 : 1);
        float x[COUNT], y[COUNT];
        random_numbers(x, 1);
        const rq_strided vx = tensor_of(x), vy = tensor_of(y);
        rq_err err = { 0 };
        ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
        assert_int_equal(rq_fake_quantizer_channels(q), per_channel ? 3 : 1);
        rq_fake_quantizer_destroy(q);
        if (per_channel) { /* or as many as were said beforehand */
            c.channels = 3;
            q = make(&c);
            assert_int_equal(rq_fake_quantizer_channels(q), 3);
            assert_true(rq_fake_quantizer_scale(q)[2] == 1 && rq_fake_quantizer_zero_point(q)[2] == 0);
            rq_fake_quantizer_destroy(q);
        }
    }
}

/* C3: nothing on, then watching, quantizing, both. */
static void c3_each_combination_of_switches(void **state)
{
    (void)state;
    rq_fake_quantizer_cfg c;
    for (int i = 0; next_setting(i, &c); i++) {
        c.channels = c.observer.axis == 0 ? 3 : 0;
        rq_fake_quantizer *q = make(&c);
        float x[COUNT], y[COUNT];
        rq_err err = { 0 };
        random_numbers(x, 2);
        const rq_strided vx = tensor_of(x), vy = tensor_of(y);
        rq_fake_quantizer_enable_observer(q, false);
        rq_fake_quantizer_enable_fake_quant(q, false);
        ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
        assert_memory_equal(x, y, sizeof x);
        const int n = rq_fake_quantizer_channels(q);
        for (int k = 0; k < n; k++)
            assert_true(rq_fake_quantizer_scale(q)[k] == 1 && rq_fake_quantizer_zero_point(q)[k] == 0);
        rq_fake_quantizer_enable_observer(q, true);
        ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
        assert_memory_equal(x, y, sizeof x);
        float scale[3], zero[3];
        memcpy(scale, rq_fake_quantizer_scale(q), (size_t)n * sizeof *scale);
        for (int k = 0; k < n; k++)
            assert_true(scale[k] < 0.1f && scale[k] > 0);
        rq_fake_quantizer_enable_observer(q, false);
        rq_fake_quantizer_enable_fake_quant(q, true);
        ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
        assert_memory_equal(scale, rq_fake_quantizer_scale(q), (size_t)n * sizeof *scale);
        memcpy(zero, rq_fake_quantizer_zero_point(q), (size_t)n * sizeof *zero);
        for (int k = 0; k < COUNT; k++) {
            const float s = scale[n == 1 ? 0 : k / (COUNT / 3)];
            assert_true(fabsf(y[k] - x[k]) <= 0.51f * s || fabsf(x[k]) > 1.97f);
        }
        rq_fake_quantizer_enable_observer(q, true);
        random_numbers(x, 3);
        for (int k = 0; k < COUNT; k++)
            x[k] *= 2;
        ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
        assert_true(rq_fake_quantizer_scale(q)[0] > scale[0]);
        rq_fake_quantizer_destroy(q);
    }
}

/* Same names, same numbers. */
static void same_states(const rq_state *a, const rq_state *b)
{
    assert_int_equal(rq_state_count(a), rq_state_count(b));
    for (int i = 0; i < rq_state_count(a); i++) {
        assert_string_equal(rq_state_name(a, i), rq_state_name(b, i));
        const rq_tensor *x = rq_state_tensor(a, i), *y = rq_state_tensor(b, i);
        assert_true(x->dtype == y->dtype && rq_shape_equal(&x->shape, &y->shape));
        assert_memory_equal(x->data, y->data, x->bytes);
    }
}

/* C4, for every kind. */
static void c4_states_go_around(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        rq_fake_quantizer_cfg c;
        if (!next_setting(i, &c)) {
            c = rq_fake_quantizer_defaults(i == 16   ? RQ_FAKE_QUANTIZER_STANDARD
                                           : i == 17 ? RQ_FAKE_QUANTIZER_FUSED
                                           : i == 18 ? RQ_FAKE_QUANTIZER_FIXED
                                                     : RQ_FAKE_QUANTIZER_LEARNABLE);
            if (i == 16) {
                c.observer.scheme = RQ_QSCHEME_PER_CHANNEL_AFFINE;
                c.observer.axis = 1;
            }
        }
        for (int observed = 0; observed < 2; observed++) {
            rq_fake_quantizer *q = make(&c), *p = make(&c);
            float x[COUNT], y[COUNT], z[COUNT];
            rq_err err = { 0 };
            random_numbers(x, 4);
            const rq_strided vx = tensor_of(x), vy = tensor_of(y), vz = tensor_of(z);
            if (observed)
                ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
            rq_fake_quantizer_enable_observer(q, !observed);
            rq_state *a, *b;
            assert_int_equal(rq_state_create(&a), RQ_OK);
            assert_int_equal(rq_state_create(&b), RQ_OK);
            assert_int_equal(rq_fake_quantizer_save(q, a, "layer.weight_fake_quant."), RQ_OK);
            assert_non_null(rq_state_find(a, "layer.weight_fake_quant.fake_quant_enabled"));
            assert_non_null(rq_state_find(a, "layer.weight_fake_quant.zero_point"));
            ok(rq_fake_quantizer_load(p, a, "layer.weight_fake_quant.", &err), &err);
            assert_int_equal(rq_fake_quantizer_save(p, b, "layer.weight_fake_quant."), RQ_OK);
            same_states(a, b);
            assert_int_equal(rq_fake_quantizer_channels(p), rq_fake_quantizer_channels(q));
            assert_true(rq_fake_quantizer_trains_zero_point(p) == rq_fake_quantizer_trains_zero_point(q) ||
                        c.rule == RQ_LEARNED_LSQ); /* off is learning there */
            assert_true(!rq_qscheme_is_symmetric(c.observer.scheme) || !rq_fake_quantizer_trains_zero_point(p));
            if (observed) {
                ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
                ok(rq_fake_quantizer_forward(p, NULL, &vz, &vx, &err), &err);
                assert_memory_equal(y, z, sizeof y);
            } else if (c.kind != RQ_FAKE_QUANTIZER_FIXED) { /* still has seen nothing */
                rq_fake_quantizer_enable_observer(p, false);
                assert_int_equal(rq_fake_quantizer_forward(p, NULL, &vz, &vx, NULL), RQ_BAD_DATA);
            }
            rq_state_destroy(a);
            rq_state_destroy(b);
            rq_fake_quantizer_destroy(q);
            rq_fake_quantizer_destroy(p);
        }
    }
}

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

/* Names and types of PyTorch's state dicts. */
static void states_have_the_names_of_pytorch(void **state)
{
    (void)state;
    static const struct {
        rq_fake_quantizer_kind kind;
        rq_learned_rule rule;
        rq_dtype flags, zero;
        const char *names; /* in order */
    } want[] = {
        { RQ_FAKE_QUANTIZER_STANDARD, 0, RQ_DTYPE_U8, RQ_DTYPE_S32,
          "fake_quant_enabled observer_enabled scale zero_point activation_post_process.eps "
          "activation_post_process.min_val "
          "activation_post_process.max_val " },
        { RQ_FAKE_QUANTIZER_FUSED, 0, RQ_DTYPE_S64, RQ_DTYPE_S32,
          "fake_quant_enabled observer_enabled scale zero_point activation_post_process.eps "
          "activation_post_process.min_val "
          "activation_post_process.max_val " },
        { RQ_FAKE_QUANTIZER_LEARNABLE, RQ_LEARNED_TORCH, RQ_DTYPE_U8, RQ_DTYPE_F32,
          "fake_quant_enabled observer_enabled scale zero_point static_enabled learning_enabled eps "
          "activation_post_process.eps activation_post_process.min_val activation_post_process.max_val " },
        { RQ_FAKE_QUANTIZER_LEARNABLE, RQ_LEARNED_LSQ, RQ_DTYPE_U8, RQ_DTYPE_F32,
          "fake_quant_enabled observer_enabled scale zero_point activation_post_process.eps "
          "activation_post_process.min_val "
          "activation_post_process.max_val " },
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(want[i].kind);
        c.rule = want[i].rule;
        rq_fake_quantizer *q = make(&c);
        rq_state *s;
        assert_int_equal(rq_state_create(&s), RQ_OK);
        assert_int_equal(rq_fake_quantizer_save(q, s, NULL), RQ_OK);
        char names[1024] = "";
        for (int k = 0; k < rq_state_count(s); k++) {
            strcat(names, rq_state_name(s, k));
            strcat(names, " ");
        }
        assert_string_equal(names, want[i].names);
        assert_int_equal(rq_state_find(s, "observer_enabled")->dtype, want[i].flags);
        assert_int_equal(rq_state_find(s, "zero_point")->dtype, want[i].zero);
        rq_state_destroy(s);
        rq_fake_quantizer_destroy(q);
    }
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

/* ---- of a program ---- */

typedef struct halves {
    int seen, backs;
    float scale, zero, dscale, dzero;
} halves;

static void *halves_create(void *user, const rq_fake_quantizer_cfg *cfg)
{
    (void)cfg;
    halves *h = user ? calloc(1, sizeof *h) : NULL;
    if (h)
        h->scale = 0.5f;
    return h;
}
static rq_status halves_observe(void *state, rq_exec *e, const rq_strided *x, rq_err *err)
{
    (void)e, (void)x, (void)err;
    ((halves *)state)->seen++;
    return RQ_OK;
}
static rq_status halves_forward(void *state, rq_exec *e, const rq_strided *y, const rq_strided *x, rq_err *err)
{
    (void)e;
    if (x->shape.rank != 1)
        return rq_fail(err, RQ_BAD_SHAPE, "only rows have halves");
    for (int64_t i = 0; i < x->shape.dim[0]; i++)
        ((float *)y->data)[i] =
            rintf(((const float *)x->data)[i] / ((halves *)state)->scale) * ((halves *)state)->scale;
    return RQ_OK;
}
static rq_status halves_backward(void *state, rq_exec *e, const rq_strided *dx, const rq_strided *dy,
                                 const rq_strided *x, rq_err *err)
{
    (void)e, (void)x, (void)err;
    ((halves *)state)->backs++;
    ((halves *)state)->dscale += 1;
    memcpy(dx->data, dy->data, (size_t)dy->shape.dim[0] * sizeof(float));
    return RQ_OK;
}
static rq_status halves_qparams(void *state, rq_qparams *out, float *zero_point_f, rq_err *err)
{
    (void)zero_point_f, (void)err;
    return rq_qparams_init_one(out, RQ_DTYPE_S8, ((halves *)state)->scale, 0);
}
static void halves_params(void *state, int *n, float **s, float **z, float **ds, float **dz)
{
    halves *h = state;
    *n = 1, *s = &h->scale, *z = &h->zero, *ds = &h->dscale, *dz = &h->dzero;
}
static void halves_reset(void *state)
{
    *(halves *)state = (halves) { .scale = 0.5f };
}
static rq_status halves_save(void *state, rq_state *s, const char *prefix)
{
    return rq_state_set_floats(s, prefix, "scale", &((halves *)state)->scale, 1);
}
static rq_status halves_load(void *state, const rq_state *s, const char *prefix, rq_err *err)
{
    const rq_tensor *t;
    RQ_TRY(rq_state_get(s, prefix, "scale", RQ_DTYPE_F32, 1, &t, err));
    ((halves *)state)->scale = t->f32[0];
    return RQ_OK;
}

static void one_of_the_program(void **state)
{
    (void)state;
    int user = 1;
    rq_own_fake_quantizer own = { .name = "halves",
                                  .create = halves_create,
                                  .destroy = free,
                                  .observe = halves_observe,
                                  .forward = halves_forward,
                                  .backward = halves_backward,
                                  .qparams = halves_qparams,
                                  .params = halves_params,
                                  .reset = halves_reset,
                                  .save = halves_save,
                                  .load = halves_load,
                                  .user = &user };
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_OWN);
    rq_fake_quantizer *q = NULL;
    rq_err err = { 0 };
    assert_int_equal(rq_fake_quantizer_create(&q, &c, &err), RQ_BAD_ARG);
    c.own = &own;
    q = make(&c);
    float x[] = { 0.7f, -1.1f }, y[2], s;
    int z;
    assert_int_equal(feed(q, x, y, 2), RQ_OK);
    assert_true(y[0] == 0.5f && y[1] == -1);
    exported(q, &s, &z);
    assert_true(s == 0.5f && rq_fake_quantizer_channels(q) == 1);
    const rq_strided vx = rq_strided_vector(x, 2), vy = rq_strided_vector(y, 2);
    ok(rq_fake_quantizer_backward(q, NULL, &vy, &vx, &vx, &err), &err);
    assert_true(y[0] == x[0] && rq_fake_quantizer_dscale(q)[0] == 1);
    rq_fake_quantizer_zero_grad(q);
    assert_true(rq_fake_quantizer_dscale(q)[0] == 0);
    rq_fake_quantizer_scale(q)[0] = 0.25f;
    rq_fake_quantizer_enable_observer(q, false);
    rq_state *st;
    assert_int_equal(rq_state_create(&st), RQ_OK);
    assert_int_equal(rq_fake_quantizer_save(q, st, "a."), RQ_OK);
    rq_fake_quantizer *p = make(&c);
    ok(rq_fake_quantizer_load(p, st, "a.", &err), &err);
    assert_true(scale_of(p) == 0.25f && !rq_fake_quantizer_observer_enabled(p));
    rq_fake_quantizer_enable_fake_quant(p, false);
    assert_int_equal(feed(p, x, y, 2), RQ_OK);
    assert_memory_equal(x, y, sizeof x);
    rq_fake_quantizer_reset(p);
    assert_true(scale_of(p) == 0.5f && rq_fake_quantizer_observer_enabled(p));
    rq_fake_quantizer_enable_fake_quant(p, false);
    rq_fake_quantizer_enable_observer(p, false);
    char text[RQ_FAKE_QUANTIZER_TEXT];
    assert_string_equal(rq_fake_quantizer_text(p, text, sizeof text),
                        "halves(fake_quant_enabled=0, observer_enabled=0)");
    rq_fake_quantizer_destroy(p);
    rq_fake_quantizer_destroy(q);
    rq_state_destroy(st);
    own.backward = NULL;
    q = make(&c);
    assert_int_equal(rq_fake_quantizer_backward(q, NULL, &vy, &vx, &vx, &err), RQ_UNSUPPORTED);
    rq_fake_quantizer_destroy(q);
    own.user = NULL;
    assert_int_equal(rq_fake_quantizer_create(&q, &c, &err), RQ_NO_MEMORY);
    own.reset = NULL;
    assert_int_equal(rq_fake_quantizer_create(&q, &c, &err), RQ_BAD_ARG);
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

/* A forward, a backward, a state: all bits, with 1 and 2 threads, plain and in vectors. */
static void same_bits_with_any_threads(void **state)
{
    (void)state;
    enum { ROWS = 6, COLS = 30000 };
    const rq_shape shape = rq_shape_of(2, (const int64_t[]) { ROWS, COLS });
    const size_t bytes = sizeof(float) * ROWS * COLS;
    float *x = malloc(bytes), *y[2], *dx[2];
    rq_rng rng;
    rq_rng_seed(&rng, 9);
    for (int i = 0; i < ROWS * COLS; i++)
        x[i] = 2 * rq_rng_f32(&rng) - 1;
    for (int i = 0; i < 2; i++)
        y[i] = malloc(bytes), dx[i] = malloc(bytes);
    for (int kind = 0; kind < 4; kind++)
        for (int axis = -1; axis < 2; axis++) {
            float ds[2] = { 0 };
            for (int threads = 0; threads < 2; threads++) {
                rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(kind == 0   ? RQ_FAKE_QUANTIZER_STANDARD
                                                                     : kind == 1 ? RQ_FAKE_QUANTIZER_FUSED
                                                                                 : RQ_FAKE_QUANTIZER_LEARNABLE);
                c.rule = kind == 3 ? RQ_LEARNED_LSQ : RQ_LEARNED_TORCH;
                c.observer.axis = axis;
                c.observer.scheme = axis < 0 ? RQ_QSCHEME_PER_TENSOR_AFFINE : RQ_QSCHEME_PER_CHANNEL_AFFINE;
                rq_fake_quantizer *q = make(&c);
                rq_exec *e = NULL;
                rq_err err = { 0 };
                if (threads)
                    ok(rq_exec_create(&e, 2, &err), &err);
                const rq_strided vx = rq_strided_floats(x, &shape), vy = rq_strided_floats(y[threads], &shape),
                                 vdx = rq_strided_floats(dx[threads], &shape);
                ok(rq_fake_quantizer_forward(q, e, &vy, &vx, &err), &err);
                if (kind >= 2)
                    ok(rq_fake_quantizer_enable_param_learning(q, &err), &err);
                ok(rq_fake_quantizer_forward(q, e, &vy, &vx, &err), &err);
                ok(rq_fake_quantizer_backward(q, e, &vdx, &vx, &vx, &err), &err);
                ds[threads] = rq_fake_quantizer_dscale(q)[0];
                assert_true(kind < 2 || ds[threads] != 0);
                rq_exec_destroy(e);
                rq_fake_quantizer_destroy(q);
            }
            assert_memory_equal(y[0], y[1], bytes);
            assert_memory_equal(dx[0], dx[1], bytes);
            assert_memory_equal(&ds[0], &ds[1], sizeof ds[0]);
        }
    free(x);
    for (int i = 0; i < 2; i++)
        free(y[i]), free(dx[i]);
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
        cmocka_unit_test(fused_activations),
        cmocka_unit_test(fused_weights_in_training_and_converted),
        cmocka_unit_test(what_is_exported_is_what_was_used),
        cmocka_unit_test(what_has_seen_nothing_does_not_quantize),
        cmocka_unit_test(ranges_switches_and_constants),
        cmocka_unit_test(other_element_types),
        cmocka_unit_test(channels_of_any_axis),
        cmocka_unit_test(phases),
        cmocka_unit_test(where_symmetric_zero_lies),
        cmocka_unit_test(learning),
        cmocka_unit_test(c1_c2_settings_are_kept),
        cmocka_unit_test(c3_each_combination_of_switches),
        cmocka_unit_test(c4_states_go_around),
        cmocka_unit_test(a_state_of_whole_numbers_is_known),
        cmocka_unit_test(states_have_the_names_of_pytorch),
        cmocka_unit_test(bad_states_change_nothing),
        cmocka_unit_test(bad_states_as_pytorch_has_them),
        cmocka_unit_test(one_of_the_program),
        cmocka_unit_test(settings_that_do_not_go_together),
        cmocka_unit_test(same_bits_with_any_threads),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
