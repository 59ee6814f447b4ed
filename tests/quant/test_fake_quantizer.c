/* Fake-quantizers: numbers that PyTorch 1.13 printed, the phases of the learnable one (docs/torch-facts.md 2.7), what Core ML Tools' own tests
 * ask of theirs (C1 to C4), names of states; the faults of the originals with and without `compat`. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "quant/fake_quantizer_help.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fused_activations),
        cmocka_unit_test(fused_weights_in_training_and_converted),
        cmocka_unit_test(what_is_exported_is_what_was_used),
        cmocka_unit_test(what_has_seen_nothing_does_not_quantize),
        cmocka_unit_test(ranges_switches_and_constants),
        cmocka_unit_test(phases),
        cmocka_unit_test(c1_c2_settings_are_kept),
        cmocka_unit_test(c3_each_combination_of_switches),
        cmocka_unit_test(c4_states_go_around),
        cmocka_unit_test(states_have_the_names_of_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
